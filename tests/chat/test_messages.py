"""Every spelling of a conversation becomes one record; what cannot be learned from is rejected with its reason."""

from __future__ import annotations

import json

import pytest

from tunewright.chat.conversations import ALPACA, MESSAGES, PAIR, PREFERRED, TEXT, Dialogues, find_dialogues
from tunewright.chat.messages import Conversation, Message, ToolCall, askable, conversation, learnable
from tunewright.errors import RowError, RowSkipped
from tunewright.files.record_json import from_json, to_json
from tunewright.records import Row

HI, HELLO = Message("user", "Hi"), Message("assistant", "Hello!")


def read(fields: dict, **named: str) -> Conversation:
    row = Row("train.jsonl", 1, fields)
    found = find_dialogues(list(fields), [row], **named)
    assert found is not None
    return found.for_training(row)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "Hi", "completion": "Hello!"}, (HI, HELLO)),
        ({"question": "Hi", "answer": "Hello!"}, (HI, HELLO)),
        ({"input": "Hi", "output": "Hello!"}, (HI, HELLO)),
        ({"Question": "Hi", "Answer": "Hello!", "system": "Be."}, (Message("system", "Be."), HI, HELLO)),
        ({"instruction": "Hi", "input": "", "output": "Hello!"}, (HI, HELLO)),
        ({"instruction": "Say", "input": "it", "output": "Hello!"}, (Message("user", "Say", input="it"), HELLO)),
        (
            {"instruction": "Hi", "output": "Hello!", "history": [["a", "b"]]},
            (Message("user", "a"), Message("assistant", "b"), HI, HELLO),
        ),
        (
            {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello!"}]},
            (HI, HELLO),
        ),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}, (HI, HELLO)),
        ({"messages": '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]'}, (HI, HELLO)),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}, (HI, HELLO)),
    ],
)
def test_every_format_becomes_the_same_turns(fields, expected):
    assert read(fields).messages == expected


def test_formats_are_told_by_their_columns():
    def told(columns: dict) -> str | None:
        found = find_dialogues(list(columns), [Row("f", 1, columns)])
        return found.format if found else None

    assert told({"instruction": "a", "input": "", "output": "b"}) == ALPACA
    assert told({"id": 1, "prompt": "a", "completion": "b"}) == PAIR
    assert told({"messages": [{"role": "user", "content": "a"}]}) == MESSAGES
    assert told({"text": "a"}) == TEXT
    assert told({"prompt": "a", "chosen": "b", "rejected": "c"}) == PREFERRED
    assert told({"review": "a", "stars": 3}) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "Hi", "chosen": "Hello!", "rejected": "What."}, (HI, HELLO)),
        (
            {"instruction": "Say", "input": "it", "output": "Hm.", "chosen": "Hello!", "rejected": "What."},
            (Message("user", "Say", input="it"), HELLO),
        ),
        (
            {"prompt": "Hi", "response_a": "What.", "score_a": 1, "response_b": "Hello!", "score_b": 3},
            (HI, HELLO),
        ),
        (
            {
                "prompt": "Hi",
                "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
                "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What."}],
            },
            (HI, HELLO),
        ),
    ],
)
def test_of_compared_answers_the_better_one_is_learned(fields, expected):
    def said(messages):
        return [(one.role, one.content, one.input) for one in messages]

    assert said(read(fields).messages) == said(expected)
    assert [one.learned for one in read(fields).messages] == [False, True]
    found = find_dialogues(list(fields), [Row("f", 1, fields)])
    assert found is not None
    again = from_json(Dialogues, json.loads(json.dumps(to_json(found))))
    assert again == found
    assert said(again.for_generation(Row("f", 1, fields)).messages) == said(expected[:1])


def test_columns_may_be_named():
    assert read({"frage": "Hi", "antwort": "Hello!"}, text="frage", label="antwort").messages == (HI, HELLO)


def test_content_may_be_null_or_a_list_of_text_parts():
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
        {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"},
        {"role": "assistant", "content": "Hello!", "reasoning_content": "hm", "weight": 0},
    ]  # fmt: skip
    assert learnable(conversation(turns)).messages == (
        HI,
        Message("assistant", "", tool_calls=(ToolCall("f", {"a": 1}, "c1"),)),
        Message("tool", "42", name="f", call_id="c1"),
        Message("assistant", "Hello!", reasoning="hm", learned=False),
    )


