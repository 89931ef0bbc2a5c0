// Parts of a text by character. The service counts characters as Python does, in code points; strings here are UTF-16.

import { el } from "./dom.js";

const EXCERPT = 340; // characters
const WHOLE = 440; // a text of so many is not worth cutting
const BEFORE = 60; // characters of context before the first mark

/** Spans in order, within [start, end), touching ones joined; whatever the service said of them. */
function within(spans, start, end) {
  const found = [];
  for (const [from, to] of [...spans].sort((one, other) => one[0] - other[0])) {
    const [low, high] = [Math.max(from, start), Math.min(to, end)];
    if (low >= high) continue;
    const last = found.at(-1);
    if (last && low <= last[1]) last[1] = Math.max(last[1], high);
    else found.push([low, high]);
  }
  return found;
}

/** Nodes of the characters [start, end) of `text`, those of `spans` in <mark>. */
export function marked(text, spans, start = 0, end = Infinity) {
  const characters = Array.from(text);
  const stop = Math.min(end, characters.length);
  const nodes = [];
  let at = start;
  for (const [from, to] of within(spans, start, stop)) {
    if (from > at) nodes.push(characters.slice(at, from).join(""));
    nodes.push(el("mark", {}, characters.slice(from, to).join("")));
    at = to;
  }
  if (at < stop) nodes.push(characters.slice(at, stop).join(""));
  return nodes;
}

export const length = (text) => Array.from(text).length;

/** [start, end) of what to show first of a text: where most marks stand; null: the whole. */
export function excerpt(text, spans) {
  const characters = Array.from(text);
  if (characters.length <= WHOLE) return null;
  const starts = [0, ...spans.map(([from]) => Math.max(0, from - BEFORE))];
  const marks = (start) => spans.filter(([from, to]) => from >= start && to <= start + EXCERPT).length;
  const best = starts.reduce((one, other) => (marks(other) > marks(one) ? other : one));
  const start = toWord(characters, Math.min(best, characters.length - EXCERPT));
  return [start, start + EXCERPT >= characters.length ? characters.length : toWord(characters, start + EXCERPT)];
}

/** The begin of a word at `at` or a little before it. */
function toWord(characters, at) {
  for (let back = at; back > Math.max(0, at - 24); back--) if (/\s/u.test(characters[back - 1])) return back;
  return at;
}
