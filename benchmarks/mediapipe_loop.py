"""Run MediaPipe's face and hand detection in a loop, as a user would write it; needs its own environment.

Orders arrive on standard input, one line of JSON each, and each is answered with one line:
``{"time": folder, "names": […]}`` with the CPU seconds of a pass over these files,
``{"find": folder, "names": […]}`` with the best hand of each file, as ``[x1, y1, x2, y2]`` in pixels, or null.
"""

import json
import os
import sys
import time

os.environ["GLOG_minloglevel"] = "3"  # noqa: SIM112 - the name that glog reads

import cv2
import mediapipe

MARGIN = 0.10  # on each side, as a share of the longer side of the landmarks' box; the default of detectime

cv2.setNumThreads(1)
faces = mediapipe.solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.5)
hands = mediapipe.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, min_detection_confidence=0.5)


def run_detection(path):
    """Read an image file and detect its faces and hands."""
    image = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)
    faces.process(image)
    return image, hands.process(image)


def find_best_hand(path):
    """Return the box of the hand with the highest score, or None."""
    image, found = run_detection(path)
    if not found.multi_hand_landmarks:
        return None
    scores = [handedness.classification[0].score for handedness in found.multi_handedness]
    points = found.multi_hand_landmarks[scores.index(max(scores))].landmark
    height, width = image.shape[:2]
    x, y = [p.x * width for p in points], [p.y * height for p in points]
    margin = MARGIN * max(max(x) - min(x), max(y) - min(y))
    return [max(0, min(x) - margin), max(0, min(y) - margin), min(width, max(x) + margin), min(height, max(y) + margin)]


def main():
    """Read orders from standard input and answer them."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints to standard output
    for line in sys.stdin:
        order = json.loads(line)
        folder = order.get("time") or order["find"]
        paths = [os.path.join(folder, name) for name in order["names"]]
        if "time" in order:
            before = time.process_time()
            for path in paths:
                run_detection(path)
            answer = time.process_time() - before
        else:
            answer = [find_best_hand(path) for path in paths]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
