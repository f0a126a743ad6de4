"""Frames that are stored rotated or mirrored, with an orientation that viewers and players apply."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.detectors.face_cache import PIXELS_REMEDY
from detectime.detectors.registry import Chosen
from detectime.errors import ConfigError
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


def check_cached_faces(chosen: Chosen, source: Source, frame_paths: pd.Series) -> None:
    """Refuse a face cache that does not say which pixels its faces are in, if a frame in it is rotated or mirrored.

    Some frames are read, evenly spread. Any other such frame is `failed` when detection comes to it.

    Parameters
    ----------
    chosen
        The detectors.
    source, frame_paths
        The frames to detect.

    Raises
    ------
    ConfigError
        If there is such a frame.

    Examples
    --------
    >>> from detectime.detectors.registry import DetectionConfig
    >>> from detectime.sources import open_source
    >>> check_cached_faces(Chosen(DetectionConfig()), open_source("frames"), pd.Series(["a.jpg"]))
    """
    if not chosen.faces.by_name:
        return
    cache = chosen.build(chosen.faces)
    if cache.pixels is not None:
        return
    probes = frame_paths.iloc[np.unique(np.linspace(0, len(frame_paths) - 1, _PROBES).astype(int))]
    known = [frame_path for frame_path in probes if cache.knows(frame_path)]
    for frame_path, image in read_images(source, known, exif="ignore", max_pixels=chosen.config.max_pixels):
        if not isinstance(image, Exception) and (image.orientation or 1) != 1:
            raise ConfigError(
                f"detection.face_cache_pixels = None: {frame_path!r} is stored rotated or mirrored (EXIF orientation "
                f"{image.orientation}), and {chosen.config.face_cache} does not say whether its faces are in pixels "
                f"before or after that; {PIXELS_REMEDY}"
            )
