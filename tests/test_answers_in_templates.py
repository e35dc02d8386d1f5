"""Labels are the answers and the ends of their turns, token by token, under the chat templates of real families."""

import re
import sys
from dataclasses import replace
from subprocess import run

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import tiny
from chat_families import (
    CHATML,
    DEEPSEEK_R1,
    FAMILIES,
    GEMMA,
    GPT_OSS,
    LLAMA_3,
    MISTRAL_FIRST,
    PHI_3,
    QWEN_3,
    Family,
    adds,
    metaspace,
    trained,
)
from chat_families import made as tokenizer_of
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.data import Encoder, TextFormat, attach_alternatives, load_records, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import Item, RowSet, Suite, evaluate, score
from gru_unlearn.evaluation.metrics import exact_answers, exact_memorization, extraction_strength, probability
from gru_unlearn.evaluation.score_key import cache_key
from gru_unlearn.evaluation.tasks import plan_tasks
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.objectives import IGNORE_INDEX
from gru_unlearn.training import UnlearningConfig, encoder_for

ASKED = [("user", "Where?"), ("assistant", "Here.")]
TWICE = [*ASKED, ("user", "Who?"), ("assistant", "Ada.")]
SYSTEM = [("system", "Be brief."), *ASKED]
SYSTEM_TWICE = [("system", "Be brief."), *TWICE]
GREETED = [("assistant", "Hello."), *ASKED]
THINKING = [("user", "Where?"), ("assistant", "<think>\nHm.\n</think>\n\nHere.")]


def record(turns, where="rows.jsonl, row 7"):
    return to_record({"messages": [{"role": role, "content": content} for role, content in turns]}, where)


def marked(encoder, example):
    """The example as text, with its labelled stretches in « and »."""
    pieces, labelled = [], False
    for token, label in zip(example["input_ids"], example["labels"], strict=True):
        assert label in (token, IGNORE_INDEX)
        if (label != IGNORE_INDEX) != labelled:
            labelled = not labelled
            pieces.append([])
        if not pieces:
            pieces.append([])
        pieces[-1].append(token)
    first_is_labelled = example["labels"][0] != IGNORE_INDEX
    texts = [encoder.tokenizer.decode(piece) for piece in pieces]
    return "".join(f"«{text}»" if (n % 2 == 0) == first_is_labelled else text for n, text in enumerate(texts))


def check(encoder, turns, expected):
    """That the row reads as written out, with tokens that are those of the parts of that, and its prompt is its own."""
    (example,) = encoder.encode_all([record(turns)], "forget")
    assert marked(encoder, example) == expected
    parts = [part for part in re.split("[«»]", expected) if part]
    tokens = [encoder.tokenizer(part, add_special_tokens=False).input_ids for part in parts]
    assert example["input_ids"] == [token for part in tokens for token in part]
    prompt = encoder.prompt_ids(record(turns))
    assert encoder.tokenizer.decode(prompt) == expected.rpartition("«")[0].replace("«", "").replace("»", "")
    assert example["input_ids"][: len(prompt)] == prompt


LLAMA_SYSTEM = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n{}<|eot_id|>"
)
LLAMA_ASKED = (
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    "«{}<|eot_id|>»"
)
LLAMA_BOTH = LLAMA_ASKED.format("Where?", "Here.") + LLAMA_ASKED.format("Who?", "Ada.")
IM_SYSTEM = "<|im_start|>system\n{}<|im_end|>\n"
IM_ASKED = "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n«Here.<|im_end|>»"
IM_AGAIN = "\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n«Ada.<|im_end|>»"
SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
THOUGHT = "assistant\n<think>\n\n</think>\n\n«"
GEMMA_ASKED = "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n«{}<end_of_turn>»"
GEMMA_BOTH = "<bos>" + GEMMA_ASKED.format("Where?", "Here.") + "\n" + GEMMA_ASKED.format("Who?", "Ada.")
R1_BEGIN, R1_END, R1_USER, R1_ASSISTANT = DEEPSEEK_R1.specials
R1_ASKED = f"{R1_USER}Where?{R1_ASSISTANT}«Here.{R1_END}»"
R1_AGAIN = f"{R1_USER}Who?{R1_ASSISTANT}«Ada.{R1_END}»"

