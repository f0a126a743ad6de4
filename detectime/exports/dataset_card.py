"""The dataset card: ``README.md`` of an export, as the Hugging Face hub shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import yaml

from detectime import pairing
from detectime.config import list_differences
from detectime.detection.manifest import Manifest
from detectime.errors import ConfigError
from detectime.exports import contact_sheet
from detectime.exports.contract import NO_SPLIT, ExportConfig, ExportData, Format
from detectime.exports.loading import LOADING, describe_loading
from detectime.exports.markdown import escape_markdown, format_table
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.schema import Outcome
from detectime.settings import list_defaults, suggest_name
from detectime.storage.store import Store

FILE_NAME = "README.md"

LICENSES = tuple(
    """
    cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-nc-nd-4.0 cc0-1.0 cc-by-3.0 cc-by-sa-3.0
    cc-by-nc-3.0 cc-by-nc-sa-3.0 cc-by-nc-nd-3.0 cc-by-2.5 cc-by-2.0 cc-by-nc-2.0 cc-by-nc-sa-2.0 cc odc-by odbl pddl
    cdla-permissive-2.0 cdla-permissive-1.0 cdla-sharing-1.0 c-uda etalab-2.0 gfdl apache-2.0 mit bsd bsd-2-clause
    bsd-3-clause bsd-3-clause-clear isc mpl-2.0 gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 agpl-3.0 eupl-1.1 epl-2.0
    artistic-2.0 afl-3.0 osl-3.0 unlicense wtfpl zlib unknown other
    """.split()
)
"""Licences that the hub knows by these identifiers, without those of models and fonts."""

_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")  # from a thousand, by tens
_TAGS = ("hand-gestures", "gesture-recognition", "detectime")
_NO_EFFECT = ("run.", "display.")  # sections of the configuration that change no result
_NOT_SHOWN = ("license", "sources", "overwrite")  # settings of the export that the card states elsewhere, or needs not


def check_license(license_name: str | None) -> None:
    """Refuse a licence that the hub does not know, before any work starts.

    Raises
    ------
    ConfigError
        If it is none of `LICENSES`.

    Examples
    --------
    >>> check_license("cc-by-4.0")
    >>> check_license("CC BY")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    detectime.errors.ConfigError: license = 'CC BY': ... did you mean 'cc-by-4.0'? accepted: ...
    """
    if license_name is not None and license_name not in LICENSES:
        lower = license_name.lower().replace(" ", "-")
        meant = next((name for name in LICENSES if name.startswith(lower)), lower)
        raise ConfigError(
            f"license = {license_name!r}: the Hugging Face hub knows no licence by this name; "
            f"{suggest_name(meant, LICENSES)}"
        )


def write_dataset_card(
    store: Store,
    data: ExportData,
    kind: Format,
    settings: ExportConfig,
    run: FinishedRun,
    notes: Sequence[Note] = (),
    digest: str = "",
) -> list[Note]:
    """Write ``README.md``: what the data set is, and what made it.

    Parameters
    ----------
    store
        The folder of the export.
    data
        What is exported. If `about` has `split`, a sentence, the card says how the split was made.
    kind
        The format.
    settings
        Of the export. `sources` may hold Markdown.
    run
        The run that was exported.
    notes
        Findings of the export: known limits of the set.
    digest
        Of what is exported. `datasets` caches a folder by its name and the metadata here: with another digest it reads
        the folder anew.

    Returns
    -------
    list of Note
        What a person has to fill in before the set is shared.

    Raises
    ------
    ConfigError
        If the licence is unknown: see `check_license`.
    RunError
        If a table of the run cannot be read.
    StoreError
        If the file cannot be written.
    """
    check_license(settings.license)
    outcomes = run.outcomes
    sections = {
        "": _describe_set(data, settings),
        "Loading": _describe_loading(data, kind),
        "Classes": _describe_classes(data),
        "Groups": _describe_groups(data),
        "Split": _describe_split(data),
        "Sources and licence": _describe_sources(settings),
        "Detectors": _describe_detectors(run.manifest),
        "Configuration": _describe_configuration(run, settings),
        "Outcomes": _describe_outcomes(outcomes),
        "Review": _describe_decisions(outcomes),
        "Known limits": _describe_limits(data, settings, outcomes, notes),
        "Versions": _describe_versions(data, run.manifest),
    }
    front = yaml.safe_dump(_make_metadata(data, kind, settings, digest), sort_keys=False, allow_unicode=True)
    lines = ["---", *front.rstrip("\n").split("\n"), "---"]
    for title, section in sections.items():
        lines += ["", f"## {title}", "", *section] if title else ["", *section]
    store.put(FILE_NAME, "\n".join([*lines, ""]).encode())
    return _note_missing(settings)


# The front matter.


def _make_metadata(data: ExportData, kind: Format, settings: ExportConfig, digest: str) -> dict[str, Any]:
    """Return the metadata that the hub reads."""
    values: dict[str, Any] = {"pretty_name": f"Hand gestures, {_count(len(data.classes), 'class', 'classes')}"}
    if settings.license is not None:
        values["license"] = settings.license
    values["task_categories"] = _list_tasks(data, kind)
    values["size_categories"] = [_name_size(len(data.images))]
    values["tags"] = list(_TAGS)
    files = _list_data_files(data, kind)
    if files:
        about = {"description": f"sha256 {digest}"} if digest else {}
        values["configs"] = [{"config_name": "default", **about, "data_files": files}]
    return values


def _list_tasks(data: ExportData, kind: Format) -> list[str]:
    if data.pictures == "crops":
        return ["image-classification"]
    return ["object-detection"] if kind.box == "hand" else ["object-detection", "image-classification"]


def _name_size(count: int) -> str:
    """Return the hub's word for a number of rows: ``n<1K``, ``1K<n<10K`` and so on."""
    power = len(str(count)) - 4
    if power < 0:
        return "n<1K"
    return f"{_SIZES[power]}<n<{_SIZES[power + 1]}" if power < len(_SIZES) - 1 else "n>1T"


