"""Which files are of one video or person, where the labels do not say: by their folders and names.

What is known is weak, so that in doubt files are put into one group: a group that is too large costs samples of a
split, one that is too small puts a person into two of its parts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.boxes import Flags, Floats, Integers
from detectime.labels.layout import LAYOUT, SPLITS, drop_hagrid_prefix, names_split, simplify_name
from detectime.labels.tables import TableError, format_names
from detectime.notes import Note, note_found
from detectime.sources.names import fold_name

KINDS = ("folder", "prefix", "numbers", "file")
"""Values of `data.group_by`, in the order in which they are tried."""

NO_GROUPS = "no_groups"
"""Kind of the note that says that each file is its own group, so that a split cannot know who is who."""

_REMEDY = "put the files of each person or video into a folder of their own below that of the class"
_TITLES = {
    "folder": "the folder below that of the class",
    "prefix": "the beginning of the file names",
    "numbers": "numbers that run on in the file names",
}
_LEAST_SHARE = 0.5  # of the files that must fit a pattern which is recognised
_LEAST_SHARED = 0.25  # of the files with a prefix that must share it with another: random names share none
_GAP = 10  # steps of running numbers that must be missing to begin another recording
_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # seconds without a picture that begin another recording: at least, and surely

_CAMERA_WORDS = frozenset(
    [
        *(
            "img",
            "image",
            "images",
            "frame",
            "frames",
            "photo",
            "photos",
            "dsc",
            "dscn",
            "dscf",
            "pxl",
            "mvimg",
            "cimg",
        ),
        *("screenshot", "screen", "shot", "capture", "captured", "webcam", "picture", "pictures", "pic", "snapshot"),
        *(
            "snap",
            "win",
            "pro",
            "wa",
            "whatsapp",
            "at",
            "am",
            "pm",
            "gopr",
            "dji",
            "mg",
            "sam",
            "hpim",
            "burst",
            "cover",
        ),
        *(
            "untitled",
            "download",
            "file",
            "output",
            "copy",
            "of",
            "cropped",
            "crop",
            "resized",
            "edited",
            "aug",
            "augmented",
        ),
        *("rgb", "color", "colour", "depth", "sample", "samples", "data", "dataset", "gesture", "gestures", "sign"),
        *("left", "right", "lefthand", "righthand", "hand", "hands", "camera", "cam", "new", "kopie", "bild", "foto"),
        *("jpg", "jpeg", "png", "mp4", "mov", "avi", "mkv", "webm", "m4v"),
    ]
)
"""Words in file names that say nothing about who is in the picture."""
_RECORDING_WORDS = frozenset(
    [
        *("video", "vid", "clip", "movie", "mov", "mvi", "session", "take", "rec", "recording", "seq", "sequence"),
        *("scene", "hand", "camera", "cam", "part", "run", "trial"),
    ]
)
"""Words whose number names a recording if another number follows, and counts pictures otherwise."""
_PERSON_WORDS = frozenset(
    [
        *("user", "person", "people", "subject", "subj", "sub", "participant", "signer", "actor", "speaker", "student"),
        *("performer", "volunteer", "face", "id", "uid", "p", "s", "u", "pers", "human", "man", "woman", "proband"),
    ]
)
"""Words whose number names a person."""

_ENDING = r"(?s)\.[A-Za-z][A-Za-z0-9]{1,4}$"
_ROBOFLOW = r"(?i)_(?:jpg|jpeg|png|webp|bmp)\.rf\.[0-9a-f]{20,}$"
_EXPORTED = r"-[0-9a-f]{10}$"  # names that exports of detectime have
_RANDOM = (
    r"(?i)^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}|[0-9a-z_-]*[0-9a-f]{8}(?:-[0-9a-f]{4}){3}"
    r"-[0-9a-f]{12}[0-9a-z_-]*)$"
)
_LABEL_STUDIO = r"^[0-9a-f]{8}-"
_NUMBERED_PERSON = (
    rf"(?i)(?:^|[^a-z])(?:{'|'.join(sorted(_PERSON_WORDS | _RECORDING_WORDS))})[^0-9a-z]*[0-9]+[^0-9a-z]*$"
)
_TOKEN = re.compile(r"[^\W_]+")
_LETTERS_AND_NUMBER = re.compile(r"([^\W\d_]+)(\d+)")

_CAMERA_COUNTER = 6  # digits from which a number after a single letter is that of a camera, as in P1010023
_MOST_DIGITS = 18  # of a number that fits into 64 bits
_TIME = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?:[ T_.-]*(?:at)?[ T_.-]+|T|(?<=\d{8}))"
    r"([01]?\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?:[-_.,]?(\d{1,6}))?(?:[\s\u202f]*([AaPp])\.?[Mm]\b\.?)?(?!\d)"
)
"""A date and a time, as cameras, phones and screenshots write them."""
_EPOCH = re.compile(r"(?<!\d)(1[4-9]\d{8})(?:\.?(\d{3}|\d{6}))?(?!\d)")
"""Seconds since 1970, from 2014 to 2033, with or without thousandths or millionths."""


class Groups(NamedTuple):
    """The group of each file."""

    video_name: pa.Array
    """large_string: the name of the group."""
    frame_id: Integers
    """int64: the number in the name, or the position in the group."""
    kind: str
    """One of `KINDS`."""
    notes: list[Note]
    """One says the kind, how many groups there are, and how to choose another kind."""


def group_files(
    paths: Sequence[str] | pa.Array, class_names: Sequence[str] | pa.Array, group_by: str | None = None
) -> Groups:
    """Group the files of one video or person, whatever their order.

    The kinds of groups, tried in this order for all files together:

    - ``folder``: the outermost folder that is neither that of the class nor one that tools make, such as ``train`` or
      ``images``: ``ok/anna/0001.jpg`` and ``anna/stop/day2/0007.jpg`` are of ``anna``. Half of the files must have one.
    - ``prefix``: the name before its last number, without the class, and without words such as ``img``, ``frame`` and
      ``left``: ``ok/anna_0001.jpg``, ``stop/anna (3).jpg``, ``user12_ok_3.jpg``. Half of the files must have one, and a
      quarter of them share it with another.
    - ``numbers``: names that count on in one folder, ``ok/0001-0057``. Where more than ten are missing another
      recording begins. With a date and a time in the names it begins after a pause, of a minute at least.
    - ``file``: each file is its own group, but for copies that Roboflow made of one picture.

    Files that do not fit the chosen kind are their own groups, which is noted.

    Parameters
    ----------
    paths
        Of the files, relative, each once.
    class_names
        The class of each.
    group_by
        One of `KINDS`; None: recognised.

    Returns
    -------
    Groups
        In the order of the paths. Names that differ in case, in Unicode form or in blanks at the ends are one group.

    Raises
    ------
    TableError
        If no file fits the kind that is asked for.

    Examples
    --------
    >>> found = group_files(["ok/anna_0001.jpg", "ok/anna_0002.jpg", "stop/ben-1.jpg"], ["ok", "ok", "stop"])
    >>> found.kind, found.video_name.to_pylist(), found.frame_id.tolist()
    ('prefix', ['anna', 'anna', 'ben'], [1, 2, 1])
    >>> found = group_files([f"ok/{number:04}.jpg" for number in (1, 2, 3, 101, 102)], ["ok"] * 5)
    >>> found.kind, found.video_name.to_pylist()[2:]
    ('numbers', ['ok/0001-0003', 'ok/0101-0102', 'ok/0101-0102'])
    >>> print(*found.notes)
    2 groups by numbers that run on in the file names; for others set data.group_by (the first: 'ok/0001-0003')
    """
    files = _Files(_as_texts(paths), _as_texts(class_names))
    kinds = KINDS if group_by is None else (group_by, "file")
    for kind in kinds:
        keys = _FINDERS[kind](files, group_by is not None)
        if keys is not None:
            break
    if group_by not in (None, kind):
        raise TableError(
            f"data.group_by = {group_by}: no file has {_EXPECTED[str(group_by)]}: they are such as "
            f"{format_names(files.first())}; {_REMEDY}, or leave group_by out"
        )
    assert keys is not None  # each file is its own group
    return _name_groups(files, keys, kind)


_EXPECTED = {
    "folder": "a folder beside that of its class",
    "prefix": "a prefix that says who is in it",
    "numbers": "a number that runs on",
}


class _Files:
    """Paths of files in parts, which are made when they are asked for."""

    def __init__(self, paths: pa.Array, class_names: pa.Array) -> None:
        self.paths = paths
        self.classes = class_names
        folders = pc.replace_substring_regex(paths, r"(?s)/?[^/]*$", "")
        self.folders: pa.Array = folders
        stems = pc.replace_substring_regex(pc.replace_substring_regex(paths, r"(?s)^.*/", ""), _ENDING, "")
        stems = pc.replace_substring_regex(stems, _ROBOFLOW, "")
        stems = pc.replace_substring_regex(stems, _EXPORTED, "")
        self.is_random: Flags = pc.match_substring_regex(stems, _RANDOM).to_numpy(zero_copy_only=False)
        restored = pc.replace_substring_regex(stems, _LABEL_STUDIO, "")
        self.stems: pa.Array = pc.if_else(pa.array(self.is_random), stems, restored)

    def __len__(self) -> int:
        return len(self.paths)

    def first(self) -> list[str]:
        """Return the first two paths in their own order."""
        return sorted(self.paths.to_pylist())[:2]

    def make_own_keys(self) -> pa.Array:
        """Return a key for each file that only copies of it share."""
        folders = pc.replace_substring_regex(self.folders, r"(?s)(.)$", r"\1/")
        return pc.binary_join_element_wise(folders, self.stems, pa.scalar("", pa.large_string()))


class _Keys(NamedTuple):
    """The name of the group of each file."""

    names: pa.Array
    """Null for files that do not fit: each is its own group."""
    frame_ids: NDArray[np.object_] | None = None
    """int or None: the number of each file, if it is not the last one in its name."""


# -- folders


def _group_by_folder(files: _Files, is_asked: bool) -> _Keys | None:
    pairs = pa.table({"folder": files.folders, "class": files.classes})
    codes, unique = _find_unique(pairs)
    folders = [[part for part in folder.split("/") if part] for folder in unique["folder"].to_pylist()]
    classes = list(map(simplify_name, unique["class"].to_pylist()))
    shared = _count_shared_parts(folders, classes)
    groups = [_find_person(parts[shared:], name) for parts, name in zip(folders, classes, strict=True)]
    names = pa.array(groups, pa.large_string()).take(pa.array(codes))
    return _Keys(names) if _fits(names, is_asked) else None


def _count_shared_parts(folders: Sequence[list[str]], simple_classes: Sequence[str]) -> int:
    """Return how many folders all files lie in, before that of a class: they are the data set's own."""
    first, last = min(folders, default=[]), max(folders, default=[])
    count = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    for parts, name in zip(folders, simple_classes, strict=True):
        count = next((k for k, part in enumerate(parts[:count]) if _is_class(part, name)), count)
    return count


