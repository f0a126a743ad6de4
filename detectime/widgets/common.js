// What the explorer and the review share. There is no build step: `read_script` puts this text before that of
// the widget, and the two are one module. `openWidget` at the end puts the parts together.

const PATIENCE = 5000; // ms without a reply after which a banner says so
const IF_RESTARTED = "If the kernel was restarted, run this cell again.";
const MOST_WISHES = 200; // pictures that are asked for at once

const clamp = (value, low, high) => Math.max(low, Math.min(value, high));

// -- elements. Texts of the data are only ever text, never markup.

function make(tag, attributes = {}, ...children) {
  const isDrawn = ["svg", "rect", "text"].includes(tag);
  const element = isDrawn
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A text of the data: control characters are shown as signs. */
function clean(text) {
  return String(text ?? "").replace(/[\0-\x1f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0)));
}

/** A name, which may run from right to left beside words that do not. */
const makeName = (text) => make("bdi", {}, clean(text));

/** JupyterLab hears no shortcut where keys are kept from it, and the browser would save the page. */
function passSaveOn(event) {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "s") return;
  event.preventDefault();
  event.stopPropagation();
  event.currentTarget.parentElement?.dispatchEvent(new KeyboardEvent(event.type, event));
}

/** Keys that are typed here never reach the notebook; Tab and Ctrl+S do. */
function keepKey(event) {
  const isKept = event.key !== "Tab" && !event.ctrlKey && !event.metaKey;
  if (isKept) event.stopPropagation();
  return isKept;
}

// -- boxes, in pixels of the frame, over its picture

const makeBoxes = (attributes = {}) => make("svg", { class: "boxes", "aria-hidden": "true", ...attributes });

