// @ts-check
/* Which probes are shown, and in which order. */

import { COUNT, className, data, places, predictedAt, runs, valueAt } from "./data.js";
import { buttonOf, byId, element, inputOf, selectOf, setText } from "./dom.js";
import { isNumber, plural } from "./format.js";
import { cards, measureCells, worstHealth } from "./grid.js";
import { GROUPINGS, canGroup, groupsOf } from "./grouping.js";
import { meanCardsOf } from "./means.js";
import { comparison, pinnedOf } from "./pin.js";
import { state, stepNow } from "./state.js";
import { schedule } from "./time.js";

/** @import { Card } from "./grid.js" */
/** @import { ProbeGroup } from "./grouping.js" */

/** A measure of all maps of a card at the step shown, as far as it is known. @param {Card} card @param {string} name */
function valuesNow(card, name) {
  const values = card.groups.flatMap(({ n, k }) =>
    runs.map((run, r) => valueAt(run.measures[name], places[r][state.at], n, k)),
  );
  return values.filter(isNumber);
}

/** The shares that moved between what is pinned and the maps of a card, as far as they are known. @param {Card} card */
function movedSincePin(card) {
  return card.groups.flatMap(({ n, k }) =>
    runs.flatMap((run, r) => {
      const pinned = pinnedOf(run);
      if (pinned === null || state.away.has(run.number)) return [];
      return comparison(run, pinned, places[r][state.at], n, k).difference?.moved ?? [];
    }),
  );
}

/** The shares that differ between the maps of a card of two runs, as far as they are known. @param {Card} card */
function differsBetweenRuns(card) {
  const shown = runs.filter(({ number }) => !state.away.has(number));
  const pairs = shown.flatMap((run, at) => shown.slice(at + 1).map((other) => ({ run, other })));
  return card.groups.flatMap(({ n, k }) =>
    pairs.flatMap(({ run, other }) => {
      const [s, beside] = [run, other].map(({ number }) => places[number][state.at]);
      return comparison(run, { other, s: beside, step: stepNow() }, s, n, k).difference?.moved ?? [];
    }),
  );
}

/** What comes first has the least. @type {Record<string, (card: Card) => number>} */
const ORDERS = {
  given: () => 0,
  drift: (card) => -card.drift,
  now: (card) => -Math.max(-1, ...valuesNow(card, "drift")),
  focus: (card) => Math.min(2, ...valuesNow(card, "focus")),
  health: (card) => -worstHealth(card),
  pinned: (card) => -Math.max(-1, ...movedSincePin(card)),
  runs: (card) => -Math.max(-1, ...differsBetweenRuns(card)),
};

/** @param {string} text */
const folded = (text) => text.normalize("NFKC").toLowerCase();

/** @param {Card} card */
function matches(card) {
  const words = folded(inputOf("search").value.trim());
  const [kind, index] = selectOf("show").value.split(" ");
  const label = data.labels ? data.labels[card.n] : null;
  const classes = runs.map((run, r) => predictedAt(run, places[r][state.at], card.n)).filter((each) => each >= 0);
  if (kind === "flagged" && !card.isFlagged) return false;
  if (kind === "problem" && worstHealth(card) === 0) return false;
  if (kind === "ok" && worstHealth(card) !== 0) return false;
  if (kind === "wrong" && (label === null || classes.every((each) => each === label))) return false;
  if (kind === "class" && !classes.includes(Number(index)) && label !== Number(index)) return false;
  const told = [data.names[card.n], card.label, ...classes.map(className)];
  return words === "" || told.some((text) => folded(text).includes(words));
}

// In place of the keys of groups: all that there are at any step.
const ALL = "all";

/** What has been put into the grid, and the keys of its groups. */
const placed = { laid: "", keys: /** @type {string[]} */ ([]) };

/** The cards of groups, each with those of its probes where it is not stacked. @param {ProbeGroup[]} groups */
function nodesOf(groups) {
  placed.keys = groups.map((group) => group.key);
  return meanCardsOf(groups, turnStack).flatMap(({ group, node, line, button }) => {
    const isStacked = isStackedNow(group.key);
    button.setAttribute("aria-expanded", String(!isStacked));
    setText(button, isStacked ? "Unstack" : "Stack");
    return isStacked ? [node] : [line, node, ...group.members.map((n) => cards[n].node)];
  });
}

/** @param {string} key of a group */
const isStackedNow = (key) => state.stacked.has(ALL) || state.stacked.has(key);

/** Shows only the mean of a group, or its probes again. @param {string} key */
function turnStack(key) {
  const stacked = placed.keys.filter(isStackedNow);
  setStacked(isStackedNow(key) ? stacked.filter((each) => each !== key) : [...stacked, key]);
}

/** @param {string[]} keys of the groups of which only the mean is shown, or `ALL` */
export function setStacked(keys) {
  state.stacked = new Set(keys);
  arrange();
  showStacked();
}

