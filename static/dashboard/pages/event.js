/* One event: what it told, and to whom. */

import { el } from "../dom.js";
import { get } from "../api.js";
import { jsonBlock } from "../code.js";
import { deliveries } from "../deliveries.js";
import { card, copyable, empty, facts, heading, link, moneyOf, when } from "../ui.js";
import { linkTo, toldOf } from "./events.js";

export const title = "Event";

export async function page(context) {
  const { signal } = context;
  const [event, { data: endpoints }] = await Promise.all([
    get(`/events/${context.params.id}`, {}, { signal }), get("/webhook_endpoints", { limit: 100 }, { signal }),
  ]);
  const told = toldOf(event);
  const [[, main]] = told;
  const log = el("div", {});
  deliveries(context, log, {
    endpoints, paged: false,
    asked: () => ({ event_id: event.id }),
    nothing: () => empty("Sent to nobody", "No endpoint had asked for such events when it happened.", link("/webhooks", "Webhook endpoints")),
  });
  return el("div", {},
    heading(event.event, { above: link("/events", "Events") }),
    card(null, { "aria-label": "Facts" }, facts([
      ["Id", copyable(event.id, "the event's id")],
      ["When", when(event.created_at, "exact")],
      ...told.map(([name, object]) => [NAMES[name] ?? name, linkTo(name, object.id)]),
      !told.some(([name]) => name === "order") && ["Order", linkTo("order", main.order_id)],
      main.amount !== undefined && ["Amount", moneyOf(main.amount, main.currency)],
    ].filter(Boolean), "wide")),
    card("Deliveries", {}, log),
    card("What it tells", {}, el("div", { class: "stack" },
      el("p", { class: "quiet" }, "The objects as they were right after the change. The exact bytes that are signed are shown with each delivery."),
      jsonBlock({ id: event.id, event: event.event, timestamp: seconds(event.created_at), data: event.data }, { label: "Payload", "data-test-id": "event-payload" }))));
}

const NAMES = { payment: "Payment", order: "Order", refund: "Refund", webhook_endpoint: "Endpoint" };

function seconds(iso) {
  return Math.floor(new Date(iso) / 1000);
}
