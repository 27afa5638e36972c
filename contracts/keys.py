"""Keys in the bucket: where lessons, transcripts, models and releases lie."""

from __future__ import annotations

import re
from dataclasses import dataclass

AUDIO_PREFIX = "audio-files/"
MODELS_PREFIX = "models/"
TRANSCRIPTS_PREFIX = "transcripts/"
RELEASES_PREFIX = "scripts/releases/"
WHEELHOUSES_PREFIX = "scripts/wheelhouses/"
AUTOSCALER_PREFIX = "scripts/autoscaler-"
DEPLOY_LOCK_KEY = "scripts/deploy.lock"

_AUDIO_KEY = re.compile(rf"^{AUDIO_PREFIX}(\d{{1,9}})/(\d{{1,9}})/.+$", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Owner:
    """Whose lesson a key names."""

    school_id: int
    teacher_id: int


def owner_of(s3_key: str) -> Owner | None:
    """School and teacher of `audio-files/<school_id>/<teacher_id>/<name>`; None for any other key."""
    match = _AUDIO_KEY.match(s3_key)
    return Owner(school_id=int(match[1]), teacher_id=int(match[2])) if match else None


def audio_key(owner: Owner, job_id: str, name: str) -> str:
    """The key the backend gives an upload. `name` is for people; the job's id makes the key unique."""
    return f"{AUDIO_PREFIX}{owner.school_id}/{owner.teacher_id}/{job_id}-{name}"


def transcript_key(owner: Owner, job_id: str, suffix: str) -> str:
    """The key of an output, e.g. `transcripts/1/2/<job>.vtt`."""
    safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", job_id)
    return f"{TRANSCRIPTS_PREFIX}{owner.school_id}/{owner.teacher_id}/{safe}.{suffix}"
