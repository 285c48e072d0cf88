/* What happened to a payment, in sentences. */

import { money, number, words } from "./format.js";

const EVENTS = {
  "payment.created": ["payment begun", ""],
  "payment.requires_action": ["the shopper has to approve it", ""],
  "payment.pending": ["the shopper has answered", ""],
  "payment.success": ["approved", "good"],
  "payment.failed": ["failed", "bad"],
  "payment.captured": ["captured", "good"],
  "payment.voided": ["voided", ""],
  "order.paid": ["order paid", "good"],
  "refund.created": ["refund begun", ""],
  "refund.processed": ["refunded", "good"],
  "refund.failed": ["refund failed", "bad"],
};
const ACTIONS = {
  "payment.capture_requested": "capture asked for",
  "payment.void_requested": "void asked for",
  "refund.requested": "refund asked for",
};
const OPERATIONS = { authorize: "authorization", capture: "capture", void: "void", refund: "refund" };
const ANSWERS = { approved: "approved", declined: "declined", needs_action: "the shopper must act", unknown: "no definite answer", not_found: "it never heard of it" };
const ACTION_TONES = { approved: "good", declined: "bad" };

/** {what, said, href, tone} of an entry of the API's timeline. */
export function sentence(entry, payment, refunds) {
  return { event, acquirer, action, webhook }[entry.kind](entry, payment, refunds);
}

function event({ name, id, details }, payment, refunds) {
  const [what, tone] = EVENTS[name] ?? [name, ""];
  const refund = refunds.find((each) => each.id === details.refund_id);
  const amount = refund ? refund.amount : name === "payment.captured" ? payment.amount_captured : null;
  const parts = [
    amount !== null && money(amount, payment.currency),
    name === "payment.failed" && payment.error_description,
    name === "refund.failed" && refund?.error_reason && words(refund.error_reason),
  ];
  return { what, tone, said: [name, ...parts.filter(Boolean)].join(" · "), href: `/events/${id}` };
}

function acquirer({ name, outcome, details }) {
  const often = details.times > 1 ? ` ${number(details.times)} times` : "";
  const asked = details.looked_up ? `looked up the ${OPERATIONS[name]}${often}` : `asked for the ${OPERATIONS[name]}`;
  const parts = [asked, details.reason && words(details.reason), details.reference];
  return { what: `acquirer: ${ANSWERS[outcome]}`, tone: ACTION_TONES[outcome] ?? "", said: parts.filter(Boolean).join(" · ") };
}

function action({ name, actor, details }, payment) {
  const parts = [`by ${actor}`, details.amount && money(details.amount, payment.currency)];
  return { what: ACTIONS[name] ?? words(name.replace(".", " ")), tone: "", said: parts.filter(Boolean).join(" · ") };
}

function webhook({ name, id, outcome, details }) {
  const answer = details.error ?? `answered ${details.status_code}`;
  return {
    what: `webhook ${name}${details.attempt > 1 ? `, attempt ${details.attempt}` : ""}: ${outcome === "success" ? "delivered" : "failed"}`,
    tone: outcome === "success" ? "good" : "bad", said: `${details.url} · ${answer} · ${details.duration_ms} ms`, href: `/webhooks/${id}`,
  };
}

export function capitalised(text) {
  return text[0].toUpperCase() + text.slice(1);
}
