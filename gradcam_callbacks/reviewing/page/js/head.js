// @ts-check
/* The head of the page: what was recorded, and what is to be said of it. */

import { COUNT, RUNS, TARGETS, data, isWarned, runs } from "./data.js";
import { byId, chip, element, joined } from "./dom.js";
import { capitalised, plural } from "./format.js";
import { proofOf, restOfSummary } from "./proof.js";
import { VERDICTS, degreeOf } from "./verdicts.js";

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
  fact("Maps", (run) => run.shape.join(" × "));
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
  const word = element("span", { class: `word ${run.verdict}`, title: capitalised(VERDICTS[run.verdict]) });
  word.append(element("i", { class: `sign ${run.verdict}`, "aria-hidden": "true" }), run.verdict);
  const head = element(
    "p",
    { class: "verdict-head" },
    RUNS > 1 ? chip(run) : null,
    element("span", { class: "unseen", text: "Verdict: " }),
    word,
    element("span", { class: "degree", text: degreeOf(run) }),
  );
  const left = restOfSummary(run);
  // What the proof says stands above what else there is to say.
  const isProven = textOf(left) !== textOf(run.summary);
  const style = `verdict${isWarned(run) ? " warned" : ""}${isProven ? " rest" : ""}${RUNS > 1 ? " of-many" : ""}`;
  const line = element("p", { class: style, dir: "auto", hidden: left.length === 0 });
  line.append(...left.map(([text, warns]) => element(warns ? "strong" : "span", { text })));
  const parts = [line, proofOf(run)];
  return element("div", { class: "of-run", "data-run": run.number }, head, ...(isProven ? parts.reverse() : parts));
}

/** @param {[string, boolean][]} pieces */
const textOf = (pieces) => pieces.map(([text]) => text).join("");

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
    : told.map((text, at) => element("dd", { "data-run": at }, chip(runs[at]), " ", element("bdi", { text })));
  byId("facts").append(element("div", {}, element("dt", { text: name }), ...values));
}

/** @param {Run} run @param {string} href */
function linkOf(run, href) {
  const isFramed = window.self !== window.top; // a sandboxed frame may not open anything: then it is there to copy
  const shown = isFramed
    ? element("code", { text: href })
    : element("a", { href, target: "_blank", rel: "noopener noreferrer", text: "open" });
  return element("dd", { "data-run": run.number }, ...(RUNS > 1 ? [chip(run), " "] : []), shown);
}

/** The notes of all runs; one that all have stands there once. */
function allNotes() {
  const shared = new Set(runs[0].notes.filter((text) => runs.every((run) => run.notes.includes(text))));
  /** @param {string} text */
  const bare = (text) => element("bdi", { text });
  return [
    ...[...shared].map((text) => element("li", {}, bare(text))),
    ...runs.flatMap((run) =>
      run.notes
        .filter((text) => !shared.has(text))
        .map((text) => element("li", { "data-run": run.number }, chip(run), " ", bare(text))),
    ),
  ];
}
