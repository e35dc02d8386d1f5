"""What README.md and docs/*.md tell people to type, open and import is there."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

from gru_unlearn.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
WRITTEN = ("runs/", "docs/_build/")  # made by commands, so not there before
FOLDERS = ("docs", "benchmarks", "recipes", "tests", "src")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page, *languages):
    """Fenced blocks in these languages, and at which line each begins."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL):
        if found[2] in languages:
            yield text.count("\n", 0, found.start()) + 1, found[3]


def shell_lines(page):
    """Commands of shell blocks, one a line, without prompts and comments."""
    for number, block in blocks(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line.strip().removeprefix("$ "), comments=True):
                yield number, words


def prose(page):
    """The page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def gru_commands(page):
    """Arguments of every ``gru`` command in blocks and in the text; what stands for something (...) is left out."""
    for number, words in shell_lines(page):
        start = next((place for place, word in enumerate(words) if word in ("gru", "gru_unlearn")), None)
        if start is not None:
            yield number, [word for word in words[start + 1 :] if word != "..."]
    for found in re.finditer(r"`gru ([a-z-][^`]*)`", prose(page)):
        yield 0, [word for word in shlex.split(found[1]) if word not in ("...", "…")]


@cache
def group():
    return app, app.make_context("gru", [], resilient_parsing=True)


def complaints(words):
    """What the command line has to say about these arguments before anything runs."""
    command, context = group()
    words = [without_brackets(word) for word in words if word not in ("--debug", "--version", "--help")]
    while words and hasattr(command, "commands"):
        name, *words = words
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
        if hasattr(command, "commands"):
            context = command.make_context(name, [], parent=context, resilient_parsing=True)
    if hasattr(command, "commands"):
        return None
    if words and takes_value(command, words[-1]):  # named in passing, without its value
        words.append("1")
    try:
        command.make_context("command", words, parent=context)
    except Exception as error:  # the library's own usage errors, and ours
        return str(error) or type(error).__name__
    return None


def without_brackets(word):
    """``[--out`` and ``FILE]`` are an optional flag; ``rows.jsonl[:80]`` is a slice."""
    opened = word.removeprefix("[")
    return opened if "[" in opened else opened.removesuffix("]")


def takes_value(command, flag):
    return any(flag in parameter.opts and not parameter.is_flag for parameter in command.params if flag[:2] == "--")


@every_page
def test_commands_parse(page):
    wrong = [(number, words, why) for number, words in gru_commands(page) if (why := complaints(words))]
    assert not wrong


def test_a_command_that_does_not_exist_is_found():
    assert "no command" in complaints(["unlern"])
    assert complaints(["plan", "--gpus", "8"]) is None
    assert complaints(["plan", "[--gpus", "8]"]) is None
    assert complaints(["plan", "--gpu", "8"])
    assert complaints(["plan", "--gpus", "many"])
    assert complaints(["unlearn", "recipe.yaml", "--save-steps", "100"]) is None
    assert "save_stepz" in complaints(["unlearn", "recipe.yaml", "--save-stepz", "100"])


@every_page
def test_scripts_are_there_and_know_their_flags(page):
    for number, words in shell_lines(page):
        for place, word in enumerate(words):
            if word.endswith(".py") and words[max(0, place - 1)].startswith("python"):
                assert (ROOT / word).is_file(), f"line {number}: {word}"
                source = (ROOT / word).read_text(encoding="utf-8")
                missing = [flag for flag in words[place:] if flag.startswith("--") and f'"{flag}"' not in source]
                assert not missing, f"line {number}: {word}"


def slugs(page):
    """Anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in slugs(file), target


@cache
def sources():
    return [str(path) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]


@every_page
def test_files_that_are_named_exist(page):
    words = re.findall(r"`([^`\s]+)`", prose(page)) + [word for _, words in shell_lines(page) for word in words]
    named = [word for word in words if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]+", word)]
    assert not [word for word in named if not word.startswith(WRITTEN) and not (ROOT / word).exists()]
    modules = [word for word in words if re.fullmatch(r"[\w/]+\.py", word)]
    assert not [word for word in modules if not any(path.endswith(f"/{word}") for path in sources())]


@every_page
def test_python_compiles_and_imports_what_exists(page):
    from importlib import import_module  # noqa: PLC0415

    for number, code in blocks(page, "python"):
        tree = ast.parse(code, f"{page.name}, line {number}")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gru_unlearn"):
                module = import_module(node.module)
                assert not [name.name for name in node.names if not hasattr(module, name.name)], node.module


@every_page
def test_yaml_is_yaml(page):
    for number, text in blocks(page, "yaml", "yml"):
        assert yaml.safe_load(text) is not None, number


def test_every_page_is_in_the_contents():
    """Each page stands in a table of contents, so that the site has no page that nobody finds."""
    listed = set()
    for page in PAGES:
        for found in re.finditer(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            names = [line for line in found[1].splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert listed == set(PAGES) - {ROOT / "README.md", ROOT / "docs" / "index.md"}
