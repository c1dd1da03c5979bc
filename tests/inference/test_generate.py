"""Generation: the published continuation of a real model, and caches that change nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.tiny import FAMILIES, IM_END, tiny_model_folder
from torch import nn

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import SettingsError, TooLongError
from luthier.inference.generate import PrefixCache, batch_generate, generate
from luthier.models.build import generation_mode
from luthier.models.load import load_base

PROMPT = [40, 7, 99, 3, 12, 200, 31, 5, 77]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return load_base(tiny_model_folder(tmp_path_factory.mktemp("llama")), dtype=torch.float32)


def uncached(model: nn.Module, prompt: list[int], number: int) -> list[int]:
    """The plain twin: every token from the whole text so far."""
    ids = list(prompt)
    with generation_mode(model), torch.no_grad():
        for _ in range(number):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_stories260k_tells_its_published_story(shared: Callable[[str], Path]) -> None:
    folder = shared("models/stories260K_hf")
    model, tokenizer = load_base(folder, dtype=torch.float32), Tokenizer.from_folder(folder)
    ids = list(generate(model, [1], max_new_tokens=256))
    told = shared("models/stories260K/greedy_256.txt").read_text(encoding="utf-8")
    assert tokenizer.decode(ids) + "\n" == told


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_changes_no_token(family: str, tmp_path: Path) -> None:
    model = load_base(tiny_model_folder(tmp_path, family), dtype=torch.float32)
    assert list(generate(model, PROMPT, max_new_tokens=16)) == uncached(model, PROMPT, 16)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "qwen3_next"])
def test_the_next_turn_reuses_what_is_computed(family: str, tmp_path: Path) -> None:
    model = load_base(tiny_model_folder(tmp_path, family), dtype=torch.float32)
    cache = PrefixCache(model)
    first = list(generate(model, PROMPT, max_new_tokens=8, prefix_cache=cache))
    turns = {
        16: [*PROMPT, *first, 9, 8],  # the last token of an answer was never computed
        12: [*PROMPT, *first[:3], 7],
        4: PROMPT[:5],
        0: [1, 2, 3],
    }
    for agreed, prompt in turns.items():
        answer = generate(model, prompt, max_new_tokens=8, prefix_cache=cache)
        assert list(answer) == uncached(model, prompt, 8)
        assert answer.num_reused == (agreed if cache.trims or agreed == 16 else 0)


def test_a_long_prompt_is_computed_in_chunks(
    llama: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.inference.generate.CHUNK_T", 4)
    assert list(generate(llama, PROMPT, max_new_tokens=8)) == uncached(llama, PROMPT, 8)


def test_a_seed_reproduces_and_another_differs(llama: nn.Module) -> None:
    def draw(seed: int, top_p: float = 0.9) -> list[int]:
        return list(
            generate(llama, PROMPT, max_new_tokens=24, temperature=1.3, top_p=top_p, seed=seed)
        )

    state = torch.get_rng_state()
    assert draw(5) == draw(5) != draw(6)
    assert torch.equal(state, torch.get_rng_state())
    # So small a share holds the likeliest token alone.
    assert draw(5, top_p=1e-9) == uncached(llama, PROMPT, 24)


def test_it_ends_at_a_stop_token_and_does_not_give_it_out(llama: nn.Module) -> None:
    all_ids = uncached(llama, PROMPT, 16)
    stop = next(token for token in all_ids[3:] if token not in all_ids[:3])
    answer = generate(llama, PROMPT, max_new_tokens=16, stop_ids={stop, IM_END})
    assert list(answer) == all_ids[: all_ids.index(stop)]
    assert answer.finish == "stop"


def test_the_context_is_never_overrun(llama: nn.Module) -> None:
    answer = generate(llama, [3] * 250, max_new_tokens=50)
    assert len(list(answer)) == 6
    assert answer.finish == "context"
    with pytest.raises(TooLongError, match="256 tokens"):
        generate(llama, [3] * 256, max_new_tokens=1)


def test_arguments_out_of_range_are_named_together(llama: nn.Module) -> None:
    with pytest.raises(SettingsError, match=r"max_new_tokens=0 .*temperature=-1.*top_p=0"):
        generate(llama, PROMPT, max_new_tokens=0, temperature=-1, top_p=0)
    with pytest.raises(SettingsError, match="prompt is empty"):
        generate(llama, [], max_new_tokens=1)


def test_batches_give_each_prompt_its_own_answer(llama: nn.Module) -> None:
    prompts = [PROMPT, PROMPT[::-1], PROMPT[:4], [5] * 9, [6, 7, 8, 9]]
    alone = [uncached(llama, prompt, 12) for prompt in prompts]
    assert batch_generate(llama, prompts, max_new_tokens=12, max_batch=2) == alone
    stop = alone[0][5]
    cut = [row[: row.index(stop)] if stop in row else row for row in alone]
    assert batch_generate(llama, prompts, max_new_tokens=12, stop_ids={stop}) == cut


def test_an_interrupted_answer_leaves_no_half_cache(
    llama: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PrefixCache(llama)
    answer = generate(llama, PROMPT, max_new_tokens=8, prefix_cache=cache)
    next(answer)
    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "forward", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(answer)
    assert cache.ids == []
    again = generate(llama, PROMPT, max_new_tokens=8, prefix_cache=cache)
    assert list(again) == uncached(llama, PROMPT, 8)


def _interrupted(*_: object) -> torch.Tensor:
    raise KeyboardInterrupt


def longrope(path: Path, border: int = 20) -> nn.Module:
    """A model that turns its positions by another rule beyond 20 tokens."""
    half = 32 // 4 // 2
    rope = {"rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * half}
    rope |= {"long_factor": [4.0] * half, "original_max_position_embeddings": border}
    named = {"rope_parameters": rope, "original_max_position_embeddings": border}
    return load_base(tiny_model_folder(path, "phi3", **named), dtype=torch.float32)


@pytest.mark.parametrize("length", [5, 19, 20, 21, 40])
def test_an_answer_that_crosses_the_border_of_longrope_is_that_without_a_cache(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.inference.generate.CHUNK_T", 8)
    model = longrope(tmp_path)
    prompt = [(7 * place) % 250 for place in range(1, length + 1)]
    wanted = uncached(model, prompt, 24)
    assert list(generate(model, prompt, max_new_tokens=24)) == wanted
    other = [*prompt[:-1], 9]
    both = batch_generate(model, [prompt, other], max_new_tokens=24)
    assert both == [wanted, uncached(model, other, 24)]


def test_a_dialogue_over_the_border_of_longrope_and_back_reuses_no_stale_key(
    tmp_path: Path,
) -> None:
    model = longrope(tmp_path)
    cache = PrefixCache(model)
    prompt = [(7 * place) % 250 for place in range(1, 18)]
    first = list(generate(model, prompt, max_new_tokens=12, prefix_cache=cache))
    assert len(cache.ids) > 20
    for again in ([*prompt[:9], 3], [*prompt, *first, 4, 5], [*prompt[:4], 8]):
        made = generate(model, again, max_new_tokens=6, prefix_cache=cache)
        assert list(made) == uncached(model, again, 6)
