// @ts-check
/* The head of the page: what was recorded, and what is to be said of it. */

import { COUNT, RUNS, TARGETS, data, isWarned, runs } from "./data.js";
import { byId, chip, element, joined } from "./dom.js";
import { plural } from "./format.js";

/** @import { Run } from "./types.js" */

export function fillHead() {
  const names =
    RUNS === 1 ? [element("bdi", { text: runs[0].name })] : runs.flatMap((run, at) => [at ? " " : "", chip(run)]);
  byId("title").append(...names);
  byId("verdicts").append(...runs.map(verdict));
  fact("Layer", (run) => run.layer);
  fact("Method", (run) => run.method);
  fact("Probes", () => `${COUNT} × ${plural(TARGETS, "target")}`);
  fact("Recorded", recorded);
  fact("Maps", (run) => run.grid.join(" × "));
  const links = runs.flatMap((run) => (run.link === null ? [] : [linkOf(run, run.link)]));
  if (links.length) {
    byId("facts").append(element("div", {}, element("dt", { text: links.length > 1 ? "Runs" : "Run" }), ...links));
  }
  const notes = allNotes();
  byId("notes").append(...notes);
  byId("notes").hidden = notes.length === 0;
}

/** @param {Run} run */
function verdict(run) {
  const isBad = isWarned(run);
  const line = element("p", { class: `verdict${isBad ? " warned" : ""}${RUNS > 1 ? " of-many" : ""}`, dir: "auto" });
  if (isBad) {
    const mark = element("span", { class: "mark", "aria-hidden": "true" });
    line.append(mark, element("span", { class: "unseen", text: "Warning. " }));
  }
  if (RUNS > 1) line.append(chip(run), " ");
  line.append(...run.summary.map(([text, warns]) => element(warns ? "strong" : "span", { text })));
  return line;
}

/** @param {Run} run */
function recorded(run) {
  const all = run.curves.steps;
  const trained = all.filter((step) => step >= 0);
  const range = trained.length > 1 ? `, ${trained[0]} to ${trained[trained.length - 1]}` : "";
  const count = trained.length ? plural(trained.length, data.unit) + range : "";
  return joined([all[0] < 0 ? "before training" : "", count], " and ");
}

/** A line of facts: once where it is the same of all runs. @param {string} name @param {(run: Run) => string} tell */
function fact(name, tell) {
  const told = runs.map(tell);
  const isSame = told.every((text) => text === told[0]);
  const values = isSame
    ? [element("dd", { dir: "auto", text: told[0] })]
    : told.map((text, at) => element("dd", {}, chip(runs[at]), " ", element("bdi", { text })));
  byId("facts").append(element("div", {}, element("dt", { text: name }), ...values));
}

/** @param {Run} run @param {string} href */
function linkOf(run, href) {
  const isFramed = window.self !== window.top; // a sandboxed frame may not open anything: then it is there to copy
  const shown = isFramed
    ? element("code", { text: href })
    : element("a", { href, target: "_blank", rel: "noopener noreferrer", text: "open" });
  return element("dd", {}, ...(RUNS > 1 ? [chip(run), " "] : []), shown);
}

/** The notes of all runs; one that all have stands there once. */
function allNotes() {
  const shared = new Set(runs[0].notes.filter((text) => runs.every((run) => run.notes.includes(text))));
  /** @param {string} text */
  const bare = (text) => element("bdi", { text });
  return [
    ...[...shared].map((text) => element("li", {}, bare(text))),
    ...runs.flatMap((run) =>
      run.notes.filter((text) => !shared.has(text)).map((text) => element("li", {}, chip(run), " ", bare(text))),
    ),
  ];
}
