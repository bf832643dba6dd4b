"""`predict` on files and streams: results come as they are computed, a killed one goes on, tables hold texts exactly."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import tunewright as tw
import tunewright.cli.predict_outputs as outputs
from tests.cli.test_cli import tunewright
from tests.conftest import messages, write_jsonl
from tests.tasks.test_contract import values_for
from tunewright.cli.predict_inputs import bounded_lines
from tunewright.errors import UserError
from tunewright.prediction import Model

KINDS = ["classification", "multi_label", "pairs", "ner", "mlm", "clm", "sft", "reward", "dpo"]


@pytest.fixture(scope="module")
def runs(tiny_bert, tmp_path_factory):
    """Kind -> a finished run of two steps, made when it is asked for."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            rows = [row for row in messages() if row["label"] in ("order_status", "return_item", "payment_problem")]
            write_jsonl(folder / "data.jsonl", rows[:60])
            base = {
                "model": str(tiny_bert), "data": {"train": str(folder / "data.jsonl"), "max_length": 48},
                "train": {"max_steps": 2, "batch_size": 8, "precision": "fp32", "save_every": "never"},
                "evaluate": {"baselines": False}, "output": str(folder / "run"),
            }  # fmt: skip
            made[kind] = tw.train(values_for(kind, base, folder)).folder
        return made[kind]

    return of


def rows_for(kind: str, number: int) -> list[dict]:
    """Rows to predict, of many lengths."""
    texts = [row["text"] * (1 + at % 3) for at, row in enumerate(messages(number))]
    if kind == "mlm":
        texts = [f"[MASK] {text}" for text in texts]
    if kind == "pairs":
        return [{"sentence1": text, "sentence2": texts[-at], "n": at} for at, text in enumerate(texts)]
    if kind == "sft":
        return [{"messages": [{"role": "user", "content": text}], "n": at} for at, text in enumerate(texts)]
    if kind == "dpo":
        return [{"prompt": text, "n": at} for at, text in enumerate(texts)]
    if kind == "reward":
        return [{"prompt": text, "chosen": "yes", "rejected": "no", "n": at} for at, text in enumerate(texts)]
    return [{"text": text, "n": at} for at, text in enumerate(texts)]


def small_windows(monkeypatch, rows: int = 4) -> None:
    monkeypatch.setattr("tunewright.prediction.WINDOW_ROWS", rows)
    monkeypatch.setattr("tunewright.prediction.WRITING_ROWS", rows)


class Killed(BaseException):
    """As abrupt as a process can be ended from inside."""


