// @ts-check
/* Rows of numbers and names as CSV, as RFC 4180 describes it. */

/** @typedef {string | number | null} Value */

/** @param {Value} value */
function cellOf(value) {
  if (value === null || (typeof value === "number" && !Number.isFinite(value))) return "";
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * A file of rows; what is not known is empty.
 * @param {Value[][]} rows the first one has the names of the columns
 */
export const csvOf = (rows) => rows.map((row) => `${row.map(cellOf).join(",")}\r\n`).join("");
