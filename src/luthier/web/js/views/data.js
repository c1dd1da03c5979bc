// Files: bring one in, see the ones that are there.
import { html, useRef, useState } from "../lib.js";
import { remove, upload, useData } from "../api.js";
import { bytes, moment, percent, t } from "../i18n.js";
import { go, link } from "../route.js";
import { Button, Confirm, Empty, ErrorNote, Loading, PageHead, toast } from "../parts/basic.js";

export default function Data() {
  const { data, error, again } = useData("v1/files?limit=100");
  const [problem, setProblem] = useState(null);
  const [doomed, setDoomed] = useState(null);
  const files = (data?.data ?? []).filter((file) => file.purpose !== "fine-tune-results");
  const erase = async () => {
    try {
      await remove(`v1/files/${doomed.id}`);
      toast(t("data.deleted", { name: doomed.filename }));
    } catch (failed) {
      setProblem(failed);
    }
    setDoomed(null);
    again();
  };
  return html`
    <${PageHead} title=${t("data.title")} lead=${t("data.lead")} />
    <div class="stack wide">
      <${Upload} onError=${setProblem} />
      <${ErrorNote} error=${problem ?? error} />
      ${
        !data &&
        !error &&
        html`
          <${Loading} />
        `
      }
      ${
        data &&
        !files.length &&
        html`<${Empty} icon="data" title=${t("data.none")}>${t("data.none.text")}
        </${Empty}>`
      }
      ${
        files.length > 0 &&
        html`
          <${Files} files=${files} onDelete=${setDoomed} />
        `
      }
    </div>
    ${
      doomed &&
      html`
        <${Confirm}
          title=${t("data.delete")}
          text=${t("data.delete.text", { name: doomed.filename })}
          action=${t("delete")}
          onYes=${erase}
          onNo=${() => setDoomed(null)}
        />
      `
    }
  `;
}

const Files = ({ files, onDelete }) => html`
  <div class="card flush scroll-x">
    <table class="cards">
      <caption class="unseen">${t("data.files")}</caption>
      <thead>
        <tr>
          <th scope="col">${t("data.name")}</th>
          <th scope="col" class="num">${t("data.size")}</th>
          <th scope="col">${t("data.added")}</th>
          <th scope="col"><span class="unseen">${t("actions")}</span></th>
        </tr>
      </thead>
      <tbody>
        ${files.map(
          (file) => html`<tr key=${file.id}>
        <th scope="row"><a href=${link("file", file.id)}>${file.filename}</a></th>
        <td class="num" data-label=${t("data.size")}>${bytes(file.bytes)}</td>
          <td data-label=${t("data.added")}>${moment(file.created_at)}</td>
        <td class="num"><a class="button small" href=${link("new", { data: file.id })}>${t("data.use")}
          </a> <${Button} kind="small plain" icon="trash" aria-label=${`${t("delete")}: ${file.filename}`}
          onClick=${() => onDelete(file)}></${Button}></td>
      </tr>`,
        )}
      </tbody>
    </table>
  </div>
`;

function Upload({ onError }) {
  const [share, setShare] = useState(null);
  const [over, setOver] = useState(false);
  const input = useRef();
  const send = async (file) => {
    if (!file) return;
    onError(null);
    setShare(0);
    try {
      const made = await upload(file, setShare);
      toast(t("data.uploaded", { name: file.name }));
      go("file", made.id);
    } catch (failed) {
      onError(failed);
      setShare(null);
    }
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    send(event.dataTransfer.files[0]);
  };
  return html`
    <section
      class=${over ? "card drop over" : "card drop"}
      aria-label=${t("data.upload")}
      onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)}
      onDrop=${drop}
    >
      ${
        share === null
          ? html`<div class="stack tight"><p class="strong">${t("data.drop")}</p>
            <p class="small muted">${t("data.kinds")}</p></div>
          <input id="upload" ref=${input} class="unseen" type="file" tabindex="-1"
            aria-label=${t("data.choose")} accept=".jsonl,.json,.csv,.tsv,.txt,.parquet"
            onChange=${(event) => send(event.target.files[0])} />
          <${Button} kind="main-action" icon="up" onClick=${() => input.current.click()}>${t("data.choose")}
            </${Button}>`
          : html`
              <div class="stack tight grow">
                <p role="status">${t("data.sending", { share: percent(share) })}</p>
                <div
                  class="meter"
                  role="progressbar"
                  aria-label=${t("data.upload")}
                  aria-valuemin="0"
                  aria-valuemax="100"
                  aria-valuenow=${Math.round(share * 100)}
                >
                  <span style=${{ width: `${share * 100}%` }}></span>
                </div>
              </div>
            `
      }
    </section>
  `;
}
