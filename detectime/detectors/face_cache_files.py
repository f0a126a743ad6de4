"""The two files that a face cache can be read from: the contest's JSON list and the ``detections.parquet`` of a run."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectime.errors import ConfigError
from detectime.schema import BOXES, DETECTIONS_FILE, get_table_version
from detectime.settings import suggest_name
from detectime.storage.json_files import describe_broken, describe_value, name_format
from detectime.storage.name_index import NAME_COLUMN

FACE = ("x1", "y1", "x2", "y2", "score")
SCHEMA = pa.schema(
    [
        pa.field(NAME_COLUMN, pa.binary(), nullable=False),
        pa.field("width", pa.int32()),  # of the frame, in pixels; null if the file does not record it
        pa.field("height", pa.int32()),
        pa.field("faces", pa.list_(pa.struct([BOXES.value_type.field(name) for name in FACE]))),
    ]
)
"""One row per frame: the name, the size, and the faces as x1, y1, x2, y2 in pixels with a score."""

_COLUMN_PREFIX = "bbox_"
_MAX_COORDINATE = 2**31  # pixels
_REPORTED_ROWS = 20
_REPORTED_CHARACTERS = 200  # per row
_REPORTED_COLUMNS = 5
_SMALLEST_FACE = 2.0  # pixels of the longer side; the median of faces in pixels is larger
_SLACK = 1e-3  # by which fractions may extend past the frame
_FEWEST_STRAY = 100  # faces among which one that is a fraction is too many
_FEWEST_CORNERS = 10  # boxes that tell what is meant by four numbers
_MOST = 0.99  # of the boxes
_WIDEST_FACE = 1.2  # times as wide as high
_ACCEPTED = (
    'accepted: a JSON list of rows such as {"frame_path": "anna/0001.jpg", "bbox_mtcnn": [x, y, width, height]}, or '
    "the detections of a run"
)


def read_run_faces(files: tuple[str, ...]) -> pa.Table:
    """Read the faces of every frame with outcome ``ok`` from the detections of a run.

    Parameters
    ----------
    files
        The path of a ``detections.parquet``.

    Returns
    -------
    Table
        In the schema `SCHEMA`.

    Raises
    ------
    ConfigError
        If the file is damaged or is not a detections table.
    """
    (path,) = files
    columns = ["frame_path", "outcome", "width", "height", "faces"]
    try:
        file = pq.ParquetFile(path)
        if get_table_version(file.schema_arrow, path) is None:
            raise ConfigError(
                f"detection.face_cache: {path}: not the detections of a run; accepted: its {DETECTIONS_FILE}"
            )
        groups = [_select_faces(file.read_row_group(k, columns=columns)) for k in range(file.num_row_groups)]
    except pa.ArrowException as error:
        raise ConfigError(f"detection.face_cache: {path}: damaged ({error}); provide another `face_cache`") from error
    return pa.concat_tables([*groups, SCHEMA.empty_table()])


def read_json_faces(files: tuple[str, ...], column: str) -> pa.Table:
    """Read the boxes of a JSON list of rows as faces with a score of 1.

    The whole list is held in memory, about 1 GB for a million rows.

    Parameters
    ----------
    files
        The path of a JSON list of rows with ``frame_path`` and ``bbox_<detector>``: x, y, width, height in pixels, or
        null if there is no face.
    column
        The column of boxes; empty if there is only one.

    Returns
    -------
    Table
        In the schema `SCHEMA`; sizes are null.

    Raises
    ------
    ConfigError
        If the file is not such a list. The message names the first invalid rows.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "faces.json")
    ...     with open(path, "w") as file:
    ...         json.dump([{"frame_path": "a.jpg", "bbox_mtcnn": [10, 20, 30, 40]}], file)
    ...     table = read_json_faces((path,), "")
    >>> table["faces"].to_pylist()
    [[{'x1': 10.0, 'y1': 20.0, 'x2': 40.0, 'y2': 60.0, 'score': 1.0}]]
    """
    (path,) = files
    rows = _load_rows(path)
    column = _select_column(rows[0] if rows else None, column, path)
    boxes: dict[str, Any] = {}
    errors = []
    for number, row in enumerate(rows, start=1):
        error = _check_row(row, column, boxes)
        if error is None:
            boxes[row["frame_path"]] = row[column]
        else:
            errors.append(f"row {number}: {error}"[:_REPORTED_CHARACTERS])
    if errors:
        raise _make_error(path, errors)
    return _tabulate_boxes(boxes)


def _select_faces(rows: pa.Table) -> pa.Table:
    rows = rows.filter(pc.equal(rows["outcome"], "ok"))
    lengths = pc.list_value_length(rows["faces"]).to_numpy()
    found = rows["faces"].combine_chunks().flatten()
    faces = _make_lists(lengths, [found.field(name) for name in FACE])
    return pa.table([rows["frame_path"].cast(pa.binary()), rows["width"], rows["height"], faces], SCHEMA)


def _make_lists(lengths: np.ndarray, columns: list[Any]) -> pa.ListArray:
    """Return lists of faces of these lengths from the columns of all faces."""
    kind = SCHEMA.field("faces").type
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    faces = pa.StructArray.from_arrays(columns, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(offsets, faces, type=kind)


def check_pixels(rows: pa.RecordBatch, path: str) -> None:
    """Refuse faces that are stated in something else than x, y, width and height in pixels.

    Parameters
    ----------
    rows
        In the schema `SCHEMA`.
    path
        Of the file, for the message.

    Raises
    ------
    ConfigError
        If most faces, or more than one in a hundred, are fractions of the frame, or if they are corners: numbers that
        say where the right and lower edges are instead of how large the face is.

    Examples
    --------
    >>> face = [{"x1": 10.0, "y1": 20.0, "x2": 40.0, "y2": 60.0, "score": 1.0}]
    >>> table = pa.table([[b"a.jpg"], [None], [None], [face]], SCHEMA)
    >>> check_pixels(table.to_batches()[0], "faces.json")
    """
    faces = rows.column("faces")
    flat = faces.flatten()
    corners = np.stack([flat.field(name).to_numpy(zero_copy_only=False) for name in FACE[:4]], axis=1)
    corners = corners.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    has_area = (sides > 0).all(axis=1)
    if not has_area.any():
        return
    lists = pc.list_parent_indices(faces).to_numpy()
    longer = sides.max(axis=1)
    median = float(np.median(longer[has_area]))
    in_unit = has_area & find_fractions(corners)
    is_share = in_unit if median >= _SMALLEST_FACE else has_area & (longer < _SMALLEST_FACE)
    if median < _SMALLEST_FACE or _FEWEST_STRAY * np.count_nonzero(in_unit) > np.count_nonzero(has_area):
        first = rows.column(NAME_COLUMN)[int(lists[np.flatnonzero(is_share)[0]])].as_py()
        raise ConfigError(
            f"detection.face_cache: {path}: {np.count_nonzero(is_share):,} of {np.count_nonzero(has_area):,} faces are "
            f"fractions of the frame instead of pixels (the first: {os.fsdecode(first)!r}; the median of the longer "
            f"sides of all is {median:.3g}); multiply x and width by the width of the frame, and y and height by its "
            "height"
        )
    _refuse_corners(corners[has_area], sides[has_area], path)


def find_fractions(corners: np.ndarray) -> np.ndarray:
    """Find boxes that lie within the first pixel, and have no whole numbers.

    No face of pixels does; detectors that cut one at the frame's corner state whole numbers.

    Examples
    --------
    >>> find_fractions(np.array([[0.2, 0.3, 0.4, 0.5], [0, 0, 1, 1]])).tolist()
    [True, False]
    """
    in_unit = (corners > -_SLACK).all(axis=1) & (corners <= 1 + _SLACK).all(axis=1)
    found: np.ndarray = in_unit & (corners != np.floor(corners)).any(axis=1)
    return found


def _refuse_corners(corners: np.ndarray, sides: np.ndarray, path: str) -> None:
    """Refuse numbers that are faces as x1, y1, x2, y2 and, as x, y, width, height, have the shape of none."""
    starts = corners[:, :2]
    read_otherwise = sides - starts  # the sides, if what is read as width and height were x2 and y2
    if len(corners) < _FEWEST_CORNERS or (read_otherwise > 0).all(axis=1).mean() < _MOST:
        return
    shape, other_shape = (np.median(both[:, 0] / both[:, 1]) for both in (sides, read_otherwise))
    if other_shape <= _WIDEST_FACE < shape:
        raise ConfigError(
            f"detection.face_cache: {path}: these boxes are [x1, y1, x2, y2] instead of [x, y, width, height]: as the "
            f"latter, the median face is {shape:.2f} times as wide as high; subtract x1 from x2, and y1 from y2"
        )


def _load_rows(path: str) -> list[Any]:
    with open(path, "rb") as file:
        content = file.read()
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # ValueError: broken JSON, or not UTF-8
        raise ConfigError(
            f"detection.face_cache: {path}: neither JSON in UTF-8 nor the detections of a run: "
            f"{describe_broken(content, error)}; {_ACCEPTED}"
        ) from error
    if not isinstance(rows, list) or (rows and not isinstance(rows[0], dict)):
        raise ConfigError(f"detection.face_cache: {path}: not a face cache but {_describe_rows(rows)}; {_ACCEPTED}")
    return rows


def _describe_rows(value: Any) -> str:
    first = next(iter(value.items()), None) if isinstance(value, dict) else None
    if first is not None and (first[1] is None or _is_box(first[1])):
        return "an object with a box for each path; write each of them as a row"
    return describe_value(value)


def _select_column(row: Any, wanted: str, path: str) -> str:
    """Return the wanted column of boxes, or the only one."""
    columns: list[str] = [key for key in row if key.startswith(_COLUMN_PREFIX)] if isinstance(row, dict) else []
    if not columns:
        raise ConfigError(
            f"detection.face_cache: {path}: {_describe_columns(row)}; accepted: {_COLUMN_PREFIX}<detector> and "
            "frame_path in every row"
        )
    if wanted and wanted not in columns:
        raise ConfigError(
            f"detection.face_cache_column = {wanted!r}: {path} has no such column; {suggest_name(wanted, columns)}"
        )
    if not wanted and len(columns) > 1:
        raise ConfigError(
            f"detection.face_cache_column = None: {path} has several columns of boxes; accepted: {', '.join(columns)}"
        )
    return wanted or columns[0]


def _describe_columns(row: Any) -> str:
    if row is None:
        return "the list has no rows"
    what = name_format([row])
    listed = ", ".join(map(str, list(row)[:_REPORTED_COLUMNS]))
    return f"the first row has no column {_COLUMN_PREFIX}<detector>{f': this is {what}' if what else f', but {listed}'}"


def _check_row(row: Any, column: str, boxes: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, given the boxes of the rows before it."""
    if not isinstance(row, dict) or not isinstance(row.get("frame_path"), str) or not row["frame_path"]:
        return f"{row!r} has no frame_path"
    name, box = row["frame_path"], row.get(column, ())
    if box is not None and not _is_box(box):
        return f"{column} of {name!r} is {box!r}; accepted: [x, y, width, height] in pixels, or null"
    if boxes.get(name, box) != box:
        return f"{name!r} has another box in an earlier row"
    return None


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(type(number) in (int, float) and abs(number) < _MAX_COORDINATE for number in value)  # rejects NaN
        and min(value[2:]) >= 0
    )


def _make_error(path: str, errors: list[str]) -> ConfigError:
    lines = [
        f"detection.face_cache: {path}: invalid rows in the face cache:",
        *(f"  {error}" for error in errors[:_REPORTED_ROWS]),
    ]
    if len(errors) > _REPORTED_ROWS:
        lines.append(f"  and {len(errors) - _REPORTED_ROWS} more")
    # papermill and terminals show the end of a message.
    lines.append(f"{path}: {len(errors)} rows of the face cache are invalid; the first is {errors[0]}")
    return ConfigError("\n".join(lines))


def _tabulate_boxes(boxes: dict[str, Any]) -> pa.Table:
    names = pa.array([name.encode(errors="surrogatepass") for name in boxes], pa.binary())
    has_face = np.array([box is not None for box in boxes.values()], bool)
    corners = np.array([box for box in boxes.values() if box is not None], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    columns = [pa.array(column, pa.float32()) for column in (*corners.T, np.ones(len(corners)))]
    faces = _make_lists(has_face, columns)
    unknown = pa.nulls(len(names), pa.int32())
    return pa.table([names, unknown, unknown, faces], SCHEMA)
