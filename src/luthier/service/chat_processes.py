"""Chat for the service: one process that holds the device while it is needed.

It starts with the first request, answers one request after the other, and ends when nobody has
asked for a while or a job wants the device.  The server only passes lines on.
"""

import contextlib
import itertools
import json
import queue
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from luthier import children, errors
from luthier.bounded import decode_ours
from luthier.errors import ChatBusyError, ServiceError
from luthier.process_messages import AnswerEvent

IDLE_S = 300.0
MAX_WAITING = 8
START_S = 120.0
"""Longest wait for the process to import its libraries and take the device."""

WANTED_S = 2.0
"""How long after a job asked for the device no further request is taken: it asks again and again."""

SILENT_S = 600.0
"""Longest silence while a model is loaded or a token computed."""

_ENDS = frozenset({"usage", "error", "fault", "cancelled"})


class _Process:
    """The chat process of one device, and the threads that read it."""

    def __init__(self, device: str, log: Path, reach: Collection[Path]) -> None:
        self._streams: dict[str, queue.Queue[AnswerEvent]] = {}
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self.used = time.monotonic()
        self._started: queue.Queue[AnswerEvent] = queue.Queue()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors_file:
            hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "none" else {}
            self._child = children.start(
                "luthier.worker.chat_process",
                device,
                environment=children.serving_environment(reach) | hidden,
                stdin=children.PIPE,
                stdout=children.PIPE,
                stderr=errors_file.fileno(),
            )
        self._reader = threading.Thread(target=self._read, name="chat", daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Return when it holds the device.

        Raises:
            ChatBusyError: Somebody else has the device.
            ServiceError: It did not start.
        """
        try:
            first = self._started.get(timeout=START_S)
        except queue.Empty:
            first = {"type": "ended"}
        if first["type"] == "refused":
            self.stop()
            raise errors.from_dict(first["error"])
        if first["type"] != "ready":
            self.stop()
            raise ServiceError(
                "the chat process did not start",
                why=f"it ended, or took more than {START_S:.0f} s",
                fix="luthier doctor",
            )

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    @property
    def waiting(self) -> int:
        """Requests that are being answered or wait."""
        return len(self._streams)

    def ask(self, request: Mapping[str, object]) -> Iterator[AnswerEvent]:
        """Events of one request; closing the iterator cancels it."""
        name, stream = f"r{next(self._ids)}", queue.Queue[AnswerEvent]()
        with self._lock:
            self._streams[name] = stream
        ended = False
        try:
            self._send({**request, "id": name, "op": "complete"})
            while not ended:
                event = stream.get(timeout=SILENT_S)
                ended = event["type"] in _ENDS
                yield event
        except queue.Empty:
            self.stop()
            raise ServiceError(
                f"the model said nothing for {SILENT_S:.0f} s",
                why="the chat process was stopped",
                fix="ask again",
            ) from None
        finally:
            if not ended and self.alive:
                with contextlib.suppress(ServiceError):  # gone in this moment: nothing to cancel
                    self._send({"id": name, "op": "cancel"})
            with self._lock:
                self._streams.pop(name, None)
            self.used = time.monotonic()

    def kill(self) -> None:
        """End it, from any thread; `stop` clears up."""
        children.kill(self._child)

    def stop(self) -> None:
        """End it and give its device back; returns when it is gone."""
        children.kill(self._child)
        self._child.wait()
        self._reader.join()
        children.close_pipes(self._child)

    def _send(self, body: Mapping[str, object]) -> None:
        pipe = self._child.stdin
        assert pipe is not None
        try:
            with self._lock:
                pipe.write(json.dumps(body).encode() + b"\n")
                pipe.flush()
        except (BrokenPipeError, ValueError) as error:
            raise _ended() from error

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            event: AnswerEvent = decode_ours(line)
            name = event.pop("id", None)
            if name is None:
                self._started.put(event)
            elif (stream := self._streams.get(name)) is not None:
                stream.put(event)
        self._started.put({"type": "ended"})
        with self._lock:
            left = list(self._streams.values())
        for stream in left:
            stream.put({"type": "error", "error": _ended().as_dict()})


def _ended() -> ServiceError:
    return ServiceError(
        "the chat process ended while it was answering",
        why="it was stopped, or ran out of memory",
        fix="ask again; a smaller model or --load_in_4bit needs less memory",
    )


class ChatProcesses:
    """Completions by models on one device.

    Args:
        device: Whose lease is taken, such as `cuda:0` or `cpu`.
        log: File for what the process prints.
        idle_s: Seconds without a request after which models and device are given up.
        reach: Folders that it opens; none is no limit.
    """

    def __init__(
        self, device: str, log: Path, *, idle_s: float = IDLE_S, reach: Collection[Path] = ()
    ) -> None:
        self._device, self._log, self._idle_s, self._reach = device, log, idle_s, reach
        self._lock = threading.Lock()
        self._processes: dict[str, _Process] = {}
        self._wanted = -WANTED_S
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="chat-idle", daemon=True).start()

    def complete(self, request: Mapping[str, object]) -> Iterator[AnswerEvent]:
        """Events of one request: see `luthier.inference.completion`, and `loading`.

        Args:
            request: `model`, and `messages` or `prompt`; `max_tokens`, `temperature`, `top_p`,
                `seed`, `n`, `stop`, `logprobs`, `top_logprobs`, `logit_bias`, the two penalties,
                `tools`.  `device: "cpu"` answers on the processor beside a running job.

        Raises:
            ChatBusyError: A job has the device or waits for it, or `MAX_WAITING` requests wait.
            LuthierError: What the model's process reports.
        """
        device = "none" if request.get("device") == "cpu" else self._device
        if device == self._device and time.monotonic() - self._wanted < WANTED_S:
            raise ChatBusyError(
                f"a job waits for device {device}",
                why="it starts when the answers at work are done",
                fix='try again when it has ended, or with "luthier": {"device": "cpu"}',
            )
        process = self._process(device)
        if process.waiting >= MAX_WAITING:
            raise ChatBusyError(
                f"{MAX_WAITING} requests are waiting for an answer",
                why="one is answered after the other",
                fix="try again in a few seconds",
            )
        for event in process.ask(request):
            if event["type"] == "error":
                raise errors.from_dict(event["error"])
            if event["type"] == "fault":
                raise ServiceError(
                    f"the model could not answer: {event['fault']}",
                    why="this is a fault of luthier",
                    fix=f"the details are in {self._log.name}",
                )
            if event["type"] != "cancelled":
                yield event

    def _process(self, device: str) -> _Process:
        with self._lock:
            found = self._processes.get(device)
            if found is None or not found.alive:
                if found is not None:
                    found.stop()
                if self._closed.is_set():
                    raise _ended()
                found = self._processes[device] = _Process(device, self._log, self._reach)
                found.wait_until_ready()
            found.used = time.monotonic()
            return found

    @property
    def holds_device(self) -> bool:
        """Whether the process that holds the device lives."""
        process = self._processes.get(self._device)
        return process is not None and process.alive

    def release(self) -> bool:
        """Give the device to a job that waits for it; false while an answer is being written.

        It does not wait for a process that is being started: whoever asks has other jobs too.
        No further request is taken meanwhile, or one after the other would keep the job out.
        """
        self._wanted = time.monotonic()
        if not self._lock.acquire(blocking=False):
            return False
        try:
            process = self._processes.get(self._device)
            if process is not None and process.alive:
                if process.waiting:
                    return False
                process.stop()
            self._wanted = -WANTED_S
            return True
        finally:
            self._lock.release()

    def kill(self) -> None:
        """End every process without waiting for its end: who waits for an answer gets an error."""
        self._closed.set()
        for process in [*self._processes.values()]:
            process.kill()

    def close(self) -> None:
        """End every process; returns when all are gone."""
        self.kill()
        with self._lock:
            for process in self._processes.values():
                process.stop()

    def _watch(self) -> None:
        while not self._closed.wait(min(5.0, self._idle_s)):
            with self._lock:
                for process in self._processes.values():
                    idle = time.monotonic() - process.used
                    if process.alive and not process.waiting and idle > self._idle_s:
                        process.stop()
