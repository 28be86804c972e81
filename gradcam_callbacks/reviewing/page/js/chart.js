// @ts-check
/* Charts over the steps. */

import { FIRST, LAST, RUNS, nameOf, shareOf, shortOf, stepAt, steps, titleOf, whenOf } from "./data.js";
import { bandOf, lastUpTo, lineOf, nearest, ticksBetween } from "./curves.js";
import { drawn, element, setText } from "./dom.js";
import { isNumber, tick } from "./format.js";
import { state, stepNow } from "./state.js";
import { go } from "./time.js";
import { hideTip, showTip } from "./tip.js";

/** @import { Chart, Line, Point } from "./types.js" */

// Around the curves, in pixels.
const MARGIN = { left: 40, right: 10, top: 6, bottom: 6, axis: 20 };

/** @type {Set<Plot>} */
export const plots = new Set();

/** A chart on the page. The last known values at the step shown stand beside its title. */
class Plot {
  /** @param {Chart} chart */
  constructor(chart) {
    this.chart = { bands: [], dots: [], height: 76, hasAxis: false, ...chart };
    const { title, label, series, bands, format } = this.chart;
    this.main = series.filter((line) => !line.isFaint);
    this.width = 0;
    /** @type {SVGLineElement | null} */
    this.cursor = null;
    /** @type {SVGLineElement | null} */
    this.held = null;
    /** @type {SVGCircleElement[]} */
    this.pins = [];
    this.values = this.main.map((line) => colored(element("b"), line));
    const readings = element("span", { class: "readings" }, ...this.values);
    if (bands.length) readings.prepend(element("span", { class: "swatch", text: titleOf("floor") }));
    this.svg = drawn("svg", { class: "plot", role: "img", "aria-label": `${label}. ${spoken(series, format)}` });
    this.node = element("div", { class: "plot-box" }, element("div", { class: "plot-head" }, title, readings));
    this.node.append(this.svg);
    this.svg.addEventListener("pointerdown", (event) => {
      this.svg.setPointerCapture(event.pointerId);
      go(this.#placeAt(event));
    });
    this.svg.addEventListener("pointermove", (event) => this.#onMove(event));
    this.svg.addEventListener("pointerleave", hideTip);
  }

  get #bottom() {
    return this.chart.height - (this.chart.hasAxis ? MARGIN.axis : MARGIN.bottom);
  }

  /** @param {number} step */
  #x(step) {
    return MARGIN.left + shareOf(step) * (this.width - MARGIN.left - MARGIN.right);
  }

  /** @param {number | null} value */
  #y(value) {
    const { low, high } = this.chart;
    if (!isNumber(value)) return NaN;
    return MARGIN.top + (1 - (value - low) / (high - low)) * (this.#bottom - MARGIN.top);
  }

