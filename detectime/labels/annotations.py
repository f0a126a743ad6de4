"""Annotated boxes of any format: what the readers of HaGRID, CVAT, COCO, VOC, YOLO and ``truth.json`` return."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from detectime.boxes import Floats, Integers
from detectime.labels.tables import TableError
from detectime.notes import Note, note_found
from detectime.schema import CORNERS
from detectime.storage import urls

UNKNOWN = (np.nan,) * 4
"""Corners of an annotation whose box is not known."""

FACES = frozenset(["face", "faces"])
"""Labels of faces, casefolded."""

PEOPLE = frozenset(
    [
        *("person", "persons", "people", "human", "pedestrian", "man", "woman", "child", "body", "upper_body", "torso"),
        *("head", "arm", "forearm", "background"),
    ]
)
"""Labels of people and parts of them that are neither hands nor faces, casefolded."""

GROUP_KEYS = (
    *("video_name", "user_id", "user", "person_id", "person", "subject_id", "subject", "participant_id", "participant"),
    *("signer_id", "signer", "group", "group_id", "video_id", "video"),
)
"""Names of fields that say of which person or video a picture is, the surest first."""

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
"""Endings of tables, which are no annotations."""

_LARGEST_ID = 2**63 - 1
_UNDEFINED = "__undefined__"  # an attribute of CVAT that nobody set


@dataclass(frozen=True)
class Annotations:
    """What a file or a folder of annotations holds.

    Attributes
    ----------
    images
        One row per annotated picture: `name` (str), as the annotations give it; `width`, `height` (float64), NaN where
        they are not stated; `frame_path` (str), which detectime's own exports state, else empty; `group` (str), the
        video or person, empty where it is not stated; `frame_id` (Int64), null where it is not stated.
    boxes
        One row per annotation, those of a picture together: `image` (int64), the row of its picture; `label` (str),
        empty if it has none; `x1`, `y1`, `x2`, `y2` (float64), NaN where it has no box that can be used, so that nobody
        knows where the object is.
    unit
        What the boxes are in: pixels, or fractions of the picture's width and height.
    has_endings
        Whether names have their ending, such as ``.jpg``.
    notes
        Findings.
    tags
        Row of the picture and label of what is said of a whole picture. It is in `boxes` too, without corners, if the
        picture has no other annotation.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    unit: Literal["pixels", "fractions"]
    has_endings: bool = True
    notes: tuple[Note, ...] = ()
    tags: tuple[tuple[int, str], ...] = ()


