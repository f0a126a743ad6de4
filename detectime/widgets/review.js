// The review: one frame after another, one key per decision.
//
// The kernel answers with messages (see review.py). What matters here: a decision is taken only of a picture that was
// on screen when the key was pressed; the next frame shows only when the decision is on disk; pictures are decoded
// before they are needed. Parts: geometry, elements, the link to the kernel, the frames fetched ahead, the stage, the review.

const AHEAD = 5; // frames whose facts and pictures are fetched before they are needed
const BEHIND = 5; // frames that are kept after they were shown
const SIDE = 1280; // px, the longer side of a picture
const PATIENCE = 5000; // ms without a reply after which a banner says so
const SLOW = 1000; // ms of loading after which a frame may be skipped unseen
const BRIEF = 150; // ms of saving and loading that the bar does not mention
const HANDS = "abcdef"; // the keys of other hands
const LEAST = 2; // px of the frame, the least side of a box
const MARGIN = 2.2; // how much larger than the box a view zoomed to it is
const CLOSEST = 1 / 24; // of the frame's sides: the smallest view

// -- geometry: boxes are [x1, y1, x2, y2] in pixels of the frame, views [x, y, width, height]

const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
const roundBox = (box) => box && box.map((value) => Math.round(value * 10) / 10);
const isSame = (one, other) => one === other ||
  Boolean(one && other) && one.every((value, side) => Math.abs(value - other[side]) < 0.05);

/** The box with sides in order, inside the frame and not too small. */
function tidyBox([x1, y1, x2, y2], { width, height }) {
  const order = (one, other, most) => {
    const low = clamp(Math.min(one, other), 0, Math.max(0, most - LEAST));
    return [low, clamp(Math.max(one, other), low + LEAST, Math.max(most, LEAST))];
  };
  const [left, right] = order(x1, x2, width), [top, bottom] = order(y1, y2, height);
  return [left, top, right, bottom];
}

/** The box moved as a whole, up to the border of the frame. */
function moveBox([x1, y1, x2, y2], dx, dy, { width, height }) {
  const left = clamp(x1 + dx, 0, Math.max(0, width - (x2 - x1)));
  const top = clamp(y1 + dy, 0, Math.max(0, height - (y2 - y1)));
  return tidyBox([left, top, left + x2 - x1, top + y2 - y1], { width, height });
}

/** The view of a share of the frame, around a point as far as the border allows. */
function makeView(share, [x, y], { width, height }) {
  const wide = width * share, high = height * share;
  return [clamp(x - wide / 2, 0, width - wide), clamp(y - high / 2, 0, height - high), wide, high];
}

const findMiddle = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];

// -- elements

/** An element with attributes; `text` and children are texts or nodes, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function makeRect(kind, [x1, y1, x2, y2]) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const values = { class: kind, x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
  for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value);
  return rect;
}

/** A name out of the data: control characters are shown as signs, its direction stays its own. */
const clean = (text) =>
  String(text ?? "").replace(/[\0-\x1f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0)));
const makeName = (text) => make("bdi", { text: clean(text) });

/** Resolves when what is in the document now has been painted (never in a window that is not seen). */
const waitForPaint = () => new Promise((done) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel(); // runs after the paint that follows; a timer would wait 4 ms
  port1.onmessage = () => done();
  port2.postMessage(null);
}));

/** The name of a key; its place on the keyboard where the layout has no Latin letters or has digits under Shift. */
function readKey({ key, code, shiftKey }) {
  if (key.length > 1 || /^[a-z0-9?+=\- ]$/i.test(key)) return key.length > 1 ? key : key.toLowerCase();
  const [, kind, sign] = /^(Key|Digit)(\w)$/.exec(code) ?? [];
  return kind === "Key" || kind === "Digit" && !shiftKey ? sign.toLowerCase() : key;
}

// -- the link to the kernel

/** Requests with their replies. `onLate` gets the kinds of those that have waited too long whenever these change. */
function connect(model, { onPicture, onNews, onLate }) {
  let id = Math.floor(Math.random() * 1e9); // several views of one widget hear each other's replies
  const waiting = new Map();
  const tellLate = () => onLate([...waiting.values()].filter(({ isLate }) => isLate).map(({ kind }) => kind));

  function send(content) {
    try { model.send(content); } catch { return false; } // the kernel is gone, and its channel with it
    return true;
  }

  function ask(content) {
    return new Promise((resolve, reject) => {
      const number = ++id;
      const request = { kind: content.kind, resolve, reject, isLate: false };
      const setLate = () => { request.isLate = true; tellLate(); };
      waiting.set(number, request);
      if (send({ ...content, id: number })) request.timer = setTimeout(setLate, PATIENCE);
      else setLate();
    });
  }

  function receive(message, buffers) {
    if (message.kind === "picture") return onPicture(message, buffers);
    if (message.kind === "news") return onNews(message.text);
    const request = waiting.get(message.id);
    if (!request) return undefined;
    waiting.delete(message.id);
    clearTimeout(request.timer);
    if (request.isLate) tellLate();
    return message.kind === "fault" ? request.reject(message) : request.resolve(message);
  }

  function close() {
    model.off("msg:custom", receive);
    for (const request of waiting.values()) clearTimeout(request.timer);
    waiting.clear();
  }

  model.on("msg:custom", receive);
  return { ask, send, close };
}

// -- the frames fetched ahead

