"""The same job in other words: command line, YAML, Python, OpenAI's client, curl."""

import json
import shlex
from collections.abc import Mapping

import yaml


def commands(
    settings: Mapping[str, object], *, base_url: str, here: Mapping[str, object] | None = None
) -> dict[str, str]:
    """How a job with these settings is started elsewhere; no token is in any of them.

    Args:
        here: The same with paths of this machine, for what is run on it; ids mean something to
            the service alone.
    """
    plain = {name: value for name, value in settings.items() if value is not None}
    paths = {name: value for name, value in (here or settings).items() if value is not None}
    return {
        "cli": _cli(paths),
        "yaml": yaml.safe_dump(paths, sort_keys=False, allow_unicode=True),
        "python": _python(paths),
        "openai": _openai(plain, base_url),
        "curl": _curl(plain, base_url),
    }


def _cli(settings: Mapping[str, object]) -> str:
    words = ["luthier", "train"]
    for name, value in settings.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [f"--{name}", shlex.quote(_word(one))]
    return " ".join(words)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _python(settings: Mapping[str, object]) -> str:
    lines = [f"    {name}={value!r}," for name, value in settings.items()]
    return "\n".join(["import luthier", "", "run = luthier.train(", *lines, ")"])


def _openai(settings: Mapping[str, object], base_url: str) -> str:
    rest = dict(settings)
    model, dataset = rest.pop("model", "starter"), rest.pop("dataset", "file-...")
    data = dataset[0] if isinstance(dataset, list | tuple) and dataset else dataset
    extra = {"luthier": rest} if rest else {}
    return "\n".join(
        [
            "import os",
            "from openai import OpenAI",
            "",
            f'client = OpenAI(base_url="{base_url}/v1", api_key=os.environ["LUTHIER_TOKEN"])',
            "job = client.fine_tuning.jobs.create(",
            f"    model={model!r},",
            f"    training_file={data!r},",
            f"    extra_body={extra!r},",
            ")",
        ]
    )


def _curl(settings: Mapping[str, object], base_url: str) -> str:
    body = json.dumps({"settings": dict(settings)}, ensure_ascii=False)
    return (
        f"curl {base_url}/api/jobs -H 'Content-Type: application/json' "
        f'-H "Authorization: Bearer $LUTHIER_TOKEN" -d {shlex.quote(body)}'
    )
