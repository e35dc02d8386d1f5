"""What each architecture must do (see :mod:`architectures`): a few here and now, all of them with the marker."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForSequenceClassification, LlamaModel

import architectures
import tiny
from architectures import CHECKS, CONFIGS, REFUSED, TOKENS, refused_model
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.data import Encoder, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import score
from gru_unlearn.evaluation.answers import shortest_window
from gru_unlearn.evaluation.generation import generate
from gru_unlearn.evaluation.gradnorm import gradient_norm, task_gradient_norms
from gru_unlearn.evaluation.next_token import CachedReader, RereadingReader, reader_for
from gru_unlearn.evaluation.suites import own
from gru_unlearn.evaluation.tasks import Task
from gru_unlearn.models.loading import load_model
from gru_unlearn.objectives import supervised_logits
from gru_unlearn.objectives.causality import looks_ahead, require_causal_config

DIFFERENT = [
    *("llama4_text", "gemma3", "gpt_neo", "mistral", "mpt", "bloom"),
    *("gpt_oss", "mixtral with router logits", "deepseek_v3"),
    *("mamba", "mamba2", "rwkv", "recurrent_gemma", "jamba", "minimax"),
]
"""One of each kind: windows of several names, positions of their own making, routers, states instead of attention."""

every_check = pytest.mark.parametrize("check", CHECKS)


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("check", [check for check in CHECKS if check != "training"])
def test_kinds_of_architectures(name, check, tmp_path):
    CHECKS[check](name, tmp_path)


@pytest.mark.parametrize("name", ["gpt_oss", "bloom", "recurrent_gemma"])
def test_training_where_a_short_path_fails(name, tmp_path):
    CHECKS["training"](name, tmp_path)


@pytest.mark.slow
@pytest.mark.architectures
@every_check
@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture(name, check, tmp_path):
    CHECKS[check](name, tmp_path)


def test_the_page_has_a_line_for_every_architecture_and_none_fails():
    """Among them what people know current models as: each stands for architectures that are walked."""
    page = architectures.PAGE.read_text(encoding="utf-8")
    measured = page.partition("| model type | scoring")[2].partition("Refused")[0]
    assert [line.split("`")[1] for line in measured.splitlines() if "`" in line] == sorted(CONFIGS)
    assert "fails" not in measured
    for model, names in architectures.MODELS.items():
        assert f"| {model} | " in page
        assert set(names) <= set(CONFIGS)


# --- what is no causal language model --------------------------------------------------------------------------------


def train(model, folder):
    settings = UnlearningConfig(output_dir=str(folder), max_steps=1, use_cpu=True, disable_tqdm=True, report_to=[])
    rows = {"forget_dataset": tiny.rows(4), "retain_dataset": tiny.rows(4, 8)}
    return UnlearningTrainer(model, settings, **rows, processing_class=tiny.tokenizer()).train()


@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused_in_python(name, tmp_path):
    suite = own([to_record(row, "row") for row in tiny.rows(3)])
    for use in (
        lambda: train(refused_model(name), tmp_path),
        lambda: score(refused_model(name), Encoder(tiny.tokenizer()), suite),
    ):
        with pytest.raises(UserError, match=r"only causal language models .*can be used here") as refusal:
            use()
        assert "\n" not in str(refusal.value)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["t5", "bart", "bert", "gemma3_text looking ahead"])
@pytest.mark.parametrize("command", ["unlearn", "evaluate", "plan"])
def test_other_kinds_are_refused_on_the_command_line(gru, name, command, tmp_path):
    refused_model(name).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    rows = []
    for kind, start in (("forget", 0), ("retain", 8)):
        (tmp_path / f"{kind}.json").write_text(json.dumps(tiny.rows(4, start)))
        rows += [f"--{kind}", tmp_path / f"{kind}.json"]
    further = {
        "unlearn": [*rows, "--output-dir", tmp_path / "out"],
        "evaluate": [*rows, "--suite", "own", "--out", tmp_path / "out"],
        "plan": [],
    }
    code, _, err = gru(command, "--model", tmp_path / "model", *further[command])
    assert code == 2
    assert name.split()[0] in err
    assert "only causal language models" in err
    assert len(err.strip().splitlines()) == 1


def test_a_classifier_is_refused_by_its_name():
    config = tiny.model().config
    config.architectures = [LlamaForSequenceClassification.__name__]
    with pytest.raises(UserError, match="was saved as LlamaForSequenceClassification"):
        require_causal_config(config, "--model folder")


def test_a_checkpoint_without_a_head_is_refused_when_it_loads(tmp_path):
    config = tiny.model().config
    config.tie_word_embeddings = False
    LlamaModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"its files lack 1 weights of a LlamaForCausalLM, such as lm_head.weight"):
        load_model(tmp_path)
    tied = tiny.model()
    tied.save_pretrained(tmp_path / "tied")
    assert torch.equal(load_model(tmp_path / "tied").lm_head.weight, tied.lm_head.weight)


def blind_to_order(model):
    """Its mask of attention is gone, and nothing in its configuration says so."""
    for layer in model.model.layers:
        attend = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, attend=attend, **kwargs: attend(
            *args, **(kwargs | {"attention_mask": torch.zeros(1, 1, 1, 1)})
        )
        layer.self_attn.is_causal = False
    return model


def test_a_model_that_looks_ahead_is_refused_though_its_name_does_not_say_it(tmp_path):
    with pytest.raises(UserError, match="LlamaForCausalLM looks ahead"):
        train(blind_to_order(tiny.model()), tmp_path)
    with pytest.raises(UserError, match="LlamaForCausalLM looks ahead"):
        score(blind_to_order(tiny.model()), Encoder(tiny.tokenizer()), own([to_record(tiny.rows(1)[0], "row")]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 47), max_size=90), st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_model_that_looks_back_is_never_said_to_look_ahead(ids, dtype):
    assert not looks_ahead(tiny.model().to(dtype), ids)
    if len(set(ids)) > 5 and dtype == torch.float32:
        assert looks_ahead(blind_to_order(tiny.model()), ids) or ids == ids[::-1]


# --- the ways by themselves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({"sliding_window": 9, "max_window_layers": 3}, 9),
        ({"window_size": 7, "sliding_window": None}, 7),
        ({"attention_chunk_size": 5, "attention_window_size": 6}, 5),
        ({"local_attention": 4, "use_sliding_window": True}, 4),
        ({"sliding_window": -1}, float("inf")),
    ],
)
def test_windows_are_found_whatever_they_are_called(settings, window):
    model = tiny.model()
    model.config = SimpleNamespace(**settings)
    assert shortest_window(model) == window


def test_a_head_that_is_no_module_of_its_own_gives_the_same_logits():
    ids = torch.tensor([TOKENS[:8], TOKENS[10:18]])
    labels = torch.where(torch.arange(8) < 3, -100, ids)
    model, other = tiny.model(), tiny.model()
    other.lm_head.forward = None
    other.lm_head = torch.nn.Identity()
    other.get_output_embeddings = torch.nn.Identity
    other.forward = model.forward
    expected = supervised_logits(model, ids, None, labels)
    torch.testing.assert_close(supervised_logits(other, ids, None, labels), expected)


def test_a_cache_is_left_where_it_says_something_else():
    texts = [TOKENS[:9], TOKENS[20:24]]
    assert reader_for(tiny.model().eval(), texts, 0) is CachedReader
    model = tiny.model().eval()
    expected = generate(model, texts, [6, 6], [], 0)
    forgetful = tiny.model().eval()
    attend = forgetful.forward
    forgetful.forward = lambda **inputs: attend(**(inputs | {"attention_mask": None}))
    assert reader_for(forgetful, texts, 0) is RereadingReader
    assert generate(forgetful, texts, [6, 6], [], 0) == expected


def test_a_cache_that_differs_by_the_rounding_of_bfloat16_is_used():
    """Weights are in float32: what is computed in shows only at the head."""
    texts = [TOKENS[:9], TOKENS[20:24]]
    model = tiny.model().eval()
    attend = model.forward

    def rounded(by, **inputs):
        output = attend(**inputs)
        if inputs["use_cache"]:
            output.logits = output.logits + by * torch.tensor([1, -1]).repeat(output.logits.shape[-1] // 2)
        return output

    for by, expected in [(0.05, CachedReader), (0.5, RereadingReader)]:
        model.forward = torch.autocast("cpu", torch.bfloat16)(partial(rounded, by))
        assert reader_for(model, texts, 0) is expected
    model.forward = partial(rounded, 0.05)
    assert reader_for(model, texts, 0) is RereadingReader


def test_the_try_of_a_cache_stays_within_the_positions_that_a_model_has():
    model = architectures.model("gpt2").eval()
    assert len(generate(model, [TOKENS[:63], TOKENS[:5]], [1, 1], [], 0)) == 2


def test_gradient_norms_of_rows_that_disturb_each_other_are_taken_one_by_one():
    """Nothing fails in the pass over several rows: it only gives something else."""
    model = tiny.model().eval()
    mlp, inner = model.model.layers[0].mlp, model.model.layers[0].mlp.forward
    mlp.forward = lambda hidden: inner(hidden) + (hidden.mean() if len(hidden) > 1 else 0)
    rows = [([*TOKENS[:9]], 4), ([*TOKENS[20:32]], 2)]
    tasks = [Task(to_record({"text": "x"}, "row"), ids=ids, start=start, gradnorm=True) for ids, start in rows]
    entries = {number: SimpleNamespace(closed=False) for number in range(2)}
    found = dict(task_gradient_norms(model, tasks, entries, 32, 0))
    expected = [gradient_norm(model, (ids, slice(start, len(ids)))) for ids, start in rows]
    assert [found[number] for number in range(2)] == pytest.approx(expected, rel=1e-5)
