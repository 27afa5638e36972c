"""ministack with what it lacks, in a venv of its own: it imports nothing but ministack and `local.channel`."""
