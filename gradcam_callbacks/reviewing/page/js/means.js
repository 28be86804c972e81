// @ts-check
/* The cards of groups: the mean map of a group's probes for each target and run, with their mean drift and focus. */

import { shownPanels } from "./beside.js";
import { RUNS, badnessAt, data, mapOf, nameOf, places, runs, shareOf, titleOf, valueAt } from "./data.js";
import { differenceOf } from "./difference.js";
import { chip, element, joined, setText } from "./dom.js";
import { isNumber, percent, plural } from "./format.js";
import { makeReading, tellReading } from "./grid.js";
import { paintAlone } from "./heat.js";
import { meanKnown, meanOf } from "./mean.js";
import { nameOfPinned, pinnedOf, viewsOf } from "./pin.js";
import { makeSpark } from "./spark.js";
import { state, stepNow } from "./state.js";
import { schedule } from "./time.js";

/** @import { Run } from "./types.js" */
/** @import { ProbeGroup } from "./grouping.js" */
/** @typedef {ReturnType<typeof makeMeanCard>} MeanCard */
/** @typedef {ReturnType<typeof makeTarget>} MeanTarget */
/** @typedef {ReturnType<typeof makeMeanCell>} MeanCell */

/** The cards that are shown, by their groups. @type {Map<string, MeanCard>} */
const meanCards = new Map();

/** @type {Set<MeanCard>} */
const meansInSight = new Set();

const meansObserver = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const card = [...meanCards.values()].find(({ node }) => node === target);
      if (card && isIntersecting) meansInSight.add(card);
      else if (card) meansInSight.delete(card);
    }
    schedule();
  },
  { rootMargin: "240px 0px" },
);

/**
 * The cards of groups, in their order; what has not changed keeps its card.
 * @param {ProbeGroup[]} groups
 * @param {(key: string) => void} stack is told of the group that is to be stacked, or opened
 */
export function meanCardsOf(groups, stack) {
  const before = new Map(meanCards);
  meanCards.clear();
  for (const group of groups) {
    const key = `${state.grouping} ${group.key} ${group.members.join()}`;
    const card = before.get(key) ?? makeMeanCard(group, stack);
    if (!before.delete(key)) meansObserver.observe(card.node);
    meanCards.set(key, card);
  }
  for (const card of before.values()) {
    meansObserver.unobserve(card.node);
    meansInSight.delete(card);
  }
  return [...meanCards.values()];
}

// ---- Numbers ----

/**
 * The mean map of some probes; maps that are not fit to be read do not count.
 * @param {Run} run
 * @param {number} s
 * @param {number[]} members
 * @param {number} k
 */
function meanAt(run, s, members, k) {
  if (s < 0) return null;
  const fit = members.filter((n) => badnessAt(run, s, n, k) === 0);
  return meanOf(fit.map((n) => mapOf(run, s, n, k).values));
}

/**
 * The mean of a measure over some probes.
 * @param {ArrayLike<number> | null | undefined} values
 * @param {number} s
 * @param {number[]} members
 * @param {number} k
 */
const meanValue = (values, s, members, k) => meanKnown(members.map((n) => valueAt(values, s, n, k)));

// ---- Made once for each group ----

/** @param {ProbeGroup} group @param {(key: string) => void} stack */
function makeMeanCard(group, stack) {
  const { key, name, members } = group;
  const id = `mean-${key}`;
  const button = element("button", { type: "button", class: "stack" });
  button.addEventListener("click", () => stack(key));
  const head = element(
    "header",
    {},
    element("h3", { id, dir: "auto", text: name, title: name }),
    element("p", { class: "label", text: `mean of ${plural(members.length, "probe")}` }),
    button,
  );
  const targets = data.targets.map((_, k) => makeTarget(group, k));
  const host = element("div", { class: "targets" }, ...targets.map((target) => target.node));
  const node = element("article", { class: "probe mean", "aria-labelledby": id }, head, host);
  const line = element(
    "header",
    { class: "group-line" },
    element("h2", {}, element("bdi", { text: name }), element("span", { text: plural(members.length, "probe") })),
  );
  return { group, node, line, button, targets };
}

/** @param {ProbeGroup} group @param {number} k */
function makeTarget({ name, members }, k) {
  const target = data.targets[k];
  const cells = runs.map((run) => makeMeanCell(run, `mean of ${name}, target ${target}`));
  const readings = runs.map(makeReading);
  const spark = makeSpark((run, name, s) => meanValue(run.measures[name], s, members, k), []);
  const node = element(
    "section",
    { class: "target", "aria-label": `Target ${target}` },
    element(
      "p",
      { class: "target-name", title: target },
      element("span", { class: "kind-of-target", dir: "auto", text: target }),
    ),
    element("div", { class: "maps" }, ...cells.map((cell) => cell.node)),
    element("div", { class: "readings-of-runs" }, ...readings.map((reading) => reading.line)),
    spark.node,
  );
  return { k, members, cells, readings, spark, node, /** What is drawn now. */ drawn: "" };
}

