"""A folder of frames: every file gives one row of the detections table, whatever it is, and never an exception."""

from __future__ import annotations

import os
import signal
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    LABELS,
    count_open_files,
    draw_noise,
    draw_pattern,
    encode_image,
    list_names,
    make_huge_jpeg,
    make_huge_png,
    read_all,
)
from PIL import Image

from detectime.detection.worker import Worker
from detectime.images import EncodedImage, UnreadableImageError
from detectime.labels import frames_csv
from detectime.schema import DETECTIONS
from detectime.sources.contract import MissingFrameError, SourceError
from detectime.sources.folder import FolderSource
from detectime.sources.reading import read_contents

PATTERN, NOISE = draw_pattern(), draw_noise(160, 120)
JPEG, PNG, WEBP = (encode_image(PATTERN, kind) for kind in ("JPEG", "PNG", "WEBP"))


def write_bytes(content: bytes) -> Callable[[Path], object]:
    """Return a function that writes a file."""
    return lambda path: path.write_bytes(content)


def write_cut(content: bytes, end: bytes = b"") -> Callable[[Path], object]:
    """Return a function that writes the first 30 % of a file."""
    return write_bytes(content[: len(content) * 3 // 10] + end)


def make_link(target: str) -> Callable[[Path], object]:
    """Return a function that makes a symbolic link."""
    return lambda path: path.symlink_to(target)


def bind_socket(path: Path) -> None:
    """Make a socket; its path must be short, so it is bound from its own folder."""
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)
    os.chdir(here)


# Frame path: how the file is made, and the result: its size in pixels, or its outcome and the reason.
CASES: dict[str, tuple[Callable[[Path], object], tuple[int, int] | tuple[str, str]]] = {
    "jpeg.jpg": (write_bytes(JPEG), (64, 48)),
    "png named.jpg": (write_bytes(PNG), (64, 48)),
    "no suffix": (write_bytes(WEBP), (64, 48)),
    "1x1.png": (write_bytes(encode_image(Image.new("RGB", (1, 1)))), (1, 1)),
    "1x20000.png": (write_bytes(encode_image(Image.new("RGB", (1, 20_000)))), (1, 20_000)),
    "20000x1.png": (write_bytes(encode_image(Image.new("RGB", (20_000, 1)))), (20_000, 1)),
    "31x7.jpg": (write_bytes(encode_image(Image.new("RGB", (31, 7)), "JPEG")), (31, 7)),
    "linked.jpg": (make_link("jpeg.jpg"), (64, 48)),
    "😀\n<script>.jpg": (write_bytes(JPEG), (64, 48)),
    "empty.jpg": (write_bytes(b""), ("unreadable", "the file is empty")),
    "cut.jpg": (write_cut(encode_image(NOISE, "JPEG")), ("unreadable", "truncated")),
    "cut, with an end.jpg": (write_cut(encode_image(NOISE, "JPEG"), b"\xff\xd9"), ("unreadable", "truncated")),
    "cut.png": (write_cut(encode_image(NOISE)), ("unreadable", "truncated")),
    "cut.webp": (write_cut(encode_image(NOISE, "WEBP")), ("unreadable", "truncated or broken WebP")),
    "text.jpg": (write_bytes(b"hello"), ("unreadable", "not an image")),
    "huge.jpg": (write_bytes(make_huge_jpeg(30_000, 30_000)), ("unreadable", "too large")),
    "huge.png": (write_bytes(make_huge_png(30_000, 30_000)), ("unreadable", "too large")),
    "folder.jpg": (Path.mkdir, ("unreadable", "not a regular file")),
    "fifo.jpg": (os.mkfifo, ("unreadable", "not a regular file")),
    "socket.jpg": (bind_socket, ("unreadable", "cannot be opened")),
    "sparse.jpg": (lambda path: (path.touch(), os.truncate(path, 2**40)), ("unreadable", "too large")),
    "broken link.jpg": (make_link("nothing"), ("missing", "No such file")),
    "circle.jpg": (make_link("circle.jpg"), ("missing", "Too many levels")),
    "jpeg.jpg/below a file.jpg": (lambda path: None, ("missing", "Not a directory")),
    "nowhere.jpg": (lambda path: None, ("missing", "No such file")),
    "a\0b.jpg": (lambda path: None, ("missing", "embedded null")),
    "x" * 10_000: (lambda path: None, ("missing", "File name too long")),
}


@contextmanager
def interrupt_after(seconds: int) -> Iterator[None]:
    """Fail instead of hanging forever."""

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
    """Run detection on all cases in one shard; returns the rows by frame path."""
    folder = tmp_path_factory.mktemp("frames")
    for name, (make, _) in CASES.items():
        make(folder / name)
    with interrupt_after(60):
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
    before = count_open_files()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "image.jpg").write_bytes(JPEG)
    assert len(read_all(FolderSource(str(tmp_path)), [".", "empty.jpg", "image.jpg", "nowhere.jpg"])) == 4
    assert count_open_files() == before


