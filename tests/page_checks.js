// What tests/page_checks.py looks for inside a page. Each find… function returns one sentence per fault.
(() => {
  const SLACK = 1.5; // px: rounding
  const SILENT = "script, style, template, noscript, svg title, svg desc, svg defs";
  const NAMES = "code, pre, kbd, samp, .path, [data-path]"; // paths and hashes, which may break anywhere
  const LONGEST_WORD = 25; // letters; what is longer is a name that cannot but break
  const LETTERS = String.raw`[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}\p{M}]{2,}`;
  const BORDER = String.raw`[\p{L}\p{N}]`; // what neither precedes nor follows: no part of a hash is a word
  const WORDS = new RegExp(String.raw`(?<!${BORDER})(?:${LETTERS}|\d+(?:[.,]\d+)*)(?!${BORDER})`, "gu"); // and numbers

  const violations = [];
  document.addEventListener("securitypolicyviolation", (event) =>
    violations.push(`violates its policy: ${event.effectiveDirective} forbids ${event.blockedURI || "inline code"}`));

  const settle = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())));
  const shorten = (text) => text.replace(/\s+/g, " ").trim().slice(0, 60);
  const round = (number) => Math.round(number * 10) / 10;

  function describe(element) {
    const id = element.id ? `#${element.id}` : "";
    const kind = element.classList.length ? `.${[...element.classList].join(".")}` : "";
    const text = shorten(element.getAttribute("alt") || element.getAttribute("aria-label") || element.textContent);
    return `<${element.localName}${id}${kind}> "${text}"`;
  }

  const isVisible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  const readersOnly = new Map(); // by element; cleared whenever something is looked for
  function isForReadersOnly(element) { // text for screen readers: one pixel, or cut away; a skip link without focus
    if (!element || element === document.body) return false;
    if (!readersOnly.has(element)) {
      readersOnly.set(element, isHiddenAlone(element) || isForReadersOnly(element.parentElement));
    }
    return readersOnly.get(element);
  }
  function isHiddenAlone(element) {
    const style = getComputedStyle(element);
    if (style.position !== "absolute") return false;
    const box = element.getBoundingClientRect();
    const isAway = element.matches('a[href^="#"]') && (box.right <= 0 || box.bottom <= 0);
    return isAway || box.width <= 1 || box.height <= 1 || style.clipPath !== "none";
  }

  const listElements = (root) => [...root.querySelectorAll("*")].filter(
    (element) => !element.closest(SILENT) && isVisible(element) && !isForReadersOnly(element));

  function listTexts(root) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) {
      const node = walker.currentNode, element = node.parentElement;
      if (node.data.trim() && !element.closest(SILENT) && isVisible(element) && !isForReadersOnly(element)) {
        const rects = measure(node, 0, node.length);
        if (rects.length) found.push({ node, element, rects });
      }
    }
    return found;
  }

  function measure(node, start, end) {
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, end);
    return [...range.getClientRects()].filter((rect) => rect.width > 0 && rect.height > 0);
  }

  function countLines(rects) {
    const tops = [];
    for (const { top, height } of rects) if (!tops.some((other) => Math.abs(other - top) < height / 2)) tops.push(top);
    return tops.length;
  }

  // -- overflow

  const scrolls = (style, axis) => ["auto", "scroll"].includes(style[`overflow${axis}`]);
  const clips = (style, axis) => ["hidden", "clip"].includes(style[`overflow${axis}`]) ||
    /paint|content|strict/.test(style.contain) || style.contentVisibility === "auto";

  function isInScroller(element) {
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
      if (scrolls(getComputedStyle(up), "X") && up.scrollWidth > up.clientWidth + SLACK) return true;
    }
    return false;
  }

  function isCut(element) { // by an element around it; whether text is lost is another question
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
      if (clips(getComputedStyle(up), "X")) return true;
    }
    return false;
  }

  function findLayoutFaults(root, smallest) {
    const elements = listElements(root), texts = listTexts(root);
    return [
      ...findOverflow(elements), ...findUnreachable(elements), ...findClipped(texts), ...findBrokenWords(texts),
      ...findOverlaps(texts), ...findTinyText(texts, smallest),
    ];
  }

  function findOverflow(elements) {
    const faults = [], width = document.documentElement.clientWidth, wide = new Set();
    const whole = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
    if (whole > width + SLACK) faults.push(`the page is ${whole} px wide in a window of ${width} px`);
    for (const element of elements) {
      const box = element.getBoundingClientRect();
      const leaves = box.width > 0 && (box.right > width + SLACK || box.left < -SLACK);
      if (!leaves || isInScroller(element) || isCut(element)) continue;
      wide.add(element);
      if (!wide.has(element.parentElement)) {
        faults.push(`${describe(element)} reaches from ${round(box.left)} to ${round(box.right)} px in ${width} px`);
      }
    }
    return faults;
  }

  function findUnreachable(elements) {
    return elements.filter((element) => {
      const style = getComputedStyle(element);
      const moves = (scrolls(style, "X") && element.scrollWidth > element.clientWidth + SLACK) ||
        (scrolls(style, "Y") && element.scrollHeight > element.clientHeight + SLACK);
      return moves && element !== document.body && element.tabIndex < 0;
    }).map((element) => `${describe(element)} scrolls, and the keyboard cannot reach it (tabindex="0")`);
  }

  function findClipped(texts) {
    const faults = [];
    for (const { element, rects } of texts) {
      const cutter = findCutter(element, rects);
      if (cutter) faults.push(`the text of ${describe(element)} is cut off by ${describe(cutter)}`);
    }
    return faults;
  }

  function findCutter(element, rects) {
    for (let up = element; up && up !== document.body; up = up.parentElement) {
      const style = getComputedStyle(up), box = up.getBoundingClientRect();
      if (scrolls(style, "X") || scrolls(style, "Y")) return null;
      if (/^(inline|contents)$/.test(style.display) && up.localName !== "svg") continue;
      const border = (side) => parseFloat(style[`border${side}Width`]) || 0;
      const left = box.left + border("Left"), right = box.right - border("Right");
      const top = box.top + border("Top"), bottom = box.bottom - border("Bottom");
      for (const rect of rects) {
        if (clips(style, "X") && (rect.left < left - SLACK || rect.right > right + SLACK)) return up;
        const hidden = Math.max(top - rect.top, rect.bottom - bottom);
        if (clips(style, "Y") && hidden > rect.height / 4) return up;
      }
    }
    return null;
  }

  // -- text

  function findBrokenWords(texts) {
    const faults = [];
    for (const { node, element, rects } of texts) {
      if (countLines(rects) < 2 || element.closest(NAMES) || getComputedStyle(element).hyphens === "auto") continue;
      for (const word of node.data.matchAll(WORDS)) {
        const lines = countLines(measure(node, word.index, word.index + word[0].length));
        if (lines > 1 && word[0].length <= LONGEST_WORD) {
          faults.push(`"${word[0]}" is broken over ${lines} lines in ${describe(element)}`);
        }
      }
    }
    return faults;
  }

  function findOverlaps(texts) {
    const faults = [];
    const lines = texts.flatMap(({ node, element, rects }) => rects.map((rect) => ({ node, element, rect })));
    lines.sort((a, b) => a.rect.top - b.rect.top);
    lines.forEach((a, index) => {
      for (let other = index + 1; other < lines.length && lines[other].rect.top < a.rect.bottom; other++) {
        const b = lines[other];
        const across = Math.min(a.rect.right, b.rect.right) - Math.max(a.rect.left, b.rect.left);
        const down = Math.min(a.rect.bottom, b.rect.bottom) - b.rect.top;
        const deep = down > 0.4 * Math.min(a.rect.height, b.rect.height);
        if (a.node !== b.node && across > 2 && deep) {
          faults.push(`${describe(a.element)} and ${describe(b.element)} lie on each other`);
        }
      }
    });
    return faults;
  }

  function getFontSize(element) { // as drawn: an SVG may be scaled
    const size = parseFloat(getComputedStyle(element).fontSize);
    const matrix = element.ownerSVGElement && element.getScreenCTM && element.getScreenCTM();
    return matrix ? size * Math.hypot(matrix.a, matrix.b) : size;
  }

  const findTinyText = (texts, smallest) => texts.filter(({ element }) => getFontSize(element) < smallest - 0.05)
    .map(({ element }) => `${describe(element)} has letters of ${round(getFontSize(element))} px`);

  // -- colours

  const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  pixel.canvas.width = pixel.canvas.height = 1;

  function resolveColor(color) { // any CSS colour as red, green, blue (0…255) and alpha (0…1)
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = "rgba(0, 0, 0, 0)";
    pixel.fillStyle = color;
    pixel.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  function getOpacity(element) {
    let opacity = 1;
    for (let up = element; up; up = up.parentElement) opacity *= parseFloat(getComputedStyle(up).opacity);
    return opacity;
  }

  function isLarge(element) {
    const size = getFontSize(element), weight = parseFloat(getComputedStyle(element).fontWeight);
    return size >= 24 || (weight >= 700 && size >= 18.66);
  }

  function getHalo(element) { // the colour drawn around the letters of a drawing, before the letters
    const style = getComputedStyle(element), isFirst = style.paintOrder.startsWith("stroke");
    const width = parseFloat(style.strokeWidth) / parseFloat(style.fontSize);
    const [red, green, blue, alpha] = isFirst && width >= 0.2 ? resolveColor(style.stroke) : [0, 0, 0, 0];
    return alpha > 0.75 ? [red, green, blue] : null;
  }

  function listColoredTexts(root) { // text with its colour and where it lies in the window
    return listTexts(root).filter(({ element }) => !element.closest(":disabled")).map(({ element, rects }) => {
      const style = getComputedStyle(element);
      const [red, green, blue, alpha] = resolveColor(element.ownerSVGElement ? style.fill : style.color);
      return {
        name: describe(element),
        color: [red, green, blue],
        alpha: alpha * getOpacity(element),
        halo: element.ownerSVGElement ? getHalo(element) : null,
        needed: isLarge(element) ? 3 : 4.5,
        rects: rects.map((rect) => [rect.left, rect.top, rect.right, rect.bottom]),
      };
    });
  }

  function readColors(names) { // the background, then CSS variables, as shown now; null: there is none
    const probe = document.body.appendChild(document.createElement("i"));
    const colors = names.map((name) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).getPropertyValue(name) ? resolveColor(getComputedStyle(probe).color) : null;
    });
    probe.remove();
    return [readBackground(), ...colors];
  }

  function readBackground() { // of the page
    for (const element of [document.body, document.documentElement]) {
      const color = resolveColor(getComputedStyle(element).backgroundColor);
      if (color[3] > 0.99) return color;
    }
    return resolveColor("canvas");
  }

  let sheet = null;
  function hideText() { // by a constructed sheet, which no policy forbids; what takes its colour from the text keeps it
    sheet = new CSSStyleSheet();
    sheet.replaceSync(`*, ::before, ::after { transition: none !important; animation: none !important;
      -webkit-text-fill-color: transparent !important; text-shadow: none !important; text-decoration: none !important }
      svg text, svg tspan { fill: transparent !important; stroke: none !important }`);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    return settle();
  }
  function showText() {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    return settle();
  }

  // -- print; to be called while the media is print

  function findPrintFaults(root) {
    const faults = [], elements = listElements(root);
    for (const element of elements) {
      const style = getComputedStyle(element);
      for (const axis of ["X", "Y"]) {
        const [inside, outside] = axis === "X" ? ["scrollWidth", "clientWidth"] : ["scrollHeight", "clientHeight"];
        if (scrolls(style, axis) && element[inside] > element[outside] + SLACK) {
          const sizes = `${element[outside]} of ${element[inside]} px`;
          faults.push(`${describe(element)} would scroll: paper cuts it at ${sizes}`);
        }
      }
      if (element.matches("tr, figure") && !style.breakInside.startsWith("avoid")) {
        faults.push(`${describe(element)} may be cut by the end of a page (break-inside: avoid)`);
      }
      if (element.matches("thead") && style.display !== "table-header-group") {
        faults.push(`${describe(element)} is not repeated on the next page (display: table-header-group)`);
      }
      if (["fixed", "sticky"].includes(style.position)) faults.push(`${describe(element)} is printed on every page`);
    }
    for (const { element } of listTexts(root)) {
      const ratio = element.ownerSVGElement ? 21 : computeRatioOnPaper(element);
      if (ratio < 4.5) faults.push(`${describe(element)} has a contrast of ${round(ratio)} on paper`);
    }
    return faults;
  }

  function computeRatioOnPaper(element) { // backgrounds are not printed, unless print-color-adjust asks for it
    let paper = [255, 255, 255];
    for (let up = element; up; up = up.parentElement) {
      const style = getComputedStyle(up), [red, green, blue, alpha] = resolveColor(style.backgroundColor);
      if (style.printColorAdjust === "exact" && alpha > 0.5) { paper = [red, green, blue]; break; }
    }
    const [red, green, blue, alpha] = resolveColor(getComputedStyle(element).color);
    const ink = [red, green, blue].map((part, index) => alpha * part + (1 - alpha) * paper[index]);
    const [light, dark] = [computeLuminance(ink), computeLuminance(paper)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  }

  function computeLuminance(color) {
    const [red, green, blue] = color.map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  // -- structure

  function findNameless() {
    const faults = [];
    const images = [...document.querySelectorAll("img")];
    const drawings = [...document.querySelectorAll("svg")].filter((one) => !one.closest('[aria-hidden="true"]'));
    for (const image of images) {
      if (!(image.getAttribute("alt") || "").trim()) faults.push(`${describe(image)} has no alt text`);
    }
    for (const svg of drawings.filter((one) => !one.parentElement.closest("svg"))) {
      const labels = document.getElementById(svg.getAttribute("aria-labelledby") || "");
      const title = labels || svg.querySelector(":scope > title");
      const name = svg.getAttribute("aria-label") || (title ? title.textContent : "");
      if (!svg.closest('[role="img"]')) faults.push(`${describe(svg)} is neither role="img" nor aria-hidden`);
      else if (svg.matches('[role="img"]') && !name.trim()) faults.push(`${describe(svg)} has no name`);
    }
    const texts = new Set(images.map((image) => image.getAttribute("alt")));
    if (images.length > 3 && texts.size === 1) {
      faults.push(`${images.length} pictures share the alt text "${[...texts][0]}"`);
    }
    return faults;
  }

  const HEADINGS = "h1, h2, h3, h4, h5, h6";

  function findHeadingFaults() {
    const faults = [];
    const headings = [...document.querySelectorAll(HEADINGS)].filter((one) => !one.closest("dialog"));
    const first = headings.filter((one) => one.localName === "h1").length;
    if (first !== 1) faults.push(`${first} headings are h1`);
    let before = 0;
    for (const heading of headings) {
      const level = Number(heading.localName[1]);
      if (level > before + 1) faults.push(`${describe(heading)} follows a heading of level ${before}`);
      if (!heading.textContent.trim()) faults.push(`${describe(heading)} is empty`);
      before = level;
    }
    return faults;
  }

  function findEmptySections() {
    const faults = [];
    for (const part of document.querySelectorAll("section, article, details, figure, table, ul, ol, dl, tbody")) {
      const copy = part.cloneNode(true);
      const titles = `${HEADINGS}, summary, thead, caption, figcaption, script, style`;
      copy.querySelectorAll(titles).forEach((one) => one.remove());
      const isEmpty = !copy.textContent.trim() && !copy.querySelector("img, svg, canvas, picture");
      if (isEmpty) faults.push(`${describe(part)} is empty`);
    }
    return faults;
  }

  // -- what a person sees first, and reaches with the keyboard

  function readFirstScreen(root, height) {
    const inside = (rect) => rect.height > 0 && rect.top >= 0 && rect.bottom <= height;
    const texts = listTexts(root).filter(({ rects }) => rects.every(inside));
    const images = [...root.querySelectorAll("img")].filter(isVisible).map((one) => one.getBoundingClientRect());
    return [texts.map(({ node }) => node.data).join(" "), images.filter(inside).length];
  }

  const readText = (root) => listTexts(root).map(({ node }) => node.data).join("");

  function describeFocus() {
    const element = document.activeElement;
    if (!element || element === document.body || element === document.documentElement) return null;
    const style = getComputedStyle(element);
    const ring = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    const box = element.getBoundingClientRect();
    const kind = element.matches('a[href^="#"]') ? "link" : element.localName;
    return { kind, name: describe(element), ring, shown: box.width > 1 && box.bottom > 0 && box.top < innerHeight };
  }

  function countControls(root) { // what the tabulator should stop at
    const elements = listElements(root).filter((one) => !one.disabled);
    const count = (selector) => elements.filter((one) => one.matches(selector)).length;
    return { summary: count("summary"), button: count("button"), link: count('a[href^="#"]') };
  }

  // -- the policy

  async function findPolicyHoles() { // tries what injected markup would do, which the policy must stop
    const outside = "https://example.invalid/";
    const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
    const add = (name, values, text = "") => {
      const element = Object.assign(document.createElement(name), values);
      element.append(text);
      document.body.append(element);
      return element;
    };
    const tries = {
      "script-src": () => add("script", {}, "globalThis.injected = true"),
      "script-src-attr": () => add("p", { innerHTML: '<b onclick="0"></b>' }).firstChild.click(),
      "img-src": () => add("img", { src: `${outside}picture.png` }),
      "style-src": () => add("link", { rel: "stylesheet", href: `${outside}style.css` }),
      "connect-src": () => fetch(`${outside}data`).catch(() => null),
      "frame-src": () => add("iframe", { src: outside }),
      "media-src": () => add("video", { src: `${outside}film.mp4` }),
      "font-src": () => new FontFace("outside", `url(${outside}font.woff2)`).load().catch(() => null),
      "base-uri": () => add("base", { href: outside }),
      "form-action": () => add("form", { action: outside, method: "post", target: "_blank" }).submit(),
    };
    const faults = [];
    for (const [directive, attempt] of Object.entries(tries)) {
      const before = violations.length;
      await attempt();
      for (let wait = 0; wait < 20 && violations.length === before; wait++) await sleep(10);
      if (violations.length === before) faults.push(`the policy does not stop ${directive}`);
    }
    return faults;
  }

  function openAll() {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
    return settle();
  }

  const find = (finder) => (selector, ...values) => {
    readersOnly.clear();
    return finder(selector ? document.querySelector(selector) : document.body, ...values);
  };

  globalThis.pageChecks = {
    violations, settle, openAll, hideText, showText, readColors, describeFocus,
    findNameless, findHeadingFaults, findEmptySections, findPolicyHoles,
    findLayoutFaults: find(findLayoutFaults), listColoredTexts: find(listColoredTexts), readText: find(readText),
    readFirstScreen: find(readFirstScreen), findPrintFaults: find(findPrintFaults), countControls: find(countControls),
  };
})();
