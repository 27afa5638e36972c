"""What faster-whisper and OpenVINO share: speech in windows, decoded in small batches, one batch per lane.

Voice activity detection and cutting run while the lanes work, a bounded number of windows ahead. A recording of
hours therefore takes no more memory than one of minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from math import ceil
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import TranscriptionOptions, get_compression_ratio, get_suppressed_tokens

from whisper_processor.audio.sound import SAMPLE_RATE, Samples, Sound
from whisper_processor.audio.speech import WINDOW_SECONDS, Window, windows
from whisper_processor.engines.base import (
    Options,
    ReportProgress,
    Segment,
    Transcription,
    Word,
    refuse_unknown_language,
)
from whisper_processor.engines.cores import Lanes
from whisper_processor.engines.cues import split

_FRAMES = WINDOW_SECONDS * 100
# OpenAI's own thresholds (whisper.transcribe): a window that fails them is decoded again, with more effort.
_MOST_REPETITIVE = 2.4
_LEAST_LOG_PROBABILITY = -1.0
_NO_SPEECH = 0.6
_TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
_EFFORT_BEAMS = 5
_LANGUAGE_WINDOWS = 3
_LANGUAGE_SURE = 0.5


class Windowed:
    """CTranslate2's int8 encoder and decoder."""

    def __init__(self, model: Path, lanes: Lanes) -> None:
        self._lanes = lanes
        self._model = WhisperModel(
            str(model),
            device="cpu",
            compute_type="int8",
            cpu_threads=lanes.threads,
            num_workers=lanes.count,
            local_files_only=True,
        )
        # The same threads for every recording, so that their thread-local state is made only once.
        self._threads = ThreadPoolExecutor(lanes.count, thread_name_prefix="lane")
        # Decoding again samples at random; the same recording must give the same text.
        ctranslate2.set_random_seed(1)

    def transcribe(self, sound: Sound, options: Options, report: ReportProgress) -> Transcription:
        refuse_unknown_language(options.language, self._model.supported_languages)
        stream = windows(sound)
        first = list(islice(stream, _LANGUAGE_WINDOWS))
        if not first:
            return Transcription(language=None, segments=())
        encoded: dict[Window, Samples] = {}
        language = options.language or self._language(sound, first, encoded)
        tokenizer = Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task=options.task.value, language=language
        )
        decoding = _decoding(tokenizer, options)

        def decode(batch: Sequence[Window]) -> list[Segment | None]:
            return self._decode(batch, self._encode(sound, batch, encoded), tokenizer, decoding)

        done: list[Segment] = []
        size = batch_size(len(sound), self._lanes.count, options.batch_size)
        for window, segment in self._in_order(chain(first, stream), decode, size):
            if segment is not None:
                done.extend(split(segment))
            report(min(1.0, window.end / len(sound)))
        if not options.word_timestamps:
            done = [segment.model_copy(update={"words": ()}) for segment in done]
        return Transcription(language=language if done else None, segments=tuple(done))

    def _in_order(
        self, stream: Iterable[Window], decode: Callable[[Sequence[Window]], list[Segment | None]], size: int
    ) -> Iterator[tuple[Window, Segment | None]]:
        """Each window with its segment, in order. Every lane has a batch, and one more batch waits."""
        source = iter(stream)
        under_way: deque[tuple[Sequence[Window], Future[list[Segment | None]]]] = deque()
        try:
            while True:
                batch = list(islice(source, size))
                if batch:
                    under_way.append((batch, self._threads.submit(decode, batch)))
                if len(under_way) > self._lanes.count or not batch:
                    if not under_way:
                        return
                    finished, future = under_way.popleft()
                    yield from zip(finished, future.result(), strict=True)
        finally:
            for _, future in under_way:
                future.cancel()
            wait([future for _, future in under_way])

    def _decode(
        self, batch: Sequence[Window], encoded: Samples, tokenizer: Tokenizer, decoding: TranscriptionOptions
    ) -> list[Segment | None]:
        """A segment for each window; None where it turns out to hold no speech."""
        prompt = self._model.get_prompt(tokenizer, [], without_timestamps=True)
        results = self._model.model.generate(
            ctranslate2.StorageView.from_array(encoded),
            [prompt] * len(batch),
            beam_size=decoding.beam_size,
            suppress_blank=decoding.suppress_blank,
            suppress_tokens=decoding.suppress_tokens,
            max_length=self._model.max_length,
            return_scores=True,
            return_no_speech_prob=True,
        )
        segments: list[Segment | None] = []
        for window, output, first in zip(batch, encoded, results, strict=True):
            alone = ctranslate2.StorageView.from_array(output[np.newaxis])
            result, log_probability = first, _mean_log_probability(first)
            repetitive = get_compression_ratio(tokenizer.decode(first.sequences_ids[0])) > _MOST_REPETITIVE
            if repetitive or log_probability < _LEAST_LOG_PROBABILITY:
                result, log_probability, *_ = self._model.generate_with_fallback(
                    alone, prompt, tokenizer, decoding
                )
            silent = result.no_speech_prob > _NO_SPEECH and log_probability < _LEAST_LOG_PROBABILITY
            words = [] if silent else self._words(window, alone, result.sequences_ids[0], tokenizer)
            segments.append(_segment(words, log_probability) if words else None)
        return segments

    def _encode(self, sound: Sound, batch: Sequence[Window], known: Mapping[Window, Samples]) -> Samples:
        """The encoder's output (windows, positions, states); `known` holds that of some windows."""
        unknown = [window for window in batch if window not in known]
        features = [self._features(window.samples(sound)) for window in unknown]
        outputs = dict(known)
        if features:
            outputs.update(zip(unknown, self._states(features), strict=True))
        return np.stack([outputs[window] for window in batch])

    def _states(self, features: Sequence[Samples]) -> Iterable[Samples]:
        """The encoder's output (positions, states) for each window's log-Mel features (mels, frames).

        Called from every lane.
        """
        return np.array(self._model.encode(np.stack(features)))

    def _features(self, samples: Samples) -> Samples:
        """Log-Mel features of a whole window, padded with silence as in Whisper's training."""
        padded = np.pad(samples, (0, max(0, WINDOW_SECONDS * SAMPLE_RATE - len(samples))))
        features: Samples = self._model.feature_extractor(padded, padding=0)[:, :_FRAMES]
        return np.ascontiguousarray(features, dtype=np.float32)

    def _words(
        self, window: Window, encoded: ctranslate2.StorageView, tokens: list[int], tokenizer: Tokenizer
    ) -> list[Word]:
        """The words with their times in the recording, aligned by the decoder's cross-attention."""
        length = window.length / SAMPLE_RATE
        part: dict[str, Any] = {"seek": 0, "tokens": tokens, "start": 0.0, "end": length}
        frames = min(_FRAMES, int(np.ceil(length)) * 100)
        # As if the last word had ended long ago: then an overlong first word is cut to the usual length.
        self._model.add_word_timestamps([[part]], tokenizer, encoded, [frames], _PREPENDED, _APPENDED, _LONG_AGO)
        words = []
        for found in part["words"]:
            start, end = window.moments(found["start"], found["end"])
            words.append(Word(start=start, end=end, text=found["word"], probability=found["probability"]))
        return words

    def _language(self, sound: Sound, first: Sequence[Window], encoded: dict[Window, Samples]) -> str:
        """The language of the first window that leaves little doubt, else the most likely of them all.

        It keeps what it encodes in `encoded`.
        """
        if not self._model.model.is_multilingual:
            return "en"
        best, likeliest = "en", 0.0
        for window in first:
            output = self._threads.submit(self._encode, sound, [window], encoded).result()
            encoded[window] = output[0]
            found = self._model.model.detect_language(ctranslate2.StorageView.from_array(output))
            token, probability = found[0][0]
            if probability > likeliest:
                best, likeliest = token.strip("<|>"), probability
            if likeliest > _LANGUAGE_SURE:
                break
        return best


