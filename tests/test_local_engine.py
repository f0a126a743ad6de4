"""Worker processes: each shard returns as a table or as lost, whatever happens to its worker; no process remains."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import pyarrow as pa
import pytest
from conftest import make_worker
from faults import FaultyFolder, list_children, make_config, make_frames, name_frames, read_process_state, wait_until

from detectime.detection.engines import local
from detectime.detection.engines.contract import (
    DEFAULT_LIMITS,
    EngineError,
    FixedShards,
    Limits,
    LostShard,
    Shard,
    get_peak_memory,
)
from detectime.detectors.registry import HANDS, Chosen, choose_detectors
from detectime.sources.folder import FolderSource

pytestmark = pytest.mark.slow

NAMES = name_frames(12)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames without a fault."""
    folder = tmp_path_factory.mktemp("images")
    make_frames(folder, NAMES)
    return folder


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Check that no process and no file descriptor remains after a test."""
    before = list_children(), list_descriptors()
    yield
    assert (list_children(), list_descriptors()) == before


def list_descriptors() -> list[str]:
    """Kinds of the open sockets and deleted files; other files may be opened for good by libraries."""
    opened = []
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            opened.append(os.readlink(handle))
    return sorted(name.partition(":")[0] for name in opened if name.startswith("socket") or "(deleted)" in name)


class RecordingShards(FixedShards):
    """Shards that record among how many workers they are shared."""

    shared: int | None = None

    def share_among(self, workers: int) -> None:
        self.shared = workers


def cut(frame_paths: list[str], size: int) -> RecordingShards:
    return RecordingShards(tuple(frame_paths[i : i + size]) for i in range(0, len(frame_paths), size))


def start(
    source: FolderSource,
    shards: FixedShards,
    chosen: Chosen | None = None,
    limits: Limits = DEFAULT_LIMITS,
    **parameters: Any,
) -> Any:
    run = make_config(**{"workers": 1, **parameters}).run
    return local.run_shards(shards, chosen or choose_detectors(make_config().detection), source, run, limits)


def run_all(source: FolderSource, frame_paths: list[str], size: int = 4, **parameters: Any) -> dict[Shard, Any]:
    return dict(start(source, cut(frame_paths, size), **parameters))


def list_outcomes(results: dict[Shard, Any]) -> list[str]:
    """Outcome of each frame, in the order of the shards; a lost shard is one dash."""
    return [
        outcome
        for _, result in sorted(results.items(), key=lambda item: item[0][0].rpartition("_")[2])
        for outcome in (["-"] if isinstance(result, LostShard) else result["outcome"].to_pylist())
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_process_gives_the_same_tables_as_a_worker_in_this_process(images: Path, workers: int) -> None:
    source = FolderSource(str(images))
    results = run_all(source, [*NAMES, "video/not there"], workers=workers)
    here = make_worker()
    assert sorted(results) == sorted(cut([*NAMES, "video/not there"], 4))
    for shard, table in results.items():
        assert table.equals(here(source, shard))
    assert list_outcomes(results) == ["missing"] + ["ok"] * 12 or list_outcomes(results) == ["ok"] * 12 + ["missing"]


def test_no_more_workers_than_shards_are_started(images: Path) -> None:
    before = len(list_children())
    running = start(FolderSource(str(images)), cut(NAMES, 12), workers=5)
    next(running)
    assert len(list_children()) - before == 1
    running.close()
    shards = cut(NAMES, 1)
    most = seen = 0
    for _ in start(FolderSource(str(images)), shards, workers=2):
        seen += 1
        most = max(most, len(list_children()) - before)
        assert len(shards) >= 12 - seen - 2  # no shard is taken before a worker is free
    assert seen == 12
    assert most == 2


def test_shards_can_be_added_while_the_engine_runs(images: Path) -> None:
    shards = cut(NAMES[:4], 4)
    seen = []
    for shard, _ in start(FolderSource(str(images)), shards, workers=2):
        if not seen:
            shards.extendleft([tuple(NAMES[4:6]), tuple(NAMES[6:])])
        seen.append(shard)
    assert sorted(seen) == sorted([tuple(NAMES[:4]), tuple(NAMES[4:6]), tuple(NAMES[6:])])


def test_a_killed_worker_loses_only_its_shard(images: Path, tmp_path: Path) -> None:
    source = FaultyFolder(str(images), journal=str(tmp_path), pause=0.05)
    running = start(source, cut(NAMES, 4), workers=2)
    killer = threading.Thread(
        target=lambda: os.kill(wait_until(lambda: faults.list_workers(tmp_path))[0], signal.SIGKILL), daemon=True
    )
    killer.start()
    results = dict(running)
    killer.join()
    (lost,) = [result for result in results.values() if isinstance(result, LostShard)]
    assert lost.reason == "the worker was killed by SIGKILL"
    assert lost.at is not None
    assert sorted(list_outcomes(results)) == ["-"] + ["ok"] * 8


def test_workers_ignore_ctrl_c(images: Path, tmp_path: Path) -> None:
    source = FaultyFolder(str(images), journal=str(tmp_path), pause=0.05)
    interrupter = threading.Thread(
        target=lambda: os.kill(wait_until(lambda: faults.list_workers(tmp_path))[0], signal.SIGINT), daemon=True
    )
    interrupter.start()
    assert list_outcomes(run_all(source, NAMES, size=12)) == ["ok"] * 12
    interrupter.join()


COSTS = {
    "die": "the worker was killed by SIGKILL",
    "odd": "the worker was killed by signal 37",
    "leave": "the worker ended with status 7: the library gave up",
    "raise": "RuntimeError: the source is broken",
    "sleep": "took longer than 1 s",
    "spin": "took longer than 1 s",
    "hold": "took longer than 1 s",
    "freeze": "took longer than 1 s",
}


def test_a_frame_that_ends_its_worker_is_named_with_the_reason(tmp_path: Path) -> None:
    shards = FixedShards((f"v/frame_0{fault}.jpg", f"v/{fault}_1.jpg", f"v/frame_2{fault}.jpg") for fault in COSTS)
    make_frames(tmp_path, [name for shard in shards for name in shard])
    results = dict(start(FaultyFolder(str(tmp_path)), shards, workers=4, frame_timeout=1.0))
    assert {shard[1]: result for shard, result in results.items()} == {
        f"v/{fault}_1.jpg": LostShard(reason, 1) for fault, reason in COSTS.items()
    }


def test_a_frame_on_which_a_detector_raises_costs_only_that_frame(tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path, name_frames(3, choke=[1]))
    (table,) = run_all(FaultyFolder(str(tmp_path)), frame_paths).values()
    assert table["outcome"].to_pylist() == ["ok", "failed", "ok"]
    assert table["error"][1].as_py() == "ValueError: pixels of shape (8, 8); expected (height, width, 3)"


def test_the_timeout_applies_to_a_frame_not_to_the_shard(tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path, name_frames(3, slow=range(3)))
    assert (
        list_outcomes(run_all(FaultyFolder(str(tmp_path)), frame_paths, frame_timeout=1.0)) == ["ok"] * 3
    )  # 0.5 s each


def test_time_spent_by_the_driver_does_not_count_for_workers(images: Path) -> None:
    # Saving to a slow drive, or a suspended computer: the workers went on meanwhile and reported it.
    results = {}
    shards = FixedShards([tuple(NAMES[:2]), tuple(NAMES[2:8])])
    for shard, result in start(FaultyFolder(str(images), pause=0.3), shards, workers=2, frame_timeout=1.0):
        results[shard] = result
        time.sleep(1.3)
    assert list_outcomes(results) == ["ok"] * 8


def test_a_suspended_worker_is_given_up(images: Path, tmp_path: Path) -> None:
    source = FaultyFolder(str(images), journal=str(tmp_path), pause=0.1)
    stopper = threading.Thread(
        target=lambda: os.kill(wait_until(lambda: faults.list_workers(tmp_path))[0], signal.SIGSTOP), daemon=True
    )
    stopper.start()
    results = run_all(source, NAMES, size=6, frame_timeout=1.0)
    stopper.join()
    assert sorted(list_outcomes(results)) == ["-"] + ["ok"] * 6
    assert {result.reason for result in results.values() if isinstance(result, LostShard)} == {"took longer than 1 s"}


def test_a_waiting_driver_uses_no_cpu(images: Path) -> None:
    running = start(FaultyFolder(str(images), pause=0.5), cut(NAMES[:4], 4))
    before = time.process_time()
    dict(running)
    assert time.process_time() - before < 0.5  # in two idle seconds and a start


# -- workers that cannot start


@pytest.mark.parametrize(
    ("module", "code", "reason"),
    [
        ("onnxruntime", "raise ImportError('libmissing.so: not there')", "ImportError: libmissing.so: not there"),
        ("pyarrow", "import os; print('no such processor', flush=True); os._exit(3)", "status 3: no such processor"),
        ("onnxruntime", "import time; time.sleep(600)", "did not load its models within 1 s"),
    ],
)
def test_a_worker_that_cannot_start_is_one_clear_error(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, reason: str
) -> None:
    (tmp_path / f"{module}.py").write_text(code + "\n")
    limits = Limits(start=1.0 if "sleep" in code else 60.0)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"^workers cannot start: ") as refusal:
        run_all(FolderSource(str(images)), NAMES, workers=2, limits=limits)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_detector_is_one_clear_error(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It can be chosen here, but not in the worker: `Chosen` is pickled as its configuration.
    monkeypatch.setitem(HANDS, "nonesuch", HANDS["mediapipe"])
    chosen = choose_detectors(make_config(hand_detector="nonesuch").detection)
    with pytest.raises(EngineError, match="there is no detector 'nonesuch'"):
        run_all(FolderSource(str(images)), NAMES, chosen=chosen)


def test_a_source_that_cannot_be_sent_is_one_clear_error(images: Path) -> None:
    with pytest.raises(EngineError, match=r"Unsendable.*cannot be sent to a worker: .*lock"):
        run_all(faults.make_unsendable(str(images)), NAMES, workers=2)


def test_a_source_that_cannot_be_unpickled_is_one_clear_error(images: Path) -> None:
    with pytest.raises(EngineError, match=r"workers cannot start: RuntimeError: .* is not for workers"):
        run_all(faults.UnreceivableFolder(str(images)), NAMES, workers=2)


def test_occasional_failed_starts_do_not_matter(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every other start fails: never two in a row.
    (tmp_path / "onnxruntime.py").write_text(
        "import importlib, pathlib, sys\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if mark.exists():\n"
        "    mark.unlink()\n"
        f"    sys.path.remove({str(tmp_path)!r})\n"
        "    del sys.modules['onnxruntime']\n"
        "    sys.modules['onnxruntime'] = importlib.import_module('onnxruntime')\n"
        "else:\n"
        "    mark.touch()\n"
        "    raise ImportError('busy')\n"
    )
    limits = Limits(recycle_frames=4, failed_starts=2)
    monkeypatch.syspath_prepend(tmp_path)
    assert list_outcomes(run_all(FolderSource(str(images)), NAMES[:8], size=4, limits=limits)) == ["ok"] * 8


# -- the worker process


def test_recycling_loses_nothing(images: Path, tmp_path: Path) -> None:
    source = FaultyFolder(str(images), journal=str(tmp_path))
    found = run_all(source, NAMES[:8], size=2, limits=Limits(recycle_frames=4))
    assert list_outcomes(found) == ["ok"] * 8
    assert len(list(tmp_path.iterdir())) == 2


def test_a_worker_that_has_grown_is_replaced(images: Path, tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path / "images", name_frames(8, eat=[3]))
    journal = tmp_path / "journal"
    journal.mkdir()
    source = FaultyFolder(str(tmp_path / "images"), journal=str(journal))
    found = run_all(source, frame_paths, size=2, limits=Limits(recycle_growth=150_000_000))
    assert list_outcomes(found) == ["ok"] * 8
    assert len(list(journal.iterdir())) == 2
    peaks = sorted(get_peak_memory(table) for table in found.values() if isinstance(table, pa.Table))
    assert 50e6 < peaks[0] < peaks[-1] - 200e6 < 2e9


def read_report(tmp_path: Path) -> dict[str, Any]:
    """Read what a worker of `faults.ReportingFolder` reported about itself."""
    told: dict[str, Any] = json.loads((tmp_path / "told.json").read_text())
    return told


def test_a_worker_uses_one_core(tmp_path: Path) -> None:
    make_frames(tmp_path, ["a.jpg"], size=(1280, 960))
    running = start(faults.ReportingFolder(str(tmp_path), journal=str(tmp_path)), FixedShards([("a.jpg",) * 60]))
    _, table = next(running)
    running.close()
    told = read_report(tmp_path)
    assert table.num_rows == 60
    assert told["cv2"] == 1
    assert told["omp"] == "1"
    assert told["processor"] < 1.1 * told["wall"]


def test_a_worker_imports_from_the_search_path_of_its_driver(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the current folder, unless the driver has it; entries that are not strings are skipped.
    (tmp_path / "queue.py").write_text("raise ImportError('a file of the user is in the way')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry] + [tmp_path / "as a path"])
    run_all(faults.ReportingFolder(str(images), journal=str(tmp_path)), NAMES[:1])
    assert [entry for entry in read_report(tmp_path)["path"] if entry in sys.path] == list(dict.fromkeys(sys.path[:-1]))
    assert str(tmp_path) not in read_report(tmp_path)["path"]
    (tmp_path / "queue.py").unlink()
    (tmp_path / "own_source.py").write_text(
        "from detectime.sources.folder import FolderSource\nclass Own(FolderSource):\n    '''A source of the user.'''\n"
    )
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    import own_source  # type: ignore[import-not-found]

    assert list_outcomes(run_all(own_source.Own(str(images)), NAMES[:1])) == ["ok"]


def test_a_deleted_current_folder_does_not_matter(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert list_outcomes(run_all(FolderSource(str(images)), NAMES[:1])) == ["ok"]


def test_a_large_output_of_a_library_does_not_block(tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path, name_frames(3, chat=[0], leave=[2]))
    (lost,) = run_all(FaultyFolder(str(tmp_path)), frame_paths).values()
    assert lost == LostShard("the worker ended with status 7: the library gave up", 2)


def test_it_works_in_a_thread(images: Path) -> None:
    results: list[dict[Shard, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(run_all(FolderSource(str(images)), NAMES, workers=1)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [list_outcomes(result) for result in results] == [["ok"] * 12] * 2


@pytest.mark.parametrize(("stop", "workers"), [("close", 2), ("forget", 1), ("throw", 1)])
def test_abandoned_work_leaves_no_worker(images: Path, stop: str, workers: int) -> None:
    others = set(list_children())
    running = start(FaultyFolder(str(images), pause=0.1), cut(NAMES, 3), workers=workers)
    next(running)
    at_work = set(list_children()) - others
    assert at_work
    if stop == "close":
        running.close()
    elif stop == "throw":
        with pytest.raises(KeyboardInterrupt):
            running.throw(KeyboardInterrupt)
    del running
    assert not [worker for worker in at_work if read_process_state(worker)]


def test_available_cores_follow_the_affinity_mask() -> None:
    code = (
        "import os\n"
        "from detectime.detection.engines import local\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(local.count_available_cores())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    assert 1 <= local.count_available_cores() <= (os.cpu_count() or 1)


def test_available_cores_follow_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for content, expected in (("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("", 64)):
        quota.write_text(content)
        assert local.count_available_cores(quota) == expected
    quota.unlink()
    assert local.count_available_cores(quota) == 64


def test_tables_have_the_schema_of_detections(images: Path) -> None:
    from detectime.schema import DETECTIONS

    (table,) = run_all(FolderSource(str(images)), NAMES[:2]).values()
    assert isinstance(table, pa.Table)
    assert table.schema.equals(DETECTIONS)


@pytest.mark.parametrize("workers", [1, 3, None])
def test_the_work_is_shared_among_all_possible_workers(images: Path, workers: int | None) -> None:
    shards = cut(NAMES[:1], 1)
    chosen = choose_detectors(make_config(device="cpu").detection)
    dict(start(FolderSource(str(images)), shards, chosen, workers=workers))
    assert shards.shared == (workers or local.count_available_cores())
