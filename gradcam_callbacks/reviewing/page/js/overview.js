// @ts-check
/* The charts of the means and of the user's own metrics. */

import { addPlot, dropPlots, heading } from "./chart.js";
import { niceCeiling, niceRange, shareRange } from "./curves.js";
import { data, isWarning, lastTest, runs, titleOf } from "./data.js";
import { byId, element } from "./dom.js";
import { isNumber, number, percent } from "./format.js";

/** @import { Dot, EventData, FindingData, Line, Run } from "./types.js" */

const ATTENTION = "share of it on what the test covered";
// The kinds of events that are about attention on an area.
const AREAS = new Set(["suspect", "shortcut"]);

/** @param {(run: Run) => (number | null)[] | null | undefined} valuesOf */
function linesOf(valuesOf) {
  return runs.flatMap((run) => {
    const values = valuesOf(run);
    return values ? [{ run, steps: run.curves.steps, values }] : [];
  });
}

/** @param {Line} line */
export const isKnown = (line) => Array.from(line.values).some(isNumber);

/** Findings of a run's last test that warn, and whose attention is known. @param {Run} run */
const drawnFindings = (run) => (lastTest(run)?.findings ?? []).filter(({ attention }) => attention?.some(isNumber));

/**
 * Whether the curve of focus is the evidence of a finding: of an area beside the regions, where focus is known.
 * @param {Run} run
 * @param {FindingData} finding
 */
const isOnFocus = (run, { kind }) => Boolean(run.curves.focus) && kind !== "common";

/**
 * Attention on what the test covered, where focus does not say as much; what is less serious is faint.
 * @returns {Line[]}
 */
function attentionLines() {
  return runs.flatMap((run) =>
    drawnFindings(run)
      .filter((finding) => !isOnFocus(run, finding))
      .map(({ attention }, at) => ({ run, isFaint: at > 0, steps: run.curves.steps, values: attention ?? [] }))
      .reverse(),
  );
}

export function fillCharts() {
  const host = byId("charts");
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.curves.metrics)))];
  const focus = linesOf((run) => run.curves.focus);
  const attention = attentionLines();
  const { says } = data.measures.drift;
  const values = runs.flatMap((run) => [...run.curves.drift, ...run.curves.floor].filter(isNumber));
  addPlot(host, {
    title: heading(`Mean ${titleOf("drift")}`, says),
    label: `Mean ${titleOf("drift")}, the ${says}`,
    series: linesOf((run) => run.curves.drift),
    bands: linesOf((run) => run.curves.floor).filter(isKnown),
    dots: dotsOn("drift"),
    low: 0,
    high: niceCeiling(Math.max(...values, 0.02)),
    format: percent,
    height: 116,
    hasAxis: focus.length + attention.length + metrics.length === 0,
  });
  if (focus.length) {
    addPlot(host, {
      title: heading(data.measures.focus.title, data.measures.focus.says),
      label: `${data.measures.focus.title}, the ${data.measures.focus.says}`,
      series: focus,
      dots: dotsOn("focus"),
      ...rangeOf(focus),
      format: percent,
      height: 84,
      hasAxis: attention.length + metrics.length === 0,
    });
  }
  if (attention.length) {
    addPlot(host, {
      title: heading("Attention on the area", ATTENTION),
      label: `Attention on the area, the ${ATTENTION}`,
      series: attention,
      dots: dotsOn("attention"),
      ...rangeOf(attention),
      format: percent,
      height: 84,
      hasAxis: metrics.length === 0,
    });
  }
  if (metrics.length) {
    const box = element("div");
    host.append(box);
    fillMetric(box, metrics, favourite(metrics));
  }
}

/** The axis of shares. @param {Line[]} series of which something is known */
function rangeOf(series) {
  const [low, high] = shareRange(series.flatMap((line) => Array.from(line.values).filter(isNumber)));
  return { low, high };
}

/** A dot on a chart for each step of a run that warns there. @param {string} chart @returns {Dot[]} */
function dotsOn(chart) {
  return runs.flatMap((run) => {
    const placed = run.events
      .filter(isWarning)
      .map((event) => ({ ...event, ...chartOf(run, event) }))
      .filter((event) => event.chart === chart);
    return [...new Set(placed.map((event) => event.step))].map((step) => {
      const here = placed.filter((event) => event.step === step);
      const { value, kind, text } = here[0];
      return { run, step, value, kind, text: here.length > 1 ? `${here.length} flagged here` : text };
    });
  });
}

/**
 * The chart that shows an event, and the value there: of what the answers rest on, that of the attention on it.
 * @param {Run} run
 * @param {EventData} event
 */
function chartOf(run, { kind, step, text }) {
  const at = run.curves.steps.indexOf(step);
  if (AREAS.has(kind)) {
    const found = drawnFindings(run);
    const finding = found.find((each) => text.startsWith(each.text)) ?? (run.curves.focus ? undefined : found[0]);
    const known =
      finding && !isOnFocus(run, finding)
        ? { chart: "attention", value: finding.attention?.[at] ?? null }
        : { chart: "focus", value: run.curves.focus?.[at] ?? null };
    if (isNumber(known.value)) return known;
  }
  return { chart: "drift", value: run.curves.drift[at] };
}

/** @param {string[]} names */
function favourite(names) {
  const wanted = ["val_accuracy", "accuracy", "val_loss", "loss"];
  return wanted.find((name) => names.includes(name)) ?? names.find((name) => name.endsWith("accuracy")) ?? names[0];
}

/** @param {HTMLElement} box @param {string[]} names @param {string} chosen */
function fillMetric(box, names, chosen) {
  dropPlots(box);
  const choice = element("select", { class: "metric", "aria-label": "Metric", dir: "auto" });
  for (const name of names) choice.append(element("option", { value: name, text: name, selected: name === chosen }));
  choice.addEventListener("change", () => {
    fillMetric(box, names, choice.value);
    box.querySelector("select")?.focus();
  });
  const series = linesOf((run) => run.curves.metrics[chosen]);
  const [low, high] = metricRange(
    chosen,
    series.flatMap((line) => line.values.filter(isNumber)),
  );
  const title = element("h2", {}, choice);
  addPlot(box, { title, label: chosen, series, low, high, format: number, height: 78, hasAxis: true }).draw();
}

/** @param {string} name @param {number[]} known */
function metricRange(name, known) {
  let [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  if (/accuracy|auc|precision|recall/.test(name) && low >= 0 && high <= 1) [low, high] = [0, 1];
  else if (low > 0 && low < high / 2) low = 0;
  return niceRange(low, high);
}
