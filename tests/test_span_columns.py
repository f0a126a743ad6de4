"""Which columns of a csv of videos are times: documented pairs are understood, what resembles one is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectime.labels.csv_files import normalize_column
from detectime.labels.span_columns import UNITS, WORDS, AmbiguousColumnsError, SpanColumns, find_span_columns

FURTHER = ["file", "class_name", "person", "age", "fps", "duration", "n_frames", "frame_rate", "camera"]


@pytest.mark.parametrize(
    ("start", "end", "unit"),
    [
        ("start", "end", "seconds"),
        ("Start", "End", "seconds"),
        ("START", "END", "seconds"),
        ("start_time", "end_time", "seconds"),
        ("Start Time", "End Time", "seconds"),
        ("StartTime", "EndTime", "seconds"),
        ("start-time", "end-time", "seconds"),
        ("starttime", "endtime", "seconds"),
        ("start_sec", "end_sec", "seconds"),
        ("Start (s)", "End (s)", "seconds"),
        ("t_start", "t_end", "seconds"),
        ("tstart", "tend", "seconds"),
        ("from", "to", "seconds"),
        ("From", "To", "seconds"),
        ("begin", "end", "seconds"),
        ("begin_time", "end_time", "seconds"),
        ("start", "stop", "seconds"),
        ("onset", "offset", "seconds"),
        ("start_ms", "end_ms", "milliseconds"),
        ("Start [ms]", "End [ms]", "milliseconds"),
        ("start_frame", "end_frame", "frames"),
        ("StartFrame", "EndFrame", "frames"),
        ("frame_start", "frame_end", "frames"),
        ("begin_frame", "end_frame", "frames"),
        ("Start Time (s)", "End Time (s)", "seconds"),
        ("start_time_sec", "end_time_sec", "seconds"),
        ("StartTimeSeconds", "StopTimeSeconds", "seconds"),
        ("start_time_ms", "end_time_ms", "milliseconds"),
        ("Begin Time - msec", "End Time - msec", "milliseconds"),
        ("Begin Time - ss.msec", "End Time - ss.msec", "seconds"),
        ("start_frame_idx", "end_frame_idx", "frames"),
        ("StartFrameNumber", "EndFrameNumber", "frames"),
        ("start\u00a0time", "end\u00a0time", "seconds"),
    ],
)
def test_pairs_are_understood_in_any_order(start: str, end: str, unit: str) -> None:
    expected = SpanColumns(start, end, unit)
    assert find_span_columns([*FURTHER, start, end]) == expected
    assert find_span_columns([end, *FURTHER, start]) == expected


@given(
    st.sampled_from(WORDS),
    st.sampled_from([affix for affixes in UNITS.values() for affix in affixes]),
    st.booleans(),
    st.sampled_from(["_", " ", "-", ""]),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_every_documented_spelling_is_understood(
    words: tuple[str, str], affix: str, is_in_front: bool, joint: str, case: object
) -> None:
    pair = [joint.join(filter(None, (affix, word) if is_in_front else (word, affix))) for word in words]
    start, end = (case(name) for name in pair)  # type: ignore[operator]
    unit = next(unit for unit, affixes in UNITS.items() if affix in affixes)
    assert find_span_columns(["file", start, end]) == SpanColumns(start, end, unit)


@pytest.mark.parametrize("further", [["start_frame", "end_frame"], ["Start", "End"], ["start_time"], ["frame"]])
def test_start_and_end_are_taken_whatever_else_there_is(further: list[str]) -> None:
    assert find_span_columns(["file", *further, "start", "end"]) == SpanColumns("start", "end", "seconds")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["start"], "'start' is there, but no column for the end"),
        (["end_time"], "'end_time' is there, but no column for the start"),
        (["start", "duration"], "no column for the end; add one, which is 'start' plus 'duration'"),
        (["onset", "Length (s)"], "no column for the end; add one, which is 'onset' plus 'Length (s)'"),
        (["start_time", "end_frame"], "are no pair; did you mean 'start' and 'end'"),
        (["start_ms", "end_s"], "are no pair"),
        (["from", "end"], "are no pair"),
        (["start_time", "end_time", "start_frame", "end_frame"], "several columns may say where spans start and end"),
        (["start_time", "end_time", "from", "to"], "several columns"),
        (["strat", "end"], "no column for the start; did you mean 'start' by 'strat'"),
        (["startx", "endx"], "'startx' and 'endx' may say when something is; did you mean"),
        (["t0", "t1"], "'t0' and 't1' may say when something is"),
        (["first_frame", "last_frame"], "did you mean 'start_frame' and 'end_frame'?"),
        (["Start Time (HH:MM:SS)", "End Time (HH:MM:SS)"], "did you mean 'start' and 'end'?"),
        (["first_time", "last_time"], "did you mean 'start' and 'end'?"),
        (["frame"], "'frame' may say when something is"),
        (["frame_number"], "'frame_number' may say when something is"),
        (["time"], "'time' may say when something is"),
        (["timestamp"], "'timestamp' may say when something is"),
        (["Timestamp (s)"], "may say when something is"),
        (["beginning", "ending"], "'beginning' may say when something is"),
        (["from_id", "to_id"], "'from_id' and 'to_id' may say when something is"),
        (["in", "out"], "'in' and 'out' may say when something is"),
    ],
)
def test_what_resembles_a_time_is_refused(names: list[str], reason: str) -> None:
    with pytest.raises(AmbiguousColumnsError) as error:
        find_span_columns(["file", *names, "class_name"])
    assert reason in str(error.value)
    assert "accepted: start and end, in seconds" in str(error.value)


@pytest.mark.parametrize(
    "name", [*FURTHER, "gender", "note", "score", "stage", "state", "hand", "first_name", "item_2", "id", "ID"]
)
def test_other_columns_are_no_times(name: str) -> None:
    assert find_span_columns(["file", name, "class_name"]) is None


def test_spellings_do_not_collide() -> None:
    """No spelling is both a start and an end, so that no column is taken for the wrong side."""
    starts, ends = (
        {
            normalize_column(f"{words[side]}_{affix}")
            for words, affix in itertools.product(WORDS, sum(UNITS.values(), ()))
        }
        for side in (0, 1)
    )
    assert not starts & ends
