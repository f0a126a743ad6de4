"""Files appear whole or not at all, and one run at a time works in a folder."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import buckets
import faults
import pytest

from detectime.storage import bucket
from detectime.storage import folder as folder_store
from detectime.storage import store as stores
from detectime.storage.folder import FolderStore
from detectime.storage.store import NameTakenError, Store, StoreError, rename_to_free_name

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
from detectime.storage.folder import FolderStore
with FolderStore(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(600)
"""
WRITE_HALF = """
import sys, time
from detectime.storage.folder import FolderStore
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
        "from detectime.storage.store import StoreError\nfrom detectime.storage.folder import FolderStore\n"
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


# -- renaming, in a folder and in what fsspec can write to


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """Serve buckets to this module."""
    pytest.importorskip("moto", reason="the extra `buckets` is not installed")
    s3fs = pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
    with buckets.serving() as (address, _), pytest.MonkeyPatch.context() as patch:
        for name, value in buckets.environment(address).items():
            patch.setenv(name, value)
        yield
    s3fs.S3FileSystem.clear_instance_cache()  # its connections lead to this server


@pytest.fixture(params=["folder", "no hard links", "memory", pytest.param("s3", marks=pytest.mark.extra)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Give an empty store."""
    if request.param == "s3":
        request.getfixturevalue("server")
        return stores.open_store(f"{buckets.bucket()}/run")
    if request.param == "memory":
        pytest.importorskip("fsspec", reason="no extra that needs fsspec is installed")
        return stores.open_store(f"memory://{uuid.uuid4().hex}/run")
    if request.param == "no hard links":

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")  # as a FAT says it

        monkeypatch.setattr(folder_store.os, "link", refuse)
    return stores.open_store(tmp_path)


def contents(place: Store, prefix: str) -> dict[str, bytes | None]:
    return dict(place.contents(place.names(prefix)))


def test_a_renamed_file_keeps_its_content(place: Store) -> None:
    place.put("kept/hands.json", b"\x00 by hand")
    place.rename("kept/hands.json", "kept/hands [1] *.json")
    assert contents(place, "kept") == {"kept/hands [1] *.json": b"\x00 by hand"}
    assert place.get("kept/hands.json") is None


def test_nothing_is_renamed_over_another(place: Store) -> None:
    place.put("kept/old", b"old")
    place.put("kept/new", b"new")
    with pytest.raises(NameTakenError, match=r"old: cannot be renamed to .*new, which is there already") as no:
        place.rename("kept/old", "kept/new")
    assert isinstance(no.value, StoreError)
    assert str(place) in str(no.value)
    with pytest.raises(NameTakenError):
        place.rename("kept/old", "kept/old")
    assert contents(place, "kept") == {"kept/old": b"old", "kept/new": b"new"}


def test_what_is_not_there_is_not_renamed(place: Store) -> None:
    place.put("kept/a.damaged", b"an earlier one")
    for rename in (
        lambda: place.rename("kept/a", "kept/b"),
        lambda: rename_to_free_name(place, "kept/a", "kept/a.damaged"),
    ):
        with pytest.raises(StoreError, match="kept/a: cannot be renamed") as no:
            rename()
        assert not isinstance(no.value, NameTakenError)
    assert contents(place, "kept") == {"kept/a.damaged": b"an earlier one"}


def test_damaged_files_are_set_aside_one_beside_the_other(place: Store) -> None:
    place.put("shards/2.parquet", b"whole")
    for k in range(12):
        place.put("shards/1.parquet", b"%d" % k)
        number = f".{k + 1}" if k else ""
        assert (
            rename_to_free_name(place, "shards/1.parquet", "shards/1.parquet.damaged")
            == f"shards/1.parquet.damaged{number}"
        )
    kept = {f"shards/1.parquet.damaged{f'.{k + 1}' if k else ''}": b"%d" % k for k in range(12)}
    assert contents(place, "shards") == {"shards/2.parquet": b"whole", **kept}
    place.put("run.json", b"{")
    assert rename_to_free_name(place, "run.json", "run.json.damaged") == "run.json.damaged"  # in no folder
    assert (place.get("run.json"), place.get("run.json.damaged")) == (None, b"{")


