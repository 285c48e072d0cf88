/* The frame: who is signed in, which page is shown, the keyboard, and whether the gateway answers. */

import { $, announce, el, put } from "./dom.js";
import { ApiError, connection, get, logIn, remove, session } from "./api.js";
import { BASE, fetchAll, find, go, here, query, withQuery } from "./router.js";
import { empty, failure, loading, tell, toast, wordsOf } from "./ui.js";
import * as login from "./pages/login.js";
import * as password from "./pages/password.js";

const SHORTCUTS = {
  h: ["/", "Home"], p: ["/payments", "Payments"], o: ["/orders", "Orders"], r: ["/refunds", "Refunds"],
  b: ["/balance", "Balance"], w: ["/webhooks", "Webhooks"], k: ["/keys", "API keys"], e: ["/events", "Events"],
  d: ["/docs", "Integration guide"], j: ["/jobs", "Jobs"], s: ["/settings", "Settings"],
};
const SEQUENCE_MS = 1500; // between g and the letter
const RETRY_MS = 3000; // between looks whether the gateway is back

let me = null; // who is signed in
let leaving = new AbortController(); // ends what the page before has begun
let offline = false;
let shown = null; // the address of the page that is shown
let broken = false; // a page's code could not be loaded

/* --- pages ----------------------------------------------------------------------------------------- */

/** What a page is given: what its address names, who looks, and a signal for when it is left. */
function contextOf(params) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  return { params, me, signal, refreshMe, every: (ms, look) => every(ms, look, signal) };
}

/** Run `look` every so often, while the page is there and can be seen. */
function every(ms, look, signal) {
  let timer;
  const next = () => {
    clearTimeout(timer);
    if (!signal.aborted && !document.hidden) timer = setTimeout(turn, ms);
  };
  const turn = async () => {
    try {
      if (!signal.aborted) await look();
    } catch (error) {
      if (error.name !== "AbortError" && !(error instanceof ApiError)) throw error; // what the API says, the frame tells
    } finally {
      next();
    }
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : turn()), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  next();
}

