// Elements with text in them. Nothing here, or anywhere else on the page, makes HTML of a string.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `attributes` whose value is null or false are left out; `on…` are listeners; strings become text. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** The address to link to, or null where it is none of the web: `javascript:`, `file:`, `s3:`, a path. */
export function webAddress(uri) {
  try {
    const url = new URL(uri);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

/** A uri as a link where it can be one, and as text where not. */
export function uriOf(uri) {
  const address = webAddress(uri);
  if (address === null) return el("span", { class: "uri" }, uri);
  return el("a", { class: "uri", href: address, target: "_blank", rel: "noopener noreferrer" }, uri);
}
