import assert from "node:assert/strict";
import test from "node:test";

import { meanKnown, meanOf } from "../../../gradcam_callbacks/reviewing/page/js/mean.js";

const map = (...values) => new Uint8Array(values);

test("Each map counts as much, however strong it is: it is taken over its own sum.", () => {
  // (1, 0, 0) and (0.25, 0.25, 0.5): their mean is (0.625, 0.125, 0.25), of which the first is the largest.
  assert.deepEqual([...meanOf([map(9, 0, 0), map(50, 50, 100)])], [255, 51, 102]);
});

test("Maps without evidence do not count; without any others there is no mean.", () => {
  assert.deepEqual([...meanOf([map(0, 0), map(10, 5)])], [255, 128]);
  assert.equal(meanOf([map(0, 0)]), null);
  assert.equal(meanOf([]), null);
});

test("The mean of numbers is that of the known ones.", () => {
  assert.equal(meanKnown([0.25, NaN, 0.75]), 0.5);
  assert.ok(Number.isNaN(meanKnown([NaN])));
});
