"""Refused settings and unknown files as errors of a request, each with its field in `param`."""

import re

from luthier.config.names import ALIASES, FOREIGN
from luthier.config.settings import Settings
from luthier.errors import LuthierError, SettingsError
from luthier.service.http.door.envelope import ApiError, of_luthier


def refusal(error: SettingsError, *, prefix: str = "luthier.") -> ApiError:
    """A refusal of settings with the field of the request in `param`."""
    fields = {"model": "model", "dataset": "training_file", "eval_dataset": "validation_file"}
    said = f"{error.what}; {error.why}"
    known = {*Settings.model_fields, *ALIASES, *FOREIGN}
    unknown = re.findall(r"([^\s;]+) is not a setting", said)
    first = [word for word in re.findall(r"(\w+)=", said) if word in known]
    named = [word for word in re.findall(r"\w+", said) if word in known]
    name = next(iter([*unknown, *first, *named]), None)
    if name is None or not prefix:
        param = name
    else:
        param = fields.get(name, f"{prefix}{name}") if prefix == "luthier." else f"{prefix}{name}"
    return of_luthier(error, param=param)


def unknown_file(name: str, error: LuthierError) -> ApiError:
    """A file id that does not exist, in a request that is wrong because of it."""
    found = of_luthier(error, param=name)
    return ApiError(
        400, found.message, code=f"invalid_{name}", param=name, why=found.why, fix=found.fix
    )
