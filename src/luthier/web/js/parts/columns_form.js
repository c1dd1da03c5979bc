// What the menus of columns say, as the setting `columns`, and back.
export const KINDS = {
  answers: ["question", "answer", "context", "system"],
  preferences: ["question", "chosen", "rejected", "system"],
  text: ["text"],
};
export const NEEDED = {
  answers: ["question", "answer"],
  preferences: ["question", "chosen", "rejected"],
  text: ["text"],
};
const EMPTY = { kind: "answers", several: false, template: "" };
const isTemplate = (text) => /\{[^{}]+\}/.test(String(text ?? ""));

/** A template over the question and its choices, to begin with. */
export const templateOf = (question, choices) =>
  [
    question && `{${question}}`,
    ...choices.map((name, index) => `${String.fromCharCode(65 + index)}. {${name}}`),
  ]
    .filter(Boolean)
    .join("\n");

/** `columns` as the menus show them: ours for each part, or what names suggest. */
export function formOf(columns, parts = {}) {
  const given = columns ?? {};
  const suggested = { ...parts };
  if (!Object.keys(given).length) return { ...EMPTY, ...suggested, kind: kindOf(suggested) };
  const question = given.prompt ?? given.instruction ?? given.question;
  const several = isTemplate(question);
  return {
    ...EMPTY,
    kind: given.chosen ? "preferences" : given.text ? "text" : "answers",
    several,
    template: several ? question : "",
    question: several ? "" : question,
    answer: given.completion ?? given.response ?? given.output ?? given.answer,
    context: given.context ?? given.input,
    system: given.system,
    chosen: given.chosen,
    rejected: given.rejected,
    text: given.text,
  };
}

const kindOf = (parts) => (parts.chosen && parts.rejected ? "preferences" : "answers");

/** The setting `columns`; null while a column is still to be chosen. */
export function columnsOf(form) {
  const question = form.several ? form.template.trim() : form.question;
  const chosen = { ...form, question };
  if (NEEDED[form.kind].some((part) => !chosen[part])) return null;
  const system = form.system && form.kind !== "text" ? { system: form.system } : {};
  if (form.kind === "text") return { text: form.text };
  if (form.kind === "preferences")
    return { prompt: question, chosen: form.chosen, rejected: form.rejected, ...system };
  if (form.context && !form.several)
    return { instruction: question, context: form.context, response: form.answer, ...system };
  return { prompt: question, completion: form.answer, ...system };
}
