// The explorer of a run: its frames in a grid, filters, and sliders of pairing whose effect shows before it is written.
// The kernel holds the frames; this file asks for what is in view. `render` at the end puts the parts together.

const BLOCK = 100; // rows that are fetched at once
const BLOCKS_KEPT = 200;
const BLOCKS_IN_FLIGHT = 3;
const THUMBNAIL = 256, LARGE = 1280; // pixels: the longest side of a picture
const KEPT = { [THUMBNAIL]: 600, [LARGE]: 12 }; // pictures
const MOST_WISHES = 200;
const PATIENCE = 5000; // ms until a request counts as unanswered
const PAUSE = 40; // ms between wishes while the grid scrolls
const CELL = 168, GAP = 8, WORDS = 41; // CSS px: width of a cell, space between two, height of the words in one
const MOST_HEIGHT = 10_000_000; // CSS px that every browser can scroll

const KINDS = {
  hand: "hand", face: "face", square: "context square", bbox: "crop", other: "other detections",
  suggested: "interpolated", before: "as saved",
};
const CHANGES = {
  gained: ["gained", "+"], lost: ["lost", "−"], moved: ["moved", "↔"], relabelled: ["other class", "≠"],
  other_reason: ["other reason", "·"],
};
const COEFFICIENTS = {
  crop_coefficient: "Half side of the square around a face, in face lengths",
  wider_coefficient: "The same of the wider square of a fallback",
  crop_hand_coefficient: "Half side of the square around a hand, in hand lengths",
};
const SCORES = { min_face_score: "Ignore faces with a lower score", min_hand_score: "Ignore hands with a lower score" };
const NO_FILTER = {
  classes: [], outcomes: [], changes: [], group: "", detector: "", text: "", decided: "any", decided_by: "",
  doubt: null,
};

// -- elements. Texts of the data are only ever text, never markup.

function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "rect", "text"].includes(tag);
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const makeName = (text) => make("bdi", {}, text); // which may run from right to left
const makeDot = (isSample) => make("i", { class: isSample ? "dot sample" : "dot" });
const makeButton = (text, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, text);
const format = (number) => number.toLocaleString("en-US");
const formatDifference = (number) => (number > 0 ? "+" : number < 0 ? "−" : "±") + format(Math.abs(number));
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const toggleName = (names, name) => (names.includes(name) ? names.filter((other) => other !== name) : [...names, name]);
const nameOutcome = (name) => name.replaceAll("_", " ");
const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function drawBoxes(svg, { width, height, boxes }, pixels = 0) { // pixels: of the frame in one CSS px; 0: no labels
  svg.replaceChildren();
  if (width === null) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const { kind, corners: [x, y, right, bottom], label } of boxes) {
    const place = { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
    svg.append(make("rect", { class: "halo", ...place }), make("rect", { class: kind, ...place }));
    if (!pixels || !label) continue;
    const size = 12 * pixels, above = y > 1.4 * size;
    const baseline = above ? y - 0.35 * size : y + 1.1 * size;
    svg.append(make("text", { x: x + 0.2 * size, y: baseline, "font-size": size }, label));
  }
}

function makePlace(name) { // of a picture with boxes, or of what is wrong with it
  return make("div", { class: name }, make("img", { alt: "", draggable: "false", hidden: true }),
    make("svg", { class: "boxes", "aria-hidden": "true" }), make("p", { class: "fault", hidden: true }));
}

function fillThumbnail(thumbnail, row, picture) {
  thumbnail.dataset.row = row.row;
  drawBoxes(thumbnail.querySelector("svg"), row);
  showPicture(thumbnail, picture);
}

function showPicture(place, picture) {
  const [image, svg, fault] = ["img", "svg", ".fault"].map((selector) => place.querySelector(selector));
  if (picture?.url && image.src !== picture.url) image.src = picture.url;
  image.hidden = !picture?.url;
  svg.toggleAttribute("hidden", Boolean(picture?.fault));
  fault.hidden = !picture?.fault;
  fault.textContent = fault.title = picture?.fault ?? "";
}

// -- messages

function connect(model, tellLate, receiveNews) {
  const waiting = new Map();
  let id = Math.floor(Math.random() * 2 ** 32); // two views of one widget hear each other's replies

  function receive(message, buffers) {
    const request = waiting.get(message.id);
    if (!request) return receiveNews(message, buffers);
    waiting.delete(message.id);
    clearTimeout(request.timer);
    tellLate([...waiting.values()].some(({ late }) => late));
    if (message.kind === "fault") request.reject(new Error(message.text));
    else request.resolve(message);
  }

  function send(content) {
    try {
      model.send(content);
    } catch (error) { // as of a kernel that ended; the request stays unanswered
      console.debug(error);
    }
  }

  model.on("msg:custom", receive);
  return {
    send,
    ask: (kind, content = {}) => new Promise((resolve, reject) => {
      const request = { resolve, reject, late: false };
      request.timer = setTimeout(() => { request.late = true; tellLate(true); }, PATIENCE);
      waiting.set(++id, request);
      send({ kind, id, ...content });
    }),
    close() {
      model.off("msg:custom", receive);
      for (const { timer } of waiting.values()) clearTimeout(timer);
      waiting.clear();
    },
  };
}

/** One request at a time: what is wished meanwhile waits, and only the newest of it is sent. */
function keepNewest(work) {
  let isRunning = false, next = null;
  return async function request(wish) {
    next = { wish };
    if (isRunning) return;
    isRunning = true;
    while (next) {
      const newest = next.wish;
      next = null;
      await work(newest);
    }
    isRunning = false;
  };
}

