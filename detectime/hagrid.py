"""HaGRID's annotations as labels: a folder of ``<class>.json``, with the boxes of the hands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import remote
from detectime.labels import TableError, some, unlisted
from detectime.schema import TRUTH

_ROUNDING = 1e-6  # by which a box may leave its image and be whole
_STEM = r"(?s)^(?:.*/)?([^/]*?)(?:\.[^./]*)?$"
_FOLDER = r"(?s)^(?:.*/)?([^/]*)/[^/]*$"


def read(
    annotations: str | os.PathLike[str], names: pa.Array, classes: Mapping[str, str], labels: Iterable[str]
) -> pd.DataFrame:
    """Make a frame table of HaGRID's annotations, of its first or second version or the 512 px edition.

    Images are found by their names, which are unique, wherever they lie below the images folder; of several of one name
    the one in a folder of its class (``<class>`` or ``train_val_<class>``) is taken.

    Parameters
    ----------
    annotations
        A folder with ``<class>.json``, or with such folders (``train``, ``val``, ``test``). A record has `user_id`,
        `labels`, and `bboxes`, ``[x, y, width, height]`` in shares of the image.
    names
        The files that the source has, as binary.
    classes
        HaGRID's name of each class that is taken, and ours.
    labels
        The vocabulary: a class of ours that is not in it is not taken.

    Returns
    -------
    DataFrame
        A row an image, in the order of the files by name and of the records in them: `frame_path`,
        ``<class>/<image>.jpg`` where there is none; `video_name`, the person; `frame_id` (int64), the image's ordinal
        among the person's; `class_name`, ours; `on_disk` (bool); and `TRUTH`, the boxes of the hands that show the
        class, as text: JSON, ``[[x1, y1, x2, y2], …]`` in shares of the image and inside it.

        ``attrs`` holds `duplicates`, the number of records that stand again in another file and were dropped,
        `unlisted`, the number of files of the source that are no image of the table, `unlisted_names`, the first twenty
        of them, and `notes`, sentences about what was left out or mended.

    Raises
    ------
    TableError
        If there is no file of a class that is taken, a file is no JSON, an image has records of two classes, or it is
        not clear which of several images of one name is meant.
    """
    taken = {theirs: ours for theirs, ours in classes.items() if ours in set(labels)}
    files = sorted(Path(annotations).rglob("*.json"))
    chosen = [file for file in files if file.stem in taken]
    if not chosen:
        raise TableError(
            f"{annotations}: there is no {'.json, '.join(taken)}.json in this folder of labels; give HaGRID's "
            "annotations, or name its classes in data.hagrid_classes"
        )
    found = _Found()
    table = pa.concat_tables([_part(file, found) for file in chosen]).unify_dictionaries()
    if not table.num_rows:
        raise TableError(f"{annotations}: not one record can be used; the first: {some(found.malformed[:1])}")
    records = table.num_rows
    if pc.count_distinct(table["image"]).as_py() < records:
        table = _once(table, annotations)
    paths = _matched(table, names, annotations)
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
        }
    ).to_pandas()
    others = sorted({file.stem for file in files} - set(taken))
    absent = sorted(set(taken) - {file.stem for file in files})
    counted = (
        (len(found.malformed), "records cannot be used and are left out", found.malformed),
        (len(found.clipped), "images have a box that leaves them; it is clipped", found.clipped),
        (len(found.without), "images have no box of their class; their samples are not scored", found.without),
        (len(absent), "classes are to be taken and have no file", absent),
        (len(others), "classes are left out, since data.hagrid_classes has no class of labels for them", others),
    )
    frames.attrs = {
        "duplicates": records - len(frames),
        **unlisted(names, paths.cast(pa.binary())),
        "notes": [f"{count} {what}: {some(which)}" for count, what, which in counted if count],
    }
    return frames


def _ordinals(users: pa.ChunkedArray) -> pd.Series:
    """Count each user's rows; by numbers, since pandas makes an object of each text."""
    numbers = pd.Series(users.dictionary_encode().combine_chunks().indices.to_numpy())
    return numbers.groupby(numbers).cumcount()


@dataclass
class _Found:
    """Images that are not as they should be."""

    malformed: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)


def _part(file: Path, found: _Found) -> pa.Table:
    """Read the records of one class."""
    theirs = file.stem
    try:
        # Each record is read as soon as it is there: a set has a million, and what else is in them is not kept.
        records = json.loads(file.read_bytes(), object_hook=lambda pairs: _read(pairs, theirs))
    except OSError as error:
        raise TableError(f"{file}: the annotations cannot be read: {remote.reason(error)}") from error
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


def _once(table: pa.Table, annotations: str | os.PathLike[str]) -> pa.Table:
    """Drop records that stand again in another file; refuse an image of two classes, or of two people."""
    again = table.select(["image", "user", "class"]).to_pandas()
    first = ~again.duplicated()
    twice = again.loc[first, "image"]
    twice = twice[twice.duplicated()]
    if len(twice):
        raise TableError(
            f"{annotations}: {len(twice)} images have several records with another class or user_id: "
            f"{some(twice.tolist())}; leave one of them"
        )
    return table.filter(pa.array(first))


def _matched(table: pa.Table, names: pa.Array, annotations: str | os.PathLike[str]) -> pa.Array:
    """Find the images of records among the names of files: the path of each, null where it is not there."""
    images = table["image"].cast(pa.binary())
    stems = pc.replace_substring_regex(names, _STEM, r"\1")
    if pc.count_distinct(stems).as_py() < len(stems):
        names, stems = _of_its_class(names, stems, table, annotations)
    paths = names.take(pc.index_in(images, value_set=stems).combine_chunks())
    del images, stems
    try:
        return paths.cast(pa.string())
    except pa.ArrowInvalid:  # a folder whose name is no text: no table can name what is in it
        return pa.array([_text(path) for path in paths.to_pylist()], pa.string())


def _text(path: bytes | None) -> str | None:
    try:
        return None if path is None else path.decode()
    except UnicodeDecodeError:
        return None


def _usual(table: pa.Table) -> pa.ChunkedArray:
    """Return where the images of records lie in HaGRID's own folders."""
    folders, images = table["class"].cast(pa.string()), table["image"].cast(pa.string())
    return pc.binary_join_element_wise(folders, "/", images, ".jpg", "")


def _of_its_class(
    names: pa.Array, stems: pa.Array, table: pa.Table, annotations: str | os.PathLike[str]
) -> tuple[pa.Array, pa.Array]:
    """Of several images of one name keep the one in a folder of its class."""
    asked = pc.is_in(stems, value_set=table["image"].cast(pa.binary()).combine_chunks())
    names, stems = names.filter(asked), stems.filter(asked)
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
            f"{some([os.fsdecode(name) for name in unclear.tolist()])}; give a folder with one edition as `images`"
        )
    return names.filter(pa.array(kept)), stems.filter(pa.array(kept))
