"""`hub:owner/name` -> Row: a data set of the Hugging Face Hub, through `datasets` and its cache.

    hub:cornell-movie-review-data/rotten_tomatoes[train]      Row('hub:cornell-…[train]', 1, {'text': …, 'label': 1})

Respects HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. Never runs a data set's own code.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tunewright.errors import UserError
from tunewright.reading.batch_checks import validated
from tunewright.reading.formats.columnar import rows_of
from tunewright.reading.formats.folder import choose_split
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS: dict[str, tuple[str, ...]] = {"hub": ()}
READS_KEYS = {"config", "revision", "train_split", "validation_split", "test_split"}
_BATCH = 1024
_WAIT_SECONDS = 5.0
_GO_ONLINE = "It is not in the cache: connect to the network, unset HF_HUB_OFFLINE, or name a local file."


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError, with the choices where they are known, for everything that fails on the way."""
    import pyarrow

    data_set = load(name, options)
    split = choose_split(tuple(data_set), options.split, name)
    table = data_set[split]
    label = name if name.endswith("]") else f"{name}[{split}]"

    def rows(_: Source) -> Iterator[Row | Reject]:
        tables = table.with_format("arrow").iter(_BATCH)
        batches = (validated(batch) for piece in tables for batch in piece.to_batches())
        try:
            yield from rows_of(batches, label, options.max_row_bytes)
        except pyarrow.ArrowException as error:
            raise UserError(
                f"the downloaded copy is damaged ({str(error).splitlines()[0]})",
                where=label,
                hint="Delete it from the cache of data sets and read it again.",
            ) from error

    named = {column: _names(feature) for column, feature in table.features.items()}
    classes = {column: names for column, names in named.items() if names}
    return Source(label, format, rows, tuple(table.column_names), classes)


def load(name: str, options: ReadOptions) -> Any:
    """The data set's splits as a mapping split -> `datasets.Dataset`, downloaded where the cache lacks them."""
    hub_id = re.sub(r"\[[^\]]*\]$", "", name.removeprefix("hub:"))
    reached = _is_reached()
    if not reached and not _may_be_cached(hub_id):
        raise UserError("the Hub cannot be reached", where=name, hint=_GO_ONLINE)
    try:
        import datasets
    except ImportError:
        raise UserError(
            "Hub data sets need the package datasets", where=name, hint="Run: pip install datasets"
        ) from None
    try:
        with nullcontext() if reached else _offline(datasets.config):
            return datasets.load_dataset(hub_id, name=options.config, revision=options.revision, streaming=False)
    except Exception as error:  # datasets, huggingface_hub and the network raise dozens of kinds
        raise _explained(name, options, error) from error


def _is_reached() -> bool:
    """Whether the Hub can be reached, tried once with a short timeout; assumed behind a proxy."""
    from urllib.request import getproxies

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    if getproxies().get(address.scheme):
        return True
    port = address.port or {"http": 80}.get(address.scheme, 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_WAIT_SECONDS).close()
    except OSError:
        return False
    return True


def _may_be_cached(hub_id: str) -> bool:
    """Whether the caches of `datasets` and the Hub client have something of that name."""
    from huggingface_hub import constants

    built = Path(os.environ.get("HF_DATASETS_CACHE", Path(constants.HF_HOME) / "datasets"))
    kept = {_squashed(path.name) for path in built.glob("*")}  # `datasets` writes MyData as my_data
    downloaded = Path(constants.HF_HUB_CACHE) / f"datasets--{hub_id.replace('/', '--')}"
    return _squashed(hub_id.replace("/", "___")) in kept or downloaded.exists()


def _squashed(name: str) -> str:
    return name.replace("_", "").lower()


@contextmanager
def _offline(config: Any) -> Iterator[None]:
    """Uses the cache only: `datasets` would try to reach the Hub for half a minute first."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def _names(feature: Any) -> tuple[str, ...]:
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return tuple(names) if names else ()


def _explained(name: str, options: ReadOptions, error: Exception) -> UserError:
    text = str(error).strip()
    listed = re.search(r"(?:available configs|Available|Should be one of)\W*\[(.*?)\]", text, re.DOTALL)
    if listed:
        problem = (
            "the data set has several configurations"
            if options.config is None
            else f"no configuration {options.config!r}"
        )
        return UserError(problem, where=name, found=listed[1], hint="Set data.config to one of them.")
    if "scripts are no longer supported" in text:
        return UserError(
            "the data set is a loading script, and tunewright does not run the code of data sets",
            where=name,
            hint="Look on its Hub page for a Parquet version (the branch refs/convert/parquet: data.revision).",
        )
    kind = type(error).__name__
    if kind == "DatasetNotFoundError":
        hint = "Check the name (owner/name). A private or gated data set needs HF_TOKEN."
        return UserError("no such data set on the Hub", where=name, hint=hint)
    if "OfflineMode" in text or isinstance(error, ConnectionError):
        return UserError("the Hub cannot be reached", where=name, hint=_GO_ONLINE)
    problem = f"the data set cannot be loaded ({kind}: {' '.join(text.split()) or 'no reason given'})"
    return UserError(problem, where=name, hint="Download one of its files and name that.")
