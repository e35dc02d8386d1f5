"""The scoring pass: exact, whatever the batch, the order of the rows, the padding and the sharing of prefixes."""

import socket
import weakref
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

import tiny
from gru_unlearn.data import Encoder, to_record
from gru_unlearn.data.transcripts import EXCHANGE, Transcripts
from gru_unlearn.evaluation import Item, Measured, Metric, RowSet, ScoreTable, Suite, evaluate, measure, score
from gru_unlearn.evaluation.answers import token_scores
from gru_unlearn.evaluation.generation import generate
from gru_unlearn.evaluation.gradnorm import gradient_norm, gradient_norms
from gru_unlearn.evaluation.metrics import exact_answers, probability, truth_ratio
from gru_unlearn.evaluation.suites import own
from gru_unlearn.evaluation.tasks import plan_tasks
from gru_unlearn.evaluation.tree import token_tree, tree_inputs


@pytest.fixture(scope="module")
def model():
    return tiny.model().eval()


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tiny.tokenizer())


def records(count, start=0):
    """Rows with a paraphrase and wrong answers of various lengths, which share beginnings with the answer."""
    return [
        to_record(
            row
            | {
                "paraphrased_answer": row["answer"].replace("lives in", "was born in"),
                "perturbed_answer": [row["answer"].replace("the", a) for a in ("the a", "of", "the red blue green")],
            },
            "row",
        )
        for row in tiny.rows(count, start)
    ]


@pytest.fixture(scope="module")
def suite():
    return own(records(7), records(6, 20), records(5, 40))


@pytest.fixture(scope="module")
def evaluation(model, encoder, suite):
    return evaluate(model, encoder, suite)


def approx(value):
    return value if value is None else pytest.approx(value, abs=2e-5, rel=1e-4)


def assert_same(one, other, atol=2e-5):
    assert one.missing == other.missing
    assert other.metrics == {key: approx(value) for key, value in one.metrics.items()}
    for a, b in zip(one.table.entries, other.table.entries, strict=True):
        assert (a.prompt, a.answer, a.uses, a.generation) == (b.prompt, b.answer, b.uses, b.generation)
        np.testing.assert_array_equal(a.hits, b.hits)
        for name in ("logps", "mu", "sigma"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol, err_msg=name)


def test_scores_equal_a_plain_forward_pass(model, encoder, suite, evaluation):
    tasks = plan_tasks(suite, suite.needs(), encoder)
    assert len(tasks) == len(evaluation.table.entries)
    for task, entry in zip(tasks, evaluation.table.entries, strict=True):
        with torch.no_grad():
            logps = model(torch.tensor([task.ids])).logits[0].log_softmax(dim=-1)[task.start - 1 : -1]
        answer = torch.tensor(task.answer)
        mean = (logps.exp() * logps).sum(dim=-1)
        deviation = (logps.exp() * (logps - mean[:, None]).square()).sum(dim=-1).sqrt()
        np.testing.assert_allclose(entry.logps, logps[range(len(answer)), answer], atol=1e-5)
        np.testing.assert_allclose(entry.mu, mean, atol=1e-5)
        np.testing.assert_allclose(entry.sigma, deviation, atol=1e-5)
        np.testing.assert_array_equal(entry.hits, logps.argmax(dim=-1) == answer)


def text_keys(table):
    return {(entry.prompt, entry.answer): entry for entry in table.entries}


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    order=st.permutations(range(7)),
    batch_size=st.integers(1, 9),
    side=st.sampled_from(["left", "right"]),
    share_prefixes=st.booleans(),
)
def test_scores_belong_to_the_answer_and_to_nothing_beside_it(
    model, suite, evaluation, order, batch_size, side, share_prefixes
):
    """Whatever the batch size, the order of the rows, the tokenizer's padding side and the sharing of prefixes."""
    tokenizer = tiny.tokenizer()
    tokenizer.padding_side = side
    items = suite.sets["forget"].items
    shuffled = replace(suite, sets=suite.sets | {"forget": RowSet([items[place] for place in order])})
    table = score(model, Encoder(tokenizer), shuffled, batch_size=batch_size, share_prefixes=share_prefixes)
    found, expected = text_keys(table), text_keys(evaluation.table)
    assert found.keys() == expected.keys()
    for key, entry in found.items():
        assert entry.generation == expected[key].generation
        assert entry.gradnorm == approx(expected[key].gradnorm)
        np.testing.assert_array_equal(entry.hits, expected[key].hits)
        for name in ("logps", "mu", "sigma"):
            np.testing.assert_allclose(getattr(entry, name), getattr(expected[key], name), atol=2e-5, err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 1000])