/** @param {Run} run @param {string} what it is the mean of, until more is said */
function makeMeanCell(run, what) {
  const panels = {
    shown: makePlate("shown", what),
    pinned: makePlate("pinned", what),
    difference: makePlate("difference", what),
  };
  const name = RUNS > 1 ? element("div", { class: "run-name" }, chip(run)) : null;
  const views = element("div", { class: "views" }, ...Object.values(panels).map(({ node }) => node));
  return { run, panels, node: element("div", { class: "run", "data-run": run.number }, name, views) };
}

/** @param {string} name @param {string} what */
function makePlate(name, what) {
  const canvas = element("canvas", { role: "img", "aria-label": `${what}, ${name}`, width: 1, height: 1 });
  const badge = element("span", { class: "badge", hidden: true, text: "empty" });
  const note = element("p", { class: "note" });
  const plate = element("div", { class: "cell plate" }, canvas, badge);
  return { canvas, badge, note, node: element("div", { class: `view ${name}` }, plate, note) };
}

// ---- At each step ----

/** Draws the cards of groups that are in sight. */
export function drawMeans(hasWords = true) {
  for (const card of meansInSight) for (const target of card.targets) drawTarget(card, target, hasWords);
}

/** Draws all cards of groups, and says for those who do not see them what is on each. */
export function describeMeans() {
  for (const card of meanCards.values()) {
    for (const target of card.targets) {
      drawTarget(card, target, true);
      for (const cell of target.cells) describeCell(card, target, cell);
    }
  }
}

/** @param {MeanCard} card @param {MeanTarget} target @param {boolean} hasWords */
function drawTarget(card, target, hasWords) {
  const { k, cells, readings, spark } = target;
  const { members } = card.group;
  const key = `${state.at} ${state.version} ${hasWords}`;
  if (target.drawn === key || !state.cell.width) return;
  target.drawn = key;
  spark.cursor.style.transform = `translateX(${(100 * shareOf(stepNow())).toFixed(2)}%)`;
  cells.forEach((cell, r) => {
    const { run } = cell;
    if (state.away.has(run.number)) return;
    const s = places[run.number][state.at];
    drawCell(cell, s, members, k);
    if (hasWords) tellReading(readings[r], run, (values) => meanValue(values, s, members, k));
  });
}

/** @param {MeanCell} cell @param {number} s @param {number[]} members @param {number} k */
function drawCell({ run, panels, node }, s, members, k) {
  const { width, height } = state.cell;
  const pinned = pinnedOf(run);
  const isBeside = shownPanels(run);
  const views = String(viewsOf(run));
  if (node.style.getPropertyValue("--views") !== views) node.style.setProperty("--views", views);
  for (const name of /** @type {const} */ (["pinned", "difference"])) panels[name].node.hidden = !isBeside[name];
  const now = meanAt(run, s, members, k);
  paintAlone(panels.shown.canvas, width, height, run.grid, now);
  panels.shown.badge.hidden = now !== null;
  setText(panels.shown.note, s < 0 ? "not recorded yet" : pinned === null ? "" : nameOf(run.steps[s]));
  if (pinned === null) return;
  const { other } = pinned;
  const then = meanAt(other, pinned.s, members, k);
  paintAlone(panels.pinned.canvas, width, height, other.grid, then);
  panels.pinned.badge.hidden = then !== null;
  setText(panels.pinned.note, nameOfPinned(run, pinned));
  const isComparable = run.shape.join() === other.shape.join() && then !== null && now !== null;
  const difference = isComparable ? differenceOf(then, now) : null;
  paintAlone(panels.difference.canvas, width, height, run.grid, difference?.values ?? null, true);
  const why = then === null || now === null ? "map empty" : "grids differ";
  setText(panels.difference.note, difference === null ? why : `${percent(difference.moved)} moved`);
}

/** @param {MeanCard} card @param {MeanTarget} target @param {MeanCell} cell */
function describeCell({ group }, { k }, { run, panels }) {
  const s = places[run.number][state.at];
  const { name, members } = group;
  const whose = [`mean of ${plural(members.length, "probe")}`, name, RUNS > 1 ? `run ${run.name}` : ""];
  const what = [...whose, `target ${data.targets[k]}`];
  const told = ["drift", "focus"].map((measure) => {
    const value = meanValue(run.measures[measure], s, members, k);
    return isNumber(value) ? `${titleOf(measure)} ${percent(value)}` : "";
  });
  panels.shown.canvas.setAttribute("aria-label", joined([...what, nameOf(stepNow()), ...told]));
  const pinned = pinnedOf(run);
  if (pinned === null) return;
  const then = nameOfPinned(run, pinned);
  const moved = panels.difference.note.textContent ?? "";
  panels.pinned.canvas.setAttribute("aria-label", joined([...what, `pinned: ${then}`]));
  panels.difference.canvas.setAttribute("aria-label", joined([...what, `difference from ${then}`, moved]));
}
