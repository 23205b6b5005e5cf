// The schema editor shows rows for the JSON in the form's textarea. The form still sends the textarea. After each change
// the server says what publishing would change; this script decides nothing.

import { element, makeRow, parse, read as fieldOf, rename } from "./schema-row.js";

const root = document.getElementById("schema-editor");
const source = document.getElementById("id_schema");
const list = root.querySelector(".ours-schema");
const announcement = document.getElementById("schema-said");
const types = new Map(JSON.parse(document.getElementById("schema-types").textContent).map((each) => [each.name, each]));
const csrf = document.querySelector("[name=csrfmiddlewaretoken]").value;

function announce(text) {
  announcement.textContent = text;
}

function rows() {
  return [...list.children].map(fieldOf);
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

function add(field = { name: "", type: "string" }) {
  const row = makeRow(field, types, { changed, remove, wire });
  list.append(row);
  return row;
}

// Make a row movable, and let Enter go to the next name.
function wire(row, handle, name) {
  handle.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    event.preventDefault();
    move(row, event.key === "ArrowUp" ? -1 : 1);
    handle.focus();
  });
  dragging(handle, row);
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Enter goes to the next row and does not send the form
    row.nextElementSibling ? row.nextElementSibling.querySelector(".ours-name").focus() : add().querySelector(".ours-name").focus();
  });
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

// Show each problem at its row, with a button for the name that the server suggests.
function show(problems, suggestions, indexes) {
  for (const row of list.children) {
    row.classList.remove("ours-wrong");
    row.querySelectorAll(".ours-error").forEach((each) => each.remove());
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
  const renames = Object.entries(suggestions).map(([index, name]) => [list.children[indexes[index]], name]).filter(([row]) => row);
  for (const [row, name] of renames) {
    row.append(element("p", { className: "ours-error" }, renaming(`Use ${name}`, [[row, name]])));
  }
  const several = renames.length > 1 ? [renaming(`Use all ${renames.length} suggested names`, renames)] : [];
  document.getElementById("schema-rename").replaceChildren(...several);
}

function renaming(label, renames) {
  const button = element("button", { type: "button", className: "ours-button", textContent: label });
  button.addEventListener("click", () => {
    for (const [row, name] of renames) {
      row.sent ??= row.field.name;
      rename(row, name);
    }
    announce(renames.map(([row]) => row.querySelector(".ours-renamed").textContent).join(" "));
    renames[0][0].querySelector(".ours-name").focus();
    changed();
  });
  return button;
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
  show(answer.problems, answer.suggestions, indexes);
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
  const known = new Set([...list.children].flatMap((row) => [row.field.name, row.sent]));
  const added = answer.fields.filter((field) => !known.has(field.name));
  for (const row of [...list.children]) if (!row.querySelector(".ours-name").value) row.remove();
  added.forEach(add);
  const summary = `${added.length} ${added.length === 1 ? "field" : "fields"} added from the sample. Check the fields, then save.`;
  const items = [summary, ...answer.notes].map((text) => element("li", { textContent: text }));
  notes.replaceChildren(element("ul", { className: "ours-list" }, ...items));
  changed();
}

function read(text) {
  const { fields } = parse(text);
  const said = Array.isArray(fields)
    ? fields
    : Object.entries(fields).map(([name, each]) => (typeof each === "string" ? { name, type: each } : { ...each, name }));
  return said.map((each) => (each.type.endsWith("?") ? { ...each, type: each.type.slice(0, -1), optional: true } : each));
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
