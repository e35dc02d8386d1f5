"""Rules and objectives on problems of two parameters, where the right answer can be seen; and a retain gradient that
stays as it was between its passes."""

import pytest
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

import tiny
from gru_unlearn import GradientRectifier, UnlearningConfig, UnlearningTrainer
from gru_unlearn.comparison.matrix import parse_method
from gru_unlearn.errors import UserError
from gru_unlearn.geometry.family import FAMILY
from gru_unlearn.objectives import OBJECTIVES
from gru_unlearn.runs.idle_settings import refuse_idle
from gru_unlearn.runs.recipe import make_recipe

KEEPS_RETAIN = [
    "gru",
    "gru/element",
    "gru/element/update",
    "gru/element/update/metric",
    "gru/update",
    "gru/memory=3",
    "gu",
    "pcgrad",
    "ngdiff",
    "sago",
]
"""Rectifications that promise not to raise the retain loss, to first order."""
OTHERS = [
    "cosine-clip",
    "cosine-clip/element/update",
    "pdu",
    "hamu",
    "hamu/constraint=0.05",
    "free",
    "free/update/metric",
]


def test_every_rule_is_looked_at():
    assert {word.partition("/")[0] for word in KEEPS_RETAIN + OTHERS} == set(FAMILY)


# --- two parameters, three lines -------------------------------------------------------------------------------------


def forget_loss(x, y):
    """Of what must go: to be raised, along x and along y alike."""
    return nn.functional.softplus(x + y)


def retain_loss(x, y):
    """Of what must stay: rises along x, falls along y, until a valley that both losses can follow."""
    return (x - y / 2 + 0.4).square() / 2


def descended(word, steps=8, rate=0.05):
    """(x, y) after some steps of plain gradient descent through the real rectifier, from (0, 0)."""
    point = nn.Module()
    point.place = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD(point.parameters(), lr=rate)
    with GradientRectifier(point, optimizer, word) as rectifier:
        for _ in range(steps):
            optimizer.zero_grad()
            with rectifier.retain():
                retain_loss(*point.place).backward()
            (-forget_loss(*point.place)).backward()
            optimizer.step()
    return point.place.detach()


def test_the_problem_is_in_conflict():
    x, y = torch.zeros(2, requires_grad=True)
    u = torch.autograd.grad(-forget_loss(x, y), (x, y))
    r = torch.autograd.grad(retain_loss(x, y), (x, y))
    assert sum(a * b for a, b in zip(u, r, strict=True)) < 0
    assert u[0] * r[0] < 0 < u[1] * r[1]


@pytest.mark.parametrize("word", KEEPS_RETAIN + OTHERS)
def test_every_rule_forgets_and_keeps_what_it_promises(word):
    start, end = torch.zeros(2), descended(word)
    assert forget_loss(*end) > forget_loss(*start) + 1e-3
    if word in KEEPS_RETAIN:
        assert retain_loss(*end) <= retain_loss(*start) + 1e-6
    if word in ("pcgrad", "ngdiff", "sago", "pdu", "hamu/constraint=0.05"):
        assert retain_loss(*end) < retain_loss(*start) - 1e-3, "it descends on the retain loss too"


def test_without_a_rule_the_retain_loss_rises():
    """The fixture shows something: as cosine-clip does at worst, half of the conflict stays."""
    free = descended(lambda conflict: (1.0, 0.0))
    assert retain_loss(*free) > retain_loss(*torch.zeros(2)) + 1e-3
    assert retain_loss(*descended("cosine-clip")) < retain_loss(*free)


# --- two parameters, the trainer's path ------------------------------------------------------------------------------

PROMPT, SECRET, OTHER_PROMPT, KEPT, EXCUSE = 4, 7, 5, 8, 9
VOCABULARY = 12


