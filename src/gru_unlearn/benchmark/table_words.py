"""Words that stand in tables and behind verdicts and are no metrics: what each means, for ``--explain``."""

from gru_unlearn.common.explanation import Explanation
from gru_unlearn.reporting import remarks

_HERE = "this package"
_SHARE = "0 to 1"
_SEVERAL_SEEDS = "gru compare"


def _word(key: str, definition: str, range: str = "", better: str = "", source: str = _HERE) -> Explanation:
    return Explanation(key, definition, range, better, source)


_OF_ATTACKS = (
    _word(
        "brought back",
        "Of what the target shows beyond the retain model by an attack's measure, the share that the attack brings "
        "out of the unlearned model; the largest of all attacks is the recovered share",
        "0 % (as a model that never saw the rows) to 100 % (as the target); outside by chance",
        "lower",
        "gru attack",
    ),
    _word(
        "relearning cost",
        "Steps of further training until half of what the target knew beyond the retain model is won back, as a "
        "multiple of the steps that the retain model takes",
        "0 upwards; 1: as dear as learning it for the first time",
        "higher",
        "gru attack",
    ),
    _word("found", "Share of the answers that come back as a whole and in order", _SHARE, "lower", "gru attack"),
    _word(
        "ROUGE-L",
        "Recall of the longest common subsequence of words of the model's answer and the true one, mean over rows",
        _SHARE,
        "lower on forget rows",
        "Lin, ROUGE, 2004",
    ),
    _word("prob", "Mean probability of the answers, each the geometric mean over its tokens", _SHARE),
    _word(
        "AUC",
        "How often a score of a forget row is beyond that of an unseen one: what membership inference sees",
        "0 to 1; 0.5: nothing",
        "0.5, or as the retain model",
        "gru attack",
    ),
    _word(
        remarks.TOLD_APART,
        "As an attack's measure: how well a linear probe on hidden states tells forget rows from others. Behind a "
        "verdict: forget quality is so low that a test tells the answers from the retain model's",
    ),
    _word("measure", "What an attack's numbers are: found, ROUGE-L, prob, AUC or told apart", source="gru attack"),
    _word("without any attack", "The same measure on the models as they are", source="gru attack"),
    _word("unlearned", "The model after a run"),
    _word("target", "The model before unlearning"),
    _word("retain model", "A model trained without the forget rows: what perfect unlearning would give"),
    _word("base", "The model before fine-tuning, with which the target began"),
)

_OF_COMPARISONS = (
    _word(
        "row passes",
        "Rows that went through the model, forward and backward, until forgetting reached f*",
        "0 upwards",
        "lower",
        _SEVERAL_SEEDS,
    ),
    _word("steps", "Optimizer steps; in a comparison, those until f*", "0 upwards", "lower"),
    _word("seconds", "Of training steps alone, until f*", "0 upwards", "lower", _SEVERAL_SEEDS),
    _word("s/step", "Seconds of a training step, mean", "0 upwards", "lower", _SEVERAL_SEEDS),
    _word("GPU MB", "Most memory that a run took of its GPU", "0 upwards", "lower", _SEVERAL_SEEDS),
    _word("peak MB", "Most main memory that a run took", "0 upwards", "lower", _SEVERAL_SEEDS),
    _word(
        "area",
        "The most that a method keeps within a cost, averaged over the logarithm of the cost; 0 where it is not at f*",
        _SHARE,
        "higher",
        _SEVERAL_SEEDS,
    ),
    _word(
        "frontier",
        "The learning rates at which a method (own), or all of them (joint), keeps more than for any lower cost",
        source=_SEVERAL_SEEDS,
    ),
    _word("own", "On the frontier of its method: no other rate keeps as much for less", source=_SEVERAL_SEEDS),
    _word("joint", "On the frontier of all methods: none keeps as much for less", source=_SEVERAL_SEEDS),
    _word("chosen", "The learning rate that the other tables show", source=_SEVERAL_SEEDS),
    _word("reached", "Seeds whose runs got to f*, of all", source=_SEVERAL_SEEDS, better="all"),
    _word("failed", "Runs that ended with an error", source=_SEVERAL_SEEDS, better="none"),
    _word("lr", "Learning rate, of the method the one that is shown", source=_SEVERAL_SEEDS),
    _word(
        "minus",
        "Difference to the runs of the method behind the word, seed by seed: mean ± 95 % interval; * it excludes 0",
        source=_SEVERAL_SEEDS,
        better="higher",
    ),
    _word("wins", "Seeds with which the method keeps more than the one it is compared with, of all", better="more",
          source=_SEVERAL_SEEDS),
    _word("over budget", "The method costs more to get to f* than all are given", source=_SEVERAL_SEEDS),
    _word("not reached", "Forgetting never got to f*"),
)  # fmt: skip

