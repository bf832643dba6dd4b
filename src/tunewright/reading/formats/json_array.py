"""JSON -> Row: the objects of one list, streamed element by element.

    [{"text": "Fine."}, {"text": "Poor."}]                      Row('a.json', 1, {'text': 'Fine.'}), Row('a.json', 2, …
    {"version": 1, "data": [{"text": "Fine."}]}                 the one list of objects inside is read, and noted
    [["Ulm", {"entities": [[0, 3, "LOC"]]}]]                     spaCy's pairs: Row('a.json', 1, {'text': 'Ulm', 'entities': …

`Row.line` is the line on which an element begins; where the first two share one, it is the number of the element, and noted.
A `.json` file that holds one object per line is handed to the JSONL reader, and noted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path

from tunewright.errors import RowError, UserError
from tunewright.reading.encodings import encoding_hint
from tunewright.reading.files import TextFile, empty, too_large
from tunewright.reading.formats import jsonl
from tunewright.reading.json_values import StrictJson, is_json_object, unparsable
from tunewright.reading.json_window import Window
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import MAX_RAW, Source
from tunewright.records import Reject, Row

_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT_AND_OBJECT = re.compile(
    r'\[\s*"(?:[^"\\]|\\.)*+"\s*,\s*\{\s*(?:\}|"(?:entities|cats|spans|links|tokens|heads|deps|tags)")'
)
_FIRST_ELEMENT = 2**20
_LOOKED_AT = 1_000
"""Characters examined; the text of a first element may take half of them."""
FORMATS = {"json": (".json",)}
READS_KEYS = {"format", "encoding"}
_MEND = (
    'Write a list of objects, [{"text": …, "label": …}, …], or one object per line as .jsonl '
    '(pandas: df.to_json("data.jsonl", orient="records", lines=True)).'
)


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file and for one that holds no list of objects."""
    file = TextFile(path, name, options)
    with file.stream() as stream:
        first = Window(*stream).peek()
    if not first:
        raise empty(name)
    if first == "{" and _one_object_a_line(file):
        source = jsonl.make_source(path, name, "jsonl", options)
        source.notes.append("it holds one object per line: read as jsonl")
        return source
    with file.stream() as stream:
        window = Window(*stream)
        key = _enter_list(window, name)
        share_lines = _share_a_line(window)
    notes = [] if key is None else [f"the rows are the list under {key!r}"]
    if share_lines:
        notes.append(f"objects share lines, so {name}:37 means the 37th object")
    return Source(name, format, lambda _: _numbered(_rows(file), share_lines), notes=notes, paths=(path,))


def _share_a_line(window: Window) -> bool:
    """Within the list: whether its first two elements begin on one line."""
    if window.peek() in ("]", ""):
        return False
    first = window.line()
    window.skip_value()
    if window.peek() != ",":
        return False
    window.at += 1
    return window.peek() != "" and window.line() == first


def _numbered(rows: Iterator[Row | Reject], by_element: bool) -> Iterator[Row | Reject]:
    if not by_element:
        yield from rows
        return
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Row):
            yield Row(row.source, number, row.fields)
        else:
            yield Reject(row.source, number, row.reason, row.raw)


def _one_object_a_line(file: TextFile) -> bool:
    """Whether a file that begins with an object has two lines or more, the first or second of which is a whole object."""
    sample, _ = file.first_lines(100)
    lines = [text for _, text, fault in sample if fault is None and text.strip()]
    return len(lines) > 1 and any(is_json_object(text) for text in lines[:2])


def _enter_list(window: Window, name: str) -> str | None:
    """Moves past the `[` of the list of rows; returns its key, None at the top level."""
    first = window.peek()
    if first == "[":
        window.at += 1
        return None
    if first != "{":
        raise UserError("no list of objects", where=name, found=f"a file that begins with {first!r}", hint=_MEND)
    window.at += 1
    key = _next_list(window, name)
    if key is None:
        raise UserError("no list of objects", where=name, found="one object without such a list inside", hint=_MEND)
    return key


def _next_list(window: Window, name: str) -> str | None:
    """Within an object: moves past the `[` of its next list of objects and returns the key; None at the end."""
    while (mark := window.peek()) in (",", '"'):
        if mark == ",":
            window.at += 1
            continue
        line = window.line()
        key, _, _ = window.skip_value()
        if window.peek() != ":":
            raise UserError("not valid JSON", where=f"{name}:{line}", found=f"{key} without a value", hint=_MEND)
        window.at += 1
        if window.peek() == "[" and _is_list_of_objects(window):
            return key.strip('"')
        if window.peek():
            window.skip_value()
    return None


