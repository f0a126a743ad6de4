"""The front end of the review in Chrome, with a kernel that is imagined: keys, buttons, mouse, fingers, and faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from browser import CHECKS, OpenPage, launch_chrome
from page_checks import find_axe_faults, find_layout_faults, find_pale_texts
from skips import need_extra

from detectime.widgets.frame_widget import read_script, read_style

need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]

ADDRESS = "http://widget.test/"
SCRIPT = "<script>alert(1)</script>"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>review</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="review.css">
<style>:root { color-scheme: light dark } body { margin: 8px }</style>
<main><h1>A notebook</h1><div data-detectime-still="one">static</div><div data-detectime-still="other">static</div>
<div id="output"></div></main>
<script type="module">import { startReview } from "./kernel.js"; window.startReview = startReview;</script>"""

KERNEL = r"""
// An imagined run: what the kernel answers, and a record of what it was asked. Each start takes away the one before.
import review from "./review.js";

const WIDTH = 1280, HEIGHT = 720;
export async function startReview(options) {
  const settings = {
    total: 200, itemDelay: 0, pictureDelay: 0, decideDelay: 0, silent: [], failing: {}, pictureFaults: [], lost: [],
    items: {}, classes: ["like", "stop", "mute"], live: true, still: "", at: 0, reviewer: "anna", ...options,
  };
  window.kernel?.cleanup();
  document.getElementById("output").replaceChildren();
  for (const still of document.querySelectorAll("[data-detectime-still]")) still.style.display = "";
  document.body.style.height = "";
  scrollTo(0, 0);
  const kernel = { settings, asked: [], decisions: [], keys: [], urls: new Set(), silenced: [] };
  window.kernel = kernel;
  document.addEventListener("keydown", (event) => kernel.keys.push(event.key));
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
    outcome: "sample", outcome_sentence: "Two hands are near the face; the left one is taken.", width: WIDTH,
    height: HEIGHT, box: [330, 380, 470, 560], crop: null, faces: [[560, 140, 800, 460]],
    hands: [{ key: "a", corners: [910, 420, 1030, 580], label: "0.71" },
      { key: "b", corners: [100, 100, 220.25, 260], label: "0.44" }],
    suggested: at % 2 ? [340.5, 370.5, 480, 565] : null, doubt: 0.87,
    reasons: ["The hand is far from where it is in the frames before and after.", "Two hands are equally near."],
    decisions: ["ben: reject (5 minutes ago)",
      ...(decided.get(at) ?? []).slice(-1).map(({ action }) => `you: ${action}`)],
    is_decided: Boolean(decided.get(at)?.length), is_rejected: decided.get(at)?.at(-1)?.action === "reject",
    ...settings.items[at],
  });
  const makeProgress = () => {
    const count = decided.size, right = [...decided.values()].filter((all) => all.at(-1).action === "keep").length;
    return { decided: count, total: settings.total, doubt_left: 1 - count / settings.total, right, judged: count,
      text: `${count} of ${settings.total} decided; 93 % of samples right (95 % interval 86–97 %)`, pending: count };
  };
  const answers = {
    open: () => ({ kind: "opened", facts: { total: settings.total, at: settings.at, by: "doubt", name: "runs/sample",
      reviewer: settings.reviewer, progress: makeProgress(),
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
      if (sent.has(row) || settings.lost.includes(row - 1000)) continue;
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
      content.shown = document.querySelector(".detectime-review .picture img")?.alt ?? null;
      kernel.asked.push(content);
      if (settings.dead) throw new Error("the kernel is gone");
      if (content.kind === "pictures") return void setTimeout(() => sendPictures(content.wanted));
      if (content.kind === "open" && !settings.live) return undefined;
      if (settings.silent.includes(content.kind)) return void kernel.silenced.push(content);
      return void setTimeout(() => kernel.answer(content));
    },
  };
  kernel.speak = () => {
    settings.silent = [];
    for (const content of kernel.silenced.splice(0)) kernel.answer(content);
  };
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
        self.page.wait_for_function(expression, arg=names)

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


class Pages:
    """Pages that tests use one after the other: one with a mouse and one with a touch screen."""

    def __init__(self, chrome: Any) -> None:
        self.chrome = chrome
        self.kept: dict[bool, Reviewed] = {}

    def get(self, touch: bool) -> Reviewed:
        """Return the page, whose files come from no server."""
        if touch not in self.kept:
            self.kept[touch] = self.open(touch)
        return self.kept[touch]

    def drop(self, touch: bool) -> None:
        """Close the page: the next test needs another one."""
        self.kept.pop(touch).page.context.close()

    def open(self, touch: bool) -> Reviewed:
        context = self.chrome.new_context(has_touch=touch, is_mobile=touch, reduced_motion="reduce")
        context.add_init_script(path=CHECKS)
        opened = Reviewed(context.new_page())
        files = {
            "": ("text/html", PAGE),
            "review.js": ("text/javascript", read_script("review")),
            "kernel.js": ("text/javascript", KERNEL),
            "review.css": ("text/css", read_style("review")),
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

        def note_message(line: Any) -> None:
            if line.type in ("error", "warning"):
                opened.events.append(line.text)

        def dismiss(dialog: Any) -> None:
            opened.events.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        context.route(lambda url: not url.startswith(("blob:", "data:")), answer)
        opened.page.on("pageerror", lambda error: opened.events.append(f"error: {error}"))
        opened.page.on("console", note_message)
        opened.page.on("dialog", dismiss)
        opened.page.goto(ADDRESS)
        opened.page.wait_for_function("Boolean(window.startReview)")
        return opened


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with launch_chrome() as chrome:
        yield Pages(chrome)


@contextmanager
def open_review(
    pages: Pages, width: int = 1200, touch: bool = False, theme: str = "light", alone: bool = False, **options: Any
) -> Iterator[Reviewed]:
    """Show the widget alone on a page; `alone`: what the test does to this page is no other test's."""
    opened = pages.get(touch)
    opened.events.clear()
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.page.emulate_media(color_scheme=theme)
    try:
        opened.page.evaluate("options => startReview(options)", options)
        if options.get("live", True):
            opened.page.wait_for_selector(".detectime-review .bar")
            opened.page.focus(".detectime-review")
        yield opened
        assert not opened.events
    except BaseException:
        alone = True
        raise
    finally:
        if alone:
            pages.drop(touch)


