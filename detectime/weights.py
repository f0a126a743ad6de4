"""Where weights come from: for the built-in detectors, the package itself."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

PACKAGED = Path(__file__).parent / "detectors" / "models"


class WeightsError(RuntimeError):
    """Weights that are not there; the message names the file and where it belongs."""


def packaged(name: str) -> Path:
    """Path of weights that the package brings.

    Raises
    ------
    WeightsError
        If the installation lacks the file.
    """
    path = PACKAGED / name
    if not path.is_file():
        raise WeightsError(f"{path}: these weights come with the package, but are not there; install it anew")
    return path


@functools.cache
def sha256(path: Path) -> str:
    """Hash of a file's content, in hexadecimal: what tells one set of weights from another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
