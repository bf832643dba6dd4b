"""From files to a token store: every bad row is named and kept apart, nothing is lost, and nothing is encoded twice."""

import functools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import messages, write_jsonl
from tunewright.batching.store import SplitWriter
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.files import known_hashes
from tunewright.files.atomic import file_sha256
from tunewright.preparation import encode as encoding
from tunewright.preparation import prepare

GOOD = [{"text": f"row number {i}", "label": "xy"[i % 2]} for i in range(6)]
JSONL = "".join(json.dumps(row) + "\n" for row in GOOD).encode()
CSV = b"text,label\n" + b"".join(b"row number %d,%s\n" % (i, b"xy"[i % 2 : i % 2 + 1]) for i in range(6))


@pytest.fixture
def run(tiny_bert, tmp_path):
    """prepare() on a file that is written here; `data.train` and `output` are set."""

    def go(content, name="a.jsonl", model=tiny_bert, say=lambda _: None, **data):
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            write_jsonl(tmp_path / name, content)
        values = {
            "model": str(model),
            "data": {"train": str(tmp_path / name), **data},
            "output": str(tmp_path / "runs" / "run"),
        }
        return prepare(parse_config(values), say=say)

    return go


def rows_of(prepared, *splits):
    """Everything the store says, per row: address, tokens, label."""
    task, out = prepared.task(), {}
    for name in splits or prepared.store.splits:
        split = prepared.store[name]
        out[name] = [
            (split.address(i).rsplit("/", 1)[1], split.input_ids(i).tolist(), task.gold_names(split, i)) for i in range(len(split))
        ]  # fmt: skip
    return out


def sizes(prepared):
    return {name: len(prepared.store[name]) for name in prepared.store.splits}


def source(prepared, number=0):
    return prepared.manifest["ledger"]["sources"][number]


# Bad rows: stopped at with file and line, or kept apart

