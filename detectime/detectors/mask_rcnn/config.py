"""Settings of the network: the inference part of a Matterport configuration as a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from detectime.errors import ConfigError

BLOCKS = {"resnet50": 6, "resnet101": 23}
"""Number of residual blocks in stage 4, by backbone; the other stages are the same."""

STRIDES = (4, 8, 16, 32, 64)
"""Input pixels per cell of P2 … P6."""

MULTIPLE = 64
"""The sides of the input are multiples of this, the stride of P6."""


@dataclass(frozen=True)
class NetworkSettings:
    """The part of a Matterport ``Config`` that inference depends on; the defaults are those of the hand detector.

    Sides are in pixels; confidences and IoU thresholds are 0 … 1.

    Raises
    ------
    ConfigError
        If the network does not implement a value.

    Examples
    --------
    >>> NetworkSettings(max_side=512, min_side=512).backbone
    'resnet101'
    >>> NetworkSettings(max_side=1000)
    Traceback (most recent call last):
    detectime.errors.ConfigError: IMAGE_MAX_DIM = 1000: accepted: a multiple of 64
    """

    classes: int = 2  # including the background, class 0
    backbone: str = "resnet101"
    min_side: int = 800
    max_side: int = 1024
    min_scale: float = 0.0
    mean_rgb: tuple[float, ...] = (123.7, 116.8, 103.9)
    anchor_sides: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1, 2)  # width / height
    anchor_stride: int = 1  # in cells
    rpn_deviation: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    rpn_nms: float = 0.7
    candidates: int = 6000
    proposals: int = 1000
    pool: int = 7
    mask_pool: int = 14
    deviation: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    confidence: float = 0.95
    nms: float = 0.3
    detections: int = 100
    pyramid_channels: int = 256
    head_channels: int = 1024
    batch: int = 1

    def __post_init__(self) -> None:
        """Reject values that the network does not implement."""
        if self.backbone not in BLOCKS:
            raise ConfigError(f"BACKBONE = {self.backbone!r}: accepted: {', '.join(BLOCKS)}")
        if self.classes < 2:
            raise ConfigError(f"NUM_CLASSES = {self.classes}: accepted: 2 or more, including the background")
        if self.max_side < MULTIPLE or self.max_side % MULTIPLE:
            raise ConfigError(f"IMAGE_MAX_DIM = {self.max_side}: accepted: a multiple of {MULTIPLE}")
        if not 0 <= self.min_side <= self.max_side:
            raise ConfigError(f"IMAGE_MIN_DIM = {self.min_side}: accepted: 0 to IMAGE_MAX_DIM, {self.max_side}")
        for name, length, values in (
            ("MEAN_PIXEL", 3, self.mean_rgb),
            ("RPN_ANCHOR_SCALES", len(STRIDES), self.anchor_sides),
            ("RPN_BBOX_STD_DEV", 4, self.rpn_deviation),
            ("BBOX_STD_DEV", 4, self.deviation),
        ):
            if len(values) != length:
                raise ConfigError(f"{name} = {values}: accepted: {length} numbers")
        for name, share in (
            ("RPN_NMS_THRESHOLD", self.rpn_nms),
            ("DETECTION_MIN_CONFIDENCE", self.confidence),
            ("DETECTION_NMS_THRESHOLD", self.nms),
        ):
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} = {share}: accepted: 0 to 1")
        for name, count in (
            ("RPN_ANCHOR_RATIOS", len(self.anchor_ratios)),
            ("RPN_ANCHOR_STRIDE", self.anchor_stride),
            ("PRE_NMS_LIMIT", self.candidates),
            ("POST_NMS_ROIS_INFERENCE", self.proposals),
            ("POOL_SIZE", self.pool - 1),
            ("MASK_POOL_SIZE", self.mask_pool - 1),
            ("DETECTION_MAX_INSTANCES", self.detections),
            ("IMAGES_PER_GPU", self.batch),
        ):
            if count < 1:
                raise ConfigError(f"{name}: too small; accepted: 1 or more (2 or more for pool sizes)")


_MATTERPORT_NAMES = {
    "classes": "NUM_CLASSES",
    "backbone": "BACKBONE",
    "min_side": "IMAGE_MIN_DIM",
    "max_side": "IMAGE_MAX_DIM",
    "min_scale": "IMAGE_MIN_SCALE",
    "mean_rgb": "MEAN_PIXEL",
    "anchor_sides": "RPN_ANCHOR_SCALES",
    "anchor_ratios": "RPN_ANCHOR_RATIOS",
    "anchor_stride": "RPN_ANCHOR_STRIDE",
    "rpn_deviation": "RPN_BBOX_STD_DEV",
    "rpn_nms": "RPN_NMS_THRESHOLD",
    "candidates": "PRE_NMS_LIMIT",
    "proposals": "POST_NMS_ROIS_INFERENCE",
    "pool": "POOL_SIZE",
    "mask_pool": "MASK_POOL_SIZE",
    "deviation": "BBOX_STD_DEV",
    "confidence": "DETECTION_MIN_CONFIDENCE",
    "nms": "DETECTION_NMS_THRESHOLD",
    "detections": "DETECTION_MAX_INSTANCES",
    "pyramid_channels": "TOP_DOWN_PYRAMID_SIZE",
    "head_channels": "FPN_CLASSIF_FC_LAYERS_SIZE",
    "batch": "IMAGES_PER_GPU",
}
"""Matterport's name of each setting."""

_OPTIONAL = {"PRE_NMS_LIMIT", "IMAGE_MIN_SCALE"}
"""Names that older versions of ``Config`` lack; our defaults are the constants that their code used instead."""


def read_matterport_config(config: Any) -> NetworkSettings:
    """Convert an ``mrcnn.config.Config``.

    Parameters
    ----------
    config
        An instance, or the class itself. Any object with these attributes is accepted: ``mrcnn`` is never imported.

    Raises
    ------
    ConfigError
        If an attribute is missing, or has a value that the network does not implement.
    """
    if isinstance(config, type):
        config = config()
    values: dict[str, Any] = {}
    for field in fields(NetworkSettings):
        name = _MATTERPORT_NAMES[field.name]
        if hasattr(config, name):
            values[field.name] = _convert_value(name, getattr(config, name), type(field.default))
        elif name not in _OPTIONAL:
            raise ConfigError(
                f"{name}: {type(config).__name__} lacks this attribute; expected an instance of mrcnn.config.Config"
            )
    mode = getattr(config, "IMAGE_RESIZE_MODE", "square")
    if mode != "square":
        raise ConfigError(f"IMAGE_RESIZE_MODE = {mode!r}: accepted: 'square'; other modes are not implemented")
    strides = tuple(getattr(config, "BACKBONE_STRIDES", STRIDES))
    if strides != STRIDES:
        raise ConfigError(f"BACKBONE_STRIDES = {strides}: accepted: {STRIDES}, the strides of ResNet")
    return NetworkSettings(**values)


def _convert_value(name: str, value: Any, kind: type) -> Any:
    """Convert a value to the type of its setting, without loss."""
    try:
        if kind is tuple:
            return tuple(float(v) for v in value)
        if kind is str:
            if not isinstance(value, str):
                raise ValueError
            return value
        if kind(value) != value:
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        accepted = {tuple: "a sequence of numbers", str: "a name", int: "an integer", float: "a number"}[kind]
        raise ConfigError(f"{name} = {value!r}: accepted: {accepted}") from None
