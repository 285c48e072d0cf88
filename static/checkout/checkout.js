/* The checkout of one order. The server knows the state, the page shows it: `follow` asks for a payment until it is
settled, whoever began it. What is typed is kept nowhere but in the form itself. */

import { Refusal, get, post, skewMs, sleep } from "./api.js";
import { $, announce, copy, put, translate } from "./dom.js";
import { CardForm, Field, UpiForm } from "./forms.js";
import { framed, listen, tell } from "./frame.js";
import { LANGUAGES, money, reasonOf, speak, t } from "./strings.js";

const QUICK_MS = 500; // between two looks at a payment that is being decided
const STEADY_MS = 1500; // after a while, and while the shopper acts elsewhere
const QUICK_FOR_MS = 8000;
const SLOW_AFTER_MS = 15_000; // then the page says that it takes longer than usual
const INIT_MS = 1000; // how long the SDK may take to say what to fill in
const EXPIRY_SHOWN_MS = 30 * 60_000; // an order that expires sooner says so
const PHONE_MAX = 600; // CSS pixels of its screen's short side; a window may be as narrow on a desktop

const query = new URLSearchParams(location.search);
const orderId = query.get("order_id")?.match(/^\w{1,80}$/)?.[0] ?? "none"; // what can't be an id is no order's
const onPhone = Math.min(screen.width, screen.height) < PHONE_MAX;
const untold = new Set(); // payments followed here whose end the shop has not been told of

let order;
let forms = {};
let wishes = {}; // what the shop's page asked for: prefill, theme
let view = { fields: [] };
let following = 0; // the turn of `follow` that counts: a newer one ends those before
let leaving = false; // the shopper gave this payment up to pay another way
let clock;

/* --- the order --- */

async function start() {
  const lang = remembered().lang ?? query.get("lang");
  await speak([lang, ...navigator.languages].filter(Boolean));
  relabel();
  show("loading");
  $("foot").hidden = false;
  const asked = new Promise((resolve) => {
    listen({ init: resolve, "close?": confirmClose });
    tell("ready");
    setTimeout(resolve, framed ? INIT_MS : 0, {});
  });
  [wishes] = await Promise.all([asked, load()]);
  const { language, mode } = wishes.theme ?? {};
  if (language && !lang) await speak([language]);
  if (["light", "dark"].includes(mode)) document.documentElement.style.colorScheme = mode;
  document.body.classList.toggle("framed", framed);
  if (!order) return relabel();
  dress();
  showOrder();
}

/** Read the order, for as long as it takes. Without one the page says why. */
async function load() {
  const wanted = new URLSearchParams([...query].filter(([name]) => name === "key" || name === "color"));
  order = undefined;
  try {
    order = await get(`/orders/${orderId}/public?${wanted}`, showUnreachable);
  } catch (refusal) {
    const wrongKey = of(refusal).status === 401;
    report("failure", { code: refusal.code, reason: wrongKey ? "wrong_key" : "order_not_found", description: refusal.message });
    show("ended", wrongKey ? "wrongKey" : "unknown");
  }
}

function showUnreachable(seconds) {
  show(seconds === null ? "loading" : "ended", "unreachable", { seconds });
}

/** Show the page as the order now is. */
function showOrder() {
  const { payment } = order;
  const ours = payment && remembered().payment === payment.id;
  if (payment?.status === "success" || order.status === "paid") {
    if (!ours) report("failure", { paymentId: payment?.id, code: "CONFLICT_ERROR", reason: "order_paid", description: t("alreadyTitle") });
    showSuccess(ours ? "paid" : "already");
  } else if (payment?.status === "pending" || payment?.status === "requires_action") {
    follow(payment);
  } else if (order.status === "expired" || timeLeft(order.expires_at) <= 0) {
    showExpired();
  } else if (payment?.status === "failed" && ours) {
    showFailure(payment);
  } else {
    showChoice();
  }
}

