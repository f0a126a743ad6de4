"""Containers with odd members: zip, tar and HDF5.

Each function takes real inputs and returns a strategy of hypothesis for changed ones, as bytes.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tools.fuzz.values import TEXTS, choose

_NAMES = "a.jpg A.JPG ./a.jpg a//b.jpg ../a.jpg /a.jpg b\\c.jpg d/ e.jpg/ top/f.png g __MACOSX/._a.jpg .a.jpg".split()
_MORE_NAMES = "é.jpg e\u0301.jpg 000001.jpg 000001.cls 000001.json".split()
_MEMBERS = st.sampled_from([*_NAMES, *_MORE_NAMES, "x" * 300 + ".jpg"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8
).map(lambda stem: f"{stem}.jpg")
_CONTENTS = (b"", b"ok", b"3", b"\xff", b"[", b'{"class_name": "ok"}', bytes(300_000))
_MOST_MEMBERS = 6

_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_LINK, _FOLDER = 0o120777 << 16, 0x10  # external attributes of a member
_ENTRY = b"PK\x01\x02"  # of the directory of a zip
# Offset in an entry, and a value: encrypted, patched, in UTF-8; or compressed as Deflate64, or as AES.
_FLAGS = ((8, 1), (8, 0x20), (8, 0x800), (10, 9), (10, 99))

_TYPES = (
    *[tarfile.REGTYPE] * 4,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
    tarfile.CHRTYPE,
    tarfile.CONTTYPE,
    b"S",
)
_HEADERS = (
    "path size mtime linkpath uid hdrcharset GNU.sparse.map GNU.sparse.size GNU.sparse.major GNU.sparse.name".split()
)
_FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def make_zip(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Make zips with odd names, methods, attributes and flags."""
    with zipfile.ZipFile(io.BytesIO(seeds[0])) as known:
        contents = st.sampled_from([*map(known.read, known.namelist()), *_CONTENTS])
    methods = st.sampled_from([_STORED, _STORED, _DEFLATED, _DEFLATED, _BZIP2, _LZMA])
    members = st.tuples(_MEMBERS, contents, methods, st.sampled_from([0, 0, 0, _FOLDER, _LINK]))

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content, method, attributes in draw(st.lists(members, min_size=1, max_size=_MOST_MEMBERS)):
                member = zipfile.ZipInfo(name)
                member.create_system, member.external_attr = draw(st.sampled_from([0, 3])), attributes
                archive.writestr(member, content, method)
            archive.comment = draw(st.sampled_from([b"", b"", b"PK\x05\x06" * 9]))
        changed = bytearray(file.getvalue())
        for offset, value in draw(st.lists(st.sampled_from(_FLAGS), max_size=1)):
            _set_in_entries(changed, offset, value)
        return draw(st.sampled_from([b"", b"", b"before"])) + bytes(changed)

    return make()


def _set_in_entries(content: bytearray, offset: int, value: int) -> None:
    """Set a number of two bytes in all entries of the directory of a zip."""
    place = -1
    while (place := content.find(_ENTRY, place + 1)) >= 0:
        content[place + offset : place + offset + 2] = value.to_bytes(2, "little")


def make_tar(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Make tars with odd names, types, links and headers."""
    with tarfile.open(fileobj=io.BytesIO(seeds[0])) as known:
        files = filter(None, map(known.extractfile, known.getmembers()))
        contents = st.sampled_from([*(file.read() for file in files), *_CONTENTS])
    members = st.tuples(_MEMBERS, contents, st.sampled_from(_TYPES), _MEMBERS)
    values = TEXTS.filter(lambda text: "\0" not in text)
    headers = st.dictionaries(st.sampled_from(_HEADERS), values, max_size=2)

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        file, form = io.BytesIO(), draw(st.sampled_from(_FORMATS))
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            for name, content, kind, link in draw(st.lists(members, min_size=1, max_size=_MOST_MEMBERS)):
                member = tarfile.TarInfo(name[:30] if form == tarfile.USTAR_FORMAT else name)
                member.type, member.linkname = kind, link[:30]
                member.size = len(content) if kind == tarfile.REGTYPE else 0
                if form == tarfile.PAX_FORMAT:
                    member.pax_headers = draw(headers)
                archive.addfile(member, io.BytesIO(content))
        return file.getvalue()

    return make()


def change_h5(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change members of HDF5: links, types, shapes, layouts, groups."""
    import h5py

    names: list[str] = []
    with h5py.File(io.BytesIO(seeds[0]), "r") as known:
        known.visit(names.append)

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        file = io.BytesIO(seeds[0])
        with h5py.File(file, "r+") as root:
            for _ in range(draw(st.integers(1, 2))):
                # After other changes HDF5 refuses some.
                with contextlib.suppress(KeyError, OSError, RuntimeError, TypeError, ValueError):
                    _change_member(draw, root, draw(st.sampled_from(names)))
        return file.getvalue()

    return make()


def _change_member(draw: st.DrawFn, root: Any, name: str) -> None:
    import h5py

    change = choose(draw, "no_member soft external type shape chunks group rename values cycle")
    first = name.partition("/")[0]
    if change == "cycle":
        root[f"{first}/again"] = root[first]
        return
    if change == "rename":
        root.move(name, f"{name}{draw(st.sampled_from(['2', ':0', ' ', 'é', '/a/b/c/d/e/f/g/h/i/j/k']))}")
        return
    shape = getattr(root[name], "shape", (1,))
    kinds = [np.float64, np.int8, np.float16, np.complex64, bool, "S5", np.dtype([("a", "f4")]), h5py.string_dtype()]
    kind, other_shape = draw(st.sampled_from(kinds)), draw(st.sampled_from([(), (0,), (1,), (10**6, 10**6), None]))
    del root[name]
    if change == "soft":
        root[name] = h5py.SoftLink(draw(st.sampled_from(["/", "/nowhere", f"/{name}"])))
    elif change == "external":
        root[name] = h5py.ExternalLink("/etc/passwd", "/a")
    elif change == "type":
        root.create_dataset(name, shape, kind)
    elif change == "shape":
        root.create_dataset(name, other_shape, np.float32)
    elif change == "chunks":
        root.create_dataset(name, shape, np.float32, chunks=True, compression="gzip")
    elif change == "group":
        root.create_group(f"{name}/inner")
    elif change == "values":
        root[name] = np.full(shape if np.prod(shape) < 1e4 else (2, 2), np.nan, np.float32)
