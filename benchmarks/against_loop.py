"""Run a detection worker of the tree in PYTHONPATH, in its own process: see `against` for the orders.

Differences between commits are bridged here and nowhere else.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2

try:
    from detectime.detection.worker import Worker
    from detectime.detectors.registry import DetectionConfig, choose_detectors
    from detectime.sources.folder import FolderSource
except ImportError:  # before the packages of 0.3
    import importlib

    Worker = importlib.import_module("detectime.detect").Worker  # type: ignore[misc]
    DetectionConfig = importlib.import_module("detectime.config").Detection  # type: ignore[misc]
    FolderSource = importlib.import_module("detectime.sources.folder").Folder  # type: ignore[misc]
    try:
        choose_detectors = importlib.import_module("detectime.detectors.registry").choose_detectors
    except ImportError:  # 0.2.0: its worker takes the configuration

        def choose_detectors(config: Any) -> Any:  # type: ignore[misc]
            """Return the configuration."""
            return config


NEW_COLUMNS = ("describe_content", "hash_crop")  # functions of `images` that detection calls since 0.3


def make_worker(settings: dict[str, Any]) -> Worker:
    """Build a worker with all its models."""
    values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in settings.items()}
    return Worker(choose_detectors(DetectionConfig(**values)))


def time_functions(names: tuple[str, ...]) -> Counter[str]:
    """Count the CPU seconds of functions of `images` from now on, in all modules that import them."""
    from detectime import images

    seconds: Counter[str] = Counter()
    for name in names:
        function = getattr(images, name, None)
        if function is None:
            continue

        def timed(*arguments: Any, _name: str = name, _function: Any = function, **more: Any) -> Any:
            before = time.process_time()
            result = _function(*arguments, **more)
            seconds[_name] += time.process_time() - before  # type: ignore[assignment]
            return result

        for module in [module for key, module in sys.modules.items() if key.startswith("detectime.")]:
            if getattr(module, name, None) is function:
                setattr(module, name, timed)
    return seconds


def main() -> None:
    """Read orders from standard input: the first one builds the worker, each further one names frames to process."""
    cv2.setNumThreads(1)
    order = json.loads(sys.stdin.readline())
    worker, source = make_worker(order["detection"]), FolderSource(order["images"])
    counted = time_functions(NEW_COLUMNS) if order["profile"] else Counter()
    print(json.dumps(str(Path(sys.modules["detectime"].__file__ or "").parents[1])), flush=True)
    for line in sys.stdin:
        names = json.loads(line)["frames"]
        counted.clear()
        before = time.process_time()
        table = worker(source, names)
        if set(table["outcome"].to_pylist()) != {"ok"}:  # a failed frame takes almost no time
            sys.exit(f"{source.root}: not all frames can be processed: {table['error'].drop_null()[0]}")
        print(json.dumps({"all": time.process_time() - before, **counted}), flush=True)


if __name__ == "__main__":
    main()
