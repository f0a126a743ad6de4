"""``config.yml`` as frozen, checked dataclasses.

Unknown keys, values of the wrong type and invalid values are rejected before any work starts; the message names the
key, the value and what is accepted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from detectime import paths, releases
from detectime.detectors import face_cache, quality
from detectime.detectors.registry import DetectionConfig as DetectionConfig  # re-exported
from detectime.errors import ConfigError
from detectime.settings import (
    CHECKED,
    Coefficient,
    Count,
    Interval,
    Names,
    Share,
    list_defaults,
    list_field_names,
    suggest_name,
)
from detectime.storage import urls

NO_VALUE = "null"
"""The text that gives a parameter no value, where None means that it is not given."""

LABELS = {"no_gesture": 0, "stop": 1, "victory": 2, "mute": 3, "ok": 4, "like": 5, "dislike": 6}
"""The vocabulary of a file without the section `labels`: that of the contest."""

NO_GESTURE = "no_gesture"
"""The class that a run leaves out by default."""


def _parse_redetect(value: Any) -> Any:
    if value not in (False, True, "changed") or (isinstance(value, int | float) and not isinstance(value, bool)):
        raise ValueError("accepted: false, true, changed")
    return value


Redetect = Annotated[bool | str, BeforeValidator(_parse_redetect)]

HAGRID_CLASSES = {"stop": "stop", "peace": "victory", "mute": "mute", "ok": "ok", "like": "like", "dislike": "dislike"}
"""HaGRID's names of the contest's gestures, and the contest's own."""


LabelsType = Literal["frames", "spans", "hagrid", "coco", "cvat", "voc", "yolo", "folders", "webdataset"]

WITHOUT_LABELS = ("folders", "webdataset")
"""Values of `data.labels_type` for which the frames themselves say their class."""

AUTO = "auto"
"""The section `labels` as text: classes are numbered in the order of their names."""


@dataclass(frozen=True, config=CHECKED)
class DataConfig:
    """Where the data is, and how it is read.

    Paths are absolute in a loaded configuration.
    """

    images: str
    """The frames: a folder, archives (.zip, .tar) or videos. This and the next two may be URLs (s3://…, gs://…)."""
    labels: str
    """A csv: frame_path (relative to images), video_name, frame_id, class_name; for videos: file, start, end (seconds,
    or empty), class_name; further columns are kept. Or such a table in Parquet, or annotations: see `labels_type`."""
    output: str
    """Folder for hands.json, outcomes.csv, run.json and the tables."""
    source_type: Literal["folder", "archives", "videos"] | None = None
    """What `images` is: folder, of images | archives, a .zip or .tar or a folder of them, not unpacked | videos, one or
    a folder of them | null: archives or a video by the file name, archives also if the folder holds some and no
    folders."""
    labels_type: LabelsType | None = None
    """What `labels` is: frames, a table with one row per frame | spans, one with one row per span of a video | hagrid |
    coco | cvat | voc | yolo | folders, no labels: one folder per class in images | webdataset, no labels: the class is
    beside each image, in a .cls or .json | null: recognised."""
    group_by: Literal["folder", "prefix", "numbers", "file"] | None = None
    """What frames of one video or person have in common, if the labels do not say: the folder below that of the class |
    prefix of the file name | numbers that run on | file: nothing | null: recognised, in this order."""
    every: Interval | None = None
    """Videos: 10, every 10th frame of a span | "0.5 s", one per half second | null, every frame."""
    span_zero: Literal["player", "first_picture"] = "player"
    """Videos: what start and end count from. player: the time that players show | first_picture: the first picture,
    which may begin after the sound."""
    truth: str | None = None
    """Annotated boxes to compare the samples with: a file or folder of COCO, Pascal VOC, YOLO, CVAT or HaGRID, or a
    truth.json | null: those of the labels (HaGRID), or a truth.json beside them, if there are any."""
    truth_pixels: Literal["upright", "stored"] | None = None
    """Annotated boxes: upright, as viewers show the frames | stored, as the files hold them, before EXIF rotates them |
    null: not known, so frames that are rotated or mirrored are not compared."""
    hagrid_classes: dict[str, str] = dataclasses.field(default_factory=lambda: dict(HAGRID_CLASSES))
    """HaGRID's classes to use, and their names here."""


