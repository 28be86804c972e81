// @ts-check
/* The page: fills it, watches it, and draws each frame. */

import { recall, remember } from "./address.js";
import { plots } from "./chart.js";
import { RUNS, nameOf, steps } from "./data.js";
import { byId, inputOf, setText } from "./dom.js";
import { fillEvents } from "./events.js";
import { arrange, fillFilters } from "./filters.js";
import {
  cards,
  describeGroup,
  drawGroup,
  fillGrid,
  groupAt,
  groups,
  measureCells,
  updateCard,
  updateGroup,
  visible,
} from "./grid.js";
import { fillHead } from "./head.js";
import { mix, photographs } from "./heat.js";
import { fillHelp } from "./help.js";
import { watchKeys } from "./keys.js";
import { drawLarge, fillDialog, openLarge } from "./large.js";
import { fillLink } from "./link.js";
import { fillSettings, fillTheme } from "./looks.js";
import { describeMeans, drawMeans } from "./means.js";
import { announce, fillMetrics, tellMetrics } from "./metrics.js";
import { fillCharts } from "./overview.js";
import { fillPinning, showPin, showSize } from "./pinning.js";
import { fillPointing } from "./pointing.js";
import { fillPrinting } from "./printing.js";
import { fillSaving } from "./saving.js";
import { fillShown } from "./shown.js";
import { onSpark } from "./spark.js";
import { state, stepNow } from "./state.js";
import { areWordsDue, drawWith, fillTime, schedule, settle } from "./time.js";
import { fillZooming } from "./zooming.js";

// From so many cells on, canvases out of sight give their memory back.
const CROWD = 120;

/** Draws the step that is shown. */
function render() {
  const name = nameOf(stepNow());
  for (const [slider, now] of [
    ["epoch", "now"],
    ["large-epoch", "large-now"],
  ]) {
    inputOf(slider).value = String(state.at);
    inputOf(slider).setAttribute("aria-valuetext", name);
    inputOf(slider).style.setProperty("--done", String(steps.length > 1 ? state.at / (steps.length - 1) : 1));
    setText(byId(now), name);
  }
  const hasWords = areWordsDue();
  if (hasWords) tellMetrics();
  if (state.large === null) {
    for (const group of visible) drawGroup(group, hasWords);
    drawMeans(hasWords);
    if (hasWords) for (const card of cards) updateCard(card);
  } else {
    drawLarge();
    // The grid is seen around the dialog: what has not been drawn yet is not left blank.
    for (const group of visible) if (group.drawn === "") drawGroup(group);
  }
  for (const plot of plots) plot.update(hasWords);
  settle();
}

/** Says all that the frames of a play left out. */
function rest() {
  for (const group of groups) {
    updateGroup(group);
    describeGroup(group);
  }
  for (const card of cards) updateCard(card);
  for (const plot of plots) plot.update();
  tellMetrics();
  arrange();
  describeMeans();
  announce();
  remember();
}

function watchSight() {
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const group = groupAt(entry.target);
        if (entry.isIntersecting) {
          visible.add(group);
          continue;
        }
        visible.delete(group);
        if (groups.length * RUNS <= CROWD) continue;
        for (const { canvas } of group.cells) canvas.width = canvas.height = 1;
        group.drawn = "";
      }
      schedule();
    },
    { rootMargin: "240px 0px" },
  );
  for (const group of groups) observer.observe(group.node);
}

function watch() {
  watchKeys();
  watchSight();
  const grid = byId("probes");
  for (const kind of /** @type {const} */ (["click", "pointermove", "pointerleave"])) {
    grid.addEventListener(kind, onSpark);
  }
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--sticky", `${byId("controls").offsetHeight}px`);
    measureCells();
  }).observe(grid);
  window.addEventListener("resize", () => {
    measureCells();
    if (state.large !== null) schedule();
  });
  // What is not drawn anew, such as a search, changes the address as well.
  document.addEventListener("input", settle);
  window.addEventListener("hashchange", () => {
    // The link that skips to the pictures says nothing of what is shown.
    if (document.getElementById(location.hash.slice(1)) === null) recall();
  });
  for (const image of photographs) {
    image.addEventListener("load", () => {
      state.version++;
      schedule();
    });
  }
}

function start() {
  drawWith(render, rest);
  fillTheme();
  mix();
  byId("app").hidden = false;
  fillHead();
  fillCharts();
  fillEvents();
  fillGrid(openLarge);
  fillFilters();
  fillTime();
  fillMetrics();
  fillPinning();
  fillSettings();
  fillDialog();
  fillHelp();
  fillLink();
  fillPointing();
  fillPrinting();
  fillSaving();
  fillZooming();
  fillShown();
  arrange();
  watch();
  for (const plot of plots) plot.draw();
  measureCells();
  showPin();
  showSize();
  recall();
  for (const group of groups) describeGroup(group);
  state.announced = state.at; // what is there when the page opens is read anyway
  render();
}

start();
