"""The notebooks of the documentation run from the first cell to the last, and end as they say."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import notebooks

DOCS = notebooks.FOLDER.parent
EVERY = sorted(notebooks.FOLDER.glob("*.ipynb"))


@pytest.mark.slow
def test_first_steps_forget_the_five_and_keep_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    printed = list(notebooks.run_cells(notebooks.FOLDER / "first-steps.ipynb", names))
    before, after, mark = names["before"], names["after"], names["mark"]
    assert before["forget probability"] > 0.9
    assert after["forget probability"] <= mark["forget probability"] + 0.05
    assert after["forget word for word"] < 0.2
    assert after["held-out probability"] > 0.7
    assert "step 4: cosine" in printed[2]


@pytest.mark.parametrize("notebook", EVERY, ids=lambda path: path.name)
def test_a_notebook_holds_what_its_cells_printed_and_links_lead_somewhere(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell["outputs"]) for cell in code) > len(code) / 2
    for cell in cells:
        for target in re.findall(r"\]\((?!https?:)([^)\s#]+)", "".join(cell["source"])):
            assert (notebook.parent / target).is_file(), target


@pytest.mark.parametrize("notebook", EVERY, ids=lambda path: path.name)
def test_a_page_leads_to_each_notebook(notebook):
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert f"notebooks/{notebook.name})" in pages


def test_what_cells_print_is_kept_in_their_order(tmp_path):
    notebook = tmp_path / "two.ipynb"
    sources = (["a = 1\n"], ["print(a)\n", "print(a + 1)"])
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    notebook.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Two"]}, *cells]}))
    notebooks.write_outputs(notebook)
    written = json.loads(notebook.read_text())["cells"]
    assert written[1]["outputs"] == []
    assert written[2]["outputs"][0]["text"] == ["1\n", "2\n"]
    assert written[2]["execution_count"] == 2
