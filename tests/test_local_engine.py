"""Worker processes: each shard comes back as a table or as lost, whatever becomes of its worker, and nothing stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faults
import pyarrow as pa
import pytest
from conftest import make_worker
from faults import Faulty, children, make_frames, names, settings, state, wait_until

from detectime.detection.engines import local
from detectime.detection.engines.contract import EngineError, LostShard, Shard, get_peak_memory
from detectime.detectors.registry import HANDS, Chosen, choose_detectors
from detectime.sources.folder import FolderSource

pytestmark = pytest.mark.slow

NAMES = names(12)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames without a fault."""
    folder = tmp_path_factory.mktemp("images")
    make_frames(folder, NAMES)
    return folder


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No process and no handle is left behind, however a test ends."""
    before = children(), handles()
    yield
    assert (children(), handles()) == before


def handles() -> list[str]:
    """Kinds of what is open here, but for what libraries opened for good: pipes, and files that were deleted."""
    opened = []
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            opened.append(os.readlink(handle))
    return sorted(name.partition(":")[0] for name in opened if name.startswith("socket") or "(deleted)" in name)


class Shards(deque[Shard]):
    """Shards that are cut already; `shared` says among how many workers."""

    shared: int | None = None

    def share_among(self, workers: int) -> None:
        self.shared = workers


def cut(frame_paths: list[str], size: int) -> Shards:
    return Shards(tuple(frame_paths[i : i + size]) for i in range(0, len(frame_paths), size))


def start(source: FolderSource, shards: Shards, chosen: Chosen | None = None, **parameters: Any) -> Any:
    run = settings(**{"workers": 1, **parameters}).run
    return local.run_shards(shards, chosen or choose_detectors(settings().detection), source, run)


def look(source: FolderSource, frame_paths: list[str], size: int = 4, **parameters: Any) -> dict[Shard, Any]:
    return dict(start(source, cut(frame_paths, size), **parameters))


def outcomes(results: dict[Shard, Any]) -> list[str]:
    """Outcome of each frame, in the order of the shards; a shard that was lost is one dash."""
    return [
        outcome
        for _, result in sorted(results.items(), key=lambda item: item[0][0].rpartition("_")[2])
        for outcome in (["-"] if isinstance(result, LostShard) else result["outcome"].to_pylist())
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_process_finds_is_what_a_worker_finds_here(images: Path, workers: int) -> None:
    source = FolderSource(str(images))
    results = look(source, [*NAMES, "video/not there"], workers=workers)
    here = make_worker()
    assert sorted(results) == sorted(cut([*NAMES, "video/not there"], 4))
    for shard, table in results.items():
        assert table.equals(here(source, shard))
    assert outcomes(results) == ["missing"] + ["ok"] * 12 or outcomes(results) == ["ok"] * 12 + ["missing"]


def test_there_are_as_many_workers_as_there_is_work_for(images: Path) -> None:
    before = len(children())
    running = start(FolderSource(str(images)), cut(NAMES, 12), workers=5)
    next(running)
    assert len(children()) - before == 1
    running.close()
    shards = cut(NAMES, 1)
    most = seen = 0
    for _ in start(FolderSource(str(images)), shards, workers=2):
        seen += 1
        most = max(most, len(children()) - before)
        assert len(shards) >= 12 - seen - 2  # nothing is handed out ahead of the one who does it
    assert seen == 12
    assert most == 2


def test_more_shards_may_be_given_while_it_works(images: Path) -> None:
    shards = cut(NAMES[:4], 4)
    seen = []
    for shard, _ in start(FolderSource(str(images)), shards, workers=2):
        if not seen:
            shards.extendleft([tuple(NAMES[4:6]), tuple(NAMES[6:])])
        seen.append(shard)
    assert sorted(seen) == sorted([tuple(NAMES[:4]), tuple(NAMES[4:6]), tuple(NAMES[6:])])


def test_a_worker_that_is_killed_loses_its_shard_alone(images: Path, tmp_path: Path) -> None:
    source = Faulty(str(images), journal=str(tmp_path), pause=0.05)
    running = start(source, cut(NAMES, 4), workers=2)
    killer = threading.Thread(
        target=lambda: os.kill(wait_until(lambda: faults.working(tmp_path))[0], signal.SIGKILL), daemon=True
    )
    killer.start()
    results = dict(running)
    killer.join()
    (lost,) = [result for result in results.values() if isinstance(result, LostShard)]
    assert lost.reason == "the worker was killed by SIGKILL"
    assert lost.at is not None
    assert sorted(outcomes(results)) == ["-"] + ["ok"] * 8


def test_ctrl_c_is_the_drivers_to_decide(images: Path, tmp_path: Path) -> None:
    source = Faulty(str(images), journal=str(tmp_path), pause=0.05)
    interrupter = threading.Thread(
        target=lambda: os.kill(wait_until(lambda: faults.working(tmp_path))[0], signal.SIGINT), daemon=True
    )
    interrupter.start()
    assert outcomes(look(source, NAMES, size=12)) == ["ok"] * 12
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


def test_a_frame_that_costs_its_worker_is_named_with_the_reason(tmp_path: Path) -> None:
    shards = Shards((f"v/frame_0{fault}.jpg", f"v/{fault}_1.jpg", f"v/frame_2{fault}.jpg") for fault in COSTS)
    make_frames(tmp_path, [name for shard in shards for name in shard])
    before = time.monotonic()
    results = dict(start(Faulty(str(tmp_path)), shards, workers=4, frame_timeout=1.0))
    assert {shard[1]: result for shard, result in results.items()} == {
        f"v/{fault}_1.jpg": LostShard(reason, 1) for fault, reason in COSTS.items()
    }
    assert time.monotonic() - before < 60


def test_a_frame_that_a_detector_trips_over_costs_that_frame(tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path, names(3, choke=[1]))
    (table,) = look(Faulty(str(tmp_path)), frame_paths).values()
    assert table["outcome"].to_pylist() == ["ok", "failed", "ok"]
    assert table["error"][1].as_py().startswith("ZeroDivisionError")


def test_the_time_limit_is_one_frames_not_the_shards(tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path, names(3, slow=range(3)))
    assert outcomes(look(Faulty(str(tmp_path)), frame_paths, frame_timeout=1.0)) == ["ok"] * 3  # 0.5 s each


def test_time_that_the_driver_takes_is_not_the_workers(images: Path) -> None:
    # Saving to a slow drive, or a computer that sleeps: meanwhile the workers went on, and said so.
    results = {}
    shards = Shards([tuple(NAMES[:2]), tuple(NAMES[2:8])])
    for shard, result in start(Faulty(str(images), pause=0.3), shards, workers=2, frame_timeout=1.0):
        results[shard] = result
        time.sleep(1.3)
    assert outcomes(results) == ["ok"] * 8


def test_a_stopped_worker_is_given_up(images: Path, tmp_path: Path) -> None:
    source = Faulty(str(images), journal=str(tmp_path), pause=0.1)
    stopper = threading.Thread(
        target=lambda: os.kill(wait_until(lambda: faults.working(tmp_path))[0], signal.SIGSTOP), daemon=True
    )
    stopper.start()
    results = look(source, NAMES, size=6, frame_timeout=1.0)
    stopper.join()
    assert sorted(outcomes(results)) == ["-"] + ["ok"] * 6
    assert {result.reason for result in results.values() if isinstance(result, LostShard)} == {"took longer than 1 s"}


def test_a_driver_that_waits_does_not_spin(images: Path) -> None:
    running = start(Faulty(str(images), pause=0.5), cut(NAMES[:4], 4))
    before = time.process_time()
    dict(running)
    assert time.process_time() - before < 0.5  # in two seconds of nothing, and a start


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
    monkeypatch.setattr(local, "START_LIMIT", 1.0 if "sleep" in code else 60.0)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"^workers cannot start: ") as refusal:
        look(FolderSource(str(images)), NAMES, workers=2)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_detector_that_is_not_there_is_one_clear_error(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It can be chosen here, but not where the worker is: `Chosen` travels as its configuration.
    monkeypatch.setitem(HANDS, "nonesuch", HANDS["mediapipe"])
    chosen = choose_detectors(settings(hand_detector="nonesuch").detection)
    with pytest.raises(EngineError, match="there is no detector 'nonesuch'"):
        look(FolderSource(str(images)), NAMES, chosen=chosen)


def test_a_source_that_cannot_be_sent_is_one_clear_error(images: Path) -> None:
    with pytest.raises(EngineError, match=r"Unsendable.*cannot be sent to a worker: .*lock"):
        look(faults.unsendable(str(images)), NAMES, workers=2)


def test_a_source_that_does_not_arrive_is_one_clear_error(images: Path) -> None:
    before = time.monotonic()
    with pytest.raises(EngineError, match=r"workers cannot start: RuntimeError: .* is not for workers"):
        look(faults.Unreceivable(str(images)), NAMES, workers=2)
    assert time.monotonic() - before < 20


def test_workers_that_fail_to_start_now_and_then_are_no_matter(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(local, "_RECYCLED_AFTER", 4)
    monkeypatch.setattr(local, "_FAILED_STARTS", 2)
    monkeypatch.syspath_prepend(tmp_path)
    assert outcomes(look(FolderSource(str(images)), NAMES[:8], size=4)) == ["ok"] * 8


# -- what a worker is


def test_recycling_loses_nothing(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_RECYCLED_AFTER", 4)
    source = Faulty(str(images), journal=str(tmp_path))
    assert outcomes(look(source, NAMES[:8], size=2)) == ["ok"] * 8
    assert len(list(tmp_path.iterdir())) == 2


def test_a_worker_that_has_grown_is_replaced(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_GROWN", 150_000_000)
    frame_paths = make_frames(tmp_path / "images", names(8, eat=[3]))
    journal = tmp_path / "journal"
    journal.mkdir()
    before = time.monotonic()
    found = look(Faulty(str(tmp_path / "images"), journal=str(journal)), frame_paths, size=2)
    assert outcomes(found) == ["ok"] * 8
    assert len(list(journal.iterdir())) == 2
    peaks = sorted(get_peak_memory(table) for table in found.values() if isinstance(table, pa.Table))
    assert 50e6 < peaks[0] < peaks[-1] - 200e6 < 2e9
    assert time.monotonic() - before < 30


def asked(tmp_path: Path) -> dict[str, Any]:
    """What a worker of `faults.Telling` said of itself."""
    told: dict[str, Any] = json.loads((tmp_path / "told.json").read_text())
    return told


def test_a_worker_uses_one_core(tmp_path: Path) -> None:
    make_frames(tmp_path, ["a.jpg"], size=(1280, 960))
    running = start(faults.Telling(str(tmp_path), journal=str(tmp_path)), Shards([("a.jpg",) * 60]))
    _, table = next(running)
    running.close()
    told = asked(tmp_path)
    assert table.num_rows == 60
    assert told["cv2"] == 1
    assert told["omp"] == "1"
    assert told["processor"] < 1.1 * told["wall"]


def test_a_worker_sees_the_modules_that_its_driver_sees(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The current folder is not among them unless it is for the driver; what is no text is not looked at.
    (tmp_path / "queue.py").write_text("raise ImportError('a file of the user is in the way')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry] + [tmp_path / "as a path"])
    look(faults.Telling(str(images), journal=str(tmp_path)), NAMES[:1])
    assert [entry for entry in asked(tmp_path)["path"] if entry in sys.path] == list(dict.fromkeys(sys.path[:-1]))
    assert str(tmp_path) not in asked(tmp_path)["path"]
    (tmp_path / "queue.py").unlink()
    (tmp_path / "own_source.py").write_text(
        "from detectime.sources.folder import FolderSource\nclass Own(FolderSource):\n    '''A source of the user.'''\n"
    )
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    import own_source  # type: ignore[import-not-found]

    assert outcomes(look(own_source.Own(str(images)), NAMES[:1])) == ["ok"]


def test_a_current_folder_that_is_gone_is_no_matter(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert outcomes(look(FolderSource(str(images)), NAMES[:1])) == ["ok"]


def test_much_output_of_a_library_blocks_nothing(tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path, names(3, chat=[0], leave=[2]))
    (lost,) = look(Faulty(str(tmp_path)), frame_paths).values()
    assert lost == LostShard("the worker ended with status 7: the library gave up", 2)


def test_it_works_in_a_thread(images: Path) -> None:
    results: list[dict[Shard, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(look(FolderSource(str(images)), NAMES, workers=1)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcomes(result) for result in results] == [["ok"] * 12] * 2


@pytest.mark.parametrize(("stop", "workers"), [("close", 2), ("forget", 1), ("throw", 1)])
def test_work_that_is_given_up_leaves_no_worker(images: Path, stop: str, workers: int) -> None:
    running = start(Faulty(str(images), pause=0.1), cut(NAMES, 3), workers=workers)
    next(running)
    at_work = children()
    assert at_work
    before = time.monotonic()
    if stop == "close":
        running.close()
    elif stop == "throw":
        with pytest.raises(KeyboardInterrupt):
            running.throw(KeyboardInterrupt)
    del running
    assert not [worker for worker in at_work if state(worker)]
    assert time.monotonic() - before < 2


def test_cores_are_those_that_may_be_used() -> None:
    code = (
        "import os\n"
        "from detectime.detection.engines import local\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(local.count_available_cores())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    assert 1 <= local.count_available_cores() <= (os.cpu_count() or 1)


def test_a_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(local, "Path", lambda _: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    cores: Callable[[], int] = local.count_available_cores
    for content, expected in (("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("", 64)):
        quota.write_text(content)
        assert cores() == expected
    quota.unlink()
    assert cores() == 64


def test_the_schema_is_asserted(images: Path) -> None:
    from detectime.schema import DETECTIONS

    (table,) = look(FolderSource(str(images)), NAMES[:2]).values()
    assert isinstance(table, pa.Table)
    assert table.schema.equals(DETECTIONS)


@pytest.mark.parametrize("workers", [1, 3, None])
def test_the_work_is_shared_among_as_many_as_there_may_be(images: Path, workers: int | None) -> None:
    shards = cut(NAMES[:1], 1)
    chosen = choose_detectors(settings(device="cpu").detection)
    dict(start(FolderSource(str(images)), shards, chosen, workers=workers))
    assert shards.shared == (workers or local.count_available_cores())
