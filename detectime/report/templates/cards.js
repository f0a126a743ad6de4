// Enlarges the frame of a card in a dialog: arrows and swipes go through the cards of its gallery, Esc closes.
(() => {
  "use strict";
  const LABEL = 14; // pixels of a box's label on the screen
  const SWIPE = 50; // pixels

  const make = (tag, properties = {}, children = []) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const makeButton = (label, text, act) => {
    const button = make("button", { type: "button", textContent: text, onclick: act });
    button.setAttribute("aria-label", label);
    return button;
  };

  const place = make("span", { className: "viewer-place" });
  place.setAttribute("aria-live", "polite");
  const previous = makeButton("Previous frame", "\u2039", () => move(-1));
  const next = makeButton("Next frame", "\u203a", () => move(1));
  const close = makeButton("Close", "\u00d7", () => dialog.close());
  close.autofocus = true;
  const stage = make("div");
  const bar = make("div", { className: "viewer-bar" }, [place, previous, next, close]);
  const dialog = make("dialog", { className: "viewer" }, [bar, stage]);
  dialog.setAttribute("aria-label", "Enlarged frame");

  let current = null; // the button of the card that is enlarged
  const listButtons = () => [...current.closest(".gallery, body").querySelectorAll(".card-open")];

  const cloneLegend = (card) => {
    const kinds = new Set([...card.querySelectorAll(".boxes rect")].map((box) => box.getAttribute("class")));
    const items = [...document.querySelectorAll(".box-legend [data-kind]")].filter((item) => kinds.has(item.dataset.kind));
    const shown = new Map(items.map((item) => [item.dataset.kind, item.cloneNode(true)]));
    return make("ul", { className: "box-legend" }, [...shown.values()]);
  };

  const fitLabels = () => {
    const boxes = stage.querySelector(".card-frame .boxes");
    if (!boxes) return;
    const { width, height } = boxes.viewBox.baseVal;
    const size = (LABEL * width) / boxes.getBoundingClientRect().width;
    boxes.style.fontSize = `${size}px`;
    const placed = [];
    for (const label of boxes.querySelectorAll("text")) {
      const { x, y } = { x: label.x.baseVal[0].value, y: label.y.baseVal[0].value };
      label.setAttribute("dx", Math.min(0, width - x - label.getComputedTextLength() - size / 2) + size / 4);
      placed.push(placeLabel(label, y > 1.5 * size ? -size / 2 : Math.min(1.2 * size, height), placed));
    }
  };

  // Puts a label on its box, or below the labels that it would lie on.
  const placeLabel = (label, dy, placed) => {
    for (let tries = 0; ; tries++) {
      label.setAttribute("dy", dy);
      const own = label.getBBox();
      const other = placed.find((box) => own.x < box.x + box.width && box.x < own.x + own.width
        && own.y < box.y + box.height && box.y < own.y + own.height);
      if (!other || tries > placed.length) return own;
      dy += other.y + other.height - own.y + own.height / 20;
    }
  };

  const show = (button) => {
    current = button;
    const card = button.closest(".card").cloneNode(true);
    const image = card.querySelector(".card-frame img");
    image.loading = "eager";
    card.querySelector(".card-frame").style.setProperty("--ratio", image.getAttribute("width") / image.getAttribute("height"));
    card.querySelector(".card-open").remove();
    card.querySelector(".card-frame").after(cloneLegend(card));
    stage.replaceChildren(card);
    const buttons = listButtons();
    const position = buttons.indexOf(button);
    place.textContent = `${position + 1} of ${buttons.length}`;
    previous.disabled = position === 0;
    next.disabled = position === buttons.length - 1;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    fitLabels();
  };

  const move = (step) => {
    const buttons = listButtons();
    const button = buttons[buttons.indexOf(current) + step];
    if (button) show(button);
    if (document.activeElement === document.body || document.activeElement.disabled) close.focus();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".card-open");
    if (button) show(button);
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      move(step);
    }
  });
  dialog.addEventListener("close", () => {
    stage.replaceChildren();
    const folded = current.closest("details:not([open])");
    if (folded) folded.open = true;
    current.focus();
  });
  let start = null;
  stage.addEventListener("touchstart", (event) => { start = event.touches.length === 1 ? event.touches[0] : null; }, { passive: true });
  stage.addEventListener("touchend", (event) => {
    if (!start) return;
    const end = event.changedTouches[0];
    const [x, y] = [end.clientX - start.clientX, end.clientY - start.clientY];
    if (Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y)) move(x > 0 ? -1 : 1);
  }, { passive: true });
  addEventListener("resize", fitLabels);
  document.body.append(dialog);
})();
