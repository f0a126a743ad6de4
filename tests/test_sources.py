"""A folder with everything in it that a folder may hold: each file gives one row, never an exception."""

from __future__ import annotations

import os
import signal
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LABELS, encode, pattern
from PIL import Image
from test_images import huge_jpeg, huge_png

from detectime.detection.worker import Worker
from detectime.images import EncodedImage, UnreadableImageError
from detectime.labels import frame_table
from detectime.schema import DETECTIONS
from detectime.sources.contract import MissingFrameError, Source, SourceError
from detectime.sources.folder import FolderSource

PICTURE = pattern()
NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
JPEG, PNG, WEBP = (encode(PICTURE, kind) for kind in ("JPEG", "PNG", "WEBP"))


def holding(content: bytes) -> Callable[[Path], object]:
    """Make a file."""
    return lambda path: path.write_bytes(content)


def cut(content: bytes, end: bytes = b"") -> Callable[[Path], object]:
    """Make a file of less than a third of its bytes."""
    return holding(content[: len(content) * 3 // 10] + end)


def pointing(target: str) -> Callable[[Path], object]:
    """Make a link."""
    return lambda path: path.symlink_to(target)


def bind_socket(path: Path) -> None:
    """Leave a socket behind; a long path is none that a socket can have."""
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)
    os.chdir(here)


def names_of(source: Source) -> list[str]:
    """List the frames of a source."""
    return [name for name, _ in source.list_frames()]


# The name of each frame, how it is made, and what becomes of it: its size, or its outcome and the reason.
CASES: dict[str, tuple[Callable[[Path], object], tuple[int, int] | tuple[str, str]]] = {
    "jpeg.jpg": (holding(JPEG), (64, 48)),
    "png named.jpg": (holding(PNG), (64, 48)),
    "no suffix": (holding(WEBP), (64, 48)),
    "1x1.png": (holding(encode(Image.new("RGB", (1, 1)))), (1, 1)),
    "1x20000.png": (holding(encode(Image.new("RGB", (1, 20_000)))), (1, 20_000)),
    "20000x1.png": (holding(encode(Image.new("RGB", (20_000, 1)))), (20_000, 1)),
    "31x7.jpg": (holding(encode(Image.new("RGB", (31, 7)), "JPEG")), (31, 7)),
    "linked.jpg": (pointing("jpeg.jpg"), (64, 48)),
    "😀\n<script>.jpg": (holding(JPEG), (64, 48)),
    "empty.jpg": (holding(b""), ("unreadable", "the file is empty")),
    "cut.jpg": (cut(encode(NOISE, "JPEG")), ("unreadable", "truncated")),
    "cut, with an end.jpg": (cut(encode(NOISE, "JPEG"), b"\xff\xd9"), ("unreadable", "truncated")),
    "cut.png": (cut(encode(NOISE)), ("unreadable", "truncated")),
    "cut.webp": (cut(encode(NOISE, "WEBP")), ("unreadable", "broken image")),
    "text.jpg": (holding(b"hello"), ("unreadable", "not an image")),
    "huge.jpg": (holding(huge_jpeg(30_000, 30_000)), ("unreadable", "too large")),
    "huge.png": (holding(huge_png(30_000, 30_000)), ("unreadable", "too large")),
    "folder.jpg": (Path.mkdir, ("unreadable", "not a regular file")),
    "fifo.jpg": (os.mkfifo, ("unreadable", "not a regular file")),
    "socket.jpg": (bind_socket, ("unreadable", "cannot be opened")),
    "sparse.jpg": (lambda path: (path.touch(), os.truncate(path, 2**40)), ("unreadable", "too large")),
    "broken link.jpg": (pointing("nothing"), ("missing", "No such file")),
    "circle.jpg": (pointing("circle.jpg"), ("missing", "Too many levels")),
    "jpeg.jpg/below a file.jpg": (lambda path: None, ("missing", "Not a directory")),
    "nowhere.jpg": (lambda path: None, ("missing", "No such file")),
    "a\0b.jpg": (lambda path: None, ("missing", "null byte")),
    "x" * 10_000: (lambda path: None, ("missing", "File name too long")),
}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Interrupt what hangs."""

    def interrupt(*_: object) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def rows(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Look at all the cases in one shard: rows by frame."""
    folder = tmp_path_factory.mktemp("frames")
    for name, (make, _) in CASES.items():
        make(folder / name)
    with within(30):
        table = worker(FolderSource(str(folder)), list(CASES))
    assert table.schema == DETECTIONS
    table.validate(full=True)
    assert table["frame_path"].to_pylist() == list(CASES)
    return dict(zip(CASES, table.to_pylist(), strict=True))


@pytest.mark.parametrize("name", CASES, ids=lambda name: ascii(name[:24]))
def test_every_file_gives_its_row(name: str, rows: dict[str, dict[str, Any]]) -> None:
    row, expected = rows[name], CASES[name][1]
    if isinstance(expected[0], int):
        assert (row["outcome"], row["error"]) == ("ok", None)
        assert (row["width"], row["height"]) == expected
    else:
        assert row["outcome"] == expected[0]
        assert expected[1] in row["error"]
        assert (row["width"], row["height"], row["faces"], row["hands"]) == (None, None, [], [])


def test_no_file_stays_open(rows: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("there is no /proc")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "picture.jpg").write_bytes(JPEG)
    list(FolderSource(str(tmp_path)).open([".", "empty.jpg", "picture.jpg", "nowhere.jpg"]))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_vanishes_after_matching_is_missing(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    csv = tmp_path / "labels.csv"
    csv.write_text("frame_path,video_name,frame_id,class_name\na.jpg,v,1,ok\n")
    source = FolderSource(str(tmp_path))
    table = frame_table.read_frames_csv(csv, source, LABELS)
    assert table["on_disk"].all()
    (tmp_path / "a.jpg").unlink()
    assert worker(source, table["frame_path"].tolist())["outcome"].to_pylist() == ["missing"]


def test_a_file_that_may_not_be_read(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("locked.jpg", "open.jpg"):
        (tmp_path / name).write_bytes(JPEG)
    (tmp_path / "locked.jpg").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # another user need not be able to come here from above
    source = FolderSource(".")
    worker(source, ["open.jpg"])  # whatever is imported late is imported by who may
    root = os.geteuid() == 0
    if root:  # reads everything: become nobody
        os.seteuid(65534)
    try:
        table = worker(source, ["locked.jpg", "open.jpg"])
    finally:
        if root:
            os.seteuid(0)
    assert table["outcome"].to_pylist() == ["unreadable", "ok"]
    assert table["error"][0].as_py() == "cannot be opened: Permission denied"


def test_exif_and_max_pixels_are_the_sources(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(encode(PICTURE, exif=exif))
    for rule, size in (("ignore", (64, 48)), ("apply", (48, 64))):
        ((_, frame),) = FolderSource(str(tmp_path), exif=rule).open(["a.png"])
        assert isinstance(frame, EncodedImage)
        assert (frame.width, frame.height) == size
    frame_path, error = next(FolderSource(str(tmp_path), max_pixels=100).open(["a.png"]))
    assert (frame_path, type(error)) == ("a.png", UnreadableImageError)


def test_a_jpeg_whose_data_is_broken_is_a_picture_until_its_pixels_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG[:-20])
    ((_, frame),) = FolderSource(str(tmp_path)).open(["a.jpg"])
    assert isinstance(frame, EncodedImage)
    assert (frame.width, frame.height) == (64, 48)
    with pytest.raises(UnreadableImageError, match="truncated"):
        frame.pixels()


def test_frames_are_read_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    opened = FolderSource(str(tmp_path)).open(["a.jpg", "b.jpg"])
    assert isinstance(next(opened)[1], EncodedImage)
    (tmp_path / "b.jpg").write_bytes(JPEG)  # in time, since nothing was read ahead
    assert isinstance(next(opened)[1], EncodedImage)


def test_names_are_all_files_and_only_files(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    odd = os.fsdecode(b"\xff\xfe.jpg")
    for path in (root / "a.jpg", root / "v1" / "deep" / "b.jpg", elsewhere / "c.jpg", root / "v1" / odd):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "empty").mkdir()
    (root / "file link.jpg").symlink_to("a.jpg")
    (root / "broken.jpg").symlink_to("nothing")
    (root / "v2").symlink_to(elsewhere)
    (root / "v3").symlink_to(elsewhere)
    names = ["a.jpg", "file link.jpg", "v1/deep/b.jpg", f"v1/{odd}", "v2/c.jpg", "v3/c.jpg"]
    assert sorted(names_of(FolderSource(str(root)))) == names
    assert sorted(names_of(FolderSource(f"{root}/"))) == names


def test_a_stamp_is_size_and_time_of_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.jpg").write_bytes(JPEG)
    os.utime(tmp_path / "v" / "a.jpg", ns=(5, 1_700_000_000_123_456_789))
    (tmp_path / "link.jpg").symlink_to("v/a.jpg")
    (tmp_path / "linked").symlink_to("v")
    stamp = f"{len(JPEG)}-1700000000123456789"
    source = FolderSource(str(tmp_path))
    assert dict(source.list_frames()) == dict.fromkeys(["v/a.jpg", "link.jpg", "linked/a.jpg"], stamp)
    (tmp_path / "v" / "a.jpg").touch()
    assert stamp not in dict(source.list_frames()).values()
    assert source.notes() == []


def test_contents_are_those_of_pictures(tmp_path: Path) -> None:
    for name, content in {"a.jpg": JPEG, "b.png": PNG, "text.jpg": b"hello", "empty.jpg": b""}.items():
        (tmp_path / name).write_bytes(content)
    asked = ["b.png", "a.jpg", "nowhere.jpg", "text.jpg", "empty.jpg", "."]
    contents = [f"{len(content)}-{zlib.crc32(content):08x}" for content in (PNG, JPEG, b"hello", b"")]
    contents = [*contents[:2], None, *contents[2:], None]
    assert list(FolderSource(str(tmp_path)).read_contents(asked)) == list(zip(asked, contents, strict=True))
    assert [frame.content for _, frame in FolderSource(str(tmp_path)).open(asked)] == contents


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
        (tmp_path / name / "up").symlink_to("..")
        (tmp_path / name / "itself").symlink_to(".")
    (tmp_path / "a" / "across").symlink_to("../b")
    (tmp_path / "b" / "across").symlink_to("../a")
    with within(30):
        names = names_of(FolderSource(str(tmp_path)))
    assert {"a/1.jpg", "b/1.jpg", "a/across/1.jpg", "b/across/1.jpg"} <= set(names)
    assert len(names) == len(set(names)) < 50


def test_a_folder_inside_that_may_not_be_listed_costs_only_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("locked", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    (tmp_path / "locked").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        names = names_of(FolderSource("."))
    finally:
        if root:
            os.seteuid(0)
        (tmp_path / "locked").chmod(0o755)
    assert names == ["open/a.jpg"]


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "No such file"), ("a.jpg", "Not a directory")])
def test_a_root_that_is_no_folder_is_named(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(SourceError, match=rf"{name}: the images folder cannot be read: {reason}"):
        names_of(FolderSource(str(tmp_path / name)))


def test_a_missing_frame_says_so(tmp_path: Path) -> None:
    assert [(path, type(error)) for path, error in FolderSource(str(tmp_path)).open(["a"])] == [
        ("a", MissingFrameError)
    ]
