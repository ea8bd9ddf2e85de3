"""A badge as SVG: `energy | 7.59 J | 1.00 mg CO2e`, drawn here, with no network and no font of its own.

The widths come from a small table and are fixed by `textLength`, so that the text fits whichever font is
there. The colours mean nothing: there is no good or bad number of joules. A figure from a model says so.
"""

from __future__ import annotations

from emt_cli import units
from emt_cli.exporters.figures import Figures, figures, title
from emt_cli.model import Run
from emt_cli.reports.phrases import energy_with_bounds

_LABEL = "energy"
_HEIGHT, _PADDING, _SIZE = 20, 6, 11
_GREYS = ("#4a4a4a", "#44596b")
_FONTS = "Verdana,Geneva,DejaVu Sans,sans-serif"
_WIDTHS = {
    " .,:;|!'ijlIf()": 4.2,
    "rtJ-/": 4.9,
    "mwMWµ%": 10.4,
    "CGOQDNHU": 8.4,
}
_ANY_OTHER = 7.0
"""Advance widths in pixels at 11 pixels, rounded up from Verdana's metrics, the widest of the fonts."""


def render(run: Run) -> str:
    """The SVG document. What is not known is called so."""
    said = figures(run)
    parts = (_LABEL, _message(said))
    widths = [_text_width(part) + 2 * _PADDING for part in parts]
    left, right = widths
    spoken = _escaped(f"{_LABEL}: {parts[1]}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}" role="img" '
        f'aria-label="{spoken}">\n'
        f"<title>{_escaped(_explanation(run, said))}</title>\n"
        f'<clipPath id="r"><rect width="{left + right}" height="{_HEIGHT}" rx="3"/></clipPath>\n'
        f'<g clip-path="url(#r)">\n'
        f'<rect width="{left}" height="{_HEIGHT}" fill="{_GREYS[0]}"/>\n'
        f'<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="{_GREYS[1]}"/>\n'
        "</g>\n"
        f'<g fill="#fff" font-family="{_FONTS}" font-size="{_SIZE}">\n'
        f"{_text(parts[0], _PADDING)}\n"
        f"{_text(parts[1], left + _PADDING)}\n"
        "</g>\n</svg>\n"
    )


def _message(said: Figures) -> str:
    if said.energy_j is None:
        return "unknown"
    joules = units.energy(said.energy_j) + (" estimated" if said.provenance == "estimated" else "")
    return joules if said.co2e_g is None else f"{joules} | {units.mass(said.co2e_g)} CO2e"


def _explanation(run: Run, said: Figures) -> str:
    """What a pointer that rests on the badge is told."""
    energy = energy_with_bounds(said.energy_j, None, said.low_j, said.high_j) or "energy unknown"
    whose = {"attributed": "of the command", "machine": "of the machine", "platform": "of the whole node"}
    facts = [title(run), f"{energy} {whose[said.basis]}", said.provenance]
    return ", ".join(fact for fact in facts if fact)


def _text(text: str, x: int) -> str:
    return f'<text x="{x}" y="14" textLength="{_text_width(text)}">{_escaped(text)}</text>'


def _text_width(text: str) -> int:
    return round(sum(_width(letter) for letter in text))


def _width(letter: str) -> float:
    return next((width for letters, width in _WIDTHS.items() if letter in letters), _ANY_OTHER)


def _escaped(text: str) -> str:
    from xml.sax.saxutils import escape

    return escape(text, {'"': "&quot;"}).encode("ascii", "xmlcharrefreplace").decode("ascii")
