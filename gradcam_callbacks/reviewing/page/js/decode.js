// @ts-check
/* From what Python sends to arrays and to steps that all runs share. */

/** @import { Measure, PageData, Run, RunData } from "./types.js" */

/** @param {string} text base64 */
export function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  return bytes;
}

/**
 * @param {string} text packed shares
 * @param {number} low what the share 0 stands for
 * @param {number} high what the share 1 stands for
 */
export function sharesOf(text, low = 0, high = 1) {
  const raw = new Uint16Array(bytesOf(text).buffer);
  const shares = new Float32Array(raw.length);
  for (let at = 0; at < raw.length; at++) {
    shares[at] = raw[at] === 65535 ? NaN : low + ((high - low) * raw[at]) / 65534;
  }
  return shares;
}

/** @param {string} text packed @param {Measure} measure */
export function measured(text, { low, high }) {
  const isBounded = low !== null && high !== null;
  return isBounded ? sharesOf(text, low, high) : new Float32Array(bytesOf(text).buffer);
}

/** @param {RunData} run @param {number} place among the runs @param {PageData["measures"]} measures @returns {Run} */
function unpacked(run, place, measures) {
  const byName = Object.entries(run.measures).map(([name, text]) => [name, measured(text, measures[name])]);
  return {
    ...run,
    number: place,
    color: `var(--run-${place % 6})`,
    maps: bytesOf(run.maps),
    peaks: new Float32Array(bytesOf(run.peaks).buffer),
    scores: new Float32Array(bytesOf(run.scores).buffer),
    predicted: new Int32Array(bytesOf(run.predicted).buffer),
    explained: new Int32Array(bytesOf(run.explained).buffer),
    health: bytesOf(run.health),
    probabilities: run.probabilities === null ? null : sharesOf(run.probabilities),
    measures: Object.fromEntries(byName),
    highest: 0,
  };
}

/** @param {PageData} data */
export function runsOf(data) {
  const runs = data.runs.map((run, place) => unpacked(run, place, data.measures));
  // Raw values of different layers, methods or kinds of score cannot share a scale.
  /** @param {Run} run */
  const kindOf = (run) => [run.layer, run.method, run.score].join("\n");
  const highest = new Map();
  for (const run of runs) {
    const peak = run.peaks.reduce((a, b) => Math.max(a, b), 0);
    highest.set(kindOf(run), Math.max(peak, highest.get(kindOf(run)) ?? 0));
  }
  for (const run of runs) run.highest = highest.get(kindOf(run));
  return runs;
}

/** Every step of any run, rising. @param {{ steps: number[] }[]} runs */
export const stepsOf = (runs) => [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);

/**
 * Which of its own steps a run shows at each of the steps: that step, or else the last earlier one, or -1.
 * @param {{ steps: number[] }} run
 * @param {number[]} steps of all runs
 */
export function placesOf(run, steps) {
  let place = -1;
  return steps.map((step) => (run.steps[place + 1] === step ? ++place : place));
}
