-- The truth about the data. Applied to an empty database; an older one comes to the same by migrations/.
--
-- Money is integer minor units (paise, cents) beside its ISO 4217 currency. Times are timestamptz.
-- `created_at, seq` gives every listable table one stable order: rows of one transaction share a time,
-- `seq` tells them apart.
--
-- A reference is checked by locking a row, for each row that refers to it. A merchant's row, which every change
-- would lock, is referred to where it is chosen; what follows from an order or an endpoint repeats its merchant.
--
-- Work: a row that has something left to do carries `due_at` (null = nothing to do). Whoever claims it
-- writes a fresh `claim_id`, pushes `due_at` ahead by a lease and counts `tries`; only the holder of the
-- claim may settle it. See jobs/work.py.

-- Who sells, and who operates.
CREATE TABLE merchants (
    id            text PRIMARY KEY CHECK (id ~ '^mer_[A-Za-z0-9]{16}$'),
    name          text NOT NULL CHECK (name <> ''),
    email         text NOT NULL UNIQUE CHECK (email = lower(email)),
    password_hash text,                             -- argon2id; null until the first password is chosen
    role          text NOT NULL DEFAULT 'merchant' CHECK (role IN ('merchant', 'operator')),
    logo_url      text CHECK (length(logo_url) <= 2048),              -- what its checkout page looks like
    accent_color  text CHECK (accent_color ~ '^#[0-9a-f]{6}$'),
    frame_origins text[] NOT NULL DEFAULT '{}',     -- the sites that may show the checkout in a frame
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- What a merchant's server signs in with. The secret is encrypted, not hashed, so that it can be revealed.
CREATE TABLE api_keys (
    id               text PRIMARY KEY CHECK (id ~ '^key_[A-Za-z0-9_]{1,64}$'),
    seq              bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id      text NOT NULL REFERENCES merchants,
    name             text CHECK (length(name) BETWEEN 1 AND 100),
    secret_encrypted bytea NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_used_at     timestamptz,                   -- kept to the minute
    replaced_by      text REFERENCES api_keys,      -- the key that it was rolled into
    expires_at       timestamptz,                   -- until when it works beside that one
    revoked_at       timestamptz,
    CHECK ((replaced_by IS NULL) = (expires_at IS NULL)),
    CHECK (replaced_by <> id)
);
CREATE INDEX api_keys_newest ON api_keys (merchant_id, created_at DESC, seq DESC);

-- Who is signed in to the dashboard, and where. What the browser holds is kept as a hash: reading this table
-- signs nobody in. To sign out is to delete the row.
CREATE TABLE sessions (
    id          text PRIMARY KEY CHECK (id ~ '^ses_[A-Za-z0-9]{16}$'),
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id text NOT NULL REFERENCES merchants,
    token_hash  bytea NOT NULL UNIQUE,              -- SHA-256; the token is random, so nothing can be guessed back
    address     text NOT NULL,
    user_agent  text NOT NULL CHECK (length(user_agent) <= 255),
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(), -- kept to the minute; what a page asks by itself does not count
    expires_at  timestamptz NOT NULL                -- whatever happens
);
CREATE INDEX sessions_newest ON sessions (merchant_id, created_at DESC, seq DESC);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Wrong passwords, so that guessing takes for ever: counted by account and by address, swept when they count no more.
CREATE TABLE password_failures (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope     bytea NOT NULL,                       -- keyed hash: what strangers type here may be a password
    failed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX password_failures_scope ON password_failures (scope, failed_at);
CREATE INDEX password_failures_age ON password_failures (failed_at);

-- Links by which a merchant chooses its password, once. Made by command alone.
CREATE TABLE password_links (
    token_hash  bytea PRIMARY KEY,                  -- SHA-256, as of a session
    merchant_id text NOT NULL REFERENCES merchants,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);
CREATE INDEX password_links_merchant ON password_links (merchant_id) WHERE used_at IS NULL;

-- What is to be paid, once.
CREATE TABLE orders (
    id           text PRIMARY KEY CHECK (id ~ '^order_[A-Za-z0-9]{16}$'),
    seq          bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id  text NOT NULL REFERENCES merchants,
    amount       bigint NOT NULL CHECK (amount BETWEEN 100 AND 999999999999),
    amount_paid  bigint NOT NULL DEFAULT 0 CHECK (amount_paid BETWEEN 0 AND amount),
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    receipt      text CHECK (length(receipt) <= 255),
    notes        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(notes) = 'object'),
    capture      text NOT NULL DEFAULT 'automatic' CHECK (capture IN ('automatic', 'manual')),
    methods      text[] NOT NULL DEFAULT '{upi,card}' CHECK (methods <@ '{upi,card}' AND cardinality(methods) > 0),
    callback_url text,
    status       text NOT NULL DEFAULT 'created' CHECK (status IN ('created', 'attempted', 'paid', 'expired')),
    expires_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'paid') = (amount_paid > 0)),
    CHECK (status <> 'expired' OR expires_at IS NOT NULL),
    UNIQUE (id, merchant_id, amount, currency)      -- what a payment of it must repeat
);
CREATE INDEX orders_newest ON orders (merchant_id, created_at DESC, seq DESC) INCLUDE (id, status, amount, currency);
CREATE INDEX orders_receipt ON orders (merchant_id, receipt text_pattern_ops) INCLUDE (id) WHERE receipt IS NOT NULL;
CREATE INDEX orders_to_expire ON orders (expires_at) WHERE expires_at IS NOT NULL AND status IN ('created', 'attempted');

