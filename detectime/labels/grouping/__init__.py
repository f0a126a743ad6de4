"""Which files are of one video or person, where the labels do not say: by their folders and names.

What is known is weak, so that in doubt files are put into one group: a group that is too large costs samples of a
split, one that is too small puts a person into two of its parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.boxes import Flags, Integers
from detectime.labels.class_names import simplify_name
from detectime.labels.grouping.files import Files, Keys, find_unique, fit_files, is_class, simplify_group
from detectime.labels.grouping.numbers import group_by_numbers, read_numbers
from detectime.labels.grouping.prefixes import group_by_prefix
from detectime.labels.layout import LAYOUT, SPLITS, is_numbered, is_recording, is_variant, names_split
from detectime.labels.tables import TableError, format_names
from detectime.notes import Note, note_found
from detectime.sources.names import fold_name

NO_GROUPS = "no_groups"
"""Kind of the note that says that nobody knows who is in the files, so that a split cannot know who is who."""

_REMEDY = "put the files of each person or video into a folder of their own below that of the class"
_CANNOT_KNOW = "a split cannot know who is who, and may put one person into several parts"
_SPLIT_WORD = rf"(?i)(?:^|[^a-z])(?P<split>{'|'.join(sorted(SPLITS))})(?:[^a-z]|$)"
_FEWEST_RECORDINGS = 2  # of a class by numbers alone, for its groups to say anything of who is in them


class Groups(NamedTuple):
    """The group of each file."""

    video_name: pa.Array
    """large_string: the name of the group."""
    frame_id: Integers
    """int64: the number in the name, or the position in the group."""
    kind: str
    """One of `KINDS`."""
    notes: list[Note]
    """They say the kind, how many groups there are, how to choose another kind, and whether nobody knows who is who."""


def group_files(
    paths: Sequence[str] | pa.Array,
    class_names: Sequence[str] | pa.Array,
    group_by: str | None = None,
    *,
    is_counted: bool = False,
) -> Groups:
    """Group the files of one video or person, whatever their order.

    The kinds of groups, tried in this order for all files together:

    - ``folder``: the outermost folder that is neither that of the class nor one that tools make, such as ``train`` or
      ``images``: ``ok/anna/0001.jpg`` and ``anna/stop/day2/0007.jpg`` are of ``anna``. Half of the files must have one.
    - ``prefix``: the name before its last number, without the class, and without words such as ``img``, ``frame`` and
      ``left``: ``ok/anna_0001.jpg``, ``stop/anna (3).jpg``, ``user12_ok_3.jpg``. Half of the files must have one, and a
      quarter of them share it with another.
    - ``numbers``: names that count on in one folder: ``ok/0001.jpg`` to ``ok/0057.jpg`` are of ``ok/0001``, the first
      of them. Where more than ten are missing another recording begins. With a date and a time in the names it begins
      after a pause, of a minute at least.
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
    is_counted
        Names that are numbers alone count the files of a set, so that these are no recordings, unless they are asked
        for.

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
    ('numbers', ['ok/0001', 'ok/0101', 'ok/0101'])
    >>> print(*found.notes)
    2 groups by numbers that run on in the file names; for others set data.group_by (the first: 'ok/0001')
    """
    files = Files(paths, class_names)
    kind, keys = "file", Keys(pa.nulls(len(files), pa.large_string()))
    kinds = list(_KINDS) if group_by is None else [group_by]
    if group_by is None and is_counted and pc.all(pc.match_substring_regex(files.stems, "^[0-9]+$")).as_py():
        kinds.remove("numbers")
    for name in kinds:
        found = _KINDS[name].find(files, group_by is not None) if name in _KINDS else None
        if found is not None:
            kind, keys = name, found
            break
    if group_by not in (None, kind):
        raise TableError(
            f"data.group_by = {group_by}: no file has a {_KINDS[str(group_by)].mark}: they are such as "
            f"{format_names(sorted(files.paths.to_pylist())[:2])}; {_REMEDY}, or leave group_by out"
        )
    return _name_groups(files, keys, kind)


def group_pictures(
    table: pd.DataFrame,
    stated: Sequence[str],
    numbers: Sequence[int | None],
    says: str,
    group_by: str | None = None,
    *,
    is_counted: bool = False,
) -> tuple[NDArray[np.object_], Integers, list[Note]]:
    """Group pictures of which some state their group, and the others as `group_files` does.

    Parameters
    ----------
    table
        One row per picture: `frame_path` and `class_name`.
    stated
        The group of each; empty where none is stated.
    numbers
        The number of each; None where none is stated.
    says
        What states them, for notes: ``the annotations state``.
    group_by, is_counted
        As those of `group_files`.

    Returns
    -------
    video_name, frame_id, notes
        The number is the stated one, or else that in the name, where all in a group have one and none repeats.

    Examples
    --------
    >>> table = pd.DataFrame({"frame_path": ["7.jpg", "8.jpg", "ben_1.jpg"], "class_name": "ok"})
    >>> groups, numbers, notes = group_pictures(table, ["anna", "anna", ""], [70, 71, None], "the annotations state")
    >>> groups.tolist(), numbers.tolist()
    (['anna', 'anna', 'ben_1'], [70, 71, 1])
    """
    paths, classes = (table[column].to_numpy(object) for column in ("frame_path", "class_name"))
    groups = np.array(stated, object)
    is_open = groups == ""
    files = Files(paths, classes)
    found_numbers = pd.Series(pd.array(read_numbers(files).to_pylist(), "Int64"))
    notes = note_found("groups", sorted(set(groups[~is_open])), f"group, as {says}", f"groups, as {says}")
    if is_open.any():
        found = group_files(paths[is_open], classes[is_open], group_by, is_counted=is_counted)
        groups[is_open] = found.video_name.to_pylist()
        found_numbers[is_open] = found.frame_id
        notes += found.notes
    known = pd.Series(pd.array(list(numbers), "Int64")).fillna(found_numbers)
    codes, _ = pd.factorize(groups)
    return groups, _number_files(files, codes, pa.array(known, pa.int64())), notes


# -- folders


def _group_by_folder(files: Files, is_asked: bool) -> Keys | None:
    codes, named = _list_named_folders(files)
    names = pa.array(_find_persons(named), pa.large_string()).take(pa.array(codes))
    return Keys(names) if fit_files(names, is_asked) else None


def _list_named_folders(files: Files) -> tuple[Integers, list[list[str]]]:
    """Return the folders that may say who is in them, outermost first; and for each file its position among these."""
    codes, unique = find_unique(pa.table({"folder": files.folders, "class": files.classes}))
    folders = [[part for part in folder.split("/") if part] for folder in unique["folder"].to_pylist()]
    classes = list(map(simplify_name, unique["class"].to_pylist()))
    shared = _count_shared_parts(folders, classes)
    return codes, [_list_named(parts[shared:], name) for parts, name in zip(folders, classes, strict=True)]


def _count_shared_parts(folders: Sequence[list[str]], simple_classes: Sequence[str]) -> int:
    """Return how many folders all files lie in, before that of a class: they are the data set's own."""
    first, last = min(folders, default=[]), max(folders, default=[])
    count = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    for parts, name in zip(folders, simple_classes, strict=True):
        count = next((k for k, part in enumerate(parts[:count]) if is_class(part, name)), count)
    return count