function keepPictures(send) {
  const kept = { [THUMBNAIL]: new Map(), [LARGE]: new Map() }; // by row; what was used last is last
  let sent = [];

  function drop(side, row) {
    const picture = kept[side].get(row);
    if (picture?.url) URL.revokeObjectURL(picture.url);
    kept[side].delete(row);
  }

  return {
    get(row, side) {
      const picture = kept[side].get(row);
      if (picture) kept[side].delete(row), kept[side].set(row, picture);
      return picture;
    },
    receive({ row, side, fault }, buffers) {
      drop(side, row);
      if (!sent.includes(`${row},${side}`)) sent = []; // a wish of another view, which replaced those of this one
      const url = fault === null ? URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" })) : null;
      kept[side].set(row, { url, fault });
      if (kept[side].size > KEPT[side]) drop(side, kept[side].keys().next().value);
      return kept[side].get(row);
    },
    wish(wanted) { // the first is the most urgent
      const keys = new Set(wanted.filter(([row, side]) => !kept[side].has(row)).map((wish) => wish.join()));
      const missing = [...keys].slice(0, MOST_WISHES);
      if (missing.every((key) => sent.includes(key)) && missing[0] === sent.find((key) => keys.has(key))) return;
      sent = missing;
      const pairs = missing.map((key) => key.split(",").map(Number));
      send({ kind: "pictures", wanted: pairs.map(([row, side]) => ({ row, side })) });
    },
    close() {
      for (const side of [THUMBNAIL, LARGE]) for (const row of [...kept[side].keys()]) drop(side, row);
    },
  };
}

// -- filters

function makeFilters(state, change) {
  const field = (label, control) => {
    control.setAttribute("aria-label", label); // the text of the element is that of its options too
    return make("label", { class: "field" }, make("span", { class: "caption" }, label), control);
  };
  const set = (values) => { Object.assign(state.filter, values); change(); };
  const toggle = (key, name) => set({ [key]: toggleName(state.filter[key], name) });
  const choose = (options, onchange) => make("select", { onchange: (event) => onchange(event.target.value) },
    ...options.map(([value, text]) => make("option", { value }, text)));
  const { facts } = state;

  const outcomes = facts.outcomes.map(({ name, sentence, is_sample }) => {
    const button = makeButton("", () => toggle("outcomes", name), { title: sentence, class: "chip" });
    button.append(makeDot(is_sample), nameOutcome(name), make("b"));
    return { name, button };
  });
  const classes = facts.classes.map((name) => {
    const box = make("input", { type: "checkbox", onchange: () => toggle("classes", name) });
    const counts = make("span", { class: "counts" });
    return { name, box, counts, item: make("label", { title: name }, box, makeName(name), counts) };
  });
  const chosen = makeName("");
  const summary = make("summary", {}, chosen);
  const list = make("div", { class: "list", tabindex: "-1", role: "group", "aria-label": "Classes" },
    make("p", { class: "muted" }, "samples of frames"), ...classes.map(({ item }) => item));
  const menu = make("details", {
    class: "menu",
    onfocusout: (event) => { if (!menu.contains(event.relatedTarget)) menu.open = false; },
    onkeydown: (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      event.stopPropagation();
      menu.open = false;
      summary.focus();
    },
  }, summary, list);

  const listNames = (names) => [["", "any"], ...names.map((name) => [name, name])];
  const write = (key) => make("input", { type: "search", oninput: (event) => set({ [key]: event.target.value }) });
  const group = facts.groups ? choose(listNames(facts.groups), (value) => set({ group: value })) : write("group");
  const detector = choose(listNames(facts.detectors), (value) => set({ detector: value }));
  const text = write("text");
  const decided = choose([
    ["any", "any"], ["yes", "decided"], ["no", "not decided"], ["new", "not yet in hands.json"],
    ...facts.reviewers.map((name) => [`by ${name}`, `by ${name}`]),
  ], (value) => {
    const by = value.startsWith("by ") ? value.slice(3) : "";
    set({ decided: by ? "yes" : value, decided_by: by });
  });
  const sort = choose(facts.sorts.map(({ name, title }) => [name, title]), (name) => {
    Object.assign(state, { sort: name, descending: name === "doubt" }); // the most doubtful first
    change();
  });
  const direction = makeButton("", () => { state.descending = !state.descending; change(); }, { class: "direction" });

  const ends = ["least", "most"].map((end, k) => make("input", {
    type: "range", min: 0, max: 1, step: 0.01, value: k, "aria-label": `doubt, at ${end}`, oninput: () => readDoubt(k),
  }));
  const doubtText = make("span", { class: "caption" });
  const doubt = make("div", { class: "field wide" }, doubtText, make("span", { class: "range" }, ...ends));
  function readDoubt(moved) { // one end stops at the other
    const [low, high] = ends.map(({ valueAsNumber }) => valueAsNumber);
    if (low > high) ends[moved].value = moved ? low : high;
    const values = ends.map(({ valueAsNumber }) => valueAsNumber);
    set({ doubt: isSame(values, [0, 1]) ? null : values });
  }

  const clear = makeButton("Clear", () => { state.filter = structuredClone(NO_FILTER); change(); });
  sort.setAttribute("aria-label", "Sort by");
  const caption = (words) => make("span", { class: "caption", "aria-hidden": "true" }, words);
  const chips = make("div", { class: "chips line-of-chips", role: "group", "aria-label": "Outcomes" });
  chips.append(...outcomes.map(({ button }) => button));
  const element = make("div", { class: "filters", role: "group", "aria-label": "Filters" }, chips,
    make("div", { class: "fields" },
      make("div", { class: "field" }, caption("Class"), menu), field("Group", group), field("Detector", detector),
      field("Decisions", decided), field("Text", text), doubt,
      make("div", { class: "field wide" }, caption("Sort by"), make("span", { class: "pair" }, sort, direction))));

  function update() { // from the state, and from what was counted
    const { filter, counted } = state;
    outcomes.forEach(({ name, button }, k) => {
      const count = counted?.outcomes[name] ?? 0, isChosen = filter.outcomes.includes(name);
      button.setAttribute("aria-pressed", isChosen);
      button.lastChild.textContent = format(count);
      button.hidden = !count && !isChosen && !state.facts.outcomes[k].count;
    });
    for (const { name, box, counts } of classes) {
      const found = counted?.classes[name];
      box.checked = filter.classes.includes(name);
      counts.textContent = found ? `${format(found.samples)} of ${format(found.frames)}` : "";
    }
    const count = filter.classes.length;
    chosen.textContent = count === 0 ? "any" : count === 1 ? filter.classes[0] : `${count} classes`;
    summary.setAttribute("aria-label", `Class: ${chosen.textContent}`);
    const shown = { group, detector, text };
    for (const [key, control] of Object.entries(shown)) if (control.value !== filter[key]) control.value = filter[key];
    decided.value = filter.decided_by ? `by ${filter.decided_by}` : filter.decided;
    const isReady = state.facts.doubt_ready, [low, high] = filter.doubt ?? [0, 1];
    ends.forEach((end, k) => Object.assign(end, { value: k ? high : low, disabled: !isReady }));
    doubt.style.setProperty("--low", low), doubt.style.setProperty("--high", high);
    doubtText.textContent = !isReady ? "Doubt: being found …"
      : `Doubt: ${filter.doubt ? `${low.toFixed(2)} to ${high.toFixed(2)}` : "any"}`;
    for (const option of sort.options) option.disabled = option.value === "doubt" && !isReady;
    sort.value = state.sort;
    direction.textContent = state.descending ? "↓" : "↑";
    direction.title = state.descending ? "Descending: the largest first" : "Ascending: the smallest first";
    direction.setAttribute("aria-label", direction.title);
    clear.disabled = isSame(filter, NO_FILTER);
  }
  return { element, clear, update };
}

