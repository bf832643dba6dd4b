"""A data file or folder -> the config a careful user would write for it. What `init` writes and `train DATA` uses.

guess = guess_config("reviews/train.csv")
guess.values["data"]    {"train": "reviews/train.csv", "test": "reviews/test.csv", "text": "review", "label": "sentiment"}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tunewright.config.load import load_config, parse_config
from tunewright.config.run_config import DEFAULT_MODEL, ModelConfig, RunConfig
from tunewright.errors import UserError, quoted
from tunewright.hints import config_schema, init, train
from tunewright.preparation import TEST, VALIDATION, Inputs, open_inputs
from tunewright.preparation.inputs import Opened, read_options
from tunewright.reading import open_source
from tunewright.reading.detect import peek
from tunewright.reading.formats.class_folder import is_class_folder
from tunewright.reading.label_files import AUTO, is_map_of_labels, label_file_of
from tunewright.reading.locate import suffixes
from tunewright.reading.names import SPLIT_NAMES
from tunewright.reading.split import TRAIN
from tunewright.reading.split_column import find_split_column
from tunewright.runs.decision import Decision, decision_of
from tunewright.runs.from_python import AnyConfig, config_of

__all__ = ["AnyConfig", "Guess", "as_config", "config_for_data", "guess_config", "guess_for_data"]

SCHEMA_FILE = "tunewright.schema.json"
"""The JSON Schema that a written config names for editors."""
_TEXTS = (".txt", ".text")
_PACKED = (".gz", ".zst")


@dataclass(frozen=True)
class Guess:
    """Config values, the opened inputs they were checked against, and what was found out."""

    values: dict[str, Any]
    inputs: Inputs
    decision: Decision
    left_out: list[str]
    """Files beside the training file that are not used, and why."""
    opened: Opened = field(default_factory=dict)
    """The sources that were looked at."""

    @property
    def reasons(self) -> list[str]:
        """What was decided and from what, a line each: the comments of the written config."""
        notes = [f"{source.name}: {note}" for _, source in self.inputs.of() for note in source.notes]
        return [*self.decision.lines(), *(f"notice    {line}" for line in (*self.left_out, *notes))]


def guess_config(
    data: str | Sequence[str], *, task: str | None = None, text: str | list[str] | None = None, pair: str | None = None,
    label: str | list[str] | None = None, model: str | Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None,
) -> Guess:  # fmt: skip
    """Find the splits and columns of `data`: a file, a folder, or several files that are one training set.

    The one place where `init`, `check`, `train` and the Python API decide what a config does not say. extra: keys of the
    `data` section as the user gave them. UserError where something cannot be told.
    """
    wished = extra or {}
    files, unreadable = _readable(_find_splits(data), wished)
    if task in (None, "classification") and "label_file" not in wished and _has_label_file(files["train"]):
        files["label_file"] = AUTO
    named = {"text": text, "pair": pair, "label": label}
    values: dict[str, Any] = {
        "task": task or "auto",
        "model": model or DEFAULT_MODEL,
        "data": {**files, **{key: value for key, value in named.items() if value is not None}, **wished},
    }
    where = data if isinstance(data, str) else ", ".join(data)
    opened: Opened = {}
    inputs = open_inputs(parse_config(values, where=where), opened)
    if (
        len(inputs.sources) == 1
        and len(inputs.sources[TRAIN]) == 1
        and (column := find_split_column(inputs.sources[TRAIN][0]))
    ):
        values["data"]["split_column"] = column
        inputs = open_inputs(parse_config(values, where=where), opened)
    found = [split for split in (VALIDATION, TEST) if split in files and split not in wished]
    unlabelled = [split for split in found if not _has_labels(inputs, split)]
    if unlabelled:
        values["data"] = {key: value for key, value in values["data"].items() if key not in unlabelled}
        inputs = open_inputs(parse_config(values, where=where), opened)
    values["task"] = inputs.task.name
    values["model"] = model or inputs.task.first_model or DEFAULT_MODEL
    values["data"] |= inputs.task.settings()
    left_out = [*unreadable, *(f"{files[split]} has no labels: left out" for split in unlabelled)]
    return Guess(values, inputs, decision_of(parse_config(values, where=where), inputs), left_out, opened)


def _readable(files: Mapping[str, Any], wished: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(the files without those that merely stand beside the training file and cannot be read, what is said of them)."""
    kept, left_out = dict(files), []
    for split in (VALIDATION, TEST):
        path = files.get(split)
        if not isinstance(path, str) or split in wished:
            continue
        config = parse_config({"data": {**wished, "train": path}})
        try:
            peek(open_source(path, read_options(config)), 20)
        except UserError as error:
            del kept[split]
            left_out.append(f"{path} is left out: {error}")
    return kept, left_out


