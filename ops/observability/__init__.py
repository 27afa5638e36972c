"""How things are: status, doctor, alarms, dashboard, cost."""
