"""Every metric against a value worked out by hand, on tables made without a model."""

import math
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_unlearn.evaluation import attacks, metrics
from gru_unlearn.evaluation.measure import Measured, bootstrap, measure
from gru_unlearn.evaluation.table import Entry, Missing, ScoreTable, Use, name_rows


def entry(*probs, uses=(), hits=None, text="an answer", generation=None, mu=None, sigma=None, **more):
    """An answer whose tokens have these probabilities; the last one is end-of-sequence."""
    logps = np.log(np.array(probs, dtype=np.float32))
    hits = np.array(hits if hits is not None else [True] * len(probs))
    mu = np.zeros_like(logps) if mu is None else np.array(mu, dtype=np.float32)
    sigma = np.ones_like(logps) if sigma is None else np.array(sigma, dtype=np.float32)
    uses = [Use(*use) for use in uses]
    return Entry("a question", text, logps, hits, mu, sigma, generation=generation, uses=uses, **more)


def table(*entries):
    return ScoreTable(list(entries))


def value(metric, scores, retain=None):
    return metric.compute(scores, retain).value


def test_probability_is_the_geometric_mean_over_tokens():
    scores = table(entry(0.5, 0.125, uses=[("forget", 0)]), entry(0.81, 1.0, uses=[("forget", 1)]))
    result = metrics.probability("p", "forget").compute(scores, None)
    assert result.rows["forget"] == pytest.approx([0.25, 0.9])
    assert result.value == pytest.approx(0.575)


def test_probability_of_wrong_answers_is_averaged_within_the_row():
    wrong = [entry(p, uses=[("forget", 0, "wrong", n)]) for n, p in enumerate((0.1, 0.3))]
    assert value(metrics.probability("p", "forget", "wrong"), table(*wrong)) == pytest.approx(0.2)


def test_normalised_probability():
    scores = table(
        entry(0.6, uses=[("ra", 0)]), entry(0.1, uses=[("ra", 0, "wrong", 0)]), entry(0.5, uses=[("ra", 0, "wrong", 1)])
    )
    assert value(metrics.normalised_probability("n", "ra"), scores) == pytest.approx(0.5)


def test_rouge_counts_the_longest_common_subsequence_of_stems():
    scores = table(entry(1.0, uses=[("forget", 0)], text="the cats sat down", generation="a cat sat"))
    assert value(metrics.rouge("r", "forget"), scores) == pytest.approx(2 / 4)
    assert value(metrics.rouge("r", "forget", part="precision"), scores) == pytest.approx(2 / 3)
    assert value(metrics.rouge("r", "forget", part="fmeasure"), scores) == pytest.approx(4 / 7)


def test_rouge_against_several_wrong_answers_is_averaged_within_the_row():
    scores = table(
        entry(1.0, uses=[("forget", 0)], text="one", generation="one two"),
        entry(1.0, uses=[("forget", 0, "wrong", 0)], text="one three"),
        entry(1.0, uses=[("forget", 0, "wrong", 1)], text="four"),
    )
    assert value(metrics.rouge("r", "forget", "wrong"), scores) == pytest.approx(0.25)


def ratio_table(*rows, set_name="forget", role="paraphrase"):
    """For each (correct, wrong, wrong) a row with these probabilities."""
    return table(
        *(entry(right, uses=[(set_name, n, role)]) for n, (right, *_) in enumerate(rows)),
        *(
            entry(p, uses=[(set_name, n, "wrong", k)])
            for n, (_, *wrong) in enumerate(rows)
            for k, p in enumerate(wrong)
        ),
    )


def test_truth_ratio():
    scores = ratio_table((0.5, 0.01, 0.04), (0.1, 0.2, 0.2))  # geometric means of the wrong ones: 0.02, 0.2
    assert value(metrics.truth_ratio("t", "forget", forget=True), scores) == pytest.approx((0.04 + 0.5) / 2)
    assert value(metrics.truth_ratio("t", "forget"), scores) == pytest.approx((0.96 + 0) / 2)


def test_truth_ratio_where_the_answer_stands_for_the_paraphrase():
    scores = ratio_table((0.5, 0.01, 0.04), set_name="wf", role="answer")
    assert value(metrics.truth_ratio("t", "wf", correct="answer"), scores) == pytest.approx(0.96)


