"""Where the package's own files lie, and the folder of the user's project.

A wheel has the configuration, the notebooks and the sample in ``detectime/templates``; a clone has them in its root.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
TEMPLATES = _PACKAGE / "templates"
"""What only `detectime init` uses; in a wheel also the files below."""

IS_CLONE = not (TEMPLATES / "config.yml").is_file()
"""Whether the package is imported from a clone."""

DELIVERED = _PACKAGE.parent if IS_CLONE else TEMPLATES
"""The folder of the configuration, the notebooks, ``definitions.py`` and the sample."""
CONFIG = DELIVERED / "config.yml"
"""The configuration as delivered."""
NOTEBOOKS = DELIVERED / "notebooks"
"""The notebooks as delivered."""
DATA_LOADER = "01_get_train_data.ipynb"
"""The name of the notebook that makes a training set."""
EXPORTER = "02_export_and_split.ipynb"
"""The name of the notebook that splits and exports one."""
REVIEWER = "03_review.ipynb"
"""The name of the notebook in which a person judges one."""
TRAINER = "04_train_classifier.ipynb"
"""The name of the notebook that trains a classifier on one."""
SAMPLE = DELIVERED / "data" / "sample"
"""The rendered sample: ``TRAIN_DATA`` and ``train.csv``."""


def find_project() -> Path | None:
    """Return the project that the current folder belongs to: a clone, or what ``detectime init`` laid out.

    A project has a ``config.yml`` and a folder ``notebooks``. JupyterLab starts kernels in the latter, so the project
    is the current folder, or its parent if the current folder is called ``notebooks``. None: there is no project.

    Examples
    --------
    >>> import contextlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    ...     print(find_project())
    None
    """
    try:
        folder = find_base()
    except OSError:  # the current folder is gone; absolute paths do not need it
        return None
    return folder if (folder / "config.yml").is_file() and (folder / "notebooks").is_dir() else None


def find_base() -> Path:
    """Return the folder that relative paths are relative to: the current one, or its parent if that is a project.

    Examples
    --------
    >>> find_base() == Path.cwd()
    True
    """
    current = Path.cwd()
    is_in_project = current.name == "notebooks" and (current.parent / "config.yml").is_file()
    return current.parent if is_in_project else current


def find_output(output: str) -> str:
    """Return the folder of a run where ``detectime run`` would write it: in `notebooks` of a project, beside that.

    Examples
    --------
    >>> find_output("s3://bucket/run")
    's3://bucket/run'
    """
    beside = os.path.join(find_base(), output)
    return beside if not os.path.exists(output) and os.path.exists(beside) else output


def find_config() -> Path:
    """Return the configuration that applies if none is named: that of the project, or the one delivered.

    Examples
    --------
    >>> find_config().name
    'config.yml'
    """
    project = find_project()
    return CONFIG if project is None else project / "config.yml"


def find_model_folder() -> Path:
    """Return the folder for weights that are not part of the package.

    It is ``model`` in the project, or in the clone; otherwise a folder in the user's cache.

    Examples
    --------
    >>> find_model_folder().name
    'model'
    """
    project = find_project() or (DELIVERED if IS_CLONE else None)
    if project is None:
        import pooch  # takes a while

        return Path(pooch.os_cache("detectime"))
    return project / "model"


def format_install(extra: str) -> str:
    """Return the command that installs an extra.

    Examples
    --------
    >>> "[video]" in format_install("video")
    True
    """
    return f"pip install -c constraints.txt -e '.[{extra}]'" if IS_CLONE else f"pip install 'detectime[{extra}]'"
