/* Charts: drawn as SVG to the width there is, read with the mouse, the keyboard, or as a table. */

import { el, svg } from "./dom.js";

const LABEL_WIDTH = 56; // for the amounts beside the plot
const LABEL_HEIGHT = 20; // for the days below it
const TICKS = 4;
const BAR_SHARE = 0.72; // of a bar's place; the rest is air

/** Bars, and perhaps a line of per cents over them.
 *
 *  `points`: [{label, said, values: [n, ...], line: per cent or null}]; the values of a point are stacked.
 *  `series`: names of the values; `lineName`. `axis(n)` words a figure of the axis.
 *  `columns`: [[name, point => text], ...] of the table, which says the same.
 */
export function barChart({ name, points, series, lineName, axis, columns, whole = false }) {
  const plot = el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": points.length - 1 });
  const readout = el("p", { class: "readout", "aria-hidden": "true" });
  let at = points.length - 1;
  let active = false;

  function draw() {
    const { width, height } = plot.getBoundingClientRect();
    if (!width || !height) return;
    const left = LABEL_WIDTH;
    const bottom = height - LABEL_HEIGHT;
    const top = scale(Math.max(...points.map(sum), 0), whole);
    const step = (width - left) / points.length;
    const y = (value) => bottom - (value / top) * (bottom - 8);
    const x = (index) => left + index * step;
    const drawing = svg("svg", { "aria-hidden": "true" });
    for (let tick = 0; tick <= TICKS; tick += 1) {
      const value = (top / TICKS) * tick;
      drawing.append(svg("line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) }),
        svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, axis(value)));
    }
    points.forEach((point, index) => {
      let base = 0;
      point.values.forEach((value, which) => {
        if (value > 0) {
          const air = step * (1 - BAR_SHARE) / 2;
          drawing.append(svg("rect", {
            class: `mark ${["", "second", "third"][which]} ${active && index !== at ? "off" : ""}`,
            x: x(index) + air, width: Math.max(1, step * BAR_SHARE), rx: Math.min(3, step / 6),
            y: y(base + value), height: Math.max(1, y(base) - y(base + value)),
          }));
        }
        base += value;
      });
    });
    const every = Math.ceil(points.length / Math.max(2, Math.floor((width - left) / 72)));
    points.forEach((point, index) => {
      if ((points.length - 1 - index) % every === 0) {
        const last = index === points.length - 1 && points.length > 8;
        drawing.append(svg("text", { x: last ? width : x(index) + step / 2, y: height - 4, "text-anchor": last ? "end" : "middle" }, point.label));
      }
    });
    if (lineName) {
      const dots = points.map((point, index) => [x(index) + step / 2, point.line]).filter(([, line]) => line !== null);
      const place = (line) => bottom - (line / 100) * (bottom - 8);
      if (dots.length > 1) drawing.append(svg("polyline", { class: "line", points: dots.map(([px, line]) => `${px},${place(line)}`).join(" ") }));
      if (dots.length === 1) drawing.append(svg("circle", { class: "dot", cx: dots[0][0], cy: place(dots[0][1]), r: 4 }));
      if (active && points[at].line !== null) drawing.append(svg("circle", { class: "dot", cx: x(at) + step / 2, cy: place(points[at].line), r: 4 }));
    }
    if (active) drawing.append(svg("line", { class: "cursor", x1: x(at) + step / 2, x2: x(at) + step / 2, y1: 0, y2: bottom }));
    plot.replaceChildren(drawing);
  }

  function look(index, now = true) {
    at = Math.max(0, Math.min(points.length - 1, index));
    active = now;
    plot.setAttribute("aria-valuenow", at);
    plot.setAttribute("aria-valuetext", `${points[at].label}: ${points[at].said}`);
    readout.replaceChildren(el("strong", {}, points[at].label), ` ${points[at].said}`);
    draw();
  }

  plot.addEventListener("pointermove", (event) => {
    const { left, width } = plot.getBoundingClientRect();
    look(Math.floor(((event.clientX - left - LABEL_WIDTH) / (width - LABEL_WIDTH)) * points.length));
  });
  plot.addEventListener("pointerleave", () => document.activeElement !== plot && look(points.length - 1, false));
  plot.addEventListener("focus", () => plot.matches(":focus-visible") && look(at));
  plot.addEventListener("blur", () => look(points.length - 1, false));
  plot.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, Home: 0, End: points.length - 1, PageUp: at + 7, PageDown: at - 7 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    look(moves[event.key]);
  });
  new ResizeObserver(draw).observe(plot);
  look(at, false);

  const legend = [...series, ...(lineName ? [lineName] : [])];
  return el("figure", { class: "chart" },
    legend.length > 1 && el("figcaption", { class: "legend" }, legend.map((text, i) => el("span", { class: ["", "second", "third"][i] }, text))),
    plot, readout,
    el("details", {}, el("summary", {}, "As a table"),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${name}, as a table` },
        el("table", { class: "keep" }, el("caption", { class: "unseen" }, name),
          el("thead", {}, el("tr", {}, columns.map(([title], i) => el("th", { scope: "col", class: i ? "right" : null }, title)))),
          el("tbody", {}, points.map((point) => el("tr", {}, columns.map(([, cell], i) =>
            i ? el("td", { class: "right number" }, cell(point)) : el("th", { scope: "row" }, cell(point))))))))));
}

/** A share as a bar: `of` is the longest. */
export function meter(share, tone = "") {
  return el("span", { class: `meter ${tone}`, "aria-hidden": "true" },
    svg("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none" }, svg("rect", { width: Math.max(share > 0 ? 1 : 0, share * 100), height: 1 })));
}

function sum(point) {
  return point.values.reduce((total, value) => total + value, 0);
}

/** The axis' end: a round figure (1, 2, 4 or 8, and so on) at or above the highest bar. */
function scale(highest, whole) {
  if (highest <= 0) return whole ? TICKS : 100;
  const power = 10 ** Math.floor(Math.log10(highest));
  const top = [1, 2, 4, 8, 10].map((n) => n * power).find((n) => n >= highest);
  return whole ? Math.max(TICKS, Math.ceil(top / TICKS) * TICKS) : top;
}
