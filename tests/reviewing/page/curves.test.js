import assert from "node:assert/strict";
import test from "node:test";

import {
  bandOf,
  lastUpTo,
  lineOf,
  nearest,
  niceCeiling,
  niceRange,
  shareRange,
  ticksBetween,
} from "../../../gradcam_callbacks/reviewing/page/js/curves.js";

/** Two lists of numbers are the same but for rounding. */
function close(found, expected) {
  assert.equal(found.length, expected.length, `${found}`);
  found.forEach((value, at) => assert.ok(Math.abs(value - expected[at]) < 1e-12, `${found}`));
}

test("A line has a gap where nothing is known, and a point alone is a dot.", () => {
  const points = [
    [0, 1],
    [1, NaN],
    [2, 3],
    [3, 4.256],
    [4, NaN],
  ];
  assert.equal(lineOf(points), "M0.00 1.00h0M2.00 3.00L3.00 4.26");
  assert.equal(lineOf([[0, NaN]]), "");
});

test("A band goes from the base along what is known and back to the base.", () => {
  assert.equal(
    bandOf(
      [
        [0, NaN],
        [1, 5],
        [2, 6],
        [3, NaN],
      ],
      30,
    ),
    "M1.00 30L1.00 5.00L2.00 6.00L2.00 30Z",
  );
  assert.equal(bandOf([[0, NaN]], 30), "");
});

test("The last number up to a limit is found at, between, before and behind all.", () => {
  const numbers = [-1, 0, 2, 4];
  assert.deepEqual(
    [-2, -1, 3, 4, 9].map((limit) => lastUpTo(numbers, limit)),
    [-1, 0, 2, 3, 3],
  );
  assert.equal(lastUpTo([], 1), -1);
});

test("The nearest number is found, and the first of two.", () => {
  assert.deepEqual(
    [-9, 2, 3, 9].map((wanted) => nearest([-1, 0, 5], wanted)),
    [0, 1, 2, 2],
  );
  assert.equal(nearest([0, 2], 1), 0);
});

test("Ticks are the multiples of 1, 2 or 5 times a power of ten within the range.", () => {
  close(ticksBetween(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  close(ticksBetween(3, 47, 4), [20, 40]);
  close(ticksBetween(0, 0.3, 3), [0, 0.1, 0.2, 0.3]);
  close(ticksBetween(0, 13, 13), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
});

test("A nice range is two round steps that hold the whole range.", () => {
  close(niceRange(0.12, 0.87), [0, 1]);
  close(niceRange(0, 1), [0, 1]);
  close(niceRange(-3, 5), [-5, 5]);
  close(niceRange(0, 2.6), [0, 3]);
  close(niceRange(1200, 1900), [1000, 2000]);
});

test("A range without any extent gets one around it.", () => {
  close(niceRange(2, 2), [1, 3]);
  close(niceRange(-4, -4), [-6, -2]);
  close(niceRange(0, 0), [-0.5, 0.5]);
});

test("The ceiling of a share is the next round one.", () => {
  assert.deepEqual([0, 0.04, 0.041, 0.3, 0.61, 0.81, 1].map(niceCeiling), [0.04, 0.04, 0.1, 0.3, 0.8, 1, 1]);
});

test("An axis of shares begins at none, unless all of them are in its upper half.", () => {
  close(shareRange([0.1, 0.35]), [0, 0.4]);
  close(shareRange([0.32, 0.21]), [0.2, 0.4]);
  close(shareRange([0.9, 1]), [0.9, 1]);
  close(shareRange([0, 0]), [0, 0.04]);
  const [low, high] = shareRange([0.5, 0.5]);
  assert.ok(low <= 0.5 && high >= 0.52);
});
