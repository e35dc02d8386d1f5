"""What a terminal of 80 columns shows: bars with their numbers, lists in groups, a plan in words, names explained."""

import io
import json
import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import tiny
from gru_unlearn.attacks import probing
from gru_unlearn.attacks.attack_tables import attack_table
from gru_unlearn.attacks.membership import AUC
from gru_unlearn.benchmark.metric_index import FILE, FURTHER_NAMES, explain_metric
from gru_unlearn.cli.flags import show_results
from gru_unlearn.comparison.comparison_tables import BEFORE_THE_MARK, SAVED_MODELS
from gru_unlearn.comparison.cost_tables import cost_table, grid_table
from gru_unlearn.comparison.demo_tables import LINES
from gru_unlearn.errors import UserError
from gru_unlearn.ledger.hash_chain import CHANGED, EVENTS, ChainEntry, canonical
from gru_unlearn.ledger.ledger_setup import differences
from gru_unlearn.ledger.ledger_tables import chain_table, models_tables, requests_table
from gru_unlearn.objectives import OBJECTIVES
from gru_unlearn.planning.plan_job import plan
from gru_unlearn.planning.plan_request import PlanRequest
from gru_unlearn.planning.plan_tables import advice
from gru_unlearn.publishing.reports import explanations
from gru_unlearn.reporting import progress, remarks
from gru_unlearn.reporting.prose import say
from gru_unlearn.reporting.staying import TOLD_APART
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.comparison_summary import Frontier, MethodResult
from gru_unlearn.results.cost_kinds import COSTS
from gru_unlearn.results.ledger_summary import Judgement, LedgerSettings, LedgerSummary, RequestSummary
from gru_unlearn.results.model_metrics import AlphaPoint
from gru_unlearn.results.provenance import ModelSource
from gru_unlearn.results.row_kinds import KEPT, ROW_KINDS
from gru_unlearn.results.run_summary import TruMethod, TruResults, TruSummary
from gru_unlearn.runs.recipe import make_recipe, setting_names
from gru_unlearn.runs.run_learning_rate import with_own_rate
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.run_tables import short_line
from gru_unlearn.runs.training_progress import _told

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

EARLIER = Path(__file__).with_name("earlier")

FAST = [
    "--max-steps", "6", "--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1",
    "--learning-rate", "5e-3", "--warmup-steps", "0", "--use-cpu",
]  # fmt: skip


def screen(columns):
    return Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None, legacy_windows=False)


def drawn(bars, columns):
    """The bars as lines of text."""
    console = screen(columns)
    for part in bars.get_renderables():
        console.print(part)
    return console.file.getvalue().splitlines()


@settings(max_examples=60, deadline=None)
@given(
    title=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z", "M")), min_size=1, max_size=90),
    done=st.integers(0, 99_999),
    more=st.integers(0, 99_999),
    note=st.text("loss 0.·", max_size=200),
    columns=st.integers(80, 200),
)
def test_step_total_and_time_left_are_always_there(title, done, more, note, columns):
    bars = progress.Bars(screen(columns))
    bars.add_task("x" + title, total=done + more, completed=done, note=note)
    lines = drawn(bars, columns)
    assert all(cell_len(line) <= columns for line in lines)
    assert f"{done}/{done + more}" in lines[0]
    assert "left" in lines[0]
    assert ":" in lines[0]
    assert len(lines) == 1 + bool(note)


def test_a_bar_that_ended_early_is_full():
    bars = progress.Bars(screen(80))
    task = bars.add_task("npo · gru", total=100, completed=0, note="")
    bars.update(task, completed=17)
    bars.end_early(task)
    assert "17/17" in drawn(bars, 80)[0]
    assert bars.tasks[0].finished


def test_without_a_terminal_a_line_comes_now_and_then_with_the_time_left(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), width=80)
    bars = progress.Bars(console)
    bars.get_time = lambda: clock[0]
    bars._progress_started = None
    for task in (bars.add_task("npo · gru", total=100, note="", unit="step "),):
        for step in range(1, 31):
            clock[0] += 10
            bars.update(task, completed=step)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 10, "one in 30 seconds"
    assert lines[0].startswith("npo · gru · step 3/100 · 0:")
    assert all(line.endswith(" left") for line in lines)


@pytest.fixture
def world(tmp_path):
    return tiny.save_world(tmp_path)


