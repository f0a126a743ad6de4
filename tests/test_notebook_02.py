"""Notebook 02: its parameters, what it says, and as its users run it, by papermill in a process of its own."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import FROZEN

from detectime import export_notebook, notebook, notebook_parameters, outcomes, paths, runs
from detectime.config import load_config
from detectime.decision_files import DecisionLog
from detectime.detection.manifest import make_manifest, write_manifest
from detectime.errors import ConfigError
from detectime.export_notebook import ExportSettings, load_settings
from detectime.exports.contract import ExportConfig, ExportError
from detectime.exports.export import export_run, read_export
from detectime.judgements import judge_frame
from detectime.notebook_parameters import list_values
from detectime.notes import Note
from detectime.report import crops
from detectime.runs import FinishedRun
from detectime.splits import SplitError
from detectime.storage.store import open_store

NOTEBOOK = paths.NOTEBOOKS / paths.EXPORTER
PAPERMILL = Path(sys.executable).parent / "papermill"


def read_cells(path: Path = NOTEBOOK) -> list[nbformat.NotebookNode]:
    return list(nbformat.read(path, as_version=4).cells)


def find_parameter_cell() -> str:
    (cell,) = (cell for cell in read_cells() if "parameters" in cell.metadata.get("tags", []))
    return str(cell.source)


@pytest.fixture
def output(sample_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder of a run on the sample."""
    return Path(shutil.copytree(sample_run, tmp_path / "run"))


@pytest.fixture
def run(output: Path) -> FinishedRun:
    return runs.open_run(output)


# -- the parameters


def load(**given: Any) -> ExportSettings:
    lines = [f"{name} = {value!r}" for name, value in ({"output": "/runs/out"} | given).items()]
    return load_settings({"output": "/runs/out"} | given, ["\n".join(["# Parameters", *lines])])


def test_none_is_the_default() -> None:
    cell = find_parameter_cell()
    names: dict[str, Any] = {}
    exec(cell, names)
    assert {names[name] for name in notebook_parameters._list_assigned(cell)} == {None}
    settings = load_settings(names | {"output": "/runs/out"}, ["", cell])
    assert settings.export == ExportConfig()
    assert (settings.to, settings.formats, settings.seed) == ("/runs/out/exports", ("imagefolder",), None)
    assert settings.shares is None


def test_every_setting_is_a_parameter() -> None:
    listed = set(notebook_parameters._list_assigned(find_parameter_cell()))
    assert set(list_values(ExportSettings())) - listed == {"split", "workers"}
    text = "".join(cell.source for cell in read_cells() if cell.cell_type == "markdown")
    assert "`split = False`" in text
    assert "`workers`" in text
    settings = load(split=False, workers=3, thin=20, images="frames", to="s3://bucket/exports", formats=["coco", "csv"])
    assert (settings.export.split, settings.export.thin, settings.export.images) == (False, 20, "frames")
    assert (settings.workers, settings.to, settings.formats) == (3, "s3://bucket/exports", ("coco", "csv"))


