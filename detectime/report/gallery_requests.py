"""Which frames the report shows: samples of each class, frames without one, the most doubtful and the wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from detectime.report import sections
from detectime.report.card_boxes import CardBox
from detectime.report.cards import GalleryRequest
from detectime.report.material import Material
from detectime.report.verdict import DOUBTFUL
from detectime.schema import CORNERS, SAMPLES, Outcome
from detectime.truth import Truth

_CLASSES_SHOWN = 24  # galleries of classes
_CLASSES_SHOWN_WHOLE = 12  # classes up to which more frames are kept behind "show more"
_DOUBTFUL_SHOWN, _WORST_SHOWN = (8, 16), (8, 16)  # cards in view, and more
_PER_GROUP = 3  # of the most doubtful, while there are frames of other groups


def request_galleries(material: Material) -> list[GalleryRequest]:
    """Ask for cards of samples of each class, of frames without a sample, of the most doubtful and of the wrong ones.

    Examples
    --------
    >>> requests = request_galleries(material)  # doctest: +SKIP
    >>> [request.key for request in requests]  # doctest: +SKIP
    ['class-0', 'class-1', 'without-no_hand', 'most-doubtful', 'wrong']
    """
    return [
        *_request_samples(material),
        *_request_without(material),
        *_request_contradicted(material),
        *_request_doubtful(material),
        *_request_worst(material),
    ]


def _request_samples(material: Material) -> list[GalleryRequest]:
    """Ask for samples of each class; of many classes, of the largest and the worst."""
    samples = material.samples
    paired = samples[samples["outcome"].isin(SAMPLES).to_numpy()]
    classes = material.facts.classes
    shown, _ = sections.choose_classes(classes[classes["samples"] > 0], _CLASSES_SHOWN)
    more = 12 if len(shown) <= _CLASSES_SHOWN_WHOLE else 4
    rows = dict(tuple(paired[paired["class_name"].isin(shown["class_name"])].groupby("class_name", sort=False)))
    return [
        GalleryRequest(f"class-{number}", str(name), "", rows[name], more=more)
        for number, name in enumerate(shown["class_name"])
    ]


def _request_without(material: Material) -> list[GalleryRequest]:
    """Ask for frames of each reason that they have no sample."""
    samples = material.samples
    wanted = samples[samples["wanted"].to_numpy(bool)]
    kinds = [kind for kind in material.facts.outcomes if not kind.is_sample and kind not in sections.WITHOUT_PICTURE]
    return [
        GalleryRequest(f"without-{kind}", _name_outcome(kind), kind.sentence, wanted[wanted["outcome"] == kind.value])
        for kind in kinds
    ]


def _name_outcome(outcome: Outcome) -> str:
    return outcome.value.replace("_", " ")


def _request_contradicted(material: Material) -> list[GalleryRequest]:
    """Ask for the samples whose label the network contradicts, with what it sees in them."""
    if material.labels is None:
        return []
    found = material.labels[material.labels["contradicts"].to_numpy(bool)].sort_values("margin", kind="stable")
    if found.empty:
        return []
    shown, more = _WORST_SHOWN
    positions = pd.Index(material.samples["frame_path"]).get_indexer(pd.Index(found["frame_path"]))
    rows = material.samples.iloc[positions]
    classes = rows["class_name"].tolist()
    seen = zip(found["frame_path"].tolist(), classes, found["seen"].tolist(), strict=True)
    lines = {path: [f"labelled {name}, looks like {gesture}"] for path, name, gesture in seen}
    return [
        GalleryRequest(
            "contradicted", "Labels contradicted", "", rows, lines=lines, varied=False, shown=shown, more=more
        )
    ]


def _request_doubtful(material: Material) -> list[GalleryRequest]:
    """Ask for the most doubtful frames."""
    doubt = material.doubt[material.doubt["doubt"] >= DOUBTFUL].sort_values("doubt", ascending=False, kind="stable")
    if doubt.empty:
        return []
    shown, more = _DOUBTFUL_SHOWN
    rows = material.samples.loc[doubt.index]
    turn = rows.groupby("video_name").cumcount().to_numpy()  # frames of one group are alike
    first = np.concatenate([np.flatnonzero(turn < _PER_GROUP), np.flatnonzero(turn >= _PER_GROUP)])
    return [
        GalleryRequest(
            "most-doubtful",
            "The most doubtful",
            "",
            rows.iloc[first],
            lines=_describe_doubt(doubt.iloc[first[: shown + more]]),
            boxes=_list_suggested(doubt.iloc[first[: shown + more]]),
            varied=False,
            shown=shown,
            more=more,
        )
    ]


def _describe_doubt(doubt: pd.DataFrame) -> dict[str, list[str]]:
    rows = zip(doubt["frame_path"].tolist(), doubt["doubt"].tolist(), doubt["reasons"].tolist(), strict=True)
    return {path: [f"doubt {value:.2f}: {reasons.replace('_', ' ')}"] for path, value, reasons in rows}


def _list_suggested(doubt: pd.DataFrame) -> dict[str, list[CardBox]]:
    """List the boxes that are suggested for frames between two with a sample."""
    columns = [f"suggested_{corner}" for corner in CORNERS]
    found = doubt[doubt[columns[0]].notna()]
    rows = zip(found["frame_path"].tolist(), found[columns].to_numpy().tolist(), strict=True)
    return {path: [CardBox("suggested", _as_corners(corners), "interpolated")] for path, corners in rows}


def _request_worst(material: Material) -> list[GalleryRequest]:
    """Ask for the wrong samples, and for hands without one, with the annotated boxes."""
    if material.evaluation is None or material.truth is None:
        return []
    frames = material.evaluation.list_worst(len(material.evaluation.frames))
    is_sample, is_correct = (frames[name].to_numpy(bool) for name in ("is_sample", "is_correct"))
    is_missed = (
        ~is_sample & (frames["target_hands"] > 0).to_numpy() & (frames["outcome"] != Outcome.REJECTED).to_numpy()
    )
    found = [
        ("wrong", "Wrong samples", frames[is_sample & ~is_correct]),
        ("missed", "Annotated hands without a sample", frames[is_missed]),
    ]
    return [_request_judged(material, material.truth, *each) for each in found if len(each[-1])]


def _request_judged(material: Material, truth: Truth, key: str, title: str, frames: pd.DataFrame) -> GalleryRequest:
    shown, more = _WORST_SHOWN
    first = frames.head(shown + more)
    positions = pd.Index(material.judged["frame_path"]).get_indexer(pd.Index(frames["frame_path"]))
    return GalleryRequest(
        key,
        title,
        "",
        material.judged.iloc[positions],
        lines=_describe_worst(first),
        boxes=_list_true_boxes(truth, first["frame_path"]),
        varied=False,
        shown=shown,
        more=more,
    )


def _describe_worst(worst: pd.DataFrame) -> dict[str, list[str]]:
    found = {}
    for path, really, iou in worst[["frame_path", "really", "iou"]].itertuples(index=False, name=None):
        found[path] = [str(really) if pd.isna(iou) else f"{really}, IoU {iou:.2f}"]
    return found


def _list_true_boxes(truth: Truth, frame_paths: pd.Series) -> dict[str, list[CardBox]]:
    boxes = truth.boxes[truth.boxes["frame_path"].isin(frame_paths) & (truth.boxes["kind"] == "hand")]
    found: dict[str, list[CardBox]] = {}
    for path, label, *corners in boxes[["frame_path", "label", *CORNERS]].itertuples(index=False, name=None):
        found.setdefault(path, []).append(CardBox("truth", _as_corners(corners), str(label)))
    return found


def _as_corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
