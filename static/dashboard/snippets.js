/* The code of the integration guide. Each is a function of the values that are filled in, and runs as it is. */

export const ORDER = { amount: 34_900, currency: "INR", receipt: "order-1042" };
export const RECEIVER_PORT = 4000; // where the test merchant's endpoint points

/* --- calls ----------------------------------------------------------------------------------------- */

/** One call in each language. `name` is what the answer is, of which the fields in `print` are printed. */
export function call(method, path, { name, body, headers = () => ({}), print }) {
  const asked = (values) => ({
    values, url: values.api + (typeof path === "function" ? path(values) : path), body: body?.(values), headers: Object.entries(headers(values)),
  });
  return {
    curl: (values) => curlOf(method, asked(values)),
    python: (values) => pythonOf(method, name, print, asked(values)),
    node: (values) => nodeOf(method, name, print, asked(values)),
  };
}

function curlOf(method, { values, url, body, headers }) {
  return [
    `curl ${method === "GET" ? "" : `-X ${method} `}${url}`,
    `-H 'X-Api-Key: ${values.key}'`, `-H 'X-Api-Secret: ${values.secret}'`,
    ...headers.map(([name, value]) => `-H '${name}: ${value}'`),
    ...(body ? ["-H 'Content-Type: application/json'", `-d '${asJson(body)}'`] : []),
  ].join(" \\\n  ");
}

function pythonOf(method, name, print, { values, url, body, headers }) {
  return `import requests

answer = requests.${method.toLowerCase()}(
    "${url}",
    auth=("${values.key}", "${values.secret}"),${headers.length ? `\n    headers=${asJson(Object.fromEntries(headers))},` : ""}${body ? `\n    json=${asJson(body)},` : ""}
    timeout=20,
)
if not answer.ok:
    raise SystemExit(answer.text)
${name} = answer.json()
print(${print.map((field) => `${name}["${field}"]`).join(", ")})
`;
}

function nodeOf(method, name, print, { values, url, body, headers }) {
  const all = [
    ...(body ? [["Content-Type", "application/json"]] : []), ["X-Api-Key", values.key], ["X-Api-Secret", values.secret], ...headers,
  ];
  return `const answer = await fetch("${url}", {${method === "GET" ? "" : `\n  method: "${method}",`}
  headers: {
${all.map(([header, value]) => `    "${header}": "${value}",`).join("\n")}
  },${body ? `\n  body: JSON.stringify(${asObject(body)}),` : ""}
});
if (!answer.ok) throw new Error(await answer.text());
const ${name} = await answer.json();
console.log(${print.map((field) => `${name}.${field}`).join(", ")});
`;
}

/** {"amount": 34900, "currency": "INR"}: JSON, and Python as well. */
function asJson(value) {
  return JSON.stringify(value, null, 1).replace(/\n\s*/g, " ").replace(/^\{ | \}$/g, (edge) => edge.trim());
}

function asObject(value) {
  return `{ ${Object.entries(value).map(([name, inner]) => `${name}: ${JSON.stringify(inner)}`).join(", ")} }`;
}

/* --- the checkout on a shop's page ----------------------------------------------------------------- */

export function sdk({ checkout, key, order }) {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Pay</title>
<button type="button" id="pay">Pay</button>

<script src="${checkout}/checkout.js"></script>
<script>
  document.getElementById("pay").addEventListener("click", () => {
    new PaymentGateway({
      key: "${key}", // the id of your key, never its secret
      orderId: "${order}", // your server has created it
      onSuccess: (payment) => {
        console.log("paid", payment.paymentId); // show it; your server makes sure of it
      },
      onFailure: (failure) => {
        console.log(failure.code, failure.reason); // the shopper may try again
      },
      onClose: () => {
        console.log("closed");
      },
    }).open();
  });
</script>
</html>
`;
}

/* --- webhooks -------------------------------------------------------------------------------------- */

export function verifyByShell({ webhookSecret }) {
  return `# bash verify.sh BODY_FILE WEBHOOK_ID WEBHOOK_TIMESTAMP WEBHOOK_SIGNATURE
# The file holds the body byte for byte, the others are the headers of that name.
secret='${webhookSecret}'
file=$1 id=$2 timestamp=$3 signatures=$4

key=$(printf %s "\${secret#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \\n')
expected=$({ printf %s.%s. "$id" "$timestamp"; cat "$file"; } |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)

case " $signatures " in
  *" v1,$expected "*) echo "genuine" ;;
  *) echo "not genuine"; exit 1 ;;
esac
`;
}

export function receiverFlask({ webhookSecret, path, port }) {
  return `from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

ours = Webhook("${webhookSecret}")
app = Flask(__name__)


@app.post("${path}")
def webhook():
    try:
        event = ours.verify(request.get_data(), request.headers)  # the raw bytes
    except (WebhookVerificationError, ValueError):  # ValueError: something is malformed
        return "", 400
    print(event["event"], event["id"], flush=True)  # may come twice: act once
    return "", 204


app.run(port=${port})
`;
}

export function receiverNode({ webhookSecret, port }) {
  return `import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const ours = new Webhook("${webhookSecret}");

