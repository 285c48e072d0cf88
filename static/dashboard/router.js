/* Which page an address shows. Addresses are real ones, so that they can be shared, bookmarked and reloaded. */

export const BASE = "/dashboard";

const PAGES = [
  ["/", () => import("./pages/home.js")],
  ["/payments", () => import("./pages/payments.js")],
  ["/payments/:id", () => import("./pages/payment.js")],
  ["/orders", () => import("./pages/orders.js")],
  ["/orders/:id", () => import("./pages/order.js")],
  ["/refunds", () => import("./pages/refunds.js")],
  ["/refunds/:id", () => import("./pages/refund.js")],
  ["/balance", () => import("./pages/balance.js")],
  ["/webhooks", () => import("./pages/webhooks.js")],
  ["/webhooks/:id", () => import("./pages/delivery.js")],
  ["/keys", () => import("./pages/keys.js")],
  ["/events", () => import("./pages/events.js")],
  ["/events/:id", () => import("./pages/event.js")],
  ["/docs", () => import("./pages/docs.js")],
  ["/jobs", () => import("./pages/jobs.js")],
  ["/settings", () => import("./pages/settings.js")],
];

/** Other names that people and existing test suites know pages by. */
const ALIASES = { "/transactions": "/payments", "/api-docs": "/docs", "/developers": "/keys", "/login": "/" };

export function here() {
  const path = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : location.pathname;
  return ALIASES[path.replace(/\/$/, "")] ?? (path.replace(/\/$/, "") || "/");
}

/** The page of an address and what its address names; null if there is none. */
export function find(path) {
  for (const [pattern, load] of PAGES) {
    const names = [];
    const expression = pattern.replace(/:(\w+)/g, (_, name) => (names.push(name), "([A-Za-z0-9_]+)"));
    const match = new RegExp(`^${expression}$`).exec(path);
    if (match) return { load, params: Object.fromEntries(names.map((name, i) => [name, match[i + 1]])), pattern };
  }
  return null;
}

/** Fetch the code of every page, so that none has to be waited for, or is missed without a connection. */
export function fetchAll() {
  for (const [, load] of PAGES) load().catch(() => {}); // when it is needed, it is asked for again
}

/** Go to a page of ours. `replace`: without a new entry in the browser's history. `quietly`: the page that is
 *  there shows by itself what the address says now. */
export function go(path, { replace = false, state = null, quietly = false } = {}) {
  history[replace ? "replaceState" : "pushState"](state, "", BASE + path);
  dispatchEvent(new Event(quietly ? "moved" : "navigate"));
}

export function query() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

/** This address with other values in its query; empty ones are left out. */
export function withQuery(changes) {
  const all = Object.entries({ ...query(), ...changes }).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(all).toString();
  return here() + (text && `?${text}`);
}
