/* Money, times and names as people read them, in the reader's own locale. Money stays an integer in minor units. */

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

const timeFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const secondsFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const dayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const agoFormat = new Intl.RelativeTimeFormat(undefined, { numeric: "always", style: "short" });
const numberFormat = new Intl.NumberFormat();
const percentFormat = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const moneyFormats = new Map();

/** 10000, "INR" -> ₹100.00 */
export function money(minor, currency) {
  const format = moneyFormat(currency);
  return format.format(minor / 10 ** digitsOf(currency)); // below 10^12: exact in a double
}

/** The same, short enough for an axis: ₹1.2K */
export function shortMoney(minor, currency) {
  return new Intl.NumberFormat(undefined, { style: "currency", currency, notation: "compact", maximumFractionDigits: 1 })
    .format(minor / 10 ** digitsOf(currency));
}

/** Minor units as a person types them: 12345 -> "123.45" */
export function typed(minor, currency) {
  const digits = digitsOf(currency);
  if (digits === 0) return String(minor);
  const text = String(minor).padStart(digits + 1, "0");
  return `${text.slice(0, -digits)}.${text.slice(-digits)}`;
}

/** "123.45" -> 12345, and null for what is no such amount. Never by way of a fraction. */
export function parseMoney(text, currency) {
  const digits = digitsOf(currency);
  const match = /^\s*(\d{1,12})(?:[.,](\d+))?\s*$/.exec(text);
  if (!match || (match[2] ?? "").length > digits) return null;
  const minor = Number(match[1] + (match[2] ?? "").padEnd(digits, "0"));
  return Number.isSafeInteger(minor) ? minor : null;
}

/** How many digits a currency has behind the point: 2 for INR, 0 for JPY, 3 for KWD. */
export function digitsOf(currency) {
  return moneyFormat(currency).resolvedOptions().maximumFractionDigits;
}

function moneyFormat(currency) {
  if (!moneyFormats.has(currency)) {
    moneyFormats.set(currency, new Intl.NumberFormat(undefined, { style: "currency", currency }));
  }
  return moneyFormats.get(currency);
}

export function number(value) {
  return numberFormat.format(value);
}

export function percent(value) {
  return percentFormat.format(value / 100);
}

/** "1 payment", "2 payments" */
export function count(n, one, many = `${one}s`) {
  return `${number(n)} ${n === 1 ? one : many}`;
}

export function time(iso) {
  return timeFormat.format(new Date(iso));
}

export function exactTime(iso) {
  return secondsFormat.format(new Date(iso));
}

/** 2026-11-24T22:51:30.123Z -> 2026-11-24 22:51:30.123 UTC */
export function utc(iso) {
  return iso.replace("T", " ").replace("Z", " UTC");
}

/** A day of the API's series, which is UTC's. */
export function day(date) {
  return dayFormat.format(new Date(`${date}T00:00:00Z`));
}

export function ago(iso) {
  const seconds = Math.max(0, (Date.now() - new Date(iso)) / 1000);
  if (seconds < MINUTE_S) return agoFormat.format(-Math.floor(seconds), "second");
  if (seconds < HOUR_S) return agoFormat.format(-Math.floor(seconds / MINUTE_S), "minute");
  if (seconds < DAY_S) return agoFormat.format(-Math.floor(seconds / HOUR_S), "hour");
  return agoFormat.format(-Math.floor(seconds / DAY_S), "day");
}

/** 12 -> "12 ms", 1234 -> "1.2 s", 65000 -> "1 min 5 s", 7200000 -> "2 h" */
export function duration(ms) {
  if (ms < 1000) return `${ms} ms`;
  if (ms < 10_000) return `${number(Math.round(ms / 100) / 10)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < MINUTE_S) return `${seconds} s`;
  const [minutes, hours] = [Math.floor(seconds / MINUTE_S), Math.floor(seconds / HOUR_S)];
  if (seconds < HOUR_S) return `${minutes} min${seconds % MINUTE_S ? ` ${seconds % MINUTE_S} s` : ""}`;
  return `${number(hours)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** insufficient_funds -> Insufficient funds */
export function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

const NETWORKS = {
  visa: "Visa", mastercard: "Mastercard", amex: "Amex", rupay: "RuPay", diners: "Diners", discover: "Discover", unknown: "Card",
};

/** How a payment was made: "Visa •••• 4242", "asha@upi", "UPI" */
export function instrument(payment) {
  if (payment.method === "card") return `${NETWORKS[payment.card_network] ?? "Card"} •••• ${payment.card_last4}`;
  return payment.vpa ?? "UPI";
}
