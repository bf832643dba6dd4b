"""The preference losses: numbers worked by hand, and TRL's own trainers on the same rows, loss and gradient."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from tunewright.losses.dpo import dpo_rows, ipo_rows
from tunewright.losses.kto import kto_rows, reference_point
from tunewright.losses.objective import Objective
from tunewright.losses.orpo import odds_ratio_rows
from tunewright.losses.reward import reward_rows
from tunewright.losses.simpo import simpo_rows


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_by_hand():
    two = numbers(2.0)
    assert reward_rows(two, numbers(0.0)).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert dpo_rows(two, numbers(-1.0), beta=0.5).item() == pytest.approx(math.log(1 + math.exp(-1.5)))
    smoothed = 0.9 * math.log(1 + math.exp(-1.5)) + 0.1 * math.log(1 + math.exp(1.5))
    assert dpo_rows(two, numbers(-1.0), beta=0.5, label_smoothing=0.1).item() == pytest.approx(smoothed)
    assert ipo_rows(two, numbers(-1.0), beta=0.1).item() == pytest.approx((3 - 5) ** 2)
    assert simpo_rows(numbers(-1.0), numbers(-2.0), beta=2.0, margin=0.5).item() == pytest.approx(
        math.log(1 + math.exp(-1.5))
    )
    odds = odds_ratio_rows(numbers(math.log(0.5)), numbers(math.log(0.2)))  # odds 1 and 1/4: σ(log 4) = 4/5
    assert odds.item() == pytest.approx(-math.log(4 / 5))
    good, bad = kto_rows(numbers(2.0, 2.0), torch.tensor([True, False]), kl=0.5, beta=1.0, undesirable_weight=3.0)
    assert good.item() == pytest.approx(1 / (1 + math.exp(1.5)))
    assert bad.item() == pytest.approx(3 / (1 + math.exp(-1.5)))
    assert reference_point(-3.0, 2) == 0.0 and reference_point(3.0, 2) == 1.5


@pytest.mark.parametrize(("chosen", "rejected"), [(-1e-12, -1.0), (-1.0, -1e-12), (-200.0, -1.0), (0.0, -1.0)])
def test_odds_at_the_ends_have_a_finite_gradient(chosen, rejected):
    sides = [numbers(value).requires_grad_() for value in (chosen, rejected)]
    loss = odds_ratio_rows(*sides).sum()
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(side.grad).all() for side in sides)


def test_means_are_taken_where_the_loss_is_length_normalized():
    sums, counts, good = torch.tensor([[-6.0, -4.0]]), torch.tensor([[6.0, 2.0]]), torch.tensor([[True, False]])
    means = {"simpo": (-1.0, -2.0), "orpo": (-1.0, -2.0), "ipo": (-1.0, -2.0), "dpo": (-6.0, -4.0)}
    for loss, expected in means.items():
        objective = Objective.of(loss, beta=1.0)
        assert objective.rewards(sums, counts, torch.zeros(1, 2)).tolist() == [list(expected)], loss
        assert objective.compares_means == (loss != "dpo")
    assert Objective.of("kto", beta=1.0).rows(sums, counts, torch.zeros(1, 2), good).shape == (1,)


# TRL as an oracle. Three pairs of uneven lengths over a vocabulary of 64, in one batch.

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
CHOSEN = [[20, 21, 22, 2], [23, 24, 25, 26, 27, 2], [28, 2]]
REJECTED = [[30, 31, 2], [32, 33, 34, 2], [35, 36, 37, 38, 39, 2]]


def llama(seed: int, kind: str = "lm"):
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, max_position_embeddings=64, num_labels=1, initializer_range=0.4,
    )  # fmt: skip
    return (LlamaForCausalLM if kind == "lm" else LlamaForSequenceClassification)(config)


class Split:
    """As much of a `SplitStore` as a task asks of one, in memory."""

    name = "train"

    def __init__(self, rows, good) -> None:
        import numpy as np

        ids, second, learned = zip(*rows, strict=True)
        self._ids = [np.array(one, np.int32) for one in ids]
        self._columns = {"second": np.array(second), "good": np.array(good)}
        self._learned = [np.array(one) for one in learned]
        self.lengths = np.array([len(one) for one in ids])
        self.keys, self.weights, self.row_ids = np.arange(len(ids)), np.ones(len(ids), np.float32), np.arange(len(ids))

    def __len__(self):
        return len(self._ids)

    def input_ids(self, position):
        return self._ids[position]

    def array(self, name):
        return self._columns[name]

    def lists(self, name, positions):
        return [self._learned[int(position)] for position in positions]


def paired_split():
    rows = []
    for prompt, chosen, rejected in zip(PROMPTS, CHOSEN, REJECTED, strict=True):
        second = len(prompt) + len(chosen)
        learned = [len(prompt), second, second + len(prompt), second + len(prompt) + len(rejected)]
        rows.append((prompt + chosen + prompt + rejected, second, learned))
    return Split(rows, [1] * len(rows))


def single_split(answers, good):
    rows = [(p + a, len(p) + len(a), [len(p), len(p) + len(a)]) for p, a in zip(PROMPTS, answers, strict=True)]
    return Split(rows, good)


def ours(objective: Objective | None, split, model, reference=None, *, budget: int = 10**6):
    """(loss, gradient) of one step over all rows, as the engine makes it."""
    import numpy as np

    from tunewright.chat.conversations import Dialogues
    from tunewright.chat.preference_columns import Preferences
    from tunewright.execution.base import Execution
    from tunewright.tasks import preference, reward, sft
    from tunewright.training.engine import accumulate_gradient
    from tunewright.training.reference import reference_of

    encoder = SimpleNamespace(pad_token_id=0, padding_side="right", max_length=64)
    paired = split.array("second")[0] < split.lengths[0]
    columns = (
        Preferences("pairs", "prompt", "chosen", "rejected")
        if paired
        else Preferences("unpaired", "prompt", label="label")
    )
    chat = sft.Task(Dialogues("pair", "prompt", "chosen"))
    task = reward.Task(columns, chat) if objective is None else preference.Task(columns, chat, objective=objective)
    execution = Execution(token_budget=budget)
    if reference is not None:
        task = task.with_reference_log_probs(reference_of(task, reference, split, encoder, execution))
    positions = np.arange(len(split))
    done = accumulate_gradient(
        model.train(), task, split, encoder, positions, task.weights(split),
        seed=0, epoch=0, step=0, execution=execution,
    )  # fmt: skip
    return done.loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def theirs(trainer, batch, model):
    """TRL's loss and gradient on one batch of its own collator."""
    model.zero_grad()
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    return float(loss), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(one, other):
    assert one[0] == pytest.approx(other[0], abs=1e-5)
    assert set(one[1]) == set(other[1])
    for name, gradient in one[1].items():
        assert torch.allclose(gradient, other[1][name], atol=1e-5, rtol=1e-4), name


