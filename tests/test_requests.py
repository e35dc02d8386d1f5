"""Requests to forget over time: what is adopted, what a death leaves, and that the ledger shows every change."""

import gc
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import tiny
from gru_unlearn.common.files import hash_text as sha256
from gru_unlearn.data import Encoder, collate, load_records
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.ledger import adoption, request_run
from gru_unlearn.ledger.database import Ledger
from gru_unlearn.ledger.hash_chain import BrokenLedger, canonical, first_break
from gru_unlearn.ledger.intake import add_request, retry_request, withdraw_request
from gru_unlearn.ledger.ledger_request import Limits
from gru_unlearn.ledger.ledger_setup import change_settings, create_ledger, recipe_for
from gru_unlearn.ledger.request_run import RequestRefused, run_requests
from gru_unlearn.ledger.verification import verify_ledger
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.objectives import token_logps
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.row_examples import Seen
from gru_unlearn.runs.seen_rows import SeenRow
from gru_unlearn.training import UnlearningTrainer

requests = SimpleNamespace(
    init=create_ledger,
    change=change_settings,
    add=add_request,
    retry=retry_request,
    withdraw=withdraw_request,
    run=lambda ledger, console: run_requests(ledger, console).to_json(),
    verify=verify_ledger,
    RequestRefused=RequestRefused,
)

QUIET = Console(quiet=True)
LOOSE = Limits(utility_floor=0.5, forget_ceiling=0.99)
RUN = {
    "objective": "npo",
    "rectification": "gru/element/update",
    "retain_batch_size": 12,
    "learning_rate": 5e-3,
    "max_steps": 6,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 1,
    "warmup_steps": 0,
    "save_steps": 2,
    "use_cpu": True,
}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """Memory is collected after each model: half a second each time if that looked at all that imports left behind."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny model that knows 36 rows, three forget files of three rows, and rows that must stay."""
    folder = tmp_path_factory.mktemp("world")
    tiny.save(folder / "model")
    write_rows(folder / "all.jsonl", tiny.rows(36))
    encoder = Encoder(tiny.tokenizer())
    batch = collate(encoder.encode_all(load_records(str(folder / "all.jsonl")), "all"), 0)
    model = tiny.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        logps, mask = token_logps(model, *(batch[key] for key in ("input_ids", "attention_mask", "labels")))
        (-(logps * mask).sum() / mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder / "model")
    for number in range(3):
        write_rows(folder / f"forget{number + 1}.jsonl", tiny.rows(3, start=3 * number))
    write_rows(folder / "retain.jsonl", tiny.rows(18, start=9))
    write_rows(folder / "held_out.jsonl", tiny.rows(9, start=27))
    return folder


