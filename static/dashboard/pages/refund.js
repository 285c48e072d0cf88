/* One refund. */

import { el, replace } from "../dom.js";
import { get } from "../api.js";
import { words } from "../format.js";
import { badge, card, copyable, facts, heading, link, moneyOf, when } from "../ui.js";

export const title = "Refund";

const LIVE_MS = 1500;

export async function page(context) {
  const { id } = context.params;
  const root = el("div", {});
  let shown = null;

  async function look(options = {}) {
    const refund = await get(`/refunds/${id}`, {}, { signal: context.signal, ...options });
    if (JSON.stringify(refund) === shown) return;
    shown = JSON.stringify(refund);
    replace(root,
      heading(moneyOf(refund.amount, refund.currency), { above: link("/refunds", "Refunds") }),
      el("div", { class: "bar" },
        el("span", { class: "actions" }, badge(refund.status, undefined, { "data-test-id": "status" }),
          refund.status === "pending" && el("span", { class: "quiet" }, el("span", { class: "spinner small", "aria-hidden": "true" }), " On its way …")),
        copyable(refund.id, "the refund's id")),
      refund.status === "failed" && el("p", { class: "notice bad" }, `The acquirer could not send it: ${words(refund.error_reason)}. The money is in your balance again.`),
      card(null, {}, facts([
        ["Payment", link(`/payments/${refund.payment_id}`, el("code", {}, refund.payment_id))],
        ["Order", link(`/orders/${refund.order_id}`, el("code", {}, refund.order_id))],
        ["Amount", moneyOf(refund.amount, refund.currency)],
        ["Reason", refund.reason],
        ["Created", when(refund.created_at, "exact")],
        ["Processed", refund.processed_at && when(refund.processed_at, "exact")],
      ], "wide")),
      card(null, {}, link(`/events?refund_id=${refund.id}`, "Events of this refund")));
  }

  await look();
  context.every(LIVE_MS, () => look({ background: true }));
  return root;
}
