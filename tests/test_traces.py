"""Traces of a refactor (benchmarks/traces.py): what is another is seen, and named; what is told in words is kept apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.checkout import Checkout
from benchmarks.demorun import Trace, run_numbers, run_words
from benchmarks.traces import POSITIONS, compare, difference, order
from srdist.shards.reader import ShardIndex
from srdist.stream.order import make_order
from tests.conftest import ROOT


def test_a_loss_that_differs_in_its_last_digit_is_named_with_its_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before: dict[str, Trace] = {"loss": {"1": [0.5], "2": [0.25], "3": [0.125]}, "order": {"0": "a"}}
    now = before | {"loss": before["loss"] | {"2": [math.nextafter(0.25, 1)]}}
    assert compare(before, before) == 0
    capsys.readouterr()
    assert compare(before, now) == 1
    assert capsys.readouterr().out.splitlines() == [
        "  DIFFERS  loss (1 of 3 entries, the first at 2: [0.25] before, [0.25000000000000006] now)",
        "  equal    order (1 entries)",
    ]


def test_what_one_side_alone_has_is_a_difference() -> None:
    whole: dict[str, Trace] = {"loss": {"1": 0.5, "2": None}, "files": {"a.png": None}}
    assert compare(whole, {"loss": whole["loss"]}) == compare({"loss": whole["loss"]}, whole) == 1
    assert difference(whole["loss"], {"1": 0.5}) is not None
    assert difference({"1": 0.5}, whole["loss"]) is not None


def test_of_long_values_the_part_that_differs_is_shown() -> None:
    config = [f"{'a: 1, ' * 50}losses: {losses}, {'b: 2, ' * 50}" for losses in ("null", "mse")]
    told = difference({"config.yaml": config[0]}, {"config.yaml": config[1]})
    assert told is not None
    assert "losses: null, b" in told
    assert "losses: mse, b" in told
    assert len(told) < 350


def test_the_order_read_from_the_command_is_the_one_that_is_trained_on(small_set: Path) -> None:
    found = order(Checkout(ROOT), small_set, mode="window")
    index = ShardIndex.open(str(small_set), "train")
    trained = [
        make_order("window", shard_samples=index.shard_samples, window_shards=8, seed=seed) for seed in (0, 1)
    ]
    keys = [[index.key(i) for i in chosen.ids(np.arange(POSITIONS)).tolist()] for chosen in trained]
    same, other = ({str(position): key for position, key in enumerate(of_seed)} for of_seed in keys)
    assert difference(found, same) is None
    assert difference(found, other) is not None


def test_a_weights_file_differs_in_its_numbers_or_in_its_words(tmp_path: Path) -> None:
    tensor = torch.arange(6.0)
    runs = [tmp_path / name for name in ("a", "other_words", "other_numbers")]
    for run, words, values in zip(
        runs, ("1", "2", "1"), (tensor, tensor, torch.nextafter(tensor, tensor + 1)), strict=True
    ):
        run.mkdir()
        save_file({"conv1.weight": values}, run / "best.safetensors", {"step": words})
    numbers = [run_numbers(run) for run in runs]
    words_of = [run_words(run, shards=tmp_path) for run in runs]
    assert difference(numbers[0], numbers[1]) is None
    assert difference(words_of[0], words_of[1]) is not None
    assert difference(numbers[0], numbers[2]) is not None
    assert difference(words_of[0], words_of[2]) is None
