"""OpenAI's own client, with strict validation, in this process and over a real socket.

The whole file runs once more with the 1.109 client, see `test_openai_older.py`.
"""

import io
import re
import time

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from starlette.testclient import TestClient

from .conftest import TOKEN, on_a_port

OLD = openai.VERSION.startswith("1.")
ROW = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server on a port; no runner, so jobs stay queued."""
    with on_a_port(tmp_path_factory.mktemp("openai") / "home") as found:
        yield found


@pytest.fixture(params=["socket"] if OLD else ["socket", "inside"])
def sdk(request, server):
    address, app = server
    if request.param == "socket":
        with OpenAI(
            base_url=f"{address}/v1", api_key=TOKEN, _strict_response_validation=True
        ) as found:
            yield found
        return
    port = address.rpartition(":")[2]
    inside = TestClient(app, base_url=f"http://127.0.0.1:{port}")  # its life is the server's
    yield OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key=TOKEN,
        http_client=inside,
        _strict_response_validation=True,
    )


@pytest.fixture
def training_file(sdk):
    return sdk.files.create(file=("rows.jsonl", ROW * 12), purpose="fine-tune").id


def test_files_of_every_size_come_back_as_they_were(sdk):
    for content in (b"", ROW, ROW * 20_000):
        made = sdk.files.create(file=("my rows.jsonl", content), purpose="fine-tune")
        assert made.status == "processed"
        assert (made.bytes, made.filename) == (len(content), "my rows.jsonl")
        assert sdk.files.wait_for_processing(made.id).id == made.id
        assert sdk.files.retrieve(made.id) == made
        assert sdk.files.content(made.id).read() == content
        assert sdk.files.delete(made.id).deleted is True
        with pytest.raises(openai.NotFoundError) as refused:
            sdk.files.retrieve(made.id)
        assert refused.value.code == "file_not_found"


def test_a_list_of_files_is_turned_page_by_page(sdk):
    ids = [sdk.files.create(file=(f"{n}.jsonl", ROW), purpose="user_data").id for n in range(5)]
    newest = [file.id for file in sdk.files.list(limit=2, purpose="user_data")]
    assert newest[:5] == ids[::-1]
    oldest = [file.id for file in sdk.files.list(limit=2, order="asc", purpose="user_data")]
    assert oldest == newest[::-1]
    assert not sdk.files.list(limit=100).has_more


@pytest.mark.parametrize("purpose", ["fine-tune", "user_data", "evals", "assistants", "batch"])
def test_purposes_that_may_be_sent_are_returned_so_that_they_validate(sdk, purpose):
    made = sdk.files.create(file=("a.jsonl", ROW), purpose=purpose)
    assert made.purpose == ("user_data" if purpose == "evals" else purpose)


def test_a_purpose_there_is_not(sdk):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.files.create(file=("a.jsonl", ROW), purpose="nonsense")
    assert refused.value.param == "purpose"


def test_a_supervised_job_in_the_simplest_words(sdk, training_file):
    job = sdk.fine_tuning.jobs.create(model="starter", training_file=training_file)
    assert job.status == "queued"
    assert (job.model, job.training_file) == ("starter", training_file)
    assert job.method.type == "supervised"
    assert job.hyperparameters.n_epochs == "auto"
    assert sdk.fine_tuning.jobs.retrieve(job.id).id == job.id
    assert sdk.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert sdk.fine_tuning.jobs.cancel(job.id).status == "cancelled"  # twice does no harm


def test_numbers_are_echoed_as_numbers(sdk, training_file):
    method = {
        "type": "supervised",
        "supervised": {
            "hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
        },
    }
    job = sdk.fine_tuning.jobs.create(
        model="starter", training_file=training_file, method=method, seed=7, suffix="mine",
        metadata={"team": "a", "why": "test"},
    )  # fmt: skip
    shown = job.method.supervised.hyperparameters
    assert (shown.n_epochs, shown.batch_size, shown.learning_rate_multiplier) == (2, 4, 0.5)
    assert job.hyperparameters.n_epochs == 2
    assert job.seed == 7
    assert job.metadata == {"team": "a", "why": "test"}
    sdk.fine_tuning.jobs.cancel(job.id)


def test_all_auto_and_the_older_hyperparameters(sdk, training_file):
    for words in ({"n_epochs": "auto", "batch_size": "auto"}, {"n_epochs": 3}):
        job = sdk.fine_tuning.jobs.create(
            model="starter", training_file=training_file, hyperparameters=words
        )
        assert job.hyperparameters.n_epochs == words["n_epochs"]
        assert job.method.type == "supervised"
        sdk.fine_tuning.jobs.cancel(job.id)


def test_a_preference_job(sdk, training_file):
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": 1}}}
    job = sdk.fine_tuning.jobs.create(model="starter", training_file=training_file, method=method)
    assert job.method.type == "dpo"
    assert job.method.dpo.hyperparameters.beta == 0.3
    sdk.fine_tuning.jobs.cancel(job.id)


def test_what_the_schema_lacks_goes_in_one_object_or_among_the_numbers(sdk, training_file):
    extra = {"luthier": {"lora_dim": 4, "method": "lora", "name": "mine", "priority": 5}}
    job = sdk.fine_tuning.jobs.create(
        model="starter", training_file=training_file, extra_body=extra
    )
    assert job.luthier["settings"]["lora_dim"] == 4
    assert (job.luthier["name"], job.luthier["priority"]) == ("mine", 5)
    assert job.luthier["provenance"]["lora_dim"] != "default"
    sdk.fine_tuning.jobs.cancel(job.id)
    method = {
        "type": "supervised",
        "supervised": {"hyperparameters": {"lora_rank": 2, "seq_length": 64}},
    }
    job = sdk.fine_tuning.jobs.create(
        model="starter", training_file=training_file, extra_body={"method": method}
    )
    assert job.luthier["settings"]["lora_dim"] == 2
    assert job.luthier["settings"]["seq_length"] == 64
    sdk.fine_tuning.jobs.cancel(job.id)


BAD = [
    ({"model": "no-such-model"}, "model"),
    ({"model": "/etc"}, "model"),
    ({"model": "ft:starter:local::nothing"}, "model"),
    ({"training_file": "file-000000000000000000000000"}, "training_file"),
    ({"training_file": "../../etc/passwd"}, "training_file"),
    ({"validation_file": "file-000000000000000000000000"}, "validation_file"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size"),
    ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier"),
    ({"seed": -1}, "seed"),
    ({"suffix": "x" * 65}, "suffix"),
    ({"suffix": "../x"}, "suffix"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
    ({"method": {"type": "reinforcement"}}, "method.type"),
    ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 3}}}}, "method.dpo.hyperparameters.beta"),
    ({"method": {"type": "dpo", "supervised": {"hyperparameters": {"n_epochs": 2}}}}, "method.supervised"),
    ({"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 0.2}}}}, "method.dpo"),
    ({"hyperparameters": {"n_epochs": 3},
      "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}},
     "hyperparameters.n_epochs"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
    ({"extra_body": {"luthier": {"lora_dmi": 3}}}, "luthier.lora_dmi"),
    ({"extra_body": {"luthier": {"lora_dim": -1}}}, "luthier.lora_dim"),
    ({"extra_body": {"luthier": {"output_dir": "/tmp/x"}}}, "luthier.output_dir"),
    ({"extra_body": {"luthier": {"trust_remote_code": True}}}, "luthier.trust_remote_code"),
    ({"extra_body": {"luthier": {"chat_template": "{{ 1 }}"}}}, "luthier.chat_template"),
    ({"extra_body": {"surprise": 1}}, "surprise"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "param"), BAD, ids=lambda value: str(value)[:50])
def test_bad_values_are_refused_by_name(sdk, training_file, change, param):
    asked = {"model": "starter", "training_file": training_file, **change}
    started = time.monotonic()
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(**asked)
    assert time.monotonic() - started < 2  # it was not sent three times
    error = refused.value
    assert str(error.param).startswith(param.split(".")[0])
    assert error.param == param or param in str(error.body), error.body
    assert error.request_id.startswith("req_")
    assert sdk.files.retrieve(training_file).status == "processed"


OUT_OF_RANGE = [("n_epochs", value, "should be 'auto' or a whole number from 1 to 50")
                for value in (300, "3", 0, 1.5, True)]  # fmt: skip
OUT_OF_RANGE += [
    ("batch_size", 257, "should be 'auto' or a whole number from 1 to 256"),
    ("learning_rate_multiplier", 0, "should be 'auto' or a number above 0 up to 1e+06"),
]


@pytest.mark.parametrize(("name", "value", "said"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_answered_with_the_range(sdk, training_file, name, value, said):
    for place in ("hyperparameters", "method"):
        given = {"hyperparameters": {name: value}}
        if place == "method":
            given = {"method": {"type": "supervised", "supervised": given}}
        with pytest.raises(openai.BadRequestError, match=re.escape(said)):
            sdk.fine_tuning.jobs.create(model="starter", training_file=training_file, **given)


def test_the_same_hyperparameters_in_both_places_are_no_contradiction(sdk, training_file):
    words = {"n_epochs": 2}
    method = {"type": "supervised", "supervised": {"hyperparameters": {**words, "batch_size": 4}}}
    job = sdk.fine_tuning.jobs.create(
        model="starter", training_file=training_file, hyperparameters=words, method=method
    )
    assert job.hyperparameters.n_epochs == 2
    sdk.fine_tuning.jobs.cancel(job.id)


def test_jobs_are_listed_newest_first_and_by_metadata(sdk, training_file):
    mark = training_file[-8:]
    made = [
        sdk.fine_tuning.jobs.create(
            model="starter", training_file=training_file, metadata={"mark": mark, "n": str(n)}
        ).id
        for n in range(5)
    ]
    plain = sdk.fine_tuning.jobs.create(model="starter", training_file=training_file).id
    listed = [job.id for job in sdk.fine_tuning.jobs.list(limit=2)]
    assert [one for one in listed if one in made] == made[::-1]
    if not OLD or hasattr(sdk.fine_tuning.jobs, "pause"):
        some = [job.id for job in sdk.fine_tuning.jobs.list(limit=2, metadata={"mark": mark})]
        assert some == made[::-1]
        one = [job.id for job in sdk.fine_tuning.jobs.list(metadata={"mark": mark, "n": "3"})]
        assert one == [made[3]]
    assert plain in listed
    for id in (*made, plain):
        sdk.fine_tuning.jobs.cancel(id)


def test_pause_and_resume_and_what_the_state_forbids(sdk, training_file):
    loose = sdk.with_options()
    loose._strict_response_validation = False  # its type has no `paused`, its documentation has
    job = loose.fine_tuning.jobs.create(model="starter", training_file=training_file)
    assert loose.fine_tuning.jobs.pause(job.id).status == "paused"
    with pytest.raises(openai.APIResponseValidationError):
        sdk.fine_tuning.jobs.retrieve(job.id)
    assert loose.fine_tuning.jobs.resume(job.id).status == "queued"
    started = time.monotonic()
    with pytest.raises(openai.BadRequestError, match="queued"):
        sdk.fine_tuning.jobs.resume(job.id)
    sdk.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        sdk.fine_tuning.jobs.pause(job.id)
    assert time.monotonic() - started < 2


def test_events_of_a_job_are_turned_page_by_page(sdk, training_file):
    job = sdk.fine_tuning.jobs.create(model="starter", training_file=training_file)
    sdk.fine_tuning.jobs.cancel(job.id)
    events = list(sdk.fine_tuning.jobs.list_events(job.id, limit=1))
    assert [event.data["state"] for event in events] == ["cancelled", "queued", "created"]
    assert events[-1].message == "Created fine-tuning job"
    assert list(sdk.fine_tuning.jobs.checkpoints.list(job.id)) == []
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.list_events(job.id, after="ftevent-forged-l1")
    assert refused.value.param == "after"


def test_models_with_a_slash_in_their_name(sdk):
    assert "starter" in [model.id for model in sdk.models.list()]
    name = "Qwen/Qwen3-0.6B"
    assert sdk.models.retrieve(name).id == name
    with pytest.raises(openai.PermissionDeniedError):
        sdk.models.delete(name)
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.models.retrieve("nobody/nothing:v1")
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        sdk.models.delete("ft:starter:local::nothing")


def test_a_wrong_token_and_a_wrong_address(sdk):
    with pytest.raises(openai.AuthenticationError) as refused:
        sdk.with_options(api_key="wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.post("/nothing", cast_to=object, body={})
    assert refused.value.code == "unknown_url"


def test_organisation_and_project_are_taken_and_ignored(sdk):
    other = sdk.with_options(organization="org-x", project="proj-y")
    assert other.models.list().data


def test_a_repeated_create_is_one_job(sdk, training_file):
    asked = {"model": "starter", "training_file": training_file, "suffix": "again"}
    first = sdk.fine_tuning.jobs.create(**asked)
    again = sdk.fine_tuning.jobs.create(**asked, extra_headers={"x-stainless-retry-count": "1"})
    other = sdk.fine_tuning.jobs.create(**asked)
    assert again.id == first.id != other.id
    key = {"Idempotency-Key": f"key-{training_file}"}
    one = sdk.fine_tuning.jobs.create(**asked, extra_headers=key)
    assert sdk.fine_tuning.jobs.create(**asked, extra_headers=key).id == one.id
    with pytest.raises(openai.BadRequestError):
        sdk.fine_tuning.jobs.create(**{**asked, "seed": 3}, extra_headers=key)
    for id in {first.id, other.id, one.id}:
        sdk.fine_tuning.jobs.cancel(id)


def test_an_upload_in_parts(sdk):
    whole = ROW * 3
    upload = sdk.uploads.create(
        bytes=len(whole), filename="rows.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    assert upload.status == "pending"
    ids = [
        sdk.uploads.parts.create(upload.id, data=io.BytesIO(piece)).id for piece in (ROW, ROW * 2)
    ]
    done = sdk.uploads.complete(upload.id, part_ids=ids)
    assert done.status == "completed"
    assert sdk.files.content(done.file.id).read() == whole
    other = sdk.uploads.create(
        bytes=5, filename="x.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    assert sdk.uploads.cancel(other.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        sdk.uploads.parts.create(other.id, data=io.BytesIO(b"late"))


@pytest.mark.anyio
async def test_the_asynchronous_client(server):
    address, _ = server
    async with AsyncOpenAI(
        base_url=f"{address}/v1", api_key=TOKEN, _strict_response_validation=True
    ) as client:
        file = await client.files.create(file=("a.jsonl", ROW), purpose="fine-tune")
        job = await client.fine_tuning.jobs.create(model="starter", training_file=file.id)
        listed = [one.id async for one in client.fine_tuning.jobs.list(limit=1)]
        assert job.id in listed
        assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
        with pytest.raises(openai.BadRequestError):
            await client.fine_tuning.jobs.create(model="starter", training_file="file-x")


@pytest.fixture
def anyio_backend():
    return "asyncio"
