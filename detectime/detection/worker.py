"""A worker: looks at frames and tells what it found, one row per frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from detectime import boxes
from detectime.detectors.contract import Detections, Detector, DetectorSpec, UnknownFrameError
from detectime.detectors.face_cache import FaceCache
from detectime.detectors.registry import Chosen
from detectime.images import RGB, EncodedImage, UnreadableImageError, hash_crop
from detectime.schema import DETECTIONS, LANDMARKS
from detectime.sources.contract import MissingFrameError, Source

Row = dict[str, Any]
Opened = tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]

_FACE_SIDE = 48  # pixels of a face's longer side whose hands fill the hand detectors' inputs
_BATCH_ON_GPU = 16  # frames
_BATCH_PIXELS = 64_000_000  # of the frames of a batch together, or one frame more: two batches are in memory
_DECODERS = 4  # threads that decode the batch to come


@dataclass(frozen=True)
class HandDetections:
    """What one detector found in one look at a frame, in the frame's pixels, and the hash of each box's pixels."""

    detector: str
    stage: str
    found: Detections
    hashes: Sequence[bytes | None]


@dataclass(frozen=True)
class _Look:
    """One hand detector's turn: near the faces, in the `frame` of a face, or there as `fallback`."""

    name: str
    spec: DetectorSpec
    detector: Detector
    stage: str
    coefficient: float


@dataclass
class _Seen:
    """A frame, as much of it as was decoded for its faces, and what was found so far, in the frame's pixels."""

    frame: EncodedImage
    image: RGB
    faces: Detections = field(default_factory=Detections.none)
    hands: list[HandDetections] = field(default_factory=list)
    _larger: RGB | None = None

    def whole(self) -> RGB:
        """Every pixel."""
        return self.image if self.frame.is_whole(self.image) else self.frame.pixels()

    def for_hands(self) -> RGB:
        """More of a frame whose faces are small: their hands are, too."""
        longest = float((self.faces.boxes[:, 2:] - self.faces.boxes[:, :2]).max(initial=0))
        if not longest or self.frame.is_whole(self.image):
            return self.image
        side = math.ceil(max(self.frame.width, self.frame.height) * _FACE_SIDE / longest)
        if max(self.image.shape) >= side:
            return self.image
        if self._larger is None:
            self._larger = self.frame.pixels(side)
        return self._larger


