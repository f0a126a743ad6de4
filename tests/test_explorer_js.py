"""The front end of the explorer in Chrome, with a model that answers as a kernel does, for frames that it imagines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import PHONE, OpenPage, launch_chrome, open_page
from page_checks import find_axe_faults, find_pale_texts_in_view
from skips import need_extra

from detectime.widgets.frame_widget import read_script, read_style

need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]

MODEL = Path(__file__).parent / "widgets" / "explorer_model.js"
POLICY = "default-src 'none'; img-src blob: data:; style-src 'unsafe-inline'; script-src blob: 'unsafe-eval'"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>A notebook</title>
<style>
{style}
body {{ margin: 8px }}
:root {{ color-scheme: light dark; background: light-dark(white, #131517) }}
</style>
</head>
<body><main>
<h1 style="font-size: 14px">A notebook</h1>
<p data-detectime-still="k&quot;1">The same picture</p>
<div id="cell"></div>
</main></body>
</html>
"""
START = """async ([source, options]) => {
  window.keys = [];
  document.addEventListener("keydown", (event) => window.keys.push(event.key));
  const revoke = URL.revokeObjectURL, create = URL.createObjectURL;
  window.blobs = new Set();
  URL.createObjectURL = (blob) => {
    const url = create(blob);
    if (blob.type === "image/jpeg") blobs.add(url);
    return url;
  };
  URL.revokeObjectURL = (url) => { blobs.delete(url); revoke(url); };
  window.module = await import(create(new Blob([source], { type: "text/javascript" })));
  window.model = makeModel(options);
  window.stop = window.module.default.render({ model, el: document.querySelector("#cell") });
}"""
MANY = 175_000
LOADED = (
    "() => [...document.querySelectorAll('.grid .cell:not([hidden])')].every((cell) => cell.matches(':not(.waiting)'))"
)
SHOWN = """() => [...document.querySelectorAll('.grid .cell:not([hidden])')]
    .map((cell) => Number(cell.firstChild.dataset.row))"""
FIRST_LINE = """() => { // where the first of all lines would be
    const [one, other] = document.querySelectorAll(".line");
    const [top, below] = [one, other].map((line) => line.getBoundingClientRect().y);
    return top - (below - top) * Number(one.getAttribute("aria-rowindex"));
}"""
SCROLL_TO = "part => { const grid = document.querySelector('.grid'); grid.scrollTop = part * grid.scrollHeight; }"


@dataclass
class Explorer:
    """The explorer on a page."""

    opened: OpenPage

    @property
    def page(self) -> Any:
        """The page of the browser."""
        return self.opened.page

    def find(self, selector: str) -> Any:
        """Find elements of the explorer."""
        return self.page.locator(f".detectime-explorer {selector}")

    def label(self, name: str) -> Any:
        """Find a control by its name."""
        return self.page.get_by_label(name, exact=True)

    def button(self, text: str) -> Any:
        """Find a button by its text."""
        return self.find(f'button:text-is("{text}")')

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def list_sent(self, kind: str) -> list[dict[str, Any]]:
        """List the messages of a kind that were sent until now."""
        sent: list[dict[str, Any]] = self.page.evaluate("kind => model.list(kind)", kind)
        return sent

    def get_last(self, kind: str = "select") -> dict[str, Any]:
        """Return the last message of a kind."""
        return self.list_sent(kind)[-1]

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        self.page.wait_for_function(condition)

    def wait_for_setting(self, name: str, value: Any) -> None:
        """Wait until the last message with settings has this one."""
        condition = "([name, value]) => model.list('select').at(-1).settings?.[name] === value"
        self.page.wait_for_function(condition, arg=[name, value])

    def wait_for_total(self, total: str) -> None:
        """Wait until so many frames are said to be shown, and are."""
        self.page.wait_for_function(
            "total => document.querySelector('.found [role=status]').textContent === total", arg=f"{total} shown"
        )
        self.wait_for(LOADED)

    def list_shown(self) -> list[int]:
        """List the rows of the cells that are elements."""
        rows: list[int] = self.page.evaluate(SHOWN)
        return rows

    def get_focus(self) -> str:
        """Return the index of the cell that has the focus; empty if none has."""
        index: str = self.page.evaluate("() => document.activeElement.closest('.cell')?.dataset.index ?? ''")
        return index

    def list_faults(self) -> list[str]:
        """List errors, and requests that left the page: only its own pictures and its own script are not."""
        return [event for event in self.opened.list_events() if not event.startswith("requests blob:")]


