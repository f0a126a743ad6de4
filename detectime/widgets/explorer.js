// The explorer of a run: its frames in a grid, filters, and sliders of pairing whose effect shows before it
// is written. The kernel holds the frames; this file asks for what is in view. There is no build step:
// `read_script` puts common.js before it, and the two are one module. `start` puts the parts together.

const BLOCK = 100; // rows that are fetched at once
const BLOCKS_KEPT = 200;
const BLOCKS_IN_FLIGHT = 3;
const THUMBNAIL = 256, LARGE = 1280; // pixels: the longest side of a picture
const KEPT = { [THUMBNAIL]: 600, [LARGE]: 12 }; // pictures
const PAUSE = 40; // ms between wishes while the grid scrolls
const CELL = 168, GAP = 8, WORDS = 41; // CSS px: width of a cell, space between two, its words
const MOST_HEIGHT = 10_000_000; // CSS px that every browser can scroll

const KINDS = {
  hand: "hand", face: "face", square: "context square", bbox: "crop", other: "other detections",
  suggested: "interpolated", before: "as saved",
};
const CHANGES = {
  gained: "+ gained", lost: "− lost", moved: "↔ moved", relabelled: "≠ other class",
  other_reason: "· other reason",
};
const SLIDERS = {
  crop_coefficient: "Half side of the square around a face, in face lengths",
  wider_coefficient: "The same of the wider square of a fallback",
  crop_hand_coefficient: "Half side of the square around a hand, in hand lengths",
  min_face_score: "Ignore faces with a lower score",
  min_hand_score: "Ignore hands with a lower score",
};
const NO_FILTER = {
  classes: [], outcomes: [], changes: [], group: "", detector: "", text: "", decided: "any", decided_by: "",
  doubt: null,
};

const makeDot = (isSample) => make("i", { class: isSample ? "dot sample" : "dot" });
const makeButton = (text, onclick, attributes = {}) =>
  make("button", { type: "button", onclick, ...attributes }, text);
const makeGroup = (name, label, ...children) =>
  make("div", { class: name, role: "group", "aria-label": label }, ...children);
const format = (number) => number.toLocaleString("en-US");
const formatDifference = (number) => (number > 0 ? "+" : number < 0 ? "−" : "±") + format(Math.abs(number));
const nameOutcome = (name) => name.replaceAll("_", " ");
const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const hasModifier = (event) => event.ctrlKey || event.metaKey || event.altKey;

/** Room for a picture with its boxes, or for what is wrong with it. */
function makePlace(name) {
  return make("div", { class: name }, make("img", { alt: "", draggable: "false", hidden: true }),
    makeBoxes(), make("p", { class: "fault", hidden: true }));
}

function showPicture(place, { width, height, boxes }, picture, pixels = 0) {
  const [image, svg, fault] = place.children;
  const hasPicture = Boolean(picture?.url);
  if (hasPicture && image.src !== picture.url) image.src = picture.url;
  image.hidden = !hasPicture;
  svg.toggleAttribute("hidden", !hasPicture || width === null);
  fault.hidden = !picture?.fault;
  fault.textContent = fault.title = picture?.fault ?? "";
  if (width === null) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawBoxes(svg, boxes, pixels);
}

/** One request at a time: what is wished meanwhile waits, and only the newest of it is sent. */
function keepNewest(work) {
  let newest = null, running = null;
  const run = async () => {
    for (let wish = newest; wish !== null; wish = newest) {
      newest = null;
      await work(wish);
    }
    running = null;
  };
  return (wish) => {
    newest = wish;
    running ??= run();
  };
}

/** A button that is pressed or not, with a count: `read` returns both; without a count it is disabled. */
function makeChip({ follow }, attributes, words, onclick, read) {
  const count = make("b");
  const button = make("button", { type: "button", onclick, ...attributes }, ...words, count);
  return follow(button, () => {
    const [isPressed, number] = read();
    button.setAttribute("aria-pressed", isPressed);
    button.disabled = number === null;
    count.textContent = number === null ? "–" : format(number);
  });
}

// -- filters

