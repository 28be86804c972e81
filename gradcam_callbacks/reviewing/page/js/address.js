// @ts-check
/* The address of the page, which says what is shown: only what differs from how the page opens, but for the step. */

import { lastUpTo } from "./curves.js";
import { COUNT, RUNS, TARGETS, data, steps } from "./data.js";
import { inputOf, selectOf } from "./dom.js";
import { arrange, setGrouping, setStacked } from "./filters.js";
import { GROUPINGS, canGroup } from "./grouping.js";
import { closeLarge, openLarge } from "./large.js";
import { setColormap, setGrey, setHidden, setOpacity, setScale } from "./looks.js";
import { setBeside, setPin, setSize } from "./pinning.js";
import { setShownRuns } from "./shown.js";
import { initial, state, stepNow } from "./state.js";
import { play, schedule } from "./time.js";
import { zoomFrom, zoomText } from "./zoom.js";
import { setZoom } from "./zooming.js";

const FILTERS = /** @type {const} */ ({ sort: "given", show: "all" });

/** Whether the newest step is shown, which a page that is written anew will show as well. */
const isNewest = () => state.at === steps.length - 1;

/**
 * What is shown, as it stands in an address behind "#".
 * @param {boolean} [isToStay] whether a later step is not wanted
 */
export function fragment(isToStay = true) {
  const { large, pin, beside, scale, colormap, opacity, size, away } = state;
  /** @type {[string, string | number, unknown][]} */
  const all = [
    ["step", stepNow(), null],
    ["follow", !isToStay && isNewest() ? 1 : "", ""],
    ["probe", large?.n ?? "", ""],
    ["target", large?.k ?? "", ""],
    ["runs", away.size ? [...Array(RUNS).keys()].filter((run) => !away.has(run)).join(",") : "", ""],
    ["pin", pin === null ? "" : (pin.step ?? "now"), ""],
    ["of", pin?.run ?? "", ""],
    ["beside", beside, initial.beside],
    ["scale", scale, initial.scale],
    ["colours", colormap, initial.colormap],
    ["opacity", Math.round(100 * opacity), Math.round(100 * initial.opacity)],
    ["grey", state.isGrey ? 1 : "", ""],
    ["hidden", state.isHidden ? 1 : "", ""],
    ["size", size ?? "", ""],
    ["sort", selectOf("sort").value, FILTERS.sort],
    ["show", selectOf("show").value, FILTERS.show],
    ["search", inputOf("search").value, ""],
    ["group", state.grouping, initial.grouping],
    ["stacked", [...state.stacked].join(","), ""],
    ["zoom", large === null ? "" : zoomText(state.zoom), ""],
  ];
  const told = all.filter(([, value, usual]) => value !== usual).map(([key, value]) => [key, String(value)]);
  return new URLSearchParams(told).toString();
}

export function remember() {
  const wanted = `#${fragment(false)}`;
  if (location.hash === wanted) return;
  try {
    history.replaceState(null, "", wanted);
  } catch {
    // A sandboxed frame has no address of its own.
  }
}

/** Whole numbers below a limit, or null. @param {string | null} text @param {number} limit */
function indexOf(text, limit) {
  const index = text === null || text === "" ? NaN : Number(text);
  return Number.isInteger(index) && index >= 0 && index < limit ? index : null;
}

/** Shows what the address says; of what it does not say, or says wrongly, what the page opens with. */
export function recall() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  play(false);
  const step = Number(wanted.get("step"));
  const isToFollow = wanted.get("follow") === "1";
  if (wanted.has("step") && Number.isFinite(step) && !isToFollow) state.at = Math.max(0, lastUpTo(steps, step));
  else state.at = initial.at;
  recallRuns(wanted);
  recallLooks(wanted);
  recallFilters(wanted);
  const n = indexOf(wanted.get("probe"), COUNT);
  if (n === null) closeLarge();
  else openLarge(n, indexOf(wanted.get("target"), TARGETS) ?? 0);
  setZoom(zoomFrom(n === null ? null : wanted.get("zoom")));
  schedule();
}

/** @param {URLSearchParams} wanted */
function recallRuns(wanted) {
  const shown = (wanted.get("runs") ?? "").split(",").flatMap((text) => indexOf(text, RUNS) ?? []);
  setShownRuns(shown.length ? shown : [...Array(RUNS).keys()]);
  const run = indexOf(wanted.get("of"), RUNS);
  const pin = wanted.get("pin");
  const at = pin === null || pin === "" ? -1 : steps.indexOf(Number(pin));
  const isThere = at >= 0 || (pin === "now" && run !== null);
  const beside = wanted.get("beside") ?? "";
  setBeside(["both", "picture", "difference"].includes(beside) ? beside : initial.beside);
  setPin(isThere ? { step: pin === "now" ? null : steps[at], run } : null);
}

/** @param {URLSearchParams} wanted */
function recallLooks(wanted) {
  setScale(wanted.get("scale") === "shared" ? "shared" : initial.scale);
  const colours = wanted.get("colours") ?? "";
  setColormap(Object.hasOwn(data.colormaps, colours) ? colours : initial.colormap);
  setOpacity((indexOf(wanted.get("opacity"), 101) ?? 100 * initial.opacity) / 100);
  setGrey(wanted.get("grey") === "1");
  setHidden(wanted.get("hidden") === "1");
  const size = indexOf(wanted.get("size"), Number(inputOf("size").max) + 1);
  setSize(size === null ? null : Math.max(Number(inputOf("size").min), size));
}

/** @param {URLSearchParams} wanted */
function recallFilters(wanted) {
  for (const id of /** @type {const} */ (["sort", "show"])) {
    const value = wanted.get(id) ?? "";
    const isThere = [...selectOf(id).options].some((option) => option.value === value && !option.disabled);
    selectOf(id).value = isThere ? value : FILTERS[id];
  }
  inputOf("search").value = wanted.get("search") ?? "";
  arrange();
  const grouping = wanted.get("group") ?? "";
  setGrouping(Object.hasOwn(GROUPINGS, grouping) && canGroup(grouping) ? grouping : initial.grouping);
  setStacked((wanted.get("stacked") ?? "").split(",").filter(Boolean));
}