def _has_labels(inputs: Inputs, split: str) -> bool:
    """Whether the column of labels is there at all: competitions keep theirs."""
    label = next(iter(inputs.task.label_columns), None)
    columns = {column for source in inputs.sources[split] for column in peek(source, 20)[1]}
    return label is None or not columns or label in columns


def config_for_data(
    data: str | Sequence[str], overrides: Sequence[str] = (), *, note: Callable[[str], None] = lambda _: None
) -> RunConfig:
    """The config of data files alone, `key=value` words laid over it. A mistyped key is said before any file is opened."""
    guess, config = guess_for_data(data, overrides)
    for line in guess.left_out:
        note(line)
    return config


def as_config(config: AnyConfig, overrides: Sequence[str] = (), *, words: Sequence[str] = ()) -> RunConfig:
    """From anything that `AnyConfig` names; `key=value` words laid over it. words: further ones, of keyword arguments."""
    if isinstance(overrides, (str, Mapping)):
        raise UserError(
            "overrides must be a list of strings", found=repr(overrides)[:80], hint='Write ["train.epochs=5"].'
        )
    given, laid = config_of(config, [*overrides, *words])
    if isinstance(given, RunConfig):
        return load_config(None, laid, base=given.as_dict()) if words else given
    if isinstance(given, Mapping):
        return parse_config(given) if not laid else load_config(None, laid, base=given)
    if isinstance(given, str) and Path(given).suffix in (".yaml", ".yml"):
        return load_config(given, laid)
    return config_for_data(given, laid)


def guess_for_data(data: str | Sequence[str], overrides: Sequence[str] = ()) -> tuple[Guess, RunConfig]:
    """(what was guessed, the config with the words laid over it): what `train DATA`, `check DATA` and `init DATA` go by."""
    of_any_task = [word for word in overrides if not word.startswith("task.") or word.startswith("task.name=")]
    given = data if isinstance(data, str) else list(data)
    asked = load_config(None, of_any_task, base={"data": {"train": given}})
    wished, task = asked.data, None if asked.task.name == "auto" else asked.task.name
    named = given
    if not isinstance(data, str) and wished.train == given:
        _refuse_splits(data)
    if wished.train != given:  # `data.train=…` among the words names all of the training files
        named = wished.train
    laid = wished.model_dump(mode="json", include=wished.model_fields_set - {"train", "text", "pair", "label"})
    model = asked.model.model_dump(mode="json", exclude_defaults=True) if asked.model != ModelConfig() else None
    guess = guess_config(
        named, task=task, text=wished.text, pair=wished.pair, label=wished.label, model=model, extra=laid
    )
    base = parse_config(guess.values).model_dump(mode="json", exclude_defaults=True)
    base["task"] = {**base.get("task", {}), "name": guess.values["task"]}  # the task's own default name, so left out
    rest = [word for word in overrides if not word.startswith("data.train=")]
    return guess, load_config(None, rest, base=base).as_found(guess.decision.reason, guess.opened)


