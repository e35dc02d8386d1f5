"""A page's data → one HTML file that needs nothing else and loads nothing."""

import base64
import hashlib
import json
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gru_unlearn.reporting import chart
from gru_unlearn.reporting.example_table import ON_PAPER
from gru_unlearn.reporting.judge import FORGOTTEN_RULE, KEPT_RULE, NO_PROOF
from gru_unlearn.reporting.parts import FOLDED, Page
from gru_unlearn.reporting.tables import shown
from gru_unlearn.reporting.verdict_lines import ANSWERS

SCHEMES = (
    f"{chart.SHAPES}{chart.LIGHT}"
    f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{chart.DARK}}}}}"
    f"@media screen{{:root[data-theme=dark]{{{chart.DARK}}}}}"
)
"""Colours of the drawings: the reader's scheme unless the page's switch says otherwise; print is always light."""


def page_html(page: Page, *, folder: str, when: str, command: str, summary: Any) -> str:
    """A page as HTML text.

    Everything that comes from data is escaped. Scripts and styles are allowed by their hashes alone, so that markup
    which came through all the same would do nothing, and nothing can be loaded or sent.

    Args:
        page: what it shows.
        folder, when: what it is about, and of which time.
        command: repeats what it tells of.
        summary: embedded as JSON.
    """
    environment = Environment(
        loader=PackageLoader("gru_unlearn.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "svg": Markup, "marked": marked}
    styles, script = SCHEMES + _source(environment, "report.css"), _source(environment, "report.js")
    return environment.get_template("report.html").render(
        page=page,
        folder=folder,
        when=when,
        command=command,
        folded=FOLDED,
        on_paper=ON_PAPER,
        answers=ANSWERS,
        rules={"Is it forgotten?": FORGOTTEN_RULE, "Is the rest kept?": KEPT_RULE},
        no_proof=NO_PROOF,
        swatch=lambda look: Markup(chart.swatch(look)),
        policy=f"default-src 'none'; style-src {_hash(styles)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        styles=Markup(styles),
        script=Markup(script),
        embedded=inside_script(summary),
    )


def marked(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def inside_script(content: Any) -> Markup:
    """JSON that may stand inside a script element: nothing in it can end the element or begin another."""
    text = json.dumps(content, ensure_ascii=False, default=str)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
