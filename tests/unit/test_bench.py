"""The arithmetic of `make bench`: order, medians, ratios, accuracy, cost, and what is kept of it."""

from __future__ import annotations

import io
import math
import struct
from collections import Counter
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import compare, cost, ggml, goals, measured, recordings, report, schedule
from bench.accuracy import word_error_rate
from bench.contenders import DEFAULT_ENGINE, REFERENCE, Family, named, parse, usual
from bench.cost import InstanceType, Instructions
from bench.results import Jobs, Machine, Results, Run, Store, Ticks, instructions_of
from contracts.jobs import EngineName
from ops.errors import OpsError
from ops.prices import hourly_price
from ops.settings import OpsSettings

SECONDS = st.floats(min_value=0.1, max_value=10_000)
NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=6)


@given(NAMES, st.integers(0, 7), st.text(max_size=5))
def test_each_contender_runs_once_in_each_repeat_and_the_repeats_follow_one_another(
    names: list[str], repeats: int, seed: str
) -> None:
    order = list(schedule.interleaved(names, repeats, seed))
    assert [repeat for repeat, _ in groupby(repeat for repeat, _ in order)] == list(range(repeats if names else 0))
    assert Counter(order) == Counter((repeat, name) for repeat in range(repeats) for name in names)


@given(NAMES, st.text(max_size=5))
def test_over_as_many_repeats_as_contenders_each_runs_in_each_place(names: list[str], seed: str) -> None:
    order = [name for _, name in schedule.interleaved(names, len(names), seed)]
    for place in range(len(names)):
        assert sorted(order[place :: len(names)]) == sorted(names)


def test_the_seed_decides_the_order() -> None:
    names = list("abcdefgh")
    assert list(schedule.interleaved(names, 3, "1")) == list(schedule.interleaved(names, 3, "1"))
    assert list(schedule.interleaved(names, 3, "1")) != list(schedule.interleaved(names, 3, "2"))


def test_a_lesson_is_repeated_less_often_than_a_chapter_unless_told() -> None:
    assert schedule.repeats_for(2700, None) < schedule.repeats_for(300, None)
    assert schedule.repeats_for(2700, 5) == 5


@given(st.lists(SECONDS, min_size=1))
def test_the_median_lies_within_its_spread(values: list[float]) -> None:
    found = compare.spread(values)
    assert found is not None
    assert found.low <= found.middle <= found.high
    assert found.percent >= 0


