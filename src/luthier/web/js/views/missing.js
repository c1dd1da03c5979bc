import { html } from "../lib.js";
import { t } from "../i18n.js";
import { link } from "../route.js";
import { Empty, LinkButton, PageHead } from "../parts/basic.js";

export default function Missing() {
  return html`<${PageHead} title=${t("missing.title")} />
    <${Empty} icon="info" title=${t("missing.title")} action=${html`<${LinkButton} href=${link()}>
      ${t("nav.home")}</${LinkButton}>`}>${t("missing.text")}</${Empty}>`;
}
