"""The notebook as a person runs it: its cells in a kernel that starts in the folder of the notebook, without papermill.

Colab is imitated as far as the notebook sees of it: its environment variable, a module ``google.colab``, a folder that
is no project, and a Python without detectime.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode, v4

import definitions
import detectime
from detectime import paths

pytestmark = pytest.mark.slow

LEAVE_OUT = ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG", "DETECTIME_TRACEBACK")
OWN_DATA = (f'images = "{paths.SAMPLE / "TRAIN_DATA"}"', f'labels = "{paths.SAMPLE / "train.csv"}"')


def read_cells() -> list[NotebookNode]:
    notebook = nbformat.read(paths.NOTEBOOKS / paths.DATA_LOADER, as_version=4)
    return list(notebook.cells)


def find_cell(text: str) -> str:
    """Return the source of the code cell that has a text."""
    (source,) = (cell.source for cell in read_cells() if cell.cell_type == "code" and text in cell.source)
    return str(source)


def parameters(*lines: str) -> str:
    """Return the parameter cell as delivered, with these lines after its own."""
    return "\n".join([find_cell("# Parameters of the run"), *lines])


SETTINGS = find_cell("start_notebook")
SETUP = find_cell("PACKAGE")


def execute(
    cells: Sequence[NotebookNode | str],
    cwd: Path,
    python: str | Path = sys.executable,
    variables: Mapping[str, str] = {},
) -> list[NotebookNode]:
    """Execute cells one after another, up to the first that fails; return them with their outputs."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    kernels = cwd.parent / "kernels"
    (kernels / "python3").mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "python3" / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "Python 3", "language": "python"})
    )
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False),
    )
    environment = {name: value for name, value in os.environ.items() if name not in LEAVE_OUT} | dict(variables)
    client = NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(cwd)}})
    try:
        client.execute(env=environment, cleanup_kc=True)  # else the kernel lives as long as the tests
    except CellExecutionError:
        assert find_error(notebook.cells)
    return list(notebook.cells)


def find_error(cells: Sequence[NotebookNode]) -> NotebookNode | None:
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return next((output for output in outputs if output.output_type == "error"), None)


def read_error(cells: Sequence[NotebookNode]) -> str:
    """Return what a notebook shows of the error of a cell."""
    error = find_error(cells)
    assert error is not None
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))


def read_output(cells: Sequence[NotebookNode], kind: str = "text") -> str:
    """Return the text of streams, or the data of a media type, of all cells."""
    found = []
    for output in (output for cell in cells for output in cell.get("outputs", ())):
        if kind == "text" and output.output_type == "stream":
            found.append(output.text)
        elif kind in output.get("data", {}):
            found.append(output.data[kind])
    return "\n".join(found)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Lay out a project, as ``detectime init`` does it."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(paths.NOTEBOOKS, folder / "notebooks")
    for file in (paths.CONFIG, definitions.ROOT_DIR / "definitions.py"):
        shutil.copy(file, folder)
    return folder


def test_run_all_as_delivered(project: Path) -> None:
    cells = execute(read_cells(), project / "notebooks")
    assert find_error(cells) is None
    assert "100 samples in" in read_output(cells)
    assert len(json.loads((project / "reports" / "sample" / "hands.json").read_text())) == 100
    assert list(project.glob("data*")) == []
    for kind in ("text/html", "text/plain"):
        shown = read_output(cells, kind)
        assert "This is the rendered sample, not your data." in shown
        assert f"The results go to {project}/reports/sample." in shown
        assert "images = " in shown
        assert "labels = " in shown
        assert str(project / "config.yml") in shown
    wanted = 'classes = "stop,victory,mute,ok,like,dislike,no_gesture"'
    assert f"12 frames of no_gesture are left out; to take them: {wanted}" in read_output(cells)
    assert "past the limit" not in read_output(cells)


def test_the_lines_of_the_box_take_own_data(project: Path) -> None:
    given = parameters(*OWN_DATA, 'output = "own"', "limit = 5")
    cells = execute([given, SETTINGS, "print(settings.data)"], project / "notebooks")
    assert "rendered sample" not in read_output(cells, "text/html")
    assert f"output='{project}/own'" in read_output(cells)  # not below notebooks/
    assert "selection.limit = 5" in read_output(cells, "text/plain")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["from detectime import evaluate"], "RenamedError: detectime.evaluate was renamed to detectime.evaluation"),
        ([parameters('classes = "stop,stp"'), SETTINGS], "'stp' is not a label; did you mean 'stop'?"),
        ([parameters('images = "nowhere"'), SETTINGS, find_cell("read_labels")], "TableError: "),
    ],
    ids=["module", "value", "labels"],
)
def test_a_documented_error_is_one_message(cells: list[str], message: str, project: Path) -> None:
    shown = read_error(execute(cells, project / "notebooks"))
    assert message in shown
    assert re.match(r"\w+Error: ", shown)
    assert len(shown.splitlines()) == 1


