// @ts-check
/* The proof of a verdict: what the tests found, with its counts and with the areas that they covered and pasted. */

import { RUNS, className, lastTest, whenOf } from "./data.js";
import { element } from "./dom.js";
import { capitalised, plural } from "./format.js";
import { THUMB, TILE, tileOf } from "./tile.js";
import { OUTCOMES, withDegree } from "./verdicts.js";

/** @import { FindingData, Run } from "./types.js" */
/** @import { Told } from "./tile.js" */

// More findings are folded. Where there are so many runs, counts and pictures are.
const MOST_OPEN = 4;
const MANY_RUNS = 3;

/**
 * A row of counts.
 * @typedef {object} Row
 * @property {string} name of the count
 * @property {string} text what was done to the pictures
 * @property {boolean} [isOfArea] whether to the area, not only to compare with it
 */

/** @type {Row[]} */
const COVERED = [
  { name: "covered", text: "area covered", isOfArea: true },
  { name: "elsewhere", text: "as much elsewhere" },
  { name: "hidden", text: "region covered" },
  { name: "hidden_covered", text: "region and area", isOfArea: true },
  { name: "hidden_elsewhere", text: "region and elsewhere" },
];
/** @type {Row[]} */
const PASTED = [
  { name: "pasted", text: "area pasted on them", isOfArea: true },
  { name: "pasted_elsewhere", text: "another area" },
  { name: "pasted_others", text: "the place in others" },
];

/**
 * What a run's last test found, and what earlier ones found and it did not; null where nothing is to be said.
 * @param {Run} run
 */
export function proofOf(run) {
  const last = lastTest(run);
  const open = openOf(run);
  const closed = toldOf(run).filter((each) => !open.some(({ finding }) => finding === each.finding));
  const reason = last?.reason ? `Nothing was tested ${whenOf(last.step)}. ${last.reason}` : "";
  const left = last?.unlisted ? `${plural(last.unlisted, "more finding")} not shown.` : "";
  const nodes = [
    ...open.map(findingNode),
    ...(closed.length ? [folding(wordsOf(closed), () => closed.map(findingNode))] : []),
    ...[reason, left].filter(Boolean).map((text) => element("p", { class: "aside", dir: "auto", text })),
  ];
  return nodes.length ? element("div", { class: "proof" }, ...nodes) : null;
}

/** What is shown at once: what warns. @param {Run} run */
function openOf(run) {
  return toldOf(run)
    .filter(({ finding }) => finding.outcome !== "cleared")
    .slice(0, MOST_OPEN);
}

/** What of a run's summary its proof does not say already. @param {Run} run @returns {Run["summary"]} */
export function restOfSummary(run) {
  const said = openOf(run).map(({ finding }) => finding.text);
  return run.summary.flatMap(([text, warns]) => {
    const left = said.reduce((others, part) => others.replace(part, ""), text);
    return left.trim() === "" ? [] : [[left, warns]];
  });
}

/** @param {Run} run @returns {Told[]} */
function toldOf(run) {
  const all = run.tests.flatMap((test) => test.findings.map((finding) => ({ run, test, finding })));
  const last = all.filter(({ test }) => test === lastTest(run));
  const others = all.filter((one) => !last.some((other) => isOfTheSame(one.finding, other.finding)));
  return [...last, ...others];
}

/** Whether two findings are about the same answers. @param {FindingData} one @param {FindingData} other */
const isOfTheSame = (one, other) => one.answer === other.answer && one.kind === other.kind;

/** @param {string} outcome */
const signOf = (outcome) => element("i", { class: `sign ${OUTCOMES[outcome].sign}`, "aria-hidden": "true" });

/**
 * What is made, and takes memory, only when it is asked for.
 * @param {(string | Node)[]} title
 * @param {() => Node[]} make
 */
function folding(title, make) {
  const node = element("details", { class: "folded" }, element("summary", {}, ...title));
  node.addEventListener("toggle", () => node.append(...make()), { once: true });
  return node;
}

/** How sure findings are, and of which answers. @param {Told[]} told */
function wordsOf(told) {
  return Object.entries(OUTCOMES).flatMap(([outcome, { degree }]) => {
    const same = told.filter(({ finding }) => finding.outcome === outcome);
    const names = element("bdi", { text: same.map(({ finding }) => className(finding.answer)).join(", ") });
    return same.length ? [element("span", {}, signOf(outcome), `${degree}: `, names)] : [];
  });
}

/** @param {Told} told */
function findingNode(told) {
  const { finding } = told;
  const line = element(
    "p",
    { class: "finding-text", dir: "auto" },
    signOf(finding.outcome),
    ...withDegree(finding.text, capitalised(OUTCOMES[finding.outcome].says)),
    element("span", { class: "aside", text: historyOf(told) }),
  );
  const said = `${className(finding.answer)}, ${OUTCOMES[finding.outcome].degree}`;
  const isFolded = RUNS >= MANY_RUNS && finding.outcome !== "cleared";
  const evidence = isFolded ? folding(["Counts and pictures"], () => [evidenceOf(told)]) : evidenceOf(told);
  return element("section", { class: `finding ${finding.outcome}`, "aria-label": said }, line, evidence);
}

/** @param {Told} told */
function evidenceOf(told) {
  const { areas, others } = told.finding;
  const left = others ? element("p", { class: "others", text: `and ${others} more` }) : null;
  const pictures = element("div", { class: "areas" }, ...areas.map((area) => tileOf(told, area)), left);
  pictures.style.setProperty("--tile", `${TILE}px`);
  pictures.style.setProperty("--thumb", `${THUMB}px`);
  return element("div", { class: "evidence" }, countsOf(told.finding), pictures);
}

/** What other tests found of the same; of a finding that the last test has not, when it was. @param {Told} told */
function historyOf({ run, test, finding }) {
  if (test !== lastTest(run)) return ` That was ${whenOf(test.step)}; the last test had no reason to look there.`;
  const others = run.tests
    .filter((other) => other !== test)
    .flatMap((other) =>
      other.findings
        .filter((each) => isOfTheSame(each, finding))
        .map((each) => `${OUTCOMES[each.outcome].degree} ${whenOf(other.step)}`),
    );
  return others.length ? ` Before that: ${others.join("; ")}.` : "";
}

/** @param {FindingData} finding */
function countsOf(finding) {
  const ofAnswers = ["Answers ", element("bdi", { text: className(finding.answer) }), " that change"];
  const ofOthers = ["Others that become ", element("bdi", { text: className(finding.answer) })];
  return element("div", { class: "counts" }, listOf(finding, COVERED, ofAnswers), listOf(finding, PASTED, ofOthers));
}

/** @param {FindingData} finding @param {Row[]} rows @param {(string | Node)[]} title */
function listOf({ counts }, rows, title) {
  const lines = rows
    .filter(({ name }) => counts[name])
    .map(({ name, text, isOfArea }) => {
      const [changed, of] = counts[name];
      const bar = element("i", { class: isOfArea ? "bar" : "bar control", "aria-hidden": "true" });
      bar.style.setProperty("--share", String(changed / of));
      const value = element("dd", {}, bar, element("b", { text: `${changed} of ${of}` }));
      return element("div", {}, element("dt", { text }), value);
    });
  if (lines.length === 0) return null;
  return element("div", {}, element("p", { class: "counted" }, ...title), element("dl", {}, ...lines));
}
