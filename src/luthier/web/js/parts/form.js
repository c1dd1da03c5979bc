// What the form of a new job holds: from its address, from another job, and as settings.
export const PLACED = [
  "model",
  "dataset",
  "eval_dataset",
  "method",
  "objective",
  "output_dir",
  "resume",
];
export const BITS = ["load_in_4bit", "load_in_8bit"];

export const without = (values, name) =>
  Object.fromEntries(Object.entries(values).filter(([key]) => key !== name));

export function fromAddress({ model, data, held, method, objective, s, name }) {
  let more;
  try {
    more = s ? JSON.parse(s) : {};
  } catch {
    more = {}; // a damaged address is an empty form, not an error
  }
  return {
    model: model ?? "starter",
    data: data ?? "",
    held: held ?? "",
    method: method ?? "lora",
    objective: objective ?? "sft",
    name: name ?? "",
    more,
  };
}

export const toAddress = (form) => ({
  ...form,
  more: undefined,
  s: Object.keys(form.more).length ? JSON.stringify(form.more) : "",
});

/** The form with one more setting; bits of the base mean `qlora`, and there is one kind of them. */
export function withSetting(form, name, value) {
  const others = without(form.more, name);
  const more = value === undefined ? others : { ...others, [name]: value };
  if (!BITS.includes(name) || value !== true) return { ...form, more };
  return {
    ...form,
    method: "qlora",
    more: without(
      more,
      BITS.find((one) => one !== name),
    ),
  };
}

/** The form of a job again; what it has no field for, such as a second file, comes along. */
export function fromJob(detail) {
  const given = Object.keys(detail.given ?? {}).length ? detail.given : detail.settings;
  const one = (value) => (Array.isArray(value) ? value[0] : value) ?? "";
  const more = Object.fromEntries(
    Object.entries(given).filter(([name, value]) => !PLACED.includes(name) && value !== null),
  );
  for (const name of ["dataset", "eval_dataset"])
    if (Array.isArray(given[name]) && given[name].length > 1) more[name] = given[name];
  const method = given.method ?? (BITS.some((name) => given[name]) ? "qlora" : "lora");
  return {
    model: given.model ?? detail.job.base,
    data: one(given.dataset),
    held: one(given.eval_dataset),
    method,
    objective: given.objective ?? "sft",
    name: "",
    more,
  };
}

export function settingsOf(form) {
  const settings = {
    model: form.model,
    dataset: [form.data],
    method: form.method,
    objective: form.objective,
    ...form.more,
  };
  if (form.held) settings.eval_dataset ??= [form.held];
  if (form.method === "full") delete settings.lora_dim;
  if (form.method !== "qlora") for (const name of BITS) delete settings[name];
  return settings;
}
