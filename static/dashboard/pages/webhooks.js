/* Webhook endpoints: where they go, what they tell, the secrets that sign them; and the log of deliveries. */

import { announce, copyButton, el, put, replace } from "../dom.js";
import { get, newKey, patch, post, remove } from "../api.js";
import { logCard, placeOf } from "../deliveries.js";
import { count, duration, number, percent } from "../format.js";
import { go, query } from "../router.js";
import { badge, card, complain, confirm, copyable, facts, field, heading, link, press, submit, toast, when } from "../ui.js";
import { EVENT_TYPES } from "./events.js";

export const title = "Webhooks";

const ENDPOINTS_MAX = 16; // the API takes no more of a merchant
const HEALTH_DAYS = 7;
const HEALTH_MS = 10_000;
const TEST_MS = 1000;
const PATIENCE_MS = 15_000; // a test that nobody took by then, waits for a worker
const OVERLAP_HOURS = 24; // time to bring a new secret to every server
const OVERLAP_HOURS_MAX = 168;
const MASK = "whsec_••••••••••••••••••••••••";
const INBOX = /\/inbox\/([A-Za-z0-9_-]{8,64})$/;
const FAMILIES = { payment: "payment", order: "order", refund: "refund", webhook_endpoint: "endpoint" };

let made = null; // the endpoint just made here, whose secret is shown at once

export async function page(context) {
  const { signal } = context;
  const inboxes = context.me.test_endpoints;
  const [{ data: endpoints }, stats] = await Promise.all([
    get("/webhook_endpoints", { limit: 100 }, { signal }),
    get("/webhooks/stats", { days: HEALTH_DAYS }, { signal }),
  ]);
  const full = endpoints.length >= ENDPOINTS_MAX;
  const wanted = query().endpoint;
  const chosen = wanted === "new" && !full ? null : endpoints.find(({ id }) => id === wanted) ?? endpoints[0] ?? null;
  const health = healthFigures();
  const choices = endpointChoices(chosen);
  const config = el("div", {});
  const log = logCard(context, endpoints, look);

  /** The figures and the endpoints, as they are now. */
  async function look(options) {
    const [figures, { data }] = await Promise.all([
      get("/webhooks/stats", { days: HEALTH_DAYS }, { signal, ...options }), get("/webhook_endpoints", { limit: 100 }, { signal, ...options }),
    ]);
    show(data, figures);
    const mine = chosen && data.find(({ id }) => id === chosen.id);
    if (mine) drawn.show(mine);
  }

  function show(all, figures) {
    health.show(figures);
    health.element.hidden = !chosen && !figures.success && !figures.pending && !figures.failed;
    choices.show(all, figures);
    log.know(all);
  }

  const drawn = chosen
    ? chosenCard(context, chosen, { log, inboxes, changed: () => look() })
    : newCard(endpoints.length === 0);
  config.append(drawn.element);
  show(endpoints, stats);
  context.every(HEALTH_MS, () => look({ background: true }));

  return el("div", {},
    heading(title, {
      note: "Your server is told of every change by a signed POST.",
      beside: [
        inboxes && !full && inboxButton(),
        chosen && (full ? el("span", { class: "quiet" }, `${ENDPOINTS_MAX} endpoints, the most there can be`) : el("a", { class: "button primary", href: "/dashboard/webhooks?endpoint=new" }, "Add an endpoint")),
      ],
    }),
    health.element, choices.element, config, log.card);
}

/* --- all of them ----------------------------------------------------------------------------------- */

function healthFigures() {
  const names = { success: "Delivered", pending: "Under way", failed: "Given up", share: "Success rate" };
  const figures = Object.fromEntries(Object.keys(names).map((name) => [name, el("dd", { "data-test-id": `health-${name}` })]));
  const element = el("dl", { class: "figures", "aria-label": `Deliveries of the last ${HEALTH_DAYS} days` },
    Object.entries(names).map(([name, said]) => el("div", { class: "figure" }, el("dt", {}, `${said}, ${HEALTH_DAYS} days`), figures[name])));
  return {
    element,
    show({ success, pending, failed }) {
      for (const [name, value] of Object.entries({ success, pending, failed })) put(figures[name], number(value));
      put(figures.share, success + failed ? percent((100 * success) / (success + failed)) : "–");
    },
  };
}

