"""The shape of a Python source tree, read from its syntax: ``python tools/shape.py [FOLDER] [--files] [--check]``.

Counts stand per 1000 code lines; a code line holds code, so neither blank lines nor comments nor docstrings. Nothing of
the tree is imported or run. ``--files`` adds the files with the densest lines, ``--check`` ends with 1 where a limit of
:data:`LIMITS` is broken.
"""

import argparse
import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

LIMITS = {
    "nested comprehensions": 2,
    "conditional expressions": 15,
    "dictionaries of anything": 3,
    "median body": 8,
    "90th percentile of bodies": 20,
    "import circles": 0,
    "file names that stand twice": 0,
}
"""Figure → the most that ``--check`` accepts."""

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MAPPINGS = {"dict", "Mapping", "MutableMapping", "Dict"}
ANYTHING = {"Any", "object"}
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Module:
    """One file: its dotted name, syntax tree, and which of its lines hold code or a comment."""

    name: str
    path: Path
    tree: ast.Module
    lines: list[str]
    code: set[int]
    comments: set[int]


def read_module(path: Path, root: Path) -> Module:
    """Parse one file; ``root`` is the folder that holds the top-level package."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in SILENT:
            code.update(range(token.start[0], token.end[0] + 1))
    for docstring in docstrings(tree):
        code.difference_update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    return Module(name, path, tree, text.splitlines(), code, comments - code)


def docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    """Statements that are nothing but a string: docstrings, and those below constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


# --- what is counted -------------------------------------------------------------------------------------------------


def is_nested(node: ast.AST) -> bool:
    """Whether a comprehension has more than one ``for``, or another comprehension inside it."""
    inner = [part for part in ast.walk(node) if isinstance(part, COMPREHENSIONS) and part is not node]
    return bool(inner) or len(getattr(node, "generators", ())) > 1


