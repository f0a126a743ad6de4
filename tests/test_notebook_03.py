"""Notebook 03: its parameters, what it says, and as its users run it, by papermill in a process of its own."""

from __future__ import annotations

import ast
import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from conftest import FROZEN, provide_weights
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from detectime import comparison, label_check, notebook_parameters, outcomes, pairing, paths, review_notebook, runs
from detectime.config import load_config
from detectime.decision_files import DecisionLog
from detectime.decisions import DecisionError
from detectime.detection.manifest import make_manifest, write_manifest
from detectime.doubt import score_doubt
from detectime.errors import ConfigError
from detectime.evaluation import evaluate_run
from detectime.judgements import Judgement, judge_frames
from detectime.notebook_parameters import list_values
from detectime.report import charts
from detectime.review_notebook import ReviewSettings, load_settings
from detectime.runs import FinishedRun
from detectime.storage.store import open_store
from detectime.truth import TruthError, read_truth
from detectime.widgets import Review

NOTEBOOK = paths.NOTEBOOKS / paths.REVIEWER
PAPERMILL = Path(sys.executable).parent / "papermill"
WIDGET = "application/vnd.jupyter.widget-view+json"
NOBODY = "Nobody has decided on a frame yet"


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


def list_paired(run: FinishedRun) -> list[str]:
    paths_: list[str] = run.outcomes.query("outcome == 'paired'")["frame_path"].tolist()
    return paths_


def decide(run: FinishedRun, *judgements: Judgement, reviewer: str = "anna") -> None:
    DecisionLog(run.store, reviewer).append(*judge_frames(run, judgements, reviewer))


def decide_some(run: FinishedRun) -> None:
    """Reject two samples, draw one box, change one class, and keep ten samples."""
    paired = list_paired(run)
    decide(
        run,
        Judgement(paired[0], "reject"),
        Judgement(paired[7], "reject"),
        Judgement(paired[20], "box", box=(100, 100, 200, 200)),
        Judgement(paired[30], "label", class_name="ok"),
        *(Judgement(path, "keep") for path in paired[40:50]),
    )


# -- the parameters


def load(**given: Any) -> ReviewSettings:
    lines = [f"{name} = {value!r}" for name, value in ({"output": "/runs/out"} | given).items()]
    return load_settings({"output": "/runs/out"} | given, ["\n".join(["# Parameters", *lines])])


def test_none_is_the_default() -> None:
    cell = find_parameter_cell()
    names: dict[str, Any] = {}
    exec(cell, names)
    assert {names[name] for name in notebook_parameters._list_assigned(cell)} == {None}
    assert load_settings(names | {"output": "/runs/out"}, ["", cell]) == ReviewSettings("/runs/out")


