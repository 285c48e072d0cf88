/* The two forms: what is typed is shaped and checked as it is typed, and all of it again before it is sent. */

import {
  checkCvv, checkExpiry, checkHolder, checkNumber, checkVpa, cvvLength, digitsOf, expiryOf, grouped, groupedExpiry,
  isWhole, luhn, maxDigits, networkOf,
} from "./card.js";
import { announce, copy, put } from "./dom.js";
import { t } from "./strings.js";

/** One input with its error. `check(value)` gives the key of what is wrong, with values; undefined if nothing is. */
export class Field {
  #check;
  #wrong;
  #message = document.createElement("p");

  constructor(form, id, check) {
    this.input = form.querySelector(`#${id}`);
    this.#check = check;
    const hint = this.input.parentElement.querySelector(".hint");
    if (hint) hint.id = `${id}-hint`;
    Object.assign(this.#message, { id: `${id}-error`, className: "wrong" });
    this.input.setAttribute("aria-describedby", `${hint?.id ?? ""} ${this.#message.id}`.trim());
    this.input.parentElement.append(this.#message);
    this.input.addEventListener("input", () => this.#wrong && this.show(this.#check(this.value)));
    this.input.addEventListener("blur", () => this.value && this.check());
  }

  get value() {
    return this.input.value.trim();
  }

  /** Show what is wrong, if anything; says whether it is right. */
  check() {
    this.show(this.#check(this.value));
    return !this.#wrong;
  }

  /** `wrong` is [key, values], or words that the server gave. */
  show(wrong) {
    this.#wrong = wrong;
    this.relabel();
    this.input.setAttribute("aria-invalid", String(Boolean(wrong)));
    if (wrong) announce(this.#message.textContent);
  }

  relabel() {
    put(this.#message, Array.isArray(this.#wrong) ? t(...this.#wrong) : this.#wrong ?? "");
  }
}

/** A form whose `submit()` gives what to pay with, or null after showing what is wrong. */
class Form {
  fields = {}; // by the name that the API has for them

  constructor(template, pay) {
    this.element = copy(template);
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      const body = this.submit();
      if (body) pay(body);
    });
  }

  submit() {
    const wrong = Object.values(this.fields).filter((field) => !field.check());
    wrong[0]?.input.focus();
    return wrong.length ? null : this.body();
  }

  /** The field that a refusal of the server names. */
  fieldOf(name) {
    return this.fields[name === "card.expiry_year" ? "card.expiry_month" : name];
  }
}

export class UpiForm extends Form {
  constructor(pay, onPhone) {
    super("upi", pay);
    this.fields = { vpa: new Field(this.element, "vpa", checkVpa) };
    this.element.querySelector(".app").hidden = !onPhone;
    for (const button of this.element.querySelectorAll("[data-flow]")) {
      button.addEventListener("click", () => pay({ method: "upi", flow: button.dataset.flow }));
    }
  }

  body() {
    return { method: "upi", flow: "collect", vpa: this.fields.vpa.value };
  }

  prefill({ vpa }) {
    if (vpa && !this.fields.vpa.value) this.fields.vpa.input.value = vpa;
  }
}

export class CardForm extends Form {
  constructor(pay) {
    super("card", pay);
    const number = new Field(this.element, "number", checkNumber);
    const expiry = new Field(this.element, "expires", (text) => checkExpiry(text));
    const cvv = new Field(this.element, "cvv", (text) => checkCvv(text, digitsOf(number.value)));
    const holder = new Field(this.element, "holder", checkHolder);
    this.fields = { "card.number": number, "card.expiry_month": expiry, "card.cvv": cvv, "card.holder_name": holder };

    number.input.addEventListener("input", () => {
      shape(number.input, (text) => {
        const digits = digitsOf(text);
        return grouped(digits.slice(0, maxDigits(digits)));
      });
      const digits = digitsOf(number.value);
      this.#mark(digits);
      // As soon as it is complete, it is judged; and one that never can be.
      if (isWhole(digits) && (luhn(digits) || digits.length === maxDigits(digits))) number.check();
    });
    expiry.input.addEventListener("input", ({ inputType }) => {
      const erasing = inputType?.startsWith("delete") ?? false;
      const before = expiry.input.value;
      if (!erasing || !before.endsWith(" /")) shape(expiry.input, (text) => groupedExpiry(text, erasing));
      else expiry.input.value = before.replace(/\D*$/, "");
      const digits = digitsOf(expiry.value);
      const yearComplete = digits.length === 4 && !digits.endsWith("20"); // 20 may go on: 2031
      if (yearComplete || (digits.length === 2 && Number(digits) > 12) || digits === "00") expiry.check();
    });
    cvv.input.addEventListener("input", () => {
      shape(cvv.input, (text) => digitsOf(text).slice(0, cvvLength(digitsOf(number.value))));
    });
  }

  body() {
    const { month, year } = expiryOf(this.fields["card.expiry_month"].value);
    const card = {
      number: digitsOf(this.fields["card.number"].value),
      expiry_month: String(month),
      expiry_year: String(year),
      cvv: digitsOf(this.fields["card.cvv"].value),
      holder_name: this.fields["card.holder_name"].value,
    };
    return { method: "card", card };
  }

  prefill({ name }) {
    if (name && !this.fields["card.holder_name"].value) this.fields["card.holder_name"].input.value = name;
  }

  /** The security code is typed anew for every attempt. */
  forgetSecrets() {
    this.fields["card.cvv"].input.value = "";
    this.fields["card.cvv"].show(undefined);
  }

  #mark(digits) {
    put(this.element.querySelector("#network"), networkOf(digits) ?? "");
    this.fields["card.cvv"].input.placeholder = "1234".slice(0, cvvLength(digits));
  }
}

/** Replace an input's text by what `format` makes of it, and keep the caret behind the same digit. */
function shape(input, format) {
  const { value, selectionStart } = input;
  const shaped = format(value);
  if (shaped === value) return;
  const behind = digitsOf(value.slice(0, selectionStart)).length;
  const atEnd = selectionStart === value.length;
  input.value = shaped;
  if (atEnd) return;
  let caret = 0;
  for (let seen = 0; caret < shaped.length && seen < behind; caret += 1) seen += /\d/.test(shaped[caret]) ? 1 : 0;
  input.setSelectionRange(caret, caret);
}
