"""Weights are in memory once: what was copied from a mapped file is given back, and reads the same afterwards."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from tunewright.models.loading import _lookup_tables, for_reading, load_pretrained
from tunewright.models.mapped_memory import give_back, mapped_files
from tunewright.pretrained.model_files import locate_model

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells what is mapped")


def resident_file_pages() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssFile"))


def test_pages_are_given_back_and_come_back(tmp_path):
    save_file({"weight": torch.arange(2**22, dtype=torch.float32)}, tmp_path / "m.safetensors")
    weight = load_file(tmp_path / "m.safetensors")["weight"]
    total = float(weight.double().sum())
    before = resident_file_pages()
    give_back(weight, mapped_files("m.safetensors"))
    assert before - resident_file_pages() > 12_000  # kilobytes of 16,384
    assert float(weight.double().sum()) == total


def test_memory_that_is_no_files_is_left_alone():
    weight = torch.arange(2**20, dtype=torch.float32)
    give_back(weight, mapped_files(".safetensors"))
    assert int(weight[-1]) == 2**20 - 1


def test_only_tables_that_nothing_multiplies_stay_in_the_file(tiny_bert, tiny_gpt):
    reads, writes = AutoModel.from_pretrained(tiny_bert), AutoModelForCausalLM.from_pretrained(tiny_gpt)
    assert id(reads.get_input_embeddings().weight) in _lookup_tables(reads)
    assert id(writes.get_input_embeddings().weight) not in _lookup_tables(writes)  # tied to its output
    assert id(writes.transformer.wpe.weight) in _lookup_tables(writes)


def test_a_model_that_is_read_gives_the_bits_of_one_that_learns(tiny_bert):
    ids = torch.tensor([[2, 40, 50, 3]])
    logits = []
    for _ in range(2):
        model, _ = load_pretrained(AutoModelForMaskedLM, locate_model(str(tiny_bert)), seed=0, dtype=torch.float32)
        logits.append(model.eval()(ids).logits)
        with for_reading():
            model, _ = load_pretrained(AutoModelForMaskedLM, locate_model(str(tiny_bert)), seed=0, dtype=torch.float32)
        logits.append(model.eval()(ids).logits)
    assert all(torch.equal(logits[0], other) for other in logits)
