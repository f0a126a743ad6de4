"""The pool on a simulated cluster: an in-process cluster whose nodes and workers fail as a test scripts it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from faults import FaultyFolder, make_config, make_frames, name_frames

import detectime
from detectime.config import RunConfig
from detectime.detection.engines.cluster import Cluster, NodeLostError, NodeReport, WorkerLostError
from detectime.detection.engines.contract import EngineError, FixedShards, Limits, LostShard, Shard
from detectime.detection.engines.pool import Pool
from detectime.detection.engines.remote import RemoteWorker, probe_node
from detectime.detectors.registry import choose_detectors
from detectime.sources.folder import FolderSource

HERE = NodeReport("1.0", {"hands": {"revision": 1}}, ("a.jpg",))
SHARDS = [(f"{letter}.jpg",) for letter in "abcdefgh"]


class Hangs(Exception):
    """Raised by a script in place of an answer: none will ever come."""


class Clock:
    """A clock that advances only when somebody waits."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += max(seconds, 1e-3)


@dataclass(eq=False)
class FakeWorker:
    """A worker of the simulated cluster."""

    number: int
    is_stopped: bool = False
    loss: WorkerLostError | None = None
    """What every further call meets once the worker is lost."""
    shards: list[Shard] = field(default_factory=list)
    """All that it was given."""


@dataclass(eq=False)
class FakeCall:
    """A call that runs once somebody waits for it."""

    work: Callable[[], Any]
    worker: FakeWorker | None = None
    answer: Any = None


class FakeCluster:
    """A cluster in this process. Calls of a worker run in order, one per `wait`, and take `duration` seconds each;
    all calls of a lost worker fail at once.

    Parameters
    ----------
    room
        Workers that it has room for.
    process
        Called with a worker and a shard: returns the result or raises what a worker meets.
    report
        Called with a worker: returns the report of its node, likewise.
    nodes
        For each node what its probe does: returns a report, likewise.
    """

    name = "Fake"

    def __init__(
        self,
        room: int = 2,
        process: Callable[[FakeWorker, Shard], Any] = lambda _, shard: pa.table({"frame_path": list(shard)}),
        report: Callable[[FakeWorker], NodeReport] = lambda _: HERE,
        nodes: dict[str, Callable[[], NodeReport]] | None = None,
        duration: float = 1.0,
    ) -> None:
        self.clock = Clock()
        self.room, self.process, self.report, self.nodes, self.duration = room, process, report, nodes or {}, duration
        self.workers: list[FakeWorker] = []
        self.most_alive = 0
        self.probed: set[Shard] = set()

    def count_room(self) -> int:
        return self.room

    def describe_room(self) -> str:
        return f"{self.room} cores"

    def start_worker(self) -> FakeWorker:
        self.workers.append(FakeWorker(len(self.workers)))
        self.most_alive = max(self.most_alive, len(self.alive))
        return self.workers[-1]

    @property
    def alive(self) -> list[FakeWorker]:
        return [worker for worker in self.workers if not worker.is_stopped]

    def stop_worker(self, worker: FakeWorker) -> None:
        assert not worker.is_stopped
        worker.is_stopped = True

    def request_report(self, worker: FakeWorker, frame_paths: Shard) -> FakeCall:
        self.probed.add(frame_paths)
        return FakeCall(lambda: self.report(worker), worker)

    def submit_shard(self, worker: FakeWorker, shard: Shard) -> FakeCall:
        worker.shards.append(shard)
        return FakeCall(lambda: self.process(worker, shard), worker)

    def probe_nodes(self, frame_paths: Shard) -> dict[Any, str]:
        self.probed.add(frame_paths)
        return {FakeCall(work): node for node, work in self.nodes.items()}

    def wait(self, calls: Sequence[FakeCall], timeout: float) -> list[FakeCall]:
        busy: set[FakeWorker] = set()
        answered = []
        for call in calls:
            if call.worker is None or call.worker not in busy:
                if self._try(call):
                    answered.append(call)
                if call.worker and not call.worker.loss:
                    busy.add(call.worker)
        self.clock.sleep(min(timeout, self.duration))
        return answered

    def _try(self, call: FakeCall) -> bool:
        assert call.worker is None or not call.worker.is_stopped, "the pool waits for a worker that it has stopped"
        try:
            call.answer = (call.worker and call.worker.loss) or call.work()
        except Hangs:
            return False
        except WorkerLostError as error:
            call.answer = error
            if call.worker:
                call.worker.loss = error
        except Exception as error:
            call.answer = error
        return True

    def fetch(self, call: FakeCall) -> Any:
        if isinstance(call.answer, Exception):
            raise call.answer
        return call.answer


