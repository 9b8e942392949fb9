"""One HTML file with everything in it, so that it opens offline and can be sent to someone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files

from fedpeft.report.figure import Figure


def offline_page(title: str, body: str, figures: Mapping[str, Figure]) -> str:
    """A whole page: style, body, Plotly's own script (5 MB) where there is something to draw, and the figures as data.

    Args:
        title: of the window.
        body: HTML; every figure's `plot_box` in it.
        figures: id of the box -> what is drawn in it.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · fedpeft</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n{_scripts(figures)}</body>\n</html>\n"
    )


def plot_box(name: str, figure: Figure, caption: str) -> str:
    """The place of a figure in the body, as high as its layout says."""
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="plot" id="{escape(name)}" '
        f'style="height: {figure["layout"]["height"]}px; min-height: 0"></div></figure>'
    )


def _scripts(figures: Mapping[str, Figure]) -> str:
    """Plotly once, the figures as data, and the script that draws them; nothing where there is nothing to draw."""
    if not figures:
        return ""
    from plotly.offline import get_plotlyjs  # only here: reading 5 MB is no part of starting the command line

    data = json.dumps(figures, allow_nan=False).replace("<", "\\u003c")  # so that no text can end the script
    return (
        f"<script>{get_plotlyjs()}</script>\n"
        f'<script type="application/json" id="figures">{data}</script>\n'
        f"<script>\n{_asset('page.js')}</script>\n"
    )


def _asset(name: str) -> str:
    return (files("fedpeft.report") / name).read_text(encoding="utf-8")
