/* The webhook inbox: asks once a second for what is new, and shows it. What arrived is somebody else's text:
   it becomes text nodes and never markup. */

const POLL_MS = 1000;
const RETRY_MAX_MS = 30_000; // while the gateway does not answer: 1, 2, 4 ... seconds, and no longer than this
const TIMEOUT_MS = 10_000; // an answer that takes longer is none
const MESSAGES_MAX = 100; // as many as the gateway keeps
const COPIED_MS = 2000; // how long a button says so

// What a payment brings about, as long as nothing goes wrong.
const EVENTS_OF_A_PAYMENT = ["payment.created", "payment.success", "payment.captured", "order.paid"];

const $ = (id) => document.getElementById(id);
const address = `${location.pathname}/messages`;

const state = {
  endpoint: null,
  messages: [], // newest first
  newest: 0, // the id after which to ask
  failures: 0, // in a row
  gone: false, // its endpoint was deleted
  uncleared: false, // the last attempt to clear it failed
};
let timer;

/* --- asking ---------------------------------------------------------------------------------------- */

async function poll() {
  const answer = await ask(`${address}?after=${state.newest}`);
  if (answer === null) {
    state.failures += 1;
    if (state.failures === 1) announce("The gateway does not answer.");
  } else {
    if (state.failures) announce("Connected again.");
    state.failures = 0;
    if (answer.status === 404) state.gone = true;
    else take(answer.body);
  }
  showConnection();
  showNotice();
  showTimes();
  clearTimeout(timer);
  if (!state.gone && !document.hidden) timer = setTimeout(poll, delay_ms());
}

