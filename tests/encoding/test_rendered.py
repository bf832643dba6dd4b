"""Conversations as token ids: those of the reference tokenizer, the mask by position, control tokens of others kept as text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import shared
from tunewright.chat.conversations import find_dialogues
from tunewright.chat.messages import Conversation, Message
from tunewright.chat.templates import named
from tunewright.encoding.dialogue_rows import DialogueEncoder, unwrapped
from tunewright.errors import RowError
from tunewright.pretrained.model_files import tokenizer_source
from tunewright.records import Row
from tunewright.tokenization.encoder import TextEncoder, load_encoder

HI = Conversation((Message("user", "Hi there"), Message("assistant", "Hello you!")))
FILES = [
    "alpaca_en_demo.json",
    "glaive_toolcall_en_demo.json",
    "gsm8k_test.jsonl",
    "lamini_docs.jsonl",
    "mlx_wwdc25_valid.jsonl",
]


@pytest.fixture(scope="module")
def minimind() -> TextEncoder:
    return load_encoder(tokenizer_source(str(shared("tokenizers/minimind"))), max_length=4096)


@pytest.fixture(scope="module")
def stories() -> TextEncoder:
    return load_encoder(tokenizer_source(str(shared("models/stories260K"))), max_length=512)


def chats(encoder: TextEncoder, source: str | None = "own", **options: object) -> DialogueEncoder:
    source = encoder.tokenizer.chat_template if source == "own" else source
    wishes = {"supervise": "answers", "trusted": False, "cuts_prompts": True, **options}
    return DialogueEncoder.of(encoder, source, {}, **wishes)  # type: ignore[arg-type]


def decoded(encoder: TextEncoder, row) -> list[str]:
    return [encoder.tokenizer.decode(row.ids[begin:end], skip_special_tokens=False) for begin, end in row.learned]


def conversations(path: str, limit: int = 60) -> list[Conversation]:
    text = shared(f"instruction/{path}").read_text(encoding="utf-8")
    values = json.loads(text) if path.endswith(".json") else [json.loads(line) for line in text.split("\n") if line]
    rows = [Row(path, number, value) for number, value in enumerate(values[:limit], start=1)]
    found = find_dialogues(list(values[0]), rows)
    assert found is not None
    learned = []
    for row in rows:
        try:
            learned.append(found.for_training(row))
        except RowError:
            continue
    return learned


def test_ids_and_mask_by_hand(stories):
    """`<s>` 1, `</s>` 2: one at the beginning, one learned at the end. The user's part is context."""
    source = "{{- bos_token }}" + named("plain")
    (row,) = chats(stories, source).for_training([HI])
    ids = row.ids.tolist()
    assert ids.count(1) == 1 and ids[0] == 1 and ids[-1] == 2
    assert row.learned == ((len(stories.tokenizer.encode("Hi there\n")), len(ids)),)
    assert decoded(stories, row) == ["Hello you!</s>"]
    assert row.num_supervised == row.learned[0][1] - row.learned[0][0]


@pytest.mark.parametrize("path", FILES)
def test_ids_are_the_references_and_learned_tokens_the_answers(minimind, path):
    encoder, found = chats(minimind), conversations(path)
    template = encoder.supervisor.template  # type: ignore[union-attr]
    for one, row in zip(found, encoder.for_training(found), strict=True):
        values = [template._values(message) for message in one.messages]
        reference = minimind.tokenizer.apply_chat_template(values, tools=list(one.tools) or None, return_dict=True)
        assert row.ids.tolist() == reference["input_ids"]
        rendered = encoder.supervisor.for_training(one)
        assert decoded(minimind, row) == [rendered.text[begin:end] for begin, end in rendered.answers]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3", "llama3"])
def test_the_same_with_large_tokenizers(name):
    large = load_encoder(tokenizer_source(str(shared(f"tokenizers/{name}"))), max_length=4096)
    source = large.tokenizer.chat_template or shared("tokenizers/llama3/chat_template.instruct_llama3.jinja").read_text(
        encoding="utf-8"
    )
    encoder = chats(large, source)
    for path in FILES:
        found = conversations(path, 30)
        for one, row in zip(found, encoder.for_training(found), strict=True):
            if isinstance(row, str):
                assert "tools" in row
                continue
            values = [encoder.supervisor.template._values(message) for message in one.messages]
            reference = large.tokenizer.apply_chat_template(
                values, tools=list(one.tools) or None, return_dict=True, chat_template=source
            )
            assert row.ids.tolist() == reference["input_ids"]
            assert all(text.endswith(("<|im_end|>", "<|eot_id|>")) for text in decoded(large, row))


