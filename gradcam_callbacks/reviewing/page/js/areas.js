// @ts-check
/* Which part of a picture shows an area best. */

/**
 * A part of a picture, in shares of its sides.
 * @typedef {object} View
 * @property {number} left
 * @property {number} top
 * @property {number} side of its width and of its height: a part has the proportions of the picture
 */

// Around an area is shown a part of its longer side; of the picture this much at least. What would be most of the
// picture is all of it.
const AROUND = 0.7;
const LEAST = 0.2;
const MOST = 0.75;

/** The whole picture. @type {View} */
export const WHOLE = { left: 0, top: 0, side: 1 };

/**
 * The part around an area.
 * @param {string} path its outline, as an SVG path in thousandths of the picture's sides
 * @returns {View}
 */
export function viewOf(path) {
  const numbers = (path.match(/\d+/g) ?? []).map((text) => Number(text) / 1000);
  const [across, down] = [0, 1].map((axis) => extent(numbers.filter((_, at) => at % 2 === axis)));
  const side = Math.max(LEAST, (1 + AROUND) * Math.max(across.size, down.size));
  if (!(side <= MOST)) return WHOLE;
  /** @param {number} middle */
  const start = (middle) => Math.min(1 - side, Math.max(0, middle - side / 2));
  return { left: start(across.middle), top: start(down.middle), side };
}

/** @param {number[]} places */
function extent(places) {
  const [low, high] = [Math.min(...places), Math.max(...places)];
  return { middle: (low + high) / 2, size: high - low };
}
