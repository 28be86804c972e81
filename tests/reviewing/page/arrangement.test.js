import assert from "node:assert/strict";
import test from "node:test";

import { arranged } from "../../../gradcam_callbacks/reviewing/page/js/arrangement.js";

const box = { together: 1, ratio: 1, width: 1000, height: 600, gap: 10, caption: 20, least: 100 };

test("One picture is as large as the box, within both of its sides.", () => {
  assert.deepEqual(arranged({ ...box, count: 1 }), { columns: 1, size: 580 });
  assert.deepEqual(arranged({ ...box, count: 1, width: 300 }), { columns: 1, size: 300 });
  assert.deepEqual(arranged({ ...box, count: 1, ratio: 0.5 }), { columns: 1, size: 290 });
});

test("Two stand side by side in a wide box, and one below the other where they are wide themselves.", () => {
  assert.deepEqual(arranged({ ...box, count: 2 }), { columns: 2, size: 495 });
  assert.deepEqual(arranged({ ...box, count: 2, ratio: 4 }), { columns: 1, size: 1000 });
});

test("What belongs together stays in one row, or in rows of equal length.", () => {
  const { columns } = arranged({ ...box, count: 6, together: 3 });
  assert.equal(columns, 3);
  assert.equal(arranged({ ...box, count: 3, together: 3, width: 300 }).columns, 1);
});

test("Where they would be too small if all were in sight, a row fits, and the box scrolls.", () => {
  assert.deepEqual(arranged({ ...box, count: 12, height: 300, least: 240 }), { columns: 4, size: 242 });
  assert.deepEqual(arranged({ ...box, count: 3, width: 200, height: 400, least: 240 }), { columns: 1, size: 200 });
});
