"""The pages: every code block is run, every name in them exists, and the reference pages are complete.

A comment before a code block says what happens to it, if it is not simply run:

- ``<!-- save as FILE -->``: it is a file that later blocks use;
- ``<!-- test: dry run -->``: ``detectime run`` gets ``--dry-run``;
- ``<!-- test: extra MODULE -->``: it needs an extra; ``<!-- test: needs FILE -->``: it needs weights;
- ``<!-- not run: REASON; tried by WHERE -->``: its commands, options and files are checked, nothing is run.

A block begins in the folder in which the one before it ended, as a reader's shell does. The tutorial begins in an empty
folder; other pages find data of the names that they use.
"""

from __future__ import annotations

import argparse
import ast
import csv
import dataclasses
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import buckets
import cv2
import finished_runs
import pyarrow.parquet as pq
import pytest
from conftest import provide_weights
from skips import need_extra

import definitions
import detectime
from detectime import config as configuration
from detectime import label_check, outcomes, paths, runs, schema, sources, splits
from detectime.cli import main as cli
from detectime.detection import run
from detectime.exports import export
from detectime.labels import frame_table
from tools import document_keys

ROOT = Path(definitions.ROOT_DIR)
BIN = Path(sys.executable).parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "RESULTS.md", paths.TEMPLATES / "README.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_DEVELOPERS = {"test", "browser", "reference", "buckets", "sample"}
"""Extras that no user needs."""

PEOPLE = {"anna": "ok_01", "ben": "stop_01", "carl": "no_gesture_01"}
"""Folders of frames in the sandbox, and the videos of the sample that they are."""
_EACH = 4  # frames


