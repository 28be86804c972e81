// @ts-check
/* The picture of an area: a part of a probe with the area outlined, and all around it dimmed. */

import { WHOLE, partRatio, viewOf } from "./areas.js";
import { HEIGHT, WIDTH, data, explainedAt } from "./data.js";
import { contextOf, dense, element } from "./dom.js";
import { visit } from "./events.js";
import { outlines, photographs, strokeOutline } from "./heat.js";

/** @import { View } from "./areas.js" */
/** @import { AreaData, FindingData, Run, TestData } from "./types.js" */

/**
 * A finding, with the test and the run that it is from.
 * @typedef {object} Told
 * @property {Run} run
 * @property {TestData} test
 * @property {FindingData} finding
 */

const RATIO = WIDTH / HEIGHT;
/** How wide a part of a picture is shown at least, and at most half as wide again, in pixels. */
export const TILE = Math.round(100 * Math.sqrt(partRatio(RATIO)));
/** How wide the whole picture beside its name is, in pixels. */
export const THUMB = Math.round(30 * Math.sqrt(partRatio(RATIO)));
// How dark it is around an area, in a part and in the whole picture.
const DIM = 0.5;
const WHOLE_DIM = 0.62;
// The colours of its edge, on any picture: of what warns, and of what does not.
const WARNING_EDGE = "#ff9348";
const CALM_EDGE = "#fff";

/** A button that shows an area and leads to its probe. @param {Told} told @param {AreaData} area */
export function tileOf(told, { probe, path }) {
  const name = data.names[probe];
  const view = viewOf(path, RATIO);
  const canvas = element("canvas", { role: "img", "aria-label": `The area on ${name}`, width: 1, height: 1 });
  const hidden = { class: "thumb", "aria-hidden": "true", width: 1, height: 1 };
  const thumb = view === WHOLE ? null : element("canvas", hidden);
  const caption = element("span", { class: "tile-name" }, thumb, element("bdi", { text: name }));
  const button = element("button", { type: "button", class: "tile", title: name }, canvas, caption);
  button.addEventListener("click", () => visit({ step: told.test.step, probe, target: targetOf(told, probe) }));
  const edge = told.finding.outcome === "cleared" ? CALM_EDGE : WARNING_EDGE;
  const region = told.finding.kind === "outside" ? outlines[probe] : null;
  const drawing = { probe, edge, area: new Path2D(path), region };
  onceLoaded(photographs[probe], () => {
    draw(canvas, 1.5 * TILE, view, drawing);
    if (thumb) draw(thumb, THUMB, WHOLE, drawing);
  });
  return button;
}

/** The target whose map explains the answer; the first one if none does. @param {Told} told @param {number} probe */
function targetOf({ run, test, finding }, probe) {
  const s = run.steps.indexOf(test.step);
  const isOfAnswer = data.targets.map((_, k) => explainedAt(run, s, probe, k) === finding.answer);
  return Math.max(0, isOfAnswer.indexOf(true));
}

/** @param {HTMLImageElement} image @param {() => void} act */
function onceLoaded(image, act) {
  if (image.complete && image.naturalWidth) act();
  else image.addEventListener("load", act, { once: true });
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} across how wide it is shown, in pixels of the page
 * @param {View} view
 * @param {{ probe: number, edge: string, area: Path2D, region: Path2D | null }} drawing the colour of the area's edge,
 *     and shapes in thousandths of the picture's sides
 */
function draw(canvas, across, view, { probe, edge, area, region }) {
  const image = photographs[probe];
  const wide = Math.round(dense(across));
  const high = Math.max(1, Math.round((wide * view.height) / view.width / RATIO));
  Object.assign(canvas, { width: wide, height: high });
  // The picture as it would be as a whole, of which the canvas shows a part.
  const [width, height] = [wide / view.width, high / view.height];
  const context = contextOf(canvas);
  context.translate(-view.left * width, -view.top * height);
  context.imageSmoothingEnabled = Math.max(WIDTH, HEIGHT) > 64; // a tiny picture keeps its pixels
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  const around = new Path2D();
  around.rect(0, 0, width, height);
  around.addPath(area, { a: width / 1000, d: height / 1000 });
  context.fillStyle = `rgb(12 11 10 / ${view === WHOLE ? WHOLE_DIM : DIM})`;
  context.fill(around, "evenodd");
  if (region) strokeOutline(context, region, width, height, dense(0.8));
  strokeOutline(context, area, width, height, dense(1.4), edge);
}
