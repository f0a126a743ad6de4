"""Runs that are killed, stopped and interrupted leave nobody behind, and the next one finishes with the same bytes."""

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
from faults import Faulty, children, driver, make_frames, names, settings, table_of, wait_until

from detectime.detection import run
from detectime.sources.folder import FolderSource

pytestmark = pytest.mark.slow

COUNT = 60
NAMES = names(COUNT)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames without a fault."""
    folder = tmp_path_factory.mktemp("images")
    make_frames(folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def straight(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run leaves that nothing disturbs."""
    output = tmp_path_factory.mktemp("straight")
    resume(images, output, workers=1)
    return (output / "detections.parquet").read_bytes()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where workers sign."""
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


def resume(images: Path, output: Path, **parameters: Any) -> pa.Table:
    """Run in this process to the end."""
    parameters = {"workers": 2, "save_per_num_images": 5, **parameters}
    found = run.detect_frames(table_of(NAMES), FolderSource(str(images)), settings(**parameters), str(output))
    assert found["frame_path"].to_pylist() == NAMES
    return found


def in_the_middle(process: subprocess.Popen[str], output: Path, journal: Path) -> None:
    """Wait until some shards are saved and both workers work on others."""
    wait_until(lambda: process.poll() is not None or (faults.saved_rows(output) and len(faults.working(journal)) == 2))
    assert process.poll() is None


# -- the driver


def test_a_driver_that_is_killed_leaves_no_worker_and_the_next_run_goes_on(
    images: Path, tmp_path: Path, journal: Path, straight: bytes
) -> None:
    output = tmp_path / "run"
    for _ in range(2):
        with driver(images, output, COUNT, journal, pause=0.1, workers=2, save_per_num_images=5) as process:
            before = faults.saved_rows(output)
            wait_until(lambda: faults.saved_rows(output) > before and len(faults.working(journal)) == 2)  # noqa: B023
            os.kill(process.pid, signal.SIGKILL)  # the driver alone
            wait_until(lambda: not faults.working(journal), 3)
    done = faults.saved_rows(output)
    assert before < done < COUNT
    resume(images, output)
    assert (output / "detections.parquet").read_bytes() == straight


def test_a_run_waits_for_one_that_dies(images: Path, tmp_path: Path, journal: Path, straight: bytes) -> None:
    output = tmp_path / "run"
    with driver(images, output, COUNT, journal, pause=0.1, workers=2, save_per_num_images=5) as process:
        in_the_middle(process, output, journal)
        killer = threading.Timer(0.7, process.kill)
        killer.start()
        before = time.monotonic()
        found = resume(images, output)
        assert time.monotonic() - before > 0.7
        killer.join()
    assert set(found["outcome"].to_pylist()) == {"ok"}
    assert (output / "detections.parquet").read_bytes() == straight


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_driver_that_is_interrupted_ends_at_once(
    images: Path, tmp_path: Path, journal: Path, straight: bytes, number: int, to_all: bool
) -> None:
    output = tmp_path / "run"
    with driver(images, output, COUNT, journal, pause=0.1, workers=2, save_per_num_images=5) as process:
        in_the_middle(process, output, journal)
        before = time.monotonic()
        (os.killpg if to_all else os.kill)(process.pid, number)
        said, _ = process.communicate(timeout=10)
        assert time.monotonic() - before < 3
        if number == signal.SIGINT:
            assert not faults.working(journal)  # it waits for them
            assert said.splitlines()[-1] == "KeyboardInterrupt"
            assert said.count("Traceback") == 1
        assert process.returncode == -number
        wait_until(lambda: not faults.working(journal), 3)
    if number == signal.SIGINT:
        assert not [name for name in faults.stored(output) if "partial" in name]
    resume(images, output)
    assert faults.stored(output) == faults.FINISHED
    assert (output / "detections.parquet").read_bytes() == straight


def test_a_run_that_is_suspended_goes_on_as_if_nothing_was(
    images: Path, tmp_path: Path, journal: Path, straight: bytes
) -> None:
    # Ctrl-Z and fg, a laptop that is closed: longer than a frame may take.
    output = tmp_path / "run"
    parameters = {"workers": 2, "save_per_num_images": 5, "frame_timeout": 1.0}
    with driver(images, output, COUNT, journal, pause=0.05, **parameters) as process:
        in_the_middle(process, output, journal)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.killpg(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=30)
    assert said.splitlines()[-1] == f"rows {COUNT}"
    assert (output / "detections.parquet").read_bytes() == straight


def test_a_plain_script_needs_no_main_guard_and_is_run_once(
    images: Path, tmp_path: Path, journal: Path, straight: bytes
) -> None:
    output = tmp_path / "run"
    with driver(images, output, COUNT, journal, workers=2) as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    first, line, last = said.splitlines()
    assert (first, last) == ("started", f"rows {COUNT}")
    assert "60/60" in line
    manifest = json.loads((output / "run.json").read_text())
    assert 10e6 < manifest["peak_memory_of_a_worker"] < 1e9  # bytes
    assert "\r" not in said
    assert (output / "detections.parquet").read_bytes() == straight


# -- the workers


def test_workers_that_are_killed_again_and_again_lose_nothing(
    images: Path, tmp_path: Path, journal: Path, straight: bytes
) -> None:
    chance = random.Random(20)
    source = Faulty(str(images), journal=str(journal), pause=0.1)
    killed: dict[int, str] = {}
    done = threading.Event()

    def kill() -> None:
        while len(killed) < 4 and not done.is_set():
            time.sleep(chance.uniform(0.1, 0.6))
            at_work = sorted(set(faults.working(journal)) - set(killed))
            if at_work:
                victim = chance.choice(at_work)
                frame = (journal / str(victim)).read_text()
                if frame not in killed.values():  # a frame that loses three workers is failed, and rightly
                    killed[victim] = frame
                    os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = run.detect_frames(
            table_of(NAMES), source, settings(workers=2, save_per_num_images=7), str(tmp_path / "run")
        )
    finally:
        done.set()
        killer.join()
    assert len(killed) >= 3
    assert set(found["outcome"].to_pylist()) == {"ok"}
    assert (tmp_path / "run" / "detections.parquet").read_bytes() == straight
    assert children() == []


def test_frames_that_cost_workers_are_failed_and_their_neighbours_lose_nothing(tmp_path: Path, journal: Path) -> None:
    kinds: dict[str, tuple[int, str]] = {
        "die": (3, "the worker was killed by SIGKILL"),
        "choke": (4, "ZeroDivisionError: division by zero"),
        "sleep": (18, "took longer than 1 s"),
    }
    frame_paths = make_frames(tmp_path / "images", names(20, **{kind: [at] for kind, (at, _) in kinds.items()}))
    config = settings(workers=2, save_per_num_images=7, frame_timeout=1.0)
    table, source = table_of(frame_paths), Faulty(str(tmp_path / "images"))
    found = run.detect_frames(table, source, config, str(tmp_path / "run"))
    assert found["frame_path"].to_pylist() == frame_paths
    wrong = [(at, row["error"]) for at, row in enumerate(found.to_pylist()) if row["outcome"] != "ok"]
    assert wrong == list(kinds.values())
    assert set(found["outcome"].to_pylist()) == {"ok", "failed"}
    # Once what was wrong is put right, those are looked at again, and only those.
    config = settings(workers=1, retry_failed=True)
    again = run.detect_frames(
        table, Faulty(str(tmp_path / "images"), journal=str(journal), struck=True), config, str(tmp_path / "run")
    )
    assert set(again["outcome"].to_pylist()) == {"ok"}
    assert sorted(name for name in os.listdir(journal) if "_" in name) == sorted(
        frame_paths[at].replace("/", "-") for at, _ in kinds.values()
    )


def test_a_frame_that_costs_its_worker_once_is_tried_again(tmp_path: Path, journal: Path) -> None:
    frame_paths = make_frames(tmp_path / "images", names(12, die=[3], freeze=[7]))
    source = Faulty(str(tmp_path / "images"), journal=str(journal), once=True)
    config = settings(workers=2, save_per_num_images=6, frame_timeout=1.0)
    found = run.detect_frames(table_of(frame_paths), source, config, str(tmp_path / "run"))
    assert found["outcome"].to_pylist() == ["ok"] * 12
    assert len([name for name in os.listdir(journal) if name.startswith("struck")]) == 2


# -- where it is called


def test_relative_paths_and_a_thread(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    source = FolderSource(os.path.relpath(images))
    config = settings(workers=1)
    thread = threading.Thread(target=run.detect_frames, args=(table_of(NAMES), source, config, "down/run"))
    thread.start()
    thread.join()
    assert (tmp_path / "down" / "run" / "detections.parquet").read_bytes() == straight


def test_a_current_folder_that_is_gone(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: bytes
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    config = settings(workers=1)
    monkeypatch.chdir(gone)
    gone.rmdir()
    run.detect_frames(table_of(NAMES), FolderSource(str(images)), config, str(tmp_path / "run"))
    assert (tmp_path / "run" / "detections.parquet").read_bytes() == straight


def test_in_a_kernel_that_is_interrupted_and_killed(
    images: Path, tmp_path: Path, journal: Path, straight: bytes
) -> None:
    manager = pytest.importorskip("jupyter_client.manager")
    output = tmp_path / "run"
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=faults.bare_environment())

    def answer() -> dict[str, Any]:
        while True:
            try:
                message: dict[str, Any] = client.get_shell_msg(timeout=30)
            except queue.Empty:
                raise AssertionError("the kernel does not answer") from None
            if message["msg_type"] == "execute_reply":
                return dict(message["content"])

    call = (
        f"run.detect_frames(faults.table_of(faults.names({COUNT})), "
        f"faults.Faulty({str(images)!r}, journal={str(journal)!r}, pause=0.1), "
        f"faults.settings(workers=2, save_per_num_images=5), {str(output)!r})"
    )
    try:
        client.execute(
            f"import sys; sys.path.insert(0, {str(faults.HERE)!r})\nimport faults\nfrom detectime.detection import run"
        )
        assert answer()["status"] == "ok"
        client.execute(call, stop_on_error=False)  # else what comes right after it is aborted, too
        wait_until(lambda: faults.saved_rows(output) and len(faults.working(journal)) == 2)
        kernel.interrupt_kernel()
        reply = answer()
        assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
        assert not faults.working(journal)
        done = faults.saved_rows(output)
        client.execute(call)
        wait_until(lambda: faults.saved_rows(output) > done and len(faults.working(journal)) == 2)
        kernel.signal_kernel(signal.SIGKILL)
        wait_until(lambda: not faults.working(journal), 3)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert 0 < faults.saved_rows(output) < COUNT
    resume(images, output)
    assert (output / "detections.parquet").read_bytes() == straight
