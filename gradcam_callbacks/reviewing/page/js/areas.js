// @ts-check
/* Which part of a picture shows an area best. */

/**
 * A part of a picture, in shares of its sides.
 * @typedef {object} View
 * @property {number} left
 * @property {number} top
 * @property {number} width
 * @property {number} height
 */

// A part is so many times as long as the area in it, and this much of the picture at least. What would be most of the
// picture is all of it.
const AROUND = 1.7;
const LEAST = 0.2;
const MOST = 0.75;
// The proportions of a part are those of the picture within these.
const TALLEST = 0.75;
const WIDEST = 1.6;

/** The whole picture. @type {View} */
export const WHOLE = { left: 0, top: 0, width: 1, height: 1 };

/** Width over height of the parts of a picture. @param {number} ratio width over height of the picture */
export const partRatio = (ratio) => Math.min(WIDEST, Math.max(TALLEST, ratio));

/**
 * The part around an area.
 * @param {string} path its outline, as an SVG path in thousandths of the picture's sides
 * @param {number} ratio width over height of the picture
 * @returns {View}
 */
export function viewOf(path, ratio) {
  const numbers = (path.match(/\d+/g) ?? []).map((text) => Number(text) / 1000);
  const [across, down] = [0, 1].map((axis) => extent(numbers.filter((_, at) => at % 2 === axis)));
  // How wide a part is for its height, in shares of the picture's sides.
  const wide = partRatio(ratio) / ratio;
  const wanted = Math.max(AROUND * down.size, (AROUND * across.size) / wide, LEAST / Math.max(1, wide));
  const height = Math.min(1, 1 / wide, wanted);
  const width = height * wide;
  const isAll = Math.min(width, height) > MOST;
  if (isAll || width < across.size || height < down.size) return WHOLE;
  return { left: startOf(across.middle, width), top: startOf(down.middle, height), width, height };
}

/** Where a part begins, so that it ends within the picture. @param {number} middle @param {number} size */
const startOf = (middle, size) => Math.min(1 - size, Math.max(0, middle - size / 2));

/** @param {number[]} places */
function extent(places) {
  const [low, high] = [Math.min(...places), Math.max(...places)];
  return { middle: (low + high) / 2, size: high - low };
}
