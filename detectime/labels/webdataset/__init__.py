"""A WebDataset as labels: pictures with their class in a ``.cls`` or ``.json`` beside them, in tar files or folders.

- `samples`: which files are one sample, by their names;
- `members`: what a ``.cls`` and a ``.json`` say;
- `class_lists`: what the numbers of classes stand for;
- `classes`: the class of each sample in the vocabulary;
- `reading`: the frame table.
"""

from __future__ import annotations

from detectime.labels.webdataset.reading import list_classes, read_webdataset
from detectime.labels.webdataset.samples import is_webdataset

__all__ = ["is_webdataset", "list_classes", "read_webdataset"]
