// @ts-check
/* From a map's cells to the colours of pixels. */

/**
 * Between which two cells each pixel's centre lies, and how far from the first to the second.
 * @typedef {object} Axis
 * @property {number} cells
 * @property {Int32Array} low
 * @property {Int32Array} high
 * @property {Float32Array} share
 */

/**
 * Cells and pixels tile the same side, so their centres are half a cell or pixel from its end, as in tf.image.resize.
 * @param {number} cells
 * @param {number} pixels
 * @returns {Axis}
 */
export function axisOf(cells, pixels) {
  const low = new Int32Array(pixels);
  const high = new Int32Array(pixels);
  const share = new Float32Array(pixels);
  for (let at = 0; at < pixels; at++) {
    const between = betweenCells(cells, (at + 0.5) / pixels);
    low[at] = between.low;
    high[at] = between.high;
    share[at] = between.share;
  }
  return { cells, low, high, share };
}

/**
 * Draws a map into pixels: its values are interpolated between the cells, then coloured.
 * @param {Uint8Array} map rows x columns
 * @param {Axis} down
 * @param {Axis} across
 * @param {number} factor of all values, in [0, 1]
 * @param {Uint32Array} paints 256 colours
 * @param {Uint32Array} pixels to be filled, row by row
 */
export function fillPixels(map, down, across, factor, paints, pixels) {
  const columns = across.cells;
  const row = new Float32Array(columns);
  let pixel = 0;
  for (let y = 0; y < down.low.length; y++) {
    const above = down.low[y] * columns;
    const below = down.high[y] * columns;
    const part = down.share[y];
    for (let x = 0; x < columns; x++) row[x] = (map[above + x] * (1 - part) + map[below + x] * part) * factor;
    for (let x = 0; x < across.low.length; x++) {
      const left = row[across.low[x]];
      pixels[pixel++] = paints[(left + (row[across.high[x]] - left) * across.share[x] + 0.5) | 0];
    }
  }
}

/**
 * The value of a map at a place, as it is drawn there.
 * @param {Uint8Array} map rows x columns
 * @param {[number, number]} grid rows and columns
 * @param {number} x in shares of the width
 * @param {number} y in shares of the height
 */
export function valueOn(map, [rows, columns], x, y) {
  const [across, down] = [betweenCells(columns, x), betweenCells(rows, y)];
  const rowAt = (/** @type {number} */ row) => {
    const left = map[row * columns + across.low];
    return left + (map[row * columns + across.high] - left) * across.share;
  };
  const above = rowAt(down.low);
  return above + (rowAt(down.high) - above) * down.share;
}

/** @param {number} cells @param {number} where in shares of the side */
function betweenCells(cells, where) {
  const place = Math.min(cells - 1, Math.max(0, where * cells - 0.5));
  const low = Math.floor(place);
  return { low, high: Math.min(cells - 1, low + 1), share: place - low };
}
