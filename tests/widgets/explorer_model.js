// A model for the front end of the explorer, in place of a kernel: it answers for frames that it imagines.
// Options: frames, hostile (names), mute (answers nothing), doubtReady, canApply, groups (false: too many to list).
// leftOut: frames that are not wanted; plain: all pictures are the same, which takes no time.
// `held`: kinds of requests whose answers wait for `release()`; `delay`: ms until an answer.
(() => {
  const SCRIPT = "<script>window.wasRun = true</script><img src=x onerror='window.wasRun = true'>";
  const CLASSES = ["call", "dislike", "fist", "four", "like", "mute", "ok", "one", "palm", "peace", "rock", "stop"];
  const OUTCOMES = [
    ["paired", "A hand overlaps the context square of a face.", true], ["fallback", "A hand was found by the chosen fallback.", true],
    ["corrected", "A person chose or drew its box, or changed its class.", true], ["rejected", "A person found that it has no right box.", false],
    ["apart", "There are hands, but none overlaps the context square of a face.", false],
    ["no_hand", "There is a face, but no hand was found.", false], ["no_face", "No face was found.", false],
    ["missing", "The source does not have the frame.", false], ["left_out", "The frame is not wanted.", false],
  ];
  const SAMPLES = new Set(OUTCOMES.filter(([, , isSample]) => isSample).map(([name]) => name));
  const SIZES = [[1280, 720], [640, 480], [720, 1280]];
  const LENGTH = 60; // frames of a group
  const hash = (number, salt = 0) => { // evenly between 0 and 1
    let value = Math.imul(number + 1, 2654435761) ^ Math.imul(salt + 1, 1597334677);
    value = Math.imul(value ^ (value >>> 15), 2246822519);
    value = Math.imul(value ^ (value >>> 13), 3266489917);
    return ((value ^ (value >>> 16)) >>> 0) / 2 ** 32;
  };

  function makeModel(options = {}) {
    const N = options.frames ?? 175_000, isHostile = options.hostile ?? false;
    const classes = isHostile ? [SCRIPT, "gesture".repeat(43).slice(0, 300), "\u202e\u05e9\u05dc\u05d5\u05dd", "a\u0000b\u0007c\nd", ...CLASSES] : CLASSES;
    const nameGroup = (number) => (isHostile ? ["v".repeat(300), SCRIPT, "\u202e\u05d5\u05d9\u05d3\u05d0\u05d5"][number % 3] : `clip_${String(number).padStart(4, "0")}`);
    let saved = { crop_coefficient: 1.5, wider_coefficient: 2.5, crop_hand_coefficient: 1.5, fallback: "none", min_face_score: null, min_hand_score: null };
    let drawn = null, selection = 0, chosen = [], settings = null, wanted = [], isDrawing = false, waiting = [];
    const listeners = new Set(), values = { still: options.still ?? "", still_text: "The frames of this run. Run the cell to look at them.", key: "k\"1" };

    const getClass = (row) => classes[Math.floor(row / LENGTH) % classes.length];
    function getOutcome(row, { crop_coefficient, wider_coefficient, fallback, min_face_score, min_hand_score }) {
      const kind = hash(row);
      if (kind < 0.01) return "missing";
      if (kind < 0.06 || hash(row, 3) < (min_face_score ?? 0)) return "no_face";
      if (kind < 0.12 || hash(row, 4) < (min_hand_score ?? 0)) return "no_hand";
      if (kind < 0.13) return "corrected";
      const distance = 0.5 + 2.6 * hash(row, 1) ** 2;
      if (distance < crop_coefficient) return "paired";
      if (fallback === "frame" || (fallback === "wider" && distance < wider_coefficient)) return "fallback";
      return "apart";
    }
    function getChange(row, now) {
      const [before, after] = [getOutcome(row, saved), getOutcome(row, now)];
      if (SAMPLES.has(before) !== SAMPLES.has(after)) return SAMPLES.has(after) ? "gained" : "lost";
      if (before !== after) return "other_reason";
      return after === "paired" && hash(row, 6) < 0.05 * Math.abs(now.crop_coefficient - saved.crop_coefficient) ? "moved" : "same";
    }
    const getDoubt = (row) => Math.round(100 * hash(row, 2) ** 3) / 100;
    const getDecision = (row) => (hash(row, 5) < 0.02 ? "keep" : null);

    function listBoxes(row, outcome, all) {
      const [width, height] = SIZES[Math.floor(row / LENGTH) % 3], side = Math.min(width, height);
      const sway = Math.sin((row % LENGTH) / 8), x = width * (0.45 + 0.04 * sway), y = height * 0.3, face = side * 0.13;
      const hand = [x + side * (0.2 + 0.05 * sway), y + side * (0.16 - 0.08 * sway)], half = side * 0.09;
      const box = (kind, cx, cy, h, label = "") => ({ kind, corners: [cx - h, cy - h * 1.15, cx + h, cy + h * 1.15], label });
      const found = [];
      if (outcome !== "no_face") found.push(box("face", x, y, face, all ? "0.98 retinaface" : ""));
      if (SAMPLES.has(outcome)) found.push(box("hand", ...hand, half, all ? "0.91 mask_rcnn" : ""));
      if (SAMPLES.has(outcome) && row % 5 === 0) found.push(box("bbox", ...hand, half * 1.5));
      if (all) found.push(box("square", x, y, face * 3), box("other", x - side * 0.3, y + side * 0.3, half * 0.8, "0.41 yolo"));
      return SAMPLES.has(outcome) || all ? found : [];
    }
    function describe(row, all = false) {
      const now = settings ?? saved, outcome = getOutcome(row, now), group = Math.floor(row / LENGTH);
      const [width, height] = outcome === "missing" ? [null, null] : SIZES[group % 3];
      return {
        row, frame_path: `${nameGroup(group)}/${String(row % LENGTH).padStart(5, "0")}.jpg`, frame_id: row % LENGTH, group: nameGroup(group),
        class_name: getClass(row), outcome, outcome_sentence: OUTCOMES.find(([name]) => name === outcome)[1], is_sample: SAMPLES.has(outcome),
        width, height, boxes: outcome === "missing" ? [] : listBoxes(row, outcome, all), doubt: options.doubtReady ? getDoubt(row) : null,
        decision: getDecision(row), decided_by: getDecision(row) && "ben", change: settings ? [getChange(row, settings)].filter((name) => name !== "same")[0] ?? null : null,
      };
    }
    function count(now) {
      const outcomes = {}, perClass = Object.fromEntries(classes.map((name) => [name, { frames: 0, samples: 0, saved_samples: 0 }]));
      const changes = { gained: 0, lost: 0, moved: 0, relabelled: 0, other_reason: 0 };
      let samples = 0;
      for (let row = 0; row < N; row++) {
        const outcome = getOutcome(row, now ?? saved), of = perClass[getClass(row)];
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        of.frames += 1;
        of.saved_samples += SAMPLES.has(getOutcome(row, saved));
        if (SAMPLES.has(outcome)) samples += 1, of.samples += 1;
        if (now) { const change = getChange(row, now); if (change in changes) changes[change] += 1; }
      }
      return { samples, outcomes, classes: perClass, changes: now ? changes : null };
    }
    function makeFacts() {
      const { samples, outcomes } = count(null), groups = Array.from({ length: Math.min(400, Math.ceil(N / LENGTH)) }, (_, k) => nameGroup(k));
      return {
        frames: N + (options.leftOut ?? 0), wanted: N, samples, name: isHostile ? `${SCRIPT}/${"r".repeat(300)}` : "reports/run", classes,
        outcomes: OUTCOMES.map(([name, sentence, is_sample]) => ({ name, sentence, is_sample, count: outcomes[name] ?? 0 })),
        groups: options.groups === false ? null : groups, groups_count: Math.ceil(N / LENGTH), detectors: ["mask_rcnn", "yolo"], has_landmarks: false,
        reviewers: isHostile ? [SCRIPT] : ["ben"],
        sorts: [{ name: "table", title: "order of the table" }, { name: "doubt", title: "doubt" }, { name: "class", title: "class" }, { name: "score", title: "score of the hand" }],
        doubt_ready: options.doubtReady ?? false, settings: { ...saved }, fallbacks: ["none", "wider", "frame"],
        ranges: { crop_coefficient: [0.5, 5, 0.05], wider_coefficient: [0.5, 8, 0.05], crop_hand_coefficient: [0.5, 5, 0.05], min_face_score: [0, 1, 0.01], min_hand_score: [0, 1, 0.01] },
        needs_pairing: options.needsPairing ?? false, state: options.needsPairing ? "Decisions are newer than hands.json." : "",
      };
    }

    const answers = {
      open: () => ({ kind: "opened", facts: makeFacts() }),
      select({ filter, sort, descending, settings: now }) {
        if (filter.text === "fault") return { kind: "fault", text: "This text is a fault; nothing was changed." };
        settings = now;
        const has = (list, value) => !list.length || list.includes(value);
        chosen = [];
        for (let row = 0; row < N; row++) {
          const isWanted = has(filter.classes, getClass(row)) && has(filter.outcomes, getOutcome(row, now ?? saved))
            && (!filter.changes.length || (now && filter.changes.includes(getChange(row, now)))) && (!filter.group || nameGroup(Math.floor(row / LENGTH)) === filter.group)
            && (!filter.text || `${nameGroup(Math.floor(row / LENGTH))} ${getClass(row)}`.includes(filter.text))
            && (filter.decided === "any" || (filter.decided === "yes") === (getDecision(row) !== null))
            && (!filter.doubt || (getDoubt(row) >= filter.doubt[0] && getDoubt(row) <= filter.doubt[1]));
          if (isWanted) chosen.push(row);
        }
        if (sort === "doubt") chosen.sort((one, other) => getDoubt(one) - getDoubt(other));
        if (descending) chosen.reverse();
        return { kind: "selected", selection: ++selection, total: chosen.length, ...count(now), seconds: 0.1 };
      },
      rows(message) {
        if (message.selection !== selection) return { kind: "rows", selection: message.selection, from: message.from, rows: [], stale: true };
        return { kind: "rows", selection, from: message.from, rows: chosen.slice(message.from, message.to).map((row) => describe(row)) };
      },
      frame({ row }) {
        const frame = describe(row, true), first = Math.floor(row / LENGTH) * LENGTH, start = Math.max(first, row - 15), end = Math.min(first + LENGTH, N, row + 16);
        frame.lines = [frame.outcome_sentence, "Doubt 0.42: the hand touches the border of the square; its score is low.", "Face 0.98 (retinaface), hand 0.91 (mask_rcnn)"];
        if (isHostile) frame.lines.push(SCRIPT, "x".repeat(300));
        return { kind: "frame", row, frame, strip: Array.from({ length: end - start }, (_, k) => describe(start + k)) };
      },
      apply({ settings: now }) {
        saved = { ...now };
        return { kind: "applied", text: `hands.json has ${count(null).samples.toLocaleString("en-US")} samples.`, facts: makeFacts() };
      },
    };

    function tell(content, buffers = []) {
      for (const listener of [...listeners]) listener(content, buffers);
    }
    function receive(message) {
      model.sent.push(structuredClone(message));
      if (options.mute || model.isMute) return;
      if (message.kind === "pictures") { wanted = message.wanted; return drawNext(); }
      if (!answers[message.kind]) throw new Error(`no answer to ${message.kind}`);
      waiting.push(message);
      setTimeout(() => { if (waiting.includes(message) && !model.held.has(message.kind)) answer(message); }, model.delay);
    }
    function answer(message) {
      waiting = waiting.filter((other) => other !== message);
      tell({ ...answers[message.kind](message), id: message.id });
    }

    async function drawNext() { // one picture at a time, as wished
      if (isDrawing) return;
      isDrawing = true;
      while (wanted.length && !model.held.has("pictures")) {
        const { row, side } = wanted.shift();
        if (getOutcome(row, saved) === "missing") { tell({ kind: "picture", row, side, fault: `${describe(row).frame_path}: the source does not have the frame.` }); continue; }
        const buffer = new DataView(options.plain ? await (drawn ??= drawPicture(0, 256)) : await drawPicture(row, side));
        model.drawn += 1;
        tell({ kind: "picture", row, side, fault: null }, [buffer]);
      }
      isDrawing = false;
    }
    async function drawPicture(row, side) {
      const [width, height] = SIZES[Math.floor(row / LENGTH) % 3], scale = Math.min(1, side / Math.max(width, height));
      const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale)), pen = canvas.getContext("2d");
      pen.scale(scale, scale);
      const tone = Math.round(360 * hash(Math.floor(row / LENGTH), 9));
      const ground = pen.createLinearGradient(0, 0, width, height);
      ground.addColorStop(0, `hsl(${tone} 18% 62%)`);
      ground.addColorStop(1, `hsl(${tone + 40} 20% 38%)`);
      pen.fillStyle = ground;
      pen.fillRect(0, 0, width, height);
      const [face, hand] = ["face", "hand"].map((kind) => listBoxes(row, "paired", false).find((box) => box.kind === kind).corners);
      const ellipse = ([x1, y1, x2, y2], color, grow = 1) => {
        pen.fillStyle = color;
        pen.beginPath();
        pen.ellipse((x1 + x2) / 2, (y1 + y2) / 2, (grow * (x2 - x1)) / 2, (grow * (y2 - y1)) / 2, 0, 0, 7);
        pen.fill();
      };
      const skin = `hsl(24 ${30 + 20 * hash(tone)}% ${30 + 40 * hash(tone, 1)}%)`, x = (face[0] + face[2]) / 2, w = face[2] - face[0];
      ellipse([x - w * 1.2, face[3] + w * 0.1, x + w * 1.2, face[3] + w * 4], `hsl(${tone + 180} 25% 32%)`);
      ellipse(face, skin);
      ellipse([x - w * 0.5, face[1] - w * 0.1, x + w * 0.5, face[1] + w * 0.4], `hsl(${tone} 20% 18%)`);
      ellipse(hand, skin, 0.9);
      const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 });
      return blob.arrayBuffer();
    }

    const model = {
      sent: [], held: new Set(), delay: options.delay ?? 0, drawn: 0, isMute: false, tell, describe, answer: (message) => answers[message.kind](message),
      get: (name) => values[name], set: (name, value) => { values[name] = value; }, save_changes() {},
      on: (name, listener) => { if (name === "msg:custom") listeners.add(listener); },
      off: (name, listener) => listeners.delete(listener),
      send: receive,
      listen: () => listeners.size,
      release(kind) { // answers the oldest request of a kind that is held
        const message = waiting.find((other) => other.kind === kind);
        if (message) answer(message);
        return Boolean(message);
      },
      list: (kind) => model.sent.filter((message) => message.kind === kind),
    };
    return model;
  }
  window.makeModel = makeModel;
})();
