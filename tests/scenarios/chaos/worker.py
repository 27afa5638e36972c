"""`python -m tests.scenarios.chaos.worker`: the worker of the appliance, with a planted engine in its child."""

from __future__ import annotations

import sys

from tests.scenarios.chaos.planted import load_nothing, transcribe_planted
from whisper_processor.composition import run
from whisper_processor.engines.child import ChildTranscriber

if __name__ == "__main__":
    sys.exit(run(ChildTranscriber(run=transcribe_planted, load=load_nothing)))