_PATTERNS = {
    "huggingface": "data/{split}-*",
    "webdataset": "{split}-[0-9][0-9][0-9][0-9][0-9][0-9].tar",
    "imagefolder": "{split}/**",
}
"""Files of a part of the split, of formats that `datasets` loads."""


def _list_data_files(data: ExportData, kind: Format) -> list[dict[str, str]]:
    """Return which files are which split, so that ``load_dataset(folder)`` works; it refuses an empty split."""
    if kind.name not in _PATTERNS:
        return []
    names = [name or "train" for name in _list_filled(data)]
    return [{"split": name, "path": _PATTERNS[kind.name].format(split=name)} for name in names]


def _list_filled(data: ExportData) -> list[str]:
    """Return the parts of the split that have pictures."""
    found = set(data.images["split"])
    return [name for name in data.splits if name in found]


# The sections, as lines of Markdown.


def _describe_set(data: ExportData, settings: ExportConfig) -> list[str]:
    samples = int((data.objects["kind"] == "sample").sum())
    groups = data.images["video_name"].nunique()
    counted = ", ".join(
        [
            _count(samples, "sample", "samples"),
            _count(len(data.classes), "class", "classes"),
            _count(groups, "group", "groups"),
        ]
    )
    shown = {
        "crops": "Each picture is a crop of one hand.",
        "frames": "Each picture is a whole frame, with boxes of hands.",
        "none": "There are no pictures: frames are named by their paths, with boxes of hands.",
    }[data.pictures]
    lines = [
        "# Hand gestures",
        "",
        f"{counted}; a group is a video or a person. Made from labelled frames of people who show a gesture: detectors "
        f"found the hand that shows it. {shown}",
    ]
    if settings.contact_sheet and data.pictures != "none":
        lines += ["", f"![Some crops of each class]({contact_sheet.FILE_NAME})"]
    return lines


def _describe_loading(data: ExportData, kind: Format) -> list[str]:
    split = next(iter([*_list_filled(data), *data.splits]))
    return describe_loading(kind.name, split) if kind.name in LOADING else [kind.title]


def _describe_classes(data: ExportData) -> list[str]:
    """Return the table of classes: their numbers, and their boxes in each part of the split."""
    split = data.images["split"].to_numpy(object)[data.objects["image"].to_numpy(np.int64)]
    counts = pd.crosstab(data.objects["class_name"].to_numpy(object), split).reindex(
        index=list(data.classes), columns=list(data.splits), fill_value=0
    )
    parts = [] if data.splits == (NO_SPLIT,) else list(data.splits)
    rows = [
        [name, data.numbers[name], index, *counts.loc[name, parts], counts.loc[name].sum()]
        for index, name in enumerate(data.classes)
    ]
    table = format_table(["class", "label", "index", *parts, "boxes"], rows)
    about = "`label` is the number of the class in the vocabulary, `index` its position from 0."
    return [*table, "", about]


def _describe_groups(data: ExportData) -> list[str]:
    counts = data.images.groupby("split")["video_name"].agg(["nunique", "size"])
    rows = [[name or "all", *counts.reindex([name], fill_value=0).iloc[0]] for name in data.splits]
    return format_table(["part", "groups", "frames" if data.pictures == "none" else "pictures"], rows)


def _describe_split(data: ExportData) -> list[str]:
    if data.splits == (NO_SPLIT,):
        return ["The set is not split. Frames of one group resemble each other: split by `video_name`, never by frame."]
    parts = data.images.groupby("video_name")["split"].nunique()
    divided = int((parts > 1).sum())
    by = f"**Groups in more than one part: {divided:,}.**" if divided else "By group: none is in more than one part."
    return [f"{by} {escape_markdown(str(data.about.get('split', 'How the split was made is not recorded.')))}"]