@dataclass(frozen=True, config=CHECKED)
class SelectionConfig:
    """The frames of the table that this run wants; the others are `left_out`."""

    classes: Names | None = None
    """A list of names; null: every label except no_gesture."""
    limit: Count | None = None
    """Only the first N frames of these classes; null: all."""


@dataclass(frozen=True, config=CHECKED)
class PairingConfig:
    """Arithmetic on the detections: change it and run again, in seconds."""

    rule: Annotated[Literal["confidence", "2021"], BeforeValidator(str)] = "confidence"  # papermill gives a number
    """Which of several hands: confidence, the largest overlap with that square, times the square of the hand's score |
    2021, the largest overlap, among hands of the most trusted detector."""
    crop_coefficient: Coefficient = 1.5
    """A hand pairs with a face if it touches the square around it: half side, in face lengths."""
    crop_hand_coefficient: Coefficient = 1.5
    """Half side of the square around a hand, in hand lengths: the bbox of enlarged_classes."""
    enlarged_classes: Names = ("mute",)
    """Classes where the surroundings of the hand matter."""
    fallback: Literal["none", "wider", "frame"] = "none"
    """For frames without a pair: none | wider: a wider square | frame: then the whole frame, and finally the best hand,
    regardless of faces; set this, or whole_frame, for the first run. The outcome of such a sample is `fallback`."""
    wider_coefficient: Coefficient = 2.5
    """Half side of the wider square, in face lengths; a larger search_coefficient gives it more hands."""
    min_face_score: Share | None = None
    """Ignore faces with a lower score; null: use all that detection kept."""
    min_hand_score: Share | None = None
    """The same for hands: try a score without running detection again."""


@dataclass(frozen=True, config=CHECKED)
class RunConfig:
    """How the work is done; no value changes a result."""

    workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Processes; null: one per core, one on a GPU, as many as a cluster has room for."""
    save_per_num_images: Count = 100
    """Frames in a shard: a killed run loses at most one per worker."""
    frame_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Seconds; a frame that takes longer is `failed`."""
    retry_failed: bool = False
    """Process the missing, unreadable and failed frames of earlier passes again."""
    redetect: Redetect = False
    """changed: process changed frames even if they are more than half | true: process every frame again with the
    current detectors and settings; the old detections are kept beside the new ones."""
    engine: Literal["local", "ray"] | None = None
    """local: processes on this machine | ray | null: ray if ray_address is set."""
    ray_address: str | None = None
    """ray: the cluster, ray://HOST:10001, HOST:6379 or auto; null: start Ray on this machine."""
    worker_cpus: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] = 1.0
    """ray: cores per worker."""
    worker_gpus: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    """ray: GPUs per worker; may be a fraction."""
    start_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    """ray: seconds within which the cluster must provide a worker; raise it if nodes start on demand."""

    @property
    def uses_ray(self) -> bool:
        """Whether workers run on Ray: if `engine` says so, or if it is not set and there is a `ray_address`."""
        return self.engine == "ray" or (self.engine is None and self.ray_address is not None)

    def __post_init__(self) -> None:
        """Reject a setting that would be ignored."""
        if self.engine == "local" and self.ray_address is not None:
            raise ConfigError(f"run.ray_address = {self.ray_address!r}: engine is local; accepted beside it: null")


@dataclass(frozen=True, config=CHECKED)
class DisplayConfig:
    """What the notebook and the report show."""

    samples_per_class: Annotated[int, Field(ge=0, le=100)] = 4
    """Frames that the galleries show for each class and for each reason."""
    blur_faces: bool = False
    """Make the faces that were found unrecognisable in the galleries and in the report."""


