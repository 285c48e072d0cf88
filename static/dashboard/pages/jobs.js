/* How the queues are doing, live: what waits, runs, is done and failed, what has no answer, who works, and how fast. */

import { el, put } from "../dom.js";
import { get } from "../api.js";
import { barChart } from "../chart.js";
import { ago, count, number, utc, words } from "../format.js";
import { badge, card, heading, link, moneyOf, table, when } from "../ui.js";

export const title = "Jobs";

const LIVE_MS = 3000;
const LATE_MS = 60_000; // what is due longer than this, waits for a worker that is busy or gone
const clockFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const QUEUES = { payments: "Payments", refunds: "Refunds", webhooks: "Webhooks" };
const COUNTS = [
  ["due", "Waiting now", "Due, and waits for a worker"],
  ["running", "Running", "A worker has it"],
  ["later", "Later", "Waits for its time: a shopper's act, or the next attempt"],
  ["done", "Done", "Of what was made in the last 24 hours"],
  ["failed", "Failed", { payments: "Broke, and is tried again; a decline is no failure", refunds: "Broke, and is tried again", webhooks: "Given up, to be retried by hand" }],
];

export async function page(context) {
  const { signal } = context;
  let jobs = await get("/jobs", {}, { signal });
  const whole = jobs.scope === "gateway";
  const warning = el("p", { class: "notice bad", role: "alert", "data-test-id": "no-workers", hidden: true });
  const alive = el("span", { class: "badge", "data-test-id": "workers-alive" });
  const cards = Object.entries(QUEUES).map(([name, said]) => queueCard(name, said));
  const unknown = el("div", {});
  const unanswered = card("No answer from the acquirer", { "data-test-id": "unknown" }, unknown);
  const chart = el("div", {});
  const workers = el("div", {});
  const proof = el("div", {});
  let drawn = {};

  function draw() {
    const working = jobs.workers_alive > 0;
    put(alive, count(jobs.workers_alive, "worker"));
    alive.className = `badge ${working ? "good" : "bad"}`;
    warning.hidden = working;
    if (!working) put(warning, `No worker is alive: nothing is processed, and no webhook is sent, until one runs. ${whole ? "Start one: make run, or the gateway_worker container." : "Whoever runs this gateway must start one."}`);
    for (const each of cards) each.show(jobs.queues[each.name]);
    anew("unknown", unknown, () => unknownOutcomes(jobs.unknown, whole, context.me.merchant.id));
    unanswered.hidden = !unknown.childElementCount;
    anew("minutes", chart, () => throughput(jobs.minutes));
    if (whole) anew("workers", workers, () => workersTable(jobs.workers));
    if (whole) anew("verification", proof, () => verdict(jobs.verification));
  }

  /** A part drawn anew where it differs, but not under whoever reads it. */
  function anew(name, place, make) {
    const text = JSON.stringify(jobs[name] ?? null);
    if (drawn[name] === text || place.matches(":hover:not(:empty), :focus-within")) return;
    drawn = { ...drawn, [name]: text };
    const open = place.querySelector("details")?.open;
    place.replaceChildren(...[make()].flat());
    if (open) place.querySelector("details").open = true;
  }

  draw();
  context.every(LIVE_MS, async () => {
    jobs = await get("/jobs", {}, { background: true, signal });
    draw();
  });
  return el("div", {},
    heading(title, {
      note: whole
        ? "The work of the whole gateway, of all of its merchants."
        : "Your own payments, refunds and webhooks. The workers are shared with the gateway's other merchants.",
      beside: [alive, whole && el("a", { class: "button", href: "/rq/", target: "_blank", rel: "noopener" }, "RQ's own dashboard", el("span", { class: "unseen" }, " (a new tab)"))],
    }),
    warning,
    el("div", { class: "thirds" }, cards.map(({ element }) => element)),
    unanswered,
    card("The last hour", {}, el("p", { class: "quiet hint" }, "What was settled or sent in each minute: payments and refunds that got their answer, and attempts at webhooks."), chart),
    whole && card("Workers", {}, workers),
    whole && card("Verification", { "data-test-id": "verification" }, proof));
}

/* --- a queue --------------------------------------------------------------------------------------- */

/** A card whose figures change in place. */
function queueCard(name, said) {
  const figures = Object.fromEntries(COUNTS.map(([which]) => [which, el("dd", { class: "number", "data-test-id": which })]));
  const oldest = el("dd", { "data-test-id": "oldest-due" });
  const element = card(said, { "data-test-id": `queue-${name}` },
    el("dl", { class: "counts" },
      COUNTS.map(([which, words, why]) => el("div", { title: why[name] ?? why },
        el("dt", {}, which === "failed" && name === "webhooks" ? link("/webhooks?status=failed", words) : words), figures[which])),
      el("div", {}, el("dt", {}, "Oldest due"), oldest)));

  function show(queue) {
    for (const [which] of COUNTS) put(figures[which], number(queue[which]));
    figures.failed.classList.toggle("bad", queue.failed > 0);
    const due = queue.oldest_due_at;
    put(oldest, due ? ago(due) : "–");
    oldest.title = due ? utc(due) : "";
    oldest.classList.toggle("bad", Boolean(due) && Date.now() - new Date(due) > LATE_MS);
  }
  return { name, element, show };
}

