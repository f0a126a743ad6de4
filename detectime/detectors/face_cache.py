"""Faces that are known: read from a file by the name of the frame, instead of looking at it.

Two files are read: the JSON list that the organisers of the contest gave with its frames, whose rows have a
`frame_path` and a ``bbox_<detector>`` (``[x, y, width, height]`` in pixels of the frame, or null where there is no
face), and what a run of detectime found, its ``detections.parquet``.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.detectors.contract import Detections, DetectorSpec, FaceSettings, UnknownFrameError
from detectime.errors import ConfigError
from detectime.schema import BOXES, DETECTIONS_FILE, REPLACED, table_version
from detectime.settings import CHECKED, suggest_name
from detectime.storage import name_index, urls
from detectime.storage.name_index import NAME_COLUMN, NameIndex

_COLUMN = "bbox_"
_PIECE = 65_536  # rows that are Python's objects at a time
_BLOCK = 2**20  # characters; no row is longer
_FAR = 2**31  # pixels
_BETWEEN = re.compile(r"[\s,]*")
_SHOWN = 20  # rows that an error names
_LONGEST = 200  # characters that it tells of each
_CORNERS = ("x1", "y1", "x2", "y2")

_SCHEMA = pa.schema(
    [
        pa.field(NAME_COLUMN, pa.binary(), nullable=False),
        pa.field("width", pa.int32()),  # of the frame, in pixels; null where the file does not say it
        pa.field("height", pa.int32()),
        pa.field("faces", pa.list_(pa.struct([BOXES.value_type.field(c) for c in (*_CORNERS, "score")]))),
    ]
)


@checked_dataclass(frozen=True, config=CHECKED)
class FaceCacheSettings(FaceSettings):
    """Keys of the face cache."""

    face_cache: str | None = None
    face_cache_column: str | None = None


@dataclass(frozen=True)
class FaceCache:
    """What is known of faces.

    Parameters
    ----------
    known
        One row per frame, in the schema of this module.
    face_confidence
        A face's least score.
    """

    known: NameIndex
    face_confidence: float

    def knows(self, frame_path: str) -> bool:
        """Whether there is a row of a frame."""
        return self.known.find(frame_path) is not None

    def faces_of(self, frame_path: str, width: int, height: int) -> Detections:
        """Return the faces of a frame of so many pixels, in its pixels and inside it.

        Raises
        ------
        Unknown
            If there is no row of it, or one of a frame of another size.
        """
        row = self.known.find(frame_path)
        if row is None:
            raise UnknownFrameError("the face cache has no row for this frame")
        if row["width"] is not None and (row["width"], row["height"]) != (width, height):
            raise UnknownFrameError(
                f"the face cache knows this frame with {row['width']} x {row['height']} pixels, "
                f"but it has {width} x {height}"
            )
        corners = geometry.as_boxes([[face[corner] for corner in _CORNERS] for face in row["faces"]])
        scores = np.array([face["score"] for face in row["faces"]], np.float32)
        inside = geometry.as_boxes(geometry.clip_boxes(corners, width, height))
        kept = (scores >= self.face_confidence) & (geometry.compute_area(inside) > 0)
        return Detections(inside[kept], scores[kept])


def build(settings: FaceCacheSettings, device: str = "cpu") -> FaceCache:
    """Open the cache that ``detection.face_cache`` names; the first time its rows are checked.

    Raises
    ------
    ConfigError
        If there is no such file, or if it holds anything but rows of faces: the first twenty wrong rows are named.
    """
    path = str(find_cache_file(settings))
    try:
        with open(path, "rb") as file:
            is_run = file.read(4) == b"PAR1"
        if is_run and settings.face_cache_column is not None:
            raise ConfigError(
                f"detection.face_cache_column = {settings.face_cache_column!r}: {path} is what a run found, which has "
                "no such columns; accepted: null"
            )
        make, column = (_of_run, ()) if is_run else (_of_json, (settings.face_cache_column or "",))
        return FaceCache(name_index.load_or_build(make, (path,), *column), settings.face_confidence)
    except OSError as error:
        raise ConfigError(
            f"detection.face_cache = {settings.face_cache!r}: {path} cannot be read: {error.strerror or error}; "
            "accepted: a JSON file, the folder of a finished run, or its detections.parquet"
        ) from error


def find_cache_file(settings: FaceCacheSettings) -> Path:
    """Path of the file that ``detection.face_cache`` names, in a run's folder too.

    Raises
    ------
    ConfigError
        If it is in a bucket.
    """
    place = settings.face_cache or ""
    if urls.is_remote(place):
        raise ConfigError(f"detection.face_cache = {place!r}: it cannot be read in a bucket; bring the file here")
    path = Path(urls.strip_file_scheme(place))
    return path / DETECTIONS_FILE if path.is_dir() else path


def read_replaced_sha256(path: Path) -> str | None:
    """Return the sha256 of the file of 0.2 whose place a run's table took; None if it did not, or is no such table."""
    with contextlib.suppress(pa.ArrowException, OSError):
        found = (pq.read_schema(path).metadata or {}).get(REPLACED)
        return None if found is None else found.decode()
    return None


