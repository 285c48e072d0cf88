/* One delivery: what is sent, how each attempt went, and when the next is due. Live while it is under way. */

import { announce, el, put, replace } from "../dom.js";
import { get } from "../api.js";
import { codeBlock, jsonBlock, parse } from "../code.js";
import { retryButton, placeOf, unable } from "../deliveries.js";
import { count, duration } from "../format.js";
import { badge, card, copyable, empty, facts, heading, link, when } from "../ui.js";
import { linkTo, toldOf } from "./events.js";

export const title = "Webhook delivery";

const LIVE_MS = 2000;
const SECOND_MS = 1000;
const NAMES = { payment: "Payment", order: "Order", refund: "Refund" };

export async function page(context) {
  const { signal } = context;
  const path = `/webhooks/${context.params.id}`;
  let [delivery, { data: endpoints }] = await Promise.all([
    get(path, {}, { signal }), get("/webhook_endpoints", { limit: 100 }, { signal }),
  ]);
  const endpoint = endpoints.find(({ id }) => id === delivery.endpoint_id);
  const state = el("div", {});
  const actions = el("div", { class: "actions" });
  const due = el("span", { "data-test-id": "next-attempt" });
  const log = el("ol", { class: "attempts", "data-test-id": "attempts" });
  const attempts = el("h2", {});

  function draw() {
    const waits = delivery.status === "pending" && delivery.attempts > 0;
    replace(state, facts([
      ["Status", el("span", { class: "badges" }, badge(delivery.status, undefined, { "data-test-id": "webhook-status" }))],
      waits && ["Next attempt", due],
      delivery.error && delivery.status !== "success" && ["Why", sentence(delivery.error)],
      ["Endpoint", endpoint ? link(`/webhooks?endpoint=${endpoint.id}`, placeOf(endpoint)) : el("span", { class: "quiet" }, "deleted")],
      ["Event", link(`/events/${delivery.event_id}`, el("code", {}, delivery.event_id))],
      ...about(delivery),
      ["Delivery", copyable(delivery.id, "the delivery's id")],
      ["Made", when(delivery.created_at, "exact")],
    ].filter(Boolean)));
    const first = delivery.status === "pending" && delivery.attempts === 0;
    replace(actions, !first && retryButton(delivery, endpoint, again, unable(endpoint) ? "" : "primary"));
    put(attempts, delivery.attempts ? count(delivery.attempts, "attempt") : "Attempts");
    drawAttempts();
    tick();
  }

  /** Those that are there stay, as they may be open. */
  function drawAttempts() {
    const there = log.querySelectorAll("[data-number]").length;
    const fresh = delivery.attempt_log.slice(there).map((attempt) => attemptItem(attempt, attempt.number === delivery.attempts));
    if (fresh.length) {
      if (!there) log.replaceChildren();
      log.prepend(...fresh.reverse());
    } else if (!there) {
      log.replaceChildren(el("li", {}, delivery.status === "pending"
        ? empty("On its way", "The first attempt is made at once.")
        : empty("None was made", delivery.error && sentence(delivery.error))));
    }
  }

  function tick() {
    if (delivery.next_attempt_at) put(due, until(delivery.next_attempt_at));
  }

  async function look(options) {
    const now = await get(path, {}, { signal, ...options });
    if (JSON.stringify(now) === JSON.stringify(delivery)) return;
    const more = now.attempts > delivery.attempts;
    delivery = now;
    draw();
    if (more) announce(`Attempt ${now.attempts}: ${outcome(now.attempt_log.at(-1))}.`);
  }

  const again = () => look();
  draw();
  context.every(SECOND_MS, tick);
  context.every(LIVE_MS, async () => delivery.status === "pending" && look({ background: true }));

  const head = heading(delivery.event, { above: link("/webhooks", "Webhooks") });
  head.querySelector(".actions").replaceWith(actions);
  return el("div", {}, head,
    el("div", { class: "columns" },
      card("How it stands", {}, state),
      el("section", { class: "card" }, el("div", { class: "bar card-head" }, attempts), log)),
    sentCard(delivery, endpoint));
}

/* --- parts ----------------------------------------------------------------------------------------- */

function about({ event, payload }) {
  const data = parse(payload)?.data ?? {};
  const told = toldOf({ event, data });
  const orderId = data.order ? null : told[0]?.[1].order_id;
  return [...told.filter(([name]) => NAMES[name]).map(([name, object]) => [NAMES[name], linkTo(name, object.id)]), ["Order", linkTo("order", orderId)]];
}

function attemptItem(attempt, latest) {
  const good = attempt.error === null;
  return el("li", { "data-number": attempt.number },
    el("details", { open: latest && !good },
      el("summary", {},
        el("span", { class: "bar" },
          el("span", { class: "badges" },
            el("strong", {}, `Attempt ${attempt.number}`),
            badge(good ? "success" : "failed", attempt.status_code ? String(attempt.status_code) : "no answer")),
          when(attempt.attempted_at, "exact", { class: "quiet" })),
        el("span", { class: "quiet" }, `${sentence(outcome(attempt))} It took ${duration(attempt.duration_ms)}.`)),
      el("div", { class: "stack" },
        facts([["Sent to", el("code", {}, attempt.url)]]),
        attempt.response_body
          ? codeBlock(attempt.response_body, { label: "Answer" })
          : el("p", { class: "quiet" }, attempt.status_code ? "The answer had no body." : "There was no answer."))));
}

function sentCard(delivery, endpoint) {
  const parsed = parse(delivery.payload);
  return card("What is sent", {},
    el("div", { class: "stack" },
      codeBlock(headers(delivery, endpoint), { label: "Request headers" }),
      el("p", { class: "quiet hint" }, "Time and signatures are made anew for each attempt. To find out why one does not verify, ask the signature doctor on the ",
        link(`/webhooks?endpoint=${delivery.endpoint_id}`, "endpoint's card"), "."),
      parsed !== undefined && jsonBlock(parsed, { label: "Body", "data-test-id": "payload" }),
      codeBlock(delivery.payload, { label: "Raw body, byte for byte as it is signed", class: "raw", "data-test-id": "raw-payload" })));
}

/** As a receiver sees them. */
function headers({ event_id: id, attempt_log: [...log] }, endpoint) {
  const url = endpoint?.url ?? log.at(-1)?.url;
  const host = url && new URL(url);
  return [
    `POST ${host ? host.pathname + host.search : "/"}`,
    ...(host ? [`Host: ${host.host}`] : []),
    "Content-Type: application/json; charset=utf-8",
    "User-Agent: PaymentGateway-Webhooks/1.0",
    `webhook-id: ${id}`,
    "webhook-timestamp: <seconds, of the attempt>",
    "webhook-signature: v1,<base64 HMAC-SHA256 of id.timestamp.body>",
    "X-Webhook-Signature: <hex HMAC-SHA256 of the body>",
  ].join("\n");
}

/* --- words ----------------------------------------------------------------------------------------- */

function outcome({ error, status_code: code }) {
  return error ?? `answered ${code}`;
}

function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

/** How long it is still: "in 58 s" */
function until(iso) {
  const ms = new Date(iso) - Date.now();
  return ms > 0 ? `in ${duration(Math.ceil(ms / 1000) * 1000)}` : "now";
}