createServer(async (request, response) => {
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const event = ours.verify(Buffer.concat(chunks), request.headers); // the raw bytes
    console.log(event.event, event.id); // may come twice: act once
    response.writeHead(204).end();
  } catch {
    response.writeHead(400).end();
  }
}).listen(${port});
`;
}

export function receiverPython({ webhookSecret, port }) {
  return `import base64
import hashlib
import hmac
import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = "${webhookSecret}"
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
TOLERANCE_S = 300  # an older message may be somebody's recording of it


def is_genuine(headers, body):
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    message_id, timestamp, signatures = (headers[name] or "" for name in names)
    if not timestamp.isdecimal() or abs(time.time() - float(timestamp)) > TOLERANCE_S:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256))
    return any(hmac.compare_digest(expected, given.encode()) for given in signatures.split())


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))  # the raw bytes
        genuine = is_genuine(self.headers, body)
        if genuine:
            event = json.loads(body)
            print(event["event"], event["id"], flush=True)  # may come twice: act once
        self.send_response(204 if genuine else 400)
        self.end_headers()


HTTPServer(("127.0.0.1", ${port}), Receiver).serve_forever()
`;
}

export function receiverCrypto({ webhookSecret, port }) {
  return `import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = "${webhookSecret}";
const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
const toleranceS = 300; // an older message may be somebody's recording of it

function isGenuine(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  const fresh = Math.abs(Date.now() / 1000 - Number(timestamp)) <= toleranceS; // NaN is not
  if (!id || !signatures || !fresh) return false;
  const hmac = createHmac("sha256", key).update(\`\${id}.\${timestamp}.\`).update(body); // the raw bytes
  const expected = Buffer.from(\`v1,\${hmac.digest("base64")}\`);
  const given = signatures.split(" ").map((signature) => Buffer.from(signature));
  return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}

createServer(async (request, response) => {
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (!isGenuine(request.headers, body)) throw new Error("not genuine");
    const event = JSON.parse(body);
    console.log(event.event, event.id); // may come twice: act once
    response.writeHead(204).end();
  } catch {
    response.writeHead(400).end();
  }
}).listen(${port});
`;
}

/* --- until there is an answer ---------------------------------------------------------------------- */

export function retryByShell({ api, key, secret }) {
  return `# One key for one order, however often it is asked for.
once=$(openssl rand -hex 16)

curl --retry 4 --retry-connrefused --max-time 20 -X POST ${api}/orders \\
  -H 'X-Api-Key: ${key}' \\
  -H 'X-Api-Secret: ${secret}' \\
  -H "Idempotency-Key: $once" \\
  -H 'Content-Type: application/json' \\
  -d '${asJson(ORDER)}'
`;
}

export function retryPython({ api, key, secret }) {
  return `import time
import uuid

import requests

TRIES = 5
WORTH_ANOTHER_TRY = (409, 429, 500, 502, 503, 504)


def create_order(order):
    once = str(uuid.uuid4())  # one key for one order, however often it is asked for
    for tries in range(TRIES):
        wait_s = 2**tries
        try:
            answer = requests.post(
                "${api}/orders",
                auth=("${key}", "${secret}"),
                headers={"Idempotency-Key": once},
                json=order,
                timeout=20,
            )
        except requests.RequestException:
            pass  # nobody knows whether it took effect
        else:
            if answer.ok:
                return answer.json()
            if answer.status_code not in WORTH_ANOTHER_TRY:
                error = answer.json()["error"]
                raise ValueError(f"{error['code']}: {error['description']} ({error['request_id']})")
            wait_s = int(answer.headers.get("Retry-After", wait_s))
        time.sleep(wait_s)
    raise TimeoutError("The gateway did not answer.")


order = create_order(${asJson(ORDER)})
print(order["id"], order["checkout_url"])
`;
}

export function retryNode({ api, key, secret }) {
  return `import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const tries = 5;
const worthAnotherTry = [409, 429, 500, 502, 503, 504];

async function createOrder(order) {
  const once = randomUUID(); // one key for one order, however often it is asked for
  for (let n = 0; n < tries; n += 1) {
    let waitS = 2 ** n;
    const answer = await fetch("${api}/orders", {
      method: "POST",
      signal: AbortSignal.timeout(20_000),
      headers: {
        "Content-Type": "application/json",
        "X-Api-Key": "${key}",
        "X-Api-Secret": "${secret}",
        "Idempotency-Key": once,
      },
      body: JSON.stringify(order),
    }).catch(() => null); // nobody knows whether it took effect
    if (answer?.ok) return answer.json();
    if (answer && !worthAnotherTry.includes(answer.status)) {
      const { error } = await answer.json();
      throw new Error(\`\${error.code}: \${error.description} (\${error.request_id})\`);
    }
    waitS = Number(answer?.headers.get("Retry-After") ?? waitS);
    await sleep(waitS * 1000);
  }
  throw new Error("The gateway did not answer.");
}

const order = await createOrder(${asObject(ORDER)});
console.log(order.id, order.checkout_url);
`;
}