@dataclass(frozen=True, config=CHECKED)
class Config:
    """The whole of ``config.yml``.

    `explicit` names the keys, such as ``pairing.fallback``, that the user set: by a parameter, or in a file to another
    value than the default of that file's release. See `is_explicit`.

    `labels_are_auto` says that the section `labels` of the file is `AUTO`: `labels` has the classes of the run in the
    output folder, or none, until `labels.vocabulary.number_labels` adds those of the labels.
    """

    data: DataConfig
    labels: dict[str, Annotated[int, Field(ge=0, lt=2**31)]]
    selection: SelectionConfig = SelectionConfig()
    detection: DetectionConfig = DetectionConfig()
    pairing: PairingConfig = PairingConfig()
    run: RunConfig = RunConfig()
    display: DisplayConfig = DisplayConfig()
    explicit: frozenset[str] = frozenset()
    labels_are_auto: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The wanted classes: `selection.classes`, or every label except ``no_gesture``."""
        if self.selection.classes is not None:
            return self.selection.classes
        return tuple(name for name in self.labels if name != NO_GESTURE)

    def is_explicit(self, key: str) -> bool:
        """Whether the user set a key, such as ``pairing.fallback``: a run's own value does not replace it."""
        return key in self.explicit or self._differs(key)

    def was_resumed(self, key: str) -> bool:
        """Whether a key that the user did not set differs from today's default: its value comes from a run."""
        # A configuration that was put together in code does not say what is set.
        return bool(self.explicit) and key not in self.explicit and self._differs(key)

    def _differs(self, key: str) -> bool:
        """Whether a key has another value than its default, which for `detection` depends on `quality`."""
        section, _, name = key.partition(".")
        values = getattr(self, section)
        defaults = _find_defaults(values)
        return name in defaults and getattr(values, name) != defaults[name]

    def __post_init__(self) -> None:
        """Check what no single key can check by itself."""
        if not self.labels_are_auto:
            self._check_labels()
            self._check_class_names()
        self._check_pairing()
        if self.detection.detector_type == face_cache.SPEC.name and self.detection.face_cache is None:
            raise ConfigError(
                f"detection.face_cache = None: `detector_type: {face_cache.SPEC.name}` needs it; accepted: a JSON list "
                "of rows with frame_path and bbox_…, the folder of a finished run, or its detections.parquet"
            )
        if not self.classes and not self.labels_are_auto:
            raise ConfigError(f"selection.classes: [] wants no frame; accepted: some of {', '.join(self.labels)}")

    def _check_labels(self) -> None:
        if not self.labels:
            raise ConfigError(f"labels: {{}} names no class; accepted: a number for each class_name, or {AUTO}")
        if "all" in self.labels:
            raise ConfigError("labels: 'all' is the name of the last row of tables; accepted: any other name")
        numbers = list(self.labels.values())
        if len(set(numbers)) < len(numbers):
            raise ConfigError(f"labels: {self.labels} gives one number to two classes; accepted: a number for each")

    def _check_class_names(self) -> None:
        """Reject names of classes that are not labels; defaults may name classes that a vocabulary lacks."""
        names = {"selection.classes": self.selection.classes or ()}
        if self.pairing.enlarged_classes != PairingConfig.enlarged_classes:
            names["pairing.enlarged_classes"] = self.pairing.enlarged_classes
        for theirs, ours in self.data.hagrid_classes.items():
            if HAGRID_CLASSES.get(theirs) != ours:
                names[f"data.hagrid_classes.{theirs}"] = (ours,)
        for key, values in names.items():
            for name in values:
                if name not in self.labels:
                    raise ConfigError(f"{key}: {name!r} is not a label; {suggest_name(name, self.labels)}")

    def _check_pairing(self) -> None:
        if self.pairing.fallback == "frame" and self.detection.whole_frame is False:
            raise ConfigError("detection.whole_frame = False: `fallback: frame` needs it; accepted: true, null")
        wider, least = self.pairing.wider_coefficient, self.pairing.crop_coefficient
        if self.pairing.fallback != "none" and wider < least:
            raise ConfigError(
                f"pairing.wider_coefficient = {wider}: narrower than crop_coefficient; accepted: {least} or more"
            )


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "selection": SelectionConfig,
    "detection": DetectionConfig,
    "pairing": PairingConfig,
    "run": RunConfig,
    "display": DisplayConfig,
}
"""The sections of ``config.yml`` whose keys are parameters too."""
PARAMETERS: dict[str, str] = {
    field.name: section for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)
}
"""Each parameter of the notebook, and the section of ``config.yml`` that has the key of its name."""

