"""``gru attack``: each attack against a plain reference, and the whole battery on models whose answer is known."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from transformers import GPT2Config, GPT2LMHeadModel

import tiny
from gru_unlearn.attacks import attack_job as run_module
from gru_unlearn.attacks import attack_tables, slow_models
from gru_unlearn.attacks.attack_job import ATTACKS
from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.attack_tables import attack_table, worst_measures
from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.extent import QUICK
from gru_unlearn.attacks.inside import _some_layers
from gru_unlearn.attacks.probing import contains, hear
from gru_unlearn.attacks.prompts import _few_shot, _ids, given_away
from gru_unlearn.attacks.recovery import recovery
from gru_unlearn.attacks.relearning import nearest
from gru_unlearn.attacks.relearnt_copies import Tuning, copy_to_train, fine_tune
from gru_unlearn.data import Encoder, Record, Turn, to_record
from gru_unlearn.evaluation.generation import continuations, generate, prompts_at_once
from gru_unlearn.evaluation.quantization import round_to_bits, round_weights, rounder
from gru_unlearn.results.attack_summary import AttackResult, AttackSummary

STOP, PAD = {1}, 0


def rounded_by_the_book(weight, bits, group_size):
    """Number by number, in float64."""
    weight = weight.double().numpy()
    result, levels = np.empty_like(weight), 2 ** (bits - 1) - 1
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], group_size):
            group = weight[row, start : start + group_size]
            step = np.abs(group).max() / levels
            for place, value in enumerate(group, start=start):
                result[row, place] = np.rint(value / step) * step if step else 0.0
    return result


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 64), (4, 7), (2, None)])
def test_rounding_to_bits_is_round_to_nearest_by_the_book(bits, group_size):
    weight = torch.randn(5, 150, generator=torch.Generator().manual_seed(bits))
    weight[3] = 0.0
    weight[4, :64] = 0.0  # a whole group without scale
    rounded = round_to_bits(weight, bits, group_size)
    np.testing.assert_allclose(rounded.numpy(), rounded_by_the_book(weight, bits, group_size or 150), rtol=0, atol=1e-6)
    assert len(rounded[0, : group_size or 150].unique()) <= 2**bits - 1
    torch.testing.assert_close(round_to_bits(rounded, bits, group_size), rounded)  # what is on the grid stays there


def test_all_linear_layers_are_rounded_and_nothing_else():
    model, before = tiny.model(), tiny.model().state_dict()
    count = round_weights(model, rounder(4, 64))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    linear = {name for name in before if "_proj" in name}
    assert changed == linear  # the head is the embedding here, and stays
    assert count == sum(before[name].numel() for name in linear)


def test_gpt2_is_rounded_by_output_although_it_stores_weights_the_other_way_round():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2))
    weight = model.transformer.h[0].mlp.c_fc.weight  # [inputs, outputs]
    expected = rounded_by_the_book(weight.detach().T, 4, 8).T
    round_weights(model, rounder(4))
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_evenly_spread_draws_give_each_token_its_probability(temperature):
    model, prompt, count = tiny.model().eval(), [2, 3, 11, 12], 2000
    with torch.no_grad():
        expected = (model(torch.tensor([prompt])).logits[0, -1].double() / temperature).softmax(-1)
    draws = [[(number + 0.5) / count] for number in range(count)]
    first = generate(model, [prompt] * count, [1] * count, STOP, PAD, temperature=temperature, draws=draws)
    shares = torch.bincount(torch.tensor(first)[:, 0], minlength=len(expected)) / count
    assert (shares - expected).abs().max() < 1.5 / count


def test_a_sampled_text_does_not_depend_on_the_batch():
    model, encoder = tiny.model().eval(), Encoder(tiny.tokenizer())
    prompts = [encoder.prompt_ids(to_record(row, "")) for row in tiny.rows(7)]
    draws = np.random.default_rng(0).random((7, 12)).tolist()
    alone, together = (
        continuations(model, encoder, prompts, [12] * 7, size, temperature=1.5, draws=draws) for size in (1, 5)
    )
    assert alone == together
    assert len(set(alone)) > 3
    assert alone != continuations(model, encoder, prompts, [12] * 7, 5)  # greedy


def values(unlearned, target, retain_model):
    return {
        name: {"forget": row}
        for name, row in zip(("unlearned", "target", "retain_model"), (unlearned, target, retain_model), strict=True)
    }


def test_recovery_of_models_that_are_one_of_the_two_ends_is_certain():
    low, high = [0.1, 0.3, 0.2, 0.2], [0.8, 0.9, 0.7, 1.0]
    assert recovery(values(high, high, low))[4:] == (1.0, 1.0, 1.0, "")
    assert recovery(values(low, high, low))[4:] == (0.0, 0.0, 0.0, "")


def test_recovery_is_a_share_whose_interval_pairs_the_rows():
    rng = np.random.default_rng(1)
    retain, room = rng.random(30) * 0.4, 0.5 + rng.random(30) * 0.1
    share = rng.normal(0.3, 0.05, 30)
    found = recovery(values(retain + share * room, retain + room, retain))
    assert found.recovered == pytest.approx((share * room).sum() / room.sum())
    assert found.low < found.recovered < found.high
    # The spread of the share over the rows and nothing else: what rows have in common in all three models cancels.
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * 0.05 / np.sqrt(30), rel=0.35)


def test_recovery_is_not_measured_where_the_ends_hardly_differ_or_one_is_missing():
    rng = np.random.default_rng(0)
    noise = [rng.random(20).tolist() for _ in range(3)]
    found = recovery(values(*noise))
    assert found.recovered is found.low is None
    assert "hardly differs" in found.note
    found = recovery({"unlearned": {"forget": [0.5]}, "target": {"forget": [1.0]}})
    assert (found.unlearned, found.target, found.retain_model, found.recovered) == (0.5, 1.0, None, None)


def test_without_a_retain_model_the_base_is_the_zero_line():
    low, high, middle = [0.1, 0.3, 0.2, 0.2], [0.8, 0.9, 0.7, 1.0], [0.45, 0.6, 0.45, 0.6]
    both = values(middle, high, [0.4, 0.4, 0.4, 0.4])
    beside_base = {"unlearned": both["unlearned"], "target": both["target"], "base": {"forget": low}}
    found = recovery(beside_base)
    assert (found.retain_model, found.base) == (None, pytest.approx(0.2))
    assert found[4:] == recovery(values(middle, high, low))[4:]
    assert recovery(both | {"base": {"forget": low}})[4:] == recovery(both)[4:], "a retain model goes before"


def test_one_row_has_no_interval_and_so_no_share():
    found = recovery(values([0.0], [1.0], [0.0]))
    assert (found.recovered, found.low, found.note) == (None, None, "not measurable, one row has no interval")


def test_weights_left_frozen_by_merged_adapters_are_trained_like_all_others():
    model, encoder = tiny.model(), Encoder(tiny.tokenizer())

    class Frozen:
        def load(self, dtype):
            return model.requires_grad_(False)

    Frozen.encoder = encoder
    before = {name: value.clone() for name, value in model.state_dict().items()}
    examples = encoder.encode_all([to_record(tiny.rows(1)[0], "")], "forget")
    tuning = Tuning(1, 1e-2, 8, 0)
    for _ in fine_tune(copy_to_train(Frozen(), tuning), examples, Frozen, tuning):
        pass
    assert not [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]


def test_no_answer_to_forget_is_shown_as_an_example():
    """Retain sets that hold forget rows, too, are usual where these are the training data."""
    rows = [to_record(row, "") for row in tiny.rows(8)]
    battery = Battery(AttackRequest(), QUICK, {}, {"forget": rows[:5], "retain": rows}, [1, 2], [], 0.0, {})
    (asked,) = _few_shot(battery).args[1]
    assert [record.turns[-1] for record in asked] == [rows[0].turns[-1], rows[1].turns[-1]]
    assert {turn for record in asked for turn in record.turns[:-2]} == {t for row in rows[5:] for t in row.turns}


def test_resamples_in_which_the_ends_do_not_differ_count_for_nothing():
    """With few rows some resamples hold only those that target and retain model answer alike: 0 / 0."""
    found = recovery(values([0.0, 1, 0, 0, 0, 0], [1.0, 1, 1, 1, 0, 0], [0.0, 0, 0, 0, 0, 0]))
    assert found.recovered == pytest.approx(0.25)
    assert 0 <= found.low < found.high <= 1


def test_an_attack_that_fails_on_the_target_too_brings_nothing_back():
    attacked = values([0.1] * 9, [0.2] * 9, [0.0] * 9)
    assert recovery(attacked).recovered == pytest.approx(0.5)
    found = recovery(attacked, before={"forget": [1.0] * 9})
    assert (found.target, found.recovered) == (1.0, pytest.approx(0.1))
    assert recovery(attacked, before={"forget": [0.1] * 9}).target == pytest.approx(0.2)


def test_membership_recovers_areas_under_the_curve():
    rng = np.random.default_rng(2)
    holdout = {name: rng.normal(3, 1, 25).round(1) for name in ("unlearned", "target", "retain_model")}
    forget = {name: rng.normal(mean, 1, 20).round(1) for name, mean in zip(holdout, (2, 1, 3), strict=True)}
    found = recovery({name: {"forget": forget[name].tolist(), "holdout": holdout[name].tolist()} for name in holdout})
    areas = [mannwhitneyu(holdout[name], forget[name]).statistic / 500 for name in holdout]
    assert found[:3] == pytest.approx(areas)
    assert found.recovered == pytest.approx((areas[0] - areas[2]) / (areas[1] - areas[2]))
    assert found.low < found.recovered < found.high


def chat(question, answer):
    return Record((Turn("user", question), Turn("assistant", answer)))


def test_related_rows_share_words_with_the_forget_rows():
    rows = [chat("Where was Ada born?", "In Rome."), chat("Which pet has Bob?", "A cat.")]
    pool = [
        chat("What is two plus two?", "Four."),
        chat("Which pet has Eve?", "A dog."),
        chat("Where was Eve born?", "In Rome."),
        chat("Where was Dan born?", "In Oslo."),
    ]
    assert nearest(rows, pool, 2) == [pool[2], pool[1]]
    assert nearest(rows, pool, 9) == [pool[2], pool[1], pool[3], pool[0]]


def test_the_beginning_of_an_answer_is_given_in_the_answers_own_tokens():
    record, encoder = to_record(tiny.rows(1)[0], ""), Encoder(tiny.tokenizer())
    assert given_away(record, 0.5) == ("Ada lives in", "the red one .")
    assert given_away(record, 0.1) == ("", record.answer)
    assert given_away(chat("?", "one\n two  three four"), 0.5) == ("one\n two", "three four")
    whole, begun = _ids(encoder, record, record.answer), _ids(encoder, record, "Ada lives in")
    assert whole[: len(begun) - 1] == begun[:-1]


def test_what_is_said_is_heard_in_any_wording_and_any_try():
    references = [["it is red", "red it is"], ["it is blue"], ["one two"]]
    tries = [["Red, it is!", "it was blue", "one"], ["no", "so it IS Blue.", "two one"]]
    found, best = hear(references, tries)
    assert found == {"ROUGE-L": {"forget": [1.0, 1.0, 0.5]}, "found": {"forget": [1.0, 1.0, 0.0]}}
    assert best == ["Red, it is!", "so it IS Blue.", "one"]
    assert not contains("in the redone hall", "the red")


# --- the command ------------------------------------------------------------------------------------------------------


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A target that learnt the forget rows, a model that did not, and rows of each kind."""
    folder = tmp_path_factory.mktemp("attack")
    rows = [row | {"paraphrased_question": f"what is {row['question'][9:]}"} for row in tiny.rows(12)]
    write_rows(folder / "forget.jsonl", rows)
    write_rows(folder / "retain.jsonl", tiny.rows(8, 20))
    write_rows(folder / "holdout.jsonl", tiny.rows(12, 30))
    write_rows(folder / "texts.jsonl", [{"text": row["answer"]} for row in rows])
    (folder / "prefixes.txt").write_text("who is Bob ?\n\nwhat is red ?\n")
    tiny.save(folder / "retain_model")
    model, encoder = tiny.model(), Encoder(tiny.tokenizer())

    class Learner:
        pass

    Learner.encoder = encoder
    examples = encoder.encode_all([to_record(row, "") for row in rows], "forget")
    for _ in fine_tune(model, examples, Learner, Tuning(120, 1e-2, 8, 0)):
        pass
    model.save_pretrained(folder / "target")
    encoder.tokenizer.save_pretrained(folder / "target")
    return folder


