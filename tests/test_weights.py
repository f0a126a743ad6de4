"""Weights: found in a folder, or downloaded from a real HTTP server with real faults."""

from __future__ import annotations

import errno
import hashlib
import logging
import multiprocessing
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import Server, serve_file

from detectime import label_check, paths
from detectime.cli import main as cli
from detectime.config import DetectionConfig, load_config
from detectime.detection import run
from detectime.detectors import face_detection, hagrid, mask_rcnn, yunet
from detectime.detectors.contract import DetectorSpec
from detectime.detectors.registry import FACES, HANDS, choose_detectors
from detectime.labels import frame_table
from detectime.sources.folder import FolderSource
from detectime.storage import downloads
from detectime.storage.downloads import WeightsError, WeightsFile

NAME = "faces.pth"
CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server that has the file."""
    with serve_file(CONTENT) as started:
        started.address += f"/files/{NAME}"
        yield started


@pytest.fixture(autouse=True)
def isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the weights and proxies of this machine, and shorten the pauses between attempts."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("DETECTIME_WEIGHTS", "DETECTIME_MIRROR"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(paths, "find_model_folder", lambda: tmp_path / "model")
    monkeypatch.setattr(downloads, "RETRIES", downloads.Retries(pause=0.001))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Name a folder that does not exist yet."""
    return tmp_path / "a library's" / "cache"


def describe_file(address: str | None, sha256: str | None = SHA256) -> WeightsFile:
    return WeightsFile(NAME, "somebody's repository", address, sha256)


def list_cache(cache: Path) -> list[str]:
    return [entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")]


def assert_complete(path: Path, cache: Path) -> None:
    assert path == cache / NAME
    assert path.read_bytes() == CONTENT
    assert list_cache(cache) == [NAME]


def test_downloads_once(
    server: Server, cache: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "detectime")
    for _ in range(2):
        assert_complete(downloads.fetch_weights(describe_file(server.address), cache), cache)
    assert server.asked == [(f"/files/{NAME}", None)]
    message = f"{NAME}: downloading from {server.address}"
    assert caplog.record_tuples == [("detectime.storage.downloads", logging.INFO, message)]
    shown = capfd.readouterr()
    (progress,) = shown.out.splitlines()
    assert progress.startswith(f"{NAME}: 100% 3.00M/3.00M ")
    assert shown.err == ""


def test_a_bar_is_shown_where_somebody_watches(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook in a browser")
    downloads.fetch_weights(describe_file(server.address, None), cache)
    shown = capfd.readouterr()
    assert f"\r{NAME}: 100%" in shown.out
    assert "3.00M/3.00M" in shown.out
    assert shown.err == ""


def test_the_logger_of_pooch_keeps_its_level(server: Server, cache: Path) -> None:
    import pooch

    level = pooch.get_logger().level
    downloads.fetch_weights(describe_file(server.address), cache)
    assert pooch.get_logger().level == level


def test_pooch_is_imported_by_a_download_only() -> None:
    command = "import sys, detectime.storage.downloads; print({'pooch', 'requests', 'urllib3'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout == "set()\n"


def test_other_users_can_read_the_file(server: Server, cache: Path) -> None:
    path = downloads.fetch_weights(describe_file(server.address), cache)
    plain = cache / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["hash", "no hash"])
def test_a_cut_connection_is_tried_again_with_a_warning(
    sha256: str | None, server: Server, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.cuts = [1_000_000]
    assert_complete(downloads.fetch_weights(describe_file(server.address, sha256), cache), cache)
    assert len(server.asked) == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"{NAME}: IncompleteRead(1000000 bytes read, 2000000 more expected); trying ")
    assert warning.endswith(f"{server.address} again in 0.001 s")


@pytest.mark.parametrize("statuses", [[503, 500, 429], [302]], ids=str)
def test_a_transient_status_is_tried_again(statuses: list[int], server: Server, cache: Path) -> None:
    server.statuses = list(statuses)
    assert_complete(downloads.fetch_weights(describe_file(server.address), cache), cache)
    assert len(server.asked) == 1 + len(statuses)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_lasting_status_is_one_error_with_the_remedy(
    status: int, server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.statuses = [status]
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "mine"))
    with pytest.raises(WeightsError) as refusal:
        downloads.fetch_weights(describe_file(server.address), cache)
    assert len(server.asked) == 1
    for word in (NAME, server.address, f"HTTP {status}", f"put {NAME} into {tmp_path / 'mine'}"):
        assert word in str(refusal.value)
    assert list_cache(cache) == []