EXPECTED = [
    ("llama-3", ASKED, LLAMA_SYSTEM.format("") + LLAMA_ASKED.format("Where?", "Here.")),
    ("llama-3", TWICE, LLAMA_SYSTEM.format("") + LLAMA_BOTH),
    ("llama-3", SYSTEM_TWICE, LLAMA_SYSTEM.format("Be brief.") + LLAMA_BOTH),
    ("chatml", ASKED, IM_ASKED),
    ("chatml", TWICE, IM_ASKED + IM_AGAIN),
    ("chatml", SYSTEM, IM_SYSTEM.format("Be brief.") + IM_ASKED),
    ("chatml", GREETED, "<|im_start|>assistant\n«Hello.<|im_end|>»\n" + IM_ASKED),
    ("smollm-2", ASKED, IM_SYSTEM.format(SMOLLM) + IM_ASKED),
    ("smollm-2", TWICE, IM_SYSTEM.format(SMOLLM) + IM_ASKED + IM_AGAIN),
    ("smollm-2", SYSTEM, IM_SYSTEM.format("Be brief.") + IM_ASKED),
    ("qwen-2.5", ASKED, IM_SYSTEM.format(QWEN) + IM_ASKED),
    ("qwen-2.5", SYSTEM_TWICE, IM_SYSTEM.format("Be brief.") + IM_ASKED + IM_AGAIN),
    ("qwen-3", ASKED, IM_ASKED.replace("assistant\n«", THOUGHT)),
    ("qwen-3", TWICE, IM_ASKED + IM_AGAIN.replace("assistant\n«", THOUGHT)),
    ("qwen-3", SYSTEM, IM_SYSTEM.format("Be brief.") + IM_ASKED.replace("assistant\n«", THOUGHT)),
    ("qwen-3", THINKING, IM_ASKED.replace("Here.", "<think>\nHm.\n</think>\n\nHere.")),
    ("mistral, system first", ASKED, "<s>[INST] Where? [/INST]« Here.</s>»"),
    ("mistral, system first", TWICE, "<s>[INST] Where? [/INST]« Here.</s>»[INST] Who? [/INST]« Ada.</s>»"),
    (
        "mistral, system first",
        SYSTEM_TWICE,
        "<s>[INST] Be brief.\n\nWhere? [/INST]« Here.</s>»[INST] Who? [/INST]« Ada.</s>»",
    ),
    ("mistral, system last", SYSTEM, "<s>[INST] Be brief.\n\nWhere?[/INST]« Here.</s>»"),
    (
        "mistral, system last",
        SYSTEM_TWICE,
        "<s>[INST] Where?[/INST]« Here.</s>»[INST] Be brief.\n\nWho?[/INST]« Ada.</s>»",
    ),
    ("gemma", ASKED, "<bos>" + GEMMA_ASKED.format("Where?", "Here.")),
    ("gemma", TWICE, GEMMA_BOTH),
    ("deepseek-r1", ASKED, R1_BEGIN + R1_ASKED),
    ("deepseek-r1", TWICE, R1_BEGIN + R1_ASKED + R1_AGAIN),
    ("deepseek-r1", SYSTEM_TWICE, R1_BEGIN + "Be brief." + R1_ASKED + R1_AGAIN),
]


@pytest.mark.parametrize(("family", "turns", "expected"), EXPECTED)
def test_rows_read_as_written_out(family, turns, expected):
    check(Encoder(FAMILIES[family].tokenizer()), turns, expected)


def test_special_tokens_that_take_blanks_along():
    """Phi-3's do: the line breaks that its template writes behind them are no tokens."""
    check(Encoder(PHI_3.tokenizer()), ASKED, "<|user|>Where?<|end|><|assistant|>«Here.<|end|>»")
    again = "<|user|>Who?<|end|><|assistant|>«Ada.<|end|>»"
    check(Encoder(PHI_3.tokenizer()), TWICE, "<|user|>Where?<|end|><|assistant|>«Here.<|end|>»" + again)
    check(
        Encoder(PHI_3.tokenizer()), SYSTEM, "<|system|>Be brief.<|end|><|user|>Where?<|end|><|assistant|>«Here.<|end|>»"
    )


