// @ts-check
/* How the heat looks, and the page. */

import { data, runs } from "./data.js";
import { buttonOf, byId, contextOf, element, inputOf, selectOf, setText } from "./dom.js";
import { number } from "./format.js";
import { GROUND, colourRow, mix } from "./heat.js";
import { drawDifferenceBar } from "./pinning.js";
import { state } from "./state.js";
import { schedule } from "./time.js";

/** Has everything drawn anew, as the settings now are. */
export function restyle() {
  mix();
  drawBar();
  drawDifferenceBar();
  state.version++;
  schedule();
}

function drawBar() {
  const canvas = byId("bar", HTMLCanvasElement);
  const context = contextOf(canvas);
  context.globalAlpha = 1;
  context.fillStyle = GROUND;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalAlpha = state.opacity;
  context.imageSmoothingEnabled = false;
  context.drawImage(colourRow(), 0, 0, canvas.width, canvas.height);
  const tops = [...new Set(runs.map((run) => run.highest))];
  const isShared = state.scale === "shared";
  const highest = tops.length === 1 ? `${number(tops[0])}, the highest of all` : "highest of each layer";
  setText(byId("bar-high"), isShared ? highest : "each map’s highest");
  const most = isShared ? "the largest maximum of all maps" : "each map’s own maximum";
  canvas.setAttribute("aria-label", `Colour bar, ${state.colormap}, from no evidence to ${most}`);
}

/** @param {number} value */
export function setOpacity(value) {
  state.opacity = Math.max(0, Math.min(1, value));
  const share = Math.round(100 * state.opacity);
  inputOf("opacity").value = String(share);
  inputOf("opacity").setAttribute("aria-valuetext", `${share} %`);
  restyle();
}

/** @param {string} scale "map" or "shared" */
export function setScale(scale) {
  state.scale = scale;
  for (const input of scaleInputs()) input.checked = input.value === scale;
  restyle();
}

/** @returns {NodeListOf<HTMLInputElement>} */
const scaleInputs = () => document.querySelectorAll("input[name=scale]");

export function fillSettings() {
  const choice = selectOf("colormap");
  choice.append(
    ...Object.keys(data.colormaps).map((name) => element("option", { value: name, text: name.toLowerCase() })),
  );
  choice.addEventListener("change", () => setColormap(choice.value));
  for (const input of scaleInputs()) input.addEventListener("change", () => setScale(input.value));
  inputOf("opacity").addEventListener("input", () => setOpacity(Number(inputOf("opacity").value) / 100));
  buttonOf("hide").addEventListener("click", () => setHidden(!state.isHidden));
  buttonOf("grey").addEventListener("click", () => setGrey(!state.isGrey));
  const options = buttonOf("options");
  options.addEventListener("click", () => {
    options.setAttribute("aria-expanded", String(byId("controls").classList.toggle("open")));
  });
  setOpacity(state.opacity);
}

/** @param {string} colormap one of the page's */
export function setColormap(colormap) {
  state.colormap = colormap;
  selectOf("colormap").value = colormap;
  restyle();
}

/** @param {boolean} isHidden */
export function setHidden(isHidden) {
  state.isHidden = isHidden;
  buttonOf("hide").setAttribute("aria-pressed", String(isHidden));
  restyle();
}

/** @param {boolean} isGrey */
export function setGrey(isGrey) {
  state.isGrey = isGrey;
  buttonOf("grey").setAttribute("aria-pressed", String(isGrey));
  restyle();
}

export function fillTheme() {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const theme = state.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = theme;
    byId("theme").setAttribute("aria-pressed", String(theme === "dark"));
  };
  dark.addEventListener("change", follow);
  byId("theme").addEventListener("click", () => {
    state.theme = root.dataset.theme === "dark" ? "light" : "dark";
    follow();
  });
  follow();
}
