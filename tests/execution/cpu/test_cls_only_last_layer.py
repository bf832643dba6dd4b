"""The last layer at the first position alone: the same logits, the same gradient, whatever stands beside a row."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tunewright.batching.row_context import RowContext, row_context
from tunewright.execution.cpu import attention
from tunewright.execution.cpu.cls_only_last_layer import install_cls_only_last_layer
from tunewright.execution.cpu.dropout import FastRowDropout
from tunewright.execution.row_keyed import install_row_keyed_dropout_and_attention

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
    "max_position_embeddings": 40,
}  # fmt: skip
LENGTHS = np.array([9, 4, 7])


def build(model_class, config_class, *, first, dropout=0.0, **more):
    attention.register()
    torch.manual_seed(0)
    config = config_class(**SIZES, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, **more)
    model = model_class(config).double()
    assert install_row_keyed_dropout_and_attention(model, attention=attention.NAME, dropout=FastRowDropout) is None
    if first:
        assert install_cls_only_last_layer(model)
    return model


def inputs(rows=slice(None), width=9):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (3, 9), generator=generator)[rows, :width]
    lengths = LENGTHS[rows]
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    context = RowContext(seed=3, epoch=1, row_ids=np.arange(3)[rows] + 70, lengths=lengths, width=width)
    return {"input_ids": ids, "attention_mask": mask}, context


def gradient_of(model, rows=slice(None), width=9):
    model.train()
    batch, context = inputs(rows, width)
    with row_context(context):
        model(**batch).logits.pow(2).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


KINDS = [
    (BertForSequenceClassification, BertConfig),
    (RobertaForSequenceClassification, RobertaConfig),
    (ElectraForSequenceClassification, ElectraConfig),
]


@pytest.mark.parametrize(("model_class", "config_class"), KINDS)
def test_logits_and_gradient_are_those_of_the_whole_layer(model_class, config_class):
    whole, first = (build(model_class, config_class, first=way) for way in (False, True))
    batch, context = inputs()
    with row_context(context), torch.no_grad():
        torch.testing.assert_close(first.eval()(**batch).logits, whole.eval()(**batch).logits, rtol=0, atol=1e-12)
    expected = gradient_of(whole)
    for name, found in gradient_of(first).items():
        torch.testing.assert_close(found, expected[name], rtol=0, atol=1e-12, msg=name)


def test_dropout_masks_belong_to_rows_here_too():
    """The gradient of three rows together is the sum of theirs alone, at any width."""
    together = gradient_of(build(*KINDS[0], first=True, dropout=0.3))
    alone = build(*KINDS[0], first=True, dropout=0.3)
    for row, length in enumerate(LENGTHS):
        parts = gradient_of(alone, slice(row, row + 1), int(length))  # gradients add up in the model
    for name, found in parts.items():
        torch.testing.assert_close(found, together[name], rtol=0, atol=1e-10, msg=name)


def test_dropped_probabilities_weigh_values_and_their_bias():
    """Of what attention keeps, the sum over positions of p (V x + b), head by head."""
    model = build(*KINDS[0], first=True, dropout=0.3).train()
    layer = model.bert.encoder.layer[-1]
    attention = layer.attention.self
    torch.nn.init.normal_(attention.value.bias)
    seen = {}
    layer.register_forward_pre_hook(lambda module, args: seen.update(states=args[0]))
    attention.dropout.register_forward_hook(lambda module, args, kept: seen.update(kept=kept))
    layer.attention.output.register_forward_pre_hook(lambda module, args: seen.update(mixed=args[0]))
    batch, context = inputs()
    with row_context(context), torch.no_grad():
        model(**batch)
        values_BLND = attention.value(seen["states"]).unflatten(-1, (4, 4))
    expected = torch.einsum("bln,blnd->bnd", seen["kept"], values_BLND).flatten(1)
    assert not torch.allclose(seen["kept"].sum(1), torch.ones(3, 4, dtype=torch.float64))
    torch.testing.assert_close(seen["mixed"][:, 0], expected, rtol=0, atol=1e-12)


class OtherLinear(nn.Linear):
    """Stands for an adapter's or a quantized layer: what it computes is not known from its weight."""


def test_where_keys_and_values_are_not_plain_they_are_computed_at_every_position():
    plain, other = (build(*KINDS[0], first=True) for _ in range(2))
    attention = other.bert.encoder.layer[-1].attention.self
    called = []
    for linear in (attention.key, attention.value):
        linear.__class__ = OtherLinear
        linear.register_forward_hook(lambda module, args, out: called.append(out.shape))
    expected = gradient_of(plain)
    for name, found in gradient_of(other).items():
        torch.testing.assert_close(found, expected[name], rtol=0, atol=1e-12, msg=name)
    assert called == [(3, 9, 16)] * 2


def test_the_attention_dropout_of_the_first_query_drops():
    model = build(*KINDS[0], first=True, dropout=0.3)
    layer = model.bert.encoder.layer[-1]
    seen = []
    layer.attention.output.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    for training in (True, False):
        batch, context = inputs()
        with row_context(context), torch.no_grad():
            model.train(training)(**batch)
    assert seen[0].shape == (3, 1, 16) and not torch.allclose(seen[0], seen[1])


def test_models_whose_head_reads_more_stay_whole():
    for model in (
        build(BertForTokenClassification, BertConfig, first=False),
        DistilBertForSequenceClassification(
            DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=4, hidden_dim=32)
        ),
    ):
        install_row_keyed_dropout_and_attention(model, attention=attention.NAME, dropout=FastRowDropout)
        assert not install_cls_only_last_layer(model)
        assert "forward" not in vars(
            model.base_model.encoder.layer[-1] if hasattr(model.base_model, "encoder") else model
        )


def test_without_rows_in_flight_the_layer_is_whole():
    model = build(*KINDS[0], first=True).eval()
    batch, _ = inputs()
    with torch.no_grad():
        hidden = model(**batch, output_hidden_states=True).hidden_states[-1]
    assert hidden.shape == (3, 9, 16)
