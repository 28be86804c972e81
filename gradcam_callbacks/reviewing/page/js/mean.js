// @ts-check
/* The mean of several maps: where their attention lies together. */

import { sumOf } from "./difference.js";

/**
 * The mean of maps, each over its own sum, so that each counts as much; null where none holds any evidence.
 * @param {Uint8Array[]} maps of as many cells each
 * @returns {Uint8Array | null} 255 shares of its own maximum
 */
export function meanOf(maps) {
  const told = maps.map((map) => ({ map, sum: sumOf(map) })).filter(({ sum }) => sum > 0);
  if (told.length === 0) return null;
  const mean = new Float64Array(told[0].map.length);
  for (const { map, sum } of told) for (let cell = 0; cell < map.length; cell++) mean[cell] += map[cell] / sum;
  const highest = mean.reduce((high, value) => Math.max(high, value), 0);
  return Uint8Array.from(mean, (value) => Math.round((255 * value) / highest));
}

/** The mean of what is known; NaN where nothing is. @param {number[]} values */
export function meanKnown(values) {
  const known = values.filter(Number.isFinite);
  return known.length === 0 ? NaN : known.reduce((sum, value) => sum + value, 0) / known.length;
}
