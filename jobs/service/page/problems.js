// Errors in words: what happened, what the service says of it, what to do next.

import { el } from "./dom.js";
import { count } from "./words.js";

const TITLES = {
  bad_request: "The question was refused", method_not_allowed: "The question was refused", unauthorized: "A token is needed", forbidden: "This token may not do that",
  not_found: "It is not there", gone: "These hits are no longer there", too_large: "The question is too large",
  rate_limited: "Too many questions at once", overloaded: "The service is busy", space_mismatch: "The index speaks another model's language",
  unavailable: "The index cannot be reached", deadline: "It took too long", internal: "Something broke in the service",
  unreachable: "No answer",
};

/** A panel. `actions`: [label, function] of what may be done about it. `again` asks once more, not before the time that the
 * service wants; when that is over, `then` does so by itself. */
export function problemPanel(error, { actions = [], again = null, then = null } = {}) {
  const buttons = (again ? [["Try again", again], ...actions] : actions).map(([label, act], index) =>
    el("button", { type: "button", class: index ? "quiet" : "primary", onclick: act }, label));
  const countdown = el("p", { class: "dim countdown" });
  if (error.retryAfter && again) holdBack(buttons[0], countdown, error.retryAfter, then);
  return el("div", { class: "panel problem", "data-code": error.code },
    el("div", { role: "alert" }, el("h2", {}, TITLES[error.code] ?? TITLES.internal), el("p", { class: "message" }, error.message)),
    details(error.details), countdown, buttons.length ? el("div", { class: "row" }, buttons) : null);
}

/** Details of a refused question: where in it, and what is wrong there. */
function details(list) {
  const lines = (list ?? []).slice(0, 10).map((one) => (typeof one === "string" ? one
    : one?.problem ? [one.field, one.problem].filter(Boolean).join(": ") : JSON.stringify(one)));
  return lines.length ? el("ul", { class: "details" }, lines.map((line) => el("li", {}, line))) : null;
}

function holdBack(button, countdown, seconds, then) {
  const ready = Date.now() + seconds * 1000;
  button.disabled = true;
  const tick = () => {
    const left = Math.ceil((ready - Date.now()) / 1000);
    countdown.textContent = left > 0 ? `The service asks to wait: ${then ? "asking again" : "ask again"} in ${count(left, "second")}.` : "";
    if (left > 0) return;
    clearInterval(timer);
    button.disabled = false;
    if (then && button.isConnected && !document.hidden) then();
  };
  const timer = setInterval(() => (button.isConnected ? tick() : clearInterval(timer)), 250);
  tick();
}