class AnnotationColumns:
    """Columns that grow while annotations are read.

    Examples
    --------
    >>> columns = AnnotationColumns()
    >>> columns.add_box(columns.add_image("a.jpg", 640, 480), "ok", (9, 9, 9, 20))
    >>> found = columns.collect("pixels")
    >>> found.boxes.to_dict("records")
    [{'image': 0, 'label': 'ok', 'x1': nan, 'y1': nan, 'x2': nan, 'y2': nan}]
    >>> print(*found.notes)
    1 annotation has no box with an area, and is not used (the first: 'a.jpg')
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._sizes: list[tuple[float, float]] = []
        self._frame_paths: list[str] = []
        self._groups: list[str] = []
        self._frame_ids: list[int | None] = []
        self._images: list[int] = []
        self._labels: list[str] = []
        self._corners: list[Sequence[float]] = []
        self._found: dict[tuple[str, str, str], list[str]] = defaultdict(list)

    def add_image(
        self,
        name: str,
        width: Any = np.nan,
        height: Any = np.nan,
        frame_path: Any = "",
        group: str = "",
        frame_id: Any = None,
    ) -> int:
        """Add a picture and return its row. A size, or a number, that is none counts as not stated."""
        size = parse_number(width), parse_number(height)
        self.names.append(name)
        self._sizes.append(size if min(size) > 0 else (np.nan, np.nan))
        self._frame_paths.append(frame_path if isinstance(frame_path, str) else "")
        self._groups.append(group)
        is_number = isinstance(frame_id, int) and not isinstance(frame_id, bool) and 0 <= frame_id <= _LARGEST_ID
        self._frame_ids.append(frame_id if is_number else None)
        return len(self.names) - 1

    def add_box(self, image: int, label: str, corners: Sequence[float] = UNKNOWN) -> None:
        """Add an annotation of a picture: its label and x1, y1, x2, y2."""
        self._images.append(image)
        self._labels.append(label)
        self._corners.append(corners)

    def add_finding(self, kind: str, name: str, one: str, many: str) -> None:
        """Add an item to a note: see `notes.note_found`."""
        self._found[kind, one, many].append(name)

    def collect(
        self,
        unit: Literal["pixels", "fractions"],
        *,
        has_endings: bool = True,
        convert: Callable[[Any], Any] | None = None,
        notes: Sequence[Note] = (),
    ) -> Annotations:
        """Make the tables: what has no area becomes NaN and is noted.

        Parameters
        ----------
        unit, has_endings
            As in `Annotations`.
        convert
            Applied to all corners, float64, shape (boxes, 4), before.
        notes
            Further findings.
        """
        corners = np.array(self._corners, np.float64).reshape(-1, 4)
        corners = corners if convert is None else convert(corners)
        image = np.array(self._images, np.int64)
        is_known = np.isfinite(corners).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
        corners[~is_known] = np.nan
        order = np.argsort(image, kind="stable")
        boxes = pd.DataFrame({"image": image, "label": _make_texts(self._labels)})
        boxes[list(CORNERS)] = corners
        images = pd.DataFrame({"name": _make_texts(self.names)})
        images[["width", "height"]] = np.array(self._sizes, np.float64).reshape(-1, 2)
        images["frame_path"] = _make_texts(self._frame_paths)
        images["group"] = _make_texts(self._groups)
        images["frame_id"] = pd.array(self._frame_ids, "Int64")
        return Annotations(
            images,
            boxes.iloc[order].reset_index(drop=True),
            unit,
            has_endings,
            (*self._list_notes(), *notes, *self._note_unknown(image[~is_known])),
        )

    def _list_notes(self) -> list[Note]:
        return [note for (kind, one, many), names in self._found.items() for note in note_found(kind, names, one, many)]

    def _note_unknown(self, image: Any) -> list[Note]:
        names = [self.names[row] for row in image.tolist()]
        one, many = "annotation has no box with an area, and is", "annotations have no box with an area, and are"
        return note_found("no_area", names, f"{one} not used", f"{many} not used")


def _make_texts(texts: list[str]) -> Any:
    """Return a column of text; JSON can hold halves of characters, which a column cannot."""
    try:
        return pd.array(texts, "str")
    except UnicodeEncodeError:
        return pd.array([text.encode(errors="replace").decode() for text in texts], "str")


def find_group(fields: Mapping[str, Any]) -> str:
    """Return the video or person that the first of `GROUP_KEYS` names, whatever its case; empty if none does.

    Examples
    --------
    >>> find_group({"id": 7, "User_ID": 12, "video_id": 3}), find_group({"user": 12.0})
    ('12', '12')
    """
    known = {key.casefold(): value for key, value in fields.items() if isinstance(key, str)}
    for key in GROUP_KEYS:
        value = known.get(key)
        value = int(value) if isinstance(value, float) and value.is_integer() else value  # as tables write 12
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip() not in ("", _UNDEFINED):
            return str(value).strip()
    return ""


def parse_number(value: Any) -> float:
    """Return a value of a file as a number; NaN if it is none.

    Examples
    --------
    >>> parse_number("1.5"), parse_number(10**400), parse_number(True)
    (1.5, nan, nan)
    """
    if isinstance(value, bool):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def parse_corners(value: Any, *, has_sizes: bool) -> tuple[float, float, float, float]:
    """Return the corners of a box of a file; NaN if they are not four numbers.

    Parameters
    ----------
    value
        ``[x1, y1, x2, y2]``.
    has_sizes
        It is ``[x, y, width, height]`` instead.

    Examples
    --------
    >>> parse_corners([10, 20, 30, 40], has_sizes=True)
    (10.0, 20.0, 40.0, 60.0)
    >>> parse_corners("none", has_sizes=False)
    (nan, nan, nan, nan)
    """
    if not isinstance(value, list) or len(value) != 4:
        return UNKNOWN
    x, y, right, bottom = map(parse_number, value)
    return (x, y, x + right, y + bottom) if has_sizes else (x, y, right, bottom)


def format_boxes(images: Integers, corners: Floats, count: int) -> list[str]:
    """Return the boxes of each picture as they are in the column `schema.TRUTH`: JSON text.

    Parameters
    ----------
    images
        int64, shape (boxes,): the row of the picture of each box.
    corners
        Shape (boxes, 4): x1, y1, x2, y2 in fractions.
    count
        How many pictures there are.

    Examples
    --------
    >>> format_boxes(np.array([1]), np.array([[0.25, 0.25, 0.75, 0.75]]), 2)
    ['[]', '[[0.25, 0.25, 0.75, 0.75]]']
    """
    texts: list[list[str]] = [[] for _ in range(count)]
    for image, box in zip(images.tolist(), corners.tolist(), strict=True):
        texts[image].append("[{:.8g}, {:.8g}, {:.8g}, {:.8g}]".format(*box))
    return [f"[{', '.join(boxes)}]" for boxes in texts]


def read_json(path: str, **hooks: Any) -> Any:
    """Parse a JSON file, local or at a URL.

    Parameters
    ----------
    path
        The file.
    hooks
        Of ``json.loads``, such as `object_hook`.

    Raises
    ------
    TableError
        If it cannot be read, or is not JSON.

    Examples
    --------
    >>> read_json("no/such.json")
    Traceback (most recent call last):
        ...
    detectime.labels.tables.TableError: no/such.json: cannot be read: No such file or directory
    """
    try:
        return json.loads(read_bytes(path), **hooks)
    except (ValueError, RecursionError) as error:
        if isinstance(error, TableError):
            raise
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TableError(f"{path}: not valid JSON, perhaps cut off ({reason}); export it again") from error


def read_bytes(path: str, count: int = -1) -> bytes:
    """Return the content of a file, local or at a URL, or its first bytes.

    Raises
    ------
    TableError
        If it cannot be read.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> read_bytes(str(SAMPLE / "train.csv"), 10)
    b'video_name'
    """
    try:
        if urls.is_remote(path):
            content = urls.read_url(path)
            return content if count < 0 else content[:count]
        with open(urls.strip_file_scheme(path), "rb") as file:
            return file.read(count)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise TableError(f"{path}: cannot be read: {urls.describe_error(error)}") from error


def combine_hashes(hashes: Mapping[str, str]) -> str:
    """Return one SHA-256, in hexadecimal, for the names of files and the SHA-256 of each.

    Examples
    --------
    >>> combine_hashes({"ok.json": "44136fa3"}) == combine_hashes({"stop.json": "44136fa3"})
    False
    """
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def list_files(folder: str, ending: str) -> list[str]:
    """Return the files of a local folder and of those in it that have an ending, ordered by path.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> [os.path.basename(path) for path in list_files(str(SAMPLE), ".json")]
    ['truth.json']
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__MACOSX" and not name.startswith(".")]
        found += [f"{place}/{name}" for name in files if name.lower().endswith(ending) and not name.startswith("._")]
    return sorted(found)
