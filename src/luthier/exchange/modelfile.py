"""A Modelfile for Ollama: a chat template in Go's language, what ends an answer, and the context.

Without a `TEMPLATE` Ollama gives a model the bare text of a question, and without `stop` it does
not end.  The template is not translated but measured: dialogues of known words are rendered, what
stands around the words is read off, and the result is compared id by id with what training gave
the model.  Tools and reasoning are beyond this form.

Source: https://github.com/ollama/ollama, docs/modelfile.md and docs/template.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from luthier.data.types import Message
from luthier.errors import TemplateError

Say = Callable[[Sequence[Message]], str]
"""The text of a dialogue that ends with an answer, as training renders it."""

_SYSTEM, _ASK, _SAID, _AGAIN, _END = (
    f"qz{word}zq" for word in ("sys", "ask", "said", "again", "end")
)
USABLE_CONTEXT = 8192
"""Most tokens of context that a Modelfile asks for: their memory is taken when the model is loaded."""


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around the texts of a dialogue.

    Args:
        begin: Before the first question where there is no system text.
        system: Before and after the system text; None where the template has no place for it.
        asked: Between a question and its answer, in an earlier turn.
        said: Between an answer and the next question.
        last: Behind the last question: what the model goes on from.
    """

    begin: str
    system: tuple[str, str] | None
    asked: str
    said: str
    last: str

    def text(self, messages: Sequence[Message]) -> str:
        """A dialogue that ends with a question, as Ollama will render it."""
        made = "" if messages[0].role == "system" else self.begin
        for place, message in enumerate(messages):
            if message.role == "system":
                before, after = self.system or ("", "")
                made += before + message.content + after
            elif message.role == "assistant":
                made += message.content + self.said
            else:
                made += message.content + (self.last if place == len(messages) - 1 else self.asked)
        return made

    def go(self) -> str:
        """The same as a template of Ollama."""
        system = ""
        if self.system is not None:
            before, after = self.system
            system = '{{ if eq .Role "system" }}' + before + "{{ .Content }}" + after + "{{ end }}"
        return (
            ("{{ if not .System }}" + self.begin + "{{ end }}" if self.begin else "")
            + "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            + system
            + '{{ if eq .Role "user" }}{{ .Content }}{{ if $last }}'
            + f"{self.last}{{{{ else }}}}{self.asked}{{{{ end }}}}{{{{ end }}}}"
            + '{{ if eq .Role "assistant" }}{{ .Content }}{{ if not $last }}'
            + f"{self.said}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}"
        )


def measure(say: Say, *, bos: str = "") -> Around:
    """Read off what a template writes around texts.

    Args:
        bos: Text that llama.cpp puts at the beginning by itself, which is left out.

    Raises:
        TemplateError: It writes other things around one turn than around the next, loses a text,
            or uses marks of Ollama's own language.
    """
    ask, said = Message("user", _ASK), Message("assistant", _SAID)
    again, end = Message("user", _AGAIN), Message("assistant", _END)
    begin, asked, between, last = _split(say([ask, said, again, end]), [_ASK, _SAID, _AGAIN, _END])
    try:
        before, after, _ = _split(
            say([Message("system", _SYSTEM), ask, end]), [_SYSTEM, _ASK, _END]
        )
        system = (before.removeprefix(bos), after)
    except TemplateError:
        system = None
    found = Around(begin.removeprefix(bos), system, asked, between, last)
    for part in (found.begin, *(found.system or ()), asked, between, last):
        if "{{" in part or "}}" in part or '"""' in part:
            raise _not_in_go(
                f"it writes {part!r}", "which means something in Ollama's own language"
            )
    return found


def _split(text: str, words: Sequence[str]) -> list[str]:
    """What stands before each of some words that follow each other, once each."""
    parts, rest = [], text
    for word in words:
        before, found, rest = rest.partition(word)
        if not found:
            raise _not_in_go("it leaves out or moves a text", "each text has one place in order")
        parts.append(before)
    return parts


def _not_in_go(what: str, why: str) -> TemplateError:
    return TemplateError(
        f"the chat template has no form in Ollama that is known here: {what}",
        why=why,
        fix="--to gguf, and llama-server or LM Studio, which run the template itself",
    )


def compare(
    around: Around,
    ids_of: Callable[[str], list[int]],
    prompt: Callable[[Sequence[Message]], list[int]],
) -> Around:
    """The same, with what the model goes on from as its prompts had it.

    Args:
        ids_of: Ids of a text with control tokens in it, as llama.cpp makes them.
        prompt: Ids that the model was given in training and is given in chat.

    Raises:
        TemplateError: A dialogue comes out otherwise.
    """
    tries = [around, Around(around.begin, around.system, around.asked, around.said, around.asked)]
    for one in tries:
        if all(ids_of(one.text(dialogue)) == prompt(dialogue) for dialogue in dialogues(one)):
            return one
    raise _not_in_go(
        "simulated, it gives other tokens than in training",
        "dialogues of one and several turns, with and without system text, were compared id by id",
    )


def dialogues(around: Around) -> list[list[Message]]:
    """What is compared: short and long, with system text where the template has a place for it."""
    turns = [
        Message("user", "What is 2 + 2?"), Message("assistant", "Four.\nOr 4."),
        Message("user", "你好, ça va?"), Message("assistant", "Yes"), Message("user", "Why?"),
    ]  # fmt: skip
    plain = [turns[:1], turns[:3], turns]
    first = Message("system", "Answer in few words.")
    return plain + ([[first, *some] for some in plain] if around.system is not None else [])


def modelfile(
    gguf: str,
    around: Around,
    *,
    stops: Sequence[str],
    context: int,
    parameters: Mapping[str, float],
) -> str:
    """The whole file.

    Args:
        gguf: Name of the file beside it.
        stops: Text of every token that ends an answer.
        context: Positions of the model.
        parameters: Sampling that the base recommends: temperature, top_k, top_p, repeat_penalty.
    """
    lines = [f"FROM ./{gguf}", f'TEMPLATE """{around.go()}"""']
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines += [f"PARAMETER num_ctx {min(context, USABLE_CONTEXT)}"]
    lines += [f"PARAMETER {name} {value:g}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"
