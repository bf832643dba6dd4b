"""A config's mistakes that can be told in a moment, refused before torch is imported. Behind `train`, `check` and `prepare`.

refuse_early(config)      UserError: train.freeze: cannot freeze 99 layers; found 6 layers. Set train.freeze to body or …

Everything here is said again, later and slower, by whoever uses the value: this room saves the user the wait, and no more.
"""

from __future__ import annotations

from tunewright.adapters.base import refuse, refuse_added_tokens, refuse_quantized, situation_of
from tunewright.adapters.config import adapter_of
from tunewright.config.run_config import RunConfig
from tunewright.errors import UserError
from tunewright.preparation import open_inputs
from tunewright.pretrained.model_files import ModelFolder
from tunewright.runs.resume import check_folder, is_finished
from tunewright.tokenization.encoder import resolve_max_length

_SMALL_LENGTH = 16
"""A tokenizer puts fewer control tokens than this around a text: longer limits need no look at it."""
_NUM_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def refuse_early(config: RunConfig, *, trains: bool = True) -> None:
    """UserError for a wrong task, folder, file, column, model, length or number of layers.

    trains: whether a run is to be started in the config's folder; one that is finished needs none of its files.
    """
    if trains:
        check_folder(config)
        if is_finished(config):
            return
    if not _on_the_hub(config):
        open_inputs(config)
    model = config.model.locate()
    _check_length(config, model)
    _check_layers(config, model)
    refuse_quantized(config)
    refuse_added_tokens(config)
    adapter = adapter_of(config.adapter)
    if adapter is not None:
        refuse(adapter, situation_of(config, model))


def _on_the_hub(config: RunConfig) -> bool:
    """Whether opening the data may take minutes: then it is done once, by `prepare`."""
    data = config.data
    paths = [
        path
        for one in (data.train, data.validation, data.test)
        for path in ([one] if isinstance(one, str) else one or ())
    ]
    return any(path.startswith("hub:") for path in paths)


def _check_length(config: RunConfig, model: ModelFolder) -> None:
    wanted = config.data.max_length
    if wanted == "auto":
        return
    resolve_max_length(model, wanted)
    file = model.tokenizer_folder / "tokenizer.json"
    if wanted >= _SMALL_LENGTH or not file.is_file():
        return
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except (
        Exception
    ):  # a broken file: the library raises a bare Exception, and loading the tokenizer says what is wrong
        return
    num_special = max(tokenizer.num_special_tokens_to_add(is_pair) for is_pair in (False, True))
    if wanted <= num_special:
        raise UserError(
            "data.max_length leaves no room for text",
            found=str(wanted),
            expected=f"at least {num_special + 1}",
            hint="Raise data.max_length.",
        )


def _check_layers(config: RunConfig, model: ModelFolder) -> None:
    wanted, values = config.train.freeze, model.json_file("config.json")
    num_layers = next((values[key] for key in _NUM_LAYERS if isinstance(values.get(key), int)), None)
    if isinstance(wanted, int) and num_layers is not None and wanted > num_layers:
        raise UserError(
            f"cannot freeze {wanted} layers",
            where="train.freeze",
            found=f"{num_layers} layers",
            hint="Set train.freeze to body or a smaller number.",
        )
