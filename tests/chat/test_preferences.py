"""Compared answers: every format becomes the same record, and both sides of a row are what supervised fine-tuning would make."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import shared
from tunewright.chat.messages import ASSISTANT
from tunewright.chat.preference_columns import find_preferences, winner_of
from tunewright.chat.preferences import parse_comparison, parse_prompt
from tunewright.cli.chat import talk
from tunewright.encoding.pair_rows import mismatched, sides_of
from tunewright.errors import RowError, RowSkipped, UserError
from tunewright.generation.generate import Sampling
from tunewright.metrics.preference import area_under_curve, kl_estimate, length_warning, pair_scores, rank_correlation
from tunewright.records import Row

USER_HI, BOT_A, BOT_B = ({"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "a"), ("assistant", "b")))


def read(fields: dict):
    row = Row("x.jsonl", 1, fields)
    columns = find_preferences(list(fields), [row])
    return None if columns is None else parse_comparison(row, columns)


def told(fields: dict) -> list[tuple[str, str, str]]:
    """(prompt, chosen, rejected) of each pair; several turns joined."""

    def joined(side, learned):
        return "|".join(one.content for one in side.messages if (one.role == ASSISTANT and one.learned) == learned)

    return [(joined(one.chosen, False), *(joined(side, True) for side in one.sides)) for one in read(fields)]


FORMATS = {
    "strings": {"prompt": "Hi", "chosen": "a", "rejected": "b"},
    "lists": {"prompt": [USER_HI], "chosen": [BOT_A], "rejected": [BOT_B]},
    "prompt and whole conversations": {"prompt": "Hi", "chosen": [USER_HI, BOT_A], "rejected": [USER_HI, BOT_B]},
    "implicit prompt, lists": {"chosen": [USER_HI, BOT_A], "rejected": [USER_HI, BOT_B]},
    "implicit prompt, transcripts": {
        "chosen": "\n\nHuman: Hi\n\nAssistant: a", "rejected": "\n\nHuman: Hi\n\nAssistant: b",
    },
    "implicit prompt, lines": {"chosen": "Hi\na", "rejected": "Hi\nb"},
    "implicit prompt, words": {"chosen": "Hi a", "rejected": "Hi b"},
    "alpaca with output": {"instruction": "Hi", "input": "", "output": "a", "rejected": "b"},
    "sharegpt with turns": {
        "conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    "JSON in a table": {"prompt": json.dumps([USER_HI]), "chosen": json.dumps([BOT_A]), "rejected": json.dumps([BOT_B])},
    "scores": {"prompt": "Hi", "responses": ["b", "a"], "scores": [0.1, 0.9]},
    "ranks": {"prompt": "Hi", "answers": ["b", "a"], "ranks": [2, 1]},
    "scores inside": {"instruction": "Hi", "completions": [{"response": "a", "overall_score": 4}, {"response": "b", "overall_score": 1}]},
    "numbered columns": {"prompt": "Hi", "response_0": "b", "score_0": 1, "response_1": "a", "score_1": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_one_record(name):
    assert told(FORMATS[name]) == [("Hi", "a", "b")]


def test_the_best_answer_stands_against_each_that_scores_less():
    fields = {"prompt": "Hi", "responses": ["a", "b", "c", "d"], "ratings": [2, 4, 4, 1]}
    assert told(fields) == [("Hi", "b", "a"), ("Hi", "b", "d")]


@pytest.mark.parametrize(
    ("fields", "better"),
    [
        ({"prompt": "Hi", "response_a": "a", "response_b": "b", "winner": "model_b"}, "b"),
        ({"prompt": "Hi", "response_a": "a", "response_b": "b", "preference": "A"}, "a"),
        ({"prompt": "Hi", "response_0": "a", "response_1": "b", "better_response_id": 1, "safer_response_id": 0}, "b"),
        ({"question": "Hi", "answer1": "a", "answer2": "b", "choice": "1.0"}, "a"),
        ({"prompt": "Hi", "output_1": "a", "output_2": "b", "better": "output_2"}, "b"),
        ({"history": "Hi", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}, "a"),
        (
            {
                "conversation_a": [USER_HI, BOT_A],
                "conversation_b": [USER_HI, BOT_B],
                "model_a": "x",
                "winner": "model_a",
            },
            "a",
        ),
        (
            {
                "prompt": "Hi",
                "response_a": "a",
                "response_b": "b",
                "winner_model_a": 0,
                "winner_model_b": 1,
                "winner_tie": 0,
            },
            "b",
        ),
    ],
)
def test_a_column_says_which_of_two_answers_won(fields, better):
    assert told(fields) == [("Hi", better, "ab".replace(better, ""))]


def test_ties_are_left_out_and_other_words_are_no_judgement():
    fields = {"prompt": "Hi", "response_a": "a", "response_b": "b", "winner": "tie (bothbad)"}
    with pytest.raises(RowSkipped, match="a tie"):
        read(fields)
    assert find_preferences(list(fields), [Row("x", 1, {**fields, "winner": "left"})]) is None
    assert (
        find_preferences(
            ["answer_a", "answer_b", "label"], [Row("x", 1, {"answer_a": "a", "answer_b": "b", "label": "a"})]
        )
        is None
    )
    with pytest.raises(RowError, match="the judgement is 'left', expected one of"):
        winner_of(("response_a", "response_b"), "left")
    for missing in (None, "", " "):
        with pytest.raises(RowError, match="the judgement is missing"):
            winner_of(("response_a", "response_b"), missing)


@pytest.mark.parametrize("word", ["vicuna", "llama", "alpaca", "na", "lamb"])
def test_words_that_only_end_so_name_no_answer(word):
    with pytest.raises(RowError, match="expected one of"):
        winner_of(("response_a", "response_b"), word)
    with pytest.raises(RowError, match="expected one of"):
        winner_of(("response_1", "response_2"), "gpt2")


def test_the_judgement_that_the_config_names_is_taken():
    fields = {"prompt": "Hi", "response_a": "a", "response_b": "b", "winner": "a", "verdict": "b"}
    row = Row("x.jsonl", 1, fields)
    columns = find_preferences(list(fields), [row], label="verdict")
    assert columns.winner == "verdict" and parse_comparison(row, columns)[0].chosen.messages[-1].content == "b"


def test_only_turns_behind_the_common_beginning_are_learned():
    begins = [USER_HI, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "And?"}]
    [pair] = read({"chosen": [*begins, BOT_A], "rejected": [*begins, BOT_B]})
    assert [one.learned for one in pair.chosen.messages if one.role == ASSISTANT] == [False, True]
    assert pair.chosen.messages[:3] == pair.rejected.messages[:3]


@pytest.mark.parametrize("prompt", [{}, {"prompt": "Hi"}, {"prompt": None}])
def test_conversations_that_the_assistant_begins_are_compared_by_their_last_answers(prompt):
    begins = [{"role": "assistant", "content": "Ahoy!"}, USER_HI]
    [pair] = read({**prompt, "chosen": [*begins, BOT_A], "rejected": [*begins, BOT_B]})
    assert [(one.content, one.learned) for one in pair.chosen.messages if one.role == ASSISTANT] == [
        ("Ahoy!", False),
        ("a", True),
    ]
    assert [one.content for one in pair.rejected.messages] == ["Ahoy!", "Hi", "b"]
    [one] = read({"prompt": "Hi", "completion": [*begins, BOT_A], "label": True})
    assert [(one.content, one.learned) for one in one.chosen.messages[::2]] == [("Ahoy!", False), ("a", True)]


def test_a_judged_conversation_keeps_what_stands_before_it_and_answers_its_rows_own_prompt():
    [one] = read({"prompt": "Hi", "system": "Be.", "completion": [USER_HI, BOT_A, USER_HI], "label": True})
    assert [(one.content, one.learned) for one in one.chosen.messages] == [("Be.", False), ("Hi", False), ("a", True)]
    with pytest.raises(RowError, match="the answers belong to a different prompt"):
        read({"prompt": "Yo", "completion": [USER_HI, BOT_A], "label": True})
    with pytest.raises(RowError, match="no answer"):
        read({"prompt": "Hi", "system": "Be.", "completion": [USER_HI], "label": True})


@pytest.mark.parametrize("turn", [{"speaker": "assistant", "text": "a"}, {"sender": "bot", "content": "a"}, ["a"]])
def test_sides_may_spell_who_speaks_otherwise(turn):
    assert told({"prompt": "Hi", "chosen": turn, "rejected": "b"}) == [("Hi", "a", "b")]
    assert told({"prompt": ["u1", "a1", "Hi"], "chosen": turn, "rejected": "b"}) == [("u1|a1|Hi", "a", "b")]


@pytest.mark.parametrize(("label", "good"), [(True, True), (False, False), (1, True), ("false", False), ("good", True)])
def test_single_answers_are_judged(label, good):
    for fields in ({"prompt": "Hi", "completion": "a", "label": label}, {"messages": [USER_HI, BOT_A], "label": label}):
        [one] = read(fields)
        assert (one.good, one.rejected, one.chosen.messages[-1].content) == (good, None, "a")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": "Hi", "chosen": "a", "rejected": "a "}, "chosen and rejected are equal"),
        ({"prompt": "Hi", "chosen": "a", "rejected": None}, "rejected: missing"),
        ({"prompt": "Hi", "chosen": " ", "rejected": "b"}, "chosen: empty"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "no prompt: no column of prompts, and chosen and rejected begin differently"),
        ({"chosen": [USER_HI, BOT_A], "rejected": [{"role": "user", "content": "Yo"}, BOT_B]}, "chosen and rejected have different prompts"),
        ({"prompt": "Yo", "chosen": [USER_HI, BOT_A], "rejected": [USER_HI, BOT_B]}, "the answers belong to a different prompt than the row's"),
        ({"prompt": "Hi", "responses": ["a", "b"], "scores": [1, 1]}, "no answer scores below the others"),
        ({"prompt": "Hi", "responses": ["a", "b"], "scores": [1]}, "2 answers, 1 scores"),
        ({"prompt": "Hi", "responses": ["a", "b"], "scores": [1, "x"]}, "the score of answer 2 is 'x', expected a number"),
    ],
)  # fmt: skip
def test_rows_that_compare_nothing_say_why(fields, reason):
    with pytest.raises(RowError) as error:
        read(fields)
    assert error.value.reason == reason


def test_the_prompt_alone_is_what_a_model_is_asked():
    for fields in FORMATS.values():
        row = Row("x", 1, fields)
        assert parse_prompt(row, find_preferences(list(fields), [row])).messages[-1].content == "Hi"


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_an_implicit_prompt_loses_nothing_but_white_space(begins, one, other):
    try:
        [(prompt, chosen, rejected)] = told({"chosen": begins + one, "rejected": begins + other})
    except RowError:
        return
    assert "".join((prompt + chosen).split()) == "".join((begins + one).split())
    assert "".join((prompt + rejected).split()) == "".join((begins + other).split())


@pytest.mark.parametrize(
    ("file", "kept", "rejected"),
    [
        ("dpo_en_demo.json", 300, 0),
        ("kto_en_demo.json", 300, 0),
        ("politeness_1100.json", 1094, 6),
        ("politeness_1100.jsonl", 1094, 6),
    ],
)
def test_real_files_are_read_whole(file, kept, rejected):
    text = shared(f"preference/{file}").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line] if file.endswith("l") else json.loads(text)
    columns = find_preferences(list(rows[0]), [Row(file, 1, row) for row in rows[:20]])
    reasons = []
    for number, fields in enumerate(rows):
        try:
            parse_comparison(Row(file, number, fields), columns)
        except RowError as error:
            reasons.append(error.reason)
    assert (len(rows) - len(reasons), reasons) == (kept, ["chosen and rejected are equal"] * rejected)


# Tokens


def test_sides_of_a_stored_row():
    ids = np.arange(10, 19)
    first, second = sides_of(ids, 5, np.array([3, 5, 7, 9]))
    assert first[0].tolist() == [10, 11, 12, 13, 14] and first[1].tolist() == [False, False, False, True, True]
    assert second[0].tolist() == [15, 16, 17, 18] and second[1].tolist() == [False, False, True, True]
    [alone] = sides_of(ids, 9, np.array([0, 9]))
    assert alone[1].tolist() == [False] + [True] * 8, "a first token is never predicted"


def test_a_mismatched_answer_follows_another_prompt():
    [one], [other] = (
        list(sides_of(np.array(ids), len(ids), np.array([2, len(ids)]))) for ids in ([1, 2, 3], [4, 5, 6, 7])
    )
    ids, learned = mismatched(one, other, max_length=8)
    assert (ids.tolist(), learned.tolist()) == ([1, 2, 6, 7], [False, False, True, True])
    assert mismatched(one, other, max_length=3)[0].tolist() == [2, 6, 7]


# Scores, by hand


def test_scores_by_hand():
    rewards, lengths = np.array([[1.0, 0.2], [-0.5, 0.1]]), np.array([[4.0, 2.0], [6.0, 2.0]])
    scores = pair_scores(rewards, lengths, ratios_R2=np.zeros((2, 2)))
    assert scores["pair_accuracy"] == 0.5 and scores["margin"] == pytest.approx(0.1) and scores["kl"] == 0.0
    assert (scores["length_chosen"], scores["length_rejected"], scores["length_correlation"]) == (
        5.0,
        2.0,
        pytest.approx(-1.0),
    )
    assert "shorter answers are rewarded" in length_warning(scores)
    assert kl_estimate(np.array([2.0]), np.array([2.0])) == 0.5  # r = 1
    assert area_under_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    assert area_under_curve(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([5.0, 5, 5])) == 0.0


def test_length_normalization_is_advised_where_sums_are_compared():
    from tunewright.chat.conversations import Dialogues
    from tunewright.chat.preference_columns import Preferences
    from tunewright.losses.objective import Objective
    from tunewright.tasks import preference, reward, sft

    parts = Preferences("pairs", "prompt", "chosen", "rejected"), sft.Task(Dialogues("pair", "prompt", "chosen"))

    def hint(loss, **numbers):
        return preference.Task(*parts, objective=Objective.of(loss, **numbers)).length_hint

    assert "task.length_normalized: true" in hint("dpo") and "task.length_normalized: true" in hint("kto")
    assert not any((hint("dpo", length_normalized=True), hint("simpo"), reward.Task(*parts).length_hint))


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(rows):
    scores, good = np.array([score for score, _ in rows], float), np.array([yes for _, yes in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[good] for b in scores[~good]]
    assert area_under_curve(scores, good) == pytest.approx(np.mean(pairs) if pairs else 0.5)


# The store


@pytest.fixture
def values(tmp_path):
    rows = [
        json.loads(line) for line in shared("preference/politeness_1100.jsonl").read_text().split("\n")[:60] if line
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": "preference", "model": str(shared("models/stories260K")), "data": {"train": str(tmp_path / "data.jsonl")},
        "train": {"epochs": 1, "precision": "fp32", "max_steps": 2}, "evaluate": {"baselines": False},
        "output": str(tmp_path / "run"),
    }  # fmt: skip


def test_both_sides_are_what_supervised_fine_tuning_makes(values, tmp_path):
    """The same ids and the same learned tokens; too long ones lose the same number of prompt tokens on both sides."""
    from tunewright.config.load import parse_config
    from tunewright.preparation import prepare

    sides = {}
    for name in ("chosen", "rejected"):
        rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().split("\n") if line]
        rows = [{"prompt": row["prompt"], "completion": row[name]} for row in rows if row["chosen"] != row["rejected"]]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = {"train": str(tmp_path / f"{name}.jsonl"), "validation_ratio": 0, "test_ratio": 0}
        sides[name] = prepare(parse_config({**values, "task": "sft", "data": data})).store["train"]
    for max_length in (512, 96):
        data = {
            **values["data"],
            "validation_ratio": 0,
            "test_ratio": 0,
            "on_bad_rows": "skip",
            "max_length": max_length,
        }
        pairs = prepare(parse_config({**values, "data": data})).store["train"]
        for position, (second, spans) in enumerate(
            zip(pairs.array("second"), pairs.lists("learned", range(len(pairs))), strict=True)
        ):
            found = list(sides_of(pairs.input_ids(position), int(second), spans))
            cut = int(pairs.num_cut[position]) // 2
            for (ids, inside), store in zip(found, sides.values(), strict=True):
                row = position if max_length == 512 else int(np.flatnonzero(sides["chosen"].array("line") >= 0)[0])
                if max_length == 512:
                    learned = store.lists("learned", [row])[0]
                    assert ids.tolist() == store.input_ids(row).tolist()
                    assert np.flatnonzero(inside).tolist() == list(range(learned[0], learned[1]))
                assert len(ids) <= max_length
            if max_length == 96 and cut:
                begins = [int(np.argmax(inside)) for _, inside in found]
                assert found[0][0][: begins[0]].tolist() == found[1][0][: begins[1]].tolist()


def test_the_reference_is_computed_once_and_equals_the_start_model(values):
    from tunewright.config.load import parse_config
    from tunewright.runs.setup import build_components

    said: list[str] = []
    values["data"]["on_bad_rows"] = "skip"
    first = build_components(parse_config(values), say=said.append)
    again = build_components(parse_config({**values, "task": {"name": "preference", "loss": "ipo"}}), say=said.append)
    assert sum("log-probabilities" in line for line in said) == 1
    for name, of_split in first.task.reference.items():
        assert np.array_equal(of_split, again.task.reference[name])
    from tunewright.evaluation.score_split import evaluate_split

    scores = evaluate_split(
        first.model, first.task, first.prepared.store["train"], first.encoder, execution=first.execution
    )
    assert scores.metrics["loss"] == pytest.approx(np.log(2), abs=1e-4), "nothing has moved yet"
    assert scores.metrics["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("dropout", "moved"), [("auto", False), ("off", False), ("row_keyed", True)])
def test_before_anything_is_learned_the_model_is_its_reference(values, tmp_path, dropout, moved):
    """A GPT-2 drops out a tenth; between a model and its reference nothing but what it learned may stand."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from tunewright.config.load import parse_config
    from tunewright.runs.setup import build_components
    from tunewright.training.engine import training_steps

    values["data"]["on_bad_rows"] = "skip"
    tokenizer = AutoTokenizer.from_pretrained(values["model"])
    tokenizer.save_pretrained(tmp_path / "gpt")
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4)).save_pretrained(
        tmp_path / "gpt"
    )
    values["model"] = str(tmp_path / "gpt")
    values["train"]["dropout"] = dropout
    parts = build_components(parse_config(values))
    steps = training_steps(
        parts.model, parts.task, parts.rows, parts.encoder, parts.plan, parts.optimizer, execution=parts.execution
    )
    first = next(steps)
    assert (abs(first.loss - np.log(2)) > 1e-4) == moved
    assert parts.model.config.attn_pdrop == 0.1, "what is saved keeps its own"