@pytest.mark.parametrize("shares", ["train=0.6, test=0.4", {"train": 0.6, "test": 0.4}])
def test_shares_are_text_or_a_dict(shares: Any) -> None:
    assert load(shares=shares).shares == {"train": 0.6, "test": 0.4}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"thinn": 3}, ConfigError, "parameter thinn: there is no such parameter; did you mean 'thin'?"),
        ({"source": "x"}, ConfigError, "parameter source: there is no such parameter; did you mean 'sources'?"),
        ({"crop_coefficient": 2}, ConfigError, "parameter crop_coefficient: there is no such parameter"),
        ({"images": "frame"}, ConfigError, "images = 'frame': did you mean 'frames'?"),
        ({"thin": 300}, ConfigError, "thin = 300"),
        ({"seed": "x"}, ConfigError, "seed = 'x'"),
        ({"formats": ""}, ConfigError, "formats: none is given"),
        ({"formats": "coco yolo"}, ConfigError, "formats = 'coco yolo': separate names by commas: coco, yolo"),
        ({"images": "none"}, ExportError, "images = none: imagefolder accepts"),
        ({"formats": "coco,imagefolder", "faces": True}, ExportError, "faces = true: imagefolder with images = crops"),
        ({"formats": "cocoa"}, ExportError, "format 'cocoa': did you mean 'coco'?"),
        ({"license": "CC BY"}, ConfigError, "license = 'CC BY'"),
        ({"shares": "train"}, SplitError, "shares = 'train': accepted: names and shares"),
        ({"shares": "train=0.5,train=0.5"}, SplitError, "each once"),
        ({"shares": {"train": 0.5}}, SplitError, "shares: the sum is 0.5"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_told_before_any_work(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        load(**given)


def write_unfinished(folder: Path) -> None:
    config = load_config(parameters={"images": "frames", "output": str(folder)})
    write_manifest(open_store(folder), make_manifest(config, {}))


def test_the_run_is_that_of_the_project_or_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(paths.CONFIG, tmp_path)
    monkeypatch.chdir(tmp_path / "notebooks")
    own, sample = tmp_path / "data" / "INPUT_DATA" / "JSON", tmp_path / "reports" / "sample"
    with pytest.raises(ConfigError, match=f"output: there is no run in {own} and {sample}; run notebook 01_get"):
        load_settings({}, [])
    for folder in (sample, own):  # that of the project counts more
        write_unfinished(folder)
        assert load_settings({}, []).output == str(folder)
    given = load_settings({"output": "mine", "to": "there"}, [])
    assert (given.output, given.to) == (str(tmp_path / "mine"), str(tmp_path / "there"))


# -- what it says


def test_what_is_said_of_leaks() -> None:
    rows = {"outcome": ["paired", "no_hand", "paired"], "video_name": list("abb"), "split": ["train", "test", "test"]}
    samples = pd.DataFrame(rows)
    clean = export_notebook.describe_leakage(samples, [])
    assert (
        clean == "2 samples of 2 groups were compared: no group, no frame and no near-duplicate crop is in two parts."
    )
    allowed = export_notebook.describe_leakage(samples, [Note("similar", 1, "pair of groups")])
    assert "but near-duplicate crops, or parts of one video, are, which allow_similar allows" in allowed
    assert "no near-duplicate" not in allowed
    for kind in ("unknown_hash", "unknown_content"):
        assert "could not be compared" in export_notebook.describe_leakage(samples, [Note(kind, 1, "sample")])
    assert "not split" in export_notebook.describe_leakage(samples.assign(split="all"), [])


@pytest.mark.parametrize("settings", [{"thin": 60}, {"every": 3}, {"thin": 31, "every": 2}])
def test_the_preview_is_what_the_export_leaves_out(settings: dict[str, Any], run: FinishedRun, tmp_path: Path) -> None:
    export = ExportConfig(**settings)
    previewed = export_notebook.preview_thinning(run, export)
    (done,) = export_run(run, ["csv"], tmp_path / "to", export)
    assert done.counts["thinned"] == previewed["redundant"].sum() > 0
    given = ", ".join(f"{name} = {value}" for name, value in settings.items())
    left_out = f"{given}: left out are {done.counts['thinned']} of {len(previewed)} samples."
    assert export_notebook.describe_thinning(previewed, export) == left_out
    exported = export_notebook.read_exported(done)
    assert exported["frame_path"].tolist() == previewed.loc[~previewed["redundant"], "frame_path"].tolist()


def test_the_preview_is_of_reviewed_samples_only(run: FinishedRun) -> None:
    frame = run.outcomes.query("outcome == 'paired'")["frame_path"].iloc[3]
    DecisionLog(run.store, "anna").append(judge_frame(run, frame, "anna", "keep"))
    outcomes.pair_run(run)
    assert export_notebook.preview_thinning(run, ExportConfig(only="reviewed"))["frame_path"].tolist() == [frame]


def test_nothing_is_thinned_of_frames_without_a_sample(run: FinishedRun) -> None:
    export = ExportConfig(only="missed")
    previewed = export_notebook.preview_thinning(run, export)
    assert previewed.empty
    assert "frames without a sample are exported" in export_notebook.describe_thinning(previewed, export)
    assert crops.plot_redundant(run, previewed) is None


def read_labels(figure: Any) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def count_pictures(figure: Any) -> int:
    return sum(bool(ax.images) for ax in figure.axes)


def test_redundant_samples_are_drawn_beside_those_that_stay(run: FinishedRun) -> None:
    previewed = export_notebook.preview_thinning(run, ExportConfig(thin=31))
    figure = crops.plot_redundant(run, previewed)
    assert figure is not None
    titles = [ax.get_title() for ax in figure.axes]
    assert titles.count("goes") >= len(read_labels(figure)) > 1
    assert titles[0] == "stays"
    assert count_pictures(figure) == titles.count("goes") + titles.count("stays")
    plt.close(figure)
    assert crops.plot_redundant(run, previewed.assign(redundant=False)) is None


def test_a_batch_has_a_row_for_each_class_of_all_groups(run: FinishedRun, tmp_path: Path) -> None:
    (done,) = export_run(run, ["csv"], tmp_path / "to", ExportConfig(box="hand"))
    exported = export_notebook.read_exported(done)
    figure = crops.plot_batch(run, exported)
    assert figure is not None
    assert read_labels(figure) == ["stop", "victory", "mute", "ok", "like", "dislike"]
    assert count_pictures(figure) == 6 * 8
    shown = figure.axes[0].images[0].get_array()
    plt.close(figure)
    assert np.ptp(shown) > 50
    assert crops.plot_batch(run, exported[:0]) is None


def test_a_frame_that_is_gone_is_told_in_its_place(run: FinishedRun, tmp_path: Path) -> None:
    (done,) = export_run(run, ["csv"], tmp_path / "to")
    exported = export_notebook.read_exported(done)[:2]
    figure = crops.plot_batch(run, exported.assign(frame_path=[exported["frame_path"].iloc[0], "gone.jpg"]))
    assert figure is not None
    assert count_pictures(figure) == 1
    assert "cannot be read" in read_labels(figure)
    plt.close(figure)


def test_faces_are_blurred_in_figures_too(run: FinishedRun, tmp_path: Path) -> None:
    (done,) = export_run(run, ["csv"], tmp_path / "to")
    mute = export_notebook.read_exported(done).query("class_name == 'mute'")  # its crops hold faces
    plain, blurred = (crops.plot_batch(run, mute, blur_faces=value) for value in (False, True))
    first, second = (np.asarray(figure.axes[0].images[0].get_array(), float) for figure in (plain, blurred))
    assert np.abs(first - second).mean() > 2
    plt.close("all")


# -- as its users run it


def execute(target: Path, cwd: Path, **parameters: object) -> subprocess.CompletedProcess[str]:
    given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    command = [str(PAPERMILL), str(NOTEBOOK), str(target), "--no-progress-bar", *given]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def list_outputs(target: Path, kind: str = "text") -> list[str]:
    """Return the text of streams, or the data of a media type."""
    found = []
    for output in (output for cell in read_cells(target) for output in cell.get("outputs", ())):
        if kind == "text" and output.output_type == "stream":
            found.append(output.text)
        elif kind in output.get("data", {}):
            found.append(output.data[kind])
    return found


def read_output(target: Path, kind: str = "text") -> str:
    return "\n".join(list_outputs(target, kind))


@pytest.mark.slow
def test_run_all_as_delivered(output: Path, tmp_path: Path) -> None:
    done = execute(tmp_path / "out.ipynb", tmp_path, output="run")
    assert done.returncode == 0, done.stderr
    text = read_output(tmp_path / "out.ipynb")
    assert "100 of 108 gesture frames have a sample; 8 no_hand. Frames that people decided on: 0" in text
    assert "no group, no frame and no near-duplicate crop is in two parts" in text
    assert re.search(r"thin is not set, so that all samples are exported; thin = 31 would leave out \d+ of 100\.", text)
    assert read_export(output / "exports" / "imagefolder")["counts"]["pictures"] == 100
    assert len(list((output / "exports" / "imagefolder").glob("*/ok/*.jpg"))) == 16
    assert len(list_outputs(tmp_path / "out.ipynb", "image/jpeg")) == 3
    card = read_output(tmp_path / "out.ipynb", "text/markdown")
    assert card.lstrip().startswith("# Hand gestures")
    assert "pretty_name" not in card
    assert "This was the rendered sample" in read_output(tmp_path / "out.ipynb", "text/plain")


@pytest.mark.slow
@pytest.mark.large
def test_many_formats_with_other_settings_and_again(output: Path, tmp_path: Path) -> None:
    given: dict[str, object] = {
        "output": "run", "to": "exports", "formats": "coco,yolo,huggingface", "shares": "train=0.5,test=0.5",
        "thin": 31, "no_gesture": True, "blur_faces": True, "contact_sheet": True, "license": "cc0-1.0",
        "sources": "Rendered.",
    }  # fmt: skip
    for _ in range(2):
        done = execute(tmp_path / "out.ipynb", tmp_path, **given)
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "exports").iterdir())
    assert names == ["coco", "huggingface", "yolo"]
    assert set(pd.read_csv(output / "split.csv")["split"]) == {"train", "test"}
    assert "frame/s" not in read_output(tmp_path / "out.ipynb")  # the second time nothing was left to do
    assert len(list_outputs(tmp_path / "out.ipynb", "image/jpeg")) == 4  # three figures and the contact sheet
    assert "contact_sheet.jpg" not in read_output(tmp_path / "out.ipynb", "text/markdown")
    settings = ExportConfig(thin=20, no_gesture=True)
    with pytest.raises(ExportError, match="holds an export of other samples or settings"):
        export_run(runs.open_run(output), ["coco"], tmp_path / "exports", settings)