-- One attempt to pay an order. The states and their changes are in models/payments.py (TRANSITIONS).
CREATE TABLE payments (
    id                 text PRIMARY KEY CHECK (id ~ '^pay_[A-Za-z0-9]{16}$'),
    seq                bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id        text NOT NULL,
    order_id           text NOT NULL,
    amount             bigint NOT NULL,
    currency           text NOT NULL,
    capture            text NOT NULL CHECK (capture IN ('automatic', 'manual')),
    method             text NOT NULL CHECK (method IN ('upi', 'card')),
    flow               text CHECK (flow IN ('collect', 'qr', 'intent')),  -- how a UPI app is asked
    vpa                text,                        -- of qr and intent, known once it is paid
    card_network       text,
    card_last4         text CHECK (card_last4 ~ '^[0-9]{4}$'),
    card_expiry_month  integer CHECK (card_expiry_month BETWEEN 1 AND 12),
    card_expiry_year   integer CHECK (card_expiry_year BETWEEN 2000 AND 2199),
    card_fingerprint   text,                        -- keyed hash: tells that two cards are the same, not which
    acquirer_token     text,                        -- what the acquirer gave in exchange for the card
    acquirer_reference text,
    status             text NOT NULL DEFAULT 'pending'
                       CHECK (status IN ('pending', 'requires_action', 'success', 'failed', 'voided')),
    captured           boolean NOT NULL DEFAULT false,
    amount_captured    bigint NOT NULL DEFAULT 0,
    amount_refunded    bigint NOT NULL DEFAULT 0,
    fee                bigint NOT NULL DEFAULT 0,   -- kept of what was captured; a refund does not give it back
    refund_status      text CHECK (refund_status IN ('partial', 'full')),
    error_code         text,
    error_reason       text,
    error_description  text,
    action_expires_at  timestamptz,                 -- the shopper may act until then
    upi_link           text,                        -- what the shopper's UPI app opens or scans
    hold_expires_at    timestamptz,                 -- an uncaptured approval is voided then
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),

    operation          text CHECK (operation IN ('authorize', 'capture', 'void')),  -- asked of the acquirer next
    operation_amount   bigint,
    unknown_since      timestamptz,                 -- no definite answer to it yet: look it up, never guess
    ask_again          boolean NOT NULL DEFAULT false, -- the acquirer never heard of it: ask as the first time
    due_at             timestamptz,
    claim_id           uuid,
    tries              integer NOT NULL DEFAULT 0,
    work_error         text,                        -- the last unexpected failure of our own

    FOREIGN KEY (order_id, merchant_id, amount, currency)
        REFERENCES orders (id, merchant_id, amount, currency),
    UNIQUE (id, merchant_id, currency),             -- what a refund of it must repeat
    CHECK ((method = 'upi') = (flow IS NOT NULL)),
    CHECK (vpa IS NULL OR method = 'upi'),
    CHECK (flow IS DISTINCT FROM 'collect' OR vpa IS NOT NULL),
    CHECK ((method = 'card') = (card_last4 IS NOT NULL)),
    CHECK ((card_last4 IS NULL) = (card_network IS NULL) AND (card_last4 IS NULL) = (card_fingerprint IS NULL)
       AND (card_last4 IS NULL) = (card_expiry_month IS NULL) AND (card_last4 IS NULL) = (card_expiry_year IS NULL)),
    CHECK ((status = 'failed') = (error_code IS NOT NULL)),
    CHECK ((error_code IS NULL) = (error_reason IS NULL) AND (error_code IS NULL) = (error_description IS NULL)),
    CHECK (NOT captured OR status = 'success'),
    CHECK (captured = (amount_captured > 0)),
    CHECK (amount_captured BETWEEN 0 AND amount),
    CHECK (fee BETWEEN 0 AND amount_captured),
    CHECK (amount_refunded BETWEEN 0 AND amount_captured),
    CHECK (refund_status IS NOT DISTINCT FROM CASE WHEN amount_refunded = 0 THEN NULL
           WHEN amount_refunded = amount_captured THEN 'full' ELSE 'partial' END),
    CHECK ((status = 'requires_action') = (action_expires_at IS NOT NULL)),
    CHECK (upi_link IS NULL OR (status = 'requires_action' AND method = 'upi')),
    CHECK ((hold_expires_at IS NOT NULL) = (status = 'success' AND NOT captured)),
    -- Nothing can be stuck: an unsettled payment is always due, a settled one never, but for its hold.
    CHECK ((operation IS NULL) = (due_at IS NULL)),
    CHECK ((status IN ('pending', 'requires_action')) = (operation IS NOT DISTINCT FROM 'authorize')),
    CHECK (operation IS NULL OR operation = 'authorize' OR (status = 'success' AND NOT captured)),
    CHECK ((operation IS NOT DISTINCT FROM 'capture') = (operation_amount IS NOT NULL)),
    CHECK (operation_amount BETWEEN 1 AND amount),
    CHECK (unknown_since IS NULL OR due_at IS NOT NULL),
    CHECK (NOT ask_again OR unknown_since IS NOT NULL),
    CHECK (claim_id IS NULL OR due_at IS NOT NULL)
);
-- Paying an order twice is impossible: one live payment at a time.
CREATE UNIQUE INDEX payments_one_live_per_order ON payments (order_id)
    WHERE status IN ('pending', 'requires_action', 'success');
