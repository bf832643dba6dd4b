"""Hashes that one process writes and another compares: they say the same of the same, whoever computes them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import messages, write_jsonl
from tests.runs.test_resume import stopped
from tests.tasks.test_contract import values_for
from tunewright.config.load import load_config, parse_config
from tunewright.evaluation.score_run import evaluate
from tunewright.files.atomic import json_sha256, read_json, write_json
from tunewright.preparation import prepare
from tunewright.runs.autoconfig import as_config
from tunewright.runs.train import train
from tunewright.training.fingerprint import hash_of_rows

KEYS = st.one_of(st.text(max_size=4), st.integers(-20, 20), st.booleans(), st.none(), st.floats(-9, 9, width=16))
VALUES = st.recursive(
    st.one_of(st.text(max_size=4), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=12)),
    max_leaves=30,
)


@given(VALUES)
def test_a_hash_is_that_of_what_is_read_back(value):
    assert json_sha256(value) == json_sha256(json.loads(json.dumps(value)))


@given(st.dictionaries(st.integers(0, 2_000), st.text(max_size=3), max_size=20))
def test_a_hash_does_not_depend_on_the_order_of_keys_that_are_numbers(value):
    backwards = dict(reversed(value.items()))
    assert json_sha256(value) == json_sha256(backwards) == json_sha256({str(key): why for key, why in value.items()})


def test_a_hash_of_texts_alone_is_what_it_always_was():
    """Names of token stores and run folders stay."""
    value = {"b": [1, 2.5, None], "a": {"c": "ä"}}
    assert json_sha256(value) == hashlib.sha256(b'{"a": {"c": "\\u00e4"}, "b": [1, 2.5, null]}').hexdigest()


def with_long_answers(base: dict, folder, kind: str = "sft", every: int = 3) -> dict:
    """A run that sets many rows aside because their answers do not fit: numbers of one, two and three digits."""
    values = values_for(kind, base, folder)
    path = folder / "data.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        if number % every == 0:
            long = " ".join(["Far too long an answer."] * 60)
            if kind == "sft":
                row["messages"][-1]["content"] = long
            else:
                row["chosen"] = long
    write_jsonl(path, rows)
    return {**values, "data": {**values["data"], "on_bad_rows": "skip"}}


def test_a_store_says_the_same_to_its_maker_and_to_who_opens_it(run_values, tmp_path):
    config = parse_config(with_long_answers(run_values, tmp_path))
    made, opened = prepare(config), prepare(config)
    assert not made.reused and opened.reused
    numbers = [int(number) for shard in made.manifest["splits"]["train"]["shards"] for number in shard["rejected"]]
    assert min(numbers) < 10 <= max(numbers), "numbers that sort otherwise as texts"
    assert made.manifest == opened.manifest and hash_of_rows(made.manifest) == hash_of_rows(opened.manifest)


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
def test_a_run_with_rows_set_aside_goes_on_and_is_evaluated(run_values, tmp_path, kind):
    values = with_long_answers(run_values, tmp_path, kind)
    stopped(values, tmp_path / "run", 3)
    done = train({**values, "output": str(tmp_path / "run")})
    assert train({**values, "output": str(tmp_path / "run")}).already_finished
    assert evaluate(done.folder)["rows"] == done.scores["test"]["rows"]


@pytest.mark.parametrize("by_maker", [True, False], ids=["by the maker", "by a reader"])
def test_runs_of_the_time_before_go_on(run_values, tmp_path, by_maker):
    """Both hashes that were written for one store: by the process that made it, and by those that opened it."""
    values = with_long_answers(run_values, tmp_path)
    values = stopped(values, tmp_path / "run", 3)
    manifest = read_json(next((tmp_path / ".store").glob("*/manifest.json")))
    if by_maker:
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                shard["rejected"] = {int(number): why for number, why in shard["rejected"].items()}
    text = json.dumps([manifest["splits"], manifest["task_state"]], sort_keys=True)
    before = hashlib.sha256(text.encode()).hexdigest()
    (state,) = (tmp_path / "run" / "checkpoints").glob("*/state.json")
    facts = read_json(state)
    write_json(state, {**facts, "origin": {**facts["origin"], "rows": before}})
    manifest_of = read_json(state.with_name("manifest.json"))
    manifest_of["files"]["state.json"] = {
        "bytes": state.stat().st_size,
        "sha256": hashlib.sha256(state.read_bytes()).hexdigest(),
    }
    write_json(state.with_name("manifest.json"), manifest_of)
    done = train(values)
    assert done.num_steps > 3
    scores = read_json(done.folder / "scores.json")
    write_json(done.folder / "scores.json", {**scores, "origin": {**scores["origin"], "rows": before}})
    assert train(values).already_finished and evaluate(done.folder)["rows"]


KINDS = ("classification", "multi_label", "ner", "sft", "kto")
_PREPARE = """
import json, sys
from tunewright.config.load import load_config
from tunewright.preparation import prepare
from tunewright.training.fingerprint import hash_of_rows
for path in sys.argv[1:]:
    config = load_config(path)
    print(path.rsplit("/", 2)[1], prepare(config).store.folder.name, hash_of_rows(prepare(config).manifest), config.run_folder.name)
"""


@pytest.mark.slow
def test_no_hash_depends_on_the_order_of_sets(run_values, tmp_path):
    """Several kinds of tasks, prepared by two processes whose hashes of texts differ: the same stores, byte for byte."""
    found = []
    configs = []
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        base = {**run_values, "data": {**run_values["data"], "train": str(folder / "data.jsonl")}}
        values = values_for(kind, base, folder)
        if kind == "classification":
            write_jsonl(folder / "data.jsonl", messages(80))
        configs.append(folder / "config.yaml")
        write_json(configs[-1], values)  # JSON is YAML
    for seed in ("1", "2"):
        for path in configs:
            values = read_json(path)
            write_json(path, {**values, "output": str(path.parent / seed / "run")})
        command = [sys.executable, "-c", _PREPARE, *map(str, configs)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}, check=True
        )
        found.append(done.stdout)
    assert found[0] == found[1] and len(found[0].splitlines()) == len(KINDS)


def test_a_folder_is_named_alike_by_a_config_and_by_what_is_read_back_of_it(run_values, tmp_path):
    values = {key: value for key, value in run_values.items() if key != "output"}
    values["task"] = {"name": "sft", "template_kwargs": {"depths": {9: "a", 10: "b"}}}
    config = parse_config(values)
    write_json(tmp_path / "again.yaml", config.as_dict())
    assert load_config(tmp_path / "again.yaml").run_folder == config.run_folder == as_config(values).run_folder