@pytest.mark.parametrize(
    ("family", "turns", "said"),
    [
        ("gemma", SYSTEM, "System role not supported"),
        ("gemma", GREETED, "roles must alternate"),
        ("mistral, system first", GREETED, "roles must alternate"),
        ("mistral, system last", [*SYSTEM, SYSTEM[-1]], "roles must alternate"),
        ("deepseek-r1", THINKING, "changes the answer"),
        ("deepseek-r1", [*THINKING, *ASKED], "changes answer 1 of 2"),
        ("qwen-3", [*THINKING, *ASKED], "changes answer 1 of 2"),
        ("chatml", [*ASKED[:1], ("assistant", "He<|im_end|>re")], re.escape("holds '<|im_end|>', which ends a turn")),
        ("gemma", [*ASKED[:1], ("assistant", "He<eos>re")], "holds '<eos>', which ends a turn"),
        ("chatml", [*ASKED[:1], ("assistant", " <|im_end|>\n")], "nothing but the end"),
        ("chatml", [*ASKED[:1], ("assistant", "He\ufdd0re")], "U\\+FDD0"),
    ],
)
def test_what_a_template_refuses_or_changes_is_told_with_file_and_row(family, turns, said):
    encoder = Encoder(FAMILIES[family].tokenizer())
    for ask in (lambda: encoder.encode_all([record(turns)], "forget"), lambda: encoder.prompt_ids(record(turns))):
        with pytest.raises(UserError, match=rf"^rows.jsonl, row 7: .*{said}[^\n]*$"):
            ask()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}", "leaves out the answer"),
        ("{% for m in messages %}{{ m.content ~ m.content }}{% endfor %}", "writes the answer more than once"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "changes the answer"),
        ('{% for m in messages %}{{ m.content | replace("e", "") }}{% endfor %}', "changes the answer"),
        ("{{ messages[-1].content ~ eos_token }}", "nothing stands before the answer"),
        ("{{ messages[0].content.nowhere.at_all }}", "does not take this conversation"),
        ("{{ 1 + messages[0].content }}", "does not take this conversation"),
        ("{% for m in messages %}{{ m.content }", "does not take this conversation"),
    ],
)
def test_templates_that_do_not_show_a_row_as_it_is(template, said):
    encoder = Encoder(tokenizer_of(Family(template, "", "<|im_end|>", CHATML.specials)))
    with pytest.raises(UserError, match=f"^rows.jsonl, row 7: .*{said}[^\n]*$"):
        encoder.encode_all([record(ASKED)], "forget")


def test_answers_in_another_order_or_only_the_last_one():
    backwards = "{% for m in messages[::-1] %}{{ m.content ~ eos_token }}{% endfor %}"
    only_last = "{{ messages[-2].content }}:{{ messages[-1].content }}"
    for template, said in ((backwards, "another order"), (only_last, "leaves out answer 1 of 2")):
        encoder = Encoder(tokenizer_of(Family(template, "", "<|im_end|>", CHATML.specials)))
        with pytest.raises(UserError, match=f"row 7: .*{said}"):
            encoder.encode_all([record(TWICE)], "forget")


@pytest.mark.parametrize("role", ["tool", "function", "developer"])
def test_other_roles_are_refused(role):
    with pytest.raises(UserError, match="row 7: messages: each message needs a role"):
        record([("user", "Where?"), (role, "{}"), ("assistant", "Here.")])


def test_rows_made_without_a_file_are_named_by_their_set():
    encoder = Encoder(GEMMA.tokenizer())
    with pytest.raises(UserError, match=r"^retain, row 2: "):
        encoder.encode_all([record(ASKED, ""), record(SYSTEM, "")], "retain")
    rows = [{"messages": [{"role": role, "content": text} for role, text in SYSTEM], "alternate": "There."}]
    records = [to_record(row, "rows.jsonl, row 1") for row in rows]
    with pytest.raises(UserError, match=r"^rows\.jsonl, row 1: "):
        attach_alternatives([{}], records, encoder, "alternate")


def test_earlier_turns_may_end_otherwise():
    begin = "<|start|>assistant<|channel|>final<|message|>"
    first = f"<|start|>user<|message|>Where?<|end|>{begin}«Here.<|end|>»"
    check(Encoder(GPT_OSS.tokenizer()), TWICE, f"{first}<|start|>user<|message|>Who?<|end|>{begin}«Ada.<|return|>»")