def inputs(world):
    flags = {"model": world / "model", "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"}
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def test_a_run_through_a_pipe_tells_steps_and_stops_where_enough_is_forgotten(gru, world):
    given = [*inputs(world), *FAST, "--max-steps", "60", "--eval-strategy", "steps", "--eval-steps", "2"]
    code, out, err = gru("unlearn", *given, "--stop-at-forget-prob", "0.008", "--output-dir", world / "run")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "gru unlearn: loading libraries ..."
    assert any(" · step 2/60 · 0:" in line and " left · " in line for line in lines)
    steps = json.loads((world / "run/summary.json").read_text())["steps"]
    stopped = f"Stopped after {steps} of 60 steps: the forget probability is 0.00"
    assert any(line.startswith(stopped) and line.endswith("at or below the goal of 0.008.") for line in lines)
    places = {"Results": "summary.json", "Model": "model", "Report": "report.html"}
    assert lines[-3:] == [f"{what}: {world}/run/{file}" for what, file in places.items()]


def test_a_terminal_breaks_between_words_and_a_pipe_gets_one_line():
    sentence = "enough is forgotten " * 10
    for terminal in (True, False):
        console = Console(width=80, force_terminal=terminal, record=True)
        say(console, sentence)
        lines = console.export_text().splitlines()
        assert (len(lines) > 1) is terminal
        assert " ".join(" ".join(lines).split()) == sentence.strip()


@pytest.mark.parametrize(("goal", "says"), [(None, None), (0.4, None), (0.1, "No α up to 4 got to 0.100")])
def test_task_vectors_that_are_too_short_are_told(goal, says):
    points = [AlphaPoint(alpha=0.0, forget_prob=0.9), AlphaPoint(alpha=4.0, forget_prob=0.3)]
    last = TruMethod(alpha=4.0, forget_prob=0.3)
    results = TruResults(forget_target=goal, tru=last, negated=last)
    told = short_line(TruSummary.model_construct(results=results, trajectory={"tru": points, "negated": points}))
    assert told is None if says is None else told.startswith(says)


def test_a_probability_that_is_tiny_is_no_zero():
    assert _told("forget prob {}", 2e-5) == "forget prob 2e-05"
    assert _told("forget prob {}", 0.25) == "forget prob 0.250"
    assert _told("conflicts {:.0%}", 0.25) == "conflicts 25%"


def test_a_name_of_several_words_needs_no_quotes(gru):
    code, out, _ = gru("evaluate", "--explain", "retention", "at", "matched", "forgetting")
    assert (code, out.splitlines()[0]) == (0, "rmf")
    assert "go with --curve" in gru("evaluate", "runs/a", "--model", "builtin:target", "--suite", "builtin")[2]


def test_places_have_lines_of_their_own(capsys):
    show_results(Console(width=80), Path("runs/a-comparison-of-three-objectives"), model="model", per_row="rows.json")
    assert max(map(len, capsys.readouterr().out.splitlines())) < 80


def test_settings_are_listed_in_groups_with_ours_first_and_by_a_word(gru, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = gru("unlearn", "--list-settings")
    titles = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert code == 0
    assert titles[:2] == ["Models, rows and folders", "Method"]
    assert out.index("  objective [npo]") < out.index("  adam_beta1 [0.9]")
    assert max(map(len, out.splitlines())) <= 80
    code, few, _ = gru("unlearn", "--list-settings", "lora")
    assert [line for line in few.splitlines() if line.startswith("  lora_")]
    assert len(few.splitlines()) < 30
    code, _, err = gru("unlearn", "--list-settings", "elephants")
    assert (code, err) == (2, "gru: no setting has 'elephants' in its name or help: --list-settings alone shows all\n")


def test_the_defaults_that_are_listed_are_what_the_bare_command_takes(gru, tmp_path, monkeypatch):
    """Each is the number of a run with nothing set, or said to be the run's own choice."""
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = gru("unlearn", "--list-settings")
    assert {"  learning_rate [auto]", "  rectification [recommended]", "  max_steps [150]"} <= set(out.splitlines())
    assert "With a number, and in Python: " in " ".join(out.split())
    shown = dict(re.findall(r"^  (\w+) \[(.*)\]$", out, re.MULTILINE))
    world = tiny.save_world(tmp_path / "world")
    places = {name: str(world / f"{name}.jsonl") for name in ("forget", "retain")}
    recipe = make_recipe(with_own_rate({"model": str(world / "model"), "output_dir": str(world / "out"), **places},
                                       goes_on=False))  # fmt: skip
    taken = prepare(recipe).recipe
    of_machine = {"dataloader_pin_memory", "disable_tqdm", "do_eval", "remove_unused_columns", "dtype", "output_dir",
                  "report_to"}  # fmt: skip
    for name in setting_names():
        if name in of_machine or shown.get(name) == "chosen by the run":
            continue
        resolved = f"resolved_{name}" if name.startswith("stop_") else name
        value = getattr(taken, name, None)
        if value is None:
            value = getattr(taken.config, resolved, getattr(taken.config, name, None))
        if name in shown:
            assert str(getattr(value, "value", value)) == shown[name].replace("\\n", "\n"), name


def test_help_cuts_no_summary(gru, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], ["requests"]):
        _, out, _ = gru(*command, "--help")
        summaries = " ".join(out.partition("Commands:")[2].split())
        assert "before and after, and what was done with what." in summaries or "each request on the model" in summaries
        assert not [line for line in out.splitlines()[1:] if line.endswith("...")]