def _find_persons(named: Sequence[Sequence[str]]) -> list[str | None]:
    """Return the outermost of folders that may say who is in them; or that of a person in a recording.

    A recording is one of several, such as ``day1``, below which the same folders lie: ``day1/anna``, ``day2/anna``.
    """
    inside = {(parts[0], parts[1]) for parts in named if len(parts) > 1 and is_recording(parts[0])}
    counts = Counter(inner for _, inner in inside if not is_recording(inner))
    repeated = {inner for inner, count in counts.items() if count > 1}
    if 2 * len(repeated) < len(counts):
        counts.clear()
    return [
        parts[1] if len(parts) > 1 and parts[1] in counts and is_recording(parts[0]) else next(iter(parts), None)
        for parts in named
    ]


def _list_named(parts: Sequence[str], simple_class: str) -> list[str]:
    """Return the folders that are neither the class nor part of a layout, and no views."""
    others = (part for part in parts if not is_class(part, simple_class) and not names_split(part))
    return [part for part in others if fold_name(part).casefold() not in LAYOUT and not is_variant(part)]


class _Kind(NamedTuple):
    """How files are grouped by what is in their paths."""

    find: Callable[[Files, bool], Keys | None]
    """Takes the files, and whether the user asked for this kind; None: too few files fit."""
    title: str
    mark: str
    """What a file of a group has."""


_KINDS = {
    "folder": _Kind(_group_by_folder, "the folder below that of the class", "folder beside that of its class"),
    "prefix": _Kind(group_by_prefix, "the beginning of the file names", "prefix that says who is in it"),
    "numbers": _Kind(group_by_numbers, "numbers that run on in the file names", "number that runs on"),
}
KINDS = (*_KINDS, "file")
"""Values of `data.group_by`, in the order in which they are tried."""


# -- names


def _name_groups(files: Files, keys: Keys, kind: str) -> Groups:
    is_alone = keys.names.is_null().to_numpy(zero_copy_only=False)
    codes, names = _unite_spellings(pc.coalesce(keys.names, files.name_own()), is_alone)
    video_name = pa.array(names, pa.large_string()).take(pa.array(codes))
    notes = _note_groups(files, video_name, codes, is_alone, kind)
    return Groups(video_name, _number_files(files, codes, keys.frame_ids), kind, notes)