def test_sharegpt_calls_and_observations():
    turns = [
        {"from": "human", "value": "Hi"},
        {"from": "function_call", "value": json.dumps({"name": "f", "arguments": {"a": 1}})},
        {"from": "observation", "value": "42"},
        {"from": "gpt", "value": "Hello!"},
    ]
    found = conversation(turns, '[{"name": "f"}]')
    assert found.tools == ({"name": "f"},)
    assert found.messages[1] == Message("assistant", "", tool_calls=(ToolCall("f", {"a": 1}),))
    assert found.messages[2] == Message("tool", "42")


def test_turns_behind_the_last_answer_are_trimmed_and_counted():
    found = learnable(Conversation((HI, HELLO, Message("user", "Bye"))))
    assert (found.messages, found.num_trimmed) == ((HI, HELLO), 1)


def turn(role: str, content: object = "x", **more: object) -> dict:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([turn("user"), turn("robot")], "unknown role 'robot' in turn 2"),
        ([turn("user"), turn("assistant", " \n")], "empty answer"),
        ([turn("user"), turn("assistant"), turn("user"), turn("assistant", None)], "empty answer in turn 4"),
        ([turn("assistant")], "no user turn before the last answer"),
        ([turn("system"), turn("assistant")], "no user turn before the last answer"),
        ([turn("user")], "no answer"),
        ([], "the messages are empty"),
        (["Hi"], "turn 1 is str 'Hi'"),
        ([{"content": "x"}], "turn 1 has no role; found 'content'"),
        ([turn("user", [{"type": "image"}]), turn("assistant")], "a part of type 'image'; only text"),
        ([turn("user", 7), turn("assistant")], "the content of turn 1 is int 7"),
        ([turn("user"), turn("assistant", weight=0.5)], "the weight of turn 2 is 0.5, expected 0 or 1"),
        (
            [turn("user"), turn("assistant", training="maybe")],
            "the training of turn 2 is 'maybe', expected true or false",
        ),
        ([turn("user"), turn("function_call", "no JSON")], "not valid JSON"),
        ([turn("user"), turn("assistant", "", tool_calls=[{"id": 1}])], "a call in turn 2 has no name"),
    ],
)
def test_rejects_say_why(turns, reason):
    with pytest.raises(RowError) as error:
        learnable(conversation(turns))
    assert reason in error.value.reason


def test_a_question_to_be_answered_needs_no_answer():
    assert askable(Conversation((HI, HELLO, HI))).messages == (HI, HELLO, HI)
    assert askable(Conversation((HI, HELLO))).messages == (HI,)
    with pytest.raises(RowError):
        askable(Conversation((HELLO,)))


def test_rows_with_one_prompt_are_one_group():
    asked = Conversation((Message("system", "a"), HI, HELLO))
    assert asked.prompt == Conversation((HI, Message("assistant", "other"), Message("user", "more"))).prompt
    assert asked.prompt != Conversation((Message("user", "Hi", input="b"), HELLO)).prompt


def said(messages):
    return [(one.role, one.content, one.input) for one in messages]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"instruction": "Sum up", "context": "A text.", "response": "Short."},
            [("user", "Sum up", "A text."), ("assistant", "Short.", None)],
        ),
        (
            {"system_prompt": "Be.", "question": "Hi", "response": "Hello!"},
            [("system", "Be.", None), ("user", "Hi", None), ("assistant", "Hello!", None)],
        ),
        (
            {"query": "Hi", "response": "Hello!", "history": [["a", "b"]]},
            [("user", "a", None), ("assistant", "b", None), ("user", "Hi", None), ("assistant", "Hello!", None)],
        ),
        (
            {"prompt": '[\n {"role": "user", "content": "Hi"}]', "completion": '[{"role": "assistant", "content": "Hello!"}]'},
            [("user", "Hi", None), ("assistant", "Hello!", None)],
        ),
        (
            {
                "system": "Be.",
                "messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
            [("system", "Be.", None), ("user", "Hi", None), ("assistant", "Hello!", None)],
        ),
        ({"prompt": "Hi", "completion": "Hello!", "label": True}, [("user", "Hi", None), ("assistant", "Hello!", None)]),
        (
            {"prompt": "Hi", "answers": [{"answer": "What.", "rank": 2}, {"answer": "Hello!", "rank": 1}]},
            [("user", "Hi", None), ("assistant", "Hello!", None)],
        ),
    ],
)  # fmt: skip
def test_nothing_that_stands_beside_a_prompt_is_lost(fields, expected):
    assert said(read(fields).messages) == expected
    found = find_dialogues(list(fields), [Row("f", 1, fields)])
    if found.format == PAIR:  # as init names them
        assert said(read(fields, text=found.prompt, label=found.answer).messages) == expected