# -- code blocks


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced code block, and the comment before it."""

    page: Path
    line: int
    language: str
    code: str
    comment: str = ""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def marks(self) -> list[str]:
        return self.comment.removeprefix("test: ").split(", ") if self.comment.startswith("test: ") else []

    @property
    def saved_as(self) -> str | None:
        return self.comment.removeprefix("save as ") if self.comment.startswith("save as ") else None

    @property
    def is_run(self) -> bool:
        return not self.comment.startswith("not run: ")

    @property
    def need(self) -> str:
        """What the block needs beside the package: the module of an extra, a file of weights, or nothing."""
        return next((mark.split()[-1] for mark in self.marks if mark != "dry run"), "")

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each in one line."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


_COMMENT = re.compile(
    r"save as [\w.-]+|test: (dry run|extra \w+|needs [\w.]+)(, (extra \w+|needs [\w.]+))?|not run: [^;]+; tried by .+"
)


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        assert line.startswith("```"), f"{page}:{number + 1}: an indented code block"
        if start is None:
            start = number
            continue
        above = next((text for text in reversed(lines[:start]) if text.strip()), "")
        comment = above.removeprefix("<!--").removesuffix("-->").strip() if above.startswith("<!--") else ""
        assert not comment or _COMMENT.fullmatch(comment), f"{page}:{start + 1}: what does {comment!r} mean?"
        code = "\n".join(lines[start + 1 : number]) + "\n"
        yield Block(page, start + 1, lines[start].removeprefix("```"), code, comment)
        start = None
    assert start is None, f"{page}: a code block does not end"


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
RUN = [block for block in BLOCKS if block.is_run]
NOT_RUN = [block for block in BLOCKS if not block.is_run]


def list_passes() -> Iterator[Any]:
    """Yield each page with each need of its blocks: what stands in a sandbox is built once for these blocks."""
    for page, need in dict.fromkeys((block.page, block.need) for block in RUN):
        is_extra = need and not need.endswith(".onnx")
        name = f"{page.name} with {need}" if need else page.name
        yield pytest.param(page, need, id=name, marks=[pytest.mark.slow, *([pytest.mark.extra] if is_extra else [])])


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the small data that the pages speak of, under the same names."""
    folder = tmp_path_factory.mktemp("data")
    rows = list(csv.DictReader((paths.SAMPLE / "train.csv").open(encoding="utf-8")))
    truth = json.loads((paths.SAMPLE / "truth.json").read_text())
    labels, true_hands, faces = [], {}, []
    for person, video in PEOPLE.items():
        (folder / "frames" / person).mkdir(parents=True)
        for row in [row for row in rows if row["video_name"] == video][:_EACH]:
            name = f"{person}/{Path(row['frame_path']).name}"
            shutil.copy(paths.SAMPLE / "TRAIN_DATA" / row["frame_path"], folder / "frames" / name)
            labels.append(row | {"frame_path": name, "video_name": person})
            true_hands[name] = truth[row["frame_path"]]
            x1, y1, x2, y2 = truth[row["frame_path"]]["faces"][0]
            faces.append({"frame_path": name, "bbox_retinaface": [x1, y1, x2 - x1, y2 - y1]})
    for name in ("labels.csv", "train.csv"):
        write_csv(folder / name, labels)
    (folder / "truth.json").write_text(json.dumps(true_hands))
    (folder / "train_with_bboxes.json").write_text(json.dumps(faces))
    with zipfile.ZipFile(folder / "train_data1.zip", "w") as archive:
        for row in labels:
            archive.write(folder / "frames" / row["frame_path"], f"train_data1/{row['frame_path']}")
    write_hagrid(folder / "hagrid", folder / "frames", labels, true_hands)
    (folder / "data" / "INPUT_DATA").mkdir(parents=True)
    shutil.copytree(folder / "frames", folder / "data" / "INPUT_DATA" / "TRAIN_DATA")
    write_csv(folder / "data" / "INPUT_DATA" / "train.csv", labels)
    (folder / "data" / "sample").symlink_to(paths.SAMPLE)
    return folder


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_hagrid(folder: Path, frames: Path, labels: list[dict[str, str]], truth: dict[str, Any]) -> None:
    """Write images and annotations in HaGRID's layout."""
    records: dict[str, dict[str, Any]] = {}
    for row in labels:
        name, gesture = row["frame_path"].replace("/", "-"), row["class_name"]
        if gesture == "no_gesture":
            continue
        (folder / "images" / gesture).mkdir(parents=True, exist_ok=True)
        shutil.copy(frames / row["frame_path"], folder / "images" / gesture / name)
        height, width = cv2.imread(str(frames / row["frame_path"])).shape[:2]
        x1, y1, x2, y2 = truth[row["frame_path"]]["hands"][0]
        box = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
        record = {"bboxes": [box], "labels": [gesture], "user_id": row["video_name"]}
        records.setdefault(gesture, {})[Path(name).stem] = record
    (folder / "annotations" / "train").mkdir(parents=True)
    for gesture, of_class in records.items():
        (folder / "annotations" / "train" / f"{gesture}.json").write_text(json.dumps(of_class))


