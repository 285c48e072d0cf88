/* What a card number, an expiry, a security code and a UPI ID look like: the same rules as models/instruments.py. */

const VPA = /^[a-zA-Z0-9._-]{2,256}@[a-zA-Z][a-zA-Z0-9]{2,63}$/;
const MAX_YEARS_AHEAD = 50;

// Networks with their leading digits and lengths; the first match wins.
const NETWORKS = [
  ["Discover", /^(6011|64[4-9])/],
  ["Amex", /^3[47]/, [15]],
  ["Diners", /^(30[0-5]|36|38)/, [14, 16, 19]],
  ["RuPay", /^(60|65|81|82|508)/, [16]],
  ["Mastercard", /^(5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [16]],
  ["Visa", /^4/, [13, 16, 19]],
];
const ANY_LENGTH = [13, 14, 15, 16, 17, 18, 19];

/** ASCII digits of what was typed or pasted, Devanagari ones and full-width ones too. */
export function digitsOf(text) {
  return text
    .replace(/[\u0966-\u096f]/g, (digit) => digit.charCodeAt(0) - 0x0966)
    .replace(/[\uff10-\uff19]/g, (digit) => digit.charCodeAt(0) - 0xff10)
    .replace(/\D/g, "");
}

const rowOf = (number) => NETWORKS.find(([, prefix]) => prefix.test(number));
const lengthsOf = (number) => rowOf(number)?.[2] ?? ANY_LENGTH;

/** The network's name; undefined as long as it is not known. */
export function networkOf(number) {
  return rowOf(number)?.[0];
}

export function cvvLength(number) {
  return networkOf(number) === "Amex" ? 4 : 3;
}

/** In groups, as on the card: 4-6-5 for American Express, fours for the others. */
export function grouped(number) {
  const cuts = networkOf(number) === "Amex" ? [0, 4, 10] : [0, 4, 8, 12, 16];
  return cuts.map((cut, i) => number.slice(cut, cuts[i + 1])).filter(Boolean).join(" ");
}

export function maxDigits(number) {
  return Math.max(...lengthsOf(number));
}

/** Whether it may be a whole number: of a length that its network has. */
export function isWhole(number) {
  return lengthsOf(number).includes(number.length);
}

/** The check digit of ISO/IEC 7812-1. */
export function luhn(number) {
  const sum = [...number].reverse().reduce((total, digit, place) => {
    const value = Number(digit) * (place % 2 ? 2 : 1);
    return total + (value > 9 ? value - 9 : value);
  }, 0);
  return sum % 10 === 0;
}

/** `12 / 27` from 1227, 12/2027, 1-27 or what a browser fills in. */
export function groupedExpiry(text, erasing) {
  const separated = text.match(/^\D*(\d)\s*[/.\-]/);
  let digits = digitsOf(text);
  if (separated || /^[2-9]/.test(digits)) digits = `0${digits}`;
  const year = digits.slice(2).replace(/^20(?=\d\d)/, "").slice(0, digits.slice(2).startsWith("20") ? 4 : 2);
  if (digits.length < 2 || (digits.length === 2 && erasing)) return digits.slice(0, 2);
  return `${digits.slice(0, 2)} / ${year}`;
}

// --- checks: the key of what is wrong, with its values; undefined if nothing is

export function checkVpa(text) {
  if (!text) return ["vpaMissing"];
  return VPA.test(text) ? undefined : ["vpaWrong"];
}

export function checkNumber(text) {
  const number = digitsOf(text);
  if (!number) return ["numberMissing"];
  if (number.length < 13 || (!isWhole(number) && !luhn(number))) return ["numberShort"];
  return luhn(number) && number.length <= 19 ? undefined : ["numberWrong"];
}

export function checkExpiry(text, today = new Date()) {
  const digits = digitsOf(text);
  if (!digits) return ["expiryMissing"];
  const { month, year } = expiryOf(text);
  if (digits.length >= 2 && (month < 1 || month > 12)) return ["expiryWrong"];
  if (digits.length < 4) return ["expiryShort"];
  const months = year * 12 + month - (today.getFullYear() * 12 + today.getMonth() + 1);
  if (months < 0) return ["expiryPast"];
  return months > MAX_YEARS_AHEAD * 12 ? ["expiryFar"] : undefined;
}

export function checkCvv(text, number) {
  const digits = digitsOf(text);
  if (!digits) return ["cvvMissing"];
  return digits.length === cvvLength(number) ? undefined : ["cvvWrong", { digits: cvvLength(number) }];
}

export function checkHolder(text) {
  if (!text.trim()) return ["holderMissing"];
  return digitsOf(text).length >= 12 ? ["holderWrong"] : undefined;
}

export function expiryOf(text) {
  const digits = digitsOf(text);
  return { month: Number(digits.slice(0, 2)), year: 2000 + Number(digits.slice(2)) % 100 };
}