def arguments(world, unlearned, out, *more):
    common = {"model": world / unlearned, "target": world / "target", "retain-model": world / "retain_model"}
    common |= {name: world / f"{name}.jsonl" for name in ("forget", "retain", "holdout")}
    common |= {"unrelated": world / "retain.jsonl", "prefixes": world / "prefixes.txt", "out": out}
    flags = [word for name, value in common.items() for word in (f"--{name}", value)]
    return ["attack", *flags, "--samples", 3, "--relearning-steps", 4, "--relearning-learning-rate", 1e-3, *more]


def verdict(found):
    return attack_tables.strongest_attack(AttackSummary.model_validate(found))


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_the_target_itself_as_unlearned_model_is_wholly_back(gru, world, tmp_path):
    """Every attack treats the models alike, to the last random number: only then are shares exactly 1."""
    code, out, err = gru(*arguments(world, "target", tmp_path / "out"))
    assert code == 0, err
    found = summary(tmp_path / "out")
    assert found["command"] == "attack"
    assert {line["attack"] for line in found["attacks"]} == set(ATTACKS)
    assert {line["measure"] for line in found["attacks"]} == {"prob", "ROUGE-L", "found", "AUC", "told apart"}
    assert len({(line["attack"], line["variant"]) for line in found["attacks"]}) == 3 + 3 + 1 + 6 + 2 + 6
    assert [line["variant"] for line in found["left_out"]] == ["another language"]
    measured = [line for line in found["attacks"] if line["recovered"] is not None]
    assert len(measured) > 12
    assert all(line["recovered"] <= 1 for line in measured if line["attack"] != "relearning")
    alike = [line for line in measured if line["target"] == line["unlearned"]]
    assert len(alike) > 8
    assert all(line["recovered"] == line["low"] == line["high"] == 1 for line in alike)
    relearnt = [curve for curve in found["curves"] if curve["attack"] == "relearning"]
    assert all(curve["steps"] == [0, 1, 2, 3, 4] and len(curve["values"]) == 5 for curve in relearnt)
    curves = {(one["variant"], one["form"], one["model"]): one["values"] for one in relearnt}
    forms = ("at 0.001", "at 0.003", "at 0.01", "LoRA at 0.01", "LoRA at 0.03")
    assert len(curves) == (5 + 5 + 3) * 3 + 5 * 2  # the target is not taught its own rows to see what that costs
    for form in forms:
        assert curves["all forget rows", form, "unlearned"] != curves["all forget rows", form, "retain_model"]
        assert len(set(curves["related rows", form, "target"])) == 1, "the target stays as it was"
        assert len(set(curves["related rows", form, "unlearned"])) > 1
    for line in found["attacks"]:
        if "step" in line and line["attack"] == "relearning":  # the step at which most is back, not the last one
            unlearned, retain = (curves[line["variant"], line["form"], name] for name in ("unlearned", "retain_model"))
            ahead = [one - other for one, other in zip(unlearned, retain, strict=True)]
            assert line["step"] == 1 + ahead[1:].index(max(ahead[1:]))
            assert line["unlearned"] == pytest.approx(unlearned[line["step"]])
    assert sum("step" in line for line in found["attacks"] if line["attack"] == "relearning") == 5 + 5 + 3
    headline = found["headline"]
    most = max(line["recovered"] for line in measured if line["measure"] not in ("AUC", "told apart"))
    assert headline["recovered_share"]["value"] == pytest.approx(most, rel=1e-12), "summed in another order"
    assert headline["relearning_cost"]["value"] == 0, "what was never forgotten need not be won back"
    for estimate in headline.values():
        low, high = estimate["interval"]
        assert low <= estimate["value"] <= high
    rows = json.loads((tmp_path / "out" / "rows.json").read_text())
    few = next(row for row in rows if row["variant"] == "forget rows")
    assert len(few["numbers"]) == len(few["values"]["target"]["forget"]) == 9  # three of twelve were trained on
    sampled = next(row for row in rows if row["attack"] == "sampling")
    assert [len(said) for said in sampled["said"].values()] == [12, 12, 12]
    assert not (tmp_path / "out" / "parts").exists()
    assert "100" in verdict(found)
    assert "relearning: related rows" in out


