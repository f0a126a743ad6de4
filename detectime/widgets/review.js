// The review: one frame after another, one key per decision. There is no build step: `read_script` puts
// common.js before this text, and the two are one module.
//
// What matters here: a decision is taken only of a picture that was on screen when the key was pressed; the
// next frame shows only when the decision is on disk; pictures are decoded before they are needed.
// Parts: geometry, the frames fetched ahead, the stage, the review.

const AHEAD = 5; // frames whose facts and pictures are fetched before they are needed
const BEHIND = 5; // frames that are kept after they were shown
const SIDE = 1280; // px, the longer side of a picture
const SLOW = 1000; // ms of loading after which a frame may be skipped unseen
const BRIEF = 150; // ms of saving and loading that the bar does not mention
const HANDS = "abcdef"; // the keys of other hands
const LEAST = 2; // px of the frame, the least side of a box
const MARGIN = 2.2; // how much larger than the box a view zoomed to it is
const CLOSEST = 1 / 24; // of the frame's sides: the smallest view

const PHASES = { // what the bar says
  loading: "loading", saving: "saving", writing: "writing hands.json", faulty: "no picture",
  ready: "", end: "",
};
const UNSAVED = { // what a request that is not answered means
  decide: "This decision is not saved yet.", undo: "The decision is not taken back yet.",
  pair: "hands.json is not written yet.", item: "The next frame is not there yet.",
};
const HELP = [
  ["k Enter", "keep the frame with the box and the class as shown"], ["x", "reject it"],
  ["1 – 9", "give it the class with that number"], ["a – f", "the sample is that other hand"],
  ["i", "take the suggested box"], ["u", "undo the latest decision"],
  ["s Space", "skip: on without a decision"], ["Shift+s Backspace", "back without a change"],
  ["← ↑ ↓ →", "move the box (with Shift: faster)"], ["Alt+← ↑ ↓ →", "move its right and lower edge"],
  ["n", "a new box in the middle"], ["Esc", "the box as it was"],
  ["z", "zoom to the box and back"], ["+ −", "zoom (or Ctrl and the wheel)"],
];
const MOUSE = "Mouse or finger: drag inside the box to move it, its edges and corners to size it, "
  + "elsewhere, or anywhere with Shift, to draw another.";
const LEGEND = {
  hand: "the sample's hand", bbox: "the crop, where it is larger", face: "faces", other: "other hands",
  suggested: "suggested from frames before and after", before: "before your change",
};
const UNKNOWN = { // a frame that the kernel cannot describe
  row: null, frame_path: "", class_name: "", outcome_sentence: "", width: 1, height: 1, box: null, crop: null,
  faces: [], hands: [], suggested: null, doubt: null, reasons: [], decisions: [], is_decided: false,
  is_rejected: false,
};

// -- geometry: boxes are [x1, y1, x2, y2] in pixels of the frame, views [x, y, width, height]

const roundBox = (box) => box.map((value) => Math.round(value * 10) / 10);
const isSameBox = (one, other) => one === other
  || Boolean(one && other) && one.every((value, side) => Math.abs(value - other[side]) < 0.05);
const findMiddle = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];

/** The box with sides in order, inside the frame and not too small. */
function tidyBox([x1, y1, x2, y2], { width, height }) {
  const order = (one, other, most) => {
    const low = clamp(Math.min(one, other), 0, Math.max(0, most - LEAST));
    return [low, clamp(Math.max(one, other), low + LEAST, Math.max(most, LEAST))];
  };
  const [left, right] = order(x1, x2, width), [top, bottom] = order(y1, y2, height);
  return [left, top, right, bottom];
}

/** What is cut out for a box: its surroundings too, where the class is one whose crops are enlarged. */
function cropBox(box, { enlarge, width, height }) {
  if (!enlarge) return box;
  const [x, y] = findMiddle(box), half = enlarge * Math.max(box[2] - box[0], box[3] - box[1]);
  return [clamp(x - half, 0, width), clamp(y - half, 0, height), clamp(x + half, 0, width), clamp(y + half, 0, height)];
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

// -- the browser

/** Resolves when what is in the document now has been painted (never in a window that is not seen). */
const waitForPaint = () => new Promise((done) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel(); // runs after the paint that follows; a timer would wait 4 ms
  port1.onmessage = () => done();
  port2.postMessage(null);
}));