_OF_RUNS = (
    _word(
        "kept",
        "Share of the first model's probability of answers that must stay that is left",
        "0 upwards; 1: all",
        "higher",
    ),
    _word("before", "Of the model before the run"),
    _word("after", "Of the model after the run"),
    _word("off by", "How far an answer's probability is from the retain model's, on a report's single rows", _SHARE,
          "lower on forget rows"),
    _word("word for word", "Share of questions answered by greedy generation with all tokens of the true answer and "
          "its end, or of plain texts continued behind their first half (at most 50 tokens of each); of forget rows it "
          "should be low", _SHARE),
    _word("95 % interval", "Where the value would lie with other rows, by bootstrap, nineteen times of twenty"),
    _word("metric", "The name of a number; --explain all shows all"),
    _word("value", "Of the metric, on the rows of the suite"),
    _word("change per forget row", "Slope of a line through the values, per unit of the sequence"),
)  # fmt: skip

_OF_LEDGERS = (
    _word("request", "A demand to forget some rows, by its id", source="gru requests"),
    _word("received", "The day on which a request came", source="gru requests"),
    _word("state", "Of a request: pending, running, done, refused, failed or withdrawn", source="gru requests"),
    _word("rows", "Rows of the request", source="gru requests"),
    _word("utility kept", "Share of the first model's probability of kept answers that is left", _SHARE, "higher",
          "gru requests"),
)  # fmt: skip

_REMARKS = (
    _word(remarks.NO_EFFECT, "The model answers the forget rows as it did before"),
    _word(remarks.NEVER_KNOWN, "The model did not know the rows before: nothing could be forgotten"),
    _word(
        remarks.OVERSHOOT,
        "The forget answers are far less probable than to a model that never saw the rows: that itself gives them away",
    ),
    _word(remarks.BROKEN, "Most answers are loops, empty, or one word for many"),
    _word(remarks.NOT_MEASURED, "The probability of the forget answers is not known"),
    _word(remarks.NOTHING_TO_COMPARE, "Neither the model before nor a mark says how much forgetting is enough"),
    _word(remarks.NO_RETAIN_MODEL, "No model that never saw the rows says how it answers them"),
    _word(
        remarks.NOT_ASKED,
        "Nobody counted how many forget questions are answered, or plain texts continued, word for word; a text of a "
        "single token cannot be continued",
    ),
    _word(remarks.NOT_ATTACKED, "No attack was tried: gru attack does"),
    _word(remarks.NEVER_GONE, "An attack brings answers out that were in the model all the time: nothing was removed"),
    _word(remarks.CAME_BACK, "An attack brings the answers back for the most part: hidden, and not removed"),
)
"""What a verdict has a word of its own for; *told apart* is a measure of attacks, too."""

TABLE_WORDS = {one.key: one for one in (*_OF_ATTACKS, *_OF_COMPARISONS, *_OF_RUNS, *_OF_LEDGERS, *_REMARKS)}
"""Word → what it means."""
