"""Bytes that are not UTF-8 -> what to set data.encoding to.

encoding_hint("Fähre".encode("cp1252"))      '; set data.encoding=cp1252 if the file is Windows text'
encoding_hint("北京大学".encode("gb18030"))    '; set data.encoding to the encoding of the file: gb18030, …'
"""

from __future__ import annotations

import codecs
import re

_HIGH = re.compile(rb"[\x80-\xff]+")
_FEW = 5
"""At most one byte in this many is damaged in a line that is otherwise UTF-8."""
_WITHOUT_ASCII = ("gb18030", "big5", "shift_jis", "euc-jp", "euc-kr", "cp1251", "koi8-r")


def encoding_hint(raw: bytes) -> str:
    """A hint to append to a message. raw: bytes that begin at the first byte of a character.

    '' where no encoding fits, or where most of the line is UTF-8 and one byte is damaged.
    """
    runs = [len(run) for run in _HIGH.findall(raw)]
    num_high = sum(runs)
    num_lost = len(raw) - len(raw.decode("utf-8", "ignore").encode())
    if _FEW * num_lost < num_high:
        return ""
    if 2 * sum(run for run in runs if run > 2) < num_high:  # letters with accents stand among others without
        return "; set data.encoding=cp1252 if the file is Windows text" if _letters(raw, "cp1252") else ""
    fitting = [name for name in _WITHOUT_ASCII if _letters(raw, name)]
    return f"; set data.encoding to the encoding of the file, perhaps {', '.join(fitting)}" if fitting else ""


def _letters(raw: bytes, encoding: str) -> bool:
    """Whether the bytes decode to mostly letters."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(raw)  # whose end may be cut within a character
    except UnicodeDecodeError:
        return False
    beyond = [letter for letter in text if not letter.isascii()]
    return encoding == "cp1252" or 2 * sum(map(str.isalpha, beyond)) > len(beyond)
