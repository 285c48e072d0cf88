/* Elements, and nothing else: state goes in, elements come out. Data only ever becomes text, never markup. */

const SVG = "http://www.w3.org/2000/svg";
const COPIED_MS = 2000; // how long a button says so

/** An element. Of the attributes, functions are listeners (`onclick`), true is present, null and false absent.
 *  Of the children, strings become text; null, undefined and false nothing; lists are taken apart. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for what is drawn. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...real(children));
  return element;
}

/** Put these in the place of what is there. Whoever was at one of it is at the same one anew, else at the heading. */
export function replace(place, ...children) {
  const held = place.contains(document.activeElement) ? document.activeElement : null;
  place.replaceChildren(...real(children));
  if (held && !held.isConnected) (like(held, place) ?? place.querySelector("h1"))?.focus({ preventScroll: true });
}

function like(element, place) {
  const name = ["data-test-id", "href"].find((each) => element.hasAttribute(each));
  return name && place.querySelector(`${element.localName}[${name}="${CSS.escape(element.getAttribute(name))}"]`);
}

function real(children) {
  return children.flat(3).filter((child) => child || child === 0);
}

export const $ = (id) => document.getElementById(id);

/** Change a text only where it differs: screen readers and selections are left in peace. */
export function put(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** Say something to those who can't see the page change. */
export function announce(words) {
  $("announcer").textContent = "";
  setTimeout(() => ($("announcer").textContent = words), 50); // the same words again are news again
}

/** A button that copies what `text()` gives. `what` completes its name: "Copy the key". */
export function copyButton(what, text, { name = "Copy", ...options } = {}) {
  const word = el("span", {}, name);
  const copyIt = async () => {
    const done = await copy(text());
    put(word, done ? "Copied" : "Not copied");
    announce(done ? `Copied ${what}.` : `Could not copy ${what}.`);
    setTimeout(() => put(word, name), COPIED_MS);
  };
  return el("button", { type: "button", class: "quiet small", ...options, onclick: copyIt },
    word, el("span", { class: "unseen" }, ` ${what}`));
}

/** Browsers give the clipboard to https and localhost alone: elsewhere, the old way by a selection. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const before = document.activeElement;
  const area = el("textarea", { class: "unseen" });
  area.value = text;
  (before?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  return done;
}
