"""The front end of the review in Chrome, with a kernel that is imagined: keys, buttons, mouse, fingers, and faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from browser import launch_chrome
from skips import need_extra

need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]

WIDGETS = Path(__file__).parents[1] / "detectime" / "widgets"
ADDRESS = "http://widget.test/"
SCRIPT = "<script>alert(1)</script>"
PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>review</title>
<link rel="stylesheet" href="review.css"><style>:root {{ color-scheme: light dark }} body {{ margin: 8px }}</style>
<h1>A notebook</h1><div data-detectime-still="one">static</div><div data-detectime-still="other">static</div>
<main id="output"></main>
<script type="module">import {{ startReview }} from "./kernel.js"; await startReview({options});</script>"""

KERNEL = r"""
// An imagined run: what the kernel answers, and a record of what it was asked.
import review from "./review.js";

const WIDTH = 1280, HEIGHT = 720;
export async function startReview(options) {
  const settings = {
    total: 200, itemDelay: 0, pictureDelay: 0, decideDelay: 0, silent: [], failing: {}, pictureFaults: [], items: {},
    classes: ["like", "stop", "mute"], live: true, still: "", at: 0, reviewer: "anna", repeat: [], ...options,
  };
  const kernel = { settings, asked: [], decisions: [], doubled: 0, keys: [], urls: new Set(), painted: [], silenced: [] };
  window.kernel = kernel;
  for (const type of ["keydown"]) document.addEventListener(type, (event) => kernel.keys.push(event.key));
  const { createObjectURL, revokeObjectURL } = URL;
  URL.createObjectURL = (blob) => { const url = createObjectURL.call(URL, blob); kernel.urls.add(url); return url; };
  URL.revokeObjectURL = (url) => { kernel.urls.delete(url); revokeObjectURL.call(URL, url); };

  const pictures = new Map(); // by color
  async function makePicture(row) {
    const color = row % 12;
    if (!pictures.has(color)) {
      const canvas = new OffscreenCanvas(WIDTH, HEIGHT), pen = canvas.getContext("2d");
      const shade = pen.createLinearGradient(0, 0, WIDTH, HEIGHT);
      shade.addColorStop(0, `hsl(${color * 30} 35% 42%)`);
      shade.addColorStop(1, `hsl(${color * 30 + 40} 30% 22%)`);
      pen.fillStyle = shade;
      pen.fillRect(0, 0, WIDTH, HEIGHT);
      pen.fillStyle = "#e0ac86";
      pen.beginPath(); pen.ellipse(680, 300, 120, 160, 0, 0, 7); pen.fill(); // a face
      pen.beginPath(); pen.ellipse(400, 470, 70, 90, 0.3, 0, 7); pen.fill(); // hands
      pen.beginPath(); pen.ellipse(970, 500, 60, 80, -0.3, 0, 7); pen.fill();
      const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 });
      pictures.set(color, await blob.arrayBuffer());
    }
    return new DataView(pictures.get(color));
  }

  const decided = new Map(); // position: decisions of this session
  const session = [];
  const makeItem = (at) => ({
    at, row: 1000 + at, frame_path: `like_01/${String(at).padStart(4, "0")}.jpg`, group: "like_01", class_name: "like",
    outcome: "other_hand", outcome_sentence: "Two hands are near the face; the left one is taken.", width: WIDTH, height: HEIGHT,
    box: [330, 380, 470, 560], crop: null, faces: [[560, 140, 800, 460]],
    hands: [{ key: "a", corners: [910, 420, 1030, 580], label: "0.71" }, { key: "b", corners: [100, 100, 220.25, 260], label: "0.44" }],
    suggested: at % 2 ? [340.5, 370.5, 480, 565] : null, doubt: 0.87,
    reasons: ["The hand is far from where it is in the frames before and after.", "Two hands are equally near."],
    decisions: ["ben: reject (5 minutes ago)"], decision: decided.get(at)?.at(-1) ?? null, ...settings.items[at],
  });
  const makeProgress = () => {
    const count = decided.size, right = [...decided.values()].filter((all) => all.at(-1).action === "keep").length;
    return { decided: count, total: settings.total, doubt_left: 1 - count / settings.total, right, judged: count,
      text: `${count} of ${settings.total} decided; 93 % of samples right (95 % interval 86–97 %)`, pending: count };
  };
  const answers = {
    open: () => ({ kind: "opened", facts: { total: settings.total, at: settings.at, by: "doubt", reviewer: settings.reviewer,
      name: "runs/sample", progress: makeProgress(),
      classes: settings.classes.map((name, number) => ({ name, key: number < 9 ? String(number + 1) : null })) } }),
    item: ({ at }) => ({ kind: "item", at, item: makeItem(at) }),
    decide: ({ at, action, box, class_name }) => {
      const decision = { at, action, box, class_name };
      kernel.decisions.push(decision);
      decided.set(at, [...(decided.get(at) ?? []), decision]);
      session.push(at);
      return { kind: "decided", at, progress: makeProgress() };
    },
    undo: () => {
      const at = session.pop() ?? null;
      if (at !== null && decided.get(at).length > 1) decided.get(at).pop();
      else decided.delete(at);
      return { kind: "undone", at, progress: makeProgress() };
    },
    pair: () => ({ kind: "paired", text: "hands.json has 12 samples.", progress: makeProgress() }),
  };

  const listeners = new Set();
  kernel.tell = (content, buffers = []) => { for (const listener of listeners) listener(content, buffers); };
  const wait = (time) => new Promise((done) => setTimeout(done, time));
  kernel.answer = async (content) => { // also what it was silent about
    const fault = settings.failing[content.kind];
    const reply = fault ? { kind: "fault", text: fault } : answers[content.kind](content);
    const delay = { item: settings.itemDelay, decide: settings.decideDelay }[content.kind];
    if (delay) await wait(delay);
    kernel.tell({ ...reply, id: content.id });
  };
  const sent = new Set();
  async function sendPictures(wanted) {
    for (const { row, side } of wanted) {
      if (sent.has(row) || settings.silent.includes("pictures")) continue;
      sent.add(row);
      if (settings.pictureDelay) await wait(settings.pictureDelay);
      const fault = settings.pictureFaults.includes(row - 1000) ? "The frame is gone." : null;
      const bytes = fault ? [] : [await makePicture(row)];
      sent.delete(row);
      kernel.tell({ kind: "picture", row, side, fault }, bytes);
    }
  }
  const model = {
    get: (trait) => ({ still: settings.still, still_text: "Review of 200 frames; run this cell.", key: "one" })[trait],
    on: (event, listener) => { if (event === "msg:custom") listeners.add(listener); },
    off: (event, listener) => listeners.delete(listener),
    send: (content) => {
      content = structuredClone(content);
      content.shown = document.querySelector(".detectime-review .path")?.textContent ?? null;
      const image = document.querySelector(".picture img");
      content.isPainted = Boolean(image?.complete && image.naturalWidth);
      kernel.asked.push(content);
      if (settings.dead) throw new Error("the kernel is gone");
      if (content.kind === "pictures") return void setTimeout(() => sendPictures(content.wanted));
      if (content.kind === "open" && !settings.live) return undefined;
      if (settings.silent.includes(content.kind)) return void kernel.silenced.push(content);
      return void setTimeout(() => kernel.answer(content));
    },
  };
  kernel.speak = () => { settings.silent = []; for (const content of kernel.silenced.splice(0)) kernel.answer(content); };
  kernel.render = async () => {
    const output = document.getElementById("output");
    kernel.cleanup = await review.render({ model, el: output });
  };
  kernel.listeners = listeners;
  await makePicture(0);
  await kernel.render();
}
"""


