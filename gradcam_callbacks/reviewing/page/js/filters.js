// @ts-check
/* Which probes are shown, and in which order. */

import { COUNT, className, data, places, predictedAt, runs, valueAt } from "./data.js";
import { byId, element, inputOf, selectOf, setText } from "./dom.js";
import { isNumber, plural } from "./format.js";
import { cards, measureCells, worstHealth } from "./grid.js";
import { comparison, pinnedOf } from "./pin.js";
import { state } from "./state.js";
import { schedule } from "./time.js";

/** @import { Card } from "./grid.js" */

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

/** What comes first has the least. @type {Record<string, (card: Card) => number>} */
const ORDERS = {
  given: () => 0,
  drift: (card) => -card.drift,
  now: (card) => -Math.max(-1, ...valuesNow(card, "drift")),
  focus: (card) => Math.min(2, ...valuesNow(card, "focus")),
  health: (card) => -worstHealth(card),
  pinned: (card) => -Math.max(-1, ...movedSincePin(card)),
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

/** Shows the probes that match, in the order chosen. */
export function arrange() {
  const order = ORDERS[selectOf("sort").value];
  const shown = cards
    .filter(matches)
    .map((card) => ({ card, rank: order(card) }))
    .sort((a, b) => a.rank - b.rank || a.card.n - b.card.n)
    .map(({ card }) => card);
  const all = plural(COUNT, "probe");
  setText(byId("count"), shown.length === COUNT ? all : `${shown.length} of ${all}`);
  byId("none").hidden = shown.length > 0;
  const numbers = shown.map((card) => card.n);
  if (numbers.join() === state.order.join()) return;
  state.order = numbers;
  const held = document.activeElement;
  byId("probes").replaceChildren(...shown.map((card) => card.node));
  if (held instanceof HTMLElement && held !== document.activeElement && held.isConnected) {
    held.focus({ preventScroll: true });
  }
  measureCells();
  schedule();
}

export function clearFilters() {
  inputOf("search").value = "";
  selectOf("show").value = "all";
  arrange();
}

export function fillFilters() {
  const hasProblems = runs.some((run) => run.health.some((code) => code !== 0));
  fillChoices(hasProblems);
  disableOrder(
    "focus",
    runs.every((run) => !run.measures.focus),
  );
  disableOrder("health", !hasProblems);
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
