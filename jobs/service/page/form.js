// The search form: shows a question and says what a user changed of it. Knows nothing of asking.

import { otherMode } from "./address.js";
import { byId } from "./dom.js";
import { fillGenerations } from "./generations.js";
import { toQuery } from "./keys.js";

const SWITCHES = ["exact", "group", "explain"];
const modes = () => document.querySelectorAll("input[name=mode]");

/** Shows a question. `info` and `heardAt`: what is known of generations. */
export function fillForm(question, info, heardAt) {
  byId("query").value = question.query;
  byId("k").value = question.k;
  if (info.limits.k) byId("k").max = info.limits.k;
  for (const input of modes()) {
    input.checked = input.value === question.mode;
    input.disabled = info.modes.length > 0 && !info.modes.includes(input.value);
  }
  for (const name of SWITCHES) byId(name).checked = question[name];
  fillGenerations(byId("pinned"), info, heardAt, question.generation);
  byId("compare").setAttribute("aria-pressed", String(question.compare !== null));
  const comparing = question.compare !== null && question.query !== "";
  byId("modes").hidden = byId("generation-field").hidden = comparing; // each side has its own
  document.body.classList.toggle("comparing", comparing);
  document.title = [question.query, info.corpus, "Backhaul"].filter(Boolean).join(" · ");
}

export const typedQuery = () => byId("query").value.trim();

/** Whether what is in the form can be asked; it says where not. */
export function isAskable() {
  if (!byId("k").checkValidity()) showOptions(true);
  return byId("k").reportValidity();
}

/** Options take more room than a telephone has to spare; elsewhere they are always there. */
function showOptions(open) {
  byId("options").classList.toggle("open", open);
  byId("options-button").setAttribute("aria-expanded", String(open));
}

/** `change(part)` of a question; `question()` is the one there is. Returns what switches the comparison, where there is something
 * to compare. */
export function listenToForm({ change, question }) {
  const compare = () => {
    const { compare: comparing, mode, generation, query } = question();
    if (!query) return false;
    change({ compare: comparing ? null : { mode: otherMode(mode), generation } });
    return true;
  };
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    if (typedQuery()) change({});
    else toQuery();
  });
  for (const input of modes()) input.addEventListener("change", () => change({ mode: input.value }));
  for (const name of SWITCHES) byId(name).addEventListener("change", (event) => change({ [name]: event.target.checked }));
  byId("k").addEventListener("change", (event) => change({ k: event.target.valueAsNumber }));
  byId("pinned").addEventListener("change", (event) => change({ generation: event.target.value || null }));
  byId("compare").addEventListener("click", compare);
  byId("options-button").addEventListener("click", () => showOptions(!byId("options").classList.contains("open")));
  return compare;
}
