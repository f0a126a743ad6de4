"""Videos: frames of a run made into one, and what an exported model recognises in one, frame by frame."""

from __future__ import annotations

import base64
import dataclasses
import html
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from detectime import pairing
from detectime.classifier.crops import cut_hand
from detectime.classifier.landmarks import find_landmarks
from detectime.classifier.recognition import GestureRecognizer, Recognized
from detectime.classifier.video_files import (
    VideoError,
    VideoFrame,
    VideoWriter,
    measure_timing,
    open_capture,
    read_chunks,
)
from detectime.config import Config
from detectime.detection.worker import Worker
from detectime.detectors import face_cache
from detectime.detectors.registry import DetectionConfig, choose_detectors
from detectime.exports.pictures import encode_picture
from detectime.images import RGB, UnreadableImageError, shrink_image
from detectime.notes import Note, shorten_text
from detectime.progress import Progress
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES, Outcome
from detectime.settings import list_defaults
from detectime.sources.contract import MissingFrameError, ReadFrame, Source
from detectime.sources.reading import read_images

_RENDERED_SIDE = 1280  # pixels: larger frames are shrunk
_DRAWN_SIDE = 640  # pixels, of a video that is looked at
_CACHE_KEYS = ("detector_type", "face_cache", "face_cache_column", "face_cache_pixels")
_SHOWN_BYTES = 8_000_000  # of a video inside a notebook, which stores a third more
_TEXT_SIZE, _PAD = 16, 4  # pixels
_HAND = [f"hand_{corner}" for corner in CORNERS]
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_NO_LANDMARKS = "The detector of this hand found no landmarks."
_FIGURE = """
<figure style="margin: 0;">
{picture}
<figcaption>{text}</figcaption></figure>
"""


