"""COCO's annotations of objects: a JSON file with `images`, `annotations` and `categories`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from detectime.labels.annotations import (
    UNKNOWN,
    AnnotationColumns,
    Annotations,
    find_group,
    list_files,
    parse_corners,
    read_bytes,
    read_json,
)
from detectime.labels.tables import TableError
from detectime.notes import shorten_text

_HEAD = 4096  # bytes that tell whether a file is COCO's
_FIRST_KEY = re.compile(rb'\s*\{\s*(?:"(?:images|annotations|categories|licenses)"\s*:\s*\[|"info"\s*:|"type"\s*:\s*")')
_PICTURES = re.compile(rb'"images"\s*:\s*\[')
_OF_IMAGES = ("id", "file_name", "width", "height", "frame_path", "frame_id")
_REMEDY = "export it as COCO with boxes (instances), or pass another format"
_CROWD = (
    "annotation marks a crowd, not one object, and is not used",
    "annotations mark a crowd, not one object, and are not used",
)
_SEGMENTED = (
    "annotation has a segmentation, of which only the box is used",
    "annotations have a segmentation, of which only the box is used",
)
_UNLISTED = (
    "annotation is of a picture that is not listed, and not used",
    "annotations are of pictures that are not listed, and not used",
)
_BOXLESS = (
    "file of the folder has no boxes, as captions have none, and is not used",
    "files of the folder have no boxes, as captions have none, and are not used",
)


class _Image(NamedTuple):
    identity: Any
    name: Any
    width: Any
    height: Any
    frame_path: Any
    group: str
    frame_id: Any


class _Annotation(NamedTuple):
    image: Any
    category: Any
    corners: tuple[float, float, float, float]
    is_crowd: bool
    is_segmented: bool
    group: str


def is_coco(head: bytes) -> bool:
    """Whether the first bytes of a file are those of COCO's annotations, which list `images`, perhaps further on.

    Examples
    --------
    >>> is_coco(b'{"info": {}, "images": ['), is_coco(b'{"a.jpg": {"hands": []}}')
    (True, False)
    """
    text = head.removeprefix(b"\xef\xbb\xbf")
    return bool(_FIRST_KEY.match(text)) and (bool(_PICTURES.search(text)) or not _is_whole(text))


def _is_whole(text: bytes) -> bool:
    """Whether JSON is not cut off."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_coco(path: str) -> Annotations:
    """Read the boxes of COCO's annotations.

    Segmentations are not read, only boxes. Where an annotation has none, or marks a crowd, its corners are NaN. A
    picture that no annotation names is annotated: nothing is in it.

    Parameters
    ----------
    path
        The JSON file, local or a URL; or a local folder: all such files in it are read. Those without boxes, such as
        captions, are noted if there are others.

    Returns
    -------
    Annotations
        In pixels. Names are the `file_name`.

    Raises
    ------
    TableError
        If a file cannot be read, or is not of this format; or if two files list the same picture.

    Examples
    --------
    >>> import json, tempfile
    >>> made = {"images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}]}
    >>> made["categories"] = [{"id": 1, "name": "ok"}]
    >>> made["annotations"] = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40]}]
    >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    ...     json.dump(made, file)
    ...     file.flush()
    ...     found = read_coco(file.name)
    >>> found.boxes.to_dict("records")
    [{'image': 0, 'label': 'ok', 'x1': 10.0, 'y1': 20.0, 'x2': 40.0, 'y2': 60.0}]
    """
    columns, files = AnnotationColumns(), list_coco_files(path)
    listed: dict[str, str] = {}  # the file of each picture
    boxless = []
    for file in files:
        content = read_json(file, object_hook=_shorten)
        if len(files) > 1 and _lacks_boxes(content):
            boxless.append(file)
            continue
        first = len(columns.names)
        _add_content(content, file, columns)
        _refuse_repeated(columns.names[first:], file, listed)
    if len(boxless) == len(files):
        raise TableError(f"{path}: none of its {len(files)} files of COCO has boxes; {_REMEDY}")
    for file in boxless:
        columns.add_finding("boxless", os.path.relpath(file, path), *_BOXLESS)
    return columns.collect("pixels")


def _lacks_boxes(content: Any) -> bool:
    """Whether a file lists annotations of another kind alone, or none."""
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list):
        return True
    return bool(annotations) and not any(isinstance(each, _Annotation) for each in annotations)


def _refuse_repeated(names: list[str], file: str, listed: dict[str, str]) -> None:
    """Refuse a picture that an earlier file lists too; `listed` is extended."""
    repeated = next((name for name in names if name in listed), None)
    if repeated is not None:
        raise TableError(
            f"{listed[repeated]} and {file} list the same pictures, such as {shorten_text(repeated)}; pass one of them"
        )
    listed.update(dict.fromkeys(names, file))


