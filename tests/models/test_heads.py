"""The layer that gives a sequence model's outputs: found, scaled in place, and computed in full precision."""

import torch
from torch import nn

from tunewright.models.heads import FullPrecisionLinear, output_layer, scale_outputs


def test_the_output_layer_is_the_last_one_of_that_width_and_of_an_adapted_model_the_one_that_learns():
    model = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 3), nn.Linear(4, 2), nn.Linear(2, 4)])
    assert output_layer(model, 2) is model[2] and output_layer(model, 7) is None
    model[2].requires_grad_(False)
    assert output_layer(model, 2) is model[0]


def test_scaled_outputs_are_the_old_ones_times_the_factors_plus_the_offsets():
    layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    before = layer(x).detach()
    scale_outputs(layer, torch.tensor([2.0, 10.0]), torch.tensor([0.5, -1.0]))
    assert torch.allclose(layer(x), before * torch.tensor([2.0, 10.0]) + torch.tensor([0.5, -1.0]))
    bare = nn.Linear(3, 1, bias=False)
    before = bare(x).detach()
    scale_outputs(bare, torch.tensor([4.0]), torch.tensor([9.0]))
    assert torch.allclose(bare(x), before * 4)


def test_full_precision_holds_under_autocast():
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 1000.0)
    nn.init.constant_(layer.bias, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(layer(torch.ones(1, 1))) != 1001.0
        layer.__class__ = FullPrecisionLinear
        assert float(layer(torch.ones(1, 1))) == 1001.0