/** The gateway's answer, or null if there is no sensible one. */
async function ask(url, method = "GET") {
  try {
    const response = await fetch(url, { method, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok && response.status !== 404) return null;
    return { status: response.status, body: response.status === 204 ? null : await response.json() };
  } catch {
    return null;
  }
}

function delay_ms() {
  return state.failures ? Math.min(POLL_MS * 2 ** (state.failures - 1), RETRY_MAX_MS) : POLL_MS;
}

function take({ data, endpoint }) {
  const first = state.endpoint === null;
  state.endpoint = endpoint;
  showEndpoint();
  for (const message of data.toReversed()) {
    if (message.id <= state.newest) continue; // a poll that was overtaken by another
    state.newest = message.id;
    message.attempt = 1 + state.messages.filter((older) => isRepeated(older, message)).length;
    state.messages.unshift(message);
    $("list").prepend(messageItem(message, !first));
  }
  for (const old of state.messages.splice(MESSAGES_MAX)) document.querySelector(`[data-id="${old.id}"]`).remove();
  if (data.length && !first) announce(`New: ${data.map(nameOf).join(", ")}`);
  showCount();
}

/** Whether both are attempts of one delivery. A forgery is none, whatever it calls itself. */
function isRepeated(older, newer) {
  return older.signature.verified && newer.signature.verified && older.event_id === newer.event_id;
}

async function clear() {
  $("confirm").close();
  state.uncleared = (await ask(address, "DELETE")) === null;
  showNotice();
  if (state.uncleared) return;
  state.messages = [];
  $("list").replaceChildren();
  showCount();
  announce("The inbox is empty.");
  $("empty-title").focus();
}

/* --- showing --------------------------------------------------------------------------------------- */

function showConnection() {
  const seconds = delay_ms() / 1000;
  const [name, words] = state.gone
    ? ["lost", "No longer there"]
    : state.failures
      ? ["lost", `No answer, next try in ${seconds} s`]
      : ["live", "Live"];
  $("connection").dataset.state = name;
  put($("connection"), words);
}

function showNotice() {
  const { id, enabled, disabled_reason } = state.endpoint ?? { enabled: true };
  let words = "";
  if (state.gone) {
    words = "This inbox is gone: its endpoint was deleted. Nothing more will arrive.";
  } else if (state.uncleared) {
    words = "The inbox could not be cleared: the gateway did not answer. Try again.";
  } else if (!enabled) {
    words = `This endpoint is disabled (${disabled_reason}), so nothing is sent to it. ` +
      `To enable it: PATCH /api/v1/webhook_endpoints/${id} with {"enabled": true}.`;
  }
  put($("notice"), words);
  $("notice").hidden = !words;
}

let shownEndpoint;

function showEndpoint() {
  const { url, events } = state.endpoint;
  const now = JSON.stringify(state.endpoint);
  if (now === shownEndpoint) return;
  shownEndpoint = now;
  const wanted = events.includes("*") ? "All of them" : events.join(", ");
  $("endpoint").replaceChildren(
    el("dl", {},
      el("div", {}, el("dt", {}, "Endpoint"),
        el("dd", { class: "copyable" }, el("code", {}, url), copyButton("the endpoint's address", () => url))),
      el("div", {}, el("dt", {}, "Events"), el("dd", {}, wanted))));
  $("endpoint").hidden = false;
  showEmpty();
}

function showCount() {
  const count = state.messages.length;
  put($("count"), count === 1 ? "1 message" : `${count} messages${count === MESSAGES_MAX ? ", the latest" : ""}`);
  $("messages").hidden = count === 0;
  $("empty").hidden = count > 0;
}

/** Whether an endpoint's filter names the event, its family (payment.*) or everything. */
function wants(events, event) {
  return ["*", event, `${event.split(".")[0]}.*`].some((pattern) => events.includes(pattern));
}

/** What to do next, while there is nothing to show. */
function showEmpty() {
  const { url, events } = state.endpoint;
  const coming = EVENTS_OF_A_PAYMENT.filter((event) => wants(events, event));
  const command = el("pre", { tabindex: "0", role: "group", "aria-label": "Commands that make a test payment" });
  const hint = coming.length
    ? `Paste this into a terminal. Within seconds you see here: ${coming.join(", ")}.`
    : `This endpoint asked for ${events.join(", ")} alone, which a payment by itself does not bring about. ` +
      "Paste this into a terminal, then go on with what does, a refund for example.";
  $("empty").replaceChildren(
    el("h2", { id: "empty-title", tabindex: "-1" }, "Nothing has arrived yet"),
    el("p", {}, "This page shows every webhook that the gateway sends to ", el("code", {}, url),
      " as it arrives. Make a test payment to see the first ones."),
    el("div", { class: "part" },
      el("div", { class: "bar" }, el("h3", {}, "Make a test payment"),
        copyButton("the commands", () => command.textContent)),
      command),
    el("p", {}, hint),
    el("p", {}, "The key is the test merchant's. If another merchant made this inbox, put its key there."));
  testKey().then((key) => put(command, paymentCommand(key)));
}

/** The test merchant's key, ready to be pasted; words in its place if it can't be had. */
async function testKey() {
  const answer = await ask("/api/v1/test/merchant");
  return answer?.status === 200 ? `${answer.body.api_key}:${answer.body.api_secret}` : "<your key>:<its secret>";
}

function paymentCommand(key) {
  return [
    `API=${location.origin}/api/v1`,
    `KEY='${key}'`,
    `post() { curl -s -u "$KEY" -H 'Content-Type: application/json' "$API$1" -d "$2"; }`,
    `ORDER=$(post /orders '{"amount": 10000}' | grep -o 'order_[A-Za-z0-9]*' | head -1)`,
    `post /payments '{"method": "upi", "vpa": "success@upi", "order_id": "'$ORDER'"}'`,
  ].join("\n");
}

function messageItem(message, fresh) {
  const { verified, explanation } = message.signature;
  const exact = message.received_at.replace("T", " ").replace("Z", " UTC");
  const details = el("details", {},
    el("summary", {},
      el("span", { class: "title" },
        el("span", { class: "name" }, nameOf(message)),
        el("span", { class: `badge ${verified ? "good" : "bad"}` }, verified ? "Verified" : "Not verified"),
        message.attempt > 1 && el("span", { class: "badge again" }, `Attempt ${message.attempt}`)),
      el("time", { datetime: message.received_at, title: exact }, ago(message.received_at)),
      !verified && el("span", { class: "beneath wrong" }, sentence(explanation)),
      el("span", { class: "beneath mono" }, message.event_id || "no webhook-id")));
  // A hundred bodies, most of them never looked at: each is built when it is opened.
  details.addEventListener("toggle", () => details.append(inside(message, exact)), { once: true });
  return el("li", { class: fresh ? "message fresh" : "message", "data-id": message.id }, details);
}

function inside({ body, headers, signature }, exact) {
  const parsed = parse(body);
  const ours = (name) => name.startsWith("webhook-") || name === "x-webhook-signature";
  const sorted = Object.entries(headers).sort(([a], [b]) => ours(b) - ours(a) || (a < b ? -1 : 1));
  return el("div", { class: "inside" },
    el("p", {}, signature.verified && `${sentence(signature.explanation)} `, `Received ${exact}.`),
    parsed !== undefined && part("Body", "the body", block("Body", ...coloured(pretty(parsed))), () => pretty(parsed)),
    part("Raw body", "the raw body", block("Raw body", body), () => body),
    part("Headers", "the headers",
      el("dl", { class: "headers mono" },
        ...sorted.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
      () => sorted.map(([name, value]) => `${name}: ${value}`).join("\n")));
}

function part(title, what, content, textToCopy) {
  return el("div", { class: "part" },
    el("div", { class: "bar" }, el("h3", {}, title), copyButton(what, textToCopy)),
    content);
}

/** Preformatted text that scrolls, also by keyboard. */
function block(label, ...content) {
  return el("pre", { tabindex: "0", role: "group", "aria-label": label }, ...content);
}

function showTimes() {
  for (const time of document.querySelectorAll("time")) put(time, ago(time.dateTime));
}

function announce(words) {
  $("announcer").textContent = words;
}

/* --- words ----------------------------------------------------------------------------------------- */

function nameOf(message) {
  return message.event || "No event";
}

function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

function ago(iso) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(iso)) / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return iso.slice(0, 10);
}