# --- what stands beside an answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # no end of its own: an end-of-sequence, and only behind the last answer
        ("{% for m in messages %}{{ m.role ~ ':' ~ m.content ~ '\n' }}{% endfor %}", "user:{}\nassistant:«{}»\n"),
        # blanks before the end belong to it
        ("{% for m in messages %}{{ m.content ~ (' ' ~ eos_token if loop.index is even else '/') }}{% endfor %}", ""),
    ],
)
def test_ends_that_are_no_single_token(template, expected):
    encoder = Encoder(tokenizer_of(Family(template, "", "<|im_end|>", CHATML.specials)))
    if expected:
        first, last = expected.format("Where?", "Here."), expected.format("Who?", "Ada.")[:-2] + "<|im_end|>»"
        check(encoder, TWICE, first + last)
    else:
        check(encoder, TWICE, "Where?/«Here. <|im_end|>»Who?/«Ada. <|im_end|>»")
    assert encoder.end_of_turn == "<|im_end|>"


def test_an_end_that_the_vocabulary_does_not_have():
    """ChatML on a tokenizer without its tokens: the end is there as text, once, and generation is cut at it."""
    encoder = Encoder(tokenizer_of(Family(CHATML.template, "", "</s>", ("</s>",))))
    check(encoder, TWICE, IM_ASKED + IM_AGAIN)
    assert encoder.end_of_turn == "<|im_end|>"
    assert encoder.stop_tokens == {encoder.tokenizer.eos_token_id}
    (example,) = encoder.encode_all([record(ASKED)], "forget")
    assert encoder.tokenizer.decode(example["input_ids"][-example["closing"] :]) == "<|im_end|>"


def test_an_answer_that_brings_its_end_has_one():
    for said in ("Here.<|im_end|>", "Here.<|im_end|>\n", "Here.<|im_end|><|im_end|>"):
        check(Encoder(CHATML.tokenizer()), [ASKED[0], ("assistant", said)], IM_ASKED)


def test_blanks_and_line_breaks_around_an_answer():
    """They stay where the template keeps them; a token never reaches over where an answer begins."""
    encoder = Encoder(CHATML.tokenizer())
    for said in ("\nHere.", "\n\n\nHere.", " Here.", "Here. \n", "\t Here.\n\n"):
        check(encoder, [ASKED[0], ("assistant", said)], IM_ASKED.replace("Here.", said))
    trimmed = LLAMA_SYSTEM.format("") + LLAMA_ASKED.format("Where?", "Here.")
    check(Encoder(LLAMA_3.tokenizer()), [ASKED[0], ("assistant", "\n Here. \n")], trimmed)


def test_an_answer_equal_to_its_question_or_to_the_template():
    encoder = Encoder(CHATML.tokenizer())
    check(encoder, [("user", "Here."), ASKED[1]], IM_ASKED.replace("Where?", "Here."))
    check(encoder, [ASKED[0], ("assistant", "assistant\n")], IM_ASKED.replace("Here.", "assistant\n"))
    check(encoder, [("user", "a<|im_end|>\n"), ASKED[1]], IM_ASKED.replace("Where?", "a<|im_end|>\n"))


def test_generation_blocks_change_nothing():
    """Templates for training mark what is generated; theirs may reach over the line break behind the end."""
    marking = CHATML.template.replace("+ message['content']", "}}{% generation %}{{ message['content']")
    marking = marking.replace("+ '\n' }}\n{%- endfor", "+ '\n' }}{% endgeneration %}\n{%- endfor")
    assert "{% endgeneration %}" in marking
    check(Encoder(tokenizer_of(replace(CHATML, template=marking))), TWICE, IM_ASKED + IM_AGAIN)


def test_template_arguments():
    for thinks in (True, False):
        kwargs = TextFormat(chat_template_kwargs={"enable_thinking": thinks})
        check(Encoder(QWEN_3.tokenizer(), text_format=kwargs), ASKED, IM_ASKED.replace("assistant\n«", THOUGHT))
    dated = TextFormat(chat_template_kwargs={"date_string": "1 May 1999"})
    expected = LLAMA_SYSTEM.format("").replace("26 Jul 2024", "1 May 1999") + LLAMA_ASKED.format("Where?", "Here.")
    check(Encoder(LLAMA_3.tokenizer(), text_format=dated), ASKED, expected)