// -- sliders of pairing

function makePairing(state, change, apply) {
  const { facts } = state;
  const set = (key, value) => { state.settings[key] = value; change(true); };

  function makeSlider(key, hint, isScore) {
    const [low, high, step] = facts.ranges[key], saved = facts.settings[key] ?? low;
    const limits = { min: Math.min(low, saved), max: Math.max(high, saved), step };
    const range = make("input", { type: "range", ...limits, "aria-label": key, title: hint,
      oninput: () => set(key, isScore && range.valueAsNumber <= limits.min ? null : range.valueAsNumber) });
    const number = make("input", { type: "number", ...limits, step: "any", "aria-label": `${key}, as a number`,
      placeholder: isScore ? "off" : "", onblur: () => update(), oninput: () => {
        const value = number.valueAsNumber; // NaN: nothing there, which turns a score off, or no number
        if (isScore && (value <= limits.min || (Number.isNaN(value) && !number.validity.badInput))) set(key, null);
        else if (number.validity.valid && !Number.isNaN(value)) set(key, value);
      } });
    const before = make("span", { class: "saved muted" });
    const label = make("span", { title: hint }, key);
    const element = make("div", { class: "slider" }, label, range, number, before);
    function update() {
      const value = state.settings[key], isDisabled = key === "wider_coefficient" && state.settings.fallback === "none";
      range.value = value ?? limits.min;
      range.setAttribute("aria-valuetext", value ?? "off");
      if (!number.matches(":focus")) number.value = value ?? "";
      range.disabled = number.disabled = isDisabled;
      element.classList.toggle("changed", value !== state.facts.settings[key]);
      before.textContent = isDisabled ? "needs a fallback" : `saved ${state.facts.settings[key] ?? "off"}`;
    }
    return { element, update };
  }

  const sliders = [
    ...Object.entries(COEFFICIENTS).map(([key, hint]) => makeSlider(key, hint, false)),
    ...Object.entries(SCORES).map(([key, hint]) => makeSlider(key, hint, true)),
  ];
  const fallback = make("select", { "aria-label": "fallback", onchange: () => set("fallback", fallback.value) },
    ...facts.fallbacks.map((name) => make("option", { value: name }, name)));
  const fallbackSaved = make("span", { class: "saved muted" });
  const fallbackRow = make("div", { class: "slider" },
    make("span", { title: "For frames without a pair" }, "fallback"), fallback, fallbackSaved);

  const samples = make("b"), difference = make("span", { class: "muted" });
  const brief = make("span", { class: "muted brief" });
  const toggles = Object.entries(CHANGES).map(([name, [title, sign]]) => {
    const button = makeButton(`${sign} ${title}`, () => {
      state.filter.changes = toggleName(state.filter.changes, name);
      change();
    }, { class: `chip ${name}` });
    button.append(make("b"));
    return { name, button };
  });
  const body = make("tbody");
  const cells = (tag, texts) => texts.map((text) => make(tag, tag === "th" ? { scope: "col" } : {}, text));
  const table = make("table", {},
    make("caption", { class: "unseen" }, "Frames by outcome, under these settings and as saved"),
    make("thead", {}, make("tr", {}, ...cells("th", ["outcome", "now", "saved", "change"]))), body);

  const applying = makeButton("Apply…", () => confirm(true), { class: "primary" });
  const back = makeButton("Back to saved", () => { state.settings = { ...state.facts.settings }; change(true); });
  const question = make("span"), sure = makeButton("Apply", () => { confirm(false); apply(); }, { class: "primary" });
  const cancel = makeButton("Cancel", () => { confirm(false); applying.focus(); });
  const confirmation = make("div", {
    class: "confirmation", role: "group", "aria-label": "Confirmation", hidden: true,
    onkeydown: ({ key }) => { if (key === "Escape") cancel.click(); },
  }, question, sure, cancel);
  const reason = make("span", { class: "muted" });
  const buttons = make("div", { class: "actions" }, applying, back, reason);
  const summary = make("summary", {}, "Pairing ", brief);
  const chips = make("div", { class: "chips", role: "group", "aria-label": "Changes against the saved run" });
  chips.append(...toggles.map(({ button }) => button));
  const controls = make("div", { class: "controls", role: "group", "aria-label": "Settings of pairing" });
  controls.append(...sliders.map((slider) => slider.element), fallbackRow, buttons, confirmation);
  const effect = make("div", { class: "effect" }, make("p", {}, samples, " ", difference), chips, table);
  const element = make("details", { class: "pairing" }, summary, make("div", { class: "panel" }, controls, effect));

  function listChanges() {
    const { settings, facts: { settings: saved } } = state;
    const keys = Object.keys(saved).filter((key) => settings[key] !== saved[key]);
    return keys.map((key) => `${key} = ${settings[key] ?? "off"}`);
  }

  function confirm(isAsking) {
    confirmation.hidden = !isAsking;
    buttons.hidden = isAsking;
    question.textContent = `This writes hands.json with ${listChanges().join(", ")}.`;
    if (isAsking) cancel.focus(); // a key that is held down applies nothing
    else if (confirmation.contains(document.activeElement)) summary.focus();
  }

  function update() {
    const { counted, facts: now } = state, changed = listChanges();
    for (const slider of sliders) slider.update();
    fallback.value = state.settings.fallback;
    fallbackSaved.textContent = `saved ${now.settings.fallback}`;
    fallbackRow.classList.toggle("changed", state.settings.fallback !== now.settings.fallback);
    applying.disabled = !changed.length || !now.can_apply || state.isApplying;
    back.disabled = !changed.length;
    reason.textContent = now.can_apply ? "" : now.apply_text;
    if (!changed.length && !confirmation.hidden) confirm(false);
    if (!confirmation.hidden) question.textContent = `This writes hands.json with ${changed.join(", ")}.`;
    if (!counted) return;
    const more = formatDifference(counted.samples - now.samples), sum = `${format(counted.samples)} samples`;
    samples.textContent = sum;
    difference.textContent = `saved ${format(now.samples)} (${more})`;
    brief.textContent = changed.length ? `${changed.join(", ")}: ${sum} (${more})` : "as saved";
    for (const { name, button } of toggles) {
      button.lastChild.textContent = counted.changes ? format(counted.changes[name] ?? 0) : "–";
      button.disabled = !counted.changes;
      button.setAttribute("aria-pressed", state.filter.changes.includes(name));
    }
    const present = now.outcomes.filter(({ name, count }) => count || counted.outcomes[name]);
    body.replaceChildren(...present.map(({ name, count, is_sample }) => {
      const found = counted.outcomes[name] ?? 0, isEqual = found === count;
      const head = make("th", { scope: "row" }, makeDot(is_sample), nameOutcome(name));
      const values = cells("td", [format(found), format(count), isEqual ? "" : formatDifference(found - count)]);
      return make("tr", { class: isEqual ? "muted" : null }, head, ...values);
    }));
  }
  return { element, update };
}

