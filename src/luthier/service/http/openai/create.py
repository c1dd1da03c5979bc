"""From a request for a fine-tuning job, as OpenAI's clients send it, to the settings of a run.

What the schema lacks comes in `luthier`, a mapping of settings under their own names; the numbers
people put into `hyperparameters` all the same are taken there too.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from luthier.config.names import ALIASES
from luthier.json_values import number_of, whole_of
from luthier.service.http.door.envelope import ApiError
from luthier.service.http.wire import base_rate

Auto = Literal["auto"]
Text = Annotated[str, Field(min_length=1, max_length=512)]
Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[str, Field(max_length=512)],
    ],
    Field(max_length=16),
]
BESIDE = ("lora_dim", "lora_rank", "lora_alpha", "lora_dropout", "seq_length", "learning_rate",
          "warmup_ratio", "weight_decay")  # fmt: skip
"""Settings that are taken among the hyperparameters as well."""


def _auto_or(low: float, high: float, *, whole: bool, above: bool = False) -> BeforeValidator:
    """A check whose message says the whole range: that of a union names only its last member.

    Args:
        above: `low` itself is not possible.
    """
    kind = "a whole number" if whole else "a number"
    wanted = f"{kind} {'above' if above else 'from'} {low:g} {'up to' if above else 'to'} {high:g}"

    def check(value: object) -> object:
        if value is None or value == "auto":
            return value
        number = whole_of(value) if whole else number_of(value)
        if number is None or not (low < number if above else low <= number) or number > high:
            raise ValueError(f"should be 'auto' or {wanted}")
        return value

    return BeforeValidator(check)


class Strict(BaseModel):
    """Unknown fields are refused, by name."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Hyperparameters(Strict):
    """OpenAI's, and a few of ours."""

    n_epochs: Annotated[
        Auto | Annotated[int, Field(ge=1, le=50)] | None, _auto_or(1, 50, whole=True)
    ] = None
    batch_size: Annotated[
        Auto | Annotated[int, Field(ge=1, le=256)] | None, _auto_or(1, 256, whole=True)
    ] = None
    learning_rate_multiplier: Annotated[
        Auto | Annotated[float, Field(gt=0, le=1e6)] | None,
        _auto_or(0, 1e6, whole=False, above=True),
    ] = None
    beta: Annotated[
        Auto | Annotated[float, Field(gt=0, le=2)] | None, _auto_or(0, 2, whole=False, above=True)
    ] = None
    lora_dim: Annotated[int, Field(ge=0, le=8192)] | None = None
    lora_rank: Annotated[int, Field(ge=0, le=8192)] | None = None
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    seq_length: Annotated[int, Field(ge=8)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None


class OneMethod(Strict):
    """How a method is to run."""

    hyperparameters: Hyperparameters | None = None


class Method(Strict):
    """What is learned: answers (`supervised`) or preferences (`dpo`)."""

    type: Annotated[str, Field(max_length=40)]
    supervised: OneMethod | None = None
    dpo: OneMethod | None = None
    reinforcement: dict[str, object] | None = None


class CreateJob(Strict):
    """A fine-tuning job to be."""

    model: Text
    training_file: Text
    validation_file: Text | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    metadata: Metadata | None = None
    integrations: list[dict[str, object]] | None = None
    luthier: dict[str, object] | None = Field(
        None, description="Any setting of luthier under its own name, and `name` and `priority`."
    )
    x_luthier: dict[str, object] | None = Field(None, description="Another name of `luthier`.")

    @field_validator("suffix")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", value):
            raise ValueError("should be letters, digits, spaces and . _ - only")
        return value

    @field_validator("integrations")
    @classmethod
    def _none_yet(cls, value: list[dict[str, object]] | None) -> None:
        if value:
            raise ValueError("no tracker is reported to from here; luthier.report_to names them")

    @model_validator(mode="after")
    def _one_name(self) -> "CreateJob":
        if self.luthier is not None and self.x_luthier is not None:
            raise ValueError("luthier and x_luthier are two names of the same; keep one")
        if self.validation_file is not None and self.validation_file == self.training_file:
            raise ValueError("validation_file: should be another file than training_file")
        return self


class JobRequest(BaseModel):
    """What the store is asked for."""

    settings: dict[str, object]
    name: str
    priority: int


def job_request(body: CreateJob) -> JobRequest:
    """Settings, name and priority of a request.

    Raises:
        ApiError: 400 with `param`: a method there is not, or two values for one setting.
    """
    extension = dict(body.luthier or body.x_luthier or {})
    name, priority = extension.pop("name", ""), extension.pop("priority", 0)
    if not isinstance(name, str) or len(name) > 200:
        raise _bad("luthier.name", "should be a text of at most 200 characters")
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise _bad("luthier.priority", "should be a whole number")
    kind, given, place = _method(body)
    settings: dict[str, object] = {"model": body.model, "dataset": body.training_file}
    origins = {"model": "model", "dataset": "training_file"}

    def put(setting: str, value: object, origin: str) -> None:
        if value is None or value == "auto":
            return
        settings[setting], origins[setting] = value, origin

    put("eval_dataset", body.validation_file, "validation_file")
    put("seed", body.seed, "seed")
    if kind == "dpo":
        put("objective", "dpo", "method.type")
    put("num_train_epochs", given.n_epochs, f"{place}.n_epochs")
    put("dpo_beta", given.beta, f"{place}.beta")
    for setting in BESIDE:
        put(ALIASES.get(setting, setting), getattr(given, setting), f"{place}.{setting}")
    _extend(settings, origins, extension)
    if given.beta not in (None, "auto") and settings.get("objective") != "dpo":
        raise _bad(f"{place}.beta", "is for method dpo only")
    _batch(settings, given, place)
    if isinstance(given.learning_rate_multiplier, float | int):
        if "learning_rate" in settings:
            raise _bad(
                f"{place}.learning_rate_multiplier", "and learning_rate both decide one thing"
            )
        settings["learning_rate"] = given.learning_rate_multiplier * base_rate(settings)
    return JobRequest(settings=settings, name=name, priority=priority)


def _method(body: CreateJob) -> tuple[str, Hyperparameters, str]:
    """The kind, its hyperparameters, and where they stand: in `method`, or in the older field.

    Raises:
        ApiError: 400, naming both: a block of another method, or hyperparameters in two places.
    """
    if body.method is None:
        return "supervised", body.hyperparameters or Hyperparameters(), "hyperparameters"
    kind = body.method.type
    if kind not in ("supervised", "dpo"):
        raise ApiError(
            400,
            f"method.type={kind!r} is not possible here",
            code="unsupported_method",
            param="method.type",
            why="supervised and dpo are",
        )
    for other in ("supervised", "dpo", "reinforcement"):
        if other != kind and getattr(body.method, other) is not None:
            raise _bad(
                f"method.{other}", f"disagrees with method.type={kind!r}; give one of the two"
            )
    one = body.method.supervised if kind == "supervised" else body.method.dpo
    found = one.hyperparameters if one is not None else None
    place = f"method.{kind}.hyperparameters"
    if found is None:
        return kind, body.hyperparameters or Hyperparameters(), "hyperparameters"
    if body.hyperparameters is not None:
        _agree(body.hyperparameters, found, place)
    return kind, found, place


def _agree(older: Hyperparameters, found: Hyperparameters, place: str) -> None:
    """Refuse hyperparameters of the older field that `method` does not repeat."""
    for name, value in older.model_dump(exclude_none=True).items():
        if getattr(found, name) != value:
            raise _bad(f"hyperparameters.{name}", f"and {place} both decide it; keep the second")


def _extend(
    settings: dict[str, object], origins: dict[str, str], extension: Mapping[str, object]
) -> None:
    """Add the settings of `luthier`; a second value for one setting must be the same."""
    for name, value in extension.items():
        ours = ALIASES.get(name, name)
        if ours in origins and settings.get(ours) != value:
            raise _bad(
                f"luthier.{name}"[:80], f"disagrees with {origins[ours]}; give one of the two"
            )
        if ours not in origins:
            settings[name] = value


def _batch(settings: dict[str, object], given: Hyperparameters, place: str) -> None:
    """`batch_size` counts samples per optimiser step over all devices and rounds."""
    if not isinstance(given.batch_size, int):
        return
    name = "per_device_train_batch_size"
    if name in settings:
        raise _bad(f"{place}.batch_size", f"and luthier.{name} both decide one thing")
    shares = 1
    for other in ("devices", "gradient_accumulation_steps"):
        value = settings.get(other, 1)
        shares *= value if isinstance(value, int) and value > 0 else 1
    if given.batch_size % shares:
        raise _bad(f"{place}.batch_size", f"{given.batch_size} cannot be shared by {shares}")
    settings[name] = given.batch_size // shares


def _bad(param: str, said: str) -> ApiError:
    return ApiError(400, f"{param}: {said}", code="invalid_value", param=param)
