"""Masked and causal language modelling: what is hidden and packed, against transformers' losses and pipelines, and used after training."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import tunewright as tw
from tests.cli.test_cli import tunewright
from tests.conftest import messages, shared, write_jsonl
from tests.tasks.test_contract import values_for
from tunewright.batching.padding import Padding
from tunewright.batching.row_context import RowContext, row_context
from tunewright.config.load import parse_config
from tunewright.encoding.masking import Masking
from tunewright.encoding.sentence_pairs import sentence_pairs
from tunewright.encoding.sentences import sentences
from tunewright.errors import UserError
from tunewright.metrics.language import language_scores, unigram_loss
from tunewright.models.document_isolation import isolates
from tunewright.preparation import open_inputs
from tunewright.reading.columns import TextColumns
from tunewright.records import Candidate, Completion, Example, FilledMask, Row
from tunewright.runs.setup import build_components
from tunewright.runs.train import train
from tunewright.tasks.mlm import EVALUATION_SEED, Task


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("language")


def language_run(kind: str, tiny_bert, folder, **options):
    """A small run of a kind of language task."""
    base = {
        "model": str(tiny_bert), "data": {"train": str(folder / "data.jsonl"), "max_length": 48},
        "train": {"epochs": 1, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-3},
        "evaluate": {"baselines": True}, "output": str(folder / kind),
    }  # fmt: skip
    values = values_for(kind, base, folder)
    return {**values, "task": {**values["task"], **options}}


@pytest.fixture(scope="module")
def mlm_run(tiny_bert, module_folder):
    return train(language_run("mlm", tiny_bert, module_folder))


@pytest.fixture(scope="module")
def pairs_run(tiny_bert, module_folder):
    folder = module_folder / "pairs"  # of its own: the rows of `mlm_run` would be overwritten
    folder.mkdir()
    return train(language_run("next_sentence", tiny_bert, folder))


@pytest.fixture(scope="module")
def clm_parts(tiny_bert, module_folder):
    (module_folder / "packed").mkdir()
    parts = build_components(parse_config(language_run("clm", tiny_bert, module_folder / "packed")))
    for module in parts.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return parts


# Masks


def test_how_many_tokens_are_hidden_follows_from_the_length():
    masking = Masking(0.15, seed=1, epoch=2)
    assert masking.num_hidden(np.array([0, 1, 5, 10, 100])).tolist() == [0, 1, 1, 2, 15]
    hidden = masking.hidden(np.arange(1, 101), masking.rng(7))
    assert len(set(hidden.tolist())) == 15 and hidden.min() >= 1 and hidden.max() <= 100


def test_what_is_hidden_is_a_function_of_seed_epoch_and_row():
    def drawn(seed: int, epoch: int, key: int) -> list[int]:
        masking = Masking(0.15, seed, epoch)
        return masking.hidden(np.arange(200), masking.rng(key)).tolist()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({tuple(drawn(*words)) for words in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4)]}) == 4


def test_eighty_ten_ten():
    masking = Masking(0.15, 0, 0)
    ids = np.full(100_000, 50)
    seen = masking.replaced(ids, masking.rng(0), mask_id=4, ids_V=np.arange(100, 300))
    assert (seen == 4).mean() == pytest.approx(0.8, abs=0.01)
    assert ((seen >= 100) & (seen < 300)).mean() == pytest.approx(0.1, abs=0.01)
    assert (seen == 50).mean() == pytest.approx(0.1, abs=0.01)


def test_whole_words_are_hidden_whole():
    masking = Masking(0.3, 0, 0)
    continues = np.array([0, 1, 1, 0, 0, 1, 0, 0, 0, 0], np.int8)
    words = [{0, 1, 2}, {3}, {4, 5}, {6}, {7}, {8}, {9}]
    for key in range(50):
        hidden = set(masking.hidden(np.arange(10), masking.rng(key), continues).tolist())
        assert hidden == set().union(*(word for word in words if word & hidden)) and len(hidden) == 3
    long = np.array([0, 1, 1, 1], np.int8)
    assert masking.hidden(np.arange(4), masking.rng(0), long).tolist() == [0, 1, 2, 3]  # nothing shorter is there


@pytest.mark.parametrize("kind", ["mlm", "whole_word", "next_sentence"])
def test_labels_stand_on_hidden_text_and_weights_count_them(tiny_bert, tmp_path, kind):
    parts = build_components(parse_config(language_run(kind, tiny_bert, tmp_path)))
    task, split = parts.task.for_epoch(seed=5, epoch=3), parts.rows
    rows = np.arange(len(split))
    batch = task.collate(split, rows, parts.encoder)
    labels = batch.targets["labels"].numpy()
    assert ((labels != -100).sum(1) == task.weights(split).terms["masked_lm"]).all()
    special = set(parts.encoder.tokenizer.all_special_ids)
    assert not special & set(labels[labels != -100].tolist())
    original = np.zeros_like(labels)
    for row in rows:
        original[row, : split.lengths[row]] = split.input_ids(int(row))
    assert (labels[labels != -100] == original[labels != -100]).all()
    visible = batch.inputs["input_ids"].numpy()
    assert (visible[labels == -100] == original[labels == -100]).all()
    share = (visible[labels != -100] == parts.encoder.tokenizer.mask_token_id).mean()
    assert 0.65 < share < 0.95
    again = parts.task.for_epoch(seed=5, epoch=3).collate(split, rows[3:5], parts.encoder, Padding(to_max_length=True))
    assert (
        again.targets["labels"].numpy()[:, : labels.shape[1]]
        == np.pad(labels, ((0, 0), (0, 48)), constant_values=-100)[3:5, : labels.shape[1]]
    ).all()


def test_evaluation_hides_the_same_every_time(mlm_run):
    model = tw.load(mlm_run)
    assert (
        model.task.for_evaluation().draw
        == (EVALUATION_SEED, 0)
        == model.task.for_epoch(seed=9, epoch=4).for_evaluation().draw
    )
    first, second = (tw.evaluate(mlm_run, precision="fp32")["metrics"] for _ in range(2))
    assert first == second == pytest.approx(mlm_run.scores["test"]["metrics"], abs=1e-6)


def test_a_long_text_becomes_pieces_of_like_length(mlm_run):
    model = tw.load(mlm_run)
    encoder, task = replace(model.encoder, max_length=12), model.task
    text = "the parcel was not there and nobody knew where it had gone to in all that time"
    rows = task.encode([Example(text, target=True), Example("a b", target=True)], encoder)
    bare = encoder.bare_ids([text]).ids.tolist()
    of_text = [row.input_ids[1:-1].tolist() for row, number in zip(rows, rows.example, strict=True) if number == 0]
    assert [token for row in of_text for token in row] == bare and max(map(len, of_text)) - min(map(len, of_text)) <= 1
    assert rows.part.tolist() == [*range(len(of_text)), 0] and not rows.num_cut.any()


def test_the_loss_is_that_of_transformers(mlm_run, pairs_run):
    for run in (mlm_run, pairs_run):
        model = tw.load(run, precision="fp32")
        parts = build_components(
            parse_config({**json.loads(json.dumps(_values_of(run))), "output": str(run.folder) + "-again"})
        )
        batch = parts.task.collate(parts.rows, np.arange(6), parts.encoder, Padding(to_max_length=True))
        with torch.no_grad():
            terms, _ = parts.task.loss(model.network, batch)
            expected = model.network(**batch.inputs, **batch.targets).loss
        found = sum(total / weight for total, weight in terms.values())
        assert float(found) == pytest.approx(float(expected), rel=1e-5)


def _values_of(run):
    import yaml

    return yaml.safe_load((run.folder / "config.yaml").read_text())


# Fill the mask


def test_candidates_are_those_of_the_fill_mask_pipeline(mlm_run):
    from transformers import pipeline

    texts = ["This is a [MASK] movie!", "He bought a [MASK] [MASK] yesterday."]
    found = tw.load(mlm_run, precision="fp32").predict(texts)
    expected = pipeline("fill-mask", model=str(mlm_run.folder / "model"))(texts)
    for one, other in zip(found, expected, strict=True):
        gaps = [other] if isinstance(other[0], dict) else other
        for candidates, wanted in zip(one.masks, gaps, strict=True):
            assert [c.token_str for c in candidates] == [c["token_str"] for c in wanted]
            assert [c.score for c in candidates] == pytest.approx([c["score"] for c in wanted], abs=1e-6)


def test_the_typed_mask_is_control_in_prediction_only(mlm_run):
    model = tw.load(mlm_run)
    mask = model.encoder.tokenizer.mask_token_id
    learned = model.task.encode([Example("a [MASK] b", target=True)], model.encoder)
    asked = model.task.encode([Example("a [MASK] [SEP] b")], model.encoder)
    assert mask not in learned.input_ids
    assert (asked.input_ids == mask).sum() == 1 and (asked.input_ids == model.encoder.tokenizer.sep_token_id).sum() == 1


def test_a_text_without_a_mask_is_refused(mlm_run):
    with pytest.raises(UserError, match="the place to fill, is missing"):
        tw.load(mlm_run).predict(["Nothing to fill."])


def test_a_row_without_a_mask_is_named_by_its_line(mlm_run, monkeypatch):
    """In the second window too, behind the rows that are predicted."""
    monkeypatch.setattr("tunewright.prediction.WINDOW_ROWS", 2)
    texts = ["A [MASK].", "B [MASK].", "C [MASK].", "Nothing."]
    column = tw.load(mlm_run).task.columns.text[0]
    rows = tw.load(mlm_run).predict_rows(Row("a.csv", line, {column: text}) for line, text in enumerate(texts, start=2))
    assert [next(rows)[0].line for _ in range(2)] == [2, 3]
    with pytest.raises(UserError, match=r"a.csv:5: .*the place to fill, is missing"):
        list(rows)


def test_inputs_without_a_mask_can_be_skipped(mlm_run, tmp_path, monkeypatch):
    """Rows and lines keep their predictions, and are told by where they stand, though others before them are left out too."""
    monkeypatch.setattr("tunewright.prediction.WINDOW_ROWS", 2)
    run, column = str(mlm_run.folder), tw.load(mlm_run).task.columns.text[0]
    texts = ["A [MASK].", " ", "No.", "Nothing.", "Not here.", "B [MASK]."]
    write_jsonl(tmp_path / "data.jsonl", [{column: text, "n": n} for n, text in enumerate(texts)])
    of_file = ["predict", run, "--file", str(tmp_path / "data.jsonl"), "--skip-bad-rows"]
    of_lines = ["predict", run, "-", "--skip-bad-rows"]
    done = tunewright(*of_file, cwd=tmp_path)
    found = list(map(json.loads, done.stdout.splitlines()))
    assert [(row["n"], row[column]) for row in found] == list(enumerate(texts))
    assert [bool(row["candidates"]) for row in found] == [True, False, False, False, False, True]
    assert found[1]["reason"] == "blank text" and found[2]["reason"].endswith("is missing")
    assert [line.split(":")[-2:] for line in done.stderr.splitlines()[1:]] == [
        ["2", " blank text"], *([line, " [MASK], the place to fill, is missing"] for line in "345"),
    ]  # fmt: skip
    done = tunewright(*of_lines, cwd=tmp_path, stdin="\n".join(texts))
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 6
    assert [line.split(":")[1] for line in done.stderr.splitlines()[1:]] == ["2", "3", "4", "5"]
    done = tunewright(*of_lines[:-1], cwd=tmp_path, stdin="A [MASK].\nNo.\n")
    assert done.returncode == 2 and "stdin:2: [MASK], the place to fill, is missing. Fix it, or skip" in done.stderr


def test_a_filled_mask_as_json_and_as_a_line():
    filled = FilledMask("a [MASK]", ((Candidate(" car", 0.5, 7), Candidate("bus", 0.1, 8)),))
    assert filled.with_min_score(0.2).as_dict() == {
        "text": "a [MASK]",
        "candidates": [{"token_str": " car", "score": 0.5, "token": 7}],
    }
    assert filled.line() == "car 0.500  bus 0.100"
    assert Completion("a", " b", "end", 1).as_dict() == {"prompt": "a", "text": " b", "ended": "end", "tokens": 1}


# Next sentence


def test_sentences_by_rule():
    assert sentences('He left. "Why?" she asked.\nNobody knew (yet).') == [
        "He left.",
        '"Why?" she asked.',
        "Nobody knew (yet).",
    ]
    assert sentences("3.5 percent, e.g. this. 你好。再见。") == ["3.5 percent, e.g. this.", "你好。", "再见。"]
    assert sentences(" \n ") == []


def test_half_of_the_pairs_are_neighbours_and_all_first_segments_are_in_order():
    rng = np.random.default_rng(0)
    documents = [[[100 * d + s] * int(rng.integers(2, 7)) for s in range(int(rng.integers(1, 9)))] for d in range(400)]
    pairs = sentence_pairs(documents, room=20, rng=np.random.default_rng(1))
    assert np.mean([pair.follows for pair in pairs]) == pytest.approx(0.5, abs=0.04)
    for pair in pairs:
        assert {token // 100 for token in pair.first} == {pair.document}
        assert ({token // 100 for token in pair.second} == {pair.document}) == pair.follows
        assert not pair.follows or pair.second[0] - pair.first[-1] == 1
    for number, document in enumerate(documents):
        used = {
            token
            for pair in pairs
            if pair.document == number
            for token in (*pair.first, *(pair.second if pair.follows else ()))
        }
        assert used == {sentence[0] for sentence in document}
    assert sentence_pairs([[[1], [2], [3]]], room=9, rng=rng)[0].follows  # a lone document: neighbours only
    assert sentence_pairs([[[1]]], room=9, rng=rng) == []


def test_a_pair_is_asked_whether_it_follows(pairs_run):
    model = tw.load(pairs_run)
    (answer,) = model.predict([("Where is my parcel?", "It left on Monday.")])
    assert set(answer.scores) == {"follows", "does not follow"} and sum(answer.scores.values()) == pytest.approx(
        1, abs=1e-5
    )
    (filled,) = model.predict(["Where is my [MASK]?"])
    assert len(filled.masks) == 1
    metrics = pairs_run.scores["test"]["metrics"]
    assert {"loss", "loss_masked_lm", "loss_next_sentence", "pair_accuracy", "perplexity"} <= set(metrics)
    assert metrics["loss"] == pytest.approx(metrics["loss_masked_lm"] + metrics["loss_next_sentence"])
    assert type(model.network).__name__ == "BertForPreTraining"


def test_a_masked_model_is_a_start_for_classification(mlm_run, run_values):
    classifier = train(
        {**run_values, "model": str(mlm_run.folder / "model"), "train": {**run_values["train"], "max_steps": 2}}
    )
    assert "accuracy" in classifier.scores["test"]["metrics"]


# Causal


def test_packed_and_lone_documents_have_the_same_loss_and_no_sight_of_each_other(clm_parts):
    parts = clm_parts
    model, task, split = parts.model.eval(), parts.task, parts.rows
    rows = np.flatnonzero([len(segments) > 1 for segments in split.lists("segments", range(len(split)))])[:4]
    batch = task.collate(split, rows, parts.encoder, Padding(to_max_length=True))
    assert batch.width == 24
    with (
        torch.no_grad(),
        row_context(RowContext(0, 0, batch.row_ids, batch.lengths, batch.width, segments=batch.segments)),
    ):
        packed = model(**batch.inputs, use_cache=False).logits
        with row_context(
            RowContext(0, 0, batch.row_ids, batch.lengths, batch.width)
        ):  # scores of the whole block, masked
            assert torch.allclose(model(**batch.inputs, use_cache=False).logits, packed, atol=1e-5)
        for number, row in enumerate(rows):
            start = 0
            for length in split.lists("segments", [row])[0]:
                ids = batch.inputs["input_ids"][number : number + 1, start : start + length]
                with row_context(None):
                    alone = model(input_ids=ids, use_cache=False).logits[0]
                assert torch.allclose(packed[number, start : start + length], alone, atol=1e-5)
                start += int(length)
        changed = batch.inputs["input_ids"].clone()
        first = int(split.lists("segments", [rows[0]])[0][0])
        changed[0, :first] = (changed[0, :first] + 1) % 100
        other = model(**{**batch.inputs, "input_ids": changed}, use_cache=False).logits
    assert torch.allclose(other[0, first:], packed[0, first:], atol=1e-6)
    assert not torch.allclose(other[0, :first], packed[0, :first], atol=1e-3)


def test_the_causal_loss_is_that_of_transformers(clm_parts):
    parts = clm_parts
    batch = parts.task.collate(parts.rows, np.arange(5), parts.encoder, Padding(to_max_length=True))
    assert batch.width == 24
    with row_context(RowContext(0, 0, batch.row_ids, batch.lengths, batch.width)):
        terms, per_row = parts.task.loss(parts.model.eval(), batch)
        expected = parts.model(**batch.inputs, labels=batch.targets["labels"], use_cache=False).loss
    total, weight = terms["cross_entropy"]
    assert float((total / weight).detach()) == pytest.approx(float(expected), rel=1e-5)
    assert float(weight) == parts.rows.array("num_supervised")[:5].sum() == float(per_row[:, 1].sum())


def test_every_token_of_the_sources_is_in_the_ledger(clm_parts):
    parts = clm_parts
    tokens = parts.prepared.manifest["ledger"]["tokens"]
    texts = [row["text"] for row in messages(80)]
    bare = int(parts.encoder.bare_ids(texts).lengths.sum())
    stored = sum(of_split["tokens"] for of_split in tokens.values())
    assert stored == bare + 2 * len(texts)  # [CLS] and [SEP] around every document
    assert all(of_split["tokens"] == of_split["supervised"] + of_split["context"] for of_split in tokens.values())
    num_bytes = sum(int(parts.prepared.store[name].array("num_bytes").sum()) for name in parts.prepared.store.splits)
    assert num_bytes == sum(len(text.encode()) for text in texts)


def test_a_stride_lowers_no_ones_count_and_gives_each_token_more_context(tiny_bert, tmp_path):
    values = language_run("clm", tiny_bert, tmp_path, eval_stride=6)
    parts = build_components(parse_config(values))
    strided, side_by_side = parts.prepared.store["test"], parts.prepared.store["train"]
    assert strided.array("num_context").max() == 18 and not side_by_side.array("num_context").any()
    assert strided.array("num_supervised").sum() > 0.9 * strided.array("num_targets").sum()


def test_scores_by_hand():
    scores = language_scores(np.array([4.0, 2.0]), np.array([2, 1]), num_targets=4, num_bytes=8)
    assert scores["loss"] == 2.0 and scores["perplexity"] == pytest.approx(math.e**2)
    assert scores["bits_per_byte"] == pytest.approx(2 / math.log(2) * 4 / 8)
    assert unigram_loss(np.array([3, 0]), np.array([1, 1])) == pytest.approx(-(math.log(4 / 5) + math.log(1 / 5)) / 2)


def test_models_that_cannot_be_told_where_a_document_begins_are_found_out(clm_parts):
    assert isolates(clm_parts.model)
    from transformers import BloomConfig, BloomForCausalLM

    assert not isolates(BloomForCausalLM(BloomConfig(vocab_size=20, hidden_size=16, n_layer=1, n_head=2)))


def test_a_causal_model_completes_and_knows_when_to_stop(clm_parts, tmp_path):
    from tunewright.artifacts.model_folder import save_model
    from tunewright.generation.generate import Sampling

    save_model(tmp_path / "model", clm_parts.model, clm_parts.task, clm_parts.encoder, precision="fp32")
    model = tw.load(tmp_path, precision="fp32").writing(Sampling(max_new_tokens=8, temperature=0))
    one, other = model.predict(["where is my", "no"])
    assert one.as_dict() == model.predict(["where is my"])[0].as_dict() and other.prompt == "no"
    assert one.text == "".join(model.write("where is my"))
    assert 0 < one.num_tokens <= 8
    (long,) = model.predict(["parcel " * 60])
    assert long.num_cut > 0


# Which task, which text


def test_a_lone_text_column_is_learned_as_the_model_reads(tiny_bert, tmp_path):
    path = str(write_jsonl(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in messages(20)]))
    assert open_inputs(parse_config({"model": str(tiny_bert), "data": path})).task.name == "mlm"
    decoder = {"name": "scratch:llama-tiny", "tokenizer": str(tiny_bert)}
    assert open_inputs(parse_config({"model": decoder, "data": path})).task.name == "clm"
    labelled = str(write_jsonl(tmp_path / "labelled.jsonl", messages(20)))
    assert open_inputs(parse_config({"model": decoder, "data": labelled})).task.name == "classification"
    named = parse_config({"task": "mlm", "model": str(tiny_bert), "data": {"train": labelled, "text": "text"}})
    assert open_inputs(named).task.columns == TextColumns(("text",))


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [("clm", "encoder", "bidirectional"), ("mlm", "decoder", "cannot predict masked tokens")],
)
def test_a_model_of_the_other_kind_is_refused(tiny_bert, tmp_path, task, model, words):
    values = language_run("mlm", tiny_bert, tmp_path)
    decoder = {"name": "scratch:llama-tiny", "tokenizer": str(tiny_bert)}
    config = parse_config({**values, "task": task, "model": str(tiny_bert) if model == "encoder" else decoder})
    with pytest.raises(UserError, match=words):
        build_components(config)


def test_text_files_are_read_by_line_paragraph_or_whole(tmp_path, tiny_bert):
    from tunewright.reading import ReadOptions, open_source
    from tunewright.reading.documents import BEGINS, ENDS, PIECE_CHARACTERS

    path = tmp_path / "play.txt"
    path.write_text("A:\nfirst\n\n\nB:\nsecond\n")

    def rows(documents: str) -> list[tuple[int, str]]:
        return [
            (row.line, row.fields["text"]) for row in open_source(str(path), ReadOptions(documents=documents)).rows()
        ]

    assert rows("line") == [(1, "A:"), (2, "first"), (5, "B:"), (6, "second")]
    assert rows("paragraph") == [(1, "A:\nfirst"), (5, "B:\nsecond")]
    assert rows("file") == rows("auto") == [(1, "A:\nfirst\n\n\nB:\nsecond\n")]
    line = "word " * 20 + "\n"
    path.write_text(line * 500)
    pieces = list(open_source(str(path), ReadOptions(documents="file")).rows())
    assert "".join(row.fields["text"] for row in pieces) == line * 500
    assert [row.fields[BEGINS] for row in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [row.fields[ENDS] for row in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(len(row.fields["text"]) < PIECE_CHARACTERS + 2 * len(line) for row in pieces)
    assert len(list(open_source(str(path), ReadOptions(documents="auto")).rows())) == 500
    decoder = {"name": "scratch:llama-tiny", "tokenizer": str(tiny_bert)}
    path.write_text("one\n\ntwo\n")
    assert len(list(open_inputs(parse_config({"model": decoder, "data": str(path)})).rows())) == 1


def test_stories_are_told_better_after_training(tmp_path):
    folder = shared("models/stories260K")
    path = tmp_path / "story.txt"
    path.write_text("\n".join(f"Tom had a red kite. He was happy. Story {n} is about a kite." for n in range(120)))
    run = train({
        "task": "clm", "model": str(folder), "data": {"train": str(path), "max_length": 64}, "output": str(tmp_path / "run"),
        "train": {"epochs": 2, "batch_size": 8, "precision": "fp32"},
    })  # fmt: skip
    before, after = (point["validation_loss"] for point in (run.history[0], run.history[-1]))
    unigram = run.scores["test"]["baseline"]["unigram"]["loss"]
    assert after < before < unigram
    assert run.scores["test"]["metrics"]["bits_per_byte"] < 2


def test_mlm_settings_are_in_its_state():
    task = Task(TextColumns(("text",)), whole_word=True, mask_probability=0.2, next_sentence=True, seed=4)
    assert Task.from_state(json.loads(json.dumps(task.state()))) == task


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("xlnet", {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}, "bidirectional"),
        ("bart", {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
                  "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}, "only its decoder would be trained"),
    ],
)  # fmt: skip
def test_models_that_look_ahead_cannot_learn_to_foretell(tmp_path, tiny_gpt, kind, values, said):
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from tunewright.models.loading import load_pretrained
    from tunewright.pretrained.model_files import ModelFolder

    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=64, **values)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=said):
        load_pretrained(AutoModelForCausalLM, ModelFolder("it", tmp_path), seed=0, dtype=torch.float32)
    model, fresh = load_pretrained(AutoModelForCausalLM, ModelFolder("gpt", tiny_gpt), seed=0, dtype=torch.float32)
    assert not fresh and not model.training
