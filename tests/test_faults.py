"""Runs that are killed, stopped or interrupted leave no process behind, and the next run ends with the same bytes."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import faults
import pyarrow as pa
import pytest
from faults import (
    COUNT,
    NAMES,
    FaultyFolder,
    list_children,
    make_config,
    make_frames,
    name_frames,
    start_driver,
    tabulate_frames,
    wait_until,
)
from jupyter_client.manager import start_new_kernel

from detectime.detection import run
from detectime.sources.folder import FolderSource

pytestmark = pytest.mark.slow


def resume(images: Path, output: Path, **parameters: Any) -> pa.Table:
    """Run in this process to the end, with two workers."""
    parameters = {"workers": 2, "save_per_num_images": 5, **parameters}
    found = run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), make_config(**parameters), str(output))
    assert found["frame_path"].to_pylist() == NAMES
    return found


def wait_until_running(process: subprocess.Popen[str], output: Path, journal: Path) -> None:
    """Wait until some shards are saved and both workers are busy."""
    wait_until(
        lambda: (
            process.poll() is not None or (faults.count_saved_rows(output) and len(faults.list_workers(journal)) == 2)
        )
    )
    assert process.poll() is None


# -- the driver


def test_a_killed_driver_leaves_no_worker_and_the_next_run_resumes(
    images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    output = tmp_path / "run"
    for _ in range(2):
        with start_driver(images, output, COUNT, journal, pause=0.1, workers=2, save_per_num_images=5) as process:
            before = faults.count_saved_rows(output)
            wait_until(lambda: faults.count_saved_rows(output) > before and len(faults.list_workers(journal)) == 2)  # noqa: B023
            os.kill(process.pid, signal.SIGKILL)  # the driver alone
            wait_until(lambda: not faults.list_workers(journal))
    done = faults.count_saved_rows(output)
    assert before < done < COUNT
    resume(images, output)
    assert (output / "detections.parquet").read_bytes() == uninterrupted


def test_a_run_waits_for_a_dying_one(images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes) -> None:
    output = tmp_path / "run"
    with start_driver(images, output, COUNT, journal, pause=0.1, workers=2, save_per_num_images=5) as process:
        wait_until_running(process, output, journal)
        killer = threading.Timer(0.7, process.kill)
        killer.start()
        found = resume(images, output)
        assert process.wait() == -signal.SIGKILL  # so the second run could not have begun before
        killer.join()
    assert set(found["outcome"].to_pylist()) == {"ok"}
    assert (output / "detections.parquet").read_bytes() == uninterrupted


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupted_driver_ends_without_finishing(
    images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes, number: int, to_all: bool
) -> None:
    output = tmp_path / "run"
    with start_driver(images, output, COUNT, journal, pause=0.1, workers=2, save_per_num_images=5) as process:
        wait_until_running(process, output, journal)
        (os.killpg if to_all else os.kill)(process.pid, number)
        output_text, _ = process.communicate(timeout=60)
        if number == signal.SIGINT:
            assert not faults.list_workers(journal)  # it waited for them
            assert output_text.splitlines()[-1] == "KeyboardInterrupt"
            assert output_text.count("Traceback") == 1
        assert process.returncode == -number
        wait_until(lambda: not faults.list_workers(journal))
    # SIGTERM kills the driver, and a worker may be writing a shard then: its partial file is deleted by a later run,
    # a minute after the last write.
    partial = {name for name in faults.list_stored_files(output) if "partial" in name}
    assert number == signal.SIGTERM or not partial
    resume(images, output)
    assert faults.list_stored_files(output) - partial == faults.FINISHED
    assert (output / "detections.parquet").read_bytes() == uninterrupted


def test_a_suspended_run_continues(images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes) -> None:
    # Ctrl-Z and fg, or a closed laptop: for longer than `frame_timeout`.
    output = tmp_path / "run"
    parameters = {"workers": 2, "save_per_num_images": 5, "frame_timeout": 1.0}
    with start_driver(images, output, COUNT, journal, pause=0.05, **parameters) as process:
        wait_until_running(process, output, journal)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.killpg(process.pid, signal.SIGCONT)
        output_text, _ = process.communicate(timeout=60)
    assert output_text.splitlines()[-1] == f"rows {COUNT}"
    assert (output / "detections.parquet").read_bytes() == uninterrupted


def test_a_script_needs_no_main_guard_and_runs_once(
    images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    output = tmp_path / "run"
    with start_driver(images, output, COUNT, journal, workers=2) as process:
        output_text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    first, line, last = output_text.splitlines()
    assert (first, last) == ("started", f"rows {COUNT}")
    assert "60/60" in line
    manifest = json.loads((output / "run.json").read_text())
    assert 10e6 < manifest["peak_memory_of_a_worker"] < 1e9  # bytes
    assert "\r" not in output_text
    assert (output / "detections.parquet").read_bytes() == uninterrupted


# -- the workers


def test_repeatedly_killed_workers_lose_nothing(
    images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    chance = random.Random(20)
    source = FaultyFolder(str(images), journal=str(journal), pause=0.1)
    others = list_children()
    killed: dict[int, str] = {}
    done = threading.Event()

    def kill() -> None:
        while len(killed) < 4 and not done.is_set():
            time.sleep(chance.uniform(0.1, 0.6))
            at_work = sorted(set(faults.list_workers(journal)) - set(killed))
            if at_work:
                victim = chance.choice(at_work)
                frame = (journal / str(victim)).read_text()
                if frame not in killed.values():  # a frame that loses three workers is `failed`
                    killed[victim] = frame
                    os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = run.detect_frames(
            tabulate_frames(NAMES), source, make_config(workers=2, save_per_num_images=7), str(tmp_path / "run")
        )
    finally:
        done.set()
        killer.join()
    assert len(killed) >= 3
    assert set(found["outcome"].to_pylist()) == {"ok"}
    assert (tmp_path / "run" / "detections.parquet").read_bytes() == uninterrupted
    assert list_children() == others


def test_frames_that_kill_workers_are_failed_and_no_other_frame_is(tmp_path: Path, journal: Path) -> None:
    kinds: dict[str, tuple[int, str]] = {
        "die": (3, "the worker was killed by SIGKILL"),
        "choke": (4, "ValueError"),  # and its message
        "sleep": (18, "took longer than 1 s"),
    }
    frame_paths = make_frames(tmp_path / "images", name_frames(20, **{kind: [at] for kind, (at, _) in kinds.items()}))
    config = make_config(workers=2, save_per_num_images=7, frame_timeout=1.0)
    table, source = tabulate_frames(frame_paths), FaultyFolder(str(tmp_path / "images"))
    found = run.detect_frames(table, source, config, str(tmp_path / "run"))
    assert found["frame_path"].to_pylist() == frame_paths
    wrong = [(at, row["error"].partition(":")[0]) for at, row in enumerate(found.to_pylist()) if row["outcome"] != "ok"]
    assert wrong == list(kinds.values())
    assert set(found["outcome"].to_pylist()) == {"ok", "failed"}
    # After the fault is gone, `retry_failed` processes these frames again, and only these.
    config = make_config(workers=1, retry_failed=True)
    again = run.detect_frames(
        table, FaultyFolder(str(tmp_path / "images"), journal=str(journal), struck=True), config, str(tmp_path / "run")
    )
    assert set(again["outcome"].to_pylist()) == {"ok"}
    assert sorted(name for name in os.listdir(journal) if "_" in name) == sorted(
        frame_paths[at].replace("/", "-") for at, _ in kinds.values()
    )


def test_a_frame_that_kills_a_worker_once_is_retried(tmp_path: Path, journal: Path) -> None:
    frame_paths = make_frames(tmp_path / "images", name_frames(12, die=[3], freeze=[7]))
    source = FaultyFolder(str(tmp_path / "images"), journal=str(journal), once=True)
    config = make_config(workers=2, save_per_num_images=6, frame_timeout=1.0)
    found = run.detect_frames(tabulate_frames(frame_paths), source, config, str(tmp_path / "run"))
    assert found["outcome"].to_pylist() == ["ok"] * 12
    assert len([name for name in os.listdir(journal) if name.startswith("struck")]) == 2


# -- the caller


def test_a_run_with_relative_paths_in_a_thread(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    source = FolderSource(os.path.relpath(images))
    config = make_config(workers=1)
    thread = threading.Thread(target=run.detect_frames, args=(tabulate_frames(NAMES), source, config, "down/run"))
    thread.start()
    thread.join()
    assert (tmp_path / "down" / "run" / "detections.parquet").read_bytes() == uninterrupted


def test_a_run_in_a_deleted_current_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: bytes
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    config = make_config(workers=1)
    monkeypatch.chdir(gone)
    gone.rmdir()
    run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), config, str(tmp_path / "run"))
    assert (tmp_path / "run" / "detections.parquet").read_bytes() == uninterrupted


def test_a_run_in_a_kernel_that_is_interrupted_and_killed(
    images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    output = tmp_path / "run"
    kernel, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=faults.copy_bare_environment())

    def read_reply() -> dict[str, Any]:
        while True:
            try:
                message: dict[str, Any] = client.get_shell_msg(timeout=60)
            except queue.Empty:
                raise AssertionError("the kernel does not answer") from None
            if message["msg_type"] == "execute_reply":
                return dict(message["content"])

    call = (
        f"run.detect_frames(faults.tabulate_frames(faults.name_frames({COUNT})), "
        f"faults.FaultyFolder({str(images)!r}, journal={str(journal)!r}, pause=0.1), "
        f"faults.make_config(workers=2, save_per_num_images=5), {str(output)!r})"
    )
    try:
        client.execute(
            f"import sys; sys.path.insert(0, {str(faults.HERE)!r})\nimport faults\nfrom detectime.detection import run"
        )
        assert read_reply()["status"] == "ok"
        client.execute(call, stop_on_error=False)  # else the next request would be aborted too
        wait_until(lambda: faults.count_saved_rows(output) and len(faults.list_workers(journal)) == 2)
        kernel.interrupt_kernel()
        reply = read_reply()
        assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
        assert not faults.list_workers(journal)
        done = faults.count_saved_rows(output)
        client.execute(call)
        wait_until(lambda: faults.count_saved_rows(output) > done and len(faults.list_workers(journal)) == 2)
        kernel.signal_kernel(signal.SIGKILL)
        wait_until(lambda: not faults.list_workers(journal))
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert 0 < faults.count_saved_rows(output) < COUNT
    resume(images, output)
    assert (output / "detections.parquet").read_bytes() == uninterrupted
