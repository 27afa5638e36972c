"""ClassReflect Whisper's queue worker: takes lessons from SQS, transcribes them, writes to Aurora MySQL."""

from importlib.metadata import version

__version__ = version("whisper-processor")
