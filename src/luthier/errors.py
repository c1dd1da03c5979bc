"""Everything that can go wrong and that somebody can put right.

LuthierError E000
├── SettingsError E100 ── ConfigFileError E101, UsageError E102, EnvironmentVariableError E103
├── DataError E200
│   ├── FileAccessError E201, EncodingError E202, MalformedFileError E203, BadRowsError E204
│   ├── FormatError E205, NoRowsError E206, TooLongError E207, TemplateError E208
│   └── TokenizerError E209, LimitError E210, NoTargetsError E211
├── CapacityError E300 ── OutOfMemoryError E301, DiskFullError E302, DeviceError E303
├── ModelError E400
│   ├── ModelNotFoundError E401, UnsafeWeightsError E402, DamagedWeightsError E403
│   ├── ArchitectureError E404, RemoteCodeError E405, AdapterError E406, TargetError E407
│   └── QuantisationError E408, HubError E409
├── RunError E500
│   ├── RunExistsError E501, ResumeError E502, CheckpointError E503, NonFiniteError E504
│   └── RunBusyError E505, RunNotFoundError E506, RankError E507
├── MissingExtraError E600
├── JudgeError E610
└── ServiceError E700 ── ChatBusyError E701, HelperError E702
    ├── JobNotFoundError E710, JobStateError E711, IdempotencyError E712, WorkerLostError E713
    ├── UploadNotFoundError E714, UploadTooLargeError E715, UploadInUseError E716
    └── StoreError E717, ServerRunningError E718, QueueFullError E719

The docstring of each class is its page in the reference; the message of an instance has three
parts: what (with the value), why (with the rule), fix (something to paste).
"""

from collections.abc import Mapping