class Plane(nn.Module):
    """Scores of the next token [B, L, V] after each token, from two numbers: the losses above, as a language model."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(2))

    def forward(self, tokens):
        x, y = self.place
        after = {
            (PROMPT, SECRET): 1 - x - y,
            (PROMPT, EXCUSE): x + y,
            (OTHER_PROMPT, KEPT): 2 - retain_loss(x, y),
            (SECRET, 10): x + y,  # activations at the answers, which RMU looks at
            (KEPT, 11): x - y / 2,
        }
        scores = torch.zeros_like(tokens)
        for (before, token), score in after.items():
            hot = nn.functional.one_hot(torch.tensor(token), VOCABULARY)
            scores = scores + tokens[..., before, None] * hot * score
        return scores


class PlaneModel(PreTrainedModel):
    """As transformers' models are asked; all but the plane's two numbers stays as it is."""

    config_class = PretrainedConfig

    def __init__(self):
        config = PretrainedConfig(vocab_size=VOCABULARY, hidden_size=VOCABULARY, num_hidden_layers=1)
        super().__init__(config)
        self.tokens = nn.Embedding(VOCABULARY, VOCABULARY)
        self.plane = Plane()
        self.head = nn.Linear(VOCABULARY, VOCABULARY, bias=False)
        for part in (self.tokens, self.head):
            part.weight = nn.Parameter(torch.eye(VOCABULARY), requires_grad=False)

    def get_input_embeddings(self):
        return self.tokens

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, attention_mask=None, **_):
        return CausalLMOutput(logits=self.head(self.plane(self.tokens(input_ids))))


def example(before, token):
    return {"input_ids": [before, token], "labels": [-100, token]}


def unlearned(folder, steps=4, **options):
    """The trainer after some steps of plain gradient descent on the plane."""
    defaults = {
        "learning_rate": 0.05,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "max_steps": steps,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "warmup_steps": 0,
        "logging_steps": 1,
        "eval_on_start": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "hidden_module": "plane",
    }
    forget = example(PROMPT, SECRET) | {"alternative": example(PROMPT, EXCUSE)}
    run = UnlearningTrainer(
        PlaneModel(),
        UnlearningConfig(output_dir=str(folder), **(defaults | options)),
        forget_dataset=[dict(forget) for _ in range(4)],
        retain_dataset=[example(OTHER_PROMPT, KEPT) for _ in range(4)],
        processing_class=tiny.tokenizer(),
    )
    run.train()
    return run


def place(run):
    return run.model.plane.place.detach()


def by_hand(word, steps=4, every=1):
    """The same in three lines: gradient ascent on the secret, a retain pass at every so many steps."""
    model = PlaneModel()
    optimizer = torch.optim.SGD([model.plane.place], lr=0.05)
    with GradientRectifier(model, optimizer, word) as rectifier:
        for step in range(steps):
            optimizer.zero_grad()
            if step % every == 0:
                with rectifier.retain():
                    answer_loss(model, OTHER_PROMPT, KEPT).backward()
            (-answer_loss(model, PROMPT, SECRET)).backward()
            optimizer.step()
            if hasattr(rectifier.rule, "observe") and step % every == 0:
                rectifier.rule.observe(answer_loss(model, OTHER_PROMPT, KEPT).item())
    return model.plane.place.detach()


def answer_loss(model, before, token):
    logits = model(torch.tensor([[before, token]])).logits[0, :1]
    return nn.functional.cross_entropy(logits, torch.tensor([token]))


def free(folder, objective):
    """Without any retain row."""
    return unlearned(folder, objective=objective, rectification="none", retain_weight=0.0)


def forgot(run):
    """By how much the secret's loss rose, which for every objective here is x + y."""
    return float(place(run).sum())


def harm(run):
    return float(retain_loss(*place(run)) - retain_loss(*torch.zeros(2)))


def logged(run, name):
    return [row[name] for row in run.state.log_history if name in row]


def descends(run):
    """Whether the loss fell. That of WGA and SatImp need not: their weights are taken as fixed within a step."""
    losses = logged(run, "loss")
    return run.args.objective in ("wga", "satimp") or min(losses[1:]) < losses[0]


@pytest.mark.parametrize("word", KEEPS_RETAIN + OTHERS)
def test_every_rule_does_the_same_in_the_trainer(tmp_path, word):
    if word.startswith("pdu"):
        word = "pdu/retain_loss_eps=0.5/dual_step_size=0"  # the trainer observes the loss before the step, as its paper
    run = unlearned(tmp_path, objective="ga", rectification=word, retain_loss="nll")
    torch.testing.assert_close(place(run), by_hand(word), rtol=1e-4, atol=1e-6)
    assert forgot(run) > 1e-3
    if word in KEEPS_RETAIN:
        assert harm(run) <= 1e-6


@pytest.mark.parametrize("word", ["pcgrad", "ngdiff", "sago", "pdu/dual_step_size=0", "hamu"])
def test_rules_that_descend_on_the_retain_loss_see_the_gradient_of_forgetting_alone(tmp_path, word):
    """GradDiff's own retain term, weight 1, would be there twice."""
    run = unlearned(tmp_path, objective="graddiff", rectification=word)
    torch.testing.assert_close(place(run), by_hand(word), rtol=1e-4, atol=1e-6)
    assert logged(run, "loss") == pytest.approx(logged(run, "forget_loss"))


