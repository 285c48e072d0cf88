/* Lists: filters kept in the address, cursor paging, live on the first page, and every state in words. */

import { announce, el } from "./dom.js";
import { get } from "./api.js";
import { digitsOf, parseMoney, typed } from "./format.js";
import { go, here, query, withQuery } from "./router.js";
import { empty, failure, heading, loading, table } from "./ui.js";

const LIMIT = 20;
const LIVE_MS = 4000;

/** A page that is one list.
 *
 *  `columns` as in ui.table; `filters` from below; `nothing` is shown when there is nothing at all.
 *  `beside(filters)` gives the heading's buttons. `fixed` is added to what is asked for.
 */
export function listPage(context, { title, path, columns, filters = [], nothing, beside, note, what, testId, rowTestId, fixed = {} }) {
  const body = el("section", { class: "card" });
  const root = el("div", {},
    heading(title, { note, beside: beside?.(() => apiQuery(filters)) ?? [] }),
    filters.length ? filterBar(filters) : null, body);
  list(context, body, { path, columns, filters, nothing, what, testId, rowTestId, fixed, caption: title });
  return root;
}

/** The list itself, in `place`. Returns a function that asks anew. */
export function list(context, place, { path, columns, filters = [], nothing, what, testId, rowTestId, fixed = {}, caption, limit = LIMIT, paged = true }) {
  let shown = null;

  async function ask(options) {
    const after = paged ? query().starting_after : undefined;
    return get(path, { ...fixed, ...apiQuery(filters), starting_after: after, limit }, { signal: context.signal, ...options });
  }

  async function show() {
    place.setAttribute("aria-busy", "true");
    if (shown === null) place.replaceChildren(loading());
    try {
      draw(await ask());
    } catch (error) {
      if (error.name === "AbortError") return;
      const clear = filters.length && error.status === 400 && el("a", { class: "button", href: `/dashboard${here()}` }, "Clear the filters");
      place.replaceChildren(failure(error, show), ...(clear ? [clear] : []));
    } finally {
      place.setAttribute("aria-busy", "false");
    }
  }

  function draw(answer, live = false) {
    const text = JSON.stringify(answer);
    if (text === shown) return;
    const known = live ? new Set([...place.querySelectorAll("tr[data-id]")].map((row) => row.dataset.id)) : null;
    const focused = focusIn(place);
    shown = text;
    if (!answer.data.length) {
      const filtered = filters.some(({ names }) => names.some((name) => query()[name]));
      place.replaceChildren(filtered
        ? empty("Nothing matches", "No row fits these filters.", el("a", { class: "button", href: `/dashboard${here()}` }, "Clear the filters"))
        : query().starting_after && paged ? empty("No more", "This was the last page.", firstPage()) : nothing());
      return;
    }
    const more = paged && (answer.has_more || query().starting_after);
    place.replaceChildren(table(columns, answer.data, { caption, testId, rowTestId }), ...(more ? [pager(answer)] : []));
    if (focused) refocusIn(place, focused);
    if (!known) return;
    const fresh = [...place.querySelectorAll("tr[data-id]")].filter((row) => !known.has(row.dataset.id));
    for (const row of fresh) row.classList.add("fresh");
    if (fresh.length) announce(`${fresh.length} new: ${what}`);
  }

  function pager({ has_more: more, next_cursor: cursor }) {
    const deep = history.state?.page ?? (query().starting_after ? 2 : 1);
    const next = () => go(withQuery({ starting_after: cursor }), { state: { page: deep + 1, back: true } });
    const previous = () => (history.state?.back ? history.back() : go(withQuery({ starting_after: "" })));
    return el("nav", { class: "pager", "aria-label": `Pages of ${caption}` },
      el("button", { type: "button", class: "small", disabled: deep === 1, onclick: previous }, "Previous"),
      el("span", {}, `Page ${deep}`),
      el("button", { type: "button", class: "small", disabled: !more, onclick: next }, "Next"));
  }

  const first = !paged || !query().starting_after;
  if (first) {
    context.every(LIVE_MS, async () => {
      if (shown === null || place.querySelector("dialog[open]")) return;
      draw(await ask({ background: true }), true);
    });
  }
  show();
  return async () => draw(await ask(), true);
}

/** Which control of which row has the focus, so that it has it again when the rows are drawn anew. */
function focusIn(place) {
  const row = place.contains(document.activeElement) && document.activeElement.closest("tr[data-id]");
  return row && { id: row.dataset.id, index: controls(row).indexOf(document.activeElement) };
}

/** The row may have fewer of them now, or be gone. */
function refocusIn(place, { id, index }) {
  const left = controls(place.querySelector(`tr[data-id="${id}"]`) ?? place);
  left[Math.min(index, left.length - 1)]?.focus();
}

function controls(place) {
  return [...place.querySelectorAll("a, button, [tabindex='0']")];
}

function firstPage() {
  return el("a", { class: "button", href: `/dashboard${withQuery({ starting_after: "" })}` }, "To the first page");
}