/** A key's name; by its place where the layout has no Latin letters, or digits only with Shift. */
function readKey({ key, code, shiftKey }) {
  if (key.length > 1) return key;
  const [, kind, sign] = /^(Key|Digit)(\w)$/.exec(code) ?? [];
  const isPlace = !/[a-z0-9?+=\- ]/i.test(key) && (kind === "Key" || kind === "Digit" && !shiftKey);
  const name = (isPlace ? sign : key).toLowerCase();
  return shiftKey && /[a-z]/.test(name) ? `Shift+${name}` : name;
}

// -- the frames fetched ahead

/** Frames by their position in the queue: promises of `{item, image, fault}`, those around one position. */
function createQueue(kernel, pictures) {
  const frames = new Map(); // position: {promise, row}
  let center = 0;

  async function load(at, frame) {
    let item;
    try {
      ({ item } = await kernel.ask("item", { at }));
    } catch (error) {
      frames.delete(at); // asked again when it is to be shown again
      return { item: { ...UNKNOWN, at }, fault: error.message };
    }
    frame.row = item.row;
    wish();
    const { url, fault } = await pictures.wait(item.row, SIDE);
    if (fault) return { item, fault };
    const alt = clean(item.frame_path);
    const image = make("img", { src: url, alt, draggable: "false", decoding: "sync" });
    const isShown = await image.decode().then(() => true, () => false);
    return isShown ? { item, image } : { item, fault: "The picture cannot be shown." };
  }

  function wish() {
    const rows = Array.from({ length: AHEAD + 1 }, (_, k) => frames.get(center + k)?.row ?? null);
    pictures.wish(rows.filter((row) => row !== null).map((row) => [row, SIDE]));
  }

  return {
    wish,
    forget: (at) => frames.delete(at),
    forgetAll: () => frames.clear(),
    /** Fetch what is around a position, drop what is far from it; returns the frame there. */
    get(at, total) {
      center = at;
      for (const other of frames.keys()) if (other < at - BEHIND || other > at + AHEAD) frames.delete(other);
      for (let next = at; next <= Math.min(at + AHEAD, total - 1); next++) {
        if (frames.has(next)) continue;
        const frame = { row: null };
        frames.set(next, frame);
        frame.promise = load(next, frame);
      }
      wish();
      return frames.get(at)?.promise;
    },
  };
}

// -- the stage: the picture, its boxes, and the pointer

