"""Reading weights: every tensor is accounted for, and nothing but tensors is read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skips import need_extra

from detectime.detectors.mask_rcnn import weights
from detectime.detectors.mask_rcnn.config import NetworkSettings
from detectime.storage.downloads import WeightsError

h5py = need_extra("h5py")

pytestmark = [pytest.mark.extra, pytest.mark.slow]

SETTINGS = NetworkSettings(backbone="resnet50")
Edit = Callable[[Any], None]


@pytest.fixture
def edited(h5: Callable[[str], Path], tmp_path: Path) -> Callable[[Edit], Path]:
    """Apply an edit to a copy of a valid file."""
    valid = h5("resnet50")

    def make(edit: Edit) -> Path:
        path = tmp_path / "edited.h5"
        path.write_bytes(valid.read_bytes())
        with h5py.File(path, "a") as f:
            edit(f)
        return path

    return make


def read_error(path: Path, settings: NetworkSettings = SETTINGS) -> str:
    with pytest.raises(WeightsError) as caught:
        weights.read_weights(path, settings)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_tensor_shapes_equal_those_of_the_original(tool: dict[str, Any]) -> None:
    for backbone, classes in (("resnet50", 2), ("resnet101", 2), ("resnet101", 81)):
        theirs = {f"{g}/{w}": shape for g, ws in tool["table"](backbone, classes).items() for w, shape in ws}
        assert weights.list_tensor_shapes(NetworkSettings(backbone=backbone, classes=classes)) == theirs
    assert len(weights.list_tensor_shapes(NetworkSettings())) == 690


def test_every_tensor_is_read(h5: Callable[[str], Path], tool: dict[str, Any]) -> None:
    tensors = weights.read_weights(h5("resnet50"), SETTINGS)
    theirs = {w.removesuffix(":0"): a for ws in tool["generate"]("resnet50", 2, 0).values() for w, a in ws}
    assert tensors.keys() == theirs.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, theirs[name])


def test_a_saved_model_has_its_weights_in_a_group(edited: Callable[[Edit], Path]) -> None:
    def wrap(f: Any) -> None:
        group = f.create_group("model_weights")
        for name in [name for name in f if name != "model_weights"]:
            f.move(name, f"model_weights/{name}")
        group.create_group("input_image")  # a layer without weights
        f.create_group("optimizer_weights").create_dataset("iterations", data=1)
        f.attrs["model_config"] = "{}"

    assert len(weights.read_weights(edited(wrap), SETTINGS)) == 384


def delete(name: str) -> Edit:
    def edit(f: Any) -> None:
        del f[name]

    return edit


def replace(name: str, change: Callable[[np.ndarray], Any]) -> Edit:
    def edit(f: Any) -> None:
        values = f[name][()]
        del f[name]
        f.create_dataset(name, data=change(values))

    return edit


def link(name: str, other: Any) -> Edit:
    def edit(f: Any) -> None:
        del f[name]
        f[name] = other

    return edit


def rename(f: Any) -> None:
    f.move("conv1/conv1/kernel:0", "conv1/conv1/weight:0")


def refer(f: Any) -> None:
    del f["conv1/conv1/bias:0"]
    f.create_dataset("conv1/conv1/bias:0", data=np.array([f["conv1"].ref] * 64, dtype=h5py.ref_dtype))


def empty(f: Any) -> None:
    """Put a dataset without a shape in the place of a tensor."""
    del f[BIAS]
    f[BIAS] = h5py.Empty("f4")


def nest(f: Any) -> None:
    f["conv1/conv1/again"] = f["conv1"]


def store_externally(f: Any) -> None:
    del f["conv1/conv1/bias:0"]
    f["conv1/conv1"].create_dataset("bias:0", (64,), "f4", external=[("elsewhere.bin", 0, 256)])


def attend(f: Any) -> None:
    f.create_dataset("contextual__attention_1/bn_y/gamma:0", data=np.zeros(4, "f4"))


KERNEL, BIAS = "rpn_model/rpn_conv_shared/kernel:0", "conv1/conv1/bias:0"


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        pytest.param(delete(BIAS), [f"missing: {BIAS} (64,)"], id="missing"),
        pytest.param(delete("mrcnn_mask"), ["missing: mrcnn_mask/mrcnn_mask/kernel:0"], id="mask head"),
        pytest.param(
            rename, ["missing: conv1/conv1/kernel:0", "unexpected: conv1/conv1/weight:0 (7, 7, 3, 64)"], id="renamed"
        ),
        pytest.param(
            replace(KERNEL, lambda a: a.transpose(0, 1, 3, 2)),
            [f"wrong shape: {KERNEL} is (3, 3, 512, 256), expected (3, 3, 256, 512)"],
            id="transposed",
        ),
        pytest.param(
            replace("mrcnn_class_logits/mrcnn_class_logits/kernel:0", np.transpose),
            ["is (2, 1024), expected (1024, 2)"],
            id="dense layer transposed",
        ),
        pytest.param(replace(BIAS, lambda a: a.astype(int)), ["wrong dtype", "int64"], id="integers"),
        pytest.param(replace(BIAS, lambda a: a * np.nan), [f"not finite: {BIAS}"], id="not a number"),
        pytest.param(refer, ["refers to data outside"], id="references"),
        pytest.param(store_externally, ["refers to data outside"], id="data in another file"),
        pytest.param(link(BIAS, h5py.ExternalLink("other.h5", "/x")), ["is a link"], id="external link"),
        pytest.param(link(BIAS, h5py.SoftLink("/conv1")), ["is a link"], id="soft link"),
        pytest.param(link("conv1", h5py.SoftLink("/nowhere")), ["conv1 is a link"], id="dangling link"),
        pytest.param(nest, ["deeper"], id="group in itself"),
        pytest.param(empty, [f"{BIAS} is not a tensor"], id="no values"),
        pytest.param(attend, ["Hand-CNN", "contextual__attention_1", "plain Mask R-CNN"], id="attention"),
    ],
)
def test_an_almost_valid_file_is_rejected(edited: Callable[[Edit], Path], edit: Edit, parts: list[str]) -> None:
    message = read_error(edited(edit))
    for part in parts:
        assert part in message


def test_problems_are_listed_up_to_a_limit(edited: Callable[[Edit], Path]) -> None:
    def edit(f: Any) -> None:
        delete("bn_conv1/bn_conv1/gamma:0")(f)
        rename(f)
        f.create_dataset("anchors/Variable:0", data=np.zeros(4, "f4"))

    message = read_error(edited(edit))
    assert message.count("missing:") == 2
    assert message.count("unexpected:") == 2

    def half(f: Any) -> None:
        for group in [group for group in f if group.startswith("res3")]:
            del f[group]

    assert "and " in read_error(edited(half))


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (
            NetworkSettings(backbone="resnet101"),
            "the file holds resnet50, but the configuration has BACKBONE = 'resnet101'",
        ),
        (
            NetworkSettings(backbone="resnet50", classes=81),
            "the file holds 2 classes, but the configuration has NUM_CLASSES",
        ),
    ],
)
def test_a_configuration_that_contradicts_the_file_is_rejected(
    h5: Callable[[str], Path], settings: NetworkSettings, part: str
) -> None:
    assert part in read_error(h5("resnet50"), settings)


def test_other_files_are_rejected(h5: Callable[[str], Path], tmp_path: Path) -> None:
    assert "are missing" in read_error(tmp_path / "none.h5")
    (tmp_path / "saved").mkdir()
    assert "folder" in read_error(tmp_path / "saved")
    (tmp_path / "saved" / "saved_model.pb").touch()
    assert "SavedModel" in read_error(tmp_path / "saved")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    assert "Keras 3 (.keras)" in read_error(tmp_path / "model.keras")
    (tmp_path / "page.h5").write_bytes(b"<!DOCTYPE html>")
    assert "not an HDF5 file: it starts with b'<!DOCTYP'" in read_error(tmp_path / "page.h5")
    (tmp_path / "empty.h5").touch()
    assert "not an HDF5 file" in read_error(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "keras3.weights.h5", "w") as f:
        f.create_group("layers")
    assert "Keras 3's .weights.h5" in read_error(tmp_path / "keras3.weights.h5")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f.create_dataset("data", data=np.zeros(3))
    assert "missing: conv1/conv1/kernel:0" in read_error(tmp_path / "other.h5")


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.999])
def test_a_truncated_file_is_rejected(h5: Callable[[str], Path], tmp_path: Path, share: float) -> None:
    content = h5("resnet50").read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(content[: int(share * len(content))])
    assert "may be truncated" in read_error(path)
