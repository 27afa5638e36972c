"""The queue worker of ClassReflect Whisper: takes lessons from SQS, transcribes, writes Aurora MySQL."""