class Pages:
    """Pages that tests use one after the other: one of a desk and one of a phone."""

    def __init__(self, chrome: Any, path: Path) -> None:
        self.chrome, self.path = chrome, path
        self.kept: dict[bool, OpenPage] = {}
        self.stack = ExitStack()

    def visit(self, width: int) -> OpenPage:
        """Load the page anew in a window of this width."""
        is_phone = width in PHONE
        if is_phone in self.kept:
            self.kept[is_phone].visit(self.path, width)
        else:
            self.kept[is_phone] = self.stack.enter_context(open_page(self.chrome, self.path, width))
        return self.kept[is_phone]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_text(PAGE.format(policy=POLICY, style=read_style("explorer")), "utf-8")
    with launch_chrome() as chrome:
        opened = Pages(chrome, path)
        with opened.stack:
            yield opened


@contextmanager
def start(pages: Pages, width: int = 820, wait: bool = True, clock: bool = False, **options: Any) -> Iterator[Explorer]:
    """Open a page with the explorer in it; `options` are those of the model. With `clock`, its time can be set."""
    with open_page(pages.chrome, pages.path, width) if clock else nullcontext(pages.visit(width)) as opened:
        opened.page.set_default_timeout(8000)
        if clock:
            opened.page.clock.install()
        opened.page.evaluate(MODEL.read_text("utf-8"))
        opened.page.evaluate(START, [read_script("explorer"), {"frames": 5000, **options}])
        explorer = Explorer(opened)
        if wait:
            explorer.page.wait_for_selector(".cell img[src^='blob:']")
            explorer.wait_for(LOADED)
        yield explorer


# -- what is shown