def test_an_answer_that_is_called_bad_is_not_learned():
    fields = {"prompt": "Hi", "completion": "What.", "label": False}
    with pytest.raises(RowSkipped, match="judged bad"):
        find_dialogues(list(fields), [Row("f", 1, fields)]).for_training(Row("f", 1, fields))


TURNS = [{"role": "user", "content": "It's\n1 } {"}, {"role": "assistant", "content": 'He said "No".'}]


@pytest.mark.parametrize("turns", [json.dumps(TURNS), str(TURNS), str(TURNS).replace("}, {", "}\n {")])
def test_turns_that_a_table_holds_as_text(turns):
    assert conversation(turns) == conversation(TURNS)
    assert read({"messages": turns}).messages == conversation(TURNS).messages


def test_turns_as_python_prints_them_that_were_cut_are_refused():
    with pytest.raises(RowError, match="cannot parse turns printed by Python"):
        read({"prompt": "[{'role': 'user', 'content': 'Hi", "completion": "Hello!"})
    assert read({"prompt": "Hi", "completion": '[{"role": "admin"}]'}).messages[1].content == '[{"role": "admin"}]'


def test_calls_as_openai_spelled_them_before_and_tools_within_a_turn():
    turns = [
        {"role": "system", "content": "", "tools": [{"name": "f"}]},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
    ]
    found = conversation(turns)
    assert found.tools == ({"name": "f"},)
    assert found.messages[2].tool_calls == (ToolCall("f", {"a": 1}),)


def test_one_odd_row_hides_no_column_of_turns():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    rows = [Row("f", n, {"messages": turns if n else "oops"}) for n in range(9)]
    assert find_dialogues(["messages"], rows).format == MESSAGES


def test_a_system_text_that_contradicts_the_turns_is_refused():
    turns = [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}]
    with pytest.raises(RowError, match="different system texts"):
        conversation(turns, system="Be not.")


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": [{"input": "Hi", "output": "Hello!"}]},
        {"prompt": "Hi", "completion": [{"role": "assistant", "content": "Hello!"}]},
        {"prompt": [{"role": "user", "content": "Hi"}], "answer": {"role": "assistant", "content": "Hello!"}},
        {"response": "Hello!", "rejected_response": "What.", "query": "Hi"},
        {"instruction": "Hi", "output": "Hello!", "history": "[]"},
    ],
)
def test_rarer_spellings(fields):
    assert said(read(fields).messages) == [("user", "Hi", None), ("assistant", "Hello!", None)]


def test_no_prompt_is_refused():
    with pytest.raises(RowError, match="no prompt in 'prompt'"):
        read({"prompt": None, "completion": "Hello!"})


@pytest.mark.parametrize("flag", ["train_on_turn", "loss_mask", "loss_weight", "trainable", "supervised", "learn"])
@pytest.mark.parametrize(("value", "learned"), [(0, False), ("no", False), (1, True), ("True", True)])
def test_other_tools_flags_of_a_turn_are_heeded(flag, value, learned):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", flag: value}]
    assert (conversation(turns).messages[1].learned, conversation(turns).unread) == (learned, ())


