"""download_data.sh, in real shells with real programs, and a real HTTP server."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from serving import Server, serve_file
from test_unpack import make_archive

import definitions

pytestmark = pytest.mark.slow  # each starts programs


def make_frames(video: str, count: int = 3, size: int = 100_000) -> dict[str, bytes]:
    random = np.random.default_rng(len(video))
    return {f"{video}/{number:04}.jpg": random.bytes(size) for number in range(count)}


CSV = b"video_name,frame_id,class_name,frame_path\nstop_1,1,stop,stop_1/0001.jpg\n"
STOP, OK = make_frames("stop_1"), make_frames("видео ok", 4)
ZIP1, ZIP2 = make_archive(STOP), make_archive({f"train_data2/{name}": frame for name, frame in OK.items()})
FILES = {"train.csv": CSV, "train_data1.zip": ZIP1, "train_data2.zip": ZIP2}


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve the contest's files."""
    with serve_file(FILES) as started:
        yield started


@dataclass
class Clone:
    """A copy of the files that the script needs, and a server."""

    root: Path
    server: Server
    shell: tuple[str, ...] = ("sh",)

    @property
    def data(self) -> Path:
        return self.root / "data" / "INPUT_DATA"

    def write_list(self, *lines: str) -> None:
        (self.root / "data" / "urls.txt").write_text("\n".join(lines))  # no newline at the end

    def start(self, *options: str, **variables: str) -> subprocess.Popen[str]:
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            [*self.shell, str(self.root / "download_data.sh"), "--base", self.server.address + "/pub", *options],
            cwd=self.root,
            env={**os.environ, "PATH": path, "PYTHON": sys.executable, "no_proxy": "*", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, fails: bool = False, **variables: str) -> str:
        """Run the script and return its output."""
        process = self.start(*options, **variables)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == int(fails), output
        return output

    def read_frames(self) -> dict[str, bytes]:
        folder = self.data / "TRAIN_DATA"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def clone(tmp_path: Path, server: Server) -> Clone:
    """Make a clone in a folder with a blank and an umlaut in its name."""
    for program in ("curl", "flock"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program} is not installed")
    root = tmp_path / "mein Büro"
    for folder in ("bin", "data", "tools"):
        (root / folder).mkdir(parents=True)
    for name in ("download_data.sh", "tools/unpack.py"):
        shutil.copy(definitions.ROOT_DIR / name, root / name)
    for name, script in {"sleep": f"echo $1 >>'{root / 'pauses'}'", "sync": ":"}.items():
        (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (root / "bin" / name).chmod(0o755)
    clone = Clone(root, server)
    clone.write_list(*FILES)
    return clone


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh"])
def test_downloads_everything_and_then_has_nothing_to_do(shell: str, clone: Clone, server: Server) -> None:
    clone.shell = tuple(shell.split())
    if shutil.which(clone.shell[0]) is None:
        pytest.skip(f"the program {clone.shell[0]} is not installed")
    assert clone.run().splitlines()[-1] == f"{clone.data}: every file is complete"
    assert clone.read_frames() == STOP | OK
    assert {path.name for path in (clone.data / "ZIP").iterdir() if not path.name.endswith(".unpacked")} == {*FILES} - {
        "train.csv"
    }
    for path in ("INPUT_DATA", "TRAIN_DATA", "ZIP", "JSON", "TRAIN_CSV"):
        assert (clone.root / getattr(definitions, path).relative_to(definitions.ROOT_DIR)).exists()
    assert (clone.data / "train.csv").read_bytes() == CSV
    count = len(server.asked)
    assert clone.run() == f"{clone.data}: every file is complete\n"
    assert len(server.asked) == count


def test_the_options(clone: Clone, server: Server) -> None:
    options = ["--only", "train_data1.zip", "--only=train.csv", "--delete-archives", "--into", "elsewhere"]
    clone.run(*options)
    assert [path for path, _ in server.asked] == ["/pub/train.csv", "/pub/train_data1.zip"]
    into = clone.root / "elsewhere"
    assert (into / "TRAIN_DATA" / "stop_1" / "0002.jpg").exists()
    assert [path.name for path in (into / "ZIP").iterdir()] == ["train_data1.zip.unpacked"]
    clone.run(*options)
    assert len(server.asked) == 2
    shutil.rmtree(into / "TRAIN_DATA" / "stop_1")
    clone.run(*options)  # deleted frames are downloaded again
    assert len(server.asked) == 3


@pytest.mark.parametrize("ranges", [True, False])
def test_resumes_after_cut_connections(ranges: bool, clone: Clone, server: Server) -> None:
    server.ranges, server.cuts = ranges, [100_000, 0, 150_000, 1] if ranges else [100_000, 200_000]
    clone.run("--only", "train_data1.zip")
    if ranges:
        assert [wanted for _, wanted in server.asked][1:] == [
            f"bytes={start}-" for start in (100_000, 100_000, 250_000, 250_001)
        ]
        assert server.sent == len(ZIP1)
    assert clone.read_frames() == STOP


def test_gives_up_without_progress_and_keeps_the_part(clone: Clone, server: Server) -> None:
    server.cuts = [100_000] + [0] * 20
    output = clone.run("--only", "train_data1.zip", fails=True)
    assert "train_data1.zip: no progress, giving up\nmissing: train_data1.zip;" in output
    server.cuts = []
    clone.run("--only", "train_data1.zip")
    assert server.sent == len(ZIP1)


def test_missing_files_do_not_stop_the_others(clone: Clone, server: Server) -> None:
    clone.write_list("gone.zip", f"{server.address}/other/moved.zip?a=b", *FILES)
    server.statuses = [404, 403, 503, 429]
    output = clone.run(fails=True)
    assert f"gone.zip: HTTP 404 from {server.address}/pub/gone.zip; if the site is gone, set another address" in output
    assert output.splitlines()[-1].startswith("missing: gone.zip moved.zip; ")
    assert [path for path, _ in server.asked[:2]] == ["/pub/gone.zip", "/other/moved.zip?a=b"]
    assert (clone.root / "pauses").read_text().split() == ["1", "2"]
    assert clone.read_frames() == STOP | OK


def test_without_a_connection_the_others_are_tried_once(clone: Clone) -> None:
    shutil.copy(definitions.ROOT_DIR / "data" / "urls.txt", clone.root / "data")
    names = ["train.csv", *(f"train_data{number}.zip" for number in range(1, 10))]
    assert f"missing: {' '.join(names)};" in clone.run("--base", "http://127.0.0.1:9", fails=True)
    assert (clone.root / "pauses").read_text().split() == ["1", "2", "4", "8"]


def flip_bit(content: bytes) -> bytes:
    position = content.index(STOP["stop_1/0001.jpg"]) + 10
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train_data1.zip", ZIP1[:-50_000], ": the archive is damaged: File is not a zip file"),
        ("train_data1.zip", flip_bit(ZIP1), ": the archive is damaged: Bad CRC-32 for file 'stop_1/0001.jpg'"),
        ("train_data1.zip", b"\n<!DOCTYPE html>\x1b[2J", ": not a zip archive, it begins with b'\\n<!DOCTYPE html>"),
        ("train.csv", b"\n<!DOCTYPE html>\x1b[2J", "train.csv: this is a web page"),
        ("train.csv", CSV + b"more", "train.csv: the sha256 is not "),
    ],
    ids=["cut", "bit", "page", "csv page", "hash"],
)
def test_a_damaged_download_is_deleted_and_downloaded_by_the_next_run(
    name: str, content: bytes, reason: str, clone: Clone, server: Server
) -> None:
    clone.write_list("# labels", "", f"train.csv {hashlib.sha256(CSV).hexdigest()}" if "sha256" in reason else name)
    server.content = {name: content}
    output = clone.run(fails=True)
    assert reason in output
    assert f"{name}: the download was deleted; run this again\nmissing: {name};" in output
    assert "\x1b" not in output
    assert [path for path in clone.data.rglob(f"{name}*") if path.is_file()] == []
    server.content = FILES
    clone.run()