/* --- filters --------------------------------------------------------------------------------------- */

/* Each filter: `names` in the address, `control()` elements, `ask(query)` what the API is asked. */

export function search(placeholder, label = "Search") {
  return {
    names: ["q"],
    control: () => labelled(label, el("input", { type: "search", name: "q", value: query().q ?? "", placeholder, maxlength: 256, autocomplete: "off", spellcheck: "false" }), "grow"),
    ask: ({ q }) => ({ q: q?.trim() }),
  };
}

/** What the search at the top of every page found, and a way back to all. */
export function searched() {
  return {
    names: ["q"],
    control: () => query().q && el("p", { class: "chip" }, `Search: ${query().q}`,
      el("a", { href: `/dashboard${withQuery({ q: "", starting_after: "" })}`, "aria-label": "End the search" }, "×")),
    ask: ({ q }) => ({ q: q?.trim() }),
  };
}

export function choice(name, label, options) {
  return {
    names: [name],
    control: () => labelled(label, el("select", { name },
      el("option", { value: "" }, "All"),
      options.map((option) => {
        const [value, said] = Array.isArray(option) ? option : [option, option.replaceAll("_", " ")];
        return el("option", { value, selected: query()[name] === value }, said);
      }))),
    ask: (q) => ({ [name]: q[name] }),
  };
}

/** Days in the reader's own time zone, both included. */
export function dates() {
  return {
    names: ["from", "to"],
    control: () => [["from", "From"], ["to", "To"]].map(([name, label]) =>
      labelled(label, el("input", { type: "date", name, value: /^\d{4}-\d\d-\d\d$/.test(query()[name]) ? query()[name] : "" }))),
    ask: ({ from, to }) => ({ from: midnight(from, 0), to: midnight(to, 1) }),
  };
}

function midnight(date, daysLater) {
  const match = /^(\d{4})-(\d\d)-(\d\d)$/.exec(date ?? "");
  if (!match) return date; // what is no day, the API refuses in words
  return new Date(Number(match[1]), Number(match[2]) - 1, Number(match[3]) + daysLater).toISOString();
}

/** From and to in minor units in the address, typed as people do. */
export function amounts(currency) {
  const shown = (minor) => (/^\d{1,12}$/.test(minor ?? "") ? typed(Number(minor), currency) : "");
  const hint = digitsOf(currency) ? "0.00" : "0";
  return {
    names: ["amount_min", "amount_max"],
    control: () => [["amount_min", "At least"], ["amount_max", "At most"]].map(([name, label]) =>
      labelled(label, el("input", { class: "amount", name, value: shown(query()[name]), inputmode: "decimal", placeholder: hint, autocomplete: "off", "data-currency": currency }))),
    ask: ({ amount_min, amount_max }) => ({ amount_min, amount_max }),
  };
}

function labelled(label, control, kind = "") {
  const id = `filter-${control.name}`;
  control.id = id;
  return el("div", { class: `field ${kind}` }, el("label", { for: id }, label), control);
}

/** Changes go into the address at once, and from there to the list. */
export function filterBar(filters) {
  const form = el("form", { class: "filters", "aria-label": "Filters", novalidate: true },
    filters.map((filter) => filter.control()),
    el("button", { type: "submit", class: "unseen" }, "Apply"),
    filters.some(({ names }) => names.some((name) => query()[name])) &&
      el("a", { class: "button", href: `/dashboard${here()}` }, "Clear"));
  const apply = () => {
    const values = { starting_after: "" };
    for (const control of form.elements) {
      if (!control.name) continue;
      if (!control.dataset.currency || !control.value.trim()) values[control.name] = control.value.trim();
      else {
        const minor = parseMoney(control.value, control.dataset.currency);
        if (minor === null) {
          control.setAttribute("aria-invalid", "true");
          announce("This is no amount. Write it like 1234.50.");
          control.focus();
          return;
        }
        values[control.name] = minor;
      }
    }
    const target = withQuery(values);
    if (`/dashboard${target}` === location.pathname + location.search) return;
    const focused = document.activeElement?.name;
    go(target);
    if (focused) refocus(focused);
  };
  // Enter changes a field and submits the form: after that, or the form would be gone before it is submitted.
  form.addEventListener("change", (event) => event.target.type !== "search" && setTimeout(() => form.isConnected && apply()));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  return form;
}

/** The page is drawn anew: whoever was at a filter is there again. */
function refocus(name) {
  const seen = new MutationObserver(() => {
    const control = document.getElementById(`filter-${name}`);
    if (!control) return;
    seen.disconnect();
    queueMicrotask(() => requestAnimationFrame(() => document.getElementById(`filter-${name}`)?.focus()));
  });
  seen.observe(document.getElementById("main"), { childList: true });
  setTimeout(() => seen.disconnect(), 3000);
}

/** What the API is asked, of what the address says. */
export function apiQuery(filters) {
  return Object.assign({}, ...filters.map((filter) => filter.ask(query())));
}
