"""Group A of the bad inputs: models and adapters that are wrong, through the commands that take them.

A refusal is one error of at most three lines with exit status 2 and no run left behind; what is
mended is said.  The same inputs are tested one function at a time in `tests/models`.
"""

import json
import pickle
import re
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import tiny_model_folder

from luthier.cli.main import main
from luthier.durable import MANIFEST
from luthier.durable.folder import _sealed

Change = Callable[[Path], object]
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("bad_models") / "model", "llama")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad_models") / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": TURNS}) + "\n" for _ in range(4)))
    return path


@pytest.fixture(scope="module")
def run(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of LoRA with two checkpoints."""
    folder = tmp_path_factory.mktemp("bad_models") / "run"
    words = [*train_words(model, rows, folder), "--max_steps", "2", "--save_steps", "1"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--save_strategy", "steps", "--learning_rate", "0.05"])
    assert not caught.value.code
    return folder


def train_words(model: Path | str, rows: Path, output: Path) -> list[str]:
    words = ["train", "--model", str(model), "--dataset", str(rows), "--output_dir", str(output)]
    return [*words, "--seq_length", "64", "--lora_dim", "2"]


def go(capsys: Any, *words: str) -> tuple[int, str]:
    """Exit status and everything shown."""
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out + shown.err


def train(capsys: Any, model: Path | str, rows: Path, output: Path) -> tuple[int, str]:
    return go(capsys, *train_words(model, rows, output), "--max_steps", "1")


def assert_refused(code: int, text: str, error: str, message: str) -> None:
    assert code == 2, text
    assert "Traceback" not in text
    assert text.count("error: ") == 1
    said = text[text.index("error: ") :].strip()
    assert len(said.splitlines()) <= 3, said
    assert f"[{error}]" in said
    assert re.search(message, said), said


def config(**fields: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def write(name: str, content: bytes | str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def instead(name: str) -> Change:
    """Weights of another kind only."""
    return both(remove("model.safetensors"), write(name, b"\x80\x04."))


def header(text: str, data: bytes = b"", *, length: int | None = None) -> Change:
    start = struct.pack("<Q", len(text.encode()) if length is None else length)
    return write("model.safetensors", start + text.encode() + data)


def entry(
    name: str, offsets: tuple[int, int], shape: tuple[int, ...] = (2,), dtype: str = "F32"
) -> str:
    value = {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}
    return f'"{name}":{json.dumps(value)}'


def tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        edit(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def cut(path: str, num_bytes: int) -> Change:
    def change(folder: Path) -> None:
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(
            content[:num_bytes] if num_bytes < 0 else content + b"\0" * num_bytes
        )

    return change


def sharded(edit: Callable[[dict[str, str]], dict[str, str]]) -> Change:
    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        place = {name: "ab"[n % 2] + ".safetensors" for n, name in enumerate(sorted(state))}
        for shard in ("a.safetensors", "b.safetensors"):
            part = {name: value for name, value in state.items() if place[name] == shard}
            save_file(part, folder / shard, metadata={"format": "pt"})
        body = {"weight_map": edit(place)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(body))

    return change


def template(text: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": text}))

    return change


def link(name: str) -> Change:
    def change(folder: Path) -> None:
        outside = folder.parent / f"outside-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return change


def fill(name: str, value: float) -> Change:
    return tensors(lambda state: state[name].view(-1)[:1].fill_(value))


NORM = "model.norm.weight"
REFUSED: dict[str, tuple[Change, str, str]] = {
    "A1 no config": (remove("config.json"), "E400", r"no config\.json"),
    "A1 half a config": (write("config.json", '{"model_type":'), "E400", "not JSON"),
    "A1 a list": (write("config.json", "[1]"), "E400", "not a JSON object"),
    "A2 .bin": (instead("pytorch_model.bin"), "E402", r"safetensors.*\n.*fix: .*spaces/safetensors/convert"),
    "A2 .pt": (instead("consolidated.00.pth"), "E402", "safetensors and nothing else"),
    "A4 length 2^63": (header("{}", length=2**63), "E403", "header claims"),
    "A4 header of 200 MB": (header("{}", length=200 * 2**20), "E403", "header claims"),
    "A4 overlap": (
        header("{" + entry("a", (0, 8)) + "," + entry("b", (4, 12)) + "}", b"\0" * 12), "E403", "overlaps",
    ),
    "A4 a hole": (
        header("{" + entry("a", (0, 8)) + "," + entry("b", (12, 20)) + "}", b"\0" * 20), "E403", "hole",
    ),
    "A4 a name twice": (
        header("{" + entry("a", (0, 8)) + "," + entry("a", (0, 8)) + "}", b"\0" * 8), "E403", "given twice",
    ),
    "A4 wrong size": (header("{" + entry("a", (0, 8), (3,)) + "}", b"\0" * 8), "E403", "needs 12 bytes"),
    "A4 negative shape": (header("{" + entry("a", (0, 8), (-2,)) + "}", b"\0" * 8), "E403", "not a count"),
    "A4 cut off": (cut("model.safetensors", -3), "E403", "its tensors take"),
    "A4 bytes at the end": (cut("model.safetensors", 3), "E403", "its tensors take"),
    "A5 a path upwards": (sharded(lambda m: m | {NORM: "../../etc/passwd"}), "E403", "never a path"),
    "A5 an absolute path": (sharded(lambda m: m | {NORM: "/etc/passwd"}), "E403", "never a path"),
    "A6 a shard missing": (both(sharded(dict), remove("b.safetensors")), "E403", r"lacks b\.safetensors"),
    "A6 a shard too many": (sharded(lambda m: m | {"more": "c.safetensors"}), "E403", "lacks c"),
    "A6 shards swapped": (
        sharded(lambda m: {n: {"a": "b", "b": "a"}[s[0]] + s[1:] for n, s in m.items()}), "E403", "disagree",
    ),
    "A7 NaN": (fill(NORM, float("nan")), "E403", "NaN or infinity"),
    "A7 infinity": (fill(NORM, float("inf")), "E403", "NaN or infinity"),
    "A7 nothing in it": (header("{" + entry("a", (0, 0), (0,)) + "}"), "E403", "holds nothing"),
    "A7 wrong shape": (tensors(lambda s: s.update({NORM: torch.ones(7)})), "E403", r"\[7\]"),
    "A8 code of its own": (
        both(config(model_type="own", auto_map={"AutoConfig": "evil.C"}), write("evil.py", "boom")),
        "E405", "no code that comes with a model is run here",
    ),
    "A9 a million layers": (config(num_hidden_layers=10**6), "E400", "1 to 1,000 is possible"),
    "A9 a huge width": (config(hidden_size=10**9), "E400", "hidden_size is 1000000000"),
    "A9 negative heads": (config(num_attention_heads=-4), "E400", "num_attention_heads is -4"),
    "A10 more tokens than rows": (
        both(config(vocab_size=100), tensors(lambda s: s.update(
            {n: s[n][:100].clone() for n in ("model.embed_tokens.weight", "lm_head.weight")}
        ))),
        "E209", r"the model embeds 100",
    ),
    "A10 no tokenizer": (
        both(remove("tokenizer.json"), remove("tokenizer_config.json")), "E209", "tokenizer",
    ),
    "A11 a file": (template("{% include '/etc/passwd' %}{{ messages[1].content }}"), "E2", "template"),
    "A11 a walk": (template("{{ ''.__class__.__mro__[1].__subclasses__() }}"), "E2", "template"),
    "A11 for ever": (
        template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"), "E2", "1,000,000",
    ),
    "A11 a gigabyte": (template("{{ 'a' * 2 ** 30 }}"), "E2", "template"),
    "A11 recursion": (template("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}"), "E2", "template"),
    "A11 an undefined name": (template("{{ nothing.at.all }}"), "E2", "template"),
    "A18 weights elsewhere": (link("model.safetensors"), "E400", "is a link to"),
    "A20 GGUF": (instead("model.gguf"), "E400", "GGUF, ONNX, TensorFlow and Flax files are not read"),
    "A20 ONNX": (instead("model.onnx"), "E400", "luthier fine-tunes models in safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_is_wrong_is_refused(
    case: str, model: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    change, error, message = REFUSED[case]
    folder = shutil.copytree(model, tmp_path / "model")
    change(folder)
    code, text = train(capsys, folder, rows, tmp_path / "run")
    if error == "E2":
        error = "E208" if "[E208]" in text else "E204"
    assert_refused(code, text, error, message)
    assert not (tmp_path / "run" / "result").exists()


class _Payload:
    """Unpickled, it does something that leaves a trace."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self._call = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        yield listening


@pytest.mark.parametrize("place", ["pytorch_model.bin", "adapter_model.bin", "training_args.bin"])
def test_a3_pickles_are_never_opened(
    place: str, model: Path, rows: Path, run: Path, door: socket.socket, tmp_path: Path, capsys: Any
) -> None:
    import os

    canary = tmp_path / "canary"
    payload = [
        _Payload(os.system, f"touch {canary}"),
        _Payload(open, str(canary), "w"),
        _Payload(socket.create_connection, door.getsockname()),
    ]
    source = run / "result" if place == "adapter_model.bin" else model
    folder = shutil.copytree(source, tmp_path / "model")
    (folder / place).write_bytes(pickle.dumps(payload))
    if place != "training_args.bin":
        weights = "model" if place == "pytorch_model.bin" else "adapter_model"
        (folder / f"{weights}.safetensors").unlink()
    code, text = train(capsys, folder, rows, tmp_path / "run")
    if place == "training_args.bin":
        assert code == 0, text  # it lies there and is not looked at
    else:
        assert_refused(code, text, "E402", "pickled files can run code")
    assert not canary.exists()
    with pytest.raises(TimeoutError):
        door.accept()


def test_a6_a_flipped_bit_is_seen_where_a_manifest_exists(
    run: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    merged = tmp_path / "merged"
    assert go(capsys, "export", str(run), "--to", "merged", "--output", str(merged))[0] == 0
    assert train(capsys, merged, rows, tmp_path / "first")[0] == 0
    weights = merged / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, text = train(capsys, merged, rows, tmp_path / "second")
    assert_refused(code, text, "E403", "was changed after it was saved")
    (merged / MANIFEST).unlink()  # as the message says, for a change on purpose
    assert train(capsys, merged, rows, tmp_path / "third")[0] == 0


MENDED: dict[str, tuple[Change, str]] = {
    "A8 code that is not needed": (config(auto_map={"AutoConfig": "evil.C"}), "no code of the model is run"),
    "A10 no padding token": (lambda folder: _tokenizer(folder, pad_token=None), "finished after 1 step"),
    "A10 no template": (lambda folder: _tokenizer(folder, chat_template=None), "ChatML is used"),
}  # fmt: skip


def _tokenizer(folder: Path, **fields: Any) -> None:
    path = folder / "tokenizer_config.json"
    kept = {k: v for k, v in (json.loads(path.read_text()) | fields).items() if v is not None}
    path.write_text(json.dumps(kept))


@pytest.mark.parametrize("case", MENDED)
def test_what_can_be_mended_is_mended_and_said(
    case: str, model: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    change, message = MENDED[case]
    folder = shutil.copytree(model, tmp_path / "model")
    change(folder)
    code, text = train(capsys, folder, rows, tmp_path / "run")
    assert code == 0, text
    assert message in " ".join(text.split())


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)
CALL = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}


def trained_on(row: dict[str, Any], folder: Path, tmp_path: Path, capsys: Any) -> tuple[int, str]:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for _ in range(4)))
    return train(capsys, folder, data, tmp_path / "run")