/** Items by their position in the queue, pictures by their row in the table; those around one position are kept. */
function createCache(kernel) {
  const items = new Map(); // position: {promise, item, isStale}
  const pictures = new Map(); // row: {promise, resolve, url, isThere}
  let center = 0, total = 0, asked = new Set();

  function getItem(at) {
    const known = items.get(at);
    if (known && !(known.isStale && at === center)) return known.promise;
    const entry = { item: known?.item ?? null, isStale: false };
    entry.promise = kernel.ask({ kind: "item", at }).then((reply) => {
      entry.item = reply.item;
      wish();
      return reply.item;
    });
    entry.promise.catch(() => items.delete(at)); // asked again when it is to be shown
    items.set(at, entry);
    return entry.promise;
  }

  function getPicture(row) {
    if (!pictures.has(row)) {
      const entry = { isThere: false };
      entry.promise = new Promise((resolve) => { entry.resolve = resolve; });
      pictures.set(row, entry);
    }
    return pictures.get(row).promise;
  }

  /** Ask for the pictures that are missing, the most urgent first, if one of them has not been asked for. */
  function wish() {
    const rows = [];
    for (let at = center; at <= center + AHEAD; at++) {
      const row = items.get(at)?.item?.row;
      if (row !== undefined && !pictures.get(row)?.isThere && !rows.includes(row)) rows.push(row);
    }
    rows.forEach(getPicture);
    if (rows.every((row) => asked.has(row))) return;
    asked = new Set(rows);
    kernel.send({ kind: "pictures", wanted: rows.map((row) => ({ row, side: SIDE })) });
  }

  async function receivePicture({ row, side, fault }, buffers) {
    if (side !== SIDE) return;
    asked.delete(row);
    const entry = pictures.get(row);
    if (!entry || entry.isThere) return;
    entry.isThere = true;
    if (fault) return void entry.resolve({ fault });
    entry.url = URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" }));
    const image = make("img", { draggable: "false", decoding: "sync" });
    image.src = entry.url;
    try { await image.decode(); } catch { return void entry.resolve({ fault: "The picture cannot be shown." }); }
    entry.resolve({ image });
  }

  function drop(row) {
    if (pictures.get(row).url) URL.revokeObjectURL(pictures.get(row).url);
    pictures.delete(row);
  }

  /** Fetch what is around a position, drop what is far from it. */
  function aim(at, length) {
    [center, total] = [at, length];
    for (const other of items.keys()) if (other < at - BEHIND || other > at + AHEAD) items.delete(other);
    const rows = new Set([...items.values()].map(({ item }) => item?.row));
    for (const row of pictures.keys()) if (!rows.has(row)) drop(row);
    for (let next = at; next <= Math.min(at + AHEAD, total - 1); next++) getItem(next).catch(() => {});
    wish();
  }

  const markStale = (at) => { if (items.has(at)) items.get(at).isStale = true; };
  const markAllStale = () => { for (const entry of items.values()) entry.isStale = true; };
  const clear = () => { for (const row of [...pictures.keys()]) drop(row); };
  return { aim, getItem, getPicture, receivePicture, markStale, markAllStale, clear };
}

// -- the stage: the picture, its boxes, and the pointer

