"""The rows of a fine-tuning: several sources together, without those that must not be seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from gru_unlearn.common.notices import tell
from gru_unlearn.common.places import sources_in
from gru_unlearn.data import Record, canonical, check_apart, count_repeated, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.tuning.tuning_options import TuningOptions


@dataclass(frozen=True, slots=True)
class Rows:
    """Records, where they were read, and how many of what was read are not among them."""

    sources: list[str]
    records: list[Record]
    left_out: int = 0

    @property
    def source(self) -> str:
        """All sources in a word, as they may be typed."""
        return "+".join(self.sources)


def read_sets(options: TuningOptions, held_out: str | None, *, allow_overlap: bool) -> dict[str, Rows]:
    """The sets of a fine-tuning by name: ``train``, and where they are given ``without`` and ``held_out``.

    Raises:
        UserError: there are none, or they cannot be read, or none is left to learn; ``without`` has no row in common
            with ``train``; or a held-out row is learnt.
    """
    if not options.train:
        raise UserError("no rows to learn: pass --train (a file, FOLDER:NAME, a hub data set, or builtin:forget)")
    sets = {"train": read_sources(options.train)}
    if options.without:
        sets["without"] = read_sources(options.without)
        sets["train"] = _leave_out(sets["train"], sets["without"])
    if held_out is not None:
        sets["held_out"] = read_sources([held_out])
    if not allow_overlap:
        apart = {name: rows.records for name, rows in sets.items()}
        check_apart(apart, [("held_out", "train")], "no step may see a held-out row: take them out of one, or pass "
                    "--allow-overlap")  # fmt: skip
    _tell_of_repeats(sets["train"].records)
    return sets


def read_sources(texts: Iterable[str]) -> Rows:
    """All rows of several sources, one after the other; ``a.jsonl+b.jsonl`` are two, unless a file is called so.

    Raises:
        UserError: one cannot be read, or has no rows.
    """
    sources = list(chain.from_iterable(map(sources_in, texts)))
    return Rows(sources, list(chain.from_iterable(map(load_records, sources))))


def _tell_of_repeats(train: Sequence[Record]) -> None:
    repeated = count_repeated(train)
    if repeated:
        tell(f"--train: {repeated} of {len(train)} rows repeat an earlier one, and are learnt each time")


def _leave_out(train: Rows, without: Rows) -> Rows:
    """The training rows that say the same as none of ``without``, however they are written."""
    unwanted = set(map(canonical, without.records))
    kept = [record for record in train.records if canonical(record) not in unwanted]
    left_out = len(train.records) - len(kept)
    if not left_out:
        raise UserError(
            f"none of the {len(without.records)} rows of --without {without.source} is among those of --train "
            f"{train.source}: nothing would be left out"
        )
    if not kept:
        raise UserError(
            f"--without {without.source} leaves out all {left_out} rows of --train: nothing is left to learn"
        )
    _tell_of_remains(train.records, kept, without.records)
    return Rows(train.sources, kept, left_out)


def _tell_of_remains(train: Sequence[Record], kept: Sequence[Record], without: Sequence[Record]) -> None:
    """What a person may have meant to leave out, and did not."""
    learnt = set(map(canonical, train))
    elsewhere = sum(canonical(record) not in learnt for record in without)
    if elsewhere:
        tell(
            f"{elsewhere} of {len(without)} rows of --without are not among those of --train: only the others are left "
            "out"
        )
    asked = {canonical(record).prompt for record in without if record.prompt}
    alike = [record for record in kept if canonical(record).prompt in asked]
    if alike:
        tell(
            f"{len(alike)} of {len(kept)} training rows ask what a row of --without asks, with another answer, and "
            f"stay (the first: {alike[0].where})"
        )
