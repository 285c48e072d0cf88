/* What happened: figures, a chart, why payments fail, how webhooks fare, and the latest payments; live. */

import { el } from "../dom.js";
import { get, post } from "../api.js";
import { barChart, meter } from "../chart.js";
import { count, day, money, number, parseMoney, percent, shortMoney, typed, words } from "../format.js";
import { list } from "../list.js";
import { go, query, withQuery } from "../router.js";
import { card, complain, confirm, empty, failure, field, heading, link, loading, toast } from "../ui.js";
import { credentialsCard } from "./keys.js";
import { COLUMNS } from "./payments.js";

export const title = "Home";

const PERIODS = [7, 30, 90]; // days
const LIVE_MS = 4000;
const LATEST = 6; // payments
const REASONS = 6; // the most frequent ones; the rest is one line
const TEST_CURRENCY = "INR";
const TEST_AMOUNT_MINOR = 10_000;
const AMOUNT_MIN_MINOR = 100; // the API takes no less

export async function page(context) {
  const days = PERIODS.includes(Number(query().days)) ? Number(query().days) : PERIODS[1];
  const currency = /^[A-Z]{3}$/.test(query().currency ?? "") ? query().currency : TEST_CURRENCY;
  const figures = el("dl", { class: "figures", "data-test-id": "stats-container" });
  const chart = el("div", {}, loading());
  const reasons = el("div", {}, loading());
  const webhooks = el("div", {}, loading());
  const latest = el("div", {});
  const pick = el("div", { class: "actions" });
  let shown = null;

  async function look(options = {}) {
    const [stats, health, endpoints, balances] = await Promise.all([
      get("/payments/stats", { currency, days }, { signal: context.signal, ...options }),
      get("/webhooks/stats", { days }, { signal: context.signal, ...options }),
      get("/webhook_endpoints", { limit: 100 }, { signal: context.signal, ...options }),
      get("/balance", {}, { signal: context.signal, ...options }),
    ]);
    const text = JSON.stringify([stats, health, endpoints, balances]);
    if (text === shown) return;
    shown = text;
    drawFigures(figures, stats, days, balances.data.find((each) => each.currency === currency));
    // Whoever reads the chart just now is not disturbed.
    if (!chart.querySelector(".plot:is(:focus, :hover)")) chart.replaceChildren(drawChart(stats, days));
    reasons.replaceChildren(drawReasons(stats));
    webhooks.replaceChildren(drawWebhooks(health, endpoints.data));
    pick.replaceChildren(...picks(stats, days, currency));
  }

  try {
    await look();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return el("div", {}, heading(title), failure(error, () => go(withQuery({}), { replace: true })));
  }
  context.every(LIVE_MS, () => look({ background: true }));
  list(context, latest, {
    path: "/payments", columns: COLUMNS, caption: "Latest payments", what: "payments", limit: LATEST, paged: false,
    testId: "transactions-table", rowTestId: "transaction-row",
    nothing: () => empty("No payments yet", context.me.simulated
      ? "Create a test order, and pay it on the checkout: it appears here at once."
      : "A payment appears here the moment a shopper begins one."),
  });
  return el("div", {},
    heading(title, { beside: [pick, context.me.simulated &&
      el("button", { type: "button", class: "primary", "data-test-id": "create-test-order", onclick: createTestOrder }, "Create test order")] }),
    figures,
    card("Volume", {}, chart),
    el("div", { class: "columns" }, card("Why payments failed", {}, reasons), card(el("div", { class: "bar card-title" }, el("h2", {}, "Webhooks"), link("/webhooks", "Delivery log")), {}, webhooks)),
    card(el("div", { class: "bar card-title" }, el("h2", {}, "Latest payments"), link("/payments", "All payments")), {}, latest),
    await credentialsCard(context));
}

/* --- the parts ------------------------------------------------------------------------------------- */

function picks(stats, days, currency) {
  const known = [...new Set([...stats.currencies, currency])].sort();
  return [
    known.length > 1 && el("select", { "aria-label": "Currency", onchange: (event) => go(withQuery({ currency: event.target.value })) },
      known.map((code) => el("option", { value: code, selected: code === currency }, code))),
    el("div", { class: "tabs", role: "group", "aria-label": "Period" }, PERIODS.map((period) =>
      el("a", { class: "button small", href: `/dashboard${withQuery({ days: period })}`, "aria-current": period === days ? "true" : null }, `${period} days`))),
  ].filter(Boolean);
}

function drawFigures(place, { currency, period }, days, balance) {
  const over = `in the last ${days} days`;
  const rows = [
    ["Captured", money(period.amount, currency), over, "total-amount"],
    ["Payments", number(period.transactions), over, "total-transactions"],
    ["Success rate", period.approved + period.failed ? percent(period.successRate) : "none",
      `${number(period.approved)} approved, ${number(period.failed)} failed`, "success-rate"],
    ["Available", money(balance?.available ?? 0, currency), balance?.held ? `and ${money(balance.held, currency)} held` : "captured in all, less refunds", null],
  ];
  place.replaceChildren(...rows.map(([name, value, beneath, testId]) => el("div", { class: "figure" },
    el("dt", {}, name), el("dd", {}, el("span", { "data-test-id": testId }, value), el("div", { class: "beneath" }, beneath)))));
}

