"""A run opens its data file at most six times: a look, the first rows, its hash, the first pass, encoding, and one later pass."""

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import tunewright as tw
from tests.conftest import write_jsonl
from tunewright.preparation import open_inputs
from tunewright.reading import open_source
from tunewright.runs.autoconfig import config_for_data

ROWS = [
    {"text": f"a {'lovely' if number % 2 else 'dull'} film, number {number}", "label": "good" if number % 2 else "bad"}
    for number in range(12)
]
MOST_FILES = 130
"""Files of the package that a run may call into. The aim is 80; this is what keeps it from growing meanwhile."""
_WATCHED: dict[str, list[str]] = {}
"""File -> from where it was opened, for those that are watched."""


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _WATCHED and isinstance(arguments[0], (str, os.PathLike)) and str(arguments[0]) in _WATCHED:
        frame, callers = sys._getframe(1), []
        while frame is not None:
            if "tunewright" in frame.f_code.co_filename:
                callers.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}")
            frame = frame.f_back
        _WATCHED[str(arguments[0])].append(" < ".join(callers[:6]))


sys.addaudithook(_on_event)


@contextmanager
def openings(path: Path) -> Iterator[list[str]]:
    _WATCHED[str(path)] = []
    try:
        yield _WATCHED[str(path)]
    finally:
        del _WATCHED[str(path)]


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        return write_jsonl(path, ROWS)
    path.write_text("text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in ROWS))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("alone", [False, True], ids=["config", "data file alone"])
def test_a_run_opens_its_data_file_at_most_six_times(suffix, alone, run_values, tmp_path):
    path = written(tmp_path, suffix)
    words = [f"model={run_values['model']}", "train.max_steps=1", f"output={tmp_path / 'run'}"]
    with openings(path) as seen:
        result = tw.train(str(path), words) if alone else tw.train({"data": str(path)}, words)
    assert "tfidf_logreg" in result.scores["test"]["baseline"], "what needs texts again had them"
    assert (result.folder / "model" / "golden.json").is_file()
    assert 0 < len(seen) <= 6, "\n".join(seen)


def called_into(run: Callable[[], object]) -> set[str]:
    """Files of the package in which a function is called while this runs."""
    root, found = str(Path(tw.__file__).parent), set[str]()

    def on_call(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(
            root
        ):  # a function, and no body of a module or class
            found.add(code.co_filename.removeprefix(root + os.sep))

    before = sys.gettrace()
    threading.settrace(on_call)
    sys.settrace(on_call)
    try:
        run()
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]
    return found


def test_a_run_calls_into_few_files(run_values, tmp_path):
    values = {"data": str(written(tmp_path, ".csv")), "task": "classification", "model": run_values["model"]}
    more = {"train": {"max_steps": 1}, "evaluate": {"baselines": False}, "output": str(tmp_path / "run")}
    files = called_into(lambda: tw.train({**values, **more}))
    assert len(files) <= MOST_FILES, "\n".join(sorted(files))


def test_first_rows_are_read_once_and_again_where_more_are_asked_for(tmp_path):
    path = write_jsonl(tmp_path / "many.jsonl", ROWS * 25)
    source = open_source(str(path))
    with openings(path) as seen:
        assert [row.line for row in source.first_rows(3)] == [1, 2, 3] and len(source.first_rows(200)) == 200
        assert not seen, "opening looked at them"
        assert len(source.first_rows(250)) == 250 and len(source.first_rows(20)) == 20 and len(seen) == 1
        assert len(source.first_rows(400)) == len(source.first_rows(500)) == 300 and len(seen) == 2


def test_a_file_that_changed_since_it_was_looked_at_is_opened_afresh(run_values, tmp_path):
    path = written(tmp_path, ".csv")
    config = config_for_data(str(path), [f"model={run_values['model']}"])
    (before,) = open_inputs(config).sources["train"]
    assert before is open_inputs(config).sources["train"][0]
    path.write_text(path.read_text() + '"one more, and longer",good\n')
    (after,) = open_inputs(config).sources["train"]
    assert after is not before and len(list(after.rows())) == 13
