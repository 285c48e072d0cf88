/* All orders. */

import { el } from "../dom.js";
import { choice, dates, listPage, search } from "../list.js";
import { badge, empty, link, moneyOf, when } from "../ui.js";

export const title = "Orders";

const COLUMNS = [
  { name: "Order", cell: (order) => el("a", { class: "row-link", href: `/dashboard/orders/${order.id}`, "data-test-id": "order-id" }, el("code", {}, order.id)) },
  { name: "Amount", align: "right", cell: (order) => moneyOf(order.amount, order.currency) },
  { name: "Status", cell: (order) => badge(order.status) },
  { name: "Receipt", cell: (order) => order.receipt ?? "" },
  { name: "Created", align: "right", cell: (order) => when(order.created_at) },
];

export async function page(context) {
  return listPage(context, {
    title, path: "/orders", columns: COLUMNS, what: "orders", testId: "orders-table", rowTestId: "order-row",
    filters: [search("Order or payment id, receipt"), choice("status", "Status", ["created", "attempted", "paid", "expired"]), dates()],
    nothing: () => empty("No orders yet", "An order says what is to be paid. Your server creates one for each purchase.",
      link("/docs#create-order", "How to create an order")),
  });
}
