"""What a patch does to the run's rows, beside what the run did: measured on files, one model in memory at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Example, Record
from gru_unlearn.errors import NonFiniteError, UserError, first_line
from gru_unlearn.models.loading import free_memory
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.patch_record import PatchedRows
from gru_unlearn.results.verdict import Said
from gru_unlearn.runs.seen_rows import said_by, see_rows
from gru_unlearn.training.scores import AnswerLogps, answer_logps
from gru_unlearn.training.word_for_word import MOST_ASKED

BATCH = 8
Scores = dict[str, AnswerLogps]
"""By the set's name in files."""


class PatchEffect:
    """The run's rows under its model and under its original; then under the original with one patch or another.

    All are computed in float32, so that what differs is the weights alone.
    """

    def __init__(self, run: Subject, original: Subject, base: Subject, rows: Mapping[str, Sequence[Record]]) -> None:
        """``base`` is the whole model that patches go on: the original, or the base of its adapters."""
        encoder = run.encoder
        self._pad = encoder.tokenizer.pad_token_id
        self._examples = {name: encoder.encode_all(records, name) for name, records in rows.items()}
        self._encoder, self._asked = encoder, {name: evenly_spread(some, MOST_ASKED) for name, some in rows.items()}
        self.run = self._scored(run.load("float32"))
        self.original = self._scored(original.load("float32"))
        self._base, self._before = base, original

    def of(self, patch: Path) -> dict[str, PatchedRows]:
        """Of the patch in a folder, loaded as PEFT loads it; and that the original is itself again without it.

        Raises:
            UserError: PEFT does not load it.
            RuntimeError: without the patch, the original's numbers are others than before.
            NonFiniteError: a score is not finite.
        """
        base = self._base.load("float32")
        few = {name: examples[:BATCH] for name, examples in self._examples.items()}
        before = self._scored(base, few)
        patched = _loaded(base, patch)
        scores = self._scored(patched)
        with patched.disable_adapter():
            after = self._scored(patched, few)
        if not _same_bits(before, after):
            raise RuntimeError(
                "without the patch, the original gives other log-probabilities than before; not published"
            )
        found = {}
        for name in self._examples:
            found[name] = _compared(self.original[name], self.run[name], scores[name])
        return found

    def ask(self, patch: Path, rows: Mapping[str, PatchedRows]) -> None:
        """Note beside their numbers how many rows the original answers, and how many with the patch in a folder."""
        patched = _loaded(self._base.load("float32"), patch)
        after = self._said(patched)
        if self._before.folder == self._base.folder:  # the same weights: once is enough
            with patched.disable_adapter():
                before = self._said(patched)
        else:
            del patched
            before = self._said(self._before.load("float32"))
        for name, measured in rows.items():
            measured.said_before, measured.said = before[name], after[name]

    def _said(self, model: Any) -> dict[str, Said | None]:
        """What a model answers, in numbers, by set; its memory is let go of."""
        seen = see_rows(model, self._encoder, self._asked, batch_size=BATCH, generate=True)
        del model
        free_memory()
        return {name: said_by(rows) for name, rows in seen.items()}

    def _scored(self, model: Any, examples: Mapping[str, Sequence[Example]] | None = None) -> Scores:
        """And let go of the model's memory, if nobody else holds it."""
        model.eval()
        device = next(model.parameters()).device
        scores = {}
        for name, some in (examples or self._examples).items():
            found = answer_logps(model, some, batch_size=BATCH, pad_token_id=self._pad, device=device)
            if not torch.cat(found.by_token).isfinite().all():
                raise NonFiniteError(f"log-probabilities of the {name} rows are not finite: nothing is published")
            scores[name] = found
        del model
        free_memory()
        return scores


@dataclass(frozen=True, slots=True)
class Whole:
    """All rows as one."""

    effect: float
    left: float
    largest: float
    tokens: int

    @classmethod
    def of(cls, rows: Mapping[str, PatchedRows]) -> "Whole":
        """Means over all tokens."""
        sets = list(rows.values())
        tokens = sum(one.tokens for one in sets)
        return cls(
            effect=sum(one.effect * one.tokens for one in sets) / tokens,
            left=sum(one.left * one.tokens for one in sets) / tokens,
            largest=max(one.largest for one in sets),
            tokens=tokens,
        )

    @property
    def share(self) -> float:
        """Of the run's effect, what the patch leaves undone."""
        return self.left / self.effect if self.effect else float(self.left > 0)


def _loaded(base: Any, patch: Path) -> Any:
    from peft import PeftModel  # noqa: PLC0415 - slow to import

    try:
        return PeftModel.from_pretrained(base, str(patch))
    except Exception as error:  # as in load_model
        raise UserError(f"{patch}: the patch does not load ({first_line(error)})") from error


def _same_bits(one: Scores, other: Scores) -> bool:
    return all(torch.equal(torch.cat(one[name].by_token), torch.cat(other[name].by_token)) for name in one)


def _compared(original: AnswerLogps, run: AnswerLogps, patched: AnswerLogps) -> PatchedRows:
    left = _change(patched, run)
    return PatchedRows(
        rows=len(run.by_token),
        tokens=len(left),
        original=original.mean_probability,
        run=run.mean_probability,
        patched=patched.mean_probability,
        effect=float(_change(original, run).mean()),
        left=float(left.mean()),
        largest=float(left.max()),
    )


def _change(one: AnswerLogps, other: AnswerLogps) -> Tensor:
    """|Δ log p| of every token."""
    return (torch.cat(one.by_token) - torch.cat(other.by_token)).abs()