class Worker:
    """Detects faces, and hands near them. Built once in its process; its models stay loaded.

    Parameters
    ----------
    chosen
        Which detectors, and how they look.

    Raises
    ------
    ConfigError
        If a detector needs an extra or a device that is not there, or is from outside and cannot be built.
    WeightsError
        If weights are not there.
    """

    def __init__(self, chosen: Chosen) -> None:
        self.config = config = chosen.config
        self._batch = config.batch or (_BATCH_ON_GPU if chosen.on_gpu else 1)
        faces = chosen.faces
        self._faces: Detector | FaceCache = chosen.build(faces)
        in_one_look = {"face_first_resolution": config.face_max_resolution}
        is_coarse = faces.coarse and config.face_first_resolution != config.face_max_resolution
        self._all_faces: Detector | None = chosen.build(faces, **in_one_look) if is_coarse else None
        self._side = config.face_max_resolution if config.reduced_decoding and faces.reduced else None
        built = [(spec.name, spec, chosen.build(spec)) for spec in chosen.hands]
        searches = [(config.search or spec.search, config.search_coefficient or spec.reach) for _, spec, _ in built]
        self._looks = [
            _Look(*hands, "near" if search == "face" else "frame", reach)
            for hands, (search, reach) in zip(built, searches, strict=True)
        ]
        self._fallbacks = [_Look(*hands, "fallback", 0.0) for hands in built if config.whole_frame]

    def __call__(
        self, source: Source, frame_paths: Sequence[str], at: Callable[[int | None], None] = lambda _: None
    ) -> pa.Table:
        """Look at a shard of frames.

        Parameters
        ----------
        source
            Where the frames are.
        frame_paths
            The frames.
        at
            Called with the position of each frame before it is looked at, or with None where several are at once.

        Returns
        -------
        Table
            One row for each frame, in order, in the schema of `schema.DETECTIONS`.
        """
        rows: list[Row] = []
        batches = self._batches(_telling(source.open(frame_paths), len(frame_paths), at, self._batch == 1))
        for batch in batches if self._batch == 1 else self._decoded_ahead(batches):
            if self._batch > 1:
                at(None)
            rows += self._rows(batch)
        return pa.Table.from_pylist(rows, schema=DETECTIONS)

    def look(
        self, frames: Sequence[EncodedImage], frame_paths: Sequence[str] = ()
    ) -> list[tuple[Detections, list[HandDetections]]]:
        """Find the faces of each frame, and the hands by each look that was taken, in the frame's pixels.

        The first detector of hands is asked about a frame with a face. The next one is asked if none before it found a
        hand near a face, that is, one that touches the square of `near_coefficient` around it. Where none did, smaller
        faces than those found are looked for, and hands near them; and last, with `whole_frame`, hands anywhere.

        Parameters
        ----------
        frames
            The pictures.
        frame_paths
            The name of each, which a face cache is asked by; detectors need none.

        Raises
        ------
        Unreadable
            If a frame cannot be decoded.
        Unknown
            If a face cache does not know a frame.
        """
        seen = [_Seen(frame, frame.pixels(self._side)) for frame in frames]
        if isinstance(self._faces, FaceCache):
            for one, frame_path in zip(seen, frame_paths, strict=True):
                one.faces = self._faces.faces_of(frame_path, one.frame.width, one.frame.height)
        else:
            for one, faces in zip(seen, self._faces.detect([one.image for one in seen]), strict=True):
                one.faces = _scaled(faces, one.frame, one.image)
        self._search(seen, self._looks)
        if self._all_faces:
            alone = [one for one in seen if len(one.faces) and not self._has_near(one)]
            more = self._all_faces.detect([one.image for one in alone])
            crowded = [(one, faces) for one, faces in zip(alone, more, strict=True) if len(faces) > len(one.faces)]
            for one, faces in crowded:
                one.faces, one.hands = _scaled(faces, one.frame, one.image), []
            self._search([one for one, _ in crowded], self._looks)
        self._search(seen, self._fallbacks)
        return [(one.faces, one.hands) for one in seen]

    def _search(self, seen: Sequence[_Seen], looks: Sequence[_Look]) -> None:
        """Take looks at frames, each at those that it is asked about."""
        for look in looks:
            asked = [one for one in seen if self._is_asked(look, one)]
            shown = [one.for_hands() if look.spec.reduced else one.whole() for one in asked]
            regions = None
            if look.stage == "near":
                around = [boxes.make_context_squares(one.faces.boxes, look.coefficient) for one in asked]
                regions = [a * _scale(i, one.frame) for a, i, one in zip(around, shown, asked, strict=True)]
            for one, image, found in zip(asked, shown, look.detector.detect(shown, regions), strict=True):
                hashes = [hash_crop(image, box) for box in found.boxes]
                one.hands.append(HandDetections(look.name, look.stage, _scaled(found, one.frame, image), hashes))

    def _is_asked(self, look: _Look, one: _Seen) -> bool:
        if look.stage != "fallback":  # a hand counts only near a face
            return len(one.faces) > 0 and (not self.config.near_coefficient or not self._has_near(one))
        # What was found in the whole frame will do, and who has looked there finds the same again.
        looked = any(h.stage != "near" and (len(h.found) or h.detector == look.name) for h in one.hands)
        return not looked and not self._has_near(one)

    def _has_near(self, one: _Seen) -> bool:
        """Whether there is a hand near a face; by a coefficient of 0, which asks every detector, any hand is."""
        found = [h.found.boxes for h in one.hands if len(h.found)]
        if not self.config.near_coefficient:
            return len(found) > 0
        around = boxes.make_context_squares(one.faces.boxes, self.config.near_coefficient)[:, None]
        return any((boxes.compute_overlap(around, hands) > 0).any() for hands in found)

    def _batches(self, opened: Iterable[Opened]) -> Iterator[list[Opened]]:
        batch: list[Opened] = []
        pixels = 0
        for frame_path, frame in opened:
            batch.append((frame_path, frame))
            pixels += 0 if isinstance(frame, Exception) else frame.width * frame.height
            if len(batch) == self._batch or pixels > _BATCH_PIXELS:
                yield batch
                batch, pixels = [], 0
        if batch:
            yield batch

    def _decoded_ahead(self, batches: Iterable[list[Opened]]) -> Iterator[list[Opened]]:
        """Decode a batch in threads, which the decoder allows, while the one before it is looked at."""
        with ThreadPoolExecutor(_DECODERS) as decoders:
            before: tuple[list[Opened], list[Future[None]]] | None = None
            for batch in batches:
                good = [frame for _, frame in batch if not isinstance(frame, Exception)]
                now = batch, [decoders.submit(frame.decode_ahead, self._side) for frame in good]
                if before:
                    wait(before[1])
                    yield before[0]
                before = now
            if before:
                wait(before[1])
                yield before[0]

    def _rows(self, batch: Sequence[Opened]) -> list[Row]:
        good = [(frame, frame_path) for frame_path, frame in batch if not isinstance(frame, Exception)]
        try:
            found = iter(self.look([frame for frame, _ in good], [frame_path for _, frame_path in good]))
        except Exception as error:  # whatever a detector trips over costs one frame, not the batch and not the run
            if len(batch) > 1:
                return [row for one in batch for row in self._rows([one])]
            frame_path, frame = batch[0]
            outcome = "unreadable" if isinstance(error, UnreadableImageError) else "failed"
            words = "" if isinstance(error, UnreadableImageError | UnknownFrameError) else type(error).__name__
            reason = f"{words}: {error}" if words else str(error)
            return [make_row_without_boxes(frame_path, outcome, reason, frame.content)]
        return [
            make_row_without_boxes(
                frame_path,
                "missing" if isinstance(frame, MissingFrameError) else "unreadable",
                str(frame),
                frame.content,
            )
            if isinstance(frame, Exception)
            else self._row(frame_path, frame, *next(found))
            for frame_path, frame in batch
        ]

    def _row(self, frame_path: str, frame: EncodedImage, faces: Detections, hands: list[HandDetections]) -> Row:
        return {
            "frame_path": frame_path,
            "stamp": None,  # the driver knows it, from the source's listing
            "content": frame.content,
            "outcome": "ok",
            "error": None,
            "width": frame.width,
            "height": frame.height,
            "orientation": frame.orientation,
            "faces": _boxes(faces, self.config.detector_type, "frame"),
            "hands": [box for look in hands for box in _boxes(look.found, look.detector, look.stage)],
            "landmarks": [points for look in hands for points in _per_hand(look.found, "landmarks")],
            "presence": [value for look in hands for value in _per_hand(look.found, "presence")],
            "handedness": [value for look in hands for value in _per_hand(look.found, "handedness")],
            "proposal": [_as_box(box) for look in hands for box in _per_hand(look.found, "proposals")],
            "crop_hash": [value for look in hands for value in look.hashes],
        }