BOX, LEFT, SECOND = [330, 380, 470, 560], [910, 420, 1030, 580], [100, 100, 220.25, 260]
SUGGESTED = [340.5, 370.5, 480, 565]
"""What the kernel says of each frame, and of every second one."""

DECISIONS = [
    ("k", "keep", None, None),
    ("x", "reject", None, None),
    ("a", "choose_hand", LEFT, None),
    ("b", "choose_hand", SECOND, None),
    ("1", "label", None, "like"),
    ("3", "label", None, "mute"),
]

# -- keys


def test_each_key_decides(pages: Pages) -> None:
    decisions = [*DECISIONS, ("Enter", "keep", None, None)]
    with open_review(pages) as review:
        for at, (key, *decision) in enumerate(decisions):
            review.press(key)
            assert review.list_decisions()[at:] == [(at, *decision)]
            assert review.read(".position") == f"{at + 2} of 200"
            assert f"like_01/{at:04d}.jpg" in review.read(".state")
            spoken = review.ask("document.querySelector('[aria-live]').textContent")
            assert f"like_01/{at:04d}.jpg. Frame {at + 2} of 200: like." in spoken


def test_other_hand_suggestion_and_class_that_are_absent(pages: Pages) -> None:
    with open_review(pages) as review:
        for key, word in {"c": "no hand c", "i": "No box is suggested", "7": "No class has the key 7"}.items():
            review.press(key)
            assert word in review.read(".state")
        review.press("s", "i")
        assert review.list_decisions() == [(1, "box", SUGGESTED, None)]


