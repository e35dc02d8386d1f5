"""A verdict's sentence: what a reader understands who knows nothing of models."""

from typing import NamedTuple

from gru_unlearn.reporting import remarks
from gru_unlearn.reporting.evidence import Evidence
from gru_unlearn.reporting.forgetting import GONE, KNOWN, Forgetting
from gru_unlearn.reporting.keeping import Keeping
from gru_unlearn.reporting.mark_words import BESIDE, stands_for
from gru_unlearn.reporting.row_words import QUESTIONS, RowWords, words_for
from gru_unlearn.reporting.staying import DEAR, Staying
from gru_unlearn.reporting.tables import plural, shown
from gru_unlearn.results.attack_summary import Estimate
from gru_unlearn.results.verdict import Said

MARKS = {"answers": "{} word for word", "probability": "mean probability of the {}"}
"""A mark → how it is named, of answers or of texts."""


def verdict_sentence(evidence: Evidence, forgetting: Forgetting, keeping: Keeping, staying: Staying) -> str:
    """What was to be removed and what the model still gives; attacks, where they matter; and the rest."""
    parts = [
        _what_was_due(evidence),
        _whether_it_is_gone(evidence, forgetting),
        *_more_about_it(evidence, forgetting),
        *_attacks(forgetting, staying),
        _the_rest(keeping),
    ]
    return " ".join(parts)


# --- is it gone ------------------------------------------------------------------------------------------------------


def _what_was_due(evidence: Evidence) -> str:
    rows, done = "forget row", "looked at"
    if evidence.tried:
        rows, done = "row", "to be removed"
    if evidence.rows is None:
        return f"{rows[0].upper()}{rows[1:]}s were {done}."
    were = "was" if evidence.rows == 1 else "were"
    due = f"{plural(evidence.rows, rows)} {were} {done}"
    if evidence.said is not None and evidence.said.asked < evidence.rows:
        due += f", {evidence.said.asked} of which were {evidence.words.looked_at}"
    return f"{due}."


def _whether_it_is_gone(evidence: Evidence, forgetting: Forgetting) -> str:
    if remarks.NOT_MEASURED in forgetting.remarks:
        gone = "it is gone" if evidence.rows == 1 else "they are gone"
        return f"Nothing of {_them(evidence)} was measured: whether {gone} is not known."
    if remarks.NEVER_KNOWN in forgetting.remarks:
        before = _numbers_before(evidence)
        return f"The model did not know {_them(evidence)} before ({before}): there was nothing to remove."
    gives = _still_gives(evidence, forgetting)
    if remarks.NO_EFFECT in forgetting.remarks:
        return f"Nothing changed: {gives}: {_outcome(evidence, forgetting)}."
    return f"{gives[0].upper()}{gives[1:]}: {_outcome(evidence, forgetting)}."


def _numbers_before(evidence: Evidence) -> str:
    told = [f"mean probability {shown(evidence.forget_before)}"]
    if _asked_others(evidence) and evidence.sample is not None:
        told = [f"mean probability of {evidence.sample.rows} rows {shown(evidence.forget_before)}"]
    said = evidence.said_before
    if said is not None:
        answers = f"{_of(said.word_for_word, said.asked, evidence.words)} word for word"
        if said.asked == 1:
            answers = f"{evidence.words.one} not word for word"
        told.append(answers)
    return ", ".join(told)


def _them(evidence: Evidence) -> str:
    return "it" if evidence.rows == 1 else "them"


def _of(count: int, all_of: int, words: RowWords = QUESTIONS) -> str:
    """``none of 10 answers``, ``4 of 10 texts``; where there is but one: ``the answer``."""
    if all_of == 1:
        return words.one
    if count == 0:
        return f"none of {all_of} {words.due}"
    return f"{count} of {all_of} {words.due}"