def test_forget_quality_is_one_against_itself_and_small_against_another():
    high = ratio_table(*((0.1, p, p) for p in np.linspace(0.2, 0.9, 20)))
    low = ratio_table(*((0.9, p, p) for p in np.linspace(0.001, 0.05, 20)))
    quality = metrics.forget_quality("q")
    assert value(quality, high, high) == 1
    assert value(quality, high, low) == pytest.approx(2 / math.comb(40, 20))  # no overlap: two of all orders
    with pytest.raises(Missing, match="retain model"):
        quality.compute(high, None)


def utility_table(right):
    return table(entry(right, uses=[("a", 0)], generation="x"), entry(0.5, uses=[("b", 0)], generation="x"))


UTILITY = metrics.harmonic_mean("u", [metrics.probability("a_Prob", "a"), metrics.probability("b_Prob", "b")])


def test_utility_is_the_harmonic_mean():
    assert value(UTILITY, utility_table(0.25)) == pytest.approx(1 / 3)


def test_utility_names_the_component_that_makes_it_zero():
    scores = utility_table(0.25)
    scores.entries[0].logps[:] = -1e6
    result = measure([UTILITY], scores)
    assert result.metrics == {"u": 0}
    assert "a_Prob" in result.notes["u"]
    assert "b_Prob" not in result.notes["u"]


def test_utility_names_the_component_that_is_missing():
    result = measure([UTILITY], table(entry(0.5, uses=[("a", 0)])))
    assert result.metrics == {"u": None}
    assert "b_Prob" in result.missing["u"]


def test_scores_that_are_nan_name_their_rows():
    scores = table(*(entry(0.5 if row else math.nan, 0.5, uses=[("forget", row)]) for row in range(3)))
    for metric in (
        metrics.probability("m", "forget"),
        metrics.exact_memorization("m", "forget"),
        metrics.extraction_strength("m", "forget"),
    ):
        result = measure([metric], scores)
        assert result.metrics["m"] is None
        assert "forget" in result.missing["m"]
        assert "row 1" in result.missing["m"]


def test_exact_memorization_leaves_out_the_end_of_sequence():
    scores = table(entry(1, 1, 1, 1, uses=[("forget", 0)], hits=[True, False, True, False]))
    assert value(metrics.exact_memorization("m", "forget"), scores) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("hits", "strength"),
    [
        ([True, True, True, True, False], 1),
        ([True, False, True, True, True], 0.5),
        ([False, False, False, True, True], 0.25),
        ([True, True, True, False, True], 0.25),  # k stops at n - 1
    ],
)
def test_extraction_strength(hits, strength):
    scores = table(entry(*[1.0] * 5, uses=[("forget", 0)], hits=hits))
    assert value(metrics.extraction_strength("s", "forget"), scores) == pytest.approx(strength)


def test_a_cut_answer_has_no_end_of_sequence_to_leave_out():
    scores = table(entry(1, 1, uses=[("forget", 0)], hits=[True, False], closing=0))
    assert value(metrics.exact_memorization("m", "forget"), scores) == pytest.approx(0.5)


def test_exact_answers():
    scores = table(
        entry(1.0, uses=[("forget", 0)], text="in Rome", generation="in Rome"),
        entry(1.0, uses=[("forget", 1)], text="in Rome", generation="in rome"),
    )
    assert value(metrics.exact_answers("e", "forget"), scores) == 0.5


ROW = entry(
    0.5, 0.25, 0.0625, 0.5, 0.125, 1.0, text="aaaa", gradnorm=3.5,
    mu=[-1, -1, -1, -1, -1, -1], sigma=[1, 2, 0, 1, 1, 1],
)  # fmt: skip


def test_attack_scores():
    ln2 = math.log(2)
    loss = (1 + 2 + 4 + 1 + 3 + 0) * ln2 / 6
    assert attacks.loss(ROW) == pytest.approx(loss)
    assert attacks.zlib_entropy(ROW) == pytest.approx(loss / len(zlib.compress(b"aaaa")))
    assert attacks.min_k(ROW) == pytest.approx((4 + 3) * ln2 / 2)  # the lowest 2 of 5 tokens
    assert attacks.min_k_plus_plus(ROW) == pytest.approx(-(((1 - 4 * ln2) / 1e-3) + (1 - 3 * ln2)) / 2, rel=1e-4)
    assert attacks.gradnorm(ROW) == 3.5