def _find_person(parts: Sequence[str], simple_class: str) -> str | None:
    """Return the outermost folder that is neither the class nor part of a layout."""
    others = (part for part in parts if not _is_class(part, simple_class) and not names_split(part))
    return next((part for part in others if fold_name(part).casefold() not in LAYOUT), None)


def _is_class(folder: str, simple_class: str) -> bool:
    return simple_class in (simplify_name(folder), simplify_name(drop_hagrid_prefix(folder)))


# -- prefixes


def _group_by_prefix(files: _Files, is_asked: bool) -> _Keys | None:
    stems = pc.if_else(pa.array(files.is_random), "", _drop_last_number(files.stems))
    codes, unique = _find_unique(pa.table({"stem": stems, "class": files.classes}))
    stems, classes = unique["stem"].to_pylist(), unique["class"].to_pylist()
    prefixes = [_find_prefix(stem, name) for stem, name in zip(stems, classes, strict=True)]
    names = pa.array(prefixes, pa.large_string()).take(pa.array(codes))
    return _Keys(names) if _fits(names, is_asked) and (is_asked or _are_shared(names)) else None


def _are_shared(names: pa.Array) -> bool:
    """Whether enough files share their group with another."""
    counts = names.drop_null().to_pandas().map(_simplify_group).value_counts()
    return bool(counts[counts > 1].sum() >= _LEAST_SHARED * counts.sum())


