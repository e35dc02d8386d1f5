import os
import sys
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small gain nothing from threads, and lose on a busy machine

import pytest

from gru_unlearn.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(trylast=True)  # after those that do not run were left out
def pytest_collection_modifyitems(items):
    """Files with the most slow tests come first, so that processes that share the files end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def shared():
    """Real TOFU rows and reference models, kept beside the project; tests that need them skip without."""
    if not (SHARED / "data" / "tofu").is_dir():
        pytest.skip("needs the folder ../shared with TOFU data and reference models beside the project")
    return SHARED


@pytest.fixture
def gru(monkeypatch, capsys):
    """Run ``gru ARGUMENTS`` in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gru", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run
