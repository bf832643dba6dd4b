"""What an adapter is, when it cannot work, and how it is put on a model. PEFT does the arithmetic.

    adapter = adapter_of(config.adapter)                        None, or an Adapter
    refuse(adapter, situation)                                  UserError before anything is loaded
    model, heads = attach(adapter, model, fresh, seed=0)        base frozen, adapter and head learn

A head that starts fresh, or belongs to the task, learns whole beside the adapter; everything else keeps its weights and dtype.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tunewright.adapters.config import AdapterOptions, adapter_of
from tunewright.errors import UserError, counted, first_line, quoted
from tunewright.plugins import find
from tunewright.pretrained.architecture import unused_positions
from tunewright.pretrained.model_files import ModelFolder
from tunewright.tokenization.encoder import resolve_max_length

if TYPE_CHECKING:
    from torch import nn

_BYTES_TO_LEARN = 12  # fp32: a gradient and Adam's two moments
_HEADS = ("classifier", "score", "pre_classifier", "qa_outputs")


@dataclass(frozen=True)
class AdapterContext:
    """What an adapter must fit, told from the config and the model's config.json. task: `auto` while it is not settled."""

    model: ModelFolder
    task: str
    max_length: int
    gradient_checkpointing: bool
    packed: bool
    has_sequence_head: bool
    freeze: str | int

    @property
    def model_type(self) -> str:
        return str(self.model.json_file("config.json").get("model_type", ""))

    @property
    def num_positions(self) -> int | None:
        return num_positions(self.model)


def num_positions(model: ModelFolder) -> int | None:
    """Tokens that the model has learned positions for; None where rotation gives any number of them."""
    values = model.json_file("config.json")
    if any(name in values for name in ("rope_theta", "rope_parameters", "rope_scaling")):
        return None
    found = values.get("max_position_embeddings") or values.get("n_positions")
    return found - unused_positions(values) if isinstance(found, int) else None


def longest_row(config: Any, model: ModelFolder) -> int | str:
    """`data.max_length`; where it is auto, the adapter's virtual tokens have their place beside the row's."""
    adapter, wanted = adapter_of(config.adapter), config.data.max_length
    positions = num_positions(model)
    if wanted != "auto" or adapter is None or not adapter.num_virtual_tokens or positions is None:
        return wanted
    return min(resolve_max_length(model, "auto"), max(1, positions - adapter.num_virtual_tokens))


class BaseAdapter(ABC):
    """What adapters have in common; a module's `Adapter` says the rest."""

    merges = True
    """Whether its weights can be added into the base's: then `model/` is a plain model."""
    trains_added_tokens = False
    """Whether PEFT lets rows of single tokens learn beside it."""
    num_virtual_tokens = 0
    """Positions that it puts before every row."""
    rate_factor = 1.0
    """How many times larger `learning_rate: auto` is than for full fine-tuning."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def refuse(self, situation: AdapterContext) -> None:
        """UserError for a combination that cannot work, with what to use instead."""
        return

    @abstractmethod
    def peft_config(self, model: Any, *, heads: Sequence[str], kind: str) -> Any:
        """PEFT's description of this adapter on this model. heads: modules that learn whole."""

    def start(self, model: Any, *, seed: int) -> None:
        """Set the start of what PEFT would start badly; `model` is PEFT's."""
        return

    def remarks(self, heads: Sequence[str]) -> list[str]:
        """What the user should know before training."""
        return []


def situation_of(config: Any, model: ModelFolder, *, task: str | None = None) -> AdapterContext:
    options = config.task
    name = task or options.name
    kind = None if name == "auto" else find("tasks", name).Task
    return AdapterContext(
        model=model,
        task=name,
        max_length=resolve_max_length(model, longest_row(config, model)),
        gradient_checkpointing=config.train.gradient_checkpointing,
        packed=kind is not None and kind.is_packed,
        has_sequence_head=kind is not None and kind.has_sequence_head,
        freeze=config.train.freeze,
    )


def refuse(adapter: Any, situation: AdapterContext) -> None:
    """UserError where this adapter cannot learn in this situation; told from names and numbers, without torch."""
    if situation.freeze != "none":
        raise UserError(
            "an adapter already freezes the whole base model",
            where="train.freeze",
            found=str(situation.freeze),
            hint="Leave train.freeze at none, or adapter at none.",
        )
    if situation.model.preset is not None:
        raise UserError(
            "an adapter needs a pretrained base; this one has random weights",
            where=f"model {situation.model.name}",
            hint="Set adapter=none, or start from a pretrained model.",
        )
    adapter.refuse(situation)


