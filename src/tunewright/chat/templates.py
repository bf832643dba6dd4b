"""Conversation -> the text a model reads, by the tokenizer's chat template, a shipped one, or the user's own in Jinja.

    template = Template(named("chatml"))
    template.render(conversation)      "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello!<|im_end|>\\n"

Templates run in the sandbox that transformers uses, with the same settings, filters and functions, so that both render the same text, and
with a budget (`sandbox.py`): where a template does not end, or fails in any other way, the conversation is rejected.
`{% generation %}` blocks are rendered between two marks; `supervision.py` reads and removes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

from tunewright.chat.messages import DEVELOPER, SYSTEM, Conversation, Message, ToolCall, message_text
from tunewright.errors import RowError, UserError, quoted, suggestion
from tunewright.plugins import find, installed, known

GENERATION_BEGINS, GENERATION_ENDS = "\U0010fff0", "\U0010fff1"
_FOLDER = files("tunewright") / "chat" / "chat_templates"
_JINJA = ("{{", "{%")
_ENDLESS_HINT = "Fix its loops and macros, or choose another task.template."
_MOST_ENDLESS = 3
"""Conversations on which a template may use up its budget before it is given up."""
_MAX_REASON = 300
"""Characters shown of a template's error."""
_REASONING = ("reasoning", "thinking")
_NO_CONTENT = re.compile(r"""(?<!\w)content(?:["']\])? is (?:not )?none""")
"""How a template tests whether an answer has only calls and no text."""
_NO_TOKEN = re.compile(r"'\w+_token' is undefined")
_NO_TOKEN_HINT = "; name that token in the model's tokenizer_config.json, or choose another task.template"


@dataclass(frozen=True)
class Template:
    """source: Jinja. tokens: `bos_token`, `eos_token`, … of the tokenizer. kwargs: what the user passes to the template."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    _endless: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def render(self, conversation: Conversation, *, prompt: bool = False) -> str:
        """The conversation as text; prompt: followed by the beginning of the next answer. RowError where the template fails."""
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
            if len(self._endless) >= _MOST_ENDLESS:  # each took seconds, and so would the next rows
                raise UserError(self._endless[-1], where="task.template", hint=_ENDLESS_HINT) from None
            raise RowError(self._endless[-1]) from None
        except Exception as error:  # a template can raise anything
            raise RowError(_refusal(error)) from None

    def _values(self, message: Message) -> dict[str, Any]:
        """A turn as templates expect it; values that this template does not read are moved to where it reads them."""
        role = SYSTEM if message.role == DEVELOPER and DEVELOPER not in self.source else message.role
        values: dict[str, Any] = {"role": role, "content": message.content}
        if message.input:
            if self.knows_inputs:
                values["input"] = message.input
            else:
                values["content"] = message_text(message)
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
        """The keys under which this template reads reasoning."""
        others = [name for name in _REASONING if re.search(rf"""\.{name}\b|["']{name}["']""", self.source)]
        return ("reasoning_content", *others)

    @property
    def knows_inputs(self) -> bool:
        return ".input" in self.source

    def probed(self) -> str:
        """A question and its answer as text, after a system turn where the template requires one. RowError where it fails."""
        try:
            return self.render(_PROBE)
        except RowError as first:
            try:
                return self.render(replace(_PROBE, messages=(Message(SYSTEM, "s"), *_PROBE.messages)))
            except RowError:
                raise first from None

    def beginning_with(self, token: str) -> Template:
        """This template with `token` (`bos_token`) before its rendering, unless it writes that itself."""
        text = self.tokens.get(token)
        if not text or self.probed().startswith(text):
            return self
        return replace(self, source=f"{{{{- {token} }}}}{self.source}")

    def own_text(self) -> str:
        """The text that the template itself writes: its source, and short rendered conversations (which join `'<|' + role + '|>'`)."""
        texts = [self.source]
        for messages in (_PROBE.messages, (Message(SYSTEM, "s"), *_PROBE.messages)):
            try:
                texts.append(self.render(Conversation(messages)))
            except RowError:  # it may refuse a system turn
                continue
        return "\n".join(texts)


def _length(value: Any) -> int:
    """Approximate number of characters in a conversation's values."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return 8 * len(value) + sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, (list, tuple)) else 1


def _refusal(error: Exception) -> str:
    """Why a template does not render a conversation, in the template's own words where it gives some."""
    from jinja2 import TemplateError, TemplateSyntaxError

    reason = " ".join(str(error).split())[:_MAX_REASON]
    if isinstance(error, TemplateSyntaxError):
        return f"the template is not valid Jinja: {reason} (line {error.lineno})"
    if isinstance(error, TemplateError):
        return (
            f"the template rejects this conversation: {reason}{_NO_TOKEN_HINT if _NO_TOKEN.fullmatch(reason) else ''}"
        )
    if isinstance(error, RecursionError):
        reason = "a macro or a list is nested too deeply"
    return f"the template fails on this conversation: {type(error).__name__}{f' ({reason})' if reason else ''}"


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
    if name not in names() and known("templates", name):
        return str(find("templates", name).TEMPLATE)
    if name not in names():
        ours = [*names(), *installed("templates")]
        raise UserError(
            f"no template {name!r}", where="task.template", expected=f"{quoted(ours)}, or Jinja", hint=suggestion(name, ours),
        )  # fmt: skip
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def source_of(template: str) -> str:
    """A template's Jinja, of a shipped name or given as it is. UserError where it is not valid."""
    from jinja2 import TemplateSyntaxError

    source = template if any(sign in template for sign in _JINJA) else named(template)
    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        raise UserError(
            f"not valid Jinja ({error.message})", where=f"task.template, line {error.lineno}", hint="Fix that line."
        ) from None
    except Exception as error:  # nested too deeply, numbers too long, and whatever else the compiler cannot process
        raise UserError(f"not valid Jinja ({type(error).__name__}: {error!s:.200})", where="task.template") from None
    return source


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """`bos_token`, `eos_token` and so on, as templates use them."""
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
    """JSON that keeps `<` and `>`, unlike Jinja's own filter."""
    pair = (separators[0], separators[1]) if separators else None
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys)


def _today(form: str) -> str:
    """A fixed date for templates that write one: a token store must not depend on the day it is built."""
    from datetime import date

    return date(2025, 1, 1).strftime(form)


@lru_cache(maxsize=1)
def _generation() -> Any:
    """The extension for `{% generation %}`: it puts its block between two marks."""
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
