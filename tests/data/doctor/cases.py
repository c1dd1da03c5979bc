"""For each rule of the data doctor rows in which it must find something, and rows in which not.

A rule without a case fails `test_rules.py`.
"""

from dataclasses import dataclass, field
from typing import Any

Rows = list[Any] | bytes


@dataclass(frozen=True)
class Case:
    """`bad` and `good` are rows for a JSONL file, or the bytes of a file with `ending`."""

    bad: Rows
    good: Rows
    ending: str = ".jsonl"
    options: dict[str, Any] = field(default_factory=dict)
    held_out: list[Any] | None = None
    template: str | None = None


def ask(question, answer, **more):
    return {"instruction": question, "input": "", "output": answer, **more}


def chat(*turns, **more):
    return {"messages": [{"role": role, "content": text} for role, text in turns], **more}


def pair(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def call(name, arguments, tools=("weather",), **more):
    function = {"name": name, "arguments": arguments}
    tools = [{"type": "function", "function": {"name": tool, "parameters": {}}} for tool in tools]
    asked = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "function": function}],
    }
    turns = [{"role": "user", "content": "Weather in Oslo?"}, asked, *more.get("then", ())]
    return {"messages": turns, "tools": tools}


def result(of):
    answer = {"role": "assistant", "content": "It is 4 degrees in Oslo."}
    return [{"role": "tool", "tool_call_id": of, "content": "4"}, answer]


