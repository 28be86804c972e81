// @ts-check
/* The user's own metrics at the step shown, for the eye and for a screen reader. */

import { lastUpTo } from "./curves.js";
import { RUNS, nameOf, runs } from "./data.js";
import { byId, chip, element, setText } from "./dom.js";
import { number } from "./format.js";
import { state, stepNow } from "./state.js";

/** @import { Run } from "./types.js" */

// So many metrics of each run are shown, and of the first so many are said.
const SHOWN = 8;
const SAID = 4;

/** @type {{ run: Run, name: string, value: HTMLElement }[]} */
const readings = [];

export function fillMetrics() {
  for (const run of runs) {
    const line = element("div", { class: "metrics-of-run", "data-run": run.number }, RUNS > 1 ? chip(run) : null);
    for (const name of Object.keys(run.curves.metrics).slice(0, SHOWN)) {
      const value = element("b");
      line.append(element("span", { class: "metric-now" }, element("span", { dir: "auto", text: name }), " ", value));
      readings.push({ run, name, value });
    }
    byId("metrics").append(line);
  }
}

export function tellMetrics() {
  for (const { run, name, value } of readings) {
    const place = lastUpTo(run.curves.steps, stepNow());
    setText(value, place < 0 ? "–" : number(run.curves.metrics[name][place]));
  }
}

export function announce() {
  if (state.announced === state.at) return;
  state.announced = state.at;
  const own = readings.filter(({ run }) => run === runs[0]).slice(0, SAID);
  setText(
    byId("live"),
    [nameOf(stepNow()), ...own.map(({ name, value }) => `${name} ${value.textContent}`)].join(", "),
  );
}