@pytest.mark.slow
def test_without_a_split(output: Path, tmp_path: Path) -> None:
    done = execute(tmp_path / "out.ipynb", tmp_path, output="run", split=False, formats="csv", every=2, workers=1)
    assert done.returncode == 0, done.stderr
    assert "The set is not split: nothing can leak." in read_output(tmp_path / "out.ipynb")
    assert not (output / "split.csv").exists()
    assert len(pd.read_csv(output / "exports" / "csv" / "samples.csv")) < 60


@pytest.mark.slow
def test_decisions_since_the_last_pairing_are_applied(output: Path, tmp_path: Path) -> None:
    run = runs.open_run(output)
    frame = run.outcomes.query("outcome == 'paired'")["frame_path"].iloc[0]
    DecisionLog(run.store, "anna").append(judge_frame(run, frame, "anna", "reject"))
    done = execute(tmp_path / "out.ipynb", tmp_path, output="run", formats="csv")
    assert done.returncode == 0, done.stderr
    text = read_output(tmp_path / "out.ipynb")
    assert "99 of 108 gesture frames have a sample" in text
    assert "Frames that people decided on: 1" in text
    assert frame not in set(pd.read_csv(output / "exports" / "csv" / "samples.csv")["frame_path"])


@pytest.mark.slow
def test_nothing_was_reviewed(output: Path, tmp_path: Path) -> None:
    done = execute(tmp_path / "out.ipynb", tmp_path, output="run", only="reviewed", formats="csv")
    assert done.returncode == 0, done.stderr
    assert "0 samples exported." in read_output(tmp_path / "out.ipynb", "text/plain")


