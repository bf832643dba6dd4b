"""Row-keyed dropout: right probability, independent rows and sites, the same whatever stands beside a row."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest
import torch
from packaging.version import Version
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
)

from tunewright.batching.row_context import RowContext, row_context
from tunewright.execution.cpu.dropout import FastRowDropout
from tunewright.execution.row_dropout import (
    RowDropout,
    drawn,
    drop_threshold,
    keep_scale,
    random_bits,
    switch_off_dropout,
)
from tunewright.execution.row_keyed import draws_randomly


def rows(
    ids: list[int], lengths: list[int], *, seed: int = 0, epoch: int = 0, width: int | None = None, left: bool = False
) -> RowContext:
    return RowContext(seed, epoch, np.array(ids), np.array(lengths), width or max(lengths), left)


def drop(x: torch.Tensor, among: RowContext, *, p: float = 0.3, site: int = 5) -> torch.Tensor:
    """In every execution the same: the fast one and the plain one are compared at each call."""
    with row_context(among):
        plain, fast = (kind(p, site).train()(x) for kind in (RowDropout, FastRowDropout))
    assert torch.equal(plain, fast)
    return plain


def test_threshold_and_scale_of_a_tenth():
    assert drop_threshold(0.1) == 6554  # round(6553.6)
    assert keep_scale(0.1) == 65536 / 58982
    assert keep_scale(0.0) == 1.0
    assert keep_scale(1.0) == 0.0


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_mean_and_variance_are_those_of_a_bernoulli(p):
    among = rows([1, 2, 3, 4], [1000] * 4)
    keep = torch.stack([drawn(among, (1_000, 256), row=row, site=1, p=p) for row in range(4)]).float()
    count = keep.numel()
    standard_error = np.sqrt(p * (1 - p) / count)
    assert abs(float(keep.mean()) - (1 - p)) < 4 * standard_error + 2**-16
    columns = keep.reshape(-1, 256).sum(0)
    assert abs(float(columns.var()) / (p * (1 - p) * count / 256) - 1) < 0.4


def test_bits_of_rows_sites_epochs_seeds_and_streams_are_independent():
    def bits(seed=0, epoch=0, row_id=7, site=3, stream=0):
        among = rows([row_id], [1], seed=seed, epoch=epoch)
        return random_bits(among, row=0, site=site, count=40_000, stream=stream)

    base = bits().astype(np.float64)
    for other in (bits(seed=1), bits(epoch=1), bits(row_id=8), bits(site=4), bits(stream=1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / np.sqrt(40_000)
    assert (bits() == bits()).all()


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(("width", "num_before"), [(4, 0), (6, 0), (9, 0), (4, 3), (6, 3)])
def test_attention_is_dropped_the_same_whatever_the_padding(width, num_before, left):
    """(rows, heads, queries, keys): 4 heads, also where the rows are as wide as heads are many. Keys of virtual tokens stand first."""
    found = drop(torch.ones(2, 4, width, num_before + width), rows([4, 9], [4, 2], width=width, left=left))
    if left:  # move each row's own queries and keys to the front
        for row, length in enumerate([4, 2]):
            found[row] = found[row].roll(length - width, 1)
            found[row, ..., num_before:] = found[row, ..., num_before:].roll(length - width, 2)
    for index, (row_id, length) in enumerate([(4, 4), (9, 2)]):
        alone = drop(torch.ones(1, 4, length, num_before + length), rows([row_id], [length]))
        assert torch.equal(found[index, :, :length, : num_before + length], alone[0])
        assert 0.5 < float((alone != 0).float().mean()) < 0.95


@pytest.mark.parametrize("name", ["DebertaV2", "MPNet", "GPTNeo"])
def test_models_with_an_attention_of_their_own_do_not_depend_on_the_cut(name):
    import transformers

    from tunewright.execution.row_keyed import install_row_keyed_dropout_and_attention

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    dropped = {"attention_dropout": 0.2, "attention_probs_dropout_prob": 0.2}
    if name == "GPTNeo":
        sizes |= {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes, **dropped)).train()
    assert not install_row_keyed_dropout_and_attention(model)
    ids = torch.randint(5, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with torch.no_grad(), row_context(rows([3, 8], [7, 4])):
        together = model(input_ids=ids, attention_mask=mask).last_hidden_state
    with torch.no_grad(), row_context(rows([8], [4])):
        alone = model(input_ids=ids[1:, :4], attention_mask=mask[1:, :4]).last_hidden_state
    torch.testing.assert_close(together[1, :4], alone[0], rtol=1e-4, atol=1e-5)


def test_a_row_is_dropped_the_same_alone_and_in_company():
    x = torch.ones(3, 6, 8)
    together = drop(x, rows([4, 9, 2], [6, 3, 5], width=6))
    for index, (row_id, length) in enumerate([(4, 6), (9, 3), (2, 5)]):
        alone = drop(torch.ones(1, length, 8), rows([row_id], [length]))
        assert torch.equal(together[index, :length], alone[0])


def test_left_padding_drops_the_same_real_tokens():
    right = drop(torch.ones(1, 6, 8), rows([3], [4], width=6))
    left = drop(torch.ones(1, 6, 8), rows([3], [4], width=6, left=True))
    assert torch.equal(right[0, :4], left[0, 2:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_kept_elements_are_scaled_and_gradients_follow_the_same_mask(dtype):
    x = torch.full((2, 5, 16), -2.0, dtype=dtype, requires_grad=True)
    y = drop(x, rows([1, 2], [5, 5]), p=0.5)
    y.sum().backward()
    assert y.dtype == dtype
    assert set(y.unique().tolist()) == {0.0, -4.0}
    assert torch.equal(x.grad, y.detach() / -2)
    assert torch.equal(y == 0, drop(torch.ones(2, 5, 16), rows([1, 2], [5, 5]), p=0.5) == 0)


def test_outside_a_micro_batch_and_in_evaluation_it_is_pytorchs_module():
    module = RowDropout(0.5, 0)
    assert torch.equal(module.eval()(torch.ones(3, 3)), torch.ones(3, 3))
    torch.manual_seed(0)
    ours = module.train()(torch.ones(100))
    torch.manual_seed(0)
    assert torch.equal(ours, torch.nn.Dropout(0.5)(torch.ones(100)))


SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DROPPING = {
    "bert": BertConfig(**SIZES, intermediate_size=24, is_decoder=True),
    "gpt2": GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2),
    "gpt_neox": GPTNeoXConfig(**SIZES, intermediate_size=24, hidden_dropout=0.1, attention_dropout=0.1),
    "llama": LlamaConfig(**SIZES, intermediate_size=24, attention_dropout=0.1),
    "opt, which calls torch's dropout by itself": OPTConfig(
        vocab_size=40, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPING)
def test_switched_off_nothing_is_drawn_and_the_config_stays(name):
    if name.startswith("opt") and Version(version("transformers")) < Version("5.23"):
        pytest.skip("draws a number for each layer, which decides nothing where layers are not left out")
    config = DROPPING[name]
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    said = model.config.to_dict()
    assert draws_randomly(model)
    switch_off_dropout(model)
    assert not draws_randomly(model)
    assert model.config.to_dict() == said
