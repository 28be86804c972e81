// @ts-check
/* All numbers of the page, as a table: a row each run, step, probe and target. */

import { className, data, explainedAt, healthAt, predictedAt, runs, valueAt } from "./data.js";
import { state } from "./state.js";

/** @import { Run } from "./types.js" */

/** Sixteen bits keep a share to four digits or so. @param {number} value */
const rounded = (value) => Number(value.toPrecision(5));

/** The first row has the names of the columns; a step of -1 is before training. */
export function numberRows() {
  const names = Object.keys(data.measures).filter((name) => runs.some((run) => run.measures[name]));
  const words = ["run", data.unit, "probe", "target", "label", "explained", "predicted"];
  const head = [...words, "score", "probability", ...names, "health"];
  const shown = runs.filter((run) => !state.away.has(run.number));
  return [head, ...shown.flatMap((run) => run.steps.flatMap((_, s) => rowsAt(run, s, names)))];
}

/** @param {Run} run @param {number} s @param {string[]} names of measures */
function rowsAt(run, s, names) {
  return data.names.flatMap((probe, n) =>
    data.targets.map((target, k) => [
      run.name,
      run.steps[s],
      probe,
      target,
      data.labels ? className(data.labels[n]) : "",
      className(explainedAt(run, s, n, k)),
      className(predictedAt(run, s, n)),
      rounded(valueAt(run.scores, s, n, k)),
      rounded(valueAt(run.probabilities, s, n, k)),
      ...names.map((name) => rounded(valueAt(run.measures[name], s, n, k))),
      healthAt(run, s, n, k),
    ]),
  );
}