async function show({ focus = true } = {}) {
  const main = $("main");
  const path = here();
  if (path === "/password") return outside(password.page(chosen));
  if (me === null) return outside(login.page(signedIn));
  $("shell").hidden = false;
  $("outside").hidden = true;
  $("nav").hidePopover?.();
  if (location.pathname !== BASE + path) history.replaceState(history.state, "", `${BASE}${path}${location.search}${location.hash}`);
  shown = location.pathname + location.search;
  for (const a of document.querySelectorAll("#nav a[data-nav]")) {
    const mine = a.dataset.nav === "/" ? path === "/" : path === a.dataset.nav || path.startsWith(`${a.dataset.nav}/`);
    if (mine) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  if (document.activeElement !== $("search-words")) $("search-words").value = path === "/payments" ? query().q ?? "" : "";
  const found = find(path);
  const context = contextOf(found?.params ?? {});
  if (found === null) {
    main.replaceChildren(empty("There is no such page", "The address may be mistyped.", el("a", { class: "button", href: `${BASE}/` }, "To the start")));
    return named("Not found", focus);
  }
  main.replaceChildren(loading());
  try {
    const page = await found.load().catch(unloaded);
    if (context.signal.aborted) return undefined;
    const content = await page.page(context);
    if (context.signal.aborted) return undefined;
    main.replaceChildren(content);
    return named(page.title, focus);
  } catch (error) {
    if (error.name === "AbortError" || context.signal.aborted) return undefined;
    main.replaceChildren(failure(error, () => (broken ? location.reload() : show())));
    return named("Problem", focus);
  }
}

/** A page's code did not come. A browser may not ask for it a second time: then the whole page is loaded anew. */
function unloaded() {
  broken = true;
  connection.dispatchEvent(new Event("offline"));
  throw new ApiError(0);
}

/** The page's name for the window and for those who can't see it; the focus goes to its heading. */
function named(title, focus) {
  document.title = `${title} · Payment Gateway`;
  if (!focus) return;
  scrollTo(0, 0);
  const heading = document.querySelector("#main h1, #outside h1");
  const busy = document.activeElement?.matches("input, select, textarea") || document.querySelector("dialog[open]");
  if (heading && !busy) heading.focus({ preventScroll: true }); // whoever types already, goes on typing
}

/** A page for somebody who is not signed in. */
function outside(content) {
  leaving.abort();
  $("shell").hidden = true;
  $("outside").hidden = false;
  $("outside").replaceChildren(content);
  document.title = `${here() === "/password" ? "Choose a password" : "Sign in"} · Payment Gateway`;
  (content.querySelector("[autofocus]") ?? content.querySelector("h1"))?.focus();
}

/* --- signing in and out ---------------------------------------------------------------------------- */

async function signedIn(email, secret) {
  welcome(await logIn(email, secret));
  await show();
}

function chosen() {
  me = null;
  history.replaceState(null, "", `${BASE}/`);
  show();
  toast("Your password is chosen. Sign in with it.");
}

function welcome(answer) {
  me = answer;
  put($("account-name"), me.merchant.name);
  put($("account-email"), me.merchant.email);
  $("simulated").hidden = !me.simulated;
}

async function refreshMe() {
  const answer = await session();
  if (answer) welcome(answer);
}

function signedOut(message) {
  if (me === null) return;
  me = null;
  for (const dialog of document.querySelectorAll("dialog")) dialog.remove();
  show();
  if (message) toast(message, "warn");
}

$("sign-out").addEventListener("click", async () => {
  try {
    await remove("/session");
  } catch (error) {
    if (error.status !== 401) return toast(wordsOf(error), "bad"); // whoever leaves must know that it did not work
  }
  history.replaceState(null, "", `${BASE}/`);
  return signedOut();
});
connection.addEventListener("signed-out", () => signedOut("Your session is over. Sign in again."));

/* --- the connection -------------------------------------------------------------------------------- */

connection.addEventListener("offline", () => setOffline(true));
connection.addEventListener("online", () => setOffline(false));
addEventListener("offline", () => setOffline(true));
addEventListener("online", lookAgain);

function setOffline(now) {
  if (offline === now) return;
  offline = now;
  $("offline").hidden = !offline;
  announce(offline ? "The gateway does not answer." : "Connected again.");
  if (offline) setTimeout(lookAgain, RETRY_MS);
}

async function lookAgain() {
  try {
    await get("/session", {}, { background: true }); // tells by itself that there was an answer
    if (broken) location.reload();
    else if (document.querySelector("#main .problem")) show({ focus: false });
  } catch {
    if (offline) setTimeout(lookAgain, RETRY_MS);
  }
}

/* --- links, search and the keyboard ---------------------------------------------------------------- */

document.addEventListener("click", (event) => {
  const a = event.target.closest("a[href]");
  if (!a || a.target || a.hasAttribute("download") || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || a.origin !== location.origin) return;
  const path = a.pathname.startsWith(BASE) ? a.pathname.slice(BASE.length) || "/" : null;
  if (path === null || (find(path.replace(/\/$/, "") || "/") === null)) return;
  if (a.pathname === location.pathname && a.hash) return; // within the page
  event.preventDefault();
  go(path + a.search + a.hash);
});
addEventListener("popstate", () => shown !== location.pathname + location.search && show()); // not for a place within the page
addEventListener("navigate", () => show());
addEventListener("moved", () => (shown = location.pathname + location.search)); // by the page itself

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = $("search-words").value.trim();
  $("search-words").blur(); // on to what is found
  if (here() === "/payments") go(withQuery({ q: words, starting_after: "" }));
  else if (words) go(`/payments?${new URLSearchParams({ q: words })}`);
});

let sequence = 0; // until when a letter after g counts

document.addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, select, textarea, [contenteditable], dialog");
  if (me === null || busy || event.metaKey || event.ctrlKey || event.altKey) return;
  if (Date.now() < sequence && SHORTCUTS[event.key]) {
    sequence = 0;
    event.preventDefault();
    go(SHORTCUTS[event.key][0]);
  } else if (event.key === "g") {
    sequence = Date.now() + SEQUENCE_MS;
  } else if (event.key === "/") {
    event.preventDefault();
    $("search-words").focus();
    $("search-words").select();
  } else if (event.key === "?") {
    event.preventDefault();
    showKeys();
  }
});
$("keys").addEventListener("click", showKeys);

function showKeys() {
  const rows = [["/", "Search"], ["?", "This list"], ...Object.entries(SHORTCUTS).map(([key, [, name]]) => [`g ${key}`, name])];
  tell({
    title: "Keyboard shortcuts",
    body: el("dl", { class: "shortcuts" }, rows.map(([keys, what]) =>
      el("div", {}, el("dt", {}, keys.split(" ").map((key) => el("kbd", {}, key))), el("dd", {}, what)))),
  });
}

/* --- the start ------------------------------------------------------------------------------------- */

try {
  const answer = await session();
  if (answer) welcome(answer);
  await show({ focus: false });
  fetchAll();
} catch (error) {
  $("outside").hidden = false;
  $("outside").replaceChildren(failure(error, () => location.reload()));
}
