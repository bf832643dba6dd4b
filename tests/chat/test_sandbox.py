"""Chat templates that would hang, grow without bound or fail: each refuses the conversation in its own words, none ends the program."""

from __future__ import annotations

import json
import time

import pytest

from tests.conftest import shared
from tunewright.chat import sandbox
from tunewright.chat.messages import Conversation, Message, ToolCall
from tunewright.chat.templates import Template, _compiled, named, names, source_of
from tunewright.errors import RowError, UserError

CHAT = Conversation((Message("user", "a"), Message("assistant", "b")))
ENDLESS = [
    "{% for i in range(99999) %}{% set x = [-99999999]|map('limit: step')|list %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}" + "x" * 9999 + "{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}" + "{% set a = b %}" * 999 + "{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% macro f() %}{% call m() %}{{ f() }}{% endcall %}{% endmacro %}{{ f() }}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% set n = namespace(x=1) %}{% set n.x = n %}{{ n }}",
    "{% set n = namespace(x=['a']) %}{% for i in range(99999) %}{% set n.x = n.x|map('upper') %}{% endfor %}{{ n.x|list }}",
    "{% set b = range(9999)|list %}{% for i in range(99999) %}{% set c = b|sort %}{% endfor %}",
    "{% set b = range(9999)|list %}{% for i in range(99999) %}{{ -1 in b }}{% endfor %}",
    "{% set b = range(9999)|list %}{% for i in range(99999) %}{% set c = b.index(9998) %}{% endfor %}",
    "{% set b = range(9999)|list %}{% for i in range(99999) %}{% set c = b|selectattr('x', 'defined')|list %}{% endfor %}",
    "{% set b = 'a' * 300000 %}{% for i in range(99999) %}{% set c = b[::-1] %}{% endfor %}",
    "{% set b = 'a' * 300000 %}{% for i in range(99999) %}{% set c = b.upper() %}{% endfor %}",
    "{% set b = 'a' * 300000 %}{% for i in range(99999) %}{% if 'z' in b %}{% endif %}{% endfor %}",
    "{{ ('a' * 999999).rfind('a' * 499999 ~ 'b') }}",
    "{{ ('a' * 999999).strip('b' * 999999) }}",
]
GROWING = [
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x OPERATOR n.x %}{% endfor %}{{ n.x }}".replace(
        "OPERATOR", operator
    )
    for operator in "+~"
] + [
    "{% set n = namespace(x=KIND) %}{% for i in range(60) %}{% set n.x = OPENn.x, n.xCLOSE %}{% endfor %}USE".replace(
        "KIND", kind
    ).replace("OPEN", kind[0]).replace("CLOSE", kind[-1]).replace("USE", use)
    for kind, use in (
        ("[1]", "{{ n.x }}"), ("[1]", "{{ n.x|tojson }}"), ("[1]", "{{ n.x|string }}"), ("[1]", "{{ n.x == [n.x] }}"),
        ("(1,)", "{{ {n.x: 1} }}"), ("(1,)", "{{ {'a': 1}[n.x] }}"), ("(1,)", "{{ {'a': 1}.get(n.x) }}"), ("(1,)", "{{ [n.x]|unique|list }}"),
    )
] + [
    "{{ 'a' * 10**9 }}", "{{ ([1] * 10**9)|length }}", "{{ 9 ** 999999 }}", "{{ (9 ** 999) ** 999 }}", "{{ 2.0 ** 99999 }}",
    "{{ 'x'|center(999999999) }}", "{{ 'x'.zfill(999999999) }}", "{{ '\t'.expandtabs(999999999) }}", "{{ ('\n' * 99999)|indent(9999) }}",
    "{{ [1]|batch(999999999, 'x')|list }}", "{{ [1]|slice(999999999)|list }}", "{{ 1|round(999999999, 'ceil') }}",
    "{{ '%999999999d' % 1 }}", "{{ '%*d' % (999999999, 1) }}", "{{ '%999999999d'|format(1) }}", "{{ '{:999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 999999999) }}", "{{ ['{:999999999}']|map('format', 1)|list }}{{ '{:999999999}'.format(1) }}",
    "{{ ('{0}' * 9999).format('a' * 99999) }}", "{{ ('%(a)s' * 9999) % {'a': 'b' * 99999} }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}", "{{ ('a' * 99999)|replace('a', 'b' * 99999) }}",
    "{{ ('b' * 99999).join(['a'] * 99999) }}", "{{ (['a'] * 99999)|join('b' * 99999) }}", "{{ [[1]]|tojson(indent=99999999) }}",
    "{{ (1).to_bytes(999999999, 'big') }}", "{{ ('a' * 99999).encode('punycode') }}",
    "{% set x %}{% for i in range(9999) %}" + "a" * 999 + "{% endfor %}{% endset %}{{ x }}{{ x }}{{ x }}",
]  # fmt: skip
FAILING = [
    ("{{ 1/0 }}", "ZeroDivisionError"), ("{{ 'a' + 1 }}", "TypeError"), ("{{ range(10**18) }}", "OverflowError"),
    ("{{ '%c' % 1114112 }}", "OverflowError"), ("{% include 'x' %}", "TypeError"), ("{{ raise_exception('no tools, please') }}", "no tools, please"),
    ("{{ lipsum.__globals__ }}", "lipsum"), ("{{ messages.append(1) }}", "unsafe"), ("{{ ''.__class__.__base__ }}", "unsafe"),
    ("{{ nothing.at.all }}", "undefined"), ("{% generation %}{{ 1/0 }}{% endgeneration %}", "ZeroDivisionError"),
]  # fmt: skip
NO_JINJA = [
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{% if 1 %}" * 300 + "{% endif %}" * 300, "{{ " + "9" * 5000 + " }}",
    "{% for i in [1] %}" * 60 + "{% endfor %}" * 60, "{{ " + "-" * 9000 + "1 }}", "{{ messages|nofilter }}", "{{ [1]|random }}", "{% if %}",
]  # fmt: skip


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_STEPS", 100_000)