def write_videos(folder: Path, frames: Path) -> None:
    """Write the two videos of docs/data.md: 2 seconds of 10 frames each."""
    av = need_extra("av")
    (folder / "ben").mkdir(parents=True)
    for name, person in (("anna.mp4", "anna"), ("ben/first.mov", "ben")):
        images = [cv2.imread(str(path)) for path in sorted((frames / person).iterdir())]
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
            for number in range(20):
                image = images[number * len(images) // 20]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            container.mux(stream.encode(None))


@pytest.fixture
def sandbox(delivered: Path, tmp_path: Path) -> Path:
    """Return a folder with a copy of that data."""
    return Path(shutil.copytree(delivered, tmp_path / "sandbox", symlinks=True))


@pytest.fixture
def empty_folder(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.mark.parametrize(("page", "need"), list(list_passes()))
def test_code_blocks(page: Path, need: str, request: pytest.FixtureRequest) -> None:
    sandbox = request.getfixturevalue("empty_folder" if page.name == "tutorial.md" else "sandbox")
    prepare_need(need, sandbox, request)
    if page.name == "export.md":
        export_run(sandbox)
    elif page.name == "train.md":
        make_split_run(sandbox, {"train": 0.5, "test": 0.5})
    blocks = [block for block in RUN if block.page == page]
    for block in blocks:
        if block.saved_as:
            (sandbox / block.saved_as).write_text(block.code)
    printed = "".join(CHECKS[block.language](block, sandbox) for block in blocks if block.need == need)
    promised = re.findall(r'(?:ends|end) with\s"([^"]*)"', page.read_text())
    assert len(promised) == (page.name in ("README.md", "tutorial.md"))
    assert not printed or all(text in printed for text in promised)


def prepare_need(need: str, sandbox: Path, request: pytest.FixtureRequest) -> None:
    """Provide what the blocks of a pass need, or skip the test."""
    if need == label_check.WEIGHTS.name:
        provide_weights(label_check.WEIGHTS, request.getfixturevalue("monkeypatch"))
        make_run(sandbox).rename(sandbox / "out")
    elif need.endswith(".onnx"):
        assert request.getfixturevalue("hagrid_weights").name == need
    elif need == "s3fs":
        request.getfixturevalue("s3_server")
        need_extra("s3fs").S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"]).mkdir("my-bucket")
        buckets.upload(sandbox / "frames", "s3://my-bucket/frames")
        (sandbox / "for-the-bucket").mkdir()
        shutil.copy(sandbox / "labels.csv", sandbox / "for-the-bucket")
        buckets.upload(sandbox / "for-the-bucket", "s3://my-bucket")
    elif need:
        need_extra(need)
    if need == "av":
        write_videos(sandbox / "clips", sandbox / "frames")


def make_split_run(sandbox: Path, shares: dict[str, float] | None = None) -> runs.FinishedRun:
    """Make the run `out`, of two frames of each video of the sample."""
    rows = list(csv.DictReader((paths.SAMPLE / "train.csv").open(encoding="utf-8")))
    write_csv(sandbox / "few.csv", [row for row in rows if int(row["frame_id"]) <= 2])
    made = finished_runs.make_run(sandbox / "out", labels=str(sandbox / "few.csv"))
    splits.split_run(made, shares)
    return made


def export_run(sandbox: Path) -> None:
    """Make the run `out`, its exports, and what comes back from CVAT."""
    made = make_split_run(sandbox)
    export.export_run(made, ["cvat", "huggingface", "imagefolder", "webdataset"], sandbox / "exports")
    with zipfile.ZipFile(sandbox / "task.zip", "w") as task:
        task.write(sandbox / "exports" / "cvat" / "annotations.xml", "annotations.xml")


WHOLE_NOTEBOOK = ("README.md", "tutorial.md", "notebooks.md")
"""Pages whose runs execute the notebook as delivered; those of others leave out its figures and report."""


def run_commands(block: Block, sandbox: Path) -> str:
    """Run a shell block; every line must succeed, and every run must give samples."""
    commands = block.commands
    if "dry run" in block.marks:
        commands = [f"{line} --dry-run" if line.startswith("detectime run ") else line for line in commands]
    if block.page.name not in WHOLE_NOTEBOOK:
        short = sandbox.parent / "short.ipynb"
        finished_runs.write_notebook(short)
        commands = [
            f"{line} --notebook {shlex.quote(str(short))}"
            if re.match(r"detectime run (?!.*(--dry-run|#|\\$))", line)
            else line
            for line in commands
        ]
    end = f"pwd >{shlex.quote(str(sandbox / _ENDED_IN))}"
    printed = execute(["bash", "-xeuo", "pipefail", "-c", "\n".join([*commands, end])], block, sandbox)
    for line in commands:
        output = re.search(r"^detectime run (?!.*--dry-run).*--output (\S+)", line)
        if output and "://" not in output[1]:
            samples = find_folder(sandbox) / output[1] / "hands.json"
            assert json.loads(samples.read_text()), f"{block.name}: no samples: {line}"
    return printed


_ENDED_IN = ".ended_in"


def find_folder(sandbox: Path) -> Path:
    """Return the folder in which the last shell block ended."""
    return Path((sandbox / _ENDED_IN).read_text().strip()) if (sandbox / _ENDED_IN).exists() else sandbox


def run_script(block: Block, sandbox: Path) -> str:
    """Run a Python block as a script, or only compile it if it is a module that others use."""
    compile(block.code, block.name, "exec")
    if block.saved_as:
        return ""
    folder = find_folder(sandbox)
    (folder / "script.py").write_text(block.code)
    if not (folder / "out").exists() and 'open_run("out")' in block.code and "detect_frames" not in block.code:
        pytest.fail(f"{block.name}: no block before it makes the run")
    return execute([sys.executable, "script.py"], block, sandbox)


def execute(command: list[str], block: Block, sandbox: Path) -> str:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=find_folder(sandbox), env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{block.name}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def check_yaml(block: Block, sandbox: Path) -> str:
    """Load a configuration, or a part of one."""
    (sandbox / "block.yml").write_text(block.code)
    parameters = {"images": "frames", "labels": "labels.csv", "output": "out"}
    content = configuration._read_file(sandbox / "block.yml")
    if "labels" not in content:
        (sandbox / "block.yml").write_text(f"{block.code}labels: {{ok: 1, mute: 2}}\n")
    config = configuration.load_config(sandbox / "block.yml", parameters)
    given = [f"{section}.{key}" for section in set(content) & set(configuration.SECTIONS) for key in content[section]]
    assert all(config.is_explicit(key) for key in given), f"{block.name}: a value is its default"
    return ""


def check_csv(block: Block, sandbox: Path) -> str:
    header, *rows = csv.reader(block.code.splitlines())
    assert rows
    assert {len(row) for row in rows} == {len(header)}
    return ""


def check_json(block: Block, sandbox: Path) -> str:
    (sample,) = json.loads(block.code)
    made = json.loads((make_run(sandbox) / "hands.json").read_text())[0]
    assert {key: type(value) for key, value in sample.items()} == {key: type(value) for key, value in made.items()}
    assert list(sample) == list(made)
    return ""


def make_run(sandbox: Path) -> Path:
    """Run detection and pairing on the frames of the sandbox; return the folder of the run."""
    output = sandbox / "made"
    places = {"images": sandbox / "frames", "labels": sandbox / "labels.csv", "output": output}
    config = configuration.load_config(
        paths.CONFIG, {**{name: str(path) for name, path in places.items()}, "workers": 1}
    )
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes, config.selection.limit)
    run.detect_frames(table, source, config, str(output))
    outcomes.pair_run(runs.open_run(output))
    return output


CHECKS = {"sh": run_commands, "python": run_script, "yaml": check_yaml, "csv": check_csv, "json": check_json}


def test_code_blocks_have_a_known_language() -> None:
    assert {block.language for block in BLOCKS} <= set(CHECKS)
    assert all(block.language == "sh" for block in NOT_RUN)


def test_most_code_blocks_are_run() -> None:
    assert len(RUN) >= 25
    assert len(NOT_RUN) <= len(RUN) / 2


# -- what is not run


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.name)
def test_blocks_that_are_not_run(block: Block) -> None:
    """Their commands and options exist, and so does what tries them instead."""
    for line in block.commands:
        check_command(shlex.split(line, comments=True))
    for where in block.comment.partition("; tried by ")[2].split(", "):
        if where.startswith("`make "):
            assert where.strip("`").removeprefix("make ") in list_targets()
        elif where != "hand":
            assert (ROOT / where.removeprefix("see ")).is_file(), where