def hash_faces(settings: FaceCacheSettings) -> dict[str, str]:
    """Return the sha256 of what a cache knows: a run's table may be rewritten with the same faces.

    Raises
    ------
    ConfigError
        As `build`.
    """
    rows = build(settings).known.rows
    digest = hashlib.sha256()
    for first in range(0, len(rows), _PIECE):
        piece = rows.slice(first, _PIECE)
        faces = piece.column("faces")
        digest.update(b"\0".join(piece.column(NAME_COLUMN).to_pylist()))
        numbers = [piece.column("width"), piece.column("height"), faces.value_lengths()]
        numbers += [faces.flatten().field(name) for name in (*_CORNERS, "score")]
        for column in numbers:
            digest.update(column.fill_null(-1).to_numpy(zero_copy_only=False).tobytes())
    return {"faces": digest.hexdigest()}


SPEC = DetectorSpec(
    "face_cache",
    FaceCacheSettings,
    build,
    find_weights=lambda settings: [find_cache_file(settings)],
    confidence="face_confidence",
    by_name=True,
    own_fingerprint=hash_faces,
)


def _of_run(files: tuple[str, ...]) -> pa.Table:
    """Take the faces of the frames that a run could look at."""
    (path,) = files
    try:
        file = pq.ParquetFile(path)
        if table_version(file.schema_arrow, path) is None:
            raise ConfigError(f"{path}: these are not the detections of a run; accepted: its {DETECTIONS_FILE}")
        pieces = []
        for k in range(file.num_row_groups):
            rows = file.read_row_group(k, columns=["frame_path", "outcome", "width", "height", "faces"])
            rows = rows.filter(pc.equal(rows["outcome"], "ok"))
            rows = rows.rename_columns({"frame_path": NAME_COLUMN}).select(_SCHEMA.names)
            pieces.append(rows.set_column(3, "faces", _without_detectors(rows["faces"])).cast(_SCHEMA))
    except pa.ArrowException as error:
        raise ConfigError(f"{path}: damaged ({error}); give another `face_cache`") from error
    return pa.concat_tables([*pieces, _SCHEMA.empty_table()])


def _without_detectors(faces: pa.ChunkedArray) -> pa.ListArray:
    found = faces.combine_chunks().flatten()
    kept = _SCHEMA.field("faces").type.value_type
    ends = np.cumsum(pc.list_value_length(faces).to_numpy(), dtype=np.int32)
    values = pa.StructArray.from_arrays([found.field(field.name) for field in kept], fields=list(kept))
    return pa.ListArray.from_arrays(pa.array(np.insert(ends, 0, 0)), values)


def _of_json(files: tuple[str, ...], column: str) -> pa.Table:
    """Take the faces of a JSON list, with a score of 1, after a check of every row."""
    (path,) = files
    rows = _json_rows(path)
    first: Any = next(rows, {})
    column = _column_of(first, column, path)
    pieces: list[pa.Table] = []
    wrong: list[str] = []
    count = 0
    numbered = enumerate(itertools.chain([first], rows), start=1)
    while piece := list(itertools.islice(numbered, _PIECE)):
        faults = [(number, fault) for number, row in piece if (fault := _fault(row, column))]
        count += len(faults)
        wrong += [f"row {number}: {fault}" for number, fault in faults[: _SHOWN - len(wrong)]]
        if not count:
            names = [row["frame_path"].encode(errors="surrogatepass") for _, row in piece]
            nothing = pa.nulls(len(piece), pa.int32())
            faces = pa.array([_as_faces(row[column]) for _, row in piece], _SCHEMA.field("faces").type)
            pieces.append(pa.table([pa.array(names, pa.binary()), nothing, nothing, faces], _SCHEMA))
    if wrong:
        raise _refusal(path, wrong, count)
    return _each_once(pa.concat_tables(pieces).combine_chunks(), path)


