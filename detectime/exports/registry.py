"""The formats by name."""

from __future__ import annotations

from detectime.exports import (
    coco,
    cvat,
    hagrid_json,
    huggingface,
    image_folder,
    samples_csv,
    voc,
    webdataset,
    yolo,
)
from detectime.exports.contract import ExportError, Format
from detectime.settings import suggest_name

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (coco, yolo, voc, hagrid_json, huggingface, webdataset, image_folder, cvat, samples_csv)
}
"""All formats, in the order in which ``--help`` lists them."""


def find_format(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    ExportError
        If there is no such format.

    Examples
    --------
    >>> find_format("coco").images
    'frames'
    >>> find_format("cocoa")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    detectime.exports.contract.ExportError: format 'cocoa': did you mean 'coco'? accepted: coco, yolo, voc, hagrid, ...
    """
    if name not in FORMATS:
        raise ExportError(f"format {name!r}: {suggest_name(name, FORMATS)}")
    return FORMATS[name]
