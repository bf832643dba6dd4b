"""Which row goes where: exact shares, stratified or grouped, a pure function of the seed; and the ledger that adds up."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import write_jsonl
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.preparation import open_inputs, prepare
from tunewright.preparation.first_pass import assign_rows, first_pass
from tunewright.reading.ledger import (
    FILTERED,
    KEPT,
    NOT_SELECTED,
    REJECTED,
    Ledger,
    RejectFile,
    bad_rows_error,
    format_counts,
    kind_of,
)
from tunewright.reading.split import assign, subset
from tunewright.records import Reject

SHARES = {"test": 0.1, "validation": 0.2}


def counts(names):
    return {name: int((names == name).sum()) for name in ("train", "validation", "test")}


# Splits


@pytest.mark.parametrize("labels", [None, np.zeros(100, dtype=int), np.arange(100) % 7])
def test_shares_are_exact(labels):
    assert counts(assign(100, SHARES, seed=0, labels=labels)) == {"train": 70, "validation": 20, "test": 10}


def test_each_label_gives_its_share():
    # 60 rows of label 0, 30 of 1, 10 of 2: tenths are 6, 3, 1; then fifths of 100 out of 54, 27, 9 are 12, 6, 2
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    names = assign(100, SHARES, seed=5, labels=labels)
    assert [int(((names == "test") & (labels == label)).sum()) for label in (0, 1, 2)] == [6, 3, 1]
    assert [int(((names == "validation") & (labels == label)).sum()) for label in (0, 1, 2)] == [12, 6, 2]


def test_a_label_that_occurs_once_stays_in_train_and_the_others_give_more():
    labels = np.concatenate([np.zeros(50, dtype=int), np.arange(1, 51)])
    names = assign(100, {"test": 0.1}, seed=0, labels=labels)
    assert (names[labels > 0] == "train").all()
    assert counts(names)["test"] == 10


def test_where_no_label_can_spare_a_row_all_stay():
    assert counts(assign(6, {"test": 0.5}, seed=0, labels=np.arange(6)))["test"] == 0


label_arrays = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array)


@given(label_arrays, st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 2**32))
def test_any_stratified_split(labels, test_ratio, validation_ratio, seed):
    ratios = {"test": test_ratio, "validation": validation_ratio}
    names = assign(len(labels), ratios, seed=seed, labels=labels)
    assert names.tolist() == assign(len(labels), ratios, seed=seed, labels=labels).tolist()
    for label in set(labels.tolist()):
        assert (names[labels == label] == "train").any()
    sizes, spare = counts(names), len(labels) - len(set(labels.tolist()))
    wanted_test = round(test_ratio * len(labels))
    assert sizes["test"] == min(wanted_test, spare)
    assert sizes["validation"] == min(round(validation_ratio * len(labels)), spare - sizes["test"])
    for label in set(labels.tolist()):  # within one row of the exact share, where every label can spare it
        of_label = int((labels == label).sum())
        if all((labels == other).sum() * (1 - test_ratio) > 2 for other in set(labels.tolist())):
            assert abs(int((names[labels == label] == "test").sum()) - of_label * wanted_test / len(labels)) <= 1


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=80).map(np.array),
    st.floats(0, 0.6),
    st.floats(0, 0.3),
    st.integers(0, 99),
)
def test_a_group_never_straddles(groups, test_ratio, validation_ratio, seed):
    names = assign(len(groups), {"test": test_ratio, "validation": validation_ratio}, seed=seed, groups=groups)
    for group in set(groups.tolist()):
        assert len(set(names[groups == group].tolist())) == 1
    largest = np.bincount(groups).max()
    for split, ratio in (("test", test_ratio), ("validation", validation_ratio)):
        assert counts(names)[split] <= ratio * len(groups) + largest / 2  # overshoots by less than half a group


def test_groups_of_one_row_give_exact_shares():
    assert counts(assign(100, SHARES, seed=0, groups=np.arange(100))) == {"train": 70, "validation": 20, "test": 10}


def test_a_split_depends_on_the_seed_and_is_shuffled():
    splits = {tuple(assign(40, SHARES, seed=seed).tolist()) for seed in range(5)}
    assert len(splits) == 5
    assert set(assign(40, SHARES, seed=0)[-12:]) != {"train"} or set(assign(40, SHARES, seed=0)[:12]) != {
        "test",
        "validation",
    }


def test_a_limit_is_a_seeded_subset_and_larger_limits_hold_smaller_ones():
    chosen = subset(50, 10, seed=3)
    assert chosen.sum() == 10 and chosen.tolist() == subset(50, 10, seed=3).tolist() != subset(50, 10, seed=4).tolist()
    assert (subset(50, 20, seed=3) >= chosen).all()
    assert subset(5, 9, seed=0).all() and not subset(5, 0, seed=0).any()


# The ledger


def test_a_ledger_that_does_not_add_up_is_our_bug():
    ledger = Ledger()
    ledger.read["a.csv"] = 3
    ledger.add("a.csv", "train", KEPT, 2)
    with pytest.raises(AssertionError, match=r"a.csv: 3 rows read"):
        ledger.as_dict()
    ledger.add("a.csv", "-", REJECTED)
    assert ledger.as_dict()["sources"] == [
        {
            "source": "a.csv",
            "read": 3,
            "kept": 2,
            "rejected": 1,
            "filtered": 0,
            "not_selected": 0,
            "splits": {"train": {"kept": 2}},
        }
    ]


def test_a_reject_is_written_with_its_place_reason_and_text(tmp_path):
    with RejectFile(tmp_path / "new" / "rejected.jsonl") as file:
        for line in range(1, 8):
            file.add(Reject("a.csv", line, "blank text", "x\u2028\udc80"))
    assert (file.count, len(file.first)) == (7, 5)
    lines = (tmp_path / "new" / "rejected.jsonl").read_text(encoding="ascii").splitlines()
    assert json.loads(lines[6]) == {"source": "a.csv", "line": 7, "reason": "blank text", "raw": "x\u2028\udc80"}
    text = str(bad_rows_error(file.first, file.count, 1_234, file.path))
    assert text.startswith("7 of 1,234 rows cannot be used:\n  a.csv:1: blank text\n")
    assert "\n  and 2 more\nAll are listed in " in text and text.endswith(
        "rejected.jsonl. Fix them, or skip them: data.on_bad_rows=skip"
    )
    assert str(bad_rows_error(file.first, 5, 9, None)).endswith(
        "a.csv:5: blank text. Fix them, or skip them: data.on_bad_rows=skip"
    )


rows = st.lists(
    st.fixed_dictionaries(
        {"text": st.sampled_from(["a", "b b", "c c c", "", " ", None, 5, "d"]), "label": st.sampled_from(["x", "y", "z", None, "", 1.5]),
         "group": st.sampled_from(["g", "h", "i", None])}
    ) | st.sampled_from([{}, {"text": "only"}, "{broken", "[1]", "\x00"]),
    max_size=30,
)  # fmt: skip


def write_rows(path, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))


@settings(max_examples=40)
@given(
    train=rows, test=rows | st.none(), limit=st.none() | st.integers(1, 9), deduplicate=st.booleans(), grouped=st.booleans(),
    stratify=st.booleans(), validation_ratio=st.sampled_from([0, 0.1, 0.4]),
)  # fmt: skip
def test_every_row_is_accounted_for(
    tiny_bert, tmp_path_factory, train, test, limit, deduplicate, grouped, stratify, validation_ratio
):
    folder = tmp_path_factory.mktemp("data")
    good = [{"text": f"row {i}", "label": "xyz"[i % 3], "group": f"g{i}"} for i in range(9)]
    write_rows(folder / "train.jsonl", [*good, *train])
    data = {
        "train": str(folder / "train.jsonl"), "text": "text", "label": "label", "on_bad_rows": "skip", "limit": limit, "deduplicate": deduplicate,
        "stratify": stratify, "validation_ratio": validation_ratio, "group_by": "group" if grouped else None,
    }  # fmt: skip
    if test is not None:
        write_rows(folder / "test.jsonl", [good[0], *test])
        data["test"] = str(folder / "test.jsonl")
    prepared = prepare(parse_config({"model": str(tiny_bert), "data": data, "output": str(folder / "run")}))
    written = [len(good) + len(train), *([1 + len(test)] if test is not None else [])]
    sources = prepared.manifest["ledger"]["sources"]
    assert [source["read"] for source in sources] == written
    for source in sources:
        assert source["read"] == sum(source[fate] for fate in (KEPT, REJECTED, FILTERED, NOT_SELECTED))
    stored = {name: len(prepared.store[name]) for name in prepared.store.splits}
    assert sum(stored.values()) == sum(source["kept"] for source in sources)
    for name, number in stored.items():
        assert number == sum(source["splits"].get(name, {}).get("kept", 0) for source in sources)
        assert limit is None or number <= limit
    addresses = [prepared.store[name].address(i) for name in stored for i in range(stored[name])]
    rejected = [json.loads(line) for line in (prepared.store.folder / "rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == sum(source["rejected"] for source in sources)
    assert all(reject["reason"] for reject in rejected)
    every = addresses + [f"{reject['source']}:{reject['line']}" for reject in rejected]
    assert len(set(every)) == len(every)
    if limit is None and not deduplicate:
        assert len(every) == sum(written)
    if grouped:
        lines = (folder / "train.jsonl").read_text().split("\n")
        seen = {}
        for name in stored:
            for i in range(stored[name]):
                source, line = prepared.store[name].address(i).rsplit(":", 1)
                if source.endswith("train.jsonl"):
                    seen.setdefault(json.loads(lines[int(line) - 1])["group"], set()).add(name)
        assert all(len(splits) == 1 for splits in seen.values())
    tokens = prepared.manifest["ledger"]["tokens"]
    for name in stored:
        kept = int(prepared.store[name].lengths.sum())
        assert tokens[name] == {
            "tokens": kept + tokens[name]["cut"],
            "supervised": 0,
            "context": kept,
            "cut": int(prepared.store[name].num_cut.sum()),
        }


def test_one_file_named_twice_is_counted_twice(tiny_bert, tmp_path):
    good = [{"text": f"row {i}", "label": "xy"[i % 2]} for i in range(10)]
    a, b = (
        write_jsonl(tmp_path / "a.jsonl", [*good, {"text": "", "label": "x"}]),
        write_jsonl(tmp_path / "b.jsonl", good[:4]),
    )
    values = {
        "model": str(tiny_bert), "output": str(tmp_path / "run"),
        "data": {"train": [str(a), str(b)], "test": str(a), "validation_ratio": 0, "on_bad_rows": "skip"},
    }  # fmt: skip
    prepared = prepare(parse_config(values))
    of_a, of_b = prepared.manifest["ledger"]["sources"]
    assert (of_a["read"], of_a["rejected"], of_a["splits"]) == (22, 2, {"train": {"kept": 10}, "test": {"kept": 10}})
    assert (of_b["read"], of_b["rejected"], of_b["splits"]) == (4, 0, {"train": {"kept": 4}})
    assert prepared.manifest["ledger"]["shared_with_train"] == {"test": 10}


def test_ratios_that_leave_nothing(tiny_bert, tmp_path):
    data = write_jsonl(tmp_path / "a.jsonl", [{"text": f"row {i}", "label": "xy"[i % 2]} for i in range(10)])
    values = {
        "model": str(tiny_bert),
        "data": {"train": str(data), "validation_ratio": 0.5, "test_ratio": 0.5},
        "output": str(tmp_path / "r"),
    }
    with pytest.raises(UserError, match=r"nothing is left to train on; found 1; expected less than 1"):
        prepare(parse_config(values))


def test_reasons_that_differ_in_what_they_quote_are_told_as_one():
    reasons = {"turn 1 is 'Hi'": 2, "empty answer": 3, "turn 12 is 'Oh'": 2, "blank text": 1}
    assert format_counts(reasons) == "4 rows such as: turn 1 is 'Hi'; 3 rows: empty answer; 1 row: other reasons"
    assert format_counts({}) == ""


def test_rows_under_one_common_prompt_are_split_singly(tmp_path):
    """The document stands in the system's turn, the user says "Summarize." each time: there is validation all the same."""
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in
                      (("system", f"document {n % 60}"), ("user", "Summarize."), ("assistant", f"summary {n % 60}"))]}
        for n in range(120)
    ]  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = parse_config({"task": "sft", "data": {"train": str(path)}})
    inputs = open_inputs(config)
    ledger = Ledger()
    with RejectFile(tmp_path / "rejected.jsonl") as rejects:
        survey = first_pass(config, inputs, ledger, rejects)
    fates = assign_rows(config, inputs, survey, ledger)
    counts = np.bincount(fates.split[fates.kept], minlength=3)
    assert 8 <= counts[1] <= 16 and 8 <= counts[2] <= 16
    assert (fates.split[:60] == fates.split[60:]).all(), "equal rows stay together"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("expected int, found 'a'", "expected int, found 'b'", True), ("'label' holds int 3, expected text", "'label' holds list [[2]], expected text", True),
        ("the label is 3.5, expected a text or an integer", "the label is -0.25, expected a text or an integer", True),
        ("the labels are [0.0, 1.0], an odd list", "the labels are [1, 0, 'x'], an odd list", True),
        ("'a' holds dict {'k': 'it is cut, expected text", "'a' holds dict {'q': [1, 2], 'z, expected text", True),
        ("word 3: I-PER after O, which no IOB2 sequence has", "word 12: I-LOC after B-PER, which no IOB2 sequence has", True),
        ("too long: 1,024 tokens", "too long: 99 tokens", True), ("the row's text is 'don\\'t'", "the row's text is \"can't\"", True),
        ("no field 'text'; found 'a'", "no field 'label'; found 'a'", False), ("'a' holds int 3, expected text", "'b' holds int 3, expected text", False),
        ("blank text", "no label", False),
    ],
)  # fmt: skip
def test_a_reason_is_of_a_kind_whatever_value_was_met(one, other, alike):
    assert (kind_of(one) == kind_of(other)) is alike


def test_reasons_are_counted_by_kind_however_many_values_there_are():
    ledger = Ledger()
    for number in range(5_000):
        ledger.count_reason(f"the label is {number / 7}, expected a text or an integer")
        if number:
            ledger.count_reason("blank text")
    assert ledger.as_dict()["reasons"] == {
        "such as: the label is 0.0, expected a text or an integer": 5_000,
        "blank text": 4_999,
    }
    assert (
        ledger.format_counts()
        == "5,000 rows such as: the label is 0.0, expected a text or an integer; 4,999 rows: blank text"
    )
