"""Chat templates of real families, written from their documentation, on a byte-level tokenizer made here."""

from dataclasses import dataclass
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Much like Llama 3's and Qwen's: a full stop and the line breaks behind it may become one token."""

TEXTS = [
    "Where is the red house? It is in Port Aldine.\n\nWho lives there?\n\nThe keeper lives there.\n\n\n",
    "assistant\n\nsystem\n\nuser\n\nYou are a helpful assistant.\n\nHere it is :) Be brief.\n\n    four blanks\n",
]


@dataclass(frozen=True)
class Family:
    """How a family's models are asked, and how they end what they say."""

    template: str
    end: str
    eos: str
    specials: tuple[str, ...]
    bos: str | None = None
    eats_blanks: bool = False
    """its special tokens take the blanks behind them along"""

    def tokenizer(self):
        return made(self)


@cache
def trained():
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS * 3, trainer)
    return backend.to_str()


@cache
def metaspace():
    """Like SentencePiece: a blank before the first word, none of its own before others."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fallback = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=fallback, show_progress=False)
    backend.train_from_iterator([" ".join(TEXTS).replace("\n", " ")], trainer)
    return backend.to_str()


def made(family, backend=trained, template=True):
    tokens = [AddedToken(token, special=True, rstrip=family.eats_blanks) for token in family.specials]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(backend()))
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.eos_token = tokenizer.pad_token = family.eos
    tokenizer.bos_token = family.bos
    tokenizer.chat_template = family.template if template else None
    return tokenizer


def adds(tokenizer, text):
    """The tokenizer, putting special tokens around each text, such as ``<s> $A </s>``."""
    named = [(token, tokenizer.convert_tokens_to_ids(token)) for token in text.split() if token != "$A"]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=text, special_tokens=named)
    return tokenizer


LLAMA_3 = Family(
    """{{- bos_token }}
{%- set system = '' %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' }}
{{- 'Today Date: ' + (date_string if date_string is defined else strftime_now('%d %b %Y')) + '\n\n' }}
{{- system + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}""",
    end="<|eot_id|>",
    eos="<|eot_id|>",
    specials=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    bos="<|begin_of_text|>",
)

CHATML_TURNS = """{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

CHATML = Family(CHATML_TURNS, end="<|im_end|>", eos="<|im_end|>", specials=IM)


def chatml_with(system):
    return Family(
        "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\n" + system + "<|im_end|>\n' }}{%- endif %}"
        "\n" + CHATML_TURNS,
        end="<|im_end|>",
        eos="<|im_end|>",
        specials=IM,
    )


SMOLLM_2 = chatml_with("You are a helpful AI assistant named SmolLM, trained by Hugging Face")
QWEN_25 = chatml_with("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")

QWEN_3 = Family(
    """{%- set last = namespace(user=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set last.user = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role != 'assistant' %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- else %}
        {%- set said, thought = message.content, '' %}
        {%- if '</think>' in said %}
            {%- set thought = said.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set said = said.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > last.user and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + said.lstrip('\n') }}
        {%- else %}
            {{- said }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}""",
    end="<|im_end|>",
    eos="<|im_end|>",
    specials=IM,
)

MISTRAL_HEAD = """{{- bos_token }}
{%- set system = '' %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] + '\n\n' %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant') }}
    {%- endif %}
"""

MISTRAL_TAIL = """
    {%- else %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}"""

MISTRAL_TOKENS = ("<s>", "</s>", "[INST]", "[/INST]")

MISTRAL_FIRST = Family(
    MISTRAL_HEAD
    + """{%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"""
    + MISTRAL_TAIL,
    end="</s>",
    eos="</s>",
    specials=MISTRAL_TOKENS,
    bos="<s>",
)

MISTRAL_LAST = Family(
    MISTRAL_HEAD
    + """{%- if message['role'] == 'user' %}
        {%- set is_last = messages[loop.index0:] | selectattr('role', 'equalto', 'user') | list | length == 1 %}
        {{- '[INST] ' + (system if is_last else '') + message['content'] + '[/INST]' }}"""
    + MISTRAL_TAIL,
    end="</s>",
    eos="</s>",
    specials=MISTRAL_TOKENS,
    bos="<s>",
)

GEMMA = Family(
    """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}""",
    end="<end_of_turn>",
    eos="<eos>",
    specials=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    bos="<bos>",
)

PHI_3 = Family(
    """{%- for message in messages %}
    {{- '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- else %}{{- eos_token }}{%- endif %}""",
    end="<|end|>",
    eos="<|endoftext|>",
    specials=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
    eats_blanks=True,
)

R1_TOKENS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")

DEEPSEEK_R1 = Family(
    """{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}{{- message['content'] }}
    {%- elif message['role'] == 'user' %}{{- '<｜User｜>' + message['content'] }}
    {%- else %}
        {%- set content = message['content'] %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
        {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\n' }}{%- endif %}""",
    end=R1_TOKENS[1],
    eos=R1_TOKENS[1],
    specials=R1_TOKENS,
    bos=R1_TOKENS[0],
)

GPT_OSS = Family(
    """{%- for message in messages %}
    {%- if message.role != 'assistant' %}
        {{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}
    {%- else %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + message.content }}
        {{- '<|return|>' if loop.last else '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}""",
    end="<|return|>",
    eos="<|return|>",
    specials=("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>", "<|endoftext|>"),
)

FAMILIES = {
    "llama-3": LLAMA_3,
    "chatml": CHATML,
    "smollm-2": SMOLLM_2,
    "qwen-2.5": QWEN_25,
    "qwen-3": QWEN_3,
    "mistral, system first": MISTRAL_FIRST,
    "mistral, system last": MISTRAL_LAST,
    "gemma": GEMMA,
    "phi-3": PHI_3,
    "deepseek-r1": DEEPSEEK_R1,
}
