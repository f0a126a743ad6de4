"""The model file: an ONNX graph with its preprocessing, and metadata that say what it takes and what it returns.

A model of crops has the input ``crops``, uint8, shape (N, side, side, 3), RGB, from `crops.fit_square`; a model of
landmarks the input ``landmarks``, float32, shape (N, 21, 3), in pixels of the upright frame, z 0 at the wrist. The
output ``probabilities``, float32, shape (N, classes), adds up to one per row. The metadata are JSON under the key
``detectime``: see `ModelMetadata`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from detectime.config import list_faults
from detectime.detectors import onnx
from detectime.errors import ConfigError, DocumentedError

METADATA_KEY = "detectime"
"""Key of the metadata in the ONNX file."""

OUTPUT = "probabilities"
"""Name of the only output."""

VERSION = 1
"""Of the metadata."""

_REMEDY = "give a model file that notebook 04 exported"


class ModelFileError(DocumentedError, ValueError):
    """A model file that cannot be used; the message names it, and says why and what to do."""


class ModelMetadata(BaseModel, strict=True):
    """What the metadata of a model file hold; other keys may come.

    Attributes
    ----------
    version
        Of the metadata.
    model
        How it was made: ``landmarks``, ``small`` or ``pretrained``.
    input
        Name of the input: what the model looks at.
    side
        Of the square crops in pixels; None for landmarks.
    box
        What is cut out of a frame: ``context``, see `crops.cut_hand`; None for landmarks.
    classes, numbers
        Names of the classes in the order of the output, and their labels.
    detectime
        The version that exported it.
    """

    version: int
    model: str
    input: Literal["crops", "landmarks"]
    side: int | None
    box: Literal["context"] | None
    classes: list[str]
    numbers: list[int]
    detectime: str


@dataclass(frozen=True)
class ModelFile:
    """An exported model, ready to run.

    Attributes
    ----------
    path
        Where it was read from.
    session
        Of onnxruntime, single-threaded.
    classes, numbers
        Names of the classes in the order of the output, and their labels.
    input, side, box, model
        As in `ModelMetadata`.
    """

    path: Path
    session: Any
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    input: Literal["crops", "landmarks"]
    side: int | None
    box: Literal["context"] | None
    model: str


def read_model_file(path: str | os.PathLike[str], device: str = "cpu") -> ModelFile:
    """Open an exported model with onnxruntime; torch is not needed.

    Parameters
    ----------
    path
        The ``.onnx`` file.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ModelFileError
        If there is no such file, it is no ONNX file, detectime did not export it, or a newer detectime did.
    ConfigError
        If ``cuda`` is requested and not available.

    Examples
    --------
    >>> read_model_file("no/such/model.onnx")
    Traceback (most recent call last):
        ...
    detectime.classifier.model_file.ModelFileError: no/such/model.onnx: there is no such file; give a model file that \
notebook 04 exported
    """
    file = Path(path)
    if not file.is_file():
        what = "this is a folder" if file.is_dir() else "there is no such file"
        raise ModelFileError(f"{file}: {what}; {_REMEDY}")
    session = _open_session(file, device)
    metadata = _read_metadata(file, session)
    _check_graph(file, session, metadata)
    return ModelFile(
        path=file,
        session=session,
        classes=tuple(metadata.classes),
        numbers=tuple(metadata.numbers),
        input=metadata.input,
        side=metadata.side,
        box=metadata.box,
        model=metadata.model,
    )


def _open_session(file: Path, device: str) -> Any:
    try:
        return onnx.open_session(file, device)
    except ConfigError:
        raise
    except Exception as error:  # those of onnxruntime have no base of their own
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{file}: onnxruntime cannot open it ({reason}); {_REMEDY}") from error


def _read_metadata(file: Path, session: Any) -> ModelMetadata:
    """Return the metadata of an opened file, checked."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelFileError(f"{file}: detectime did not export this model (it has no metadata of it); {_REMEDY}")
    try:
        version = _Version.model_validate_json(text)
        if version.version > VERSION:
            raise ModelFileError(
                f"{file}: made by a newer detectime ({version.detectime}; version {version.version} of its metadata, "
                f"this one reads up to {VERSION}); install that version"
            )
        return ModelMetadata.model_validate_json(text)
    except ValidationError as error:
        raise ModelFileError(
            f"{file}: its metadata are damaged ({'; '.join(list_faults(error))}); {_REMEDY}"
        ) from error


class _Version(BaseModel, strict=True):
    """What the metadata of every version hold."""

    version: int
    detectime: str


def _check_graph(file: Path, session: Any, metadata: ModelMetadata) -> None:
    """Refuse a graph that is not what its metadata say."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    expected = [metadata.side, metadata.side, 3] if metadata.input == "crops" else [21, 3]
    found = f"the input {[each.name for each in inputs]} and the output {[each.name for each in outputs]}"
    if [each.name for each in inputs] != [metadata.input] or [each.name for each in outputs] != [OUTPUT]:
        reason = f"it has {found}; expected are [{metadata.input!r}] and [{OUTPUT!r}]"
    elif list(inputs[0].shape[1:]) != expected:
        reason = f"its input has the shape {inputs[0].shape}; expected is N, then {expected}"
    elif outputs[0].shape[-1] != len(metadata.classes) or len(metadata.numbers) != len(metadata.classes):
        reason = f"{len(metadata.classes)} classes, {len(metadata.numbers)} numbers, output shape {outputs[0].shape}"
    else:
        return
    raise ModelFileError(f"{file}: its graph and its metadata do not fit together ({reason}); {_REMEDY}")
