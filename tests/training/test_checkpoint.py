"""Checkpoints: bit for bit what was saved, whole or not at all, and the newest whole one when one is damaged."""

import json
import shutil

import pytest
import torch
from torch import nn

from tunewright.training import checkpoint as checkpoints
from tunewright.training.checkpoint import CheckpointDamaged, load_model, load_optimizer, newest, prune, save, verify
from tunewright.training.config import TrainConfig
from tunewright.training.optimizer import build_optimizer, parameter_groups

FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


class Tied(nn.Module):
    """An embedding whose weights are also the output's, a norm, a buffer, a scalar and something in half precision."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(11, 6)
        self.inner = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.output = nn.Linear(6, 11, bias=False)
        self.output.weight = self.embedding.weight
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.small = nn.Parameter(torch.randn(3).to(torch.bfloat16))
        self.register_buffer("positions", torch.arange(5))

    def forward(self, ids):
        return self.output(self.norm(self.inner(self.embedding(ids)))) * self.scale + self.small.float().sum()


def set_up(name="adamw", seed=0):
    model, config = Tied(seed), TrainConfig(optimizer=name, weight_decay=0.01)
    return model, build_optimizer(parameter_groups(model, ["inner.weight"], config, (1e-2, 3e-2)), config)


def learn(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        ids = torch.arange(8).add(step).remainder(11)
        nn.functional.cross_entropy(model(ids), ids.flip(0)).backward()
        optimizer.step()
        optimizer.zero_grad()


def bits(tensors):
    return {
        name: tensor.detach().clone().contiguous().view(-1).view(torch.uint8).tolist()
        for name, tensor in tensors.items()
    }


def saved(root, step=1, **state):
    model, optimizer = set_up()
    learn(model, optimizer, 1)
    return save(root, model, optimizer, {"step": step, **state})


def test_weights_come_back_bit_for_bit_and_stay_tied(tmp_path):
    model, optimizer = set_up()
    learn(model, optimizer, 2)
    with torch.no_grad():
        model.norm.bias[:3] = torch.tensor([float("nan"), -0.0, 1e-42])  # bits that a comparison of values would miss
    folder = save(tmp_path, model, optimizer, {"step": 2, "best_score": 0.1 + 0.2, "history": [{"loss": 1e-300}]})
    assert folder.name == "step-00000002" and sorted(path.name for path in folder.iterdir()) == FILES
    checkpoint = verify(folder)
    assert (checkpoint.step, checkpoint.state["best_score"], checkpoint.state["history"]) == (
        2,
        0.1 + 0.2,
        [{"loss": 1e-300}],
    )
    other = Tied(seed=1)
    places = {name: parameter.data_ptr() for name, parameter in other.named_parameters()}
    load_model(checkpoint, other)
    assert bits(other.state_dict()) == bits(model.state_dict())
    assert other.output.weight is other.embedding.weight
    assert {name: parameter.data_ptr() for name, parameter in other.named_parameters()} == places  # copied in place


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor", "rmsprop"])
def test_every_optimizer_goes_on_bit_identically(tmp_path, name):
    model, optimizer = set_up(name)
    learn(model, optimizer, 3)
    checkpoint = verify(save(tmp_path, model, optimizer, {"step": 3}))
    learn(model, optimizer, 2, start=3)

    resumed, its_optimizer = set_up(name, seed=9)
    load_model(checkpoint, resumed)
    load_optimizer(checkpoint, resumed, its_optimizer)
    learn(resumed, its_optimizer, 2, start=3)
    assert bits(resumed.state_dict()) == bits(model.state_dict())
    for mine, its in zip(model.parameters(), resumed.parameters(), strict=True):
        assert bits(optimizer.state[mine]) == bits(its_optimizer.state[its])

    forgetful, fresh = set_up(name, seed=9)
    load_model(checkpoint, forgetful)
    learn(forgetful, fresh, 2, start=3)
    assert bits(forgetful.state_dict()) != bits(model.state_dict())  # the optimizer's state does decide something


def test_a_checkpoint_before_the_first_step(tmp_path):
    model, optimizer = set_up()
    checkpoint = verify(save(tmp_path, model, optimizer, {"step": 0}))
    load_optimizer(checkpoint, model, optimizer)
    learn(model, optimizer, 1)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", [flip, cut, empty, lambda path: path.unlink()], ids=["flip", "cut", "empty", "delete"]
)
def test_damage_to_any_file_is_noticed_and_the_one_before_is_taken(tmp_path, name, damage):
    saved(tmp_path, 5)
    damage(saved(tmp_path, 10) / name)
    with pytest.raises(CheckpointDamaged):
        verify(tmp_path / "step-00000010")
    said = []
    assert newest(tmp_path, said.append).step == 5
    assert len(said) == 1 and said[0].startswith("Checkpoint step-00000010 is damaged (")
    assert (name if damage is not flip and name != "manifest.json" else "") in said[0]


def test_every_single_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    manifest = saved(tmp_path, 10) / "manifest.json"
    good = manifest.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 4
        manifest.write_bytes(bad)
        try:
            verify(manifest.parent)
        except CheckpointDamaged:
            continue
        assert json.loads(bad)["files"] == json.loads(good)["files"]  # white space


def test_a_checkpoint_stands_at_its_step(tmp_path):
    saved(tmp_path, 1)
    shutil.copytree(checkpoints.folder_of(tmp_path, 1), checkpoints.folder_of(tmp_path, 2))
    with pytest.raises(CheckpointDamaged, match="of step 1"):
        verify(checkpoints.folder_of(tmp_path, 2))


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "7", '{"schema": 1}', '{"schema": 1, "files": []}', '{"schema": 1, "files": {"state.json": 5}}'],
)
def test_a_manifest_of_another_shape(tmp_path, text):
    (saved(tmp_path) / "manifest.json").write_text(text)
    with pytest.raises(CheckpointDamaged, match=r"manifest.json is broken"):
        verify(tmp_path / "step-00000001")


def test_another_schema_is_named(tmp_path):
    manifest = saved(tmp_path) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": 2}))
    with pytest.raises(CheckpointDamaged, match=r"another version \(schema 2\)"):
        verify(manifest.parent)


def test_all_damaged_is_none_and_all_are_named(tmp_path):
    for step in (1, 2):
        flip(saved(tmp_path, step) / "model.safetensors")
    said = []
    assert newest(tmp_path, said.append) is None and len(said) == 2
    assert newest(tmp_path / "nowhere", said.append) is None and len(said) == 2


def test_the_newest_is_by_number(tmp_path):
    for step in (9, 10, 100, 99_999_999):
        saved(tmp_path, step)
    assert newest(tmp_path, print).step == 99_999_999


def test_weights_of_another_model_are_refused(tmp_path):
    checkpoint = verify(saved(tmp_path))
    with pytest.raises(CheckpointDamaged, match="those of another model"):
        load_model(checkpoint, nn.Linear(2, 2))
    other = Tied()
    other.inner = nn.Linear(6, 6)
    other.inner.bias = nn.Parameter(torch.zeros(1, 6))  # a copy would broadcast
    with pytest.raises(CheckpointDamaged, match="those of another model"):
        load_model(checkpoint, other)


def test_an_interrupted_write_leaves_no_checkpoint_and_is_swept_up(tmp_path, monkeypatch):
    saved(tmp_path, 1)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    # a kill that runs no handler leaves the folder it wrote into
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".tmp-step-00000002-abcd")
    assert newest(tmp_path, print).step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_saving_a_step_again_takes_the_place_of_the_old(tmp_path):
    saved(tmp_path, 3, note="old")
    saved(tmp_path, 3, note="new")
    assert verify(tmp_path / "step-00000003").state["note"] == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, None, [4, 5]),
        (2, None, [4, 5]),
        (3, None, [3, 4, 5]),
        (2, 1, [1, 4, 5]),
        (2, 5, [4, 5]),
        (9, None, [1, 2, 3, 4, 5]),
    ],
)
def test_pruning_keeps_the_newest_two_at_least_and_the_best(tmp_path, keep, best, left):
    for step in range(1, 6):
        saved(tmp_path, step)
    prune(tmp_path, keep=keep, step=5, best_step=best)
    assert sorted(int(path.name[5:]) for path in tmp_path.iterdir()) == left


def test_damaged_newer_checkpoints_crowd_out_no_whole_one(tmp_path):
    """Training went on from step 2, as 4 and 5 were damaged: what it saves from then on stays."""
    for step in (2, 4, 5):
        saved(tmp_path, step)
    saved(tmp_path, 3)
    prune(tmp_path, keep=2, step=3, best_step=None)
    assert sorted(int(path.name[5:]) for path in tmp_path.iterdir()) == [2, 3]
