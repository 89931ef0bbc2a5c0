// The search page: what is asked, asking it, and showing what came. The address says it all; this follows the address.

import { MODES, readAddress, sameSearch, writeAddress } from "./address.js";
import { getDocument, getGenerations, token } from "./api.js";
import { ask, askMore } from "./asking.js";
import { comparison, compared } from "./comparing.js";
import { byId, el } from "./dom.js";
import { filterBar, withValue } from "./filters.js";
import { fillForm, isAskable, listenToForm, typedQuery } from "./form.js";
import { NOTHING_KNOWN, fillGenerations, keepLooking, renderGeneration } from "./generations.js";
import { listenToKeys } from "./keys.js";
import { problemPanel } from "./problems.js";
import { reader } from "./reader.js";
import { introduction, resultsOf, told } from "./results.js";
import { askForToken, closeTokenForm, listenToToken } from "./signing.js";
import { capital, milliseconds } from "./words.js";

const PASSING = ["rate_limited", "overloaded", "unavailable"];
const MOST_REPEATS = 2; // questions asked again by themselves after a wait that the service wished

let question = readAddress(location.search);
let info = NOTHING_KNOWN;
let heardAt = 0; // of `info`
let sides = []; // of the answer that is shown
let asking = new AbortController();
let repeats = 0;
let waitUntil = 0; // before which the service wants to hear nothing more
let waiting = 0;
let returned = Promise.resolve(); // when the browser is back where a document was opened; until then nothing may be pushed

// -- what is asked

/** Changes the question, and asks it. */
async function change(part) {
  await returned;
  if (!isAskable()) return undefined;
  const next = { ...question, query: typedQuery(), ...part, pages: 1, document: null };
  if (!sameSearch(next, question)) history.pushState(null, "", writeAddress(next));
  question = next;
  repeats = 0;
  showForm();
  return search();
}

function showForm() {
  fillForm(question, info, heardAt);
  chips.render();
}

// -- asking

async function search() {
  asking.abort();
  clearTimeout(waiting);
  const { signal } = (asking = new AbortController());
  if (!question.query) {
    sides = [];
    return render();
  }
  if (waitUntil > Date.now()) waiting = setTimeout(search, waitUntil - Date.now());
  if (waitUntil > Date.now()) return say(`The service asks to wait; this is asked in ${Math.ceil((waitUntil - Date.now()) / 1000)} s.`);
  byId("results").setAttribute("aria-busy", "true");
  say("Searching …");
  const found = await ask(question, info.filters, signal).catch(() => null);
  if (found && !signal.aborted) take(found);
}

async function more() {
  const { signal } = (asking = new AbortController());
  const before = sides.map((side) => side.hits.length);
  byId("results").setAttribute("aria-busy", "true");
  const found = await askMore(sides, question, info.filters, signal).catch(() => null);
  if (!found || signal.aborted) return;
  if (!found.some((side) => side.error)) question = { ...question, pages: question.pages + 1 };
  history.replaceState(history.state, "", writeAddress(question));
  take(found);
  const lists = [...document.querySelectorAll(".hits")];
  lists[0]?.children[before[0]]?.querySelector(".title").focus();
}

function take(found) {
  sides = found;
  const errors = sides.map((side) => side.error).filter(Boolean);
  waitUntil = Math.max(0, ...errors.map((error) => (error.retryAfter ? Date.now() + error.retryAfter * 1000 : 0)));
  const unknown = errors.find((error) => error.code === "unauthorized");
  if (unknown) return askWho(unknown.message);
  closeTokenForm();
  render();
  if (sides.some((side) => !side.generation && side.answer && side.answer.generation !== info.live)) look();
  return undefined;
}

const again = () => {
  repeats += 1;
  waitUntil = 0;
  return search();
};

// -- showing

function render() {
  const results = byId("results");
  results.removeAttribute("aria-busy");
  if (!question.query) results.replaceChildren(introduction(info));
  else results.replaceChildren(resultsOf(sides, question, tools), moreButton());
  byId("copy").hidden = !question.query || !navigator.clipboard;
  byId("compare").hidden = !question.query;
  say(summary());
  notice();
}

const say = (text) => (byId("status").textContent = text);

function summary() {
  const heard = sides.filter((side) => side.answer);
  if (!heard.length) return "";
  if (sides.length === 1) return `${told(sides[0], milliseconds(sides[0].answer.took_ms))}${question.generation ? `, of ${question.generation}` : ""}`;
  if (heard.length < 2) return "";
  return comparison(compared(sides[0].hits, sides[1].hits), sides[0].hits, sides[1].hits);
}

function moreButton() {
  if (!sides.some((side) => side.answer?.cursor && !side.error)) return el("div");
  return el("div", { class: "more" }, el("button", { type: "button", id: "more", class: "quiet wide", onclick: more }, "More hits"));
}

function problem(error, side) {
  const { code, message } = error;
  if (code === "bad_request" || code === "too_large") return problemPanel(error);
  if (code === "forbidden") return problemPanel(error, { actions: [["Use another token", () => askWho(message)]] });
  if (code === "gone" || code === "not_found") {
    const live = { generation: null, compare: question.compare && { ...question.compare, generation: null } };
    return problemPanel(error, { actions: [side.generation ? ["Search the live generation", () => change(live)] : ["Search again", () => change({})]] });
  }
  const actions = code === "space_mismatch" && !question.compare ? [["Search lexically", () => change({ mode: "lexical" })]] : [];
  const mine = asking; // by itself it asks again what was asked, and not what came after
  const then = repeats < MOST_REPEATS && PASSING.includes(code) ? () => asking === mine && again() : null;
  return problemPanel(error, { actions, again, then });
}

