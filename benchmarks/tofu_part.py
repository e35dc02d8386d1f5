"""A part of TOFU for a model that knows a part of it: a folder for ``gru evaluate --suite tofu``.

    python benchmarks/tofu_part.py --data TOFU --forget ROWS --out FOLDER [--rows N]
    gru evaluate --suite tofu --data FOLDER --forget-split forget05 --model MODEL --retain-model RETAIN_MODEL

Of forget05 the first N rows that stand in ``ROWS`` too, of each other set the first N: the published files hold 200 and
400 rows, which take a processor hours. TOFU's retain rows are as published, whether the model knows them or not.
"""

import argparse
from pathlib import Path

from gru_unlearn.data import load_records
from gru_unlearn.data.written_rows import write_rows

OTHERS = ("retain_perturbed", "real_authors_perturbed", "world_facts_perturbed")


def write_part(data: Path, forget: str, out: Path, rows: int) -> dict[str, int]:
    """Write the folder, and say how many rows each file has."""
    known = {record.prompt for record in load_records(forget)}
    forget05 = load_records(str(data / "forget05_perturbed.json"))
    parts = {"forget05_perturbed": [record for record in forget05 if record.prompt in known]}
    for name in OTHERS:
        parts[name] = load_records(str(data / f"{name}.json"))
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        write_rows(out / f"{name}.json", part[:rows])
    return {name: min(len(part), rows) for name, part in parts.items()}


def main() -> None:
    """Read the arguments, write, and print."""
    parser = argparse.ArgumentParser()
    for flag in ("--data", "--forget", "--out"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--rows", type=int, default=100)
    given = parser.parse_args()
    print(write_part(Path(given.data), given.forget, Path(given.out), given.rows))


if __name__ == "__main__":
    main()
