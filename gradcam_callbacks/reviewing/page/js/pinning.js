// @ts-check
/* The controls of the pin. */

import { RUNS, data, nameOf, runs, shareOf, steps } from "./data.js";
import { buttonOf, byId, contextOf, element, inputOf, joined, selectOf, setText } from "./dom.js";
import { layCells } from "./grid.js";
import { GROUND, colourRow, differenceOpacity } from "./heat.js";
import { state, stepNow } from "./state.js";
import { schedule } from "./time.js";

/** @typedef {NonNullable<typeof state.pin>} Pin */

const BESIDE = ["both", "picture", "difference"];

/** Pins the step shown, or takes the pin away. */
export const togglePin = () => setPin(state.pin === null ? { step: stepNow(), run: null } : null);

/** Goes on to the next of what may stand beside: both, the picture, the difference. */
export const turnBeside = () => setBeside(BESIDE[(BESIDE.indexOf(state.beside) + 1) % BESIDE.length]);

/** @param {string} beside "both", "picture" or "difference" */
export function setBeside(beside) {
  state.beside = beside;
  showPin();
}

/** @param {Pin | null} pin */
export function setPin(pin) {
  const isSame = pin === state.pin;
  state.pin = pin;
  showPin();
  if (!isSame) setText(byId("live"), pin === null ? "nothing pinned" : `${pinName(pin)} pinned`);
}

/** @param {Pin} pin */
const pinName = ({ step, run }) =>
  joined([run === null ? "" : runs[run].name, step === null ? "the step shown" : nameOf(step)]);

/** Shows the pin in all controls, and has the page drawn anew. */
export function showPin() {
  const { pin, beside } = state;
  for (const id of ["pin", "large-pin"]) {
    buttonOf(id).setAttribute("aria-pressed", String(pin !== null));
    const title = pin === null ? "Keep this step beside the others (c)" : `${pinName(pin)} is pinned; let it go (c)`;
    buttonOf(id).title = title;
  }
  selectOf("pin-step").value = pin === null ? "" : String(pin.step ?? "now");
  if (RUNS > 1) selectOf("pin-run").value = pin?.run === null || pin === null ? "own" : String(pin.run);
  selectOf("beside").value = beside;
  byId("beside-group").hidden = pin === null;
  byId("difference-legend").hidden = beside === "picture";
  drawDifferenceBar();
  const root = document.documentElement;
  const held = pin?.step ?? null;
  root.toggleAttribute("data-held", held !== null);
  if (held !== null) root.style.setProperty("--held", String(shareOf(held)));
  byId("pin-mark").toggleAttribute("hidden", held === null);
  const place = held === null ? 0 : steps.indexOf(held);
  byId("pin-mark").style.setProperty("--place", String(steps.length > 1 ? place / (steps.length - 1) : 0.5));
  layCells();
  state.version++;
  schedule();
}

export function drawDifferenceBar() {
  const canvas = byId("difference-bar", HTMLCanvasElement);
  const context = contextOf(canvas);
  context.globalAlpha = 1;
  context.fillStyle = GROUND;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalAlpha = differenceOpacity();
  context.imageSmoothingEnabled = false;
  context.drawImage(colourRow(true), 1, 0, 255, 1, 0, 0, canvas.width, canvas.height);
}

export function fillPinning() {
  const step = selectOf("pin-step");
  step.append(
    element("option", { value: "", text: "nothing pinned" }),
    ...(RUNS > 1 ? [element("option", { value: "now", text: `${data.unit} shown` })] : []),
    ...steps.map((each) => element("option", { value: String(each), text: nameOf(each) })),
  );
  const run = selectOf("pin-run");
  run.hidden = RUNS === 1;
  run.append(
    element("option", { value: "own", text: "of each run itself" }),
    ...runs.map((each) => element("option", { value: String(each.number), text: `of ${each.name}` })),
  );
  step.addEventListener("change", () => choosePin(step.value, run.value, true));
  run.addEventListener("change", () => choosePin(step.value, run.value, false));
  selectOf("beside").addEventListener("change", () => setBeside(selectOf("beside").value));
  for (const id of ["pin", "large-pin"]) buttonOf(id).addEventListener("click", togglePin);
  const size = inputOf("size");
  size.addEventListener("input", () => setSize(Number(size.value)));
}

/**
 * What the two choices come to. The step shown is pinned of another run only, and that run stands beside already.
 * @param {string} step
 * @param {string} run
 * @param {boolean} isStepChosen whether it was the step that was changed last
 */
function choosePin(step, run, isStepChosen) {
  if (step === "" && isStepChosen) {
    setPin(null);
    return;
  }
  const isNow = step === "now" || step === "";
  const other = run === "own" ? (isNow && isStepChosen ? 0 : null) : Number(run);
  if (isNow && other === null) {
    setPin(step === "" ? null : { step: stepNow(), run: null });
    return;
  }
  if (isNow && state.pin === null) state.beside = "difference";
  setPin({ step: isNow ? null : Number(step), run: other });
}

/** @param {number | null} size of cells, in pixels */
export function setSize(size) {
  state.size = size;
  layCells();
  showSize();
}

/** Shows how wide cells are. */
export function showSize() {
  const width = Math.round(parseFloat(getComputedStyle(byId("probes")).getPropertyValue("--cell")));
  inputOf("size").value = String(width);
  inputOf("size").setAttribute("aria-valuetext", `${width} pixels`);
}
