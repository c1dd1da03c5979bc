// The same words to two models, side by side.
import { html, useEffect, useRef, useState } from "../lib.js";
import { completion, post, useData } from "../api.js";
import { number, t } from "../i18n.js";
import { replace } from "../route.js";
import { Button, ErrorNote, PageHead } from "../parts/basic.js";
import { Pieces } from "../parts/rows.js";

const STANDARD = { temperature: 0, top_p: 1, max_tokens: 128, seed: 0, system: "" };
const SIDES = ["left", "right"];

export default function Chat({ route }) {
  const models = useData("api/models");
  const list = models.data?.models ?? [];
  const jobs = useData("api/jobs?state=finished&limit=200").data?.jobs ?? [];
  const names = Object.fromEntries(
    jobs.filter((job) => job.model && job.name).map((job) => [job.model, job.name]),
  );
  const [chosen, setChosen] = useState({
    left: route.query.left ?? "",
    right: route.query.right ?? "",
  });
  const [options, setOptions] = useState(STANDARD);
  const [turns, setTurns] = useState(() => restored());
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const leave = useRef(null);
  useEffect(() => () => leave.current?.abort(), []);
  useEffect(() => keep(turns), [turns]);
  useEffect(() => {
    if (!list.length || chosen.left) return;
    const tuned = list.filter((one) => one.luthier?.kind === "tuned");
    choose({ left: tuned[0]?.luthier.base ?? list[0].id, right: tuned[0]?.id ?? "" });
  }, [list.length]);
  const choose = (part) => {
    const next = { ...chosen, ...part };
    setChosen(next);
    replace("chat", next);
  };
  const sides = SIDES.filter((side) => chosen[side]);
  const patch = (index, side, part) =>
    setTurns((old) =>
      old.map((turn, place) =>
        place === index ? { ...turn, [side]: { ...turn[side], ...part } } : turn,
      ),
    );
  const send = async (event) => {
    event?.preventDefault();
    const said = text.trim();
    if (!said || busy || !sides.length) return;
    setText("");
    setBusy(true);
    leave.current = new AbortController();
    const index = turns.length;
    setTurns([...turns, { user: said }]);
    for (const side of sides) await answer({ side, index, said, signal: leave.current.signal });
    setBusy(false);
  };
  const answer = async ({ side, index, said, signal }) => {
    const messages = conversation(turns, side, options.system, said);
    const started = performance.now();
    let first = null;
    let content = "";
    patch(index, side, { content: "", model: chosen[side], waiting: true });
    try {
      const { system: _, ...rest } = options;
      for await (const part of completion({ model: chosen[side], messages, ...rest }, signal)) {
        const piece = part.choices?.[0]?.delta?.content ?? "";
        if (piece) first ??= performance.now();
        content += piece;
        const made = part.usage?.completion_tokens;
        patch(index, side, {
          content,
          waiting: !content,
          ...(made && {
            tokens: made,
            speed: made / ((performance.now() - (first ?? started)) / 1000),
            first: ((first ?? performance.now()) - started) / 1000,
          }),
        });
      }
      patch(index, side, { waiting: false });
    } catch (error) {
      patch(index, side, {
        waiting: false,
        ...(error.name === "AbortError"
          ? { stopped: true }
          : {
              error: { message: error.message, code: error.code, why: error.why, fix: error.fix },
            }),
      });
    }
  };
  return html`<${PageHead} title=${t("chat.title")} lead=${t("chat.lead")}>
      <${Button} kind="plain" disabled=${busy || !turns.length} onClick=${() => setTurns([])}>
        ${t("chat.clear")}</${Button}>
    </${PageHead}>
    <${ErrorNote} error=${models.error} />
    <details class="card"><summary class="strong">${t("chat.options")}</summary>
      <${Options} options=${options} setOptions=${setOptions} /></details>
    <div class="chat">${SIDES.map(
      (side) => html`
        <${Pane}
          key=${side}
          side=${side}
          list=${list}
          names=${names}
          model=${chosen[side]}
          turns=${turns}
          onChange=${(model) => {
            choose({ [side]: model });
            setTurns([]); // what another model said would stand under its name
          }}
          system=${options.system}
        />
      `,
    )}</div>
    <form class="composer" onSubmit=${send}>
      <div class="field"><label class="unseen" for="say">${t("chat.say")}</label>
        <textarea id="say" class="input" rows="2" placeholder=${t("chat.say")} value=${text}
          onInput=${(event) => setText(event.target.value)} onKeyDown=${(event) =>
            event.key === "Enter" &&
            !event.shiftKey &&
            !event.isComposing &&
            send(event)}></textarea></div>
      ${
        busy
          ? html`<${Button} icon="stop" onClick=${() => leave.current.abort()}>${t("chat.stop")}
        </${Button}>`
          : html`<${Button} type="submit" kind="main-action" icon="send"
        disabled=${!sides.length}>${t("chat.send")}</${Button}>`
      }
    </form>`;
}

