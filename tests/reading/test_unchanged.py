"""What was hashed is what is read: a file that is exchanged, grows or goes while we are at it is told, and nothing made of it is kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import messages, write_jsonl
from tunewright import preparation as preparing
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.evaluation import score_run
from tunewright.preparation import encode, prepare
from tunewright.reading import open_source
from tunewright.reading.unchanged import Unchanged
from tunewright.runs.reporter import Reporter
from tunewright.runs.train import train

FORMATS = ["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "classes"]


def written(folder: Path, format: str, rows: list[dict]) -> Path:
    path = folder / f"data.{format}"
    if format == "jsonl":
        return write_jsonl(path, rows)
    if format == "jsonl.gz":
        import gzip

        with gzip.open(path, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    elif format == "json":
        path.write_text(json.dumps(rows))
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif format == "classes":
        for number, row in enumerate(rows):
            place = path / row["label"] / f"{number}.txt"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(row["text"])
    else:
        mark = {"csv": ",", "tsv": "\t"}[format]
        clean = [{key: value.replace(",", " ").replace('"', " ") for key, value in row.items()} for row in rows]
        path.write_text(
            "".join(f"{row['text']}{mark}{row['label']}\n" for row in [{"text": "text", "label": "label"}, *clean])
        )
    return path


def exchange(path: Path, other: Path) -> None:
    """The other file (or folder) takes its place, as an editor or a sync program does it."""
    if path.is_dir():
        one = sorted(path.rglob("*.txt"))[0]
        (path / "new").write_text("Another text.")
        os.replace(path / "new", one)
        return
    shutil.copyfile(other, path.with_name("new"))
    os.replace(path.with_name("new"), path)


def at(monkeypatch, owner, name: str, do) -> None:
    """Do something once, before a function is called."""
    original, done = getattr(owner, name), []

    def first(*args, **kwargs):
        if not done:
            done.append(1)
            do()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, first)


MOMENTS = {"before the survey": (preparing, "first_pass"), "before encoding": (preparing, "encode_splits"),
           "before the last look": (preparing, "match_tokenizer"), "before a shard": (encode, "SplitWriter")}  # fmt: skip


@pytest.mark.parametrize(
    ("format", "moment"),
    [*((format, "before encoding") for format in FORMATS), *(("jsonl", moment) for moment in MOMENTS)],
)
def test_a_file_that_is_exchanged_while_it_is_prepared_is_told(run_values, tmp_path, monkeypatch, format, moment):
    rows = [{"text": row["text"], "label": row["label"]} for row in messages(60)]
    names = sorted({row["label"] for row in rows})
    turned = [{**row, "label": names[(names.index(row["label"]) + 1) % len(names)]} for row in rows]
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", format, turned)
    path = written(tmp_path, format, rows)
    kept = shutil.copytree(path, tmp_path / "kept") if path.is_dir() else shutil.copyfile(path, tmp_path / "kept")
    config = parse_config({**run_values, "data": {"train": str(path), "max_length": 48}})
    at(monkeypatch, *MOMENTS[moment], lambda: exchange(path, other))
    with pytest.raises(UserError, match="the file changed while it was read"):
        prepare(config)
    assert not list((tmp_path / ".store").glob("*/*.arrow")) and not list((tmp_path / ".store").glob("*/manifest.json"))
    monkeypatch.undo()
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(kept, path)
    else:
        shutil.copyfile(kept, path)
    made = prepare(config)
    assert not made.reused
    store = made.store["train"]
    state = made.manifest["task_state"]["labels"]
    found = [open_row(store, position, path, rows) for position in range(len(store))]
    assert [state[label] for label in made.task().gold(store).tolist()] == found


def open_row(store, position: int, path: Path, rows: list[dict]) -> str:
    everything = [row.fields["label"] for row in open_source(str(path)).rows()]
    return everything[int(store.row_ids[position])]


@pytest.mark.parametrize("change", ["grows", "is cut", "is gone"])
def test_a_file_that_is_written_to_while_it_is_read_is_told(run_values, tmp_path, monkeypatch, change):
    path = Path(run_values["data"]["train"])

    def do() -> None:
        if change == "grows":
            with path.open("a") as file:
                file.write(json.dumps({"text": "One more.", "label": messages()[0]["label"]}) + "\n")
        elif change == "is cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.unlink()

    at(monkeypatch, preparing, "encode_splits", do)
    with pytest.raises(UserError, match="the file changed while it was read"):
        prepare(parse_config(run_values))


def test_a_file_that_is_exchanged_between_its_opening_and_its_hash_is_told(run_values, tmp_path, monkeypatch):
    path = Path(run_values["data"]["train"])
    other = write_jsonl(tmp_path / "other.jsonl", [{"label": "a", "body": "Other columns."}] * 20)
    original = preparing.open_inputs

    def then_exchanged(config):
        inputs = original(config)
        exchange(path, other)
        return inputs

    monkeypatch.setattr(preparing, "open_inputs", then_exchanged)
    with pytest.raises(UserError, match="the file changed while it was read"):
        prepare(parse_config(run_values))


def test_a_file_that_is_only_touched_is_the_same(run_values, tmp_path, monkeypatch):
    path = Path(run_values["data"]["train"])
    at(monkeypatch, preparing, "encode_splits", lambda: (path.chmod(0o600), os.link(path, tmp_path / "second name")))
    assert prepare(parse_config(run_values)).store["train"].lengths.size


class Exchanges(Reporter):
    def __init__(self, path: Path, other: Path, after: int) -> None:
        self.path, self.other, self.after, self.notes = path, other, after, []

    def step(self, step, num_steps) -> None:
        if step.number == self.after:
            exchange(self.path, self.other)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_what_reads_again_behind_training_takes_no_other_file(run_values, tmp_path):
    """Baselines and golden examples of another file's rows would be wrong without a word. The same content is as good as the same file."""
    path = Path(run_values["data"]["train"])
    values = {**run_values, "evaluate": {"baselines": True}}
    same = shutil.copyfile(path, tmp_path / "same")
    other = write_jsonl(tmp_path / "other", [{"text": f"{n} other", "label": "order_status"} for n in range(200)])
    reporter = Exchanges(path, same, after=3)
    done = train(values, reporter=reporter)
    assert "baseline" in done.scores["test"] and (done.folder / "model" / "golden.json").is_file()
    reporter = Exchanges(path, other, after=3)
    done = train({**values, "output": str(tmp_path / "two" / "run")}, reporter=reporter)
    assert "baseline" not in done.scores["test"] and not (done.folder / "model" / "golden.json").exists()
    told = next(line for line in reporter.notes if "cannot be read again" in line)
    assert "has changed since it was prepared" in told and "no baselines" in told and "no golden examples" in told


