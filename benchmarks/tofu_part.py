"""A part of TOFU for a model that knows a part of it: a folder for ``gru evaluate --suite tofu``.

    python benchmarks/tofu_part.py --data TOFU --forget ROWS --out FOLDER [--rows N]
    gru evaluate --suite tofu --data FOLDER --forget-split forget05 --model MODEL --retain-model RETAIN_MODEL

Of forget05 the first N rows that stand in ``ROWS`` too, of each other set the first N: the published files hold 200 and
400 rows, which take a processor hours. TOFU's retain rows are as published, whether the model knows them or not.
"""

import argparse
import json
from pathlib import Path

OTHERS = ("retain_perturbed", "real_authors_perturbed", "world_facts_perturbed")


def rows_of(file: Path) -> list[dict[str, object]]:
    """Of a published file, which is JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_part(data: Path, forget: Path, out: Path, rows: int) -> dict[str, int]:
    """Write the folder, and say how many rows each file has."""
    out.mkdir(parents=True, exist_ok=True)
    known = {row["question"] for row in rows_of(forget)}
    parts = {
        "forget05_perturbed": [row for row in rows_of(data / "forget05_perturbed.json") if row["question"] in known]
    }
    for name in OTHERS:
        parts[name] = rows_of(data / f"{name}.json")
    for name, part in parts.items():
        parts[name] = part[:rows]
        lines = [json.dumps(row) + "\n" for row in parts[name]]
        (out / f"{name}.json").write_text("".join(lines), encoding="utf-8")
    return {name: len(part) for name, part in parts.items()}


def main() -> None:
    """Read the arguments, write, and print."""
    parser = argparse.ArgumentParser()
    for flag in ("--data", "--forget", "--out"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--rows", type=int, default=100)
    given = parser.parse_args()
    print(write_part(Path(given.data), Path(given.forget), Path(given.out), given.rows))


if __name__ == "__main__":
    main()
