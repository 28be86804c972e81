import assert from "node:assert/strict";
import test from "node:test";

import { WHOLE, viewOf } from "../../../gradcam_callbacks/reviewing/page/js/areas.js";

/** The outline of a box, in thousandths. */
const box = (left, top, right, bottom) => `M${left} ${top}L${right} ${top}L${right} ${bottom}L${left} ${bottom}Z`;

/** A view is the one expected but for rounding. */
function close(found, expected) {
  for (const [key, value] of Object.entries(expected)) {
    assert.ok(Math.abs(found[key] - value) < 1e-9, `${key} is ${found[key]}`);
  }
}

test("A view has its area in the middle, with a third of the longer side around it.", () => {
  close(viewOf(box(400, 450, 600, 550)), { left: 0.33, top: 0.33, side: 0.34 });
});

test("A view ends where the picture does.", () => {
  close(viewOf(box(800, 0, 1000, 100)), { left: 0.66, top: 0, side: 0.34 });
});

test("However small an area, a fifth of the picture is shown, so that it can be recognised.", () => {
  close(viewOf(box(500, 500, 510, 510)), { left: 0.405, top: 0.405, side: 0.2 });
});

test("Of a frame, of half of the picture and of areas far apart, the whole picture is shown.", () => {
  assert.equal(viewOf(box(0, 0, 1000, 1000) + box(50, 50, 950, 950)), WHOLE);
  assert.equal(viewOf(box(0, 500, 1000, 1000)), WHOLE);
  assert.equal(viewOf(box(0, 0, 100, 100) + box(900, 900, 1000, 1000)), WHOLE);
});
