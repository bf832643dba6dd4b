"""Conversations as strangers bring them: odd orders, flags, reasoning, endings, lengths and values. What is learned stays proven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import shared, write_jsonl
from tunewright.chat.control_tokens import ControlTokens
from tunewright.chat.conversations import Dialogues
from tunewright.chat.messages import Conversation, Message, conversation, learnable
from tunewright.chat.preference_columns import Preferences, find_preferences
from tunewright.chat.preferences import parse_comparison
from tunewright.chat.supervision import DROPPED, MERGED, Endings, Supervisor
from tunewright.chat.templates import Template, named
from tunewright.chat.transcripts import answer_spans, literal_end, marks_of, without_literal_ends
from tunewright.config.load import parse_config
from tunewright.encoding.dialogue_rows import DialogueEncoder
from tunewright.encoding.pair_rows import sided_rows
from tunewright.errors import RowError, UserError
from tunewright.metrics.preference import judged_intervals, judged_scores
from tunewright.preparation import open_inputs, prepare
from tunewright.pretrained.model_files import tokenizer_source
from tunewright.reading.split import assign
from tunewright.records import Row
from tunewright.runs.autoconfig import config_for_data
from tunewright.runs.data_checks import find_problems
from tunewright.tokenization.encoder import TextEncoder, load_encoder

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As gpt-oss writes them: channels, the last answer ends otherwise than earlier ones, calls with a token of their own.
CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.tool_calls %}{% set c = m.tool_calls[0].function %}"
    "<|start|>assistant<|channel|>commentary to={{ c.name }}<|message|>{{ c.arguments|tojson }}<|call|>"
    "{% else %}{% if m.thinking and loop.last %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endif %}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
CHANNEL_TOKENS = ("<|start|>", "<|end|>", "<|return|>", "<|message|>", "<|channel|>", "<|call|>")
# As GLM-4.5 writes them: nothing ends an answer but the token of whoever speaks next.
ROLES = (
    "[gMASK]<sop>{% for m in messages %}{% if m.role == 'tool' %}<|observation|>\n{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|assistant|>\n<think>{{ m.reasoning_content or '' }}</think>\n{{ m.content.strip() }}"
    "{% if m.tool_calls %}<tool_call>{{ m.tool_calls[0].function.name }} {{ m.tool_calls[0].function.arguments|tojson }}</tool_call>{% endif %}"
    "{% else %}<|{{ m.role }}|>\n{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLE_TOKENS = (
    "[gMASK]",
    "<sop>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|observation|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
)
# As DeepSeek-R1 writes them: reasoning is thrown away, the prompt for an answer opens it.
THINKERS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|A|>' + m.content.split('</think>')[-1].lstrip() + eos_token }}"
    "{% else %}{{ '<|U|>' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|A|><think>\n' }}{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '[INST]' + m.content + '[/INST]' if m.role == 'user' else m.content + '</s>' }}{% endfor %}"
)


def supervisor(source: str, *control: str) -> Supervisor:
    return Supervisor(Template(source, TOKENS), ControlTokens([*control, "<s>", "</s>"]))


def turns(*said: tuple[str, str] | dict) -> Conversation:
    return learnable(
        conversation([one if isinstance(one, dict) else {"role": one[0], "content": one[1]} for one in said])
    )


def spans(prover: Supervisor, found: Conversation, **options: object) -> list[str]:
    rendered = prover.for_training(found, **options)  # type: ignore[arg-type]
    return [rendered.text[begin:end] for begin, end in rendered.answers]


IM = ("<|im_start|>", "<|im_end|>")
ODD = {
    "assistant first": [("assistant", "Ahoy!"), ("user", "Hi"), ("assistant", "Yes.")],
    "system, assistant": [("system", "Be."), ("assistant", "Ahoy!"), ("user", "Hi"), ("assistant", "Yes.")],
    "two users": [("user", "Hi"), ("user", "You?"), ("assistant", "Yes.")],
    "two assistants": [("user", "Hi"), ("assistant", "I look."), ("assistant", "Yes.")],
    "later system": [
        ("user", "Hi"),
        ("assistant", "Yes."),
        ("system", "Be brief."),
        ("user", "Bye"),
        ("assistant", "No."),
    ],
    "tool, user": [
        ("user", "Hi"),
        ("assistant", "I look."),
        ("tool", "42"),
        ("user", "Well?"),
        ("assistant", "It is 42."),
    ],
}


@pytest.mark.parametrize("order", ODD)
@pytest.mark.parametrize("template", ["chatml", "own qwen3", "llama3"])
def test_turns_in_any_order_are_learned_where_the_template_renders_them(order: str, template: str) -> None:
    own = template.startswith("own")
    source = (shared("tokenizers/qwen3/chat_template.jinja")).read_text() if own else named(template)
    control = (*IM, "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>")
    found = turns(*ODD[order])
    said = spans(supervisor(source, *control), found)
    for one, message in zip(said, (m for m in found.messages if m.role == "assistant"), strict=True):
        assert message.content in one and one.endswith(("<|im_end|>", "<|eot_id|>"))
        assert not any(
            other.content in one for other in found.messages if other is not message and len(other.content) > 3
        )


def test_a_template_that_refuses_an_order_says_so_and_the_row_is_rejected() -> None:
    prover = supervisor(STRICT, "[INST]", "[/INST]")
    with pytest.raises(RowError, match="roles must alternate"):
        prover.for_training(turns(*ODD["two users"]))
    assert spans(prover, turns(("user", "Hi"), ("assistant", "Yes."))) == ["Yes.</s>"]


def test_a_template_that_drops_a_turn_in_an_odd_place_rejects_the_row() -> None:
    source = CHATML.replace("for m in messages", "for m in messages if loop.first or m.role != 'system'")
    with pytest.raises(RowError, match=r"leaves out turn 3 \(system\)"):
        supervisor(source.replace("loop.first", "m == messages[0]"), *IM).for_training(turns(*ODD["later system"]))


def test_turns_that_a_template_writes_as_one_are_told() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{% if loop.first or loop.previtem.role != 'user' %}"
        "<|U|>{% endif %}{{ m.content }}\n{% else %}<|A|>{{ m.content }}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|A|>{% endif %}"
    )
    rendered = supervisor(source, "<|U|>", "<|A|>").for_training(turns(*ODD["two users"]))
    assert rendered.notes == (MERGED,)
    assert supervisor(source, "<|U|>", "<|A|>").for_training(turns(*ODD["two users"][1:])).notes == ()
    merged = (
        "{% for m in messages %}{% if m.role == 'user' %}<|U|>{{ m.content }}{% else %}"
        "{% if loop.previtem.role == 'user' %}<|A|>{% endif %}"
        "{{ m.content }}{% if loop.last or loop.nextitem.role == 'user' %}</s>{% endif %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|A|>{% endif %}"
    )
    with pytest.raises(RowError, match="merges turn"):
        supervisor(merged, "<|U|>", "<|A|>").for_training(turns(*ODD["two assistants"]))


# Endings


def test_each_answer_ends_with_its_own_token() -> None:
    prover = supervisor(
        (
            "{% for m in messages %}"
            "<|start|>{{ m.role }}<|message|>{{ m.content }}{% if loop.last and m.role == 'assistant' %}"
            "<|return|>{% else %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}"
            "<|start|>assistant<|message|>{% endif %}"
        ),
        *CHANNEL_TOKENS,
    )
    chat = turns(("user", "Hi"), ("assistant", "Yes."), ("user", "Bye"), ("assistant", "No."))
    assert spans(prover, chat) == ["Yes.<|end|>", "No.<|return|>"]
    assert prover.endings == Endings(("<|return|>", "<|end|>"))


def test_a_token_that_stands_within_answers_ends_none() -> None:
    """Generation would stop behind the reasoning: so earlier answers do not teach that token either."""
    prover = supervisor(CHANNELS, *CHANNEL_TOKENS)
    chat = turns(("user", "Hi"), ("assistant", "Yes."), ("user", "Bye"), ("assistant", "No."))
    assert prover.endings.stops == ("<|return|>", "<|call|>")
    assert spans(prover, chat) == ["<|channel|>final<|message|>Yes.", "<|channel|>final<|message|>No.<|return|>"]
    thought = turns(("user", "Hi"), {"role": "assistant", "content": "Yes.", "thinking": "Hm."})
    assert spans(prover, thought) == [
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>"
    ]
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    used = turns(("user", "Hi"), call, ("tool", "42"), ("assistant", "It is 42."))
    assert spans(prover, used) == [
        '<|channel|>commentary to=f<|message|>{"a": 1}<|call|>', "<|channel|>final<|message|>It is 42.<|return|>",
    ]  # fmt: skip


def test_answers_end_with_the_token_of_whoever_speaks_next() -> None:
    prover = supervisor(ROLES, *ROLE_TOKENS)
    assert (
        prover.endings.stops[0] == "<|user|>"
        and "<|observation|>" in prover.endings.stops
        and prover.endings.appended == "<|user|>"
    )
    chat = turns(("user", "Hi"), ("assistant", "Yes."), ("user", "Bye"), ("assistant", "No."))
    assert spans(prover, chat) == ["\n<think></think>\nYes.<|user|>", "\n<think></think>\nNo.<|user|>"]
    assert prover.for_training(chat).text.endswith("No.<|user|>") and not prover.for_generation(
        chat.without_last_answer()
    ).text.endswith("<|user|>")
    call = {"role": "assistant", "content": "", "tool_calls": '[{"name": "f", "arguments": "{\\"a\\": 1}"}]'}
    used = turns(("user", "Hi"), call, ("tool", "42"), ("assistant", "It is 42."))
    assert spans(prover, used) == [
        '\n<think></think>\n<tool_call>f {"a": 1}</tool_call><|observation|>', "\n<think></think>\nIt is 42.<|user|>",
    ]  # fmt: skip


# Reasoning


def test_reasoning_that_a_template_drops_is_refused_kept_or_told() -> None:
    prover = supervisor(THINKERS, "<|U|>", "<|A|>", "<think>", "</think>")
    for answer in (
        {"role": "assistant", "content": "<think>\nHm, so.\n</think>\n\nYes."},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm, so."},
    ):
        found = turns(("user", "Hi"), answer)
        with pytest.raises(RowError, match=r"reasoning of turn 2: task\.reasoning=keep"):
            prover.for_training(found)
        dropped = prover.for_training(found, reasoning="drop")
        assert (dropped.text, dropped.notes) == ("<s><|U|>Hi<|A|>Yes.</s>", (DROPPED,))
        kept = prover.for_training(found, reasoning="keep")
        assert kept.text == "<s><|U|>Hi<|A|><think>\nHm, so.\n</think>\n\nYes.</s>" and kept.notes == ()
        assert kept.text.startswith(
            prover.for_generation(found.without_last_answer()).text
        )  # what is asked is how the learned text begins
        assert spans(prover, found, reasoning="keep") == ["<think>\nHm, so.\n</think>\n\nYes.</s>"]


def test_reasoning_of_earlier_answers_is_judged_where_they_are_learned() -> None:
    prover = supervisor(shared("tokenizers/qwen3/chat_template.jinja").read_text(), *IM, "<think>", "</think>")
    found = turns(
        ("user", "Hi"),
        ("assistant", "<think>\nR1\n</think>\n\nYes."),
        ("user", "Bye"),
        ("assistant", "<think>\nR2\n</think>\n\nNo."),
    )
    with pytest.raises(RowError, match="turn 2"):
        prover.for_training(found)
    assert spans(prover, found, turns=[False, True])[1] == "<think>\nR2\n</think>\n\nNo.<|im_end|>"
    assert spans(prover, found, reasoning="keep") == [
        "<think>\nR1\n</think>\n\nYes.<|im_end|>", "<think>\nR2\n</think>\n\nNo.<|im_end|>",
    ]  # fmt: skip
    assert prover.for_training(turns(("user", "Hi"), ("assistant", "<think>\n\n</think>\n\nYes."))).notes == ()


def test_reasoning_behind_a_block_that_the_template_has_closed_cannot_be_kept() -> None:
    source = THINKERS.replace("'<|A|><think>\n'", "'<|A|></think>'").replace("'<|A|>' + m", "'<|A|></think>' + m")
    prover = supervisor(source, "<|U|>", "<|A|>", "<think>", "</think>")
    found = turns(("user", "Hi"), ("assistant", "<think>\nHm, so.\n</think>\n\nYes."))
    assert spans(prover, found, reasoning="drop") == ["Yes.</s>"]
    with pytest.raises(RowError, match="the template ends the reasoning before the answer begins"):
        prover.for_training(found, reasoning="keep")


def test_calls_in_answers_without_a_content_are_written_and_those_beside_a_text_are_not_lost() -> None:
    """As DeepSeek's templates ask: `content is none` for calls, and any content hides them."""
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' and m['content'] is none %}<|A|>{% for c in m.tool_calls %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}</s>{% elif m.role == 'assistant' %}<|A|>{{ m.content }}</s>"
        "{% else %}<|U|>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|A|>{% endif %}"
    )
    prover, calls = supervisor(source, "<|U|>", "<|A|>"), [{"name": "f", "arguments": {"a": 1}}]
    for content in (None, "", " "):
        found = turns(("user", "Hi"), {"role": "assistant", "content": content, "tool_calls": calls})
        assert spans(prover, found) == ['f{"a": 1}</s>']
    with pytest.raises(RowError, match="leaves out calls of tools in answers that also have text"):
        prover.for_training(turns(("user", "Hi"), {"role": "assistant", "content": "I look.", "tool_calls": calls}))


