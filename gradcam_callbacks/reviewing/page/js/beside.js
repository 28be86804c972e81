// @ts-check
/* What stands beside a picture: the one that is pinned, and the difference between the two. */

import { data, healthAt, isFit, nameOf } from "./data.js";
import { placeIn } from "./difference.js";
import { element, joined, setText } from "./dom.js";
import { percent } from "./format.js";
import { paint, paintDifference } from "./heat.js";
import { comparison, nameOfPinned, pinnedOf } from "./pin.js";
import { state, stepNow } from "./state.js";

/** @import { Pinned } from "./pin.js" */
/** @import { Run } from "./types.js" */
/** @typedef {ReturnType<typeof makePanel>} Panel */
/** @typedef {ReturnType<typeof makePanels>} Panels */

function makePanel() {
  const canvas = element("canvas", { role: "img", width: 1, height: 1 });
  const badge = element("span", { class: "badge", hidden: true });
  /** What was compared last, and what came of it. @type {{ key: string, found: ReturnType<typeof comparison> }} */
  const compared = { key: "", found: { difference: null, why: "" } };
  return { canvas, badge, note: element("span", { class: "note" }), /** What is drawn now. */ drawn: "", compared };
}

/** A panel for the picture that is pinned, and one for the difference. */
export const makePanels = () => ({ pinned: makePanel(), difference: makePanel() });

/** Which of the panels are shown beside a run. @param {Run} run */
export function shownPanels(run) {
  const isThere = pinnedOf(run) !== null;
  return { pinned: isThere && state.beside !== "difference", difference: isThere && state.beside !== "picture" };
}

/**
 * What moved from what is pinned, worked out once for picture, note and description.
 * @param {Panels} panels
 * @param {Run} run
 * @param {Pinned} pinned
 * @param {number} s
 * @param {number} n
 * @param {number} k
 */
function comparedOn({ difference: { compared } }, run, pinned, s, n, k) {
  const key = `${pinned.other.number} ${pinned.s} ${s} ${n} ${k}`;
  if (compared.key !== key) Object.assign(compared, { key, found: comparison(run, pinned, s, n, k) });
  return compared.found;
}

/**
 * Draws what is shown of the panels.
 * @param {Panels} panels
 * @param {{ width: number, height: number, finest?: number }} size
 * @param {Run} run
 * @param {number} s
 * @param {number} n
 * @param {number} k
 */
export function drawPanels(panels, size, run, s, n, k) {
  const pinned = pinnedOf(run);
  if (pinned === null) return;
  const shown = shownPanels(run);
  const { width, height, finest } = size;
  const { other } = pinned;
  const drawing = `${width} ${n} ${k} ${state.version}`;
  const key = `${drawing} ${other.number} ${pinned.s}`;
  if (shown.pinned && panels.pinned.drawn !== key) {
    panels.pinned.drawn = key;
    paint(panels.pinned.canvas, width, height, other, pinned.s, n, k, { finest });
    const health = pinned.s < 0 ? "not recorded yet" : healthAt(other, pinned.s, n, k);
    panels.pinned.badge.hidden = isFit(health);
    setText(panels.pinned.badge, health);
  }
  if (!shown.difference) return;
  const both = `${key} ${s}`;
  if (panels.difference.drawn === both) return;
  panels.difference.drawn = both;
  const { difference } = comparedOn(panels, run, pinned, s, n, k);
  paintDifference(panels.difference.canvas, width, height, run.grid, difference?.values ?? null, n, finest);
}

/**
 * Writes what is below the panels: not in every frame of a play, as with all words.
 * @param {Panels} panels
 * @param {Run} run
 * @param {number} s
 * @param {number} n
 * @param {number} k
 */
export function tellPanels(panels, run, s, n, k) {
  const pinned = pinnedOf(run);
  if (pinned === null) return;
  const { difference, why } = comparedOn(panels, run, pinned, s, n, k);
  setText(panels.pinned.note, nameOfPinned(run, pinned));
  setText(panels.difference.note, difference === null ? why : `${percent(difference.moved)} moved`);
}

/**
 * The words of the panels, for those who do not see them.
 * @param {Panels} panels
 * @param {Run} run
 * @param {number} s
 * @param {number} n
 * @param {number} k
 */
export function describePanels(panels, run, s, n, k) {
  const pinned = pinnedOf(run);
  if (pinned === null) return;
  const what = [data.names[n], `target ${data.targets[k]}`];
  panels.pinned.canvas.setAttribute("aria-label", joined([...what, `pinned: ${nameOfPinned(run, pinned)}`]));
  const { difference, why } = comparedOn(panels, run, pinned, s, n, k);
  const between = `difference from ${nameOfPinned(run, pinned)} to ${nameOf(stepNow())}`;
  const hasPlaces = run.shape.length < 3; // slices of a volume lie side by side
  const told = difference
    ? [
        `${percent(difference.moved)} of the attention moved`,
        hasPlaces ? `most came to: ${placeIn(difference.came, run.grid)}` : "",
        hasPlaces ? `most left: ${placeIn(difference.left, run.grid)}` : "",
      ]
    : [`none: ${why}`];
  panels.difference.canvas.setAttribute("aria-label", joined([...what, between, ...told]));
}
