/* The integration guide: code that runs as it is shown, with the merchant's own keys, ids and addresses in it. */

import { announce, el } from "../dom.js";
import { get, post } from "../api.js";
import { codeBlock, jsonBlock } from "../code.js";
import { BASE, query, withQuery } from "../router.js";
import { badge, card, copyable, facts, heading, link, table, toast, wordsOf } from "../ui.js";
import { allKeys, publishedKey, reveal } from "./keys.js";
import * as code from "../snippets.js";

export const title = "Integration guide";

const HIDDEN_AFTER_MS = 60_000; // as on the page of the keys
const LIMIT = 100; // of what is looked through for ids to fill in
const LOOK_MS = 500; // between looks whether payments have settled
const SETTLED_MS = 20_000; // they take seconds, unless no worker runs
const READING_PX = 120; // from the window's top: what is above it is being read
const LANGUAGES = { curl: "curl", python: "Python", node: "Node" };

export async function page(context) {
  const guide = guideOf(context, await ownValues(context));
  const { values } = guide;
  const parts = [
    ["keys", "Your keys, and how to sign requests", signing],
    ["create-order", "Create an order", creating, { "data-test-id": "section-create-order" }],
    ["payment", "Take the payment", paying, { "data-test-id": "section-sdk-integration" }],
    ["webhooks", "Be told: webhooks", webhooks, { "data-test-id": "section-webhook-verification" }],
    ["after", "Capture, void, refund", after],
    ["errors", "Idempotency and errors", errors],
    context.me.simulated && ["test-numbers", "Test numbers", testNumbers],
    ["live", "Going live", goingLive],
  ].filter(Boolean);
  const sections = parts.map(([id, name, content, attributes], i) =>
    card(el("h2", { tabindex: "-1" }, `${i + 1}. ${name} `, el("a", { class: "anchor", href: `#${id}`, "aria-label": `Link to: ${name}` }, "#")),
      { id, class: "card prose", ...attributes }, content(guide)));
  const contents = el("nav", { class: "contents", "aria-label": "On this page" },
    el("ol", {}, parts.map(([id, name]) => el("li", {}, el("a", { href: `#${id}` }, name)))));
  const root = el("div", { "data-test-id": "api-docs" },
    heading(title, {
      beside: [el("a", { class: "button", href: `${BASE}/reference` }, "API reference"), el("a", { class: "button", href: "/api/v1/openapi.json", target: "_blank", rel: "noopener" }, "openapi.json")],
      note: values.secret ? "All code has your own keys and addresses in it, and runs as it is shown." : "All code has your own key and addresses in it. Fill in your secret below, and it runs as it is shown.",
    }),
    el("div", { class: "guide" }, contents, el("div", { class: "stack" }, sections)));
  follow(context, root, contents, sections);
  return root;
}

/* --- what is filled in ----------------------------------------------------------------------------- */

/** The merchant's own: its newest key, endpoint, and ids that the code can be tried with. */
async function ownValues(context) {
  const ask = { signal: context.signal };
  const [keys, published, endpoints, orders, payments] = await Promise.all([
    allKeys(context.signal), publishedKey(context), get("/webhook_endpoints", { limit: LIMIT }, ask),
    get("/orders", { limit: LIMIT }, ask), get("/payments", { status: "success", limit: LIMIT }, ask),
  ]);
  const active = keys.filter(({ status }) => status === "active");
  const key = active.find(({ id }) => id === published?.id) ?? active[0];
  const waiting = payments.data.filter(({ captured }) => !captured);
  return {
    keys, published, endpoints: endpoints.data,
    api: `${location.origin}/api/v1`,
    checkout: orders.data.length ? new URL(orders.data[0].checkout_url).origin : location.origin, // it is there on every port
    key, secret: key && key.id === published?.id ? published.secret : null,
    endpoint: endpoints.data.find(({ id }) => id === published?.endpointId) ?? endpoints.data.find(({ enabled }) => enabled) ?? endpoints.data[0],
    order: orders.data.find(({ status }) => status === "created"),
    toCapture: waiting[0],
    toVoid: waiting[1] ?? waiting[0],
    toRefund: payments.data.find((payment) => payment.captured && payment.amount_refunded < payment.amount_captured),
  };
}