@pytest.mark.usefixtures("small_budget")
@pytest.mark.parametrize("source", ENDLESS + GROWING)
def test_a_template_that_would_not_end_refuses_the_conversation(source: str) -> None:
    began = time.process_time()
    with pytest.raises(RowError, match="the template"):
        Template(source).render(CHAT)
    assert time.process_time() - began < 5


def test_the_whole_budget_is_spent_in_seconds() -> None:
    began = time.process_time()
    with pytest.raises(RowError, match="too many steps"):
        Template(ENDLESS[0]).render(CHAT)
    assert time.process_time() - began < 5


@pytest.mark.usefixtures("small_budget")
def test_a_template_that_never_ends_is_given_up_before_every_row_has_cost_seconds() -> None:
    template = Template(ENDLESS[0])
    for _ in range(2):
        with pytest.raises(RowError):
            template.render(CHAT)
    with pytest.raises(UserError, match="too many steps"):
        template.render(CHAT)


@pytest.mark.parametrize(("source", "said"), FAILING)
def test_any_error_in_a_template_is_the_templates(source: str, said: str) -> None:
    with pytest.raises(RowError, match=said):
        Template(source).render(CHAT)


@pytest.mark.parametrize("source", NO_JINJA)
def test_what_no_compiler_takes_is_no_valid_jinja(source: str) -> None:
    with pytest.raises(UserError, match="not valid Jinja"):
        source_of(source)
    with pytest.raises(RowError, match="the template"):  # one that comes with a model
        Template(source).render(CHAT)


def test_long_tool_conversations_are_within_the_budget() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 200, "parameters": {
        "type": "object", "properties": {f"p{n}": {"type": "string", "description": "x" * 50} for n in range(10)}}}}  # fmt: skip
    call = Message("assistant", "", tool_calls=(ToolCall("f", {"a": "b"}, "123456789"),))
    turns = [
        Message("user", "Which?"),
        call,
        Message("tool", '{"r": 1}', call_id="123456789"),
        Message("assistant", "That."),
    ]
    long = Conversation((Message("system", "You help."), *turns * 500), (tool,) * 200)
    for source in [named("qwen3"), named("chatml"), *_stock()]:
        Template(source).render(long)


def _stock() -> list[str]:
    folders = [shared(f"tokenizers/{name}") for name in ("qwen3", "minimind")]
    return [json.loads((one / "tokenizer_config.json").read_text())["chat_template"] if not (one / "chat_template.jinja").exists()
            else (one / "chat_template.jinja").read_text() for one in folders]  # fmt: skip


@pytest.mark.parametrize("name", names())
def test_templates_write_what_they_write_without_a_budget(name: str) -> None:
    """Compiled by Jinja's own sandbox, the shipped templates give the same texts."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    tokens = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "[SEP]", "cls_token": "[CLS]"}
    template = Template(named(name), tokens)
    ours = _compiled(template.source).environment
    own = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[*map(type, ours.extensions.values())]
    )
    own.filters["tojson"] = ours.filters["tojson"]
    own.globals |= ours.globals
    compiled = own.from_string(template.source)
    for text in ["a b", " x\n", "", "ß{{", "<|im_end|>", "### Response:"]:
        conversation = Conversation((Message("user", text), Message("assistant", text)) * 2)
        messages = [template._values(one) for one in conversation.messages]
        plain = compiled.render(messages=messages, tools=None, add_generation_prompt=False, **tokens)
        assert template.render(conversation) == plain
