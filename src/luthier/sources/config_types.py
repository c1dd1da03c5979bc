"""What type each field of a `config.json` has, so that a wrong one is named before a model is built.

Only fields that decide what a model computes are listed; transformers checks others when it builds.
"""

from collections.abc import Mapping, Sequence

NUMBERS = (
    "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon", "rope_theta",
    "rope_local_base_freq", "attention_dropout", "hidden_dropout", "embd_pdrop", "resid_pdrop",
    "attn_pdrop", "initializer_range", "attn_logit_softcapping", "final_logit_softcapping",
    "logits_scaling", "logit_scale", "embedding_multiplier", "residual_multiplier",
    "attention_multiplier", "query_pre_attn_scalar", "partial_rotary_factor",
)  # fmt: skip
SWITCHES = (
    "tie_word_embeddings", "use_sliding_window", "attention_bias", "mlp_bias", "use_qk_norm",
    "norm_topk_prob", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "is_encoder_decoder",
)  # fmt: skip
NAMES = ("hidden_act", "activation_function")
DTYPES = {"auto", "float32", "float16", "bfloat16", "float64", "float", "half", "double"}
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
ROPES = ("rope_scaling", "rope_parameters")


def type_problems(config: Mapping[str, object]) -> list[str]:
    """One sentence for each field whose value is of another type or length than the field has."""
    found = [
        f"{name} is {value!r}, a number is needed"
        for name in NUMBERS
        if (value := config.get(name)) is not None and not _is_number(value)
    ]
    found += [
        f"{name} is {value!r}, true or false is needed"
        for name in SWITCHES
        if (value := config.get(name)) is not None and not isinstance(value, bool)
    ]
    found += [
        f"{name} is {config[name]!r}, the name of a function is needed"
        for name in NAMES
        if name in config and not (isinstance(config[name], str) and config[name])
    ]
    for name in ("dtype", "torch_dtype"):
        value = config.get(name)
        plain = value.removeprefix("torch.") if isinstance(value, str) else value
        if value is not None and not (isinstance(plain, str) and plain in DTYPES):
            found.append(f"{name} is {value!r}, one of {', '.join(sorted(DTYPES))} is needed")
    for name in ROPES:
        found += _rope_problems(name, config.get(name))
    return [*found, *_id_problems(config), *_layer_problems(config), *_window_problems(config)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _id_problems(config: Mapping[str, object]) -> list[str]:
    found = []
    for name in IDS:
        value = config.get(name)
        values = value if isinstance(value, list) else [value]
        if any(one is not None and type(one) is not int for one in values):
            found.append(f"{name} is {value!r}, a token id is needed")
    pad, rows = config.get("pad_token_id"), config.get("vocab_size")
    if type(pad) is int and type(rows) is int and not -rows <= pad < rows:
        found.append(f"pad_token_id is {pad}, the vocabulary has ids up to {rows - 1:,}")
    return found


def _rope_problems(name: str, rope: object) -> list[str]:
    if rope is None:
        return []
    if not isinstance(rope, Mapping):
        return [f"{name} is {rope!r}, an object with rope_type is needed"]
    found = []
    for key, value in rope.items():
        where = f"{name}.{key}"
        if isinstance(value, Mapping):  # one for each type of layer
            found += _rope_problems(where, value)
        elif key in ("rope_type", "type"):
            if not isinstance(value, str):
                found.append(f"{where} is {value!r}, a name is needed")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if not all(map(_is_number, value)):
                found.append(f"{where} is a list with something that is no number")
        elif isinstance(value, str):
            found.append(f"{where} is {value!r}, a number is needed")
    return found


def _layer_problems(config: Mapping[str, object]) -> list[str]:
    """Lists that have one entry for each layer."""
    layers = config.get("num_hidden_layers")
    found = []
    for name, kind in (("layer_types", str), ("no_rope_layers", int)):
        value = config.get(name)
        if value is None or (name == "no_rope_layers" and value == []):
            continue
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            found.append(f"{name} is {str(value)[:60]}, a list with one entry a layer is needed")
        elif type(layers) is int and len(value) != layers:
            found.append(f"{name} has {len(value)} entries, the model has {layers} layers")
    return found


def _window_problems(config: Mapping[str, object]) -> list[str]:
    """A window of no token at all: libraries differ in what they make of one."""
    window = config.get("sliding_window")
    if window is None or config.get("use_sliding_window") is False:
        return []
    if type(window) is int and window >= 1:
        return []
    return [f"sliding_window is {window!r}, 1 or more tokens, or null for no window, is needed"]
