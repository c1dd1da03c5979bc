"""One real job on the starter model, made, followed and used through OpenAI's client.

Also run with the 1.109 client, see `test_openai_older.py`.
"""

import time

import openai
import pytest
from openai import OpenAI

from .conftest import STARTER, TOKEN, on_a_port

STEPS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A finished job: the client, the job, the address."""
    home = tmp_path_factory.mktemp("world") / "home"
    patch = pytest.MonkeyPatch()
    patch.setenv("LUTHIER_HOME", str(home))
    with on_a_port(home, run_jobs=True) as (address, app):
        client = OpenAI(base_url=f"{address}/v1", api_key=TOKEN, _strict_response_validation=True)
        lines = (STARTER / "sft_train.jsonl").read_bytes().splitlines(keepends=True)
        held = (STARTER / "sft_eval.jsonl").read_bytes().splitlines(keepends=True)
        train = client.files.create(file=("train.jsonl", b"".join(lines[:64])), purpose="fine-tune")
        held_out = client.files.create(file=("eval.jsonl", b"".join(held[:8])), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="starter",
            training_file=train.id,
            validation_file=held_out.id,
            suffix="first",
            extra_body={
                "luthier": {"max_steps": STEPS, "lora_dim": 4, "eval_steps": 3, "save_steps": 3,
                            "save_total_limit": None, "seq_length": 128,
                            "per_device_train_batch_size": 4}
            },
        )  # fmt: skip
        deadline = time.monotonic() + 240
        while job.status not in ("succeeded", "failed") and time.monotonic() < deadline:
            time.sleep(0.5)
            job = client.fine_tuning.jobs.retrieve(job.id)
        log = app.parts.jobs.get(job.id).run_path / "stderr.log"
        assert job.status == "succeeded", (job.error, log.exists() and log.read_text()[-2000:])
        yield client, job, address, app
    patch.undo()


@pytest.fixture
def client(world):
    return world[0]


@pytest.fixture
def job(world):
    return world[1]


def test_the_job_says_what_it_was_and_what_came_out(client, job):
    assert job.fine_tuned_model == f"ft:starter:local:first:{job.id[-8:]}"
    assert job.finished_at >= job.created_at
    assert job.trained_tokens > 0
    assert isinstance(job.hyperparameters.n_epochs, int)
    assert job.hyperparameters.batch_size == 4
    assert isinstance(job.hyperparameters.learning_rate_multiplier, float | int)
    assert job.luthier["provenance"]["learning_rate"].startswith(("chosen", "gallery"))
    assert job.error is None


def test_the_list_shows_the_same_job(client, job):
    (listed,) = [one for one in client.fine_tuning.jobs.list() if one.id == job.id]
    assert listed == client.fine_tuning.jobs.retrieve(job.id)
    assert listed.result_files
    assert listed.trained_tokens > 0


def test_its_figures_are_a_file(client, job):
    (id,) = job.result_files
    assert client.files.retrieve(id).purpose == "fine-tune-results"
    lines = client.files.content(id).read().decode().splitlines()
    assert lines[0].startswith("step,train_loss,train_accuracy,valid_loss")
    assert len(lines) == STEPS + 1
    assert client.fine_tuning.jobs.retrieve(job.id).result_files == [id]


def test_its_events_tell_the_story_newest_first(client, job):
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
    assert [event.created_at for event in events] == sorted(
        (event.created_at for event in events), reverse=True
    )
    assert len({event.id for event in events}) == len(events)
    assert events[0].message == "The job has successfully completed"
    assert events[-1].message == "Created fine-tuning job"
    steps = [event for event in events if event.message.startswith("Step ")]
    assert [event.data["step"] for event in steps] == list(range(STEPS, 0, -1))
    assert all(event.type == "metrics" and event.data["train_loss"] > 0 for event in steps)
    assert [
        event.data["full_valid_loss"] > 0 for event in events if "full_valid_loss" in event.data
    ]


def test_its_checkpoints_are_there(client, job):
    found = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    assert [one.step_number for one in found] == [6, 3]
    assert found[0].fine_tuned_model_checkpoint == f"{job.fine_tuned_model}:ckpt-step-6"
    assert found[0].metrics.full_valid_loss > 0


def test_what_is_done_cannot_be_undone(client, job):
    for act in (client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.pause):
        with pytest.raises(openai.BadRequestError, match="finished"):
            act(job.id)


def test_the_tuned_model_is_a_model(client, job):
    model = client.models.retrieve(job.fine_tuned_model)
    assert model.owned_by == "local"
    assert model.luthier["job"] == job.id
    assert job.fine_tuned_model in [one.id for one in client.models.list()]


MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.mark.parametrize("tuned", [False, True], ids=["base", "tuned"])
def test_chat(client, job, tuned):
    answer = client.chat.completions.create(
        model=job.fine_tuned_model if tuned else "starter",
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            *MESSAGES,
        ],
        max_completion_tokens=8,
        temperature=0,
        n=2,
        seed=1,
        logprobs=True,
        top_logprobs=3,
        user="me",
        store=False,
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content == answer.choices[1].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    listed = answer.choices[0].logprobs.content
    assert all(len(one.top_logprobs) == 3 and one.logprob <= 0 for one in listed)
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 8


def test_a_stream_is_the_answer_in_pieces(client, job):
    asked = {"model": job.fine_tuned_model, "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stop_text_ends_the_answer(client):
    asked = {"model": "starter", "messages": MESSAGES, "max_tokens": 12, "temperature": 0}
    text = client.chat.completions.create(**asked).choices[0].message.content
    stop = text[len(text) // 2]
    cut = client.chat.completions.create(**asked, stop=[stop]).choices[0]
    assert cut.message.content == text[: text.index(stop)]
    assert cut.finish_reason == "stop"


def test_completions(client):
    done = client.completions.create(
        model="starter", prompt=["Once upon", "The sky"], max_tokens=4, logprobs=2, echo=True,
        temperature=0,
    )  # fmt: skip
    assert [choice.index for choice in done.choices] == [0, 1]
    assert done.choices[1].text.startswith("The sky")
    assert len(done.choices[0].logprobs.tokens) == len(done.choices[0].logprobs.token_logprobs)
    loose = client.with_options()  # its type has no null reason, which its own service sends
    loose._strict_response_validation = False
    pieces = list(
        loose.completions.create(
            model="starter", prompt="Once upon", max_tokens=4, temperature=0, stream=True
        )
    )
    text = "".join(piece.choices[0].text for piece in pieces if piece.choices)
    assert "Once upon" + text == done.choices[0].text


REFUSED = [
    ({"model": "nobody/nothing"}, openai.APIStatusError, None),
    ({"model": "no-such"}, openai.NotFoundError, "model"),
    ({"messages": []}, openai.BadRequestError, "messages"),
    ({"messages": [{"role": "boss", "content": "x"}]}, openai.BadRequestError, "messages.0.role"),
    ({"temperature": 3}, openai.BadRequestError, "temperature"),
    ({"n": 99}, openai.BadRequestError, "n"),
    ({"stop": list("abcde")}, openai.BadRequestError, "stop"),
    ({"top_logprobs": 5}, openai.BadRequestError, "top_logprobs"),
    ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format"),
    ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice"),
    ({"extra_body": {"chat_template": "{{ 1 }}"}}, openai.BadRequestError, "chat_template"),
    ({"extra_body": {"nonsense": 1}}, openai.BadRequestError, "nonsense"),
    (
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]},
        openai.BadRequestError,
        "messages.0.content.0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "param"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_done_is_refused_not_ignored(client, change, kind, param):
    asked = {"model": "starter", "messages": MESSAGES, "max_tokens": 2, **change}
    with pytest.raises(kind) as refused:
        client.with_options(max_retries=0).chat.completions.create(**asked)
    assert param is None or refused.value.param == param


def test_tools_are_offered_to_the_template_and_calls_come_back(client):
    tool = {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
    }
    answer = client.chat.completions.create(
        model="starter", messages=MESSAGES, tools=[tool], tool_choice="auto", max_tokens=4
    )
    assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_the_figures_for_the_page(world):
    client, job, address, _ = world
    shown = client.get(f"{address}/api/jobs/{job.id}/metrics?points=100", cast_to=object)
    assert shown["steps"] == list(range(1, STEPS + 1))
    assert len(shown["series"]["loss"]) == STEPS
    assert shown["total_points"] == STEPS
    assert {one["step"] for one in shown["evaluations"]} >= {3, 6}
    assert shown["monitor"]["series"]["rss_bytes"][0] > 0
    detail = client.get(f"{address}/api/jobs/{job.id}", cast_to=object)
    assert detail["job"]["state"] == "finished"
    assert detail["progress"]["step"] == STEPS
    names = [
        one["path"]
        for one in client.get(f"{address}/api/jobs/{job.id}/files", cast_to=object)["files"]
    ]
    assert "result/adapter_model.safetensors" in names
    assert "result.zip" in names


def test_a_tuned_model_can_be_tuned_on(client, job):
    file = client.files.create(
        file=("a.jsonl", (STARTER / "sft_eval.jsonl").read_bytes()), purpose="fine-tune"
    )
    again = client.fine_tuning.jobs.create(
        model=job.fine_tuned_model, training_file=file.id, extra_body={"luthier": {"max_steps": 1}}
    )
    assert again.model == job.fine_tuned_model
    assert client.fine_tuning.jobs.cancel(again.id).status in ("running", "queued", "cancelled")