def test_the_batch_size_changes_nothing(model, encoder, suite, evaluation, batch_size):
    assert_same(evaluation, evaluate(model, encoder, suite, batch_size=batch_size))


def test_sharing_prefixes_changes_nothing_but_the_work(model, encoder, suite, evaluation):
    tokens = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    score(model, encoder, suite, retain_model=True)
    shared = sum(tokens)
    tokens.clear()
    score(model, encoder, suite, retain_model=True, share_prefixes=False)
    hook.remove()
    assert shared < 0.8 * sum(tokens)  # with the trial whether the model takes trees
    assert_same(evaluation, evaluate(model, encoder, suite, share_prefixes=False))


def test_the_order_of_the_rows_changes_only_the_order_of_the_rows(model, encoder, suite, evaluation):
    backwards = {name: RowSet(rows.items[::-1]) for name, rows in suite.sets.items()}
    other = evaluate(model, encoder, replace(suite, sets=backwards))
    for key, sets in evaluation.rows.items():
        for name, values in sets.items():
            assert other.rows[key][name][::-1] == pytest.approx(values, abs=2e-5, rel=1e-4)
    assert other.metrics == {key: approx(value) for key, value in evaluation.metrics.items()}


def test_each_distinct_pair_is_scored_once(model, encoder, suite, evaluation):
    twice = replace(
        suite, sets=suite.sets | {"again": suite.sets["forget"]}, metrics=[*suite.metrics, probability("p", "again")]
    )
    other = evaluate(model, encoder, twice)
    assert len(other.table.entries) == len(evaluation.table.entries)
    assert other.metrics["p"] == other.metrics["forget_Q_A_Prob"]


def test_each_distinct_prompt_is_rendered_once(suite, monkeypatch):
    """For all its answers; generation goes on from what was scored."""
    rendered = []
    render = Transcripts._render_around

    def counted(self, before, behind):
        rendered.append(tuple(before))
        return render(self, before, behind)

    monkeypatch.setattr(Transcripts, "_render_around", counted)
    tasks = plan_tasks(suite, suite.needs(), Encoder(tiny.tokenizer()))
    prompts = {task.record.turns[:-1] for task in tasks}
    assert len(tasks) > 2 * len(prompts)
    assert sorted(map(str, rendered)) == sorted(map(str, [*prompts, EXCHANGE[:1]]))


def test_only_what_the_metrics_need_is_scored(model, encoder, suite):
    small = replace(suite, metrics=[probability("p", "forget")])
    entries = score(model, encoder, small).entries
    assert len(entries) == len(suite.sets["forget"].items)
    assert all(entry.generation is None and entry.gradnorm is None for entry in entries)


def test_generations_equal_those_of_transformers(model, encoder, suite, evaluation):
    for item, text in zip(suite.sets["forget"].items, evaluation.table.generations("forget"), strict=True):
        prompt = torch.tensor([encoder.prompt_ids(item.record)])
        new = model.generate(prompt, max_new_tokens=200 if prompt.shape[1] else 1, do_sample=False)[
            0, prompt.shape[1] :
        ]
        assert encoder.tokenizer.decode(new, skip_special_tokens=True).strip() == text


def test_generation_stops_at_end_of_sequence_and_at_each_limit(model):
    prompts = [[2, 5, 7], [2, 9], [2, 30, 31, 32, 33]]
    free = [generate(model, [prompt], [12], [], 0)[0] for prompt in prompts]
    assert [len(new) for new in free] == [12, 12, 12]
    stop = free[1][4]
    together = generate(model, prompts, [12, 12, 3], [stop], 0)
    for new, alone, limit in zip(together, free, (12, 12, 3), strict=True):
        assert new == alone[: alone.index(stop) + 1 if stop in alone else None][:limit]


def test_generation_leaves_the_last_few_for_later(model):
    prompts = [[2, 5, 7], [2, 9], [2, 30, 31, 32, 33]]
    whole = generate(model, prompts, [4, 8, 12], [], 0)
    part = generate(model, prompts, [4, 8, 12], [], 0, leave=1)
    assert [len(new) for new in part] == [4, 8, 8]
    rest = generate(model, [prompts[2] + part[2]], [4], [], 0)
    assert part[2] + rest[0] == whole[2]


