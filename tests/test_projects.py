"""`detectime init`: what is laid out, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detectime import paths
from detectime.cli.projects import ProjectError, init_project
from detectime.storage.store import StoreError

NOTEBOOKS = [f"notebooks/{name}" for name in (paths.DATA_LOADER, paths.EXPORTER, paths.REVIEWER, paths.TRAINER)]
FILES = ["README.md", "config.yml", "definitions.py", *NOTEBOOKS]


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_has_what_jupyterlab_needs(tmp_path: Path) -> None:
    folder = tmp_path / "of mine" / "project"
    assert init_project(folder) == [folder / name for name in FILES]
    assert sorted(list_files(folder)) == FILES
    assert (folder / "config.yml").read_bytes() == paths.CONFIG.read_bytes()
    for name in NOTEBOOKS:
        assert (folder / name).read_bytes() == (paths.DELIVERED / name).read_bytes()
    assert 5 <= len((folder / "README.md").read_text().splitlines()) <= 12


def test_definitions_are_those_of_the_project(tmp_path: Path) -> None:
    init_project(tmp_path)
    code = "import definitions as d; print(d.ROOT_DIR, d.CONFIG.is_file(), d.TRAIN_CSV)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path), "True", str(tmp_path / "data" / "INPUT_DATA" / "train.csv")]


def test_other_files_stay_and_they_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.jpg").write_bytes(b"mine")
    init_project(tmp_path)
    (tmp_path / "config.yml").write_text("mine")
    before = list_files(tmp_path)
    with pytest.raises(ProjectError, match=r"README.md, config.yml, definitions.py, .* exist already, and nothing was"):
        init_project(tmp_path)
    assert list_files(tmp_path) == before


@pytest.mark.parametrize("name", FILES)
def test_one_existing_file_is_enough_to_refuse(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(ProjectError, match=f"{tmp_path}: {name} exists already"):
        init_project(tmp_path)
    assert not list_files(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ProjectError, match="file: this is a file"):
        init_project(tmp_path / "file")
    with pytest.raises(ProjectError, match="it cannot be created: Not a directory; give another folder"):
        init_project(tmp_path / "file" / "folder")


def test_an_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ProjectError, match=f"{tmp_path}: it is not writable.*; give another folder"):
        init_project(tmp_path)


def test_a_full_disk_is_an_error(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1 << 20))
    with pytest.raises(StoreError, match="No space left on device"):
        init_project(small_disk)


# -- where the project is


def test_the_project_is_the_current_folder_or_the_parent_of_notebooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_project(tmp_path / "project")
    project = (tmp_path / "project").resolve()
    for folder in (project, project / "notebooks"):
        monkeypatch.chdir(folder)
        assert (paths.find_project(), paths.find_base()) == (project, project)
        assert (paths.find_config(), paths.find_model_folder()) == (project / "config.yml", project / "model")
    (project / "frames").mkdir()
    for folder in (project / "frames", tmp_path):
        monkeypatch.chdir(folder)
        assert (paths.find_project(), paths.find_base()) == (None, folder.resolve())
        assert paths.find_config() == paths.CONFIG


def test_a_folder_called_notebooks_without_a_configuration_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert (paths.find_project(), paths.find_base()) == (None, tmp_path.resolve() / "notebooks")


def test_a_current_folder_that_is_gone_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert paths.find_project() is None
    assert paths.find_config() == paths.CONFIG
