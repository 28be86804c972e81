// @ts-check
/* Numbers as people read them. */

/** @param {number | null | undefined} value @returns {value is number} */
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** @param {number} count @param {string} word in the singular */
export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : word === "batch" ? "es" : "s"}`;

/** @param {string} text */
export const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {number | null} share */
export function percent(share) {
  if (!isNumber(share)) return "–";
  const value = 100 * share;
  if (value === 0) return "0 %";
  return value < 1 ? "< 1 %" : `${Math.round(value)} %`;
}

/** @param {number | null} value */
export function probability(value) {
  if (!isNumber(value)) return "–";
  if (value > 0 && value < 0.005) return "< 0.01";
  return value < 1 && value > 0.995 ? "> 0.99" : value.toFixed(2);
}

/** @param {number | null} value */
export const correlation = (value) => (isNumber(value) ? value.toFixed(2).replace("-", "−") : "–");

/** @param {number | null} value */
export function number(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1).replace("-", "−");
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}

/** How a measure of that unit is written. @param {string} unit */
export const formatOf = (unit) => (unit === "share" ? percent : unit === "correlation" ? correlation : number);

/**
 * A number on an axis: without zeros that say nothing.
 * @param {(value: number) => string} format
 * @param {number} value
 */
export function tick(format, value) {
  return format(value)
    .replace(/^(−?\d+)\.0+$/, "$1")
    .replace(/(\.\d*?)0+$/, "$1");
}
