"""Tiny random models of what transformers offers for causal language modelling, one line each.

``python tests/architectures.py`` walks them all and writes what it found to ``docs/reference/architectures.md``;
``python tests/architectures.py NAME ...`` walks these alone and keeps the page's other lines.
"""

import sys
from contextlib import ExitStack, redirect_stdout
from datetime import date
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.data import Record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.answers import _by_prompt, _takes_trees, score_answers
from gru_unlearn.evaluation.generation import generate
from gru_unlearn.evaluation.gradnorm import _batched_if_possible, gradient_norms
from gru_unlearn.evaluation.next_token import CachedReader, PatientReader, RereadingReader, reader_for
from gru_unlearn.evaluation.tasks import Task
from gru_unlearn.objectives.causality import require_causal, require_causal_config

WINDOW = 6
"""Of attention, where an architecture has one: shorter than the longer rows of the checks."""

SHAPE = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
HEADS = {"head_dim": 8}
EXPERTS = HEADS | {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
THREE = {"num_hidden_layers": 3}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
SLIDING = {"sliding_window": WINDOW}
IN_TURN = HEADS | SLIDING | {"layer_types": ["sliding_attention", "full_attention"]}
LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
STATES = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 4}
MAMBA2 = {"num_heads": 4, "head_dim": 8, "n_groups": 1, "state_size": 8, "chunk_size": 4}
SEEING = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 2,
}

STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
TWO_LENGTHS = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2],
    "long_factor": [2.0, 2.2, 2.4],
}
LONG = {"original_max_position_embeddings": 64, "max_position_embeddings": 128, "rope_parameters": TWO_LENGTHS}

CONFIGS = {
    "llama": HEADS,
    "llama as Llama 3.2": HEADS | {"tie_word_embeddings": True, "rope_parameters": STRETCHED},
    "llama4_text": EXPERTS | {"attention_chunk_size": WINDOW, "intermediate_size_mlp": 24},
    "qwen2": {},
    "qwen2 with windows": {"use_sliding_window": True, "max_window_layers": 1} | SLIDING,
    "qwen2_moe": EXPERTS,
    "qwen3": HEADS,
    "qwen3_moe": EXPERTS,
    "qwen3_moe with router logits": EXPERTS | {"output_router_logits": True},
    "qwen3_next": EXPERTS | LINEAR,
    "qwen3_5_text": HEADS | LINEAR,
    "qwen3_5_moe_text": EXPERTS | LINEAR,
    "gemma": HEADS,
    "gemma2": IN_TURN,
    "gemma3_text": IN_TURN,
    "gemma3": {"text_config": SHAPE | IN_TURN, "vision_config": SEEING, "mm_tokens_per_image": 4},
    "gemma4_text": IN_TURN | {"vocab_size_per_layer_input": 48, "hidden_size_per_layer_input": 8},
    "mistral": HEADS | SLIDING,
    "ministral": IN_TURN,
    "ministral3": HEADS,
    "mixtral": EXPERTS,
    "mixtral with router logits": EXPERTS | {"output_router_logits": True},
    "phi": {},
    "phi3": SLIDING,
    "phi3 as Phi 4 mini": LONG | {"tie_word_embeddings": True},
    "phimoe": EXPERTS,
    "olmo": {},
    "olmo2": {},
    "olmo3": IN_TURN,
    "olmoe": EXPERTS,
    "falcon": {},
    "falcon with alibi": {"alibi": True},
    "falcon_h1": STATES | {"mamba_d_ssm": 32},
    "falcon_mamba": {},
    "gpt2": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    "gpt_neox": {},
    "gptj": {"rotary_dim": 4},
    "gpt_bigcode": {},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "bloom": {},
    "mpt": {},
    "gpt_oss": EXPERTS | IN_TURN,
    "deepseek_v2": EXPERTS | LATENT,
    "deepseek_v3": EXPERTS | LATENT,
    "mamba": {},
    "mamba2": MAMBA2,
    "rwkv": {},
    "recurrent_gemma": THREE | {"attention_window_size": WINDOW, "lru_width": 16},
    "jamba": EXPERTS | {"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "glm": HEADS,
    "glm4": HEADS,
    "glm4_moe": EXPERTS,
    "smollm3": HEADS,
    "cohere": HEADS,
    "cohere2": IN_TURN,
    "stablelm": {},
    "granite": {"logits_scaling": 2.0, "residual_multiplier": 0.5},
    "granitemoe": EXPERTS,
    "granitemoehybrid": EXPERTS | STATES | {"layer_types": ["mamba", "attention"], "mamba_n_heads": 4},
    "starcoder2": SLIDING,
    "nemotron": HEADS,
    "minimax": EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "block_size": 4},
    "minimax_m2": EXPERTS,
    "bamba": STATES | {"attn_layer_indices": [1]},
    "zamba": THREE | {"layers_block_type": ["mamba", "hybrid", "hybrid"], "attention_head_dim": 16},
    "zamba2": THREE | {"layers_block_type": ["mamba", "hybrid", "hybrid"], "n_mamba_heads": 4} | STATES,
    "biogpt": {},
    "ernie4_5": HEADS,
    "ernie4_5_moe": EXPERTS | {"moe_num_experts": 4, "moe_k": 2},
    "arcee": HEADS,
    "apertus": HEADS,
    "exaone4": IN_TURN,
    "seed_oss": HEADS,
    "dots1": EXPERTS,
    "hunyuan_v1_dense": HEADS,
    "diffllama": HEADS,
    "modernbert-decoder": {"local_attention": WINDOW},
}


