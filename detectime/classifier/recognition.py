"""Recognition: what an exported model says of hands, with onnxruntime alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectime.classifier.crops import fit_square
from detectime.classifier.model_file import OUTPUT, ModelFileError, read_model_file
from detectime.images import RGB
from detectime.schema import LANDMARKS

_BATCH = 32  # hands per inference, which bounds the memory


class Recognized(NamedTuple):
    """What a model says of hands.

    Attributes
    ----------
    names
        The most probable class of each hand.
    probabilities
        float32, shape (N, classes), in the order of the model's classes.
    """

    names: list[str]
    probabilities: NDArray[np.float32]


class GestureRecognizer:
    """An exported model that names the gestures of hands; torch is not needed.

    Parameters
    ----------
    path
        The ``.onnx`` file.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Attributes
    ----------
    model
        What the file holds: classes, input, side …

    Raises
    ------
    ModelFileError
        If there is no such file, or it is no model that detectime exported.
    ConfigError
        If ``cuda`` is requested and not available.

    Examples
    --------
    >>> recognizer = GestureRecognizer("output/classifier/model.onnx")  # doctest: +SKIP
    >>> recognizer.recognize_crops([crop]).names  # doctest: +SKIP
    ['ok']
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "cpu") -> None:
        self.model = read_model_file(path, device)

    def recognize_crops(self, crops: Sequence[RGB]) -> Recognized:
        """Name the gestures that crops show.

        Parameters
        ----------
        crops
            Each uint8, shape (height, width, 3), red first, of any size: what `crops.cut_hand` returns, or a square
            around a hand as large as there.

        Raises
        ------
        ModelFileError
            If it is a model of landmarks.
        ValueError
            If a crop is another array, such as of floats from 0 to 1, or has no pixels.
        """
        side = self._check_input("crops", "recognize_landmarks").side
        assert side is not None  # as its graph was checked
        squares = [fit_square(crop, side) for crop in crops]
        return self._run(np.stack(squares) if squares else np.empty((0, side, side, 3), np.uint8))

    def recognize_landmarks(self, landmarks: ArrayLike) -> Recognized:
        """Name the gestures of hands by their landmarks.

        Parameters
        ----------
        landmarks
            Shape (N, 21, 3): pixels of the upright frame, z in the same unit, 0 at the wrist, as detections have them.

        Raises
        ------
        ModelFileError
            If it is a model of crops.
        ValueError
            If a hand has no landmarks (NaN), or the shape is another one.
        """
        self._check_input("landmarks", "recognize_crops")
        points = np.asarray(landmarks, np.float32)
        if points.shape[1:] != (LANDMARKS, 3) or not np.isfinite(points).all():
            raise ValueError(f"landmarks of shape {points.shape}; expected (N, {LANDMARKS}, 3), all of them numbers")
        return self._run(points)

    def _check_input(self, name: str, other: str) -> Any:
        if self.model.input != name:
            raise ModelFileError(
                f"{self.model.path}: this is a model of {self.model.input}, not of {name}; call {other}, or give a "
                f"model of {name}"
            )
        return self.model

    def _run(self, values: NDArray[Any]) -> Recognized:
        batches = [
            self.model.session.run([OUTPUT], {self.model.input: values[start : start + _BATCH]})[0]
            for start in range(0, len(values), _BATCH)
        ]
        probabilities = np.concatenate([np.empty((0, len(self.model.classes)), np.float32), *batches])
        return Recognized([self.model.classes[k] for k in probabilities.argmax(axis=1)], probabilities)
