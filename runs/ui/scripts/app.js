// Starts the page: the session, the colours, the keys that work everywhere, the first view.

import { post } from "./api.js";
import { notify } from "./notices.js";
import { start } from "./router.js";

/** Turn the token of the address into a session, and take it out of the address before anything else happens. */
async function signIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await post("/session", { token });
  } catch (error) {
    notify(error.status === 401 ? "The token of this address does not hold any more: open the one that `freshline up` printed last." : error.message, {
      kind: "error",
    });
  }
}

function chooseColours() {
  const select = document.getElementById("theme");
  select.value = document.documentElement.dataset.theme ?? "system";
  select.addEventListener("change", () => {
    if (select.value === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("theme");
    } else {
      document.documentElement.dataset.theme = select.value;
      localStorage.setItem("theme", select.value);
    }
    dispatchEvent(new CustomEvent("theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new CustomEvent("theme")));
}

/** `/` goes to the search field of the view, as long as nobody is writing. */
function listenForKeys() {
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
    const field = document.querySelector("main [data-search]");
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

function isWriting(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

chooseColours();
listenForKeys();
await signIn();
start();
