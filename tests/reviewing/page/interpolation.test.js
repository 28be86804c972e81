import assert from "node:assert/strict";
import test from "node:test";

import { axisOf, fillPixels, valueOn } from "../../../gradcam_callbacks/reviewing/page/js/interpolation.js";

/** Paints by which a pixel is the value that it was painted with. */
const VALUES = Uint32Array.from({ length: 256 }, (_, value) => value);

/** A map of that many cells at a side, drawn with that many pixels at a side. */
function drawn(map, cells, pixels, factor = 1) {
  const axis = axisOf(cells, pixels);
  const found = new Uint32Array(pixels * pixels);
  fillPixels(Uint8Array.from(map), axis, axis, factor, VALUES, found);
  return [...found];
}

test("Four pixels over two cells lie at −1/4, 1/4, 3/4 and 5/4 of them, and the outer ones are held inside.", () => {
  const { low, high, share } = axisOf(2, 4);
  assert.deepEqual([...low], [0, 0, 0, 1]);
  assert.deepEqual([...high], [1, 1, 1, 1]);
  assert.deepEqual([...share], [0, 0.25, 0.75, 0]);
});

test("Fewer pixels than cells lie between the cells that they cover.", () => {
  const { low, high, share } = axisOf(4, 2);
  assert.deepEqual(
    [[...low], [...high], [...share]],
    [
      [0, 2],
      [1, 3],
      [0.5, 0.5],
    ],
  );
});

test("The spike of one of seven cells has its centroid at the cell's centre, as in tf.image.resize.", () => {
  const { low, high, share } = axisOf(7, 224);
  for (const cell of [1, 3, 5]) {
    let [sum, moment] = [0, 0];
    for (let at = 0; at < 224; at++) {
      const weight = (low[at] === cell ? 1 - share[at] : 0) + (high[at] === cell ? share[at] : 0);
      sum += weight;
      moment += weight * (at + 0.5);
    }
    assert.ok(Math.abs(moment / sum - ((cell + 0.5) / 7) * 224) < 1e-4);
  }
});

test("Values are bilinear between the cells' centres.", () => {
  // From row to row, the ends go from (0, 100) by (50, 138.75) and (150, 216.25) to (200, 255).
  const expected = [0, 25, 75, 100, 50, 72, 117, 139, 150, 167, 200, 216, 200, 214, 241, 255];
  assert.deepEqual(drawn([0, 100, 200, 255], 2, 4), expected);
});

test("With as many pixels as cells, each pixel is its cell; a factor scales all.", () => {
  assert.deepEqual(drawn([0, 100, 200, 255], 2, 2), [0, 100, 200, 255]);
  assert.deepEqual(drawn([0, 100, 200, 255], 2, 2, 0.5), [0, 50, 100, 128]);
});

test("A signal is one row of cells.", () => {
  const found = new Uint32Array(4);
  fillPixels(Uint8Array.from([0, 100]), axisOf(1, 1), axisOf(2, 4), 1, VALUES, found);
  assert.deepEqual([...found], [0, 25, 75, 100]);
});

test("The value at a place is that of the cell in its centre, half way in between, and the end's beyond.", () => {
  const map = new Uint8Array([0, 100, 200, 40]);
  const at = (x, y) => valueOn(map, [2, 2], x, y);
  assert.deepEqual([at(0.25, 0.25), at(0.75, 0.25), at(0.25, 0.75), at(0.75, 0.75)], [0, 100, 200, 40]);
  assert.equal(at(0.5, 0.25), 50);
  assert.equal(at(0.5, 0.5), 85);
  assert.equal(at(1, 0), 100);
});
