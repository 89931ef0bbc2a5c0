// Which generation answers, how old it is, and whether another is live by now.

import { byId, el } from "./dom.js";
import { age, count } from "./words.js";

const LOOK_MS = 30_000;
const LOOK_WHILE_NONE_MS = 5_000;

export const NOTHING_KNOWN = { corpus: "", live: null, generations: [], filters: {}, modes: [], limits: {}, tenant: null };

/** Seconds since a release, now; null where that is not known. */
function ageOf(generation, heardAt) {
  return generation?.age_s === null || generation?.age_s === undefined ? null : generation.age_s + (Date.now() - heardAt) / 1000;
}

/** The line beside the title. */
export function renderGeneration(info, heardAt, lost) {
  const line = byId("generation");
  const live = info.generations.find((one) => one.name === info.live);
  const since = ageOf(live, heardAt);
  line.hidden = info === NOTHING_KNOWN;
  line.classList.toggle("lost", lost || !info.live);
  line.replaceChildren(el("span", { class: "dot", "aria-hidden": "true" }),
    ...(info.live
      ? [el("span", {}, el("span", { class: "unseen" }, "Generation "), el("code", {}, info.live)),
        el("span", { class: "dim" }, [since === null ? "live" : `live since ${age(since)}`, live?.rows && count(live.rows, "chunk"),
          info.tenant && `tenant ${info.tenant}`, lost && "not reached just now"].filter(Boolean).join(" · "))]
      : [el("span", {}, "nothing is live")]));
}

/** Fills a <select> with the live generation and each one by name. */
export function fillGenerations(select, info, heardAt, chosen) {
  const named = info.generations.map((one) => {
    const since = ageOf(one, heardAt);
    const told = one.live ? "live" : since === null ? "not released" : `released ${age(since)} ago`;
    return [one.name, `${one.name} (${told})`];
  });
  if (chosen && !named.some(([name]) => name === chosen)) named.push([chosen, `${chosen} (not there)`]);
  select.replaceChildren(el("option", { value: "" }, "live"), ...named.map(([name, text]) => el("option", { value: name }, text)));
  select.value = chosen ?? "";
}

/** Looks again and again while somebody looks at the page. `look()` fetches; `none()`: nothing is live yet. */
export function keepLooking(look, none) {
  let last = Date.now();
  const due = () => Date.now() - last >= (none() ? LOOK_WHILE_NONE_MS : LOOK_MS);
  const perhaps = () => {
    if (document.hidden || !due()) return;
    last = Date.now();
    look();
  };
  setInterval(perhaps, 1_000);
  document.addEventListener("visibilitychange", perhaps);
}
