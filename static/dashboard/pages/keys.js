/* API keys: what a merchant's servers sign in with. A secret is shown when it is made, later only after the password. */

import { announce, copyButton, el, put } from "../dom.js";
import { get, post, remove } from "../api.js";
import { ago, count } from "../format.js";
import { list } from "../list.js";
import { here } from "../router.js";
import { badge, card, complain, confirm, copyable, empty, facts, field, heading, link, loaded, tell, toast, when } from "../ui.js";

export const title = "API keys";

const HIDDEN_AFTER_MS = 60_000; // a secret is not left on a screen that nobody looks at any more
const OVERLAP_HOURS = 24; // time to deploy the new key everywhere
const OVERLAP_HOURS_MAX = 168; // the API takes no more
const NAME_MAX_LENGTH = 100; // nor here
const PAGE_LIMIT = 100;
const MASK = "•".repeat(16);

const changes = new EventTarget(); // `change`: a key was made, rolled or revoked

const COLUMNS = [
  { name: "Key", cell: (key) => [copyable(key.id, `the id ${key.id}`, { "data-test-id": "key-id" }), key.name && el("div", { class: "quiet" }, key.name)] },
  { name: "Status", cell: (key) => badge(key.status, undefined, { "data-test-id": "key-status" }) },
  { name: "Last used", align: "full", cell: (key) => [el("span", { class: "narrow" }, "Last used "), when(key.last_used_at, "ago", { "data-test-id": "key-last-used" })] },
  { name: "Created", align: "full", cell: (key) => [el("span", { class: "narrow" }, "Created "), when(key.created_at)] },
  { name: "Ends", align: "full", cell: end },
  { name: "", align: "right full", cell: actions },
];

export async function page(context) {
  const keys = el("section", { class: "card" });
  const again = list(context, keys, {
    path: "/api_keys", columns: COLUMNS, caption: title, what: "keys", testId: "keys-table", rowTestId: "key-row",
    nothing: () => empty("No key yet", "Your servers sign in with a key and its secret."),
  });
  changes.addEventListener("change", () => again().catch(() => {}), { signal: context.signal }); // it asks by itself, too
  return el("div", {},
    heading(title, {
      beside: el("button", { type: "button", class: "primary", "data-test-id": "create-key-button", onclick: create }, "Create key"),
      note: "Your servers sign in with a key and its secret. Whoever has both can refund your money: keep them out of pages, apps and repositories.",
    }),
    credentialsCard(context), keys);
}

/** The newest key that works, with its secret: masked until the password is given, or in full where it is published. */
export function credentialsCard(context) {
  const place = el("div", {});
  const again = loaded(place, async () => {
    const [keys, published] = await Promise.all([allKeys(context.signal), publishedKey(context)]);
    const active = keys.filter(({ status }) => status === "active");
    const key = active.find(({ id }) => id === published?.id) ?? active[0];
    if (!key) {
      return el("div", { class: "state empty dashed" }, el("h3", {}, "No key that works"), el("p", {}, "Create one, and put it and its secret where your servers find them."),
        el("div", { class: "actions" }, el("button", { type: "button", onclick: create }, "Create key")));
    }
    const secret = key.id === published?.id ? published.secret : null;
    return [
      facts([
        ["Key", copyable(key.id, "the key", { "data-test-id": "api-key" })],
        ["Secret", secret ? copyable(secret, "the secret", { "data-test-id": "api-secret" }) : maskedSecret(context, key)],
      ]),
      el("p", { class: "hint" }, secret ? "The test merchant's: published, and the same on every local gateway." : "The key names you and is no secret. The secret is."),
    ];
  });
  changes.addEventListener("change", () => again({ quietly: true }), { signal: context.signal });
  return card(el("div", { class: "bar card-title" }, el("h2", {}, "API credentials"), here() !== "/keys" && link("/keys", "All keys")),
    { "data-test-id": "api-credentials" }, place);
}

