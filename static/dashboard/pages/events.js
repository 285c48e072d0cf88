/* Everything that happened, as webhooks tell it. */

import { el } from "../dom.js";
import { choice, dates, listPage, search } from "../list.js";
import { empty, link, moneyOf, when } from "../ui.js";

export const title = "Events";

export const EVENT_TYPES = [
  "order.paid", "order.expired",
  "payment.created", "payment.requires_action", "payment.pending", "payment.success", "payment.failed", "payment.captured", "payment.voided",
  "refund.created", "refund.processed", "refund.failed",
  "webhook.test", "webhook_endpoint.disabled",
];

const PAGES = {
  payment: (id) => `/payments/${id}`, order: (id) => `/orders/${id}`, refund: (id) => `/refunds/${id}`,
  webhook_endpoint: (id) => `/webhooks?endpoint=${id}`,
};

/** The objects that an event tells of: [[name, object], ...], first the one that changed. */
export function toldOf({ event, data }) {
  return Object.entries(data).sort(([a], [b]) => event.startsWith(`${b}.`) - event.startsWith(`${a}.`));
}

/** A link to one of them. */
export function linkTo(name, id) {
  return id ? link(PAGES[name](id), el("code", {}, id)) : null;
}

const COLUMNS = [
  { name: "Event", cell: (event) => el("a", { class: "row-link", href: `/dashboard/events/${event.id}`, "data-test-id": "event-link" }, event.event) },
  { name: "Amount", align: "right", cell: (event) => {
    const [[, told]] = toldOf(event);
    return told.amount === undefined ? el("span", { class: "quiet" }, "–") : moneyOf(told.amount, told.currency);
  } },
  { name: "About", cell: (event) => {
    const [[name, told]] = toldOf(event);
    return linkTo(name, told.id);
  } },
  { name: "When", align: "right", cell: (event) => when(event.created_at, "exact") },
];

const about = {
  ...search("order_…, pay_… or rfnd_…", "Order, payment or refund"),
  ask: ({ q = "" }) => {
    const id = q.trim();
    const kind = { order_: "order_id", rfnd_: "refund_id" }[/^[a-z]+_/.exec(id)?.[0]] ?? "payment_id";
    return { [kind]: id };
  },
};

export function page(context) {
  return listPage(context, {
    title, path: "/events", columns: COLUMNS, what: "events", testId: "events-table", rowTestId: "event-row",
    note: "Every change of an order, a payment or a refund, whether or not a webhook told of it.",
    filters: [about, choice("event", "Event", EVENT_TYPES.map((type) => [type, type])), dates()],
    nothing: () => empty("No events yet", "The first order that is paid makes some.", link("/docs", "Read the guide")),
  });
}
