"""The notebook as its users run it: papermill in a process of its own."""

from __future__ import annotations

import ast
import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from faults import list_stored_files
from finished_runs import write_notebook

import definitions
from detectime import notebook_parameters, paths

pytestmark = pytest.mark.slow

NOTEBOOK = definitions.ROOT_DIR / "notebooks" / "01_get_train_data.ipynb"
PAPERMILL = Path(sys.executable).parent / "papermill"
SAMPLE = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv"}
MEGABYTE = 1_000_000


def command(target: Path, notebook: Path = NOTEBOOK, **parameters: object) -> list[str]:
    given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    return [str(PAPERMILL), str(notebook), str(target), "--no-progress-bar", *given]


def execute(target: Path, cwd: Path, **parameters: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(target, **parameters), cwd=cwd, capture_output=True, text=True, timeout=300)


def outputs(notebook: Path, kind: str) -> list[str]:
    """What the cells of a notebook put out: the ``text`` of streams, or the data of a media type."""
    found = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            if kind == "text" and output.output_type == "stream":
                found.append(output.text)
            elif kind in output.get("data", {}):
                found.append(output.data[kind])
    return found


def test_no_cell_gives_a_parameter_another_meaning() -> None:
    """In JupyterLab cells are executed again: the one that reads the parameters would take what a later one left."""
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    bodies = ["" if "parameters" in cell.metadata.get("tags", []) else cell.source for cell in cells]
    stored = {
        node.id
        for body in bodies
        for node in ast.walk(ast.parse(re.sub(r"(?m)^\s*%.*$", "", body)))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert "settings" in stored
    assert not stored & set(notebook_parameters.ACCEPTED)


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the notebook on the sample, from a folder that is not the project's."""
    folder = tmp_path_factory.mktemp("sample")
    done = execute(folder / "out.ipynb", folder, output="run", **SAMPLE)
    assert done.returncode == 0, done.stderr
    return folder


def test_writes_what_it_promises(sample_run: Path) -> None:
    tables = {"frames.parquet", "detections.parquet", "outcomes.parquet", "outcomes.csv"}
    assert list_stored_files(sample_run / "run") == {"hands.json", "run.json", "report.html", *tables}
    hands = json.loads((sample_run / "run" / "hands.json").read_text())
    assert len(hands) >= 0.85 * 108
    assert {hand["label"] for hand in hands} == {1, 2, 3, 4, 5, 6}


def test_galleries_are_jpeg_and_small(sample_run: Path) -> None:
    pictures = outputs(sample_run / "out.ipynb", "image/jpeg")
    assert not outputs(sample_run / "out.ipynb", "image/png")
    assert len(pictures) >= 6 + 1 + 3  # a gallery a class, one of the dropped, and the other figures
    assert all(base64.b64decode(picture).startswith(b"\xff\xd8") for picture in pictures)
    assert (sample_run / "out.ipynb").stat().st_size < 3 * MEGABYTE


def test_progress_leaves_a_line_or_two(sample_run: Path) -> None:
    text = "".join(outputs(sample_run / "out.ipynb", "text"))
    assert "\r" not in text
    assert 1 <= len(re.findall(r"frame/s|s/frame", text)) <= 10


class _References(HTMLParser):
    """Collects what a page would load, or link to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attributes if name in ("src", "href", "data", "action", "poster")]
        self.found += [tag] * (tag in ("iframe", "object", "embed", "link", "base"))


def test_report_refers_to_nothing_outside_itself(sample_run: Path) -> None:
    page = (sample_run / "run" / "report.html").read_text()
    references = _References()
    references.feed(page)
    assert len(page) < MEGABYTE
    assert [value[:40] for value in references.found if not value.startswith(("data:", "#"))] == []
    assert not re.search(r"url\((?!.data:)", page)
    assert "@import" not in page
    assert page.count("data:image/") >= 10


@pytest.fixture(scope="module")
def again(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, paired anew after an edit of its hands.json: more samples shown, and no explorer."""
    folder = tmp_path_factory.mktemp("again")
    shutil.copytree(sample_run / "run", folder / "run")  # nothing is left to detect: this is quick
    hands = folder / "run" / "hands.json"
    hands.write_text(hands.read_text().replace('"label": 1', '"label": 2', 1))
    shutil.copy(hands, folder / "edited.json")
    changed = {"enlarged_classes": "ok", "crop_coefficient": 2.0, "samples_per_class": 12, "explore": False}
    done = execute(folder / "out.ipynb", folder, output="run", **changed, **SAMPLE)
    assert done.returncode == 0, done.stderr
    return folder


def test_ends_with_the_explorer(sample_run: Path, again: Path) -> None:
    """Without a kernel there is a picture and a sentence; nothing of it is left if `explore` is False."""
    widget = "application/vnd.jupyter.widget-view+json"
    done = nbformat.read(sample_run / "out.ipynb", as_version=4)
    still, live = done.cells[-1].outputs
    assert '<img src="data:image/jpeg;base64,' in still.data["text/html"]
    assert "of 108 gesture frames have a sample" in still.data["text/plain"]
    assert widget in live.data
    assert "widgets" in done.metadata
    plain = nbformat.read(again / "out.ipynb", as_version=4)
    assert plain.cells[-1].outputs == []
    assert "widgets" not in plain.metadata


def measure_figures(notebook: Path) -> list[int]:
    return [len(picture) for picture in outputs(notebook, "image/jpeg")]


@pytest.mark.large
def test_grows_with_the_samples_shown_not_with_the_frames(sample_run: Path, again: Path, tmp_path: Path) -> None:
    shown = measure_figures(sample_run / "out.ipynb")
    assert sum(measure_figures(again / "out.ipynb")) > 1.5 * sum(shown)
    # A tenth of the frames makes the galleries no smaller: they show as many.
    shutil.copytree(sample_run / "run", tmp_path / "run")
    part: dict[str, Any] = {"output": "run", "limit": 50, "classes": "stop,mute,victory", "explore": False}
    assert execute(tmp_path / "part.ipynb", tmp_path, **part, **SAMPLE).returncode == 0
    assert max(measure_figures(tmp_path / "part.ipynb")) > 0.7 * max(shown)


def test_what_is_not_given_is_as_the_run_has_it_and_notes_are_shown(again: Path, tmp_path: Path) -> None:
    shutil.copytree(again / "run", tmp_path / "run")
    assert execute(tmp_path / "out.ipynb", tmp_path, output="run", **SAMPLE).returncode == 0
    for executed in (again / "out.ipynb", tmp_path / "out.ipynb"):
        text = "".join(outputs(executed, "text"))
        assert "The edited hands.json (changed labels: 1) is kept as hands.2" in text
    assert "pairing.crop_coefficient = 2.0, pairing.enlarged_classes = ['ok']" in text
    assert json.loads((tmp_path / "run" / "run.json").read_text())["pairing"]["settings"]["crop_coefficient"] == 2.0
    kept, written = sorted((tmp_path / "run").glob("hands.2*.json"))
    assert written.name == f"{kept.stem}.written.json"
    assert kept.read_text() == (again / "edited.json").read_text()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"crop_coeficient": 2}, "parameter crop_coeficient: there is no such parameter; did you mean 'crop_coeff"),
        ({"labels": "nowhere.csv"}, "nowhere.csv: no such file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_failing_cell_is_told_in_the_last_line(parameters: dict[str, object], reason: str, tmp_path: Path) -> None:
    done = execute(tmp_path / "out.ipynb", tmp_path, **{"output": "run", **SAMPLE, **parameters})
    assert done.returncode == 1
    assert reason in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "run" / "hands.json").exists()


