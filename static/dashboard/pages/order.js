/* One order: what is to be paid, the attempts to pay it, and its checkout. */

import { copyButton, el, replace } from "../dom.js";
import { get } from "../api.js";
import { list } from "../list.js";
import { badge, card, copyable, empty, facts, heading, link, moneyOf, when } from "../ui.js";
import { COLUMNS } from "./payments.js";

export const title = "Order";

const LIVE_MS = 3000;

export async function page(context) {
  const { id } = context.params;
  const head = el("div", { class: "stack" });
  const beneath = el("div", { class: "stack" });
  const payments = el("div", {});
  let shown = null;

  async function look(options = {}) {
    const order = await get(`/orders/${id}`, {}, { signal: context.signal, ...options });
    if (JSON.stringify(order) === shown) return;
    shown = JSON.stringify(order);
    const notes = Object.entries(order.notes);
    const payable = order.status === "created" || order.status === "attempted";
    replace(head,
      heading(moneyOf(order.amount, order.currency), {
        above: link("/orders", "Orders"),
        beside: payable ? [
          copyButton("the checkout's address", () => order.checkout_url, { class: "", name: "Copy link" }),
          el("a", { class: "button primary", href: order.checkout_url, target: "_blank", rel: "noopener", "data-test-id": "open-checkout" }, "Open checkout"),
        ] : [],
      }),
      el("div", { class: "bar" }, badge(order.status, undefined, { "data-test-id": "status" }), copyable(order.id, "the order's id", { "data-test-id": "order-id" })),
      card(null, {}, facts([
        ["Paid", order.amount_paid ? moneyOf(order.amount_paid, order.currency) : null],
        ["Receipt", order.receipt],
        ["Created", when(order.created_at, "exact")],
        ["Capture", order.capture],
        ["Methods", order.methods.map((method) => (method === "upi" ? "UPI" : method)).join(", ")],
        ["Last change", when(order.updated_at, "exact")],
        ["Expires", order.expires_at && when(order.expires_at, "exact")],
        ["Return to", order.callback_url],
      ], "wide")));
    replace(beneath,
      notes.length ? card("Notes", {}, facts(notes)) : null,
      card(null, {}, link(`/events?order_id=${order.id}`, "Events of this order")));
  }

  await look();
  context.every(LIVE_MS, () => look({ background: true }));
  list(context, payments, {
    path: `/orders/${id}/payments`, columns: COLUMNS.filter(({ name }) => name !== "Order"), caption: "Attempts to pay this order", what: "payments",
    testId: "transactions-table", rowTestId: "transaction-row",
    nothing: () => empty("Nobody has tried to pay it yet", "Open its checkout, or send its link to the shopper."),
  });
  return el("div", {}, head, card("Attempts to pay it", {}, payments), beneath);
}
