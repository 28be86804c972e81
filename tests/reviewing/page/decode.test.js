import assert from "node:assert/strict";
import test from "node:test";

import {
  bytesOf,
  measured,
  placesOf,
  runsOf,
  sharesOf,
  stepsOf,
} from "../../../gradcam_callbacks/reviewing/page/js/decode.js";

/** The base64 of an array's bytes. */
const packed = (array) => Buffer.from(array.buffer).toString("base64");

/** A run of one probe and target, as Python sends it. */
function sent(changes) {
  return {
    name: "run",
    link: null,
    layer: "conv",
    method: "gradcam",
    score: "logit",
    grid: [1, 2],
    steps: [0],
    maps: packed(new Uint8Array([0, 255])),
    peaks: packed(new Float32Array([2.5])),
    scores: packed(new Float32Array([-1.5])),
    probabilities: null,
    predicted: packed(new Int32Array([-1])),
    explained: packed(new Int32Array([70_000])),
    health: packed(new Uint8Array([3])),
    measures: { rank: packed(new Uint16Array([0])), bits: packed(new Float32Array([12.25])) },
    curves: { steps: [0], drift: [null], floor: [null], focus: null, metrics: {} },
    summary: [],
    events: [],
    notes: [],
    ...changes,
  };
}

const rank = { title: "Rank", says: "", unit: "correlation", low: -1, high: 1 };
const bits = { title: "Bits", says: "", unit: "bits", low: 0, high: null };

test("Base64 becomes the bytes that it stands for.", () => {
  assert.deepEqual([...bytesOf("AAEC/w==")], [0, 1, 2, 255]);
});

test("Shares span their range exactly at both ends and in the middle, and 65535 is not known.", () => {
  const text = packed(new Uint16Array([0, 32767, 65534, 65535]));
  assert.deepEqual([...sharesOf(text)], [0, 0.5, 1, NaN]);
  assert.deepEqual([...sharesOf(text, -1, 1)], [-1, 0, 1, NaN]);
  assert.deepEqual([...measured(text, rank)], [-1, 0, 1, NaN]);
});

test("A measure without an upper end is sent as it is.", () => {
  assert.deepEqual([...measured(packed(new Float32Array([1.5, 1e6, NaN])), bits)], [1.5, 1e6, NaN]);
});

test("The arrays of a run are unpacked, and those that it lacks are missing.", () => {
  const [run] = runsOf({ measures: { rank, bits }, runs: [sent({})] });
  assert.deepEqual([...run.maps], [0, 255]);
  assert.deepEqual([run.peaks[0], run.scores[0], run.health[0]], [2.5, -1.5, 3]);
  assert.deepEqual([run.predicted[0], run.explained[0]], [-1, 70_000]);
  assert.deepEqual([run.measures.rank[0], run.measures.bits[0]], [-1, 12.25]);
  assert.equal(run.measures.drift, undefined);
  assert.equal(run.probabilities, null);
});

test("Runs of the same layer, method and score share a scale, and others have their own.", () => {
  const peak = (value) => packed(new Float32Array([value]));
  const runs = runsOf({
    measures: { rank, bits },
    runs: [sent({ peaks: peak(2) }), sent({ peaks: peak(8) }), sent({ peaks: peak(3), layer: "other" })],
  });
  assert.deepEqual(
    runs.map((run) => run.highest),
    [8, 8, 3],
  );
});

test("The steps are those of all runs, and a run shows its last one where it lacks one.", () => {
  const runs = [{ steps: [-1, 0, 5] }, { steps: [0, 2, 10] }];
  const steps = stepsOf(runs);
  assert.deepEqual(steps, [-1, 0, 2, 5, 10]);
  assert.deepEqual(
    runs.map((run) => placesOf(run, steps)),
    [
      [0, 1, 1, 2, 2],
      [-1, 0, 1, 1, 2],
    ],
  );
});
