"""How each format is loaded: a few lines of Python for the dataset card, and what their user has to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from detectime.exports.contract import split_folder

FOLDER = "path/of/this/folder"
"""What the lines of code call the folder of the export."""


class Loading(NamedTuple):
    """How a format is loaded."""

    code: str
    """Python. `{split}` is a part of the split, `{_split}` and `{split_}` the same with the sign that joins it."""
    about: str = ""
    """What is not obvious, in Markdown."""
    unsplit: str = ""
    """What the only part of a set is called that is not split."""


LOADING: Mapping[str, Loading] = {
    "coco": Loading(
        f"""\
from pycocotools.coco import COCO

coco = COCO("{FOLDER}/annotations/instances{{_split}}.json")
for annotation in coco.loadAnns(coco.getAnnIds(coco.getImgIds()[:1])):
    print(coco.loadCats(annotation["category_id"])[0]["name"], annotation["bbox"])""",
        "Boxes are `[x, y, width, height]` in pixels.",
    ),
    "yolo": Loading(
        f"""\
from ultralytics import YOLO

YOLO("yolo11n.pt").train(data="{FOLDER}/data.yaml")""",
        "The numbers in the label files are `index` below.",
    ),
    "voc": Loading(
        f"""\
import xml.etree.ElementTree as ElementTree

for name in open("{FOLDER}/ImageSets/Main/{{split}}.txt").read().split():
    tree = ElementTree.parse(f"{FOLDER}/Annotations/{{{{name}}}}.xml")
    print(name, [found.findtext("name") for found in tree.iter("object")])""",
        "Boxes are in whole pixels that count from 1.",
        "trainval",
    ),
    "hagrid": Loading(
        f"""\
import glob, json

for path in glob.glob("{FOLDER}/hagrid_annotations/{{split_}}*.json"):
    for name, found in json.load(open(path)).items():
        print(name, found["labels"], found["bboxes"])""",
        "Boxes are `[x, y, width, height]` as shares of the frame. detectime reads the folder too: `labels` is "
        "`hagrid_annotations`, `images` is `hagrid_dataset`.",
    ),
    "huggingface": Loading(
        f"""\
from datasets import load_dataset

dataset = load_dataset("{FOLDER}")
print(dataset["{{split}}"].features)
sample = dataset["{{split}}"][0]""",
        "`label` and `category` are `index` below. Boxes are `[x, y, width, height]` in pixels of the frame, also "
        "where the picture shows a part of it: `crop`.",
        "train",
    ),
    "webdataset": Loading(
        f"""\
import glob
import webdataset

shards = sorted(glob.glob("{FOLDER}/{{split}}-*.tar"))
dataset = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg;png", "cls", "json")
picture, index, facts = next(iter(dataset))""",
        "The number in `.cls` is `index` below. Boxes in `.json` are corners in pixels of the frame, also where the "
        "picture shows a part of it: `crop_x1` …",
        "train",
    ),
    "imagefolder": Loading(
        f"""\
from torchvision.datasets import ImageFolder

dataset = ImageFolder("{FOLDER}/{{split}}", allow_empty=True)
picture, folder_index = dataset[0]
class_name = dataset.classes[folder_index]""",
        "torchvision numbers the folders in alphabetical order, which is neither `label` nor `index` below: "
        "`classes.json` has all three. A class without pictures has a folder with a file `.keep`, so that the numbers "
        "are the same in every part; `allow_empty=True` accepts it. `datasets.load_dataset` reads this folder too, "
        "with boxes, and with `index` as the label.",
        "train",
    ),
    "cvat": Loading(
        "",
        "In CVAT, make a task with the labels of `labels.json` and the pictures of `images`, and upload "
        "`annotations.xml` as *CVAT 1.1*.",
    ),
    "csv": Loading(
        f"""\
import pandas as pd

samples = pd.read_csv("{FOLDER}/samples.csv", keep_default_na=False)
print(samples[["file", "class_name", "x1", "y1", "x2", "y2"]])""",
        "Boxes are corners in pixels of the frame.",
    ),
}
"""How each format is loaded, by its name."""


def describe_loading(format_name: str, split: str) -> list[str]:
    """Return how a part of the split is loaded, as lines of Markdown.

    Parameters
    ----------
    format_name
        One of `LOADING`.
    split
        The part; empty: the set is not split.

    Examples
    --------
    >>> print(*describe_loading("csv", "")[:4], sep="\\n")
    ```python
    import pandas as pd
    <BLANKLINE>
    samples = pd.read_csv("path/of/this/folder/samples.csv", keep_default_na=False)
    """
    loading = LOADING[format_name]
    name = split_folder(split, loading.unsplit)
    joined = {"_split": f"_{split}" if split else "", "split_": f"{split}/" if split else ""}
    code = loading.code.format(split=name, **joined)
    shown = ["```python", *code.split("\n"), "```"] if code else []
    return [*shown, *([""] if code and loading.about else []), *([loading.about] if loading.about else [])]
