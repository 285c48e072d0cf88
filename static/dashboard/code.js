/* JSON and code, to be read and copied. What is wider or longer than its place scrolls, also by keyboard. */

import { copyButton, el } from "./dom.js";

/** A value as indented JSON, with its keys, strings and numbers coloured. Attributes go to the <pre>. */
export function json(value, { label = "JSON", ...attributes } = {}) {
  return block(label, attributes, coloured(pretty(value)));
}

/** Text as it is, under its label and a button that copies it. Attributes go to the <pre>.
 *  `language`, if it is one that is written in the guide, colours its comments and strings. */
export function codeBlock(text, { label = "Code", language = null, ...attributes } = {}) {
  return copied(label, () => text, block(label, attributes, painted(text, language)));
}

/** The same for JSON. */
export function jsonBlock(value, { label = "JSON", ...attributes } = {}) {
  return copied(label, () => pretty(value), json(value, { label, ...attributes }));
}

export function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/** The value of a JSON text; undefined if it is none. */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function copied(label, text, content) {
  return el("div", { class: "code" },
    el("div", { class: "bar" }, el("span", { class: "quiet", "aria-hidden": "true" }, label), copyButton(label, text)), content);
}

function block(label, attributes, ...content) {
  return el("pre", { tabindex: "0", role: "group", "aria-label": label, ...attributes }, content);
}

/** JSON text with its keys, strings and numbers as spans. */
function coloured(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(/("(?:\\.|[^"\\])*")(?=(:)?)|-?\d[\d.eE+-]*|true|false|null/g)) {
    const kind = match[2] ? "key" : match[1] ? "text" : "digits";
    nodes.push(text.slice(end, match.index), el("span", { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)];
}

const SLASHES = String.raw`\/\/[^\n]*`;
const HASHES = String.raw`(?<![^\s])#[^\n]*`; // a shell has others within words
const QUOTED = String.raw`"(?:\\.|[^"\\\n])*"`;
const COMMENTS = { curl: HASHES, python: HASHES, node: SLASHES, html: SLASHES };
const STRINGS = { curl: String.raw`'[^']*'|${QUOTED}`, python: QUOTED, node: `${QUOTED}|\`[^\`]*\``, html: QUOTED };

/** Code with its comments and strings as spans. */
function painted(text, language) {
  if (!(language in COMMENTS)) return [text];
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(new RegExp(`(${COMMENTS[language]})|${STRINGS[language]}`, "g"))) {
    nodes.push(text.slice(end, match.index), el("span", { class: match[1] ? "quiet" : "text" }, match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)];
}
