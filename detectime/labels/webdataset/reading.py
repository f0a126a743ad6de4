"""The frame table of a WebDataset: class, group, number and boxes of each picture, as the members beside it say."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from detectime.labels.annotations import GROUP_KEYS, format_boxes
from detectime.labels.columns import add_listing, number_classes, set_attrs
from detectime.labels.grouping import NO_GROUPS, group_pictures
from detectime.labels.hagrid_records import BOX_FAULTS, convert_boxes
from detectime.labels.tables import TableError, format_names
from detectime.labels.webdataset.class_lists import ClassNumbers, find_class_list, list_class_files
from detectime.labels.webdataset.classes import Statement, learn_numbers, list_class_names, resolve_classes
from detectime.labels.webdataset.members import (
    CLASS_KEYS,
    MOST_FACTS_BYTES,
    Class,
    Facts,
    MemberError,
    parse_class,
    parse_facts,
)
from detectime.labels.webdataset.samples import Samples, find_samples
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import TRUTH, TRUTH_SIZE
from detectime.sources.contract import Source, UnreachableFrameError
from detectime.sources.file_kinds import is_archive_name
from detectime.sources.listing import Listing
from detectime.sources.videos import is_video

_NO_MEMBER = "neither .cls nor .json"
_NO_CLASS = f"no .cls, and a .json without {', '.join(CLASS_KEYS[:-1])} or {CLASS_KEYS[-1]}"
_SHOWN = 5  # reasons that a message lists
_FEWEST = 0.5  # of the pictures, which must have a class


def read_webdataset(
    source: Source, listing: Listing, labels: Mapping[str, int], group_by: str | None = None
) -> pd.DataFrame:
    """Read the classes of pictures from the members beside them.

    Parameters
    ----------
    source
        The pictures and their members: tar files, a folder, or a bucket. No picture is read.
    listing
        Its files.
    labels
        The vocabulary: the number of each class.
    group_by
        What pictures of one video or person have in common, where no ``.json`` says it: see `grouping.group_files`.

    Returns
    -------
    DataFrame
        One row per picture that has a class, ordered by path: `frame_path`; `video_name`, from the ``.json`` (see
        `annotations.GROUP_KEYS`) or from the path; `frame_id` (int64), from the ``.json`` or a number in the
        video; `class_name`; `schema.TRUTH` and `schema.TRUTH_SIZE`, if a ``.json`` has boxes, as in
        `hagrid.read_annotations`; `on_disk`, `stamp` and `label`, as in `frames_csv.read_frames_csv`. ``attrs`` are
        described in `columns.set_attrs`: `labels_sha256` is that of the names of all members and of the content of
        those that were read.

    Raises
    ------
    TableError
        If there is no sample, most have no class, a class is not a label, or a sample contradicts itself.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.sources import open_source
    >>> from detectime.sources.listing import list_source
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, content in {"7.jpg": b"", "7.cls": b"ok", "7.json": b'{"user_id": "ann"}'}.items():
    ...         _ = Path(folder, name).write_bytes(content)
    ...     source = open_source(folder)
    ...     table = read_webdataset(source, list_source(source), {"stop": 1, "ok": 4})
    >>> table[["frame_path", "video_name", "frame_id", "class_name", "label"]].to_numpy().tolist()
    [['7.jpg', 'ann', 7, 'ok', 4]]
    """
    samples = find_samples(listing)
    members = _read_members(source, listing, samples)
    statements = members.statements
    numbers = _find_numbers(source, listing, statements)
    table = pd.DataFrame({"frame_path": _make_column([statement.path for statement in statements])})
    table["class_name"] = _make_column(resolve_classes(statements, numbers, labels, source.root))
    stated, frame_ids = [about.group or "" for about in members.facts], [about.frame_id for about in members.facts]
    says = "the .json files state"
    # Not what follows: the picture of each sample may be called 0001.image.jpg.
    names = samples.names.take(pa.array(members.rows, pa.int64()))
    named = table.assign(frame_path=_make_column([f"{name}.jpg" for name in names.to_pylist()]))
    groups, ids, of_groups = group_pictures(named, stated, frame_ids, says, group_by, is_counted=True)
    table.insert(1, "video_name", _make_column(groups.tolist()))
    table.insert(2, "frame_id", ids)
    notes = [*_note_numbers(statements, numbers, labels), *map(_add_remedy, of_groups)]
    notes += _add_boxes(table, members, source.root)
    add_listing(table, listing, pa.array(samples.pictures[np.array(members.rows, np.int64)]))
    set_attrs(
        table,
        listing,
        pa.array(np.union1d(samples.named, list_class_files(listing)).astype(np.int32)),
        members.sha256,
        notes=[*notes, *members.notes, *samples.notes],
    )
    return number_classes(table, labels)


def list_classes(source: Source, listing: Listing) -> list[str]:
    """Return the names of the classes, sorted, where no vocabulary gives them numbers.

    Raises
    ------
    TableError
        If there is no sample, most have no class, or some have only a number and no file says what it stands for.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.sources import open_source
    >>> from detectime.sources.listing import list_source
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, content in {"7.jpg": b"", "7.cls": b"1", "classes.txt": b"fist, ok"}.items():
    ...         _ = Path(folder, name).write_bytes(content)
    ...     source = open_source(folder)
    ...     list_classes(source, list_source(source))
    ['ok']
    """
    statements = _read_members(source, listing, find_samples(listing)).statements
    return list_class_names(statements, _find_numbers(source, listing, statements), source.root)


class _Members(NamedTuple):
    """What the members of the samples that have a class say."""

    rows: list[int]
    """Of each sample, its place among all that have a picture."""
    statements: list[Statement]
    facts: list[Facts]
    sha256: str
    notes: list[Note]


def _read_members(source: Source, listing: Listing, samples: Samples) -> _Members:
    """Read the members of all samples that say something; refuse a set that has few classes.

    Raises
    ------
    TableError
        If most pictures have no class, or the source does not answer.
    SourceError
        If the source could not be listed.
    """
    if listing.error:
        raise listing.error
    if not len(samples.paths):
        raise TableError(_explain_no_samples(source.root, listing))
    said, facts, faults, sha256 = _parse_members(source, listing, samples)
    members = _Members([], [], [], sha256, [])
    lacking: dict[str, list[str]] = {}
    broken: dict[str, list[str]] = {}
    for row, path in enumerate(samples.paths.to_pylist()):
        about = facts.get(row, Facts())
        if row in said or about.class_name is not None:
            members.rows.append(row)
            members.statements.append(Statement(path, said.get(row), about.class_name, about.is_export))
            members.facts.append(about)
            if row in faults:
                broken.setdefault(faults[row], []).append(path)
        else:
            is_bare = samples.classes[row] < 0 and samples.facts[row] < 0
            lacking.setdefault(faults.get(row, _NO_MEMBER if is_bare else _NO_CLASS), []).append(path)
    if len(members.rows) < _FEWEST * len(samples.paths):
        raise TableError(_explain_no_classes(source.root, lacking, samples))
    members.notes.extend(_note_reasons("no_class", lacking, "{}, and is left out", "{}, and are left out"))
    members.notes.extend(_note_reasons("broken_member", broken, "{}; the other file is used", "{}; the other is used"))
    return members


def _parse_members(
    source: Source, listing: Listing, samples: Samples
) -> tuple[dict[int, Class], dict[int, Facts], dict[int, str], str]:
    """Return, by the row of the sample, the classes, the facts and what is wrong; and the SHA-256 of all content."""
    said: dict[int, Class] = {}
    facts: dict[int, Facts] = {}
    faults: dict[int, str] = {}
    positions = np.concatenate([samples.classes, samples.facts])
    order = np.argsort(positions, kind="stable")
    order = order[positions[order] >= 0]  # in the order of the listing, and so of most archives
    paths = map(os.fsdecode, listing.names.take(pa.array(positions[order])).to_pylist())
    digest = hashlib.sha256()
    for place, (path, content) in zip(order.tolist(), source.read_frames(paths, MOST_FACTS_BYTES), strict=True):
        row, is_class = place % len(samples.paths), place < len(samples.paths)
        if isinstance(content, UnreachableFrameError):
            raise TableError(f"{source.root}: {shorten_text(path)} {content}; try again, or set `labels` to a table")
        read = content if isinstance(content, bytes) else b""
        digest.update(os.fsencode(path) + b"\0" + len(read).to_bytes(8) + read)
        try:
            if not isinstance(content, bytes):
                raise MemberError(f"cannot be read: {content}")
            if is_class:
                said[row] = parse_class(content)
            else:
                facts[row] = parse_facts(content)
        except MemberError as error:
            faults[row] = f"a {'.cls' if is_class else '.json'} that {error}"
    return said, facts, faults, digest.hexdigest()


def _note_reasons(kind: str, found: Mapping[str, list[str]], one: str, many: str) -> list[Note]:
    notes = []
    for reason, paths in sorted(found.items()):
        notes += note_found(kind, paths, one.format(f"picture has {reason}"), many.format(f"pictures have {reason}"))
    return notes


def _add_remedy(note: Note) -> Note:
    """Say in the note that nobody knows who is in pictures how a WebDataset can say it."""
    text = f"{note.text}; or state it as {GROUP_KEYS[0]} in a .json"
    return dataclasses.replace(note, text=text) if note.kind == NO_GROUPS else note


def _explain_no_samples(root: str, listing: Listing) -> str:
    if not len(listing.names):
        return listing.unreachable or f"{root} lists nothing"
    first = sorted(map(os.fsdecode, listing.names.slice(0, 1000).to_pylist()))[:2]
    archives = [name for name in map(os.fsdecode, listing.names.to_pylist()) if is_archive_name(name)]
    if archives:
        remedy = "set `source_type: archives`"
        if all("/" in name for name in archives):
            remedy = "give one of their folders as `images`, or put them into one folder, with `source_type: archives`"
        return f"{root}: there are no pictures here, but archives, such as {shorten_text(min(archives))}; {remedy}"
    videos = list(filter(is_video, first))
    if videos:
        return (
            f"{root}: there are no pictures here, but videos, such as {shorten_text(videos[0])}; unpack them into a "
            "folder, and set `source_type: videos`, with `labels_type: folders` or a table of spans"
        )
    return (
        f"{root}: no file here is a picture by its ending, with a name before its first dot, such as 0001.jpg beside "
        f"0001.cls: there are {format_names(first)}; set another labels_type, or another place as `images`"
    )


def _explain_no_classes(root: str, lacking: Mapping[str, list[str]], samples: Samples) -> str:
    reasons = sorted(lacking.items(), key=lambda item: -len(item[1]))
    listed = [f"{len(paths):,} have {reason} (such as {shorten_text(paths[0])})" for reason, paths in reasons[:_SHOWN]]
    more = f"; and {len(reasons) - _SHOWN} more reasons" if len(reasons) > _SHOWN else ""
    caption = "; a .txt is a caption and no class" if samples.captions else ""
    count = sum(map(len, lacking.values()))
    return (
        f"{root}: {count:,} of {len(samples.paths):,} pictures have no class: {'; '.join(listed)}{more}{caption}; put "
        "the class into NAME.cls beside NAME.jpg, or into NAME.json as class_name; if folders are called as the "
        "classes, set `labels_type: folders`"
    )


# -- classes


def _find_numbers(source: Source, listing: Listing, statements: Sequence[Statement]) -> ClassNumbers | None:
    """Find out what numbers stand for, if there are any."""
    if not any(isinstance(value, int) for statement in statements for value in statement[1:3]):
        return None
    return find_class_list(source, listing) or learn_numbers(statements)


def _note_numbers(
    statements: Sequence[Statement], numbers: ClassNumbers | None, labels: Mapping[str, int]
) -> list[Note]:
    """Note what numbers were taken for, if there is nothing but numbers."""
    used = {
        value for _, said, about, _ in statements if about is None or isinstance(about, int) for value in (said, about)
    }
    names = numbers.names if numbers else {number: name for name, number in labels.items()}
    pairs = [f"{value} -> {names[value]}" for value in sorted(v for v in used if isinstance(v, int)) if value in names]
    of = f"of {numbers.origin}" if numbers else "of the section `labels`; if they are others, put a classes.txt there"
    return note_found("class_numbers", pairs, f"class is a number, {of}", f"classes are numbers, {of}")


# -- boxes


def _add_boxes(table: pd.DataFrame, members: _Members, root: str) -> list[Note]:
    """Add the columns of annotated boxes, if there are boxes that show the class of their picture."""
    rows: list[int] = []
    numbers: list[tuple[float, float, float, float]] = []
    without: list[str] = []
    for row, (about, name) in enumerate(zip(members.facts, table["class_name"].tolist(), strict=True)):
        said = {_simplify(value) for value in (*members.statements[row][1:3], name)} if about.boxes else set()
        shown = [box.numbers for box in about.boxes if box.label is None or _simplify(box.label) in said]
        rows += [row] * len(shown)
        numbers += shown
        if about.boxes and not shown:
            without.append(members.statements[row].path)
    one = "picture has no box of its class; its sample is not scored"
    notes = note_found("without_box", without, one, one.replace("picture has", "pictures have").replace("its", "their"))
    if not rows:
        return notes
    sizes = np.array([about.size for about in members.facts])
    found = convert_boxes(np.array(numbers, np.float64), sizes[rows], Path(root))
    is_usable = found.faults == 0
    corners = np.clip(found.corners, 0.0, 1.0) + 0.0  # no -0.0
    at = np.array(rows)
    texts = format_boxes(at[is_usable], corners[is_usable], len(table))
    table[TRUTH] = _make_column([None if text == "[]" else text for text in texts])
    shown_sizes = [_format_size(width, height) for width, height in sizes.tolist()]
    if any(shown_sizes):
        table[TRUTH_SIZE] = _make_column(shown_sizes)
    paths = table["frame_path"].to_numpy(object)
    clipped = list(dict.fromkeys(paths[at[is_usable & found.is_clipped]].tolist()))
    one, many = "picture has a box that extends past its edge; it is clipped", "pictures have a box that extends past"
    notes += note_found("clipped", clipped, one, f"{many} their edge; it is clipped")
    for fault in BOX_FAULTS[1:]:
        assert fault is not None
        boxes_of = paths[at[found.faults == BOX_FAULTS.index(fault)]].tolist()
        one, many = f"box is not used: {fault.reason}; {fault.remedy}", f"boxes are not used: {fault.reason}"
        notes += note_found("unused_box", boxes_of, one, f"{many}; {fault.remedy}")
    return notes


def _simplify(value: Class | None) -> str:
    return str(value).strip().casefold()


def _format_size(width: float, height: float) -> str | None:
    is_whole = math.isfinite(width) and math.isfinite(height) and width.is_integer() and height.is_integer()
    return f"{width:.0f}x{height:.0f}" if is_whole else None


def _make_column(values: Sequence[str | None]) -> pd.Series:
    column: pd.Series = pa.array(values, pa.large_string()).to_pandas()
    return column