/** Which endpoint is looked at; nothing as long as there is no choice. */
function endpointChoices(chosen) {
  const items = el("ul", {});
  const element = el("nav", { class: "endpoints", "aria-label": "Endpoints" }, items);
  let shown = null;
  return {
    element,
    show(endpoints, stats) {
      const text = JSON.stringify([endpoints, stats.endpoints]);
      if (text === shown || element.contains(document.activeElement)) return;
      shown = text;
      element.hidden = endpoints.length < 2 && (chosen !== null || endpoints.length === 0);
      const healthOf = new Map(stats.endpoints.map((each) => [each.endpoint_id, each]));
      items.replaceChildren(...(element.hidden ? [] : endpoints).map((endpoint) => el("li", {},
        el("a", { href: `/dashboard/webhooks?endpoint=${endpoint.id}`, "aria-current": endpoint.id === chosen?.id && "true", "data-test-id": "endpoint-choice" },
          el("span", { class: "cut", title: endpoint.url }, placeOf(endpoint)), stateBadge(endpoint),
          el("span", { class: "quiet cut" }, [endpoint.description, healthWords(healthOf.get(endpoint.id))].filter(Boolean).join(" · "))))));
    },
  };
}

function healthWords(health) {
  if (!health) return "nothing sent lately";
  return [health.success && `${number(health.success)} delivered`, health.pending && `${number(health.pending)} under way`, health.failed && `${number(health.failed)} given up`]
    .filter(Boolean).join(", ");
}

function stateBadge(endpoint) {
  if (!endpoint.enabled) return badge("disabled");
  return endpoint.failing_since ? badge("needs_action", "failing") : badge("enabled");
}

/* --- a new one ------------------------------------------------------------------------------------- */

function newCard(first) {
  let key = newKey(); // saved again after a lost answer, it is one endpoint
  const form = endpointForm({ url: "", description: null, events: ["*"], enabled: true }, {
    action: "Add the endpoint",
    save: async (values) => {
      made = await post("/webhook_endpoints", values, key);
      toast("The endpoint is there.");
      go(`/webhooks?endpoint=${made.id}`, { replace: true });
    },
  });
  form.element.addEventListener("input", () => (key = newKey()));
  return {
    show() {},
    element: card(first ? "Where should we tell your server?" : "Another endpoint", { "data-test-id": "webhook-config" },
      el("div", { class: "stack" },
        first && el("p", { class: "quiet" }, "You have no endpoint yet. Give the address of one: from then on every payment, order and refund is told there, signed, and tried up to five times over hours until your server answers 2xx."),
        form.element)),
  };
}

/* --- the chosen one -------------------------------------------------------------------------------- */

