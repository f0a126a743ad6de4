"""The Ray engine on real clusters on this machine, whose nodes, actors, workers and drivers are killed."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faults
import pyarrow as pa
import pytest
from buckets import find_free_port
from faults import FaultyFolder, make_config, make_frames, name_frames, start_driver, tabulate_frames, wait_until
from skips import need_extra

from detectime.detection import run
from detectime.detection.engines import ray as engine
from detectime.detection.engines.contract import EngineError, Limits
from detectime.sources.contract import Source
from detectime.sources.folder import FolderSource

ray = need_extra("ray")

pytestmark = [pytest.mark.extra, pytest.mark.slow]

COUNT = 60
NAMES = name_frames(COUNT)
LIMIT = 90.0  # seconds for what a cluster does


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A head without cores and a node with one; nodes can import the modules of this folder."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(faults.HERE))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "include_dashboard": False, "ray_client_server_port": find_free_port()}
        one = Cluster(initialize_head=True, head_node_args=head)
        one.client_address = f"ray://127.0.0.1:{head['ray_client_server_port']}"
        one.add_node(num_cpus=1)
        yield one
        one.shutdown()


@pytest.fixture
def cluster(two_nodes: Any) -> Any:
    """Wait until the cluster has noticed which nodes an earlier test killed: else Ray may use them."""
    wait_until(lambda: count_alive_nodes(two_nodes) == 2, LIMIT)
    return two_nodes


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames without a fault."""
    folder = tmp_path_factory.mktemp("images")
    make_frames(folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The detections of an undisturbed run of the local engine."""
    output = tmp_path_factory.mktemp("uninterrupted")
    run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), make_config(workers=2), str(output))
    return (output / "detections.parquet").read_bytes()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Folder in which each worker records its process id."""
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


def detect(output: Path, source: Source, limits: Limits | None = None, **parameters: Any) -> pa.Table:
    """Run over all frames; on Ray with other limits if they are given."""
    config = make_config(**{"save_per_num_images": 5, **parameters})
    with_limits = functools.partial(engine.run_shards, limits=limits) if limits else None
    found = run.detect_frames(tabulate_frames(NAMES), source, config, str(output), with_limits)
    assert found["frame_path"].to_pylist() == NAMES
    return found


@contextlib.contextmanager
def meanwhile(what: Callable[[], None]) -> Iterator[None]:
    """Run `what` in a thread while the block lasts; check that it succeeds."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            what()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()
    assert not failed, failed


def list_cluster_workers(journal: Path) -> list[int]:
    """Worker processes whose parent is an actor; a probe's process is a child of this one or of a task."""
    return [
        process for process in faults.list_workers(journal) if "ray::RemoteWorker" in read_command(find_parent(process))
    ]


def read_command(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def find_parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


# -- the same bytes, whatever is lost on the way


_ON_OWN_RAY = """
import sys
sys.path.insert(0, {here!r})
import faults
from detectime.detection import run
from detectime.detection.engines import EngineError
from detectime.sources.folder import FolderSource
for name, parameters in {runs!r}.items():
    try:
        table = faults.tabulate_frames(faults.name_frames({count}))
        config = faults.make_config(engine="ray", workers=2, **parameters)
        run.detect_frames(table, FolderSource({images!r}), config, name)
    except EngineError as error:
        print(error)
"""


def test_a_run_on_its_own_ray_gives_the_same_bytes_as_the_local_engine(
    cluster: Any, images: Path, tmp_path: Path, uninterrupted: bytes
) -> None:
    jobs = count_jobs(cluster)
    runs = {
        f"{tmp_path}/first": {"save_per_num_images": 5},
        f"{tmp_path}/second": {},  # in the same process once more
        f"{tmp_path}/third": {"worker_gpus": 2.0},
        f"{tmp_path}/fourth": {"ray_address": cluster.address},
    }
    done = subprocess.run(
        [sys.executable, "-c", _ON_OWN_RAY.format(here=str(faults.HERE), runs=runs, count=COUNT, images=str(images))],
        env={
            **faults.copy_bare_environment(),
            "RAY_ADDRESS": cluster.address,
        },  # a cluster that must not be joined without being asked for
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    for name in ("first", "second"):
        assert faults.list_stored_files(tmp_path / name) == faults.FINISHED
        assert (tmp_path / name / "detections.parquet").read_bytes() == uninterrupted
    assert re.search(r"no room for a worker: worker_cpus: 1, worker_gpus: 2; it has \d+ CPUs and 0 GPUs", done.stdout)
    assert "restart the kernel" in done.stdout
    assert count_jobs(cluster) == jobs + 1  # the one that counts
    assert "ray" not in done.stderr.lower()


def count_jobs(cluster: Any) -> int:
    """Return how many drivers a cluster has had."""
    code = (
        f"import ray; ray.init({cluster.address!r}, log_to_driver=False, logging_level='ERROR')\n"
        "print(ray.get_runtime_context().get_job_id())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return int.from_bytes(bytes.fromhex(said), "little")


def test_a_run_through_the_client_address(
    cluster: Any, images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    for attempt in range(3):
        output = tmp_path / f"run{attempt}"
        with start_driver(images, output, COUNT, journal, ray_address=cluster.client_address) as process:
            said, _ = process.communicate(timeout=LIMIT)
        if "ZombieProcess" not in said:  # Ray forks a server per client beside threads of gRPC: some die at once
            break
    assert said.splitlines()[-1] == f"rows {COUNT}"
    assert (output / "detections.parquet").read_bytes() == uninterrupted


def test_a_node_that_is_killed_loses_nothing(
    cluster: Any, images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    node = cluster.add_node(num_cpus=1)
    output = tmp_path / "run"

    def kill() -> None:
        wait_until(lambda: faults.count_saved_rows(output) and len(list_cluster_workers(journal)) == 2, LIMIT)
        cluster.remove_node(node, allow_graceful=False)
        assert faults.count_saved_rows(output) < COUNT

    with meanwhile(kill):
        detect(output, FaultyFolder(str(images), journal=str(journal), pause=0.3), ray_address=cluster.address)
    assert (output / "detections.parquet").read_bytes() == uninterrupted


def test_a_node_that_joins_later_is_used(cluster: Any, images: Path, tmp_path: Path, journal: Path) -> None:
    nodes: list[subprocess.Popen[bytes]] = []

    def add() -> None:
        wait_until(lambda: faults.count_saved_rows(tmp_path / "run"), LIMIT)
        nodes.append(start_node(cluster))
        wait_until(lambda: len(list_cluster_workers(journal)) == 2, LIMIT)

    try:
        with meanwhile(add):
            source = FaultyFolder(str(images), journal=str(journal), pause=1.0)
            detect(tmp_path / "run", source, Limits(growth=1.0), ray_address=cluster.address)
    finally:
        for node in nodes:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()


@pytest.mark.parametrize("who", ["worker", "actor"])
def test_workers_and_actors_that_are_killed_lose_nothing(
    who: str, cluster: Any, images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    output = tmp_path / "run"
    killed: set[int] = set()

    def kill() -> None:
        for _ in range(2):
            saved = faults.count_saved_rows(output)
            fresh = wait_until(
                lambda: faults.count_saved_rows(output) > saved and set(list_cluster_workers(journal)) - killed,  # noqa: B023
                LIMIT,
            )
            killed.update(fresh)
            for process in fresh:
                os.kill(process if who == "worker" else find_parent(process), signal.SIGKILL)

    with meanwhile(kill):
        detect(output, FaultyFolder(str(images), journal=str(journal), pause=0.2), ray_address=cluster.address)
    assert len(killed) == 2
    assert (output / "detections.parquet").read_bytes() == uninterrupted
    wait_until(lambda: not list_cluster_workers(journal), 10)


def test_a_frame_that_kills_or_hangs_its_worker_is_failed(cluster: Any, tmp_path: Path) -> None:
    frame_paths = make_frames(tmp_path / "images", name_frames(12, die=[3], sleep=[7]))
    source = FaultyFolder(str(tmp_path / "images"))
    found = []
    for parameters in ({"engine": "local", "workers": 1}, {"ray_address": cluster.address}):
        config = make_config(save_per_num_images=6, frame_timeout=1.5, **parameters)
        output = tmp_path / str(parameters.get("engine"))
        found.append(run.detect_frames(tabulate_frames(frame_paths), source, config, str(output)))
    assert found[0].equals(found[1])
    assert [k for k, outcome in enumerate(found[0]["outcome"].to_pylist()) if outcome == "failed"] == [3, 7]


@pytest.mark.parametrize("own", [True, False])
def test_a_killed_driver_leaves_no_worker_and_its_run_can_be_resumed(
    own: bool, cluster: Any, images: Path, tmp_path: Path, journal: Path, uninterrupted: bytes
) -> None:
    output = tmp_path / "run"
    parameters = {"engine": "ray", "ray_address": None if own else cluster.address, "workers": 1}
    with start_driver(images, output, COUNT, journal, pause=0.2, save_per_num_images=5, **parameters) as process:
        wait_until(lambda: faults.count_saved_rows(output) >= 10 or process.poll() is not None, LIMIT)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not faults.list_workers(journal), 30)
    assert 10 <= faults.count_saved_rows(output) < COUNT
    detect(output, FolderSource(str(images)), ray_address=cluster.address)
    assert (output / "detections.parquet").read_bytes() == uninterrupted


def test_the_notebook_on_ray_by_papermill(images: Path, tmp_path: Path) -> None:
    written = []
    for name in ("local", "ray"):
        output = tmp_path / name
        command = [sys.executable, "-m", "papermill", "notebooks/01_get_train_data.ipynb", str(output / "report.ipynb")]
        for key, value in {
            "images": "data/sample/TRAIN_DATA",
            "labels": "data/sample/train.csv",
            "output": str(output),
            "limit": "30",
            "engine": name,
        }.items():
            command += ["-p", key, value]
        output.mkdir()
        done = subprocess.run(command, cwd=faults.ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        written.append((output / "hands.json").read_bytes())
    assert written[0] == written[1]
    assert len(json.loads(written[0])) > 20


# -- what cannot work is refused before frames are read


@pytest.fixture
def refused(images: Path, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs, checks that the run is refused before any frame is saved, and returns the error."""

    def ask(source: Source | None = None, **parameters: Any) -> str:
        with pytest.raises(EngineError) as refusal:
            detect(tmp_path / "run", source or FolderSource(str(images)), **parameters)
        assert faults.count_saved_rows(tmp_path / "run") == 0
        assert not ray.is_initialized()
        return str(refusal.value)

    return ask


class Website(http.server.BaseHTTPRequestHandler):
    """A server that is not Ray."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("where", ["closed port", "website", "ray:// closed port"])
def test_an_address_without_a_cluster(where: str, refused: Callable[..., str]) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Website) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = {
            "closed port": "127.0.0.1:9",
            "website": f"127.0.0.1:{server.server_port}",
            "ray:// closed port": "ray://127.0.0.1:9",
        }[where]
        before = time.monotonic()
        error = refused(limits=Limits(answer=15.0), ray_address=address)
        assert f"Ray at {address!r} (run.ray_address) cannot be used" in error
        assert time.monotonic() - before < 60
        server.shutdown()


def test_a_node_that_does_not_see_the_frames(
    cluster: Any, images: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    hidden = tmp_path / "images"
    hidden.mkdir()
    make_frames(hidden, NAMES)
    with add_node(cluster, f"mount -t tmpfs tmpfs '{hidden}'"):
        error = refused(FolderSource(str(hidden)), ray_address=cluster.address)
    assert "does not see the frames" in error
    assert len(error.splitlines()) == 2  # a heading and this node: the other one sees them


def test_a_node_without_what_a_detector_needs(cluster: Any, tmp_path: Path, refused: Callable[..., str]) -> None:
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "onnxruntime.py").write_text("raise ModuleNotFoundError(\"No module named 'onnxruntime'\")")
    with add_node(cluster, f"export PYTHONPATH='{lacking}'"):
        error = refused(ray_address=cluster.address)
    assert "No module named 'onnxruntime'" in error
    assert "must be installed on every node" in error


def start_node(cluster: Any, before: str = "true") -> subprocess.Popen[bytes]:
    """Start a node with Ray's command line, in its own mount namespace, after a command."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a mount namespace cannot be created")
    start = f"'{Path(sys.executable).with_name('ray')}' start --address={cluster.address} --num-cpus=1 --block"
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{before} && exec {start}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextlib.contextmanager
def add_node(cluster: Any, before: str) -> Iterator[None]:
    """Add a node while the block lasts."""
    node = start_node(cluster, before)
    try:
        wait_until(lambda: count_alive_nodes(cluster) == 3, LIMIT)
        yield
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def count_alive_nodes(cluster: Any) -> int:
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    alive = sum(node["Alive"] for node in ray.nodes())
    ray.shutdown()
    return int(alive)


def test_a_worker_that_fits_on_no_node(cluster: Any, refused: Callable[..., str]) -> None:
    error = refused(ray_address=cluster.address, worker_gpus=2.0, start_timeout=3.0)
    assert "worker_gpus: 2" in error
    assert "and 0 GPUs" in error


def test_without_ray_the_extra_is_named(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "-e '.[ray]'" in refused(engine="ray")
