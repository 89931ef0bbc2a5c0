// What stands under the search: hits of one side or two, why there are none, and what to do then.

import { el } from "./dom.js";
import { compared } from "./comparing.js";
import { hitList } from "./hits.js";
import { count } from "./words.js";

/** A node of one or two sides. `tools`: what cards need (hits.js), `problem(error)`, `choices(side)` and `lessFilters`. */
export function resultsOf(sides, question, tools) {
  if (sides.length === 1) return el("div", {}, el("h2", { class: "unseen" }, "Hits"), sideOf(sides[0], question, tools));
  const heard = sides.every((side) => side.answer);
  const common = heard ? compared(sides[0].hits, sides[1].hits) : null;
  const node = el("div", { class: "columns" }, sides.map((side) =>
    el("section", { class: "column", "aria-label": `Side ${side.label}` },
      el("header", {}, el("h2", {}, el("span", { class: "unseen" }, "Side "), el("span", { class: "letter" }, side.label)), tools.choices(side)),
      sideOf(side, question, { ...tools, standing: common?.at(side.label) }))));
  twins(node);
  return node;
}

function sideOf(side, question, tools) {
  const { linkTo, open, types, narrow, standing, problem } = tools;
  const name = side.answer ? `Hits, ${side.mode}` : "Hits";
  const parts = [];
  if (side.answer && side.hits.length) {
    parts.push(hitList(side.hits, { name, mode: side.mode, explain: question.explain, linkTo: (hit) => linkTo(hit, side), open: (hit, link) => open(hit, side, link), types, narrow, standing }));
  }
  if (side.error) parts.push(problem(side.error, side));
  else if (!side.hits.length) parts.push(nothingFound(side, question, tools));
  return parts;
}

function nothingFound(side, question, { lessFilters, otherwise }) {
  const filtered = Object.keys(question.filters).length > 0;
  const which = filtered ? "No chunk that meets all filters" : "No chunk";
  const why = side.mode === "lexical"
    ? `${which} has a word of the query. Lexical search compares words by their stems; vector search finds what means something near.`
    : filtered ? "No chunk meets all filters." : "This generation has no chunk that you may see.";
  return el("div", { class: "panel empty" }, el("h2", {}, "No hits"), el("p", {}, why),
    el("div", { class: "row" },
      filtered && el("button", { type: "button", class: "primary", onclick: lessFilters }, "Search without filters"),
      side.mode === "lexical" && !question.compare && el("button", { type: "button", class: filtered ? "quiet" : "primary", onclick: otherwise }, "Search by meaning")));
}

/** Before a question: what there is to ask. */
export function introduction(info) {
  const live = info.generations.find((generation) => generation.live);
  if (!info.live) {
    return el("div", { class: "panel empty" }, el("h2", {}, "No generation is live yet"),
      el("p", {}, "Searches answer from a generation that was verified and released. ", el("code", {}, "backhaul run CONF"),
        " makes one, ", el("code", {}, "backhaul list CONF"), " shows those that there are. This page sees it within seconds."),
      info.generations.length > 0 && el("p", {}, "To search one that is not live, choose it under Generation."));
  }
  return el("div", { class: "intro" },
    el("p", {}, live?.rows ? `${count(live.rows, "chunk")} to ask, with words or with a sentence.` : "Ask with words or with a sentence."),
    el("p", { class: "dim" }, el("b", {}, "Lexical"), " search finds words, ", el("b", {}, "vector"), " search finds meaning, ", el("b", {}, "hybrid"),
      " fuses both. ", el("b", {}, "Compare"), " shows two of them, or two generations, side by side."));
}

/** The hit that both sides have is marked on both while one of them is pointed at or has the focus. */
function twins(node) {
  const mark = (event) => {
    const id = event.type === "mouseleave" || event.type === "focusout" ? null : event.target.closest?.(".hit")?.dataset.id;
    for (const hit of node.querySelectorAll(".hit")) hit.classList.toggle("twin", hit.dataset.id === id);
  };
  for (const kind of ["mouseover", "mouseleave", "focusin", "focusout"]) node.addEventListener(kind, mark);
}

/** "First 10 hits in 12 ms": of a side. */
export function told(side, took) {
  return `${side.answer.cursor ? "First " : ""}${count(side.hits.length, "hit")} in ${took}`;
}