def test_counts_are_those_of_the_run(pages: Pages) -> None:
    with start(pages, frames=MANY) as explorer:
        facts = explorer.page.evaluate("() => model.answer({ kind: 'open' }).facts")
        assert explorer.find(".title").text_content() == f"{facts['samples']:,} samples of 175,000 frames · reports/run"
        chips = explorer.find(".line-of-chips .chip:visible").all_inner_texts()
        named = {
            outcome["name"].replace("_", " "): outcome["count"] for outcome in facts["outcomes"] if outcome["count"]
        }
        assert [chip.rsplit(maxsplit=1) for chip in chips] == [[name, f"{count:,}"] for name, count in named.items()]
        assert explorer.find(".grid").get_attribute("aria-rowcount") == str(
            -(-MANY // len(explorer.find(".line").nth(0).locator(".cell").all()))
        )
        assert explorer.get_last() | {"id": 0} == {
            "kind": "select",
            "id": 0,
            "filter": {**explorer.get_last()["filter"], "classes": [], "doubt": None, "decided": "any"},
            "sort": "table",
            "descending": False,
            "settings": None,
        }


def test_frames_left_out_are_not_among_those_of_the_run(pages: Pages) -> None:
    with start(pages, leftOut=12) as explorer:
        title = explorer.find(".title").text_content()
        assert title.endswith(" samples of 5,000 frames · 12 left out · reports/run")


def test_room_for_a_picture_is_as_light_as_the_page(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.page.evaluate("() => model.held.add('pictures')")
        explorer.page.evaluate("document.querySelector('.grid').scrollTop = 4000")
        explorer.wait_for(LOADED)
        explorer.wait_for("[...document.querySelectorAll('.cell')].some((cell) => !cell.querySelector('img').src)")
        shade = """() => {
            const empty = [...document.querySelectorAll(".cell")].find((cell) => !cell.querySelector("img").src);
            const pen = new OffscreenCanvas(1, 1).getContext("2d");
            pen.fillStyle = getComputedStyle(empty.firstChild).backgroundColor;
            pen.fillRect(0, 0, 1, 1);
            return Math.max(...pen.getImageData(0, 0, 1, 1).data.slice(0, 3));
        }"""
        assert explorer.page.evaluate(shade) > 200
        explorer.opened.show(820, "dark")
        assert explorer.page.evaluate(shade) < 80
        assert explorer.find(".grid svg.boxes:visible").count() == 0, "no boxes without a picture"


def test_boxes_lie_on_the_picture(pages: Pages) -> None:
    with start(pages) as explorer:
        row = explorer.page.evaluate("() => model.describe(0)")
        assert row["boxes"], "the first frame of the model is a sample"
        place, drawn = explorer.page.evaluate("""() => {
            const thumbnail = document.querySelector(".thumbnail[data-row='0']");
            const hand = thumbnail.querySelector("rect.hand");
            const [all, box] = [thumbnail, hand].map((element) => element.getBoundingClientRect());
            return [[all.x, all.y, all.width, all.height], [box.x, box.y, box.width, box.height]];
        }""")
        scale = min(place[2] / row["width"], place[3] / row["height"])
        left = place[0] + (place[2] - scale * row["width"]) / 2
        top = place[1] + (place[3] - scale * row["height"]) / 2
        x1, y1, x2, y2 = next(box["corners"] for box in row["boxes"] if box["kind"] == "hand")
        expected = [left + scale * x1, top + scale * y1, scale * (x2 - x1), scale * (y2 - y1)]
        assert drawn == pytest.approx(expected, abs=0.6)


def test_fault_stands_in_for_a_picture(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(
            ".chip",
        ).filter(has_text="missing").click()
        explorer.page.wait_for_selector(".thumbnail .fault:visible")
        assert "the source does not have the frame" in explorer.find(".thumbnail .fault:visible").first.inner_text()
        assert explorer.find(".grid img:visible").count() == 0


# -- the virtual grid


@pytest.mark.parametrize("width", [360, 1440])
def test_last_rows_of_many_are_reached(pages: Pages, width: int) -> None:
    with start(pages, width, frames=MANY) as explorer:
        explorer.page.evaluate(SCROLL_TO, 1)
        explorer.wait_for(f'() => document.querySelector(\'.thumbnail[data-row="{MANY - 1}"] img[src^="blob:"]\')')
        explorer.wait_for(LOADED)
        assert explorer.find(f".thumbnail[data-row='{MANY - 1}']").is_visible()
        assert explorer.find(".cell").count() < 300
        asked = [message["to"] - message["from"] for message in explorer.list_sent("rows")]
        assert max(asked) <= 400
        assert sum(asked) < 3000, "only what is in view is fetched"
        explorer.page.evaluate(SCROLL_TO, 0.5)
        explorer.wait_for(f"() => ({SHOWN})().some((row) => Math.abs(row - {MANY / 2}) < {0.02 * MANY})")
        assert explorer.find(".cell").count() < 300


def test_wheel_moves_as_far_as_elsewhere_in_a_million_frames(pages: Pages) -> None:
    with start(pages, 360, frames=1_000_000) as explorer:
        grid = "document.querySelector('.grid')"
        assert explorer.page.evaluate(f"{grid}.scrollHeight") <= 10_000_000
        explorer.page.evaluate(SCROLL_TO, 0.5)
        explorer.wait_for(LOADED)
        explorer.page.wait_for_timeout(300)
        before = explorer.page.evaluate(FIRST_LINE)
        explorer.page.evaluate(f"{grid}.scrollTop += 100")
        explorer.page.wait_for_timeout(400)
        assert before - explorer.page.evaluate(FIRST_LINE) == pytest.approx(100, abs=3)
        explorer.page.evaluate(SCROLL_TO, 1)
        explorer.wait_for("() => document.querySelector('.thumbnail[data-row=\"999999\"]')")


def test_pictures_in_view_are_wished_first(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.page.evaluate("() => model.held.add('pictures')")
        explorer.page.evaluate("document.querySelector('.grid').scrollTop = 4000")
        explorer.wait_for(LOADED)
        explorer.page.wait_for_timeout(200)
        wanted = explorer.get_last("pictures")["wanted"]
        seen = explorer.page.evaluate("""() => {
            const view = document.querySelector(".grid").getBoundingClientRect();
            const cells = [...document.querySelectorAll(".cell")].filter((cell) => {
                const { top, bottom } = cell.getBoundingClientRect();
                return bottom > view.top && top < view.bottom;
            });
            return cells.map((cell) => Number(cell.firstChild.dataset.row));
        }""")
        rows = [wish["row"] for wish in wanted]
        assert sorted(rows[: len(seen)]) == sorted(seen)
        assert max(rows) > max(seen), "one screen ahead"
        assert len(rows) <= 200
        assert {wish["side"] for wish in wanted} == {256}


def test_old_pictures_are_dropped(pages: Pages) -> None:
    with start(pages, 1440, plain=True) as explorer:
        for step in range(1, 25):
            explorer.page.evaluate(f"document.querySelector('.grid').scrollTop = {step * 900}")
            explorer.wait_for(f"() => model.drawn > {min(35 * step, 700)}")
        assert explorer.page.evaluate("model.drawn") > 600
        assert explorer.page.evaluate("blobs.size") <= 600
        explorer.page.evaluate("document.querySelector('.grid').scrollTop = 0")
        explorer.wait_for('() => document.querySelector(\'.thumbnail[data-row="0"] img[src^="blob:"]\')')
        assert explorer.page.evaluate("blobs.size") <= 600


# -- filters


def test_filters_send_what_was_agreed(pages: Pages) -> None:
    with start(pages, doubtReady=True) as explorer:
        explorer.find(".menu summary").click()
        explorer.find(".menu label").filter(has_text="fist").click()
        explorer.find(".menu label").filter(has_text="palm").click()
        explorer.press("Escape")
        assert explorer.find(".menu[open]").count() == 0
        explorer.find(".line-of-chips .chip").filter(has_text="apart").click()
        explorer.label("Group").select_option("clip_0002")
        explorer.label("Detector").select_option("yolo")
        explorer.label("Decisions").select_option("by ben")
        explorer.label("Text").fill("ist")
        explorer.label("doubt, at most").fill("0.5")
        explorer.label("Sort by").select_option("doubt")
        explorer.wait_for("() => model.list('select').at(-1).sort === 'doubt'")
        last = explorer.get_last()
        assert last["filter"] == {
            "classes": ["fist", "palm"],
            "outcomes": ["apart"],
            "changes": [],
            "group": "clip_0002",
            "detector": "yolo",
            "text": "ist",
            "decided": "yes",
            "decided_by": "ben",
            "doubt": [0, 0.5],
        }
        assert (last["sort"], last["descending"], last["settings"]) == ("doubt", True, None)
        explorer.find(".direction").click()
        explorer.button("Clear").click()
        explorer.wait_for_total("5,000 frames")
        last = explorer.get_last()
        assert (last["sort"], last["descending"]) == ("doubt", False)
        assert not any(value for key, value in last["filter"].items() if key != "decided")
        assert last["filter"]["decided"] == "any"


def test_number_found_is_announced(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.label("Group").select_option("clip_0001")
        explorer.wait_for_total("60 frames")
        assert explorer.list_shown()[0] == 60
        explorer.label("Text").fill("nothing has this")
        explorer.wait_for_total("0 frames")
        assert explorer.page.get_by_text("No frame fits these filters.").is_visible()
        assert explorer.find(".found [role=status]").count() == 1


def test_groups_are_typed_where_they_are_too_many(pages: Pages) -> None:
    with start(pages, groups=False) as explorer:
        explorer.label("Group").fill("clip_0003")
        explorer.wait_for_total("60 frames")
        assert explorer.get_last()["filter"]["group"] == "clip_0003"


def test_doubt_comes_later(pages: Pages) -> None:
    with start(pages) as explorer:
        doubt = "option[value=doubt]"
        assert explorer.label("doubt, at least").is_disabled()
        assert explorer.find(doubt).is_disabled()
        explorer.page.evaluate("() => model.tell({ kind: 'facts', facts: { doubt_ready: true } })")
        assert explorer.label("doubt, at least").is_enabled()
        assert explorer.find(doubt).is_enabled()


def test_fault_of_a_request_is_said(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.label("Text").fill("fault")
        alert = explorer.page.get_by_role("alert")
        alert.wait_for()
        assert "This text is a fault; nothing was changed." in alert.inner_text()
        explorer.label("Dismiss").click()
        assert not alert.is_visible()
        explorer.label("Text").fill("clip_0001")
        explorer.wait_for_total("60 frames")


# -- sliders of pairing


def test_drag_has_one_request_in_flight_and_its_last_value_wins(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        before = len(explorer.list_sent("select"))
        explorer.page.evaluate("() => model.held.add('select')")
        slider = explorer.label("crop_coefficient")
        box = slider.bounding_box()
        explorer.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
        explorer.page.mouse.down()
        for step in range(20):
            explorer.page.mouse.move(box["x"] + (0.3 + 0.02 * step) * box["width"], box["y"] + box["height"] / 2)
        explorer.page.mouse.up()
        value = float(slider.input_value())
        assert len(explorer.list_sent("select")) == before + 1, "one is in flight"
        assert explorer.page.evaluate("model.release('select')")
        explorer.wait_for(f"() => model.list('select').length > {before + 1}")
        sent = explorer.list_sent("select")
        assert len(sent) == before + 2, "and of all others only the newest"
        assert sent[-1]["settings"]["crop_coefficient"] == value
        assert sent[-2]["settings"]["crop_coefficient"] < value
        assert sorted(sent[-1]["settings"]) == sorted(
            explorer.page.evaluate("Object.keys(model.answer({ kind: 'open' }).facts.settings)")
        )
        assert explorer.page.evaluate("model.release('select')")
        explorer.page.wait_for_timeout(50)
        assert len(explorer.list_sent("select")) == before + 2, "nothing differs any more"
        assert explorer.find(".title b").first.inner_text() == explorer.find(".effect b").first.inner_text().split()[0]


def test_rows_of_each_selection_are_asked_for_before_the_next_one(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        explorer.page.evaluate("() => { model.held.add('select'); model.sent.length = 0; }")
        for value in ("2", "3"):
            explorer.label("crop_coefficient").fill(value)
        explorer.page.evaluate("model.release('select')")
        explorer.wait_for("() => model.list('select').length === 2")
        kinds = [kind for kind in explorer.page.evaluate("model.sent.map(({ kind }) => kind)") if kind != "pictures"]
        assert kinds[:3] == ["select", "rows", "select"], "so the grid follows while a slider is dragged"


def test_changes_are_counted_marked_and_filtered(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        assert explorer.find(".effect .chip.gained").is_disabled()
        explorer.label("crop_coefficient, as a number").fill("2.5")
        explorer.wait_for("() => document.querySelector('.badge.gained:not([hidden])')")
        gained = int(explorer.find(".effect .chip.gained b").inner_text().replace(",", ""))
        assert gained > 100
        explorer.find(".effect .chip.gained").click()
        explorer.wait_for_total(f"{gained:,} frames")
        assert (
            explorer.find(".cell:not([hidden]) .badge.gained:visible").count()
            == explorer.find(".cell:not([hidden])").count()
        )
        assert explorer.get_last()["filter"]["changes"] == ["gained"]
        explorer.button("Back to saved").click()
        explorer.wait_for_total("5,000 frames")
        assert explorer.get_last()["settings"] is None
        assert explorer.get_last()["filter"]["changes"] == []
        assert explorer.label("crop_coefficient").input_value() == "1.5"


def test_left_end_of_a_score_is_off(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        explorer.label("min_hand_score").fill("0.4")
        explorer.wait_for_setting("min_hand_score", 0.4)
        explorer.label("crop_coefficient").fill("2")
        explorer.label("min_hand_score").fill("0")
        explorer.wait_for_setting("min_hand_score", None)
        assert explorer.label("min_hand_score").get_attribute("aria-valuetext") == "off"
        assert explorer.label("min_hand_score, as a number").input_value() == ""


def test_wider_square_needs_a_fallback(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        assert explorer.label("wider_coefficient").is_disabled()
        explorer.label("fallback").select_option("wider")
        assert explorer.label("wider_coefficient").is_enabled()
        explorer.wait_for_setting("fallback", "wider")


def test_apply_asks_first(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        explorer.label("crop_coefficient").fill("2.1")
        explorer.button("Apply…").click()
        assert explorer.find(".confirmation").is_visible()
        assert "This writes hands.json with crop_coefficient = 2.1." in explorer.find(".confirmation").inner_text()
        explorer.press("Enter")  # a key that is still held down: it is on Cancel
        assert explorer.list_sent("apply") == []
        explorer.button("Apply…").click()
        explorer.press("Escape")
        assert not explorer.find(".confirmation").is_visible()
        assert explorer.list_sent("apply") == []
        explorer.button("Apply…").click()
        explorer.button("Apply").click()
        explorer.page.get_by_text("hands.json has").wait_for()
        assert [message["settings"]["crop_coefficient"] for message in explorer.list_sent("apply")] == [2.1]
        explorer.wait_for("() => model.list('select').at(-1).settings === null")
        assert explorer.find(".slider .saved").first.inner_text() == "saved 2.1"
        assert explorer.button("Apply…").is_disabled()


def test_decisions_alone_can_be_applied(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        assert explorer.button("Apply…").is_disabled()
        news = {"needs_pairing": True, "state": "Decisions are newer than hands.json."}
        explorer.page.evaluate("facts => model.tell({ kind: 'facts', facts })", news)
        assert explorer.page.get_by_text("Decisions are newer than hands.json.").is_visible()
        explorer.button("Apply…").click()
        assert explorer.page.get_by_text("This writes hands.json with what people decided since.").is_visible()
        explorer.page.get_by_role("button", name="Apply", exact=True).click()
        explorer.page.get_by_text("hands.json has").wait_for()


# -- keyboard, and the large view


def test_keys_move_the_focus_and_never_reach_the_notebook(pages: Pages) -> None:
    with start(pages) as explorer:
        columns = explorer.find(".line").first.locator(".cell").count()
        explorer.find(".cell").first.focus()
        for key, index in [
            ("ArrowRight", 1),
            ("ArrowDown", 1 + columns),
            ("ArrowLeft", columns),
            ("ArrowUp", 0),
            ("ArrowUp", 0),
            ("End", 4999),
            ("ArrowRight", 4999),
            ("Home", 0),
        ]:
            explorer.press(key)
            assert explorer.get_focus() == str(index), key
        explorer.press("PageDown")
        assert int(explorer.get_focus()) >= columns
        explorer.press("PageUp")
        assert explorer.get_focus() == "0"
        assert explorer.find(".cell[tabindex='0']").count() == 1
        explorer.press("a", "b", "x", "Delete", "Backspace", "Shift+Enter", "Escape")
        explorer.label("Text").focus()
        explorer.page.keyboard.type("dd")
        explorer.press("Escape", "Enter")
        assert explorer.page.evaluate("keys") == []
        explorer.press("Tab", "Control+s")
        assert explorer.page.evaluate("keys") == ["Tab", "Control", "s"]
        assert explorer.page.evaluate("document.querySelector('.detectime').dataset.lmSuppressShortcuts") == "true"


def test_focus_in_the_end_survives_a_scroll(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".cell").nth(2).focus()
        explorer.page.evaluate(SCROLL_TO, 1)
        explorer.wait_for("() => document.querySelector('.thumbnail[data-row=\"4999\"]')")
        assert explorer.get_focus() == "2"
        explorer.press("ArrowRight")
        assert explorer.get_focus() == "3"
        assert explorer.page.evaluate("document.querySelector('.grid').scrollTop") < 300


def test_enter_opens_a_frame_and_escape_returns_to_its_cell(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".cell").first.focus()
        explorer.press("End", "ArrowLeft", "ArrowLeft", "Enter")
        large = explorer.find(".large")
        large.wait_for()
        assert explorer.find(".position").inner_text() == "4,998 of 5,000"
        explorer.page.wait_for_selector(".strip [role=option]")
        assert explorer.get_last("frame")["row"] == 4997
        assert explorer.find(".lines li").count() == 3
        assert sorted(explorer.find(".legend li").all_inner_texts()) == sorted(
            {"face", "context square", "other detections", *explorer.find(".legend li").all_inner_texts()}
        )
        wishes = [wish for message in explorer.list_sent("pictures") for wish in message["wanted"]]
        assert {"row": 4997, "side": 1280} in wishes
        explorer.wait_for("() => document.querySelector('.stage img').naturalWidth > 256")
        explorer.press("ArrowRight", "ArrowRight", "ArrowRight")
        explorer.wait_for("() => document.querySelector('.position').textContent === '5,000 of 5,000'")
        explorer.press("ArrowLeft")
        explorer.wait_for("() => document.querySelector('.position').textContent === '4,999 of 5,000'")
        explorer.press("Escape")
        assert not large.is_visible()
        assert explorer.get_focus() == "4998"
        assert explorer.find(".cell:focus").is_visible()
        assert explorer.page.evaluate("keys") == []


def test_strip_goes_along_the_group(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".cell").nth(3).click()
        explorer.page.wait_for_selector(".strip [role=option]")
        current = explorer.find(".strip [aria-selected=true]")
        assert current.count() == 1
        current.focus()
        explorer.press("ArrowRight", "ArrowRight")
        explorer.wait_for("() => document.querySelector('.path').textContent === 'clip_0000/00005.jpg'")
        explorer.page.wait_for_timeout(100)
        assert explorer.page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
        assert explorer.get_last("frame")["row"] == 5
        explorer.find(".strip [role=option]").nth(1).click()
        explorer.wait_for("() => document.querySelector('.path').textContent === 'clip_0000/00001.jpg'")
        explorer.press("Escape")
        assert explorer.get_focus() == "3", "the place in the selection stayed"


def test_large_frame_follows_a_slider(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.find(".pairing > summary").click()
        explorer.find(".cell").nth(1).click()
        explorer.page.wait_for_selector(".strip [role=option]")
        asked = len(explorer.list_sent("frame"))
        explorer.label("crop_coefficient").fill("4.9")
        explorer.wait_for(f"() => model.list('frame').length > {asked}")
        assert explorer.get_last("frame")["row"] == 1
        assert explorer.find(".large").is_visible()


# -- what may come


@pytest.mark.parametrize("width", [360, 1440])
def test_hostile_names_do_no_harm(pages: Pages, width: int) -> None:
    with start(pages, width, hostile=True, doubtReady=True) as explorer:

        def check(where: str) -> None:
            assert explorer.page.evaluate("window.wasRun ?? false") is False, where
            assert explorer.page.evaluate("document.documentElement.scrollWidth") <= width, where
            assert explorer.find("script").count() == 0, where
            assert explorer.list_faults() == [], where

        check("grid")
        explorer.find(".menu summary").click()
        explorer.find(".menu label").first.click()
        explorer.wait_for(LOADED)
        check("filters")
        explorer.press("Escape")
        explorer.find(".pairing > summary").click()
        explorer.label("crop_coefficient").fill("2.1")
        explorer.button("Apply…").click()
        check("pairing")
        explorer.find(".cell").first.click()
        explorer.page.wait_for_selector(".strip [role=option]")
        check("large")
        assert "<script>" in explorer.find(".large").inner_text(), "it is shown as the text it is"


@pytest.mark.parametrize("width", [360, 1440])
def test_pages_are_sound(pages: Pages, width: int) -> None:
    with start(pages, width, doubtReady=True) as explorer:
        faults = {}

        def check(where: str, *parts: str) -> None:
            for theme in ("light", "dark"):
                explorer.opened.show(width, theme)
                explorer.page.wait_for_timeout(100)
                found = find_axe_faults(explorer.opened) if theme == "light" else []  # which sees no colors
                for part in parts:
                    explorer.page.evaluate(
                        "part => document.querySelector(part).scrollIntoView({ block: 'center' })", part
                    )
                    found += find_pale_texts_in_view(explorer.opened, part)
                if found:
                    faults[f"{where}, {theme}"] = found

        check("grid", ".top", ".filters", ".grid")
        explorer.find(".pairing > summary").click()
        explorer.label("crop_coefficient").fill("2.1")
        explorer.wait_for("() => document.querySelector('.badge.gained:not([hidden])')")
        check("pairing", ".controls", ".effect", ".grid")
        explorer.find(".cell").first.click()
        explorer.page.wait_for_selector(".strip [role=option]")
        check("large", ".about")
        assert faults == {}
        assert explorer.list_faults() == []


def test_still_stays_without_an_answer(pages: Pages) -> None:
    with start(pages, wait=False, clock=True, mute=True) as explorer:
        still = explorer.find(".detectime-still")
        assert still.is_visible()
        assert "The frames of this run." in still.inner_text()
        assert not explorer.page.get_by_text("The same picture").is_visible(), (
            "the figure of the cell is not shown twice"
        )
        assert explorer.page.get_by_role("alert").count() == 0
        explorer.page.clock.run_for(5100)
        assert "The kernel does not answer." in explorer.page.get_by_role("alert").inner_text()
        assert still.is_visible()
        assert len(explorer.page.evaluate("model.sent")) == 1, "and it is not asked again"


def test_banner_comes_and_goes(pages: Pages) -> None:
    with start(pages, clock=True) as explorer:
        explorer.page.evaluate("() => model.held.add('select')")
        explorer.page.clock.pause_at(explorer.page.evaluate("Date.now() + 1000"))
        explorer.label("Group").select_option("clip_0001")
        explorer.page.clock.run_for(4900)
        assert explorer.page.get_by_role("alert").count() == 0
        explorer.page.clock.run_for(200)
        assert "The kernel does not answer." in explorer.page.get_by_role("alert").inner_text()
        explorer.page.clock.resume()
        explorer.page.evaluate("() => model.release('select')")
        explorer.wait_for_total("60 frames")
        assert explorer.page.get_by_role("alert").count() == 0


def test_nothing_is_left_behind(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.wait_for("() => blobs.size > 5")
        assert explorer.page.evaluate("model.listen()") == 1
        explorer.page.evaluate("stop()")
        explorer.wait_for("() => blobs.size === 0")
        assert explorer.page.evaluate("model.listen()") == 0
        assert explorer.find("").count() == 0
        assert not explorer.page.get_by_text("The same picture").is_visible()
        assert explorer.list_faults() == []


def test_two_views_of_one_widget_both_work(pages: Pages) -> None:
    with start(pages) as explorer:
        explorer.page.evaluate("""() => {
            const place = document.createElement("div");
            place.id = "second";
            document.querySelector("main").append(place);
            window.module.default.render({ model, el: place });
        }""")
        explorer.page.wait_for_selector("#second .cell img[src^='blob:']")
        first, second = (message["id"] for message in explorer.list_sent("open"))
        assert first != second, "each hears the replies to the other"
        for view, row in (
            ("#cell", 300),
            ("#second", 1500),
            ("#cell", 4000),
        ):  # each replaces the selection of the other
            explorer.page.evaluate(f"""() => {{
                const grid = document.querySelector("{view} .grid");
                grid.scrollTop = {row / 5000} * grid.scrollHeight;
            }}""")
            explorer.page.wait_for_selector(f"{view} .thumbnail[data-row='{row}'] img[src^='blob:']")
