"""Frames, labels and results in a bucket, by a real S3 server on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
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

import buckets
import faults
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import LABELS, encode, pattern
from faults import make_frames, names, settings, table_of
from test_sources import names_of

from detectime import config as configuration
from detectime import outcomes, runs, sources
from detectime.detection import run
from detectime.detection.manifest import RunError
from detectime.images import EncodedImage, UnreadableImageError, describe_content
from detectime.labels import frame_table
from detectime.sources import bucket as bucket_source
from detectime.sources.bucket import BucketSource
from detectime.sources.contract import MissingFrameError, SourceError, UnreachableFrameError
from detectime.sources.folder import FolderSource
from detectime.storage import bucket as bucket_store
from detectime.storage import store
from detectime.storage.bucket import BucketStore
from detectime.storage.store import StoreError

pytest.importorskip("moto", reason="the extra `buckets` is not installed")
s3fs = pytest.importorskip("s3fs", reason="the extra `s3` is not installed")

pytestmark = pytest.mark.extra

COUNT = 40
NAMES = names(COUNT)


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    """Serve buckets to this module."""
    with buckets.serving() as (address, _), pytest.MonkeyPatch.context() as patch:
        for name, value in buckets.environment(address).items():
            patch.setenv(name, value)
        yield address


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Forget connections to a server that a test has left."""
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket() -> str:
    return buckets.bucket()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a lock be abandoned within two seconds."""
    monkeypatch.setattr(bucket_store, "_BEAT", 0.4)
    monkeypatch.setattr(bucket_store, "_ABANDONED", 2.0)
    monkeypatch.setattr(bucket_store, "_PATIENCE", 1.0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_frames(folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def straight(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run from a folder into a folder leaves."""
    output = tmp_path_factory.mktemp("straight")
    run.detect_frames(table_of(NAMES), FolderSource(str(images)), settings(workers=1), str(output))
    return (output / "detections.parquet").read_bytes()