function makeFilters(parts) {
  const { state, follow, change, toggle } = parts, { facts } = state;
  const set = (values) => {
    Object.assign(state.filter, values);
    change();
  };
  const makeField = (label, control, ...more) => {
    control.setAttribute("aria-label", label);
    const caption = make("span", { class: "caption", "aria-hidden": "true" }, label);
    return make("div", { class: "field" }, caption, make("div", { class: "pair" }, control, ...more));
  };
  const choose = (options, read, write) => {
    const items = options.map(([value, text]) => make("option", { value }, clean(text)));
    const select = make("select", { onchange: () => write(select.value) }, ...items);
    return follow(select, () => { select.value = read(); });
  };
  const chooseName = (key, names) => {
    const options = [["", "any"], ...names.map((name) => [name, name])];
    return choose(options, () => state.filter[key], (name) => set({ [key]: name }));
  };
  const write = (key) => {
    const input = make("input", { type: "search", oninput: () => set({ [key]: input.value }) });
    return follow(input, () => { input.value = state.filter[key]; });
  };

  const outcomes = facts.outcomes.map(({ name, sentence, is_sample }) => {
    const words = [makeDot(is_sample), nameOutcome(name)];
    const read = () => [state.filter.outcomes.includes(name), state.counted?.outcomes[name] ?? 0];
    const press = () => toggle("outcomes", name);
    const chip = makeChip(parts, { title: sentence, class: "chip" }, words, press, read);
    const isSaved = () => state.facts.outcomes.some((saved) => saved.name === name && saved.count);
    return follow(chip, () => { chip.hidden = !read().some(Boolean) && !isSaved(); });
  });

  const listDecisions = [
    ["any", "any"], ["yes", "decided"], ["no", "not decided"], ["new", "not yet in hands.json"],
    ...facts.reviewers.map((name) => [`by ${name}`, `by ${name}`]),
  ];
  const decisions = choose(listDecisions, () => {
    const { decided, decided_by: by } = state.filter;
    return by ? `by ${by}` : decided;
  }, (value) => {
    const by = value.startsWith("by ") ? value.slice(3) : "";
    set({ decided: by ? "yes" : value, decided_by: by });
  });

  const sort = choose(facts.sorts.map(({ name, title }) => [name, title]), () => state.sort, (name) => {
    Object.assign(state, { sort: name, descending: name === "doubt" }); // the most doubtful first
    change();
  });
  follow(sort, () => {
    for (const option of sort.options) option.disabled = option.value === "doubt" && !state.facts.doubt_ready;
  });
  const turn = () => {
    state.descending = !state.descending;
    change();
  };
  const direction = follow(makeButton("", turn, { class: "direction" }), () => {
    direction.textContent = state.descending ? "↓" : "↑";
    direction.title = state.descending ? "Descending: the largest first" : "Ascending: the smallest first";
    direction.setAttribute("aria-label", direction.title);
  });

  return makeGroup("filters", "Filters", makeGroup("chips line-of-chips", "Outcomes", ...outcomes),
    make("div", { class: "fields" },
      makeField("Class", makeClassMenu(parts)),
      makeField("Group", facts.groups ? chooseName("group", facts.groups) : write("group")),
      makeField("Detector", chooseName("detector", facts.detectors)),
      makeField("Decisions", decisions), makeField("Text", write("text")),
      makeDoubtField(parts, set), makeField("Sort by", sort, direction)));
}

function makeClassMenu({ state, follow, toggle }) {
  const items = state.facts.classes.map((name) => {
    const box = make("input", { type: "checkbox", onchange: () => toggle("classes", name) });
    const counts = make("span", { class: "counts" });
    return follow(make("label", { title: name }, box, makeName(name), counts), () => {
      const found = state.counted?.classes[name];
      box.checked = state.filter.classes.includes(name);
      counts.textContent = found ? `${format(found.samples)} of ${format(found.frames)}` : "";
    });
  });
  const chosen = makeName("");
  const summary = follow(make("summary", {}, chosen), () => {
    const { classes } = state.filter;
    chosen.textContent = classes.length > 1 ? `${classes.length} classes` : clean(classes[0] ?? "any");
    summary.setAttribute("aria-label", `Class: ${chosen.textContent}`);
  });
  const close = () => {
    menu.open = false;
    summary.focus();
  };
  const menu = make("details", {
    class: "menu",
    onfocusout: ({ relatedTarget }) => { if (!menu.contains(relatedTarget)) menu.open = false; },
    onkeydown: ({ key }) => { if (key === "Escape" && menu.open) close(); },
  }, summary, make("div", { class: "list", tabindex: "-1", role: "group", "aria-label": "Classes" },
    make("p", { class: "muted" }, "samples of frames"), ...items));
  return menu;
}

