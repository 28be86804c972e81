// @ts-check
/* How pictures of one shape are laid out in a box. */

/**
 * The columns in which so many pictures are the largest, and how wide each is then. Where they would be too small if
 * all were in sight, they are as large as one row of them can be, and the box scrolls.
 * @param {object} box
 * @param {number} box.count of the pictures
 * @param {number} box.together so many belong side by side; rows hold whole such groups, or parts of equal length
 * @param {number} box.ratio width over height of a picture
 * @param {number} box.width in pixels
 * @param {number} box.height in pixels
 * @param {number} box.gap between pictures, in pixels
 * @param {number} box.caption below each of them, in pixels
 * @param {number} box.least the width below which they are too small, in pixels
 * @returns {{ columns: number, size: number }}
 */
export function arranged({ count, together, ratio, width, height, gap, caption, least }) {
  const all = Array.from({ length: count }, (_, at) => at + 1);
  const choices = all.filter((columns) => columns % together === 0 || together % columns === 0);
  /** @param {number} columns @param {number} rows in sight */
  const sizeOf = (columns, rows) => {
    const wide = (width - gap * (columns - 1)) / columns;
    const high = (height - gap * (rows - 1)) / rows - caption;
    return Math.max(1, Math.floor(Math.min(wide, high * ratio)));
  };
  /** @param {(columns: number) => number} rowsOf */
  const best = (rowsOf) =>
    choices
      .map((columns) => ({ columns, size: sizeOf(columns, rowsOf(columns)) }))
      .reduce((one, other) => (other.size > one.size ? other : one));
  const inSight = best((columns) => Math.ceil(count / columns));
  if (inSight.size >= least) return inSight;
  const wide = choices.filter((columns) => (width - gap * (columns - 1)) / columns >= least);
  const columns = wide[wide.length - 1] ?? 1;
  return { columns, size: sizeOf(columns, 1) };
}
