/* The parts that every page is made of: headings, badges, states, tables, fields, dialogs. */

import { announce, copyButton, el, put } from "./dom.js";
import { ago, exactTime, money, time, utc, words } from "./format.js";
import { ApiError, newKey } from "./api.js";

/* --- words and figures ----------------------------------------------------------------------------- */

const TONES = {
  success: "good", captured: "good", paid: "good", processed: "good", active: "good", enabled: "good", approved: "good",
  pending: "wait", attempted: "wait", running: "wait", created: "plain", requires_action: "warn", needs_action: "warn",
  rolled: "warn", unknown: "warn", failed: "bad", declined: "bad", disabled: "bad", revoked: "plain", expired: "plain",
  voided: "plain", uncaptured: "warn", partial: "plain", full: "plain",
};

/** A status as a badge; `said` if other words than its name are better. */
export function badge(status, said, attributes = {}) {
  return el("span", { class: `badge ${TONES[status] ?? "plain"}`, ...attributes }, said ?? status.replaceAll("_", " "));
}

/** A payment's status, and beside it what else matters of it. */
export function paymentBadges(payment) {
  const beside = [];
  if (payment.status === "success" && !payment.captured) beside.push(badge("uncaptured", "not captured"));
  if (payment.refund_status === "full") beside.push(badge("full", "refunded"));
  if (payment.refund_status === "partial") beside.push(badge("partial", "partly refunded"));
  return el("span", { class: "badges" }, badge(payment.status, undefined, { "data-test-id": "status" }), beside);
}

/** A time in the reader's locale, with the exact one in UTC on hover. `how`: "time", "exact" or "ago". */
export function when(iso, how = "time", attributes = {}) {
  if (!iso) return el("span", { class: "quiet" }, "never");
  const text = { time, exact: exactTime, ago }[how](iso);
  return el("time", { datetime: iso, title: utc(iso), ...attributes }, text);
}

export function moneyOf(minor, currency, attributes = {}) {
  return el("span", { class: "money", ...attributes }, money(minor, currency));
}

/** An id with a button that copies it. */
export function copyable(text, what, attributes = {}) {
  return el("span", { class: "copyable" }, el("code", attributes, text), copyButton(what, () => text));
}

export function link(href, ...children) {
  return el("a", { href: `/dashboard${href}` }, children);
}

/* --- the frame of a page --------------------------------------------------------------------------- */

/** A page's heading, which takes the focus when the page is opened; `beside` it what can be done. */
export function heading(title, { beside = [], above = null, note = null } = {}) {
  return el("header", { class: "page-head" },
    above && el("p", { class: "above" }, above),
    el("div", { class: "bar" }, el("h1", { tabindex: "-1" }, title), el("div", { class: "actions" }, beside)),
    note && el("p", { class: "quiet" }, note));
}

export function card(title, attributes, ...children) {
  return el("section", { class: "card", ...attributes },
    title && el("div", { class: "bar card-head" }, typeof title === "string" ? el("h2", {}, title) : title), children);
}

/** Facts: [[name, value], ...]; those without a value are left out. `wide`: several beside each other. */
export function facts(rows, kind = "") {
  return el("dl", { class: `facts ${kind}` }, rows.filter(([, value]) => value || value === 0)
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/* --- states ---------------------------------------------------------------------------------------- */

export function loading(what = "Loading") {
  return el("div", { class: "state", role: "status" }, el("span", { class: "spinner", "aria-hidden": "true" }), `${what} …`);
}

export function empty(title, hint, ...actions) {
  return el("div", { class: "state empty" }, el("h2", {}, title), hint && el("p", {}, hint),
    actions.length ? el("div", { class: "actions" }, actions) : null);
}

/** What went wrong, in words, and a way on. */
export function failure(error, retry) {
  const title = error.status === 404 ? "Not found" : error.offline ? "No connection" : "This did not work";
  return el("div", { class: "state problem", role: "alert" }, el("h2", {}, title), el("p", {}, wordsOf(error)),
    el("div", { class: "actions" }, retry && error.status !== 404 && el("button", { type: "button", onclick: retry }, "Try again")));
}

export function wordsOf(error) {
  if (error instanceof ApiError) return error.description ?? error.message;
  console.error(error);
  return "Something went wrong on this page. Reload it, and try again.";
}

/** Show what `load` gives, with a sign while it loads and a way to try again. Returns a function that loads anew. */
export function loaded(place, load, what) {
  const run = async ({ quietly = false } = {}) => {
    if (!quietly) place.replaceChildren(loading(what));
    place.setAttribute("aria-busy", "true");
    try {
      place.replaceChildren(...[await load()].flat());
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!quietly || !place.hasChildNodes()) place.replaceChildren(failure(error, () => run()));
    } finally {
      place.setAttribute("aria-busy", "false");
    }
  };
  run();
  return run;
}

let toastTimer;

/** A short word at the page's edge that something was done. */
export function toast(message, tone = "good") {
  const place = document.getElementById("toast");
  place.className = `toast ${tone}`;
  put(place, message);
  place.hidden = false;
  announce(message);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (place.hidden = true), 6000);
}