def test_offline_is_one_error_with_the_remedy(cache: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/{NAME}"
    with pytest.raises(WeightsError) as refusal:
        downloads.fetch_weights(describe_file(address), cache)
    assert str(refusal.value) == (
        f"{NAME}: weights are missing and cannot be downloaded from {address}: [Errno {errno.ECONNREFUSED}] "
        f"Connection refused; put {NAME} into {tmp_path / 'model'}, or into a folder named by the environment variable "
        "DETECTIME_WEIGHTS"
    )


def test_a_server_that_always_cuts_is_given_up(server: Server, cache: Path) -> None:
    server.cuts = [1_000_000] * 20
    with pytest.raises(WeightsError, match=r"IncompleteRead\(1000000 bytes read, 2000000 more expected\)"):
        downloads.fetch_weights(describe_file(server.address), cache)
    assert len(server.asked) == 5
    assert list_cache(cache) == []


def test_a_server_that_falls_silent_is_given_up(server: Server, cache: Path) -> None:
    server.pause = 1.0
    retries = downloads.Retries(attempts=2, pause=0.001, timeout=0.2)
    with pytest.raises(WeightsError, match="timed out"):
        downloads.fetch_weights(describe_file(server.address), cache, retries)
    assert list_cache(cache) == []


@pytest.mark.parametrize("address", ["/a/folder", "ftp://host/file", "http://", "http://[::1/file"])
def test_an_invalid_address_is_an_error_at_once(address: str, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WeightsError, match=f"{NAME}: weights are missing and cannot be downloaded from "):
        downloads.fetch_weights(describe_file(address), cache)
    assert not caplog.records


@pytest.mark.parametrize("content", [b"<html>Log in to this network</html>", CONTENT[:-1] + b"!"], ids=["page", "bit"])
def test_another_file_is_refused_and_not_kept(content: bytes, server: Server, cache: Path) -> None:
    server.content = content
    with pytest.raises(WeightsError) as refusal:
        downloads.fetch_weights(describe_file(server.address), cache)
    assert f"expected {SHA256} but got {hashlib.sha256(content).hexdigest()}; put {NAME} into" in str(refusal.value)
    assert len(server.asked) == 1
    assert list_cache(cache) == []


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT[:1000])
    assert_complete(downloads.fetch_weights(describe_file(server.address), cache), cache)


def test_a_failed_download_keeps_the_file_in_the_cache(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(b"other weights")
    server.statuses = [404]
    with pytest.raises(WeightsError, match="HTTP 404"):
        downloads.fetch_weights(describe_file(server.address), cache)
    assert (cache / NAME).read_bytes() == b"other weights"


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["hash", "no hash"])
def test_a_folder_of_the_user_takes_precedence(
    sha256: str | None, server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(b"the weights used so far")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "mine"))
    assert_complete(downloads.fetch_weights(describe_file(server.address, sha256), cache), cache)
    assert server.asked == []
    (tmp_path / "mine" / NAME).unlink()
    assert_complete(downloads.fetch_weights(describe_file(server.address, sha256), cache), cache)
    assert server.asked == []