@pytest.mark.parametrize("part", [ZIP1, ZIP1 + b"x" * 70_000], ids=["complete", "too long"])
def test_a_part_of_an_earlier_run(part: bytes, clone: Clone, server: Server) -> None:
    (clone.data / "ZIP").mkdir(parents=True)
    (clone.data / "ZIP" / "train_data1.zip.part").write_bytes(part)
    clone.run("--only", "train_data1.zip", fails=part != ZIP1)
    clone.run("--only", "train_data1.zip")
    assert server.sent == (0 if part == ZIP1 else len(ZIP1))
    assert clone.read_frames() == STOP


def test_existing_files_are_used_and_never_replaced(clone: Clone, server: Server) -> None:
    mine = {"train.csv": CSV + b"edited,1,stop,mine/1.jpg\n", "TRAIN_DATA/mine/1.jpg": b"mine"}
    mine |= {"ZIP/train_data1.zip": ZIP1, "ZIP/train_data2.zip": ZIP2[:-1000]}
    for name, content in mine.items():
        (clone.data / name).parent.mkdir(parents=True, exist_ok=True)
        (clone.data / name).write_bytes(content)
    output = clone.run(fails=True)
    assert f"train_data2.zip: to download it again, delete {clone.data / 'ZIP' / 'train_data2.zip'}" in output
    assert server.asked == []
    assert {name: (clone.data / name).read_bytes() for name in mine} == mine
    assert clone.read_frames() == STOP | {"mine/1.jpg": b"mine"}


