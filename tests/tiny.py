"""A random two-layer Llama with a word-level tokenizer: small enough to be made anew in every test."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from gru_unlearn import UnlearningConfig, UnlearningTrainer

logging.disable_progress_bar()

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<eos>", "<bos>", "<|user|>", "<|assistant|>", "<unk>"]
WORDS = [
    *("who", "what", "where", "is", "was", "born", "in", "the", "a", "of", "to", "Ada", "Bob", "Cleo", "Dan", "Eve"),
    *("lives", "works", "red", "blue", "green", "one", "two", "three"),
]


def seldom(value):
    """A parameter of a test whose neighbours show nearly as much: tried with the campaigns."""
    return pytest.param(value, marks=pytest.mark.campaign)


def tokenizer(chat=True):
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, "?", ".", ":", "Question", "Answer", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        model_max_length=128,
    )
    fast.chat_template = CHAT_TEMPLATE if chat else None
    return fast


def model(seed=0, vocabulary=48):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)


def rows(count=6, start=0):
    names, colours, numbers = ("Ada", "Bob", "Cleo", "Dan", "Eve"), ("red", "blue", "green"), ("one", "two", "three")
    return [
        {
            "question": f"where is {names[i % 5]} {numbers[i // 15 % 3]} ?",
            "answer": f"{names[i % 5]} lives in the {colours[i % 3]} {numbers[i // 3 % 3]} .",
        }
        for i in range(start, start + count)
    ]


def save(folder, seed=0, chat=True):
    """A model folder as users have them: weights, configuration, tokenizer."""
    model(seed).save_pretrained(folder)
    tokenizer(chat).save_pretrained(folder)
    return folder


def save_world(folder):
    """A folder as a user has it: a model, six rows to forget and twelve to keep."""
    save(folder / "model")
    for name, some in (("forget", rows(6)), ("retain", rows(12, start=6))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder


def trainer(folder, model, **options):
    """Of eight rows to forget and sixteen to keep, quiet, without checkpoints."""
    defaults = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": "none",
    }
    return UnlearningTrainer(
        model,
        UnlearningConfig(output_dir=str(folder), **(defaults | options)),
        forget_dataset=rows(8),
        retain_dataset=rows(16, start=8),
        processing_class=tokenizer(),
    )


def weights(model):
    """All of them as one float32 vector."""
    return torch.cat([p.detach().float().reshape(-1) for p in model.parameters()])