def _drop_last_number(stems: pa.Array) -> pa.Array:
    """Shorten numbers that only count pictures, so that there are far fewer different names."""
    names_person = pc.match_substring_regex(stems, _NUMBERED_PERSON)
    return pc.if_else(names_person, stems, pc.replace_substring_regex(stems, r"(?s)([ _(.-])[0-9]+(\)?)$", r"\10\2"))


def _find_prefix(stem: str, class_name: str) -> str | None:
    """Return the part of a name that says who is in the picture; None if there is none."""
    if not stem:
        return None
    text = unicodedata.normalize("NFC", _EPOCH.sub(" ", _TIME.sub(" ", stem)))
    tokens = _drop_class(_TOKEN.findall(text), class_name)
    for position, token in enumerate(tokens):
        named = _find_numbered(tokens, position)
        if named is not None:
            return named
        if token.casefold() in _PERSON_WORDS and position + 1 < len(tokens) and tokens[position + 1].isdigit():
            return f"{token}_{tokens[position + 1]}"
    tokens = [token for token in tokens if not _is_camera_word(token)]
    is_counted = False
    while tokens and tokens[-1].isdigit():
        tokens.pop()
        is_counted = True
    if tokens and not is_counted and (found := _LETTERS_AND_NUMBER.fullmatch(tokens[-1])):
        tokens[-1] = found[1]
    tokens = _drop_class(tokens, class_name)
    while tokens and tokens[0].isdigit():
        del tokens[0]
    name = "_".join(tokens)
    # Codes such as 0001x01 are of a picture, not of a person.
    is_class = simplify_name(name) in _list_class_parts(class_name)
    return name if name[:1].isalpha() and not is_class else None


