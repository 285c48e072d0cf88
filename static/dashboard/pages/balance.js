/* The balance in each currency, and the ledger's rows behind it. */

import { el } from "../dom.js";
import { get } from "../api.js";
import { money } from "../format.js";
import { choice, filterBar, list } from "../list.js";
import { query } from "../router.js";
import { card, empty, heading, link, loading, moneyOf, when, words } from "../ui.js";

export const title = "Balance";

const LIVE_MS = 5000;
const ACCOUNTS = [
  ["merchant", "merchant: owed to you"], ["acquirer", "acquirer: owed by the bank"], ["acquirer_hold", "acquirer hold"],
  ["merchant_hold", "merchant hold"], ["refunds_in_flight", "refunds in flight"], ["fees", "fees: what the gateway keeps"],
];
const COLUMNS = [
  { name: "Time", cell: (entry) => when(entry.created_at, "exact") },
  { name: "Amount", align: "right", cell: (entry) => moneyOf(entry.amount, entry.currency) },
  { name: "What", cell: (entry) => words(entry.kind) },
  { name: "Account", cell: (entry) => words(entry.account) },
  { name: "Payment", cell: (entry) => link(`/payments/${entry.payment_id}`, el("code", {}, entry.payment_id)) },
  { name: "Posting", cell: (entry) => el("code", { class: "quiet" }, entry.posting_id) },
];

export async function page(context) {
  const balances = el("div", { class: "stack" }, loading());
  const entries = el("section", { class: "card" });
  let shown = null;

  async function look(options = {}) {
    const { data } = await get("/balance", {}, { signal: context.signal, ...options });
    if (JSON.stringify(data) === shown) return data;
    shown = JSON.stringify(data);
    balances.replaceChildren(...(data.length ? data.map(balanceCard) : [card(null, {}, empty("Nothing yet", "Your balance begins with the first captured payment."))]));
    return data;
  }

  const data = await look();
  context.every(LIVE_MS, () => look({ background: true }));
  const currencies = [...new Set([...data.map(({ currency }) => currency), query().currency].filter(Boolean))];
  const filters = [choice("account", "Account", ACCOUNTS), ...(currencies.length > 1 ? [choice("currency", "Currency", currencies)] : [])];
  list(context, entries, {
    path: "/ledger", columns: COLUMNS, filters, caption: "Ledger", what: "entries", testId: "ledger-table", rowTestId: "ledger-row",
    nothing: () => empty("No entries yet", "Every capture, refund and void writes entries here that sum to zero."),
  });
  return el("div", {}, heading(title, { note: "Sums over the ledger. Debits are positive and credits negative; the entries of one posting sum to zero." }),
    balances, el("h2", {}, "Ledger"), filterBar(filters), entries);
}

function balanceCard({ currency, available, captured, fees, refunded, refunds_pending: pending, held }) {
  const rows = [
    ["Available", available, fees ? "captured, less fees and refunds" : "captured, less refunds"], ["Captured", captured, "taken from shoppers"],
    ...(fees ? [["Fees", fees, "kept by the gateway"]] : []),
    ["Refunded", refunded, pending ? `and ${money(pending, currency)} on its way` : "sent back"], ["Held", held, "approved, not captured"],
  ];
  return el("section", { "aria-label": `Balance in ${currency}`, "data-test-id": "balance" },
    el("dl", { class: "figures" }, rows.map(([name, minor, beneath], i) => el("div", { class: "figure" },
      el("dt", {}, i ? name : `${name} in ${currency}`), el("dd", {}, el("span", {}, money(minor, currency)), el("div", { class: "beneath" }, beneath))))));
}
