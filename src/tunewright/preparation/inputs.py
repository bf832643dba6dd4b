"""A config's files, opened: the sources of each split, and the task that understands their rows.

    inputs = open_inputs(config)
    inputs.sources["train"][0].name     "reviews.csv"
    inputs.task.to_example(row)         its labels are not learned yet

Reads only the beginning of the files, and imports no torch: a wrong column is said at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunewright.config.load import load_config
from tunewright.config.problems import refuse, unread
from tunewright.config.run_config import RunConfig
from tunewright.errors import RowError, UserError, did_you_mean, quoted
from tunewright.plugins import find, names
from tunewright.reading import ReadOptions, Source, open_source, splits_of
from tunewright.reading.detect import find_column, is_prose, peek
from tunewright.reading.documents import BEGINS, ENDS
from tunewright.reading.file_shapes import SHAPE
from tunewright.reading.in_memory import resolved
from tunewright.reading.label_files import AUTO, label_file_of
from tunewright.reading.locate import matching, readers
from tunewright.reading.names import SPLIT_NAMES
from tunewright.reading.split import TRAIN
from tunewright.reading.split_column import split_by
from tunewright.reading.unchanged import stamp_of
from tunewright.reading.unlabelled import refuse_other_lines
from tunewright.records import Reject, Row
from tunewright.tasks.base import Task

VALIDATION, TEST = "validation", "test"
_SURE = 2
"""A claim of columns that belong to no other task."""
SPLITS = (TRAIN, VALIDATION, TEST)
Opened = dict[tuple[str, ReadOptions], Source]
DEFAULT_TASK = "classification"


@dataclass(frozen=True)
class Inputs:
    """The opened sources of each split, and the task that reads them."""

    sources: dict[str, list[Source]]
    task: Task
    reason: str
    """How task and columns were found out, for the user."""
    columns: tuple[str, ...] = ()
    """Every column of the first training file, as the file names it."""
    prose_columns: tuple[str, ...] = ()
    """Those of them that hold sentences."""
    others_unused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further file -> its columns that nothing reads and that the first file has not."""

    def of(self, *splits: str) -> Iterator[tuple[str, Source]]:
        for split in splits or SPLITS:
            for source in self.sources.get(split, ()):
                yield split, source

    def rows(self) -> Iterator[Row | Reject]:
        """Every row of every source, in reading order: row ids count these."""
        for _, source in self.of():
            yield from source.rows()


def open_inputs(config: RunConfig, opened: Opened | None = None) -> Inputs:
    """Open every source and settle task and columns. UserError for what the user can correct.

    opened: sources that were opened before; they are taken where the same file is read in the same way, others are added.
    """
    opened = dict(config.opened) if opened is None else opened
    sources = _open_sources(config, opened)
    _refuse_idle_keys(config, {source.format for of_split in sources.values() for source in of_split})
    first = sources[TRAIN][0]
    rows, columns = peek(first)
    if not rows:
        reject = next((row for row in first.rows() if isinstance(row, Reject)), None)
        raise UserError(
            "no usable row",
            where=reject.address if reject else first.name,
            found=reject.reason if reject else "no rows",
            hint="Fix the file; data.format and data.encoding say how it is read.",
        )
    if config.task.name == "auto":
        _ask_about_texts(config, first, rows)
    name = config.task.name
    if name == "auto":
        name = _task_of(config, columns, rows)
        refuse(unread(config, name), where="config")
    module = find("tasks", name)
    if isinstance(config.data.label, list) and not module.Task.reads_label_columns:
        raise UserError(
            f"several label columns, and the task is {name}", where="data.label", found=quoted(config.data.label),
            expected="one column; a column for each label is for classification", hint="Name one column.",
        )  # fmt: skip
    if name != config.task.name and _documents(config, name) != _documents(config, config.task.name):
        sources = _open_sources(config, opened, task=name)
        first = sources[TRAIN][0]
    task, reason = module.Task.from_columns(config, first, columns, rows)
    aligned = {split: [task.aligned(one) for one in of_split] for split, of_split in sources.items()}
    for source in aligned[TRAIN][1:]:
        _require_known_columns(task, source, first)
    prose = tuple(column for column in columns if is_prose([row.fields.get(column) for row in rows]))
    return Inputs(aligned, task, reason, tuple(columns), prose, _unused_of_others(config, aligned, task, columns))


