"""Trains the tiny model in one process of many, scenario by scenario: run by torchrun from test_distributed.py.

torchrun --nproc_per_node 2 tests/distributed_worker.py '{"NAME": {"kind": "fsdp2", ...}, ...}' FOLDER
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import DistributedType, PartialState
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer

FORGET, RETAIN = tiny.rows(24), tiny.rows(20, start=24)


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def run(kind, folder, *, lora=False, resume=None, **options):
    """Train and return the trainer. ``kind``: ddp or fsdp2, without meaning for a single process."""
    torch.set_num_threads(1)
    if kind == "fsdp2":
        layers = {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"], "reshard_after_forward": True}
        options |= {"fsdp": True, "fsdp_config": layers}
    defaults = {"learning_rate": 2e-3, "max_steps": 20, "warmup_steps": 0, "logging_steps": 5, "save_strategy": "no"}
    config = UnlearningConfig(
        output_dir=str(folder), use_cpu=True, disable_tqdm=True, eval_on_start=False, **(defaults | options)
    )
    if kind == "fsdp2":
        # accelerate offers FSDP2 on accelerators only; torch's own works on CPU, so the processes say they are GPUs.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    model = tiny.model()
    if lora:
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    trainer = UnlearningTrainer(
        model, config, forget_dataset=FORGET, retain_dataset=RETAIN, processing_class=tiny.tokenizer()
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(trainer):
    """Trained weights by name, whole, as if there were one process."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    return {name: whole(p.detach()).clone() for name, p in model.named_parameters() if p.requires_grad}


def scenario(folder, **options):
    """Train, and leave weights and log in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = run(folder=folder, **options)
    if dist.is_initialized() and options["kind"] == "fsdp2":
        assert any(isinstance(p, DTensor) for p in trainer.model.parameters()), "nothing is sharded"
    trained = weights(trainer)
    trainer.save_model(str(folder / "model"))
    if not dist.is_initialized() or dist.get_rank() == 0:
        save_file({name: p.contiguous() for name, p in trained.items()}, folder / "weights.safetensors")
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history))


def main():
    for name, options in json.loads(sys.argv[1]).items():
        scenario(Path(sys.argv[2]) / name, **options)
    if dist.is_initialized():
        dist.destroy_process_group()
    # Everything is on disk. Left to itself, the interpreter now and then takes a library's thread down with a crash.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
