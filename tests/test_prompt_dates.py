"""A template that asks for today's date gets a fixed one, so that a run and whoever comes later see one prompt."""

import pytest

import tiny
from gru_unlearn.data import TextFormat
from gru_unlearn.data.records import Turn
from gru_unlearn.data.rendering import renderer

ASKS_FOR_TODAY = (
    "\n{{- 'Today: ' ~ strftime_now('%d %B %Y') ~ strftime_now(\"%Y\") }}"
    "{%- for m in messages %}{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (TextFormat().chat_template_kwargs, "Today: 26 July 20242024x"),
        ({"date_string": "01 Jan 2020"}, "Today: 01 January 20202020x"),
        ({}, "Today: 26 July 20242024x"),
    ],
)
def test_today_is_a_fixed_day(arguments, expected):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = ASKS_FOR_TODAY
    assert renderer(tokenizer, TextFormat(chat_template_kwargs=arguments))([Turn("user", "x")]) == expected


def test_nothing_else_of_the_template_changes():
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = (
        "\n\nA{% for m in messages %}{{ m.content }}{% endfor %}{% if 0 %}{{ strftime_now('%d') }}{% endif %}"
    )
    as_it_is = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert renderer(tokenizer, TextFormat())([Turn("user", "x")]) == as_it_is
