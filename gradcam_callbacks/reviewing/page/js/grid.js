// @ts-check
/* The grid of probes: a card each, in it a group a target, in that a cell a run. */

import {
  COUNT,
  HEIGHT,
  RUNS,
  TARGETS,
  WIDTH,
  badnessAt,
  className,
  data,
  explainedAt,
  healthAt,
  isAbout,
  isFit,
  isRestless,
  isWarning,
  nameOf,
  places,
  predictedAt,
  predictionAt,
  runs,
  titleOf,
  shareOf,
  valueAt,
  whenOf,
} from "./data.js";
import { describePanels, drawPanels, makePanels, shownPanels, tellPanels } from "./beside.js";
import { byId, chip, dense, element, joined, setText } from "./dom.js";
import { isNumber, number, percent, probability } from "./format.js";
import { forgetPrints, paint, photographs } from "./heat.js";
import { viewsOf } from "./pin.js";
import { makeSpark, marksOf } from "./spark.js";
import { state, stepNow } from "./state.js";
import { schedule } from "./time.js";

/** @import { Run } from "./types.js" */
/** @import { Panels } from "./beside.js" */
/** @typedef {{ panels: Panels, nodes: Record<keyof Panels, HTMLElement> }} Beside */
/** @typedef {ReturnType<typeof makeCell>} Cell */
/** @typedef {ReturnType<typeof makeGroup>} Group */
/** @typedef {ReturnType<typeof makeCard>} Card */

// Below this width of a cell, in pixels, only pictures are left: a contact sheet.
const CONTACT = 96;

/** @type {Card[]} */
export const cards = [];
/** @type {Group[]} */
export const groups = [];
/** Those in sight, or nearly. @type {Set<Group>} */
export const visible = new Set();
/** @type {WeakMap<Element, Group>} */
const byNode = new WeakMap();

/** The group that an element belongs to. @param {Element} node */
export function groupAt(node) {
  const group = byNode.get(node.closest(".target") ?? node);
  if (group === undefined) throw new Error("This element is in no group.");
  return group;
}

// ---- Made once ----

/** @param {(n: number, k: number) => void} open shows a probe large */
export function fillGrid(open) {
  const grid = byId("probes");
  grid.style.setProperty("--runs", String(RUNS));
  grid.style.setProperty("--targets", String(TARGETS));
  grid.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
  grid.classList.toggle("crowd", data.crowded);
  grid.classList.toggle("wide-pictures", WIDTH > 1.6 * HEIGHT);
  for (let n = 0; n < COUNT; n++) cards.push(makeCard(n, open));
  grid.append(...cards.map((card) => card.node));
}

/** @param {number} n @param {(n: number, k: number) => void} open */
function makeCard(n, open) {
  const says = element("p", { class: "says" });
  const label = data.labels ? className(data.labels[n]) : "";
  const flags = runs.flatMap((run) => run.events).filter((event) => isWarning(event) && isAbout(event, n));
  const isFlagged = flags.length > 0;
  // Where a warning is about all, a mark on each would tell nothing apart.
  const isMarked = flags.some((event) => event.probes !== null);
  const head = element(
    "header",
    {},
    element("h3", { id: `probe-${n}`, dir: "auto", text: data.names[n], title: data.names[n] }),
    isMarked ? element("span", { class: "flagged", text: "flagged" }) : null,
    label ? element("p", { class: "label" }, "label ", element("bdi", { text: label })) : null,
    RUNS === 1 ? says : null,
  );
  const own = data.targets.map((_, k) => makeGroup(n, k, open));
  const targets = element("div", { class: "targets" }, ...own.map((group) => group.node));
  const node = element("article", { class: "probe", "aria-labelledby": `probe-${n}` }, head, targets);
  for (const group of own) byNode.set(group.node, group);
  groups.push(...own);
  return { n, node, says, label, groups: own, isFlagged, drift: mostDrift(n), /** What it says now. */ said: NaN };
}

/** The largest mean drift of a probe's maps; -1 where none is known. @param {number} n */
function mostDrift(n) {
  const means = runs.flatMap((run) =>
    data.targets.map((_, k) => {
      const known = run.steps.map((_, s) => valueAt(run.measures.drift, s, n, k)).filter(isNumber);
      return known.length ? known.reduce((a, b) => a + b) / known.length : -1;
    }),
  );
  return Math.max(...means);
}

/** @param {Run} run */
function makeCell(run) {
  const canvas = element("canvas", { role: "img", width: 1, height: 1 });
  const badge = element("span", { class: "badge", hidden: true });
  const button = element("button", { type: "button", class: "cell", "aria-haspopup": "dialog" }, canvas, badge);
  const note = element("p", { class: "note" });
  const name = RUNS > 1 ? element("div", { class: "run-name" }, chip(run)) : null;
  const views = element("div", { class: "views" }, element("div", { class: "view" }, button, note));
  const node = element("div", { class: "run", "data-run": run.number }, name, views);
  return { run, canvas, badge, button, note, node, views, beside: /** @type {Beside | null} */ (null) };
}