def test_a12_a_template_without_a_system_role_is_found_out(
    model: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    template(NO_SYSTEM + CHATML)(folder)
    row = {"messages": [{"role": "system", "content": "Be brief."}, *TURNS]}
    code, text = trained_on(row, folder, tmp_path, capsys)
    assert code == 0, text
    assert "has no system role: system text is put before the user" in text


def test_a12_a_template_that_drops_tool_calls_is_found_out(
    model: Path, tmp_path: Path, capsys: Any
) -> None:
    answer = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    row = {"messages": [TURNS[0], answer], "tools": [TOOL]}
    code, text = trained_on(row, model, tmp_path, capsys)
    assert_refused(code, text, "E208", "no place for the tools offered, tool calls")


def test_a12_a_template_that_changes_earlier_turns_is_found_out(
    model: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    earlier = "{% if m['role'] == 'assistant' and not loop.last %}{{ '(earlier) ' }}{% endif %}"
    template(CHATML.replace("+ m['content']", "}}" + earlier + "{{ m['content']"))(folder)
    row = {"messages": [*TURNS, *TURNS]}
    code, text = trained_on(row, folder, tmp_path, capsys)
    assert code == 0, text
    report = json.loads((tmp_path / "run" / "data.json").read_text())["train"]
    assert (report["rows"]["used"], report["sequences"]) == (4, 8)  # one for each turn


def adapter(**fields: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        body = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({k: v for k, v in body.items() if v != "absent"}))

    return change


def weights(edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file(edit(load_file(path)), path, metadata={"format": "pt"})

    return change


HEAD = "base_model.model.lm_head.weight"
ADAPTERS: dict[str, tuple[Change, str, str]] = {
    "A13 other rank": (adapter(r=8), "E406", "of rank 2"),
    "A13 another method": (adapter(peft_type="IA3"), "E406", "'IA3', luthier applies 'LORA'"),
    "A13 no alpha": (adapter(lora_alpha="absent"), "E406", "lora_alpha is None"),
    "A13 another base": (
        weights(lambda s: {n: torch.zeros(v.shape[0], 64) if "lora_A" in n else v for n, v in s.items()}),
        "E406", "does not fit this base",
    ),
    "A14 a tensor too many": (
        weights(lambda s: s | {HEAD: torch.ones(264, 32)}), "E406", "nor declared in modules_to_save",
    ),
    "A15 a URL": (adapter(base_model_name_or_path="https://example.org/m"), "E406", "never fetched"),
    "A15 a path elsewhere": (adapter(base_model_name_or_path="/home/x/m"), "E406", "is not here"),
    "A15 a hub id": (adapter(base_model_name_or_path="org/unknown"), "E406", "luthier gallery pull org/unknown"),
    "A16 no tensors": (weights(lambda s: {}), "E406", "has no tensors"),
    "A16 443 bytes": (write("adapter_model.safetensors", b"\0" * 443), "E403", "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", ADAPTERS)
def test_an_adapter_that_is_wrong_is_refused(
    case: str, run: Path, model: Path, rows: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    change, error, message = ADAPTERS[case]
    folder = shutil.copytree(run / "result", tmp_path / "adapter")
    (folder / MANIFEST).unlink(missing_ok=True)
    adapter(base_model_name_or_path=str(model))(folder)
    change(folder)
    words = ["train", "--model", str(folder), "--dataset", str(rows), "--max_steps", "1"]
    code, text = go(capsys, *words, "--seq_length", "64", "--output_dir", str(tmp_path / "run"))
    assert_refused(code, text, error, message)


def test_a17_an_adapter_is_merged_once(run: Path, tmp_path: Path, capsys: Any) -> None:
    merged, again = tmp_path / "merged", tmp_path / "again"
    assert go(capsys, "export", str(run), "--to", "merged", "--output", str(merged))[0] == 0
    code, text = go(capsys, "export", str(merged), "--to", "merged", "--output", str(again))
    assert_refused(code, text, "E406", "has no adapter to merge")
    folder = shutil.copytree(run / "result", tmp_path / "adapter")
    adapter(base_model_name_or_path=str(merged))(folder)
    code, text = go(capsys, "export", str(folder), "--to", "merged", "--output", str(again))
    assert_refused(code, text, "E406", "is already merged into")
    assert not again.exists()


def test_a17_a_new_adapter_on_a_merged_model_is_another_one(
    run: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    merged, second = tmp_path / "merged", tmp_path / "second"
    assert go(capsys, "export", str(run), "--to", "merged", "--output", str(merged))[0] == 0
    words = [*train_words(merged, rows, second), "--max_steps", "1", "--learning_rate", "0.05"]
    assert go(capsys, *words)[0] == 0
    twice = tmp_path / "twice"
    assert go(capsys, "export", str(second), "--to", "merged", "--output", str(twice))[0] == 0
    listed = json.loads((twice / MANIFEST).read_text())["record"]["merged_adapters"]
    assert len(set(listed)) == 2


def _newest(run: Path) -> Path:
    return sorted((run / "checkpoints").iterdir())[-1]


def _newer(run: Path) -> None:
    for folder in (run / "checkpoints").iterdir():
        path = folder / MANIFEST
        path.write_bytes(_sealed({**json.loads(path.read_bytes()), "format": 99}))


def _edited(run: Path) -> None:
    for folder in (run / "checkpoints").iterdir():
        path = folder / MANIFEST
        path.write_text(path.read_text().replace('"bytes"', '"bytez"', 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [(_newer, "format 99"), (_edited, "edited")],
    ids=["A19 a newer format", "A19 a manifest by hand"],
)
def test_a_checkpoint_that_is_not_ours_is_refused(
    change: Change, message: str, run: Path, model: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    change(copy)
    words = [*train_words(model, rows, copy), "--max_steps", "3", "--save_steps", "1"]
    words += ["--save_strategy", "steps", "--learning_rate", "0.05", "--resume", "true"]
    code, text = go(capsys, *words)
    assert_refused(code, text, "E503", message)


def test_a19_a_checkpoint_of_another_run_is_refused(
    run: Path, model: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    other = tmp_path / "other"
    words = [*train_words(model, rows, other), "--save_steps", "1", "--save_strategy", "steps"]
    assert go(capsys, *words, "--max_steps", "2", "--learning_rate", "0.01")[0] == 0
    for folder in (other / "checkpoints").iterdir():
        shutil.rmtree(folder)
    shutil.copytree(_newest(run), other / "checkpoints" / _newest(run).name)
    code, text = go(
        capsys, *words, "--max_steps", "3", "--learning_rate", "0.01", "--resume", "true"
    )
    assert_refused(code, text, "E502", "learning_rate")
