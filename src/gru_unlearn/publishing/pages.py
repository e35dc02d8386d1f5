"""Which page belongs to which folder."""

from collections.abc import Callable

from gru_unlearn.publishing.attack_page import attack_page
from gru_unlearn.publishing.comparison_page import compare_page, demo_page
from gru_unlearn.publishing.evaluation_page import evaluation_page
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.run_page import run_page
from gru_unlearn.reporting.parts import Page

PAGES: dict[str, Callable[[Material], Page]] = {
    "unlearn": run_page,
    "demo": demo_page,
    "compare": compare_page,
    "evaluate": evaluation_page,
    "attack": attack_page,
}
"""Command that wrote a folder's summary → its page."""


def make_page(material: Material) -> Page:
    """The page for a folder's kind.

    Raises:
        KeyError: the summary is of no kind that has a report, or lacks what its kind needs.
    """
    return PAGES[material.summary["command"]](material)
