"""What is said of a classifier: measures and intervals, baselines, guesses at the causes of mistakes, and figures."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import provide_weights, read_image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from skips import need_extra

from detectime import label_check, pairing, resampling
from detectime.classifier.baselines import predict_majority, predict_zero_shot
from detectime.classifier.crops import cut_hand, fit_square
from detectime.classifier.measures import Measures, compare_models, measure_predictions
from detectime.classifier.mistakes import Cause, find_mistakes
from detectime.decision_files import DecisionLog
from detectime.decisions import Decision, format_time
from detectime.detection import manifest
from detectime.doubt import score_doubt
from detectime.outcomes import pair_run
from detectime.report import classifier_charts
from detectime.runs import FinishedRun, open_run
from detectime.schema import CORNERS, SAMPLES
from detectime.sources.folder import FolderSource
from detectime.widgets import Review

mpl.use("agg")

CLASSES = ["stop", "victory", "mute", "ok", "like", "dislike"]


@pytest.fixture
def run(sample_run: Path, tmp_path: Path) -> FinishedRun:
    shutil.copytree(sample_run, tmp_path / "out")
    return open_run(tmp_path / "out")


@pytest.fixture
def _sklearn() -> None:
    need_extra("sklearn")


def measured(test):  # type: ignore[no-untyped-def]
    """Mark a test that measures predictions, which scikit-learn does."""
    return pytest.mark.extra(pytest.mark.usefixtures("_sklearn")(test))


def list_samples(run: FinishedRun) -> pd.DataFrame:
    return run.outcomes[run.outcomes["outcome"].isin(SAMPLES)]


def make_predictions(rows: int = 300, groups: int = 12, classes: int = 4, seed: int = 0) -> pd.DataFrame:
    """Make predictions, three of four right; people differ, and the class `c3` is of two of them alone."""
    rng = np.random.default_rng(seed)
    group = rng.integers(groups, size=rows)
    true = rng.integers(classes - 1, size=rows)
    true[group < 2] = classes - 1
    is_wrong = rng.random(rows) < 0.05 + 0.4 * (group % 3 == 0)
    predicted = np.where(is_wrong, (true + 1 + rng.integers(classes - 1, size=rows)) % classes, true)
    table = pd.DataFrame({"frame_path": [f"{k}.jpg" for k in range(rows)]})
    table["video_name"], table["class_name"] = [f"p{k:02}" for k in group], [f"c{k}" for k in true]
    return table.assign(predicted=[f"c{k}" for k in predicted], probability=0.9, own_probability=0.1)


# -- measures


@measured
def test_values_are_those_counted_by_hand() -> None:
    rows = [("a", "ok", "ok"), ("a", "ok", "stop"), ("b", "ok", "ok"), ("b", "stop", "stop"), ("c", "stop", "like")]
    found = measure_predictions(
        pd.DataFrame(rows, columns=["video_name", "class_name", "predicted"]), ["ok", "stop", "like", "fist"]
    )
    assert (found.samples, found.groups) == (5, 3)
    assert found.confusion.loc["ok"].tolist() == [2, 1, 0, 0]
    assert found.confusion.loc["stop"].tolist() == [0, 1, 1, 0]
    assert found.overall["value"].tolist() == pytest.approx([3 / 5, (0.8 + 0.5 + 0) / 3])  # `fist` is not counted
    table = found.per_class.set_index("class_name")
    assert table["samples"].tolist() == [3, 2, 0, 0]
    assert table["groups"].tolist() == [2, 2, 0, 0]
    np.testing.assert_allclose(table["precision"], [1, 0.5, 0, np.nan])
    np.testing.assert_allclose(table["recall"], [2 / 3, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(table["f1"], [0.8, 0.5, 0, np.nan])
    assert [str(note) for note in found.notes[:2]] == [
        "1 class has no sample among the evaluated ones, and is not in macro F1 (the first: 'fist')",
        "1 class has no sample among the evaluated ones, but is predicted: F1 is 0 (the first: 'like')",
    ]


@measured
def test_where_nothing_is_right_samples_are_still_counted() -> None:
    rows = [("a", "ok", "stop"), ("b", "stop", "ok")]
    found = measure_predictions(pd.DataFrame(rows, columns=["video_name", "class_name", "predicted"]), ["ok", "stop"])
    assert found.per_class[["samples", "groups"]].dtypes.tolist() == [np.int64] * 2
    assert found.overall["value"].tolist() == [0, 0]
    figure = classifier_charts.plot_class_scores(found)
    assert list_texts(figure).count("1 sample · 1 group") == 2
    plt.close(figure)


@measured
def test_points_without_interval_are_hollow_and_the_figure_says_so() -> None:
    predictions = make_predictions(classes=2)
    right = predictions.assign(predicted=predictions["class_name"])
    known, sure = (measure_predictions(rows, ["c0", "c1"]) for rows in (predictions, right))
    assert known.overall.notna().all(axis=None)
    models = [compare_models({"a": predictions, "b": rows}, ["c0", "c1"]) for rows in (predictions, right)]
    plots = (classifier_charts.plot_class_scores, known, sure), (classifier_charts.plot_models, *models)
    for plot, *shown in plots:
        figures = [plot(each) for each in shown]
        assert [figure.get_supxlabel().startswith("hollow") for figure in figures] == [False, True]
        for figure in figures:
            plt.close(figure)


@measured
def test_intervals_are_those_of_scikit_learn_on_drawn_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn import metrics

    monkeypatch.setattr(resampling, "draw_groups", partial(resampling.draw_groups, draws=60))

    predictions = make_predictions()
    found = measure_predictions(predictions, ["c0", "c1", "c2", "c3"])
    by_group = [rows for _, rows in predictions.groupby("video_name")]
    drawn = []
    for counts in resampling.draw_groups(predictions["video_name"]).astype(int):
        rows = pd.concat([group for group, count in zip(by_group, counts, strict=True) for _ in range(count)])
        true, predicted = rows["class_name"], rows["predicted"]
        recall = metrics.recall_score(true, predicted, labels=list(found.confusion), average=None, zero_division=np.nan)
        macro = metrics.f1_score(true, predicted, average="macro")
        drawn.append([(true == predicted).mean(), macro, *recall])
    assert found.overall.loc["macro_f1", "value"] == pytest.approx(
        metrics.f1_score(predictions["class_name"], predictions["predicted"], average="macro")
    )
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    assert np.isnan(drawn).any(axis=0).tolist() == [False] * 5 + [True]  # some draws lack the people who show c3
    overall, per_class = found.overall, found.per_class
    np.testing.assert_allclose([*overall["low"], *per_class["recall_low"]], low)
    np.testing.assert_allclose([*overall["high"], *per_class["recall_high"]], high)
    assert (per_class["f1_low"] < per_class["f1"]).all()
    assert (per_class["f1"] < per_class["f1_high"]).all()


@measured
def test_groups_count_not_frames() -> None:
    few = measure_predictions(make_predictions(groups=12), ["c0", "c1", "c2", "c3"]).overall
    predictions = make_predictions(groups=12)
    alone = measure_predictions(predictions.assign(video_name=predictions["frame_path"]), ["c0", "c1", "c2", "c3"])
    assert (few["high"] - few["low"])["accuracy"] > 1.5 * (alone.overall["high"] - alone.overall["low"])["accuracy"]
    assert not alone.notes


@measured
def test_what_intervals_lack_is_noted() -> None:
    rows = [("a", "ok", "ok"), ("b", "ok", "ok"), ("b", "stop", "stop")]
    predictions = pd.DataFrame(rows, columns=["video_name", "class_name", "predicted"])
    found = measure_predictions(predictions, ["ok", "stop", "like"])
    assert [str(note) for note in found.notes] == [
        "1 class has no sample among the evaluated ones, and is not in macro F1 (the first: 'like')",
        "1 class is evaluated in one group alone: its recall and F1 have no interval (the first: 'stop')",
        "2 groups are evaluated: intervals over so few are too narrow",
        "No prediction is wrong; still, up to 78 % of other groups may have wrong ones.",
    ]
    limits = found.per_class.set_index("class_name")[["recall_low", "recall_high", "f1_low", "f1_high"]]
    assert limits.isna().all(axis=None)  # `ok` is right in both groups, which is not certain to be so in others
    assert found.overall[["low", "high"]].isna().all(axis=None)
    one = measure_predictions(predictions.assign(video_name="a"), ["ok", "stop"])
    assert one.overall[["low", "high"]].isna().all(axis=None)
    assert [note.kind for note in one.notes] == ["one_group"]


@measured
def test_predictions_of_unknown_classes_are_refused() -> None:
    predictions = make_predictions()
    with pytest.raises(ValueError, match="class_name 'c3' is not among the classes c0, c1, c2"):
        measure_predictions(predictions, ["c0", "c1", "c2"])
    with pytest.raises(ValueError, match="predicted '' is not"):
        measure_predictions(predictions.assign(predicted=""), ["c0", "c1", "c2", "c3"])
    with pytest.raises(ValueError, match="nothing to measure"):
        measure_predictions(predictions[:0], ["c0"])


@measured
def test_many_predictions_are_measured_in_seconds() -> None:
    predictions = make_predictions(200_000, 5_000, 34)
    started = time.process_time()
    measure_predictions(predictions, [f"c{k}" for k in range(34)])
    assert time.process_time() - started < 8


@measured
def test_models_are_compared_on_the_samples_that_all_have() -> None:
    predictions = make_predictions()
    right = predictions.assign(predicted=predictions["class_name"])
    compared = compare_models({"a": predictions, "b": right[10:], "c": predictions}, ["c0", "c1", "c2", "c3"])
    assert compared["samples"].tolist() == [290] * 3
    assert compared.loc["b", ["accuracy", "macro_f1"]].tolist() == [1, 1]
    pd.testing.assert_series_equal(compared.loc["a"], compared.loc["c"], check_names=False)
    (note,) = compared.attrs["notes"]
    assert (note.count, note.example) == (10, "0.jpg")
    with pytest.raises(ValueError, match="nothing to measure"):
        compare_models({"a": predictions[:10], "b": predictions[10:]}, ["c0", "c1", "c2", "c3"])


# -- baselines


def test_the_majority_is_that_of_the_training_samples() -> None:
    samples = make_predictions(6)
    found = predict_majority(["b", "c0", "b", "c0", "a"], samples)
    assert set(found["predicted"]) == {"b"}  # as frequent as c0
    assert found["probability"].tolist() == [0.4] * 6
    assert found["own_probability"].tolist() == [0.4 if name == "c0" else 0 for name in samples["class_name"]]
    assert found.columns.tolist() == samples.columns.tolist()
    with pytest.raises(ValueError, match="there are none"):
        predict_majority([], samples)


def test_zero_shot_tells_rendered_gestures_apart(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    provide_weights(label_check.WEIGHTS, monkeypatch)
    samples = list_samples(run).groupby("video_name").nth([1, 4, 6])
    found, notes = predict_zero_shot(run, samples, CLASSES, workers=1)
    assert found is not None
    assert not notes
    assert found["frame_path"].tolist() == samples["frame_path"].tolist()
    assert (found["predicted"] == found["class_name"]).mean() > 0.9
    assert found["probability"].between(1 / len(CLASSES), 1).all()
    is_right = (found["predicted"] == found["class_name"]).to_numpy()
    assert (found["probability"] == found["own_probability"]).tolist() == is_right.tolist()
    # One class that it does not know, and only two that it may choose.
    renamed = samples.assign(class_name=samples["class_name"].replace("mute", "wave"))
    found, (note,) = predict_zero_shot(run, renamed, ["stop", "like", "wave"])
    assert found is not None
    assert set(found["predicted"]) == {"stop", "like"}
    assert (found.loc[found["class_name"] == "wave", "own_probability"] == 0).all()
    assert "always wrong about wave" in str(note)
    found, (note,) = predict_zero_shot(run, renamed, ["stop", "wave"])
    assert found is None
    assert "knows 1 of these classes" in str(note)


def test_zero_shot_without_weights_downloads_nothing(
    run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("DETECTIME_MIRROR", "http://[::1/invalid")  # another error if it were asked
    monkeypatch.setattr("detectime.paths.find_model_folder", lambda: tmp_path / "model")
    found, (note,) = predict_zero_shot(run, list_samples(run), CLASSES)
    assert found is None
    assert "put crops_classifier.onnx into" in str(note)


def test_zero_shot_leaves_out_frames_that_are_gone(
    run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide_weights(label_check.WEIGHTS, monkeypatch)
    samples = list_samples(run).head(2)
    present = FolderSource(str(tmp_path))
    path = tmp_path / samples["frame_path"].iloc[1]
    path.parent.mkdir()
    shutil.copy(Path(run.config.data.images, samples["frame_path"].iloc[1]), path)
    monkeypatch.setattr("detectime.sources.open_source", lambda *_: present)
    found, (note,) = predict_zero_shot(run, samples, CLASSES, workers=1)
    assert found is not None
    assert found["frame_path"].tolist() == samples["frame_path"].tolist()[1:]
    assert note.example == samples["frame_path"].iloc[0]
    found, (none, note) = predict_zero_shot(run, samples[:1], CLASSES, workers=1)
    assert found is None
    assert str(none).endswith("none of these samples can be read.")
    assert note.example == samples["frame_path"].iloc[0]


@pytest.mark.parametrize("labels_type", [None, "hagrid"])
def test_zero_shot_is_no_comparison_on_hagrid(
    run: FinishedRun, labels_type: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide_weights(label_check.WEIGHTS, monkeypatch)
    data = dataclasses.replace(run.config.data, labels_type=labels_type)  # type: ignore[arg-type]
    run.config = dataclasses.replace(run.config, data=data)
    samples = list_samples(run).head(2)
    people = samples["video_name"] if labels_type else ["71a6b2129c6abaac" * 4, "f0b236506bf66c74" * 2]
    found, (note,) = predict_zero_shot(run, samples.assign(video_name=people), CLASSES, workers=1)
    assert found is not None
    assert "HaGRID, on which the network that checks labels was trained" in str(note)


# -- mistakes


def spoil_samples(run: FinishedRun) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Give a few samples another label, and others another box; return all, predictions, and what is wrong by frame.

    A box is moved onto the face, or cut to the upper half of the hand; others are only predicted wrong. Of those with
    another label, half are predicted as what they are.
    """
    rows = run.outcomes.copy()
    spoiled = list_samples(run).groupby("video_name").nth([1, 3, 5, 6]).index
    predicted, causes = rows["class_name"].copy(), {}
    for turn, row in enumerate(spoiled):
        cause = ("label", "face", "part", "hand")[turn % 4]
        name = rows.loc[row, "class_name"]
        other = CLASSES[(CLASSES.index(name) + 1 + turn % 5) % 6]
        causes[rows.loc[row, "frame_path"]] = {"face": "box", "part": "box"}.get(cause, cause)
        if cause == "label":
            rows.loc[row, "class_name"] = other
            if turn % 8:  # a weak model predicts neither the true class nor the one of the label
                predicted[row] = next(each for each in CLASSES if each not in (name, other))
        else:
            predicted[row] = other
        for kind in ("hand", "bbox"):
            corners = [f"{kind}_{corner}" for corner in CORNERS]
            if cause == "face":
                rows.loc[row, corners] = rows.loc[row, [f"face_{corner}" for corner in CORNERS]].to_numpy().round()
            elif cause == "part":
                rows.loc[row, corners[3]] = rows.loc[row, [corners[1], corners[3]]].mean().round()
    predictions = rows.loc[rows["outcome"].isin(SAMPLES), ["frame_path", "video_name", "class_name"]]
    predictions["predicted"] = predicted[predictions.index]
    predictions["probability"] = np.random.default_rng(0).random(len(predictions))
    return rows, predictions.assign(own_probability=0.0), causes


