"""What a process runs that trains one model of the built-in benchmark."""

import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from gru_unlearn.data import Encoder, Example, load_records
from gru_unlearn.training.builtin_recipe import BOS, EOS, LEARNS, PAD, RECIPE, TrainingRecipe
from gru_unlearn.training.fine_tuning import FineTuning, batches_of_similar_length

EPOCH = "epoch "
"""How a line about a finished epoch begins."""


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
    for rows in LEARNS[name]:
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
        fused=True,
        clip=recipe.clip,
        rate_at=lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup)),
    )
    rng = Random(recipe.seed)
    for _ in range(recipe.epochs):
        losses = [tuning.step(batch) for batch in batches_of_similar_length(examples, recipe.batch_size, rng)]
        yield sum(losses) / len(losses)