def config(name):
    """Of an architecture; what stands behind a blank names a variant."""
    own = CONFIGS[name]
    if "text_config" not in own:
        own = SHAPE | own
    made = CONFIG_MAPPING[name.split()[0]](**own)
    for setting in vars(made.get_text_config()):
        if "drop" in setting and not setting.startswith("_"):  # random numbers would differ between two paths
            setattr(made.get_text_config(), setting, 0.0)
    return made


def model(name):
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config(name))
    for parameter in made.parameters():  # some start with zeros, which hide what they would do
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


# --- what each must do -----------------------------------------------------------------------------------------------

TOKENS = torch.randint(3, 48, (400,), generator=torch.Generator().manual_seed(1)).tolist()
"""Of all rows."""


def examples(lengths):
    """Rows of the lengths, each with its first third as prompt."""
    made = []
    for start, length in enumerate(lengths):
        ids = TOKENS[20 * start : 20 * start + length]
        made.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3 :]})
    return made


def trained(name, folder, rectification, *, shortcuts=True):
    """The trainer after three steps, and the losses on the way: [3, 2]."""
    run = UnlearningTrainer(
        model(name),
        UnlearningConfig(
            output_dir=str(folder),
            objective="npo",
            rectification=rectification,
            learning_rate=1e-3,
            max_steps=3,
            per_device_train_batch_size=3,
            warmup_steps=0,
            logging_steps=1,
            save_strategy="no",
            eval_on_start=False,
            disable_tqdm=True,
            use_cpu=True,
            report_to=[],
        ),
        forget_dataset=examples([5, 14, 9, 20, 7, 11]),
        retain_dataset=examples([12, 6, 17, 8])[::-1],
        processing_class=tiny.tokenizer(),
    )
    with ExitStack() as plainly:
        if not shortcuts:
            plainly.enter_context(patch("gru_unlearn.training.trainer.needs_attention_mask", lambda *_: True))
            plainly.enter_context(patch("gru_unlearn.training.trainer.last_mlp", lambda *_: None))
        run.train()
    losses = [(log["forget_loss"], log["retain_loss"]) for log in run.state.log_history if "forget_loss" in log]
    return run, torch.tensor(losses)


def check_training(name, folder):
    """Three steps move the weights, and losses are alike on the short path and on the plain one."""
    before = torch.cat([p.detach().flatten() for p in model(name).parameters()])
    for rule in ("gru", "gru/element"):
        run, losses = trained(name, folder / "short", rule)
        weights = torch.cat([p.detach().flatten() for p in run.model.parameters()])
        assert losses.shape == (3, 2)
        assert losses.isfinite().all()
        assert weights.isfinite().all()
        assert (weights - before).norm() > 1e-3
    _, plain_losses = trained(name, folder / "plain", rule, shortcuts=False)
    torch.testing.assert_close(losses, plain_losses, rtol=1e-3, atol=1e-4)

    short = {"no mask": not run._inputs.hide_padding, "last MLP where it counts": run._inputs.last_mlp is not None}
    return ", ".join(way for way, taken in short.items() if taken) or "plain"


