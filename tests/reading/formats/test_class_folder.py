"""A folder for each class: every file a row or a reject, its folder the label."""

import pytest

from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.preparation import prepare
from tunewright.reading import ReadOptions, open_source
from tunewright.records import Reject, Row
from tunewright.runs.autoconfig import guess_config


def folder(path, **classes):
    for label, texts in classes.items():
        (path / label).mkdir(parents=True)
        for number, text in enumerate(texts):
            (path / label / f"{number}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_each_file_is_a_row_in_the_order_of_the_names(tmp_path):
    path = folder(tmp_path / "r", pos=["Fine.\nReally.\n", "Good"], neg=["Poor.\r\n"])
    (path / ".cache").mkdir()
    (path / "pos" / ".DS_Store").write_text("x")
    (path / "README").write_text("about it")
    source = open_source(str(path))
    assert [(row.line, row.fields["text"], row.fields["label"], row.fields["file"]) for row in source.rows()] == [
        (1, "Poor.", "neg", "neg/0.txt"), (2, "Fine.\nReally.", "pos", "pos/0.txt"), (3, "Good", "pos", "pos/1.txt"),
    ]  # fmt: skip
    assert source.row_at(2).fields["file"] == "pos/0.txt" and len(source.files()) == 3
    assert list(source.rows()) == list(source.rows())


def test_files_that_cannot_be_read_are_rejects(tmp_path):
    path = folder(tmp_path / "r", a=[b"Gr\xf6\xdfe", "", "x" * 50], b=["fine"])
    rows = list(open_source(str(path), ReadOptions(max_row_bytes=20)).rows())
    assert [type(row) for row in rows] == [Reject, Row, Reject, Row]
    assert "a/0.txt: byte 0xF6 at offset 2" in rows[0].reason and "more than data.max_row_bytes" in rows[2].reason
    assert rows[1].fields["text"] == ""
    assert next(open_source(str(path), ReadOptions(encoding="cp1252")).rows()).fields["text"] == "Größe"


def test_reviews_without_a_class_are_left_out_and_said(tmp_path):
    source = open_source(str(folder(tmp_path / "r", neg=["a"], pos=["b"], unsup=["c", "d"])))
    assert [row.fields["label"] for row in source.rows()] == ["neg", "pos"]
    assert "2 files in unsup/ have no class and are left out" in source.notes


def test_splits_are_folders_of_such_folders(tmp_path):
    folder(tmp_path / "acl" / "train", neg=["a", "b"], pos=["c", "d"])
    folder(tmp_path / "acl" / "test", neg=["e"], pos=["f"])
    values = guess_config(str(tmp_path / "acl")).values
    assert values["task"] == "classification"
    assert {split: values["data"][split].rpartition("/")[2] for split in ("train", "test")} == {
        "train": "train",
        "test": "test",
    }
    assert guess_config(str(tmp_path / "acl" / "train")).values["data"]["train"].endswith("acl/train")


def test_splits_of_plain_texts_are_no_labels(tmp_path):
    folder(tmp_path / "corpus", train=["a", "b"], dev=["c"], val=["d"], test=["e"])
    values = guess_config(str(tmp_path / "corpus"), task="mlm").values["data"]
    assert [values["train"], values["validation"], values["test"]] == [
        [str(tmp_path / "corpus" / name) for name in names]
        for names in (["train/0.txt", "train/1.txt"], ["val/0.txt"], ["test/0.txt"])
    ]


def test_folders_beside_a_table_are_no_classes(tmp_path):
    folder(tmp_path / "r", docs=["a"], scripts=["b"])
    rows = [f"Text number {n},{'good' if n % 2 else 'bad'}" for n in range(20)]
    (tmp_path / "r" / "train.csv").write_text("\n".join(["text,label", *rows]))
    assert guess_config(str(tmp_path / "r")).values["data"]["train"].endswith("train.csv")


@pytest.mark.parametrize("suffix", [".conll", ".ann", ".zip", ".py"])
def test_other_files_are_no_texts(tmp_path, suffix):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1{suffix}").write_text("x")
    with pytest.raises(UserError, match="this is a folder, not a file"):
        open_source(str(tmp_path))


def test_a_text_that_moves_has_another_label(tmp_path, tiny_bert):
    texts = [f"Text number {number}" for number in range(30)]
    path = folder(tmp_path / "r", pos=texts[:15], neg=texts[15:])
    config = parse_config({"model": str(tiny_bert), "data": str(path), "output": str(tmp_path / "runs")})
    assert not prepare(config).reused and prepare(config).reused
    (path / "neg" / "3.txt").rename(path / "pos" / "99.txt")
    assert not prepare(config).reused


@pytest.mark.parametrize("classes", [{"only": ["a"]}, {"a": ["x"], "b": []}, {"neg": ["a"], "unsup": ["b"]}])
def test_other_folders_are_refused_as_before(tmp_path, classes):
    with pytest.raises(UserError, match="this is a folder, not a file"):
        open_source(str(folder(tmp_path / "r", **classes)))