def _unite_spellings(names: pa.Array, is_alone: Flags) -> tuple[Integers, list[str]]:
    """Return the group of each file, and the name of each group: the first of its spellings in their order."""
    table = pa.table({"name": names, "alone": pa.array(is_alone)})
    codes, unique = find_unique(table)
    spelled = unique["name"].to_pylist()
    # A file of its own keeps its case, and shares its name with no group of the others.
    keys = [
        (fold_name(name) if alone else simplify_group(name), alone)
        for name, alone in zip(spelled, unique["alone"].to_pylist(), strict=True)
    ]
    spellings: dict[tuple[str, bool], str] = {}
    for name, key in zip(spelled, keys, strict=True):
        spellings[key] = min(name, spellings.get(key, name))
    shown = {key: fold_name(spelling) for key, spelling in spellings.items()}
    taken = Counter(shown.values())
    groups = {key: position for position, key in enumerate(sorted(spellings))}
    labels = [f"{shown[key]} (file)" if key[1] and taken[shown[key]] > 1 else shown[key] for key in groups]
    return np.array([groups[key] for key in keys], np.int64)[codes], labels


def _number_files(files: Files, codes: Integers, numbers: pa.Array | None) -> Integers:
    """Return the number of each file where all of a group have one and none repeats; else the position."""
    numbers = read_numbers(files) if numbers is None else numbers
    table = pd.DataFrame({"group": codes, "number": numbers.fill_null(0).to_numpy()})
    is_known = numbers.is_valid().to_numpy(zero_copy_only=False)
    table["usable"] = is_known & ~table.duplicated(keep=False).to_numpy()
    is_numbered = table.groupby("group")["usable"].transform("all").to_numpy(bool)
    table["folder"] = files.folders.to_pandas()
    table["path"] = files.paths.to_pandas()
    ordered = table.sort_values(["group", "folder", "number", "path"])
    position = ordered.groupby("group").cumcount().sort_index().to_numpy(np.int64)
    return np.where(is_numbered, table["number"].to_numpy(), position)


# -- notes


def _note_groups(files: Files, video_name: pa.Array, codes: Integers, is_alone: Flags, kind: str) -> list[Note]:
    if kind == "file":
        names = video_name.unique().to_pylist()
        one, many = "file is its own group, since its name says", "files are their own groups, since their names say"
        return _note_unknown(names, f"{one} neither video nor person", f"{many} neither video nor person")
    groups = sorted(video_name.filter(pa.array(~is_alone)).unique().to_pylist())
    alone = sorted(files.paths.filter(pa.array(is_alone)).to_pylist())
    by, mark = f"by {_KINDS[kind].title}; for others set data.group_by", _KINDS[kind].mark
    one, many = f"file has no {mark}, and is its own group", f"files have no {mark}, and are their own groups"
    notes = [
        *note_found("groups", groups, f"group {by}", f"groups {by}"),
        *note_found("ungrouped", alone, one, many),
    ]
    if kind == "folder":
        notes += _note_nested(files)
    if kind == "numbers" and _are_recordings_of_classes(files, codes):
        why = "grouped by numbers alone, about one recording per class, in each of which the same person may be"
        notes += _note_unknown(files.paths.to_pylist(), f"file is {why}", f"files are {why}")
    return notes


def _note_nested(files: Files) -> list[Note]:
    """Note folders that lie in several groups, as those of persons below places do."""
    _, named = _list_named_folders(files)
    groups = _find_persons(named)
    inside = {(group, part) for group, parts in zip(groups, named, strict=True) for part in parts if part not in groups}
    counts = Counter(part for _, part in inside if not (is_recording(part) or is_numbered(part)))
    why = "in several groups; if each is a person, put it above the folder of that group"
    found = sorted(part for part, count in counts.items() if count > 1)
    return note_found("nested", found, f"folder lies {why}", f"folders of one name each lie {why}")


def _note_unknown(found: Sequence[str], one: str, many: str) -> list[Note]:
    """Note that nobody knows who is in files."""
    end = f": {_CANNOT_KNOW}; {_REMEDY}, or set data.group_by"
    return note_found(NO_GROUPS, found, one + end, many + end)


def _are_recordings_of_classes(files: Files, codes: Integers) -> bool:
    """Whether most of several classes are one group each, which no other class shares, in their largest split part."""
    parts = pc.struct_field(pc.extract_regex(files.paths, _SPLIT_WORD), "split").fill_null("")
    table = pd.DataFrame({"class": files.classes.to_pandas(), "part": parts.to_pandas(), "group": codes})
    largest = table.value_counts(["class", "part"], sort=True).reset_index().drop_duplicates("class")
    is_shared = table.groupby("group")["class"].nunique() > 1
    pairs = table.drop_duplicates()
    groups = pairs.merge(largest[["class", "part"]]).groupby("class")["group"].nunique()
    alone = ~is_shared[pairs["group"]].groupby(pairs["class"].to_numpy()).any()
    lone = int((groups[alone[groups.index]] < _FEWEST_RECORDINGS).sum())
    return len(groups) > 1 and lone > len(groups) / 2