@pytest.fixture(scope="module")
def trl():
    return pytest.importorskip("trl", reason="TRL is the oracle: pip install 'tunewright[dev]'")


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, 64)}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )


def trainer_of(cls, config_cls, tokenizer, model, reference, rows, tmp_path, **settings):
    """A trainer whose rows are tokenized already."""
    from datasets import Dataset

    class Oracle(cls):
        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    config = config_cls(
        output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, report_to=[], use_cpu=True, disable_tqdm=True,
        per_device_train_batch_size=len(rows), **settings,
    )  # fmt: skip
    extra = {} if reference is None else {"ref_model": reference}
    return Oracle(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, **extra)


PAIR_ROWS = [
    {"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in zip(PROMPTS, CHOSEN, REJECTED, strict=True)
]


@pytest.mark.parametrize("budget", [10**6, 1])
@pytest.mark.parametrize(
    ("objective", "kind"),
    [
        (Objective.of("dpo"), "sigmoid"),
        (Objective.of("dpo", length_normalized=True), "sigmoid_norm"),
        (Objective.of("ipo"), "ipo"),
    ],
    ids=["dpo", "dpo-normalized", "ipo"],
)
def test_dpo_and_ipo_are_trls(trl, tokenizer, tmp_path, objective, kind, budget):
    settings = {"loss_type": kind, "beta": objective.beta}
    trainer = trainer_of(trl.DPOTrainer, trl.DPOConfig, tokenizer, llama(0), llama(1), PAIR_ROWS, tmp_path, **settings)
    expected = theirs(trainer, trainer.data_collator(PAIR_ROWS), trainer.model)
    assert_same(ours(objective, paired_split(), llama(0), llama(1), budget=budget), expected)


@pytest.mark.parametrize("budget", [10**6, 1])
def test_kto_is_trls_with_the_step_as_one_batch(trl, tokenizer, tmp_path, budget):
    answers, good = [CHOSEN[0], REJECTED[1], CHOSEN[2]], [True, False, True]
    rows = [
        {"prompt_ids": p, "completion_ids": a, "KL_completion_ids": answers[n - 1], "label": yes}
        for n, (p, a, yes) in enumerate(zip(PROMPTS, answers, good, strict=True))
    ]
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.8}
    policy = llama(0)
    trainer = trainer_of(
        trl.KTOTrainer, trl.KTOConfig, tokenizer, policy, llama(1), rows, tmp_path, beta=0.1,
        train_sampling_strategy="sequential", **weights,
    )  # fmt: skip
    expected = theirs(trainer, trainer.data_collator(rows), trainer.model)
    kl = trainer._metrics["train"]["kl"][-1]
    assert kl > 0.1, "the reference point takes part"
    assert_same(
        ours(Objective.of("kto", **weights), single_split(answers, good), llama(0), llama(1), budget=budget), expected
    )


