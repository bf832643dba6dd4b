"""Pretrain, supervise, prefer: a small decoder from scratch, in three runs of which each starts from the one before.

    outcome = run_three_steps(Path("runs/three-steps"), reporter=...)
    outcome.steps[1].exact_match, outcome.steps[2].kind_share, [claim.holds for claim in outcome.claims]

Data, tokenizer and configs are written into the folder, so that the same can be done by hand:
`tunewright train pretrain.yaml sft.yaml prefer.yaml`. After each step the same questions, held out from training, are answered.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunewright import hints
from tunewright.cli.options import say
from tunewright.cli.progress import ConsoleReporter, print_table
from tunewright.config.load import load_config
from tunewright.config.run_config import RunConfig
from tunewright.demos import animals
from tunewright.demos.base import headline
from tunewright.generation.generate import Sampling
from tunewright.prediction import load
from tunewright.records import Completion
from tunewright.runs.reporter import Reporter, RunResult
from tunewright.runs.sequence import train_in_turn

STEPS = ("pretrain", "sft", "prefer")
_NUM_TEXTS, _NUM_ASKED, _MOST_POINTS_LOST = 1_200, 120, 0.05


@dataclass(frozen=True)
class StepOutcome:
    """After one step: how the held-out questions are answered. losses: of the validation split, first and last."""

    name: str
    losses: tuple[float, float]
    exact_match: float
    kind_share: float
    answers: list[str]


@dataclass(frozen=True)
class Claim:
    text: str
    holds: bool


@dataclass(frozen=True)
class Outcome:
    prompts: list[str]
    steps: list[StepOutcome]

    @property
    def claims(self) -> list[Claim]:
        """What the three steps were for, measured."""
        read, supervised, preferred = self.steps
        first, last = read.losses
        lost = supervised.exact_match - preferred.exact_match
        return [
            Claim(f"pretraining: held-out loss fell from {first:.3f} to {last:.3f}", last < first),
            Claim(
                f"supervision: exact match on held-out questions rose from {read.exact_match:.0%} to {supervised.exact_match:.0%}",
                supervised.exact_match > read.exact_match,
            ),
            Claim(
                f"preference: kind answers rose from {supervised.kind_share:.0%} to {preferred.kind_share:.0%}, exact match "
                f"{'fell' if lost > 0 else 'rose'} by {abs(lost) * 100:.1f} points (at most 5 may be lost)",
                preferred.kind_share > supervised.kind_share and lost <= _MOST_POINTS_LOST,
            ),
        ]


def run(output: str, overrides: Sequence[str] = ()) -> bool:
    """Train three times and tell what was measured; `key=value` words are laid over each step."""
    folder = Path(output)
    say(
        "A two-layer decoder is pretrained on texts about animals, then taught to answer questions, then to answer kindly.\n"
    )
    outcome = run_three_steps(
        folder, reporter=lambda config: ConsoleReporter(summary=False, config=config), overrides=overrides
    )
    headline("The same held-out questions after each step")
    for number in (0, 1, 2):
        print(f"  {outcome.prompts[number]}")
        for step in outcome.steps:
            print(f"    {step.name:<9} {' '.join(step.answers[number].split())[:100]}")
    rows = [[step.name, f"{step.exact_match:.1%}", f"{step.kind_share:.1%}"] for step in outcome.steps]
    print()
    print_table(["after", "exact match", "kind answers"], rows)
    for claim in outcome.claims:
        print(f"{'holds ' if claim.holds else 'FAILS '} {claim.text}")
    print(f"\nThe same by hand: {hints.train_in_turn(*(folder / f'{step.name}.yaml' for step in outcome.steps))}")
    return all(claim.holds for claim in outcome.claims)


def run_three_steps(
    folder: Path,
    *,
    reporter: Callable[[RunConfig], Reporter],
    num_texts: int = _NUM_TEXTS,
    overrides: Sequence[str] = (),
) -> Outcome:
    """Write the data, train three times, answer after each. Started again it goes on where it stopped."""
    configs = [load_config(path, overrides) for path in write_files(folder, num_texts=num_texts)]
    asked = [one for one in animals.questions() if one.held_out]
    asked = random.Random(1).sample(asked, _NUM_ASKED)
    steps = [
        _outcome(name, result, asked)
        for name, result in zip(STEPS, train_in_turn(configs, reporter=reporter), strict=True)
    ]
    return Outcome([one.prompt for one in asked], steps)


def _outcome(name: str, result: RunResult, asked: list[animals.Question]) -> StepOutcome:
    model = load(result).writing(Sampling(temperature=0, max_new_tokens=32))
    predicted = model.predict([one.prompt for one in asked])
    answers = [one.text.strip() for one in predicted if isinstance(one, Completion)]
    right = [animals.first_sentence(text) == one.answer for text, one in zip(answers, asked, strict=True)]
    losses = [point["validation_loss"] for point in result.history]
    kind = sum(map(animals.is_kind, answers)) / len(answers)
    return StepOutcome(name, (losses[0], losses[-1]), sum(right) / len(right), kind, answers)


# What is trained on


def write_files(folder: Path, *, num_texts: int) -> list[Path]:
    """Data, tokenizer and one config for each step. A pure function of nothing: written again they are the same."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    known = [one for one in animals.questions() if not one.held_out]
    rows = {
        "texts": [{"text": text} for text in animals.texts(num_texts, rng)],
        "questions": [
            {"prompt": one.prompt, "completion": one.answer + style}
            for one in known
            for style in (rng.choice(animals.RUDE), rng.choice((*animals.KIND, *animals.RUDE)))  # three of four are rude
        ],
        "preferences": [
            {"prompt": one.prompt, "chosen": one.answer + rng.choice(animals.KIND), "rejected": one.answer + rng.choice(animals.RUDE)}
            for one in known
        ],
    }  # fmt: skip
    for name, written in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in written)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    _learn_tokenizer(folder, ["texts", "questions"])
    paths = []
    for name, values in _configs(folder).items():
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return paths