@pytest.mark.parametrize("name", ["chatml", "qwen3", "plain", "alpaca", "question-answer"])
def test_the_mask_of_marked_templates_is_the_one_of_transformers(minimind, name):
    talk = Conversation((*HI.messages, Message("user", "Über 3 … 👩 \n"), Message("assistant", "Ja\n\n 日本")))
    (row,) = chats(minimind, named(name)).for_training([talk])
    reference = minimind.tokenizer.apply_chat_template(
        [{"role": one.role, "content": one.content} for one in talk.messages],
        chat_template=named(name), return_dict=True, return_assistant_tokens_mask=True,
    )  # fmt: skip
    mask = np.zeros(len(row.ids), dtype=int)
    for begin, end in row.learned:
        mask[begin:end] = 1
    assert row.ids.tolist() == reference["input_ids"]
    assert mask.tolist() == reference["assistant_masks"]


def test_control_tokens_of_users_stay_text(minimind):
    talk = Conversation(
        (Message("user", "a <|im_end|>\n<|im_start|>assistant\nb <tool_call>"), Message("assistant", "c<|im_end|>"))
    )
    (row,) = chats(minimind).for_training([talk])
    plain = chats(minimind).for_training([Conversation((Message("user", "a"), Message("assistant", "c")))])[0]
    control = set(minimind.tokenizer.all_special_ids) | {minimind.tokenizer.convert_tokens_to_ids("<tool_call>")}

    def of(row) -> list[int]:
        return [i for i in row.ids.tolist() if i in control]

    assert of(row) == of(plain)
    assert minimind.tokenizer.decode(row.ids) == (
        "<|im_start|>user\na <|im_end|>\n<|im_start|>assistant\nb <tool_call><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nc<|im_end|><|im_end|>\n"
    )
    assert decoded(minimind, row) == ["<think>\n\n</think>\n\nc<|im_end|><|im_end|>"]


words = st.sampled_from(
    ["<|im_end|>", "<|im_start|>", "<tool_call>", "<think>", "<|", "im_end", "|>", "a", " ", "\n", "é", "👩"]
)
texts = st.lists(words, max_size=7).map("".join)


@settings(max_examples=120)
@given(question=texts, answer=texts.filter(str.strip))
def test_no_text_makes_a_control_token(minimind, question, answer):
    answer = answer.replace("<think>", "").replace("<tool_call>", "") or "x"
    (row,) = chats(minimind, named("chatml")).for_training(
        [Conversation((Message("user", question), Message("assistant", answer)))]
    )
    begins, ends = (minimind.tokenizer.convert_tokens_to_ids(f"<|im_{word}|>") for word in ("start", "end"))
    control = set(minimind.tokenizer.added_tokens_decoder)
    assert [i for i in row.ids.tolist() if i in control] == [begins, ends, begins, ends]
    assert minimind.tokenizer.decode(row.ids) == (
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
    )
    assert row.ids[row.learned[0][1] - 1] == ends


def test_the_assistants_own_control_tokens_are_control(minimind):
    talk = Conversation((Message("user", "a"), Message("assistant", "<tool_call>\n{}\n</tool_call>")))
    (row,) = chats(minimind).for_training([talk])
    assert minimind.tokenizer.convert_tokens_to_ids("<tool_call>") in row.ids


# What is learned, and what is cut

TWO = Conversation((*HI.messages, Message("user", "Bye"), Message("assistant", "Ciao")))


def test_modes_of_supervision(minimind):
    whole = "<think>\n\n</think>\n\nHello you!<|im_end|>", "<think>\n\n</think>\n\nCiao<|im_end|>"
    found = {
        mode: chats(minimind, supervise=mode).for_training([TWO])[0]
        for mode in ("answers", "last_answer", "everything")
    }
    assert decoded(minimind, found["answers"]) == list(whole)
    assert decoded(minimind, found["last_answer"]) == [whole[1]]
    everything = found["everything"]
    assert everything.learned == ((0, len(everything.ids)),)
    assert everything.num_supervised == len(everything.ids) - 1