@dataclass(frozen=True)
class RenderedVideo:
    """Frames of a run as a video.

    Attributes
    ----------
    path
        The file.
    frame_paths
        The frames in it, in their order.
    notes
        Which frames could not be read.
    """

    path: Path
    frame_paths: tuple[str, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class RecognizedVideo:
    """What was recognised in a video.

    Attributes
    ----------
    path
        The video in which it is drawn.
    frames
        One row per frame: `frame`, its number from 0; `outcome` and `error`, as in the outcomes table; `hand_x1` …
        `hand_y2`, in pixels of the upright frame (NaN where there is no pair); `predicted`, the class (None where
        nothing was recognised), and its `probability` (NaN there).
    notes
        Findings about the video.
    """

    path: Path
    frames: pd.DataFrame
    notes: tuple[Note, ...]

    def __str__(self) -> str:
        found = self.frames["predicted"].value_counts()
        others = self.frames.loc[self.frames["predicted"].isna(), "outcome"].value_counts()
        counts = [f"{count:,} {name}" for name, count in (*found.items(), *others.items())]
        return f"{found.sum():,} of {len(self.frames):,} frames have a gesture: {', '.join(counts)}"


def render_video(
    run: FinishedRun, frame_paths: Iterable[str], path: str | os.PathLike[str], fps: float = 10.0
) -> RenderedVideo:
    """Make a video of frames of a run, one after another, upright.

    Parameters
    ----------
    run
        The run; its source must be there.
    frame_paths
        The frames, in the order in which they are shown.
    path
        The video, ``.webm``. It appears when it is whole; an earlier file is replaced.
    fps
        Frames per second.

    Returns
    -------
    RenderedVideo
        As large as the first frame, 1280 pixels at most; others are fitted into that, on black.

    Raises
    ------
    VideoError
        If none of the frames can be read, the path has another suffix, or OpenCV cannot write it.
    SourceError
        If the source cannot be opened.
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> render_video(run, run.outcomes["frame_path"].head(100), "clip.webm").path  # doctest: +SKIP
    PosixPath('clip.webm')
    """
    reading = run.config.detection
    shown: list[str] = []
    failed: list[str] = []
    names = list(frame_paths)
    with VideoWriter(Path(path), fps) as writer, Progress(len(names), name="video") as progress:
        for name, image in read_images(run.source, names, exif=reading.exif, max_pixels=reading.max_pixels):
            progress.add(1)
            try:
                if isinstance(image, MissingFrameError | UnreadableImageError):
                    raise image
                writer.write(shrink_image(image.read_pixels(), _RENDERED_SIDE))
            except (MissingFrameError, UnreadableImageError) as error:
                failed.append(f"{name}: {error}")
            else:
                shown.append(name)
        if not shown:
            reason = f"the first: {shorten_text(failed[0], 200)}" if failed else "no frame was named"
            raise VideoError(f"{path}: no frame of {run.store} can be read ({reason}); restore them, or name others")
    what = "frame is left out: it" if len(failed) == 1 else "frames are left out: they"
    notes = [Note("unreadable", len(failed), f"{what} cannot be read", failed[0])] if failed else []
    return RenderedVideo(Path(path), tuple(shown), tuple(notes))


def choose_config(run: FinishedRun) -> tuple[Config, list[Note]]:
    """Return the configuration of a run for videos, which takes no faces from a cache.

    Parameters
    ----------
    run
        The run.

    Returns
    -------
    config, notes
        That of the run, with the settings of its last pairing. If its faces are from a cache, the default face
        detector replaces it, and a note says so.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> config, notes = choose_config(open_run("output"))  # doctest: +SKIP
    """
    config = dataclasses.replace(run.config, pairing=run.pairing)
    if config.detection.detector_type != face_cache.SPEC.name:
        return config, []
    unused = {name: value for name, value in list_defaults(DetectionConfig).items() if name in _CACHE_KEYS}
    detection = dataclasses.replace(config.detection, **unused)
    text = f"A video has no faces in the cache of this run: {detection.detector_type} detects them."
    return dataclasses.replace(config, detection=detection), [Note("face_cache", 1, text)]


def recognize_video(
    recognizer: GestureRecognizer, source_video: str | os.PathLike[str], to: str | os.PathLike[str], config: Config
) -> RecognizedVideo:
    """Recognise gestures in a video, and write a video in which each frame shows its hand, class and probability.

    Each frame is treated as one of a run: faces and hands are detected, paired, and cut out as in training. A frame
    without a pair says why. Nothing is averaged over frames.

    Parameters
    ----------
    recognizer
        The model.
    source_video
        The video, in any format that OpenCV reads.
    to
        The video with the results, ``.webm``, 640 pixels at most. It appears when it is whole; an earlier file is
        replaced.
    config
        Its sections `detection` and `pairing` say how: that of a run, see `choose_config`.

    Raises
    ------
    VideoError
        If the video cannot be read, `to` has another suffix or cannot be written by OpenCV, or faces are taken from a
        cache, which `choose_config` replaces.
    ConfigError
        If a detector needs an extra or a device that is not there.
    StoreError
        If the file cannot be written.
    WeightsError
        If weights are missing and cannot be downloaded.

    Examples
    --------
    >>> recognizer = GestureRecognizer("output/classifier/model.onnx")  # doctest: +SKIP
    >>> config, notes = choose_config(run)  # doctest: +SKIP
    >>> print(recognize_video(recognizer, "clip.webm", "recognised.webm", config))  # doctest: +SKIP
    92 of 100 frames have a gesture: 50 ok, 42 like, 8 no_hand
    """
    source, target = Path(source_video), Path(to)
    if source.exists() and target.exists() and source.samefile(target):
        raise VideoError(f"{target}: this is the video itself; write to another file")
    found: list[pd.DataFrame] = []
    with open_capture(source, config.detection.exif == "apply") as capture:
        chosen = choose_detectors(config.detection)
        if chosen.faces.by_name:
            raise VideoError(
                f"{source}: the configuration takes faces from a cache, which has those of no video; give one with "
                "another detection.detector_type, such as retinaface"
            )
        chosen.check()
        chosen.prepare([])
        worker = Worker(chosen)
        timing = measure_timing(source)
        if not timing.frames:
            raise VideoError(f"{source}: no frame of this video can be decoded; record or copy it again")
        with VideoWriter(target, timing.rate) as writer, Progress(timing.frames, name="video") as progress:
            for chunk in read_chunks(capture):
                start = sum(map(len, found))
                samples = _recognize_frames(recognizer, worker, chunk, config, start)
                for frame, row in zip(chunk, samples.to_dict("records"), strict=True):
                    writer.write(_draw_frame(frame.pixels, row))
                found.append(samples)
                progress.add(len(chunk))
    frames = pd.concat(found, ignore_index=True)
    notes: tuple[Note, ...] = ()
    if timing.is_cut_off:
        text = f"The video has {timing.promised:,} frames by its header; {len(frames):,} could be decoded."
        notes = (Note("short", 1, text),)
    return RecognizedVideo(target, frames, notes)


def show_video(path: str | os.PathLike[str], most_bytes: int = _SHOWN_BYTES) -> Any:
    """Return what a notebook shows of a video: the video itself, stored in the notebook, so that it goes with it.

    Parameters
    ----------
    path
        A video that `render_video` or `recognize_video` wrote.
    most_bytes
        Of a larger video there is one frame, and a sentence that says where it is.

    Returns
    -------
    IPython.display.HTML

    Raises
    ------
    VideoError
        If the video cannot be read.

    Examples
    --------
    >>> show_video("recognised.webm")  # doctest: +SKIP
    <IPython.core.display.HTML object>
    """
    from IPython.display import HTML

    file = Path(path)
    with open_capture(file) as capture:
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        seconds, size = count / capture.get(cv2.CAP_PROP_FPS), file.stat().st_size
        capture.set(cv2.CAP_PROP_POS_FRAMES, count // 2)
        frame = next(read_chunks(capture, 1), None)
    if frame is None:
        raise VideoError(f"{file}: no frame of this video can be decoded; write it again")
    still = f"data:image/jpeg;base64,{_encode(encode_picture(frame[0].pixels, '.jpg'))}"
    if size <= most_bytes:
        text = f"{file.name}: {seconds:.1f} s"
        video = f"data:video/webm;base64,{_encode(file.read_bytes())}"
        style = "max-width: 100%; height: auto;"
        picture = f'<video src="{video}" poster="{still}" controls loop muted playsinline style="{style}"></video>'
    else:
        text = f"{file}: {size / 1e6:.1f} MB are too many for a notebook; this is one frame. Open it in a browser."
        picture = f'<img src="{still}" alt="One frame of {html.escape(file.name)}">'
    return HTML(_FIGURE.format(picture=picture, text=html.escape(text)))


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


# -- frame by frame


class _Chunk:
    """Frames in memory, as far as a worker needs a source."""

    def __init__(self, frames: Sequence[VideoFrame]) -> None:
        self._frames = frames

    def read_frames(self, frame_paths: Iterable[str], _: int | None = None) -> Iterator[tuple[str, ReadFrame]]:
        yield from zip(frame_paths, self._frames, strict=True)


def _recognize_frames(
    recognizer: GestureRecognizer, worker: Worker, frames: Sequence[VideoFrame], config: Config, start: int
) -> pd.DataFrame:
    """Return rows as in `RecognizedVideo`, with a range as index; `start` is the number of the first frame."""
    names = [str(start + k) for k in range(len(frames))]
    detections = worker(cast(Source, _Chunk(frames)), names)
    # The class is not known: the empty text is among no `enlarged_classes`.
    table = pd.DataFrame({"frame_path": names, "class_name": "", "wanted": True})
    paired = pairing.pair_frames(table, detections, config.pairing)
    predicted: list[str | None] = [None] * len(frames)
    probability = np.full(len(frames), np.nan)
    rows, recognized = _recognize_hands(recognizer, frames, paired, detections)
    for row, name, values in zip(rows, *recognized, strict=True):
        predicted[row], probability[row] = name, values.max()
    samples = paired[["outcome", "error", *_HAND]].copy()
    samples.insert(0, "frame", np.arange(start, start + len(frames)))
    return samples.assign(predicted=pd.Series(predicted, dtype=object), probability=probability)


def _recognize_hands(
    recognizer: GestureRecognizer, frames: Sequence[VideoFrame], paired: pd.DataFrame, detections: pa.Table
) -> tuple[list[int], Recognized]:
    """Return the positions of the frames whose hand the model can look at, and what it says of these."""
    hands = pairing.get_boxes(paired, "hand")
    rows = np.flatnonzero(paired["outcome"].isin(SAMPLES)).tolist()
    side = recognizer.model.side
    if side is None:
        points = find_landmarks(paired, detections)
        rows = [row for row in rows if np.isfinite(points[row]).all()]
        return rows, recognizer.recognize_landmarks(points[rows])
    cut = {row: cut_hand(frames[row].pixels, hands[row], side) for row in rows}
    crops = {row: crop for row, crop in cut.items() if crop is not None}
    return list(crops), recognizer.recognize_crops(list(crops.values()))


def _draw_frame(pixels: RGB, row: dict[Any, Any]) -> RGB:
    """Draw what was recognised, or why nothing was, on a frame of which the longer side has 640 pixels at most."""
    picture = Image.fromarray(shrink_image(pixels, _DRAWN_SIDE))
    draw = ImageDraw.Draw(picture)
    outcome = _OUTCOMES[row["outcome"]]
    if outcome.is_sample:
        scale = np.array([picture.width / pixels.shape[1], picture.height / pixels.shape[0]] * 2)
        x1, y1, x2, y2 = (scale * [row[name] for name in _HAND]).tolist()
        draw.rectangle((x1, y1, x2, y2), outline=outcome.colour, width=3)
        text = f"{row['predicted']} {row['probability']:.2f}" if row["predicted"] else _NO_LANDMARKS
        _write_text(draw, text, (int(x1), int(y1)), picture.size)
    else:
        text = str(row["error"]) if isinstance(row["error"], str) else outcome.sentence
        _write_text(draw, text, (0, picture.height), picture.size)
    return np.asarray(picture)


def _write_text(draw: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Write a line on black, its lower left corner here, or as near as the picture allows."""
    font_file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # beside Latin it has Cyrillic …
    font = ImageFont.truetype(font_file, _TEXT_SIZE)
    text = " ".join(text.split())
    while len(text) > 1 and draw.textlength(text, font) > size[0] - 2 * _PAD:
        text = f"{text[:-2]}…"
    width, height = int(draw.textlength(text, font)) + 2 * _PAD, _TEXT_SIZE + 2 * _PAD
    x, y = max(0, min(corner[0], size[0] - width)), max(0, min(corner[1], size[1]) - height)
    draw.rectangle((x, y, x + width, y + height), fill="black")
    draw.text((x + _PAD, y + height // 2), text, fill="white", font=font, anchor="lm")