@pytest.mark.parametrize("asked", [True, False], ids=["with the network", "without"])
def test_causes_of_mistakes_are_guessed(run: FinishedRun, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    provide_weights(label_check.WEIGHTS, monkeypatch)
    rows, predictions, causes = spoil_samples(run)
    labels = label_check.check_labels(run, rows[rows["frame_path"].isin(causes)], workers=1) if asked else None
    found = find_mistakes(run, predictions, score_doubt(run, rows, labels=labels), labels)
    assert set(found["frame_path"]) == set(causes)
    assert found["probability"].is_monotonic_decreasing
    assert set(found["cause"]) == {str(cause) for cause in Cause} - (set() if asked else {"model"})
    is_right = found["cause"].replace("model", "hand") == found["frame_path"].map(causes)
    assert is_right.mean() >= (0.95 if asked else 0.85), found[~is_right].to_string()
    of_label = found.loc[found["cause"] == "label", "why"]
    assert of_label.str.contains("Another network sees ").any() == asked
    assert of_label.str.match(r"Perhaps a wrong label \(doubt 0\.\d\d\): .*\.$").all()
    assert found.loc[found["cause"] == "hand", "why"].str.endswith("No other network has seen it.").all() != asked
    assert not found["why"].str.contains("nan").any()


def test_what_a_person_decided_is_not_blamed(run: FinishedRun) -> None:
    samples = list_samples(run).head(2)
    row = samples.iloc[0]
    x1, y1, x2, y2 = pairing.get_boxes(row, "bbox").tolist()
    kept = Decision(
        format_time(), "anna", "keep", row["frame_path"], row["content"], (x1, y1, x2, y2), row["class_name"]
    )
    DecisionLog(run.store, "anna").append(kept)
    pair_run(run)
    found = find_mistakes(run, samples.assign(predicted="like", probability=0.9, own_probability=0.1))
    assert found["why"].str.contains("anna decided").tolist() == [True, False]
    assert found["cause"].iloc[0] == "hand"


def test_the_model_is_blamed_where_another_network_sees_the_label(run: FinishedRun) -> None:
    samples = list_samples(run).groupby("video_name").head(1).head(4)
    names = samples["class_name"]
    predictions = samples.assign(predicted=["like" if name != "like" else "ok" for name in names], probability=0.9)
    labels = samples[["frame_path"]].assign(
        seen="", predicted=[*names[:2], *predictions["predicted"][2:3], ""], probability=0.6, own_probability=0.3
    )
    labels = labels.assign(margin=0.0, contradicts=False)
    found = find_mistakes(run, predictions.assign(own_probability=0.1), labels=labels)
    assert found["cause"].tolist() == ["model", "model", "hand", "hand"]
    assert found["why"].iloc[0].startswith(f"Perhaps a weak model: another network sees {names.iloc[0]} (0.60); little")
    assert found["why"].str.contains(r"The model gives \w+ 0\.10\.$").all()


def test_mistakes_are_opened_by_a_review(run: FinishedRun) -> None:
    samples = list_samples(run).iloc[[7, 3, 5]]
    predictions = samples.assign(predicted="nothing", probability=[0.2, 0.9, 0.5], own_probability=0.1)
    found = find_mistakes(run, predictions)
    paths = samples["frame_path"].iloc[[1, 2, 0]].tolist()
    review = Review(run, frames=found["frame_path"], reviewer="anna")  # type: ignore[arg-type]
    assert review.frames.samples["frame_path"].iloc[review.queue.rows].tolist() == paths
    none = find_mistakes(run, predictions.assign(predicted=predictions["class_name"]))
    assert none.columns.tolist() == found.columns.tolist()
    assert classifier_charts.plot_mistakes(run, none) is None


# -- what is learnt from


def move_frames(run: FinishedRun, folder: Path) -> FinishedRun:
    run.manifest["configuration"]["data"]["images"] = str(folder)
    manifest.write_manifest(run.store, run.manifest)
    return open_run(str(run.store))


@pytest.mark.extra
def test_why_frames_cannot_be_learnt_from_is_said(run: FinishedRun, tmp_path: Path) -> None:
    need_extra("torch")
    from detectime.classifier import inputs, training_set
    from detectime.classifier.settings import TrainingSettings

    settings = TrainingSettings(model="small", side=32).resolve()
    training_set.split_if_needed(run)
    images = Path(run.config.data.images)
    shutil.copytree(images, tmp_path / "frames")
    (tmp_path / "frames" / "ok_01" / "0002.jpg").write_bytes((images / "ok_01" / "0003.jpg").read_bytes())
    found = training_set.read_training_set(move_frames(run, tmp_path / "frames"))
    (note,) = inputs.read_inputs(found, settings, tmp_path).notes
    assert re.match(
        r"1 sample is left out: .*; the first: 'ok_01/0002\.jpg': the file changed since det.*; res", str(note)
    )
    found = training_set.read_training_set(move_frames(run, tmp_path / "none"))
    reason = r"/none: none of 100 samples .*: '\w+/0001\.jpg': No such file or directory; .*`detectime relocate`"
    with pytest.raises(training_set.TrainingError, match=reason):
        inputs.read_inputs(found, settings, tmp_path)


@pytest.mark.extra
def test_a_model_file_says_nothing_of_the_machine(run: FinishedRun, tmp_path: Path) -> None:
    need_extra("torch")
    from detectime.classifier import inputs, onnx_export, training, training_set
    from detectime.classifier.settings import TrainingSettings

    settings = TrainingSettings(model="landmarks", epochs=1).resolve()
    training_set.split_if_needed(run)
    data = inputs.read_inputs(training_set.read_training_set(run, with_landmarks=True), settings, tmp_path)
    trained = training.train_classifier(data, settings)
    # Such weights are of the model `pretrained`, whose file is the same otherwise.
    trained = dataclasses.replace(trained, settings=dataclasses.replace(settings, weights="/home/anna/resnet.pth"))
    content = onnx_export.export_classifier(trained, tmp_path).read_bytes()
    assert b"trained_on" in content
    for path in (str(Path(onnx_export.__file__).parent), sys.prefix, "/home/anna"):
        assert path.encode() not in content


# -- figures


def draw_figure(figure: Figure | None) -> int:
    """Draw a figure as a notebook does, and return its size in bytes; any warning is an error."""
    assert figure is not None
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(stream, format="jpeg", bbox_inches="tight")
    plt.close(figure)
    return len(stream.getvalue())


def list_texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for ax in figure.axes for text in (*ax.texts, ax.title))