@pytest.mark.parametrize(
    ("address", "remedy"),
    [("http://127.0.0.1:9", "delete it to download the right file"), (None, "replace it with the right file")],
)
def test_other_weights_in_a_folder_of_the_user_are_refused(address: str | None, remedy: str, cache: Path) -> None:
    model = paths.find_model_folder()
    model.mkdir()
    (model / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=f"{model / NAME}: wrong or damaged weights.*{SHA256}; {remedy}$"):
        downloads.fetch_weights(describe_file(address), cache)
    assert (model / NAME).read_bytes() == CONTENT[:-1]


def test_a_mirror_replaces_every_address(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=f"{NAME}: weights are missing. They come from somebody's repository; put"):
        downloads.fetch_weights(describe_file(None), cache)
    monkeypatch.setenv("DETECTIME_MIRROR", server.address.removesuffix(f"files/{NAME}") + "mirror/")
    assert_complete(downloads.fetch_weights(describe_file(None, None), cache), cache)
    assert server.asked == [(f"/mirror/{NAME}", None)]


def test_downloads_through_a_proxy(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address.removesuffix(f"/files/{NAME}"))
    address = f"http://weights.invalid/{NAME}"
    assert_complete(downloads.fetch_weights(describe_file(address), cache), cache)
    assert server.asked == [(address, None)]


@pytest.mark.parametrize("pool_type", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_only_one_of_many_callers_downloads(pool_type: Any, server: Server, cache: Path) -> None:
    spawn = {"mp_context": multiprocessing.get_context("spawn")} if pool_type is ProcessPoolExecutor else {}
    with pool_type(2, **spawn) as pool:
        file = describe_file(server.address)
        for path in pool.map(downloads.fetch_weights, [file] * 6, [cache] * 6):
            assert_complete(path, cache)
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="cannot write the weights: Not a directory"):
        downloads.fetch_weights(describe_file(server.address), tmp_path / "file" / "cache")


def test_a_full_disk_is_an_error_and_not_tried_again(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WeightsError, match="cannot write the weights: No space left on device"):
        downloads.fetch_weights(describe_file(server.address), cache)
    assert len(server.asked) == 1
    assert list_cache(cache) == []


def test_weights_that_only_the_user_can_supply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_hagrid_weights_are_downloaded_once_into_the_user_s_folder(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, spec = hagrid.WEIGHTS.name, HANDS["hagrid"]
    landmarks = downloads.find_packaged_weights("hand_landmark.onnx")
    with serve_file((shared / "weights" / name).read_bytes()) as server:
        monkeypatch.setenv("DETECTIME_MIRROR", server.address)
        for _ in range(2):
            assert spec.find_weights(DetectionConfig()) == [tmp_path / "model" / name, landmarks]
            assert spec.fingerprint(DetectionConfig()) == {
                name: hagrid.WEIGHTS.sha256,
                landmarks.name: downloads.hash_file(landmarks),
            }
    assert server.asked == [(f"/{name}", None)]
    spec.build(DetectionConfig(), "cpu")  # works without the server
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(shared / "weights"))
    assert spec.find_weights(DetectionConfig()) == [shared / "weights" / name, landmarks]


def test_other_hagrid_weights_are_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = hagrid.WEIGHTS.name
    monkeypatch.setenv("DETECTIME_MIRROR", server.address)
    with pytest.raises(WeightsError, match=f"{name}: .*expected {hagrid.WEIGHTS.sha256} but got {SHA256}"):
        HANDS["hagrid"].build(DetectionConfig(), "cpu")
    assert not (tmp_path / "model" / name).exists()
    (tmp_path / "model" / name).write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=f"model/{name}: wrong or damaged weights.*{hagrid.WEIGHTS.sha256}"):
        HANDS["hagrid"].build(DetectionConfig(), "cpu")