def refuse_added_tokens(config: Any) -> None:
    """UserError where a config's `adapter.train_added_tokens` has nothing to learn, or cannot."""
    options, where = config.adapter, "adapter.train_added_tokens"
    if not options.train_added_tokens:
        return
    adapter = adapter_of(options)
    if adapter is None:
        raise UserError(
            "without an adapter all rows are trained anyway", where=where, found="adapter=none", hint="Remove it."
        )
    if not adapter.trains_added_tokens:
        raise UserError(
            f"{options.name} does not train the rows of tokens",
            where=where,
            found=f"adapter={options.name}",
            hint="Set adapter=lora, or remove it.",
        )
    if not config.model.add_tokens:
        raise UserError(
            "no tokens are added",
            where=where,
            found="an empty model.add_tokens",
            hint="List them in model.add_tokens (also those of an earlier run), or remove it.",
        )


def refuse_quantized(config: Any) -> None:
    """UserError where a config's `model.quantize` cannot work, as far as it is told without torch."""
    wanted = f"model.quantize {config.model.quantize}"
    if config.model.quantize == "none":
        return
    if adapter_of(config.adapter) is None:
        raise UserError(
            "quantized weights cannot be trained",
            where=wanted,
            found="adapter=none",
            hint="Set adapter=lora beside it, or leave model.quantize at none.",
        )
    if config.train.precision == "fp64":
        raise UserError(
            "model.quantize cannot be combined with fp64",
            where=wanted,
            found="train.precision=fp64",
            hint="Leave train.precision at auto, or model.quantize at none.",
        )
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "bitsandbytes is not installed",
            where=wanted,
            hint='Install it (pip install "tunewright[quant]"), or leave model.quantize at none.',
        )


def round_base(model: Any, fresh: Sequence[str], bits: int | None, device: Any, *, whole: bool) -> None:
    """Store the base's linear layers in `bits`; whole: hold the numbers that these stand for in plain layers. bits None: as it is."""
    if bits is None:
        return
    from tunewright.models.quantized import quantize, rounded

    (rounded if whole else quantize)(model, head_modules(model, fresh), bits, device)


def task_kind(model: Any) -> str:
    """PEFT's name for what a model's head does."""
    name = type(model).__name__
    if name.endswith("ForSequenceClassification"):
        return "SEQ_CLS"
    if name.endswith("ForTokenClassification"):
        return "TOKEN_CLS"
    return "CAUSAL_LM" if name.endswith(("ForCausalLM", "LMHeadModel")) else "FEATURE_EXTRACTION"


def head_modules(model: Any, fresh: Sequence[str]) -> list[str]:
    """Full names of the outermost modules that learn whole: what holds fresh parameters, the head of a classifier, its pooler.

    A module that shares a weight with the body (the output rows of a masked model) stays as it is.
    """
    from tunewright.models.heads import pooler_layers

    modules = dict(model.named_modules())
    body = {id(parameter) for parameter in model.base_model.parameters()} if model.base_model is not model else set()
    shared = {id(model.get_input_embeddings().weight)} | (body if body else set())
    heads = {name for name in modules if name.rpartition(".")[2] in _HEADS and not list(_tied(modules[name], shared))}
    heads |= set(pooler_layers(model))
    for name in fresh:
        owner = name.rpartition(".")[0]
        if owner and not list(_tied(modules[owner], {id(model.get_input_embeddings().weight)})):
            heads.add(owner)
    return sorted(name for name in heads if not any(name.startswith(f"{other}.") for other in heads))


def _tied(module: nn.Module, shared: set[int]) -> list[str]:
    return [name for name, parameter in module.named_parameters() if id(parameter) in shared]


def added_rows(config: Any, tokenizer: Any) -> list[int]:
    """The ids of added tokens whose rows learn beside the adapter: none, unless `adapter.train_added_tokens` says so."""
    if not config.adapter.train_added_tokens:
        return []
    return sorted(tokenizer.convert_tokens_to_ids(list(dict.fromkeys(config.model.add_tokens))))