/** Two sliders on one line; one end stops at the other. */
function makeDoubtField({ state, follow }, set) {
  const ends = ["least", "most"].map((end, k) => make("input", {
    type: "range", min: 0, max: 1, step: 0.01, "aria-label": `doubt, at ${end}`, oninput: () => read(k),
  }));
  function read(moved) {
    const other = ends[1 - moved].value, end = ends[moved];
    end.value = moved ? Math.max(end.value, other) : Math.min(end.value, other);
    const values = ends.map(({ valueAsNumber }) => valueAsNumber);
    set({ doubt: isSame(values, [0, 1]) ? null : values });
  }
  const caption = make("span", { class: "caption" }), range = make("div", { class: "range" }, ...ends);
  return follow(make("div", { class: "field" }, caption, range), () => {
    const isReady = state.facts.doubt_ready, [low, high] = state.filter.doubt ?? [0, 1];
    ends.forEach((end, k) => Object.assign(end, { value: k ? high : low, disabled: !isReady }));
    range.style.setProperty("--low", low);
    range.style.setProperty("--high", high);
    const limits = state.filter.doubt ? `${low.toFixed(2)} to ${high.toFixed(2)}` : "any";
    caption.textContent = `Doubt: ${isReady ? limits : "being found …"}`;
  });
}

// -- sliders of pairing

