"""The detectors that a configuration can name, and the choice among them, made once for a run."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from detectime.detectors import face_cache, face_detection, hagrid, mask_rcnn, mediapipe, retinaface
from detectime.detectors.contract import DetectorSpec, SharedSettings
from detectime.detectors.onnx import CUDA, choose_providers, choose_torch_device
from detectime.detectors.outside import describe_outside, is_outside
from detectime.errors import ConfigError
from detectime.settings import list_field_names, suggest_name

if TYPE_CHECKING:
    from detectime.config import DetectionConfig

FACES: dict[str, DetectorSpec] = {spec.name: spec for spec in (retinaface.SPEC, *face_detection.SPECS, face_cache.SPEC)}
HANDS: dict[str, DetectorSpec] = {spec.name: spec for spec in (mediapipe.SPEC, hagrid.SPEC, mask_rcnn.SPEC)}
"""The built-in detectors, by the names that `detection.detector_type` and `detection.hand_detector` know."""

TRUSTED = tuple(sorted(HANDS, key=lambda name: -HANDS[name].trust))
"""Hand detectors, the most trusted first; one from outside is trusted less than all of them."""

_SECTION = "detector_settings"


@dataclass(frozen=True)
class Chosen:
    """The detectors of a run, chosen once: what run, manifest, engines and workers take.

    It can be pickled, as its configuration alone: whoever receives it chooses anew, on its own machine.

    Parameters
    ----------
    config
        The section `detection` of the configuration.
    """

    config: DetectionConfig

    def __post_init__(self) -> None:
        """Refuse names that do not exist, and settings that would be ignored."""
        for name, key in self._names():
            if not is_outside(name):
                _find_builtin(name, key)
        self._refuse_unused()

    @cached_property
    def faces(self) -> DetectorSpec:
        """The face detector.

        Raises
        ------
        ConfigError
            If it is from outside and cannot be imported or built, or has no fingerprint.
        """
        return self._find(*self._names()[0])

    @cached_property
    def hands(self) -> tuple[DetectorSpec, ...]:
        """The hand detectors in the order in which they are asked; raises as `faces`."""
        return tuple(self._find(name, key) for name, key in self._names()[1:])

    @property
    def specs(self) -> tuple[DetectorSpec, ...]:
        """All of them, the face detector first."""
        return (self.faces, *self.hands)

    @property
    def on_gpu(self) -> bool:
        """Whether they work on a GPU: then a batch of frames costs less than one after another."""
        return all(self._is_on_gpu(spec) for spec in self.specs if not spec.by_name)

    def settings_of(self, spec: DetectorSpec) -> Any:
        """Return what a detector is built with: the configuration, or its own section if it is from outside."""
        return self.config.detector_settings.get(spec.name, {}) if is_outside(spec.name) else self.config

    def build(self, spec: DetectorSpec, **changes: Any) -> Any:
        """Load a detector, with some keys of the configuration changed."""
        settings = self.settings_of(spec)
        return spec.build(dataclasses.replace(settings, **changes) if changes else settings, self.config.device)

    def check(self) -> None:
        """Refuse, before any work starts, what is not there.

        Raises
        ------
        ConfigError
            If an extra is not installed, there is no such device, a face cache cannot be used, or a detector from
            outside cannot be built.
        """
        for spec, (_, key) in zip(self.specs, self._names(), strict=True):
            lacking = [module for module in spec.needs if importlib.util.find_spec(module) is None]
            if lacking:
                raise ConfigError(
                    f"{key} = {spec.name!r}: it needs {', '.join(lacking)}, which the light installation lacks; "
                    f"install the extra: pip install -e .[{spec.extra}]"
                )
            if spec.by_name:
                self.build(spec)
            elif self.config.device == "cuda" and not is_outside(spec.name):
                choose_torch_device("cuda") if "torch" in spec.needs else choose_providers("cuda")

    def prepare(self, frame_paths: Iterable[str]) -> None:
        """Do once, before work starts, what each worker would do: download weights.

        Raises
        ------
        ConfigError
            If the faces are to come from a cache that knows none of these frames.
        WeightsError
            If weights are not there and cannot be downloaded.
        """
        for spec in self.specs:
            spec.find_weights(self.settings_of(spec))
            if spec.by_name and not any(map(self.build(spec).knows, frame_paths)):
                raise ConfigError(
                    f"detection.face_cache = {self.config.face_cache!r}: it knows none of the wanted frames; accepted: "
                    "a cache whose frame_path are those of the labels"
                )

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Return what a run records of each detector, by its name.

        Returns
        -------
        dict
            `revision`, `weights` (the sha256 of each file), and of a detector from outside its `distribution` and the
            `version` of that (null where it is no part of one).

        Raises
        ------
        ConfigError, WeightsError
            If a detector or its weights are not there.
        """
        found: dict[str, dict[str, Any]] = {}
        for spec in self.specs:
            found[spec.name] = {"revision": spec.revision, "weights": spec.fingerprint(self.settings_of(spec))}
            if is_outside(spec.name):
                found[spec.name] |= {"distribution": spec.distribution, "version": spec.version}
        return found

    def _names(self) -> list[tuple[str, str]]:
        """Return the names of the detectors, the face detector first, each with its key."""
        hands = [(name, "detection.hand_detector") for name in self.config.hand_detector]
        return [(self.config.detector_type, "detection.detector_type"), *hands]

    def _find(self, name: str, key: str) -> DetectorSpec:
        if is_outside(name):
            section = self.config.detector_settings.get(name, {})
            return describe_outside(name, key, section, self.config.device)
        return _find_builtin(name, key)

    def _is_on_gpu(self, spec: DetectorSpec) -> bool:
        if is_outside(spec.name):
            return self.config.device == "cuda"
        if "torch" in spec.needs:
            return bool(choose_torch_device(self.config.device).type == "cuda")
        return CUDA in choose_providers(self.config.device)

    def _refuse_unused(self) -> None:
        """Refuse a setting of a detector that is not chosen: it would do nothing."""
        used = set(find_used_keys(self.config))
        for key, default in _defaults(type(self.config)).items():
            value = getattr(self.config, key)
            if key in used or key == _SECTION or value == default:
                continue
            owners = [
                spec.name for spec in (*FACES.values(), *HANDS.values()) if key in list_field_names(spec.settings)
            ]
            raise ConfigError(
                f"detection.{key} = {value!r}: only {', '.join(owners)} {'read' if len(owners) > 1 else 'reads'} it, "
                f"and this run uses {self.config.detector_type} and {', '.join(self.config.hand_detector)}; accepted "
                f"here: {default!r}, or one of these detectors"
            )
        named = {name for name, _ in self._names()}
        for name in self.config.detector_settings:
            if name not in named or not is_outside(name):
                reason = "its settings are keys of `detection`" if name in named else "this run does not use it"
                raise ConfigError(
                    f"detection.{_SECTION}.{name}: {reason}; accepted: sections of the detectors from outside that "
                    "detector_type and hand_detector name"
                )

    def __reduce__(self) -> tuple[Callable[[DetectionConfig], Chosen], tuple[DetectionConfig]]:
        return choose_detectors, (self.config,)