def test_help_lists_each_parameter_with_a_comment() -> None:
    done = subprocess.run([PAPERMILL, "--help-notebook", NOTEBOOK], capture_output=True, text=True, timeout=60)
    names = set(re.findall(r"^ {2}(\w+):", done.stdout, re.MULTILINE))
    assert names == set(
        "images labels output classes limit quality crop_coefficient fallback workers explore config".split()
    ), done.stdout
    cell = next(c for c in nbformat.read(NOTEBOOK, as_version=4).cells if "parameters" in c.metadata.get("tags", []))
    marker, *lines = cell.source.splitlines()
    assert marker.startswith(notebook_parameters.PARAMETER_CELL)
    assert len(lines) == len(names)
    said = " ".join(done.stdout.split())
    for line in lines:
        comment = line.split("  # ")[1]
        assert len(comment) < 100
        assert " ".join(comment.split()) in said


def test_is_committed_without_outputs() -> None:
    for path in NOTEBOOK.parent.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        for before, cell in itertools.pairwise(cells):
            assert not cell.get("outputs")
            assert len(cell.source.splitlines()) <= 20
            assert cell.cell_type != "code" or "def " not in cell.source
            # A figure follows the table that it shows.
            assert cell.cell_type != "code" or before.cell_type == "markdown" or cell.source.startswith("charts.")