/** Stacks all groups, or none where all are stacked. */
export function turnAllStacks() {
  if (state.grouping === "none") return;
  setStacked(areAllStacked() ? [] : [ALL]);
}

const areAllStacked = () => placed.keys.length > 0 && placed.keys.every(isStackedNow);

function showStacked() {
  buttonOf("stack").hidden = state.grouping === "none";
  buttonOf("stack").setAttribute("aria-pressed", String(areAllStacked()));
}

/** @param {string} grouping one of `GROUPINGS` */
export function setGrouping(grouping) {
  if (state.grouping !== grouping) state.stacked = new Set();
  state.grouping = grouping;
  selectOf("group").value = grouping;
  arrange();
  showStacked();
}

/** Goes on to the next way of grouping that there is. */
export function turnGrouping() {
  const all = Object.keys(GROUPINGS).filter(canGroup);
  setGrouping(all[(all.indexOf(state.grouping) + 1) % all.length]);
  setText(byId("live"), `${GROUPINGS[state.grouping]}, ${byId("count").textContent}`);
}

/** Shows the probes that match, in the order and the groups chosen. */
export function arrange() {
  const order = ORDERS[selectOf("sort").value];
  const shown = cards
    .filter(matches)
    .map((card) => ({ card, rank: order(card) }))
    .sort((a, b) => a.rank - b.rank || a.card.n - b.card.n)
    .map(({ card }) => card);
  const numbers = shown.map((card) => card.n);
  const groups = state.grouping === "none" ? [] : groupsOf(numbers);
  const all = plural(COUNT, "probe");
  const of = shown.length === COUNT ? all : `${shown.length} of ${all}`;
  setText(byId("count"), groups.length === 0 ? of : `${of}, ${plural(groups.length, "group")}`);
  byId("none").hidden = shown.length > 0;
  const laid = JSON.stringify([numbers, groups, [...state.stacked]]);
  if (laid === placed.laid) return;
  placed.laid = laid;
  const nodes = groups.length === 0 ? shown.map((card) => card.node) : nodesOf(groups);
  state.order = groups.length === 0 ? numbers : groups.flatMap((group) => group.members);
  const held = document.activeElement;
  byId("probes").replaceChildren(...nodes);
  if (held instanceof HTMLElement && held !== document.activeElement && held.isConnected) {
    held.focus({ preventScroll: true });
  }
  measureCells();
  schedule();
}

export function clearFilters() {
  inputOf("search").value = "";
  selectOf("show").value = "all";
  setStacked([]);
}

export function fillFilters() {
  const hasProblems = runs.some((run) => run.health.some((code) => code !== 0));
  fillChoices(hasProblems);
  disableOrder(
    "focus",
    runs.every((run) => !run.measures.focus),
  );
  disableOrder("health", !hasProblems);
  disableOrder("runs", runs.length === 1);
  const group = selectOf("group");
  const ways = Object.entries(GROUPINGS).filter(([value]) => canGroup(value));
  group.append(...ways.map(([value, text]) => element("option", { value, text })));
  group.hidden = ways.length === 1;
  group.addEventListener("change", () => setGrouping(group.value));
  buttonOf("stack").addEventListener("click", turnAllStacks);
  for (const id of ["sort", "show"]) selectOf(id).addEventListener("change", arrange);
  inputOf("search").addEventListener("input", arrange);
  byId("clear").addEventListener("click", () => {
    clearFilters();
    inputOf("search").focus();
  });
}

/** @param {boolean} hasProblems */
function fillChoices(hasProblems) {
  const seen = new Set(data.labels ?? []);
  for (const run of runs) for (const index of run.predicted) if (index >= 0) seen.add(index);
  const classes = [...seen]
    .map((index) => ({ text: className(index), value: `class ${index}` }))
    .sort((a, b) => a.text.localeCompare(b.text));
  const flagged = cards.filter((card) => card.isFlagged).length;
  const choices = [
    { value: "all", text: "all probes" },
    { value: "flagged", text: `flagged (${flagged})`, disabled: flagged === 0 },
  ];
  if (hasProblems) {
    choices.push({ value: "problem", text: "health: problems now" }, { value: "ok", text: "health: all ok now" });
  }
  if (data.labels && classes.length) choices.push({ value: "wrong", text: "wrong now" });
  const show = selectOf("show");
  show.append(...choices.map((choice) => element("option", choice)));
  if (classes.length < 2) return;
  const options = classes.map((choice) => element("option", choice));
  show.append(element("optgroup", { label: "labelled or predicted now" }, ...options));
}

/** @param {string} name @param {boolean} isDisabled */
function disableOrder(name, isDisabled) {
  const option = [...selectOf("sort").options].find(({ value }) => value === name);
  if (option) option.disabled = option.hidden = isDisabled;
}
