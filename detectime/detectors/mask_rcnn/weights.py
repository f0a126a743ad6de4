"""Weights from a Matterport ``.h5``, by name, every tensor accounted for.

The file is what Keras 2's ``save_weights`` writes: a group for each layer, in it a data set for each tensor, for
instance ``/conv1/conv1/kernel:0``. Groups without data sets are layers without weights. ``model.save`` puts all of it
below a group ``model_weights``, beside a description of the model that is not looked at here: it may hold code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.config import BLOCKS, Settings
from detectime.storage.downloads import WeightsError

Tensors = dict[str, NDArray[np.float32]]
"""Tensors by layer and weight, ``conv1/kernel``, in the layout of Keras: kernels are (height, width, in, out)."""

Shapes = dict[str, tuple[int, ...]]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_DEPTH = 8  # of groups in groups; Keras makes three
_LISTED = 20  # faults in one message


def layout(settings: Settings) -> Shapes:
    """Path of each data set in the file and its shape."""
    shapes: Shapes = {}

    def layer(group: str, name: str, **tensors: tuple[int, ...]) -> None:
        shapes.update({f"{group}/{name}/{tensor}:0": shape for tensor, shape in tensors.items()})

    def convolution(name: str, side: int, before: int, after: int, group: str = "") -> None:
        layer(group or name, name, kernel=(side, side, before, after), bias=(after,))

    def norm(name: str, channels: int) -> None:
        layer(name, name, **dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (channels,)))

    convolution("conv1", 7, 3, 64)
    norm("bn_conv1", 64)
    before = 64
    for stage, block in blocks(settings.backbone):
        inner = 32 * 2 ** (stage - 1)
        for branch, side, i, o in (
            ("2a", 1, before, inner),
            ("2b", 3, inner, inner),
            ("2c", 1, inner, 4 * inner),
            *([("1", 1, before, 4 * inner)] if block == "a" else []),
        ):
            convolution(f"res{stage}{block}_branch{branch}", side, i, o)
            norm(f"bn{stage}{block}_branch{branch}", o)
        before = 4 * inner

    top, wide, classes = settings.pyramid_channels, settings.head_channels, settings.classes
    for level in (2, 3, 4, 5):
        convolution(f"fpn_c{level}p{level}", 1, 64 * 2**level, top)
        convolution(f"fpn_p{level}", 3, top, top)
    ratios = len(settings.anchor_ratios)
    convolution("rpn_conv_shared", 3, top, 512, "rpn_model")
    convolution("rpn_class_raw", 1, 512, 2 * ratios, "rpn_model")
    convolution("rpn_bbox_pred", 1, 512, 4 * ratios, "rpn_model")

    convolution("mrcnn_class_conv1", settings.pool, top, wide)
    norm("mrcnn_class_bn1", wide)
    convolution("mrcnn_class_conv2", 1, wide, wide)
    norm("mrcnn_class_bn2", wide)
    layer("mrcnn_class_logits", "mrcnn_class_logits", kernel=(wide, classes), bias=(classes,))
    layer("mrcnn_bbox_fc", "mrcnn_bbox_fc", kernel=(wide, 4 * classes), bias=(4 * classes,))
    for n in (1, 2, 3, 4):
        convolution(f"mrcnn_mask_conv{n}", 3, top if n == 1 else 256, 256)
        norm(f"mrcnn_mask_bn{n}", 256)
    convolution("mrcnn_mask_deconv", 2, 256, 256)  # a transposed convolution: (height, width, out, in)
    convolution("mrcnn_mask", 1, 256, classes)
    return shapes


def blocks(backbone: str) -> list[tuple[int, str]]:
    """Residual blocks of a backbone in order: stage and letter."""
    sizes = {2: 3, 3: 4, 4: BLOCKS[backbone], 5: 3}
    return [(stage, chr(ord("a") + n)) for stage, size in sizes.items() for n in range(size)]


def read(path: str | os.PathLike[str], settings: Settings) -> Tensors:
    """Read the tensors of a network.

    Nothing in the file is executed, and no other file is opened for it: links and references are refused.

    Parameters
    ----------
    path
        The file.
    settings
        The network that the file must hold: its backbone, its classes.

    Returns
    -------
    dict
        All tensors, those of the mask head among them.

    Raises
    ------
    WeightsError
        If the file is not there or is of another kind, or its tensors are not exactly those of the network; the
        message lists what is missing, what is surplus and what has another shape.
    """
    import h5py

    file = Path(path)
    _check_kind(file)
    try:
        with h5py.File(file, "r") as f:
            return _read(file, f, settings)
    except OSError as error:  # h5py's word for a file that ends early, and for one that is damaged
        raise WeightsError(f"{file}: this HDF5 file cannot be read, it may have been cut short: {error}") from error
    except (RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{file}: this HDF5 file is damaged: {error}") from error


def _check_kind(file: Path) -> None:
    """Tell a file of another kind by its first bytes."""
    if file.is_dir():
        kind = "a SavedModel folder" if (file / "saved_model.pb").exists() else "a folder"
        raise WeightsError(f"{file}: this is {kind}; needed is the .h5 file that Keras 2's save_weights writes")
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_HDF5))
    except FileNotFoundError:
        raise WeightsError(f"{file}: the weights of mask_rcnn are not there; put them there yourself") from None
    except OSError as error:
        raise WeightsError(f"{file}: the weights cannot be read: {error.strerror}") from error
    if start.startswith(b"PK"):
        raise WeightsError(
            f"{file}: this is a zip archive, as Keras 3 (.keras) and torch write them; needed is the .h5 file that "
            "Keras 2's save_weights writes"
        )
    if start != _HDF5:
        raise WeightsError(f"{file}: this is no HDF5 file: it begins with {start!r}")


def _read(file: Path, root: Any, settings: Settings) -> Tensors:
    if "layers" in root or "_layer_checkpoint_dependencies" in root:
        raise WeightsError(
            f"{file}: this is Keras 3's .weights.h5, whose tensors have no names; needed is the .h5 file that "
            "Keras 2's save_weights writes"
        )
    if "model_weights" in root:
        root = _member(file, root, "model_weights", "")
    found = dict(_datasets(file, root, ""))
    _refuse_attention(file, found)
    _compare_networks(file, {name: tuple(data.shape) for name, data in found.items()}, settings)
    expected = layout(settings)
    faults = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in found]
    faults += [f"surplus: {name} {tuple(data.shape)}" for name, data in found.items() if name not in expected]
    tensors: Tensors = {}
    for name, shape in expected.items():
        if name not in found:
            continue
        data = found[name]
        if tuple(data.shape) != shape:
            faults.append(f"misshapen: {name} is {tuple(data.shape)}, needed is {shape}")
        elif data.dtype.kind != "f":
            faults.append(f"of the wrong type: {name} is {data.dtype}, needed is float32")
        elif not np.isfinite(tensor := np.asarray(data[()], dtype=np.float32)).all():
            faults.append(f"not finite: {name}")
        else:
            tensors["/".join(name.split("/")[1:]).removesuffix(":0")] = tensor
    if faults:
        more = [f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
        raise WeightsError(
            f"{file}: the tensors are not those of {settings.backbone} with {settings.classes} classes: "
            + "; ".join(faults[:_LISTED] + more)
        )
    return tensors


def _member(file: Path, group: Any, name: str, above: str) -> Any:
    """Member of a group, if it lies in the file itself."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise WeightsError(
            f"{file}: {above}{name} is a link; weights must lie in the file itself, as Keras writes them"
        )
    return group[name]