def test_hostile_names_are_shown_harmlessly(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    names = {
        "<script>alert(1)</script>.jpg": "stop",
        "$\\frac{1}$ & 'q' \"d\".jpg": "stop",
        "\N{GRINNING FACE} кадр.jpg": "like",
        "line\nbreak.jpg": "like",
        "gone <img src=x onerror=alert(1)>.jpg": "ok",
        "x" * 200 + ".jpg": "ok",
    }
    picture = SAMPLE["images"] / "stop_01" / "0001.jpg"
    for name in names:
        (frames / Path(name)).parent.mkdir(parents=True, exist_ok=True)
        if "gone" not in name:
            shutil.copy(picture, frames / name)
    (frames / "broken <b>.jpg").write_bytes(picture.read_bytes()[:5000])
    names["broken <b>.jpg"] = "ok"
    labels = tmp_path / "train.csv"
    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    rows = [f"{name},<i>v</i>,{k},{kind}" for k, (name, kind) in enumerate(zip(quoted, names.values(), strict=True))]
    labels.write_text("frame_path,video_name,frame_id,class_name\n" + "\n".join(rows) + "\n")
    done = execute(tmp_path / "out.ipynb", tmp_path, images=frames, labels=labels, output="run")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "onerror" not in re.sub(r"&lt;[^<>]*&gt;", "", page)
    there = [hand["frame_path"] for hand in json.loads((tmp_path / "run" / "hands.json").read_text())]
    assert there == [name for name in names if "gone" not in name and "broken" not in name]


def test_an_empty_set_is_shown_too(tmp_path: Path) -> None:
    labels = tmp_path / "train.csv"
    labels.write_text("frame_path,video_name,frame_id,class_name\nno_gesture_01/0001.jpg,v,1,no_gesture\n")
    done = execute(tmp_path / "out.ipynb", tmp_path, images=SAMPLE["images"], labels=labels, output="run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "hands.json").read_text()) == []


def test_killed_and_resumed_gives_the_same_bytes(sample_run: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.ipynb"
    write_notebook(short)
    parameters: dict[str, Any] = {"notebook": short, "output": tmp_path / "run", "save_per_num_images": 5, **SAMPLE}
    for shards in (2, 6):  # killed twice: the papermill process, then its kernel too
        running = subprocess.Popen(
            command(tmp_path / "out.ipynb", **parameters), stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(lambda n=shards: len(list((tmp_path / "run").glob("shards/*.parquet"))) >= n, running)
        if shards == 2:
            running.kill()
        else:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert not (tmp_path / "run" / "hands.json").exists()
    done = execute(tmp_path / "out.ipynb", tmp_path, **parameters)
    assert done.returncode == 0, done.stderr
    expected = (sample_run / "run" / "hands.json").read_bytes()
    assert (tmp_path / "run" / "hands.json").read_bytes() == expected


def wait_until(condition: Any, running: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert running.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_real_frames(shared: Path, tmp_path: Path) -> None:
    contest = shared / "frames" / "contest"
    done = execute(
        tmp_path / "out.ipynb", tmp_path, images=contest / "TRAIN_DATA", labels=contest / "train.csv", output="run"
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "run" / "hands.json").read_text())) >= 0.95 * 103