def membership_table(forget, holdout):
    rows = [("forget", row, loss) for row, loss in enumerate(forget)] + [
        ("holdout", row, p) for row, p in enumerate(holdout)
    ]
    return table(*(entry(math.exp(-loss), 1.0, uses=[(name, row)]) for name, row, loss in rows))


def test_area_under_the_curve_counts_ties_half():
    scores = membership_table([1, 2], [2, 3])
    assert value(attacks.membership_metric("a", "loss"), scores) == pytest.approx((1 + 1 + 0.5 + 1) / 4)


def test_reference_attack_subtracts_the_retain_model():
    scores, retain = membership_table([1, 2], [2, 3]), membership_table([1, 2], [2, 3])
    assert value(attacks.reference_attack("a"), scores, retain) == 0.5
    assert value(attacks.reference_attack("a"), membership_table([1 - 1e-7, 2], [2, 3 + 1e-7]), retain) == 0.5
    assert value(attacks.reference_attack("a"), membership_table([0.5, 1], [2, 3]), retain) == 1
    with pytest.raises(Missing, match="retain model"):
        attacks.reference_attack("a").compute(scores, None)


def test_privacy_leakage():
    leaking, clean = membership_table([1, 2], [3, 4]), membership_table([1, 3], [2, 3.5])
    assert value(attacks.privacy_leakage("p"), leaking, clean) == pytest.approx(-100)
    assert value(attacks.privacy_leakage("p"), clean, clean) == pytest.approx(0)
    alone = attacks.privacy_leakage("p").compute(clean, None)
    assert alone.value == pytest.approx((0.25 - 0.5) / 0.5 * 100)
    assert "0.5" in alone.note


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_interval_holds_the_mean(values):
    low, high = bootstrap(np.array(values))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert low - 1e-9 <= np.mean(values) + 1.5 * np.ptp(values) / len(values) ** 0.5
    assert bootstrap(np.array(values)) == (low, high)


def test_the_interval_narrows_with_more_rows():
    few, many = (np.subtract(*bootstrap(np.random.default_rng(0).random(n))) for n in (20, 2000))
    assert abs(many) < abs(few) / 5


def test_one_row_has_a_mean_and_no_interval():
    assert (Measured.mean("s", [0.3]).value, Measured.mean("s", [0.3]).interval) == (0.3, None)
    assert Measured.mean("s", [0.3, 0.5]).interval == (0.3, 0.5)


@given(st.permutations(range(4)))
def test_metrics_do_not_depend_on_the_order_of_the_entries(order):
    scores = ratio_table((0.5, 0.01, 0.04), (0.1, 0.2, 0.3))
    metric = metrics.truth_ratio("t", "forget")
    shuffled = table(*(scores.entries[n] for n in order), *scores.entries[4:])
    assert (
        metric.compute(shuffled, None).rows["forget"].tolist() == metric.compute(scores, None).rows["forget"].tolist()
    )


def test_a_table_survives_its_file(tmp_path):
    original = ScoreTable(
        [
            entry(0.5, 0.1, uses=[("forget", 0), ("retain", 3, "wrong", 2)], generation="so"),
            entry(0.2, gradnorm=1.5, continuation="on"),
        ],
        {"model": "abc"},
    )
    original.save(tmp_path / "scores.parquet")
    loaded = ScoreTable.load(tmp_path / "scores.parquet")
    assert loaded.settings == original.settings
    for one, other in zip(original.entries, loaded.entries, strict=True):
        for name in ("prompt", "answer", "uses", "generation", "continuation", "gradnorm"):
            assert getattr(one, name) == getattr(other, name)
        for name in ("logps", "hits", "mu", "sigma"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype


def test_what_was_not_scored_is_named():
    scores = table(entry(0.5, uses=[("forget", 0)]), entry(0.5, uses=[("forget", 1, "wrong")]))
    with pytest.raises(Missing, match="'retain'"):
        scores.answers("retain")
    with pytest.raises(Missing, match="forget: no answer answer scored in row 2"):
        scores.answers("forget")
    with pytest.raises(Missing, match="generated for row 1"):
        table(entry(0.5, uses=[("forget", 0)])).generations("forget")


def test_long_lists_of_rows_are_cut():
    assert name_rows([0]) == "row 1"
    assert name_rows(list(range(8))) == "rows 1, 2, 3, 4, 5 and 3 more"


def test_tables_and_metrics_do_without_torch():
    code = "import sys, gru_unlearn.evaluation.attacks; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
