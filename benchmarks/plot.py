"""The CPU of one request as bars, in an SVG that is readable on light and on dark paper."""

from collections.abc import Mapping
from html import escape

from benchmarks.aims import app_cpu
from benchmarks.results import Results, Section

_WIDTH, _LEFT, _RIGHT = 720, 190, 70
_BAR, _GAP, _HEAD = 18, 6, 34
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .head { font-weight: 600 }
  .server { fill: #0969da } .ours { fill: #1a7f37 } .database { fill: #afb8c1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .server { fill: #4493f8 } .ours { fill: #3fb950 } .database { fill: #656c76 }
  }
"""


def draw(results: Results, titles: Mapping[str, str]) -> str:
    """A panel for each of three comparisons at equal work, on one scale within each."""
    parts, top = [], 0
    for name in ("list", "detail", "create"):
        if section := results.section(name):
            part, height = _panel(section, titles, top)
            parts.extend(part)
            top += height
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 10}" role="img"'
        f' aria-label="CPU per request of each server">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def _panel(section: Section, titles: Mapping[str, str], top: int) -> tuple[list[str], int]:
    bars = {
        name: (section.of(name, app_cpu).median, section.of(name, lambda m: m.database_cpu_us).median)
        for name in section.measured
    }
    scale = (_WIDTH - _LEFT - _RIGHT) / max(app + database for app, database in bars.values())
    head = f"{section.scenario}: µs of CPU per request, server and (grey) database; less is better"
    parts = [f'<text class="head" x="0" y="{top + 22}">{head}</text>']
    for place, (name, (app, database)) in enumerate(bars.items()):
        y = top + _HEAD + place * (_BAR + _GAP)
        text, right = y + _BAR - 5, _LEFT + (app + database) * scale
        parts += [
            f'<text x="{_LEFT - 8}" y="{text}" text-anchor="end">{escape(titles.get(name, name))}</text>',
            _bar("server" if place else "ours", _LEFT, y, app * scale),
            _bar("database", _LEFT + app * scale, y, database * scale),
            f'<text x="{right + 6:.1f}" y="{text}">{app + database:,.0f}</text>',
        ]
    return parts, _HEAD + len(bars) * (_BAR + _GAP) + 10


def _bar(kind: str, left: float, top: int, width: float) -> str:
    return f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}"/>'
