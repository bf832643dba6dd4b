"""Which precision `auto` means: what the processor says of itself, never how fast it seemed."""

import pytest
import torch

from tunewright.models.device import resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("says", "precision"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R) Platinum 8481C"}, "bf16"),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R) Processor"}, "fp32"),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "AMD EPYC 9654"}, "bf16"),
        ({"amx_bf16": False, "avx512_bf16": False, "cpu_name": "AMD EPYC 7763"}, "fp32"),
        ({"architecture": "aarch64"}, "fp32"),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_it_fast(monkeypatch, says, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: says, raising=False)
    assert resolve_precision("auto", CPU) == precision
    assert resolve_precision("fp64", CPU) == "fp64"


@pytest.mark.parametrize("has_tiles", [True, False])
def test_an_older_torch_is_asked_for_tiles(monkeypatch, has_tiles):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles, raising=False)
    assert resolve_precision("auto", CPU) == ("bf16" if has_tiles else "fp32")
