"""`HandsDataset`: a run or an export as a PyTorch dataset."""

from __future__ import annotations

import gc
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import buckets
import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import count_open_files, draw_noise, encode_image, make_detection_row
from finished_runs import copy_run
from PIL import Image
from skips import need_extra

from detectime import decision_files, outcomes, runs, sources
from detectime.config import RunConfig, load_config
from detectime.decisions import Decision, format_time
from detectime.detection import run as detection_run
from detectime.detection.engines.contract import Shard, ShardQueue
from detectime.detection.manifest import RunError
from detectime.detectors.registry import Chosen
from detectime.exports.export import export_run
from detectime.images import RGB, decode_image
from detectime.labels import frame_table
from detectime.runs import FinishedRun
from detectime.schema import DETECTIONS
from detectime.sources.contract import Source
from detectime.sources.reading import read_images
from detectime.splits import SplitError, write_split

torch = need_extra("torch")
v2 = need_extra("torchvision.transforms.v2")
from torch.utils.data import DataLoader  # noqa: E402  # after the check that it is there

from detectime.dataset import DatasetError, GroupSampler, HandsDataset, SampleError  # noqa: E402

pytestmark = pytest.mark.extra

SIZE = (160, 120)
CLASSES = ("stop", "mute", "ok")


class KnownHands:
    """An engine that reads frames, and finds a face and, at a place that depends on the frame, a hand."""

    def __call__(
        self, shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
    ) -> Iterator[tuple[Shard, pa.Table]]:
        while shards:
            shard = shards.popleft()
            exif = chosen.config.exif
            rows = [self.make_row(*read) for read in read_images(source, shard, exif=exif, max_pixels=10**6)]
            yield shard, pa.Table.from_pylist(rows, schema=DETECTIONS)

    def make_row(self, frame_path: str, image: Any) -> dict[str, Any]:
        if isinstance(image, Exception):
            return make_detection_row(frame_path, outcome="missing")
        left = 20 + sum(frame_path.encode()) % 30
        hand = (left + 0.25, 30.5, left + 40.0, 79.75)
        row = make_detection_row(frame_path, [(10, 10, 60, 60)], [hand], (image.width, image.height))
        return row | {"content": image.content, "orientation": image.orientation}


def detect(images: Path | str, output: Path, names: list[str], **parameters: Any) -> FinishedRun:
    """Make a run over these frames; a frame's group is its folder, or its video, and its class that of the group."""
    groups = [name.rpartition("/")[0] for name in names]
    classes = [CLASSES[sum(group.encode()) % 3] for group in groups]
    labels = output.with_suffix(".csv")
    columns = {"video_name": groups, "frame_id": range(len(names)), "class_name": classes, "frame_path": names}
    pd.DataFrame(columns).to_csv(labels, index=False)
    given = {"images": str(images), "labels": str(labels), "output": str(output)} | parameters
    config = load_config(parameters=given)
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    detection_run.detect_frames(table, source, config, str(output), KnownHands())  # type: ignore[arg-type]
    finished = runs.open_run(output)
    outcomes.pair_run(finished)
    return finished


def write_frames(folder: Path, groups: int = 6, each: int = 4) -> list[str]:
    """Write frames of noise, every third of which is stored lying on its side."""
    names = [f"person_{group}/{number}.jpg" for group in range(groups) for number in range(each)]
    for seed, name in enumerate(names):
        picture = Image.fromarray(draw_noise(*SIZE, seed))
        exif = Image.Exif()
        if seed % 3 == 0:
            exif[0x0112] = 6
            picture = picture.rotate(90, expand=True)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_image(picture, "JPEG", quality=95, exif=exif))
    return names