def check_command(words: list[str]) -> None:
    name, *rest = words
    match name.removeprefix(".venv-all/bin/").removeprefix(".venv/bin/"):
        case "detectime":
            given = cli._parse(rest)
            if rest[0] == "run":
                values = {key: value for key in configuration.PARAMETERS if (value := getattr(given, key)) is not None}
                configuration.load_config(paths.CONFIG, values)
        case "make":
            assert set(rest) <= list_targets()
        case "pip":
            assert rest[0] == "install"
            check_installed(rest[1:])
        case "python":
            assert rest[0] == "-m"
            assert importlib.util.find_spec(rest[1])
            if rest[1] == "benchmarks.training" and importlib.util.find_spec("torch") is None:
                source = (ROOT / "benchmarks" / "training.py").read_text(encoding="utf-8")
                assert list_options(rest[2:]) <= set(re.findall(r"--[a-z]+", source))  # its help needs torch
            else:
                assert list_options(rest[2:]) <= read_help(sys.executable, "-m", rest[1])
        case "papermill":
            notebook = json.loads((ROOT / rest[0]).read_text(encoding="utf-8"))
            cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
            accepted = re.findall(r"^(\w+): ", cells[0], re.MULTILINE)
            assert {name for flag, name in itertools.pairwise(rest) if flag == "-p"} <= set(accepted)
        case "cd" | "mkdir" | ".":
            pass
        case "./download_data.sh":
            assert list_options(rest) <= read_help(name)
        case _:
            pytest.fail(f"{words}: this test does not know the command")