/** `onEdit` is called when the box changes, `onHand` with the key of a hand that is clicked, `onFocus` on a press. */
function createStage({ onEdit, onHand, onFocus }) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "boxes");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const marks = make("div", { class: "marks" });
  const picture = make("div", { class: "picture" });
  const view = make("div", { class: "view" }, picture, svg, marks);
  const message = make("div", { class: "message", hidden: true });
  const element = make("div", { class: "stage" }, view, message);
  let item = null, image = null, box = null, seen = null, drag = null, isOpen = false, tallest = 0;

  const getScale = () => svg.getScreenCTM()?.a || 1; // px of the screen per px of the frame
  const getShare = () => seen[2] / item.width;

  function present(newItem, newImage, newBox) {
    [item, image, box, drag] = [newItem, newImage, newBox, null];
    picture.replaceChildren(...(image ? [image] : []));
    if (image) image.alt = clean(item.frame_path);
    view.hidden = !image;
    if (!image) return;
    view.style.setProperty("--wide", item.width);
    view.style.setProperty("--high", item.height);
    tallest = Math.max(tallest, item.height / item.width); // the stage never shrinks: buttons below stay where they are
    element.style.setProperty("--tallest", tallest);
    setView(makeView(1, [0, 0], item));
  }

  function say(...texts) {
    message.replaceChildren(...texts);
    message.hidden = !texts.length;
  }

  function setView(values) {
    seen = values;
    const [x, y, wide, high] = seen, percent = (value) => `${value * 100}%`;
    svg.setAttribute("viewBox", seen.join(" "));
    const place = { left: -x / wide, top: -y / high, width: item.width / wide, height: item.height / high };
    for (const [side, value] of Object.entries(place)) picture.style[side] = percent(value);
    element.classList.toggle("zoomed", getShare() < 0.999);
    draw();
  }

  function draw() {
    const rects = [...item.faces.map((corners) => makeRect("face thin", corners))];
    const add = (kind, corners) => rects.push(makeRect("halo", corners), makeRect(kind, corners));
    if (item.crop && isSame(box, item.box)) add("bbox", item.crop);
    for (const hand of item.hands) add("other", hand.corners);
    if (item.suggested) add("suggested", item.suggested);
    if (item.box && !isSame(box, item.box)) rects.push(makeRect("before", item.box));
    if (box) add("hand", box);
    svg.replaceChildren(...rects);
    marks.replaceChildren(
      ...item.hands.map(({ key, corners }) => makeBadge(key, [corners[0], corners[1]], "left")),
      ...(item.suggested ? [makeBadge("i", [item.suggested[2], item.suggested[1]], "right")] : []),
      ...(box ? makeHandles() : []));
  }

  const place = (mark, [x, y]) => {
    mark.style.left = `${(x - seen[0]) / seen[2] * 100}%`;
    mark.style.top = `${(y - seen[1]) / seen[3] * 100}%`;
    return mark;
  };

  /** The letter of another hand, which can be clicked; above its box, or in it at the upper border. */
  function makeBadge(key, corner, side) {
    const isAbove = (corner[1] - seen[1]) * getScale() > 22;
    const badge = make("button", { type: "button", class: `badge ${key === "i" ? "suggested" : "other"} ${side}`,
      tabindex: -1, "aria-hidden": "true", "data-hand": key, text: key });
    badge.classList.toggle("above", isAbove);
    return place(badge, corner);
  }

  function makeHandles() {
    const [x1, y1, x2, y2] = box, [x, y] = findMiddle(box), scale = getScale();
    const corners = [[x1, y1], [x2, y1], [x1, y2], [x2, y2]];
    if ((x2 - x1) * scale > 50) corners.push([x, y1], [x, y2]);
    if ((y2 - y1) * scale > 50) corners.push([x1, y], [x2, y]);
    return corners.map((corner) => place(make("span", { class: "handle" }), corner));
  }

  function setBox(newBox) {
    box = newBox;
    const isOutside = box && getShare() < 0.999 &&
      (box[0] < seen[0] || box[1] < seen[1] || box[2] > seen[0] + seen[2] || box[3] > seen[1] + seen[3]);
    if (isOutside && !drag) setView(makeView(getShare(), findMiddle(box), item));
    else draw();
    onEdit();
  }

  /** Move the box, or with `isSize` its right and lower edge, by pixels of the screen. */
  function nudge(dx, dy, isSize) {
    const x = dx / getScale(), y = dy / getScale(), [x1, y1, x2, y2] = box;
    const sized = [x1, y1, Math.max(x2 + x, x1 + LEAST), Math.max(y2 + y, y1 + LEAST)];
    setBox(isSize ? tidyBox(sized, item) : moveBox(box, x, y, item));
  }

  /** A new box in the middle of what is seen. */
  function addBox() {
    const x = seen[0] + seen[2] / 2, y = seen[1] + seen[3] / 2, half = 0.15 * Math.min(seen[2], seen[3]);
    setBox(tidyBox([x - half, y - half, x + half, y + half], item));
  }

  function toggleZoom() {
    if (getShare() < 0.999) return setView(makeView(1, [0, 0], item));
    if (!box) return setView(makeView(0.5, [item.width / 2, item.height / 2], item));
    const share = MARGIN * Math.max((box[2] - box[0]) / item.width, (box[3] - box[1]) / item.height);
    return setView(makeView(clamp(share, CLOSEST, 1), findMiddle(box), item));
  }

  /** Zoom by a factor; the point keeps its place on screen. */
  function zoomBy(factor, point = box ? findMiddle(box) : [seen[0] + seen[2] / 2, seen[1] + seen[3] / 2]) {
    const share = clamp(getShare() / factor, CLOSEST, 1), ratio = share / getShare();
    const [x, y, wide, high] = seen;
    const middle = [point[0] + (x + wide / 2 - point[0]) * ratio, point[1] + (y + high / 2 - point[1]) * ratio];
    setView(makeView(share, middle, item));
  }

  function locate({ clientX, clientY }) {
    const point = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  /** The numbers of the sides of the box that follow a press at a point: all of them inside the box, none elsewhere. */
  function findGrip([x, y], pointerType) {
    if (!box) return [];
    const reach = (pointerType === "touch" ? 16 : 7) / getScale();
    const [x1, y1, x2, y2] = box;
    if (x < x1 - reach || x > x2 + reach || y < y1 - reach || y > y2 + reach) return [];
    const pick = (value, low, high, numbers) => {
      const inner = Math.min(reach, (high - low) / 4); // the middle of a small box still moves it
      if (value < low + inner) return [numbers[0]];
      return value > high - inner ? [numbers[1]] : [];
    };
    const sides = [...pick(x, x1, x2, [0, 2]), ...pick(y, y1, y2, [1, 3])];
    return sides.length ? sides : [0, 1, 2, 3];
  }

  const CURSORS = { "": "crosshair", "0,1,2,3": "move", 0: "ew-resize", 2: "ew-resize", 1: "ns-resize", 3: "ns-resize",
    "0,1": "nwse-resize", "2,3": "nwse-resize", "2,1": "nesw-resize", "0,3": "nesw-resize" };

  function reshape({ grip, point, before }, [x, y]) {
    if (grip.length === 4) return moveBox(before, x - point[0], y - point[1], item);
    if (!grip.length) return tidyBox([...point, x, y], item);
    const changed = [...before];
    for (const side of grip) changed[side] += side % 2 ? y - point[1] : x - point[0];
    return tidyBox(changed, item);
  }

  view.addEventListener("pointerdown", (event) => {
    onFocus();
    if (event.button !== 0 || drag || !isOpen || event.target.closest(".badge")) return;
    event.preventDefault(); // else the browser gives the focus to the page
    const point = locate(event), grip = findGrip(point, event.pointerType);
    drag = { id: event.pointerId, point, grip, before: box, start: [event.clientX, event.clientY], isMoved: false };
    view.setPointerCapture(event.pointerId);
  });
  view.addEventListener("pointermove", (event) => {
    if (!item || !seen || !image) return;
    if (!drag) {
      view.style.cursor = isOpen ? CURSORS[findGrip(locate(event), event.pointerType)] : "default";
    } else if (event.pointerId === drag.id) {
      const way = Math.hypot(event.clientX - drag.start[0], event.clientY - drag.start[1]);
      drag.isMoved ||= way >= 3; // a click is not a box
      if (drag.isMoved) setBox(reshape(drag, locate(event)));
    }
  });
  const release = (event) => {
    if (event.pointerId !== drag?.id) return;
    const { isMoved, before } = drag;
    drag = null;
    if (event.type === "pointercancel" && isMoved) setBox(before);
  };
  for (const type of ["pointerup", "pointercancel"]) view.addEventListener(type, release);
  view.addEventListener("click", (event) => {
    const hand = event.target.closest(".badge")?.dataset.hand;
    if (hand) onHand(hand);
  });
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !isOpen) return; // the page scrolls
    event.preventDefault();
    zoomBy(Math.exp(-clamp(event.deltaY, -100, 100) / 250), locate(event));
  }, { passive: false });

  return {
    element, present, say, nudge, addBox, toggleZoom, zoomBy, setBox,
    /** The box as it was first shown; true if it had changed. */
    restore() {
      const isChanged = !isSame(box, item.box);
      drag = null;
      if (isChanged) setBox(item.box);
      return isChanged;
    },
    /** Decided: the box is no draft any more. */
    settle(newBox) { box = newBox; },
    open(value) { isOpen = value; if (!value) drag = null; },
    get box() { return box; },
    get image() { return image; },
  };
}

