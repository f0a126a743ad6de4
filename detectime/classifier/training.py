"""Training a classifier, and what it says of samples."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.transforms import InterpolationMode, v2

from detectime.classifier.inputs import Inputs
from detectime.classifier.models import Model, build_model
from detectime.classifier.settings import TrainingSettings
from detectime.classifier.training_set import TrainingSet
from detectime.progress import Progress

_GREY = 127.0  # around crops that are moved, as `crops.fit_square` has it
_SMOOTHING = 0.05  # of labels: some of them are wrong
_PRETRAINED_SHARE = 0.1  # of the learning rate
_SIDES = {"left", "right"}  # words in names of classes that a mirrored hand would show the other of
_FEWEST_STEPS = 4  # per epoch: with few samples, batches are smaller
_BATCH = 256  # samples that are looked at together without training


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier, and how its training went.

    Attributes
    ----------
    network
        On the CPU, not training; takes crops or landmarks, returns logits.
    settings
        Resolved.
    training_set
        What it was trained on.
    history
        One row per epoch: `epoch` from 1; `train_loss` and `train_accuracy`, of augmented samples as they were trained
        on; `val_loss` and `val_accuracy` of the part `val` after the epoch, NaN without one.
    epoch
        The epoch whose weights these are: that of the least `val_loss`, or the last.
    sided
        The classes whose hands were not mirrored, as their names have the word left or right.
    origin
        Where its first weights come from; empty if they were random.
    device
        ``cpu`` or ``cuda``.
    """

    network: nn.Module
    settings: TrainingSettings
    training_set: TrainingSet
    history: pd.DataFrame
    epoch: int
    sided: tuple[str, ...]
    origin: str
    device: str


def train_classifier(inputs: Inputs, settings: TrainingSettings) -> TrainedClassifier:
    """Train a classifier on the training part, with a GPU if there is one.

    Classes weigh alike, however many samples they have. On one machine, the same inputs and settings give the same
    network, with the same number of threads. Hands are mirrored at random, but for those of classes whose name has the
    word left or right.

    Parameters
    ----------
    inputs
        What `inputs.read_inputs` returned.
    settings
        The settings, resolved.

    Raises
    ------
    ModelWeightsError
        As `models.build_model`.

    Examples
    --------
    >>> train_classifier(inputs, settings.resolve()).history  # doctest: +SKIP
    """
    found = inputs.training_set
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sided = tuple(name for name in found.classes if _SIDES & set(re.split(r"[\W\d_]+", name.lower())))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model = build_model(settings, len(found.classes))
        model.network.to(device)
        can_mirror = np.array([name not in sided for name in found.classes])
        run = _Run(inputs, settings, model, device, can_mirror, _choose_augmentation(settings))
        with _use_one_thread() if settings.model == "landmarks" else contextlib.nullcontext():
            history, epoch = run.train()
    network = model.network.cpu().eval()
    return TrainedClassifier(network, settings, found, history, epoch, sided, model.origin, device)


