/* Webhook deliveries in words and rows, their log, and trying them again: one, or all that failed. */

import { announce, el, put } from "./dom.js";
import { get, post } from "./api.js";
import { count, number } from "./format.js";
import { go, query, withQuery } from "./router.js";
import { choice, dates } from "./list.js";
import { badge, confirm, empty, failure, field, loading, press, table, toast, when } from "./ui.js";
import { EVENT_TYPES } from "./pages/events.js";

const LIMIT = 20;
const OFFSET_MAX = 10_000; // the API goes no further back
const LIVE_MS = 4000;
const PROGRESS_MS = 1000;
const DAY_MS = 86_400_000;

/* --- words ----------------------------------------------------------------------------------------- */

/** Why a delivery can't be tried again, or null. `endpoint` is undefined once it is deleted. */
export function unable(endpoint) {
  if (!endpoint) return "Its endpoint is deleted.";
  return endpoint.enabled ? null : `Its endpoint is disabled (${endpoint.disabled_reason}). Enable it first.`;
}

/** https://shop.example/webhook -> shop.example/webhook */
export function placeOf(endpoint) {
  return endpoint ? endpoint.url.replace(/^https?:\/\//, "") : "a deleted endpoint";
}

export function responseOf(delivery) {
  if (delivery.response_code) return el("span", { "data-test-id": "webhook-response-code", title: delivery.error }, delivery.response_code);
  return el("span", { class: "cut quiet", title: delivery.error, "data-test-id": "webhook-response-code" }, delivery.error ?? "–");
}

/** A button that tries a delivery again, and then does `done()`. */
export function retryButton(delivery, endpoint, done, kind = delivery.status === "success" ? "quiet small" : "small") {
  const why = unable(endpoint);
  const word = { success: "Resend", failed: "Retry", pending: "Retry now" }[delivery.status];
  const button = el("button", {
    type: "button", class: kind, title: why, "aria-disabled": why && "true", "data-test-id": "retry-webhook-button",
  }, word, el("span", { class: "unseen" }, ` ${delivery.event}`));
  button.addEventListener("click", () => why ? toast(why, "warn") : press(button, async () => {
    await post(`/webhooks/${delivery.id}/retry`);
    toast(`${delivery.event} is on its way again.`);
    await done();
  }));
  return button;
}

/* --- the log --------------------------------------------------------------------------------------- */

function columns(endpoints, changed) {
  const of = new Map(endpoints.map((endpoint) => [endpoint.id, endpoint]));
  return [
    { name: "Event", cell: (delivery) => el("a", { class: "row-link", href: `/dashboard/webhooks/${delivery.id}`, "data-test-id": "webhook-event" }, delivery.event) },
    { name: "Status", cell: (delivery) => badge(delivery.status, undefined, { "data-test-id": "webhook-status" }) },
    endpoints.length > 1 && { name: "Endpoint", cell: (delivery) => el("span", { class: "cut quiet", title: of.get(delivery.endpoint_id)?.url }, placeOf(of.get(delivery.endpoint_id))) },
    { name: "Attempts", align: "right", cell: (delivery) => [el("span", { class: "narrow quiet" }, "Attempts "), el("span", { class: "number", "data-test-id": "webhook-attempts" }, delivery.attempts)] },
    { name: "Response", cell: (delivery) => [delivery.response_code && el("span", { class: "narrow quiet" }, "Response "), responseOf(delivery)] },
    { name: "Last attempt", align: "right", cell: (delivery) => when(delivery.last_attempt_at, "time", { "data-test-id": "webhook-last-attempt" }) },
    // What is sent for the first time just now needs no help.
    { name: "", align: "right action", cell: (delivery) => (delivery.status !== "pending" || delivery.attempts > 0) && retryButton(delivery, of.get(delivery.endpoint_id), changed) },
  ].filter(Boolean);
}

/** Deliveries in `place`: those that `asked()` names, live. `paged`: with a pager, whose place is in the address.
 *  `drawn(answer)` is told what is shown. Gives functions: ask again, begin anew, know other endpoints. */
export function deliveries(context, place, { endpoints: known, asked, nothing, drawn = () => {}, paged = true }) {
  let endpoints = known;
  let shown = null;
  let latest = null;
  const offset = () => (paged ? query().offset : undefined);
  const again = async () => draw(await ask(), true);

  /** Null, if the address says something else by now: then that has been asked, too. */
  async function ask(options) {
    const { search } = location;
    const answer = await get("/webhooks", { ...asked(), limit: LIMIT, offset: offset() }, { signal: context.signal, ...options });
    return search === location.search ? answer : null;
  }

  async function show() {
    place.setAttribute("aria-busy", "true");
    if (shown === null) place.replaceChildren(loading());
    try {
      draw(await ask());
    } catch (error) {
      if (error.name === "AbortError") return;
      shown = null;
      place.replaceChildren(failure(error, show));
    } finally {
      place.setAttribute("aria-busy", "false");
    }
  }

  function draw(answer, live = false) {
    const text = JSON.stringify(answer);
    if (answer === null || text === shown) return;
    const before = live && shown !== null ? new Set(rows().map((row) => row.dataset.id)) : null;
    shown = text;
    latest = answer;
    drawn(answer);
    if (!answer.data.length) {
      place.replaceChildren(answer.offset ? empty("No more", "There are no deliveries this far back.", toOffset("To the first page", 0)) : nothing());
      return;
    }
    keepingFocus(() => place.replaceChildren(
      table(columns(endpoints, again), answer.data, { caption: "Deliveries", testId: "webhook-logs-table", rowTestId: "webhook-log-item" }),
      paged ? pager(answer) : ""));
    if (!before) return;
    const fresh = rows().filter((row) => !before.has(row.dataset.id));
    for (const row of fresh) row.classList.add("fresh");
    if (fresh.length) announce(`${count(fresh.length, "new delivery", "new deliveries")}.`);
  }

  const rows = () => [...place.querySelectorAll("tr[data-id]")];

  /** Whoever is at a row's link or button is there again after it is drawn anew. */
  function keepingFocus(change) {
    const at = document.activeElement;
    const id = place.contains(at) && at.closest("tr")?.dataset.id;
    const tag = at.tagName;
    change();
    if (id) place.querySelector(`tr[data-id="${id}"] ${tag}`)?.focus({ preventScroll: true });
  }

  function toOffset(said, to, disabled = false) {
    const turn = () => {
      go(withQuery({ offset: to || "" }), { state: { log: true }, quietly: true });
      shown = null;
      show();
      place.closest("section")?.querySelector("h2")?.focus();
    };
    return el("button", { type: "button", class: "small", disabled, onclick: turn }, said);
  }

  function pager({ total, limit, offset: at, data }) {
    const further = at + limit > OFFSET_MAX && at + limit < total;
    return el("nav", { class: "pager", "aria-label": "Pages of deliveries" },
      toOffset("Previous", Math.max(0, at - limit), at === 0),
      el("span", {}, `${number(at + 1)}–${number(at + data.length)} of ${number(total)}`,
        further && " · choose dates to see older ones"),
      toOffset("Next", at + limit, at + limit >= total || further));
  }

  /** The endpoints changed: what can be tried again has changed with them. */
  function know(now) {
    if (JSON.stringify(now) === JSON.stringify(endpoints)) return;
    endpoints = now;
    if (shown === null) return;
    shown = null;
    draw(latest);
  }

  context.every(LIVE_MS, async () => {
    if (shown !== null && !Number(offset() ?? 0)) draw(await ask({ background: true }), true);
  });
  show();
  return { again, know, anew: () => ((shown = null), show()) };
}

/* --- the log as a card, with filters ---------------------------------------------------------------- */

/** `changed()` is called when something was sent again. */
export function logCard(context, all, changed) {
  let endpoints = all;
  const body = el("div", {});
  const progress = el("div", { class: "stack" });
  const filters = [
    choice("status", "Status", ["pending", "success", "failed"]),
    choice("event", "Event", EVENT_TYPES.map((type) => [type, type])),
    ...(endpoints.length > 1 ? [choice("endpoint_id", "Endpoint", endpoints.map((endpoint) => [endpoint.id, placeOf(endpoint)]))] : []),
    dates(),
  ];
  const names = [...filters.flatMap((filter) => filter.names), "endpoint_id", "retry_id"];
  const none = Object.fromEntries(names.map((name) => [name, ""]));
  const filtered = () => names.some((name) => query()[name]);
  const asked = () => ({ endpoint_id: query().endpoint_id, retry_id: query().retry_id, ...Object.assign({}, ...filters.map((filter) => filter.ask(query()))) });

  const retrying = el("button", { type: "button", "data-test-id": "retry-all-button", onclick: () => press(retrying, retryAll) }, "Retry all failed …");
  const log = deliveries(context, body, {
    endpoints, asked,
    drawn: ({ total }) => (form.hidden = retrying.hidden = total === 0 && !filtered()),
    nothing: () => filtered()
      ? empty("Nothing matches", "No delivery fits these filters.", el("button", { type: "button", onclick: clear }, "Clear the filters"))
      : empty("Nothing sent yet", "Each event that an endpoint asked for appears here, with how its delivery went. Send a test, or make a payment."),
  });

  const clearing = el("button", { type: "button", onclick: clear }, "Clear");
  const ofRetry = el("p", { class: "quiet" }, "Of one retry alone.");
  const form = el("form", { class: "filters", "aria-label": "Filters", novalidate: true }, filters.map((filter) => filter.control()), ofRetry, clearing);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => apply(Object.fromEntries([...form.elements].filter(({ name }) => name).map(({ name, value }) => [name, value]))));

  function apply(values) {
    go(withQuery({ ...values, offset: "" }), { state: { log: true }, quietly: true });
    showFilters();
    log.anew();
  }

  function showFilters() {
    for (const control of form.elements) if (control.name) control.value = query()[control.name] ?? "";
    clearing.hidden = !filtered();
    ofRetry.hidden = !query().retry_id;
  }

  function clear() {
    apply(none);
    form.elements[0].focus();
  }

  async function retryAll() {
    const retry = await askToRetry(endpoints);
    if (!retry) return;
    if (retry.total === 0) {
      toast("Nothing failed in that time.", "warn");
      return;
    }
    follow(retry);
  }

  /** Show how far a retry is. */
  function follow(retry) {
    progress.replaceChildren(retryProgress(context, retry, {
      show: () => apply({ ...none, retry_id: retry.id }),
      settled: () => Promise.all([log.again(), changed?.()]),
    }));
  }

  // One that was begun before, here or elsewhere.
  get("/webhooks/retries", { limit: 1 }, { signal: context.signal }).then(({ data: [latest] }) => {
    if (latest?.status === "running" && !progress.hasChildNodes()) follow(latest);
  }).catch(() => {}); // the log is there without it

  showFilters();
  const title = el("h2", { tabindex: "-1" }, "Deliveries");
  const card = el("section", { class: "card" },
    el("div", { class: "bar card-head" }, title, retrying),
    el("div", { class: "stack" }, progress, form, body));
  if (history.state?.log) requestAnimationFrame(() => requestAnimationFrame(() => card.scrollIntoView()));
  const know = (now) => log.know((endpoints = now));
  return { card, follow, know, again: log.again };
}

