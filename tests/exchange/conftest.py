"""A real llama.cpp, asked over HTTP."""

import json
import urllib.request
from contextlib import contextmanager

import pytest

xllamacpp = pytest.importorskip("xllamacpp")


class Asked:
    """llama.cpp's server with one model."""

    def __init__(self, server):
        self._server, self._address = server, server.listening_address

    def post(self, path, body):
        request = urllib.request.Request(
            self._address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokens(self, text, parse_special=False):
        body = {"content": text, "add_special": False, "parse_special": parse_special}
        return self.post("/tokenize", body)["tokens"]

    def next_logprobs(self, ids, count):
        """Log-probabilities of the next token by id; empty where the likeliest is an end."""
        body = {
            "prompt": ids,
            "n_predict": 1,
            "n_probs": count,
            "temperature": 0,
            "cache_prompt": False,
        }
        for found in self.post("/completion", body).get("completion_probabilities", []):
            return {one["id"]: one["logprob"] for one in found["top_logprobs"]}
        return {}


@contextmanager
def llama(path, adapter=None):
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup = 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    yield Asked(xllamacpp.Server(params))