def _unused_of_others(
    config: RunConfig, sources: Mapping[str, list[Source]], task: Task, columns: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """See `Inputs.others_unused`: each file by its own shape, where it has one."""
    data, found = config.data, dict[str, tuple[str, ...]]()
    others = [source for split in SPLITS for source in sources.get(split, ()) if source.format != "text"]
    for source in others:
        if source.name in found or source is sources[TRAIN][0]:
            continue
        rows, own = peek(source, 20)
        read = rows[0].fields[SHAPE].read_columns if rows and SHAPE in rows[0].fields else task.read_columns
        known = {SHAPE, BEGINS, ENDS, *read, *columns, data.weight, data.group_by, data.split_column}
        found[source.name] = tuple(name for name in own if name not in known)
    return {name: unused for name, unused in found.items() if unused}


def _ask_about_texts(config: RunConfig, source: Source, rows: Sequence[Row]) -> None:
    """UserError where plain lines look like something else than prose, or where a file of labels stands beside them.

    Whoever names the task, or data.format, has answered.
    """
    if config.data.format is not None or config.data.documents != "auto" or tuple(rows[0].fields) != ("text",):
        return
    refuse_other_lines(rows, is_text_file=source.format == "text")
    labels = label_file_of(source.paths[0]) if source.format == "text" and len(source.paths) == 1 else None
    if labels is not None and config.data.label_file is None:
        raise UserError(
            "there is a file of labels next to it", where=source.name, found=labels.name,
            hint="data.label_file=auto reads a label for each line; task=mlm (or clm) learns the lines alone.",
        )  # fmt: skip


def _require_known_columns(task: Task, source: Source, first: Source) -> None:
    """UserError for one of several training files whose columns are neither the first one's nor known by themselves."""
    rows, columns = peek(source, 20)
    reasons = []
    for row in rows:
        try:
            task.to_example(row)
            return
        except RowError as error:
            reasons.append(error.reason)
    if reasons and all(reason.startswith("no field") for reason in reasons):
        raise UserError(
            "the roles of its columns are unclear", where=source.name, found=quoted(column for column in columns if column.isprintable()),
            expected=f"the columns of {first.name} ({', '.join(task.read_columns)}), or such as are known by their names and content",
            hint="Name its columns as in that file, or leave it out of data.train.",
        )  # fmt: skip


def _refuse_idle_keys(config: RunConfig, formats: set[str]) -> None:
    """UserError for a key about reading that none of the sources heeds: it was meant for something."""
    heeds = {name: getattr(module, "READS_KEYS", frozenset[str]()) for name, module in readers().items()}
    heeded = set[str]().union(*(heeds.get(format, {"format"}) for format in formats))
    for key in sorted(set[str]().union(*heeds.values()) - heeded):
        if getattr(config.data, key) != type(config.data).model_fields[key].default:
            able = sorted(name for name in heeds if key in heeds[name])
            raise UserError(
                f"nothing reads data.{key} here", where=f"data.{key}", found=quoted(sorted(formats)),
                expected=f"a source that does: {', '.join(able)}", hint="Leave it out, or set data.format.",
            )  # fmt: skip


def _task_of(config: RunConfig, columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The task whose columns these are; classification where none claims them. Several label columns are for few tasks."""
    several = isinstance(config.data.label, list)
    claims: dict[str, int] = {}
    fault: UserError | None = None
    for name in names("tasks"):
        kind = find("tasks", name).Task
        try:
            claims[name] = 0 if several and not kind.reads_label_columns else kind.matches(config, columns, rows)
        except UserError as error:
            claims[name], fault = 0, fault or error
    best = max(claims, key=lambda name: claims[name])
    if fault is not None and claims[best] < _SURE:  # a task that nearly matched knows what is wrong
        raise fault
    return best if claims[best] else DEFAULT_TASK


def _documents(config: RunConfig, task: str) -> str:
    """What a row of a plain text file is: as the user says, else as the task reads."""
    if config.data.documents != "auto":
        return config.data.documents
    if task == "auto":
        return "line"
    return config.task.documents or find("tasks", task).Task.documents


def read_options(
    config: RunConfig, *, split: str | None = None, task: str | None = None, of: str | None = None
) -> ReadOptions:
    """How the config says that files are read. split: of a source that holds several; of: the split that the file is for."""
    data = config.data
    return ReadOptions(
        documents=_documents(config, task or config.task.name),
        format=data.format,
        encoding=data.encoding,
        delimiter=data.delimiter,
        quoting=data.quoting,
        header=data.header,
        max_row_bytes=data.max_row_bytes,
        config=data.config,
        revision=data.revision,
        split=split,
        label_file=_label_file(config, of),
    )


def _label_file(config: RunConfig, of: str | None) -> str | None:
    """Where the labels of a text file stand: as the config names it for this split, else beside the file."""
    named = config.data.label_file
    if isinstance(named, dict):
        return named.get(of, AUTO)  # type: ignore[call-overload]
    return named if named is None or of == TRAIN else AUTO


def options_of_run(run: Path, path: str) -> ReadOptions:
    """How a file is read for a trained run: as the run's own, where its name ends like theirs; else as it looks."""
    written = run / "config.yaml"
    if not written.is_file():
        return ReadOptions()
    config = load_config(written, of_run=True)
    options = read_options(config)
    ends = {Path(one).suffix for split in SPLITS for one in _as_list(getattr(config.data, split))}
    if Path(path).suffix in ends:
        return options
    return replace(options, format=None, header=None, delimiter=None, quoting=None, encoding="utf-8")


def open_like(path: str, options: ReadOptions, task: Task, *, labelled: bool = True) -> Source:
    """A file for a trained model, its columns under the names of training."""
    if not labelled:
        options = for_inputs(options, task)
    return task.aligned(open_source(path, options), labelled=labelled)


def for_inputs(options: ReadOptions, task: Task) -> ReadOptions:
    """How a file is read for prediction: what is to be predicted need not stand in it."""
    return replace(options, words_alone=task.reads_words)


def _open_sources(config: RunConfig, opened: Opened, *, task: str | None = None) -> dict[str, list[Source]]:
    data = config.data
    named = {TRAIN: data.train_split, VALIDATION: data.validation_split, TEST: data.test_split}
    paths = {
        split: [file for path in _as_list(getattr(data, split)) for file in matching(resolved(path, config.run_folder))]
        for split in SPLITS
    }
    inner = {path: splits_of(path, read_options(config)) for split in SPLITS for path in paths[split]}
    for split in (VALIDATION, TEST):  # a source that brings its own validation and test splits
        path = paths[TRAIN][0]
        if not paths[split] and len(inner[path]) > 1 and (named[split] or _own_split(inner[path], split)):
            paths[split] = [path]
    sources = {
        split: [
            _opened(
                path,
                read_options(config, split=_choose_split(path, inner[path], split, named[split]), task=task, of=split),
                opened,
            )
            for path in paths[split]
        ]
        for split in SPLITS
        if paths[split]
    }
    if data.label_file is not None:
        _require_labels(sources[TRAIN], data)
    return _split_by_column(sources, data.split_column) if data.split_column else sources


def _opened(path: str, options: ReadOptions, opened: Opened) -> Source:
    """The source that was opened before, where its files are still the same; else a fresh one. Beside a file of labels there may be
    one with their names, which is not asked for: then always."""
    known = opened.get((path, options))
    if (
        known is None
        or options.label_file is not None
        or any(stamp_of(file) != stamp for file, stamp in known.stamps.items())
    ):
        known = opened[path, options] = open_source(path, options)
    return known


def _require_labels(sources: Sequence[Source], data: Any) -> None:
    """UserError where no file of labels stands beside a training file, or one file of labels is for several of texts."""
    if len(sources) > 1 and data.label_file != AUTO:
        raise UserError(
            "one file of labels for several training files", where="data.label_file", found=str(data.label_file),
            hint="Set data.label_file=auto: the labels of each are in the file next to it.",
        )  # fmt: skip
    for source in sources:
        if source.format == "text" and source.columns == ("text",):
            raise UserError(
                "there is no file of labels next to it", where=source.name, expected="one named so, such as train_labels.txt for train_text.txt",
                hint="Name it with data.label_file.",
            )  # fmt: skip


def _split_by_column(sources: dict[str, list[Source]], column: str) -> dict[str, list[Source]]:
    if len(sources) > 1:
        raise UserError(
            "a column of splits beside files of their own", where="data.split_column", found=quoted(sources),
            hint="Name the training file alone, or leave out data.split_column.",
        )  # fmt: skip
    found: dict[str, list[Source]] = {}
    for source in sources[TRAIN]:
        find_column(column, peek(source, 20)[1], where=source.name, key="data.split_column")
        for split, one in split_by(source, column).items():
            found.setdefault(split, []).append(one)
    return found


def _as_list(paths: str | list[str] | None) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths or ())


def _own_split(splits: Sequence[str], split: str) -> str | None:
    """Called as this split is, or the one that begins so: `train_sft`."""
    named = next((name for name in SPLIT_NAMES[split] if name in splits), None)
    begun = _begun(splits, split)
    return named or (begun[0] if len(begun) == 1 else None)


def _begun(splits: Sequence[str], split: str) -> list[str]:
    return [one for one in splits if re.split("[_-]", one)[0] in SPLIT_NAMES[split]]


def _choose_split(path: str, splits: Sequence[str], split: str, named: str | None) -> str | None:
    if not splits:
        return named
    chosen = named or (splits[0] if len(splits) == 1 else _own_split(splits, split))
    if chosen in splits:
        return chosen
    near = did_you_mean(chosen, splits) if chosen else None
    raise UserError(
        f"no split {chosen!r}" if chosen else f"no value of the split column is known as the {split} split",
        where=path,
        found=quoted(splits),
        hint=f"Set data.{split}_split={near or next(iter(_begun(splits, split)), splits[0])}.",
    )
