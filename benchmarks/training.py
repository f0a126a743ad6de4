"""Measure what boxes are worth for training a classifier, and how much a random split flatters.

    python -m benchmarks.training --contest DIR --hagrid DIR --webcam DIR

It needs the extra `torch`, and takes minutes; with OMP_NUM_THREADS=1 also beside other work. A classifier is trained on
one source and tested on another, with the same way of boxing in both. `stop` is any open palm, as in the contest.

Three models: a linear layer on the frozen features of the pretrained network, which is not random; `landmarks`, and
`pretrained`, both as `detectime.classifier.training` trains them, with several seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import measure
from benchmarks.data import Frames
from benchmarks.training_scores import (
    FEWEST_PEOPLE,
    NOTHING_KNOWN,
    estimate_accuracy,
    estimate_difference,
    limit_frames,
)
from benchmarks.worlds import World
from detectime import config as configuration
from detectime import images, pairing, paths
from detectime.boxes import Flags, Floats
from detectime.classifier.crops import cut_hand, fit_square
from detectime.classifier.inputs import Inputs
from detectime.classifier.landmarks import find_landmarks
from detectime.classifier.models import build_model
from detectime.classifier.settings import ModelName, TrainingSettings
from detectime.classifier.training import predict_samples, train_classifier
from detectime.classifier.training_set import TrainingSet
from detectime.config import Config
from detectime.detectors import onnx
from detectime.schema import CORNERS, LANDMARKS

Rows = NDArray[np.int64]

CLASSES = ("stop", "victory", "like", "dislike")
"""The classes that all three sources show."""

WHOLE, BARE, REFERENCE, BEST = "whole frame", "bare hand, rule 2021", "default", "best, fallback: frame"
TRUTH = "truth"
BOXES: dict[str, dict[str, Any] | None] = {
    WHOLE: None,
    BARE: {"rule": "2021"},
    REFERENCE: {},
    BEST: {"quality": "best", "fallback": "frame"},
}
"""Ways of boxing: keys of `config.yml`; None: without a box. In 2021 crops were the bare hand, and not the square
around it that classifiers of the package see."""
SIDES = {WHOLE: 224}  # of the square that a picture is brought to: a hand in a whole frame is small
SIDE = 128

WEBCAM_LABELS: dict[str, dict[str, tuple[int, ...]]] = {
    "p01": {"like": (0, 1, 7, 8)},
    "p02": {"stop": (0, 4, 5, 7)},
    "p03": {"stop": (0, 1, 2, 3, 4, 5, 6)},
    "p04": {"like": (15, 16, 17, 18, 19), "dislike": (10, 11, 12, 13, 14)},
    "p05": {"stop": (9, 10, 11), "like": (0, 1, 2), "victory": (3, 4, 5)},
    "p06": {"stop": (0, 4, 7, 18, 19), "victory": (13, 16)},
}
"""Frames of the webcam source that show a class beyond doubt, by number. Its own labels are all `stop`, whatever the
hand shows; these were given by eye, before anything was trained."""

LINEAR, POINTS, TUNED = "linear layer", "landmarks", "fine-tuned"
SEEDS = 4
_FOLDS = 5
_MOST_ALIKE = 5  # frames of a person and class in the comparison of splits: the contest has 25


@dataclass(frozen=True, eq=False)
class View:
    """What a classifier sees of frames with one way of boxing.

    Attributes
    ----------
    hands
        float64, shape (frames, 4); NaN without a box.
    crops
        uint8, shape (frames, side, side, 3); zero where there is no sample.
    has_sample
        bool, shape (frames,).
    landmarks
        float32, shape (frames, 21, 3); NaN where there are none.
    """

    hands: Floats
    crops: NDArray[np.uint8]
    has_sample: Flags
    landmarks: NDArray[np.float32]

    @functools.cached_property
    def features(self) -> NDArray[np.float32]:
        """What the frozen network says of each crop and of its mirror image: float32, shape (2, frames, 1280)."""
        return np.stack([_compute_features(crops) for crops in (self.crops, np.flip(self.crops, axis=2))])

    def has_input(self, model: str) -> Flags:
        """Return which frames a model can be asked about."""
        return self.has_sample & ~np.isnan(self.landmarks[:, 0, 0]) if model == POINTS else self.has_sample


@dataclass(frozen=True, eq=False)
class Material:
    """Frames of all sources and what each way of boxing gives of them.

    The columns of `frames` are `source`, `frame_path`, `person` and `class_name`.
    """

    frames: pd.DataFrame
    views: Mapping[str, View]

    def find(self, *sources: str) -> Rows:
        """Return the rows of sources."""
        return np.flatnonzero(self.frames["source"].isin(sources))

    @property
    def boxed(self) -> Iterator[tuple[str, str]]:
        """Models and ways of boxing that go together, without fine-tuning."""
        for model in (LINEAR, POINTS):
            for name, view in self.views.items():
                # The points of a bare hand are those of the default.
                if view.has_input(model).any() and (model, name) != (POINTS, BARE):
                    yield model, name


class Trial(NamedTuple):
    """Rows to train on, and rows to test on."""

    train: Rows
    test: Rows


def read_material(sources: Sequence[World], views: Sequence[str] = (*BOXES, TRUTH)) -> Material:
    """Cut the pictures of all sources in each way."""
    tables, found = [], []
    for world in sources:
        table = world.frames.table[world.frames.table["wanted"]]
        tables.append(table[["frame_path", "class_name"]].assign(source=world.frames.title, person=table["video_name"]))
        found.append([_read_view(world, table["frame_path"].tolist(), name) for name in views])
    joined = {
        name: View(*(np.concatenate([getattr(each[k], part) for each in found]) for part in View.__dataclass_fields__))
        for k, name in enumerate(views)
    }
    return Material(pd.concat(tables, ignore_index=True), joined)


def _read_view(world: World, names: list[str], box: str) -> View:
    """Cut the pictures of one source. `truth` is `best` where a source has no annotated boxes."""
    side, count = SIDES.get(box, SIDE), len(names)
    hands, landmarks = np.full((count, 4), np.nan), np.full((count, LANDMARKS, 3), np.nan, np.float32)
    if box != WHOLE:
        settings = configuration.load_config(parameters=BOXES[BEST if box == TRUTH else box] or {})
        samples = world.make_samples(settings)
        if box == TRUTH and world.frames.has_truth:
            truth = world.frames.read_truth(samples).drop_duplicates("frame_path").set_index("frame_path")
            corners = truth.reindex(samples["frame_path"])[list(CORNERS)].to_numpy()
            samples = samples.assign(**{f"hand_{corner}": corners[:, k] for k, corner in enumerate(CORNERS)})
        samples = samples.set_index("frame_path", drop=False).loc[names]
        hands = pairing.get_boxes(samples, "hand")
        landmarks = find_landmarks(samples, world.detect(settings.detection))
    cut = {WHOLE: _cut_nothing, BARE: _cut_bare_hand}.get(box, cut_hand)
    crops, has_sample = np.zeros((count, side, side, 3), np.uint8), np.zeros(count, bool)
    for k, name in enumerate(names):
        if box == WHOLE or not np.isnan(hands[k, 0]):
            crop = cut(images.decode_image((world.frames.images / name).read_bytes()), hands[k], side)
            if crop is not None:
                crops[k], has_sample[k] = crop, True
    return View(hands, crops, has_sample, landmarks)


def _cut_nothing(pixels: images.RGB, hand: Floats, side: int) -> images.RGB | None:
    return fit_square(pixels, side)


def _cut_bare_hand(pixels: images.RGB, hand: Floats, side: int) -> images.RGB | None:
    cut = onnx.crop_region(pixels, hand)
    return None if cut is None else fit_square(cut[0], side)


@functools.cache
def _build_backbone() -> torch.nn.Module:
    network = build_model(TrainingSettings(model="pretrained").resolve(), 2).network.eval()
    cast(Any, network)[-1]._fc = torch.nn.Identity()
    return network


def _compute_features(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    network = _build_backbone()
    with torch.inference_mode():
        batches = (np.ascontiguousarray(crops[k : k + 32]) for k in range(0, len(crops), 32))
        return np.concatenate([network(torch.from_numpy(batch).permute(0, 3, 1, 2)).numpy() for batch in batches])


# -- training and testing


def run_trials(
    material: Material, model: str, box: str, make_trials: Callable[[int], Sequence[Trial]], seeds: int
) -> pd.DataFrame:
    """Train and test with each seed.

    Parameters
    ----------
    material
        The frames.
    model, box
        The model and the way of boxing.
    make_trials
        Called with a seed; returns what to train and test on. The tested frames are the same with each seed.
    seeds
        Number of seeds.

    Returns
    -------
    DataFrame
        Results: see `training_scores`; also `source`, and what each seed found (`seed_0`, …), of which `right` is the
        mean.
    """
    view = material.views[box]
    usable = view.has_input(model)
    names = material.frames["class_name"].to_numpy(object)
    found = np.full((seeds, len(names)), np.nan)
    for seed in range(seeds):
        for trial in make_trials(seed):
            found[seed, trial.test] = 0.0  # also without a sample
            asked = trial.test[usable[trial.test]]
            if len(asked):
                predicted = _PREDICT[model](material, view, trial.train[usable[trial.train]], asked, seed)
                found[seed, asked] = predicted == names[asked]
    tested = np.flatnonzero(~np.isnan(found[0]))
    results = material.frames.iloc[tested].reset_index(drop=True)
    seen = {f"seed_{seed}": found[seed, tested] for seed in range(seeds)}
    return results.assign(has_sample=usable[tested], right=found[:, tested].mean(axis=0), **seen)


def _predict_linear(material: Material, view: View, train: Rows, test: Rows, seed: int) -> NDArray[np.object_]:
    """Predict with a linear layer on frozen features, trained on the crops and their mirror images."""
    names = material.frames["class_name"].to_numpy(object)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    head.fit(view.features[:, train].reshape(-1, view.features.shape[-1]), np.tile(names[train], 2))
    predicted: NDArray[np.object_] = head.predict(view.features[0, test])
    return predicted


def _predict_trained(
    name: ModelName, material: Material, view: View, train: Rows, test: Rows, seed: int
) -> NDArray[np.object_]:
    """Predict with a model of the package."""
    samples = material.frames.rename(columns={"person": "video_name"})
    classes = sorted(set(samples["class_name"].iloc[train]))
    found = TrainingSet(
        dataset=cast(Any, None),  # training reads none
        samples=samples,
        classes=tuple(classes),
        numbers=tuple(range(len(classes))),
        targets=pd.Index(classes).get_indexer(pd.Index(samples["class_name"])).astype(np.int64),
        train=train,
        validation=np.empty(0, np.int64),
        test=test,
        parts="",
        landmarks=None,
        notes=(),
    )
    settings = TrainingSettings(model=name, seed=seed).resolve()
    inputs = Inputs(view.landmarks if name == "landmarks" else view.crops, found)
    with contextlib.redirect_stdout(io.StringIO()):  # progress
        trained = train_classifier(inputs, settings)
    return predict_samples(trained, inputs, test)["predicted"].to_numpy(object)


_PREDICT: dict[str, Callable[[Material, View, Rows, Rows, int], NDArray[np.object_]]] = {
    LINEAR: _predict_linear,
    POINTS: functools.partial(_predict_trained, "landmarks"),
    TUNED: functools.partial(_predict_trained, "pretrained"),
}


def split_randomly(frames: pd.DataFrame, rows: Rows, folds: int, seed: int) -> list[Trial]:
    """Split rows into folds at random, each class alike; each fold is tested once."""
    split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, frames["class_name"].iloc[rows])
    return [Trial(rows[train], rows[test]) for train, test in split]


def split_by_person(frames: pd.DataFrame, rows: Rows, folds: int, seed: int) -> list[Trial]:
    """Split rows into folds of whole people, with classes as alike as that allows; each fold is tested once."""
    chosen = frames.iloc[rows]
    folded = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    split = folded.split(rows, chosen["class_name"], chosen["person"])
    return [Trial(rows[train], rows[test]) for train, test in split]


def _repeat(trial: Trial) -> Callable[[int], Sequence[Trial]]:
    return lambda _: [trial]


# -- tables


def print_boxes(material: Material, sources: Sequence[str], seeds: int) -> None:
    """Print a table for each source to train on and each other one to test on, and one of all tests on many people."""
    pooled: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for train in sources:
        trial = Trial(material.find(train), material.find(*(name for name in sources if name != train)))
        # Nothing is random about the linear layer here.
        ways = [(model, box, 1 if model == LINEAR else seeds) for model, box in material.boxed]
        if train == sources[0]:  # a training takes half a minute
            ways += [(TUNED, box, seeds) for box in (WHOLE, REFERENCE, TRUTH)]
        found = {(model, box): run_trials(material, model, box, _repeat(trial), n) for model, box, n in ways}
        for test in sources:
            if test != train:
                part = {key: results[results["source"] == test] for key, results in found.items()}
                _print_boxes(f"Trained on {train}, tested on {test}", part)
                if part[LINEAR, REFERENCE]["person"].nunique() >= FEWEST_PEOPLE:
                    for key in material.boxed:
                        pooled.setdefault(key, []).append(part[key])
    joined = {key: pd.concat(parts, ignore_index=True) for key, parts in pooled.items()}
    _print_boxes(f"All tests above on {FEWEST_PEOPLE} or more people", joined)
    own = functools.partial(split_by_person, material.frames, material.find(sources[0]), _FOLDS)
    _print_boxes(
        f"Trained on {sources[0]}, tested on its other people, in {_FOLDS} folds",
        {(model, box): run_trials(material, model, box, own, seeds) for model, box in material.boxed},
    )


def _print_boxes(title: str, found: Mapping[tuple[str, str], pd.DataFrame]) -> None:
    rows = []
    for (model, box), results in found.items():
        by_seed = results.filter(regex=r"^seed_\d+$").mean()
        rows.append(
            (
                f"{model}, {box}",
                int(results["has_sample"].sum()),
                estimate_accuracy(results).format(),
                estimate_accuracy(results, of_samples=True).format(),
                f"{by_seed.min():.2f}…{by_seed.max():.2f}" if len(by_seed) > 1 else NOTHING_KNOWN,
                NOTHING_KNOWN
                if box == REFERENCE
                else estimate_difference(results, found[model, REFERENCE]).format("+"),
            )
        )
    measure.print_table(
        f"{title}: {_count(results)}",
        ("", "with a sample", "right, of all frames", "of those", "by seed", f"minus `{REFERENCE}`"),
        rows,
    )


def print_splits(
    material: Material, title: str, ways: Sequence[tuple[str, str]], folds: int, seeds: int, groups: str = "people"
) -> None:
    """Print how often classes are found after a random split and after one by whole groups, of the same frames."""
    chosen = limit_frames(material.frames, _MOST_ALIKE).index.to_numpy(np.int64)
    rows = []
    for model, box in ways:
        randomly, grouped = (
            run_trials(material, model, box, functools.partial(split, material.frames, chosen, folds), seeds)
            for split in (split_randomly, split_by_person)
        )
        for part in (None, *dict.fromkeys(grouped["source"])):
            if part is None or grouped["source"].nunique() > 1:
                is_part = (grouped["source"] == part) if part else np.ones(len(grouped), bool)
                name = f"{model}, {box}" + (f": {part}" if part else "")
                rows.append(_compare_splits(name, randomly[is_part], grouped[is_part]))
    measure.print_table(f"{title}, in {folds} folds: {_count(grouped, groups)}", _name_columns(groups), rows)


def print_one_person(material: Material, contest: str, ways: Sequence[tuple[str, str]], seeds: int) -> None:
    """Print what a random split of the contest's frames promises, and what classifiers of other people find there."""
    rows = material.find(contest)
    other = Trial(np.setdiff1d(np.arange(len(material.frames)), rows), rows)
    found = []
    for model, box in ways:
        randomly = run_trials(
            material, model, box, functools.partial(split_randomly, material.frames, rows, _FOLDS), seeds
        )
        grouped = run_trials(material, model, box, _repeat(other), seeds)
        found.append(_compare_splits(f"{model}, {box}", randomly, grouped))
    measure.print_table(
        f"{contest}, split at random, or after training on all others: {_count(grouped)}", _name_columns(), found
    )


