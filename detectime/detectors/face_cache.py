"""The face cache: faces read from a file by the frame's name instead of being detected.

See `face_cache_files` for the two file formats.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.detectors.contract import Detections, DetectorSpec, FaceSettings, UnknownFrameError
from detectime.detectors.face_cache_files import FACE, check_pixels, find_fractions, read_json_faces, read_run_faces
from detectime.errors import ConfigError
from detectime.notes import Note, note_found
from detectime.schema import DETECTIONS_FILE, MANIFEST_FILE, REPLACED
from detectime.settings import CHECKED
from detectime.storage import name_index, urls
from detectime.storage.name_index import NAME_COLUMN, NameIndex

_HASHED_ROWS = 65_536  # rows per update of the hash; another number would change the hash of every cache
_CORNERS = FACE[:4]
_INSIDE = 0.5  # share of a face that lies in its frame: detectors let faces extend past the edge a little
_FEWEST_FACES = 10  # that tell whether numbers are percent
_PERCENT = 100.0
_LARGE = 300  # pixels of the shorter side of a frame, whose faces are not all in the first 100
OUTSIDE_KIND = "cached_outside"
"""Kind of the note about faces outside of their frames."""

PIXELS_REMEDY = "set detection.face_cache_pixels to `stored` (before) or `upright` (after)"
"""What to do if a cached frame is rotated or mirrored and the cache does not say which pixels its faces are in."""


@checked_dataclass(frozen=True, config=CHECKED)
class FaceCacheSettings(FaceSettings):
    """Keys of the face cache."""

    face_cache: str | None = None
    """face_cache: a JSON list of rows with frame_path and bbox_… ([x, y, w, h] or null), or a finished run (its folder,
    or its detections.parquet). A run is bound to the content, not to the path."""
    face_cache_column: str | None = None
    """face_cache: the bbox_… column of the JSON; null: the only one."""
    face_cache_pixels: Literal["upright", "stored"] | None = None
    """face_cache: the pixels of its boxes: upright, as viewers show the frames | stored, as the files hold them, before
    EXIF rotates them | null: not known, which is refused if a frame in it is rotated or mirrored."""


@dataclass(frozen=True)
class FaceCache:
    """Faces by frame name.

    Parameters
    ----------
    known
        One row per frame, in the schema `face_cache_files.SCHEMA`.
    face_confidence
        Minimum score of a face, 0…1.
    pixels
        Which pixels the faces are in, ``upright`` or ``stored``; None: unknown.
    """

    known: NameIndex
    face_confidence: float
    pixels: str | None = None

    def knows(self, frame_path: str) -> bool:
        """Whether the cache has a row for a frame."""
        return self.known.find(frame_path) is not None

    def faces_of(
        self, frame_path: str, width: int, height: int, orientation: int = 1, pixels: str = "upright"
    ) -> Detections:
        """Return the faces of a frame, clipped to it.

        Parameters
        ----------
        frame_path
            The frame.
        width, height
            Its size in pixels.
        orientation
            Its EXIF orientation, 1 to 8.
        pixels
            Whether this size, and the faces to return, are in pixels of the ``upright`` frame or of the frame as
            ``stored``.

        Raises
        ------
        UnknownFrameError
            If the cache has no row for it, or has it with another size; or if the frame is stored rotated or mirrored
            and nothing says which pixels the cached faces are in.
        """
        row = self.known.find(frame_path)
        if row is None:
            raise UnknownFrameError("the face cache has no row for this frame")
        if orientation != 1 and self.pixels is None:
            raise UnknownFrameError(
                f"the frame is stored rotated or mirrored (EXIF orientation {orientation}), and nothing says whether "
                f"its faces in the face cache are in pixels before or after that: {PIXELS_REMEDY}"
            )
        if self.pixels in (None, pixels):
            orientation = 1
        elif pixels == "stored":
            orientation = geometry.invert_orientation(orientation)
        size = (height, width) if orientation in geometry.SIDEWAYS else (width, height)
        if row["width"] is not None and (row["width"], row["height"]) != size:
            raise UnknownFrameError(
                f"the face cache knows this frame with {row['width']} x {row['height']} pixels, "
                f"but it has {size[0]} x {size[1]}"
            )
        cached = geometry.as_boxes([[face[corner] for corner in _CORNERS] for face in row["faces"]])
        corners = geometry.turn_boxes(cached, orientation, *size)
        scores = np.array([face["score"] for face in row["faces"]], np.float32)
        inside = geometry.as_boxes(geometry.clip_boxes(corners, width, height))
        kept = (scores >= self.face_confidence) & (geometry.compute_area(inside) > 0)
        return Detections(inside[kept], scores[kept])

    def find_faces(self, frame_paths: pa.Array) -> tuple[geometry.Flags, geometry.Integers, geometry.Floats]:
        """Find the faces of frames that have an area and the score that is asked for.

        Parameters
        ----------
        frame_paths
            The frames, string.

        Returns
        -------
        is_known
            bool, shape (frames,): whether the cache has a row.
        owners
            Shape (faces,): the frame of each.
        boxes
            Shape (faces, 4): x1, y1, x2, y2 as they are cached.
        """
        rows = self.known.rows
        positions = pc.index_in(frame_paths.cast(pa.binary()), value_set=rows.column(NAME_COLUMN))
        if isinstance(positions, pa.ChunkedArray):
            positions = positions.combine_chunks()
        lists = rows.column("faces").take(positions)
        faces = lists.flatten()
        boxes = np.stack([faces.field(name).to_numpy() for name in _CORNERS], axis=1).astype(np.float64)
        kept = (faces.field("score").to_numpy() >= self.face_confidence) & (geometry.compute_area(boxes) > 0)
        is_known = positions.is_valid().to_numpy(zero_copy_only=False)
        return is_known, pc.list_parent_indices(lists).to_numpy()[kept], boxes[kept]

    def note_faces(self, frame_paths: pa.Array) -> list[Note]:
        """Note if most frames have no face, and which have one in fractions of the frame."""
        is_known, owners, boxes = self.find_faces(frame_paths)
        without = is_known & (np.bincount(owners, minlength=len(is_known)) == 0)
        notes = []
        if 2 * np.count_nonzero(without) > np.count_nonzero(is_known):
            names = frame_paths.take(pa.array(np.flatnonzero(without))).to_pylist()
            notes = _note_of_all("no_cached_face", names, is_known.sum(), "no face in the face cache")
        stray = frame_paths.take(pa.array(np.unique(owners[find_fractions(boxes)]))).to_pylist()
        what = "fractions of the frame; they are used as pixels"
        one, many = f"frame has a cached face in {what}", f"frames have a cached face in {what}"
        return [*notes, *note_found("cached_fractions", stray, one, many)]

    def note_places(self, frame_paths: pa.Array, sizes: geometry.Integers) -> list[Note]:
        """Note faces that lie outside of their frames, by half or more; and if all lie where percent would.

        Parameters
        ----------
        frame_paths
            Frames.
        sizes
            Shape (frames, 2): width and height of each, in the pixels that the cache is in.
        """
        _, owners, boxes = self.find_faces(frame_paths)
        sizes = sizes[owners]
        inside = geometry.clip_boxes(boxes, sizes[:, 0], sizes[:, 1])
        is_outside = geometry.compute_area(inside) < _INSIDE * geometry.compute_area(boxes)
        names = frame_paths.take(pa.array(np.unique(owners[is_outside]))).to_pylist()
        if names:
            face = int(np.flatnonzero(is_outside)[0])
            names[0] = f"{names[0]}: {describe_face(boxes[face], *sizes[face])}"
        what = "a face in the face cache that lies outside the frame"
        notes = _note_of_all(OUTSIDE_KIND, names, len(np.unique(owners)), what)
        if len(boxes) >= _FEWEST_FACES and boxes.max() <= _PERCENT and np.median(sizes.min(axis=1)) >= _LARGE:
            side = np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1))
            text = (
                f"All cached faces lie in the first {_PERCENT:.0f} pixels of their frames (the median of their longer "
                f"sides is {side:.3g}): if they are percent, multiply them by the size of the frame and divide by 100."
            )
            notes.append(Note("cached_percent", len(boxes), text))
        return notes


def _note_of_all(kind: str, found: list[str], count: int, what: str) -> list[Note]:
    return note_found(kind, found, f"of {count:,} frames has {what}", f"of {count:,} frames have {what}")


def describe_face(box: geometry.Floats, width: int, height: int) -> str:
    """Return a face as a cache states it, and the size of its frame.

    Examples
    --------
    >>> describe_face(np.array([10.0, 20, 40, 60]), 640, 480)
    '[10, 20, 30, 40] in 640 x 480 pixels'
    """
    x1, y1, x2, y2 = box.tolist()
    return f"[{x1:.6g}, {y1:.6g}, {x2 - x1:.6g}, {y2 - y1:.6g}] in {width} x {height} pixels"


def build(settings: FaceCacheSettings, device: str = "cpu") -> FaceCache:
    """Open the file that ``detection.face_cache`` names; its rows are checked and indexed on first use.

    Raises
    ------
    ConfigError
        If the file cannot be read, its faces are not in pixels, or it has invalid rows; the message names the first
        twenty.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "faces.json")
    ...     _ = path.write_text('[{"frame_path": "a.jpg", "bbox_mtcnn": [10, 20, 30, 40]}]')
    ...     cache = build(FaceCacheSettings(face_cache=str(path)))
    >>> cache.knows("a.jpg"), cache.faces_of("a.jpg", 640, 480).boxes.tolist()
    (True, [[10.0, 20.0, 40.0, 60.0]])
    """
    path = str(find_cache_file(settings))
    try:
        with open(path, "rb") as file:
            is_run = file.read(4) == b"PAR1"
        if not is_run:
            known = name_index.load_or_build(read_json_faces, (path,), settings.face_cache_column or "")
            check_pixels(known.rows, path)  # not when the index is built: an earlier release may have built it
        elif settings.face_cache_column is None:
            known = name_index.load_or_build(read_run_faces, (path,))
        else:
            raise ConfigError(
                f"detection.face_cache_column = {settings.face_cache_column!r}: {path} holds the detections of a run, "
                "which have no such columns; accepted: null"
            )
        return FaceCache(known, settings.face_confidence, _find_pixels(settings, path if is_run else None))
    except OSError as error:
        raise ConfigError(
            f"detection.face_cache = {settings.face_cache!r}: {path} cannot be read: {error.strerror or error}; "
            "accepted: a JSON file, the folder of a finished run, or its detections.parquet"
        ) from error


def _find_pixels(settings: FaceCacheSettings, run: str | None) -> str | None:
    """Return which pixels the cached faces are in: as set, or as the ``run.json`` beside the detections of a run says.

    Raises
    ------
    ConfigError
        If both say different things.
    """
    made_with = None
    if run is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            manifest = json.loads(Path(run).with_name(MANIFEST_FILE).read_bytes())
            # Releases that did not know the key used frames as stored.
            is_upright = manifest["configuration"]["detection"].get("exif", "ignore") == "apply"
            made_with = "upright" if is_upright else "stored"
    if settings.face_cache_pixels and made_with not in (None, settings.face_cache_pixels):
        raise ConfigError(
            f"detection.face_cache_pixels = {settings.face_cache_pixels!r}: the run of {run} has its faces in pixels "
            f"of the {made_with} frames; accepted: {made_with}, null"
        )
    return settings.face_cache_pixels or made_with


def find_cache_file(settings: FaceCacheSettings) -> Path:
    """Return the path of the file that ``detection.face_cache`` names; in the folder of a run, of its detections.

    Raises
    ------
    ConfigError
        If it is in a bucket.

    Examples
    --------
    >>> find_cache_file(FaceCacheSettings(face_cache="faces.json")).name
    'faces.json'
    """
    location = settings.face_cache or ""
    if urls.is_remote(location):
        raise ConfigError(
            f"detection.face_cache = {location!r}: it cannot be read from a bucket; download it and give its path"
        )
    path = Path(urls.strip_file_scheme(location))
    return path / DETECTIONS_FILE if path.is_dir() else path


def read_replaced_sha256(path: Path) -> str | None:
    """Return the sha256 of the 0.2 detections file that a run's table replaced.

    Returns
    -------
    str or None
        None if the file replaced none, or is not a detections table.

    Examples
    --------
    >>> read_replaced_sha256(Path("missing.parquet")) is None
    True
    """
    with contextlib.suppress(pa.ArrowException, OSError, UnicodeDecodeError):
        found = (pq.read_schema(path).metadata or {}).get(REPLACED)
        return None if found is None else found.decode()
    return None


def hash_faces(settings: FaceCacheSettings) -> dict[str, str]:
    """Return a sha256 of the cached faces, which is the same after the file is rewritten with the same faces.

    Returns
    -------
    dict
        The sha256 under the name ``faces``.

    Raises
    ------
    ConfigError
        As `build`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "faces.json")
    ...     _ = path.write_text('[{"frame_path": "a.jpg", "bbox_mtcnn": null}]')
    ...     hash_faces(FaceCacheSettings(face_cache=str(path)))["faces"][:8]
    'b649ceae'
    """
    rows = build(settings).known.rows
    digest = hashlib.sha256()
    for start in range(0, len(rows), _HASHED_ROWS):
        batch = rows.slice(start, _HASHED_ROWS)
        faces = batch.column("faces")
        digest.update(b"\0".join(batch.column(NAME_COLUMN).to_pylist()))
        numbers = [batch.column("width"), batch.column("height"), faces.value_lengths()]
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
