"""A detection worker of whatever tree PYTHONPATH names, in a process of its own: see `against` for the orders.

What differs between commits is bridged here, and nowhere else.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2

from detectime.config import DetectionConfig
from detectime.detection.worker import Worker
from detectime.sources.folder import FolderSource

NEW_COLUMNS = ("describe_content", "hash_crop")  # functions of `images` that detection calls since 0.3


def make_worker(settings: dict[str, Any]) -> Worker:
    """Build a worker with all its models."""
    values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in settings.items()}
    config = DetectionConfig(**values)
    try:
        from detectime.detectors.registry import choose_detectors
    except ImportError:  # 0.2.0
        return Worker(config)  # type: ignore[arg-type]
    return Worker(choose_detectors(config))


def time_functions(names: tuple[str, ...]) -> Counter[str]:
    """Have the CPU seconds of functions of `images` counted from now on, wherever they are called."""
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
    """Answer orders: the first one builds the worker, each further one looks at frames."""
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
        if set(table["outcome"].to_pylist()) != {"ok"}:  # that costs next to nothing
            sys.exit(f"not all frames can be looked at in {source.root}: {table['error'].drop_null()[0]}")
        print(json.dumps({"all": time.process_time() - before, **counted}), flush=True)


if __name__ == "__main__":
    main()