/** The secret of a key, after the password; null if it was not given. */
export async function reveal(key) {
  const password = el("input", { name: "password", type: "password", autocomplete: "current-password", required: true, maxlength: 1024, "data-test-id": "reveal-password" });
  const answer = await confirm({
    title: "Reveal the secret", action: "Reveal", testId: "reveal-dialog",
    text: el("p", {}, "Of ", el("code", {}, key.id), ". The security log says that you did."),
    fields: field("Your password", password),
    deed: async () => {
      if (!password.value) {
        complain(password, "Type your password.");
        password.focus();
        return false;
      }
      try {
        return await post(`/api_keys/${key.id}/reveal`, { password: password.value });
      } catch (error) {
        if (error.field === "password") password.select();
        throw error;
      }
    },
  });
  return answer && answer.secret;
}

/** What the API knows of all keys, the newest first. */
export async function allKeys(signal) {
  const keys = [];
  for (let after; after !== null;) {
    const answer = await get("/api_keys", { limit: PAGE_LIMIT, starting_after: after }, { signal });
    keys.push(...answer.data);
    after = answer.next_cursor;
  }
  return keys;
}

/** The test merchant's key and endpoint, whose secrets are none; null for every other merchant. */
export async function publishedKey({ me, signal }) {
  if (!me.test_merchant) return null;
  const test = await get("/test/merchant", {}, { signal });
  return { id: test.api_key, secret: test.api_secret, endpointId: test.webhook_endpoint_id, webhookSecret: test.webhook_secret };
}

const lives = ({ status }) => status === "active" || status === "rolled";

/* --- in the table ---------------------------------------------------------------------------------- */

function end(key) {
  if (key.status === "active") return null;
  if (key.status === "revoked") return ["Revoked ", when(key.revoked_at)];
  return [key.status === "rolled" ? "Works until " : "Worked until ", when(key.expires_at),
    el("div", { class: "quiet" }, "Replaced by ", el("code", {}, key.replaced_by))];
}

function actions(key) {
  if (!lives(key)) return null;
  const button = (name, deed, kind = "") => el("button", { type: "button", class: `small ${kind}`, "data-test-id": `${name.toLowerCase()}-key-button`, onclick: () => deed(key) },
    name, el("span", { class: "unseen" }, ` ${key.id}`));
  return el("div", { class: "actions" }, button("Reveal", show), key.status === "active" && button("Roll", roll), button("Revoke", revoke, "danger"));
}

async function show(key) {
  const secret = await reveal(key);
  if (secret === null) return;
  const place = el("div", {});
  const hide = setTimeout(() => {
    place.replaceChildren(el("p", { class: "notice plain" }, "The secret is hidden again."));
    announce("The secret is hidden again.");
  }, HIDDEN_AFTER_MS);
  place.append(credentials(key, secret), el("p", { class: "hint" }, "Hidden again after a minute."));
  await tell({ title: "The secret", text: null, body: place });
  clearTimeout(hide);
}

/** A secret in its place on a page: asked for, shown, and hidden again. */
function maskedSecret({ signal }, key) {
  const place = el("span", { class: "copyable" });
  let hide;
  signal.addEventListener("abort", () => clearTimeout(hide));
  const mask = () => {
    clearTimeout(hide);
    const focused = place.contains(document.activeElement);
    const ask = el("button", { type: "button", class: "small", onclick: unmask }, "Reveal", el("span", { class: "unseen" }, " the secret"));
    place.replaceChildren(el("code", { class: "quiet", "data-test-id": "api-secret" }, MASK), ask);
    if (focused) ask.focus();
  };
  const unmask = async () => {
    const secret = await reveal(key);
    if (secret === null) return;
    const copy = copyButton("the secret", () => secret);
    place.replaceChildren(el("code", { "data-test-id": "api-secret" }, secret), copy,
      el("button", { type: "button", class: "quiet small", onclick: mask }, "Hide", el("span", { class: "unseen" }, " the secret")));
    copy.focus();
    hide = setTimeout(() => {
      mask();
      announce("The secret is hidden again.");
    }, HIDDEN_AFTER_MS);
  };
  mask();
  return place;
}