def _find_splits(data: str | Sequence[str]) -> dict[str, Any]:
    """The training file, and its validation and test files where they stand beside it under such names.

    Several files are one training set.
    """
    if not isinstance(data, str):
        return {"train": list(data)}
    path = Path(data)
    if path.is_file():
        return {"train": data, **_siblings(path)}
    if data.startswith("hub:") or not path.is_dir():
        return {"train": data}
    if any((path / name).exists() for name in ("dataset_dict.json", "state.json", "dataset_info.json")):
        return {"train": data}
    if is_class_folder(path):
        return {"train": data}
    files = _without_label_files(sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")))
    trains = [p for p in files if _in_role(p, "train")]
    plain = [p for p in trains if len(_words(p)[0]) == 1]
    if plain or len(trains) == 1:
        chosen = (plain or trains)[0]
        return {"train": str(chosen), **_siblings(chosen)}
    if found := _split_folders(path):
        return found
    if len(files) == 1:
        return {"train": str(files[0])}
    if all(p.suffix in (".parquet", ".arrow") for p in files) and (files or (path / "data").is_dir()):
        return {"train": data}
    if files and all(p.suffix == ".txt" for p in files):
        return {"train": [str(p) for p in files]}
    raise UserError(
        "which of these files is the training data?",
        where=data,
        found=quoted(p.name for p in files) or "no file",
        hint=f"Name it: {init(path / files[0].name if files else 'FOLDER/FILE')}",
    )


def _has_label_file(train: Any) -> bool:
    """Whether the labels of a text file stand in another file, a line each."""
    return isinstance(train, str) and Path(train).suffix in _TEXTS and label_file_of(Path(train)) is not None


def _without_label_files(files: list[Path]) -> list[Path]:
    """The files of a folder without those that hold the labels of others, and without the names of these labels."""
    labels = {found for one in files if one.suffix in _TEXTS and (found := label_file_of(one)) is not None}
    return [one for one in files if one not in labels and not (labels and is_map_of_labels(one))]


def _refuse_splits(files: Sequence[str]) -> None:
    """UserError for files behind a command that are one training set, and whose names say that they are splits."""
    roles = {file: next((split for split in SPLIT_NAMES if _in_role(Path(file), split)), None) for file in files}
    others = [file for file, role in roles.items() if role in (VALIDATION, TEST)]
    trains = [file for file, role in roles.items() if role == TRAIN]
    if trains and others:
        raise UserError(
            "several files would form one training set, but these are named like splits", found=quoted(files),
            hint=f"{train(trains[0])} finds the others by itself; to train on all of them, add data.train=[A,B].",
        )  # fmt: skip


def _split_folders(path: Path) -> dict[str, Any]:
    """Splits that are folders: of a folder for each class (`aclImdb/train/pos`), or of plain texts; nothing without a training one."""
    found: dict[str, Any] = {}
    for split in SPLIT_NAMES:
        ranked = sorted(
            (SPLIT_NAMES[split].index(role), one) for one in path.iterdir() if (role := _in_role(one, split))
        )
        readable = ((one, _texts_in(one)) for _, one in ranked if one.is_dir())
        if chosen := next((texts or str(one) for one, texts in readable if texts or is_class_folder(one)), None):
            found[split] = chosen
    return found if "train" in found else {}


def _texts_in(folder: Path) -> list[str] | str:
    """The files of a folder that holds .txt files and nothing else; a single one, where the others are its labels and their names."""
    files = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    if not all(one.is_file() and one.suffix == ".txt" for one in files):
        return []
    texts = _without_label_files(files)
    return str(texts[0]) if len(texts) == 1 < len(files) else [str(one) for one in files]


def _siblings(train: Path) -> dict[str, str]:
    """Validation and test files in the same folder, named as the training file but for that word; of the same kind first."""
    if not _in_role(train, "train"):
        return {}
    words, kind = _words(train)
    readable = {kind, *suffixes(), *(f"{suffix}{packed}" for suffix in suffixes() for packed in _PACKED)}
    files = sorted(p for p in train.parent.iterdir() if p.is_file() and _words(p)[1] in readable)
    found = {}
    for split in ("validation", "test"):
        ranked = []
        for file in files:
            role, (other_words, other_kind) = _in_role(file, split), _words(file)
            if role and _without_role(other_words, split) == _without_role(words, "train"):
                ranked.append((other_kind != kind, SPLIT_NAMES[split].index(role), file))
        if ranked:
            found[split] = str(min(ranked)[2])
    return found


def _words(path: Path) -> tuple[list[str], str]:
    """faq_train.jsonl.gz -> (["faq", "train"], ".jsonl.gz")."""
    name = path.name.lower()
    packed = next((suffix for suffix in _PACKED if name.endswith(suffix)), "")
    stem, dot, kind = name.removesuffix(packed).rpartition(".")
    return re.split(r"[._\-]", stem if dot else kind), f"{dot}{kind}{packed}" if dot else packed


def _in_role(path: Path, split: str) -> str | None:
    """The word of the file's name that says it holds this split, if exactly one does."""
    said = [word for word in _words(path)[0] if word in SPLIT_NAMES[split]]
    return said[0] if len(said) == 1 else None


def _without_role(words: list[str], split: str) -> list[str]:
    """The place of that word stays, as an empty one."""
    return ["" if word in SPLIT_NAMES[split] else word for word in words]


def _model_lines(model: Any, line: Callable[..., str]) -> list[str]:
    """`model: NAME`, or the section where more than the name was said."""
    what = "a folder, a Hub id, or package:NAME"
    if isinstance(model, Mapping) and set(model) - {"name"}:
        return ["model:", *(line(key, value, what if key == "name" else "as given") for key, value in model.items())]
    return [line("model", model["name"] if isinstance(model, Mapping) else model, what, 0)]


def _on_one_line(reason: str) -> str:
    """A comment of YAML ends with its line: whatever a column's name holds is escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in reason)


_COMMENTS = {
    "text": "the column to read",
    "pair": "the column of the second text",
    "label": "the column to predict",
    "split_column": "names the split of each row",
}


def config_text(guess: Guess) -> str:
    """The commented YAML file: the dozen decisions that matter, each with what it means."""
    values, data = guess.values, dict(guess.values["data"])

    def line(key: str, value: Any, comment: str, indent: int = 2) -> str:
        text = yaml.safe_dump({key: value}, default_flow_style=True, allow_unicode=True, width=10_000).strip()[1:-1]
        if not text.isprintable():  # a line break or the like: escaped, so that the comment stays behind it
            text = yaml.safe_dump({key: value}, default_flow_style=True, default_style='"', width=10_000).strip()[1:-1]
        return f"{' ' * indent}{text:<42} # {comment}"

    max_length = data.pop("max_length", "auto")
    of_column = guess.inputs.sources.keys() - data.keys()  # splits that a column of the training file makes
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        f"# Editors complete and check the keys below if that file holds what `{config_schema()}` prints.",
        *(f"# {_on_one_line(reason)}" for reason in guess.reasons),
        line("task", values["task"], "what is learned", 0),
        *_model_lines(values["model"], line),
        "",
        "data:",
        line("train", data.pop("train"), "the rows to learn from"),
        *(
            line(split, data.pop(split), purpose)
            if split in data
            else line(f"{split}_ratio", data.pop(f"{split}_ratio", 0.1), share)
            for split, purpose, share in (
                (VALIDATION, "chooses the best checkpoint", "share of train set aside to choose the best checkpoint"),
                (TEST, "scored once at the end, never used to choose", "share of train set aside for the final score"),
            )
            if split not in of_column
        ),
        *(line(key, value, _COMMENTS.get(key, "as detected")) for key, value in data.items() if key != "on_bad_rows"),
        line("max_length", max_length, "longest row in tokens; auto: what the model supports, at most 512"),
        line("on_bad_rows", data.get("on_bad_rows", "stop"), "stop, or skip them (they are listed either way)"),
        "",
        "train:",
        line("epochs", 3, "passes over the training rows"),
        line("batch_size", 16, "rows in one update; memory does not depend on it"),
        line("learning_rate", "auto", "auto: from the width of the model"),
        *([line("class_weights", "none", "balanced: rare labels weigh more")] if guess.inputs.task.has_classes else []),
        line("seed", 0, "seeds every random choice"),
        "",
        "evaluate:",
        line("every", "epoch", "epoch, a number of steps, or a time (10m)"),
        line("metric", "auto", f"chooses the best checkpoint; auto: {guess.inputs.task.best_metric()}"),
    ]
    return "\n".join(lines) + "\n"
