"""A loop that decodes and does nothing else, in a process of its own: see `mediapipe_loop` for the orders.

Written as one would write it. Where it runs alone glibc gives the memory of each picture of 1280 pixels back to the
system, which costs more than decoding it; in a process that does more it does not: `cost` shows both.
"""

import json
import sys
import time
from pathlib import Path

import cv2

cv2.setNumThreads(1)


def main() -> None:
    """Answer orders."""
    for line in sys.stdin:
        order = json.loads(line)
        paths = [str(Path(order["time"], name)) for name in order["names"]]
        before = time.process_time()
        for path in paths:
            cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
        print(json.dumps(time.process_time() - before), flush=True)


if __name__ == "__main__":
    main()
