"""Archives as a source: every member gives one row, never an exception, and a broken archive is rejected by name."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import (
    LABELS,
    OWN_FOLDERS,
    count_open_files,
    draw_pattern,
    encode_image,
    forget_name_indexes,
    list_names,
    measure_memory,
    read_all,
)
from faults import make_config, tabulate_frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skips import need_extra

from detectime import sources
from detectime.detection import run
from detectime.detection.manifest import RunError
from detectime.detection.worker import Worker
from detectime.images import EncodedImage, UnreadableImageError, decode_image, describe_content
from detectime.labels import frame_table, frames_csv
from detectime.sources import tar_members, zip_members
from detectime.sources.archive import ArchiveSource, FolderBesideArchives
from detectime.sources.bucket import BucketSource
from detectime.sources.contract import MissingFrameError, RefusedSourceError, SourceError, UnreachableFrameError
from detectime.sources.folder import FolderSource
from detectime.sources.reading import read_contents
from tools import unpack

JPEG, PNG = (encode_image(draw_pattern(), kind) for kind in ("JPEG", "PNG"))
LONG = f"{'folder/' * 40}{'x' * 120}.jpg"
FRAMES = {"v1/1.jpg": JPEG, "v1/2.png": PNG, "v2/ü 😀.jpg": JPEG, "3.jpg": JPEG, LONG: PNG}


pytestmark = pytest.mark.usefixtures("temporary_folder")  # indexes are cached in it


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


def make_archive(path: Path, members: Mapping[str, bytes]) -> Path:
    return (make_zip if path.suffix == ".zip" else make_tar)(path, members)


def make_two(folder: Path, members: Mapping[str, bytes]) -> Path:
    half = len(members) // 2
    make_zip(folder / "train_data1.zip", dict(list(members.items())[:half]))
    make_tar(folder / "train_data2.tar", dict(list(members.items())[half:]))
    return folder


def list_reasons(source: ArchiveSource, *names: str, **limits: int) -> list[tuple[type, str]]:
    """Read frames; return the type of each, and its message if it is an error."""
    return [(type(frame), str(frame)) for frame in read_all(source, names, **limits)]


WRITERS: dict[str, Callable[[Path], Path]] = {
    "stored.zip": lambda folder: make_zip(folder / "a.zip", FRAMES, zipfile.ZIP_STORED),
    "deflated.zip": lambda folder: make_zip(folder / "a.zip", FRAMES),
    "bzip2.zip": lambda folder: make_zip(folder / "a.zip", FRAMES, zipfile.ZIP_BZIP2),
    "lzma.zip": lambda folder: make_zip(folder / "a.zip", FRAMES, zipfile.ZIP_LZMA),
    "wide.zip": lambda folder: make_zip(folder / "a.zip", FRAMES, wide=True),
    "capital.ZIP": lambda folder: make_zip(folder / "a.ZIP", FRAMES),
    "pax.tar": lambda folder: make_tar(folder / "a.tar", FRAMES),
    "gnu.tar": lambda folder: make_tar(folder / "a.tar", FRAMES, tarfile.GNU_FORMAT),
    "a folder": lambda folder: make_two(folder, FRAMES),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_members_are_frames(writer: str, tmp_path: Path) -> None:
    source = ArchiveSource(str(WRITERS[writer](tmp_path)))
    assert list_names(source) == sorted(FRAMES, key=str.encode)
    order = [LONG, "3.jpg", "v1/2.png", "3.jpg", "v2/ü 😀.jpg", "v1/1.jpg"]
    expected = [decode_image(FRAMES[name]) for name in order]
    for frame, pixels in zip(read_all(source, order), expected, strict=True):
        assert isinstance(frame, EncodedImage)
        np.testing.assert_array_equal(frame.read_pixels(), pixels)


def test_a_zip_with_a_prefix(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", FRAMES)
    path.write_bytes(b"#!/bin/sh\nunzip $0\n" + path.read_bytes())
    assert all(isinstance(frame, EncodedImage) for frame in read_all(ArchiveSource(str(path)), FRAMES))


def test_members_beyond_four_gigabytes(tmp_path: Path) -> None:
    """The file has a hole, so it takes no space on the disk."""
    path = tmp_path / "a.zip"
    path.touch()
    os.truncate(path, 5 * 2**30)
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("1.jpg", JPEG)
        assert target.getinfo("1.jpg").header_offset == 5 * 2**30
    assert list_names(ArchiveSource(str(path))) == ["1.jpg"]
    assert isinstance(read_all(ArchiveSource(str(path)), ["1.jpg"])[0], EncodedImage)


def replace_bytes(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert len(old) == len(new)
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new))
    return path


def zip_one(name: str, content: bytes = JPEG, method: int = zipfile.ZIP_STORED) -> Callable[[Path], Path]:
    return lambda path: make_zip(path, {name: content}, method)


def set_flag(path: Path, flag: int) -> None:
    """Set a flag of the first member, in its local header and in the central directory."""
    content = bytearray(path.read_bytes())
    for at in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        struct.pack_into("<H", content, at, struct.unpack_from("<H", content, at)[0] | flag)
    path.write_bytes(content)


def set_method(path: Path, method: int) -> Path:
    """Change the method of the members, in their local headers and in the central directory."""
    content = path.read_bytes()
    for signature, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        parts = content.split(signature)
        content = signature.join(
            [parts[0], *(p[: at - 4] + struct.pack("<H", method) + p[at - 2 :] for p in parts[1:])]
        )
    path.write_bytes(content)
    return path


def set_size(path: Path, size: int) -> None:
    """Change the size of the first member in the central directory."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, size)
    path.write_bytes(content)


