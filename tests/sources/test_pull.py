"""Pulling a model from a hub that behaves, and from one that does not."""

import hashlib
import json
import shutil
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from tests.hub_server import COMMIT, serving
from tests.tiny import tiny_model_folder, tiny_tokenizer

from luthier.durable import FileSystem, using, verify_folder
from luthier.errors import (
    ArchitectureError,
    DamagedWeightsError,
    DiskFullError,
    HubError,
    ModelError,
    ModelNotFoundError,
    QuantisationError,
    RemoteCodeError,
    RunExistsError,
    TokenizerError,
    UnsafeWeightsError,
)
from luthier.sources.at_hand import pull
from luthier.sources.http import _Redirects
from luthier.sources.local import find_local, local_models, models_folder
from luthier.sources.source import resolve_source

HUB = "org/tiny"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tiny_model_folder(tmp_path_factory.mktemp("published") / "m", "qwen3")
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "modeling_evil.py").write_text("raise SystemExit('run')")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")
    (folder / "consolidated.safetensors").write_bytes(b"a second copy")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text("{}")
    return folder


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch):
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(published, monkeypatch):
    with serving(org__tiny=published) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def quick(name=HUB, **options):
    return pull(name, **{"timeout_s": 0.5, "pause_s": 0.01, **options})


def nothing_under_a_final_name():
    return local_models() == [] and not list(models_folder().rglob("manifest.json"))