def test_the_retain_model_as_unlearned_model_has_nothing_back(gru, world, tmp_path):
    code, out, err = gru(*arguments(world, "retain_model", tmp_path / "out", "--attacks", "quantization,sampling"))
    assert code == 0, err
    assert "The unlearned model has the weights of the retain model." in out
    found = summary(tmp_path / "out")
    measured = [line for line in (*found["attacks"], *found["before"]) if line["recovered"] is not None]
    assert len(measured) > 5
    assert all(line["recovered"] == line["low"] == line["high"] == 0 for line in measured)
    assert verdict(found).startswith("No attack brings anything back")


def test_the_same_command_gives_the_same_numbers_and_goes_on_after_an_interruption(gru, world, tmp_path, monkeypatch):
    choice = ("--attacks", "relearning,sampling", "--max-rows", 6, "--no-reuse", "--seed", 3)
    code, _, err = gru(*arguments(world, "target", tmp_path / "whole", *choice))
    assert code == 0, err

    def interrupted(battery):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(run_module.ATTACKS, "sampling", interrupted)
        code, _, err = gru(*arguments(world, "target", tmp_path / "halves", *choice))
        assert code == 130, err
    assert not (tmp_path / "halves" / "summary.json").exists()
    code, out, err = gru(*arguments(world, "target", tmp_path / "halves", *choice, "--batch-size", 5))
    assert code == 0, err
    assert "relearning: done before" in out
    assert "sampling: done before" not in out
    whole, halves = (json.loads((tmp_path / name / "rows.json").read_text()) for name in ("whole", "halves"))
    assert whole == halves
    assert summary(tmp_path / "whole")["attacks"] == summary(tmp_path / "halves")["attacks"]
    code, _, err = gru(*arguments(world, "target", tmp_path / "halves", *choice[:-1], 4))
    assert code == 2
    assert "settings.seed" in err


