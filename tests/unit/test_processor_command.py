"""The documented `python3.11 processor.py`: a plain file that finds the release beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROLE = Path("ansible/roles/processor")
PROCESSOR = ROLE / "files" / "processor.py"


def test_it_hands_over_to_the_current_releases_interpreter(tmp_path: Path) -> None:
    python = tmp_path / "current" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    (tmp_path / "processor.py").write_bytes(PROCESSOR.read_bytes())
    command = [sys.executable, "processor.py", "--check", "sample.flac"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "-m whisper_processor --check sample.flac\n"


def test_it_reads_the_environment_file_that_the_role_makes_and_runs_with_its_python() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    source = PROCESSOR.read_text()
    assert f'Path("{defaults["processor_environment_file"]}")' in source
    assert source.startswith(f"#!{defaults['processor_python']}\n")
