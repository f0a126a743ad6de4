"""The formats of annotations: how one is recognised from what is there, and its reader."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from detectime.labels import yolo
from detectime.labels.annotations import TABLE_ENDINGS, Annotations, combine_hashes, list_files, read_bytes, read_json
from detectime.labels.coco import is_coco, list_coco_files, read_coco
from detectime.labels.cvat import FILE_NAME as CVAT_FILE
from detectime.labels.cvat import read_cvat_annotations
from detectime.labels.hagrid_boxes import is_hagrid, read_boxes
from detectime.labels.hagrid_records import count_leaving
from detectime.labels.picture_names import drop_ending
from detectime.labels.tables import TableError
from detectime.labels.truth_json import is_truth, read_truth_file
from detectime.labels.voc import is_voc, read_voc
from detectime.notes import note_found
from detectime.schema import CORNERS, EXPORT_FILE
from detectime.storage import urls
from detectime.storage.json_files import name_format

_HEAD = 2**16  # bytes that tell what a file is
_LEVELS_UP = 2  # folders above annotations in which an export of detectime has its `export.json`
_ZIP = b"PK"
_YOLO_KEY = re.compile(rb"^\s*(?:names|nc|train|val)\s*:", re.MULTILINE)  # of a data.yaml
_FEWEST_BOXES = 3  # whose median, or a share of which, tells what they are in
_SMALLEST_SIDE = 2.0  # pixels; the median of boxes in pixels is larger
_FIRST_PIXEL = 1.0  # in which no hand lies
_PERCENT = 100.0
_LARGER_THAN_PERCENT = 300  # pixels: the shorter side of pictures whose hands cannot all lie in the first 100
_LARGEST_FRACTION = 2.0  # of a side; nobody draws a box that far outside
_NAMES = {"pixels": "pixels", "fractions": "fractions of the picture"}
_REMEDIES = {
    "pixels": "multiply x by the width of the picture, y by its height (or by a hundredth of "
    "these, if they are percent), or write them as YOLO's, which are fractions",
    "fractions": "divide x and width by the width of the picture, y and height by its height, percent by 100",
}
_NOT_READ = {
    "COCO's results": "predictions name no pictures: give COCO's file with `images`, `annotations` and `categories`",
    "annotations of LabelMe": "convert it to COCO or Pascal VOC",
    "annotations of the VGG annotator (VIA)": "export it there as COCO",
    "an export of Label Studio": "export it there as COCO, Pascal VOC or YOLO",
}
"""Names of formats, as `name_format` gives them, and what to do."""


class Export(NamedTuple):
    """An export of detectime in which annotations lie."""

    folder: str
    format: str
    """Its name, such as ``coco``."""


class _Format(NamedTuple):
    title: str
    read: Callable[[str], Annotations]


FORMATS: dict[str, _Format] = {
    "hagrid": _Format("HaGRID", read_boxes),
    "coco": _Format("COCO", read_coco),
    "voc": _Format("Pascal VOC", read_voc),
    "yolo": _Format("YOLO", yolo.read_yolo),
    "cvat": _Format("CVAT", read_cvat_annotations),
    "truth.json": _Format("plain JSON", read_truth_file),
}
"""How people call each format, and its reader."""

LABELLED = ("coco", "cvat", "voc", "yolo")
"""Formats whose boxes say the class of their picture: values of `data.labels_type`, beside ``hagrid``."""

_SAMPLES = "samples.csv"  # in an export of detectime: what is known of each picture


def read_format(path: str, name: str) -> Annotations:
    """Read annotations of a format.

    Parameters
    ----------
    path
        A file, local or at a URL, or a local folder.
    name
        One of `FORMATS`.

    Raises
    ------
    TableError
        If they cannot be read, or boxes are in another unit than those of the format, or corners instead of sizes.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> len(read_format(str(SAMPLE), "truth.json").images)
    120
    """
    try:
        annotations = FORMATS[name].read(choose_file(path, name))
    except TableError as error:
        if reason := explain_unread(path):
            raise TableError(f"{path}: {reason}") from error
        raise
    if name == "coco":
        _refuse_corners(annotations, path)
    return _check_unit(annotations, path)


def explain_unread(path: str) -> str:
    """Say what annotations are whose format is known and not read, with the remedy; empty for others.

    Parameters
    ----------
    path
        A JSON file; or a local folder, of which the first such file tells.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> explain_unread(str(SAMPLE / "truth.json"))
    ''
    """
    files = list_files(path, ".json")[:1] if os.path.isdir(path) else [path]
    with contextlib.suppress(TableError):
        for name in (name_format(read_json(file)) for file in files if file.lower().endswith(".json")):
            if name in _NOT_READ:
                return f"this is {name}, which is not read; {_NOT_READ[name]}"
    return ""


def _check_unit(annotations: Annotations, path: str) -> Annotations:
    """Refuse boxes that are in another unit than they are stated in; make a few that are NaN, and note them.

    Fractions are not pixels: as pixels, hands would be smaller than two, or lie in the first one. Nor are percent: all
    hands would lie in the first hundred pixels of large pictures. Pixels, or percent, are not fractions.
    """
    corners, unit = annotations.boxes[list(CORNERS)].to_numpy(np.float64), annotations.unit
    is_known = np.isfinite(corners).all(axis=1)
    ends, count = np.abs(corners).max(axis=1, initial=0), int(is_known.sum())
    is_other = is_known & (ends <= _FIRST_PIXEL if unit == "pixels" else ends > _LARGEST_FRACTION)
    side = float(np.median((corners[:, 2:] - corners[:, :2])[is_known])) if count else np.nan
    is_small = unit == "pixels" and count >= _FEWEST_BOXES and side < _SMALLEST_SIDE
    what = "fractions" if unit == "pixels" else "pixels or percent"
    image = annotations.boxes["image"].to_numpy(np.int64)
    sides = annotations.images[["width", "height"]].to_numpy(np.float64).min(axis=1)[image[is_known]]
    sides = sides[np.isfinite(sides)]
    is_wrong = 2 * is_other.sum() > count or is_small
    is_percent = unit == "pixels" and len(sides) >= _FEWEST_BOXES and ends[is_known].max() <= _PERCENT
    is_percent = is_percent and not is_wrong and float(np.median(sides)) >= _LARGER_THAN_PERCENT
    if is_wrong or is_percent:
        boxes = f"its {count:,} boxes" if count > 1 else "its box"
        raise TableError(
            f"{path}: these are {'percent' if is_percent else what}, not {_NAMES[unit]}: the median side of {boxes} is "
            f"{side:.2g}; {_REMEDIES[unit]}"
        )
    annotations.boxes.loc[is_other, list(CORNERS)] = np.nan
    names = annotations.images["name"].to_numpy(object)[image[is_other]]
    one, many = f"box is in {what}, and most are in {unit}", f"boxes are in {what}, and most are in {unit}"
    notes = note_found("other_unit", names.tolist(), f"{one}: it is not used", f"{many}: they are not used")
    return dataclasses.replace(annotations, notes=(*annotations.notes, *notes))


def _refuse_corners(annotations: Annotations, path: str) -> None:
    """Refuse boxes that are x1, y1, x2, y2 and were read as x, y, width, height."""
    corners = annotations.boxes[list(CORNERS)].to_numpy(np.float64)
    size = annotations.images[["width", "height"]].to_numpy(np.float64)
    stated = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    stated = stated / np.tile(size, 2)[annotations.boxes["image"].to_numpy(np.int64)]
    stated = stated[np.isfinite(stated).all(axis=1)]
    count = len(stated)
    if 0 < count < _FEWEST_BOXES:  # all must tell
        leaving = count if count_leaving(np.repeat(stated, _FEWEST_BOXES, axis=0)) == _FEWEST_BOXES * count else 0
    else:
        leaving = count_leaving(stated)
    if leaving:
        raise TableError(
            f"{path}: these boxes are [x1, y1, x2, y2] instead of [x, y, width, height]: as the latter, {leaving:,} of "
            f"{count:,} would leave their picture; subtract x1 from x2, y1 from y2"
        )


def recognise_format(path: str) -> str | None:
    """Return the format of a file, or of the first file in a folder that is in one; None if it is in none.

    Raises
    ------
    TableError
        If a file cannot be read.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> recognise_format(str(SAMPLE / "truth.json"))
    'truth.json'
    """
    if os.path.isdir(path):
        return _recognise_export(path) or _recognise_folder(path)
    return _recognise_file(path)


def _recognise_file(path: str) -> str | None:
    head = read_bytes(path, _HEAD)
    if path.lower().endswith((".yaml", ".yml")):
        return "yolo" if _YOLO_KEY.search(head) else None
    if head.startswith(_ZIP):
        return "cvat"
    return _recognise_content(head)


def _recognise_content(head: bytes) -> str | None:
    if is_coco(head):
        return "coco"
    if is_hagrid(head):
        return "hagrid"
    if is_truth(head):
        return "truth.json"
    if is_voc(head):
        return "voc"
    return "cvat" if b"<annotations" in head else None


def _recognise_export(folder: str) -> str | None:
    """Return the format of an export of detectime, if it is one that holds boxes."""
    name = (_read_export(folder) or {}).get("format")
    return name if name in FORMATS else None


def _recognise_folder(folder: str) -> str | None:
    """Return the format of the first file that tells: what describes a set, then single files, then text files."""
    if os.path.isfile(f"{folder}/{CVAT_FILE}"):
        return "cvat"
    if yolo.find_yaml(folder) is not None or yolo.is_yolo(folder):
        return "yolo"
    for ending in (".json", ".xml"):
        for file in list_files(folder, ending):
            found = _recognise_content(read_bytes(file, _HEAD))
            if found is not None:
                return found
    return "yolo" if list_files(folder, ".txt") else None


def choose_file(path: str, name: str) -> str:
    """Return what a reader takes: some formats are one file in a folder.

    Raises
    ------
    TableError
        If there is none, or several.

    Examples
    --------
    >>> choose_file("annotations.xml", "cvat")
    'annotations.xml'
    """
    if not os.path.isdir(path) or name not in ("cvat", "truth.json"):
        return path
    files = [f"{path}/{CVAT_FILE}"] if name == "cvat" else _list_truth_files(path)
    if len(files) != 1 or not os.path.isfile(files[0]):
        raise TableError(f"{path}: {len(files)} files in this folder may be meant; pass the file itself")
    return files[0]


def _list_truth_files(folder: str) -> list[str]:
    return [file for file in list_files(folder, ".json") if is_truth(read_bytes(file, _HEAD))]


def find_export(path: str) -> Export | None:
    """Return the export of detectime in which annotations lie; None if they lie in none.

    Raises
    ------
    TableError
        If it is not finished, or its boxes are crops, which are larger than the hands.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> find_export(str(SAMPLE)) is None
    True
    """
    for folder in _list_folders_up(path):
        state = _read_export(folder) or {}
        request = state.get("request")
        if not isinstance(request, dict):
            continue
        if request.get("box") == "bbox":
            raise TableError(
                f"{folder}: this export holds crops instead of hands (box = bbox), which no hand fits; export with "
                "`box: hand`"
            )
        if state.get("finished") is None:
            raise TableError(f"{folder}: this export is not finished; the same `detectime export` finishes it")
        return Export(folder, str(state.get("format", "")))
    return None


def _list_folders_up(path: str) -> Iterator[str]:
    if urls.is_remote(path):
        return
    folder = os.path.abspath(path if os.path.isdir(path) else os.path.dirname(path) or ".")
    for _ in range(_LEVELS_UP + 1):
        yield folder
        folder = os.path.dirname(folder)


def _read_export(folder: str) -> dict[str, Any] | None:
    """Return what an ``export.json`` says; None if there is none that can be read."""
    file = f"{folder}/{EXPORT_FILE}"
    if not os.path.isfile(file):
        return None
    try:
        found = json.loads(read_bytes(file))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# -- as labels


def read_labelled(path: str, labels_type: str) -> tuple[Annotations, bool]:
    """Read annotations as labels; those of an export of detectime with what it knows of each picture.

    Parameters
    ----------
    path
        A file, local or at a URL, or a local folder.
    labels_type
        One of `LABELLED`.

    Returns
    -------
    tuple
        The annotations, and whether they lie in an export of detectime.

    Raises
    ------
    TableError
        If they cannot be read; the message says what they are instead, if that is known.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> read_labelled(str(SAMPLE / "train.csv"), "coco")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    detectime.labels.tables.TableError: ...train.csv: this is a table, not annotations of COCO; leave `labels_type` out
    """
    place, title = urls.strip_file_scheme(path), FORMATS[labels_type].title
    if not urls.is_remote(place) and not os.path.exists(place):
        raise TableError(f"{place}: there is no such file or folder; set `labels` to the annotations")
    if place.lower().endswith(TABLE_ENDINGS):
        raise TableError(f"{place}: this is a table, not annotations of {title}; leave `labels_type` out")
    export = find_export(place)
    try:
        annotations = read_format(place, labels_type)
    except TableError as error:
        found = _recognise_other(place, labels_type)
        if found is None:
            raise
        raise TableError(
            f"{place}: these are annotations of {FORMATS[found].title}, not of {title}; set `labels_type: {found}`, or "
            "leave it out"
        ) from error
    if export is not None:
        _add_samples(annotations, f"{export.folder}/{_SAMPLES}")
    return annotations, export is not None


def _recognise_other(place: str, labels_type: str) -> str | None:
    """Return the format in which annotations are that cannot be read as those of another; None: of none."""
    with contextlib.suppress(TableError, OSError):
        found = recognise(place)
        return None if found == labels_type else found
    return None


def _add_samples(annotations: Annotations, file: str) -> None:
    """Add frame, group and number of each picture of an export, as far as its table is there."""
    columns = ["name", "frame_path", "video_name", "frame_id"]
    try:
        samples = pd.read_csv(file, usecols=columns, dtype="str", keep_default_na=False, na_values={"frame_id": [""]})
    except (OSError, ValueError):  # the annotations are what is needed
        return
    samples = samples.drop_duplicates("name").set_index("name")
    images = annotations.images
    stems = pd.Series([drop_ending(name) if annotations.has_endings else name for name in images["name"]])
    position = samples.index.get_indexer(pd.Index(stems.str.replace(r"^.*/", "", regex=True)))
    by_path = pd.Index(samples["frame_path"])
    if by_path.is_unique:
        position = np.where(position < 0, by_path.get_indexer(pd.Index(images["name"])), position)
    rows = np.flatnonzero(position >= 0)
    found = samples.iloc[position[rows]]
    images.loc[rows, "frame_path"] = found["frame_path"].to_numpy()
    images.loc[rows, "group"] = found["video_name"].to_numpy()
    images.loc[rows, "frame_id"] = pd.array(pd.to_numeric(found["frame_id"]).to_numpy(), "Int64")


def _list_read_files(place: str, labels_type: str) -> list[str]:
    """Return the files that say the labels."""
    if urls.is_remote(place) or (os.path.isfile(place) and labels_type != "yolo"):
        return [place]
    if labels_type == "cvat":
        return [choose_file(place, labels_type)]
    if labels_type == "voc":
        return list_files(place, ".xml")
    return list_coco_files(place) if labels_type == "coco" else yolo.list_read_files(place)


def hash_annotations(path: str, labels_type: str) -> str:
    """Return the SHA-256, in hexadecimal, of the annotations: of the file, or of the names and SHA-256 of all files.

    Parameters
    ----------
    path, labels_type
        As those of `read_labelled`.

    Raises
    ------
    TableError
        If a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".json") as file:
    ...     hash_annotations(file.name, "coco")[:16]
    'e3b0c44298fc1c14'
    """
    place = urls.strip_file_scheme(path)
    files = _list_read_files(place, labels_type)
    if files == [place]:
        return _hash_file(place)
    folder = place if os.path.isdir(place) else os.path.dirname(place) or "."
    return combine_hashes({os.path.relpath(file, folder): _hash_file(file) for file in files})


def _hash_file(file: str) -> str:
    return hashlib.sha256(read_bytes(file)).hexdigest()


def recognise(path: str) -> str | None:
    """Return the `data.labels_type` of annotations: one of `LABELLED`, or ``hagrid``; None if they are none of these.

    Parameters
    ----------
    path
        A file, local or at a URL, or a local folder.

    Raises
    ------
    TableError
        If a file cannot be read, is empty, has boxes without classes, as ``truth.json``, or is of a tool whose format
        is not read.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> recognise(str(SAMPLE / "train.csv")) is None
    True
    """
    place = urls.strip_file_scheme(path)
    is_folder = os.path.isdir(place)
    found = recognise_format(place)
    if found == "truth.json" and not is_folder:
        raise TableError(
            f"{path}: this file has boxes of hands but no classes of pictures: give it as `truth`, and a table with "
            "the class of each frame as `labels`"
        )
    if found is None and (reason := explain_unread(place)):
        raise TableError(f"{path}: {reason}")
    if found is None and not is_folder and not read_bytes(place, 1):
        raise TableError(f"{path}: the file is empty; export or download it again")
    if found == "yolo" and is_folder and yolo.find_yaml(place) is None and not yolo.has_label_files(place):
        return None  # a folder with any text, such as a readme.txt
    return str(found) if found in (*LABELLED, "hagrid") else None