// -- the virtual grid: of all rows only those in view are elements

function makeGrid({ ask, pictures, open, wish, tellFault, selectAgain }) {
  const space = make("div", { class: "space", role: "presentation" });
  const scroller = make("div", {
    class: "grid", role: "grid", "aria-label": "Frames",
    onscroll: followScroll, onkeydown: press, onclick: click, onfocusin: followFocus,
  }, space);
  const empty = make("p", { class: "empty muted", hidden: true }, "No frame fits these filters.");
  const element = make("div", { class: "frames" }, scroller, empty);
  const lines = new Map(); // elements of lines of cells, by number
  let shown = { number: null, total: 0, blocks: new Map() };
  let latest = shown; // which shows when its rows are there
  let width = 0, view = 0, columns = 2, lineHeight = 1, lineCount = 0, full = 0, virtual = 0;
  let top = 0; // CSS px of all lines that are above the view
  let placed = 0; // where the scroll bar is: the same, unless there are more pixels than a browser can scroll
  let direction = 1, active = 0, flying = 0, settling = null;

  const getRow = (index) => shown.blocks.get(Math.floor(index / BLOCK))?.[index % BLOCK];

  async function load(selection, number) {
    selection.blocks.set(number, null); // asked for
    flying += 1;
    try {
      const from = number * BLOCK, to = Math.min(selection.total, from + BLOCK);
      const reply = await ask("rows", { selection: selection.number, from, to });
      flying -= 1;
      selection.blocks.delete(number);
      if (!reply.stale) selection.blocks.set(number, reply.rows); // as the newest
      else if (selection === latest) return selectAgain();
      if (selection.blocks.size > BLOCKS_KEPT) selection.blocks.delete(selection.blocks.keys().next().value);
      if (selection === shown) draw();
    } catch (error) { // asked for again at the next scroll
      flying -= 1;
      selection.blocks.delete(number);
      tellFault(error.message);
    }
  }

  function listBlocks(from, to) {
    const [first, last] = [from, to].map((index) => Math.floor(index / BLOCK));
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, k) => first + k);
  }

  function fetchMissing() { // in view first, then one screen ahead
    if (!shown.total) return;
    const [from, to] = listView(0), [fromAhead, toAhead] = listView(direction);
    for (const number of [...listBlocks(from, to), ...listBlocks(fromAhead, toAhead)]) {
      if (!shown.blocks.has(number) && flying < BLOCKS_IN_FLIGHT) load(shown, number);
    }
  }

  function listView(screens) { // first and last index of what is in view, or so many screens further
    const start = top + screens * view, ends = [start, start + view - 1];
    const [first, last] = ends.map((y) => clamp(Math.floor(y / lineHeight), 0, lineCount - 1));
    return [first * columns, Math.min(shown.total, (last + 1) * columns) - 1];
  }

  async function show({ selection: number, total }, keepsPlace) {
    const next = { number, total, blocks: new Map() };
    latest = next;
    if (total) { // the old rows stay until the new ones are there, so that nothing flickers
      const screen = [0, Math.ceil(view / lineHeight + 1) * columns - 1];
      const [from, to] = (keepsPlace ? listView(0) : screen).map((index) => clamp(index, 0, total - 1));
      await Promise.all(listBlocks(from, to).map((block) => load(next, block)));
    }
    if (latest !== next) return;
    shown = next;
    if (!keepsPlace) top = active = 0;
    active = clamp(active, 0, Math.max(0, total - 1));
    empty.hidden = total > 0;
    measure();
  }

  function measure() {
    if (!scroller.clientWidth) return; // not on the page now
    const room = scroller.clientWidth, was = columns;
    view = scroller.clientHeight;
    columns = Math.max(2, Math.floor((room - GAP) / (CELL + GAP)));
    width = Math.floor((room - GAP) / columns) - GAP;
    lineHeight = Math.round(width * 0.75) + WORDS + GAP;
    if (columns !== was) {
      const hadFocus = scroller.matches(":focus-within");
      for (const line of lines.values()) line.remove();
      lines.clear();
      top = Math.floor(active / columns) * lineHeight;
      if (hadFocus) queueMicrotask(() => focus(active));
    }
    lineCount = Math.ceil(shown.total / columns);
    full = lineCount * lineHeight + GAP;
    virtual = Math.min(full, MOST_HEIGHT);
    space.style.height = `${virtual}px`;
    scroller.style.setProperty("--columns", columns);
    scroller.style.setProperty("--picture", `${Math.round(width * 0.75)}px`);
    scroller.setAttribute("aria-rowcount", lineCount);
    scroller.setAttribute("aria-colcount", columns);
    place();
    draw();
  }

  function place() { // puts the scroll bar where it belongs
    top = clamp(top, 0, Math.max(0, full - view));
    const end = virtual - view;
    scroller.scrollTop = virtual === full ? top : (top * end) / (full - view);
    placed = scroller.scrollTop;
  }

  function followScroll() {
    const at = scroller.scrollTop, moved = at - placed, end = virtual - view;
    if (!moved || !scroller.clientWidth) return;
    direction = Math.sign(moved);
    placed = at;
    if (virtual === full) top = at;
    else if (at <= 0) top = 0;
    else if (at >= end - 1) top = full - view;
    else if (Math.abs(moved) < view) top += moved; // by wheel or finger, however many lines there are
    else top = (at * (full - view)) / end; // by the scroll bar
    top = clamp(top, 0, Math.max(0, full - view));
    if (virtual !== full) clearTimeout(settling), settling = setTimeout(() => { place(); draw(); }, 200);
    if (!scroller.matches(":focus-within")) active = clamp(Math.ceil(top / lineHeight) * columns, 0, shown.total - 1);
    draw();
  }

  function draw() {
    if (!width) return;
    const [from, to] = listView(0), wanted = new Set();
    if (shown.total) {
      const [first, last] = [from, to].map((index) => Math.floor(index / columns));
      for (let line = Math.max(0, first - 1); line <= Math.min(lineCount - 1, last + 1); line++) wanted.add(line);
      wanted.add(Math.floor(active / columns)); // which has or gets the focus
    }
    for (const [number, line] of lines) if (!wanted.has(number)) line.remove(), lines.delete(number);
    for (const number of [...wanted].sort((one, other) => one - other)) {
      if (!lines.has(number)) lines.set(number, space.appendChild(makeLine(number)));
      const line = lines.get(number);
      line.style.transform = `translateY(${Math.round(number * lineHeight - top + placed)}px)`;
      [...line.children].forEach((cell, column) => fillCell(cell, number * columns + column));
    }
    fetchMissing();
    wish();
  }

  function makeLine(number) {
    const line = make("div", { class: "line", role: "row", "aria-rowindex": number + 1 });
    for (let column = 0; column < columns; column++) {
      line.append(make("div", { class: "cell", role: "gridcell", "aria-colindex": column + 1, tabindex: "-1" },
        makePlace("thumbnail"), make("span", { class: "badge", hidden: true }),
        make("span", { class: "words" }, makeName(""), make("span", { class: "decision" })),
        make("span", { class: "words muted" }, makeDot(false), make("span"), make("span", { class: "doubt" }))));
    }
    return line;
  }

  function fillCell(cell, index) {
    const row = getRow(index);
    cell.tabIndex = index === active ? 0 : -1;
    cell.hidden = index >= shown.total;
    if (cell.filled === row && cell.dataset.index === String(index)) return;
    cell.dataset.index = index;
    cell.filled = row;
    cell.classList.toggle("waiting", !row);
    const [thumbnail, badge, { children: [name, decision] }, { children: [dot, outcome, doubt] }] = cell.children;
    const change = CHANGES[row?.change];
    fillThumbnail(thumbnail, row ?? { row: "", width: null }, row && pictures.get(row.row, THUMBNAIL));
    badge.hidden = !change;
    badge.className = `badge ${row?.change}`;
    badge.textContent = change ? `${change[1]} ${change[0]}` : "";
    name.textContent = row?.class_name ?? "";
    decision.textContent = row?.decision ? nameOutcome(row.decision) : "";
    dot.className = row?.is_sample ? "dot sample" : "dot";
    outcome.textContent = row ? nameOutcome(row.outcome) : "";
    doubt.textContent = (row?.doubt ?? null) === null ? "" : `doubt ${row.doubt.toFixed(2)}`;
    cell.title = row ? `${row.frame_path}\n${row.outcome_sentence}` : "";
    const words = [name, outcome, badge, doubt, decision].map(({ textContent }) => textContent).filter(Boolean);
    cell.setAttribute("aria-label", row ? [...words, row.frame_path].join(", ") : "being fetched");
  }

  function focus(index) {
    active = clamp(index, 0, Math.max(0, shown.total - 1));
    const line = Math.floor(active / columns), start = line * lineHeight;
    if (start < top || start + lineHeight + GAP > top + view) {
      direction = start < top ? -1 : 1;
      top = start < top ? start : start + lineHeight + GAP - view;
      place();
    }
    draw();
    lines.get(line)?.children[active % columns].focus({ preventScroll: true });
  }

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.matches(".cell")) return;
    const page = Math.max(1, Math.floor(view / lineHeight)) * columns;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page,
      Home: -Infinity, End: Infinity,
    };
    if (event.key in steps) {
      const index = active + steps[event.key];
      const isOff = Math.abs(steps[event.key]) === columns && (index < 0 || Math.floor(index / columns) >= lineCount);
      focus(isOff ? active : index);
    } else if (event.key === "Enter" || event.key === " ") openAt(active);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function followFocus({ target }) {
    if (!target.matches(".cell") || Number(target.dataset.index) === active) return;
    active = Number(target.dataset.index);
    draw();
  }

  function click(event) {
    const cell = event.target.closest(".cell");
    if (cell) openAt(Number(cell.dataset.index));
  }

  async function openAt(index) {
    active = index;
    const row = await fetchRow(index);
    if (row && active === index) open(row, index);
  }

  async function fetchRow(index) {
    if (!getRow(index)) await load(shown, Math.floor(index / BLOCK));
    return getRow(index);
  }

  const listRows = (screens) => {
    const [from, to] = listView(screens);
    return Array.from({ length: to - from + 1 }, (_, k) => getRow(from + k)).filter(Boolean);
  };
  return {
    element, focus, show, measure, getRow, fetchRow,
    count: () => shown.total,
    listWishes: () => (shown.total ? [...listRows(0), ...listRows(direction)].map(({ row }) => [row, THUMBNAIL]) : []),
    close: () => clearTimeout(settling),
  };
}