def leave(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Go to another server; what is connected to this one stays with who has it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3fs.S3FileSystem.clear_instance_cache()


# -- the store


def test_what_is_put_is_there_whole_and_listed(bucket: str) -> None:
    place = store.open_store(f"{bucket}/run/")
    assert (place.get("a.json"), place.names("shards")) == (None, [])
    place.put("a.json", b"{}")
    for number in (3, 1, 2):
        with place.writing(f"shards/{number}") as file:
            file.write(b"%d" % number)
    assert place.get("a.json") == b"{}"
    assert place.names("shards") == ["shards/1", "shards/2", "shards/3"]
    assert list(place.contents(["shards/2", "shards/9", "a.json"])) == [
        ("shards/2", b"2"),
        ("shards/9", None),
        ("a.json", b"{}"),
    ]
    place.delete(["shards/1", "shards/9", "shards/3"])
    assert buckets.stored(f"{bucket}/run") == {"a.json": b"{}", "shards/2": b"2"}
    place.delete([])


def test_a_name_is_no_pattern() -> None:
    place = buckets.bucket()
    store.open_store(f"{place}/run1").put("shards/1", b"1")
    odd = store.open_store(f"{place}/run[12] *?")
    odd.put("shards/1", b"2")
    odd.delete(["shards/1"])
    assert buckets.stored(place) == {"run1/shards/1": b"1"}


def test_a_file_appears_only_when_all_of_it_was_written(bucket: str) -> None:
    place = store.open_store(bucket)
    place.put("hands.json", b"before")
    with contextlib.suppress(KeyError), place.writing("hands.json") as file:
        file.write(b"half")
        file.flush()
        raise KeyError
    assert buckets.stored(bucket) == {"hands.json": b"before"}


def test_a_shard_is_one_put(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = BucketStore(bucket)
    asked: list[str] = []
    call = place._files._call_s3

    async def listening(method: str, *arguments: Any, **options: Any) -> Any:
        asked.append(method if isinstance(method, str) else method.__name__)
        return await call(method, *arguments, **options)

    monkeypatch.setattr(place._files, "_call_s3", listening)
    with place.writing("shards/1") as file:
        file.write(b"x" * 100_000)
    assert asked == ["put_object"]


def test_a_large_file_is_written_in_parts_and_read_back(bucket: str) -> None:
    place = store.open_store(bucket)
    block = os.urandom(2**20)
    with place.writing("large") as file:
        for _ in range(130):
            file.write(block)
    content = place.get("large")
    assert content is not None
    assert len(content) == 130 * 2**20
    assert content.endswith(block)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("put", ("a", b"")), ("get", ("a",)), ("names", ("shards",)), ("delete", (["a"],))],
)
def test_a_server_that_does_not_answer_is_told_within_a_minute(
    method: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, f"http://127.0.0.1:{buckets.free_port()}")
    place = BucketStore("s3://somewhere/run")
    before = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://somewhere/run/\w+: cannot be .*give another `output`"):
        getattr(place, method)(*arguments)
    assert time.monotonic() - before < 60


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that refuses everything."""

    status, code = 403, "AccessDenied"

    def refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"<Error><Code>{self.code}</Code><Message>{self.code}</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = refuse  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (503, "SlowDown")])
def test_a_server_that_refuses_is_told_before_frames_are_read(
    status: int, code: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusing, "status", status)
    monkeypatch.setattr(Refusing, "code", code)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        leave(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        before = time.monotonic()
        with pytest.raises(StoreError, match=r"s3://closed/run/.*permission"):
            run.detect_frames(table_of(NAMES), FolderSource(str(images)), settings(), "s3://closed/run")
        with pytest.raises(SourceError, match="s3://closed/images: the images cannot be listed"):
            names_of(BucketSource("s3://closed/images"))
        ((_, frame),) = BucketSource("s3://closed/images").open(["a.jpg"])
        assert isinstance(frame, UnreadableImageError)
        assert time.monotonic() - before < 60
        server.shutdown()


def test_a_bucket_that_is_not_there_is_refused_before_frames_are_read(images: Path) -> None:
    with pytest.raises(StoreError, match="s3://nobody-has-this/run"):
        run.detect_frames(table_of(NAMES), FolderSource(str(images)), settings(), "s3://nobody-has-this/run")


@pytest.mark.parametrize("scheme", ["gopher", "s4"])
def test_a_scheme_that_nobody_knows_is_named(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{scheme}://a/b"):
        store.open_store(f"{scheme}://a/b")
    with pytest.raises(SourceError, match=f"{scheme}://a/b"):
        sources.open_source(settings(images=f"{scheme}://a/b", output=str(tmp_path)))


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gs")])
def test_a_library_that_is_missing_is_named_with_its_extra(scheme: str, extra: str) -> None:
    code = (
        "import sys; sys.modules.update(s3fs=None, gcsfs=None)\n"
        "from detectime.storage import store\n"
        f"try:\n    store.open_store('{scheme}://a/b')\nexcept store.StoreError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"-e '.[{extra}]'" in said


# -- the lock


def test_a_second_run_is_refused_while_the_first_lives(bucket: str, fast: None) -> None:
    with store.open_store(bucket).lock():
        before = time.monotonic()
        refusal = f"another run is writing to this place \\(process {os.getpid()} on"
        with pytest.raises(StoreError, match=refusal), store.open_store(bucket).lock():
            pass
        assert 0.5 < time.monotonic() - before < 5
    with store.open_store(bucket).lock():  # at once
        pass
    before = time.monotonic()
    with store.open_store(bucket).lock():
        assert time.monotonic() - before < 0.5


def test_a_run_waits_for_one_that_ends(bucket: str, fast: None) -> None:
    first = store.open_store(bucket).lock()
    first.__enter__()
    ender = threading.Timer(0.6, first.__exit__, (None, None, None))
    ender.start()
    with store.open_store(bucket).lock():
        pass
    ender.join()


def test_a_lock_that_gives_no_sign_of_life_is_taken_over_and_the_other_notices(bucket: str, fast: None) -> None:
    first, second = BucketStore(bucket), BucketStore(bucket)
    with pytest.raises(StoreError, match="another run has taken this place over"), first.lock():  # noqa: PT012
        assert first._lease is not None
        first._lease._over.set()  # as if this process was suspended
        first._lease._keeper.join()
        _take_over(second)
        first.put("a", b"1")
    assert second.get("a") == b"2"
    with store.open_store(bucket).lock():
        pass


def _take_over(other: BucketStore) -> None:
    with other.lock():
        other.put("a", b"2")
        time.sleep(1.1)


_HOLDER = """
import time
from detectime.storage import bucket, store
bucket._BEAT, bucket._ABANDONED = 0.4, 2.0
place = store.open_store({place!r})
with place.lock():
    while True:
        place.put("a", b"1")
        print("written", flush=True)
        time.sleep(0.1)