def test_what_came_out_of_the_models_beside_it_is_known_to_the_next_attack(gru, world, tmp_path, monkeypatch):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "cache"))
    choice = ("--attacks", "relearning,membership", "--max-rows", 4, "--relearning-rates", 3, "--quick")

    def attacked(unlearned, name, *more):
        code, printed, err = gru(*arguments(world, unlearned, tmp_path / name, *choice, *more))
        assert code == 0, err
        return summary(tmp_path / name), " ".join(printed.split())

    first, printed = attacked("target", "first")
    assert not first["reused"]
    assert "known from an earlier attack" not in printed
    second, printed = attacked("retain_model", "second")
    assert second["reused"] == {name: ["target", "retain_model"] for name in ("none", "relearning", "membership")}
    assert "target and retain model known from an earlier attack (--no-reuse measures anew)" in printed
    anew, _ = attacked("retain_model", "anew", "--no-reuse")
    rows = [(tmp_path / name / "rows.json").read_text() for name in ("second", "anew")]
    assert rows[0] == rows[1]
    for name in ("attacks", "before", "curves", "headline", "left_out"):
        assert second[name] == anew[name]
    assert not anew["reused"]
    other, _ = attacked("retain_model", "other", "--seed", 5)
    assert not other["reused"]
    for file in (tmp_path / "cache" / "attacks").iterdir():
        file.write_text("broken")
    assert not attacked("target", "broken")[0]["reused"]