function makePairing(parts) {
  const { state, follow, change, toggle, apply } = parts, { facts } = state;
  const set = (key, value) => {
    state.settings[key] = value;
    change(true);
  };

  /** A line: the name of a setting, what sets it, and what is saved. */
  function makeSetting(key, hint, controls, show) {
    const saved = make("span", { class: "saved muted" });
    const line = make("div", { class: "slider" }, make("span", { title: hint }, key), ...controls, saved);
    return follow(line, () => {
      const before = state.facts.settings[key];
      line.classList.toggle("changed", state.settings[key] !== before);
      saved.textContent = `saved ${before ?? "off"}`;
      show(state.settings[key], saved);
    });
  }

  function makeSlider([key, hint]) { // the left end of a score turns it off
    const [low, high, step] = facts.ranges[key], limits = { min: low, max: high };
    const isScore = key.startsWith("min_");
    const range = make("input", {
      type: "range", ...limits, step, "aria-label": key, title: hint,
      oninput: () => set(key, isScore && range.valueAsNumber <= low ? null : range.valueAsNumber),
    });
    const number = make("input", {
      type: "number", ...limits, step: "any", "aria-label": `${key}, as a number`,
      placeholder: isScore ? "off" : "",
      onblur: () => { number.value = state.settings[key] ?? ""; },
      oninput: () => {
        const value = number.valueAsNumber, isEmpty = number.value === "" && !number.validity.badInput;
        if (isScore && (isEmpty || value <= low)) set(key, null);
        else if (number.validity.valid && !isEmpty) set(key, value);
      },
    });
    return makeSetting(key, hint, [range, number], (value, saved) => {
      const isIdle = key === "wider_coefficient" && state.settings.fallback === "none";
      range.value = value ?? low;
      range.setAttribute("aria-valuetext", value ?? "off");
      if (!number.matches(":focus")) number.value = value ?? "";
      range.disabled = number.disabled = isIdle;
      if (isIdle) saved.textContent = "needs a fallback";
    });
  }

  const fallback = make("select", {
    "aria-label": "fallback", onchange: () => set("fallback", fallback.value),
  }, ...facts.fallbacks.map((name) => make("option", { value: name }, name)));
  const settings = [
    ...Object.entries(SLIDERS).map(makeSlider),
    makeSetting("fallback", "For frames without a pair", [fallback], (value) => { fallback.value = value; }),
  ];

  // Applying asks first. The focus is on Cancel: a key that is held down applies nothing.
  const question = make("span");
  const showQuestion = (isAsked, focused) => {
    confirmation.hidden = !isAsked;
    buttons.hidden = isAsked;
    focused?.focus();
  };
  const applying = makeButton("Apply…", () => showQuestion(true, cancel), { class: "primary" });
  const reset = () => {
    state.settings = { ...state.facts.settings };
    change(true);
  };
  const back = makeButton("Back to saved", reset), reason = make("span", { class: "muted" });
  const buttons = make("div", { class: "actions" }, applying, back, reason);
  const confirm = () => {
    showQuestion(false, summary);
    apply();
  };
  const sure = makeButton("Apply", confirm, { class: "primary" });
  const cancel = makeButton("Cancel", () => showQuestion(false, applying));
  const confirmation = makeGroup("confirmation", "Confirmation", question, sure, cancel);
  confirmation.addEventListener("keydown", ({ key }) => { if (key === "Escape") cancel.click(); });
  confirmation.hidden = true;

  const brief = make("span", { class: "muted brief" }), summary = make("summary", {}, "Pairing ", brief);
  const samples = make("b"), difference = make("span", { class: "muted" });
  const chips = Object.entries(CHANGES).map(([name, title]) => makeChip(
    parts, { class: `chip ${name}` }, [title], () => toggle("changes", name),
    () => [state.filter.changes.includes(name), state.counted?.changes?.[name] ?? null]));
  const rows = make("tbody");
  const table = make("table", {},
    make("caption", { class: "unseen" }, "Frames by outcome, under these settings and as saved"),
    make("thead", {}, make("tr", {},
      ...["outcome", "now", "saved", "change"].map((title) => make("th", { scope: "col" }, title)))), rows);

  function makeRow({ name, count, is_sample }) {
    const now = state.counted.outcomes[name] ?? 0, isEqual = now === count;
    const head = make("th", { scope: "row" }, makeDot(is_sample), nameOutcome(name));
    const cells = [format(now), format(count), isEqual ? "" : formatDifference(now - count)];
    const values = cells.map((text) => make("td", {}, text));
    return make("tr", { class: isEqual ? "muted" : null }, head, ...values);
  }

  const controls = makeGroup("controls", "Settings of pairing", ...settings, buttons, confirmation);
  const effect = make("div", { class: "effect" }, make("p", {}, samples, " ", difference),
    makeGroup("chips", "Changes against the saved run", ...chips), table);
  const panel = make("div", { class: "panel" }, controls, effect);
  return follow(make("details", { class: "pairing" }, summary, panel), () => {
    const { counted, facts: now } = state;
    const changed = Object.entries(state.settings).filter(([key, value]) => value !== now.settings[key])
      .map(([key, value]) => `${key} = ${value ?? "off"}`);
    applying.disabled = !changed.length && !now.needs_pairing || state.isApplying;
    back.disabled = !changed.length;
    reason.textContent = state.isApplying ? "Pairing, and writing hands.json …" : now.state;
    if (applying.disabled) showQuestion(false);
    const decided = now.needs_pairing ? ["what people decided since"] : [];
    question.textContent = `This writes hands.json with ${[...changed, ...decided].join(", ")}.`;
    if (!counted) return;
    const more = formatDifference(counted.samples - now.samples), sum = `${format(counted.samples)} samples`;
    samples.textContent = sum;
    difference.textContent = `saved ${format(now.samples)} (${more})`;
    brief.textContent = changed.length ? `${changed.join(", ")}: ${sum} (${more})` : "as saved";
    const present = now.outcomes.filter(({ name, count }) => count || counted.outcomes[name]);
    rows.replaceChildren(...present.map(makeRow));
  });
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
    const { blocks } = selection, from = number * BLOCK, to = Math.min(selection.total, from + BLOCK);
    blocks.set(number, null); // asked for
    flying += 1;
    const reply = await ask("rows", { selection: selection.number, from, to }).catch((error) => {
      tellFault(error.message);
      return { rows: null }; // asked for again at the next scroll
    });
    flying -= 1;
    blocks.delete(number);
    if (reply.stale && selection === latest) selectAgain();
    if (reply.stale || !reply.rows) return;
    blocks.set(number, reply.rows); // as the newest
    if (blocks.size > BLOCKS_KEPT) blocks.delete(blocks.keys().next().value);
    if (selection === shown) draw();
  }

  function listBlocks(from, to) {
    const first = Math.floor(from / BLOCK), count = Math.floor(to / BLOCK) - first + 1;
    return Array.from({ length: Math.max(0, count) }, (_, k) => first + k);
  }

  /** First and last index of what is in view, or so many screens further. */
  function listView(screens) {
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

  /** Put the scroll bar where it belongs. */
  function place() {
    top = clamp(top, 0, Math.max(0, full - view));
    scroller.scrollTop = virtual === full ? top : top * (virtual - view) / (full - view);
    placed = scroller.scrollTop;
  }

  function followScroll() {
    const at = scroller.scrollTop, moved = at - placed, end = virtual - view;
    if (!moved || !scroller.clientWidth) return;
    direction = Math.sign(moved);
    placed = at;
    if (virtual === full) top = at;
    else if (at <= 0 || at >= end - 1) top = at <= 0 ? 0 : full - view;
    else if (Math.abs(moved) < view) top += moved; // by wheel or finger, however many lines there are
    else top = at * (full - view) / end; // by the scroll bar
    top = clamp(top, 0, Math.max(0, full - view));
    const first = Math.ceil(top / lineHeight) * columns;
    if (!scroller.matches(":focus-within")) active = clamp(first, 0, shown.total - 1);
    draw();
    if (virtual === full) return;
    clearTimeout(settling);
    settling = setTimeout(() => {
      place();
      draw();
    }, 200);
  }

  function draw() {
    if (!width) return;
    const wanted = new Set();
    if (shown.total) {
      const [first, last] = listView(0).map((index) => Math.floor(index / columns));
      const [from, to] = [Math.max(0, first - 1), Math.min(lineCount - 1, last + 1)];
      for (let line = from; line <= to; line++) wanted.add(line);
      wanted.add(Math.floor(active / columns)); // which has or gets the focus
    }
    for (const [number, line] of lines) {
      if (wanted.has(number)) continue;
      line.remove();
      lines.delete(number);
    }
    for (const number of [...wanted].sort((one, other) => one - other)) {
      if (!lines.has(number)) lines.set(number, space.appendChild(makeLine(number)));
      const line = lines.get(number);
      line.style.transform = `translateY(${Math.round(number * lineHeight - top + placed)}px)`;
      [...line.children].forEach((cell, column) => fillCell(cell, number * columns + column));
    }
    fetchMissing();
    wish();
  }

  function fetchMissing() { // in view first, then one screen ahead
    if (!shown.total) return;
    for (const number of [listView(0), listView(direction)].flatMap(([from, to]) => listBlocks(from, to))) {
      if (!shown.blocks.has(number) && flying < BLOCKS_IN_FLIGHT) load(shown, number);
    }
  }

  function makeLine(number) {
    const cells = Array.from({ length: columns }, (_, column) => make("div", {
      class: "cell", role: "gridcell", "aria-colindex": column + 1,
    }, makePlace("thumbnail"), make("div", { class: "below" })));
    return make("div", { class: "line", role: "row", "aria-rowindex": number + 1 }, ...cells);
  }

  function fillCell(cell, index) {
    const row = getRow(index);
    cell.tabIndex = index === active ? 0 : -1;
    cell.hidden = index >= shown.total;
    if (cell.filled === row && cell.dataset.index === String(index)) return;
    const [thumbnail, below] = cell.children;
    cell.filled = row;
    cell.dataset.index = index;
    cell.classList.toggle("waiting", !row);
    cell.setAttribute("aria-label", "being fetched");
    thumbnail.dataset.row = row?.row ?? "";
    showPicture(thumbnail, row ?? { width: null }, row && pictures.get(row.row, THUMBNAIL));
    below.replaceChildren();
    if (!row) return;
    const name = clean(row.class_name), decision = nameOutcome(row.decision ?? "");
    const outcome = nameOutcome(row.outcome), change = CHANGES[row.change] ?? "";
    const doubt = row.doubt === null ? "" : `doubt ${row.doubt.toFixed(2)}`;
    const makeText = (kind, text) => make("span", { class: kind }, text);
    below.append(
      make("div", { class: "words" }, makeName(name), makeText("decision", decision)),
      make("div", { class: "words muted" }, makeDot(row.is_sample), outcome, makeText("doubt", doubt)));
    if (change) below.append(makeText(`badge ${row.change}`, change));
    cell.title = `${row.frame_path}\n${row.outcome_sentence}`;
    const words = [name, outcome, change, doubt, decision, clean(row.frame_path)];
    cell.setAttribute("aria-label", words.filter(Boolean).join(", "));
  }

  function focus(index) {
    active = clamp(index, 0, Math.max(0, shown.total - 1));
    const line = Math.floor(active / columns), start = line * lineHeight, end = start + lineHeight + GAP;
    if (start < top || end > top + view) {
      direction = start < top ? -1 : 1;
      top = start < top ? start : end - view;
      place();
    }
    draw();
    lines.get(line)?.children[active % columns].focus({ preventScroll: true });
  }

  function press(event) {
    if (hasModifier(event) || !event.target.matches(".cell")) return;
    const page = Math.max(1, Math.floor(view / lineHeight)) * columns;
    const step = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page,
      Home: -Infinity, End: Infinity,
    }[event.key];
    const line = Math.floor((active + step) / columns);
    if (Math.abs(step) === columns && (line < 0 || line >= lineCount)) focus(active);
    else if (step) focus(active + step);
    else if (event.key === "Enter" || event.key === " ") openAt(active);
    else return;
    event.preventDefault();
  }

  function followFocus({ target }) {
    if (!target.matches(".cell") || Number(target.dataset.index) === active) return;
    active = Number(target.dataset.index);
    draw();
  }

  function click({ target }) {
    const cell = target.closest(".cell");
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

  function listWishes() {
    if (!shown.total) return [];
    const indices = [listView(0), listView(direction)].flatMap(([from, to]) =>
      Array.from({ length: to - from + 1 }, (_, k) => from + k));
    return indices.map(getRow).filter(Boolean).map(({ row }) => [row, THUMBNAIL]);
  }

  return {
    element, focus, show, measure, getRow, fetchRow, listWishes,
    count: () => shown.total,
    receive(number) {
      for (const cell of space.querySelectorAll(".cell")) {
        const [thumbnail] = cell.children;
        if (cell.filled?.row === number) showPicture(thumbnail, cell.filled, pictures.get(number, THUMBNAIL));
      }
    },
    close: () => clearTimeout(settling),
  };
}

