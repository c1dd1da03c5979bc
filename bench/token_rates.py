"""Fit how many tokens a tokenizer makes of each kind of character; needs the shared data.

    python bench/token_rates.py ../shared/data

Writes src/luthier/data/token_rates.json.  The errors in it are those of whole files, each predicted
by a fit to all the others.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.reading.read import read_rows
from luthier.data.tokens.token_rates import features
from luthier.data.tokens.tokenizer import Tokenizer

TOKENIZERS = {
    "gpt2": ("gpt2", [50257, 49152, 50304]),
    "llama2": ("llama2", [32000, 32011, 32064]),
    "mistral": ("mistral", [32768]),
    "llama3": ("llama3", [128256, 128000]),
    "qwen": ("qwen", [151643, 151646, 151936, 152064]),
}
"""Folder, and the vocabulary sizes of models that use it."""

FILES = (
    "sft/alpaca_en_demo.json", "sft/alpaca_zh_demo.json", "sft/customer_service_ecommerce_en.jsonl",
    "sft/facqa_id_alpaca.jsonl", "sft/gpteacher_roleplay.json", "sft/huatuo_zh_alpaca.jsonl",
    "sft/medical_zh_sharegpt.jsonl", "sft/oasst_guanaco.jsonl", "sft/sharegpt_zh.jsonl",
    "sft/tcm_ner.json", "sft/tcm_rc.json", "toolcall/glaive_toolcall_en.json",
    "toolcall/glaive_toolcall_zh.json", "preference/dpo_en_demo.json", "preference/hh_rlhf_harmless.jsonl",
    "benchmarks/global_mmlu_lite_vi_dev.jsonl", "benchmarks/xcopa_vi_val.jsonl",
    "benchmarks/global_mmlu_lite_id_dev.jsonl", "benchmarks/gsm8k_train_2500.jsonl",
)  # fmt: skip
ROWS = 300


def texts(value: Any) -> list[str]:
    """Every string of a row."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in texts(one)]


def main(shared: Path) -> None:
    rows = {
        name: [
            " ".join(texts(dict(row.fields)))
            for row, _ in zip(read_rows(shared / name), range(ROWS), strict=False)
        ]
        for name in FILES
    }
    counts = {name: np.array([features(text) for text in found]) for name, found in rows.items()}
    out = {}
    for name, (folder, sizes) in TOKENIZERS.items():
        tokenizer = Tokenizer.from_folder(shared / "tokenizers" / folder)
        tokens = {file: np.array([len(tokenizer.encode(text)) for text in found], float) for file, found in rows.items()}  # fmt: skip
        errors = {}
        for left in FILES:
            others = [file for file in FILES if file != left]
            weights = fit(counts, tokens, others)
            predicted, true = float((counts[left] @ weights).sum()), float(tokens[left].sum())
            errors[left] = abs(predicted - true) / true
        worst = max(errors, key=errors.__getitem__)
        out[name] = {
            "vocab_sizes": sizes,
            "weights": [round(float(one), 4) for one in fit(counts, tokens, FILES)],
            "mean_error": round(float(np.mean(list(errors.values()))), 3),
            "worst_error": round(errors[worst], 3),
            "worst_file": worst,
        }
        print(name, out[name])
    target = Path(__file__).parents[1] / "src" / "luthier" / "data" / "token_rates.json"
    target.write_text(json.dumps(out, indent=1) + "\n", "utf-8")


def fit(counts: dict[str, Any], tokens: dict[str, Any], files: Any) -> Any:
    """Least squares of relative errors, so that short rows count as much as long ones."""
    made = np.concatenate([counts[file] for file in files])
    wanted = np.concatenate([tokens[file] for file in files])
    scale = 1 / np.sqrt(np.maximum(wanted, 1))
    found, *_ = np.linalg.lstsq(made * scale[:, None], wanted * scale, rcond=None)
    return np.maximum(found, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