def test_generation_starts_from_what_the_scores_tell(encoder, suite):
    """A model that knows one row by heart needs no generation step for it, and says the same."""
    model = tiny.model()
    learn(model, encoder, suite.sets["forget"].items[0].record)
    prompts = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: prompts.append(kwargs["input_ids"]) if kwargs["use_cache"] else None, with_kwargs=True
    )
    small = replace(
        suite, sets={"forget": RowSet(suite.sets["forget"].items[:1])}, metrics=[exact_answers("e", "forget")]
    )
    assert evaluate(model, encoder, small).metrics["e"] == 1
    hook.remove()
    assert prompts == []


def learn(model, encoder, record):
    example = encoder.encode_all([record], "row")[0]
    ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.zero_grad()


def bloom():
    """Makes its own positions from a two-dimensional mask: it cannot take trees."""
    torch.manual_seed(0)
    return BloomForCausalLM(
        BloomConfig(vocab_size=48, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.2)
    ).eval()


def windowed():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=48, num_key_value_heads=2, sliding_window=6, initializer_range=0.2, **sizes)
    return MistralForCausalLM(config).eval()


@pytest.mark.parametrize("make", [bloom, windowed])
def test_models_that_cannot_take_trees_are_scored_answer_by_answer(make, encoder, suite):
    model = make()
    small = replace(suite, metrics=[truth_ratio("t", "forget"), probability("p", "retain")])
    assert_same(evaluate(model, encoder, small), evaluate(model, encoder, small, batch_size=1, share_prefixes=False))


def test_logits_of_a_batch_are_gone_before_the_next(model, encoder, suite):
    """Memory grows with the batch and not with the data: at most one batch's logits are alive."""
    alive, most, widest = [], 0, 0

    def watch(_module, args, output):
        nonlocal most, widest
        alive[:] = [reference for reference in alive if reference() is not None]
        most, widest = max(most, len(alive)), max(widest, output.shape[1])
        alive.append(weakref.ref(output))

    hook = model.lm_head.register_forward_hook(watch)
    score(model, encoder, suite, batch_size=3)
    hook.remove()
    assert most <= 1
    assert widest <= 3 * 12  # no more than the tokens of three answers


