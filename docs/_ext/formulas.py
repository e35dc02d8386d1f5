"""Formulas as drawings inside the page (ziamath): they look alike everywhere, without network, script or math font."""

import html

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

INLINE, BLOCK = 17.5, 19.0  # pixels, beside text of 16
PIXELS_PER_EM = 16


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``drawn``."""
    ziamath.config.math.color = "currentColor"  # that of the text, on light and on dark pages
    app.add_html_math_renderer("drawn", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_drawn(node, INLINE, inline=True))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{_drawn(node, BLOCK, inline=False)}</div>\n')
    raise nodes.SkipNode


def _drawn(node: nodes.Element, size: float, inline: bool) -> str:
    source = node.astext()
    try:
        formula = ziamath.Latex(source, size=size, inline=inline)
        drawing = formula.svg()
    except Exception as error:  # whatever it cannot read, the page and line must be named
        getLogger(__name__).warning("formula: %s", error, location=node)
        return ""
    below = f"vertical-align: {formula.getyofst() / PIXELS_PER_EM:.3f}em"
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{html.escape(source)}" style="{below}" ', 1)
