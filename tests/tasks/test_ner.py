"""NER from rows to entities: labels by hand, windows, round trips, scores equal to seqeval's, the pipeline's entities."""

from __future__ import annotations

import functools
import json
import operator
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SAMPLES, shared, write_jsonl
from tunewright.annotations.entities import Annotated
from tunewright.annotations.spans import Span, characters_of, join_words, lay_on_units
from tunewright.config.load import parse_config
from tunewright.encoding.token_labels import texts_of
from tunewright.encoding.units import units_of
from tunewright.errors import UserError
from tunewright.prediction import load
from tunewright.preparation import open_inputs, prepare
from tunewright.pretrained.model_files import locate_model
from tunewright.reading.columns import TextColumns
from tunewright.records import Entity, Example, TaggedText
from tunewright.runs.train import train
from tunewright.tasks.ner import Task
from tunewright.tokenization.encoder import load_encoder

NAMES = {
    "PER": ["Ann Berg", "Bo", "Ines Aalto"],
    "LOC": ["Ulm", "New Ulm", "Rio de Janeiro"],
    "ORG": ["Brisk", "Lumo Works"],
}
FRAMES = [
    "{PER} lives in {LOC} .",
    "{ORG} sent a parcel to {PER} .",
    "My order from {ORG} is still in {LOC} .",
    "Thank you !",
]


def sentences(num: int, seed: int = 0) -> list[dict]:
    """Rows of words and tags, drawn from a few frames and names."""
    rng = random.Random(seed)
    rows = []
    for _ in range(num):
        words, tags = [], []
        for part in rng.choice(FRAMES).split():
            kind = part.strip("{}")
            name = rng.choice(NAMES[kind]).split() if part.startswith("{") else [part]
            words += name
            tags += [f"{'I' if i else 'B'}-{kind}" for i in range(len(name))] if part.startswith("{") else ["O"]
        rows.append({"tokens": words, "ner_tags": tags})
    return rows


def task(**more) -> Task:
    return Task(TextColumns(("text",), label="entities"), types=("LOC", "PER"), **more)


@pytest.fixture(scope="module")
def encoder(tiny_bert):
    return load_encoder(locate_model(str(tiny_bert)), max_length=24)


def labels_of(rows, task, encoder):
    """(token, tag) of the labelled tokens of each row."""
    return [
        [
            (token, task.tags[tag])
            for token, tag in zip(encoder.tokens(row.input_ids), row.values["labels"], strict=True)
            if tag >= 0
        ]
        for row in rows
    ]


def test_the_first_piece_of_each_word_is_labelled(encoder):
    text = Annotated("to Gdansk!", (Span(3, 9, "LOC"),))
    (row,) = task().encode([Example(text.text, target=text)], encoder)
    pieces = encoder.tokens(row.input_ids)
    assert len(pieces) > 6  # Gdansk is cut into several
    assert labels_of([row], task(), encoder) == [[("to", "O"), (pieces[2], "B-LOC"), ("!", "O")]]
    every = labels_of(task(label_pieces="all").encode([Example(text.text, target=text)], encoder), task(), encoder)[0]
    assert [tag for _, tag in every] == ["O", "B-LOC", *["I-LOC"] * (len(pieces) - 5), "O"]


def test_words_that_are_given_are_what_is_decided_on(encoder):
    """`@ann` is two words to the tokenizer; the first one is learned, and the tag is read off it."""
    text, places = join_words(["@ann", "called"])
    target = Annotated(text, (Span(0, 4, "PER"),), places)
    (row,) = task().encode([Example(text, target=target)], encoder)
    tags = [tag for _, tag in labels_of([row], task(), encoder)[0]]
    assert tags == ["B-PER", "O"]
    (row,) = task(label_pieces="all").encode([Example(text, target=target)], encoder)
    assert [tag for _, tag in labels_of([row], task(), encoder)[0]][:2] == ["B-PER", "I-PER"]
    assert row.values["unit_starts"].tolist() == [0, 5]
    assert row.values["unit_ends"].tolist() == [4, 11]


