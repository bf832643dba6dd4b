"""What kills.py and signals.py share: small runs of six tasks, plain, with LoRA, and with rows set aside, as commands of their own.

Data come from the shipped samples, models are two layers of random weights in a folder: nothing is downloaded. A command is a forked
process of a parent that has imported everything: torch's imports would take most of the time of so short a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

SAMPLES = Path(str(files("tunewright") / "samples"))
TASKS = ("classification", "ner", "mlm", "clm", "sft", "preference")
VARIANTS = ("full", "lora", "set-aside")


@dataclass(frozen=True)
class Case:
    """A config and where its run goes."""

    name: str
    config: Path

    def command(self, *, output: Path) -> list[str]:
        return ["train", str(self.config), f"output={output}"]


def make_cases(folder: Path, *, rows: int, seed: int = 0) -> list[Case]:
    """A case for every task and variant."""
    if os.fork() == 0:  # training a tokenizer starts threads, which no later fork would have
        _models(folder / "models")
        os._exit(0)
    os.wait()
    encoder, decoder = folder / "models" / "encoder", folder / "models" / "decoder"
    cases = []
    for task in TASKS:
        for variant in VARIANTS:
            place = folder / f"{task}-{variant}"
            place.mkdir(parents=True)
            found = _rows(task, rows, aside=variant == "set-aside", chance=random.Random(seed))
            (place / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
            values = {
                "task": "preference" if task == "preference" else task,
                "model": str(encoder if task in ("classification", "ner", "mlm") else decoder),
                "data": {"train": str(place / "data.jsonl"), "max_length": 48, "on_bad_rows": "skip"},
                "adapter": "lora" if variant == "lora" else "none",
                "train": {"epochs": 2, "batch_size": 8, "save_every": 5, "log_every": 1, "learning_rate": 1e-3},
                "evaluate": {"every": 7},
            }
            (place / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
            cases.append(Case(f"{task}, {variant}", place / "config.yaml"))
    return cases


def _rows(task: str, count: int, *, aside: bool, chance: random.Random) -> list[dict[str, Any]]:
    """Rows of a task; every fourth one cannot be used, where some are to be set aside."""
    lines = (SAMPLES / "customer_messages.jsonl").read_text(encoding="utf-8").splitlines()
    messages = [json.loads(line) for line in lines]
    names = sorted({message["label"] for message in messages})[:4]
    messages = [message for message in messages if message["label"] in names]
    long = " ".join(["Far too long an answer to be learned whole."] * 40)
    found: list[dict[str, Any]] = []
    for number in range(count):
        message = messages[chance.randrange(len(messages))]
        text, bad = f"{number}. {message['text']}", aside and number % 4 == 1
        if task == "classification":
            row: dict[str, Any] = {"text": None if bad else text, "label": message["label"]}
        elif task == "ner":
            row = {"text": text, "entities": [[0, len(text) * 99 if bad else text.index("."), "NUM"]]}
        elif task in ("mlm", "clm"):
            row = {"text": 7 if bad else text}
        elif task == "sft":
            row = {"question": text, "answer": long if bad else message["label"]}
        else:
            row = {"prompt": text, "chosen": long if bad else message["label"], "rejected": names[number % 4] + " no"}
        found.append(row)
    return found


def _models(folder: Path) -> None:
    """An encoder and a decoder, with one tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = (SAMPLES / "customer_messages.jsonl").read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", eos_token="[SEP]", model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        chat_template="{% for m in messages %}{% if m.role == 'user' %}{{ m.content + ' : ' }}"
        "{% else %}{% generation %}{{ m.content + '[SEP]' }}{% endgeneration %}{% endif %}{% endfor %}",
    )  # fmt: skip
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    bert = BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    gpt = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=2, eos_token_id=3)
    for name, model in (("encoder", BertModel(bert)), ("decoder", GPT2LMHeadModel(gpt))):
        model.save_pretrained(folder / name)
        fast.save_pretrained(folder / name)


def import_everything() -> None:
    """Once, before the first command. One thread: the same bits on every machine of a kind, and nothing runs where a process forks."""
    os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    import peft  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch
    import transformers.models.bert.modeling_bert
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401

    import tunewright.cli.main
    import tunewright.exporters.merged
    import tunewright.prediction
    import tunewright.runs.train
    import tunewright.verification  # noqa: F401

    torch.set_num_threads(1)


class Command:
    """`tunewright WORDS` in a forked process, its lines in a file. `before` runs in it first."""

    def __init__(self, words: list[str], log: Path, before: Callable[[], None] = lambda: None) -> None:
        self.log, self.code = log, None
        self.pid = os.fork()
        if self.pid == 0:
            _stand_for_command(words, log, before)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self.wait(0.0)

    def wait(self, seconds: float = float("inf")) -> int | None:
        until = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code: int | None = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= until:
                break
            else:
                time.sleep(0.002)
        return self.code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _stand_for_command(words: list[str], log: Path, before: Callable[[], None]) -> None:
    code = 101
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with log.open("w") as file, open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from tunewright.cli import main

        sys.argv = ["tunewright", *words]
        before()
        main.main()
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0
    except BaseException:  # os._exit would end the process without a word
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_to_end(case: Case, output: Path) -> float:
    """The command without a disturbance; gives its seconds. SystemExit with its last lines where it fails."""
    began, log = time.monotonic(), case.config.parent / "log-to-the-end"
    code = Command(case.command(output=output), log).wait()
    if code:
        raise SystemExit(f"{case.name}: exit {code}\n{log.read_text()[-2000:]}")
    return time.monotonic() - began


def result_of(run: Path) -> dict[str, str]:
    """What must be the same, bit for bit: hashes of all weights, of the scores and the history, of the records of the steps."""
    found = {}
    for path in sorted(run.glob("*/*.safetensors")):
        found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    found["scores"] = _hash({key: scores[key] for key in ("splits", "verdict", "history", "num_steps", "best_step")})
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found["records"] = _hash([{key: one[key] for key in one if key != "tokens_per_second"} for one in records])
    return found


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