/** Mode and generation of a side of a comparison. */
function choices(side) {
  const put = (part) => change(side.label === "A" ? part : { compare: { ...question.compare, ...part } });
  const modes = el("select", { "aria-label": `Mode of ${side.label}`, onchange: (event) => put({ mode: event.target.value }) },
    MODES.map((mode) => el("option", { value: mode, selected: mode === side.mode }, capital(mode))));
  const generations = el("select", { "aria-label": `Generation of ${side.label}`, onchange: (event) => put({ generation: event.target.value || null }) });
  fillGenerations(generations, info, heardAt, side.generation);
  const took = side.answer && el("span", { class: "dim" }, told(side, milliseconds(side.answer.took_ms)));
  return [modes, generations, took];
}

const documentOf = (hit, side) => ({ id: hit.document_id, chunk: hit.id, generation: side.answer.generation, tenant: hit.tenant });

const tools = {
  problem, choices,
  linkTo: (hit, side) => writeAddress({ ...question, document: documentOf(hit, side) }),
  open: (hit, side, link) => openDocument(documentOf(hit, side), hit, link),
  get types() { return info.filters; },
  narrow: (field, value) => change({ filters: withValue(question.filters, field, value, info.filters[field]) }),
  lessFilters: () => change({ filters: {} }),
  otherwise: () => change({ mode: "vector" }),
};

// -- documents

let opener = null;
const documents = reader({
  get: getDocument,
  problem: (error, repeat) => problemPanel(error, { again: error.code === "not_found" ? null : repeat }),
  closed: () => {
    if (question.document) {
      question = { ...question, document: null };
      if (history.state?.opened) goBack();
      else history.replaceState(null, "", writeAddress(question));
    }
    (opener?.isConnected ? opener : byId("results")).focus({ preventScroll: true });
  },
});

function goBack() {
  returned = new Promise((done) => addEventListener("popstate", done, { once: true }));
  history.back();
}

async function openDocument(wanted, hit, link) {
  await returned;
  opener = link;
  question = { ...question, document: wanted };
  history.pushState({ opened: true }, "", writeAddress(question));
  documents.show(wanted, hit);
}

/** Shows the document that the address names, or none. */
function followDocument() {
  if (!question.document) return documents.close();
  const { chunk } = question.document;
  const card = [...document.querySelectorAll(".hit")].find((one) => one.dataset.id === chunk);
  opener = card?.querySelector(".title") ?? null;
  return documents.show(question.document, sides.flatMap((side) => side.hits).find((hit) => hit.id === chunk));
}

// -- generations and tokens

/** What is known of generations, anew. `silent`: hits that somebody may be reading stay, whatever goes wrong. */
async function look({ silent = true } = {}) {
  try {
    info = await getGenerations();
    heardAt = Date.now();
    renderGeneration(info, heardAt, false);
    byId("corpus").textContent = info.corpus;
    byId("token-button").hidden = token.get() === null;
    if (!question.query) render();
    notice();
    return true;
  } catch (error) {
    renderGeneration(info, heardAt, true);
    if (silent) return false;
    if (error.code === "unauthorized") askWho(error.message);
    else byId("results").replaceChildren(problemPanel(error, { again: start, then: start }));
    return false;
  }
}

/** Says so where hits are of a generation that was live when they were asked for, and is not now. */
function notice() {
  const old = sides.find((side) => !side.generation && side.answer && info.live && side.answer.generation !== info.live);
  byId("notice").replaceChildren(...(old
    ? [el("div", { class: "panel notice" }, el("p", {}, "Generation ", el("code", {}, info.live), " is live by now; these hits are of ", el("code", {}, old.answer.generation), "."),
      el("button", { type: "button", class: "primary", onclick: () => change({}) }, "Search again"))]
    : []));
}

function askWho(why) {
  byId("results").replaceChildren();
  byId("results").removeAttribute("aria-busy");
  byId("copy").hidden = byId("compare").hidden = true;
  say("");
  askForToken(why);
}

listenToToken({ changed: () => start(), wanted: () => askWho("A token is in use. Give another, or forget it.") });

// -- the page

const chips = filterBar({
  filters: () => question.filters, types: () => info.filters, tenant: () => info.tenant,
  met: (field) => sides.flatMap((side) => side.hits).map((hit) => (field.startsWith("metadata.") ? hit.metadata[field.slice(9)] : hit[field])),
  change: (filters) => change({ filters }),
});

byId("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(location.href);
  say("The link is in the clipboard.");
});
addEventListener("popstate", async () => {
  const next = readAddress(location.search);
  const same = sameSearch(next, question);
  question = next;
  showForm();
  if (!same) await search();
  followDocument();
});
listenToKeys({ compare: listenToForm({ change, question: () => question }) });

async function start() {
  showForm();
  if (!(await look({ silent: false }))) return;
  showForm();
  await search();
  if (question.document) followDocument();
  else if (!question.query) byId("query").focus();
}

keepLooking(() => look(), () => info !== NOTHING_KNOWN && !info.live);
start();
