"""Which parameters are trained, and at which rate: parameter groups, optimizers by name, the learning rate as a function of the step.

schedule = Schedule("linear", warmup_steps=10, num_steps=100)
schedule.factor(0), schedule.factor(9), schedule.factor(99)      # 0.1, 1.0, 1/90
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunewright.errors import UserError
from tunewright.plugins import OURS, find
from tunewright.training.config import TrainConfig

_REFERENCE_RATE, _REFERENCE_WIDTH = 5e-5, 768  # BERT-base's usual rate (Devlin et al. 2019, appendix A.3)
_MOST_HEAD_RATE = 1e-3


@dataclass(frozen=True)
class Schedule:
    """Learning rate factor of each step: a linear warmup, then linear or cosine to zero, constant, or a plug-in's `factor`, which is
    called with the completed share of the steps after the warmup, from 0 to 1."""

    kind: str
    warmup_steps: int
    num_steps: int

    @classmethod
    def of(cls, config: TrainConfig, num_steps: int) -> Schedule:
        """UserError if the warmup is longer than training: the peak would never be reached."""
        warmup = round(config.warmup * num_steps) if config.warmup < 1 else round(config.warmup)
        if warmup > num_steps:
            raise UserError(
                "the warmup is longer than the training",
                where="train.warmup",
                found=f"{warmup:,} steps of {num_steps:,}",
                hint="Below 1 it is a share of all steps: train.warmup=0.1.",
            )
        return cls(config.schedule, warmup, num_steps)

    def factor(self, step: int) -> float:
        """For the update of `step`, counted from 0. Never 0, so that every step learns."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        left = (self.num_steps - step) / max(1, self.num_steps - self.warmup_steps)
        left = min(1.0, max(0.0, left))
        if self.kind not in OURS["schedules"]:
            return float(find("schedules", self.kind).factor(1 - left))
        return left if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def learning_rates(config: TrainConfig, hidden_size: int, *, factor: float = 1.0) -> tuple[float, float]:
    """(rate of the pretrained body, rate of a new head). auto: 5e-5 · 768 / hidden size; the head ten times that.

    factor: multiplies the body's rate if an adapter is trained in its place; the head's rate is the same as without.
    """
    rate = config.learning_rate
    if rate == "auto":
        rate = _REFERENCE_RATE * _REFERENCE_WIDTH / hidden_size * factor
    head, usual = config.head_learning_rate, rate / factor
    return float(rate), float(min(10 * usual, max(usual, _MOST_HEAD_RATE)) if head == "auto" else head)


def freeze(model: Any, setting: str | int, fresh: Iterable[str]) -> int:
    """Freeze as `train.freeze` says; a new head is always trained. Returns the number of frozen parameters (scalars)."""
    if setting == "none":
        return 0
    kept = set(fresh)
    if setting == "body":
        body = model.base_model
        frozen = [
            (name, p)
            for name, p in model.named_parameters()
            if any(p is q for q in body.parameters()) and name not in kept
        ]
    else:
        frozen = _embeddings_and_layers(model, int(setting))
    for _, parameter in frozen:
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("nothing is left to train", where="train.freeze", found=str(setting), hint="Freeze less.")
    return sum(parameter.numel() for _, parameter in frozen)


def _embeddings_and_layers(model: Any, num_layers: int) -> list[tuple[str, nn.Parameter]]:
    stacks = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    if not stacks or not 0 <= num_layers <= len(stacks[0]):
        found = f"{len(stacks[0])} layers" if stacks else "no stack of layers"
        raise UserError(
            f"cannot freeze {num_layers} layers",
            where="train.freeze",
            found=found,
            hint="Set train.freeze to body or a smaller number.",
        )
    frozen_modules = [model.get_input_embeddings(), *stacks[0][:num_layers]]
    for name, module in model.base_model.named_children():
        if "embed" in name.lower():
            frozen_modules.append(module)
    frozen = {id(p) for module in frozen_modules for p in module.parameters()}
    return [(name, p) for name, p in model.named_parameters() if id(p) in frozen]


def parameter_groups(
    model: nn.Module, fresh: Iterable[str], config: TrainConfig, rates: tuple[float, float]
) -> list[dict[str, Any]]:
    """Groups by decay and rate, parameters in the model's order. Norms and biases (one dimension) do not decay."""
    head = set(fresh)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (config.weight_decay if parameter.dim() > 1 else 0.0, rates[1] if name in head else rates[0])
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr": rate, "peak_lr": rate}
        for (decay, rate), parameters in groups.items()
    ]


def build_optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer named in `train.optimizer`. A plug-in's `build` gets the groups (`params`, `lr`, `weight_decay`) and the config."""
    betas = (config.beta1, config.beta2)
    device = groups[0]["params"][0].device.type
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, betas=betas, eps=config.epsilon, fused=device in ("cpu", "cuda"))
        case "adam":
            return torch.optim.Adam(groups, betas=betas, eps=config.epsilon, fused=device in ("cpu", "cuda"))
        case "sgd":
            return torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=config.beta1)
        case "rmsprop":
            return torch.optim.RMSprop(groups, alpha=config.beta2, eps=config.epsilon)
        case "adafactor":
            return torch.optim.Adafactor(groups)
        case name:
            built: torch.optim.Optimizer = find("optimizers", name).build(groups, config)
            return built


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Scale every group's peak rate. Returns the first group's rate, the one that is reported."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