def check_installed(names: list[str]) -> None:
    """Check what pip is asked to install: the wheel of this version, or the clone, with extras that exist."""
    while names:
        name = names.pop(0)
        if name == "-c":
            assert (ROOT / names.pop(0)).is_file()
        elif name != "-e":
            place, _, extras = name.partition("[")
            assert re.sub(r"^(/path/to/clone/)?dist/", "", place) in (
                ".",
                f"detectime-{detectime.__version__}-py3-none-any.whl",
            )
            assert set(filter(None, extras.removesuffix("]").split(","))) <= set(PROJECT["optional-dependencies"])


def list_options(words: Iterable[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if re.match("--[a-z]", word)}


@cache
def read_help(*command: str) -> set[str]:
    """Return the options that the help of a command names."""
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return set(re.findall(r"--[a-z][a-z-]*", done.stdout))


@cache
def list_targets() -> set[str]:
    """Return the targets of the Makefile that ``make help`` lists."""
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^([a-z-]+) ", done.stdout, re.MULTILINE))


# -- names in the text


def list_inline_code(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def get_commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the subcommands."""
    for action in cli.build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError


def list_all_options() -> set[str]:
    return list_options_of(cli.build_parser())


def list_options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a parser, of its subcommands, and of theirs."""
    options = {option for action in parser._actions for option in action.option_strings}
    nested = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return options.union(*(list_options_of(found) for choices in nested for found in choices.values()))


def find_wrong_names(page: Path) -> list[str]:
    """Return commands, options, targets and files in the text of a page that do not exist."""
    options = list_all_options() | read_help(sys.executable, "-m", "benchmarks") | read_help("./download_data.sh")
    wrong = []
    for code in list_inline_code(page):
        if code in list_told_messages():
            continue
        words = re.sub(r"[\[\]…|]", " ", code).split()
        first = words[0] if words else ""
        if first == "detectime" and words[1:] and words[1] not in (*get_commands(), "COMMAND", "--version"):
            wrong.append(code)
        if first == "make" and not set(words[1:2]) <= list_targets():
            wrong.append(code)
        if (first == "detectime" or first.startswith("--")) and not list_options(words) <= options:
            wrong.append(code)
        if re.fullmatch(r"(docs|notebooks|tools|benchmarks|tests)/[\w./-]+\.\w+", code) and not (ROOT / code).exists():
            wrong.append(code)
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_the_text_exist(page: Path) -> None:
    assert find_wrong_names(page) == []


def test_wrong_names_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`detectime rn`, `--limits 3`, `make nothing`, `tests/no.py`, but `detectime run … --limit 3`\n")
    assert find_wrong_names(page) == ["detectime rn", "--limits 3", "make nothing", "tests/no.py"]


def make_anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")


def find_dead_links(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if not target.exists() or (
            anchor and anchor not in map(make_anchor, re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE))
        ):
            yield link


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(find_dead_links(page)) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# A `key`, or 2\n[a](#a-key-or-2) [b](#no) [c](no.md) [d](page.md#a-key-or-2)")
    assert list(find_dead_links(tmp_path / "page.md")) == ["#no", "no.md"]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in DOCS if page.name != "README.md" and f"({page.name})" not in index] == []


# -- the README


def test_the_readme_takes_three_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def read_cells(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its header."""
    text = page.read_text(encoding="utf-8").partition(f"{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table, f"{page}: no table below {heading}"
    rows = [[cell.strip(" *") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[0].splitlines()]
    return rows[2:]


def read_measured(heading: str) -> list[list[str]]:
    return read_cells(ROOT / "benchmarks" / "RESULTS.md", heading)


QUALITY = {"HaGRID": "### HaGRID, 48 frames", "webcam": "### webcam, 120 frames", "sample": "### sample, 108 frames"}


@pytest.mark.parametrize(
    ("page", "heading", "data_sets", "rows"),
    [
        ("README.md", "## How good it is", ["HaGRID", "webcam"], [2, 3, 1, 5, 6]),
        ("docs/benchmarks.md", "## Quality", ["HaGRID", "webcam", "sample"], range(7)),
    ],
)
def test_quality_is_what_was_measured(page: str, heading: str, data_sets: list[str], rows: Iterable[int]) -> None:
    shown = read_cells(ROOT / page, heading)
    assert len(shown) == len(list(rows))
    for column, data_set in enumerate(data_sets, start=1):
        measured = read_measured(QUALITY[data_set])
        for cells, row in zip(shown, rows, strict=True):
            _, _, _, correct, wrong, _, mean_iou = measured[row]
            first, second, third = cells[column].split(" · ")
            assert (first, second) == (correct, wrong), cells
            assert float(third) == pytest.approx(float(mean_iou), abs=0.0051), cells


@pytest.mark.parametrize(("page", "heading"), [("README.md", "## How fast it is"), ("docs/benchmarks.md", "## Speed")])
def test_speed_is_what_was_measured(page: str, heading: str) -> None:
    measured = read_measured("### 103 frames, enlarged to a longer side of 1280: total including reading, one thread")
    expected = [round(float(row[1].split()[0])) for row in measured[2:6]]
    assert [int(cells[1]) for cells in read_cells(ROOT / page, heading)[:4]] == expected


# -- the reference pages


def test_the_configuration_page_is_that_of_the_code() -> None:
    """Run ``python -m tools.document_keys`` after a change of a key."""
    page = document_keys.PAGE.read_text()
    assert document_keys.update_page(page) == page
    shown = {code for code in list_inline_code(document_keys.PAGE) if re.fullmatch(r"\w+", code)}
    assert set(configuration.PARAMETERS) <= shown
    for section, kind in configuration.SECTIONS.items():
        told = [cells[0].strip("`") for cells in read_cells(document_keys.PAGE, f"## Section `{section}`")]
        assert sorted(told) == sorted(field.name for field in dataclasses.fields(kind))


@pytest.mark.parametrize(
    ("key", "accepted", "refused"),
    [
        ("limit", [1, None], [0]),
        ("face_confidence", [1.0, 0.001], [0.0, 1.001]),
        ("near_coefficient", [0.0, 100.0], [-0.1, 100.1]),
        ("samples_per_class", [0, 100], [-1, 101]),
        ("exif", ["apply", "ignore"], ["null"]),
        ("redetect", [False, True, "changed"], ["all"]),
    ],
)
def test_what_the_configuration_page_says_is_accepted(key: str, accepted: list[Any], refused: list[Any]) -> None:
    shown = {
        "limit": "1 or more; `null`",
        "face_confidence": "over 0, up to 1",
        "near_coefficient": "0 to 100",
        "samples_per_class": "0 to 100",
        "exif": "`apply`, `ignore`",
        "redetect": "`false`, `true`, `changed`",
    }
    cells = read_cells(document_keys.PAGE, f"## Section `{configuration.PARAMETERS[key]}`")
    assert next(row[2] for row in cells if row[0] == f"`{key}`") == shown[key]
    for value in accepted:
        configuration.load_config(paths.CONFIG, {key: value})
    for value in refused:
        with pytest.raises(configuration.ConfigError):
            configuration.load_config(paths.CONFIG, {key: value})


COMMAND_LINE = ROOT / "docs" / "command-line.md"


def test_every_command_and_option_is_documented() -> None:
    page = COMMAND_LINE.read_text()
    table = [cells[0].strip("`").split()[1] for cells in read_cells(COMMAND_LINE, "# The command `detectime`")]
    assert sorted(table) == sorted(get_commands())
    keys = {f"--{name}" for name in configuration.PARAMETERS} | {
        f"--{name.replace('_', '-')}" for name in configuration.PARAMETERS
    }
    assert {"--dry-run", "--to", "--config"} <= list_all_options() - keys
    named = set(re.findall(r"(?<![\w-])--[a-z-]*", page)) | {"-h"}
    assert list_all_options() - keys - named == set()
    groups = [group.title for group in get_commands()["run"]._action_groups[2:]]
    assert len(groups) == 1 + len(configuration.SECTIONS)
    assert [title for title in groups if title and f'"{title}"' not in page] == []


def test_every_extra_and_environment_variable_is_documented() -> None:
    extras = {name for cells in read_cells(COMMAND_LINE, "## Extras") for name in re.findall(r"`(\w+)`", cells[0])}
    assert extras == set(PROJECT["optional-dependencies"]) - FOR_DEVELOPERS
    code = "\n".join(path.read_text() for path in (ROOT / "detectime").rglob("*.py"))
    used = set(re.findall(r"\"(DETECTIME_[A-Z]+)\"", code)) - {"DETECTIME_PROGRESS"}  # between its own processes
    told = {cells[0].strip("`") for cells in read_cells(COMMAND_LINE, "## Environment variables")}
    assert told == used


TABLES = ROOT / "docs" / "tables.md"


def list_told(heading: str) -> set[str]:
    return {name for cells in read_cells(TABLES, heading) for name in re.findall(r"`(\w+)`", cells[0])}


def test_every_outcome_is_documented() -> None:
    shown = read_cells(TABLES, "## Outcomes")
    made = [[f"`{one.value}`", one.sentence, "yes" if one.is_sample else ""] for one in schema.Outcome]
    assert shown == made


@pytest.mark.slow
def test_every_column_is_documented(sandbox: Path) -> None:
    output = make_run(sandbox)
    frames = set(pq.read_schema(output / "frames.parquet").names)
    assert list_told("## `frames.parquet`") == frames | {schema.TRUTH}
    assert list_told("## `detections.parquet`") == set(schema.DETECTIONS.names)
    outcome = set(pq.read_schema(output / "outcomes.parquet").names)
    assert list_told("## `outcomes.parquet` and `outcomes.csv`") == outcome - frames
    with (output / "outcomes.csv").open() as file:
        assert set(next(csv.reader(file))) == outcome
    assert list_told("## `hands.json`") == set(json.loads((output / "hands.json").read_text())[0])
    assert list_told("## `run.json`") == set(json.loads((output / "run.json").read_text()))
    told = [cells[0] for cells in read_cells(TABLES, "# Files of a run, and their columns")]
    made = {path.name for path in output.iterdir() if not path.name.startswith(".")}
    later = {"report.ipynb", "report.html", "label_check.parquet"}
    assert set(re.findall(r"`([\w.]+)/?`", " ".join(told))) == made | later


# -- messages

TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"


def list_told_messages() -> list[str]:
    text = TROUBLESHOOTING.read_text()
    return [match[1] for match in re.finditer(r"^\| `([^`]+)` \|", text, re.MULTILINE)]


@cache
def list_templates() -> list[str]:
    """Return all texts in the code of the package and of the notebooks, with … for what is filled in."""
    codes = [path.read_text(encoding="utf-8") for path in (ROOT / "detectime").rglob("*.py")]
    for notebook in paths.NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        sources_ = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        codes += [re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code) for code in sources_]
    nodes = [node for code in codes for node in ast.walk(ast.parse(code))]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    found = []
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
    return found


def is_in_the_code(message: str) -> bool:
    pattern = re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)
    return any(pattern.fullmatch(template) for template in list_templates())


def test_every_message_is_one_of_the_code() -> None:
    messages = list_told_messages()
    assert len(messages) >= 30
    assert [message for message in messages if len(message.replace("…", "")) < 15] == []
    assert [message for message in messages if not is_in_the_code(message)] == []


def test_a_message_of_no_code_is_found() -> None:
    assert is_in_the_code("…: this run is not finished; run it again to resume it")
    assert not is_in_the_code("…: this run is not finished; run it once more")