BAD_ROWS = {
    "cut JSON": ("a.jsonl", JSONL + b'{"text": "the rest is mis', 7, r"", {}),
    "no object": ("a.jsonl", JSONL + b"[1, 2]\n", 7, r"", {}),
    "missing key": ("a.jsonl", JSONL + b'{"text": "a"}\n', 7, r"no field 'label'; found 'text'", {}),
    "misspelt key": ("a.jsonl", JSONL + b'{"txet": "a", "label": "x"}\n', 7, r"no field 'text'; found 'txet', 'label'", {}),
    "short row": ("a.csv", CSV + b"alone\n", 8, r"1 field, expected 2 \(text, label\)", {}),
    "long row": ("a.csv", CSV + b"one, two,x\n", 8, r"3 fields, expected 2 \(text, label\)", {}),
    "unclosed quote": ("a.csv", CSV + b'"never closed,x\n', 8, r"the quote opened here is never closed", {}),
    "wrong encoding": ("a.csv", CSV + b"caf\xe9,x\n", 8, rf"byte 0xE9 at offset {len(CSV) + 3} is not UTF-8; set data.encoding=cp1252", {}),
    "NUL": ("a.csv", CSV + b"a\x00b,x\n", 8, r"the text holds a NUL character", {}),
    "half a surrogate": ("a.jsonl", JSONL + b'{"text": "\\ud83d", "label": "x"}\n', 7, r"surrogate", {}),
    "too large": ("a.csv", CSV + b"x" * 60 + b",y\n", 8, r"the row has 63 bytes, more than data.max_row_bytes allows \(50\)", {"max_row_bytes": 50}),
    "blank text": ("a.csv", CSV + b" ,x\n", 8, r"blank text", {}),
    "no label": ("a.csv", CSV + b"fine,\n", 8, r"no label", {}),
    "number as text": ("a.jsonl", JSONL + b'{"text": 5, "label": "x"}\n', 7, r"'text' holds int 5, expected text", {"text": "text"}),
    "unusable label": ("a.jsonl", JSONL + b'{"text": "a", "label": 0.5}\n', 7, r"the label is 0.5, expected a text or an integer", {}),
    "label not named": ("a.jsonl", JSONL + b'{"text": "a", "label": "z"}\n', 7, r"label 'z' is not among data.label_names", {"label_names": ["x", "y"]}),
    "no group": (
        "a.jsonl", JSONL.replace(b"}", b', "group": "g"}') + b'{"text": "a", "label": "x", "group": null}\n', 7,
        r"no value in 'group', the column of data.group_by", {"group_by": "group"},
    ),
    "bad weight": ("a.csv", b"text,label,w\nrow a,x,1\nrow b,y,2\nrow c,x,heavy\n", 4, r"the weight is 'heavy', expected a number", {"weight": "w"}),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_or_kept_apart(run, case):
    name, content, line, reason, data = BAD_ROWS[case]
    with pytest.raises(
        UserError, match=rf"(?s)1 of \d+ rows cannot be used:\n  \S*/{name}:{line}: .*{reason}.*data.on_bad_rows=skip"
    ):
        run(content, name, **data)
    prepared = run(content, name, on_bad_rows="skip", **data)
    num_good = source(prepared)["kept"]
    assert num_good == (2 if case == "bad weight" else 6)
    assert {key: source(prepared)[key] for key in ("read", "rejected")} == {"read": num_good + 1, "rejected": 1}
    (reject,) = map(json.loads, (prepared.store.folder / "rejected.jsonl").read_text().splitlines())
    assert (reject["line"], reject["source"].endswith(name), bool(reject["raw"])) == (line, True, True)
    addresses = {row[0] for rows in rows_of(prepared).values() for row in rows}
    first = 2 if name == "a.csv" else 1
    assert addresses == {f"{name}:{number}" for number in range(first, first + num_good)}


def test_many_bad_rows_are_counted_and_the_first_are_shown(run):
    rows = [*GOOD, *({"text": "", "label": "x"} for _ in range(8))]
    with pytest.raises(UserError) as error:
        run(rows)
    text = str(error.value)
    assert text.startswith("8 of 14 rows cannot be used:\n") and "a.jsonl:11: blank text\n  and 3 more\n" in text
    listed = text.split("All are listed in ")[1].split(". Fix")[0]
    assert Path(listed).read_text().count("\n") == 8
    reasons = run(rows, on_bad_rows="skip").manifest["ledger"]["reasons"]
    assert reasons == {"blank text": 8}


BAD_FILES = {
    "duplicate headers": ("a.csv", b"text,label,text\na,x,b\n", r"a.csv:1: the header names a column twice; found 'text'"),
    "empty": ("a.csv", b"", r"a.csv: the file is empty"),
    "only a header": ("a.csv", b"text,label\n", r"a.csv: no usable row; found no rows"),
    "only bad rows": ("a.jsonl", b"{broken\n", r"a.jsonl:1: no usable row"),
    "unknown suffix": ("a.xyz", JSONL, r"a.xyz: unknown file suffix .xyz"),
    "spreadsheet": ("a.xlsx", b"PK", r"a.xlsx: spreadsheets are not supported"),
    "one label": ("a.csv", b"text,label\nrow a,x\nrow b,x\nrow c,x\n", r"a.csv, column 'label': classification needs at least two labels; found only 'x'"),
    "broken archive": ("a.jsonl.gz", b"\x1f\x8b\x08\x00rubbish", r"a.jsonl.gz: the compressed file is damaged or incomplete"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_used_says_why(run, case):
    name, content, text = BAD_FILES[case]
    with pytest.raises(UserError, match=text):
        run(content, name, on_bad_rows="skip")


def test_classification_wants_a_label_column(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a b c"}, {"text": "d e f"}])
    values = {"task": "classification", "data": str(tmp_path / "a.jsonl"), "output": str(tmp_path / "run")}
    with pytest.raises(UserError, match=r"a.jsonl: no label column found; found 'text'"):
        prepare(parse_config(values))


def test_a_file_that_is_not_there(run, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", GOOD)
    with pytest.raises(UserError, match=r"trian.jsonl: no such file. Did you mean .*train.jsonl\?"):
        run(None, "trian.jsonl")
    with pytest.raises(UserError, match=r"this is a folder, not a file; found inside it 'train.jsonl'"):
        run(None, "")
    with pytest.raises(UserError, match=r"test.jsonl: no such file"):
        run(GOOD, test=str(tmp_path / "test.jsonl"))


@pytest.mark.parametrize("key", ["text", "pair", "label", "group_by", "weight"])
def test_a_column_that_is_not_there(run, key):
    with pytest.raises(UserError, match=r"a.jsonl: no column 'lable'; found 'text', 'label'. Did you mean 'label'\?"):
        run(GOOD, **{key: "lable"})


def test_an_output_that_cannot_be_written(tiny_bert, tmp_path):
    data = write_jsonl(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(UserError, match=r"output .*a.jsonl/runs/x: nothing can be written there \(Not a directory\)"):
        prepare(parse_config({"model": str(tiny_bert), "data": str(data), "output": f"{data}/runs/x"}))


def test_too_many_labels_are_no_label_column(run):
    with pytest.raises(UserError, match=r"does not look like a label column; found 5,001 different values"):
        run([{"text": f"row {i}", "label": f"l{i}"} for i in range(5_100)], text="text", label="label")


# Labels and splits


def test_a_label_that_occurs_once_is_learned_from(run):
    prepared = run([*GOOD * 10, {"text": "the only one", "label": "z"}], validation_ratio=0.3, test_ratio=0.3)
    assert [row[0] for row in rows_of(prepared, "train")["train"] if row[2] == "z"] == ["a.jsonl:61"]
    assert prepared.manifest["ledger"]["label_counts"] == {"x": 30, "y": 30, "z": 1}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_training_never_shows_is_rejected(run, tmp_path, split):
    other = str(write_jsonl(tmp_path / "other.jsonl", [*GOOD[:3], {"text": "new", "label": "z"}]))
    with pytest.raises(UserError, match=r"other.jsonl:4: label 'z' never occurs in the training rows"):
        run(GOOD, **{split: other})
    prepared = run(GOOD, on_bad_rows="skip", test_ratio=0, validation_ratio=0, **{split: other})
    assert sizes(prepared) == {"train": 6, split: 3}
    assert (source(prepared, 1)["kept"], source(prepared, 1)["rejected"]) == (3, 1)


def test_without_files_validation_and_test_are_carved_from_train(run):
    prepared = run(GOOD * 10)
    assert sizes(prepared) == {"train": 48, "validation": 6, "test": 6}
    assert sorted(row[0] for rows in rows_of(prepared).values() for row in rows) == sorted(
        f"a.jsonl:{i}" for i in range(1, 61)
    )
    for rows in rows_of(prepared).values():
        assert sum(row[2] == "x" for row in rows) * 2 == len(rows)
        lines = [int(row[0].split(":")[1]) for row in rows]
        assert lines == sorted(lines)
    assert sizes(run(GOOD * 10, test_ratio=0, validation_ratio=0.5)) == {"train": 30, "validation": 30}
    assert rows_of(run(GOOD * 10, seed=1)) != rows_of(prepared)


def test_a_given_test_file_is_taken_whole_and_validation_still_carved(run, tmp_path):
    test = str(write_jsonl(tmp_path / "test.jsonl", GOOD[:5]))
    prepared = run(GOOD * 10, test=test)
    assert sizes(prepared) == {"train": 54, "validation": 6, "test": 5}
    assert [row[0] for row in rows_of(prepared, "test")["test"]] == [f"test.jsonl:{i}" for i in range(1, 6)]
    both = run(GOOD * 10, test=test, validation=str(write_jsonl(tmp_path / "dev.jsonl", GOOD[:4])))
    assert sizes(both) == {"train": 60, "validation": 4, "test": 5}
    assert sizes(run(GOOD * 10, test=test, test_ratio=0.5)) == {"train": 54, "validation": 6, "test": 5}


def test_several_training_files_are_one(run, tmp_path):
    other = str(write_jsonl(tmp_path / "b.jsonl", GOOD[:2]))
    prepared = run(GOOD, train=[str(tmp_path / "a.jsonl"), other], validation_ratio=0, test_ratio=0)
    assert [row[0] for row in rows_of(prepared)["train"]] == [
        *(f"a.jsonl:{i}" for i in range(1, 7)),
        "b.jsonl:1",
        "b.jsonl:2",
    ]
    assert prepared.store["train"].row_ids.tolist() == list(range(8))


def test_duplicates_stay_and_are_counted_unless_it_is_said(run):
    rows = [*GOOD, GOOD[0], {**GOOD[1], "label": "x"}, GOOD[0]]
    kept = run(rows, validation_ratio=0, test_ratio=0)
    assert sizes(kept) == {"train": 9}
    assert (kept.manifest["ledger"]["duplicates"], kept.manifest["ledger"]["contradicting_texts"]) == (3, 1)
    dropped = run(rows, validation_ratio=0, test_ratio=0, deduplicate=True)
    assert [row[0] for row in rows_of(dropped)["train"]] == [f"a.jsonl:{i}" for i in range(1, 7)]
    assert (source(dropped)["filtered"], dropped.manifest["ledger"]["duplicates"]) == (3, 0)


def test_deduplication_never_touches_the_test_file(run, tmp_path):
    test = str(write_jsonl(tmp_path / "test.jsonl", [GOOD[0], GOOD[0]]))
    prepared = run(GOOD, test=test, validation_ratio=0, deduplicate=True)
    assert sizes(prepared) == {"train": 6, "test": 2}
    assert prepared.manifest["ledger"]["shared_with_train"] == {"test": 2}


@pytest.mark.parametrize(("limit", "expected"), [(3, (3, 3, 3)), ({"train": 5}, (5, 6, 6)), ({"test": 1}, (48, 6, 1))])
def test_a_limit_holds_for_each_split_or_those_named(run, limit, expected):
    prepared = run(GOOD * 10, limit=limit)
    assert tuple(sizes(prepared).values()) == expected
    assert source(prepared)["not_selected"] == 60 - sum(expected)


def test_a_limit_of_nothing_leaves_no_training_row(run):
    with pytest.raises(UserError, match=r"no training row is left"):
        run(GOOD, limit={"train": 0})


def test_groups_stay_together(run):
    rows = [{"text": f"row {i}", "label": "xy"[i % 2], "author": f"a{i // 5}"} for i in range(100)]
    stored = rows_of(run(rows, group_by="author", label="label"))
    authors = {name: {(int(row[0].split(":")[1]) - 1) // 5 for row in split} for name, split in stored.items()}
    assert {name: len(rows) for name, rows in stored.items()} == {"train": 80, "validation": 10, "test": 10}
    assert not authors["train"] & authors["test"] and not authors["train"] & authors["validation"]


# What a row may look like


def test_integer_labels_get_their_names(run):
    rows = [{"text": f"row {i}", "label": i % 2} for i in range(6)]
    assert run(rows).task().labels == ("0", "1")
    named = run(rows, label_names=["negative", "positive"], validation_ratio=0, test_ratio=0)
    assert named.task().labels == ("negative", "positive")
    assert [row[2] for row in rows_of(named)["train"]] == ["negative", "positive"] * 3
    with pytest.raises(UserError, match=r"a label is named twice; found 'a'. Fix data.label_names"):
        run(rows, label_names=["a", "a"])


def test_a_models_own_order_of_the_same_labels_is_kept(run, tiny_bert, tmp_path):
    model = shutil.copytree(tiny_bert, tmp_path / "classifier")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "id2label": {"0": "y", "1": "x"}}))
    assert run(GOOD, model=model).task().labels == ("y", "x")
    (model / "config.json").write_text(json.dumps({**config, "id2label": {"0": "y", "1": "x", "2": "z"}}))
    assert run(GOOD, model=model).task().labels == ("x", "y")


def test_a_parquet_file_names_its_classes(run, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    table = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(6)], "label": [0, 1] * 3}, features=features)
    table.to_parquet(str(tmp_path / "a.parquet"))
    prepared = run(None, "a.parquet", validation_ratio=0, test_ratio=0)
    assert prepared.task().labels == ("bad", "good")
    assert rows_of(prepared)["train"][1][0] == "a.parquet:2" and rows_of(prepared)["train"][1][2] == "good"


def test_several_labels_a_row(run):
    rows = [{"text": f"row {i}", "labels": [["x"], ["x", "y"], [], ["z", "x", "z"]][i % 4]} for i in range(8)]
    prepared = run(rows, validation_ratio=0, test_ratio=0)
    assert prepared.task().multi_label and prepared.task().labels == ("x", "y", "z")
    assert [row[2] for row in rows_of(prepared)["train"]][:4] == [["x"], ["x", "y"], [], ["x", "z"]]
    assert prepared.store["train"].array("labels").reshape(8, 3)[3].tolist() == [1, 0, 1]


def test_several_labels_in_one_cell(run):
    content = b"text,tags\nrow a,x; y\nrow b,y\nrow c,\nrow d,x;\nrow e,y;x\n"
    prepared = run(content, "a.csv", label="tags", label_delimiter=";", validation_ratio=0, test_ratio=0)
    assert [row[2] for row in rows_of(prepared)["train"]] == [["x", "y"], ["y"], [], ["x"], ["x", "y"]]


def test_a_column_for_each_label(run):
    content = b"text,hot,cold,rare\nrow a,1,0,0\nrow b,0,1,0.0\nrow c,False,0,0\nrow d,-1,-1,-1\nrow e,1,true,0\n"
    prepared = run(content, "a.csv", label=["hot", "cold", "rare"], validation_ratio=0, test_ratio=0)
    assert prepared.task().multi_label and prepared.task().labels == ("hot", "cold", "rare")
    assert [row[2] for row in rows_of(prepared)["train"]] == [["hot"], ["cold"], [], ["hot", "cold"]]
    assert source(prepared)["filtered"] == 1
    reopened = type(prepared.task()).from_state(json.loads(json.dumps(prepared.task().state())))
    assert reopened.columns == prepared.task().columns


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label": ["hot", "hot"]}, "two different columns"),
        ({"label": ["hot"]}, "two different columns"),
        ({"label": ["hot", "wet"]}, "no column 'wet'"),
        ({"label": ["hot", "cold"], "multi_label": False}, "is multi-label"),
        ({"label": ["hot", "cold"], "label_names": ["a", "b"]}, "label_names"),
    ],
)
def test_columns_that_cannot_each_be_a_label(run, values, message):
    with pytest.raises(UserError, match=message):
        run(b"text,hot,cold\nrow a,1,0\nrow b,0,1\n", "a.csv", **values)


def test_several_label_columns_are_for_classification(tmp_path, tiny_bert):
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"tokens": ["a"], "ner_tags": ["B-X"]}, {"tokens": ["b"], "ner_tags": ["O"]}]
    )
    values = {"task": "ner", "model": str(tiny_bert), "data": {"train": str(path), "label": ["ner_tags", "x"]}}
    with pytest.raises(UserError, match="a column for each label is for classification"):
        prepare(parse_config(values))


