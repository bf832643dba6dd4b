"""The reading half of the `data` section: which files, which columns, which rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from tunewright.settings import Section, UserPath

Paths = UserPath | Annotated[list[UserPath], Field(min_length=1)]


class ReadConfig(Section):
    train: Paths = Field(
        description="Training file(s): .jsonl .json .csv .tsv .parquet .arrow .txt (also .gz, .zst), a `datasets` folder, "
        "a folder with one subfolder per class and one .txt file per text, or hub:owner/name."
    )
    validation: Paths | None = Field(
        None, description="Validation file(s). Without one, `validation_ratio` of the training rows is set aside."
    )
    test: Paths | None = Field(None, description="Test file(s): scored at the end, never used to choose anything.")
    format: str | None = Field(None, description="File format, where the suffix does not show it.")
    encoding: str = Field("utf-8", description="Text encoding of the files.")
    delimiter: str | None = Field(None, description="Column delimiter of CSV/TSV files; sniffed when not given.")
    label_file: UserPath | dict[Literal["train", "validation", "test"], UserPath] | None = Field(
        None,
        description="For plain text files with one label per line in another file: that file (one for each split), "
        "or auto: the file next to it with the matching name (train_labels.txt for train_text.txt).",
    )
    documents: Literal["auto", "line", "paragraph", "file"] = Field(
        "auto",
        description="Plain text files: what one row is. auto: a line, except in causal language modelling, where a file with blank "
        "lines is one continuous text.",
    )
    header: bool | None = Field(
        None, description="Does the first line of CSV/TSV files name the columns? Detected when not given."
    )
    quoting: bool | None = Field(
        None,
        description='Do quotes (") around a cell of CSV/TSV files quote it (true), or are they part of its text (false)? When not given: '
        "they quote a cell, except in tab-separated files, where this is detected from the whole file.",
    )
    config: str | None = Field(None, description="Configuration name of a Hub data set.")
    revision: str | None = Field(None, description="Revision of a Hub data set.")
    train_split: str | None = Field(
        None, description="Split to train on, for sources that hold several (default: train)."
    )
    validation_split: str | None = Field(None, description="Split to validate on, for sources that hold several.")
    test_split: str | None = Field(None, description="Split to test on, for sources that hold several.")
    split_column: str | None = Field(
        None,
        description="Column of the training file that names the split of each row: train, validation (dev, …) or test.",
    )
    text: str | list[str] | None = Field(
        None,
        description="Text column; several are joined by a blank line. Detected by name and content when not given.",
    )
    pair: str | None = Field(None, description="Column of the second text, for tasks on pairs.")
    label: str | list[str] | None = Field(
        None,
        description="Label column; several columns of 0 and 1 make each column a label (multi-label). Detected when not given.",
    )
    label_names: list[str] | None = Field(None, description="Names of integer labels 0, 1, 2, …")
    multi_label: bool | None = Field(
        None, description="May a row have several labels (or none)? Detected when the label is a list."
    )
    label_delimiter: str | None = Field(
        None, min_length=1, description="Splits a label text into several labels (multi-label CSV files)."
    )
    weight: str | None = Field(
        None, description="Column with the weight of each row in the loss (1 everywhere when not given)."
    )
    validation_ratio: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the training rows set aside for validation when no validation file is given.",
    )
    test_ratio: float | None = Field(
        None, ge=0, lt=1, description="Share set aside for the test split when no test file is given (default: 0.1)."
    )
    group_by: str | None = Field(None, description="Rows with the same value in this column stay in one split.")
    stratify: bool = Field(True, description="Keep the label proportions equal in the splits.")
    limit: NonNegativeInt | dict[Literal["train", "validation", "test"], NonNegativeInt] | None = Field(
        None, description="Use at most this many rows of each split (a seeded subset), or of the splits named."
    )
    seed: int = Field(
        0,
        ge=0,
        description="Seed of splits and subsets; separate from train.seed, so that runs compare on the same rows.",
    )
    on_bad_rows: Literal["stop", "skip"] = Field(
        "stop",
        description="stop: any rejected row ends the run with an explanation; skip: leave such rows out (they are listed in rejected.jsonl).",
    )
    deduplicate: bool = Field(False, description="Drop training rows whose text occurs in an earlier row.")
    max_row_bytes: int = Field(
        4 * 2**20,
        gt=0,
        description="Largest row in bytes: longer rows are rejected, and `predict` and `chat` refuse longer texts. A tokenizer may "
        "need 100 times as much memory.",
    )

    def limit_of(self, split: str) -> int | None:
        return self.limit.get(split) if isinstance(self.limit, dict) else self.limit  # type: ignore[call-overload]
