"""``config.yml`` as frozen, checked dataclasses.

A key that does not exist, a value of the wrong type and a value that cannot be are refused before any work starts, with
the key, the value and what is accepted.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from detectime import paths, releases
from detectime.detectors import face_cache, hagrid, mask_rcnn, mediapipe, retinaface
from detectime.detectors.contract import SharedSettings
from detectime.errors import ConfigError
from detectime.settings import CHECKED, Coefficient, Count, Interval, Names, Share, list_field_names, suggest_name
from detectime.storage import urls

NO_GESTURE = "no_gesture"
"""The class that a run leaves out unless it is asked for."""


def _parse_redetect(value: Any) -> Any:
    if value not in (False, True, "changed") or (isinstance(value, int | float) and not isinstance(value, bool)):
        raise ValueError("accepted: false, true, changed")
    return value


Redetect = Annotated[bool | str, BeforeValidator(_parse_redetect)]

HAGRID_CLASSES = {"stop": "stop", "peace": "victory", "mute": "mute", "ok": "ok", "like": "like", "dislike": "dislike"}
"""HaGRID's names of the contest's gestures, and the contest's."""


@dataclass(frozen=True, config=CHECKED)
class DataConfig:
    """Where things are, and what they are. The paths are absolute once the configuration is loaded."""

    images: str
    labels: str
    output: str
    source: Literal["folder", "archives", "videos"] | None = None
    every: Interval | None = None
    hagrid_classes: dict[str, str] = dataclasses.field(default_factory=lambda: dict(HAGRID_CLASSES))


@dataclass(frozen=True, config=CHECKED)
class SelectionConfig:
    """Which rows of the frame table a run wants."""

    classes: Names | None = None
    limit: Count | None = None


@dataclass(frozen=True, config=CHECKED)
class DetectionConfig(
    mask_rcnn.MaskRCNNSettings,
    hagrid.HagridSettings,
    mediapipe.MediaPipeSettings,
    face_cache.FaceCacheSettings,
    retinaface.RetinaFaceSettings,
    SharedSettings,
):  # dataclasses take the fields of the last base first
    """What decides which boxes are found: the keys that all detectors share, those of each, and a section for others.

    A run is bound to the values of the detectors that it uses, but for those that `UNBOUND_KEYS` names.
    """

    detector_settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


UNBOUND_KEYS = ("device", "batch", "face_cache")
"""Keys of `DetectionConfig` that do not bind a run.

A GPU or a batch gives the same boxes within a pixel. A face cache binds the run by its content, not by its path.
"""


@dataclass(frozen=True, config=CHECKED)
class PairingConfig:
    """What is done with detections: free to change at any time."""

    crop_coefficient: Coefficient = 1.5
    crop_hand_coefficient: Coefficient = 1.5
    enlarged_classes: Names = ("mute",)
    fallback: Literal["none", "wider", "frame"] = "none"
    wider_coefficient: Coefficient = 2.5
    min_face_score: Share | None = None
    min_hand_score: Share | None = None


@dataclass(frozen=True, config=CHECKED)
class RunConfig:
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
    redetect: Redetect = False

    @property
    def uses_ray(self) -> bool:
        """Whether workers are Ray's: if `engine` says so, or, where it says nothing, if there is a cluster."""
        return self.engine == "ray" or (self.engine is None and self.ray_address is not None)

    def __post_init__(self) -> None:
        """Refuse what would be ignored."""
        if self.engine == "local" and self.ray_address is not None:
            raise ConfigError(f"run.ray_address = {self.ray_address!r}: engine is local; accepted beside it: null")


@dataclass(frozen=True, config=CHECKED)
class DisplayConfig:
    """What the notebook shows."""

    samples_per_class: Annotated[int, Field(ge=0, le=100)] = 4