def make_pool(
    cluster: FakeCluster, shards: FixedShards | None = None, limits: Limits | None = None, **settings: Any
) -> Pool:
    is_cluster: Cluster = cluster
    return Pool(
        is_cluster,
        FixedShards(SHARDS) if shards is None else shards,
        RunConfig(**settings),
        limits or Limits(),
        cluster.clock,
        cluster.clock.sleep,
    )


def collect(pool: Pool) -> dict[Shard, Any]:
    """Run a pool; each shard must have exactly one result, a table of its own frames or a loss."""
    results = list(pool.run())
    assert max(Counter(shard for shard, _ in results).values()) == 1
    for shard, result in results:
        assert isinstance(result, LostShard) or tuple(result["frame_path"].to_pylist()) == shard
    return dict(results)


def list_lost(results: dict[Shard, Any]) -> dict[Shard, LostShard]:
    return {shard: result for shard, result in results.items() if isinstance(result, LostShard)}


def process_or_raise(fault: Exception, *struck: Shard, times: int = 10**9) -> Callable[[FakeWorker, Shard], pa.Table]:
    """Return a script for workers: processing one of the struck shards raises `fault`, `times` times in all."""
    left = itertools.count(times, -1)

    def process(worker: FakeWorker, shard: Shard) -> pa.Table:
        if shard in struck and next(left) > 0:
            raise fault
        return pa.table({"frame_path": list(shard)})

    return process


@pytest.fixture
def nothing_runs() -> Iterator[Callable[[FakeCluster], None]]:
    """Check at the end that a cluster has no worker left."""
    clusters: list[FakeCluster] = []
    yield clusters.append
    assert clusters
    for cluster in clusters:
        assert cluster.workers
        assert cluster.alive == []


# -- without faults


@pytest.mark.parametrize(
    ("room", "workers", "expected"), [(3, None, 3), (3, 2, 2), (2, 5, 5), (0, None, 1), (99, 9, 8)]
)
def test_there_are_as_many_workers_as_asked_for_or_as_fit_or_as_have_work(
    room: int, workers: int | None, expected: int, nothing_runs: Callable[[FakeCluster], None]
) -> None:
    cluster = FakeCluster(room)
    nothing_runs(cluster)
    assert set(collect(make_pool(cluster, workers=workers))) == set(SHARDS)
    assert cluster.most_alive == expected


def test_the_queue_is_told_how_many_workers_share_it() -> None:
    shared = []

    class Shards(FixedShards):
        def share_among(self, workers: int) -> None:
            shared.append(workers)

    make_pool(FakeCluster(3), Shards())
    make_pool(FakeCluster(3), Shards(), workers=7)
    make_pool(FakeCluster(0), Shards())
    assert shared == [3, 7, 1]


def test_each_worker_has_at_most_two_shards() -> None:
    held: Counter[int] = Counter()
    most: Counter[int] = Counter()

    def process(worker: FakeWorker, shard: Shard) -> pa.Table:
        held[worker.number] = len(worker.shards) - len(done[worker.number])
        most[worker.number] = max(most[worker.number], held[worker.number])
        done[worker.number].append(shard)
        return pa.table({"frame_path": list(shard)})

    done: dict[int, list[Shard]] = {0: [], 1: []}
    collect(make_pool(FakeCluster(2, process), FixedShards((f"{number}.jpg",) for number in range(20))))
    assert most == {0: 2, 1: 2}
    assert [len(shards) for shards in done.values()] == [10, 10]


def test_the_last_shard_goes_to_the_worker_that_is_free_first() -> None:
    cluster = FakeCluster(2, process_or_raise(Hangs(), SHARDS[0], times=10))
    collect(make_pool(cluster, FixedShards(SHARDS[:3])))
    assert [worker.shards for worker in cluster.workers] == [[SHARDS[0]], [SHARDS[1], SHARDS[2]]]


def test_shards_added_between_results_are_done_and_idle_workers_are_stopped() -> None:
    cluster = FakeCluster(2)
    shards = FixedShards(SHARDS[:2])
    results = make_pool(cluster, shards).run()
    seen = [next(results)[0], next(results)[0]]
    shards.extend([("late.jpg",)])
    seen += [shard for shard, _ in results]
    assert sorted(seen) == sorted([*SHARDS[:2], ("late.jpg",)])
    assert cluster.alive == []