# --- without a template ----------------------------------------------------------------------------------------------

PLAIN = [
    (ASKED, "Question: Where?\nAnswer:« Here.</s>»"),
    (SYSTEM, "Be brief.\n\nQuestion: Where?\nAnswer:« Here.</s>»"),
    (TWICE, "Question: Where?\nAnswer:« Here.»\n\nQuestion: Who?\nAnswer:« Ada.</s>»"),
    (GREETED, "\nAnswer:« Hello.»\n\nQuestion: Where?\nAnswer:« Here.</s>»"),
]


@pytest.mark.parametrize(("turns", "expected"), PLAIN)
def test_turns_without_a_template_are_kept_apart(turns, expected):
    check(Encoder(tokenizer_of(MISTRAL_FIRST, template=False)), turns, expected)


@pytest.mark.parametrize("around", ["<s> $A", "<s> $A </s>", "$A </s>", "$A"])
@pytest.mark.parametrize("backend", [trained, metaspace])
def test_tokenizers_that_add_tokens_to_every_text(around, backend):
    """A beginning where the tokenizer begins with one, once; an end behind the answer, once; none behind a prompt."""
    encoder = Encoder(adds(tokenizer_of(MISTRAL_FIRST, backend, template=False), around))
    begin = "<s>" * around.startswith("<s>")
    (example,) = encoder.encode_all([record(ASKED)], "forget")
    read = marked(encoder, example).replace("<s> ", "<s>").replace("« ", "«")  # blanks that SentencePiece adds or drops
    assert read == f"{begin}Question: Where?\nAnswer:«Here.</s>»"
    assert encoder.tokenizer.eos_token_id not in encoder.prompt_ids(record(ASKED))
    for text in ("Ada.", "<s>Ada.", "Ada.</s>", "<s>Ada.</s></s>"):
        (example,) = encoder.encode_all([to_record({"text": text}, "")], "forget")
        assert example["labels"] == example["input_ids"]
        has_begin = begin or text.startswith("<s>")
        said = encoder.tokenizer.decode(example["input_ids"]).replace("<s> ", "<s>")
        assert said == f"{'<s>' if has_begin else ''}Ada.</s>"

    templated = Encoder(adds(tokenizer_of(MISTRAL_FIRST, backend), around))
    (example,) = templated.encode_all([record(ASKED)], "forget")
    text = templated.tokenizer.decode(example["input_ids"])
    assert (text.count("<s>"), text.count("</s>"), text[-4:]) == (1, 1, "</s>")
    assert "</s>" not in templated.tokenizer.decode(templated.prompt_ids(record(ASKED)))


def test_running_text_has_no_end_and_no_second_beginning():
    encoder = Encoder(adds(tokenizer_of(MISTRAL_FIRST, template=False), "<s> $A </s>"))
    ids, start = encoder.running_text("The keeper", " lives there.")
    assert encoder.tokenizer.decode(ids) == "<s>The keeper lives there."
    assert encoder.tokenizer.decode(ids[start:]) == " lives there."


# --- as published ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "last"),
    [
        ("chatml", "«Here.<|im_end|>\n<|im_end|>»"),
        ("qwen-2.5", "«Here.<|im_end|>\n<|im_end|>»"),
        ("gemma", "«Here.<end_of_turn>\n<eos>»"),
        ("phi-3", "«Here.<|end|><|endoftext|>»"),
        ("llama-3", "«Here.<|eot_id|>»"),
        ("mistral, system first", "« Here.</s>»"),
    ],
)
def test_published_ends(family, last):
    """As OpenUnlearning labels them: all behind the prompt, and an end-of-sequence if it is not one already."""
    encoder = Encoder(FAMILIES[family].tokenizer(), text_format=TextFormat(published_ends=True))
    (example,) = encoder.encode_all([record(ASKED)], "forget")
    assert marked(encoder, example).endswith(last)
    assert example["closing"] == 1
    own = Encoder(FAMILIES[family].tokenizer())
    assert encoder.prompt_ids(record(ASKED)) == own.prompt_ids(record(ASKED))