// -- one frame, large

function makeLargeView({ ask, pictures, grid, wish, tellFault, close }) {
  const place = make("span", { class: "muted position" }), spoken = make("span", { class: "unseen", role: "status" });
  const previous = makeButton("‹", () => step(-1), { "aria-label": "Previous frame", title: "Previous frame (←)" });
  const next = makeButton("›", () => step(1), { "aria-label": "Next frame", title: "Next frame (→)" });
  const path = make("bdi", { class: "path" });
  const stage = makePlace("stage"), image = stage.querySelector("img");
  const legend = make("ul", { class: "legend", "aria-label": "Boxes" });
  const kind = makeName(""), words = make("ul", { class: "lines", "aria-label": "About this frame" });
  const strip = make("div", {
    class: "strip", role: "listbox", "aria-orientation": "horizontal", "aria-label": "Frames of the same group",
    onkeydown: pressInStrip,
    onclick: ({ target }) => { const option = target.closest("[role=option]"); if (option) goTo(option.row, index); },
  });
  const closing = makeButton("Close", () => close(), { title: "Close (Escape)" });
  const about = make("div", { class: "about" }, make("p", { class: "kind" }, kind), legend, words);
  const element = make("section", {
    class: "large", tabindex: "-1", hidden: true, "aria-label": "Frame", onkeydown: press,
  }, make("div", { class: "bar" }, previous, next, place, path, spoken, closing),
  make("div", { class: "sides" }, stage, about), strip);
  let row = null, index = 0, frame = null;

  const request = keepNewest(async (wanted) => {
    try {
      const reply = await ask("frame", { row: wanted });
      if (row?.row === wanted && !element.hidden) showFrame(reply);
    } catch (error) {
      tellFault(error.message);
    }
  });

  function goTo(wanted, at) { // a row, and the place in the selection
    [row, index] = [wanted, at];
    frame = frame?.row === row.row ? frame : null;
    const count = grid.count(), isHere = grid.getRow(index)?.row === row.row;
    place.textContent = `${isHere ? "" : "near "}${format(Math.min(index + 1, count))} of ${format(count)}`;
    spoken.textContent = `${place.textContent}: ${row.class_name}, ${nameOutcome(row.outcome)}`;
    previous.disabled = index <= 0;
    next.disabled = index >= count - 1;
    path.textContent = path.title = image.alt = row.frame_path;
    kind.textContent = row.class_name;
    stage.style.aspectRatio = row.width ? `${row.width} / ${row.height}` : "4 / 3";
    if (!frame) words.replaceChildren(make("li", {}, nameOutcome(row.outcome)));
    refresh();
    markCurrent();
    wish();
    request(row.row);
  }

  function refresh() { // the thumbnail stands in for the large picture until that is there
    showPicture(stage, pictures.get(row.row, LARGE) ?? pictures.get(row.row, THUMBNAIL));
    const shown = frame ?? row, pixels = Math.max(shown.width / stage.clientWidth, shown.height / stage.clientHeight);
    drawBoxes(stage.querySelector("svg"), shown, frame ? pixels : 0);
    legend.replaceChildren(...Object.entries(KINDS).flatMap(([kind, title]) => {
      const count = shown.boxes.filter((box) => box.kind === kind).length;
      const line = make("rect", { class: kind, x: 2, y: 2, width: 20, height: 12 });
      const sign = make("svg", { class: "boxes", viewBox: "0 0 24 16", "aria-hidden": "true" }, line);
      return count ? [make("li", {}, sign, count > 1 ? `${title} × ${count}` : title)] : [];
    }));
  }

  function showFrame(reply) {
    frame = { ...reply.frame, row: row.row };
    stage.style.aspectRatio = frame.width ? `${frame.width} / ${frame.height}` : "4 / 3";
    words.replaceChildren(...frame.lines.map((line) => make("li", {}, makeName(line))));
    refresh();
    const hadFocus = strip.contains(document.activeElement);
    strip.replaceChildren(...reply.strip.map((item) => {
      const thumbnail = makePlace("thumbnail");
      fillThumbnail(thumbnail, item, pictures.get(item.row, THUMBNAIL));
      const label = `${item.frame_id ?? item.frame_path}, ${item.class_name}, ${nameOutcome(item.outcome)}`;
      const option = make("div", { role: "option", "aria-label": label, title: item.frame_path }, thumbnail,
        make("span", { class: "words muted" }, makeDot(item.is_sample), String(item.frame_id ?? "")));
      option.row = item;
      return option;
    }));
    markCurrent();
    if (hadFocus) strip.querySelector("[aria-selected=true]")?.focus({ preventScroll: true });
    wish();
  }

  function markCurrent() {
    for (const option of strip.children) {
      const isCurrent = option.row.row === row.row;
      option.setAttribute("aria-selected", isCurrent);
      option.tabIndex = isCurrent ? 0 : -1;
      if (isCurrent) strip.scrollLeft = option.offsetLeft - (strip.clientWidth - option.offsetWidth) / 2;
    }
  }

  async function step(by) { // in the selection
    const wanted = index + by;
    if (wanted < 0 || wanted >= grid.count()) return;
    index = wanted;
    const found = await grid.fetchRow(wanted);
    if (found && index === wanted && !element.hidden) goTo(found, wanted);
  }

  function pressInStrip(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const options = [...strip.children], at = options.findIndex((option) => option.row.row === row.row);
    const option = options[clamp(at + by, 0, options.length - 1)];
    if (option.row.row === row.row) return;
    goTo(option.row, index);
    option.focus({ preventScroll: true });
  }

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  return {
    element, refresh, goTo,
    getIndex: () => index,
    update() { // the same frame, as other settings have it
      if (!element.hidden) goTo(row, clamp(index, 0, Math.max(0, grid.count() - 1)));
    },
    receive(number) { if (!element.hidden && row.row === number) refresh(); },
    listWishes() {
      const beside = [1, -1].map((by) => grid.getRow(index + by)).filter(Boolean);
      const options = [...strip.children], at = options.findIndex((option) => option.row.row === row.row);
      const near = options.map((option, k) => [Math.abs(k - at), option.row.row]).sort(([one], [other]) => one - other);
      const thumbnails = near.map(([, number]) => [number, THUMBNAIL]);
      return [[row.row, LARGE], ...thumbnails, ...beside.map((other) => [other.row, LARGE])];
    },
  };
}

