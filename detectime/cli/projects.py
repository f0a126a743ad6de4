"""Projects: folders with the notebooks, the configuration and the folders of 2021, ready for JupyterLab."""

from __future__ import annotations

import os
from pathlib import Path

from detectime import paths
from detectime.errors import DocumentedError
from detectime.storage.store import StoreError, open_store


class ProjectError(DocumentedError):
    """A folder that cannot become a project; the message says why and what to do."""


def init_project(folder: str | os.PathLike[str]) -> list[Path]:
    """Lay out a project: ``notebooks/``, ``config.yml``, ``definitions.py`` and ``README.md``.

    Parameters
    ----------
    folder
        Created if it does not exist. Files of other names in it stay as they are.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    ProjectError
        If `folder` is not a folder, has one of these files, or cannot be created or written to; nothing is written.
    StoreError
        If the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.relative_to(folder).as_posix() for path in init_project(folder)]
    ['README.md', 'config.yml', 'definitions.py', 'notebooks/01_get_train_data.ipynb', \
'notebooks/02_export_and_split.ipynb', 'notebooks/03_review.ipynb', 'notebooks/04_train_classifier.ipynb']
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ProjectError(f"{target}: this is a file; give a folder, which may exist or not")
    files = _list_templates()
    existing = sorted(name for name in files if os.path.lexists(target / name))
    if existing:
        raise ProjectError(
            f"{target}: {', '.join(existing)} {'exists' if len(existing) == 1 else 'exist'} already, and nothing was "
            "written; give another folder"
        )
    try:
        store = open_store(target)
    except StoreError as error:
        raise ProjectError(f"{str(error).replace('the output folder', 'it')}; give another folder") from error
    for name, template in files.items():
        store.put(name, template.read_bytes())
    return [target / name for name in files]


def _list_templates() -> dict[str, Path]:
    """Return the template of each file of a project, by its name there."""
    notebooks = {f"notebooks/{path.name}": path for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))}
    return {
        "README.md": paths.TEMPLATES / "README.md",
        "config.yml": paths.CONFIG,
        "definitions.py": paths.DELIVERED / "definitions.py",
        **notebooks,
    }
