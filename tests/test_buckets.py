"""Frames, labels and results in a bucket, on a local S3 server."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import buckets
import faults
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LABELS, draw_pattern, encode_image, forget_name_indexes, list_names
from faults import make_config, make_frames, name_frames, tabulate_frames
from skips import need_extra

from detectime import config as configuration
from detectime import outcomes, runs, sources
from detectime.detection import run
from detectime.detection.manifest import RunError
from detectime.images import MAX_PIXELS, EncodedImage, UnreadableImageError, describe_content
from detectime.labels import frame_table, frames_csv
from detectime.sources import bucket as bucket_source
from detectime.sources import remote_archive
from detectime.sources.archive import ArchiveSource
from detectime.sources.bucket import BucketSource
from detectime.sources.contract import MissingFrameError, SourceError, UnreachableFrameError
from detectime.sources.folder import FolderSource
from detectime.sources.listing import list_source
from detectime.sources.reading import read_contents, read_images
from detectime.sources.remote_archive import RemoteArchiveSource
from detectime.storage import store as stores
from detectime.storage.bucket import BucketStore
from detectime.storage.lease import LeaseTimes
from detectime.storage.store import StoreError

need_extra("moto")
s3fs = need_extra("s3fs")

pytestmark = pytest.mark.extra

COUNT = 40
NAMES = name_frames(COUNT)
FAST = LeaseTimes(renew=0.4, expire=2.0, wait=1.0)


@pytest.fixture(autouse=True)
def close_connections(s3_server: str) -> Iterator[None]:
    """Run each test against the server, and close connections that a test opened to another one."""
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket() -> str:
    return buckets.make_bucket()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_frames(folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the ``detections.parquet`` of an undisturbed run from a folder into a folder."""
    output = tmp_path_factory.mktemp("uninterrupted")
    run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), make_config(workers=1), str(output))
    return (output / "detections.parquet").read_bytes()


def use_server(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Use another server from now on; stores that are open keep their connections."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3fs.S3FileSystem.clear_instance_cache()


# -- the store


def test_a_store_lists_and_returns_what_was_put(bucket: str) -> None:
    store = stores.open_store(f"{bucket}/run/")
    assert (store.get("a.json"), store.names("shards")) == (None, [])
    store.put("a.json", b"{}")
    for number in (3, 1, 2):
        with store.writing(f"shards/{number}") as file:
            file.write(b"%d" % number)
    assert store.get("a.json") == b"{}"
    assert store.names("shards") == ["shards/1", "shards/2", "shards/3"]
    assert list(store.contents(["shards/2", "shards/9", "a.json"])) == [
        ("shards/2", b"2"),
        ("shards/9", None),
        ("a.json", b"{}"),
    ]
    store.delete(["shards/1", "shards/9", "shards/3"])
    assert buckets.read_stored(f"{bucket}/run") == {"a.json": b"{}", "shards/2": b"2"}
    store.delete([])


def test_a_name_is_not_a_pattern() -> None:
    location = buckets.make_bucket()
    stores.open_store(f"{location}/run1").put("shards/1", b"1")
    odd = stores.open_store(f"{location}/run[12] *?")
    odd.put("shards/1", b"2")
    odd.delete(["shards/1"])
    assert buckets.read_stored(location) == {"run1/shards/1": b"1"}


def test_a_file_is_uploaded_only_if_writing_succeeded(bucket: str) -> None:
    store = stores.open_store(bucket)
    store.put("hands.json", b"before")
    with contextlib.suppress(KeyError), store.writing("hands.json") as file:
        file.write(b"half")
        file.flush()
        raise KeyError
    assert buckets.read_stored(bucket) == {"hands.json": b"before"}


def test_a_shard_is_one_put(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BucketStore(bucket)
    called: list[str] = []
    call = store._fs._call_s3

    async def record_call(method: str, *arguments: Any, **options: Any) -> Any:
        called.append(method if isinstance(method, str) else method.__name__)
        return await call(method, *arguments, **options)

    monkeypatch.setattr(store._fs, "_call_s3", record_call)
    with store.writing("shards/1") as file:
        file.write(b"x" * 100_000)
    assert called == ["put_object"]


def test_a_large_file_is_written_in_parts_and_read_back(bucket: str) -> None:
    store = stores.open_store(bucket)
    block = os.urandom(2**20)
    with store.writing("large") as file:
        for _ in range(130):
            file.write(block)
    content = store.get("large")
    assert content is not None
    assert len(content) == 130 * 2**20
    assert content.endswith(block)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("put", ("a", b"")), ("get", ("a",)), ("names", ("shards",)), ("delete", (["a"],))],
)
def test_a_server_that_does_not_answer_is_reported(
    method: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_server(monkeypatch, f"http://127.0.0.1:{buckets.find_free_port()}")
    store = BucketStore("s3://somewhere/run")
    with pytest.raises(StoreError, match=r"s3://somewhere/run/\w+: cannot be .*give another `output`"):
        getattr(store, method)(*arguments)


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
def test_a_server_that_refuses_is_reported_before_frames_are_read(
    status: int, code: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusing, "status", status)
    monkeypatch.setattr(Refusing, "code", code)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_server(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StoreError, match=r"s3://closed/run/.*permission"):
            run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), make_config(), "s3://closed/run")
        with pytest.raises(SourceError, match="s3://closed/images: the images cannot be listed"):
            list_names(BucketSource("s3://closed/images"))
        ((_, frame),) = BucketSource("s3://closed/images").read_frames(["a.jpg"])
        assert isinstance(frame, UnreadableImageError)
        server.shutdown()