-- Lists, whatever they are filtered by, and the charts read this index alone.
CREATE INDEX payments_newest ON payments (merchant_id, created_at DESC, seq DESC)
    INCLUDE (id, status, method, amount, currency, amount_captured, error_reason);
CREATE INDEX payments_last4 ON payments (merchant_id, card_last4) WHERE card_last4 IS NOT NULL;
CREATE INDEX payments_vpa ON payments (merchant_id, lower(vpa) text_pattern_ops) WHERE vpa IS NOT NULL;
CREATE INDEX payments_of_order ON payments (order_id, created_at DESC, seq DESC);
CREATE INDEX payments_due ON payments (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX payments_holds ON payments (hold_expires_at) WHERE hold_expires_at IS NOT NULL AND operation IS NULL;

-- Money on its way back. Pending and processed ones together never exceed what was captured
-- (checked under a lock on the payment, see models/refunds.py).
CREATE TABLE refunds (
    id                 text PRIMARY KEY CHECK (id ~ '^rfnd_[A-Za-z0-9]{16}$'),
    seq                bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id        text NOT NULL,               -- the payment's, by the key below
    order_id           text NOT NULL REFERENCES orders,
    payment_id         text NOT NULL,
    amount             bigint NOT NULL CHECK (amount > 0),
    currency           text NOT NULL,
    reason             text CHECK (length(reason) <= 255),
    status             text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processed', 'failed')),
    error_reason       text,
    acquirer_reference text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    processed_at       timestamptz,

    unknown_since      timestamptz,
    ask_again          boolean NOT NULL DEFAULT false,
    due_at             timestamptz,
    claim_id           uuid,
    tries              integer NOT NULL DEFAULT 0,
    work_error         text,

    FOREIGN KEY (payment_id, merchant_id, currency) REFERENCES payments (id, merchant_id, currency),
    CHECK ((status = 'failed') = (error_reason IS NOT NULL)),
    CHECK (status <> 'processed' OR processed_at IS NOT NULL),
    CHECK (status <> 'pending' OR (processed_at IS NULL AND due_at IS NOT NULL)),
    CHECK (status <> 'failed' OR due_at IS NULL),
    CHECK (unknown_since IS NULL OR due_at IS NOT NULL),
    CHECK (NOT ask_again OR unknown_since IS NOT NULL),
    CHECK (claim_id IS NULL OR due_at IS NOT NULL)
);
CREATE INDEX refunds_newest ON refunds (merchant_id, created_at DESC, seq DESC) INCLUDE (id, status, amount, currency);
CREATE INDEX refunds_of_payment ON refunds (payment_id, created_at DESC, seq DESC);
CREATE INDEX refunds_due ON refunds (due_at) WHERE due_at IS NOT NULL;

-- What the acquirer said, each time it was asked: the evidence behind every change of state.
CREATE TABLE acquirer_answers (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id  text NOT NULL REFERENCES payments,
    refund_id   text REFERENCES refunds,
    operation   text NOT NULL CHECK (operation IN ('authorize', 'capture', 'void', 'refund')),
    looked_up   boolean NOT NULL,                   -- not asked to do it, but what became of it
    answer      text NOT NULL CHECK (answer IN ('approved', 'declined', 'needs_action', 'unknown', 'not_found')),
    reason      text,                               -- of a decline
    reference   text,                               -- the acquirer's own, of an approval
    answered_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((operation = 'refund') = (refund_id IS NOT NULL)),
    CHECK ((answer = 'declined') = (reason IS NOT NULL))
);
CREATE INDEX acquirer_answers_payment ON acquirer_answers (payment_id, id);

-- Double entry. Debits are positive, credits negative; the rows of one posting sum to zero per currency.
--   acquirer          what the acquirer owes us            merchant          what we owe the merchant
--   acquirer_hold     approved, not yet captured           merchant_hold     its counterpart
--   refunds_in_flight refunds asked for, not yet processed
--   fees              what the gateway keeps of captures
CREATE TABLE ledger_entries (
    id          text PRIMARY KEY CHECK (id ~ '^led_[A-Za-z0-9]{16}$'),
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    posting_id  text NOT NULL CHECK (posting_id ~ '^post_[A-Za-z0-9]{16}$'),
    merchant_id text NOT NULL,                      -- the payment's, by the key below
    kind        text NOT NULL CHECK (kind IN ('authorize', 'capture', 'void',
                                              'refund_requested', 'refund_processed', 'refund_failed')),
    account     text NOT NULL CHECK (account IN ('acquirer', 'merchant', 'acquirer_hold', 'merchant_hold',
                                                 'refunds_in_flight', 'fees')),
    amount      bigint NOT NULL CHECK (amount <> 0),
    currency    text NOT NULL,
    payment_id  text NOT NULL,
    refund_id   text REFERENCES refunds,
    created_at  timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (payment_id, merchant_id, currency) REFERENCES payments (id, merchant_id, currency),
    CHECK ((kind LIKE 'refund%') = (refund_id IS NOT NULL)),
    CHECK (account <> 'fees' OR kind = 'capture')
);
CREATE INDEX ledger_entries_newest ON ledger_entries (merchant_id, created_at DESC, seq DESC)
    INCLUDE (id, currency, account, kind);
CREATE INDEX ledger_entries_payment ON ledger_entries (payment_id);
CREATE INDEX ledger_entries_refund ON ledger_entries (refund_id) WHERE refund_id IS NOT NULL;
CREATE INDEX ledger_entries_balance ON ledger_entries (merchant_id, currency, account, kind) INCLUDE (amount);

-- All rows of a posting are written by one statement, which is refused as a whole if they do not balance.
CREATE FUNCTION check_postings_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced text;
BEGIN
    SELECT posting_id INTO unbalanced FROM posted
    GROUP BY posting_id, currency HAVING sum(amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger posting % does not sum to zero', unbalanced
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
    REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION check_postings_balance();

-- Append-only history: what happened, with the exact bytes that webhooks send.
CREATE TABLE events (
    id          text PRIMARY KEY CHECK (id ~ '^evt_[A-Za-z0-9]{16}$'),
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id text NOT NULL,                      -- that of what it tells of (see models/verification.py)
    type        text NOT NULL,
    order_id    text REFERENCES orders,
    payment_id  text REFERENCES payments,
    refund_id   text REFERENCES refunds,
    payload     text NOT NULL,
    deliveries  integer NOT NULL CHECK (deliveries >= 0),  -- how many were planned with it; retries may add some
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_newest ON events (merchant_id, created_at DESC, seq DESC) INCLUDE (id, type);
CREATE INDEX events_of_payment ON events (payment_id, seq) WHERE payment_id IS NOT NULL;
CREATE INDEX events_of_order ON events (order_id, seq) WHERE order_id IS NOT NULL;
CREATE INDEX events_of_refund ON events (refund_id, seq) WHERE refund_id IS NOT NULL;

-- History is only ever added to.
CREATE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER ledger_entries_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    EXECUTE FUNCTION forbid_change();
CREATE TRIGGER acquirer_answers_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON acquirer_answers
    EXECUTE FUNCTION forbid_change();
CREATE TRIGGER events_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    EXECUTE FUNCTION forbid_change();

-- Where a merchant wants to hear of it. A deleted endpoint stays, for its delivery log. After a rotation the
-- previous secret signs too until it expires; then it is kept to tell "old secret" from "wrong secret".
CREATE TABLE webhook_endpoints (
    id               text PRIMARY KEY CHECK (id ~ '^we_[A-Za-z0-9]{16}$'),
    seq              bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id      text NOT NULL REFERENCES merchants,
    url              text NOT NULL CHECK (url ~ '^https?://' AND length(url) <= 2048),
    description      text CHECK (length(description) <= 255),
    events           text[] NOT NULL DEFAULT '{*}' CHECK (cardinality(events) > 0),
    enabled          boolean NOT NULL DEFAULT true,
    disabled_reason  text,
    disabled_at      timestamptz,
    failing_since    timestamptz,                   -- the first failure after which nothing succeeded
    slow             boolean NOT NULL DEFAULT false, -- its last answer was: it waits in the slow lane
    quick            boolean NOT NULL DEFAULT false, -- its last answer came at once: it may have more at once
    secret_encrypted bytea NOT NULL,
    previous_secret_encrypted  bytea,
    previous_secret_expires_at timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz,
    CHECK (enabled = (disabled_reason IS NULL) AND enabled = (disabled_at IS NULL)),
    CHECK ((previous_secret_encrypted IS NULL) = (previous_secret_expires_at IS NULL)),
    CHECK (deleted_at IS NULL OR NOT enabled)
);
CREATE INDEX webhook_endpoints_merchant ON webhook_endpoints (merchant_id, created_at DESC, seq DESC);

-- Failed deliveries asked for again all at once; a delivery names the last such request that it is part of.
CREATE TABLE webhook_retries (
    id             text PRIMARY KEY CHECK (id ~ '^whr_[A-Za-z0-9]{16}$'),
    seq            bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id    text NOT NULL REFERENCES merchants,
    endpoint_id    text REFERENCES webhook_endpoints,  -- null: all of them
    since          timestamptz NOT NULL,
    until          timestamptz NOT NULL,
    include_missed boolean NOT NULL DEFAULT false,  -- also events that it was never told of
    total          integer NOT NULL CHECK (total >= 0),
    has_more       boolean NOT NULL DEFAULT false,  -- there were more than one request may take
    created_at     timestamptz NOT NULL DEFAULT now(),
    CHECK (since < until),
    CHECK (NOT include_missed OR endpoint_id IS NOT NULL)
);
CREATE INDEX webhook_retries_newest ON webhook_retries (merchant_id, created_at DESC, seq DESC);

-- One event for one endpoint.
CREATE TABLE webhook_deliveries (
    id               text PRIMARY KEY CHECK (id ~ '^whd_[A-Za-z0-9]{16}$'),
    seq              bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id      text NOT NULL,                 -- the endpoint's (see models/verification.py)
    event_id         text NOT NULL REFERENCES events,
    endpoint_id      text NOT NULL REFERENCES webhook_endpoints,
    event_type       text NOT NULL,
    order_id         text REFERENCES orders,        -- what is told of one order is told in order
    retry_id         text REFERENCES webhook_retries,
    status           text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'success', 'failed')),
    attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_attempt_at  timestamptz,
    last_status_code integer,
    last_error       text,
    created_at       timestamptz NOT NULL DEFAULT now(),

    due_at           timestamptz,
    claim_id         uuid,
    tries            integer NOT NULL DEFAULT 0,
    work_error       text,

    UNIQUE (event_id, endpoint_id),
    CHECK ((status = 'pending') = (due_at IS NOT NULL)),
    CHECK (status <> 'success' OR attempts > 0),
    CHECK ((attempts = 0) = (last_attempt_at IS NULL)),
    CHECK (claim_id IS NULL OR due_at IS NOT NULL)
);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (merchant_id, created_at DESC, seq DESC)
    INCLUDE (id, status, event_type, endpoint_id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (due_at) WHERE due_at IS NOT NULL;
-- Fair shares: the due and the running deliveries of one endpoint.
CREATE INDEX webhook_deliveries_due_by_endpoint ON webhook_deliveries (endpoint_id, due_at, seq)
    WHERE due_at IS NOT NULL;
CREATE INDEX webhook_deliveries_running ON webhook_deliveries (endpoint_id) WHERE claim_id IS NOT NULL;
-- Whether an earlier event of the same order still waits for its first attempt.
CREATE INDEX webhook_deliveries_first ON webhook_deliveries (endpoint_id, order_id, seq)
    WHERE due_at IS NOT NULL AND attempts = 0;
CREATE INDEX webhook_deliveries_failed
    ON webhook_deliveries (merchant_id, (coalesce(last_attempt_at, created_at))) WHERE status = 'failed';
CREATE INDEX webhook_deliveries_of_retry ON webhook_deliveries (retry_id, status) WHERE retry_id IS NOT NULL;

-- Each try of a delivery, as it went.
CREATE TABLE webhook_attempts (
    delivery_id   text NOT NULL REFERENCES webhook_deliveries,
    number        integer NOT NULL CHECK (number > 0),
    attempted_at  timestamptz NOT NULL DEFAULT now(),
    url           text NOT NULL,
    status_code   integer,
    response_body text CHECK (length(response_body) <= 4096),
    duration_ms   integer NOT NULL CHECK (duration_ms >= 0),
    error         text,                             -- in plain words; null = it was accepted
    PRIMARY KEY (delivery_id, number)
);
-- How many went out lately. Rows are only added, in the order of time: a few bytes tell where each hour lies.
CREATE INDEX webhook_attempts_lately ON webhook_attempts USING brin (attempted_at) WITH (pages_per_range = 16);

-- Who did what that matters for security. Only ever added to.
CREATE TABLE audit_log (
    id          text PRIMARY KEY CHECK (id ~ '^aud_[A-Za-z0-9]{16}$'),
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    merchant_id text NOT NULL REFERENCES merchants,
    actor       text NOT NULL,                      -- an API key's id, who signed in, or "gateway"
    action      text NOT NULL,
    subject_id  text NOT NULL,                      -- what it was done to
    details     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_newest ON audit_log (merchant_id, created_at DESC, seq DESC);
CREATE INDEX audit_log_subject ON audit_log (subject_id, seq);
CREATE TRIGGER audit_log_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    EXECUTE FUNCTION forbid_change();

-- What arrived at the webhook inbox of a local gateway, as it came. No reference to an endpoint: several may
-- share a token, and its latest messages are all that is kept.
CREATE TABLE inbox_messages (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token       text NOT NULL CHECK (token ~ '^[A-Za-z0-9_-]{8,64}$'),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- not now(): it may have waited for its turn
    headers     jsonb NOT NULL CHECK (jsonb_typeof(headers) = 'object'),
    body        bytea NOT NULL,
    verified    boolean NOT NULL,                   -- when it arrived, by the secrets of then
    explanation text NOT NULL
);
CREATE INDEX inbox_messages_newest ON inbox_messages (token, id DESC);

-- The first answer to a request, kept with its effect in one transaction: both exist or neither does.
-- A request that is still running holds an advisory lock on its key, which dies with its connection.
CREATE TABLE idempotency_keys (
    scope           text NOT NULL,                  -- the merchant, or the order of a public request
    key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint     bytea NOT NULL,                 -- keyed hash of method, path and body
    response_status integer CHECK (response_status BETWEEN 200 AND 299),  -- null: reserved, no answer yet
    response_body   bytea,                          -- encrypted: an answer may hold a secret
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (scope, key),
    CHECK ((response_status IS NULL) = (response_body IS NULL))
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Who works: one row a worker process, written by itself every other second. Health counts the fresh ones.
CREATE TABLE workers (
    id         text PRIMARY KEY,
    hostname   text NOT NULL,
    pid        integer NOT NULL,
    queues     text[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at    timestamptz NOT NULL DEFAULT now()
);

-- How many rows the clock had to work off itself, because no worker came for them: should stay as they are.
CREATE TABLE rescues (
    queue   text PRIMARY KEY,
    count   bigint NOT NULL CHECK (count > 0),
    last_at timestamptz NOT NULL DEFAULT now()
);

-- Each proof that all of this is right, as `flask verify` and the clock once a night made it.
CREATE TABLE verifications (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL CHECK (finished_at >= started_at),
    breaks      integer NOT NULL CHECK (breaks >= 0)
);
