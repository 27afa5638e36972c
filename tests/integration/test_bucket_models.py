"""Models from the bucket: complete and verified, or not at all."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.jobs import EngineName
from ops.aws.connection import Connection
from ops.releases.models import publish
from ops.settings import OpsSettings
from whisper_processor.aws.storage import LessonStore
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.models import ModelError, fetch_from_bucket, installed

FAST = EngineName.FASTER_WHISPER
CONTENT = {"model.bin": b"weights " * 1000, "config.json": b"{}"}


@pytest.fixture
def aws(settings: OpsSettings) -> Connection:
    return Connection(settings)


@pytest.fixture
def bucket(aws: Connection) -> Iterator[str]:
    name = f"models-{uuid.uuid4().hex[:8]}"
    aws.s3.create_bucket(Bucket=name)
    yield name
    for found in aws.s3.list_objects_v2(Bucket=name).get("Contents", []):
        aws.s3.delete_object(Bucket=name, Key=found["Key"])
    aws.s3.delete_bucket(Bucket=name)


def put(aws: Connection, bucket: str, content: dict[str, bytes], promised: dict[str, bytes]) -> None:
    pins = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in promised.items()
    }
    for name, data in content.items():
        aws.s3.put_object(Bucket=bucket, Key=f"models/{FAST}/own/{name}", Body=data)
    manifest = json.dumps({"origin": "ours", "files": pins})
    aws.s3.put_object(Bucket=bucket, Key=f"models/{FAST}/own/verified.json", Body=manifest.encode())


def fetch(aws: Connection, bucket: str, models_dir: Path, name: str = "own") -> bool:
    return fetch_from_bucket(LessonStore(aws.s3, bucket), name, FAST, models_dir, lambda _count: None)


def test_a_model_is_fetched_whole(aws: Connection, bucket: str, tmp_path: Path) -> None:
    put(aws, bucket, CONTENT, CONTENT)
    assert fetch(aws, bucket, tmp_path)
    assert installed(tmp_path, FAST) == ["own"]
    assert {name: (tmp_path / FAST / "own" / name).read_bytes() for name in CONTENT} == CONTENT


def test_a_model_the_bucket_does_not_have_is_no_error(aws: Connection, bucket: str, tmp_path: Path) -> None:
    assert fetch(aws, bucket, tmp_path) is False


def test_a_file_with_other_bytes_is_not_installed(aws: Connection, bucket: str, tmp_path: Path) -> None:
    put(aws, bucket, CONTENT | {"model.bin": b"cut off"}, CONTENT)
    with pytest.raises(TransientError, match="sha256"):
        fetch(aws, bucket, tmp_path)
    assert installed(tmp_path, FAST) == []
    assert not list((tmp_path / FAST / "own").glob(".fetch-*"))


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "verified.json", "a/b"])
def test_a_manifest_cannot_name_files_outside_its_folder(
    name: str, aws: Connection, bucket: str, tmp_path: Path
) -> None:
    put(aws, bucket, {}, {name: b"x"})
    with pytest.raises(PermanentError, match="outside its folder"):
        fetch(aws, bucket, tmp_path)


def test_a_damaged_manifest_is_named_as_such(aws: Connection, bucket: str, tmp_path: Path) -> None:
    aws.s3.put_object(Bucket=bucket, Key=f"models/{FAST}/own/verified.json", Body=b"{}")
    with pytest.raises(PermanentError, match="damaged"):
        fetch(aws, bucket, tmp_path)


def test_what_is_published_can_be_fetched(
    aws: Connection, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(aws, bucket, CONTENT, CONTENT)
    fetch(aws, bucket, tmp_path / "here")
    monkeypatch.setattr(Connection, "foundation", property(lambda _self: {"BucketName": bucket}))
    (tmp_path / "here" / FAST / "own").rename(tmp_path / "here" / FAST / "renamed")
    publish(aws, "renamed", FAST, tmp_path / "here", lambda _text: None)
    assert fetch(aws, bucket, tmp_path / "there", "renamed")
    assert installed(tmp_path / "there", FAST) == ["renamed"]


def test_a_model_that_is_not_here_cannot_be_published(aws: Connection, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not installed"):
        publish(aws, "base", FAST, tmp_path, lambda _text: None)
