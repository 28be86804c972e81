// @ts-check
/* Which step is shown: going there, playing, and when it is drawn. */

import { data, isWarning, runs, steps } from "./data.js";
import { buttonOf, byId, drawn, inputOf } from "./dom.js";
import { state } from "./state.js";

// What is drawn at each frame, and what only when it rests; main.js says it.
const drawing = { frame: () => {}, rest: () => {} };

/** @param {() => void} frame @param {() => void} rest */
export function drawWith(frame, rest) {
  drawing.frame = frame;
  drawing.rest = rest;
}

/** Has the page drawn anew with the next frame. */
export function schedule() {
  if (state.isScheduled) return;
  state.isScheduled = true;
  requestAnimationFrame(() => {
    state.isScheduled = false;
    drawing.frame();
  });
}

/** Does what is too much for each frame of a play, once there is a pause. */
export function settle() {
  clearTimeout(state.resting);
  if (!state.isPlaying) state.resting = setTimeout(drawing.rest, 120);
}

/** Nobody reads numbers that change more often, and their layout costs more than the pictures. */
export function areWordsDue() {
  const now = performance.now();
  if (state.isPlaying && now - state.wroteAt < 95) return false;
  state.wroteAt = now;
  return true;
}

/** @param {number} at place of a step, which may lie outside of all */
export function go(at) {
  play(false);
  const wanted = Math.max(0, Math.min(steps.length - 1, at));
  if (wanted === state.at) return;
  state.at = wanted;
  schedule();
}

/** @param {boolean} isWanted */
export function play(isWanted) {
  if (isWanted === state.isPlaying || (isWanted && steps.length < 2)) return;
  state.isPlaying = isWanted;
  for (const id of ["play", "large-play"]) {
    byId(id).setAttribute("aria-label", isWanted ? "Pause" : "Play");
    byId(id).classList.toggle("playing", isWanted);
  }
  if (!isWanted) {
    settle();
    return;
  }
  if (state.at === steps.length - 1) {
    state.at = 0;
    schedule();
  }
  state.playedAt = performance.now();
  requestAnimationFrame(advance);
}

/** @param {number} now */
function advance(now) {
  if (!state.isPlaying) return;
  const pause = 1000 / Number(byId("speed", HTMLSelectElement).value);
  const waited = now - state.playedAt;
  if (waited >= pause - 4) {
    state.playedAt = waited > 2 * pause ? now : state.playedAt + pause;
    if (state.at === steps.length - 1) {
      play(false);
      return;
    }
    state.at++;
    state.isScheduled = true; // drawn here, not a frame later
    drawing.frame();
    state.isScheduled = false;
  }
  requestAnimationFrame(advance);
}

export function fillTime() {
  for (const id of ["epoch", "large-epoch"]) {
    const slider = inputOf(id);
    slider.max = String(steps.length - 1);
    slider.setAttribute("aria-label", data.unit === "epoch" ? "Epoch" : "Batch");
    slider.disabled = steps.length < 2;
    slider.addEventListener("input", () => go(Number(slider.value)));
  }
  for (const id of ["play", "large-play"]) {
    const button = buttonOf(id);
    button.addEventListener("click", () => play(!state.isPlaying));
    button.disabled = steps.length < 2;
  }
  const ticks = byId("ticks", SVGSVGElement);
  ticks.setAttribute("viewBox", "0 0 1000 6");
  const flagged = new Set(runs.flatMap((run) => run.events.filter(isWarning).map((event) => event.step)));
  for (const step of flagged) {
    const at = steps.indexOf(step);
    if (at >= 0) {
      ticks.append(drawn("path", { d: `M${steps.length > 1 ? (1000 * at) / (steps.length - 1) : 500} 3h0` }));
    }
  }
}