const conversation = (turns, side, system, said) => [
  ...(system ? [{ role: "system", content: system }] : []),
  ...turns.flatMap((turn) =>
    turn[side]?.content
      ? [
          { role: "user", content: turn.user },
          { role: "assistant", content: turn[side].content },
        ]
      : [],
  ),
  ...(said ? [{ role: "user", content: said }] : []),
];

function Pane({ side, list, names, model, turns, onChange, system }) {
  const [rendered, setRendered] = useState(null);
  const id = `model-${side}`;
  const last = turns.at(-1);
  const show = async () => {
    try {
      setRendered(
        await post("api/render", {
          model,
          messages: conversation(turns.slice(0, -1), side, system, last?.user ?? t("chat.example")),
        }),
      );
    } catch (error) {
      setRendered({ error });
    }
  };
  return html`
    <section class="card pane" aria-label=${t(`chat.${side}`)}>
      <div class="field">
        <label for=${id}>${t(`chat.${side}`)}</label>
        <select
          id=${id}
          class="input"
          value=${model}
          onChange=${(event) => onChange(event.target.value)}
        >
          <option value="">${t("chat.nobody")}</option>
          ${
            model &&
            !list.some((one) => one.id === model) &&
            html`
              <option value=${model}>${model}</option>
            `
          }
          ${list.map(
            (one) => html`
              <option key=${one.id} value=${one.id}>
                ${names[one.id] ? `${names[one.id]} · ${one.id}` : one.id}${
                  one.luthier?.kind === "tuned" ? ` (${t("chat.tuned")})` : ""
                }
              </option>
            `,
          )}
        </select>
      </div>
      <div class="turns" role="log" aria-label=${t("chat.answers")}>
        ${
          !turns.length &&
          html`
            <p class="muted small">${t("chat.empty")}</p>
          `
        }
        ${turns.map(
          (turn, index) => html`
            <div class="turn user" key=${`u${index}`}>${turn.user}</div>
            ${
              turn[side] &&
              html`
                <${Answer} key=${`a${index}`} answer=${turn[side]} />
              `
            }
          `,
        )}
      </div>
      ${
        model &&
        html`<div class="row"><${Button} kind="small plain" onClick=${show}>${t("chat.rendered")}
        </${Button}></div>`
      }
      ${
        rendered?.error &&
        html`
          <${ErrorNote} error=${rendered.error} />
        `
      }
      ${
        rendered?.pieces &&
        html`
          <div class="stack tight">
            <div class="small muted">
              ${t("tokens", {
                count: number(
                  Array.isArray(rendered.tokens) ? rendered.tokens.length : rendered.tokens,
                ),
              })}
            </div>
            <${Pieces} pieces=${rendered.pieces} />
          </div>
        `
      }
    </section>
  `;
}

const Answer = ({ answer }) => html`
  ${
    answer.error
      ? html`
          <${ErrorNote} error=${answer.error} />
        `
      : html`
          <div class="turn assistant">
            ${answer.content || (answer.waiting ? t("chat.thinking") : t("chat.silent"))}
          </div>
        `
  }
  ${
    (answer.tokens || answer.stopped) &&
    html`
      <div class="small muted">
        ${
          answer.stopped
            ? t("chat.stopped")
            : t("chat.speed", {
                tokens: number(answer.tokens),
                speed: number(answer.speed, { maximumFractionDigits: 1 }),
                first: number(answer.first),
              })
        }
      </div>
    `
  }
`;

const NUMBERS = [
  ["temperature", 0, 2, 0.1],
  ["top_p", 0.01, 1, 0.01],
  ["max_tokens", 1, 4096, 1],
  ["seed", 0, 2147483647, 1],
];

const Options = ({ options, setOptions }) => html`
  <div class="form-grid">
    ${NUMBERS.map(
      ([name, min, max, step]) => html`
        <div class="field" key=${name}>
          <label for=${`option-${name}`} class="setting-name">${name}</label>
          <input
            id=${`option-${name}`}
            class="input"
            type="number"
            min=${min}
            max=${max}
            step=${step}
            value=${options[name]}
            onChange=${(event) => setOptions({ ...options, [name]: Number(event.target.value) })}
          />
        </div>
      `,
    )}
    <div class="field">
      <label for="option-system">${t("chat.system")}</label>
      <textarea
        id="option-system"
        class="input"
        value=${options.system}
        onInput=${(event) => setOptions({ ...options, system: event.target.value })}
      ></textarea>
    </div>
  </div>
`;

function restored() {
  try {
    return JSON.parse(sessionStorage.getItem("luthier.chat") ?? "[]");
  } catch {
    return []; // storage is off
  }
}

function keep(turns) {
  try {
    sessionStorage.setItem("luthier.chat", JSON.stringify(turns));
  } catch {
    return false; // storage is off or full: the talk lasts as long as the page
  }
  return true;
}
