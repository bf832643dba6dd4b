"""The contract of every task, for the tests of your own tasks.

    from tunewright.testing import check_task

    def test_my_task_keeps_the_contract():
        check_task("my_package.my_task", [{"text": "Great", "stars": 5}, {"text": "Dull", "stars": 1}, …])

Give eight rows or more, of different lengths. Without a model a random one of two layers is made, with a tokenizer trained on the
rows. A violation is raised as `TaskFault`, an AssertionError that names the member, what was expected and what was found.
Everything is computed in float64 without dropout, so equal results are equal to about 1e-9.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from tunewright.batching.micro_batches import rows_of
from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.row_context import row_context
from tunewright.batching.store import SplitStore, SplitWriter, TokenStore, finish_store
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.execution.base import Execution
from tunewright.metrics import Metric
from tunewright.plugins import find, names, trust
from tunewright.preparation import TRAIN
from tunewright.pretrained.model_files import ModelFolder, locate_model
from tunewright.pretrained.quiet import quiet_transformers
from tunewright.reading import Source, open_source
from tunewright.reading.detect import peek
from tunewright.records import Batch, Encoded, Example, Row
from tunewright.tasks.base import Task
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder, load_encoder
from tunewright.training.reference import with_reference

EQUAL = 1e-9
"""Allowed difference between two ways to compute the same, in float64."""
_LEARNING_STEPS = 40
_VOCABULARY = 400


class TaskFault(AssertionError):
    """A task violates the contract."""


def check_task(
    task: str | ModuleType | type[Task],
    rows: Sequence[Mapping[str, Any]],
    *,
    model: str | Path | None = None,
    decoder: bool = False,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Check the contract of a task. TaskFault if it violates it; UserError if it refuses these rows or this model.

    task: its module (or the module's name), or the class. rows: as in a JSONL file. model: a folder to start from; decoder:
    whether the generated one is a decoder. config: further keys of the config, such as `{"task": {"name": …}, "data": {…}}`.
    """
    kind, named = _class_of(task)
    _require(
        issubclass(kind, Task), "Task", f"a subclass of {Task.__name__} from tunewright.tasks.base", kind.__mro__[1:2]
    )
    missing: frozenset[str] = getattr(kind, "__abstractmethods__", frozenset())
    _require(not missing, "Task", "every abstract member", f"none of {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory(prefix="tunewright-check-") as folder:
        case = _case(kind, named, Path(folder), rows, model, decoder, config or {})
        for check in (
            _state_round_trips, _encoding_is_deterministic, _epochs_are_pure, _weights_are_known_before, _padding_changes_nothing,
            _sums_do_not_depend_on_the_cut, _rows_have_their_own_outputs, _metrics_know_their_direction, _it_predicts,
            _a_saved_model_is_the_same, _it_learns,
        ):  # fmt: skip
            check(case)


@dataclass(frozen=True)
class _Case:
    """A task with its labels, an untrained model in float64, and the rows in a store."""

    task: Task
    model: Any
    encoder: TextEncoder
    split: SplitStore
    examples: list[Example]
    inputs: list[Example]
    source: ModelFolder
    folder: Path

    def batch(self, positions: Sequence[int] | np.ndarray, padding: Padding = LONGEST) -> Batch:
        return self.task.collate(self.split, np.asarray(positions), self.encoder, padding)

    def loss(self, batch: Batch, weights: torch.Tensor | None = None, task: Task | None = None) -> tuple[Any, Any]:
        with torch.no_grad(), row_context(rows_of(batch, self.encoder)):
            return (task or self.task).loss(self.model, batch, weights=weights)

    @property
    def positions(self) -> np.ndarray:
        return np.arange(min(8, len(self.split)))


# What the checks share


def _require(holds: bool, member: str, expected: str, found: object) -> None:
    if not holds:
        raise TaskFault(f"{member}: expected {expected}; found {found}")


def _class_of(task: str | ModuleType | type[Task]) -> tuple[type[Task], str | None]:
    """(the class, the name it is found by, if there is one)."""
    if isinstance(task, type):
        return task, None
    name = task if isinstance(task, str) else task.__name__
    if name not in names("tasks"):  # the caller has named it
        trust([name])
    return find("tasks", name).Task, name


def _case(
    kind: type[Task], named: str | None, folder: Path, rows: Sequence[Mapping[str, Any]], model: str | Path | None,
    decoder: bool, wishes: Mapping[str, Any],
) -> _Case:  # fmt: skip
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = str(model) if model is not None else str(tiny_model(folder / "tiny", _texts_of(rows), decoder=decoder))
    values = {"model": found, **({"task": named} if named else {}), **wishes}
    values |= {"data": {"train": str(file), **wishes.get("data", {})}, "output": str(folder / "run")}
    config = parse_config(values)
    source, folder_of_model = open_source(str(file)), locate_model(found)
    first, columns = peek(source)
    task, reason = kind.from_columns(config, source, columns, first)
    _require(
        isinstance(task, kind) and isinstance(reason, str), "from_columns", "(a task, how it was found)", (task, reason)
    )
    source = task.aligned(source)
    examples, inputs = [task.to_example(row) for row in _rows(source)], [task.to_input(row) for row in _rows(source)]
    counts: dict[str, int] = {}
    for label in (label for example in examples for label in task.labels_of(example)):
        counts[label] = counts.get(label, 0) + 1
    task = task.with_labels(counts, folder_of_model, where=source.name)
    encoder = load_encoder(folder_of_model, max_length=config.data.max_length)
    store = _store(task, encoder, examples, folder / "store")
    task = task.fit_training_statistics(store[TRAIN], config)
    network, _ = task.build_model(folder_of_model, seed=0, dtype=torch.float64)
    network = network.double().eval()
    network.config.pad_token_id = encoder.pad_token_id
    execution = Execution(precision="fp64")
    if task.needs_reference:
        task = with_reference(task, network, store, encoder, execution)
    with torch.no_grad():
        task = task.for_step(network, store[TRAIN], np.arange(len(store[TRAIN])), encoder, execution)
    return _Case(task, network, encoder, store[TRAIN], examples, inputs, folder_of_model, folder)


def _rows(source: Source) -> Iterable[Row]:
    return (row for row in source.rows() if isinstance(row, Row))


def _texts_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [json.dumps(row, ensure_ascii=False) for row in rows]


def _store(task: Task, encoder: TextEncoder, examples: list[Example], folder: Path) -> TokenStore:
    """The examples as their task stores them. TaskFault for rows that are too long, and for columns that differ from its `label_schema`."""
    folder.mkdir()
    fields, longest = task.label_schema(), encoder.max_length * task.texts_per_row
    writer = SplitWriter(folder, TRAIN, fields, type_ids=task.gives_type_ids(encoder), max_length=longest)
    num_examples = len(examples)
    packer = task.packer(encoder, TRAIN)
    given = (
        [task.encode(examples, encoder)]
        if packer is None
        else [packer.add([task.document(one) for one in examples]), packer.finish()]
    )
    for encoded in given:
        _require(
            set(fields) <= set(encoded.values),
            "encode",
            f"the columns of label_schema, {sorted(fields)}, as values",
            sorted(encoded.values),
        )
        encoded = encoded if packer is None else replace(encoded, example=np.maximum(encoded.example, 0))
        try:
            writer.write(
                encoded, row_ids=np.arange(num_examples), sources=np.zeros(num_examples, np.int16), lines=np.arange(1, num_examples + 1),
                weights=np.array([one.weight for one in examples], np.float32),
            )  # fmt: skip
        except UserError as error:
            raise TaskFault(f"encode: {error}") from None
    writer.flush()
    return finish_store(folder, "", {TRAIN: writer.shards}, {"sources": ["rows.jsonl"]})


def tiny_model(folder: Path, texts: Sequence[str], *, decoder: bool = False) -> Path:
    """A folder with a BERT (or a GPT-NeoX) of two layers and random weights, and a WordPiece tokenizer trained on the texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=_VOCABULARY, special_tokens=special, show_progress=False)
    )
    roles: dict[str, Any] = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if decoder:
        roles |= {"eos_token": "[SEP]"}
    else:
        frame = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
        tokenizer.post_processor = processors.TemplateProcessing(**frame, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        roles |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **roles).save_pretrained(folder)
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    model: Any = (
        GPTNeoXForCausalLM(GPTNeoXConfig(**shape, eos_token_id=3)) if decoder else BertModel(BertConfig(**shape))
    )
    with quiet_transformers():
        model.save_pretrained(folder)
    return folder


# The checks


def _state_round_trips(case: _Case) -> None:
    try:
        state = json.loads(json.dumps(case.task.state()))
        again = type(case.task).from_state(state)
    except (TypeError, ValueError, KeyError) as error:
        raise TaskFault(f"state: expected JSON that from_state reads; {type(error).__name__}: {error}") from None
    _require(json.loads(json.dumps(again.state())) == state, "state", "the values that were written", again.state())
    for field in dataclasses.fields(case.task):  # type: ignore[arg-type]  # a task is a dataclass
        if field.init and field.compare and "run_only" not in field.metadata:
            kept, found = getattr(case.task, field.name), getattr(again, field.name)
            _require(kept == found, "state", f"{field.name} to be kept, {kept!r}", repr(found))
    batch, other = case.batch(case.positions), again.collate(case.split, case.positions, case.encoder)
    _require(_equal(batch.inputs, other.inputs), "from_state", "a task that makes the same batches", other.inputs)
    _require(
        again.loss_terms == case.task.loss_terms or case.task.needs_reference,
        "from_state",
        str(case.task.loss_terms),
        again.loss_terms,
    )


def _encoding_is_deterministic(case: _Case) -> None:
    for examples in (case.examples, case.inputs):
        if case.task.is_packed and examples is case.examples:
            continue
        whole, again = (case.task.encode(examples, case.encoder) for _ in range(2))
        _require(_same_rows(whole, again), "encode", "the same rows each time", "different rows the second time")
    alone = np.concatenate([case.task.encode([example], case.encoder).input_ids for example in case.inputs])
    same = np.array_equal(alone, case.task.encode(case.inputs, case.encoder).input_ids)
    _require(
        same, "encode", "the rows of an input not to depend on the other inputs", "other ids for an input on its own"
    )


def _same_rows(one: EncodedRows, other: EncodedRows) -> bool:
    same_ids = np.array_equal(one.input_ids, other.input_ids) and np.array_equal(one.offsets, other.offsets)
    columns = set(one.values) == set(other.values)
    return (
        same_ids
        and columns
        and all(str(list(one.values[name])) == str(list(other.values[name])) for name in one.values)
    )


def _epochs_are_pure(case: _Case) -> None:
    for epoch in (0, 1):
        one, other = (
            case.task.for_epoch(seed=5, epoch=epoch).collate(case.split, case.positions, case.encoder) for _ in range(2)
        )
        same = _equal(one.inputs, other.inputs) and _equal(one.targets, other.targets)
        _require(same, "for_epoch", "a pure function of seed, epoch and row", "two batches that differ")


def _weights_are_known_before(case: _Case) -> None:
    known = case.task.weights(case.split)
    terms, _ = case.loss(case.batch(case.positions), torch.from_numpy(known.rows[case.positions]))
    _require(
        tuple(terms) == case.task.loss_terms == tuple(known.terms),
        "loss_terms",
        f"the terms of loss, {tuple(terms)}, and of weights",
        tuple(known.terms),
    )
    for term, (_, weight) in terms.items():
        expected = float(known.terms[term][case.positions].sum())
        _require(
            _near(float(weight), expected),
            "weights",
            f"{term} to have the weight {float(weight)} that loss gives for these rows",
            expected,
        )


def _padding_changes_nothing(case: _Case) -> None:
    narrow, wide = (
        case.loss(case.batch(case.positions, padding))[0] for padding in (LONGEST, Padding(to_max_length=True))
    )
    for term in narrow:
        one, other = float(narrow[term][0]), float(wide[term][0])
        _require(_near(one, other), "loss", f"{term} {one} whatever the padding", f"{other} padded to max_length")


def _sums_do_not_depend_on_the_cut(case: _Case) -> None:
    """The sum over a batch is that over its rows, each times its weight."""
    weights = 0.5 + case.positions % 3
    whole, _ = case.loss(case.batch(case.positions), torch.from_numpy(weights))
    sums = dict.fromkeys(whole, 0.0)
    for position, weight in zip(case.positions, weights, strict=True):
        for term, (total, _) in case.loss(case.batch([position]))[0].items():
            sums[term] += float(total) * float(weight)
    for term, (total, _) in whole.items():
        _require(
            _near(float(total), sums[term]),
            "loss",
            f"{term} of a batch to be the weighted sum of its rows, {sums[term]}",
            float(total),
        )


def _rows_have_their_own_outputs(case: _Case) -> None:
    batch = case.batch(case.positions)
    found = case.task.row_outputs(case.loss(batch)[1], batch)
    _require(len(found) == len(case.positions), "row_outputs", f"{len(case.positions)} arrays, one a row", len(found))
    for position, together in zip(case.positions, found, strict=True):
        single = case.batch([position])
        (alone,) = case.task.row_outputs(case.loss(single)[1], single)
        same = np.shape(alone) == np.shape(together) and np.allclose(alone, together, rtol=1e-5, atol=1e-5)
        _require(
            same,
            "row_outputs",
            "a row's outputs without padding, independent of the other rows",
            f"shapes {np.shape(together)} and {np.shape(alone)}",
        )


def _metrics_know_their_direction(case: _Case) -> None:
    outputs: list[np.ndarray] = []
    task = case.task.for_evaluation()
    for position in range(len(case.split)):
        batch = task.collate(case.split, np.array([position]), case.encoder)
        outputs += task.row_outputs(case.loss(batch, task=task)[1], batch)
    found = task.metrics(task.scores(outputs), case.split, intervals=True)
    _require(isinstance(found.get("metrics"), dict), "metrics", 'a dict with "metrics"', found)
    for name, value in found["metrics"].items():
        _require(isinstance(value, Metric), "metrics", f"Metric(value, higher_is_better=…) for {name}", repr(value))
    names = {"loss", *found["metrics"], *(f"loss_{term}" for term in task.loss_terms)}
    unknown = set(task.metric_names()) - names - set(task.metrics_without_value(case.split))
    _require(not unknown, "metric_names", f"names that metrics gives, {sorted(names)}", sorted(unknown))
    _require(
        task.best_metric_on(case.split) in names,
        "best_metric",
        f"one of {sorted(names)}",
        task.best_metric_on(case.split),
    )
    json.dumps(found)


def _it_predicts(case: _Case) -> None:
    """An input gets the same prediction alone and among others. Not for tasks that generate text."""
    if case.task.generates_text:
        return
    together = _predictions(case, case.inputs)
    alone = [one for example in case.inputs for one in _predictions(case, [example])]
    for one, other in zip(together, alone, strict=True):
        shown = json.dumps(one.as_dict())
        _require(
            one.with_min_score(0.0) is not None and bool(shown),
            "decode",
            "a record with as_dict and with_min_score",
            one,
        )
        same = _close(one.as_dict(), other.as_dict())
        _require(same, "decode", f"a prediction that does not depend on the other inputs, {other}", one)


def _predictions(case: _Case, inputs: list[Example]) -> list[Any]:
    task = case.task
    encoded = task.encode(inputs, case.encoder)
    if not len(encoded):
        return []
    rows: list[Encoded] = [encoded[number] for number in range(len(encoded))]
    batch = task.collate_inputs(rows, case.encoder)
    with torch.no_grad(), row_context(rows_of(batch, case.encoder)):
        scores = task.scores(task.row_outputs(task.outputs(case.model, batch), batch))
    of = [
        [number for number in range(len(rows)) if encoded.example[number] == example] for example in range(len(inputs))
    ]
    return [
        task.decode(inputs[i], [rows[n] for n in numbers], [scores[n] for n in numbers])
        for i, numbers in enumerate(of)
        if numbers
    ]


def _a_saved_model_is_the_same(case: _Case) -> None:
    folder, model = case.folder / "saved", copy.deepcopy(case.model)
    task = case.task.finish_model(model)
    with quiet_transformers():
        model.save_pretrained(folder)
    again, fresh = task.build_model(ModelFolder("saved", folder), seed=1, dtype=torch.float64)
    _require(not fresh, "build_model", "no fresh parameters in a model that was saved", fresh)
    batch = case.batch(case.positions)
    with torch.no_grad(), row_context(rows_of(batch, case.encoder)):
        terms, _ = task.loss(again.double().eval(), batch)
    for term, (total, _) in case.loss(batch)[0].items():
        _require(
            _near(float(total), float(terms[term][0])),
            "build_model",
            f"the saved model, {term} {float(total)}",
            float(terms[term][0]),
        )


def _it_learns(case: _Case) -> None:
    """The loss of four rows falls."""
    model, batch = copy.deepcopy(case.model), case.batch(case.positions[:4])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(_LEARNING_STEPS):
        with row_context(rows_of(batch, case.encoder)):
            terms, _ = case.task.loss(model, batch)
        loss = torch.stack([total / max(float(weight), 1e-9) for total, weight in terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    _require(
        losses[-1] < losses[0],
        "loss",
        f"to fall from {losses[0]:.4f} when four rows are learned",
        f"{losses[-1]:.4f} after {_LEARNING_STEPS} steps",
    )


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= EQUAL * max(1.0, abs(one), abs(other)) * 1e2


def _equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-5 * max(1.0, abs(one))
    return bool(one == other)