/* --- trying all again ------------------------------------------------------------------------------- */

/** Resolves to the retry that was begun, or null. */
function askToRetry(endpoints) {
  const since = el("input", { type: "datetime-local", name: "since", value: localTime(new Date(Date.now() - DAY_MS)), max: localTime(new Date()), required: true });
  const to = el("select", { name: "endpoint_id" },
    el("option", { value: "" }, "All that are enabled"),
    endpoints.filter(({ enabled }) => enabled).map((endpoint) => el("option", { value: endpoint.id }, placeOf(endpoint))));
  const missed = el("input", { type: "checkbox", name: "include_missed" });
  const alsoMissed = el("label", { class: "check", hidden: true }, missed, "Also events of that time that it was never told of");
  to.addEventListener("change", () => (alsoMissed.hidden = !to.value));
  return confirm({
    title: "Retry all that failed?",
    text: "Each delivery that was given up since then is tried once more, 100 a second, so that a server which just came back is not knocked over again.",
    fields: [field("Failed since", since, { hint: "In your own time zone." }), field("Endpoint", to), alsoMissed],
    action: "Retry them",
    testId: "retry-all-dialog",
    deed: ({ key }) => post("/webhooks/retry", {
      since: new Date(since.value || NaN).toJSON() ?? "",
      ...(to.value && { endpoint_id: to.value, include_missed: missed.checked }),
    }, key),
  });
}

