// One row of the schema editor: the inputs of one field. A row keeps what its inputs do not show.

const DECIMAL = "decimal(p,s)";
const ENUM = "enum";
let made = 0;

export function element(name, properties = {}, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children);
  return created;
}

export function tool(text, label, act) {
  const button = element("button", { type: "button", className: "ours-button ours-icon", textContent: text, title: label });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  return button;
}

function labeled(label, input) {
  input.id = `schema-input-${++made}`;
  return element("div", { className: "ours-field" }, element("label", { htmlFor: input.id, textContent: label }), input);
}

function text(className, label, value, placeholder) {
  const input = element("input", { className: `ours-input ${className}`, value, placeholder, title: value });
  input.setAttribute("aria-label", label);
  input.spellcheck = false;
  input.addEventListener("input", () => { input.title = input.value; });
  return input;
}

// The inputs that only some types need: the digits of a decimal, and the values of an enum.
function arguments_(row) {
  const [, digits, scale] = row.field.type.match(/^decimal\((\d+),\s*(\d+)\)$/) ?? [];
  const places = { digits: digits ?? 18, scale: scale ?? 2 };
  const number = (key, label, max) => {
    const input = element("input", { type: "number", min: 0, max, value: places[key], className: "ours-input" });
    input.addEventListener("input", () => { row.field.type = `decimal(${row.digits.value || 0},${row.scale.value || 0})`; });
    row[key] = input;
    return labeled(label, input);
  };
  if (row.kind.value === DECIMAL) {
    const inputs = [number("digits", "Digits in all", 38), number("scale", "Digits after the point", 38)];
    row.field.type = `decimal(${places.digits},${places.scale})`;
    return inputs;
  }
  if (row.kind.value !== ENUM) return [];
  const values = element("textarea", { className: "ours-input", rows: 3, value: (row.field.values ?? []).join("\n") });
  values.addEventListener("input", () => {
    row.field.values = values.value.split("\n").map((each) => each.trim()).filter(Boolean);
  });
  return [labeled("Values, one per line", values)];
}

// The members that few fields have. The button “More…” shows them. The row says in words which of them are set.
const MEMBERS = {
  unit: { label: "Unit", placeholder: "like EUR, or °C" },
  minimum: { label: "Minimum", parse: limit },
  maximum: { label: "Maximum", parse: limit },
  min_length: { label: "Minimum length", parse: limit },
  max_length: { label: "Maximum length", parse: limit },
  pattern: { label: "Pattern (RE2)", placeholder: "like ^[A-Z]{2}$" },
};

// Return a number if JavaScript keeps it exactly. An integer beyond 2^53 stays as it is typed.
function limit(typed) {
  if (String(Number(typed)) === typed && Number.isFinite(Number(typed)) && exact(Number(typed))) return Number(typed);
  return /^-?[1-9][0-9]{15,}$/.test(typed) && JSON.rawJSON ? JSON.rawJSON(typed) : typed;
}

function exact(number) {
  return !Number.isInteger(number) || Number.isSafeInteger(number);
}

// JSON.parse for schemas: it keeps integers that JavaScript would round.
export function parse(json) {
  return JSON.parse(json, (_, value, context) => (typeof value === "number" && !exact(value) && context?.source && JSON.rawJSON
    ? JSON.rawJSON(context.source) : value));
}

function asText(value) {
  return String(value?.rawJSON ?? value ?? "");
}

function members(row) {
  return (row.types.get(row.kind.value)?.members ?? []).map((name) => {
    const { label, placeholder = "", parse: parsed = (typed) => typed } = MEMBERS[name];
    const input = element("input", { className: "ours-input", value: asText(row.field[name]), placeholder, spellcheck: false });
    input.addEventListener("input", () => {
      row.field[name] = parsed(input.value.trim());
      summarize(row);
    });
    return labeled(label, input);
  });
}

function summarize(row) {
  const field = read(row);
  const set = Object.keys(MEMBERS).filter((name) => name in field);
  row.summary.textContent = set.map((name) => `${MEMBERS[name].label}: ${asText(field[name])}`).join("; ");
}

