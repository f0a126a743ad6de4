"""HaGRID's annotations as labels: a folder of ``<class>.json``, with the boxes of the hands."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.labels.tables import TableError, count_repeated, hash_labels, list_some
from detectime.notes import Note, note_found
from detectime.schema import TRUTH
from detectime.sources.listing import Listing
from detectime.storage import urls

_ROUNDING = 1e-6  # by which a box may leave its image and be whole
_STEM = r"(?s)^(?:.*/)?([^/]*?)(?:\.[^./]*)?$"
_FOLDER = r"(?s)^(?:.*/)?([^/]*)/[^/]*$"


def read_annotations(
    annotations: str | os.PathLike[str], listing: Listing, classes: Mapping[str, str], labels: Iterable[str]
) -> pd.DataFrame:
    """Make a frame table of HaGRID's annotations, of its first or second version or the 512 px edition.

    Images are found by their names, which are unique, wherever they lie below the images folder; of several of one name
    the one in a folder of its class (``<class>`` or ``train_val_<class>``) is taken.

    Parameters
    ----------
    annotations
        A folder with ``<class>.json``, or with such folders (``train``, ``val``, ``test``). A record has `user_id`,
        `labels`, and `bboxes`, ``[x, y, width, height]`` in shares of the image.
    listing
        The files that the source has.
    classes
        HaGRID's name of each class that is taken, and ours.
    labels
        The vocabulary: a class of ours that is not in it is not taken.

    Returns
    -------
    DataFrame
        One row per image, in the order of the files by name and of the records in them: `frame_path`,
        ``<class>/<image>.jpg`` where there is none; `video_name`, the person; `frame_id` (int64), the image's ordinal
        among the person's; `class_name`, ours; `TRUTH`, the boxes of the hands that show the class, as text: JSON,
        ``[[x1, y1, x2, y2], …]`` in shares of the image and inside it; `on_disk` (bool) and `stamp` (text), and
        ``attrs``, as `labels.frame_table.read_frames_csv` has them. `labels_sha256` is what `hash_annotations` returns.

    Raises
    ------
    TableError
        If there is no file of a class that is taken, a file is no JSON, an image has records of two classes, or it is
        not clear which of several images of one name is meant.
    """
    taken = _taken(classes, labels)
    files = sorted(Path(annotations).rglob("*.json"))
    chosen = [file for file in files if file.stem in taken]
    if not chosen:
        raise TableError(
            f"{annotations}: there is no {'.json, '.join(taken)}.json in this folder of labels; give HaGRID's "
            "annotations, or name its classes in data.hagrid_classes"
        )
    found = _Found()
    table = pa.concat_tables([_part(file, annotations, found) for file in chosen]).unify_dictionaries()
    if not table.num_rows:
        raise TableError(f"{annotations}: not one record can be used; the first: {list_some(found.malformed[:1])}")
    table, repeated = _once(table, annotations)
    places, paths = _matched(table, listing, annotations)
    pa.default_memory_pool().release_unused()  # Arrow keeps what is free; here that is more than the table
    kinds = table["class"].combine_chunks()
    ours = pa.array([taken[theirs] for theirs in kinds.dictionary.to_pylist()], pa.large_string())
    frames: pd.DataFrame = pa.table(
        {
            "frame_path": pc.coalesce(paths, _usual(table)) if paths.null_count else paths,
            "video_name": table["user"],
            "frame_id": _ordinals(table["user"]),
            "class_name": ours.take(kinds.indices),
            TRUTH: table["truth"],
            "on_disk": paths.is_valid(),
            "stamp": listing.stamps.take(places),
        }
    ).to_pandas()
    others = sorted({file.stem for file in files} - set(taken))
    absent = sorted(set(taken) - {file.stem for file in files})
    frames.attrs = {
        **repeated,
        **listing.count_unlisted(places),
        "labels_sha256": _combine_hashes(found.hashes),
        "unreachable": listing.unreachable,
        "notes": [*found.notes(), *_note_classes(absent, others), *listing.notes],
    }
    return frames


def hash_annotations(annotations: str | os.PathLike[str], classes: Mapping[str, str], labels: Iterable[str]) -> str:
    """Return the SHA-256, in hexadecimal, of the sorted names and SHA-256 of the files that `read_annotations` reads.

    Parameters
    ----------
    annotations, classes, labels
        As those of `read_annotations`.

    Raises
    ------
    TableError
        If a file cannot be read.
    """
    taken = _taken(classes, labels)
    hashes = {}
    for file in Path(annotations).rglob("*.json"):
        if file.stem in taken:
            hashes[file.relative_to(annotations).as_posix()] = hash_labels(file)
    return _combine_hashes(hashes)


def _taken(classes: Mapping[str, str], labels: Iterable[str]) -> dict[str, str]:
    """Return HaGRID's name of each class that is taken, and ours."""
    vocabulary = set(labels)
    return {theirs: ours for theirs, ours in classes.items() if ours in vocabulary}


