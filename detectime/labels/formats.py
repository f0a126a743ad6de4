"""The formats of annotations: how one is recognised from what is there, and its reader."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from detectime.labels.annotations import Annotations, list_files, read_bytes
from detectime.labels.coco import is_coco, read_coco
from detectime.labels.cvat import FILE_NAME as CVAT_FILE
from detectime.labels.cvat import read_cvat_annotations
from detectime.labels.hagrid_boxes import is_hagrid, read_boxes
from detectime.labels.tables import TableError
from detectime.labels.truth_json import is_truth, read_truth_file
from detectime.labels.voc import is_voc, read_voc
from detectime.labels.yolo import find_yaml, is_yolo, read_yolo
from detectime.schema import CORNERS, EXPORT_FILE
from detectime.storage import urls

_HEAD = 2**16  # bytes that tell what a file is
_LEVELS_UP = 2  # folders above annotations in which an export of detectime has its `export.json`
_ZIP = b"PK"
_FEWEST_BOXES = 3  # that tell whether boxes are fractions
_SMALLEST_SIDE = 2.0  # pixels; the median of boxes in pixels is larger


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
    "yolo": _Format("YOLO", read_yolo),
    "cvat": _Format("CVAT", read_cvat_annotations),
    "truth.json": _Format("plain JSON", read_truth_file),
}
"""How people call each format, and its reader."""


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
        If they cannot be read, or boxes in pixels are fractions.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> len(read_format(str(SAMPLE), "truth.json").images)
    120
    """
    annotations = FORMATS[name].read(choose_file(path, name))
    _refuse_fractions(annotations, path)
    return annotations


def _refuse_fractions(annotations: Annotations, path: str) -> None:
    """Refuse boxes that are stated as pixels but cannot be: hands of less than two pixels."""
    corners = annotations.boxes[list(CORNERS)].dropna().to_numpy(np.float64)
    if annotations.unit == "fractions" or len(corners) < _FEWEST_BOXES:
        return
    side = float(np.median(corners[:, 2:] - corners[:, :2]))
    if side < _SMALLEST_SIDE:
        raise TableError(
            f"{path}: these are fractions, not pixels: the median side of its {len(corners):,} boxes is {side:.2g}; "
            "multiply x by the width of the picture and y by its height, or give the boxes as YOLO, whose are fractions"
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
    if not urls.is_remote(path) and os.path.isdir(path):
        return _recognise_export(path) or _recognise_folder(path)
    return _recognise_file(path)


def _recognise_file(path: str) -> str | None:
    head = read_bytes(path, _HEAD)
    if path.lower().endswith((".yaml", ".yml")):
        return "yolo"
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
    if find_yaml(folder) is not None or is_yolo(folder):
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
