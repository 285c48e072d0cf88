/* The words of the checkout in the reader's language, and money as it is written there. */

export const LANGUAGES = { en: "English", hi: "हिन्दी" };

let language;
let words;

/** Speak the first of these languages that there is (`hi-IN` is `hi`), else English. */
export async function speak(wanted) {
  const spoken = wanted.map((tag) => String(tag).slice(0, 2)).find((tag) => tag in LANGUAGES) ?? "en";
  words = (await import(`./words.${spoken}.js`)).default;
  language = document.documentElement.lang = spoken;
}

/** The words for `key`, with `{name}`s filled in. */
export function t(key, values = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Why a payment failed, in the shopper's words. */
export function reasonOf({ error_reason }) {
  const key = `reason_${error_reason}`;
  return t(key in words ? key : "reason_other");
}

/** Minor units as the reader writes money: 12345 INR is ₹123.45, 500 JPY is ¥500. */
export function money(amount, currency) {
  const locale = language === "hi" ? "hi-IN" : currency === "INR" ? "en-IN" : "en";
  const format = new Intl.NumberFormat(locale, { style: "currency", currency });
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}