function chosenCard(context, endpoint, { log, inboxes, changed }) {
  const name = el("h2", { class: "wrap" });
  const inbox = el("a", { class: "button small", target: "_blank", rel: "noopener", "data-test-id": "open-inbox" }, "Open inbox", el("span", { class: "unseen" }, " (a new tab)"));
  const state = el("div", {});
  const offer = el("div", { class: "offer" });
  const secret = secretPart(endpoint, changed);
  const test = testPart(context, endpoint, log);
  const form = endpointForm(endpoint, {
    action: "Save",
    beside: [el("button", { type: "button", class: "danger", onclick: () => removeEndpoint(endpoint) }, "Delete …")],
    save: async (_, changes) => {
      const { missed } = await patch(`/webhook_endpoints/${endpoint.id}`, changes);
      await changed();
      toast("Saved.");
      offerMissed(missed);
    },
  });

  function show(latest) {
    const inboxAt = inboxes ? inboxOf(latest) : null;
    put(name, placeOf(latest));
    inbox.hidden = inboxAt === null;
    inbox.href = inboxAt ?? "";
    replace(state, facts([
      ["State", el("span", { "data-test-id": "endpoint-state" }, stateBadge(latest))],
      ["Why", !latest.enabled && latest.disabled_reason],
      ["Disabled", !latest.enabled && when(latest.disabled_at, "exact")],
      ["Failing since", latest.failing_since && [when(latest.failing_since, "exact"), latest.enabled && el("p", { class: "quiet hint" }, "After five days of nothing but failure it is disabled.")]],
      ["Id", copyable(latest.id, "the endpoint's id")],
      ["Made", when(latest.created_at)],
    ]));
    form.follow(latest);
    secret.show(latest);
    test.show(latest);
  }

  /** It was off, and is on again. */
  function offerMissed(missed) {
    offer.replaceChildren();
    if (!missed) return;
    const parts = [
      missed.never_sent && `${count(missed.never_sent, "event")} happened while it was off`,
      missed.failed && `${count(missed.failed, "delivery", "deliveries")} had been given up`,
    ].filter(Boolean).join(", and ");
    const send = el("button", { type: "button", class: "primary", "data-test-id": "send-missed-button" }, "Send them now");
    send.addEventListener("click", () => press(send, async () => {
      log.follow(await post("/webhooks/retry", missed.retry_with));
      offer.replaceChildren();
      log.card.querySelector("h2").focus();
    }));
    offer.replaceChildren(el("div", { class: "notice bar", role: "status", "data-test-id": "missed" },
      el("span", {}, `${parts}.`),
      el("span", { class: "actions" }, send, el("button", { type: "button", onclick: () => offer.replaceChildren() }, "Leave them"))));
  }

  show(endpoint);
  return {
    show,
    element: card(null, { "data-test-id": "webhook-config", "aria-label": "Endpoint" },
      el("div", { class: "bar card-head" }, name, inbox), offer,
      el("div", { class: "columns wide-first" }, form.element, el("div", { class: "stack aside" }, state, secret.element, test.element)),
      doctor(endpoint)),
  };
}

async function removeEndpoint(endpoint) {
  const done = await confirm({
    title: "Delete this endpoint?",
    text: [el("p", { class: "wrap" }, endpoint.url), el("p", {}, "It is told of nothing any more, what is under way to it is given up, and its secrets are gone. Its deliveries stay in the log.")],
    action: "Delete it", danger: true,
    deed: async () => (await remove(`/webhook_endpoints/${endpoint.id}`), true),
  });
  if (!done) return;
  toast("The endpoint is deleted.");
  go("/webhooks", { replace: true });
}

/* --- the form -------------------------------------------------------------------------------------- */

function endpointForm(endpoint, { action, beside = [], save }) {
  const url = el("input", { type: "url", name: "url", value: endpoint.url, required: true, maxlength: 2048, placeholder: "https://shop.example/webhook", autocomplete: "off", spellcheck: "false", "data-test-id": "webhook-url-input" });
  const description = el("input", { name: "description", value: endpoint.description ?? "", maxlength: 255, autocomplete: "off" });
  const enabled = el("input", { type: "checkbox", role: "switch", name: "enabled", checked: endpoint.enabled });
  let events = eventPicker(endpoint.events);
  const element = el("form", { class: "stack", novalidate: true, "data-test-id": "webhook-config-form" },
    el("p", { class: "form-problem", role: "alert", hidden: true }),
    field("URL", url, { hint: "http or https. Answer with any 2xx within 10 seconds." }),
    field("Description", description, { optional: true }),
    events.element,
    el("label", { class: "check" }, enabled, "Enabled"),
    el("div", { class: "bar" }, el("button", { type: "submit", class: "primary", "data-test-id": "save-webhook-button" }, action), beside));
  const values = () => ({ url: url.value.trim(), description: description.value.trim() || null, events: events.value(), enabled: enabled.checked });
  let before = values();

  element.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!url.value.trim()) {
      complain(url, "Where to? Give an http or https address.");
      url.focus();
    } else if (events.value().length === 0) {
      events.complain("Choose at least one.");
    } else {
      submit(element, async () => {
        const now = values();
        await save(now, differing(now, before));
        before = values();
      });
    }
  });

  /** What changed elsewhere is shown, but for what is being changed here. */
  function follow(latest) {
    const mine = differing(values(), before);
    if (!("url" in mine)) fill(url, latest.url);
    if (!("description" in mine)) fill(description, latest.description ?? "");
    if (!("enabled" in mine)) enabled.checked = latest.enabled;
    if (!("events" in mine)) {
      const now = eventPicker(latest.events);
      if (differing({ events: now.value() }, before).events) {
        events.element.replaceWith(now.element);
        events = now;
      }
    }
    before = { ...values(), ...Object.fromEntries(Object.keys(mine).map((name) => [name, before[name]])) };
  }

  return { element, follow };
}

