/* One payment: its facts, all that happened to it, and what can be done about it. */

import { el, replace } from "../dom.js";
import { get, post } from "../api.js";
import { instrument, money, parseMoney, typed, words } from "../format.js";
import { capitalised, sentence } from "../timeline.js";
import { badge, card, complain, confirm, copyable, facts, field, heading, link, moneyOf, paymentBadges, table, toast, when } from "../ui.js";

export const title = "Payment";

const UNSETTLED_MS = 1000; // while something is under way
const SETTLED_MS = 5000;
const REASON_MAX_LENGTH = 255;
const REFUNDS_SHOWN = 100;

export async function page(context) {
  const { id } = context.params;
  const root = el("div", {});
  let shown = null;
  let busyUntil = 0; // after an action, look often

  async function look(options = {}) {
    const asked = { signal: context.signal, ...options };
    const [payment, timeline, refunds] = await Promise.all([
      get(`/payments/${id}`, {}, asked), get(`/payments/${id}/timeline`, {}, asked), get(`/payments/${id}/refunds`, { limit: REFUNDS_SHOWN }, asked),
    ]);
    const text = JSON.stringify([payment, timeline, refunds]);
    if (text !== shown) draw(payment, timeline.data, refunds);
    shown = text;
    if (["pending", "requires_action"].includes(payment.status) || refunds.data.some(({ status }) => status === "pending")) {
      busyUntil = Date.now() + UNSETTLED_MS;
    }
  }

  const act = async (deed) => {
    const done = await deed;
    if (!done) return;
    busyUntil = Date.now() + 10_000;
    await look();
    root.querySelector("h1")?.focus();
  };

  function draw(payment, entries, refunds) {
    replace(root,
      heading(moneyOf(payment.amount, payment.currency), {
        above: link("/payments", "Payments"),
        beside: actions(payment, refunds.data, act),
      }),
      el("div", { class: "bar" }, el("span", { class: "actions" }, paymentBadges(payment), settling(payment, refunds.data)), copyable(payment.id, "the payment's id", { "data-test-id": "payment-id" })),
      payment.status === "failed" && el("p", { class: "notice bad" }, payment.error_description),
      card(null, {}, facts([
        ["Order", link(`/orders/${payment.order_id}`, el("code", { "data-test-id": "order-id" }, payment.order_id))],
        [payment.method === "upi" ? "UPI" : "Card", `${instrument(payment)}${payment.flow && payment.flow !== "collect" ? ` (${payment.flow})` : ""}`],
        ["Created", when(payment.created_at, "exact", { "data-test-id": "created-at" })],
        ["Captured", payment.captured ? moneyOf(payment.amount_captured, payment.currency) : null],
        ["Fee", payment.fee ? moneyOf(payment.fee, payment.currency) : null],
        ["Refunded", payment.amount_refunded ? moneyOf(payment.amount_refunded, payment.currency) : null],
        ["Held until", payment.hold_expires_at && when(payment.hold_expires_at)],
        ["Error", payment.error_code && el("code", {}, `${payment.error_code} / ${payment.error_reason}`)],
        ["Last change", when(payment.updated_at, "exact")],
      ], "wide")),
      refunds.data.length ? card("Refunds", {}, refundTable(refunds)) : null,
      card("What happened", {}, el("ol", { class: "timeline", "data-test-id": "timeline" }, entries.map((entry) => timelineItem(entry, payment, refunds.data)))));
  }

  await look();
  let last = Date.now();
  context.every(UNSETTLED_MS, async () => {
    if (Date.now() < busyUntil + 2 * UNSETTLED_MS || Date.now() - last >= SETTLED_MS) {
      last = Date.now();
      await look({ background: true });
    }
  });
  return root;
}

/* --- what is shown --------------------------------------------------------------------------------- */

function settling(payment, refunds) {
  const waiting = refunds.filter(({ status }) => status === "pending");
  const what = payment.status === "pending" ? "The acquirer is asked" : payment.status === "requires_action" ? "Waits for the shopper"
    : waiting.length ? "A refund is on its way" : null;
  return what && el("span", { class: "quiet", "data-test-id": "settling" }, el("span", { class: "spinner small", "aria-hidden": "true" }), ` ${what} …`);
}