def make_ledger(folder, world, limits=LOOSE, ask=(1, 2, 3), **changes):
    """A ledger with some requests, none of them run."""
    sources = {name: str(world / f"{name}.jsonl") for name in ("retain", "held_out")}
    requests.init(folder, RUN | sources | {"model": str(world / "model")} | changes, limits, QUIET)
    for number in ask:
        requests.add(folder, str(world / f"forget{number}.jsonl"), reason=f"letter {number}", received="2025-03-01")
    return folder


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A ledger whose three requests are done; tests that change it take a copy."""
    folder = make_ledger(tmp_path_factory.mktemp("finished") / "ledger", world)
    requests.run(folder, QUIET)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def states(folder):
    with Ledger.open(folder) as ledger:
        return [request.state for request in ledger.requests()]


def events(folder):
    with Ledger.open(folder) as ledger:
        return [entry.event for entry in ledger.entries()]


def newest(folder):
    with Ledger.open(folder) as ledger:
        return ledger.newest_model().source


# --- three requests --------------------------------------------------------------------------------------------------


def test_each_request_starts_from_the_model_that_the_last_one_left(finished, world):
    assert states(finished) == ["done"] * 3
    with Ledger.open(finished) as ledger:
        done = [entry.to_json() for entry in ledger.entries() if entry.event == "done"]
    before = hash_weights(world / "model")
    for number, entry in enumerate(done, start=1):
        folder = finished / "versions" / f"000{number}-request-{number}"
        assert entry["weights_before"] == before
        assert entry["weights_after"] == hash_weights(folder / "model") != before
        assert json.loads((folder / "summary.json").read_text())["model"]["sha256"] == before
        before = entry["weights_after"]
        assert sorted(entry["metrics"]["forget_prob"]) == [f"request-{n}" for n in range(1, number + 1)]
        assert (entry["metrics"]["retain_rows"], entry["metrics"]["held_out_rows"]) == (18, 9)
        assert entry["metrics"]["utility"] == entry["metrics"]["held_out_kept"] >= 0.5


def test_the_numbers_are_those_of_the_saved_models(finished, world):
    recipe = recipe_for(RUN | {"retain": str(world / "retain.jsonl")}, str(world / "model"), "x", finished)
    summary = json.loads((finished / "summary.json").read_text())
    told = summary["requests"][-1]
    rows = {"forget": load_records(told["source"]), "held_out": load_records(str(world / "held_out.jsonl"))}
    first = adoption.probabilities(recipe, world / "model", rows, QUIET, "")
    after = adoption.probabilities(recipe, finished / told["model"], rows, QUIET, "")
    assert told["forget_prob_first_model"] == pytest.approx(fmean(first["forget"]), abs=1e-6)
    assert told["metrics"]["forget_prob"]["request-3"] == pytest.approx(fmean(after["forget"]), abs=1e-6)
    kept = fmean(after["held_out"]) / fmean(first["held_out"])
    assert told["metrics"]["utility"] == pytest.approx(kept, abs=1e-5)
    assert told["forget_prob_first_model"] > 0.7
    assert told["metrics"]["forget_prob"]["request-3"] < 0.6
    assert summary["newest_model"]["sha256"] == hash_weights(finished / told["model"])


def test_no_forget_row_is_written_down(finished, world):
    words = [row["answer"] for row in tiny.rows(9)] + [row["question"] for row in tiny.rows(9)]
    for file in (path for path in finished.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not [word for word in words if word.encode() in content], file
    assert b"letter 1" in (finished / "ledger.sqlite").read_bytes()


def test_the_chain_can_be_recomputed_from_the_log_alone(finished, gru, monkeypatch):
    code, out, _ = gru("requests", "log", finished, "--json")
    assert code == 0
    previous = "0" * 64
    for line in out.splitlines():
        assert json.loads(line)["previous"] == previous
        previous = hashlib.sha256(line.encode()).hexdigest()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(finished.parent)
    for asked in ("log", "show"):
        lines = gru("requests", asked, finished.name)[1].splitlines()
        assert lines[-2:] == ["Head of the chain (note it elsewhere):", previous]
        assert max(len(line) for line in lines if "/" not in line) <= 80, "but for paths"
    assert "letter 1" not in out, "a reason must be erasable without breaking the chain's privacy"


def test_commands_show_where_everything_is(finished, gru):
    code, out, _ = gru("requests", "show", finished)
    assert code == 0
    assert all(f"request-{n}" in out for n in (1, 2, 3))
    assert f"{finished}/summary.json" in out
    code, out, _ = gru("requests", "show", finished, "request-2")
    assert '"reason": "letter 2"' in out
    code, out, _ = gru("requests", "verify", finished)
    assert code == 0
    assert "8 entries hold" not in out
    assert "10 entries hold" in out
    assert f"{finished}/ledger.sqlite" in out


def test_a_ledger_says_when_each_request_was_judged(finished):
    with Ledger.open(finished) as ledger:
        entries = ledger.entries()
    written = json.loads((finished / "summary.json").read_text())
    assert written["finished"] == entries[-1].time
    assert [request["finished"] for request in written["requests"]] == [
        entry.time for entry in entries if entry.event == "done"
    ]


# --- what an auditor can find ----------------------------------------------------------------------------------------


def chain_of(folder):
    with Ledger.open(folder) as ledger:
        return ledger.chain()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_found_at_its_entry(finished, data):
    chain = chain_of(finished)
    place = data.draw(st.integers(0, len(chain) - 1))
    number, entry, digest = chain[place]
    content = bytearray(entry.encode())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    chain[place] = (number, content.decode("utf-8", "surrogateescape"), digest)
    assert f"entry {place + 1} was changed" in first_break(chain)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_entry_with_a_new_hash_breaks_the_next_one(finished, data):
    chain = chain_of(finished)
    place = data.draw(st.integers(0, len(chain) - 2))
    forged = canonical(json.loads(chain[place][1]) | {"time": "2001-01-01T00:00:00+00:00"})
    chain[place] = (place + 1, forged, sha256(forged))
    assert f"entry {place + 2} does not follow" in first_break(chain)


def test_an_entry_taken_out_or_swapped_is_found(finished):
    chain = chain_of(finished)
    assert first_break(chain) is None
    assert first_break([]) == "entry 1 is missing"
    for place in range(len(chain) - 1):
        without = chain[:place] + chain[place + 1 :]
        assert first_break(without) == f"entry {place + 1} is missing"
        renumbered = [(number, *rest) for number, (_, *rest) in enumerate(without, start=1)]
        assert f"entry {place + 1} " in first_break(renumbered)
        swapped = list(chain)
        swapped[place : place + 2] = [
            (number, *chain[other - 1][1:]) for number, other in ((place + 1, place + 2), (place + 2, place + 1))
        ]
        assert f"entry {place + 1} " in first_break(swapped)


CHANGES = {
    "UPDATE chain SET entry = replace(entry, 'request-2', 'request-4') WHERE number = 7": "entry 7 was changed",
    "UPDATE chain SET entry = CAST(x'ff' AS TEXT) WHERE number = 6": "entry 6 was changed",
    "UPDATE chain SET entry = 'no json', sha256 = '{}' WHERE number = 10".format(sha256("no json")): "cannot be read",
    "DELETE FROM chain WHERE number = 4": "entry 4 is missing",
    "UPDATE requests SET state = 'pending' WHERE number = 2": "request request-2 is pending in the table, done by",
    "UPDATE requests SET attempt = 2 WHERE number = 2": "request-2",
    "UPDATE requests SET reason = 'another' WHERE number = 1": "request-1: reason_sha256 differs from entry 2",
    "UPDATE requests SET source = 'elsewhere' WHERE number = 1": "request-1: source_sha256",
    "UPDATE requests SET date = '2024-01-01' WHERE number = 3": "request-3: date",
    "UPDATE requests SET rows = 9 WHERE number = 3": "request-3: rows",
    "UPDATE requests SET data_sha256 = 'x' WHERE number = 1": "request-1: data_sha256",
    "DELETE FROM requests WHERE number = 3": "other requests than the chain",
    "DELETE FROM forget_rows WHERE request = 2": "request-2: marks_sha256",
    "UPDATE kept_rows SET probability = 0.1": "the first model's probabilities differ from entry 1",
    "UPDATE settings SET content = replace(content, '0.99', '0.98')": "the settings of entry 1 were changed",
    "DROP TABLE kept_rows": "cannot be read as a ledger",
}


@pytest.mark.parametrize("statement", CHANGES)
def test_a_change_in_any_table_is_named_with_exit_code_1(copy, gru, statement):
    with sqlite3.connect(copy / "ledger.sqlite") as connection:
        connection.execute(statement)
    connection.close()
    code, _, err = gru("requests", "verify", copy)
    assert (code, err.count("\n")) == (1, 1), err
    assert CHANGES[statement] in err
    code, _, err = gru("requests", "run", copy)
    assert code == 1, "nothing runs on a ledger that does not hold"


def test_models_on_disk_are_checked_against_the_chain(copy, gru):
    first = copy / "versions" / "0001-request-1" / "model"
    shutil.rmtree(first)
    code, out, _ = gru("requests", "verify", copy)
    assert (code, "the model of request-1 is not on disk any more: not checked" in out) == (0, True)
    last = copy / "versions" / "0003-request-3" / "model" / "model.safetensors"
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    code, _, err = gru("requests", "verify", copy)
    assert (code, "entry 10: the model of request-3 on disk is not the one" in err) == (1, True)
    shutil.rmtree(last.parent)
    code, _, err = gru("requests", "verify", copy)
    assert (code, "the newest, is not on disk" in err) == (1, True)


def test_an_end_cut_off_shows_only_against_a_hash_noted_elsewhere(copy, gru):
    noted, earlier = chain_of(copy)[-1][2], chain_of(copy)[5][2]
    code, out, _ = gru("requests", "verify", copy, "--head", earlier)
    assert (code, "that of entry 6; 4 entries came after it" in out) == (0, True)
    with sqlite3.connect(copy / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM chain WHERE number >= 9")
        connection.execute("UPDATE requests SET state = 'pending' WHERE number = 3")
    connection.close()
    assert gru("requests", "verify", copy)[0] == 0
    code, _, err = gru("requests", "verify", copy, "--head", noted)
    assert (code, "no entry has the noted hash" in err) == (1, True)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_result_below_the_utility_floor_is_not_adopted_and_stops_the_queue(world, tmp_path, gru):
    ledger = make_ledger(tmp_path / "ledger", world, Limits(utility_floor=1.0, forget_ceiling=0.95), ask=(1, 2))
    code, _, err = gru("requests", "run", ledger)
    assert (code, err.count("\n")) == (5, 1)
    assert "request request-1 refused: utility 0." in err
    assert f"gru requests retry {ledger} request-1" in err
    assert states(ledger) == ["refused", "pending"]
    assert newest(ledger) == str(world / "model")
    code, _, err = gru("requests", "change", ledger, "--utility-floor", "0.5")
    assert code == 0, err
    assert gru("requests", "retry", ledger, "request-1")[0] == 0
    code, _, err = gru("requests", "run", ledger)
    assert code == 0, err
    assert states(ledger) == ["done", "done"]
    assert {path.name for path in (ledger / "versions").iterdir()} == {
        "0001-request-1",
        "0001-request-1-attempt-2",
        "0002-request-2",
    }
    assert gru("requests", "verify", ledger)[0] == 0


def test_a_result_that_did_not_forget_or_brings_back_is_not_adopted(world, tmp_path, monkeypatch):
    ledger = make_ledger(tmp_path / "ledger", world, LOOSE, ask=(1, 2), learning_rate=1e-9)
    with pytest.raises(requests.RequestRefused, match=r"forget probability 0\.\d+ of request-1 is above the ceiling"):
        requests.run(ledger, QUIET)
    requests.change(ledger, {"learning_rate": 5e-3}, {}, QUIET)
    requests.retry(ledger, "request-1")
    honest = adoption.look

    def relapse(recipe, model, sets, console, title, **more):
        found = honest(recipe, model, sets, console, title, **more)
        both = {"forget request-1", "forget request-2"} <= set(sets)
        come_back = {"forget request-1": [0.99] * 3} if both else {}
        return found._replace(probabilities=found.probabilities | come_back)

    monkeypatch.setattr(adoption, "look", relapse)
    with pytest.raises(requests.RequestRefused, match=r"refused: forget probability 0\.990 of request-1"):
        requests.run(ledger, QUIET)
    assert states(ledger) == ["done", "refused"]


def test_a_run_that_diverges_failed_and_later_requests_wait(world, tmp_path, gru):
    wild = {"objective": "ga", "learning_rate": 1e30, "optim": "sgd", "max_grad_norm": 0}
    ledger = make_ledger(tmp_path / "ledger", world, ask=(1, 2), **wild)
    code, _, err = gru("requests", "run", ledger)
    assert (code, "not finite" in err) == (3, True)
    assert states(ledger) == ["failed", "pending"]
    assert events(ledger)[-1] == "failed"
    assert gru("requests", "withdraw", ledger, "request-1", "--reason", "settled [/by letter]")[0] == 0
    assert states(ledger) == ["withdrawn", "pending"]
    assert gru("requests", "verify", ledger)[0] == 0
    code, out, err = gru("requests", "show", ledger)
    assert (code, "request-1 withdrawn: settled [/by letter]" in out) == (0, True), err


# --- data ------------------------------------------------------------------------------------------------------------


def test_rows_leave_the_sets_to_keep_however_they_are_written(world, tmp_path, monkeypatch):
    rows = tiny.rows(20, start=3)
    rows[0]["answer"] += " "
    write_rows(tmp_path / "retain.jsonl", rows)
    other = tiny.rows(3, start=3)
    other[1]["answer"] += "\r\n"
    write_rows(tmp_path / "forget.jsonl", other)
    ledger = make_ledger(tmp_path / "ledger", world, ask=(), retain=str(tmp_path / "retain.jsonl"))
    _, remarks = requests.add(ledger, str(tmp_path / "forget.jsonl"))
    assert remarks == ["3 rows are in the retain set too: runs leave them out of it from now on."]
    write_rows(tmp_path / "again.jsonl", tiny.rows(3, start=3))
    with pytest.raises(UserError, match="all 3 rows were requested before"):
        requests.add(ledger, str(tmp_path / "again.jsonl"))


def test_rows_of_all_requests_so_far_leave_the_sets_to_keep(world, tmp_path, monkeypatch):
    write_rows(tmp_path / "retain.jsonl", tiny.rows(20, start=3))  # holds forget2, forget3, and a part of retain
    write_rows(tmp_path / "forget1.jsonl", tiny.rows(3))
    ledger = make_ledger(tmp_path / "ledger", world, ask=(), retain=str(tmp_path / "retain.jsonl"))
    remarks = [requests.add(ledger, str(path))[1] for path in (tmp_path / "forget1.jsonl", world / "forget2.jsonl")]
    assert remarks == [[], ["3 rows are in the retain set too: runs leave them out of it from now on."]]
    seen = []
    honest = request_run.unlearn

    def spy(prepared, console):
        seen.append({record.answer for record in prepared.sets["retain"]})
        assert len(prepared.examples["retain"]) == len(prepared.sets["retain"])
        return honest(prepared, console)

    monkeypatch.setattr(request_run, "unlearn", spy)
    requests.run(ledger, QUIET)
    forget2 = {row["answer"] for row in tiny.rows(3, start=3)}
    assert forget2 <= seen[0], "request 1 does not name them"
    assert not forget2 & seen[1]
    (tmp_path / "forget1.jsonl").unlink()
    requests.add(ledger, str(world / "forget3.jsonl"))
    summary = requests.run(ledger, QUIET)
    assert not forget2 & seen[2]
    assert summary["requests"][2]["metrics"]["not_checked"] == {"request-1": "its data are gone"}
    assert summary["requests"][2]["metrics"]["retain_rows"] == 20 - 6
    run = json.loads((ledger / "versions" / "0003-request-3" / "summary.json").read_text())
    told = {name: run["data"]["retain"][name] for name in ("rows", "sha256")}
    assert told == summary["requests"][2]["rows_used"]["retain"], "the hash is that of the rows that were used"
    assert "request-2" in summary["requests"][2]["metrics"]["forget_prob"]


def test_a_request_tried_again_keeps_no_row_of_those_done_after_it(world, tmp_path, monkeypatch):
    """Else it would hold on to rows that the model has just forgotten."""
    retain = write_rows(tmp_path / "retain.jsonl", tiny.rows(20, start=3))  # holds forget2
    ledger = make_ledger(tmp_path / "ledger", world, ask=(1, 2), retain=str(retain))
    honest, seen = request_run.judge, []

    def refuse_the_first(ledger, request, *rest):
        metrics, broken = honest(ledger, request, *rest)
        seen.append((request.version, metrics.retain_rows))
        return metrics, ["disliked"] if len(seen) == 1 else broken

    monkeypatch.setattr(request_run, "judge", refuse_the_first)
    with pytest.raises(requests.RequestRefused, match="disliked"):
        requests.run(ledger, QUIET)
    requests.run(ledger, QUIET)
    requests.retry(ledger, "request-1")
    again = requests.run(ledger, QUIET)["requests"][0]
    assert seen == [("0001-request-1", 20), ("0002-request-2", 17), ("0001-request-1-attempt-2", 17)]
    assert again["rows_used"]["retain"]["rows"] == 17


def test_a_large_ledger_opens_at_once(finished, copy):
    with sqlite3.connect(copy / "ledger.sqlite") as connection:
        for table, columns in (("forget_rows", "?, ?"), ("kept_rows", "?, ?, 0.5")):
            connection.executemany(f"INSERT INTO {table} VALUES ({columns})", [(9, str(n)) for n in range(20_000)])
    connection.close()
    started = time.monotonic()
    assert len(states(copy)) == 3
    assert time.monotonic() - started < 5


def test_changed_data_do_not_run(world, tmp_path, gru):
    source = write_rows(tmp_path / "forget.jsonl", tiny.rows(3))
    ledger = make_ledger(tmp_path / "ledger", world, ask=())
    assert gru("requests", "add", ledger, "--forget", source)[0] == 0
    write_rows(source, tiny.rows(4))
    code, _, err = gru("requests", "run", ledger)
    assert (code, "is not what was added (its hash differs)" in err) == (2, True)
    assert states(ledger) == ["pending"]
    write_rows(source, tiny.rows(3))
    assert gru("requests", "run", ledger)[0] == 0


def test_it_goes_on_without_the_first_model_and_without_deleted_rows(world, tmp_path):
    first = shutil.copytree(world / "model", tmp_path / "first")
    retain = write_rows(tmp_path / "retain.jsonl", tiny.rows(18, start=9))
    ledger = make_ledger(tmp_path / "ledger", world, ask=(1, 2), model=str(first), retain=str(retain))
    requests.withdraw(ledger, "request-2", "")
    requests.run(ledger, QUIET)
    shutil.rmtree(first)
    write_rows(retain, tiny.rows(14, start=9))
    requests.add(ledger, str(world / "forget2.jsonl"))
    told = requests.run(ledger, QUIET)["requests"][2]
    assert (told["state"], told["forget_prob_first_model"]) == ("done", None)
    assert told["metrics"]["retain_rows"] == told["rows_used"]["retain"]["rows"] == 14
    assert "the first model is not on disk any more: not checked" in requests.verify(ledger)
    with pytest.raises(UserError, match="no such folder"):
        requests.change(ledger, {"retain": str(world / "retain.jsonl")}, {}, QUIET)


def test_adapters_become_whole_models(world, tmp_path):
    ledger = make_ledger(tmp_path / "ledger", world, Limits(0.01, 1.0), ask=(1, 2), use_peft=True, lora_r=4)
    requests.run(ledger, QUIET)
    assert newest(ledger).endswith("0002-request-2/whole")
    assert (ledger / "versions" / "0002-request-2" / "model" / "adapter_config.json").is_file()
    second = json.loads((ledger / "versions" / "0002-request-2" / "summary.json").read_text())
    assert second["model"]["sha256"] == hash_weights(ledger / "versions" / "0001-request-1" / "whole")
    assert len(requests.verify(ledger)) == 4


def test_settings_that_would_do_nothing_are_refused_but_those_that_stood_there_stay(world, tmp_path):
    with pytest.raises(UserError, match="--stop-at-forget-prob needs evaluations along the run"):
        make_ledger(tmp_path / "refused", world, ask=(), stop_at_forget_prob=0.1)
    assert not (tmp_path / "refused").exists()
    evaluated = {"stop_at_forget_prob": 0.1, "eval_strategy": "steps", "eval_steps": 2}
    ledger = make_ledger(tmp_path / "ledger", world, ask=(), **evaluated)
    with pytest.raises(UserError, match="--stop-at-forget-prob needs evaluations"):
        requests.change(ledger, {"eval_strategy": "no"}, {}, QUIET)
    with pytest.raises(UserError, match="--lora-r needs adapters"):
        requests.change(ledger, {"lora_r": 4}, {}, QUIET)
    with Ledger.open(ledger) as opened:  # as an earlier version let it in
        before = opened.settings()
        opened.change(before.model_copy(update={"unlearning": before.unlearning | {"lora_r": 4}}), {})
    requests.change(ledger, {"learning_rate": 1e-3}, {}, QUIET)
    requests.add(ledger, str(world / "forget1.jsonl"), reason="letter", received="2025-03-01")


# --- deaths ----------------------------------------------------------------------------------------------------------


class Death(BaseException):
    """Stands for a process that is gone."""


def die(monkeypatch, owner, name, *, after=False, when=lambda *a: True):
    """The next call of a function that meets ``when`` ends the process, before or after its work."""
    honest = getattr(owner, name)

    def deadly(*args, **kwargs):
        if not when(*args):
            return honest(*args, **kwargs)
        monkeypatch.setattr(owner, name, honest)
        if after:
            honest(*args, **kwargs)
        raise Death

    monkeypatch.setattr(owner, name, deadly)


def event_is(event):
    return lambda _, *args: args[0] == event


DEATHS = {
    "before the request starts": (Ledger, "move", False, event_is("started")),
    "inside the transaction that starts it": (Ledger, "_append", False, event_is("started")),
    "after the request started": (Ledger, "move", True, event_is("started")),
    "while training": (UnlearningTrainer, "training_step", False, lambda self, *_: self.state.global_step == 3),
    "after training": (request_run, "unlearn", True, lambda *_: True),
    "before judging": (request_run, "judge", False, lambda *_: True),
    "after judging": (request_run, "judge", True, lambda *_: True),
    "inside the transaction that ends it": (Ledger, "_append", False, event_is("done")),
    "after the request is done": (Ledger, "move", True, event_is("done")),
    "before the summary": (LedgerSummary, "write", False, lambda *_: True),
}


@pytest.mark.parametrize("point", DEATHS)
def test_a_run_that_dies_goes_on_to_the_same_weights(world, finished, tmp_path, monkeypatch, point):
    ledger = make_ledger(tmp_path / "ledger", world, ask=(1,))
    owner, name, after, when = DEATHS[point]
    die(monkeypatch, owner, name, after=after, when=when)
    with pytest.raises(Death):
        requests.run(ledger, QUIET)
    requests.verify(ledger)
    summary = requests.run(ledger, QUIET)
    assert [told["state"] for told in summary["requests"]] == ["done"]
    assert events(ledger) == ["created", "added", "started", "done"], "every transition exactly once"
    assert hash_weights(ledger / "versions/0001-request-1/model") == hash_weights(
        finished / "versions/0001-request-1/model"
    )
    assert len(requests.verify(ledger)) == 3
    assert json.loads((ledger / "summary.json").read_text()) == summary


def test_a_request_that_died_can_be_retried_with_other_settings(world, tmp_path, monkeypatch):
    ledger = make_ledger(tmp_path / "ledger", world, ask=(1,))
    die(monkeypatch, request_run, "unlearn")
    with pytest.raises(Death):
        requests.run(ledger, QUIET)
    with pytest.raises(UserError, match="request request-1 is running: finish it"):
        requests.change(ledger, {"max_steps": 4}, {}, QUIET)
    assert requests.retry(ledger, "request-1").version == "0001-request-1-attempt-2"
    requests.change(ledger, {"max_steps": 4}, {}, QUIET)
    requests.run(ledger, QUIET)
    assert json.loads((ledger / "versions/0001-request-1-attempt-2/summary.json").read_text())["steps"] == 4


@pytest.mark.slow
def test_a_process_killed_in_the_middle_goes_on(world, finished, tmp_path):
    ledger = make_ledger(tmp_path / "ledger", world, ask=(1, 2))
    command = [sys.executable, "-m", "gru_unlearn.cli.main", "requests", "run", str(ledger)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 120
    while not list(ledger.glob("versions/0001-*/checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    again = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert f"{ledger}/summary.json" in again.stdout
    assert states(ledger) == ["done", "done"]
    assert hash_weights(ledger / "versions/0002-request-2/model") == hash_weights(
        finished / "versions/0002-request-2/model"
    )
    requests.verify(ledger)


def test_a_second_run_is_refused_and_requests_still_come_in(world, tmp_path, gru):
    ledger = make_ledger(tmp_path / "ledger", world, ask=(1,))
    with FileLock(ledger / ".lock"):
        for command in (["run"], ["change", "--utility-floor", "0.5"]):
            code, _, err = gru("requests", command[0], ledger, *command[1:])
            assert (code, "is in use by another process" in err) == (2, True)
        assert gru("requests", "add", ledger, "--forget", world / "forget2.jsonl")[0] == 0
    assert states(ledger) == ["pending", "pending"]


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(world, tmp_path_factory):
    return make_ledger(tmp_path_factory.mktemp("asked") / "ledger", world, ask=(1,))


BAD_INPUT = {
    "no ledger": (["run", "{world}"], "holds no ledger: gru requests init"),
    "folder in use": (
        ["init", "{world}", "--retain", "a/x", "--model", "a/y"],
        "is not empty: a ledger needs a new folder",
    ),
    "flag before the folder": (["init", "--retain", "a/x", "{new}"], "the folder of the ledger comes first"),
    "no retain": (["init", "{new}", "--model", "{world}/model"], "no retain set given: pass --retain"),
    "no model": (["init", "{new}", "--retain", "{world}/retain.jsonl"], "no model given"),
    "forget for all": (["init", "{new}", "--retain", "a/x", "--forget", "a/y"], "forget is not a setting of a ledger"),
    "rows to report": (
        ["init", "{new}", "--retain", "a/x", "--report-examples", "3"],
        "report_examples is not a setting",
    ),
    "unknown setting": (
        ["init", "{new}", "--retain", "a/x", "--model", "a/y", "--learning-rte", "1"],
        "did you mean 'learning_rate'",
    ),
    "floor above one": (
        ["init", "{new}", "--retain", "a/x", "--utility-floor", "1.5"],
        "--utility-floor must be above 0 and at most 1, got 1.5",
    ),
    "no such model": (["init", "{new}", "--retain", "a/x", "--model", "{world}/no"], "no: no such folder"),
    "overlap of kept sets": (
        [
            *("init", "{new}", "--model", "{world}/model", "--use-cpu"),
            *("--retain", "{world}/retain.jsonl"),
            *("--held-out", "{world}/retain.jsonl"),
        ],
        "18 held-out rows are also in the retain set",
    ),
    "nothing to change": (["change", "{asked}"], "nothing to change"),
    "another model": (["change", "{asked}", "--model", "a/x"], "the first model of a ledger cannot be changed"),
    "no such rows": (["add", "{asked}", "--forget", "{world}/no.jsonl"], "no such file"),
    "rows again": (
        ["add", "{asked}", "--forget", "{world}/forget1.jsonl"],
        "all 3 rows were requested before (request request-1), nothing was added",
    ),
    "id taken": (
        ["add", "{asked}", "--forget", "{world}/forget2.jsonl", "--id", "request-1"],
        "request 'request-1' is in the ledger already: choose another --id",
    ),
    "id a path": (["add", "{asked}", "--forget", "a/x", "--id", "../up"], "--id '../up': use at most 64 letters"),
    "no date": (["add", "{asked}", "--forget", "a/x", "--date", "1 March"], "--date 1 March: expected a day such as"),
    "rows too long": (
        ["add", "{asked}", "--forget", "{world}/long.jsonl"],
        "forget: in 1 of 1 rows the answer is cut by max length 512",
    ),
    "unknown request": (["retry", "{asked}", "7"], "no request '7' in the ledger; there are: request-1"),
    "retry of a pending one": (
        ["retry", "{asked}", "request-1"],
        "request request-1 is pending: it can be retried only when running or refused or failed",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_changes_nothing(gru, world, asked, tmp_path, case):
    write_rows(world / "long.jsonl", [{"question": "where is Ada ?", "answer": "red " * 600}])
    words, message = BAD_INPUT[case]
    words = [word.format(world=world, asked=asked, new=tmp_path / "new") for word in words]
    before = chain_of(asked)
    code, out, err = gru("requests", *words)
    assert (code, err.count("\n")) == (2, 1), (out, err)
    assert message in err
    assert chain_of(asked) == before
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_judged_is_an_error(finished, world):
    recipe = recipe_for(RUN | {"retain": "x"}, str(world / "model"), "x", finished)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adoption, "see_rows", lambda *a, **k: {"forget": [SeenRow(Seen(probability=None))]})
        with pytest.raises(NonFiniteError, match="not a finite number"):
            adoption.probabilities(recipe, world / "model", {"forget": []}, QUIET, "")
    with pytest.raises(BrokenLedger, match="no entry has the noted hash"):
        requests.verify(finished, "0" * 64)
