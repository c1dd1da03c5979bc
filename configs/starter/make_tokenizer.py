"""Train the starter model's tokenizer: byte-level BPE with Qwen2's splitting rule, digits one by one.

python configs/starter/make_tokenizer.py              # src/luthier/starter/tokenizer*.json
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from make_corpus import documents
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

STARTER = Path(__file__).resolve().parents[2] / "src" / "luthier" / "starter"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CONFIG = {
    "tokenizer_class": "Qwen2Tokenizer",
    "add_prefix_space": False,
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": None,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 512,
    "chat_template": CHAT_TEMPLATE,
}


def train(vocab_size: int, num_documents: int) -> Tokenizer:
    """Learn merges from documents of a seed that neither training nor evaluation text uses."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    texts = itertools.islice(documents(seed=1000), num_documents)
    pieces = (part for text in texts for part in _without_special(text))
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return tokenizer


def _without_special(text: str) -> list[str]:
    for special in SPECIAL:
        text = text.replace(special, "\0")
    return [part for part in text.split("\0") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=STARTER)
    parser.add_argument("--vocab_size", type=int, default=2048)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    tokenizer = train(given.vocab_size, 20_000)
    tokenizer.save(str(given.output / "tokenizer.json"))
    config = json.dumps(CONFIG, indent=2, ensure_ascii=False) + "\n"
    (given.output / "tokenizer_config.json").write_text(config, encoding="utf-8")
    sys.stdout.write(f"{given.output}: {tokenizer.get_vocab_size()} tokens\n")


if __name__ == "__main__":
    main()
