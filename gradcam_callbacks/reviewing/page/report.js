"use strict";
(() => {
  // ---- The data ----

  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const UNIT = data.unit;
  const [HEIGHT, WIDTH] = data.size;
  const COUNT = data.names.length;
  const TARGETS = data.targets.length;
  const RUNS = data.runs.length;
  const PER_STEP = COUNT * TARGETS;
  const WARNINGS = new Set(["moved", "shortcut"]);
  const CROWD = 120; // of cells: from then on, canvases out of sight give their memory back

  function bytesOf(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
    return bytes;
  }

  function sharesOf(text) {
    if (text === null) return null;
    const raw = new Uint16Array(bytesOf(text).buffer);
    const shares = new Float32Array(raw.length);
    for (let at = 0; at < raw.length; at++) shares[at] = raw[at] === 65535 ? NaN : raw[at] / 65534;
    return shares;
  }

  const runs = data.runs.map((run, number) => ({
    ...run,
    number,
    color: `var(--run-${number % 6})`,
    maps: bytesOf(run.maps),
    peaks: new Float32Array(bytesOf(run.peaks).buffer),
    scores: new Float32Array(bytesOf(run.scores).buffer),
    predicted: new Int32Array(bytesOf(run.predicted).buffer),
    explained: new Int32Array(bytesOf(run.explained).buffer),
    health: bytesOf(run.health),
    probabilities: sharesOf(run.probabilities),
    drift: sharesOf(run.drift),
    first: sharesOf(run.first),
    shift: sharesOf(run.shift),
    rank: sharesOf(run.rank).map((share) => 2 * share - 1),
    floor: sharesOf(run.floor),
    focus: sharesOf(run.focus),
    pointing: sharesOf(run.pointing),
    isWarned: run.events.some((event) => WARNINGS.has(event.kind)),
  }));

  // Every step of any run; a run that lacks one shows its last earlier one.
  const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
  const FIRST = steps[0];
  const LAST = steps[steps.length - 1];
  const places = runs.map((run) => {
    let place = -1;
    return steps.map((step) => (run.steps[place + 1] === step ? ++place : place));
  });

  // Raw values of different layers, methods or kinds of score cannot share a scale.
  const kindOf = (run) => [run.layer, run.method, run.score].join("\n");
  const highest = new Map();
  for (const run of runs) {
    const peak = run.peaks.reduce((a, b) => Math.max(a, b), 0);
    highest.set(kindOf(run), Math.max(peak, highest.get(kindOf(run)) || 0));
  }
  for (const run of runs) run.highest = highest.get(kindOf(run));

  // ---- Words ----

  const isNumber = (value) => value !== null && Number.isFinite(value);
  const nameOf = (step) => (step < 0 ? "before training" : `${UNIT} ${step}`);
  const shortOf = (step) => (step < 0 ? "before" : String(step));
  const className = (index) => (index < 0 ? "" : data.classes[index] || `class_${index}`);
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : word === "batch" ? "es" : "s"}`;

  function percent(share) {
    if (!isNumber(share)) return "–";
    const value = 100 * share;
    if (value === 0) return "0 %";
    return value < 1 ? "< 1 %" : `${Math.round(value)} %`;
  }

  function probability(value) {
    if (!isNumber(value)) return "–";
    if (value > 0 && value < 0.005) return "< 0.01";
    return value < 1 && value > 0.995 ? "> 0.99" : value.toFixed(2);
  }

  function number(value) {
    if (!isNumber(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1).replace("-", "−");
    const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    return value.toFixed(digits).replace("-", "−");
  }

  // For an axis: no zeros that say nothing.
  function tick(format, value) {
    return format(value).replace(/^(−?\d+)\.0+$/, "$1").replace(/(\.\d*?)0+$/, "$1");
  }

  // ---- Elements: what comes from the user gets in by textContent only ----

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") node.className = value;
      else if (key === "text") node.textContent = value;
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  function drawn(tag, attributes = {}) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function chip(run) {
    const node = element("span", { class: "chip" }, element("i", { "aria-hidden": "true" }), element("bdi", { text: run.name }));
    node.style.setProperty("--run", run.color);
    return node;
  }

  // ---- What is shown ----

  const state = {
    at: steps.length - 1,
    isPlaying: false,
    isHidden: false,
    isHeld: false,
    isGrey: false,
    scale: "map",
    colormap: Object.keys(data.colormaps)[0],
    opacity: 0.6,
    large: null,
    version: 0,
    theme: null,
  };

  const stepNow = () => steps[state.at];
  const isShown = () => !(state.isHidden || state.isHeld);
  const of = (run, s, n, k) => s * PER_STEP + n * TARGETS + k;

  function valueOf(run, name, s, n, k) {
    const values = run[name];
    return values === null || s < 0 ? NaN : values[of(run, s, n, k)];
  }

  // ---- Heat ----

  const tables = Object.fromEntries(Object.entries(data.colormaps).map(([name, text]) => [name, bytesOf(text)]));
  const paints = new Uint32Array(256);

  // Little evidence lets the picture through, so that it stays recognisable: alpha = opacity * 1.15 v^0.65, at most
  // the opacity.
  const cover = (share) => Math.min(1, 1.15 * share ** 0.65);

  function mixPaints() {
    const table = tables[state.colormap];
    const bytes = new Uint8Array(paints.buffer);
    for (let value = 0; value < 256; value++) {
      bytes.set(table.subarray(3 * value, 3 * value + 3), 4 * value);
      bytes[4 * value + 3] = Math.round(255 * cover(value / 255));
    }
  }

  const axes = new Map();

  // Where the pixels' centres lie between the cells' centres, as in tf.image.resize.
  function axisOf(cells, pixels) {
    const key = cells * 4096 + pixels;
    if (!axes.has(key)) {
      const low = new Int32Array(pixels);
      const high = new Int32Array(pixels);
      const share = new Float32Array(pixels);
      for (let at = 0; at < pixels; at++) {
        const place = Math.min(cells - 1, Math.max(0, ((at + 0.5) * cells) / pixels - 0.5));
        low[at] = Math.floor(place);
        high[at] = Math.min(cells - 1, low[at] + 1);
        share[at] = place - low[at];
      }
      axes.set(key, { low, high, share });
    }
    return axes.get(key);
  }

  const sheets = new Map();

  function sheetOf(width, height) {
    const key = width * 4096 + height;
    if (!sheets.has(key)) {
      const canvas = element("canvas", { width, height });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      const image = context.createImageData(width, height);
      sheets.set(key, { canvas, context, image, pixels: new Uint32Array(image.data.buffer) });
    }
    return sheets.get(key);
  }

  let row = new Float32Array(64);

  // Values are interpolated, then coloured; the canvas enlarges the last two or three times.
  function heatOf(run, s, n, k, width, height, finest) {
    const [rows, columns] = run.grid;
    const map = of(run, s, n, k);
    const peak = run.peaks[map];
    if (!(peak > 0)) return null;
    const scale = Math.min(1, finest / Math.max(width, height));
    const wide = Math.max(1, Math.round(width * scale));
    const high = Math.max(1, Math.round(height * scale));
    const sheet = sheetOf(wide, high);
    const down = axisOf(rows, high);
    const across = axisOf(columns, wide);
    const factor = state.scale === "shared" ? peak / run.highest : 1;
    const start = map * rows * columns;
    const { maps } = run;
    if (row.length < columns) row = new Float32Array(columns);
    let pixel = 0;
    for (let y = 0; y < high; y++) {
      const above = start + down.low[y] * columns;
      const below = start + down.high[y] * columns;
      const part = down.share[y];
      for (let x = 0; x < columns; x++) row[x] = (maps[above + x] * (1 - part) + maps[below + x] * part) * factor;
      for (let x = 0; x < wide; x++) {
        const left = row[across.low[x]];
        sheet.pixels[pixel++] = paints[(left + (row[across.high[x]] - left) * across.share[x] + 0.5) | 0];
      }
    }
    sheet.context.putImageData(sheet.image, 0, 0);
    return sheet.canvas;
  }

  // ---- Pictures ----

  const photographs = data.pictures.map((source) => {
    const image = new Image();
    image.src = source;
    return image;
  });
  const outlines = data.regions.map((path) => (path === null ? null : new Path2D(path)));
  let prints = new Map();

  // A picture at the size of its cells, so that a frame copies instead of scaling.
  function printOf(n, width, height) {
    const key = `${n} ${width} ${height}`;
    if (!prints.has(key)) {
      const image = photographs[n];
      const canvas = element("canvas", { width, height });
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = width < 3 * image.naturalWidth; // a tiny picture keeps its pixels
      context.imageSmoothingQuality = "high";
      context.drawImage(image, 0, 0, width, height);
      if (state.isGrey) {
        context.globalCompositeOperation = "saturation";
        context.fillStyle = "hsl(0 0% 50%)";
        context.fillRect(0, 0, width, height);
      }
      prints.set(key, canvas);
    }
    return prints.get(key);
  }

  function paint(canvas, width, height, run, s, n, k, { finest = 112, hasOutline = true } = {}) {
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const image = photographs[n];
    if (!image.complete || !image.naturalWidth) return;
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.drawImage(printOf(n, width, height), 0, 0);
    const heat = s >= 0 && isShown() ? heatOf(run, s, n, k, width, height, finest) : null;
    if (heat !== null) {
      context.globalAlpha = state.opacity;
      context.imageSmoothingEnabled = true;
      context.drawImage(heat, 0, 0, width, height);
    }
    if (hasOutline && outlines[n] !== null) {
      context.save();
      context.globalAlpha = 1;
      const pen = Math.max(1, Math.min(2.4, Math.max(width, height) / 170));
      context.lineJoin = "round";
      for (const [color, thick] of [["rgba(0,0,0,.6)", 2.4], ["#fff", 1]]) {
        const whole = new Path2D();
        whole.addPath(outlines[n], { a: width / 1000, d: height / 1000 });
        context.strokeStyle = color;
        context.lineWidth = thick * pen;
        context.stroke(whole);
      }
      context.restore();
    }
  }

  // ---- Curves ----

  const tip = byId("tip");

  function showTip(event, text) {
    setText(tip, text);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(window.innerWidth - width - 8, Math.max(8, event.clientX - width / 2));
    const top = event.clientY - height - 14 < 4 ? event.clientY + 18 : event.clientY - height - 14;
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    const host = event.target.closest("dialog") || byId("app");
    if (tip.parentNode !== host) host.append(tip); // a modal dialog lies over all that is outside of it
  }

  const hideTip = () => {
    tip.hidden = true;
  };

  const shareOf = (step) => (LAST === FIRST ? 0.5 : (step - FIRST) / (LAST - FIRST));

  function nearest(share) {
    const wanted = FIRST + share * (LAST - FIRST);
    let best = 0;
    for (let at = 1; at < steps.length; at++) {
      if (Math.abs(steps[at] - wanted) < Math.abs(steps[best] - wanted)) best = at;
    }
    return best;
  }

  // A line with gaps where nothing is known; a point alone is a dot, by its round cap.
  function lineOf(points) {
    let path = "";
    let isOpen = false;
    points.forEach(([x, y], at) => {
      if (!Number.isFinite(y)) {
        isOpen = false;
        return;
      }
      path += `${isOpen ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
      const next = points[at + 1];
      if (!isOpen && (!next || !Number.isFinite(next[1]))) path += "h0";
      isOpen = true;
    });
    return path;
  }

  function bandOf(points, base) {
    const known = points.filter(([, y]) => Number.isFinite(y));
    if (known.length === 0) return "";
    const edge = known.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");
    return `M${known[0][0].toFixed(2)} ${base}L${edge}L${known[known.length - 1][0].toFixed(2)} ${base}Z`;
  }

  function niceCeiling(value) {
    const ladder = [0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1];
    return ladder.find((rung) => rung >= value - 1e-9) || 1;
  }

  function highestDrift() {
    let top = 0.02;
    for (const run of runs) {
      for (const value of run.drift) if (value > top) top = value;
      for (const value of run.curves.drift) if (value !== null && value > top) top = value;
    }
    return niceCeiling(top);
  }

  const DRIFT_TOP = highestDrift();

  function ticksBetween(low, high, most) {
    const rough = (high - low) / Math.max(1, most);
    const power = 10 ** Math.floor(Math.log10(rough || 1));
    const width = [1, 2, 5, 10].map((step) => step * power).find((step) => step >= rough) || power;
    const found = [];
    for (let at = Math.ceil(low / width - 1e-9); at * width <= high + width * 1e-6; at++) found.push(at * width);
    return found;
  }

  // A range with a round step that holds all of it.
  function niceRange(low, high) {
    if (!(high > low)) return [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
    const rough = (high - low) / 2;
    const power = 10 ** Math.floor(Math.log10(rough));
    const width = [1, 1.5, 2, 3, 5, 10].map((part) => part * power).find((part) => part >= rough * 0.999);
    const bottom = Math.floor(low / width + 1e-6) * width;
    return [bottom, Math.max(bottom + width, Math.ceil(high / width - 1e-6) * width)];
  }

  function stepTicks(width) {
    const found = ticksBetween(Math.max(0, FIRST), Math.max(LAST, 1), Math.max(2, width / 64)).filter(
      (step) => Number.isInteger(step) && step <= LAST,
    );
    return FIRST < 0 ? [FIRST, ...found.filter((step) => shareOf(step) * width > 44)] : found;
  }

  const plots = new Set();

  /* A chart over the steps. series: {run, steps, values, isFaint}; bands: {run, steps, values}; dots: {step, value,
     text}. The last known values at the cursor stand beside the title. */
  function plot({ title, label, series, bands = [], dots = [], low, high, format, height = 76, hasAxis = false, hint = "" }) {
    const readings = element("span", { class: "readings" });
    const caption = element("div", { class: "plot-head" }, title, readings);
    const svg = drawn("svg", { class: "plot", role: "img", "aria-label": `${label}. ${spoken(series, format)}` });
    const node = element("div", { class: "plot-box" }, caption, svg);
    const main = series.filter((line) => !line.isFaint);
    const values = main.map((line) => {
      const reading = element("b");
      reading.style.setProperty("--run", line.run.color);
      readings.append(reading);
      return reading;
    });
    if (bands.length) readings.prepend(element("span", { class: "swatch", text: "noise floor" }));
    const bottom = hasAxis ? 20 : 6;
    const [left, right, top] = [40, 10, 6];
    let width = 0;
    let cursor = null;
    let pins = [];
    const xOf = (step) => left + shareOf(step) * (width - left - right);
    const yOf = (value) => (isNumber(value) ? top + (1 - (value - low) / (high - low)) * (height - top - bottom) : NaN);
    const pointsOf = (line) => line.steps.map((step, at) => [xOf(step), yOf(line.values[at])]);

    function draw() {
      const wanted = Math.round(node.clientWidth);
      if (!wanted || wanted === width) return;
      width = wanted;
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("width", width);
      svg.setAttribute("height", height);
      svg.replaceChildren();
      for (const value of [low, (low + high) / 2, high]) {
        svg.append(drawn("line", { class: "rule", x1: left, x2: width - right, y1: yOf(value), y2: yOf(value) }));
        if (value !== (low + high) / 2 || height >= 100) {
          const text = drawn("text", { class: "tick", x: left - 7, y: yOf(value) + 3.5, "text-anchor": "end" });
          text.textContent = tick(format, value);
          svg.append(text);
        }
      }
      if (hasAxis) {
        for (const step of stepTicks(width - left - right)) {
          const text = drawn("text", { class: "tick", x: xOf(step), y: height - 4, "text-anchor": step < 0 ? "start" : "middle" });
          text.textContent = shortOf(step);
          if (step < 0) text.setAttribute("x", left);
          svg.append(drawn("line", { class: "rule", x1: xOf(step), x2: xOf(step), y1: height - bottom, y2: height - bottom + 4 }), text);
        }
      }
      for (const band of bands) svg.append(drawn("path", { class: "band", d: bandOf(pointsOf(band), yOf(low)) }));
      for (const line of series) {
        const path = drawn("path", { class: line.isFaint ? "curve faint" : "curve", d: lineOf(pointsOf(line)) });
        path.style.setProperty("--run", line.run.color);
        svg.append(path);
      }
      cursor = drawn("line", { class: "cursor", y1: 0, y2: height - bottom });
      pins = main.map((line) => {
        const pin = drawn("circle", { class: "pin", r: 3.5 });
        pin.style.setProperty("--run", line.run.color);
        return pin;
      });
      svg.append(cursor, ...pins);
      for (const dot of dots) {
        if (isNumber(dot.value)) svg.append(drawn("circle", { class: "flag", cx: xOf(dot.step), cy: yOf(dot.value), r: 4 }));
      }
      update();
    }

    function update(hasWords = true) {
      const step = stepNow();
      main.forEach((line, at) => {
        const place = lastUpTo(line.steps, step);
        const value = place < 0 ? null : line.values[place];
        if (hasWords) setText(values[at], isNumber(value) ? format(value) : "–");
        if (!pins[at]) return;
        const isThere = isNumber(value) && line.steps[place] === step;
        pins[at].setAttribute("visibility", isThere ? "visible" : "hidden");
        if (isThere) {
          pins[at].setAttribute("cx", xOf(step));
          pins[at].setAttribute("cy", yOf(value));
        }
      });
      if (cursor) {
        cursor.setAttribute("x1", xOf(step));
        cursor.setAttribute("x2", xOf(step));
      }
    }

    const placeOf = (event) => {
      const box = svg.getBoundingClientRect();
      return nearest((event.clientX - box.left - left) / (width - left - right));
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      go(placeOf(event));
    });
    svg.addEventListener("pointermove", (event) => {
      const at = placeOf(event);
      if (event.buttons & 1) go(at);
      const step = steps[at];
      const told = main.map((line) => {
        const place = lastUpTo(line.steps, step);
        const value = place < 0 ? null : line.values[place];
        return `${RUNS > 1 ? `${line.run.name} ` : ""}${isNumber(value) ? format(value) : "–"}`;
      });
      const flags = dots.filter((dot) => dot.step === step).map((dot) => dot.text);
      showTip(event, [`${nameOf(step)}: ${told.join(", ")}${hint}`, ...flags.slice(0, 2)].join("\n"));
    });
    svg.addEventListener("pointerleave", hideTip);
    const made = { node, draw, update };
    plots.add(made);
    return made;
  }

  function lastUpTo(numbers, step) {
    let low = 0;
    let high = numbers.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (numbers[middle] <= step) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  function spoken(series, format) {
    return series
      .filter((line) => !line.isFaint)
      .map((line) => {
        const known = line.values.map((value, at) => [value, line.steps[at]]).filter(([value]) => isNumber(value));
        if (known.length === 0) return `${RUNS > 1 ? `${line.run.name}: ` : ""}nothing known`;
        const peak = known.reduce((a, b) => (b[0] > a[0] ? b : a));
        const [from, to] = [known[0], known[known.length - 1]];
        const who = RUNS > 1 ? `${line.run.name}: ` : "";
        return `${who}${format(from[0])} at ${nameOf(from[1])}, ${format(to[0])} at ${nameOf(to[1])}, highest ${format(peak[0])} at ${nameOf(peak[1])}`;
      })
      .join("; ");
  }

  const resizing = new ResizeObserver(() => {
    for (const made of plots) made.draw();
  });

  function addPlot(host, made) {
    host.append(made.node);
    resizing.observe(made.node);
  }

  function dropPlots(host) {
    for (const made of [...plots]) {
      if (host.contains(made.node)) {
        resizing.unobserve(made.node);
        plots.delete(made);
      }
    }
    host.replaceChildren();
  }

  // ---- The head ----

  function fillHead() {
    byId("title").append(
      ...(RUNS === 1 ? [element("bdi", { text: runs[0].name })] : runs.flatMap((run, at) => (at ? [" ", chip(run)] : [chip(run)]))),
    );
    for (const run of runs) {
      const pieces = run.summary.map(([text, isWarning]) => element(isWarning ? "strong" : "span", { text }));
      const line = element("p", { class: `verdict${run.isWarned ? " warned" : ""}${RUNS > 1 ? " of-many" : ""}`, dir: "auto" });
      if (run.isWarned) line.append(element("span", { class: "mark", "aria-hidden": "true" }), element("span", { class: "unseen", text: "Warning. " }));
      if (RUNS > 1) line.append(chip(run), " ");
      line.append(...pieces);
      byId("verdicts").append(line);
    }
    fact("Layer", (run) => run.layer);
    fact("Method", (run) => run.method);
    fact("Probes", () => `${COUNT} × ${plural(TARGETS, "target")}`);
    fact("Recorded", (run) => {
      const all = run.curves.steps;
      const trained = all.filter((step) => step >= 0);
      const range = trained.length ? `${plural(trained.length, UNIT)}${trained.length > 1 ? `, ${trained[0]} to ${trained[trained.length - 1]}` : ""}` : "";
      return [all[0] < 0 ? "before training" : "", range].filter(Boolean).join(" and ");
    });
    fact("Maps", (run) => run.grid.join(" × "));
    if (runs.some((run) => run.link !== null)) {
      const links = runs.filter((run) => run.link !== null).map(linkOf);
      byId("facts").append(element("div", {}, element("dt", { text: links.length > 1 ? "Runs" : "Run" }), ...links));
    }
    const notes = RUNS === 1 ? runs[0].notes.map((text) => [null, text]) : commonNotes();
    byId("notes").append(
      ...notes.map(([run, text]) => element("li", {}, run ? chip(run) : null, run ? " " : null, element("bdi", { text }))),
    );
    byId("notes").hidden = notes.length === 0;
  }

  function commonNotes() {
    const shared = new Set(runs[0].notes.filter((text) => runs.every((run) => run.notes.includes(text))));
    return [
      ...[...shared].map((text) => [null, text]),
      ...runs.flatMap((run) => run.notes.filter((text) => !shared.has(text)).map((text) => [run, text])),
    ];
  }

  function fact(name, tell) {
    const told = runs.map(tell);
    const isSame = told.every((text) => text === told[0]);
    const values = isSame
      ? [element("dd", { dir: "auto", text: told[0] })]
      : told.map((text, at) => element("dd", {}, chip(runs[at]), " ", element("bdi", { text })));
    byId("facts").append(element("div", {}, element("dt", { text: name }), ...values));
  }

  function linkOf(run) {
    const isFramed = window.self !== window.top; // a sandboxed frame may not open anything: then it is there to copy
    const name = RUNS > 1 ? chip(run) : null;
    const shown = isFramed
      ? element("code", { text: run.link })
      : element("a", { href: run.link, target: "_blank", rel: "noopener noreferrer", text: "open" });
    return element("dd", {}, name, name ? " " : null, shown);
  }

  // ---- The overview ----

  function fillCharts() {
    const host = byId("charts");
    const lines = (name) =>
      runs.filter((run) => run.curves[name]).map((run) => ({ run, steps: run.curves.steps, values: run.curves[name] }));
    const dots = runs.flatMap((run) => {
      const byStep = new Map();
      for (const event of run.events) {
        if (WARNINGS.has(event.kind)) byStep.set(event.step, [...(byStep.get(event.step) || []), event.text]);
      }
      return [...byStep].map(([step, texts]) => ({
        step,
        value: run.curves.drift[run.curves.steps.indexOf(step)],
        text: texts.length > 1 ? `${texts.length} flagged here` : texts[0],
      }));
    });
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves.metrics)))];
    const hasFocus = runs.some((run) => run.curves.focus);
    const top = Math.max(...runs.flatMap((run) => [...run.curves.drift, ...run.curves.floor].map((value) => value || 0)), 0.02);
    addPlot(host, plot({
      title: heading("Mean drift", "share of the attention that moved"),
      label: "Mean drift, the share of the attention that moved since the step before",
      series: lines("drift"), bands: lines("floor").filter((line) => line.values.some(isNumber)), dots, low: 0, high: niceCeiling(top), format: percent,
      height: 116, hasAxis: !hasFocus && names.length === 0,
    }));
    if (hasFocus) {
      addPlot(host, plot({
        title: heading("Focus", "share of the attention inside the marked regions"),
        label: "Focus, the share of the attention inside the marked regions",
        series: lines("focus"), low: 0, high: 1, format: percent, height: names.length ? 62 : 80, hasAxis: names.length === 0,
      }));
    }
    if (names.length) {
      const box = element("div");
      host.append(box);
      fillMetric(box, names, favourite(names));
    }
  }

  function heading(name, what) {
    return element("h2", {}, element("span", { text: name }), element("small", { text: what }));
  }

  function favourite(names) {
    const wanted = ["val_accuracy", "accuracy", "val_loss", "loss"];
    return wanted.find((name) => names.includes(name)) || names.find((name) => name.endsWith("accuracy")) || names[0];
  }

  function fillMetric(box, names, chosen) {
    dropPlots(box);
    const choice = element("select", { class: "metric", "aria-label": "Metric", dir: "auto" });
    for (const name of names) choice.append(element("option", { value: name, text: name, selected: name === chosen }));
    choice.addEventListener("change", () => {
      fillMetric(box, names, choice.value);
      box.querySelector("select").focus();
    });
    const series = runs
      .filter((run) => run.curves.metrics[chosen])
      .map((run) => ({ run, steps: run.curves.steps, values: run.curves.metrics[chosen] }));
    const known = series.flatMap((line) => line.values.filter(isNumber));
    let [low, high] = [Math.min(...known), Math.max(...known)];
    if (known.length === 0) [low, high] = [0, 1];
    if (/accuracy|auc|precision|recall/.test(chosen) && low >= 0 && high <= 1) [low, high] = [0, 1];
    else if (low > 0 && low < high / 2) low = 0;
    [low, high] = niceRange(low, high);
    const made = plot({ title: element("h2", {}, choice), label: chosen, series, low, high, format: number, height: 78, hasAxis: true });
    addPlot(box, made);
    made.draw();
  }

  const KINDS = { shortcut: ["shortcut", "shortcuts"], moved: ["jump", "jumps"], health: ["health change", "health changes"], class: ["class change", "class changes"] };
  const shownKinds = new Set(Object.keys(KINDS));

  function fillEvents() {
    const events = runs.flatMap((run) => run.events.map((event) => ({ run, ...event }))).sort((a, b) => a.step - b.step);
    const list = byId("events");
    for (const [kind, [one, many]] of Object.entries(KINDS)) {
      const count = events.filter((event) => event.kind === kind).length;
      if (count === 0) continue;
      if (kind === "class" && events.length > 12 && count < events.length) shownKinds.delete(kind);
      const button = element("button", { type: "button", class: `kind ${kind}`, "aria-pressed": String(shownKinds.has(kind)) }, element("i", { class: `sign ${kind}`, "aria-hidden": "true" }), `${count} ${count === 1 ? one : many}`);
      button.addEventListener("click", () => {
        if (!shownKinds.delete(kind)) shownKinds.add(kind);
        button.setAttribute("aria-pressed", String(shownKinds.has(kind)));
        listEvents();
      });
      byId("kinds").append(button);
    }
    const item = (event) => {
      const button = element("button", { type: "button", class: "event" }, ...lineOfEvent(event, event.text));
      button.addEventListener("click", () => visit(event));
      return element("li", {}, button);
    };
    const bundles = new Map();
    for (const event of events) {
      const key = `${event.step} ${event.kind} ${event.run.number}`;
      bundles.set(key, [...(bundles.get(key) || []), event]);
    }
    const items = [...bundles.values()].flatMap((bundle) => {
      if (bundle.length <= 3) return bundle.map((event) => [event.kind, item(event)]);
      const inner = element("ol", {}, ...bundle.map(item));
      const head = element("summary", { class: "event" }, ...lineOfEvent(bundle[0], toldTogether(bundle)));
      return [[bundle[0].kind, element("li", {}, element("details", {}, head, inner))]];
    });
    function listEvents() {
      const shown = items.filter(([kind]) => shownKinds.has(kind)).map(([, node]) => node);
      const said = events.length ? "Nothing of the kinds chosen." : "Nothing to flag: no jump, no change of class or health.";
      list.replaceChildren(...(shown.length ? shown : [element("li", { class: "nothing", text: said })]));
    }
    listEvents();
  }

  function lineOfEvent(event, text) {
    return [
      element("span", { class: "when", text: shortOf(event.step) }),
      element("i", { class: `sign ${event.kind}`, "aria-hidden": "true" }),
      element("span", { class: "what" }, RUNS > 1 ? chip(event.run) : null, RUNS > 1 ? " " : null, element("bdi", { text })),
    ];
  }

  function toldTogether(bundle) {
    const probes = new Set(bundle.map((event) => event.probe)).size;
    const on = `on ${probes} of ${plural(COUNT, "probe")}`;
    if (bundle[0].kind === "moved") return `${bundle.length} maps jumped ${on} while the predictions stayed`;
    if (bundle[0].kind === "class") return `${bundle.length} targets changed their class ${on}`;
    return `${bundle.length} maps changed their health ${on}`;
  }

  function visit(event) {
    const at = steps.indexOf(event.step);
    go(at >= 0 ? at : Math.max(0, lastUpTo(steps, event.step)));
    if (event.probe === null) {
      byId("controls").scrollIntoView({ behavior: "auto", block: "start" });
      return;
    }
    const card = cards[event.probe];
    if (!card.node.isConnected) clearFilters();
    const group = card.groups[event.target === null ? 0 : event.target];
    const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    card.node.scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "center" });
    group.cells[0].button.focus({ preventScroll: true });
    group.node.classList.remove("visited");
    void group.node.offsetWidth; // starts the animation anew
    group.node.classList.add("visited");
  }

  // ---- The grid ----

  const SPARK = { width: 100, height: 30, top: 3 };
  const cards = [];
  const groups = [];
  const visible = new Set();
  const byNode = new WeakMap();

  function fillGrid() {
    const grid = byId("probes");
    grid.style.setProperty("--runs", RUNS);
    grid.style.setProperty("--columns", TARGETS * RUNS);
    grid.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
    grid.classList.toggle("crowd", COUNT > 24);
    grid.classList.toggle("wide-pictures", WIDTH > 1.6 * HEIGHT);
    for (let n = 0; n < COUNT; n++) cards.push(makeCard(n));
    grid.append(...cards.map((card) => card.node));
  }

  function makeCard(n) {
    const says = element("p", { class: "says" });
    const label = data.labels ? className(data.labels[n]) : "";
    const isFlagged = runs.some((run) => run.events.some((event) => WARNINGS.has(event.kind) && event.probe === n));
    const title = element("h3", { id: `probe-${n}`, dir: "auto", text: data.names[n], title: data.names[n] });
    const head = element(
      "header",
      {},
      title,
      isFlagged ? element("span", { class: "flagged", text: "flagged" }) : null,
      label ? element("p", { class: "label" }, "label ", element("bdi", { text: label })) : null,
      RUNS === 1 ? says : null,
    );
    const own = Array.from({ length: TARGETS }, (_, k) => makeGroup(n, k));
    const node = element("article", { class: "probe", "aria-labelledby": `probe-${n}` }, head, element("div", { class: "targets" }, ...own.map((group) => group.node)));
    groups.push(...own);
    return { n, node, says, label, groups: own, isFlagged, drift: meanDrift(n) };
  }

  function meanDrift(n) {
    let most = -1;
    for (const run of runs) {
      for (let k = 0; k < TARGETS; k++) {
        let [sum, count] = [0, 0];
        for (let s = 0; s < run.steps.length; s++) {
          const value = run.drift[of(run, s, n, k)];
          if (value >= 0) [sum, count] = [sum + value, count + 1];
        }
        if (count) most = Math.max(most, sum / count);
      }
    }
    return most;
  }

  function makeGroup(n, k) {
    const cells = runs.map((run) => {
      const canvas = element("canvas", { role: "img", width: 1, height: 1 });
      const badge = element("span", { class: "badge", hidden: true });
      const button = element("button", { type: "button", class: "cell", "aria-haspopup": "dialog" }, canvas, badge);
      const note = element("p", { class: "note" });
      const node = element("div", { class: "run" }, RUNS > 1 ? element("div", { class: "run-name" }, chip(run)) : null, button, note);
      return { run, canvas, badge, button, note, node };
    });
    const kind = element("span", { class: "kind-of-target", dir: "auto", text: data.targets[k] });
    const of_class = element("span", { class: "class-of-target", dir: "auto" });
    const readings = runs.map((run) => {
      const chance = element("span", { class: "chance" });
      const inside = element("span", { class: "inside", title: "focus: share of the attention inside the marked region" });
      const moved = element("span", { class: "drifted" });
      const line = element("p", { class: RUNS > 1 ? "reading of-many" : "reading" }, chance, inside, moved);
      line.style.setProperty("--run", run.color);
      return { chance, inside, moved, line };
    });
    const spark = makeSpark(n, k);
    const name = element("p", { class: "target-name", title: data.targets[k] }, kind, of_class);
    const node = element("section", { class: "target", "aria-label": `Target ${data.targets[k]}` }, name, element("div", { class: "maps" }, ...cells.map((cell) => cell.node)), element("div", { class: "readings-of-runs" }, ...readings.map((each) => each.line)), spark.node);
    const group = { n, k, node, cells, name, of_class, readings, spark, drawn: "" };
    byNode.set(node, group);
    cells.forEach((cell) => cell.button.addEventListener("click", () => openLarge(n, k)));
    return group;
  }

  // By the square root, so that one jump does not flatten all the rest.
  const sparkY = (value) => (isNumber(value) ? SPARK.top + (1 - Math.sqrt(Math.min(1, value / DRIFT_TOP))) * (SPARK.height - SPARK.top) : NaN);

  function makeSpark(n, k) {
    const node = drawn("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height + 2}`, preserveAspectRatio: "none", role: "img" });
    const said = [];
    for (const run of runs) {
      const values = run.steps.map((step, s) => [shareOf(step) * SPARK.width, sparkY(run.floor[of(run, s, n, k)])]);
      const band = bandOf(values, SPARK.height);
      if (band) node.append(drawn("path", { class: "band", d: band }));
    }
    for (const run of runs) {
      const drift = run.steps.map((step, s) => run.drift[of(run, s, n, k)]);
      const curve = drawn("path", { class: "curve", d: lineOf(run.steps.map((step, s) => [shareOf(step) * SPARK.width, sparkY(drift[s])])) });
      curve.style.setProperty("--run", run.color);
      node.append(curve);
      said.push(spoken([{ run, steps: run.steps, values: drift }], percent));
    }
    for (const run of runs) {
      for (const event of run.events) {
        if (event.probe !== n || event.target !== k) continue;
        const s = run.steps.indexOf(event.step);
        if (s < 0) continue;
        const x = (shareOf(event.step) * SPARK.width).toFixed(2);
        if (event.kind === "moved") node.append(drawn("path", { class: "flag", d: `M${x} ${sparkY(run.drift[of(run, s, n, k)]).toFixed(2)}h0` }));
        if (event.kind === "class") node.append(drawn("path", { class: "change", d: `M${x} ${SPARK.height + 2}v-5` }));
      }
    }
    node.setAttribute("aria-label", `Drift: ${said.join("; ")}`);
    const cursor = element("i", { "aria-hidden": "true" }); // moved without any layout, unlike a line in the drawing
    const box = element("div", { class: "spark-box" });
    box.append(node, cursor);
    return { node: box, cursor };
  }

  function updateGroup(group, hasWords = true) {
    const { n, k } = group;
    group.spark.cursor.style.transform = `translateX(${(100 * shareOf(stepNow())).toFixed(2)}%)`;
    const named = new Set();
    group.cells.forEach((cell, r) => {
      const { run } = cell;
      const s = places[r][state.at];
      const isOwn = s >= 0 && run.steps[s] === stepNow();
      const health = s < 0 ? "" : data.healths[run.health[of(run, s, n, k)]];
      const explained = s < 0 ? -1 : run.explained[of(run, s, n, k)];
      if (explained >= 0) named.add(className(explained));
      cell.button.classList.toggle("stale", !isOwn);
      const isPlain = health === "ok" || health === "";
      if (cell.badge.hidden !== isPlain) cell.badge.hidden = isPlain;
      if (!isPlain) setText(cell.badge, health);
      if (!hasWords) return;
      setText(cell.note, noteOf(run, s, n, isOwn));
      const drift = valueOf(run, "drift", s, n, k);
      const chance = valueOf(run, "probabilities", s, n, k);
      const reading = group.readings[r];
      setText(reading.chance, s < 0 ? "–" : isNumber(chance) ? probability(chance) : number(run.scores[of(run, s, n, k)]));
      const focus = valueOf(run, "focus", s, n, k);
      setText(reading.inside, isNumber(focus) ? percent(focus) : "");
      setText(reading.moved, isNumber(drift) ? percent(drift) : "");
      reading.moved.classList.toggle("beyond", drift > 2 * (valueOf(run, "floor", s, n, k) || 0) && drift > 0.1);
      reading.line.title = `${run.probabilities ? "probability" : run.score}, and drift since the step before`;
    });
    if (!hasWords) return;
    const names = [...named].filter((name) => name !== data.targets[k]).join(" / ");
    setText(group.of_class, ["predicted", "label"].includes(data.targets[k]) || data.targets[k].startsWith("target_") ? names : "");
  }

  function noteOf(run, s, n, isOwn) {
    if (s < 0) return "not recorded yet";
    const predicted = run.predicted[s * COUNT + n];
    const says = RUNS > 1 && predicted >= 0 ? `predicts ${className(predicted)}` : "";
    return [isOwn ? "" : nameOf(run.steps[s]), says].filter(Boolean).join(", ");
  }

  // The words for those who do not see it: not in every frame of a play, but also of cells out of sight.
  function describeGroup(group) {
    const { n, k } = group;
    group.cells.forEach((cell, r) => {
      const { run } = cell;
      const s = places[r][state.at];
      const parts = [data.names[n], RUNS > 1 ? `run ${run.name}` : "", `target ${data.targets[k]}`, nameOf(stepNow())];
      if (s < 0) parts.push("not recorded yet");
      else {
        if (run.steps[s] !== stepNow()) parts.push(`shown as at ${nameOf(run.steps[s])}`);
        const predicted = run.predicted[s * COUNT + n];
        if (predicted >= 0) parts.push(`predicts ${className(predicted)}`);
        const chance = valueOf(run, "probabilities", s, n, k);
        parts.push(isNumber(chance) ? `probability ${probability(chance)}` : `score ${number(run.scores[of(run, s, n, k)])}`);
        const drift = valueOf(run, "drift", s, n, k);
        if (isNumber(drift)) parts.push(`drift ${percent(drift)}`);
        const focus = valueOf(run, "focus", s, n, k);
        if (isNumber(focus)) parts.push(`focus ${percent(focus)}`);
        parts.push(`map ${data.healths[run.health[of(run, s, n, k)]]}`);
      }
      cell.canvas.setAttribute("aria-label", parts.filter(Boolean).join(", "));
    });
  }

  let cell = { width: 0, height: 0 };

  function measureCells() {
    const first = groups.find((group) => group.node.isConnected && group.cells[0].button.clientWidth > 0);
    if (!first) return;
    const wide = first.cells[0].button.clientWidth * Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(16, Math.min(360, Math.round(wide)));
    if (width === cell.width) return;
    cell = { width, height: Math.max(1, Math.round((width * HEIGHT) / WIDTH)) };
    prints = new Map();
    state.version++;
    schedule();
  }

  function drawGroup(group, hasWords = true) {
    const key = `${state.at} ${state.version} ${photographs[group.n].complete}`;
    if (group.drawn === key || !cell.width) return;
    group.drawn = key;
    group.cells.forEach(({ canvas, run }, r) => paint(canvas, cell.width, cell.height, run, places[r][state.at], group.n, group.k));
    updateGroup(group, hasWords);
  }

  function updateCard(card) {
    if (RUNS > 1) return;
    const s = places[0][state.at];
    const predicted = s < 0 ? -1 : runs[0].predicted[s * COUNT + card.n];
    const name = className(predicted);
    if (card.said === predicted) return;
    card.said = predicted;
    card.says.replaceChildren(...(predicted < 0 ? [] : ["predicts ", element("bdi", { text: name })]));
    card.says.classList.toggle("wrong", predicted >= 0 && data.labels !== null && data.labels[card.n] !== predicted);
  }

  // ---- Sort and filter ----

  const worstHealth = (card) => Math.max(...card.groups.map((group) => Math.max(...runs.map((run, r) => (places[r][state.at] < 0 ? 0 : run.health[of(run, places[r][state.at], card.n, group.k)])))));

  function extreme(card, name, choose, none) {
    const values = [];
    runs.forEach((run, r) => {
      for (let k = 0; k < TARGETS; k++) {
        const value = valueOf(run, name, places[r][state.at], card.n, k);
        if (isNumber(value)) values.push(value);
      }
    });
    return values.length ? choose(...values) : none;
  }

  const ORDERS = {
    given: () => 0,
    drift: (card) => -card.drift,
    now: (card) => -extreme(card, "drift", Math.max, -1),
    focus: (card) => extreme(card, "focus", Math.min, 2),
    health: (card) => -worstHealth(card),
  };

  const folded = (text) => text.normalize("NFKC").toLowerCase();

  function predictionsOf(card) {
    return runs.map((run, r) => (places[r][state.at] < 0 ? -1 : run.predicted[places[r][state.at] * COUNT + card.n])).filter((index) => index >= 0);
  }

  function matches(card) {
    const words = folded(byId("search").value.trim());
    const [kind, index] = byId("show").value.split(" ");
    const classes = predictionsOf(card);
    if (kind === "flagged" && !card.isFlagged) return false;
    if (kind === "problem" && worstHealth(card) === 0) return false;
    if (kind === "ok" && worstHealth(card) !== 0) return false;
    if (kind === "wrong" && (!data.labels || classes.every((each) => each === data.labels[card.n]))) return false;
    if (kind === "class" && !classes.includes(Number(index)) && !(data.labels && data.labels[card.n] === Number(index))) return false;
    return words === "" || [data.names[card.n], card.label, ...classes.map(className)].some((text) => folded(text).includes(words));
  }

  let arranged = "";

  function arrange() {
    const order = ORDERS[byId("sort").value];
    const shown = cards
      .filter(matches)
      .map((card) => [order(card), card])
      .sort((a, b) => a[0] - b[0] || a[1].n - b[1].n)
      .map(([, card]) => card);
    setText(byId("count"), shown.length === COUNT ? plural(COUNT, "probe") : `${shown.length} of ${plural(COUNT, "probe")}`);
    byId("none").hidden = shown.length > 0;
    const key = shown.map((card) => card.n).join(" ");
    if (key === arranged) return;
    arranged = key;
    const held = document.activeElement;
    byId("probes").replaceChildren(...shown.map((card) => card.node));
    if (held && held !== document.activeElement && held.isConnected) held.focus({ preventScroll: true });
    measureCells();
    schedule();
  }

  function clearFilters() {
    byId("search").value = "";
    byId("show").value = "all";
    arrange();
  }

  function fillFilters() {
    const seen = new Set(data.labels || []);
    for (const run of runs) for (const index of run.predicted) if (index >= 0) seen.add(index);
    const listed = [...seen].map((index) => [className(index), index]).sort((a, b) => a[0].localeCompare(b[0]));
    const hasProblems = runs.some((run) => run.health.some((code) => code !== 0));
    const flagged = cards.filter((card) => card.isFlagged).length;
    const choices = [["all", "all probes"], ["flagged", `flagged (${flagged})`]];
    if (hasProblems) choices.push(["problem", "health: problems now"], ["ok", "health: all ok now"]);
    if (data.labels && listed.length) choices.push(["wrong", "wrong now"]);
    byId("show").append(...choices.map(([value, text]) => element("option", { value, text, disabled: value === "flagged" && flagged === 0 })));
    const group = element("optgroup", { label: "labelled or predicted now" }, ...listed.map(([name, index]) => element("option", { value: `class ${index}`, text: name })));
    if (listed.length > 1) byId("show").append(group);
    const [, , , focus, health] = byId("sort").options;
    focus.disabled = focus.hidden = runs.every((run) => run.focus === null);
    health.disabled = health.hidden = !hasProblems;
    for (const id of ["sort", "show"]) byId(id).addEventListener("change", arrange);
    byId("search").addEventListener("input", arrange);
    byId("clear").addEventListener("click", () => {
      clearFilters();
      byId("search").focus();
    });
  }

  // ---- Time ----

  let isScheduled = false;

  function schedule() {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(() => {
      isScheduled = false;
      render();
    });
  }

  const metricNodes = [];

  function fillMetrics() {
    for (const run of runs) {
      const names = Object.keys(run.curves.metrics);
      const line = element("div", { class: "metrics-of-run" }, RUNS > 1 ? chip(run) : null);
      for (const name of names.slice(0, 8)) {
        const value = element("b");
        line.append(element("span", { class: "metric-now" }, element("span", { dir: "auto", text: name }), " ", value));
        metricNodes.push({ run, name, value });
      }
      byId("metrics").append(line);
    }
  }

  function render() {
    const step = stepNow();
    byId("epoch").value = state.at;
    byId("large-epoch").value = state.at;
    for (const id of ["epoch", "large-epoch"]) {
      byId(id).setAttribute("aria-valuetext", nameOf(step));
      byId(id).style.setProperty("--done", steps.length > 1 ? state.at / (steps.length - 1) : 1);
    }
    setText(byId("now"), nameOf(step));
    setText(byId("large-now"), nameOf(step));
    const hasWords = areWordsDue();
    if (hasWords) tellMetrics();
    if (state.large === null) {
      for (const group of visible) drawGroup(group, hasWords);
      if (hasWords) for (const card of cards) updateCard(card);
    } else drawLarge();
    for (const made of plots) made.update(hasWords);
    settle();
  }

  function tellMetrics() {
    for (const { run, name, value } of metricNodes) {
      const place = lastUpTo(run.curves.steps, stepNow());
      setText(value, place < 0 ? "–" : number(run.curves.metrics[name][place]));
    }
  }

  let saidAt = 0;

  // Nobody reads numbers that change more often, and their layout costs more than the pictures.
  function areWordsDue() {
    const now = performance.now();
    if (state.isPlaying && now - saidAt < 95) return false;
    saidAt = now;
    return true;
  }

  let settling = 0;

  // What is too much for each frame of a play.
  function settle() {
    clearTimeout(settling);
    if (state.isPlaying) return;
    settling = setTimeout(() => {
      for (const group of groups) {
        updateGroup(group);
        describeGroup(group);
      }
      for (const card of cards) updateCard(card);
      for (const made of plots) made.update();
      tellMetrics();
      arrange();
      announce();
      remember();
    }, 120);
  }

  let announced = -1;

  function announce() {
    const isFirst = announced < 0; // what is there when the page opens is read anyway
    if (announced === state.at) return;
    announced = state.at;
    if (isFirst) return;
    const told = metricNodes.filter(({ run }) => run === runs[0]).slice(0, 4).map(({ name, value }) => `${name} ${value.textContent}`);
    setText(byId("live"), [nameOf(stepNow()), ...told].join(", "));
  }

  function remember() {
    const large = state.large === null ? "" : `&probe=${state.large.n}&target=${state.large.k}`;
    try {
      history.replaceState(null, "", `#step=${stepNow()}${large}`);
    } catch {
      // A sandboxed frame has no address.
    }
  }

  function recall() {
    let wanted;
    try {
      wanted = new URLSearchParams(location.hash.slice(1));
    } catch {
      return;
    }
    if (wanted.has("step")) state.at = Math.max(0, lastUpTo(steps, Number(wanted.get("step"))));
    const [n, k] = [Number(wanted.get("probe")), Number(wanted.get("target"))];
    if (wanted.has("probe") && cards[n] && k >= 0 && k < TARGETS) openLarge(n, Math.floor(k));
  }

  function go(at, { isOwn = false } = {}) {
    if (!isOwn) play(false);
    const wanted = Math.max(0, Math.min(steps.length - 1, at));
    if (wanted === state.at) return;
    state.at = wanted;
    schedule();
  }

  let lastTick = 0;

  function play(isWanted) {
    if (isWanted === state.isPlaying || (isWanted && steps.length < 2)) return;
    state.isPlaying = isWanted;
    for (const id of ["play", "large-play"]) {
      byId(id).setAttribute("aria-label", isWanted ? "Pause" : "Play");
      byId(id).classList.toggle("playing", isWanted);
    }
    if (!isWanted) {
      settle();
      return;
    }
    if (state.at === steps.length - 1) {
      state.at = 0;
      schedule();
    }
    lastTick = performance.now();
    requestAnimationFrame(advance);
  }

  function advance(now) {
    if (!state.isPlaying) return;
    const pause = 1000 / Number(byId("speed").value);
    if (now - lastTick >= pause - 4) {
      lastTick = now - lastTick > 2 * pause ? now : lastTick + pause;
      if (state.at === steps.length - 1) {
        play(false);
        return;
      }
      state.at++;
      isScheduled = true; // drawn here, not a frame later
      render();
      isScheduled = false;
    }
    requestAnimationFrame(advance);
  }

  function fillTime() {
    for (const id of ["epoch", "large-epoch"]) {
      const slider = byId(id);
      slider.max = steps.length - 1;
      slider.setAttribute("aria-label", UNIT === "epoch" ? "Epoch" : "Batch");
      slider.disabled = steps.length < 2;
      slider.addEventListener("input", () => go(Number(slider.value)));
    }
    for (const id of ["play", "large-play"]) byId(id).addEventListener("click", () => play(!state.isPlaying));
    byId("play").disabled = byId("large-play").disabled = steps.length < 2;
    const ticks = byId("ticks");
    ticks.setAttribute("viewBox", "0 0 1000 6");
    const flagged = new Set(runs.flatMap((run) => run.events.filter((event) => WARNINGS.has(event.kind)).map((event) => event.step)));
    for (const step of flagged) {
      const at = steps.indexOf(step);
      if (at >= 0) ticks.append(drawn("path", { d: `M${steps.length > 1 ? (1000 * at) / (steps.length - 1) : 500} 3h0` }));
    }
  }

  // ---- How the heat looks ----

  function restyle({ isPrintStale = false } = {}) {
    if (isPrintStale) prints = new Map();
    mixPaints();
    drawBar();
    state.version++;
    schedule();
  }

  function drawBar() {
    const canvas = byId("bar");
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.fillStyle = "#8c8a86"; // a picture's middle grey
    context.fillRect(0, 0, canvas.width, canvas.height);
    const sheet = sheetOf(256, 1);
    sheet.pixels.set(paints);
    sheet.context.putImageData(sheet.image, 0, 0);
    context.globalAlpha = state.opacity;
    context.imageSmoothingEnabled = false;
    context.drawImage(sheet.canvas, 0, 0, canvas.width, canvas.height);
    const tops = [...new Set(runs.map((run) => run.highest))];
    const isShared = state.scale === "shared";
        setText(byId("bar-high"), isShared ? (tops.length === 1 ? `${number(tops[0])}, the highest of all` : "highest of each layer") : "each map’s highest");
    canvas.setAttribute("aria-label", `Colour bar, ${state.colormap}, from no evidence to ${isShared ? "the largest maximum of all maps" : "each map’s own maximum"}`);
  }

  function setOpacity(value) {
    state.opacity = Math.max(0, Math.min(1, value));
    byId("opacity").value = Math.round(100 * state.opacity);
    byId("opacity").setAttribute("aria-valuetext", `${Math.round(100 * state.opacity)} %`);
    restyle();
  }

  function setScale(scale) {
    state.scale = scale;
    document.querySelector(`input[name=scale][value=${scale}]`).checked = true;
    restyle();
  }

  function fillSettings() {
    byId("colormap").append(...Object.keys(data.colormaps).map((name) => element("option", { value: name, text: name.toLowerCase() })));
    byId("colormap").addEventListener("change", (event) => {
      state.colormap = event.target.value;
      restyle();
    });
    for (const input of document.getElementsByName("scale")) input.addEventListener("change", () => setScale(input.value));
    byId("opacity").addEventListener("input", (event) => setOpacity(event.target.value / 100));
    byId("hide").addEventListener("click", () => {
      state.isHidden = !state.isHidden;
      byId("hide").setAttribute("aria-pressed", String(state.isHidden));
      restyle();
    });
    byId("grey").addEventListener("click", () => {
      state.isGrey = !state.isGrey;
      byId("grey").setAttribute("aria-pressed", String(state.isGrey));
      restyle({ isPrintStale: true });
    });
    byId("options").addEventListener("click", () => {
      const isOpen = byId("controls").classList.toggle("open");
      byId("options").setAttribute("aria-expanded", String(isOpen));
    });
    setOpacity(state.opacity);
  }

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    byId("theme").setAttribute("aria-pressed", String(theme === "dark"));
  }

  function fillTheme() {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const follow = () => setTheme(state.theme || (dark.matches ? "dark" : "light"));
    dark.addEventListener("change", follow);
    byId("theme").addEventListener("click", () => {
      state.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      follow();
    });
    follow();
  }

  // ---- One probe, large ----

  const dialog = byId("large");
  const large = { figures: [], minis: [], frames: [], rows: [], for: "" };
  let film = null;

  function openLarge(n, k) {
    state.large = { n, k };
    if (!dialog.open) {
      dialog.showModal();
      byId("close").focus();
    }
    fillLarge();
    schedule();
  }

  function fillLarge() {
    const { n, k } = state.large;
    const isNew = large.for !== `${n} ${k}`;
    if (!isNew) return;
    large.for = `${n} ${k}`;
    const title = byId("large-title");
    title.replaceChildren(element("bdi", { text: data.names[n] }));
    fillLargePictures(n, k);
    fillLargeTargets(n, k);
    fillLargeCharts(n, k);
    fillTable(n);
    fillFilm(n, k);
    const order = arranged.split(" ").filter(Boolean).map(Number);
    byId("before").disabled = byId("after").disabled = order.length < 2;
  }

  function fillLargePictures(n, k) {
    large.figures = runs.map((run) => {
      const canvas = element("canvas", { role: "img", width: 1, height: 1 });
      const badge = element("span", { class: "badge", hidden: true });
      const note = element("span", { class: "note" });
      const node = element("figure", {}, element("div", { class: "frame" }, canvas, badge), RUNS > 1 ? element("figcaption", {}, chip(run), " ", note) : element("figcaption", {}, note));
      return { run, canvas, badge, note, node };
    });
    const host = byId("large-pictures");
    host.style.setProperty("--runs", Math.min(RUNS, 2));
    host.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
    host.replaceChildren(...large.figures.map((figure) => figure.node));
  }

  function fillLargeTargets(n, k) {
    const host = byId("large-targets");
    host.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
    large.minis = data.targets.map((target, number_) => {
      const canvases = runs.map(() => element("canvas", { role: "img", width: 1, height: 1 }));
      const button = element("button", { type: "button", class: "mini", "aria-pressed": String(number_ === k) }, element("span", { class: "mini-maps" }, ...canvases), element("bdi", { text: target }));
      button.addEventListener("click", () => {
        openLarge(n, number_);
        byId("large-targets").children[number_].focus();
      });
      return { canvases, button };
    });
    host.replaceChildren(...large.minis.map((mini) => mini.button));
    host.hidden = TARGETS < 2;
  }

  function fillLargeCharts(n, k) {
    const host = byId("large-charts");
    dropPlots(host);
    const lines = (name, target, isFaint = false) =>
      runs
        .filter((run) => run[name] !== null)
        .map((run) => ({ run, isFaint, steps: run.steps, values: run.steps.map((_, s) => run[name][of(run, s, n, target)]) }));
    const others = (name) => (RUNS > 1 ? [] : data.targets.flatMap((_, target) => (target === k ? [] : lines(name, target, true))));
    const known = (list) => list.flatMap((line) => line.values.filter(isNumber));
    const dots = runs.flatMap((run) =>
      run.events
        .filter((event) => event.kind === "moved" && event.probe === n && event.target === k && run.steps.includes(event.step))
        .map((event) => ({ step: event.step, value: run.drift[of(run, run.steps.indexOf(event.step), n, k)], text: event.text })),
    );
    const charts = [];
    charts.push({ title: heading("Drift", "moved since the step before"), label: "Drift", series: lines("drift", k), bands: lines("floor", k).filter((line) => line.values.some(isNumber)), dots, low: 0, high: DRIFT_TOP, format: percent, height: 104 });
    if (known(lines("focus", k)).length) charts.push({ title: heading("Focus", "inside the marked region"), label: "Focus", series: lines("focus", k), low: 0, high: 1, format: percent });
    if (known(lines("probabilities", k)).length) charts.push({ title: heading("Probability", TARGETS > 1 && RUNS === 1 ? "other targets faint" : ""), label: "Probability", series: [...others("probabilities"), ...lines("probabilities", k)], low: 0, high: 1, format: probability });
    const scores = [...others("scores"), ...lines("scores", k)];
    const [low, high] = niceRange(Math.min(0, ...known(scores)), Math.max(0, ...known(scores)));
    charts.push({ title: heading("Score", runs[0].score), label: "Score", series: scores, low, high, format: number });
    charts[charts.length - 1].hasAxis = true;
    charts[charts.length - 1].height = 92;
    for (const chart of charts) addPlot(host, plot(chart));
    for (const made of plots) made.draw();
  }

  const COLUMNS = [
    ["Prob.", "probabilities", probability, "Probability of the target"],
    ["Score", "scores", number, "Score that is explained"],
    ["Drift", "drift", percent, "Share of the attention that moved since the step before"],
    ["From first", "first", percent, "Share of the attention that moved since the first step"],
    ["Shift", "shift", percent, "How far the centre moved, as a share of the diagonal"],
    ["Rank", "rank", (value) => (isNumber(value) ? value.toFixed(2).replace("-", "−") : "–"), "Rank correlation with the step before"],
    ["Noise", "floor", percent, "Drift by noise alone"],
    ["Focus", "focus", percent, "Share of the attention inside the region"],
    ["Health", null, String, "What the map is fit for"],
  ];

  function fillTable(n) {
    const shown = COLUMNS.filter(([, name]) => name === null || runs.some((run) => run[name] !== null));
    const titles = RUNS > 1 ? ["Target", "Run"] : ["Target"];
    const head = element("tr", {}, ...titles.map((text) => element("th", { scope: "col", class: "name", text })), ...shown.map(([title, , , what]) => element("th", { scope: "col", title: what, text: title })));
    large.rows = [];
    const rows = data.targets.flatMap((target, k) =>
      runs.map((run, r) => {
        const values = shown.map(() => element("td"));
        large.rows.push({ run, k, values, shown });
        const of_target = r === 0 ? element("th", { scope: "rowgroup", class: "name", rowspan: RUNS, title: target, dir: "auto", text: target }) : null;
        const of_run = RUNS > 1 ? element("th", { scope: "row", class: "name", title: run.name }, chip(run)) : null;
        if (RUNS === 1) of_target.setAttribute("scope", "row");
        return element("tr", { class: k === state.large.k ? "current" : "" }, ...[of_target, of_run].filter(Boolean), ...values);
      }),
    );
    byId("large-table").replaceChildren(element("caption", { class: "unseen", text: `The numbers of ${data.names[n]}` }), element("thead", {}, head), element("tbody", {}, ...rows));
  }

  function fillFilm(n, k) {
    const host = byId("film");
    if (film) film.disconnect();
    const waiting = new Map();
    film = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const frame = waiting.get(entry.target);
        frame.isNear = entry.isIntersecting;
        if (frame.isNear) drawFrame(frame);
      }
    }, { root: host, rootMargin: "0px 400px" });
    host.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
    large.frames = steps.map((step, at) => {
      const canvases = runs.map(() => element("canvas", { role: "img", width: 1, height: 1 }));
      const isFlagged = runs.some((run) => run.events.some((event) => event.kind === "moved" && event.probe === n && event.target === k && event.step === step));
      const button = element("button", { type: "button", class: isFlagged ? "frame-of-film flagged-frame" : "frame-of-film", tabindex: "-1" }, ...canvases, element("span", { text: shortOf(step) }));
      canvases.forEach((canvas, r) => canvas.setAttribute("aria-label", `${RUNS > 1 ? `${runs[r].name}, ` : ""}${nameOf(step)}${isFlagged ? ", flagged" : ""}`));
      button.addEventListener("click", () => go(at));
      const frame = { at, button, canvases, isNear: false, drawn: "" };
      waiting.set(button, frame);
      return frame;
    });
    host.replaceChildren(...large.frames.map((frame) => frame.button));
    for (const frame of large.frames) film.observe(frame.button);
  }

  function drawFrame(frame) {
    const { n, k } = state.large || {};
    const key = `${n} ${k} ${state.version}`;
    if (n === undefined || frame.drawn === key) return;
    frame.drawn = key;
    const width = Math.round(Math.min(96, 66 * (WIDTH / HEIGHT)) * Math.min(2, window.devicePixelRatio || 1));
    const height = Math.max(1, Math.round((width * HEIGHT) / WIDTH));
    frame.canvases.forEach((canvas, r) => {
      const s = places[r][frame.at];
      canvas.classList.toggle("stale", s < 0 || runs[r].steps[s] !== steps[frame.at]);
      paint(canvas, width, height, runs[r], s, n, k, { finest: 48, hasOutline: false });
    });
  }

  function drawLarge() {
    const { n, k } = state.large;
    const told = [];
    large.figures.forEach((figure, r) => {
      const { run } = figure;
      const s = places[r][state.at];
      const isOwn = s >= 0 && run.steps[s] === stepNow();
      const wide = figure.canvas.clientWidth * Math.min(2, window.devicePixelRatio || 1);
      const width = Math.max(16, Math.min(900, Math.round(wide)));
      paint(figure.canvas, width, Math.max(1, Math.round((width * HEIGHT) / WIDTH)), run, s, n, k, { finest: 224 });
      figure.canvas.classList.toggle("stale", !isOwn);
      const health = s < 0 ? "not recorded yet" : data.healths[run.health[of(run, s, n, k)]];
      figure.badge.hidden = health === "ok";
      setText(figure.badge, health);
      const predicted = s < 0 ? -1 : run.predicted[s * COUNT + n];
      const says = predicted < 0 ? "" : `predicts ${className(predicted)}`;
      setText(figure.note, [isOwn || s < 0 ? "" : `shown as at ${nameOf(run.steps[s])}`, RUNS > 1 ? says : ""].filter(Boolean).join(", "));
      if (RUNS === 1) told.push(says);
      if (!state.isPlaying) figure.canvas.setAttribute("aria-label", [data.names[n], `target ${data.targets[k]}`, RUNS > 1 ? run.name : "", nameOf(stepNow()), says, health === "ok" ? "" : `map ${health}`].filter(Boolean).join(", "));
    });
    const label = data.labels ? `label ${className(data.labels[n])}` : "";
    const explained = places[0][state.at] < 0 ? -1 : runs[0].explained[of(runs[0], places[0][state.at], n, k)];
    const what = RUNS === 1 && explained >= 0 && className(explained) !== data.targets[k] ? `target ${data.targets[k]} (${className(explained)})` : `target ${data.targets[k]}`;
    setText(byId("large-line"), [what, label, ...told].filter(Boolean).join(" · "));
    large.minis.forEach((mini, target) => {
      mini.canvases.forEach((canvas, r) => {
        const width = Math.round(Math.max(48, canvas.clientWidth) * Math.min(2, window.devicePixelRatio || 1));
        paint(canvas, width, Math.max(1, Math.round((width * HEIGHT) / WIDTH)), runs[r], places[r][state.at], n, target, { finest: 72, hasOutline: false });
        if (!state.isPlaying) canvas.setAttribute("aria-label", RUNS > 1 ? runs[r].name : "map");
      });
    });
    for (const { run, k: target, values, shown } of large.rows) {
      const s = places[run.number][state.at];
      shown.forEach(([, name, format], column) => {
        const text = name === null ? (s < 0 ? "–" : data.healths[run.health[of(run, s, n, target)]]) : format(valueOf(run, name, s, n, target));
        setText(values[column], text);
      });
    }
    for (const frame of large.frames) {
      const isCurrent = frame.at === state.at;
      if (frame.button.classList.contains("current") !== isCurrent) {
        frame.button.classList.toggle("current", isCurrent);
        frame.button.tabIndex = isCurrent ? 0 : -1;
        if (isCurrent) frame.button.setAttribute("aria-current", "step");
        else frame.button.removeAttribute("aria-current");
        if (isCurrent) centre(frame.button);
      }
      if (frame.isNear) drawFrame(frame);
    }
  }

  function centre(button) {
    const host = byId("film");
    host.scrollLeft = button.offsetLeft - host.offsetLeft - (host.clientWidth - button.offsetWidth) / 2;
  }

  function turn(by) {
    const order = arranged.split(" ").filter(Boolean).map(Number);
    if (order.length < 2) return;
    const place = order.indexOf(state.large.n);
    openLarge(order[(place + by + order.length) % order.length], state.large.k);
  }

  function fillDialogs() {
    byId("close").addEventListener("click", () => dialog.close());
    byId("before").addEventListener("click", () => turn(-1));
    byId("after").addEventListener("click", () => turn(1));
    dialog.addEventListener("close", () => {
      const { n, k } = state.large;
      state.large = null;
      large.for = "";
      hideTip();
      byId("app").append(tip);
      state.version++;
      schedule();
      const { button } = cards[n].groups[k].cells[0];
      if (button.isConnected) button.focus();
    });
    byId("help-open").addEventListener("click", () => openHelp());
    byId("help-close").addEventListener("click", () => byId("help").close());
    for (const box of [dialog, byId("help")]) {
      box.addEventListener("click", (event) => {
        if (event.target === box) box.close(); // on the backdrop
      });
      box.addEventListener("keydown", (event) => {
        if (event.key !== "Tab") return;
        const all = [...box.querySelectorAll("button, input, select, [tabindex='0']")].filter((node) => !node.disabled && node.tabIndex >= 0 && node.offsetParent !== null);
        const [first, last] = [all[0], all[all.length - 1]];
        const isOut = event.shiftKey ? document.activeElement === first : document.activeElement === last;
        if (!isOut && box.contains(document.activeElement) && document.activeElement !== box) return;
        event.preventDefault();
        (event.shiftKey ? last : first).focus();
      });
    }
  }

  let beforeHelp = null;

  function openHelp() {
    beforeHelp = document.activeElement;
    byId("help").showModal();
    byId("help-close").focus();
    byId("help").addEventListener("close", () => beforeHelp && beforeHelp.focus(), { once: true });
  }

  // ---- Keys and pointers ----

  const takes = (node, selector) => node instanceof Element && node.matches(selector);

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (takes(event.target, "input[type=search], select, textarea") || byId("help").open) return;
    const isSetting = takes(event.target, "#opacity, input[type=radio]");
    const isPressed = takes(event.target, "button, a, summary, input[type=checkbox], input[type=radio]");
    const moves = { ArrowLeft: () => go(state.at - 1), ArrowRight: () => go(state.at + 1), Home: () => go(0), End: () => go(steps.length - 1) };
    const others = {
      "+": () => setOpacity(state.opacity + 0.1),
      "=": () => setOpacity(state.opacity + 0.1),
      "-": () => setOpacity(state.opacity - 0.1),
      "−": () => setOpacity(state.opacity - 0.1),
      "?": openHelp,
      s: () => setScale(state.scale === "map" ? "shared" : "map"),
    };
    if (state.large !== null) Object.assign(others, { n: () => turn(1), p: () => turn(-1) });
    if (event.key === "h" || event.key === "H") {
      if (!event.repeat) hold(true);
    } else if (event.key === " " && !isPressed) {
      if (!event.repeat) play(!state.isPlaying);
    } else if (moves[event.key] && !isSetting) moves[event.key]();
    else if (others[event.key]) others[event.key]();
    else return;
    event.preventDefault();
  }

  function hold(isHeld) {
    if (state.isHeld === isHeld) return;
    state.isHeld = isHeld;
    state.version++;
    schedule();
  }

  function onSpark(event) {
    const svg = event.target instanceof Element ? event.target.closest(".spark") : null;
    if (svg === null) {
      hideTip();
      return;
    }
    const box = svg.getBoundingClientRect();
    const at = nearest((event.clientX - box.left) / box.width);
    if (event.type === "click") {
      go(at);
      return;
    }
    const { n, k } = byNode.get(svg.closest(".target"));
    const told = runs.map((run, r) => {
      const s = places[r][at];
      const floor = valueOf(run, "floor", s, n, k);
      const noise = isNumber(floor) ? `, noise ${percent(floor)}` : "";
      return `${RUNS > 1 ? `${run.name}: ` : ""}drift ${percent(valueOf(run, "drift", s, n, k))}${noise}`;
    });
    showTip(event, [nameOf(steps[at]), ...told].join("\n"));
  }

  function watch() {
    document.addEventListener("keydown", onKey);
    document.addEventListener("keyup", (event) => {
      if (event.key === "h" || event.key === "H") hold(false);
    });
    window.addEventListener("blur", () => hold(false));
    const grid = byId("probes");
    for (const kind of ["click", "pointermove", "pointerleave"]) grid.addEventListener(kind, onSpark);
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const group = byNode.get(entry.target);
        if (entry.isIntersecting) visible.add(group);
        else {
          visible.delete(group);
          if (groups.length * RUNS > CROWD) {
            for (const { canvas } of group.cells) canvas.width = canvas.height = 1;
            group.drawn = "";
          }
        }
      }
      schedule();
    }, { rootMargin: "240px 0px" });
    for (const group of groups) observer.observe(group.node);
    new ResizeObserver(() => {
      document.documentElement.style.setProperty("--sticky", `${byId("controls").offsetHeight}px`);
      measureCells();
    }).observe(grid);
    window.addEventListener("resize", () => {
      measureCells();
      if (state.large !== null) schedule();
    });
    window.addEventListener("beforeprint", () => {
      for (const group of groups) drawGroup(group);
    });
    for (const image of photographs) {
      image.addEventListener("load", () => {
        state.version++;
        schedule();
      });
    }
  }

  fillTheme();
  mixPaints();
  byId("app").hidden = false;
  fillHead();
  fillCharts();
  fillEvents();
  fillGrid();
  fillFilters();
  fillTime();
  fillMetrics();
  fillSettings();
  fillDialogs();
  arrange();
  watch();
  for (const made of plots) made.draw();
  measureCells();
  recall();
  for (const group of groups) describeGroup(group);
  render();
})();