def attach(
    adapter: Any, model: Any, fresh: Sequence[str], *, seed: int, rows: Sequence[int] = ()
) -> tuple[Any, list[str]]:
    """(PEFT's model around `model`, names of its parameters that belong to heads). The adapter starts as `seed` says.

    rows: ids of tokens whose rows learn besides. UserError when PEFT cannot put the adapter on this model.
    """
    import torch

    from tunewright.pretrained.quiet import quiet_transformers

    heads = head_modules(model, fresh)
    try:
        with quiet_transformers():
            from peft import get_peft_model

            config = adapter.peft_config(model, heads=heads, kind=task_kind(model))
            if rows:
                config.trainable_token_indices = {name: list(rows) for name in _token_tables(model)}
            torch.manual_seed(seed)
            adapted = get_peft_model(model, config)
    except (ValueError, KeyError, AttributeError, NotImplementedError, TypeError) as error:
        raise UserError(
            f"cannot be added to this model ({first_line(error)})",
            where=f"adapter {adapter.options.name}",
            found=type(model).__name__,
            hint="Set adapter.targets to names of its linear layers, or use another adapter.",
        ) from None
    adapter.start(adapted, seed=seed)
    cast_trainable_to_fp32(adapted)
    fit_virtual_tokens(adapted)
    return adapted, [name for name, p in adapted.named_parameters() if p.requires_grad and ".modules_to_save." in name]


def _token_tables(model: Any) -> list[str]:
    """Names of the modules with a row for each token: the embeddings, and the output layer where its rows are its own.

    UserError for an output layer with a bias, as masked models have it: PEFT would leave the bias out.
    """
    tables = [model.get_input_embeddings()]
    output = model.get_output_embeddings()
    if getattr(output, "bias", None) is not None:
        raise UserError(
            "PEFT cannot train single rows of an output layer that has a bias",
            where="adapter.train_added_tokens",
            found=type(model).__name__,
            hint="Remove it, or set adapter=none: then all rows are trained.",
        )
    if output is not None and output.weight is not tables[0].weight:
        tables.append(output)
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(table)] for table in tables]


def cast_trainable_to_fp32(adapted: nn.Module) -> None:
    """What learns is fp32 (or fp64); a base of half precision stays, and its states are widened where they enter a head."""
    import torch

    dtypes = {parameter.dtype for parameter in adapted.parameters() if not parameter.requires_grad}
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    for module in adapted.modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        for parameter in own:
            parameter.data = parameter.data.to(wide)
        if own and isinstance(module, (torch.nn.Linear, torch.nn.LayerNorm)):
            module.register_forward_pre_hook(_widened)


def _widened(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    import torch

    first, *rest = inputs
    if torch.is_autocast_enabled(first.device.type) or first.dtype == module.weight.dtype:
        return inputs
    return first.to(module.weight.dtype), *rest


def fit_virtual_tokens(adapted: Any) -> None:
    """See `models/virtual_tokens.py`; adapters without virtual tokens are left alone."""
    if adapted.active_peft_config.is_prompt_learning:
        from tunewright.models.virtual_tokens import fit

        fit(adapted)


def base_dtype(precision: str) -> Any:
    """What the base is loaded in: its checkpoint's own dtype, except where everything is computed in fp64."""
    import torch

    return torch.float64 if precision == "fp64" else "auto"


def summary(adapter: Any, adapted: nn.Module, heads: Sequence[str]) -> str:
    """`lora: 331,776 of 22,742,784 weights learn (1.46 %), and a head of 29,645; 257 MB less gradient …`"""
    from tunewright.models.linear import dtype_name, num_weights

    named = dict(adapted.named_parameters())
    head = sum(named[name].numel() for name in heads)
    learned = sum(p.numel() for p in named.values() if p.requires_grad) - head
    body = sum(num_weights(p) for name, p in named.items() if not p.requires_grad and ".original_module." not in name)
    saved = (body * _BYTES_TO_LEARN) / 2**20
    stays = Counter[str]()
    for parameter in named.values():
        stays[dtype_name(parameter)] += 0 if parameter.requires_grad else num_weights(parameter)
    shares = [f"{name} ({count / stays.total():.0%})" for name, count in sorted(stays.items()) if count]
    return (
        f"{adapter.options.name}: {learned:,} of {body + learned + head:,} weights learn ({learned / max(1, body + learned):.2%})"
        + (f", and a head of {head:,}" if head else "")
        + f"; the base stays in {' and '.join(shares)}. Saves {saved:,.0f} MB of gradients and optimizer state."
    )


def unmatched(
    targets: Sequence[str], found: Sequence[str], *, where: str = "adapter.targets", or_all: bool
) -> UserError:
    return UserError(
        f"no linear layer is named {quoted(targets)}",
        where=where,
        found=quoted(sorted({name.rpartition(".")[2] for name in found})),
        hint=f"Choose among these {counted(len(found), 'layer')}{', or all-linear' if or_all else ''}.",
    )


__all__ = [
    "AdapterContext",
    "AdapterOptions",
    "BaseAdapter",
    "attach",
    "refuse",
    "situation_of",
    "summary",
    "task_kind",
]