def list_coco_files(path: str) -> list[str]:
    """Return the files of COCO in a local folder, or the file itself.

    Raises
    ------
    TableError
        If there is none.

    Examples
    --------
    >>> list_coco_files("instances.json")
    ['instances.json']
    """
    if not os.path.isdir(path):
        return [path]
    found = [file for file in list_files(path, ".json") if is_coco(read_bytes(file, _HEAD))]
    if not found:
        raise TableError(f"{path}: no JSON file in this folder is COCO's; {_REMEDY}")
    return found


def _add_content(content: Any, file: str, columns: AnnotationColumns) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise TableError(f"{file}: not COCO's annotations: it lacks the list images; {_REMEDY}")
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise TableError(f"{file}: it lacks the list annotations, as files of pictures to be tested do; {_REMEDY}")
    names = _read_categories(content.get("categories"), file)
    rows = _add_images(content["images"], _find_groups(annotations), columns, file)
    unlisted = 0
    for position, annotation in enumerate(annotations):
        if not isinstance(annotation, _Annotation):
            raise TableError(f"{file}: annotations[{position}] lacks image_id or category_id; {_REMEDY}")
        unlisted += not _add_box(annotation, rows, names, columns)
    if annotations and unlisted == len(annotations):
        raise TableError(
            f"{file}: no image_id of its {unlisted} annotations is the id of a picture; ids must be of one type, 7 or "
            '"7", in both'
        )


def _shorten(pairs: dict[str, Any]) -> Any:
    """Keep what is read of an object, while the file is parsed: most of a large file is not kept."""
    if "image_id" in pairs and "category_id" in pairs:
        return _Annotation(
            pairs["image_id"],
            pairs["category_id"],
            parse_corners(pairs.get("bbox"), has_sizes=True),
            bool(pairs.get("iscrowd")),
            bool(pairs.get("segmentation")),
            _find_attribute(pairs),
        )
    if "file_name" in pairs and "id" in pairs:
        identity, name, width, height, frame_path, frame_id = (pairs.get(key) for key in _OF_IMAGES)
        return _Image(identity, name, width, height, frame_path, find_group(pairs) or _find_attribute(pairs), frame_id)
    return pairs


def _find_attribute(pairs: Mapping[str, Any]) -> str:
    """Return the video or person among the attributes, where CVAT writes them; empty if they name none."""
    attributes = pairs.get("attributes")
    return find_group(attributes) if isinstance(attributes, dict) else ""


def _read_categories(categories: Any, file: str) -> Mapping[Any, str] | None:
    """Return the name of each category; None if the file has no categories."""
    if not categories:
        return None
    try:
        return {category["id"]: str(category["name"]) for category in categories}
    except (TypeError, KeyError) as error:
        raise TableError(f"{file}: categories must be a list of objects with id and name; {_REMEDY}") from error


def _find_groups(annotations: list[Any]) -> dict[Any, str]:
    """Return the video or person that the first annotation of each picture names, by the picture's id."""
    found: dict[Any, str] = {}
    for annotation in annotations:
        if isinstance(annotation, _Annotation) and annotation.group and not isinstance(annotation.image, (list, dict)):
            found.setdefault(annotation.image, annotation.group)
    return found


def _add_images(images: list[Any], groups: Mapping[Any, str], columns: AnnotationColumns, file: str) -> dict[Any, int]:
    """Add the pictures of a file, with the groups that annotations name; returns the row of each id."""
    rows: dict[Any, int] = {}
    for position, image in enumerate(images):
        if not isinstance(image, _Image) or not isinstance(image.name, str) or isinstance(image.identity, (list, dict)):
            raise TableError(f"{file}: images[{position}] lacks its id or file_name, a text; {_REMEDY}")
        if image.identity in rows:
            raise TableError(
                f"{file}: the id {shorten_text(str(image.identity))} of images[{position}] is that of another picture, "
                "so that nobody knows which boxes are in which; give each picture its own id"
            )
        image = image._replace(group=image.group or groups.get(image.identity, ""))
        rows[image.identity] = columns.add_image(*image[1:])
    return rows


def _add_box(
    annotation: _Annotation, rows: Mapping[Any, int], names: Mapping[Any, str] | None, columns: AnnotationColumns
) -> bool:
    """Add an annotation; returns whether its picture is listed."""
    image, category = (str(key) if isinstance(key, (list, dict)) else key for key in annotation[:2])
    row = rows.get(image)
    if row is None:
        columns.add_finding("unlisted", f"image_id {image}", *_UNLISTED)
        return False
    if annotation.is_crowd:
        columns.add_finding("crowd", columns.names[row], *_CROWD)
    elif annotation.is_segmented:
        columns.add_finding("segmentation", columns.names[row], *_SEGMENTED)
    label = "" if names is None else names.get(category, f"category {category}")
    columns.add_box(row, label, UNKNOWN if annotation.is_crowd else annotation.corners)
    return True
