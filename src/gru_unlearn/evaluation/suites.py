"""The suites: which rows make which set, and which metrics are read off them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gru_unlearn.common.places import has_file
from gru_unlearn.data import Record, check_apart, count_overlap, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.attacks import (
    MEMBERSHIP_SCORES,
    UNSEEN,
    membership_metric,
    privacy_leakage,
    reference_attack,
)
from gru_unlearn.evaluation.measure import Metric
from gru_unlearn.evaluation.metrics import (
    ANY_SCRIPT,
    exact_answers,
    exact_memorization,
    extraction_strength,
    forget_quality,
    harmonic_mean,
    normalised_probability,
    probability,
    rouge,
    truth_ratio,
)
from gru_unlearn.evaluation.old_names import renamed_parameter
from gru_unlearn.evaluation.rows import Item, RowSet, Suite
from gru_unlearn.evaluation.table import ANSWER, PARAPHRASE, WRONG, name_rows

AS_RETAIN = "close to the retain model's"


@renamed_parameter("holdout_split", "unseen_split")
def tofu(data: str, forget_split: str, unseen_split: str | None = None, *, rouge_words: str = ANY_SCRIPT) -> Suite:
    """The TOFU benchmark (Maini et al., arXiv 2401.06121) with the metrics of OpenUnlearning (arXiv 2506.12618).

    Args:
        data: folder with the benchmark's files, or its name on the hub (``locuslab/TOFU``). Read are
            ``FORGET_SPLIT_perturbed`` (where a folder lacks it, ``FORGET_SPLIT``, with fewer metrics),
            ``retain_perturbed``, ``real_authors_perturbed``, ``world_facts_perturbed`` and the unseen split.
        forget_split: ``forget01``, ``forget05`` or ``forget10``.
        unseen_split: rows that no model saw, for membership inference, such as ``holdout10``.
        rouge_words: what ROUGE takes for words, see :func:`gru_unlearn.evaluation.metrics.rouge`.

    Raises:
        UserError: files are missing or cannot be read.
    """
    files = {
        "forget": _perturbed_or_plain(data, forget_split),
        "retain": "retain_perturbed",
        "ra": "real_authors_perturbed",
        "wf": "world_facts_perturbed",
    }
    if unseen_split:
        files[UNSEEN] = unseen_split
    return only_possible(Suite("tofu", read_sets(data, files), tofu_metrics(rouge_words)))


def tofu_metrics(rouge_words: str = ANY_SCRIPT) -> tuple[Metric, ...]:
    """TOFU's metrics on the sets forget, retain, ra (real authors), wf (world facts) and :data:`UNSEEN`."""
    utility = _utility("retain", rouge_words=rouge_words)
    for general in ("ra", "wf"):
        utility += _utility(general, normalised=True, correct=ANSWER, rouge_words=rouge_words)
    return (
        *forget_metrics(rouge_words),
        harmonic_mean("model_utility", utility),
        *utility,
        probability("ra_Q_A_Prob", "ra"),
        probability("wf_Q_A_Prob", "wf"),
        *attack_metrics(),
    )


def forget_metrics(rouge_words: str = ANY_SCRIPT) -> tuple[Metric, ...]:
    """What is measured of a forget set with paraphrased and wrong answers."""
    return (
        exact_memorization("exact_memorization", "forget"),
        extraction_strength("extraction_strength", "forget"),
        probability("forget_Q_A_Prob", "forget", better="lower"),
        rouge("forget_Q_A_ROUGE", "forget", better="lower", word=rouge_words),
        probability("forget_Q_A_PARA_Prob", "forget", PARAPHRASE, better="lower"),
        rouge("forget_Q_A_PARA_ROUGE", "forget", PARAPHRASE, better="lower", word=rouge_words),
        probability("forget_Q_A_PERT_Prob", "forget", WRONG, better=AS_RETAIN),
        rouge("forget_Q_A_PERT_ROUGE", "forget", WRONG, better=AS_RETAIN, word=rouge_words),
        truth_ratio("forget_truth_ratio", "forget", forget=True),
        forget_quality("forget_quality"),
    )


def attack_metrics() -> tuple[Metric, ...]:
    """Membership inference on the sets forget and :data:`UNSEEN`."""
    attacks = (membership_metric(f"mia_{name}", name) for name in MEMBERSHIP_SCORES)
    return *attacks, reference_attack("mia_reference"), privacy_leakage("privleak")


def builtin(data: str = "builtin") -> Suite:
    """The built-in benchmark of invented people.

    ``data`` is where the sets forget, retain, held_out and general are read from: the package itself (``builtin``) or
    a folder with files of these names.

    Utility is that of TOFU, with ``held_out`` (people whom the model knows and no run uses as constraint data) and
    ``general`` (facts that are not about people) in the places of real authors and world facts.

    Raises:
        UserError: files are missing or cannot be read.
    """
    files = {name: name for name in ("forget", "retain", "held_out", "general")}
    return only_possible(Suite("builtin", read_sets(data, files), builtin_metrics()))


def builtin_metrics() -> tuple[Metric, ...]:
    """The metrics of the built-in benchmark."""
    utility = [*_utility("retain"), *_utility("held_out"), *_utility("general", normalised=True)]
    return (
        *forget_metrics(),
        exact_answers("forget_exact_answers", "forget", better="lower"),
        harmonic_mean("model_utility", utility),
        *utility,
        probability("general_Q_A_Prob", "general"),
        exact_answers("retain_exact_answers", "retain"),
        exact_answers("held_out_exact_answers", "held_out"),
    )


