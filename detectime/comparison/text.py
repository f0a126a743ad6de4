"""A comparison in words, and as text for a terminal."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from detectime.comparison.changes import Change, count_changes
from detectime.comparison.comparison import Comparison
from detectime.evaluation.measures import name_measure
from detectime.notes import format_count
from detectime.schema import SAMPLES, Outcome

_FEW_GROUPS = 10
FAR = 0.5
"""IoU of the two hands below which a moved sample shows another hand, or another part of it."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the IoU of moved samples, in `summarize_moves`."""

_TOLD = ("correct", "precision")  # measures in a sentence
_SHOWN_CLASSES, _SHOWN_SETTINGS, _SHOWN_CHARACTERS = 30, 30, 60
_COLUMNS = {
    "samples_a": "A",
    "samples_b": "B",
    "gained": "gained",
    "lost": "lost",
    "moved": "moved",
    "relabelled_in": "class in",
    "relabelled_out": "class out",
    "same": "same",
}


def summarize_comparison(comparison: Comparison) -> list[str]:
    """Say in a sentence or two how B differs from A; the second one is about truth.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> from detectime.comparison import compare_runs
    >>> print(*summarize_comparison(compare_runs(open_run("a"), open_run("b"))))  # doctest: +SKIP
    B has 12 more samples than A: 113 instead of 101 (13 gained, 1 lost); 20 moved, 80 are the same.
    """
    sentences = [_summarize_samples(comparison)]
    if comparison.measures is not None:
        sentences += _summarize_measures(comparison.measures)
    return sentences


def summarize_moves(frames: pd.DataFrame) -> pd.Series:
    """Say how far samples moved.

    Parameters
    ----------
    frames
        What `compare_samples` returned.

    Returns
    -------
    Series
        float64: `frames`, how many moved; `crop_only`, those whose hand is the same and only its crop is not; `far`,
        those with an IoU below `FAR`; `unknown`, those whose boxes cannot be compared; and the `QUANTILES` of the IoU
        of the hands, named ``5 %`` … ``95 %`` (NaN if there are none).

    Examples
    --------
    >>> frames = pd.DataFrame({"change": ["moved", "moved", "same"], "iou": [0.4, 0.9, 1.0]})
    >>> summarize_moves(frames).loc[["frames", "far", "50 %"]].to_list()
    [2.0, 1.0, 0.65]
    """
    iou = frames.loc[(frames["change"] == Change.MOVED.value).to_numpy(), "iou"].to_numpy(np.float64)
    known = iou[~np.isnan(iou)]
    quantiles = np.quantile(known, QUANTILES) if len(known) else np.full(len(QUANTILES), np.nan)
    counts = {
        "frames": len(iou),
        "crop_only": (known == 1).sum(),
        "far": (known < FAR).sum(),
        "unknown": len(iou) - len(known),
    }
    shares = {f"{100 * share:.0f} %": value for share, value in zip(QUANTILES, quantiles, strict=True)}
    return pd.Series({**counts, **shares}, dtype="float64", name="moved")


def describe_moves(frames: pd.DataFrame) -> str:
    """Say how far samples moved; an empty text if none did.

    Examples
    --------
    >>> describe_moves(pd.DataFrame({"change": ["moved", "moved", "same"], "iou": [0.4, 0.9, 1.0]}))
    'IoU of the 2 moved hands: median 0.65, 5 % below 0.43; 1 below 0.5'
    """
    moves = summarize_moves(frames)
    count, unknown, crops = (int(moves[name]) for name in ("frames", "unknown", "crop_only"))
    if not count:
        return ""
    parts = []
    if count > unknown + crops:
        hands = "hand" if count == 1 else f"{count:,} moved hands"
        parts += [f"IoU of the {hands}: median {moves['50 %']:.2f}, 5 % below {moves['5 %']:.2f}"]
        parts += [f"{int(moves['far']):,} below {FAR:g}"]
    parts += [f"only the crop differs of {crops:,}"] if crops else []
    parts += [f"{unknown:,} cannot be compared"] if unknown else []
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}"