def _combine_hashes(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _note_classes(absent: Sequence[str], others: Sequence[str]) -> list[Note]:
    why = "left out, since data.hagrid_classes has no class of labels for"
    return [
        *note_found(
            "absent_class", absent, "class is to be taken and has no file", "classes are to be taken and have no file"
        ),
        *note_found("other_class", others, f"class is {why} it", f"classes are {why} them"),
    ]


def _ordinals(users: pa.ChunkedArray) -> pd.Series:
    """Count each user's rows; by numbers, since pandas makes an object of each text."""
    numbers = pd.Series(users.dictionary_encode().combine_chunks().indices.to_numpy())
    return numbers.groupby(numbers).cumcount()


@dataclass
class _Found:
    """Images that are not as they should be, and the SHA-256 of each file."""

    malformed: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[Note]:
        """Return a note of each kind."""
        one, many = "record cannot be used and is left out", "records cannot be used and are left out"
        notes = note_found("malformed", self.malformed, one, many)
        one, many = "image has a box that leaves it; it is clipped", "images have a box that leaves them; it is clipped"
        notes += note_found("clipped", self.clipped, one, many)
        one = "image has no box of its class; its sample is not scored"
        many = "images have no box of their class; their samples are not scored"
        return notes + note_found("without_box", self.without, one, many)


def _part(file: Path, annotations: str | os.PathLike[str], found: _Found) -> pa.Table:
    """Read the records of one class."""
    theirs = file.stem
    try:
        content = file.read_bytes()
        found.hashes[file.relative_to(annotations).as_posix()] = hashlib.sha256(content).hexdigest()
        # Each record is read as soon as it is there: a set has a million, and what else is in them is not kept.
        records = json.loads(content, object_hook=lambda pairs: _read(pairs, theirs))
    except OSError as error:
        raise TableError(f"{file}: the annotations cannot be read: {urls.describe_error(error)}") from error
    except (ValueError, RecursionError) as error:
        raise TableError(f"{file}: this is no whole JSON file ({error}); fetch it again") from error
    if not isinstance(records, dict):
        raise TableError(f"{file}: these are no annotations of HaGRID: a record for each image is needed")
    images, users, truths = [], [], []
    for image, record in records.items():
        if not isinstance(record, _Record):
            found.malformed.append(f"{theirs}/{image}")
            continue
        if record.clipped:
            found.clipped.append(f"{theirs}/{image}")
        if record.truth == "[]":
            found.without.append(f"{theirs}/{image}")
        images.append(image)
        users.append(record.user)
        truths.append(record.truth)
    classes = pa.DictionaryArray.from_arrays(pa.array([0] * len(images), pa.int32()), [theirs])
    texts = {"image": images, "user": users, "truth": truths}
    return pa.table({**{key: pa.array(values, pa.large_string()) for key, values in texts.items()}, "class": classes})


class _Record(NamedTuple):
    user: str
    truth: str
    clipped: bool


def _read(pairs: dict[str, Any], theirs: str) -> _Record | dict[str, Any] | None:
    """Read what may be a record: None if it is a wrong one, and what it was if it is none."""
    if "user_id" not in pairs and "bboxes" not in pairs:
        return pairs
    try:
        user, labels, boxes = pairs["user_id"], pairs["labels"], pairs["bboxes"]
        if not user or not isinstance(user, str):
            return None
        corners, clipped = [], False
        for label, (x, y, width, height) in zip(labels, boxes, strict=True):
            if label == theirs:
                x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + width, 1.0), min(y + height, 1.0)
                if not (x1 < x2 and y1 < y2):  # nothing of it is in the image, or it is NaN
                    return None
                corners.append(f"[{x1:.8g}, {y1:.8g}, {x2:.8g}, {y2:.8g}]")
                clipped = clipped or min(x, y) < -_ROUNDING or max(x + width, y + height) > 1 + _ROUNDING
        return _Record(user, f"[{', '.join(corners)}]", clipped)
    except (KeyError, TypeError, ValueError):
        return None


