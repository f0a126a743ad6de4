"""The records of HaGRID's annotations: what makes one unusable, and their boxes as fractions of the image."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Flags
from detectime.labels.tables import TableError
from detectime.notes import Note, shorten_text
from detectime.storage.json_files import describe_broken, describe_value, name_format

Floats = NDArray[np.float64]

_NUMBERS = frozenset([int, float])
_LARGEST_FRACTION = 2.0  # of a side; the boxes of hands in pixels are larger
_ROUNDING = 1e-6  # a box may extend this far past the image without counting as clipped
_OVER = 1.05  # a right or lower edge, in fractions, that no box of a hand has
_FEWEST_BOXES = 3  # that tell what is meant by four numbers
_PERCENT = 100.0
_LARGER_THAN_PERCENT = 300  # pixels: the shorter side of images whose hands cannot all lie in the first 100
_MOST, _MANY = 0.98, 0.25  # shares of the boxes of a file
_LARGEST_EXACT = 2**53  # of the whole numbers in floating point
_LARGEST_SIDE = 2**31  # pixels
_HAGRID = "HaGRID's annotations"
_LABELS_TYPES = {"COCO's annotations": "coco"}  # by the names of `json_files.name_format`


class Fault(Enum):
    """Why a record cannot be used: a phrase, and what to do."""

    NO_RECORD = "it is not an object with user_id, labels and bboxes", "write such an object for each image"
    NESTED = "it holds records itself", "move the records of the images to the top level of the file"
    NO_NAME = "the name of the image is empty", "give each record the name of its image as its key"
    NO_USER = "user_id is missing or empty", "add the person as `user_id`, as text"
    USER_KIND = "user_id is neither text nor a number", "write the person as text"
    HALF_CHARACTER = "its name or user_id holds half a character", "write them as valid Unicode"
    NO_LABELS = "labels is missing or not a list", "add `labels`, a list with the class of each box"
    NO_BOXES = "bboxes is missing or not a list", "add `bboxes`, a list of [x, y, width, height]"
    LENGTHS = "labels and bboxes differ in length", "give each box one label"
    LABEL_KIND = "a label is not text", "write the name of the class of each box as text"
    BOX_KIND = "a box is not four numbers", "write each box as [x, y, width, height]"
    NOT_FINITE = "a box holds NaN or an infinite number", "leave out boxes that are not known, with their labels"
    NO_AREA = "a box has a width or height of 0 or less", "write each box as [x, y, width, height]"
    OUTSIDE = "a box lies outside the image", "write boxes as fractions of the image's width and height"
    NO_SIZE = (
        "boxes are in pixels or percent, and the width and height of the image are not stated",
        "write them as fractions: divide pixels of x and width by the width of the image, those of y and height by its "
        "height, and percent by 100; or state both as `width` and `height` in the record, for boxes in pixels",
    )
    OTHER_UNIT = (
        "a box is in pixels and most of its file are fractions, or the other way round",
        "write all boxes as fractions of the image's width and height",
    )

    @property
    def reason(self) -> str:
        """What is wrong, as a clause."""
        return self.value[0]

    @property
    def remedy(self) -> str:
        """What to do, as an imperative."""
        return self.value[1]


BOX_FAULTS = (None, Fault.NOT_FINITE, Fault.NO_AREA, Fault.OUTSIDE, Fault.NO_SIZE, Fault.OTHER_UNIT)
"""What the codes of `Corners` mean."""

IN_PIXELS = "boxes in pixels, which were divided by the stated width and height"
"""Of a note about files."""


class Faults:
    """Records that cannot be used, counted by reason.

    Examples
    --------
    >>> faults = Faults()
    >>> faults.add(Fault.NO_USER, "ok/7f3a")
    >>> print(*faults.list_notes())
    1 record is left out: user_id is missing or empty (the first: 'ok/7f3a')
    >>> faults.explain()[:63]
    'none of the records can be used: user_id is missing or empty in'
    """

    def __init__(self) -> None:
        self._counts: Counter[Fault] = Counter()
        self._first: dict[Fault, str] = {}

    def add(self, fault: Fault, name: str) -> None:
        """Count a record by its name."""
        self._counts[fault] += 1
        self._first.setdefault(fault, name)

    def __len__(self) -> int:
        return self._counts.total()

    def list_notes(self) -> list[Note]:
        """Return a note for each reason, the commonest first."""
        counts = self._counts.most_common()
        be = {fault: "record is" if count == 1 else "records are" for fault, count in counts}
        return [
            Note("malformed", count, f"{be[fault]} left out: {fault.reason}", self._first[fault])
            for fault, count in counts
        ]

    def explain(self) -> str:
        """Say why no record can be used: each reason with its count and first record, and what to do."""
        counts = self._counts.most_common()
        reasons = [f"{fault.reason} in {n:,} (the first: {shorten_text(self._first[fault])})" for fault, n in counts]
        return f"none of the records can be used: {'; '.join(reasons)}; {counts[0][0].remedy}"


def load_records(
    content: bytes, file: Path, parse: Callable[[dict[str, Any]], Any]
) -> tuple[dict[str, Any], list[str]]:
    """Load the records of a file.

    Parameters
    ----------
    content
        The file.
    file
        Its path.
    parse
        Returns what to keep of a record, a tuple or a `Fault`, and other objects as they are. It is called for every
        object as soon as it is decoded: there are a million records, and most of their content is not kept.

    Returns
    -------
    records : dict
        What `parse` returned, by image; something else where there is no record.
    repeated : list of str
        Images that the file has more than once: the last record of each is in `records`.

    Raises
    ------
    TableError
        If the file is not JSON, or is something else, which is named.

    Examples
    --------
    >>> load_records(b'{"7f3a": {"labels": ["ok"], "bboxes": []}}', Path("ok.json"), lambda pairs: pairs)
    ({'7f3a': {'labels': ['ok'], 'bboxes': []}}, [])
    """
    parsed = 0

    def parse_object(pairs: dict[str, Any]) -> Any:
        nonlocal parsed
        found = parse(pairs)
        parsed += found is not pairs
        return found

    try:
        records = json.loads(content, object_hook=parse_object)
        if not isinstance(records, dict) or not parsed:
            _refuse_other_formats(json.loads(content), file)
        return records, _list_repeated(content) if parsed > len(records) else []
    except (ValueError, RecursionError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{file}: {describe_broken(content, error)}; HaGRID's annotations are JSON") from error


def _refuse_other_formats(value: Any, file: Path) -> None:
    name = name_format(value)
    if isinstance(value, dict) and name in (None, _HAGRID) and not is_record(value):
        return
    what = "a single record" if is_record(value) else "a list" if name == _HAGRID else describe_value(value)
    kind = _LABELS_TYPES.get(name or "")
    remedy = f"set data.labels_type to `{kind}`, or " if kind else ""
    raise TableError(
        f"{file}: not annotations of HaGRID: this is {what}; {remedy}"
        'give the file this form: {"<image>": {"user_id": …, "labels": […], "bboxes": [[x, y, width, height], …]}}'
    )


def _list_repeated(content: bytes) -> list[str]:
    keys: list[str] = json.loads(content, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    return [key for key, count in Counter(keys).items() if count > 1]


def is_record(pairs: Any) -> bool:
    """Whether an object is meant as a record.

    Examples
    --------
    >>> is_record({"user_id": 17}), is_record({"age": 17})
    (True, False)
    """
    return isinstance(pairs, dict) and ("bboxes" in pairs or "user_id" in pairs or "labels" in pairs)


def find_fault(record: Any) -> Fault:
    """Say why something that is no usable record cannot be used.

    Examples
    --------
    >>> find_fault(None).reason
    'it is not an object with user_id, labels and bboxes'
    """
    if isinstance(record, Fault):
        return record
    is_nested = isinstance(record, dict) and any(isinstance(value, tuple | Fault) for value in record.values())
    return Fault.NESTED if is_nested else Fault.NO_RECORD


def find_list_fault(labels: Any, boxes: Any) -> Fault | None:
    """Say what is wrong with the labels and boxes of a record, whatever the numbers are; None: nothing.

    Examples
    --------
    >>> find_list_fault(["ok"], [[0, 0, 1, 1]]) is None, find_list_fault(["ok"], [0, 0, 1, 1]).reason
    (True, 'labels and bboxes differ in length')
    """
    if type(labels) is not list:
        return Fault.NO_LABELS
    if type(boxes) is not list:
        return Fault.NO_BOXES
    if len(labels) != len(boxes):
        return Fault.LENGTHS
    if not all(type(label) is str for label in labels):
        return Fault.LABEL_KIND
    return None if all(type(box) is list and len(box) == 4 for box in boxes) else Fault.BOX_KIND


def read_user(value: Any) -> str | Fault:
    """Return a person as text.

    Parameters
    ----------
    value
        Of `user_id`; a whole number counts as its digits, also where a table has made ``17.0`` of it.

    Examples
    --------
    >>> read_user("ann"), read_user(17), read_user(17.0), read_user(True).name
    ('ann', '17', '17', 'USER_KIND')
    """
    if value is None or value == "" or value != value:  # NaN
        return Fault.NO_USER
    if isinstance(value, str):
        return value if value.strip() else Fault.NO_USER
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Fault.USER_KIND
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT
    return str(int(value) if is_whole else value)


def read_size(pairs: dict[str, Any]) -> tuple[float, float]:
    """Return the width and height that a record states, in pixels; NaN if it does not.

    Examples
    --------
    >>> read_size({"width": 640, "height": 480}), read_size({"width": "640"})
    ((640, 480), (nan, nan))
    """
    width: Any = pairs.get("width")
    height: Any = pairs.get("height")
    if type(width) not in _NUMBERS or type(height) not in _NUMBERS:
        return math.nan, math.nan
    is_size: bool = 0 < width < _LARGEST_SIDE and 0 < height < _LARGEST_SIDE
    return (width, height) if is_size else (math.nan, math.nan)


class Corners(NamedTuple):
    """Boxes as fractions of their images."""

    corners: Floats
    """Shape (boxes, 4): x1, y1, x2, y2, which may extend past the edge of the image."""
    faults: NDArray[np.int8]
    """Shape (boxes,): the position in `BOX_FAULTS`."""
    is_clipped: Flags
    """Shape (boxes,): whether the box extends past the edge of its image."""
    are_pixels: bool
    """Whether the boxes are stated in pixels."""


def convert_boxes(boxes: Floats, sizes: Floats, file: Path) -> Corners:
    """Convert the boxes of a file to fractions of their images.

    What they are stated in is decided for the whole file: pixels, if most boxes have a side of more than two.

    Parameters
    ----------
    boxes
        Shape (boxes, 4): x, y, width, height.
    sizes
        Shape (boxes, 2): the width and height of the image of each in pixels, NaN where it is not stated.
    file
        For messages.

    Raises
    ------
    TableError
        If the numbers are something else: x1, y1, x2, y2, or percent.

    Examples
    --------
    >>> found = convert_boxes(np.array([[64, 48, 64, 48.0]]), np.array([[640, 480.0]]), Path("ok.json"))
    >>> found.corners.tolist(), found.are_pixels
    ([[0.1, 0.1, 0.2, 0.2]], True)
    """
    with np.errstate(all="ignore"):
        is_finite = np.isfinite(boxes).all(axis=1)
        has_area = is_finite & (boxes[:, 2:] > 0).all(axis=1)
        is_large = (boxes[:, 2:] > _LARGEST_FRACTION).any(axis=1)
        are_pixels = 2 * np.count_nonzero(is_large & has_area) > np.count_nonzero(has_area)
        if are_pixels:
            _refuse_percent(boxes[has_area], sizes[has_area], file)
            boxes = boxes / np.tile(sizes, 2)
        comparable = boxes[has_area & ~np.isnan(boxes).any(axis=1)]
        if leaving := count_leaving(comparable):
            raise TableError(
                f"{file}: these boxes are [x1, y1, x2, y2] instead of [x, y, width, height]: as the latter, "
                f"{leaving:,} of {len(comparable):,} would leave their image; subtract x1 from x2, y1 from y2"
            )
        ends = boxes[:, :2] + boxes[:, 2:]
        inside = np.hstack([np.maximum(boxes[:, :2], 0.0), np.minimum(ends, 1.0)])
        is_clipped = np.hstack([boxes[:, :2] < -_ROUNDING, ends > 1 + _ROUNDING]).any(axis=1)
        is_outside = ~(inside[:, :2] < inside[:, 2:]).all(axis=1)
    found = {
        Fault.NOT_FINITE: ~is_finite,
        Fault.NO_AREA: ~has_area,
        Fault.OTHER_UNIT: is_large != are_pixels,
        Fault.NO_SIZE: np.isnan(boxes).any(axis=1),
        Fault.OUTSIDE: is_outside,
    }
    faults = np.select([*found.values()], [BOX_FAULTS.index(fault) for fault in found]).astype(np.int8)
    return Corners(np.hstack([boxes[:, :2], ends]), faults, np.asarray(is_clipped), bool(are_pixels))


def count_leaving(boxes: Floats) -> int:
    """Count the boxes that leave their image if they are corners instead of sizes; 0 if they are sizes.

    As sizes, the second two numbers of many lead out of the image; as corners, all boxes are inside.

    Parameters
    ----------
    boxes
        Shape (boxes, 4): x, y, width, height as fractions of the image, or x1, y1, x2, y2.

    Examples
    --------
    >>> count_leaving(np.tile([0.5, 0.5, 0.7, 0.8], (3, 1))), count_leaving(np.tile([0.5, 0.5, 0.2, 0.3], (3, 1)))
    (3, 0)
    """
    ends = boxes[:, :2] + boxes[:, 2:]
    fits = (boxes[:, :2] >= -_ROUNDING).all(axis=1) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    fits &= (boxes[:, 2:] <= 1 + _ROUNDING).all(axis=1)
    leaves = (ends > _OVER).any(axis=1)
    are_corners = len(boxes) >= _FEWEST_BOXES and fits.mean() >= _MOST and leaves.mean() >= _MANY
    return int(np.count_nonzero(leaves)) if are_corners else 0


def _refuse_percent(boxes: Floats, sizes: Floats, file: Path) -> None:
    """Refuse percent that would be taken for pixels: all boxes lie in the first hundred pixels of large images."""
    ends = boxes[:, :2] + boxes[:, 2:]
    is_stated = ~np.isnan(sizes).any(axis=1)
    if np.count_nonzero(is_stated) < _FEWEST_BOXES or (ends > _PERCENT + _ROUNDING).any():
        return
    if np.median(sizes[is_stated].min(axis=1)) >= _LARGER_THAN_PERCENT:
        raise TableError(
            f"{file}: these boxes are percent of the image's width and height: none reaches past {_PERCENT:.0f}, in "
            "images of several hundred pixels; divide them by 100"
        )
