// @ts-check
/* The numbers of the large view: a row each target and run; the columns are what is known of the maps. */

import { RUNS, data, healthAt, places, runs, valueAt } from "./data.js";
import { byId, chip, element, setText } from "./dom.js";
import { capitalised, formatOf, number, probability } from "./format.js";
import { state } from "./state.js";

/** @import { Run } from "./types.js" */

/**
 * @typedef {object} Column
 * @property {string} title
 * @property {string} says
 * @property {(run: Run, s: number, n: number, k: number) => string} tell
 */

/** @returns {Column[]} */
function columnsOf() {
  const measures = Object.entries(data.measures).filter(([name]) => runs.some((run) => run.measures[name]));
  const chance = {
    title: "Prob.",
    says: "Probability of the target",
    /** @type {Column["tell"]} */
    tell: (run, s, n, k) => probability(valueAt(run.probabilities, s, n, k)),
  };
  return [
    ...(runs.some((run) => run.probabilities) ? [chance] : []),
    {
      title: "Score",
      says: "Score that is explained",
      tell: (run, s, n, k) => number(valueAt(run.scores, s, n, k)),
    },
    ...measures.map(([name, { title, says, unit }]) => ({
      title,
      says: capitalised(says),
      /** @type {Column["tell"]} */
      tell: (run, s, n, k) => formatOf(unit)(valueAt(run.measures[name], s, n, k)),
    })),
    {
      title: "Health",
      says: "What the map is fit for",
      tell: (run, s, n, k) => healthAt(run, s, n, k) || "–",
    },
  ];
}

const columns = columnsOf();

/** @type {{ run: Run, k: number, cells: HTMLElement[] }[]} */
const rows = [];

/** @param {number} n */
export function fillTable(n) {
  rows.length = 0;
  const names = RUNS > 1 ? ["Target", "Run"] : ["Target"];
  const head = element(
    "tr",
    {},
    ...names.map((text) => element("th", { scope: "col", class: "name", text })),
    ...columns.map(({ title, says }) => element("th", { scope: "col", title: says, text: title })),
  );
  const shown = runs.filter((run) => !state.away.has(run.number));
  const body = data.targets.flatMap((_, k) => shown.map((run, at) => makeRow(run, k, at === 0 ? shown.length : 0)));
  byId("large-table").replaceChildren(
    element("caption", { class: "unseen", text: `The numbers of ${data.names[n]}` }),
    element("thead", {}, head),
    element("tbody", {}, ...body),
  );
}

/** @param {Run} run @param {number} k @param {number} span how many rows the target has, in its first one; else 0 */
function makeRow(run, k, span) {
  const target = data.targets[k];
  const cells = columns.map(() => element("td"));
  rows.push({ run, k, cells });
  const scope = RUNS > 1 ? "rowgroup" : "row";
  const ofTarget = { scope, class: "name", rowspan: span, title: target, dir: "auto", text: target };
  const heads = span ? [element("th", ofTarget)] : [];
  if (RUNS > 1) heads.push(element("th", { scope: "row", class: "name", title: run.name }, chip(run)));
  return element("tr", { class: k === state.large?.k ? "current" : "" }, ...heads, ...cells);
}

/** Writes the numbers of a probe at the step shown. @param {number} n */
export function tellTable(n) {
  for (const { run, k, cells } of rows) {
    const s = places[run.number][state.at];
    columns.forEach(({ tell }, at) => setText(cells[at], tell(run, s, n, k)));
  }
}
