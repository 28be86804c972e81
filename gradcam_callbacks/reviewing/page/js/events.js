// @ts-check
/* The list of what happened. */

import { lastUpTo } from "./curves.js";
import { COUNT, RUNS, runs, shortOf, steps } from "./data.js";
import { byId, chip, element } from "./dom.js";
import { clearFilters } from "./filters.js";
import { plural } from "./format.js";
import { cards } from "./grid.js";
import { state } from "./state.js";
import { go } from "./time.js";
import { withDegree } from "./verdicts.js";

/** @import { EventData, Run } from "./types.js" */
/** @typedef {EventData & { run: Run }} RunEvent */

/** @type {Record<string, [string, string]>} */
const KINDS = {
  constant: ["constant answer", "constant answers"],
  shortcut: ["confirmed", "confirmed"],
  suspect: ["suspected", "suspected"],
  cleared: ["cleared", "cleared"],
  moved: ["jump", "jumps"],
  health: ["health change", "health changes"],
  class: ["class change", "class changes"],
};
// Of these kinds are events that say how sure they are.
const OF_TESTS = new Set(["shortcut", "suspect", "cleared"]);
// More of a kind at one step stand in one line; of more in all, changes of class are hidden at first.
const MOST_LINES = 3;
const MANY = 12;

export function fillEvents() {
  const events = runs.flatMap((run) => run.events.map((event) => ({ run, ...event }))).sort((a, b) => a.step - b.step);
  const items = bundled(events).flatMap(itemsOf);
  const list = () => {
    const shown = items.filter(({ kind }) => !state.hiddenKinds.has(kind)).map(({ node }) => node);
    const said = events.length
      ? "Nothing of the kinds chosen."
      : "Nothing to flag: no suspicion, no jump, no constant answer, no change of class or health.";
    byId("events").replaceChildren(...(shown.length ? shown : [element("li", { class: "nothing", text: said })]));
  };
  for (const kind of Object.keys(KINDS)) {
    const count = events.filter((event) => event.kind === kind).length;
    if (count === 0) continue;
    if (kind === "class" && events.length > MANY && count < events.length) state.hiddenKinds.add(kind);
    byId("kinds").append(switchOf(kind, count, list));
  }
  list();
}

/** The button that shows or hides a kind. @param {string} kind @param {number} count @param {() => void} list */
function switchOf(kind, count, list) {
  const isShown = () => String(!state.hiddenKinds.has(kind));
  const sign = element("i", { class: `sign ${kind}`, "aria-hidden": "true" });
  const text = `${count} ${KINDS[kind][count === 1 ? 0 : 1]}`;
  const button = element("button", { type: "button", class: `kind ${kind}`, "aria-pressed": isShown() }, sign, text);
  button.addEventListener("click", () => {
    if (!state.hiddenKinds.delete(kind)) state.hiddenKinds.add(kind);
    button.setAttribute("aria-pressed", isShown());
    list();
  });
  return button;
}

/** Those of one run, step and kind together. @param {RunEvent[]} events */
function bundled(events) {
  /** @type {Map<string, RunEvent[]>} */
  const bundles = new Map();
  for (const event of events) {
    const key = `${event.step} ${event.kind} ${event.run.number}`;
    bundles.set(key, [...(bundles.get(key) ?? []), event]);
  }
  return [...bundles.values()];
}

/** @param {RunEvent[]} bundle */
function itemsOf(bundle) {
  const { kind } = bundle[0];
  const items = bundle.map((event) => {
    const button = element("button", { type: "button", class: `event ${kind}` }, ...lineOfEvent(event, event.text));
    button.addEventListener("click", () => visit(event));
    return element("li", { "data-run": event.run.number }, button);
  });
  if (items.length <= MOST_LINES) return items.map((node) => ({ kind, node }));
  const head = element("summary", { class: "event" }, ...lineOfEvent(bundle[0], toldTogether(bundle)));
  const folded = element("details", {}, head, element("ol", {}, ...items));
  return [{ kind, node: element("li", { "data-run": bundle[0].run.number }, folded) }];
}

/** @param {RunEvent} event @param {string} text */
function lineOfEvent(event, text) {
  const who = RUNS > 1 ? [chip(event.run), " "] : [];
  const told = OF_TESTS.has(event.kind) ? withDegree(text) : [text];
  return [
    element("span", { class: "when", text: shortOf(event.step) }),
    element("i", { class: `sign ${event.kind}`, "aria-hidden": "true" }),
    element("span", { class: "what" }, ...who, element("bdi", {}, ...told)),
  ];
}

/** @param {RunEvent[]} bundle */
function toldTogether(bundle) {
  const probes = new Set(bundle.map((event) => event.probe)).size;
  const on = `on ${probes} of ${plural(COUNT, "probe")}`;
  if (OF_TESTS.has(bundle[0].kind)) return `${bundle.length} areas: ${KINDS[bundle[0].kind][1]}`;
  if (bundle[0].kind === "moved") return `${bundle.length} maps jumped ${on} while the predictions stayed`;
  if (bundle[0].kind === "class") return `${bundle.length} targets changed their class ${on}`;
  return `${bundle.length} maps changed their health ${on}`;
}

/** Goes to the step of an event, and to its probe. @param {Pick<EventData, "step" | "probe" | "target">} event */
export function visit(event) {
  go(Math.max(0, lastUpTo(steps, event.step)));
  if (event.probe === null) {
    byId("controls").scrollIntoView({ behavior: "auto", block: "start" });
    return;
  }
  const card = cards[event.probe];
  if (!card.node.isConnected) clearFilters();
  const group = card.groups[event.target ?? 0];
  const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  card.node.scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "center" });
  group.cells[0].button.focus({ preventScroll: true });
  group.node.classList.remove("visited");
  void group.node.offsetWidth; // starts the animation anew
  group.node.classList.add("visited");
}