def killed_after(monkeypatch, num_windows: int):
    """Predictions end behind so many windows: nothing of ours gets to say anything."""
    answers, left = Model.answers, [num_windows]

    def counted(self, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return answers(self, *args, **kwargs)

    monkeypatch.setattr(Model, "answers", counted)
    monkeypatch.setattr(outputs.PartFile, "close", lambda self, say: self._file.close())


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*((kind, ".jsonl") for kind in KINDS), ("classification", ".csv"), ("ner", ".json"), ("ner", ".tsv")],
)
def test_a_killed_prediction_goes_on_and_the_file_is_the_same(runs, tmp_path, monkeypatch, kind, suffix):
    small_windows(monkeypatch)
    run = runs(kind)
    write_jsonl(tmp_path / "rows.jsonl", rows_for(kind, 18))
    words = [
        "predict",
        str(run),
        "--file",
        "rows.jsonl",
        *(["--max-new-tokens", "4"] if kind in ("clm", "sft", "dpo") else []),
    ]
    whole = tunewright(*words, "-o", f"whole{suffix}", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    for num_windows in (2, 1):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            killed_after(patch, num_windows)
            tunewright(*words, "-o", f"again{suffix}", cwd=tmp_path)
    (part,) = tmp_path.glob(f".again{suffix}.part-*")
    assert part.read_bytes().count(b"\n") == 12  # of 18 rows in windows of four
    with part.open("ab") as file:
        file.write(b'{"half a li')  # what a full disk or a crash leaves
    done = tunewright(*words, "-o", f"again{suffix}", cwd=tmp_path)
    assert done.returncode == 0 and "Continuing after 12 predictions of an earlier command" in done.stderr
    assert (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted(["rows.jsonl", f"whole{suffix}", f"again{suffix}"])


@pytest.mark.parametrize("change", ["file", "options", "model"])
def test_a_part_of_other_predictions_is_no_beginning(runs, tmp_path, monkeypatch, change):
    small_windows(monkeypatch)
    run = tmp_path / "run"
    import shutil

    shutil.copytree(runs("classification"), run)
    write_jsonl(tmp_path / "rows.jsonl", rows_for("classification", 9))
    words = ["predict", "run", "--file", "rows.jsonl", "-o", "out.jsonl"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 1)
        tunewright(*words, cwd=tmp_path)
    if change == "file":
        write_jsonl(tmp_path / "rows.jsonl", [{**row, "n": 7} for row in rows_for("classification", 9)])
    elif change == "options":
        words += ["--top", "1"]
    else:
        manifest = run / "model" / "manifest.json"
        manifest.write_text(manifest.read_text() + "\n")
        words += ["--no-check"]
    done = tunewright(*words, cwd=tmp_path)
    assert done.returncode == 0 and "starts from the beginning" in done.stderr
    expected = tunewright(*words[:5], "other.jsonl", *words[6:], cwd=tmp_path) if change != "options" else None
    assert expected is None or (tmp_path / "other.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
    assert not list(tmp_path.glob(".*part*"))


def test_links_in_the_place_of_a_part_are_not_followed(runs, tmp_path, monkeypatch):
    """Whatever stands there under a name that a part could have: links, second names, folders, pipes."""
    write_jsonl(tmp_path / "rows.jsonl", rows_for("classification", 3))
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / ".out.csv.part-a").symlink_to(victim)
    (tmp_path / ".tmp-out.csv").symlink_to(victim)
    os.link(victim, tmp_path / ".out.csv.part-b")
    (tmp_path / ".out.csv.part-c").mkdir()
    os.mkfifo(tmp_path / ".out.csv.part-d")
    (tmp_path / "out.csv").symlink_to(victim)
    done = tunewright("predict", str(runs("classification")), "--file", "rows.jsonl", "-o", "out.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert victim.read_text() == "precious\n" and not (tmp_path / "out.csv").is_symlink()
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


def test_two_commands_do_not_write_one_file(runs, tmp_path):
    origin = outputs.Origin("m", "f", "o")
    part = outputs.PartFile.open(tmp_path / "a.jsonl", origin, say=print)
    part.write([{"a": 1}])
    with pytest.raises(UserError, match="another command is writing it"):
        outputs.PartFile.open(tmp_path / "a.jsonl", origin, say=print)
    part.close(say=print)
    again = outputs.PartFile.open(tmp_path / "a.jsonl", origin, say=print)
    assert again.num_lines == 1
    again.finish()
    assert (tmp_path / "a.jsonl").read_text() == '{"a": 1}\n'


def test_what_an_error_ends_is_kept_and_goes_on_when_bad_rows_are_skipped(runs, tmp_path, monkeypatch):
    small_windows(monkeypatch)
    lines = [json.dumps(row) for row in rows_for("classification", 10)]
    lines[6] = "no JSON"
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    words = ["predict", str(runs("classification")), "--file", "rows.jsonl", "-o", "out.csv"]
    done = tunewright(*words, cwd=tmp_path)
    assert (
        done.returncode == 2 and "rows.jsonl:7: not valid JSON" in done.stderr and "Kept 6 predictions" in done.stderr
    )
    assert not (tmp_path / "out.csv").exists()
    done = tunewright(*words, "--skip-bad-rows", cwd=tmp_path)
    assert done.returncode == 0 and "Continuing after 6 predictions of an earlier command" in done.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["n"] for row in rows] == [*"012345", "", *"789"]
    assert not rows[6]["predicted_label"] and rows[6]["reason"].startswith("not valid JSON") and not rows[5]["reason"]


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_rows_keep_the_lines_aligned(runs, tmp_path, monkeypatch, kind):
    small_windows(monkeypatch, 3)
    rows = rows_for(kind, 7)
    rows[1] = {key: {"messages": [], "n": 1}.get(key, " ") for key in rows[1]}
    rows[4] = {"n": 4}
    write_jsonl(tmp_path / "rows.jsonl", rows)
    words = ["predict", str(runs(kind)), "--file", "rows.jsonl", "--skip-bad-rows"]
    words += ["--max-new-tokens", "3"] if kind in ("clm", "sft", "dpo") else []
    done = tunewright(*words, "-o", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["n"] for row in found] == list(range(7))
    assert [number for number, row in enumerate(found) if "reason" in row] == [1, 4]
    assert set(found[0]) - {"tokens_cut"} <= set(found[1])
    printed = tunewright(*words, cwd=tmp_path).stdout.splitlines()
    assert list(map(json.loads, printed)) == found


@pytest.mark.parametrize("output", [["-o", "o.csv"], []], ids=["written", "printed"])
def test_a_file_that_changes_while_it_is_read_is_told(runs, tmp_path, monkeypatch, output):
    write_jsonl(tmp_path / "rows.jsonl", rows_for("classification", 3))
    answers = Model.answers

    def touching(self, *args, **kwargs):
        with (tmp_path / "rows.jsonl").open("a") as file:
            file.write('{"text": "one more"}\n')
        return answers(self, *args, **kwargs)

    monkeypatch.setattr(Model, "answers", touching)
    done = tunewright("predict", str(runs("classification")), "--file", "rows.jsonl", *output, cwd=tmp_path)
    assert done.returncode == 2 and "changed while it was read" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["rows.jsonl"]


TEXTS = [
    "=1+1",
    "+49 30",
    "-x",
    "@home",
    "\tindented",
    "a,b",
    'say "hi"',
    "two\nlines",
    "cr\r\nlf",
    "lone\rcr",
    " blank ",
    "'=quoted",
    "-1",
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_written_table_holds_the_texts_exactly_and_safe_ones_where_it_is_wished(runs, tmp_path, suffix):
    write_jsonl(tmp_path / "rows.jsonl", [{"text": text, "=cmd": text} for text in TEXTS])
    words = ["predict", str(runs("classification")), "--file", "rows.jsonl", "-o"]
    delimiter = "," if suffix == ".csv" else "\t"

    def cells(name: str) -> list[dict]:
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter=delimiter))

    assert tunewright(*words, f"plain{suffix}", cwd=tmp_path).returncode == 0
    assert [row["text"] for row in cells(f"plain{suffix}")] == TEXTS
    assert tunewright(*words, f"safe{suffix}", "--spreadsheet-safe", cwd=tmp_path).returncode == 0
    safe = [row["text"] for row in cells(f"safe{suffix}")]
    assert safe == [f"'{text}" if text[0] in "=+-@\t\r\n" else text for text in TEXTS]
    assert "'=cmd" in cells(f"safe{suffix}")[0] and [row["'=cmd"] for row in cells(f"safe{suffix}")] == safe
    done = tunewright(*words, "a.jsonl", "--spreadsheet-safe", cwd=tmp_path)
    assert done.returncode == 2 and "needs a table as output" in done.stderr


def test_a_written_parquet_file_has_types_and_every_value(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(outputs, "_PARQUET_ROWS", 2)
    rows = [
        {"text": "a", "n": 1, "scores": {"x": 0.5}, "entities": [], "any": 1, "empty": {}},
        {"text": "=b\n", "n": None, "scores": {"y": 1.0}, "entities": [], "any": "one"},
        {"text": None, "n": 3, "scores": {}, "entities": [{"start": 0, "label": "PER"}], "any": [1]},
    ]
    with open(tmp_path / "out.parquet", "wb") as sink:
        outputs.write_parquet(lambda: iter(rows), sink)
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["text"], row["n"]) for row in found] == [("a", 1), ("=b\n", None), (None, 3)]
    assert [row["scores"] for row in found] == [{"x": 0.5, "y": None}, {"x": None, "y": 1.0}, {"x": None, "y": None}]
    assert [row["entities"] for row in found] == [[], [], [{"start": 0, "label": "PER"}]]
    assert [json.loads(row["any"]) for row in found] == [1, "one", [1]]
    assert [row["empty"] for row in found] == ["{}", None, None]