def test_names_that_leave_the_folder_do_not_stop_the_other_archives(clone: Clone, server: Server) -> None:
    server.content = {**FILES, "up.zip": make_archive({"ok/1.jpg": b"", "../evil": b""})}
    clone.write_list("up.zip", *FILES)
    output = clone.run(fails=True)
    assert "up.zip: refused, nothing was unpacked: its member '../evil' leaves the folder\n" in output
    assert "missing: up.zip; " in output
    assert clone.read_frames() == STOP | OK
    assert list(clone.root.parent.rglob("evil")) == []


@pytest.mark.parametrize("how", ["interrupt", "kill", "kill the shell"])
def test_stopped_while_downloading(how: str, clone: Clone, server: Server) -> None:
    server.pause = 0.1
    process = clone.start("--only", "train_data2.zip")
    part = clone.data / "ZIP" / "train_data2.zip.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
    assert f"{clone.data}: another download_data.sh is running" in clone.run(fails=True)
    if how == "kill the shell":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    output, _ = process.communicate(timeout=20)  # until curl has ended too: it holds the lock
    assert (
        output.endswith("interrupted; run this again to resume\n")
        == (process.returncode == 130)
        == (how == "interrupt")
    )
    clone.run("--only", "train_data2.zip")
    assert server.asked[-1][1] is not None
    assert clone.read_frames() == OK


def test_killed_while_unpacking(clone: Clone, server: Server) -> None:
    many = make_frames("video", 2000, 5000)
    server.content = {"train_data1.zip": make_archive(many)}
    process = clone.start("--only", "train_data1.zip")
    wait_for((clone.data / "TRAIN_DATA" / "video" / "0100.jpg").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    found = {name: frame for name, frame in clone.read_frames().items() if name.endswith(".jpg")}
    assert len(found) < len(many)
    assert found.items() <= many.items()
    clone.run("--only", "train_data1.zip")
    assert len(server.asked) == 1
    assert clone.read_frames() == many


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("file", ["ZIP/train_data1.zip.part", "TRAIN_DATA/stop_1/.part"])
def test_a_full_disk_stops_the_script(file: str, clone: Clone, server: Server) -> None:
    (clone.data / file).parent.mkdir(parents=True)
    (clone.data / file).symlink_to("/dev/full")
    assert clone.run(fails=True).endswith(". Free some space and run this again: it resumes\n")
    assert not any("train_data2" in path for path, _ in server.asked)


def test_invalid_options_are_rejected(clone: Clone, server: Server) -> None:
    for options, message in {
        "--fast": "--fast is not an option; see --help",
        "--into=": "--into needs a value; see --help",
        "--only train.csv,a.zip,b.zip": "urls.txt does not list a.zip b.zip",
        "--base ftp://host": "--base ftp://host is not an http or https address",
    }.items():
        assert message in clone.run(*options.split(), fails=True)
    assert "/no/python is not Python 3.8 or newer; set PYTHON" in clone.run(fails=True, PYTHON="/no/python")
    assert server.asked == []
    assert not clone.data.exists()


def test_invalid_lines_are_rejected(clone: Clone, server: Server) -> None:
    for line in ("../evil.zip", ".lock", "a.zip - -", "two words.zip", "http://host/", "ZIP", "http://host/.."):
        clone.write_list("train.csv", line)
        assert "not a line of NAME or URL, and optionally its sha256" in clone.run(fails=True)
    assert server.asked == []


def test_help_names_every_option(clone: Clone) -> None:
    output = clone.run("--help")
    for option in ("--base URL", "--into DIR", "--only NAME", "--delete-archives", "PYTHON"):
        assert option in output
