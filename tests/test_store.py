"""Files appear whole or not at all, and one run at a time works in a folder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import faults
import pytest

from detectime.store import StoreError
from detectime.store.folder import FolderStore

NOBODY = 65534


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


HOLD = """
import sys, time
from detectime.store.folder import FolderStore
with FolderStore(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(600)
"""
WRITE_HALF = """
import sys, time
from detectime.store.folder import FolderStore
with FolderStore(sys.argv[1]).writing(sys.argv[2]) as file:
    file.write(b"new" * 100_000)
    file.flush()
    print("half", flush=True)
    time.sleep(600)
"""


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_was_put_is_got(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "not" / "there" / "yet")
    assert store.get("a/b.bin") is None
    assert store.names("a") == []
    store.put("a/b.bin", b"\x00one")
    store.put("a/b.bin", b"two")
    store.put("a/a.bin", b"")
    assert store.get("a/b.bin") == b"two"
    assert store.names("a") == ["a/a.bin", "a/b.bin"]
    store.delete(["a/a.bin", "a/never was"])
    assert store.names("a") == ["a/b.bin"]


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("name", b"old")

    def write() -> None:
        with store.writing("name") as file:
            file.write(b"new")
            file.flush()
            assert store.get("name") == b"old"
            raise KeyError("the block's own error")

    with pytest.raises(KeyError, match="own error"):
        write()
    assert store.get("name") == b"old"
    assert files_in(tmp_path) == ["name"]


def test_a_writer_that_is_killed_leaves_what_was_there_and_is_swept(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for name in ("run.json", "shards/000001.parquet"):
        store.put(name, b"old")
        writer = script(WRITE_HALF, tmp_path, name)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        writer.kill()
        writer.communicate()
        assert store.get(name) == b"old"
    assert len(files_in(tmp_path)) == 4  # each left a partial file
    assert store.names("shards") == ["shards/000001.parquet"]
    with store.lock():
        assert len(files_in(tmp_path)) == 5  # young: somebody may be writing it
    for partial in tmp_path.rglob(".detectime-partial-*"):
        os.utime(partial, (time.time() - 120, time.time() - 120))
    with store.lock():
        assert files_in(tmp_path) == [".lock", "run.json", "shards/000001.parquet"]


def test_the_sweep_leaves_files_of_others_alone(tmp_path: Path) -> None:
    others = ["photo.jpg", "shards/notes.txt", "deep/er/.detectime-partial-0"]
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with FolderStore(tmp_path).lock():
        assert files_in(tmp_path) == sorted([".lock", *others])


def test_two_processes_cannot_hold_the_lock(tmp_path: Path) -> None:
    holder = script(HOLD, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        before = time.monotonic()
        with pytest.raises(StoreError) as refusal, FolderStore(tmp_path).lock(patience=0.3):
            pass
        assert 0.3 <= time.monotonic() - before < 5
        assert str(tmp_path) in str(refusal.value)
        assert "another run" in str(refusal.value)
        assert "another `output`" in str(refusal.value)
    finally:
        holder.kill()
        holder.communicate()
    with FolderStore(tmp_path).lock(patience=1):  # the file is still there, the lock is not
        assert (tmp_path / ".lock").exists()


def test_the_lock_is_waited_for(tmp_path: Path) -> None:
    holder = script(HOLD, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    killer = threading.Timer(0.5, os.kill, (holder.pid, signal.SIGKILL))
    killer.start()
    before = time.monotonic()
    with FolderStore(tmp_path).lock():
        assert 0.3 < time.monotonic() - before < 5
    holder.communicate()


def test_two_threads_cannot_hold_the_lock(tmp_path: Path) -> None:
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with FolderStore(tmp_path).lock():
            held.set()
            enough.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    with pytest.raises(StoreError, match="another run"), FolderStore(tmp_path).lock(patience=0.2):
        pass
    enough.set()
    thread.join()


def test_the_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), FolderStore(tmp_path).lock():
        raise KeyError("work")
    with FolderStore(tmp_path).lock(patience=0.2):
        pass


def test_a_process_that_was_started_under_the_lock_does_not_hold_it(tmp_path: Path) -> None:
    with FolderStore(tmp_path).lock():
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        with FolderStore(tmp_path).lock(patience=0.2):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/run: the output folder cannot be made: Not a directory"):
        FolderStore(tmp_path / "file" / "run")
    with pytest.raises(StoreError, match="cannot be made"):
        FolderStore(tmp_path / ("n" * 300))


def test_a_name_that_is_taken_by_a_folder_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "hands.json").mkdir()
    with pytest.raises(StoreError, match=r"hands\.json: cannot be written: Is a directory") as refusal:
        FolderStore(tmp_path).put("hands.json", b"[]")
    assert "another `output`" in str(refusal.value)
    assert files_in(tmp_path) == []


def test_a_folder_that_is_not_writable_is_refused() -> None:
    code = f"import sys, os; sys.path[:] = {sys.path!r}\n" + (
        "from detectime.store import StoreError\nfrom detectime.store.folder import FolderStore\n"
        "if os.geteuid() == 0:\n"  # root may write anywhere: the try is made as somebody else
        f"    os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try:\n    FolderStore(sys.argv[1])\nexcept StoreError as error:\n    print('refused:', error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders let nobody else pass
        os.chmod(folder, 0o555)
        answer, _ = script(code, folder).communicate(timeout=30)
        assert (
            answer == f"refused: {folder}: the output folder cannot be written to: no permission, or a read-only disk\n"
        )
        assert os.listdir(folder) == []


def test_writing_leaks_no_handles(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "taken").mkdir()

    def use() -> None:
        with store.lock():
            store.put("shards/1", b"1")
            store.names("shards")
            with pytest.raises(StoreError):
                store.put("taken", b"1")

    use()
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        use()
    assert os.listdir("/proc/self/fd") == before


def test_a_full_disk_is_told_and_what_was_there_stays(small_disk: Path) -> None:
    store = FolderStore(small_disk)
    store.put("name", b"old" * 1000)
    with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)) as refusal:
        store.put("name", os.urandom(2**21))
    assert str(small_disk / "name") in str(refusal.value)
    assert "make room" in str(refusal.value)
    assert store.get("name") == b"old" * 1000
    assert files_in(small_disk) == ["name"]  # the half that was written is gone, and its room is free
    store.put("name", os.urandom(2**19))


small_disk = faults.small_disk