_NOT_KEYS = ("explicit", "labels_are_auto")
"""Fields of `Config` that are no keys of ``config.yml``."""
_PATHS = ("images", "labels", "output", "face_cache", "truth")
_TEXTS = (*_PATHS, "classes", "enlarged_classes")
"""Parameters that may be a number: papermill's ``-p output 20240501`` and ``-p classes 1`` give one."""
_DELIVERED_PLACES = {
    "images": "data/INPUT_DATA/TRAIN_DATA",
    "labels": "data/INPUT_DATA/train.csv",
    "output": "data/INPUT_DATA/JSON",
}
"""The places of the delivered ``config.yml``: whoever leaves them there has not set them."""

# What is accepted, where pydantic speaks of JSON's types.
_EXPECTED = {
    "bool_type": "should be true or false",
    "dataclass_type": "should be keys with values",
    "dict_type": "should be keys with values",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "string_type": "should be text",
    "string_too_short": "should not be empty",
    "too_short": "should name at least one",
    "tuple_type": "should be a list",
}


_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
"""The name and the words of a limit, by pydantic's name of the fault."""


def load_config(
    path: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Config:
    """Read a configuration file and apply parameters on top.

    Parameters
    ----------
    path
        A YAML file; None: the ``config.yml`` of the project (see `paths.find_config`). Relative paths in it are
        relative to its folder; in that of an installed package, to the folder of the parameters.
    parameters
        Values by the names in `PARAMETERS`; None: the value of the file; the text ``null``: no value. A list may be
        text with commas, as papermill's ``-p`` passes it. Names of earlier releases are accepted.
    folder
        What `path` and relative paths among the parameters are relative to; None: `paths.find_base`, that is, the
        current folder, or the project if that is its folder ``notebooks``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or a value is not accepted.

    Examples
    --------
    >>> config = load_config(parameters={"classes": "ok, like", "limit": 100})
    >>> config.selection
    SelectionConfig(classes=('ok', 'like'), limit=100)
    """
    file = paths.find_config() if path is None else Path(make_absolute(os.fspath(path), folder))
    tree = _read_file(file)
    version = releases.check_version(tree.pop("config_version", None), str(file))
    # A section whose keys are all commented out is empty.
    tree = {section: {} if value is None else value for section, value in tree.items()}
    tree = rename_old_keys(tree, str(file))
    tree = {"data": {}, "labels": LABELS, **tree}
    places = tree["data"]
    unset = set()
    if isinstance(places, dict):
        tree["data"] = places = _DELIVERED_PLACES | places
        unset = {f"data.{key}" for key, value in _DELIVERED_PLACES.items() if places[key] == value}
    for section, values in tree.items():
        if section in SECTIONS and isinstance(values, dict):
            # An installed package has no data of the user's.
            beside_file = folder if file == paths.CONFIG and not paths.IS_CLONE else file.resolve().parent
            beside = {key: make_absolute(values[key], beside_file) for key in _PATHS if key in values}
            tree[section] = values | beside
    given: dict[str, Any] = {}
    for name, value in _rename_old_parameters(parameters or {}).items():
        if name not in PARAMETERS:
            raise ConfigError(f"parameter {name}: there is no such parameter; {suggest_name(name, PARAMETERS)}")
        if isinstance(value, str) and value == NO_VALUE:
            given[name] = None
        elif value is not None:
            text = _restore_text(value) if name in _TEXTS else value
            given[name] = make_absolute(text, folder) if name in _PATHS else text
    config = _make_config(tree, given, version, str(file))
    unset -= {f"data.{name}" for name in given}
    return _leave_out_labels(dataclasses.replace(config, explicit=config.explicit - unset), given)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration, or a section of one, as plain values that JSON and YAML can hold.

    Examples
    --------
    >>> config_to_dict(SelectionConfig(classes=("ok", "like")))
    {'classes': ['ok', 'like'], 'limit': None}
    """
    plain: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    for name in _NOT_KEYS:  # how the configuration was given is not part of it
        plain.pop(name, None)
    if isinstance(config, Config) and config.labels_are_auto:
        plain["labels"] = AUTO
    return plain


def check_truth(config: Config) -> None:
    """Refuse `data.truth` if there is no such file or folder, before hours of work; URLs are not checked.

    Raises
    ------
    ConfigError
        If it does not exist.

    Examples
    --------
    >>> check_truth(load_config())
    """
    place = config.data.truth
    if place is not None and not urls.is_remote(place) and not os.path.exists(urls.strip_file_scheme(place)):
        raise ConfigError(f"data.truth = {place!r}: there is no such file or folder; accepted: annotations, or null")


def list_differences(config: Config) -> dict[str, Any]:
    """Return the keys whose value differs from the default of this release, with their plain values.

    The default of a key of `detection` depends on `quality`: what the word stands for is not listed beside it. Places
    have no default: `images`, `labels`, `output` and the vocabulary are not among them.

    Examples
    --------
    >>> list_differences(load_config(parameters={"limit": 100, "fallback": "none"}))
    {'selection.limit': 100}
    >>> list_differences(load_config(parameters={"quality": "best"}))
    {'detection.quality': 'best'}
    """
    found: dict[str, Any] = {}
    for section in SECTIONS:
        values = getattr(config, section)
        plain = config_to_dict(values)
        for name, default in _find_defaults(values).items():
            if getattr(values, name) != default:
                found[f"{section}.{name}"] = plain[name]
    if found.get("detection.whole_frame") is False:  # what the default, null, becomes in a run
        del found["detection.whole_frame"]
    if config.detection.quality is None:  # no word, in a run of 0.2: all its keys are compared with their defaults
        del found["detection.quality"]
    return found


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """Return the configuration that `config_to_dict` converted, in this release or an earlier one.

    Raises
    ------
    ConfigError
        If a key or a value is not accepted.

    Examples
    --------
    >>> config = load_config()
    >>> config_from_dict(config_to_dict(config)).detection == config.detection
    True
    """
    return _validate(rename_old_keys(values, "the configuration"), {}, "the configuration")


def list_faults(error: ValidationError) -> list[str]:
    """Return one sentence for each fault that pydantic found: the key, the value, and what is accepted.

    Examples
    --------
    >>> try:
    ...     SelectionConfig(limit=0)
    ... except ValidationError as error:
    ...     print(*list_faults(error))
    limit = 0: accepted: at least 1
    """
    return [_describe_fault(fault) for fault in error.errors()]


_Section = TypeVar("_Section")


def make_section(section: type[_Section], values: Mapping[str, Any], kind: str) -> _Section:
    """Make a checked dataclass of values by name.

    Parameters
    ----------
    section
        The class, one of pydantic's dataclasses.
    values
        Its fields; those that are not given have their default.
    kind
        What a field is, for the message about one that there is not: "setting of an export".

    Raises
    ------
    ConfigError
        If there is no such field, or a value is not accepted.

    Examples
    --------
    >>> make_section(SelectionConfig, {"limt": 5}, "selection")
    Traceback (most recent call last):
        ...
    detectime.errors.ConfigError: limt: there is no such selection; did you mean 'limit'? accepted: classes, limit
    """
    accepted = list_field_names(section)
    for key in values:
        if key not in accepted:
            raise ConfigError(f"{key}: there is no such {kind}; {suggest_name(key, accepted)}")
    try:
        return section(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(list_faults(error))) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Rejects a key that stands twice: of two the parser would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping, unless a key stands twice."""
        keys = [key.value for key, _ in node.value]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            problem = f"the key {repeated[0]!r} stands twice"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{file}: the configuration cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: this is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: the configuration has no keys; accepted: {', '.join(_list_sections())}")
    for key in (*tree, *(key for section in tree.values() if isinstance(section, dict) for key in section)):
        if not isinstance(key, str):  # YAML reads `no`, `off` and `5` as other types than text
            raise ConfigError(f"{file}: YAML reads a key as {key!r}; accepted: text, so write it in quotes")
    return tree


def rename_old_keys(tree: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Give keys of earlier releases their present names.

    Parameters
    ----------
    tree
        Sections by name, as in ``config.yml``.
    file
        Where they come from, for messages.

    Raises
    ------
    ConfigError
        If a key stands there under both names.

    Examples
    --------
    >>> rename_old_keys({"data": {"images": "frames", "source": "videos"}}, "config.yml")
    {'data': {'images': 'frames', 'source_type': 'videos'}}
    """
    renamed = dict(tree)
    for old, new in releases.OLD_PARAMETERS.items():
        section = PARAMETERS[new]
        values = renamed.get(section)
        if isinstance(values, dict) and old in values:
            if new in values:
                raise ConfigError(f"{file}: {section}.{old} is the old name of {section}.{new}; give one of them")
            renamed[section] = {new if key == old else key: value for key, value in values.items()}
    return renamed


def _rename_old_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    renamed = dict(parameters)
    for old, new in releases.OLD_PARAMETERS.items():
        value = renamed.pop(old, None)
        if value is not None:
            if renamed.get(new) is not None:
                raise ConfigError(f"parameter {old}: it is the old name of {new}; give one of them")
            renamed[new] = value
    return renamed


def _make_config(tree: dict[str, Any], given: Mapping[str, Any], version: str, file: str) -> Config:
    """Make a configuration from a file and parameters.

    A value of the file that is its release's default counts as unset: today's default replaces it.
    """
    for name in _NOT_KEYS:
        if name in tree:
            raise ConfigError(f"{file}: {name}: there is no such key; accepted: {', '.join(_list_sections())}")
    as_written = _validate(_add_parameters(tree, given, file), given, file)
    parameters = {f"{PARAMETERS[name]}.{name}" for name in given}
    written = {f"{section}.{key}" for section in SECTIONS if section in tree for key in tree[section]}
    unset = {key for key in written if releases.is_default(version, key, _get_plain_value(as_written, key))}
    word = given.get("quality", tree.get("detection", {}).get("quality"))
    unset -= parameters | _list_keys_of_word(word, version)
    kept = {
        section: {key: value for key, value in values.items() if f"{section}.{key}" not in unset}
        if section in SECTIONS
        else values
        for section, values in tree.items()
    }
    config = _validate(_add_parameters(kept, given, file), given, file)
    explicit = frozenset((written - unset) | parameters)
    names = {key.removeprefix("detection.") for key in explicit if key.startswith("detection.")}
    detection = quality.apply_quality(config.detection, config.detection.quality, names)
    return dataclasses.replace(config, detection=detection, explicit=explicit)


def _leave_out_labels(config: Config, given: Mapping[str, Any]) -> Config:
    """Give `data.labels` the place of the images if nothing is read from it, and refuse another one.

    With `labels_type` as a parameter, the `labels` of the file are those of other runs.
    """
    data = config.data
    if data.labels_type not in WITHOUT_LABELS or data.labels == data.images:
        return config
    if "labels" in given or ("labels_type" not in given and "data.labels" in config.explicit):
        raise ConfigError(
            f"data.labels = {data.labels!r}: `labels_type: {data.labels_type}` takes the classes from `images`; leave "
            "`labels` out, or set another labels_type"
        )
    return dataclasses.replace(config, data=dataclasses.replace(data, labels=data.images))


def _list_keys_of_word(word: Any, version: str) -> set[str]:
    """Return the keys that `quality` decides: they count as set at any value that the file gives.

    Files of 0.2 give every key, and know no `quality`.
    """
    if "detection.quality" not in releases.DEFAULTS[version]:
        return set()
    return {f"detection.{name}" for name in quality.BUNDLES.get(str(word), {})}


def _add_parameters(tree: Mapping[str, Any], given: Mapping[str, Any], file: str) -> dict[str, Any]:
    merged = dict(tree)
    for name, value in given.items():
        section = PARAMETERS[name]
        values = merged.get(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {section} = {values!r}: {_EXPECTED['dataclass_type']}")
        merged[section] = {**values, name: value}
    return merged


def _get_plain_value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return config_to_dict(getattr(config, section))[name]


def _list_sections() -> list[str]:
    return ["config_version", *(name for name in list_field_names(Config) if name not in _NOT_KEYS)]


def _validate(tree: dict[str, Any], given: Mapping[str, Any], file: str) -> Config:
    if isinstance(tree.get("labels"), str):
        if tree["labels"] != AUTO:
            raise ConfigError(f"{file}: labels = {tree['labels']!r}: accepted: a number for each class_name, or {AUTO}")
        tree = tree | {"labels": {}, "labels_are_auto": True}
    try:
        # As JSON: its strict rules let a mapping be a dataclass and a list a tuple, and nothing more.
        return TypeAdapter(Config).validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        faults = zip(error.errors(), list_faults(error), strict=True)
        raise ConfigError(
            "; ".join(f"{_find_origin(fault, text, given, file)}: {text}" for fault, text in faults)
        ) from None


def _find_origin(fault: Any, text: str, given: Mapping[str, Any], file: str) -> str:
    """Return where a faulty value comes from: the file, or a parameter."""
    # A fault that concerns several keys has no location, and begins with the key that is wrong.
    key = tuple(fault["loc"][:2]) or tuple(text.partition(":")[0].partition(" ")[0].split("."))
    is_parameter = any(key[:2] == (PARAMETERS[name], name) for name in given)
    return "given as a parameter" if is_parameter else file


def _describe_fault(fault: Any) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location)
    if fault["type"] == "value_error":
        reason = str(fault["ctx"]["error"])
    elif fault["type"] == "literal_error":
        reason = suggest_name(str(fault["input"]), re.findall(r"'([^']*)'", fault["ctx"]["expected"]))
    elif fault["type"] in _LIMITS:
        name, words = _LIMITS[fault["type"]]
        reason = f"accepted: {words} {fault['ctx'][name]:g}"
    else:
        reason = _EXPECTED.get(fault["type"], str(fault["msg"]))
    if not location:
        return reason
    if fault["type"] == "unexpected_keyword_argument":
        accepted = list_field_names(SECTIONS[location[0]]) if len(location) > 1 else _list_sections()
        return f"{key}: there is no such key; {suggest_name(location[-1], accepted)}"
    if fault["type"] in ("missing", "missing_argument"):
        return f"{key}: this key is needed"
    return f"{key} = {fault['input']!r}: {reason}"


def _find_defaults(values: Any) -> dict[str, Any]:
    """Return the default of each key of a section that has one; those of `detection` depend on its `quality`."""
    return quality.find_defaults(values) if isinstance(values, DetectionConfig) else list_defaults(type(values))


def _restore_text(value: Any) -> Any:
    """Return whole numbers, also those of a list, as text."""
    if isinstance(value, list):
        return [_restore_text(each) for each in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def make_absolute(value: Any, folder: str | os.PathLike[str] | None) -> Any:
    """Make a path absolute, relative to a folder (None: `paths.find_base`); URLs stay as they are.

    Examples
    --------
    >>> make_absolute("s3://bucket/frames", None), make_absolute("frames", "/home/anna")
    ('s3://bucket/frames', '/home/anna/frames')
    """
    if not isinstance(value, str | os.PathLike) or not value:
        return value
    text = os.fspath(value)
    if urls.is_remote(text):
        return text
    path = Path(urls.strip_file_scheme(text)).expanduser()
    # The current folder may be gone; an absolute path does not need it.
    return os.path.normpath(path if path.is_absolute() else Path(folder or paths.find_base(), path))
