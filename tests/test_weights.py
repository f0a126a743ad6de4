"""Weights: found in a folder, or downloaded from a real server that does what servers do."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import Server, serving

from detectime import paths
from detectime.config import DetectionConfig
from detectime.detectors import face_detection, hagrid, mask_rcnn
from detectime.detectors.registry import FACES, HANDS
from detectime.storage import downloads
from detectime.storage.downloads import WeightsError, WeightsFile

NAME = "faces.pth"
CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server that has the file."""
    with serving(CONTENT) as started:
        started.address += f"/files/{NAME}"
        yield started


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out the weights, the proxies and the patience of whoever runs this."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("DETECTIME_WEIGHTS", "DETECTIME_MIRROR"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(paths, "MODEL", tmp_path / "model")
    monkeypatch.setattr(downloads, "_PAUSE", 0.001)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Name a folder that is not there yet."""
    return tmp_path / "a library's" / "cache"


def wanted(address: str | None, sha256: str | None = SHA256) -> WeightsFile:
    """Describe the file."""
    return WeightsFile(NAME, "somebody's repository", address, sha256)


def partly(cache: Path, content: bytes) -> Path:
    """Leave what an earlier process was killed over."""
    cache.mkdir(parents=True)
    partial = cache / f"{NAME}.part"
    partial.write_bytes(content)
    return partial


def assert_whole(path: Path, cache: Path) -> None:
    assert path == cache / NAME
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")] == [NAME]


def test_downloads_once(
    server: Server, cache: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "detectime")
    for _ in range(2):
        assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)
    assert server.asked == [(f"/files/{NAME}", None)]
    said = f"{NAME}: downloading from {server.address}, 3.0 MB"
    assert caplog.record_tuples == [("detectime.storage.downloads", logging.INFO, said)]
    shown = capsys.readouterr()
    (progress,) = shown.out.splitlines()
    assert progress.startswith(f"{NAME}: 100% 3.00M/3.00M ")
    assert shown.err == ""


def test_a_bar_is_shown_where_somebody_watches(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook in a browser")
    downloads.fetch_weights(wanted(server.address), cache)
    shown = capsys.readouterr()
    assert f"\r{NAME}: 100%" in shown.out
    assert "3.00M/3.00M" in shown.out
    assert shown.err == ""


def test_another_attempt_is_a_warning(server: Server, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.cuts = [1_000_000]
    downloads.fetch_weights(wanted(server.address), cache)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        f"{NAME}: the connection ended after 1000000 of 3000000 bytes; trying {server.address} again in 0.001 s"
    ]


def test_goes_on_where_the_connection_was_cut(server: Server, cache: Path) -> None:
    server.cuts = [1_000_000, 0, 500_000, 1]
    assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)
    starts = [0 if given is None else int(given[6:-1]) for _, given in server.asked]
    assert starts == [0, 1_000_000, 1_000_000, 1_500_000, 1_500_001]
    assert server.sent == len(CONTENT)


def test_goes_on_where_a_killed_process_was(server: Server, cache: Path) -> None:
    partly(cache, CONTENT[:2_000_000])
    assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)
    assert server.sent == 1_000_000


@pytest.mark.parametrize(
    ("left", "requests"),
    [
        pytest.param(CONTENT, 1, id="all of it"),
        pytest.param(CONTENT + b"more", 2, id="more than there is"),
        pytest.param(b"x" * 1000, 2, id="the start of something else"),
        pytest.param(b"", 1, id="nothing"),
    ],
)
def test_whatever_was_left_the_whole_comes(left: bytes, requests: int, server: Server, cache: Path) -> None:
    partly(cache, left)
    assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)
    assert len(server.asked) == requests


def test_a_server_that_cannot_go_on_is_read_from_the_start(server: Server, cache: Path) -> None:
    server.ranges = False
    server.cuts = [1_000_000, 2_000_000]
    assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)


@pytest.mark.parametrize("statuses", [[503, 500, 429], [302]], ids=str)
def test_a_passing_refusal_is_overcome(statuses: list[int], server: Server, cache: Path) -> None:
    server.statuses = list(statuses)
    assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)
    assert len(server.asked) == 1 + len(statuses)


@pytest.mark.parametrize("status", [403, 404, 410, 416])
def test_a_lasting_refusal_is_one_error_with_all_that_helps(
    status: int, server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.statuses = [status]
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "mine"))
    with pytest.raises(WeightsError) as refusal:
        downloads.fetch_weights(wanted(server.address), cache)
    assert len(server.asked) == 1
    for word in (NAME, server.address, f"HTTP {status}", f"put {NAME} into {tmp_path / 'mine'}"):
        assert word in str(refusal.value)
    assert not (cache / NAME).exists()


def test_offline_is_one_error_with_all_that_helps(cache: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/{NAME}"
    with pytest.raises(WeightsError) as refusal:
        downloads.fetch_weights(wanted(address), cache)
    assert str(refusal.value) == (
        f"{NAME}: these weights are not there, and cannot be fetched from {address}: [Errno {errno.ECONNREFUSED}] "
        f"Connection refused; put {NAME} into {tmp_path / 'model'}, or into a folder that the variable "
        "DETECTIME_WEIGHTS names"
    )


def test_a_server_that_always_cuts_is_given_up(server: Server, cache: Path) -> None:
    server.cuts = [1_000_000] + [0] * 20
    with pytest.raises(WeightsError, match="the connection ended after 1000000 of 3000000 bytes"):
        downloads.fetch_weights(wanted(server.address), cache)
    assert len(server.asked) == 5
    server.cuts = []
    assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)  # what had come is not lost
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize("content", [b"<html>Log in to this network</html>", CONTENT[:-1] + b"!"], ids=["page", "bit"])
def test_something_else_is_refused_and_not_kept(content: bytes, server: Server, cache: Path) -> None:
    server.content = content
    with pytest.raises(WeightsError, match="something else") as refusal:
        downloads.fetch_weights(wanted(server.address), cache)
    assert SHA256 in str(refusal.value)
    assert hashlib.sha256(content).hexdigest() in str(refusal.value)
    assert [entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")] == []


def test_what_lies_there_and_is_broken_is_replaced(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT[:1000])
    assert_whole(downloads.fetch_weights(wanted(server.address), cache), cache)


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["known", "unknown"])
def test_a_folder_goes_before_the_address(
    sha256: str | None, server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(b"what was used until now")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "mine"))
    assert_whole(downloads.fetch_weights(wanted(server.address, sha256), cache), cache)
    assert server.asked == []
    (tmp_path / "mine" / NAME).unlink()
    assert_whole(downloads.fetch_weights(wanted(server.address, sha256), cache), cache)
    assert server.asked == []


def test_other_weights_in_a_folder_are_refused(server: Server, cache: Path) -> None:
    paths.MODEL.mkdir()
    (paths.MODEL / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=f"{paths.MODEL / NAME}: these are other weights.*{SHA256}"):
        downloads.fetch_weights(wanted(server.address), cache)
    assert server.asked == []


def test_a_mirror_takes_the_place_of_any_address(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        WeightsError, match=f"{NAME}: these weights are not there. They come from somebody's repository"
    ):
        downloads.fetch_weights(wanted(None), cache)
    monkeypatch.setenv("DETECTIME_MIRROR", server.address.removesuffix(f"files/{NAME}") + "mirror/")
    assert_whole(downloads.fetch_weights(wanted(None, None), cache), cache)
    assert server.asked == [(f"/mirror/{NAME}", None)]


def test_goes_through_a_proxy(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address.removesuffix(f"/files/{NAME}"))
    address = f"http://weights.invalid/{NAME}"
    assert_whole(downloads.fetch_weights(wanted(address), cache), cache)
    assert server.asked == [(address, None)]


def test_of_many_that_want_it_one_downloads(server: Server, cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for path in pool.map(lambda _: downloads.fetch_weights(wanted(server.address), cache), range(8)):
            assert_whole(path, cache)
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="cannot be written: Not a directory"):
        downloads.fetch_weights(wanted(server.address), tmp_path / "file" / "cache")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_and_not_tried_again(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / f"{NAME}.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="cannot be written: No space left on device"):
        downloads.fetch_weights(wanted(server.address), cache)
    assert len(server.asked) == 1


def test_what_only_the_user_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError) as refusal:
        HANDS["mask_rcnn"].fingerprint(DetectionConfig())
    for word in (
        "mask_rcnn_hand_detection.h5",
        "release 1.0 of",
        "theerapatkitti/hand_mask_rcnn",
        str(tmp_path / "model"),
    ):
        assert word in str(refusal.value)
    path = tmp_path / "mine" / "mask_rcnn_hand_detection.h5"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(path.parent))
    assert downloads.find_weights(mask_rcnn.WEIGHTS) == path
    assert HANDS["mask_rcnn"].fingerprint(DetectionConfig()) == {path.name: SHA256}
    path.write_bytes(CONTENT + b"trained further")
    assert HANDS["mask_rcnn"].fingerprint(DetectionConfig()) != {path.name: SHA256}


def test_the_weights_of_hagrid_are_downloaded_once_into_the_user_s_folder(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, spec = hagrid.WEIGHTS.name, HANDS["hagrid"]
    with serving((shared / "weights" / name).read_bytes()) as server:
        monkeypatch.setenv("DETECTIME_MIRROR", server.address)
        for _ in range(2):
            assert spec.find_weights(DetectionConfig()) == [tmp_path / "model" / name]
            assert spec.fingerprint(DetectionConfig()) == {name: hagrid.WEIGHTS.sha256}
    assert server.asked == [(f"/{name}", None)]
    spec.build(DetectionConfig(), "cpu")  # and the network is nowhere needed again
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(shared / "weights"))
    assert spec.find_weights(DetectionConfig()) == [shared / "weights" / name]


def test_other_weights_of_hagrid_are_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = hagrid.WEIGHTS.name
    monkeypatch.setenv("DETECTIME_MIRROR", server.address)
    with pytest.raises(WeightsError, match=f"{name}: .*what came from there is something else.*{SHA256}"):
        HANDS["hagrid"].build(DetectionConfig(), "cpu")
    assert not (tmp_path / "model" / name).exists()
    (tmp_path / "model" / name).write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=f"model/{name}: these are other weights.*{hagrid.WEIGHTS.sha256}"):
        HANDS["hagrid"].build(DetectionConfig(), "cpu")


def test_without_the_weights_of_hagrid_and_offline_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing answers there
    with pytest.raises(WeightsError) as refusal:
        HANDS["hagrid"].build(DetectionConfig(), "cpu")
    for words in (
        "hand_detector.onnx: these weights are not there, and cannot be fetched from https://",
        "Connection refused",
        f"put hand_detector.onnx into {tmp_path / 'model'}, or into a folder that the variable DETECTIME_WEIGHTS names",
    ):
        assert words in str(refusal.value)


def test_a_relative_folder_is_relative_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTIME_WEIGHTS", "mine")
    monkeypatch.chdir(tmp_path)
    assert downloads.list_weights_folders() == [tmp_path / "mine", paths.MODEL]


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TORCH_HOME": "/t", "XDG_CACHE_HOME": "/x"}, "/t/hub/checkpoints"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/torch/hub/checkpoints"),
        ({}, "/h/.cache/torch/hub/checkpoints"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_torch_s_cache_is_where_torch_looks(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/h", **variables}.items():
        monkeypatch.setenv(name, value)
    assert downloads.find_torch_cache() == Path(folder)


@pytest.mark.parametrize("file", [face_detection.WEIGHTS["RetinaNetMobileNetV1"], hagrid.WEIGHTS], ids=lambda f: f.name)
def test_the_published_hash_is_that_of_the_file(file: WeightsFile, shared: Path) -> None:
    assert downloads.hash_file(shared / "weights" / file.name) == file.sha256


@pytest.mark.parametrize("detector_type", [*face_detection.WEIGHTS])
def test_weights_in_a_folder_are_what_a_run_is_bound_to(
    detector_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = face_detection.WEIGHTS[detector_type]
    paths.MODEL.mkdir()
    (paths.MODEL / file.name).write_bytes(CONTENT)
    spec = FACES[detector_type]
    if file.sha256 is None:
        assert spec.fingerprint(DetectionConfig(detector_type=detector_type)) == {file.name: SHA256}
        assert (tmp_path / "torch" / "hub" / "checkpoints" / file.name).read_bytes() == CONTENT
    else:
        with pytest.raises(WeightsError, match="other weights"):
            spec.fingerprint(DetectionConfig(detector_type=detector_type))
