// @ts-check
/* What the page shows: the data that Python put into it, unpacked. */

import { placesOf, runsOf, stepsOf } from "./decode.js";
import { byId } from "./dom.js";

/** @import { EventData, PageData, Run, TestData } from "./types.js" */

/** @type {PageData} */
export const data = JSON.parse(byId("data").textContent ?? "");
export const HEIGHT = data.size[0];
export const WIDTH = data.size[1];
export const COUNT = data.names.length;
export const TARGETS = data.targets.length;
export const RUNS = data.runs.length;
export const runs = runsOf(data);
export const steps = stepsOf(runs);
export const FIRST = steps[0];
export const LAST = steps[steps.length - 1];
export const places = runs.map((run) => placesOf(run, steps));

const FIT = data.healths[0];

/** Where a step lies between the first and the last, in [0, 1]. @param {number} step */
export const shareOf = (step) => (LAST === FIRST ? 0.5 : (step - FIRST) / (LAST - FIRST));
/** @param {number} share */
export const stepAt = (share) => FIRST + share * (LAST - FIRST);

// In what follows, s is the place of a step in its run, or -1 where the run has none yet; n is a probe, k a target.

/** @param {number} s @param {number} n @param {number} k */
const placeOf = (s, n, k) => (s * COUNT + n) * TARGETS + k;

/** The map of (s, n, k) among all of a run. @param {Run} run @param {number} s @param {number} n @param {number} k */
export function mapOf(run, s, n, k) {
  const map = placeOf(s, n, k);
  const cells = run.grid[0] * run.grid[1];
  return { values: run.maps.subarray(map * cells, (map + 1) * cells), peak: run.peaks[map] };
}

/**
 * One of (S, N, K) values; NaN where it is not known.
 * @param {ArrayLike<number> | null | undefined} values
 * @param {number} s
 * @param {number} n
 * @param {number} k
 */
export const valueAt = (values, s, n, k) => (!values || s < 0 ? NaN : values[placeOf(s, n, k)]);

/** What is predicted, or -1. @param {Run} run @param {number} s @param {number} n */
export const predictedAt = (run, s, n) => (s < 0 ? -1 : run.predicted[s * COUNT + n]);

/** The class that is explained, or -1. @param {Run} run @param {number} s @param {number} n @param {number} k */
export const explainedAt = (run, s, n, k) => (s < 0 ? -1 : run.explained[placeOf(s, n, k)]);

/** How bad the health is; 0 is fit. @param {Run} run @param {number} s @param {number} n @param {number} k */
export const badnessAt = (run, s, n, k) => (s < 0 ? 0 : run.health[placeOf(s, n, k)]);

/** The health, or "" of no map. @param {Run} run @param {number} s @param {number} n @param {number} k */
export const healthAt = (run, s, n, k) => (s < 0 ? "" : data.healths[badnessAt(run, s, n, k)]);
/** @param {string} health */
export const isFit = (health) => health === FIT || health === "";

const warnings = new Set(data.warnings);
/** @param {EventData} event */
export const isWarning = (event) => warnings.has(event.kind);
/** @param {Run} run */
export const isWarned = (run) => run.events.some(isWarning);

/** Whether an event is about a probe. @param {EventData} event @param {number} n */
export const isAbout = (event, n) => event.probes === null || event.probes.includes(n);

/** The last test of a run, if there is one. @param {Run} run @returns {TestData | undefined} */
export const lastTest = (run) => run.tests[run.tests.length - 1];

/** Whether that much drift is more than calm. @param {number} drift @param {number} floor NaN where it is not known */
export const isRestless = (drift, floor) => drift > Math.max(data.settled.drift, data.settled.floors * (floor || 0));

// ---- Words ----

/** @param {number} step */
export const nameOf = (step) => (step < 0 ? "before training" : `${data.unit} ${step}`);
/** The same with its preposition, as a sentence needs it. @param {number} step */
export const whenOf = (step) => (step < 0 ? nameOf(step) : `at ${nameOf(step)}`);
/** @param {number} step */
export const shortOf = (step) => (step < 0 ? "before" : String(step));
/** @param {number} index */
export const className = (index) => (index < 0 ? "" : data.classes[index]);

/** What is predicted, in words. @param {Run} run @param {number} s @param {number} n */
export function predictionAt(run, s, n) {
  const predicted = predictedAt(run, s, n);
  return predicted < 0 ? "" : `predicts ${className(predicted)}`;
}

/** What a measure is called within a sentence. @param {string} name */
export const titleOf = (name) => data.measures[name].title.toLowerCase();
