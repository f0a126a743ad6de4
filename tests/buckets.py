"""A bucket for tests: a real S3 server, moto's, in a process of its own on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SERVE = "import sys; from moto.server import main; main(sys.argv[1:])"


@contextmanager
def serving(port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve buckets; yields the address and the process."""
    port = port or free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address, server
    finally:
        server.kill()
        server.wait()


def environment(address: str) -> dict[str, str]:
    """What tells the library of S3 where the server is."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def bucket() -> str:
    """Make a bucket and return its path."""
    name = f"bucket-{uuid.uuid4().hex}"
    _files().mkdir(name)
    return f"s3://{name}"


def upload(folder: Path, place: str) -> None:
    """Put the files of a folder into a bucket."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _files().pipe_file(f"{place}/{path.relative_to(folder)}", path.read_bytes())


def stored(place: str) -> dict[str, bytes]:
    """Return what lies in a place, but for the lock: name and content."""
    root = place.removeprefix("s3://")
    names = [name for name in _files().find(root) if "/.lock/" not in name]
    return {name.removeprefix(f"{root}/"): _files().cat_file(name) for name in names}


def free_port() -> int:
    """Find a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _files() -> Any:
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