def _learn_tokenizer(folder: Path, files: list[str]) -> None:
    from tunewright.tokenizer_tools.corpus import Corpus
    from tunewright.tokenizer_tools.recipe import Recipe
    from tunewright.tokenizer_tools.train import learn, save

    if (folder / "tokenizer" / "tokenizer.json").is_file():
        return
    texts = folder / "tokenizer.txt"
    rows = [
        json.loads(line)
        for name in files
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    texts.write_text("\n".join(" ".join(row.values()) for row in rows) + "\n", encoding="utf-8")
    save(learn(Corpus.open([str(texts)]), Recipe(algorithm="byte-bpe", vocab_size=1_024)), folder / "tokenizer")


def _configs(folder: Path) -> dict[str, dict[str, Any]]:
    def step(name: str, data: str, task: Any, model: Any, **train: Any) -> dict[str, Any]:
        return {
            "task": task, "model": model,
            "data": {"train": str(folder / f"{data}.jsonl"), "max_length": 128, "test_ratio": 0},
            "train": {"batch_size": 16, **train}, "output": str(folder / name),
            "evaluate": {"baselines": False, **({"num_generated": 0} if name == "sft" else {})},
        }  # fmt: skip

    scratch = {"name": "scratch:llama-tiny", "tokenizer": str(folder / "tokenizer")}
    return {
        "pretrain": step("pretrain", "texts", "clm", scratch, epochs=8, learning_rate=4e-3),
        "sft": step("sft", "questions", {"name": "sft", "template": "plain"}, "previous", epochs=5, learning_rate=1e-3),
        "prefer": step("prefer", "preferences", {"name": "preference", "loss": "dpo", "beta": 0.3}, "previous", epochs=2, learning_rate=4e-5),
    }  # fmt: skip
