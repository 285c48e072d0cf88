/* Payment Gateway: the checkout in a modal on any page. Types are in checkout.d.ts, the guide in docs/checkout.md.

     new PaymentGateway({ key, orderId, onSuccess, onFailure, onClose }).open();

   The checkout itself is a page of the gateway in an iframe: no card number ever touches the shop's page. The two
   speak by postMessage, each to the other's exact origin alone, with a nonce that every opening makes anew. */

(() => {
  "use strict";

  const READY_MS = 20_000; // how long the checkout may take to appear
  const READY_AFTER_LOAD_MS = 4000; // and once its frame has loaded: a page that was refused has, too
  const ANSWER_MS = 1000; // how long it may take to ask whether the shopper really wants to close

  const gateway = new URL(document.currentScript.src).origin;
  let opened = null; // the one that is open: a page has one checkout at a time

  class PaymentGateway {
    #options;
    #dialog = null;
    #frame;
    #nonce;
    #timer;
    #running = null; // what is known of the payment that runs: {paymentId}
    #told; // payments whose end was reported since it was opened
    #overflow;

    constructor(options) {
      this.#options = { ...options };
    }

    /** Show the checkout. What goes wrong, now or later, is told to onFailure. */
    open() {
      const { key, orderId } = this.#options;
      if (opened && !opened.#dialog.isConnected) opened.close(); // the shop's page has replaced its body
      if (opened) return this.#fail("ALREADY_OPEN", "already_open", "A checkout is open on this page already.");
      for (const [name, value] of Object.entries({ key, orderId })) {
        if (typeof value !== "string" || !value) {
          return this.#fail("BAD_REQUEST_ERROR", `${name}_missing`, `PaymentGateway needs ${name}.`);
        }
      }
      if (location.origin === "null") {
        return this.#fail("BAD_REQUEST_ERROR", "no_origin", "Serve this page over http or https: a file has no origin.");
      }
      this.#told = new Set();
      this.#nonce = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
      this.#show();
      opened = this;
      addEventListener("message", this.#hear);
      this.#timer = setTimeout(this.#giveUp, READY_MS);
    }

    /** Take the checkout away, without a question. */
    close() {
      if (this.#dialog) this.#end();
    }

    #show() {
      const { key, orderId, theme } = this.#options;
      const query = new URLSearchParams({ order_id: orderId, key });
      if (/^#[0-9a-f]{6}$/i.test(theme?.color)) query.set("color", theme.color);
      const fragment = new URLSearchParams({ origin: location.origin, nonce: this.#nonce });
      const scheme = ["light", "dark"].includes(theme?.mode) ? theme.mode : "light dark";

      this.#frame = element("iframe", "payment-iframe", "display:block; width:100%; height:100%; color-scheme:inherit");
      this.#frame.title = "Checkout";
      this.#frame.src = `${gateway}/checkout?${query}#${fragment}`;
      this.#frame.addEventListener("load", () => {
        if (!this.#timer) return;
        clearTimeout(this.#timer);
        this.#timer = setTimeout(this.#giveUp, READY_AFTER_LOAD_MS);
      });

      const button = element("button", "close-modal-button", `position:absolute; top:.5rem; right:.5rem; width:2.75rem;
        height:2.75rem; border-radius:50%; outline:revert; cursor:pointer; color-scheme:inherit; text-align:center;
        color:light-dark(#566072, #9fa9b9); font:1.75rem/2.75rem system-ui, sans-serif`);
      button.type = "button";
      button.textContent = "×";
      button.setAttribute("aria-label", "Close checkout");
      button.addEventListener("click", this.#ask);

      const box = element("div", "", `display:block; position:relative; width:min(27rem, 100%); overflow:hidden;
        height:min(46rem, 100% - clamp(0px, (100vw - 27rem) * 99, 2rem));
        border-radius:min(1rem, (100vw - 27rem) * 99); color-scheme:${scheme};
        background:light-dark(#fff, #181d24); box-shadow:0 24px 64px rgb(0 0 0 / .3)`);
      box.append(this.#frame, button);

      const dialog = element("dialog", "payment-modal", `position:fixed; inset:0; display:grid; place-items:center;
        width:100%; height:100%; background:rgb(10 14 20 / .6)`);
      dialog.setAttribute("aria-label", "Checkout");
      dialog.addEventListener("keydown", (event) => {
        if (event.key !== "Escape") return;
        event.preventDefault(); // the browser would close it without asking
        this.#ask();
      });
      dialog.addEventListener("cancel", (event) => {
        event.preventDefault();
        this.#ask();
      });
      dialog.addEventListener("close", () => dialog === this.#dialog && this.#end()); // told late: another may be open
      dialog.append(box);
      document.body.append(dialog);
      this.#dialog = dialog;

      const root = document.documentElement.style;
      this.#overflow = root.overflow;
      root.overflow = "hidden"; // what is behind does not scroll
      dialog.showModal(); // nor does it take the focus, and it gets it back in the end
      this.#frame.focus();
    }

    /** A message: only from our frame, from the gateway's origin, with our nonce. */
    #hear = ({ source, origin, data }) => {
      if (source !== this.#frame.contentWindow || origin !== gateway || data?.nonce !== this.#nonce) return;
      const { nonce, type, ...details } = data;
      if (type === "ready") {
        this.#settleTimer();
        const { vpa, name, method } = this.#options.prefill ?? {};
        const { mode, language } = this.#options.theme ?? {};
        this.#send({ type: "init", prefill: { vpa, name, method }, theme: { mode, language } });
      } else if (type === "busy") {
        this.#running = details.busy ? { paymentId: null, ...details } : null;
      } else if (type === "success" || type === "failure") {
        const id = details.paymentId ?? details.reason;
        if (this.#told.has(id)) return;
        this.#told.add(id);
        this.#call(type === "success" ? "onSuccess" : "onFailure", details);
      } else if (type === "asking") {
        this.#settleTimer();
      } else if (type === "escape") {
        this.#ask();
      } else if (type === "close") {
        this.#end();
      }
    };

    /** The shopper wants to close: at once, or after a question while a payment runs. */
    #ask = () => {
      if (!this.#running) return this.#end();
      this.#send({ type: "close?" });
      this.#timer ??= setTimeout(() => this.#end(), ANSWER_MS);
    };

    #giveUp = () => {
      this.#fail("CHECKOUT_UNAVAILABLE", "not_loaded",
        `The checkout did not load. Is ${gateway} reachable, and ${location.origin} one of the merchant's frame_origins?`);
      this.#end();
    };

    #end() {
      this.#settleTimer();
      removeEventListener("message", this.#hear);
      const dialog = this.#dialog;
      this.#dialog = opened = null;
      dialog.close();
      dialog.remove();
      document.documentElement.style.overflow = this.#overflow;
      if (this.#running) {
        const { paymentId } = this.#running;
        this.#running = null;
        this.#fail("CHECKOUT_CLOSED", "payment_in_progress",
          "Closed while the payment ran. It may still succeed: your server hears of it by webhook.", paymentId);
      }
      this.#call("onClose");
    }

    #settleTimer() {
      clearTimeout(this.#timer);
      this.#timer = null;
    }

    #send(message) {
      this.#frame.contentWindow.postMessage({ nonce: this.#nonce, ...message }, gateway);
    }

    #fail(code, reason, description, paymentId = null) {
      this.#call("onFailure", { paymentId, orderId: this.#options.orderId ?? null, code, reason, description });
    }

    /** A callback of the shop; what it throws is the shop's to see, and stops nothing of ours. */
    #call(name, details) {
      const callback = this.#options[name];
      if (typeof callback === "function") queueMicrotask(() => callback(details));
      else if (name === "onFailure") console.error("PaymentGateway:", details);
    }
  }

  function element(tag, testId, style) {
    const made = document.createElement(tag);
    if (testId) made.dataset.testId = testId;
    // Nothing of the shop's own styles; and not a style attribute, so that its Content-Security-Policy lets it pass.
    made.style.cssText = `all:initial; ${style}`;
    return made;
  }

  window.PaymentGateway = PaymentGateway;
})();