def _list_class_parts(class_name: str) -> set[str]:
    """Return the words of a class, and how those at its beginning are joined: ``thumbs``, ``up``, ``thumbsup``."""
    words = [simplify_name(word) for word in re.split(r"[\W_]+", class_name) if word]
    return {*words, *("".join(words[:count]) for count in range(1, len(words) + 1))}


def _find_numbered(tokens: Sequence[str], position: int) -> str | None:
    """Return the person, or the recording, that a word and a number name: ``user12``, or ``video_3`` before another."""
    found = _LETTERS_AND_NUMBER.fullmatch(tokens[position])
    word, number, after = tokens[position], "", position + 1
    if found:
        word, number = found[1], found[2]
    elif after < len(tokens) and tokens[after].isdigit():
        number, after = tokens[after], after + 1
    word = word.casefold()
    is_counter = len(word) == 1 and len(number) >= _CAMERA_COUNTER
    if word in _PERSON_WORDS and number and not is_counter and found:
        return tokens[position]
    if word in _RECORDING_WORDS and number and any(any(map(str.isdigit, token)) for token in tokens[after:]):
        return "_".join(tokens[position:after])
    return None


def _is_camera_word(token: str) -> bool:
    """Whether a word says nothing about who is in the picture, by itself or before a number."""
    word, number = token.casefold(), ""
    if found := _LETTERS_AND_NUMBER.fullmatch(token):
        word, number = found[1].casefold(), found[2]
    words = _CAMERA_WORDS | _RECORDING_WORDS | SPLITS
    return word in words or f"{word}{number}" in words or (len(word) == 1 and len(number) >= _CAMERA_COUNTER)


