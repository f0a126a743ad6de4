"""Buckets for tests: moto's S3 server in a process of its own."""

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
def serve_buckets(port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve buckets; yields the URL and the process."""
    port = port or find_free_port()
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


def make_environment(address: str) -> dict[str, str]:
    """Return the environment variables that point S3 clients at the server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def make_bucket() -> str:
    """Make a bucket and return its URL."""
    name = f"bucket-{uuid.uuid4().hex}"
    _open_filesystem().mkdir(name)
    return f"s3://{name}"


def upload(folder: Path, location: str) -> None:
    """Copy the files of a folder into a bucket."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _open_filesystem().pipe_file(f"{location}/{path.relative_to(folder)}", path.read_bytes())


def read_stored(location: str) -> dict[str, bytes]:
    """Return the contents of all objects below a URL by name, without the lock."""
    root = location.removeprefix("s3://")
    names = [name for name in _open_filesystem().find(root) if "/.lock/" not in name]
    return {name.removeprefix(f"{root}/"): _open_filesystem().cat_file(name) for name in names}


def find_free_port() -> int:
    """Find a port that no server uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _open_filesystem() -> Any:
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
