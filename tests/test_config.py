"""The config: what a file may say, what is refused and in which words, and that every field is explained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError

from benchmarks.processes import ROOT
from srdist.cli.main import main
from srdist.config import Config, describe, dump, load
from srdist.machine.errors import UserError
from srdist.stream.config import DataConfig

FIELDS_THAT_SCRIPTS_USE = [
    *("data.shards", "data.hr_patch", "data.workers", "data.kernel", "model.scale", "train.steps"),
    *("train.global_batch", "train.precision", "train.learning_rate", "train.seed", "train.checkpoint_every"),
    *("train.validate_every", "train.log_every", "log.wandb"),
]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(written(tmp_path, text), overrides)
    assert error.value.exit_code == 2
    return str(error.value)


def test_every_field_says_what_it_means() -> None:
    described = {name: meaning for name, _, meaning in describe(Config())}
    assert set(FIELDS_THAT_SCRIPTS_USE) <= set(described)
    for name, meaning in described.items():
        assert len(meaning) > 10, name
        assert "\n" not in meaning, name


def test_config_show_prints_every_field_with_value_and_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "train: {steps: 77}")
    with pytest.raises(SystemExit) as stopped:
        main(["config", "show", str(path), "--set", "model.scale=4"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)  # what is shown can be saved and used as a config
    assert values["train"]["steps"] == 77
    assert values["model"]["scale"] == 4
    for name, _, meaning in describe(Config()):
        section, _, field = name.partition(".")
        assert field in values[section]
        assert f"# {meaning}" in printed
    path.write_text(printed)
    assert load(path).train.steps == 77


def test_a_config_reads_back_as_it_was_saved(tmp_path: Path) -> None:
    config = load(
        None,
        [
            *(
                "data.hr_patch=null",
                "model.kernels=[9, 5, 5]",
                "model.widths=[64, 32]",
                "train.precision=bf16",
            ),
            *("train.learning_rate=3e-5", "train.ema_decay=0.999", "data.shards='s3://bucket/a: b #c'"),
        ],
    )
    assert load(written(tmp_path, dump(config))) == config
    assert config.data.hr_patch is None
    assert config.data.shards == "s3://bucket/a: b #c"


def test_an_empty_file_and_an_empty_section_are_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == load(written(tmp_path, "train:\n")) == load(None) == Config()
    assert load(written(tmp_path, "train:\n"), ["train.steps=3"]).train.steps == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("1.e-4", 1e-4),
        (".5e-3", 5e-4),
        ("+1e-4", 1e-4),
        ("0.0001", 1e-4),
        ("1", 1),
    ],
)
def test_numbers_are_numbers_however_they_are_written(tmp_path: Path, text: str, value: float) -> None:
    assert load(written(tmp_path, f"train: {{learning_rate: {text}}}")).train.learning_rate == value
    assert load(None, [f"train.learning_rate={text}"]).train.learning_rate == value


@pytest.mark.parametrize("text", ["no", "'no'", "false", "fp32"])
def test_float32_is_fp32_in_every_spelling(tmp_path: Path, text: str) -> None:
    assert load(written(tmp_path, f"train: {{precision: {text}}}")).train.precision == "fp32"


@pytest.mark.parametrize("text", ["off", "yes", "on"])
def test_a_word_that_old_yaml_takes_for_a_truth_value_is_a_word(tmp_path: Path, text: str) -> None:
    assert load(written(tmp_path, f"log: {{project: {text}}}")).log.project == text
    # and no truth value where one is wanted, unless it says so plainly
    assert load(written(tmp_path, "data: {flips: false}")).data.flips is False


def test_what_old_yaml_takes_for_base_sixty_or_eight_is_a_word(tmp_path: Path) -> None:
    assert load(written(tmp_path, "data: {shards: 12:30:45}")).data.shards == "12:30:45"
    assert load(written(tmp_path, "data: {shards: 0123}")).data.shards == "0123"
    assert "train.steps: found '010'" in refusal(tmp_path, "train: {steps: 010}")


def test_a_misspelt_field_is_named_with_the_nearest(tmp_path: Path) -> None:
    message = refusal(tmp_path, "train: {learnig_rate: 1.0}")
    assert "run.yaml: train.learnig_rate: no such field (found 1.0), did you mean learning_rate?" in message
    assert "trian: no such field" in refusal(tmp_path, "trian: {steps: 3}")
    assert "did you mean train?" in refusal(tmp_path, "trian: {steps: 3}")
    assert "the fields are: shards, train_split" in refusal(tmp_path, "data: {zzz: 3}")


def test_all_wrong_fields_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "train: {steps: 0, precision: fp8}\nmodel: {scale: many}")
    assert "train.steps: found 0, expected: greater than or equal to 1" in message
    assert "train.precision: found 'fp8', expected: 'fp32', 'tf32', 'bf16' or 'fp16'" in message
    assert "model.scale: found 'many', expected: a valid integer" in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps=1.5", "train.steps: found 1.5"),
        ("train.steps=true", "train.steps: found True"),
        ("train.steps=null", "train.steps: found None"),
        ("train.steps=[3]", "train.steps: found [3]"),
        ("train.steps='3'", "train.steps: found '3'"),
        ("train.learning_rate=.nan", "train.learning_rate"),
        ("train.learning_rate=.inf", "train.learning_rate"),
        ("train.learning_rate=0", "greater than 0"),
        ("train.learning_rate=1e-9", "final_learning_rate 1e-06 is above learning_rate 1e-09"),
        ("data.flips=1", "data.flips: found 1"),
        ("train.compile=1", "train.compile: found 1, expected: False, True or 'reduce-overhead'"),
        ("train.compile=max", "train.compile: found 'max', expected: False, True or 'reduce-overhead'"),
        ("data.hr_patch=49", "data.hr_patch 49 is not a multiple of model.scale 2"),
        ("data.kernel=cubic", "'bicubic', 'bilinear', 'nearest', 'box' or 'lanczos'"),
        ("model.kernels=[3, 4, 3]", "kernels must be odd, found 4"),
        ("model.kernels=[3, 3]", "kernels has 2 entries and widths 2"),
        ("model.last_relu=true", "last_relu cannot go with residual"),
        ("train.keep_checkpoints=1", "greater than or equal to 2"),
        ("train.loss=null", "loss and losses say the same thing"),
        ("train.losses=[]", "train.losses"),
        ("train.losses=[{kind: l1}, {kind: l1}]", "losses has l1 twice"),
        ("train.threads=100000", "less than or equal to 1024"),
        ("train.peer_timeout_s=1000000000000", "less than or equal to 2678400"),
        ("log.wandb=maybe", "'auto', 'online', 'offline' or 'disabled'"),
        ("train", "expected SECTION.FIELD=VALUE, as in train.steps=100"),
        ("train.steps", "expected SECTION.FIELD=VALUE"),
        ("steps=3", "expected SECTION.FIELD=VALUE"),
        ("train.steps=[3", "not YAML"),
        ("train.steps.more=3", "train.steps: found {'more': 3}, expected: a valid integer"),
        ("model..widths=3", "expected SECTION.FIELD=VALUE"),
        ("train.losses.0.kind=l2", "train.losses"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found_and_expected(
    tmp_path: Path, override: str, words: str
) -> None:
    assert words in refusal(tmp_path, "", override)


def test_an_override_reaches_any_depth_through_unions_and_lists(tmp_path: Path) -> None:
    text = "train: {losses: [{kind: l1}, {kind: mse, weight: 0.1}]}"
    config = load(
        written(tmp_path, text),
        ["train.losses.1.weight=0.5", "model.family=plain", "model.widths=[16]", "model.kernels=[3, 3]"],
    )
    assert [loss.weight for loss in config.train.losses or ()] == [1, 0.5]
    assert config.model.family == "plain"
    assert "train.losses has 2 entries, found '2', expected the number of one, from 0" in refusal(
        tmp_path, text, "train.losses.2.weight=1"
    )
    assert "train.steps is 2000, which has no field 'more' to set" in refusal(
        tmp_path, "train: {steps: 2000}", "train.steps.more=3"
    )
    assert "train.losses.1.wieght" in refusal(tmp_path, text, "train.losses.1.wieght=1")


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=3",
        "model.widths=[8, 4]",
        "train.steps=x",
        "train.step=3",
        "steps=3",
        "train.steps",
        "data.shards=[3",
    ],
)
def test_a_field_alone_means_what_it_means_after_set(override: str) -> None:
    command = ["config", "show", str(ROOT / "configs/demo_x2.yaml")]
    bare, after_set = (
        CliRunner().invoke(main, [*command, *given]) for given in ([override], ["--set", override])
    )
    assert (bare.exit_code, bare.output) == (after_set.exit_code, after_set.output)
    assert bare.exit_code in (0, 2)


def test_a_file_name_in_the_place_of_a_field_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["train", "configs/demo_x2.yaml", "--run", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "configs/demo_x2.yaml: expected SECTION.FIELD=VALUE, as in train.steps=100" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b", "expected sections data, model, train, log, found list"),
        ("just words", "found str"),
        ("train: 3", "train: found 3"),
        ("train: {steps: [}", "not YAML"),
        ("a: !!python/object/apply:os.system [ls]", "not YAML"),
        ("train: {steps: 3}\ntrain: {steps: 4}", "train twice"),
        ("train:\n  steps: 3\n  steps: 4", "steps twice"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, words: str) -> None:
    message = refusal(tmp_path, text)
    assert words in message
    assert "run.yaml" in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for path, words in [
        (tmp_path / "gone.yaml", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "bytes.yaml", "not UTF-8"),
    ]:
        with pytest.raises(UserError, match=words) as error:
            load(path)
        assert str(path) in str(error.value)


def test_a_config_is_read_without_torch() -> None:
    seen = "import sys, srdist.config; print([name for name in ('torch', 'numpy', 'PIL') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_one_loss_has_a_short_form_and_several_stand_in_a_list_with_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("train: {loss: l1}")
    assert [(loss.kind, loss.weight) for loss in load(path).train.all_losses] == [("l1", 1.0)]
    path.write_text("train: {losses: [{kind: charbonnier}, {kind: mse, weight: 0.1}]}")
    config = load(path)
    assert [(loss.kind, loss.weight) for loss in config.train.all_losses] == [
        ("charbonnier", 1.0),
        ("mse", 0.1),
    ]
    path.write_text(dump(config))
    assert load(path) == config
    path.write_text("train: {loss: l1, losses: [{kind: mse}]}")
    with pytest.raises(UserError, match="train: loss and losses say the same thing"):
        load(path)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        DataConfig().workers = 3