def test_a_misspelt_name_is_told_in_lines(project: Path) -> None:
    watched = {"JPY_SESSION_NAME": "01_get_train_data.ipynb"}  # as JupyterLab sets it
    cells = execute([parameters("crop_coeficient = 2"), SETTINGS], project / "notebooks", variables=watched)
    shown = read_error(cells)
    assert shown.startswith("ConfigError: parameter crop_coeficient: there is no such parameter")
    assert "did you mean 'crop_coefficient'?" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100
    assert list(project.glob("reports*")) == []


def test_the_whole_traceback_on_demand(project: Path) -> None:
    cells = [parameters("crop_coeficient = 2"), SETTINGS]
    shown = read_error(execute(cells, project / "notebooks", variables={"DETECTIME_TRACEBACK": "1"}))
    assert "start_notebook(globals(), In)" in shown
    assert "detectime/notebook.py" in shown
    assert "ConfigError: parameter crop_coeficient" in shown.splitlines()[-1]


def test_a_bug_keeps_its_traceback(project: Path) -> None:
    cells = [parameters(), SETTINGS, "frame_table.select_frames(None, settings.classes)"]
    shown = read_error(execute(cells, project / "notebooks"))
    assert "TypeError" in shown
    assert "detectime/labels/frame_table.py" in shown


def test_a_parameter_that_was_deleted_has_no_value(project: Path) -> None:
    show = "print('now', settings.selection.limit, settings.run.workers, settings.pairing.crop_coefficient, limit)"
    without = re.sub(r"(?m)^limit: .*\n", "", parameters("crop_coefficient = 2.0"))
    first, second = [parameters("limit = 7"), "workers = 2"], [without, "workers = 3"]
    cells = execute([*first, SETTINGS, show, *second, SETTINGS, show], project / "notebooks")
    assert find_error(cells) is None, read_error(cells)
    # The variable keeps its value, the run has none; a parameter of another cell counts.
    assert re.findall(r"now (.*)", read_output(cells)) == ["7 2 1.5 7", "None 3 2.0 7"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this clone."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(definitions.ROOT_DIR)], check=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """Make an environment with all that this one has, pip included, except detectime; return its Python."""
    environment, packages = tmp_path / "environment", tmp_path / "packages"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=300)
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "detectime" not in path.name and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    python = environment / "bin" / "python"
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "shared.pth").write_text(f"{packages}\n")
    find = (
        "from importlib.util import find_spec as f; print(*(f(n) is None for n in ('detectime', 'ipykernel', 'pip')))"
    )
    found = subprocess.run([python, "-c", find], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False", "False"]
    return python


def test_a_kernel_of_another_environment_is_told(project: Path, other_python: Path) -> None:
    shown = read_error(execute([parameters(), SETUP, SETTINGS], project / "notebooks", other_python))
    first, second = shown.splitlines()
    assert first == f"ModuleNotFoundError: detectime is not installed for this kernel's Python, {other_python}"
    assert "Change Kernel" in second
    assert "%pip install" in second


@pytest.fixture
def colab(tmp_path: Path) -> dict[str, str]:
    """Return the variables of a kernel that looks like Colab's: mounts of the drive are counted in a file."""
    stub = tmp_path / "stub" / "google" / "colab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    count = f"with open({str(tmp_path / 'mounts')!r}, 'a') as file:"
    (stub / "drive.py").write_text(f"def mount(path):\n    {count}\n        print(path, file=file)\n")
    return {"COLAB_RELEASE_TAG": "release-colab_20260101", "PYTHONPATH": str(tmp_path / "stub")}


@pytest.mark.large  # installs the wheel, which .ci/run builds and runs
def test_colab_takes_the_wheel(tmp_path: Path, other_python: Path, wheel: Path, colab: dict[str, str]) -> None:
    content = tmp_path / "content"
    content.mkdir()
    cells: list[Any] = [cell for cell in read_cells() if "charts.plot_" not in cell.source]  # figures take longest
    for cell in cells:
        cell.source = re.sub(r'PACKAGE = "[^"]*"', f'PACKAGE = "{wheel}"', cell.source)
    cells.append("import detectime; print(detectime.__file__)")
    executed = execute(cells, content, other_python, colab)
    assert find_error(executed) is None, read_error(executed)
    assert read_output(executed).splitlines()[-1].startswith(str(other_python.parents[1]))
    assert f"100 samples in {content}/reports/sample/hands.json" in read_output(executed)
    assert "This is the rendered sample" in read_output(executed, "text/html")
    assert not (tmp_path / "mounts").exists()
    assert os.listdir(content) == ["reports"]


def test_colab_mounts_the_drive_if_a_path_is_on_it(tmp_path: Path, other_python: Path, colab: dict[str, str]) -> None:
    content = tmp_path / "content"
    content.mkdir()
    cells = [parameters('output = "/content/drive/MyDrive/run"'), SETUP, SETTINGS]
    executed = execute(cells, content, other_python, colab)
    assert (tmp_path / "mounts").read_text() == "/content/drive\n"
    # The wheel that the notebook names is not there.
    assert "detectime is not installed for this kernel's Python" in read_error(executed)
    assert "Set PACKAGE in this cell" in read_error(executed)
    assert "No such file or directory" in read_output(executed)


def test_the_wheel_that_the_notebook_names_is_that_of_this_release() -> None:
    assert f"detectime-{detectime.__version__}-py3-none-any.whl" in SETUP
