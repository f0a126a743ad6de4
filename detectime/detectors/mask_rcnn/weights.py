"""Read weights from a Matterport ``.h5`` by name and account for every tensor.

The file has the format of Keras 2's ``save_weights``: one group per layer with one dataset per tensor, for example
``/conv1/conv1/kernel:0``. Groups without datasets are layers without weights. ``model.save`` writes the same groups
under ``model_weights``, next to a description of the model that is ignored here because it may contain code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.config import BLOCKS, NetworkSettings
from detectime.storage.downloads import WeightsError

Tensors = dict[str, NDArray[np.float32]]
"""Tensors by layer and weight, ``conv1/kernel``, in the layout of Keras: kernels are (height, width, in, out)."""

Shapes = dict[str, tuple[int, ...]]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAX_DEPTH = 8  # of nested groups; Keras writes three
_MAX_PROBLEMS = 20  # listed in one message
_EXPECTED = "expected the .h5 file that Keras 2's save_weights writes"
_STORED_INSIDE = "weights must be stored in the file itself, as Keras writes them"


def list_tensor_shapes(settings: NetworkSettings) -> Shapes:
    """List the path of each dataset in the file, and its shape.

    Examples
    --------
    >>> list_tensor_shapes(NetworkSettings())["conv1/conv1/kernel:0"]
    (7, 7, 3, 64)
    """
    shapes: Shapes = {}

    def add_layer(group: str, name: str, **tensors: tuple[int, ...]) -> None:
        shapes.update({f"{group}/{name}/{tensor}:0": shape for tensor, shape in tensors.items()})

    def add_convolution(name: str, side: int, before: int, after: int, group: str = "") -> None:
        add_layer(group or name, name, kernel=(side, side, before, after), bias=(after,))

    def add_norm(name: str, channels: int) -> None:
        add_layer(name, name, **dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (channels,)))

    add_convolution("conv1", 7, 3, 64)
    add_norm("bn_conv1", 64)
    before = 64
    for stage, block in list_blocks(settings.backbone):
        inner = 32 * 2 ** (stage - 1)
        for branch, side, i, o in (
            ("2a", 1, before, inner),
            ("2b", 3, inner, inner),
            ("2c", 1, inner, 4 * inner),
            *([("1", 1, before, 4 * inner)] if block == "a" else []),
        ):
            add_convolution(f"res{stage}{block}_branch{branch}", side, i, o)
            add_norm(f"bn{stage}{block}_branch{branch}", o)
        before = 4 * inner

    top, wide, classes = settings.pyramid_channels, settings.head_channels, settings.classes
    for level in (2, 3, 4, 5):
        add_convolution(f"fpn_c{level}p{level}", 1, 64 * 2**level, top)
        add_convolution(f"fpn_p{level}", 3, top, top)
    ratios = len(settings.anchor_ratios)
    add_convolution("rpn_conv_shared", 3, top, 512, "rpn_model")
    add_convolution("rpn_class_raw", 1, 512, 2 * ratios, "rpn_model")
    add_convolution("rpn_bbox_pred", 1, 512, 4 * ratios, "rpn_model")

    add_convolution("mrcnn_class_conv1", settings.pool, top, wide)
    add_norm("mrcnn_class_bn1", wide)
    add_convolution("mrcnn_class_conv2", 1, wide, wide)
    add_norm("mrcnn_class_bn2", wide)
    add_layer("mrcnn_class_logits", "mrcnn_class_logits", kernel=(wide, classes), bias=(classes,))
    add_layer("mrcnn_bbox_fc", "mrcnn_bbox_fc", kernel=(wide, 4 * classes), bias=(4 * classes,))
    for n in (1, 2, 3, 4):
        add_convolution(f"mrcnn_mask_conv{n}", 3, top if n == 1 else 256, 256)
        add_norm(f"mrcnn_mask_bn{n}", 256)
    add_convolution("mrcnn_mask_deconv", 2, 256, 256)  # a transposed convolution: (height, width, out, in)
    add_convolution("mrcnn_mask", 1, 256, classes)
    return shapes


def list_blocks(backbone: str) -> list[tuple[int, str]]:
    """List the residual blocks of a backbone in order: stage and letter.

    Examples
    --------
    >>> list_blocks("resnet50")[:4]
    [(2, 'a'), (2, 'b'), (2, 'c'), (3, 'a')]
    """
    sizes = {2: 3, 3: 4, 4: BLOCKS[backbone], 5: 3}
    return [(stage, chr(ord("a") + n)) for stage, size in sizes.items() for n in range(size)]


def read_weights(path: str | os.PathLike[str], settings: NetworkSettings) -> Tensors:
    """Read the tensors of a network.

    No code in the file is executed and no other file is opened: links and references are rejected.

    Parameters
    ----------
    path
        The file.
    settings
        Settings of the network; the file must match its backbone and its number of classes.

    Returns
    -------
    dict
        All tensors, including those of the mask head.

    Raises
    ------
    WeightsError
        If the file is missing, has another format, or does not hold exactly the tensors of the network; the message
        lists missing and unexpected tensors and wrong shapes.
    """
    import h5py

    file = Path(path)
    _check_format(file)
    try:
        with h5py.File(file, "r") as f:
            return _read_tensors(file, f, settings)
    except OSError as error:  # raised by h5py for truncated and for damaged files
        raise WeightsError(f"{file}: this HDF5 file is unreadable and may be truncated: {error}") from error
    except (RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{file}: this HDF5 file is damaged: {error}") from error


def _check_format(file: Path) -> None:
    """Reject other formats by their first bytes."""
    if file.is_dir():
        kind = "a SavedModel folder" if (file / "saved_model.pb").exists() else "a folder"
        raise WeightsError(f"{file}: this is {kind}; {_EXPECTED}")
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_HDF5))
    except FileNotFoundError:
        raise WeightsError(f"{file}: the weights of mask_rcnn are missing; copy the file there") from None
    except OSError as error:
        raise WeightsError(f"{file}: the weights are unreadable: {error.strerror}") from error
    if start.startswith(b"PK"):
        raise WeightsError(f"{file}: this is a zip archive, written by Keras 3 (.keras) or torch; {_EXPECTED}")
    if start != _HDF5:
        raise WeightsError(f"{file}: this is not an HDF5 file: it starts with {start!r}")


def _read_tensors(file: Path, root: Any, settings: NetworkSettings) -> Tensors:
    if "layers" in root or "_layer_checkpoint_dependencies" in root:
        raise WeightsError(f"{file}: this is Keras 3's .weights.h5, whose tensors have no names; {_EXPECTED}")
    if "model_weights" in root:
        root = _get_member(file, root, "model_weights", "")
    datasets = dict(_iterate_datasets(file, root, ""))
    _refuse_attention(file, datasets)
    _check_network(file, {name: tuple(data.shape) for name, data in datasets.items()}, settings)
    expected = list_tensor_shapes(settings)
    problems = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in datasets]
    problems += [f"unexpected: {name} {tuple(data.shape)}" for name, data in datasets.items() if name not in expected]
    tensors: Tensors = {}
    for name, shape in expected.items():
        if name not in datasets:
            continue
        data = datasets[name]
        if tuple(data.shape) != shape:
            problems.append(f"wrong shape: {name} is {tuple(data.shape)}, expected {shape}")
        elif data.dtype.kind != "f":
            problems.append(f"wrong dtype: {name} is {data.dtype}, expected float32")
        elif not np.isfinite(tensor := np.asarray(data[()], dtype=np.float32)).all():
            problems.append(f"not finite: {name}")
        else:
            tensors["/".join(name.split("/")[1:]).removesuffix(":0")] = tensor
    if problems:
        more = [f"and {len(problems) - _MAX_PROBLEMS} more"] if len(problems) > _MAX_PROBLEMS else []
        raise WeightsError(
            f"{file}: the tensors do not match {settings.backbone} with {settings.classes} classes: "
            + "; ".join(problems[:_MAX_PROBLEMS] + more)
        )
    return tensors


def _get_member(file: Path, group: Any, name: str, parent: str) -> Any:
    """Return a member of a group if it is stored in the file itself."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise WeightsError(f"{file}: {parent}{name} is a link; {_STORED_INSIDE}")
    return group[name]