"""


def test_a_holder_that_was_suspended_notices_it(bucket: str, fast: None) -> None:
    code = _HOLDER.format(place=bucket)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        with store.open_store(bucket).lock():
            holder.send_signal(signal.SIGCONT)
            said = holder.communicate(timeout=20)[0]
    assert "another run has taken this place over" in said.splitlines()[-1]


def test_of_many_that_take_an_abandoned_lock_one_has_it(bucket: str, fast: None) -> None:
    store.open_store(bucket).put(".lock/000000007", b'{"host": "gone", "process": 1, "beat": "1"}')
    holding, refused = [], []

    def take() -> None:
        try:
            with store.open_store(bucket).lock():
                holding.append(1)
                time.sleep(4)
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(holding), len(refused)) == (1, 4), refused


# -- the source


def test_every_object_gives_what_a_file_gives(bucket: str, tmp_path: Path) -> None:
    picture = encode(pattern(), "JPEG")
    files = {
        "a.jpg": picture,
        "v/b c+d#e?f&%20.jpg": picture,
        "v/😀.jpg": picture,
        "v/empty.jpg": b"",
        "v/cut.jpg": picture[: len(picture) // 2],
        "v/text.jpg": b"hello",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    buckets.upload(tmp_path, f"{bucket}/images")
    here, there = FolderSource(str(tmp_path)), BucketSource(f"{bucket}/images/")
    assert sorted(names_of(there)) == sorted(files)
    asked = [*files, "nowhere.jpg", "v", "a.jpg/below.jpg", "a.jpg"]
    for (name, ours), (again, theirs) in zip(here.open(asked), there.open(asked), strict=True):
        assert name == again
        if isinstance(ours, EncodedImage):
            assert isinstance(theirs, EncodedImage)
            if name != "v/cut.jpg":
                assert np.array_equal(ours.pixels(), theirs.pixels())
        elif name == "v":  # a bucket has no folders
            assert isinstance(theirs, MissingFrameError)
        else:
            assert type(ours) is type(theirs), name


def test_a_stamp_is_what_the_server_tells_of_the_object(bucket: str) -> None:
    place, source = store.open_store(bucket), BucketSource(bucket)
    place.put("v/a.jpg", b"hello")
    place.put("v/b.jpg", b"jello")
    before = dict(source.list_frames())
    assert before["v/a.jpg"] == f"5-{hashlib.md5(b'hello').hexdigest()}"
    place.put("v/a.jpg", b"hullo")
    after = dict(source.list_frames())
    assert (after["v/b.jpg"], source.notes()) == (before["v/b.jpg"], [])
    assert after["v/a.jpg"] not in (before["v/a.jpg"], None)
    assert list(source.read_contents(["v/b.jpg", "nowhere.jpg"])) == [
        ("v/b.jpg", describe_content(b"jello")),
        ("nowhere.jpg", None),
    ]


@pytest.mark.parametrize(
    ("entry", "stamp"),
    [
        ({"size": 5, "ETag": '"abc"'}, "5-abc"),
        ({"size": 5, "etag": "abc", "updated": "2026"}, "5-abc"),
        ({"size": 5, "LastModified": "2026-01-01"}, "5-2026-01-01"),
        ({"size": 0, "mtime": 0.0}, "0-0.0"),
        ({"size": None, "ETag": None, "created": "2026"}, "2026"),
        ({"size": None}, None),
        ({}, None),
    ],
)
def test_each_library_tells_of_versions_in_its_own_words(entry: dict[str, Any], stamp: str | None) -> None:
    assert bucket_source._stamp(entry) == stamp


def test_a_large_object_is_not_fetched_ahead_and_a_too_large_one_not_at_all(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectime.sources.bucket._FIRST", 1000)
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    store.open_store(bucket).put("large.png", encode(noise))
    store.open_store(bucket).put("huge.jpg", b"\xff\xd8" + bytes(3_000_000))
    ((_, large), (_, huge)) = BucketSource(bucket, max_pixels=100_000).open(["large.png", "huge.jpg"])
    assert isinstance(large, EncodedImage)
    assert np.array_equal(large.pixels(), noise)
    assert isinstance(huge, UnreadableImageError)
    assert "too large" in str(huge)


def test_frames_of_a_server_that_is_gone_are_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    leave(monkeypatch, f"http://127.0.0.1:{buckets.free_port()}")
    for _, frame in BucketSource("s3://somewhere/images").open(["a.jpg", "orange/a.jpg"]):
        assert isinstance(frame, UnreachableFrameError)
    with pytest.raises(SourceError, match="s3://somewhere/images: the images cannot be listed"):
        names_of(BucketSource("s3://somewhere/images"))


def test_a_folder_without_a_name_ends_no_listing(bucket: str) -> None:
    for name in ("a.jpg", "v//b.jpg", "v/c.jpg"):
        store.open_store(bucket).put(name, b"")
    assert sorted(names_of(BucketSource(bucket))) == ["a.jpg", "v/c.jpg"]


def test_images_that_are_not_there_are_named(bucket: str) -> None:
    with pytest.raises(SourceError, match=f"{bucket}/nowhere: the images cannot be listed"):
        names_of(BucketSource(f"{bucket}/nowhere"))


# -- runs


def test_from_a_bucket_into_a_bucket_all_is_the_same(
    bucket: str, images: Path, tmp_path: Path, straight: bytes
) -> None:
    labels = "frame_path,video_name,frame_id,class_name\n" + "".join(
        f"{name},{name.partition('/')[0]},{k},ok\n" for k, name in enumerate(NAMES)
    )
    buckets.upload(images, f"{bucket}/images")
    store.open_store(bucket).put("train.csv", labels.encode())
    (tmp_path / "train.csv").write_text(labels)
    written = []
    for place, folder in ((f"{bucket}/run", bucket), (f"file://{tmp_path}/run", f"file://{tmp_path}")):
        given = {"images": f"{folder}/images" if folder == bucket else str(images), "labels": f"{folder}/train.csv"}
        config = configuration.load_config(None, {**given, "output": place, "workers": 2, "save_per_num_images": 7})
        source = sources.open_source(config)
        table = frame_table.select_frames(
            frame_table.read_frames_csv(config.data.labels, source, LABELS), config.classes
        )
        run.detect_frames(table, source, config, config.data.output)
        outcomes.pair_run(runs.open_run(config.data.output))
        here = tmp_path / "run"
        kept = buckets.stored(place) if folder == bucket else None
        written.append(kept or {name: (here / name).read_bytes() for name in faults.stored(here)})
    there, local = written
    assert {*there} == {*local} == {"hands.json", "outcomes.csv", "outcomes.parquet", *faults.FINISHED}
    assert there["hands.json"] == local["hands.json"]
    assert local["detections.parquet"] == straight
    # But for the stamps, which a bucket gives in another way.
    views = [pd.read_csv(io.BytesIO(files["outcomes.csv"])).drop(columns="stamp") for files in written]
    pd.testing.assert_frame_equal(*views)
    for name in ("detections.parquet", "outcomes.parquet", "frames.parquet"):
        tables = [pq.read_table(io.BytesIO(files[name])) for files in written]
        stamps = [set(table["stamp"].to_pylist()) for table in tables if "stamp" in table.column_names]
        assert not set.intersection(*stamps), name
        assert tables[0].drop_columns("stamp").equals(tables[1].drop_columns("stamp")), name


_DRIVER = """
import sys, time
sys.path.insert(0, {here!r})
import faults
from detectime.storage import bucket
bucket._BEAT, bucket._ABANDONED = 0.4, 2.0
faults.run.detect_frames(
    faults.table_of(faults.names({count})), faults.Faulty({images!r}, journal={journal!r}, pause=0.1),
    faults.settings(workers=2, save_per_num_images=3), {output!r},
)
"""


def test_a_driver_that_is_killed_is_resumed_in_the_bucket(
    bucket: str, images: Path, tmp_path: Path, straight: bytes, fast: None
) -> None:
    journal = tmp_path / "journal"
    journal.mkdir()
    code = _DRIVER.format(
        here=str(faults.HERE), count=COUNT, images=str(images), journal=str(journal), output=f"{bucket}/run"
    )
    place = store.open_store(f"{bucket}/run")
    done = 0
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
            faults.wait_until(lambda: len(place.names("shards")) > done, 30)  # noqa: B023
            process.send_signal(signal.SIGKILL)
        done = len(place.names("shards"))
    assert 0 < done < COUNT / 3
    run.detect_frames(table_of(NAMES), FolderSource(str(images)), settings(workers=2), f"{bucket}/run")
    left = buckets.stored(f"{bucket}/run")
    assert {*left} == faults.FINISHED
    assert left["detections.parquet"] == straight


def test_a_server_that_goes_away_stops_the_run_and_the_next_one_goes_on(
    images: Path, tmp_path: Path, straight: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Frames in the bucket, results in a folder: of what is fetched no frame may be taken for a broken one.
    with buckets.serving() as (address, server):
        leave(monkeypatch, address)
        place = buckets.bucket()
        buckets.upload(images, place)
        output = tmp_path / "run"

        def stop() -> None:
            faults.wait_until(lambda: faults.saved_rows(output) >= 3)
            server.send_signal(signal.SIGKILL)

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(RunError, match="are gone"):
            run.detect_frames(
                table_of(NAMES), BucketSource(place), settings(workers=1, save_per_num_images=1), str(output)
            )
        stopper.join()
    assert 3 <= faults.saved_rows(output) < COUNT
    run.detect_frames(table_of(NAMES), FolderSource(str(images)), settings(workers=2), str(output))
    assert (output / "detections.parquet").read_bytes() == straight
    assert json.loads((output / "run.json").read_text())["outcomes"]["unreadable"] == 0
