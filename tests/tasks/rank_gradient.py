"""Run under torchrun: the gradient of one step over all ranks, saved by rank 0. Used by tasks/test_contract.py."""

import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

from tunewright.config.load import load_config
from tunewright.runs.setup import build_components
from tunewright.training.engine import accumulate_gradient

if os.environ["WORLD_SIZE"] == "1":
    del os.environ["WORLD_SIZE"], os.environ["RANK"]
run = build_components(load_config(sys.argv[1]))
for module in run.model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = float(os.environ["DROPOUT"])
accelerator = run.processes.accelerator
network = run.model if accelerator is None else accelerator.prepare(run.model)
split = run.prepared.store["train"]
accumulate_gradient(
    network.train(),
    run.task,
    split,
    run.encoder,
    np.arange(13),
    run.task.weights(split),
    seed=run.plan.seed,
    epoch=0,
    step=0,
    execution=run.execution,
)
if run.processes.is_main:
    save_file({name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}, sys.argv[2])
if accelerator is not None:
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
os._exit(0)  # gloo's threads now and then abort the interpreter's teardown
