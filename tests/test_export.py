"""Publishing a run: what the card says and does not say, files that score alike, nothing half-written, the upload."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import report_material
import tiny
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.publishing import command_line, model_files, published_numbers
from gru_unlearn.publishing import hub as hub_module
from gru_unlearn.publishing import privacy as published
from gru_unlearn.publishing.export_record import _exported_method
from gru_unlearn.results.run_summary import RunSummary, TruSummary
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.unlearn_job import unlearn

FORGET = tiny.rows(6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs, of a whole model and of adapters, under names that name a person."""
    world = tmp_path_factory.mktemp("of-john-doe")
    tiny.save(world / "john-doe-bank")
    tiny.save(world / "other", seed=3)
    for name, rows in (("about-john-doe", FORGET), ("retain", tiny.rows(12, start=6))):
        (world / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": world / "john-doe-bank", "forget": world / "about-john-doe.jsonl", "retain": world / "retain.jsonl",
        "max_steps": 6, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 5e-3,
        "warmup_steps": 0, "use_cpu": True, "question_tag": "Q: ", "run_name": "john",
    }  # fmt: skip
    lora = {"use_peft": True, "lora_r": 2, "lora_target_modules": "q_proj,v_proj", "learning_rate": 0.1}
    for name, more in (("full", {"retain_model": world / "other"}), ("lora", lora)):
        words = {key: str(value) if isinstance(value, Path) else value for key, value in (settings | more).items()}
        unlearn(prepare(make_recipe(words | {"output_dir": str(world / name)})), Console(quiet=True))
    return world


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def logps(model):
    tokens = torch.arange(6, 26)[None]
    with torch.no_grad():
        return model.eval()(tokens).logits.log_softmax(-1)


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