function fill(control, value) {
  if (control.value !== value && control !== document.activeElement) control.value = value;
}

/** What is changed, and no more: so that nothing is undone that changed elsewhere meanwhile. */
function differing(values, before) {
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => String(value) !== String(before[name])));
}

/** All events, whole families, or some: as the API's patterns. */
function eventPicker(patterns) {
  const box = (pattern, attributes = {}) => el("input", { type: "checkbox", value: pattern, checked: patterns.includes(pattern), ...attributes });
  const all = box("*", { name: "events", "aria-describedby": "events-error" });
  const families = Object.entries(FAMILIES).map(([name, said]) => ({
    said,
    whole: box(`${name}.*`),
    each: EVENT_TYPES.filter((type) => type.startsWith(`${name}.`)).map((type) => box(type)),
  }));
  const ours = families.flatMap(({ whole, each }) => [whole, ...each]);
  const others = patterns.filter((pattern) => pattern !== "*" && !ours.some(({ value }) => value === pattern)); // kept as they are
  const error = el("p", { class: "error", id: "events-error", hidden: true });
  const some = el("div", { class: "families" }, families.map(({ said, whole, each }) => el("div", {},
    el("label", { class: "check" }, whole, el("strong", {}, `All ${said} events`)),
    each.map((type) => el("label", { class: "check" }, type, el("code", {}, type.value))))));

  function follow() {
    some.hidden = all.checked;
    for (const { whole, each } of families) {
      for (const type of each) {
        type.disabled = whole.checked;
        type.checked ||= whole.checked;
      }
    }
  }

  function say(words) {
    put(error, words);
    error.hidden = !words;
    if (words) all.focus();
  }

  const element = el("fieldset", { class: "field" }, el("legend", {}, "Events"),
    el("label", { class: "check" }, all, "All, also kinds that are added later"), some, error);
  element.addEventListener("change", () => {
    say("");
    follow();
  });
  follow();
  return {
    element,
    complain: say,
    value: () => all.checked ? ["*"] : [...ours.filter(({ checked, disabled }) => checked && !disabled).map(({ value }) => value), ...others],
  };
}

/* --- its secret ------------------------------------------------------------------------------------ */

function secretPart(endpoint, changed) {
  const shown = el("code", { "data-test-id": "webhook-secret" }, MASK);
  const old = el("code", { "data-test-id": "previous-secret" });
  const overlap = el("div", { class: "notice stack", "data-test-id": "overlap" });
  const copying = copyButton("the secret", () => shown.textContent);
  const reveal = el("button", { type: "button", class: "small", "data-test-id": "reveal-secret-button" });
  const rotate = el("button", { type: "button", class: "small", "data-test-id": "regenerate-secret-button", onclick: () => press(rotate, rotateSecret) }, "Rotate …");
  const revoking = el("button", { type: "button", class: "small", "data-test-id": "revoke-secret-button", onclick: () => press(revoking, revoke) }, "Revoke now …");
  const path = `/webhook_endpoints/${endpoint.id}`;
  let known = null; // what GET .../secret says, while it is revealed
  let now = endpoint;

  function draw() {
    put(shown, known?.secret ?? MASK);
    put(old, known?.previous_secret ?? MASK);
    put(reveal, known ? "Hide" : "Reveal");
    copying.hidden = !known;
    const lives = now.previous_secret_expires_at && new Date(now.previous_secret_expires_at) > Date.now();
    overlap.hidden = !lives;
    if (!lives || overlap.dataset.until === now.previous_secret_expires_at) return;
    overlap.dataset.until = now.previous_secret_expires_at;
    overlap.replaceChildren(
      el("p", {}, "The old secret signs too until ", when(now.previous_secret_expires_at, "exact"), "."), old,
      el("div", {}, revoking));
  }

  reveal.addEventListener("click", () => press(reveal, async () => {
    known = known ? null : await get(`${path}/secret`);
    draw();
  }));

  async function rotateSecret() {
    const answer = await askToRotate(path);
    if (!answer) return;
    known = await get(`${path}/secret`);
    now = answer;
    draw();
    toast("This is the new secret. Bring it to your servers.");
    await changed();
  }

  async function revoke() {
    const done = await confirm({
      title: "Revoke the old secret now?",
      text: "Servers that have only the old one refuse every webhook from then on.",
      action: "Revoke it", danger: true,
      deed: async () => (await remove(`${path}/previous_secret`), true),
    });
    if (!done) return;
    if (known) known = { ...known, previous_secret: null };
    toast("The old secret signs nothing any more.");
    await changed();
  }

  if (made?.id === endpoint.id) known = { secret: made.secret, previous_secret: null };
  made = null;
  draw();
  return {
    element: el("section", { class: "part", "aria-label": "Signing secret" },
      el("div", { class: "bar" }, el("h3", {}, "Signing secret"), el("span", { class: "actions" }, copying, reveal, rotate)),
      el("p", {}, shown), overlap,
      el("p", { class: "quiet hint" }, "Your server verifies with it that a webhook is ours: ", link("/docs", "the guide"), " shows how.")),
    show(latest) {
      now = latest;
      draw();
    },
  };
}

