"""``config.yml``: accepted values, and the error messages for anything else."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import definitions
import detectime
from detectime import config, paths, releases
from detectime.cli.key_help import read_key_help
from detectime.config import DetectionConfig, DisplayConfig, PairingConfig, RunConfig, SelectionConfig
from detectime.detectors.quality import BUNDLES
from detectime.errors import ConfigError

MINIMAL = "data: {images: frames, labels: train.csv, output: out}\nlabels: {ok: 1, mute: 2}\n"
SECTIONS = {
    "selection": SelectionConfig,
    "detection": DetectionConfig,
    "pairing": PairingConfig,
    "run": RunConfig,
    "display": DisplayConfig,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the file; the current folder is another one."""
    (tmp_path / "called from").mkdir()
    monkeypatch.chdir(tmp_path / "called from")
    return tmp_path


def load_text(text: str | bytes, folder: Path, **parameters: Any) -> config.Config:
    """Write ``config.yml`` and load it."""
    file = folder / "config.yml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load_config(file, parameters)


def test_the_file_equals_the_defaults() -> None:
    loaded = config.load_config()
    for section, kind in SECTIONS.items():
        assert getattr(loaded, section) == kind(), section
    assert loaded.labels == {"no_gesture": 0, "stop": 1, "victory": 2, "mute": 3, "ok": 4, "like": 5, "dislike": 6}
    assert loaded.classes == ("stop", "victory", "mute", "ok", "like", "dislike")
    assert loaded.data.images == str(definitions.TRAIN_DATA)
    assert loaded.data.labels == str(definitions.TRAIN_CSV)
    assert loaded.data.output == str(definitions.JSON)


def read_comments(text: str) -> dict[str, str]:
    """Read the comment of each section and key of ``config.yml``, continued lines as one."""
    found: dict[str, str] = {}
    section = name = ""
    for line in text.splitlines():
        key = re.fullmatch(r"(?P<indent> *)(?P<key>\w+):.*?(?:\s# (?P<text>.*))?", line)
        if key:
            section = section if key["indent"] else key["key"]
            name = f"{section}.{key['key']}" if key["indent"] else section
            found[name] = key["text"] or ""
        elif name and (more := re.fullmatch(r"\s+#\s+(?P<text>.*)", line)):
            found[name] += f" {more['text']}"
    return found


def test_the_file_has_what_most_people_change() -> None:
    text = paths.CONFIG.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45
    tree = yaml.safe_load(text)
    assert tree.pop("config_version") == releases.CONFIG_VERSION
    assert set(tree) == {"labels", *config.SECTIONS}
    keys = {key: section for section in tree if section != "labels" for key in tree[section]}
    assert keys.items() <= config.PARAMETERS.items()
    assert list(tree["detection"]) == ["quality"]
    assert config.load_config().explicit == frozenset()  # each value is its default


def test_the_comments_of_the_file_are_the_descriptions_of_the_keys() -> None:
    """Or their beginning; those of the sections too."""
    comments = read_comments(paths.CONFIG.read_text(encoding="utf-8"))
    texts = read_key_help()
    described = {key for key, text in comments.items() if text and key in texts}
    tree = yaml.safe_load(paths.CONFIG.read_text(encoding="utf-8"))
    assert described >= {f"{section}.{key}" for section in config.SECTIONS for key in tree[section]}
    for key in described:
        text = texts[key] if texts[key].startswith(comments[key][0]) else texts[key][0].lower() + texts[key][1:]
        assert re.match(rf"{re.escape(comments[key])}[.;]", text), key


def test_the_comments_name_each_word_in_a_line() -> None:
    text = paths.CONFIG.read_text(encoding="utf-8")
    assert re.findall(r"# (\w+): .*", text.partition("quality:")[2].partition("\n\n")[0]) == list(BUNDLES)


def test_every_key_is_described() -> None:
    texts = read_key_help()
    assert texts.keys() == config.SECTIONS.keys() | {f"{section}.{key}" for key, section in config.PARAMETERS.items()}
    for key, text in texts.items():
        assert text.endswith("."), key
        assert text.isprintable(), key
        assert len(text) > 15, key


def test_a_key_that_the_file_lacks_can_be_added(folder: Path) -> None:
    text = paths.CONFIG.read_text(encoding="utf-8").replace("detection: ", "detection:\n  near_coefficient: 2 ")
    assert load_text(text, folder).detection.near_coefficient == 2.0


