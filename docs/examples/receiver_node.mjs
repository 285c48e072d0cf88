// A webhook receiver with Node and standardwebhooks: verifies each signature, prints each event.
//
//     npm install standardwebhooks
//     node docs/examples/receiver_node.mjs whsec_... [port]
//
// It listens on http://localhost:4000/webhook.

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const secret = process.argv[2] || process.env.WEBHOOK_SECRET;
const port = Number(process.argv[3] ?? 4000);
if (!secret) {
  console.error("usage: node receiver_node.mjs whsec_... [port]");
  process.exit(1);
}

const webhook = new Webhook(secret);

function verified(headers, body) {
  try {
    webhook.verify(body, headers, { jsonParse: false }); // the raw bytes
    return true;
  } catch {
    return false;
  }
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
