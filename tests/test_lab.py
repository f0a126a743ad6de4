"""`detectime lab`, and what the package does to a Jupyter server: a default URL in a project, elsewhere nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from skips import need_extra

from detectime.cli.lab import LabError, open_lab
from detectime.cli.projects import init_project

NOTEBOOK = "notebooks/01_get_train_data.ipynb"
JUPYTER = [str(Path(sys.executable).with_name("jupyter"))]
DETECTIME = [sys.executable, "-m", "detectime"]
SECONDS = 60


@pytest.fixture
def project(tmp_path: Path) -> Path:
    init_project(tmp_path / "project")
    return tmp_path / "project"


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_server(command: list[str], folder: Path, tmp_path: Path, *options: str) -> tuple[str, int]:
    """Start a Jupyter server, stop it when it has printed its URL, and return its log and its exit status."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    for kind in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{kind}_DIR"] = str(tmp_path / "jupyter" / kind.lower())
    log = tmp_path / "jupyter.log"
    arguments = [*command, "--no-browser", "--allow-root", *options]
    with log.open("w") as stderr:
        server = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=stderr, stderr=stderr)
    deadline = time.monotonic() + SECONDS
    while server.poll() is None and "Or copy and paste" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    server.send_signal(signal.SIGTERM)
    return log.read_text(), server.wait(SECONDS)


def read_url(log: str) -> str:
    """Return the path of the URL that a server printed."""
    return re.findall(r"http://localhost:\d+(/\S*?)\?token", log)[-1]


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=rf"no config.yml and {NOTEBOOK} here; `detectime init DIR`"):
        open_lab(tmp_path)


@pytest.mark.skipif(find_spec("jupyterlab") is not None, reason="jupyterlab is installed")
def test_the_extra_is_named_where_jupyterlab_is_missing(project: Path) -> None:
    with pytest.raises(LabError, match=r"pip install .*\[lab\]"):
        open_lab(project)


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["named", "current"])
def test_the_command_opens_a_project(named: bool, project: Path, tmp_path: Path) -> None:
    need_extra("jupyterlab")
    folder = tmp_path if named else project

    command = [*DETECTIME, "lab", *(["project"] if named else []), "--"]
    log, _ = start_server(command, folder, tmp_path, f"--port={find_port()}")

    assert read_url(log) == "/detectime"
    assert f"Serving notebooks from local directory: {project}\n" in log


@pytest.mark.extra
@pytest.mark.slow
def test_an_error_of_jupyter_comes_through(project: Path, tmp_path: Path) -> None:
    need_extra("jupyterlab")

    log, status = start_server([*DETECTIME, "lab", "--"], project, tmp_path, "--ServerApp.ip=203.0.113.1")

    assert "assign requested address" in log
    assert status == 1


@pytest.mark.extra
@pytest.mark.slow
def test_a_port_in_use_is_told_and_the_next_is_taken(project: Path, tmp_path: Path) -> None:
    need_extra("jupyterlab")
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]

        log, _ = start_server([*DETECTIME, "lab", "--"], project, tmp_path, f"--port={port}")

    assert f"The port {port} is already in use, trying another port." in log
    assert read_url(log) == "/detectime"


URLS = {
    "in a project": ("project", [], "/detectime"),
    "of a project": (".", ["project"], "/detectime"),
    "below a base URL": ("project", ["--ServerApp.base_url=/a/b"], "/a/b/detectime"),
    "elsewhere": (".", [], "/lab"),
    "in a folder of the project": ("project/notebooks", [], "/lab"),
    "of a file": ("project", [NOTEBOOK], "/lab"),
    "with an URL of the user": ("project", ["--LabApp.default_url=/lab/tree/config.yml"], "/lab/tree/config.yml"),
    "with another root": ("project", ["--FileContentsManager.root_dir=/"], "/lab"),
}


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize(("where", "options", "url"), URLS.values(), ids=URLS)
def test_what_jupyter_lab_opens(where: str, options: list[str], url: str, project: Path, tmp_path: Path) -> None:
    need_extra("jupyterlab")

    log, _ = start_server([*JUPYTER, "lab"], tmp_path / where, tmp_path, f"--port={find_port()}", *options)

    assert read_url(log) == url
    assert "Traceback" not in log
    assert re.search(r"detectime.*(warn|error|fail)", log, re.IGNORECASE) is None


@pytest.mark.extra
@pytest.mark.slow
def test_settings_of_the_user_count(project: Path, tmp_path: Path) -> None:
    need_extra("jupyterlab")
    settings = tmp_path / "jupyter" / "config" / "jupyter_lab_config.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"LabApp": {"default_url": "/lab/tree/README.md"}}))

    log, _ = start_server([*JUPYTER, "lab"], project, tmp_path, f"--port={find_port()}")

    assert read_url(log) == "/lab/tree/README.md"


@pytest.mark.extra
@pytest.mark.slow
def test_another_application_of_jupyter_opens_as_ever(project: Path, tmp_path: Path) -> None:
    need_extra("jupyterlab")

    log, _ = start_server([*JUPYTER, "server"], project, tmp_path, f"--port={find_port()}")

    assert read_url(log) == "/"