def test_a_span_that_cuts_a_word(encoder):
    text = Annotated("unpaid bill", (Span(2, 6, "LOC"),))
    grown = task().encode([Example(text.text, target=text)], encoder)
    assert [tag for _, tag in labels_of(grown, task(), encoder)[0]] == ["B-LOC", "O"]
    assert grown[0].values["changes"].tolist() == [0, 0, 0, 1, 0, 0]
    strict = task(align="strict").encode([Example(text.text, target=text)], encoder)
    assert [tag for _, tag in labels_of(strict, task(), encoder)[0]] == ["O"]  # `unpaid` is not learned from at all
    assert strict[0].values["changes"].tolist() == [0, 0, 0, 0, 1, 0]
    assert strict[0].values["gold_starts"].tolist() == [2]  # and counts as missed


def long_text(num: int) -> Annotated:
    text, spans = "", []
    for number in range(num):
        name = ["Ulm", "Gdansk", "New Ulm"][number % 3]
        text += f"{number} days in "
        spans.append(Span(len(text), len(text) + len(name), "LOC"))
        text += name + ", "
    return Annotated(text, tuple(spans))


@pytest.mark.parametrize("pieces", ["first", "all"])
@pytest.mark.parametrize("stride", [0, 4, "auto", 20])
def test_windows_label_what_one_long_row_labels(tiny_bert, encoder, pieces, stride):
    wide = load_encoder(locate_model(str(tiny_bert)))
    object.__setattr__(wide, "max_length", 10_000)
    one, text = task(label_pieces=pieces, window_overlap=stride), long_text(12)
    windows = list(one.encode([Example(text.text, target=text)], encoder))
    (whole,) = one.encode([Example(text.text, target=text)], wide)
    assert len(windows) > 4
    assert max(len(row.input_ids) for row in windows) <= 24
    assert functools.reduce(operator.iadd, labels_of(windows, one, encoder), []) == labels_of([whole], one, encoder)[0]
    assert [row.values["gold_starts"].size for row in windows] == [12] + [0] * (len(windows) - 1)


def test_only_texts_longer_than_the_model_are_cut_into_narrower_windows(encoder):
    one, short, long = task(window=12), long_text(2), long_text(6)
    (row,) = one.encode([Example(short.text, target=short)], encoder)
    assert 12 < len(row.input_ids) <= 24
    assert max(len(row.input_ids) for row in one.encode([Example(long.text, target=long)], encoder)) <= 12


def certain(row, one) -> np.ndarray:
    """Scores of a model that is certain of what the row is labelled with."""
    scores = np.full((len(row.input_ids), len(one.tags)), 0.01)
    scores[np.arange(len(scores)), np.maximum(row.values["labels"], 0)] = 0.9
    return scores


def test_no_entity_is_lost_or_doubled_at_an_edge(encoder):
    one, text = task(), long_text(40)
    rows = list(one.encode([Example(text.text, target=text)], encoder))
    found = one.decode(Example(text.text), rows, [certain(row, one) for row in rows])
    assert [Span(e.start, e.end, e.label) for e in found.entities] == list(text.spans)
    assert found.num_cut == 0


def test_truncation_is_counted(encoder):
    one, text = task(long_texts="truncate"), long_text(12)
    (row,) = one.encode([Example(text.text, target=text)], encoder)
    assert len(row.input_ids) == 24
    kept = len(one.decode(Example(text.text), [row], [certain(row, one)]).entities)
    assert row.num_cut == len(encoder.encode_with_offsets([text.text])[0]) - 24
    assert row.values["changes"].tolist() == [0, 0, 0, 0, 0, 12 - kept] or row.values["changes"][5] == 12 - kept + 1