@given(st.dictionaries(st.integers(0, 9), SECONDS, min_size=1), st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_drift_of_the_machine_leaves_the_ratio_alone(
    drifting: dict[int, float], theirs: float, mine: float
) -> None:
    found = compare.ratio(
        {repeat: theirs * slow for repeat, slow in drifting.items()},
        {repeat: mine * slow for repeat, slow in drifting.items()},
    )
    assert found is not None
    assert found.middle == pytest.approx(theirs / mine)


def test_runs_of_different_repeats_have_no_ratio() -> None:
    assert compare.ratio({0: 1.0}, {1: 1.0}) is None
    assert compare.spread([]) is None


@given(
    st.floats(0.01, 10), st.floats(1, 100), st.lists(st.integers(1, 10_000), min_size=2, max_size=6, unique=True)
)
def test_the_line_through_points_of_a_line_is_that_line(slope: float, start: float, audio: list[int]) -> None:
    found = compare.line([(x, slope * x + start) for x in audio])
    assert list(found) == pytest.approx([slope, start], rel=1e-3)


@given(st.lists(st.tuples(st.floats(1, 10_000), st.floats(0, 10_000)), min_size=1))
def test_no_lesson_takes_less_than_no_time(points: list[tuple[float, float]]) -> None:
    slope, start = compare.line(points)
    assert slope >= 0
    assert start >= 0
    assert math.isfinite(slope + start)


def test_no_line_without_a_point() -> None:
    with pytest.raises(ValueError, match="no point"):
        compare.line([])


def test_twice_the_audio_in_twice_the_time_is_linear() -> None:
    assert compare.linearity(10, 20, 2) == 1
    assert compare.linearity(10, 30, 2) == 1.5


def test_errors_are_counted_in_words_as_whisper_writes_them() -> None:
    assert word_error_rate("DOCTOR SMITH HAS TWENTY TWO APPLES", "Dr. Smith has 22 apples.") == 0
    assert word_error_rate("THE CAT SAT DOWN", "The cat sat.") == pytest.approx(0.25)
    assert word_error_rate("", "anything") is None


@given(st.floats(0, 5), st.floats(0, 1000), st.floats(0.001, 50))
def test_a_lesson_costs_its_seconds(factor: float, overhead: float, price: float) -> None:
    usd = cost.lesson_usd(factor, overhead, price)
    assert usd == pytest.approx(price * (overhead + factor * 2700) / 3600)
    assert cost.lesson_usd(factor, overhead, 2 * price) == pytest.approx(2 * usd)
    assert cost.lesson_usd(factor + 1, overhead, price) > usd


def instance(instructions: Instructions, vcpus: int = 2) -> InstanceType:
    return InstanceType(name="x", usd_per_hour=1, vcpus=vcpus, instructions=instructions)


X86 = [i for i in Instructions if i is not Instructions.ARM64]


@given(st.sampled_from(Instructions), st.dictionaries(st.sampled_from(Instructions), SECONDS))
def test_no_type_is_priced_by_what_its_processor_cannot_do(
    has: Instructions, figures: dict[Instructions, float]
) -> None:
    found = cost.factor_on(instance(has), figures, cores=2)
    able = {has} if has is Instructions.ARM64 else set(X86[: X86.index(has) + 1])
    if found is None:
        assert not able & figures.keys()
    else:
        assert found[1] in able
        assert found[0] == figures[found[1]]
        assert has not in figures or found[1] is has, "what was measured with just its instructions comes first"


def test_what_was_measured_on_two_cores_says_nothing_of_four() -> None:
    assert cost.factor_on(instance(Instructions.AVX2, vcpus=4), {Instructions.AVX2: 0.1}, cores=2) is None


def test_every_type_with_a_price_says_what_processor_it_has() -> None:
    types = {each.name: each for each in cost.instance_types()}
    assert OpsSettings(_env_file=None).instance_type in types
    for name, each in types.items():
        assert each.usd_per_hour == hourly_price(name)
    assert [each.usd_per_hour for each in types.values()] == sorted(each.usd_per_hour for each in types.values())


def test_the_processor_is_known_by_its_flags() -> None:
    assert instructions_of({"avx2"}) is Instructions.AVX2
    assert instructions_of({"avx2", "avx512f"}) is Instructions.AVX512
    assert instructions_of({"avx2", "avx512f", "avx512_vnni"}) is Instructions.VNNI
    assert instructions_of({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}) is Instructions.BF16
    assert instructions_of({"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"}) is Instructions.AMX
    assert instructions_of({"fp", "asimd"}) is Instructions.ARM64


def test_a_contender_is_named_with_what_differs_from_its_defaults() -> None:
    contender = parse("ours/faster-whisper:batch=8:isa=avx2")
    assert (contender.family, contender.engine) == (Family.OURS, EngineName.FASTER_WHISPER)
    assert contender.settings == {"batch": "8", "isa": "avx2"}
    assert contender.plain_name == "ours/faster-whisper:batch=8"
    assert contender.environment()
    assert not parse("ours").environment()


def test_the_default_is_what_the_appliance_does() -> None:
    assert parse("worker").engine is DEFAULT_ENGINE
    assert parse("worker") == parse(f"worker/{DEFAULT_ENGINE}")
    assert [c.name for c in usual() if c.is_default] == [f"ours/{DEFAULT_ENGINE}", f"worker/{DEFAULT_ENGINE}"]
    assert REFERENCE in {c.name for c in usual()}


@pytest.mark.parametrize(
    "text",
    [
        "nobody",
        "ours/nobody",
        "openai-whisper/x",
        "whisper.cpp:beam=5",
        "ours:beam=x",
        "ours:beam=0",
        "ours:isa=sse",
    ],
)
def test_what_is_no_contender_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(OpsError) as refused:
        parse(text)
    assert "\n" not in str(refused.value)


def test_the_same_contender_is_measured_once() -> None:
    assert [c.name for c in named(f"ours,openai-whisper,ours/{DEFAULT_ENGINE},")] == [
        f"ours/{DEFAULT_ENGINE}",
        "openai-whisper",
    ]


def a_run(contender: str = "ours", repeat: int = 0, wall: float = 10.0, **changes: object) -> Run:
    fields = {
        "recording": "chapter",
        "contender": parse(contender).name,
        "repeat": repeat,
        "audio_seconds": 300.0,
        "wall_seconds": wall,
        "cpu_seconds": 2 * wall,
        "peak_rss_bytes": 500_000_000,
        "load_seconds": 1.0,
        "first_result_seconds": 2.0,
        "word_error_rate": 0.02,
        "characters": 900,
        "invented": False,
    }
    return Run.model_validate(fields | changes)


def results(*runs: Run) -> Results:
    machine = Machine(
        cpu="a CPU",
        cores=2,
        instructions=Instructions.VNNI,
        python="3.11",
        commit="abc",
        started=datetime(2026, 1, 2, tzinfo=UTC),
    )
    return Results(machine=machine, runs=list(runs))


def cells(found: Results, title: str, row: str) -> tuple[str, ...]:
    (sheet,) = [sheet for sheet in report.sheets(found, cost.instance_types()) if sheet.title.startswith(title)]
    (line,) = [line for line in sheet.rows if line[0].startswith(row)]
    return line


def test_the_table_shows_the_median_and_the_ratio_of_runs_made_together() -> None:
    found = results(
        *(a_run(REFERENCE, repeat, wall) for repeat, wall in enumerate((40.0, 80.0, 42.0))),
        *(a_run("ours", repeat, wall) for repeat, wall in enumerate((10.0, 20.0, 10.5))),
    )
    row = cells(found, "chapter", "ours")
    assert row[1] == "3"
    assert row[2].startswith("10.5 ")
    assert row[5] == "4.00 (4.00 to 4.00)", "the slow minute fell on both"
    assert row[7] == "2.00"


def test_what_was_not_measured_has_a_dash_and_no_figure() -> None:
    found = results(a_run("worker", first_result_seconds=None, word_error_rate=None))
    row = cells(found, "chapter", "worker")
    assert (row[5], row[7], row[9]) == ("-", "-", "-")
    assert "-" in cells(found, "US dollars", "c6i.xlarge")[4:]
    assert "-" in cells(found, "US dollars", "t2.medium")[4:]


def test_a_type_without_avx512_is_priced_by_runs_held_to_avx2() -> None:
    found = results(a_run("ours", wall=10.0), a_run("ours:isa=avx2", wall=30.0))
    (price,) = cells(found, "US dollars", "t2.medium")[4:]
    assert float(price) == pytest.approx(cost.lesson_usd(0.1, 0, hourly_price("t2.medium")), abs=1e-5)
    assert cells(found, "US dollars", "c7i.large")[4].endswith("*"), "it has more than this machine"


def test_invented_text_is_a_table_of_its_own_and_none_of_the_speed() -> None:
    found = results(a_run("ours", recording="whales", invented=True, characters=7, word_error_rate=None))
    assert cells(found, "Characters invented", "ours")[1] == "7"
    assert [sheet.title for sheet in report.sheets(found, [])] == ["Characters invented where nobody speaks"]


def test_long_recordings_are_told_by_their_multiple() -> None:
    found = results(
        a_run("worker", recording="chapter x1", wall=10.0),
        a_run("worker", recording="chapter x4", audio_seconds=1200.0, wall=44.0),
    )
    sheet = report.sheets(found, [])[0]
    assert [row[5] for row in sheet.rows] == ["1.00", "1.10"]


def test_the_report_is_markdown_with_every_table() -> None:
    found = results(a_run(REFERENCE), a_run("worker", first_poll_seconds=1.0))
    found.jobs = [Jobs(contender="worker", recording="x", resident_bytes=(100, 110), seconds=(3.0, 1.0))]
    found.ticks = Ticks(
        archive_bytes=1000, cold_seconds=(0.3,), warm_seconds=(0.1,), calls={"stopped": ("A", "B")}
    )
    found.troubles = ["whales: it failed"]
    text = report.markdown(found, cost.instance_types())
    for sheet in report.sheets(found, cost.instance_types()):
        assert f"### {sheet.title}" in text
        assert {len(row) for row in sheet.rows} == {len(sheet.head)}
    assert "whales: it failed" in text


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = results(a_run(), a_run(repeat=1))
    store.save(found)
    assert store.load() == found
    assert found.has("chapter", parse("ours").name, 1)
    assert not found.has("chapter", parse("ours").name, 2)


def test_memory_alone_is_a_measurement() -> None:
    assert results().is_empty
    jobs = Jobs(contender="worker/openvino", recording="short", seconds=(2.0, 1.0), resident_bytes=(1, 1))
    assert not results().model_copy(update={"jobs": [jobs]}).is_empty


def test_the_committed_figures_have_what_planning_reads() -> None:
    document = measured.read()
    assert document["engines"].keys() == set(EngineName)
    for figures in document["engines"].values():
        assert 0 < figures["real_time_factor"] < 1
        assert figures["overhead_seconds"] >= 0
        assert figures["model_load_seconds"] > 0
    assert document["appliance"].keys() >= {"start_to_first_poll_seconds", "idle_to_stopped_seconds"}
    assert document["machine"].keys() == {"cpu", "cores", "date", "command"}


def test_recorded_figures_replace_the_engines_and_leave_the_appliance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = measured.read()
    appliance = measured.appliance_text()
    monkeypatch.setattr(measured, "FILE", tmp_path / "measured.toml")
    found = results(
        a_run(REFERENCE, audio_seconds=100.0, wall=15.0),
        a_run("worker", recording="chapter", audio_seconds=100.0, wall=8.0),
        a_run("worker", recording="lesson", audio_seconds=1000.0, wall=53.0),
    )
    measured.write(found, "make bench", appliance)
    after = measured.read()
    assert after["appliance"] == before["appliance"]
    assert after["engines"][DEFAULT_ENGINE] == {
        "real_time_factor": 0.05,
        "overhead_seconds": 3.0,
        "model_load_seconds": 1.0,
    }, "8 s are 3 whatever the length, and 5 for 100 s of audio"
    assert after["engines"]["openai-whisper"]["real_time_factor"] == 0.15
    assert measured.appliance_text() == appliance


def test_nothing_is_recorded_of_no_speech() -> None:
    with pytest.raises(OpsError, match="nothing to record"):
        measured.write(results(a_run(invented=True)), "make bench", "")


def test_a_place_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="BENCH_AUDIO"):
        recordings.find(tmp_path)
    with pytest.raises(OpsError, match="BENCH_AUDIO"):
        recordings.find(tmp_path / "missing.mp3")


