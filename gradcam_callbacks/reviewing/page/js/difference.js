// @ts-check
/* Where attention went and where it left, between two maps of one grid. */

/**
 * @typedef {object} Difference
 * @property {Uint8Array} values of each cell: 128 where nothing changed, more where attention came, less where it left;
 *     127 steps are as much as the hottest cell of either map has
 * @property {number} moved the share of the attention that moved, in [0, 1]
 * @property {number} came the cell to which most came
 * @property {number} left the cell that most left
 */

const UNCHANGED = 128;
const FULL = 127;

/** The two colours, red, green and blue: an orange that is lighter than the blue, for those who see no colour. */
export const CAME = [255, 170, 20];
export const LEFT = [40, 90, 255];

/** @param {Uint8Array} map */
export function sumOf(map) {
  let sum = 0;
  for (let cell = 0; cell < map.length; cell++) sum += map[cell];
  return sum;
}

/**
 * The difference of two maps, each over its own sum, so that it is of where and not of how much; null where one of them
 * is empty.
 * @param {Uint8Array} then
 * @param {Uint8Array} now of as many cells
 * @returns {Difference | null}
 */
export function differenceOf(then, now) {
  const [before, after] = [sumOf(then), sumOf(now)];
  if (before === 0 || after === 0) return null;
  const changes = new Float64Array(now.length);
  let highest = 0;
  let moved = 0;
  let [came, left] = [0, 0];
  for (let cell = 0; cell < now.length; cell++) {
    const [p, q] = [then[cell] / before, now[cell] / after];
    changes[cell] = q - p;
    moved += Math.abs(q - p) / 2;
    highest = Math.max(highest, p, q);
    if (changes[cell] > changes[came]) came = cell;
    if (changes[cell] < changes[left]) left = cell;
  }
  const values = new Uint8Array(changes.length);
  for (let cell = 0; cell < values.length; cell++) {
    values[cell] = UNCHANGED + Math.round((FULL * changes[cell]) / highest);
  }
  return { values, moved, came, left };
}

/**
 * The colours of such values: red, green, blue and cover of each of 256. No change is clear; little change lets the
 * picture through, as little heat does.
 */
export function differenceTable() {
  const table = new Uint8Array(1024);
  for (let value = 0; value < 256; value++) {
    const change = Math.min(1, Math.abs(value - UNCHANGED) / FULL);
    const cover = Math.min(1, 1.15 * change ** 0.65);
    table.set([...(value < UNCHANGED ? LEFT : CAME), Math.round(255 * cover)], 4 * value);
  }
  return table;
}

/**
 * Where a cell lies, in words.
 * @param {number} cell
 * @param {[number, number]} grid rows and columns
 */
export function placeIn(cell, [rows, columns]) {
  const third = (/** @type {number} */ at, /** @type {number} */ count) => Math.floor((3 * (at + 0.5)) / count);
  const down = ["upper", "", "lower"][third(Math.floor(cell / columns), rows)];
  const across = ["left", "", "right"][third(cell % columns, columns)];
  if (down && across) return `${down} ${across}`;
  return across || { upper: "top", lower: "bottom", "": "middle" }[down] || "middle";
}