@pytest.mark.parametrize("kind", ["classification", "ner", "dpo"])
def test_predictions_are_written_as_parquet(runs, tmp_path, kind):
    import pyarrow.parquet as pq

    write_jsonl(tmp_path / "in.jsonl", rows_for(kind, 9))
    for suffix in ("jsonl", "parquet"):
        done = tunewright("predict", str(runs(kind)), "--file", "in.jsonl", "-o", f"out.{suffix}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [{name: value for name, value in row.items() if value is not None} for row in found] == lines


def test_several_files_are_evaluated_as_one(runs, tmp_path):
    rows = [row for row in messages() if row["label"] in ("order_status", "return_item", "payment_problem")]
    for number in range(2):
        write_jsonl(tmp_path / f"part-{number}.jsonl", rows[10 * number : 10 * number + 10])
    done = tunewright("evaluate", str(runs("classification")), "part-*.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["rows"] == 20, done.stderr
    assert tunewright("evaluate", str(runs("classification")), "none-*.jsonl", cwd=tmp_path).returncode == 2


def test_our_own_reader_gets_the_texts_of_a_written_table_back(runs, tmp_path):
    from tunewright.reading import open_source

    write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS])
    words = ["predict", str(runs("classification")), "--file", "rows.jsonl", "-o", "out.csv"]
    assert tunewright(*words, cwd=tmp_path).returncode == 0
    assert [row.fields["text"] for row in open_source(str(tmp_path / "out.csv")).rows()] == TEXTS