def test_an_adapters_reference_is_the_model_it_is_put_on(values):
    from tunewright.config.load import parse_config
    from tunewright.runs.setup import build_components

    values["data"]["on_bad_rows"] = "skip"
    plain = build_components(parse_config(values))
    lora = build_components(parse_config({**values, "adapter": {"name": "lora", "rank": 4}}))
    prefix = build_components(parse_config({**values, "adapter": {"name": "prefix", "num_tokens": 4}}))
    for other in (lora, prefix):
        assert np.allclose(plain.task.reference["train"], other.task.reference["train"], atol=1e-3)


def test_a_trained_run_is_scored_on_other_rows(values, tmp_path):
    import tunewright as tw

    values["data"]["on_bad_rows"] = "skip"
    run = tw.train(values)
    again = tw.evaluate(run, precision="fp32")
    assert again["metrics"]["loss"] == pytest.approx(run.scores["test"]["metrics"]["loss"], abs=1e-5)
    other = tw.evaluate(run, str(tmp_path / "data.jsonl"), skip_bad_rows=True, precision="fp32")
    assert other["metrics"]["loss"] < np.log(2) and other["rows"] == 60 - other["ledger"]["rejected"]
    model = tw.load(run).writing(Sampling(max_new_tokens=4, temperature=0))
    assert model.predict(["Convert 45 kilometers to meters."])[0].text is not None
    assert "".join(talk(model, iter(["Hi", "/new", "Hi"]))).endswith("\n")