def test_every_key_belongs_to_one_section() -> None:
    keys = [field.name for kind in (config.DataConfig, *SECTIONS.values()) for field in dataclasses.fields(kind)]
    assert sorted(keys) == sorted(config.PARAMETERS)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.load_config().run.workers = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("rum: {workers: 1}", ["rum", "no such key", "did you mean 'run'", "pairing"], id="section"),
        pytest.param("run: {worker: 1}", ["run.worker:", "did you mean 'workers'", "frame_timeout"], id="key"),
        pytest.param("run: {workers: two}", ["run.workers = 'two'", "whole number"], id="text for a number"),
        pytest.param("run: {workers: true}", ["run.workers = True", "whole number"], id="boolean for a number"),
        pytest.param("run: {workers: 2.0}", ["run.workers = 2.0", "whole number"], id="fraction for a whole number"),
        pytest.param("run: {retry_failed: 1}", ["run.retry_failed = 1", "true or false"], id="number for a boolean"),
        pytest.param("run: {workers: 0}", ["run.workers = 0", "at least 1"], id="too small"),
        pytest.param("detection: {face_nms: 1.5}", ["face_nms = 1.5", "at most 1"], id="too large"),
        pytest.param("detection: {face_nms: .nan}", ["face_nms = nan", "finite"], id="not a number"),
        pytest.param("detection: {exif: turn}", ["exif = 'turn'", "accepted: apply, ignore"], id="choice"),
        pytest.param("detection: {detector_type: ''}", ["detector_type = ''", "should not be empty"], id="empty text"),
        pytest.param("run: [1]", ["run = [1]"], id="list for a section"),
        pytest.param(
            "detection: {hand_detector: 5}", ["hand_detector = 5", "should be a list"], id="number for a list"
        ),
        pytest.param("detection: {hand_detector: ''}", ["hand_detector = ''", "at least one"], id="no detector"),
        pytest.param("detection: {hand_detector: []}", ["hand_detector = []", "at least one"], id="empty list"),
        pytest.param(
            "detection: {hand_detector: 'hagrid, mediapipe, hagrid'}",
            ["detection.hand_detector = ", "hagrid: named more than once; accepted: each once"],
            id="detector twice",
        ),
        pytest.param(
            "data: {images: a, labels: b, output: c, source: zip}",
            ["data.source_type = 'zip'", "accepted: folder, archives, videos"],
            id="kind of source",
        ),
        pytest.param(
            "detection: {detector_type: face_cache}",
            ["detection.face_cache = None", "`detector_type: face_cache` needs it", "bbox_"],
            id="face cache without a path",
        ),
        pytest.param(
            "pairing: {fallback: wide}",
            ["fallback = 'wide'", "did you mean 'wider'? accepted: none, wider, frame"],
            id="fallback",
        ),
        pytest.param(
            "pairing: {fallback: frame}\ndetection: {whole_frame: false}",
            ["detection.whole_frame = False", "`fallback: frame` needs it", "accepted: true, null"],
            id="fallback without whole frames",
        ),
        pytest.param("selection: {classes: [okk]}", ["selection.classes: 'okk'", "mean 'ok'", "mute"], id="class"),
        pytest.param("pairing: {enlarged_classes: [mut]}", ["enlarged_classes: 'mut'", "mean 'mute'"], id="enlarged"),
        pytest.param("selection: {classes: [ok, ok]}", ["selection.classes", "ok: named more than once"], id="twice"),
        pytest.param("selection: {classes: []}", ["selection.classes: []", "ok, mute"], id="no class"),
        pytest.param("labels: {ok: 1, mute: 1}", ["labels: {'ok': 1, 'mute': 1}", "two classes"], id="number twice"),
        pytest.param("labels: {ok: -1}", ["labels.ok = -1", "at least 0"], id="negative label"),
        pytest.param("labels: {ok: one}", ["labels.ok = 'one'", "whole number"], id="label as a word"),
        pytest.param("labels: {no: 1}", ["False", "quotes"], id="class that YAML reads as a boolean"),
        pytest.param("labels:", ["labels: {}", "accepted"], id="no labels"),
        pytest.param(
            "data: {images: 5, labels: b, output: c}", ["data.images = 5", "should be text"], id="number for a path"
        ),
    ],
)
def test_an_invalid_value_is_named(text: str, words: list[str], folder: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_text("".join(part for part in MINIMAL.splitlines(True) if part[:4] != text[:4]) + text, folder)
    for word in ["config.yml: ", *words]:
        assert word in str(refusal.value)


def test_all_errors_are_named_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.workers.*; .*run\.frame_timeout"):
        load_text(MINIMAL + "run: {workers: 0, frame_timeout: 0}", folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "no keys; accepted: config_version, data, labels", id="empty"),
        pytest.param(b"# only this\n", "no keys; accepted: config_version, data, labels", id="comment"),
        pytest.param(b"- data\n- labels\n", "no keys; accepted: config_version, data, labels", id="list"),
        pytest.param(b"hello", "no keys; accepted: config_version, data, labels", id="text"),
        pytest.param(b"data: [1, 2", "this is not valid YAML.* line 1", id="broken"),
        pytest.param(b"data: !!python/object/apply:os.abort []", "this is not valid YAML", id="code"),
        pytest.param(bytes(range(256)), "this is not valid YAML", id="binary"),
    ],
)
def test_a_file_without_a_configuration_is_rejected(content: bytes, words: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=rf"config\.yml: .*{words}"):
        load_text(content, folder)


