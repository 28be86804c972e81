// @ts-check
/* What is shown and what goes on: all that changes, but for the elements themselves. */

import { data, steps } from "./data.js";

export const state = {
  /** The place of the step shown among all steps. */
  at: steps.length - 1,
  /** The numbers of the runs that are not shown. @type {Set<number>} */
  away: new Set(),
  isPlaying: false,
  isHidden: false,
  /** Whether h is held, which hides the heat as well. */
  isHeld: false,
  isGrey: false,
  /** @type {string} "map" or "shared" */
  scale: "map",
  /**
   * What stands beside the step shown: a step, or null for the one shown; of a run, or null for each run's own.
   * @type {{ step: number | null, run: number | null } | null}
   */
  pin: null,
  /** What of the pin is shown: "picture", "difference" or "both". */
  beside: "both",
  /** How wide cells are, in pixels; null where the page chooses. @type {number | null} */
  size: null,
  colormap: Object.keys(data.colormaps)[0],
  opacity: data.opacity,
  /** @type {string | null} "light", "dark", or what the system prefers */
  theme: null,
  /** Which probe and target are shown large. @type {{ n: number, k: number } | null} */
  large: null,
  /** Which part of its pictures is shown. @type {import("./zoom.js").Zoom} */
  zoom: { scale: 1, x: 0.5, y: 0.5 },
  /** How the probes are grouped: one of `GROUPINGS`. */
  grouping: "none",
  /** The keys of the groups of which only the mean is shown, or "all". @type {Set<string>} */
  stacked: new Set(),
  /** The probes that match the filters, in the order in which they are shown. @type {number[]} */
  order: [],
  /** The kinds of events that are hidden. @type {Set<string>} */
  hiddenKinds: new Set(),
  /** The size of a cell's canvas. */
  cell: { width: 0, height: 0 },
  /** Counts what makes every drawing stale, such as another colour map. */
  version: 0,
  /** Whether a frame has been asked for. */
  isScheduled: false,
  /** When the last step of a play was shown, and when numbers were last written, in milliseconds. */
  playedAt: 0,
  wroteAt: 0,
  /** The timer that waits for a pause. */
  resting: 0,
  /** The place of the step that was last said to a screen reader. */
  announced: -1,
};

/** What the page opens with. */
export const initial = { ...state };

export const stepNow = () => steps[state.at];
export const isHeatShown = () => !(state.isHidden || state.isHeld);
