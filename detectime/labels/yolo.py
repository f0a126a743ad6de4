"""YOLO's annotations, in the layout of Ultralytics or of Darknet: a text file per picture, and the names of classes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from detectime.labels.annotations import AnnotationColumns, Annotations, list_files, read_bytes
from detectime.labels.tables import TableError, format_names
from detectime.notes import Note

_LABELS, _PICTURES = "labels", "images"
_PARTS = ("train", "val", "test")  # keys of ``data.yaml`` that point to pictures
_NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels")  # a name per line
_NO_LABELS = frozenset(
    [*_NAMES_FILES, "labels.txt", "train.txt", "val.txt", "test.txt", "readme.txt", "requirements.txt"]
)
_LEVELS_UP = 2  # folders above that may name the classes
_TRIED = 20  # label files that tell whether a folder holds any
_LARGEST_YAML = 2**20  # bytes: the parser is slow
_REMEDY = "pass the data.yaml, or the folder with it"
_BROKEN = (
    "label file has a row that is not YOLO's, and its picture is not annotated",
    "label files have rows that are not YOLO's, and their pictures are not annotated",
)
_FINDINGS = {
    "polygon": ("row is a polygon, of which the box is used", "rows are polygons, of which the boxes are used"),
    "scored": (
        "row has a score, as predictions have and annotations do not",
        "rows have a score, as predictions have and annotations do not",
    ),
}


class _YamlLoader(yaml.SafeLoader):
    """Reads yes, no, on and off as text: they may be names of classes."""


_YamlLoader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Row(NamedTuple):
    number: int
    corners: tuple[float, float, float, float]
    finding: str = ""


def read_yolo(path: str) -> Annotations:
    """Read YOLO's annotations.

    A row is the class and a box, its centre and size in fractions of the picture; or a polygon; or a box followed by
    keypoints. An empty file is a picture without an object; a picture without a file is not annotated.

    Parameters
    ----------
    path
        Local: a ``data.yaml``; or a folder with one, or with folders named ``labels``, or with text files beside
        ``classes.txt``. If a folder does not name the classes, those inside it or the two above it may.

    Returns
    -------
    Annotations
        In fractions. Names are the paths of the label files below that folder, without their ending and with ``images``
        instead of ``labels``.

    Raises
    ------
    TableError
        If there are no label files, or nothing names their classes, or files name them differently.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "classes.txt").write_text("ok")
    ...     _ = pathlib.Path(folder, "a.txt").write_text("0 0.5 0.5 0.25 0.5")
    ...     found = read_yolo(folder)
    >>> found.images["name"].tolist(), found.boxes.to_dict("records")
    (['a'], [{'image': 0, 'label': 'ok', 'x1': 0.375, 'y1': 0.25, 'x2': 0.625, 'y2': 0.75}])
    """
    if not os.path.exists(path):
        raise TableError(f"{path}: there is no such file or folder; {_REMEDY}")
    is_folder = os.path.isdir(path)
    folder = path if is_folder else os.path.dirname(path) or "."
    file = find_yaml(folder) if is_folder else path
    settings = {} if file is None else _read_yaml(file)
    names = _parse_names(settings.get("names"), str(file)) or _find_names(folder)
    columns, numbers = AnnotationColumns(), set()
    for label_file, name in _list_label_files(folder, settings):
        numbers |= _add_picture(name, read_bytes(label_file), columns, names, _count_keypoint_fields(settings))
    if not columns.names:
        broken = "".join(f" ({note})" for note in columns.collect("fractions").notes)
        raise TableError(f"{path}: there are no label files of YOLO, one text file per picture{broken}; {_REMEDY}")
    return columns.collect("fractions", has_endings=False, notes=_check_numbers(sorted(numbers), names, path))


def list_read_files(path: str) -> list[str]:
    """Return the files that `read_yolo` reads, but for those above a folder that name its classes.

    Raises
    ------
    TableError
        As `read_yolo`.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> list_read_files(str(SAMPLE))
    []
    """
    is_folder = os.path.isdir(path)
    folder = path if is_folder else os.path.dirname(path) or "."
    file = find_yaml(folder) if is_folder else path
    settings = {} if file is None else _read_yaml(file)
    labels = [label_file for label_file, _ in _list_label_files(folder, settings)]
    return [*([] if file is None else [file]), *_list_names_files(folder), *labels]


def find_yaml(folder: str) -> str | None:
    """Return the file in a folder that describes a data set: ``data.yaml``, or else the only one that has `names`.

    Raises
    ------
    TableError
        If several may be meant.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> find_yaml(str(SAMPLE)) is None
    True
    """
    files = sorted(name for name in os.listdir(folder) if name.lower().endswith((".yaml", ".yml")))
    if "data.yaml" in files:
        return f"{folder}/data.yaml"
    found = [f"{folder}/{name}" for name in files if b"\nnames:" in b"\n" + read_bytes(f"{folder}/{name}")]
    if len(found) > 1:
        raise TableError(f"{folder}: several files may describe the data set: {format_names(found)}; pass one of them")
    return found[0] if found else None


def is_yolo(folder: str) -> bool:
    """Whether a folder holds label files, and beside them or above them in it a list of their classes.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> is_yolo(str(SAMPLE))
    False
    """
    if not _list_names_files(folder):
        return False
    return has_label_files(folder)


def has_label_files(folder: str) -> bool:
    """Whether some of the first text files in a folder are label files, whatever names its classes.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> has_label_files(str(SAMPLE))
    False
    """
    files = itertools.islice(_list_label_files(folder, {}), _TRIED)
    return any(_has_rows(read_bytes(file)) for file, _ in files)


def _has_rows(content: bytes) -> bool:
    try:
        return bool([_parse_row(line.split(), 0) for line in content.splitlines() if line.strip()])
    except (ValueError, OverflowError):
        return False


# -- files


def _read_yaml(file: str) -> dict[str, Any]:
    content = read_bytes(file, _LARGEST_YAML + 1)
    if len(content) > _LARGEST_YAML:
        raise TableError(f"{file}: larger than {_LARGEST_YAML:,} bytes, which no data.yaml is; {_REMEDY}")
    try:
        found = yaml.load(content, _YamlLoader)  # the parser in C crashes on deeply nested lists
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # TypeError: a key that is a list
        reason = " ".join(str(error).split())
        raise TableError(f"{file}: not valid YAML ({reason}); {_REMEDY}") from error
    if not isinstance(found, dict):
        raise TableError(f"{file}: does not describe a data set, with names and train; {_REMEDY}")
    return found


def _list_label_files(folder: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each label file with the name of its picture."""
    files = list_files(folder, ".txt")
    names = [file.removeprefix(f"{folder.rstrip('/')}/") for file in files]
    is_labels = os.path.basename(os.path.abspath(folder)) == _LABELS
    inside = [is_labels or _LABELS in name.split("/")[:-1] for name in names]
    has_inside = any(inside)
    for file, name, is_inside in zip(files, names, inside, strict=True):
        others = _NAMES_FILES if is_inside else _NO_LABELS
        if is_inside >= has_inside and name.rpartition("/")[2].lower() not in others:
            yield file, _name_picture(name)
    for root, place in _list_places_outside(folder, settings):
        for file in list_files(place, ".txt"):
            yield file, _name_picture(file.removeprefix(f"{root}/"))