def describe_difference(row: pd.Series) -> str:
    """Return a row of `Comparison.measures` in words.

    Examples
    --------
    >>> row = {"measure": "precision", "a": 0.955, "b": 0.975, "difference": 0.02, "low": -0.01, "high": 0.05}
    >>> describe_difference(pd.Series(row))
    'precision 0.955 → 0.975, difference +0.020 (−0.010 … +0.050): no certain difference'
    """
    name = name_measure(str(row["measure"]))
    values = f"{format_value(row['a'])} → {format_value(row['b'])}"
    found = f"{name} {values}, difference {format_difference(row['difference'])}{_format_interval(row, ' ({})')}"
    verdict = judge_difference(float(row["low"]), float(row["high"]), row.get("groups"))
    return f"{found}: {verdict}" if verdict else found


def judge_difference(low: float, high: float, groups: int | None = None) -> str:
    """Say what the interval of a difference shows; an empty text if there is none.

    Of fewer than ten groups an interval is too narrow: without any difference, six groups show one in a sixth of all
    cases.

    Examples
    --------
    >>> judge_difference(0.01, 0.03), judge_difference(-0.01, 0.03)
    ('B is better', 'no certain difference')
    >>> judge_difference(0.01, 0.03, groups=6)
    'B looks better, but 6 groups are too few to tell'
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    if low <= 0 <= high:
        return "no certain difference"
    better = "B" if low > 0 else "A"
    if groups is not None and groups < _FEW_GROUPS:
        return f"{better} looks better, but {groups:,} groups are too few to tell"
    return f"{better} is better"


def format_value(value: float) -> str:
    """Return a measure with three decimals, a dash if it is NaN."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def format_difference(value: float) -> str:
    """Return a difference of measures with its sign, a dash if it is NaN.

    Examples
    --------
    >>> format_difference(-0.01), format_difference(0.0)
    ('−0.010', '+0.000')
    """
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def format_comparison(comparison: Comparison) -> str:
    """Return a comparison as text for a terminal: totals first, then classes, settings, truth and notes.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> from detectime.comparison import compare_runs
    >>> print(format_comparison(compare_runs(open_run("a"), open_run("b"))))  # doctest: +SKIP
    A  a
    B  b
    …
    """
    parts = [
        f"A  {_show(comparison.name_a)}\nB  {_show(comparison.name_b)}",
        "\n".join(summarize_comparison(comparison)),
        _format_classes(comparison.classes),
        _format_reasons(comparison.frames),
        _format_settings(comparison.settings),
        _format_measures(comparison),
        "\n".join(f"Note: {note}" for note in comparison.notes),
    ]
    return "\n\n".join(filter(None, parts))


def count_reasons(frames: pd.DataFrame) -> pd.DataFrame:
    """Count frames by what their outcome was and became, where it changed and one of the two is not a sample.

    Parameters
    ----------
    frames
        What `compare_samples` returned.

    Returns
    -------
    DataFrame
        `outcome_a`, `outcome_b` (text) and `frames` (int64), the most frequent first.

    Examples
    --------
    >>> frames = pd.DataFrame([["apart", "fallback"]] * 2 + [["paired"] * 2], columns=["outcome_a", "outcome_b"])
    >>> count_reasons(frames).values.tolist()
    [['apart', 'fallback', 2]]
    """
    pairs = frames[["outcome_a", "outcome_b"]].astype("str")
    both = pairs.isin(SAMPLES).all(axis=1)
    pairs = pairs[(pairs["outcome_a"] != pairs["outcome_b"]) & ~both]
    return pairs.value_counts().rename("frames").reset_index()


def _summarize_samples(comparison: Comparison) -> str:
    changes = count_changes(comparison.frames)
    a, b = (int(comparison.classes[name].sum()) for name in ("samples_a", "samples_b"))
    if not a and not b:
        return f"Neither A nor B has a sample of the {format_count(int(changes.sum()), 'frame')} that both have."
    if a == b == changes[Change.SAME]:
        return f"No sample differs: A and B have the same {a:,}."
    if a == b:
        text = f"B has as many samples as A, {a:,}"
    else:
        unit = "sample" if abs(b - a) == 1 else "samples"
        text = f"B has {abs(b - a):,} {'more' if b > a else 'fewer'} {unit} than A: {b:,} instead of {a:,}"
    gained, lost, moved, other, same = (
        int(changes[kind]) for kind in (Change.GAINED, Change.LOST, Change.MOVED, Change.RELABELLED, Change.SAME)
    )
    text += f" ({gained:,} gained, {lost:,} lost)" if gained or lost else ""
    rest = [f"{moved:,} moved"] if moved else []
    rest += [f"{other:,} {'has' if other == 1 else 'have'} another class"] if other else []
    rest += [f"{same:,} {'is' if same == 1 else 'are'} the same"]
    return f"{text}; {', '.join(rest)}."