def test_a_file_deleted_after_the_listing_is_missing(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    csv = tmp_path / "labels.csv"
    csv.write_text("frame_path,video_name,frame_id,class_name\na.jpg,v,1,ok\n")
    source = FolderSource(str(tmp_path))
    table = frames_csv.read_frames_csv(csv, source, LABELS)
    assert table["on_disk"].all()
    (tmp_path / "a.jpg").unlink()
    assert worker(source, table["frame_path"].tolist())["outcome"].to_pylist() == ["missing"]


def test_a_file_without_permission_is_unreadable(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("locked.jpg", "open.jpg"):
        (tmp_path / name).write_bytes(JPEG)
    (tmp_path / "locked.jpg").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the other user may have no access to the folders above
    source = FolderSource(".")
    worker(source, ["open.jpg"])  # late imports need this user's permissions
    root = os.geteuid() == 0
    if root:  # root may read everything
        os.seteuid(65534)
    try:
        table = worker(source, ["locked.jpg", "open.jpg"])
    finally:
        if root:
            os.seteuid(0)
    assert table["outcome"].to_pylist() == ["unreadable", "ok"]
    assert table["error"][0].as_py() == "cannot be opened: Permission denied"


def test_exif_and_max_pixels_are_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(encode_image(PATTERN, exif=exif))
    for rule, size in (("ignore", (64, 48)), ("apply", (48, 64))):
        (image,) = read_all(FolderSource(str(tmp_path)), ["a.png"], exif=rule)
        assert isinstance(image, EncodedImage)
        assert (image.width, image.height) == size
    (error,) = read_all(FolderSource(str(tmp_path)), ["a.png"], max_pixels=100)
    assert isinstance(error, UnreadableImageError)


def test_a_broken_jpeg_is_found_when_its_pixels_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG[:-20])
    (image,) = read_all(FolderSource(str(tmp_path)), ["a.jpg"])
    assert isinstance(image, EncodedImage)
    assert (image.width, image.height) == (64, 48)
    with pytest.raises(UnreadableImageError, match="truncated"):
        image.read_pixels()


def test_frames_are_read_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    frames = FolderSource(str(tmp_path)).read_frames(["a.jpg", "b.jpg"])
    assert next(frames) == ("a.jpg", JPEG)
    (tmp_path / "b.jpg").write_bytes(PNG)  # in time, since nothing is read ahead
    assert next(frames) == ("b.jpg", PNG)


def test_all_files_and_only_files_are_listed(tmp_path: Path) -> None:
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
    assert sorted(list_names(FolderSource(str(root)))) == names
    assert sorted(list_names(FolderSource(f"{root}/"))) == names


def test_a_stamp_is_the_size_and_time_of_a_links_target(tmp_path: Path) -> None:
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
    assert source.list_notes() == []


def test_contents_are_those_of_the_encoded_images(tmp_path: Path) -> None:
    for name, content in {"a.jpg": JPEG, "b.png": PNG, "text.jpg": b"hello", "empty.jpg": b""}.items():
        (tmp_path / name).write_bytes(content)
    paths = ["b.png", "a.jpg", "nowhere.jpg", "text.jpg", "empty.jpg", "."]
    contents = [f"{len(content)}-{zlib.crc32(content):08x}" for content in (PNG, JPEG, b"hello", b"")]
    contents = [*contents[:2], None, *contents[2:], None]
    source = FolderSource(str(tmp_path))
    assert list(read_contents(source, paths, max_pixels=10_000)) == list(zip(paths, contents, strict=True))
    assert [frame.content for frame in read_all(source, paths)] == contents


def test_a_cycle_of_links_is_listed_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
        (tmp_path / name / "up").symlink_to("..")
        (tmp_path / name / "itself").symlink_to(".")
    (tmp_path / "a" / "across").symlink_to("../b")
    (tmp_path / "b" / "across").symlink_to("../a")
    with interrupt_after(60):
        names = list_names(FolderSource(str(tmp_path)))
    assert {"a/1.jpg", "b/1.jpg", "a/across/1.jpg", "b/across/1.jpg"} <= set(names)
    assert len(names) == len(set(names)) < 50


def test_a_subfolder_without_permission_hides_only_its_own_frames(
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
        names = list_names(FolderSource("."))
    finally:
        if root:
            os.seteuid(0)
        (tmp_path / "locked").chmod(0o755)
    assert names == ["open/a.jpg"]


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "No such file"), ("a.jpg", "Not a directory")])
def test_a_root_other_than_a_folder_is_named(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(SourceError, match=rf"{name}: the images folder cannot be read: {reason}"):
        list_names(FolderSource(str(tmp_path / name)))


def test_a_missing_frame_is_an_error_object(tmp_path: Path) -> None:
    ((name, error),) = FolderSource(str(tmp_path)).read_frames(["a"])
    assert (name, type(error)) == ("a", MissingFrameError)
