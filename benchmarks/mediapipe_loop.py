"""What a user would write instead: MediaPipe's faces and hands in a loop. Runs in an environment of its own.

It reads orders from its standard input, a line of JSON each, and answers with one:
``{"time": folder, "names": […]}`` gets the CPU seconds of a pass over these files,
``{"find": folder, "names": […]}`` the best hand of each file, as ``[x1, y1, x2, y2]`` in pixels, or null.
"""

import json
import os
import sys
import time

os.environ["GLOG_minloglevel"] = "3"  # noqa: SIM112 - its name

import cv2
import mediapipe

MARGIN = 0.10  # of the longer side of the landmarks' box, on each side, as ours

cv2.setNumThreads(1)
faces = mediapipe.solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.5)
hands = mediapipe.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, min_detection_confidence=0.5)


def look(path):
    """Read a file, find its faces and its hands."""
    image = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)
    faces.process(image)
    return image, hands.process(image)


def best_hand(path):
    """Box of the hand of the best score."""
    image, found = look(path)
    if not found.multi_hand_landmarks:
        return None
    scores = [handedness.classification[0].score for handedness in found.multi_handedness]
    points = found.multi_hand_landmarks[scores.index(max(scores))].landmark
    height, width = image.shape[:2]
    x, y = [p.x * width for p in points], [p.y * height for p in points]
    grown = MARGIN * max(max(x) - min(x), max(y) - min(y))
    return [max(0, min(x) - grown), max(0, min(y) - grown), min(width, max(x) + grown), min(height, max(y) + grown)]


def main():
    """Answer orders."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library talks
    for line in sys.stdin:
        order = json.loads(line)
        folder = order.get("time") or order["find"]
        paths = [os.path.join(folder, name) for name in order["names"]]
        if "time" in order:
            before = time.process_time()
            for path in paths:
                look(path)
            answer = time.process_time() - before
        else:
            answer = [best_hand(path) for path in paths]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