def _json_rows(path: str) -> Iterator[Any]:
    """Walk over the rows of a JSON list: a million as Python's objects would be gigabytes."""
    decoder = json.JSONDecoder()
    with open(path, encoding="utf-8-sig") as file:
        try:
            text = file.read(_BLOCK).lstrip()
            if not text.startswith("["):
                raise ConfigError(f"{path}: this is no face cache; accepted: a JSON list of rows, or what a run found")
            at = 1
            while True:
                at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # nothing matches, too
                if text.startswith("]", at):
                    return
                try:
                    row, at = decoder.raw_decode(text, at)
                except ValueError as error:  # a row that goes on in the next block, or no JSON
                    more = file.read(_BLOCK)
                    if not more or len(text) - at > _BLOCK:
                        reason = "it ends early" if not more else f"no row of JSON at {text[at : at + 40]!r}"
                        raise ConfigError(
                            f"{path}: this JSON is broken: {reason}; give another `face_cache`"
                        ) from error
                    text, at = text[at:] + more, 0
                else:
                    yield row
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path}: this is no JSON in UTF-8, nor what a run found; give another `face_cache`"
            ) from error


def _column_of(row: Any, wanted: str, path: str) -> str:
    """Name of the column of boxes: the one that is wanted, or the only one."""
    columns: list[str] = [key for key in row if key.startswith(_COLUMN)] if isinstance(row, dict) else []
    if not columns:
        raise ConfigError(
            f"{path}: the first row has no column {_COLUMN}…; accepted: frame_path and {_COLUMN}<detector>"
        )
    if wanted:
        if wanted not in columns:
            raise ConfigError(
                f"detection.face_cache_column = {wanted!r}: {path} has no such column; {suggest_name(wanted, columns)}"
            )
        return wanted
    if len(columns) > 1:
        raise ConfigError(
            f"detection.face_cache_column = None: {path} has several columns of boxes; accepted: {', '.join(columns)}"
        )
    return columns[0]


def _fault(row: Any, column: str) -> str | None:
    """Say what is wrong with a row of the JSON list."""
    if not isinstance(row, dict):
        return "it is no object with frame_path and a box"
    frame_path, box = row.get("frame_path"), row.get(column, ())
    if not isinstance(frame_path, str) or not frame_path:
        return f"the frame_path is {frame_path!r}"[:_LONGEST]
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or any(type(number) not in (int, float) for number in box):
        reason = f"{column} is not [x, y, width, height] or null"
    elif not all(-_FAR < number < _FAR for number in box):  # nor is it a NaN
        reason = f"{column} has a number that is no place in a frame"
    elif box[2] < 0 or box[3] < 0:
        reason = f"{column} has a negative size"
    else:
        return None
    return f"{reason} ({frame_path!r}: {row.get(column)!r})"[:_LONGEST]


def _as_faces(box: list[float] | None) -> list[dict[str, float]]:
    if box is None:
        return []
    x, y, width, height = box
    return [{"x1": x, "y1": y, "x2": x + width, "y2": y + height, "score": 1.0}]


def _each_once(table: pa.Table, path: str) -> pa.Table:
    """Drop rows that repeat another; a frame with two answers is refused."""
    if pc.count_distinct(table[NAME_COLUMN]).as_py() == len(table):
        return table
    order = pc.sort_indices(table[NAME_COLUMN])  # stable: of rows of one frame the first comes first
    names, order = table[NAME_COLUMN].take(order).combine_chunks(), order.to_numpy()
    again = np.flatnonzero(pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)) + 1
    faces = table["faces"]
    wrong = [k for k in again.tolist() if faces[int(order[k])] != faces[int(order[k - 1])]]
    if wrong:
        lines = [
            f"row {order[k] + 1}: {os.fsdecode(names[k].as_py())!r} had another box before" for k in wrong[:_SHOWN]
        ]
        raise _refusal(path, lines, len(wrong))
    return table.take(np.delete(order, again))


def _refusal(path: str, wrong: list[str], count: int) -> ConfigError:
    more = [f"  and {count - len(wrong)} more"] if count > len(wrong) else []
    return ConfigError(
        "\n".join(
            [
                f"{path}: wrong rows of the face cache:",
                *(f"  {line}" for line in wrong),
                *more,
                # The last line is what papermill and a terminal leave in sight.
                f"{path}: {count} rows of the face cache are wrong; the first is {wrong[0]}",
            ]
        )
    )
