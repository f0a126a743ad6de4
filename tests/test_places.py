"""Where frames lie: archives beside the images of themselves, folders and files whose names or contents mislead."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from conftest import draw_pattern, encode_image, forget_name_indexes, list_names
from faults import make_config
from skips import need_extra

from detectime import sources
from detectime.labels import frames_csv
from detectime.sources import beside
from detectime.sources.archive import ArchiveSource, FolderBesideArchives
from detectime.sources.contract import MissingFrameError, RefusedSourceError, Source, SourceError
from detectime.sources.file_kinds import recognise_path
from detectime.sources.folder import FolderSource
from detectime.sources.listing import Listing, list_source

JPEG, PNG = (encode_image(draw_pattern(), kind) for kind in ("JPEG", "PNG"))
SAME_SIZE = JPEG[:-1] + b"\0"
CSV = "frame_path,video_name,frame_id,class_name\n"
MP4 = b"\0\0\0\x18ftypmp42" + bytes(100)

pytestmark = pytest.mark.usefixtures("temporary_folder")  # indexes are cached in it


def make_place(folder: Path, content: Mapping[str, bytes | Mapping[str, bytes]]) -> Path:
    """Write files, and archives given by their members."""
    for name, inside in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(inside if isinstance(inside, bytes) else pack(inside, path.suffix))
    return folder


def pack(members: Mapping[str, bytes], suffix: str) -> bytes:
    file = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(file, "w") as target:
            for name, content in members.items():
                target.writestr(name, content)
    else:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, content in members.items():
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


def decode_names(listing: Listing) -> list[str]:
    return sorted(os.fsdecode(name) for name in listing.names.to_pylist())


# -- images beside archives


TWO = {"1.jpg": JPEG, "2.jpg": PNG}

BESIDE: dict[str, tuple[Mapping[str, bytes | Mapping[str, bytes]], type, str]] = {
    "the same images": (TWO | {"a.zip": TWO}, FolderBesideArchives, "its images are among the files, with the same"),
    "the same images in a tar": (TWO | {"a.tar": TWO}, FolderBesideArchives, "its images are among the files"),
    "two archives": (TWO | {"a.tar": {"1.jpg": JPEG}, "b.zip": {"2.jpg": PNG}}, FolderBesideArchives, "2 archives in"),
    "more images than in the archive": (TWO | {"a.zip": {"2.jpg": PNG}}, FolderBesideArchives, "to read archives set"),
    "the own folder in the archive": (
        TWO | {"a.zip": {"frames/1.jpg": JPEG, "frames/2.jpg": PNG}},
        FolderBesideArchives,
        "its images are among the files",
    ),
    "another Unicode form": (
        {"Zoe\u0308.jpg": JPEG, "a.zip": {"Zo\u00eb.jpg": JPEG}},
        FolderBesideArchives,
        "its images are among the files",
    ),
    "names without a suffix": (
        {"1": JPEG, "a.zip": {"1": JPEG}},
        FolderBesideArchives,
        "its images are among the files",
    ),
    "an archive of other things": (
        {"1.jpg": JPEG, "labels.zip": {"1.xml": b"<a/>"}},
        FolderBesideArchives,
        "1 archive in",
    ),
    "an archive that is not read": ({"1.jpg": JPEG, "a.7z": b"7z"}, FolderBesideArchives, "to read archives set"),
    "other text": (TWO | {"a.zip": TWO | {"x.txt": b"1"}, "x.txt": b"2"}, FolderBesideArchives, "its images are among"),
    "fewer images than in the archive": (
        {"1.jpg": JPEG, "a.zip": TWO},
        ArchiveSource,
        "1 image file beside the archives in .* is not read; they are members too, with the same contents; to read "
        "image files set `source_type: folder`",
    ),
    "another image beside archives": (
        {"readme.jpg": JPEG, "a.zip": {"1.jpg": JPEG}, "b.tar": {"2.jpg": PNG}},
        ArchiveSource,
        r"1 image file beside .* is not read; .* set `source_type: folder` \(the first: 'readme.jpg'\)",
    ),
    "a name that is ambiguous without its folder": (
        {"1.jpg": PNG, "a.zip": {"anna/1.jpg": JPEG}, "b.zip": {"bob/1.jpg": JPEG}},
        ArchiveSource,
        "1 image file beside",
    ),
    "folders unpacked": (
        {"train_data1/v/1.jpg": JPEG, "train_data1.zip": {"train_data1/v/1.jpg": JPEG}},
        FolderBesideArchives,
        "because there are folders beside, such as 'train_data1'; its images are among the files, with the same",
    ),
    "folders unpacked into one of the archive's name": (
        {"a/v/1.jpg": JPEG, "a.zip": {"v/1.jpg": JPEG}},
        FolderBesideArchives,
        "its images are among the files",
    ),
    "one of two unpacked": (
        {"v/1.jpg": JPEG, "a.zip": {"v/1.jpg": JPEG}, "b.zip": {"w/1.jpg": JPEG}},
        FolderBesideArchives,
        r"; 1 image is in archives alone \(such as 'w/1.jpg'\); to read archives set `source_type: archives`",
    ),
    "a broken archive beside folders": (
        {"v/1.jpg": JPEG, "a.zip": b"PK\3\4"},
        FolderBesideArchives,
        "nothing was compared: .*a.zip: this zip is cut off or broken",
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_is_read_beside_archives_is_noted(case: str, tmp_path: Path) -> None:
    content, kind, words = BESIDE[case]
    source = sources.open_source(str(make_place(tmp_path, content)))
    assert type(source) is kind
    listing = list_source(source)
    assert listing.unreachable is None
    assert re.search(words, "\n".join(map(str, listing.notes)))
    for chosen, other in (("folder", FolderSource), ("archives", ArchiveSource)):
        explicit = sources.open_source(str(tmp_path), chosen)
        assert type(explicit) is other
        if chosen == "folder":
            assert explicit.list_notes() == []


DIFFERING: dict[str, tuple[Mapping[str, bytes | Mapping[str, bytes]], str]] = {
    "a corrected image": (TWO | {"a.zip": TWO | {"1.jpg": PNG}}, "'1.jpg' has .* bytes, and .* in a.zip"),
    "of the same size": (TWO | {"a.zip": TWO | {"1.jpg": SAME_SIZE}}, "'1.jpg' has as many bytes in a.zip"),
    "in a tar": (TWO | {"a.tar": TWO | {"1.jpg": SAME_SIZE}}, "'1.jpg' has as many bytes in a.tar"),
    "among others": ({"1.jpg": PNG, "a.zip": TWO}, "1 image file differs from its namesake"),
    "both": ({"1.jpg": PNG, "2.jpg": JPEG, "a.zip": TWO}, "2 image files differ from their namesakes"),
    "below the own folder": ({"1.jpg": PNG, "a.zip": {"x/1.jpg": JPEG, "x/2.jpg": JPEG}}, "'1.jpg' has"),
    "in a folder": ({"a/v/1.jpg": PNG, "a.zip": {"a/v/1.jpg": JPEG}}, "'a/v/1.jpg' has"),
    "in a folder of the archive's name": ({"a/v/1.jpg": PNG, "a.zip": {"v/1.jpg": JPEG}}, "'a/v/1.jpg' has"),
}


@pytest.mark.parametrize("case", DIFFERING)
def test_different_contents_are_refused_with_both_remedies(case: str, tmp_path: Path) -> None:
    content, words = DIFFERING[case]
    images = make_place(tmp_path / "images", content)
    source = sources.open_source(str(images))
    remedies = f"{words}.*Set `source_type: folder` to read the image files, or `source_type: archives`"
    with pytest.raises(RefusedSourceError, match=remedies):
        list_names(source)
    (tmp_path / "train.csv").write_text(CSV + "1.jpg,v,1,ok\n")
    config = make_config(images=str(images), output=str(tmp_path / "out"))
    with pytest.raises(RefusedSourceError, match=remedies):
        frames_csv.read_frames_csv(tmp_path / "train.csv", source, config.labels)
    for chosen in ("folder", "archives"):
        assert list_names(sources.open_source(str(images), chosen))


def test_frames_of_a_finished_run_are_read_without_comparing(tmp_path: Path) -> None:
    """Reports and exports open the source again, and list nothing."""
    images = make_place(tmp_path, TWO | {"a.zip": TWO | {"1.jpg": SAME_SIZE}})
    assert dict(sources.open_source(str(images)).read_frames(["1.jpg"])) == {"1.jpg": JPEG}


def test_contents_are_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_place(tmp_path, TWO | {"a.zip": TWO})
    read: list[str] = []
    compute = beside._compute_crc
    monkeypatch.setattr(beside, "_compute_crc", lambda path: read.append(path) or compute(path))
    for _ in range(2):
        forget_name_indexes()  # as in another process
        assert len(list_names(sources.open_source(str(images)))) == 3
    assert len(read) == 2
    (images / "1.jpg").write_bytes(SAME_SIZE)
    with pytest.raises(SourceError, match="1 image file differs"):
        list_names(sources.open_source(str(images)))


def test_of_many_files_the_newest_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"{k}.jpg": JPEG for k in range(5)}
    images = make_place(tmp_path, members | {"a.zip": members})
    for k in range(5):
        os.utime(images / f"{k}.jpg", (k, k))
    monkeypatch.setattr(beside, "_MAX_READ", 2 * len(JPEG))
    assert "of 3 only the size was compared" in str(list_source(sources.open_source(str(images))).notes[0])
    (images / "3.jpg").write_bytes(SAME_SIZE)
    with pytest.raises(RefusedSourceError, match=r"'3\.jpg' has as many bytes"):
        list_names(sources.open_source(str(images)))


# -- the own folder of an archive


TOPS: dict[str, tuple[Mapping[str, Mapping[str, bytes]], Mapping[str, str | None]]] = {
    "an archive of the folder's name": (
        {"train_data1.zip": {"train_data1/v/0020.jpg": JPEG, "train_data1/w/0020.jpg": PNG}},
        {"train_data1/v/0020.jpg": "v/0020.jpg", "v/0020.jpg": "v/0020.jpg", "x/0020.jpg": None},
    ),
    "an archive of another name": (
        {"a.zip": {"train_data1/v/0020.jpg": JPEG, "train_data1/w/0020.jpg": PNG}},
        {"train_data1/v/0020.jpg": "train_data1/v/0020.jpg", "w/0020.jpg": "train_data1/w/0020.jpg"},
    ),
    "no folders below": ({"a.tar": {"x/1.jpg": JPEG, "x/2.jpg": PNG}}, {"1.jpg": "x/1.jpg", "x/2.jpg": "x/2.jpg"}),
    "several folders": (
        {"a.tar": {"/home/u/data/v/1.jpg": JPEG, "/home/u/data/w/1.jpg": PNG}},
        {"v/1.jpg": "home/u/data/v/1.jpg", "data/w/1.jpg": "home/u/data/w/1.jpg", "u/w/1.jpg": None},
    ),
    "each archive has its own": (
        {"a.zip": {"train_data1/v/1.jpg": JPEG}, "b.zip": {"train_data2/w/1.jpg": PNG}},
        {"v/1.jpg": "train_data1/v/1.jpg", "w/1.jpg": "train_data2/w/1.jpg"},
    ),
    "each archive has its own, and names are ambiguous": (
        {"a.zip": {"anna/1.jpg": JPEG}, "b.zip": {"bob/1.jpg": PNG}},
        {"1.jpg": None, "bob/1.jpg": "bob/1.jpg"},
    ),
    "files that are no images beside the folder": (
        {"a.zip": {"My Set/anna/1.jpg": JPEG, "My Set/ben/1.jpg": PNG, "readme.txt": b"x", "labels.csv": b"x"}},
        {"anna/1.jpg": "My Set/anna/1.jpg", "My Set/ben/1.jpg": "My Set/ben/1.jpg", "labels.csv": "labels.csv"},
    ),
    "images beside the folder": (
        {"a.zip": {"My Set/anna/1.jpg": JPEG, "x.jpg": PNG}},
        {"anna/1.jpg": None, "x.jpg": "x.jpg"},
    ),
    "another spelling too": (
        {"a.zip": {"x/Zoe\u0308.jpg": JPEG, "x/b.jpg": PNG}},
        {"Zo\u00eb.jpg": "x/Zoe\u0308.jpg", "x/Zo\u00eb.jpg": "x/Zoe\u0308.jpg", "b.jpg ": "x/b.jpg"},
    ),
    "two spellings": (
        {"a.zip": {"Zoe\u0308.jpg": JPEG, "Zo\u00eb .jpg": JPEG, "Zo\u00eb.jpg": PNG}},
        {"Zo\u00eb.jpg": "Zo\u00eb.jpg", "Zoe\u0308.jpg": "Zoe\u0308.jpg", " Zoe\u0308.jpg": None},
    ),
    "the exact name first": (
        {"a.zip": {"x/x/1.jpg": JPEG, "x/1.jpg": PNG}},
        {"x/1.jpg": "x/1.jpg", "1.jpg": "x/1.jpg"},
    ),
}


@pytest.mark.parametrize("name", ["LICENSE", "README.md", ".DS_Store", "docs/about.txt", "labels/1.txt"])
def test_what_is_no_frame_may_be_in_each_archive(name: str, tmp_path: Path) -> None:
    content = {"a.zip": {"anna/1.jpg": JPEG, name: b"a"}, "b.zip": {"ben/1.jpg": PNG, name: b"b"}}
    listing = list_source(ArchiveSource(str(make_place(tmp_path, content))))
    assert sorted(listing.names.to_pylist()) == sorted([b"anna/1.jpg", b"ben/1.jpg", name.encode()])
    assert [note.count for note in listing.notes if note.kind == "repeated"] == [1]


@pytest.mark.parametrize("name", ["1.jpg", "1.cls", "1.json", "classes.txt", "class_to_idx.json"])
def test_what_is_a_frame_or_says_its_class_is_in_one_archive(name: str, tmp_path: Path) -> None:
    content = {"a.zip": {"anna/1.jpg": JPEG, name: b"a"}, "b.zip": {"ben/1.jpg": PNG, name: b"b"}}
    listing = list_source(ArchiveSource(str(make_place(tmp_path, content))))
    assert f"both have members of the same path, 1 in all ('{name}')" in str(listing.unreachable)


@pytest.mark.parametrize("case", TOPS)
def test_an_own_folder_is_found_both_ways(case: str, tmp_path: Path) -> None:
    content, expected = TOPS[case]
    source = ArchiveSource(str(make_place(tmp_path, content)))
    listing = list_source(source)
    found = listing.find(pa.array([name.encode() for name in expected])).to_pylist()
    listed = [None if k is None else listing.names[k].as_py().decode() for k in found]
    assert dict(zip(expected, listed, strict=True)) == expected
    frames = dict(source.read_frames(expected))
    exact = dict(source.read_frames(name for name in expected.values() if name))
    for name, other in expected.items():
        if other is None:
            assert isinstance(frames[name], MissingFrameError)
        else:
            assert frames[name] == exact[other]
    if case == "two spellings":
        assert "2 members of the archives differ from this name by Unicode" in str(frames[" Zoe\u0308.jpg"])


# -- names and contents that mislead


@pytest.mark.parametrize("name", ["clips.mp4", "frames.zip", "x.tar", "a.tar.gz", "a.7z"])
def test_a_folder_is_a_folder_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    make_place(tmp_path / name, {"1.jpg": JPEG})
    assert not sources.are_videos(str(tmp_path / name))
    for images, expected in ((tmp_path / name, "1.jpg"), (tmp_path, f"{name}/1.jpg")):
        source = sources.open_source(str(images))
        assert type(source) is FolderSource
        assert list_names(source) == [expected]
    make_place(tmp_path, {"b.zip": {"2.jpg": PNG}})
    assert list_names(ArchiveSource(str(tmp_path))) == ["2.jpg"]


ZIP, TAR = pack({"1.jpg": JPEG}, ".zip"), pack({"1.jpg": JPEG}, ".tar")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("frames", ZIP),
        ("frames", TAR),
        ("a.tar", ZIP),
        ("a.zip", TAR),
        ("a.tar.gz", TAR),  # a browser has decompressed it
        ("a.mp4", ZIP),
        ("a.jpg", ZIP),
        ("a.zip", b"#!/bin/sh\n" + ZIP),
    ],
)
def test_an_archive_is_recognised_by_its_content(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    source = sources.open_source(str(tmp_path / name))
    assert dict(source.read_frames(["1.jpg"])) == {"1.jpg": JPEG}
    assert list_names(source) == ["1.jpg"]


NAMED: list[tuple[str, bytes, str]] = [
    (
        "a.tar",
        gzip.compress(TAR),
        r"compressed with gzip, .*; decompress it to a \.tar \(gunzip < a.tar > a-plain.tar\)",
    ),
    ("a.tar.gz", gzip.compress(TAR), r"\(gunzip < a.tar.gz > a.tar\), or make a \.zip"),
    ("a.tgz", gzip.compress(TAR), r"\(gunzip < a.tgz > a.tar\)"),
    ("a.zip", gzip.compress(TAR), "compressed with gzip"),
    ("a.tar", bz2.compress(TAR), "compressed with bzip2"),
    ("a.tar", lzma.compress(TAR), "compressed with xz"),
    ("a.tar", b"(\xb5/\xfd" + bytes(20), "compressed with zstd"),
    ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(20), "a 7z archive, which is not read; unpack it, 7z x a.7z, and give"),
    ("a.zip", b"7z\xbc\xaf\x27\x1c" + bytes(20), "a 7z archive"),
    ("a.rar", b"Rar!\x1a\7\1\0", "a RAR archive, which is not read"),
    ("a.iso", bytes(32_769) + b"CD001" + bytes(2048), "the image of a disc; unpack or mount it"),
    ("a.zip", b"", "empty, 0 bytes; get it again"),
    ("a.zip", b"<!DOCTYPE html><html><body>not found", "an HTML page, perhaps a server's error message; download it"),
    ("a.tar", b"<?xml version='1.0'?><Error/>", "XML, perhaps a server's error message; download it again"),
    (
        "a.zip",
        b"version https://git-lfs.github.com/spec/v1\noid",
        "a Git LFS pointer; fetch the file with: git lfs pull",
    ),
    ("a.zip.001", ZIP[:500], r"one part of an archive in several files; join them: cat a\.zip\.\* > a\.zip"),
    (
        "a.z01",
        b"PK\7\x08" + ZIP[:500],
        "one part of a zip in several files; join them: zip -s 0 a.zip --out a-whole.zip",
    ),
    ("a.zip", ZIP[:-18] + b"\1" + ZIP[-17:], "one part of a zip in several files"),
]


@pytest.mark.parametrize(("name", "content", "words"), NAMED)
def test_a_file_that_is_not_read_is_named_as_what_it_is(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for images in (tmp_path / name, tmp_path):
        with pytest.raises(SourceError, match=rf"{re.escape(name)}: this (file )?is .*{words}"):
            list_names(sources.open_source(str(images)))
    make_place(tmp_path, {"other.zip": {"2.jpg": JPEG}})
    with pytest.raises(SourceError, match=words):  # not half of the frames
        list_names(sources.open_source(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("1.jpg", JPEG, "this is one image; give the folder that it lies in, .*, as `images`"),
        ("1", PNG, "this is one image"),
        ("train.csv", CSV.encode(), "this is a table; give it as `labels`"),
        ("train.xlsx", ZIP, "this is a table; give it as `labels`"),
        ("notes", b"hello world", "this is text; give a folder, an archive or a video"),
        ("a.bin", b"\1\2\3", "this is not an archive; accepted: zip and tar files"),
    ],
)
def test_one_file_that_is_no_place_of_frames_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    source: Source = sources.open_source(str(tmp_path / name))
    with pytest.raises(SourceError, match=f"{re.escape(name)}: {words}"):
        list_names(source)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("1.jpg", JPEG, "this is one image; give the folder that it lies in"),
        ("a.zip", ZIP, "this is no folder; leave source_type out to read it as archive"),
        ("a.mp4", MP4, "this is no folder; leave source_type out to read it as video"),
        ("a.rar", b"Rar!\x1a\7\1\0", "this is a RAR archive"),
    ],
)
def test_a_file_given_as_a_folder_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"{re.escape(name)}: {words}"):
        list_names(sources.open_source(str(tmp_path / name), "folder"))


@pytest.mark.parametrize(("name", "content"), [("clip", MP4), ("clip.zip", MP4), ("clip.mp4", b"damaged")])
def test_a_video_is_recognised_by_its_content(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert sources.are_videos(str(tmp_path / name))
    assert not sources.are_videos(str(tmp_path / name), "folder")


@pytest.mark.extra
def test_a_video_without_a_suffix_is_read(tmp_path: Path) -> None:
    need_extra("av")
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for k in range(3):
        writer.write(np.random.default_rng(k).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    (tmp_path / "clip.mp4").rename(tmp_path / "clip")
    assert list_names(sources.open_source(str(tmp_path / "clip"))) == [f"clip/{k:06d}" for k in range(3)]


def test_what_cannot_be_read_has_no_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert [recognise_path(str(path)).name for path in (tmp_path, tmp_path / "pipe", tmp_path / "nowhere")] == [""] * 3


def test_the_folder_that_windows_unpacks_an_archive_into_may_stand_in_front(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("v/0.jpg", b"hello")
    source = sources.open_source(str(tmp_path / "a.zip"))
    listing = list_source(source)
    assert listing.find(pa.array([b"a/v/0.jpg", b"b/v/0.jpg"])).to_pylist() == [0, None]
    ((_, content),) = source.read_frames(["a/v/0.jpg"])
    assert content == b"hello"


@pytest.mark.parametrize("path", [" frames/a/1.jpg", "frames /a/1.jpg", "frames/a/1.jpg "])
def test_the_own_folder_of_an_archive_is_found_with_blanks(path: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as target:
        target.writestr("frames/a/1.jpg", b"hello")
    assert_found(tmp_path / "frames.zip", path)


def test_the_own_folder_of_an_archive_is_found_in_another_unicode_form(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "donne\u0301es.zip", "w") as target:
        target.writestr("donne\u0301es/a/1.jpg", b"hello")
    assert_found(tmp_path / "donne\u0301es.zip", "donn\u00e9es/a/1.jpg")


def assert_found(archive: Path, path: str) -> None:
    source = sources.open_source(str(archive))
    assert list_source(source).find(pa.array([path.encode()])).to_pylist() == [0]
    ((_, content),) = source.read_frames([path])
    assert content == b"hello"


def test_joined_tars_are_one(tmp_path: Path) -> None:
    content = b""
    for name in ("a", "b"):
        with tarfile.open(tmp_path / "part.tar", "w") as target:
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size = 5
            target.addfile(member, io.BytesIO(name.encode() * 5))
        content += (tmp_path / "part.tar").read_bytes()
    (tmp_path / "part.tar").unlink()
    (tmp_path / "all.tar").write_bytes(content)
    source = ArchiveSource(str(tmp_path / "all.tar"))
    assert list_names(source) == ["a.jpg", "b.jpg"]
    assert [frame for _, frame in source.read_frames(["a.jpg", "b.jpg"])] == [b"aaaaa", b"bbbbb"]
    (tmp_path / "all.tar").write_bytes(content + b"padding" * 100)
    assert list_names(source) == ["a.jpg", "b.jpg"]


def test_joined_zips_are_refused(tmp_path: Path) -> None:
    content = b""
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / "part.zip", "w") as target:
            target.writestr(f"{name}.jpg", b"hello")
        content += (tmp_path / "part.zip").read_bytes()
    (tmp_path / "all.zip").write_bytes(content)
    with pytest.raises(SourceError, match="another zip stands in front of it in the file"):
        list_names(ArchiveSource(str(tmp_path / "all.zip")))
    (tmp_path / "self.zip").write_bytes(b"#!/bin/sh\n" * 50 + (tmp_path / "part.zip").read_bytes())
    assert list_names(ArchiveSource(str(tmp_path / "self.zip"))) == ["b.jpg"]
