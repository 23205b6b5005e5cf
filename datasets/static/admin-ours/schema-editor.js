// The schema editor shows rows for the JSON in the form's textarea. The form still sends the textarea. After each change
// the server says what publishing would change; this script decides nothing.

const root = document.getElementById("schema-editor");
const source = document.getElementById("id_schema");
const list = root.querySelector(".ours-schema");
const announcement = document.getElementById("schema-said");
const types = JSON.parse(document.getElementById("schema-types").textContent);
const csrf = document.querySelector("[name=csrfmiddlewaretoken]").value;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function announce(text) {
  announcement.textContent = text;
}

function rows() {
  return [...list.children].map((row) => ({
    ...row.field, // what the rows do not show, like "optional"
    name: row.querySelector(".ours-name").value.trim(),
    type: row.querySelector(".ours-type").value,
    description: row.querySelector(".ours-what").value.trim(),
  }));
}

function filled(fields) {
  return fields.filter((field) => field.name || field.description);
}

function nameOf(row) {
  return row.querySelector(".ours-name").value || "the new field";
}

function move(row, by) {
  const other = by < 0 ? row.previousElementSibling : row.nextElementSibling;
  if (!other) return;
  by < 0 ? other.before(row) : other.after(row);
  announce(`${nameOf(row)} is now field ${[...list.children].indexOf(row) + 1} of ${list.children.length}`);
  changed();
}

function remove(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  announce(`${nameOf(row)} removed`);
  row.remove();
  (next?.querySelector(".ours-name") ?? document.getElementById("schema-add")).focus();
  changed();
}

function tool(text, label, act) {
  const button = element("button", { type: "button", className: "ours-button ours-icon", textContent: text, title: label });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  return button;
}

function add(field = { name: "", type: "string", description: "" }) {
  const row = element("li", { field });
  const handle = tool("⠿", "Move: drag, or press the arrow keys", () => {});
  handle.classList.add("ours-handle");
  handle.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    event.preventDefault();
    move(row, event.key === "ArrowUp" ? -1 : 1);
    handle.focus();
  });
  dragging(handle, row);
  const name = element("input", { className: "ours-input ours-name ours-code", value: field.name, placeholder: "name", maxLength: 63 });
  name.setAttribute("aria-label", "Field name");
  name.setAttribute("autocapitalize", "off");
  name.spellcheck = false;
  const type = element("select", { className: "ours-input ours-type" });
  type.setAttribute("aria-label", "Type");
  for (const each of types) type.append(element("option", { value: each.name, textContent: each.name, title: each.help }));
  if (!types.some((each) => each.name === field.type)) type.append(element("option", { value: field.type, textContent: field.type }));
  type.value = field.type;
  const what = element("input", { className: "ours-input ours-what", value: field.description ?? "", placeholder: "description (optional)" });
  what.setAttribute("aria-label", "Description");
  const tools = element("span", { className: "ours-row ours-tools" }, tool("✕", "Remove this field", () => remove(row)));
  row.append(element("div", { className: "ours-line" }, handle, name, type, what, tools));
  row.addEventListener("input", changed);
  name.title = name.value;
  name.addEventListener("input", () => { name.title = name.value; });
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Enter goes to the next row and does not send the form
    row.nextElementSibling ? row.nextElementSibling.querySelector(".ours-name").focus() : add().querySelector(".ours-name").focus();
  });
  list.append(row);
  return row;
}

// Pointer events also work on touch screens. HTML's drag and drop does not.
function dragging(handle, row) {
  handle.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault(); // do not select text while dragging
    handle.focus();
    row.classList.add("ours-over");
    const follow = (moved) => {
      const over = document.elementFromPoint(moved.clientX, moved.clientY)?.closest(".ours-schema > li");
      if (!over || over === row) return;
      const box = over.getBoundingClientRect();
      moved.clientY < box.top + box.height / 2 ? over.before(row) : over.after(row);
    };
    const drop = () => {
      document.removeEventListener("pointermove", follow);
      document.removeEventListener("pointerup", drop);
      document.removeEventListener("pointercancel", drop);
      row.classList.remove("ours-over");
      changed();
    };
    // Listen on the document: a handle that moves in the document loses its pointer.
    document.addEventListener("pointermove", follow);
    document.addEventListener("pointerup", drop);
    document.addEventListener("pointercancel", drop);
  });
}