def test_a_quick_attack_is_smaller_says_so_and_shows_the_base_beside(gru, world, tmp_path):
    out = tmp_path / "out"
    base = ("--base-model", world / "retain_model", "--attacks", "relearning,quantization,prompts,inside")
    code, printed, err = gru(*arguments(world, "target", out, "--quick", *base))
    assert code == 0, err
    found = summary(out)
    assert {(line["attack"], line["variant"]) for line in found["attacks"]} == {
        ("relearning", "forget rows"),
        ("relearning", "related rows"),
        ("quantization", "4 bits, NF4"),
        ("prompts", "1/2 of the answer"),
        ("prompts", "few-shot"),
    }
    assert (found["settings"]["quick"], found["settings"]["relearning_rates"]) == (True, [3.0, 10.0])
    assert all(line["base"] == line["retain_model"] for line in found["attacks"]), "attacked alike, to the last number"
    assert found["base"]["sha256"] == found["retain_model"]["sha256"]
    assert "Recovered share under the strongest attack: " in printed
    assert "Winning half back takes at most 0.00 times the steps of a model that never saw it" in printed
    assert "stays gone: no" in printed


def test_a_large_model_on_a_processor_computes_in_bfloat16_by_itself(gru, world, tmp_path, monkeypatch):
    monkeypatch.setattr(slow_models, "LARGE", 1)
    monkeypatch.setattr(slow_models, "processor_computes_in_bfloat16", lambda: True)
    choice = ("--attacks", "relearning,quantization", "--max-rows", 4, "--relearning-rates", "3")
    code, _, err = gru(*arguments(world, "target", tmp_path / "out", *choice))
    assert code == 0, err
    found = summary(tmp_path / "out")
    assert found["settings"]["dtype"] == "bfloat16"
    assert (found["tried"]["hurries"], found["settings"]["relearning_steps"]) == (True, 4)
    assert "hurries" not in found["settings"], "which are flags, so that the report can tell how to repeat it"
    back = [line for line in found["attacks"] if line["attack"] == "quantization"]
    assert [line["recovered"] for line in back if line["recovered"] is not None]
    code, _, err = gru(*arguments(world, "target", tmp_path / "wide", *choice, "--dtype", "float32"))
    assert code == 0, err
    assert summary(tmp_path / "wide")["settings"]["dtype"] == "float32"