def _drop_class(tokens: list[str], class_name: str) -> list[str]:
    """Leave out the tokens that spell the class, also before a number, as in ``A3000`` of the class ``A``."""
    simple = simplify_name(class_name)
    for start in range(len(tokens)):
        text = ""
        for end in range(start, len(tokens)):
            text += tokens[end].casefold()
            if text == simple:
                return [*tokens[:start], *tokens[end + 1 :]]
            number = text.removeprefix(simple)
            if number != text and number.isdigit():
                return [*tokens[:start], number, *tokens[end + 1 :]]
            if len(text) > len(simple):
                break
    return tokens


# -- numbers


def _group_by_numbers(files: _Files, is_asked: bool) -> _Keys | None:
    return _group_by_times(files, is_asked) or _group_by_counters(files, is_asked)


def _group_by_times(files: _Files, is_asked: bool) -> _Keys | None:
    """Group files by the time at which they were taken: a pause begins another recording."""
    candidates = pc.match_substring_regex(files.stems, r"(?:^|[^0-9])(?:20[0-9]{2}|1[4-9][0-9]{8})")
    rows = np.flatnonzero(candidates.to_numpy(zero_copy_only=False) & ~files.is_random)
    stems = files.stems.take(pa.array(rows)).to_pylist()
    times = [_parse_time(stem) for stem in stems]
    is_known = np.array([time is not None for time in times], bool)
    if not is_known.any() or (not is_asked and is_known.sum() < _LEAST_SHARE * len(files)):
        return None
    rows = rows[is_known]
    seconds = np.array([time.seconds for time in times if time is not None], np.float64)
    begins = _find_pauses(seconds)
    order = np.argsort(seconds, kind="stable")
    recording = np.empty(len(rows), np.int64)
    recording[order] = np.cumsum(begins)
    # Of several files of one moment, the first by name: the order of the listing must not matter.
    texts = np.array([stem for stem, known in zip(stems, is_known.tolist(), strict=True) if known], object)
    firsts = pd.DataFrame({"recording": recording, "seconds": seconds, "text": texts})
    first = firsts.sort_values(["seconds", "text"]).groupby("recording")["text"].first()
    names = np.full(len(files), None, object)
    names[rows] = first.reindex(recording).to_numpy(object)
    ids = np.full(len(files), None, object)
    ids[rows] = [time.frame_id for time in times if time is not None]
    keys = _Keys(pa.array(names, pa.large_string()), ids)
    return keys if is_asked or _are_shared(keys.names) else None


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


def _find_pauses(seconds: Floats) -> Flags:
    """Return, for the sorted times, whether each begins a recording."""
    steps = np.diff(np.sort(seconds))
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    return np.concatenate([[True], steps > min(max(_PAUSE, _GAP * usual), _LONGEST_PAUSE)])


def _group_by_counters(files: _Files, is_asked: bool) -> _Keys | None:
    """Group files whose names count on: a gap begins another recording."""
    parts = pc.extract_regex(files.stems, r"(?s)^(?P<before>(?:.*[^0-9])?)(?P<number>[0-9]{1,18})(?P<after>[^0-9]*)$")
    is_counted = parts.is_valid().to_numpy(zero_copy_only=False) & ~files.is_random
    rows = np.flatnonzero(is_counted)
    if not len(rows) or (not is_asked and len(rows) < _LEAST_SHARE * len(files)):
        return None
    taken = pa.array(rows)
    found = parts.take(taken)
    texts = pc.struct_field(found, "number")
    series = pd.DataFrame(
        {
            "folder": files.folders.take(taken).to_pandas(),
            "before": pc.struct_field(found, "before").to_pandas(),
            "after": pc.struct_field(found, "after").to_pandas(),
            "text": texts.to_pandas(),
            "number": texts.cast(pa.int64()).to_numpy(),
        }
    )
    series["series"] = series.groupby(["folder", "before", "after"], sort=True).ngroup()
    series = series.sort_values(["series", "number", "text"])
    step = series.groupby("series")["number"].diff().to_numpy(np.float64)
    steps = step[step > 0]
    usual, share = _find_usual_step(steps)
    if not is_asked and share < _LEAST_SHARE:
        return None
    begins = np.isnan(step) | (step > _GAP * usual)
    series["recording"] = np.cumsum(begins)
    ends = series.groupby("recording").agg(
        folder=("folder", "first"),
        before=("before", "first"),
        after=("after", "first"),
        first=("text", "first"),
        last=("text", "last"),
    )
    folder = np.where(ends["folder"] == "", "", ends["folder"] + "/")
    numbers = ends["first"] + np.where(ends["first"] == ends["last"], "", "-" + ends["last"])
    name = folder + ends["before"] + numbers + ends["after"]
    names = np.full(len(files), None, object)
    names[rows[series.index.to_numpy()]] = name.reindex(series["recording"]).to_numpy(object)
    return _Keys(pa.array(names, pa.large_string()))