// -- one frame, large

function makeLargeView({ ask, pictures, grid, wish, tellFault, close }) {
  const place = make("span", { class: "muted position" });
  const spoken = make("span", { class: "unseen", role: "status" });
  const previous = makeButton("‹", () => step(-1), { "aria-label": "Previous frame", title: "←" });
  const next = makeButton("›", () => step(1), { "aria-label": "Next frame", title: "→" });
  const path = make("bdi", { class: "path" }), stage = makePlace("stage");
  const legend = make("ul", { class: "legend", "aria-label": "Boxes" });
  const kind = makeName(""), words = make("ul", { class: "lines", "aria-label": "About this frame" });
  const strip = make("div", {
    class: "strip", role: "listbox", "aria-orientation": "horizontal",
    "aria-label": "Frames of the same group", onkeydown: pressInStrip,
    onclick: ({ target }) => choose(target.closest("[role=option]")),
  });
  const closing = makeButton("Close", () => close(), { title: "Close (Escape)" });
  const element = make("section", {
    class: "large", tabindex: "-1", hidden: true, "aria-label": "Frame", onkeydown: press,
  }, make("div", { class: "bar" }, previous, next, place, path, spoken, closing),
  make("div", { class: "sides" }, stage,
    make("div", { class: "about" }, make("p", { class: "kind" }, kind), legend, words)), strip);
  let row = null, index = 0, frame = null; // frame: the row, with all that is known of it

  const request = keepNewest(async (wanted) => {
    try {
      const reply = await ask("frame", { row: wanted });
      if (row.row === wanted && !element.hidden) showFrame(reply);
    } catch (error) {
      tellFault(error.message);
    }
  });

  /** Show a row, and at which place of the selection that is, or near which. */
  function goTo(wanted, at) {
    [row, index] = [wanted, at];
    if (frame?.row !== row.row) {
      frame = null;
      words.replaceChildren(make("li", {}, nameOutcome(row.outcome)));
    }
    showPlace(grid.getRow(index)?.row === row.row);
    path.textContent = path.title = stage.firstChild.alt = clean(row.frame_path);
    kind.textContent = clean(row.class_name);
    refresh();
    markCurrent();
    wish();
    request(row.row);
  }

  function showPlace(isExact) {
    const count = grid.count(), near = isExact ? "" : "near ";
    place.textContent = `${near}${format(Math.min(index + 1, count))} of ${format(count)}`;
    spoken.textContent = `${place.textContent}: ${clean(row.class_name)}, ${nameOutcome(row.outcome)}`;
    previous.disabled = index <= 0;
    next.disabled = index >= count - 1;
  }

  function refresh() { // the thumbnail stands in for the large picture until that is there
    const shown = frame ?? row;
    stage.style.aspectRatio = shown.width ? `${shown.width} / ${shown.height}` : "4 / 3";
    const pixels = Math.max(shown.width / stage.clientWidth, shown.height / stage.clientHeight);
    const picture = pictures.get(row.row, LARGE) ?? pictures.get(row.row, THUMBNAIL);
    showPicture(stage, shown, picture, frame ? pixels : 0);
    legend.replaceChildren(...Object.entries(KINDS).flatMap(([name, title]) => {
      const count = shown.boxes.filter((box) => box.kind === name).length;
      const sign = makeBoxes({ viewBox: "0 0 24 16" });
      drawBoxes(sign, [{ kind: name, corners: [2, 2, 22, 14] }]);
      return count ? [make("li", {}, sign, count > 1 ? `${title} × ${count}` : title)] : [];
    }));
    for (const option of strip.children) {
      showPicture(option.firstChild, option.row, pictures.get(option.row.row, THUMBNAIL));
    }
  }

  function showFrame(reply) {
    frame = { ...reply.frame, row: row.row };
    index = reply.place ?? index; // where it is in the selection, if it is
    showPlace(reply.place !== null);
    words.replaceChildren(...frame.lines.map((line) => make("li", {}, makeName(line))));
    const hadFocus = strip.contains(document.activeElement);
    strip.replaceChildren(...reply.strip.map((item) => {
      const name = clean(item.frame_id ?? ""), outcome = nameOutcome(item.outcome);
      const option = make("div", {
        role: "option", title: item.frame_path,
        "aria-label": [name || item.frame_path, item.class_name, outcome].map(clean).join(", "),
      }, makePlace("thumbnail"), make("span", { class: "words muted" }, makeDot(item.is_sample), name));
      option.row = item;
      return option;
    }));
    refresh();
    const current = markCurrent();
    if (hadFocus) current?.focus({ preventScroll: true });
    wish();
  }

  function markCurrent() {
    const current = [...strip.children].find((option) => option.row.row === row.row);
    for (const option of strip.children) {
      option.setAttribute("aria-selected", option === current);
      option.tabIndex = option === current ? 0 : -1;
    }
    if (current) strip.scrollLeft = current.offsetLeft - (strip.clientWidth - current.offsetWidth) / 2;
    return current;
  }

  async function step(by) { // in the selection
    const wanted = index + by;
    if (wanted < 0 || wanted >= grid.count()) return;
    index = wanted;
    const found = await grid.fetchRow(wanted);
    if (found && index === wanted && !element.hidden) goTo(found, wanted);
  }

  function choose(option) {
    if (option && option.row.row !== row.row) goTo(option.row, index);
  }

  function pressInStrip(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || hasModifier(event)) return;
    event.preventDefault();
    const options = [...strip.children], at = options.findIndex((option) => option.row.row === row.row);
    const option = options[clamp(at + by, 0, options.length - 1)];
    choose(option);
    option.focus({ preventScroll: true });
  }

  function press(event) {
    if (hasModifier(event) || event.defaultPrevented) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  }

  function listWishes() {
    const thumbnails = [...strip.children].map((option) => [option.row.row, THUMBNAIL]);
    const beside = [1, -1].map((by) => grid.getRow(index + by)).filter(Boolean);
    return [[row.row, LARGE], ...thumbnails, ...beside.map((other) => [other.row, LARGE])];
  }

  return {
    element, refresh, goTo, listWishes,
    getIndex: () => index,
    update: () => goTo(row, clamp(index, 0, Math.max(0, grid.count() - 1))), // as other settings have it
  };
}

