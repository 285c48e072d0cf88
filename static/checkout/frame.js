/* The page inside a shop's modal: it speaks with the SDK (sdk/checkout.js) that opened it, and with nobody else.

The SDK puts the shop's origin and a nonce into the fragment, which no server sees. Every message goes to that very
origin and carries the nonce; a message from another window, another origin or without the nonce is not heard. Which
shops may frame the page at all is the server's to say (frame-ancestors). */

const { origin, nonce } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

export const framed = window.parent !== window && Boolean(origin && nonce);

/** Tell the shop's page. */
export function tell(type, details = {}) {
  if (framed) window.parent.postMessage({ nonce, type, ...details }, origin);
}

/** `handlers[type](message)` for what the SDK says. */
export function listen(handlers) {
  if (!framed) return;
  addEventListener("message", ({ source, origin: from, data }) => {
    if (source !== window.parent || from !== origin || data?.nonce !== nonce) return;
    if (Object.hasOwn(handlers, data.type)) handlers[data.type](data);
  });
  // Escape is typed into this window, but closes that one's modal.
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) tell("escape");
  });
}
