// @ts-check
/* One probe, large. */

import { arranged } from "./arrangement.js";
import { describePanels, drawPanels, makePanels, shownPanels, tellPanels } from "./beside.js";
import { addPlot, dropPlots, heading, plots } from "./chart.js";
import { niceRange, shareRange } from "./curves.js";
import {
  HEIGHT,
  RUNS,
  TARGETS,
  WIDTH,
  className,
  data,
  explainedAt,
  healthAt,
  isFit,
  nameOf,
  places,
  predictionAt,
  runs,
  valueAt,
  whenOf,
} from "./data.js";
import { CAME, LEFT } from "./difference.js";
import { buttonOf, byId, chip, dense, element, joined, setText } from "./dom.js";
import { drawFilm, fillFilm } from "./film.js";
import { isNumber, number, percent, probability } from "./format.js";
import { cards } from "./grid.js";
import { paint } from "./heat.js";
import { isKnown } from "./overview.js";
import { viewsOf } from "./pin.js";
import { DRIFT_TOP } from "./spark.js";
import { state, stepNow } from "./state.js";
import { fillTable, tellTable } from "./table.js";
import { schedule } from "./time.js";
import { freeTip } from "./tip.js";
import { resetZoom } from "./zooming.js";

/** @import { Chart, Line, Run } from "./types.js" */
/** @typedef {ReturnType<typeof makeFigure>} Figure */
/** @typedef {ReturnType<typeof makeMini>} Mini */

const dialog = byId("large", HTMLDialogElement);
// In pixels: between pictures, below each, the least width of one before they scroll, below which width of all they
// stand one below the other, and what a window has beside one and the bars where the dialog scrolls as a whole.
const GAP = 10;
const CAPTION = 24;
const SMALLEST = 220;
const PHONE = 500;
const TIGHT = 24;
// How wide a picture is drawn at most, in its own pixels: as a whole, and enlarged.
const FINE = 900;
const FINEST = 1400;

/**
 * What the dialog was filled for, how its pictures were laid out, and what it was filled with.
 * @type {{ key: string, laid: string, figures: Figure[], minis: Mini[] }}
 */
const filled = { key: "", laid: "", figures: [], minis: [] };

/** @param {number} n @param {number} k */
export function openLarge(n, k) {
  if (state.large?.n !== n) resetZoom();
  state.large = { n, k };
  if (!dialog.open) {
    dialog.showModal();
    byId("close").focus();
  }
  fillLarge(n, k);
  schedule();
}

/** @param {number} by how many probes to go on */
export function turn(by) {
  const { large, order } = state;
  if (large === null || order.length < 2) return;
  const place = order.indexOf(large.n) + by;
  openLarge(order[(place + order.length) % order.length], large.k);
}

export const closeLarge = () => dialog.close();

/**
 * What is modal lies on one sheet of paper and is cut there; as a part of the page it goes on.
 * @param {boolean} isOnPaper
 */
export function layOnPaper(isOnPaper) {
  if (!dialog.open || dialog.matches(":modal") !== isOnPaper) return;
  const held = document.activeElement;
  dialog.close();
  if (isOnPaper) dialog.show();
  else dialog.showModal();
  if (held instanceof HTMLElement) held.focus({ preventScroll: true });
}

/** Fills the dialog anew, where other runs are to be shown. */
export function fillLargeAgain() {
  filled.key = "";
  if (state.large !== null) fillLarge(state.large.n, state.large.k);
}

export function fillDialog() {
  new ResizeObserver(layPictures).observe(byId("large-left"));
  window.addEventListener("resize", layPictures);
  byId("close").addEventListener("click", () => dialog.close());
  byId("before").addEventListener("click", () => turn(-1));
  byId("after").addEventListener("click", () => turn(1));
  dialog.addEventListener("close", () => {
    if (dialog.open) return; // laid on paper, or taken from there
    const shown = state.large;
    state.large = null;
    filled.key = "";
    freeTip();
    state.version++;
    schedule();
    if (shown === null) return;
    const { button } = cards[shown.n].groups[shown.k].cells[0];
    if (button.isConnected) button.focus();
  });
}

// ---- Made once for each probe and target ----

/** @param {number} n @param {number} k */
function fillLarge(n, k) {
  const key = `${n} ${k} ${state.pin !== null}`;
  if (filled.key === key) return;
  filled.key = key;
  byId("large-title").replaceChildren(element("bdi", { text: data.names[n] }));
  filled.figures = runs.map(makeFigure);
  const pictures = byId("large-pictures");
  pictures.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
  pictures.replaceChildren(...filled.figures.flatMap(({ nodes }) => nodes));
  filled.minis = data.targets.map((_, target) => makeMini(n, target, target === k));
  const targets = byId("large-targets");
  targets.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
  targets.replaceChildren(...filled.minis.map((mini) => mini.button));
  targets.hidden = TARGETS < 2;
  fillLargeCharts(n, k);
  fillTable(n);
  fillFilm(n, k);
  filled.laid = "";
  buttonOf("before").disabled = buttonOf("after").disabled = state.order.length < 2;
}