/** What all code on the page has in common: the values, the language, and how they change. */
function guideOf(context, values) {
  const redraws = [];
  return {
    context, values, redraws, language: query().lang in LANGUAGES ? query().lang : "curl",
    fill(changes) {
      Object.assign(values, changes);
      for (const redraw of redraws) redraw();
    },
    speak(language) {
      this.language = language;
      history.replaceState(history.state, "", `${BASE}${withQuery({ lang: language })}${location.hash}`);
      for (const redraw of redraws) redraw();
    },
  };
}

/** The values as they stand in code, with words in angle brackets for those that are missing. */
function written({ api, checkout, key, secret, endpoint, endpointSecret, order, toCapture, toVoid, toRefund, published }) {
  const { hostname, port, pathname } = endpoint ? new URL(endpoint.url) : {};
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(hostname);
  return {
    api, checkout,
    key: key?.id ?? "<your key>", secret: secret ?? "<your secret>",
    order: order?.id ?? "<an order>",
    toCapture: toCapture?.id ?? "<a payment>", amount: toCapture?.amount ?? code.ORDER.amount,
    toVoid: toVoid?.id ?? "<a payment>", toRefund: toRefund?.id ?? "<a payment>",
    webhookSecret: endpointSecret ?? (endpoint && endpoint.id === published?.endpointId ? published.webhookSecret : null) ?? "<your webhook secret>",
    path: local ? pathname : "/webhook",
    port: local && port ? Number(port) : code.RECEIVER_PORT,
  };
}

/* --- the parts of a section ------------------------------------------------------------------------ */

const p = (...words) => el("p", {}, words);
const c = (text) => el("code", {}, text);

/** A place that is drawn anew when the values change. */
function live(guide, draw) {
  const place = el("div", {});
  const controls = () => [...place.querySelectorAll("a, button, select")];
  const redraw = () => {
    const focused = controls().indexOf(document.activeElement);
    place.replaceChildren(...[draw()].flat().filter(Boolean));
    controls()[focused]?.focus();
  };
  guide.redraws.push(redraw);
  redraw();
  return place;
}

let groups = 0;

/** The same code in several languages, in tabs. `texts`: {curl, python, node}, each a function of the values. */
function snippet(guide, label, texts, { names = LANGUAGES, ...attributes } = {}) {
  const id = `code-${(groups += 1)}`;
  const languages = Object.keys(texts);
  const tabs = languages.map((language) => el("button", {
    type: "button", role: "tab", class: "small", id: `${id}-${language}`, "aria-controls": `${id}-${language}-code`, onclick: () => choose(language),
  }, names[language]));
  const panels = languages.map((language) => el("div", { role: "tabpanel", id: `${id}-${language}-code`, "aria-labelledby": `${id}-${language}` }));
  const list = el("div", { class: "tabs", role: "tablist", "aria-label": label, onkeydown: arrows }, tabs);
  const chosen = () => (languages.includes(guide.language) ? guide.language : languages[0]);

  /** Other code above this changes its height with the language: what the reader looks at stays where it is. */
  function choose(language) {
    const before = list.getBoundingClientRect().top;
    guide.speak(language);
    scrollBy(0, list.getBoundingClientRect().top - before);
    tabs[languages.indexOf(language)].focus({ preventScroll: true });
  }

  function arrows(event) {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    choose(languages[(to + tabs.length) % tabs.length]);
  }

  const redraw = () => languages.forEach((language, i) => {
    const mine = language === chosen();
    tabs[i].setAttribute("aria-selected", String(mine));
    tabs[i].tabIndex = mine ? 0 : -1;
    panels[i].hidden = !mine;
    const text = texts[language](written(guide.values));
    if (panels[i].dataset.text === text) return;
    panels[i].dataset.text = text;
    panels[i].replaceChildren(codeBlock(text, { label: `${label}, ${names[language]}`, language }));
  });
  guide.redraws.push(redraw);
  redraw();
  return el("div", { class: "snippet", ...attributes }, list, panels);
}

/** A secret that fills itself in when it is asked for, and is taken out again after a minute. */
function secretButton(guide, name, what, ask) {
  let hide;
  guide.context.signal.addEventListener("abort", () => clearTimeout(hide));
  const end = () => {
    clearTimeout(hide);
    guide.fill({ [name]: null });
    announce(`${what} is hidden again.`);
  };
  return () => {
    const shown = guide.values[name];
    return el("button", {
      type: "button", class: "small", onclick: async () => {
        if (shown) return end();
        const secret = await ask();
        if (!secret) return undefined;
        guide.fill({ [name]: secret });
        announce(`${what} is filled in.`);
        hide = setTimeout(end, HIDDEN_AFTER_MS);
        return undefined;
      },
    }, shown ? "Hide it again" : "Fill it in");
  };
}