def test_every_setting_is_a_parameter(tmp_path: Path) -> None:
    assert set(list_values(ReviewSettings())) == set(notebook_parameters._list_assigned(find_parameter_cell()))
    given: dict[str, Any] = {
        "reviewer": "Anna K.", "by": "random", "sample": 200, "seed": 3, "truth": str(tmp_path),
        "truth_format": "voc", "check_labels": True, "workers": 2,
    }  # fmt: skip
    assert load(**given) == ReviewSettings("/runs/out", **given)
    assert load(output=Path("/runs/mine"), truth="s3://bucket/truth.json").truth == "s3://bucket/truth.json"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"samples": 3}, ConfigError, "parameter samples: there is no such parameter; did you mean 'sample'?"),
        ({"thin": 3}, ConfigError, "parameter thin: there is no such parameter"),
        ({"by": "doubts"}, ConfigError, "by = 'doubts': did you mean 'doubt'?"),
        ({"by": "frames"}, ConfigError, "by = 'frames'"),
        ({"sample": 0}, ConfigError, "sample = 0: accepted: at least 1"),
        ({"sample": "many"}, ConfigError, "sample = 'many': should be a whole number"),
        ({"seed": 1.5}, ConfigError, "seed = 1.5"),
        ({"check_labels": "yes"}, ConfigError, "check_labels = 'yes': should be true or false"),
        ({"workers": 0}, ConfigError, "workers = 0: accepted: at least 1"),
        ({"reviewer": " "}, DecisionError, "reviewer"),
        ({"reviewer": 5}, ConfigError, "reviewer = 5: should be text"),
        ({"truth": "nowhere.json"}, ConfigError, "truth = 'nowhere.json': there is no such file or folder"),
        ({"truth_format": "cocoa"}, TruthError, "truth_format = 'cocoa': did you mean 'coco'?"),
        ({"output": 1.5}, ConfigError, "output = 1.5: should be text"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_told_before_any_work(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        load(**given)


def write_unfinished(folder: Path) -> None:
    config = load_config(parameters={"images": "frames", "output": str(folder)})
    write_manifest(open_store(folder), make_manifest(config, {}))


def test_paths_are_those_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(paths.CONFIG, tmp_path)
    (tmp_path / "truth.json").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    sample = tmp_path / "reports" / "sample"
    with pytest.raises(ConfigError, match=f"output: there is no run in .* and {sample}; run notebook 01_get"):
        load_settings({}, [])
    write_unfinished(sample)
    settings = load_settings({"truth": "truth.json"}, [])
    assert (settings.output, settings.truth) == (str(sample), str(tmp_path / "truth.json"))


@pytest.mark.parametrize(
    ("given", "by"), [({}, "doubt"), ({"sample": 20}, "random"), ({"sample": 20, "by": "doubt"}, "doubt")]
)
def test_what_is_shown_of_the_settings(given: dict[str, Any], by: str) -> None:
    facts = review_notebook._list_facts(load(**given))
    assert facts["by"].startswith(f"{by}: ")
    assert facts["not the default"] == ("sample = 20" if given else "nothing")
    assert "your account" in facts["reviewer"]
    assert review_notebook._list_facts(load(reviewer="anna"))["reviewer"] == "anna"


# -- what it says


def test_the_most_doubtful_frames_come_first_with_their_reasons(run: FinishedRun) -> None:
    doubt = score_doubt(run)
    rows = review_notebook.list_doubtful(doubt, run.outcomes)
    assert len(rows) == 12
    assert rows["doubt"].is_monotonic_decreasing
    first = doubt.nlargest(1, "doubt").iloc[0]
    assert rows["frame_path"].iloc[0] == first["frame_path"]
    sentences = [reason for reason in rows["reasons"].iloc[0].split(". ") if reason]
    assert 1 <= len(sentences) == min(3, len(first["reasons"].split(", ")))
    assert review_notebook.list_doubtful(doubt.assign(doubt=0.0, reasons=""), run.outcomes).empty
    assert " of 108 frames " in review_notebook.describe_doubt(doubt)


def test_names_in_tables_are_harmless(run: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[dict[str, str]] = []
    rows = pd.DataFrame({"frame_path": ["<script>alert(1)</script>.jpg"], "doubt": [0.251]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review_notebook, "display", lambda data, raw: shown.append(data))
        review_notebook._show_table(rows)
        review_notebook._show_table(rows[:0])
    assert len(shown) == 1
    assert "<script>" not in shown[0]["text/html"]
    assert "&lt;script&gt;" in shown[0]["text/html"]
    assert ">0.25<" in shown[0]["text/html"]
    assert "<script>alert(1)</script>.jpg" in shown[0]["text/plain"]


def test_without_decisions_it_says_so(run: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    review_notebook.show_decisions(run)
    review_notebook.show_comparison(None)
    assert capsys.readouterr().out.count(NOBODY) == 2
    assert review_notebook.judge_samples(run).empty
    assert review_notebook.describe_precision(Review(run)) == [review_notebook._JUDGE]
    review_notebook.show_result(run)
    assert NOBODY in capsys.readouterr().out


def test_decisions_are_counted_and_judged(run: FinishedRun) -> None:
    decide_some(run)
    paired = list_paired(run)
    decide(run, Judgement(paired[41], "reject"), reviewer="ben")
    outcomes.pair_run(run)
    said = review_notebook.describe_decisions(run)
    assert said.startswith("15 decisions on 14 frames by anna and ben. They count for 14 frames: ")
    assert "9 paired" in said
    assert "3 rejected" in said
    counts = review_notebook.count_decisions(run)
    assert counts.loc["anna"].to_dict() == {"box": 1, "keep": 10, "label": 1, "reject": 2, "all": 14}
    judged = review_notebook.judge_samples(run)
    assert judged["verdict"].value_counts().to_dict() == {"right": 9, "wrong": 5}
    assert set(judged.loc[judged["verdict"] == "right", "frame_path"]) == set(paired[40:50]) - {paired[41]}
    classes = run.frames.set_index("frame_path")["class_name"]
    assert judged["class_name"].tolist() == classes[judged["frame_path"]].tolist()  # as labelled, not as changed
    first, second = review_notebook.describe_precision(Review(run))
    assert first == "9 of 14 samples that people judged were right."
    assert "sample = 200" in second


def test_a_random_choice_tells_how_good_all_are(run: FinishedRun) -> None:
    review = Review(run, sample=20, reviewer="anna")
    shown = [run.outcomes["frame_path"].iloc[row] for row in review.queue.rows]
    decide(run, Judgement(shown[0], "reject"), *(Judgement(path, "keep") for path in shown[1:10]))
    _, said = review_notebook.describe_precision(Review(run, sample=20, reviewer="anna"))
    assert said.startswith(
        "Of the first 10 of 20 drawn at random, 90 % are right, says anna. Of all samples of the run, between"
    )
    _, said = review_notebook.describe_precision(Review(run, sample=20, reviewer="ben"))
    assert said == "ben has not judged the first of those drawn at random yet."
    decide(run, *(Judgement(path, "keep") for path in shown[10:]))
    _, said = review_notebook.describe_precision(Review(run, sample=20, reviewer="anna"))
    assert said.startswith("Of the first 20 of 20 drawn at random, 95 % are right")


def test_a_frame_without_a_sample_is_not_judged(run: FinishedRun) -> None:
    missed = run.outcomes.query("outcome == 'no_hand'")["frame_path"].tolist()
    decide(run, Judgement(missed[0], "keep"), Judgement(missed[1], "box", box=(10, 10, 60, 60)))
    outcomes.pair_run(run)
    assert review_notebook.judge_samples(run).empty
    assert review_notebook.describe_precision(Review(run)) == ["Nobody has judged a sample yet."]


def list_bars(ax: Axes) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def test_the_figure_of_doubt_has_every_reason(run: FinishedRun) -> None:
    doubt = score_doubt(run)
    figure = charts.plot_doubt(doubt)
    assert figure is not None
    named = set(doubt["reasons"].str.split(", ").explode()) - {""}
    assert len(figure.axes[1].get_yticklabels()) == len(named)
    assert sum(bar.get_bbox().height for bar in list_bars(figure.axes[0])) == doubt["doubt"].notna().sum()
    plt.close(figure)
    assert charts.plot_doubt(doubt.assign(reasons="")) is None
    assert charts.plot_doubt(doubt[:0]) is None


def test_the_figure_of_changes_has_only_changes(run: FinishedRun) -> None:
    decide_some(run)
    compared = comparison.compare_decisions(run)
    figure = charts.plot_changes(compared)
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["moved", "relabelled", "lost"]
    assert sum(bar.get_bbox().width for bar in list_bars(figure.axes[0])) == 4
    plt.close(figure)
    decide(run, Judgement(list_paired(run)[0], "undo"))
    alone = pairing.pair_frames(run.frames, run.detections, run.pairing)
    same = comparison.compare_samples(alone, alone)
    unchanged = comparison.Comparison("", "", same, compared.classes, None, "", compared.settings, (), alone, alone)
    assert charts.plot_changes(unchanged) is None


def test_measures_are_told_with_their_meaning(run: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    truth = read_truth(run)
    assert truth is not None
    table = review_notebook.tabulate_measures(evaluate_run(run, truth))
    assert table["measure"].tolist()[:2] == ["Correct", "Precision"]
    assert table.columns.tolist() == ["measure", "value", "95 % interval", "meaning"]
    review_notebook.show_evaluation(run, truth)
    assert "108 frames of 12 groups, annotated in plain JSON, sample/truth.json." in capsys.readouterr().out
    review_notebook.show_evaluation(run, None)
    assert "set truth" in capsys.readouterr().out


# -- as its users run it


def execute(
    target: Path, cwd: Path, parameters: dict[str, object], source: Path = NOTEBOOK
) -> subprocess.CompletedProcess[str]:
    given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    command = [str(PAPERMILL), str(source), str(target), "--no-progress-bar", *given]
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
    done = execute(tmp_path / "out.ipynb", tmp_path, {"output": "run"})
    assert done.returncode == 0, done.stderr
    text = read_output(tmp_path / "out.ipynb")
    assert "100 of 108 gesture frames have a sample; 8 no_hand. Frames that people decided on: 0" in text
    assert text.count(NOBODY) == 3
    assert "No sample differs." in text
    assert "annotated in plain JSON, sample/truth.json" in text
    stills = re.findall(
        r'<figure data-detectime-still="(\w+)".*?<img src="data:image/jpeg;base64,',
        html := read_output(tmp_path / "out.ipynb", "text/html"),
        re.DOTALL,
    )
    assert len(set(stills)) == 2
    assert len(list_outputs(tmp_path / "out.ipynb", WIDGET)) == 2
    assert html.count("<table") == 3  # the settings, doubt, and the measures
    assert len(list_outputs(tmp_path / "out.ipynb", "image/jpeg")) == 1
    said = read_output(tmp_path / "out.ipynb", "text/plain")
    assert "Review of 108 frames" in said
    assert "This was the rendered sample" in said
    assert not (output / "decisions").exists()
    assert not list(output.glob("label_check*"))


@pytest.mark.slow
def test_run_again_after_decisions(output: Path, tmp_path: Path) -> None:
    before = (output / "hands.json").read_bytes()
    decide_some(runs.open_run(output))
    done = execute(tmp_path / "out.ipynb", tmp_path, {"output": "run", "reviewer": "anna"})
    assert done.returncode == 0, done.stderr
    text = read_output(tmp_path / "out.ipynb")
    assert "98 of 108 gesture frames have a sample (2 corrected); 2 rejected, 8 no_hand." in text
    assert "14 decisions on 14 frames by anna." in text
    assert "10 of 14 samples that people judged were right." in text
    assert "B has 2 fewer samples than A: 98 instead of 100 (0 gained, 2 lost); 1 moved, 1 has another class" in text
    assert "Against the truth: correct 0.926 → " in text
    assert len(list_outputs(tmp_path / "out.ipynb", "image/jpeg")) == 3
    assert "Decisions count for 14 frames: hands.json" in read_output(tmp_path / "out.ipynb", "text/plain")
    assert (output / "hands.json").read_bytes() != before
    assert not runs.open_run(output).needs_pairing


IN_BETWEEN = """
for at, action in enumerate(["reject", "keep", "keep"]):
    review._receive(None, {"kind": "decide", "id": at, "at": at, "action": action, "box": None}, [])
"""


@pytest.mark.slow
def test_the_cells_after_the_review_know_its_decisions(output: Path, tmp_path: Path) -> None:
    """A person decides, then runs the cells below again: here a cell between them decides."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    (at,) = (k for k, cell in enumerate(book.cells) if cell.source.startswith("review = Review("))
    book.cells[at + 1 : at + 1] = [*copy.deepcopy(book.cells[at + 1 :]), nbformat.v4.new_code_cell(IN_BETWEEN)]
    for k, cell in enumerate(book.cells):
        cell.id = str(k)
    nbformat.write(book, tmp_path / "twice.ipynb")
    done = execute(
        tmp_path / "out.ipynb", tmp_path, {"output": "run", "reviewer": "anna", "sample": 3}, tmp_path / "twice.ipynb"
    )
    assert done.returncode == 0, done.stderr
    first, _, second = read_output(tmp_path / "out.ipynb").partition("No sample differs.")
    assert NOBODY in first
    assert "3 decisions on 3 frames by anna. They count for 3 frames: 2 paired, 1 rejected." in second
    assert "Of the first 3 of 3 drawn at random, 67 % are right, says anna." in second
    assert "99 instead of 100 (0 gained, 1 lost)" in second
    assert NOBODY not in second
    assert len(json.loads((output / "hands.json").read_text())) == 99


@pytest.mark.slow
def test_with_annotated_boxes_of_ones_own_and_checked_labels(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide_weights(label_check.WEIGHTS, monkeypatch)
    annotated = json.loads((paths.SAMPLE / "truth.json").read_text())
    few = {name: found for name, found in annotated.items() if name.startswith("ok_0")}
    (tmp_path / "mine.json").write_text(json.dumps(few))
    given: dict[str, object] = {"truth": "mine.json", "truth_format": "truth.json", "check_labels": True, "workers": 2}
    done = execute(tmp_path / "out.ipynb", tmp_path, {"output": "run"} | given)
    assert done.returncode == 0, done.stderr
    assert "18 frames of 2 groups, annotated in plain JSON" in read_output(tmp_path / "out.ipynb")
    assert "A network sees the gesture of another class." in read_output(tmp_path / "out.ipynb", "text/html")
    assert (output / "label_check.parquet").exists()


@pytest.mark.slow
def test_frames_and_annotated_boxes_that_are_gone(output: Path, tmp_path: Path) -> None:
    """What can be said without them is said; the pictures are missing."""
    manifest = json.loads((output / "run.json").read_text())
    manifest["configuration"]["data"] |= {"images": str(tmp_path / "gone"), "labels": str(tmp_path / "gone.csv")}
    (output / "run.json").write_text(json.dumps(manifest))
    done = execute(tmp_path / "out.ipynb", tmp_path, {"output": "run"})
    assert done.returncode == 0, done.stderr
    text = read_output(tmp_path / "out.ipynb")
    assert "There are no annotated boxes to compare with; if you have some, set truth." in text
    assert read_output(tmp_path / "out.ipynb", "text/html").count("<p data-detectime-still=") == 2


@pytest.mark.slow
def test_a_run_of_0_2(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    manifest["configuration"]["data"] |= {
        "images": str(paths.SAMPLE / "TRAIN_DATA"), "labels": str(paths.SAMPLE / "train.csv"),
    }  # fmt: skip
    (tmp_path / "run" / "run.json").write_text(json.dumps(manifest))
    done = execute(tmp_path / "out.ipynb", tmp_path, {"output": "run"})
    assert done.returncode == 0, done.stderr
    assert len(list_outputs(tmp_path / "out.ipynb", WIDGET)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output": "unfinished"}, "unfinished: this run is not finished; run it again to resume it"),
        ({"output": "run", "truth": "other.json"}, "none of the 1 annotated pictures is a frame of the run"),
    ],
    ids=["unfinished", "truth"],
)
def test_a_failing_cell_is_told_in_the_last_line(
    parameters: dict[str, object], message: str, output: Path, tmp_path: Path
) -> None:
    write_unfinished(tmp_path / "unfinished")
    (tmp_path / "other.json").write_text('{"elsewhere.jpg": {"hands": [[1, 2, 30, 40]]}}')
    done = execute(tmp_path / "out.ipynb", tmp_path, parameters)
    assert done.returncode == 1
    assert message in done.stderr.strip().splitlines()[-1]
    assert not list_outputs(tmp_path / "out.ipynb", WIDGET)


@pytest.mark.slow
def test_help_lists_each_parameter_with_a_comment() -> None:
    command = [str(PAPERMILL), "--help-notebook", str(NOTEBOOK)]
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
        for name in (paths.DATA_LOADER, paths.REVIEWER)
    ]
    assert len(both[0]) == 1
    assert both[0] == both[1]
    assert '"truth"' in both[0][0]  # which may be on the drive


def test_no_cell_gives_a_parameter_another_meaning() -> None:
    """In JupyterLab cells are executed again: the one that reads the parameters would take what a later one left."""
    cells = [cell for cell in read_cells() if cell.cell_type == "code"]
    bodies = [
        re.sub(r"(?m)^(\s*)%.*$", r"\1pass", cell.source)
        for cell in cells
        if "parameters" not in cell.metadata.get("tags", [])
    ]
    given = {name for body in bodies for name in notebook_parameters._list_assigned(body)}
    imported = {
        alias.asname or alias.name
        for body in bodies
        for node in ast.walk(ast.parse(body))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {"settings", "Review"} <= given | imported
    assert not (given | imported) & set(list_values(ReviewSettings()))


def test_the_keys_that_it_names_are_those_of_the_review() -> None:
    script = (paths.DELIVERED / "detectime" / "widgets" / "review.js").read_text()
    (told,) = (cell.source for cell in read_cells() if cell.source.startswith("## Review"))
    keys = set(re.findall(r"\*\*(\w+|\?)\*\*", told)) - {"1", "9", "f", "a"}
    assert keys == {"k", "x", "i", "u", "s", "n", "Esc", "z", "?"}
    for key in keys:
        assert f'"{"Escape" if key == "Esc" else key}"' in script, key
