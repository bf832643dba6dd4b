"""Text -> Prediction, through the same encoding and batches as training.

    model = load("runs/reviews-3fa9c1")
    model.predict(["Great film", "Dull"])          [Prediction(label="positive", score=0.98, …), …]
    model.predict([("premise", "hypothesis")])     pairs, where the model was trained on pairs

Inputs are read in windows, sorted by length, cut into micro-batches of a token budget, and given back in their order.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np
import torch
from torch import nn

from tunewright.artifacts.adapter_folder import load_network
from tunewright.artifacts.model_folder import Run, SavedModel, open_saved
from tunewright.artifacts.run_files import CONFIG
from tunewright.chat.messages import Conversation
from tunewright.errors import RowError, UserError, renamed
from tunewright.execution import before_models, prepare_model
from tunewright.execution.base import AUTO, Execution, Wanted
from tunewright.generation.generate import Sampling
from tunewright.models.device import choose_device, resolve_precision
from tunewright.models.loading import for_reading
from tunewright.plugins import trust
from tunewright.preparation import open_like, options_of_run
from tunewright.reading.in_memory import one_file
from tunewright.reading.locate import matching
from tunewright.reading.tables import TableLike, column_names, holds_rows, splits_in, with_columns
from tunewright.records import (
    AnyPrediction,
    Batch,
    Example,
    NoAnswer,
    Prediction,
    Reject,
    Row,
    TaggedText,
    prediction_columns,
)
from tunewright.reporting import html
from tunewright.tasks.base import Task
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.forward import forward_rows

WINDOW_ROWS, WRITING_ROWS = 1_024, 128
"""Rows that are sorted by length together; fewer where a model writes, and each takes long."""
WINDOW_CHARACTERS = 1 << 22
"""Of long rows fewer are held at a time: memory does not depend on how many there are."""

_ROWS_SHOWN, _LONGEST_PATH = 50, 1_000
Text = str | tuple[str, str]
TableT = TypeVar("TableT", bound=TableLike)
T = TypeVar("T")
Refused = Callable[[str, str], object]
"""Told where an input stands and why it cannot be predicted."""


class Predictions(list[AnyPrediction]):
    """A list of predictions that a notebook shows as a table, entities coloured."""

    def _repr_html_(self) -> str:
        rows = [[number, *_cells(one)] for number, one in enumerate(self[:_ROWS_SHOWN])]
        title = f"the first {_ROWS_SHOWN} of {len(self):,} predictions" if len(self) > _ROWS_SHOWN else ""
        return html.table(["", "prediction", "score"], rows, title=title)


def _cells(one: AnyPrediction) -> list[object]:
    """A prediction as its cells of a table: what is said, and how sure the model is."""
    if isinstance(one, TaggedText):
        return [html.with_entities(one.text, [(e.start, e.end, e.label) for e in one.entities]), ""]
    values = one.as_dict()
    if isinstance(one, Prediction):
        return [one.label if one.labels is None else ", ".join(one.labels), one.score]
    return [values.get("text", values), values.get("score", "")]


def _is_path(text: object) -> bool:
    """Whether this is a path, the name of a file, or a pattern of such names."""
    if not isinstance(text, str) or len(text) > _LONGEST_PATH or "\0" in text or "\n" in text:
        return isinstance(text, Path)
    return Path(text).is_file() or bool(glob.glob(text))


def _are_paths(texts: object) -> bool:
    """Whether these are paths by their class: texts of a list are texts."""
    return isinstance(texts, Sequence) and len(texts) > 0 and all(isinstance(one, Path) for one in texts)


@dataclass(repr=False)
class Model:
    """A trained model, ready for use. Made by `load`."""

    saved: SavedModel
    task: Task
    encoder: TextEncoder
    network: nn.Module
    execution: Execution
    sampling: Sampling = field(default_factory=Sampling)
    """How a model that writes chooses its words."""

    def with_top_k(self, num_labels: int) -> Model:
        """This model, its predictions with the scores of the `num_labels` most probable labels (10 as it is loaded)."""
        return replace(self, task=self.task.with_num_shown(num_labels))

    def writing(self, sampling: Sampling) -> Model:
        """This model, its completions chosen so. UserError for a model that does not write."""
        if not self.task.generates_text:
            raise UserError(
                f"a {self.task.name} model writes no text", where=str(self.saved.folder), hint="Leave out how to write."
            )
        return replace(self, sampling=sampling)

    def write(self, prompt: str) -> Iterator[str]:
        """What follows a prompt, piece by piece as it is written. UserError for a model that does not write."""
        writer = self._writer()
        with self.execution.autocast():
            yield from writer.written(self.example(prompt, 1))

    def trim_history(self, conversation: Conversation) -> tuple[Conversation, int, int]:
        """(a `Conversation` without its oldest turns where they leave no room for an answer, how many turns those are, how many
        tokens at the beginning of the rest are cut nevertheless, the system's turn first)."""
        return self._writer().trim_history(conversation)

    def reply(self, conversation: Conversation) -> Iterator[str]:
        """What the model says next in a `chat.messages.Conversation`, piece by piece. UserError for one that does not write."""
        writer = self._writer()
        with self.execution.autocast():
            yield from writer.written(Example(conversation.messages[-1].content, target=conversation))

    showing = renamed("showing", "with_top_k")
    fitting = renamed("fitting", "trim_history")
    answer = renamed("answer", "reply")

    def _writer(self) -> Any:
        return self.writing(self.sampling).task.writer(self.network, self.encoder, self.sampling)

    @property
    def folder(self) -> Path:
        """Of the run; of the model, where that stands alone."""
        run = self.saved.folder.parent
        return run if (run / CONFIG).is_file() else self.saved.folder

    @overload
    def predict(self, texts: TableT, *, min_score: float = 0.0) -> TableT: ...
    @overload
    def predict(self, texts: Sequence[Mapping[str, object]], *, min_score: float = 0.0) -> list[dict[str, object]]: ...
    @overload
    def predict(self, texts: Mapping[str, object], *, min_score: float = 0.0) -> dict[str, object]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(
        self, texts: str | Path | Sequence[Path] | Iterable[Text], *, min_score: float = 0.0
    ) -> list[AnyPrediction]: ...
    def predict(self, texts: Any, *, min_score: float = 0.0) -> Any:
        """One prediction per input, in order: `Prediction`, `TaggedText`, … as the task decodes. min_score: a less probable label
        becomes None.

        Rows come back as what they came as, with the predictions as further columns (`predicted_label`, `score`, …): a pandas or polars
        DataFrame, a pyarrow Table, a datasets.Dataset or DatasetDict, a list or dict of dicts, a dict of columns. A path gives the
        predictions of the file's rows. UserError for a row that cannot be predicted.
        """
        if splits_in(texts):
            return type(texts)({name: self.predict(rows, min_score=min_score) for name, rows in texts.items()})
        if holds_rows(texts):
            with one_file(texts, "data") as path:
                predictions = self._of_file(path, min_score)
            return with_columns(texts, prediction_columns(predictions, column_names(texts)))
        if _is_path(texts) or _are_paths(texts):
            paths = matching(str(texts)) if isinstance(texts, str | Path) else [str(path) for path in texts]
            return Predictions(one for path in paths for one in self._of_file(path, min_score))
        return Predictions(self.stream(texts, min_score=min_score))

    def _of_file(self, path: str, min_score: float) -> list[AnyPrediction]:
        """The predictions of all rows. UserError for the first that cannot be predicted."""
        options = options_of_run(self.saved.folder.parent, path)
        source = open_like(path, options, self.task, labelled=False)
        if source.by_word is not None:
            raise UserError(
                "a row for each word, and a prediction is for a row", where=source.name,
                hint="Give a row for each sentence: a list of words in one column.",
            )  # fmt: skip
        rows = (self._usable(row) for row in source.rows())
        return [found for _, found in self.predict_rows(rows, min_score=min_score)]

    def _usable(self, row: Row | Reject) -> Row:
        if isinstance(row, Reject):
            raise UserError(row.reason, where=row.address, hint="Fix the row; every input gets one prediction.")
        return row

    def __repr__(self) -> str:
        names = self.task.known_names
        shown = (
            f", {len(names)} {self.task.label_noun}s ({', '.join(names[:8])}{', …' if len(names) > 8 else ''})"
            if names
            else ""
        )
        size = sum(parameter.numel() for parameter in self.network.parameters())
        return (
            f"{type(self).__name__} {self.saved.folder}: {self.task.name}{shown}\n"
            f"  {type(self.network).__name__}, {size / 1e6:.1f} M parameters, {self.execution.precision} on {self.execution.device}, "
            f"texts of at most {self.encoder.max_length} tokens"
        )

    def stream(
        self, texts: Iterable[Text], *, min_score: float = 0.0, refused: Refused | None = None
    ) -> Iterator[AnyPrediction]:
        """The same for endless inputs: predictions come window by window. UserError for an input that is no text.

        refused: is told of an input that the model cannot predict, which then gets no prediction; otherwise that is a UserError.
        """
        if isinstance(texts, str):
            raise UserError("a list of texts is predicted", found="one text", hint="Write predict([text]).")
        examples = ((f"input {number}", self.example(text, number)) for number, text in enumerate(texts, start=1))
        for where, found in self._answered(examples, min_score):
            if isinstance(found, NoAnswer):
                (refused or _refuse)(where, found.reason)
            else:
                yield found

    def predict_rows(
        self, rows: Iterable[Row], *, min_score: float = 0.0, refused: Refused | None = None
    ) -> Iterator[tuple[Row, AnyPrediction]]:
        """Rows of a file with their predictions; the columns are those of training. RowError becomes a UserError with the line.

        refused: as in `stream`.
        """
        for row, found in self._answered(((row, self._row_example(row)) for row in rows), min_score):
            if isinstance(found, NoAnswer):
                (refused or _refuse)(row.address, found.reason)
            else:
                yield row, found

    def answers(
        self, examples: Sequence[Example | NoAnswer], *, min_score: float = 0.0
    ) -> list[AnyPrediction | NoAnswer]:
        """One prediction per example of a window (see `windows`), in order. A `NoAnswer` stays; what the model cannot predict is one."""
        asked = [one for one in examples if isinstance(one, Example)]
        found = iter(self._predicted(asked) if asked else ())
        answers = (next(found) if isinstance(one, Example) else one for one in examples)
        empty = self.task.empty_answer
        return [
            replace(one, empty=empty) if isinstance(one, NoAnswer) else one.with_min_score(min_score) for one in answers
        ]

    def windows(self, inputs: Iterable[T | None], example_of: Callable[[T], Example | NoAnswer]) -> Iterator[list[T]]:
        """Neighbours that are computed together: sorted by length, cut into micro-batches, given back in their order.

        Where windows end depends on what stands in them and before them alone, so that memory is bounded and a prediction can go on
        at the end of one with the same results. None among the inputs ends a window early: what came so far is wanted now.
        What `inputs` raises is raised behind the window of what came before.
        """
        most = WRITING_ROWS if self.task.generates_text else WINDOW_ROWS
        window: list[T] = []
        num_characters = 0
        failure: Exception | None = None
        inputs = iter(inputs)
        while True:
            try:
                one = next(inputs)
            except StopIteration:
                break
            except UserError as error:
                failure = error
                break
            if one is not None:
                window.append(one)
                num_characters += _size(example_of(one))
            if window and (one is None or len(window) == most or num_characters >= WINDOW_CHARACTERS):
                yield window
                window, num_characters = [], 0
        if window:
            yield window
        if failure is not None:
            raise failure

    def _answered(self, inputs: Iterable[tuple[T, Example]], min_score: float) -> Iterator[tuple[T, Any]]:
        for window in self.windows(inputs, lambda one: one[1]):
            answers = self.answers([example for _, example in window], min_score=min_score)
            yield from zip((one for one, _ in window), answers, strict=True)

    def scores(self, texts: Iterable[Text]) -> np.ndarray:
        """Of a classifier: probabilities, float64 `(texts, labels)`, columns in the order of `model.task.labels`."""
        examples = (self.example(text, number) for number, text in enumerate(texts, start=1))
        found = [
            self.task.scores(self._outputs_of(self.task.encode(window, self.encoder)))
            for window in self.windows(examples, lambda one: one)
        ]
        return np.concatenate(found) if found else np.zeros((0, len(self.task.known_names)))

    def example(self, text: Text, number: int) -> Example:
        """A text, or a pair, as an example. number: of the input, for messages. UserError for what the model does not read."""
        are_two = isinstance(text, (tuple, list)) and len(text) == 2
        pair_expected = self.task.reads_pairs and (are_two or not self.task.reads_texts)
        for part in text if isinstance(text, (tuple, list)) else (text,):
            if isinstance(part, str) and any("\ud800" <= character <= "\udfff" for character in part):
                raise UserError(
                    "an unpaired surrogate is not valid text", where=f"input {number}", hint="Decode the text as UTF-8."
                )
        if isinstance(text, str) and not pair_expected:
            return Example(text)
        if are_two and pair_expected and all(isinstance(one, str) for one in text):
            return Example(text[0], text[1])
        raise UserError(
            "this model reads " + ("pairs of texts" if pair_expected else "single texts"),
            where=f"input {number}",
            found=repr(text)[:80],
            hint="Give (first, second), or --pair A B." if pair_expected else "Give a text.",
        )

    def _row_example(self, row: Row) -> Example:
        try:
            return self.task.to_input(row)
        except RowError as error:
            raise UserError(
                error.reason, where=row.address, hint="Fix the row; every input gets one prediction."
            ) from None

    def _predicted(self, window: Sequence[Example]) -> Iterator[Any]:
        if self.task.generates_text:
            writer = self._writer()
            with self.execution.autocast():
                yield from writer.complete(window)
            return
        encoded = self.task.encode(window, self.encoder)
        scores = self.task.scores(self._outputs_of(encoded)) if len(encoded) else []
        bounds = np.searchsorted(encoded.example, np.arange(len(window) + 1))
        for number, (example, start, stop) in enumerate(zip(window, bounds, bounds[1:], strict=False)):
            if number in encoded.rejected:
                yield NoAnswer(encoded.rejected[number])
                continue
            rows = range(int(start), int(stop))
            yield self.task.decode(example, [encoded[row] for row in rows], [scores[row] for row in rows])

    def _outputs_of(self, encoded: EncodedRows) -> list[np.ndarray]:
        def batch_of(positions: np.ndarray) -> Batch:
            rows = [encoded[int(position)] for position in positions]
            return self.task.collate_inputs(rows, self.encoder, self.execution.padding)

        def compute(batch: Batch) -> tuple[list[np.ndarray], None]:
            return self.task.row_outputs(self.task.outputs(self.network, batch), batch), None

        with torch.inference_mode():
            outputs, _ = forward_rows(self.network, self.encoder, self.execution, encoded.lengths, batch_of, compute)
        return outputs


def _size(example: Example | NoAnswer) -> int:
    return len(example.text) + len(example.pair or "") if isinstance(example, Example) else 0


def _refuse(where: str, reason: str) -> None:
    raise UserError(reason, where=where, hint="Fix it; every input gets one prediction.")


def load(
    run: Run,
    *,
    device: str = "auto",
    precision: str = "auto",
    execution: str = AUTO,
    plugins: Iterable[str] = (),
    check: bool = True,
    say: Callable[[str], object] = lambda _: None,
) -> Model:
    """Open a trained model: a run folder, its `model/` folder, or what `train` returned.

    precision: auto (bf16 autocast where the device is fast at it), bf16, fp32 or fp64. execution: auto, or plain: without the fast
    path. plugins: modules of your own whose code may run, where the run's task or adapter is one. check: that the files are those that
    were saved; say: told what else has changed.
    UserError when there is no model, or it is not what was saved.
    """
    trust(plugins)
    saved = open_saved(run)
    if check:
        saved.check(say=say)
    before_models(execution)
    task, encoder = saved.task(), saved.encoder()
    on = choose_device(device)
    precision = resolve_precision(precision, on)
    with for_reading():
        network = load_network(task, saved, dtype=torch.float64 if precision == "fp64" else torch.float32)
    refuse_other_names(saved, task, network)
    cast(Any, network).config.pad_token_id = encoder.pad_token_id
    wanted = Wanted(execution, on, precision, is_training=False)
    prepared = prepare_model(network, wanted)
    network.to(on).eval()
    return Model(saved, task, encoder, network, prepared, Sampling(**task.sampling_defaults))


@overload
def predict(
    run: Run, texts: TableT, *, min_score: float = ..., device: str = ..., precision: str = ..., execution: str = ...,
    plugins: Iterable[str] = ...,
) -> TableT: ...  # fmt: skip
@overload
def predict(
    run: Run, texts: Sequence[Mapping[str, object]], *, min_score: float = ..., device: str = ..., precision: str = ...,
    execution: str = ..., plugins: Iterable[str] = ...,
) -> list[dict[str, object]]: ...  # fmt: skip
@overload
def predict(  # type: ignore[overload-overlap]
    run: Run, texts: Mapping[str, object], *, min_score: float = ..., device: str = ..., precision: str = ..., execution: str = ...,
    plugins: Iterable[str] = ...,
) -> dict[str, object]: ...  # fmt: skip
@overload
def predict(
    run: Run, texts: str | Path | Sequence[Path] | Iterable[Text], *, min_score: float = ..., device: str = ..., precision: str = ..., execution: str = ...,
    plugins: Iterable[str] = ...,
) -> list[AnyPrediction]: ...  # fmt: skip
def predict(
    run: Run, texts: Any, *, min_score: float = 0.0, device: str = "auto", precision: str = "auto", execution: str = AUTO,
    plugins: Iterable[str] = (),
) -> Any:  # fmt: skip
    """Load a trained model and predict once: `load(run).predict(texts)`. For several calls, keep what `load` gives."""
    model = load(run, device=device, precision=precision, execution=execution, plugins=plugins)
    return model.predict(texts, min_score=min_score)


def refuse_other_names(saved: SavedModel, task: Task, network: Any) -> None:
    """UserError where the task has more or fewer names (labels, tags) than the model has outputs."""
    names = task.output_names
    outputs = getattr(network.config, "num_labels", None)
    is_named = bool(names) or not {"labels", "types"}.isdisjoint(saved.facts["task_state"])
    if is_named and outputs is not None and len(names) != outputs:
        raise UserError(
            f"the model has {outputs} outputs, and {len(names)} names are given for them",
            where=str(saved.folder),
            hint="Restore tunewright.json and config.json, or train again.",
        )
