"""Plain texts are continued from their beginning, and what comes back is counted, in many processes, too."""

import socket

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.data import Encoder, pad_examples, to_record
from gru_unlearn.data.continuations import MOST, cut_text
from gru_unlearn.evaluation import score
from gru_unlearn.evaluation.generation import generate
from gru_unlearn.evaluation.suites import own
from gru_unlearn.results.verdict import Said
from gru_unlearn.runs import seen_rows
from gru_unlearn.runs.seen_rows import said_by, see_rows
from gru_unlearn.training.word_for_word import said_word_for_word

EOS = 1
TEXTS = [
    "Ada lives in the red one .",
    "Bob works in the blue two . Bob was born in the green one .",
    "Cleo is what the three works of Dan is .",
    "Eve was born where Dan lives . who is Dan ? Dan works in the red of the blue one .",
    "two blue three red one green",
    "Dan lives",
]
OTHERS = [
    "where is Ada ? Ada works in the green three .",
    "Bob lives to the red two of one .",
    "what is a born Eve in ?",
]
SHORT = ["Ada", "Ada ."]


def texts(*lines):
    return [to_record({"text": line}, "row") for line in lines]


def questions(count=4):
    return [to_record(row, "row") for row in tiny.rows(count)]


def taught(records, steps=250):
    """A tiny model that knows these rows."""
    model, encoder = tiny.model(), Encoder(tiny.tokenizer())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = pad_examples(encoder.encode_all(records, "rows"), pad_token_id=0)
    for _ in range(steps):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def knows():
    return taught([*texts(*TEXTS), *questions()])


# --- where a text is cut ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(2, 40), max_size=300), st.integers(0, 2), st.booleans(), st.integers(0, 299))
def test_a_text_is_cut_in_the_middle_or_after_fifty_tokens(own_tokens, opening, closes, stop_at):
    ids = [0] * opening + own_tokens
    if stop_at < len(own_tokens):
        ids[opening + stop_at] = EOS
    cut = cut_text(ids + [EOS] * closes, opening=opening, closing=int(closes), stop={EOS})
    half = opening + min(len(own_tokens) // 2, MOST)
    if cut is None:
        assert len(own_tokens) < 2 or ids[half] == EOS
        return
    assert cut.given == half
    assert opening < cut.given < cut.end <= len(ids)
    assert cut.end - cut.given <= MOST
    assert EOS not in ids[cut.given : cut.end]
    assert cut.end in (len(ids), half + MOST) or ids[cut.end] == EOS


@pytest.mark.parametrize("opens", [False, True], ids=["bare", "opened"])
@pytest.mark.parametrize(
    ("line", "given", "due"),
    [
        ("Ada", None, None),
        ("Ada lives", "Ada", "lives"),
        ("Ada lives in", "Ada", "lives in"),
        ("Ada lives in the", "Ada lives", "in the"),
        (" ".join(["Ada lives"] * 60), " ".join(["Ada lives"] * 25), " ".join(["Ada lives"] * 25)),
        ("Ada lives nowhere ever", None, None),  # two words that the tokenizer does not know
    ],
    ids=["one token", "two tokens", "three tokens", "four tokens", "long", "nothing but unknown words behind"],
)
def test_what_a_model_is_given_of_a_text(opens, line, given, due):
    tokenizer = tiny.tokenizer()
    if opens:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", 2)]
        )
    encoder = Encoder(tokenizer)
    (example,) = encoder.encode_all(texts(line), "rows")
    asked = encoder.asks(example)
    if given is None:
        assert asked is None
        return
    start = next(place for place, label in enumerate(asked["labels"]) if label != -100)
    assert tokenizer.decode(asked["input_ids"][:start], skip_special_tokens=True) == given
    assert tokenizer.decode(asked["input_ids"][start:], skip_special_tokens=True) == due
    assert asked["input_ids"][:1] == example["input_ids"][:1]


def test_windows_of_a_long_text_are_asked_for_what_they_hold():
    """A model never saw what stands behind the end of a window together with its beginning."""
    encoder = Encoder(tiny.tokenizer(), max_length=6)
    windows = encoder.encode_all(texts(TEXTS[1]), "rows")
    assert len(windows) == 3
    asked = list(map(encoder.asks, windows))
    for window, one in zip(windows, asked, strict=True):
        assert one is None or window["input_ids"][: len(one["input_ids"])] == one["input_ids"]
    assert [one and sum(label != -100 for label in one["labels"]) for one in asked] == [3, 3, 2]


def test_a_question_is_asked_as_it_is():
    encoder = Encoder(tiny.tokenizer())
    for example in encoder.encode_all(questions(), "rows"):
        assert encoder.asks(example) is example


# --- counting --------------------------------------------------------------------------------------------------------


def counted_plainly(model, encoder, records):
    """One text after the other, token by token."""
    found = []
    for record in records:
        asked = encoder.asks(encoder.encode_all([record], "rows")[0])
        start = next(place for place, label in enumerate(asked["labels"]) if label != -100)
        ids, due = asked["input_ids"][:start], asked["input_ids"][start:]
        (said,) = generate(model, [ids], [len(due)], {EOS}, 0)
        found.append(said == due)
    return found


