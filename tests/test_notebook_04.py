"""Notebook 04: its parameters, what it says, and as its users run it, by papermill in a process of its own."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pytest
from conftest import provide_weights
from skips import need_extra

from detectime import classifier_notebook, label_check, notebook_parameters, paths, runs, splits
from detectime.classifier.settings import TrainingSettings
from detectime.classifier_notebook import ClassifierSettings, MissingTrainingError, load_settings
from detectime.decisions import DecisionError
from detectime.detection.manifest import RunError
from detectime.errors import ConfigError
from detectime.notebook_parameters import list_values
from detectime.splits import SplitError

NOTEBOOK = paths.NOTEBOOKS / paths.TRAINER
PAPERMILL = Path(sys.executable).parent / "papermill"


def read_cells(path: Path = NOTEBOOK) -> list[nbformat.NotebookNode]:
    return list(nbformat.read(path, as_version=4).cells)


def find_parameter_cell() -> str:
    (cell,) = (cell for cell in read_cells() if "parameters" in cell.metadata.get("tags", []))
    return str(cell.source)


def load(**given: Any) -> ClassifierSettings:
    values = {"output": "/runs/out"} | given
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    return load_settings(values, ["\n".join(["# Parameters", *lines])])


# -- the parameters


def test_none_is_the_default() -> None:
    cell = find_parameter_cell()
    names: dict[str, Any] = {}
    exec(cell, names)
    assert {names[name] for name in notebook_parameters._list_assigned(cell)} == {None}
    settings = load_settings(names | {"output": "/runs/out"}, ["", cell])
    assert settings == load()
    assert settings.training == TrainingSettings().resolve()
    assert settings.to == "/runs/out/classifier/landmarks"


def test_every_setting_is_a_parameter(tmp_path: Path) -> None:
    assert set(list_values(ClassifierSettings())) == set(notebook_parameters._list_assigned(find_parameter_cell()))
    given: dict[str, Any] = {
        "model": "pretrained", "to": str(tmp_path), "epochs": 3, "batch": 8, "learning_rate": 0.01, "side": 64,
        "weights": str(tmp_path / "w.pth"), "seed": 2, "shares": "train=0.5,test=0.5", "allow_similar": True,
        "workers": 2, "reviewer": "Anna K.",
    }  # fmt: skip
    settings = load(**given)
    training = TrainingSettings("pretrained", 3, 8, 0.01, 64, str(tmp_path / "w.pth"), 2)
    halves = {"train": 0.5, "test": 0.5}
    assert settings == ClassifierSettings("/runs/out", str(tmp_path), halves, True, 2, "Anna K.", training)


def test_true_as_papermill_passes_it() -> None:
    assert load(allow_similar="true").allow_similar is True
    assert load(allow_similar="False").allow_similar is False


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"epoch": 3}, ConfigError, "parameter epoch: there is no such parameter; did you mean 'epochs'?"),
        ({"model": "landmark"}, ConfigError, "model = 'landmark': did you mean 'landmarks'?"),
        ({"epochs": 0}, ConfigError, "epochs = 0: accepted: at least 1"),
        ({"side": 64}, ConfigError, "side = 64: model = 'landmarks' sees no crops"),
        ({"model": "small", "weights": "w.pth"}, ConfigError, "set model = 'pretrained'"),
        ({"model": "small", "side": 8}, ConfigError, "side = 8"),
        ({"learning_rate": float("nan")}, ConfigError, "learning_rate = nan"),
        ({"to": "s3://bucket/classifier"}, ConfigError, "set to to a folder on this machine"),
        ({"shares": "train=0.5"}, SplitError, "0.5"),
        ({"reviewer": " "}, DecisionError, "reviewer"),
    ],
)
def test_what_is_not_accepted(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        load(**given)
    assert message in str(raised.value)


def test_what_is_shown_of_the_settings() -> None:
    facts = classifier_notebook._list_facts(load(model="small", epochs=3, seed=1))
    assert facts["model"] == "small: 3 epochs, crops of 96 pixels"
    assert facts["not the default"] == "epochs = 3, seed = 1"
    assert classifier_notebook._list_facts(load())["not the default"] == "nothing"


def test_lacking_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_notebook, "_PACKAGES", {"no_such_module": "torch", "numpy": "numpy"})
    with pytest.raises(MissingTrainingError, match=r"not installed: torch; install it with: pip install .*torch"):
        classifier_notebook.check_packages()


def test_a_run_that_is_not_there_is_told_and_no_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        classifier_notebook.start_notebook({"output": str(tmp_path / "none")}, [])
    assert not (tmp_path / "none").exists()


# -- what it says


def test_the_clip_shows_as_many_frames_of_each_class() -> None:
    rows = [(f"{name}_{k}/{frame}", name, f"{name}_{k}") for name in ("ok", "stop") for k in (1, 2) for frame in (1, 2)]
    samples = pd.DataFrame(rows, columns=["frame_path", "class_name", "video_name"])
    found: Any = SimpleNamespace(samples=samples, test=[2, 3, 4, 5, 6, 7])
    assert classifier_notebook.choose_clip(found) == samples["frame_path"].iloc[2:].tolist()
    assert classifier_notebook.choose_clip(found, 4) == ["ok_2/1", "ok_2/2", "stop_1/1", "stop_1/2"]
    assert classifier_notebook.choose_clip(found, 2) == ["ok_2/1", "stop_1/1"]


# -- as its users run it


def execute(
    folder: Path, parameters: dict[str, object], variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the notebook by papermill, in an empty folder."""
    given = [word for name, value in parameters.items() for word in ("-p", name, str(value))]
    command = [str(PAPERMILL), str(NOTEBOOK), "executed.ipynb", *given, "--no-progress-bar", "--log-output"]
    # One thread: beside other tests, threads wait for each other.
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (variables or {})
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


