"""What a run says about the forms that it computes with."""

import pytest
import torch
from tests.tiny import tiny_model_folder

from luthier.models.forms import forms
from luthier.models.load import load_base
from luthier.models.quantise import Quantisation


def said(folder, family, quantisation=None, packed=True):
    model = load_base(
        tiny_model_folder(folder, family), dtype=torch.float32, quantisation=quantisation
    )
    return forms(model, device=torch.device("cpu"), dtype=torch.float32, packed=packed)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("llama", "attention: tree (CPU"),
        ("gemma2", "attention: chunks (soft cap 5: no fused kernel has one)"),
    ],
)
def test_the_form_of_attention_is_said_with_its_reason(tmp_path, family, words):
    assert said(tmp_path, family)[0].startswith(words)


def test_another_form_within_a_sliding_window_is_said_too(tmp_path):
    sentences = said(tmp_path, "mistral")
    assert [text.split(" (")[0] for text in sentences] == ["attention: tree", "attention: chunks"]
    assert sentences[1].endswith("of 6 tokens")


def test_quantised_layers_and_models_that_run_unpacked_are_said(tmp_path):
    sentences = said(tmp_path, "llama", quantisation=Quantisation(double=True), packed=False)
    assert "one sequence a row" in sentences[0]
    assert sentences[1].startswith("quantisation: nf4, scales quantised too")