/** The value of a JSON text; undefined if it is none. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/** JSON text with its keys, strings and numbers as spans. */
function coloured(json) {
  const nodes = [];
  let end = 0;
  for (const match of json.matchAll(/("(?:\\.|[^"\\])*")(?=(:)?)|-?\d[\d.eE+-]*|true|false|null/g)) {
    const kind = match[2] ? "key" : match[1] ? "text" : "number";
    nodes.push(json.slice(end, match.index), el("span", { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, json.slice(end)];
}

/* --- elements -------------------------------------------------------------------------------------- */

/** An element with attributes and children. Strings become text, false and undefined nothing. */
function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child || child === 0));
  return element;
}

/** Change a text only where it differs: screen readers and selections are left in peace. */
function put(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function copyButton(what, text) {
  const word = el("span", {}, "Copy");
  const button = el("button", { type: "button" }, word, el("span", { class: "unseen" }, ` ${what}`));
  button.addEventListener("click", async () => {
    const done = await copy(text());
    put(word, done ? "Copied" : "Not copied");
    announce(done ? `Copied ${what}.` : `Could not copy ${what}.`);
    setTimeout(() => put(word, "Copy"), COPIED_MS);
  });
  return button;
}

/** Browsers give the clipboard to https and localhost alone: elsewhere, the old way by a selection. */
async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const before = document.activeElement;
  const area = el("textarea", { class: "unseen" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  return done;
}

$("clear").addEventListener("click", () => $("confirm").showModal());
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm-yes").addEventListener("click", clear);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !state.gone) poll();
});
poll();
