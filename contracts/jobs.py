"""The words of a job: its states, its tasks, and the engines it can ask for."""

from enum import StrEnum


class JobStatus(StrEnum):
    """`audio_jobs.status`, the backend's enumeration."""

    PENDING = "pending"
    UPLOADING = "uploading"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Task(StrEnum):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


class EngineName(StrEnum):
    FASTER_WHISPER = "faster-whisper"
    OPENVINO = "openvino"
    OPENAI_WHISPER = "openai-whisper"
