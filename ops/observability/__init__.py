"""The state of the system: status, doctor, alarms, dashboard, cost."""