@dataclass(frozen=True, config=CHECKED)
class Config:
    """The whole of ``config.yml``.

    `explicit` names the keys, as ``pairing.fallback``, that the user set: by a parameter, or in a file to another value
    than the default of that file's release. See `is_explicit`.
    """

    data: DataConfig
    labels: dict[str, Annotated[int, Field(ge=0, lt=2**31)]]
    selection: SelectionConfig = SelectionConfig()
    detection: DetectionConfig = DetectionConfig()
    pairing: PairingConfig = PairingConfig()
    run: RunConfig = RunConfig()
    display: DisplayConfig = DisplayConfig()
    explicit: frozenset[str] = frozenset()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes this run wants: `selection.classes`, or every label but ``no_gesture``."""
        if self.selection.classes is not None:
            return self.selection.classes
        return tuple(name for name in self.labels if name != NO_GESTURE)

    def is_explicit(self, key: str) -> bool:
        """Whether the user set a key, as ``pairing.fallback``: a run's own value then does not stand in for it."""
        section, _, name = key.partition(".")
        values = getattr(self, section)
        return key in self.explicit or getattr(values, name) != _defaults_of(type(values)).get(name)

    def was_resumed(self, key: str) -> bool:
        """Whether a key that the user did not set has another value than today's default: that of a run."""
        section, _, name = key.partition(".")
        values = getattr(self, section)
        # One that was put together by hand says nothing of what is set.
        return (
            bool(self.explicit)
            and key not in self.explicit
            and getattr(values, name) != _defaults_of(type(values))[name]
        )

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
            if key == "pairing.enlarged_classes" and names == PairingConfig.enlarged_classes:
                continue
            for name in names:
                if name not in self.labels:
                    raise ConfigError(f"{key}: {name!r} is no label; {suggest_name(name, self.labels)}")
        for theirs, ours in self.data.hagrid_classes.items():
            # A vocabulary without a class of the default is no error; a map that was written for it is.
            if ours not in self.labels and HAGRID_CLASSES.get(theirs) != ours:
                raise ConfigError(
                    f"data.hagrid_classes.{theirs}: {ours!r} is no label; {suggest_name(ours, self.labels)}"
                )
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
        if self.detection.detector_type == face_cache.SPEC.name and self.detection.face_cache is None:
            raise ConfigError(
                f"detection.face_cache = None: `detector_type: {face_cache.SPEC.name}` needs it; accepted: a JSON list "
                "of rows with frame_path and bbox_…, the folder of a finished run, or its detections.parquet"
            )


_SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "selection": SelectionConfig,
    "detection": DetectionConfig,
    "pairing": PairingConfig,
    "run": RunConfig,
    "display": DisplayConfig,
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


