import assert from "node:assert/strict";
import test from "node:test";

import { WHOLE, partRatio, viewOf } from "../../../gradcam_callbacks/reviewing/page/js/areas.js";

/** The outline of a box, in thousandths. */
const box = (left, top, right, bottom) => `M${left} ${top}L${right} ${top}L${right} ${bottom}L${left} ${bottom}Z`;

/** A view is the one expected but for rounding. */
function close(found, expected) {
  for (const [key, value] of Object.entries(expected)) {
    assert.ok(Math.abs(found[key] - value) < 1e-9, `${key} is ${found[key]}`);
  }
}

test("A view has its area in the middle, with a third of the longer side around it.", () => {
  close(viewOf(box(400, 450, 600, 550), 1), { left: 0.33, top: 0.33, width: 0.34, height: 0.34 });
});

test("A view ends where the picture does.", () => {
  close(viewOf(box(800, 0, 1000, 100), 1), { left: 0.66, top: 0, width: 0.34, height: 0.34 });
});

test("However small an area, a fifth of the picture is shown, so that it can be recognised.", () => {
  close(viewOf(box(500, 500, 510, 510), 1), { left: 0.405, top: 0.405, width: 0.2, height: 0.2 });
});

test("Of a frame, of half of the picture and of areas far apart, the whole picture is shown.", () => {
  for (const ratio of [1, 4 / 3, 3, 1 / 3]) {
    assert.equal(viewOf(box(0, 0, 1000, 1000) + box(50, 50, 950, 950), ratio), WHOLE);
    assert.equal(viewOf(box(0, 500, 1000, 1000) + box(0, 0, 10, 10), ratio), WHOLE);
    assert.equal(viewOf(box(0, 0, 100, 100) + box(900, 900, 1000, 1000), ratio), WHOLE);
  }
});

test("Of a panorama and of a tower, the part is less long than they are, and holds the area.", () => {
  assert.deepEqual([3, 1 / 3, 4 / 3].map(partRatio), [1.6, 0.75, 4 / 3]);
  for (const ratio of [3, 1 / 3, 4 / 3, 0.5]) {
    for (const [left, top] of [
      [0, 0],
      [450, 450],
      [900, 900],
    ]) {
      const view = viewOf(box(left, top, left + 100, top + 100), ratio);
      assert.ok(Math.abs((ratio * view.width) / view.height - partRatio(ratio)) < 1e-9);
      assert.ok(view.left <= left / 1000 && view.left + view.width >= (left + 100) / 1000 - 1e-9);
      assert.ok(view.top <= top / 1000 && view.top + view.height >= (top + 100) / 1000 - 1e-9);
      assert.ok(view.left >= 0 && view.left + view.width <= 1 + 1e-9);
      assert.ok(view.top >= 0 && view.top + view.height <= 1 + 1e-9);
      assert.ok(Math.max(view.width, view.height) < 0.6);
    }
  }
});