def choose_detectors(config: DetectionConfig) -> Chosen:
    """Choose the detectors that a configuration names. Nothing is loaded or downloaded.

    Raises
    ------
    ConfigError
        If there is no detector of a name, or a setting of a detector that is not chosen differs from its default.

    Examples
    --------
    >>> from detectime.config import DetectionConfig
    >>> chosen = choose_detectors(DetectionConfig(hand_detector=("hagrid", "mediapipe")))
    >>> chosen.faces.name, [spec.name for spec in chosen.hands]
    ('retinaface', ['hagrid', 'mediapipe'])
    """
    return Chosen(config)


def _find_builtin(name: str, key: str) -> DetectorSpec:
    known = FACES if key == "detection.detector_type" else HANDS
    if name not in known:
        raise ConfigError(
            f"{key}: there is no detector {name!r}; {suggest_name(name, known)}, or package.module:function"
        )
    return known[name]


def find_used_keys(config: DetectionConfig) -> list[str]:
    """Return the keys of `detection` that the named detectors read, and those that belong to no single detector."""
    sections: list[type] = [SharedSettings]
    for names, known in (((config.detector_type,), FACES), (config.hand_detector, HANDS)):
        sections += [known[name].settings for name in names if name in known]
    used = {key for section in sections for key in list_field_names(section)} | {_SECTION}
    if is_outside(config.detector_type):
        used.add("face_max_resolution")  # to which a frame is decoded for faces, whoever finds them
    return [key for key in list_field_names(type(config)) if key in used]


def _defaults(section: type) -> dict[str, Any]:
    """Return the default of each key."""
    return {field.name: getattr(section(), field.name) for field in dataclasses.fields(section)}