/** The numbers below a picture of a run. @param {Run} run */
export function makeReading(run) {
  const { title, says } = data.measures.focus;
  const chance = element("span", { class: "chance" });
  const inside = element("span", { class: "inside", title: `${title.toLowerCase()}: ${says}` });
  const moved = element("span", { class: "drifted" });
  const style = RUNS > 1 ? "reading of-many" : "reading";
  const line = element("p", { class: style, "data-run": run.number }, chance, inside, moved);
  line.style.setProperty("--run", run.color);
  line.title = `${run.probabilities ? "probability" : run.score}; ${titleOf("drift")}: ${data.measures.drift.says}`;
  return { chance, inside, moved, line };
}

/** @param {number} n @param {number} k @param {(n: number, k: number) => void} open */
function makeGroup(n, k, open) {
  const target = data.targets[k];
  const cells = runs.map(makeCell);
  const readings = runs.map(makeReading);
  const ofClass = element("span", { class: "class-of-target", dir: "auto" });
  const spark = makeSpark((run, name, s) => valueAt(run.measures[name], s, n, k), marksOf(n, k));
  const node = element(
    "section",
    { class: "target", "aria-label": `Target ${target}` },
    element(
      "p",
      { class: "target-name", title: target },
      element("span", { class: "kind-of-target", dir: "auto", text: target }),
      ofClass,
    ),
    element("div", { class: "maps" }, ...cells.map((cell) => cell.node)),
    element("div", { class: "readings-of-runs" }, ...readings.map((reading) => reading.line)),
    spark.node,
  );
  for (const cell of cells) cell.button.addEventListener("click", () => open(n, k));
  return { n, k, node, cells, ofClass, readings, spark, /** What is drawn now. */ drawn: "" };
}

// ---- At each step ----

/** Canvases and words of a group; `hasWords` is whether also the words. @param {Group} group */
export function drawGroup(group, hasWords = true) {
  const { n, k } = group;
  const { width, height } = state.cell;
  const key = `${state.at} ${state.version} ${photographs[n].complete}`;
  if (group.drawn === key || !width) return;
  group.drawn = key;
  group.cells.forEach((cell, r) => {
    if (state.away.has(r)) return;
    const s = places[r][state.at];
    paint(cell.canvas, width, height, cell.run, s, n, k);
    const isNew = showBeside(cell);
    if (!cell.beside) return;
    drawPanels(cell.beside.panels, state.cell, cell.run, s, n, k);
    if (isNew) describePanels(cell.beside.panels, cell.run, s, n, k);
  });
  updateGroup(group, hasWords);
}

/**
 * Makes what stands beside a picture once something is pinned, and shows what is wanted of it.
 * @param {Cell} cell
 * @returns {boolean} whether it was made now
 */
function showBeside(cell) {
  const shown = shownPanels(cell.run);
  const views = String(viewsOf(cell.run));
  if (cell.node.style.getPropertyValue("--views") !== views) cell.node.style.setProperty("--views", views);
  const isNew = cell.beside === null && (shown.pinned || shown.difference);
  if (isNew) cell.beside = makeBeside(cell);
  if (cell.beside === null) return false;
  const { nodes } = cell.beside;
  for (const name of /** @type {const} */ (["pinned", "difference"])) {
    if (nodes[name].hidden === shown[name]) nodes[name].hidden = !shown[name];
  }
  return isNew;
}

/** @param {Cell} cell */
function makeBeside(cell) {
  const panels = makePanels();
  const nodeOf = (/** @type {keyof Panels} */ name) => {
    const { canvas, badge, note } = panels[name];
    // Like the picture itself, for a pointer; by keys that one is enough.
    const button = element("button", { type: "button", class: "cell", tabindex: "-1" }, canvas, badge);
    button.addEventListener("click", () => cell.button.click());
    return element("div", { class: `view ${name}` }, button, note);
  };
  const nodes = { pinned: nodeOf("pinned"), difference: nodeOf("difference") };
  cell.views.append(nodes.pinned, nodes.difference);
  return { panels, nodes };
}

/** @param {Group} group */
export function updateGroup(group, hasWords = true) {
  const { n, k } = group;
  group.spark.cursor.style.transform = `translateX(${(100 * shareOf(stepNow())).toFixed(2)}%)`;
  group.cells.forEach((cell, r) => {
    const { run } = cell;
    const s = places[r][state.at];
    const isOwn = s >= 0 && run.steps[s] === stepNow();
    const health = healthAt(run, s, n, k);
    cell.button.classList.toggle("stale", !isOwn);
    if (cell.badge.hidden !== isFit(health)) cell.badge.hidden = isFit(health);
    if (!isFit(health)) setText(cell.badge, health);
    if (!hasWords) return;
    setText(cell.note, noteOf(run, s, n, isOwn));
    if (cell.beside) tellPanels(cell.beside.panels, run, s, n, k);
    tellReading(group.readings[r], run, (values) => valueAt(values, s, n, k));
  });
  if (hasWords) setText(group.ofClass, followed(n, k));
}