def test_pairs_and_joined_texts_are_encoded_as_the_tokenizer_does(run, tiny_bert):
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tiny_bert)
    rows = [{"subject": f"order {i}", "body": f"late {i}", "label": "xy"[i % 2]} for i in range(4)]
    pairs = run(rows, text="subject", pair="body", validation_ratio=0, test_ratio=0).store["train"]
    joined = run(rows, text=["subject", "body"], validation_ratio=0, test_ratio=0).store["train"]
    for i in range(4):
        expected = plain(f"order {i}", f"late {i}")
        assert (pairs.input_ids(i).tolist(), pairs.token_type_ids(i).tolist()) == (
            expected["input_ids"],
            expected["token_type_ids"],
        )
        assert joined.input_ids(i).tolist() == plain(f"order {i}\n\nlate {i}")["input_ids"]
        assert joined.token_type_ids(i) is None


def changed_tokenizer(tiny_bert, folder, change):
    model = shutil.copytree(tiny_bert, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        values = json.loads((model / name).read_text())
        change(name, values)
        (model / name).write_text(json.dumps(values))
    return model


def test_a_model_without_token_types_gets_none(run, tiny_bert, tmp_path):
    """RoBERTa ignores them, GPT-2 would add embeddings for them, DistilBERT would refuse them; prediction gives none."""

    def without(name, values):
        if name == "tokenizer_config.json":
            values["model_input_names"] = ["input_ids", "attention_mask"]

    rows = [{"a": f"order {i}", "b": f"late {i}", "label": "xy"[i % 2]} for i in range(4)]
    model = changed_tokenizer(tiny_bert, tmp_path / "model", without)
    split = run(rows, text="a", pair="b", model=model, validation_ratio=0, test_ratio=0).store["train"]
    assert split.token_type_ids(0) is None and split.encoded(0).token_type_ids is None


def test_a_single_text_keeps_token_types_that_are_not_zero(run, tiny_bert, tmp_path):
    """XLNet's template gives its last token a type of its own."""

    def typed(name, values):
        if name == "tokenizer.json":
            values["post_processor"]["single"][-1]["SpecialToken"]["type_id"] = 2

    model = changed_tokenizer(tiny_bert, tmp_path / "model", typed)
    split = run(GOOD, model=model, validation_ratio=0, test_ratio=0).store["train"]
    assert split.token_type_ids(0).tolist() == [0] * (len(split.input_ids(0)) - 1) + [2]


def test_weights_are_stored(run):
    content = b"text,label,w\nrow a,x,0.5\nrow b,y,2\nrow c,x,0\nrow d,y,1e-3\n"
    split = run(content, "a.csv", weight="w", validation_ratio=0, test_ratio=0).store["train"]
    assert split.weights.tolist() == [0.5, 2.0, 0.0, np.float32(1e-3)]


def test_what_truncation_cuts_is_counted(run):
    rows = [{"text": "a " * n, "label": "xy"[n % 2]} for n in (3, 6, 20)]
    prepared = run(rows, max_length=8, validation_ratio=0, test_ratio=0)  # [CLS] and [SEP] leave 6
    assert prepared.store["train"].num_cut.tolist() == [0, 0, 14]
    assert prepared.manifest["ledger"]["tokens"]["train"] == {
        "tokens": 5 + 8 + 22,
        "supervised": 0,
        "context": 5 + 8 + 8,
        "cut": 14,
    }


# Used again, built again, continued


def test_the_same_inputs_are_encoded_once(run):
    first = run(messages(50), label="label")
    again = run(None, label="label")
    assert (first.reused, again.reused) == (False, True)
    assert again.store.folder == first.store.folder and rows_of(again) == rows_of(first)
    assert run(None, label="label", padding="max_length", padding_side="left").reused  # decided when a batch is made


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 24}, {"truncation_side": "left"}, {"seed": 7}, {"validation_ratio": 0.2}, {"limit": 5}, {"stratify": False},
        {"label": "other"}, {"text": ["text", "other"]}, {"pair": "other", "label": "label"}, {"deduplicate": True}, {"weight": "n"},
    ],
    ids=str,
)  # fmt: skip
def test_any_other_decision_builds_another_store(run, change):
    rows = [{"text": f"row {i}", "label": "xy"[i % 2], "other": "uv"[i % 3 > 0], "n": 1 + i % 3} for i in range(12)]
    base = {"text": "text", "label": "label", "max_length": 32}
    first, other = run(rows, **base), run(None, **{**base, **change})
    assert not other.reused and other.store.folder != first.store.folder
    assert run(None, **base).reused


