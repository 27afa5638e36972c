"""The machines that transcribe: one appliance or a fleet, started, stopped, held and replaced."""
