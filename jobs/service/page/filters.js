// Filters as chips, and the form that adds one. What can be filtered by, and by what, the service says.

import { byId, el } from "./dom.js";
import { capital } from "./words.js";

const RANGES = ["number", "date"];

/** A field's name for people: metadata fields are what most corpora call their own. */
export const nameOf = (field) => field.replace(/^metadata\./, "").replaceAll("_", " ");

/** `filters` and `field` with a value; a keyword has any of its values, everything else one. */
export function withValue(filters, field, value, type) {
  const before = Array.isArray(filters[field]) && type !== "boolean" ? filters[field] : [];
  return { ...filters, [field]: [...before.filter((has) => has !== value), value] };
}

function without(filters, field, value) {
  const { [field]: wanted, ...others } = filters;
  const left = Array.isArray(wanted) ? wanted.filter((has) => has !== value) : [];
  return left.length ? { ...others, [field]: left } : others;
}

function spoken(wanted) {
  if (wanted.from !== undefined && wanted.to !== undefined) return `${wanted.from} to ${wanted.to}`;
  return wanted.from !== undefined ? `from ${wanted.from}` : `to ${wanted.to}`;
}

/** The chips and the form. `change(filters)` is called with what a user made of `filters()`; `types()` may be empty.
 * `met(field)`: values of hits, to choose from. */
export function filterBar({ filters, types, tenant, met, change }) {
  const form = byId("filter-form");
  const button = byId("filter-button");

  function renderChips() {
    const chips = Object.entries(filters()).flatMap(([field, wanted]) => Array.isArray(wanted)
      ? wanted.map((value) => chip(field, value, value === "true" ? "yes" : value === "false" ? "no" : value))
      : [chip(field, null, spoken(wanted))]);
    byId("chips").replaceChildren(...chips);
    byId("chips").hidden = chips.length === 0;
    const kinds = choices();
    button.hidden = kinds.length === 0;
    if (kinds.length === 0) toggle(false);
  }

  function chip(field, value, text) {
    const remove = () => {
      change(without(filters(), field, value));
      (byId("chips").querySelector("button") ?? button).focus();
    };
    return el("li", { class: "chip" },
      el("span", {}, el("span", { class: "dim" }, `${nameOf(field)} `), el("span", { dir: "auto" }, text)),
      el("button", { type: "button", "aria-label": `Remove filter ${nameOf(field)} ${text}`, title: "Remove", onclick: remove }, "×"));
  }

  const choices = () => Object.entries(types()).filter(([field]) => field !== "tenant" || tenant() === null);

  function toggle(open) {
    form.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open) fill();
    else form.replaceChildren();
  }

  function fill() {
    const known = choices();
    const field = el("select", { id: "filter-field" }, known.map(([name]) => el("option", { value: name }, capital(nameOf(name)))));
    const inputs = el("div", { class: "row grow" });
    const draw = () => inputs.replaceChildren(...inputsOf(field.value));
    field.addEventListener("change", draw);
    form.replaceChildren(el("div", { class: "row" },
      el("label", { class: "field", for: "filter-field" }, "Field"), field, inputs,
      el("button", { class: "primary" }, "Add"),
      el("button", { type: "button", class: "quiet", onclick: () => { toggle(false); button.focus(); } }, "Cancel")));
    draw();
    field.focus();
  }

  function inputsOf(field) {
    const type = types()[field];
    if (type === "boolean") {
      return [el("label", { class: "field", for: "filter-is" }, "is"),
        el("select", { id: "filter-is" }, el("option", { value: "true" }, "yes"), el("option", { value: "false" }, "no"))];
    }
    if (RANGES.includes(type)) {
      const kind = type === "date" ? { type: "date" } : { type: "number", step: "any" };
      return ["from", "to"].flatMap((bound) => [el("label", { class: "field", for: `filter-${bound}` }, bound),
        el("input", { id: `filter-${bound}`, ...kind })]);
    }
    const known = [...new Set(met(field))].filter((value) => value !== null && value !== undefined && value !== "");
    return [el("label", { class: "field", for: "filter-is" }, "is"),
      el("datalist", { id: "filter-known" }, known.map((value) => el("option", { value }))),
      el("input", { id: "filter-is", list: "filter-known", class: "grow", required: true, spellcheck: "false", autocapitalize: "off", dir: "auto" })];
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("filter-field").value;
    const one = byId("filter-is");
    if (one) {
      change(withValue(filters(), field, one.value, types()[field]));
    } else {
      const bounds = ["from", "to"].map((bound) => [bound, byId(`filter-${bound}`)]).filter(([, input]) => input.value !== "");
      const empty = bounds.length === 0;
      byId("filter-from").setCustomValidity(empty ? "Give a lower bound, an upper bound, or both" : "");
      if (empty) return void byId("filter-from").reportValidity();
      change({ ...filters(), [field]: Object.fromEntries(bounds.map(([bound, input]) => [bound, input.value])) });
    }
    toggle(false);
    button.focus();
  });
  form.addEventListener("input", () => byId("filter-from")?.setCustomValidity(""));
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    toggle(false);
    button.focus();
  });
  button.addEventListener("click", () => toggle(form.hidden));

  return { render: renderChips };
}
