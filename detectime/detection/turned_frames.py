"""Frames that are stored rotated or mirrored, and cached faces that do not fit their frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import boxes as geometry
from detectime.boxes import Integers
from detectime.detectors.face_cache import OUTSIDE_KIND, PIXELS_REMEDY, FaceCache, describe_face
from detectime.detectors.registry import Chosen
from detectime.errors import ConfigError
from detectime.labels.hagrid_records import count_leaving
from detectime.notes import Note
from detectime.sources.contract import Source
from detectime.sources.reading import read_images

NOTE_KIND = "turned"
"""Kind of the note about such frames."""

_PROBES = 200  # cached frames that are read before work starts


def note_turned(detections: pa.Table, exif: str) -> list[Note]:
    """Return a note about the frames that are stored rotated or mirrored; none if there are none.

    Parameters
    ----------
    detections
        With `frame_path` and `orientation`: EXIF's 1 to 8, null where unknown.
    exif
        Whether orientations were applied: ``apply``, ``ignore``.

    Examples
    --------
    >>> detections = pa.table({"frame_path": ["a.jpg", "b.jpg"], "orientation": [1, 6]})
    >>> (note,) = note_turned(detections, "apply")
    >>> note.count, note.text, note.example
    (1, 'frame is stored rotated or mirrored and was turned upright, with its boxes', 'b.jpg')
    """
    is_turned = pc.fill_null(pc.greater(detections["orientation"], 1), False)
    turned = detections["frame_path"].filter(is_turned)
    if not len(turned):
        return []
    one = len(turned) == 1
    stored = f"{'frame is' if one else 'frames are'} stored rotated or mirrored"
    if exif == "apply":
        text = f"{stored} and {'was' if one else 'were'} turned upright, with {'its' if one else 'their'} boxes"
    else:
        text = (
            f"{stored} and used like that, since detection.exif is `ignore`: detectors see "
            f"{'it' if one else 'them'} lying or mirrored, and the boxes do not fit what viewers, players and "
            "cv2.imread show; `exif: apply` turns such frames upright"
        )
    return [Note(NOTE_KIND, len(turned), text, turned[0].as_py())]


def check_cached_faces(chosen: Chosen, source: Source, frame_paths: pd.Series) -> list[Note]:
    """Refuse a face cache that does not fit the frames; return notes about it, as `note_cached_faces` does.

    Some frames are read, evenly spread. Any other that is rotated or mirrored is `failed` when detection comes to it.

    Parameters
    ----------
    chosen
        The detectors.
    source, frame_paths
        The frames to detect.

    Raises
    ------
    ConfigError
        If a frame is rotated or mirrored, and the cache does not say which pixels its faces are in; if all faces lie
        outside of their frames; or if they are corners instead of sizes.

    Examples
    --------
    >>> from detectime.detectors.registry import DetectionConfig
    >>> from detectime.sources import open_source
    >>> check_cached_faces(Chosen(DetectionConfig()), open_source("frames"), pd.Series(["a.jpg"]))
    []
    """
    if not chosen.faces.by_name:
        return []
    cache = chosen.build(chosen.faces)
    notes: list[Note] = cache.note_faces(pa.array(frame_paths, pa.string()))
    has_sizes = cache.known.rows.column("width").null_count == 0  # of a run, whose faces lie in their frames
    if cache.pixels is not None and has_sizes:
        return notes
    probes = frame_paths.iloc[np.unique(np.linspace(0, len(frame_paths) - 1, _PROBES).astype(int))]
    known = [frame_path for frame_path in probes if cache.knows(frame_path)]
    exif = "apply" if cache.pixels == "upright" else "ignore"
    sizes = {}
    for frame_path, image in read_images(source, known, exif=exif, max_pixels=chosen.config.max_pixels):
        if isinstance(image, Exception):
            continue
        if cache.pixels is None and (image.orientation or 1) != 1:
            raise ConfigError(
                f"detection.face_cache_pixels = None: {frame_path!r} is stored rotated or mirrored (EXIF orientation "
                f"{image.orientation}), and {chosen.config.face_cache} does not say whether its faces are in pixels "
                f"before or after that; {PIXELS_REMEDY}"
            )
        sizes[frame_path] = (image.width, image.height)
    if has_sizes:
        return notes
    return notes + _check_places(chosen, pa.array(sizes, pa.string()), np.array([*sizes.values()]).reshape(-1, 2))


def _check_places(chosen: Chosen, frame_paths: pa.Array, sizes: Integers) -> list[Note]:
    """Refuse faces that are corners instead of sizes, or all outside of these frames; return notes."""
    key = f"detection.face_cache = {chosen.config.face_cache!r}"
    cache: FaceCache = chosen.build(chosen.faces)
    _, owners, boxes = cache.find_faces(frame_paths)
    numbers = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    if leaving := count_leaving(numbers / np.tile(sizes[owners], 2)):
        first = f"{frame_paths[int(owners[0])].as_py()}: {describe_face(boxes[0], *sizes[owners[0]])}"
        raise ConfigError(
            f"{key}: its boxes are [x1, y1, x2, y2] instead of [x, y, width, height]: as the latter, {leaving} of "
            f"{len(boxes)} would leave their frame (the first: {first!r}); subtract x1 from x2, and y1 from y2"
        )
    notes = cache.note_places(frame_paths, sizes)
    for note in notes:
        if note.kind == OUTSIDE_KIND and note.count == len(np.unique(owners)):
            raise ConfigError(
                f"{key}: {note}; was it made from frames of another size? accepted: [x, y, width, height] in pixels of "
                "these frames"
            )
    return notes


def note_cached_faces(chosen: Chosen, detections: pa.Table) -> list[Note]:
    """Note what is odd about cached faces; nothing if faces are detected, or the cache is gone.

    Parameters
    ----------
    chosen
        The detectors.
    detections
        Of the wanted frames: `frame_path`, `outcome`, `width`, `height`, `orientation`.

    Examples
    --------
    >>> from detectime.detectors.registry import DetectionConfig
    >>> note_cached_faces(Chosen(DetectionConfig()), pa.table({}))
    []
    """
    try:
        if not chosen.faces.by_name:
            return []
        cache = chosen.build(chosen.faces)
    except ConfigError:  # a finished run goes on without its cache, or its detector
        return []
    found = detections.filter(pc.equal(detections["outcome"], "ok"))
    sizes = np.stack([found[side].to_numpy() for side in ("width", "height")], axis=1)
    if cache.pixels not in (None, chosen.config.pixels):
        is_sideways = pc.is_in(found["orientation"], pa.array(geometry.SIDEWAYS, pa.int8())).to_numpy()
        sizes = np.where(is_sideways[:, None], sizes[:, ::-1], sizes)
    return [*cache.note_faces(detections["frame_path"]), *cache.note_places(found["frame_path"], sizes)]
