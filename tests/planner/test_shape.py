"""Architecture numbers of published configs."""

import csv
import json

from luthier.planner.shape import Matrix, Shape, quantised_bytes


def test_parameter_counts_are_those_of_the_published_models(shared):
    folder = shared("model_configs")
    with (folder / "PARAM_COUNTS.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["config_file"]]
    assert len(rows) >= 30
    wrong = {}
    for row in rows:
        shape = Shape.from_config(json.loads((folder / row["config_file"]).read_text()))
        if shape.num_params != int(row["params_total"]):
            wrong[row["model"]] = shape.num_params - int(row["params_total"])
    assert wrong == {}


def test_gpt2_spells_its_numbers_differently():
    config = {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    }
    shape = Shape.from_config(config)
    assert (shape.hidden, shape.layers, shape.intermediate, shape.head_dim) == (768, 12, 3072, 64)
    assert shape.num_params == 124_439_808  # as published


def test_scales_take_what_the_format_says():
    square = Matrix("x", 4096, 4096)
    codes, scales = quantised_bytes(square, 4)
    assert (codes + scales) / square.size == 0.5625
    codes, scales = quantised_bytes(square, 4, double=True)
    assert abs((codes + scales) / square.size - 0.5159) < 1e-4
    assert quantised_bytes(square, 8) == (4096 * 4096, 4 * 4096)