def test_idle_workers_are_stopped_while_others_work() -> None:
    alive = []

    def process(worker: FakeWorker, shard: Shard) -> pa.Table:
        alive.append(len(cluster.alive))
        if shard == SHARDS[0] and len(alive) < 6:
            raise Hangs
        return pa.table({"frame_path": list(shard)})

    cluster = FakeCluster(2, process)
    collect(make_pool(cluster, FixedShards(SHARDS[:2])))
    assert alive[0] == 2
    assert alive[-1] == 1


def test_an_abandoned_run_stops_its_workers(nothing_runs: Callable[[FakeCluster], None]) -> None:
    cluster = FakeCluster(2)
    nothing_runs(cluster)
    results = make_pool(cluster).run()
    next(results)
    assert cluster.alive
    results.close()  # type: ignore[attr-defined]


def test_the_pool_grows_with_the_cluster() -> None:
    def process(worker: FakeWorker, shard: Shard) -> pa.Table:
        if shard == SHARDS[2]:
            cluster.room = 3
        return pa.table({"frame_path": list(shard)})

    cluster = FakeCluster(1, process, duration=6.0)
    collect(make_pool(cluster, limits=Limits(growth=5.0)))
    assert cluster.most_alive == 3

    cluster = FakeCluster(1, process, duration=6.0)
    collect(make_pool(cluster, limits=Limits(growth=1e6)))
    assert cluster.most_alive == 1


# -- lost and late workers


def test_the_shards_of_a_lost_worker_are_done_by_others(nothing_runs: Callable[[FakeCluster], None]) -> None:
    cluster = FakeCluster(2, process_or_raise(WorkerLostError("killed"), SHARDS[1], times=2))
    nothing_runs(cluster)
    results = collect(make_pool(cluster))
    assert set(results) == set(SHARDS)
    assert not list_lost(results)
    assert len(cluster.workers) == 4
    assert sum(SHARDS[1] in worker.shards for worker in cluster.workers) == 3


def test_a_shard_that_keeps_losing_its_worker_is_given_up(nothing_runs: Callable[[FakeCluster], None]) -> None:
    cluster = FakeCluster(2, process_or_raise(WorkerLostError("killed"), SHARDS[1]))
    nothing_runs(cluster)
    results = collect(make_pool(cluster))
    assert set(results) == set(SHARDS)
    assert list_lost(results) == {SHARDS[1]: LostShard("its worker on Fake was lost 3 times", None)}
    assert sum(SHARDS[1] in worker.shards for worker in cluster.workers) == 3


def test_only_the_shard_in_progress_counts_as_lost() -> None:
    """The second shard of a worker that dies three times with the first one is not given up."""
    cluster = FakeCluster(1, process_or_raise(WorkerLostError("killed"), SHARDS[0]))
    results = collect(make_pool(cluster, FixedShards(SHARDS[:3])))
    assert set(list_lost(results)) == {SHARDS[0]}
    assert sum(SHARDS[1] in worker.shards for worker in cluster.workers) > 2


def test_a_shard_that_is_given_up_may_be_tried_again() -> None:
    cluster = FakeCluster(1, process_or_raise(WorkerLostError("killed"), SHARDS[0], times=5))
    shards = FixedShards(SHARDS[:1])
    seen = []
    for shard, result in make_pool(cluster, shards).run():
        seen.append(type(result))
        if isinstance(result, LostShard):
            shards.append(shard)
    assert seen == [LostShard, pa.Table]


def test_the_losses_of_a_finished_shard_are_forgotten() -> None:
    attempts = itertools.count(1)

    def process(worker: FakeWorker, shard: Shard) -> Any:
        if next(attempts) % 3:
            raise WorkerLostError("killed")
        return LostShard("a frame killed its process", 0)

    shards = FixedShards(SHARDS[:1])
    reasons = []
    for shard, result in make_pool(FakeCluster(1, process), shards).run():
        reasons.append(result.reason)
        if len(reasons) < 3:
            shards.append(shard)
    assert reasons == ["a frame killed its process"] * 3


