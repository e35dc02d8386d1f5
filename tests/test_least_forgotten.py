"""Forget rows of a step: of several times as many, those that are least forgotten."""

import pytest
import torch

import tiny
from gru_unlearn.training.least_forgotten import drawn_candidates, least_forgotten
from gru_unlearn.training.scores import AnswerLogps

EXAMPLES = [{"input_ids": [number], "labels": [number]} for number in range(10)]


def numbers(examples):
    return [example["input_ids"][0] for example in examples]


def test_all_are_read_before_any_is_read_again():
    read = [numbers(drawn_candidates(EXAMPLES, 4, step, seed=3)) for step in range(5)]
    assert [len(some) for some in read] == [4, 4, 4, 4, 4]
    first, second = read[0] + read[1] + read[2][:2], read[2][2:] + read[3] + read[4]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert numbers(drawn_candidates(EXAMPLES, 4, 0, seed=4)) != read[0]


@pytest.mark.parametrize("count", [10, 11, 400])
def test_of_fewer_all_are_read_once(count):
    assert sorted(numbers(drawn_candidates(EXAMPLES, count, 7, seed=0))) == list(range(10))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 40])
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_no_two_processes_read_the_same_and_all_read_equally_many(count, step):
    shares = [numbers(drawn_candidates(EXAMPLES, count, step, seed=0, process=p, processes=3)) for p in range(3)]
    everything = shares[0] + shares[1] + shares[2]
    assert len(set(everything)) == len(everything)
    assert len({len(share) for share in shares}) == 1


def test_the_most_probable_answers_are_chosen_whatever_their_length():
    logps = AnswerLogps(
        [torch.tensor([-1.0]), torch.tensor([-0.5, -0.7, -0.6]), torch.tensor([-9.0, 0.0]), torch.zeros(2)]
    )
    assert numbers(least_forgotten(EXAMPLES[:4], 2, logps.probabilities)) == [3, 1]
    assert logps.mean_probability == pytest.approx(logps.probabilities.mean().item())


def test_what_any_model_would_guess_is_no_longer_known():
    examples = [{**EXAMPLES[0], "base_probability": 0.6}, EXAMPLES[1], {**EXAMPLES[2], "base_probability": 0.1}]
    assert numbers(least_forgotten(examples, 3, torch.tensor([0.7, 0.05, 0.3]))) == [2, 0, 1]


def forget_rows_of_steps(run):
    """Run; for each step the questions' numbers on its forget side, and the probabilities of all rows before it."""
    steps, seen = [], run._pass_back

    def note(side, model, batches, weight=1.0):
        if side == "forget":
            probabilities = run._answer_logps(run.forget_examples).probabilities
            model.train()
            shown = []
            for batch in batches:
                padded = zip(batch["input_ids"], batch["attention_mask"], strict=True)
                shown += [run_number(run, ids[mask.bool()].tolist()) for ids, mask in padded]
            steps.append((sorted(shown), probabilities))
        return seen(side, model, batches, weight)

    run._pass_back = note
    run.train()
    return steps


def run_number(run, ids):
    return next(n for n, example in enumerate(run.forget_examples) if list(example["input_ids"]) == ids)


def test_a_step_trains_on_what_is_least_forgotten_as_the_weights_stand(tmp_path):
    run = tiny.trainer(
        tmp_path, tiny.model(), forget_candidates=2, max_steps=6, learning_rate=3e-3, rectification="none"
    )
    steps = forget_rows_of_steps(run)
    assert len(steps) == 6
    for chosen, probabilities in steps:
        assert chosen == sorted(probabilities.argsort(descending=True)[:4].tolist()), "of eight, all of which are read"
    assert len({tuple(chosen) for chosen, _ in steps}) > 1


def test_one_candidate_is_no_choice_and_costs_nothing(tmp_path):
    options = {"max_steps": 4, "learning_rate": 1e-3, "rectification": "gru"}
    plain = tiny.trainer(tmp_path / "a", tiny.model(), **options)
    one = tiny.trainer(tmp_path / "b", tiny.model(), forget_candidates=1, **options)
    plain.train()
    one.train()
    assert torch.equal(tiny.weights(plain.model), tiny.weights(one.model))
    assert plain.cost.rows == one.cost.rows


def test_accumulated_batches_choose_together(tmp_path):
    cut = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    options = {"forget_candidates": 2, "max_steps": 3, "rectification": "gru/element/update", "retain_batch_size": None}
    whole = tiny.trainer(tmp_path / "a", tiny.model(), **options)
    parts = tiny.trainer(tmp_path / "b", tiny.model(), **options, **cut)
    whole.train()
    parts.train()
    assert torch.allclose(tiny.weights(whole.model), tiny.weights(parts.model), atol=1e-5)


def test_an_interrupted_run_chooses_as_it_would_have(tmp_path):
    options = {"forget_candidates": 2, "per_device_train_batch_size": 2, "max_steps": 6, "save_strategy": "steps"}
    options |= {"save_steps": 3, "rectification": "recommended"}
    whole = tiny.trainer(tmp_path / "a", tiny.model(), **options)
    whole.train()
    again = tiny.trainer(tmp_path / "a", tiny.model(), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert torch.equal(tiny.weights(whole.model), tiny.weights(again.model))


def test_at_the_mark_as_many_rows_are_asked_as_the_verdict_counts(tmp_path):
    options = {"learning_rate": "auto", "eval_max_rows": 2, "stop_at_forget_prob": 0.99, "use_cpu": True}
    run = tiny.trainer(tmp_path, tiny.model(), **options)
    asked = []
    run.share_said = lambda examples: asked.append(len(examples)) or 0.0
    assert run.measure_set("forget", run.forget_examples[:2])["forget_word_for_word"] == 0.0
    assert asked == [8], "all there are, though two are measured"
