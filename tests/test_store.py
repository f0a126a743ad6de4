"""Stores write files atomically, and one run at a time holds the lock."""

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import buckets
import pytest
from skips import need_extra

from detectime.storage import folder as folder_store
from detectime.storage import store as stores
from detectime.storage.bucket import BucketStore
from detectime.storage.folder import FolderStore
from detectime.storage.lease import LeaseTimes
from detectime.storage.store import NameTakenError, Store, StoreError, rename_to_free_name

NOBODY = 65534


def start_script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run code in another process."""
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


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_store_returns_what_was_put(tmp_path: Path) -> None:
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


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
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
    assert list_files(tmp_path) == ["name"]


def test_a_killed_writer_keeps_the_old_file_and_its_partial_file_is_deleted(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for name in ("run.json", "shards/000001.parquet"):
        store.put(name, b"old")
        writer = start_script(WRITE_HALF, tmp_path, name)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        writer.kill()
        writer.communicate()
        assert store.get(name) == b"old"
    assert len(list_files(tmp_path)) == 4  # each left a partial file
    assert store.names("shards") == ["shards/000001.parquet"]
    with store.lock():
        assert len(list_files(tmp_path)) == 5  # recent: another process may be writing it
    for partial in tmp_path.rglob(".detectime-partial-*"):
        os.utime(partial, (time.time() - 120, time.time() - 120))
    with store.lock():
        assert list_files(tmp_path) == [".lock", "run.json", "shards/000001.parquet"]


def test_the_lock_deletes_no_files_of_others(tmp_path: Path) -> None:
    others = ["photo.jpg", "shards/notes.txt", "deep/er/.detectime-partial-0"]
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with FolderStore(tmp_path).lock():
        assert list_files(tmp_path) == sorted([".lock", *others])


def test_two_processes_cannot_hold_the_lock(tmp_path: Path) -> None:
    holder = start_script(HOLD, tmp_path)
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


def test_a_run_waits_for_the_lock(tmp_path: Path) -> None:
    holder = start_script(HOLD, tmp_path)
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


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), FolderStore(tmp_path).lock():
        raise KeyError("work")
    with FolderStore(tmp_path).lock(patience=0.2):
        pass


def test_a_process_started_under_the_lock_does_not_inherit_it(tmp_path: Path) -> None:
    with FolderStore(tmp_path).lock():
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        with FolderStore(tmp_path).lock(patience=0.2):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/run: the output folder cannot be created: Not a directory"):
        FolderStore(tmp_path / "file" / "run")
    with pytest.raises(StoreError, match="cannot be created"):
        FolderStore(tmp_path / ("n" * 300))


def test_a_folder_is_not_overwritten_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "hands.json").mkdir()
    with pytest.raises(StoreError, match=r"hands\.json: cannot be written: Is a directory") as refusal:
        FolderStore(tmp_path).put("hands.json", b"[]")
    assert "another `output`" in str(refusal.value)
    assert list_files(tmp_path) == []


def test_a_folder_that_is_not_writable_is_refused() -> None:
    code = f"import sys, os; sys.path[:] = {sys.path!r}\n" + (
        "from detectime.storage.store import StoreError\nfrom detectime.storage.folder import FolderStore\n"
        "if os.geteuid() == 0:\n"  # root may write anywhere, so become another user
        f"    os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try:\n    FolderStore(sys.argv[1])\nexcept StoreError as error:\n    print('refused:', error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # other users cannot enter pytest's own folders
        os.chmod(folder, 0o555)
        answer, _ = start_script(code, folder).communicate(timeout=30)
        assert (
            answer
            == f"refused: {folder}: the output folder is not writable: no permission, or a read-only file system\n"
        )
        assert os.listdir(folder) == []


def test_writing_leaks_no_file_descriptors(tmp_path: Path) -> None:
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


def test_a_full_disk_is_reported_and_the_old_file_kept(small_disk: Path) -> None:
    store = FolderStore(small_disk)
    store.put("name", b"old" * 1000)
    with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)) as refusal:
        store.put("name", os.urandom(2**21))
    assert str(small_disk / "name") in str(refusal.value)
    assert "free disk space" in str(refusal.value)
    assert store.get("name") == b"old" * 1000
    assert list_files(small_disk) == ["name"]  # the partial file is deleted
    store.put("name", os.urandom(2**19))


# -- renaming, in a folder and through fsspec


@pytest.fixture(
    params=["folder", "no hard links", *(pytest.param(kind, marks=pytest.mark.extra) for kind in ("memory", "s3"))]
)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Make an empty store."""
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return stores.open_store(f"{buckets.make_bucket()}/run")
    if request.param == "memory":
        need_extra("fsspec")
        return stores.open_store(f"memory://{uuid.uuid4().hex}/run")
    if request.param == "no hard links":

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")  # as FAT file systems raise it

        monkeypatch.setattr(folder_store.os, "link", refuse)
    return stores.open_store(tmp_path)