def write_videos(folder: Path, count: int, each: int) -> list[str]:
    """Write short videos of noise."""
    av = need_extra("av")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        with av.open(str(folder / f"{number:02}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.options = {"g": "4", "preset": "ultrafast"}
            for frame in range(each):
                small = draw_noise(8, 6, 1000 * number + frame)
                pixels = cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return [f"{number:02}.mp4/{frame:06}" for number in range(count) for frame in range(each)]


def make_folder_run(folder: Path) -> FinishedRun:
    return detect(folder / "images", folder / "run", write_frames(folder / "images"))


def make_archive_run(folder: Path) -> FinishedRun:
    names = write_frames(folder / "images")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name in names:
            archive.write(folder / "images" / name, name)
    return detect(folder / "images.zip", folder / "run", names)


def make_video_run(folder: Path, count: int = 3, each: int = 8) -> FinishedRun:
    names = write_videos(folder / "videos", count, each)
    return detect(folder / "videos", folder / "run", names, source_type="videos")


SOURCES = {"folder": make_folder_run, "archive": make_archive_run, "videos": make_video_run}


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    return make_folder_run(tmp_path)


@pytest.fixture(scope="module")
def sample_run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Open a run on the sample."""
    return copy_run(sample_run, tmp_path_factory.mktemp("sample") / "run")


def read_hands(run: FinishedRun) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run.store.get("hands.json") or b"")
    return found


def read_frame(run: FinishedRun, frame_path: str) -> RGB:
    """Read a frame upright."""
    images = sources.open_source(run.config.data.images, run.config.data.source_type)
    ((_, image),) = read_images(images, [frame_path], max_pixels=10**6)
    assert not isinstance(image, Exception)
    return image.read_pixels()


def to_arrays(dataset: HandsDataset) -> list[RGB]:
    return [np.asarray(image) for image, _ in dataset]


def are_equal(a: list[RGB], b: list[RGB]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# -- what it holds


@pytest.mark.parametrize("kind", SOURCES)
def test_a_sample_is_the_bbox_of_hands_json(kind: str, tmp_path: Path) -> None:
    run = SOURCES[kind](tmp_path)
    hands, dataset = read_hands(run), HandsDataset(run)
    assert len(dataset) == len(hands) == 24
    for hand, (image, target) in zip(hands, dataset, strict=True):
        x1, y1, x2, y2 = hand["bbox"]
        assert np.array_equal(image, read_frame(run, hand["frame_path"])[y1:y2, x1:x2])
        assert image.mode == "RGB"
        assert dataset.class_to_idx[dataset.classes[target]] == target
    assert dataset.labels.tolist() == [hand["label"] for hand in hands]
    assert dataset.groups.tolist() == [hand["video_name"] for hand in hands]


def test_a_frame_that_lies_on_its_side_is_cut_upright(run: FinishedRun) -> None:
    first = read_hands(run)[0]
    x1, y1, x2, y2 = first["bbox"]
    stored = Path(run.config.data.images, first["frame_path"]).read_bytes()
    assert Image.open(io.BytesIO(stored)).size == SIZE[::-1]
    upright = np.rot90(decode_image(stored, exif="ignore"), -1)
    assert np.array_equal(HandsDataset(run)[0][0], upright[y1:y2, x1:x2])


def test_frames_are_read_as_detection_read_them(tmp_path: Path) -> None:
    names = write_frames(tmp_path / "images", 3, 1)
    stored = HandsDataset(detect(tmp_path / "images", tmp_path / "run", names, exif="ignore"))
    (note,) = (note for note in stored.notes if note.kind == "turned")
    assert (note.count, note.example) == (1, "person_0/0.jpg")
    for (image, _), row in zip(stored, stored.samples.to_dict("records"), strict=True):
        pixels = decode_image((tmp_path / "images" / row["frame_path"]).read_bytes(), exif="ignore")
        assert pixels.shape[1::-1] == (row["width"], row["height"])
        assert np.array_equal(image, pixels[row["y1"] : row["y2"], row["x1"] : row["x2"]])
    assert not [note for note in HandsDataset(tmp_path / "run", only="all").notes if note.kind == "unchecked"]


def test_the_hand_is_cut_out_by_option(run: FinishedRun) -> None:
    samples = run.outcomes
    corners = samples[["hand_x1", "hand_y1", "hand_x2", "hand_y2"]].to_numpy()
    sizes = [image.size for image, _ in HandsDataset(run, box="hand")]
    expected = np.ceil(corners[:, 2:]) - np.floor(corners[:, :2])
    assert sizes == [tuple(size) for size in expected.astype(int).tolist()]
    enlarged = (samples["class_name"] == "mute").to_numpy()
    wider = [image.size[0] for image, _ in HandsDataset(run)] > expected[:, 0]
    assert enlarged.any()
    assert wider.tolist() == enlarged.tolist()


def test_targets_are_indices_or_labels(run: FinishedRun) -> None:
    by_index, by_label = HandsDataset(run), HandsDataset(run, target="label")
    assert by_index.classes == by_label.classes == ["stop", "victory", "mute", "ok", "like", "dislike"]
    assert by_index.class_to_idx == {name: index for index, name in enumerate(by_index.classes)}
    for dataset in (by_index, by_label):
        assert [target for _, target in dataset] == dataset.targets.tolist()
    assert (by_label.targets == by_index.targets + 1).all()  # no_gesture, which is not wanted, is 0
    assert [by_index.classes[index] for index in by_index.targets] == by_index.samples["class_name"].tolist()


def test_weights_make_up_for_unequal_classes(run: FinishedRun) -> None:
    dataset = HandsDataset(run)
    weights, counts = dataset.class_weights(), np.bincount(dataset.targets, minlength=6)
    assert weights.dtype == torch.float32
    assert weights.shape == (6,)
    assert (weights.numpy() > 0).tolist() == (counts > 0).tolist()
    np.testing.assert_allclose(np.ptp((weights.numpy() * counts)[counts > 0]), 0, atol=1e-4)
    assert weights[weights > 0].mean() == pytest.approx(1)
    by_label = HandsDataset(run, target="label").class_weights()
    assert by_label.tolist() == [0, *weights.tolist()]
    assert [str(note) for note in dataset.notes] == ["3 classes have no samples (the first: 'victory')"]


def test_samples_is_a_table_that_changes_nothing(run: FinishedRun) -> None:
    dataset = HandsDataset(run)
    table = dataset.samples
    first = read_hands(run)[0]
    assert table.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == first["bbox"]
    assert table.loc[0, "frame_path"] == first["frame_path"]
    assert (table["split"] == "").all()
    assert (table[["width", "height"]].to_numpy() == SIZE).all()
    table["x1"] = 0
    assert dataset.samples.loc[0, "x1"] == first["bbox"][0]


def test_indices_are_those_of_a_list(run: FinishedRun) -> None:
    dataset = HandsDataset(run)
    assert np.array_equal(dataset[-1][0], dataset[len(dataset) - 1][0])
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    order = [5, 0, 23, 5, 11]
    batch = dataset.__getitems__(order)
    assert are_equal([np.asarray(image) for image, _ in batch], [np.asarray(dataset[k][0]) for k in order])
    assert [target for _, target in batch] == dataset.targets[order].tolist()


def test_a_part_of_the_split(run: FinishedRun) -> None:
    groups = [f"person_{number}" for number in range(6)]
    split = pd.DataFrame({"video_name": groups, "split": ["train"] * 4 + ["val"] * 2})
    write_split(run.store, split)
    parts = {name: HandsDataset(run, split=name) for name in ("train", "val")}
    assert {name: sorted(set(part.groups)) for name, part in parts.items()} == {"train": groups[:4], "val": groups[4:]}
    assert len(HandsDataset(run)) == len(parts["train"]) + len(parts["val"])
    everything = dict(zip(HandsDataset(run).samples["frame_path"], to_arrays(HandsDataset(run)), strict=True))
    for part in parts.values():
        assert part.classes == parts["train"].classes
        assert are_equal(to_arrays(part), [everything[name] for name in part.samples["frame_path"]])
    with pytest.raises(DatasetError, match=r"split = 'vall': there is no such part; did you mean 'val'\? accepted: tr"):
        HandsDataset(run, split="vall")


def test_a_split_that_leaks_is_refused(tmp_path: Path) -> None:
    """A copy was added in another folder, and a person put both folders into different parts."""
    names = write_frames(tmp_path / "images")
    shutil.copy(tmp_path / "images" / names[0], tmp_path / "images" / names[-1])
    run = detect(tmp_path / "images", tmp_path / "run", names)
    groups = sorted({name.partition("/")[0] for name in names})
    write_split(run.store, pd.DataFrame({"video_name": groups, "split": ["train"] * 5 + ["val"]}))
    for given in (run, str(run.store)):
        with pytest.raises(SplitError, match=f"hold the same frame: '{names[0]}' and '{names[-1]}'"):
            HandsDataset(given, split="train", allow_similar=True)
    assert len(HandsDataset(run)) == len(names)  # nothing is tested with
    write_split(run.store, pd.DataFrame({"video_name": groups, "split": ["val"] + ["train"] * 4 + ["val"]}))
    notes = HandsDataset(run, split="train").notes
    assert "unknown_hash" in {note.kind for note in notes}


def decide(run: FinishedRun, frame_path: str, action: Any, **more: Any) -> None:
    log = decision_files.DecisionLog(run.store, "anna")
    log.append(Decision(format_time(), "anna", action, frame_path, None, None, "ok", **more))


def test_decisions_count_once_the_run_is_paired(run: FinishedRun) -> None:
    first, second, *_ = read_hands(run)
    decide(run, first["frame_path"], "box", box=(100.0, 50.0, 130.0, 90.0))
    with pytest.raises(RunError, match=r"made since this run was paired; .*outcomes\.pair_run\(run\)"):
        HandsDataset(run)
    outcomes.pair_run(run)
    dataset = HandsDataset(run, box="hand")
    assert np.array_equal(dataset[0][0], read_frame(run, first["frame_path"])[50:90, 100:130])
    assert len(dataset) == 24
    reviewed = HandsDataset(run, only="reviewed")
    assert reviewed.samples["frame_path"].tolist() == [first["frame_path"]]
    assert reviewed.samples["decision"].tolist() == ["box"]
    decide(run, second["frame_path"], "label", class_name="no_gesture")
    outcomes.pair_run(run)
    assert len(HandsDataset(run)) == 23


# -- frames that are not what detection read


def find_path(run: FinishedRun, index: int) -> Path:
    return Path(run.config.data.images, read_hands(run)[index]["frame_path"])


def replace_frame(path: Path) -> None:
    path.write_bytes(encode_image(draw_noise(*SIZE, 99), "JPEG"))


def load_with_worker(dataset: HandsDataset) -> str:
    """Return the message of the error that loading with a worker raises."""
    loader = DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=list, multiprocessing_context="fork")
    try:
        list(loader)
    except SampleError as error:
        return str(error.with_traceback(None))  # which would keep the iterator, so that its end takes five seconds
    return ""


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "No such file"),
    "replaced": (replace_frame, r"the file changed since detection \(size and CRC-32 \d+-[0-9a-f]{8}, now \d+-"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:2000]), "changed since detection"),
    "no picture": (lambda path: path.write_bytes(b"hello"), "text, not an image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_frame_that_is_not_what_was_detected_is_named(fault: str, run: FinishedRun) -> None:
    spoil, reason = FAULTS[fault]
    path = find_path(run, 4)
    spoil(path)
    dataset = HandsDataset(run)
    message = rf"images: 'person_1/0\.jpg': .*{reason}.*; restore it, or run detection again with the output .*run"
    with pytest.raises(SampleError, match=message):
        dataset[4]
    dataset[3], dataset[5]
    assert re.search(rf"(?s)Caught SampleError in DataLoader worker process 0.*{message}", load_with_worker(dataset))


def test_a_run_without_contents_compares_sizes(tmp_path: Path) -> None:
    """Runs of 0.2 did not record contents."""
    names = write_frames(tmp_path / "images", 1, 2)
    run = detect(tmp_path / "images", tmp_path / "run", names)
    table = run.read_detections()
    table = table.set_column(2, DETECTIONS.field("content"), pa.nulls(len(table), pa.string()))
    with run.store.writing("detections.parquet") as file:
        pa.parquet.write_table(table, file)
    dataset = HandsDataset(run)
    assert dataset.notes[0].kind == "unchecked"
    assert dataset.notes[0].count == 2
    assert len(to_arrays(dataset)) == 2
    find_path(run, 0).write_bytes(encode_image(draw_noise(80, 60), "JPEG"))
    with pytest.raises(SampleError, match="it has 80 × 60 pixels instead of 160 × 120"):
        dataset[0]


def test_videos_are_checked_before_training_and_when_they_are_replaced(tmp_path: Path) -> None:
    run = make_video_run(tmp_path)
    dataset = HandsDataset(run)
    path, other = (tmp_path / "videos" / name for name in ("01.mp4", "02.mp4"))
    before, content = to_arrays(dataset), path.read_bytes()
    shutil.copy(other, path)
    with pytest.raises(SampleError, match=r"'01\.mp4/0+': the file changed since detection"):
        HandsDataset(run)
    with pytest.raises(SampleError, match=r"'01\.mp4/0+': the file changed since detection"):
        dataset[8]
    dataset[0]
    path.write_bytes(content)
    assert are_equal(to_arrays(dataset), before)
    path.unlink()
    with pytest.raises(SampleError, match=r"'01\.mp4/0+': .*; restore it"):
        HandsDataset(run)


# -- workers


def count_black(image: Image.Image) -> int:
    """Count pixels: a transform that can be sent to workers."""
    return int((np.asarray(image) == 0).sum())


METHODS = [
    *(("fork", kind) for kind in SOURCES),
    *(pytest.param("spawn", kind, marks=pytest.mark.slow) for kind in ("archive", "videos")),
    pytest.param("forkserver", "folder", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("method", "kind"), METHODS)
def test_workers_read_the_same(method: str, kind: str, tmp_path: Path) -> None:
    dataset = HandsDataset(SOURCES[kind](tmp_path), transform=count_black)
    expected = [dataset[k] for k in range(len(dataset))]
    loader = DataLoader(
        dataset, batch_size=5, num_workers=2, multiprocessing_context=method, persistent_workers=True, shuffle=True
    )
    for _ in range(2):
        found = [pair for values, targets in loader for pair in zip(values.tolist(), targets.tolist(), strict=True)]
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("s3_server")
def test_workers_read_a_bucket(method: str, tmp_path: Path) -> None:
    bucket, names = buckets.make_bucket(), write_frames(tmp_path / "images", 2)
    buckets.upload(tmp_path / "images", f"{bucket}/images")
    dataset = HandsDataset(detect(f"{bucket}/images", tmp_path / "run", names), transform=count_black)
    expected = [dataset[k] for k in range(len(dataset))]  # so that this process has a connection that it must not share
    loader = DataLoader(dataset, batch_size=3, num_workers=2, multiprocessing_context=method)
    found = [pair for values, targets in loader for pair in zip(values.tolist(), targets.tolist(), strict=True)]
    assert found == expected


def test_a_copy_for_a_worker_holds_no_tables(run: FinishedRun) -> None:
    sent = pickle.dumps(HandsDataset(run))
    assert b"pandas" not in sent
    assert len(sent) < 10_000 + 24 * 200
    assert are_equal(to_arrays(pickle.loads(sent)), to_arrays(HandsDataset(run)))


def test_workers_import_no_pandas() -> None:
    script = "import detectime.dataset, sys; print([name for name in ('pandas', 'onnxruntime') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["archive", "videos"])
def test_no_file_stays_open(kind: str, tmp_path: Path) -> None:
    run = make_video_run(tmp_path, 40, 2) if kind == "videos" else make_archive_run(tmp_path)
    dataset = HandsDataset(run)
    gc.collect()
    before = count_open_files()
    order = np.random.default_rng(0).integers(0, len(dataset), 300)
    for index in order:
        dataset[index]
    dataset.__getitems__(order[:64])
    assert count_open_files() == before


def test_an_error_leaves_no_file_open(tmp_path: Path) -> None:
    dataset = HandsDataset(make_archive_run(tmp_path))
    dataset._reader.sizes[3] = 7
    gc.collect()
    before = count_open_files()
    with pytest.raises(SampleError) as caught:
        dataset.__getitems__(range(10))
    assert count_open_files() == before, caught  # while the error, which refers to the reader, still exists


# -- samplers


GROUPS = np.repeat([f"video {number}" for number in range(5)], [1, 2, 10, 50, 3])


def draw(sampler: GroupSampler) -> list[int]:
    return list(sampler)


def test_an_epoch_holds_a_few_samples_of_each_group() -> None:
    sampler = GroupSampler(SimpleNamespace(groups=GROUPS), per_group=4)
    drawn = draw(sampler)
    assert len(drawn) == len(sampler) == len(set(drawn)) == 1 + 2 + 4 + 4 + 3
    assert pd.Series(GROUPS[drawn]).value_counts().sort_index().tolist() == [1, 2, 4, 4, 3]
    assert GROUPS[drawn].tolist() != sorted(GROUPS[drawn])


def test_epochs_differ_and_can_be_repeated() -> None:
    sampler = GroupSampler(SimpleNamespace(groups=GROUPS), per_group=4, seed=3)
    epochs = [draw(sampler) for _ in range(3)]
    assert len(set(map(tuple, epochs))) == 3
    assert len({index for epoch in epochs for index in epoch}) > len(sampler)
    other = GroupSampler(SimpleNamespace(groups=GROUPS), per_group=4, seed=3)
    other.set_epoch(2)
    assert draw(other) == epochs[2]
    assert draw(GroupSampler(SimpleNamespace(groups=GROUPS), per_group=4, seed=4)) != epochs[0]


def test_a_loader_draws_by_groups(run: FinishedRun) -> None:
    dataset = HandsDataset(run, transform=count_black)
    loader = DataLoader(dataset, batch_size=4, sampler=GroupSampler(dataset, per_group=2))
    assert len(loader) == 3
    assert sum(len(targets) for _, targets in loader) == 12


@pytest.mark.parametrize("number", [0, -1, 2.5, "2", True, None])
def test_a_number_that_draws_nothing_is_refused(number: Any) -> None:
    with pytest.raises(DatasetError, match=f"per_group = {number!r}: accepted: a whole number from 1 on"):
        GroupSampler(SimpleNamespace(groups=GROUPS), per_group=number)


def test_weights_beside_a_sampler_are_those_of_what_it_draws(run: FinishedRun) -> None:
    """A long video counts no more than the sampler draws of it."""
    dataset = HandsDataset(run)
    dataset._samples = dataset._samples.set_column(1, "video_name", pa.array(["long"] * 21 + ["b", "b", "c"]))
    dataset.targets = np.array([0] * 14 + [2] * 7 + [2, 2, 3])
    weights = dataset.class_weights(per_group=3)
    sampler = GroupSampler(dataset, per_group=3)
    drawn = np.bincount(dataset.targets[[index for _ in range(600) for index in sampler]], minlength=6) / 600
    expected = [2, 0, 1 + 2, 1, 0, 0]  # of the long video, three samples in the ratio 2 : 1
    np.testing.assert_allclose(drawn, expected, atol=0.15)
    found = weights.numpy() * expected
    np.testing.assert_allclose(found[[0, 2, 3]], found[0], rtol=1e-5)
    assert not torch.equal(weights, dataset.class_weights())
    with pytest.raises(DatasetError, match="per_group = 0"):
        dataset.class_weights(0)


def test_a_subset_is_drawn_by_groups(run: FinishedRun) -> None:
    dataset = HandsDataset(run)
    subset = torch.utils.data.Subset(dataset, [0, 1, 2, 23, 22])
    drawn = draw(GroupSampler(subset, per_group=1))
    assert {dataset.groups[subset.indices[index]] for index in drawn} == {"person_0", "person_5"}
    assert len(drawn) == 2
    with pytest.raises(DatasetError, match="a list has no `groups`; give a HandsDataset, or a Subset of one"):
        GroupSampler([1, 2], per_group=1)


@pytest.mark.parametrize("index", [1.7, slice(1, 3), None, "1"])
def test_an_index_that_is_no_number_is_refused(index: Any, run: FinishedRun) -> None:
    with pytest.raises(DatasetError, match=r"accepted: a whole number; for a part: torch\.utils.data.Subset"):
        HandsDataset(run)[index]


# -- exports


def test_an_export_of_crops_shows_what_the_run_shows(run: FinishedRun, tmp_path: Path) -> None:
    write_split(
        run.store, pd.DataFrame({"video_name": sorted(set(HandsDataset(run).groups)), "split": ["train", "val"] * 3})
    )
    (export,) = export_run(run, ["imagefolder"], tmp_path / "exports")
    for split in (None, "train", "val"):
        ours, theirs = HandsDataset(run, split=split), HandsDataset(export, split=split)
        assert theirs.classes == ours.classes
        assert theirs.targets.tolist() == ours.targets.tolist()
        pd.testing.assert_frame_equal(theirs.samples.drop(columns="score"), ours.samples.drop(columns="score"))
        for a, b in zip(to_arrays(ours), to_arrays(theirs), strict=True):
            assert a.shape == b.shape
            assert np.abs(a.astype(int) - b).mean() < 6  # noise is what JPEG does worst
    assert len(HandsDataset(export.folder)) == 24


def test_an_export_of_frames_is_cut(sample_run: FinishedRun, tmp_path: Path) -> None:
    (export,) = export_run(sample_run, ["coco"], tmp_path / "exports")
    ours, theirs = HandsDataset(sample_run, box="hand"), HandsDataset(export)
    assert theirs.samples["frame_path"].tolist() == ours.samples["frame_path"].tolist()
    assert are_equal(to_arrays(ours), to_arrays(theirs))  # upright frames are copied byte for byte
    with pytest.raises(DatasetError, match="box = 'bbox': this export has the boxes 'hand'"):
        HandsDataset(export, box="bbox")


def test_a_picture_that_is_another_one_is_named(run: FinishedRun, tmp_path: Path) -> None:
    (export,) = export_run(run, ["imagefolder"], tmp_path / "exports")
    dataset = HandsDataset(export)
    path = Path(export.folder, dataset._reader.names[2].as_py())
    path.write_bytes(encode_image(draw_noise(*SIZE), "JPEG"))
    with pytest.raises(SampleError, match=r"it has 160 × 120 pixels instead of \d+ × \d+; make the export again"):
        dataset[2]


def test_exports_without_files_of_pictures_are_refused(run: FinishedRun, tmp_path: Path) -> None:
    from detectime.exports.contract import ExportConfig

    packed = export_run(run, ["huggingface", "webdataset"], tmp_path / "packed")
    for export, library in zip(packed, ("datasets", "webdataset"), strict=True):
        with pytest.raises(DatasetError, match=rf"packs its pictures, and is loaded by the library '{library}'"):
            HandsDataset(export)
    (tables,) = export_run(run, ["csv"], tmp_path / "tables", ExportConfig(images="none"))
    with pytest.raises(DatasetError, match="this export to csv has no pictures; give the run, or an export to"):
        HandsDataset(tables)


def test_an_unfinished_export_is_refused(run: FinishedRun, tmp_path: Path) -> None:
    (export,) = export_run(run, ["imagefolder"], tmp_path / "exports")
    path = Path(export.folder, "export.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": None}))
    with pytest.raises(DatasetError, match="this export is not finished"):
        HandsDataset(export)


# -- what is refused


@pytest.mark.parametrize("made", [None, 7, b"run"])
def test_what_is_no_place_is_refused(made: Any) -> None:
    with pytest.raises(DatasetError, match="accepted: the folder of a run or of an export"):
        HandsDataset(made)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(DatasetError, match="this is a file; give the folder of a run or of an export"):
        HandsDataset(tmp_path / "run.json")


def test_a_run_without_samples_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"no picture")
    run = detect(tmp_path, tmp_path / "run", ["a/1.jpg"])
    with pytest.raises(DatasetError, match="there is no sample in it: no frame has a hand of a wanted class"):
        HandsDataset(run)


def test_what_is_no_training_set_is_refused(run: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: there is no such folder"):
        HandsDataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"neither a run nor an export \(run\.json and export\.json are missing\)"):
        HandsDataset(tmp_path)
    with pytest.raises(DatasetError, match=r"split = 'train': there is no split; make one: `detectime split .*`, or"):
        HandsDataset(run, split="train")
    with pytest.raises(DatasetError, match=r"no sample with split = None and only = 'reviewed', of 24 in all"):
        HandsDataset(run, only="reviewed")
    for key, value in {"target": "labels", "box": "bbox2", "only": "alll"}.items():
        with pytest.raises(DatasetError, match=rf"{key} = '{value}': did you mean '{value[:-1]}"):
            HandsDataset(run, **{key: value})  # type: ignore[arg-type]


def test_without_torch_the_extra_is_named() -> None:
    script = "import sys; sys.modules['torch'] = None; from detectime.dataset import HandsDataset"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("detectime.dataset.MissingTorchError: detectime.dataset needs the extra `torch`; install it")


# -- training


def make_network(classes: int) -> Any:
    return torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 16, 5, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 5, 2), torch.nn.ReLU()),
        *(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(512, classes)),
    )


PREPARE = v2.Compose([v2.Resize((48, 48)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


@pytest.mark.parametrize("target", ["index", "label"])
def test_weights_fit_the_loss(target: Any, run: FinishedRun) -> None:
    dataset = HandsDataset(run, target=target, transform=PREPARE)
    images, targets = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    assert images.shape == (24, 3, 48, 48)
    weights = dataset.class_weights()
    loss = torch.nn.CrossEntropyLoss(weight=weights)(make_network(len(weights))(images), targets)
    assert torch.isfinite(loss)


@pytest.mark.slow
def test_a_small_network_learns(sample_run: FinishedRun) -> None:
    torch.manual_seed(0)
    dataset = HandsDataset(sample_run, transform=PREPARE)
    loader = DataLoader(dataset, batch_size=20, num_workers=2, persistent_workers=True, shuffle=True)
    network, loss = make_network(len(dataset.classes)), torch.nn.CrossEntropyLoss(dataset.class_weights())
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        epoch = []
        for images, targets in loader:
            value = loss(network(images), targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            epoch.append(value.item())
        losses.append(np.mean(epoch))
    assert losses[-1] < 0.6 * losses[0]
