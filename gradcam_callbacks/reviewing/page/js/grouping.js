// @ts-check
/* Groups of probes: by label, by prediction, by whether that is right, or by flag. */

import { className, data, isAbout, isWarning, places, predictedAt, runs } from "./data.js";
import { state } from "./state.js";
import { VERDICTS } from "./verdicts.js";

/**
 * Some of the probes that are shown.
 * @typedef {object} ProbeGroup
 * @property {string} key
 * @property {string} name
 * @property {number[]} members in the order in which they are shown
 */

/** By what probes can be grouped, in words. @type {Record<string, string>} */
export const GROUPINGS = {
  none: "no groups",
  label: "by label",
  predicted: "by prediction now",
  right: "right or wrong now",
  flag: "by flag",
};

const shownRuns = () => runs.filter((run) => !state.away.has(run.number));

/** What the runs shown have in common; "several" where they differ. @param {string[]} keys one a run */
const common = (keys) => (new Set(keys).size === 1 ? keys[0] : "several");

/** What each run shown predicts. @param {number} n */
const predictions = (n) => shownRuns().map((run) => predictedAt(run, places[run.number][state.at], n));

/** @param {number} n @param {number} predicted */
const isRight = (n, predicted) => (predicted < 0 ? "-1" : predicted === data.labels?.[n] ? "right" : "wrong");

/** The most serious warning about a probe. @param {number} n */
function flagOf(n) {
  const events = shownRuns().flatMap((run) => run.events);
  const kinds = new Set(events.filter((event) => isWarning(event) && isAbout(event, n)).map(({ kind }) => kind));
  return Object.keys(VERDICTS).find((kind) => kinds.has(kind)) ?? "calm";
}

/** Which group a probe is in. @type {Record<string, (n: number) => string>} */
const KEYS = {
  label: (n) => String(data.labels?.[n] ?? -1),
  predicted: (n) => common(predictions(n).map(String)),
  right: (n) => common(predictions(n).map((predicted) => isRight(n, predicted))),
  flag: flagOf,
};

/** Groups that are no classes, in their order, behind those that are. @type {Record<string, string>} */
const WORDS = {
  wrong: "wrong",
  right: "right",
  shortcut: "shortcut",
  constant: "constant",
  suspect: "suspect",
  moved: "moved",
  calm: "not flagged",
  several: "runs differ",
  "-1": "no class",
};

/** @param {string} key */
const nameOfGroup = (key) => WORDS[key] ?? className(Number(key));

/** Whether probes can be grouped so. @param {string} grouping */
export const canGroup = (grouping) =>
  grouping === "none" || (grouping === "flag" ? runs.some((run) => run.events.some(isWarning)) : hasClasses(grouping));

/** @param {string} grouping */
const hasClasses = (grouping) =>
  (grouping === "predicted" || data.labels !== null) &&
  (grouping === "label" || runs.some((run) => run.predicted.some((index) => index >= 0)));

/** The probes in their groups, as they are chosen. @param {number[]} shown in the order in which they are shown */
export function groupsOf(shown) {
  /** @type {Map<string, number[]>} */
  const byKey = new Map();
  for (const n of shown) {
    const key = KEYS[state.grouping](n);
    const members = byKey.get(key);
    if (members) members.push(n);
    else byKey.set(key, [n]);
  }
  const place = (/** @type {ProbeGroup} */ { key }) => Object.keys(WORDS).indexOf(key);
  const byName = new Intl.Collator(undefined, { numeric: true });
  const groups = [...byKey].map(([key, members]) => ({ key, name: nameOfGroup(key), members }));
  return groups.sort((a, b) => place(a) - place(b) || byName.compare(a.name, b.name));
}
