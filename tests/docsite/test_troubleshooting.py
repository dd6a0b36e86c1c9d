"""Every message of docs/troubleshooting.md is one that srdist prints."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from docsite.pages import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
MESSAGES = [match[1] for match in re.finditer(r"^\| `(.+?)` \| [^|]+ \|$", PAGE, flags=re.M)]


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module; what is put into one is `...`."""
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def test_every_message_on_the_page_is_one_of_srdists() -> None:
    strings = [
        text for path in (ROOT / "srdist").rglob("*.py") for text in texts(ast.parse(path.read_text()))
    ]
    printed = "\n".join(strings)
    assert len(MESSAGES) > 25
    for message in MESSAGES:
        pieces = [piece.strip(" ,;:()") for piece in message.split("...")]
        missing = [piece for piece in pieces if piece and piece not in printed]
        assert missing == [], message
