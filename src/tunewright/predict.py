"""Text -> Prediction, through the same encoding and batches as training.

    model = load("runs/reviews-3fa9c1")
    model.predict(["Great film", "Dull"])          [Prediction(label="positive", score=0.98, …), …]
    model.predict([("premise", "hypothesis")])     pairs, where the model was trained on pairs

Inputs are read in windows, sorted by length, cut into micro-batches of a token budget, and given back in their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from tunewright.adapted import load_network
from tunewright.errors import RowError, UserError
from tunewright.models.first_position import compute_first_position_only
from tunewright.models.generate import Sampling
from tunewright.models.load import choose_device, make_rows_independent, resolve_precision
from tunewright.models.memory import keep_freed_memory
from tunewright.models.rows import rows_in_flight
from tunewright.plugins import trust
from tunewright.records import Example, Row
from tunewright.saved import SavedModel, open_saved
from tunewright.tokens.batch import rows_of
from tunewright.tokens.encoded import EncodedRows
from tunewright.tokens.tokenizer import TextEncoder
from tunewright.training.engine import Settings, autocast

_WINDOW = 1_024
_CPU_TOKENS, _GPU_TOKENS = 2_048, 32_768

Text = str | tuple[str, str]
Refused = Callable[[str, str], object]
"""Told where an input stands and why it cannot be predicted."""


def token_budget(device: torch.device) -> int:
    return _GPU_TOKENS if device.type == "cuda" else _CPU_TOKENS


@dataclass(frozen=True)
class _NotEncoded:
    """In the place of a prediction."""

    reason: str


@dataclass
class Model:
    """A trained model, ready for use. Made by `load`."""

    saved: SavedModel
    task: Any
    encoder: TextEncoder
    network: nn.Module
    settings: Settings
    sampling: Sampling = field(default_factory=Sampling)
    """How a model that writes chooses its words."""

    def showing(self, num_labels: int) -> Model:
        """This model, its predictions with the scores of the `num_labels` most probable labels (10 as it is loaded)."""
        if not hasattr(self.task, "num_shown"):
            return self
        return replace(self, task=replace(self.task, num_shown=num_labels))

    def writing(self, sampling: Sampling) -> Model:
        """This model, its completions chosen so. UserError for a model that does not write."""
        if not self.task.writes:
            raise UserError(
                f"a {self.task.name} model writes no text", where=str(self.saved.folder), mend="Leave out how to write."
            )
        return replace(self, sampling=sampling)

    def write(self, prompt: str) -> Iterator[str]:
        """What follows a prompt, piece by piece as it is written. UserError for a model that does not write."""
        writer = self._writer()
        with autocast(self.settings):
            yield from writer.written(self._example(prompt, 1))

    def fitting(self, conversation: Any) -> tuple[Any, int, int]:
        """(a `Conversation` without its oldest turns where they leave no room for an answer, how many turns those are, how many
        tokens at the beginning of the rest are cut nevertheless, the system's turn first)."""
        return self._writer().fitting(conversation)

    def answer(self, conversation: Any) -> Iterator[str]:
        """What the model says next in a `text.messages.Conversation`, piece by piece. UserError for one that does not write."""
        writer = self._writer()
        with autocast(self.settings):
            yield from writer.written(Example(conversation.messages[-1].content, target=conversation))

    def _writer(self) -> Any:
        return self.writing(self.sampling).task.writer(self.network, self.encoder, self.sampling)

    def predict(self, texts: Iterable[Text], *, min_score: float = 0.0) -> list[Any]:
        """One prediction per input, in order: `Prediction`, `TaggedText`, … as the task decodes. min_score: a less probable label
        becomes None."""
        return list(self.stream(texts, min_score=min_score))

    def stream(self, texts: Iterable[Text], *, min_score: float = 0.0, refused: Refused | None = None) -> Iterator[Any]:
        """The same for endless inputs: predictions come window by window. UserError for an input that is no text.

        refused: is told of an input that the model cannot predict, which then gets no prediction; otherwise that is a UserError.
        """
        if isinstance(texts, str):
            raise UserError("a list of texts is predicted", found="one text", mend="Write predict([text]).")
        examples = (self._example(text, number) for number, text in enumerate(texts, start=1))
        for number, found in enumerate(self._predicted(examples), start=1):
            if isinstance(found, _NotEncoded):
                (refused or _refuse)(f"input {number}", found.reason)
            else:
                yield found.above(min_score)

    def predict_rows(
        self, rows: Iterable[Row], *, min_score: float = 0.0, refused: Refused | None = None
    ) -> Iterator[tuple[Row, Any]]:
        """Rows of a file with their predictions; the columns are those of training. RowError becomes a UserError with the line.

        refused: as in `stream`.
        """
        ours, theirs = itertools.tee(rows)
        examples = (self._row_example(row) for row in ours)
        for found, row in zip(self._predicted(examples), theirs, strict=True):
            if isinstance(found, _NotEncoded):
                (refused or _refuse)(row.address, found.reason)
            else:
                yield row, found.above(min_score)

    def scores(self, texts: Iterable[Text]) -> np.ndarray:
        """Of a classifier: probabilities, float64 `(texts, labels)`, columns in the order of `model.task.labels`."""
        examples = (self._example(text, number) for number, text in enumerate(texts, start=1))
        found = [scores for _, _, scores in self._scored(examples)]
        return np.concatenate(found) if found else np.zeros((0, len(self.task.labels)))

    def _example(self, text: Text, number: int) -> Example:
        pair_expected = self.task.columns.pair is not None
        if isinstance(text, (tuple, list)) and len(text) == 2 and getattr(self.task, "reads_pairs_too", False):
            pair_expected = True
        for part in text if isinstance(text, (tuple, list)) else (text,):
            if isinstance(part, str) and any("\ud800" <= character <= "\udfff" for character in part):
                raise UserError(
                    "a lone surrogate is no text", where=f"input {number}", mend="Decode the text as UTF-8."
                )
        if isinstance(text, str) and not pair_expected:
            return Example(text)
        are_two = isinstance(text, (tuple, list)) and len(text) == 2 and all(isinstance(one, str) for one in text)
        if are_two and pair_expected:
            return Example(text[0], text[1])
        raise UserError(
            "this model reads " + ("pairs of texts" if pair_expected else "single texts"),
            where=f"input {number}",
            found=repr(text)[:80],
            mend="Give (first, second), or --pair A B." if pair_expected else "Give a text.",
        )

    def _row_example(self, row: Row) -> Example:
        try:
            return self.task.to_input(row)
        except RowError as error:
            raise UserError(
                error.reason, where=row.address, mend="Mend the row; every input gets one prediction."
            ) from None

    def _predicted(self, examples: Iterable[Example]) -> Iterator[Any]:
        if self.task.writes:
            writer, examples = self._writer(), iter(examples)
            while asked := list(itertools.islice(examples, _WINDOW)):
                with autocast(self.settings):
                    yield from writer.complete(asked)
            return
        for window, encoded, scores in self._scored(examples):
            bounds = np.searchsorted(encoded.example, np.arange(len(window) + 1))
            for number, (example, start, stop) in enumerate(zip(window, bounds, bounds[1:], strict=False)):
                if number in encoded.rejected:
                    yield _NotEncoded(encoded.rejected[number])
                    continue
                rows = range(int(start), int(stop))
                yield self.task.decode(example, [encoded[row] for row in rows], [scores[row] for row in rows])

    def _scored(self, examples: Iterable[Example]) -> Iterator[tuple[list[Example], EncodedRows, Any]]:
        examples = iter(examples)
        while window := list(itertools.islice(examples, _WINDOW)):
            encoded = self.task.encode(window, self.encoder)
            yield window, encoded, self.task.scores(self._outputs_of(encoded))

    def _outputs_of(self, encoded: EncodedRows) -> list[np.ndarray]:
        lengths = encoded.lengths
        outputs: list[Any] = [None] * len(encoded)
        with torch.inference_mode(), autocast(self.settings):
            for piece in self.settings.cut(lengths):
                rows = [encoded[int(i)] for i in piece]
                batch = self.task.collate_inputs(rows, self.encoder, self.settings.row_padding)
                batch = batch.to(self.settings.device)
                with rows_in_flight(rows_of(batch, self.encoder)):
                    found = self.task.row_outputs(self.task.outputs(self.network, batch), batch)
                for index, output in zip(piece, found, strict=True):
                    outputs[int(index)] = output
        return outputs


def _refuse(where: str, reason: str) -> None:
    raise UserError(reason, where=where, mend="Mend it; every input gets one prediction.")


def load(run: Any, *, device: str = "auto", precision: str = "auto", plugins: Iterable[str] = ()) -> Model:
    """Open a trained model: a run folder, its `model/` folder, or what `train` returned.

    precision: auto (bf16 autocast where the device is fast at it), bf16, fp32 or fp64. plugins: modules of your own whose code may
    run, where the run's task or adapter is one. UserError when there is no model.
    """
    trust(plugins)
    saved = open_saved(run if isinstance(run, (str, Path)) else run.folder)
    keep_freed_memory()
    task, encoder = saved.task(), saved.encoder()
    on = choose_device(device)
    precision = resolve_precision(precision, on)
    network = load_network(task, saved, dtype=torch.float64 if precision == "fp64" else torch.float32)
    cast(Any, network).config.pad_token_id = encoder.pad_token_id
    if on.type == "cpu":
        make_rows_independent(network)
        compute_first_position_only(network)
    network.to(on).eval()
    settings = Settings(token_budget=token_budget(on), precision=precision, device=on)
    return Model(saved, task, encoder, network, settings, Sampling(**task.sampling_defaults))
