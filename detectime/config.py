"""``config.yml`` as frozen, checked dataclasses.

A key that does not exist, a value of the wrong type and a value that cannot be are refused before any work starts, with
the key, the value and what is accepted.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

import definitions
from detectime import remote

NO_GESTURE = "no_gesture"
"""The class that a run leaves out unless it is asked for."""

FACE_CACHE = "face_cache"
"""The `detector_type` that looks at no frame: the faces are known."""

HAGRID = {"stop": "stop", "peace": "victory", "mute": "mute", "ok": "ok", "like": "like", "dislike": "dislike"}
"""HaGRID's names of the contest's gestures, and the contest's."""

_CHECKED = ConfigDict(extra="forbid", strict=True, str_min_length=1)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, the value and what is accepted."""


def _as_list(value: Any) -> Any:
    """Names from text with commas, in brackets and quotes or not: ``"mute, ok"``, ``"['mute', 'ok']"``."""
    if isinstance(value, str):
        names = (name.strip().strip("'\"") for name in value.strip().removeprefix("[").removesuffix("]").split(","))
        return tuple(name for name in names if name)
    return tuple(value) if isinstance(value, list) else value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: named more than once; accepted: each once")
    return names


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list), AfterValidator(_each_once)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Coefficient = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _as_interval(value: Any) -> Any:
    """Take a whole number of frames, in quotes or not, or seconds as text: ``0.5 s``."""
    text = "" if isinstance(value, bool) else str(value).strip()
    seconds = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+) ?s", text)
    if seconds and float(seconds[1]) > 0:
        return f"{float(seconds[1]):g} s"
    if re.fullmatch("[0-9]{1,18}", text) and int(text) > 0:
        return int(text)
    raise ValueError("accepted: a whole number of frames, as 10, or seconds, as '0.5 s'")


Interval = Annotated[int | str, BeforeValidator(_as_interval)]


@dataclass(frozen=True, config=_CHECKED)
class Data:
    """Where things are, and what they are. The paths, `PATHS`, are absolute once the configuration is loaded."""

    images: str
    labels: str
    output: str
    source: Literal["folder", "archives", "videos"] | None = None
    every: Interval | None = None
    hagrid_classes: dict[str, str] = dataclasses.field(default_factory=lambda: dict(HAGRID))


@dataclass(frozen=True, config=_CHECKED)
class Selection:
    """Which rows of the frame table a run wants."""

    classes: Names | None = None
    limit: Count | None = None


@dataclass(frozen=True, config=_CHECKED)
class Detection:
    """What decides which boxes are found: a run is bound to these values, but for those that `FREE` names."""

    detector_type: str = "retinaface"
    face_cache: str | None = None
    face_cache_column: str | None = None
    face_confidence: Share = 0.6
    face_nms: Share = 0.3
    face_max_resolution: Annotated[int, Field(ge=32, le=8192)] = 640
    face_first_resolution: Annotated[int, Field(ge=32, le=8192)] = 160
    hand_detector: Annotated[Names, Field(min_length=1)] = ("mediapipe",)
    near_coefficient: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.5
    hand_confidence: Share = 0.5
    hagrid_confidence: Share = 0.7
    search: Literal["face", "frame"] | None = None
    search_coefficient: Coefficient | None = None
    whole_frame: bool | None = None
    landmark_margin: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    mask_rcnn_confidence: Share = 0.95
    # A year is a number to YAML and to papermill.
    mask_rcnn_resize: Annotated[Literal["2021", "plain"], BeforeValidator(str)] = "2021"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    reduced_decoding: bool = True
    exif: Literal["ignore", "apply"] = "ignore"
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = 100_000_000  # above it Pillow refuses an image itself


FREE = ("device", "batch", "face_cache")
"""Keys of `Detection` that a run is not bound to: a GPU finds the same boxes, within a pixel, and so does a batch; to
what a face cache holds a run is bound, but it may be moved."""


@dataclass(frozen=True, config=_CHECKED)
class Pairing:
    """What is done with detections: free to change at any time."""

    crop_coefficient: Coefficient = 1.5
    crop_hand_coefficient: Coefficient = 1.5
    enlarged_classes: Names = ("mute",)
    fallback: Literal["none", "wider", "frame"] = "none"
    wider_coefficient: Coefficient = 2.5


@dataclass(frozen=True, config=_CHECKED)
class Run:
    """How the work is done; no value changes a result."""

    workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    engine: Literal["local", "ray"] | None = None
    ray_address: str | None = None
    worker_cpus: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] = 1.0
    worker_gpus: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    start_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    save_per_num_images: Count = 100
    frame_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    retry_failed: bool = False

    @property
    def uses_ray(self) -> bool:
        """Whether workers are Ray's: if `engine` says so, or, where it says nothing, if there is a cluster."""
        return self.engine == "ray" or (self.engine is None and self.ray_address is not None)

    def __post_init__(self) -> None:
        """Refuse what would be ignored."""
        if self.engine == "local" and self.ray_address is not None:
            raise ConfigError(f"run.ray_address = {self.ray_address!r}: engine is local; accepted beside it: null")


