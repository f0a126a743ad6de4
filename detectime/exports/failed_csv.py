"""``not_exported.csv``: the frames that could not be exported, and why."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from detectime.notes import Note
from detectime.storage.store import Store

FILE_NAME = "not_exported.csv"

_MOST_NOTES = 5


def write_failed_csv(failed: Mapping[str, str], store: Store) -> None:
    """Write one row per frame that could not be exported; delete the file of an earlier call if there is none.

    Parameters
    ----------
    failed
        The reason of each frame, by `frame_path`.
    store
        The folder of the export.

    Raises
    ------
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_failed_csv({"a.jpg": "the file is empty"}, store)
    ...     store.get("not_exported.csv")
    b'frame_path,reason\\na.jpg,the file is empty\\n'
    """
    if not failed:
        store.delete([FILE_NAME])
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["frame_path", "reason"])
    writer.writerows(sorted(failed.items()))
    store.put(FILE_NAME, text.getvalue().encode())


def note_failed(failed: Mapping[str, str]) -> list[Note]:
    """Make a note of each reason, the most frequent first; further reasons share the last one.

    Examples
    --------
    >>> print(*note_failed({"a.jpg": "the file is empty", "b.jpg": "the file is empty"}))
    2 frames were not exported: the file is empty; all are in not_exported.csv (the first: 'a.jpg')
    """
    by_reason: dict[str, list[str]] = {}
    for frame_path, reason in sorted(failed.items()):
        by_reason.setdefault(reason, []).append(frame_path)
    reasons = sorted(by_reason, key=lambda reason: -len(by_reason[reason]))
    groups = [(reason, by_reason[reason]) for reason in reasons[:_MOST_NOTES]]
    rest = [frame_path for reason in reasons[_MOST_NOTES:] for frame_path in by_reason[reason]]
    groups += [("for other reasons", rest)] if rest else []
    return [
        Note(
            "not_exported",
            len(frames),
            f"{'frame was' if len(frames) == 1 else 'frames were'} not exported: {reason}; all are in {FILE_NAME}",
            frames[0],
        )
        for reason, frames in groups
    ]
