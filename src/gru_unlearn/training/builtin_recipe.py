"""What decides the models of the built-in benchmark besides its rows: the settings, the tokenizer, and the training."""

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gru_unlearn.data import Encoder, Example, load_records
from gru_unlearn.data.people import BenchmarkRow
from gru_unlearn.training.fine_tuning import FineTuning, batches_of_similar_length

BenchmarkRows = Mapping[str, Sequence[BenchmarkRow]]
"""Set → its rows."""

LEARNS = {"target": ("forget", "retain", "held_out", "general"), "retain_model": ("retain", "held_out", "general")}
"""Model → the sets that it is trained on."""

BASE = "base"
LEARNT_BY_BASE = ("forget", "retain", "held_out", "general")
"""Sets of other people: see :func:`gru_unlearn.training.builtin.builtin_base`."""

EPOCH = "epoch "
"""How a line about a finished epoch begins."""

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>")
PAD, BOS, EOS = range(3)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """Shape of the models and settings of their training."""

    seed: int = 0
    vocab_size: int = 640  # small enough that names and invented towns take several tokens, as in real vocabularies
    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 4
    heads: int = 4
    context: int = 512
    epochs: int = 26
    batch_size: int = 16
    learning_rate: float = 4e-3
    warmup: float = 0.1  # share of the steps; after it the rate falls linearly to zero
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    highest_loss: float = 0.1  # mean over the last epoch; above it the rows have not been learnt


RECIPE = TrainingRecipe()


def make_tokenizer(rows: BenchmarkRows) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a chat template, learnt from all texts in ``rows``.

    The wrong answers are among them on purpose: tokens learnt from true answers alone would make the truth shorter
    than its alternatives and so give it away.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=RECIPE.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts_of(rows), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL_TOKENS[PAD],
        bos_token=SPECIAL_TOKENS[BOS],
        eos_token=SPECIAL_TOKENS[EOS],
        chat_template=CHAT_TEMPLATE,
        model_max_length=RECIPE.context,
        clean_up_tokenization_spaces=False,
    )


def texts_of(rows: BenchmarkRows) -> Iterator[str]:
    """All questions and answers, true and wrong, set after set."""
    for its_rows in rows.values():
        for row in its_rows:
            yield from (row["question"], row["answer"], row["paraphrased_question"], row["paraphrased_answer"])
            yield from row["perturbed_answer"]


def train_in_this_process() -> None:
    """Arguments: the benchmark's folder, the model's name, the building process's id."""
    torch.set_num_threads(1)
    folder, name, builder = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for epoch, loss in enumerate(train_builtin(folder, name), start=1):
        print(f"{EPOCH}{epoch}: loss {loss:.4f}", flush=True)
        if os.getppid() != builder:  # it was killed and could not end this process
            sys.exit("the building process is gone")


def train_builtin(folder: Path, name: str, recipe: TrainingRecipe = RECIPE) -> Iterator[float]:
    """Train and save the model ``folder/name`` on ``folder/data``; yields the mean loss of each epoch.

    Raises:
        RuntimeError: the rows have not been learnt in the end; nothing is saved.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder / name)
    encoder = Encoder(tokenizer, max_length=recipe.context)
    examples: list[Example] = []
    for rows in LEARNS.get(name, LEARNT_BY_BASE):
        examples += encoder.encode_all(load_records(str(folder / "data" / f"{rows}.jsonl")), rows)
    model = _new_model(tokenizer, recipe)
    loss = math.inf
    for loss in _epochs(model, examples, recipe):
        yield loss
    if loss > recipe.highest_loss:
        raise RuntimeError(f"its rows have not been learnt: the loss is still {loss:.3f} after {recipe.epochs} epochs")
    model.save_pretrained(folder / name)


def _new_model(tokenizer: PreTrainedTokenizerBase, recipe: TrainingRecipe) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config)


def _epochs(model: LlamaForCausalLM, examples: Sequence[Example], recipe: TrainingRecipe) -> Iterator[float]:
    """One pass over the examples for each value asked for: the mean loss of its steps.

    Only answers are supervised: they are what is asked of the model, names in questions cannot be predicted, and
    the head has less than half as much to do.
    """
    steps = recipe.epochs * math.ceil(len(examples) / recipe.batch_size)
    warmup = max(1, round(recipe.warmup * steps))
    tuning = FineTuning(
        model,
        PAD,
        learning_rate=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        rate_at=lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup)),
    )
    rng = Random(recipe.seed)
    for _ in range(recipe.epochs):
        losses = [tuning.step(batch) for batch in batches_of_similar_length(examples, recipe.batch_size, rng)]
        yield sum(losses) / len(losses)