class LuthierError(Exception):
    """Anything the user can put right.

    Args:
        what: One sentence naming the thing that failed, with the offending value in it.
        why: One sentence with the rule that was broken, numbers included.
        fix: The shortest thing that would make it work: a setting, a command, a file and line.
    """

    code = "E000"

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what, why, fix)  # all three in args: survives pickling between ranks
        self.what, self.why, self.fix = what, why, fix

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.why, self.fix))

    def __str__(self) -> str:
        lines = [f"{self.what} [{self.code}]"]
        lines += [f"  why: {self.why}"] if self.why else []
        lines += [f"  fix: {self.fix}"] if self.fix else []
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback."""
        return [f"{type(self).__name__}: {line}" if not at else line
                for at, line in enumerate(str(self).splitlines())]  # fmt: skip

    def as_dict(self) -> dict[str, str]:
        """The same four fields for a log line or an HTTP body."""
        return {"code": self.code, "what": self.what, "why": self.why, "fix": self.fix}


def _rebuild(kind: type[LuthierError], what: str, why: str, fix: str) -> LuthierError:
    return kind(what, why=why, fix=fix)


class SettingsError(LuthierError, ValueError):
    """A setting is unknown, misspelt, out of its range, or contradicts another one."""

    code = "E100"


class ConfigFileError(SettingsError):
    """The file of settings cannot be read as YAML or JSON with plain values."""

    code = "E101"


class UsageError(SettingsError):
    """A command line that cannot be understood: an unknown flag, a value that looks like a flag."""

    code = "E102"


class EnvironmentVariableError(SettingsError):
    """An environment variable that luthier reads holds something it cannot use."""

    code = "E103"


class DataError(LuthierError, ValueError):
    """Something about the data; the kinds below say what."""

    code = "E200"


class FileAccessError(DataError):
    """A data file is missing, unreadable, or not a plain file."""

    code = "E201"


class EncodingError(DataError):
    """The bytes of a file are not text in the encoding that was assumed or given."""

    code = "E202"


class MalformedFileError(DataError):
    """A file is not well-formed JSON, JSONL, CSV or Parquet at the line named."""

    code = "E203"


class BadRowsError(DataError):
    """More rows cannot be used than `bad_rows` allows; each is listed with file, line and reason."""

    code = "E204"


class FormatError(DataError):
    """The format of the rows is unknown, or two formats fit and nothing says which is meant."""

    code = "E205"


class NoRowsError(DataError):
    """Nothing to learn from: the file is empty, or every row was dropped."""

    code = "E206"


class TooLongError(DataError):
    """Rows are longer than `seq_length` and `truncation: refuse` was given, or all of them are."""

    code = "E207"


class TemplateError(DataError):
    """A chat template failed, asked for something the sandbox refuses, or has no place for a role."""

    code = "E208"


class TokenizerError(DataError):
    """A tokenizer is missing, damaged, or does not belong to the model."""

    code = "E209"


class LimitError(DataError):
    """An input is larger or deeper than the limit that protects this process."""

    code = "E210"


class NoTargetsError(DataError):
    """No token of the data carries loss, so nothing would be learned."""

    code = "E211"


class CapacityError(LuthierError, RuntimeError):
    """The run does not fit this machine."""

    code = "E300"


class OutOfMemoryError(CapacityError):
    """Memory ran out although the step had been cut down to one sequence at a time."""

    code = "E301"


class DiskFullError(CapacityError):
    """There is not enough disk space for what has to be written; what was saved before is intact."""

    code = "E302"


class DeviceError(CapacityError):
    """The device asked for does not exist here, or cannot do what was asked of it."""

    code = "E303"


class ModelError(LuthierError, ValueError):
    """A model folder is incomplete or its config makes no sense."""

    code = "E400"


class ModelNotFoundError(ModelError):
    """The model is neither a gallery name, nor a folder, nor something that can be fetched."""

    code = "E401"


class UnsafeWeightsError(ModelError):
    """The weights are pickled, which can run code when opened; only safetensors are read."""

    code = "E402"


class DamagedWeightsError(ModelError):
    """A weight file is cut off, malformed, lacks tensors, or holds values that are not numbers."""

    code = "E403"


class ArchitectureError(ModelError):
    """This architecture cannot be trained the way that was asked."""

    code = "E404"


class RemoteCodeError(ModelError):
    """The model asks for code of its own to be run; luthier never does that."""

    code = "E405"


class AdapterError(ModelError):
    """An adapter does not fit the base model, or is incomplete."""

    code = "E406"


class TargetError(ModelError):
    """`lora_target_modules` names nothing in this model, or something that cannot be adapted."""

    code = "E407"


class QuantisationError(ModelError):
    """The base cannot be quantised as asked, or is already quantised in another way."""

    code = "E408"


class HubError(ModelError):
    """The hub cannot be reached, asks for rights, or sent something else than it announced."""

    code = "E409"


class RunError(LuthierError, RuntimeError):
    """Something about a run directory or a run in progress."""

    code = "E500"


class RunExistsError(RunError):
    """`output_dir` already holds a run or something else; nothing is overwritten."""

    code = "E501"


class ResumeError(RunError):
    """A run cannot be continued because something it depends on has changed."""

    code = "E502"


class CheckpointError(RunError):
    """A checkpoint is incomplete or damaged."""

    code = "E503"


class NonFiniteError(RunError):
    """Loss or gradient norm is not a number; the update was not applied."""

    code = "E504"


class RunBusyError(RunError):
    """Another live process is working in this run directory."""

    code = "E505"


class RunNotFoundError(RunError):
    """The name or path given is not a run."""

    code = "E506"


class RankError(RunError):
    """One of several training processes failed."""

    code = "E507"


class MissingExtraError(LuthierError, ImportError):
    """A feature needs an optional package that is not installed."""

    code = "E600"


class JudgeError(LuthierError, RuntimeError):
    """The model that judges answers cannot be asked: its address, its key, or what it answers."""

    code = "E610"


class ServiceError(LuthierError, RuntimeError):
    """A part of the service cannot do what was asked of it just now."""

    code = "E700"


class ChatBusyError(ServiceError):
    """The model cannot be loaded or asked now: a job has the device, or too many are waiting."""

    code = "E701"


class HelperError(ServiceError):
    """A bounded helper process took too long, needed too much memory, or ended without an answer."""

    code = "E702"


class JobNotFoundError(ServiceError):
    """There is no job of that id."""

    code = "E710"


class JobStateError(ServiceError):
    """What was asked for cannot be done to a job in this state; an ended job never changes."""

    code = "E711"


class IdempotencyError(ServiceError):
    """An idempotency key was used again for another request."""

    code = "E712"


class WorkerLostError(ServiceError):
    """The process of a job ended without saying how, more often than it is started again."""

    code = "E713"


class UploadNotFoundError(ServiceError):
    """There is no uploaded file of that id."""

    code = "E714"


class UploadTooLargeError(ServiceError):
    """An uploaded file is larger than the service takes."""

    code = "E715"


class UploadInUseError(ServiceError):
    """An uploaded file cannot be deleted while a job that has not ended reads it."""

    code = "E716"


class StoreError(ServiceError):
    """The database of the service is damaged, from a newer version, or in a place it cannot be."""

    code = "E717"


class ServerRunningError(ServiceError):
    """Another server works in this data folder."""

    code = "E718"


class QueueFullError(ServiceError):
    """More jobs wait than the service takes."""

    code = "E719"


def from_dict(body: Mapping[str, object]) -> LuthierError:
    """The error again from `as_dict`, of its own class where the code is known."""
    kinds = [LuthierError]
    what, why, fix = (str(body.get(name, "")) for name in ("what", "why", "fix"))
    for kind in kinds:
        if kind.code == body["code"]:
            return kind(what, why=why, fix=fix)
        kinds += kind.__subclasses__()
    return LuthierError(what, why=why, fix=fix)
