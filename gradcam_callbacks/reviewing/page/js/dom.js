// @ts-check
/* Elements. What comes from the user gets into them by textContent only. */

/** @import { Run } from "./types.js" */

/**
 * The template's element of that id.
 * @template {Element} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} [kind]
 * @returns {Kind}
 */
export function byId(id, kind) {
  const node = document.getElementById(id);
  if (!(node instanceof (kind ?? HTMLElement))) {
    throw new Error(`The template has no ${kind?.name ?? "element"} #${id}.`);
  }
  return /** @type {Kind} */ (/** @type {Element} */ (node));
}

/** @param {string} id */
export const inputOf = (id) => byId(id, HTMLInputElement);
/** @param {string} id */
export const buttonOf = (id) => byId(id, HTMLButtonElement);
/** @param {string} id */
export const selectOf = (id) => byId(id, HTMLSelectElement);

/** @param {HTMLCanvasElement} canvas @param {CanvasRenderingContext2DSettings} [settings] */
export function contextOf(canvas, settings) {
  const context = canvas.getContext("2d", settings);
  if (context === null) throw new Error("This browser draws no canvas.");
  return context;
}

/** @typedef {string | number | boolean | null | undefined} Value */

/**
 * An element of HTML. `class` and `text` are its class and its text; what is false or null is left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Value>} attributes
 * @param {(Node | string | null)[]} children
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = String(value);
    else if (key === "text") node.textContent = String(value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/**
 * An element of SVG.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number>} attributes
 */
export function drawn(tag, attributes = {}) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  return node;
}

/** @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The name of a run beside its colour. @param {Run} run */
export function chip(run) {
  const mark = element("i", { "aria-hidden": "true" });
  const node = element("span", { class: "chip" }, mark, element("bdi", { text: run.name }));
  node.style.setProperty("--run", run.color);
  return node;
}

/** The words that are there, with commas between them. @param {string[]} parts */
export const joined = (parts, between = ", ") => parts.filter(Boolean).join(between);

/** How many of the canvas's pixels a length takes. @param {number} length */
export const dense = (length) => length * Math.min(2, window.devicePixelRatio || 1);