@pytest.mark.parametrize("rule", ["pcgrad", "sago", "pdu"])
def test_the_retain_weight_is_that_of_the_rule(tmp_path, rule):
    still = "/dual_step_size=0" if rule == "pdu" else ""
    run = unlearned(tmp_path, objective="ga", rectification=rule + still, retain_weight=0.25)
    torch.testing.assert_close(place(run), by_hand(f"{rule}/weight=0.25{still}"), rtol=1e-4, atol=1e-6)
    assert dict(run.rectifier.rectification.settings)["weight"] == 0.25


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_forgets_with_every_retain_loss(tmp_path, objective):
    """The secret goes; the rectified run keeps what the free one harms, and a retain term helps."""
    start = free(tmp_path, objective)
    assert forgot(start) > 1e-5
    assert harm(start) > 1e-6
    assert descends(start)
    for retain in ("rmu",) if objective == "rmu" else ("nll", "kl"):
        options = {"objective": objective, "retain_loss": retain}
        term = unlearned(tmp_path, rectification="none", retain_weight=0.5, **options)
        assert harm(term) < harm(start)
        assert descends(term)
        for word in ("gru", "gru/element/update/metric"):  # by SGD, whose steps are not tempered
            run = unlearned(tmp_path, rectification=word, retain_weight=0.0, **options)
            assert forgot(run) > 1e-6
            assert descends(run)
            assert harm(run) <= (1e-7 if retain == "nll" else 0.9 * harm(start))


# --- a retain gradient that stays as it was --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "gru",
        "gru/element/update",
        "gru/element/update/metric",
        "ngdiff",
        "sago",
        "gu/memory=2",
        "pdu/dual_step_size=0",
        "hamu",
    ],
)
@pytest.mark.parametrize("every", [2, 3])
def test_the_trainer_keeps_the_retain_gradient_as_the_two_line_loop_does(tmp_path, word, every):
    run = unlearned(tmp_path, objective="ga", rectification=word, retain_every=every, retain_loss="nll")
    torch.testing.assert_close(place(run), by_hand(word, every=every), rtol=1e-4, atol=1e-6)


def test_retain_losses_are_those_of_steps_that_have_one_and_work_counts_as_done(tmp_path):
    options = {"objective": "ga", "rectification": "pdu", "steps": 6, "logging_steps": 1}
    always, seldom = unlearned(tmp_path, **options), unlearned(tmp_path, retain_every=3, **options)
    seen = [row["step"] for row in seldom.state.log_history if "retain_loss" in row]
    assert seen == [1, 4]
    assert seldom.rectifier.rule.observed == 2
    assert always.rectifier.rule.observed == 6
    side = always.state.total_flos / 12
    assert seldom.state.total_flos == pytest.approx(8 * side)
    mean = unlearned(tmp_path, retain_every=3, **(options | {"logging_steps": 6}))
    assert logged(mean, "retain_loss")[0] == pytest.approx(sum(logged(seldom, "retain_loss")) / 2)


def test_accumulated_windows_pass_retain_rows_together_or_not_at_all(tmp_path):
    options = {"objective": "ga", "rectification": "gru", "retain_every": 2}
    whole = unlearned(tmp_path, **options)
    cut = unlearned(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=2, **options)
    torch.testing.assert_close(place(whole), place(cut))


def test_retain_every_differs_from_method_to_method():
    assert parse_method("recommended@retain_every=2")["retain_every"] == "2"


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"rectification": "none", "retain_every": 2}, "--retain-every"),
        ({"rectification": "none", "retain_loss": "kl"}, "--retain-loss"),
        ({"rectification": "none", "retain_weight": 1.0, "new_gradient_weight": 0.5}, "--new-gradient-weight"),
        ({"rectification": "ngdiff", "retain_weight": 1.0}, "--retain-weight"),
        ({"rectification": "hamu", "retain_weight": 1.0}, "--retain-weight"),
        ({"rectification": "sago/weight=2", "retain_weight": 1.0}, "--retain-weight"),
        ({"rectification": "sago", "retain_placement": "after"}, "--retain-placement"),
        ({"rectification": "gru", "retain_placement": "after"}, "--retain-placement"),
    ],
)
def test_retain_settings_that_would_do_nothing_are_refused(settings, flag):
    recipe = make_recipe({"model": "m", "forget": "f", "objective": "npo", "use_cpu": True, **settings})
    with pytest.raises(UserError, match=f"{flag} needs"):
        refuse_idle(recipe)


@pytest.mark.parametrize(
    "settings",
    [
        {"rectification": "none", "retain_every": 1},
        {"rectification": "none", "retain_weight": 1.0, "retain_loss": "kl"},
        {"rectification": "sago", "retain_weight": 0.1, "retain_every": 2},
        {"rectification": "gru", "retain_weight": 0.1, "retain_placement": "after", "new_gradient_weight": 1.0},
        {"rectification": "ngdiff", "objective": "graddiff"},
    ],
)
def test_retain_settings_that_act_are_taken(settings):
    refuse_idle(make_recipe({"model": "m", "forget": "f", "objective": "npo", "use_cpu": True, **settings}))