@pytest.mark.parametrize(("name", "words"), [("none.yml", "No such file"), (".", "Is a directory")])
def test_an_unreadable_file_is_rejected(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be read: {words}"):
        config.load_config(name)


def test_a_section_may_be_empty(folder: Path) -> None:
    assert load_text(MINIMAL + "run:\npairing: {}\n", folder).run == RunConfig()


@pytest.mark.parametrize(
    "value",
    ["mute,ok", " mute , ok ,", "[mute, ok]", "['mute', \"ok\"]", ["mute", "ok"], ("mute", "ok")],
    ids=repr,
)
def test_a_list_may_be_text_with_commas(value: object, folder: Path) -> None:
    loaded = load_text(MINIMAL, folder, classes=value, enlarged_classes=value, hand_detector=value)
    assert loaded.classes == loaded.pairing.enlarged_classes == loaded.detection.hand_detector == ("mute", "ok")


@pytest.mark.parametrize("value", ["mute,ok", "[mute, ok]", "'mute, ok'"])
def test_hand_detectors_in_a_file_may_be_text(value: str, folder: Path) -> None:
    text = f"{MINIMAL}detection:\n  hand_detector: {value}\n"
    assert (
        load_text(text, folder).detection.hand_detector
        == DetectionConfig(hand_detector=value).hand_detector
        == ("mute", "ok")
    )


def test_empty_text_is_an_empty_list(folder: Path) -> None:
    assert load_text(MINIMAL, folder, enlarged_classes="").pairing.enlarged_classes == ()


def test_a_parameter_overrides_the_file_unless_it_is_none(folder: Path) -> None:
    text = MINIMAL + "run: {workers: 3, frame_timeout: 9}\n"
    assert load_text(text, folder, workers=5).run == RunConfig(workers=5, frame_timeout=9)
    assert load_text(text, folder, workers=None).run == RunConfig(workers=3, frame_timeout=9)


def test_a_vocabulary_without_mute_is_valid(folder: Path) -> None:
    loaded = load_text(MINIMAL.replace("mute", "no_gesture"), folder)
    assert loaded.classes == ("ok",)
    assert loaded.pairing.enlarged_classes == ("mute",)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("crop_coeficient", 2, ["parameter crop_coeficient", "did you mean 'crop_coefficient'", "samples_per_class"]),
        ("limit", "5", ["given as a parameter: selection.limit = '5'", "whole number"]),
        ("classes", 5, ["given as a parameter: selection.classes: '5' is not a label", "accepted: ok, mute"]),
        ("classes", True, ["given as a parameter: selection.classes = True"]),
    ],
)
def test_an_invalid_parameter_is_named(name: str, value: object, words: list[str], folder: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_text(MINIMAL, folder, **{name: value})
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("value", [1, "1", [1], ["1"]])
def test_a_number_as_the_name_of_a_class_is_text(value: object, folder: Path) -> None:
    loaded = load_text(MINIMAL.replace("ok: 1", '"1": 0'), folder, classes=value, enlarged_classes=value)
    assert loaded.classes == loaded.pairing.enlarged_classes == ("1",)


def test_a_number_as_a_place_is_text(folder: Path) -> None:
    loaded = load_text(MINIMAL, folder, output=20240501, images=1, labels=2)
    assert (Path(loaded.data.output).name, Path(loaded.data.images).name, Path(loaded.data.labels).name) == (
        "20240501", "1", "2",
    )  # fmt: skip


def test_labels_may_be_numbered_automatically(folder: Path) -> None:
    loaded = load_text("labels: auto\n", folder, classes="fist,palm")
    assert loaded.labels_are_auto
    assert loaded.labels == {}
    with pytest.raises(ConfigError, match="labels = 'automatic': accepted: a number for each class_name, or auto"):
        load_text("labels: automatic\n", folder)
    with pytest.raises(ConfigError, match="labels_are_auto: there is no such key"):
        load_text("labels_are_auto: true\n", folder)


@pytest.mark.parametrize("kind", ["folders", "webdataset"])
def test_frames_that_say_their_class_need_no_labels(kind: str, folder: Path) -> None:
    loaded = load_text(MINIMAL, folder, images="frames", labels_type=kind)
    assert loaded.data.labels == loaded.data.images
    assert load_text(MINIMAL, folder, images="frames", labels="frames", labels_type=kind).data == loaded.data
    with pytest.raises(ConfigError, match=f"data.labels = .*x.csv.*`labels_type: {kind}` takes the classes from"):
        load_text(MINIMAL, folder, images="frames", labels="x.csv", labels_type=kind)
    with pytest.raises(ConfigError, match=f"data.labels = .*train.csv.*`labels_type: {kind}` takes the classes from"):
        load_text(MINIMAL.replace("data: {", f"data: {{labels_type: {kind}, "), folder)


def test_a_path_is_relative_to_the_file_or_the_caller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    loaded = load_text(MINIMAL.replace("train.csv", "/data/../train.csv"), folder, output="~/out")
    assert loaded.data == config.DataConfig(
        images=str(folder / "frames"), labels="/train.csv", output="/home/somebody/out"
    )
    text = (
        MINIMAL.replace("out}", "out, source: folder}") + "detection: {detector_type: face_cache, face_cache: f.json}"
    )
    assert load_text(text, folder).detection.face_cache == str(folder / "f.json")
    assert load_text(text, folder, face_cache="f.json").detection.face_cache == str(folder / "called from" / "f.json")
    assert load_text(text, folder).data.source_type == "folder"
    for output in ("../out", Path("../out")):
        assert load_text(MINIMAL, folder, output=output).data.output == str(folder / "out")


def test_a_configuration_becomes_plain_values_and_loads_again(folder: Path) -> None:
    loaded = load_text(MINIMAL, folder, classes="mute", workers=2)
    plain = config.config_to_dict(loaded)
    assert plain["selection"] == {"classes": ["mute"], "limit": None}
    again = load_text(yaml.safe_dump(plain | {"config_version": releases.CONFIG_VERSION}), folder)
    by_word = {f"detection.{key}" for key in BUNDLES["balanced"]}  # set, since the file gives them
    assert again == dataclasses.replace(loaded, explicit=loaded.explicit | by_word)
    assert config.config_from_dict(plain) == dataclasses.replace(loaded, explicit=frozenset())


@pytest.mark.parametrize(
    ("every", "kept"), [(10, 10), ("10", 10), ("0.5 s", "0.5 s"), (" .50s ", "0.5 s"), ("2s", "2 s"), (None, None)]
)
def test_every_is_frames_or_seconds(every: Any, kept: Any, folder: Path) -> None:
    assert load_text(MINIMAL, folder, every=every, source="videos").data.every == kept


@pytest.mark.parametrize("every", [0, -1, 0.5, "0.5", "0", "0 s", "s", "-1 s", "1 m", True, [10]])
def test_every_in_another_form_is_rejected(every: Any, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.every = .*: accepted: a whole number of frames, as 10, or seconds"):
        load_text(MINIMAL, folder, every=every)


def test_the_defaults_of_this_release_are_recorded() -> None:
    """A default that changes without a new release would change what a written ``config.yml`` means."""
    release = config.config_to_dict(config.load_config())
    today = {
        f"{section}.{key}": value
        for section, kind in config.SECTIONS.items()
        for key, value in config.config_to_dict(
            kind(**({"images": "a", "labels": "b", "output": "c"} if section == "data" else {}))
        ).items()
        if key not in ("images", "labels", "output")
    }
    assert releases.DEFAULTS[releases.CONFIG_VERSION] == today
    assert detectime.__version__.startswith(f"{releases.CONFIG_VERSION}.")
    assert f'config_version: "{releases.CONFIG_VERSION}"' in paths.CONFIG.read_text()
    for key, value in today.items():  # the project's file repeats them
        section, _, name = key.partition(".")
        assert release[section][name] == value


def test_a_file_needs_only_what_it_changes(folder: Path) -> None:
    loaded = load_text("pairing: {crop_coefficient: 2}", folder, images="frames")
    assert loaded.pairing.crop_coefficient == 2
    assert loaded.labels == config.LABELS == yaml.safe_load(paths.CONFIG.read_text())["labels"]
    assert loaded.data.output == str(folder / "data" / "INPUT_DATA" / "JSON")
    assert not loaded.is_explicit("data.labels")
    assert loaded.is_explicit("data.images")


def test_null_is_no_value_where_none_is_not_given(folder: Path) -> None:
    text = "pairing: {min_hand_score: 0.9}"
    assert load_text(text, folder, min_hand_score=None).pairing.min_hand_score == 0.9
    without = load_text(text, folder, min_hand_score="null")
    assert without.pairing.min_hand_score is None
    assert without.is_explicit("pairing.min_hand_score")
    with pytest.raises(config.ConfigError, match="crop_coefficient = None: should be a number"):
        load_text(text, folder, crop_coefficient="null")
