"""Conversion of Matterport configurations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from skips import need_extra

from detectime.detectors.mask_rcnn.config import NetworkSettings, read_matterport_config
from detectime.errors import ConfigError

mrcnn_config = need_extra("mrcnn.config")

pytestmark = pytest.mark.extra


def hands(**values: Any) -> type:
    """Derive a configuration as notebooks do."""
    plain = {"NAME": "hands", "NUM_CLASSES": 2, "IMAGES_PER_GPU": 1, "DETECTION_MIN_CONFIDENCE": 0.95}
    return type("HandsConfig", (mrcnn_config.Config,), plain | values)


def test_the_defaults_are_those_of_the_hand_detector() -> None:
    converted = read_matterport_config(hands(IMAGE_MIN_DIM=800, IMAGE_MAX_DIM=1024)())
    assert converted == NetworkSettings()
    assert converted == read_matterport_config(hands())  # the class itself is accepted too


def test_values_are_converted() -> None:
    converted = read_matterport_config(
        hands(
            BACKBONE="resnet50",
            NUM_CLASSES=81,
            IMAGES_PER_GPU=4,
            IMAGE_MIN_DIM=256,
            IMAGE_MAX_DIM=512,
            MEAN_PIXEL=np.array([1.0, 2, 3]),
            RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128),
            DETECTION_NMS_THRESHOLD=0.5,
        )
    )
    assert (converted.backbone, converted.classes, converted.batch) == ("resnet50", 81, 4)
    assert (converted.min_side, converted.max_side, converted.nms) == (256, 512, 0.5)
    assert converted.mean_rgb == (1, 2, 3)
    assert converted.anchor_sides == (8, 16, 32, 64, 128)
    hash(converted)
    with pytest.raises(dataclasses.FrozenInstanceError):
        converted.nms = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"IMAGE_RESIZE_MODE": "pad64"}, "IMAGE_RESIZE_MODE = 'pad64': accepted: 'square'"),
        ({"BACKBONE": "mobilenetv1"}, "BACKBONE = 'mobilenetv1': accepted: resnet50, resnet101"),
        ({"BACKBONE": lambda images: images}, "BACKBONE"),
        ({"NUM_CLASSES": 1}, "NUM_CLASSES = 1"),
        ({"NUM_CLASSES": 2.5}, "NUM_CLASSES = 2.5: accepted: an integer"),
        ({"IMAGE_MAX_DIM": 1000}, "IMAGE_MAX_DIM = 1000: accepted: a multiple of 64"),
        ({"IMAGE_MIN_DIM": 2048}, "IMAGE_MIN_DIM = 2048"),
        ({"BACKBONE_STRIDES": [4, 8, 16, 32]}, "BACKBONE_STRIDES"),
        ({"RPN_ANCHOR_SCALES": (32, 64)}, "RPN_ANCHOR_SCALES"),
        ({"MEAN_PIXEL": 100}, "MEAN_PIXEL = 100: accepted: a sequence of numbers"),
        ({"DETECTION_MIN_CONFIDENCE": 95}, "DETECTION_MIN_CONFIDENCE = 95.0: accepted: 0 to 1"),
        ({"IMAGES_PER_GPU": 0}, "IMAGES_PER_GPU"),
    ],
)
def test_unsupported_values_are_rejected(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=r".") as caught:
        read_matterport_config(hands(**values))
    assert part in str(caught.value)


def test_other_objects_are_rejected() -> None:
    with pytest.raises(ConfigError, match="NUM_CLASSES: object lacks this attribute"):
        read_matterport_config(object())
