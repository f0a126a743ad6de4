"""The dataset card, the Markdown it is written in, and the contact sheet."""

from __future__ import annotations

import dataclasses
import html.parser
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mistune
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import draw_noise
from export_data import ODD_NAMES, TEXTS, Shown, draw_data, make_data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skips import need_extra
from test_export_shards import CLASSES, CROPS, PARTS, export

from detectime.config import load_config
from detectime.detection import manifest
from detectime.errors import ConfigError
from detectime.exports import contact_sheet, dataset_card, huggingface
from detectime.exports.contract import ExportConfig, ExportData, Format
from detectime.exports.dataset_card import LICENSES, check_license, write_dataset_card
from detectime.exports.loading import LOADING
from detectime.exports.markdown import escape_markdown, format_table
from detectime.exports.registry import FORMATS
from detectime.notes import Note
from detectime.runs import FinishedRun, open_run
from detectime.storage import run_tables
from detectime.storage.store import open_store

DETECTORS = {"hagrid": {"revision": 2, "weights": {"hand|s.onnx": "ab" * 32}}, "mine": {"revision": 1, "weights": {}}}


AT = "2026-11-26T01:02:03+00:00"


def make_run(folder: Path, decisions: Mapping[str, tuple[str, str]] | None = None, **parameters: Any) -> FinishedRun:
    """Make a finished run of four frames; `decisions` has a decision and a reviewer for some of them."""
    store = open_store(folder)
    made = manifest.make_manifest(load_config(parameters=parameters), DETECTORS)
    made |= {"finished": AT, "outcomes": {"ok": 4}, "frames": {"labels_sha256": "cd" * 32}}
    manifest.write_manifest(store, made)
    paths = [f"v/{number}.jpg" for number in range(4)]
    decided = [(decisions or {}).get(path, (None, None)) for path in paths]
    outcomes = pd.DataFrame(
        {
            "frame_path": paths,
            "video_name": "v",
            "frame_id": range(4),
            "class_name": ["ok", "peace", "ok", "ok"],
            "label": [4, 2, 4, 4],
            "outcome": ["paired", "paired", "paired", "no_face"],
            "error": pd.array([None] * 4, "str"),
            "other_hand": [True, False, False, False],
            "decision": pd.array([decision for decision, _ in decided], "str"),
            "decided_by": pd.array([reviewer for _, reviewer in decided], "str"),
            "decided_at": pd.array([None if reviewer is None else AT for _, reviewer in decided], "str"),
        }
    )
    outcomes = outcomes.assign(on_disk=True, wanted=True)
    for name in run_tables.OUTCOME_KINDS:
        if name not in outcomes:
            outcomes[name] = 0.0
    run_tables.write_outcomes(store, outcomes)
    return open_run(folder)


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    return make_run(tmp_path / "run")


def write_card(
    folder: Path,
    run: FinishedRun,
    data: ExportData,
    kind: Format = huggingface.FORMAT,
    notes: Sequence[Note] = (),
    **fields: Any,
) -> tuple[dict[str, Any], str, list[Note]]:
    """Write a card; return its metadata, its text and the notes."""
    missing = write_dataset_card(open_store(folder), data, kind, ExportConfig(**fields), run, notes)
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text, missing


