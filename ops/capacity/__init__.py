"""What transcribes: one appliance or a fleet, started, stopped, held and replaced."""