def test_a_flag_that_would_have_a_question_learned_is_said_and_one_that_would_not_is_no_news():
    turns = [{"role": "user", "content": "a", "training": True}, {"role": "system", "content": "s", "weight": 0},
             {"role": "assistant", "content": "b", "training": True}]  # fmt: skip
    assert conversation(turns).unread == ("training of the user's turns",)


# Parts and other keys


CALL = {"type": "tool_use", "id": "t1", "name": "look", "input": {"k": 1}}


@pytest.mark.parametrize(
    "turn",
    [
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello!"}]},
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, {"type": "output_text", "text": "Hello!"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "Hello!"}]},
        {"content": "Hello!", "reasoning": {"content": "hm"}}, {"content": "Hello!", "reasoning": "hm", "thinking": "hm"},
        {"parts": [{"text": "Hello!"}], "reasoning_content": "hm"},
    ],
)  # fmt: skip
def test_reasoning_is_read_wherever_it_stands(turn):
    found = conversation([{"role": "user", "content": "Hi"}, {"role": "assistant", **turn}])
    assert found.messages == (HI, Message("assistant", "Hello!", reasoning="hm"))
    assert found.unread == ()


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"content": "x", "reasoning": ["a", "b"]}, "the reasoning of turn 1 is list"), ({"content": "x", "reasoning_content": 5}, "is int 5"),
        ({"content": "x", "reasoning": "a", "thinking": "b"}, "different reasoning under 'reasoning' and 'thinking'"),
        ({"content": [{"type": "thinking", "thinking": "a"}, {"text": "x"}], "reasoning": "b"}, "in its content and beside it"),
        ({"content": [CALL, {"type": "text", "text": "x"}]}, "text after its tool calls"),
        ({"content": [{"type": "text", "text": "x"}, {"type": "thinking", "thinking": "a"}]}, "reasoning after its text"),
        ({"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "x"}]}, "'redacted_thinking'"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_of_an_answer_refuses_it(turn, reason):
    with pytest.raises(RowError, match=reason):
        conversation([{"role": "assistant", **turn}])


@pytest.mark.parametrize(
    ("content", "result"),
    [("42", "42"), ([{"type": "text", "text": "42"}], "42"), (42, "42"), ({"a": 1}, '{"a": 1}'), (["a", "b"], '["a", "b"]'), (None, "")],
)  # fmt: skip
def test_calls_and_results_among_the_parts_become_turns_of_their_own(content, result):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, CALL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": content}, {"type": "text", "text": "Well?"}]},
        {"role": "assistant", "content": "Hello!"},
    ]  # fmt: skip
    assert conversation(turns).messages == (
        HI, Message("assistant", "I look.", tool_calls=(ToolCall("look", {"k": 1}, "t1"),)),
        Message("tool", result, call_id="t1"), Message("user", "Well?"), HELLO,
    )  # fmt: skip


@pytest.mark.parametrize("role", ["speaker", "sender", "author"])
@pytest.mark.parametrize("content", ["content", "text", "utterance"])
def test_who_speaks_may_stand_under_other_keys(role, content):
    turns = [{role: "user", content: "Hi", "id": 1}, {role: "Assistant", content: "Hello!"}]
    assert conversation(turns).messages == (HI, HELLO)
    assert conversation(turns).unread == ("id",)


def test_a_second_key_for_role_or_content_is_named_where_it_says_something_else():
    turns = [
        {"role": "user", "speaker": "Ann", "content": "Hi", "text": "Hi there"},
        {"role": "assistant", "content": "Hello!", "text": "Hello!"},
    ]
    assert conversation(turns).unread == ("speaker", "text")
    thinks = [
        {"role": "user", "content": "Hi", "reasoning": "hm", "tool_calls": []},
        {"role": "assistant", "content": "Hello!"},
    ]
    assert conversation(thinks).unread == ("reasoning of the user's turns",)


@pytest.mark.parametrize("texts", [["Hi", "Hello!"], ["User: Hi", "Assistant: Hello!"], ["Human:Hi", "AI: Hello!"]])
def test_a_conversation_may_be_a_list_of_texts(texts):
    fields = {"conversation": texts}
    found = find_dialogues(list(fields), [Row("f", 1, fields)])
    assert found is not None and found.for_training(Row("f", 1, fields)).messages == (HI, HELLO)