def make_row_without_boxes(frame_path: str, outcome: str, error: str, content: str | None = None) -> Row:
    """Return the row of a frame that could not be looked at, `content` being what is known of its bytes."""
    return {
        "frame_path": frame_path,
        "stamp": None,
        "content": content,
        "outcome": outcome,
        "error": error[:500].encode(errors="replace").decode(),  # a name that is no Unicode may stand in it
        "width": None,
        "height": None,
        "orientation": None,
        **{column: [] for column in ("faces", "hands", "landmarks", "presence", "handedness", "proposal", "crop_hash")},
    }


def _telling(
    opened: Iterator[Opened], count: int, at: Callable[[int | None], None], by_itself: bool
) -> Iterator[Opened]:
    """Say which frame is waited for, whatever the source reads ahead."""
    for position in range(count):
        at(position if by_itself else None)
        yield next(opened)
    for _ in opened:  # none is left: the source may close what it has open
        pass


def _scale(image: RGB, frame: EncodedImage) -> boxes.Floats:
    """Pixels of a decoded image in a pixel of its frame, for x, y, x, y."""
    height, width = image.shape[:2]
    return np.array([width / frame.width, height / frame.height] * 2)


def _scaled(found: Detections, frame: EncodedImage, image: RGB) -> Detections:
    """Bring boxes of a decoded image to the pixels of its frame."""
    if frame.is_whole(image):
        return found
    scale = _scale(image, frame)
    landmarks, proposals = found.landmarks, found.proposals
    if landmarks is not None:
        landmarks = (landmarks / scale[[0, 1, 0]]).astype(np.float32)
    if proposals is not None:
        proposals = (proposals / [*scale, 1]).astype(np.float32)
    full = boxes.as_boxes(boxes.clip_boxes(found.boxes / scale, frame.width, frame.height))
    return replace(found, boxes=full, landmarks=landmarks, proposals=proposals)


def _per_hand(found: Detections, what: str) -> list[Any]:
    """Return a property of each hand as plain values, None where the detector does not tell."""
    values = getattr(found, what)
    if values is None:
        return [None] * len(found)
    plain: list[Any] = (values.reshape(len(found), 3 * LANDMARKS) if what == "landmarks" else values).tolist()
    return plain


def _as_box(values: Sequence[float] | None) -> Row | None:
    return None if values is None else dict(zip(("x1", "y1", "x2", "y2", "score"), values, strict=True))


def _boxes(found: Detections, detector: str, stage: str) -> list[Row]:
    return [
        {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": score, "detector": detector, "stage": stage}
        for (x1, y1, x2, y2), score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True)
    ]