def test_published_ends_are_a_setting_of_runs_and_evaluations(tmp_path):
    folder = tiny.save(tmp_path / "model")
    for asked in (True, False):
        request = EvaluationRequest(model=str(folder), published_ends=asked)
        config = UnlearningConfig(published_ends=asked, output_dir=str(tmp_path), use_cpu=True)
        for encoder in (ModelSettings.among(vars(request)).encoder(folder), encoder_for(tiny.tokenizer(), config)):
            assert encoder.format.published_ends is asked
    suite = Suite("any", {"forget": RowSet([Item(record(ASKED))])}, [])
    formats = [TextFormat(), TextFormat(published_ends=True)]
    assert len({cache_key("weights", suite, Encoder(tiny.tokenizer(), text_format=text)) for text in formats}) == 2


# --- any row ---------------------------------------------------------------------------------------------------------

FRAGMENTS = ["<|im_end|>", "<|im_start|>", "</s>", "[INST]", "[/INST]", "<think>", "</think>", "<|end|>", "<eos>"]
FRAGMENTS += [
    "<end_of_turn>",
    "\n\n",
    " ",
    "\n",
    ":)",
    ".",
    "Here.",
    "assistant\n",
    "Question: ",
    "\nAnswer: ",
    "é",
    "e\u0301",
]
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map("".join),
).filter(str.strip)
WORDS = st.lists(st.sampled_from(["Ada", "Bob", "née", "東京", "42", "🙂", "ok.", "(no)"]), min_size=1, max_size=5).map(
    " ".join
)


def conversations(texts):
    turns = st.tuples(texts, texts).map(lambda pair: [("user", pair[0]), ("assistant", pair[1])])
    system = st.one_of(st.just([]), texts.map(lambda text: [("system", text)]))
    several = st.lists(turns, min_size=1, max_size=3).map(lambda pairs: [turn for pair in pairs for turn in pair])
    return st.tuples(system, several).map(lambda parts: parts[0] + parts[1])


ENCODERS = {}


def encoder_of(name, backend):
    key = (name, backend)
    if key not in ENCODERS:
        family = FAMILIES.get(name)
        tokenizer = tokenizer_of(family or MISTRAL_FIRST, backend, template=family is not None)
        ENCODERS[key] = Encoder(tokenizer, max_length=10_000)
    return ENCODERS[key]


def squeezed(text):
    return "".join(text.replace("▁", " ").split())  # as SentencePiece writes blanks


def said_in_one_line(error):
    assert re.fullmatch("rows.jsonl, row 7: .+", str(error))
    return False


def holds(name, backend, turns):
    """Encode a row, and compare its labels with its answers; False where it is refused with its place."""
    encoder, row = encoder_of(name, backend), record(turns)
    try:
        (example,) = encoder.encode_all([row], "forget")
    except UserError as error:
        return said_in_one_line(error)
    runs = re.findall("«(.*?)»", marked(encoder, example), flags=re.DOTALL)
    end = FAMILIES[name].end if name in FAMILIES else "</s>"
    answers = [content for role, content in turns if role == "assistant"]
    assert len(runs) == len(answers)
    for number, (said, answer) in enumerate(zip(runs, answers, strict=True), start=1):
        closes = name in FAMILIES or number == len(answers)
        bare = squeezed(answer)
        while bare.endswith((end, encoder.tokenizer.eos_token)):
            bare = bare.removesuffix(end).removesuffix(encoder.tokenizer.eos_token)
        assert squeezed(said) == squeezed(bare + end * closes)
        assert squeezed(said).count(squeezed(end)) == closes
    prompt = encoder.prompt_ids(row)
    length = len(example["input_ids"]) - len(prompt)
    assert example["input_ids"][: len(prompt)] == prompt
    assert example["labels"][-length:] == example["input_ids"][-length:]
    assert example["labels"][len(prompt) - 1] == IGNORE_INDEX
    return True


