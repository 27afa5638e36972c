"""Each command line explains itself."""

from __future__ import annotations

import importlib

import pytest
from typer.testing import CliRunner


@pytest.mark.parametrize("module", ["bench", "local", "ops", "planner"])
def test_help_can_be_asked_for(module: str) -> None:
    app = importlib.import_module(f"{module}.__main__").app
    answer = CliRunner().invoke(app, ["--help"])
    assert answer.exit_code == 0, answer.output
    assert "Usage:" in answer.output
