// @ts-check
/* From values to the paths of curves, and to the numbers of axes. */

/** @import { Point } from "./types.js" */

/**
 * The place of the last number that is not above the limit; -1 if there is none.
 * @param {number[]} numbers rising
 * @param {number} limit
 */
export function lastUpTo(numbers, limit) {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/**
 * The place of the number that is nearest; of two, the first.
 * @param {number[]} numbers at least one
 * @param {number} wanted
 */
export function nearest(numbers, wanted) {
  let best = 0;
  for (let at = 1; at < numbers.length; at++) {
    if (Math.abs(numbers[at] - wanted) < Math.abs(numbers[best] - wanted)) best = at;
  }
  return best;
}

/** A line with gaps where nothing is known; a point alone is a dot, by its round cap. @param {Point[]} points */
export function lineOf(points) {
  let path = "";
  let isOpen = false;
  points.forEach(([x, y], at) => {
    if (!Number.isFinite(y)) {
      isOpen = false;
      return;
    }
    path += `${isOpen ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
    const next = points[at + 1];
    if (!isOpen && (!next || !Number.isFinite(next[1]))) path += "h0";
    isOpen = true;
  });
  return path;
}

/**
 * The area between what is known and a base; nothing where nothing is known.
 * @param {Point[]} points
 * @param {number} base
 */
export function bandOf(points, base) {
  const known = points.filter(([, y]) => Number.isFinite(y));
  if (known.length === 0) return "";
  const edge = known.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");
  return `M${known[0][0].toFixed(2)} ${base}L${edge}L${known[known.length - 1][0].toFixed(2)} ${base}Z`;
}

/** The top of an axis of shares that holds the value. @param {number} value in [0, 1] */
export function niceCeiling(value) {
  const ladder = [0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1];
  return ladder.find((rung) => rung >= value - 1e-9) ?? 1;
}

/**
 * The axis of shares on which a change is seen: from none on, but where all are high, only what they span.
 * @param {number[]} shares at least one, in [0, 1]
 * @returns {[number, number]}
 */
export function shareRange(shares) {
  const [least, most] = [Math.min(...shares), Math.max(...shares)];
  if (least <= most / 2) return [0, niceCeiling(most)];
  const [low, high] = niceRange(least, Math.max(most, least + 0.02));
  return [Math.max(0, low), Math.min(1, high)];
}

/**
 * Round numbers at even distances within a range.
 * @param {number} low
 * @param {number} high
 * @param {number} most how many distances, or a few more
 */
export function ticksBetween(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const width = [1, 2, 5, 10].map((part) => part * power).find((part) => part >= rough) ?? power;
  const found = [];
  for (let at = Math.ceil(low / width - 1e-9); at * width <= high + width * 1e-6; at++) found.push(at * width);
  return found;
}

/**
 * A range with a round middle that holds the whole range.
 * @param {number} low
 * @param {number} high
 * @returns {[number, number]}
 */
export function niceRange(low, high) {
  if (!(high > low)) return [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const rough = (high - low) / 2;
  const power = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 1.5, 2, 3, 5, 10].map((part) => part * power).find((part) => part >= rough * 0.999) ?? rough;
  const bottom = Math.floor(low / width + 1e-6) * width;
  return [bottom, Math.max(bottom + width, Math.ceil(high / width - 1e-6) * width)];
}
