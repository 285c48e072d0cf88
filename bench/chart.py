"""The chart of docs/performance.svg, written by hand: how far each target is reached, and how near its limit each
figure comes. It follows the reader's light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bench.figures import FIGURES, TARGETS, Book, Target, number

WIDTH = 860
LABELS = 300  # px of the left column
BARS = 400  # px between its end and the right column, which holds the words
ROW = 34
BAR = 16
TOP = 84  # px of a panel's title and axis
TARGETS_TO = 2.0  # times the target, at the right end; what is beyond is cut, its words are not
STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2328 }
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


def chart(book: Book) -> str:
    """An SVG document."""
    shown = [target for target in TARGETS if target.key in book.values]
    limited = [each for each in FIGURES if each.limit in book.values and each.unit == "/s"]
    second = TOP + ROW * len(shown) + 20
    height = second + TOP + ROW * len(limited) + 16
    body = [*_targets(book, shown, 0), *_limits(book, limited, second)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-label="Targets and limits of the benchmark">',
            f"  <style>{STYLE}\n  </style>",
            f'  <rect class="back" width="{WIDTH}" height="{height}" rx="8"/>',
            *(f"  {line}" for line in body),
            "</svg>\n",
        ]
    )


def _targets(book: Book, shown: list[Target], top: int) -> Iterator[str]:
    yield from _heading(top, "Targets", "how far each is reached: right of the line it is met")
    yield from _axis(top, len(shown), [(0, "0"), (0.5, "the target"), (1, "twice as good")])
    for row, target in enumerate(shown):
        measured = book.measured(target).median
        kind = "met" if target.is_met(measured) else "missed"
        words = f"{_figure(measured, target.unit)} ({target.bound})"
        yield from _bar(top, row, target.title, target.score(measured) / TARGETS_TO, kind, words)
    x = LABELS + BARS / 2
    yield f'<line class="goal" stroke-width="2" x1="{x:g}" x2="{x:g}" y1="{top + TOP - 8}" y2="{top + TOP + ROW * len(shown) - 8}"/>'


def _limits(book: Book, limited: list, top: int) -> Iterator[str]:
    yield from _heading(
        top, "Limits", "what share each reaches of the fastest there could be, from the same run"
    )
    yield from _axis(top, len(limited), [(0, "0"), (0.5, "half of it"), (1, "its limit")])
    for row, figure in enumerate(limited):
        share = book.share(figure.key, figure.limit).median
        title = f"{figure.title}"
        yield from _bar(top, row, title, share, "share", f"{share:.2f}", under=f"of {figure.limit_title}")


def _heading(top: int, title: str, words: str) -> Iterator[str]:
    yield f'<text class="title" x="20" y="{top + 32}">{title}</text>'
    yield f'<text class="soft" x="{20 + 9 * len(title) + 12}" y="{top + 32}">{words}</text>'


def _axis(top: int, rows: int, ticks: list[tuple[float, str]]) -> Iterator[str]:
    for share, words in ticks:
        x = LABELS + BARS * share
        yield f'<text class="soft" text-anchor="middle" x="{x:g}" y="{top + TOP - 18}">{words}</text>'
        yield f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="{top + TOP - 8}" y2="{top + TOP + ROW * rows - 8}"/>'


def _bar(
    top: int, row: int, title: str, share: float, kind: str, words: str, *, under: str = ""
) -> Iterator[str]:
    y = top + TOP + ROW * row
    width = max(1.0, BARS * min(1.0, share))
    yield f'<rect class="track" x="{LABELS}" y="{y}" width="{BARS}" height="{BAR}" rx="3"/>'
    yield f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3"/>'
    yield f'<text text-anchor="end" x="{LABELS - 12}" y="{y + (7 if under else 13)}">{escape(title)}</text>'
    if under:
        yield f'<text class="soft" text-anchor="end" x="{LABELS - 12}" y="{y + 22}">{escape(under)}</text>'
    yield f'<text x="{LABELS + BARS + 12}" y="{y + 13}">{escape(words)}</text>'


def _figure(value: float, unit: str) -> str:
    return f"{value:.2f}" if not unit else f"{number(value)} {unit}"
