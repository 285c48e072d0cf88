/* Signing in. On a local gateway the test merchant's credentials are there to be taken. */

import { el, svg } from "../dom.js";
import { get } from "../api.js";
import { field, submit } from "../ui.js";

export function brand() {
  return el("p", { class: "brand" },
    svg("svg", { viewBox: "0 0 32 32", "aria-hidden": "true" }, svg("rect", { width: 32, height: 32, rx: 8 }),
      svg("path", { d: "M9 12h14M9 12v8.5A1.5 1.5 0 0 0 10.5 22h11a1.5 1.5 0 0 0 1.5-1.5V12M9 12l2-3h10l2 3M18 17h2" })),
    "Payment Gateway");
}

/** `signIn(email, password)` signs in and shows what was asked for. */
export function page(signIn) {
  const email = el("input", { name: "email", type: "email", autocomplete: "username", required: true, autofocus: true, maxlength: 320, "data-test-id": "email-input" });
  const password = el("input", { name: "password", type: "password", autocomplete: "current-password", required: true, maxlength: 1024, "data-test-id": "password-input" });
  const form = el("form", { novalidate: true, "data-test-id": "login-form" },
    el("h1", { tabindex: "-1" }, "Sign in"),
    el("p", { class: "form-problem", role: "alert", hidden: true }),
    field("Email", email), field("Password", password),
    el("button", { type: "submit", class: "primary", "data-test-id": "login-button" }, "Sign in"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form, () => signIn(email.value, password.value));
  });
  const hint = el("div", {});
  offerTestMerchant(hint, email, password);
  return el("main", { class: "gate" }, brand(), form, hint,
    el("p", { class: "quiet hint" }, "Forgotten? Whoever runs this gateway can make you a new link: ",
      el("code", {}, "flask password-link"), "."));
}

async function offerTestMerchant(place, email, password) {
  const test = await get("/test/merchant").catch(() => null); // elsewhere there is none
  if (!test?.email) return;
  const fill = () => {
    email.value = test.email;
    password.value = test.password;
    email.form.querySelector("button").focus();
  };
  place.className = "notice plain bar";
  place.append(el("span", {}, "A local gateway: sign in as its test merchant."),
    el("button", { type: "button", class: "small", onclick: fill }, "Fill in"));
}