@dataclass(frozen=True, config=_CHECKED)
class Display:
    """What the notebook shows."""

    samples_per_class: Annotated[int, Field(ge=0, le=100)] = 4


@dataclass(frozen=True, config=_CHECKED)
class Config:
    """The whole of ``config.yml``."""

    data: Data
    labels: dict[str, Annotated[int, Field(ge=0, lt=2**31)]]
    selection: Selection = Selection()
    detection: Detection = Detection()
    pairing: Pairing = Pairing()
    run: Run = Run()
    display: Display = Display()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes this run wants: `selection.classes`, or every label but ``no_gesture``."""
        if self.selection.classes is not None:
            return self.selection.classes
        return tuple(name for name in self.labels if name != NO_GESTURE)

    def __post_init__(self) -> None:
        """Check what no single key can say of itself."""
        if not self.labels:
            raise ConfigError("labels: {} names no class; accepted: a number for each class_name of the csv")
        if "all" in self.labels:
            raise ConfigError("labels: 'all' is what tables call their last row; accepted: any other name")
        numbers = list(self.labels.values())
        if len(set(numbers)) < len(numbers):
            raise ConfigError(f"labels: {self.labels} gives one number to two classes; accepted: a number for each")
        for key, names in (
            ("selection.classes", self.selection.classes or ()),
            ("pairing.enlarged_classes", self.pairing.enlarged_classes),
        ):
            # The default enlarges `mute`; a vocabulary without it is no error.
            if key == "pairing.enlarged_classes" and names == Pairing.enlarged_classes:
                continue
            for name in names:
                if name not in self.labels:
                    raise ConfigError(f"{key}: {name!r} is no label; {nearest(name, self.labels)}")
        for theirs, ours in self.data.hagrid_classes.items():
            # A vocabulary without a class of the default is no error; a map that was written for it is.
            if ours not in self.labels and HAGRID.get(theirs) != ours:
                raise ConfigError(f"data.hagrid_classes.{theirs}: {ours!r} is no label; {nearest(ours, self.labels)}")
        if self.pairing.fallback == "frame" and self.detection.whole_frame is False:
            raise ConfigError("detection.whole_frame = False: `fallback: frame` needs it; accepted: true, null")
        self._check_face_cache()
        wider, by_rule = self.pairing.wider_coefficient, self.pairing.crop_coefficient
        if self.pairing.fallback != "none" and wider < by_rule:
            raise ConfigError(
                f"pairing.wider_coefficient = {wider}: narrower than crop_coefficient; accepted: {by_rule} or more"
            )
        if not self.classes:
            raise ConfigError(
                f"selection.classes: [] wants no frame at all; accepted: some of {', '.join(self.labels)}"
            )

    def _check_face_cache(self) -> None:
        if self.detection.detector_type == FACE_CACHE:
            if self.detection.face_cache is None:
                raise ConfigError(
                    f"detection.face_cache = None: `detector_type: {FACE_CACHE}` needs it; accepted: a JSON list of "
                    "rows with frame_path and bbox_…, the folder of a finished run, or its detections.parquet"
                )
            return
        for key in ("face_cache", "face_cache_column"):
            value = getattr(self.detection, key)
            if value is not None:
                raise ConfigError(
                    f"detection.{key} = {value!r}: `detector_type: {self.detection.detector_type}` does not read it; "
                    f"accepted: null, or `detector_type: {FACE_CACHE}` beside it"
                )


_SECTIONS: dict[str, type] = {
    "data": Data,
    "selection": Selection,
    "detection": Detection,
    "pairing": Pairing,
    "run": Run,
    "display": Display,
}
PARAMETERS: dict[str, str] = {
    field.name: section for section, kind in _SECTIONS.items() for field in dataclasses.fields(kind)
}
"""Each parameter of the notebook and the section of ``config.yml`` that holds the key of its name."""

_PATHS = ("images", "labels", "output", "face_cache")

_IN_WORDS = {
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
"""What is accepted, where pydantic speaks of JSON's types."""


