// @ts-check
/* What a print of the page shows: all pictures, and in words how they are drawn. */

import { RUNS, nameOf, runs } from "./data.js";
import { byId, joined, selectOf, setText } from "./dom.js";
import { drawWholeFilm } from "./film.js";
import { drawGroup, groups, measureCells } from "./grid.js";
import { drawLarge, layOnPaper } from "./large.js";
import { describeMeans } from "./means.js";
import { nameOfPinned, pinnedOf } from "./pin.js";
import { photographs } from "./heat.js";
import { isHeatShown, state, stepNow } from "./state.js";

/** How the pictures are drawn, in a sentence. */
function toldOfHeat() {
  if (!isHeatShown()) return "Pictures without heat.";
  const scale = state.scale === "shared" ? "all maps over the one largest maximum" : "each map over its own maximum";
  return `Colours: ${state.colormap.toLowerCase()}, opacity ${Math.round(100 * state.opacity)} %, ${scale}.`;
}

/** What stands beside, in a sentence; "" where nothing does. */
function toldOfPin() {
  const named = runs.flatMap((run) => {
    const pinned = pinnedOf(run);
    return pinned === null ? [] : [nameOfPinned(run, pinned)];
  });
  if (named.length === 0) return "";
  const colours = state.beside === "picture" ? "" : " Difference: orange where attention came, blue where it left.";
  return `Beside: ${[...new Set(named)].join("; ")}.${colours}`;
}

/** @param {string} id */
const chosen = (id) => selectOf(id).selectedOptions[0]?.text ?? "";

/** Draws every picture, also those out of sight, and writes how. */
function prepare() {
  const shown = RUNS > 1 ? `Runs: ${runs.filter((run) => !state.away.has(run.number)).map((run) => run.name)}.` : "";
  const grouped = state.grouping === "none" ? "" : chosen("group");
  const order = `${byId("count").textContent}, ${joined([chosen("show"), chosen("sort"), grouped])}.`;
  setText(byId("printed"), [`Shown: ${nameOf(stepNow())}.`, shown, toldOfHeat(), toldOfPin(), order].join(" "));
  measureCells();
  if (state.large !== null) {
    layOnPaper(true);
    drawLarge();
    drawWholeFilm();
    return;
  }
  for (const group of groups) drawGroup(group);
  describeMeans();
}

export function fillPrinting() {
  window.addEventListener("beforeprint", prepare);
  // Some browsers lay out for paper, and print, without saying so first.
  window.matchMedia("print").addEventListener("change", (event) => (event.matches ? prepare() : layOnPaper(false)));
  window.addEventListener("afterprint", () => layOnPaper(false));
  // What is decoded only when it is seen would be missing.
  for (const image of photographs) void image.decode().catch(() => {});
}
