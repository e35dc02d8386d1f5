"""Whether a trainer can work with what it was given, and where it was started: told before anything else is done."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from gru_unlearn.errors import UserError, kind_in_words
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.inherited_settings import NO_DEEPSPEED, check_parallelism
from gru_unlearn.training.own_rate import refuse_where_it_cannot
from gru_unlearn.training.packages import uses_bitsandbytes
from gru_unlearn.training.pair_trainer import ExampleSets


class Engine(Protocol):
    """What Trainer knows of where it works."""

    args: UnlearningConfig
    accelerator: Any
    is_deepspeed_enabled: Any
    is_fsdp_enabled: Any
    trained_set: str


def check_kinds(model: object, args: object, processing_class: object, eval_dataset: object) -> None:
    """What people pass in the place of something else, told by the argument's name.

    Raises:
        TypeError: one of them is of another kind.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a loaded model, got {model!r:.80}: AutoModelForCausalLM.from_pretrained loads it"
        )
    if not isinstance(args, UnlearningConfig):
        raise TypeError(f"args must be an UnlearningConfig, got {kind_in_words(args)}")
    if isinstance(processing_class, str) or not callable(processing_class):
        raise TypeError(
            f"processing_class must be a tokenizer, got {processing_class!r:.80}: "
            "AutoTokenizer.from_pretrained loads it"
        )
    if not isinstance(eval_dataset, Mapping | None):
        raise TypeError(
            f'eval_dataset must name each of its sets, such as {{"held_out": ROWS}}, got {kind_in_words(eval_dataset)}'
        )


def require_sets(sets: ExampleSets, args: UnlearningConfig) -> None:
    """Whether there are the rows that the method looks at.

    Raises:
        UserError: there are none.
    """
    if not sets.forget:
        raise UserError("the forget set is empty: there is nothing to forget")
    if args.needs_retain_set and not sets.retain:
        raise UserError(f"rectification {args.rectification!r} with objective {args.objective!r} needs a retain set")


def check_engine(trainer: Engine, *, in_pairs: bool) -> None:
    """What only Trainer knows, from accelerate's launcher and from its own arguments together.

    Args:
        trainer: made.
        in_pairs: whether trained weights are bfloat16 with their lower halves beside them.

    Raises:
        UserError: this does not work so.
    """
    if trainer.is_deepspeed_enabled:
        raise UserError(NO_DEEPSPEED)
    check_parallelism(trainer.accelerator.parallelism_config)
    if trainer.args.on_its_own:
        refuse_where_it_cannot(trainer.trained_set, sharded=trainer.is_fsdp_enabled)
    if trainer.is_fsdp_enabled and uses_bitsandbytes(trainer.args.optim):
        raise UserError("bitsandbytes does not know FSDP2's sharded tensors: leave --optim at its default")
    if trainer.args.resolved_robust is not None and (trainer.accelerator.num_processes > 1 or trainer.is_fsdp_enabled):
        raise UserError("robust steps are for one process: start without accelerate launch, or leave robust away")
    if trainer.args.fsdp and not trainer.accelerator.is_fsdp2:
        raise UserError("fsdp works as FSDP2 on GPUs only: start with accelerate launch, fsdp_version: 2")
    if in_pairs and (trainer.accelerator.num_processes > 1 or trainer.is_fsdp_enabled):
        raise UserError(
            "bfloat16 weights are trained in one process: load them in float32 (no --dtype), which FSDP2 shards, "
            "or train adapters (--use-peft)"
        )