// -- the review

const PHASES = { // what the bar says, and whether the frame on screen may be judged
  opening: ["loading", false], loading: ["loading", false], ready: ["", true], faulty: ["no picture", false],
  saving: ["saving", false], writing: ["writing hands.json", false], end: ["", false],
};
const UNSAVED = { // what a request that is not answered means
  decide: "This decision is not saved yet.", undo: "The decision is not taken back yet.",
  pair: "hands.json is not written yet.", item: "The next frame is not there yet.",
};
const DONE = {
  keep: "kept", reject: "rejected", choose_hand: "other hand chosen", box: "box drawn", label: "class changed",
};
const HELP = [
  [["k", "Enter"], "keep the frame with the box and the class as shown"], [["x"], "reject it"],
  [["1", "–", "9"], "give it the class with that number"], [["a", "–", "f"], "the sample is that other hand"],
  [["i"], "take the suggested box"], [["u"], "undo the latest decision"],
  [["s", "Space"], "skip: on without a decision"], [["Shift s", "Backspace"], "back without a change"],
  [["←", "↑", "↓", "→"], "move the box (with Shift: faster)"],
  [["Alt ←", "↑", "↓", "→"], "move its right and lower edge"],
  [["n"], "a new box in the middle"], [["Esc"], "the box as it was"],
  [["z"], "zoom to the box and back"], [["+", "−"], "zoom (or Ctrl and the wheel)"],
];
const LEGEND = [["hand", "the sample's hand"], ["bbox", "the crop, where it is larger"], ["face", "faces"],
  ["other", "other hands"], ["suggested", "suggested from frames before and after"], ["before", "before your change"]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const OWN_KEYS = /^(.|Enter|Escape|Arrow\w+|Delete|Backspace|Home|End|PageUp|PageDown)$/u;

/** A part of the bar: a label and a share, drawn as a line. */
function makeMeter(label) {
  const text = make("span"), fill = make("span", { class: "fill" });
  const track = make("span", { class: "track", role: "progressbar", "aria-label": label, "aria-valuemin": 0,
    "aria-valuemax": 100 }, fill);
  const element = make("div", { class: "meter" }, text, track);
  const set = (share, words) => {
    element.hidden = share === null || share === undefined;
    if (element.hidden) return;
    text.textContent = words;
    fill.style.width = `${share * 100}%`;
    track.setAttribute("aria-valuenow", Math.round(share * 100));
  };
  return { element, set };
}

function makeStill(model) {
  const still = model.get("still"), text = model.get("still_text") ?? "";
  const image = still ? [make("img", { src: still, alt: text })] : [];
  return make("figure", { class: "detectime-still" }, ...image, make("figcaption", { text }));
}

/** The same figure may stand below the cell for viewers that know no widgets. */
function hideOutsideStills(key) {
  for (const still of document.querySelectorAll("[data-detectime-still]")) {
    if (key && still.dataset.detectimeStill === key) still.hidden = true;
  }
}

function render({ model, el }) {
  let facts = null, at = 0, item = null, phase = "opening", isSlow = false, turn = 0, slowTimer = 0;
  let progress = null, isAgain = false, latest = "", busyTimer = 0, showChoice = () => {};
  const drafts = new Map(); // boxes drawn and not decided, by position
  const skipped = new Set(); // positions passed without a decision
  const still = makeStill(model);
  const root = make("div", { class: "detectime detectime-review", "data-lm-suppress-shortcuts": "true", tabindex: 0,
    role: "group", "aria-label": "Review of frames: one key per decision, ? for help" }, still);

  const focusRoot = () => root.focus({ preventScroll: true });
  const kernel = connect(model, {
    onPicture: (message, buffers) => cache.receivePicture(message, buffers),
    onNews: (text) => { cache.markAllStale(); addBanner("news", text); },
    onLate: showLate,
  });
  const cache = createCache(kernel);
  const stage = createStage({ onEdit: showEdit, onHand: (key) => run(key), onFocus: focusRoot });

  // -- parts of the page

  const position = make("strong", { class: "position" });
  const judged = makeMeter("judged"), doubt = makeMeter("doubt left");
  const reviewer = make("span", { class: "reviewer muted" });
  const state = make("span", { class: "state" });
  const bar = make("div", { class: "bar" }, position, judged.element, doubt.element, reviewer, state);
  const banners = make("div", { class: "banners" });
  const live = make("div", { class: "unseen", "aria-live": "polite" });
  const head = make("div", { class: "head" });
  const closeUp = make("canvas", { "aria-hidden": "true" });
  const closeUpFrame = make("div", { class: "close-up" }, closeUp);
  const details = make("div", { class: "details" });
  const side = make("div", { class: "side" }, closeUpFrame, details);
  const hint = make("p", { class: "hint", "aria-hidden": "true", text: "Click the picture, then use the keys" });
  stage.element.append(hint);
  const help = makeHelp();
  const actions = make("div", { class: "actions" });
  const buttons = new Map(); // by key

  function makeButton(key, label, command = () => run(key), kind = "") {
    const button = make("button", { type: "button", class: kind, "aria-keyshortcuts": key || null },
      ...(key ? [make("kbd", { text: key })] : []), make("span", {}, ...[label].flat()));
    button.addEventListener("click", (event) => {
      if (event.detail) focusRoot(); // of a mouse or finger: Enter must not press this button again
      command();
    });
    if (key) buttons.set(key, button);
    return button;
  }

  const makeGroup = (label, ...children) =>
    make("div", { class: "group", role: "group", "aria-label": label }, ...children);

  function fillActions() {
    const classes = facts.classes.filter(({ key }) => key).map(({ name, key }) => makeButton(key, makeName(name)));
    for (const button of classes) button.title = button.lastChild.textContent;
    const others = facts.classes.filter(({ key }) => !key);
    if (others.length) classes.push(...makeClassChoice(others));
    const hands = [...HANDS].map((key) => makeButton(key, "other hand"));
    const makeRow = (...groups) => make("div", { class: "row" }, ...groups);
    actions.append(makeRow(
      makeGroup("decision", makeButton("k", "keep", undefined, "primary"), makeButton("x", "reject")),
      makeGroup("moving on", makeButton("u", "undo"), makeButton("s", "skip")),
      makeGroup("view", makeButton("z", "zoom"), makeButton("n", "new box"), makeButton("?", "help")),
      makeGroup("result", writeButton)), makeRow(
      makeGroup("class", ...classes),
      makeGroup("other hands", ...hands, makeButton("i", "suggested box")))); // last: they come and go
    buttons.get("?").setAttribute("aria-expanded", "false");
  }

  /** Classes without a key are in a list, with a button that sets them: walking the list by keys decides nothing. */
  function makeClassChoice(classes) {
    const options = classes.map(({ name }, place) => make("option", { value: place, text: clean(name), dir: "auto" }));
    const none = make("option", { value: "", text: "another class …" });
    const choice = make("select", { "aria-label": "another class" }, none, ...options);
    showChoice = () => { choice.selectedIndex = 1 + classes.findIndex(({ name }) => name === item.class_name); };
    return [choice, makeButton("", "set class", () => {
      if (choice.value) setClass(classes[choice.value].name);
      else refuse("Choose a class from the list first.");
    })];
  }

  const writeButton = makeButton("", "write hands.json", writeHands);

  function makeHelp() {
    const rows = HELP.map(([keys, text]) => make("div", {},
      make("dt", {}, ...keys.map((key) => key === "–" ? " – " : make("kbd", { text: key }))), make("dd", { text })));
    const legend = LEGEND.map(([kind, text]) => make("li", {}, make("span", { class: `swatch ${kind}` }), text));
    return make("div", { class: "help", hidden: true }, make("dl", {}, ...rows),
      make("p", { text: "Mouse or finger: drag inside the box to move it, its edges and corners to size it, "
        + "elsewhere to draw another." }),
      make("ul", { class: "legend" }, ...legend));
  }

  // -- what is said

  function setPhase(value) {
    phase = value;
    const [words, isOpen] = PHASES[phase];
    root.dataset.phase = phase;
    stage.open(isOpen);
    clearTimeout(busyTimer);
    if (words) busyTimer = setTimeout(() => showState("busy", words), BRIEF);
    else showState("done", latest);
    if (item || phase === "end") showAvailable();
    root.setAttribute("aria-busy", String(["loading", "saving", "writing"].includes(phase)));
  }

  function showState(kind, content) {
    state.replaceChildren(content);
    state.dataset.kind = content ? kind : "";
    state.title = state.textContent;
  }

  /** A word on a key that did nothing. */
  function refuse(text) {
    clearTimeout(busyTimer);
    showState("refused", text);
    live.textContent = text;
  }

  function addBanner(kind, ...texts) {
    const text = texts.join(" "), isNews = kind === "news";
    for (const other of [...banners.children]) {
      if (other.dataset.kind === kind && (!isNews || other.firstChild.textContent === text)) other.remove();
    }
    const dismiss = make("button", { type: "button", "aria-label": "Dismiss", text: "×" });
    const banner = make("div", { role: isNews ? "status" : "alert", "data-kind": kind, class: "banner" },
      make("span", { dir: "auto", text }), dismiss);
    dismiss.addEventListener("click", () => { banner.remove(); focusRoot(); });
    banners.append(banner);
    [...banners.querySelectorAll('[data-kind="news"]')].slice(0, -3).forEach((other) => other.remove());
  }

  const dropBanner = (kind) => banners.querySelector(`[data-kind="${kind}"]`)?.remove();

  function showLate(kinds) {
    const kind = ["decide", "undo", "pair", "item"].find((candidate) => kinds.includes(candidate));
    dropBanner("late");
    if (kind && facts) addBanner("late", "The kernel does not answer.", UNSAVED[kind]);
  }

  function showProgress(value) {
    if (!value) return;
    progress = value;
    judged.set(value.total ? value.decided / value.total : null, value.text);
    const left = value.doubt_left;
    doubt.set(left, `${Math.round(left * 100)} % of the doubt left`);
    const pending = value.pending ?? 0;
    writeButton.lastChild.textContent = pending ? `write hands.json (${pending} new)` : "write hands.json";
  }

  function showFacts() {
    const decision = item.decision;
    const list = (title, lines) => {
      const items = lines.map((line) => make("li", {}, makeName(line)));
      return items.length ? [make("p", { class: "title", text: title }), make("ul", {}, ...items)] : [];
    };
    position.textContent = `${at + 1} of ${facts.total}`;
    const path = make("p", { class: "path muted", title: clean(item.frame_path) }, makeName(item.frame_path));
    head.replaceChildren(
      make("p", { class: "class", title: clean(item.class_name) }, makeName(item.class_name)),
      make("p", { class: "outcome", dir: "auto", text: clean(item.outcome_sentence) }), path);
    const label = decision?.class_name ? ` (${decision.class_name})` : "";
    const mine = decision ? [`you: ${DONE[decision.action] ?? decision.action}${label}`] : [];
    const doubtText = typeof item.doubt === "number" ? `Doubt ${item.doubt.toFixed(2)}` : "Doubt";
    details.replaceChildren(...list(doubtText, item.reasons), ...list("Decisions", [...mine, ...item.decisions]));
    side.scrollTop = 0;
    side.tabIndex = side.scrollHeight > side.clientHeight + 1 ? 0 : -1;
    for (const hand of HANDS) buttons.get(hand).hidden = !item.hands.some(({ key }) => key === hand);
    buttons.get("i").hidden = !item.suggested;
    for (const { name, key } of facts.classes) {
      if (key) buttons.get(key).setAttribute("aria-pressed", String(name === item.class_name));
    }
    showChoice();
  }

  /** Change the page; the root takes the focus of a button that goes: else it is the notebook's, and keys edit that. */
  function keepFocus(change) {
    const hadFocus = root.contains(root.getRootNode().activeElement);
    change();
    const active = root.getRootNode().activeElement;
    if (hadFocus && !(root.contains(active) && active.checkVisibility())) focusRoot();
  }

  /** What can be done now; never `disabled`, with which a button loses the focus to the notebook. */
  function showAvailable() {
    const canJudge = phase === "ready", canMove = canJudge || phase === "faulty" || phase === "end" || isSlow;
    for (const [key, button] of buttons) {
      const can = key === "u" ? canMove : key === "s" ? canMove && phase !== "end" : key === "?" ? true
        : key === "k" ? canJudge && stage.box : canJudge;
      button.setAttribute("aria-disabled", String(!can));
    }
  }

  const isChanged = () => Boolean(item) && phase !== "end" && Boolean(stage.box) && !isSame(stage.box, item.box);

  function showEdit() {
    if (isChanged()) showState("edited", "box changed: k keeps it, Esc restores it");
    else showState("done", latest);
    showAvailable();
    drawCloseUp();
  }

  /** The crop as it will be, large. */
  function drawCloseUp() {
    const corners = isChanged() ? stage.box : item.crop ?? stage.box;
    closeUpFrame.classList.toggle("empty", !corners || !stage.image);
    if (!corners || !stage.image) return;
    const [x1, y1, x2, y2] = corners;
    const across = stage.image.naturalWidth / item.width, down = stage.image.naturalHeight / item.height;
    const fit = 320 / Math.max(x2 - x1, y2 - y1);
    closeUp.width = Math.max(1, Math.round((x2 - x1) * fit));
    closeUp.height = Math.max(1, Math.round((y2 - y1) * fit));
    closeUp.getContext("2d").drawImage(stage.image, x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down,
      0, 0, closeUp.width, closeUp.height);
  }

  // -- the story

  /** Show the frame at a position of the queue, when its picture is there; the one before stays until then. */
  async function show(place) {
    const mine = ++turn;
    clearTimeout(slowTimer);
    if (isChanged()) drafts.set(item.at, stage.box); // what was drawn is there when the frame is shown again
    else drafts.delete(item?.at);
    at = clamp(place, 0, facts.total);
    isSlow = false;
    if (at >= facts.total) return keepFocus(showEnd);
    setPhase("loading");
    slowTimer = setTimeout(() => {
      isSlow = true;
      stage.say("Still loading. ", make("kbd", { text: "s" }), " skips this frame.");
      showAvailable();
    }, SLOW);
    cache.aim(at, facts.total);
    let picture = null, next = null;
    try {
      next = await cache.getItem(at);
      if (mine !== turn) return undefined;
      picture = await cache.getPicture(next.row);
      if (mine !== turn) return undefined;
      await picture.image?.decode(); // at once, unless the browser has dropped its pixels meanwhile
    } catch (fault) { // the kernel cannot say what is at this position
      picture = { fault: fault.text ?? "The picture cannot be shown." };
      next ??= makeUnknown(at);
    }
    if (mine !== turn) return undefined;
    keepFocus(() => present(next, picture));
    await waitForPaint();
    if (mine === turn) setPhase(picture.fault ? "faulty" : "ready");
    if (mine === turn && isChanged()) showEdit();
    return undefined;
  }

  function makeUnknown(number) {
    return { at: number, row: null, frame_path: "", class_name: "", outcome_sentence: "", width: 1, height: 1,
      box: null, crop: null, faces: [], hands: [], suggested: null, doubt: null, reasons: [], decisions: [], decision: null };
  }

  function present(next, { image, fault }) {
    clearTimeout(slowTimer);
    item = next;
    stage.present(item, image ?? null, drafts.get(at) ?? item.box);
    const skips = [make("kbd", { text: "s" }), " skips this frame."];
    stage.say(...(fault ? [make("span", { dir: "auto", text: fault }), ...skips] : []));
    showFacts();
    drawCloseUp();
    const where = `Frame ${at + 1} of ${facts.total}: ${clean(item.class_name)}.`;
    const last = latest ? `${latest.textContent}.` : "";
    live.textContent = [last, where, item.outcome_sentence, ...item.reasons, fault ?? ""].filter(Boolean).join(" ");
  }

  function showEnd() {
    cache.aim(at, facts.total);
    item = null;
    const isAll = progress && progress.decided >= progress.total;
    position.textContent = "the end";
    const title = facts.total === 0 ? "There is no frame to judge."
      : isAll ? `All ${facts.total} frames are judged.`
      : "This is the end of the queue.";
    const lines = [make("strong", { text: title }), make("span", { text: progress?.text ?? "" })];
    const advice = "Write hands.json: training, exports and reports read your decisions from it.";
    if (facts.total) lines.push(make("span", { class: "muted", text: advice }));
    const next = facts.total ? [makeButton("", "write hands.json", writeHands, "primary")] : [];
    if (skipped.size) {
      const what = skipped.size === 1 ? "the skipped frame" : `the ${skipped.size} skipped frames`;
      next.push(makeButton("", `show ${what}`, showSkipped));
    }
    stage.present(null, null, null);
    stage.say(...lines, make("div", { class: "group" }, ...next));
    head.replaceChildren();
    details.replaceChildren();
    closeUpFrame.classList.add("empty");
    for (const key of `${HANDS}i`) buttons.get(key).hidden = true;
    setPhase("end");
    live.textContent = `${latest ? `${latest.textContent}. ` : ""}${title}`;
  }

  function showSkipped() {
    isAgain = true;
    show(Math.min(...skipped));
  }

  function goOn() {
    const left = [...skipped].filter((other) => other > at);
    return show(isAgain ? Math.min(...left, facts.total) : at + 1);
  }

  /** True if the frame on screen can be judged now; says why not. */
  function canJudge(key) {
    if (phase === "ready") return true;
    refuse({ faulty: "Without its picture a frame can only be skipped.", end: "All frames have been shown." }[phase]
      ?? `${key} ignored: still ${PHASES[phase][0]}`);
    return false;
  }

  function canMove(key) {
    return phase === "faulty" || phase === "end" || isSlow && phase === "loading" || canJudge(key);
  }

  async function decide(action, { box = null, label = null, words }) {
    const decided = item, place = at;
    setPhase("saving");
    let reply = null;
    try {
      reply = await kernel.ask({ kind: "decide", at: place, action, box, class_name: label });
    } catch (fault) {
      addBanner("fault", fault.text);
      return setPhase("ready");
    }
    dropBanner("fault");
    cache.markStale(place);
    skipped.delete(place);
    stage.settle(decided.box);
    showProgress(reply.progress);
    latest = make("span", { class: "saved" }, `${words} `, makeName(decided.frame_path));
    return goOn();
  }

  const drawnBox = () => isChanged() ? roundBox(stage.box) : null;

  function keep() {
    if (!stage.box) return refuse("There is no box to keep: draw one, choose a hand, or reject.");
    if (!isChanged()) return decide("keep", { words: "kept" });
    return decide("box", { box: drawnBox(), words: "kept with the new box" });
  }

  function setClass(label) {
    if (!canJudge("class")) return undefined;
    return decide("label", { label, box: drawnBox(), words: `${clean(label)}:` });
  }

  function chooseHand(key) {
    const hand = item.hands.find((other) => other.key === key);
    if (!hand) return refuse(`There is no hand ${key} here.`);
    return decide("choose_hand", { box: hand.corners, words: `hand ${key} of` });
  }

  function takeSuggested() {
    if (!item.suggested) return refuse("No box is suggested here.");
    return decide("box", { box: item.suggested, words: "suggested box of" });
  }

  async function undo() {
    const before = phase;
    turn++; // a frame that is still loading is not shown meanwhile
    clearTimeout(slowTimer);
    setPhase("saving");
    let reply = null;
    try {
      reply = await kernel.ask({ kind: "undo" });
    } catch (fault) {
      addBanner("fault", fault.text);
      return before === "loading" ? show(at) : setPhase(before);
    }
    dropBanner("fault");
    showProgress(reply.progress);
    if (reply.at === null || reply.at === undefined) {
      await (before === "loading" ? show(at) : setPhase(before));
      return refuse("There is nothing to undo in this session.");
    }
    cache.markStale(reply.at);
    latest = make("span", { text: "taken back" });
    return show(reply.at);
  }

  function skip() {
    if (phase === "end") return refuse("This is the end.");
    if (!item || item.at !== at || !item.decision) skipped.add(at);
    latest = make("span", { text: "skipped" });
    return goOn();
  }

  function goBack() {
    if (at === 0) return refuse("This is the first frame.");
    latest = "";
    return show(at - 1);
  }

  async function writeHands() {
    const before = phase;
    if (!["ready", "faulty", "end"].includes(before)) return canJudge("writing");
    setPhase("writing");
    try {
      const reply = await kernel.ask({ kind: "pair" });
      dropBanner("fault");
      showProgress(reply.progress);
      addBanner("news", reply.text);
    } catch (fault) {
      addBanner("fault", fault.text);
    }
    return setPhase(before);
  }

  function toggleHelp() {
    help.hidden = !help.hidden;
    buttons.get("?").setAttribute("aria-expanded", String(!help.hidden));
  }

  // -- keys; buttons run the same

  const MOVES = { u: undo, s: skip, " ": skip, "Shift+s": goBack, Backspace: goBack };
  const EDITS = { z: () => stage.toggleZoom(), "+": () => stage.zoomBy(1.25), "=": () => stage.zoomBy(1.25),
    "-": () => stage.zoomBy(0.8), n: () => stage.addBox() };
  const JUDGEMENTS = { k: keep, Enter: keep, x: () => decide("reject", { words: "rejected" }), i: takeSuggested };

  /** Do what a key stands for; false if it stands for nothing. */
  function run(key, { shiftKey = false, altKey = false } = {}) {
    if (key === "?") return toggleHelp() ?? true;
    if (key === "Escape") {
      if (phase === "ready" && stage.restore()) return true;
      if (!help.hidden) toggleHelp();
      return true;
    }
    if (shiftKey && key === "s") key = "Shift+s";
    else if (shiftKey && /^[a-z]$/.test(key)) return false;
    if (MOVES[key]) return canMove(key === " " ? "Space" : key) && MOVES[key](), true;
    const isHand = /^[a-f]$/.test(key), isClass = /^[1-9]$/.test(key), arrow = ARROWS[key];
    if (!(EDITS[key] || JUDGEMENTS[key] || arrow || isHand || isClass)) return false;
    if (!canJudge(key)) return true;
    if (EDITS[key]) EDITS[key]();
    else if (JUDGEMENTS[key]) JUDGEMENTS[key]();
    else if (isHand) chooseHand(key);
    else if (isClass) {
      const wanted = facts.classes.find((candidate) => candidate.key === key);
      if (wanted) setClass(wanted.name);
      else refuse(`No class has the key ${key}.`);
    } else if (stage.box) {
      const step = shiftKey ? 10 : 2;
      stage.nudge(arrow[0] * step, arrow[1] * step, altKey);
    } else refuse("There is no box to move: n makes one.");
    return true;
  }

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.isComposing || !OWN_KEYS.test(event.key)) return;
    event.stopPropagation(); // whatever is typed here is not for the notebook
    const key = readKey(event), isRepeat = event.repeat && !ARROWS[key] && !["+", "=", "-"].includes(key);
    if (event.target.closest("select")) return void (key === "Escape" && focusRoot());
    if ((key === "Enter" || key === " ") && event.target.closest("button")) return; // the browser presses it
    if (!facts || event.altKey && !ARROWS[key]) return;
    if (isRepeat || run(key, event)) event.preventDefault();
  });

  function start(reply) {
    facts = reply.facts;
    hideOutsideStills(model.get("key"));
    const by = clean(facts.reviewer);
    if (by) reviewer.append("by ", makeName(facts.reviewer));
    reviewer.title = by;
    fillActions();
    still.replaceWith(bar, banners, make("div", { class: "work" }, stage.element, head, side, actions), help, live);
    showProgress(facts.progress);
    show(facts.at ?? 0);
  }

  hideOutsideStills(model.get("key"));
  // An output that is as high as its content has no window height to fit into.
  const isInFrame = globalThis.parent !== globalThis;
  if (isInFrame) root.style.setProperty("--dt-tall", `${Math.round(Math.min(560, screen.availHeight * 0.55))}px`);
  el.append(root);
  kernel.ask({ kind: "open" }).then(start, (fault) => { root.append(make("p", { role: "alert", text: fault.text })); });

  return () => {
    turn++;
    clearTimeout(slowTimer);
    clearTimeout(busyTimer);
    kernel.close();
    cache.clear();
    root.remove();
  };
}

export default { render };