def test_the_sample_is_found_with_its_text() -> None:
    (sample,) = recordings.find(recordings.SAMPLE)
    assert sample.reference
    assert sample.seconds > 10
    with pytest.raises(OpsError, match="there are lesson"):
        recordings.chosen([sample], ["nobody"])


def test_goals_are_judged_by_the_default_worker_against_the_reference() -> None:
    fast = results(a_run(REFERENCE, wall=40.0, word_error_rate=0.03), a_run("worker", wall=10.0))
    assert [goal.met for goal in goals.of(fast)][:2] == [True, True]
    slow = results(a_run(REFERENCE, wall=39.0, word_error_rate=0.01), a_run("worker", wall=10.0))
    assert [goal.met for goal in goals.of(slow)][:2] == [False, False]
    others = results(a_run(REFERENCE), a_run("ours"), a_run("worker:batch=8"))
    assert goals.of(others) == []


def test_one_invented_character_is_one_too_many() -> None:
    silent = a_run("worker", recording="whales", invented=True, word_error_rate=None, characters=1)
    (goal,) = [goal for goal in goals.of(results(silent)) if "invented" in goal.text]
    assert not goal.met


def test_a_worker_that_grows_with_its_jobs_misses_its_goal() -> None:
    found = results()
    name = parse("worker").name
    for last, met in ((100, True), (104, True), (110, False)):
        found.jobs = [Jobs(contender=name, recording="x", resident_bytes=(100, last), seconds=(9.0, 1.0))]
        assert [goal.met for goal in goals.of(found)] == [met, True]


