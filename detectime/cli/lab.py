"""JupyterLab at the root of a project, with notebook 01 in view.

The package is also an extension of the Jupyter server (``jupyter-config/detectime.json`` enables it), so that a plain
``jupyter lab`` in a project opens the notebook too. It does nothing in any other folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from detectime.errors import DocumentedError
from detectime.paths import DATA_LOADER, format_install

_NOTEBOOK = f"notebooks/{DATA_LOADER}"
_SHORT_URL = "/detectime"
"""Leads to the notebook. JupyterLab takes no default URL with a query, which its file browser needs."""
_APP = "lab"
_APP_URL = "/lab"
"""What JupyterLab opens by default."""


class LabError(DocumentedError, RuntimeError):
    """JupyterLab cannot be opened; the message says why and what to do."""


def open_lab(folder: str | os.PathLike[str], arguments: Sequence[str] = ()) -> NoReturn:
    """Become JupyterLab: its messages, its exit status, and its answer to Ctrl-C are those of this process.

    Parameters
    ----------
    folder
        A project: the root of the file browser. Notebook 01 is opened.
    arguments
        Further arguments of ``jupyter lab``.

    Raises
    ------
    LabError
        If JupyterLab is not installed, or `folder` is not a project.

    Examples
    --------
    >>> open_lab("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    detectime.cli.lab.LabError: no/such/folder: no config.yml and notebooks/01_get_train_data.ipynb here; ...
    """
    if not _is_project(folder):
        raise LabError(
            f"{folder}: no config.yml and {_NOTEBOOK} here; `detectime init DIR` lays them out, then give that folder"
        )
    if find_spec("jupyterlab") is None:
        raise LabError(f"JupyterLab is not installed for {sys.executable}: {format_install('lab')}")
    # JupyterLab refuses to run as root without being told, and in a container one is root.
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={os.path.abspath(folder)}", *as_root]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *arguments])


def _is_project(folder: str | os.PathLike[str]) -> bool:
    return Path(folder, "config.yml").is_file() and Path(folder, _NOTEBOOK).is_file()


# -- the extension of the Jupyter server, which calls these functions by their names


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _link_jupyter_server_extension(server: Any) -> None:
    """Make the notebook JupyterLab's default, before JupyterLab reads its settings: those of the user count."""
    points = server.extension_manager.extension_points
    app = points[_APP].app if _APP in points else None
    if app is not None and app.default_url == _APP_URL and _shows_project(server):
        app.default_url = _SHORT_URL


def _load_jupyter_server_extension(server: Any) -> None:
    """Lead from the short URL to the notebook, with the project's root in the file browser."""
    if server.default_url.endswith(_SHORT_URL):
        from jupyter_server.base.handlers import RedirectWithParams

        url = f"{server.base_url}lab/tree/{_NOTEBOOK}?file-browser-path=/"
        redirect = (server.base_url + _SHORT_URL.strip("/"), RedirectWithParams, {"url": url, "permanent": False})
        server.web_app.add_handlers(".*$", [redirect])


def _shows_project(server: Any) -> bool:
    """Return whether a server shows the files of a project, and was asked for none of them."""
    names = [cls.__name__ for cls in server.contents_manager_class.__mro__]
    is_root_elsewhere = any("root_dir" in server.config[name] for name in names if name in server.config)
    is_on_disk = "FileContentsManager" in names
    return is_on_disk and not is_root_elsewhere and not server.file_to_run and _is_project(server.root_dir)
