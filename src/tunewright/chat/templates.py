"""Conversation -> the one text a model reads: the tokenizer's chat template, a named one, or one's own in Jinja.

    template = Template(named("chatml"))
    template.render(conversation)      "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello!<|im_end|>\\n"

Templates run in the sandbox that transformers uses, with its settings, filters and functions, so that both render the same, and on a
budget (`sandbox.py`): one that would not end, or fails in any other way, refuses the conversation.
`{% generation %}` blocks come out between two marks; `supervision.py` reads them and takes them away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

from tunewright.chat.messages import DEVELOPER, SYSTEM, Conversation, Message, ToolCall, said_in
from tunewright.errors import RowError, UserError, did_you_mean, quoted

GENERATION_BEGINS, GENERATION_ENDS = "\U0010fff0", "\U0010fff1"
_FOLDER = files("tunewright") / "chat" / "chat_templates"
_JINJA = ("{{", "{%")
_ENDLESS_MEND = "Mend its loops and macros, or take another task.template."
_MOST_ENDLESS = 3
"""Conversations on which a template may use up its budget before it is given up."""
_MOST_WORDS = 300
"""Characters shown of what a template says."""
_REASONING = ("reasoning", "thinking")
_NO_CONTENT = re.compile(r"""(?<!\w)content(?:["']\])? is (?:not )?none""")
"""How a template asks whether an answer says nothing beside its calls."""
_NO_TOKEN = re.compile(r"'\w+_token' is undefined")
_NO_TOKEN_MEND = "; name one in the model's tokenizer_config.json, or take another task.template"


@dataclass(frozen=True)
class Template:
    """source: Jinja. tokens: `bos_token`, `eos_token`, … of the tokenizer. kwargs: what the user hands to the template."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    _endless: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def render(self, conversation: Conversation, *, prompt: bool = False) -> str:
        """The conversation as text; prompt: with the beginning of the answer that is to come. RowError as the template says."""
        try:
            return self._rendered(conversation, prompt)
        except TypeError:  # templates that join strings want a call's arguments as JSON
            return self._rendered(_with_json_arguments(conversation), prompt)

    def _rendered(self, conversation: Conversation, prompt: bool) -> str:
        from tunewright.chat.sandbox import TooMuch, budget

        messages, tools = [self._values(message) for message in conversation.messages], list(conversation.tools)
        try:
            with budget(_length(messages) + _length(tools)):
                return _compiled(self.source).render(
                    messages=messages, tools=tools or None, documents=None, add_generation_prompt=prompt,
                    **{**self.tokens, **self.kwargs},
                )  # fmt: skip
        except TypeError as error:
            if any(not isinstance(call.arguments, str) for one in conversation.messages for call in one.tool_calls):
                raise
            raise RowError(_refusal(error)) from None
        except TooMuch as error:
            self._endless.append(_refusal(error))
            if len(self._endless) >= _MOST_ENDLESS:  # each took seconds: the next rows would too
                raise UserError(self._endless[-1], where="task.template", hint=_ENDLESS_MEND) from None
            raise RowError(self._endless[-1]) from None
        except Exception as error:  # whatever ends a template is the template's
            raise RowError(_refusal(error)) from None

    def _values(self, message: Message) -> dict[str, Any]:
        """A turn as templates expect it; what a template has no place for goes where it has one."""
        role = SYSTEM if message.role == DEVELOPER and DEVELOPER not in self.source else message.role
        values: dict[str, Any] = {"role": role, "content": message.content}
        if message.input:
            if self.knows_inputs:
                values["input"] = message.input
            else:
                values["content"] = said_in(message)
        if message.reasoning is not None:
            values |= dict.fromkeys(self._reasoning_keys, message.reasoning)
        if message.tool_calls:
            if not message.content.strip() and _NO_CONTENT.search(self.source):
                values["content"] = None
            values["tool_calls"] = [
                {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
                for one in message.tool_calls
            ]
        if message.name is not None:
            values["name"] = message.name
        if message.call_id is not None:
            values["tool_call_id"] = message.call_id
        return values

    @cached_property
    def _reasoning_keys(self) -> tuple[str, ...]:
        """Where this template looks for an answer's reasoning."""
        others = [name for name in _REASONING if re.search(rf"""\.{name}\b|["']{name}["']""", self.source)]
        return ("reasoning_content", *others)

    @property
    def knows_inputs(self) -> bool:
        return ".input" in self.source

    def probed(self) -> str:
        """A question and its answer as text, behind a system's turn where the template wants one. RowError as the template says."""
        try:
            return self.render(_PROBE)
        except RowError as first:
            try:
                return self.render(replace(_PROBE, messages=(Message(SYSTEM, "s"), *_PROBE.messages)))
            except RowError:
                raise first from None

    def beginning_with(self, token: str) -> Template:
        """This template, its rendering begun with `token` (`bos_token`) where it does not do that itself."""
        text = self.tokens.get(token)
        if not text or self.probed().startswith(text):
            return self
        return replace(self, source=f"{{{{- {token} }}}}{self.source}")

    def own_text(self) -> str:
        """What it writes by itself, as far as that is told: its source, and short conversations rendered (`'<|' + role + '|>'`)."""
        texts = [self.source]
        for messages in (_PROBE.messages, (Message(SYSTEM, "s"), *_PROBE.messages)):
            try:
                texts.append(self.render(Conversation(messages)))
            except RowError:  # it may refuse a turn of the system's
                continue
        return "\n".join(texts)


def _length(value: Any) -> int:
    """Characters in a conversation's values, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return 8 * len(value) + sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, (list, tuple)) else 1


def _refusal(error: Exception) -> str:
    """Why a template does not render a conversation, in its own words where it has some."""
    from jinja2 import TemplateError, TemplateSyntaxError

    told = " ".join(str(error).split())[:_MOST_WORDS]
    if isinstance(error, TemplateSyntaxError):
        return f"the template is no valid Jinja: {told} (line {error.lineno})"
    if isinstance(error, TemplateError):
        return f"the template refuses this conversation: {told}{_NO_TOKEN_MEND if _NO_TOKEN.fullmatch(told) else ''}"
    if isinstance(error, RecursionError):
        told = "a macro or a list in it goes too deep"
    return f"the template fails on this conversation: {type(error).__name__}{f' ({told})' if told else ''}"


_PROBE = Conversation((Message("user", "a"), Message("assistant", "b")))


def _with_json_arguments(conversation: Conversation) -> Conversation:
    def written(call: ToolCall) -> ToolCall:
        text = call.arguments if isinstance(call.arguments, str) else _to_json(call.arguments)
        return replace(call, arguments=text)

    messages = (replace(one, tool_calls=tuple(map(written, one.tool_calls))) for one in conversation.messages)
    return replace(conversation, messages=tuple(messages))


def names() -> list[str]:
    return sorted(path.name.removesuffix(".jinja") for path in _FOLDER.iterdir() if path.name.endswith(".jinja"))


def named(name: str) -> str:
    """The source of a shipped template. UserError that names the closest one."""
    if name not in names():
        near = did_you_mean(name, names())
        raise UserError(
            f"no template {name!r}", where="task.template", expected=f"{quoted(names())}, or Jinja",
            hint=f"Did you mean {near}?" if near else None,
        )  # fmt: skip
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def source_of(template: str) -> str:
    """A template's Jinja: of a name, or as it stands. UserError where it is no Jinja."""
    from jinja2 import TemplateSyntaxError

    source = template if any(sign in template for sign in _JINJA) else named(template)
    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        raise UserError(
            f"no valid Jinja ({error.message})", where=f"task.template, line {error.lineno}", hint="Mend that line."
        ) from None
    except Exception as error:  # nested too deep, numbers too long, and what else no compiler takes
        raise UserError(f"no valid Jinja ({type(error).__name__}: {error!s:.200})", where="task.template") from None
    return source


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """`bos_token`, `eos_token` and the like, as templates know them."""
    return {name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}


@lru_cache(maxsize=32)
def _compiled(source: str) -> Any:
    return _environment().from_string(source)


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols

    from tunewright.chat.sandbox import LimitedEnvironment, limited_filter

    environment = LimitedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_generation(), loopcontrols])

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment.filters["tojson"] = limited_filter("tojson", _to_json)
    environment.globals |= {"raise_exception": refuse, "strftime_now": _today}
    return environment


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    """JSON with `<` and `>` as they are, unlike Jinja's own filter."""
    pair = (separators[0], separators[1]) if separators else None
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys)


def _today(form: str) -> str:
    """Templates that write the date get a fixed one: a token store must not depend on the day it is made."""
    from datetime import date

    return date(2025, 1, 1).strftime(form)


@lru_cache(maxsize=1)
def _generation() -> Any:
    """The extension behind `{% generation %}`: its block between two marks."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

        def _marked(self, caller: Any) -> str:
            return f"{GENERATION_BEGINS}{caller()}{GENERATION_ENDS}"

    return Generation