DIMS = {
    **{"n_vocab": 51865, "n_audio_ctx": 3, "n_audio_state": 4, "n_audio_head": 2, "n_audio_layer": 1},
    **{"n_text_ctx": 5, "n_text_state": 4, "n_text_head": 2, "n_text_layer": 1, "n_mels": 2},
}


def test_the_head_of_the_ggml_file_is_as_whisper_cpp_reads_it() -> None:
    file = io.BytesIO()
    filters = np.array([[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]], np.float32)
    ggml.write(file, DIMS, filters, [b"a", b"\xff\x00b"], {})
    file.seek(0)
    assert file.read(4) == b"lmgg"
    assert struct.unpack("<11i", file.read(44)) == (51865, 3, 4, 2, 1, 5, 4, 2, 1, 2, 1)
    assert struct.unpack("<2i", file.read(8)) == (2, 3)
    assert np.frombuffer(file.read(24), "<f4").tolist() == filters.ravel().tolist()
    assert struct.unpack("<2i", file.read(8)) == (2, 1)
    assert file.read(1) == b"a"
    assert struct.unpack("<i", file.read(4)) == (3,)
    assert file.read() == b"\xff\x00b"


def test_products_weights_are_half_precision_and_what_is_added_is_not() -> None:
    state = {
        "decoder.token_embedding.weight": np.arange(6, dtype=np.float16).reshape(2, 3),
        "encoder.positional_embedding": np.zeros((3, 4), np.float16),
        "encoder.conv1.bias": np.ones(4, np.float16),
        "decoder.ln.weight": np.ones(4, np.float16),
    }
    file = io.BytesIO()
    ggml.write(file, DIMS, np.zeros((2, 1), np.float32), [], state)
    file.seek(4 * 12 + 4 * 2 + 8 + 4)
    found = {}
    while head := file.read(12):
        dimensions, length, kind = struct.unpack("<3i", head)
        shape = struct.unpack(f"<{dimensions}i", file.read(4 * dimensions))
        name = file.read(length).decode()
        values = np.frombuffer(file.read(math.prod(shape) * (2 if kind else 4)), "<f2" if kind else "<f4")
        found[name] = (kind, shape, values.tolist())
    assert found == {
        "decoder.token_embedding.weight": (1, (3, 2), [0, 1, 2, 3, 4, 5]),
        "encoder.positional_embedding": (0, (4, 3), [0] * 12),
        "encoder.conv1.bias": (0, (1, 4), [1] * 4),
        "decoder.ln.weight": (0, (4,), [1] * 4),
    }
