"""What is wrong with a config: unknown keys with the one that was meant, wrong values, keys that nothing reads, all said at once.

    unknown_keys({"train": {"epoch": 3}})       unknown key 'train.epoch'; did you mean train.epochs?
    unread(config)                              data.pair has no effect: ner does not read it; leave it out

Also the names that transformers' Trainer, TRL, Axolotl and LLaMA-Factory use are known.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.adapters.config import NONE, adapter_options
from tunewright.config.keys import all_keys, readers_of
from tunewright.config.renamed import now_elsewhere
from tunewright.config.run_config import RunConfig, task_options
from tunewright.errors import UserError, did_you_mean, quoted
from tunewright.settings import Section
from tunewright.tasks.base import TASK_SPECIFIC

FOREIGN_KEYS = {
    "per_device_train_batch_size": "train.batch_size",
    "train_batch_size": "train.batch_size",
    "micro_batch_size": "train.micro_batch_tokens",
    "gradient_accumulation_steps": "train.micro_batch_tokens",
    "per_device_eval_batch_size": "train.micro_batch_tokens",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "lr": "train.learning_rate",
    "lr_scheduler_type": "train.schedule",
    "lr_scheduler": "train.schedule",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup",
    "optim": "train.optimizer",
    "gradient_clipping": "train.max_grad_norm",
    "load_in_4bit": "model.quantize",
    "load_in_8bit": "model.quantize",
    "quantization_bit": "model.quantize",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "save_strategy": "train.save_every",
    "save_steps": "train.save_every",
    "save_total_limit": "train.keep_checkpoints",
    "logging_steps": "train.log_every",
    "report_to": "train.log_to",
    "early_stopping_patience": "train.early_stopping",
    "eval_strategy": "evaluate.every",
    "eval_steps": "evaluate.every",
    "evals_per_epoch": "evaluate.every",
    "metric_for_best_model": "evaluate.metric",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "sequence_len": "data.max_length",
    "cutoff_len": "data.max_length",
    "text_column": "data.text",
    "label_column": "data.label",
    "dataset": "data.train",
    "dataset_name": "data.train",
    "datasets": "data.train",
    "train_file": "data.train",
    "validation_file": "data.validation",
    "test_file": "data.test",
    "val_set_size": "data.validation_ratio",
    "max_train_samples": "data.limit",
    "max_samples": "data.limit",
    "model_name_or_path": "model",
    "base_model": "model",
    "output_dir": "output",
    "lora_r": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_target_modules": "adapter.targets",
    "target_modules": "adapter.targets",
    "use_rslora": "adapter.rslora",
    "use_dora": "adapter.dora",
    "num_virtual_tokens": "adapter.num_tokens",
}


def shortly(value: Any) -> str:
    """A value for a message: never a page of it."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 200
    shown.maxlong, shown.maxlist, shown.maxdict = 40, 20, 20
    return shown.repr(value)


def unknown_keys(values: Mapping[str, Any], section: type[Section] = RunConfig, prefix: str = "") -> Iterator[str]:
    """A line for every key that is none, with the one that was meant."""
    known = section.model_fields
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in known:
            yield f"unknown key {name!r}; {now_elsewhere(name) or _nearest(str(key), prefix, known)}"
            continue
        inner = known[key].annotation
        if name == "task" and isinstance(value, Mapping):
            inner = task_options(str(value.get("name", "auto")))
        if name == "adapter" and isinstance(value, Mapping):
            inner = adapter_options(str(value.get("name", NONE)))
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, Section):
            yield from unknown_keys(value, inner, f"{name}.")


def _nearest(key: str, prefix: str, known: Mapping[str, Any]) -> str:
    if key in FOREIGN_KEYS:
        return f"here it is {FOREIGN_KEYS[key]}"
    every = {path.rpartition(".")[2]: path for path in all_keys()}
    if key in every:
        section = prefix.rstrip(".")
        owners = sorted({owner for setting in all_keys()[every[key]] for owner in setting.owners})
        if section and every[key] == f"{prefix}{key}":
            return f"it is a setting of another {section}: set {section}.name to {' or '.join(owners)}"
        return f"it belongs to {every[key]}"
    near = did_you_mean(key, known)
    if near:
        return f"did you mean {prefix}{near}?"
    near = did_you_mean(key, every)
    return f"did you mean {every[near]}?" if near else f"known: {quoted(known, limit=40)}"


def unread(config: RunConfig, task: str) -> list[str]:
    """A line for every setting that was changed and that neither this task nor the chosen optimizer reads."""
    lines = config.train.unread()
    for key in sorted(TASK_SPECIFIC - task_options(task).reads):
        section, _, name = key.partition(".")
        values = getattr(config, section)
        if getattr(values, name) != type(values).model_fields[name].default:
            lines.append(
                f"{key} has no effect: {task} does not read it ({', '.join(readers_of(key))} does); leave it out"
            )
    return lines


def explained(errors: Sequence[Any]) -> list[str]:
    """One line per fault. A union reports each of its branches: those that failed deepest in the value are all given."""
    known = all_keys()
    of_key: dict[str, list[_Fault]] = {}
    for error in errors:
        if error["type"] in ("extra_forbidden", "invalid_key"):  # reported before, with the key that was meant
            continue
        path, *rest = map(str, error["loc"])
        while rest and path not in known:
            path += f".{rest.pop(0)}"
        message = error["msg"].removeprefix("Value error, ")
        message = f"{message[0].lower()}{message[1:]}"
        if error["type"] == "missing":
            message = "is missing"
        of_key.setdefault(path, []).append(_Fault(rest[1] if len(rest) > 1 else "", message, error.get("input")))
    return [line for path, faults in of_key.items() for line in _of_branches(path, faults)]


class _Fault(NamedTuple):
    """inside: the key within the value of a config key, where a branch got that far."""

    inside: str
    message: str
    found: Any


def _of_branches(path: str, faults: Sequence[_Fault]) -> Iterator[str]:
    if any(fault.message == "is missing" for fault in faults):
        yield "no data given. Set data.train to a file" if path.startswith("data") else f"{path} is missing"
        return
    deepest = [fault for fault in faults if fault.inside] or list(faults)
    for inside in dict.fromkeys(fault.inside for fault in deepest):
        told = [fault for fault in deepest if fault.inside == inside]
        messages = " or ".join(dict.fromkeys(fault.message for fault in told))
        yield f"{path}: {f'{inside}: ' if inside else ''}{messages}, found {shortly(told[0].found)}"


def refuse(problems: Sequence[str], *, where: str) -> None:
    """UserError that lists all problems, where there is one."""
    if problems:
        listed = f"{len(problems)} problems:\n  - " + "\n  - ".join(problems)
        raise UserError(problems[0] if len(problems) == 1 else listed, where=where)
