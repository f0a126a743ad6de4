"""The built-in detectors, the union of their settings, and the selection that a run makes among them.

A new built-in detector is listed here twice: its `SPEC` in `FACES` or `HANDS`, its settings in `DetectionConfig`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import paths
from detectime.detectors import (
    coarse_to_fine,
    face_cache,
    face_detection,
    hagrid,
    mask_rcnn,
    mediapipe,
    retinaface,
    yunet,
)
from detectime.detectors.contract import DetectorSpec, SharedSettings
from detectime.detectors.onnx import CUDA, choose_providers, choose_torch_device
from detectime.detectors.outside import describe_outside, is_outside
from detectime.errors import ConfigError
from detectime.settings import CHECKED, list_defaults, list_field_names, suggest_name
from detectime.storage.downloads import WeightsError

FACES: dict[str, DetectorSpec] = {
    spec.name: spec for spec in (retinaface.SPEC, yunet.SPEC, *face_detection.SPECS, face_cache.SPEC)
}
HANDS: dict[str, DetectorSpec] = {spec.name: spec for spec in (mediapipe.SPEC, hagrid.SPEC, mask_rcnn.SPEC)}
"""The built-in detectors by name: values of `detection.detector_type` and `detection.hand_detector`."""

TRUSTED = tuple(sorted(HANDS, key=lambda name: -HANDS[name].trust))
"""Names of the built-in hand detectors, the most trusted first; outside detectors rank below all of them."""

_OUTSIDE_SETTINGS = "detector_settings"


@checked_dataclass(frozen=True, config=CHECKED)
class DetectionConfig(
    mask_rcnn.MaskRCNNSettings,
    hagrid.HagridSettings,
    mediapipe.MediaPipeSettings,
    face_cache.FaceCacheSettings,
    coarse_to_fine.CoarseToFineSettings,
    SharedSettings,
):  # dataclasses order the fields of the last base first
    """The costly part. A run is bound to the settings of the detectors that it uses; other values need another output.

    The keys are the shared ones, those of each built-in detector, and the sections of outside detectors. Those in
    `UNBOUND_KEYS` do not bind a run. `quality` is only a word here: `config.load_config` gives the keys its values.

    Examples
    --------
    >>> config = DetectionConfig(hand_detector=("hagrid",), hagrid_confidence=0.8)
    >>> config.detector_type, config.hagrid_confidence
    ('retinaface', 0.8)
    """

    detector_settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """For your own detectors: {"package.module:function": {key: value, …}}."""


UNBOUND_KEYS = ("device", "batch", "face_cache")
"""Keys of `DetectionConfig` that do not bind a run.

