import assert from "node:assert/strict";
import test from "node:test";

import { csvOf } from "../../../gradcam_callbacks/reviewing/page/js/csv.js";

test("Names with commas, quotes and line breaks are quoted, and what is not known is empty.", () => {
  const rows = [
    ["name", "value"],
    ['a "b", c', 0.5],
    ["two\nlines", NaN],
    ["猫", null],
  ];
  assert.equal(csvOf(rows), 'name,value\r\n"a ""b"", c",0.5\r\n"two\nlines",\r\n猫,\r\n');
});