def test_a_file_that_is_set_aside_is_the_same_file(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("shards/1", b"half")
    (tmp_path / "shards" / "1").chmod(0o640)
    os.utime(tmp_path / "shards" / "1", (1_000_000, 1_000_000))
    before = (tmp_path / "shards" / "1").stat()
    rename_to_free_name(store, "shards/1", "shards/1.damaged")
    after = (tmp_path / "shards" / "1.damaged").stat()
    assert (after.st_ino, after.st_size, after.st_mode, after.st_mtime) == (before.st_ino, 4, before.st_mode, 1_000_000)
    assert after.st_nlink == 1
    assert files_in(tmp_path) == ["shards/1.damaged"]


def test_a_link_is_set_aside_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"somebody's")
    store = FolderStore(tmp_path / "run")
    (tmp_path / "run" / "hands.json").symlink_to(tmp_path / "elsewhere")
    store.rename("hands.json", "kept.json")
    assert (tmp_path / "run" / "kept.json").is_symlink()
    assert files_in(tmp_path) == ["elsewhere", "run/kept.json"]


@pytest.mark.parametrize("taken_by", ["a folder", "a link to nothing"])
def test_any_kind_of_thing_takes_a_name(taken_by: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a", b"a")
    if taken_by == "a folder":
        (tmp_path / "a.damaged").mkdir()
    else:
        (tmp_path / "a.damaged").symlink_to(tmp_path / "nothing")
    assert rename_to_free_name(store, "a", "a.damaged") == "a.damaged.2"


def test_a_folder_that_is_a_file_ends_no_search_for_a_name(tmp_path: Path) -> None:
    (tmp_path / "shards").write_bytes(b"")
    with pytest.raises(StoreError, match=r"shards/1: cannot be renamed to .*shards/1\.damaged: Not a directory"):
        rename_to_free_name(FolderStore(tmp_path), "shards/1", "shards/1.damaged")


def test_of_many_that_rename_to_one_name_one_succeeds(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    names = [f"{k:02d}" for k in range(32)]
    for name in names:
        store.put(name, name.encode())

    def rename(name: str) -> bool:
        try:
            store.rename(name, "kept")
        except NameTakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        renamed = [name for name, done in zip(names, pool.map(rename, names), strict=True) if done]
    assert len(renamed) == 1
    assert store.get("kept") == renamed[0].encode()
    assert files_in(tmp_path) == sorted({*names, "kept"} - set(renamed))


def test_a_bucket_that_gives_no_answer_is_not_taken_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="no extra that needs fsspec is installed")
    place = bucket.BucketStore(f"memory://{uuid.uuid4().hex}")
    place.put("hands.json", b"by hand")
    place.put("kept.json", b"earlier")

    def fail(_: str) -> None:
        raise ConnectionError("no route to the server")

    with monkeypatch.context() as patch:
        patch.setattr(type(place._files), "info", lambda _, path: fail(path))
        with pytest.raises(StoreError, match=r"hands\.json: cannot be renamed: no route to the server"):
            place.rename("hands.json", "kept.json")
    assert (place.get("hands.json"), place.get("kept.json")) == (b"by hand", b"earlier")


# -- what the lock of a bucket logs


def test_a_server_that_overwrites_a_lock_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec", reason="no extra that needs fsspec is installed")
    caplog.set_level(logging.INFO, "detectime")
    place = bucket.BucketStore(f"memory://{uuid.uuid4().hex}")
    put = type(place._files).pipe_file
    monkeypatch.setattr(type(place._files), "pipe_file", lambda self, path, content, **_: put(self, path, content))
    with place.lock():
        pass
    ((module, level, words),) = caplog.record_tuples
    assert (module, level) == ("detectime.storage.bucket", logging.WARNING)
    assert words.startswith(f"{place}: a second run could not be kept out")
    assert capfd.readouterr() == ("", "")


def test_waiting_for_a_lock_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec", reason="no extra that needs fsspec is installed")
    monkeypatch.setattr(bucket, "_BEAT", 0.05)
    monkeypatch.setattr(bucket, "_ABANDONED", 0.2)
    caplog.set_level(logging.INFO, "detectime")
    place = stores.open_store(f"memory://{uuid.uuid4().hex}")
    place.put(".lock/000000007", b'{"host": "far", "process": 12}')  # of a run that is gone
    with place.lock():
        assert place.names(".lock") == [".lock/000000008"]
    module, level, words = caplog.record_tuples[0]
    assert (module, level) == ("detectime.storage.bucket", logging.INFO)
    assert words == f"{place}: waiting to see if process 12 on 'far' still works here"
    assert capfd.readouterr() == ("", "")
