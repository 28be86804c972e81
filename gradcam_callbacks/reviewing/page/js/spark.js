// @ts-check
/* The small curve of drift below each target. */

import { spoken } from "./chart.js";
import { bandOf, lineOf, nearest, niceCeiling } from "./curves.js";
import { RUNS, data, nameOf, places, runs, shareOf, stepAt, steps, titleOf, valueAt } from "./data.js";
import { drawn, element } from "./dom.js";
import { isNumber, percent } from "./format.js";
import { go } from "./time.js";
import { hideTip, showTip } from "./tip.js";

/** @import { Point, Run } from "./types.js" */

const SPARK = { width: 100, height: 30, top: 3 };

/** The top of all axes of drift, so that probes can be compared. */
export const DRIFT_TOP = niceCeiling(
  runs.reduce((top, run) => {
    for (const value of run.measures.drift ?? []) if (value > top) top = value;
    for (const value of run.curves.drift) if (value !== null && value > top) top = value;
    return top;
  }, 0.02),
);

/** By the square root, so that one jump does not flatten all the rest. @param {number} value */
function sparkY(value) {
  if (!isNumber(value)) return NaN;
  return SPARK.top + (1 - Math.sqrt(Math.min(1, value / DRIFT_TOP))) * (SPARK.height - SPARK.top);
}

/** @param {Run} run @param {number[]} values one a step @returns {Point[]} */
const pointsOf = (run, values) => run.steps.map((step, s) => [shareOf(step) * SPARK.width, sparkY(values[s])]);

/**
 * What each curve tells at a step s of a run.
 * @type {WeakMap<Element, (run: Run, name: string, s: number) => number>}
 */
const valuesOfSparks = new WeakMap();

/**
 * @param {(run: Run, name: string, s: number) => number} valueOf of a measure
 * @param {SVGElement[]} marks
 */
export function makeSpark(valueOf, marks) {
  const size = { viewBox: `0 0 ${SPARK.width} ${SPARK.height + 2}`, preserveAspectRatio: "none" };
  const node = drawn("svg", { class: "spark", role: "img", ...size });
  valuesOfSparks.set(node, valueOf);
  /** @param {Run} run @param {string} name */
  const valuesOf = (run, name) => run.steps.map((_, s) => valueOf(run, name, s));
  for (const run of runs) {
    const band = bandOf(pointsOf(run, valuesOf(run, "floor")), SPARK.height);
    if (band) node.append(ofRun(run, { class: "band", d: band }));
  }
  for (const run of runs) {
    const curve = ofRun(run, { class: "curve", d: lineOf(pointsOf(run, valuesOf(run, "drift"))) });
    curve.style.setProperty("--run", run.color);
    node.append(curve);
  }
  node.append(...marks);
  const said = runs.map((run) => spoken([{ run, steps: run.steps, values: valuesOf(run, "drift") }], percent));
  node.setAttribute("aria-label", `${data.measures.drift.title}: ${said.join("; ")}`);
  const cursor = element("i", { "aria-hidden": "true" }); // moved without any layout, unlike a line in the drawing
  const box = element("div", { class: "spark-box" });
  box.append(node, cursor);
  return { node: box, cursor };
}

/** A path that belongs to a run. @param {Run} run @param {Record<string, string>} attributes */
const ofRun = (run, attributes) => drawn("path", { "data-run": run.number, ...attributes });

/** Where the map jumped, and where the class changed. @param {number} n @param {number} k */
export const marksOf = (n, k) => runs.flatMap((run) => marksOfRun(run, n, k));

/** @param {Run} run @param {number} n @param {number} k */
function marksOfRun(run, n, k) {
  return run.events.flatMap(({ probe, target, step, kind }) => {
    const s = run.steps.indexOf(step);
    if (probe !== n || target !== k || s < 0) return [];
    const x = (shareOf(step) * SPARK.width).toFixed(2);
    if (kind === "class") return [ofRun(run, { class: "change", d: `M${x} ${SPARK.height + 2}v-5` })];
    if (kind !== "moved") return [];
    const y = sparkY(valueAt(run.measures.drift, s, n, k)).toFixed(2);
    return [ofRun(run, { class: "flag", d: `M${x} ${y}h0` })];
  });
}

/**
 * A pointer over the grid: over a curve it tells the values, and a click goes to the step.
 * @param {MouseEvent} event
 */
export function onSpark(event) {
  const svg = event.target instanceof Element ? event.target.closest(".spark") : null;
  const valueOf = svg && valuesOfSparks.get(svg);
  if (!svg || !valueOf) {
    hideTip();
    return;
  }
  const box = svg.getBoundingClientRect();
  const at = nearest(steps, stepAt((event.clientX - box.left) / box.width));
  if (event.type === "click") {
    go(at);
    return;
  }
  const told = runs.map((run, r) => {
    const [drift, floor] = ["drift", "floor"].map((name) => valueOf(run, name, places[r][at]));
    const noise = isNumber(floor) ? `, ${titleOf("floor")} ${percent(floor)}` : "";
    return `${RUNS > 1 ? `${run.name}: ` : ""}${titleOf("drift")} ${percent(drift)}${noise}`;
  });
  showTip(event, [nameOf(steps[at]), ...told].join("\n"));
}
