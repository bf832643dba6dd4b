"""`predict --file` on words of one's own: each is tagged, and the file comes back with a column of tags."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import tunewright as tw
from tests.cli.test_cli import tunewright
from tests.conftest import write_jsonl
from tunewright.records import Entity, TaggedText

SENTENCES = [["Mara", "went", "to", "Oslo", "."], ["It", "rained", "."], ["In", "Ulm", ",", "Ben", "slept", "."]]


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory) -> Path:
    """A tagger that has learned these sentences by heart: words with a capital letter that begin no sentence are places or names."""
    folder = tmp_path_factory.mktemp("tagger")
    tags = [["B-PER", "O", "O", "B-LOC", "O"], ["O", "O", "O"], ["O", "B-LOC", "O", "B-PER", "O", "O"]]
    rows = [{"tokens": words, "ner_tags": of} for words, of in zip(SENTENCES, tags, strict=True)] * 8
    write_jsonl(folder / "data.jsonl", rows)
    values = {
        "model": str(tiny_bert),
        "data": {"train": str(folder / "data.jsonl"), "validation_ratio": 0, "test_ratio": 0},
        "train": {"max_steps": 60, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32", "save_every": "never"},
        "evaluate": {"baselines": False}, "output": str(folder / "run"),
    }  # fmt: skip
    return tw.train(values).folder


@pytest.fixture(scope="module")
def expected(run) -> list[list[str]]:
    """The tags of the sentences, as the model itself gives them."""
    from tunewright.records import Row

    model = tw.load(run)
    found = [answer.tags for _, answer in model.predict_rows(Row("a", 1, {"tokens": words}) for words in SENTENCES)]
    assert any(tag != "O" for tags in found for tag in tags)
    return found


def predicted(run: Path, folder: Path, text: str, name: str, *words: str) -> str:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    done = tunewright("predict", str(run), "--file", name, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tagged_lines(expected: list[list[str]], between: str = "\t") -> str:
    sentences = zip(SENTENCES, expected, strict=True)
    return "\n".join("".join(f"{w}{between}{t}\n" for w, t in zip(*one, strict=True)) for one in sentences)


WORDS = "\n".join("".join(f"{word}\n" for word in words) for words in SENTENCES)


@pytest.mark.parametrize("name", ["words.conll", "words.txt", "words.tsv", "words.bio", "words.tok", "words"])
def test_a_word_a_line_comes_back_with_its_tag(run, expected, tmp_path, name):
    assert predicted(run, tmp_path, WORDS, name) == tagged_lines(expected)
    assert predicted(run, tmp_path, WORDS, name, "-o", "out.conll") == ""
    assert (tmp_path / "out.conll").read_text() == tagged_lines(expected)


def test_comments_blank_lines_line_ends_and_other_columns_stay(run, expected, tmp_path):
    lines = [
        "-DOCSTART- -X-",
        "",
        "# id = 1",
        *(f"{w} NN" for w in SENTENCES[0]),
        "",
        "",
        *(f"{w} VB" for w in SENTENCES[1]),
        "",
    ]
    found = predicted(run, tmp_path, "\r\n".join(lines), "a.conll").split("\r\n")
    tags = iter([tag for tags in expected[:2] for tag in tags])
    assert found == [
        f"{line} O" if line.startswith("-DOC") else line if not line or line[0] == "#" else f"{line} {next(tags)}"
        for line in lines
    ]


def test_predicted_tags_stand_beside_the_gold_ones(run, expected, tmp_path):
    gold = "\n".join("".join(f"{w} NN {'I-LOC' if w == 'Oslo' else 'O'}\n" for w in words) for words in SENTENCES)
    found = predicted(run, tmp_path, gold, "a.conll").split("\n")
    tags = iter([tag for tags in expected for tag in tags])
    assert found == [line and f"{line} {next(tags)}" for line in gold.split("\n")]
    rows = [json.loads(line) for line in predicted(run, tmp_path, gold, "a.conll", "--json").splitlines()]
    assert [row["predicted_tags"] for row in rows] == expected
    assert rows[0]["tokens"] == SENTENCES[0] and rows[0]["ner_tags"] == ["O", "O", "O", "I-LOC", "O"]
    assert all(row["entities"] is not None for row in rows)


def test_words_that_look_like_marks_are_words(run, tmp_path):
    text = "#oslo\n#\n12\n\n-\n"
    found = predicted(run, tmp_path, text, "a.conll").split("\n")
    assert [line.split("\t")[0] for line in found] == text.split("\n")
    assert all(line.count("\t") == 1 for line in found if line)


def test_lists_of_words_in_other_files_are_tagged(run, expected, tmp_path):
    write_jsonl(tmp_path / "w.jsonl", [{"tokens": words, "id": n} for n, words in enumerate(SENTENCES)])
    done = tunewright("predict", str(run), "--file", "w.jsonl", cwd=tmp_path)
    assert [json.loads(line)["predicted_tags"] for line in done.stdout.splitlines()] == expected
    assert tunewright("predict", str(run), "--file", "w.jsonl", "-o", "o.conll", cwd=tmp_path).returncode == 0
    assert (tmp_path / "o.conll").read_text() == tagged_lines(expected) + "\n"
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerows([["id", "words"], *([n, json.dumps(words)] for n, words in enumerate(SENTENCES))])
        predicted(run, tmp_path, text.getvalue(), f"w{suffix}", "-o", f"o{suffix}")
        with (tmp_path / f"o{suffix}").open(newline="") as file:
            assert [json.loads(row["predicted_tags"]) for row in csv.DictReader(file, delimiter=delimiter)] == expected


@pytest.mark.parametrize("number", ["Sentence #", "sentence_id"])
@pytest.mark.parametrize("pos", [False, True])
def test_a_row_for_each_word_comes_back_with_a_column_of_tags(run, expected, tmp_path, number, pos):
    once = number == "Sentence #"  # beside the first word alone, as public data has it
    rows = []
    for at, words in enumerate(SENTENCES, start=1):
        for place, word in enumerate(words):
            count = f"Sentence: {at}" if once else str(at)
            rows.append(
                {number: "" if once and place else count, "Word": word, **({"POS": f"P{place}"} if pos else {})}
            )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    tags = [tag for tags in expected for tag in tags]
    predicted(run, tmp_path, text.getvalue(), "w.csv", "-o", "o.csv")
    with (tmp_path / "o.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {**row, "predicted_tag": tag} for row, tag in zip(rows, tags, strict=True)
        ]
    printed = list(csv.DictReader(io.StringIO(predicted(run, tmp_path, text.getvalue(), "w.csv"))))
    assert [(row["Word"], row["predicted_tag"]) for row in printed] == list(
        zip([row["Word"] for row in rows], tags, strict=True)
    )
    lines = predicted(run, tmp_path, text.getvalue(), "w.csv", "--json").splitlines()
    assert [json.loads(line)["predicted_tags"] for line in lines] == expected


def test_words_that_may_be_texts_are_asked_about(run, tmp_path):
    (tmp_path / "w.txt").write_text("Mara\nwent\nto\nOslo\n.\n")
    done = tunewright("predict", str(run), "--file", "w.txt", cwd=tmp_path)
    assert done.returncode == 2 and "--format conll" in done.stderr and "--format text" in done.stderr
    assert tunewright("predict", str(run), "--file", "w.txt", "--format", "conll", cwd=tmp_path).stdout.count("\t") == 5
    done = tunewright("predict", str(run), "--file", "w.txt", "--format", "text", cwd=tmp_path)
    assert len([json.loads(line)["entities"] for line in done.stdout.splitlines()]) == 5
    (tmp_path / "w.csv").write_text("word,pos\nMara,NNP\nwent,VBD\nto,TO\nOslo,NNP\n")
    done = tunewright("predict", str(run), "--file", "w.csv", cwd=tmp_path)
    assert done.returncode == 2 and "no column that numbers the sentences" in done.stderr


def test_a_sentence_that_cannot_be_read_keeps_its_lines(run, expected, tmp_path):
    text = "Mara NN\nwent VB\n\nodd\nline VB\n\nIt NN\nrained VB\n"
    (tmp_path / "w.conll").write_text(text)
    done = tunewright("predict", str(run), "--file", "w.conll", cwd=tmp_path)
    assert done.returncode == 2 and "w.conll:4: 1 column, expected 2" in done.stderr
    found = predicted(run, tmp_path, text, "w.conll", "--skip-bad-rows").split("\n")
    assert [line.rsplit(" ", 1)[0] for line in found] == text.split("\n")
    assert found[3:5] == ["odd _", "line VB _"] and not found[0].endswith("_")


def test_texts_are_not_written_as_words(run, tmp_path):
    write_jsonl(tmp_path / "t.jsonl", [{"text": "Mara went to Oslo."}])
    done = tunewright("predict", str(run), "--file", "t.jsonl", "-o", "o.conll", cwd=tmp_path)
    assert done.returncode == 2 and "a text, not a list of words" in done.stderr and not list(tmp_path.glob("*.conll"))


def test_a_killed_tagging_goes_on(run, expected, tmp_path, monkeypatch):
    from tests.cli.test_predict_files import Killed, killed_after, small_windows

    small_windows(monkeypatch, 1)
    (tmp_path / "w.conll").write_text(WORDS)
    words = ["predict", str(run), "--file", "w.conll", "-o", "o.conll"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 2)
        tunewright(*words, cwd=tmp_path)
    done = tunewright(*words, cwd=tmp_path)
    assert done.returncode == 0 and "Continuing after 2 predictions of an earlier command" in done.stderr
    assert (tmp_path / "o.conll").read_text() == tagged_lines(expected)


def test_tags_of_words_by_hand():
    found = TaggedText(
        "New  York is in Ulm Ulm", (Entity(0, 9, "LOC", 0.9), Entity(16, 19, "LOC", 0.4), Entity(20, 23, "LOC", 0.9)),
        words=((0, 3), (4, 4), (5, 9), (10, 12), (13, 15), (16, 19), (20, 23)),
    )  # fmt: skip
    assert found.tags == ["B-LOC", "I-LOC", "I-LOC", "O", "O", "B-LOC", "B-LOC"]
    assert found.with_min_score(0.5).tags == ["B-LOC", "I-LOC", "I-LOC", "O", "O", "O", "B-LOC"]
    assert found.as_dict()["tags"] == found.tags and "tags" not in TaggedText("a", ()).as_dict()


@pytest.mark.parametrize("name", ["words.csv", "words.jsonl"])
def test_gold_tags_of_another_name_stand_beside_the_predicted_ones(run, expected, tmp_path, name):
    cells = [(str(n), word, "B-PER" if word == "Ben" else "O") for n, words in enumerate(SENTENCES) for word in words]
    if name.endswith(".csv"):
        text = "sentence_id,word,tag\n" + "".join(f'{n},"{word}",{tag}\n' for n, word, tag in cells)
    else:
        text = "".join(json.dumps({"sentence_id": int(n), "word": w, "tag": t}) + "\n" for n, w, t in cells)
    predicted(run, tmp_path, text, name, "-o", "out.conll")
    lines = [line.split("\t") for line in (tmp_path / "out.conll").read_text().split("\n") if line]
    tags = [tag for sentence in expected for tag in sentence]
    assert lines == [[word, gold, tag] for (_, word, gold), tag in zip(cells, tags, strict=True)]


def test_a_word_a_row_without_numbers_of_sentences_is_asked_about_in_json_too(run, tmp_path):
    write_jsonl(tmp_path / "lone.jsonl", [{"word": word} for word in SENTENCES[0]])
    done = tunewright("predict", str(run), "--file", "lone.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "no column that numbers the sentences" in done.stderr