def _find_usual_step(steps: Floats) -> tuple[float, float]:
    """Return the most frequent step between successive numbers, the least of several, and its share of all."""
    if not len(steps):
        return 1.0, 0.0
    values, counts = np.unique(steps, return_counts=True)
    if counts.max() == 1 and values[0] > _GAP:  # too few to tell, and far apart
        return 1.0, 0.0
    return float(values[counts.argmax()]), float(counts.max() / len(steps))


# -- files


def _group_by_file(files: _Files, is_asked: bool) -> _Keys:
    return _Keys(pa.nulls(len(files), pa.large_string()))


_FINDERS = {
    "folder": _group_by_folder,
    "prefix": _group_by_prefix,
    "numbers": _group_by_numbers,
    "file": _group_by_file,
}


# -- names


def _fits(names: pa.Array, is_asked: bool) -> bool:
    count = len(names) - names.null_count
    return count > 0 and (is_asked or count >= _LEAST_SHARE * len(names))


def _name_groups(files: _Files, keys: _Keys, kind: str) -> Groups:
    own = files.make_own_keys()
    is_alone = keys.names.is_null().to_numpy(zero_copy_only=False)
    codes, names = _unite_spellings(pc.coalesce(keys.names, own), is_alone)
    video_name = pa.array(names, pa.large_string()).take(pa.array(codes))
    frame_id = _number_files(files, codes, keys.frame_ids)
    return Groups(video_name, frame_id, kind, _note_groups(files, names, is_alone, kind))


def _unite_spellings(names: pa.Array, is_alone: Flags) -> tuple[Integers, list[str]]:
    """Return the group of each file, and the name of each group: the first of its spellings in their order."""
    table = pa.table({"name": names, "alone": pa.array(is_alone)})
    codes, unique = _find_unique(table)
    spelled = unique["name"].to_pylist()
    # A file of its own keeps its spelling, and shares its name with no group of the others.
    keys = [
        (name if alone else _simplify_group(name), alone)
        for name, alone in zip(spelled, unique["alone"].to_pylist(), strict=True)
    ]
    spellings: dict[tuple[str, bool], str] = {}
    for name, key in zip(spelled, keys, strict=True):
        spellings[key] = min(name, spellings.get(key, name))
    taken = Counter(spellings.values())
    groups = {key: position for position, key in enumerate(sorted(spellings))}
    labels = [
        f"{spellings[key]} (file)" if key[1] and taken[spellings[key]] > 1 else fold_name(spellings[key])
        for key in groups
    ]
    return np.array([groups[key] for key in keys], np.int64)[codes], labels


def _simplify_group(name: str) -> str:
    return fold_name(name).casefold()


def number_files(paths: Sequence[str], groups: Sequence[str], numbers: Sequence[int] | None = None) -> Integers:
    """Return a number for each file that no other of its group has, whatever their order.

    Parameters
    ----------
    paths, groups
        Of the files.
    numbers
        Of each file, if it is known; None: the last one in its name.

    Returns
    -------
    Integers
        int64: the numbers, in groups in which all files have one and none repeats; in others the positions.

    Examples
    --------
    >>> number_files(["ok/7.jpg", "ok/9.jpg", "stop/x.jpg"], ["anna", "anna", "ben"]).tolist()
    [7, 9, 0]
    """
    codes, _ = pd.factorize(np.array(groups, object))
    files = _Files(_as_texts(paths), _as_texts(groups))
    return _number_files(files, codes, None if numbers is None else np.array(numbers, object))


