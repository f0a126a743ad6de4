"""Annotations of any format as truth."""

from __future__ import annotations

import os
from typing import NamedTuple

from detectime.labels import formats
from detectime.labels.annotations import Annotations
from detectime.labels.formats import FORMATS
from detectime.labels.tables import TableError
from detectime.settings import suggest_name
from detectime.storage import urls
from detectime.truth.contract import TruthError

__all__ = ["FORMATS", "Found", "check_format", "read_annotations", "recognise_format"]

_REMEDY = f"pass truth_format: {', '.join(FORMATS)}"


class Found(NamedTuple):
    """Annotations, and where they are from."""

    annotations: Annotations
    origin: str
    """For people."""
    is_export: bool
    """Whether they lie in an export of detectime."""


def read_annotations(path: str, truth_format: str | None = None) -> Found:
    """Read annotations of any format.

    Parameters
    ----------
    path
        A file, local or at a URL, or a local folder.
    truth_format
        One of `FORMATS`; None: as recognised.

    Raises
    ------
    TruthError
        If there is nothing, or it is in no known format, or boxes are in another unit than those of the format.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> read_annotations(str(SAMPLE / "truth.json")).origin
    'plain JSON, sample/truth.json'
    """
    local = urls.strip_file_scheme(path)
    check_format(truth_format)
    try:
        if not urls.is_remote(local) and not os.path.exists(local):
            raise TruthError(f"{path}: there is no such file or folder; give the path of the annotations")
        name = truth_format or recognise_format(local)
        is_export = formats.find_export(local) is not None
        annotations = formats.read_format(local, name)
    except (TableError, OSError) as error:
        raise TruthError(str(error)) from error
    return Found(annotations, f"{FORMATS[name].title}, {_shorten_path(path)}", is_export)


def recognise_format(path: str) -> str:
    """Return the format of a file, or of the first file in a folder that is in one.

    Raises
    ------
    TruthError
        If it is in none.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> recognise_format(str(SAMPLE / "truth.json"))
    'truth.json'
    """
    found = formats.recognise_format(path)
    if found is None:
        what = "the format of this file is not recognised"
        if os.path.isdir(path):
            what = "no annotations were recognised in this folder"
        if reason := formats.explain_unread(path):
            raise TruthError(f"{path}: {reason}")
        raise TruthError(f"{path}: {what}; {_REMEDY}")
    return found


def check_format(truth_format: str | None) -> None:
    """Refuse a name that is not one of `FORMATS`; None is accepted.

    Raises
    ------
    TruthError
        If it is another name.

    Examples
    --------
    >>> check_format("coco")
    """
    if truth_format is not None and truth_format not in FORMATS:
        raise TruthError(f"truth_format = {truth_format!r}: {suggest_name(truth_format, FORMATS)}")


def _shorten_path(path: str) -> str:
    return "/".join(path.replace(os.sep, "/").rstrip("/").split("/")[-2:])
