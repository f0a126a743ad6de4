"""Annotated hands and faces as plain JSON: ``truth.json`` of the sample, and files like it."""

from __future__ import annotations

import re
from typing import Any

from detectime.labels.annotations import AnnotationColumns, Annotations, parse_corners, read_json
from detectime.labels.tables import TableError
from detectime.notes import shorten_text

FILE_NAME = "truth.json"

_KEY = re.compile(rb'"(?:hands|faces)"\s*:\s*\[')
_FORM = '{frame_path: {"hands": [[x1, y1, x2, y2], …]}}, and perhaps "faces", "labels" of the hands, "width", "height"'


def is_truth(head: bytes) -> bool:
    """Whether the first bytes of a file are those of such a file.

    Examples
    --------
    >>> is_truth(b'{"a.jpg": {"hands": [[1, 2, 3, 4]]}}')
    True
    """
    return bool(_KEY.search(head))


def read_truth_file(path: str) -> Annotations:
    """Read annotated hands and faces from a JSON file.

    Parameters
    ----------
    path
        A file, local or at a URL: ``{frame_path: {"hands": [[x1, y1, x2, y2], …], …}}`` in pixels. A frame may also
        have `faces`, likewise; `labels`, one text per hand; and the size of the picture, as `width` and `height` or as
        `size`, ``[width, height]``.

    Returns
    -------
    Annotations
        In pixels. The label of a face is ``face``, that of a hand empty unless `labels` are given.

    Raises
    ------
    TableError
        If it cannot be read, or a frame is not of this form; the message names the frame.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> found = read_truth_file(str(SAMPLE / "truth.json"))
    >>> len(found.images), found.boxes["x1"].tolist()[:2], found.boxes["label"].tolist()[:2]
    (120, [188.8, 299.4], ['', 'face'])
    """
    frames = read_json(path, object_pairs_hook=lambda pairs: _refuse_repeated(pairs, path))
    if not isinstance(frames, dict):
        raise TableError(f"{path}: holds a {type(frames).__name__} instead of {_FORM}")
    columns = AnnotationColumns()
    for name, frame in frames.items():
        _add_frame(name, frame, columns, path)
    return columns.collect("pixels")


def _refuse_repeated(pairs: list[tuple[str, Any]], path: str) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise TableError(f"{path}: {shorten_text(repeated)} is there twice, so that one would be lost; keep one")
    return values


def _add_frame(name: str, frame: Any, columns: AnnotationColumns, path: str) -> None:
    hands, faces, labels = _get_lists(name, frame, path)
    size = frame.get("size")
    width, height = size if isinstance(size, list) and len(size) == 2 else (frame.get("width"), frame.get("height"))
    row = columns.add_image(name, width, height)
    for hand, label in zip(hands, labels, strict=True):
        columns.add_box(row, label, parse_corners(hand, has_sizes=False))
    for face in faces:
        columns.add_box(row, "face", parse_corners(face, has_sizes=False))


def _get_lists(name: str, frame: Any, path: str) -> tuple[list[Any], list[Any], list[str]]:
    """Return hands, faces and the labels of the hands of a frame."""
    what = f"{path}: {shorten_text(name)}"
    if not isinstance(frame, dict) or not isinstance(frame.get("hands"), list):
        raise TableError(f'{what}: lacks the list "hands", which is empty where there is none; accepted: {_FORM}')
    hands, faces = frame["hands"], frame.get("faces", [])
    labels = frame.get("labels", [""] * len(hands))
    if not isinstance(faces, list):
        raise TableError(f'{what}: "faces" must be a list; accepted: {_FORM}')
    if not isinstance(labels, list) or len(labels) != len(hands) or not all(isinstance(text, str) for text in labels):
        raise TableError(f'{what}: "labels" must be a list of one text per hand; accepted: {_FORM}')
    return hands, faces, labels
