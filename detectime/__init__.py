"""Turn labelled video frames into a training set for gesture classification.

From labels to samples::

    table = frame_table.select_frames(frame_table.read_labels(config, source), classes, limit)
    run.detect_frames(table, source, config, output)
    samples = outcomes.pair_run(runs.open_run(output))
"""

import logging

from detectime.errors import DocumentedError

__version__ = "0.3.0"

# Without a handler Python prints warnings to stderr; the caller decides where the log goes.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_RENAMED = {
    "changes": "detection.changes",
    "detect": "detection.worker",
    "engines": "detection.engines",
    "evaluate": "evaluation",
    "frames": "labels.frame_table",
    "hagrid": "labels.hagrid",
    "library_hooks": "detectors.face_detection_patch",
    "lookup": "storage.name_index",
    "manifest": "detection.manifest",
    "plots": "report.charts",
    "remote": "storage.urls",
    "run": "detection.run",
    "shards": "detection.shards",
    "spans": "labels.spans",
    "store": "storage.store",
    "tables": "storage.run_tables",
    "weights": "storage.downloads",
}
"""Old names of modules, and where they are now."""


class RenamedError(DocumentedError):
    """A module that was renamed; the message says what it is called now."""


def __getattr__(name: str) -> object:
    """Say what a renamed module is called now: an ImportError could not."""
    if name in _RENAMED:
        raise RenamedError(
            f"detectime.{name} was renamed to detectime.{_RENAMED[name]} in 0.3. If this is notebook 01 of an earlier "
            "release, use that of this release: it takes the same parameters, config.yml files and runs. CHANGELOG.md "
            "lists all renamed functions, old -> new"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
