"""`python -m tests.chaos.worker`: the very worker of the appliance, with a planted engine in its child."""

from __future__ import annotations

import sys

from tests.chaos.planted import load_nothing, transcribe_planted
from whisper_processor.__main__ import main
from whisper_processor.transcriber import ChildTranscriber

if __name__ == "__main__":
    sys.exit(main(ChildTranscriber(run=transcribe_planted, load=load_nothing)))