def load(
    path: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Config:
    """Read a configuration file and put parameters above it.

    Parameters
    ----------
    path
        A YAML file; None: the ``config.yml`` of the project. Relative paths in it are relative to its folder.
    parameters
        Values by the names in `PARAMETERS`; None as a value means what the file says. A list may be text with commas,
        as papermill's ``-p`` passes it.
    folder
        What `path` and relative paths among the parameters are relative to; None: the current folder.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or a value is not accepted.
    """
    file = definitions.CONFIG if path is None else Path(_absolute(os.fspath(path), folder))
    # A section whose keys are all commented out is an empty one.
    tree = {section: {} if value is None else value for section, value in _read(file).items()}
    for section, values in tree.items():
        if section in _SECTIONS and isinstance(values, dict):
            beside = {key: _absolute(values[key], file.resolve().parent) for key in _PATHS if key in values}
            tree[section] = values | beside
    for name, value in (parameters or {}).items():
        if name not in PARAMETERS:
            raise ConfigError(f"parameter {name}: there is no such parameter; {nearest(name, PARAMETERS)}")
        if value is None:
            continue
        section = PARAMETERS[name]
        if name in _PATHS:
            value = _absolute(value, folder)
        tree[section] = {**tree.get(section, {}), name: value}
    given = [name for name, value in (parameters or {}).items() if value is not None]
    return _check(tree, str(file), given)


def from_notebook(names: Mapping[str, Any], cells: Sequence[str]) -> Config:
    """Load the configuration that a notebook's parameters describe.

    Relative paths among them are relative to the folder that papermill was called in; a notebook that is opened in
    JupyterLab starts in its own folder, and there they are relative to the project's.

    Parameters
    ----------
    names
        ``globals()`` of the notebook: `config`, the configuration file or None, and the names in `PARAMETERS`.
    cells
        ``In`` of the notebook: sources of the cells executed so far. papermill puts what it was given into a cell of
        its own that begins with ``# Parameters`` and only logs names that nothing reads; here they are refused.

    Raises
    ------
    ConfigError
        As `load`, and if papermill was given a name that is no parameter.
    """
    injected = [cell for cell in cells if cell.partition("\n")[0].rstrip() == "# Parameters"]
    accepted = ("config", *PARAMETERS)
    for node in (node for cell in injected for node in ast.walk(ast.parse(cell))):
        # papermill writes infinity as `float('inf')`: only what is assigned is a name that was given
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in accepted:
            raise ConfigError(f"parameter {node.id}: there is no such parameter; {nearest(node.id, accepted)}")
    in_its_folder = Path.cwd() == definitions.ROOT_DIR / "notebooks" and not injected
    parameters = {name: names[name] for name in PARAMETERS if name in names}
    return load(names.get("config"), parameters, definitions.ROOT_DIR if in_its_folder else None)


def as_dict(config: Any) -> dict[str, Any]:
    """Return a configuration, or a section of one, as plain values that JSON and YAML can hold."""
    plain: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return plain


class _KeysOnce(yaml.SafeLoader):
    """YAML in which a key stands once: of two the parser keeps the last and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a mapping with a key that stands twice."""
        keys = [key.value for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), _KeysOnce)
    except OSError as error:
        raise ConfigError(f"{file}: the configuration cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: this is no YAML that can be used: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: the configuration has no keys; accepted: {', '.join(_field_names(Config))}")
    for key in (*tree, *(key for section in tree.values() if isinstance(section, dict) for key in section)):
        if not isinstance(key, str):  # `no`, `off` and `5` are no text to YAML
            raise ConfigError(f"{file}: YAML reads a key as {key!r}; accepted: text, so write it in quotes")
    return tree


def _check(tree: dict[str, Any], file: str, given: Sequence[str]) -> Config:
    try:
        # As JSON, since its strict rules let a mapping be a dataclass and a list a tuple, and nothing more.
        return TypeAdapter(Config).validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        reasons = []
        for e in error.errors():
            reason = _explain(e)
            section, key = [*re.split("[ :]", reason, maxsplit=1)[0].split("."), ""][
                :2
            ]  # and perhaps a place in a list
            by_parameter = key in given and PARAMETERS[key] == section
            reasons.append(("given as a parameter: " if by_parameter else f"{file}: ") + reason)
        raise ConfigError("; ".join(reasons)) from None


def _explain(error: Any) -> str:
    """One sentence for one of pydantic's errors: the key, the value, what is accepted."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    reason = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ").strip()
    reason = _IN_WORDS.get(error["type"], reason)
    if not location:
        return reason
    if error["type"] == "unexpected_keyword_argument":
        section: type = _SECTIONS[location[0]] if len(location) > 1 else Config
        return f"{key}: there is no such key; {nearest(location[-1], _field_names(section))}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{key}: this key is needed"
    return f"{key} = {error['input']!r}: {reason}"


def nearest(name: str, accepted: Iterable[str]) -> str:
    """Say which names are accepted, the one that was likely meant first."""
    accepted = list(accepted)
    close = difflib.get_close_matches(str(name), accepted, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}accepted: {', '.join(accepted)}"


def _field_names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _absolute(value: Any, folder: str | os.PathLike[str] | None) -> Any:
    """Path below a folder, unless it has a scheme; None: the current one, which an absolute path does not need."""
    if not isinstance(value, str | os.PathLike) or not value:
        return value
    text = os.fspath(value)
    if remote.is_remote(text):
        return text
    path = Path(remote.local(text)).expanduser()
    return os.path.normpath(path if path.is_absolute() else Path(folder or Path.cwd(), path))
