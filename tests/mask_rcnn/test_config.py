from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from detectime.detectors.mask_rcnn.config import Settings, follow
from detectime.errors import ConfigError

mrcnn_config = pytest.importorskip("mrcnn.config", reason="the extra torch is not installed")

pytestmark = pytest.mark.extra


def hands(**values: Any) -> type:
    """Derive a configuration the way notebooks do."""
    plain = {"NAME": "hands", "NUM_CLASSES": 2, "IMAGES_PER_GPU": 1, "DETECTION_MIN_CONFIDENCE": 0.95}
    return type("HandsConfig", (mrcnn_config.Config,), plain | values)


def test_the_defaults_are_those_of_the_hand_detector() -> None:
    followed = follow(hands(IMAGE_MIN_DIM=800, IMAGE_MAX_DIM=1024)())
    assert followed == Settings()
    assert followed == follow(hands())  # the class will do


def test_values_are_followed() -> None:
    followed = follow(
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
    assert (followed.backbone, followed.classes, followed.batch) == ("resnet50", 81, 4)
    assert (followed.min_side, followed.max_side, followed.nms) == (256, 512, 0.5)
    assert followed.mean_rgb == (1, 2, 3)
    assert followed.anchor_sides == (8, 16, 32, 64, 128)
    hash(followed)
    with pytest.raises(dataclasses.FrozenInstanceError):
        followed.nms = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"IMAGE_RESIZE_MODE": "pad64"}, "IMAGE_RESIZE_MODE = 'pad64': accepted: 'square'"),
        ({"BACKBONE": "mobilenetv1"}, "BACKBONE = 'mobilenetv1': accepted: resnet50, resnet101"),
        ({"BACKBONE": lambda images: images}, "BACKBONE"),
        ({"NUM_CLASSES": 1}, "NUM_CLASSES = 1"),
        ({"NUM_CLASSES": 2.5}, "NUM_CLASSES = 2.5: accepted: a whole number"),
        ({"IMAGE_MAX_DIM": 1000}, "IMAGE_MAX_DIM = 1000: accepted: a multiple of 64"),
        ({"IMAGE_MIN_DIM": 2048}, "IMAGE_MIN_DIM = 2048"),
        ({"BACKBONE_STRIDES": [4, 8, 16, 32]}, "BACKBONE_STRIDES"),
        ({"RPN_ANCHOR_SCALES": (32, 64)}, "RPN_ANCHOR_SCALES"),
        ({"MEAN_PIXEL": 100}, "MEAN_PIXEL = 100: accepted: numbers in a row"),
        ({"DETECTION_MIN_CONFIDENCE": 95}, "DETECTION_MIN_CONFIDENCE = 95.0: accepted: 0 to 1"),
        ({"IMAGES_PER_GPU": 0}, "IMAGES_PER_GPU"),
    ],
)
def test_what_is_not_implemented_is_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=r".") as caught:
        follow(hands(**values))
    assert part in str(caught.value)


def test_what_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="NUM_CLASSES: object lacks it"):
        follow(object())