def test_another_file_content_or_tokenizer_builds_another_store(run, tiny_bert, tmp_path):
    first = run(GOOD)
    stamp = os.stat(tmp_path / "a.jsonl")
    changed = [{**GOOD[0], "text": "Row number 0"}, *GOOD[1:]]
    write_jsonl(tmp_path / "a.jsonl", changed)
    os.utime(
        tmp_path / "a.jsonl", ns=(stamp.st_atime_ns, stamp.st_mtime_ns)
    )  # size and time are the same: content decides
    assert not run(None).reused
    assert run(GOOD).reused and run(GOOD).store.folder == first.store.folder

    def cased(name, values):
        if name == "tokenizer.json":
            values["normalizer"]["lowercase"] = False

    assert not run(None, model=changed_tokenizer(tiny_bert, tmp_path / "model", cased)).reused


def count_reads(monkeypatch):
    read = []

    def counted(path):
        read.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(known_hashes, "file_sha256", counted)
    return read


def test_a_start_on_a_ready_store_reads_no_file_of_rows(run, monkeypatch):
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", -(10**12))
    run(GOOD)
    read = count_reads(monkeypatch)
    assert run(None).reused and read == []


def test_verify_reads_every_file_again_and_finds_what_no_stamp_shows(run, tiny_bert, monkeypatch, tmp_path):
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", -(10**12))
    first, said = run(GOOD, model=tiny_bert), []
    shards = {path.name for split in first.store.splits for path in first.store.shard_files(split)}
    values = {
        "model": str(tiny_bert),
        "data": {"train": str(tmp_path / "a.jsonl")},
        "output": str(tmp_path / "runs" / "run"),
    }
    config, read = parse_config(values), count_reads(monkeypatch)
    assert prepare(config, verify=True).reused and set(read) == {"a.jsonl", *shards}
    path = first.store.folder / "train-00000.arrow"
    stamp = known_hashes.file_stamp(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    real = known_hashes.file_stamp
    monkeypatch.setattr(
        known_hashes, "file_stamp", lambda of: stamp if of == path else real(of)
    )  # a disk that loses a bit
    assert prepare(config).reused
    assert not prepare(config, say=said.append, verify=True).reused and "train-00000.arrow has changed" in said[0]


@pytest.mark.parametrize("name", ["train-00000.arrow", "manifest.json"])
def test_a_damaged_store_is_said_and_built_again(run, name):
    first, said = run(GOOD), []
    before = rows_of(first)
    path = first.store.folder / name
    path.write_bytes(path.read_bytes()[:-5])
    again = run(None, say=said.append)
    assert not again.reused and rows_of(again) == before
    assert len(said) == 1 and "cannot be used (" in said[0] and said[0].endswith("it is built again.")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("calls", "finished"), [(1, 0), (3, 8), (6, 16)])
