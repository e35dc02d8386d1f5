"""The MUSE suite: memorized text, memorized knowledge and privacy (Shi et al., arXiv 2407.06460)."""

from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from gru_unlearn.data import Turn, load_records, read_rows, to_record
from gru_unlearn.data.sources import hub_splits
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.attacks import UNSEEN
from gru_unlearn.evaluation.measure import Metric
from gru_unlearn.evaluation.metrics import ANY_SCRIPT, MUSE, exact_memorization, extraction_strength, rouge
from gru_unlearn.evaluation.rows import Item, RowSet, Suite
from gru_unlearn.evaluation.suites import attack_metrics, only_possible

VERBATIM_TOKENS = 128
KNOWLEDGE_TOKENS = 32

MUSE_FILES = {
    "forget": ("privleak", "forget"),
    UNSEEN: ("privleak", "holdout"),
    "verbatim": ("verbmem", "forget"),
    "forget_qa": ("knowmem", "forget_qa"),
    "retain_qa": ("knowmem", "retain_qa"),
}
"""Set of rows → where it lies: folder and file, or configuration and split on the hub."""


def muse(data: str, *, rouge_words: str = ANY_SCRIPT) -> Suite:
    """MUSE on News, Books or data of your own in their layout.

    Args:
        data: a folder, or a data set on the hub (``muse-bench/MUSE-News``), with ``privleak/forget`` and
            ``privleak/holdout`` (plain texts, or field ``text``), ``verbmem/forget`` (``prompt`` and ``gt``),
            ``knowmem/forget_qa`` and ``knowmem/retain_qa`` (``question`` and ``answer``), and, optionally,
            ``knowmem/forget_qa_icl`` and ``knowmem/retain_qa_icl``, answered examples to put before each question.
        rouge_words: what ROUGE takes for words, see :func:`gru_unlearn.evaluation.metrics.rouge`.

    Raises:
        UserError: files are missing or cannot be read, or lack a field.
    """
    texts = {name: RowSet(_text_items(data, name)) for name in ("forget", UNSEEN)}
    questions = {
        name: RowSet(_questions(data, name), max_new_tokens=KNOWLEDGE_TOKENS, cut_at="\n")
        for name in ("forget_qa", "retain_qa")
    }
    verbatim = RowSet(_snippets(source(data, "verbatim")), max_new_tokens=VERBATIM_TOKENS, raw=True)
    return only_possible(Suite("muse", {**texts, "verbatim": verbatim, **questions}, muse_metrics(rouge_words)))


def muse_metrics(rouge_words: str = ANY_SCRIPT) -> tuple[Metric, ...]:
    """MUSE's metrics on the sets forget, :data:`UNSEEN`, verbatim, forget_qa and retain_qa."""
    rouge_f1 = partial(rouge, part="fmeasure", source=MUSE, word=rouge_words)
    return (
        rouge_f1("forget_verbmem_ROUGE", "verbatim", better="lower"),
        rouge_f1("forget_knowmem_ROUGE", "forget_qa", better="lower"),
        rouge_f1("retain_knowmem_ROUGE", "retain_qa"),
        exact_memorization("exact_memorization", "verbatim"),
        extraction_strength("extraction_strength", "verbatim"),
        *attack_metrics(),
    )


def source(data: str, name: str) -> str:
    """Where a set of rows is read from, for :func:`gru_unlearn.data.read_rows`."""
    part, split = MUSE_FILES[name]
    folder = Path(data).expanduser()
    if folder.is_dir():
        return f"{folder / part}:{split}"
    return f"{data}:{part}:{split}"


def _text_items(data: str, name: str) -> list[Item]:
    return [Item(record) for record in load_records(source(data, name))]


def _snippets(where: str) -> list[Item]:
    """Beginnings of texts with their true continuation, ``gt``."""
    items = []
    for number, row in enumerate(read_rows(where), start=1):
        place = f"{where}, row {number}"
        if not {"prompt", "gt"} <= row.keys():
            raise UserError(f"{place} needs the fields prompt and gt, it has: {', '.join(row)}")
        items.append(Item(to_record(row, place)))
    return items


def _questions(data: str, name: str) -> list[Item]:
    """Questions, after the answered examples where there are any."""
    records = load_records(source(data, name))
    for record in records:
        if not record.turns:
            raise UserError(f"{record.where} needs the fields question and answer, it has: {', '.join(record.row)}")
    examples = _examples(data, name)
    return [Item(replace(record, turns=(*examples, *record.turns))) for record in records]


def _examples(data: str, name: str) -> tuple[Turn, ...]:
    """The turns of answered examples; none where there is no such file, or no such split on the hub."""
    part, split = MUSE_FILES[name]
    if f"{split}_icl" not in _names_of(data, part):
        return ()
    turns = chain.from_iterable(record.turns for record in load_records(source(data, name) + "_icl"))
    return tuple(map(_set_apart, turns))


def _names_of(data: str, part: str) -> set[str]:
    """The sets in a part of MUSE, by files or splits."""
    folder = Path(data).expanduser() / part
    if folder.is_dir():
        return {file.stem for file in folder.iterdir()}
    return set(hub_splits(data, part))


def _set_apart(turn: Turn) -> Turn:
    """A blank line after each answer keeps examples apart where there is no chat template."""
    if turn.role != "assistant":
        return turn
    return Turn(turn.role, turn.content + "\n\n")