function refundTable({ data }) {
  return table([
    { name: "Refund", cell: (refund) => el("a", { class: "row-link", href: `/dashboard/refunds/${refund.id}` }, el("code", {}, refund.id)) },
    { name: "Amount", align: "right", cell: (refund) => moneyOf(refund.amount, refund.currency) },
    { name: "Status", cell: (refund) => badge(refund.status) },
    { name: "Reason", cell: (refund) => refund.error_reason ? words(refund.error_reason) : refund.reason ?? "" },
    { name: "Created", align: "right", cell: (refund) => when(refund.created_at) },
  ], data, { caption: "Refunds of this payment", testId: "refunds-table", rowTestId: "refund-row" });
}

function timelineItem(entry, payment, refunds) {
  const { what, said, href, tone } = sentence(entry, payment, refunds);
  return el("li", { class: `${entry.kind} ${tone}` },
    el("span", {}, href ? link(href, capitalised(what)) : capitalised(what)), when(entry.at, "exact"),
    said && el("span", { class: "said" }, said));
}

/* --- what can be done ------------------------------------------------------------------------------ */

function actions(payment, refunds, act) {
  const held = payment.status === "success" && !payment.captured;
  const promised = refunds.filter(({ status }) => status !== "failed").reduce((sum, { amount }) => sum + amount, 0);
  const left = payment.amount_captured - promised;
  const button = (name, kind, deed) => el("button", { type: "button", class: kind, "data-test-id": `${name.toLowerCase()}-button`, onclick: () => act(deed()) }, name);
  return [
    held && button("Capture", "primary", () => capture(payment)),
    held && button("Void", "danger", () => voidIt(payment)),
    left > 0 && button("Refund", "", () => refund(payment, left)),
  ];
}

/** A field for all of `most` or a part of it. `name(minor)` words the button. */
function amountField(label, most, currency, name) {
  const control = el("input", { name: "amount", inputmode: "decimal", autocomplete: "off", value: typed(most, currency) });
  control.addEventListener("input", () => {
    const minor = parseMoney(control.value, currency);
    control.form.querySelector('[type="submit"]').textContent = name(minor !== null && minor >= 1 && minor <= most ? minor : null);
  });
  /** The minor units, or null after saying what is wrong. */
  const read = () => {
    const minor = parseMoney(control.value, currency);
    if (minor !== null && minor >= 1 && minor <= most) return minor;
    complain(control, minor === null ? `Must be an amount, like ${typed(most, currency)}.` : `Must be more than nothing, and at most ${money(most, currency)}.`);
    control.focus();
    return null;
  };
  return [field(`${label} in ${currency}`, control, { hint: `At most ${money(most, currency)}.` }), read];
}

function capture(payment) {
  const name = (minor) => (minor === null ? "Capture" : `Capture ${money(minor, payment.currency)}`);
  const [control, read] = amountField("Amount", payment.amount, payment.currency, name);
  return confirm({
    title: "Capture this payment?", action: name(payment.amount), testId: "capture-dialog",
    text: el("p", {}, "The money is taken. It can be captured once: what you leave is released to the shopper."),
    fields: [control],
    deed: async ({ key }) => {
      const amount = read();
      if (amount === null) return false;
      tellOf(await post(`/payments/${payment.id}/capture`, { amount }, key), ({ captured }) => captured, "Captured.");
      return true;
    },
  });
}

function voidIt(payment) {
  return confirm({
    title: "Void this payment?", action: "Void it", danger: true, testId: "void-dialog",
    text: el("p", {}, `The ${money(payment.amount, payment.currency)} that are held go back to the shopper, and nothing can be captured any more. This can't be undone; the order can be paid anew.`),
    deed: async ({ key }) => {
      tellOf(await post(`/payments/${payment.id}/void`, {}, key), ({ status }) => status === "voided", "Voided.");
      return true;
    },
  });
}

function tellOf(payment, isDone, message) {
  if (isDone(payment)) toast(message);
  else toast("The acquirer has not answered yet. It is asked again, and this page shows what came of it.", "warn");
}

function refund(payment, left) {
  const name = (minor) => (minor === null ? "Refund" : `Refund ${money(minor, payment.currency)}`);
  const [control, read] = amountField("Amount", left, payment.currency, name);
  const reason = el("input", { name: "reason", maxlength: REASON_MAX_LENGTH, autocomplete: "off" });
  return confirm({
    title: "Refund this payment?", action: name(left), danger: true, testId: "refund-dialog",
    text: el("p", {}, "The money goes back the way it came. A refund can't be undone."),
    fields: [control, field("Reason", reason, { optional: true, hint: "For your own records and your webhooks." })],
    deed: async ({ key }) => {
      const amount = read();
      if (amount === null) return false;
      await post(`/payments/${payment.id}/refunds`, { amount, reason: reason.value.trim() || null }, key);
      toast("The refund is on its way.");
      return true;
    },
  });
}
