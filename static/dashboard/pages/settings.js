/* Settings: how the business looks to shoppers, the password, where somebody is signed in, and who did what. */

import { el, put } from "../dom.js";
import { connection, patch, post, remove } from "../api.js";
import { words } from "../format.js";
import { list } from "../list.js";
import { BASE, query } from "../router.js";
import { badge, card, complain, confirm, empty, field, heading, link, submit, toast, when } from "../ui.js";

export const title = "Settings";

const NAME_MAX_LENGTH = 100; // the API takes no more
const PASSWORD_LENGTH_MIN = 12; // and no fewer
const SESSIONS_MAX = 100;
const DEFAULT_COLOR = "#1a56c4"; // the checkout's, of a merchant that has not chosen one
const COLOR = /^#[0-9a-f]{6}$/i;

export async function page(context) {
  const sessions = el("div", {});
  const log = el("div", {});
  const again = list(context, sessions, {
    path: "/sessions", columns: sessionColumns(context.me.session.id), caption: "Where you are signed in", what: "sessions", limit: SESSIONS_MAX, paged: false,
    testId: "sessions-table", rowTestId: "session-row", nothing: () => empty("Nowhere", "Not even here: your session has just ended."),
  });
  list(context, log, {
    path: "/audit_log", columns: LOG, caption: "Security log", what: "entries", testId: "audit-table", rowTestId: "audit-row",
    nothing: () => empty("Nothing yet", "What matters for security or money is written down here: who did it, and when."),
  });
  const logTitle = el("h2", { id: "security-log", tabindex: "-1" }, "Security log");
  if (query().starting_after) requestAnimationFrame(() => logTitle.isConnected && (logTitle.scrollIntoView(), logTitle.focus())); // a page of it was turned
  return el("div", {}, heading(title),
    el("div", { class: "columns wide-first" },
      card("Business", {}, business(context)),
      card("Password", {}, password(context.me.merchant.email, again))),
    card(el("div", { class: "bar card-title" }, el("h2", {}, "Where you are signed in"),
      el("button", { type: "button", class: "danger", "data-test-id": "sign-out-everywhere", onclick: signOutEverywhere }, "Sign out everywhere")), {}, sessions),
    card(logTitle, {}, el("p", { class: "quiet" }, "What was done that matters for security or money. It is only ever added to."), log));
}

/* --- the business ---------------------------------------------------------------------------------- */

function business({ me, refreshMe }) {
  let { merchant } = me;
  const name = el("input", { name: "name", autocomplete: "organization", required: true, maxlength: NAME_MAX_LENGTH, value: merchant.name });
  const logo = el("input", { name: "logo_url", type: "url", autocomplete: "off", maxlength: 2048, placeholder: "https://shop.example/logo.png", value: merchant.logo_url ?? "" });
  const color = el("input", { name: "accent_color", autocomplete: "off", spellcheck: "false", maxlength: 7, placeholder: DEFAULT_COLOR, value: merchant.accent_color ?? "" });
  const picker = el("input", { type: "color", "aria-label": "Pick the colour", value: merchant.accent_color ?? DEFAULT_COLOR });
  const origins = el("textarea", { name: "frame_origins", rows: 3, spellcheck: "false", autocomplete: "off", placeholder: "https://shop.example" });
  origins.value = merchant.frame_origins.join("\n");
  const colorField = field("Colour", color, { optional: true, hint: "What is written on it is black or white, whichever can be read better." });
  const pair = el("div", { class: "pair" });
  color.replaceWith(pair);
  pair.append(color, picker);

  const preview = previewOf();
  const look = () => preview.show(name.value.trim() || merchant.name, COLOR.test(color.value) ? color.value : DEFAULT_COLOR);
  name.addEventListener("input", look);
  color.addEventListener("input", () => {
    if (COLOR.test(color.value)) picker.value = color.value;
    look();
  });
  picker.addEventListener("input", () => {
    color.value = picker.value;
    color.dispatchEvent(new Event("input"));
  });
  look();

  const form = el("form", { class: "stack", novalidate: true, "data-test-id": "business-form" },
    field("Name", name, { hint: "Shoppers see it on the checkout." }),
    field("Logo's address", logo, { optional: true, hint: "Shown on the checkout, in place of the initials. Not here: the dashboard loads nothing from elsewhere." }),
    colorField, preview.element,
    field("Sites that may frame your checkout", origins, { optional: true, hint: "One a line. Others can't show it in a modal; a local gateway allows any." }),
    el("p", { class: "form-problem", role: "alert", hidden: true }),
    el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Save")));

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!name.value.trim()) {
      complain(name, "Type a name.");
      name.focus();
      return;
    }
    const wanted = {
      name: name.value.trim(), logo_url: logo.value.trim() || null, accent_color: color.value.trim().toLowerCase() || null,
      frame_origins: origins.value.split(/\s+/).filter(Boolean).map((origin) => origin.replace(/\/$/, "")), // as copied from an address bar
    };
    const changes = Object.fromEntries(Object.entries(wanted).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(merchant[key])));
    if (!Object.keys(changes).length) {
      toast("Nothing has changed.", "warn");
      return;
    }
    submit(form, async () => {
      try {
        merchant = await patch("/merchant", changes);
      } catch (error) {
        throw ofLine(error);
      }
      origins.value = merchant.frame_origins.join("\n");
      await refreshMe();
      toast("Saved. Your checkout shows it from now on.");
    });
  });
  return form;
}