def test_a_worker_that_does_not_answer_in_time_is_replaced(nothing_runs: Callable[[FakeCluster], None]) -> None:
    cluster = FakeCluster(1, process_or_raise(Hangs(), SHARDS[0], times=130))  # more than one deadline of turns
    nothing_runs(cluster)
    before = cluster.clock.now
    pool = make_pool(cluster, FixedShards(SHARDS[:1]), Limits(start=100.0), frame_timeout=10.0)
    assert not list_lost(collect(pool))
    assert len(cluster.workers) == 2
    assert 120 < cluster.clock.now - before < 150  # start + (frames + 1) * frame_timeout, and some turns


def test_a_worker_that_never_answers_is_replaced_when_its_first_shard_is_late() -> None:
    cluster = FakeCluster(1, process_or_raise(Hangs(), SHARDS[0]))
    before = cluster.clock.now
    results = collect(make_pool(cluster, FixedShards(SHARDS[:3]), Limits(start=100.0), frame_timeout=10.0))
    assert set(list_lost(results)) == {SHARDS[0]}
    assert 3 * 120 < cluster.clock.now - before < 3 * 120 + 40


def test_the_second_shard_of_a_worker_has_its_time_after_the_first() -> None:
    started: dict[Shard, float] = {}

    def process(worker: FakeWorker, shard: Shard) -> pa.Table:
        started.setdefault(shard, cluster.clock.now)
        if cluster.clock.now < started[shard] + 100:  # each takes less than its limit, both together more
            raise Hangs
        return pa.table({"frame_path": list(shard)})

    cluster = FakeCluster(1, process)
    collect(make_pool(cluster, FixedShards(SHARDS[:3]), Limits(start=100.0), frame_timeout=10.0))
    assert len(cluster.workers) == 1


# -- failed starts


def fail_starts(fault: Exception, *numbers: int) -> Callable[[FakeWorker], NodeReport]:
    def report(worker: FakeWorker) -> NodeReport:
        if worker.number in numbers:
            raise fault
        return HERE

    return report


@pytest.mark.parametrize("fault", [WorkerLostError("no memory"), EngineError("no memory")])
def test_a_failed_start_is_repeated_after_a_rest(fault: Exception, nothing_runs: Callable[[FakeCluster], None]) -> None:
    cluster = FakeCluster(1, report=fail_starts(fault, 0, 1))
    nothing_runs(cluster)
    before = cluster.clock.now
    assert set(collect(make_pool(cluster, limits=Limits(rest=500.0), start_timeout=1e4))) == set(SHARDS)
    assert len(cluster.workers) == 3
    assert 1000 <= cluster.clock.now - before < 1050


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (WorkerLostError("no memory"), "the worker was lost: no memory"),
        (EngineError("no memory"), "no memory"),
    ],
)
@pytest.mark.parametrize("room", [1, 3])
def test_workers_that_never_start_are_an_error(
    room: int, fault: Exception, reason: str, nothing_runs: Callable[[FakeCluster], None]
) -> None:
    cluster = FakeCluster(room, report=fail_starts(fault, *range(100)))
    nothing_runs(cluster)
    with pytest.raises(EngineError, match=f"^workers cannot start on Fake: {reason}$"):
        collect(make_pool(cluster, limits=Limits(failed_starts=4)))
    assert len(cluster.workers) in range(4 * room, 5 * room)


def test_only_consecutive_failed_starts_count() -> None:
    """Every other start fails, and every worker is lost after one shard."""
    process = process_or_raise(WorkerLostError("killed"), *SHARDS, times=6)
    cluster = FakeCluster(1, process, fail_starts(WorkerLostError("busy"), *range(0, 100, 2)))
    limits = Limits(failed_starts=2, lost_workers=100)
    with pytest.raises(EngineError):  # no shard is finished between two failed starts
        collect(make_pool(cluster, limits=limits))

    def process_once(worker: FakeWorker, shard: Shard) -> pa.Table:
        if worker.shards[0] != shard:
            raise WorkerLostError("killed")
        return pa.table({"frame_path": list(shard)})

    cluster = FakeCluster(1, process_once, fail_starts(WorkerLostError("busy"), *range(0, 100, 2)))
    assert set(collect(make_pool(cluster, limits=limits))) == set(SHARDS)


def test_a_node_that_cannot_start_processes_any_more_is_not_the_shards_fault() -> None:
    """A ready worker whose process cannot be replaced: its shard is not given up, however often."""
    cluster = FakeCluster(1, process_or_raise(EngineError("disk full"), SHARDS[0], times=5))
    assert not list_lost(collect(make_pool(cluster, limits=Limits(failed_starts=6))))
    cluster = FakeCluster(1, process_or_raise(EngineError("disk full"), SHARDS[0]))
    with pytest.raises(EngineError, match=r"^workers cannot start on Fake: disk full$"):
        collect(make_pool(cluster, FixedShards(SHARDS[:1])))


