// @ts-check
/* Zoom and pan in the large view: all its pictures show the same part. */

import { buttonOf, byId, setText } from "./dom.js";
import { state } from "./state.js";
import { schedule } from "./time.js";
import { MOST_ZOOM, UNZOOMED, panned, zoomed } from "./zoom.js";

/** @import { Zoom } from "./zoom.js" */
/** @typedef {{ frame: Element, clientX: number, clientY: number }} Finger */

const zoomable = byId("large-pictures");
// By how much a button or a key enlarges, how far a key moves, and how fast a wheel and a pinch enlarge.
const STEP_ZOOM = 1.5;
const PAN = 0.15;
const NOTCH = 0.0025;
const PINCH = 0.01;

/** The pointers that are down, by their id: on which frame, and where. @type {Map<number, Finger>} */
const fingers = new Map();

/** @param {Zoom} zoom */
export function setZoom(zoom) {
  state.zoom = zoom;
  showZoom();
  schedule();
}

/** Shows the part that is chosen. */
export function showZoom() {
  const { scale, x, y } = state.zoom;
  for (const [name, value] of Object.entries({ "--zoom": scale, "--zoom-x": x, "--zoom-y": y })) {
    zoomable.style.setProperty(name, String(value));
  }
  zoomable.classList.toggle("zoomed", scale > 1);
  setText(byId("zoom-now"), `${Math.round(100 * scale)} %`);
  buttonOf("zoom-out").disabled = buttonOf("zoom-now").disabled = scale === 1;
  buttonOf("zoom-in").disabled = scale === MOST_ZOOM;
}

export const zoomIn = () => setZoom(zoomed(state.zoom, STEP_ZOOM));
export const zoomOut = () => setZoom(zoomed(state.zoom, 1 / STEP_ZOOM));
export const resetZoom = () => setZoom({ ...UNZOOMED });

/** Shows what lies on that side, by a key. @param {number} right -1, 0 or 1 @param {number} down the same */
export const lookTo = (right, down) => setZoom(panned(state.zoom, -PAN * right, -PAN * down));

/** The frame of a picture that an event is on. @param {Event} event */
const frameUnder = (event) => (event.target instanceof Element ? event.target.closest(".frame") : null);

/**
 * Where a pointer is in a frame, in shares of the sides.
 * @param {{ clientX: number, clientY: number }} pointer
 * @param {Element} frame
 */
function pointIn({ clientX, clientY }, frame) {
  const box = frame.getBoundingClientRect();
  return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
}

/** Whether a wheel has something to scroll there: the pictures, or where there is little room the whole dialog. */
function isScrolling() {
  const boxes = [byId("large-left"), document.querySelector(".large")];
  return boxes.some((box) => {
    if (box === null || getComputedStyle(box).overflowY !== "auto") return false;
    return box.scrollHeight > box.clientHeight + 1;
  });
}

/** A wheel over a picture. Where two fingers pinch a touchpad, Ctrl is said to be held. @param {WheelEvent} event */
function onWheel(event) {
  const frame = frameUnder(event);
  const isPinched = event.ctrlKey || event.metaKey;
  if (frame === null || !(isPinched || state.zoom.scale > 1 || !isScrolling())) return;
  event.preventDefault();
  const { x, y } = pointIn(event, frame);
  const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 33);
  setZoom(zoomed(state.zoom, Math.exp(-pixels * (isPinched ? PINCH : NOTCH)), x, y));
}

/** @param {PointerEvent} event */
function onDown(event) {
  const frame = frameUnder(event);
  if (frame === null || event.button !== 0) return;
  const { pointerId, clientX, clientY } = event;
  fingers.set(pointerId, { frame, clientX, clientY });
  if (event.target instanceof Element) event.target.setPointerCapture(pointerId);
}

/** A pointer that is held moves the picture; two fingers enlarge it as well. @param {PointerEvent} event */
function onDrag(event) {
  const before = fingers.get(event.pointerId);
  if (before === undefined) return;
  const { frame } = before;
  const now = { frame, clientX: event.clientX, clientY: event.clientY };
  const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
  fingers.set(event.pointerId, now);
  const [from, to] = [pointIn(before, frame), pointIn(now, frame)];
  const share = 1 / (1 + others.length); // of two fingers, the middle moves half as far as each
  const moved = panned(state.zoom, share * (to.x - from.x), share * (to.y - from.y));
  if (others.length === 0) {
    if (state.zoom.scale > 1) setZoom(moved);
    return;
  }
  const there = pointIn(others[0], frame);
  const [other] = others;
  const apart = (/** @type {Finger} */ one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  const factor = apart(now) / Math.max(1, apart(before));
  setZoom(zoomed(moved, factor, (to.x + there.x) / 2, (to.y + there.y) / 2));
}

/** Two clicks or taps enlarge a place, or show the whole picture again. @param {MouseEvent} event */
function onDoubleClick(event) {
  const frame = frameUnder(event);
  if (frame === null) return;
  const { x, y } = pointIn(event, frame);
  setZoom(state.zoom.scale > 1 ? { ...UNZOOMED } : zoomed(state.zoom, 3, x, y));
}

export function fillZooming() {
  zoomable.addEventListener("wheel", onWheel, { passive: false });
  zoomable.addEventListener("pointerdown", onDown);
  zoomable.addEventListener("pointermove", onDrag);
  for (const kind of /** @type {const} */ (["pointerup", "pointercancel"])) {
    zoomable.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  }
  zoomable.addEventListener("dblclick", onDoubleClick);
  for (const [id, act] of /** @type {const} */ ([
    ["zoom-in", zoomIn],
    ["zoom-out", zoomOut],
    ["zoom-now", resetZoom],
  ])) {
    buttonOf(id).addEventListener("click", act);
  }
}
