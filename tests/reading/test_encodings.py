"""What is proposed for bytes that are not UTF-8."""

import json

import pytest

from tunewright.errors import UserError
from tunewright.reading import open_source
from tunewright.reading.encodings import encoding_hint
from tunewright.reading.options import ReadOptions

WINDOWS = "; set data.encoding=cp1252 if the file is Windows text"


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("Die Fähre nach Malmö fällt aus", "cp1252", "cp1252"),
        ("这家餐馆的菜很好吃，服务也很周到", "gb18030", "gb18030"),
        ("這家餐館的菜很好吃，服務也很周到", "big5", "big5"),
        ("この店の料理はとてもおいしい", "shift_jis", "shift_jis"),
        ("이 식당의 음식은 정말 맛있다", "euc-kr", "euc-kr"),
        ("Еда здесь очень вкусная", "cp1251", "cp1251"),
    ],
)
def test_the_encoding_of_a_line_is_among_those_proposed(text, encoding, named):
    hint = encoding_hint(f'{{"text": "{text}", "n": 1}}'.encode(encoding))
    assert named in hint
    assert (hint == WINDOWS) == (encoding == "cp1252"), "accents alone are Windows text"


def test_nothing_is_proposed_where_one_byte_of_utf8_is_broken():
    assert encoding_hint("这家餐馆的菜很好吃".encode()[:-1] + b"!") == ""


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_readers_propose_the_encoding(tmp_path, suffix):
    rows = [{"text": f"这家餐馆的菜很好吃 {n}", "label": "好"} for n in range(9)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    content = "\n".join(lines) if suffix == ".jsonl" else f"[{','.join(lines)}]"
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content.encode("gb18030"))
    try:
        said = " ".join(row.reason for row in open_source(str(path)).rows())
    except UserError as error:
        said = str(error)
    assert "data.encoding to the encoding of the file, perhaps gb18030" in said
    assert len(list(open_source(str(path), ReadOptions(encoding="gb18030")).rows())) == 9
