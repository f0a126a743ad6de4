"""The real inputs that are no text: pictures in every format, archives of them, videos and weights."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.fuzz.texts import Save

TIME = 1_750_000_000
"""Of all files, in seconds since 1970."""

_SIZE, _SMALL = (160, 120), (64, 48)  # of pictures, and of those in archives and videos
_ORIENTATION = 0x0112
_CODECS = {"mp4": "libx264", "mkv": "libx264", "ts": "libx264", "mpg": "mpeg2video", "avi": "mpeg4", "webm": "libvpx"}
_LENGTH = 12  # frames of a video
_NETWORK: dict[str, Any] = {"backbone": "resnet50", "pool": 2, "pyramid_channels": 4, "head_channels": 4}


def write_pictures(save: Save, path: Path) -> None:
    """Write a picture in every format that is read, and in several kinds of each."""
    picture = Image.open(path).convert("RGB").resize(_SIZE)
    grey, clear, palette, lines = (picture.convert(mode) for mode in ("L", "RGBA", "P", "1"))
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    animation: dict[str, Any] = {"save_all": True, "append_images": [picture.rotate(180)]}
    jpegs = [_encode(picture, "JPEG", exif=exif), _encode(picture, "JPEG", progressive=True), _encode(grey, "JPEG")]
    jpegs += [_encode(picture.convert("CMYK"), "JPEG"), _encode(picture, "JPEG", subsampling=0, restart_marker_rows=1)]
    save("jpeg", path.read_bytes(), *jpegs)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    save("png", *(_encode(each, "PNG") for each in (picture, grey, clear, palette, deep)))
    save("png", _encode(picture, "PNG", exif=exif))
    save("webp", _encode(picture, "WEBP", exif=exif), _encode(clear, "WEBP", lossless=True))
    save("webp", _encode(picture, "WEBP", **animation))
    save("gif", _encode(palette, "GIF"), _encode(picture, "GIF", **animation))
    save("tiff", *(_encode(picture, "TIFF", compression=name) for name in ("raw", "tiff_lzw", "tiff_adobe_deflate")))
    save("tiff", *(_encode(each, "TIFF", compression="jpeg", exif=exif) for each in (picture, grey)))
    save("bmp", *(_encode(each, "BMP") for each in (picture, grey, palette, lines)))
    save("avif", _encode(picture, "AVIF", speed=10), _encode(picture, "AVIF", speed=10, exif=exif))
    save("jpeg2000", _encode(picture, "JPEG2000"), _encode(grey, "JPEG2000", no_jp2=True))
    save("pnm", *(_encode(each, "PPM") for each in (picture, grey, lines)))
    save("pnm", "P3 2 2 255\n" + "1 2 3 " * 4, "P2\n# a comment\n2 2 15\n0 5 10 15\n")
    with contextlib.suppress(ImportError):  # an extra
        import pillow_heif

        pillow_heif.register_heif_opener()
        save("heic", _encode(picture, "HEIF", quality=40), _encode(picture, "HEIF", quality=40, exif=exif))


def _encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write_archives(save: Save, frames: Path, names: Sequence[str]) -> None:
    """Write archives of frames, and those of WebDataset with their classes."""
    small = {name: _encode(Image.open(frames / name).resize(_SMALL), "JPEG") for name in names}
    for method, top in ((zipfile.ZIP_STORED, ""), (zipfile.ZIP_DEFLATED, "top/"), (zipfile.ZIP_BZIP2, "./")):
        save("zip", _make_zip({f"{top}{name}": content for name, content in small.items()}, method))
    long = {f"{'long/' * 30}{name}": content for name, content in small.items()}
    save("tar", _make_tar(small, tarfile.USTAR_FORMAT))
    save("tar", *(_make_tar(long, form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
    for ending, said in (("cls", b"ok"), ("json", b'{"class_name": "ok", "user_id": "anna"}')):
        members: dict[str, bytes] = {}
        for number, content in enumerate(small.values()):
            members |= {f"{number:06}.jpg": content, f"{number:06}.{ending}": said}
        save("webdataset", _make_tar(members, tarfile.USTAR_FORMAT))


def _make_zip(members: Mapping[str, bytes], method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def _make_tar(members: Mapping[str, bytes], form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), TIME
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def write_videos(save: Save, folder: Path, pictures: Sequence[Path]) -> None:
    """Write a short video in every common container, if PyAV is installed."""
    try:
        import av
    except ImportError:  # an extra
        return
    folder.mkdir()
    shown = [np.asarray(Image.open(path).resize(_SMALL)) for path in pictures]
    for ending, codec in _CODECS.items():
        path = folder / f"clip.{ending}"
        options = {"bf": "2", "x264-params": "threads=1"} if codec == "libx264" else {}
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as output:
            stream: Any = output.add_stream(codec, rate=Fraction(25), options={"g": "5", **options})
            (stream.width, stream.height), stream.pix_fmt = _SMALL, "yuv420p"
            stream.codec_context.thread_count = 1
            for number in range(_LENGTH):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(shown[number % len(shown)], format="rgb24")))
            output.mux(stream.encode(None))
        os.utime(path, (TIME, TIME))
        save("mp4" if ending == "mp4" else "video", path.read_bytes())


def write_weights(save: Save) -> None:
    """Write weights of the right shapes that were never set: HDF5 stores no values of those, so the file is small."""
    try:
        import h5py
    except ImportError:  # an extra
        return
    from detectime.detectors.mask_rcnn.weights import list_tensor_shapes

    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        for name, shape in list_tensor_shapes(make_network_settings()).items():
            root.create_dataset(name, shape, np.float32)
    save("h5", file.getvalue())


def make_network_settings() -> Any:
    """Return the settings of the smallest network whose weights can be read."""
    from detectime.detectors.mask_rcnn.config import NetworkSettings

    return NetworkSettings(**_NETWORK)