/* --- 1: keys --------------------------------------------------------------------------------------- */

function signing(guide) {
  const { values, context } = guide;
  const fillIn = secretButton(guide, "secret", "The secret", () => reveal(values.key));
  const state = () => {
    if (!values.key) return el("p", { class: "notice" }, "You have no key that works yet. ", link("/keys", "Create one"), ", then come back.");
    const isPublished = values.key.id === values.published?.id;
    return facts([
      ["Key", copyable(values.key.id, "the key")],
      ["Secret", isPublished ? copyable(values.secret, "the secret")
        : el("span", { class: "copyable" }, values.secret ? c(values.secret) : el("span", { class: "quiet" }, "not filled in"), fillIn())],
      ["Address", copyable(values.api, "the API's address")],
    ]);
  };
  return [
    p("Every request carries a key and its secret, as the headers ", c("X-Api-Key"), " and ", c("X-Api-Secret"), ", or as HTTP Basic. Bodies and answers are JSON, amounts integers in the smallest unit: ", c("34900"), " is ₹349.00."),
    live(guide, state),
    snippet(guide, "Ask who you are", code.call("GET", "/merchant", { name: "merchant", print: ["id", "name"] })),
    p("In your own code take the secret from the environment or a secret store. It belongs on your servers alone: never into a page, an app or a repository.", context.me.simulated ? " The bank is simulated here, so no money moves." : ""),
    el("p", { class: "hint" }, "Python needs ", c("pip install requests"), "; Node 18 or newer needs nothing, and a file whose name ends in ", c(".mjs"), "."),
  ];
}

/* --- 2: orders ------------------------------------------------------------------------------------- */

function creating(guide) {
  const answer = el("div", { "aria-live": "polite" });
  return [
    p("An order is what is to be paid, once. Your server creates it, so that no shopper can change the amount."),
    snippet(guide, "Create an order", code.call("POST", "/orders", { name: "order", body: () => code.ORDER, print: ["id", "checkout_url"] }), { "data-test-id": "code-snippet-create-order" }),
    p("Only ", c("amount"), " is needed. ", c("receipt"), " is your own number, which you can search by; ", c("capture"), " ", c('"manual"'), " only approves, until you capture; ", c("expires_in"),
      " is how many seconds it can be paid; ", c("methods"), " narrows what is offered; ", c("callback_url"), " is where the shopper comes back to."),
    guide.context.me.simulated && el("div", { class: "actions" }, el("button", { type: "button", "data-test-id": "guide-create-order", onclick: () => createOne(guide, answer) }, "Create this order now")),
    answer,
  ];
}

async function createOne(guide, place) {
  try {
    const order = await post("/orders", code.ORDER);
    guide.fill({ order, checkout: new URL(order.checkout_url).origin });
    place.replaceChildren(jsonBlock(order, { label: "The answer" }),
      p("Its id is filled in below. ", el("a", { href: order.checkout_url, target: "_blank", rel: "noopener" }, "Open its checkout"), "."));
  } catch (error) {
    toast(wordsOf(error), "bad");
  }
}

/* --- 3: payments ----------------------------------------------------------------------------------- */

function paying(guide) {
  const { values } = guide;
  return [
    p("The shopper pays on a page of the gateway, so no card number ever touches your servers. Send the browser to the order's ", c("checkout_url"), ", or show the same page in a modal on your own:"),
    live(guide, () => codeBlock(code.sdk(written(values)), { label: "A page with the checkout, HTML", language: "html", "data-test-id": "code-snippet-sdk" })),
    live(guide, () => el("p", { class: "hint" }, values.order ? ["It has your order ", link(`/orders/${values.order.id}`, c(values.order.id)), " in it. Serve the page over http or https: a file has no origin."]
      : "You have no order that waits to be paid. Create one above, and put its id in.")),
    p(c("onSuccess"), " and ", c("onFailure"), " come from a browser, which its owner controls. Deliver when your server knows, from a webhook, or by asking:"),
    snippet(guide, "Ask whether the order is paid", code.call("GET", ({ order }) => `/orders/${order}`, { name: "order", print: ["status", "amount_paid"] })),
  ];
}