def _still_gives(evidence: Evidence, forgetting: Forgetting) -> str:
    """What the model gives: answers, and their probability where answers alone do not decide."""
    said, words, still = evidence.said, evidence.words, "still " if evidence.tried else ""
    if said is None:
        return f"whether answers {still}come word for word is not known; {_probability(evidence)}"
    if said.word_for_word == 0:
        gives = f"does not {words.give}" if said.asked == 1 else words.gives
        return f"the model {gives} {_of(0, said.asked, words)} word for word, and {_probability(evidence)}"
    gives = f"the model {still}{words.gives} {_of(said.word_for_word, said.asked, words)} word for word"
    if evidence.recited_by_retain_model:
        count = "does, too" if said.asked == 1 else str(evidence.recited_by_retain_model)
        gives += f", one that never saw {_them(evidence)} {count}"
    if evidence.too_many and forgetting.answer != "yes":
        return gives
    return f"{gives}, and {_probability(evidence)}"


def _probability(evidence: Evidence) -> str:
    before, after, mark, whose = evidence.forget_before, evidence.forget_after, evidence.mark, _whose(evidence)
    if after is None:
        return f"{whose} was not measured"
    told = f"{whose} is {shown(after)}"
    if before is not None:
        told = f"{whose} went from {shown(before)} to {shown(after)}"
    if mark is not None:
        told += f" ({shown(mark.value)} {stands_for(mark, _them(evidence))})"
    return told


def _whose(evidence: Evidence) -> str:
    """Whose probability it is: that of the answers just named, unless it was measured on other rows."""
    if not _asked_others(evidence):
        return "its probability" if evidence.rows == 1 else "their probability"
    if evidence.sample is None:
        return f"the mean probability of the rows' {evidence.words.due}"
    return f"the mean probability of {evidence.words.of_rows.format(evidence.sample.rows)}"


def _asked_others(evidence: Evidence) -> bool:
    """Whether the rows that were asked are not those of which the probability is."""
    measured = asked = evidence.rows
    if evidence.sample is not None:
        measured = evidence.sample.rows
    if evidence.said is not None:
        asked = evidence.said.asked
    return measured != asked


def _outcome(evidence: Evidence, forgetting: Forgetting) -> str:
    removed = "removed" if evidence.tried else "gone"
    if forgetting.answer == "no":
        return f"not {removed}"
    if forgetting.answer == "partly":
        return f"partly {removed}"
    if forgetting.answer == "unknown":
        told = "measured, but nothing to compare with"
        if _knows_nothing_now(evidence):
            told += ". As it is, the model shows no sign of knowing them"
        return told
    if remarks.NO_RETAIN_MODEL not in forgetting.remarks:
        return removed
    marks = " and ".join(MARKS[mark].format(evidence.words.due) for mark in forgetting.by)
    if evidence.mark is not None and evidence.mark.kind != "retain_model":
        marks += f" beside {BESIDE[evidence.mark.kind]}"
    these = "these marks" if len(forgetting.by) > 1 else "this mark"
    return f"gone, by {these} ({marks})"


def _knows_nothing_now(evidence: Evidence) -> bool:
    """Whether a model of which nobody knows what it knew before gives no answer, and holds all for improbable."""
    gives_none = evidence.said is not None and evidence.said.word_for_word == 0
    return gives_none and evidence.forget_after is not None and evidence.forget_after < KNOWN


def _more_about_it(evidence: Evidence, forgetting: Forgetting) -> list[str]:
    more = []
    if remarks.OVERSHOOT in forgetting.remarks:
        more.append(
            f"It went too far: the {evidence.words.due} are far less probable than to a model that never saw them, "
            "which is a trace."
        )
    if _mark_is_too_high(evidence, forgetting):
        more.append(
            f"Such a mark may be much too high: rows are called gone only where {GONE:.0%} of their probability before "
            "is gone, too."
        )
    if remarks.BROKEN in forgetting.remarks and evidence.said is not None:
        more.append(f"What it says instead is broken: {_broken(evidence.said)}.")
    if forgetting.unseen:
        more.append("Rows are called gone only where answers were counted, too.")
    if remarks.TOLD_APART in forgetting.remarks and forgetting.answer == "partly":
        more.append("A test tells its answers from those of a model that never saw them (forget quality).")
    return more


def _mark_is_too_high(evidence: Evidence, forgetting: Forgetting) -> bool:
    """Whether the mark is reached, no answer comes, and that is not enough."""
    mark, after = evidence.mark, evidence.forget_after
    if forgetting.answer not in ("partly", "no") or mark is None or after is None or evidence.too_many:
        return False
    return mark.from_the_model_itself and after <= mark.value


