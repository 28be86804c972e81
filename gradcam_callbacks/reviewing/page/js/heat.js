// @ts-check
/* Pictures with their heat. */

import { data, mapOf } from "./data.js";
import { bytesOf } from "./decode.js";
import { differenceTable } from "./difference.js";
import { contextOf, element } from "./dom.js";
import { axisOf, fillPixels } from "./interpolation.js";
import { isHeatShown, state } from "./state.js";

/** @import { Axis } from "./interpolation.js" */
/** @import { Run } from "./types.js" */
/** @typedef {ReturnType<typeof makeSheet>} Sheet */

/** A picture's middle grey: below colour bars, and below heat that belongs to no picture. */
export const GROUND = "#8c8a86";

const tables = Object.fromEntries(Object.entries(data.colormaps).map(([name, text]) => [name, bytesOf(text)]));
const paints = new Uint32Array(256);
const differencePaints = new Uint32Array(differenceTable().buffer);

/** Takes the 256 colours of the colour map that is chosen, each with its cover. */
export const mix = () => new Uint8Array(paints.buffer).set(tables[state.colormap]);

/**
 * What a cache has for the key, or else what is made for it now.
 * @template Kept
 * @param {Map<string, Kept>} cache
 * @param {string} key
 * @param {() => Kept} make
 */
function kept(cache, key, make) {
  let found = cache.get(key);
  if (found === undefined) {
    found = make();
    cache.set(key, found);
  }
  return found;
}

/** @type {Map<string, Axis>} */
const axes = new Map();
/** @type {Map<string, Sheet>} */
const sheets = new Map();
/** @type {Map<string, HTMLCanvasElement>} */
const prints = new Map();

/** @param {number} cells @param {number} pixels */
const axisFor = (cells, pixels) => kept(axes, `${cells} ${pixels}`, () => axisOf(cells, pixels));