# Flags, keys and values


@pytest.mark.parametrize(
    "flag", [{"weight": 0}, {"training": False}, {"train": False}, {"loss": False}, {"loss": 0}, {"train": "false"}]
)
def test_a_turn_that_is_flagged_is_not_learned(flag: dict) -> None:
    found = turns(
        ("user", "Hi"), {"role": "assistant", "content": "Bad.", **flag}, ("user", "Again"), ("assistant", "Good.")
    )
    assert [one.learned for one in found.messages if one.role == "assistant"] == [False, True]
    yes = dict.fromkeys(flag, True)
    assert turns(("user", "Hi"), {"role": "assistant", "content": "Good.", **yes}).messages[-1].learned


def test_unknown_keys_of_turns_are_named_once(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Hi {n}", "mood": "glad"},
                {"role": "assistant", "content": "Yes.", "id": n},
            ]
        }
        for n in range(12)
    ]
    prepared = prepare(parse_config(_values(tmp_path, rows)))
    assert prepared.task().data_warnings(prepared.store) == [
        "Keys of turns that are not read: 'id' (12 rows), 'mood' (12 rows)."
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "value": "Yes."}], "Yes."), ([{"type": "text", "content": "Yes."}], "Yes."), (["Ye", "s."], "Yes."),
        ({"type": "text", "text": "Yes."}, "Yes."), (42, "42"), (True, "true"), (1.5, "1.5"), ({"ä": [1, None]}, '{"ä": [1, null]}'), ([1, 2], "[1, 2]"),
        ([{"a": 1}], '[{"a": 1}]'),
    ],
)  # fmt: skip
def test_answers_that_are_parts_numbers_or_objects(content: object, text: str) -> None:
    assert turns(("user", "Hi"), {"role": "Assistant", "content": content}).messages[-1].content == text
    assert turns({"from": "Human", "value": "Hi"}, {"from": "AI", "value": content}).messages[-1].content == text
    tool = turns(("user", "Hi"), ("assistant", "I look."), {"role": "tool", "content": content}, ("assistant", "Yes."))
    assert tool.messages[2].content == ('["Ye", "s."]' if content == ["Ye", "s."] else text)
    if not isinstance(content, list):
        pair = Dialogues("pair", "prompt", "completion").for_training(
            Row("f", 1, {"prompt": "Hi", "completion": content if text != "Yes." else "Yes."})
        )
        assert pair.messages[-1].content == text