/* --- 4: webhooks ----------------------------------------------------------------------------------- */

function webhooks(guide) {
  const { values } = guide;
  const fillIn = secretButton(guide, "endpointSecret", "The webhook secret", async () => {
    try {
      return (await get(`/webhook_endpoints/${values.endpoint.id}/secret`)).secret;
    } catch (error) {
      toast(wordsOf(error), "bad");
      return null;
    }
  });
  const pick = () => values.endpoints.length > 1 && el("select", { "aria-label": "Endpoint", onchange: (event) => guide.fill({
    endpoint: values.endpoints.find(({ id }) => id === event.target.value), endpointSecret: null }) },
  values.endpoints.map(({ id, url }) => el("option", { value: id, selected: id === values.endpoint.id }, url)));
  const state = () => {
    if (!values.endpoint) return el("p", { class: "notice" }, "You have no endpoint yet. ", link("/webhooks", "Add one"), ", then come back.");
    const isPublished = values.endpoint.id === values.published?.endpointId;
    return facts([
      ["Endpoint", pick() || c(values.endpoint.url)],
      ["Secret", isPublished ? copyable(written(values).webhookSecret, "the webhook secret") : el("span", { class: "copyable" },
        values.endpointSecret ? c(values.endpointSecret) : el("span", { class: "quiet" }, "not filled in; the security log will say that you asked"), fillIn())],
      !values.endpoint.enabled && ["State", ["It is switched off: ", link(`/webhooks?endpoint=${values.endpoint.id}`, "switch it on"), " when your receiver runs."]],
    ].filter(Boolean));
  };
  const shell = { curl: "openssl", python: "Python", node: "Node" };
  return [
    p("Every change of an order, payment or refund is posted to your endpoints, signed, and up to five times over hours until you answer with a 2xx. The same ", c("webhook-id"),
      " may come twice, and not always in order. ", link("/webhooks", "Endpoints and their deliveries"), "."),
    live(guide, state),
    el("h3", {}, "Verify it with a library"),
    p("The signature follows the ", el("a", { href: "https://www.standardwebhooks.com", target: "_blank", rel: "noopener" }, "Standard Webhooks"), " scheme. Give the library the raw bytes, before any JSON is parsed:"),
    snippet(guide, "Verify a webhook", { curl: code.verifyByShell, python: code.receiverFlask, node: code.receiverNode }, { names: shell, "data-test-id": "code-snippet-webhook" }),
    el("p", { class: "hint" }, "It needs ", c("pip install flask standardwebhooks"), ", or ", c("npm install standardwebhooks"), ". openssl judges one message that you kept."),
    el("h3", {}, "Or without one"),
    snippet(guide, "Verify a webhook without a library", { python: code.receiverPython, node: code.receiverCrypto }, { "data-test-id": "code-snippet-webhook-plain" }),
    p("Answer first, and do what takes time afterwards: after 10 seconds without an answer it counts as failed. ", link("/webhooks", "Send a test event"), " to see whether it works."),
  ];
}

/* --- 5: after the payment -------------------------------------------------------------------------- */

function after(guide) {
  const { values } = guide;
  const which = (payment, none) => live(guide, () => el("p", { class: "hint" }, payment() ? ["It has your payment ", link(`/payments/${payment().id}`, c(payment().id)), " in it."] : none));
  return [
    guide.context.me.simulated && el("div", { class: "actions" },
      el("button", { type: "button", "data-test-id": "guide-make-payments", onclick: (event) => makePayments(guide, event.currentTarget) }, "Make payments to try it with")),
    el("h3", {}, "Capture"),
    p("A payment of an order with ", c('"capture": "manual"'), " is approved first. Capture it once, all or part; what is left is released. Repeating it changes nothing."),
    snippet(guide, "Capture a payment", code.call("POST", ({ toCapture }) => `/payments/${toCapture}/capture`, { name: "payment", body: ({ amount }) => ({ amount }), print: ["captured", "amount_captured"] })),
    which(() => values.toCapture, "You have no payment that waits to be captured. Put in the id of one."),
    el("h3", {}, "Void"),
    p("Frees what was approved, so that the order can be paid anew. After 7 days that happens by itself."),
    snippet(guide, "Void a payment", code.call("POST", ({ toVoid }) => `/payments/${toVoid}/void`, { name: "payment", print: ["status"] })),
    which(() => values.toVoid, "You have no payment that can be voided. Put in the id of one."),
    el("h3", {}, "Refund"),
    p("All of it or part, as often as something is left. Without ", c("amount"), " all that is left goes back. It is ", c("pending"), " at first; ", c("refund.processed"), " or ", c("refund.failed"), " tells how it ended."),
    snippet(guide, "Refund a payment", code.call("POST", ({ toRefund }) => `/payments/${toRefund}/refunds`, {
      name: "refund", body: () => ({ amount: 100, reason: "one item returned" }), headers: ({ toRefund }) => ({ "Idempotency-Key": `return-1-of-${toRefund}` }), print: ["id", "status"],
    })),
    which(() => values.toRefund, "You have no payment with money to give back. Put in the id of one."),
  ];
}