def tasks():
    """Prompts with several answers that begin alike: shorter than a window, and longer."""
    made = []
    for prompt, answers in ((2, (1, 2, 3)), (7, (5, 8, 6)), (15, (9, 4))):
        opening = TOKENS[10 * prompt : 11 * prompt]
        for number, length in enumerate(answers):
            common, own = TOKENS[300:][: length // 2], TOKENS[310 + number :][: length - length // 2]
            made.append(Task(Record(), ids=[*opening, *common, *own], start=prompt))
    return made


@torch.no_grad()
def check_scoring(name):
    """Answers side by side, and along trees, have the log-probabilities that each has alone."""
    subject = model(name).eval()
    asked = tasks()
    for share in (True, False):
        found = dict(score_answers(subject, asked, 8, share, pad_token_id=0))
        for number, task in enumerate(asked):
            logits = subject(input_ids=torch.tensor([task.ids]), use_cache=False).logits[0]
            expected = logits.log_softmax(dim=-1)[range(task.start - 1, len(task.ids) - 1), task.answer]
            torch.testing.assert_close(torch.from_numpy(found[number].logps), expected, rtol=1e-3, atol=1e-3)
    trees = _takes_trees(subject, _by_prompt(asked, 8), pad_token_id=0)
    return "trees of answers" if trees else "one by one"


@torch.no_grad()
def continued(subject, prompt, count):
    """The most probable next tokens, each by a forward pass over everything before it."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(subject(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item())
    return ids[len(prompt) :]


def check_generation(name):
    """Prompts side by side go on as each does alone, without a cache."""
    subject = model(name).eval()
    prompts = [TOKENS[:9], TOKENS[30:34], TOKENS[60:75], TOKENS[90:92]]
    limits = [8, 12, 5, 10]
    found = generate(subject, prompts, limits, [], 0)
    assert found == [continued(subject, *asked) for asked in zip(prompts, limits, strict=True)]
    return WAYS[reader_for(subject, prompts, 0)]


def check_gradient_norms(name):
    """Those of a batch are those of an ordinary backward pass for each row."""
    subject = model(name).eval()
    rows = [(TOKENS[:9], slice(4, 9)), (TOKENS[20:32], slice(2, 11)), (TOKENS[40:45], slice(3, 5))]
    expected = []
    for ids, answer in rows:
        labels = [-100] * len(ids)
        labels[answer] = ids[answer]
        subject.zero_grad()
        logits = subject(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(labels[1:])).backward()
        norms = [p.grad.norm() for p in subject.parameters() if p.grad is not None]
        expected.append(torch.stack(norms).mean().item())
    subject.zero_grad()
    torch.testing.assert_close(gradient_norms(subject, rows, 0), expected, rtol=1e-3, atol=1e-4)
    together = _batched_if_possible(subject, rows, 0) is not None
    return "several rows at once" if together else "row by row"


WAYS = {
    CachedReader: "with a cache",
    PatientReader: "with a cache, ended texts read along",
    RereadingReader: "reading anew",
}

CHECKS = {
    "scoring": lambda name, _: check_scoring(name),
    "generation": lambda name, _: check_generation(name),
    "gradient norms": lambda name, _: check_gradient_norms(name),
    "training": check_training,
}
"""Name → a check of an architecture, which may write to a folder and says which way was taken."""

REFUSED = {
    "t5": {"num_layers": 1, "d_kv": 8, "d_ff": 24, "decoder_start_token_id": 0},
    "bart": {"encoder_layers": 1, "decoder_layers": 1, "decoder_start_token_id": 0},
    "bert": {},
    "roberta": {},
    "electra": {"embedding_size": 16},
    "xlnet": {"n_layer": 2, "n_head": 2, "d_inner": 24, "d_model": 16, "max_position_embeddings": None},
    "gemma3_text looking ahead": IN_TURN | {"use_bidirectional_attention": True},
}
"""As :data:`CONFIGS`, of what is no causal language model."""


def refused_model(name):
    torch.manual_seed(0)
    given = {setting: value for setting, value in (SHAPE | REFUSED[name]).items() if value is not None}
    made = CONFIG_MAPPING[name.split()[0]](**given)
    if made.is_encoder_decoder:
        return AutoModelForSeq2SeqLM.from_config(made)
    return AutoModelForCausalLM.from_config(made)


# --- the page --------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "architectures.md"
HEAD = """# Architectures

Tiny random models of what transformers offers for causal language modelling, made from configurations and measured with
transformers {transformers}, torch {torch} on {date}; `make architectures` measures anew and writes this page. In each:

- **scoring**: log-probabilities of answers side by side are those of each row alone, for rows longer than a window of
  attention, too;
- **generation**: prompts side by side go on as each does alone, in a loop without a cache;
- **gradient norms**: those of several rows are those of a backward pass for each;
- **training**: three steps with the rules `gru` and `gru/element`; losses are those of the plain path.

A cell names the way that was taken: each short one is tried first, and left for the plain one where the model is unfit
for it. What stands behind a model type is a variant of it.

Of models with two sets of positions (`longrope`: Phi 3.5, Phi 4 mini) transformers takes the longer set for a whole
batch as soon as one of its rows passes `original_max_position_embeddings`, 4096 for these: rows below that do not
depend on each other, longer ones do.
"""

MODELS = {
    "Llama 3.2, 3.3": ["llama as Llama 3.2"],
    "Llama 4 (experts)": ["llama4_text"],
    "Qwen 2.5": ["qwen2"],
    "Qwen 3": ["qwen3"],
    "Qwen 3 30B-A3B, 235B-A22B (experts)": ["qwen3_moe"],
    "Qwen 3.5, with experts too; Qwen 3 Next": ["qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"],
    "Gemma 3, Gemma 4": ["gemma3_text", "gemma3", "gemma4_text"],
    "Phi 4, Phi 4 mini": ["phi3", "phi3 as Phi 4 mini"],
    "OLMo 2, OLMo 3": ["olmo2", "olmo3"],
    "OLMoE (experts)": ["olmoe"],
    "Mistral, Ministral, Mixtral (experts)": ["mistral", "ministral", "ministral3", "mixtral"],
    "gpt-oss (experts)": ["gpt_oss"],
    "DeepSeek V3, R1 (experts); R1 Distill": ["deepseek_v3", "qwen2", "llama"],
    "SmolLM 2, SmolLM 3": ["llama", "smollm3"],
    "Granite 4": ["granitemoehybrid"],
    "GLM 4, GLM 4.5 (experts)": ["glm4", "glm4_moe"],
}
"""What people know models as → the architectures that they are."""


def outcome(check, name):
    """Which way a check found, or how it ended."""
    try:
        with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            return check(name, Path(folder))
    except Exception as error:
        return f"**fails**: {type(error).__name__}"


def refusal(name):
    """What the trainer says to a model of another kind."""
    try:
        require_causal_config(refused_model(name).config, "it")
        require_causal(refused_model(name), TOKENS[:20])
    except UserError as error:
        return str(error).removeprefix("it: ").partition(";")[0]
    return "**not refused**"


def line_of(name):
    """What came of all checks of an architecture."""
    cells = [f"`{name}`", *(outcome(check, name) for check in CHECKS.values())]
    line = f"| {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def lines_of_models():
    """Which line of the page a model that people know stands in."""
    lines = ["| model | model type |", "|---|---|"]
    return lines + [f"| {model} | {', '.join(f'`{name}`' for name in names)} |" for model, names in MODELS.items()]


def write_page(names=()):
    """Measure architectures, all unless some are named, and keep what the page has of the others."""
    written = {line.split("`")[1]: line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"}
    known = {name: line for name, line in written.items() if names and name not in names}
    lines = [HEAD.format(transformers=transformers.__version__, torch=torch.__version__, date=date.today())]
    lines += lines_of_models()
    lines += ["", f"| model type | {' | '.join(CHECKS)} |", "|---" * (len(CHECKS) + 1) + "|"]
    lines += [known.get(name) or line_of(name) for name in sorted(CONFIGS)]
    lines += ["", "Refused, before any work:", "", "| model type | in words |", "|---|---|"]
    lines += [f"| `{name}` | {refusal(name)} |" for name in REFUSED]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    write_page(sys.argv[1:])