def load_config(
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
    file = paths.CONFIG if path is None else Path(_absolute(os.fspath(path), folder))
    tree = _read(file)
    version = releases.check_version(tree.pop("config_version", None), str(file))
    # A section whose keys are all commented out is an empty one.
    tree = {section: {} if value is None else value for section, value in tree.items()}
    for section, values in tree.items():
        if section in _SECTIONS and isinstance(values, dict):
            beside = {key: _absolute(values[key], file.resolve().parent) for key in _PATHS if key in values}
            tree[section] = values | beside
    given: dict[str, Any] = {}
    for name, value in (parameters or {}).items():
        if name not in PARAMETERS:
            raise ConfigError(f"parameter {name}: there is no such parameter; {suggest_name(name, PARAMETERS)}")
        if value is not None:
            given[name] = _absolute(value, folder) if name in _PATHS else value
    return _validate(tree, given, version, str(file))


def load_notebook_config(names: Mapping[str, Any], cells: Sequence[str]) -> Config:
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
        As `load_config`, and if papermill was given a name that is no parameter.
    """
    injected = [cell for cell in cells if cell.partition("\n")[0].rstrip() == "# Parameters"]
    accepted = ("config", *PARAMETERS)
    for node in (node for cell in injected for node in ast.walk(ast.parse(cell))):
        # papermill writes infinity as `float('inf')`: only what is assigned is a name that was given
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in accepted:
            raise ConfigError(f"parameter {node.id}: there is no such parameter; {suggest_name(node.id, accepted)}")
    in_its_folder = Path.cwd() == paths.ROOT_DIR / "notebooks" and not injected
    parameters = {name: names[name] for name in PARAMETERS if name in names}
    return load_config(names.get("config"), parameters, paths.ROOT_DIR if in_its_folder else None)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration, or a section of one, as plain values that JSON and YAML can hold."""
    plain: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    plain.pop("explicit", None)  # how it was given, not what it is
    return plain


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """Return the configuration that `config_to_dict` gave, of this release or an earlier one.

    Raises
    ------
    ConfigError
        If a key or a value is not accepted.
    """
    return _check(dict(values), {}, "the configuration")


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
        raise ConfigError(f"{file}: the configuration has no keys; accepted: {', '.join(_sections())}")
    for key in (*tree, *(key for section in tree.values() if isinstance(section, dict) for key in section)):
        if not isinstance(key, str):  # `no`, `off` and `5` are no text to YAML
            raise ConfigError(f"{file}: YAML reads a key as {key!r}; accepted: text, so write it in quotes")
    return tree


def _validate(tree: dict[str, Any], given: Mapping[str, Any], version: str, file: str) -> Config:
    """Make a configuration of what a file says and of the parameters that were given.

    A value of the file that is its release's default counts as unset: today's default stands in for it.
    """
    if "explicit" in tree:
        raise ConfigError(f"{file}: explicit: there is no such key; accepted: {', '.join(_sections())}")
    of_file = _check(_with_parameters(tree, given, file), given, file)
    said = {f"{section}.{key}" for section in _SECTIONS if section in tree for key in tree[section]}
    unset = {key for key in said if releases.is_default(version, key, _plain_value(of_file, key))}
    unset -= {f"{PARAMETERS[name]}.{name}" for name in given}
    kept = {
        section: {key: value for key, value in values.items() if f"{section}.{key}" not in unset}
        if section in _SECTIONS
        else values
        for section, values in tree.items()
    }
    config = _check(_with_parameters(kept, given, file), given, file)
    explicit = (said - unset) | {f"{PARAMETERS[name]}.{name}" for name in given}
    return dataclasses.replace(config, explicit=frozenset(explicit))


def _with_parameters(tree: Mapping[str, Any], given: Mapping[str, Any], file: str) -> dict[str, Any]:
    merged = dict(tree)
    for name, value in given.items():
        section = PARAMETERS[name]
        values = merged.get(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {section} = {values!r}: {_IN_WORDS['dataclass_type']}")
        merged[section] = {**values, name: value}
    return merged


def _plain_value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return config_to_dict(getattr(config, section))[name]


def _sections() -> list[str]:
    return ["config_version", *(name for name in list_field_names(Config) if name != "explicit")]


def _check(tree: dict[str, Any], given: Mapping[str, Any], file: str) -> Config:
    try:
        # As JSON, since its strict rules let a mapping be a dataclass and a list a tuple, and nothing more.
        return TypeAdapter(Config).validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        reasons = []
        for e in error.errors():
            reason = _explain(e)
            section, key = [*re.split("[ :]", reason, maxsplit=1)[0].split("."), ""][:2]  # and a place in a list
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
        accepted = list_field_names(_SECTIONS[location[0]]) if len(location) > 1 else _sections()
        return f"{key}: there is no such key; {suggest_name(location[-1], accepted)}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{key}: this key is needed"
    return f"{key} = {error['input']!r}: {reason}"


def _defaults_of(section: type) -> dict[str, Any]:
    """Return the default of each key that has one."""
    defaults = {}
    for field in dataclasses.fields(section):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def _absolute(value: Any, folder: str | os.PathLike[str] | None) -> Any:
    """Path below a folder, unless it has a scheme; None: the current one, which an absolute path does not need."""
    if not isinstance(value, str | os.PathLike) or not value:
        return value
    text = os.fspath(value)
    if urls.is_remote(text):
        return text
    path = Path(urls.strip_file_scheme(text)).expanduser()
    return os.path.normpath(path if path.is_absolute() else Path(folder or Path.cwd(), path))