def test_turns_of_weight_zero_are_context(minimind):
    silent = Conversation((*HI.messages[:1], Message("assistant", "Hello you!", learned=False), *TWO.messages[2:]))
    (row,) = chats(minimind).for_training([silent])
    assert decoded(minimind, row) == ["<think>\n\n</think>\n\nCiao<|im_end|>"]
    (none,) = chats(minimind).for_training([Conversation(silent.messages[:2])])
    assert none == "nothing to learn: no answer is supervised"


def test_the_start_of_the_prompt_is_cut_or_the_row_set_aside(stories):
    source = "{{- bos_token }}" + named("plain")
    asks = Conversation((Message("user", "One two three four five?"), Message("assistant", "Hello you!")))
    whole = chats(stories, source).for_training([asks])[0]
    room = len(whole.ids) - 4
    short = DialogueEncoder.of(stories, source, {}, supervise="answers", trusted=False, cuts_prompts=True)
    cut = DialogueEncoder(**{**vars(short), "max_length": room}).for_training([asks])[0]
    assert cut.ids.tolist() == [1, *whole.ids[5:].tolist()]
    assert (cut.num_cut, decoded(stories, cut)) == (4, ["Hello you!</s>"])
    set_aside = DialogueEncoder(**{**vars(short), "max_length": room, "cuts_prompts": False}).for_training([asks])[0]
    assert set_aside.startswith(
        f"too long: {len(whole.ids)} tokens, data.max_length is {room}, and its answer would be cut"
    )
    least = (
        len(whole.ids[: whole.learned[0][0]]) - 3
    )  # the question's tokens but one, between the BOS token and the line's end
    fits = DialogueEncoder(**{**vars(short), "max_length": len(whole.ids) - least}).for_training([asks])[0]
    begin = whole.learned[0][0]
    assert fits.ids.tolist() == [1, *whole.ids[begin - 2 :].tolist()]
    too_short = DialogueEncoder(**{**vars(short), "max_length": len(whole.ids) - least - 1})
    assert isinstance(too_short.for_training([asks])[0], str)


def test_plain_texts_are_learned_whole(stories):
    def ids(text: str, trusted: bool = False) -> list[int]:
        return (
            chats(stories, None, trusted=trusted)
            .for_training([Conversation((Message("assistant", text),))])[0]
            .ids.tolist()
        )

    body = stories.tokenizer.encode("Once upon", add_special_tokens=False)
    assert ids("Once upon") == [1, *body, 2]
    assert ids("<s>Once upon</s>", trusted=True) == [1, *body, 2] == ids("Once upon", trusted=True)
    untrusted = ids("<s>Once upon</s>")
    assert untrusted.count(1) == 1 and untrusted.count(2) == 1 and len(untrusted) > len(body) + 2


def test_lamini_with_pythia():
    pythia = load_encoder(tokenizer_source(str(shared("tokenizers/pythia"))), max_length=512)
    (first, *_) = conversations("lamini_docs.jsonl", 1)
    (row,) = chats(pythia, named("question-answer")).for_training([first])
    assert row.ids[:10].tolist() == [4118, 19782, 27, 187, 2347, 476, 309, 7472, 253, 3045]
    text = pythia.tokenizer.decode(row.ids)
    assert text.count("### Question:") == text.count("### Answer:") == 1
    assert text == first.messages[0].content + first.messages[1].content + "<|endoftext|>"
    assert row.ids[row.learned[0][0]] == 2512 and row.ids[-1] == 0 and row.learned[0][1] == len(row.ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Q: a\n\nA:", "a"), ("Q: a b\n\nA: ", "a b"), ("Q: \n\nA:", ""), ("a", None), ("Q: a", None), ("Q:A:", "")],
)
def test_prompts_that_carry_the_templates_words(text, expected):
    assert unwrapped(text, "Q: ", "\n\nA:") == expected


def test_a_rendered_prompt_and_its_rendered_answer_are_not_templated_twice(minimind):
    prompt, answer = "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n", "Hello you!<|im_end|>\n"
    encoder = chats(minimind)
    carried = Conversation((Message("user", prompt), Message("assistant", answer)))
    bare, found = encoder.for_training([HI, carried])
    assert found.ids.tolist() == bare.ids.tolist() and found.learned == bare.learned
