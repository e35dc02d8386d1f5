"""Sphinx: the pages of this folder as a site that is read offline. ``make docs`` builds it, warnings are errors."""

import sys
from pathlib import Path

from gru_unlearn import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "GRU Unlearn"
author = "the GRU Unlearn authors"
project_copyright = author
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "excerpts", "formulas", "generated"]
exclude_patterns = ["_build", "_ext"]
suppress_warnings = ["epub.unknown_project_files"]

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3  # links like evaluation.md#suites work as they do on GitHub

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = (
    False  # what transformers says about a method that is overridden here is not this project's
)
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"GRU Unlearn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["copy.js"]
html_math_renderer = "drawn"
html_copy_source = False
html_show_sourcelink = False
