"""The queue worker of ClassReflect Whisper: takes lessons from SQS, transcribes, writes Aurora MySQL."""

from importlib.metadata import version

__version__ = version("whisper-processor")
