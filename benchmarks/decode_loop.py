"""Decode images in a loop, in a separate process that does nothing else: see `mediapipe_loop` for the orders.

Deliberately plain. In such a process glibc returns the memory of each 1280-pixel image to the system, which costs more
than decoding it; in a process that also does other work it does not. `cost` measures both.
"""

import json
import sys
import time
from pathlib import Path

import cv2

cv2.setNumThreads(1)


def main() -> None:
    """Read orders from standard input and answer them."""
    for line in sys.stdin:
        order = json.loads(line)
        paths = [str(Path(order["time"], name)) for name in order["names"]]
        before = time.process_time()
        for path in paths:
            cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
        print(json.dumps(time.process_time() - before), flush=True)


if __name__ == "__main__":
    main()