DAMAGED: dict[str, tuple[Callable[[Path], object], type, str]] = {
    "another name": (zip_one("b.jpg"), MissingFrameError, "no such member"),
    "an empty file": (zip_one("a.jpg", b""), UnreadableImageError, "the file is empty"),
    "no image": (zip_one("a.jpg", b"hello"), UnreadableImageError, "not an image"),
    "a byte is wrong": (
        lambda p: replace_bytes(zip_one("a.jpg")(p), JPEG[50:60], b"0123456789"),
        UnreadableImageError,
        "checksum",
    ),
    "deflated, broken": (
        lambda p: replace_bytes(zip_one("a.jpg", b"hello " * 999, 8)(p), b"a.jpg\xed", b"a.jpg\xff"),
        UnreadableImageError,
        "broken in the archive: Error -3",
    ),
    "encrypted": (
        lambda p: set_flag(zip_one("a.jpg")(p), 1),
        UnreadableImageError,
        "encrypted, which is not read; unpack the archive, for instance with 7z x and its password",
    ),
    "Deflate64": (
        lambda p: set_method(zip_one("a.jpg", JPEG, 8)(p), 9),
        UnreadableImageError,
        "compressed by Deflate64, which is not read; unpack",
    ),
    "bzip2, broken": (
        lambda p: replace_bytes(zip_one("a.jpg", b"hello " * 999, zipfile.ZIP_BZIP2)(p), b"1AY&SY", b"1AY&SZ"),
        UnreadableImageError,
        "broken in the archive: Invalid data stream",
    ),
    "LZMA, broken": (
        lambda p: replace_bytes(zip_one("a.jpg", JPEG, zipfile.ZIP_LZMA)(p), b"\x05\x00\x5d", b"\x05\x00\xff"),
        UnreadableImageError,
        "broken in the archive: ",
    ),
    "a bomb of bzip2 with a small size in the directory": (
        lambda p: set_size(zip_one("a.jpg", bytes(10_000_000), zipfile.ZIP_BZIP2)(p), 1000),
        UnreadableImageError,
        "its size or its checksum differs",
    ),
    "a bomb of LZMA with a small size in the directory": (
        lambda p: set_size(zip_one("a.jpg", bytes(10_000_000), zipfile.ZIP_LZMA)(p), 1000),
        UnreadableImageError,
        "its size or its checksum differs",
    ),
    "a bomb": (zip_one("a.jpg", bytes(10_000_000), 8), UnreadableImageError, "too large: 10000000 bytes"),
    "a bomb with a small size in the directory": (
        lambda p: set_size(zip_one("a.jpg", bytes(10_000_000), 8)(p), 1000),
        UnreadableImageError,
        "its size or its checksum differs",
    ),
    "it is larger than its archive": (
        lambda p: set_size(
            replace_bytes(
                zip_one("a.jpg")(p), struct.pack("<2L", len(JPEG), len(JPEG)), struct.pack("<2L", 4000, 4000)
            ),
            4000,
        ),
        UnreadableImageError,
        "truncated: the archive ends early",
    ),
    "its header is elsewhere": (
        lambda p: replace_bytes(zip_one("a.jpg")(p), b"PK\3\4", b"PK\3\5"),
        UnreadableImageError,
        "header is not",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_member_affects_no_other(name: str, tmp_path: Path) -> None:
    damage, kind, words = DAMAGED[name]
    damage(tmp_path / "a.zip")
    make_zip(tmp_path / "b.zip", {"good.jpg": JPEG})
    names = ("good.jpg", "a.jpg", "good.jpg")
    before, (found, reason), after = list_reasons(ArchiveSource(str(tmp_path)), *names, max_pixels=1000 * 1000)
    assert before[0] is after[0] is EncodedImage
    assert found is kind
    assert words in reason


def test_nothing_is_allocated_for_bytes_that_are_not_there(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.jpg": JPEG})
    with open(path, "rb") as file, pytest.raises(UnreadableImageError, match="truncated: the archive ends early"):
        zip_members.read_zip_member(file, 0, 2**50, 2**50, 0)
    with open(path, "rb") as file, pytest.raises(UnreadableImageError, match="truncated: the archive ends early"):
        tar_members.read_tar_member(file, 0, 2**50, 2**50, None)
    with open(path, "rb") as file, pytest.raises(UnreadableImageError, match="broken in the archive: a sparse file of"):
        tar_members.read_tar_member(file, 0, 0, 2**62, [])


def test_a_bomb_is_not_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_size(make_zip(tmp_path / "a.zip", {"a.jpg": bytes(50_000_000)}), 1000)
    lengths = []

    class Watched:
        def decompress(self, content: bytes, length: int) -> bytes:
            lengths.append(length)
            return b""

    monkeypatch.setattr(zip_members.zlib, "decompressobj", lambda _: Watched())
    assert list_reasons(ArchiveSource(str(tmp_path / "a.zip")), "a.jpg")[0][0] is UnreadableImageError
    assert lengths == [1001]


NO_FRAMES = ["../up.jpg", "a/../../b.jpg", "a/../b.jpg", ".."]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_members_outside_the_archive_are_ignored(name: str, tmp_path: Path) -> None:
    source = ArchiveSource(
        str(make_archive(tmp_path / name, dict.fromkeys([*NO_FRAMES, "v/1.jpg", "..v/..1.jpg"], JPEG)))
    )
    assert list_names(source) == ["..v/..1.jpg", "v/1.jpg"]
    (note,) = source.list_notes()
    assert (note.kind, note.count, note.example) == ("ignored", len(NO_FRAMES), NO_FRAMES[0])
    assert [kind for kind, _ in list_reasons(source, *NO_FRAMES)] == [MissingFrameError] * len(NO_FRAMES)


def test_links_have_the_content_that_they_lead_to_and_folders_are_ignored(tmp_path: Path) -> None:
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
    tarred, zipped = ArchiveSource(str(tmp_path / "a.tar")), ArchiveSource(str(tmp_path / "b.zip"))
    assert list_names(tarred) == ["v/1.jpg", "v/link.jpg", "v/same.jpg"]  # one of two is a hard link to the other
    assert [frame for _, frame in tarred.read_frames(list_names(tarred))] == [JPEG] * 3
    (note,) = tarred.list_notes()
    assert str(note).startswith("1 member of an archive is not a frame: links")
    assert note.example == "./v/pipe.jpg"
    assert list_names(zipped) == ["w/1.jpg", "w/link.jpg"]
    assert [frame for _, frame in zipped.read_frames(list_names(zipped))] == [JPEG] * 2
    assert zipped.list_notes() == []


Links = list[tuple[str, bytes | str, bytes | None]]
"""Members in their order: the path, the content or the target, and the type of a link in a tar."""

HARD, SOFT = tarfile.LNKTYPE, tarfile.SYMTYPE

LINKS: dict[str, tuple[Links, dict[str, bytes], int]] = {
    "hard": ([("v/1.jpg", JPEG, None), ("v/2.jpg", "v/1.jpg", HARD)], {"v/1.jpg": JPEG, "v/2.jpg": JPEG}, 0),
    "hard, before its target": ([("a.jpg", "b.jpg", HARD), ("b.jpg", PNG, None)], {"a.jpg": PNG, "b.jpg": PNG}, 0),
    "hard, with ./": ([("./a.jpg", JPEG, None), ("./b.jpg", "./a.jpg", HARD)], {"a.jpg": JPEG, "b.jpg": JPEG}, 0),
    "hard, of what was there before": (
        [("a.jpg", JPEG, None), ("b.jpg", "a.jpg", HARD), ("a.jpg", PNG, None)],
        {"a.jpg": PNG, "b.jpg": JPEG},
        0,
    ),
    "hard, one after another": (
        [("c.jpg", "b.jpg", HARD), ("b.jpg", "a.jpg", HARD), ("a.jpg", JPEG, None)],
        {"a.jpg": JPEG, "b.jpg": JPEG, "c.jpg": JPEG},
        0,
    ),
    "hard, to nothing": ([("a.jpg", JPEG, None), ("b.jpg", "c.jpg", HARD)], {"a.jpg": JPEG}, 1),
    "in a circle": ([("a.jpg", "b.jpg", HARD), ("b.jpg", "a.jpg", HARD), ("c.jpg", "c.jpg", SOFT)], {}, 3),
    "soft": ([("v/1.jpg", JPEG, None), ("w/2.jpg", "../v/1.jpg", SOFT)], {"v/1.jpg": JPEG, "w/2.jpg": JPEG}, 0),
    "soft, to a hard one": (
        [("c.jpg", "./b.jpg", SOFT), ("a.jpg", PNG, None), ("b.jpg", "a.jpg", HARD)],
        {"a.jpg": PNG, "b.jpg": PNG, "c.jpg": PNG},
        0,
    ),
    "soft, replaced by a file": ([("a.jpg", "b.jpg", SOFT), ("a.jpg", JPEG, None)], {"a.jpg": JPEG}, 1),
    "soft, out of the archive": (
        [("a.jpg", "/etc/a.jpg", SOFT), ("b.jpg", "../c.jpg", SOFT), ("c.jpg", JPEG, None)],
        {"c.jpg": JPEG},
        2,
    ),
    "soft, to a folder": ([("v/1.jpg", JPEG, None), ("latest", "v", SOFT)], {"v/1.jpg": JPEG}, 1),
    "below the own folder": (
        [("a/v/1.jpg", JPEG, None), ("a/v/2.jpg", "a/v/1.jpg", HARD), ("a/v/3.jpg", "1.jpg", SOFT)],
        {"v/1.jpg": JPEG, "v/2.jpg": JPEG, "v/3.jpg": JPEG},
        0,
    ),
}


@pytest.mark.parametrize("case", LINKS)
def test_links_in_a_tar(case: str, tmp_path: Path) -> None:
    members, expected, ignored = LINKS[case]
    with tarfile.open(tmp_path / "a.tar", "w") as target:
        for name, content, kind in members:
            header = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                header.size = len(content)
                target.addfile(header, io.BytesIO(content))
            else:
                header.type, header.linkname = kind or HARD, content
                target.addfile(header)
    source = ArchiveSource(str(tmp_path / "a.tar"))
    assert dict(source.read_frames(list_names(source))) == expected
    assert sum(note.count for note in source.list_notes() if note.kind == "ignored") == ignored


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_symbolic_links_in_a_zip(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as target:
        for name, content in (("w/2.jpg", b"../v/1.jpg"), ("w/3.jpg", b"2.jpg"), ("w/4.jpg", b"/v/1.jpg")):
            link = zipfile.ZipInfo(name)
            link.external_attr, link.compress_type = (stat.S_IFLNK | 0o777) << 16, method
            target.writestr(link, content)
        target.writestr("v/1.jpg", JPEG)
    source = ArchiveSource(str(tmp_path / "a.zip"))
    assert dict(source.read_frames(list_names(source))) == dict.fromkeys(["v/1.jpg", "w/2.jpg", "w/3.jpg"], JPEG)
    assert [(note.kind, note.count, note.example) for note in source.list_notes()] == [("ignored", 1, "w/4.jpg")]


@pytest.mark.parametrize("form", ["gnu", "pax", "oldgnu"])
def test_a_sparse_file_in_a_tar(form: str, tmp_path: Path) -> None:
    content = bytes(2**20) + JPEG + bytes(2**20) + b"end"
    with open(tmp_path / "1.jpg", "wb") as file:
        for part in (JPEG, b"end"):
            file.seek(2**20, os.SEEK_CUR)
            file.write(part)
    subprocess.run(["tar", "-Scf", "a.tar", f"--format={form.removeprefix('old')}", "1.jpg"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.tar").stat().st_size < 2**20
    source = ArchiveSource(str(tmp_path / "a.tar"))
    assert dict(source.read_frames(["1.jpg"])) == {"1.jpg": content}
    assert next(source.list_frames())[1].startswith(f"{len(content)}-")


_PLAIN = ["./v/1.jpg", "/v/1.jpg", "././v/1.jpg", "v//1.jpg", "v/./1.jpg", "//v/1.jpg"]


@pytest.mark.parametrize(
    ("ending", "stored"),
    [("tar", name) for name in _PLAIN]
    + [
        ("zip", name) for name in [*_PLAIN, ".\\v\\1.jpg", "\\v\\1.jpg"]
    ],  # Unix writes tars: there it is a part of a name
)
def test_what_does_not_change_a_path_does_not_count(stored: str, ending: str, tmp_path: Path) -> None:
    path = make_archive(tmp_path / f"a.{ending}", {stored: JPEG, "v/2.jpg": PNG})
    source = ArchiveSource(str(path))
    assert list_names(source) == ["v/1.jpg", "v/2.jpg"]
    assert source.list_notes() == []
    assert dict(source.read_frames(["v/1.jpg"])) == {"v/1.jpg": JPEG}


def test_a_second_name_in_unicode_counts(tmp_path: Path) -> None:
    """Programs on Windows write the name in the code page of the machine, and once more in UTF-8."""
    stored = "\u0444.jpg".encode("cp866")
    field = struct.pack("<BL", 1, zlib.crc32(stored)) + "\u0444.jpg".encode()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        header = zipfile.ZipInfo("x.jpg")
        header.extra = struct.pack("<2H", 0x7075, len(field)) + field
        target.writestr(header, JPEG)
    replace_bytes(tmp_path / "a.zip", b"x.jpg", stored)
    source = ArchiveSource(str(tmp_path / "a.zip"))
    assert list_names(source) == ["\u0444.jpg"]
    assert dict(source.read_frames(["\u0444.jpg"])) == {"\u0444.jpg": JPEG}


def test_a_cut_map_of_a_sparse_file_breaks_the_tar_alone(tmp_path: Path) -> None:
    """The library raises an IndexError there."""
    header = bytearray(tarfile.TarInfo("1.jpg").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[386:398] = b"00000000001\0"
    header[482:483] = b"\1"  # the map goes on in the next block
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + b"1" * 10)
    with pytest.raises(SourceError, match=r"a\.tar: this tar is cut off or broken"):
        list_names(ArchiveSource(str(tmp_path / "a.tar")))


def test_a_damaged_header_allocates_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as target:
        header = tarfile.TarInfo("././@LongLink")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**46
        target.addfile(header)
    with pytest.raises(SourceError, match=r"a\.tar: this tar is cut off or broken"):
        list_names(ArchiveSource(str(tmp_path / "a.tar")))


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize(("inside", "expected"), OWN_FOLDERS.items())
def test_paths_are_those_of_the_unpacked_archive(inside: str, expected: str, ending: str, tmp_path: Path) -> None:
    make_archive(tmp_path / f"train_data7.{ending}", dict.fromkeys(inside.split(), JPEG))
    make_archive(tmp_path / "another.tar", {"train_data/another.jpg": JPEG})
    source = ArchiveSource(str(tmp_path))
    assert set(list_names(source)) == {*expected.split(), "train_data/another.jpg"}
    assert all(isinstance(frame, EncodedImage) for frame in read_all(source, expected.split()))


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("count", range(51))
def test_any_number_of_members_below_the_own_folder(count: int, ending: str, tmp_path: Path) -> None:
    names = [f"train_data1/v{k % 3}/{k}.jpg" for k in range(count)]
    path = make_archive(tmp_path / f"train_data1.{ending}", dict.fromkeys(names, b"x"))
    assert list_names(ArchiveSource(str(path))) == sorted(name.removeprefix("train_data1/") for name in names)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    count=st.integers(0, 50),
    depth=st.integers(0, 3),
    folder=st.sampled_from(["", "train_data1/", "train_data/", "another/", "__MACOSX/"]),
    others=st.lists(st.sampled_from(["o.jpg", "train_data1/o.jpg", "train_data1/o/o.jpg", "__MACOSX/o/o.jpg"])),
    ending=st.sampled_from(["zip", "tar"]),
)
def test_names_equal_those_of_unpack(
    count: int, depth: int, folder: str, others: list[str], ending: str, tmp_path: Path
) -> None:
    names = [f"{folder}{'v/' * depth}{k}.jpg" for k in range(count)] + others
    members = dict.fromkeys(names, b"x")
    path = make_archive(tmp_path / f"train_data1.{ending}", members)
    with zipfile.ZipFile(make_zip(tmp_path / "the same.zip", members)) as same:
        try:
            expected = {"/".join(parts) for parts in unpack.list_members(same, "train_data1")}
        except unpack.RefusedError:  # nothing to unpack
            expected = set()
    forget_name_indexes()
    assert set(list_names(ArchiveSource(str(path)))) == expected


def test_a_zip_with_backslashes(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"train_data\\v\\1.jpg": JPEG})
    assert list_names(ArchiveSource(str(path))) == ["v/1.jpg"]


@pytest.mark.parametrize(
    ("stored", "flag", "name"),
    [(b"\x81.jpg", 0, "ü.jpg"), ("ü.jpg".encode(), 0, "ü.jpg")],
    ids=["code page 437", "UTF-8 without its flag"],
)
def test_names_other_than_ascii(stored: bytes, flag: int, name: str, tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"x" * (len(stored) - 4) + ".jpg": JPEG})
    replace_bytes(path, b"x" * (len(stored) - 4) + b".jpg", stored)
    set_flag(path, flag)
    assert list_names(ArchiveSource(str(path))) == [name]
    assert isinstance(read_all(ArchiveSource(str(path)), [name])[0], EncodedImage)


@pytest.mark.parametrize("name", ["\ud800.jpg", "a\0b.jpg", "x" * 10_000, "", "v1", "v1/", "./v1/1.jpg"], ids=ascii)
def test_any_other_name_is_missing(name: str, tmp_path: Path) -> None:
    assert list_reasons(ArchiveSource(str(make_zip(tmp_path / "a.zip", FRAMES))), name)[0][0] is MissingFrameError


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_the_last_of_two_members_with_one_path_counts(name: str, tmp_path: Path) -> None:
    path = make_archive(tmp_path / name, {"1.jpg": b"old", "2.jpg": JPEG})
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as target:
            target.writestr("1.jpg", PNG)
    else:
        with tarfile.open(path, "a") as tar:
            header = tarfile.TarInfo("1.jpg")
            header.size = len(PNG)
            tar.addfile(header, io.BytesIO(PNG))
    source = ArchiveSource(str(path))
    assert list_names(source) == ["1.jpg", "2.jpg"]
    assert isinstance(read_all(source, ["1.jpg"])[0], EncodedImage)
    (note,) = source.list_notes()
    assert str(note) == (
        "1 member of an archive has the path of a later one, which is read, as in unpacking (the first: '1.jpg')"
    )


# -- methods that are not read


METHODS = {
    "Deflate64": (9, "compressed by Deflate64", "7z x, and give the folder, or pack that again: zip -r"),
    "Zstandard": (93, "compressed by Zstandard", "pack that again"),
    "PPMd": (98, "compressed by PPMd", "pack that again"),
    "another one": (42, "compressed by method 42 of zip", "pack that again"),
    "encryption": (None, "encrypted", "7z x and its password, and give the folder"),
    "AES": (99, "encrypted by AES", "7z x and its password, and give the folder"),
}


def spoil(path: Path, method: int | None) -> Path:
    """Make all members of a zip unreadable: by another method, or by encryption."""
    content = path.read_bytes()
    for at in (*re.finditer(b"PK\3\4", content), *re.finditer(b"PK\1\2", content)):
        start = at.start() + (6 if content[at.start() + 2] == 3 else 8)
        flags = struct.unpack_from("<H", content, start)[0] | (method in (None, 99))
        kind = struct.unpack_from("<H", content, start + 2)[0] if method is None else method
        content = content[:start] + struct.pack("<2H", flags, kind) + content[start + 4 :]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_not_read_is_refused_before_the_run(name: str, tmp_path: Path) -> None:
    method, what, remedy = METHODS[name]
    spoil(make_zip(tmp_path / "a.zip", {"1.jpg": JPEG, "2.jpg": PNG, "readme.txt": b"hello"}), method)
    source = ArchiveSource(str(tmp_path))
    words = (
        rf"a\.zip: 2 images are {what}, which is not read \(the first: '1\.jpg'\); unpack the archive, for .*{remedy}"
    )
    (tmp_path / "train.csv").write_text("frame_path,video_name,frame_id,class_name\n1.jpg,v,1,ok\n")
    with pytest.raises(RefusedSourceError, match=words):
        frames_csv.read_frames_csv(tmp_path / "train.csv", source, LABELS)


def test_members_that_are_not_wanted_may_be_encrypted(tmp_path: Path) -> None:
    spoil(make_zip(tmp_path / "a.zip", {"x/1.jpg": JPEG, "x/readme.txt": b"hello"}), None)
    make_zip(tmp_path / "b.zip", {"x/2.jpg": JPEG})
    source = ArchiveSource(str(tmp_path))
    assert list_names(source) == ["x/1.jpg", "x/2.jpg", "x/readme.txt"]
    (note,) = source.list_notes()
    assert (note.kind, note.count) == ("unreadable_members", 2)
    source.check_frames(pa.array(["x/2.jpg", "2.jpg", "nowhere.jpg"]))
    for name in ("x/1.jpg", "1.jpg"):
        with pytest.raises(
            RefusedSourceError, match=r"a\.zip: 1 image is encrypted, which is not read \(the first: 'x/1\.jpg'\)"
        ):
            source.check_frames(pa.chunked_array([["x/2.jpg", name]]))


def test_an_encrypted_text_beside_images_is_no_reason_to_refuse(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"1.jpg": JPEG})
    spoil(make_zip(tmp_path / "b.zip", {"readme.txt": b"hello"}), None)
    assert list_names(ArchiveSource(str(tmp_path))) == ["1.jpg", "readme.txt"]


def test_two_archives_with_the_same_path_are_rejected(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"1.jpg": JPEG, "2.jpg": JPEG, "3.jpg": JPEG})
    make_tar(tmp_path / "b.tar", {"0.jpg": JPEG, "2.jpg": JPEG, "3.jpg": JPEG})
    with pytest.raises(SourceError, match=r"a\.zip and .*b\.tar: both have .* 2 in all \('2\.jpg', '3\.jpg'\)"):
        list_names(ArchiveSource(str(tmp_path)))


# -- archives that cannot be used


BROKEN: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "text.zip": ("zip", lambda content: b"hello" * 100, "File is not a zip file"),
    "cut.zip": ("zip", lambda content: content[: len(content) // 2], "File is not a zip file"),
    "cut at its last bytes.zip": ("zip", lambda content: content[:-5], "File is not a zip file"),
    "without its start.zip": ("zip", lambda content: content[100:], "what stands before its central directory"),
    "directory.zip": ("zip", lambda content: content.replace(b"PK\1\2", b"PK\1\3", 1), "Bad magic number"),
    "name.zip": ("zip", lambda content: content.replace("ü".encode(), b"\xff\xff"), "can't decode byte 0xff"),
    "text.tar": ("tar", lambda content: b"hello" * 1000, "header"),
    "cut.tar": ("tar", lambda content: content[: content.index(b"3.jpg") + 700], "unexpected end of data|does not end"),
    "cut between members.tar": ("tar", lambda content: content[: content.index(b"3.jpg")], "does not end where"),
    "header.tar": ("tar", lambda content: content.replace(b"3.jpg", b"4.jpg", 1), "it does not end where"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_rejected_before_the_run(name: str, tmp_path: Path) -> None:
    kind, damage, words = BROKEN[name]
    content = make_archive(tmp_path / f"good.{kind}", FRAMES).read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(damage(content))
    (tmp_path / f"good.{kind}").rename(tmp_path / "folder" / f"a.{kind}")
    (tmp_path / "train.csv").write_text("frame_path,video_name,frame_id,class_name\n3.jpg,v,1,ok\n")
    source = ArchiveSource(str(tmp_path / "folder"))
    reason = rf"{name}: this {kind} is cut off or broken: .*({words}).*; get it again"
    with pytest.raises(SourceError, match=reason):
        list_names(source)
    table = frames_csv.read_frames_csv(tmp_path / "train.csv", source, LABELS)
    assert re.search(reason, table.attrs["unreachable"])
    assert not table["on_disk"].any()
    config = make_config(images=source.root, output=str(tmp_path / "out"))
    with pytest.raises(RunError, match=reason):
        run.detect_frames(frame_table.select_frames(table, ["ok"]), source, config, config.data.output)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(["a.zip", "a.tar"]))
def test_any_damage_gives_a_row_or_rejects_the_archive(
    tmp_path: Path, temporary_folder: Path, data: Any, name: str
) -> None:
    members = {"1.jpg": JPEG, "v/ü.jpg": b"x" * 50}
    content = bytearray(make_archive(tmp_path / name, members).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content)
    forget_name_indexes()
    for folder in temporary_folder.iterdir():
        shutil.rmtree(folder)
    source = ArchiveSource(str(tmp_path / name))
    try:
        known = list_names(source)
    except SourceError:
        known = []
    for frame in read_all(source, [*members, *known]):
        assert isinstance(frame, EncodedImage | MissingFrameError | UnreadableImageError)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.zip", "a.zip: this file is empty, 0 bytes; get it again"),
        ("a.tar.gz", "a.tar.gz: this file is empty"),
        ("nowhere.zip", "the archive cannot be read: No such file"),
        (".", "there is no archive in this folder; .* data.source_type"),
        ("nowhere", "this is not an archive"),
    ],
)
def test_other_paths_are_rejected(name: str, words: str, tmp_path: Path) -> None:
    if name[0] == "a":
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=words):
        list_names(ArchiveSource(str(tmp_path / name)))


