// @ts-check
/* The note beside the pointer. */

import { byId, setText } from "./dom.js";

const tip = byId("tip");

/** @param {MouseEvent} event @param {string} text */
export function showTip(event, text) {
  setText(tip, text);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(window.innerWidth - width - 8, Math.max(8, event.clientX - width / 2));
  const top = event.clientY - height - 14 < 4 ? event.clientY + 18 : event.clientY - height - 14;
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  // A modal dialog lies over all that is outside of it.
  const host = (event.target instanceof Element && event.target.closest("dialog")) || byId("app");
  if (tip.parentNode !== host) host.append(tip);
}

export function hideTip() {
  tip.hidden = true;
}

/** Takes the tip out of a dialog that closes. */
export function freeTip() {
  hideTip();
  byId("app").append(tip);
}
