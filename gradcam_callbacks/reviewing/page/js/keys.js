// @ts-check
/* Keys. */

import { steps } from "./data.js";
import { isHelpOpen, openHelp } from "./help.js";
import { turnAllStacks, turnGrouping } from "./filters.js";
import { turn } from "./large.js";
import { setOpacity, setScale } from "./looks.js";
import { copyLink } from "./link.js";
import { togglePin, turnBeside } from "./pinning.js";
import { state } from "./state.js";
import { go, play, schedule } from "./time.js";
import { lookTo, resetZoom, zoomIn, zoomOut } from "./zooming.js";

/** @type {Record<string, () => void>} */
const MOVES = {
  ArrowLeft: () => go(state.at - 1),
  ArrowRight: () => go(state.at + 1),
  Home: () => go(0),
  End: () => go(steps.length - 1),
};

const more = () => setOpacity(state.opacity + 0.1);
const less = () => setOpacity(state.opacity - 0.1);

/** @type {Record<string, () => void>} */
const OTHERS = {
  "+": more,
  "=": more,
  "-": less,
  "−": less,
  "?": openHelp,
  c: togglePin,
  d: turnBeside,
  l: copyLink,
  s: () => setScale(state.scale === "map" ? "shared" : "map"),
};

/** In the grid. @type {Record<string, () => void>} */
const GRID = { g: turnGrouping, k: turnAllStacks };

/** In the large view. @type {Record<string, () => void>} */
const LARGE = { n: () => turn(1), p: () => turn(-1), z: zoomIn, x: zoomOut, 0: resetZoom };

/** With Shift, where the picture is enlarged: which part of it is shown. @type {Record<string, () => void>} */
const LOOKS = {
  ArrowLeft: () => lookTo(-1, 0),
  ArrowRight: () => lookTo(1, 0),
  ArrowUp: () => lookTo(0, -1),
  ArrowDown: () => lookTo(0, 1),
};

/** @param {KeyboardEvent} event */
const isHold = (event) => event.key === "h" || event.key === "H";

/** @param {EventTarget | null} node @param {string} selector */
const takes = (node, selector) => node instanceof Element && node.matches(selector);

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isHelpOpen()) return;
  if (takes(event.target, "input[type=search], input[type=text], select, textarea")) return;
  const isSetting = takes(event.target, "#opacity, #size, input[type=radio]");
  const isPressed = takes(event.target, "button, a, summary, input[type=checkbox], input[type=radio]");
  const isLooking = event.shiftKey && state.large !== null && state.zoom.scale > 1;
  const look = isLooking ? LOOKS[event.key] : undefined;
  const move = isSetting ? null : MOVES[event.key];
  const act = look ?? move ?? OTHERS[event.key] ?? (state.large ? LARGE : GRID)[event.key];
  if (isHold(event)) {
    if (!event.repeat) hold(true);
  } else if (event.key === " " && !isPressed) {
    if (!event.repeat) play(!state.isPlaying);
  } else if (act) act();
  else return;
  event.preventDefault();
}

/** @param {boolean} isHeld */
function hold(isHeld) {
  if (state.isHeld === isHeld) return;
  state.isHeld = isHeld;
  state.version++;
  schedule();
}

export function watchKeys() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("keyup", (event) => {
    if (isHold(event)) hold(false);
  });
  window.addEventListener("blur", () => hold(false));
}
