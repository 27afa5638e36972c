"""CloudWatch metrics that one part publishes and another reads. All lie in one namespace."""

NAMESPACE = "ClassReflect/Whisper"

AUDIO_SECONDS = "AudioSeconds"
"""Length of each lesson done, from the worker."""
CRASH_LOOP = "CrashLoop"
"""1 for each worker that crashed in a loop."""
INSTANCE_RUNNING = "InstanceRunning"
"""Machines that run, from the autoscaler at each tick. One appliance's average is the share of time it ran."""
UPDATE_FAILED = "UpdateFailed"
"""1 for each release that an appliance could not install."""
UPLOAD_BYTES = "UploadBytes"
"""Mean size of the recordings whose upload made the autoscaler tick."""