def test_a_pulled_model_is_complete_and_found_by_its_name(hub, published):
    told = []
    model = quick(progress=lambda *now: told.append(now))
    assert (model.name, model.hub, model.revision, model.kind) == (HUB, HUB, COMMIT, "pulled")
    assert model.path == models_folder() / "org--tiny" / COMMIT[:12]
    names = {path.name for path in model.path.iterdir()}
    assert names == {
        "LICENSE", "config.json", "generation_config.json", "manifest.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    for name in names - {"manifest.json"}:
        assert (model.path / name).read_bytes() == (published / name).read_bytes()
    assert verify_folder(model.path, kind="model")["record"]["revision"] == COMMIT
    assert (
        told[-1][1]
        == told[-1][2]
        == sum((published / n).stat().st_size for n in names - {"manifest.json"})
    )
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    found = resolve_source(HUB)
    assert (found.name, found.base) == (HUB, model.path)
    assert find_local("ORG/Tiny") == model


def test_a_complete_model_is_not_fetched_again(hub):
    first = quick()
    before = len(hub.files_asked())
    assert quick() == first
    assert len(hub.files_asked()) == before


def test_training_fetches_a_hub_id_by_the_same_way(hub):
    found = resolve_source(HUB)
    assert found.base == models_folder() / "org--tiny" / COMMIT[:12]
    assert [model.name for model in local_models()] == [HUB]


def test_shards_are_those_of_the_index(published, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(published, tmp_path / "sharded")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    half = len(names) // 2
    place = {
        name: f"model-0000{1 + (n >= half)}-of-00002.safetensors" for n, name in enumerate(names)
    }
    for shard in sorted(set(place.values())):
        part = {name: tensors[name] for name in names if place[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    with serving(org__tiny=folder) as served:
        model = quick(mirror=served.endpoint)
    assert {path.name for path in model.path.glob("*.safetensors")} == set(place.values())
    assert resolve_source(HUB).base == model.path


def test_a_hub_that_is_down_is_said(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HubError, match=r"cannot be used: .*refused") as caught:
        quick(mirror=f"http://127.0.0.1:{port}")
    assert "--mirror URL" in caught.value.fix
    assert nothing_under_a_final_name()


def test_a_hub_that_is_silent_is_given_up_with_its_seconds(hub):
    hub.behaviour.stall_s = 1.0
    with pytest.raises(HubError, match=r"no byte for 0\.2 s, 3 times in a row"):
        quick(timeout_s=0.2)


def test_half_a_file_is_taken_up_where_it_ended(hub, published):
    size = (published / "model.safetensors").stat().st_size
    hub.behaviour.cut_after, hub.behaviour.cut_times = size // 2, 1
    model = quick()
    assert (model.path / "model.safetensors").read_bytes() == (
        published / "model.safetensors"
    ).read_bytes()
    ranges = [
        headers.get("range")
        for path, headers in hub.requests
        if path.endswith("/model.safetensors")
    ]
    assert ranges == [None, f"bytes={size // 2}-"]


def test_a_hub_that_knows_no_ranges_sends_it_again(hub, published):
    hub.behaviour.cut_after, hub.behaviour.cut_times, hub.behaviour.ranges = 1000, 1, False
    model = quick()
    assert (model.path / "model.safetensors").read_bytes() == (
        published / "model.safetensors"
    ).read_bytes()


def test_an_interrupted_pull_goes_on_in_the_next_call(hub, published):
    size = (published / "model.safetensors").stat().st_size
    hub.behaviour.cut_after = 0
    hub.behaviour.cut_times = 0

    def interrupt(name, done, total):
        if name == "model.safetensors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(progress=interrupt)
    assert nothing_under_a_final_name()
    (part,) = models_folder().rglob("model.safetensors.*.part")
    kept = part.stat().st_size
    assert 0 < kept <= size
    with part.open("r+b") as file:
        file.truncate(kept // 2)  # as if the kill had come earlier
    hub.requests.clear()
    model = quick()
    assert hub.files_asked() == ["model.safetensors"]
    assert hub.requests[-1][1]["range"] == f"bytes={kept // 2}-"
    digest = hashlib.sha256((published / "model.safetensors").read_bytes()).hexdigest()
    assert hashlib.sha256((model.path / "model.safetensors").read_bytes()).hexdigest() == digest
    assert not list(models_folder().rglob("*.part"))


def test_a_hub_that_always_stops_early_keeps_what_came(hub):
    hub.behaviour.cut_after = 0
    with pytest.raises(HubError, match="ended after 0 of") as caught:
        quick()
    assert "are kept; pull again goes on there" in caught.value.why
    assert nothing_under_a_final_name()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_are_refused_and_removed(hub, name):
    hub.behaviour.flip = name
    with pytest.raises(DamagedWeightsError, match="does not have its checksum") as caught:
        quick()
    assert name in caught.value.what
    assert nothing_under_a_final_name()
    assert not list(models_folder().rglob(f"{name}*"))


def test_damage_to_what_was_kept_is_found(hub):
    def interrupt(name, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(progress=interrupt)
    (part,) = models_folder().rglob("*.part/*.part")
    part.write_bytes(b"x" * part.stat().st_size)
    with pytest.raises(DamagedWeightsError):
        quick()
    assert verify_folder(quick().path, kind="model")


def test_more_bytes_than_announced_are_refused(hub):
    hub.behaviour.longer = "model.safetensors"
    with pytest.raises(DamagedWeightsError, match=r"sends more of model\.safetensors"):
        quick()
    assert nothing_under_a_final_name()


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_what_to_do(hub, status):
    hub.behaviour.status, hub.behaviour.code = status, "GatedRepo"
    with pytest.raises(HubError, match=f"does not give out org/tiny: status {status}") as caught:
        quick()
    assert "https://huggingface.co/org/tiny" in caught.value.fix
    assert "export HF_TOKEN=" in caught.value.fix


def test_the_token_opens_the_gate_and_is_written_nowhere(hub, monkeypatch):
    hub.behaviour.gate_files, hub.behaviour.token = True, "hf_secret"
    with pytest.raises(HubError, match="status 401"):
        quick()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    model = quick()
    kept = [path.read_bytes() for path in models_folder().rglob("*") if path.is_file()]
    assert model.there
    assert not any(b"hf_secret" in content for content in kept)


def test_the_token_does_not_follow_a_redirect_to_another_host(hub, published, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(org__tiny=published) as store:
        hub.behaviour.redirect = store.endpoint
        quick()
        assert store.files_asked()
        assert all("authorization" not in headers for _, headers in store.requests)
    assert all(headers["authorization"] == "Bearer hf_secret" for _, headers in hub.requests)


def test_a_redirect_to_a_file_of_this_machine_is_refused(hub):
    hub.behaviour.redirect = "file:///etc/passwd#"
    with pytest.raises(HubError, match="status 302"):
        quick()
    assert nothing_under_a_final_name()


def test_a_redirect_from_https_to_http_is_refused():
    asked = urllib.request.Request("https://hub.example/x", headers={"Authorization": "Bearer t"})
    with pytest.raises(HubError, match="sends on to 'http://hub"):
        _Redirects().redirect_request(asked, None, 302, "", {}, "http://hub.example/x")


@pytest.mark.parametrize(("status", "code"), [(404, "RepoNotFound"), (401, "RepoNotFound")])
def test_an_unknown_model_gives_the_nearest_names(hub, status, code):
    hub.behaviour.status, hub.behaviour.code = status, code
    with pytest.raises(ModelNotFoundError, match=r"has no Qwen/Qwen3-0\.6") as caught:
        quick("Qwen/Qwen3-0.6")
    assert "qwen3-0.6b" in caught.value.fix


def test_an_unknown_revision_is_named(hub):
    with pytest.raises(ModelNotFoundError, match="has no revision v9 of org/tiny"):
        quick(revision="v9")


@pytest.mark.parametrize("name", ["a/b/c", "../x", "org/..", "no-such-name", ""])
def test_names_that_are_none_are_refused_before_the_hub_is_asked(hub, name):
    with pytest.raises(ModelNotFoundError, match="no gallery name and no hub id"):
        quick(name)
    assert hub.requests == []


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "a/../../evil", "..\\evil.json", "/etc/passwd", "C:evil", "a\nb", "", 7],
)
def test_a_list_with_a_name_that_leaves_the_folder_is_refused(hub, name):
    hub.behaviour.extra = [{"rfilename": name, "size": 1, "blobId": "0" * 40}]
    with pytest.raises(HubError, match="lists a file called"):
        quick()
    assert hub.files_asked() == []
    assert nothing_under_a_final_name()


def test_files_without_a_checksum_are_not_fetched(hub):
    hub.behaviour.without_checksums = True
    with pytest.raises(HubError, match="no size or checksum of"):
        quick()
    assert hub.files_asked() == []


def test_a_busy_hub_is_asked_again(hub):
    hub.behaviour.status, hub.behaviour.status_times = 503, 2
    assert quick().there
    hub.behaviour.status_times = -1
    with pytest.raises(HubError, match="status 503, 3 times in a row"):
        quick()


def served(tmp_path, published, **changes):
    """A copy of the published folder: `None` removes a file, text or bytes make one."""
    folder = shutil.copytree(published, tmp_path / "changed")
    for name, content in changes.items():
        path = folder / name.replace("__", ".")
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return serving(org__tiny=folder)


def test_a_repository_of_pickles_says_how_to_get_safetensors(tmp_path, published):
    with served(tmp_path, published, model__safetensors=None) as hub:
        with pytest.raises(UnsafeWeightsError, match=r"only as pytorch_model\.bin") as caught:
            quick(mirror=hub.endpoint)
        assert "spaces/safetensors/convert" in caught.value.fix
        assert hub.files_asked() == []


def test_a_repository_of_gguf_is_refused(tmp_path, published):
    changes = {"model__safetensors": None, "pytorch_model__bin": None, "m__gguf": b"GGUF"}
    with served(tmp_path, published, **changes) as hub, pytest.raises(ModelError, match=r"m\.gguf"):
        quick(mirror=hub.endpoint)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "modeling_evil.Config"}},
            RemoteCodeError,
        ),
        ({"quantization_config": {"quant_method": "awq"}}, QuantisationError),
        ({"model_type": "gpt_oss"}, ArchitectureError),
        ({"num_hidden_layers": 10**6}, ModelError),
    ],
)
def test_a_config_that_is_not_wanted_is_refused_before_the_weights(
    tmp_path, published, fields, error
):
    config = json.loads((published / "config.json").read_text()) | fields
    with served(tmp_path, published, config__json=json.dumps(config)) as hub:
        with pytest.raises(error):
            quick(mirror=hub.endpoint)
        assert "model.safetensors" not in hub.files_asked()
    assert nothing_under_a_final_name()