def test_an_interrupted_prepare_goes_on_where_it_stood(run, monkeypatch, calls, finished):
    monkeypatch.setattr(encoding, "SplitWriter", functools.partial(SplitWriter, rows_per_shard=8))
    monkeypatch.setattr(encoding, "_ENCODE_ROWS", 4)
    write, written, said = SplitWriter.write, [], []

    def killed(writer, rows, **places):
        if len(written) == calls:
            raise KeyboardInterrupt
        written.append(len(rows))
        write(writer, rows, **places)

    straight = run(GOOD * 10)
    expected = contents(straight.store.folder)
    shutil.rmtree(straight.store.folder)
    monkeypatch.setattr(SplitWriter, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(None)
    assert not (straight.store.folder / "manifest.json").exists()
    monkeypatch.setattr(SplitWriter, "write", write)
    resumed = run(None, say=said.append)
    assert contents(resumed.store.folder) == expected
    assert said == [f"{finished} rows of the train split are already encoded; going on after them."] * bool(finished)


def test_what_a_store_says_of_its_run(run):
    manifest = run(GOOD, max_length=20).manifest
    assert (manifest["task"], manifest["max_length"]) == ("classification", 20)
    assert manifest["columns_found_by"] == "text 'text' by its name, label 'label' by its name"
    assert manifest["ledger"] == json.loads((run(None, max_length=20).store.folder / "ledger.json").read_text())


def test_a_store_made_with_skip_is_no_way_around_stop(run_values, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(path.read_text() + '{"text": " ", "label": "order_status"}\n')
    skipping = {**run_values, "data": {**run_values["data"], "on_bad_rows": "skip"}}
    assert not prepare(parse_config(skipping)).reused
    with pytest.raises(UserError, match="1 of 81 rows cannot be used"):
        prepare(parse_config(run_values))
    assert prepare(parse_config(skipping)).reused


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.jsonl", {"header": True}), ("a.jsonl", {"delimiter": ";"}), ("a.csv", {"documents": "line"}),
        ("a.jsonl", {"revision": "main"}),
        ("a.jsonl", {"train_split": "all"}),
    ],
)  # fmt: skip
def test_a_key_that_no_source_heeds_is_refused(run, name, values):
    with pytest.raises(UserError, match="nothing reads data"):
        run(JSONL if name == "a.jsonl" else CSV, name, **values)
