// @ts-check
/* The filmstrip of the large view: the map at every step. */

import { HEIGHT, RUNS, WIDTH, nameOf, places, runs, shortOf, steps } from "./data.js";
import { byId, dense, element, joined } from "./dom.js";
import { paint } from "./heat.js";
import { state } from "./state.js";
import { go } from "./time.js";

/** @typedef {ReturnType<typeof makeFrame>} Frame */

/** @type {Map<Element, Frame>} */
const frames = new Map();

const inSight = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const frame = frames.get(entry.target);
      if (frame === undefined) continue;
      frame.isNear = entry.isIntersecting;
      if (frame.isNear) drawFrame(frame);
    }
  },
  { root: byId("film"), rootMargin: "0px 400px" },
);

/** @param {number} n @param {number} k */
export function fillFilm(n, k) {
  const host = byId("film");
  inSight.disconnect();
  frames.clear();
  host.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
  host.classList.toggle("of-many", RUNS - state.away.size > 1);
  for (const at of steps.keys()) {
    const frame = makeFrame(at, n, k);
    frames.set(frame.button, frame);
  }
  host.replaceChildren(...frames.keys());
  for (const button of frames.keys()) inSight.observe(button);
}

/** @param {number} at @param {number} n @param {number} k */
function makeFrame(at, n, k) {
  const step = steps[at];
  const isFlagged = runs.some((run) =>
    run.events.some(
      (event) => event.kind === "moved" && event.probe === n && event.target === k && event.step === step,
    ),
  );
  const canvases = runs.map((run) => {
    const said = joined([RUNS > 1 ? run.name : "", nameOf(step), isFlagged ? "flagged" : ""]);
    return element("canvas", { role: "img", width: 1, height: 1, "data-run": run.number, "aria-label": said });
  });
  const style = isFlagged ? "frame-of-film flagged-frame" : "frame-of-film";
  const caption = element("span", { text: shortOf(step) });
  const button = element("button", { type: "button", class: style, tabindex: "-1" }, ...canvases, caption);
  button.addEventListener("click", () => go(at));
  return { at, button, canvases, isNear: false, /** What is drawn now. */ drawn: "" };
}

/** @param {Frame} frame */
function drawFrame(frame) {
  if (state.large === null) return;
  const { n, k } = state.large;
  const key = `${n} ${k} ${state.version}`;
  if (frame.drawn === key) return;
  frame.drawn = key;
  const width = Math.round(dense(Math.min(96, 66 * (WIDTH / HEIGHT))));
  const height = Math.max(1, Math.round((width * HEIGHT) / WIDTH));
  frame.canvases.forEach((canvas, r) => {
    const s = places[r][frame.at];
    canvas.classList.toggle("stale", s < 0 || runs[r].steps[s] !== steps[frame.at]);
    paint(canvas, width, height, runs[r], s, n, k, { finest: 48, hasOutline: false });
  });
}

/** Draws also the frames out of sight, for paper. */
export function drawWholeFilm() {
  for (const frame of frames.values()) drawFrame(frame);
}

/** Draws the frames in sight, and marks that of the step shown. */
export function drawFilm() {
  for (const frame of frames.values()) {
    const { button } = frame;
    const isCurrent = frame.at === state.at;
    if (button.classList.contains("current") !== isCurrent) {
      button.classList.toggle("current", isCurrent);
      button.tabIndex = isCurrent ? 0 : -1;
      if (isCurrent) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
      if (isCurrent) centre(button);
    }
    button.classList.toggle("pinned-frame", steps[frame.at] === state.pin?.step);
    if (frame.isNear) drawFrame(frame);
  }
}

/** @param {HTMLElement} button */
function centre(button) {
  const host = byId("film");
  host.scrollLeft = button.offsetLeft - host.offsetLeft - (host.clientWidth - button.offsetWidth) / 2;
}
