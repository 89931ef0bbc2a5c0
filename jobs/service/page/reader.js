// A document, all chunks of it in order, the hit's marked. A dialog: what is behind it waits.

import { byId, el, uriOf } from "./dom.js";
import { nameOf } from "./filters.js";
import { length, marked } from "./spans.js";
import { count, value, whole } from "./words.js";

/** `hit`: whose document it is, if that is known; its chunk's id else. `problem(error, again)` makes a node of an error. */
export function reader({ get, problem, closed }) {
  const dialog = byId("document");
  let controller = null;

  dialog.addEventListener("close", () => {
    controller?.abort();
    dialog.replaceChildren();
    closed();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it

  async function show({ id, chunk, generation, tenant }, hit) {
    controller?.abort();
    controller = new AbortController();
    const { signal } = controller;
    draw(hit?.title || id, el("p", { class: "dim", role: "status" }, "Fetching the document …"));
    if (!dialog.open) dialog.showModal();
    try {
      const found = await get(id, generation, tenant, signal);
      if (signal.aborted) return;
      const body = draw(found.title || found.document_id, ...contents(found, chunk, hit));
      body.querySelector(".chunk.found")?.scrollIntoView({ block: "center" });
      body.focus({ preventScroll: true });
    } catch (error) {
      if (!signal.aborted) draw(hit?.title || id, problem(error, () => show({ id, chunk, generation, tenant }, hit)));
    }
  }

  function draw(title, ...children) {
    const body = el("div", { class: "body", tabindex: 0, role: "region", "aria-label": "Document" }, children);
    dialog.replaceChildren(
      el("header", {}, el("h2", { id: "document-title", dir: "auto" }, title),
        el("button", { type: "button", class: "quiet", "aria-keyshortcuts": "Escape", onclick: () => dialog.close() }, "Close ", el("kbd", { "aria-hidden": "true" }, "Esc"))),
      body);
    return body;
  }

  return { show, close: () => dialog.open && dialog.close(), isOpen: () => dialog.open };
}

function contents(found, chunk, hit) {
  const facts = [["doc_type", found.doc_type], ["date", found.date],
    ...Object.entries(found.metadata ?? {}).map(([name, of]) => [name, of])].filter(([, of]) => of !== null && of !== "");
  const { chunks } = found;
  return [
    el("dl", { class: "facts" },
      facts.map(([field, of]) => el("div", {}, el("dt", {}, nameOf(field)), el("dd", { dir: "auto" }, value(of)))),
      el("div", {}, el("dt", {}, "id"), el("dd", {}, el("code", {}, found.document_id))),
      el("div", {}, el("dt", {}, "generation"), el("dd", {}, el("code", {}, found.generation))),
      found.uri && el("div", { class: "wide" }, el("dt", { class: "unseen" }, "uri"), el("dd", {}, uriOf(found.uri)))),
    el("p", { class: "dim" }, `${count(chunks.length, "chunk")}${found.whole ? "" : ", and more that are not shown"}`),
    chunk && !chunks.some((one) => one.id === chunk) && el("p", { class: "dim" }, "The chunk of the hit is not among them."),
    el("ol", { class: "chunks" }, chunks.map((one, index) =>
      piece(one, chunks[index - 1], one.id === chunk, one.id === hit?.id ? hit.highlights : []))),
    !found.whole && el("p", { class: "dim" }, "The document goes on; the service shows no more of it at once."),
  ].filter(Boolean);
}

/** A chunk. What its begin shares with the chunk before is dimmed. */
function piece(chunk, before, found, highlights) {
  const straight = length(chunk.text) === chunk.end - chunk.start; // else its characters are not the document's
  const shared = before && straight ? Math.min(Math.max(0, before.end - chunk.start), length(chunk.text)) : 0;
  return el("li", { class: found ? "chunk found" : "chunk", "aria-current": found && "true" },
    el("p", { class: "place" }, found && el("b", {}, "The hit"), el("span", {}, `Chunk ${chunk.ordinal + 1}`),
      el("span", {}, `characters ${whole(chunk.start)} to ${whole(chunk.end)}`)),
    el("p", { class: "text whole", dir: "auto" },
      shared > 0 && el("span", { class: "shared", title: "also in the chunk before" }, marked(chunk.text, highlights, 0, shared)),
      marked(chunk.text, highlights, shared)));
}
