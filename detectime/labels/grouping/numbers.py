"""Numbers and times in the names of files, which run on within a recording: ``0001`` … ``0057``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.boxes import Floats
from detectime.labels.grouping.files import LEAST_SHARE, Files, Keys, find_unique, fit_files

_GAP = 10  # steps of running numbers that must be missing to begin another recording
_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # seconds without a picture that begin another recording: at least, and surely
_COUNTED = r"(?s)^(?P<before>(?:.*[^0-9])?)(?P<number>[0-9]{1,18})(?P<after>[^0-9]*)$"  # the number fits into 64 bits
_TIME = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?:[ T_.-]*(?:at)?[ T_.-]+|T|(?<=\d{8}))"
    r"([01]?\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?:[-_.,]?(\d{1,6}))?(?:[\s\u202f]*([AaPp])\.?[Mm]\b\.?)?(?!\d)"
)
"""A date and a time, as cameras, phones and screenshots write them."""
_EPOCH = re.compile(r"(?<!\d)(1[4-9]\d{8})(?:\.?(\d{3}|\d{6}))?(?!\d)")
"""Seconds since 1970, from 2014 to 2033, with or without thousandths or millionths."""


def group_by_numbers(files: Files, is_asked: bool) -> Keys | None:
    """Group files by the times in their names, or else by numbers that count on in one folder.

    Parameters
    ----------
    files
        The files.
    is_asked
        Whether the user asked for this kind: one file with a number is enough then.

    Returns
    -------
    Keys
        Groups are named by their first file. None if too few files have a number, or numbers do not run on.

    Examples
    --------
    >>> group_by_numbers(Files([f"ok/{number}.jpg" for number in (1, 2, 40)], ["ok"] * 3), False).names.to_pylist()
    ['ok/1', 'ok/1', 'ok/40']
    """
    return _group_by_times(files, is_asked) or _group_by_counters(files, is_asked)


def read_numbers(files: Files) -> pa.Array:
    """Return the last number in the name of each file, int64; null where there is none, or it is too large.

    Examples
    --------
    >>> read_numbers(Files(["ok/anna_7.jpg", "ok/x.jpg"], ["ok", "ok"])).to_pylist()
    [7, None]
    """
    found = pc.struct_field(pc.extract_regex(files.stems, _COUNTED), "number")
    return pc.if_else(pa.array(files.is_random), pa.scalar(None, found.type), found).cast(pa.int64())


def drop_times(stem: str) -> str:
    """Return a name without dates with times.

    Examples
    --------
    >>> drop_times("anna 2024-05-01 10-22-31")
    'anna  '
    """
    return _EPOCH.sub(" ", _TIME.sub(" ", stem))


def _spread(count: int, table: pd.DataFrame) -> pa.Array:
    """Return the names of groups of all files, of which a table has those that fit: `row` and `name`."""
    names: NDArray[np.object_] = np.full(count, None, object)
    names[table["row"].to_numpy()] = table["name"].to_numpy(object)
    return pa.array(names, pa.large_string())


# -- times


def _group_by_times(files: Files, is_asked: bool) -> Keys | None:
    """Group files by the time at which they were taken, whatever the class: a pause begins another recording."""
    candidates = pc.match_substring_regex(files.stems, r"(?:^|[^0-9])(?:20[0-9]{2}|1[4-9][0-9]{8})")
    rows = np.flatnonzero(candidates.to_numpy(zero_copy_only=False) & ~files.is_random)
    stems = files.stems.take(pa.array(rows)).to_pylist()
    times = [(row, stem, *time) for row, stem in zip(rows, stems, strict=True) if (time := _parse_time(stem))]
    if not times or (not is_asked and len(times) < LEAST_SHARE * len(files)):
        return None
    table = pd.DataFrame(times, columns=["row", "stem", "seconds", "frame_id"])
    table = table.sort_values(["seconds", "stem"])  # whatever the order of the listing
    steps = table["seconds"].diff()
    usual = float(steps[steps > 0].median()) if (steps > 0).any() else 0.0
    recording = (steps > min(max(_PAUSE, _GAP * usual), _LONGEST_PAUSE)).cumsum()
    table["name"] = table["stem"].groupby(recording).transform("first")
    names = _spread(len(files), table)
    frame_ids = pd.Series(pd.NA, range(len(files)), "Int64")
    frame_ids[table["row"]] = table["frame_id"].to_numpy()
    return Keys(names, pa.array(frame_ids)) if fit_files(names, is_asked, shared=True) else None


class _Time(NamedTuple):
    seconds: float
    frame_id: int


def _parse_time(stem: str) -> _Time | None:
    found = _TIME.search(stem)
    if found:
        *values, fraction, half = found.groups()
        year, month, day, hour, minute, second = map(int, values)
        if half and 1 <= hour <= 12:
            hour = hour % 12 + 12 * (half in "pP")
        try:
            moment = datetime(year, month, day, hour, minute, second)
        except ValueError:
            return None
        seconds = (moment - datetime(1970, 1, 1)) / timedelta(seconds=1) + float(f"0.{fraction or 0}")
        return _Time(seconds, int(f"{moment:%Y%m%d%H%M%S}") * 1000 + int((fraction or "0").ljust(3, "0")[:3]))
    epoch = _EPOCH.search(stem)
    if epoch:
        return _Time(float(f"{epoch[1]}.{epoch[2] or 0}"), int(epoch[1] + (epoch[2] or "000").ljust(3, "0")[:3]))
    return None


# -- counters


def _group_by_counters(files: Files, is_asked: bool) -> Keys | None:
    """Group files whose names count on in one folder: a gap begins another recording."""
    parts = pc.extract_regex(files.stems, _COUNTED)
    rows = np.flatnonzero(parts.is_valid().to_numpy(zero_copy_only=False) & ~files.is_random)
    if not len(rows) or (not is_asked and len(rows) < LEAST_SHARE * len(files)):
        return None
    taken = pa.array(rows)
    before, number, after = (pc.struct_field(parts.take(taken), name) for name in ("before", "number", "after"))
    series, _ = find_unique(pa.table({"folder": files.folders.take(taken), "before": before, "after": after}))
    table = pd.DataFrame({"row": rows, "series": series, "number": number.cast(pa.int64()).to_numpy()})
    table["name"] = files.name_own().take(taken).to_pandas()
    table = table.sort_values(["series", "number", "name"])
    step = table.groupby("series")["number"].diff()
    usual, share = _find_usual_step(step[step > 0].to_numpy(np.float64))
    if not is_asked and share < LEAST_SHARE:
        return None
    recording = (step.isna() | (step > _GAP * usual)).cumsum()
    table["name"] = table["name"].groupby(recording).transform("first")
    return Keys(_spread(len(files), table))


def _find_usual_step(steps: Floats) -> tuple[float, float]:
    """Return the most frequent step between successive numbers, the least of several, and its share of all."""
    if not len(steps):
        return 1.0, 0.0
    values, counts = np.unique(steps, return_counts=True)
    if counts.max() == 1 and values[0] > _GAP:  # too few to tell, and far apart
        return 1.0, 0.0
    return float(values[counts.argmax()]), float(counts.max() / len(steps))