def test_a_cluster_without_a_worker_is_an_error_after_start_timeout(
    nothing_runs: Callable[[FakeCluster], None],
) -> None:
    def hang(worker: FakeWorker) -> NodeReport:
        raise Hangs

    cluster = FakeCluster(0, report=hang)
    nothing_runs(cluster)
    before = cluster.clock.now
    with pytest.raises(EngineError) as refusal:
        collect(make_pool(cluster, start_timeout=50.0, worker_gpus=2.0))
    assert str(refusal.value) == (
        "Fake started no worker within 50 s (run.start_timeout): each needs worker_cpus: 1, worker_gpus: 2; the "
        "cluster has 0 cores. Saved results are kept"
    )
    assert 50 < cluster.clock.now - before < 55


def hang_until(cluster: FakeCluster, moment: float) -> None:
    if cluster.clock.now < moment:
        raise Hangs


def test_start_timeout_counts_only_while_no_worker_is_ready() -> None:
    """Neither the check of the nodes nor a long shard counts: after each, workers have their time again."""

    def report(worker: FakeWorker) -> NodeReport:
        ready_at.setdefault(worker.number, cluster.clock.now + 30)
        hang_until(cluster, ready_at[worker.number])
        return HERE

    def process(worker: FakeWorker, shard: Shard) -> pa.Table:
        done_at.setdefault(worker.number, cluster.clock.now + 100)
        hang_until(cluster, done_at[worker.number])
        if worker.number == 0:
            raise WorkerLostError("killed")
        return pa.table({"frame_path": list(shard)})

    def report_slowly(_: Shard) -> NodeReport:
        cluster.clock.sleep(400)
        return HERE

    ready_at: dict[int, float] = {}
    done_at: dict[int, float] = {}
    cluster = FakeCluster(1, process, report)
    pool = make_pool(cluster, FixedShards(SHARDS[:1]), start_timeout=50.0)
    pool.check_nodes(report_slowly)
    assert not list_lost(collect(pool))
    assert len(cluster.workers) == 2


# -- nodes


def report_here(_: Shard) -> NodeReport:
    return HERE


def raise_error(error: Exception) -> Callable[[], NodeReport]:
    def probe() -> NodeReport:
        raise error

    return probe


