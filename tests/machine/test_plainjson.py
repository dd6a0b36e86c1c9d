"""JSON that was written to do harm, or by accident: an error that every reader of JSON expects."""

from __future__ import annotations

import json
import time

import pytest

from srdist.machine.plainjson import MAX_DEPTH, parse_json


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000 + "]" * 200_000,
        "[" * 200_000,
        '{"a":' * 200_000 + "1" + "}" * 200_000,
        '["\\"[", ' + "[" * 200_000,
        "[" * 65 + "]" * 65,
        "[[]," * 100 + "1" + "]" * 100,
    ],
    ids=lambda text: text[:10] + "...",
)
def test_what_is_nested_too_deep_is_a_value_error(text: str) -> None:
    for data in (text, text.encode()):
        begin = time.process_time()
        with pytest.raises(ValueError, match="nested more than 64 deep"):
            parse_json(data)
        assert time.process_time() - begin < 2


@pytest.mark.parametrize("text", ["", "[1, 2", "]" * 100, "{" + "[]" * 100, '["[[[' + "[" * 200, "nan"])
def test_what_is_no_json_is_told_as_json_tells_it(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


@pytest.mark.parametrize(
    "value",
    [
        [[]] * 100_000,
        {"a": [{"b": "[" * 1000 + '\\"'}] * 100},
        "\udcff of a file name that is no UTF-8",
        [1e400, -0.0, 10**100, None, True, "\u2028"],
    ],
    ids=["many", "brackets in strings", "surrogate", "numbers"],
)
def test_everything_else_is_what_json_reads(value: object) -> None:
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


def test_the_deepest_that_is_taken() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(text) == json.loads(text)


def test_a_file_with_a_byte_order_mark_is_read_and_one_that_is_no_text_is_not() -> None:
    assert parse_json(b"\xef\xbb\xbf{}") == {}
    with pytest.raises(ValueError, match="utf-8"):
        parse_json(b"\xff\xfe{")