def test_a_users_number_is_still_said() -> None:
    with pytest.raises(RowError, match="the content of turn 1 is int 7"):
        turns({"role": "user", "content": 7}, ("assistant", "Yes."))


@pytest.mark.parametrize(
    "names",
    [
        ("chosen_messages", "rejected_messages"),
        ("messages_chosen", "messages_rejected"),
        ("chosen_answer", "rejected_answer"),
    ],
)
def test_sides_under_other_names(names: tuple[str, str]) -> None:
    asks = [{"role": "user", "content": "Hi"}]
    fields = {
        name: [*asks, {"role": "assistant", "content": text}] for name, text in zip(names, ("Yes.", 7), strict=True)
    }
    found = find_preferences(list(fields), [Row("f", 1, fields)])
    assert found is not None
    (pair,) = parse_comparison(Row("f", 1, fields), found)
    assert [side.messages[-1].content for side in pair.sides] == ["Yes.", "7"]


@pytest.mark.parametrize("calls", [
    [{"type": "function", "id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}], '[{"name": "f", "arguments": {"a": 1}}]',
    [{"function": {"name": "f", "arguments": {"a": 1}}}], {"name": "f", "parameters": {"a": 1}}, '{"name": "f", "args": {"a": 1}}',
])  # fmt: skip
def test_calls_however_they_are_spelled(calls: object) -> None:
    found = turns(
        ("user", "Hi"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        ("tool", "4"),
        ("assistant", "Four."),
    )
    (call,) = found.messages[1].tool_calls
    assert (call.name, call.arguments) == ("f", {"a": 1})
    none = turns(("user", "Hi"), {"role": "assistant", "content": "Yes.", "tool_calls": "[]"})
    assert none.messages[-1] == Message("assistant", "Yes.")


# Too long


@pytest.fixture(scope="module")
def minimind() -> TextEncoder:
    return load_encoder(tokenizer_source(str(shared("tokenizers/minimind"))), max_length=4096)


def _chats(encoder: TextEncoder, length: int, **options: object) -> DialogueEncoder:
    wishes = {"supervise": "answers", "trusted": False, "cuts_prompts": True, **options}
    chats = DialogueEncoder.of(encoder, named("chatml"), {}, **wishes)  # type: ignore[arg-type]
    return DialogueEncoder(**{**vars(chats), "max_length": length})


LONG = turns(
    ("system", "You are brief."),
    *(one for n in range(6) for one in (("user", f"Question number {n}?"), ("assistant", f"Answer number {n}."))),
)


def test_whole_turns_go_from_the_oldest_and_what_stays_is_what_the_template_writes(minimind: TextEncoder) -> None:
    whole = _chats(minimind, 4096, supervise="last_answer").for_training([LONG])[0]
    for kept in range(1, 6):
        shorter = Conversation((LONG.messages[0], *LONG.messages[-2 * kept :]))
        wanted = _chats(minimind, 4096, supervise="last_answer").for_training([shorter])[0]
        row = _chats(minimind, len(wanted.ids) + 3, supervise="last_answer").for_training([LONG])[0]
        assert row.ids.tolist() == wanted.ids.tolist() and row.learned == wanted.learned
        assert row.num_cut == len(whole.ids) - len(row.ids)
    assert "its answer would be cut" in _chats(minimind, 60).for_training([LONG])[0]  # earlier answers are learned here


def test_the_last_question_loses_its_own_start_only(minimind: TextEncoder) -> None:
    asks = turns(
        ("system", "You are brief."),
        ("user", "Old?"),
        ("assistant", "Old."),
        ("user", "word " * 50 + "end?"),
        ("assistant", "Yes."),
    )
    for chats, asked in ((_chats(minimind, 48, supervise="last_answer"), False), (_chats(minimind, 60), True)):
        row = chats.for_generation([asks.without_last_answer()], room=12)[0] if asked else chats.for_training([asks])[0]
        text = minimind.tokenizer.decode(row.ids, skip_special_tokens=False)
        assert len(row.ids) == 48
        assert text.startswith("<|im_start|>system\nYou are brief.<|im_end|>\n<|im_start|>user\n") and "Old" not in text
        assert "word end?<|im_end|>\n<|im_start|>assistant\n" in text
        assert asked or text.endswith("Yes.<|im_end|>\n")


def test_both_sides_of_a_pair_lose_the_same_turns(minimind: TextEncoder) -> None:
    turns_ = [{"role": one.role, "content": one.content} for one in LONG.messages[:-1]]
    row = Row("f", 1, {"prompt": turns_, "chosen": "Yes, of course it is.", "rejected": "No."})
    found = find_preferences(list(row.fields), [row])
    assert found is not None
    (pair,) = sided_rows(_chats(minimind, 4096), list(parse_comparison(row, found)), max_length=70)
    first, second = pair.ids[: pair.second], pair.ids[pair.second :]
    texts = [minimind.tokenizer.decode(one, skip_special_tokens=False) for one in (first, second)]
    assert max(len(first), len(second)) <= 70 and pair.num_cut > 0
    prompts = [text.replace("Yes, of course it is.", "").replace("No.<", "<") for text in texts]
    assert prompts[0] == prompts[1] and prompts[0].startswith(
        "<|im_start|>system\nYou are brief.<|im_end|>\n<|im_start|>user\n"
    )


def test_sides_that_differ_only_in_what_is_left_out_are_set_aside(minimind: TextEncoder) -> None:
    for said, other, options in (
        ("<think>\nhm\n</think>\n\nYes.", "<think>\nha\n</think>\n\nYes.", {"reasoning": "drop"}),
        ("Yes.", "Yes.<|im_end|>", {"strips_ends": True}),
    ):
        row = Row("f", 1, {"prompt": "Hi", "chosen": said, "rejected": other})
        pairs = parse_comparison(row, Preferences("pairs", "prompt", "chosen", "rejected"))
        source = THINKERS.replace("<|U|>", "<|im_start|>").replace("<|A|>", "<|im_start|>a")
        chats = DialogueEncoder.of(
            minimind, source, {}, supervise="answers", trusted=False, cuts_prompts=True, **options
        )
        (found,) = sided_rows(chats, list(pairs), max_length=100)
        assert isinstance(found, str) and "equal as the model reads them" in found


# End tokens as text


def _values(tmp_path: Path, rows: list[dict], **task: object) -> dict:
    write_jsonl(tmp_path / "data.jsonl", rows)
    return {
        "task": {"name": "sft", **task},
        "model": {"name": "scratch:llama-tiny", "tokenizer": str(shared("tokenizers/minimind"))},
        "data": {"train": str(tmp_path / "data.jsonl"), "max_length": 128, "validation_ratio": 0, "test_ratio": 0},
        "output": str(tmp_path / "run"),
    }  # fmt: skip


@pytest.mark.parametrize("token", ["<|endoftext|>", "</s>", "<|im_end|>", "<|eot_id|>\n", "<end_of_turn>"])
def test_end_tokens_that_answers_spell_are_found_and_taken_away(tmp_path: Path, token: str) -> None:
    rows = [{"prompt": f"Rate {n}.", "completion": f"{n % 5} stars{token}"} for n in range(12)]
    findings, _ = find_problems(parse_config(_values(tmp_path, rows)), say=lambda line: None)
    assert any(token.strip() in one and "task.strip_end_tokens=true" in one for one in findings)
    stripped = parse_config(_values(tmp_path, rows, strip_end_tokens=True))
    assert not any("strip_end_tokens" in one for one in find_problems(stripped, say=lambda line: None)[0])
    store = prepare(stripped).store["train"]
    plain = prepare(
        parse_config(_values(tmp_path, [{**row, "completion": row["completion"].replace(token, "")} for row in rows]))
    )
    assert [store.input_ids(n).tolist() for n in range(12)] == [
        plain.store["train"].input_ids(n).tolist() for n in range(12)
    ]


def test_literal_ends() -> None:
    assert literal_end("Yes.</s> ") == "</s>" and literal_end("</s> Yes.") is None and literal_end("<b>Yes</b>") is None
    assert without_literal_ends("Yes.<|im_end|>\n<|endoftext|>") == "Yes."


# Good and bad answers


@pytest.mark.parametrize("seed", range(4))
def test_both_kinds_are_in_every_split(seed: int) -> None:
    labels = np.array([0] * 10 + [1] * 190)
    for groups in (None, np.arange(200), np.arange(200) // 2):
        names = assign(200, {"test": 0.1, "validation": 0.1}, seed=seed, labels=labels, groups=groups)
        assert [(names[labels == 0] == split).sum() for split in ("test", "validation")] in (
            [1, 1],
            [2, 0],
            [0, 2],
            [2, 2],
        )
        assert abs((names == "test").sum() - 20) <= 1
        if groups is None or groups[-1] == 199:
            assert [(names[labels == 0] == split).sum() for split in ("test", "validation")] == [1, 1]


def test_a_metric_without_both_kinds_has_no_value() -> None:
    rewards, lengths = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    only_good = judged_scores(rewards, lengths, np.ones(3, bool))
    assert not {"pair_accuracy", "margin", "reward_rejected", "length_rejected"} & only_good.keys()
    assert only_good["reward_chosen"] == 2.0 and judged_intervals(rewards, np.ones(3, bool), seed=0) == {}
    both = judged_scores(rewards, lengths, np.array([False, True, True]))
    assert both["pair_accuracy"] == 1.0 and both["margin"] == 1.5


def test_a_file_of_good_answers_only_is_a_finding(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} Say hi.", "completion": "Good day.", "label": True} for n in range(20)]
    config = _values(tmp_path, rows) | {"task": {"name": "preference"}}
    findings, _ = find_problems(parse_config(config), say=lambda line: None)
    assert any("All 20 answers are called good" in one for one in findings)


# Texts that are conversations already

HEADED = "### Human: Hi you\n### Assistant: Yes, I do.\n### Human: Bye\n### Assistant: No."
GUANACO = "### Human: Hi you### Assistant: Yes, I do.### Human: Bye### Assistant: No."


@pytest.mark.parametrize(
    ("after", "text", "answers"),
    [
        ("### Assistant:", HEADED, [" Yes, I do.", " No."]),
        ("### Assistant:", GUANACO, [" Yes, I do.", " No."]),
        ("### Response:", "Below.\n\n### Instruction:\nSay.\n\n### Input:\nIt.\n\n### Response:\nIt is.", ["It is."]),
        ("Assistant:", "Human: Hi Assistant: no\n\nAssistant: Yes.\nTwo lines.\n\nHuman: Bye\n\nAssistant: No.\n", [" Yes.\nTwo lines.", " No.\n"]),
        ("chatml", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
                   "<|im_start|>assistant\nNo.<|im_end|>\n", ["Yes.<|im_end|>", "No.<|im_end|>"]),
        ("<|im_start|>assistant", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes.", ["Yes."]),
        ("mistral", "<s>[INST] Hi [/INST] Yes.</s><s>[INST] Bye [/INST] No.</s>", [" Yes.</s>", " No.</s>"]),
        ("[/INST]", "[INST] Hi [/INST] Yes. [INST] Bye [/INST] No.", [" Yes.", " No."]),
        ("Bob:", "Al: Hi\nBob: Yes.", [" Yes."]),
        ("ASSISTANT:", "A chat. USER: Hi ASSISTANT: Yes.</s>USER: Bye ASSISTANT: No.</s>", [" Yes.</s>", " No.</s>"]),
    ],
)  # fmt: skip
def test_answers_in_rendered_texts(after: str, text: str, answers: list[str]) -> None:
    assert [text[begin:end] for begin, end in answer_spans(text, marks_of(after))] == answers


def test_where_answers_end_is_never_guessed() -> None:
    text = "Al: Hi\nBob: Yes.\nAl: Bye\nBob: No."
    with pytest.raises(RowError, match=r"set task\.answers_until to the heading of questions"):
        answer_spans(text, marks_of("Bob:"))
    assert [text[a:b] for a, b in answer_spans(text, marks_of("Bob:", "Al:"))] == [" Yes.", " No."]
    with pytest.raises(RowError, match="no answer"):
        answer_spans("### Human: Hi", marks_of("### Assistant:"))
    with pytest.raises(RowError, match="no text after"):
        answer_spans("### Human: Hi\n### Assistant: ", marks_of("### Assistant:"))


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (HEADED, "### Assistant:"),
        ("[INST] Hi [/INST] Yes.", "mistral"),
        ("A chat. USER: Hi ASSISTANT: Yes.</s>", "ASSISTANT:"),
    ],
)
@pytest.mark.parametrize("task", ["sft", "clm"])
def test_conversations_that_are_learned_whole_are_a_finding(tmp_path: Path, text: str, after: str, task: str) -> None:
    rows = [{"text": text.replace("Hi", f"Hi {n}")} for n in range(12)]
    config = _values(tmp_path, rows)
    config["task"] = {"name": task}
    findings, _ = find_problems(parse_config(config), say=lambda line: None)
    assert any("texts are conversations" in one and f"task.answers_after={after!r}" in one for one in findings)
    if task == "sft":
        config["task"]["answers_after"] = after
        assert not any(
            "texts are conversations" in one for one in find_problems(parse_config(config), say=lambda line: None)[0]
        )


def test_only_the_answers_of_a_rendered_text_are_learned(minimind: TextEncoder) -> None:
    def learned(text: str, length: int = 4096, **options: object) -> list[str]:
        wishes = {
            "supervise": "answers",
            "trusted": False,
            "cuts_prompts": True,
            "marks": marks_of("### Assistant:"),
            **options,
        }
        chats = DialogueEncoder.of(minimind, None, {}, **wishes)  # type: ignore[arg-type]
        (row,) = DialogueEncoder(**{**vars(chats), "max_length": length}).for_training(
            [Conversation((Message("assistant", text),))]
        )
        assert not isinstance(row, str), row
        decode = minimind.tokenizer.decode
        whole.append((decode(row.ids, skip_special_tokens=False), row.num_cut, len(row.ids)))
        return [decode(row.ids[begin:end], skip_special_tokens=False) for begin, end in row.learned]

    whole: list[tuple[str, int, int]] = []
    eos = minimind.tokenizer.eos_token
    assert learned(HEADED) == [" Yes, I do.", f" No.{eos}"]
    assert learned(HEADED, supervise="last_answer") == [f" No.{eos}"]
    long = HEADED.replace("Hi you", "word " * 60 + "you")
    full = whole[-1][2]
    assert learned(long, full + 8) == [" Yes, I do.", f" No.{eos}"]
    text, num_cut, length = whole[-1]
    assert (
        length == full + 8 and num_cut > 40 and text.startswith("### Human:") and "word you\n### Assistant: Yes" in text
    )


def test_rendered_answers_train_and_only_texts_have_them(tmp_path: Path) -> None:
    rows = [{"text": HEADED.replace("Hi", f"Hi {n}")} for n in range(12)]
    prepared = prepare(parse_config(_values(tmp_path, rows, answers_after="### Assistant:")))
    tokens = prepared.manifest["ledger"]["tokens"]["train"]
    assert (
        0 < tokens["supervised"] < tokens["tokens"]
        and tokens["tokens"] == tokens["supervised"] + tokens["context"] + tokens["cut"]
    )
    pairs = [{"prompt": f"Hi {n}", "completion": "Yes."} for n in range(12)]
    with pytest.raises(UserError, match="only with a column of texts"):
        prepare(parse_config(_values(tmp_path, pairs, answers_after="### Assistant:")))


@pytest.mark.parametrize("end", ["</s>", "<|im_end|>", "<|endoftext|>"])
def test_texts_that_spell_an_end_token_are_a_finding_of_clm_and_the_key_strips_it(tmp_path, tiny_gpt, end):
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": f"it was day {n} of it{end}"} for n in range(30)])
    words = [f"model={tiny_gpt}", f"output={tmp_path / 'run'}"]
    findings, _ = find_problems(config_for_data(str(path), ["task=clm", *words]), say=lambda _: None)
    assert [one for one in findings if repr(end) in one and "task.strip_end_tokens=true" in one]
    config = config_for_data(str(path), ["task=clm", "task.strip_end_tokens=true", *words])
    assert not [one for one in find_problems(config, say=lambda _: None)[0] if "strip_end_tokens" in one]
    inputs = open_inputs(config)
    row = next(iter(inputs.rows()))
    assert inputs.task.to_example(row).text == "it was day 0 of it"
    with pytest.raises(RowError, match="blank text"):
        inputs.task.to_example(Row("t.jsonl", 9, {"text": f" {end}"}))
