/* How the queues are doing, live: what waits, runs, is done and failed, who works, and how fast it goes. */

import { el, put } from "../dom.js";
import { get } from "../api.js";
import { barChart } from "../chart.js";
import { ago, count, number, utc } from "../format.js";
import { card, heading, link, table, when } from "../ui.js";

export const title = "Jobs";

const LIVE_MS = 3000;
const LATE_MS = 60_000; // what is due longer than this, waits for a worker that is busy or gone
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
  const chart = el("div", {});
  const workers = el("div", {});
  let drawn = {};

  function draw() {
    const working = jobs.workers_alive > 0;
    put(alive, count(jobs.workers_alive, "worker"));
    alive.className = `badge ${working ? "good" : "bad"}`;
    warning.hidden = working;
    if (!working) put(warning, `No worker is alive: nothing is processed, and no webhook is sent, until one runs. ${whole ? "Start one: make run, or the gateway_worker container." : "Whoever runs this gateway must start one."}`);
    for (const each of cards) each.show(jobs.queues[each.name]);
    anew("minutes", chart, () => throughput(jobs.minutes));
    if (whole) anew("workers", workers, () => workersTable(jobs.workers));
  }

  /** A part drawn anew where it differs, but not under whoever reads it. */
  function anew(name, place, make) {
    const text = JSON.stringify(jobs[name]);
    if (drawn[name] === text || place.matches(":hover:not(:empty), :focus-within")) return;
    drawn = { ...drawn, [name]: text };
    const open = place.querySelector("details")?.open;
    place.replaceChildren(make());
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
    card("The last hour", {}, el("p", { class: "quiet hint" }, "What was settled or sent in each minute: payments and refunds that got their answer, and attempts at webhooks."), chart),
    whole && card("Workers", {}, workers));
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