function showExpired() {
  report("failure", { code: "CONFLICT_ERROR", reason: "order_expired", description: t("expiredTitle") });
  show("ended", "expired");
}

async function reload() {
  tell("busy", { busy: false });
  show("loading");
  await load();
  if (order) showOrder();
}

/** The shopper closes the modal while a payment runs. */
function confirmClose() {
  tell("asking");
  if (!$("confirm").open) $("confirm").showModal();
}

/* --- choosing and paying --- */

function showChoice(problem, values) {
  tell("busy", { busy: false });
  for (const method of order.methods) {
    forms[method] ??= method === "upi" ? new UpiForm(pay, onPhone) : new CardForm(pay);
    forms[method].prefill(wishes.prefill ?? {});
  }
  const element = show("choice", undefined, values);
  const methods = order.methods.map((method) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "method" });
    Object.assign(button.dataset, { testId: `method-${method}`, t: method });
    button.addEventListener("click", () => choose(method));
    return button;
  });
  element.querySelector(".methods").append(...methods);
  $("problem").hidden = !problem;
  if (problem) $("problem").dataset.t = problem;
  const wanted = remembered().method ?? wishes.prefill?.method;
  choose(order.methods.includes(wanted) ? wanted : order.methods[0]);

  function choose(method) {
    remember({ method });
    for (const button of methods) button.setAttribute("aria-pressed", String(button.dataset.t === method));
    $("form").replaceChildren(forms[method].element);
    view.fields = Object.values(forms[method].fields);
    relabel();
  }
}

async function pay(body) {
  if (view.name !== "choice") return; // a second click
  const turn = ++following;
  tell("busy", { busy: true });
  show("processing", "sending");
  try {
    const payment = await post("/payments/public", { order_id: order.id, ...body }, showConnection);
    if (turn === following) follow(payment);
  } catch (refusal) {
    showRefusal(of(refusal));
  }
}

function showRefusal({ status, field, message: description, retryAfterS: seconds }) {
  if (status === 409 || status === 404) return reload(); // paid, expired or being paid meanwhile: join what is
  if (status === 429) return showChoice("tooMany", { seconds });
  const named = forms[remembered().method]?.fieldOf(field);
  showChoice(named ? undefined : "refused", { description });
  named?.show(description);
  named?.input.focus();
}

/* --- following a payment --- */

/** Show a payment, and ask for it until it is settled. */
async function follow(payment) {
  const turn = ++following;
  const since = Date.now();
  untold.add(payment.id);
  remember({ payment: payment.id });
  tell("busy", { busy: true, paymentId: payment.id });
  let shown;
  for (;;) {
    const pending = payment.status === "pending";
    if (payment.status !== shown) {
      shown = payment.status;
      showPayment(payment);
      if (!pending && shown !== "requires_action") return;
    }
    if (pending && Date.now() - since > SLOW_AFTER_MS) show("processing", "slow");
    await nap(pending && Date.now() - since < QUICK_FOR_MS ? QUICK_MS : STEADY_MS);
    try {
      if (turn === following) payment = await get(`/payments/${payment.id}/public`, showConnection);
    } catch (refusal) {
      of(refusal); // refused for the moment, by a limit perhaps: it stays what it was
    }
    if (turn !== following) return;
  }
}

function showPayment(payment) {
  order.payment = payment;
  if (payment.status === "pending") show("processing", leaving ? "cancelling" : "deciding");
  else if (payment.status === "success") showSuccess("paid");
  else if (payment.status === "failed" && leaving) {
    tellFailure(payment);
    showChoice();
  } else if (payment.status === "failed") showFailure(payment);
  else if (payment.next_action.type === "otp") showOtp(payment);
  else showUpiWait(payment);
}

/** Sleep, unless the shopper comes back to this page: from the UPI app, most likely. */
async function nap(ms) {
  let wake;
  const back = new Promise((resolve) => (wake = () => document.hidden || resolve()));
  document.addEventListener("visibilitychange", wake);
  await Promise.race([sleep(ms), back]);
  document.removeEventListener("visibilitychange", wake);
}