@pytest.mark.parametrize("backend", [trained, metaspace])
@pytest.mark.parametrize("name", [*FAMILIES, "no template"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=conversations(TEXT))
def test_any_row_survives_or_is_refused_with_its_place(name, backend, turns):
    if not any(mark in content for _, content in turns for mark in "«»"):
        holds(name, backend, turns)


@pytest.mark.parametrize("backend", [trained, metaspace])
@pytest.mark.parametrize("name", [*FAMILIES, "no template"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=conversations(WORDS))
def test_ordinary_rows_are_never_refused(name, backend, turns):
    if name == "gemma" and turns[0][0] == "system":
        turns = turns[1:]
    assert holds(name, backend, turns)


# --- what is measured ------------------------------------------------------------------------------------------------


def knowing(encoder, rows):
    """A model that says the answers of the rows word for word, and ends them."""
    torch.manual_seed(0)
    size = len(encoder.tokenizer)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, pad_token_id=encoder.tokenizer.pad_token_id,
        eos_token_id=encoder.tokenizer.eos_token_id, bos_token_id=encoder.tokenizer.bos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    examples = encoder.encode_all(rows, "rows")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        for example in examples:
            model(**{name: torch.tensor([example[name]]) for name in ("input_ids", "labels")}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("name", ["chatml", "gemma", "phi-3"])
def test_a_model_that_knows_its_rows_is_measured_so(name):
    """It ends with the end of a turn, which is not end-of-sequence in two of the families."""
    encoder = Encoder(FAMILIES[name].tokenizer())
    rows = [record([("user", f"{n}?"), ("assistant", f"{n * 7} it is.")]) for n in range(2)]
    measures = [
        exact_answers("exact", "forget"),
        exact_memorization("memorized", "forget"),
        extraction_strength("strength", "forget"),
        probability("p", "forget"),
    ]
    suite = Suite("known", {"forget": RowSet([Item(row) for row in rows], 40)}, measures)
    found = evaluate(knowing(encoder, rows), encoder, suite)
    assert found.metrics["exact"] == 1, found.table.generations("forget")
    assert found.metrics["memorized"] == found.metrics["strength"] == 1
    assert found.metrics["p"] > 0.9
    for task in plan_tasks(suite, suite.needs(), encoder):
        text = encoder.tokenizer.decode(task.answer[: len(task.answer) - task.closing])
        assert text == task.record.answer


def test_the_text_of_a_cut_answer_is_all_of_it():
    encoder = Encoder(CHATML.tokenizer())
    (whole,) = encoder.encode_all([record(ASKED)], "forget")
    short = Encoder(CHATML.tokenizer(), max_length=len(whole["input_ids"]) - 1, allow_truncation=True)
    suite = Suite("cut", {"forget": RowSet([Item(record(ASKED))])}, [exact_memorization("memorized", "forget")])
    for used, closing in ((encoder, 1), (short, 0)):
        (entry,) = score(tiny.model(vocabulary=len(encoder.tokenizer)), used, suite).entries
        assert entry.closing == closing
        assert len(entry.logps[entry.text]) == len(entry.logps) - closing


@pytest.mark.slow
def test_a_real_model_and_its_real_template(shared, tmp_path_factory):
    """Labels are the answer and the first <|im_end|>, nothing after, and the probability of 24 rows is as published."""
    pytest.importorskip("gguf", reason="needed to build the model")
    reference = shared / "reference" / "smollm2-tofu"
    folder = tmp_path_factory.mktemp("smollm2")
    run([sys.executable, reference / "build.py", folder], check=True)
    check_real(folder / "target", reference / "rows" / "forget.jsonl", 0.949)


def check_real(folder, rows, probability_of_all):
    encoder, records = Encoder(AutoTokenizer.from_pretrained(folder)), load_records(str(rows))
    for row, example in zip(records, encoder.encode_all(records, "rows"), strict=True):
        labelled = [token for token in example["labels"] if token != IGNORE_INDEX]
        assert encoder.tokenizer.decode(labelled) == row.answer + "<|im_end|>"
        asked = [{"role": "user", "content": row.prompt}]
        prompt = encoder.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        assert encoder.prompt_ids(row) == prompt
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    suite = Suite("known", {"forget": RowSet([Item(row) for row in records[:24]])}, [probability("p", "forget")])
    assert evaluate(model, encoder, suite).metrics["p"] == pytest.approx(probability_of_all, abs=0.01)
