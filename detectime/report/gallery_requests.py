"""Which frames the report shows: samples of each class, those without a sample, the most doubtful and the worst."""

from __future__ import annotations

from collections.abc import Sequence

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


def request_galleries(material: Material) -> list[GalleryRequest]:
    """Ask for cards of samples of each class, of frames without a sample, of the most doubtful and of the worst ones.

    Examples
    --------
    >>> requests = request_galleries(material)  # doctest: +SKIP
    >>> [request.key for request in requests]  # doctest: +SKIP
    ['class-0', 'class-1', 'without-no_hand', 'most-doubtful', 'worst']
    """
    return [
        *_request_samples(material),
        *_request_without(material),
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


def _request_doubtful(material: Material) -> list[GalleryRequest]:
    """Ask for the most doubtful frames."""
    doubt = material.doubt[material.doubt["doubt"] >= DOUBTFUL].sort_values("doubt", ascending=False, kind="stable")
    if doubt.empty:
        return []
    shown, more = _DOUBTFUL_SHOWN
    first = doubt.head(20 * (shown + more))  # of which some are chosen that differ
    return [
        GalleryRequest(
            "most-doubtful",
            "The most doubtful",
            "",
            material.samples.loc[first.index],
            lines=_describe_doubt(first),
            boxes=_list_suggested(first),
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
    """Ask for the frames whose sample is the most wrong, with the annotated boxes."""
    if material.evaluation is None or material.truth is None:
        return []
    shown, more = _WORST_SHOWN
    worst = material.evaluation.list_worst(shown + more)
    worst = worst[~worst["is_correct"].to_numpy(bool)]
    if worst.empty:
        return []
    rows = material.judged.set_index("frame_path", drop=False).loc[worst["frame_path"]]
    return [
        GalleryRequest(
            "worst",
            "The worst",
            "",
            rows.reset_index(drop=True),
            lines=_describe_worst(worst),
            boxes=_list_true_boxes(material.truth, worst["frame_path"]),
            varied=False,
            shown=shown,
            more=more,
        )
    ]


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
