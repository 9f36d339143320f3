#!/usr/bin/env python3
"""Draws the tables of docs/performance.md: what connections do to requests/s and p99, and waiting calls to memory.

    scripts/plots.py [PAGE] [FOLDER]

Reads PAGE (docs/performance.md) and writes performance-connections.svg and performance-waiting.svg to FOLDER (docs). The
pictures follow the reader's light or dark scheme by themselves.
"""

import math
import re
import sys
from html import escape
from pathlib import Path

# The rows that are drawn, with a title short enough for a panel.
CASES = {
    "`/AuthorizationHeaderUnauthenticated`, cached": "app token, cached",
    "`/AuthorizationHeader` on behalf of a user, cached": "user token, cached",
    "`/Validate`, token seen before": "token seen before",
    "`/healthz`": "/healthz",
    "`/DownstreamApiUnauthenticated`, 17 bytes, beside `proxy_pass`": "call of an API",
    "`/ProxyUnauthenticated`, 17 bytes, beside `proxy_pass`": "passed through",
}
CROWDS = {
    r"(\d+) callers, \d+ cold keys, Entra at (\d+ ms)": "callers wait for Entra",
    r"(\d+) calls of an API that takes (\d+ ms)": "calls wait for an API",
}

STYLE = """
svg { --paper: #fcfcfb; --ink: #0b0b0b; --muted: #52514e; --grid: #e1e0d9; --one: #2a78d6; --other: #d1551f }
@media (prefers-color-scheme: dark) {
  svg { --paper: #1a1a19; --ink: #ffffff; --muted: #c3c2b7; --grid: #383835; --one: #5598e7; --other: #e8794a }
}
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--muted) }
.title { fill: var(--ink); font-weight: 600 }
.paper { fill: var(--paper) }
.grid { stroke: var(--grid) }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.one { stroke: var(--one) } .other { stroke: var(--other); stroke-dasharray: 6 3 }
circle { stroke-width: 1.5; stroke-dasharray: none !important; stroke: var(--paper) !important }
circle.one { fill: var(--one) } circle.other { fill: var(--other) }
"""


# --- Reading --------------------------------------------------------------------------------------------------------


def rows(page):
    for line in page.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def number(cell):
    return float(cell.split()[0].replace(",", ""))


def connections(page):
    """By title: what each has at so many connections, as (connections, sidecar, nginx) for requests/s and for p99."""
    found = {}
    for row in rows(page):
        if len(row) == 12 and row[0] in CASES:
            count, rate, nginx, late, nginx_late = (number(row[at]) for at in (1, 2, 3, 6, 7))
            rates, delays = found.setdefault(CASES[row[0]], ([], []))
            rates.append((count, rate, nginx))
            delays.append((count, late, nginx_late))
    return found


def waiting(page):
    """By what is waited for: how many wait, and MiB of memory that they take."""
    found = {}
    for row in rows(page):
        for pattern, title in CROWDS.items():
            crowd, memory = re.fullmatch(pattern, row[0]), re.match(r"(\d+) KiB a caller", row[3] if len(row) > 3 else "")
            if crowd and memory:
                callers = int(crowd[1])
                found.setdefault(f"{title} ({crowd[2]})", []).append((callers, callers * int(memory[1]) / 1024))
    return {title: sorted(points) for title, points in found.items()}


# --- Drawing --------------------------------------------------------------------------------------------------------


def told(value):
    """Short, as beside an axis."""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def steps(most):
    """Round values from zero to just above the highest."""
    step = 10 ** math.floor(math.log10(most))
    step = next(step * share for share in (0.2, 0.25, 0.5, 1, 2) if most / (step * share) <= 5)
    return [step * at for at in range(math.ceil(most / step) + 1)]


def powers(least, most):
    """Powers of ten from below the least value, and where the axis ends."""
    most *= 1.25
    return [10.0**at for at in range(math.floor(math.log10(least)), math.floor(math.log10(most)) + 1)], most


