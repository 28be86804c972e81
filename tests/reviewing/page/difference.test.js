import assert from "node:assert/strict";
import test from "node:test";

import {
  CAME,
  LEFT,
  differenceOf,
  differenceTable,
  placeIn,
} from "../../../gradcam_callbacks/reviewing/page/js/difference.js";

const map = (...values) => new Uint8Array(values);

test("The share that moved is half of all that cells differ, and full colour is the hottest cell.", () => {
  const { values, moved, came, left } = differenceOf(map(100, 100, 0, 0), map(0, 50, 0, 50));
  assert.equal(moved, 0.5);
  assert.deepEqual([...values], [1, 128, 128, 255]);
  assert.deepEqual([came, left], [3, 0]);
});

test("It is of where, and not of how much: a map that is only stronger has not changed.", () => {
  const { values, moved } = differenceOf(map(10, 20, 30), map(80, 160, 240));
  assert.ok(moved < 1e-12);
  assert.deepEqual([...values], [128, 128, 128]);
});

test("A small change of a map is a small value, although it is the largest there is.", () => {
  const { values, moved } = differenceOf(map(100, 100), map(99, 101));
  assert.ok(Math.abs(moved - 0.005) < 1e-12);
  assert.deepEqual([...values], [127, 129]);
});

test("To and from an empty map nothing moves.", () => {
  assert.equal(differenceOf(map(0, 0), map(1, 2)), null);
  assert.equal(differenceOf(map(1, 2), map(0, 0)), null);
});

test("No change is clear; each way has its colour, which covers the more the larger the change is.", () => {
  const table = differenceTable();
  const colour = (value) => [...table.slice(4 * value, 4 * value + 3)];
  const cover = (value) => table[4 * value + 3];
  assert.equal(cover(128), 0);
  assert.deepEqual([colour(129), colour(255)], [CAME, CAME]);
  assert.deepEqual([colour(127), colour(1)], [LEFT, LEFT]);
  for (let change = 1; change < 127; change++) {
    assert.ok(cover(128 + change) <= cover(129 + change));
    assert.equal(cover(128 + change), cover(128 - change));
  }
  assert.deepEqual([cover(1), cover(255)], [255, 255]);
});

test("A cell's place is said by thirds of the sides.", () => {
  const told = (grid) => [...Array(grid[0] * grid[1]).keys()].map((cell) => placeIn(cell, grid));
  assert.deepEqual(told([3, 3]), [
    "upper left",
    "top",
    "upper right",
    "left",
    "middle",
    "right",
    "lower left",
    "bottom",
    "lower right",
  ]);
  assert.deepEqual(told([1, 3]), ["left", "middle", "right"]);
  assert.deepEqual(told([1, 1]), ["middle"]);
});
