// Hits of one answer as cards. Knows nothing of asking.

import { el, svg, uriOf } from "./dom.js";
import { nameOf } from "./filters.js";
import { excerpt, length, marked } from "./spans.js";
import { capital, score, value } from "./words.js";

const SOURCES = ["lexical", "vector"];

/** The list of a side.
 *
 * `mode` of the search, and `explain`: whether to show sources. `linkTo(hit)`: address of its document. `open(hit, link)`: show it here.
 * `types` of the fields that can be filtered by; `narrow(field, value)` adds such a filter. `standing(hit)`: a node that says
 * where the other side of a comparison has it, or null.
 */
export function hitList(hits, { name, mode, explain, ...rest }) {
  const asked = SOURCES.filter((source) => mode === "hybrid" || source === mode);
  const best = Object.fromEntries(SOURCES.map((source) =>
    [source, Math.max(0, ...hits.map((hit) => hit.sources?.[source]?.score ?? 0))]));
  return el("ol", { class: "hits", "aria-label": name },
    hits.map((hit, index) => el("li", {}, card(hit, index + 1, { explained: explain ? (one) => sources(one, asked, best) : null, ...rest }))));
}

function card(hit, rank, { explained, linkTo, open, types, narrow, standing }) {
  const title = el("a", { class: "title", href: linkTo(hit), dir: "auto" }, hit.title || hit.document_id);
  title.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    open(hit, title);
  });
  return el("article", { class: "hit", "data-id": hit.id, "data-document": hit.document_id },
    el("header", {},
      el("span", { class: "rank", "aria-hidden": "true" }, rank),
      el("h3", {}, el("span", { class: "unseen" }, `${rank}. `), title),
      el("span", { class: "score", title: "Score" }, el("span", { class: "unseen" }, "score "), score(hit.score))),
    standing?.(hit),
    text(hit),
    facts(hit, types, narrow),
    explained?.(hit));
}

function text(hit) {
  const cut = excerpt(hit.text, hit.highlights);
  if (!cut) return el("p", { class: "text", dir: "auto" }, marked(hit.text, hit.highlights));
  const [start, end] = cut;
  const shown = el("p", { class: "text", dir: "auto" });
  const more = el("button", { type: "button", class: "link" });
  const draw = (whole) => {
    const parts = whole ? marked(hit.text, hit.highlights) : marked(hit.text, hit.highlights, start, end);
    shown.replaceChildren(!whole && start > 0 ? "… " : "", ...parts, !whole && end < length(hit.text) ? " … " : " ", more);
    shown.classList.toggle("whole", whole);
    more.textContent = whole ? "Excerpt" : "Whole chunk";
    more.setAttribute("aria-expanded", String(whole));
  };
  more.addEventListener("click", () => {
    draw(more.getAttribute("aria-expanded") !== "true");
    more.focus(); // it was taken out and put back
  });
  draw(false);
  return shown;
}

/** Document type, date, metadata, id and uri; what can be filtered by is a button that does. */
function facts(hit, types, narrow) {
  const fields = [["doc_type", hit.doc_type], ["date", hit.date],
    ...Object.entries(hit.metadata ?? {}).map(([name, of]) => [`metadata.${name}`, of])];
  const list = fields.filter(([, of]) => of !== null && of !== undefined && of !== "").map(([field, of]) =>
    el("div", {}, el("dt", {}, nameOf(field)), el("dd", {}, fact(field, value(of), types[field], narrow))));
  return el("dl", { class: "facts" }, list,
    el("div", {}, el("dt", {}, "chunk"), el("dd", {}, hit.ordinal + 1)),
    el("div", {}, el("dt", {}, "id"), el("dd", {}, el("code", {}, hit.document_id))),
    hit.uri && el("div", { class: "wide" }, el("dt", { class: "unseen" }, "uri"), el("dd", {}, uriOf(hit.uri))));
}

function fact(field, of, type, narrow) {
  if (!["keyword", "boolean"].includes(type)) return el("span", { dir: "auto" }, of);
  const only = `Only hits with ${nameOf(field)} ${of}`;
  return el("button", { type: "button", class: "value", title: only, "aria-label": only, dir: "auto", onclick: () => narrow(field, of) }, of);
}

/** `asked`: the sources of the search; `best`: the highest score of each among the hits. */
function sources(hit, asked, best) {
  const rows = asked.map((source) => {
    const place = hit.sources?.[source];
    if (!place) return el("tr", { class: "dim" }, el("th", { scope: "row" }, capital(source)), el("td", { colspan: 3 }, "not among its candidates"));
    const { rank, score: of } = place;
    return el("tr", {}, el("th", { scope: "row" }, capital(source)), el("td", { class: "n" }, `#${rank}`), el("td", { class: "n" }, score(of)),
      el("td", { class: "bar" }, bar(source, best[source] > 0 ? of / best[source] : 0)));
  });
  return el("table", { class: "sources" },
    el("caption", { class: "unseen" }, "Rank and score by source; bars compare the scores of a source among these hits"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Source"), el("th", { scope: "col", class: "n" }, "Rank"),
      el("th", { scope: "col", class: "n" }, "Score"), el("td"))),
    el("tbody", {}, rows));
}

function bar(source, share) {
  const width = Math.min(100, Math.max(1, share * 100)).toFixed(1);
  return svg("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true", class: source },
    svg("rect", { class: "rail", width: 100, height: 6, rx: 1 }), svg("rect", { class: "fill", width, height: 6, rx: 1 }));
}
