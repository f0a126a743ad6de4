"""The command `detectime`, as a person at a terminal sees it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from faults import list_stored_files, read_process_state, wait_until
from finished_runs import write_notebook

import detectime
from detectime import config, outcomes, paths, runs
from detectime.cli import main as cli
from detectime.cli.key_help import read_key_help
from detectime.cli.projects import init_project

COMMAND = [sys.executable, "-m", "detectime"]
SAMPLE = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv"}
RESULT = "100 of 108 gesture frames have a sample; 8 no_hand"


def make_command(name: str, *arguments: object, **options: object) -> list[str]:
    given = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    return [*COMMAND, name, *map(str, arguments), *given]


def execute(
    name: str, *arguments: object, cwd: Path, variables: dict[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    command = make_command(name, *arguments, **options)
    environment = {**os.environ, **(variables or {})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200, check=False)


def read_last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


# -- the command line


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in ((["--help"], "init lab demo run report info"), (["--version"], detectime.__version__)):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        shown = capsys.readouterr().out
        assert all(re.search(rf"\b{re.escape(word)}\b", shown) for word in expected.split())


def test_help_of_run_lists_each_parameter_by_section_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for section, kind in config.SECTIONS.items():
        assert f"{section} of config.yml" in shown
        for name in config.list_field_names(kind):
            assert f"--{name.replace('_', '-')} " in shown
            assert " ".join(read_key_help()[f"{section}.{name}"].split()) in shown
    assert "(default: 1.5)" in shown
    assert "(default: mediapipe)" in shown


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("--limit", "5", 5),
        ("--limit=5", None, 5),
        ("--crop-coefficient", "2", 2),
        ("--crop_coefficient", "2.5", 2.5),
        ("--classes", "stop,ok", "stop,ok"),
        ("--classes", "no", "no"),
        ("--images", "123", "123"),
        ("--mask-rcnn-resize", "2021", "2021"),
        ("--every", "0.5 s", "0.5 s"),
        ("--every", "10", 10),
        ("--retry-failed", None, True),
        ("--retry-failed", "False", False),
        ("--redetect", "changed", "changed"),
        ("--quality", "best", "best"),
        ("--quality", "null", "null"),
        ("--redetect", "true", True),
        ("--min-hand-score", "null", "null"),  # no value, where None would mean that it is not given
        ("--min-hand-score", "none", "null"),
        ("--quality", "none", "null"),
        ("--fallback", "none", "none"),  # the word of this key
        ("--fallback", "wider", "wider"),
        ("--fallback", "null", "null"),
        ("--detector-settings", '{"a:b": {"c": 1}}', {"a:b": {"c": 1}}),
        ("--limit", "five", "five"),  # the configuration says what is accepted
    ],
)
def test_a_value_has_the_type_of_its_key(option: str, text: str | None, value: Any) -> None:
    parsed = cli._parse(["run", option, *([] if text is None else [text])])
    name = option.partition("=")[0].removeprefix("--").replace("-", "_")
    found = getattr(parsed, name)
    assert (found, type(found)) == (value, type(value))


def test_the_fallback_none_of_the_command_line_is_that_of_the_configuration() -> None:
    given = {"fallback": cli._parse(["run", "--fallback", "none"]).fallback}
    assert config.load_config(None, given).pairing.fallback == "none"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["rnu"], "invalid choice: 'rnu'"),
        ([], "the following arguments are required: COMMAND"),
        (
            ["run", "--crop-coeficient", "2"],
            "--crop-coeficient: there is no such option; did you mean --crop-coefficient?",
        ),
        (["run", "--crop", "2"], "--crop: there is no such option"),
        (["run", "frames"], "frames: unexpected"),
        (["run", "--limit"], "argument --limit: expected one argument; see detectime run --help"),
        (["run", "--limit", "0", "--images", "a", "--labels", "b"], "--limit = 0: accepted: at least 1"),
        (
            ["run", "--classes", "stop,stp", "--images", "a", "--labels", "b"],
            "--classes: 'stp' is not a label",
        ),
        (["run", "--notebook", "nowhere.ipynb"], "nowhere.ipynb: no such file"),
        (["run", "--config", "nowhere.yml"], "nowhere.yml: the configuration cannot be read"),
        (["init"], "the following arguments are required: DIR"),
        (["info", "a", "b"], "b: unexpected"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_status_2_and_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("detectime: ")
    assert reason in line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["info", "nowhere"], "nowhere: there is no such folder; give the `output` of a run"),
        (["info", str(paths.SAMPLE)], "there is no run in this folder (run.json is missing)"),
        (["report", "nowhere"], "nowhere: there is no such folder; pass the `output` of a run"),
        (
            ["report", str(paths.NOTEBOOKS / "a.ipynb")],
            "notebooks: there is no run in this folder (run.json is missing)",
        ),
        (["init", str(paths.CONFIG)], "config.yml: this is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_ends_with_status_1_and_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("detectime: ")
    assert reason in line


def test_without_data_the_demo_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path.resolve()}/data/INPUT_DATA/train.csv: no such file" in line
    assert "pass --images and --labels" in line
    assert "`detectime demo` runs" in line


def test_init_prints_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", str(tmp_path / "p")]) == 0
    *written, last = capsys.readouterr().out.splitlines()
    assert all(Path(path).is_file() for path in written)
    assert f"detectime lab {tmp_path}/p" in last
    assert cli.main(["init", str(tmp_path / "p")]) == 1


# -- a run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Run `detectime demo` in an empty folder."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, execute("demo", cwd=folder)


@pytest.mark.slow
def test_demo_ends_with_its_result(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = demo
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == RESULT
    assert re.search(r"^frames: 100% 108/108 \[.*frame/s\]$", done.stdout, re.MULTILINE)
    output = folder / "reports" / "demo"
    tables = {"frames.parquet", "detections.parquet", "outcomes.parquet", "outcomes.csv"}
    assert list_stored_files(output) == {"hands.json", "run.json", "report.ipynb", "report.html", *tables}
    assert [path.name for path in folder.iterdir()] == ["reports"]


@pytest.mark.slow
def test_the_result_is_computed(demo: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    shutil.copytree(demo[0] / "reports" / "demo", tmp_path / "run")
    run = runs.open_run(tmp_path / "run")
    assert outcomes.summarize_samples(run.outcomes) == RESULT
    assert len(json.loads((tmp_path / "run" / "hands.json").read_text())) == 100
    short = write_notebook(tmp_path / "short.ipynb")
    done = execute("run", cwd=tmp_path, notebook=short, output="run", classes="stop,ok,no_gesture", **SAMPLE)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d\d of 48 wanted frames have a sample; .*\d no_hand", done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_info_says_what_the_folder_holds(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    done = execute("info", demo[0] / "reports" / "demo", cwd=demo[0])
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "finished 20",
        RESULT,
        "108 ok",
        "quality    balanced",
        "retinaface (revision",
        "hands.json",
        "in all",
        "no_gesture are left",
    ):
        assert text in done.stdout
    assert str(paths.SAMPLE / "train.csv") in done.stdout


@pytest.mark.slow
def test_report_writes_a_page_into_the_run_or_elsewhere(
    demo: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(demo[0] / "reports" / "demo", output)
    assert execute("report", output, cwd=tmp_path).stdout.splitlines()[-1] == str(output / "report.html")
    done = execute("report", "run/report.ipynb", cwd=tmp_path, to="page.html")
    assert done.stdout.splitlines()[-1] == "page.html"
    assert b"100 samples" in (tmp_path / "page.html").read_bytes()
    assert (output / "report.html").read_bytes() == (tmp_path / "page.html").read_bytes()
    command = [sys.executable, "-m", "detectime.report", "run/report.ipynb", "c.html"]  # as in scripts of 0.2
    subprocess.run(command, cwd=tmp_path, check=True)
    assert b"100 samples" in (tmp_path / "c.html").read_bytes()


@pytest.mark.slow
def test_a_run_in_a_project_uses_its_notebook_and_configuration(tmp_path: Path) -> None:
    init_project(tmp_path)
    notebook = tmp_path / "notebooks" / paths.DATA_LOADER
    write_notebook(notebook, 'print("my own cell", settings.pairing.crop_coefficient)')
    text = (tmp_path / "config.yml").read_text()
    (tmp_path / "config.yml").write_text(text.replace("\n  crop_coefficient: 1.5", "\n  crop_coefficient: 1.75"))
    os.symlink(SAMPLE["images"], tmp_path / "frames")
    shutil.copy(SAMPLE["labels"], tmp_path / "labels.csv")
    done = execute("run", cwd=tmp_path, images="frames", labels="labels.csv", output="out", limit=10)
    assert done.returncode == 0, done.stderr
    executed = (tmp_path / "out" / "report.ipynb").read_text()
    assert "my own cell 1.75" in executed
    assert '"name": "python3"' in executed  # the kernel of the run is no business of whoever opens it
    assert "out of 10" not in done.stdout
    assert re.match(r"\d+ of 10 gesture frames have a sample", done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_one_folder_per_class_is_enough(tmp_path: Path) -> None:
    """Without a csv, and with classes that are numbered in the order of their names; a class keeps its number."""
    (tmp_path / "auto.yml").write_text("labels: auto\n")
    given = {"config": "auto.yml", "labels_type": "folders", "notebook": write_notebook(tmp_path / "short.ipynb")}

    def run_folders(*classes: str) -> tuple[dict[str, int], list[dict[str, Any]]]:
        for name in classes:
            (tmp_path / "pictures" / name).mkdir(parents=True)
            for number in (1, 2):
                file = SAMPLE["images"] / f"{name}_01" / f"{number:04}.jpg"
                shutil.copy(file, tmp_path / "pictures" / name / f"anna_{number:04}.jpg")
        done = execute("run", cwd=tmp_path, images="pictures", output="out", **given)
        assert done.returncode == 0, done.stderr
        assert "1 group by the beginning of the file names" in done.stdout
        labels: dict[str, int] = json.loads((tmp_path / "out" / "run.json").read_text())["configuration"]["labels"]
        return labels, json.loads((tmp_path / "out" / "hands.json").read_text())

    labels, hands = run_folders("ok", "stop")
    assert labels == {"ok": 0, "stop": 1}
    assert {hand["video_name"] for hand in hands} == {"anna"}
    assert {(hand["frame_path"].split("/")[0], hand["label"]) for hand in hands} <= set(labels.items())
    assert run_folders("like")[0] == {"ok": 0, "stop": 1, "like": 2}


@pytest.mark.slow
def test_dry_run_writes_nothing_and_estimates(tmp_path: Path, demo: tuple[Path, Any]) -> None:
    done = execute("run", "--dry-run", cwd=tmp_path, output="out", **SAMPLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    for text in (
        "120 frames, 108 wanted",
        "quality   balanced",
        "detectors retinaface, mediapipe",
        "pending   108 frames; 0 are done",
        "on 20 of them",
        "Nothing was written.",
    ):
        assert text in done.stdout
    assert re.search(r"^dislike +6 +2 +18 +0 +18$", done.stdout, re.MULTILINE)
    (size,) = re.findall(r"disk +about ([\d.]+) kB", done.stdout)
    finished = demo[0] / "reports" / "demo"
    names = ("detections.parquet", "frames.parquet", "outcomes.parquet", "outcomes.csv", "hands.json")
    actual = sum((finished / name).stat().st_size for name in names) / 1000
    assert 0.5 * actual < float(size) < 2 * actual
    again = execute("run", "--dry-run", cwd=tmp_path, output=finished, **SAMPLE)
    assert "pending   0 frames; 108 are done" in again.stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"labels": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"images": "nowhere"}, "nowhere: the images folder cannot be read"),
        ({"labels": paths.CONFIG}, "no annotations were recognised here; accepted: a csv"),
        ({"labels": "../other.csv"}, "the column frame_path is missing"),
    ],
    ids=["labels", "images", "configuration", "columns"],
)
def test_a_dry_run_tells_a_documented_error_in_one_line(
    options: dict[str, object],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path.parent / "other.csv").write_text("name,class_name\na.jpg,ok\n")
    monkeypatch.chdir(tmp_path)
    arguments = make_command("run", "--dry-run", **{**SAMPLE, "output": "out", **options})[len(COMMAND) :]
    assert cli.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_documented_error_of_the_notebook_is_one_line(tmp_path: Path) -> None:
    done = execute("run", cwd=tmp_path, **{**SAMPLE, "output": "out", "labels": "nowhere.csv"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "nowhere.csv: no such file" in line
    assert list_stored_files(tmp_path) <= {"out/.lock"}


@pytest.mark.slow
def test_a_bug_shows_its_traceback_and_ends_with_its_reason(tmp_path: Path) -> None:
    mine = write_notebook(tmp_path / "mine.ipynb", "1 / len([])")
    done = execute("run", cwd=tmp_path, notebook=mine, output="out", limit=3, **SAMPLE)
    assert done.returncode == 1
    assert read_last_line(done) == "detectime: ZeroDivisionError: division by zero"
    assert "Traceback (most recent call last)" in done.stderr
    assert (tmp_path / "out" / "report.failed.ipynb").is_file()
    assert not (tmp_path / "out" / "report.ipynb").exists()


@pytest.mark.slow
def test_a_kernel_that_dies_is_told(tmp_path: Path) -> None:
    mine = write_notebook(tmp_path / "mine.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = execute("run", cwd=tmp_path, notebook=mine, output="out", limit=3, **SAMPLE)
    assert done.returncode == 1
    assert "the notebook's kernel died" in read_last_line(done)


@pytest.mark.slow
@pytest.mark.large
def test_a_kernel_of_another_environment_is_not_used(tmp_path: Path) -> None:
    """A user may have installed a kernel of the name that the notebook states."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    wrong = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(wrong))
    variables = {"JUPYTER_PATH": str(tmp_path / "jupyter"), "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    short = write_notebook(tmp_path / "short.ipynb")
    done = execute("run", cwd=tmp_path, variables=variables, notebook=short, output="out", limit=3, **SAMPLE)
    assert done.returncode == 0, done.stderr


# -- a long run


@contextlib.contextmanager
def run_slowly(folder: Path, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run of the sample, whose frames are read slowly, as a person does: in a session of its own."""
    content = nbformat.read(paths.NOTEBOOKS / paths.DATA_LOADER, as_version=4)
    slow = (
        "import time\nfrom detectime.detection.engines import local\n_run = local.run_shards\n"
        "def _slow(*a, **k):\n    for r in _run(*a, **k):\n        time.sleep(0.4)\n        yield r\n"
        "local.run_shards = _slow"
    )
    content.cells.insert(1, nbformat.v4.new_code_cell(slow))
    nbformat.write(content, folder / "slow.ipynb")
    command = make_command("run", notebook="slow.ipynb", output="out", workers=1, save_per_num_images=5, **SAMPLE)
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, **streams)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def list_descendants(parent: int) -> set[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, pending = set(), [parent]
    while pending:
        children = parents.get(pending.pop(), [])
        found |= set(children)
        pending += children
    return found


def count_shards(folder: Path) -> int:
    return len(list((folder / "out" / "shards").glob("*.parquet"))) if (folder / "out").exists() else 0


@pytest.mark.slow
def test_a_person_sees_frames_rate_and_time_left(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a new terminal has no width
    with run_slowly(tmp_path, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end and not re.search(rb"frames: +[1-9]\d?%", shown):
            if select.select([master], [], [], 0.5)[0]:
                shown += os.read(master, 65536)
        assert process.poll() is None
    os.close(master)
    state = shown.decode().split("\r")[-1]
    assert re.search(r"frames: +\d+%\|.*\| \d+/108 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+\w+/\w+\]", state), state


@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_no_process_and_resumes(tmp_path: Path, demo: Any) -> None:
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):  # each resumes what the one before it stopped
        done_before = count_shards(tmp_path)
        with run_slowly(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            wait_until(lambda enough=done_before + 2: count_shards(tmp_path) >= enough, limit=120)
            descendants = list_descendants(process.pid)
            assert len(descendants) >= 3  # papermill, the kernel, a worker
            process.send_signal(stop)
            _, errors = process.communicate(timeout=60)
            if stop is not signal.SIGKILL:
                assert process.returncode == 130
                (line,) = errors.decode().splitlines()
                assert "interrupted; nothing that was saved is lost" in line
            wait_until(lambda ended=descendants: all(read_process_state(one) in ("", "Z") for one in ended))
    done = execute("info", "out", cwd=tmp_path)
    assert "not finished: run it again to resume it" in done.stdout
    assert re.search(r"[1-9]\d* of 120 rows of the frame table have a saved result", done.stdout)
    short = write_notebook(tmp_path / "short.ipynb")
    done = execute("run", cwd=tmp_path, notebook=short, output="out", **SAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == RESULT
    expected = demo[0] / "reports" / "demo" / "hands.json"
    assert (tmp_path / "out" / "hands.json").read_bytes() == expected.read_bytes()


@pytest.mark.slow
@pytest.mark.large
def test_a_threshold_is_taken_back_and_the_page_is_not_left_behind(
    demo: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    shutil.copytree(demo[0] / "reports" / "demo", tmp_path / "out")
    given = SAMPLE | {"output": "out", "notebook": write_notebook(tmp_path / "short.ipynb")}
    done = execute("run", cwd=tmp_path, min_hand_score=0.99, **given)
    assert done.returncode == 0, done.stderr
    fewer = done.stdout.splitlines()[-1]
    assert fewer != RESULT
    assert f"{fewer.split()[0]} samples" in (tmp_path / "out" / "report.html").read_text()
    done = execute("run", cwd=tmp_path, **given)
    assert done.stdout.splitlines()[-1] == fewer
    assert (
        "pairing.min_hand_score = 0.99 (given as an option or a parameter, another value replaces it, also `null`"
        in (tmp_path / "out" / "report.ipynb").read_text()
    )
    done = execute("run", cwd=tmp_path, min_hand_score="null", **given)
    assert done.stdout.splitlines()[-1] == RESULT


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m detectime run --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("usage: detectime run")


def test_a_csv_with_another_class_names_the_remedy_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.csv"
    rows = [f"stop_01/{n:04}.jpg,v,{n},thumb" for n in range(1, 10)]
    labels.write_text("frame_path,video_name,frame_id,class_name\n" + "\n".join(rows) + "\n")
    arguments = ["run", "--dry-run", "--images", str(SAMPLE["images"]), "--labels", str(labels), "--output", "out"]
    assert cli.main(arguments) == 1
    *details, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"detectime: {labels}: 9 rows are wrong; the first is row 1: the class_name is not a label;")
    assert "or add it to `labels` in config.yml" in last
    assert len(details) == 10
    assert sum("accepted" in line for line in details) == 1


@pytest.mark.parametrize("dry", [False, True], ids=["run", "dry run"])
def test_truth_that_is_not_there_is_refused_before_work_starts(
    dry: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--images", str(SAMPLE["images"]), "--labels", str(SAMPLE["labels"]), "--output", str(tmp_path / "out")]
    assert cli.main(["run", *given, "--truth", "nope.json", *(["--dry-run"] if dry else [])]) == 2
    assert "nope.json': there is no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