def completed(line, shell="bash"):
    """What a shell would offer behind the last word."""
    words = line.split(" ")
    asked = {"_GRU_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "gru_unlearn"], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    return [offer.partition(",")[2] for offer in done.stdout.splitlines()]


def test_shells_complete_commands_flags_and_names(gru):
    assert completed("gru unl") == ["unlearn"]
    assert "--retain-model" in completed("gru unlearn --retain")
    assert completed("gru compare --objective sim") == ["simnpo"]
    assert "--load-best-model-at-end" not in completed("gru unlearn --lo"), "what is refused is not offered"
    for shell in ("bash", "zsh", "fish"):
        code, out, _ = gru("--completion", shell)
        assert (code, "_GRU_COMPLETE" in out) == (0, True)


TABLES = ["RMF", "f*", "f\\*", "held-out RMF", "RMF held-out", "forget quality", "utility", "extraction", "verbmem"]


@pytest.mark.parametrize("name", [*TABLES, *FURTHER_NAMES, *(f"{kind.label} prob" for kind in ROW_KINDS)])
def test_metrics_are_explained_by_any_name_that_they_have_here(name):
    told = explain_metric(name)
    assert "range" in told


def test_the_names_that_stand_in_files_are_explained_too():
    known = explanations()
    for key in [*known, *(kind.rmf for kind in KEPT), "forget_target", "conflict_rate", "surviving_share"]:
        assert explain_metric(key).startswith(known[key].key)


def test_what_metrics_mean_is_written_down_as_it_is():
    from known_metrics import as_text, known_metrics  # noqa: PLC0415

    assert FILE.read_text() == as_text(known_metrics()), "python tools/known_metrics.py writes it anew"
    assert f'"benchmark/{FILE.name}"' in (DOCS.parent / "pyproject.toml").read_text(), "it is part of the package"


def column_heads():
    """Of tables of attacks, comparisons, ledgers, the demonstration, runs, evaluations; and a verdict's remarks."""
    row = MethodResult.model_construct(
        objective="npo", rectification="gru", learning_rate=1e-4, runs=1, reached=1, chosen=True, failed=0
    )
    frontier = Frontier(kept="rmf_held_out", cost="rows", methods=[], points=[], ranges={})
    tables = [
        attack_table(AttackSummary.model_construct(attacks=[], before=[], left_out=[], rows=1, base=ModelSource())),
        requests_table(LEDGER),
        *models_tables(LEDGER),
        cost_table("npo", [row], frontier),
        grid_table("npo", [row], frontier),
    ]
    heads = {str(column.header) for column in chain.from_iterable(table.columns for table in tables)}
    heads |= {*SAVED_MODELS.values(), *BEFORE_THE_MARK.values(), *LINES.values(), *(cost.label for cost in COSTS)}
    heads |= {"minus none", "minus", "wins", "reached", "lr", "s/step", "GPU MB", "peak MB", "area", "frontier"}
    heads |= {value for name, value in vars(remarks).items() if name.isupper()}
    heads |= {probing.PROBABILITY, probing.ROUGE, probing.FOUND, AUC, TOLD_APART, "without any attack"}
    heads |= {"metric", "value", "95 % interval", "recovered", "relearning cost", "off by", "kept", "row passes"}
    return sorted(heads - {"", *(request.id for request in LEDGER.requests)})


LONG = "a-request-of-a-person-with-a-long-name-"

LEDGER = LedgerSummary.model_construct(
    requests=[
        RequestSummary.model_construct(
            number=number, id=f"{LONG}{number}", date="2025-03-31", rows=12345, state="withdrawn", why="",
            forget_prob_before=1.234e-5, verdict=None,
            metrics=Judgement(
                forget_prob={f"{LONG}{former}": 1.234e-5 for former in range(number + 1)}, not_checked={},
                held_out_kept=0.123, held_out_prob=0.123, retain_kept=0.123, retain_prob=0.123, utility=0.123,
            ),
        )
        for number in range(7)
    ],
    newest_model=ModelSource(),
)  # fmt: skip


def test_every_head_of_a_table_and_every_remark_of_a_verdict_is_explained():
    heads = column_heads()
    assert len(heads) > 40
    unknown = []
    for head in heads:
        try:
            explain_metric(head)
        except UserError:
            unknown.append(head)
    assert not unknown


def test_metrics_are_explained_without_anything_heavy():
    code = (
        "import sys\nfrom gru_unlearn.cli.main import main\nsys.argv = ['gru', *sys.argv[1:]]\ntry:\n main()\nfinally:"
    )
    code += "\n print(sorted({'torch', 'numpy', 'scipy', 'transformers'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "--explain", "%", "brought", "back"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("brought back\n")
    assert done.stdout.endswith("[]\n")


def test_a_ledgers_tables_fit_80_columns_and_cut_nothing():
    console = Console(file=io.StringIO(), width=80, record=True)
    for table in (requests_table(LEDGER), *models_tables(LEDGER)):
        console.print(table)
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert text.count(" 1e-05") == 7 + 7 + 28, "before and after of each, and the triangle of all models"


HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
IDS = st.text("abcdefghij-._0123456789", min_size=1, max_size=80)


@given(chain=st.lists(st.tuples(st.sampled_from([CHANGED, *EVENTS]), IDS, HASHES, HASHES, HASHES, HASHES), min_size=1))
@settings(max_examples=30, deadline=None)
def test_a_ledgers_chain_fits_80_columns_and_cuts_nothing(chain):
    links = []
    for number, (event, name, data, before, after, digest) in enumerate(chain, start=1):
        entry = ChainEntry.model_construct(
            entry=number, previous=digest, time="2025-03-31T12:34:56+00:00", event=event, settings_sha256=digest,
            versions={}, id=name, data_sha256=data, weights_before=before, weights_after=after,
        )  # fmt: skip
        links.append((number, canonical(entry.to_json()), digest))
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(chain_table(links))
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    for _, _, *hashes in chain:
        assert all(digest[:8] in text for digest in hashes), "hashes stand in one piece, to be compared"


@pytest.mark.parametrize("memory", ["16GiB", "24GiB", "40GiB", "48GiB", "80GiB"])
def test_the_plan_that_is_taken_stands_in_the_table(memory):
    summary = plan(PlanRequest(model="llama-1b", gpus=8, gpu_memory=memory))
    rows = [planned.setup for planned in summary.setups]
    assert summary.smallest in rows
    assert len({str(setup) for setup in rows}) == len(rows)
    assert summary.setups[rows.index(summary.smallest)].fits
    assert re.search(r"^Take: .*: [0-9.]+ GiB\.$", advice(summary)[0])


def test_the_page_on_why_counts_the_objectives_that_there_are():
    (told,) = re.findall(r"^\| objectives \|[^|]*\| (\d+):", (DOCS / "why.md").read_text(), re.MULTILINE)
    assert int(told) == len(OBJECTIVES)


def test_a_plan_in_words(gru, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = gru("plan", "--model", "llama-8b")
    assert code == 0
    table, _, told = out.partition("mixed: ")
    assert "what is trained" in table
    assert "LoRA on 4-bit weights" in table
    assert max(map(len, table.splitlines())) <= 80
    assert "Take: LoRA adapters, bfloat16, on 1 device: 35.2 GiB." in told
    assert "It is the first that fits in 72 of a device's 80 GiB" in told
    code, out, _ = gru("plan", "--model", "llama-8b", "--parts")
    assert (code, "activ." in out) == (0, True)


def test_a_change_of_a_ledgers_settings_says_what_changed():
    before = LedgerSettings(unlearning={"learning_rate": 1e-5, "model": "m"}, utility_floor=0.9, forget_ceiling=0.5)
    after = LedgerSettings(
        unlearning={"learning_rate": 2e-5, "model": "m", "objective": "ga"}, utility_floor=0.8, forget_ceiling=0.5
    )
    assert differences(before, after) == [
        "learning_rate: 1e-05 → 2e-05, from the next request on",
        "objective: its default → ga, from the next request on",
        "utility_floor: 0.9 → 0.8, from the next request on",
    ]
    assert differences(after, after) == ["Nothing changed: all of it was so before."]