def test_a_file_that_changes_while_it_is_evaluated_is_told(run_values, tmp_path, monkeypatch):
    done = train({**run_values, "evaluate": {"baselines": True}})
    data = write_jsonl(
        tmp_path / "new.jsonl",
        [json.loads(line) for line in Path(run_values["data"]["train"]).read_text().splitlines()],
    )
    other = write_jsonl(tmp_path / "other.jsonl", [{"text": "x", "label": "order_status"}] * 9)
    with monkeypatch.context() as patched:
        at(patched, score_run, "encode_file", lambda: exchange(data, other))
        with pytest.raises(UserError, match="the file changed while it was read"):
            score_run.evaluate(done.folder, str(data))
    notes: list[str] = []
    at(
        monkeypatch,
        score_run,
        "_scored",
        lambda: exchange(data, write_jsonl(tmp_path / "third", [{"text": "y", "label": "order_status"}])),
    )
    assert "baseline" not in score_run.evaluate(done.folder, str(data), note=notes.append)
    assert any("cannot be read again" in line for line in notes)


def test_files_are_watched_by_what_was_opened(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "y"}] * 3)
    files = Unchanged.hashed([open_source(str(path))])
    files.check()
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match="changed while it was read"):
        files.check()
    with files.while_read():  # its content is the same: as good before a pass
        pass