def predict_samples(trained: TrainedClassifier, inputs: Inputs, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Ask a classifier for the class of samples.

    Parameters
    ----------
    trained
        The classifier.
    inputs
        The inputs that its samples are among.
    rows
        Samples of the training set, such as its `test`.

    Returns
    -------
    DataFrame
        One row per sample: `frame_path`, `video_name`, `class_name`, `predicted` (a class), and float64 `probability`
        of that class, and `own_probability` of `class_name`, 0 if the training part has no such class.

    Examples
    --------
    >>> predict_samples(trained, inputs, inputs.training_set.test)  # doctest: +SKIP
    """
    found = inputs.training_set
    logits = _compute_logits(trained.network, inputs.values, rows, "cpu")
    probabilities = torch.softmax(logits.double(), 1).numpy()
    predicted, own = probabilities.argmax(1), found.targets[rows]
    samples = found.samples.iloc[rows][["frame_path", "video_name", "class_name"]].reset_index(drop=True)
    return samples.assign(
        predicted=np.array(found.classes, object)[predicted],
        probability=probabilities.max(1),
        own_probability=np.where(own >= 0, probabilities[np.arange(len(rows)), own], 0.0),
    )


def measure_learning_curve(
    inputs: Inputs, settings: TrainingSettings, trained: TrainedClassifier, most: int = 4
) -> pd.DataFrame:
    """Train on fewer groups of each class, too, to see whether more people or videos would help.

    Parameters
    ----------
    inputs, settings
        Those of `trained`.
    trained
        The classifier of all groups, which is the last row.
    most
        Number of rows at most: each but the last trains a classifier.

    Returns
    -------
    DataFrame
        One row per classifier: `groups_per_class`, the most groups of a class; `groups` and `samples` in all; and
        float64 `accuracy` on the test part. One row if no class has two groups to train on.

    Examples
    --------
    >>> measure_learning_curve(inputs, settings, trained)  # doctest: +SKIP
    """
    found = inputs.training_set
    pairs = found.samples.iloc[found.train][["class_name", "video_name"]].drop_duplicates()
    largest = int(pairs.groupby("class_name").size().max())
    counts = sorted({round(largest / 2**k) for k in range(1, most)} - {0, largest})
    rows = []
    for count in (*counts, largest):
        fewer = found.limit_groups(count)
        part = Inputs(inputs.values, fewer)
        made = trained if count == largest else train_classifier(part, settings)
        predictions = predict_samples(made, part, fewer.test)
        right = (predictions["predicted"] == predictions["class_name"]).mean()
        groups = fewer.samples.iloc[fewer.train]["video_name"].nunique()
        rows.append((count, groups, len(fewer.train), float(right)))
    return pd.DataFrame(rows, columns=["groups_per_class", "groups", "samples", "accuracy"])


class _Run:
    """The training of one network."""

    def __init__(
        self,
        inputs: Inputs,
        settings: TrainingSettings,
        model: Model,
        device: str,
        can_mirror: NDArray[np.bool_],
        augment: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> None:
        self._can_mirror = torch.from_numpy(can_mirror)
        self._values, self._set = inputs.values, inputs.training_set
        self._settings, self._device, self._augment = settings, device, augment
        self._network = model.network
        self._frozen = [
            each for each in model.network.modules() if model.pretrained and isinstance(each, nn.BatchNorm2d)
        ]
        self._targets = torch.from_numpy(np.where(self._set.targets >= 0, self._set.targets, 0))
        counts = np.bincount(self._set.targets[self._set.train], minlength=len(self._set.classes))
        weights = torch.from_numpy((counts.sum() / len(counts) / np.maximum(counts, 1)).astype(np.float32))
        self._loss = nn.CrossEntropyLoss(weights.to(device), label_smoothing=_SMOOTHING)
        self._loss_on_cpu = nn.CrossEntropyLoss(weights, label_smoothing=_SMOOTHING)
        count = len(self._set.train)
        self._batches = max(-(-count // settings.batch), min(_FEWEST_STEPS, count // 4), 1)
        pretrained = {id(parameter) for parameter in model.pretrained}
        new = [parameter for parameter in model.network.parameters() if id(parameter) not in pretrained]
        rate = settings.learning_rate or 0.0
        groups: list[dict[str, Any]] = [
            {"params": new, "lr": rate},
            {"params": model.pretrained, "lr": _PRETRAINED_SHARE * rate},
        ]
        groups = [group for group in groups if group["params"]]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            [group["lr"] for group in groups],
            total_steps=self._batches * (settings.epochs or 1),
        )

    def train(self) -> tuple[pd.DataFrame, int]:
        """Return the history, and the epoch whose weights the network has at the end."""
        rows: list[tuple[float, ...]] = []
        best, least, state = 0, np.inf, None
        order = _order_epochs(self._set, self._settings.seed)
        epochs = self._settings.epochs or 1
        with Progress(epochs, unit="epoch", name=f"training ({self._settings.model})") as progress:
            for epoch in range(1, epochs + 1):
                rows.append((epoch, *self._train_epoch(next(order)), *self._validate()))
                if rows[-1][3] < least:
                    best, least, state = epoch, rows[-1][3], copy.deepcopy(self._network.state_dict())
                progress.add(1)
        if state is not None:
            self._network.load_state_dict(state)
        history = pd.DataFrame(rows, columns=["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"])
        return history.astype({"epoch": int}), best or epochs

    def _train_epoch(self, order: NDArray[np.int64]) -> tuple[float, float]:
        self._network.train()
        for module in self._frozen:  # their means are of millions of images; those of a batch are not better
            module.eval()
        loss_sum = right = 0.0
        for batch in np.array_split(order, self._batches):
            rows = np.sort(batch)  # in the order of the file
            targets = self._targets[torch.from_numpy(rows)]
            with _use_one_thread():
                values = torch.from_numpy(np.ascontiguousarray(self._values[rows]))
                images = self._augment(values, self._can_mirror[targets] & (torch.rand(len(rows)) < 0.5))
            targets = targets.to(self._device)
            logits = self._network(images.to(self._device))
            loss = self._loss(logits, targets)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self._schedule.step()
            loss_sum += loss.item() * len(batch)
            right += (logits.argmax(1) == targets).sum().item()
        return loss_sum / len(order), right / len(order)

    def _validate(self) -> tuple[float, float]:
        rows = self._set.validation
        if not len(rows):
            return np.nan, np.nan
        logits = _compute_logits(self._network, self._values, rows, self._device)
        targets = self._targets[torch.from_numpy(rows)]
        loss = self._loss_on_cpu(logits, targets).item()
        return loss, (logits.argmax(1) == targets).float().mean().item()


def _compute_logits(network: nn.Module, values: NDArray[Any], rows: NDArray[np.int64], device: str) -> torch.Tensor:
    """Return the logits of samples, float32, shape (rows, classes), on the CPU."""
    network.eval()
    found = []
    with torch.inference_mode():
        for first in range(0, len(rows), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(values[rows[first : first + _BATCH]]))
            found.append(network(_arrange(batch).to(device)).cpu())
    return torch.cat(found)


def _arrange(batch: torch.Tensor) -> torch.Tensor:
    """Bring the channels of crops to the front, as networks take them; landmarks stay as they are."""
    return batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch


def _choose_augmentation(settings: TrainingSettings) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return what changes a batch at random, as hands and cameras differ, and mirrors the hands that it is told to."""
    if settings.model == "landmarks":
        return _vary_landmarks
    move = v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), interpolation=InterpolationMode.BILINEAR, fill=[_GREY] * 3)
    transform = v2.Compose([move, v2.ColorJitter(0.3, 0.3, 0.3, 0.02)])

    def vary(batch: torch.Tensor, is_mirrored: torch.Tensor) -> torch.Tensor:
        images = _arrange(batch)
        images = torch.where(is_mirrored[:, None, None, None], images.flip(3), images)
        return torch.stack([transform(image) for image in images])  # each image in a way of its own

    return vary


def _vary_landmarks(points: torch.Tensor, is_mirrored: torch.Tensor) -> torch.Tensor:
    """Turn hands by up to 15 degrees, mirror some of them, and move each point a little."""
    count = len(points)
    angle = (torch.rand(count) - 0.5) * (np.pi / 6)
    flip = torch.where(is_mirrored, -1.0, 1.0)
    cos, sin, keep = angle.cos(), angle.sin(), torch.ones(count)
    zero = torch.zeros(count)
    turn = torch.stack([flip * cos, flip * sin, zero, -sin, cos, zero, zero, zero, keep], 1).view(-1, 3, 3)
    size = (points - points[:, :1])[..., :2].abs().amax((1, 2))
    return points @ turn + 0.02 * size[:, None, None] * torch.randn_like(points)


@contextlib.contextmanager
def _use_one_thread() -> Iterator[None]:
    """Compute in one thread: for a single small image, threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _order_epochs(found: TrainingSet, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each epoch, in random order."""
    random = np.random.default_rng(seed)
    while True:
        yield random.permutation(found.train)