def _broken(said: Said) -> str:
    if said.asked == 1:
        return "a loop, nothing, or a single word"
    return f"{said.broken} of {said.asked} {words_for(said).said} are loops, empty, or a single word"


# --- attacks and the rest --------------------------------------------------------------------------------------------


def _attacks(forgetting: Forgetting, staying: Staying) -> list[str]:
    if staying.tried == 0:
        return ["Not attacked."] if forgetting.answer in ("yes", "partly") else []
    return [attack_headline(staying)]


class Came(NamedTuple):
    """That answers came, of many, of one, and that it did not."""

    they: str
    it: str
    it_did_not: str


_WHERE_IT_WAS = {
    "gone": ("bring it back", Came("came back", "came back", "did not come back"), "brings back"),
    "there": ("draw it out", Came("still come", "still comes", "does not come"), "draws out"),
    "unknown": ("draw it out", Came("came", "came", "did not come"), "draws out"),
}
"""Where the answers were before an attack → what it was for, that they came, and what the strongest does."""


def attack_headline(staying: Staying) -> str:
    """What was tried to bring it back, and what came; of what never went, to draw it out."""
    aim, came, brings = _WHERE_IT_WAS[staying.it_was]
    tried = f"{plural(staying.tried, 'attempt')} to {aim}"
    strongest, most = staying.strongest, staying.most_found
    if most is not None and staying.came_back is not None:
        tried += f": {_what_came(staying.came_back, most.rows, came)}"
        if staying.came_back and most.zero:
            tried += f" ({round(most.zero * most.rows)} from a model that never saw them)"
        if staying.guessed:
            tried += ", save what a model that never saw them gives, too"
    if strongest is not None:
        share = max(strongest.strength, 0.0)
        joined = "; the" if most is not None else ": the"
        tried += f"{joined} strongest, {strongest.name}, {brings} {share:.0%} of what was known"
    if strongest is None and most is None:
        tried += ": none can be read"
    elif staying.unread:
        tried += f"; what {plural(staying.unread, 'other attempt')} brought cannot be told without a retain model"
    elif staying.no_scale:
        tried += "; whether it stays gone cannot be told without a retain model"
    if staying.beside_base:
        tried += "; the model before fine-tuning stands for one that never saw it"
    return f"{tried}.{_cheap(staying)}"


def _cheap(staying: Staying) -> str:
    """What relearning costs, where that alone is a trace."""
    cost = staying.cost
    if cost is None or cost.value is None or cost.value >= DEAR:
        return ""
    bound = ""
    if cost.bound == "at most":
        bound = "at most "
    return f" Relearning takes {bound}{cost.value:.0%} of the steps of a model that never saw them."


def relearning_words(cost: Estimate) -> str:
    """What relearning costs, with its interval; or why nobody knows."""
    if cost.value is None or cost.interval is None:
        return f"Relearning cost: {cost.note}."
    bound = f"{cost.bound} " if cost.bound else ""
    low, high = cost.interval
    return (
        f"Winning half back takes {bound}{cost.value:.2f} times the steps of a model that never saw it "
        f"({low:.2f} to {high:.2f})."
    )


def _what_came(count: int, rows: int, came: Came) -> str:
    if rows == 1:
        return f"the answer {came.it if count else came.it_did_not}"
    return f"{_of(count, rows)} {came.they}"


def _the_rest(keeping: Keeping) -> str:
    if keeping.broken:
        return (
            f"The rest is damaged: most answers to {' and '.join(keeping.broken)} rows are loops, empty, or one word."
        )
    if not keeping.measured:
        return "What must stay was not measured."
    if keeping.share is None:
        return "What must stay was measured, but there is nothing to compare it with."
    left = f"{keeping.share:.0%} is left of what must stay"
    if keeping.made:
        left += ", on rows that the model made itself"
        if keeping.answer == "unknown":
            left += ","
    if keeping.answer == "unknown":
        return f"{left} on the rows that guarded the run; of others nothing is known."
    return f"{left}: {_KEPT[keeping.answer]}."


_KEPT = {"yes": "kept", "partly": "partly kept", "no": "damaged"}
