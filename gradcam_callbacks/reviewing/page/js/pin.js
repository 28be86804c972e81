// @ts-check
/* The pin: an epoch, or a run, that stands beside what is shown. */

import { lastUpTo } from "./curves.js";
import { className, explainedAt, healthAt, isFit, mapOf, nameOf, places, runs, steps } from "./data.js";
import { differenceOf } from "./difference.js";
import { joined } from "./dom.js";
import { state, stepNow } from "./state.js";

/** @import { Difference } from "./difference.js" */
/** @import { Run } from "./types.js" */

/**
 * What stands beside a run: the step s of a run, as it was at `step`.
 * @typedef {object} Pinned
 * @property {Run} other
 * @property {number} s the place of the step in that run, or -1 where it has none yet
 * @property {number} step
 */

/**
 * What stands beside a run; null where nothing does, as beside a run that would be compared with itself.
 * @param {Run} run
 */
export function pinnedOf(run) {
  if (state.pin === null) return null;
  const other = state.pin.run === null ? run : runs[state.pin.run];
  if (other === run && state.pin.step === null) return null;
  const step = state.pin.step ?? stepNow();
  return { other, step, s: places[other.number][lastUpTo(steps, step)] ?? -1 };
}

/** What stands beside a run, in words. @param {Run} run @param {Pinned} pinned */
export const nameOfPinned = (run, { other, step }) => joined([other === run ? "" : other.name, nameOf(step)]);

/**
 * What moved from what is pinned to the map of (s, n, k), or why that cannot be told.
 * @param {Run} run
 * @param {Pinned} pinned
 * @param {number} s
 * @param {number} n
 * @param {number} k
 * @returns {{ difference: Difference | null, why: string }}
 */
export function comparison(run, pinned, s, n, k) {
  const why = reasonAgainst(run, pinned, s, n, k);
  if (why) return { difference: null, why };
  const [then, now] = [mapOf(pinned.other, pinned.s, n, k), mapOf(run, s, n, k)];
  const difference = differenceOf(then.values, now.values);
  return { difference, why: difference === null ? "map empty" : "" };
}

/** @param {Run} run @param {Pinned} pinned @param {number} s @param {number} n @param {number} k */
function reasonAgainst(run, pinned, s, n, k) {
  const { other } = pinned;
  if (s < 0 || pinned.s < 0) return "not recorded yet";
  const [here, there] = [run, other].map((each) => each.shape.join(" × "));
  if (here !== there) return `grids differ: ${there}, ${here}`;
  const health = [healthAt(run, s, n, k), healthAt(other, pinned.s, n, k)].find((each) => !isFit(each));
  if (health !== undefined) return `map ${health}`;
  const [now, then] = [explainedAt(run, s, n, k), explainedAt(other, pinned.s, n, k)];
  return now !== then && now >= 0 && then >= 0 ? `another class: ${className(then)}` : "";
}

/** How many pictures of a run stand side by side. @param {Run} run @returns {number} */
export function viewsOf(run) {
  if (state.away.has(run.number)) return 0;
  if (pinnedOf(run) === null) return 1;
  return state.beside === "both" ? 3 : 2;
}