/**
 * Writes the numbers below a picture.
 * @param {ReturnType<typeof makeReading>} reading
 * @param {Run} run
 * @param {(values: Float32Array | null | undefined) => number} valueOf one of a run's arrays
 */
export function tellReading(reading, run, valueOf) {
  const chance = valueOf(run.probabilities);
  const [drift, floor, focus] = ["drift", "floor", "focus"].map((name) => valueOf(run.measures[name]));
  setText(reading.chance, isNumber(chance) ? probability(chance) : number(valueOf(run.scores)));
  setText(reading.inside, isNumber(focus) ? percent(focus) : "");
  setText(reading.moved, isNumber(drift) ? percent(drift) : "");
  reading.moved.classList.toggle("beyond", isRestless(drift, floor));
}

/** The classes that are explained now, where the target's name does not say it. @param {number} n @param {number} k */
function followed(n, k) {
  const target = data.targets[k];
  if (!["predicted", "label"].includes(target) && !target.startsWith("target_")) return "";
  const names = new Set(runs.map((run, r) => className(explainedAt(run, places[r][state.at], n, k))));
  return joined(
    [...names].filter((name) => name !== target),
    " / ",
  );
}

/**
 * @param {Run} run
 * @param {number} s
 * @param {number} n
 * @param {boolean} isOwn whether it was recorded at the step shown
 */
function noteOf(run, s, n, isOwn) {
  if (s < 0) return "not recorded yet";
  return joined([isOwn && state.pin === null ? "" : nameOf(run.steps[s]), RUNS > 1 ? predictionAt(run, s, n) : ""]);
}

/**
 * The words for those who do not see it: not in every frame of a play, but also of cells out of sight.
 * @param {Group} group
 */
export function describeGroup(group) {
  const { n, k } = group;
  group.cells.forEach(({ run, canvas, beside }, r) => {
    const s = places[r][state.at];
    const where = [data.names[n], RUNS > 1 ? `run ${run.name}` : "", `target ${data.targets[k]}`, nameOf(stepNow())];
    const what = s < 0 ? ["not recorded yet"] : describedAt(run, s, n, k);
    canvas.setAttribute("aria-label", joined([...where, ...what]));
    if (beside) describePanels(beside.panels, run, s, n, k);
  });
}

/** @param {Run} run @param {number} s not -1 @param {number} n @param {number} k */
function describedAt(run, s, n, k) {
  const chance = valueAt(run.probabilities, s, n, k);
  const shares = ["drift", "focus"].map((name) => ({ name, value: valueAt(run.measures[name], s, n, k) }));
  return [
    run.steps[s] === stepNow() ? "" : `shown as ${whenOf(run.steps[s])}`,
    predictionAt(run, s, n),
    isNumber(chance) ? `probability ${probability(chance)}` : `score ${number(valueAt(run.scores, s, n, k))}`,
    ...shares.map(({ name, value }) => (isNumber(value) ? `${titleOf(name)} ${percent(value)}` : "")),
    `map ${healthAt(run, s, n, k)}`,
  ];
}

/** What the model says of a probe, where there is one run. @param {Card} card */
export function updateCard(card) {
  if (RUNS > 1) return;
  const predicted = predictedAt(runs[0], places[0][state.at], card.n);
  if (card.said === predicted) return;
  card.said = predicted;
  card.says.replaceChildren(...(predicted < 0 ? [] : ["predicts ", element("bdi", { text: className(predicted) })]));
  card.says.classList.toggle("wrong", predicted >= 0 && data.labels !== null && data.labels[card.n] !== predicted);
}

/** Makes room for what stands beside each picture, and for the size that is chosen. */
export function layCells() {
  const grid = byId("probes");
  const views = runs.reduce((sum, run) => sum + viewsOf(run), 0);
  grid.style.setProperty("--views", String(views));
  grid.classList.toggle("compared", views > RUNS);
  if (state.size === null) grid.style.removeProperty("--cell");
  else grid.style.setProperty("--cell", `${state.size}px`);
  grid.classList.toggle("contact", state.size !== null && state.size < CONTACT);
  measureCells();
}

/** Takes the size of the canvases from the layout. */
export function measureCells() {
  const shown = [...byId("probes").querySelectorAll(".cell")].find((cell) => cell.clientWidth > 0);
  if (!shown) return;
  const width = Math.max(16, Math.min(360, Math.round(dense(shown.clientWidth))));
  if (width === state.cell.width) return;
  state.cell = { width, height: Math.max(1, Math.round((width * HEIGHT) / WIDTH)) };
  forgetPrints();
  state.version++;
  schedule();
}

/** The worst health that one of the card's maps has now; 0 is none. @param {Card} card */
export function worstHealth(card) {
  return Math.max(
    ...card.groups.flatMap(({ n, k }) => runs.map((run, r) => badnessAt(run, places[r][state.at], n, k))),
  );
}