// -- the whole

function makeStill(model) {
  const text = model.get("still_text"), source = model.get("still");
  const image = source ? [make("img", { src: source, alt: text })] : [];
  return make("figure", { class: "detectime-still" }, ...image, make("figcaption", {}, text));
}

function hideStills(key) { // the same figure, which the cell shows to viewers that know no widgets
  if (!key) return;
  const stills = document.querySelectorAll(`[data-detectime-still="${CSS.escape(key)}"]`);
  for (const still of stills) still.style.display = "none";
}

export default {
  render({ model, el }) {
    const banner = make("div", { role: "alert", hidden: true });
    const faultText = make("span"), fault = make("div", { role: "alert", hidden: true }, faultText,
      makeButton("×", () => { fault.hidden = true; }, { "aria-label": "Dismiss" }));
    const content = make("div", {}, makeStill(model));
    const root = make("div", {
      class: "detectime detectime-explorer", role: "group", tabindex: "-1", "aria-label": "Explorer of frames",
      "data-lm-suppress-shortcuts": "true", onkeydown: keepKeys,
    }, banner, fault, content);
    const pictures = keepPictures((message) => connection.send(message));
    const connection = connect(model, tellLate, receiveNews);
    const { ask } = connection;
    let live = null; // once the kernel answered
    let isClosed = false;

    function tellLate(isLate) {
      const what = live ? "It is busy or gone; what you see is what it sent last." : "If it is idle, run its cell.";
      if (isLate && banner.hidden) banner.textContent = `The kernel does not answer. ${what}`;
      banner.hidden = !isLate;
    }

    function tellFault(text) {
      faultText.textContent = text;
      fault.hidden = !text;
    }

    function receiveNews(message, buffers) {
      if (message.kind === "picture") {
        const picture = pictures.receive(message, buffers), selector = `.thumbnail[data-row="${message.row}"]`;
        const places = message.side === THUMBNAIL ? root.querySelectorAll(selector) : [];
        for (const place of places) showPicture(place, picture);
        live?.large.receive(message.row);
        live?.wish();
      } else if (message.kind === "doubt" && live) {
        Object.assign(live.state.facts, message.facts);
        live.update();
      }
    }

    function keepKeys(event) { // typing here never reaches the notebook; Tab and Ctrl+S do
      if (event.key !== "Tab" && !event.ctrlKey && !event.metaKey) event.stopPropagation();
    }

    hideStills(model.get("key"));
    el.append(root);
    ask("open").then(({ facts }) => {
      if (isClosed) return;
      hideStills(model.get("key"));
      live = start({ facts, ask, pictures, tellFault, content });
    }, (error) => tellFault(error.message));
    return () => {
      isClosed = true;
      live?.close();
      connection.close();
      pictures.close();
      root.remove();
    };
  },
};