@pytest.mark.parametrize("epochs", [1, 200])
@pytest.mark.parametrize("held_out", [True, False])
def test_history(epochs: int, held_out: bool) -> None:
    history = pd.DataFrame({"epoch": range(1, epochs + 1), "train_loss": 0.5, "train_accuracy": 0.7})
    rest = 0.6 if held_out else np.nan
    figure = classifier_charts.plot_history(history.assign(val_loss=rest, val_accuracy=rest))
    assert [len(ax.lines) for ax in figure.axes] == [1 + held_out] * 2
    assert draw_figure(figure) < 100_000


def test_learning_curve() -> None:
    curve = pd.DataFrame({"groups_per_class": [1, 2, 4], "groups": [6, 12, 24], "samples": [48, 97, 1940]})
    curve["accuracy"] = [0.4, 0.7, 1.0]
    figure = classifier_charts.plot_learning_curve(curve)
    assert figure is not None
    assert list_texts(figure).split() == ["40%", "70%", "100%"]
    assert draw_figure(figure) < 100_000
    assert classifier_charts.plot_learning_curve(curve[:1]) is None


@measured
@pytest.mark.parametrize(
    "names", [["ok", "stop"], ["$\\frac{{", "\N{GRINNING FACE}", "x" * 60, ""], [f"c{k}" for k in range(45)]]
)
def test_figures_of_measures(names: list[str]) -> None:
    predictions = make_predictions(300, 1 if len(names) == 2 else 12, len(names))
    renamed = {f"c{k}": names[k] for k in range(len(names))}
    for column in ("class_name", "predicted"):
        predictions[column] = predictions[column].map(renamed)
    found: Measures = measure_predictions(predictions, names)
    assert draw_figure(classifier_charts.plot_confusion(found)) < 300_000
    assert draw_figure(classifier_charts.plot_class_scores(found)) < 300_000
    compared = compare_models(dict.fromkeys(names[:4], predictions), names)
    figure = classifier_charts.plot_models(compared)
    shown = f"{100 * compared['accuracy'].iloc[0]:.0f}%"
    assert shown in list_texts(figure)
    assert draw_figure(figure) < 300_000


