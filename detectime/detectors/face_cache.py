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
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.detectors.contract import Detections, DetectorSpec, FaceSettings, UnknownFrameError
from detectime.detectors.face_cache_files import FACE, check_pixels, read_json_faces, read_run_faces
from detectime.errors import ConfigError
from detectime.schema import DETECTIONS_FILE, MANIFEST_FILE, REPLACED
from detectime.settings import CHECKED
from detectime.storage import name_index, urls
from detectime.storage.name_index import NAME_COLUMN, NameIndex

_HASHED_ROWS = 65_536  # rows per update of the hash; another number would change the hash of every cache
_CORNERS = FACE[:4]
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
    with contextlib.suppress(pa.ArrowException, OSError):
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