def test_weights_that_are_no_safetensors_are_not_kept(tmp_path, published):
    damaged = served(tmp_path, published, model__safetensors=b"x" * 100)
    with damaged as hub, pytest.raises(DamagedWeightsError):
        quick(mirror=hub.endpoint)
    assert nothing_under_a_final_name()


def test_a_copy_that_is_another_model_does_not_get_the_name_of_the_gallery(published):
    with serving(Qwen__tmp=published) as hub:
        hub.folders["Qwen/Qwen3-0.6B"] = published
        with pytest.raises(ModelError, match=r"is not qwen3-0\.6b: hidden_size is 32, not 1024"):
            quick("qwen3-0.6b", mirror=hub.endpoint)


class Full(FileSystem):
    """A disk on which so many bytes are free, whatever it says before."""

    def __init__(self, free: int, room: int) -> None:
        self.free, self.room = free, room

    def free_bytes(self, path: Path) -> int:
        return self.free

    def write(self, fd: int, data: memoryview) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return super().write(fd, data)


def test_a_model_that_does_not_fit_the_disk_is_refused_first(hub):
    with (
        using(Full(free=1000, room=2**40)),
        pytest.raises(DiskFullError, match="is free") as caught,
    ):
        quick()
    assert "--to DIR" in caught.value.fix
    assert hub.files_asked() == []


