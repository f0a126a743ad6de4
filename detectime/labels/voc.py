"""Annotations in the format of Pascal VOC: an XML file per picture."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from xml.parsers import expat

import numpy as np

from detectime.boxes import Floats
from detectime.labels.annotations import AnnotationColumns, Annotations, list_files, parse_number, read_bytes
from detectime.labels.layout import ENDING
from detectime.labels.tables import TableError
from detectime.notes import Note, note_found, shorten_text

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_OBJECTS = ("object", "part")  # a part, such as a hand of a person, lies inside its object
_CORNERS_OF = [[each, "bndbox"] for each in _OBJECTS]
_OF_ANVIL = ("head", "body")  # times in a video, in a file that begins as VOC's does
_FOLDER = "Annotations"
_ENDING = re.compile(ENDING)
_REMEDY = "pass the folder with one XML file per picture"
_FROM_ZERO = (
    "Corners are read as the edges of boxes, since some have decimals or are below 1; the devkit of VOC counts pixels "
    "from 1, from the first to the last inside the box."
)


class _NotVoc(ValueError):
    """An XML file of another kind."""


def read_voc(path: str) -> Annotations:
    """Read annotations in the format of Pascal VOC.

    In the devkit of VOC, and in exports of detectime, corners are pixels counted from 1, the first and the last inside
    the box: its edges are `xmin` - 1, `ymin` - 1, `xmax` and `ymax`. If any corner has decimals or is below 1, all are
    the edges themselves, as other tools write them; a note says so. Parts of objects count as objects.

    Parameters
    ----------
    path
        A local folder, of which all such files are read, or one file, local or a URL. XML files of another kind, and
        broken ones, are counted and noted: their pictures are not annotated.

    Returns
    -------
    Annotations
        In pixels. Names are the `filename` without its ending, after the folders in which the XML file lies; the name
        of the XML file where it states none.

    Raises
    ------
    TableError
        If no file can be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> text = '''<annotation><filename>a.jpg</filename><object><name>ok</name>
    ... <bndbox><xmin>1</xmin><ymin>11</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object></annotation>'''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.xml").write_text(text)
    ...     found = read_voc(folder)
    >>> found.images["name"].tolist(), found.boxes.to_dict("records")
    (['a'], [{'image': 0, 'label': 'ok', 'x1': 0.0, 'y1': 10.0, 'x2': 20.0, 'y2': 30.0}])
    """
    is_folder = os.path.isdir(path)
    files = list_files(path, ".xml") if is_folder else [path]
    columns, reasons, others = AnnotationColumns(), {}, []
    for file in files:
        place = file.removeprefix(f"{path}/") if is_folder else os.path.basename(file)
        try:
            _add_picture(_Reader().read(read_bytes(file)), place, columns)
        except _NotVoc:
            others.append(place)
        except TableError as error:
            reasons[place] = str(error)
    if not columns.names:
        first = next((f": {place}: {reason}" for place, reason in reasons.items()), "")
        raise TableError(f"{path}: none of {len(files)} XML files is an annotation of Pascal VOC{first}; {_REMEDY}")
    conversion = _Conversion()
    found = columns.collect("pixels", has_endings=False, convert=conversion, notes=_note_files(reasons, others))
    if conversion.counts_from_one:
        return found
    return dataclasses.replace(found, notes=(*found.notes, Note("voc_pixels", 1, _FROM_ZERO)))


def is_voc(content: bytes) -> bool:
    """Whether the first bytes of a file are those of an annotation of Pascal VOC.

    Examples
    --------
    >>> is_voc(b"<annotation>"), is_voc(b"<annotations>"), is_voc(b"<annotation><head>")
    (True, False, False)
    """
    reader = _Reader()
    try:
        reader.begin(content)
    except (_NotVoc, TableError):
        return False
    return reader.has_begun


class _Conversion:
    """Converts corners to edges, and remembers how."""

    counts_from_one = True

    def __call__(self, corners: Floats) -> Floats:
        known = corners[np.isfinite(corners)]
        self.counts_from_one = bool((known >= 1).all() and (known == np.round(known)).all())
        return corners - [1, 1, 0, 0] if self.counts_from_one else corners


class _Reader:
    """A parser of one picture. A document type is refused, so that no entity is ever expanded or fetched."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}  # of the picture, by path such as ``size/width``
        self.objects: list[dict[str, str]] = []
        self.has_begun = False
        self._open: list[dict[str, str]] = []  # objects and parts that have not ended
        self._path: list[str] = []
        self._text: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_document_type
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append

    def read(self, content: bytes) -> _Reader:
        self._parse(content, is_final=True)
        return self

    def begin(self, content: bytes) -> None:
        self._parse(content, is_final=False)

    def _parse(self, content: bytes, *, is_final: bool) -> None:
        try:
            self._parser.Parse(content, is_final)
        except (TableError, _NotVoc):
            raise
        except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding that is not known
            reason = expat.errors.messages[error.code] if isinstance(error, expat.ExpatError) else str(error)
            raise TableError(f"not XML: {reason}") from error

    def _refuse_document_type(self, *_: object) -> None:
        raise TableError("has a document type, which may hide harm; it is not read")

    def _start(self, tag: str, _: object) -> None:
        if (not self._path and tag != "annotation") or (len(self._path) == 1 and tag in _OF_ANVIL):
            raise _NotVoc
        self.has_begun = True
        self._path.append(tag)
        if tag in _OBJECTS:
            self._open.append(defaultdict(str))
            self.objects.append(self._open[-1])
        self._text.clear()

    def _end(self, tag: str) -> None:
        path = self._path
        if tag in _OBJECTS:
            self._open.pop()
        elif self._open and (path[-2] in _OBJECTS or path[-3:-1] in _CORNERS_OF):
            self._open[-1].setdefault(tag, "".join(self._text).strip())
        elif not self._open and len(path) in (2, 3):
            self.values.setdefault("/".join(path[1:]), "".join(self._text).strip())
        path.pop()
        self._text.clear()


def _add_picture(found: _Reader, place: str, columns: AnnotationColumns) -> None:
    folders, _, file = place.rpartition("/")
    inside = folders.split("/") if folders else []
    if _FOLDER in inside:
        inside = inside[len(inside) - inside[::-1].index(_FOLDER) :]
    name = found.values.get("filename") or file
    stem = _ENDING.sub("", name.replace("\\", "/"))
    values = (found.values.get(f"size/{side}", "") for side in ("width", "height"))
    row = columns.add_image("/".join([*inside, stem]), *values)
    for each in found.objects:
        columns.add_box(row, each.get("name", ""), [parse_number(each.get(side)) for side in _SIDES])


def _note_files(reasons: dict[str, str], others: list[str]) -> list[Note]:
    first = shorten_text(next(iter(reasons.values()), ""))
    one, many = "file of XML is broken and not used, the first", "files of XML are broken and not used, the first"
    why = "is not an annotation of Pascal VOC and not used", "are not annotations of Pascal VOC and not used"
    return [
        *note_found("broken", list(reasons), f"{one}: {first}", f"{many}: {first}"),
        *note_found("other_file", others, f"file of XML {why[0]}", f"files of XML {why[1]}"),
    ]