def test_a_quick_attack_on_a_large_model_draws_nothing_and_relearns_no_base_beside_a_retain_model(
    gru, world, tmp_path, monkeypatch
):
    monkeypatch.setattr(slow_models, "LARGE", 1)
    choice = ["--attacks", "relearning,quantization,sampling", "--max-rows", 6, "--base-model", world / "retain_model"]
    words = arguments(world, "target", tmp_path / "out", "--quick", *choice)
    del words[words.index("--samples") : words.index("--samples") + 2]
    code, printed, err = gru(*words)
    assert code == 0, err
    found = summary(tmp_path / "out")
    relearnt = [line for line in found["attacks"] if line["attack"] == "relearning"]
    assert {line["base"] for line in relearnt} == {None}
    assert all(line["recovered"] is not None for line in relearnt), "compared with the retain model"
    assert all(line["base"] is not None for line in found["attacks"] if line["attack"] == "quantization")
    assert {line["attack"] for line in found["left_out"]} == {"sampling"}
    assert "--samples 16, or a whole attack" in " ".join(printed.split())


def test_what_was_done_when_it_was_killed_is_kept(gru, world, tmp_path):
    choice = ("--attacks", "quantization,sampling,prompts", "--max-rows", 6)
    words = [str(word) for word in arguments(world, "target", tmp_path / "out", *choice)]
    process = subprocess.Popen([sys.executable, "-m", "gru_unlearn", *words])
    part = tmp_path / "out" / "parts" / "quantization.json"
    while process.poll() is None and not part.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) in (-signal.SIGKILL, 0)
    if process.returncode == 0:
        pytest.skip("it was done before it could be killed")
    code, printed, err = gru(*words)
    assert code == 0, err
    assert "none: done before" in printed
    assert "quantization: done before" in printed
    assert {line["attack"] for line in summary(tmp_path / "out")["attacks"]} == {"quantization", "sampling", "prompts"}


def test_translations_are_asked_where_rows_have_them(gru, world, tmp_path):
    rows = [row | {"question_de": f"was ist {row['question']}", "answer_de": row["answer"]} for row in tiny.rows(6)]
    forget = write_rows(tmp_path / "forget.jsonl", rows)
    choice = ("--attacks", "prompts", "--forget", forget)
    code, _, err = gru(*arguments(world, "target", tmp_path / "out", *choice))
    assert code == 0, err
    found = summary(tmp_path / "out")
    assert {"another language", "another template"} <= {line["variant"] for line in found["attacks"]}
    assert "paraphrase" in {line["variant"] for line in found["left_out"]}