function drawChart({ currency, days }, period) {
  if (!days.some((each) => each.transactions)) {
    return empty("Nothing to draw yet", `There were no payments in ${currency} in the last ${period} days.`);
  }
  return barChart({
    name: `Captured a day, and success rate, in the last ${period} days`,
    points: days.map((each) => ({
      ...each, label: day(each.date), values: [each.amount], line: each.approved + each.failed ? each.successRate : null,
      said: `${money(each.amount, currency)} captured, ${count(each.transactions, "payment")}` +
        (each.approved + each.failed ? `, ${percent(each.successRate)} approved` : ""),
    })),
    series: ["Captured"], lineName: "Success rate (0 to 100 %)", axis: (minor) => shortMoney(minor, currency),
    columns: [
      ["Day (UTC)", (each) => each.label], ["Captured", (each) => money(each.amount, currency)], ["Payments", (each) => number(each.transactions)],
      ["Approved", (each) => number(each.approved)], ["Failed", (each) => number(each.failed)],
      ["Success rate", (each) => (each.line === null ? "–" : percent(each.line))],
    ],
  });
}

function drawReasons({ failureReasons: all, period }) {
  if (!all.length) {
    return period.transactions ? empty("None failed", "Every settled payment of this time was approved.") : empty("Nothing yet", "Reasons appear with the first payment that fails.");
  }
  const rest = all.slice(REASONS).reduce((sum, { count: n }) => sum + n, 0);
  const rows = [...all.slice(0, REASONS), ...(rest ? [{ reason: "other reasons", count: rest }] : [])];
  return el("ul", { class: "meters" }, rows.map(({ reason, count: n }) => el("li", {},
    el("span", {}, words(reason)), el("span", { class: "number" }, `${number(n)} · ${percent((100 * n) / period.failed)}`), meter(n / rows[0].count))));
}

function drawWebhooks(health, endpoints) {
  if (!endpoints.length) {
    return empty("No endpoint yet", "Webhooks tell your server of every change, signed and retried.", el("a", { class: "button", href: "/dashboard/webhooks" }, "Add an endpoint"));
  }
  const settled = health.success + health.failed;
  const urls = new Map(endpoints.map((endpoint) => [endpoint.id, endpoint]));
  const rows = [
    ["Delivered", health.success, settled ? health.success / settled : 0, ""],
    ["Given up", health.failed, settled ? health.failed / settled : 0, "bad"],
  ];
  const off = endpoints.filter((endpoint) => !endpoint.enabled);
  return el("div", { class: "stack" },
    el("ul", { class: "meters" }, rows.map(([name, n, share, tone]) => el("li", {},
      el("span", {}, name), el("span", { class: "number" }, settled ? `${number(n)} · ${percent(100 * share)}` : number(n)), meter(share, tone)))),
    health.pending ? el("p", { class: "quiet" }, `${count(health.pending, "delivery", "deliveries")} on the way or waiting for another try.`) : null,
    health.endpoints.filter(({ endpoint_id: id, failed }) => failed && urls.get(id)?.failing_since).map(({ endpoint_id: id }) =>
      el("p", { class: "notice bad" }, `${urls.get(id).url} has only failed lately.`)),
    off.length ? el("p", { class: "quiet" }, `${count(off.length, "endpoint is", "endpoints are")} switched off: `, link(`/webhooks?endpoint=${off[0].id}`, off[0].url)) : null);
}

/* --- a test order ---------------------------------------------------------------------------------- */

async function createTestOrder() {
  const amount = el("input", { name: "amount", inputmode: "decimal", autocomplete: "off", value: typed(TEST_AMOUNT_MINOR, TEST_CURRENCY) });
  const manual = el("input", { type: "checkbox", name: "capture" });
  const order = await confirm({
    title: "Create a test order", action: "Create and open its checkout", testId: "test-order-dialog",
    text: el("p", {}, "No money moves: the simulator plays the bank. The checkout opens in a new tab."),
    fields: [field(`Amount in ${TEST_CURRENCY}`, amount), el("label", { class: "check" }, manual, "Capture by hand later")],
    deed: async ({ key }) => {
      const minor = parseMoney(amount.value, TEST_CURRENCY);
      if (minor === null || minor < AMOUNT_MIN_MINOR) {
        complain(amount, `Must be an amount of at least ${typed(AMOUNT_MIN_MINOR, TEST_CURRENCY)}.`);
        amount.focus();
        return false;
      }
      return post("/orders", { amount: minor, currency: TEST_CURRENCY, receipt: "dashboard test", capture: manual.checked ? "manual" : "automatic" }, key);
    },
  });
  if (!order) return;
  const tab = window.open(order.checkout_url);
  if (tab) tab.opener = null;
  go(`/orders/${order.id}`); // the link is there too, if the browser would not open a tab
  toast("The test order is created.");
}
