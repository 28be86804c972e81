// @ts-check
/* The charts of the means and of the user's own metrics. */

import { addPlot, dropPlots, heading } from "./chart.js";
import { niceCeiling, niceRange } from "./curves.js";
import { data, isWarning, runs, titleOf } from "./data.js";
import { byId, element } from "./dom.js";
import { isNumber, number, percent } from "./format.js";

/** @import { Dot, Line, Run } from "./types.js" */

/** @param {(run: Run) => (number | null)[] | null | undefined} valuesOf */
function linesOf(valuesOf) {
  return runs.flatMap((run) => {
    const values = valuesOf(run);
    return values ? [{ run, steps: run.curves.steps, values }] : [];
  });
}

/** @param {Line} line */
export const isKnown = (line) => Array.from(line.values).some(isNumber);

export function fillCharts() {
  const host = byId("charts");
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.curves.metrics)))];
  const focus = linesOf((run) => run.curves.focus);
  const { says } = data.measures.drift;
  const values = runs.flatMap((run) => [...run.curves.drift, ...run.curves.floor].filter(isNumber));
  addPlot(host, {
    title: heading(`Mean ${titleOf("drift")}`, says),
    label: `Mean ${titleOf("drift")}, the ${says}`,
    series: linesOf((run) => run.curves.drift),
    bands: linesOf((run) => run.curves.floor).filter(isKnown),
    dots: runs.flatMap(warningsOf),
    low: 0,
    high: niceCeiling(Math.max(...values, 0.02)),
    format: percent,
    height: 116,
    hasAxis: focus.length === 0 && metrics.length === 0,
  });
  if (focus.length) {
    addPlot(host, {
      title: heading(data.measures.focus.title, data.measures.focus.says),
      label: `${data.measures.focus.title}, the ${data.measures.focus.says}`,
      series: focus,
      low: 0,
      high: 1,
      format: percent,
      height: metrics.length ? 62 : 80,
      hasAxis: metrics.length === 0,
    });
  }
  if (metrics.length) {
    const box = element("div");
    host.append(box);
    fillMetric(box, metrics, favourite(metrics));
  }
}

/** A dot for each step of a run that warns. @param {Run} run @returns {Dot[]} */
function warningsOf(run) {
  const events = run.events.filter(isWarning);
  return [...new Set(events.map((event) => event.step))].map((step) => {
    const texts = events.filter((event) => event.step === step).map((event) => event.text);
    const value = run.curves.drift[run.curves.steps.indexOf(step)];
    return { step, value, text: texts.length > 1 ? `${texts.length} flagged here` : texts[0] };
  });
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