// After another type is chosen, the row has the inputs of that type.
function retype(row) {
  row.arguments.replaceChildren(...arguments_(row));
  row.arguments.hidden = !row.arguments.children.length;
  row.members.replaceChildren(...members(row));
  summarize(row);
}

function disclosure(row) {
  row.members.id = `schema-more-${++made}`;
  const button = element("button", { type: "button", className: "ours-button", textContent: "More…", title: "Unit and limits of this field" });
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", row.members.id);
  button.addEventListener("click", () => {
    row.members.hidden = !row.members.hidden;
    button.setAttribute("aria-expanded", String(!row.members.hidden));
    if (!row.members.hidden) row.members.querySelector("input").focus();
  });
  return button;
}

function choice(row) {
  const select = element("select", { className: "ours-input ours-type" });
  select.setAttribute("aria-label", "Type");
  const shown = row.field.type.startsWith("decimal(") ? DECIMAL : row.field.type;
  for (const each of row.types.values()) select.append(element("option", { value: each.name, textContent: each.name, title: each.help }));
  if (!row.types.has(shown)) select.append(element("option", { value: shown, textContent: shown }));
  select.value = shown;
  select.addEventListener("input", () => {
    row.field.type = select.value;
    retype(row);
  });
  return select;
}

function optional(row) {
  const box = element("input", { type: "checkbox", checked: Boolean(row.field.optional) });
  box.addEventListener("input", () => { row.field.optional = box.checked; });
  return element("label", { className: "ours-optional" }, box, " optional");
}

// Return the list item of a field. `types` maps each type's name to the type. `act` has the list's functions for a row.
export function makeRow(field, types, act) {
  const item = element("li");
  const row = Object.assign(item, { field: { description: "", ...field }, types });
  row.kind = choice(row);
  row.arguments = element("div", { className: "ours-fields ours-below" });
  row.members = element("div", { className: "ours-fields ours-below", hidden: true });
  row.summary = element("p", { className: "ours-faint ours-small ours-below" });
  const handle = tool("⠿", "Move: drag, or press the arrow keys", () => {});
  handle.classList.add("ours-handle");
  const name = text("ours-name ours-code", "Field name", field.name, "name");
  name.maxLength = 63;
  name.setAttribute("autocapitalize", "off");
  name.addEventListener("input", () => { rename(row, name.value.trim(), name.value); });
  const what = text("ours-what", "Description", row.field.description, "description");
  what.addEventListener("input", () => { row.field.description = what.value.trim(); });
  const remove = tool("✕", "Remove this field", () => act.remove(row));
  item.append(
    element("div", { className: "ours-line" }, handle, name, row.kind, optional(row), remove, what, disclosure(row)),
    row.summary, row.arguments, row.members,
  );
  retype(row);
  item.addEventListener("input", act.changed);
  act.wire(row, handle, name);
  return row;
}

// Return the field as a schema declares it: with `optional` only if it is true, and with a member of MEMBERS only if it
// is set and the type has it.
export function read(row) {
  const { name, type, description, optional: isOptional, values, ...others } = row.field;
  const known = row.types.get(row.kind.value)?.members;
  const has = ([member, value]) => value !== "" && value != null && (!(member in MEMBERS) || !known || known.includes(member));
  return {
    name, type, description,
    ...(isOptional ? { optional: true } : {}),
    ...(row.kind.value === ENUM ? { values: values ?? [] } : {}),
    ...Object.fromEntries(Object.entries(others).filter(has)),
  };
}

// Give the field another name. If a suggestion was used, say what clients must send instead of the sample's name.
export function rename(row, name, typed = name) {
  row.field.name = name;
  const input = row.querySelector(".ours-name");
  if (input.value !== typed) Object.assign(input, { value: name, title: name });
  row.querySelector(".ours-renamed")?.remove();
  if (!row.sent || row.sent === name) return;
  row.append(element("p", {
    className: "ours-warn ours-small ours-below ours-renamed",
    textContent: `Clients must send “${name}” instead of “${row.sent}”.`,
  }));
}