/** Three payments of the simulator, one for each of capture, void and refund. Their ids are filled in. */
async function makePayments(guide, button) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    const ids = await Promise.all(["manual", "manual", "automatic"].map(async (capture) => {
      const order = await post("/orders", { ...code.ORDER, receipt: "from the guide", capture });
      return (await post("/payments", { order_id: order.id, method: "upi", vpa: "success@upi" })).id;
    }));
    const made = await settled(ids, guide.context.signal);
    if (made === null) {
      toast("The payments have not settled yet. Look at Jobs: does a worker run?", "warn");
      return;
    }
    const [toCapture, toVoid, toRefund] = made;
    guide.fill({ toCapture, toVoid, toRefund });
    toast("Three payments are made, and their ids filled in.");
  } catch (error) {
    if (error.name !== "AbortError") toast(wordsOf(error), "bad");
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** These payments, once all have succeeded; null if that takes too long. */
async function settled(ids, signal) {
  for (const until = Date.now() + SETTLED_MS; Date.now() < until;) {
    const payments = await Promise.all(ids.map((id) => get(`/payments/${id}`, {}, { signal })));
    if (payments.every(({ status }) => status === "success")) return payments;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return null;
}

/* --- 6: what can go wrong -------------------------------------------------------------------------- */

const ERRORS = [
  { id: "400", codes: "BAD_REQUEST_ERROR, INVALID_CARD, …", then: "Mend the request: field names what is wrong." },
  { id: "401, 403", codes: "AUTHENTICATION_ERROR, PERMISSION_ERROR", then: "Look at the key and its secret." },
  { id: "404", codes: "NOT_FOUND_ERROR", then: "There is none, or it is another merchant's." },
  { id: "409", codes: "CONFLICT_ERROR", then: "Something else is under way, or was done already: reason says what." },
  { id: "422", codes: "IDEMPOTENCY_ERROR", then: "The key was used for another request: take a new one." },
  { id: "429", codes: "RATE_LIMIT_ERROR", then: "Wait for as long as Retry-After says." },
  { id: "500, 503", codes: "SERVER_ERROR, SERVICE_UNAVAILABLE", then: "Ask again, under the same Idempotency-Key." },
];

function errors(guide) {
  return [
    p("When an answer is lost, nobody knows whether the request took effect. So give every POST an ", c("Idempotency-Key"), ": repeated with the same key within 24 hours it takes effect once, and is answered as the first time."),
    snippet(guide, "Try until there is an answer", { curl: code.retryByShell, python: code.retryPython, node: code.retryNode }),
    p("Every error has one shape, ", c('{"error": {"code", "description", "field"?, "reason"?, "request_id"}}'), ". Log the ", c("request_id"), ": by it whoever runs this gateway finds the request."),
    table([
      { name: "Status", cell: ({ id }) => c(id) },
      { name: "Code", align: "full", cell: ({ codes }) => c(codes) },
      { name: "What to do", align: "full", cell: ({ then }) => then },
    ], ERRORS, { caption: "Errors" }),
    p("A decline is no error: the payment becomes ", c("failed"), ", and ", c("error_code"), ", ", c("error_reason"), " and ", c("error_description"), " say why."),
  ];
}

/* --- 7: the simulator ------------------------------------------------------------------------------ */

const TEST_NUMBERS = [
  ["4242424242424242, 4111111111111111, 5555555555554444, 6527658900001005", "success"],
  ["4000000000000002", "card_declined"], ["4000000000009995", "insufficient_funds"], ["4000000000009987", "lost_card"], ["4000000000009979", "stolen_card"],
  ["4000000000000069", "expired_card"], ["4000000000000127", "incorrect_cvc"], ["4000000000000119", "processing_error"],
  ["4000000000003220", "requires_action: a one-time password, of which any 4 to 10 digits pass and fewer fail"],
  ["4000000000007726", "success; its refund takes longer"], ["4000000000005126", "success; its refund is processed and then fails"],
  ["4100280000090000", "the bank does not answer: looked up, then payment_timed_out"],
  ["success@upi", "success, with any handle behind the @"], ["failure@upi", "payment_declined, with any handle"],
  ["pending@upi", "requires_action: approve or refuse it on the simulated phone"],
  ["any other valid card or UPI ID", "random, by the success rates"],
].map(([number, outcome]) => ({ id: number, outcome }));

function testNumbers() {
  return [
    p("The bank is simulated here. Any future expiry will do, and any CVV of the right length."),
    table([
      { name: "Number or UPI ID", align: "full", cell: ({ id }) => (id.startsWith("any") ? id : id.split(", ").map((each) => el("div", {}, c(each)))) },
      { name: "Outcome", align: "full", cell: ({ outcome }) => outcome },
    ], TEST_NUMBERS, { caption: "Test numbers", testId: "test-numbers" }),
  ];
}

/* --- 8: live --------------------------------------------------------------------------------------- */

function goingLive({ values, context: { me } }) {
  const { merchant } = me;
  const items = [
    [values.keys.some(({ id, status }) => status === "active" && id !== values.published?.id), ["A ", link("/keys", "key"), " of your own for each server, its secret in the environment"]],
    [values.endpoints.some(({ enabled, url }) => enabled && url.startsWith("https:")), ["A ", link("/webhooks", "webhook endpoint"), " on https that is switched on"]],
    [null, "Its receiver refuses what does not verify, and acts on each webhook-id once"],
    [null, "Goods are delivered when your server knows, never when the browser says so"],
    [null, "Every POST has an Idempotency-Key, and is repeated with it when no answer comes"],
    [merchant.frame_origins.length > 0, ["The sites that show the checkout in a modal are ", link("/settings", "listed")]],
    [Boolean(merchant.logo_url || merchant.accent_color), ["The checkout has your ", link("/settings", "logo or colour")]],
    [null, "You have tried a decline, a timeout, a refund that fails, and a closed browser"],
    merchant.role === "operator" && [!me.simulated, ["This gateway runs with ", c("APP_ENV=production"), ", a ", c("SECRET_KEY"), " of its own, TLS in front, and a real acquirer"]],
  ].filter(Boolean);
  const state = { true: badge("enabled", "done"), false: badge("requires_action", "to do"), null: badge("none", "your turn") };
  return el("ul", { class: "checklist" }, items.map(([done, words]) => el("li", {}, state[done].cloneNode(true), el("span", {}, words))));
}

/* --- finding one's way ----------------------------------------------------------------------------- */

/** Links within the page move to their section, and the contents mark what is being read. */
function follow({ signal }, root, contents, sections) {
  const links = [...contents.querySelectorAll("a")];
  const jump = (id) => {
    const section = sections.find((each) => each.id === id);
    section?.scrollIntoView();
    section?.querySelector("h2").focus({ preventScroll: true });
  };
  root.addEventListener("click", (event) => {
    const a = event.target.closest("a[href^='#']");
    if (!a || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault(); // the browser would take it for another page, and draw this one anew
    history.replaceState(history.state, "", location.pathname + location.search + a.hash);
    jump(a.hash.slice(1));
  });
  const mark = () => {
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const read = sections.findLastIndex((section) => section.getBoundingClientRect().top < READING_PX);
    const current = atEnd && scrollY > 0 ? links.length - 1 : Math.max(0, read);
    links.forEach((a, i) => (i === current ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current")));
  };
  addEventListener("scroll", mark, { passive: true, signal });
  setTimeout(() => { // when the page is in its place
    if (signal.aborted) return;
    if (location.hash) jump(location.hash.slice(1));
    mark();
  });
}