def test_single_answers_need_kto(values, tmp_path):
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "Hi", "completion": "a", "label": True}) + "\n")
    from tunewright.config.load import parse_config
    from tunewright.preparation import open_inputs

    with pytest.raises(UserError, match=r"task\.loss: dpo compares two answers.*Set task\.loss: kto"):
        open_inputs(parse_config({**values, "task": {"name": "preference", "loss": "dpo"}}))
    with pytest.raises(UserError, match="task: reward"):
        parse_config({**values, "task": {"name": "preference", "loss": "reward"}})


def test_a_damaged_reference_is_not_taken(tmp_path):
    from tunewright.training.reference import _read, _write

    path, found = tmp_path / "reference.safetensors", {"train": np.array([[1.0, 2.0], [3.0, 4.0]])}
    _write(path, found)
    assert np.array_equal(_read(path, {"train": 2})["train"], found["train"])
    assert _read(path, {"train": 3}) is None and _read(tmp_path / "none", {"train": 2}) is None
    data = path.read_bytes()
    for damaged in (data[:-1] + bytes([data[-1] ^ 1]), data[:-8], b""):
        path.write_bytes(damaged)
        assert _read(path, {"train": 2}) is None


@pytest.mark.parametrize(
    ("fields", "claimed"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, True),
        ({"prompt": "a", "completion": "b", "label": True}, True),
        ({"question": "a", "answer": "b", "label": 1}, False),  # as well pairs of texts to classify
        ({"text": "a", "label": "true"}, False),
        ({"prompt": "a", "completion": "b", "label": None}, False),
        ({"prompt": "a", "completion": "b", "label": "billing"}, False),
        ({"question": "a", "answer": "b"}, False),
    ],
)
def test_which_columns_are_taken_for_compared_answers(fields, claimed):
    from types import SimpleNamespace

    from tunewright.tasks import preference, reward

    config = SimpleNamespace(data=SimpleNamespace(pair=None, text=None, label=None))
    rows = [Row("x", 1, fields)]
    assert bool(preference.Task.matches(config, list(fields), rows)) == claimed
    assert not reward.Task.matches(config, list(fields), rows), "a reward model is asked for by name"


