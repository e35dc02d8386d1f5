import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """Real TOFU rows and reference models, kept beside the project; tests that need them skip without."""
    if not (SHARED / "data" / "tofu").is_dir():
        pytest.skip("needs the folder ../shared with TOFU data and reference models beside the project")
    return SHARED