/** @param {number} width @param {number} height */
function makeSheet(width, height) {
  const canvas = element("canvas", { width, height });
  const context = contextOf(canvas, { willReadFrequently: true });
  const image = context.createImageData(width, height);
  return { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
}

/** @param {number} width @param {number} height */
const sheetOf = (width, height) => kept(sheets, `${width} ${height}`, () => makeSheet(width, height));

/**
 * The colours of values on a grid, at most as fine as asked; the canvas enlarges them the last two or three times.
 * @param {Uint8Array} values
 * @param {[number, number]} grid rows and columns
 * @param {number} factor of all values
 * @param {Uint32Array} colours 256
 * @param {{ width: number, height: number, finest: number }} size of the picture; the longest side of the colours
 */
function coloured(values, [rows, columns], factor, colours, { width, height, finest }) {
  const scale = Math.min(1, finest / Math.max(width, height));
  const wide = Math.max(1, Math.round(width * scale));
  const high = Math.max(1, Math.round(height * scale));
  const sheet = sheetOf(wide, high);
  fillPixels(values, axisFor(rows, high), axisFor(columns, wide), factor, colours, sheet.pixels);
  sheet.context.putImageData(sheet.image, 0, 0);
  return sheet.canvas;
}

/**
 * The heat of a map; null where there is none.
 * @param {Run} run
 * @param {number} s
 * @param {number} n
 * @param {number} k
 * @param {{ width: number, height: number, finest: number }} size see `coloured`
 */
function heatOf(run, s, n, k, size) {
  const { values, peak } = mapOf(run, s, n, k);
  if (!(peak > 0)) return null;
  return coloured(values, run.grid, state.scale === "shared" ? peak / run.highest : 1, paints, size);
}

/** A row of all colours: of heat as they are now, or of differences. */
export function colourRow(isOfDifference = false) {
  const sheet = sheetOf(256, 1);
  sheet.pixels.set(isOfDifference ? differencePaints : paints);
  sheet.context.putImageData(sheet.image, 0, 0);
  return sheet.canvas;
}

export const photographs = data.pictures.map((source) => {
  const image = new Image();
  image.src = source;
  return image;
});
/** The edges of the regions. */
export const outlines = data.regions.map((path) => (path === null ? null : new Path2D(path)));

/** Once the cells have another size, or the pictures other colours. */
export const forgetPrints = () => prints.clear();

/**
 * A picture at the size of its cells, so that a frame copies instead of scaling.
 * @param {number} n
 * @param {number} width
 * @param {number} height
 */
function printOf(n, width, height, isGrey = state.isGrey) {
  return kept(prints, `${n} ${width} ${height} ${isGrey}`, () => {
    const image = photographs[n];
    const canvas = element("canvas", { width, height });
    const context = contextOf(canvas);
    context.imageSmoothingEnabled = width < 3 * image.naturalWidth; // a tiny picture keeps its pixels
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    if (isGrey) {
      context.globalCompositeOperation = "saturation";
      context.fillStyle = "hsl(0 0% 50%)";
      context.fillRect(0, 0, width, height);
    }
    return canvas;
  });
}

/**
 * Draws a picture with its heat, and with the outline of its region.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {Run} run
 * @param {number} s
 * @param {number} n
 * @param {number} k
 * @param {{ finest?: number, hasOutline?: boolean }} [options] see `coloured`
 */
export function paint(canvas, width, height, run, s, n, k, { finest = 112, hasOutline = true } = {}) {
  const size = { width, height, finest };
  const isHot = s >= 0 && isHeatShown();
  layers(canvas, width, height, n, state.isGrey, hasOutline, () => (isHot ? heatOf(run, s, n, k, size) : null));
}

/** A difference covers more than heat does: there is no colour of the picture to be seen below it. */
export const differenceOpacity = () => Math.sqrt(state.opacity);

/**
 * Draws a picture in grey, so that all colour is the difference, and the difference on it.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {[number, number]} grid rows and columns
 * @param {Uint8Array | null} values see `Difference`; null where there are none
 * @param {number} n
 * @param {number} [finest] see `coloured`
 */
export function paintDifference(canvas, width, height, grid, values, n, finest = 112) {
  const size = { width, height, finest };
  const isShown = values !== null && isHeatShown();
  const coloursOf = () => (isShown ? coloured(values, grid, 1, differencePaints, size) : null);
  layers(canvas, width, height, n, true, true, coloursOf, differenceOpacity());
}

/**
 * Draws heat, or a difference, that belongs to no picture, on a grey ground.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {[number, number]} grid rows and columns
 * @param {Uint8Array | null} values null where there are none
 * @param {boolean} [isOfDifference]
 */
export function paintAlone(canvas, width, height, grid, values, isOfDifference = false) {
  const context = sized(canvas, width, height);
  context.globalAlpha = 1;
  context.fillStyle = GROUND;
  context.fillRect(0, 0, width, height);
  if (values === null || !isHeatShown()) return;
  const shades = isOfDifference ? differencePaints : paints;
  const colours = coloured(values, grid, 1, shades, { width, height, finest: 112 });
  lay(context, colours, width, height, isOfDifference ? differenceOpacity() : state.opacity);
}

/** A canvas of that size, to draw on. @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
function sized(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  return contextOf(canvas);
}

/**
 * Lays colours over what is drawn.
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLCanvasElement} colours
 * @param {number} width
 * @param {number} height
 * @param {number} opacity
 */
function lay(context, colours, width, height, opacity) {
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = true;
  context.drawImage(colours, 0, 0, width, height);
}

/**
 * Draws a picture, colours on it, and the outline of its region.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {number} n
 * @param {boolean} isGrey
 * @param {boolean} hasOutline
 * @param {() => HTMLCanvasElement | null} coloursOf
 * @param {number} [opacity] of the colours
 */
function layers(canvas, width, height, n, isGrey, hasOutline, coloursOf, opacity = state.opacity) {
  const context = sized(canvas, width, height);
  const image = photographs[n];
  if (!image.complete || !image.naturalWidth) return;
  context.globalAlpha = 1;
  context.drawImage(printOf(n, width, height, isGrey), 0, 0);
  const colours = coloursOf();
  if (colours !== null) lay(context, colours, width, height, opacity);
  const outline = outlines[n];
  if (hasOutline && outline !== null) strokeOutline(context, outline, width, height);
}

/**
 * Draws an edge, bright between dark ones, that is seen on any picture.
 * @param {CanvasRenderingContext2D} context
 * @param {Path2D} outline in thousandths of the picture's sides
 * @param {number} width of the picture
 * @param {number} height of the picture
 * @param {number} [pen] how thick it is
 * @param {string} [bright] its colour
 */
export function strokeOutline(
  context,
  outline,
  width,
  height,
  pen = Math.max(1, Math.min(2.4, Math.max(width, height) / 170)),
  bright = "#fff",
) {
  context.save();
  context.globalAlpha = 1;
  context.lineJoin = "round";
  const whole = new Path2D();
  whole.addPath(outline, { a: width / 1000, d: height / 1000 });
  for (const [color, thick] of /** @type {[string, number][]} */ ([
    ["rgba(0,0,0,.6)", 2.4],
    [bright, 1],
  ])) {
    context.strokeStyle = color;
    context.lineWidth = thick * pen;
    context.stroke(whole);
  }
  context.restore();
}
