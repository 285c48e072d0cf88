// A webhook receiver with nothing but Node: verifies each signature, prints each event.
//
//     node docs/examples/receiver_node_crypto.mjs whsec_... [port]
//
// It listens on http://localhost:4000/webhook.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.argv[2] || process.env.WEBHOOK_SECRET || "";
const port = Number(process.argv[3] ?? 4000);
const toleranceS = 300; // an older message may be somebody's recording of it

const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
if (!key.length) {
  console.error("usage: node receiver_node_crypto.mjs whsec_... [port]");
  process.exit(1);
}

function verified(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  const fresh = Math.abs(Date.now() / 1000 - Number(timestamp)) <= toleranceS; // NaN is not
  if (!id || !signatures || !fresh) return false;
  const hmac = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body); // the raw bytes
  const expected = Buffer.from(`v1,${hmac.digest("base64")}`);
  const given = signatures.split(" ").map((signature) => Buffer.from(signature));
  return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}

function nameOf(body) {
  try {
    return JSON.parse(body).event;
  } catch {} // not JSON
}

createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    const good = verified(request.headers, body);
    const event = good && nameOf(body); // what is not signed is not read
    response.writeHead(event ? 204 : 400).end();
    const id = request.headers["webhook-id"] ?? "-";
    console.log(`${(event || "-").padEnd(20)} ${id}  signature ${good ? "verified" : "WRONG"}`);
  });
}).listen(port, "127.0.0.1");
