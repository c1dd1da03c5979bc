"""Before a folder is published it is opened by others, and what they read otherwise is said.

transformers and PEFT open it in a process of its own (`judge`).  Weights above `LOAD_BYTES` are not
loaded a second time: then names and shapes of all tensors are compared, and their bytes were, when
they were written.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from luthier import children
from luthier.bounded import decode
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Sequence as Tokens
from luthier.durable import write_atomic
from luthier.models.build import generation_mode
from luthier.recipes.written.rows import WrittenRow
from luthier.units import format_bytes

LOAD_BYTES = 2 * 10**9
"""Weights up to this size are loaded by the judge, where the free memory is three times as much."""

MEASURED, TOKENS, ANSWER = 2, 128, 64
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
"""Mean difference of log-probabilities, nats, that rounding may make."""

FAST = "PreTrainedTokenizerFast"
FAST_BYTES_A_S = 10**8


@dataclass(frozen=True)
class Proof:
    """What others read.

    Args:
        alike: Lines about what was looked at and found right, or could not be looked at.
        differs: Lines about what others read otherwise, each with what mends it.
    """

    alike: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """All of it, for a card."""
        return [*self.alike, *self.differs]


@dataclass(frozen=True)
class Case:
    """A folder and what is known about it.

    Args:
        kind: `adapter`, or what a whole model is called.
        base: Folder of the base that an adapter goes on.
        rows: With which tokenizer and template are compared.
        examples: Sequences of the training, for log-probabilities and a prompt.
        model: In memory, as it was written; None: nothing to compare with.
        ends: Ids that end an answer.
        dtype: Of the weights, `float32` and the like.
        num_bytes: Of all weights that would be loaded.
        incomparable: Why log-probabilities cannot be compared, if so.
    """

    folder: Path
    kind: str
    base: Path
    rows: Sequence[WrittenRow]
    examples: Sequence[Tokens]
    model: Any
    tokenizer: Tokenizer
    ends: Sequence[int]
    dtype: str
    num_bytes: int
    incomparable: str = ""

    @property
    def loads(self) -> bool:
        """Whether the judge loads the weights."""
        free = int(psutil.virtual_memory().available)
        return self.num_bytes <= min(LOAD_BYTES, free // 3)


def prove(case: Case) -> Proof:
    """Let transformers open the folder, and compare.  Never fails: what cannot be asked is said.

    Where only the class of the tokenizer is at fault, the folder is changed to name the one that
    follows `tokenizer.json`, and is opened again.
    """
    measured = [_ids(one)[:TOKENS] for one in case.examples[:MEASURED]] if case.loads else []
    ours = [_logps(case.model, ids) for ids in measured] if case.model is not None else []
    answer = _ask(case, measured)
    tokenizer = answer.get("tokenizer", {})
    said = []
    if tokenizer.get("ids") and tokenizer.get("file_is_right") and _follow_file(case.folder):
        said.append(f"tokenizer_class is {FAST}: {tokenizer['class']} reads rows otherwise")
        answer = _ask(case, measured)
    if "failed" in answer:
        return Proof((f"not opened by others: {answer['failed']}",))
    alike, differs = [], []
    for good, bad in (_of_tokenizer(case, answer), _of_weights(case, answer, ours)):
        alike += good
        differs += bad
    version = answer["transformers"]
    head = [f"opened in transformers {version}: {', '.join(alike)}"] if alike else []
    return Proof((*said, *head), tuple(f"transformers {version}: {text}" for text in differs))


def _of_tokenizer(case: Case, answer: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    found = answer["tokenizer"]
    if "error" in found:
        return [], [f"the tokenizer does not open: {found['error']}"]
    if not case.rows:
        return ["no row to compare ids of"], []
    alike, differs = [], []
    count = len(case.rows)
    if found["ids"]:
        differs.append(
            f"{len(found['ids'])} of {count} training rows become other ids; "
            f"load it with {FAST}(tokenizer_file='tokenizer.json')"
        )
    else:
        alike.append(f"ids of {count} training rows equal")
    if found["rendered"]:
        differs.append(
            f"the template makes other text of {len(found['rendered'])} of {count} rows; "
            "render with chat_template.jinja and the arguments in rendering.json"
        )
    elif any(row.rendered is not None for row in case.rows):
        alike.append("the template renders the same text")
    return alike, differs


def _of_weights(
    case: Case, answer: Mapping[str, Any], ours: Sequence[Sequence[float]]
) -> tuple[list[str], list[str]]:
    found = answer["weights"]
    if "error" in found:
        return [], [f"the weights do not open: {found['error']}"]
    if "not_done" in found:
        return [f"weights not looked at: {found['not_done']}"], []
    if "shapes" in found:
        if found["shapes"]:
            return [], [f"tensors do not fit the config: {', '.join(found['shapes'])}"]
        size = format_bytes(case.num_bytes)
        return [f"names and shapes of all tensors fit ({size}: not loaded a second time)"], []
    alike, differs = _compared(case, found["logps"], ours)
    if "ended_by" in found:
        good, bad = _ended(case, found)
        alike, differs = alike + good, differs + bad
    return alike, differs


def _compared(
    case: Case, theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]
) -> tuple[list[str], list[str]]:
    if case.incomparable or not ours:
        return [f"log-probabilities not compared: {case.incomparable or 'no rows'}"], []
    away = np.abs(np.concatenate(theirs) - np.concatenate(ours))
    mean = float(away.mean()) if len(away) else 0.0
    if mean <= TOLERANCE.get(case.dtype, TOLERANCE["bfloat16"]):
        return [f"log-probabilities equal within {max(mean, 1e-7):.1g}"], []
    return [], [
        f"log-probabilities differ by {mean:.2g} on average; "
        "load it in the dtype of its config, with attn_implementation='eager'"
    ]


def _ended(case: Case, found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    names = ", ".join(case.tokenizer.token(number) or str(number) for number in case.ends)
    if found["passed"]:
        return [], [
            f"an answer goes on behind {names}; give generate eos_token_id={list(case.ends)}"
        ]
    if (number := found["ended_by"]) is not None:
        name = case.tokenizer.token(number) or number
        return [f"an answer to a training prompt stops at {name}"], []
    return [f"not yet learned to end at {names} within {found['answered']} tokens"], []


def _ask(case: Case, measured: Sequence[list[int]]) -> dict[str, Any]:
    first = case.examples[0] if case.examples else None
    prompt = [] if first is None else _ids(first)[: _first_target(first)]
    request = {
        "folder": str(case.folder.absolute()),  # the judge runs in another folder
        "kind": case.kind,
        "base": str(case.base.absolute()),
        "rows": [row.as_dict() for row in case.rows],
        "load": case.loads,
        "dtype": case.dtype,
        "measured": measured,
        "prompt": prompt if case.ends else [],
        "ends": list(case.ends),
        "max_new_tokens": ANSWER,
        "threads": torch.get_num_threads(),
    }
    seen = children.serving_environment()
    seen |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    timeout_s = 300 + case.num_bytes / FAST_BYTES_A_S
    try:
        done = children.run(
            "luthier.recipes.written.judge",
            text=json.dumps(request),
            timeout_s=timeout_s,
            environment=seen,
        )
    except children.TooLateError:
        return {"failed": f"it took more than {timeout_s:.0f} s"}
    lines = done.out.strip().splitlines()
    if done.status != 0 or not lines:
        last = (done.err.strip().splitlines() or ["nothing was said"])[-1]
        return {"failed": f"status {done.status}: {last[:200]}"}
    answer: dict[str, Any] = decode(lines[-1])
    return answer


def _follow_file(folder: Path) -> bool:
    """Name the tokenizer class that takes `tokenizer.json` as it is; False if it is named already."""
    path = folder / "tokenizer_config.json"
    fields = decode(path.read_text("utf-8"))
    if fields.get("tokenizer_class") == FAST:
        return False
    fields["tokenizer_class"] = FAST
    write_atomic(path, json.dumps(fields, ensure_ascii=False, indent=2))
    return True


def _ids(sequence: Tokens) -> list[int]:
    return [int(number) for number in sequence.ids]


def _first_target(sequence: Tokens) -> int:
    places = np.flatnonzero(sequence.weights > 0)
    return int(places[0]) if len(places) else len(sequence.ids)


@torch.no_grad()
def _logps(model: Any, ids: list[int]) -> list[float]:
    """Log-probability of each token but the first under the model in memory, nats."""
    device = model.get_input_embeddings().weight.device
    ids_T = torch.tensor(ids, device=device)
    with generation_mode(model):
        logits_TV = model(input_ids=ids_T[None], use_cache=False).logits[0, :-1].float()
    values: list[float] = logits_TV.log_softmax(-1).gather(-1, ids_T[1:, None])[:, 0].tolist()
    return values
