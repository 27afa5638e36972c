"""Voice activity detection, in a stream: the Silero detector that faster-whisper contains.

A recording of any length is read in blocks. The detector's state is kept between them, so the blocks give the same
result as the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from faster_whisper.vad import get_vad_model

from whisper_processor.audio.sound import SAMPLE_RATE, Samples, Sound

CHUNK = 512
"""Samples in one step of the detector: 32 ms."""
WINDOW_SECONDS = 30
"""The length of Whisper's encoder input."""
_CONTEXT = 64
_BLOCK = 900 * CHUNK
_STARTS, _ENDS = 0.5, 0.35
"""Speech starts at the first probability and ends below the second (Silero's own hysteresis)."""
_PAUSE = round(0.16 * SAMPLE_RATE / CHUNK)
"""A span ends after this many chunks without speech."""
_PADDING = int(0.4 * SAMPLE_RATE)
_LONGEST = int(WINDOW_SECONDS * SAMPLE_RATE) // CHUNK - 2 * (_PADDING // CHUNK + 1)
"""Most chunks of a span without a pause; with padding it still fits a window."""


@dataclass(frozen=True)
class Span:
    """A stretch of speech with some of the pauses around it, in samples."""

    start: int
    end: int
    pause: int
    """The whole pause after it, whatever part of that the span holds; 0 where speech was cut."""


@dataclass(frozen=True)
class Window:
    """Spans that are transcribed together, at most WINDOW_SECONDS in all, without the long pauses between them."""

    spans: tuple[Span, ...]

    @property
    def length(self) -> int:
        return sum(span.end - span.start for span in self.spans)

    @property
    def end(self) -> int:
        return self.spans[-1].end

    def samples(self, sound: Sound) -> Samples:
        return np.concatenate([sound[span.start : span.end] for span in self.spans])

    def moments(self, start: float, end: float) -> tuple[float, float]:
        """Maps a word's start and end from the window to the recording, in seconds.

        Both lie in the span that holds the word's middle: no word extends across a pause that was left out.
        """
        middle, before = (start + end) / 2 * SAMPLE_RATE, 0
        for span in self.spans:
            length = span.end - span.start
            if middle < before + length or span is self.spans[-1]:
                break
            before += length
        first, last = span.start / SAMPLE_RATE, span.end / SAMPLE_RATE
        shift = first - before / SAMPLE_RATE
        return min(max(start + shift, first), last), min(max(end + shift, first), last)


def has_speech(sound: Sound) -> bool:
    """Whether there is any speech; reads up to the first word. Whisper invents text for silence."""
    return next(spans(sound), None) is not None


def speech_seconds(sound: Sound) -> float:
    return sum(span.end - span.start for span in spans(sound)) / SAMPLE_RATE


def windows(sound: Sound) -> Iterator[Window]:
    """The recording's speech, in windows."""
    return pack(spans(sound))


def spans(sound: Sound) -> Iterator[Span]:
    return padded(find(probabilities(sound)), len(sound))


def probabilities(sound: Sound) -> Iterator[float]:
    """The probability of speech in each chunk; the last one is padded with silence."""
    session = get_vad_model().session
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    context = np.zeros((1, _CONTEXT), np.float32)
    for start in range(0, len(sound), _BLOCK):
        block = sound[start : start + _BLOCK]
        chunks = np.pad(block, (0, -len(block) % CHUNK)).reshape(-1, CHUNK)
        inputs = np.concatenate([context, chunks[:-1, -_CONTEXT:]])
        found, hidden, cell = session.run(
            None, {"input": np.concatenate([inputs, chunks], axis=1), "h": hidden, "c": cell}
        )
        context = chunks[-1:, -_CONTEXT:]
        yield from found.ravel().tolist()


def find(chunks: Iterable[float]) -> Iterator[tuple[int, int]]:
    """The first chunk of each stretch of speech, and the one after its last.

    Speech that goes on without a pause for longer than a window is cut at its least probable chunk.
    """
    start, quiet = -1, 0
    since_start: list[float] = []
    """Probabilities of the chunks from `start`."""
    at = -1
    for at, probability in enumerate(chunks):
        if start < 0:
            if probability >= _STARTS:
                start, quiet, since_start = at, 0, [probability]
            continue
        since_start.append(probability)
        quiet = quiet + 1 if probability < _ENDS or (quiet and probability < _STARTS) else 0
        if quiet > _PAUSE:
            yield start, at + 1 - quiet
            start = -1
        elif len(since_start) >= _LONGEST:
            cut = _quietest(since_start)
            yield start, start + cut
            start, since_start = start + cut, since_start[cut:]
    if start >= 0:
        yield start, at + 1 - quiet


def _quietest(probabilities: Sequence[float]) -> int:
    """The least probable chunk of the second half; the first of several."""
    half = len(probabilities) // 2
    return half + int(np.argmin(probabilities[half:]))


def padded(stretches: Iterable[tuple[int, int]], total: int) -> Iterator[Span]:
    """Spans with up to _PADDING samples around them; spans closer than that share the pause."""
    before = None
    left = 0
    for first, last in stretches:
        start = first * CHUNK
        if before is not None:
            pause = start - before[1]
            yield Span(before[0], before[1] + min(_PADDING, pause // 2), pause)
            left = start - min(_PADDING, pause // 2)
        else:
            left = max(0, start - _PADDING)
        before = (left, min(last * CHUNK, total))
    if before is not None:
        yield Span(before[0], min(before[1] + _PADDING, total), total - before[1])


def pack(stretches: Iterable[Span]) -> Iterator[Window]:
    """Fill windows, and end each at the longest pause in its last fifth, rarely within a sentence."""
    most = WINDOW_SECONDS * SAMPLE_RATE
    held: list[Span] = []
    for span in stretches:
        while held and sum(s.end - s.start for s in held) + span.end - span.start > most:
            cut = _longest_pause(held, most * 4 // 5)
            yield Window(tuple(held[:cut]))
            held = held[cut:]
        held.append(span)
    if held:
        yield Window(tuple(held))


def _longest_pause(held: Sequence[Span], least: int) -> int:
    """How many spans to take: up to the longest pause after `least` samples, or all."""
    best, longest, length = len(held), -1, 0
    for count, span in enumerate(held, start=1):
        length += span.end - span.start
        if length >= least and span.pause >= longest:
            best, longest = count, span.pause
    return best