FAULTS = {
    "old": (lambda: NodeReport("0.9", HERE.detectors, HERE.readable), "it has detectime 0.9, this machine has 1.0"),
    "other weights": (
        lambda: NodeReport("1.0", {"hands": {"revision": 2}}, HERE.readable),
        "its detectors differ: it has {'hands': {'revision': 2}}, this machine has {'hands': {'revision': 1}}",
    ),
    "blind": (lambda: NodeReport("1.0", HERE.detectors, ()), "it does not see the frames (for example 'a.jpg')"),
    "lacking": (
        raise_error(EngineError("No module named 'x'")),
        "No module named 'x'; detectime and what its detectors need must be installed on every node",
    ),
    "crashing": (raise_error(WorkerLostError("killed")), "killed; detectime and what its detectors need"),
    "silent": (raise_error(Hangs()), "no answer within 180 s"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_node_with_a_fault_is_named(name: str) -> None:
    probe, reason = FAULTS[name]
    cluster = FakeCluster(nodes={"good": report_here_too, name: probe, "gone": raise_error(NodeLostError("gone"))})
    with pytest.raises(EngineError) as refusal:
        make_pool(cluster).check_nodes(report_here)
    heading, *lines = str(refusal.value).splitlines()
    assert heading == "these nodes of the Fake cluster cannot work for this run:"
    assert len(lines) == 1
    assert lines[0].startswith(f"  {name}: {reason}")
    assert cluster.workers == []


def report_here_too() -> NodeReport:
    return HERE


def test_all_faulty_nodes_are_listed() -> None:
    cluster = FakeCluster(nodes={name: probe for name, (probe, _) in FAULTS.items()})
    with pytest.raises(EngineError) as refusal:
        make_pool(cluster).check_nodes(report_here)
    assert [line.split(":")[0].strip() for line in str(refusal.value).splitlines()[1:]] == list(FAULTS)


def test_good_nodes_lose_no_shard_to_the_check() -> None:
    cluster = FakeCluster(nodes={"good": report_here_too})
    shards = FixedShards([tuple(f"{number}.jpg" for number in range(7)), *SHARDS])
    expected = set(shards)
    pool = make_pool(cluster, shards)
    pool.check_nodes(report_here)
    assert set(collect(pool)) == expected
    assert cluster.probed == {tuple(f"{number}.jpg" for number in range(5))}


def test_nodes_may_answer_one_after_the_other() -> None:
    def answer_after(seconds: float) -> Callable[[], NodeReport]:
        def probe() -> NodeReport:
            hang_until(cluster, 1000 + seconds)
            return HERE

        return probe

    cluster = FakeCluster(nodes={"quick": report_here_too, "slow": answer_after(30), "slower": answer_after(60)})
    make_pool(cluster).check_nodes(report_here)
    with pytest.raises(EngineError, match="slower: no answer within 50 s"):
        make_pool(FakeCluster(nodes={"slower": raise_error(Hangs())}), limits=Limits(probe=50.0)).check_nodes(
            report_here
        )


def test_frames_that_this_machine_cannot_read_either_are_not_the_nodes_fault() -> None:
    unreadable = NodeReport("1.0", HERE.detectors, ())
    cluster = FakeCluster(nodes={"good": lambda: unreadable})
    make_pool(cluster).check_nodes(lambda _: unreadable)


def test_a_node_that_joins_later_is_checked_too() -> None:
    def report(worker: FakeWorker) -> NodeReport:
        return FAULTS["old"][0]() if worker.number == 1 else HERE

    cluster = FakeCluster(2, report=report, nodes={"good": report_here_too})
    pool = make_pool(cluster)
    pool.check_nodes(report_here)
    assert set(collect(pool)) == set(SHARDS)
    assert cluster.workers[1].shards == []

    cluster = FakeCluster(1, report=lambda _: FAULTS["old"][0]())
    pool = make_pool(cluster)
    pool.check_nodes(report_here)
    with pytest.raises(EngineError, match=r"^workers cannot start on Fake: it has detectime 0\.9"):
        collect(pool)


# -- what runs on a node


NAMES = name_frames(3, die=[1])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_frames(folder, NAMES)
    return folder


@pytest.mark.slow
def test_a_pool_of_real_workers_survives_a_frame_that_kills_its_process(images: Path) -> None:
    """The simulated cluster runs a real `RemoteWorker` for each of its workers."""
    chosen, source = choose_detectors(make_config().detection), FaultyFolder(str(images))
    settings, limits = make_config().run, Limits()
    remote: dict[FakeWorker, RemoteWorker] = {}

    def report(worker: FakeWorker) -> NodeReport:
        remote[worker] = RemoteWorker(chosen, source, settings, limits)
        return remote[worker].report((NAMES[0],))

    cluster = FakeCluster(1, lambda worker, shard: remote[worker].run(shard), report)
    pool = make_pool(cluster, FixedShards((name,) for name in NAMES))
    pool.check_nodes(lambda frame_paths: probe_node(chosen, source, settings, limits, frame_paths))
    results = collect(pool)
    assert list_lost(results) == {(NAMES[1],): LostShard("the worker was killed by SIGKILL", 0)}
    assert [results[name,]["outcome"].to_pylist() for name in (NAMES[0], NAMES[2])] == [["ok"], ["ok"]]
    assert len(cluster.workers) == 1


@pytest.mark.slow
def test_a_probe_reports_version_fingerprints_and_readable_frames(images: Path) -> None:
    chosen = choose_detectors(make_config().detection)
    frame_paths = (NAMES[0], "video/missing.jpg", NAMES[1])  # a frame that ends its process can be read
    report = probe_node(chosen, FaultyFolder(str(images)), make_config().run, Limits(), frame_paths)
    assert report == NodeReport(detectime.__version__, chosen.fingerprints(), (NAMES[0], NAMES[1]))


@pytest.mark.slow
def test_a_remote_worker_repeats_why_its_process_cannot_start(images: Path) -> None:
    worker = RemoteWorker(
        choose_detectors(make_config().detection), FolderSource(str(images)), make_config().run, Limits(start=0.0)
    )
    for _ in range(2):
        with pytest.raises(EngineError, match="workers cannot start: did not load its models within 0 s"):
            worker.run((NAMES[0],))