/** `onEdit` is called when the box changes, `onHand` with the key of a clicked hand, `onPress` by a press. */
function createStage({ onEdit, onHand, onPress }) {
  const svg = makeBoxes({ preserveAspectRatio: "none" });
  const marks = make("div", { class: "marks" }), picture = make("div", { class: "picture" });
  const view = make("div", { class: "view" }, picture, svg, marks);
  const message = make("div", { class: "message", hidden: true });
  const hint = make("p", { class: "hint", "aria-hidden": "true" }, "Click the picture, then use the keys");
  const element = make("div", { class: "stage" }, view, message, hint);
  let item = null, image = null, box = null, seen = null, drag = null, isOpen = false, tallest = 0;

  const getScale = () => svg.getScreenCTM()?.a || 1; // px of the screen per px of the frame
  const getShare = () => seen[2] / item.width;
  const isZoomed = () => getShare() < 0.999;
  const getMiddle = () => [seen[0] + seen[2] / 2, seen[1] + seen[3] / 2];

  function present(newItem, newImage, newBox) {
    [item, image, box, drag] = [newItem, newImage, newBox, null];
    picture.replaceChildren(...(image ? [image] : []));
    view.hidden = !image;
    if (!image) return;
    view.style.setProperty("--wide", item.width);
    view.style.setProperty("--high", item.height);
    tallest = Math.max(tallest, item.height / item.width); // never less: buttons below stay where they are
    element.style.setProperty("--tallest", tallest);
    setView(makeView(1, [0, 0], item));
  }

  function say(...texts) {
    message.replaceChildren(...texts);
    message.hidden = !texts.length;
  }

  function setView(values) {
    seen = values;
    const [x, y, wide, high] = seen;
    svg.setAttribute("viewBox", seen.join(" "));
    const place = { left: -x / wide, top: -y / high, width: item.width / wide, height: item.height / high };
    for (const [side, value] of Object.entries(place)) picture.style[side] = `${value * 100}%`;
    element.classList.toggle("zoomed", isZoomed());
    draw();
  }

  function draw() {
    const isChanged = !isSameBox(box, item.box), { hands, suggested } = item;
    const boxes = item.faces.map((corners) => ({ kind: "face thin", corners }));
    if (item.crop && !isChanged) boxes.push({ kind: "bbox", corners: item.crop });
    boxes.push(...hands.map(({ corners }) => ({ kind: "other", corners })));
    if (suggested) boxes.push({ kind: "suggested", corners: suggested });
    if (item.box && isChanged) boxes.push({ kind: "before", corners: item.box });
    if (box) boxes.push({ kind: "hand", corners: box });
    drawBoxes(svg, boxes);
    marks.replaceChildren(...hands.map(({ key, corners: [x, y] }) => makeBadge(key, [x, y], "other left")));
    if (suggested) marks.append(makeBadge("i", [suggested[2], suggested[1]], "suggested right"));
    if (box) marks.append(...listHandles().map((corner) => place(make("span", { class: "handle" }), corner)));
  }

  function place(mark, [x, y]) {
    mark.style.left = `${(x - seen[0]) / seen[2] * 100}%`;
    mark.style.top = `${(y - seen[1]) / seen[3] * 100}%`;
    return mark;
  }

  /** The letter of another hand, which can be clicked; above its box, or in it at the upper border. */
  function makeBadge(key, corner, kind) {
    const above = (corner[1] - seen[1]) * getScale() > 22 ? "above" : "";
    return place(make("button", {
      type: "button", class: `badge ${kind} ${above}`, tabindex: -1, "aria-hidden": "true", "data-hand": key,
      onclick: () => onHand(key),
    }, key), corner);
  }

  function listHandles() {
    const [x1, y1, x2, y2] = box, [x, y] = findMiddle(box), isRoomy = (length) => length * getScale() > 50;
    return [[x1, y1], [x2, y1], [x1, y2], [x2, y2],
      ...(isRoomy(x2 - x1) ? [[x, y1], [x, y2]] : []), ...(isRoomy(y2 - y1) ? [[x1, y], [x2, y]] : [])];
  }

  function setBox(newBox) {
    box = newBox;
    const isOutside = box && (box[0] < seen[0] || box[1] < seen[1] || box[2] > seen[0] + seen[2]
      || box[3] > seen[1] + seen[3]);
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
    const [x, y] = getMiddle(), half = 0.15 * Math.min(seen[2], seen[3]);
    setBox(tidyBox([x - half, y - half, x + half, y + half], item));
  }

  function toggleZoom() {
    const [x1, y1, x2, y2] = box ?? [0, 0, 0, 0], middle = box ? findMiddle(box) : getMiddle();
    const share = box ? MARGIN * Math.max((x2 - x1) / item.width, (y2 - y1) / item.height) : 0.5;
    setView(makeView(isZoomed() ? 1 : clamp(share, CLOSEST, 1), middle, item));
  }

  /** Zoom by a factor; the point keeps its place on screen. */
  function zoomBy(factor, point = box ? findMiddle(box) : getMiddle()) {
    const share = clamp(getShare() / factor, CLOSEST, 1), ratio = share / getShare();
    const middle = getMiddle().map((value, axis) => point[axis] + (value - point[axis]) * ratio);
    setView(makeView(share, middle, item));
  }

  function locate({ clientX, clientY }) {
    const point = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  /** The sides of the box that follow a press: those near it, all four inside the box, none elsewhere. */
  function findGrip([x, y], pointerType) {
    if (!box) return [];
    const [x1, y1, x2, y2] = box, reach = (pointerType === "touch" ? 16 : 7) / getScale();
    if (x < x1 - reach || x > x2 + reach || y < y1 - reach || y > y2 + reach) return [];
    const pick = (value, low, high, numbers) => {
      const inner = Math.min(reach, (high - low) / 4); // the middle of a small box still moves it
      if (value < low + inner) return [numbers[0]];
      return value > high - inner ? [numbers[1]] : [];
    };
    const sides = [...pick(x, x1, x2, [0, 2]), ...pick(y, y1, y2, [1, 3])];
    return sides.length ? sides : [0, 1, 2, 3];
  }

  function chooseCursor(grip) {
    if (grip.length === 4) return "move";
    if (grip.length === 2) return ["0,1", "2,3"].includes(grip.join()) ? "nwse-resize" : "nesw-resize";
    return grip.length ? ["ew-resize", "ns-resize"][grip[0] % 2] : "crosshair";
  }

  function reshape({ grip, point, before }, [x, y]) {
    if (grip.length === 4) return moveBox(before, x - point[0], y - point[1], item);
    if (!grip.length) return tidyBox([...point, x, y], item);
    const moved = before.map((value, side) => value + (side % 2 ? y - point[1] : x - point[0]));
    return tidyBox(before.map((value, side) => (grip.includes(side) ? moved[side] : value)), item);
  }

  view.addEventListener("pointerdown", (event) => {
    onPress();
    if (event.button !== 0 || drag || !isOpen || item.isUnsized || event.target.closest(".badge")) return;
    event.preventDefault(); // else the browser gives the focus to the page
    const point = locate(event), grip = event.shiftKey ? [] : findGrip(point, event.pointerType);
    drag = { id: event.pointerId, point, grip, before: box, start: event, isMoved: false };
    view.setPointerCapture(event.pointerId);
  });
  view.addEventListener("pointermove", (event) => {
    if (!image) return;
    const grip = drag?.grip ?? findGrip(locate(event), event.pointerType);
    view.style.cursor = isOpen ? chooseCursor(grip) : "default";
    if (event.pointerId !== drag?.id) return;
    const { clientX: x, clientY: y } = drag.start;
    drag.isMoved ||= Math.hypot(event.clientX - x, event.clientY - y) >= 3; // else it is a click
    if (drag.isMoved) setBox(reshape(drag, locate(event)));
  });
  const release = (event) => {
    if (event.pointerId !== drag?.id) return;
    const { isMoved, before } = drag;
    drag = null;
    if (event.type === "pointercancel" && isMoved) setBox(before);
  };
  for (const type of ["pointerup", "pointercancel"]) view.addEventListener(type, release);
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !isOpen) return; // the page scrolls
    event.preventDefault();
    zoomBy(Math.exp(-clamp(event.deltaY, -100, 100) / 250), locate(event));
  }, { passive: false });

  return {
    element, present, say, nudge, addBox, toggleZoom, zoomBy,
    restore() {
      drag = null;
      setBox(item.box);
    },
    open(value) {
      isOpen = value;
      if (!value) drag = null;
    },
    get box() { return box; },
    get image() { return image; },
  };
}

