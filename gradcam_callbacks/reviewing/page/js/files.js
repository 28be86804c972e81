// @ts-check
/* Files to take away: what they are called, what pictures are written on, and how a browser is given one. */

import { data, nameOf } from "./data.js";
import { contextOf, element } from "./dom.js";
import { state, stepNow } from "./state.js";

// In pixels of a picture that is saved: around and between pictures, and a line of text.
export const EDGE = 16;
export const LINE = 22;
const FONT = "14px system-ui, sans-serif";

/** A name that every file system takes: letters and digits of all scripts. @param {string[]} parts */
export function fileName(...parts) {
  const safe = parts.join("-").normalize("NFKC");
  return safe.replace(/[^\p{L}\p{N}.-]+/gu, "_").replace(/^\.+/, "").slice(0, 120);
}

/** A name that says which probe and target are open. @param {string[]} what */
export function nameOfLarge(...what) {
  const { large } = state;
  return large ? fileName(data.names[large.n], data.targets[large.k], ...what) : fileName(...what);
}

/** A name that says what is open, and at which step. @param {string} what */
export const nameOfFile = (what) => nameOfLarge(nameOf(stepNow()), what);

/** @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const href = URL.createObjectURL(blob);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** A white sheet with a title. @param {number} width @param {number} height @param {string} title */
export function sheetWith(width, height, title) {
  const canvas = element("canvas", { width, height });
  const context = contextOf(canvas);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#1d1c1a";
  context.font = `600 ${FONT}`;
  context.fillText(title, EDGE, EDGE + 12, width - 2 * EDGE);
  context.font = FONT;
  return { canvas, context };
}
