// The keyboard: hits are walked, opened and compared without a mouse. Keys of one letter can be switched off.

import { byId } from "./dom.js";
import { kept } from "./kept.js";

const off = kept(() => localStorage, "backhaul.keys-off");
const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
const SIDES = { h: 0, ArrowLeft: 0, l: 1, ArrowRight: 1 };

export function listenToKeys({ compare }) {
  const dialog = byId("keys");
  const on = byId("keys-on");
  on.checked = off.get() === null;
  on.addEventListener("change", () => (on.checked ? off.forget() : off.set("1")));
  byId("keys-button").addEventListener("click", () => dialog.showModal());
  byId("keys-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const { key, target } = event;
    if (target === byId("query")) {
      if (key === "ArrowDown") done(event, walk(1));
      else if (key === "Escape" && target.value === "") done(event, target.blur() ?? true);
      return;
    }
    if (target.closest("input:not([type=checkbox], [type=radio]), textarea, select")) return;
    if (target.matches("input[type=radio]") && key.startsWith("Arrow")) return;
    if (document.querySelector("dialog[open]") || (key.length === 1 && !on.checked)) return;
    if (key in STEPS) done(event, walk(STEPS[key]));
    else if (key in SIDES) done(event, cross(SIDES[key]));
    else if (key === "/") done(event, toQuery());
    else if (key === "o") done(event, focused()?.querySelector(".title").click() ?? focused() !== null);
    else if (key === "c") done(event, compare());
    else if (key === "?") done(event, dialog.showModal() ?? true);
  });
}

function done(event, was) {
  if (was) event.preventDefault();
}

export function toQuery() {
  byId("query").focus();
  byId("query").select();
  return true;
}

const focused = () => document.activeElement.closest(".hit");

function reach(hit) {
  if (!hit) return false;
  hit.querySelector(".title").focus({ preventScroll: true });
  hit.scrollIntoView({ block: "nearest" });
  return true;
}

/** To the next hit or the one before, in the column where the focus is; the query is before the first. */
function walk(step) {
  const now = focused();
  const list = now?.closest(".hits") ?? document.querySelector(".hits");
  if (!list) return false;
  const hits = [...list.querySelectorAll(".hit")];
  const next = hits.indexOf(now) + step;
  if (now && next < 0) return toQuery();
  return reach(hits[now ? Math.min(next, hits.length - 1) : 0]);
}

/** To the same hit of the other column, or else its neighbour at that height. */
function cross(side) {
  const now = focused();
  const columns = [...document.querySelectorAll(".column")];
  if (!now || columns.length < 2 || now.closest(".column") === columns[side]) return false;
  const hits = [...columns[side].querySelectorAll(".hit")];
  const rank = [...now.closest(".hits").querySelectorAll(".hit")].indexOf(now);
  return reach(hits.find((hit) => hit.dataset.id === now.dataset.id) ?? hits[Math.min(rank, hits.length - 1)]);
}