def batch_size(samples: int, lanes: int, most: int) -> int:
    """At most `most` windows, and the same number of batches for each lane, so that the lanes finish together."""
    count = ceil(samples / (WINDOW_SECONDS * SAMPLE_RATE))
    rounds = ceil(count / (lanes * most))
    return ceil(count / (lanes * rounds))


# faster-whisper's own: punctuation that belongs to the next word, and to the word before.
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - Chinese and Japanese punctuation
_LONG_AGO = -60.0


def _mean_log_probability(result: Any) -> float:
    """Mean log probability of the tokens, including the end of text (as Whisper counts)."""
    length = len(result.sequences_ids[0])
    return float(result.scores[0]) * length / (length + 1)


def _segment(words: Sequence[Word], log_probability: float) -> Segment:
    return Segment(
        start=words[0].start,
        end=words[-1].end,
        text="".join(word.text for word in words).strip(),
        mean_log_probability=log_probability,
        words=tuple(words),
    )


def _decoding(tokenizer: Tokenizer, options: Options) -> TranscriptionOptions:
    """faster-whisper's options for decoding a window again; `options` are those of the first try."""
    return TranscriptionOptions(
        beam_size=options.beam_size,
        best_of=_EFFORT_BEAMS,
        patience=1,
        length_penalty=1,
        repetition_penalty=1,
        no_repeat_ngram_size=0,
        log_prob_threshold=_LEAST_LOG_PROBABILITY,
        no_speech_threshold=_NO_SPEECH,
        compression_ratio_threshold=_MOST_REPETITIVE,
        condition_on_previous_text=False,
        prompt_reset_on_temperature=0.5,
        temperatures=_TEMPERATURES,
        initial_prompt=None,
        prefix=None,
        suppress_blank=True,
        suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
        # Whisper's own timestamps stay off. A window is decoded once, so the text after an early end-of-segment
        # timestamp would be lost (a whole sentence of the sample was). The times come from word alignment.
        without_timestamps=True,
        max_initial_timestamp=0.0,
        word_timestamps=True,
        prepend_punctuations=_PREPENDED,
        append_punctuations=_APPENDED,
        multilingual=False,
        max_new_tokens=None,
        clip_timestamps="0",
        hallucination_silence_threshold=None,
        hotwords=None,
    )
