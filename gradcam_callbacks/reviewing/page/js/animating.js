// @ts-check
/* The pictures of the large view over all steps, as an animation. */

import { HEIGHT, RUNS, WIDTH, data, healthAt, isFit, nameOf, places, runs, steps } from "./data.js";
import { element, joined, selectOf } from "./dom.js";
import { EDGE, LINE, download, nameOfLarge, sheetWith } from "./files.js";
import { percent } from "./format.js";
import { gifOf, paletteOf } from "./gif.js";
import { paint, paintDifference } from "./heat.js";
import { comparison, nameOfPinned, pinnedOf } from "./pin.js";
import { state, stepNow } from "./state.js";
import { partOf } from "./zoom.js";

/** @import { Run } from "./types.js" */

// The longest side of a picture, and the width of all, in pixels; how many frames there are at most; how many of them
// the colours are chosen from; and how long the last one stays, in milliseconds.
const SIDE = 320;
const WIDEST_OF_ALL = 960;
const MOST_FRAMES = 60;
const SAMPLED = 12;
const REST = 1500;

/** At most so many places of the steps, at even distances, the first and the last among them. */
function framesOf() {
  const count = Math.min(MOST_FRAMES, steps.length);
  return [...Array(count).keys()].map((at) => Math.round((at * (steps.length - 1)) / Math.max(1, count - 1)));
}

/**
 * What stands side by side: how each is drawn at the step shown, and what is said of it.
 * @param {number} n
 * @param {number} k
 */
function viewsOfLarge(n, k) {
  return runs.filter((run) => !state.away.has(run.number)).flatMap((run) => {
    const isBeside = pinnedOf(run) !== null;
    const views = [viewOfRun(run, n, k)];
    if (isBeside && state.beside !== "difference") views.push(viewOfPinned(run, n, k));
    if (isBeside && state.beside !== "picture") views.push(viewOfDifference(run, n, k));
    return views;
  });
}

/** @typedef {(canvas: HTMLCanvasElement, width: number, height: number) => string} View draws, and says what it is */

/** @param {Run} run @param {number} s @param {number} n @param {number} k */
const unfit = (run, s, n, k) => (isFit(healthAt(run, s, n, k)) ? "" : healthAt(run, s, n, k));

/** @param {Run} run @param {number} n @param {number} k @returns {View} */
const viewOfRun = (run, n, k) => (canvas, width, height) => {
  const s = places[run.number][state.at];
  paint(canvas, width, height, run, s, n, k, { finest: 224 });
  return joined([RUNS > 1 ? run.name : "", s < 0 ? "not recorded yet" : unfit(run, s, n, k)]);
};

/** @param {Run} run @param {number} n @param {number} k @returns {View} */
const viewOfPinned = (run, n, k) => (canvas, width, height) => {
  const pinned = pinnedOf(run);
  if (pinned === null) return "";
  paint(canvas, width, height, pinned.other, pinned.s, n, k, { finest: 224 });
  return `Pinned: ${nameOfPinned(run, pinned)}`;
};

/** @param {Run} run @param {number} n @param {number} k @returns {View} */
const viewOfDifference = (run, n, k) => (canvas, width, height) => {
  const pinned = pinnedOf(run);
  if (pinned === null) return "";
  const { difference, why } = comparison(run, pinned, places[run.number][state.at], n, k);
  paintDifference(canvas, width, height, run.grid, difference?.values ?? null, n, 224);
  return difference ? `${percent(difference.moved)} moved (orange: came, blue: left)` : why;
};

/** Saves the pictures of the large view at every step, as they are seen there, at the speed that is chosen. */
export function saveAnimation() {
  if (state.large === null) return;
  const { n, k } = state.large;
  const views = viewsOfLarge(n, k);
  const side = Math.min(SIDE, WIDEST_OF_ALL / views.length) / Math.max(WIDTH, HEIGHT);
  const [wide, high] = [WIDTH, HEIGHT].map((length) => Math.max(1, Math.round(length * side)));
  const [width, height] = [EDGE + views.length * (wide + EDGE), high + 2 * LINE + EDGE];
  const frame = element("canvas");
  const drawn = (/** @type {number} */ at) => {
    state.at = at;
    const when = views.length > 1 || wide > 200 ? `${data.names[n]} · target ${data.targets[k]}` : data.names[n];
    const { context } = sheetWith(width, height, `${nameOf(stepNow())} · ${when}`);
    const { left, top, side: part } = partOf(state.zoom);
    views.forEach((view, place) => {
      const text = view(frame, wide, high);
      const x = EDGE + place * (wide + EDGE);
      context.drawImage(frame, left * wide, top * high, part * wide, part * high, x, EDGE + LINE, wide, high);
      context.fillText(text, x, EDGE + LINE + high + 16, wide);
    });
    return context.getImageData(0, 0, width, height).data;
  };
  const pause = 1000 / Number(selectOf("speed").value);
  const shown = state.at;
  const frames = framesOf();
  const last = frames[frames.length - 1];
  const every = Math.ceil(frames.length / SAMPLED);
  const palette = paletteOf(frames.filter((_, place) => place % every === 0).map(drawn));
  /** Each frame when it is asked for, so that not all are in memory. */
  function* drawnInTurn() {
    for (const at of frames) yield { pixels: drawn(at), pause: at === last ? Math.max(REST, pause) : pause };
  }
  const bytes = gifOf(width, height, palette, drawnInTurn());
  state.at = shown;
  download(new Blob([bytes], { type: "image/gif" }), `${nameOfLarge("animation")}.gif`);
}
