"""Each package imports only what stands above it in one list: where a change belongs, and no cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import definitions

PACKAGE = definitions.ROOT_DIR / "detectime"
ORDER = [
    *("errors", "paths", "notes", "progress", "settings", "releases", "boxes", "decoding", "images", "schema"),
    *("storage", "sources", "detectors", "config", "labels", "detection", "candidates", "pairing"),
    *("decisions", "decision_files", "corrections", "runs", "judgements"),
    *("similarity", "splits", "thinning", "exports", "outcomes", "decision_import", "cvat_decisions"),
    *("trace", "dataset", "truth", "resampling", "evaluation", "crops", "label_check", "doubt", "comparison"),
    "classifier",
    *("report", "widgets", "notebook_parameters", "notebook"),
    *("export_notebook", "review_notebook", "classifier_notebook"),
    "cli",
    *("augmentations", "maskrcnn", "utils"),
]
INSIDE = {
    "decoding": ["contract", "naming", "jpeg", "formats"],
    "storage": ["json_files", "urls", "store", "lease", "folder", "bucket", "name_index", "run_tables", "downloads"],
    "sources": [
        *("contract", "names", "file_kinds", "reading", "listing", "folder", "bucket"),
        *("zip_members", "tar_members", "archive_index", "archive_members", "beside", "archive", "remote_archive"),
        *("h264", "h264_order", "mpeg", "video_times", "video_losses", "video_keys"),
        *("video_packets", "video_index", "video_decoder", "videos"),
    ],
    "detectors": [
        *("contract", "onnx", "outside", "coarse_to_fine", "retinaface", "yunet"),
        *("hand_landmarks", "mediapipe", "hagrid"),
        *("face_cache_files", "face_cache", "face_detection_patch", "face_detection", "mask_rcnn"),
        *("registry", "quality"),
    ],
    "labels": [
        *("class_names", "tables", "csv_files", "table_files", "columns", "names", "layout", "grouping"),
        *("frames_csv", "span_columns", "span_rows", "spans", "annotations"),
        *("hagrid_keys", "hagrid_records", "hagrid", "hagrid_boxes", "webdataset", "folders"),
        *("cvat", "coco", "voc", "yolo", "truth_json", "picture_names", "formats", "annotated"),
        *("readers", "vocabulary", "frame_table"),
    ],
    "labels.grouping": ["files", "numbers", "prefixes"],
    "labels.webdataset": ["members", "samples", "class_lists", "classes", "reading"],
    "detection": [
        "manifest",
        "resume",
        "shards",
        "changes",
        "cascade",
        "worker",
        "engines",
        "pending_frames",
        "turned_frames",
        "run",
    ],
    "exports": [
        *("contract", "hands_json", "outcomes_csv", "json_chunks", "markdown", "loading", "many_files", "xml_text"),
        *("coco", "yolo", "voc", "hagrid_json", "cvat"),
        *("huggingface", "webdataset", "image_folder", "samples_csv", "contact_sheet", "dataset_card", "failed_csv"),
        *("registry", "picture_names", "selection", "annotations", "export_folder", "chunks", "pictures", "export"),
    ],
    "splits": ["counts", "split_file", "shares", "stratification", "shortcomings", "leaks", "assignment", "run_split"],
    "truth": ["contract", "names", "pixels", "formats", "targets", "binding", "reading"],
    "evaluation": ["average_precision", "measures", "annotated_frames", "run_evaluation"],
    "label_check": ["network", "kept_scores", "scores", "check"],
    "comparison": ["changes", "differing_settings", "findings", "comparison", "text"],
    "detection.engines": ["contract", "worker_process", "local", "cluster", "remote", "pool", "ray"],
    "doubt": [
        *("reasons", "signals", "chosen_hands", "box_position", "detected_hand", "poses", "videos", "duplicates"),
        "scoring",
    ],
    "classifier": [
        *("settings", "crops", "landmarks", "training_set", "inputs", "efficientnet_lite", "models", "training"),
        *("measures", "baselines", "mistakes", "results"),
        *("model_file", "onnx_export", "recognition", "video_files", "video"),
    ],
    "report": [
        *("summary", "verdict", "charts", "crops", "classifier_charts", "pages", "figures"),
        *("thumbnail_worker", "thumbnails", "card_boxes", "card_sizes", "varied_frames", "cards"),
        *("sections", "measured", "provenance", "material", "gallery_requests", "unfinished", "report", "comparison"),
    ],
    "widgets": [
        *(
            "pictures",
            "run_frames",
            "still",
            "frame_widget",
            "doubt_process",
            "selection",
            "trial",
            "review_queue",
            "frame_state",
        ),
        *("explorer", "review"),
    ],
    "cli": ["projects", "options", "execution", "estimate", "key_help", "info", "lab", "finished", "compare", "main"],
}
"""Packages whose modules have an order too; `__init__` and `__main__` may import all of them."""
ALLOWED = {("storage.store", f"storage.{name}") for name in ("folder", "bucket", "lease")}
"""Imports inside a function that opens one of several implementations, and of the types of its parameters."""


def find_imports(file: Path) -> Iterator[str]:
    """Yield the modules of detectime that a file imports, anywhere in it, without ``detectime.``."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("detectime."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "detectime":
            base = node.module.partition(".")[2]
            for alias in node.names:
                inside = f"{base}.{alias.name}".lstrip(".")
                path = PACKAGE / inside.replace(".", "/")
                is_module = path.with_suffix(".py").is_file() or path.is_dir()
                if is_module or base:
                    yield inside if is_module else base


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_above_it(file: Path) -> None:
    module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    own = module.split(".")[0]
    for imported in find_imports(file):
        other = imported.split(".")[0]
        if own not in ("__init__", "__main__") and other != own:
            assert ORDER.index(other) < ORDER.index(own), f"{module} imports {imported}"
        for package, order in INSIDE.items():
            prefix = f"{package}."
            if not module.startswith(prefix) or not imported.startswith(prefix):
                continue
            mine, theirs = (name.removeprefix(prefix).split(".")[0] for name in (module, imported))
            if mine.startswith("__") or mine == theirs or (module, imported) in ALLOWED:
                continue
            assert order.index(theirs) < order.index(mine), f"{module} imports {imported}"


def test_every_module_has_a_place_in_the_order() -> None:
    top = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert top - {"__init__", "__main__"} == set(ORDER)
    for package, order in INSIDE.items():
        folder = PACKAGE / package.replace(".", "/")
        names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        assert {name for name in names if not name.startswith("__")} == set(order)


def test_find_imports_sees_every_form(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "import detectime.boxes\nfrom detectime import config as c, storage\nfrom detectime.storage import urls\n"
        "def f():\n    from detectime.storage.store import open_store\n    import os\n"
    )
    assert set(find_imports(file)) == {"boxes", "config", "storage", "storage.urls", "storage.store"}