@pytest.mark.parametrize(
    ("spec", "file"), [(HANDS["hagrid"], "hand_detector.onnx"), (FACES["yunet"], "yunet_n_dynamic.onnx")]
)
def test_offline_without_weights_the_error_has_the_remedy(
    spec: DetectorSpec, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens on this port
    with pytest.raises(WeightsError) as refusal:
        spec.build(DetectionConfig(), "cpu")
    for words in (
        f"{file}: weights are missing and cannot be downloaded from https://",
        "Connection refused",
        f"put {file} into {tmp_path / 'model'}, or into a folder named by the environment variable DETECTIME_WEIGHTS",
    ):
        assert words in str(refusal.value)


def test_a_misspelled_folder_is_not_created(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "mien"))
    assert downloads.find_or_fetch_weights(describe_file(server.address)) == tmp_path / "model" / NAME
    assert not (tmp_path / "mien").exists()


def test_a_relative_folder_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTIME_WEIGHTS", "mine")
    monkeypatch.chdir(tmp_path)
    assert downloads.list_weights_folders() == [tmp_path / "mine", paths.find_model_folder()]


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TORCH_HOME": "/t", "XDG_CACHE_HOME": "/x"}, "/t/hub/checkpoints"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/torch/hub/checkpoints"),
        ({}, "/h/.cache/torch/hub/checkpoints"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_torch_cache_is_the_folder_that_torch_uses(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/h", **variables}.items():
        monkeypatch.setenv(name, value)
    assert downloads.find_torch_cache() == Path(folder)


@pytest.mark.parametrize(
    "file",
    [face_detection.WEIGHTS["RetinaNetMobileNetV1"], hagrid.WEIGHTS, yunet.WEIGHTS, label_check.WEIGHTS],
    ids=lambda f: f.name,
)
def test_the_published_hash_is_that_of_the_file(file: WeightsFile, shared: Path) -> None:
    assert downloads.hash_file(shared / "weights" / file.name) == file.sha256


@pytest.mark.parametrize("detector_type", [*face_detection.WEIGHTS])
def test_weights_in_a_folder_of_the_user_are_in_the_fingerprint(
    detector_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = face_detection.WEIGHTS[detector_type]
    paths.find_model_folder().mkdir()
    (paths.find_model_folder() / file.name).write_bytes(CONTENT)
    spec = FACES[detector_type]
    if file.sha256 is None:
        assert spec.fingerprint(DetectionConfig(detector_type=detector_type)) == {file.name: SHA256}
        assert (tmp_path / "torch" / "hub" / "checkpoints" / file.name).read_bytes() == CONTENT
    else:
        with pytest.raises(WeightsError, match="wrong or damaged weights"):
            spec.fingerprint(DetectionConfig(detector_type=detector_type))


@pytest.fixture
def closed_mirror(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let every download fail; returns the address that is tried."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("DETECTIME_MIRROR", address)
    return address


def assert_names_the_weights(message: str, address: str, folder: Path) -> None:
    found = re.search(r"(\w+\.onnx): weights are missing and cannot be downloaded from (\S+): ", message)
    assert found, message
    assert found[2] == f"{address}/{found[1]}"
    assert f"put {found[1]} into {folder}, or into a folder named by" in message


@pytest.mark.parametrize("word", ["fast", "best"])
def test_a_quality_without_its_weights_is_refused_before_work_starts(
    word: str, closed_mirror: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv", "output": tmp_path / "out"}
    options = [text for name, value in place.items() for text in (f"--{name}", str(value))]
    assert cli.main(["run", "--dry-run", "--quality", word, *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert_names_the_weights(line, closed_mirror, tmp_path / "model")
    assert not (tmp_path / "out").exists()

    config = load_config(None, {**place, "quality": word})
    source = FolderSource(config.data.images)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    with pytest.raises(WeightsError) as refusal:
        run.detect_frames(table, source, config, config.data.output)
    assert_names_the_weights(str(refusal.value), closed_mirror, tmp_path / "model")
    assert list((tmp_path / "out").rglob("*.parquet")) == []


def test_the_balanced_quality_needs_no_download(closed_mirror: str) -> None:
    choose_detectors(load_config(None, {"quality": "balanced"}).detection).prepare([])
