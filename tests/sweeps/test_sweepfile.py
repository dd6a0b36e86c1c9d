"""What a sweep's file may say, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.machine.errors import UserError
from srdist.sweeps.sweepfile import read_sweep


def written(folder: Path, fields: Any, **more: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(
        yaml.safe_dump({"config": "configs/demo_x2.yaml", "fields": fields, **more}, sort_keys=False)
    )
    return path


def test_a_grid_has_every_combination_in_the_order_of_the_file(tmp_path: Path) -> None:
    fields: dict[str, list[Any]] = {
        "train.learning_rate": [1e-3, 1e-4],
        "model.widths": [[8, 8], [4, 4], [2, 2]],
    }
    sweep = read_sweep(written(tmp_path, fields))
    values = [sweep.grid(number) for number in range(sweep.total)]
    assert [tuple(each.values()) for each in values] == [
        (rate, widths) for rate in fields["train.learning_rate"] for widths in fields["model.widths"]
    ]
    config = sweep.config(values[4])
    assert (config.train.learning_rate, config.model.model_dump()["widths"]) == (1e-4, (4, 4))


@pytest.mark.parametrize(
    ("range_", "values"),
    [
        ({"low": 10, "high": 31, "step": 10}, [10, 20, 30]),
        ({"low": 0.1, "high": 0.3, "step": 0.1}, [0.1, 0.2, 0.3]),
        ({"low": 1e-4, "high": 1e-2, "log": True, "count": 3}, [1e-4, 1e-3, 1e-2]),
        ({"low": 1, "high": 64, "log": True, "count": 4}, [1, 4, 16, 64]),
        ({"low": 1, "high": 3, "count": 9}, [1, 2, 3]),
    ],
)
def test_a_range_in_a_grid_is_the_numbers_that_one_would_write(
    tmp_path: Path, range_: dict[str, Any], values: list[float]
) -> None:
    name = "train.warmup_steps" if isinstance(range_["low"], int) else "train.learning_rate"
    sweep = read_sweep(written(tmp_path, {name: range_}))
    assert [sweep.grid(number)[name] for number in range(sweep.total)] == values


def test_a_sweep_written_out_says_the_same(tmp_path: Path) -> None:
    search = {"kind": "tpe", "trials": 9, "prune": {"kind": "hyperband", "min_steps": 400}}
    fields = {
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.widths": [[8, 8], [4, 4]],
    }
    sweep = read_sweep(written(tmp_path, fields, search=search, set={"train.seed": 5}), ["data.flips=false"])
    (tmp_path / "again.yaml").write_text(sweep.dump())
    again = read_sweep(tmp_path / "again.yaml")
    assert again.dump() == sweep.dump()
    values = {"train.learning_rate": 3e-3, "model.widths": [4, 4]}
    assert again.config(values) == sweep.config(values)
    assert (again.config(values).train.seed, again.config(values).data.flips) == (5, False)


TPE = {"kind": "tpe", "trials": 5}
RATE = {"train.learning_rate": [1e-3, 1e-4]}


@pytest.mark.parametrize(
    ("fields", "more", "words"),
    [
        ({"train.learning_rat": [1e-3]}, {}, "train.learning_rat: no such field (found 0.001), did you mean learning_rate?"),
        ({"train.learning_rate": [1e-3, "fast"]}, {}, "train.learning_rate: found 'fast', expected: a valid number"),
        ({"train.learning_rate": [1e-3, -1.0]}, {}, "train.learning_rate: found -1.0, expected: greater than 0"),
        ({"train.learning_rate": {"low": -1.0, "high": 1.0}}, {"search": TPE}, "train.learning_rate: found -1.0"),
        ({"train.learning_rate": 1e-3}, {}, "fields.train.learning_rate: found 0.001, expected a list of values, or a range"),
        ({"train.learning_rate": []}, {}, "fields.train.learning_rate: found no value"),
        ({"train.learning_rate": [1e-3, 0.001]}, {}, "fields.train.learning_rate: 0.001 twice"),
        ({"train.learning_rate": {"low": 1e-3, "high": 1e-4, "count": 2}}, {}, "low 0.001 is not below high 0.0001"),
        ({"train.learning_rate": {"low": 0.0, "high": 1e-4, "log": True, "count": 2}}, {}, "log: true needs a low above 0"),
        ({"train.learning_rate": {"low": "a", "high": 1}}, {}, "fields.train.learning_rate: low: found 'a', expected"),
        ({"train.learning_rate": {"low": 1e-4, "hihg": 1}}, {}, "hihg: no such field"),
        ({"train.learning_rate": {"low": 1e-4, "high": 1e-3}}, {}, "a range in a grid needs step or count"),
        ({"train.learning_rate": {"low": 1e-4, "high": 1e-3, "count": 3}}, {"search": TPE}, "count: is for grids"),
        ({"train.seed": {"low": 0, "high": 10**6, "step": 1}}, {}, "1,000,001 combinations, expected 10,000 at most"),
        ({"model.widths": [[8, 8], [8]]}, {}, "with model.widths=[8]: model: kernels has 3 entries and widths 1"),
        ({"model": [{"scale": 2}], "model.widths": [[8, 8]]}, {}, "fields.model: would hide model.widths, which is swept too"),
        (RATE, {"set": {"train.learning_rate": 1.0}}, "would hide train.learning_rate, which is given by set too"),
        (RATE, {"set": {"train.step": 1}}, "train.step: no such field"),
        (RATE, {"config": "configs/none.yaml"}, "configs/none.yaml: no such file"),
        (RATE, {"config": 3}, "config: found 3, expected the name of a config's file"),
        (RATE, {"objective": "psnr"}, "objective: found 'psnr'"),
        (RATE, {"serach": {}}, "serach: no such field (found {}), did you mean search?"),
        (RATE, {"search": {"kind": "bayes"}}, "search.kind: found 'bayes', the values are: grid, tpe"),
        (RATE, {"search": {"kind": "tpe"}}, "search.trials: found"),
        (RATE, {"search": TPE | {"prune": {"kind": "median"}}, "set": {"train.validate_every": 2000}}, "no trial is ever judged before its end"),
        (RATE, {"search": TPE | {"prune": {"kind": "hyperband", "min_steps": 2000}}}, "min_steps: found 2000, expected less than train.steps 2000"),
        ({"train.steps": [1000, 2000]}, {"search": TPE | {"prune": {"kind": "median"}}}, "cannot go with train.steps among the fields"),
        ({}, {}, "fields"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_exit_code_2_before_anything_starts(
    tmp_path: Path, fields: Any, more: dict[str, Any], words: str
) -> None:
    done = CliRunner().invoke(
        main, ["sweep", str(written(tmp_path, fields, **more)), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_override_of_a_swept_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which is given by --set too"):
        read_sweep(written(tmp_path, RATE), ["train.learning_rate=1"])
