"""Boxes that people drew in CVAT: a file of CVAT for images 1.1, as CVAT exports a task, a job or a project."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO, NoReturn
from xml.parsers import expat

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Integers
from detectime.labels.annotations import TABLE_ENDINGS, UNKNOWN, AnnotationColumns, Annotations, find_group
from detectime.labels.tables import TableError, format_names
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import CORNERS
from detectime.storage import urls

FILE_NAME = "annotations.xml"
"""The file in the zip that CVAT exports."""

_REMEDY = "in CVAT export the task with the format `CVAT for images 1.1`"
_SIDES = ("xtl", "ytl", "xbr", "ybr")
_ROUNDING = 0.01  # pixels by which a box may leave its picture without counting as clipped: CVAT keeps two decimals
_TAG = "tag"
_WITH_ATTRIBUTES = (["image", "box"], ["image", _TAG])
_PICTURE = ("its picture", "their pictures")
_SIZE = re.compile("[1-9][0-9]{0,6}")
_ZIP = b"PK"
_OTHER_ENDINGS = (".json", ".xml", ".txt", ".yaml", ".yml")  # in a zip of another format
_READ_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # RuntimeError: encrypted
_BOX_TYPES = {
    **{"image": "int64", "label": "str", **dict.fromkeys(CORNERS, "float64"), "occluded": "bool", "source": "str"},
    **{"attributes": "object", "rotation": "float64"},
}


@dataclass(frozen=True)
class CvatAnnotations:
    """What a file of CVAT for images holds.

    Attributes
    ----------
    images
        One row per picture, in the order of the file: `name` (str), as in CVAT; `width`, `height` (int64) in pixels;
        `unused` (int64), how many of its shapes are not in `boxes`: what its annotator meant is not known then.
    boxes
        One row per upright box with an area, in the order of the file: `image` (int64), the row of its picture;
        `label` (str); `x1`, `y1`, `x2`, `y2` (float64) in pixels, inside the picture; `occluded` (bool); `source`
        (str), such as ``manual``; `attributes` (dict of str).
    labels
        Labels of the task, whether they have boxes or not.
    notes
        Findings: boxes that are clipped, and shapes that are not used.
    tags
        What is said of whole pictures: the row of the picture, the label, and the attributes.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    labels: tuple[str, ...]
    notes: tuple[Note, ...] = ()
    tags: tuple[tuple[int, str, dict[str, str]], ...] = ()


def read_cvat(file: str | os.PathLike[str]) -> CvatAnnotations:
    """Read the boxes of a file of CVAT for images 1.1.

    Only upright boxes are read. Polygons, masks, skeletons and other shapes, boxes that are rotated, and boxes without
    an area are counted and noted.

    Parameters
    ----------
    file
        ``annotations.xml``, or the zip with it that CVAT exports; a path or URL.

    Raises
    ------
    TableError
        If the file cannot be read, is not of this format, or is broken; the message names the line.

    Examples
    --------
    >>> import tempfile
    >>> text = '''<annotations><version>1.1</version>
    ... <image id="0" name="a.jpg" width="640" height="480">
    ...   <box label="ok" source="manual" occluded="0" xtl="1.50" ytl="2.00" xbr="30.25" ybr="40.00" z_order="0"/>
    ...   <polygon label="ok" source="manual" occluded="0" points="1.00,1.00;9.00,1.00;5.00,9.00" z_order="0"/>
    ... </image></annotations>'''
    >>> with tempfile.NamedTemporaryFile(suffix=".xml") as file:
    ...     _ = file.write(text.encode())
    ...     file.flush()
    ...     found = read_cvat(file.name)
    >>> found.boxes[["image", "label", "x1", "y1", "x2", "y2"]].to_dict("records")
    [{'image': 0, 'label': 'ok', 'x1': 1.5, 'y1': 2.0, 'x2': 30.25, 'y2': 40.0}]
    >>> print(*found.notes)
    1 shape is of the kind polygon and not used: only boxes are (the first: 'a.jpg')
    """
    with _open_annotations(file) as (stream, name):
        reader = _Reader(name)
        reader.read(stream)
    return _collect_annotations(reader.found)


