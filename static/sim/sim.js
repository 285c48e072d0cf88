/* The simulated phone: shows the request that a real UPI app would show, and sends the answer. */

import { Refusal, get, skewMs, sleep } from "/static/checkout/api.js";
import { money } from "/static/checkout/strings.js";

const POLL_MS = 1000;
const WORDS = {
  pending: ["Sent", "The bank is deciding."],
  success: ["Paid", "The payment went through. You can close this page."],
  failed: ["Not paid", "The payment failed. You can close this page."],
  voided: ["Released", "The payment was approved, and released by the merchant."],
};
const $ = (id) => document.getElementById(id);
const id = location.pathname.split("/").pop();

async function look() {
  try {
    const payment = await get(`/payments/${id}/public`, (seconds) => seconds && say("No connection", "Trying again."));
    if (payment.method !== "upi") return say("Nothing to approve", "This is no UPI payment.");
    if ($("request").hidden) await showRequest(payment);
    showState(payment);
    if (!["pending", "requires_action"].includes(payment.status)) return;
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    return say("Nothing to approve", "There is no such payment.");
  }
  await sleep(POLL_MS);
  look();
}

async function showRequest(payment) {
  const order = await get(`/orders/${payment.order_id}/public`);
  $("payee").textContent = order.merchant.name;
  $("amount").textContent = money(payment.amount, payment.currency);
  $("payment").textContent = payment.id;
  $("request").hidden = false;
}

function showState({ status, next_action: action, error_description: why }) {
  const waits = status === "requires_action";
  $("answers").hidden = !waits;
  const left = waits ? Math.max(0, Math.ceil((Date.parse(action.expires_at) - Date.now() - skewMs) / 1000)) : 0;
  $("clock").textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  $("clock").parentElement.hidden = !waits;
  if (waits) say("Approve this payment?", "");
  else if (status === "failed") say(WORDS.failed[0], `${why} You can close this page.`);
  else say(...WORDS[status]);
}

function say(state, message) {
  if ($("state").textContent !== state) $("state").textContent = state;
  if ($("message").textContent !== message) $("message").textContent = message;
}

async function answer(event) {
  const { answer } = event.target.dataset;
  if (!answer || $("answers").hidden) return;
  $("answers").hidden = true;
  $("state").focus();
  const headers = { "Content-Type": "application/json" };
  const sent = await fetch(location.pathname, { method: "POST", headers, body: JSON.stringify({ answer }) }).catch(() => null);
  if (!sent) say("No connection", "The answer was not sent.");
}

$("answers").addEventListener("click", answer);
look();
