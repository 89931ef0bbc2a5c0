// A question, and its form in the address: everything but the token, so that an address can be passed on.

export const MODES = ["hybrid", "lexical", "vector"];
const MOST_PAGES = 20;

const NOTHING = {
  query: "", mode: "hybrid", k: 10, exact: false, group: false, explain: false,
  generation: null, // a name, or null: the live one
  filters: {}, // by field: [value, …] or {from, to}, as the service takes them
  pages: 1, // how often "more" was asked for, and once
  compare: null, // {mode, generation} of the other side
  document: null, // {id, chunk, generation, tenant} that is open
};

export function readAddress(search) {
  const parameters = new URLSearchParams(search);
  const question = structuredClone(NOTHING);
  const mode = (name) => (MODES.includes(parameters.get(name)) ? parameters.get(name) : null);
  const number = (name, most) => Math.min(most, Math.max(1, parseInt(parameters.get(name), 10) || 0));
  question.query = parameters.get("q") ?? "";
  question.mode = mode("mode") ?? NOTHING.mode;
  if (parameters.has("k")) question.k = number("k", 1000);
  if (parameters.has("pages")) question.pages = number("pages", MOST_PAGES);
  for (const name of ["exact", "group", "explain"]) question[name] = parameters.get(name) === "1";
  question.generation = parameters.get("generation") || null;
  for (const [name, value] of parameters) {
    const [kind, field] = [name.slice(0, name.indexOf(".")), name.slice(name.indexOf(".") + 1)];
    if (kind === "is") put(question.filters, field, (has) => [...(Array.isArray(has) ? has : []), value]);
    if (kind === "from" || kind === "to") {
      put(question.filters, field, (has) => ({ ...(Array.isArray(has) ? {} : has), [kind]: value }));
    }
  }
  if (parameters.has("with")) {
    question.compare = { mode: mode("with") ?? otherMode(question.mode), generation: parameters.get("with_generation") || null };
  }
  if (parameters.get("document")) {
    question.document = {
      id: parameters.get("document"), chunk: parameters.get("chunk"), generation: parameters.get("of"), tenant: parameters.get("by"),
    };
  }
  return question;
}

export function writeAddress(question) {
  const parameters = new URLSearchParams();
  const put = (name, value) => value !== null && value !== undefined && value !== "" && parameters.append(name, value);
  put("q", question.query);
  for (const name of ["mode", "k", "pages"]) if (question[name] !== NOTHING[name]) put(name, question[name]);
  for (const name of ["exact", "group", "explain"]) if (question[name]) put(name, "1");
  put("generation", question.generation);
  for (const [field, wanted] of Object.entries(question.filters)) {
    if (Array.isArray(wanted)) for (const value of wanted) parameters.append(`is.${field}`, value);
    else for (const bound of ["from", "to"]) put(`${bound}.${field}`, wanted[bound]);
  }
  if (question.compare) {
    put("with", question.compare.mode);
    put("with_generation", question.compare.generation);
  }
  if (question.document) {
    put("document", question.document.id);
    put("chunk", question.document.chunk);
    put("of", question.document.generation);
    put("by", question.document.tenant);
  }
  const written = parameters.toString();
  return written ? `?${written}` : location.pathname;
}

/** What a mode is compared with, as long as nobody chose. */
export const otherMode = (mode) => (mode === "lexical" ? "vector" : "lexical");

/** Whether two questions ask the service for the same. */
export function sameSearch(one, other) {
  const asked = (question) => writeAddress({ ...question, document: null });
  return asked(one) === asked(other);
}

function put(filters, field, change) {
  // A field may be called anything, __proto__ too.
  Object.defineProperty(filters, field, {
    value: change(Object.hasOwn(filters, field) ? filters[field] : undefined), enumerable: true, configurable: true, writable: true,
  });
}
