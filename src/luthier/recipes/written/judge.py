"""Opens a folder as a stranger opens it, with transformers and PEFT alone, and says what it finds.

Run in a process of its own: a request as JSON on standard input, the answer as the last line of
standard output.  Nothing of luthier is imported here, so that no mistake of luthier's can agree
with itself.

V: vocabulary.
"""

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

Json = dict[str, Any]


def judge(request: Json) -> Json:
    """Everything that was asked for; what cannot be opened is an `error` under its name."""
    torch.set_num_threads(int(request.get("threads", 1)))
    answer: Json = {"transformers": transformers.__version__}
    steps = {"tokenizer": _tokenizer, "weights": _weights}
    for name, step in steps.items():
        try:
            answer[name] = step(request)
        except Exception as error:  # noqa: BLE001 - whatever a stranger would see is the finding
            answer[name] = {"error": f"{type(error).__name__}: {str(error).strip()[:300]}"}
    answer["of_luthier"] = sorted(name for name in sys.modules if name.startswith("luthier"))
    return answer


def _tokenizer(request: Json) -> Json:
    """Rows whose ids or text differ, by their place; and whether the file alone gives the ids."""
    folder, rows = request["folder"], request["rows"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found: Json = {"class": type(tokenizer).__name__, "ids": [], "rendered": []}
    for number, row in enumerate(rows):
        if _ids(tokenizer, row["text"]) != row["ids"]:
            found["ids"].append(number)
        if row["rendered"] is not None:
            text = tokenizer.apply_chat_template(row["messages"], tokenize=False, **row["kwargs"])
            if text != row["rendered"]:
                found["rendered"].append(number)
    if found["ids"]:
        plain = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"))
        found["file_is_right"] = all(_ids(plain, row["text"]) == row["ids"] for row in rows)
    return found


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _weights(request: Json) -> Json:
    """What the model says, where it is loaded; otherwise whether names and shapes fit its config."""
    if request["kind"] == "adapter" and importlib.util.find_spec("peft") is None:
        return {"not_done": "PEFT is not installed"}
    if not request["load"]:
        return _shapes(request)
    model = _load(request)
    found: Json = {"logps": [_logps(model, ids) for ids in request["measured"]]}
    prompt, ends = request["prompt"], request["ends"]
    if prompt:
        ids = torch.tensor([prompt])
        most = int(request["max_new_tokens"])
        with torch.no_grad():
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=_generation(request, model),
                max_new_tokens=most,
                do_sample=False,
            )
        answer = made[0, len(prompt) :].tolist()
        found["ended_by"] = answer[-1] if answer and answer[-1] in ends else None
        found["passed"] = any(token in ends for token in answer[:-1])
        found["answered"] = len(answer)
    return found


def _load(request: Json) -> Any:
    folder = request["folder"]
    if request["kind"] != "adapter":
        return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(request["base"], dtype=request["dtype"])
    return PeftModel.from_pretrained(base, folder).eval()


def _generation(request: Json, model: Any) -> GenerationConfig:
    """That of the folder: on an adapter it is to be read from there by whoever loads it."""
    if request["kind"] == "adapter":
        return GenerationConfig.from_pretrained(request["folder"])
    found: GenerationConfig = model.generation_config
    return found


@torch.no_grad()
def _logps(model: Any, ids: list[int]) -> list[float]:
    """Log-probability of each token but the first, nats."""
    logits_V = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float()
    logp = logits_V.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    values: list[float] = logp.tolist()
    return values


def _shapes(request: Json) -> Json:
    """Tensors of the files against the model of the config, which gets no memory."""
    adapter = request["kind"] == "adapter"
    config = AutoConfig.from_pretrained(request["base"] if adapter else request["folder"])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    stored: dict[str, list[int]] = {}
    for path in sorted(Path(request["folder"]).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            stored |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    if adapter:
        layers = {name for name, _ in model.named_modules()}
        names = {name.removeprefix("base_model.model.") for name in stored}
        owners = {name.split(".lora_")[0].removesuffix(".weight") for name in names}
        return {"shapes": sorted(owners - layers)[:5]}
    wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    wrong = [name for name, shape in stored.items() if wanted.get(name) != shape]
    wrong += [name for name in wanted if name not in stored and name not in tied]
    return {"shapes": sorted(set(wrong))[:5]}


def main() -> None:
    """One request, one answer."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    request = json.loads(sys.stdin.read())
    sys.stdout.write("\n" + json.dumps(judge(request)) + "\n")


if __name__ == "__main__":
    main()
