"""What is wrong, to the byte, and what a real server answers. docs/bad-inputs.md is this table.

`python -m tests.test_bad_inputs` writes it anew.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from app import MAX_BODY_BYTES
from config import ROOT
from models.merchants import TEST_API_KEY, TEST_API_SECRET, TEST_EMAIL
from tests.conftest import temporary_folder
from tests.processes import Running, gateway

pytestmark = pytest.mark.slow

FILE = ROOT / "docs/bad-inputs.md"
TABLE = "<!-- the table -->"
PATIENCE_S = 20
SIGNED_IN = (
    f"Host: gateway\r\nConnection: close\r\nX-Api-Key: {TEST_API_KEY}\r\nX-Api-Secret: {TEST_API_SECRET}\r\n"
)
JSON = "Content-Type: application/json\r\n"
SMALL = 100_000  # bytes: what a socket takes before anybody reads it


class Bad(NamedTuple):
    """An input, and its answer: `code` None is one of the server before the app, or a success."""

    what: str
    sent: bytes
    status: int
    code: str | None = None
    field: str | None = None


def get(target: str, headers: str = "", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\n{SIGNED_IN}{headers}\r\n".encode("latin-1")


def post(body: bytes, headers: str = JSON, target: str = "/api/v1/orders", length: str = "") -> bytes:
    head = f"POST {target} HTTP/1.1\r\n{SIGNED_IN}{headers}Content-Length: {length or len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def chunked(*chunks: bytes, encoding: str = "chunked") -> bytes:
    head = f"POST /api/v1/orders HTTP/1.1\r\n{SIGNED_IN}{JSON}Transfer-Encoding: {encoding}\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (*chunks, b""))


def amount(written: str) -> bytes:
    return post(b'{"amount":%s}' % written.encode())


def receipt(written: bytes) -> bytes:
    return post(b'{"amount":10000,"receipt":"%s"}' % written)


def nested(depth: int, headers: str = "") -> bytes:
    inner = b'{"a":' * depth + b"1" + b"}" * depth
    return post(b'{"amount":10000,"x":%s}' % inner, JSON + headers)


def endpoint(enabled: str) -> bytes:
    body = f'{{"url":"https://shop.example","enabled":{enabled}}}'
    return post(body.encode(), target="/api/v1/webhook_endpoints")


def basic(credentials: str) -> bytes:
    head = f"GET /api/v1/orders HTTP/1.1\r\nConnection: close\r\nAuthorization: Basic {credentials}"
    return f"{head}\r\n\r\n".encode()


def sign_in(password: str) -> bytes:
    body = f'{{"email":"{TEST_EMAIL}","password":"{password}"}}'
    return post(body.encode(), target="/api/v1/session")


def payment(members: str) -> bytes:
    body = f'{{"order_id":"order_doesNotExist0000",{members}}}'
    return post(body.encode(), target="/api/v1/payments")


BAD = "BAD_REQUEST_ERROR"
NOBODY = "AUTHENTICATION_ERROR"
NOTHING = "NOT_FOUND_ERROR"
LARGE = "PAYLOAD_TOO_LARGE"
MEDIA = "UNSUPPORTED_MEDIA_TYPE"
METHOD = "METHOD_NOT_ALLOWED"
TABLES: dict[str, list[Bad]] = {
    "Numbers": [
        Bad("`100.0`: a float", amount("100.0"), 400, BAD, "amount"),
        Bad("`1e4`: a float as well", amount("1e4"), 400, BAD, "amount"),
        Bad("`1e400`: more than a float holds", amount("1e400"), 400, BAD, "amount"),
        Bad("400 digits", amount("9" * 400), 400, BAD, "amount"),
        Bad("5000 digits", amount("9" * 5000), 400, BAD),
        Bad("2^63", amount(str(2**63)), 400, BAD, "amount"),
        Bad("10^12: one more than the most", amount(str(10**12)), 400, BAD, "amount"),
        Bad("`99`: one less than the least", amount("99"), 400, BAD, "amount"),
        Bad("`-10000`", amount("-10000"), 400, BAD, "amount"),
        Bad("`-0`", amount("-0"), 400, BAD, "amount"),
        Bad("`010000`: a leading zero", amount("010000"), 400, BAD),
        Bad("`0x2710`", amount("0x2710"), 400, BAD),
        Bad('`"10000"`: a text', amount('"10000"'), 400, BAD, "amount"),
        Bad("`true`", amount("true"), 400, BAD, "amount"),
        Bad("`null`", amount("null"), 400, BAD, "amount"),
        Bad("`[10000]`", amount("[10000]"), 400, BAD, "amount"),
        Bad("`NaN`", amount("NaN"), 400, BAD),
        Bad("`Infinity`", amount("Infinity"), 400, BAD),
        Bad("`limit=1e1` in a query", get("/api/v1/orders?limit=1e1"), 400, BAD, "limit"),
        Bad("`limit=\N{ARABIC-INDIC DIGIT THREE}`", get("/api/v1/orders?limit=%D9%A3"), 400, BAD, "limit"),
        Bad("`limit=+5`", get("/api/v1/orders?limit=%2B5"), 400, BAD, "limit"),
        Bad(
            "a card number of 400 digits",
            payment(
                f'"method":"card","card":{{"number":{"4" * 400},'
                '"expiry_month":1,"expiry_year":2049,"cvv":123}'
            ),
            400,
            BAD,
            "card.number",
        ),
        Bad(
            "a float as the card's month",
            payment(
                '"method":"card","card":{"number":"4242424242424242",'
                '"expiry_month":1e0,"expiry_year":2049,"cvv":123}'
            ),
            400,
            BAD,
            "card.expiry_month",
        ),
        Bad("the year 10000", get("/api/v1/orders?from=10000-01-01T00:00:00Z"), 400, BAD, "from"),
        Bad("the year 0", get("/api/v1/orders?to=0000-01-01T00:00:00Z"), 400, BAD, "to"),
    ],
    "True and false": [
        Bad("`0`", endpoint("0"), 400, BAD, "enabled"),
        Bad('`"true"`', endpoint('"true"'), 400, BAD, "enabled"),
        Bad("`null`", endpoint("null"), 400, BAD, "enabled"),
    ],
    "Who asks": [
        Bad("no key", b"GET /api/v1/orders HTTP/1.1\r\nConnection: close\r\n\r\n", 401, NOBODY),
        Bad("a key in Latin-1", get("/api/v1/orders").replace(b"key_", b"k\xe9y"), 401, NOBODY),
        Bad("a wrong secret", get("/api/v1/orders").replace(b"secret_", b"secret"), 401, NOBODY),
        Bad("`Authorization: Basic` and no base64", basic("=?="), 401, NOBODY),
        Bad("a wrong password", sign_in("wrong"), 401, NOBODY),
        Bad("one that holds NUL", sign_in("\\u0000"), 400, BAD, "password"),
        Bad("one of 1,025 characters", sign_in("x" * 1025), 400, BAD, "password"),
    ],
    "Keys that come twice": [
        Bad("`amount` and `amount`", post(b'{"amount":10000,"amount":100}'), 400, BAD, "amount"),
        Bad("the same number twice", post(b'{"amount":10000,"amount":10000}'), 400, BAD, "amount"),
        Bad("with a space before the colon", post(b'{"amount":10000,"amount" :100}'), 400, BAD, "amount"),
        Bad("one of them escaped", post(b'{"amount":10000,"\\u0061mount":100}'), 400, BAD, "amount"),
        Bad("within `notes`", post(b'{"amount":10000,"notes":{"a":"1","a":"2"}}'), 400, BAD, "a"),
        Bad("one that is ignored", post(b'{"amount":10000,"x":1,"x":2}'), 400, BAD, "x"),
        Bad("`vpa` of a payment", payment('"method":"upi","vpa":"a@upi","vpa":"b@upi"'), 400, BAD, "vpa"),
        Bad("`limit=1&limit=2` in a query: the first counts", get("/api/v1/orders?limit=1&limit=2"), 200),
    ],
    "Texts": [
        Bad("NUL, as `\\u0000`", receipt(b"\\u0000"), 400, BAD, "receipt"),
        Bad("NUL, as a byte", receipt(b"\0"), 400, BAD),
        Bad("a line break, as a byte", receipt(b"\n"), 400, BAD),
        Bad("half a surrogate pair, `\\ud800`", receipt(b"\\ud800"), 400, BAD, "receipt"),
        Bad(
            "a key that is half of one",
            post(b'{"amount":10000,"notes":{"\\udfff":"a"}}'),
            400,
            BAD,
            "notes.\udfff",
        ),
        Bad("a surrogate in UTF-8 (CESU)", receipt(b"\xed\xa0\x80"), 400, BAD),
        Bad("a byte that is no UTF-8", receipt(b"\xff"), 400, BAD),
        Bad("an overlong slash", receipt(b"\xc0\xaf"), 400, BAD),
        Bad("256 characters", receipt(b"x" * 256), 400, BAD, "receipt"),
        Bad("NUL in a query", get("/api/v1/orders?receipt=%00"), 400, BAD, "receipt"),
        Bad("no UTF-8 in a query: read as \N{REPLACEMENT CHARACTER}", get("/api/v1/orders?receipt=%ff"), 200),
        Bad("half an escape in a query: read as it is", get("/api/v1/orders?receipt=%zz"), 200),
    ],
    "JSON": [
        Bad("nothing but a space", post(b" "), 400, BAD),
        Bad("cut off", post(b'{"amount":10000'), 400, BAD),
        Bad("two objects", post(b'{"amount":10000}{}'), 400, BAD),
        Bad("a comma at the end", post(b'{"amount":10000,}'), 400, BAD),
        Bad("single quotes", post(b"{'amount':10000}"), 400, BAD),
        Bad("a comment", post(b'{"amount":10000/* */}'), 400, BAD),
        Bad("a list", post(b"[]"), 400, BAD),
        Bad("`null`", post(b"null"), 400, BAD),
        Bad(
            "30,000 lists in each other",
            post(b'{"amount":10000,"x":%s}' % (b"[" * 30_000 + b"]" * 30_000)),
            400,
            BAD,
        ),
        Bad("65,536 lists that never end", post(b"[" * MAX_BODY_BYTES), 400, BAD),
        Bad("13,000 objects that never end", post(b'{"a":' * 13_000), 400, BAD),
        Bad("2,000 objects in each other", nested(2000), 400, BAD),
        Bad("1,000 of them, in what is ignored", nested(1000), 201),
        Bad("with an Idempotency-Key", nested(1000, "Idempotency-Key: deep\r\n"), 400, BAD),
        Bad(
            "16 notes",
            post(json.dumps({"amount": 10000, "notes": dict.fromkeys("abcdefghijklmnop", "")}).encode()),
            400,
            BAD,
            "notes",
        ),
    ],
    "Encodings and media types": [
        Bad("a byte order mark", post(b'\xef\xbb\xbf{"amount":10000}'), 400, BAD),
        Bad("UTF-16", post('{"amount":10000}'.encode("utf-16")), 400, BAD),
        Bad(
            "UTF-16 that says so",
            post('{"amount":10000}'.encode("utf-16"), "Content-Type: application/json; charset=utf-16\r\n"),
            415,
            MEDIA,
        ),
        Bad("UTF-32", post('{"amount":10000}'.encode("utf-32-le")), 400, BAD),
        Bad("Latin-1", receipt("é".encode("latin-1")), 400, BAD),
        Bad("no Content-Type", post(b'{"amount":10000}', ""), 415, MEDIA),
        Bad(
            "a form", post(b"amount=10000", "Content-Type: application/x-www-form-urlencoded\r\n"), 415, MEDIA
        ),
        Bad("gzip", post(b"\x1f\x8b\x08\0", JSON + "Content-Encoding: gzip\r\n"), 400, BAD),
        Bad("`Accept: text/html`", get("/api/v1/orders", "Accept: text/html\r\n"), 406, "NOT_ACCEPTABLE"),
    ],
    "Size": [
        Bad("64 KiB and a byte", post(b'{"amount":10000}'.ljust(MAX_BODY_BYTES + 1)), 413, LARGE),
        Bad(
            "64 KiB and a byte, in chunks",
            chunked(b'{"amount":10000}', b" " * (MAX_BODY_BYTES - 15)),
            413,
            LARGE,
        ),
        Bad("a petabyte, announced", post(b"{}", length=str(10**15)), 413, LARGE),
        Bad("64 KiB", post(b'{"amount":10000}'.ljust(MAX_BODY_BYTES)), 201),
        Bad("a target of 5,000 characters", get("/api/v1/orders?q=" + "x" * 5000), 414),
        Bad("one of 4,000: its `q` is too long", get("/api/v1/orders?q=" + "x" * 4000), 400, BAD, "q"),
        Bad("a header of 9,000 characters", get("/api/v1/orders", f"X-Any: {'x' * 9000}\r\n"), 431),
        Bad("100 headers", get("/api/v1/orders", "".join(f"X-{n}: 1\r\n" for n in range(100))), 431),
        Bad(
            "an Idempotency-Key of 256 characters",
            post(b'{"amount":10000}', JSON + f"Idempotency-Key: {'k' * 256}\r\n"),
            400,
            BAD,
            "Idempotency-Key",
        ),
        Bad(
            "an empty one",
            post(b'{"amount":10000}', JSON + "Idempotency-Key:\r\n"),
            400,
            BAD,
            "Idempotency-Key",
        ),
        Bad(
            "one in Latin-1",
            post(b'{"amount":10000}', JSON + "Idempotency-Key: é\r\n"),
            400,
            BAD,
            "Idempotency-Key",
        ),
    ],
    "Addresses": [
        Bad("`/static/dashboard/../../config.py`", get("/static/dashboard/../../config.py"), 404, NOTHING),
        Bad("`..%2f..%2fconfig.py`", get("/static/dashboard/..%2f..%2fconfig.py"), 404, NOTHING),
        Bad("`%2e%2e/%2e%2e/config.py`", get("/static/dashboard/%2e%2e/%2e%2e/config.py"), 404, NOTHING),
        Bad("`..%5c..%5cconfig.py`", get("/sdk/..%5c..%5cconfig.py"), 404, NOTHING),
        Bad("`//etc/passwd`: of two slashes one is made", get("/static/dashboard//etc/passwd"), 308),
        Bad("NUL in a file's name", get("/static/dashboard/index.html%00.js"), 404, NOTHING),
        Bad("NUL in an id", get("/api/v1/orders/order_a%00b"), 404, NOTHING),
        Bad("no UTF-8 in an id", get("/api/v1/orders/order_%ff"), 404, NOTHING),
        Bad("an id of 81 characters", get(f"/api/v1/orders/order_{'x' * 75}"), 404, NOTHING),
        Bad("a slash at the end", get("/api/v1/orders/"), 404, NOTHING),
        Bad("raw bytes", b"GET /api/v1/orders/\xff HTTP/1.1\r\nHost: gateway\r\n\r\n", 400),
        Bad("a space", get("/api/v1/or ders"), 400),
    ],
    "Methods": [
        Bad("`PUT /orders`", get("/api/v1/orders", method="PUT"), 405, METHOD),
        Bad("`GET /payments/public`, which is no id", get("/api/v1/payments/public"), 405, METHOD),
        Bad("`GET /webhooks/retry`", get("/api/v1/webhooks/retry"), 405, METHOD),
        Bad("`TRACE /orders`", get("/api/v1/orders", method="TRACE"), 405, METHOD),
        Bad("`BREW /orders`", get("/api/v1/orders", method="BREW"), 405, METHOD),
        Bad(
            "`X-HTTP-Method-Override: DELETE`: ignored",
            get("/api/v1/balance", "X-HTTP-Method-Override: DELETE\r\n"),
            200,
        ),
    ],
    "HTTP": [
        Bad("two lengths", post(b"{}", JSON + "Content-Length: 3\r\n"), 400),
        Bad("a length and chunks", post(b"{}", JSON + "Transfer-Encoding: chunked\r\n"), 400),
        Bad("a length of -1", post(b"{}", length="-1"), 400),
        Bad("a chunk of no length", chunked(b"{}").replace(b"\r\n2\r\n", b"\r\nzz\r\n"), 400, BAD),
        Bad("NUL in a header", get("/api/v1/orders", "X-Any: a\0b\r\n"), 400),
        Bad("a bare line feed in a header", get("/api/v1/orders", "X-Any: a\nb\r\n"), 400),
        Bad("a folded header", get("/api/v1/orders", "X-Any: a\r\n b\r\n"), 400),
        Bad("`Expect: 200-maybe`", post(b"{}", JSON + "Expect: 200-maybe\r\n"), 417),
        Bad("HTTP/9.9", b"GET /health HTTP/9.9\r\nHost: gateway\r\n\r\n", 400),
        Bad("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
}
EVERY = [row for rows in TABLES.values() for row in rows]


def table() -> str:
    parts = []
    for name, rows in TABLES.items():
        parts += [f"## {name}", "", "| input | status | code | field |", "|---|---|---|---|"]
        for row in rows:
            code = f"`{row.code}`" if row.code else ""
            field = f"`{row.field}`".encode("ascii", "backslashreplace").decode() if row.field else ""
            parts.append(f"| {row.what} | {row.status} | {code} | {field} |")
        parts.append("")
    return "\n".join(parts)


def document() -> str:
    head = FILE.read_text().partition(TABLE)[0]
    return f"{head}{TABLE}\n\n{table()}"


def answer_to(sent: bytes, port: int) -> tuple[int, str, dict[str, str], bytes]:
    """Status, its words, headers and body."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(sent)
        read = b""
        try:
            while part := client.recv(65536):
                read += part
        except ConnectionResetError:
            pass  # it had an answer before it had all of the body
    head, _, body = read.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(each.split(": ", 1) for each in lines)
    return int(line.split(" ")[1]), line, headers, body


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with temporary_folder() as folder, gateway(folder / "data") as running:
        yield running
        assert " broke" not in running.log
        assert "Traceback" not in running.log


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.what[:40].encode("ascii", "replace").decode())
def test_it_is_answered_as_documented(running: Running, row: Bad) -> None:
    assert len(row.sent) < SMALL
    status, _line, headers, body = answer_to(row.sent, running.port)
    assert status == row.status, body
    if row.code is not None:
        error = json.loads(body)["error"]
        assert (error["code"], error.get("field")) == (row.code, row.field)
        assert error["request_id"] == headers["X-Request-Id"]
        assert ("Allow" in headers) == (status == 405)


def test_the_document_has_this_table() -> None:
    assert FILE.read_text() == document(), "python -m tests.test_bad_inputs"


def test_nobody_waits_for_the_rest_of_a_body_that_is_too_large(running: Running) -> None:
    head = post(b"", length=str(10**9)).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert answer_to(head, running.port)[0] == 413


if __name__ == "__main__":
    FILE.write_text(document())