def test_a_reward_model_prefers_what_it_was_taught(values):
    import tunewright as tw

    values["data"]["on_bad_rows"] = "skip"
    run = tw.train({**values, "task": "reward", "train": {**values["train"], "max_steps": 1}})
    model = tw.load(run, precision="fp32")
    rewards = [model.predict([("What is 2 + 2?", answer)])[0].score for answer in ("It is 4.", "It is 5, stupid.")]
    both = model.predict([("What is 2 + 2?", "It is 4."), ("What is 2 + 2?", "It is 5, stupid.")])
    assert [one.score for one in both] == pytest.approx(rewards, abs=1e-6) and rewards[0] != rewards[1]
    assert both[0].as_dict() == {"text": "It is 4.", "score": both[0].score}


S, EARLIER, ANSWERED = ({"role": r, "content": c} for r, c in (("system", "Be."), ("user", "u1"), ("assistant", "a1")))


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt": [S, EARLIER, ANSWERED, USER_HI], "chosen": [USER_HI, BOT_A], "rejected": [USER_HI, BOT_B]}, "Be.|u1|a1|Hi"),
        ({"system": "Be.", "chosen": [USER_HI, BOT_A], "rejected": [USER_HI, BOT_B]}, "Be.|Hi"),
        ({"system_prompt": "Be.", "question": "Hi", "chosen": "a", "rejected": "b"}, "Be.|Hi"),
        ({"prompt": "\n\nHuman: Hi \n\nAssistant: ", "answers": [{"answer": "b", "rank": 2.0}, {"answer": "a", "rank": 1.0}]}, "Hi"),
    ],
)  # fmt: skip
def test_turns_before_the_answers_are_whole(fields, prompt):
    assert told(fields) == [(prompt, "a", "b")]