def _number_files(files: _Files, codes: Integers, frame_ids: NDArray[np.object_] | None) -> Integers:
    """Return the number in each name where all names of a group have one and none repeats; else the position."""
    numbers = _read_numbers(files) if frame_ids is None else frame_ids
    known = np.array([number is not None for number in numbers.tolist()], bool)
    table = pd.DataFrame({"group": codes, "number": [n if n is not None else 0 for n in numbers.tolist()]})
    table["number"] = table["number"].astype("int64")
    is_repeated = table.duplicated(keep=False).to_numpy()
    table["usable"] = known & ~is_repeated
    is_numbered = table.groupby("group")["usable"].transform("all").to_numpy(bool)
    table["folder"] = files.folders.to_pandas().to_numpy(object)
    table["path"] = files.paths.to_pandas().to_numpy(object)
    ordered = table.sort_values(["group", "folder", "number", "path"])
    position = ordered.groupby("group").cumcount().sort_index().to_numpy(np.int64)
    return np.where(is_numbered, table["number"].to_numpy(), position)


def _read_numbers(files: _Files) -> NDArray[np.object_]:
    """Return the last number in the name of each file, as int; None where there is none."""
    found = pc.struct_field(
        pc.extract_regex(files.stems, rf"(?s)(?:^|[^0-9])(?P<number>[0-9]{{1,{_MOST_DIGITS}}})[^0-9]*$"), "number"
    )
    found = pc.if_else(pa.array(files.is_random), pa.scalar(None, found.type), found).cast(pa.int64())
    numbers = np.full(len(files), None, object)
    is_known = found.is_valid().to_numpy(zero_copy_only=False)
    numbers[is_known] = found.drop_null().to_pylist()
    return numbers


def _note_groups(files: _Files, names: Sequence[str], is_alone: Flags, kind: str) -> list[Note]:
    if not len(files):
        return []
    if kind == "file":
        why = "a split cannot know who is who, and may put one person into several parts"
        own = "its own group, since its name" if len(names) == 1 else "their own groups, since their names"
        be = "file is" if len(names) == 1 else "files are"
        says = "says" if len(names) == 1 else "say"
        text = f"{be} {own} {says} neither video nor person: {why}; {_REMEDY}, or set data.group_by"
        return [Note(NO_GROUPS, len(names), text, names[0] if names else None)]
    by = f"by {_TITLES[kind]}; for others set data.group_by"
    grouped = sorted(set(names) - set(_list_alone(files, is_alone)))
    alone = sorted(files.paths.filter(pa.array(is_alone)).to_pylist())
    one = f"file has {_EXPECTED[kind].replace('a ', 'no ', 1)}, and is its own group"
    many = f"files have {_EXPECTED[kind].replace('a ', 'no ', 1)}, and are their own groups"
    return [
        *note_found("groups", grouped, f"group {by}", f"groups {by}"),
        *note_found("ungrouped", alone, one, many),
    ]


def _list_alone(files: _Files, is_alone: Flags) -> list[str]:
    names: list[str] = files.make_own_keys().filter(pa.array(is_alone)).to_pylist()
    return names


# -- tables


def _as_texts(values: Sequence[str] | pa.Array) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(pa.large_string())
    return pa.array(values, pa.large_string())


def _find_unique(table: pa.Table) -> tuple[Integers, pa.Table]:
    """Return for each row the position of its values among the unique ones, and these."""
    codes = np.zeros(table.num_rows, np.int64)
    for column in table.column_names:
        indices = table[column].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        codes = codes * (indices.max(initial=0) + 1) + indices
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return inverse.astype(np.int64), table.take(pa.array(first))