/** Resolves to the endpoint with its new secret, or null. */
function askToRotate(path) {
  const hours = el("input", { type: "number", name: "overlap_hours", value: OVERLAP_HOURS, min: 0, max: OVERLAP_HOURS_MAX, step: 1, required: true, inputmode: "numeric" });
  const warning = el("p", { class: "notice bad", role: "alert", hidden: true },
    "The old secret is revoked at once: until your servers have the new one, they refuse every webhook.");
  hours.addEventListener("input", () => {
    const atOnce = hours.value !== "" && Number(hours.value) === 0;
    warning.hidden = !atOnce;
    const button = hours.form.querySelector("[type=submit]");
    button.className = atOnce ? "danger" : "primary";
    put(button, atOnce ? "Revoke the old one and rotate" : "Rotate");
  });
  return confirm({
    title: "Rotate the signing secret?",
    text: "A new secret is made. For a while every webhook is signed with both, so that you can change your servers one after the other.",
    fields: [field("The old one signs too for so many hours", hours, { hint: `0 to ${OVERLAP_HOURS_MAX}; 0 revokes it at once.` }), warning],
    action: "Rotate",
    testId: "rotate-dialog",
    deed: ({ key }) => {
      const wanted = Number(hours.value);
      if (hours.value === "" || !Number.isInteger(wanted) || wanted < 0 || wanted > OVERLAP_HOURS_MAX) {
        complain(hours, `Must be a whole number from 0 to ${OVERLAP_HOURS_MAX}.`);
        hours.focus();
        return false;
      }
      return post(`${path}/rotate_secret`, { overlap_hours: wanted }, key);
    },
  });
}

/* --- trying it out --------------------------------------------------------------------------------- */

function testPart(context, endpoint, log) {
  const button = el("button", { type: "button", "data-test-id": "test-webhook-button" }, "Send a test");
  const result = el("div", { "data-test-id": "test-result" });
  let now = endpoint;
  let under = null; // the delivery of the last test, as long as it is under way
  let since = 0;

  button.addEventListener("click", () => {
    if (!now.enabled) toast("It is disabled. Enable it, save, and try again.", "warn");
    else press(button, async () => {
      since = Date.now();
      draw(await post(`/webhook_endpoints/${endpoint.id}/test`));
      await log.again();
    });
  });

  function draw(delivery) {
    under = delivery.status === "pending" ? delivery : null;
    const [status, said, words] = testWords(delivery, Date.now() - since > PATIENCE_MS);
    if (result.textContent.includes(words) && result.querySelector(`[href$="${delivery.id}"]`)) return;
    replace(result, el("div", { class: "bar" }, el("span", {}, badge(status, said), ` ${words}`), link(`/webhooks/${delivery.id}`, "See it")));
    if (delivery.attempts) announce(words);
  }

  context.every(TEST_MS, async () => {
    const before = under;
    if (!before) return;
    const delivery = await get(`/webhooks/${before.id}`, {}, { background: true, signal: context.signal });
    if (under !== before) return; // another test was sent meanwhile
    draw(delivery);
    if (delivery.attempts !== before.attempts) await log.again();
  });
  return {
    element: el("section", { class: "part", "aria-label": "Try it out" },
      el("div", { class: "bar" }, el("h3", {}, "Try it out"), button),
      el("p", { class: "quiet hint" }, "Sends a signed webhook.test to the address as it is saved."), result),
    show(latest) {
      now = latest;
    },
  };
}

