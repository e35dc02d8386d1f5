"""Excerpts in the search of a site that was opened as a file.

No page may read another one there, so the search page brings all texts along (``_static/pages.js``), and
``_static/excerpts.js`` gives them to Sphinx's search.
"""

import json
import re
from pathlib import Path

from sphinx.application import Sphinx

SEARCH = "search"
PAGES = "pages.js"


def setup(app: Sphinx) -> dict[str, bool]:
    """Two scripts on the search page; the texts are written when all pages are."""
    app.connect("html-page-context", _add_scripts)
    app.connect("build-finished", _write_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_scripts(app: Sphinx, page: str, *_: object) -> None:
    if page == SEARCH:
        app.add_js_file(PAGES)
        app.add_js_file("excerpts.js")


def _write_texts(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    texts = {}
    for name in sorted(app.env.found_docs):
        file = out / f"{name}.html"
        texts[f"{name}.html"] = _article(file.read_text(encoding="utf-8"))
    script = f"window.pageTexts = {json.dumps(texts, ensure_ascii=False)};\n"
    (out / "_static" / PAGES).write_text(script.replace("</", "<\\/"), encoding="utf-8")


def _article(page: str) -> str:
    """The main part of a page, without drawings and scripts."""
    main = re.search(r"<article[^>]*role=\"main\".*?</article>", page, flags=re.DOTALL)
    if main is None:
        return ""
    return re.sub(r"<(svg|script|style)\b.*?</\1>", "", main[0], flags=re.DOTALL)