def test_a_compressed_tar_beside_archives_is_rejected(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", FRAMES)
    (tmp_path / "b.tgz").write_bytes(gzip.compress(make_tar(tmp_path / "b.tar", {"6.jpg": JPEG}).read_bytes()))
    (tmp_path / "b.tar").unlink()
    (tmp_path / "._a.zip").write_bytes(b"a file of macOS")
    reason = (
        r"b\.tgz: this is a file compressed with gzip, which .* decompress it to a \.tar \(gunzip < b\.tgz > b\.tar\)"
    )
    with pytest.raises(SourceError, match=reason):
        list_names(ArchiveSource(str(tmp_path)))
    (tmp_path / "b.tgz").unlink()
    assert len(list_names(ArchiveSource(str(tmp_path)))) == len(FRAMES)


# -- the choice of the source


@pytest.mark.parametrize(
    ("inside", "images", "kind", "expected"),
    [
        (["a.zip", "b.tar", "read me.txt"], ".", None, ArchiveSource),
        (["a.zip", ".ipynb_checkpoints/"], ".", None, ArchiveSource),
        (["a.zip", "v1/"], ".", None, FolderBesideArchives),
        (["a.zip", "v1/"], ".", "archives", ArchiveSource),
        (["a.zip"], ".", "folder", FolderSource),
        (["a.zip"], "a.zip", None, ArchiveSource),
        (["a.tgz"], "a.tgz", None, ArchiveSource),  # which rejects it and names the remedy
        (["a.zip/"], "a.zip", None, FolderSource),
        (["1.jpg"], ".", None, FolderSource),
        ([], "nowhere", None, FolderSource),
        pytest.param([], "memory://bucket/frames", None, BucketSource, marks=pytest.mark.extra),
        pytest.param([], "memory://bucket/a.zip", "folder", BucketSource, marks=pytest.mark.extra),
    ],
)
def test_the_source_follows_from_the_location(
    inside: list[str], images: str, kind: str | None, expected: type, tmp_path: Path
) -> None:
    for name in inside:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    if expected is BucketSource:
        need_extra("fsspec")
    location = images if "://" in images else str(tmp_path / images)
    assert type(sources.open_source(location, kind)) is expected


@pytest.mark.parametrize(("inside", "is_noted"), [(["a.zip", "v"], True), (["a.zip"], False), (["v"], False)])
def test_archives_beside_folders_are_noted(inside: list[str], is_noted: bool, tmp_path: Path) -> None:
    for name in inside:
        make_zip(tmp_path / name, FRAMES) if "." in name else (tmp_path / name).mkdir()
    (tmp_path / "train.csv").write_text("frame_path,video_name,frame_id,class_name\n3.jpg,v,1,ok\n")
    source = sources.open_source(str(tmp_path))
    assert [note.kind for note in source.list_notes()] == ["passed_over"] * is_noted
    table = frame_table.select_frames(frames_csv.read_frames_csv(tmp_path / "train.csv", source, LABELS), ["ok"])
    summary = frame_table.summarize_frames(table)
    assert ("not read because there are folders beside, such as 'v'; " in summary) == is_noted
    assert summary.endswith("set `source_type: archives` (the first: 'a.zip')") == is_noted
    assert sources.open_source(str(tmp_path), "folder").list_notes() == []  # the user chose this


# -- stamps and contents


def test_the_stamp_of_a_member_comes_from_the_directory(tmp_path: Path) -> None:
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
def test_an_invalid_time_becomes_zero(mtime: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as target:
        header = tarfile.TarInfo("1.jpg")
        header.size, header.pax_headers = len(JPEG), {"mtime": mtime}
        target.addfile(header, io.BytesIO(JPEG))
    assert list(ArchiveSource(str(tmp_path / "a.tar")).list_frames()) == [("1.jpg", f"{len(JPEG)}-0")]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_contents_are_those_of_the_encoded_images(name: str, tmp_path: Path) -> None:
    source = ArchiveSource(str(make_archive(tmp_path / name, FRAMES | {"text.jpg": b"hello"})))
    paths = ["3.jpg", "v1/2.png", "nowhere.jpg", "text.jpg"]
    contents = [describe_content(FRAMES["3.jpg"]), describe_content(FRAMES["v1/2.png"]), None, "5-3610a686"]
    assert list(read_contents(source, paths, max_pixels=10_000)) == list(zip(paths, contents, strict=True))
    assert [frame.content for frame in read_all(source, paths)] == contents


# -- the index


def test_the_directory_is_read_once_for_all_processes(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", FRAMES)
    source = ArchiveSource(str(path))
    list_names(source)
    forget_name_indexes()  # as in another process
    before = path.stat()
    replace_bytes(path, b"PK\1\2", b"????")  # without a directory only the index finds a member
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elsewhere = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 500
    assert isinstance(read_all(elsewhere, ["3.jpg"])[0], EncodedImage)


@pytest.mark.parametrize("lost", ["deleted", "truncated", "of another user", "not writable"])
def test_without_its_file_the_index_is_built_again(
    lost: str, tmp_path: Path, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ArchiveSource(str(make_zip(tmp_path / "a.zip", FRAMES)))
    list_names(source)
    (index,) = temporary_folder.rglob("*.arrow")
    if lost == "deleted":
        shutil.rmtree(index.parent)
    elif lost == "truncated":
        os.truncate(index, 100)
    elif lost == "of another user":
        index.parent.chmod(0o777)
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    forget_name_indexes()
    assert isinstance(read_all(source, ["3.jpg"])[0], EncodedImage)
    (kept,) = (path for path in temporary_folder.rglob("*") if path.is_file())
    assert kept == index
    assert kept.stat().st_size > 100


def test_an_unused_index_is_deleted_when_another_is_built(tmp_path: Path, temporary_folder: Path) -> None:
    paths = [make_zip(tmp_path / f"{name}.zip", FRAMES) for name in ("used", "unused", "new")]
    for path in paths[:2]:
        list_names(ArchiveSource(str(path)))
    (folder,) = temporary_folder.iterdir()
    left = folder / "of a killed process"
    left.touch()
    for index in folder.iterdir():
        os.utime(index, (0, time.time() - 31 * 24 * 3600))
    forget_name_indexes()  # as in another process
    list_names(ArchiveSource(str(paths[0])))
    assert len([*folder.iterdir()]) == 3
    list_names(ArchiveSource(str(paths[2])))
    assert len([*folder.iterdir()]) == 2
    assert not left.exists()


def test_a_replaced_archive_has_another_index(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"1.jpg": JPEG})
    assert list_names(ArchiveSource(str(path))) == ["1.jpg"]
    path.unlink()
    make_zip(path, {"2.jpg": JPEG, "3.jpg": JPEG})
    assert list_names(ArchiveSource(str(path))) == ["2.jpg", "3.jpg"]


def test_frames_of_a_deleted_archive_are_unreachable_not_missing(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", FRAMES)
    source = ArchiveSource(str(path))
    list_names(source)
    path.unlink()
    assert [kind for kind, _ in list_reasons(source, "3.jpg", "nowhere.jpg")] == [
        UnreachableFrameError,
        UnreachableFrameError,
    ]


def test_no_file_stays_open(tmp_path: Path) -> None:
    for number in range(5):
        make_zip(tmp_path / f"{number}.zip", {f"{number}.jpg": JPEG})
    source = ArchiveSource(str(tmp_path))
    names = list_names(source)
    before = count_open_files()
    assert len(read_all(source, names)) == 5
    next(source.read_frames(names))  # and stop there
    assert count_open_files() == before


# -- a run


def test_a_worker_detects_the_same_in_archives_and_in_a_folder(tmp_path: Path, worker: Worker) -> None:
    sample = Path(__file__).parents[1] / "data" / "sample" / "TRAIN_DATA"
    names = sorted(str(path.relative_to(sample)) for path in sample.rglob("*.jpg"))[::30]
    make_two(tmp_path, {name: (sample / name).read_bytes() for name in names})
    assert len(names) >= 3
    assert worker(ArchiveSource(str(tmp_path)), names).equals(worker(FolderSource(str(sample)), names))


@pytest.mark.slow
def test_a_run_over_archives_in_worker_processes(tmp_path: Path) -> None:
    names = [f"v/{k}.jpg" for k in range(12)]
    make_zip(tmp_path / "a.zip", dict.fromkeys(names, JPEG))
    config = make_config(images=str(tmp_path / "a.zip"), output=str(tmp_path / "out"), workers=2, save_per_num_images=5)
    source = sources.open_source(config.data.images)
    found = run.detect_frames(tabulate_frames([*names, "v/gone.jpg"], names), source, config, config.data.output)
    assert found["outcome"].to_pylist() == ["ok"] * 12 + ["missing"]
    elsewhere = tabulate_frames(["another/1.jpg"], [])
    with pytest.raises(RunError, match=r"a\.zip: not one of the 1 wanted frames exists"):
        run.detect_frames(elsewhere, source, config, config.data.output)


SETUP = """
from detectime.sources.archive import ArchiveSource
list(ArchiveSource(sys.argv[2]).list_frames())  # imports what is imported late
source = ArchiveSource(sys.argv[1])
"""


@pytest.mark.large
@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_many_members_take_little_memory(name: str, tmp_path: Path) -> None:
    count = 100_000
    path = make_archive(tmp_path / name, {f"v/{k:06d}.jpg": b"x" for k in range(count)})
    small = make_archive(tmp_path / f"small {name}", {"v/1.jpg": b"x"})
    megabytes, (listed,) = measure_memory(SETUP, "print(sum(1 for _ in source.list_frames()))", path, small)
    assert listed == str(count)
    assert megabytes < 80  # less than 1 kB per member, which is the size of the standard library's object
    megabytes, (read,) = measure_memory(SETUP, "print(*source.read_frames(['v/000007.jpg']))", path, small)
    assert read == "('v/000007.jpg', b'x')"
    assert megabytes < 20


def test_wanted_frames_that_are_encrypted_are_refused_before_the_run(tmp_path: Path) -> None:
    spoil(make_zip(tmp_path / "a.zip", {"x/1.jpg": JPEG}), None)
    make_zip(tmp_path / "b.zip", {"x/2.jpg": JPEG})
    (tmp_path / "labels.csv").write_text(
        "frame_path,video_name,frame_id,class_name\nx/1.jpg,v,1,ok\nx/2.jpg,v,2,stop\n"
    )
    source = ArchiveSource(str(tmp_path))
    config = make_config(images=str(tmp_path), labels=str(tmp_path / "labels.csv"), output=str(tmp_path / "run"))
    table = frame_table.read_labels(config, source)
    with pytest.raises(RefusedSourceError, match=r"a\.zip: 1 image is encrypted"):
        run.detect_frames(frame_table.select_frames(table, ["ok", "stop"]), source, config, config.data.output)
    assert not (tmp_path / "run" / "shards").exists()
    run.detect_frames(frame_table.select_frames(table, ["stop"]), source, config, config.data.output)
