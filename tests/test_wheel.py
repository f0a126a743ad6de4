"""The wheel, installed in an environment of its own, far from a clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import definitions
from detectime import paths

pytestmark = pytest.mark.slow

SAMPLE_FILES = sorted(path.relative_to(paths.SAMPLE) for path in paths.SAMPLE.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=definitions.ROOT_DIR, check=True, capture_output=True, timeout=100)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment, with the packages of this one, and without its editable detectime."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.joinpath("packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('detectime'), u.find_spec('papermill') is None)"],
        cwd=folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert found.stdout.split() == ["None", "False"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return folder


def call(environment: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))  # nbconvert's templates are not importable
    command = [str(environment / "bin" / "detectime"), *arguments]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=200, check=False)


def test_the_wheel_has_the_templates_and_no_other_top_level_module(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    release = wheel.name.split("-py3")[0]
    assert {name.split("/")[0] for name in names} == {"detectime", f"{release}.dist-info", f"{release}.data"}
    data = [name.removeprefix(f"{release}.data/data/") for name in names if name.startswith(f"{release}.data")]
    assert all(name.startswith("etc/jupyter/jupyter_server_config.d/") for name in data)
    templates = {name.removeprefix("detectime/templates/") for name in names if name.startswith("detectime/templates/")}
    notebooks = {f"notebooks/{path.name}" for path in paths.NOTEBOOKS.glob("*.ipynb")}
    sample = {f"data/sample/{name}" for name in SAMPLE_FILES}
    assert templates == {"README.md", "config.yml", "definitions.py", *notebooks, *sample}
    assert wheel.stat().st_size < 12_000_000


def test_an_editable_install_has_no_copy_of_the_templates() -> None:
    assert paths.IS_CLONE
    assert not (paths.TEMPLATES / "config.yml").exists()
    found = [path for path in Path(sysconfig.get_path("purelib")).glob("detectime*") if path.suffix != ".dist-info"]
    assert found == []


@pytest.mark.large  # of a clone, `make demo` shows it at every change
def test_a_demo_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    done = call(environment, tmp_path, "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "100 of 108 gesture frames have a sample; 8 no_hand"
    assert str(definitions.ROOT_DIR) not in done.stdout
    report = (tmp_path / "reports" / "demo" / "report.ipynb").read_text()
    assert str(environment) in report
    assert str(definitions.ROOT_DIR) not in report.replace(str(definitions.ROOT_DIR / ".venv"), "")


def test_a_project_of_the_wheel(environment: Path, tmp_path: Path) -> None:
    assert call(environment, tmp_path, "init", "project").returncode == 0
    project = tmp_path / "project"
    os.symlink(paths.SAMPLE / "TRAIN_DATA", project / "frames")
    os.symlink(paths.SAMPLE / "train.csv", project / "labels.csv")
    done = call(
        environment, project, "run", "--images", "frames", "--labels", "labels.csv", "--output", "out", "--limit", "5"
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d of 5 gesture frames have a sample", done.stdout.splitlines()[-1])


def test_without_a_project_places_are_relative_to_the_current_folder(environment: Path, tmp_path: Path) -> None:
    done = call(environment, tmp_path, "run")
    assert done.returncode == 2
    assert f"{tmp_path.resolve()}/data/INPUT_DATA/train.csv: no such file" in done.stderr
    assert list(tmp_path.iterdir()) == []
    code = "from detectime import paths; print(paths.find_model_folder())"
    python = environment / "bin" / "python"
    variables = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    found = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(tmp_path / "cache" / "detectime")
