"""What docs/how-to/use-a-model.md says about `transformers.pipeline`, for every task and every tokenizer: the same labels, scores, ids and texts.

Texts hold letters beyond ASCII and tokens that the user added; models are tiny and trained for one step. What a model gives follows from its
ids, so models are trained with two tokenizers only, and of all others the ids are compared that their saved folders give.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, pipeline

import tunewright as tw
from tests.conftest import messages, shared, write_jsonl
from tunewright.artifacts.model_folder import save_tokenizer
from tunewright.encoding.packing import Frame
from tunewright.generation.generate import Sampling
from tunewright.pretrained.model_files import tokenizer_source
from tunewright.reading.columns import TextColumns
from tunewright.records import Example
from tunewright.tasks import clm, mlm
from tunewright.tokenization.encoder import load_encoder
from tunewright.verification import verify

WORDS = ["[E1]", "quokka"]
TEXTS = ["Where is my parcel?", "  two blanks, [E1]Zoë[E1] and a quokka's 東京", "a\nb 🙂 quokkas"]
SMALL = ["bert-base-uncased", "minimind"]
MASKED = ["bert-base-uncased", "bert-base-cased", "roberta-base"]
LARGE = ["bert-base-cased", "gpt2", "llama3", "mistral-v0.1", "pythia", "qwen3", "roberta-base", "t5"]
WITHOUT_WORDS = ["bert-base-uncased", "mistral-v0.1", "t5"]
"""Tokenizers that begin texts each in another way; added words can be in the way of what is done about it."""


def trained(kind: str, name: str, folder: Path, words: list[str]) -> Path:
    rows: list[dict[str, Any]] = [dict(row) for row in messages(24)]
    for number, row in enumerate(rows):
        row["text"] += f" [E1] {TEXTS[number % 3]}"
        row["label"] = "ab"[number % 2]
    task: dict[str, Any] = {"name": kind}
    if kind == "ner":
        rows = [{"text": row["text"], "entities": [[0, 2, "A"]]} for row in rows]
    elif kind in ("mlm", "clm"):
        rows = [{"text": row["text"]} for row in rows]
    elif kind == "sft":
        rows = [{"prompt": row["text"], "completion": row["label"]} for row in rows]
        task["template"] = "plain"
    write_jsonl(folder / "data.jsonl", rows)
    shape = "scratch:gpt-tiny" if kind in ("clm", "sft") else "scratch:bert-tiny"
    model = {"name": shape, "tokenizer": str(shared(f"tokenizers/{name}")), "add_tokens": words}
    values = {
        "task": task, "model": model, "data": {"train": str(folder / "data.jsonl"), "max_length": 96},
        "train": {"max_steps": 1, "precision": "fp32", "batch_size": 8}, "evaluate": {"baselines": False},
        "output": str(folder / "run"),
    }  # fmt: skip
    return tw.train(values).folder


def opened(kind: str, run: Path) -> Any:
    return pipeline(kind, model=str(run / "model"), device="cpu", dtype="float32")  # type: ignore[call-overload]


def proven(run: Path) -> None:
    assert not [check for check in verify(run) if check.broken]


@pytest.mark.parametrize("name", SMALL)
def test_a_classifier_gives_the_same_labels_and_scores(name, tmp_path):
    run = trained("classification", name, tmp_path, WORDS)
    pipe = opened("text-classification", run)
    model = tw.load(run, device="cpu", precision="fp32")
    for text, ours, theirs in zip(TEXTS, model.predict(TEXTS), pipe(TEXTS, truncation=True), strict=True):
        assert theirs["label"] == ours.label and theirs["score"] == pytest.approx(ours.score, abs=1e-5), text
    proven(run)


def test_a_tagger_gives_the_same_tags(tmp_path):
    run = trained("ner", "bert-base-uncased", tmp_path, WORDS)
    pipe, model = opened("token-classification", run), tw.load(run, device="cpu", precision="fp32")
    for text in TEXTS:
        row = model.task.encode([Example(text)], model.encoder)[0]
        assert list(pipe.tokenizer(text)["input_ids"]) == row.input_ids.tolist()
    proven(run)


def test_a_masked_model_gives_the_same_words(tmp_path):
    run = trained("mlm", "bert-base-uncased", tmp_path, WORDS)
    pipe, model = opened("fill-mask", run), tw.load(run, device="cpu", precision="fp32")
    for text in TEXTS:
        typed = f"{text} {pipe.tokenizer.mask_token} quokka"
        best = model.predict([typed])[0].masks[0][0]
        theirs = pipe(typed, top_k=1)[0]
        assert (theirs["token"], theirs["score"]) == (best.token, pytest.approx(best.score, abs=1e-5))
    proven(run)


@pytest.mark.parametrize("words", [[], WORDS], ids=["plain", "words"])
def test_a_causal_model_goes_on_from_its_bos_token_and_the_prompt(words, tmp_path):
    """`tokenizer.bos_token + prompt`: the ids and the text of `predict`."""
    run = trained("clm", "minimind", tmp_path, words)
    pipe = opened("text-generation", run)
    model = tw.load(run, device="cpu", precision="fp32").writing(Sampling(temperature=0, max_new_tokens=8))
    start = pipe.tokenizer.bos_token
    for text in TEXTS:
        ids = [*Frame.of(model.encoder).before, *model.encoder.bare_ids([text]).ids.tolist()]
        ours = model.predict([text])[0]
        theirs = pipe(start + text, do_sample=False, max_new_tokens=8, return_full_text=False)[0]["generated_text"]
        assert list(pipe.tokenizer(start + text)["input_ids"]) == ids
        assert theirs.lstrip() == ours.text.lstrip(), "the pipeline decodes what is new alone"
    proven(run)


def saved_tokenizer(name: str, task: Any, words: list[str], folder: Path) -> tuple[Any, Any]:
    """(our encoder, the tokenizer that transformers loads from the folder of a run)."""
    source = replace(tokenizer_source(str(shared(f"tokenizers/{name}"))), added_tokens=tuple(words))
    encoder = load_encoder(source, max_length=96)
    save_tokenizer(folder / "tokenizer", task, encoder)
    return encoder, AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [*((name, WORDS) for name in ["bert-base-uncased", *LARGE]), *((name, []) for name in WITHOUT_WORDS)],
)
def test_every_saved_tokenizer_reads_its_bos_token_and_the_prompt_as_predict_does(name, words, tmp_path):
    """Or the end token, where there is no other; and it is what it was in training where we open it again."""
    encoder, saved = saved_tokenizer(name, clm.Task(TextColumns(("text",))), words, tmp_path)
    start = saved.bos_token or saved.eos_token or saved.sep_token
    if name == "mistral-v0.1" and words:
        start = ""  # it marks a text's first word only, and is saved as it is: it begins texts by itself
    again = load_encoder(tokenizer_source(str(tmp_path / "tokenizer")), max_length=96)
    assert Frame.of(again) == Frame.of(encoder)
    for text in TEXTS:
        bare = encoder.bare_ids([text]).ids.tolist()
        assert list(saved(start + text)["input_ids"]) == [*Frame.of(encoder).before, *bare]
        assert again.bare_ids([text]).ids.tolist() == bare


@pytest.mark.parametrize("name", MASKED)
def test_every_saved_tokenizer_reads_a_typed_mask_as_predict_does(name, tmp_path):
    encoder, saved = saved_tokenizer(name, mlm.Task(TextColumns(("text",))), WORDS, tmp_path)
    mask = saved.mask_token
    for text in (f"{text} {mask} quokka" for text in TEXTS):
        ids = encoder.with_control(mask).encode([text])[0].input_ids.tolist()
        assert list(saved(text)["input_ids"]) == ids and ids.count(saved.mask_token_id) == 1


def test_a_tokenizer_that_ends_every_text_is_no_fault_of_a_causal_model(tmp_path):
    """ByT5's is written in Python, and its files cannot say that it adds nothing: other programs encode otherwise, and that is said."""
    checks = list(verify(trained("clm", "byt5", tmp_path, [])))
    assert not any(check.broken for check in checks)
    assert "texts encoded differently" in next(check.note for check in checks if check.way == "pipeline")
