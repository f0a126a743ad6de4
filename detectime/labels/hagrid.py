"""HaGRID's annotations as labels: a folder of ``<class>.json`` files with the boxes of the hands."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.labels.columns import add_listing, number_classes, set_attrs
from detectime.labels.tables import TableError, format_names, hash_labels
from detectime.notes import Note, note_found
from detectime.schema import TRUTH, TRUTH_SIZE
from detectime.sources.listing import Listing
from detectime.storage import urls

EXPORT_MARK = b'"detectime":'
"""Key of the records in files that `exports.hagrid_json` wrote."""

_FIRST_BYTES = 4096  # of a file, in which its first record begins
_ROUNDING = 1e-6  # a box may extend this far past the image without counting as clipped
_STEM = r"(?s)^(?:.*/)?([^/]*?)(?:\.[^./]*)?$"
_FOLDER = r"(?s)^(?:.*/)?([^/]*)/[^/]*$"


def read_annotations(
    annotations: str | os.PathLike[str], listing: Listing, classes: Mapping[str, str], labels: Mapping[str, int]
) -> pd.DataFrame:
    """Read HaGRID's annotations (version 1, version 2 or the 512 px edition) into a frame table.

    Images are found by name, which is unique, anywhere below the images folder. If several have the same name, the one
    in a folder of its class (``<class>`` or ``train_val_<class>``) is taken.

    Parameters
    ----------
    annotations
        A folder with ``<class>.json`` files, or with such folders (``train``, ``val``, ``test``). A record has
        `user_id`, `labels`, and `bboxes`, each ``[x, y, width, height]`` as fractions of the image's size; it may
        have `width` and `height` of the image.
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
        If no wanted class has a file, a file is not JSON, an image has records that differ in class or person, or
        several images of one name could be meant.

    Examples
    --------
    >>> import tempfile
    >>> record = {"user_id": "ann", "labels": ["peace"], "bboxes": [[0.25, 0.5, 0.25, 0.25]]}
    >>> listing = Listing(pa.array([b"train/peace/7f3a.jpg"]), pa.array(["1"]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "peace.json").write_text(json.dumps({"7f3a": record}))
    ...     table = read_annotations(folder, listing, {"peace": "victory"}, {"victory": 2})
    >>> table.loc[0, ["frame_path", "video_name", "class_name", TRUTH]].tolist()
    ['train/peace/7f3a.jpg', 'ann', 'victory', '[[0.25, 0.5, 0.5, 0.75]]']
    """
    files = sorted(Path(annotations).rglob("*.json"))
    wanted = _choose_classes(files, classes, labels)
    chosen = [file for file in files if file.stem in wanted]
    if not chosen:
        raise TableError(
            f"{annotations}: this folder of labels has no {'.json, '.join(wanted)}.json; set `labels` to the folder of "
            "HaGRID's annotations, or list its classes in data.hagrid_classes"
        )
    findings = _Findings()
    records = pa.concat_tables([_read_class(file, annotations, findings) for file in chosen]).unify_dictionaries()
    if not records.num_rows:
        raise TableError(
            f"{annotations}: none of the records can be used; the first: {format_names(findings.malformed[:1])}"
        )
    records, repeated = _drop_repeated(records, annotations)
    positions, paths = _match_images(records, listing, annotations)
    pa.default_memory_pool().release_unused()  # Arrow keeps freed memory; here that is more than the table
    table = _build_table(records, paths, wanted)
    add_listing(table, listing, positions)
    present = {file.stem for file in files}
    notes = [*findings.list_notes(), *_note_classes(sorted(set(wanted) - present), sorted(present - set(wanted)))]
    set_attrs(table, listing, positions, _combine_hashes(findings.hashes), repeated, notes)
    return number_classes(table, labels)


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
    files = sorted(Path(annotations).rglob("*.json"))
    wanted = _choose_classes(files, classes, labels)
    hashes = {}
    for file in files:
        if file.stem in wanted:
            hashes[file.relative_to(annotations).as_posix()] = hash_labels(file)
    return _combine_hashes(hashes)


def _choose_classes(files: Iterable[Path], classes: Mapping[str, str], labels: Iterable[str]) -> dict[str, str]:
    """Return the classes that are in the vocabulary: HaGRID's name of each, and the vocabulary's.

    An export of detectime has the names of the vocabulary.
    """
    vocabulary = set(labels)
    if any(_is_export(file) for file in files):
        return {name: name for name in labels}
    return {theirs: ours for theirs, ours in classes.items() if ours in vocabulary}


def _is_export(file: Path) -> bool:
    """Whether `exports.hagrid_json` wrote a file: its records name the frame."""
    try:
        with file.open("rb") as opened:
            return EXPORT_MARK in opened.read(_FIRST_BYTES)
    except OSError:
        return False  # reading it will tell


def _combine_hashes(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _note_classes(absent: Sequence[str], unmapped: Sequence[str]) -> list[Note]:
    """Note which wanted classes have no file, and which files are not read."""
    why = "left out, since data.hagrid_classes maps"
    return [
        *note_found("absent_class", absent, "wanted class has no file", "wanted classes have no file"),
        *note_found("other_class", unmapped, f"class is {why} it to no label", f"classes are {why} them to no label"),
    ]


@dataclass
class _Findings:
    """Records with defects, as ``<class>/<image>``, and the SHA-256 of each file that was read."""

    malformed: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    without_box: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def list_notes(self) -> list[Note]:
        """Return a note for each kind of defect."""
        one, many = "record is malformed and left out", "records are malformed and left out"
        notes = note_found("malformed", self.malformed, one, many)
        one = "image has a box that extends past its edge; it is clipped"
        many = "images have a box that extends past their edge; it is clipped"
        notes += note_found("clipped", self.clipped, one, many)
        one = "image has no box of its class; its sample is not scored"
        many = "images have no box of their class; their samples are not scored"
        return notes + note_found("without_box", self.without_box, one, many)


def _read_class(file: Path, annotations: str | os.PathLike[str], findings: _Findings) -> pa.Table:
    """Read the records of one class: `image`, `user` and `truth` (text), and `class` (dictionary of text)."""
    name = file.stem
    images, users, truths, sizes = [], [], [], []
    for image, record in _load_records(file, annotations, findings).items():
        if not isinstance(record, _Record):
            findings.malformed.append(f"{name}/{image}")
            continue
        if record.is_clipped:
            findings.clipped.append(f"{name}/{image}")
        if record.truth == "[]":
            findings.without_box.append(f"{name}/{image}")
        images.append(image)
        users.append(record.user)
        truths.append(record.truth)
        sizes.append(record.size)
    classes = pa.DictionaryArray.from_arrays(pa.array([0] * len(images), pa.int32()), [name])
    texts = {"image": images, "user": users, "truth": truths, "size": sizes}
    return pa.table({**{key: pa.array(values, pa.large_string()) for key, values in texts.items()}, "class": classes})


def _load_records(file: Path, annotations: str | os.PathLike[str], findings: _Findings) -> dict[str, Any]:
    """Load the records of a file, by image; a malformed one is not a `_Record`."""
    try:
        content = file.read_bytes()
        findings.hashes[file.relative_to(annotations).as_posix()] = hashlib.sha256(content).hexdigest()
        # Parse each record as soon as it is decoded: there are a million, and most of their content is not kept.
        records = json.loads(content, object_hook=lambda pairs: _parse_record(pairs, file.stem))
    except OSError as error:
        raise TableError(f"{file}: the annotations cannot be read: {urls.describe_error(error)}") from error
    except (ValueError, RecursionError) as error:
        raise TableError(f"{file}: not valid JSON, perhaps cut off ({error}); download the file again") from error
    if not isinstance(records, dict):
        raise TableError(f"{file}: not annotations of HaGRID: the file must map each image to a record")
    return records


class _Record(NamedTuple):
    user: str
    truth: str
    is_clipped: bool
    size: str | None


def _parse_record(pairs: dict[str, Any], name: str) -> _Record | dict[str, Any] | None:
    """Parse a JSON object that may be a record of a class; None if it is malformed, unchanged if it is not a record."""
    if "user_id" not in pairs and "bboxes" not in pairs:
        return pairs
    try:
        user, labels, boxes = pairs["user_id"], pairs["labels"], pairs["bboxes"]
        if not user or not isinstance(user, str):
            return None
        corners, is_clipped = [], False
        for label, (x, y, width, height) in zip(labels, boxes, strict=True):
            if label == name:
                x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + width, 1.0), min(y + height, 1.0)
                if not (x1 < x2 and y1 < y2):  # outside the image, or NaN
                    return None
                corners.append(f"[{x1:.8g}, {y1:.8g}, {x2:.8g}, {y2:.8g}]")
                is_clipped = is_clipped or min(x, y) < -_ROUNDING or max(x + width, y + height) > 1 + _ROUNDING
        size = [pairs.get("width"), pairs.get("height")]
        stated = "x".join(map(str, size)) if all(isinstance(side, int) for side in size) else None
        return _Record(user, f"[{', '.join(corners)}]", is_clipped, stated)
    except (KeyError, TypeError, ValueError):
        return None


def _drop_repeated(
    records: pa.Table, annotations: str | os.PathLike[str]
) -> tuple[pa.Table, Sequence[str] | pd.Series]:
    """Drop records that appear again in another file; also return their images.

    Raises
    ------
    TableError
        If records of one image differ in class or person.
    """
    if pc.count_distinct(records["image"]).as_py() == records.num_rows:
        return records, ()
    rows = records.select(["image", "user", "class"]).to_pandas()
    is_repeated = rows.duplicated()
    images = rows.loc[~is_repeated, "image"]
    ambiguous = images[images.duplicated()]
    if len(ambiguous):
        raise TableError(
            f"{annotations}: {len(ambiguous)} images have several records with another class or user_id: "
            f"{format_names(ambiguous.tolist())}; keep one record of each"
        )
    return records.filter(pa.array(~is_repeated)), rows["image"][is_repeated]


def _match_images(
    records: pa.Table, listing: Listing, annotations: str | os.PathLike[str]
) -> tuple[pa.Array, pa.Array]:
    """Find the image of each record in the listing: its position (int32) and path, null where it is not listed."""
    images = records["image"].cast(pa.binary())
    stems = pc.replace_substring_regex(listing.names, _STEM, r"\1")
    positions = pa.array(np.arange(len(stems), dtype=np.int32))
    if pc.count_distinct(stems).as_py() < len(stems):
        is_annotated = pc.is_in(stems, value_set=images.combine_chunks())
        positions, stems = positions.filter(is_annotated), stems.filter(is_annotated)
        is_kept = _prefer_class_folders(listing.names.take(positions), stems, records, annotations)
        positions, stems = positions.filter(is_kept), stems.filter(is_kept)
    positions = positions.take(pc.index_in(images, value_set=stems).combine_chunks())
    del images, stems
    paths = listing.names.take(positions)
    try:
        return positions, paths.cast(pa.string())
    except pa.ArrowInvalid:  # a path that is not UTF-8 cannot be a frame_path
        paths = pa.array([_decode_path(path) for path in paths.to_pylist()], pa.string())
        return pc.if_else(paths.is_valid(), positions, pa.scalar(None, pa.int32())), paths


def _decode_path(path: bytes | None) -> str | None:
    try:
        return None if path is None else path.decode()
    except UnicodeDecodeError:
        return None


def _prefer_class_folders(
    names: pa.Array, stems: pa.Array, records: pa.Table, annotations: str | os.PathLike[str]
) -> pa.Array:
    """Choose, of several images with one name, the one in a folder of its class.

    Returns
    -------
    Array
        bool: which of the files are kept.

    Raises
    ------
    TableError
        If several are left.
    """
    files = pd.DataFrame({"name": names.to_pandas(), "stem": stems.to_pandas()})
    is_shared = files["stem"].duplicated(keep=False)
    class_of = records.select(["image", "class"]).to_pandas().set_index("image")["class"].astype(str)
    is_kept = ~is_shared
    folders = pc.replace_substring_regex(pa.array(files.loc[is_shared, "name"], pa.binary()), _FOLDER, r"\1")
    for row, stem, folder in zip(
        files.index[is_shared], files.loc[is_shared, "stem"], folders.to_pylist(), strict=True
    ):
        name = class_of[stem.decode()].encode()
        is_kept[row] = folder == name or folder.endswith(b"_" + name)
    is_kept |= ~files["stem"].isin(files.loc[is_kept, "stem"])  # none is in a folder of its class
    kept = files[is_kept]
    ambiguous = kept.loc[kept["stem"].duplicated(keep=False), "name"]
    if len(ambiguous):
        raise TableError(
            f"{annotations}: {len(ambiguous)} images share their name with another: "
            f"{format_names([os.fsdecode(name) for name in ambiguous.tolist()])}; set `images` to a folder with one "
            "edition of the data set"
        )
    return pa.array(is_kept)


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