def _datasets(file: Path, group: Any, above: str) -> Iterator[tuple[str, Any]]:
    """All data sets below a group, by path."""
    import h5py

    if above.count("/") > _DEPTH:
        raise WeightsError(f"{file}: {above} lies deeper than Keras puts weights")
    for name in group:
        member = _member(file, group, name, above)
        if isinstance(member, h5py.Group):
            yield from _datasets(file, member, f"{above}{name}/")
        elif not isinstance(member, h5py.Dataset):
            raise WeightsError(f"{file}: {above}{name} is no tensor")
        elif member.is_virtual or member.external or member.dtype.hasobject:
            raise WeightsError(
                f"{file}: {above}{name} refers to something outside it; weights must lie in the file itself"
            )
        else:
            yield above + name, member


def _refuse_attention(file: Path, found: dict[str, Any]) -> None:
    """Refuse Hand-CNN's weights.

    The code of 2021 had its attention blocks, left at their initial values, at which they change nothing. Trained ones
    would, and this network has none.
    """
    names = sorted({name.split("/")[0] for name in found if "attention" in name or "orientation" in name})
    if names:
        raise WeightsError(
            f"{file}: these are weights of Hand-CNN, a network with contextual attention and an orientation head "
            f"({', '.join(names)}); this is the plain Mask R-CNN, which would find other boxes with them"
        )


def _compare_networks(file: Path, found: Shapes, settings: Settings) -> None:
    """Name the setting that contradicts the file, where the file clearly is another network."""
    stage4 = sum(name.startswith("res4") and name.endswith("_branch2a/kernel:0") for name in found)
    for backbone, size in BLOCKS.items():
        if stage4 == size and backbone != settings.backbone:
            raise WeightsError(
                f"{file}: the file holds {backbone}, but the configuration says BACKBONE = {settings.backbone!r}"
            )
    counts = {
        found.get(f"{name}/{name}/bias:0", (0,))[0] // each
        for name, each in (("mrcnn_class_logits", 1), ("mrcnn_bbox_fc", 4), ("mrcnn_mask", 1))
    }
    if len(counts) == 1 and (count := counts.pop()) not in (0, settings.classes):
        raise WeightsError(
            f"{file}: the file holds {count} classes, but the configuration says NUM_CLASSES = {settings.classes}"
        )
