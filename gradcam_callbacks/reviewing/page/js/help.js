// @ts-check
/* The help, and what it shares with the other dialog. */

import { data } from "./data.js";
import { byId, element } from "./dom.js";
import { OUTCOMES, VERDICTS } from "./verdicts.js";

const help = byId("help", HTMLDialogElement);

export const isHelpOpen = () => help.open;

export function openHelp() {
  const before = document.activeElement;
  help.showModal();
  byId("help-close").focus();
  help.addEventListener("close", () => before instanceof HTMLElement && before.focus(), { once: true });
}

/** A word and what it means. @param {string} word @param {string} sign @param {string} says */
function meaning(word, sign, says) {
  const mark = element("i", { class: `sign ${sign}`, "aria-hidden": "true" });
  return element("div", {}, element("dt", {}, mark, word), element("dd", { text: `${says}.` }));
}

export function fillHelp() {
  byId("words").append(
    ...Object.entries(VERDICTS).map(([word, says]) => meaning(word, word, says)),
    ...Object.values(OUTCOMES).map(({ degree, sign, says }) => meaning(degree, sign, says)),
  );
  byId("measures").append(
    ...Object.entries(data.measures).map(([name, { title, says }]) => {
      const sign = element("i", { class: `sign of-${name}`, "aria-hidden": "true" });
      return element("div", {}, element("dt", {}, sign, title), element("dd", { text: `${says}.` }));
    }),
  );
  byId("help-open").addEventListener("click", openHelp);
  byId("help-close").addEventListener("click", () => help.close());
  for (const box of [byId("large", HTMLDialogElement), byId("link", HTMLDialogElement), help]) {
    box.addEventListener("click", (event) => {
      if (event.target === box) box.close(); // on the backdrop
    });
    box.addEventListener("keydown", (event) => {
      if (event.key === "Tab") keepFocus(box, event);
    });
  }
}

/**
 * Goes on at the other end where Tab would leave the dialog.
 * @param {HTMLDialogElement} box
 * @param {KeyboardEvent} event
 */
function keepFocus(box, event) {
  /** @type {NodeListOf<HTMLButtonElement>} */
  const nodes = box.querySelectorAll("button, input, select, summary, [tabindex='0']");
  const all = [...nodes].filter((node) => !node.disabled && node.tabIndex >= 0 && node.offsetParent !== null);
  const [first, last] = [all[0], all[all.length - 1]];
  const now = document.activeElement;
  const isOut = now === (event.shiftKey ? first : last) || now === box || !box.contains(now);
  if (!isOut) return;
  event.preventDefault();
  (event.shiftKey ? last : first).focus();
}