def read_text(path: Path) -> str:
    """Return all text that the cells printed."""
    outputs = [output for cell in read_cells(path) if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text", "") for output in outputs)


def list_figures(path: Path) -> int:
    outputs = [output for cell in read_cells(path) if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/jpeg" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_one_message_says_what_to_install(sample_run: Path, tmp_path: Path) -> None:
    done = execute(tmp_path, {"output": sample_run})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingTrainingError: training needs the extra `torch`; not installed: torch" in last
    assert "pip install" in last


@pytest.fixture(scope="module")
def split_run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = Path(shutil.copytree(sample_run, tmp_path_factory.mktemp("split") / "run"))
    splits.split_run(runs.open_run(output), {"train": 0.5, "test": 0.5})
    return output


@pytest.mark.slow
@pytest.mark.extra
@pytest.mark.parametrize(
    ("model", "parameters", "size"),
    [("landmarks", {}, (0.05, 0.3)), ("small", {"epochs": 3}, (0.3, 2)), ("pretrained", {"epochs": 2}, (10, 20))],
)
def test_on_the_sample(
    model: str,
    parameters: dict[str, object],
    size: tuple[float, float],
    split_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_extra("torch")
    provide_weights(label_check.WEIGHTS, monkeypatch)
    output = Path(shutil.copytree(split_run, tmp_path / "run"))
    done = execute(tmp_path, {"output": "run", "model": model, **parameters})
    assert done.returncode == 0, done.stderr[-3000:]
    results = output / "classifier" / model
    assert sorted(path.name for path in results.iterdir()) == sorted(
        [
            "model.onnx",
            "clip.webm",
            "recognised.webm",
            "measures.json",
            "predictions.csv",
            "mistakes.csv",
            "history.csv",
        ]
    )
    assert size[0] < (results / "model.onnx").stat().st_size / 1e6 < size[1]
    predictions = pd.read_csv(results / "predictions.csv")
    mistakes = pd.read_csv(results / "mistakes.csv")
    measured = json.loads((results / "measures.json").read_text())
    is_wrong = predictions["predicted"] != predictions["class_name"]
    assert set(mistakes["frame_path"]) == set(predictions["frame_path"][is_wrong])
    assert measured["overall"]["accuracy"]["value"] == pytest.approx(1 - is_wrong.mean())
    text = read_text(tmp_path / "executed.ipynb")
    assert "On 52 samples of 6 groups that it has not seen: accuracy" in text
    assert re.search(r"\d+ of 5\d frames have a gesture", text)
    assert "zero-shot" not in text, "its weights are there"
    assert list_figures(tmp_path / "executed.ipynb") == (6 if len(mistakes) else 5)
    html = (tmp_path / "executed.ipynb").read_text()
    assert "data:video/webm;base64" in html
    if model == "landmarks":
        assert len(mistakes) <= 5
        assert "Each class has one group to train on" in text
    else:
        assert len(mistakes) > 5
        assert "Review of" in html


# -- its cells


def test_cells_are_short_and_define_nothing() -> None:
    for cell in read_cells():
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 20
            tree = ast.parse(re.sub(r"(?m)^(\s*)%.*$", r"\1pass", cell.source))
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def test_the_install_cell_is_that_of_notebook_01() -> None:
    first, own = (
        [cell.source for cell in read_cells(path) if "cellView" in cell.metadata]
        for path in (paths.NOTEBOOKS / paths.DATA_LOADER, NOTEBOOK)
    )
    assert first == own


def test_no_cell_gives_a_parameter_another_meaning() -> None:
    bodies = [
        re.sub(r"(?m)^(\s*)%.*$", r"\1pass", cell.source)
        for cell in read_cells()
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    given = {name for body in bodies for name in notebook_parameters._list_assigned(body)}
    assert {"settings", "found", "trained"} <= given
    assert not given & set(list_values(ClassifierSettings()))
