"""What decides the models of the built-in benchmark besides its rows: settings of their training, and the tokenizer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from gru_unlearn.data.people import BenchmarkRow

BenchmarkRows = Mapping[str, Sequence[BenchmarkRow]]
"""Set → its rows."""

LEARNS = {"target": ("forget", "retain", "held_out", "general"), "retain_model": ("retain", "held_out", "general")}
"""Model → the sets that it is trained on."""

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