def test_continuations_are_counted_by_one_pass_as_by_greedy_decoding(knows):
    encoder, records = Encoder(tiny.tokenizer()), texts(*TEXTS, *OTHERS)
    expected = counted_plainly(knows, encoder, records)
    assert set(expected) == {True, False}
    asked = [encoder.asks(example) for example in encoder.encode_all(records, "rows")]
    assert said_word_for_word(knows, asked, batch_size=4, pad_token_id=0, device=torch.device("cpu")) == expected
    (seen,) = see_rows(knows, encoder, {"forget": records}, batch_size=4, generate=True).values()
    assert [row.seen.says == row.due for row in seen] == expected
    assert said_by(seen) == Said(asked=9, word_for_word=sum(expected), broken=said_by(seen).broken, continued=9)
    assert [row.given + " " + row.due for row in seen][:3] == TEXTS[:3]


def test_an_answer_longer_than_generations_are_is_counted(knows, monkeypatch):
    monkeypatch.setattr(seen_rows, "LONGEST_GENERATION", 3)
    (seen,) = see_rows(knows, Encoder(tiny.tokenizer()), {"forget": questions(5)}, batch_size=4, generate=True).values()
    assert [row.seen.says == row.due for row in seen] == [True] * 4 + [False]
    assert len(seen[4].seen.says.split()) == 3


def test_texts_beside_questions_are_counted_with_them(knows):
    encoder, records = Encoder(tiny.tokenizer()), [*questions(), *texts(*SHORT, *TEXTS)]
    (seen,) = see_rows(knows, encoder, {"forget": records}, batch_size=4, generate=True).values()
    said = said_by(seen)
    assert (said.asked, said.continued) == (11, 7), "the text of one token cannot be continued"
    assert said.word_for_word >= 9
    (alone,) = see_rows(knows, encoder, {"forget": questions()}, batch_size=4, generate=True).values()
    assert [row.seen.says for row in alone] == [row.seen.says for row in seen[:4]]
    assert "continued" not in said_by(alone).to_json()


def test_texts_of_one_token_are_not_counted(knows):
    encoder, records = Encoder(tiny.tokenizer()), texts("Ada", "Bob")
    (seen,) = see_rows(knows, encoder, {"forget": records}, batch_size=4, generate=True).values()
    assert said_by(seen) is None
    assert all(row.seen.probability is not None for row in seen)


def test_an_evaluation_counts_them_too(knows):
    suite = own(texts(*TEXTS), texts(*OTHERS))
    (measured,) = [metric for metric in suite.metrics if metric.key == "forget_exact_answers"]
    encoder = Encoder(tiny.tokenizer())
    expected = counted_plainly(knows, encoder, texts(*TEXTS))
    found = measured.compute(score(knows, encoder, suite), None)
    assert found.rows["forget"].tolist() == list(map(float, expected))


@pytest.mark.parametrize(
    ("lines", "share"), [(["Ada", "Bob"], None), (["Ada", TEXTS[0]], 1.0), ([TEXTS[0], OTHERS[0]], 0.5)]
)
def test_along_a_run_a_text_too_short_to_be_cut_is_left_out(knows, tmp_path, lines, share):
    rows = [{"text": line} for line in lines]
    trainer = UnlearningTrainer(
        knows,
        UnlearningConfig(output_dir=str(tmp_path), use_cpu=True, stop_at_forget_prob=0.999999, learning_rate="auto"),
        forget_dataset=rows,
        retain_dataset=tiny.rows(4),
        processing_class=tiny.tokenizer(),
    )
    assert trainer.share_said(trainer.forget_examples) == share
    assert trainer.measure_set("forget", trainer.forget_examples).get("forget_word_for_word") == share


# --- in two processes ------------------------------------------------------------------------------------------------

ROWS = {"forget": [*questions(), *texts(*TEXTS)], "retain": [*texts(*OTHERS, *SHORT), *questions(7)[4:]]}


def look_in_two(rank, port, folder, state):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    encoder, model = Encoder(tiny.tokenizer()), tiny.model().eval()
    model.load_state_dict(state)
    for kind in ("whole", "sharded"):
        if kind == "sharded":
            mesh = init_device_mesh("cpu", (2,))
            for layer in model.model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
        seen = see_rows(model, encoder, ROWS, batch_size=3, generate=True, across_processes=True)
        torch.save({name: list(map(tuple, rows)) for name, rows in seen.items()}, f"{folder}/{kind}{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_what_one_counts(knows, tmp_path):
    """Whether each holds the whole model, or a part of it."""
    alone = see_rows(knows, Encoder(tiny.tokenizer()), ROWS, batch_size=3, generate=True)
    assert {said_by(rows).word_for_word == said_by(rows).asked for rows in alone.values()} == {True, False}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(look_in_two, (port, str(tmp_path), knows.state_dict()), nprocs=2)
    for name in ("whole0", "whole1", "sharded0", "sharded1"):
        together = torch.load(tmp_path / f"{name}.pt", weights_only=False)
        for key, rows in alone.items():
            for (seen, *asked), row in zip(together[key], rows, strict=True):
                assert (seen.says, *asked) == (row.seen.says, *row[1:])
                assert seen.probability == pytest.approx(row.seen.probability, rel=1e-4)
