"""The worker's wheel holds the sources as they are now, and the contracts."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from ops.releases.wheelhouse import PROCESSOR, build_processor


def test_what_an_earlier_build_left_is_not_in_the_wheel(tmp_path: Path) -> None:
    source = tmp_path / "processor"
    shutil.copytree(PROCESSOR, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    left = source / "build" / "lib" / "whisper_processor" / "moved_since.py"
    left.parent.mkdir(parents=True)
    left.write_text("")
    names = zipfile.ZipFile(build_processor(tmp_path / "wheels", source).path).namelist()
    assert "whisper_processor/moved_since.py" not in names
    assert {"whisper_processor/__main__.py", "contracts/tags.py"} <= set(names)
