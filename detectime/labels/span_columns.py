"""Which columns of a csv say where a span of a video starts and ends, and in which unit."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from detectime.labels.csv_files import normalize_column
from detectime.notes import shorten_text

WORDS = (("start", "end"), ("start", "stop"), ("begin", "end"), ("begin", "stop"), ("from", "to"), ("onset", "offset"))
"""What the two columns are called."""

_SECONDS = ("s", "sec", "secs", "second", "seconds")
_MILLISECONDS = ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds")
_NUMBERS = ("idx", "index", "no", "nr", "num", "number")
UNITS = {
    "seconds": ("", "time", "t", *_SECONDS, *(f"time_{unit}" for unit in (*_SECONDS, "ss_msec"))),  # the last: of ELAN
    "milliseconds": (*_MILLISECONDS, *(f"time_{unit}" for unit in _MILLISECONDS)),
    "frames": ("frame", "frames", *(f"frame_{word}" for word in _NUMBERS)),
}
"""What may stand before or behind either word: ``start_time``, ``t_start``, ``Start Time (s)``, ``end_frame``."""

_OTHER_WORDS = frozenset(
    "von bis ab anfang ende beginn debut fin inicio inizio fine inicial final span segment interval range zeit tiempo "
    "temps tempo".split()
)
"""Words of other languages, and of columns that hold both ends."""
_TIMES = _OTHER_WORDS | frozenset(
    ["start", "begin", "beginning", "end", "stop", "onset", "offset", "time", "times", "timestamp", "frame"]
)
_WEAK = frozenset(
    [
        "from",
        "to",
        "in",
        "out",
        "first",
        "last",
        "t",
        "s",
        "ms",
        "at",
        "id",
        *_SECONDS,
        *_MILLISECONDS,
    ]
)
_COUNTS = frozenset(
    "count counts rate total size width height shape n num per fps duration length age weight score confidence conf "
    "x y lat lon distance".split()
)
"""Words of columns about a whole video or a person, such as ``frame_rate``."""
_DURATIONS = frozenset(["duration", "dur", "length"])
_TYPO = 0.82  # similarity above which a column is taken for a misspelt one
_SHORTEST = 4  # letters of a name in which a typo can be told


class SpanColumns(NamedTuple):
    """The columns of a span."""

    start: str
    end: str
    unit: str
    """``seconds``, ``milliseconds`` or ``frames``."""


class AmbiguousColumnsError(ValueError):
    """Columns that may say where a span starts and ends, and are not understood; the message names the remedy."""


def find_span_columns(names: Sequence[str]) -> SpanColumns | None:
    """Find the columns that say where a span starts and ends.

    Columns called `start` and `end` are taken, whatever else there is. Otherwise exactly one pair of `WORDS`, each
    alone or with one of `UNITS`, in any case, such as ``Start Time`` and ``End Time``.

    Parameters
    ----------
    names
        All columns.

    Returns
    -------
    SpanColumns or None
        None: no column looks like a time, so that each row is about a whole file.

    Raises
    ------
    AmbiguousColumnsError
        If there are several pairs, one column of a pair alone, or a column that resembles one.

    Examples
    --------
    >>> find_span_columns(["file", "Start Time", "End Time", "class_name"])
    SpanColumns(start='Start Time', end='End Time', unit='seconds')
    >>> find_span_columns(["file", "end_frame", "start_frame"])
    SpanColumns(start='start_frame', end='end_frame', unit='frames')
    >>> print(find_span_columns(["file", "class_name", "duration"]))
    None
    >>> try:
    ...     find_span_columns(["file", "strat", "end"])
    ... except AmbiguousColumnsError as error:
    ...     print(str(error).partition("?")[0])
    'end' is there, but no column for the start; did you mean 'start' by 'strat'
    """
    if "start" in names and "end" in names:
        return SpanColumns("start", "end", "seconds")
    normal = {name: normalize_column(name) for name in names}
    first, last = _index_spellings(0), _index_spellings(1)
    starts = [name for name in names if normal[name] in first]
    ends = [name for name in names if normal[name] in last]
    pairs = [
        (start, end, unit) for start in starts for end in ends for unit in first[normal[start]] & last[normal[end]]
    ]
    if len(pairs) == 1 and len(starts) == len(ends) == 1:
        (start, end, (_, affix, _)) = pairs[0]
        return SpanColumns(start, end, _get_unit(affix))
    if starts or ends or any(_looks_like_a_time(name) for name in normal.values()):
        raise AmbiguousColumnsError(_explain(names, normal, starts, ends, bool(pairs)))
    return None


def is_measure(name: str) -> bool:
    """Whether a column is called as what is measured of a whole video or a person: its length, its rate, an age.

    Examples
    --------
    >>> is_measure("FrameRate"), is_measure("begin")
    (True, False)
    """
    return not _COUNTS.isdisjoint(normalize_column(name).split("_"))


def list_time_columns(names: Sequence[str]) -> list[str]:
    """Return the columns that may say when something is.

    Examples
    --------
    >>> list_time_columns(["file", "start_frame", "fps"])
    ['start_frame']
    """
    starts, ends = _index_spellings(0), _index_spellings(1)
    normal = {name: normalize_column(name) for name in names}
    return [
        name for name in names if normal[name] in starts or normal[name] in ends or _looks_like_a_time(normal[name])
    ]


_Kind = tuple[int, str, bool]
"""A pair of `WORDS`, what is added to both, and whether it stands in front."""


def _index_spellings(side: int) -> dict[str, set[_Kind]]:
    """Return for each spelling of one of the two columns which kinds it is of."""
    found: dict[str, set[_Kind]] = {}
    for pair, words in enumerate(WORDS):
        for affix in (affix for affixes in UNITS.values() for affix in affixes):
            for is_in_front in (False, True) if affix else (False,):
                word = words[side]
                parts = (affix, word) if is_in_front else (word, affix)
                for spelling in {"_".join(part for part in parts if part), "".join(parts)}:
                    found.setdefault(spelling, set()).add((pair, affix, is_in_front))
    return found


def _get_unit(affix: str) -> str:
    return next(unit for unit, affixes in UNITS.items() if affix in affixes)


def _looks_like_a_time(name: str) -> bool:
    """Whether a column, normalized, may say when something is."""
    plain = unicodedata.normalize("NFD", name).encode("ascii", "ignore").decode()
    words = {word.rstrip("0123456789") or word for word in plain.split("_")}
    if words & _COUNTS:
        return False
    return bool(words & _TIMES) or (words <= _WEAK and words - {"id", ""} != set()) or _is_typo(name)


def _is_typo(name: str) -> bool:
    if len(name) < _SHORTEST:
        return False
    known = {*_index_spellings(0), *_index_spellings(1)}
    letters = sorted(name)
    return bool(difflib.get_close_matches(name, known, n=1, cutoff=_TYPO)) or any(
        sorted(each) == letters for each in known if len(each) >= _SHORTEST
    )


def _explain(
    names: Sequence[str], normal: dict[str, str], starts: Sequence[str], ends: Sequence[str], has_pairs: bool
) -> str:
    accepted = "accepted: start and end, in seconds, or another pair of docs/data.md#videos"
    if has_pairs:
        listed = ", ".join(shorten_text(name) for name in (*starts, *ends))
        return (
            f"several columns may say where spans start and end: {listed}; rename one pair to start and end; {accepted}"
        )
    if starts and ends:
        listed = ", ".join(shorten_text(name) for name in (*starts, *ends))
        return f"{listed} are no pair; did you mean 'start' and 'end'? {accepted}"
    similar = [name for name in names if name not in (*starts, *ends) and _looks_like_a_time(normal[name])]
    if starts or ends:
        (there, wanted), lacking = ((starts[0], "end"), "end") if starts else ((ends[0], "start"), "start")
        hint = f"did you mean {wanted!r} by {shorten_text(similar[0])}? " if similar else ""
        durations = [name for name in names if not _DURATIONS.isdisjoint(normal[name].split("_"))]
        if starts and durations and not similar:
            hint = f"add one, which is {shorten_text(there)} plus {shorten_text(durations[0])}; "
        return f"{shorten_text(there)} is there, but no column for the {lacking}; {hint}{accepted}"
    listed = " and ".join(shorten_text(name) for name in similar[:2])
    pair = "'start_frame' and 'end_frame'" if "frame" in normal[similar[0]] else "'start' and 'end'"
    whole = "if each row is about a whole video, rename or remove it"
    return f"{listed} may say when something is; did you mean {pair}? {accepted}; {whole}"