/** Draw `{kind, corners, label}`; `pixels` of the frame are one CSS pixel, 0: without labels. */
function drawBoxes(svg, boxes, pixels = 0) {
  const size = 12 * pixels; // of letters
  svg.replaceChildren(...boxes.flatMap(({ kind, corners: [x, y, right, bottom], label }) => {
    const place = { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
    const rects = [make("rect", { class: "halo", ...place }), make("rect", { class: kind, ...place })];
    if (!pixels || !label) return rects;
    const baseline = y > 1.4 * size ? y - 0.35 * size : y + 1.1 * size; // above the box, if there is room
    return [...rects, make("text", { x: x + 0.2 * size, y: baseline, "font-size": size }, clean(label))];
  }));
}

// -- the static picture

function makeStill(model) {
  const source = model.get("still"), text = model.get("still_text") ?? "";
  const image = source ? [make("img", { src: source, alt: text })] : [];
  return make("figure", { class: "detectime-still" }, ...image, make("figcaption", {}, text));
}

/** Hide the same figure, which the cell shows to viewers that know no widgets. */
function hideStills(key) {
  for (const still of document.querySelectorAll("[data-detectime-still]")) {
    if (key && still.dataset.detectimeStill === key) still.style.display = "none";
  }
}

// -- banners: one of the kind `late` and one `fault`; of `news` the last three

function makeBanners(onDismiss) {
  const element = make("div", { class: "banners" });
  const list = (kind) => [...element.children].filter(({ dataset }) => dataset.kind === kind);
  return {
    element,
    say(kind, sentence) {
      const text = clean(sentence), isNews = kind === "news";
      if (list(kind).some(({ firstChild }) => firstChild.textContent === text)) return;
      for (const former of isNews ? list(kind).slice(0, -2) : list(kind)) former.remove();
      const dismiss = () => {
        banner.remove();
        onDismiss();
      };
      const banner = make("div", { class: "banner", role: isNews ? "status" : "alert", "data-kind": kind },
        make("span", { dir: "auto" }, text),
        make("button", { type: "button", "aria-label": "Dismiss", onclick: dismiss }, "×"));
      element.append(banner);
    },
    drop(kind) {
      for (const banner of list(kind)) banner.remove();
    },
  };
}

// -- the link to the kernel

/** Requests with their replies; `tellLate` gets the kinds of those without one, whenever these change. */
function connect(model, receiveNews, tellLate) {
  const waiting = new Map(); // requests by id
  let id = Math.floor(Math.random() * 2 ** 32); // two views of one widget hear each other's replies
  const findLate = () => {
    tellLate([...waiting.values()].filter(({ isLate }) => isLate).map(({ kind }) => kind));
  };

  function receive(message, buffers) {
    const request = waiting.get(message.id);
    if (!request) return receiveNews(message, buffers);
    waiting.delete(message.id);
    clearTimeout(request.timer);
    if (request.isLate) findLate();
    return message.kind === "fault" ? request.reject(new Error(message.text)) : request.resolve(message);
  }

  /** False if the kernel is gone, and its channel with it. */
  function send(content) {
    try {
      model.send(content);
      return true;
    } catch {
      return false;
    }
  }

  /** The reply to a request; a fault is an error. It is sent once, however long that takes. */
  function ask(kind, content = {}) {
    return new Promise((resolve, reject) => {
      const request = { kind, resolve, reject, isLate: false };
      const expire = () => {
        request.isLate = true;
        findLate();
      };
      waiting.set(++id, request);
      if (send({ kind, id, ...content })) request.timer = setTimeout(expire, PATIENCE);
      else expire();
    });
  }

  model.on("msg:custom", receive);
  return {
    ask, send,
    close() {
      model.off("msg:custom", receive);
      for (const { timer } of waiting.values()) clearTimeout(timer);
    },
  };
}

// -- pictures: `{url, fault}` by row and side; `most` says how many of each side are kept

function keepPictures(send, most) {
  const kept = Object.fromEntries(Object.keys(most).map((side) => [side, new Map()])); // last used: last
  const awaited = new Map(); // by "row,side"
  let sent = []; // of the latest wish, what has not come yet

  function drop(side, row) {
    const picture = kept[side].get(row);
    if (picture?.url) URL.revokeObjectURL(picture.url);
    kept[side].delete(row);
  }

  function get(row, side) {
    const picture = kept[side].get(row);
    if (!picture) return undefined;
    kept[side].delete(row);
    kept[side].set(row, picture);
    return picture;
  }

  return {
    get,
    /** The picture, as soon as it is there. */
    async wait(row, side) {
      const key = `${row},${side}`;
      if (!kept[side].has(row) && !awaited.has(key)) awaited.set(key, Promise.withResolvers());
      return get(row, side) ?? awaited.get(key).promise;
    },
    receive({ row, side, fault }, buffers) {
      const key = `${row},${side}`;
      // What was not wished for is of another view, whose wish replaced those of this one.
      sent = sent.includes(key) ? sent.filter((other) => other !== key) : [];
      drop(side, row);
      const url = fault ? null : URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" }));
      const picture = { url, fault };
      kept[side].set(row, picture);
      if (kept[side].size > most[side]) drop(side, kept[side].keys().next().value);
      awaited.get(key)?.resolve(picture);
      awaited.delete(key);
    },
    /** Ask for what is missing of `[row, side]`, the most urgent first, unless just that was asked for. */
    wish(wanted) {
      const missing = wanted.filter(([row, side]) => !kept[side].has(row)).map((wish) => wish.join());
      const keys = [...new Set(missing)].slice(0, MOST_WISHES);
      const isKnown = keys[0] === sent.find((key) => keys.includes(key));
      if (isKnown && keys.every((key) => sent.includes(key))) return;
      sent = keys;
      const pairs = keys.map((key) => key.split(",").map(Number));
      send({ kind: "pictures", wanted: pairs.map(([row, side]) => ({ row, side })) });
    },
    close() {
      for (const side of Object.keys(kept)) for (const row of [...kept[side].keys()]) drop(side, row);
    },
  };
}

// -- the whole

/**
 * Show the static picture, and the live widget once the kernel answers; returns what takes it away again.
 *
 * `start` gets the facts and the parts, fills `content`, and returns `receive` for messages that are no
 * replies, `explainLate`, which says what it means that requests of these kinds are unanswered, and `close`.
 */
function openWidget({ model, el }, { name, label, tabindex, most, start }) {
  const content = make("div", {}, makeStill(model));
  const banners = makeBanners(() => root.focus({ preventScroll: true }));
  const root = make("div", {
    class: `detectime detectime-${name}`, role: "group", tabindex, "aria-label": label,
    "data-lm-suppress-shortcuts": "true", onkeydown: keepKey,
  }, banners.element, content);
  let live = null, isClosed = false;

  const kernel = connect(model, (message, buffers) => {
    if (message.kind === "picture") pictures.receive(message, buffers);
    live?.receive(message);
  }, (kinds) => {
    const meaning = live ? live.explainLate(kinds) : "If it is idle, run its cell.";
    if (kinds.length) banners.say("late", `The kernel does not answer. ${meaning}`);
    else banners.drop("late");
  });
  const pictures = keepPictures(kernel.send, most);

  hideStills(model.get("key"));
  root.addEventListener("keydown", passSaveOn);
  el.append(root);
  kernel.ask("open").then(({ facts }) => {
    if (isClosed) return;
    hideStills(model.get("key")); // which a cell may show after its widget
    live = start({ facts, root, content, kernel, pictures, banners });
  }, (error) => banners.say("fault", error.message));
  return () => {
    isClosed = true;
    live?.close();
    kernel.close();
    pictures.close();
    root.remove();
  };
}
