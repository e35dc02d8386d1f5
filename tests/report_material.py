"""A run's folder as ``gru unlearn`` leaves it, written in no time; every text in it tries to be markup."""

import json

from gru_unlearn.common.files import write_json

EVIL = "<script>alert(1)</script>"
STEPS = (0, 5, 10, 15, 20)


def trajectory():
    return [
        {"step": s, "forget_prob": 0.9 - s / 30, "retain_prob": 0.95 - s / 400, "held_out_prob": 0.94 - s / 300}
        for s in STEPS
    ]


def summary(**changes):
    points = trajectory()
    end = {key: value for key, value in points[-1].items() if key != "step"}
    return {
        "command": "unlearn",
        "results": {"objective": "npo", "rectification": "gru", **end, "conflict_rate": 0.75, "forget_target": 0.25}
        | {"rmf": 0.95, "rmf_held_out": 0.93},
        "steps": 20,
        "seconds": 12.5,
        "seed": 0,
        "trajectory": points,
        "removed_share_by_layer": {"model.embed_tokens": 0.3, "model.layers.0": 0.1, "model.norm": -0.05},
        "log": [
            {"step": s, "loss": 2.0, "forget_loss": 3.0 - s / 10, "retain_loss": 0.1 + s / 50, "conflict_rate": 0.75}
            | {"cosine": -0.1, "removed_share": 0.02}
            for s in STEPS[1:]
        ],
        "settings": {"model": EVIL, "learning_rate": 3e-4, "retain": None},
        "data": {"forget": {"source": EVIL, "rows": 3, "sha256": "a" * 64}},
        "model": {"source": EVIL, "sha256": "b" * 64},
        "retain_model": {"source": None, "sha256": None},
        "output_model": "model",
        "versions": {"python": "3.11"},
    } | changes


def example(number, question, answer, before, after, said, retain):
    return {
        "row": number,
        "question": question,
        "answer": answer,
        "before": {"probability": before, "says": answer},
        "after": {"probability": after, "says": said},
        "retain_model": {"probability": retain, "says": "nobody knows"},
    }


def examples():
    forget = [
        example(
            0, f"Who is {EVIL}?", f"A man from Custeby {EVIL}", 0.9, 0.2, f"A dog from Custeby </script>{EVIL}", 0.25
        ),
        example(1, "Where was Velquin born?", "In Arvustad.", 0.95, 0.7, "In Arvustad.", 0.2),
        example(2, "What does Pluquin eat?", "Pumpkin soup.", 0.9, 0.24, "Turnips.", 0.25),
    ]
    retain = [
        example(7, "Who rules Brelustad?", "The mayor.", 0.9, 0.9, "The mayor.", 0.9),
        example(9, "Who sells bread?", "The baker.", 0.98, 0.5, "The butcher.", 0.9),
    ]
    held_out = [example(0, "What is blue?", "The sky.", 0.94, 0.87, "The sky.", 0.94)]
    return {
        "generated": True,
        "sets": {
            "forget": {"rows_in_set": 3, "rows": forget},
            "retain": {"rows_in_set": 20, "rows": retain},
            "held_out": {"rows_in_set": 1, "rows": held_out},
        },
    }


def attack():
    def found(name, variant, recovered):
        line = {"attack": name, "variant": variant, "measure": "probability", "rows": 3, "note": ""}
        line |= {"unlearned": 0.4, "target": 0.9, "retain_model": 0.25}
        return line | {"recovered": recovered, "low": recovered, "high": recovered}

    return {
        "command": "attack",
        "rows": 3,
        "attacks": [found("relearning", "3 rows", 0.62), found("quantization", "int4", 0.03)],
        "before": [found("none", "", 0.01)],
        "curves": [
            {"attack": "relearning", "variant": "3 rows", "measure": "probability", "model": model}
            | {"steps": [0, 10, 20], "values": values}
            for model, values in (("unlearned", [0.2, 0.5, 0.8]), ("retain_model", [0.25, 0.3, 0.5]))
        ],
        "left_out": [{"attack": "membership", "variant": "", "why": "needs <b>holdout</b> rows"}],
        "retain_model": {"source": "retain", "sha256": "d" * 64},
        "seed": 0,
        "seconds": 3.0,
        "settings": {"model": None, "attacks": ["relearning"]},
        "run": "runs/x",
        "prefixes": "mine.txt",
        "data": {},
        "model": {"source": "run/model", "sha256": "c" * 64},
        "versions": {"python": "3.11"},
    }


def write_run(folder, **changes):
    folder.mkdir()
    write_json(folder / "summary.json", summary(**changes))
    settings = {"model": "my model", "objective": "npo", "bf16": True, "use_peft": False, "seed": 0}
    write_json(folder / "run.json", {"settings": settings | {"lora_target_modules": ["q_proj", "v_proj"]}})
    (folder / "examples.json").write_text(json.dumps(examples()))
    return folder