function credentials(key, secret) {
  return facts([["Key", copyable(key.id, "the key")], ["Secret", copyable(secret, "the secret", { "data-test-id": "key-secret" })]]);
}

/* --- what is done with keys ------------------------------------------------------------------------ */

async function create() {
  const name = el("input", { name: "name", autocomplete: "off", maxlength: NAME_MAX_LENGTH });
  const key = await confirm({
    title: "Create a key", action: "Create key", testId: "create-key-dialog",
    fields: field("Name", name, { optional: true, hint: "What it is for, like “checkout server”." }),
    deed: ({ key: once }) => post("/api_keys", { name: name.value.trim() || null }, once),
  });
  if (key) await handOut(key, "Your new key", "The secret is shown now; later only after your password.");
}

async function roll(key) {
  const hours = el("input", { name: "overlap_hours", type: "number", min: 0, max: OVERLAP_HOURS_MAX, step: 1, value: OVERLAP_HOURS, required: true, "data-test-id": "overlap-hours" });
  const then = el("p", { "aria-live": "polite" });
  const chosen = () => (/^\d{1,3}$/.test(hours.value) && Number(hours.value) <= OVERLAP_HOURS_MAX ? Number(hours.value) : null);
  const say = () => put(then, chosen() === null ? "" : chosen() === 0
    ? "The old key stops at once: servers that have it are refused until they have the new one."
    : `The old key works for ${count(chosen(), "more hour", "more hours")}, so that you can deploy the new one. Then it is refused.`);
  hours.addEventListener("input", say);
  say();
  const made = await confirm({
    title: "Roll the key", action: "Roll key", testId: "roll-key-dialog",
    text: [el("p", {}, "A new key, with a secret of its own, takes the place of ", el("code", {}, key.id), "."), then],
    fields: field("Hours that the old key works too", hours, { hint: `0 to ${OVERLAP_HOURS_MAX}. 0 if it leaked.` }),
    deed: ({ key: once }) => {
      if (chosen() === null) {
        complain(hours, `Must be whole hours, 0 to ${OVERLAP_HOURS_MAX}.`);
        hours.focus();
        return false;
      }
      return post(`/api_keys/${key.id}/roll`, { overlap_hours: chosen() }, once);
    },
  });
  if (!made) return;
  await handOut(made, "The key that replaces it", chosen()
    ? `The old key works for ${count(chosen(), "more hour", "more hours")}. The new secret is shown now; later only after your password.`
    : "The old key works no more. The new secret is shown now; later only after your password.");
}

async function revoke(key) {
  const others = await allKeys().then((keys) => keys.filter((each) => lives(each) && each.id !== key.id), () => null);
  if (document.querySelector("dialog[open]")) return; // pressed twice
  const done = await confirm({
    title: "Revoke the key", action: "Revoke key", danger: true, testId: "revoke-key-dialog",
    text: [
      el("p", {}, el("code", {}, key.id), key.name && ` (${key.name})`, key.last_used_at ? ` was last used ${ago(key.last_used_at)}.` : " was never used."),
      el("p", {}, "Servers that have it are refused from now on. This can't be undone."),
      others?.length === 0 && el("p", { class: "notice bad" }, "It is your last key that works: every server of yours will be refused until it has a new one."),
    ],
    deed: () => remove(`/api_keys/${key.id}`),
  });
  if (!done) return;
  changes.dispatchEvent(new Event("change"));
  toast("The key is revoked.");
}

async function handOut(key, name, text) {
  changes.dispatchEvent(new Event("change"));
  await tell({ title: name, text: el("p", {}, text), body: credentials(key, key.secret) });
}