# -- the page


@dataclass
class Reviewed:
    """The page with the widget, and what it did that it must not do."""

    page: Any
    events: list[str] = field(default_factory=list)

    def press(self, *keys: str) -> None:
        """Press keys, each when the frame is there."""
        for key in keys:
            self.wait()
            self.page.keyboard.press(key)

    def wait(self, *phases: str) -> None:
        """Wait until a frame can be judged, or for other phases."""
        names = list(phases or ("ready", "end", "faulty"))
        expression = "names => names.includes(document.querySelector('.detectime-review').dataset.phase)"
        self.page.wait_for_function(expression, arg=names, timeout=5000)

    def ask(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def set(self, **settings: Any) -> None:
        self.page.evaluate("settings => Object.assign(kernel.settings, settings)", settings)

    def read(self, selector: str) -> str:
        return str(self.page.inner_text(f".detectime-review {selector}"))

    def list_decisions(self) -> list[tuple[Any, ...]]:
        """What the kernel was told: position, action, box, class."""
        self.wait()
        keys = ("at", "action", "box", "class_name")
        return [tuple(made[key] for key in keys) for made in self.ask("kernel.decisions")]

    def locate(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the frame is in the window."""
        point = (
            "([x, y]) => { const p = new DOMPoint(x, y).matrixTransform("
            "document.querySelector('svg.boxes').getScreenCTM()); return [p.x, p.y]; }"
        )
        found = self.page.evaluate(point, [x, y])
        return found[0], found[1]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse, from and to pixels of the frame."""
        self.wait()
        self.page.mouse.move(*self.locate(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.locate(*end), steps=4)
        self.page.mouse.up()

    def read_box(self) -> list[float] | None:
        """Return the corners of the sample's box as drawn."""
        read = """() => { const rect = document.querySelector("svg.boxes rect.hand");
            if (!rect) return null;
            const [x, y, w, h] = ["x", "y", "width", "height"].map((name) => Number(rect.getAttribute(name)));
            return [x, y, x + w, y + h]; }"""
        found: list[float] | None = self.page.evaluate(read)
        return found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with launch_chrome() as chrome:
        yield chrome


@contextmanager
def open_review(
    chrome: Any, width: int = 1200, touch: bool = False, theme: str = "light", **options: Any
) -> Iterator[Reviewed]:
    """Open a page with the widget alone; its files come from no server."""
    context = chrome.new_context(
        viewport={"width": width, "height": 900},
        has_touch=touch,
        is_mobile=touch,
        color_scheme=theme,
        reduced_motion="reduce",
    )
    opened = Reviewed(context.new_page())
    css = "\n".join((WIDGETS / name).read_text("utf-8") for name in ("common.css", "review.css"))
    files = {
        "": ("text/html", PAGE.format(options=json.dumps(options))),
        "review.js": ("text/javascript", (WIDGETS / "review.js").read_text("utf-8")),
        "kernel.js": ("text/javascript", KERNEL),
        "review.css": ("text/css", css),
    }

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(ADDRESS)
        if name in files:
            route.fulfill(content_type=f"{files[name][0]}; charset=utf-8", body=files[name][1])
        elif name == "favicon.ico":
            route.fulfill(status=204)
        else:
            opened.events.append(f"requests {route.request.url}")
            route.abort()

    context.route(lambda url: not url.startswith(("blob:", "data:")), answer)
    opened.page.on("pageerror", lambda error: opened.events.append(f"error: {error}"))
    opened.page.on(
        "console", lambda line: opened.events.append(line.text) if line.type in ("error", "warning") else None
    )
    opened.page.on("dialog", lambda dialog: (opened.events.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    try:
        opened.page.goto(ADDRESS)
        opened.page.wait_for_function("Boolean(window.kernel?.cleanup)", timeout=5000)
        if options.get("live", True):
            opened.page.wait_for_selector(".detectime-review .bar")
            opened.page.focus(".detectime-review")
        yield opened
    finally:
        assert not opened.events
        context.close()


BOX, LEFT, SECOND = [330, 380, 470, 560], [910, 420, 1030, 580], [100, 100, 220.25, 260]


# -- keys


@pytest.mark.parametrize(
    ("key", "action", "box", "class_name"),
    [
        ("k", "keep", None, None),
        ("Enter", "keep", None, None),
        ("x", "reject", None, None),
        ("a", "choose_hand", LEFT, None),
        ("b", "choose_hand", SECOND, None),
        ("1", "label", None, "like"),
        ("3", "label", None, "mute"),
    ],
)
def test_key_decides(chrome: Any, key: str, action: str, box: list[float] | None, class_name: str | None) -> None:
    with open_review(chrome) as review:
        review.press(key)
        assert review.list_decisions() == [(0, action, box, class_name)]
        assert review.read(".position") == "2 of 200"
        assert "like_01/0000.jpg" in review.read(".state")
