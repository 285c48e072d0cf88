"""The chart of docs/performance.md, an SVG written by hand: how far each target is reached, and what share of
its limit each figure. It follows the reader's light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from bench.figures import FIGURES, TARGETS, Book, with_unit

# All in pixels.
WIDTH = 920
LABELS = 280  # the left column: what it is
BARS = 380  # the middle one; the rest holds the words of a bar
HEAD = 84  # a panel's title and axis
ROW = 38
BAR = 16
GAP = 20  # between panels

TARGET_AT = 0.5  # of a bar's length: what is twice as good as its target, or better, fills it
STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 }
    .soft { fill: #59636e; font-size: 12px }
    .back { fill: #ffffff } .track { fill: #eaeef2 } .grid { stroke: #d1d9e0 } .goal { stroke: #1f2328 }
    .met { fill: #1a7f37 } .missed { fill: #cf222e } .share { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .soft { fill: #9198a1 }
      .back { fill: #0d1117 } .track { fill: #21262d } .grid { stroke: #3d444d } .goal { stroke: #e6edf3 }
      .met { fill: #3fb950 } .missed { fill: #f85149 } .share { fill: #4493f8 }
    }"""


@dataclass(frozen=True)
class Bar:
    """One line of a panel. `length` is a share of the whole; `kind` is its class in STYLE."""

    title: str
    under: str
    length: float
    kind: str
    words: str


@dataclass(frozen=True)
class Panel:
    """Some bars on one axis; `ticks` are words by their place, a share of the whole."""

    title: str
    ticks: dict[float, str]
    bars: list[Bar]
    goal: float | None = None  # where a line stands that is to be passed

    @property
    def height(self) -> int:
        return HEAD + ROW * len(self.bars)


def chart(book: Book) -> str:
    """An SVG document."""
    panels = [_targets(book), _limits(book)]
    height = sum(panel.height + GAP for panel in panels)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="Targets and limits of the benchmark">',
        f"  <style>{STYLE}\n  </style>",
        f'  <rect class="back" width="{WIDTH}" height="{height}" rx="8"/>',
    ]
    top = 0
    for panel in panels:
        lines += [
            f'  <g transform="translate(0 {top})">',
            *(f"    {line}" for line in _drawn(panel)),
            "  </g>",
        ]
        top += panel.height + GAP
    return "\n".join([*lines, "</svg>\n"])


def _targets(book: Book) -> Panel:
    bars = []
    for target in TARGETS:
        measured = book.measured(target).median
        kind = "met" if target.is_met(measured) else "missed"
        words = f"{with_unit(measured, target.unit)} {kind}"
        bars.append(Bar(target.title, target.bound, target.score(measured) * TARGET_AT, kind, words))
    return Panel("Targets", {0: "0", TARGET_AT: "the target", 1: "twice as good"}, bars, TARGET_AT)


def _limits(book: Book) -> Panel:
    bars = []
    for figure in FIGURES:
        if figure.limit in book.values and figure.limit is not None and figure.unit == "/s":
            share = book.share(figure.key, figure.limit).median
            words = f"{share:.2f} ({with_unit(book.summary(figure.key).median, figure.unit)})"
            bars.append(Bar(figure.title, f"of {figure.limit_title}", share, "share", words))
    return Panel("Shares of the limit, measured in the same run", {0: "0", 0.5: "half", 1: "the limit"}, bars)


def _drawn(panel: Panel) -> Iterator[str]:
    yield f'<text class="title" x="20" y="34">{escape(panel.title)}</text>'
    foot = panel.height - (ROW - BAR) / 2
    for place, words in panel.ticks.items():
        at = f"{LABELS + BARS * place:g}"
        yield f'<text class="soft" text-anchor="middle" x="{at}" y="{HEAD - 18}">{escape(words)}</text>'
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{HEAD - 10}" y2="{foot:g}"/>'
    x = LABELS - 14
    for number, bar in enumerate(panel.bars):
        y = HEAD + ROW * number
        length = BARS * max(0.003, min(1.0, bar.length))  # a little of the shortest is seen too
        yield f'<text text-anchor="end" x="{x}" y="{y + 9}">{escape(bar.title)}</text>'
        yield f'<text class="soft" text-anchor="end" x="{x}" y="{y + 24}">{escape(bar.under)}</text>'
        yield f'<rect class="track" x="{LABELS}" y="{y}" width="{BARS}" height="{BAR}" rx="3"/>'
        yield f'<rect class="{bar.kind}" x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="3"/>'
        yield f'<text x="{LABELS + BARS + 14}" y="{y + 13}">{escape(bar.words)}</text>'
    if panel.goal is not None:
        at = f"{LABELS + BARS * panel.goal:g}"
        yield f'<line class="goal" stroke-width="2" x1="{at}" x2="{at}" y1="{HEAD - 10}" y2="{foot:g}"/>'
