"""Writes a trained classifier as a model file: see `model_file`."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import detectime
from detectime.classifier.model_file import METADATA_KEY, OUTPUT, VERSION, ModelFileError, read_model_file
from detectime.classifier.training import TrainedClassifier
from detectime.schema import LANDMARKS
from detectime.storage.store import open_store

FILE_NAME = "model.onnx"
"""Name of the model file in the folder of a classifier."""

_OPSET = 18
_NEAR = 1e-3  # between the probabilities of torch and of onnxruntime


class _Recognizer(nn.Module):  # type: ignore[misc, unused-ignore]
    """A network with what comes before and after it: channels last, and probabilities."""

    def __init__(self, network: nn.Module, is_crops: bool) -> None:
        super().__init__()
        self._network, self._is_crops = network, is_crops

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self._network(inputs.permute(0, 3, 1, 2) if self._is_crops else inputs), 1)


def export_classifier(trained: TrainedClassifier, folder: str | os.PathLike[str]) -> Path:
    """Write ``model.onnx``: the network with its preprocessing, vocabulary, and how it was made; checked, then renamed.

    Parameters
    ----------
    trained
        The classifier.
    folder
        Where to; made if it is not there. An earlier ``model.onnx`` is replaced.

    Raises
    ------
    ModelFileError
        If onnxruntime computes other probabilities than torch.
    StoreError
        If the folder cannot be written to.

    Examples
    --------
    >>> export_classifier(trained, "output/classifier")  # doctest: +SKIP
    PosixPath('output/classifier/model.onnx')
    """
    name = "landmarks" if trained.settings.side is None else "crops"
    module = _Recognizer(trained.network, name == "crops").eval()
    inputs = _make_inputs(trained.settings.side)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / FILE_NAME
        _write_graph(module, inputs, name, file, _describe(trained, name))
        _compare(module, inputs, name, file)
        open_store(os.fspath(folder)).put(FILE_NAME, file.read_bytes())
    return Path(folder) / FILE_NAME


def _make_inputs(side: int | None) -> torch.Tensor:
    """Return two random inputs: with one, the exporter would take the number of samples for fixed."""
    random = np.random.default_rng(0)
    if side is None:
        return torch.from_numpy(100 * random.random((2, LANDMARKS, 3), np.float32))
    return torch.from_numpy(random.integers(0, 256, (2, side, side, 3), np.uint8))


def _describe(trained: TrainedClassifier, name: str) -> dict[str, Any]:
    found = trained.training_set
    settings = dataclasses.asdict(trained.settings)
    del settings["weights"]  # a path on this machine; `origin` names them
    return {
        "version": VERSION,
        "model": trained.settings.model,
        "input": name,
        "side": trained.settings.side,
        "box": "context" if name == "crops" else None,
        "classes": list(found.classes),
        "numbers": list(found.numbers),
        "trained_on": {"samples": len(found.train), "groups": len(set(found.groups[found.train]))},
        "settings": settings,
        "epoch": trained.epoch,
        "origin": trained.origin,
        "detectime": detectime.__version__,
    }


def _write_graph(module: nn.Module, inputs: torch.Tensor, name: str, file: Path, metadata: dict[str, Any]) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of registries that nobody asked about
    program = torch.onnx.export(
        module,
        (inputs,),
        input_names=[name],
        output_names=[OUTPUT],
        opset_version=_OPSET,
        dynamic_shapes=({0: torch.export.Dim("samples", min=1)},),
        verbose=False,
    )
    assert program is not None  # only the older exporter returns nothing
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where this code lies: another installation would write other bytes
    program.model.metadata_props[METADATA_KEY] = json.dumps(metadata)
    program.save(file)


def _compare(module: nn.Module, inputs: torch.Tensor, name: str, file: Path) -> None:
    """Refuse a file that does not compute what the network does, for one sample and for two."""
    session = read_model_file(file).session
    for count in (1, 2):
        with torch.inference_mode():
            expected = module(inputs[:count]).numpy()
        (found,) = session.run([OUTPUT], {name: inputs[:count].numpy()})
        if np.abs(found - expected).max() > _NEAR:
            raise ModelFileError(
                f"the exported model has other probabilities than torch (by {np.abs(found - expected).max():.2g}); "
                "this is a fault of the export: report it, with the versions of torch and onnxruntime"
            )