@pytest.mark.slow
def test_a_run_of_0_2(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    manifest["configuration"]["data"] |= {
        "images": str(paths.SAMPLE / "TRAIN_DATA"), "labels": str(paths.SAMPLE / "train.csv"),
    }  # fmt: skip
    (tmp_path / "run" / "run.json").write_text(json.dumps(manifest))
    done = execute(tmp_path / "out.ipynb", tmp_path, output="run")
    assert done.returncode == 0, done.stderr
    text = read_output(tmp_path / "out.ipynb")
    assert "Some could not be compared: see the notes." in text
    assert "99 samples have no hash of their crops" in text
    assert read_export(tmp_path / "run" / "exports" / "imagefolder")["counts"]["samples"] == 99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output": "unfinished"}, "unfinished: this run is not finished; run it again to resume it"),
        ({"output": "run", "column": "part"}, "column = 'part': the frame table has no such column"),
    ],
    ids=["unfinished", "column"],
)
def test_a_failing_cell_is_told_in_the_last_line(
    parameters: dict[str, object], message: str, output: Path, tmp_path: Path
) -> None:
    write_unfinished(tmp_path / "unfinished")
    done = execute(tmp_path / "out.ipynb", tmp_path, **parameters)
    assert done.returncode == 1
    assert message in done.stderr.strip().splitlines()[-1]
    assert not (output / "exports").exists()


@pytest.mark.slow
def test_help_lists_each_parameter_with_a_comment() -> None:
    command = [PAPERMILL, "--help-notebook", NOTEBOOK]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    marker, *lines = find_parameter_cell().splitlines()
    assert marker.startswith(notebook_parameters.PARAMETER_CELL)
    assert re.findall(r"^ {2}(\w+):", said, re.MULTILINE) == [line.partition(":")[0] for line in lines]
    for line in lines:
        comment = line.split("  # ")[1]
        assert len(comment) < 100
        assert " ".join(comment.split()) in " ".join(said.split())


# -- its cells


def test_the_cell_for_colab_is_that_of_notebook_01() -> None:
    both = [
        [cell.source for cell in read_cells(paths.NOTEBOOKS / name) if "PACKAGE" in cell.source]
        for name in (paths.DATA_LOADER, paths.EXPORTER)
    ]
    assert len(both[0]) == 1
    assert both[0] == both[1]


def test_no_cell_gives_a_parameter_another_meaning() -> None:
    """In JupyterLab cells are executed again: the one that reads the parameters would take what a later one left."""
    bodies = [
        cell.source
        for cell in read_cells()
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    given = {
        name
        for body in bodies
        for name in notebook_parameters._list_assigned(re.sub(r"(?m)^(\s*)%.*$", r"\1pass", body))
    }
    imported = {
        alias.asname or alias.name
        for body in bodies
        for node in ast.walk(ast.parse(re.sub(r"(?m)^(\s*)%.*$", r"\1pass", body)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {"settings", "splits"} <= given | imported
    assert not (given | imported) & set(list_values(ExportSettings()))


def test_what_is_shown_of_the_settings() -> None:
    facts = export_notebook._list_facts(load(thin=20, shares="train=0.5,test=0.5", formats="coco"))
    assert facts["formats"] == "coco"
    assert facts["not the default"] == "shares = {'train': 0.5, 'test': 0.5}, thin = 20"
    assert export_notebook._list_facts(load())["not the default"] == "nothing"
    everything = list_values(load())
    assert "thin: null" in notebook._draw_facts({"run": "<b>"}, everything)
    assert {field.name for field in dataclasses.fields(ExportConfig)} <= set(everything)