def is_dictionary_of_anything(node: ast.AST) -> bool:
    """``dict[str, Any]``, ``Mapping[str, object]`` and the like."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2):
        return False
    names = [part.id if isinstance(part, ast.Name) else "" for part in (node.value, *node.slice.elts)]
    return names[0] in MAPPINGS and names[1] == "str" and names[2] in ANYTHING


def body_lines(module: Module) -> Iterator[int]:
    """Code lines in the body of each function, docstring and signature left out."""
    for node in ast.walk(module.tree):
        if isinstance(node, FUNCTIONS):
            body = range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
            yield len(module.code.intersection(body))


def top_level_names(module: Module) -> Iterator[str]:
    """Functions, classes and constants that a module defines."""
    for node in module.tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def reads_summary(node: ast.AST) -> bool:
    """``summary["…"]``."""
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "summary"


# --- imports ---------------------------------------------------------------------------------------------------------


def imported(module: Module, known: set[str]) -> set[str]:
    """The modules of the tree that a file imports, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if inner in known else node.module)
    return (found & known) - {module.name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that import each other, directly or around corners."""
    reached = {name: reachable(graph, name) for name in graph}
    groups = set()
    for name in graph:
        group = [other for other in reached[name] if name in reached[other]]
        if group:
            groups.add(tuple(sorted({name, *group})))
    return [list(group) for group in sorted(groups)]


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """All that can be reached from a file by its imports, itself only through a circle."""
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


# --- the figures -----------------------------------------------------------------------------------------------------


def figures(modules: list[Module]) -> dict[str, float]:
    """Name → value; see the module's docstring for the unit."""
    nodes = [node for module in modules for node in ast.walk(module.tree)]
    code = sum(len(module.code) for module in modules)
    letters = sum(len(module.lines[line - 1].strip()) for module in modules for line in module.code)
    bodies = [length for module in modules for length in body_lines(module)]
    known = {module.name for module in modules}
    graph = {module.name: imported(module, known) for module in modules}
    comprehensions = [node for node in nodes if isinstance(node, COMPREHENSIONS)]
    by_thousand = 1000 / code
    return {
        "files": len(modules),
        "lines": sum(len(module.lines) for module in modules),
        "code lines": code,
        "comprehensions": len(comprehensions) * by_thousand,
        "nested comprehensions": sum(map(is_nested, comprehensions)) * by_thousand,
        "conditional expressions": sum(isinstance(node, ast.IfExp) for node in nodes) * by_thousand,
        "dictionaries of anything": sum(map(is_dictionary_of_anything, nodes)) * by_thousand,
        "characters in a code line": letters / code,
        "comment lines in 100 code lines": 100 * sum(len(module.comments) for module in modules) / code,
        "functions": len(bodies),
        "median body": median(bodies),
        "90th percentile of bodies": quantiles(bodies, n=10)[-1],
        "import circles": len(circles(graph)),
        "file names that stand twice": len(twice(file_names(modules))),
        "names defined in two or more files": len(twice(defined_names(modules))),
        'reads of summary["…"]': sum(map(reads_summary, nodes)),
    }


def file_names(modules: list[Module]) -> dict[str, list[str]]:
    """File name → where it stands; a package's own files are called alike by the language."""
    places = defaultdict(list)
    for module in modules:
        if not module.path.stem.startswith("__"):
            places[module.path.name].append(module.name)
    return places


def defined_names(modules: list[Module]) -> dict[str, list[str]]:
    """Top-level name → the modules that define it."""
    places = defaultdict(list)
    for module in modules:
        for name in set(top_level_names(module)):
            places[name].append(module.name)
    return places


def twice(places: dict[str, list[str]]) -> dict[str, list[str]]:
    """Those that stand in more than one place."""
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def densest(modules: list[Module]) -> list[tuple[str, Counter[str]]]:
    """Files with the most of what makes lines dense."""
    found = []
    for module in modules:
        counts: Counter[str] = Counter(lines=len(module.lines))
        for node in ast.walk(module.tree):
            counts["nested"] += isinstance(node, COMPREHENSIONS) and is_nested(node)
            counts["conditional"] += isinstance(node, ast.IfExp)
            counts["dict"] += is_dictionary_of_anything(node)
        counts["longest body"] = max(body_lines(module), default=0)
        found.append((module.name, counts))
    return sorted(found, key=lambda pair: -(3 * pair[1]["nested"] + pair[1]["conditional"] + pair[1]["dict"]))


def main() -> int:
    """Print the figures; 1 where ``--check`` finds a limit broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("src"), help="holds the top-level package")
    parser.add_argument("--files", action="store_true", help="list the densest files, circles and doubled names")
    parser.add_argument("--check", action="store_true", help="end with 1 where a limit is broken")
    arguments = parser.parse_args()
    modules = [read_module(path, arguments.folder) for path in sorted(arguments.folder.rglob("*.py"))]
    found = figures(modules)
    for name, value in found.items():
        limit = f"   (at most {LIMITS[name]})" if name in LIMITS else ""
        print(f"{value:10.1f}  {name}{limit}" if value % 1 else f"{value:8.0f}    {name}{limit}")
    if arguments.files:
        tell_more(modules)
    broken = [name for name, most in LIMITS.items() if found[name] > most]
    if arguments.check and broken:
        print(f"Too much: {', '.join(broken)}", file=sys.stderr)
        return 1
    return 0


def tell_more(modules: list[Module]) -> None:
    """The files and names behind the figures."""
    for name, counts in densest(modules)[:40]:
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        print(f"{name}: {told}")
    known = {module.name for module in modules}
    for circle in circles({module.name: imported(module, known) for module in modules}):
        print(f"circle: {' → '.join(circle)}")
    for name, where in twice(file_names(modules)).items():
        print(f"file name {name}: {', '.join(where)}")
    for name, where in twice(defined_names(modules)).items():
        print(f"name {name}: {', '.join(where)}")


if __name__ == "__main__":
    sys.exit(main())
