// What two sides of a comparison have in common, and where each has it.

import { el } from "./dom.js";
import { count } from "./words.js";

/** Of two lists of hits: `both`, how many of A's are in B; `at(side)(hit)`, a node that says where the other side has it. */
export function compared(a, b) {
  const sides = { A: a, B: b };
  const places = Object.fromEntries(Object.entries(sides).map(([side, hits]) => [side, placesOf(hits)]));
  return {
    both: a.filter((hit) => places.B.ids.has(hit.id)).length,
    documents: a.filter((hit) => !places.B.ids.has(hit.id) && places.B.documents.has(hit.document_id)).length,
    same: a.length === b.length && a.every((hit, index) => hit.id === b[index].id),
    at: (side) => {
      const other = side === "A" ? "B" : "A";
      const own = new Map(sides[side].map((hit, index) => [hit.id, index + 1]));
      return (hit) => standing(hit, own.get(hit.id), other, places[other], side);
    },
  };
}

function placesOf(hits) {
  const documents = new Map();
  hits.forEach((hit, index) => documents.has(hit.document_id) || documents.set(hit.document_id, index + 1));
  return { ids: new Map(hits.map((hit, index) => [hit.id, index + 1])), documents };
}

function standing(hit, rank, other, places, side) {
  const there = places.ids.get(hit.id);
  if (there !== undefined) {
    return el("p", { class: "standing both" }, el("b", {}, "In both"), ` · ${other} has it at #${there} `, moved(rank - there, other));
  }
  const document = places.documents.get(hit.document_id);
  if (document !== undefined) {
    return el("p", { class: "standing near" }, el("b", {}, `Chunk in ${side} alone`), ` · ${other} has another of its document at #${document}`);
  }
  return el("p", { class: "standing alone" }, el("b", {}, `In ${side} alone`));
}

/** `by`: places that the other side has it higher. */
function moved(by, other) {
  if (by === 0) return el("span", { class: "dim" }, "(same rank)");
  const words = `${count(Math.abs(by), "place")} ${by > 0 ? "higher" : "lower"} in ${other}`;
  return el("span", { class: by > 0 ? "up" : "down", title: words },
    el("span", { "aria-hidden": "true" }, `${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`), el("span", { class: "unseen" }, words));
}

export function comparison({ both, documents, same }, a, b) {
  if (same && a.length) return `Both sides have the same ${count(a.length, "hit")} in the same order.`;
  const near = documents ? `, ${count(documents, "more document")} by different chunks` : "";
  return `${count(both, "hit")} in both${near}; ${a.length - both} in A alone, ${b.length - both} in B alone.`;
}