/** Send what the shopper did about a payment that waits for it, and go on with the answer. */
async function act(payment, path, body, words) {
  const turn = ++following;
  show("processing", words);
  const address = `/payments/${payment.id}/public`;
  let refused;
  const answer = await post(`${address}/${path}`, body, showConnection).catch((refusal) => {
    refused = of(refusal); // answered elsewhere, or time is up: the payment itself says what became of it
    return get(address, showConnection);
  });
  if (turn !== following) return;
  follow(answer);
  if (refused?.status === 429) showConnection(refused.retryAfterS, "tooMany");
}

/* --- states --- */

/** `seconds` until the next try without a connection, or under a limit; null: there is one. */
function showConnection(seconds, key = "offline") {
  const line = $("connection");
  if (!line) return;
  const words = seconds === null ? "" : t(key, { seconds });
  if (words && line.hidden) announce(words);
  line.hidden = !words;
  put(line, words);
}

function showOtp(payment) {
  const form = show("otp", "otp");
  const field = new Field(form, "otp", (otp) => (/^[\d\s]+$/.test(otp) ? undefined : [otp ? "otpWrong" : "otpMissing"]));
  view.fields = [field];
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.check()) act(payment, "otp", { otp: field.value.replace(/\s/g, "") }, "deciding");
    else field.input.focus();
  });
  $("cancel").addEventListener("click", () => act(payment, "cancel", {}, "cancelling"));
  countDown(payment.next_action.expires_at);
  field.input.focus();
}

function showUpiWait({ id, flow, next_action: { upi_link: link, expires_at: expiresAt } }) {
  show("upi-wait", flow);
  if (flow === "qr") $("qr").src = `/api/v1/payments/${id}/public/qr.svg`;
  if (flow === "intent" && link.startsWith("upi://")) $("app").href = link;
  $("qr").hidden = flow !== "qr";
  $("app").hidden = flow !== "intent";
  $("phone").href = `/sim/upi/${id}`;
  $("phone-qr").src = `/sim/upi/${id}/qr.svg`;
  $("cancel").addEventListener("click", () => {
    leaving = true;
    act({ id }, "cancel", {}, "cancelling");
  });
  countDown(expiresAt);
}

function showSuccess(words) {
  const { payment } = order;
  leaving = false;
  tell("busy", { busy: false }); // first: the shop may close the modal as soon as it is told
  if (untold.delete(payment?.id)) {
    const { id: paymentId, amount, currency, status } = payment;
    report("success", { paymentId, amount, currency, status });
  }
  show("success", words);
  showPaymentId(payment);
}

function showFailure(payment) {
  tellFailure(payment);
  const cancelled = payment.error_reason === "payment_cancelled";
  show("failure", cancelled ? "cancelled" : "failed", { get reason() { return reasonOf(payment); } });
  showPaymentId(payment);
  $("retry").addEventListener("click", () => {
    remember({ payment: undefined });
    reload();
  });
}

function showPaymentId(payment) {
  put($("payment-id"), payment?.id ?? "");
  $("payment-id").closest("div").hidden = !payment;
}

