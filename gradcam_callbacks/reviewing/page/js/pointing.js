// @ts-check
/* The value of the heat under the pointer, in the large view. */

import { RUNS, mapOf, nameOf, places, runs } from "./data.js";
import { byId, joined } from "./dom.js";
import { number, percent } from "./format.js";
import { valueOn } from "./interpolation.js";
import { comparison, nameOfPinned, pinnedOf } from "./pin.js";
import { state, stepNow } from "./state.js";
import { hideTip, showTip } from "./tip.js";

/** @import { Run } from "./types.js" */

/**
 * What the heat of a map is at a place.
 * @param {Run} run
 * @param {number} s
 * @param {number} x in shares of the width
 * @param {number} y in shares of the height
 */
function toldAt(run, s, x, y) {
  if (state.large === null || s < 0) return "";
  const { values, peak } = mapOf(run, s, state.large.n, state.large.k);
  if (!(peak > 0)) return "no evidence";
  const share = valueOn(values, run.grid, x, y) / 255;
  return `${percent(share)} of the map’s highest: ${number(share * peak)} of ${number(peak)}`;
}

/** What changed at a place. @param {Run} run @param {number} s @param {number} x @param {number} y */
function changedAt(run, s, x, y) {
  const pinned = pinnedOf(run);
  if (state.large === null || pinned === null) return "";
  const { difference, why } = comparison(run, pinned, s, state.large.n, state.large.k);
  if (difference === null) return why;
  const change = (valueOn(difference.values, run.grid, x, y) - 128) / 127;
  const way = Math.abs(change) < 0.005 ? "nothing changed" : change > 0 ? "attention came" : "attention left";
  return `${way}: ${percent(Math.abs(change))} of the hottest spot`;
}

/** @param {PointerEvent} event */
function onMove(event) {
  const canvas = event.target instanceof HTMLCanvasElement ? event.target : null;
  const figure = canvas?.closest("figure");
  if (!canvas || !figure || state.large === null) {
    hideTip();
    return;
  }
  const box = canvas.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  const run = runs[Number(figure.dataset.run)];
  const s = places[run.number][state.at];
  const pinned = pinnedOf(run);
  const [when, told] = figure.matches(".difference")
    ? ["difference", changedAt(run, s, x, y)]
    : figure.matches(".pinned") && pinned
      ? [nameOfPinned(run, pinned), toldAt(pinned.other, pinned.s, x, y)]
      : [joined([RUNS > 1 ? run.name : "", nameOf(stepNow())]), toldAt(run, s, x, y)];
  if (told) showTip(event, `${when}\n${told}`);
  else hideTip();
}

export function fillPointing() {
  byId("large-pictures").addEventListener("pointermove", onMove);
  byId("large-pictures").addEventListener("pointerleave", hideTip);
}
