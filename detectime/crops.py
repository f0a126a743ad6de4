"""Crops: what the samples of a run show, read again from their frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from detectime import pairing
from detectime.boxes import Floats, round_outward
from detectime.exports.selection import read_detections_of
from detectime.images import RGB, FrameImage, UnreadableImageError, blur_boxes
from detectime.runs import FinishedRun
from detectime.schema import CORNERS
from detectime.sources.contract import MissingFrameError
from detectime.sources.reading import read_images


def read_crops(run: FinishedRun, samples: pd.DataFrame, *, blur_faces: bool = False) -> Iterator[RGB | None]:
    """Read what samples show, in their order, one frame at a time.

    Parameters
    ----------
    run
        The run.
    samples
        Rows of its outcomes with a sample: `frame_path`, `bbox_x1` … `bbox_y2`, and `width` and `height` of the frame.
    blur_faces
        Make the faces that were detected unrecognisable.

    Yields
    ------
    ndarray or None
        The pixels inside the `bbox`, uint8, shape (height, width, 3), red first, a view of the frame; None where the
        frame is gone, cannot be decoded or has another size now, or the box lies outside it.

    Raises
    ------
    RunError
        If faces are blurred, and the detections cannot be read.
    SourceError
        If the source cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> shapes = [crop.shape for crop in read_crops(run, run.outcomes.head(1))]  # doctest: +SKIP
    """
    reading = run.config.detection
    boxes = round_outward(pairing.get_boxes(samples, "bbox"))
    sizes = samples[["width", "height"]].to_numpy(np.float64, na_value=np.nan)
    faces = _read_faces(run, samples) if blur_faces else [np.empty((0, 4))] * len(samples)
    images = read_images(run.source, samples["frame_path"], exif=reading.exif, max_pixels=reading.max_pixels)
    for (_, image), box, size, found in zip(images, boxes, sizes, faces, strict=True):
        yield None if isinstance(image, MissingFrameError | UnreadableImageError) else _cut(image, box, size, found)


def _cut(image: FrameImage, box: Floats, size: Floats, faces: Floats) -> RGB | None:
    """Return the pixels inside a box; None if there are none, or the frame is not as large as expected."""
    if has_other_size(image, *size.tolist()):
        return None
    x1, y1, x2, y2 = np.maximum(box, 0).astype(int).tolist()
    try:
        crop = blur_boxes(image.read_pixels(), faces)[y1:y2, x1:x2]
    except UnreadableImageError:
        return None
    return crop if crop.size else None


def has_other_size(image: FrameImage, width: float, height: float) -> bool:
    """Whether a frame is not as large as at detection; false if that size is unknown (NaN).

    Examples
    --------
    >>> from detectime.images import DecodedImage
    >>> image = DecodedImage(np.zeros((48, 64, 3), np.uint8), "5-3610a686")
    >>> has_other_size(image, 64, 48), has_other_size(image, 48, 64), has_other_size(image, np.nan, np.nan)
    (False, True, False)
    """
    return not np.isnan(width) and (image.width, image.height) != (width, height)


def _read_faces(run: FinishedRun, samples: pd.DataFrame) -> list[Floats]:
    """Return the faces that were detected in each frame, shape (faces, 4)."""
    found = read_detections_of(run, ["frame_path", "faces"], samples)["faces"].to_pylist()
    return [np.array([[face[corner] for corner in CORNERS] for face in faces]).reshape(-1, 4) for faces in found]