/* --- what has no answer ---------------------------------------------------------------------------- */

/** What the acquirer gave no definite answer to. An operator sees everybody's, and opens its own. */
function unknownOutcomes({ count: all, flagged, outcomes }, whole, merchantId) {
  if (!all) return [];
  return el("div", { class: "stack" },
    flagged > 0 && el("p", { class: "notice", "data-test-id": "unknown-advice" }, whole
      ? "Ask the acquirer about what is marked “over a day”, by its reference. The gateway goes on looking it up, and never guesses."
      : "Whoever runs this gateway must ask the acquirer about what is marked “over a day”. The gateway goes on looking it up, and never guesses."),
    el("p", { class: "quiet hint" }, "Nobody knows yet whether this was done. Each is looked up until the acquirer knows, and stays as it is until then.",
      all > outcomes.length && ` These are the ${number(outcomes.length)} oldest of ${number(all)}.`),
    table([
      { name: "Reference", cell: (outcome) => reference(outcome, merchantId) },
      { name: "Asked to", cell: ({ operation }) => words(operation) },
      { name: "Amount", align: "right", cell: ({ amount, currency }) => moneyOf(amount, currency) },
      { name: "No answer since", align: "full", cell: (outcome) => [el("span", { class: "narrow quiet" }, "No answer since "), when(outcome.since), " ", outcome.flagged && badge("unknown", "over a day")] },
      { name: "Asked", align: "full", cell: ({ tries }) => [el("span", { class: "narrow quiet" }, "Asked "), el("span", { class: "number" }, count(tries, "time"))] },
      { name: "Next look", align: "full", cell: (outcome) => [el("span", { class: "narrow quiet" }, "Next look "), clock(outcome.next_look_at)] },
    ], outcomes, { caption: "What has no answer from the acquirer", testId: "unknown-table", rowTestId: "unknown-row" }));
}

/** A time within minutes of now, which needs no date. */
function clock(iso) {
  return el("time", { datetime: iso, title: utc(iso) }, clockFormat.format(new Date(iso)));
}

/** What the acquirer knows it by: the payment's id, or the refund's with its payment. */
function reference(outcome, merchantId) {
  const id = el("code", {}, outcome.id);
  if (outcome.merchant_id !== merchantId) return [id, el("div", { class: "quiet hint" }, `of ${outcome.merchant_id}`)];
  if (outcome.kind === "payment") return el("a", { class: "row-link", href: `/dashboard/payments/${outcome.id}` }, id);
  return [el("a", { class: "row-link", href: `/dashboard/refunds/${outcome.id}` }, id),
    el("div", { class: "quiet hint" }, "of ", link(`/payments/${outcome.payment_id}`, el("code", {}, outcome.payment_id)))];
}

/* --- the last hour --------------------------------------------------------------------------------- */

const minuteFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function throughput(minutes) {
  const points = minutes.map(({ at, payments, refunds, webhooks }) => ({
    label: minuteFormat.format(new Date(at)),
    said: `${count(payments, "payment")}, ${count(refunds, "refund")}, ${count(webhooks, "webhook attempt")}`,
    values: [payments, refunds, webhooks],
  }));
  return barChart({
    name: "Throughput by minute", points, whole: true,
    series: Object.values(QUEUES),
    axis: number,
    columns: [["Minute", (point) => point.label], ...Object.values(QUEUES).map((said, i) => [said, (point) => number(point.values[i])])],
  });
}

/* --- the proof ------------------------------------------------------------------------------------- */

function verdict(last) {
  if (!last) return el("p", { class: "quiet" }, "There was none yet. The clock makes one by itself.");
  const found = last.breaks
    ? el("p", { class: "notice bad", role: "alert" }, `${count(last.breaks, "break")}: something is not as it must be. `, el("code", {}, "flask verify"), " tells each.")
    : el("p", {}, badge("success", "no breaks"), " Every posting sums to zero, every balance is what was captured less fees and refunds, every change has its event.");
  return [found, el("p", { class: "quiet hint" }, "The whole database was gone through ", when(last.finished_at, "exact"), ". It is done every night, and whenever you call ", el("code", {}, "flask verify"), ".")];
}

/* --- the workers ----------------------------------------------------------------------------------- */

function workersTable(workers) {
  if (!workers.length) return el("p", { class: "quiet" }, "None is alive.");
  return table([
    { name: "Host", cell: (worker) => el("code", {}, worker.hostname) },
    { name: "Process", cell: (worker) => [el("span", { class: "narrow quiet" }, "Process "), el("span", { class: "number" }, worker.pid)] },
    { name: "Queues", align: "full", cell: (worker) => worker.queues.join(", ") },
    { name: "Started", align: "full", cell: (worker) => [el("span", { class: "narrow quiet" }, "Started "), when(worker.started_at, "exact")] },
    { name: "Last seen", align: "full", cell: (worker) => [el("span", { class: "narrow quiet" }, "Last seen "), when(worker.beat_at, "exact")] },
  ], workers, { caption: "Workers that are alive", testId: "workers-table", rowTestId: "worker-row" });
}
