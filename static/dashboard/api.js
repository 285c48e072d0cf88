/* The gateway's public API, asked with the session's cookie.

   A change carries the session's CSRF token and an Idempotency-Key: asked again after a lost answer, under the same
   key, it takes effect once. What a page asks by itself is marked, and does not keep the session from idling out. */

const API = "/api/v1";
const PATIENCE_MS = 20_000; // for one answer
const ACTIVE_MS = 60_000; // whoever touched the page within this is still there
const KEY_BYTES = 16;
const SIGNED_IN = "gateway_signed_in=1";

let csrfToken = null;
let lastInput = Date.now();
for (const type of ["pointerdown", "pointermove", "keydown", "wheel"]) {
  addEventListener(type, () => (lastInput = Date.now()), { capture: true, passive: true });
}

/** What the API refused, in its own words; or, with status 0, that it did not answer. */
export class ApiError extends Error {
  constructor(status, error = {}) {
    super(error.description ?? "The gateway does not answer. Check your connection, then try again.");
    Object.assign(this, { status, code: error.code, field: error.field, reason: error.reason });
  }

  get offline() {
    return this.status === 0;
  }
}

/** Events: `online` and `offline` as answers come or don't, `signed-out` when the session is over. */
export const connection = new EventTarget();

/** `background`: the page asks by itself. `signal` gives up. Empty values in `query` are left out. */
export function get(path, query = {}, { background = false, signal } = {}) {
  return call("GET", address(path, query), { background, signal });
}

export function post(path, body = {}, key = newKey()) {
  return call("POST", API + path, { body, headers: { "Idempotency-Key": key } });
}

export function patch(path, body) {
  return call("PATCH", API + path, { body });
}

export function remove(path) {
  return call("DELETE", API + path);
}

/** Random, and also where crypto.randomUUID is not: on http that is not localhost. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(KEY_BYTES)), (n) => n.toString(16).padStart(2, "0")).join("");
}

export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return API + path + (given.length ? `?${new URLSearchParams(given)}` : "");
}

/* --- the session ---------------------------------------------------------------------------------- */

/** Who is signed in, or null. Nobody is without the cookie that says so: then there is nothing to ask. */
export async function session() {
  if (!document.cookie.includes(SIGNED_IN)) return null;
  try {
    return remember(await call("GET", `${API}/session`, { quiet: true }));
  } catch (error) {
    if (error.status === 401) return null;
    throw error;
  }
}

export async function logIn(email, password) {
  return remember(await call("POST", `${API}/session`, { body: { email, password }, quiet: true }));
}

export async function choosePassword(token, password) {
  await call("POST", `${API}/password/link`, { body: { token, password }, quiet: true });
}

function remember(answer) {
  csrfToken = answer.csrf_token;
  return answer;
}

/* --- asking --------------------------------------------------------------------------------------- */

/** `quiet`: a 401 is an answer like any other. */
async function call(method, url, options = {}) {
  const response = await fetchOnce(method, url, options);
  if (response.status === 204) return null;
  const body = await response.json().catch(() => null);
  if (response.ok) {
    if (body === null) throw failed();
    return body;
  }
  const error = new ApiError(response.status, body?.error ?? { description: "The gateway answered with an error." });
  if (error.status === 401 && !options.quiet) connection.dispatchEvent(new Event("signed-out"));
  // Somebody signed in anew in another tab: the token changed with the session.
  if (error.reason === "csrf_token" && !options.again && (await session())) {
    return call(method, url, { ...options, again: true });
  }
  throw error;
}

/** The raw answer of a GET, for what is not JSON. */
export async function getRaw(path, query, signal) {
  const response = await fetch(address(path, query), { signal, cache: "no-store" }).catch((error) => {
    throw error.name === "AbortError" ? error : failed();
  });
  if (!response.ok) throw new ApiError(response.status, (await response.json().catch(() => null))?.error);
  return response;
}

async function fetchOnce(method, url, { body, headers = {}, background = false, signal }) {
  const idle = background && Date.now() - lastInput > ACTIVE_MS;
  const patience = AbortSignal.timeout(PATIENCE_MS);
  try {
    const response = await fetch(url, {
      method,
      cache: "no-store",
      referrerPolicy: "no-referrer",
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
      body: body && JSON.stringify(body),
      headers: {
        ...headers,
        ...(body && { "Content-Type": "application/json" }),
        ...(method !== "GET" && csrfToken && { "X-CSRF-Token": csrfToken }),
        ...(idle && { "X-Background": "true" }),
      },
    });
    connection.dispatchEvent(new Event("online"));
    return response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw failed();
  }
}

function failed() {
  connection.dispatchEvent(new Event("offline"));
  return new ApiError(0);
}