# Streams


class Pausing:
    """A stream of chunks, without a file behind it."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def fileno(self) -> int:
        raise OSError

    def read(self, size: int) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_read_in_bounded_pieces(size):
    data = b"abcd\nabcde\nabcdef\r\nabcd\r\n\n" + b"x" * 50 + b"\nlast\r"
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(bounded_lines(Pausing(*chunks), 4))
    assert found == [(1, b"abcd"), (2, 5), (3, 7), (4, b"abcd"), (5, b""), (6, 50), (7, b"last")]
    assert list(bounded_lines(Pausing(), 4)) == []


def test_a_line_that_is_too_long_is_refused_by_its_place_size_and_key(runs, tmp_path):
    run = str(runs("classification"))
    given = b"fine\n" + b"a" * 3_000 + b"\nalso fine\n"
    done = tunewright("predict", run, "-", "--max-row-bytes", "1000", cwd=tmp_path, stdin=given)
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 1
    assert "stdin:2: the row has 3,000 bytes, more than data.max_row_bytes allows (1,000)" in done.stderr
    assert "--max-row-bytes" in done.stderr
    done = tunewright("predict", run, "-", "--max-row-bytes", "1000", "--skip-bad-rows", cwd=tmp_path, stdin=given)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3
    for words in (["a" * 3_000], ["--pair", "a" * 2_000, "b" * 2_000]):
        done = tunewright("predict", run, *words, "--max-row-bytes", "1000", cwd=tmp_path)
        assert done.returncode == 2 and "data.max_row_bytes allows (1,000)" in done.stderr


def test_the_limit_is_that_of_the_run(runs, tmp_path):
    import shutil

    shutil.copytree(runs("classification"), tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    values = yaml.safe_load(config.read_text())
    values["data"]["max_row_bytes"] = 50
    config.write_text(yaml.safe_dump(values))
    done = tunewright("predict", "run", "-", "--no-check", cwd=tmp_path, stdin="a" * 60 + "\n")
    assert done.returncode == 2 and "allows (50)" in done.stderr


@pytest.mark.parametrize("kind", ["classification", "ner", "mlm", "clm", "sft", "reward"])
def test_a_blank_line_of_stdin_has_one_empty_answer(runs, tmp_path, kind):
    text = "where is it [MASK]" if kind == "mlm" else "where is it"
    words = ["predict", str(runs(kind)), "-", *(["--max-new-tokens", "3"] if kind in ("clm", "sft") else [])]
    for given, blank in (("\n", [0]), (f"{text}\n\n  \n{text}\n", [1, 2])):
        done = tunewright(*words, cwd=tmp_path, stdin=given)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 0 and len(found) == given.count("\n"), done.stderr
        assert [number for number, one in enumerate(found) if one.get("reason") == "blank text"] == blank


def test_a_line_is_answered_while_the_input_is_still_open(runs, tmp_path):
    command = [sys.executable, "-m", "tunewright.cli.main", "predict", str(runs("classification")), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdin is not None and process.stdout is not None
        for text in (b"where is it\n", b"my card\nand this\n"):
            process.stdin.write(text)
            process.stdin.flush()
            for _ in range(text.count(b"\n")):
                assert json.loads(process.stdout.readline())["label"]
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(60) == 0


def test_results_of_a_file_come_out_before_its_end(runs, tmp_path, monkeypatch):
    small_windows(monkeypatch)
    write_jsonl(tmp_path / "rows.jsonl", rows_for("classification", 12))
    sizes: list[int] = []
    answers = Model.answers

    def looking(self, *args, **kwargs):
        parts = list(tmp_path.glob(".out.jsonl.part-*"))
        sizes.append(sum(part.read_bytes().count(b"\n") for part in parts))
        return answers(self, *args, **kwargs)

    monkeypatch.setattr(Model, "answers", looking)
    words = ["predict", str(runs("classification")), "--file", "rows.jsonl"]
    assert tunewright(*words, "-o", "out.jsonl", cwd=tmp_path).returncode == 0
    assert sizes == [0, 4, 8]


def test_a_window_ends_where_long_texts_fill_it(runs, monkeypatch):
    monkeypatch.setattr("tunewright.prediction.WINDOW_CHARACTERS", 100)
    model = tw.load(runs("classification"), precision="fp32")
    texts = ["a" * 40] * 7 + ["b"]
    windows = list(model.windows([model.example(text, 1) for text in texts], lambda one: one))
    assert [len(window) for window in windows] == [3, 3, 2]
    assert [one.label for one in model.predict(texts)] == [model.predict([text])[0].label for text in texts]


def test_memory_does_not_grow_with_the_rows(runs, tmp_path, monkeypatch):
    """What Python holds at its peak, of six windows and of thirty."""
    import tracemalloc

    small_windows(monkeypatch, 50)
    peaks = []
    for number in (300, 1_500):
        write_jsonl(
            tmp_path / "rows.jsonl", [{"text": f"where is parcel {at}", "filler": "x" * 2_000} for at in range(number)]
        )
        tracemalloc.start()
        done = tunewright("predict", str(runs("classification")), "--file", "rows.jsonl", "-o", "out.csv", cwd=tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert done.returncode == 0
    assert peaks[1] < 1.2 * peaks[0]


def test_a_stopped_command_says_what_is_kept(runs, tmp_path, monkeypatch):
    small_windows(monkeypatch)
    write_jsonl(tmp_path / "rows.jsonl", rows_for("classification", 12))
    answers, seen = Model.answers, []

    def interrupted(self, *args, **kwargs):
        seen.append(time.monotonic())
        if len(seen) == 3:
            raise KeyboardInterrupt
        return answers(self, *args, **kwargs)

    monkeypatch.setattr(Model, "answers", interrupted)
    words = ["predict", str(runs("classification")), "--file", "rows.jsonl", "-o", "out.jsonl"]
    done = tunewright(*words, cwd=tmp_path)
    assert done.returncode == 130 and "Kept 8 predictions" in done.stderr


@pytest.mark.parametrize("kind", [*KINDS, "next_sentence"])
def test_what_a_finished_run_proposes_to_try_works(runs, tmp_path, kind):
    import shlex

    from tunewright.cli.progress import try_it

    command, *words = shlex.split(try_it(runs(kind)))
    assert command == "tunewright"
    done = tunewright(*words, *(["--max-new-tokens", "2"] if kind in ("clm", "sft", "dpo") else []), cwd=tmp_path)
    assert done.returncode == 0 and done.stdout, done.stderr