def _is_list_of_objects(window: Window) -> bool:
    """At a `[`: whether an object follows, or a text and an object; `at` is then moved past the `[`, else unchanged."""
    while True:
        rest = window.text[window.at + 1 : window.at + 1 + _FIRST_ELEMENT].lstrip(" \t\r\n")
        undecided = not rest or (
            rest[0] == "[" and not _TEXT_AND_OBJECT.match(rest) and len(rest) < _FIRST_ELEMENT // 2
        )
        if not undecided or not window.fill():
            break
    if rest[:1] != "{" and not _TEXT_AND_OBJECT.match(rest):
        return False
    window.at += 1
    return True


def _rows(file: TextFile) -> Iterator[Row | Reject]:
    with file.stream() as stream:
        window = Window(*stream)
        key = _enter_list(window, file.name)
        closed = yield from _elements(window, file)
        if not closed:
            return
        if key is not None:
            other = _next_list(window, file.name)
            if other is not None:
                raise UserError(
                    "two lists of objects",
                    where=file.name,
                    found=f"{key!r} and {other!r}",
                    hint="Put each into a file of its own.",
                )
            if window.peek() != "}":
                yield Reject(
                    file.name, window.line(), "the file is truncated here: the object around the list is not closed", ""
                )
                return
            window.at += 1
        if window.peek():
            line, (raw, _, _) = window.line(), window.skip_value()
            around = "list" if key is None else "object around the list"
            yield Reject(file.name, line, f"text after the end of the {around}: the rest of the file is not read", raw)


def _elements(window: Window, file: TextFile) -> Generator[Row | Reject, None, bool]:
    """The elements up to the end of the list; returns whether it has one."""
    json_values, separated = StrictJson(), True
    while (mark := window.peek()) != "]":
        if mark == "," and not separated:
            window.at += 1
            separated = True
            continue
        line = window.line()
        if not mark:
            yield Reject(file.name, line, "the file is truncated here: the list is not closed", "")
            return False
        found = _element(window, file, line, json_values)
        if not separated and isinstance(found, Row):
            raw = json.dumps(found.fields, ensure_ascii=False)[:MAX_RAW]
            found = Reject(file.name, line, "no comma between this element and the one before", raw)
        separated = False
        yield found
    window.at += 1
    return True


def _element(window: Window, file: TextFile, line: int, json_values: StrictJson) -> Row | Reject:
    """The element at `window.at`, which is moved past it."""
    limit, name = file.options.max_row_bytes, file.name
    json_values.faults.clear()
    try:
        value, end = json_values.raw_decode(window.text, window.at)
        whole = end < len(window.text) or window.ended or isinstance(value, dict | list | str)
    except (ValueError, RecursionError):
        whole = False
    if not whole:  # the window ends within it, or it is not valid
        known_end = window.whole_value(limit)
        if known_end is None:
            return _unfinished(window, name, line, limit)
        json_values.faults.clear()
        try:
            value, end = json_values.raw_decode(window.text, window.at)
        except (ValueError, RecursionError) as error:
            reason = _broken(error, window.at, json_values)
            return _reject(window, name, line, known_end, reason)
    start, text = window.at, window.text
    if end - start > limit // 4 and (size := window.num_bytes(start, end)) > limit:
        window.at = end
        return Reject(name, line, too_large(size, limit), text[start : start + 2_000] + " …")
    if window.damaged and (bad := _SURROGATE.search(text, start, end)):
        return _reject(window, name, line, end, _undecodable(window, bad.start(), file.options.encoding))
    try:
        fields = json_values.checked(value, text.find("\\u", start, end) >= 0)
    except RowError as error:
        return _reject(window, name, line, end, error.reason)
    window.at = end
    return Row(name, line, fields)


def _reject(window: Window, name: str, line: int, end: int, reason: str) -> Reject:
    raw = window.text[window.at : min(end, window.at + MAX_RAW)]
    window.at = end
    return Reject(name, line, reason, raw)


def _unfinished(window: Window, name: str, line: int, limit: int) -> Reject:
    raw, size, ends = window.skip_value()
    if ends:
        return Reject(name, line, too_large(size, limit), raw + " …")
    last = window.line()
    reason = f"the file is truncated here: an element begins and is not closed (lines {line} to {last} are not read)"
    return Reject(name, line, reason, raw + (" …" if size > len(raw) else ""))


def _broken(error: Exception, start: int, json_values: StrictJson) -> str:
    if json_values.faults:
        return json_values.faults[0]
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]} at character {error.pos - start + 1}"
    return unparsable(error)


def _undecodable(window: Window, position: int, encoding: str) -> str:
    code, offset = ord(window.text[position]), window.offset_of(position)
    label = "UTF-8" if encoding == "utf-8" else encoding
    if offset is None or not 0xDC80 <= code <= 0xDCFF:
        return f"the text is not {label}"
    fault = f"byte 0x{code - 0xDC00:02X} at offset {offset:,} is not {label}"
    behind = window.text[position : position + _LOOKED_AT].encode("utf-8", "surrogateescape")
    return fault + (encoding_hint(behind) if encoding == "utf-8" else "")
