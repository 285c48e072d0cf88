/* All payments: searched, filtered, paged, exported. */

import { el } from "../dom.js";
import { get } from "../api.js";
import { instrument } from "../format.js";
import { query } from "../router.js";
import { amounts, choice, dates, listPage, searched } from "../list.js";
import { empty, link, moneyOf, paymentBadges, when } from "../ui.js";
import { exportButton } from "../export.js";

export const title = "Payments";

export const COLUMNS = [
  { name: "Payment", cell: (payment) => el("a", { class: "row-link", href: `/dashboard/payments/${payment.id}`, "data-test-id": "payment-id" }, el("code", {}, payment.id)) },
  { name: "Amount", align: "right", cell: (payment) => moneyOf(payment.amount, payment.currency, { "data-test-id": "amount" }) },
  { name: "Status", cell: paymentBadges },
  { name: "Method", cell: (payment) => el("span", { "data-test-id": "method", title: payment.method }, instrument(payment)) },
  { name: "Order", cell: (payment) => el("a", { href: `/dashboard/orders/${payment.order_id}`, "data-test-id": "order-id" }, el("code", {}, payment.order_id)) },
  { name: "Created", align: "right", cell: (payment) => when(payment.created_at, "time", { "data-test-id": "created-at" }) },
];

export async function page(context) {
  const { currencies } = await get("/payments/stats", {}, { signal: context.signal });
  const currency = query().currency ?? (currencies.length === 1 ? currencies[0] : "INR");
  const known = /^[A-Z]{3}$/.test(currency) ? currency : "INR";
  return listPage(context, {
    title, path: "/payments", columns: COLUMNS, what: "payments", testId: "transactions-table", rowTestId: "transaction-row",
    beside: (asked) => [exportButton(context, asked)],
    filters: [
      searched(),
      choice("status", "Status", ["pending", "requires_action", "success", "failed", "voided"]),
      choice("method", "Method", [["upi", "UPI"], ["card", "Card"]]),
      ...(currencies.length > 1 || query().currency ? [choice("currency", "Currency", [...new Set([...currencies, known])].sort())] : []),
      amounts(known), dates(),
    ],
    nothing: () => empty("No payments yet", "A payment appears here the moment a shopper, or your code, begins one.",
      link("/", "Create a test order"), link("/docs", "Read the guide")),
  });
}
