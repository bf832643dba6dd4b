"""Load a pretrained model with a task's head, ready for exact training: clean memory, known fresh parameters, row dropout.

model, fresh = load_pretrained(AutoModelForSequenceClassification, source, seed=0, dtype=torch.float32, num_labels=10)
fresh                                   # ["classifier.weight", "classifier.bias"]
note = install_row_keyed_dropout_and_attention(model)     # row-keyed dropout and row attention on a CPU, or why not
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tunewright.batching.row_context import RowContext, row_context
from tunewright.errors import UserError
from tunewright.execution.cpu import attention
from tunewright.execution.cpu.equivalence_check import CANNOT, LENGTHS, trial_outputs
from tunewright.execution.row_dropout import install_row_dropout, remove_row_dropout
from tunewright.models.resize_embeddings import extend_embeddings
from tunewright.pretrained.folder_checks import check_folder, code_refused, wants_code
from tunewright.pretrained.model_files import ModelFolder
from tunewright.pretrained.presets import sized_to
from tunewright.tokenization.encoder import load_tokenizer

_RANDOM_WORDS = ("dropout", "bernoulli", "rand", "uniform", "normal_", "multinomial")


def load_pretrained(
    auto_class: Any, source: ModelFolder, *, seed: int, dtype: torch.dtype | str, **config: Any
) -> tuple[nn.Module, list[str]]:
    """(model in `dtype` on the CPU, names of parameters that start fresh). A fresh head is a pure function of `seed`.

    UserError when the folder's weights cannot be loaded into a model of this task.
    """
    attention.register()
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
    reason, where = (str(error).strip() or type(error).__name__).splitlines()[0][:300], f"model {source.name}"
    if wants_code(error):
        return code_refused(where)
    if isinstance(error, SafetensorError):
        return UserError(
            f"its weights cannot be read ({reason})", where=where, hint="Restore the file, or get the model again."
        )
    if "weights only load failed" in reason.lower() or type(error).__name__ == "UnpicklingError":
        return UserError(
            "its .bin file is no plain pickle of tensors, and reading it could run code",
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
            f"its weights are not there ({reason})",
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
            "an encoder-decoder: its decoder alone would learn",
            where=f"model {source.name}",
            found=str(model.config.model_type),
            hint="Take a decoder, such as Llama or GPT-2.",
        )
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]]) % model.config.get_text_config().vocab_size
    was_training = model.training
    with row_context(RowContext(seed=0, epoch=0, row_ids=np.array([0, 1]), lengths=np.array([4, 4]), width=4)):
        one, other = model.eval()(input_ids=ids, use_cache=False).logits[:, :3].float()
    model.train(was_training)
    tolerance = 1e-2 if model.dtype in (torch.bfloat16, torch.float16) else 1e-5
    if (one - other).abs().max() > tolerance * one.abs().max():
        raise UserError(
            "this model reads both ways: it would see what it is to foretell",
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


def _own_memory(model: nn.Module) -> None:
    """Copy what is memory-mapped: products of fp32 matrices depend on their alignment in the last bit."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def install_row_keyed_dropout_and_attention(model: Any) -> str | None:
    """Give a CPU model row-keyed dropout and row attention, after proving by a trial run that nothing else is random.

    Returns None when that holds; "" when the model keeps its own attention, in which nothing is random; else why it keeps its
    stock dropout (it is then put back as it was).
    """
    stock_attention = model.config._attn_implementation
    num_sites = install_row_dropout(model)
    was_training = model.training
    reason = None
    with quiet_transformers():
        try:
            model.set_attn_implementation(attention.NAME)
            tried = _trial(model.train())
            if tried.random:
                raise _Unreached(f"it calls {', '.join(sorted(tried.random))} by itself")
            if not tried.reached:
                raise _Unreached("its attention does not go through transformers' AttentionInterface")
        except (_Unreached, *CANNOT) as error:
            model.set_attn_implementation("eager" if num_sites else stock_attention)
            reason = "" if _only_rows_are_random(model) else str(error)
        if reason:
            remove_row_dropout(model)
    model.train(was_training)
    return reason


def _only_rows_are_random(model: Any) -> bool:
    """With the model's own attention and row-keyed dropout: does nothing draw from torch's generator, and no mask depend on padding?"""
    try:
        narrow, wide = _trial(model), _trial(model, width=max(LENGTHS) + 3)
    except CANNOT:
        return False
    alike = all(
        one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4)
        for one, other in zip(narrow.rows, wide.rows, strict=True)
    )
    return alike and not narrow.random


class _Unreached(Exception):
    """A source of randomness, or the attention, that our modules did not replace."""


@dataclass(frozen=True)
class _Tried:
    """reached: was our attention called? random: the random operations that were. rows: what came out for each row's own tokens."""

    reached: bool
    random: set[str]
    rows: list[torch.Tensor]


def _trial(model: Any, *, width: int = max(LENGTHS)) -> _Tried:
    called: list[bool] = []
    with attention.on_call(lambda: called.append(True)), _RandomOperations() as seen:
        rows = trial_outputs(model, width=width)
    return _Tried(bool(called), seen.names, rows)


class _RandomOperations(TorchDispatchMode):
    """Collects the names of random operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if any(word in name for word in _RANDOM_WORDS):
            self.names.add(name)
        return func(*args, **(kwargs or {}))


def draws_randomly(model: Any) -> bool:
    """Does a pass in training draw from torch's generator? True also where no trial can tell."""
    was_training = model.training
    try:
        return bool(_trial(model.train()).random)
    except CANNOT:
        return True
    finally:
        model.train(was_training)


def fast_bf16(device: torch.device) -> bool:
    """Does the device multiply bf16 matrices faster than fp32 ones?"""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _multiplies_bf16()
    return False


def resolve_precision(wanted: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the device is fast at it, else fp32."""
    return ("bf16" if fast_bf16(device) else "fp32") if wanted == "auto" else wanted


def _multiplies_bf16() -> bool:
    """Does this processor multiply bf16 matrices faster than fp32 ones? It is asked and not timed: a machine must choose alike every time.

    Those with AMX have tiles for it (4 times fp32). AMD's avx512_bf16 does two products where fp32 does one (2.3 times on an
    EPYC of the fourth generation); an Intel Xeon with the same instructions and no AMX was slower in bf16 (0.6 times).
    """
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        able = capabilities()
        by_amd = str(able.get("cpu_name", "")).startswith("AMD")
        return bool(able.get("amx_bf16") or (by_amd and able.get("avx512_bf16")))
    older = getattr(torch.cpu, "_is_amx_tile_supported", None)  # before torch 2.11
    return older is not None and bool(older())


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU when there is one. UserError for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"no device {name!r} here ({str(error).splitlines()[0][:120]})",
            where="train.device",
            hint="Set train.device=auto.",
        ) from None
    return device


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bar, load report and warnings among libraries: we say ourselves which parameters start fresh."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(
        logging.ERROR
    )  # it misses kernels that are not used here
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()


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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(
            f"cannot be loaded ({reason})", where=str(folder), hint="Restore its files, or train again."
        ) from None