def _name_columns(groups: str = "people") -> tuple[str, ...]:
    return ("", "frames", groups, "split at random", f"by {groups}", "difference")


def _compare_splits(name: str, randomly: pd.DataFrame, grouped: pd.DataFrame) -> tuple[object, ...]:
    estimates = (estimate_accuracy(results).format() for results in (randomly, grouped))
    return (
        name,
        len(grouped),
        grouped["person"].nunique(),
        *estimates,
        estimate_difference(randomly, grouped).format("+"),
    )


def _count(results: pd.DataFrame, groups: str = "people") -> str:
    return f"{len(results)} frames of {results['person'].nunique()} {groups}"


# -- data


def read_worlds(contest: Path, hagrid: Path, webcam: Path, settings: Config) -> list[World]:
    """Read the frames of `CLASSES` of the three sources, with the person of each as `video_name`."""
    frames = [Frames.read_hagrid(hagrid, settings), Frames.read_contest(contest, settings)]
    frames = [replace(each, table=each.table[each.table["class_name"].isin(CLASSES)]) for each in frames]
    # Videos such as `palm_pA` and `up_pA` are of one person.
    people = frames[1].table["video_name"].str.replace(r"^.*_(?=p[A-Z]$)", "", regex=True)
    frames[1] = replace(frames[1], table=frames[1].table.assign(video_name=people))
    shown = Frames.read_contest(webcam, settings)
    labels = {
        f"{person}/{number:04d}.jpg": name
        for person, classes in WEBCAM_LABELS.items()
        for name, numbers in classes.items()
        for number in numbers
    }
    table = shown.table.assign(class_name=shown.table["frame_path"].map(labels))
    return [World(each) for each in (*frames, replace(shown, table=table[table["class_name"].notna()]))]