def read_folder(store: Store, prefix: str) -> dict[str, bytes | None]:
    return dict(store.contents(store.names(prefix)))


def test_a_renamed_file_keeps_its_content(store: Store) -> None:
    store.put("kept/hands.json", b"\x00 by hand")
    store.rename("kept/hands.json", "kept/hands [1] *.json")
    assert read_folder(store, "kept") == {"kept/hands [1] *.json": b"\x00 by hand"}
    assert store.get("kept/hands.json") is None


def test_a_rename_never_overwrites(store: Store) -> None:
    store.put("kept/old", b"old")
    store.put("kept/new", b"new")
    with pytest.raises(NameTakenError, match=r"old: cannot be renamed to .*new, which already exists") as refusal:
        store.rename("kept/old", "kept/new")
    assert isinstance(refusal.value, StoreError)
    assert str(store) in str(refusal.value)
    with pytest.raises(NameTakenError):
        store.rename("kept/old", "kept/old")
    assert read_folder(store, "kept") == {"kept/old": b"old", "kept/new": b"new"}


def test_a_missing_file_is_not_renamed(store: Store) -> None:
    store.put("kept/a.damaged", b"an earlier file")
    for rename in (
        lambda: store.rename("kept/a", "kept/b"),
        lambda: rename_to_free_name(store, "kept/a", "kept/a.damaged"),
    ):
        with pytest.raises(StoreError, match="kept/a: cannot be renamed") as refusal:
            rename()
        assert not isinstance(refusal.value, NameTakenError)
    assert read_folder(store, "kept") == {"kept/a.damaged": b"an earlier file"}


def test_damaged_files_are_set_aside_under_numbered_names(store: Store) -> None:
    store.put("shards/2.parquet", b"whole")
    for k in range(12):
        store.put("shards/1.parquet", b"%d" % k)
        number = f".{k + 1}" if k else ""
        assert (
            rename_to_free_name(store, "shards/1.parquet", "shards/1.parquet.damaged")
            == f"shards/1.parquet.damaged{number}"
        )
    kept = {f"shards/1.parquet.damaged{f'.{k + 1}' if k else ''}": b"%d" % k for k in range(12)}
    assert read_folder(store, "shards") == {"shards/2.parquet": b"whole", **kept}
    store.put("run.json", b"{")
    assert rename_to_free_name(store, "run.json", "run.json.damaged") == "run.json.damaged"  # not in a folder
    assert (store.get("run.json"), store.get("run.json.damaged")) == (None, b"{")


def test_a_renamed_file_is_the_same_file(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("shards/1", b"half")
    (tmp_path / "shards" / "1").chmod(0o640)
    os.utime(tmp_path / "shards" / "1", (1_000_000, 1_000_000))
    before = (tmp_path / "shards" / "1").stat()
    rename_to_free_name(store, "shards/1", "shards/1.damaged")
    after = (tmp_path / "shards" / "1.damaged").stat()
    assert (after.st_ino, after.st_size, after.st_mode, after.st_mtime) == (before.st_ino, 4, before.st_mode, 1_000_000)
    assert after.st_nlink == 1
    assert list_files(tmp_path) == ["shards/1.damaged"]


def test_a_link_is_renamed_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"of another user")
    store = FolderStore(tmp_path / "run")
    (tmp_path / "run" / "hands.json").symlink_to(tmp_path / "elsewhere")
    store.rename("hands.json", "kept.json")
    assert (tmp_path / "run" / "kept.json").is_symlink()
    assert list_files(tmp_path) == ["elsewhere", "run/kept.json"]


