/** Types of checkout.js: `/// <reference path="checkout.d.ts" />`, or list it in tsconfig's `files`. */

interface PaymentGatewayOptions {
  /** The id of one of your API keys (`key_...`): it names you, and is no secret. */
  key: string;
  /** The order that your server created (`order_...`). */
  orderId: string;
  /** A payment was approved. Once for each opening at most. Believe your server, which asks the API or hears a webhook. */
  onSuccess?: (payment: PaymentGatewaySuccess) => void;
  /** A payment failed (the shopper may try again in the modal), or the checkout could not be shown. */
  onFailure?: (failure: PaymentGatewayFailure) => void;
  /** The modal is gone, whoever closed it. */
  onClose?: () => void;
  prefill?: { vpa?: string; name?: string; method?: "upi" | "card" };
  theme?: {
    /** `#rrggbb`, instead of the merchant's own accent colour. */
    color?: string;
    mode?: "light" | "dark";
    /** `en` or `hi`, instead of the reader's own. */
    language?: string;
  };
}

interface PaymentGatewaySuccess {
  paymentId: string;
  orderId: string;
  /** In minor units. */
  amount: number;
  currency: string;
  status: "success";
}

interface PaymentGatewayFailure {
  /** Null if there is no payment that it is about. */
  paymentId: string | null;
  orderId: string | null;
  /** `PAYMENT_DECLINED`, `PAYMENT_TIMEOUT`, `PAYMENT_CANCELLED`: a payment failed. Else what is wrong with the opening. */
  code:
    | "PAYMENT_DECLINED"
    | "PAYMENT_TIMEOUT"
    | "PAYMENT_CANCELLED"
    | "CHECKOUT_CLOSED"
    | "CHECKOUT_UNAVAILABLE"
    | "ALREADY_OPEN"
    | "AUTHENTICATION_ERROR"
    | "NOT_FOUND_ERROR"
    | "CONFLICT_ERROR"
    | "BAD_REQUEST_ERROR"
    | (string & {});
  /** A machine-readable detail, such as `insufficient_funds`, `payment_in_progress`, `order_paid` or `wrong_key`. */
  reason: string;
  description: string;
}

declare class PaymentGateway {
  constructor(options: PaymentGatewayOptions);
  /** Show the checkout. What goes wrong, now or later, is told to `onFailure`. */
  open(): void;
  /** Take the checkout away, without a question. */
  close(): void;
}

interface Window {
  PaymentGateway: typeof PaymentGateway;
}