def test_a_disk_that_fills_up_keeps_what_came(hub):
    with (
        using(Full(free=2**40, room=20_000)),
        pytest.raises(DiskFullError, match="is not complete"),
    ):
        quick()
    assert nothing_under_a_final_name()
    assert quick().there


def test_a_folder_of_ones_choice(hub, tmp_path):
    model = quick(to=tmp_path / "here" / "m")
    assert model.path == tmp_path / "here" / "m"
    assert resolve_source(HUB).base == model.path
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(RunExistsError, match="is no model that was pulled"):
        quick(to=tmp_path / "mine")


def test_modelscope_speaks_another_protocol(published):
    with serving(org__tiny=published) as hub:
        model = quick(mirror=hub.endpoint, modelscope=True)
        assert all(not path.startswith("/api/models") for path, _ in hub.requests)
        assert quick(mirror=hub.endpoint, modelscope=True) == model
    assert verify_folder(model.path, kind="model")
    assert (model.path / "model.safetensors").read_bytes() == (
        published / "model.safetensors"
    ).read_bytes()


def test_two_pulls_at_once_fetch_it_once(hub):
    found, errors = [], []

    def go():
        try:
            found.append(quick(timeout_s=5).path)
        except ModelError as error:
            errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(found)) == 1
    assert hub.files_asked().count("model.safetensors") == 1


def test_offline_is_obeyed(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        quick()
    assert hub.requests == []


@pytest.mark.parametrize("address", ["ftp://x", "nonsense", "http://user:pass@host", "file:///tmp"])
def test_a_mirror_is_an_http_address(address):
    with pytest.raises(HubError, match="is no address of a hub"):
        quick(mirror=address)


def test_the_starter_needs_no_pull():
    with pytest.raises(ModelNotFoundError, match="starter is not on a hub"):
        quick("starter")


def test_a_model_that_is_gone_says_so(hub):
    model = quick()
    shutil.rmtree(model.path)
    with pytest.raises(ModelNotFoundError, match="which is gone") as caught:
        resolve_source(HUB)
    assert f"luthier gallery forget {HUB}" in caught.value.fix


def test_nothing_of_this_loads_torch():
    import subprocess
    import sys

    code = "import sys, luthier.sources.at_hand; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tokenizers_are_asked_for(published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "bare")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with serving(org__tiny=folder) as hub, pytest.raises(TokenizerError, match="no tokenizer"):
        quick(mirror=hub.endpoint)
    tiny_tokenizer(folder)
    with serving(org__tiny=folder) as hub:
        assert quick(mirror=hub.endpoint).there