/** Show the live interface in place of the static picture. */
function start({ facts, ask, pictures, tellFault, content }) {
  const state = {
    facts, settings: { ...facts.settings },
    filter: structuredClone(NO_FILTER), sort: facts.sorts[0].name, descending: false,
    counted: null, // what the kernel counted last
    isApplying: false,
  };
  const title = make("p", { class: "title" }), found = make("p", { role: "status" });
  const note = make("p", { class: "note", role: "status", hidden: true });
  let isRestart = true, sent = null, wishing = null, again = null;

  function change(keepsPlace = false) {
    isRestart ||= !keepsPlace;
    const isSaved = isSame(state.settings, state.facts.settings);
    if (!keepsPlace) close(false);
    if (isSaved) state.filter.changes = []; // nothing differs from itself
    update();
    const settings = isSaved ? null : { ...state.settings };
    select({ filter: structuredClone(state.filter), sort: state.sort, descending: state.descending, settings });
  }

  const select = keepNewest(async (query) => {
    if (isSame(query, sent)) return;
    sent = query;
    found.classList.add("busy");
    try {
      const reply = await ask("select", query);
      state.counted = reply;
      tellFault("");
      update();
      const showing = grid.show(reply, !isRestart); // asks for rows now, before the next selection replaces this one
      isRestart = false;
      showing.then(() => large.update());
    } catch (error) {
      tellFault(error.message);
      sent = null;
    } finally {
      found.classList.remove("busy");
    }
  });

  function selectAgain() { // another view of this widget selected something else
    clearTimeout(again);
    again = setTimeout(() => { sent = null; change(true); }, 300);
  }

  function wish() { // also once scrolling pauses for a moment only
    wishing ??= setTimeout(() => {
      wishing = null;
      pictures.wish(large.element.hidden ? grid.listWishes() : large.listWishes());
    }, PAUSE);
  }

  async function apply() {
    const settings = { ...state.settings };
    state.isApplying = true;
    note.hidden = false;
    note.textContent = "Pairing, and writing hands.json …";
    update();
    try {
      const reply = await ask("apply", { settings });
      Object.assign(state.facts, reply.facts);
      if (isSame(settings, state.settings)) state.settings = { ...state.facts.settings }; // not moved meanwhile
      note.textContent = reply.text;
      sent = null; // the saved run is another one
    } catch (error) {
      note.hidden = true;
      tellFault(error.message);
    }
    state.isApplying = false;
    change(true);
  }

  function open(row, index) {
    large.element.hidden = false;
    grid.element.hidden = true;
    large.goTo(row, index);
    large.element.focus({ preventScroll: true });
  }

  function close(returnsFocus = true) {
    if (large.element.hidden) return;
    large.element.hidden = true;
    grid.element.hidden = false;
    grid.measure();
    if (returnsFocus) grid.focus(large.getIndex());
  }

  function update() {
    const { counted } = state, now = state.facts;
    const numbers = [counted?.samples ?? now.samples, now.frames].map((number) => make("b", {}, format(number)));
    const name = make("span", { class: "muted name", title: now.name }, " · ", makeName(now.name));
    title.replaceChildren(numbers[0], " samples of ", numbers[1], " frames", name);
    const text = counted ? `${format(counted.total)} ${counted.total === 1 ? "frame" : "frames"} shown` : "";
    if (found.textContent !== text) found.textContent = text;
    filters.update();
    pairing.update();
  }

  const filters = makeFilters(state, change);
  const pairing = makePairing(state, change, apply);
  const grid = makeGrid({ ask, pictures, open, wish, tellFault, selectAgain });
  const large = makeLargeView({ ask, pictures, grid, wish, tellFault, close });
  const observer = new ResizeObserver(() => {
    grid.measure();
    if (!large.element.hidden) large.refresh();
  });
  const top = make("div", { class: "top" }, title, make("div", { class: "found" }, found, filters.clear));
  content.replaceChildren(top, filters.element, pairing.element, note, grid.element, large.element);
  observer.observe(content);
  grid.measure();
  change();
  return {
    state, large, update, wish,
    close() {
      observer.disconnect();
      grid.close();
      clearTimeout(wishing), clearTimeout(again);
    },
  };
}
