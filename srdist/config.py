"""The config: frozen typed sections, read from YAML, overridden by `--set section.field=value`, and described.

Every default stands here and nowhere else, with its unit or range under it. A file in configs/ is complete
and flat; an unknown field, a wrong type or a value out of range is an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, field_validator, model_validator

from srdist.losses.config import LDLConfig, LossConfig
from srdist.losses.section import LossTerm
from srdist.machine.errors import UserError
from srdist.networks.config import NetworkConfig, SRCNNConfig
from srdist.settings.section import Section, problems
from srdist.settings.yaml12 import parse_yaml, read_yaml
from srdist.stream.config import DataConfig

Precision = Literal["fp32", "tf32", "bf16", "fp16"]


def _precision_name(value: Any) -> Any:
    # As Accelerate and older configs say it; YAML 1.1 readers make `no` false.
    return "fp32" if value is False or value == "no" else value


class TrainConfig(Section):
    """The optimization. Steps are optimizer steps; the batch is that of all ranks together."""

    steps: Annotated[int, Field(ge=1)] = 2000
    """Optimizer steps of the whole run."""
    global_batch: Annotated[int, Field(ge=1)] = 32
    """Images per optimizer step, over all ranks and accumulation; the same run on any number of ranks."""
    rank_batch: Annotated[int, Field(ge=1)] | None = None
    """Images per rank and forward pass; null = global_batch / ranks. Accumulation is derived from it."""
    precision: Annotated[Precision, BeforeValidator(_precision_name)] = "fp32"
    """fp32 (true float32), tf32 (TensorFloat-32 for convolutions; NVIDIA GPUs), bf16, or fp16 (GPUs)."""
    deterministic: bool = False
    """On GPUs: only algorithms that give the same bits each time, instead of the fastest; on CPUs they always do."""
    loss: Literal["mse", "l1", "charbonnier"] | None = "mse"
    """mse: mean squared error (the SRCNN paper's); l1: mean absolute; charbonnier: sqrt(error^2 + 1e-6); null = as `losses` says."""
    losses: Annotated[tuple[LossConfig, ...], Field(strict=False, min_length=1)] | None = None
    """Several losses, as in [{kind: l1}, {kind: mse, weight: 0.1}]; the weighted sum is minimized; null = the one of `loss`."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Adam's peak learning rate."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up from 0."""
    decay_steps: Annotated[int, Field(ge=1)] | None = None
    """Step at which the cosine ends; null = steps. Set it where a run is to be lengthened later with the same curve."""
    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate at the end of the cosine, and after it."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this L2 norm; null = not clipped."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay a step of an exponential moving average of the weights, less at first ((1 + step) / (10 + step)), which is then what is validated and saved for use; null = off."""
    max_bad_steps: Annotated[int, Field(ge=1)] = 10
    """Steps in a row with a non-finite loss or gradient after which the run stops; each such step is skipped."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the order of the samples, the crops and the flips."""
    init_from: str | None = None
    """Weights file (safetensors, or the seed's .pth) to start from, of this scale or another; null = random."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    """Steps between checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints that are kept, the best besides."""
    validate_every: Annotated[int, Field(ge=1)] = 500
    """Steps between validations."""
    val_images: Annotated[int, Field(ge=1)] | None = 500
    """Images of the validation split that are scored, its first; null = all."""
    log_every: Annotated[int, Field(ge=1)] = 50
    """Steps between lines of the log."""
    channels_last: bool | None = None
    """Memory layout NHWC; null = as measured best for the device."""
    compile: Literal[False, True, "reduce-overhead"] = False
    """torch.compile the network; reduce-overhead: into CUDA graphs too, for small networks, which wait for launches (GPUs)."""
    # Above, the clock of torch.distributed overflows.
    peer_timeout_s: Annotated[int, Field(ge=1, le=31 * 86400)] = 600
    """Seconds that a rank waits for the others before the run ends with an error."""
    # With more than the system gives, OpenMP ends the process.
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of each rank; null = cores / ranks of this machine."""

    @property
    def all_losses(self) -> tuple[LossTerm, ...]:
        """The losses, however the config says which."""
        return self.losses or (TypeAdapter(LossConfig).validate_python({"kind": self.loss}),)

    @model_validator(mode="before")
    @classmethod
    def _losses_stand_for_loss(cls, values: Any) -> Any:
        # The default of `loss` would else contradict `losses`.
        if isinstance(values, dict) and values.get("losses") is not None:
            return {"loss": None, **values}
        return values

    @field_validator("compile", mode="before")
    @classmethod
    def _number_is_no_answer(cls, value: Any) -> Any:
        # Of a Literal, unlike of a bool, pydantic takes 1 for True.
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError(f"found {value}, expected: False, True or 'reduce-overhead'")
        return value

    @model_validator(mode="after")
    def _losses_fit(self) -> Self:
        if (self.loss is None) == (self.losses is None):
            raise ValueError("loss and losses say the same thing: one of them is null, the other not")
        kinds = [loss.kind for loss in self.losses or ()]
        if twice := [kind for i, kind in enumerate(kinds) if kind in kinds[:i]]:
            raise ValueError(f"losses has {twice[0]} twice: add up their weights")
        if "feature_matching" in kinds and "adversarial" not in kinds:
            raise ValueError("losses has feature_matching, which looks into a critic: add kind adversarial")
        if kinds == ["adversarial"] or set(kinds) == {"adversarial", "feature_matching"}:
            raise ValueError(
                "losses has nothing but a critic, which knows no HR of an LR: add one, as {kind: l1}"
            )
        if self.ema_decay is None and any(isinstance(loss, LDLConfig) for loss in self.losses or ()):
            raise ValueError(
                "losses has ldl, which compares with the running average: set ema_decay, as 0.999"
            )
        return self

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate} is above learning_rate {self.learning_rate}"
            )
        return self


