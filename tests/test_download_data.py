"""download_data.sh, in real shells with real programs, against a real server that does what servers do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
from conftest import OWN_FOLDERS
from serving import Server

import definitions
import tools.unpack

pytestmark = pytest.mark.slow  # each starts programs

PROGRAMS = "awk cat cut dirname df grep head ls mkdir mv od rm sed sha256sum tr".split()
BLOCK = 1 << 16

each_shell = pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh"])
each_downloader = pytest.mark.parametrize("downloader", ["curl", "wget", "busybox wget"])


def archive(files: dict[str, bytes], change: Callable[[zipfile.ZipFile], object] = lambda _: None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as content:
        for name, frame in files.items():
            content.writestr(zipfile.ZipInfo(name), frame)
        change(content)
    return stream.getvalue()


def frames(video: str, count: int = 3, size: int = 100_000) -> dict[str, bytes]:
    random = np.random.default_rng(len(video))
    return {f"{video}/{number:04}.jpg": random.bytes(size) for number in range(count)}


CSV = b"video_name,frame_id,class_name,frame_path\nstop_1,1,stop,stop_1/0001.jpg\n"
STOP, OK = frames("stop_1"), frames("видео ok", 4)
ZIP1, ZIP2 = archive(STOP), archive({f"train_data2/{name}": frame for name, frame in OK.items()})
FILES = {"train.csv": CSV, "train_data1.zip": ZIP1, "train_data2.zip": ZIP2}
SIZED = [f"{name} {len(content)}" for name, content in FILES.items()]


@dataclass
class File(Server):
    """A file of the site: sent block by block with pauses, or with a silence at its end."""

    pace: float = 0.0
    silence: float = 0.0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        write = request.wfile.write

        def slowly(body: bytes) -> None:
            for start in range(0, len(body), BLOCK):
                write(body[start : start + BLOCK])
                time.sleep(self.pace)

        request.wfile.write = slowly  # type: ignore[method-assign, assignment]
        super().answer(request)
        time.sleep(self.silence)


@dataclass
class Site:
    """Files by their paths; `heads` are those whose size was asked for, and told if `tells`."""

    files: dict[str, File] = field(default_factory=dict)
    tells: bool = True
    heads: list[str] = field(default_factory=list)
    address: str = ""

    def requests(self) -> int:
        return len(self.heads) + sum(len(file.asked) for file in self.files.values())

    def __getitem__(self, name: str) -> File:
        return self.files[f"/pub/{name}"]

    def put(self, name: str, content: bytes) -> None:
        self.files[f"/pub/{name}"] = File(content)


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve the contest's files."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            path = unquote(self.path)
            site.heads.append(path)
            self.send_response(200 if path in site.files else 404)
            if path in site.files and site.tells:
                self.send_header("Content-Length", str(len(site.files[path].content)))
            self.end_headers()

        def do_GET(self) -> None:
            if (file := site.files.get(unquote(self.path))) is None:
                self.send_error(404)
            else:
                with contextlib.suppress(ConnectionError):
                    file.answer(self)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        listening.block_on_close = False
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}).start()
        site.address = f"http://127.0.0.1:{listening.server_port}/pub"
        for name, content in FILES.items():
            site.put(name, content)
        yield site
        listening.shutdown()


@pytest.fixture
def shell() -> str:
    return "sh"


@pytest.fixture
def downloader() -> str:
    return "curl"


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name} here")
    return path


@dataclass
class Clone:
    """A copy of what the script needs, in which it finds the programs of one folder and no others."""

    root: Path
    shell: list[str]
    site: Site

    @property
    def data(self) -> Path:
        return self.root / "data" / "INPUT_DATA"

    @property
    def zips(self) -> Path:
        return self.data / "ZIP"

    @property
    def frames(self) -> Path:
        return self.data / "TRAIN_DATA"

    def list(self, *lines: str) -> None:
        """Write the list; that of a test which counts requests tells sizes, for busybox asks for them by a GET."""
        (self.root / "data" / "urls.txt").write_text("\n".join(lines))

    def fake(self, name: str, script: str) -> None:
        path = self.root / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def start(self, *options: str, stderr: int = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": str(self.root / "bin"),
            "HOME": str(self.root),
            "DETECTIME_BASE": self.site.address,
            "DETECTIME_PATIENCE": "5",
        }
        return subprocess.Popen(
            [*self.shell, str(self.root / "download_data.sh"), *options],
            cwd=self.root,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, fails: bool = False, **variables: str) -> str:
        """Run it, and give what it says."""
        process = self.start(*options, stderr=subprocess.STDOUT, **variables)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == int(fails), said
        assert not (self.data / ".lock").exists()
        return said

    def holds(self, *expected: dict[str, bytes]) -> bool:
        """Whether these frames are there, and no others."""
        found = {str(path.relative_to(self.frames)): path for path in self.frames.rglob("*") if path.is_file()}
        wanted = {name: frame for part in expected for name, frame in part.items()}
        return found.keys() == wanted.keys() and all(path.read_bytes() == wanted[name] for name, path in found.items())


@pytest.fixture
def clone(tmp_path: Path, site: Site, shell: str, downloader: str) -> Clone:
    """Make a clone in a folder whose name has blanks and umlauts."""
    root = tmp_path / "mein Büro"
    for name in ("download_data.sh", "tools/unpack.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(definitions.ROOT_DIR / name, root / name)
    (root / "bin").mkdir()
    (root / "data").mkdir()
    interpreter, *options = shell.split()
    for name in PROGRAMS:
        (root / "bin" / name).symlink_to(program("busybox" if interpreter == "busybox" else name))
    (root / "bin" / downloader.split()[-1]).symlink_to(program(downloader.split()[0]))
    (root / "bin" / "python3").symlink_to(sys.executable)
    clone = Clone(root, [program(interpreter), *options], site)
    clone.fake("sleep", f"echo $1 >>'{root / 'slept'}'")
    clone.fake("sync", ":")  # the disks of everybody else
    clone.list(*FILES)
    return clone


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


# What it brings


@each_downloader
@each_shell
def test_brings_everything_and_then_has_nothing_to_do(clone: Clone, site: Site) -> None:
    assert clone.run().splitlines()[-1] == f"{clone.data}: all is there"
    assert clone.holds(STOP, OK)
    assert (clone.data / "train.csv").read_bytes() == CSV
    assert sorted(path.name for path in clone.data.iterdir()) == ["JSON", "TRAIN_DATA", "ZIP", "train.csv"]
    assert sorted(path.name for path in clone.zips.iterdir()) == [
        *("train_data1.zip", "train_data1.zip.unpacked", "train_data2.zip", "train_data2.zip.unpacked")
    ]
    before = site.requests()
    assert clone.run() == f"{clone.data}: all is there\n"
    assert site.requests() == before


def test_the_folders_are_those_of_definitions(clone: Clone) -> None:
    clone.run()
    for path in ("INPUT_DATA", "TRAIN_DATA", "ZIP", "JSON", "TRAIN_CSV"):
        assert (clone.root / getattr(definitions, path).relative_to(definitions.ROOT_DIR)).exists()


def test_the_shipped_list_is_the_contest_s(clone: Clone) -> None:
    shutil.copy(definitions.ROOT_DIR / "data" / "urls.txt", clone.root / "data")
    said = clone.run("--list", DETECTIME_BASE="")
    names = ["train.csv", *(f"train_data{number}.zip" for number in range(1, 10))]
    address = "https://boosters.pro/api/ch/files/pub"
    assert said == "".join(f"{name}: to be fetched (size unknown, {address}/{name})\n" for name in names)


@each_downloader
def test_names_with_blanks_and_letters_of_the_world(clone: Clone, site: Site, tmp_path: Path) -> None:
    files = frames("one video/sub folder")
    site.put("кадры 1#%.zip", archive(files))
    clone.list("кадры 1#%.zip - -  # a comment", "", f"{site.address}/train_data1.zip?a=b")
    site.files["/pub/train_data1.zip?a=b"] = site["train_data1.zip"]
    into = tmp_path / "another Büro"
    clone.run("--into", str(into))
    assert {path.name for path in (into / "TRAIN_DATA").iterdir()} == {"one video", "stop_1"}
    assert (into / "ZIP" / "кадры 1#%.zip").exists()
    before = site.requests()
    os.chdir(tmp_path)
    clone.run("--into=../" + str(into.relative_to(tmp_path)))  # relative to where one is: the clone
    assert site.requests() == before


@pytest.mark.parametrize("form", ["{name}", "{name} {size}", "{name} - {sha256}", "{name} {size} {sha256}"])
def test_what_the_list_tells_is_checked(form: str, clone: Clone, site: Site) -> None:
    def line(content: bytes) -> str:
        return form.format(name="train_data1.zip", size=len(content), sha256=hashlib.sha256(content).hexdigest())

    clone.list(line(ZIP1))
    clone.run()
    shutil.rmtree(clone.data)
    clone.list(line(ZIP2))
    asked = len(site["train_data1.zip"].asked)
    if form == "{name}":
        clone.run()
    else:
        said = clone.run(fails=True)
        assert said.count("train_data1.zip: it") == 2
        assert "missing: train_data1.zip;" in said
        assert len(site["train_data1.zip"].asked) == asked + 2  # once anew
        assert list(clone.zips.iterdir()) == []


def test_only_what_is_asked_for(clone: Clone, site: Site) -> None:
    site.put("train_data3.zip", archive(frames("third")))
    clone.list(*FILES, "train_data3.zip")
    clone.run("--only", "train_data1.zip", "--only=train.csv,train_data3.zip")
    assert not site["train_data2.zip"].asked
    assert clone.holds(STOP, frames("third"))


def test_the_list_tells_what_is_there(clone: Clone, site: Site) -> None:
    clone.list("train.csv", *(f"train_data{number}.zip {number}00000" for number in range(1, 5)))
    assert clone.run("--list").count("to be fetched") == 5
    assert not clone.data.exists()
    clone.list(*FILES, "train_data3.zip", "train_data4.zip 4000000")
    clone.run("--only", "train.csv,train_data1.zip")
    (clone.zips / "train_data2.zip").write_bytes(ZIP2)
    (clone.zips / "train_data3.zip.part").write_bytes(ZIP2)
    before = site.requests()
    states = [line.split(f", {site.address}")[0] for line in clone.run("--list").splitlines()]
    assert states == [
        "train.csv: there (size unknown",
        "train_data1.zip: unpacked (size unknown",
        "train_data2.zip: to be unpacked (size unknown",
        "train_data3.zip: begun, 0.4 MB (size unknown",
        "train_data4.zip: to be fetched (size 4 MB",
    ]
    assert site.requests() == before


def test_archives_are_deleted_if_asked_and_not_missed(clone: Clone, site: Site) -> None:
    clone.run("--delete-archives")
    before = site.requests()
    for options in ([], ["--delete-archives"]):
        clone.run(*options)
        assert site.requests() == before
        assert clone.holds(STOP, OK)
    shutil.rmtree(clone.frames / "stop_1")
    clone.run()  # frames that are gone come again
    assert clone.holds(STOP, OK)
    assert [path.name for path in clone.zips.glob("*.zip")] == ["train_data1.zip"]
    clone.run("--delete-archives")
    assert list(clone.zips.glob("*.zip")) == []


def test_what_lies_there_is_used(clone: Clone, site: Site) -> None:
    clone.zips.mkdir(parents=True)
    (clone.zips / "train_data1.zip").write_bytes(ZIP1)
    (clone.data / "train.csv").write_bytes(CSV)
    clone.run("--only", "train.csv,train_data1.zip")
    assert site.requests() == 0
    assert clone.holds(STOP)


# What servers do


@each_downloader
def test_goes_on_where_the_connection_was_cut(clone: Clone, site: Site) -> None:
    clone.list(*SIZED)
    file = site["train_data1.zip"]
    file.cuts = [100_000, 0, 50_000, 1, 1, 1, 1]
    clone.run()
    starts = [0 if given is None else int(given[6:-1]) for _, given in file.asked]
    assert starts == [0, 100_000, 100_000, 150_000, 150_001, 150_002, 150_003, 150_004]
    assert file.sent == len(ZIP1)
    assert clone.holds(STOP, OK)


@each_downloader
def test_a_server_that_cannot_go_on_is_read_from_the_start(clone: Clone, site: Site) -> None:
    file = site["train_data1.zip"]
    file.ranges = False
    file.cuts = [100_000, 200_000]
    clone.run()
    assert (clone.zips / "train_data1.zip").read_bytes() == ZIP1
    assert clone.holds(STOP, OK)


@each_downloader
@pytest.mark.parametrize(
    ("left", "ranges"),
    [
        pytest.param(ZIP1, True, id="all of it"),
        pytest.param(ZIP1 + b"more", True, id="more than there is"),
        pytest.param(b"x" * 1000, True, id="the start of something else"),
        pytest.param(ZIP1 + b"more", False, id="more than there is, no ranges"),
        pytest.param(b"x" * 1000, False, id="the start of something else, no ranges"),
    ],
)
def test_whatever_was_left_the_whole_comes(left: bytes, ranges: bool, clone: Clone, site: Site) -> None:
    site["train_data1.zip"].ranges = ranges
    clone.zips.mkdir(parents=True)
    (clone.zips / "train_data1.zip.part").write_bytes(left)
    clone.run("--only", "train_data1.zip")
    assert (clone.zips / "train_data1.zip").read_bytes() == ZIP1
    assert clone.holds(STOP)


def test_a_complete_part_is_not_fetched_again(clone: Clone, site: Site) -> None:
    clone.zips.mkdir(parents=True)
    (clone.zips / "train_data1.zip.part").write_bytes(ZIP1)
    clone.run("--only", "train_data1.zip")
    assert site["train_data1.zip"].sent == 0


@each_downloader
def test_a_passing_refusal_is_overcome(clone: Clone, site: Site) -> None:
    clone.list(*SIZED)
    site["train.csv"].statuses = [503, 429]
    site["train_data1.zip"].statuses = [500]
    site["train_data2.zip"].statuses = [302]
    site.files["/elsewhere"] = site["train_data2.zip"]
    clone.run()
    assert [len(site[name].asked) for name in FILES] == [3, 2, 2]
    assert clone.holds(STOP, OK)


@each_downloader
def test_a_lasting_refusal_does_not_keep_the_others(clone: Clone, site: Site) -> None:
    refusals = {403: "forbidden.zip", 404: "moved.zip", 410: "gone.zip"}
    for status, name in refusals.items():
        site.put(name, ZIP1)
        site[name].statuses = [status]
    clone.list(*(f"{name} {len(ZIP1)}" for name in refusals.values()), *SIZED)
    said = clone.run(fails=True)
    for status, name in refusals.items():
        assert len(site[name].asked) == 1
        (line,) = [line for line in said.splitlines() if f"{name}: HTTP {status} from {site.address}/{name}" in line]
        assert ("the contest's pages may be gone" in line and "--base URL" in line) == (status != 403)
    assert said.splitlines()[-1].startswith("missing: forbidden.zip, moved.zip, gone.zip; ")
    assert clone.holds(STOP, OK)
    clone.run()


def test_where_all_is_gone_the_base_can_be_named(clone: Clone, site: Site) -> None:
    site.files, files = {}, site.files
    said = clone.run(fails=True)
    assert said.count("may be gone") == 3
    assert "missing: train.csv, train_data1.zip, train_data2.zip;" in said
    site.files = {path.replace("/pub", "/mirror"): file for path, file in files.items()}
    clone.run("--base", site.address.replace("/pub", "/mirror/"))
    assert clone.holds(STOP, OK)


@each_downloader
def test_a_server_that_always_cuts_is_given_up(clone: Clone, site: Site) -> None:
    clone.list(*SIZED)
    file = site["train_data1.zip"]
    file.cuts = [100_000] + [0] * 20
    said = clone.run(fails=True)
    assert f"train_data1.zip: the connection ended after 100000 of {len(ZIP1)} bytes; given up" in said
    assert len(file.asked) == 5
    assert (clone.root / "slept").read_text().split() == ["1", "2", "4", "8"]
    assert clone.holds(OK)
    file.cuts = []
    clone.run()  # what had come is not lost
    assert file.sent == len(ZIP1)


@each_downloader
def test_nobody_answers(clone: Clone) -> None:
    _free(clone, 30e9)
    said = clone.run("--base", "http://127.0.0.1:9", fails=True)
    assert said.count("no answer; given up") == 3
    assert "missing: train.csv, train_data1.zip, train_data2.zip;" in said


def test_where_nobody_answers_the_others_are_asked_once(clone: Clone) -> None:
    _free(clone, 30e9)
    clone.fake("curl", 'echo "$1" >>curls; exit 7')
    clone.run(fails=True)
    assert (clone.root / "curls").read_text().split() == ["-sIL"] + ["-sS"] * (5 + 1 + 1)


@pytest.mark.parametrize("downloader", ["curl", "wget"])
def test_a_stalled_transfer_is_given_up_and_resumed(clone: Clone, site: Site) -> None:
    file = site["train_data1.zip"]
    file.cuts, file.silence = [100_000], 20.0
    started = time.monotonic()
    clone.run("--only", "train_data1.zip", DETECTIME_PATIENCE="1")
    assert time.monotonic() - started < 15
    assert file.sent == len(ZIP1)


@each_downloader
@pytest.mark.parametrize("name", ["train.csv", "train_data1.zip"])
def test_a_page_in_place_of_a_file_is_not_kept(name: str, clone: Clone, site: Site) -> None:
    site[name].content = b"\n<!DOCTYPE html><title>Log in\x1b[2J</title>"
    said = clone.run(fails=True)
    assert f"{name}: this is a page" in said or "this is no zip archive, it begins with b'\\n<!DOCTYPE html>" in said
    assert "\x1b" not in said
    assert f"missing: {name};" in said
    assert [path for path in clone.data.rglob(f"{name}*") if path.is_file()] == []
    assert (clone.frames / "видео ok").exists()


# Archives


def _bit(content: bytes) -> bytes:
    where = content.index(STOP["stop_1/0001.jpg"]) + 10
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


@pytest.mark.parametrize("lies", ["on the server", "here"])
def test_a_broken_archive_is_fetched_anew_once(lies: str, clone: Clone, site: Site) -> None:
    if lies == "here":
        clone.zips.mkdir(parents=True)
        (clone.zips / "train_data1.zip").write_bytes(_bit(ZIP1))
        clone.run()
        assert len(site["train_data1.zip"].asked) == 1
    else:
        site["train_data1.zip"].content = _bit(ZIP1)
        said = clone.run(fails=True)
        assert len(site["train_data1.zip"].asked) == 2
        assert said.count("train_data1.zip: this archive is broken: Bad CRC-32 for file 'stop_1/0001.jpg'") == 2
        assert not (clone.frames / "stop_1" / "0001.jpg").exists()
        site["train_data1.zip"].content = ZIP1
        clone.run()
    assert clone.holds(STOP, OK)


def _member(name: str, kind: int = 0, size: int | None = None, flags: int = 0) -> Callable[[zipfile.ZipFile], None]:
    def add(content: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("-" * len(name.encode()))
        info.external_attr = (kind | 0o644) << 16
        content.writestr(info, b"/etc/passwd")
        info.filename, info.file_size, info.flag_bits = name, size or info.file_size, info.flag_bits | flags

    return add


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_member("../evil"), "'../evil' leaves the folder"),
        (_member("stop_1/../../evil"), "'stop_1/../../evil' leaves the folder"),
        (_member("..\\evil"), "leaves the folder"),
        (_member("/tmp/evil"), "'/tmp/evil' has an absolute path"),
        (_member("stop_1/evil", stat.S_IFLNK), "'stop_1/evil' is a link"),
        (_member("stop_1/evil", stat.S_IFCHR), "'stop_1/evil' is neither a file nor a folder"),
        (_member("stop_1/evil", stat.S_IFIFO), "'stop_1/evil' is neither a file nor a folder"),
        (_member("stop_1/\x1b[2Jevil"), "'stop_1/\\x1b[2Jevil' has control characters in its name"),
        (_member("stop_1/evil", flags=1), "'stop_1/evil' is encrypted"),
        (_member("stop_1/evil", size=1 << 50), "unpacked it takes 1125899.9 GB more, and"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_archive_that_could_do_harm_is_refused_as_a_whole(
    change: Callable[[zipfile.ZipFile], None], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.zip").write_bytes(archive(STOP, change))
    done = unpack(tmp_path / "a.zip", tmp_path / "folder")
    assert done.returncode == 1
    assert done.stderr.startswith("a.zip: ")
    assert reason in done.stderr
    assert "\x1b" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a.zip", tmp_path / "folder"]


def test_the_other_archives_are_unpacked(clone: Clone, site: Site) -> None:
    evil = {"up.zip": _member("../evil"), "root.zip": _member("/tmp/evil"), "link.zip": _member("evil", stat.S_IFLNK)}
    for name, change in evil.items():
        site.put(name, archive(frames(name), change))
    clone.list(*evil, *FILES)
    said = clone.run(fails=True)
    assert "up.zip: refused, nothing was unpacked: its member '../evil' leaves the folder\n" in said
    assert "missing: up.zip, root.zip, link.zip;" in said
    assert [len(site[name].asked) for name in evil] == [1, 1, 1]
    assert clone.holds(STOP, OK)
    assert list(clone.root.parent.rglob("evil")) == []


def unpack(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    script = definitions.ROOT_DIR / "tools" / "unpack.py"
    return subprocess.run([sys.executable, script, path, folder], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("inside", "unpacked"),
    [
        *OWN_FOLDERS.items(),
        ("video\\1.jpg ./other//2.jpg", "video/1.jpg other/2.jpg"),
    ],
)
def test_paths_stay_but_for_the_archive_s_own_folder(inside: str, unpacked: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "train_data7.zip", tmp_path / "folder"
    path.write_bytes(archive({"empty/": b""} | {name: name.encode() for name in inside.split()}))
    folder.mkdir()
    done = unpack(path, folder)
    assert done.returncode == 0, done.stderr
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == set(unpacked.split())
    assert set(done.stdout.split()) == {name.split("/")[0] for name in found}


def test_frames_that_are_there_are_not_written_again_and_wrong_ones_are(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ZIP1)
    right, wrong, short = (tmp_path / name for name in STOP)
    right.parent.mkdir()
    right.write_bytes(STOP["stop_1/0000.jpg"])
    wrong.write_bytes(bytes(len(STOP["stop_1/0001.jpg"])))  # what a power failure leaves
    short.write_bytes(STOP["stop_1/0002.jpg"][:10])
    os.utime(right, ns=(0, 0))
    assert unpack(tmp_path / "a.zip", tmp_path).returncode == 0
    assert {path.read_bytes() for path in (right, wrong, short)} == set(STOP.values())
    assert right.stat().st_mtime_ns == 0


@pytest.mark.parametrize("name", [".part", ".PART", ".part/1.jpg"])
def test_a_member_that_is_called_as_the_temporary_file_is_unpacked(name: str, tmp_path: Path) -> None:
    members = {f"v/{name}": b"theirs", "v/2.jpg": b"x", ".part_": b"top"}
    (tmp_path / "a.zip").write_bytes(archive(members))
    assert unpack(tmp_path / "a.zip", tmp_path).returncode == 0
    (tmp_path / "a.zip").unlink()
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == members


def test_frames_that_are_there_want_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(ZIP1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=150_000))
    with zipfile.ZipFile(tmp_path / "a.zip") as content:
        files = tools.unpack.members(content, "a")
        with pytest.raises(tools.unpack.Refused, match=r"unpacked it takes .* GB more, and .* GB are free"):
            tools.unpack.unpack(content, files, tmp_path, "a.zip")
        for name in list(STOP)[:2]:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(STOP[name])
        tools.unpack.unpack(content, files, tmp_path, "a.zip")
    assert (tmp_path / "stop_1" / "0002.jpg").read_bytes() == STOP["stop_1/0002.jpg"]


@pytest.mark.parametrize("content", [archive({}), archive({"empty/": b""})], ids=["nothing", "a folder"])
def test_an_archive_without_files_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    done = unpack(tmp_path / "a.zip", tmp_path)
    assert (done.returncode, done.stderr) == (1, "a.zip: it holds no files\n")


# Interruptions


def _signal(process: subprocess.Popen[str], whom: str, number: int = signal.SIGKILL) -> None:
    if whom == "the shell alone":
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)
    process.wait(timeout=20)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


@each_downloader
@pytest.mark.parametrize("whom", ["the shell alone", "all"])
def test_killed_while_downloading(whom: str, clone: Clone, site: Site) -> None:
    file = site["train_data2.zip"]
    file.pace = 0.05
    process = clone.start()
    wait_for(lambda: (part := clone.zips / "train_data2.zip.part").exists() and part.stat().st_size > 100_000)
    _signal(process, whom)
    assert not (clone.zips / "train_data2.zip").exists()
    clone.run()
    assert file.asked[-1][1] is not None  # it went on
    assert (clone.zips / "train_data2.zip").read_bytes() == ZIP2
    assert clone.holds(STOP, OK)


@each_shell
@pytest.mark.parametrize("whom", ["the shell alone", "all"])
def test_killed_while_unpacking(whom: str, clone: Clone, site: Site) -> None:
    many = frames("video", 2000, 5000)
    site.put("train_data1.zip", archive(many))
    clone.list("train_data1.zip")
    process = clone.start()
    wait_for(lambda: (clone.frames / "video" / "0100.jpg").exists())
    _signal(process, whom)
    there = [path for path in (clone.frames / "video").glob("*.jpg") if path.exists()]
    assert len(there) < len(many)
    assert all(path.read_bytes() == many[f"video/{path.name}"] for path in there)
    assert not (clone.zips / "train_data1.zip.unpacked").exists()
    clone.run()
    assert len(site["train_data1.zip"].asked) == 1
    assert clone.holds(many)


@each_shell
def test_interrupted_from_the_keyboard(clone: Clone, site: Site) -> None:
    file = site["train_data1.zip"]
    file.pace = 0.05
    process = clone.start()
    wait_for(lambda: (part := clone.zips / "train_data1.zip.part").exists() and part.stat().st_size > 100_000)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted; run it again, and it goes on"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody is left
    clone.run()
    assert clone.holds(STOP, OK)


@each_shell
def test_a_second_instance_is_refused(clone: Clone, site: Site) -> None:
    site["train_data1.zip"].pace = 0.2
    process = clone.start()
    wait_for((clone.zips / "train_data1.zip.part").exists)
    second = clone.start()
    said = second.communicate(timeout=20)[1]
    assert second.returncode == 1
    assert said.startswith(f"{clone.data}: another instance is at work, process {process.pid};")
    _signal(process, "all", signal.SIGTERM)
    assert not (clone.data / ".lock").exists()


@pytest.mark.parametrize("owner", [None, "", "999999999", str(os.getpid())], ids=["none", "empty", "dead", "another's"])
def test_the_lock_of_a_dead_one_is_taken_over(owner: str | None, clone: Clone) -> None:
    (clone.data / ".lock").mkdir(parents=True)
    if owner is not None:
        (clone.data / ".lock" / "pid").write_text(owner)
    (clone.data / ".lock" / "child").write_text(f"{os.getpid()}\n--fail -L\n")  # who has its number now is left alone
    clone.run("--only", "train.csv")


# Disks


def _free(clone: Clone, size: float) -> None:
    clone.fake("df", f"echo Filesystem; echo 'my disk 9 9 {int(size / 1024)} 10% /a 9% b'")


@pytest.mark.parametrize(
    ("options", "known", "needed"),
    [
        ([], "from the server", "1.4 MB"),
        (["--delete-archives"], "from the server", "1.1 MB"),
        ([], "from the list", "1.4 MB"),
        ([], "not", "20 GB"),
        (["--delete-archives"], "not", "15 GB"),
        (["--only", "train_data1.zip"], "not", "10 GB"),
    ],
    ids=str,
)
def test_too_little_space_is_told_before(options: list[str], known: str, needed: str, clone: Clone, site: Site) -> None:
    if known == "from the list":
        clone.list(*SIZED)
    site.tells = known == "from the server"
    _free(clone, 1.05e6)
    said = clone.run(*options, fails=True)
    assert said.startswith(f"{clone.data}: {needed} are needed for archives and frames, 1.0 MB are free\n")
    assert ("assumed" in said or "in 2021 all took about 90 GB" in said) == (known == "not")
    assert "too little: --delete-archives needs less, --only NAME" in said
    assert not any(file.asked for file in site.files.values())
    assert bool(site.heads) == (known != "from the list")


def test_the_contest_s_own_list_wants_90_gb(clone: Clone, site: Site) -> None:
    shutil.copy(definitions.ROOT_DIR / "data" / "urls.txt", clone.root / "data")
    site.tells = False
    for number in range(3, 10):
        site.put(f"train_data{number}.zip", ZIP1)
    _free(clone, 89e9)
    assert ": 90 GB are needed for archives and frames, 89.0 GB are free\n" in clone.run(fails=True)


@each_downloader
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_error(clone: Clone, site: Site) -> None:
    clone.list(*SIZED)
    clone.zips.mkdir(parents=True)
    (clone.zips / "train_data1.zip.part").symlink_to("/dev/full")
    said = clone.run(fails=True)
    assert said.count("the disk is full") == 1
    assert "missing: train_data1.zip, train_data2.zip;" in said
    assert len(site["train_data1.zip"].asked) == 1
    assert site["train_data2.zip"].asked == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_is_full_of_frames_is_one_error(clone: Clone, site: Site) -> None:
    (clone.frames / "stop_1").mkdir(parents=True)
    (clone.frames / "stop_1" / ".part").symlink_to("/dev/full")
    said = clone.run(fails=True)
    assert said.count("train_data1.zip: [Errno 28] No space left on device") == 1
    assert "missing: train_data1.zip, train_data2.zip;" in said
    assert site["train_data2.zip"].asked == []


# Words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fast"], "--fast is no option; accepted: --base URL, --into DIR, --only NAME, --delete-archives, --list"),
        (["train.csv"], "train.csv is no option; accepted: "),
        (["\x1b[2J"], "[2J is no option; accepted: "),
        (["--only"], "--only wants a value; accepted: "),
        (["--into="], "--into wants a value; accepted: "),
        (["--only", "train.csv,a.zip,b.zip"], "urls.txt does not list a.zip b.zip"),
        (["--base", "ftp://somewhere"], "ftp://somewhere is no http address; name one with --base"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_work_starts(
    options: list[str], message: str, clone: Clone, site: Site
) -> None:
    said = clone.run(*options, fails=True)
    assert message in said
    assert "\x1b" not in said
    assert site.requests() == 0
    assert not clone.data.exists()


@pytest.mark.parametrize(
    "line", ["../evil.zip", ".lock", "a.zip 12 34", "a.zip 1x", "two words.zip", "http://host/", "ZIP", "a.zip -1"]
)
def test_a_line_that_is_none_is_refused(line: str, clone: Clone, site: Site) -> None:
    clone.list("train.csv", line)
    said = clone.run(fails=True)
    assert "this is no line of a name or an address, its size or -, its sha256 or -: " in said
    assert site.requests() == 0


def test_help(clone: Clone) -> None:
    said = clone.run("--help")
    for option in ("--base URL", "--into DIR", "--only NAME", "--delete-archives", "--list", "DETECTIME_PATIENCE"):
        assert option in said


def test_without_a_downloader_it_says_so(clone: Clone) -> None:
    (clone.root / "bin" / "curl").unlink()
    assert clone.run(fails=True) == "neither curl nor wget is here: install one of them\n"


@pytest.mark.parametrize("python", ["none", "old"])
def test_without_python_it_says_so_before_it_downloads(python: str, clone: Clone, site: Site) -> None:
    clone.fake("python3", "exit 1")
    if python == "none":
        (clone.root / "bin" / "python3").unlink()
    assert clone.run(fails=True).startswith("archives want Python 3.8 or newer, and python3 is none: ")
    assert not any(file.asked for file in site.files.values())
    clone.run("--only", "train.csv")
    clone.run(PYTHON=sys.executable)
    assert clone.holds(STOP, OK)


@pytest.mark.parametrize("downloader", ["curl", "wget"])
def test_a_bar_is_shown_where_somebody_watches(clone: Clone, site: Site) -> None:
    ours, theirs = pty.openpty()
    process = clone.start("--only", "train_data1.zip", stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how the other end tells that it was closed
        while block := os.read(ours, 4096):
            shown += block
    os.close(ours)
    process.communicate(timeout=20)
    assert b"100" in shown
    assert b"train_data1.zip: frame 3 of 3" in shown


@pytest.mark.parametrize("downloader", ["curl", "wget"])
def test_nothing_but_lines_where_nobody_watches(clone: Clone, site: Site) -> None:
    process = clone.start("--only", "train_data1.zip")
    said, errors = process.communicate(timeout=20)
    assert errors == ""
    assert said.splitlines()[1:] == [
        f"train_data1.zip: downloading from {site.address}/train_data1.zip",
        "train_data1.zip: unpacked",
        f"{clone.data}: all is there",
    ]