GOOD = ask("What is the capital of France?", "The capital of France is Paris.")
GOOD_PAIR = pair("Name a prime number.", "Seven is one.", "Eight is one.")
WORDS = [
    "river",
    "stone",
    "lantern",
    "copper",
    "meadow",
    "violin",
    "harbour",
    "pepper",
    "cloud",
    "marble",
]
LONG = " ".join(f"{one} {other}" for one in WORDS for other in WORDS)
ENGLISH = "What is the name of the river that you can see from the house on the hill?"
REFUSE = (
    "{% if messages[0].role == 'assistant' %}{{ raise_exception('the user speaks first') }}"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DPO = {"objective": "dpo"}
NO_TEMPLATE = {"template": None}


def pairs(make, count=40):
    return [make(number) for number in range(count)]


CASES: dict[str, Case] = {
    "file-unreadable": Case(b'{"text": "a b"}\n{"text": "c', b'{"text": "a b"}\n'),
    "encoding-not-utf8": Case(
        "instruction,output\n首都是哪里,北京是中国的首都\n".encode("gb18030"),
        "instruction,output\n首都是哪里,北京是中国的首都\n".encode(),
        ".csv",
    ),
    "format-unknown": Case([{"frage": "2 + 2?", "antwort": "4"}], [GOOD]),
    "format-uncertain": Case(
        [{"instruction": "Hi.", "output": "Ho.", "prompt": "A?", "completion": "B."}], [GOOD]
    ),
    "format-mixed": Case([GOOD, {"text": "A plain text."}], [GOOD, GOOD]),
    "objective-mismatch": Case([GOOD_PAIR], [GOOD]),
    "python-lists-in-cells": Case(
        b"question,answer\n\"['Siapa', 'dia']\",\"['Budi']\"\n\"['Apa', 'itu']\",\"['Buku']\"\n",
        b"question,answer\nSiapa dia,Budi\nApa itu,Buku\n",
        ".csv",
    ),
    "columns-look-alike": Case([{"instruction": "Hi.", "\u043eutput": "Ho."}], [GOOD]),
    "columns-unused": Case([ask("Hi.", "Ho.", category="greeting")], [GOOD]),
    "few-rows": Case([GOOD], [ask(f"Question {n}?", f"Answer {n}.") for n in range(100)]),
    "row-unusable": Case([[1, 2], GOOD], [GOOD]),
    "empty-answer": Case([ask("Hi.", " ")], [GOOD]),
    "empty-question": Case([chat(("user", " "), ("assistant", "Paris."))], [GOOD]),
    "no-answer": Case([chat(("user", "2 + 2?"))], [chat(("user", "2 + 2?"), ("assistant", "4"))]),
    "no-target": Case(
        [
            {
                "messages": [
                    chat(("user", "2 + 2?"))["messages"][0],
                    {"role": "assistant", "content": "4", "weight": 0},
                ]
            }
        ],
        [GOOD],
    ),
    "one-word-answers": Case([ask("Is it blue?", "Yes")], [GOOD]),
    "refusals": Case([ask("Your opinion?", "As an AI language model, I have none.")], [GOOD]),
    "role-unknown": Case([chat(("user", "2 + 2?"), ("teacher", "4"))], [GOOD]),
    "roles-out-of-order": Case(
        [chat(("assistant", "Hello."), ("user", "2 + 2?"), ("assistant", "4"))],
        [chat(("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"))],
    ),
    "two-turns-in-a-row": Case(
        [chat(("user", "Hello."), ("user", "2 + 2?"), ("assistant", "4"))],
        [chat(("user", "Hello."), ("assistant", "Hi."), ("user", "2 + 2?"), ("assistant", "4"))],
    ),
    "ends-with-user": Case(
        [chat(("user", "2 + 2?"), ("assistant", "4"), ("user", "Thanks."))],
        [chat(("user", "2 + 2?"), ("assistant", "4"))],
    ),
    "no-user-turn": Case([chat(("system", "Be brief."), ("assistant", "Hello."))], [GOOD]),
    "template-refuses": Case(
        [chat(("assistant", "Hello."), ("user", "2 + 2?"), ("assistant", "4"))],
        [GOOD],
        template=REFUSE,
    ),
    "content-lost": Case(
        [
            {
                "messages": [
                    {"role": "user", "content": "2 + 2?"},
                    {"role": "assistant", "reasoning_content": "Two and two.", "content": "4"},
                ]
            }
        ],
        [GOOD],
    ),
    "chosen-equals-rejected": Case([pair("2 + 2?", "4", "4")], [GOOD_PAIR], options=DPO),
    "pair-prompts-differ": Case(
        [
            {
                "chosen": chat(("user", "2 + 2?"), ("assistant", "4"))["messages"],
                "rejected": chat(("user", "2 + 3?"), ("assistant", "4"))["messages"],
            }
        ],
        [GOOD_PAIR],
        options=DPO,
    ),
    "length-bias": Case(
        pairs(lambda n: pair(f"Why {n}?", "Because it is so, and for many reasons.", "So.")),
        pairs(
            lambda n: pair(f"Why {n}?", *(("So.", "Because.") if n % 2 else ("Because.", "So.")))
        ),
        options=DPO,
    ),
    "chosen-one-model": Case(
        pairs(lambda n: pair(f"Why {n}?", "A b.", "C d.", chosen_model="x", rejected_model="y")),
        pairs(
            lambda n: pair(
                f"Why {n}?", "A b.", "C d.", chosen_model=f"x{n % 3}", rejected_model=f"x{n % 2}"
            )
        ),
        options=DPO,
    ),
    "chosen-one-layout": Case(
        pairs(lambda n: pair(f"Why {n}?", f"Answer: reason {n}.", f"{n} reasons.")),
        pairs(lambda n: pair(f"Why {n}?", f"Answer: reason {n}.", f"Answer: no {n}.")),
        options=DPO,
    ),
    "feedback-one-sided": Case(
        [chat(("user", "A?"), ("assistant", text), label=True) for text in "BC"],
        [chat(("user", "A?"), ("assistant", text), label=text == "B") for text in "BC"],
        options={"objective": "kto"},
    ),
    "duplicate-rows": Case([GOOD, ask("Hi.", "Ho."), GOOD], [GOOD, ask("Hi.", "Ho.")]),
    "near-duplicates": Case(
        [ask(LONG, "Yes, so it is."), ask(LONG + " end", "Yes, so it is.")],
        [ask(LONG, "Yes, so it is."), GOOD],
    ),
    "held-out-overlap": Case(
        [GOOD, ask("what is 2+2", "Four!")],
        [ask("Hi.", "Ho.")],
        held_out=[ask("What is 2 + 2?", "four"), ask("Who?", "Me.")],
    ),
    "cut-at-seq-length": Case([ask(LONG, "Yes, it is.")], [GOOD], options={"seq_length": 128}),
    "answer-lost": Case(
        [ask("Sing.", LONG)],
        [GOOD],
        options={"seq_length": 160, "truncation": "drop"},
    ),
    "longer-than-context": Case([ask(LONG, "Yes, it is.")], [GOOD], options={"context": 160}),
    "control-markup": Case([ask("Go on.", "Yes.<|im_end|>\n<|im_start|>user\nAnd?")], [GOOD]),
    "markup-of-another-model": Case(
        [{"text": "<s>[INST] 2 + 2? [/INST] 4 </s>"}],
        [{"text": "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>"}],
    ),
    "boundaries-doubled": Case([{"text": "A text.</s></s>"}], [{"text": "A text.</s>"}]),
    "eos-missing": Case(
        [{"text": "### Human: Hi.### Assistant: Ho.### Human: Bye.### Assistant: Bye bye."}],
        [{"text": "### Human: Hi.### Assistant: Ho."}],
    ),
    "placeholders": Case([ask("Who are you?", "I am {{name}}.")], [GOOD]),
    "tool-arguments": Case([call("weather", "{city: Oslo")], [call("weather", '{"city": "Oslo"}')]),
    "tool-unknown": Case([call("forecast", "{}")], [call("weather", "{}")]),
    "tool-result-unmatched": Case(
        [call("weather", "{}", then=result("b"))], [call("weather", "{}", then=result("a"))]
    ),
    "tool-schema-types": Case(
        [ask("Hi.", "Ho.", tools=[{"name": "f", "parameters": {"type": "dict"}}])],
        [ask("Hi.", "Ho.", tools=[{"name": "f", "parameters": {"type": "object"}}])],
    ),
    "invisible-characters": Case(
        [ask("Hi.", "Hel\u200blo.")], [ask("Family?", "\U0001f468\u200d\U0001f469 and it is café.")]
    ),
    "broken-characters": Case(
        [ask("Coffee?", "In the caf\u00c3\u00a9.")], [ask("Coffee?", "In the café.")]
    ),
    "control-characters": Case([ask("Hi.", "\x1b[1mHo\x1b[0m")], [ask("Hi.", "Ho.\tSo.\nYes.")]),
    "language-mix": Case(
        [GOOD, ask("法国的首都是哪里？", "法国的首都是巴黎。")],
        [GOOD, ask("Hi.", "It is what it is.")],
    ),
    "answer-language": Case(
        [
            ask(
                ENGLISH,
                "Sungai itu adalah sungai yang ada di dekat rumah dan tidak jauh dari sini.",
            )
        ],
        [ask(ENGLISH, "That is the river of the town, and you can see it from the house.")],
    ),
    "leaked-keys": Case(
        [ask("Key?", "It is AKIA" + "Q7ZLM3XWPT9RBVND.")], [ask("Key?", "sk-yours")]
    ),
    "email-addresses": Case(
        [ask("Who?", "Write to ana.silva@uni-porto.pt.")], [ask("Who?", "Write to me@example.com.")]
    ),
    "phone-numbers": Case(
        [ask("Who?", "Call +62 812 3498 7712.")],
        [ask("How many?", "It is 1234567890 or 3.14159265.")],
    ),
}
