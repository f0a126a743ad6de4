"""tools/unpack.py, in its own process."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import OWN_FOLDERS

import definitions

FRAMES = {f"stop_1/{number:04}.jpg": np.random.default_rng(number).bytes(100_000) for number in range(3)}


def make_archive(files: dict[str, bytes], change: Callable[[zipfile.ZipFile], object] = lambda _: None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as content:
        for name, frame in files.items():
            content.writestr(zipfile.ZipInfo(name), frame)
        change(content)
    return stream.getvalue()


def add_member(name: str, kind: int = 0, size: int | None = None, flags: int = 0) -> Callable[[zipfile.ZipFile], None]:
    def add(content: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = (kind | 0o644) << 16
        content.writestr(info, b"/etc/passwd")
        info.file_size, info.flag_bits = size or info.file_size, info.flag_bits | flags

    return add


def unpack(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    script = definitions.ROOT_DIR / "tools" / "unpack.py"
    return subprocess.run([sys.executable, script, path, folder], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (add_member("stop_1/../../evil"), "'stop_1/../../evil' leaves the folder"),
        (add_member("..\\evil"), "leaves the folder"),
        (add_member("/tmp/evil"), "'/tmp/evil' has an absolute path"),
        (add_member("stop_1/evil", stat.S_IFLNK), "'stop_1/evil' is a link"),
        (add_member("stop_1/evil", stat.S_IFIFO), "'stop_1/evil' is neither a file nor a folder"),
        (add_member("stop_1/\x1b[2Jevil"), "'stop_1/\\x1b[2Jevil' has control characters in its name"),
        (add_member("stop_1/evil", flags=1), "'stop_1/evil' is encrypted"),
        (add_member("stop_1/evil", size=1 << 50), "unpacked, it needs 1125899.9 GB more, but"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_harmful_archive_is_refused_as_a_whole(
    change: Callable[[zipfile.ZipFile], None], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.zip").write_bytes(make_archive(FRAMES, change))
    done = unpack(tmp_path / "a.zip", tmp_path / "folder")
    assert done.returncode == 1
    assert reason in done.stderr
    assert "\x1b" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a.zip", tmp_path / "folder"]


@pytest.mark.parametrize(("inside", "unpacked"), [*OWN_FOLDERS.items(), ("v\\1.jpg ./w//2.jpg", "v/1.jpg w/2.jpg")])
def test_only_the_archive_s_own_folder_is_dropped(inside: str, unpacked: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "train_data7.zip", tmp_path / "folder"
    path.write_bytes(make_archive({"empty/": b""} | {name: name.encode() for name in inside.split()}))
    folder.mkdir()
    done = unpack(path, folder)
    assert done.returncode == 0, done.stderr
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == set(unpacked.split())
    assert set(done.stdout.split()) == {name.split("/")[0] for name in found}


def test_unpacking_repairs_damaged_frames_and_keeps_good_ones(tmp_path: Path) -> None:
    files = {**FRAMES, "stop_1/.part": b"a member with the name of the temporary file"}
    (tmp_path / "a.zip").write_bytes(make_archive(files))
    good, empty, short, _ = (tmp_path / name for name in files)
    good.parent.mkdir()
    good.write_bytes(FRAMES["stop_1/0000.jpg"])
    empty.write_bytes(bytes(100_000))  # after a power failure
    short.write_bytes(FRAMES["stop_1/0002.jpg"][:10])
    os.utime(good, ns=(0, 0))
    assert unpack(tmp_path / "a.zip", tmp_path).returncode == 0
    assert {path: path.read_bytes() for path in good.parent.iterdir()} == {tmp_path / n: c for n, c in files.items()}
    assert good.stat().st_mtime_ns == 0
