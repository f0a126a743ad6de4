"""Pascal VOC: ``Annotations/<name>.xml``, ``JPEGImages``, and lists of names in ``ImageSets/Main``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from detectime.exports.contract import ExportData, ExportError, Format, split_folder
from detectime.exports.many_files import put_many
from detectime.exports.xml_text import find_character_fault, find_path_fault
from detectime.notes import shorten_text
from detectime.schema import CORNERS
from detectime.storage.store import Store

_PICTURES = "JPEGImages"
_UNSPLIT = "trainval"  # what readers look for in a set that is not split

_PICTURE = (
    "<annotation>\n\t<folder>{}</folder>\n\t<filename>{}</filename>\n\t<source>\n\t\t<database>detectime</database>\n"
    "\t</source>\n\t<size>\n\t\t<width>{}</width>\n\t\t<height>{}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
    "\t<segmented>0</segmented>\n{}</annotation>\n"
).format
_OBJECT = (
    "\t<object>\n\t\t<name>{}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
    "\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymin>{}</ymin>\n\t\t\t<xmax>{}</xmax>\n"
    "\t\t\t<ymax>{}</ymax>\n\t\t</bndbox>\n\t</object>\n"
).format


def write_voc(data: ExportData, store: Store) -> None:
    """Write an annotation for each picture, also for those without a box, and a list of names for each part.

    Parameters
    ----------
    data
        What is exported.
    store
        The folder of the export. A set that is not split has one list, ``trainval.txt``.

    Raises
    ------
    ExportError
        If XML 1.0 cannot hold the path of a frame that is not exported itself.
    StoreError
        If a file cannot be written.
    """
    names = data.images["name"].tolist()
    annotations = zip(names, encode_annotations(data), strict=True)
    # ASCII, so that readers that open files in the encoding of their system read every name.
    put_many(
        store, ((f"Annotations/{name}.xml", text.encode("ascii", "xmlcharrefreplace")) for name, text in annotations)
    )
    for split in data.splits:
        listed = data.images.loc[(data.images["split"] == split).to_numpy(), "name"].tolist()
        text = "".join(f"{name}\n" for name in listed)
        store.put(f"ImageSets/Main/{split_folder(split, _UNSPLIT)}.txt", text.encode())


def encode_annotations(data: ExportData) -> Iterator[str]:
    """Yield the XML text of each picture's annotation.

    Boxes are as in the VOC devkit: whole pixels numbered from 1, from the first to the last that the box touches. So
    `xmin` - 1 and `xmax` are the edges of the box, at most one pixel further out.

    Parameters
    ----------
    data
        What is exported.

    Raises
    ------
    ExportError
        If XML 1.0 cannot hold the path of a frame that is not exported itself.

    Examples
    --------
    >>> import re
    >>> import pandas as pd
    >>> images = pd.DataFrame([{"file": "JPEGImages/a.jpg", "width": 64, "height": 48}])
    >>> objects = pd.DataFrame([{"image": 0, "class_name": "<ok>", "x1": 0.0, "y1": 1.5, "x2": 63.2, "y2": 48.0}])
    >>> text = "".join(encode_annotations(ExportData(images, objects, ("<ok>",), {}, pictures="frames")))
    >>> re.findall("<(?:filename|name|.m..)>(.*)</", text)
    ['a.jpg', '&lt;ok&gt;', '1', '2', '64', '48']
    """
    found = _encode_objects(data)
    folder = "" if data.pictures == "none" else _PICTURES
    columns = [_list_file_names(data), *(data.images[name].tolist() for name in ("width", "height"))]
    for file, width, height, objects in zip(*columns, found, strict=True):
        yield _PICTURE(folder, file, width, height, objects)


def find_fault(class_name: str) -> str | None:
    """Say why Pascal VOC cannot hold a class of this name; None if it can.

    Examples
    --------
    >>> find_fault("<ok>"), find_fault("bell\\a")
    (None, 'XML 1.0 cannot hold the character U+0007')
    """
    return find_character_fault(class_name) if class_name else "readers take an empty name for a missing one"


def _encode_objects(data: ExportData) -> Iterator[str]:
    """Yield the elements of each picture's objects."""
    objects = data.objects
    corners = objects[list(CORNERS)].to_numpy(np.float64)
    pixels = np.hstack([np.floor(corners[:, :2]) + 1, np.ceil(corners[:, 2:])]).astype(np.int64)
    names = {name: _escape(name) for name in data.classes}
    elements = map(_OBJECT, map(names.__getitem__, objects["class_name"].tolist()), *pixels.T.tolist())
    for count in np.bincount(objects["image"].to_numpy(np.int64), minlength=len(data.images)).tolist():
        yield "".join(itertools.islice(elements, count))


def _list_file_names(data: ExportData) -> Iterator[str]:
    for file in data.images["file"].tolist():
        fault = find_character_fault(file)
        if fault:
            raise ExportError(
                f"{shorten_text(file)}: voc cannot hold the path of this frame: {fault}; rename the file, or export "
                "with images = frames, which names every picture plainly"
            )
        yield _escape(file.removeprefix(f"{_PICTURES}/") if data.pictures != "none" else file)


def _escape(text: str) -> str:
    return escape(text, {"\r": "&#13;"})  # parsers turn a plain one into a line feed


def _name_picture(row: Mapping[str, Any]) -> str:
    return f"{_PICTURES}/{row['name']}"


FORMAT = Format(
    name="voc",
    title="Pascal VOC: an XML file per picture, with boxes in whole pixels.",
    box="hand",
    images="frames",
    accepted_images=("frames", "none"),
    write=write_voc,
    name_picture=_name_picture,
    find_fault=find_fault,
    find_data_fault=find_path_fault,
)