class Picture:
    def __init__(self, width, height, title, described):
        self.width, self.height, self.parts = width, height, []
        self.head = f"<title>{escape(title)}</title><desc>{escape(described)}</desc>"

    def add(self, text):
        self.parts.append(text)

    def text(self, x, y, words, anchor="start", kind=""):
        kind = f' class="{kind}"' if kind else ""
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>')

    def rule(self, x1, y1, x2, y2):
        self.add(f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def series(self, kind, points):
        """Points as (x, y, what is shown on it)."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        self.add(f'<polyline class="line {kind}" points="{path}"/>')
        for x, y, words in points:
            self.add(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(words)}</title></circle>')

    def legend(self, x, y, entries):
        for kind, words in entries:
            self.add(f'<line class="line {kind}" x1="{x}" y1="{y - 4}" x2="{x + 26}" y2="{y - 4}"/>')
            self.text(x + 32, y, words, kind="title")
            x += 52 + 7 * len(words)

    def save(self, path):
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        paper = f'<rect class="paper" width="{self.width}" height="{self.height}" rx="8"/>'
        body = "\n".join(self.parts)
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n{self.head}\n<style>{STYLE}</style>\n{paper}\n{body}\n</svg>\n'
        path.write_text(svg)


def draw_connections(cases, path):
    left, gap, tall, width = 66, 14, 150, 960
    broad = (width - left - 20 - gap * (len(cases) - 1)) / len(cases)
    picture = Picture(width, 476, "Requests a second and 99th percentiles over connections",
                      "A line for the sidecar and one for nginx in each panel; the figures are in the table of this page.")
    picture.legend(left, 26, [("one", "entra-sidecar"), ("other", "nginx with a fixed answer of that size, or as a proxy")])
    counts = sorted({count for case in cases.values() for count, *_ in case[0]})
    reach = math.log2(counts[-1]) or 1
    for at, (unit, label) in enumerate((("requests/s", "requests/s"), ("µs", "p99, µs (log)"))):
        top = 84 + at * (tall + 50)
        values = [value for case in cases.values() for _, *pair in case[at] for value in pair]
        if at == 0:
            ticks = steps(max(values))
            share = lambda value: value / ticks[-1]
        else:
            ticks, most = powers(min(values), max(values))
            share = lambda value: math.log(value / ticks[0]) / math.log(most / ticks[0])
        level = lambda value: top + tall - tall * share(value)
        picture.text(12, top - 30 + 18 * at, label)
        for tick in ticks:
            picture.text(left - 8, level(tick) + 4, told(tick), "end")
        for column, (title, case) in enumerate(cases.items()):
            start = left + column * (broad + gap)
            for tick in ticks:
                picture.rule(start, level(tick), start + broad, level(tick))
            place = lambda count: start + 10 + (broad - 20) * math.log2(count) / reach
            if at == 0:
                picture.text(start, top - 12, title, kind="title")
            for count, *_ in case[at]:
                picture.text(place(count), top + tall + 17, f"{count:.0f}" if count < 1000 else f"{count / 1000:.0f}k", "middle")
            for kind, name, of in (("other", "nginx", 2), ("one", "entra-sidecar", 1)):
                points = [(place(row[0]), level(row[of]), f"{name}, {row[0]:.0f} connections: {row[of]:,.0f} {unit}") for row in case[at]]
                picture.series(kind, points)
    picture.text(left + (width - left - 20) / 2, 466, "connections", "middle")
    picture.save(path)


def draw_waiting(crowds, path):
    left, top, tall, width = 66, 66, 200, 640
    picture = Picture(width, 330, "Memory over waiting calls", "The figures are in the table of this page.")
    picture.legend(left, 26, list(zip(("one", "other"), crowds)))
    points = [point for crowd in crowds.values() for point in crowd]
    ticks, most = steps(max(memory for _, memory in points)), max(callers for callers, _ in points)
    level = lambda memory: top + tall - tall * memory / ticks[-1]
    place = lambda callers: left + (width - left - 40) * callers / most
    picture.text(12, top - 14, "MiB beyond what the idle sidecar has, at most")
    for tick in ticks:
        picture.rule(left, level(tick), width - 40, level(tick))
        picture.text(left - 8, level(tick) + 4, told(tick), "end")
    for callers in sorted({0} | {callers for callers, _ in points}):
        picture.text(place(callers), top + tall + 18, told(callers) if callers < 1000 else f"{callers:,}", "middle")
    for kind, (title, crowd) in reversed(list(zip(("one", "other"), crowds.items()))):
        named = [(place(count), level(memory), f"{count} {title}: {memory:.1f} MiB") for count, memory in crowd]
        picture.series(kind, [(place(0), level(0), "none")] + named)
    picture.text(left + (width - left - 40) / 2, 316, "callers that wait at once", "middle")
    picture.save(path)


def main():
    root = Path(__file__).resolve().parent.parent
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "docs/performance.md"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else root / "docs"
    text = page.read_text()
    cases, crowds = connections(text), waiting(text)
    if not cases or not crowds:
        sys.exit(f"plots: {page} has no table of requests or of crowds")
    draw_connections(cases, folder / "performance-connections.svg")
    draw_waiting(crowds, folder / "performance-waiting.svg")


if __name__ == "__main__":
    main()
