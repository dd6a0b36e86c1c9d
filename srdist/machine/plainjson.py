"""JSON that anybody may have written, as plain values: one that is nested too deep is an error like any other."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64
"""Lists and objects inside of each other. Ours are 6 deep; Python's stack ends at about 1,000."""

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: not JSON, not UTF-8, or nested more than MAX_DEPTH deep.
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    if text.count("[") + text.count("{") > MAX_DEPTH and _too_deep(text.encode("utf-8", "surrogatepass")):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return json.loads(text)


def _too_deep(data: bytes) -> bool:
    left = _STRINGS.sub(b"", data).translate(None, _ALL_BUT_BRACKETS)
    for _ in range(MAX_DEPTH):
        # The innermost pairs go, all at once: there may be a million of them.
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    if b"[]" in left or b"{}" in left:
        return True
    # What is left of a text that is no JSON: brackets that nothing closes.
    depth = deepest = 0
    for byte in left:
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH
