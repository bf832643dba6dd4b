"""Load a pretrained model with a task's head: clean memory, known fresh parameters.

model, fresh = load_pretrained(AutoModelForSequenceClassification, source, seed=0, dtype=torch.float32, num_labels=10)
fresh                                   # ["classifier.weight", "classifier.bias"]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from tunewright.errors import UserError, first_line
from tunewright.models.mapped_memory import give_back, mapped_files
from tunewright.models.resize_embeddings import extend_embeddings
from tunewright.pretrained.folder_checks import check_folder, code_refused, wants_code
from tunewright.pretrained.model_files import ModelFolder
from tunewright.pretrained.presets import sized_to
from tunewright.pretrained.quiet import quiet_transformers
from tunewright.tokenization.encoder import load_tokenizer


def load_pretrained(
    auto_class: Any, source: ModelFolder, *, seed: int, dtype: torch.dtype | str, **config: Any
) -> tuple[nn.Module, list[str]]:
    """(model in `dtype` on the CPU, names of parameters that start fresh). A fresh head is a pure function of `seed`.

    UserError when the folder's weights cannot be loaded into a model of this task.
    """
    _refuse_quantized(source)
    torch.manual_seed(seed)
    if source.preset is not None:
        model = _from_scratch(auto_class, source, config).to(dtype)
        return model, [name for name, _ in model.named_parameters()]
    check_folder(source.folder, f"model {source.name}")
    try:
        with quiet_transformers():
            model, info = auto_class.from_pretrained(
                source.folder,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                **config,
            )
        _refuse_half_read(model.config)
    except Exception as error:  # a damaged or odd folder makes the library raise anything
        raise _cannot_be_loaded(auto_class, source, error) from None
    if auto_class.__name__ == "AutoModelForCausalLM":
        _refuse_looking_ahead(model, source)
    extend_embeddings(model, source)
    fresh = sorted({*info["missing_keys"], *(_name_of(key) for key in info.get("mismatched_keys", ()))})
    _own_memory(model)
    return model, [name for name in fresh if name in dict(model.named_parameters())]


def _refuse_half_read(config: Any) -> None:
    """ValueError for a config.json that describes a model within the model where this kind has none: it stays a bare dict."""
    from transformers import PretrainedConfig

    if not isinstance(config.get_text_config(), PretrainedConfig):
        raise ValueError(f"config.json describes a text model within a {config.model_type}, which has none")


def _cannot_be_loaded(auto_class: Any, source: ModelFolder, error: Exception) -> UserError:
    reason, where = first_line(error, limit=300), f"model {source.name}"
    if wants_code(error):
        return code_refused(where)
    if isinstance(error, SafetensorError):
        return UserError(
            f"its weights cannot be read ({reason})", where=where, hint="Restore the file, or get the model again."
        )
    if "weights only load failed" in reason.lower() or type(error).__name__ == "UnpicklingError":
        return UserError(
            "reading its .bin file could run code: it contains more than tensors",
            where=where,
            hint="Get the model with safetensors weights, or convert it where you trust it.",
        )
    if "Unrecognized configuration class" in reason:
        kind = source.json_file("config.json").get("model_type")
        wanted = auto_class.__name__.removeprefix("AutoModelFor")
        return UserError(
            f"transformers has no {wanted} for {kind}",
            where=where,
            hint="Choose a model of another kind, or another task.",
        )
    if "no file named" in reason.lower():
        return UserError(
            f"its weights are missing ({reason})",
            where=where,
            hint="Restore the file, or get (or train) the model again.",
        )
    return UserError(
        f"cannot be loaded for this task ({reason})",
        where=where,
        hint="Choose a model with safetensors weights that transformers knows for this task.",
    )


def _refuse_quantized(source: ModelFolder) -> None:
    """UserError for a checkpoint whose weights were rounded before: what they became cannot be proved, nor merged."""
    found = source.json_file("config.json").get("quantization_config")
    if found:
        raise UserError(
            "this checkpoint is quantized already",
            where=f"model {source.name}",
            found=str(found.get("quant_method", "quantization_config")) if isinstance(found, dict) else str(found)[:80],
            hint="Take the model it was made from; model.quantize=4bit beside adapter=lora rounds it here.",
        )


@torch.no_grad()
def _refuse_looking_ahead(model: Any, source: ModelFolder) -> None:
    """UserError for a model whose earlier logits change with a later token: in training it would see what it is to foretell."""
    if source.json_file("config.json").get("is_encoder_decoder"):
        raise UserError(
            "this is an encoder-decoder: only its decoder would be trained",
            where=f"model {source.name}",
            found=str(model.config.model_type),
            hint="Take a decoder, such as Llama or GPT-2.",
        )
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]]) % model.config.get_text_config().vocab_size
    was_training = model.training
    one, other = model.eval()(input_ids=ids, use_cache=False).logits[:, :3].float()
    model.train(was_training)
    tolerance = 1e-2 if model.dtype in (torch.bfloat16, torch.float16) else 1e-5
    if (one - other).abs().max() > tolerance * one.abs().max():
        raise UserError(
            "this model is bidirectional: it would see the tokens it has to predict",
            where=f"model {source.name}",
            found=str(model.config.model_type),
            hint="Take a decoder, such as Llama or GPT-2, or task=mlm.",
        )


def _from_scratch(auto_class: Any, source: ModelFolder, config: dict[str, Any]) -> nn.Module:
    """Random weights in fp32, whatever they become: a pure function of torch's seed."""
    from transformers import AutoConfig

    values = sized_to(source.json_file("config.json"), load_tokenizer(source))
    with quiet_transformers():
        return auto_class.from_config(
            AutoConfig.for_model(**values, **config), dtype=torch.float32, trust_remote_code=False
        )


def _name_of(mismatch: Any) -> str:
    return mismatch if isinstance(mismatch, str) else mismatch[0]


_reads_only: ContextVar[bool] = ContextVar("reads_only", default=False)


@contextmanager
def for_reading() -> Iterator[None]:
    """Inside, models are loaded to be used and not trained: tables that are only looked up in stay in their file."""
    token = _reads_only.set(True)
    try:
        yield
    finally:
        _reads_only.reset(token)


def _own_memory(model: nn.Module) -> None:
    """Copy what is memory-mapped: products of fp32 matrices depend on their alignment in the last bit.

    What was copied is given back at once, so that a model is never in memory twice. A table of embeddings multiplies nothing unless it is
    tied to an output: of one that is only read, the rows that texts need are enough.
    """
    kept = _lookup_tables(model) if _reads_only.get() else set()
    mapped = mapped_files(".safetensors")
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in kept:
            loaded = tensor.data
            tensor.data = loaded.clone(memory_format=torch.contiguous_format)
            give_back(loaded, mapped)


def _lookup_tables(model: nn.Module) -> set[int]:
    """Weights of embeddings that no other kind of module has too."""
    of_tables = {id(module.weight) for module in model.modules() if type(module) is nn.Embedding}
    others = (module for module in model.modules() if type(module) is not nn.Embedding)
    return of_tables - {id(parameter) for module in others for parameter in module.parameters(recurse=False)}


def load_as_named(folder: Path, *, dtype: str) -> Any:
    """The model class that config.json names, loaded by transformers alone and ready for use. UserError where it names none."""
    import transformers

    check_folder(folder, str(folder))
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            named = getattr(transformers, str((config.architectures or [""])[0]), None)
            if not (isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)):
                raise ValueError(f"config.json names no model of transformers: {config.architectures}")
            model = named.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
        _refuse_half_read(model.config)
        return model
    except Exception as error:  # a damaged or odd folder makes the library raise anything
        if wants_code(error):
            raise code_refused(str(folder)) from None
        reason = first_line(error, limit=300)
        raise UserError(
            f"cannot be loaded ({reason})", where=str(folder), hint="Restore its files, or train again."
        ) from None