def test_cards_of_mistakes_show_every_group_first(run: FinishedRun) -> None:
    samples = list_samples(run)
    predictions = samples.assign(predicted="like", probability=np.linspace(0.1, 0.9, len(samples)), own_probability=0.1)
    found = find_mistakes(run, predictions)
    figure = classifier_charts.plot_mistakes(run, found, 10)
    assert figure is not None
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len({title.splitlines()[1].split("/")[0] for title in titles}) == 10
    assert titles[0].startswith("labelled dislike, predicted like (0.90)")
    assert list_texts(figure).count("Perhaps a") == 10
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["face", "context square of the face", "hand", "crop"]
    assert draw_figure(figure) < 500_000


def test_a_card_shows_the_crop_that_a_classifier_sees(run: FinishedRun) -> None:
    sample = list_samples(run).query("class_name == 'mute'").head(1)  # its bbox is larger
    predictions = sample.assign(predicted="like", probability=0.9, own_probability=0.1)
    figure = classifier_charts.plot_mistakes(run, find_mistakes(run, predictions))
    assert figure is not None
    side, row = 96, sample.iloc[0]
    cut = cut_hand(read_image(Path(run.config.data.images, row["frame_path"])), pairing.get_boxes(row, "hand"), side)
    shown = next(np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images and not ax.get_title())
    assert np.abs(fit_square(shown, side).astype(int) - cut).mean() < 3
    plt.close(figure)


def test_a_card_says_that_its_frame_is_gone(run: FinishedRun, tmp_path: Path) -> None:
    samples = list_samples(run).groupby("video_name").head(1)
    predictions = samples.assign(predicted="$x_{", probability=0.9, own_probability=0.1)
    run.__dict__["source"] = FolderSource(str(tmp_path))
    figure = classifier_charts.plot_mistakes(run, find_mistakes(run, predictions), 5)
    assert figure is not None
    assert list_texts(figure).count("No such file") == 5
    assert draw_figure(figure) < 200_000
