"""Small inputs on which something once failed, beside the project: each has a script that says if it is right now."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT.parent / "shared" / "cases").glob("*/run.sh"))
MISSING = pytest.param(None, marks=pytest.mark.skip("needs the folder ../shared/cases beside the project"))


@pytest.mark.parametrize("script", SCRIPTS or [MISSING], ids=lambda script: script and script.parent.name)
def test_a_case_is_right(script):
    environment = {**os.environ, "GRU_SRC": str(ROOT / "src"), "PYTHON": sys.executable}
    ended = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=900, check=False)
    said = ended.stdout.strip().splitlines() or ended.stderr.strip().splitlines()
    assert ended.returncode == 0, said[-1:]