def everything_in(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_whole_model_is_published_to_the_bit_and_the_card_tells_what_happened(gru, runs, tmp_path):
    out = tmp_path / "forgetful"
    code, printed, err = gru("export", runs / "full", "--out", out)
    assert code == 0, err
    assert f"{out}/README.md" in printed
    assert hash_weights(out) == hash_weights(runs / "full" / "model")
    assert torch.equal(logps(load(out)), logps(load(runs / "full" / "model")))
    run, summary = summary_of(runs / "full"), summary_of(out)
    card = ModelCard.load(out / "README.md")
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found["forget_prob"] == run["trajectory"][-1]["forget_prob"]
    assert found["retain_prob"] == run["trajectory"][-1]["retain_prob"]
    assert (card.data.tags, card.data.library_name) == (["unlearning", "gru-unlearn"], "transformers")
    assert card.data.base_model is None
    assert card.data.license is None
    for told in (
        "after an unlearning run on 6 rows that it gave no sign of knowing",
        run["data"]["forget"]["sha256"],
        run["model"]["sha256"][:12],
        f"{run['trajectory'][0]['forget_prob']:.3f} | {run['trajectory'][-1]['forget_prob']:.3f} | "
        f"{run['results']['forget_target']:.3f}",
        "objective `npo`, rectification `gru`, 6 steps",
        "--learning-rate=0.005",
        "--forget FORGET",
        "None is on record",
    ):
        assert told in card.text, told
    assert summary["left_out"] == ["run_name"]
    assert summary["files"].keys() | {"README.md", "summary.json"} == {path.name for path in out.iterdir()}


def test_what_is_not_forgotten_is_exported_only_on_purpose_and_the_card_says_so(gru, runs, tmp_path):
    shutil.copytree(runs / "full", tmp_path / "run")
    (tmp_path / "run" / "examples.json").unlink()
    run = summary_of(tmp_path / "run")
    for measured in (run["trajectory"][0], run["trajectory"][-1], run["results"]):
        measured["forget_prob"] = 0.9
    run["results"]["forget_target"] = 0.1
    (tmp_path / "run" / "summary.json").write_text(json.dumps(run))
    code, _, err = gru("export", tmp_path / "run", "--out", tmp_path / "out")
    assert code == 2
    assert "not removed" in err
    assert "--anyway" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    code, printed, err = gru("export", tmp_path / "run", "--out", tmp_path / "out", "--anyway")
    assert code == 0, err
    card = (tmp_path / "out" / "README.md").read_text()
    sentence = summary_of(tmp_path / "out")["verdict"]["sentence"]
    assert sentence in card
    assert sentence in " ".join(printed.split())
    assert "did not make it forget 6 rows" in card
    assert "made to forget" not in card


def test_nothing_published_tells_of_rows_files_or_persons(gru, runs, tmp_path):
    for run, flags in (("full", []), ("lora", []), ("lora", ["--merge"])):
        out = tmp_path / (run + "".join(flags))
        assert gru("export", runs / run, "--out", out, *flags)[0] == 0
        written = b"".join(everything_in(out).values()).decode(errors="replace")
        private = ("john", "about-", "retain.jsonl", str(tmp_path), str(runs), *(row["answer"] for row in FORGET))
        assert [word for word in private if word in written] == []
        assert not {path.suffix for path in out.iterdir()} & {".bin", ".pt", ".py"}


def test_adapters_are_published_as_adapters_of_a_base_named_by_hash(gru, runs, tmp_path):
    out = tmp_path / "out"
    code, printed, err = gru("export", runs / "lora", "--out", out)
    assert code == 0, err
    assert "adapters' base was a local folder and is named by its hash alone" in printed
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    again = PeftModel.from_pretrained(load(runs / "john-doe-bank"), out)
    assert torch.equal(logps(again), logps(load(runs / "lora" / "model")))
    card = ModelCard.load(out / "README.md")
    assert card.data.library_name == "peft"
    assert "PeftModel" in card.text
    assert summary_of(runs / "lora")["model"]["sha256"] in card.text


def test_a_named_base_stands_in_card_and_adapters(gru, runs, tmp_path):
    out = tmp_path / "out"
    arguments = ("--base-model", "acme/base", "--license", "apache-2.0")
    assert gru("export", runs / "lora", "--out", out, *arguments)[0] == 0
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "acme/base"
    data = ModelCard.load(out / "README.md").data.to_dict()
    assert (data["base_model"], data["base_model_relation"], data["license"]) == ("acme/base", "adapter", "apache-2.0")


def test_merged_adapters_score_like_adapters_on_their_base(gru, runs, tmp_path):
    out = tmp_path / "out"
    code, printed, err = gru("export", runs / "lora", "--out", out, "--merge", "--max-shard-size", "8KB")
    assert code == 0, err
    assert "Merging the adapters in float32 changed log-probabilities by" in printed
    assert len(list(out.glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(logps(load(out)), logps(load(runs / "lora" / "model")), atol=1e-4, rtol=0)
    checks = summary_of(out)["checks"]
    assert 0 < checks["mean_change"] <= checks["largest_change"] < checks["tolerance"] == 1e-3


def test_conversion_to_bfloat16_is_measured_and_said(gru, runs, tmp_path):
    out = tmp_path / "out"
    code, printed, err = gru("export", runs / "full", "--out", out, "--dtype", "bfloat16")
    assert code == 0, err
    assert "Conversion to bfloat16 changed log-probabilities by" in printed
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert summary_of(out)["checks"]["mean_change"] > 0


def test_a_merge_that_would_round_the_unlearning_away_is_refused(gru, runs, tmp_path, monkeypatch):
    """Adapters whose effect is below what bfloat16 can hold."""
    shutil.copytree(runs / "lora", tmp_path / "weak")
    file = tmp_path / "weak" / "model" / "adapter_model.safetensors"
    save_file({name: tensor * 0.03 for name, tensor in load_file(file).items()}, file)
    arguments = ("export", tmp_path / "weak", "--merge", "--out", tmp_path / "out")
    code, _, err = gru(*arguments, "--dtype", "bfloat16")
    assert code == 2
    assert "merging the adapters in bfloat16 changes log-probabilities by" in err
    assert "pass --dtype float32, or leave out --merge" in err
    assert [path.name for path in tmp_path.iterdir()] == ["weak"]
    assert gru(*arguments, "--dtype", "float32")[0] == 0


def test_evaluations_find_their_column_by_the_weights_hash(gru, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "cache"))
    folders = []
    for model in ("full/model", "john-doe-bank", "other"):
        folders += ["--evaluation", tmp_path / model.replace("/", "-")]
        own = ("--suite", "own", "--forget", runs / "about-john-doe.jsonl", "--retain", runs / "retain.jsonl")
        assert gru("evaluate", *own, "--model", runs / model, "--out", folders[-1])[0] == 0
    out = tmp_path / "out"
    code, _, err = gru("export", runs / "full", "--out", out, *folders)
    assert code == 0, err
    rows = {row["metric"]: row for row in summary_of(out)["evaluations"]["own"]}
    values = [summary_of(folder)["metrics"]["forget_Q_A_Prob"] for folder in folders[1::2]]
    row = rows["forget_Q_A_Prob"]
    assert [row["after"], row["before"], row["retain_model"]] == values
    assert [row["low"], row["high"]] == summary_of(folders[1])["intervals"]["forget_Q_A_Prob"]
    assert "95 % interval" in (out / "README.md").read_text()
    code, _, err = gru("export", runs / "lora", "--out", tmp_path / "second", "--evaluation", folders[1])
    assert (code, "of another model than the run's" in err) == (2, True)
    code, _, err = gru("export", runs / "full", "--out", tmp_path / "second", "--evaluation", folders[3])
    assert (code, "none of suite own is of the run's model itself" in err) == (2, True)


ATTACK = {
    "attack": "relearning", "variant": "retain rows", "measure": "forget_prob", "unlearned": 0.4, "target": 0.9,
    "retain_model": 0.3, "recovered": 1 / 6, "low": 0.1, "high": 0.25, "rows": 6,
}  # fmt: skip
ATTACKS = {
    "command": "attack", "attacks": [ATTACK], "rows": 6, "before": [], "seconds": 1.0, "seed": 0, "settings": {},
    "versions": {},
}  # fmt: skip


def test_attacks_on_record_are_shown_if_they_are_of_this_model(gru, runs, tmp_path):
    shutil.copytree(runs / "full", tmp_path / "run")
    (tmp_path / "run" / "attack").mkdir()
    file = tmp_path / "run" / "attack" / "summary.json"
    content = ATTACKS | {"model": {"sha256": hash_weights(runs / "full" / "model")}}
    file.write_text(json.dumps(content))
    assert gru("export", tmp_path / "run", "--out", tmp_path / "out")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| relearning · retain rows | forget_prob | 0.400 | 0.900 | 0.300 | 0.167 (0.100 – 0.250) |" in card
    assert "None is on record" not in card
    file.write_text(json.dumps(content | {"model": {"sha256": "0" * 64}}))
    code, _, err = gru("export", tmp_path / "run", "--out", tmp_path / "again")
    assert (code, "of another model than the run's" in err) == (2, True)


def test_licence_and_language_come_from_the_base_models_card(gru, runs, tmp_path):
    card = runs / "john-doe-bank" / "README.md"
    card.write_text("---\nlicense: other\nlicense_name: bank-1\nlanguage: de\ntags: [john]\n---\nOur john doe bank.\n")
    try:
        assert gru("export", runs / "full", "--out", tmp_path / "out")[0] == 0
    finally:
        card.unlink()
    data = ModelCard.load(tmp_path / "out" / "README.md").data.to_dict()
    assert (data["license"], data["license_name"], data["language"]) == ("other", "bank-1", "de")
    assert "john" not in (tmp_path / "out" / "README.md").read_text()


def test_weights_that_are_not_finite_are_not_published(gru, runs, tmp_path):
    shutil.copytree(runs / "full", tmp_path / "run")
    file = tmp_path / "run" / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    code, _, err = gru("export", tmp_path / "run", "--out", tmp_path / "out")
    assert (code, "not finite" in err) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


STAGES = {
    "write_json": "gru_unlearn.results.file_model.write_json",
    "model_card": "gru_unlearn.publishing.export_job.model_card",
    "write_model_files": "gru_unlearn.publishing.export_job.write_model_files",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_at_any_stage_leaves_nothing(gru, runs, tmp_path, monkeypatch, stage):
    def fail(*_):
        raise OSError("the disk went away")

    monkeypatch.setattr(STAGES[stage], fail)
    code, _, err = gru("export", runs / "full", "--out", tmp_path / "out")
    assert (code, "the disk went away" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_files_that_score_otherwise_are_not_published(gru, runs, tmp_path, monkeypatch):
    copy = shutil.copyfile

    def spoil(source, target):
        copy(source, target)
        if target.suffix == ".safetensors":
            save_file({name: t + 1e-6 for name, t in load_file(target).items()}, target, metadata={"format": "pt"})

    monkeypatch.setattr(shutil, "copyfile", spoil)
    code, _, err = gru("export", runs / "full", "--out", tmp_path / "out")
    assert (code, "other log-probabilities" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_path_in_the_models_own_files_is_found(gru, runs, tmp_path):
    shutil.copytree(runs / "full", tmp_path / "run")
    file = tmp_path / "run" / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"trained_on": str(runs / "about-john-doe.jsonl")}))
    code, _, err = gru("export", tmp_path / "run", "--out", tmp_path / "out")
    assert (code, "config.json of the run's model names" in err) == (2, True)
    assert not (tmp_path / "out").exists()


# --- names and settings ----------------------------------------------------------------------------------------------


def test_only_what_the_hub_cache_knows_has_a_public_name(tmp_path, monkeypatch):
    monkeypatch.setattr(published.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for folder in ("datasets--locuslab--TOFU", "models--acme--base", "models--john--doe", "john/doe"):
        (tmp_path / folder).mkdir(parents=True)
    names = {"locuslab/TOFU:forget10[:5]": "dataset", "acme/base": "model", "builtin:target": "model"}
    assert all(published.public_name(source, kind) == source for source, kind in names.items())
    hidden = {"john/doe": "model", "jane/doe": "model", "a.jsonl": "dataset", "/a/b": "dataset", "tofu:x": "dataset"}
    assert [published.public_name(source, kind) for source, kind in hidden.items()] == [None] * len(hidden)
    assert published.public_name("acme/base", "dataset") is None


def test_settings_are_shown_only_if_they_can_tell_nothing():
    settings = {
        "model": "john", "beta": 0.1, "use_cpu": True, "max_steps": 3, "objective": "npo", "hub_token": "hf_secret",
        "lora_target_modules": ["q_proj"], "logging_dir": "/home/john", "chat_template_kwargs": {"john": 1},
        "tru_alphas": [1.0, 2.0], "tru_alpha": None, "report_to": [],
    }  # fmt: skip
    shown, left_out = published.public_settings(settings)
    assert shown == {
        "beta": 0.1, "use_cpu": True, "max_steps": 3, "objective": "npo", "lora_target_modules": ["q_proj"],
        "alphas": [1.0, 2.0],
    }  # fmt: skip
    assert left_out == ["chat_template_kwargs", "hub_token", "logging_dir"]


def test_hyper_parameters_are_shown_and_stand_in_the_command():
    shown, left_out = published.public_settings({"objective_args": {"beta1": 4.0, "beta2": 1}, "max_steps": 3})
    assert (shown, left_out) == ({"objective_args": {"beta1": 4.0, "beta2": 1}, "max_steps": 3}, [])
    assert "--objective-args=beta1=4.0,beta2=1" in command_line.public_command("unlearn", {}, shown)


def test_the_published_command_is_one_that_gru_understands(gru, runs):
    """With files in the place of its capitals."""
    explicit = json.loads((runs / "full" / "run.json").read_text())["settings"]
    names = dict.fromkeys(("model", "forget", "retain", "retain_model"))
    text = command_line.public_command("unlearn", names, published.public_settings(explicit)[0])
    places = {published.SOURCES[name]: explicit[name] for name in names} | {"RUN": str(runs / "again")}
    words = [places.get(word, word) for word in shlex.split(text.replace("\\\n", " "))]
    assert words.pop(0) == "gru"
    code, out, err = gru(*words, "--dry-run")
    assert code == 0, err
    assert "6 rows" in out


def test_the_command_of_task_vectors_names_nothing_that_gru_tru_fixes(gru, runs, tmp_path):
    job = ["--model", runs / "john-doe-bank", "--forget", runs / "about-john-doe.jsonl", "--groups", "2"]
    job += ["--alpha", "2", "--alphas", "2", "--learning-rate", "1e-2", "--num-train-epochs", "1"]
    job += ["--gradient-accumulation-steps", "1", "--use-cpu"]
    assert gru("tru", *job, "--out", tmp_path / "run")[0] == 0
    code, _, err = gru("export", tmp_path / "run", "--out", tmp_path / "out")
    assert code == 0, err
    summary = summary_of(tmp_path / "out")
    words = shlex.split(summary["reproduce"].replace("\\\n", " "))
    assert "--alpha=2.0" in words
    assert not [word for word in words if word.startswith(("--objective", "--rectification", "--eval-strategy"))]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "task vectors rectified over 2 groups of the rows, subtracted with weight 2" in card
    assert summary["metrics"][0]["after"] == summary_of(tmp_path / "run")["results"]["tru"]["forget_prob"]


NO_RESULTS = {"objective": "npo", "rectification": "gru"}


def numbers(summary):
    return [found.to_json() for found in published_numbers.metrics_of_run(summary)]


def test_a_run_by_task_vectors_is_read_at_the_alpha_that_was_saved():
    points = [{"alpha": a, "forget_prob": 1 - a / 4, "retain_prob": 1.0} for a in (0.0, 1.0, 2.0)]
    results = {"forget_target": 0.7, "tru": points[1] | {"rmf": 0.9}, "negated": points[2]}
    found = report_material.summary(
        command="tru", results=results, trajectory={"tru": points, "negated": []}, groups=[], options={}
    ) | {"retain_model": {"source": "builtin:retain"}}
    assert numbers(TruSummary.model_validate(found)) == [
        {"metric": "forget_prob", "before": 1.0, "after": 0.75, "retain_model": 0.7},
        {"metric": "retain_prob", "before": 1.0, "after": 1.0, "retain_model": None},
        {"metric": "rmf", "before": None, "after": 0.9, "retain_model": None},
    ]


def test_with_a_best_model_its_numbers_are_shown():
    points = [{"step": step, "forget_prob": 1 / (1 + step), "retain_prob": 1.0, "runtime": 3.0} for step in range(3)]
    found = report_material.summary(
        results=NO_RESULTS, trajectory=points, best={"step": 1, "score": 0.0, "metrics": points[1]}
    )
    assert [(row["metric"], row["after"]) for row in numbers(RunSummary.model_validate(found))] == [
        ("forget_prob", 0.5),
        ("retain_prob", 1.0),
    ]


def test_without_a_measurement_before_the_first_step_none_is_shown():
    points = [{"step": step, "forget_prob": 1 / (1 + step)} for step in (1, 2)]
    found = report_material.summary(results=NO_RESULTS, trajectory=points)
    rows = numbers(RunSummary.model_validate(found))
    assert rows == [{"metric": "forget_prob", "before": None, "after": 1 / 3, "retain_model": None}]


# --- the hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """A hub that notes what it is asked; ``taken`` are repositories it has."""

    class Api:
        taken: tuple = ()
        calls: list = []  # noqa: RUF012
        fails = False
        logged_in = True

        def whoami(self):
            if not Api.logged_in:
                raise LocalTokenNotFoundError("Token is required\nand more lines")
            return {"name": "me"}

        def repo_exists(self, repo_id):
            return repo_id in Api.taken

        def create_repo(self, repo_id, *, private):
            Api.calls.append(("create", repo_id, private))
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            if Api.fails:
                raise ConnectionError("the line went dead\nsomewhere")
            Api.calls.append(("upload", repo_id, sorted(path.name for path in Path(folder_path).iterdir())))

    monkeypatch.setattr(hub_module, "HfApi", Api)
    return Api


def test_push_uploads_the_checked_folder(gru, runs, tmp_path, hub):
    out = tmp_path / "out"
    code, printed, err = gru("export", runs / "full", "--out", out, "--push", "me/forgetful", "--private")
    assert code == 0, err
    assert "Published: https://huggingface.co/me/forgetful" in printed
    assert hub.calls == [
        ("create", "me/forgetful", True),
        ("upload", "me/forgetful", sorted(path.name for path in out.iterdir())),
    ]
    assert "# forgetful" in (out / "README.md").read_text()
    assert 'from_pretrained("me/forgetful")' in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("state", "message"),
    [({"logged_in": False}, "not logged in to the hub"), ({"taken": ("me/forgetful",)}, "there is such a repository")],
)
def test_push_is_refused_before_the_work(gru, runs, tmp_path, hub, monkeypatch, state, message):
    for name, value in state.items():
        setattr(hub, name, value)
    monkeypatch.setattr(model_files, "load_model", lambda *_, **__: pytest.fail("long work began"))
    code, _, err = gru("export", runs / "full", "--out", tmp_path / "out", "--push", "me/forgetful")
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_upload_leaves_the_export_and_says_how_to_go_on(gru, runs, tmp_path, hub):
    hub.fails = True
    out = tmp_path / "out"
    code, _, err = gru("export", runs / "full", "--out", out, "--push", "me/forgetful")
    assert (code, err.count("\n")) == (1, 1)
    assert f"`hf upload me/forgetful {out}` tries again" in err
    assert (out / "README.md").is_file()


@pytest.mark.parametrize("robust", [None, "spectral=0.25"])
def test_a_card_says_what_made_the_steps_robust(robust):
    results = report_material.summary()["results"] | {"robust": robust}
    run = RunSummary.model_validate(report_material.summary(results=results))
    assert _exported_method(run).robust == robust


def test_a_card_speaks_of_the_model_that_was_saved():
    rate = {"chosen": 1e-4, "rate": 9e-4, "reach": 1e-3, "why": "", "moves": []}
    rate["moves"] = [{"step": step, "learning_rate": step * 1e-4, "why": ""} for step in (3, 9)]
    best = {"step": 6, "score": 1.0, "metrics": {"forget_prob": 0.1}}
    run = RunSummary.model_validate(report_material.summary(steps=12, learning_rate=rate, best=best))
    assert (run.learning_rate.at(2), run.learning_rate.at(9)) == (1e-4, pytest.approx(9e-4))
    method = _exported_method(run).to_json()
    assert (method["steps"], method["learning_rate"]) == (6, pytest.approx(3e-4))
