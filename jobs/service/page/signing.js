// The form for the token, shown when the service asks who asks.

import { token } from "./api.js";
import { byId } from "./dom.js";

export function askForToken(why) {
  byId("token-form").hidden = false;
  byId("token-forget").hidden = token.get() === null;
  byId("token-why").textContent = why;
  byId("token").focus();
}

export function closeTokenForm() {
  byId("token-form").hidden = true;
  byId("token").value = "";
}

/** `changed()` is called when there is another token, or none any more; `wanted()` when a user wants to give one. */
export function listenToToken({ changed, wanted }) {
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(byId("token").value.trim());
    closeTokenForm();
    changed();
  });
  byId("token-forget").addEventListener("click", () => {
    token.forget();
    closeTokenForm();
    changed();
  });
  byId("token-button").addEventListener("click", wanted);
}