def _name_picture(label_file: str) -> str:
    """Return the path of a picture without its ending: Ultralytics replaces the last folder named ``labels``."""
    *folders, file = label_file.removesuffix(".txt").split("/")
    for position in range(len(folders) - 1, -1, -1):
        if folders[position] == _LABELS:
            folders[position] = _PICTURES
            break
    return "/".join([*folders, file])


def _list_places_outside(folder: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the folders elsewhere that ``data.yaml`` points to, each after the one that names are relative to.

    Only folders named ``labels`` or inside one: a mistaken path must not lead through a whole disk.
    """
    root = settings.get("path")
    base = os.path.join(folder, root) if isinstance(root, str) else folder
    entries = [entry for part in _PARTS for entry in _list_texts(settings.get(part))]
    for pictures in dict.fromkeys(os.path.normpath(os.path.join(base, entry)) for entry in entries):
        parts = pictures.split(os.sep)
        if _PICTURES in parts and "\0" not in pictures:
            last = len(parts) - 1 - parts[::-1].index(_PICTURES)
            place = os.sep.join([*parts[:last], _LABELS, *parts[last + 1 :]])
            if os.path.isdir(place) and not os.path.abspath(place).startswith(f"{os.path.abspath(folder)}{os.sep}"):
                yield os.sep.join(parts[:last]), place


def _list_texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


# -- names of classes


def _parse_names(names: Any, file: str) -> dict[int, str] | None:
    """Return the name of each class, listed or by number; None if there are none."""
    if names is None:
        return None
    items = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else None
    try:
        if items is None:
            raise ValueError
        return {int(number): _check_name(name) for number, name in items}
    except (TypeError, ValueError) as error:
        raise TableError(f"{file}: names must list the names of classes, or map numbers to them; {_REMEDY}") from error


def _check_name(name: Any) -> str:
    if not isinstance(name, (str, int, float)):
        raise ValueError
    return str(name)


def _find_names(folder: str) -> dict[int, str] | None:
    """Find the names of classes in a file beside those of labels, or in the folders inside, or above."""
    place = os.path.abspath(folder)
    for level in range(_LEVELS_UP + 1):
        for name in _NAMES_FILES:
            if os.path.isfile(f"{place}/{name}"):
                return _read_names(f"{place}/{name}")
        file = f"{place}/data.yaml"
        if os.path.isfile(file):
            return _parse_names(_read_yaml(file).get("names"), file)
        if level == 0 and (inside := _list_names_files(folder)):
            return _read_equal_names(inside)
        place = os.path.dirname(place)
    return None


def _list_names_files(folder: str) -> list[str]:
    """Return the files in a folder, and in those in it, that list names of classes."""
    files = [file for name in _NAMES_FILES for file in list_files(folder, name)]
    return [file for file in files if os.path.basename(file) in _NAMES_FILES]


def _read_equal_names(files: list[str]) -> dict[int, str]:
    """Read files that must list the same names, as those of the parts of a set do."""
    names = _read_names(files[0])
    for file in files[1:]:
        if _read_names(file) != names:
            raise TableError(f"{files[0]} and {file} name the classes differently; pass the folder of one of them")
    return names


def _read_names(file: str) -> dict[int, str]:
    lines = read_bytes(file).decode("utf-8-sig", "replace").splitlines()
    return dict(enumerate(line.strip() for line in lines if line.strip()))


def _check_numbers(numbers: list[int], names: Mapping[int, str] | None, path: str) -> list[Note]:
    """Refuse classes without names, since the numbers may count from 1; a single one is that of any hand."""
    if names is not None and (unnamed := [str(number) for number in numbers if number not in names]):
        raise TableError(
            f"{path}: nothing names the classes {format_names(unnamed)} of its boxes: there are names of "
            f"{format_names(list(map(str, names)))}; correct the names in data.yaml or classes.txt, which count from 0"
        )
    if names is not None or not numbers:
        return []
    if len(numbers) > 1:
        raise TableError(
            f"{path}: nothing names its classes {format_names(list(map(str, numbers)))}; {_REMEDY}, or write their "
            "names into classes.txt, one per line"
        )
    return [Note("unnamed", 1, f"The only class, {numbers[0]}, has no name, and counts as any hand.")]


# -- rows


def _count_keypoint_fields(settings: Mapping[str, Any]) -> int:
    """Return how many fields the keypoints of a row take; 0 if there are none."""
    shape = settings.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(count, int) for count in shape):
        return int(shape[0] * shape[1])
    return 0


def _add_picture(
    name: str, content: bytes, columns: AnnotationColumns, names: Mapping[int, str] | None, keypoint_fields: int
) -> set[int]:
    """Add a picture and its boxes; returns the numbers of their classes."""
    try:
        rows = [_parse_row(line.split(), keypoint_fields) for line in content.splitlines() if line.strip()]
    except (ValueError, OverflowError):
        columns.add_finding("broken", name, *_BROKEN)
        return set()
    image = columns.add_image(name)
    for row in rows:
        columns.add_box(image, "" if names is None else names.get(row.number, str(row.number)), row.corners)
        if row.finding:
            columns.add_finding(row.finding, name, *_FINDINGS[row.finding])
    return {row.number for row in rows}


def _parse_row(fields: list[bytes], keypoint_fields: int) -> _Row:
    """Parse a row; raises `ValueError` if it is not YOLO's."""
    number = float(fields[0])
    if not number.is_integer():
        raise ValueError
    values = [float(field) for field in fields[1:]]
    count = len(values)
    if count == 4 or (keypoint_fields and count == 4 + keypoint_fields):
        return _Row(int(number), _get_corners(values))
    if count == 5:
        return _Row(int(number), _get_corners(values), "scored")
    if count >= 6 and count % 2 == 0:
        x, y = values[::2], values[1::2]
        return _Row(int(number), (min(x), min(y), max(x), max(y)), "polygon")
    if count > 6 and (count - 4) % 3 == 0:  # x, y and visibility of keypoints
        return _Row(int(number), _get_corners(values))
    raise ValueError


def _get_corners(values: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = values[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