def _iterate_datasets(file: Path, group: Any, parent: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the dataset of all datasets below a group."""
    import h5py

    if parent.count("/") > _MAX_DEPTH:
        raise WeightsError(f"{file}: {parent} is nested deeper than Keras nests weights")
    for name in group:
        member = _get_member(file, group, name, parent)
        if isinstance(member, h5py.Group):
            yield from _iterate_datasets(file, member, f"{parent}{name}/")
        elif not isinstance(member, h5py.Dataset) or member.shape is None:
            raise WeightsError(f"{file}: {parent}{name} is not a tensor")
        elif member.is_virtual or member.external or member.dtype.hasobject:
            raise WeightsError(f"{file}: {parent}{name} refers to data outside it; {_STORED_INSIDE}")
        else:
            yield parent + name, member


def _refuse_attention(file: Path, names: Iterable[str]) -> None:
    """Reject weights of Hand-CNN.

    The 2021 code contained its attention blocks with their initial values, which have no effect. Trained blocks would
    have one, and this network does not implement them.
    """
    groups = sorted({name.split("/")[0] for name in names if "attention" in name or "orientation" in name})
    if groups:
        raise WeightsError(
            f"{file}: these are weights of Hand-CNN, a network with contextual attention and an orientation head "
            f"({', '.join(groups)}); this detector is the plain Mask R-CNN, whose boxes would differ"
        )


def _check_network(file: Path, shapes: Shapes, settings: NetworkSettings) -> None:
    """Name the setting that contradicts the file, if the file clearly holds another network."""
    stage4 = sum(name.startswith("res4") and name.endswith("_branch2a/kernel:0") for name in shapes)
    for backbone, size in BLOCKS.items():
        if stage4 == size and backbone != settings.backbone:
            raise WeightsError(
                f"{file}: the file holds {backbone}, but the configuration has BACKBONE = {settings.backbone!r}"
            )
    counts = {
        shapes.get(f"{name}/{name}/bias:0", (0,))[0] // values_per_class
        for name, values_per_class in (("mrcnn_class_logits", 1), ("mrcnn_bbox_fc", 4), ("mrcnn_mask", 1))
    }
    if len(counts) == 1 and (count := counts.pop()) not in (0, settings.classes):
        raise WeightsError(
            f"{file}: the file holds {count} classes, but the configuration has NUM_CLASSES = {settings.classes}"
        )
