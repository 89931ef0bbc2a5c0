// The service, as far as the page asks it. The token travels in the Authorization header alone.

import { kept } from "./kept.js";

const PATIENCE_MS = 60_000;

/** An answer that is none: what the service said, or why there was nothing to be heard. */
export class Refusal extends Error {
  constructor({ code, message, details = [], retryAfter = null }) {
    super(message);
    Object.assign(this, { code, details, retryAfter });
  }
}

/** Of this tab, until it is closed. */
export const token = kept(() => sessionStorage, "backhaul.token");

export const getGenerations = (signal) => call("v1/generations", { signal });

/** `tenant`: whose document, where the caller sees several. */
export function getDocument(id, generation, tenant, signal) {
  const asked = new URLSearchParams({ document_id: id });
  if (generation) asked.set("generation", generation);
  if (tenant) asked.set("tenant", tenant);
  return call(`v1/documents?${asked}`, { signal });
}

/** `types`: the fields that can be filtered by, as the service names their types. */
export function search(question, types, cursor, signal) {
  const body = {
    query: question.query, mode: question.mode, k: question.k, exact: question.exact, generation: question.generation,
    group_by_document: question.group, explain: question.explain, filter: typed(question.filters, types), cursor,
  };
  return call("v1/search", { method: "POST", body: JSON.stringify(body), signal });
}

function typed(filters, types) {
  const said = (field, value) => (types[field] === "boolean" && ["true", "false"].includes(value) ? value === "true" : value);
  return Object.fromEntries(Object.entries(filters).map(([field, wanted]) =>
    [field, Array.isArray(wanted) ? wanted.map((value) => said(field, value)) : wanted]));
}

async function call(path, { signal, ...options }) {
  const headers = { Accept: "application/json" };
  if (options.body) headers["Content-Type"] = "application/json";
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  const signals = AbortSignal.any([signal ?? new AbortController().signal, AbortSignal.timeout(PATIENCE_MS)]);
  let response;
  try {
    response = await fetch(path, { ...options, headers, signal: signals, credentials: "omit", cache: "no-store" });
    if (response.ok) return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(
      error.name === "TimeoutError"
        ? { code: "deadline", message: `There was no answer within ${PATIENCE_MS / 1000} seconds.` }
        : { code: "unreachable", message: "The service did not answer: it may be stopping, or this machine is offline." },
    );
  }
  throw await refusal(response);
}

async function refusal(response) {
  const retryAfter = parseInt(response.headers.get("Retry-After"), 10) || null;
  try {
    const { error } = await response.json();
    return new Refusal({ code: error.code, message: error.message, details: error.details ?? [], retryAfter });
  } catch {
    const message = `The answer was ${response.status} ${response.statusText} without a word of explanation, so it may not be from the service.`;
    return new Refusal({ code: response.status === 401 ? "unauthorized" : "internal", message, retryAfter });
  }
}
