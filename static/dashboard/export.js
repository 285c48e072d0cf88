/* The CSV of all payments that the filters leave, with a sign of how far it is. The browser keeps what arrived
   as a file of its own, not as text in the page, so that any size will do. */

import { announce, el, put } from "./dom.js";
import { getRaw } from "./api.js";
import { count, number } from "./format.js";
import { toast, wordsOf } from "./ui.js";

const QUOTE = 34;
const NEWLINE = 10;

/** `asked()` gives the filters. */
export function exportButton(context, asked) {
  const button = el("button", { type: "button" }, "Export CSV");
  button.addEventListener("click", () => run(context, asked()));
  return button;
}

async function run(context, query) {
  const stop = new AbortController();
  const bar = el("progress", { "aria-label": "Progress of the export" });
  const words = el("p", {}, "Asking …");
  const dialog = el("dialog", { "aria-labelledby": "export-title" },
    el("h2", { id: "export-title" }, "Exporting payments"), words, bar,
    el("div", { class: "choices" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  dialog.addEventListener("close", () => {
    stop.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  try {
    const response = await getRaw("/payments/export", query, stop.signal);
    const total = Number(response.headers.get("X-Total-Rows"));
    bar.max = Math.max(total, 1);
    let rows = -1; // the first line names the columns
    let quoted = false;
    let told = 0;
    const counted = response.body.pipeThrough(new TransformStream({
      transform(chunk, controller) {
        for (const byte of chunk) {
          if (byte === QUOTE) quoted = !quoted;
          else if (byte === NEWLINE && !quoted) rows += 1; // within quotes, it is part of a receipt
        }
        bar.value = Math.min(rows, bar.max);
        put(words, `${number(Math.max(rows, 0))} of ${count(total, "payment")}`);
        if (Math.floor((4 * rows) / bar.max) > told) announce(`${(told += 1) * 25} per cent`);
        controller.enqueue(chunk);
      },
    }));
    const file = await new Response(counted).blob();
    save(file, /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition"))?.[1] ?? "payments.csv");
    toast(`Exported ${count(rows, "payment")}.`);
  } catch (error) {
    if (error.name !== "AbortError") toast(error instanceof TypeError ? "The connection broke; nothing was saved. Try again." : wordsOf(error), "bad");
  } finally {
    dialog.close();
  }
}

function save(file, name) {
  const url = URL.createObjectURL(file);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