/** @param {Run} run */
function makeFigure(run) {
  const canvas = element("canvas", { role: "img", width: 1, height: 1 });
  const badge = element("span", { class: "badge", hidden: true });
  const note = element("span", { class: "note" });
  const nodes = [frameOf("shown", RUNS > 1 ? [chip(run), " "] : [], { canvas, badge, note })];
  const panels = state.pin === null ? null : makePanels();
  if (panels !== null) {
    nodes.push(frameOf("pinned", ["Pinned: "], panels.pinned));
    nodes.push(frameOf("difference", ["Difference: "], panels.difference, [way("came", CAME), way("left", LEFT)]));
  }
  for (const node of nodes) node.dataset.run = String(run.number);
  return { run, canvas, badge, note, panels, nodes };
}

/**
 * @param {string} name
 * @param {(Node | string)[]} title
 * @param {Record<"canvas" | "badge" | "note", HTMLElement>} parts
 * @param {Node[]} legend
 */
function frameOf(name, title, { canvas, badge, note }, legend = []) {
  const frame = element("div", { class: "frame" }, canvas, badge);
  return element("figure", { class: name }, frame, element("figcaption", {}, ...title, note, ...legend));
}

/** A colour of the difference and what it means. @param {string} text @param {number[]} colour */
function way(text, colour) {
  const node = element("span", { class: "way", text });
  node.style.setProperty("--way", `rgb(${colour.join(" ")})`);
  return node;
}

/** @param {number} n @param {number} k @param {boolean} isShown whether it is the target that is large */
function makeMini(n, k, isShown) {
  const canvases = runs.map((run) =>
    element("canvas", { role: "img", width: 1, height: 1, "data-run": run.number }),
  );
  const maps = element("span", { class: "mini-maps" }, ...canvases);
  const name = element("bdi", { text: data.targets[k] });
  const button = element("button", { type: "button", class: "mini", "aria-pressed": String(isShown) }, maps, name);
  button.addEventListener("click", () => {
    openLarge(n, k);
    filled.minis[k].button.focus();
  });
  return { k, canvases, button };
}

/** @param {number} n @param {number} k */
function fillLargeCharts(n, k) {
  const host = byId("large-charts");
  dropPlots(host);
  const charts = chartsOf(n, k);
  Object.assign(charts[charts.length - 1], { hasAxis: true, height: 92 });
  for (const chart of charts) addPlot(host, chart);
  for (const plot of plots) plot.draw();
}

/** @param {number} n @param {number} k @returns {Chart[]} */
function chartsOf(n, k) {
  const { drift, focus } = data.measures;
  /** @type {(valuesOf: (run: Run) => Float32Array | null | undefined, isWithOthers?: boolean) => Line[]} */
  const linesOf = (valuesOf, isWithOthers = false) => {
    const others = isWithOthers && RUNS === 1 ? [...data.targets.keys()].filter((target) => target !== k) : [];
    return [...others, k].flatMap((target) =>
      runs.map((run) => {
        const values = run.steps.map((_, s) => valueAt(valuesOf(run), s, n, target));
        return { run, isFaint: target !== k, steps: run.steps, values };
      }),
    );
  };
  const ofFocus = linesOf((run) => run.measures.focus).filter(({ run }) => run.measures.focus);
  const ofChance = linesOf((run) => run.probabilities, true).filter(({ run }) => run.probabilities);
  const ofScore = linesOf((run) => run.scores, true);
  const scores = ofScore.flatMap((line) => Array.from(line.values).filter(isNumber));
  const [low, high] = niceRange(Math.min(0, ...scores), Math.max(0, ...scores));
  const faint = TARGETS > 1 && RUNS === 1 ? "other targets faint" : "";
  const shares = { low: 0, high: 1 };
  const inside = ofFocus.flatMap((line) => Array.from(line.values).filter(isNumber));
  const [least, most] = shareRange(inside.length ? inside : [0]);
  const span = { low: least, high: most };
  /** @type {Chart[]} */
  const charts = [
    {
      title: heading(drift.title, drift.says),
      label: drift.title,
      series: linesOf((run) => run.measures.drift),
      bands: linesOf((run) => run.measures.floor).filter(isKnown),
      dots: runs.flatMap((run) => jumpsOf(run, n, k)),
      low: 0,
      high: DRIFT_TOP,
      format: percent,
      height: 104,
    },
    { title: heading(focus.title, focus.says), label: focus.title, series: ofFocus, ...span, format: percent },
    { title: heading("Probability", faint), label: "Probability", series: ofChance, ...shares, format: probability },
    { title: heading("Score", runs[0].score), label: "Score", series: ofScore, low, high, format: number },
  ];
  /** @param {Line[]} series */
  const isOwnKnown = (series) => series.some((line) => !line.isFaint && isKnown(line));
  return charts.filter(({ label, series }) => [drift.title, "Score"].includes(label) || isOwnKnown(series));
}

/** @param {Run} run @param {number} n @param {number} k */
function jumpsOf(run, n, k) {
  return run.events
    .filter(
      (event) => event.kind === "moved" && event.probe === n && event.target === k && run.steps.includes(event.step),
    )
    .map(({ step, text, kind }) => {
      const value = valueAt(run.measures.drift, run.steps.indexOf(step), n, k);
      return { run, step, value, text, kind };
    });
}

