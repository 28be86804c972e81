import assert from "node:assert/strict";
import test from "node:test";

import {
  MOST_ZOOM,
  UNZOOMED,
  panned,
  partOf,
  zoomFrom,
  zoomText,
  zoomed,
} from "../../../gradcam_callbacks/reviewing/page/js/zoom.js";

/** Which place of the picture the frame shows at a place of its own. */
function shownAt(zoom, x, y) {
  const { left, top, side } = partOf(zoom);
  return [left + x * side, top + y * side];
}
const near = (a, b) => a.forEach((value, at) => assert.ok(Math.abs(value - b[at]) < 1e-9, `${a} is not ${b}`));

test("The place under the pointer stays there while the picture is enlarged, again and again, and back.", () => {
  let zoom = UNZOOMED;
  for (const factor of [1.5, 3, 0.7, 1.2, 0.5]) {
    zoom = zoomed(zoom, factor, 0.3, 0.8);
    near(shownAt(zoom, 0.3, 0.8), [0.3, 0.8]);
  }
  assert.ok(Math.abs(zoom.scale - 1.89) < 1e-9);
});

test("It is enlarged 16 times at most, and never smaller than the whole picture.", () => {
  assert.equal(zoomed(UNZOOMED, 1000).scale, MOST_ZOOM);
  assert.deepEqual(zoomed({ scale: 2, x: 1, y: 0 }, 0.1), UNZOOMED);
});

test("A picture that is dragged goes along with the pointer, and no further than to its edge.", () => {
  const zoom = zoomed(UNZOOMED, 4);
  const before = shownAt(zoom, 0.5, 0.5);
  near(shownAt(panned(zoom, 0.2, -0.1), 0.7, 0.4), before);
  near(shownAt(panned(zoom, 99, 99), 0, 0), [0, 0]);
  near(shownAt(panned(zoom, -99, -99), 1, 1), [1, 1]);
  assert.deepEqual(panned(UNZOOMED, 0.3, 0.3), UNZOOMED);
});

test("An address keeps it, and what is no part of a picture is the whole one.", () => {
  const zoom = { scale: 3.25, x: 0.125, y: 1 };
  assert.equal(zoomText(zoom), "3.25,0.125,1");
  assert.deepEqual(zoomFrom("3.25,0.125,1"), zoom);
  assert.equal(zoomText(UNZOOMED), "");
  for (const text of [null, "", "3", "a,b,c", "0.5,0,0", "-2,0,0", "2,1,1,1"]) {
    assert.deepEqual(zoomFrom(text), UNZOOMED);
  }
  assert.deepEqual(zoomFrom("99,-3,7"), { scale: MOST_ZOOM, x: 0, y: 1 });
});
