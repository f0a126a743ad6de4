"""Archives as a source: each member gives one row, never an exception, and a broken archive is refused by its name."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LABELS, OWN_FOLDERS, encode, pattern
from faults import settings, table_of
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from test_sources import names_of

from detectime import sources
from detectime.detection import run
from detectime.detection.manifest import RunError
from detectime.detection.worker import Worker
from detectime.images import EncodedImage, UnreadableImageError, describe_content
from detectime.labels import frame_table
from detectime.sources import archive
from detectime.sources.archive import ArchiveSource
from detectime.sources.bucket import BucketSource
from detectime.sources.contract import MissingFrameError, SourceError, UnreachableFrameError
from detectime.sources.folder import FolderSource
from detectime.storage import name_index
from tools import unpack

JPEG, PNG = (encode(pattern(), kind) for kind in ("JPEG", "PNG"))
LONG = f"{'folder/' * 40}{'x' * 120}.jpg"
FRAMES = {"v1/1.jpg": JPEG, "v1/2.png": PNG, "v2/ü 😀.jpg": JPEG, "3.jpg": JPEG, LONG: PNG}


@pytest.fixture(autouse=True)
def own_indexes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have indexes put into a folder of the test, also by its workers."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    name_index._made_once.cache_clear()
    return folder


def make_zip(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, wide: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", method) as target:
        for name, content in members.items():
            header = zipfile.ZipInfo(name)
            header.compress_type = method
            with target.open(header, "w", force_zip64=wide) as member:
                member.write(content)
    return path


def make_tar(path: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as target:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            target.addfile(header, io.BytesIO(content))
    return path


def make(path: Path, members: Mapping[str, bytes]) -> Path:
    return (make_zip if path.suffix == ".zip" else make_tar)(path, members)


def make_two(folder: Path, members: Mapping[str, bytes]) -> Path:
    half = len(members) // 2
    make_zip(folder / "train_data1.zip", dict(list(members.items())[:half]))
    make_tar(folder / "train_data2.tar", dict(list(members.items())[half:]))
    return folder


def opened(source: ArchiveSource, *names: str) -> list[EncodedImage | MissingFrameError | UnreadableImageError]:
    given, found = zip(*source.open(names), strict=True)
    assert given == names
    return list(found)


def reasons(source: ArchiveSource, *names: str) -> list[tuple[type, str]]:
    return [(type(frame), str(frame)) for frame in opened(source, *names)]


WRITERS: dict[str, Callable[[Path], Path]] = {
    "stored.zip": lambda folder: make_zip(folder / "a.zip", FRAMES, zipfile.ZIP_STORED),
    "deflated.zip": lambda folder: make_zip(folder / "a.zip", FRAMES),
    "wide.zip": lambda folder: make_zip(folder / "a.zip", FRAMES, wide=True),
    "capital.ZIP": lambda folder: make_zip(folder / "a.ZIP", FRAMES),
    "pax.tar": lambda folder: make_tar(folder / "a.tar", FRAMES),
    "gnu.tar": lambda folder: make_tar(folder / "a.tar", FRAMES, tarfile.GNU_FORMAT),
    "a folder": lambda folder: make_two(folder, FRAMES),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_members_are_frames(writer: str, tmp_path: Path) -> None:
    source = ArchiveSource(str(WRITERS[writer](tmp_path)))
    assert names_of(source) == sorted(FRAMES, key=str.encode)
    order = [LONG, "3.jpg", "v1/2.png", "3.jpg", "v2/ü 😀.jpg", "v1/1.jpg"]
    expected = [EncodedImage(FRAMES[name]).pixels() for name in order]
    for frame, pixels in zip(opened(source, *order), expected, strict=True):
        assert isinstance(frame, EncodedImage)
        np.testing.assert_array_equal(frame.pixels(), pixels)


def test_an_archive_behind_something_else(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", FRAMES)
    path.write_bytes(b"#!/bin/sh\nunzip $0\n" + path.read_bytes())
    assert all(isinstance(frame, EncodedImage) for frame in opened(ArchiveSource(str(path)), *FRAMES))


def test_members_beyond_four_gigabytes(tmp_path: Path) -> None:
    """The file has a hole: it takes no room on the disk."""
    path = tmp_path / "a.zip"
    path.touch()
    os.truncate(path, 5 * 2**30)
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("1.jpg", JPEG)
        assert target.getinfo("1.jpg").header_offset == 5 * 2**30
    assert names_of(ArchiveSource(str(path))) == ["1.jpg"]
    assert isinstance(opened(ArchiveSource(str(path)), "1.jpg")[0], EncodedImage)


def patched(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert len(old) == len(new)
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new))
    return path


def one(name: str, content: bytes = JPEG, method: int = zipfile.ZIP_STORED) -> Callable[[Path], Path]:
    return lambda path: make_zip(path, {name: content}, method)


def with_flag(path: Path, flag: int) -> None:
    """Set a flag of the first member, in its own header and in the directory's."""
    content = bytearray(path.read_bytes())
    for at in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        struct.pack_into("<H", content, at, struct.unpack_from("<H", content, at)[0] | flag)
    path.write_bytes(content)


