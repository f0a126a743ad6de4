"""HaGRID's annotations as labels: a folder of ``<class>.json`` files with the boxes of the hands."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.labels.annotations import combine_hashes
from detectime.labels.columns import add_listing, number_classes, set_attrs
from detectime.labels.hagrid_keys import match_images
from detectime.labels.hagrid_records import (
    BOX_FAULTS,
    IN_PIXELS,
    Fault,
    Faults,
    Floats,
    convert_boxes,
    find_fault,
    find_list_fault,
    is_record,
    load_records,
    read_size,
    read_user,
)
from detectime.labels.tables import TableError, format_names
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import TRUTH, TRUTH_SIZE
from detectime.sources.listing import Listing
from detectime.storage import urls

EXPORT_MARK = b'"detectime":'
"""Key of the records in files that `exports.hagrid_json` wrote."""

_RECORDS_MARK = b'"bboxes"'
_FIRST_BYTES = 4096  # of a file, in which its first record begins
_FIRST_RECORDS = 2**16  # bytes of a file, in which a record has boxes
_NO_GESTURE = "no_gesture"  # HaGRID's name of other hands in a picture
_MAX_SHOWN = 3  # names that a message lists
_NUMBERS = frozenset([int, float])


def read_annotations(
    annotations: str | os.PathLike[str], listing: Listing, classes: Mapping[str, str], labels: Mapping[str, int]
) -> pd.DataFrame:
    """Read HaGRID's annotations (version 1, version 2 or the 512 px edition) into a frame table.

    Images are found by name, which is unique, anywhere below the images folder; a key may also be a path, or end as
    images do: see `hagrid_keys.match_images`. If several have the same name, the one in a folder of its class
    (``<class>`` or ``train_val_<class>``) is taken. Of several records of an image that agree about class and person,
    the first is used, also if their boxes differ.

    Parameters
    ----------
    annotations
        A folder with ``<class>.json`` files, or with such folders (``train``, ``val``, ``test``), or one such file. A
        record has `user_id`, `labels`, and `bboxes`, each ``[x, y, width, height]`` as fractions of the image's size;
        it may have `width` and `height` of the image, and then boxes in pixels. Records that cannot be used are left
        out and noted by reason.
    listing
        The files of the source.
    classes
        HaGRID's class names, and the class name of the vocabulary for each. Classes that are not among them, or whose
        name is not in the vocabulary, are left out.
    labels
        The vocabulary: the number of each class.

    Returns
    -------
    DataFrame
        One row per image, ordered by file and then as in the file: `frame_path`, ``<class>/<image>.jpg`` if the source
        does not have the image; `video_name`, the person; `frame_id` (int64), a number per person, from 0;
        `class_name`, of the vocabulary; `schema.TRUTH`, the boxes of the hands that show the class, as JSON text:
        ``[[x1, y1, x2, y2], …]`` as fractions of the image's size, clipped to the image; `schema.TRUTH_SIZE`, if a
        record states a size; `on_disk`, `stamp` and
        `label`, as in `frames_csv.read_frames_csv`. ``attrs`` are described in `columns.set_attrs`: `labels_sha256` is
        what `hash_annotations` returns, `first_duplicate` an image.

    Raises
    ------
    TableError
        If no wanted class has a file, a file is something else, no record can be used, boxes are corners or percent, an
        image has records that differ in class or person, or several images of one name could be meant.

    Examples
    --------
    >>> import json, tempfile
    >>> record = {"user_id": "ann", "labels": ["peace"], "bboxes": [[0.25, 0.5, 0.25, 0.25]]}
    >>> listing = Listing(pa.array([b"train/peace/7f3a.jpg"]), pa.array(["1"]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "peace.json").write_text(json.dumps({"7f3a": record}))
    ...     table = read_annotations(folder, listing, {"peace": "victory"}, {"victory": 2})
    >>> table.loc[0, ["frame_path", "video_name", "class_name", TRUTH]].tolist()
    ['train/peace/7f3a.jpg', 'ann', 'victory', '[[0.25, 0.5, 0.5, 0.75]]']
    """
    files = _list_files(annotations)
    wanted = _choose_classes(files, classes, labels)
    chosen = [file for file in files if file.stem in wanted]
    if not chosen:
        raise TableError(_explain_absence(annotations, files, list(wanted)))
    findings = _Findings()
    records = pa.concat_tables([_read_class(file, annotations, findings) for file in chosen]).unify_dictionaries()
    if not records.num_rows:
        raise TableError(f"{annotations}: {findings.explain()}")
    matches = match_images(records, listing, annotations)
    findings.names["shortened"] = matches.shortened.to_pylist()
    records = records.set_column(records.schema.get_field_index("image"), "image", matches.names)
    kept, repeated = _find_kept(records, matches.positions, annotations, findings)
    positions, paths = matches.positions, matches.paths
    if kept is not None:
        records, positions, paths = records.filter(kept), positions.filter(kept), paths.filter(kept)
    del matches
    pa.default_memory_pool().release_unused()  # Arrow keeps freed memory; here that is more than the table
    table = _build_table(records, paths, wanted)
    add_listing(table, listing, positions)
    present = {file.stem for file in files}
    notes = [*findings.list_notes(), *_note_classes(sorted(set(wanted) - present), sorted(present - set(wanted)))]
    set_attrs(table, listing, positions, combine_hashes(findings.hashes), repeated, notes)
    return number_classes(table, labels)


def has_class_files(annotations: str | os.PathLike[str], classes: Mapping[str, str], labels: Iterable[str]) -> bool:
    """Whether a file or folder is meant as HaGRID's annotations by the names of its files, whatever is in them.

    Parameters
    ----------
    annotations, classes, labels
        As those of `read_annotations`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ok.json").write_text("")
    ...     has_class_files(folder, {"ok": "ok"}, ["ok"]), has_class_files(folder, {"peace": "ok"}, ["ok"])
    (True, False)
    """
    wanted = _choose_classes((), classes, labels)
    return any(file.stem in wanted for file in _list_files(annotations))


def list_classes(annotations: str | os.PathLike[str]) -> list[str]:
    """Return HaGRID's own names of the classes that are annotated: those of the files that have records, sorted.

    Parameters
    ----------
    annotations
        As those of `read_annotations`.

    Raises
    ------
    TableError
        If there is no such file.

    Examples
    --------
    >>> import json, tempfile
    >>> record = {"user_id": "ann", "labels": ["peace"], "bboxes": [[0.25, 0.5, 0.25, 0.25]]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "peace.json").write_text(json.dumps({"7f3a": record}))
    ...     _ = Path(folder, "about.json").write_text("{}")
    ...     list_classes(folder)
    ['peace']
    """
    files = _list_files(annotations)
    found = sorted({file.stem for file in files if _has_mark(file, _RECORDS_MARK, _FIRST_RECORDS)})
    if not found:
        raise TableError(_explain_absence(annotations, files, ["<class>"]))
    return found


def hash_annotations(annotations: str | os.PathLike[str], classes: Mapping[str, str], labels: Iterable[str]) -> str:
    """Return the SHA-256, in hexadecimal, of the names and SHA-256 of all files that `read_annotations` reads.

    Parameters
    ----------
    annotations, classes, labels
        As those of `read_annotations`.

    Raises
    ------
    TableError
        If a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ok.json").write_text("{}")
    ...     hash_annotations(folder, {"ok": "ok"}, ["ok"])[:16]
    'e1c21030d91b48cd'
    """
    files = _list_files(annotations)
    wanted = _choose_classes(files, classes, labels)
    hashes = {}
    for file in files:
        if file.stem in wanted:
            hashes[_name_file(file, annotations)] = hashlib.sha256(_read_file(file)).hexdigest()
    return combine_hashes(hashes)


def _list_files(annotations: str | os.PathLike[str]) -> list[Path]:
    """Return the JSON files of a folder, or the file itself."""
    place = Path(annotations)
    return [place] if place.is_file() else sorted(place.rglob("*.json"))


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TableError(f"{file}: the annotations cannot be read: {urls.describe_error(error)}") from error


def _name_file(file: Path, annotations: str | os.PathLike[str]) -> str:
    return file.name if file == Path(annotations) else file.relative_to(annotations).as_posix()


def _choose_classes(files: Iterable[Path], classes: Mapping[str, str], labels: Iterable[str]) -> dict[str, str]:
    """Return the classes that are in the vocabulary: HaGRID's name of each, and the vocabulary's.

    An export of detectime has the names of the vocabulary.
    """
    vocabulary = set(labels)
    if any(_has_mark(file, EXPORT_MARK, _FIRST_BYTES) for file in files):
        return {name: name for name in labels}
    return {theirs: ours for theirs, ours in classes.items() if ours in vocabulary}


def _has_mark(file: Path, mark: bytes, count: int) -> bool:
    """Whether the first bytes of a file have a mark."""
    try:
        with file.open("rb") as opened:
            return mark in opened.read(count)
    except OSError:
        return False  # reading it will tell


def _explain_absence(annotations: str | os.PathLike[str], files: Sequence[Path], wanted: Sequence[str]) -> str:
    """Say what is there instead of a file per class, and what to do."""
    remedy = "set `labels` to the folder of HaGRID's annotations, or list its classes in data.hagrid_classes"
    looked_for = f"{annotations}: this folder of labels has no {'.json, '.join(wanted)}.json"
    if not wanted:
        looked_for = f"{annotations}: no class of data.hagrid_classes is in the section `labels`"
    if files:
        annotated = [file.stem for file in files if _has_mark(file, _RECORDS_MARK, _FIRST_RECORDS)]
        if annotated:
            return f"{looked_for}, but records of {_join_names(annotated)}, which are not wanted; {remedy}"
        return f"{looked_for}, but {_join_names([_name_file(file, annotations) for file in files])}; {remedy}"
    found = sorted(os.listdir(annotations)) if os.path.isdir(annotations) else []
    archives = [name for name in found if name.lower().endswith((".zip", ".gz", ".tgz", ".tar", ".7z", ".rar"))]
    if archives:
        return f"{looked_for}, but the archive {_join_names(archives)}; unpack it"
    return f"{looked_for}: {f'it holds {_join_names(found)} and no .json file' if found else 'it is empty'}; {remedy}"


def _join_names(names: Sequence[str]) -> str:
    more = len(names) - _MAX_SHOWN
    return ", ".join(names[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _note_classes(absent: Sequence[str], unmapped: Sequence[str]) -> list[Note]:
    """Note which wanted classes have no file, and which files are not read."""
    why = "left out, since data.hagrid_classes maps"
    return [
        *note_found("absent_class", absent, "wanted class has no file", "wanted classes have no file"),
        *note_found("other_class", unmapped, f"class is {why} it to no label", f"classes are {why} them to no label"),
    ]


_TEXTS = {
    "clipped": ("image has", "images have", "a box that extends past the edge; it is clipped"),
    "without_box": ("image has", "images have", "no box of the class; the sample is not scored"),
    "other_label": ("record has", "records have", "labels of other classes alone; the class is that of the file"),
    "without_records": ("file of a class has", "files of classes have", "no records"),
    "pixels": ("file has", "files have", IN_PIXELS),
    "numbered": ("record has", "records have", "a number as user_id, which is taken as text"),
    "twice": ("image is", "images are", "in the same file more than once; the last record is used"),
    "shortened": ("key is", "keys are", "a path, or with an ending, and taken for the image of that name"),
}
"""Of the note about each kind of finding: for one, for several, and what is said of them."""


class _Findings:
    """What is to be told.

    Attributes
    ----------
    faults
        Of the records that are left out.
    names
        What was found of each kind in `_TEXTS`: records as ``<class>/<image>``, or files.
    hashes
        The SHA-256 of each file that was read.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.names: dict[str, list[str]] = {kind: [] for kind in _TEXTS}
        self.editions: list[Note] = []
        self.hashes: dict[str, str] = {}

    def explain(self) -> str:
        """Say why there is no record that can be used."""
        if len(self.faults):
            return self.faults.explain()
        files = _join_names(self.names["without_records"])
        return f"none of the records can be used: there are none in {files}; provide files with records"

    def list_notes(self) -> list[Note]:
        """Return a note for each kind of finding."""
        notes = self.faults.list_notes()
        for kind, (one, many, what) in _TEXTS.items():
            notes += note_found(kind, self.names[kind], f"{one} {what}", f"{many} {what}")
        return notes + self.editions


class _RecordParser:
    """Keeps the user and the boxes of each record as it is decoded.

    Parameters
    ----------
    label
        Of the boxes to keep.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self.users: list[str] = []
        self.boxes = array("d")
        self.counts = array("q")
        self.sizes = array("d")
        self.numbered: set[int] = set()
        self.others: set[int] = set()

    def parse(self, pairs: dict[str, Any]) -> Any:
        """Return the number of a record in a tuple, or what is wrong with it; another object as it is."""
        if not is_record(pairs):
            return pairs
        user = pairs.get("user_id")
        # An export may hold a run's video that is called by a blank.
        if type(user) is not str or not user or (user.isspace() and "detectime" not in pairs):
            number, user = user, read_user(user)
            if isinstance(user, Fault):
                return user
            if not isinstance(number, str):
                self.numbered.add(len(self.users))
        labels, boxes = pairs.get("labels"), pairs.get("bboxes")
        fault = find_list_fault(labels, boxes)
        if fault is not None:
            return fault
        numbers: list[float] = []
        for label, box in zip(labels, boxes, strict=True):  # type: ignore[arg-type]
            if label == self._label:
                numbers += box
        if not _NUMBERS.issuperset(map(type, numbers)):
            return Fault.BOX_KIND
        try:
            self.boxes += array("d", numbers)
        except OverflowError:  # a whole number of 400 digits
            return Fault.NOT_FINITE
        if not numbers and any(label != _NO_GESTURE for label in labels):  # type: ignore[union-attr]
            self.others.add(len(self.users))
        self.counts.append(len(numbers) // 4)
        self.sizes.extend(read_size(pairs))
        self.users.append(user)
        return (len(self.users) - 1,)


def _read_class(file: Path, annotations: str | os.PathLike[str], findings: _Findings) -> pa.Table:
    """Read the records of one class: `image`, `user`, `truth`, `size` (text), `class` and `file` (dictionary)."""
    name, parser = file.stem, _RecordParser(file.stem)
    content = _read_file(file)
    findings.hashes[_name_file(file, annotations)] = hashlib.sha256(content).hexdigest()
    records, repeated = load_records(content, file, parser.parse)
    del content
    found = findings.names
    found["twice"] += [f"{name}/{image}" for image in repeated]
    if not records:
        found["without_records"].append(_name_file(file, annotations))
    counts, sizes = np.array(parser.counts, np.int64), np.array(parser.sizes, np.float64).reshape(-1, 2)
    boxes = convert_boxes(np.array(parser.boxes, np.float64).reshape(-1, 4), np.repeat(sizes, counts, axis=0), file)
    ends = np.cumsum(counts)
    owners = np.repeat(np.arange(len(counts)), counts)
    wrong = np.flatnonzero(boxes.faults)[::-1]  # of several in a record, the first counts
    faults = dict(zip(owners[wrong].tolist(), boxes.faults[wrong].tolist(), strict=True))
    clipped = set(owners[boxes.is_clipped].tolist())
    images, rows = [], []
    for image, record in records.items():
        row = record[0] if type(record) is tuple else -1
        fault = find_fault(record) if row < 0 else BOX_FAULTS[faults.get(row, 0)] if image else Fault.NO_NAME
        if fault is None and not (_is_text(image) and _is_text(parser.users[row])):
            fault = Fault.HALF_CHARACTER
        if fault is not None:
            findings.faults.add(fault, f"{name}/{image}")
            continue
        if row in clipped:
            found["clipped"].append(f"{name}/{image}")
        if row in parser.numbered:
            found["numbered"].append(f"{name}/{image}")
        if row in parser.others:
            found["other_label"].append(f"{name}/{image}")
        images.append(image)
        rows.append(row)
    if boxes.are_pixels and counts[rows].any():
        found["pixels"].append(_name_file(file, annotations))
    found["without_box"] += [f"{name}/{image}" for image, row in zip(images, rows, strict=True) if not counts[row]]
    texts = {
        "image": images,
        "user": [parser.users[row] for row in rows],
        "truth": _format_boxes(np.clip(boxes.corners, 0.0, 1.0) + 0.0, ends - counts, ends, rows),
        "size": _format_sizes(sizes, rows),
    }
    columns = {key: pa.array(values, pa.large_string()) for key, values in texts.items()}
    same = {"class": name, "file": _name_file(file, annotations)}
    codes = pa.array(np.zeros(len(rows), np.int32))
    return pa.table(columns | {key: pa.DictionaryArray.from_arrays(codes, [value]) for key, value in same.items()})


def _is_text(text: str) -> bool:
    """Whether text can be stored: JSON can hold halves of characters."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _format_boxes(corners: Floats, starts: NDArray[np.int64], ends: NDArray[np.int64], rows: list[int]) -> list[str]:
    """Return the boxes of each of some records as JSON text."""
    boxes = [f"[{x1:.8g}, {y1:.8g}, {x2:.8g}, {y2:.8g}]" for x1, y1, x2, y2 in corners.tolist()]
    spans = zip(starts[rows].tolist(), ends[rows].tolist(), strict=True)
    return [f"[{', '.join(boxes[start:end])}]" for start, end in spans]


def _format_sizes(sizes: Floats, rows: list[int]) -> list[str | None]:
    """Return the size of each image as text; None where it is not stated in whole pixels."""
    chosen = sizes[rows]
    is_whole = (chosen == np.floor(chosen)).all(axis=1)
    if not is_whole.any():
        return [None] * len(rows)
    return [f"{w:.0f}x{h:.0f}" if whole else None for (w, h), whole in zip(chosen.tolist(), is_whole, strict=True)]


def _find_kept(
    records: pa.Table, positions: pa.Array, annotations: str | os.PathLike[str], findings: _Findings
) -> tuple[pa.Array | None, Sequence[str] | pd.Series]:
    """Find the records that repeat no other of the same image; also return the images of those that do.

    Returns
    -------
    kept : Array or None
        bool: whether a record is kept; None: all are.
    repeated : sequence of str
        The images of the others.

    Raises
    ------
    TableError
        If records of one image differ in class or person.
    """
    known = positions.drop_null()
    if pc.count_distinct(records["image"]).as_py() == records.num_rows and len(pc.unique(known)) == len(known):
        return None, ()
    rows = records.to_pandas()
    names = pd.factorize(rows["image"])[0] + len(known) + 1
    is_listed = positions.is_valid().to_numpy(zero_copy_only=False)
    of_file = positions.fill_null(0).to_numpy()
    # An image that is listed is known by its place there: it may have keys of several forms.
    rows["place"] = np.where(is_listed, of_file, names + int(of_file.max(initial=0)))
    is_repeated = rows.duplicated(["place", "user", "class"]).to_numpy()
    first = rows[~is_repeated]
    ambiguous = first[first["place"].duplicated(keep=False)]
    if len(ambiguous):
        raise _make_conflict_error(ambiguous, annotations)
    repeated = rows[is_repeated]
    findings.editions = _note_editions(first.set_index("place").loc[repeated["place"]], repeated)
    return pa.array(~is_repeated), repeated["image"]


def _make_conflict_error(ambiguous: pd.DataFrame, annotations: str | os.PathLike[str]) -> TableError:
    images = ambiguous.drop_duplicates("place")
    example = ambiguous[ambiguous["place"] == images["place"].iloc[0]]
    said = [
        f"{file}: user_id {shorten_text(user)}" for file, user in zip(example["file"], example["user"], strict=True)
    ]
    have = "1 image has" if len(images) == 1 else f"{len(images):,} images have"
    return TableError(
        f"{annotations}: {have} several records that differ in class or user_id: "
        f"{format_names(images['image'].tolist())}; keep one record of each (those of the first: "
        f"{'; '.join(said[:_MAX_SHOWN])})"
    )


def _note_editions(first: pd.DataFrame, repeated: pd.DataFrame) -> list[Note]:
    """Note records that repeat another with other boxes or another size of the image."""
    differ = (first["truth"].to_numpy() != repeated["truth"].to_numpy()) | (
        first["size"].fillna("").to_numpy() != repeated["size"].fillna("").to_numpy()
    )
    if not differ.any():
        return []
    used, other = str(first["file"][differ].iloc[0]), str(repeated["file"][differ].iloc[0])
    what = "other boxes, or another size, in a second record"
    place = f"the record of {used} is used, not that of {other}; to use that, take {used} out of the folder of labels"
    if used == other:
        place = f"the first record of {used} is used"
    images = repeated["image"][differ].tolist()
    return note_found("editions", images, f"image has {what}: {place}", f"images have {what}: of the first, {place}")


def _build_table(records: pa.Table, paths: pa.Array, classes: Mapping[str, str]) -> pd.DataFrame:
    """Build the columns of the frame table that do not depend on the source, and `frame_path`."""
    names = records["class"].combine_chunks()
    ours = pa.array([classes[theirs] for theirs in names.dictionary.to_pylist()], pa.large_string())
    table: pd.DataFrame = pa.table(
        {
            "frame_path": pc.coalesce(paths, _build_default_paths(records)) if paths.null_count else paths,
            "video_name": records["user"],
            "frame_id": _number_images(records["user"]),
            "class_name": ours.take(names.indices),
            TRUTH: records["truth"],
            **({TRUTH_SIZE: records["size"]} if records["size"].null_count < len(records) else {}),
        }
    ).to_pandas()
    return table


def _build_default_paths(records: pa.Table) -> pa.ChunkedArray:
    """Return the paths of images in HaGRID's own folders."""
    folders, images = records["class"].cast(pa.string()), records["image"].cast(pa.string())
    return pc.binary_join_element_wise(folders, "/", images, ".jpg", "")


def _number_images(users: pa.ChunkedArray) -> pd.Series:
    """Count up from 0 in the rows of each user."""
    # Grouped by integers, since pandas would make a Python object of each text.
    codes = pd.Series(users.dictionary_encode().combine_chunks().indices.to_numpy())
    return codes.groupby(codes).cumcount()