class LogConfig(Section):
    """What is reported, and where to."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online with an account (WANDB_API_KEY or wandb login), else offline into the run folder."""
    project: Annotated[str, Field(min_length=1)] = "srdist"
    """W&B project."""
    sample_images: Annotated[int, Field(ge=0, le=64)] = 4
    """Rows of the sample grid LR | bicubic | SR | HR, from the start of the validation split."""


class Config(Section):
    """One run: the same config is the same run on any number of ranks."""

    data: DataConfig = DataConfig()
    model: NetworkConfig = SRCNNConfig()
    train: TrainConfig = TrainConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _patch_fits(self) -> Self:
        if self.data.hr_patch is not None and self.data.hr_patch % self.model.scale:
            raise ValueError(
                f"data.hr_patch {self.data.hr_patch} is not a multiple of model.scale {self.model.scale}"
            )
        return self


def load(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """The config of a YAML file (None: the defaults), with `section.field=value` overrides applied.

    Raises:
        UserError: one line that names every wrong field, what was found and what was expected.
    """
    return parse(read_values(path, overrides), source="defaults" if path is None else str(path))


def read_values(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What stands in a config's YAML file (None: nothing), as plain values, with overrides applied; not checked yet."""
    values = {} if path is None else read_yaml(path)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections data, model, train, log, found {type(values).__name__}")
    # A section of which every line is commented out reads as null.
    values = {name: {} if section is None else section for name, section in values.items()}
    for text in overrides:
        override(values, text)
    return values


def parse(values: dict[str, Any], *, source: str, kind: type[Config] = Config) -> Config:
    """Check plain values (as read from YAML or JSON) into a Config; `source` stands in the error."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(problems(error, kind))) from error


def dump(config: Config) -> str:
    """The config as YAML text that `load` reads back to an equal Config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def describe(config: Config) -> Iterator[tuple[str, str, str]]:
    """Every field as (`section.field`, value, meaning)."""
    for section_name in Config.model_fields:
        section: Section = getattr(config, section_name)
        for name, field in type(section).model_fields.items():
            value = yaml.safe_dump(
                section.model_dump(mode="json")[name], default_flow_style=True, width=10_000
            )
            yield f"{section_name}.{name}", value.removesuffix("\n...\n").strip(), field.description or ""


def set_field(values: dict[str, Any], name: str, value: Any, *, source: str) -> None:
    """Put `value` in the place of what stands at `name`, as train.steps or model.widths.0, in a config's plain values.

    Raises:
        UserError: there is no such place; `source` stands in front.
    """
    path = name.split(".")
    place: Any = values
    for i, part in enumerate(path):
        at: Any = part
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                raise UserError(
                    f"{source}: {'.'.join(path[:i])} has {len(place)} entries, found {part!r}, "
                    f"expected the number of one, from 0"
                )
            at = int(part)
        elif not isinstance(place, dict):
            raise UserError(
                f"{source}: {'.'.join(path[:i])} is {place!r}, which has no field {part!r} to set"
            )
        if i == len(path) - 1:
            place[at] = value
        else:
            # What is not there yet, or stands as null, becomes a section.
            if isinstance(place, dict) and place.get(at) is None:
                place[at] = {}
            place = place[at]


def override(values: dict[str, Any], text: str) -> None:
    """Put what `section.field=value` says into a config's plain values; UserError where it says nothing."""
    name, equals, value = text.partition("=")
    path = name.strip().split(".")
    if not (equals and len(path) > 1 and all(path)):
        raise UserError(f"{text}: expected SECTION.FIELD=VALUE, as in train.steps=100")
    set_field(values, name.strip(), parse_yaml(value, source=text), source=text)