@pytest.mark.parametrize(
    "name", ["bert-base-cased", "bert-base-uncased", "gpt2", "roberta-base", "llama3", "qwen3", "t5"]
)
def test_spans_come_back_from_real_tokenizers(name):
    """On piece level every span of whole words comes back; on word level where the tokenizer cuts words as people do."""
    from transformers import AutoTokenizer

    from tunewright.tokenization.offsets import framed
    from tunewright.tokenization.plain import TextOnly
    from tunewright.tokenization.template import probe

    tokenizer = AutoTokenizer.from_pretrained(shared(f"tokenizers/{name}"))
    text_only = TextOnly.of(tokenizer)
    layout = probe(tokenizer, text_only, pair=False)
    lost = 0
    with open(shared("ner/wnut17/dev.jsonl"), encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:300]
    for row in rows:
        text, places = join_words(row["tokens"])
        spans = [Span(int(a), int(b), "X") for a, b in places if b > a][::2]
        (encoding,) = text_only.encodings([text])
        aligned = framed(encoding, layout)
        for every_piece in (True, False):
            units = units_of(text, aligned, every_piece=every_piece)
            laid = lay_on_units(spans, units.starts, units.ends)
            back = characters_of(laid.spans, units.starts, units.ends)
            assert set(spans) - set(laid.moved) - set(laid.lost) <= set(back)
            lost += len(laid.moved) + len(laid.lost)
    assert lost <= 4, f"{lost} spans do not come back"


@settings(max_examples=60)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Zs", "Cc"]), min_size=1, max_size=7),
        min_size=1,
        max_size=9,
    ),
    st.data(),
)
def test_text_to_tokens_to_labels_to_spans(encoder, words, data):
    """Whatever the tokenizer can express comes back; whatever it cannot is among the moved or the lost."""
    text, places = join_words(words)
    chosen = [place for place in places.tolist() if data.draw(st.booleans()) and text[slice(*place)].strip()]
    spans = [Span(*place, data.draw(st.sampled_from(["LOC", "PER"]))) for place in chosen]
    target = Annotated(text, tuple(spans))
    one = task()
    rows = list(one.encode([Example(text, target=target)], encoder))
    found = [
        Span(e.start, e.end, e.label)
        for e in one.decode(Example(text), rows, [certain(row, one) for row in rows]).entities
    ]
    changed = int(rows[0].values["changes"][3:5].sum())
    assert len(set(spans) - set(found)) == changed


def test_a_text_without_any_token_has_no_entities(encoder):
    text = "\U000f0000"
    example = Example(text, target=Annotated(text, (Span(0, 1, "LOC"),)))
    [row] = list(task().encode([example], encoder))
    assert task().decode(Example(text), [row], [certain(row, task())]).entities == ()


