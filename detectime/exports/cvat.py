"""CVAT for images 1.1: ``annotations.xml`` beside the folder ``images``, for a team that corrects boxes in CVAT.

Everything is in one file, whatever the split: a task of CVAT knows no parts, and readers drop or misplace pictures of
parts that they do not expect. No part is lost: corrections come back by the names of the pictures (`cvat_decisions`).
CVAT drops boxes whose label its task lacks, so ``labels.json`` has all labels, as the tab ``Raw`` of its label
constructor reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd

from detectime.exports.contract import ExportData, ExportError, Format
from detectime.exports.xml_text import find_character_fault, find_path_fault
from detectime.notes import shorten_text
from detectime.schema import CORNERS
from detectime.storage.store import Store

FILE_NAME = "annotations.xml"
LABELS_NAME = "labels.json"
PICTURES = "images"
"""The folder of the pictures."""

_LABEL_LENGTH = 64  # characters: CVAT cuts off the rest
_LINE_END = {"\r": "&#13;"}  # a parser reads it as a line feed otherwise
_CHUNK = 4096  # pictures that are encoded at a time
_BOX = (
    '    <box label={} source="{}" occluded="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}" z_order="0">\n    </box>\n'.format
)


def write_cvat(data: ExportData, store: Store) -> None:
    """Write ``annotations.xml`` and ``labels.json``.

    Parameters
    ----------
    data
        What is exported. Boxes are written with all digits.
    store
        The folder of the export.

    Raises
    ------
    ExportError
        If XML 1.0 cannot hold the path of a picture.
    StoreError
        If a file cannot be written.
    """
    with store.writing(FILE_NAME) as file:
        file.writelines(text.encode() for text in encode_annotations(data))
    labels = [{"name": name, "type": "rectangle", "attributes": []} for name in data.classes]
    store.put(LABELS_NAME, json.dumps(labels, indent=2).encode())


def encode_annotations(data: ExportData) -> Iterator[str]:
    """Yield the text of ``annotations.xml`` in pieces, so that memory does not grow with the number of pictures.

    Pictures are in the order of their names, and numbered in it: so does CVAT, which falls back on these numbers where
    it does not find a name.

    Parameters
    ----------
    data
        What is exported.

    Raises
    ------
    ExportError
        If XML 1.0 cannot hold the path of a picture.

    Examples
    --------
    >>> columns = ["image", "class_name", *CORNERS, "score"]
    >>> images = pd.DataFrame({"file": ["images/a.jpg"], "frame_path": ["v/a.jpg"], "width": [640], "height": [480]})
    >>> objects = pd.DataFrame([[0, "ok", 1.5, 2.0, 30.25, 40.0, 0.9]], columns=columns)
    >>> lines = "".join(encode_annotations(ExportData(images, objects, ("ok",), {"ok": 4}))).splitlines()
    >>> print(*lines[-5:], sep="\\n")
      <image id="0" name="images/a.jpg" width="640" height="480">
        <box label="ok" source="auto" occluded="0" xtl="1.5" ytl="2.0" xbr="30.25" ybr="40.0" z_order="0">
        </box>
      </image>
    </annotations>
    """
    names = _name_images(data)
    order = sorted(range(len(names)), key=names.__getitem__)
    names = [names[row] for row in order]
    sizes = data.images[["width", "height"]].iloc[order]
    objects, starts = _sort_objects(data.objects, order)
    labels = {name: quoteattr(name) for name in data.classes}
    yield _encode_head(data.classes, len(names))
    for start in range(0, len(names), _CHUNK):
        end = min(start + _CHUNK, len(names))
        first = int(starts[start])
        texts = _encode_boxes(objects.iloc[first : int(starts[end])], labels)
        bounds = (starts[start : end + 1] - first).tolist()
        chunk = sizes.iloc[start:end]
        for k, (width, height) in enumerate(zip(chunk["width"].tolist(), chunk["height"].tolist(), strict=True)):
            name = quoteattr(names[start + k])
            yield f'  <image id="{start + k}" name={name} width="{width}" height="{height}">\n'
            yield from texts[bounds[k] : bounds[k + 1]]
            yield "  </image>\n"
    yield "</annotations>\n"


def find_fault(class_name: str) -> str | None:
    """Say why CVAT cannot hold a class of this name; None if it can.

    Examples
    --------
    >>> find_fault("thumb up"), find_fault("ok ")
    (None, 'CVAT removes blanks around a label')
    """
    if not class_name.strip():
        return "CVAT needs a label that is not empty"
    if class_name != class_name.strip():
        return "CVAT removes blanks around a label"
    if len(class_name) > _LABEL_LENGTH:
        return f"CVAT cuts off a label after {_LABEL_LENGTH} characters"
    return find_character_fault(class_name)


def _name_picture(row: Mapping[str, Any]) -> str:
    return f"{PICTURES}/{row['name']}"


def _name_images(data: ExportData) -> list[str]:
    """Return the name of each picture in CVAT: its path in the folder of pictures, or that of the frame."""
    files: list[str] = data.images["file"].tolist()
    if data.pictures == "frames":
        return [file.removeprefix(f"{PICTURES}/") for file in files]
    for file in files:
        fault = find_character_fault(file)
        if fault:
            raise ExportError(
                f"{shorten_text(file)}: cvat cannot hold this path: {fault}; export with `images: frames`: "
                "its pictures have plain names"
            )
    return files


def _sort_objects(objects: pd.DataFrame, order: Sequence[int]) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Return objects in the order of the pictures, and where those of each picture start, and of the last one end."""
    position = np.empty(len(order), np.int64)
    position[np.asarray(order, np.int64)] = np.arange(len(order))
    image = position[objects["image"].to_numpy(np.int64)]
    rows = np.argsort(image, kind="stable")
    return objects.iloc[rows], np.searchsorted(image[rows], np.arange(len(order) + 1))


def _encode_boxes(objects: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Return the element of each box. A box without a score was drawn by a person."""
    names = [labels[name] for name in objects["class_name"].tolist()]
    sources = np.where(objects["score"].isna(), "manual", "auto").tolist()
    corners = [objects[name].to_numpy(np.float64).tolist() for name in CORNERS]
    return list(map(_BOX, names, sources, *corners))


def _encode_head(classes: Sequence[str], count: int) -> str:
    labels = "".join(
        f"        <label>\n          <name>{escape(name, _LINE_END)}</name>\n          <type>rectangle</type>\n"
        "          <attributes>\n          </attributes>\n        </label>\n"
        for name in classes
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
        f"      <name>detectime</name>\n      <size>{count}</size>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    )


FORMAT = Format(
    name="cvat",
    title="CVAT for images 1.1: pictures and annotations.xml that a team corrects; its corrections become decisions.",
    box="hand",
    images="frames",
    accepted_images=("frames", "none"),
    write=write_cvat,
    name_picture=_name_picture,
    find_fault=find_fault,
    accepted_boxes=("hand",),
    accepted_only=("all", "reviewed", "missed"),
    find_data_fault=find_path_fault,
)