def read_cvat_annotations(file: str | os.PathLike[str]) -> Annotations:
    """Read the boxes of a file of CVAT for images 1.1 as those of any format.

    Parameters
    ----------
    file
        As that of `read_cvat`.

    Returns
    -------
    Annotations
        In pixels. A shape that `read_cvat` does not use has no label, and corners that are NaN. So has a tag of a
        picture without shapes, but with its label: what it names may be anywhere.

    Raises
    ------
    TableError
        As `read_cvat`.

    Examples
    --------
    >>> read_cvat_annotations("task.zip").boxes  # doctest: +SKIP
    """
    found = read_cvat(file)
    columns = AnnotationColumns()
    groups: dict[int, str] = {}
    of_boxes = zip(found.boxes["image"].tolist(), found.boxes["attributes"].tolist(), strict=True)
    for image, attributes in [*of_boxes, *((image, attributes) for image, _, attributes in found.tags)]:
        groups[image] = groups.get(image) or find_group(attributes)
    for image, (name, width, height) in enumerate(found.images[["name", "width", "height"]].itertuples(index=False)):
        columns.add_image(name, width, height, group=groups.get(image, ""))
    drawn = zip(found.boxes["image"].tolist(), found.boxes["label"].tolist(), strict=True)
    for (image, label), corners in zip(drawn, found.boxes[list(CORNERS)].to_numpy().tolist(), strict=True):
        columns.add_box(image, label, corners)
    for image in np.repeat(np.arange(len(found.images)), found.images["unused"]).tolist():
        columns.add_box(image, "", UNKNOWN)
    has_shapes = {*found.boxes["image"].tolist(), *np.flatnonzero(found.images["unused"]).tolist()}
    tags = tuple((image, label) for image, label, _ in found.tags)
    for image, label in tags:
        if image not in has_shapes:
            columns.add_box(image, label, UNKNOWN)
    annotations = columns.collect("pixels")
    # Its notes tell of the shapes without a box already.
    return dataclasses.replace(annotations, notes=found.notes, tags=tags)


