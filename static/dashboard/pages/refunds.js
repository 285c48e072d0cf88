/* All refunds. */

import { el } from "../dom.js";
import { choice, dates, listPage, search } from "../list.js";
import { badge, empty, link, moneyOf, when } from "../ui.js";

export const title = "Refunds";

const COLUMNS = [
  { name: "Refund", cell: (refund) => el("a", { class: "row-link", href: `/dashboard/refunds/${refund.id}` }, el("code", {}, refund.id)) },
  { name: "Amount", align: "right", cell: (refund) => moneyOf(refund.amount, refund.currency) },
  { name: "Status", cell: (refund) => badge(refund.status) },
  { name: "Payment", cell: (refund) => link(`/payments/${refund.payment_id}`, el("code", {}, refund.payment_id)) },
  { name: "Reason", cell: (refund) => refund.reason ?? "" },
  { name: "Created", align: "right", cell: (refund) => when(refund.created_at) },
];

export async function page(context) {
  return listPage(context, {
    title, path: "/refunds", columns: COLUMNS, what: "refunds", testId: "refunds-table", rowTestId: "refund-row",
    filters: [search("Refund, payment or order id"), choice("status", "Status", ["pending", "processed", "failed"]), dates()],
    nothing: () => empty("No refunds yet", "A captured payment is refunded from its own page, or by the API.", link("/payments", "Payments")),
  });
}