function show(problems, indexes) {
  for (const row of list.children) {
    row.classList.remove("ours-wrong");
    row.querySelector(".ours-error")?.remove();
    row.querySelector(".ours-name").removeAttribute("aria-describedby");
  }
  problems.forEach((problem, number) => {
    const row = list.children[indexes[problem.index]];
    if (!row) return;
    row.classList.add("ours-wrong");
    const id = `schema-problem-${number}`;
    row.append(element("p", { className: "ours-error", id, textContent: problem.text }));
    row.querySelector(".ours-name").setAttribute("aria-describedby", id);
  });
}

async function post(url, data) {
  return fetch(url, { method: "POST", headers: { "X-CSRFToken": csrf }, body: new URLSearchParams(data) });
}

// The search hides fields that do not match. Hidden fields are saved too.
const search = document.getElementById("schema-search");

function find() {
  const wanted = search.value.trim().toLowerCase();
  let found = 0;
  for (const row of list.children) {
    const text = `${row.querySelector(".ours-name").value} ${row.querySelector(".ours-what").value}`.toLowerCase();
    row.hidden = !text.includes(wanted);
    found += row.hidden ? 0 : 1;
  }
  document.getElementById("schema-found").textContent = wanted ? `${found} of ${list.children.length} fields` : "";
}

function offerSearch() {
  document.getElementById("schema-find").hidden = list.children.length < 12 && !search.value;
}

search.addEventListener("input", find);
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") event.preventDefault();
});

let timer = 0;
let asked = 0;

function changed() {
  const all = rows();
  source.value = JSON.stringify({ fields: filled(all) }, null, 2);
  offerSearch();
  clearTimeout(timer);
  timer = setTimeout(check, 200);
}

function grace() {
  return document.querySelector("[name=grace]:checked")?.value ?? "";
}

async function check() {
  const number = ++asked;
  const all = rows();
  const indexes = all.flatMap((field, index) => (field.name || field.description ? [index] : []));
  const sample = document.getElementById("sample").value;
  const response = await post(root.dataset.check, { schema: source.value, sample, grace: grace() }).catch(() => null);
  if (number !== asked) return; // a later request is running
  const preview = document.getElementById("schema-preview");
  if (!response?.ok) {
    preview.textContent = "The server does not answer, so the effect of this change is unknown.";
    return;
  }
  const answer = await response.json();
  show(answer.problems, indexes);
  preview.innerHTML = answer.preview;
  if (answer.panel) document.getElementById("schema-panel").innerHTML = answer.panel;
}

async function infer() {
  const notes = document.getElementById("sample-notes");
  const response = await post(root.dataset.infer, { sample: document.getElementById("sample").value }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (!response?.ok) {
    notes.replaceChildren(element("p", { className: "ours-bad", textContent: answer?.error ?? "The server does not answer. Try again." }));
    return;
  }
  const known = new Set(rows().map((field) => field.name));
  const added = answer.fields.filter((field) => !known.has(field.name));
  for (const row of [...list.children]) if (!row.querySelector(".ours-name").value) row.remove();
  added.forEach(add);
  const summary = `${added.length} ${added.length === 1 ? "field" : "fields"} added from the sample. Check the fields, then save.`;
  notes.replaceChildren(...[summary, ...answer.notes].map((text) => element("p", { textContent: text })));
  changed();
}

function read(text) {
  const { fields } = JSON.parse(text);
  if (Array.isArray(fields)) return fields;
  return Object.entries(fields).map(([name, said]) => (typeof said === "string" ? { name, type: said } : { ...said, name }));
}

function begin() {
  let fields = [];
  try {
    fields = source.value.trim() ? read(source.value) : [];
  } catch {
    return; // the text is not JSON: leave it for the user to correct
  }
  fields.forEach(add);
  if (!fields.length) add();
  document.getElementById("schema-text").open = false;
  root.hidden = false;
  document.getElementById("schema-add").addEventListener("click", () => { add().querySelector(".ours-name").focus(); changed(); });
  document.getElementById("sample-infer").addEventListener("click", infer);
  source.addEventListener("change", () => {
    try {
      const typed = read(source.value);
      list.replaceChildren();
      typed.forEach(add);
    } catch {
      announce("The text is not JSON");
    }
    changed();
  });
  for (const choice of document.querySelectorAll("[name=grace]")) choice.addEventListener("change", changed);
  offerSearch();
  if (source.value.trim()) check();
}

begin();
