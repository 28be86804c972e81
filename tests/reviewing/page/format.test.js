import assert from "node:assert/strict";
import test from "node:test";

import * as format from "../../../gradcam_callbacks/reviewing/page/js/format.js";

/** What a format makes of each of the values is what stands beside it. */
function check(made, expected) {
  for (const [value, text] of expected) assert.equal(made(value), text, String(value));
}

test("A share is whole percents, and what is there but less than one is not 0 %.", () => {
  check(format.percent, [
    [0, "0 %"],
    [0.0001, "< 1 %"],
    [0.0099, "< 1 %"],
    [0.01, "1 %"],
    [0.126, "13 %"],
    [1, "100 %"],
  ]);
});

test("A probability has two digits, and is 0 or 1 only where it is so exactly.", () => {
  check(format.probability, [
    [0, "0.00"],
    [0.004, "< 0.01"],
    [0.005, "0.01"],
    [0.256, "0.26"],
    [0.995, "0.99"],
    [0.9951, "> 0.99"],
    [1, "1.00"],
  ]);
});

test("A number has three digits, or its power of ten where it is very small or large.", () => {
  check(format.number, [
    [0, "0.000"],
    [0.1234, "0.123"],
    [1.234, "1.23"],
    [12.34, "12.3"],
    [1234.4, "1234"],
    [-0.5, "−0.500"],
    [0.00001, "1.0e−5"],
    [25_000_000, "2.5e+7"],
  ]);
});

test("What is not known is a dash in every format.", () => {
  for (const made of [format.percent, format.probability, format.correlation, format.number]) {
    for (const value of [null, NaN, Infinity]) assert.equal(made(value), "–");
  }
});

test("The unit of a measure decides its format, and one that is not known is a number.", () => {
  assert.equal(format.formatOf("share")(0.5), "50 %");
  assert.equal(format.formatOf("correlation")(-0.256), "−0.26");
  assert.equal(format.formatOf("bits")(3), "3.00");
});

test("A number on an axis has no zeros that say nothing.", () => {
  const shown = [0, 0.5, 1.2, 20, 100, -5].map((value) => format.tick(format.number, value));
  assert.deepEqual(shown, ["0", "0.5", "1.2", "20", "100", "−5"]);
  assert.equal(format.tick(format.percent, 0.5), "50 %");
  assert.equal(format.tick(format.probability, 1), "1");
});

test("One of a kind is singular.", () => {
  assert.equal(format.plural(1, "probe"), "1 probe");
  assert.equal(format.plural(0, "epoch"), "0 epochs");
  assert.equal(format.plural(2, "batch"), "2 batches");
});