/** The way out: back to the shop, or in its modal the end of it. */
function showExits() {
  const [back, done] = [$("back"), $("done")];
  if (done) done.hidden = !framed;
  done?.addEventListener("click", () => tell("close"));
  if (!back || framed || !/^https?:\/\//.test(order?.callback_url ?? "")) return;
  const url = new URL(order.callback_url);
  url.searchParams.set("order_id", order.id);
  if (order.payment) url.searchParams.set("payment_id", order.payment.id);
  back.href = url;
  back.hidden = false;
}

/* --- what the shop's page is told --- */

function tellFailure({ id: paymentId, error_code: code, error_reason: reason, error_description: description }) {
  leaving = false;
  tell("busy", { busy: false });
  forms.card?.forgetSecrets();
  if (untold.delete(paymentId)) report("failure", { paymentId, code, reason, description });
}

function report(type, details) {
  tell(type, { paymentId: null, orderId, ...details });
}

/* --- the page --- */

/** Put a state on the page, with its title and message by `words`; the same one again only changes the words. */
function show(name, words, values) {
  const again = view.name === name && name !== "choice";
  if (!again) {
    clearInterval(clock);
    $("stage").replaceChildren(copy(name));
  }
  const element = $("stage").firstElementChild;
  const same = again && element.dataset.words === words;
  if (same && !values) return element;
  const moved = view.arrived && !again;
  view = { name, values, fields: [], arrived: view.arrived || name !== "loading" };
  element.dataset.words = words;
  for (const [id, part] of [["title", "Title"], ["message", "Text"]]) {
    const found = element.querySelector(`#${id}`);
    if (words && found) found.dataset.t = words + part;
  }
  for (const each of element.querySelectorAll(".test-only")) each.hidden = !order?.simulated;
  if (!again) showExits();
  relabel();
  // Whoever does not see the page is led to what is new.
  const title = element.querySelector("h2");
  title.tabIndex = -1;
  if (moved) title.focus();
  if (!same) announce(element.querySelector("#message")?.textContent ?? "");
  return element;
}

/** All words of the page, in the language spoken now. */
function relabel() {
  translate(document, { amount: order && amount(), seller: order?.merchant.name, ...view.values });
  for (const field of view.fields) field.relabel();
  const other = Object.keys(LANGUAGES).find((code) => code !== document.documentElement.lang);
  Object.assign($("language"), { lang: other, textContent: LANGUAGES[other] });
  if (!order) return;
  document.title = t("title", { amount: amount(), seller: order.merchant.name });
  put($("heading"), document.title);
  put($("amount"), amount());
  $("amount").style.setProperty("--length", amount().length);
}

/** The order beside the form, in the merchant's colours. */
function dress() {
  const { merchant } = order;
  for (const [name, value] of Object.entries(order.accent ?? {})) {
    document.documentElement.style.setProperty(`--${name.replace("_", "-")}`, value);
  }
  put($("seller"), merchant.name);
  put($("order-id"), order.id);
  put($("avatar"), merchant.name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join(""));
  if (merchant.logo_url) {
    const logo = new Image();
    Object.assign(logo, { alt: "", referrerPolicy: "no-referrer", src: merchant.logo_url });
    logo.onload = () => $("avatar").replaceChildren(logo); // until then, and without it, the initials
  }
  $("summary").hidden = false;
  $("simulated").hidden = !order.simulated;
  setInterval(showExpiry, 1000);
}

function showExpiry() {
  const left = timeLeft(order?.expires_at);
  const open = ["choice", "failure"].includes(view.name);
  $("expiry").hidden = !open || !(left < EXPIRY_SHOWN_MS);
  put($("expiry-clock"), minutes(left));
  if (open && left <= 0) showExpired();
}

function countDown(expiresAt) {
  const tick = () => {
    put($("clock"), minutes(timeLeft(expiresAt)));
    if (timeLeft(expiresAt) <= 0) show(view.name, "timeUp");
  };
  clock = setInterval(tick, 500);
  tick();
}

/** Until a time of the server, in ms by the server's clock; Infinity if there is none. */
function timeLeft(iso) {
  return iso ? Date.parse(iso) - Date.now() - skewMs : Infinity;
}

function minutes(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function amount() {
  return money(order.amount, order.currency);
}

/** An error that is a refusal of the API; anything else is a mistake of ours, and goes on. */
function of(error) {
  if (error instanceof Refusal) return error;
  throw error;
}

/* What survives a reload: which payment, method and language. In the tab's history entry, not in its address. */

function remembered() {
  return history.state ?? {};
}

function remember(facts) {
  history.replaceState({ ...remembered(), ...facts }, "");
}

$("language").addEventListener("click", async () => {
  await speak([$("language").lang]);
  remember({ lang: document.documentElement.lang });
  relabel();
});
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm-yes").addEventListener("click", () => tell("close"));
start();