def test_earlier_turns_that_the_answers_do_not_know_are_refused():
    other = [{"role": "user", "content": "u2"}, {"role": "assistant", "content": "a2"}, USER_HI]
    with pytest.raises(RowError, match="earlier turns of the prompt"):
        read({"prompt": [EARLIER, ANSWERED, USER_HI], "chosen": [*other, BOT_A], "rejected": [*other, BOT_B]})


@pytest.mark.parametrize("label", [1.0, "1.0", "positive", True])
def test_judgements_however_they_are_written(label):
    assert read({"prompt": "Hi", "completion": "a", "label": label})[0].good


def test_a_system_text_beside_judged_messages_is_read():
    (found,) = read({"messages": [USER_HI, BOT_A], "label": True, "system": "Be."})
    assert [one.content for one in found.chosen.messages] == ["Be.", "Hi", "a"]


def test_an_encoder_reads_prompt_and_answer_as_a_pair_of_texts(tiny_bert, tmp_path):
    from transformers import AutoTokenizer

    from tests.conftest import messages, write_jsonl
    from tunewright.config.load import parse_config
    from tunewright.preparation import prepare

    texts = [row["text"][:40].strip() for row in messages(30)]
    rows = [
        {"prompt": p, "chosen": a, "rejected": b} for p, a, b in zip(texts[:10], texts[10:20], texts[20:], strict=True)
    ]
    write_jsonl(tmp_path / "data.jsonl", rows)
    data = {"train": str(tmp_path / "data.jsonl"), "test_ratio": 0, "validation_ratio": 0}
    values = {"task": "reward", "model": str(tiny_bert), "data": data, "output": str(tmp_path / "run")}
    split, tokenizer = prepare(parse_config(values)).store["train"], AutoTokenizer.from_pretrained(tiny_bert)
    found = [
        tuple(ids.tolist())
        for position, learned in enumerate(split.lists("learned", range(len(split))))
        for ids, _ in sides_of(split.input_ids(position), int(split.array("second")[position]), learned)
    ]
    expected = [
        tuple(tokenizer(row["prompt"], row[side])["input_ids"]) for row in rows for side in ("chosen", "rejected")
    ]
    assert sorted(found) == sorted(expected)


def test_unknown_keys_of_compared_turns_are_named_and_make_no_two_rows_of_one():
    row = {"prompt": [{"role": "user", "content": "q", "mood": 1}], "chosen": [{"role": "assistant", "content": "a", "tone": "x"}],
           "rejected": [{"role": "assistant", "content": "b", "rank": 2}]}  # fmt: skip
    columns = find_preferences(list(row), [Row("a.jsonl", 1, row)])
    assert parse_comparison(Row("a.jsonl", 1, row), columns)[0].chosen.unread == ("mood", "rank", "tone")