/* --- tables ---------------------------------------------------------------------------------------- */

/** Columns are {name, cell(row), attributes}; on a phone each row becomes a small card. */
export function table(columns, rows, { caption, testId, rowTestId }) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { "data-test-id": testId },
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, columns.map(({ name, align }) =>
        el("th", { scope: "col", class: align }, name || el("span", { class: "unseen" }, "Actions"))))),
      el("tbody", {}, rows.map((row) => el("tr", { "data-test-id": rowTestId, "data-id": row.id },
        columns.map(({ name, cell, align }) => el("td", { class: align, "data-name": name }, cell(row))))))));
}

/* --- forms ----------------------------------------------------------------------------------------- */

let fields = 0;

/** A labelled control; `hint` and its error are told with it. */
export function field(label, control, { hint, optional = false } = {}) {
  const id = (control.id ||= `field-${(fields += 1)}`);
  const error = el("p", { class: "error", id: `${id}-error`, hidden: true });
  if (hint) control.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  else control.setAttribute("aria-describedby", `${id}-error`);
  control.addEventListener("input", () => complain(control, ""));
  return el("div", { class: "field" },
    el("label", { for: id }, label, optional && el("span", { class: "quiet" }, " (optional)")),
    control, hint && el("p", { class: "hint", id: `${id}-hint` }, hint), error);
}

/** Say what is wrong with a control, or nothing. */
export function complain(control, message) {
  const place = document.getElementById(`${control.id}-error`) ??
    control.closest(".field")?.querySelector(".error");
  if (place) {
    put(place, message);
    place.hidden = !message;
  }
  if (message) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
}

/** Run a form's deed: its buttons wait, a refusal goes to the field that it names, or to `problem`. */
export async function submit(form, deed) {
  const problem = form.querySelector(".form-problem");
  const buttons = [...form.querySelectorAll("button")];
  if (form.getAttribute("aria-busy") === "true") return undefined;
  form.setAttribute("aria-busy", "true");
  problem.hidden = true;
  for (const button of buttons) button.setAttribute("aria-disabled", "true");
  try {
    return await deed();
  } catch (error) {
    const control = error.field && form.elements.namedItem(error.field);
    if (control) {
      complain(control, wordsOf(error).replace(`${error.field}: `, ""));
      control.focus();
    } else {
      put(problem, wordsOf(error));
      problem.hidden = false;
    }
    return undefined;
  } finally {
    form.setAttribute("aria-busy", "false");
    for (const button of buttons) button.removeAttribute("aria-disabled");
  }
}

/** Do what a button alone stands for: it waits meanwhile, and a refusal is told at the page's edge. */
export async function press(button, deed) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await deed();
  } catch (error) {
    if (error.name !== "AbortError") toast(wordsOf(error), "bad");
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/* --- dialogs --------------------------------------------------------------------------------------- */

/** Ask before something is done, in a modal dialog.
 *
 *  `deed({key, form})` does it; the key is the same however often it is tried, so that it takes effect once.
 *  `danger`: it can't be undone. Resolves to what the deed gave, or null if it was not done.
 */
export function confirm({ title, text, fields: controls = [], action, danger = false, deed, testId }) {
  const key = newKey();
  return new Promise((resolve) => {
    let result = null;
    const go = el("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
    const form = el("form", { method: "dialog", novalidate: true },
      el("h2", { id: "dialog-title" }, title),
      el("div", { class: "dialog-text", id: "dialog-text" }, text),
      controls,
      el("p", { class: "form-problem", role: "alert", hidden: true }),
      el("div", { class: "choices" },
        el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
    const dialog = el("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text", "data-test-id": testId }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const done = await submit(form, async () => ({ value: await deed({ key, form, button: go }) }));
      if (done && done.value !== false) {
        result = done.value ?? true;
        dialog.close();
      }
    });
    dialog.addEventListener("cancel", (event) => {
      if (form.getAttribute("aria-busy") === "true") event.preventDefault(); // it is being done already
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      before?.isConnected && before.focus();
      resolve(result);
    });
    const before = document.activeElement;
    document.body.append(dialog);
    dialog.showModal();
    (form.querySelector("input, select, textarea") ?? (danger ? form.querySelector(".choices button") : go)).focus();
  });
}

/** Show something once, as a new secret. */
export function tell({ title, text, body }) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-labelledby": "dialog-title" },
      el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, title), el("div", { class: "dialog-text" }, text), body,
        el("div", { class: "choices" }, el("button", { type: "submit", class: "primary" }, "Done"))));
    const before = document.activeElement;
    dialog.addEventListener("close", () => {
      dialog.remove();
      before?.isConnected && before.focus();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export { words };