def test_a_missing_bucket_is_refused_before_frames_are_read(images: Path) -> None:
    with pytest.raises(StoreError, match="s3://nobody-has-this/run"):
        run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), make_config(), "s3://nobody-has-this/run")


@pytest.mark.parametrize("scheme", ["gopher", "s4"])
def test_an_unknown_scheme_is_named(scheme: str) -> None:
    with pytest.raises(StoreError, match=f"{scheme}://a/b"):
        stores.open_store(f"{scheme}://a/b")
    with pytest.raises(SourceError, match=f"{scheme}://a/b"):
        sources.open_source(f"{scheme}://a/b")


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gs")])
def test_a_missing_library_is_named_with_its_extra(scheme: str, extra: str) -> None:
    code = (
        "import sys; sys.modules.update(s3fs=None, gcsfs=None)\n"
        "from detectime.storage import store\n"
        f"try:\n    store.open_store('{scheme}://a/b')\nexcept store.StoreError as error:\n    print(error)\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"-e '.[{extra}]'" in output


@pytest.mark.parametrize("stored", ["Zo\u00eb/1.jpg", "Zoe\u0308/1.jpg", "Zoe\u0308 /1.jpg"])
def test_names_in_another_spelling_are_found(bucket: str, stored: str) -> None:
    stores.open_store(bucket).put(stored, b"hello")
    source = BucketSource(bucket, ahead_bytes=3)
    asked = ["Zo\u00eb/1.jpg", "Zoe\u0308/1.jpg", "Zo\u00eb/2.jpg", "zo\u00eb/1.jpg", "x.jpg"]
    found = [frame for _, frame in source.read_frames(asked)]
    assert found[:2] == [b"hello"] * 2
    assert [type(frame) for frame in found[2:]] == [MissingFrameError] * 3


@pytest.mark.parametrize("stored", ["anna /1.jpg", "an\u200bna/1.jpg", "anna/1.jpg\u00a0"])
def test_a_plain_name_is_found_in_another_spelling(bucket: str, stored: str) -> None:
    stores.open_store(bucket).put(stored, b"hello")
    source = BucketSource(bucket)
    assert list_source(source).find(pa.array([b"anna/1.jpg"])).to_pylist() == [0]
    found, (_, missing) = source.read_frames(["anna/1.jpg", "ben/1.jpg"])
    assert found == ("anna/1.jpg", b"hello")
    assert isinstance(missing, MissingFrameError)


def test_a_name_of_two_spellings_is_no_frame(bucket: str) -> None:
    for name in ("Zo\u00eb.jpg", "Zoe\u0308.jpg"):
        stores.open_store(bucket).put(name, name.encode())
    exact, (_, missing) = BucketSource(bucket).read_frames(["Zoe\u0308.jpg", "Zo\u00eb.jpg "])
    assert exact == ("Zoe\u0308.jpg", "Zoe\u0308.jpg".encode())
    assert "2 names in the folder differ" in str(missing)


# -- archives in a bucket


def pack_frames(folder: Path) -> dict[str, bytes]:
    """Write a tar and a zip, whose frames are returned by their paths."""
    tarred = {
        "w/Zo\u00eb.jpg": encode_image(draw_pattern()),
        "w/2.png": encode_image(draw_pattern(), "PNG"),
        "w/no.jpg": b"",
    }
    zipped = {f"v/{k}.jpg": encode_image(draw_pattern()) * (k + 1) for k in range(3)}
    folder.mkdir()
    with tarfile.open(folder / "b.tar", "w") as tar:
        for name, content in tarred.items():
            header = tarfile.TarInfo(f"./{name}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
        link = tarfile.TarInfo("w/link.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "./w/2.png"
        tar.addfile(link)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as target:
        for k, (name, content) in enumerate(zipped.items()):
            member = zipfile.ZipInfo(name)
            member.extra = b"xx" + (5000).to_bytes(2, "little") + bytes(5000) if k == 1 else b""
            target.writestr(member, content)
    return tarred | zipped | {"w/link.jpg": tarred["w/2.png"]}


@pytest.mark.usefixtures("temporary_folder")
def test_archives_in_a_bucket_are_read_as_local_ones(bucket: str, tmp_path: Path) -> None:
    frames = pack_frames(tmp_path / "shards")
    buckets.upload(tmp_path / "shards", f"{bucket}/shards")
    stores.open_store(f"{bucket}/shards").put("read.me", b"hello")
    local = ArchiveSource(str(tmp_path / "shards"))
    source = sources.open_source(f"{bucket}/shards", "archives")
    assert type(source) is RemoteArchiveSource
    assert list_names(source) == list_names(local) == sorted(frames, key=str.encode)
    names = [*frames, "nowhere.jpg", *frames]
    assert dict(source.read_frames(names)) | {"nowhere.jpg": b""} == frames | {"nowhere.jpg": b""}
    ((_, missing),) = source.read_frames(["nowhere.jpg"])
    assert isinstance(missing, MissingFrameError)
    ((_, large),) = source.read_frames(["v/2.jpg"], 300)
    assert "too large" in str(large)
    one = sources.open_source(f"{bucket}/shards/b.tar")
    assert one.list_top_folders() == ("w/", "b/")
    ((_, respelled),) = one.read_frames(["Zoe\u0308.jpg"])
    assert respelled == frames["w/Zo\u00eb.jpg"]
    stamps, there = dict(local.list_frames()), dict(source.list_frames())
    assert all((there[name] == stamp) == name.startswith("v/") for name, stamp in stamps.items())  # CRC-32
    assert all(there[name].startswith(f"{len(frames[name])}-") for name in frames)
    assert list_names(sources.open_source(f"{bucket}/shards", "folder")) == ["a.zip", "b.tar", "read.me"]


@pytest.mark.usefixtures("temporary_folder")
def test_an_archive_in_a_bucket_is_indexed_once_per_version(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = pack_frames(tmp_path / "shards")
    buckets.upload(tmp_path / "shards", bucket)
    opened: list[str] = []
    index = remote_archive.index_opened
    monkeypatch.setattr(remote_archive, "index_opened", lambda urls, open_: opened.extend(urls) or index(urls, open_))
    source = sources.open_source(f"{bucket}/b.tar")
    for _ in range(2):
        forget_name_indexes()  # as in another process
        before = dict(pickle.loads(pickle.dumps(source)).list_frames())
    assert opened == [f"{bucket}/b.tar"]
    content = (tmp_path / "shards" / "b.tar").read_bytes().replace(frames["w/2.png"], frames["w/2.png"][::-1])
    stores.open_store(bucket).put("b.tar", content)
    after = dict(source.list_frames())
    assert opened == [f"{bucket}/b.tar"] * 2
    assert {*after} == {*before}
    assert all(after[name] != before[name] for name in after)
    assert dict(source.read_frames(["w/2.png"])) == {"w/2.png": frames["w/2.png"][::-1]}


@pytest.mark.usefixtures("temporary_folder")
def test_what_is_no_archive_in_a_bucket_is_named(bucket: str) -> None:
    store = stores.open_store(f"{bucket}/other")
    store.put("a.tar.gz", gzip.compress(bytes(20_000)))
    store.put("b.zip", b"PK\3\4" + bytes(1000))
    store.put("empty.tar", b"")
    for name, words in (
        ("a.tar.gz", "a.tar.gz: this is a file compressed with gzip"),
        ("b.zip", "b.zip: this zip is cut off or broken"),
        ("empty.tar", "empty.tar: this file is empty"),
        ("nowhere.tar", "nowhere.tar: the archives cannot be listed"),
    ):
        with pytest.raises(SourceError, match=f"{bucket}/other/{words}"):
            list_names(sources.open_source(f"{bucket}/other/{name}"))
    stores.open_store(f"{bucket}/none").put("x.jpg", b"x")
    with pytest.raises(SourceError, match="there is no archive in this folder"):
        list_names(sources.open_source(f"{bucket}/none", "archives"))
    stores.open_store(f"{bucket}/frames.zip").put("x.jpg", b"x")
    assert list_names(sources.open_source(f"{bucket}/frames.zip")) == ["x.jpg"]  # a folder


@pytest.mark.usefixtures("temporary_folder")
def test_a_server_that_goes_away_leaves_frames_of_an_archive_unreachable(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_frames(tmp_path / "shards")
    buckets.upload(tmp_path / "shards", bucket)
    source = sources.open_source(f"{bucket}/b.tar")
    list_names(source)
    use_server(monkeypatch, f"http://127.0.0.1:{buckets.find_free_port()}")
    assert [type(frame) for _, frame in source.read_frames(["w/2.png", "x"])] == [UnreachableFrameError] * 2


@pytest.mark.usefixtures("temporary_folder")
def test_a_server_that_sends_whole_files_gives_no_frames(tmp_path: Path) -> None:
    """Python's own HTTP server answers no ranges: the bytes of another frame would be taken for this one's."""
    frames = pack_frames(tmp_path / "shards")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "shards")
    ) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        source = sources.open_source(f"http://127.0.0.1:{web.server_port}/b.tar")
        assert list_names(source) == sorted((name for name in frames if name.startswith("w/")), key=str.encode)
        assert all(re.fullmatch(r"\d+-0", stamp or "") for _, stamp in source.list_frames())  # of no known version
        ((_, frame),) = source.read_frames(["w/2.png"])
        assert "the server sends the whole file where a part is asked for" in str(frame)
        web.shutdown()


# -- the lease


def test_a_second_run_is_refused_while_the_first_is_running(bucket: str) -> None:
    with BucketStore(bucket, FAST).lock():
        refusal = f"another run is writing to this location \\(process {os.getpid()} on"
        with pytest.raises(StoreError, match=refusal), BucketStore(bucket, FAST).lock():
            pass
    at_once = dataclasses.replace(FAST, wait=0.0)
    for _ in range(2):  # a released lease is free without waiting
        with BucketStore(bucket, at_once).lock():
            pass


def test_a_run_waits_for_one_that_ends(bucket: str) -> None:
    first = BucketStore(bucket, FAST).lock()
    first.__enter__()
    ender = threading.Timer(0.6, first.__exit__, (None, None, None))
    ender.start()
    with BucketStore(bucket, FAST).lock():
        pass
    ender.join()


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_holder_refuses_to_write(bucket: str) -> None:
    first, second = BucketStore(bucket, LeaseTimes(renew=600)), BucketStore(bucket, FAST)

    def write_after_the_takeover() -> None:
        with first.lock():
            first.put("a", b"1")
            with second.lock():
                second.put("a", b"2")
                first.put("a", b"3")

    with pytest.raises(StoreError, match="another run has taken this location over"):
        write_after_the_takeover()
    assert second.get("a") == b"2"
    with BucketStore(bucket, FAST).lock():
        pass


_HOLDER = """
import time
from detectime.storage.bucket import BucketStore
from detectime.storage.lease import LeaseTimes
store = BucketStore({location!r}, LeaseTimes(renew=0.4, expire=2))
with store.lock():
    while True:
        store.put("a", b"1")
        print("written", flush=True)
        time.sleep(0.1)
"""


def test_a_holder_that_was_suspended_notices_the_takeover(bucket: str) -> None:
    code = _HOLDER.format(location=bucket)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        try:
            # The holder's last sign of life may arrive after it was suspended.
            with BucketStore(bucket, dataclasses.replace(FAST, wait=10.0)).lock():
                holder.send_signal(signal.SIGCONT)
                output = holder.communicate(timeout=20)[0]
        finally:
            holder.kill()  # `with` would wait for a process that is still suspended
    assert "another run has taken this location over" in output.splitlines()[-1]


def test_one_of_many_runs_takes_an_expired_lease_over(bucket: str) -> None:
    BucketStore(bucket).put(".lock/000000007", b'{"host": "gone", "process": 1, "beat": "1"}')
    holding, refused = [], []

    def take_over() -> None:
        try:
            with BucketStore(bucket, FAST).lock():
                holding.append(1)
                time.sleep(4)
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take_over) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(holding), len(refused)) == (1, 4), refused


# -- the source


def test_an_object_reads_as_the_same_file_in_a_folder(bucket: str, tmp_path: Path) -> None:
    picture = encode_image(draw_pattern(), "JPEG")
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
    assert sorted(list_names(there)) == sorted(files)
    requested = [*files, "nowhere.jpg", "v", "a.jpg/below.jpg", "a.jpg"]
    reading = {"exif": "ignore", "max_pixels": MAX_PIXELS}
    pairs = zip(read_images(here, requested, **reading), read_images(there, requested, **reading), strict=True)
    for (name, ours), (again, theirs) in pairs:
        assert name == again
        if isinstance(ours, EncodedImage):
            assert isinstance(theirs, EncodedImage)
            if name != "v/cut.jpg":
                assert np.array_equal(ours.read_pixels(), theirs.read_pixels())
        elif name == "v":  # a bucket has no folders
            assert isinstance(theirs, MissingFrameError)
        else:
            assert type(ours) is type(theirs), name


def test_a_stamp_is_the_size_and_the_etag(bucket: str) -> None:
    store, source = stores.open_store(bucket), BucketSource(bucket)
    store.put("v/a.jpg", b"hello")
    store.put("v/b.jpg", b"jello")
    before = dict(source.list_frames())
    assert before["v/a.jpg"] == f"5-{hashlib.md5(b'hello').hexdigest()}"
    store.put("v/a.jpg", b"hullo")
    after = dict(source.list_frames())
    assert (after["v/b.jpg"], source.list_notes()) == (before["v/b.jpg"], [])
    assert after["v/a.jpg"] not in (before["v/a.jpg"], None)
    assert list(read_contents(source, ["v/b.jpg", "nowhere.jpg"], max_pixels=MAX_PIXELS)) == [
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
def test_a_stamp_is_made_from_the_keys_of_each_library(entry: dict[str, Any], stamp: str | None) -> None:
    assert bucket_source.make_stamp(entry) == stamp


def test_a_large_object_is_not_fetched_ahead_and_a_too_large_one_not_at_all(
    bucket: str,
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    stores.open_store(bucket).put("large.png", encode_image(noise))
    stores.open_store(bucket).put("huge.jpg", b"\xff\xd8" + bytes(3_000_000))
    source = BucketSource(bucket, ahead_bytes=1000)
    ((_, large), (_, huge)) = read_images(source, ["large.png", "huge.jpg"], exif="ignore", max_pixels=100_000)
    assert isinstance(large, EncodedImage)
    assert np.array_equal(large.read_pixels(), noise)
    assert isinstance(huge, UnreadableImageError)
    assert "too large" in str(huge)


def test_frames_on_an_unreachable_server_are_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    use_server(monkeypatch, f"http://127.0.0.1:{buckets.find_free_port()}")
    for _, frame in BucketSource("s3://somewhere/images").read_frames(["a.jpg", "orange/a.jpg"]):
        assert isinstance(frame, UnreachableFrameError)
    with pytest.raises(SourceError, match="s3://somewhere/images: the images cannot be listed"):
        list_names(BucketSource("s3://somewhere/images"))


def test_a_folder_with_an_empty_name_is_skipped(bucket: str) -> None:
    for name in ("a.jpg", "v//b.jpg", "v/c.jpg"):
        stores.open_store(bucket).put(name, b"")
    assert sorted(list_names(BucketSource(bucket))) == ["a.jpg", "v/c.jpg"]


def test_a_missing_images_folder_is_named(bucket: str) -> None:
    with pytest.raises(SourceError, match=f"{bucket}/nowhere: the images cannot be listed"):
        list_names(BucketSource(f"{bucket}/nowhere"))


# -- runs


def test_a_run_in_a_bucket_equals_one_in_a_folder(
    bucket: str, images: Path, tmp_path: Path, uninterrupted: bytes
) -> None:
    labels = "frame_path,video_name,frame_id,class_name\n" + "".join(
        f"{name},{name.partition('/')[0]},{k},ok\n" for k, name in enumerate(NAMES)
    )
    buckets.upload(images, f"{bucket}/images")
    stores.open_store(bucket).put("train.csv", labels.encode())
    (tmp_path / "train.csv").write_text(labels)
    written = []
    for location, folder in ((f"{bucket}/run", bucket), (f"file://{tmp_path}/run", f"file://{tmp_path}")):
        given = {"images": f"{folder}/images" if folder == bucket else str(images), "labels": f"{folder}/train.csv"}
        config = configuration.load_config(None, {**given, "output": location, "workers": 2, "save_per_num_images": 7})
        source = sources.open_source(config.data.images, config.data.source_type)
        table = frame_table.select_frames(
            frames_csv.read_frames_csv(config.data.labels, source, LABELS), config.classes
        )
        run.detect_frames(table, source, config, config.data.output)
        outcomes.pair_run(runs.open_run(config.data.output))
        here = tmp_path / "run"
        kept = buckets.read_stored(location) if folder == bucket else None
        written.append(kept or {name: (here / name).read_bytes() for name in faults.list_stored_files(here)})
    there, local = written
    assert {*there} == {*local} == {"hands.json", "outcomes.csv", "outcomes.parquet", *faults.FINISHED}
    assert there["hands.json"] == local["hands.json"]
    assert local["detections.parquet"] == uninterrupted
    # All but the stamps, which a bucket makes from the ETag.
    views = [pd.read_csv(io.BytesIO(files["outcomes.csv"])).drop(columns="stamp") for files in written]
    pd.testing.assert_frame_equal(*views)
    for name in ("detections.parquet", "outcomes.parquet", "frames.parquet"):
        tables = [pq.read_table(io.BytesIO(files[name])) for files in written]
        stamps = [set(table["stamp"].to_pylist()) for table in tables if "stamp" in table.column_names]
        assert not set.intersection(*stamps), name
        assert tables[0].drop_columns("stamp").equals(tables[1].drop_columns("stamp")), name


@pytest.mark.usefixtures("temporary_folder")
def test_a_run_over_archives_in_a_bucket_equals_one_over_a_folder(
    bucket: str, images: Path, tmp_path: Path, uninterrupted: bytes
) -> None:
    (tmp_path / "shards").mkdir()
    half = len(NAMES) // 2
    with (
        tarfile.open(tmp_path / "shards" / "a.tar", "w") as tar,
        zipfile.ZipFile(tmp_path / "shards" / "b.zip", "w") as z,
    ):
        for name in NAMES[:half]:
            tar.add(images / name, name)
        for name in NAMES[half:]:
            z.write(images / name, name)
    buckets.upload(tmp_path / "shards", f"{bucket}/shards")
    source = sources.open_source(f"{bucket}/shards", "archives")
    config = make_config(images=source.root, workers=2, save_per_num_images=7)
    found = run.detect_frames(tabulate_frames(NAMES), source, config, str(tmp_path / "run"))
    assert found["outcome"].to_pylist() == ["ok"] * len(NAMES)
    written = pq.read_table(tmp_path / "run" / "detections.parquet")
    expected = pq.read_table(io.BytesIO(uninterrupted))
    assert written.drop_columns("stamp").equals(expected.drop_columns("stamp"))


_DRIVER = """
import functools, sys
sys.path.insert(0, {here!r})
import faults
from detectime.storage import store
from detectime.storage.lease import LeaseTimes
store.open_store = functools.partial(store.open_store, lease_times=LeaseTimes(renew=0.4, expire=2))
faults.run.detect_frames(
    faults.tabulate_frames(faults.name_frames({count})),
    faults.FaultyFolder({images!r}, journal={journal!r}, pause=0.1),
    faults.make_config(workers=2, save_per_num_images=3), {output!r},
)
"""


def test_a_killed_run_is_resumed_in_the_bucket(
    bucket: str, images: Path, tmp_path: Path, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "open_store", functools.partial(stores.open_store, lease_times=FAST))
    journal = tmp_path / "journal"
    journal.mkdir()
    code = _DRIVER.format(
        here=str(faults.HERE), count=COUNT, images=str(images), journal=str(journal), output=f"{bucket}/run"
    )
    store = stores.open_store(f"{bucket}/run")
    done = 0
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
            faults.wait_until(lambda: len(store.names("shards")) > done, 30)  # noqa: B023
            process.send_signal(signal.SIGKILL)
        done = len(store.names("shards"))
    assert 0 < done < COUNT / 3
    run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), make_config(workers=2), f"{bucket}/run")
    left = buckets.read_stored(f"{bucket}/run")
    assert {*left} == faults.FINISHED
    assert left["detections.parquet"] == uninterrupted


def test_a_server_that_stops_ends_the_run_and_the_next_run_resumes_it(
    images: Path, tmp_path: Path, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Frames in the bucket, results in a folder: no frame may be recorded as unreadable because the server is gone.
    with buckets.serve_buckets() as (address, server):
        use_server(monkeypatch, address)
        location = buckets.make_bucket()
        buckets.upload(images, location)
        output = tmp_path / "run"

        def stop() -> None:
            faults.wait_until(lambda: faults.count_saved_rows(output) >= 3)
            server.send_signal(signal.SIGKILL)

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(RunError, match="are gone"):
            run.detect_frames(
                tabulate_frames(NAMES),
                BucketSource(location),
                make_config(workers=1, save_per_num_images=1),
                str(output),
            )
        stopper.join()
    assert 3 <= faults.count_saved_rows(output) < COUNT
    run.detect_frames(tabulate_frames(NAMES), FolderSource(str(images)), make_config(workers=2), str(output))
    assert (output / "detections.parquet").read_bytes() == uninterrupted
    assert json.loads((output / "run.json").read_text())["outcomes"]["unreadable"] == 0