def _once(table: pa.Table, annotations: str | os.PathLike[str]) -> tuple[pa.Table, dict[Hashable, Any]]:
    """Drop records that stand again in another file, and count them; refuse an image of two classes, or two people."""
    if pc.count_distinct(table["image"]).as_py() == table.num_rows:
        return table, count_repeated()
    again = table.select(["image", "user", "class"]).to_pandas()
    first = ~again.duplicated()
    twice = again.loc[first, "image"]
    twice = twice[twice.duplicated()]
    if len(twice):
        raise TableError(
            f"{annotations}: {len(twice)} images have several records with another class or user_id: "
            f"{list_some(twice.tolist())}; leave one of them"
        )
    repeated = again["image"][~first]
    return table.filter(pa.array(first)), count_repeated(repeated)


def _matched(table: pa.Table, listing: Listing, annotations: str | os.PathLike[str]) -> tuple[pa.Array, pa.Array]:
    """Find the images of records among the files: place in the listing and path of each, null where it is not there."""
    images = table["image"].cast(pa.binary())
    stems = pc.replace_substring_regex(listing.names, _STEM, r"\1")
    places = pa.array(np.arange(len(stems), dtype=np.int32))
    if pc.count_distinct(stems).as_py() < len(stems):
        asked = pc.is_in(stems, value_set=images.combine_chunks())
        places, stems = places.filter(asked), stems.filter(asked)
        kept = _of_its_class(listing.names.take(places), stems, table, annotations)
        places, stems = places.filter(kept), stems.filter(kept)
    places = places.take(pc.index_in(images, value_set=stems).combine_chunks())
    del images, stems
    paths = listing.names.take(places)
    try:
        return places, paths.cast(pa.string())
    except pa.ArrowInvalid:  # a folder whose name is no text: no table can name what is in it
        paths = pa.array([_text(path) for path in paths.to_pylist()], pa.string())
        return pc.if_else(paths.is_valid(), places, pa.scalar(None, pa.int32())), paths


def _text(path: bytes | None) -> str | None:
    try:
        return None if path is None else path.decode()
    except UnicodeDecodeError:
        return None


def _usual(table: pa.Table) -> pa.ChunkedArray:
    """Return where the images of records lie in HaGRID's own folders."""
    folders, images = table["class"].cast(pa.string()), table["image"].cast(pa.string())
    return pc.binary_join_element_wise(folders, "/", images, ".jpg", "")


def _of_its_class(names: pa.Array, stems: pa.Array, table: pa.Table, annotations: str | os.PathLike[str]) -> pa.Array:
    """Of several images of one name choose the one in a folder of its class: returns which are kept."""
    found = pd.DataFrame({"name": names.to_pandas(), "stem": stems.to_pandas()})
    several = found["stem"].duplicated(keep=False)
    of_class = table.select(["image", "class"]).to_pandas().set_index("image")["class"].astype(str)
    kept = ~several
    folders = pc.replace_substring_regex(pa.array(found.loc[several, "name"], pa.binary()), _FOLDER, r"\1")
    for row, stem, folder in zip(found.index[several], found.loc[several, "stem"], folders.to_pylist(), strict=True):
        name = of_class[stem.decode()].encode()
        kept[row] = folder == name or folder.endswith(b"_" + name)
    # Where none is in such a folder, all are as good.
    kept |= ~found["stem"].isin(found.loc[kept, "stem"])
    unclear = found.loc[kept & found["stem"].duplicated(keep=False), "name"]
    unclear = unclear[found.loc[unclear.index, "stem"].duplicated(keep=False)]
    if len(unclear):
        raise TableError(
            f"{annotations}: {len(unclear)} images could be those of the annotations: "
            f"{list_some([os.fsdecode(name) for name in unclear.tolist()])}; give a folder with one edition as `images`"
        )
    return pa.array(kept)