  /** @param {Line} line @returns {Point[]} */
  #points(line) {
    return line.steps.map((step, at) => [this.#x(step), this.#y(line.values[at])]);
  }

  /** Draws it, if its width is another one than before. */
  draw() {
    const wanted = Math.round(this.node.clientWidth);
    if (!wanted || wanted === this.width) return;
    this.width = wanted;
    const { series, bands, dots, low, height } = this.chart;
    for (const [key, value] of Object.entries({ viewBox: `0 0 ${wanted} ${height}`, width: wanted, height })) {
      this.svg.setAttribute(key, String(value));
    }
    this.svg.replaceChildren(...this.#rules(), ...(this.chart.hasAxis ? this.#axis() : []));
    for (const band of bands) {
      const area = drawn("path", { class: "band", d: bandOf(this.#points(band), this.#y(low)) });
      this.svg.append(colored(area, band));
    }
    for (const line of series) {
      const path = drawn("path", { class: line.isFaint ? "curve faint" : "curve", d: lineOf(this.#points(line)) });
      this.svg.append(colored(path, line));
    }
    this.cursor = drawn("line", { class: "cursor", y1: 0, y2: this.#bottom });
    this.held = drawn("line", { class: "held", y1: 0, y2: this.#bottom });
    this.pins = this.main.map((line) => colored(drawn("circle", { class: "pin", r: 3.5 }), line));
    this.svg.append(this.held, this.cursor, ...this.pins);
    for (const { run, step, value, kind } of dots) {
      if (!isNumber(value)) continue;
      const place = { cx: this.#x(step), cy: this.#y(value), r: 4 };
      this.svg.append(drawn("circle", { class: `flag ${kind}`, "data-run": run.number, ...place }));
    }
    this.update();
  }

  #rules() {
    const { low, high, height, format } = this.chart;
    return [low, (low + high) / 2, high].flatMap((value) => {
      const y = this.#y(value);
      const rule = drawn("line", { class: "rule", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y });
      if (value === (low + high) / 2 && height < 100) return [rule];
      const text = drawn("text", { class: "tick", x: MARGIN.left - 7, y: y + 3.5, "text-anchor": "end" });
      text.textContent = tick(format, value);
      return [rule, text];
    });
  }

  #axis() {
    const y = this.#bottom;
    return stepTicks(this.width - MARGIN.left - MARGIN.right).flatMap((step) => {
      const x = this.#x(step);
      const place = step < 0 ? { x: MARGIN.left, "text-anchor": "start" } : { x, "text-anchor": "middle" };
      const text = drawn("text", { class: "tick", y: this.chart.height - 4, ...place });
      text.textContent = shortOf(step);
      return [drawn("line", { class: "rule", x1: x, x2: x, y1: y, y2: y + 4 }), text];
    });
  }

  /** Shows the step that is shown; `hasWords` is whether in numbers, too. */
  update(hasWords = true) {
    const step = stepNow();
    this.main.forEach((line, at) => {
      const { value, place } = latest(line, step);
      if (hasWords) setText(this.values[at], this.chart.format(value));
      const pin = this.pins[at];
      if (!pin) return;
      const isThere = isNumber(value) && line.steps[place] === step;
      pin.setAttribute("visibility", isThere ? "visible" : "hidden");
      if (!isThere) return;
      pin.setAttribute("cx", String(this.#x(step)));
      pin.setAttribute("cy", String(this.#y(value)));
    });
    const held = state.pin?.step ?? null;
    this.held?.setAttribute("visibility", held === null ? "hidden" : "visible");
    for (const [line, where] of /** @type {const} */ ([
      [this.cursor, step],
      [this.held, held ?? step],
    ])) {
      for (const end of ["x1", "x2"]) line?.setAttribute(end, String(this.#x(where)));
    }
  }

  /** @param {MouseEvent} event */
  #placeAt(event) {
    const left = this.svg.getBoundingClientRect().left + MARGIN.left;
    return nearest(steps, stepAt((event.clientX - left) / (this.width - MARGIN.left - MARGIN.right)));
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const at = this.#placeAt(event);
    if (event.buttons & 1) go(at);
    const step = steps[at];
    const shown = this.main.filter(({ run }) => !state.away.has(run.number));
    const told = shown.map(
      (line) => `${RUNS > 1 ? `${line.run.name} ` : ""}${this.chart.format(latest(line, step).value)}`,
    );
    const dots = this.chart.dots.filter((dot) => dot.step === step && !state.away.has(dot.run.number));
    const flags = dots.map((dot) => dot.text);
    showTip(event, [`${nameOf(step)}: ${told.join(", ")}`, ...flags.slice(0, 2)].join("\n"));
  }
}

/** The last value up to a step. @param {Line} line @param {number} step */
function latest(line, step) {
  const place = lastUpTo(line.steps, step);
  return { place, value: place < 0 ? null : line.values[place] };
}

/**
 * @template {HTMLElement | SVGElement} Kind
 * @param {Kind} node
 * @param {Line} line
 */
function colored(node, line) {
  node.dataset.run = String(line.run.number);
  node.style.setProperty("--run", line.run.color);
  return node;
}

/** @param {number} width of the axis, in pixels */
function stepTicks(width) {
  const found = ticksBetween(Math.max(0, FIRST), Math.max(LAST, 1), Math.max(2, width / 64)).filter(
    (step) => Number.isInteger(step) && step <= LAST,
  );
  return FIRST < 0 ? [FIRST, ...found.filter((step) => shareOf(step) * width > 44)] : found;
}

/** The course of lines in words. @param {Line[]} series @param {Chart["format"]} format */
export function spoken(series, format) {
  return series
    .filter((line) => !line.isFaint)
    .map((line) => {
      const who = RUNS > 1 ? `${line.run.name}: ` : "";
      const known = line.steps
        .map((step, at) => ({ step, value: line.values[at] }))
        .filter(({ value }) => isNumber(value));
      if (known.length === 0) return `${who}nothing known`;
      const peak = known.reduce((a, b) => (Number(b.value) > Number(a.value) ? b : a));
      const [first, last, highest] = [known[0], known[known.length - 1], peak].map(
        ({ step, value }) => `${format(value)} ${whenOf(step)}`,
      );
      return `${who}${first}, ${last}, highest ${highest}`;
    })
    .join("; ");
}

/** A title, and what it means. @param {string} name @param {string} what */
export function heading(name, what) {
  return element("h2", {}, element("span", { text: name }), element("small", { text: what }));
}

const resizing = new ResizeObserver(() => {
  for (const plot of plots) plot.draw();
});

/** @param {HTMLElement} host @param {Chart} chart */
export function addPlot(host, chart) {
  const plot = new Plot(chart);
  plots.add(plot);
  host.append(plot.node);
  resizing.observe(plot.node);
  return plot;
}

/** Empties an element of its charts. @param {HTMLElement} host */
export function dropPlots(host) {
  for (const plot of plots) {
    if (!host.contains(plot.node)) continue;
    resizing.unobserve(plot.node);
    plots.delete(plot);
  }
  host.replaceChildren();
}
