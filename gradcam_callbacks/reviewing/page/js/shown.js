// @ts-check
/* Which of several runs are shown. */

import { RUNS, runs } from "./data.js";
import { byId, chip, element } from "./dom.js";
import { layCells } from "./grid.js";
import { fillLargeAgain } from "./large.js";
import { state } from "./state.js";
import { schedule } from "./time.js";

/** A switch for each run, in the title. */
export function fillShown() {
  if (RUNS === 1) return;
  byId("title").replaceChildren(...runs.flatMap((run, at) => [at ? " " : "", switchFor(run.number)]));
  // What belongs to a run is marked with its number, and is not displayed while that is away.
  const sheet = document.styleSheets[0];
  for (const { number } of runs) {
    sheet.insertRule(`:root[data-away~="${number}"] [data-run="${number}"] { display: none !important; }`);
  }
}

/** @param {number} number of the run */
function switchFor(number) {
  const attributes = { type: "button", class: "switch", "aria-pressed": "true", title: "Show or hide this run" };
  const button = element("button", attributes, chip(runs[number]));
  button.addEventListener("click", () => {
    const shown = runs.map((run) => run.number).filter((each) => state.away.has(each) === (each === number));
    setShownRuns(shown.length ? shown : [number]);
  });
  return button;
}

/** @param {number[]} shown the numbers of the runs to show, at least one */
export function setShownRuns(shown) {
  const away = runs.map((run) => run.number).filter((number) => !shown.includes(number));
  if (away.join() === [...state.away].join()) return;
  state.away = new Set(away);
  document.documentElement.dataset.away = away.join(" ");
  byId("title")
    .querySelectorAll("button")
    .forEach((button, at) => button.setAttribute("aria-pressed", String(!state.away.has(at))));
  layCells();
  fillLargeAgain();
  state.version++;
  schedule();
}
