// Asking for the sides of a question: one, or the two of a comparison, each with as many pages as were wanted.

import { search } from "./api.js";

/** What each side asks for. */
export function sidesOf(question) {
  const first = { label: "A", mode: question.mode, generation: question.generation };
  return question.compare ? [first, { label: "B", ...question.compare }] : [first];
}

/** Sides with `hits`, `answer` (the last of its answers) and `error`, null where there is none. Raises for an abort alone. */
export function ask(question, types, signal) {
  return Promise.all(sidesOf(question).map((side) =>
    extended({ ...side, hits: [], answer: null, error: null }, question, types, question.pages, signal)));
}

/** The sides with one page more each, where there is one. */
export function askMore(sides, question, types, signal) {
  return Promise.all(sides.map((side) => (side.answer?.cursor ? extended(side, question, types, 1, signal) : side)));
}

async function extended(side, question, types, pages, signal) {
  const { mode, generation } = side;
  const found = { ...side, hits: [...side.hits], error: null };
  try {
    for (let page = 0; page < pages && (page === 0 || found.answer.cursor); page++) {
      const cursor = found.answer?.cursor ?? null;
      found.answer = await search({ ...question, mode, generation }, types, cursor, signal);
      found.hits.push(...found.answer.hits);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    found.error = error;
  }
  return found;
}
