// @ts-check
/* The link to what is shown, to be copied. */

import { fragment } from "./address.js";
import { byId, element, inputOf, setText } from "./dom.js";

const linkBox = byId("link", HTMLDialogElement);

/** The address of the page with what is shown; of a page that has none, such as in a frame, only what is shown. */
function linkNow() {
  const [page] = location.href.split("#");
  return `${/^(https?|file):/.test(page) ? page : ""}#${fragment()}`;
}

/** Copies the link, or shows it where that is not allowed or would lead nowhere. */
export async function copyLink() {
  const link = linkNow();
  const isWhole = !link.startsWith("#");
  if (isWhole && (await hasCopied(link))) {
    for (const button of buttons()) flash(button);
    setText(byId("live"), "link copied");
    return;
  }
  byId("link-whole").hidden = !isWhole;
  byId("link-part").hidden = isWhole;
  linkBox.showModal();
  inputOf("link-text").value = link;
  inputOf("link-text").select();
}

/** @returns {NodeListOf<HTMLButtonElement>} */
const buttons = () => document.querySelectorAll("button.copy-link");

/** @param {HTMLButtonElement} button */
function flash(button) {
  setText(button, "Copied");
  setTimeout(() => setText(button, "Copy link"), 1600);
}

/** @param {string} text */
async function hasCopied(text) {
  if (window.self !== window.top) return hasCopiedSelection(text); // a frame may not use the clipboard otherwise
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return hasCopiedSelection(text);
  }
}

/** The way of older browsers, and of pages that may not use the clipboard. @param {string} text */
function hasCopiedSelection(text) {
  const held = document.activeElement;
  const host = document.querySelector("dialog[open]") ?? byId("app");
  const field = element("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1", readonly: true });
  field.value = text;
  host.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (held instanceof HTMLElement) held.focus({ preventScroll: true });
  return isCopied;
}

export function fillLink() {
  for (const button of buttons()) button.addEventListener("click", copyLink);
  byId("link-close").addEventListener("click", () => linkBox.close());
}
