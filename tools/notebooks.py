"""Run the documentation's notebooks, and write into them what they print: ``python tools/notebooks.py [NOTEBOOK ...]``.

The code cells are executed in order, in one process and one name space, as by a fresh kernel; what they print is kept.
"""

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"

Names = dict[str, Any]
"""What a notebook's cells have defined"""


def code_of(notebook: Path) -> Iterator[str]:
    """The source of each code cell."""
    for cell in _read(notebook)["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def run_cells(notebook: Path, names: Names) -> Iterator[str]:
    """Execute the code cells, and yield what each prints; ``names`` holds what they define."""
    for number, code in enumerate(code_of(notebook), start=1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{notebook.name}, cell {number}", "exec"), names)
        yield printed.getvalue()


def write_outputs(notebook: Path) -> None:
    """Run a notebook in an empty folder, and keep what its cells print."""
    content = _read(notebook)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        printed = list(run_cells(notebook, {}))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for number, (cell, text) in enumerate(zip(cells, printed, strict=True), start=1):
        cell["execution_count"] = number
        cell["outputs"] = _as_output(text)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(notebook: Path) -> dict[str, Any]:
    return dict(json.loads(notebook.read_text(encoding="utf-8")))


def _as_output(text: str) -> list[dict[str, object]]:
    """As notebooks hold printed text; none for a cell that prints nothing."""
    if not text:
        return []
    return [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(FOLDER.glob("*.ipynb")))
    for each in parser.parse_args().notebooks:
        write_outputs(each.resolve())
