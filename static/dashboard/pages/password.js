/* Choosing a password by a one-time link. Its token is behind the #, and never leaves with the address. */

import { el } from "../dom.js";
import { choosePassword } from "../api.js";
import { complain, field, submit } from "../ui.js";
import { brand } from "./login.js";

const LENGTH_MIN = 12; // the API asks for as many

/** `done()` when it is chosen. */
export function page(done) {
  const token = location.hash.slice(1);
  const password = el("input", { name: "password", type: "password", autocomplete: "new-password", required: true, autofocus: true, maxlength: 256 });
  const again = el("input", { name: "again", type: "password", autocomplete: "new-password", required: true, maxlength: 256 });
  const form = el("form", { novalidate: true },
    el("h1", { tabindex: "-1" }, "Choose a password"),
    el("p", { class: "form-problem", role: "alert", hidden: true }),
    field("Password", password, { hint: `At least ${LENGTH_MIN} characters. Several words are good.` }),
    field("The same again", again),
    el("button", { type: "submit", class: "primary" }, "Choose it"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (password.value.length < LENGTH_MIN) {
      complain(password, `Must be at least ${LENGTH_MIN} characters.`);
      password.focus();
    } else if (password.value !== again.value) {
      complain(again, "Is not the same.");
      again.focus();
    } else {
      submit(form, async () => {
        await choosePassword(token, password.value);
        done();
      });
    }
  });
  return el("main", { class: "gate" }, brand(), form);
}
