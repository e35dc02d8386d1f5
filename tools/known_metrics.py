"""Write ``src/gru_unlearn/benchmark/known_metrics.json``, what every metric means, to be read before any heavy library
is there: ``python tools/known_metrics.py``. A test holds it to the metrics themselves."""

import json
from pathlib import Path
from typing import Any

from gru_unlearn.benchmark.metric_index import FILE
from gru_unlearn.common.explanation import Explanation
from gru_unlearn.publishing.reports import explanations


def known_metrics() -> dict[str, Any]:
    """What stands in the file."""
    found = {}
    for name, about in explanations().items():
        found[name] = {field: getattr(about, field) for field in Explanation._fields}
    return found


def as_text(known: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(known, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(FILE).write_text(as_text(known_metrics()), encoding="utf-8")