def config_of(folder, tiny_bert, rows, **more):
    path = write_jsonl(folder / "train.jsonl", rows)
    return {
        "model": str(tiny_bert), "output": str(folder / "run"), "data": {"train": str(path), "max_length": 32},
        "train": {"epochs": 14, "batch_size": 8, "precision": "fp32", "learning_rate": 5e-3},
        "evaluate": {"baselines": False}, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    return train(config_of(folder, tiny_bert, sentences(120)))


def test_it_learns_and_says_what_it_learned(trained):
    scores = trained.scores["test"]
    assert scores["metrics"]["span_f1"] > 0.9
    assert set(scores["per_class"]) == {"LOC", "ORG", "PER"}
    assert scores["intervals"]["span_f1"][0] <= scores["metrics"]["span_f1"] <= scores["intervals"]["span_f1"][1]


def test_the_tags_that_followed_each_other_in_training_are_kept(trained):
    from tunewright.artifacts.model_folder import open_saved

    task = open_saved(trained.folder / "model").task()
    counts = {(task.tags[a], task.tags[b]): count for a, b, count in task.tag_pairs}
    assert task.transitions == 0.2 and sum(counts.values()) > 100
    assert all(b[0] != "I" or a[1:] == b[1:] for a, b in counts)
    assert Task.from_state(json.loads(json.dumps(task.state()))) == task


def test_prediction_on_the_original_string(trained):
    model = load(trained, precision="fp32")
    text = "  Ann Berg\tlives in Rio de Janeiro ."
    (found,) = model.predict([text])
    assert [(e["text"], e["start"], e["end"], e["label"]) for e in found.as_dict()["entities"]] == [
        ("Ann Berg", 2, 10, "PER"), ("Rio de Janeiro", 20, 34, "LOC"),
    ]  # fmt: skip
    assert all(0.5 < entity.score <= 1 for entity in found.entities)
    assert found.with_min_score(1.1).entities == ()


def test_predictions_do_not_depend_on_their_neighbours(trained):
    model = load(trained, precision="fp32")
    texts = [" ".join(row["tokens"]) for row in sentences(20, seed=5)] + [" ".join(["Bo lives in Ulm ."] * 30)]
    together, backwards = model.predict(texts), model.predict(texts[::-1])[::-1]
    alone = [model.predict([text])[0] for text in texts]
    for one, two, three in zip(together, backwards, alone, strict=True):
        assert [e.label for e in one.entities] == [e.label for e in two.entities] == [e.label for e in three.entities]
        for a, b, c in zip(one.entities, two.entities, three.entities, strict=True):
            assert (a.start, a.end) == (b.start, b.end) == (c.start, c.end)
            assert a.score == pytest.approx(b.score, abs=1e-5) == pytest.approx(c.score, abs=1e-5)


def test_the_scores_are_seqevals_on_the_same_output(trained):
    """Words and tags of the test split, predicted through `predict_rows`, scored by seqeval."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    store = prepare(parse_config(config_of(trained.folder.parent, load_path(trained), sentences(120)))).store["test"]
    lines = [store.array("line")[rows[0]] for rows in texts_of(store)]
    every = sentences(120)
    rows = [every[line - 1] for line in lines]
    model, predicted = load(trained, precision="fp32"), []
    from tunewright.records import Row

    for row, found in model.predict_rows(Row("a", 1, row) for row in rows):
        _, places = join_words(row.fields["tokens"])
        tags = ["O"] * len(places)
        for entity in found.entities:
            inside = [w for w, (a, b) in enumerate(places) if entity.start <= a and b <= entity.end]
            for number, word in enumerate(inside):
                tags[word] = f"{'I' if number else 'B'}-{entity.label}"
        predicted.append(tags)
    gold = [row["ner_tags"] for row in rows]
    metrics = trained.scores["test"]["metrics"]
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert metrics[f"span_{name}"] == pytest.approx(score(gold, predicted), abs=1e-9)


def load_path(run) -> str:
    import yaml

    return yaml.safe_load((run.folder / "config.yaml").read_text())["model"]["name"]


@pytest.mark.parametrize(("pieces", "strategy"), [("first", "first"), ("all", "simple")])
def test_the_pipeline_finds_the_same_entities(tiny_bert, tmp_path, pieces, strategy):
    from transformers import pipeline

    values = config_of(
        tmp_path, tiny_bert, sentences(60), task={"name": "ner", "label_pieces": pieces, "constrained_decoding": False}
    )
    values["train"]["epochs"] = 4  # half learned: many illegal sequences
    run = train(values)
    texts = [" ".join(row["tokens"]) for row in sentences(40, seed=9)] + ["Ann-Marie's (Ulm) parcel, from BRISK?"]
    theirs = pipeline("token-classification", model=str(run.folder / "model"), aggregation_strategy=strategy)
    model, num_entities = load(run, precision="fp32"), 0
    for text, found in zip(texts, model.predict(texts), strict=True):
        expected = [(e["start"], e["end"], e["entity_group"]) for e in theirs(text)]
        assert [(e.start, e.end, e.label) for e in found.entities] == expected
        assert [e.score for e in found.entities] == pytest.approx([float(e["score"]) for e in theirs(text)], abs=1e-4)
        num_entities += len(expected)
    assert num_entities > 20


def test_weights_and_ignored_tokens_in_the_loss(encoder):
    import torch

    from tunewright.records import Batch

    class Fixed:
        def __call__(self, **inputs):
            return type("Out", (), {"logits": logits})

    logits = torch.zeros(2, 3, 5)
    labels = torch.tensor([[-100, 1, 2], [0, -100, -100]])
    batch = Batch({}, {"labels": labels}, np.arange(2), np.array([3, 1]))
    one = Task(TextColumns(("text",)), types=("LOC", "PER"))
    (total, weight), _ = one.loss(Fixed(), batch)[0]["cross_entropy"], None
    assert (float(total), weight) == (pytest.approx(3 * np.log(5)), 3.0)
    (total, weight), _ = one.loss(Fixed(), batch, weights=torch.tensor([2.0, 0.5]))[0]["cross_entropy"], None
    assert (float(total), float(weight)) == (pytest.approx(4.5 * np.log(5)), 4.5)


def test_ner_data_is_recognised_and_mistakes_are_said(tiny_bert, tmp_path):
    values = config_of(tmp_path, tiny_bert, sentences(30))
    assert open_inputs(parse_config(values)).task.name == "ner"
    with pytest.raises(UserError, match=r"train.class_weights has no effect: ner does not read it"):
        train({**values, "train": {**values["train"], "class_weights": "balanced"}})
    outside = [{"tokens": ["a", "b"], "ner_tags": ["O", "O"]}] * 30
    with pytest.raises(UserError, match="no entity in any row"):
        prepare(
            parse_config({**values, "data": {"train": str(write_jsonl(tmp_path / "o.jsonl", outside))}, "task": "ner"})
        )
    plain = [{"text": "a", "label": "b"}] * 30
    with pytest.raises(UserError, match="no column of tags or entities found"):
        open_inputs(
            parse_config({**values, "data": {"train": str(write_jsonl(tmp_path / "p.jsonl", plain))}, "task": "ner"})
        )
    broken = [*sentences(30), {"tokens": ["a", "b"], "ner_tags": ["O", "I-PER"]}]
    with pytest.raises(UserError, match=r"train\.jsonl:31: word 2: I-PER after O"):
        prepare(parse_config(config_of(tmp_path, tiny_bert, broken)))


def test_rows_without_gold_are_filtered_and_changes_are_said(tiny_bert, tmp_path):
    """Of 40 Prodigy rows one was rejected by its annotator; in the others one entity in two cuts a word."""
    rows = [
        {
            "text": f"Order {number} from Bremen came",
            "spans": [{"start": 14, "end": 20 if number % 2 else 17, "label": "LOC"}],
            "answer": "accept",
        }
        for number in range(10, 50)
    ]
    rows[7]["answer"] = "reject"
    prepared = prepare(parse_config(config_of(tmp_path, tiny_bert, rows)))
    ledger = prepared.manifest["ledger"]
    assert [ledger["sources"][0][fate] for fate in ("read", "kept", "rejected", "filtered")] == [40, 39, 0, 1]
    assert ledger["reasons"] == {"its answer is 'reject', not 'accept'": 1}
    assert prepared.task().data_warnings(prepared.store) == [
        "20 of 39 entities began or ended inside a word of the tokenizer and were extended to it (task.align);"
        " task.label_pieces=all labels finer pieces"
    ]


def test_the_sample_is_whole():
    rows = [json.loads(line) for line in (SAMPLES / "entities.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert all(one["start"] < one["end"] <= len(row["text"]) for row in rows for one in row["entities"])
    assert TaggedText("Ulm", (Entity(0, 3, "LOC", 0.9),)).as_dict()["entities"][0]["text"] == "Ulm"