def test_what_rows_or_models_do_not_allow_is_left_out_with_the_reason(gru, world, tmp_path):
    flags = ["--model", world / "target", "--target", world / "target", "--forget", world / "texts.jsonl"]
    code, out, err = gru("attack", *flags, "--relearning-steps", 1, "--max-rows", 4, "--out", tmp_path / "out")
    assert code == 0, err
    found = summary(tmp_path / "out")
    reasons = {(line["attack"], line["variant"]): line["why"] for line in found["left_out"]}
    assert set(reasons) == {
        ("relearning", "related rows"),
        ("sampling", "best of k"),
        ("prompts", "other questions"),
        ("inside", "linear probe"),
        ("membership", ""),
    }
    assert "retain" in reasons["relearning", "related rows"]
    assert "holdout" in reasons["membership", ""]
    assert {line["attack"] for line in found["attacks"]} == {"relearning", "quantization", "inside"}
    assert all(line["recovered"] is line["retain_model"] is None for line in found["attacks"])
    assert "no zero line" in " ".join(out.split())


@pytest.fixture
def with_positions(world, tmp_path):
    """The arguments of an attack on a model with twenty learned positions."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 2, "eos_token_id": 1}
    config = GPT2Config(vocab_size=48, n_positions=20, n_embd=8, n_layer=1, n_head=2, **ends)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    flags = ["--model", tmp_path / "model", "--target", tmp_path / "model", "--out", tmp_path / "out"]
    return ["attack", *flags, "--relearning-steps", 1, "--samples", 1, "--max-rows", 4, "--relearning-rates", "1"]


def test_prompts_and_rows_that_models_have_no_positions_for_are_left_out(gru, world, with_positions, tmp_path):
    long = write_rows(tmp_path / "long.jsonl", [{"question": "who is Dan ?", "answer": "the red one . " * 8}])
    sets = ["--forget", world / "forget.jsonl", "--retain", long, "--unrelated", world / "retain.jsonl"]
    code, _, err = gru(*with_positions, *sets, "--attacks", "relearning,prompts")
    assert code == 0, err
    found = summary(tmp_path / "out")
    reasons = {(line["attack"], line["variant"]): line["why"] for line in found["left_out"]}
    assert ("relearning", "related rows") in reasons
    assert ("prompts", "few-shot") in reasons
    assert any(variant.startswith("best of") for _, variant in reasons)
    del reasons["prompts", "another language"]
    assert all("positions for 20 only" in reason for reason in reasons.values())
    variants = {line["variant"] for line in found["attacks"]}
    fit = {"forget rows", "unrelated rows", "paraphrase", "1/2 of the answer", "1/4 of the answer", "another template"}
    assert fit - {"1/4 of the answer"} == variants - {"1/4 of the answer"}


@pytest.mark.parametrize("name", ["forget", "unrelated"])
def test_given_rows_that_models_have_no_positions_for_are_refused(gru, world, with_positions, tmp_path, name):
    long = write_rows(tmp_path / "long.jsonl", [{"question": "who is Dan ?", "answer": "the red one . " * 8}])
    sets = {"--forget": world / "forget.jsonl", "--retain": world / "retain.jsonl"} | {f"--{name}": long}
    code, _, err = gru(*with_positions, *(word for pair in sets.items() for word in pair))
    assert (code, err.count("\n")) == (2, 1), err
    assert f"{name}: the longest row has" in err
    assert "the unlearned model has positions for 20 only: pass --max-length 20" in err
    assert not (tmp_path / "out").exists()


def test_a_run_says_what_to_attack_and_is_not_attacked_with_other_rows(gru, world, tmp_path):
    forget = shutil.copy(world / "forget.jsonl", tmp_path / "forget.jsonl")
    flags = ["--model", world / "target", "--retain-model", world / "retain_model", "--forget", forget]
    flags += ["--retain", world / "retain.jsonl", "--objective", "ga", "--rectification", "gru", "--max-steps", 2]
    run = tmp_path / "run"
    assert gru("unlearn", *flags, "--learning-rate", "2e-3", "--eval-strategy", "no", "--output-dir", run)[0] == 0
    code, out, err = gru("attack", run, "--attacks", "quantization", "--max-rows", 5)
    assert code == 0, err
    found = summary(run / "attack")
    assert found["settings"]["relearning_learning_rate"] == 2e-3
    assert (found["rows"], found["data"]["forget"]["rows"], found["data"]["retain"]["rows"]) == (5, 12, 8)
    assert found["target"]["sha256"] == summary(run)["model"]["sha256"] != found["model"]["sha256"]
    assert found["retain_model"]["sha256"] == summary(run)["retain_model"]["sha256"]
    assert f"{run}/attack/summary.json" in out.replace("\n", "")
    assert found["run"] == str(run)
    assert "Attempts to bring it back" in (run / "report.html").read_text(), "the run's own report has the attack"
    assert not (run / "attack" / "report.html").exists()
    write_rows(forget.__class__(forget), tiny.rows(5))
    code, _, err = gru("attack", run, "--out", tmp_path / "other")
    assert code == 2
    assert "not those of the run any more" in err
    assert "pass --forget to take these" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--attacks", "relerning"], "relearning"),
        (["--attacks", ""], "no attack given"),
        (["--prefixes", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--temperature", "0"], "--temperature must be above 0"),
        (["--samples", "0"], "--samples must be at least 1"),
        (["--relearning-rates", "1,-3"], "--relearning-rates must be above 0 and finite, got -3.0"),
        (["--relearning-rates", "1;3"], "numbers separated by commas are needed"),
        (["--base-model", "nowhere/at/all"], "--base-model nowhere/at/all: no such folder"),
        (["--retain-model", "nowhere/at/all"], "--retain-model nowhere/at/all: no such folder"),
        (["--max-length", "4"], "no answer token is left"),
    ],
)
def test_bad_input_is_found_before_anything_is_written(gru, world, tmp_path, more, message):
    code, _, err = gru(*arguments(world, "target", tmp_path / "out", *more))
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_named(gru, tmp_path):
    code, _, err = gru("attack", tmp_path)
    assert code == 2
    assert "is not a finished run" in err


def test_the_table_has_one_line_an_attack_the_worst_first():
    def line(variant, measure, recovered):
        interval = dict.fromkeys(("low", "high"), recovered)
        head = {
            "attack": "prompts",
            "variant": variant,
            "measure": measure,
            "rows": 4,
            "note": "" if recovered else "why",
        }
        points = {"unlearned": 0.5, "target": 1.0, "retain_model": 0.0, "recovered": recovered}
        return AttackResult(**head, **points, **interval)

    lines = [line("a", "prob", 0.25), line("b", "prob", 0.1), line("b", "found", 0.5), line("c", "prob", None)]
    found = AttackSummary(
        attacks=lines,
        before=[line("", "found", 0.125)],
        left_out=[],
        rows=4,
        retain_model={"source": "r"},
        **{"seconds": 1.0, "seed": 0, "settings": {}, "model": {"source": "m"}, "versions": {}},
    )
    assert [(one["variant"], one["measure"]) for one in map(AttackResult.to_json, worst_measures(lines))] == [
        ("b", "found"),
        ("a", "prob"),
        ("c", "prob"),
    ]
    table = attack_table(found)
    assert list(table.columns[0].cells) == ["prompts: b", "prompts: a", "without any attack"]
    assert list(table.columns[-1].cells) == ["50 (50 to 50)", "25 (25 to 25)", "12 (12 to 12)"]
    assert table.caption == "prompts: c: why"
    assert "prompts: b, brings back 50 % (50 to 50)" in verdict(found)
    assert "without any attack: 12 %" in verdict(found)


@pytest.mark.parametrize(("states", "read"), [(5, [0, 1, 2, 3]), (31, [0, 3, 6, 10, 13, 16, 20, 23, 26])])
def test_the_layers_that_are_read_begin_with_the_embeddings_and_stand_at_even_steps(states, read):
    assert _some_layers(states) == read


@pytest.mark.parametrize(("device", "at_once"), [("cpu", 32), ("meta", 8)])
def test_a_processor_continues_more_prompts_than_it_scores_rows(device, at_once):
    assert prompts_at_once(torch.nn.Linear(2, 2, device=device), 8) == at_once