def test_skip_back_and_undo(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press("k", "s", " ", "Shift+S", "x")
        assert review.list_decisions() == [(0, "keep", None, None), (2, "reject", None, None)]
        review.press("Backspace", "Backspace", "Backspace", "Backspace")
        review.wait()
        assert review.read(".position") == "1 of 200"
        assert "first frame" in review.read(".state")
        review.press("u")
        review.wait()
        assert review.read(".position") == "3 of 200"
        assert "you:" not in review.read(".details")
        review.press("u")
        review.wait()
        assert review.read(".position") == "1 of 200"
        assert "you:" not in review.read(".details")
        review.press("u")
        review.page.wait_for_function("document.querySelector('.state').textContent.includes('nothing to undo')")
        assert review.read(".position") == "1 of 200"


def test_earlier_decision_is_shown(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press("x", "Backspace")
        review.wait()
        assert "you: reject" in review.read(".details")
        assert "rejected" in review.read(".class")
        assert review.ask("document.querySelector('.detectime-review').hasAttribute('data-rejected')")
        assert "ben: reject" in review.read(".details")


def test_arrows_move_and_size(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        scale = review.ask("document.querySelector('svg.boxes').getScreenCTM().a")
        review.press("ArrowRight", "ArrowRight", "Shift+ArrowDown", "Alt+ArrowRight", "Alt+Shift+ArrowUp")
        assert "box changed" in review.read(".state")
        review.press("Enter")
        right, down = 4 / scale, 10 / scale
        expected = [330 + right, 380 + down, 470 + right + 2 / scale, 560 + down - 10 / scale]
        [(at, action, box, class_name)] = review.list_decisions()
        assert (at, action, class_name) == (0, "box", None)
        assert box == pytest.approx(expected, abs=0.051)
        assert box == [round(value, 1) for value in box]


def test_box_stays_inside_the_frame(pages: Pages) -> None:
    with open_review(pages, items={0: {"box": [2, 3, 40, 50]}}) as review:
        review.press("Shift+ArrowLeft", "Shift+ArrowUp", *["Alt+Shift+ArrowLeft"] * 5)
        assert review.read_box() == pytest.approx([0, 0, 2, 47])
        review.press("Escape")
        assert review.read_box() == [2, 3, 40, 50]
        review.press("k")
        assert review.list_decisions() == [(0, "keep", None, None)]


def test_class_takes_the_changed_box_along(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press("n", "2")
        [(_, action, box, class_name)] = review.list_decisions()
        assert (action, class_name) == ("label", "stop")
        assert box == [532, 252, 748, 468]


def test_frame_without_a_box(pages: Pages) -> None:
    with open_review(pages, items={0: {"box": None}}) as review:
        review.press("k")
        assert "no box to keep" in review.read(".state")
        review.press("ArrowLeft")
        assert "no box to move" in review.read(".state")
        review.press("n", "k")
        assert review.list_decisions() == [(0, "box", [532, 252, 748, 468], None)]


@pytest.mark.parametrize("width", [380, 900, 1280])
def test_refusal_is_read_whole(pages: Pages, width: int) -> None:
    with open_review(pages, width, items={0: {"box": None}}) as review:
        review.wait()
        before = review.page.locator(".stage").bounding_box()
        review.press("k")
        assert review.read(".state") == "There is no box to keep: draw one, choose a hand, or reject."
        state = "document.querySelector('.state')"
        assert review.ask(f"{state}.scrollWidth <= {state}.clientWidth && {state}.scrollHeight <= {state}.clientHeight")
        assert review.page.locator(".stage").bounding_box() == before, "nothing below moves"


def test_zoom_shows_the_box_large(pages: Pages) -> None:
    with open_review(pages) as review:
        width = "Number(document.querySelector('svg.boxes').getAttribute('viewBox').split(' ')[2])"
        review.press("z")
        near = review.ask(width)
        assert near < 0.6 * 1280
        left, top = review.locate(400, 470)
        stage = review.page.locator(".view").bounding_box()
        assert abs(left - stage["x"] - stage["width"] / 2) < 2
        assert abs(top - stage["y"] - stage["height"] / 2) < 2
        picture = review.page.locator(".picture").bounding_box()
        assert picture["width"] == pytest.approx(stage["width"] * 1280 / near, rel=0.01)
        review.press("+")
        assert review.ask(width) < near
        review.press("-", "-")
        assert review.ask(width) > near
        review.press("z")
        assert review.ask(width) == 1280
        review.press("z", "k")
        review.wait()
        assert review.ask(width) == 1280


def test_help_opens_and_closes(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press("?")
        assert "undo the latest decision" in review.read(".help")
        assert review.page.locator("button", has_text="help").get_attribute("aria-expanded") == "true"
        review.press("Escape")
        assert not review.page.is_visible(".help")


def test_keys_never_reach_the_notebook(pages: Pages) -> None:
    """Ctrl+S does, to save it; and Tab, to leave."""
    with open_review(pages, alone=True) as review:
        assert review.page.get_attribute(".detectime-review", "data-lm-suppress-shortcuts") == "true"
        letters = [
            *"kxabcdfinuzsq0123456789?+-",
            "Enter",
            "Escape",
            "Delete",
            "Backspace",
            "Home",
            "ArrowUp",
            " ",
            "Shift+K",
        ]
        review.press(*letters)
        review.wait()
        assert set(review.ask("kernel.keys.splice(0)")) <= {"Shift"}
        for _ in range(3):  # to the third button
            review.page.keyboard.press("Tab")
        review.page.keyboard.press("Enter")
        assert review.ask("kernel.keys.splice(0)") == ["Tab", "Tab", "Tab"]
        review.page.evaluate("document.addEventListener('keydown', (event) => event.preventDefault())")
        review.page.keyboard.press("Control+s")
        assert "s" in review.ask("kernel.keys")


def test_held_key_decides_once(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        for _ in range(10):  # without a release between: what a held key does
            review.page.keyboard.down("k")
            review.page.wait_for_timeout(30)
        review.page.keyboard.up("k")
        assert review.list_decisions() == [(0, "keep", None, None)]


LAYOUTS = [
    ({"key": "л", "code": "KeyK"}, "keep"),  # Russian
    ({"key": "&", "code": "Digit1"}, "label"),  # French
    ({"key": "1", "code": "Digit1", "shiftKey": True}, "label"),  # the same with Shift
    ({"key": "K", "code": "KeyK"}, "keep"),  # Caps Lock
]


def test_other_layouts(pages: Pages) -> None:
    script = """typed => document.querySelector(".detectime-review").dispatchEvent(
        new KeyboardEvent("keydown", { ...typed, bubbles: true, cancelable: true }))"""
    with open_review(pages) as review:
        for at, (typed, action) in enumerate(LAYOUTS):
            review.wait()
            review.page.evaluate(script, typed)
            review.wait()
            assert [made[1] for made in review.list_decisions()[at:]] == [action]


# -- buttons


@pytest.mark.parametrize("way", ["mouse", "keyboard"])
def test_each_button_decides(pages: Pages, way: str) -> None:
    with open_review(pages) as review:
        for at, (key, *decision) in enumerate([*DECISIONS, ("k", "keep", None, None), ("i", "box", SUGGESTED, None)]):
            review.wait()
            button = review.page.locator(f'.actions button[aria-keyshortcuts="{key}"]')
            assert button.inner_text().startswith(key)
            if way == "mouse":
                button.click()
            else:
                button.focus()
                review.page.keyboard.press("Enter")
            assert review.list_decisions()[at:] == [(at, *decision)]
            assert review.ask("document.querySelector('.detectime-review').contains(document.activeElement)")


def test_enter_after_a_click_does_not_press_the_button_again(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        review.page.click('.actions button[aria-keyshortcuts="x"]')
        review.press("Enter")
        assert [made[1] for made in review.list_decisions()] == ["reject", "keep"]


def test_buttons_that_decide_nothing(pages: Pages) -> None:
    with open_review(pages) as review:

        def click(key: str) -> None:
            review.wait()
            review.page.click(f'.actions button[aria-keyshortcuts="{key}"]')

        click("s")
        review.wait()
        assert review.read(".position") == "2 of 200"
        click("z")
        assert review.page.locator(".stage.zoomed").count() == 1
        click("n")
        assert review.read_box() != BOX
        click("?")
        assert review.page.is_visible(".help")
        click("k")
        click("u")
        review.wait()
        assert review.read(".position") == "2 of 200"
        assert len(review.ask("kernel.decisions")) == 1
        review.page.click("text=write hands.json")
        review.page.wait_for_selector(".banners >> text=hands.json has 12 samples.")


def test_letter_on_the_picture_chooses_that_hand(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        review.page.click('.badge[data-hand="a"]')
        assert review.list_decisions() == [(0, "choose_hand", LEFT, None)]


def test_focus_stays_when_its_button_goes(pages: Pages) -> None:
    """Else the next key would edit the notebook."""
    with open_review(pages, at=1) as review:
        review.wait()
        review.page.focus('.actions button[aria-keyshortcuts="i"]')
        review.page.keyboard.press("Enter")
        review.wait()
        review.press("x")
        assert [made[1] for made in review.list_decisions()] == ["box", "reject"]
        assert review.ask("kernel.keys") == []


def test_more_classes_than_digits(pages: Pages) -> None:
    with open_review(pages, classes=[f"class {number}" for number in range(1, 19)]) as review:
        review.press("9")
        review.wait()
        review.page.click("text=set class")
        assert "Choose a class" in review.read(".state")
        review.page.focus("select")
        review.page.keyboard.press("ArrowDown")
        review.page.keyboard.press("ArrowDown")
        assert len(review.list_decisions()) == 1  # walking the list decides nothing
        review.page.click("text=set class")
        assert [made[3] for made in review.list_decisions()] == ["class 9", "class 11"]


# -- mouse and fingers


def test_mouse_moves_sizes_and_draws(pages: Pages) -> None:
    with open_review(pages) as review:
        review.drag((400, 470), (500, 450))
        assert review.read_box() == pytest.approx([430, 360, 570, 540], abs=0.5)
        review.drag((570, 540), (600, 600))  # a corner
        assert review.read_box() == pytest.approx([430, 360, 600, 600], abs=0.5)
        review.drag((430, 440), (400, 500))  # an edge, away from its handle
        assert review.read_box() == pytest.approx([400, 360, 600, 600], abs=0.5)
        review.drag((900, 600), (800, 500))  # elsewhere, from the lower right
        assert review.read_box() == pytest.approx([800, 500, 900, 600], abs=0.5)
        review.press("k")
        [(_, action, box, _)] = review.list_decisions()
        assert action == "box"
        assert box == pytest.approx([800, 500, 900, 600], abs=0.5)
        assert box == [round(value, 1) for value in box]


def test_mouse_beyond_the_border(pages: Pages) -> None:
    with open_review(pages) as review:
        review.drag((400, 470), (-300, 2000))
        assert review.read_box() == pytest.approx([0, 540, 140, 720], abs=0.5)
        review.drag((1000, 100), (1500, -100))
        assert review.read_box() == pytest.approx([1000, 0, 1280, 100], abs=0.5)
        review.drag((1000, 50), (1290, 50))  # the left edge beyond the right border
        assert review.read_box() == pytest.approx([1278, 0, 1280, 100], abs=0.5)


def test_edge_passes_the_opposite_one(pages: Pages) -> None:
    with open_review(pages) as review:
        review.drag((330, 430), (600, 430))
        assert review.read_box() == pytest.approx([470, 380, 600, 560], abs=0.5)


def test_click_changes_nothing_and_takes_the_focus(pages: Pages) -> None:
    with open_review(pages) as review:
        review.page.evaluate("document.activeElement.blur()")
        assert review.page.is_visible(".hint")
        review.drag((700, 300), (702, 301))
        assert review.read_box() == BOX
        assert not review.page.is_visible(".hint")
        review.press("k")
        assert review.list_decisions() == [(0, "keep", None, None)]


def test_small_box_can_be_moved(pages: Pages) -> None:
    with open_review(pages, items={0: {"box": [600, 300, 612, 312]}}) as review:
        review.drag((606, 306), (706, 306))
        assert review.read_box() == pytest.approx([700, 300, 712, 312], abs=0.5)


def test_mouse_when_zoomed(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press("z")
        review.drag((400, 470), (420, 460))
        assert review.read_box() == pytest.approx([350, 370, 490, 550], abs=0.5)


def test_wheel_scrolls_the_page_and_zooms_with_ctrl(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        review.page.evaluate("document.body.style.height = '4000px'")
        review.page.mouse.move(*review.locate(640, 360))
        review.page.mouse.wheel(0, 100)
        review.page.wait_for_function("scrollY > 50")
        assert review.page.locator(".stage.zoomed").count() == 0
        review.page.evaluate("scrollTo(0, 0)")
        review.page.keyboard.down("Control")
        review.page.mouse.wheel(0, -100)
        review.page.keyboard.up("Control")
        review.page.wait_for_selector(".stage.zoomed")


def touch(review: Reviewed, start: tuple[float, float], end: tuple[float, float], last: str) -> None:
    """Move a finger, from and to pixels of the frame, and hold it still, so that the browser sees no fling.

    What is touched while the page flings stops the fling, and is no tap.
    """
    review.wait()
    session = review.page.context.new_cdp_session(review.page)
    (x1, y1), (x2, y2) = review.locate(*start), review.locate(*end)
    points = [(x1 + (x2 - x1) * step / 5, y1 + (y2 - y1) * step / 5) for step in range(6)]
    for step, (x, y) in enumerate(points):
        kind = "touchMove" if step else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    review.page.wait_for_timeout(300)
    session.send("Input.dispatchTouchEvent", {"type": last, "touchPoints": []})
    review.page.wait_for_timeout(1000)


def test_finger_moves_the_box(pages: Pages) -> None:
    with open_review(pages, width=390, touch=True) as review:
        touch(review, (400, 470), (700, 470), "touchEnd")
        review.page.tap('.actions button[aria-keyshortcuts="k"]')
        review.page.wait_for_function("kernel.decisions.length")
        [(_, action, box, _)] = review.list_decisions()
        assert action == "box"
        assert box == pytest.approx([630, 380, 770, 560], abs=1)


def test_cancelled_touch_changes_nothing(pages: Pages) -> None:
    with open_review(pages, width=390, touch=True) as review:
        touch(review, (400, 470), (700, 470), "touchCancel")
        assert review.read_box() == BOX


def test_handles_are_wide_enough(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        handles = review.page.locator(".handle")
        assert handles.count() == 8
        assert all(handles.nth(k).bounding_box()["width"] >= 10 for k in range(8))


# -- nothing is lost, nothing decided unseen


def test_nothing_is_decided_before_the_picture_is_there(pages: Pages) -> None:
    with open_review(pages, pictureDelay=800, lost=[1]) as review:
        for key in "kxa1":
            review.page.keyboard.press(key)
        assert "still loading" in review.read(".state")
        review.page.click('.actions button[aria-keyshortcuts="x"]', force=True)
        review.wait()
        assert review.ask("kernel.decisions") == []
        review.press("k")
        review.wait("loading")
        review.page.keyboard.press("x")
        assert "still loading" in review.read(".state")
        assert [made["action"] for made in review.ask("kernel.decisions")] == ["keep"]


def test_nothing_is_decided_before_the_picture_is_painted(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        review.page.evaluate("""() => {
            const typed = new KeyboardEvent("keydown", { key: "x", code: "KeyX", bubbles: true });
            const type = () => document.querySelector(".detectime-review").dispatchEvent(typed);
            new MutationObserver(type).observe(document.querySelector(".picture"), { childList: true }); }""")
        review.press("k")
        review.wait()
        assert review.read(".position") == "2 of 200"
        assert [made[1] for made in review.list_decisions()] == ["keep"]


def test_200_decisions_are_in_order(pages: Pages) -> None:
    """Typed as fast as the page takes keys: none for a frame that was not on screen, none twice, none lost."""
    with open_review(pages, decideDelay=4, itemDelay=2, pictureDelay=2) as review:
        ended = "document.querySelector('.detectime-review').dataset.phase === 'end'"
        while not review.ask(ended):
            for _ in range(20):
                review.page.keyboard.press("k")
        made = review.list_decisions()
        assert made == [(at, "keep", None, None) for at in range(200)]
        told = review.ask("kernel.asked.filter(({ kind }) => kind === 'decide').map(({ at, shown }) => [at, shown])")
        assert told == [[at, f"like_01/{at:04d}.jpg"] for at in range(200)]
        assert "All 200 frames are judged" in review.read(".message")
        assert review.ask("kernel.urls.size") <= 11


def test_next_picture_is_there_at_once(pages: Pages) -> None:
    """Frames that were fetched ahead take far less than the 150 ms that a person may wait for."""
    with open_review(pages) as review:
        review.wait()
        measure = """() => new Promise((done) => {
            const root = document.querySelector(".detectime-review"), started = performance.now();
            const look = new MutationObserver(() => {
              if (root.dataset.phase === "ready") { look.disconnect(); done(performance.now() - started); } });
            root.dispatchEvent(new KeyboardEvent("keydown", { key: "k", code: "KeyK", bubbles: true }));
            look.observe(root, { attributes: true });
        })"""
        times = []
        for _ in range(20):
            times.append(review.ask(measure))
            review.page.wait_for_timeout(60)
        assert sorted(times)[4] < 100  # what other tests take from the processor makes the rest slower


def test_frames_ahead_are_asked_for_once(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press(*"kkkk")
        review.wait()
        review.page.wait_for_timeout(200)
        items = review.ask("kernel.asked.filter(({ kind }) => kind === 'item').map(({ at }) => at)")
        assert items == list(range(10))
        wishes = review.ask("kernel.asked.filter(({ kind }) => kind === 'pictures').map(({ wanted }) => wanted)")
        assert wishes[-1][0]["side"] == 1280
        assert all(len(wish) <= 6 for wish in wishes)
        assert review.ask("kernel.urls.size") == 10  # 4 behind, this one, 5 ahead


def test_fault_leaves_the_frame_and_what_was_drawn(pages: Pages) -> None:
    text = "The disk is full; nothing was written."
    with open_review(pages, failing={"decide": text}) as review:
        review.press("n")
        drawn = review.read_box()
        review.press("k")
        review.wait()
        assert review.page.inner_text('[role="alert"] span') == text
        assert review.read(".position") == "1 of 200"
        assert review.read_box() == drawn
        review.set(failing={})
        review.press("k")
        assert review.list_decisions() == [(0, "box", drawn, None)]
        assert review.page.locator('[role="alert"]').count() == 0


def test_fault_is_dismissed(pages: Pages) -> None:
    with open_review(pages, failing={"decide": "The disk is full.", "undo": "It is full."}) as review:
        review.press("k", "u")
        review.wait()
        assert review.page.inner_text('[role="alert"] span') == "It is full."
        review.page.click('[aria-label="Dismiss"]')
        assert review.page.locator('[role="alert"]').count() == 0
        review.set(failing={})
        review.press("k")
        assert len(review.list_decisions()) == 1


def test_drawn_box_is_kept_while_looking_elsewhere(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press("n")
        drawn = review.read_box()
        review.press("s", "Backspace")
        review.wait()
        assert review.read_box() == drawn
        assert "box changed" in review.read(".state")
        review.press("k", "Backspace")
        review.wait()
        assert review.list_decisions() == [(0, "box", drawn, None)]
        assert review.read_box() == BOX  # what the kernel says now


def test_picture_with_a_fault_can_only_be_skipped(pages: Pages) -> None:
    with open_review(pages, pictureFaults=[0]) as review:
        review.wait("faulty")
        assert "The frame is gone." in review.read(".message")
        for key in "kxa12n":
            review.press(key)
            assert "can only be skipped" in review.read(".state")
        review.press("s")
        review.wait("ready")
        assert review.read(".position") == "2 of 200"
        assert review.ask("kernel.decisions") == []


def test_frame_that_the_kernel_cannot_describe(pages: Pages) -> None:
    with open_review(pages, failing={"item": "The table of the run is gone."}) as review:
        review.wait("faulty")
        assert "The table of the run is gone." in review.read(".message")
        review.set(failing={})
        review.press("k", "s", "Backspace")
        review.wait("ready")
        assert review.read(".position") == "1 of 200"


def test_slow_picture_can_be_skipped(pages: Pages) -> None:
    with open_review(pages, lost=[0]) as review:
        review.page.keyboard.press("s")
        assert "ignored" in review.read(".state")
        review.page.wait_for_selector(".message >> text=Still loading")
        review.page.keyboard.press("s")
        review.wait("ready")
        assert review.read(".position") == "2 of 200"


def test_kernel_that_does_not_answer(pages: Pages) -> None:
    with open_review(pages, alone=True) as review:
        review.press("k")
        review.wait()
        review.page.clock.install()
        review.set(silent=["decide"])
        review.press("x")
        review.page.clock.run_for(4900)
        assert review.page.locator('[role="alert"]').count() == 0
        review.page.clock.run_for(200)
        assert "The kernel does not answer. This decision is not saved yet." in review.page.inner_text('[role="alert"]')
        for key in "kx1su":
            review.page.keyboard.press(key)
        assert review.read(".position") == "2 of 200"
        assert "still saving" in review.read(".state")
        sent = "kernel.asked.filter(({ kind }) => kind === 'decide').length"
        review.page.clock.run_for(60_000)
        assert review.ask(sent) == 2  # it is not sent again
        review.page.clock.resume()
        review.ask("kernel.speak()")
        review.page.wait_for_function("document.querySelector('.position').textContent === '3 of 200'")
        review.wait()
        assert review.page.locator('[role="alert"]').count() == 0
        assert [made[:2] for made in review.list_decisions()] == [(0, "keep"), (1, "reject")]


def test_kernel_that_is_gone(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        review.set(dead=True)
        review.press("k")
        assert "This decision is not saved yet." in review.page.inner_text('[role="alert"]')
        assert review.read(".position") == "1 of 200"


def test_news_is_shown_and_frames_are_asked_for_again(pages: Pages) -> None:
    with open_review(pages) as review:
        review.wait()
        review.set(items={1: {"class_name": "stop"}})
        review.ask("kernel.tell({ kind: 'news', text: 'ben decided on the next frame.' })")
        assert "ben decided on the next frame." in review.page.inner_text('[role="status"]')
        review.press("k")
        review.wait()
        assert review.read(".class") == "stop"


# -- the end


def test_end_of_the_queue(pages: Pages) -> None:
    with open_review(pages, total=3) as review:
        review.press("k", "s", "x")
        review.wait("end")
        assert "This is the end of the queue." in review.read(".message")
        review.press("k", "x", "1", "ArrowLeft", "s")
        assert len(review.ask("kernel.decisions")) == 2
        review.page.click("text=show the skipped frame")
        review.wait("ready")
        assert review.read(".position") == "2 of 3"
        review.press("k")
        review.wait("end")
        assert "All 3 frames are judged." in review.read(".message")
        assert "95 % interval 86–97 %" in review.read(".message")
        review.page.click(".message button.primary")
        review.page.wait_for_selector(".banners >> text=hands.json has 12 samples.")
        review.wait("end")
        review.page.focus(".detectime-review")
        review.press("u")
        review.wait("ready")
        assert review.read(".position") == "2 of 3"


def test_empty_queue(pages: Pages) -> None:
    with open_review(pages, total=0) as review:
        review.wait("end")
        assert "There is no frame to judge." in review.read(".message")
        review.press("k", "u")
        assert review.ask("kernel.decisions") == []


# -- looks, names, and no kernel


HOSTILE = {
    "frame_path": SCRIPT + "/" + "n" * 300 + "\u202e\u0007.jpg",
    "class_name": '"><img src=x onerror=alert(1)>' + "c" * 280,
    "outcome_sentence": SCRIPT,
    "reasons": [SCRIPT, "r" * 300],
    "decisions": ["מיה: reject " + SCRIPT],
}


@pytest.mark.parametrize("width", [360, 700, 1200])
def test_hostile_names_stay_text_and_fit(pages: Pages, width: int) -> None:
    classes = [SCRIPT, "g" * 300, "שלום", "four\nlines", *[f"class {number}" for number in range(12)]]
    items = dict.fromkeys(range(3), HOSTILE)
    with open_review(
        pages, width, items=items, classes=classes, reviewer="w" * 300, failing={"decide": SCRIPT}
    ) as review:
        review.press("k", "?")
        review.wait()
        assert review.page.locator("#output script, #output img[src=x]").count() == 0
        assert SCRIPT in review.read(".head")
        assert SCRIPT in review.read(".details")
        assert SCRIPT in review.read(".banners")
        assert review.ask("document.documentElement.scrollWidth") <= width
        review.set(failing={})
        review.press("k")
        review.wait()
        assert SCRIPT in review.read(".state")
        review.press("z", "n")
        assert review.ask("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (64, 48), (4000, 300)])
def test_picture_fits_and_keeps_its_shape(pages: Pages, size: tuple[int, int]) -> None:
    wide, high = size
    shape = {"width": wide, "height": high, "box": [1, 1, wide / 2, high / 2], "faces": [], "hands": []}
    with open_review(pages, items={0: shape}) as review:
        review.wait()
        view = review.page.locator(".view").bounding_box()
        assert view["width"] / view["height"] == pytest.approx(wide / high, rel=0.03)
        assert view["width"] <= 861
        assert view["height"] <= 561
        assert view["width"] > 858 or view["height"] > 0.53 * 900  # as large as it fits
        stage = review.page.locator(".stage").bounding_box()
        assert view["y"] >= stage["y"] - 1  # all of it can be seen
        assert view["y"] + view["height"] <= stage["y"] + stage["height"] + 1
        review.press("s")  # a frame of another shape: what is below stays, or moves down once
        review.wait()
        assert review.page.locator(".stage").bounding_box()["height"] >= stage["height"] - 1


def test_buttons_stay_where_they_are(pages: Pages) -> None:
    short: dict[str, Any] = {
        "reasons": [],
        "decisions": [],
        "outcome_sentence": "One hand.",
        "suggested": None,
        "hands": [],
    }
    much = {"reasons": ["A reason that takes a line or two."] * 20}
    with open_review(pages, items={0: short, 1: much}) as review:
        review.wait()
        place = [review.page.locator(f'[aria-keyshortcuts="{key}"]').bounding_box() for key in "kxus123"]
        review.press("s", "ArrowLeft")
        assert review.page.get_attribute(".side", "tabindex") == "0"  # it scrolls
        assert [review.page.locator(f'[aria-keyshortcuts="{key}"]').bounding_box() for key in "kxus123"] == place


def test_without_a_kernel_the_picture_stays(pages: Pages) -> None:
    still = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    with open_review(pages, live=False, still=still) as review:
        assert review.page.inner_text(".detectime-still figcaption") == "Review of 200 frames; run this cell."
        assert review.page.get_attribute(".detectime-still img", "alt") == "Review of 200 frames; run this cell."
        assert not review.page.is_visible('[data-detectime-still="one"]')
        assert review.page.is_visible('[data-detectime-still="other"]')
        assert review.page.locator(".bar, [role=alert]").count() == 0


def test_cleanup_leaves_nothing(pages: Pages) -> None:
    with open_review(pages) as review:
        review.press("k", "k")
        review.wait()
        review.page.wait_for_function("kernel.urls.size > 5")
        review.ask("kernel.cleanup()")
        assert review.ask("kernel.urls.size") == 0
        assert review.ask("kernel.listeners.size") == 0
        assert review.page.locator("#output > *").count() == 0
        review.ask("kernel.render()")
        review.page.wait_for_selector(".detectime-review .bar")
        assert not review.page.is_visible('[data-detectime-still="one"]')


def test_two_views_do_not_take_each_others_replies(pages: Pages) -> None:
    with open_review(pages, alone=True) as review:
        review.wait()
        review.ask("kernel.render()")
        review.page.wait_for_function("document.querySelectorAll('.detectime-review[data-phase=ready]').length === 2")
        review.press("k")
        review.wait()
        assert [root.inner_text() for root in review.page.locator(".position").all()] == ["2 of 200", "1 of 200"]
        numbers = review.ask("kernel.asked.map(({ id }) => id).filter(Boolean)")
        assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_review_can_be_read(pages: Pages, width: int, theme: str) -> None:
    """Contrast, names, roles, and nothing cut off or on top of each other: of a frame, with help and a banner."""
    with open_review(pages, width, theme=theme, failing={"decide": "The disk is full."}, total=2) as review:
        review.press("k", "?", "ArrowLeft")
        review.page.wait_for_timeout(400)
        looked = OpenPage(review.page)
        assert [*find_axe_faults(looked), *find_layout_faults(looked), *find_pale_texts(looked)] == []
        review.press("s", "s")
        review.page.wait_for_timeout(400)
        assert [*find_axe_faults(looked), *find_layout_faults(looked), *find_pale_texts(looked)] == []