@dataclass
class _Columns:
    """Values that grow while a file is read."""

    images: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    boxes: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    labels: list[str] = field(default_factory=list)
    others: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of each kind of shape that is not a box, the row of the picture of each."""
    tags: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)


class _Reader:
    """A parser that collects pictures and boxes while the file streams through it.

    A document type is refused, so that no entity is ever expanded or fetched.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.found = _Columns()
        self._path: list[str] = []
        self._text: list[str] = []
        self._attributes: dict[str, str] = {}
        self._attribute = ""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_document_type
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append

    def read(self, stream: IO[bytes]) -> None:
        """Read a whole file."""
        try:
            self._parser.ParseFile(stream)
        except TableError:
            raise
        except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding that is not known
            reason = expat.errors.messages[error.code] if isinstance(error, expat.ExpatError) else str(error)
            raise TableError(f"{self._locate()}: not XML: {reason}; {_REMEDY}") from error
        if not self.found.images:
            raise TableError(f"{self.name}: there are no pictures in this file; {_REMEDY}")

    def _locate(self) -> str:
        return f"{self.name}, line {self._parser.CurrentLineNumber}"

    def _fail(self, reason: str) -> NoReturn:
        raise TableError(f"{self._locate()}: {reason}")

    def _refuse_document_type(self, *_: object) -> None:
        self._fail("has a document type, which CVAT does not write and may hide harm; it is not read")

    def _start(self, tag: str, values: Mapping[str, str]) -> None:
        self._path.append(tag)
        self._text.clear()
        if len(self._path) == 1:
            self._check_root(tag)
        elif len(self._path) == 2 and tag == "track":
            self._fail(f"this is a file of CVAT for video, whose tracks are not read; {_REMEDY}")
        elif len(self._path) == 2 and tag == "image":
            self._add_image(values)
        elif self._path[1:-1] == ["image"]:
            self._add_shape(tag, values)
        elif tag == "attribute" and self._path[1:-1] in _WITH_ATTRIBUTES:
            self._attribute = self._get(values, "name")

    def _end(self, tag: str) -> None:
        if tag == "name" and self._path[-3:] == ["labels", "label", "name"]:
            self.found.labels.append("".join(self._text))
        elif tag == "version" and len(self._path) == 2:
            self._check_version("".join(self._text))
        elif tag == "attribute" and self._path[1:-1] in _WITH_ATTRIBUTES:
            self._attributes[self._attribute] = "".join(self._text)
        self._path.pop()
        self._text.clear()

    def _check_root(self, tag: str) -> None:
        if tag != "annotations":
            self._fail(f"not a file of CVAT: it begins with <{tag}> instead of <annotations>; {_REMEDY}")

    def _check_version(self, text: str) -> None:
        if text.strip().partition(".")[0] != "1":
            self._fail(f"version {shorten_text(text)} of the format is not known; accepted: 1.1; {_REMEDY}")

    def _add_image(self, values: Mapping[str, str]) -> None:
        images = self.found.images
        images["name"].append(self._get(values, "name"))
        for side in ("width", "height"):
            images[side].append(self._get_size(values, side))

    def _add_shape(self, tag: str, values: Mapping[str, str]) -> None:
        row = len(self.found.images["name"]) - 1
        self._attributes = {}
        if tag == _TAG:
            self.found.tags.append((row, self._get(values, "label"), self._attributes))
        if tag != "box":
            self.found.others[tag].append(row)
            return
        columns = self.found.boxes
        columns["image"].append(row)
        columns["label"].append(self._get(values, "label"))
        for corner, side in zip(CORNERS, _SIDES, strict=True):
            columns[corner].append(self._get_number(values, side))
        columns["occluded"].append(values.get("occluded") == "1")
        columns["source"].append(values.get("source", ""))
        columns["attributes"].append(self._attributes)
        columns["rotation"].append(self._get_number({"rotation": "0", **values}, "rotation"))

    def _get(self, values: Mapping[str, str], key: str) -> str:
        if key not in values:
            self._fail(f"<{self._path[-1]}> lacks {key}; {_REMEDY}")
        return values[key]

    def _get_size(self, values: Mapping[str, str], key: str) -> int:
        text = self._get(values, key)
        if not _SIZE.fullmatch(text):
            self._fail(f"<image> has {key}={shorten_text(text)}, which is not a number of pixels; {_REMEDY}")
        return int(text)

    def _get_number(self, values: Mapping[str, str], key: str) -> float:
        text = self._get(values, key)
        try:
            return float(text)
        except ValueError:
            self._fail(f"<{self._path[-1]}> has {key}={shorten_text(text)}, which is not a number; {_REMEDY}")


@contextlib.contextmanager
def _open_annotations(file: str | os.PathLike[str]) -> Iterator[tuple[IO[bytes], str]]:
    """Open ``annotations.xml``, also inside a zip; yields its name for messages too."""
    path = os.fspath(file)
    what = f"pass the {FILE_NAME} or the zip that CVAT exported"
    try:
        with _open_file(path) as stream:
            if stream.read(len(_ZIP)) == _ZIP:
                with zipfile.ZipFile(stream) as archive:
                    member = _find_member(archive, path)
                    with archive.open(member) as inside:
                        yield inside, f"{path}/{member}"
            else:
                stream.seek(0)
                yield stream, path
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; {what}") from error
    except IsADirectoryError as error:
        raise TableError(f"{path}: this is a folder; {what}") from error
    except _READ_ERRORS as error:
        raise TableError(f"{path}: cannot be read: {urls.describe_error(error)}; {what}") from error