def _describe_sources(settings: ExportConfig) -> list[str]:
    sources = " ".join((settings.sources or "").split()) or _ask("where the frames are from, and who agreed to what.")
    if settings.license is None:
        return [sources, "", _ask("the licence of the frames, here and as `license` in the metadata above.")]
    lines = [sources, "", f"Licence: `{settings.license}`."]
    if settings.license == "other":
        lines += ["", _ask("`license_name` in the metadata above, and the text in a file `LICENSE`.")]
    return lines


def _ask(what: str) -> str:
    return f"> **To fill in:** {what}"


def _describe_detectors(run: Manifest) -> list[str]:
    rows = [
        [name, made.get("revision", 1), file, sha256]
        for name, made in run["detectors"].items()
        for file, sha256 in (made.get("weights") or {"": ""}).items()
    ]
    return format_table(["detector", "revision", "weights", "sha256"], rows)


def _describe_configuration(run: FinishedRun, settings: ExportConfig) -> list[str]:
    """Return what differs from the defaults, of the run and of the export."""
    config = dataclasses.replace(run.config, pairing=run.pairing)
    changed = {key: value for key, value in list_differences(config).items() if not key.startswith(_NO_EFFECT)}
    defaults = list_defaults(ExportConfig)
    for key, value in dataclasses.asdict(settings).items():
        if value != defaults[key] and key not in _NOT_SHOWN:
            changed[f"export.{key}"] = value
    quality = config.detection.quality
    word = "" if quality is None else f"`quality: {quality}`, and "
    text = f"{word}the defaults of detectime {escape_markdown(str(run.manifest['detectime']))}"
    text = text[0].upper() + text[1:]
    if not changed:
        return [f"{text}."]
    rows = [[key, _format_value(value)] for key, value in changed.items()]
    return [f"{text}, but for:", "", *format_table(["key", "value"], rows)]


def _format_value(value: Any) -> str:
    """Return a value as YAML writes it, in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1_000_000)
    return text.removesuffix("...\n").strip()


def _describe_outcomes(outcomes: pd.DataFrame) -> list[str]:
    counts = pairing.count_outcomes(outcomes)
    rows = [[name, *row] for name, row in zip(counts.index, counts.to_numpy(), strict=True)]
    sentences = [f"- `{outcome}`: {outcome.sentence}" for outcome in Outcome if outcome in counts]
    table = format_table(["class", *counts.columns], rows)
    return ["What became of each frame of the run:", "", *table, "", *sentences]


def _describe_decisions(outcomes: pd.DataFrame) -> list[str]:
    decided = outcomes[outcomes["decision"].notna()]
    if decided.empty:
        return ["No person judged the samples: boxes are as detected, classes as labelled."]
    counts = decided.groupby(["decided_by", "decision"]).size()
    rows = [[*names, count] for names, count in counts.items()]  # type: ignore[misc]
    text = f"People decided on {len(decided):,} of {len(outcomes):,} frames of the run:"
    return [text, "", *format_table(["by", "decision", "frames"], rows)]


def _describe_limits(
    data: ExportData, settings: ExportConfig, outcomes: pd.DataFrame, notes: Sequence[Note]
) -> list[str]:
    """Return what the user of the set should not be surprised by."""
    lines = [_describe_faces(data, settings)]
    others = int(outcomes["other_hand"].sum())
    if others:
        what = "frame of the run holds" if others == 1 else "frames of the run hold"
        lines.append(f"{others:,} {what} another hand near a face, which may be the one that shows the gesture.")
    lines += [escape_markdown(str(note)) for note in notes]
    return [f"- {line}" for line in lines]


def _describe_faces(data: ExportData, settings: ExportConfig) -> str:
    if data.pictures == "none":
        return "There are no pictures in this folder."
    if settings.blur_faces:
        return "The faces that were found are blurred. A face that was not found is not."
    return "Faces are not blurred: people can be recognised."


def _describe_versions(data: ExportData, run: Manifest) -> list[str]:
    found = {
        "run made by": f"detectime {run['made_by']}",
        "run finished": run["finished"],
        "exported by": f"detectime {data.about['detectime']}" if "detectime" in data.about else None,
        "sha256 of the labels": run["frames"].get("labels_sha256"),
        "sha256 of hands.json": (run["pairing"] or {}).get("hands_sha256"),
    }
    rows = [[name, value] for name, value in found.items() if value]
    return format_table(["what", "value"], rows)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _note_missing(settings: ExportConfig) -> list[Note]:
    """Note what the card lacks."""
    missing = []
    if settings.license is None:
        missing.append("names no licence; set `license`, such as cc-by-4.0")
    elif settings.license == "other":
        missing.append("needs the name of the licence; add `license_name` to it, and a file LICENSE")
    if settings.sources is None:
        missing.append("does not say where the frames are from; set `sources`")
    return [Note("card", 1, f"The dataset card {what}, before the set is shared.", FILE_NAME) for what in missing]