class Page(html.parser.HTMLParser):
    """The tables and headings of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[list[str]] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "math"])(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1][-1] += data


def find_row(text: str, first: str) -> list[str]:
    """Return the cells of the first row of a table that begins with this cell."""
    return next(row for row in Page(text).cells if row[0] == first)


CARD_DATA = make_data(CROPS, CLASSES, kept="crops", splits=PARTS[:2])


def test_the_metadata_says_what_the_hub_asks_for(tmp_path: Path, run: FinishedRun) -> None:
    front, _, notes = write_card(tmp_path, run, CARD_DATA, license="cc-by-4.0", sources="Our videos.")
    assert front == {
        "pretty_name": "Hand gestures, 3 classes",
        "license": "cc-by-4.0",
        "task_categories": ["image-classification"],
        "size_categories": ["n<1K"],
        "tags": ["hand-gestures", "gesture-recognition", "detectime"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*"}, {"split": "val", "path": "data/val-*"}],
            }
        ],
    }
    assert notes == []


def test_an_empty_part_is_no_file_of_the_metadata(tmp_path: Path, run: FinishedRun) -> None:
    data = make_data(CROPS[:1], CLASSES, kept="crops", splits=PARTS)
    front, text, _ = write_card(tmp_path, run, data)
    assert [each["split"] for each in front["configs"][0]["data_files"]] == ["train"]
    assert find_row(text, "val") == ["val", "0", "0"]


def test_a_set_without_pictures_has_a_card(tmp_path: Path, run: FinishedRun) -> None:
    front, text, _ = write_card(tmp_path, run, make_data((), CLASSES, kept="crops"))
    assert "configs" not in front
    assert find_row(text, "like") == ["like", "2", "2", "0"]


@pytest.mark.parametrize(
    ("count", "word"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (175_000, "100K<n<1M"), (10**12, "n>1T")]
)
def test_sizes_are_words_of_the_hub(count: int, word: str) -> None:
    assert dataset_card._name_size(count) == word


def test_classes_groups_and_parts_are_counted(tmp_path: Path, run: FinishedRun) -> None:
    data = make_data(CROPS, CLASSES, kept="crops", splits=PARTS[:2], video_name=["anna", "ben", "carl"])
    data = dataclasses.replace(data, numbers={"peace": 2, "ok": 4, "like": 1234})
    _, text, _ = write_card(tmp_path, run, data)
    assert "3 samples, 3 classes, 3 groups" in text
    assert Page(text).cells[:4] == [
        ["class", "label", "index", "train", "val", "boxes"],
        ["peace", "2", "0", "0", "1", "1"],
        ["ok", "4", "1", "2", "0", "2"],
        ["like", "1,234", "2", "0", "0", "0"],
    ]
    assert find_row(text, "train") == ["train", "2", "2"]
    assert find_row(text, "val") == ["val", "1", "1"]


def test_how_the_split_was_made_is_told(tmp_path: Path, run: FinishedRun) -> None:
    data = make_data(CROPS, CLASSES, kept="crops", splits=PARTS, video_name=["anna", "ben", "carl"])
    assert "none is in more than one part. How the split was made is not" in write_card(tmp_path, run, data)[1]
    data = dataclasses.replace(data, about={"split": "Seed 7, 80 : 20."})
    assert "none is in more than one part. Seed 7, 80 : 20." in write_card(tmp_path, run, data)[1]
    assert "The set is not split." in write_card(tmp_path, run, make_data(CROPS, CLASSES, kept="crops"))[1]


def test_a_group_in_two_parts_is_not_kept_secret(tmp_path: Path, run: FinishedRun) -> None:
    data = make_data(CROPS, CLASSES, kept="crops", splits=PARTS, video_name=["anna", "anna", "carl"])
    assert "**Groups in more than one part: 1.**" in write_card(tmp_path, run, data)[1]


def test_what_is_missing_is_asked_for_on_the_card_and_in_notes(tmp_path: Path, run: FinishedRun) -> None:
    front, text, notes = write_card(tmp_path, run, CARD_DATA)
    assert "license" not in front
    assert text.count("> **To fill in:**") == 2
    assert [note.kind for note in notes] == ["card", "card"]
    assert "licence" in str(notes[0])
    assert "sources" in str(notes[1])


def test_another_licence_needs_a_name(tmp_path: Path, run: FinishedRun) -> None:
    front, text, notes = write_card(tmp_path, run, CARD_DATA, license="other", sources="Our videos.")
    assert front["license"] == "other"
    assert "> **To fill in:** `license_name`" in text
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("given_name", "meant"), [("CC-BY-4.0", "cc-by-4.0"), ("cc by", "cc-by-4.0"), ("Apache 2.0", "apache-2.0")]
)
def test_an_unknown_licence_is_refused(tmp_path: Path, run: FinishedRun, given_name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"license = '{given_name}'.* did you mean '{meant}'") as caught:
        write_card(tmp_path, run, CARD_DATA, license=given_name)
    assert "other" in str(caught.value)
    assert not (tmp_path / "README.md").exists()


def test_licences_are_named_once_and_accepted() -> None:
    assert len(set(LICENSES)) == len(LICENSES)
    for name in (None, *LICENSES):
        check_license(name)


def test_what_made_the_set_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", quality="best", fallback="frame", workers=3)
    _, text, _ = write_card(tmp_path, run, CARD_DATA, only="reviewed", blur_faces=True)
    assert find_row(text, "hagrid") == ["hagrid", "2", "hand|s.onnx", "ab" * 32]
    assert find_row(text, "mine") == ["mine", "1", "", ""]
    assert find_row(text, "detection.quality") == ["detection.quality", "best"]
    assert find_row(text, "pairing.fallback") == ["pairing.fallback", "frame"]
    assert find_row(text, "export.only") == ["export.only", "reviewed"]
    assert find_row(text, "sha256 of the labels")[1] == "cd" * 32
    assert "run.workers" not in text  # changes nothing
    assert str(tmp_path) not in text  # places on the machine are nobody's business


def test_a_run_with_defaults_says_so(tmp_path: Path, run: FinishedRun) -> None:
    assert "and the defaults of detectime 0" in write_card(tmp_path, run, CARD_DATA)[1]


def test_outcomes_and_known_limits_are_told(tmp_path: Path, run: FinishedRun) -> None:
    notes = [Note("turned", 2, "frames are turned", "a|<b>.jpg")]
    _, text, _ = write_card(tmp_path, run, CARD_DATA, notes=notes)
    assert find_row(text, "all") == ["all", "3", "1", "4"]
    assert "- `no_face`: No face was found." in text
    assert "1 frame of the run holds another hand" in text
    assert "Faces are not blurred" in text
    assert "2 frames are turned (the first: 'a&#124;&lt;b&gt;.jpg')" in text
    assert "are blurred." in write_card(tmp_path, run, CARD_DATA, blur_faces=True)[1]


def test_decisions_are_counted_by_person(tmp_path: Path, run: FinishedRun) -> None:
    assert "No person judged" in write_card(tmp_path, run, CARD_DATA)[1]
    decided = {"v/0.jpg": ("keep", "anna"), "v/1.jpg": ("keep", "anna"), "v/2.jpg": ("box+label", "b|en")}
    _, text, _ = write_card(tmp_path, make_run(tmp_path / "judged", decided), CARD_DATA)
    assert "People decided on 3 of 4 frames" in text
    assert find_row(text, "anna") == ["anna", "keep", "2"]
    assert find_row(text, "b|en") == ["b|en", "box+label", "1"]


def test_a_contact_sheet_is_shown_only_if_asked_for(tmp_path: Path, run: FinishedRun) -> None:
    assert "contact_sheet.jpg" not in write_card(tmp_path, run, CARD_DATA)[1]
    assert "](contact_sheet.jpg)" in write_card(tmp_path, run, CARD_DATA, contact_sheet=True)[1]


def test_the_same_export_has_the_same_card(tmp_path: Path, run: FinishedRun) -> None:
    for folder in ("a", "b"):
        write_card(tmp_path / folder, run, CARD_DATA)
    assert (tmp_path / "a" / "README.md").read_bytes() == (tmp_path / "b" / "README.md").read_bytes()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("splits", [("",), PARTS])
def test_every_format_says_how_it_is_loaded(
    tmp_path: Path, run: FinishedRun, name: str, splits: tuple[str, ...]
) -> None:
    kind = FORMATS[name]
    data = make_data(CROPS, CLASSES, kept=kind.images, splits=splits)
    _, text, _ = write_card(tmp_path, run, data, kind)
    code = text.split("```python\n")[1].split("```")[0] if LOADING[name].code else ""
    compile(code, name, "exec")
    assert "{" not in text.split("## Loading")[1].split("## Classes")[0].replace("{name}", "")
    assert len(code.splitlines()) <= 7


def test_all_formats_are_known() -> None:
    assert LOADING.keys() == FORMATS.keys()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(ODD_NAMES) | TEXTS, min_size=1, max_size=4))
def test_markdown_shows_any_text_as_it_is(texts: list[str]) -> None:
    page = Page("\n".join(format_table(["a", "b"], [[text, "x"] for text in texts])))
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert len(page.cells) == 1 + len(texts)
    for text, row in zip(texts, page.cells[1:], strict=True):
        shown = text.replace("\N{NO-BREAK SPACE}", " ") if text.isprintable() else None
        assert row[1] == "x"
        if shown is not None:
            assert row[0].replace("\N{NO-BREAK SPACE}", " ") == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\\u000ab"),
        ("\u202eright", r"\\u202eright"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("  two ", "&nbsp;&nbsp;two&nbsp;"),
        ("~~a~~ *b* $c$ ![d]", r"\~\~a\~\~ \*b\* \$c\$ \!\[d\]"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_signs_of_markdown_are_escaped(text: str, shown: str) -> None:
    assert escape_markdown(text) == shown


@settings(deadline=None, max_examples=25)
@given(draw_data(kept=("none", "frames")))
def test_a_card_holds_any_class(tmp_path_factory: pytest.TempPathFactory, data: ExportData) -> None:
    folder = tmp_path_factory.mktemp("card")
    front, text, _ = write_card(folder, make_run(folder / "run"), data)
    assert len(front["tags"]) == 3
    rows = Page(text).cells
    start = next(number for number, row in enumerate(rows) if row[:3] == ["class", "label", "index"])
    numbers = [row[2] for row in rows[start + 1 : start + 1 + len(data.classes)]]
    assert numbers == [str(index) for index in range(len(data.classes))]
    assert sum(int(row[-1]) for row in rows[start + 1 : start + 1 + len(data.classes)]) == len(data.objects)


# With the libraries of the hub.


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        library = need_extra("datasets")
        library.disable_progress_bars()
        yield library


@pytest.mark.extra
def test_the_hub_reads_the_metadata(datasets: Any, tmp_path: Path, run: FinishedRun) -> None:
    hub = need_extra("huggingface_hub")
    front, text, _ = write_card(tmp_path, run, CARD_DATA, license="cc-by-4.0")
    card = hub.DatasetCard.load(tmp_path / "README.md")
    assert card.data.to_dict() == front
    assert card.text.strip() == text.strip()


@pytest.mark.extra
@pytest.mark.parametrize("name", ["huggingface", "webdataset", "imagefolder"])
@pytest.mark.parametrize("splits", [("",), PARTS, ("fold_1", "fold_2")])
def test_datasets_loads_the_folder_by_its_card(
    datasets: Any, tmp_path: Path, run: FinishedRun, name: str, splits: tuple[str, ...]
) -> None:
    kind = FORMATS[name]
    crops = ((Shown("test", (0, 0, 9, 9)),), (Shown("ok", (1, 2, 30, 40)),))  # the third part of the split is empty
    data = make_data(crops, ("test", "ok"), kept="crops", splits=splits)
    export(data, kind, tmp_path / "set")
    write_card(tmp_path / "set", run, data, kind)
    contact_sheet.write_contact_sheet(open_store(tmp_path / "set"), {"ok": [draw_noise(40, 30)]})
    (tmp_path / "set" / "samples.csv").write_text("file,class_name\n")
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    expected = data.images["split"].replace("", "train").value_counts().to_dict()
    assert {split: len(part) for split, part in loaded.items()} == expected


# The contact sheet.


def read_sheet(folder: Path) -> Image.Image:
    content = (folder / "contact_sheet.jpg").read_bytes()
    assert len(content) <= 300_000
    return Image.open(io.BytesIO(content))


def test_a_contact_sheet_shows_crops_in_rows_of_classes(tmp_path: Path) -> None:
    red, blue = (np.full((90, 60, 3), colour, np.uint8) for colour in ([250, 10, 10], [10, 10, 250]))
    contact_sheet.write_contact_sheet(open_store(tmp_path), {"ok": [red], "peace | <b>": [blue, blue], "none": []})
    pixels = np.asarray(read_sheet(tmp_path)).astype(int)
    height = pixels.shape[0] // 3
    assert pixels[height // 2, 216, 0] > 200 > 100 > pixels[height // 2, 216, 2]
    assert pixels[height + height // 2, 216, 2] > 200 > 100 > pixels[height + height // 2, 216, 0]
    assert pixels[2 * height + height // 2, 216].min() > 200
    assert pixels[:height, :150].min() < 100  # the name


@pytest.mark.parametrize(("classes", "each"), [(0, 0), (1, 1), (6, 8), (34, 8), (400, 20)])
def test_a_contact_sheet_is_small_whatever_it_shows(tmp_path: Path, classes: int, each: int) -> None:
    noise = [draw_noise(150, 200, seed) for seed in range(each)]
    contact_sheet.write_contact_sheet(open_store(tmp_path), {f"class {number}": noise for number in range(classes)})
    read_sheet(tmp_path).load()


def test_a_contact_sheet_writes_any_name(tmp_path: Path) -> None:
    contact_sheet.write_contact_sheet(open_store(tmp_path), {name: [draw_noise(9, 9)] for name in ODD_NAMES})
    read_sheet(tmp_path).load()