// -- the whole

function start({ facts, root, content, kernel, pictures, banners }) {
  const state = {
    facts, settings: { ...facts.settings }, filter: structuredClone(NO_FILTER),
    sort: facts.sorts[0].name, descending: false, isApplying: false,
    counted: null, // what the kernel counted last
  };
  const followers = []; // what shows the state
  let isRestart = true, sent = null, wishing = null, again = null;
  const parts = {
    state, pictures, change, apply, open, close, wish, selectAgain,
    ask: kernel.ask,
    tellFault: (text) => banners.say("fault", text),
    follow(element, show) {
      followers.push(show);
      return element;
    },
    toggle(key, name) {
      const { [key]: names } = state.filter;
      state.filter[key] = names.includes(name) ? names.filter((other) => other !== name) : [...names, name];
      change();
    },
  };
  const update = () => followers.forEach((show) => show());
  const isOpen = () => !large.element.hidden;

  function change(keepsPlace = false) {
    isRestart ||= !keepsPlace;
    const isSaved = isSame(state.settings, state.facts.settings);
    if (!keepsPlace) close(false);
    if (isSaved) state.filter.changes = []; // nothing differs from itself
    update();
    const { filter, sort, descending } = structuredClone(state);
    select({ filter, sort, descending, settings: isSaved ? null : { ...state.settings } });
  }

  const select = keepNewest(async (query) => {
    if (isSame(query, sent)) return;
    sent = query;
    found.classList.add("busy");
    try {
      state.counted = await kernel.ask("select", query);
      banners.drop("fault");
      update();
      const showing = grid.show(state.counted, !isRestart); // asks for rows before the next selection is made
      isRestart = false;
      showing.then(() => { if (isOpen()) large.update(); });
    } catch (error) {
      parts.tellFault(error.message);
      sent = null;
    }
    found.classList.remove("busy");
  });

  function selectAgain() { // another view of this widget selected something else
    clearTimeout(again);
    again = setTimeout(() => {
      sent = null;
      change(true);
    }, 300);
  }

  function wish() { // also once scrolling pauses for a moment only
    wishing ??= setTimeout(() => {
      wishing = null;
      pictures.wish(isOpen() ? large.listWishes() : grid.listWishes());
    }, PAUSE);
  }

  async function apply() {
    const settings = { ...state.settings };
    state.isApplying = true;
    update();
    try {
      const reply = await kernel.ask("apply", { settings });
      Object.assign(state.facts, reply.facts);
      const isMoved = !isSame(settings, state.settings); // meanwhile
      if (!isMoved) state.settings = { ...state.facts.settings };
      banners.say("news", reply.text);
      sent = null; // the saved run is another one
    } catch (error) {
      parts.tellFault(error.message);
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
    if (!isOpen()) return;
    large.element.hidden = true;
    grid.element.hidden = false;
    grid.measure();
    if (returnsFocus) grid.focus(large.getIndex());
  }

  const title = parts.follow(make("p", { class: "title" }), () => {
    const { frames, wanted, name, samples } = state.facts;
    const leftOut = frames - wanted ? [make("span", {}, ` · ${format(frames - wanted)} left out`)] : [];
    title.replaceChildren(
      make("b", {}, format(state.counted?.samples ?? samples)), " samples of ", make("b", {}, format(wanted)),
      " frames", ...leftOut, make("span", { class: "muted name", title: name }, " · ", makeName(name)));
  });
  const found = parts.follow(make("p", { role: "status" }), () => {
    const { total } = state.counted ?? {};
    const text = total === undefined ? "" : `${format(total)} ${total === 1 ? "frame" : "frames"} shown`;
    if (found.textContent !== text) found.textContent = text; // else it is announced again
  });
  const reset = () => {
    state.filter = structuredClone(NO_FILTER);
    change();
  };
  const clear = parts.follow(makeButton("Clear", reset), () => {
    clear.disabled = isSame(state.filter, NO_FILTER);
  });

  const grid = makeGrid(parts), large = makeLargeView({ ...parts, grid });
  content.replaceChildren(
    make("div", { class: "top" }, title, make("div", { class: "found" }, found, clear)),
    makeFilters(parts), makePairing(parts), grid.element, large.element);
  const observer = new ResizeObserver(() => {
    grid.measure();
    if (isOpen()) large.refresh();
  });
  observer.observe(content);
  grid.measure();
  change();
  return {
    receive(message) {
      if (message.kind === "picture") {
        grid.receive(message.row);
        if (isOpen()) large.refresh();
        wish();
      } else if (message.kind === "facts") { // of the saved run, which others changed, or of the doubt
        const isSaved = isSame(state.settings, state.facts.settings);
        Object.assign(state.facts, message.facts);
        if (isSaved) state.settings = { ...state.facts.settings };
        update();
      }
    },
    explainLate: () => `It is busy or gone; what you see is what it sent last. ${IF_RESTARTED}`,
    close() {
      observer.disconnect();
      grid.close();
      clearTimeout(wishing);
      clearTimeout(again);
    },
  };
}

export default {
  render: (view) => openWidget(view, {
    name: "explorer", label: "Explorer of frames", tabindex: -1, most: KEPT, start,
  }),
};