@pytest.mark.parametrize("taken_by", ["a folder", "a link to nothing"])
def test_a_name_taken_by_anything_is_not_free(taken_by: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a", b"a")
    if taken_by == "a folder":
        (tmp_path / "a.damaged").mkdir()
    else:
        (tmp_path / "a.damaged").symlink_to(tmp_path / "nothing")
    assert rename_to_free_name(store, "a", "a.damaged") == "a.damaged.2"


def test_a_file_in_place_of_a_folder_is_an_error_not_a_taken_name(tmp_path: Path) -> None:
    (tmp_path / "shards").write_bytes(b"")
    with pytest.raises(StoreError, match=r"shards/1: cannot be renamed to .*shards/1\.damaged: Not a directory"):
        rename_to_free_name(FolderStore(tmp_path), "shards/1", "shards/1.damaged")


def test_of_many_renames_to_one_name_one_succeeds(tmp_path: Path) -> None:
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
    assert list_files(tmp_path) == sorted({*names, "kept"} - set(renamed))


@pytest.mark.extra
def test_a_server_that_does_not_answer_does_not_count_as_a_free_name(monkeypatch: pytest.MonkeyPatch) -> None:
    need_extra("fsspec")
    store = BucketStore(f"memory://{uuid.uuid4().hex}")
    store.put("hands.json", b"by hand")
    store.put("kept.json", b"earlier")

    def fail(_: str) -> None:
        raise ConnectionError("no route to the server")

    with monkeypatch.context() as patch:
        patch.setattr(type(store._fs), "info", lambda _, path: fail(path))
        with pytest.raises(StoreError, match=r"hands\.json: cannot be renamed: no route to the server"):
            store.rename("hands.json", "kept.json")
    assert (store.get("hands.json"), store.get("kept.json")) == (b"by hand", b"earlier")


# -- the lease of a bucket; tests/test_buckets.py has more


@pytest.mark.extra
def test_a_holder_does_not_renew_a_lease_that_was_taken_over() -> None:
    need_extra("fsspec")
    times = LeaseTimes(renew=0.05)
    store = BucketStore(f"memory://{uuid.uuid4().hex}", times)
    other = BucketStore(store.location)

    def write_after_the_takeover() -> None:
        with store.lock():
            store.put("a", b"1")
            assert other.create(".lock/000000002", b"{}")
            other.delete([".lock/000000001"])
            time.sleep(10 * times.renew)
            assert other.names(".lock") == [".lock/000000002"]
            store.put("a", b"2")

    with pytest.raises(StoreError, match="another run has taken this location over"):
        write_after_the_takeover()
    assert other.names(".lock") == [".lock/000000002"]
    assert other.get("a") == b"1"


@pytest.mark.extra
def test_a_server_without_conditional_writes_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    need_extra("fsspec")
    caplog.set_level(logging.INFO, "detectime")
    store = BucketStore(f"memory://{uuid.uuid4().hex}")
    put = type(store._fs).pipe_file
    monkeypatch.setattr(type(store._fs), "pipe_file", lambda self, path, content, **_: put(self, path, content))
    with store.lock():
        pass
    ((module, level, message),) = caplog.record_tuples
    assert (module, level) == ("detectime.storage.lease", logging.WARNING)
    assert message.startswith(f"{store}: a second run cannot be kept out")
    assert capfd.readouterr() == ("", "")


@pytest.mark.extra
def test_waiting_for_a_lease_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    need_extra("fsspec")
    caplog.set_level(logging.INFO, "detectime")
    store = stores.open_store(f"memory://{uuid.uuid4().hex}", lease_times=LeaseTimes(renew=0.05, expire=0.2))
    store.put(".lock/000000007", b'{"host": "far", "process": 12}')  # of a run that was killed
    with store.lock():
        assert store.names(".lock") == [".lock/000000008"]
    module, level, message = caplog.record_tuples[0]
    assert (module, level) == ("detectime.storage.lease", logging.INFO)
    assert message == f"{store}: checking whether process 12 on 'far' is still running"
    assert capfd.readouterr() == ("", "")