// ---- At each step ----

export function drawLarge() {
  if (state.large === null) return;
  const { n, k } = state.large;
  fillLarge(n, k);
  layPictures();
  for (const figure of filled.figures) if (!state.away.has(figure.run.number)) drawFigure(figure, n, k);
  const [run, s] = [runs[0], places[0][state.at]];
  const explained = explainedAt(run, s, n, k);
  const ofClass =
    RUNS === 1 && explained >= 0 && className(explained) !== data.targets[k] ? ` (${className(explained)})` : "";
  const label = data.labels ? `label ${className(data.labels[n])}` : "";
  const says = RUNS === 1 ? predictionAt(run, s, n) : "";
  setText(byId("large-line"), joined([`target ${data.targets[k]}${ofClass}`, label, says], " · "));
  for (const mini of filled.minis) drawMini(mini, n);
  tellTable(n);
  drawFilm();
}

/** @param {number} width */
const heightOf = (width) => Math.max(1, Math.round((width * HEIGHT) / WIDTH));

/** Makes the pictures as large as the dialog has room for. */
function layPictures() {
  const host = byId("large-pictures");
  if (state.large === null || !host.clientWidth) return;
  for (const { run, nodes } of filled.figures) {
    const shown = shownPanels(run);
    if (nodes.length === 1) continue;
    nodes[1].hidden = !shown.pinned;
    nodes[2].hidden = !shown.difference;
  }
  const views = runs.map((run) => viewsOf(run)).filter((count) => count > 0);
  const count = views.reduce((sum, each) => sum + each, 0);
  const body = byId("large-left");
  // Below one tall picture the targets would take height from it; beside it there is room.
  const isUpright = (count * WIDTH) / HEIGHT < 1;
  if (body.classList.contains("upright") !== isUpright) body.classList.toggle("upright", isUpright);
  const others = isUpright || byId("large-targets").hidden ? 0 : byId("large-targets").offsetHeight + 8;
  // Where the dialog scrolls as a whole, the window is what a picture has to fit into.
  const isTight = getComputedStyle(body).overflowY === "visible";
  const bars = [".large > header", ".large-time"].map((part) => dialog.querySelector(part)?.clientHeight ?? 0);
  const room = isTight ? window.innerHeight - bars[0] - bars[1] - TIGHT : body.clientHeight - others - 2;
  const laid = [filled.key, host.clientWidth, room, views.join()].join(" ");
  if (filled.laid === laid) return;
  filled.laid = laid;
  const together = views.every((each) => each === views[0]) ? Number(views[0]) : 1;
  const box = { count, together, ratio: WIDTH / HEIGHT, width: host.clientWidth, height: room };
  const least = box.width < PHONE ? box.width : SMALLEST;
  const { columns, size } = arranged({ ...box, gap: GAP, caption: CAPTION, least });
  host.style.setProperty("--views", String(together > 1 ? together : count));
  host.style.setProperty("--across", String(columns));
  host.style.setProperty("--wide", `${size}px`);
  schedule();
}

/** @param {Figure} figure @param {number} n @param {number} k */
function drawFigure({ run, canvas, badge, note, panels }, n, k) {
  const s = places[run.number][state.at];
  const isOwn = s >= 0 && run.steps[s] === stepNow();
  const most = state.zoom.scale > 1 ? FINEST : FINE;
  const width = Math.max(16, Math.min(most, Math.round(dense(canvas.clientWidth * state.zoom.scale))));
  const size = { width, height: heightOf(width), finest: 224 };
  paint(canvas, width, size.height, run, s, n, k, size);
  if (panels) {
    drawPanels(panels, size, run, s, n, k);
    tellPanels(panels, run, s, n, k);
  }
  canvas.classList.toggle("stale", !isOwn);
  const health = s < 0 ? "not recorded yet" : healthAt(run, s, n, k);
  badge.hidden = isFit(health);
  setText(badge, health);
  const says = predictionAt(run, s, n);
  const when = isOwn ? (state.pin === null ? "" : nameOf(stepNow())) : s < 0 ? "" : `shown as ${whenOf(run.steps[s])}`;
  setText(note, joined([when, RUNS > 1 ? says : ""]));
  if (state.isPlaying) return;
  const who = [data.names[n], `target ${data.targets[k]}`, RUNS > 1 ? run.name : "", nameOf(stepNow())];
  canvas.setAttribute("aria-label", joined([...who, says, isFit(health) ? "" : `map ${health}`]));
  if (panels) describePanels(panels, run, s, n, k);
}

/** @param {Mini} mini @param {number} n */
function drawMini({ k, canvases }, n) {
  canvases.forEach((canvas, r) => {
    const width = Math.round(dense(Math.max(48, canvas.clientWidth)));
    paint(canvas, width, heightOf(width), runs[r], places[r][state.at], n, k, { finest: 72, hasOutline: false });
    if (!state.isPlaying) canvas.setAttribute("aria-label", RUNS > 1 ? runs[r].name : "map");
  });
}
