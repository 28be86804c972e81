// @ts-check
/* One probe, large. */

import { addPlot, dropPlots, heading, plots } from "./chart.js";
import { niceRange } from "./curves.js";
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
} from "./data.js";
import { buttonOf, byId, chip, dense, element, joined, setText } from "./dom.js";
import { drawFilm, fillFilm } from "./film.js";
import { isNumber, number, percent, probability } from "./format.js";
import { cards } from "./grid.js";
import { paint } from "./heat.js";
import { isKnown } from "./overview.js";
import { DRIFT_TOP } from "./spark.js";
import { state, stepNow } from "./state.js";
import { fillTable, tellTable } from "./table.js";
import { schedule } from "./time.js";
import { freeTip } from "./tip.js";

/** @import { Chart, Line, Run } from "./types.js" */
/** @typedef {ReturnType<typeof makeFigure>} Figure */
/** @typedef {ReturnType<typeof makeMini>} Mini */

const dialog = byId("large", HTMLDialogElement);

/** What the dialog was filled for, and with. @type {{ key: string, figures: Figure[], minis: Mini[] }} */
const filled = { key: "", figures: [], minis: [] };

/** @param {number} n @param {number} k */
export function openLarge(n, k) {
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

export function fillDialog() {
  byId("close").addEventListener("click", () => dialog.close());
  byId("before").addEventListener("click", () => turn(-1));
  byId("after").addEventListener("click", () => turn(1));
  dialog.addEventListener("close", () => {
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
  const key = `${n} ${k}`;
  if (filled.key === key) return;
  filled.key = key;
  byId("large-title").replaceChildren(element("bdi", { text: data.names[n] }));
  filled.figures = runs.map(makeFigure);
  const pictures = byId("large-pictures");
  pictures.style.setProperty("--runs", String(Math.min(RUNS, 2)));
  pictures.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
  pictures.replaceChildren(...filled.figures.map((figure) => figure.node));
  filled.minis = data.targets.map((_, target) => makeMini(n, target, target === k));
  const targets = byId("large-targets");
  targets.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
  targets.replaceChildren(...filled.minis.map((mini) => mini.button));
  targets.hidden = TARGETS < 2;
  fillLargeCharts(n, k);
  fillTable(n);
  fillFilm(n, k);
  buttonOf("before").disabled = buttonOf("after").disabled = state.order.length < 2;
}

/** @param {Run} run */
function makeFigure(run) {
  const canvas = element("canvas", { role: "img", width: 1, height: 1 });
  const badge = element("span", { class: "badge", hidden: true });
  const note = element("span", { class: "note" });
  const caption = element("figcaption", {}, ...(RUNS > 1 ? [chip(run), " "] : []), note);
  const node = element("figure", {}, element("div", { class: "frame" }, canvas, badge), caption);
  return { run, canvas, badge, note, node };
}

/** @param {number} n @param {number} k @param {boolean} isShown whether it is the target that is large */
function makeMini(n, k, isShown) {
  const canvases = runs.map(() => element("canvas", { role: "img", width: 1, height: 1 }));
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
    { title: heading(focus.title, focus.says), label: focus.title, series: ofFocus, ...shares, format: percent },
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
      return { step, value, text, kind };
    });
}

// ---- At each step ----

export function drawLarge() {
  if (state.large === null) return;
  const { n, k } = state.large;
  for (const figure of filled.figures) drawFigure(figure, n, k);
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

/** @param {Figure} figure @param {number} n @param {number} k */
function drawFigure({ run, canvas, badge, note }, n, k) {
  const s = places[run.number][state.at];
  const isOwn = s >= 0 && run.steps[s] === stepNow();
  const width = Math.max(16, Math.min(900, Math.round(dense(canvas.clientWidth))));
  paint(canvas, width, heightOf(width), run, s, n, k, { finest: 224 });
  canvas.classList.toggle("stale", !isOwn);
  const health = s < 0 ? "not recorded yet" : healthAt(run, s, n, k);
  badge.hidden = isFit(health);
  setText(badge, health);
  const says = predictionAt(run, s, n);
  setText(note, joined([isOwn || s < 0 ? "" : `shown as at ${nameOf(run.steps[s])}`, RUNS > 1 ? says : ""]));
  if (state.isPlaying) return;
  const who = [data.names[n], `target ${data.targets[k]}`, RUNS > 1 ? run.name : "", nameOf(stepNow())];
  canvas.setAttribute("aria-label", joined([...who, says, isFit(health) ? "" : `map ${health}`]));
}

/** @param {Mini} mini @param {number} n */
function drawMini({ k, canvases }, n) {
  canvases.forEach((canvas, r) => {
    const width = Math.round(dense(Math.max(48, canvas.clientWidth)));
    paint(canvas, width, heightOf(width), runs[r], places[r][state.at], n, k, { finest: 72, hasOutline: false });
    if (!state.isPlaying) canvas.setAttribute("aria-label", RUNS > 1 ? runs[r].name : "map");
  });
}
