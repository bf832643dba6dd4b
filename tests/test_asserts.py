"""No test asserts what cannot be false: a literal with something in it, or the text of a value."""

import ast
from pathlib import Path

HERE = Path(__file__).parent
ALWAYS_TRUE = (ast.Tuple, ast.JoinedStr, ast.Lambda, ast.GeneratorExp)
MAKES_TEXT = {"dumps", "str", "repr", "format"}


def cannot_fail(test: ast.expr) -> bool:
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.Call):
        called = test.func.attr if isinstance(test.func, ast.Attribute) else getattr(test.func, "id", "")
        return called in MAKES_TEXT
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return any(map(cannot_fail, test.values))
    return isinstance(test, ALWAYS_TRUE)


def test_every_assert_can_fail():
    found = [
        f"{path.relative_to(HERE)}:{node.lineno} {ast.unparse(node.test)[:80]}"
        for path in sorted(HERE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert) and cannot_fail(node.test)
    ]
    assert found == []
    assert cannot_fail(ast.parse("json.dumps(x)", mode="eval").body)