def with_size(path: Path, size: int) -> None:
    """Say in the directory that the first member is of another size."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, size)
    path.write_bytes(content)


SPOILT: dict[str, tuple[Callable[[Path], object], type, str]] = {
    "another name": (one("b.jpg"), MissingFrameError, "no such member"),
    "an empty file": (one("a.jpg", b""), UnreadableImageError, "the file is empty"),
    "no image": (one("a.jpg", b"hello"), UnreadableImageError, "not an image"),
    "a byte is wrong": (
        lambda p: patched(one("a.jpg")(p), JPEG[50:60], b"0123456789"),
        UnreadableImageError,
        "checksum",
    ),
    "deflated, broken": (
        lambda p: patched(one("a.jpg", b"hello " * 999, 8)(p), b"a.jpg\xed", b"a.jpg\xff"),
        UnreadableImageError,
        "broken in the archive: Error -3",
    ),
    "encrypted": (lambda p: with_flag(one("a.jpg")(p), 1), UnreadableImageError, "encrypted"),
    "bzip2": (
        one("a.jpg", JPEG, zipfile.ZIP_BZIP2),
        UnreadableImageError,
        "compressed by method 12 of zip; accepted: 0, stored",
    ),
    "a bomb": (one("a.jpg", bytes(10_000_000), 8), UnreadableImageError, "too large: 10000000 bytes"),
    "a bomb that says it is small": (
        lambda p: with_size(one("a.jpg", bytes(10_000_000), 8)(p), 1000),
        UnreadableImageError,
        "its size or its checksum is another one",
    ),
    "it is larger than its archive": (
        lambda p: with_size(
            patched(one("a.jpg")(p), struct.pack("<2L", len(JPEG), len(JPEG)), struct.pack("<2L", 4000, 4000)), 4000
        ),
        UnreadableImageError,
        "truncated: the archive ends early",
    ),
    "its header is elsewhere": (
        lambda p: patched(one("a.jpg")(p), b"PK\3\4", b"PK\3\5"),
        UnreadableImageError,
        "header is not",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_member_costs_itself_alone(name: str, tmp_path: Path) -> None:
    spoil, kind, words = SPOILT[name]
    spoil(tmp_path / "a.zip")
    make_zip(tmp_path / "b.zip", {"good.jpg": JPEG})
    source = ArchiveSource(str(tmp_path), max_pixels=1000 * 1000)
    before, (found, reason), after = reasons(source, "good.jpg", "a.jpg", "good.jpg")
    assert before[0] is after[0] is EncodedImage
    assert found is kind
    assert words in reason


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_size(make_zip(tmp_path / "a.zip", {"a.jpg": bytes(50_000_000)}), 1000)
    most = []

    class Watched:
        def decompress(self, content: bytes, length: int) -> bytes:
            most.append(length)
            return b""

    monkeypatch.setattr(archive.zlib, "decompressobj", lambda _: Watched())
    assert reasons(ArchiveSource(str(tmp_path / "a.zip")), "a.jpg")[0][0] is UnreadableImageError
    assert most == [1001]


NO_FRAMES = ["/etc/passwd.jpg", "../up.jpg", "a/../../b.jpg", "a/./b.jpg", "a//b.jpg", ".."]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_members_that_leave_the_archive_are_no_frames(name: str, tmp_path: Path) -> None:
    source = ArchiveSource(str(make(tmp_path / name, dict.fromkeys([*NO_FRAMES, "v/1.jpg", "..v/..1.jpg"], JPEG))))
    assert names_of(source) == ["..v/..1.jpg", "v/1.jpg"]
    (note,) = source.notes()
    assert (note.kind, note.count, note.example) == ("ignored", len(NO_FRAMES), NO_FRAMES[0])
    assert [kind for kind, _ in reasons(source, *NO_FRAMES)] == [MissingFrameError] * len(NO_FRAMES)


def test_links_and_folders_are_no_frames(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "1.jpg").write_bytes(JPEG)
    (tmp_path / "v" / "link.jpg").symlink_to("1.jpg")
    os.link(tmp_path / "v" / "1.jpg", tmp_path / "v" / "same.jpg")
    os.mkfifo(tmp_path / "v" / "pipe.jpg")
    subprocess.run(["tar", "-cf", "a.tar", "./v"], cwd=tmp_path, check=True)
    link = zipfile.ZipInfo("w/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as target:
        target.mkdir("w")
        target.writestr(link, "1.jpg")
        target.writestr("w/1.jpg", JPEG)
    (one_of_two,) = names_of(ArchiveSource(str(tmp_path / "a.tar")))  # a hard link is one of equals
    assert one_of_two in ("v/1.jpg", "v/same.jpg")
    (note,) = ArchiveSource(str(tmp_path / "a.tar")).notes()
    assert str(note).startswith("3 members of archives are no frames: links")
    assert note.example in ("v/link.jpg", "v/pipe.jpg", "v/same.jpg", "v/1.jpg")
    assert names_of(ArchiveSource(str(tmp_path / "b.zip"))) == ["w/1.jpg"]
    (note,) = ArchiveSource(str(tmp_path / "b.zip")).notes()
    assert (note.count, note.example) == (1, "w/link.jpg")
    assert isinstance(opened(ArchiveSource(str(tmp_path / "a.tar")), one_of_two)[0], EncodedImage)


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize(("inside", "expected"), OWN_FOLDERS.items())
def test_paths_are_those_of_the_unpacked_archive(inside: str, expected: str, ending: str, tmp_path: Path) -> None:
    make(tmp_path / f"train_data7.{ending}", dict.fromkeys(inside.split(), JPEG))
    make(tmp_path / "another.tar", {"train_data/another.jpg": JPEG})
    source = ArchiveSource(str(tmp_path))
    assert set(names_of(source)) == {*expected.split(), "train_data/another.jpg"}
    assert all(isinstance(frame, EncodedImage) for frame in opened(source, *expected.split()))


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("count", range(51))
def test_any_number_of_members_below_the_own_folder(count: int, ending: str, tmp_path: Path) -> None:
    names = [f"train_data1/v{k % 3}/{k}.jpg" for k in range(count)]
    path = make(tmp_path / f"train_data1.{ending}", dict.fromkeys(names, b"x"))
    assert names_of(ArchiveSource(str(path))) == sorted(name.removeprefix("train_data1/") for name in names)


@effort(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    count=st.integers(0, 50),
    depth=st.integers(0, 3),
    folder=st.sampled_from(["", "train_data1/", "train_data/", "another/", "__MACOSX/"]),
    others=st.lists(st.sampled_from(["o.jpg", "train_data1/o.jpg", "train_data1/o/o.jpg", "__MACOSX/o/o.jpg"])),
    ending=st.sampled_from(["zip", "tar"]),
)
def test_names_are_those_that_unpack_gives(
    count: int, depth: int, folder: str, others: list[str], ending: str, tmp_path: Path
) -> None:
    names = [f"{folder}{'v/' * depth}{k}.jpg" for k in range(count)] + others
    members = dict.fromkeys(names, b"x")
    path = make(tmp_path / f"train_data1.{ending}", members)
    with zipfile.ZipFile(make_zip(tmp_path / "the same.zip", members)) as same:
        try:
            expected = {"/".join(parts) for parts in unpack.members(same, "train_data1")}
        except unpack.Refused:  # there is nothing to unpack
            expected = set()
    name_index._made_once.cache_clear()
    assert set(names_of(ArchiveSource(str(path)))) == expected


def test_a_zip_that_windows_wrote(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"train_data\\v\\1.jpg": JPEG})
    assert names_of(ArchiveSource(str(path))) == ["v/1.jpg"]


@pytest.mark.parametrize(
    ("stored", "flag", "name"),
    [(b"\x81.jpg", 0, "ü.jpg"), ("ü.jpg".encode(), 0, "ü.jpg"), (b"\x81.jpg", 0x800, os.fsdecode(b"\x81.jpg"))],
    ids=["code page 437", "UTF-8 that does not say so", "no UTF-8, though it says so"],
)
def test_names_that_are_not_ascii(stored: bytes, flag: int, name: str, tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"x" * (len(stored) - 4) + ".jpg": JPEG})
    patched(path, b"x" * (len(stored) - 4) + b".jpg", stored)
    with_flag(path, flag)
    assert names_of(ArchiveSource(str(path))) == [name]
    assert isinstance(opened(ArchiveSource(str(path)), name)[0], EncodedImage)


@pytest.mark.parametrize("name", ["\ud800.jpg", "a\0b.jpg", "x" * 10_000, "", "v1", "v1/", "./v1/1.jpg"], ids=ascii)
def test_what_no_member_is_called_is_missing(name: str, tmp_path: Path) -> None:
    assert reasons(ArchiveSource(str(make_zip(tmp_path / "a.zip", FRAMES))), name)[0][0] is MissingFrameError


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_of_two_members_of_one_path_in_one_archive_the_last_counts(name: str, tmp_path: Path) -> None:
    path = make(tmp_path / name, {"1.jpg": b"old", "2.jpg": JPEG})
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as target:
            target.writestr("1.jpg", PNG)
    else:
        with tarfile.open(path, "a") as tar:
            header = tarfile.TarInfo("1.jpg")
            header.size = len(PNG)
            tar.addfile(header, io.BytesIO(PNG))
    assert names_of(ArchiveSource(str(path))) == ["1.jpg", "2.jpg"]
    assert isinstance(opened(ArchiveSource(str(path)), "1.jpg")[0], EncodedImage)


def test_two_archives_with_a_member_of_one_path_are_refused(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"1.jpg": JPEG, "2.jpg": JPEG, "3.jpg": JPEG})
    make_tar(tmp_path / "b.tar", {"0.jpg": JPEG, "2.jpg": JPEG, "3.jpg": JPEG})
    with pytest.raises(SourceError, match=r"a\.zip and .*b\.tar: both have .* 2 in all \('2\.jpg', '3\.jpg'\)"):
        names_of(ArchiveSource(str(tmp_path)))


# -- archives that cannot be used


BROKEN: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty.zip": ("zip", lambda content: b"", "it has no central directory"),
    "text.zip": ("zip", lambda content: b"hello" * 100, "it has no central directory"),
    "cut.zip": ("zip", lambda content: content[: len(content) // 2], "it has no central directory"),
    "cut at its last bytes.zip": ("zip", lambda content: content[:-5], "it has no central directory"),
    "without its start.zip": ("zip", lambda content: content[100:], "what stands before its central directory"),
    "directory.zip": ("zip", lambda content: content.replace(b"PK\1\2", b"PK\1\3", 1), "central directory is damaged"),
    "empty.tar": ("tar", lambda content: b"", "empty file"),
    "text.tar": ("tar", lambda content: b"hello" * 1000, "header"),
    "cut.tar": ("tar", lambda content: content[: content.index(b"3.jpg") + 700], "unexpected end of data|does not end"),
    "cut between members.tar": ("tar", lambda content: content[: content.index(b"3.jpg")], "does not end where"),
    "header.tar": ("tar", lambda content: content.replace(b"3.jpg", b"4.jpg", 1), "it does not end where"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_refused_before_work_starts(name: str, tmp_path: Path) -> None:
    kind, spoil, words = BROKEN[name]
    content = make(tmp_path / f"good.{kind}", FRAMES).read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(spoil(content))
    (tmp_path / f"good.{kind}").rename(tmp_path / "folder" / f"a.{kind}")
    (tmp_path / "train.csv").write_text("frame_path,video_name,frame_id,class_name\n3.jpg,v,1,ok\n")
    source = ArchiveSource(str(tmp_path / "folder"))
    reason = rf"{name}: this {kind} is cut off or broken: .*({words}).*; get it again"
    with pytest.raises(SourceError, match=reason):
        names_of(source)
    table = frame_table.read_frames_csv(tmp_path / "train.csv", source, LABELS)
    assert re.search(reason, table.attrs["unreachable"])
    assert not table["on_disk"].any()
    given = settings(images=source.root, output=str(tmp_path / "out"))
    with pytest.raises(RunError, match=reason):
        run.detect_frames(frame_table.select_frames(table, ["ok"]), source, given, given.data.output)


@effort(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(["a.zip", "a.tar"]))
def test_whatever_bytes_are_wrong_a_row_comes_or_the_archive_is_refused(tmp_path: Path, data: Any, name: str) -> None:
    members = {"1.jpg": JPEG, "v/ü.jpg": b"x" * 50}
    content = bytearray(make(tmp_path / name, members).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content)
    name_index._made_once.cache_clear()
    shutil.rmtree(name_index._folder())
    source = ArchiveSource(str(tmp_path / name))
    try:
        known = names_of(source)
    except SourceError:
        known = []
    assert all(
        isinstance(frame, EncodedImage | MissingFrameError | UnreadableImageError)
        for _, frame in source.open([*members, *known])
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.tar.gz", "a compressed tar can only be read from its start; decompress it to a .tar, or make a .zip"),
        ("a.TGZ", "decompress it to a .tar"),
        ("a.rar", r"this is no archive; accepted: names that end in \.zip or \.tar"),
        ("nowhere.zip", "the archive cannot be read: No such file"),
        (".", "there is no archive in this folder; .* data.source"),
        ("nowhere", "this is no archive"),
    ],
)
def test_what_is_no_archive_is_refused(name: str, words: str, tmp_path: Path) -> None:
    if name[0] == "a":
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=words):
        names_of(ArchiveSource(str(tmp_path / name)))


def test_a_compressed_tar_beside_archives_is_not_passed_over(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", FRAMES)
    (tmp_path / "b.tgz").touch()
    (tmp_path / "._a.zip").write_bytes(b"what macOS leaves beside a file")
    with pytest.raises(SourceError, match=r"b\.tgz: a compressed tar"):
        names_of(ArchiveSource(str(tmp_path)))
    (tmp_path / "b.tgz").unlink()
    assert len(names_of(ArchiveSource(str(tmp_path)))) == len(FRAMES)


# -- which source it is


@pytest.mark.parametrize(
    ("inside", "images", "kind", "expected"),
    [
        (["a.zip", "b.tar", "read me.txt"], ".", None, ArchiveSource),
        (["a.zip", ".ipynb_checkpoints/"], ".", None, ArchiveSource),
        (["a.zip", "v1/"], ".", None, FolderSource),
        (["a.zip", "v1/"], ".", "archives", ArchiveSource),
        (["a.zip"], ".", "folder", FolderSource),
        (["a.zip"], "a.zip", None, ArchiveSource),
        (["a.tgz"], "a.tgz", None, ArchiveSource),  # which refuses it, and says what to do
        (["a.zip/"], "a.zip", None, FolderSource),
        (["1.jpg"], ".", None, FolderSource),
        ([], "nowhere", None, FolderSource),
        ([], "memory://bucket/frames", None, BucketSource),
        ([], "memory://bucket/a.zip", "folder", BucketSource),
    ],
)
def test_what_is_there_says_which_source_it_is(
    inside: list[str], images: str, kind: str | None, expected: type, tmp_path: Path
) -> None:
    for name in inside:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    if expected is BucketSource:
        pytest.importorskip("fsspec")
    place = images if "://" in images else str(tmp_path / images)
    assert type(sources.open_source(settings(images=place, source=kind))) is expected


@pytest.mark.parametrize("kind", [None, "archives"])
def test_archives_in_a_bucket_are_refused(kind: str | None) -> None:
    with pytest.raises(SourceError, match=r"s3://bucket/a\.zip: archives cannot be read in a bucket; mount it"):
        sources.open_source(settings(images="s3://bucket/a.zip", source=kind))


@pytest.mark.parametrize(("inside", "told"), [(["a.zip", "v"], True), (["a.zip"], False), (["v"], False)])
def test_archives_that_are_passed_over_are_told(inside: list[str], told: bool, tmp_path: Path) -> None:
    for name in inside:
        make_zip(tmp_path / name, FRAMES) if "." in name else (tmp_path / name).mkdir()
    (tmp_path / "train.csv").write_text("frame_path,video_name,frame_id,class_name\n3.jpg,v,1,ok\n")
    source = sources.open_source(settings(images=str(tmp_path)))
    assert [note.kind for note in source.notes()] == ["passed_over"] * told
    table = frame_table.select_frames(frame_table.read_frames_csv(tmp_path / "train.csv", source, LABELS), ["ok"])
    said = frame_table.summarize_frames(table)
    assert ("not read, since there are folders beside, such as 'v'; " in said) == told
    assert said.endswith("say `source: archives` (the first: 'a.zip')") == told
    assert sources.open_source(settings(images=str(tmp_path), source="folder")).notes() == []  # as it was asked for


# -- what is told of members without reading them


def test_the_stamp_of_a_member_is_in_its_directory(tmp_path: Path) -> None:
    zipped, tarred = make_zip(tmp_path / "a.zip", FRAMES), tmp_path / "b.tar"
    with tarfile.open(tarred, "w", format=tarfile.PAX_FORMAT) as target:
        for k, (name, content) in enumerate(FRAMES.items()):
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(content), [1_700_000_000, 1.5, 2**40][k % 3]
            target.addfile(header, io.BytesIO(content))
    assert dict(ArchiveSource(str(zipped)).list_frames()) == {
        name: f"{len(content)}-{zlib.crc32(content):08x}" for name, content in FRAMES.items()
    }
    assert dict(ArchiveSource(str(tarred)).list_frames()) == {
        name: f"{len(content)}-{[1_700_000_000, 1, 2**40][k % 3]}" for k, (name, content) in enumerate(FRAMES.items())
    }


@pytest.mark.parametrize("mtime", ["nan", "inf", "-inf", "1e300"])
def test_a_time_that_is_no_time_costs_no_member(mtime: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as target:
        header = tarfile.TarInfo("1.jpg")
        header.size, header.pax_headers = len(JPEG), {"mtime": mtime}
        target.addfile(header, io.BytesIO(JPEG))
    assert list(ArchiveSource(str(tmp_path / "a.tar")).list_frames()) == [("1.jpg", f"{len(JPEG)}-0")]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_contents_are_those_of_pictures(name: str, tmp_path: Path) -> None:
    source = ArchiveSource(str(make(tmp_path / name, FRAMES | {"text.jpg": b"hello"})))
    asked = ["3.jpg", "v1/2.png", "nowhere.jpg", "text.jpg"]
    contents = [describe_content(FRAMES["3.jpg"]), describe_content(FRAMES["v1/2.png"]), None, "5-3610a686"]
    assert list(source.read_contents(asked)) == list(zip(asked, contents, strict=True))
    assert [frame.content for frame in opened(source, *asked)] == contents


# -- the index


def test_the_index_is_read_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ArchiveSource(str(make_zip(tmp_path / "a.zip", FRAMES)))
    names_of(source)
    name_index._made_once.cache_clear()  # as in another process
    monkeypatch.setattr(archive, "_zip_members", None)
    elsewhere = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 500
    assert isinstance(opened(elsewhere, "3.jpg")[0], EncodedImage)


@pytest.mark.parametrize("lost", ["gone", "cut", "of somebody else", "not to be written"])
def test_without_its_file_the_index_is_made_anew(
    lost: str, tmp_path: Path, own_indexes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ArchiveSource(str(make_zip(tmp_path / "a.zip", FRAMES)))
    names_of(source)
    (index,) = own_indexes.rglob("*.arrow")
    if lost == "gone":
        shutil.rmtree(index.parent)
    elif lost == "cut":
        os.truncate(index, 100)
    elif lost == "of somebody else":
        index.parent.chmod(0o777)
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    name_index._made_once.cache_clear()
    assert isinstance(opened(source, "3.jpg")[0], EncodedImage)
    assert [path.suffix for path in own_indexes.rglob("*") if path.is_file()] in ([".arrow"], [])


def test_an_index_that_nobody_used_for_long_is_deleted_when_another_is_made(tmp_path: Path) -> None:
    paths = [make_zip(tmp_path / f"{name}.zip", FRAMES) for name in ("used", "forgotten", "new")]
    for path in paths[:2]:
        names_of(ArchiveSource(str(path)))
    left = name_index._folder() / "of one that was killed"
    left.touch()
    for index in name_index._folder().iterdir():
        os.utime(index, (0, time.time() - 31 * 24 * 3600))
    name_index._made_once.cache_clear()  # as in another process
    names_of(ArchiveSource(str(paths[0])))
    assert len([*name_index._folder().iterdir()]) == 3
    names_of(ArchiveSource(str(paths[2])))
    assert len([*name_index._folder().iterdir()]) == 2
    assert not left.exists()


def test_another_archive_of_the_same_name_has_another_index(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"1.jpg": JPEG})
    assert names_of(ArchiveSource(str(path))) == ["1.jpg"]
    path.unlink()
    make_zip(path, {"2.jpg": JPEG, "3.jpg": JPEG})
    assert names_of(ArchiveSource(str(path))) == ["2.jpg", "3.jpg"]


def test_an_archive_that_is_lost_on_the_way_is_no_missing_frame(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", FRAMES)
    source = ArchiveSource(str(path))
    names_of(source)
    path.unlink()
    assert [kind for kind, _ in reasons(source, "3.jpg", "nowhere.jpg")] == [
        UnreachableFrameError,
        UnreachableFrameError,
    ]


def test_no_file_stays_open(tmp_path: Path) -> None:
    for number in range(5):
        make_zip(tmp_path / f"{number}.zip", {f"{number}.jpg": JPEG})
    source = ArchiveSource(str(tmp_path))
    names = names_of(source)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("there is no /proc")
    list(source.open(names))
    next(source.open(names))  # and no more of them
    assert len(os.listdir("/proc/self/fd")) == before


# -- a run


def test_a_worker_finds_in_archives_what_it_finds_in_a_folder(tmp_path: Path, worker: Worker) -> None:
    sample = Path(__file__).parents[1] / "data" / "sample" / "TRAIN_DATA"
    names = sorted(str(path.relative_to(sample)) for path in sample.rglob("*.jpg"))[::30]
    make_two(tmp_path, {name: (sample / name).read_bytes() for name in names})
    assert len(names) >= 3
    assert worker(ArchiveSource(str(tmp_path)), names).equals(worker(FolderSource(str(sample)), names))


@pytest.mark.slow
def test_a_run_from_archives_by_worker_processes(tmp_path: Path) -> None:
    names = [f"v/{k}.jpg" for k in range(12)]
    make_zip(tmp_path / "a.zip", dict.fromkeys(names, JPEG))
    given = settings(images=str(tmp_path / "a.zip"), output=str(tmp_path / "out"), workers=2, save_per_num_images=5)
    source = sources.open_source(given)
    found = run.detect_frames(table_of([*names, "v/gone.jpg"], names), source, given, given.data.output)
    assert found["outcome"].to_pylist() == ["ok"] * 12 + ["missing"]
    elsewhere = table_of(["another/1.jpg"], [])
    with pytest.raises(RunError, match=r"a\.zip: not one of the 1 wanted frames is there"):
        run.detect_frames(elsewhere, source, given, given.data.output)


MEASURE = """
import sys, time
from detectime import frames
from detectime.sources.archive import Archives

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

source = Archives(sys.argv[1])
before, started = peak(), time.monotonic()
if sys.argv[2] == "names":
    count = sum(1 for _ in source.list_frames())
else:
    ((_, frame),) = source.open(["v/000007.jpg"])
    count = str(frame)
print(peak() - before, time.monotonic() - started, count, sep="|")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_many_members_take_little_memory(name: str, tmp_path: Path) -> None:
    count = 100_000
    make(tmp_path / name, {f"v/{k:06d}.jpg": b"x" for k in range(count)})

    def measure(what: str) -> list[str]:
        command = [sys.executable, "-c", MEASURE, str(tmp_path / name), what]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("|")

    megabytes, seconds, told = measure("names")
    assert told == str(count)
    assert float(megabytes) < 80  # a member is less than a kilobyte, as the standard library's object it is one
    assert float(seconds) < 10
    megabytes, seconds, told = measure("open")
    assert told.startswith("not an image")
    assert float(megabytes) < 20
    assert float(seconds) < 1
