"""The real inputs that are text: tables and annotations of the frames that `material` takes from the sample."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

Boxes = Mapping[str, Sequence[Sequence[float]]]
"""The hands of each frame: x1, y1, x2, y2 in pixels."""

_WIDTH, _HEIGHT = 640, 480  # of the sample
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SPANS = "file,start,end,class_name,person\nclip.mp4,0,0.2,ok,anna\nclip.mp4,0.2,,stop,anna\nclip.mkv,0.1,,like,bob\n"
_SPLITS = ("video_name,split\nstop_01,train\nok_01,test\n", "split;remark;video_name\ntrain;;stop_01\nval;x;ok_01\n")
_NAMES = "ok/anna_0001.jpg\nok/anna_0002.jpg\nstop/bob_0001.jpg\nstop/bob/7.png\nlike/IMG_20.jpg\nlike/IMG_21.jpg"
_YAML = (
    "path: .\ntrain: images\nnames:\n  0: stop\n  1: ok\n",
    "train: images\nval: images\nnc: 2\nnames: [stop, ok]\n",
)

Save = Callable[..., None]
"""Saves inputs: called with the kind and their contents."""


def write_tables(save: Save, labels: pd.DataFrame) -> None:
    """Write tables of labels, in csv and Parquet, and of groups."""
    more = labels.assign(age=range(len(labels)), remark="good, light", outcome="x")
    semicolons = more.to_csv(index=False, sep=";", lineterminator="\r\n")
    save("csv_frames", labels.to_csv(index=False), "\ufeff" + semicolons)
    if importlib.util.find_spec("av") is not None:  # an extra, which reads videos
        save("csv_spans", _SPANS, _SPANS.replace(",", ";"), "file,class_name\nclip.mp4,ok\nclip.mkv,stop\n")
    typed = more.astype({"frame_id": int, "class_name": "category"})
    save("parquet_labels", _to_parquet(labels), _to_parquet(typed))
    save("split_csv", *_SPLITS)
    save("names", _NAMES, "a/ok/1.jpg\na/stop/2.jpg\nb/ok/1.jpg")


def _to_parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.getvalue()


def write_annotations(save: Save, boxes: Boxes) -> None:
    """Write annotations in every format that is read."""
    hagrid = {name.removesuffix(".jpg"): _make_record(name, hands) for name, hands in boxes.items()}
    save("hagrid", json.dumps(hagrid))
    coco = _make_coco(boxes)
    save("coco", json.dumps(coco), json.dumps({"info": {"version": "1"}, "licenses": [], **coco}, indent=1))
    save("cvat", f"<annotations><version>1.1</version>{''.join(map(_make_cvat, boxes, boxes.values()))}</annotations>")
    save("voc", *map(_make_voc, boxes, boxes.values()))
    save("yolo_txt", *(_make_yolo(name, hands) for name, hands in boxes.items()))
    save("yolo_yaml", *_YAML)
    save("truth_json", json.dumps({name: {"hands": hands, "faces": []} for name, hands in boxes.items()}))
    faces = [{"frame_path": name, "bbox_mtcnn": [10, 20, 30.5, 40]} for name in boxes]
    save("face_cache", json.dumps(faces), json.dumps([{**faces[0], "bbox_mtcnn": None}]))


def _get_class(name: str) -> str:
    return name.partition("_")[0]


def _make_record(name: str, hands: Sequence[Sequence[float]]) -> dict[str, object]:
    sides = [[x1 / _WIDTH, y1 / _HEIGHT, (x2 - x1) / _WIDTH, (y2 - y1) / _HEIGHT] for x1, y1, x2, y2 in hands]
    return {"bboxes": sides, "labels": [_get_class(name)] * len(hands), "user_id": f"user of {name.partition('/')[0]}"}


def _make_coco(boxes: Boxes) -> dict[str, object]:
    images = [
        {"id": number, "file_name": name, "width": _WIDTH, "height": _HEIGHT} for number, name in enumerate(boxes)
    ]
    annotations = [
        {"image_id": number, "category_id": 1 + (_get_class(name) == "ok"), "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for number, (name, hands) in enumerate(boxes.items())
        for x1, y1, x2, y2 in hands
    ]
    numbered = [{"id": number, **annotation} for number, annotation in enumerate(annotations)]
    categories = [{"id": 1, "name": "stop"}, {"id": 2, "name": "ok"}]
    return {"images": images, "annotations": numbered, "categories": categories}


def _make_cvat(name: str, hands: Sequence[Sequence[float]]) -> str:
    label = _get_class(name)
    drawn = "".join(
        f'<box label="{label}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>'
        for x1, y1, x2, y2 in hands
    )
    return f'<image id="0" name="{name}" width="{_WIDTH}" height="{_HEIGHT}">{drawn}</image>'


def _make_voc(name: str, hands: Sequence[Sequence[float]]) -> str:
    objects = []
    for hand in hands:
        corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(_CORNERS, hand, strict=True))
        objects.append(f"<object><name>{_get_class(name)}</name><bndbox>{corners}</bndbox></object>")
    size = f"<size><width>{_WIDTH}</width><height>{_HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{''.join(objects)}</annotation>"


def _make_yolo(name: str, hands: Sequence[Sequence[float]]) -> str:
    number = int(_get_class(name) == "ok")
    return "".join(
        f"{number} {(x1 + x2) / 2 / _WIDTH} {(y1 + y2) / 2 / _HEIGHT} {(x2 - x1) / _WIDTH} {(y2 - y1) / _HEIGHT}\n"
        for x1, y1, x2, y2 in hands
    )