// -- the review

/** A part of the bar: a label and a share, drawn as a line. */
function makeMeter(label) {
  const text = make("span"), fill = make("span", { class: "fill" });
  const track = make("span", {
    class: "track", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100,
  }, fill);
  const element = make("div", { class: "meter" }, text, track);
  const set = (share, words) => {
    element.hidden = share === null;
    text.textContent = words;
    fill.style.width = `${share * 100}%`;
    track.setAttribute("aria-valuenow", Math.round(share * 100));
  };
  return { element, set };
}

function makeHelp() {
  const makeKey = (key) => (key === "–" ? " – " : make("kbd", {}, key));
  const rows = HELP.map(([keys, text]) =>
    make("div", {}, make("dt", {}, ...keys.split(" ").map(makeKey)), make("dd", {}, text)));
  const legend = Object.entries(LEGEND).map(([kind, text]) =>
    make("li", {}, make("span", { class: `swatch ${kind}` }), text));
  return make("div", { class: "help", hidden: true },
    make("dl", {}, ...rows), make("p", {}, MOUSE), make("ul", { class: "legend" }, ...legend));
}

function start({ facts, root, content, kernel, pictures, banners }) {
  const queue = createQueue(kernel, pictures);
  const stage = createStage({ onEdit: showEdit, onHand: run, onPress: focusRoot });
  const drafts = new Map(); // boxes drawn and not decided, by position
  const skipped = new Set(); // positions passed without a decision
  let at = 0, item = null, phase = "loading", progress = facts.progress;
  let latest = ""; // what was done last
  let turn = 0, isSlow = false, isAgain = false, slowTimer = 0, busyTimer = 0;

  const isChanged = () => Boolean(item && stage.box) && !isSameBox(stage.box, item.box);
  const getDrawnBox = () => (isChanged() ? roundBox(stage.box) : null);

  function focusRoot() {
    root.focus({ preventScroll: true });
  }

  // -- what the keys do; buttons do the same

  const commands = new Map(); // by key: {needs, act}
  const add = (keys, needs, act) => keys.forEach((key) => commands.set(key, { needs, act }));
  add(["k", "Enter"], "judge", keep);
  add(["x"], "judge", () => decide("reject", { words: "rejected" }));
  add(["i"], "judge", takeSuggested);
  add([...HANDS], "judge", chooseHand);
  add([..."123456789"], "judge", (key) => {
    const wanted = facts.classes.find((candidate) => candidate.key === key);
    return wanted ? setClass(wanted.name) : refuse(`No class has the key ${key}.`);
  });
  add(["u"], "move", undo);
  add(["s", " "], "move", skip);
  add(["Shift+s", "Backspace"], "move", goBack);
  add(["z"], "judge", stage.toggleZoom);
  add(["+", "="], "judge", () => stage.zoomBy(1.25));
  add(["-"], "judge", () => stage.zoomBy(0.8));
  add(["n"], "judge", () => {
    if (item.isUnsized) return refuse("This frame was not detected: a box in it would not count.");
    return stage.addBox();
  });
  add(["?"], "nothing", toggleHelp);
  add(["Escape"], "nothing", () => {
    if (phase === "ready" && isChanged()) stage.restore();
    else if (!help.hidden) toggleHelp();
  });
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  add(Object.keys(ARROWS), "judge", (key, { shiftKey, altKey }) => {
    if (!stage.box) return refuse("There is no box to move: n makes one.");
    return stage.nudge(...ARROWS[key].map((way) => way * (shiftKey ? 10 : 2)), altKey);
  });

  /** Do what a key stands for, or say why not; false if it stands for nothing. */
  function run(key, event = {}) {
    const command = commands.get(key);
    if (!command) return false;
    if (can(command)) command.act(key, event);
    else refuseFor(key);
    return true;
  }

  function can({ needs }) {
    const canJudge = phase === "ready", canMove = phase === "faulty" || phase === "end" || isSlow;
    return needs === "nothing" || canJudge || needs === "move" && canMove;
  }

  function refuseFor(key) {
    if (phase === "faulty") return refuse("Without its picture a frame can only be skipped.");
    if (phase === "end") return refuse("All frames have been shown.");
    return refuse(`${key === " " ? "Space" : key} ignored: still ${PHASES[phase]}`);
  }

  root.addEventListener("keydown", (event) => {
    const key = readKey(event), isRepeat = event.repeat && !ARROWS[key] && !["+", "=", "-"].includes(key);
    if (event.key === "Tab" || event.ctrlKey || event.metaKey || event.isComposing) return;
    if (event.target.closest("select")) return void (key === "Escape" && focusRoot());
    if ((key === "Enter" || key === " ") && event.target.closest("button")) return; // the browser presses it
    if (event.altKey && !ARROWS[key]) return;
    if (isRepeat || run(key, event)) event.preventDefault();
  });

  // -- decisions, and moving on

  /** Ask for something while nothing else can be done; null after a fault, which leaves all as it was. */
  async function request(kind, content, busy = "saving") {
    const before = phase;
    turn++; // a frame that is still loading is not shown meanwhile
    clearTimeout(slowTimer);
    setPhase(busy);
    try {
      const reply = await kernel.ask(kind, content);
      banners.drop("fault");
      showProgress(reply.progress);
      return reply;
    } catch (error) {
      banners.say("fault", error.message);
      restore(before);
      return null;
    }
  }

  const restore = (before) => (before === "loading" ? show(at) : setPhase(before));

  async function decide(action, { box = null, label = null, words }) {
    const decided = item, reply = await request("decide", {
      at, action, box, class_name: label, seen: decided.box, seen_class: decided.class_name,
    });
    queue.forget(decided.at);
    if (!reply) return void show(at); // as it is now: it may be another one than was seen
    skipped.delete(decided.at);
    decided.box = stage.box; // what was drawn is no draft any more
    latest = make("span", { class: "saved" }, `${words} `, makeName(decided.frame_path));
    goOn();
  }

  function keep() {
    if (!stage.box) return refuse("There is no box to keep: draw one, choose a hand, or reject.");
    if (!isChanged()) return decide("keep", { words: "kept" });
    return decide("box", { box: getDrawnBox(), words: "kept with the new box" });
  }

  const setClass = (label) => decide("label", { label, box: getDrawnBox(), words: `${clean(label)}:` });

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
    const before = phase, reply = await request("undo");
    if (!reply) return;
    if (reply.at === null) {
      await restore(before);
      refuse("There is nothing to undo in this session.");
      return;
    }
    queue.forget(reply.at);
    latest = "taken back";
    show(reply.at);
  }

  function skip() {
    if (phase === "end") return refuse("This is the end.");
    if (item?.at !== at || !item.is_decided) skipped.add(at);
    latest = "skipped";
    return goOn();
  }

  function goBack() {
    if (at === 0) return refuse("This is the first frame.");
    latest = "";
    return show(at - 1);
  }

  function goOn() {
    const left = [...skipped].filter((other) => other > at);
    show(isAgain ? Math.min(...left, facts.total) : at + 1);
  }

  function showSkipped() {
    isAgain = true;
    show(Math.min(...skipped));
  }

  async function writeHands() {
    if (phase === "loading" || phase === "saving" || phase === "writing") return refuseFor("writing");
    const before = phase, reply = await request("pair", {}, "writing");
    if (!reply) return undefined;
    banners.say("news", reply.text);
    queue.forgetAll(); // boxes may be others now
    return before === "end" ? setPhase(before) : show(at);
  }

  /** Show the frame at a position, when its picture is there; the one before stays until then. */
  async function show(place) {
    const mine = ++turn;
    clearTimeout(slowTimer);
    if (isChanged()) drafts.set(item.at, stage.box); // what was drawn is there when the frame is shown again
    else drafts.delete(item?.at);
    at = clamp(place, 0, facts.total);
    isSlow = false;
    const coming = queue.get(at, facts.total);
    if (at === facts.total) return keepFocus(showEnd);
    setPhase("loading");
    slowTimer = setTimeout(() => {
      isSlow = true;
      stage.say("Still loading. ", make("kbd", {}, "s"), " skips this frame.");
      showAvailable();
    }, SLOW);
    const frame = await coming;
    if (mine !== turn) return undefined;
    clearTimeout(slowTimer);
    keepFocus(() => present(frame));
    await waitForPaint();
    if (mine === turn) setPhase(frame.fault ? "faulty" : "ready");
    return undefined;
  }

  // -- parts of the page

  const position = make("strong", { class: "position" }), state = make("span", { class: "state" });
  const judged = makeMeter("judged"), doubt = makeMeter("doubt left");
  const by = facts.reviewer ? ["by ", makeName(facts.reviewer)] : [];
  const reviewer = make("span", { class: "reviewer muted", title: clean(facts.reviewer) }, ...by);
  const bar = make("div", { class: "bar" }, position, judged.element, doubt.element, reviewer, state);
  const live = make("div", { class: "unseen", "aria-live": "polite" });
  const head = make("div", { class: "head" }), details = make("div", { class: "details" });
  const closeUp = make("canvas", { "aria-hidden": "true" });
  const closeUpFrame = make("div", { class: "close-up" }, closeUp);
  const side = make("div", { class: "side" }, closeUpFrame, details);
  const help = makeHelp();
  const buttons = new Map(); // by key

  function makeButton(key, label, command = () => run(key), kind = "") {
    const button = make("button", {
      type: "button", class: kind, title: typeof label === "string" ? null : label.textContent,
      "aria-keyshortcuts": key || null,
      onclick: (event) => {
        if (event.detail) focusRoot(); // of a mouse or finger: Enter must not press this button again
        command();
      },
    }, ...(key ? [make("kbd", {}, key)] : []), make("span", {}, label));
    if (key) buttons.set(key, button);
    return button;
  }

  const makeGroup = (label, ...children) =>
    make("div", { class: "group", role: "group", "aria-label": label }, ...children);
  const writeButton = makeButton("", "write hands.json", writeHands, "write");

  // Classes without a key are in a list, with a button that sets them: walking the list decides nothing.
  const others = facts.classes.filter(({ key }) => !key);
  const choice = make("select", { "aria-label": "another class" },
    make("option", { value: "" }, "another class …"),
    ...others.map(({ name }) => make("option", { value: name, dir: "auto" }, clean(name))));
  const setButton = makeButton("", "set class", () => {
    if (!choice.value) refuse("Choose a class from the list first.");
    else if (can({ needs: "judge" })) setClass(choice.value);
    else refuseFor("class");
  });

  const keyed = facts.classes.filter(({ key }) => key)
    .map(({ key, name }) => makeButton(key, makeName(name)));
  const actions = make("div", { class: "actions" },
    make("div", { class: "row" },
      makeGroup("decision", makeButton("k", "keep", undefined, "primary"), makeButton("x", "reject")),
      makeGroup("moving on", makeButton("u", "undo"), makeButton("s", "skip")),
      makeGroup("view", makeButton("z", "zoom"), makeButton("n", "new box"), makeButton("?", "help")),
      makeGroup("result", writeButton)),
    make("div", { class: "row" },
      makeGroup("class", ...keyed, ...(others.length ? [choice, setButton] : [])),
      makeGroup("other hands", ...[...HANDS].map((key) => makeButton(key, "other hand")),
        makeButton("i", "suggested box")))); // last: they come and go
  buttons.get("?").setAttribute("aria-expanded", "false");

  function toggleHelp() {
    help.hidden = !help.hidden;
    buttons.get("?").setAttribute("aria-expanded", String(!help.hidden));
    if (!help.hidden) help.scrollIntoView({ block: "nearest" });
  }

  // -- what is said

  function setPhase(value) {
    phase = root.dataset.phase = value;
    stage.open(phase === "ready");
    clearTimeout(busyTimer);
    if (PHASES[phase]) busyTimer = setTimeout(() => showState("busy", PHASES[phase]), BRIEF);
    else showEdit();
    showAvailable();
    root.setAttribute("aria-busy", String(["loading", "saving", "writing"].includes(phase)));
  }

  function showState(kind, words) {
    state.replaceChildren(words);
    state.dataset.kind = kind;
    state.title = state.textContent;
  }

  function showEdit() {
    if (isChanged()) showState("edited", "box changed: k keeps it, Esc restores it");
    else showState("done", latest);
    showAvailable();
    drawCloseUp();
  }

  /** A word on a key that did nothing. */
  function refuse(text) {
    clearTimeout(busyTimer);
    showState("refused", text);
    live.textContent = text;
  }

  /** What can be done now; never `disabled`, with which a button loses the focus to the notebook. */
  function showAvailable() {
    for (const [key, button] of buttons) {
      const isEmpty = key === "k" && !stage.box || key === "s" && phase === "end";
      button.setAttribute("aria-disabled", String(isEmpty || !can(commands.get(key))));
    }
  }

  function showProgress(value) {
    progress = value;
    judged.set(value.total ? value.decided / value.total : null, value.text);
    doubt.set(value.doubt_left, `${Math.round(value.doubt_left * 100)} % of the doubt left`);
    writeButton.lastChild.textContent = `write hands.json${value.pending ? ` (${value.pending} new)` : ""}`;
  }

  /** Change the page; the root takes the focus of a button that goes: else keys would edit the notebook. */
  function keepFocus(change) {
    const hadFocus = root.contains(document.activeElement);
    change();
    const active = document.activeElement;
    if (hadFocus && !(root.contains(active) && active.checkVisibility())) focusRoot();
  }

  function present(frame) {
    const { image = null, fault = "" } = frame;
    item = frame.item;
    if (item.width === null && image) { // of a frame that was not detected
      Object.assign(item, { width: image.naturalWidth, height: image.naturalHeight, isUnsized: true });
    }
    root.toggleAttribute("data-rejected", item.is_rejected); // its box is dashed
    stage.present(item, image, drafts.get(at) ?? item.box);
    const words = make("span", { dir: "auto" }, fault);
    stage.say(...(fault ? [words, make("kbd", {}, "s"), " skips this frame."] : []));
    showFacts();
    drawCloseUp();
    const last = latest ? `${latest.textContent ?? latest}.` : "";
    const where = `Frame ${at + 1} of ${facts.total}: ${clean(item.class_name)}.`;
    live.textContent = [last, where, item.outcome_sentence, ...item.reasons, fault].filter(Boolean).join(" ");
  }

  function showFacts() {
    const { class_name: className, frame_path: path } = item;
    const list = (title, lines) => (lines.length ? [make("p", { class: "title" }, title),
      make("ul", {}, ...lines.map((line) => make("li", {}, makeName(line))))] : []);
    position.textContent = `${at + 1} of ${facts.total}`;
    head.replaceChildren(
      make("p", { class: "class", title: clean(className) }, makeName(className),
        ...(item.is_rejected ? [make("span", { class: "rejected" }, "rejected")] : [])),
      make("p", { class: "outcome", dir: "auto" }, clean(item.outcome_sentence)),
      make("p", { class: "path muted", title: clean(path) }, makeName(path)));
    const title = item.doubt === null ? "Doubt" : `Doubt ${item.doubt.toFixed(2)}`;
    details.replaceChildren(...list(title, item.reasons), ...list("Decisions", item.decisions));
    side.scrollTop = 0;
    side.tabIndex = side.scrollHeight > side.clientHeight + 1 ? 0 : -1;
    showHands();
    for (const { name, key } of facts.classes) {
      if (key) buttons.get(key).setAttribute("aria-pressed", String(name === className));
    }
    choice.selectedIndex = 1 + others.findIndex(({ name }) => name === className);
  }

  function showHands() {
    for (const hand of HANDS) buttons.get(hand).hidden = !item?.hands.some(({ key }) => key === hand);
    buttons.get("i").hidden = !item?.suggested;
  }

  /** The crop as it will be, large. */
  function drawCloseUp() {
    const corners = isChanged() ? cropBox(stage.box, item) : item?.crop ?? stage.box;
    const isEmpty = !corners || !stage.image;
    closeUpFrame.classList.toggle("empty", isEmpty);
    if (isEmpty) return;
    const [x1, y1, x2, y2] = corners, fit = 320 / Math.max(x2 - x1, y2 - y1);
    const across = stage.image.naturalWidth / item.width, down = stage.image.naturalHeight / item.height;
    closeUp.width = Math.max(1, Math.round((x2 - x1) * fit));
    closeUp.height = Math.max(1, Math.round((y2 - y1) * fit));
    const part = [x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down];
    closeUp.getContext("2d").drawImage(stage.image, ...part, 0, 0, closeUp.width, closeUp.height);
  }

  function showEnd() {
    const { total } = facts, count = skipped.size, isAll = progress.decided >= progress.total;
    const title = total === 0 ? "There is no frame to judge."
      : isAll ? `All ${total} frames are judged.` : "This is the end of the queue.";
    const advice = "Write hands.json: training, exports and reports read your decisions from it.";
    const next = make("div", { class: "group" });
    if (total) next.append(makeButton("", "write hands.json", writeHands, "primary"));
    const left = count === 1 ? "the skipped frame" : `the ${count} skipped frames`;
    if (count) next.append(makeButton("", `show ${left}`, showSkipped));
    item = null;
    stage.present(null, null, null);
    stage.say(make("strong", {}, title), make("span", {}, progress.text),
      make("span", { class: "muted" }, total ? advice : ""), next);
    position.textContent = "the end";
    head.replaceChildren();
    details.replaceChildren();
    showHands();
    setPhase("end");
    live.textContent = [latest.textContent ?? latest, title].filter(Boolean).join(". ");
  }

  // An output that is as high as its content has no window height to fit into.
  const tall = Math.round(Math.min(560, screen.availHeight * 0.55));
  if (globalThis.parent !== globalThis) root.style.setProperty("--dt-tall", `${tall}px`);
  const work = make("div", { class: "work" }, stage.element, head, side, actions);
  content.replaceChildren(bar, work, help, live);
  showProgress(progress);
  show(facts.at);
  return {
    receive(message) {
      if (message.kind === "picture") queue.wish();
      if (message.kind !== "news") return;
      queue.forgetAll();
      banners.say("news", message.text);
    },
    explainLate(kinds) {
      const meaning = UNSAVED[Object.keys(UNSAVED).find((kind) => kinds.includes(kind))];
      return `${meaning} ${IF_RESTARTED}`;
    },
    close() {
      turn++;
      clearTimeout(slowTimer);
      clearTimeout(busyTimer);
    },
  };
}

export default {
  render: (view) => openWidget(view, {
    name: "review", label: "Review of frames: one key per decision, ? for help", tabindex: 0,
    most: { [SIDE]: BEHIND + 1 + AHEAD }, start,
  }),
};
