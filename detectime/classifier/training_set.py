"""The samples of a run that a classifier is trained on, and those it is tested on; what is wrong with them is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime import similarity, splits
from detectime.boxes import Flags
from detectime.classifier.landmarks import read_landmarks
from detectime.dataset import HandsDataset
from detectime.errors import DocumentedError
from detectime.labels.grouping import NO_GROUPS
from detectime.notes import Note, note_found, shorten_text
from detectime.runs import FinishedRun
from detectime.splits.shortcomings import note_classes

TRAIN = ("train", "training")
"""Names of the part of a split that a classifier is trained on."""
VALIDATION = ("val", "valid", "validation", "dev")
"""Names of the part that chooses the best epoch."""
TEST = ("test", "testing")
"""Names of the part that it is tested on; without one, it is tested on all others."""

_SHARES = ((3, {"train": 0.5, "test": 0.5}), (10, {"train": 0.6, "test": 0.4}))
"""Numbers of groups of a class, and the shares of a split where some class has fewer: with a usual split, the test part
would have one group of it, which says nothing of others."""
_RESTORE = "restore the frames, say where they are now by `detectime relocate RUN --images DIR`, or run detection again"


class TrainingError(DocumentedError, ValueError):
    """A run that no classifier can be trained on; the message says why and what to do."""


@dataclass(frozen=True)
class TrainingSet:
    """The samples of a run in the parts of its split.

    Attributes
    ----------
    dataset
        All samples; its crops are the context squares of hands.
    samples
        `HandsDataset.samples`, one row per sample.
    classes, numbers
        Names of the classes that the training part has, in the order of their numbers, and the numbers.
    targets
        int64, shape (samples,): the position of the class in `classes`; -1 where the training part has none of it.
    train, validation, test
        int64: the rows of each part, in the order of the frame table; `validation` may be empty.
    parts
        Which parts of the split these are: a sentence.
    landmarks
        float32, shape (samples, 21, 3): see `landmarks.read_landmarks`; None if they were not asked for.
    notes
        Findings to know before training.
    """

    dataset: HandsDataset
    samples: pd.DataFrame
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    targets: NDArray[np.int64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    parts: str
    landmarks: NDArray[np.float32] | None
    notes: tuple[Note, ...]

    def select(self, usable: Flags) -> TrainingSet:
        """Return the training set without some samples; a class without any to train on is no class of it any more.

        Raises
        ------
        TrainingError
            If fewer than two classes are left to train on, or no sample to test on.
        """
        train, validation, test = (rows[usable[rows]] for rows in (self.train, self.validation, self.test))
        if not len(train) or not len(test):
            raise TrainingError(
                f"{self.dataset!r}: of {len(self.train):,} samples to train on {len(train):,} can be read, and of "
                f"{len(self.test):,} to test on {len(test):,}; {_RESTORE}"
            )
        left = self.samples["class_name"].iloc[train].unique()
        classes = [name for name in self.classes if name in left]
        lost = [name for name in self.classes if name not in left]
        if len(classes) < 2:
            raise TrainingError(
                f"{self.dataset!r}: no frame to train on can be read of {', '.join(map(repr, lost))}, and a classifier "
                f"needs two classes or more; {_RESTORE}"
            )
        targets = pd.Index(classes).get_indexer(pd.Index(self.samples["class_name"])).astype(np.int64)
        ending = "no frame to train on that can be read"
        notes = note_found("lost_class", lost, f"class has {ending}", f"classes have {ending}")
        return replace(
            self,
            classes=tuple(classes),
            numbers=tuple(self.numbers[self.classes.index(name)] for name in classes),
            targets=targets,
            train=train,
            validation=validation[targets[validation] >= 0],
            test=test,
            notes=(*self.notes, *notes),
        )

    def limit_groups(self, count: int) -> TrainingSet:
        """Return the training set with the first so many groups of each class to train on, in the order of names."""
        pairs = self.samples.iloc[self.train][["class_name", "video_name"]]
        found = pairs.drop_duplicates().sort_values(["class_name", "video_name"])
        chosen = pd.MultiIndex.from_frame(found[found.groupby("class_name").cumcount() < count])
        return replace(self, train=self.train[pd.MultiIndex.from_frame(pairs).isin(chosen)])

    @property
    def groups(self) -> NDArray[np.object_]:
        """The group of each sample, shape (samples,)."""
        return self.samples["video_name"].to_numpy(object)


def split_if_needed(
    run: FinishedRun, shares: dict[str, float] | None = None, *, allow_similar: bool = False
) -> list[Note]:
    """Split a run that has no ``split.csv``, as notebook 02 does.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    shares
        As for `splits.split_run`. None: the usual ones or, if a class has fewer than ten groups, parts for training and
        test alone.
    allow_similar
        As for `splits.split_run`.

    Returns
    -------
    list of Note
        What was done, and what the split could not do; if there was one, only that `shares` do not count.

    Raises
    ------
    TrainingError
        If all samples are of one group or one class, or `shares` name no part to train on or none to test on; nothing
        is written.
    SplitError, RunError, StoreError
        As `splits.split_run`.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> split_if_needed(open_run("output"))  # doctest: +SKIP
    """
    if splits.read_split(run.store) is not None:
        text = f"The run is split already, so shares do not count; to split it anew, rename {run.store}/split.csv."
        return [] if shares is None else [Note("split_kept", 1, text)]
    run.check_paired()
    outcomes = run.outcomes
    found = outcomes[splits.counts.are_samples(outcomes)]
    _check_samples(run, found)
    if shares is None:
        fewest = found.groupby("class_name")["video_name"].nunique().min()
        usual = dict(splits.assignment.SHARES)
        shares = next((fewer for groups, fewer in _SHARES if fewest < groups), usual)
    names = {name.lower() for name in shares}
    if names.isdisjoint(TRAIN) or names.issubset(TRAIN):
        raise TrainingError(
            f"{run.store}: shares = {dict(shares)}: a part `train` and another one to test on are needed, such as "
            "train=0.8,test=0.2"
        )
    _, notes = splits.split_run(run, shares, allow_similar=allow_similar)
    parts = ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in shares.items())
    return [Note("split_made", 1, f"The run had no split.csv: it was split into {parts}, by whole groups."), *notes]


def read_training_set(run: FinishedRun, *, with_landmarks: bool = False, allow_similar: bool = False) -> TrainingSet:
    """Read what a classifier is trained and tested on, and check it before any training.

    The part ``train`` is trained on, ``val`` chooses the best epoch, and ``test`` is the test, in any case of letters.
    Without a part ``test``, all others are; if there is no other, ``val`` is, and chooses nothing.

    Parameters
    ----------
    run
        A run that is paired and split.
    with_landmarks
        Whether to read landmarks, and leave out samples without.
    allow_similar
        Near-duplicates may lie in different parts; a note counts them.

    Raises
    ------
    TrainingError
        If there is no split, no training or test part, fewer than two classes to train on, none of the classes to test
        is trained, or there are no landmarks.
    DatasetError, SampleError, SplitError, RunError, SourceError, StoreError
        As `dataset.HandsDataset`.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> found = read_training_set(open_run("output"))  # doctest: +SKIP
    >>> len(found.train), len(found.test), found.classes  # doctest: +SKIP
    (52, 48, ('stop', 'victory', 'mute', 'ok', 'like', 'dislike'))
    """
    dataset = HandsDataset(run, box="context")
    samples = dataset.samples
    if not (samples["split"] != "").any():
        raise TrainingError(
            f"{run.store}: this run is not split, so nothing would tell how good a classifier is; make a split: "
            f"`detectime split {run.store}`"
        )
    outcomes = run.outcomes
    rows = outcomes.iloc[pd.Index(outcomes["frame_path"]).get_indexer(pd.Index(samples["frame_path"]))]
    hashes, has_hash = similarity.read_sample_hashes(run, rows)
    contents = similarity.read_contents(run, rows)
    leaks = splits.check_leaks(samples, contents, hashes, has_hash, allow_similar=allow_similar)
    landmarks, usable, notes = _read_landmarks(run, rows) if with_landmarks else (None, np.ones(len(samples), bool), [])
    _check_samples(run, samples[usable])
    (train, validation, test), parts = _find_parts(samples["split"].where(usable, ""))
    classes = [name for name in dataset.classes if name in set(samples.loc[train, "class_name"])]
    _check_parts(run, samples, train, test, classes)
    numbers = dict(zip(samples["class_name"], samples["label"].tolist(), strict=True))
    targets = pd.Index(classes).get_indexer(pd.Index(samples["class_name"]))
    return TrainingSet(
        dataset=dataset,
        samples=samples,
        classes=tuple(classes),
        numbers=tuple(numbers[name] for name in classes),
        targets=targets.astype(np.int64),
        train=np.flatnonzero(train),
        validation=np.flatnonzero(validation & (targets >= 0)),
        test=np.flatnonzero(test),
        parts=parts,
        landmarks=landmarks,
        notes=(*_note_groups(run, samples, test), *notes, *dataset.notes, *leaks),
    )


def _read_landmarks(run: FinishedRun, samples: pd.DataFrame) -> tuple[NDArray[np.float32], Flags, list[Note]]:
    """Return the landmarks of samples, which have some, and a note of those that have none."""
    landmarks = read_landmarks(run, samples)
    usable = ~np.isnan(landmarks[:, 0, 0])
    if not usable.any():
        raise TrainingError(
            f"{run.store}: model = 'landmarks': no hand of this run has landmarks; detect in a new folder with "
            "`mediapipe`, as `quality: balanced` and `best` do (before 0.3 it stored none), or take model = 'small' or "
            "'pretrained'"
        )
    lacking = samples.loc[~usable, "frame_path"].tolist()
    end = "without landmarks, such as where a person drew the box, {} left out; model = 'small' takes them"
    return (
        landmarks,
        usable,
        note_found("no_landmarks", lacking, f"sample {end.format('is')}", f"samples {end.format('are')}"),
    )


def _check_samples(run: FinishedRun, samples: pd.DataFrame) -> None:
    """Refuse samples of which no split can be made."""
    if samples.empty:
        raise TrainingError(f"{run.store}: this run has no samples; see its report for the reasons")
    if samples["video_name"].nunique() < 2:
        raise TrainingError(
            f"{run.store}: all samples are of one group, {samples['video_name'].iloc[0]!r}: nothing would be left that "
            "the classifier has not seen; name the video or the person of each frame in the column video_name, or "
            "film another person"
        )
    if samples.groupby("class_name")["video_name"].nunique().max() < 2:
        raise TrainingError(
            f"{run.store}: each class has one group (video_name), so that none can be both trained and tested; record "
            "each class in another video, or with another person"
        )
    if samples["class_name"].nunique() < 2:
        raise TrainingError(
            f"{run.store}: all samples are of one class, {samples['class_name'].iloc[0]!r}; a classifier needs two or "
            "more"
        )


def _find_parts(names: pd.Series) -> tuple[tuple[Flags, Flags, Flags], str]:
    """Return the rows to train on, to choose the epoch by, and to test on; and say which parts these are."""
    folded = names.str.lower()
    train, validation, test = (folded.isin(known).to_numpy() for known in (TRAIN, VALIDATION, TEST))
    if not test.any():
        test = ~train & ~validation & (names != "").to_numpy()
    if not test.any():
        test, validation = validation, np.zeros_like(validation)
    trained, chosen, tested = (", ".join(splits.order_parts(names[rows])) for rows in (train, validation, test))
    sentence = (
        f"Trained on: {trained}. Epoch chosen by: {chosen or 'nothing, the last one counts'}. Tested on: {tested}."
    )
    rest = splits.order_parts(names[(names != "").to_numpy() & ~train & ~validation & ~test].unique())
    return (train, validation, test), sentence + (f" Not used: {', '.join(rest)}." if rest else "")


def _check_parts(run: FinishedRun, samples: pd.DataFrame, train: Flags, test: Flags, classes: Sequence[str]) -> None:
    """Refuse what cannot be trained on or tested."""
    parts = ", ".join(splits.order_parts(name for name in samples["split"].unique() if name))
    remedy = (
        f"rename {run.store}/split.csv, and make a split for training and test: `detectime split {run.store} --shares "
        "train=0.8,test=0.2`"
    )
    if not train.any():
        raise TrainingError(f"{run.store}: the split has no samples in a part `train` (its parts: {parts}); {remedy}")
    if not test.any():
        raise TrainingError(
            f"{run.store}: the split has no samples to test on beside `train` (its parts: {parts}); {remedy}"
        )
    if len(classes) < 2:
        raise TrainingError(
            f"{run.store}: the training part has samples of one class, {classes[0]!r}; a classifier needs two or more"
        )
    tested = samples.loc[test, "class_name"].unique()
    if not set(tested) & set(classes):
        raise TrainingError(
            f"{run.store}: no class to test on ({', '.join(map(repr, tested[:3]))} …) is in the training part; {remedy}"
        )


def _note_groups(run: FinishedRun, samples: pd.DataFrame, test: Flags) -> list[Note]:
    """Note what the split cannot know or show: who is who, classes of one person, and a test of one person."""
    notes = [note for note in run.notes if note.kind == NO_GROUPS]
    used = samples[samples["split"] != ""]
    groups = used.groupby("video_name")["class_name"].nunique()
    if not notes and (groups == 1).all():
        text = (
            "Each group has one class. If the groups are recordings, a person may be in several of them, and in both "
            "training and test: then the numbers say nothing of other people. To know, put the person into video_name."
        )
        notes.append(Note(NO_GROUPS, 1, text))
    tested = samples.loc[test, "video_name"].unique()
    if len(tested) == 1:
        text = (
            f"The test part has one group, {shorten_text(tested[0])}, which says little of others; record more people."
        )
        notes.append(Note("one_group", 1, text))
    return [*notes, *note_classes(used)]