function testWords({ status, attempts, error, response_code: code, attempt_log: log, next_attempt_at: next }, late) {
  const took = log?.length ? ` in ${duration(log.at(-1).duration_ms)}` : "";
  if (status === "success") return ["success", "delivered", `It answered ${code}${took}.`];
  if (status === "failed") return ["failed", "given up", `The last answer: ${error}.`];
  if (attempts === 0) return ["pending", "on its way", late ? "Nobody has taken it yet: are workers running? See Jobs." : "It is sent in a moment."];
  return ["failed", "no success yet", `Attempt ${attempts}: ${error}${took}. The next one is due ${new Date(next).toLocaleTimeString()}.`];
}

function inboxOf({ url }) {
  const token = INBOX.exec(new URL(url).pathname)?.[1];
  return token ? `/inbox/${token}` : null;
}

function inboxButton() {
  const button = el("button", { type: "button", "data-test-id": "new-inbox-button" }, "New inbox");
  button.title = "A page of this gateway that shows what arrives, and an endpoint that delivers to it";
  button.addEventListener("click", () => press(button, async () => {
    const inbox = await post("/test/inboxes");
    made = inbox.endpoint;
    // A browser may refuse the new tab; the endpoint's card has the link as well.
    open(inbox.page_url, "_blank", "noopener");
    toast("The inbox is there, and an endpoint that delivers to it.");
    go(`/webhooks?endpoint=${made.id}`);
  }));
  return button;
}

/* --- the signature doctor -------------------------------------------------------------------------- */

function doctor(endpoint) {
  const body = el("textarea", { name: "body", rows: 4, required: true, spellcheck: "false", class: "mono" });
  const headers = el("textarea", { name: "headers", rows: 4, required: true, spellcheck: "false", class: "mono", placeholder: "webhook-id: evt_...\nwebhook-timestamp: 1705315870\nwebhook-signature: v1,..." });
  const secret = el("input", { name: "secret", autocomplete: "off", spellcheck: "false", class: "mono", placeholder: "whsec_..." });
  const computed = el("input", { name: "computed", autocomplete: "off", spellcheck: "false", class: "mono" });
  const verdict = el("div", { role: "status", "data-test-id": "diagnosis" });
  const form = el("form", { class: "stack", novalidate: true, "aria-label": "Signature doctor" },
    el("p", { class: "quiet" }, "Give it what your server received, and it says why the signature does not verify. Nothing is changed or sent."),
    el("p", { class: "form-problem", role: "alert", hidden: true }),
    field("Body, byte for byte", body), field("Headers, one a line", headers),
    el("div", { class: "columns" },
      field("The secret that your server uses", secret, { optional: true }),
      field("The signature that your server computed", computed, { optional: true })),
    el("div", {}, el("button", { type: "submit" }, "Find out why")), verdict);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    verdict.replaceChildren();
    submit(form, async () => {
      const { verified, explanation } = await post(`/webhook_endpoints/${endpoint.id}/verify`, {
        body: body.value, headers: headersOf(headers.value), secret: secret.value.trim() || null, computed: computed.value.trim() || null,
      });
      verdict.replaceChildren(el("p", { class: `notice ${verified ? "good" : "bad"}` }, el("strong", {}, verified ? "It verifies. " : "It does not verify. "), explanation));
    });
  });
  return el("details", { class: "doctor" }, el("summary", {}, "Signature doctor: why does a webhook not verify?"), form);
}

/** "name: value" a line, as an object. */
function headersOf(text) {
  const lines = text.split("\n").map((line) => /^\s*([^:\s]+)\s*:\s*(.*?)\s*$/.exec(line)).filter(Boolean);
  return Object.fromEntries(lines.map(([, name, value]) => [name.toLowerCase(), value]));
}