/** A refusal that names one of the sites, told at the field that holds them all. */
function ofLine(error) {
  const [, index, said] = /^frame_origins\.(\d+): (.*)$/s.exec(error.message) ?? [];
  if (said) Object.assign(error, { field: "frame_origins", message: `Line ${Number(index) + 1}: ${said}` });
  return error;
}

/** The head of the checkout and its button, in the merchant's colour. */
function previewOf() {
  const avatar = el("span", { class: "avatar" });
  const seller = el("strong", {});
  const element = el("div", { class: "preview", role: "img", "data-test-id": "checkout-preview" }, avatar, seller, el("span", { class: "pay" }, "Pay"));
  const show = (name, color) => {
    put(avatar, name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join(""));
    put(seller, name);
    element.setAttribute("aria-label", `Your checkout: ${name}, in ${color}`);
    element.style.setProperty("--shop", color);
    element.style.setProperty("--on-shop", luminance(color) > MIDDLE_LUMINANCE ? "#000000" : "#ffffff");
  };
  return { element, show };
}

const MIDDLE_LUMINANCE = Math.sqrt(1.05 * 0.05) - 0.05; // black and white have the same contrast with it (WCAG 2.2)

function luminance(color) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16) / 255)
    .map((share) => (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/* --- the password, and where it was given ---------------------------------------------------------- */

function password(email, changed) {
  const control = (name, autocomplete, most) => el("input", { name, type: "password", autocomplete, required: true, maxlength: most });
  const current = control("current_password", "current-password", 1024);
  const chosen = control("password", "new-password", 256);
  const repeated = control("again", "new-password", 256);
  const form = el("form", { class: "stack", novalidate: true, "data-test-id": "password-form" },
    el("input", { type: "email", autocomplete: "username", value: email, readonly: true, hidden: true }), // whose it is, for password managers
    field("Current password", current),
    field("New password", chosen, { hint: `At least ${PASSWORD_LENGTH_MIN} characters. Several words are good.` }),
    field("The same again", repeated),
    el("p", { class: "form-problem", role: "alert", hidden: true }),
    el("p", { class: "hint" }, "You stay signed in here, and nowhere else."),
    el("div", { class: "actions" }, el("button", { type: "submit" }, "Change password")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    for (const [input, wrong, said] of [
      [current, !current.value, "Type your current password."],
      [chosen, chosen.value.length < PASSWORD_LENGTH_MIN, `Must be at least ${PASSWORD_LENGTH_MIN} characters.`],
      [repeated, repeated.value !== chosen.value, "Is not the same."],
    ]) {
      if (!wrong) continue;
      complain(input, said);
      input.focus();
      return;
    }
    submit(form, async () => {
      await post("/password", { current_password: current.value, password: chosen.value });
      form.reset();
      changed().catch(() => {}); // the list asks by itself, too
      toast("Your password is changed. Every other browser is signed out.");
    });
  });
  return form;
}

async function signOutEverywhere() {
  const done = await confirm({
    title: "Sign out everywhere", action: "Sign out everywhere", danger: true, testId: "sign-out-dialog",
    text: el("p", {}, "Every browser in which you are signed in is signed out at once, this one too. API keys go on working."),
    deed: () => remove("/sessions"),
  });
  if (!done) return;
  history.replaceState(null, "", `${BASE}/`);
  connection.dispatchEvent(new Event("signed-out"));
}

const sessionColumns = (mine) => [
  { name: "Browser", align: "full", cell: (session) => [el("span", { title: session.user_agent }, browserOf(session.user_agent)), " ", session.id === mine && badge("active", "this one")] },
  { name: "Address", align: "full", cell: (session) => el("code", {}, session.address) },
  { name: "Since", align: "full", cell: (session) => [el("span", { class: "narrow" }, "Since "), when(session.created_at)] },
  { name: "Last seen", align: "full", cell: (session) => [el("span", { class: "narrow" }, "Last seen "), when(session.seen_at, "ago")] },
];

// In this order: most also call themselves what comes after them.
const BROWSERS = [
  ["Edg|EdgA|EdgiOS", "Edge"], ["OPR", "Opera"], ["SamsungBrowser", "Samsung Internet"], ["Firefox|FxiOS", "Firefox"],
  ["Chrome|CriOS|HeadlessChrome", "Chrome"], ["Version(?=.*Safari)", "Safari"], ["curl", "curl"], ["python-requests", "Python requests"],
];
const SYSTEMS = [
  ["iPhone", "iPhone"], ["iPad", "iPad"], ["Android", "Android"], ["Windows", "Windows"], ["CrOS", "ChromeOS"], ["Mac OS X|Macintosh", "macOS"], ["Linux", "Linux"],
];

/** "Firefox 143 on Windows", of what the browser calls itself. */
function browserOf(agent) {
  const [browser, version] = BROWSERS.map(([pattern, name]) => [name, new RegExp(`\\b(?:${pattern})/(\\d+)`).exec(agent)?.[1]]).find(([, found]) => found) ?? [];
  const system = SYSTEMS.find(([pattern]) => new RegExp(pattern).test(agent))?.[1];
  if (!browser && !system) return agent || "Unknown";
  return [browser ? `${browser} ${version}` : "Unknown browser", system && `on ${system}`].filter(Boolean).join(" ");
}

/* --- who did what ---------------------------------------------------------------------------------- */

const ACTIONS = {
  "merchant.created": "The merchant was created", "merchant.changed": "Changed the business",
  "session.began": "Signed in", "session.ended": "Signed out", "session.all_ended": "Signed out everywhere",
  "password.changed": "Changed the password", "password.chosen_by_link": "Chose a password by a link", "password.link_made": "Made a link to choose a password",
  "api_key.created": "Created an API key", "api_key.rolled": "Rolled an API key", "api_key.revealed": "Revealed an API key's secret", "api_key.revoked": "Revoked an API key",
  "webhook_endpoint.created": "Added a webhook endpoint", "webhook_endpoint.changed": "Changed a webhook endpoint", "webhook_endpoint.deleted": "Deleted a webhook endpoint",
  "webhook_endpoint.disabled": "Disabled a webhook endpoint that only failed", "webhook_endpoint.secret_revealed": "Revealed a webhook secret",
  "webhook_endpoint.secret_rotated": "Rotated a webhook secret", "webhook_endpoint.previous_secret_revoked": "Revoked the previous webhook secret",
  "queue.changed": "Changed RQ's jobs",
  "webhook.retried": "Retried a webhook", "webhook.all_retried": "Retried all failed webhooks",
  "payment.capture_requested": "Captured a payment", "payment.void_requested": "Voided a payment", "refund.requested": "Refunded a payment",
};
const SUBJECTS = { pay: "/payments/", rfnd: "/refunds/", whd: "/webhooks/", order: "/orders/", evt: "/events/" };

const LOG = [
  { name: "What", cell: (entry) => el("span", { title: entry.action }, ACTIONS[entry.action] ?? words(entry.action.replace(".", " "))) },
  { name: "When", cell: (entry) => when(entry.created_at, "exact") },
  { name: "Who", align: "full", cell: (entry) => [el("span", { class: "narrow" }, "By "), entry.actor.startsWith("key_") ? el("code", {}, entry.actor) : entry.actor === "gateway" ? "the gateway" : entry.actor] },
  { name: "On", align: "full", cell: (entry) => subject(entry.subject_id) },
  { name: "Details", align: "full", cell: (entry) => details(entry.details) },
];

function subject(id) {
  const path = SUBJECTS[id.split("_")[0]];
  return path ? link(path + id, el("code", {}, id)) : el("code", { class: "quiet" }, id);
}

function details(all) {
  return Object.entries(all).map(([name, value]) => el("div", {}, el("span", { class: "quiet" }, `${words(name)} `), readable(name, value)));
}

function readable(name, value) {
  if (value === null || value === "" || (Array.isArray(value) && !value.length)) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (name === "amount") return `${value} in minor units`;
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