def _open_file(path: str) -> BinaryIO:
    return io.BytesIO(urls.read_url(path)) if urls.is_remote(path) else open(urls.strip_file_scheme(path), "rb")


def _find_member(archive: zipfile.ZipFile, path: str) -> str:
    """Return the name of the only ``annotations.xml`` in a zip."""
    names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    found = [name for name in names if name.rpartition("/")[2] == FILE_NAME]
    if len(found) == 1:
        return found[0]
    if found:
        raise TableError(f"{path}: has several {FILE_NAME}: {format_names(found)}; unpack it and pass each by itself")
    if "task.json" in names or "project.json" in names:
        raise TableError(f"{path}: this is a backup of CVAT, which is not read; {_REMEDY}")
    tables = [name for name in names if name.lower().endswith(TABLE_ENDINGS)]
    if tables:
        raise TableError(f"{path}: this zip holds a table, {format_names(tables)}; unpack it, and give the table")
    is_other = any(name.lower().endswith(_OTHER_ENDINGS) for name in names)
    remedy = f"if these are annotations of another format, unpack it, and give the folder; or {_REMEDY}"
    raise TableError(
        f"{path}: has no {FILE_NAME}, but {format_names(names) or 'nothing'}; {remedy if is_other else _REMEDY}"
    )


def _collect_annotations(found: _Columns) -> CvatAnnotations:
    """Make the tables, without boxes that cannot be used."""
    images = pd.DataFrame(found.images).astype({"name": "str", "width": "int64", "height": "int64"})
    drawn = pd.DataFrame({name: found.boxes[name] for name in _BOX_TYPES}).astype(_BOX_TYPES)
    corners, image = drawn[list(CORNERS)].to_numpy(), drawn["image"].to_numpy()
    inside = geometry.clip_boxes(corners, *images[["width", "height"]].to_numpy()[image].T)
    drawn[list(CORNERS)] = inside
    is_rotated = drawn.pop("rotation").to_numpy() % 180 != 0
    is_empty = ~is_rotated & ~(geometry.compute_area(inside) > 0)  # also where a corner is not a number
    is_used = ~is_rotated & ~is_empty
    is_clipped = is_used & (np.abs(corners - inside).max(axis=1, initial=0) > _ROUNDING)
    names = images["name"].to_numpy(object)
    notes = [
        *_note_boxes("rotated", names[image[is_rotated]], "rotated and not used: straighten {} in CVAT", "it", "them"),
        *_note_boxes("no_area", names[image[is_empty]], "without an area inside {} and not used", *_PICTURE),
        *_note_boxes("clipped", names[image[is_clipped]], "partly outside {} and clipped to it", *_PICTURE),
        *_note_other_shapes(found.others, names),
    ]
    images["unused"] = _count_unused(image[~is_used], found.others, len(images))
    used = drawn[is_used].reset_index(drop=True)
    return CvatAnnotations(images, used, tuple(dict.fromkeys(found.labels)), tuple(notes), tuple(found.tags))


def _count_unused(of_boxes: Integers, others: Mapping[str, list[int]], count: int) -> Integers:
    """Count the shapes of each picture that are not used. Tags are none: they hide no box."""
    rows = [np.array(rows, np.int64) for tag, rows in others.items() if tag != _TAG]
    return np.bincount(np.concatenate([of_boxes, *rows]), minlength=count)


def _note_boxes(kind: str, names: NDArray[np.object_], what: str, of_one: str, of_many: str) -> list[Note]:
    return note_found(kind, names.tolist(), f"box is {what.format(of_one)}", f"boxes are {what.format(of_many)}")


def _note_other_shapes(others: Mapping[str, list[int]], names: NDArray[np.object_]) -> list[Note]:
    notes = []
    for tag, rows in others.items():
        what = f"of the kind {tag} and not used: only boxes are"
        notes += note_found(tag, names[rows].tolist(), f"shape is {what}", f"shapes are {what}")
    return notes
