"""The image that `make image` bakes: what `make test-image` checks, as part of `make test`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from local.images import image_tests
from local.images.current import Baked
from ops.settings import OpsSettings

pytestmark = [pytest.mark.appliance, pytest.mark.timeout(1800)]


def test_a_second_run_of_the_roles_changes_nothing(image: Baked, tmp_path: Path) -> None:
    image_tests.check_second_run(OpsSettings(), image, tmp_path / "second", print)


def test_a_booted_copy_passes_the_appliances_tests(image: Baked, show: Callable[[str], None]) -> None:
    with TemporaryDirectory(prefix="whisper-image-") as folder:  # short: SSH's control socket lies in it
        image_tests.check_booted(OpsSettings(), image, Path(folder), print)
    show(f"image {image.image_id}: baked in {image.seconds:.0f} s, as it should be")
