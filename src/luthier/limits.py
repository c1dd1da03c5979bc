"""Every limit on what others wrote or send, in one table: files, rows, templates, requests.

What is beyond one of these is refused with a sentence that names the place and the limit.
docs/reference/limits.md shows the table; it is generated from here.
"""

from typing import NamedTuple

from luthier.units import GIB, KIB, MIB


class Limit(NamedTuple):
    """One row of the table."""

    of: str
    what: str
    value: int
    unit: str


LIMITS: list[Limit] = []


def _limit(of: str, what: str, value: int, unit: str = "") -> int:
    LIMITS.append(Limit(of, what, value, unit))
    return value


JSON_DEPTH = _limit("JSON", "objects and lists within each other", 200)
JSON_DIGITS = _limit("JSON", "digits of one number", 300)
JSON_KEYS = _limit("JSON", "keys of one object in the files of a model or a run", 4_000_000)
CONFIG_BYTES = _limit("JSON", "config.json of a model", 1 * MIB, "bytes")
MODEL_JSON_BYTES = _limit("JSON", "one JSON file of a model or a run", 16 * MIB, "bytes")
RUN_LINE_BYTES = _limit(
    "JSON", "one line of events, of a registry or of a ledger", 16 * MIB, "bytes"
)

YAML_BYTES = _limit("settings", "a file of settings, YAML or JSON", 256 * KIB, "bytes")
SETTING_NAMES = _limit("settings", "names in a file of settings", 1_000)
YAML_DEPTH = _limit("settings", "mappings and lists within each other", 100)

ROW_FIELDS = _limit("rows", "columns of a table, or keys of one object", 10_000)
ROW_CHARS = _limit("rows", "one line, record or array element", 32 * MIB, "characters")
GZIP_RATIO = _limit("rows", "times that a gzip file may grow", 250)
GZIP_BYTES = _limit("rows", "a gzip file, unpacked", 64 * GIB, "bytes")
PARQUET_ROW_BYTES = _limit("rows", "one Parquet row, all its texts written out", 32 * MIB, "bytes")
PARQUET_BATCH_BYTES = _limit("rows", "Parquet rows made at a time", 64 * MIB, "bytes")
PARQUET_RATIO = _limit("rows", "times that a Parquet file may grow", 500)
PARQUET_FREE_BYTES = _limit(
    "rows", "a Parquet file whose growth is not looked at, unpacked", 16 * MIB, "bytes"
)
PARQUET_ROWS_FREE = _limit("rows", "Parquet rows, or as many as the file has bytes", 1_000_000)

TOKENIZER_BYTES = _limit("tokenizer", "tokenizer.json", 256 * MIB, "bytes")
ADDED_TOKENS = _limit("tokenizer", "added tokens", 100_000)
ADDED_CHARS = _limit("tokenizer", "one added token", 256, "characters")
ADDED_CHARS_TOGETHER = _limit("tokenizer", "all added tokens together", 4 * MIB, "characters")
TOKEN_ID = _limit("tokenizer", "the id of a token", 2**24)
TEXT_CHARS = _limit("tokenizer", "one text before it is encoded", 4 * MIB, "characters")

TEMPLATE_BYTES = _limit("templates", "a chat template", 256 * KIB, "bytes")
TEMPLATE_TOKENS = _limit("templates", "words and signs in it, as Jinja reads them", 40_000)
TEMPLATE_TEXT = _limit("templates", "any text that it makes", 16 * MIB, "characters")
TEMPLATE_WORK = _limit("templates", "loop turns, calls and elements of one rendering", 1_000_000)
TEMPLATE_SECONDS = _limit("templates", "one rendering, by the clock", 10, "seconds")
TEMPLATE_BITS = _limit("templates", "a number that it computes with", 256, "bits")

RENDER_BYTES = _limit("rendering", "memory of a process that renders rows", 4 * GIB, "bytes")
RENDER_CPU_SECONDS = _limit("rendering", "one row, processor time", 120, "seconds")
RENDER_SECONDS = _limit("rendering", "one row, by the clock", 300, "seconds")
RENDER_OPEN_SECONDS = _limit(
    "rendering", "a tokenizer opened and a template tried, processor time", 120, "seconds"
)

HEADER_BYTES = _limit("safetensors", "the header of one file", 16 * MIB, "bytes")
TENSOR_DIMS = _limit("safetensors", "dimensions of one tensor", 8)
TENSOR_NUMBER = _limit("safetensors", "a length or an offset", 2**63 - 1)
INDEX_BYTES = _limit(
    "safetensors", "the index of a model, the manifest of a folder", 100 * MIB, "bytes"
)
SHARD_NAME_CHARS = _limit("safetensors", "the name of a file in the index", 200, "characters")

PATTERN_CHARS = _limit("adapter", "one pattern of module names", 2_000, "characters")
PATTERN_STATES = _limit("adapter", "states of the automata that its patterns become", 2_000)
PATTERNS = _limit("adapter", "entries of rank_pattern or alpha_pattern", 10_000)

MOST_HEADERS = _limit("requests", "headers", 100)
HEADERS_BYTES = _limit("requests", "headers, together", 32 * KIB, "bytes")
HEADERS_SECONDS = _limit("requests", "headers, until the last has arrived", 15, "seconds")
PUBLIC_BYTES = _limit("requests", "a body before the token is known", 16 * KIB, "bytes")
BODY_BYTES = _limit("requests", "a JSON body", 8 * MIB, "bytes")
BODY_DEPTH = _limit("requests", "objects and lists within each other", 100)
BODY_KEYS = _limit("requests", "keys in all of a body", 100_000)
BODY_DIGITS = _limit("requests", "digits of one number", 400)
BODY_SECONDS = _limit("requests", "a body, until its end has arrived", 30, "seconds")
SETTING_TEXT_BYTES = _limit("requests", "one text among the settings of a job", 64 * KIB, "bytes")
FORM_PARTS = _limit("requests", "parts of a form", 40)
FIELD_BYTES = _limit("requests", "one field of a form", 64 * KIB, "bytes")
UPLOAD_BYTES = _limit("requests", "a file that is sent", 8 * GIB, "bytes")
UPLOAD_PARTS = _limit("requests", "parts of an upload in parts", 10_000)
UPLOADS_OPEN = _limit("requests", "uploads in parts that are not ended", 64)
REQUESTS_A_SECOND = _limit("requests", "of one client, a second", 400)
REQUESTS_AT_ONCE = _limit("requests", "of one client, saved up", 2_000)
LOGINS_A_MINUTE = _limit("requests", "attempts to log in, a minute", 10)
STREAMS = _limit("requests", "streams that are open", 256)
GENERATIONS = _limit("requests", "answers that are asked for at once", 16)
HELPERS = _limit("requests", "helpers at work at once", 16)
ANSWER_TOKENS = _limit("requests", "tokens of one answer", 32_768)
JOBS_WAITING = _limit("requests", "jobs that wait", 10_000)
