"""Runs the detectors of a run on images: faces first, then hands, each hand detector only where it is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from detectime import boxes
from detectime.detectors.contract import Detections, Detector, DetectorSpec, SharedSettings
from detectime.detectors.face_cache import FaceCache
from detectime.detectors.registry import Chosen
from detectime.images import RGB, FrameImage, hash_crop, is_full_size

_FACE_SIDE = 48  # pixels of a face's longer side at which its hands fill the input of the hand detectors


@dataclass(frozen=True)
class HandDetections:
    """Hands that one detector found in one search of an image.

    Attributes
    ----------
    detector
        Its name in the configuration.
    stage
        ``near`` a face, in the whole ``frame`` of a face, or there as ``fallback``.
    detections
        In pixels of the upright image.
    crop_hashes
        `images.hash_crop` of each box.
    """

    detector: str
    stage: str
    detections: Detections
    crop_hashes: Sequence[bytes | None]


class ImageDetections(NamedTuple):
    """Everything that was detected in one image, in pixels of the upright image.

    Attributes
    ----------
    faces
        The faces.
    hands
        One element per search, in order; a search without hands is one too.
    """

    faces: Detections
    hands: list[HandDetections]


@dataclass(frozen=True)
class _Search:
    """A search for hands: a detector, and where it looks."""

    spec: DetectorSpec
    detector: Detector
    stage: str
    coefficient: float  # of the context square around each face that is searched, at the stage `near`


@dataclass
class _State:
    """An image in the cascade: the pixels that its faces were searched in, and its detections so far.

    Of these, `has_near_hand` says whether a hand that counts is near a face.
    """

    image: FrameImage
    pixels: RGB
    faces: Detections = field(default_factory=Detections.none)
    hands: list[HandDetections] = field(default_factory=list)
    has_near_hand: bool = False
    _larger_pixels: RGB | None = None

    def read_full_size(self) -> RGB:
        """Return all pixels of the image."""
        return self.pixels if is_full_size(self.pixels, self.image) else self.image.read_pixels()

    def read_for_hands(self) -> RGB:
        """Return more pixels of an image whose faces are small, since its hands are small too."""
        longest = float((self.faces.boxes[:, 2:] - self.faces.boxes[:, :2]).max(initial=0))
        if not longest or is_full_size(self.pixels, self.image):
            return self.pixels
        side = math.ceil(max(self.image.width, self.image.height) * _FACE_SIDE / longest)
        if max(self.pixels.shape) >= side:
            return self.pixels
        if self._larger_pixels is None:
            self._larger_pixels = self.image.read_pixels(side)
        return self._larger_pixels


class Cascade:
    """The detectors of a run, in the order in which they are used.

    The first hand detector searches every image with a face. Each further one searches the images in which no detector
    before it found a hand near a face, that is, a hand that overlaps the context square of `near_coefficient`. A hand
    that its detector doubts does not count, so that another one may find a better one. If none found one, smaller faces
    are searched for, and hands near those. Last, with `whole_frame`, hands are searched anywhere.

    Parameters
    ----------
    chosen
        The detectors and their settings. They are loaded here.

    Raises
    ------
    ConfigError
        If a detector needs an extra or a device that is not there, or cannot be built.
    WeightsError
        If weights are not there.
    """

    def __init__(self, chosen: Chosen) -> None:
        config, faces = chosen.config, chosen.faces
        self._uses_all_detectors = config.near_coefficient == 0
        self._near_coefficient = config.near_coefficient or SharedSettings.near_coefficient
        self._pixels = config.pixels
        self._doubts = {spec.name: spec.doubt for spec in chosen.hands}
        self._face_detector: Detector | FaceCache = chosen.build(faces)
        is_coarse = faces.coarse and config.face_first_resolution != config.face_max_resolution
        one_pass = {"face_first_resolution": config.face_max_resolution}
        self._fine_face_detector: Detector | None = chosen.build(faces, **one_pass) if is_coarse else None
        self.face_side = config.face_max_resolution if config.reduced_decoding and faces.reduced else None
        hands = [(spec, chosen.build(spec)) for spec in chosen.hands]
        self._searches = [
            _Search(
                spec,
                detector,
                "near" if (config.search or spec.search) == "face" else "frame",
                config.search_coefficient or spec.reach,
            )
            for spec, detector in hands
        ]
        self._fallback_searches = [_Search(*hand, "fallback", 0.0) for hand in hands if config.whole_frame]

    def detect(
        self, images: Sequence[FrameImage], pixels: Sequence[RGB] | None = None, frame_paths: Sequence[str] = ()
    ) -> list[ImageDetections]:
        """Detect faces and hands.

        Parameters
        ----------
        images
            The images.
        pixels
            ``image.read_pixels(face_side)`` of each; None: read here.
        frame_paths
            The path of each, by which a face cache finds its faces; detectors need none.

        Raises
        ------
        UnreadableImageError
            If an image cannot be decoded.
        UnknownFrameError
            If a face cache does not know a frame.
        """
        if pixels is None:
            pixels = [image.read_pixels(self.face_side) for image in images]
        states = [_State(*each) for each in zip(images, pixels, strict=True)]
        self._detect_faces(states, frame_paths)
        self._search_hands(states, self._searches)
        self._search_smaller_faces(states)
        self._search_hands(states, self._fallback_searches)
        return [ImageDetections(state.faces, state.hands) for state in states]

    def _detect_faces(self, states: Sequence[_State], frame_paths: Sequence[str]) -> None:
        if isinstance(self._face_detector, FaceCache):
            for state, frame_path in zip(states, frame_paths, strict=True):
                image = state.image
                state.faces = self._face_detector.faces_of(
                    frame_path, image.width, image.height, image.orientation or 1, self._pixels
                )
            return
        found = self._face_detector.detect([state.pixels for state in states])
        for state, faces in zip(states, found, strict=True):
            state.faces = _scale_to_image(faces, state.image, state.pixels)

    def _search_smaller_faces(self, states: Sequence[_State]) -> None:
        """Search images without a hand near a face for smaller faces, and for hands near those."""
        if self._fine_face_detector is None:
            return
        lonely = [state for state in states if len(state.faces) and not state.has_near_hand]
        if not lonely:
            return
        found = self._fine_face_detector.detect([state.pixels for state in lonely])
        pairs = zip(lonely, found, strict=True)
        with_more = [(state, faces) for state, faces in pairs if len(faces) > len(state.faces)]
        for state, faces in with_more:
            state.faces, state.hands = _scale_to_image(faces, state.image, state.pixels), []
        self._search_hands([state for state, _ in with_more], self._searches)

    def _search_hands(self, states: Sequence[_State], searches: Sequence[_Search]) -> None:
        """Run searches in order, each on the images that still need it."""
        for search in searches:
            searched = [state for state in states if self._is_needed(search, state)]
            if not searched:
                continue
            pixels = [state.read_for_hands() if search.spec.reduced else state.read_full_size() for state in searched]
            regions = None
            if search.stage == "near":
                regions = [
                    boxes.make_context_squares(state.faces.boxes, search.coefficient) * _compute_scale(own, state.image)
                    for state, own in zip(searched, pixels, strict=True)
                ]
            found = search.detector.detect(pixels, regions)
            for state, own, hands in zip(searched, pixels, found, strict=True):
                hashes = [hash_crop(own, box) for box in hands.boxes]
                scaled = _scale_to_image(hands, state.image, own)
                state.hands.append(HandDetections(search.spec.name, search.stage, scaled, hashes))
                state.has_near_hand = state.has_near_hand or self._is_any_near(state.hands[-1], state.faces)

    def _is_needed(self, search: _Search, state: _State) -> bool:
        if search.stage != "fallback":  # a hand counts only near a face
            return len(state.faces) > 0 and (self._uses_all_detectors or not state.has_near_hand)
        # Hands in the whole frame are as good, and a detector that has searched it would find the same again.
        is_done = any(
            hands.stage != "near" and (len(self._select_sure(hands)) or hands.detector == search.spec.name)
            for hands in state.hands
        )
        return not is_done and not state.has_near_hand

    def _is_any_near(self, hands: HandDetections, faces: Detections) -> bool:
        """Whether a hand that its detector does not doubt is near a face."""
        sure = self._select_sure(hands)
        if not len(sure):
            return False
        squares = boxes.make_context_squares(faces.boxes, self._near_coefficient)[:, None]
        return bool((boxes.compute_overlap(squares, sure) > 0).any())

    def _select_sure(self, hands: HandDetections) -> boxes.Floats:
        """Return the boxes of the hands that their detector does not doubt."""
        found = hands.detections
        if found.presence is None:
            return found.boxes
        return found.boxes[~(found.presence < self._doubts[hands.detector])]  # an outside detector may give NaN


def _compute_scale(pixels: RGB, image: FrameImage) -> boxes.Floats:
    """Return the decoded pixels per pixel of the image, for x, y, x, y."""
    height, width = pixels.shape[:2]
    return np.array([width / image.width, height / image.height] * 2)


def _scale_to_image(detections: Detections, image: FrameImage, pixels: RGB) -> Detections:
    """Scale detections in decoded pixels to the pixels of the image."""
    if is_full_size(pixels, image):
        return detections
    scale = _compute_scale(pixels, image)
    landmarks, proposals = detections.landmarks, detections.proposals
    if landmarks is not None:
        landmarks = (landmarks / scale[[0, 1, 0]]).astype(np.float32)
    if proposals is not None:
        proposals = (proposals / [*scale, 1]).astype(np.float32)
    scaled = boxes.as_boxes(boxes.clip_boxes(detections.boxes / scale, image.width, image.height))
    return replace(detections, boxes=scaled, landmarks=landmarks, proposals=proposals)