@pytest.mark.parametrize("budget", [10**6, 1])
def test_length_normalized_kto_takes_log_ratios_per_token(budget):
    """TRL has no such KTO: worked out with the plain model, an answer at a time."""
    answers, signs = [CHOSEN[0], REJECTED[1], CHOSEN[2]], [1, -1, 1]
    policy, reference = llama(0), llama(1)

    def per_token(model, prompt, answer):
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1)[range(len(answer)), answer].mean()

    def log_ratio(prompt, answer):
        with torch.no_grad():
            known = per_token(reference, prompt, answer)
        return per_token(policy, prompt, answer) - known

    with torch.no_grad():
        kl = sum(log_ratio(prompt, answers[n - 1]).item() for n, prompt in enumerate(PROMPTS)) / 3
    assert kl > 0.01, "the reference point takes part"
    objective = Objective.of("kto", length_normalized=True)
    assert objective.beta == 5.0
    sides = zip(PROMPTS, answers, signs, strict=True)
    loss = sum(torch.sigmoid(-5 * sign * (log_ratio(prompt, answer) - kl)) for prompt, answer, sign in sides) / 3
    loss.backward()
    expected = loss.item(), {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    split = single_split(answers, [sign > 0 for sign in signs])
    assert_same(ours(objective, split, llama(0), llama(1), budget=budget), expected)


@pytest.mark.parametrize("budget", [10**6, 1])
def test_reward_is_trls(trl, tokenizer, tmp_path, budget):
    rows = [{"chosen_ids": p + c, "rejected_ids": p + r} for p, c, r in zip(PROMPTS, CHOSEN, REJECTED, strict=True)]
    trainer = trainer_of(
        trl.RewardTrainer, trl.RewardConfig, tokenizer, llama(0, "reward"), None, rows, tmp_path, disable_dropout=False
    )
    expected = theirs(trainer, trainer.data_collator(rows), trainer.model)
    assert_same(ours(None, paired_split(), llama(0, "reward"), budget=budget), expected)


@pytest.mark.parametrize("budget", [10**6, 1])
@pytest.mark.parametrize("loss", ["orpo", "simpo"])
def test_orpo_and_simpo_are_trls(trl, tokenizer, tmp_path, monkeypatch, loss, budget):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    if loss == "orpo":
        from trl.experimental.orpo import ORPOTrainer as Trainer
    else:
        from trl.experimental.cpo import CPOTrainer as Trainer
    model = llama(0)
    trainer = Trainer.__new__(Trainer)  # its formulas alone: the constructor tokenizes texts
    values = {
        "is_encoder_decoder": False, "padding_value": 0, "pad_token_id": 0, "label_pad_token_id": -100, "aux_loss_enabled": False,
        "accelerator": SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x),
        "args": SimpleNamespace(), "use_dpo_data_collator": True, "beta": 0.1 if loss == "orpo" else 2.0, "loss_type": "simpo",
        "simpo_gamma": 1.0, "cpo_alpha": 0.0, "label_smoothing": 0.0, "alpha": 0.0, "max_length": 64,
    }  # fmt: skip
    for name, value in values.items():
        setattr(trainer, name, value)
    found, _ = trainer.get_batch_loss_metrics(model, concatenated_batch(), "train")
    found.backward()
    expected = float(found), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert_same(ours(Objective.of(loss), paired_split(), llama(0), budget=budget), expected)


def concatenated_batch() -> dict[str, torch.Tensor]:
    """What the ORPO and CPO collators give: both sides padded, labels of the prompt ignored."""

    def padded(rows, value):
        width = max(map(len, rows))
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    batch = {}
    for name, answers in (("chosen", CHOSEN), ("rejected", REJECTED)):
        whole = [p + a for p, a in zip(PROMPTS, answers, strict=True)]
        batch[f"{name}_input_ids"] = padded(whole, 0)
        batch[f"{name}_attention_mask"] = padded([[1] * len(row) for row in whole], 0)
        batch[f"{name}_labels"] = padded([[-100] * len(p) + a for p, a in zip(PROMPTS, answers, strict=True)], -100)
    return batch
