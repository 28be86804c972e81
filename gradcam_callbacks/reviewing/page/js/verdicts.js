// @ts-check
/* The words of verdicts and tests, and what they mean. */

import { lastTest, whenOf } from "./data.js";
import { element } from "./dom.js";

/** @import { Run } from "./types.js" */

/** What each verdict says, the most serious first. @type {Record<string, string>} */
export const VERDICTS = {
  shortcut: "a test confirmed that answers rest on an area outside the regions, or on one that a class has in common",
  suspect: "the maps look like a shortcut; no test has confirmed or cleared it",
  constant: "answers and maps are the same whatever the picture",
  unfit: "most maps say nothing",
  moved: "attention jumped late, while the answers stayed",
  unsettled: "attention was still moving at the end",
  ok: "none of these",
};

/**
 * How sure a finding is: in words, with the sign of such an event, and what was seen.
 * @type {Record<string, { degree: string, sign: string, says: string }>}
 */
export const OUTCOMES = {
  confirmed: {
    degree: "confirmed by the test",
    sign: "shortcut",
    says:
      "covering the area changed the answers, pasting it on other pictures made them that class; " +
      "covering as much elsewhere did not",
  },
  untold: {
    degree: "the test could not tell",
    sign: "suspect",
    says: "the maps point at the area; it was not tested, or too few answers changed to be sure",
  },
  cleared: {
    degree: "cleared by the test",
    sign: "cleared",
    says: "covering the area changed no more answers than covering as much elsewhere",
  },
};

/**
 * The sentence of a finding, its degree set off: what stands before the first colon.
 * @param {string} text
 * @param {string} [title] what the degree means
 */
export function withDegree(text, title) {
  const end = text.indexOf(":") + 1;
  return [element("b", { title, text: text.slice(0, end) }), text.slice(end)];
}

/** How sure a run's verdict is. @param {Run} run */
export function degreeOf(run) {
  const test = lastTest(run);
  const when = test ? ` ${whenOf(test.step)}` : "";
  if (run.verdict === "shortcut") return `${OUTCOMES.confirmed.degree}${when}`;
  const outcomes = new Set(test?.findings.map((finding) => finding.outcome));
  if (run.verdict === "suspect") return outcomes.has("untold") ? `${OUTCOMES.untold.degree}${when}` : "not tested";
  return outcomes.size === 1 && outcomes.has("cleared") ? `${OUTCOMES.cleared.degree}${when}` : "";
}