Boxes from a GPU or a batch differ by less than a pixel. A face cache binds the run by its content, not by its path.
"""


@dataclass(frozen=True)
class Chosen:
    """The detectors of a run, shared by run, manifest, engines and workers.

    Only the configuration is pickled; the receiving process selects and builds its own detectors.

    Parameters
    ----------
    config
        Section `detection` of the configuration.

    Raises
    ------
    ConfigError
        If a built-in detector does not exist, or a setting belongs to a detector that is not used.

    Examples
    --------
    >>> chosen = Chosen(DetectionConfig())
    >>> [spec.name for spec in chosen.specs]
    ['retinaface', 'mediapipe']
    """

    config: DetectionConfig

    def __post_init__(self) -> None:
        """Reject unknown names and settings that would have no effect."""
        for name, key in self._list_names():
            if not is_outside(name):
                _find_builtin(name, key)
        self._reject_unused_keys()
        self._reject_unused_sections()

    @cached_property
    def faces(self) -> DetectorSpec:
        """The face detector.

        Raises
        ------
        ConfigError
            If it is an outside detector that cannot be imported or built, or has no fingerprint.
        """
        return self._find_spec(*self._list_names()[0])

    @cached_property
    def hands(self) -> tuple[DetectorSpec, ...]:
        """The hand detectors in the order in which they run; raises as `faces`."""
        return tuple(self._find_spec(name, key) for name, key in self._list_names()[1:])

    @property
    def specs(self) -> tuple[DetectorSpec, ...]:
        """All detectors, the face detector first."""
        return (self.faces, *self.hands)

    @property
    def on_gpu(self) -> bool:
        """Whether all detectors run on a GPU, where batches of frames are faster than single frames."""
        return all(self._is_on_gpu(spec) for spec in self.specs if not spec.by_name)

    def settings_of(self, spec: DetectorSpec) -> Any:
        """Return the settings for a detector: the configuration, or the own section of an outside detector.

        Examples
        --------
        >>> chosen = Chosen(DetectionConfig())
        >>> chosen.settings_of(chosen.faces) is chosen.config
        True
        """
        return self.config.detector_settings.get(spec.name, {}) if is_outside(spec.name) else self.config

    def build(self, spec: DetectorSpec, **changes: Any) -> Any:
        """Build a detector, optionally with other values for some keys of the configuration.

        Examples
        --------
        >>> chosen = Chosen(DetectionConfig())
        >>> chosen.build(chosen.faces, face_confidence=0.9).confidence
        0.9
        """
        settings = self.settings_of(spec)
        return spec.build(dataclasses.replace(settings, **changes) if changes else settings, self.config.device)

    def check(self) -> None:
        """Check, before any work starts, that every detector can run here.

        Raises
        ------
        ConfigError
            If an extra is not installed, the device does not exist, the face cache is unusable, or an outside detector
            cannot be built.

        Examples
        --------
        >>> Chosen(DetectionConfig()).check()
        """
        for spec, (_, key) in zip(self.specs, self._list_names(), strict=True):
            missing = [module for module in spec.needs if importlib.util.find_spec(module) is None]
            if missing:
                raise ConfigError(
                    f"{key} = {spec.name!r}: needs {', '.join(missing)}, not installed here; run: "
                    f"{paths.format_install(spec.extra)}"
                )
            if spec.by_name:
                self.build(spec)
            elif self.config.device == "cuda" and not is_outside(spec.name):
                choose_torch_device("cuda") if "torch" in spec.needs else choose_providers("cuda")

    def prepare(self, frame_paths: Iterable[str]) -> None:
        """Download missing weights before the workers start, and check that the face cache fits the frames.

        Parameters
        ----------
        frame_paths
            The frames to detect.

        Raises
        ------
        ConfigError
            If the face cache has none of these frames.
        WeightsError
            If weights are missing and cannot be downloaded.

        Examples
        --------
        >>> Chosen(DetectionConfig()).prepare(["a.jpg"])
        """
        missing: list[str] = []
        for spec in self.specs:
            try:
                spec.find_weights(self.settings_of(spec))
            except WeightsError as error:
                missing.append(str(error))
        if missing:  # all of them at once
            word = self.config.quality
            hint = f" (`quality: {word}` needs downloads, `balanced` none)" if word in ("fast", "best") else ""
            raise WeightsError("; ".join(missing) + hint)
        for spec in self.specs:
            if spec.by_name and not any(map(self.build(spec).knows, frame_paths)):
                raise ConfigError(
                    f"detection.face_cache = {self.config.face_cache!r}: it has none of the wanted frames; accepted: "
                    "a cache with the same frame_path values as the labels"
                )

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Return the record of each detector, by name, for the manifest of a run.

        Returns
        -------
        dict
            `revision` and `weights` (the sha256 of each file); for an outside detector also `distribution` and
            `version` (None if it belongs to no installed distribution).

        Raises
        ------
        ConfigError, WeightsError
            If a detector or its weights are missing.

        Examples
        --------
        >>> fingerprints = Chosen(DetectionConfig()).fingerprints()
        >>> list(fingerprints), fingerprints["retinaface"]["revision"]
        (['retinaface', 'mediapipe'], 1)
        """
        found: dict[str, dict[str, Any]] = {}
        for spec in self.specs:
            found[spec.name] = {"revision": spec.revision, "weights": spec.fingerprint(self.settings_of(spec))}
            if is_outside(spec.name):
                found[spec.name] |= {"distribution": spec.distribution, "version": spec.version}
        return found

    def _list_names(self) -> list[tuple[str, str]]:
        """Return (name, key of the configuration) of each detector, the face detector first."""
        hands = [(name, "detection.hand_detector") for name in self.config.hand_detector]
        return [(self.config.detector_type, "detection.detector_type"), *hands]

    def _find_spec(self, name: str, key: str) -> DetectorSpec:
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

    def _reject_unused_keys(self) -> None:
        used = find_used_keys(self.config)
        for key, default in list_defaults(type(self.config)).items():
            value = getattr(self.config, key)
            if key not in used and value != default:
                specs = (*FACES.values(), *HANDS.values())
                owners = [spec.name for spec in specs if key in list_field_names(spec.settings)]
                raise ConfigError(
                    f"detection.{key} = {value!r}: only {', '.join(owners)} {'read' if len(owners) > 1 else 'reads'} "
                    f"it, and this run uses {self.config.detector_type} and {', '.join(self.config.hand_detector)}; "
                    f"accepted here: {default!r}, or choose one of these detectors"
                )

    def _reject_unused_sections(self) -> None:
        chosen = {name for name, _ in self._list_names()}
        for name in self.config.detector_settings:
            if name not in chosen or not is_outside(name):
                reason = "its settings are keys of `detection`" if name in chosen else "this run does not use it"
                raise ConfigError(
                    f"detection.{_OUTSIDE_SETTINGS}.{name}: {reason}; accepted: the outside detectors that "
                    "detector_type and hand_detector name"
                )

    def __reduce__(self) -> tuple[Callable[[DetectionConfig], Chosen], tuple[DetectionConfig]]:
        return choose_detectors, (self.config,)


def choose_detectors(config: DetectionConfig) -> Chosen:
    """Select the detectors that a configuration names, without loading or downloading anything.

    Raises
    ------
    ConfigError
        If a built-in detector does not exist, or a setting of a detector that is not used differs from its default.

    Examples
    --------
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
    """Return the keys of `detection` that apply: the shared ones and those of the named detectors.

    Examples
    --------
    >>> keys = find_used_keys(DetectionConfig(hand_detector=("hagrid",)))
    >>> "hagrid_confidence" in keys, "hand_confidence" in keys
    (True, False)
    """
    sections: list[type] = [SharedSettings]
    for names, known in (((config.detector_type,), FACES), (config.hand_detector, HANDS)):
        sections += [known[name].settings for name in names if name in known]
    used = {key for section in sections for key in list_field_names(section)} | {_OUTSIDE_SETTINGS}
    if is_outside(config.detector_type):
        used.add("face_max_resolution")  # limits the decoded size for any face detector
    return [key for key in list_field_names(type(config)) if key in used]