def two_processes(rank, port, folder):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    suite = own(records(7), records(6, 20), records(5, 40))
    own_share = []
    result = evaluate(
        tiny.model().eval(),
        Encoder(tiny.tokenizer()),
        suite,
        across_processes=True,
        on_progress=lambda stage, _, total: own_share.append(total) if stage == "score" else None,
    )
    result.table.save(f"{folder}/{rank}.parquet")
    Path(folder, f"{rank}.share").write_text(str(own_share[-1]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_same_table(model, suite, evaluation, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(two_processes, (port, str(tmp_path)), nprocs=2)
    shares = []
    for rank in (0, 1):
        table = ScoreTable.load(tmp_path / f"{rank}.parquet")
        assert_same(evaluation, measure(suite.metrics, table, None, suite.impossible))
        shares.append(int((tmp_path / f"{rank}.share").read_text()))
    assert sum(shares) == len(evaluation.table.entries)
    assert min(shares) > 0


def test_progress_is_reported_to_the_end(model, encoder, suite):
    seen = {}
    evaluate(model, encoder, suite, on_progress=lambda stage, done, total: seen.update({stage: (done, total)}))
    assert set(seen) == {"score", "generate", "gradnorm"}
    assert all(done == total > 0 for done, total in seen.values())


def test_the_model_stays_as_it_was(model, encoder, suite):
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, encoder, suite)
    assert model.training
    model.eval()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_broken_model_is_named_row_by_row(encoder, suite):
    broken = tiny.model()
    torch.nn.init.constant_(broken.model.norm.weight, float("nan"))
    result = evaluate(broken, encoder, suite)
    assert result.metrics["forget_Q_A_Prob"] is None
    assert "rows 1, 2, 3, 4, 5 and 2 more" in result.missing["forget_Q_A_Prob"]
    assert "rows 1, 2, 3, 4, 5" in result.missing["mia_gradnorm"]


def expected_norm(model, ids, answer):
    """By an ordinary backward pass."""
    labels = [-100] * len(ids)
    labels[answer] = ids[answer]
    copied = deepcopy(model)
    copied(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss.backward()
    return torch.stack([p.grad.norm() for p in copied.parameters() if p.requires_grad]).mean().item()


ROWS = [
    ([2, 3, 17, 18, 4, 20, 21, 22, 1], slice(5, 8)),
    ([2, 3, 17, 4, 25, 1], slice(4, 5)),
    ([2, 9, 0, 9, 11, 12], slice(2, 6)),
]


def untied():
    model = tiny.model()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def partly_frozen():
    model = tiny.model()
    model.model.embed_tokens.requires_grad_(False)
    model.model.layers[0].mlp.requires_grad_(False)
    return model


def gpt2():
    """Weights stored the other way round, biases, learned positions."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=48, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.2)
    )


@pytest.mark.parametrize("make", [tiny.model, untied, partly_frozen, gpt2])
def test_gradient_norms_are_those_of_the_mean_cross_entropy(make):
    model = make().eval()
    expected = [pytest.approx(expected_norm(model, *row), rel=1e-4) for row in ROWS]
    assert [gradient_norm(model, row) for row in ROWS] == expected
    assert gradient_norms(model, ROWS, 0) == expected
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradient_norms_of_rows_that_a_module_mixes(model):
    mixing = tiny.model().eval()
    layer = mixing.model.layers[0].mlp
    inner = layer.forward
    layer.forward = lambda hidden: inner(hidden.flatten(0, 1)).view(hidden.shape)  # as experts do
    assert gradient_norms(mixing, ROWS, 0) == pytest.approx([expected_norm(model, *row) for row in ROWS], rel=1e-4)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6))
def test_a_tree_holds_each_prefix_once(sequences):
    tree = token_tree(sequences)
    prefixes = {tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)}
    assert len(tree.tokens) == len(prefixes)
    sees = tree.attention()
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert [tree.tokens[node] for node in path] == sequence
        assert [tree.depths[node] for node in path] == list(range(len(path)))
        for place, node in enumerate(path):
            assert np.flatnonzero(sees[node]).tolist() == sorted(path[: place + 1])


def test_chains_need_no_tree_mask():
    inputs = tree_inputs([token_tree([[5, 6, 7]]), token_tree([[5]])], pad_token_id=0, dtype=torch.float32)
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert "position_ids" not in inputs


def test_moments_survive_a_very_sure_model():
    logits = torch.zeros(3, 50)
    logits[:, 7] = torch.tensor([1.0, 12.0, 25.0])
    logps = logits.double().log_softmax(dim=-1)
    mean = (logps.exp() * logps).sum(dim=-1)
    deviation = (logps.exp() * (logps - mean[:, None]).square()).sum(dim=-1).sqrt()
    found = token_scores(logits, torch.arange(3), torch.full((3,), 7))
    torch.testing.assert_close(found[0], logps[:, 7].float(), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found[2], mean.float(), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found[3], deviation.float(), atol=1e-6, rtol=1e-3)


def test_plain_texts_are_scored_from_their_second_token(model, encoder):
    texts = own([to_record({"text": "Ada lives in the red house ."}, "row")])
    entry = score(model, encoder, texts).entries[0]
    assert len(entry.logps) == 7  # eight tokens with end-of-sequence, the first has nothing before it
    assert "forget_Q_A_ROUGE" in texts.impossible


def test_without_a_chat_template(model, suite):
    encoder = Encoder(tiny.tokenizer(chat=False))
    assert_same(evaluate(model, encoder, suite), evaluate(model, encoder, suite, batch_size=3, share_prefixes=False))


def test_a_metric_of_your_own_is_a_function(model, encoder, suite):
    metric = Metric(
        "answer_tokens",
        lambda table, _: Measured.mean("forget", [len(e.logps) for e in table.answers("forget")]),
        needs=("forget.answer",),
        definition="Mean number of answer tokens",
        range="1 upwards",
        better="neither",
        source="here",
    )
    result = evaluate(model, encoder, Suite("own", {"forget": suite.sets["forget"]}, [metric]))
    assert result.metrics == {"answer_tokens": pytest.approx(8)}


def test_items_list_all_their_answers():
    item = Item(to_record({"question": "q", "answer": "a"}, "row"), "p", ("w", "x"))
    assert [(role, number, record.answer) for role, number, record in item.answers()] == [
        ("answer", 0, "a"), ("paraphrase", 0, "p"), ("wrong", 0, "w"), ("wrong", 1, "x"),
    ]  # fmt: skip
