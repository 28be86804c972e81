// @ts-check
/* Which part of a picture is shown, enlarged. */

/**
 * @typedef {object} Zoom
 * @property {number} scale 1 is the whole picture
 * @property {number} x the place that stays where it is while the picture is enlarged, in shares of its width
 * @property {number} y the same in shares of its height
 */

/** The whole picture. @type {Readonly<Zoom>} */
export const UNZOOMED = { scale: 1, x: 0.5, y: 0.5 };
export const MOST_ZOOM = 16;

/** @param {number} share */
const within = (share) => Math.max(0, Math.min(1, share));

/** The part that is shown, in shares of the picture's sides. @param {Zoom} zoom */
export function partOf({ scale, x, y }) {
  return { left: x * (1 - 1 / scale), top: y * (1 - 1 / scale), side: 1 / scale };
}

/**
 * Enlarged by a factor about a place of the frame, which keeps showing the same place of the picture.
 * @param {Zoom} zoom
 * @param {number} factor
 * @param {number} [x] in shares of the frame's width
 * @param {number} [y] in shares of its height
 * @returns {Zoom}
 */
export function zoomed(zoom, factor, x = 0.5, y = 0.5) {
  const scale = Math.max(1, Math.min(MOST_ZOOM, zoom.scale * factor));
  if (scale < 1.001) return { ...UNZOOMED };
  const { left, top, side } = partOf(zoom);
  // What the frame shows at (x, y) now, less what is left of it then, is where the part begins.
  /** @param {number} from @param {number} at */
  const begin = (from, at) => within((from + at * side - at / scale) / (1 - 1 / scale));
  return { scale, x: begin(left, x), y: begin(top, y) };
}

/**
 * Moved along with a pointer or by a key.
 * @param {Zoom} zoom
 * @param {number} right by how much the picture goes to the right, in shares of the frame's width
 * @param {number} down by how much it goes down, in shares of its height
 * @returns {Zoom}
 */
export function panned(zoom, right, down) {
  if (zoom.scale === 1) return zoom;
  const by = zoom.scale - 1;
  return { scale: zoom.scale, x: within(zoom.x - right / by), y: within(zoom.y - down / by) };
}

/** As it stands in an address; "" of the whole picture. @param {Zoom} zoom */
export function zoomText({ scale, x, y }) {
  return scale === 1 ? "" : [scale.toFixed(2), x.toFixed(3), y.toFixed(3)].map(Number).join(",");
}

/** The opposite; the whole picture where the text says none. @param {string | null} text @returns {Zoom} */
export function zoomFrom(text) {
  const numbers = (text ?? "").split(",").map(Number);
  const [scale, x, y] = numbers;
  if (numbers.length !== 3 || !numbers.every(Number.isFinite) || !(scale > 1)) return { ...UNZOOMED };
  return { scale: Math.min(MOST_ZOOM, scale), x: within(x), y: within(y) };
}