@renamed_parameter("holdout", "unseen")
def own(forget: Sequence[Record], retain: Sequence[Record] = (), unseen: Sequence[Record] = ()) -> Suite:
    """Rows of your own: everything that their fields allow, and the reason for everything that they do not.

    ``paraphrased_answer`` (text) and ``perturbed_answer`` (a list of wrong answers) open TOFU's further metrics; rows
    like the forget rows that no model saw (``unseen``) open membership inference. Utility is the harmonic mean of
    what the retain rows allow.

    Raises:
        UserError: a field has the wrong type.
    """
    records = {"forget": forget, "retain": retain, UNSEEN: unseen}
    sets = {name: RowSet(_items(rows, name)) for name, rows in records.items() if rows}
    utility = _utility("retain")
    allowed = [metric for metric in utility if not why_not(metric, sets)]
    metrics = (
        *forget_metrics(),
        exact_answers("forget_exact_answers", "forget", better="lower"),
        harmonic_mean("model_utility", allowed or utility),
        *utility,
        exact_answers("retain_exact_answers", "retain"),
        *attack_metrics(),
    )
    return only_possible(Suite("own", sets, metrics))


def _utility(
    name: str, *, normalised: bool = False, correct: str = PARAPHRASE, rouge_words: str = ANY_SCRIPT
) -> list[Metric]:
    """What model utility takes of a set."""
    prob = probability(f"{name}_Q_A_Prob", name)
    if normalised:
        prob = normalised_probability(f"{name}_Q_A_Prob_normalised", name)
    said = rouge(f"{name}_Q_A_ROUGE", name, word=rouge_words)
    return [prob, said, truth_ratio(f"{name}_Truth_Ratio", name, correct=correct)]


def only_possible(suite: Suite) -> Suite:
    """The suite without the metrics that its rows do not allow; these move to ``impossible``, with the reason."""
    possible = []
    impossible = dict(suite.impossible)
    for metric in suite.metrics:
        reason = why_not(metric, suite.sets)
        if reason:
            impossible[metric.key] = reason
        else:
            possible.append(metric)
    return replace(suite, metrics=tuple(possible), impossible=impossible)


def why_not(metric: Metric, sets: Mapping[str, RowSet]) -> str:
    """Why these rows do not allow a metric; empty if they do."""
    for need in metric.needs:
        name, _, what = need.rpartition(".")
        if name not in sets:
            return f"needs a {name} set"
        if what not in _NEEDED:
            continue  # every row has an answer
        words, has = _NEEDED[what]
        items = sets[name].items
        lacking = [row for row, item in enumerate(items) if not has(item)]
        if lacking:
            return f"needs {words} in every {name} row; none in {name_rows(lacking)} of {len(items)}"
    return ""


_NEEDED: dict[str, tuple[str, Callable[[Item], object]]] = {
    "paraphrase": ("a paraphrased_answer", lambda item: item.paraphrase is not None),
    "wrong": ("a perturbed_answer (a list of wrong answers)", lambda item: item.wrong),
    "generation": ("a question to answer", lambda item: item.record.turns),
}


def read_sets(data: str, files: Mapping[str, str]) -> dict[str, RowSet]:
    """Set name → its rows, read from ``DATA:FILE``.

    Raises:
        UserError: a file is missing, empty or cannot be read, or a field has the wrong type.
    """
    sets = {}
    for name, file in files.items():
        source = f"{data}:{file}"
        sets[name] = RowSet(_items(load_records(source), source))
    return sets


def check_unseen(sets: Mapping[str, Sequence[Record]]) -> None:
    """No row that no model saw may be one of those that are told from them.

    Raises:
        UserError: some are.
    """
    named = {**sets, "unseen": sets.get(UNSEEN, ())}
    check_apart(named, [("forget", "unseen")], "take them out, no model may have seen an unseen row")


def remark_on_unseen(sets: Mapping[str, Sequence[Record]]) -> list[str]:
    """What a reader should know of unseen rows before any number."""
    seen = count_overlap(sets.get(UNSEEN, ()), sets.get("retain", ()))
    if not seen:
        return []
    return [f"{seen} of {len(sets[UNSEEN])} unseen rows are also in the retain set: a model may have seen them."]


def _items(records: Iterable[Record], where: str) -> list[Item]:
    return [_item(record, f"{where}, row {number}") for number, record in enumerate(records, start=1)]


def _item(record: Record, where: str) -> Item:
    """A record with the further answers that its row has."""
    if not record.turns:
        return Item(record)
    paraphrase = record.row.get("paraphrased_answer")
    wrong = record.row.get("perturbed_answer") or []
    if not isinstance(wrong, list):
        wrong = [wrong]
    texts = wrong if paraphrase is None else [paraphrase, *wrong]
    if not all(map(_is_text, texts)):
        raise UserError(f"{where}: paraphrased_answer must be text and perturbed_answer a list of texts, none empty")
    return Item(record, paraphrase, tuple(wrong))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _perturbed_or_plain(data: str, split: str) -> str:
    """The file of a split with its further answers, or without them where a folder lacks that one."""
    folder, perturbed = Path(data).expanduser(), f"{split}_perturbed"
    if folder.is_dir() and not has_file(folder, perturbed):
        return split
    return perturbed
