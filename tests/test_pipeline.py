"""What the README says about `transformers.pipeline`, for every task and every tokenizer: the same labels, scores, ids and texts.

Texts hold letters beyond ASCII and tokens that the user added; models are tiny and trained for one step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

import tunewright as tw
from tunewright.models.generate import Sampling
from tunewright.records import Example
from tunewright.tokens.pack import Frame
from tunewright.verify import verify

from .conftest import messages, shared, write_jsonl

WORDS = ["[E1]", "quokka"]
TEXTS = ["Where is my parcel?", "  two blanks, [E1]Zoë[E1] and a quokka's 東京", "a\nb 🙂 quokkas"]
SMALL = ["bert-base-uncased", "minimind"]
MASKED = ["bert-base-uncased", "bert-base-cased", "roberta-base"]
LARGE = ["bert-base-cased", "byt5", "gpt2", "llama3", "mistral-v0.1", "pythia", "qwen3", "roberta-base", "t5"]


def each(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=[] if name in SMALL else pytest.mark.slow) for name in names]


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


@pytest.mark.parametrize("name", each([*SMALL, *LARGE]))
def test_a_classifier_gives_the_same_labels_and_scores(name, tmp_path):
    run = trained("classification", name, tmp_path, WORDS)
    pipe = opened("text-classification", run)
    model = tw.load(run, device="cpu", precision="fp32")
    for text, ours, theirs in zip(TEXTS, model.predict(TEXTS), pipe(TEXTS, truncation=True), strict=True):
        assert theirs["label"] == ours.label and theirs["score"] == pytest.approx(ours.score, abs=1e-5), text
    proven(run)


@pytest.mark.parametrize("name", each([*SMALL, *(name for name in LARGE if name != "byt5")]))
def test_a_tagger_gives_the_same_tags(name, tmp_path):
    run = trained("ner", name, tmp_path, WORDS)
    pipe, model = opened("token-classification", run), tw.load(run, device="cpu", precision="fp32")
    for text in TEXTS:
        row = model.task.encode([Example(text)], model.encoder)[0]
        assert list(pipe.tokenizer(text)["input_ids"]) == row.input_ids.tolist()
    proven(run)


@pytest.mark.parametrize("name", each(MASKED))
def test_a_masked_model_gives_the_same_words(name, tmp_path):
    run = trained("mlm", name, tmp_path, WORDS)
    pipe, model = opened("fill-mask", run), tw.load(run, device="cpu", precision="fp32")
    for text in TEXTS:
        typed = f"{text} {pipe.tokenizer.mask_token} quokka"
        best = model.predict([typed])[0].masks[0][0]
        theirs = pipe(typed, top_k=1)[0]
        assert (theirs["token"], theirs["score"]) == (best.token, pytest.approx(best.score, abs=1e-5))
    proven(run)


@pytest.mark.parametrize("words", [pytest.param([], marks=pytest.mark.slow), WORDS], ids=["plain", "words"])
@pytest.mark.parametrize("name", each([*SMALL, *(name for name in LARGE if name != "byt5")]))
def test_a_causal_model_goes_on_from_its_bos_token_and_the_prompt(name, words, tmp_path):
    """`tokenizer.bos_token + prompt`, or the end token where there is no other: the ids and the text of `predict`."""
    run = trained("clm", name, tmp_path, words)
    pipe = opened("text-generation", run)
    model = tw.load(run, device="cpu", precision="fp32").writing(Sampling(temperature=0, max_new_tokens=8))
    start = pipe.tokenizer.bos_token or pipe.tokenizer.eos_token
    if name == "mistral-v0.1" and words:
        start = ""  # it marks a text's first word only, and is saved as it is: it begins texts by itself
    for text in TEXTS:
        ids = [*Frame.of(model.encoder).before, *model.encoder.bare_ids([text]).ids.tolist()]
        ours = model.predict([text])[0]
        theirs = pipe(start + text, do_sample=False, max_new_tokens=8, return_full_text=False)[0]["generated_text"]
        assert list(pipe.tokenizer(start + text)["input_ids"]) == ids
        assert theirs.removeprefix("##").lstrip() == ours.text.lstrip(), "the pipeline decodes what is new alone"
    proven(run)
