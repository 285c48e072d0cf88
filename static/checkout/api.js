/* The gateway's public API. A request that gets no answer is asked again, under the same key, until it gets one. */

const API = "/api/v1";
const PATIENCE_MS = 10_000; // for one answer
const RETRY_MS = [1000, 2000, 4000, 8000]; // between tries without a connection; the last one goes on for ever
const KEY_BYTES = 16;

/** How far the server's clock is ahead of this one, in ms: countdowns follow the server's. */
export let skewMs = 0;

/** A refusal: what the API answered, in its own shape. */
export class Refusal extends Error {
  constructor({ status, error, retryAfterS }) {
    super(error.description);
    Object.assign(this, { status, retryAfterS, code: error.code, field: error.field });
  }
}

/** `onWait(seconds)` is told of every wait without a connection, `onWait(null)` when there is one again. */
export function get(path, onWait) {
  return persist(path, {}, onWait);
}

export function post(path, body, onWait) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": newKey() };
  return persist(path, { method: "POST", headers, body: JSON.stringify(body) }, onWait);
}

/** Random, and also where crypto.randomUUID is not: on http that is not localhost. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(KEY_BYTES)), (n) => n.toString(16).padStart(2, "0")).join("");
}

async function persist(path, request, onWait) {
  for (let tries = 0; ; tries += 1) {
    const answer = await once(path, request);
    if (answer) {
      if (tries) onWait?.(null);
      if (answer.status < 400) return answer.body;
      // 500 and 503 did nothing, or what they did the key finds again; so does "same key in flight".
      const again = answer.status >= 500 || answer.error.reason === "key_in_flight";
      if (!again) throw new Refusal(answer);
    }
    await pause(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)], onWait);
  }
}

/** {status, body or error}; null without an answer that can be read. */
async function once(path, request) {
  try {
    const response = await fetch(API + path, {
      ...request,
      signal: AbortSignal.timeout(PATIENCE_MS),
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    const date = Date.parse(response.headers.get("Date"));
    if (date) skewMs = date + 500 - Date.now(); // it tells whole seconds
    const body = await response.json();
    const retryAfterS = Number(response.headers.get("Retry-After")) || 1;
    return { status: response.status, body, error: body.error ?? {}, retryAfterS };
  } catch {
    return null;
  }
}

/** Wait, second by second; a connection that comes back ends the wait. */
async function pause(ms, onWait) {
  let online;
  const back = new Promise((resolve) => (online = () => resolve(true)));
  addEventListener("online", online);
  for (let left = ms; left > 0; left -= 1000) {
    onWait?.(left / 1000);
    if (await Promise.race([sleep(1000), back])) break;
  }
  removeEventListener("online", online);
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
