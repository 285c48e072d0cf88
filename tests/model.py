"""A reference model of the gateway: what it must answer, and where it may stand afterwards.

Requests take effect one after the other, whatever runs at once: of all orders in which they may have, one
must explain every answer and what is seen in the end (linearizability; Herlihy and Wing, 1990). What the
acquirer did is read in its own book: the gateway may know less than that, and never anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from models.payments import LIVE
from models.payments import TRANSITIONS as PAYMENT_TRANSITIONS
from models.refunds import TRANSITIONS as REFUND_TRANSITIONS

KEPT_S = 24 * 3600  # how long an answer is replayed
CLOSE_S = 5  # so near to its end, a limit of time may be over for the one and not yet for the other

Said = tuple[int, str | None]  # an answer in short: its status, and of a refusal the reason or the code
CREATED: Said = (201, None)
OK: Said = (200, None)
UNDER_WAY: Said = (202, None)
IN_FLIGHT: Said = (409, "key_in_flight")


@dataclass(frozen=True)
class Request:
    """A POST. `on` is the id of what it is about: an order (pay), or else a payment."""

    verb: str  # order, pay, capture, void, refund, otp, phone or cancel
    on: str
    body: dict[str, Any]
    key: str | None = None

    def __str__(self) -> str:
        words = [self.verb, self.on, *(f"{name}={self.body[name]!r}" for name in self.body if name != "card")]
        return " ".join(filter(None, [*words, self.key]))

    @property
    def asks_acquirer(self) -> bool:
        """In the request itself, between its transactions."""
        return self.verb in ("capture", "void")

    def differs_from(self, other: Request) -> bool:
        return (self.verb, self.on, self.body) != (other.verb, other.on, other.body)


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    replayed: bool = False

    @property
    def said(self) -> Said:
        error = self.body.get("error") or {}
        return self.status, error.get("reason") or error.get("code")


@dataclass(frozen=True)
class Order:
    id: str
    amount: int
    capture: str
    expires_at_s: float | None
    expired: bool = False


@dataclass(frozen=True)
class Payment:
    """`operation` is what is asked of the acquirer next, beyond the authorization, with its amount."""

    id: str
    order_id: str
    amount: int
    capture: str
    method: str
    status: str = "pending"
    captured: int = 0
    operation: tuple[str, int] | None = None
    # Set when a worker comes to it: seen, not foretold.
    hold_ends_at_s: float | None = field(default=None, compare=False)
    action_ends_at_s: float | None = field(default=None, compare=False)

    @property
    def awaits_capture(self) -> bool:
        return self.status == "success" and not self.captured

    def key_of(self, verb: str, amount: int) -> str:
        """Under which the acquirer is asked (Ask.idempotency_key)."""
        return f"{self.id}:{verb}:{amount}"


@dataclass(frozen=True)
class Refund:
    id: str
    payment_id: str
    amount: int
    status: str = "pending"

    @property
    def key(self) -> str:
        return f"{self.id}:refund:{self.amount}"


@dataclass(frozen=True)
class Kept:
    """What an Idempotency-Key is bound to: an answer, or one that nobody got, or it is only reserved."""

    request: Request
    at_s: float
    answer: Answer | None = None
    made: str | None = None  # what the answer that nobody got tells of
    coming: Answer | None = None  # what the first request keeps in the end, after others met its reservation

    def leaves_free(self, request: Request, now_s: float) -> bool:
        """Whether this request is treated as if it were the first."""
        is_reserved = self.answer is None and self.made is None
        return self.at_s + KEPT_S <= now_s or (is_reserved and not request.differs_from(self.request))

    def explains(self, answer: Answer) -> bool:
        """Whether this is the replay of what was kept."""
        if self.answer is not None:
            return answer.replayed and (answer.status, answer.body) == (self.answer.status, self.answer.body)
        return answer.replayed and answer.status < 300 and answer.body["id"] == self.made

    @property
    def in_the_end(self) -> Kept:
        """Once the request that is bound to it is over."""
        return self if self.coming is None else replace(self, answer=self.coming, coming=None)


class Book(Protocol):
    """What the acquirer has decided, by its idempotency keys."""

    def approved(self, key: str) -> bool: ...  # ever: a refund may come back afterwards
    def declined(self, key: str) -> bool: ...
    def waited(self, payment_id: str) -> bool: ...  # for the shopper


@dataclass(frozen=True)
class Step:
    """What is known of the step that is to be explained."""

    book: Book
    seen: State  # what the API shows after it
    now_s: float
    together: bool = False  # several things ran at once
    workers: bool = False  # what is due may have been settled
    swept: bool = False
    trouble: bool = False  # the acquirer may have left a question unanswered
    broken: bool = False  # the database may have failed

    def over(self, end_s: float | None) -> set[bool]:
        """Whether that time is over: one of these."""
        if end_s is None:
            return {False}
        return {end_s < self.now_s + CLOSE_S, end_s < self.now_s - CLOSE_S}


@dataclass(frozen=True)
class State:
    """Where the gateway stands. Never changed: each verb gives the next one."""

    orders: Mapping[str, Order] = field(default_factory=dict)
    payments: Mapping[str, Payment] = field(default_factory=dict)
    refunds: Mapping[str, Refund] = field(default_factory=dict)
    keys: Mapping[str, Kept] = field(default_factory=dict)

    # --- what follows from it ------------------------------------------------------------------------

    def payments_of(self, order_id: str) -> list[Payment]:
        return [payment for payment in self.payments.values() if payment.order_id == order_id]

    def refunds_of(self, payment_id: str, *statuses: str) -> list[Refund]:
        return [
            refund
            for refund in self.refunds.values()
            if refund.payment_id == payment_id and (not statuses or refund.status in statuses)
        ]

    def live(self, order_id: str) -> Payment | None:
        return next((each for each in self.payments_of(order_id) if each.status in LIVE), None)

    def paid(self, order_id: str) -> int:
        return sum(payment.captured for payment in self.payments_of(order_id))

    def status(self, order: Order) -> str:
        if self.paid(order.id):
            return "paid"
        if order.expired:
            return "expired"
        return "attempted" if self.payments_of(order.id) else "created"

    def refunded(self, payment_id: str) -> int:
        return sum(refund.amount for refund in self.refunds_of(payment_id, "processed"))

    def left(self, payment: Payment) -> int:
        """What can still be refunded."""
        taken = sum(refund.amount for refund in self.refunds_of(payment.id, "pending", "processed"))
        return payment.captured - taken

    # --- what may have happened ----------------------------------------------------------------------

    def explanations(self, done: Sequence[tuple[Request, Answer]], step: Step) -> Iterator[State]:
        """The states in which all this may end, seen as it is; none: it must not have happened."""
        if not done:
            if (end := self._as_seen(step)) is not None:
                yield end
            return
        tried = []
        for number, (request, answer) in enumerate(done):
            if (request, answer.said, answer.replayed) in tried:  # one like it was first: the same again
                continue
            tried.append((request, answer.said, answer.replayed))
            others = [*done[:number], *done[number + 1 :]]
            for before in self._meanwhile(request, step):
                for after in before._answered(request, answer, step):
                    yield from after.explanations(others, step)

    def expected(self, request: Request, step: Step) -> set[Said]:
        """What the gateway may answer, if nothing of this kind was asked under its key before."""
        if request.verb == "order":
            return {CREATED}
        if request.verb == "pay":
            return self._expected_of_a_payment(self.orders[request.on], step)
        payment = self.payments[request.on]
        amount = request.body.get("amount")
        match request.verb:
            case "capture":
                return self._expected_of_a_capture(
                    payment, payment.amount if amount is None else amount, step
                )
            case "void":
                return self._expected_of_a_void(payment, step)
            case "refund":
                return self._expected_of_a_refund(payment, amount)
            case _:
                return self._expected_of_a_shopper(payment, request.verb, step)

    # --- requests ------------------------------------------------------------------------------------

    def _expected_of_a_payment(self, order: Order, step: Step) -> set[Said]:
        if self.status(order) == "paid":
            return {(409, "order_paid")}
        live = self.live(order.id)
        if live is None:
            otherwise = CREATED
        else:
            otherwise = (409, "order_paid" if live.status == "success" else "payment_in_progress")
        over = {True} if order.expired else step.over(order.expires_at_s)
        return {(409, "order_expired") if is_over else otherwise for is_over in over}

    def _expected_of_a_capture(self, payment: Payment, wanted: int, step: Step) -> set[Said]:
        if payment.captured:
            return {OK if wanted == payment.captured else (400, "already_captured")}
        if payment.status != "success":
            return {(400, "payment_not_approved")}
        if wanted > payment.amount:
            return {(400, "amount_too_large")}
        return self._expected_of_an_operation(payment, "capture", wanted, step)

    def _expected_of_a_void(self, payment: Payment, step: Step) -> set[Said]:
        if payment.status == "voided":
            return {OK}
        if payment.captured:
            return {(400, "already_captured")}
        if payment.status != "success":
            return {(400, "payment_not_approved")}
        return self._expected_of_an_operation(payment, "void", payment.amount, step)

    def _expected_of_an_operation(self, payment: Payment, verb: str, amount: int, step: Step) -> set[Said]:
        if payment.operation is not None:
            return {(409, "operation_in_progress")}
        answers = {UNDER_WAY} if step.trouble else set()
        if step.book.approved(payment.key_of(verb, amount)):
            answers.add(OK)
        if step.book.declined(payment.key_of(verb, amount)):
            answers.add((400, f"{verb}_refused"))
            if step.together:  # another request may have asked for the very same by the time it looks
                answers.add(UNDER_WAY)
        return answers

    def _expected_of_a_refund(self, payment: Payment, amount: int | None) -> set[Said]:
        if not payment.captured:
            return {(400, "payment_not_captured")}
        if self.left(payment) == 0:
            return {(400, "fully_refunded")}
        if amount is not None and amount > self.left(payment):
            return {(400, "amount_too_large")}
        return {CREATED}

    @staticmethod
    def _expected_of_a_shopper(payment: Payment, verb: str, step: Step) -> set[Said]:
        if payment.status != "requires_action":
            return {(409, "no_action_required")}
        wrong = (verb, payment.method) in (("otp", "upi"), ("phone", "card"))
        in_time: Said = (409, "wrong_method") if wrong else OK
        over = step.over(payment.action_ends_at_s)
        return {(409, "action_expired") if is_over else in_time for is_over in over}

    def _answered(self, request: Request, answer: Answer, step: Step) -> Iterator[State]:
        """The states after this answer to this request; none: it must not be answered so."""
        kept = self.keys.get(request.key) if request.key is not None else None
        if answer.said == IN_FLIGHT:
            if request.key is not None and step.together:
                yield self
        elif kept is None or kept.leaves_free(request, step.now_s):
            yield from self._answered_anew(request, answer, step)
            if kept is not None and kept.coming is not None and kept.in_the_end.explains(answer):
                yield self._with(keys={kept.request.key or "": kept.in_the_end})
        elif answer.status == 503 and step.broken:
            yield self
        elif request.differs_from(kept.request):
            if answer.said == (422, "IDEMPOTENCY_ERROR"):
                yield self
        elif kept.explains(answer):
            yield self._with(keys={kept.request.key or "": replace(kept, answer=answer)})

    def _answered_anew(self, request: Request, answer: Answer, step: Step) -> Iterator[State]:
        if answer.status == 503 and step.broken:
            yield from self._broken_off(request, step)
        elif answer.said in self.expected(request, step) and self._tells_the_truth(request, answer, step):
            yield from self._done(request, answer, step)

    def _tells_the_truth(self, request: Request, answer: Answer, step: Step) -> bool:
        """Whether what the answer shows is so: `OK` to a capture or a void means that it is done."""
        if answer.replayed or answer.said != OK or not request.asks_acquirer:
            return not answer.replayed
        seen = step.seen.payments[request.on]
        done = {"capture": request.body.get("amount", seen.amount), "void": 0}[request.verb]
        return (
            seen.captured == answer.body["amount_captured"] == done and seen.status == answer.body["status"]
        )

    def _done(self, request: Request, answer: Answer, step: Step) -> Iterator[State]:
        """After a request that was answered as expected."""
        began = answer.said == (400, "capture_refused")  # by the acquirer: until then it was under way
        if answer.status >= 300 and not began:
            yield self
            return
        after = self._accepted(request, answer.body.get("id", ""), step)
        if request.key is None:
            yield after
            return
        if not began:
            yield after._with(keys={request.key: Kept(request, step.now_s, answer)})
        # Of several transactions, the first reserves the key: others may meet that before there is an answer.
        if began or (step.together and request.asks_acquirer):
            coming = None if began else answer
            yield after._with(keys={request.key: Kept(request, step.now_s, coming=coming)})

    def _accepted(self, request: Request, made: str, step: Step) -> State:
        """After a request that took effect, or that found its effect already there."""
        body = request.body
        if request.verb == "order":
            seen = step.seen.orders.get(made)  # the exact time of its end is for the gateway to say
            ends_at_s = seen.expires_at_s if seen is not None and "expires_in" in body else None
            order = Order(made, body["amount"], body["capture"], ends_at_s)
            return self._with(orders={made: order})
        if request.verb == "pay":
            order = self.orders[request.on]
            payment = Payment(made, order.id, order.amount, order.capture, body["method"])
            return self._with(payments={made: payment})
        payment = self.payments[request.on]
        if request.verb == "refund":
            refund = Refund(made, payment.id, body.get("amount", self.left(payment)))
            return self._with(refunds={made: refund})
        if request.asks_acquirer:
            if not payment.awaits_capture:
                return self
            amount = body.get("amount", payment.amount)
            return self._with(payments={payment.id: replace(payment, operation=(request.verb, amount))})
        return self._with(payments={payment.id: replace(payment, status="pending")})

    def _broken_off(self, request: Request, step: Step) -> Iterator[State]:
        """After a request that the database left without an answer: it did nothing, or all with its key."""
        yield self
        said = self.expected(request, replace(step, trouble=True))
        if not said & {CREATED, OK, UNDER_WAY}:
            return
        if request.verb in ("order", "pay", "refund"):
            kind = {"order": "orders", "pay": "payments", "refund": "refunds"}[request.verb]
            made: list[str] = [each for each in getattr(step.seen, kind) if each not in getattr(self, kind)]
        else:
            made = [request.on]
        for each in made:
            after = self._accepted(request, each, step)
            if request.key is None:
                yield after
                continue
            yield after._with(keys={request.key: Kept(request, step.now_s, made=each)})
            if request.asks_acquirer:
                yield after._with(keys={request.key: Kept(request, step.now_s)})

    # --- workers -------------------------------------------------------------------------------------

    def _meanwhile(self, request: Request, step: Step) -> list[State]:
        """Where workers may have brought what the request is about, until it takes effect."""
        states = [self]
        if not step.together:
            return states
        for before in states:  # it grows on the way
            for after in before._moves(request, step):
                if after not in states:
                    states.append(after)
        return states

    def _moves(self, request: Request, step: Step) -> Iterator[State]:
        """The states that are one change further."""
        if request.verb == "order":
            return
        payments = self.payments_of(request.on) if request.verb == "pay" else [self.payments[request.on]]
        for payment in payments:
            for moved in moves_of_payment(payment, step):
                yield self._with(payments={payment.id: moved})
            for refund in self.refunds_of(payment.id):
                for settled in moves_of_refund(refund, step):
                    yield self._with(refunds={refund.id: settled})

    def _as_seen(self, step: Step) -> State | None:
        """What is seen, if workers may have brought everything there; with what is not seen, from here."""
        seen = step.seen
        pairs = (
            (self.orders, seen.orders, self._moves_of_order),
            (self.payments, seen.payments, moves_of_payment),
            (self.refunds, seen.refunds, moves_of_refund),
        )
        for before, after, moves in pairs:
            if before.keys() != after.keys():
                return None
            if not all(_leads(before[each], after[each], moves, step) for each in before):
                return None
        return replace(seen, keys={key: kept.in_the_end for key, kept in self.keys.items()})

    @staticmethod
    def _moves_of_order(order: Order, step: Step) -> Iterator[Order]:
        idle = step.seen.live(order.id) is None and not step.seen.paid(order.id)
        if step.swept and idle and not order.expired and True in step.over(order.expires_at_s):
            yield replace(order, expired=True)

    def _with(self, **changed: Mapping[str, Any]) -> State:
        return replace(self, **{name: {**getattr(self, name), **some} for name, some in changed.items()})


def moves_of_payment(payment: Payment, step: Step) -> Iterator[Payment]:
    """What one settle may make of it: only what the acquirer did, and what the table of changes allows."""
    for moved in _settled(payment, step):
        if moved.status == payment.status or moved.status in PAYMENT_TRANSITIONS[payment.status]:
            yield moved
    idle = payment.awaits_capture and payment.operation is None
    if step.swept and idle and True in step.over(payment.hold_ends_at_s):
        yield replace(payment, operation=("void", payment.amount))


def _settled(payment: Payment, step: Step) -> Iterator[Payment]:
    book = step.book
    if payment.operation is not None:
        verb, amount = payment.operation
        if book.approved(payment.key_of(verb, amount)):
            done = {"captured": amount} if verb == "capture" else {"status": "voided"}
            yield replace(payment, operation=None, **done)
        if book.declined(payment.key_of(verb, amount)):
            yield replace(payment, operation=None)
    elif step.workers and payment.status in ("pending", "requires_action"):
        key = payment.key_of("authorize", payment.amount)
        if book.approved(key):
            captured = payment.amount if payment.capture == "automatic" else 0
            yield replace(payment, status="success", captured=captured)
        if book.declined(key):
            yield replace(payment, status="failed")
        if payment.status == "pending" and book.waited(payment.id):
            yield replace(payment, status="requires_action")


def moves_of_refund(refund: Refund, step: Step) -> Iterator[Refund]:
    evidence = {"processed": step.book.approved, "failed": step.book.declined}
    for status in REFUND_TRANSITIONS[refund.status]:
        if step.workers and evidence[status](refund.key):
            yield replace(refund, status=status)


def _leads(before: Any, after: Any, moves: Any, step: Step) -> bool:
    """Whether changes lead from the one to the other."""
    reached = [before]
    for each in reached:  # it grows on the way
        if each == after:
            return True
        reached += [moved for moved in moves(each, step) if moved not in reached]
    return False