def main() -> None:
    """Read the data sets and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("contest", "hagrid", "webcam"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of splits and of training")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    settings = configuration.load_config()
    worlds = read_worlds(arguments.contest, arguments.hagrid, arguments.webcam, settings)
    material = read_material(worlds)
    sources = [world.frames.title for world in worlds]
    other = (material.views[BARE].hands != material.views[REFERENCE].hands) & material.views[REFERENCE].has_sample[
        :, None
    ]
    print(f"`rule: 2021` chooses another hand than the default in {other.any(axis=1).sum()} of {len(other)} frames.")
    print(f"{arguments.seeds} seeds. Classes: {', '.join(CLASSES)}.")
    ways = [(LINEAR, WHOLE), (LINEAR, REFERENCE), (POINTS, REFERENCE)]
    sample = read_material([World(Frames.read_contest(paths.SAMPLE, settings))], (WHOLE, REFERENCE))
    print_splits(material, "All sources", ways, _FOLDS, arguments.seeds)
    print_splits(sample, "The rendered sample", ways, 2, arguments.seeds, "videos")
    print_one_person(material, sources[1], ways, arguments.seeds)
    print_boxes(material, sources, arguments.seeds)
    print(f"\n{time.process_time() / 60:.1f} minutes of CPU time")


if __name__ == "__main__":
    main()
