"""ministack with what it lacks. It runs in a venv of its own, and imports nothing else that must be installed."""
