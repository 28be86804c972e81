// @ts-check
/* The address of the page, which says what is shown. */

import { lastUpTo } from "./curves.js";
import { COUNT, TARGETS, steps } from "./data.js";
import { openLarge } from "./large.js";
import { state, stepNow } from "./state.js";

export function remember() {
  const large = state.large === null ? "" : `&probe=${state.large.n}&target=${state.large.k}`;
  try {
    history.replaceState(null, "", `#step=${stepNow()}${large}`);
  } catch {
    // A sandboxed frame has no address.
  }
}

export function recall() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (wanted.has("step")) state.at = Math.max(0, lastUpTo(steps, Number(wanted.get("step"))));
  const [n, k] = [Number(wanted.get("probe")), Number(wanted.get("target"))];
  const isThere = Number.isInteger(n) && n >= 0 && n < COUNT && k >= 0 && k < TARGETS;
  if (wanted.has("probe") && isThere) openLarge(n, Math.floor(k));
}
