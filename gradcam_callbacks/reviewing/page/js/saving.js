// @ts-check
/* What the page saves: what the large view shows as pictures, its curves, and the numbers. */

import { saveAnimation } from "./animating.js";
import { csvOf } from "./csv.js";
import { COUNT, HEIGHT, RUNS, WIDTH, data, nameOf, places, runs, shortOf, steps } from "./data.js";
import { buttonOf, byId, drawn, element } from "./dom.js";
import { EDGE, LINE, download, fileName, nameOfFile, sheetWith } from "./files.js";
import { paint } from "./heat.js";
import { numberRows } from "./numbers.js";
import { state, stepNow } from "./state.js";
import { partOf } from "./zoom.js";

// How wide the frames of a film are, in pixels of the file.
const FRAME = 160;
// A film has so many frames in a row.
const ROW = 12;
// What a curve is drawn with, which a file has to say by itself.
const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity"];

/** @param {HTMLCanvasElement} canvas @param {string} name */
const savePicture = (canvas, name) => canvas.toBlob((blob) => blob && download(blob, `${nameOfFile(name)}.png`));

/** The caption of a figure, with the two colours of a difference in words. @param {Element} figure */
function captionOf(figure) {
  const parts = [...(figure.querySelector("figcaption")?.childNodes ?? [])];
  const isWay = (/** @type {Node} */ node) => node instanceof Element && node.matches(".way");
  const words = parts.filter((node) => !isWay(node)).map((node) => node.textContent);
  return words.join("") + (parts.some(isWay) ? " (orange: came, blue: left)" : "");
}

/** Each picture of the large view with its caption, side by side; of enlarged ones the part that is shown. */
function savePanel() {
  const figures = [...byId("large-pictures").querySelectorAll("figure")].filter((figure) => figure.clientWidth > 0);
  const pictures = figures.map((figure) => ({
    canvas: /** @type {HTMLCanvasElement} */ (figure.querySelector("canvas")),
    text: captionOf(figure),
  }));
  const [wide, high] = [pictures[0].canvas.width, pictures[0].canvas.height];
  const width = EDGE + pictures.length * (wide + EDGE);
  const title = `${byId("large-title").textContent} · ${byId("large-line").textContent} · ${nameOf(stepNow())}`;
  const { canvas, context } = sheetWith(width, high + 2 * LINE + 2 * EDGE, title);
  const part = partOf(state.zoom);
  pictures.forEach(({ canvas: picture, text }, at) => {
    const left = EDGE + at * (wide + EDGE);
    const from = /** @type {const} */ ([part.left * wide, part.top * high, part.side * wide, part.side * high]);
    context.drawImage(picture, ...from, left, EDGE + LINE, wide, high);
    context.fillText(text, left, EDGE + LINE + high + 18, wide);
  });
  savePicture(canvas, "picture");
}

/** The map at every step, of each run. */
function saveFilm() {
  if (state.large === null) return;
  const { n, k } = state.large;
  const shown = runs.filter((run) => !state.away.has(run.number));
  const high = Math.max(1, Math.round((FRAME * HEIGHT) / WIDTH));
  const cell = [FRAME + 6, high + LINE];
  const across = Math.min(ROW, steps.length);
  const down = Math.ceil(steps.length / ROW) * shown.length;
  const title = `${data.names[n]} · target ${data.targets[k]} · ${shown.map((run) => run.name).join(", ")}`;
  const size = [2 * EDGE + across * cell[0], 2 * EDGE + LINE + down * cell[1]];
  const { canvas, context } = sheetWith(size[0], size[1], title);
  const frame = element("canvas");
  for (const [at, step] of steps.entries()) {
    shown.forEach((run, row) => {
      paint(frame, FRAME, high, run, places[run.number][at], n, k, { hasOutline: false });
      const left = EDGE + (at % ROW) * cell[0];
      const top = EDGE + LINE + (Math.floor(at / ROW) * shown.length + row) * cell[1];
      context.drawImage(frame, left, top);
      const text = shown.length > 1 ? `${shortOf(step)} · ${run.name}` : shortOf(step);
      context.fillText(text, left, top + high + 15, FRAME);
    });
  }
  savePicture(canvas, "film");
}

/** The curves of the large view, with what draws them written into each of their parts. */
function saveCurves() {
  const boxes = [...byId("large-charts").querySelectorAll(".plot-box")];
  const width = Math.max(...boxes.map((box) => box.clientWidth));
  const whole = drawn("svg", { xmlns: "http://www.w3.org/2000/svg", "font-family": "sans-serif", "font-size": 12 });
  let top = EDGE;
  for (const box of boxes) {
    const plot = /** @type {SVGSVGElement} */ (box.querySelector("svg"));
    const title = drawn("text", { x: EDGE, y: top + 14, "font-weight": 600, fill: "currentColor" });
    title.textContent = box.querySelector("h2 span")?.textContent ?? "";
    const copy = /** @type {SVGSVGElement} */ (plot.cloneNode(true));
    const parts = [...copy.querySelectorAll("*")];
    plot.querySelectorAll("*").forEach((part, at) => {
      const style = getComputedStyle(part);
      for (const name of STYLES) parts[at].setAttribute(name, style.getPropertyValue(name));
      if (style.display === "none") parts[at].setAttribute("display", "none");
    });
    copy.setAttribute("y", String(top + LINE));
    whole.append(title, copy);
    top += LINE + plot.clientHeight + EDGE;
  }
  if (RUNS > 1) {
    for (const run of runs.filter(({ number }) => !state.away.has(number))) {
      const fill = getComputedStyle(document.documentElement).getPropertyValue(`--run-${run.number % 6}`);
      const name = drawn("text", { x: EDGE, y: top, fill, "font-weight": 600 });
      name.textContent = run.name;
      whole.append(name);
      top += LINE;
    }
  }
  for (const [key, value] of Object.entries({ width, height: top, viewBox: `0 0 ${width} ${top}` })) {
    whole.setAttribute(key, String(value));
  }
  whole.setAttribute("color", getComputedStyle(document.body).color);
  const file = new Blob([new XMLSerializer().serializeToString(whole)], { type: "image/svg+xml" });
  download(file, `${nameOfFile("curves")}.svg`);
}

/** The numbers of all probes. */
function saveNumbers() {
  const file = new Blob(["\ufeff", csvOf(numberRows())], { type: "text/csv;charset=utf-8" });
  download(file, `${fileName(RUNS === 1 ? runs[0].name : `${RUNS} runs`, `${COUNT} probes`)}.csv`);
}

export function fillSaving() {
  const menus = /** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("details.save"));
  // A sandboxed frame may save nothing.
  for (const menu of menus) menu.hidden = window.self !== window.top;
  for (const [id, save] of /** @type {const} */ ([
    ["save-picture", savePanel],
    ["save-film", saveFilm],
    ["save-animation", saveAnimation],
    ["save-curves", saveCurves],
    ["save-numbers", saveNumbers],
  ])) {
    buttonOf(id).addEventListener("click", () => {
      save();
      for (const menu of menus) menu.open = false;
    });
  }
}
