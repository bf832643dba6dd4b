"""Shared fixtures: a two-layer BERT with a small trained WordPiece tokenizer, and the real data beside the checkout."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import settings

# Tests ask no Hub and depend on nobody's cache: the default model is the packaged copy.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_CACHE", os.path.join(os.path.dirname(__file__), "no-such-cache"))

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SAMPLES = Path(str(files("tunewright") / "samples"))
DATA = Path(os.environ.get("TUNEWRIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def shared(path: str) -> Path:
    """A file or folder of the real data; skips the test where it is absent."""
    found = DATA / path
    if not found.exists():
        pytest.skip(f"no {found}: set TUNEWRIGHT_DATA to the folder with the real data")
    return found


def messages(limit: int | None = None) -> list[dict[str, str]]:
    lines = (SAMPLES / "customer_messages.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines[:limit]]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers, 4 heads, width 32, random weights, dropout 0.1, with a WordPiece tokenizer of 600 pieces."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

    def with_model(model: models.WordPiece) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    # The trainer numbers continuations differently in every run, unless they are handed in as special tokens.
    trained = with_model(models.WordPiece(unk_token="[UNK]"))
    texts = [row["text"] for row in messages()]
    normalized = [trained.normalizer.normalize_str(text) for text in texts]
    words = {word for text in normalized for word, _ in trained.pre_tokenizer.pre_tokenize_str(text)}
    continuations = sorted({f"##{letter}" for word in words for letter in word[1:]})
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=[*special, *continuations])
    trained.train_from_iterator(texts, trainer)
    tokenizer = with_model(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("tiny-bert")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved GPT-2 of 2 layers, width 32, random weights, that stands for a pretrained decoder. tiny_bert's tokenizer."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("tiny-gpt")
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=192, bos_token_id=2, eos_token_id=3
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def run_values(tiny_bert: Path, tmp_path: Path) -> dict:
    """Config values of a small run: 80 rows, 4 labels, 2 epochs, in a folder of its own."""
    labels = ("order_status", "return_item", "product_question", "payment_problem")
    rows = [row for row in messages() if row["label"] in labels][:80]
    write_jsonl(tmp_path / "data.jsonl", rows)
    return {
        "model": str(tiny_bert),
        "data": {"train": str(tmp_path / "data.jsonl"), "max_length": 48},
        "train": {"epochs": 2, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-3},
        "evaluate": {"baselines": False},
        "output": str(tmp_path / "run"),
    }
