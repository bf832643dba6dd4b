"""Plain text files that are more than text: labels in a second file, JSON, labels and separators in lines; and prose, which is none of it."""

import json
import shlex
from pathlib import Path

import pytest

from tests.conftest import shared
from tunewright.config.load import load_config
from tunewright.errors import UserError
from tunewright.preparation import open_inputs
from tunewright.reading.labelled_lines import line_question, parsed
from tunewright.records import Reject
from tunewright.runs.autoconfig import config_for_data, config_text, guess_config, guess_for_data


def write(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def two_files(folder, names, *, rows=40, labels=None):
    write(folder / names[0], [f"We saw the film number {n} and liked it." for n in range(rows)])
    write(folder / names[1], labels or [n % 3 for n in range(rows)])
    return folder


def rows_of(config):
    return [row for _, source in open_inputs(config).of("train") for row in source.rows()]


@pytest.mark.parametrize(
    "names",
    [("train_text.txt", "train_labels.txt"), ("reviews.txt", "labels.txt"), ("train.txt", "train.labels"), ("sentences.txt", "labels.txt"),
     ("train-sentences.txt", "train-label.txt"), ("corpus.txt", "labels.txt"), ("train.txt", "train_label.txt"), ("X.txt", "y.txt")],
)  # fmt: skip
@pytest.mark.parametrize("of_folder", [True, False])
def test_texts_and_labels_in_two_files_are_read_together(tmp_path, names, of_folder):
    folder = two_files(tmp_path / "d", names)
    guess, config = guess_for_data(str(folder if of_folder else folder / names[0]))
    assert (config.task.name, config.data.label_file, config.data.label) == ("classification", "auto", "label")
    assert [(row.line, row.fields["label"]) for row in rows_of(config)] == [(n + 1, str(n % 3)) for n in range(40)]
    assert any(f"{names[0]} + {names[1]}" in line for line in guess.decision.lines())
    write(tmp_path / "c.yaml", [config_text(guess)])
    assert rows_of(load_config(tmp_path / "c.yaml")) == rows_of(config)


def test_the_key_names_any_file_of_labels_and_the_names_of_its_numbers_are_read(tmp_path):
    two_files(tmp_path, ("notes.txt", "marks.lst"))
    text = str(tmp_path / "notes.txt")
    assert guess_config(text).values["task"] == "mlm"
    words = [f"data.label_file={tmp_path / 'marks.lst'}"]
    write(tmp_path / "mapping.txt", ["0\tanger", "1\tgreat joy", "2\tsadness"])
    config = config_for_data(text, words)
    task = open_inputs(config).task
    assert [task.to_example(row).target for row in rows_of(config)][:4] == ["anger", "great joy", "sadness", "anger"]
    write(tmp_path / "mapping.txt", ["anger", "joy", "sadness"])
    assert open_inputs(config).task.label_names == ("anger", "joy", "sadness")


def test_labels_that_do_not_fit_are_no_guess(tmp_path):
    two_files(tmp_path / "a", ("train_text.txt", "train_labels.txt"), labels=[1, 0] * 15)
    with pytest.raises(UserError, match=r"different numbers of lines.*40 lines, and 30 in"):
        guess_config(str(tmp_path / "a"))
    two_files(tmp_path / "b", ("train_text.txt", "train_labels.txt"))
    text = str(tmp_path / "b" / "train_text.txt")
    asked = load_config(None, [], base={"data": {"train": text}})
    with pytest.raises(UserError, match=r"there is a file of labels next to it.*data.label_file=auto.*task=mlm"):
        open_inputs(asked)
    assert open_inputs(load_config(None, ["data.label_file=auto"], base={"data": text})).task.name == "classification"
    assert open_inputs(load_config(None, ["task=mlm"], base={"data": text})).task.name == "mlm"
    assert config_for_data(text, ["task=mlm"]).data.label_file is None
    with pytest.raises(UserError, match=r"lines that are labels, without a text.*data.label_file="):
        guess_config(str(tmp_path / "b" / "train_labels.txt"))
    with pytest.raises(UserError, match="there is no file of labels next to it"):
        config_for_data(str(write(tmp_path / "c.txt", ["a b"] * 9)), ["data.label_file=auto"])


def test_translations_in_two_files_are_no_labels(tmp_path):
    write(tmp_path / "train_text.txt", [f"the day {n}" for n in range(30)])
    write(tmp_path / "train_target.txt", [f"der Tag {n}" for n in range(30)])
    assert guess_config(str(tmp_path / "train_text.txt")).values["task"] == "mlm"


@pytest.mark.parametrize("suffix", [".txt", ".md", ".txt.gz"])
def test_json_in_a_file_of_texts_is_read_as_json(tmp_path, suffix):
    import gzip

    objects = [{"sentence": f"result {n} was {{strong}}", "label": "ab"[n % 2]} for n in range(30)]
    for content in ("\n".join(map(json.dumps, objects)), json.dumps(objects), json.dumps(objects, indent=1)):
        path = tmp_path / f"rows{suffix}"
        path.write_bytes(gzip.compress(content.encode()) if suffix.endswith(".gz") else content.encode())
        values = guess_config(str(path)).values
        assert (values["task"], values["data"]["text"]) == ("classification", "sentence")
        assert guess_config(str(path), task="mlm", extra={"format": "text"}).inputs.sources["train"][0].format == "text"


LINES = {
    "fasttext": ("__label__{a} I feel fine {i}", ("joy", "I feel fine 1")),
    "numbers first": ("{n} a stirring and funny film {i}", ("1", "a stirring and funny film 1")),
    "words first": ("{a}: what a film {i}", ("joy", "what a film 1")),
    "brackets first": ("[{a}] what a film {i}", ("joy", "what a film 1")),
    "trec": ("DESC:{a} How did it {i} ?", ("DESC:joy", "How did it 1 ?")),
    "at": ("Profit rose by {i} .@{p}", ("positive", "Profit rose by 1 .")),
    "tree": ("({n} (2 It) (4 (2 really) (3 works {i})))", ("1", "It really works 1")),
    "last": ("I said {i} {a}", ("joy", "I said 1")),
    "first cell": ("{n},a slow film, and long: {i}", ("1", "a slow film, and long: 1")),
    "last cell": ("so slow, so long: {i},{p}", ("positive", "so slow, so long: 1")),
}  # fmt: skip


@pytest.mark.parametrize("kind", LINES)
def test_a_label_in_each_line_is_asked_about_and_read_by_the_proposed_words(tmp_path, kind):
    line, (label, text) = LINES[kind]
    fill = lambda i: line.format(i=i, n=i % 5, a=["sadness", "joy"][i % 2], p=["negative", "positive"][i % 2])  # noqa: E731
    path = str(write(tmp_path / "rows.txt", [fill(i) for i in range(60)]))
    with pytest.raises(UserError) as refused:
        guess_config(path)
    words, _, rest = str(refused.value.hint).partition(" reads them as such; ")
    assert words == "data.format=labelled" and rest.startswith("or learn the raw lines with task=mlm")
    config = config_for_data(path, shlex.split(words))
    assert config.task.name == "classification" and rows_of(config)[1].fields == {"label": label, "text": text}
    assert rows_of(config_for_data(path, ["task=mlm"]))[1].fields == {"text": fill(1)}


@pytest.mark.parametrize(
    ("line", "task", "fields"),
    [
        ("name[Inn], food[Fast {i}]||The Inn number {i} serves fast food.", "sft", ("name[Inn], food[Fast 1]", "The Inn number 1 serves fast food.")),
        ("good day {i} ||| guten Tag {i}", "sft", ("good day 1", "guten Tag 1")), ("{n} :: it was a film {i}", "classification", ("1", "it was a film 1")),
        ("it was a film {i} ||| {w}", "classification", ("it was a film 1", "dull")),
        ("it was a film {i}##{n}", "classification", ("it was a film 1", "1")),
    ],
)  # fmt: skip
def test_a_separator_in_each_line_is_asked_about_and_read_by_the_proposed_words(tmp_path, line, task, fields):
    path = str(
        write(tmp_path / "rows.txt", [line.format(i=i, n=i % 3, w=["lively", "dull"][i % 2]) for i in range(60)])
    )
    with pytest.raises(UserError, match="lines of two parts") as refused:
        guess_config(path)
    config = config_for_data(path, shlex.split(str(refused.value.hint).partition(" reads them as such; ")[0]))
    assert config.task.name == task and tuple(rows_of(config)[1].fields.values()) == fields


@pytest.mark.parametrize(
    ("line", "label", "text"),
    [
        ("{n},we saw {i}", "1", "we saw 1"),
        ('"we saw, {i}",{n}', "1", "we saw, 1"),
        ("we saw {i}, {p}", "neg", "we saw 1"),
    ],
)
def test_a_label_and_a_comma_that_make_two_cells_are_proposed_as_csv(tmp_path, line, label, text):
    path = str(write(tmp_path / "t.txt", [line.format(i=i, n=i % 3, p=["pos", "neg"][i % 2]) for i in range(60)]))
    with pytest.raises(UserError, match="a comma") as refused:
        guess_config(path)
    config = config_for_data(path, shlex.split(str(refused.value.hint).partition(" reads them as such; ")[0]))
    task = open_inputs(config).task
    example = task.to_example(rows_of(config)[1])
    assert (config.task.name, example.text, str(example.target).strip()) == ("classification", text, label)


@pytest.mark.parametrize(
    ("line", "said"), [('["it was {i}", 1]', "lists in JSON"), ("Ulm/B-LOC is/O far/O ,/O {i}/O", "followed by a tag")]
)
def test_lines_that_nothing_here_reads_are_asked_about_with_what_to_write(tmp_path, line, said):
    path = str(write(tmp_path / "t.txt", [line.format(i=i) for i in range(60)]))
    with pytest.raises(UserError, match=f"{said}.*Write .*; or learn the raw lines with task=mlm"):
        guess_config(path)
    assert guess_config(path, task="mlm").values["task"] == "mlm"


def test_splits_that_are_folders_of_texts_and_labels_are_read_together(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir(parents=True)
        two_files(tmp_path / split, ("text.txt", "labels.txt"))
    values = guess_config(str(tmp_path)).values
    assert values["task"] == "classification" and values["data"]["test"] == str(tmp_path / "test" / "text.txt")


def test_several_labels_of_fasttext_are_lists_and_lines_without_one_are_rejected(tmp_path):
    lines = ["__label__a __label__b both", "__label__a one", "none of them"] + ["__label__b more"] * 60
    config = config_for_data(str(write(tmp_path / "t.txt", lines)), ["data.format=labelled"])
    rows = rows_of(config)
    assert [row.fields["label"] for row in rows[:2]] == [["a", "b"], ["a"]] and open_inputs(config).task.multi_label
    assert isinstance(rows[2], Reject) and rows[2].reason == "this line has no label"


PROSE = {
    "verse": ["And did those feet in ancient time", "Walk upon mountains green?", "And was the holy Lamb", "On pleasant pastures seen?"] * 9,
    "a play": ["ROMEO: Good morrow.", "JULIET: Is it so?", "NURSE: Madam!"] * 20,
    "words": [f"word{n}" for n in range(200)],
    "verses with numbers": [f"{n} and it was so in the land of {n}" for n in range(1, 60)],
    "days": [f"One small sentence about day {n % 7}" for n in range(60)],
    "commas": [f"Well, I feel {n} today, my friend." for n in range(60)],
    "a recipe": [f"{n % 4 + 1} {['cups', 'tbsp', 'eggs,'][n % 3]} of kind {n}" for n in range(60)],
    "a log": [f"[{['INFO', 'WARN'][n % 2]}] server {n} is up" for n in range(60)],
    "a log with dates": [f"2024-05-{n % 28 + 1:02d} 10:00:0{n % 9} job {n} -> done" for n in range(60)],
    "large numbers": [f"{n % 9 + 1},000 people came on day {n}" for n in range(60)],
    "rows of numbers": [f"{n % 3},{n},{n * n}" for n in range(60)],
    "questions": [f"Is it {n}? No, it is {n + 1}." for n in range(60)],
    "code": [f"x{n} = f(a, {n})  # of [a] => b" if n % 2 else "return x" for n in range(60)],
}  # fmt: skip


@pytest.mark.parametrize("kind", PROSE)
def test_prose_verse_and_lists_of_words_are_no_question(tmp_path, kind):
    assert line_question(PROSE[kind]) is None
    assert guess_config(str(write(tmp_path / "t.txt", PROSE[kind]))).values["task"] == "mlm"


@pytest.mark.parametrize(
    "name", ["text/tinyshakespeare.txt", "text/wikitext2_valid.jsonl", "text/wikitext2_test.jsonl"]
)
def test_real_prose_is_no_question(name):
    lines = shared(name).read_text(encoding="utf-8").split("\n")
    if name.endswith("jsonl"):
        lines = [line for one in lines if one for line in json.loads(one)["text"].split("\n")]
    assert not [start for start in range(0, len(lines), 200) if line_question(lines[start : start + 200])]
    assert guess_config(str(shared(name))).values["task"] == "mlm"


def test_a_line_without_a_label_is_none():
    for layout in ("fasttext", "tree", "at", "first", "last", "first cell", "last cell"):
        with pytest.raises(ValueError):
            parsed("  ", layout)


def test_a_label_file_is_part_of_what_the_store_is_made_of(tmp_path):
    two_files(tmp_path, ("train_text.txt", "train_labels.txt"))
    (source,) = open_inputs(config_for_data(str(tmp_path / "train_text.txt"))).sources["train"]
    assert [Path(one).name for one in source.files()] == ["train_text.txt", "train_labels.txt"]


TAGS = [["O", "PER-B", "PER-I", "O", "LOC-B"], ["LOC-B", "O", "O", "O", "O"]]
WORDS = [["so", "Ann", "Lee", "saw", "Ulm"], ["Ulm", "is", "a", "fine", "town"]]


@pytest.mark.parametrize("kind", ["conll", "txt", "jsonl", "spelled", "integers", "odd column"])
def test_types_before_the_prefix_are_read(tmp_path, kind):
    if kind in ("conll", "txt"):
        lines = [
            line
            for w, t in zip(WORDS * 6, TAGS * 6, strict=True)
            for line in (*(f"{a} {b}" for a, b in zip(w, t, strict=True)), "")
        ]
        path, extra = write(tmp_path / f"a.{kind}", lines), {}
    else:
        names = ["O", "PER-B", "PER-I", "LOC-B"]
        tags = [[names.index(tag) for tag in row] for row in TAGS] if kind == "integers" else TAGS
        rows = [
            {"tokens": w, ("marks" if kind == "odd column" else "ner_tags"): t}
            for w, t in zip(WORDS * 6, tags * 6, strict=True)
        ]
        if kind == "spelled":
            rows = [{key: json.dumps(value) for key, value in row.items()} for row in rows]
        path, extra = (
            write(tmp_path / "a.jsonl", map(json.dumps, rows)),
            {"label_names": names} if kind == "integers" else {},
        )
    inputs = guess_config(str(path), extra=extra).inputs
    assert inputs.task.name == "ner"
    example = inputs.task.to_example(next(inputs.rows()))
    assert [(one["text"], one["label"]) for one in inputs.task.display_target(example)] == [
        ("Ann Lee", "PER"),
        ("Ulm", "LOC"),
    ]
    assert any("PER-B is read as B-PER" in note for _, source in inputs.of() for note in source.notes)


def test_types_that_end_like_a_prefix_stay_as_they_are():
    from tunewright.annotations.tags import are_types_first

    assert not are_types_first([["O", "HEPATITIS-B"], ["HEPATITIS-B"]]) and not are_types_first(
        [["B-I", "I-I"], ["B-B"]]
    )
    assert (
        not are_types_first([["B-PER", "I-PER"]])
        and not are_types_first([["PER-B", "PERSON"]])
        and not are_types_first([["O"]])
    )
    assert are_types_first([["PER_S", "O", "LOC_S"]]) and are_types_first([["B-B", "PER-B", "PER-I"]])