/** 2026-11-24T23:05, as such a field holds it */
function localTime(date) {
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** How far a retry of many is, live until it is done. `show()` shows its deliveries. */
function retryProgress(context, retry, { show, settled }) {
  const bar = el("progress", { max: retry.total, "aria-label": "Deliveries that were tried again" });
  const words = el("p", {});
  const place = el("div", { class: "notice plain stack", "data-test-id": "retry-progress" },
    el("div", { class: "bar" }, words, el("div", { class: "actions" },
      el("button", { type: "button", class: "small", onclick: () => show() }, "Show them"),
      el("button", { type: "button", class: "small", onclick: () => place.remove() }, "Close"))),
    bar);
  let done = false;

  function draw(now) {
    const tried = now.total - now.pending;
    bar.value = tried;
    done = now.status === "done";
    put(words, done
      ? `Done: ${outcome(now)}.${now.has_more ? " There are more: retry all once again." : ""}`
      : `${number(tried)} of ${count(now.total, "delivery", "deliveries")} tried again: ${outcome(now)}.`);
  }

  draw(retry);
  context.every(PROGRESS_MS, async () => {
    if (done || !place.isConnected) return;
    draw(await get(`/webhooks/retries/${retry.id}`, {}, { background: true, signal: context.signal }));
    if (!done) return;
    announce(words.textContent);
    await settled();
  });
  return place;
}

function outcome({ success, failed }) {
  return `${number(success)} delivered, ${number(failed)} failed again`;
}