def _summarize_measures(measures: pd.DataFrame) -> list[str]:
    rows = [row for _, row in measures.iterrows() if row["measure"] in _TOLD]
    return [f"Against the truth: {'; '.join(map(describe_difference, rows))}."] if rows else []


def _format_interval(row: pd.Series, form: str) -> str:
    low, high = float(row["low"]), float(row["high"])
    if math.isnan(low) or math.isnan(high):
        return ""
    return form.format(f"{format_difference(low)} … {format_difference(high)}")


def _format_classes(classes: pd.DataFrame) -> str:
    table = classes[list(_COLUMNS)].rename(columns=_COLUMNS)
    if not classes["relabelled_in"].any():
        table = table.drop(columns=[_COLUMNS["relabelled_in"], _COLUMNS["relabelled_out"]])
    shown, hidden = choose_classes(classes, _SHOWN_CLASSES)
    total = table.sum().to_frame().T.set_axis(["all"])
    listed = table.loc[shown].set_axis([_show(str(name)) for name in shown])
    rest = [table.loc[hidden].sum().to_frame().T.set_axis([f"{len(hidden):,} more"])] if len(hidden) else []
    return str(pd.concat([total, listed, *rest]).to_string())


def choose_classes(classes: pd.DataFrame, most: int) -> tuple[pd.Index, pd.Index]:
    """Choose the classes to list, those with most changes, in their order; and return the others.

    Parameters
    ----------
    classes
        `Comparison.classes`.
    most
        How many.

    Examples
    --------
    >>> columns = ["gained", "lost", "moved", "relabelled_in", "relabelled_out", "samples_a", "samples_b"]
    >>> classes = pd.DataFrame([[0] * 7, [1] * 7, [2] * 7], index=["ok", "like", "stop"], columns=columns)
    >>> [list(names) for names in choose_classes(classes, 2)]
    [['like', 'stop'], ['ok']]
    """
    if len(classes) <= most:
        return classes.index, classes.index[:0]
    changes = classes[["gained", "lost", "moved", "relabelled_in", "relabelled_out"]].sum(axis=1)
    order = np.lexsort((-classes[["samples_a", "samples_b"]].max(axis=1), -changes))
    chosen = np.zeros(len(classes), bool)
    chosen[order[:most]] = True
    return classes.index[chosen], classes.index[~chosen]


def _format_reasons(frames: pd.DataFrame) -> str:
    reasons = count_reasons(frames)
    moves = describe_moves(frames)
    lines = [moves] if moves else []
    listed = reasons.head(len(Outcome)).itertuples(index=False)
    pairs = [f"{count:,} {before} → {after}" for before, after, count in listed]
    lines += [f"Outcomes that changed: {', '.join(pairs)}"] if pairs else []
    return "\n".join(lines)


def _format_settings(settings: pd.DataFrame) -> str:
    if settings.empty:
        return ""
    shown = settings.head(_SHOWN_SETTINGS)
    keys = [_show(key) for key in shown["key"]]
    width = max(map(len, keys))
    rows = zip(keys, shown["a"], shown["b"], strict=True)
    lines = [f"  {key:{width}}  {_show(a) or '–'} → {_show(b) or '–'}" for key, a, b in rows]
    lines += [f"  … and {len(settings) - len(shown):,} more"] if len(settings) > len(shown) else []
    return "\n".join(["Settings that differ", *lines])


def _format_measures(comparison: Comparison) -> str:
    if comparison.measures is None:
        return ""
    rows = [
        {
            "": name_measure(str(row["measure"])),
            "A": format_value(row["a"]),
            "B": format_value(row["b"]),
            "difference": format_difference(row["difference"]),
            "95 % interval": _format_interval(row, "{}"),
        }
        for _, row in comparison.measures.iterrows()
    ]
    first = comparison.measures.iloc[0]
    about = f"{format_count(int(first['frames']), 'frame')}, {format_count(int(first['groups']), 'group')}"
    return f"Truth: {_show(comparison.origin)} ({about})\n{pd.DataFrame(rows).to_string(index=False)}"


def _show(text: str) -> str:
    """Return text without control characters, shortened in the middle."""
    text = text if text.isprintable() else repr(text)
    half = _SHOWN_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]}…{text[-half:]}"
