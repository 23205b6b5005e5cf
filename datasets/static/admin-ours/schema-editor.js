// The schema editor shows rows for the JSON in the form's textarea. The form still sends the textarea. After each change
// the server says what publishing would change; this script decides nothing.
//
// A user can also type JSON. The server reads what is typed, and this script never changes it. While the rows do not show
// the typed JSON, they cannot be used, because a change of a row writes the JSON of all rows into the textarea.

import { element, makeRow, parse, read as fieldOf, rename } from "./schema-row.js";

const root = document.getElementById("schema-editor");
const source = document.getElementById("id_schema");
const sample = document.getElementById("sample");
const sampleNotes = document.getElementById("sample-notes");
const textErrors = document.getElementById("schema-text-errors");
const list = root.querySelector(".ours-schema");
const announcement = document.getElementById("schema-said");
const types = new Map(JSON.parse(document.getElementById("schema-types").textContent).map((each) => [each.name, each]));
const SAMPLE_NAME = sample.name;
const MAX_SAMPLE_BYTES = 2_000_000; // the server takes forms of at most 2.5 MB
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
function show(problems, suggestions) {
  const indexes = rows().flatMap((field, index) => (field.name || field.description ? [index] : []));
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

// Return the server's response, or null if there is none.
async function post(url, data) {
  return fetch(url, { method: "POST", headers: { "X-CSRFToken": csrf }, body: new URLSearchParams(data) }).catch(() => null);
}

// After the login has ended, the server redirects to the login page.
function isAnswer(response) {
  return Boolean(response?.ok && !response.redirected);
}

function failure(response) {
  if (!response || response.status >= 500) return "The server does not answer. Try again.";
  return "The server refuses the request. The texts of this page may be too large, or your login has ended.";
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
let isTyped = false; // the textarea has what a user typed, and not what the rows say

// The rows have changed: write them into the textarea.
function changed() {
  isTyped = false;
  source.value = JSON.stringify({ fields: filled(rows()) }, null, 2);
  offerSearch();
  checkSoon();
}

// The textarea has changed: the rows must wait until the server has read it.
function typed(delay) {
  isTyped = true;
  root.inert = true;
  checkSoon(delay);
}

function checkSoon(delay = 200) {
  clearTimeout(timer);
  timer = setTimeout(check, delay);
}

function grace() {
  return document.querySelector("[name=grace]:checked")?.value ?? "";
}

async function check() {
  clearTimeout(timer);
  const number = ++asked;
  const wasTyped = isTyped;
  const asks = { schema: source.value, sample: sampleProblem() ? "" : sample.value, grace: grace(), typed: wasTyped ? "1" : "" };
  const response = await post(root.dataset.check, asks);
  if (number !== asked) return; // a later request is running
  const preview = document.getElementById("schema-preview");
  document.getElementById("schema-panel-old").hidden = false;
  if (!isAnswer(response)) {
    preview.textContent = `${failure(response)} The effect of this change is unknown.`;
    return;
  }
  const answer = parse(await response.text());
  if (wasTyped !== isTyped || asks.schema !== source.value) return; // the next check shows the later change
  if (wasTyped) fill(answer.rows);
  textErrors.replaceChildren(...(wasTyped ? answer.problems : []).map(({ text }) => element("li", { textContent: text })));
  source.setAttribute("aria-invalid", String(textErrors.children.length > 0));
  show(answer.problems, answer.suggestions);
  preview.innerHTML = answer.preview;
  if (!answer.panel) return;
  document.getElementById("schema-panel").innerHTML = answer.panel;
  document.getElementById("schema-panel-old").hidden = true;
}

// Show what the server has read from the textarea. If there are no rows for it, the rows stay as they are, out of use.
function fill(fields) {
  root.inert = !fields;
  if (!fields) return;
  list.replaceChildren();
  fields.forEach((field) => add(field));
  if (!fields.length) add();
  root.hidden = false;
  offerSearch();
}

// Return why the sample cannot be sent, or an empty text. In a form, most characters that are not letters take 3 bytes.
function sampleProblem() {
  const { length } = sample.value;
  const bytes = length > MAX_SAMPLE_BYTES / 9 ? new URLSearchParams({ sample: sample.value }).toString().length : 0;
  const most = Math.min(Number(sample.dataset.max), bytes > MAX_SAMPLE_BYTES ? Math.floor((length / bytes) * MAX_SAMPLE_BYTES) : Infinity);
  if (length <= most) return "";
  return `This sample is too large: it has ${length.toLocaleString("en")} characters. Paste fewer records, at most ${most.toLocaleString("en")} characters.`;
}

// The form also sends the sample, for the example record. A sample that is too large would make the server refuse the form.
function sampled() {
  const problem = sampleProblem();
  sample.setAttribute("aria-invalid", String(Boolean(problem)));
  problem ? sample.removeAttribute("name") : sample.setAttribute("name", SAMPLE_NAME);
  sampleNotes.replaceChildren(...(problem ? [element("p", { className: "ours-bad", textContent: problem })] : []));
}

let isInferring = false;

async function infer(event) {
  if (isInferring || event.detail > 1) return; // `detail` counts the clicks of a double click
  isInferring = true;
  try {
    await inferOnce();
  } finally {
    isInferring = false;
  }
}

function refuseSample(text) {
  sampleNotes.replaceChildren(element("p", { className: "ours-bad", textContent: text }));
}

async function inferOnce() {
  if (isTyped) await check();
  if (root.inert) return refuseSample("Correct the JSON of the fields first. Then read fields from the sample.");
  const problem = sampleProblem();
  if (problem) return refuseSample(problem);
  const known = [...list.children].flatMap(({ field, sent }) => [field.name, sent].map((name) => [name, Boolean(field.optional)]));
  const isKnown = Object.fromEntries(known.filter(([name]) => name));
  const response = await post(root.dataset.infer, { sample: sample.value, known: JSON.stringify(isKnown) });
  const answer = await response?.json().catch(() => null);
  if (!isAnswer(response)) return refuseSample(answer?.error ?? failure(response));
  const added = answer.fields.filter((field) => !Object.hasOwn(isKnown, field.name));
  for (const row of [...list.children]) if (!row.querySelector(".ours-name").value) row.remove();
  added.forEach((field) => add(field));
  const count = `${added.length} ${added.length === 1 ? "field" : "fields"} added from the sample. Check the fields, then save.`;
  const summary = added.length ? count : "The list already has all fields of the sample.";
  const items = [summary, ...answer.notes].map((text) => element("li", { textContent: text }));
  sampleNotes.replaceChildren(element("ul", { className: "ours-list" }, ...items));
  changed();
}

function begin() {
  const fields = parse(document.getElementById("schema-rows").textContent);
  // Some browsers fill in what was typed before the page was reloaded.
  const isShown = fields && source.value === source.defaultValue;
  if (fields) fill(fields);
  document.getElementById("schema-text").open = !isShown;
  document.getElementById("schema-add").addEventListener("click", () => { add().querySelector(".ours-name").focus(); changed(); });
  document.getElementById("sample-infer").addEventListener("click", infer);
  sample.addEventListener("input", sampled);
  source.addEventListener("input", () => typed(500));
  source.addEventListener("change", () => typed(0));
  for (const choice of document.querySelectorAll("[name=grace]")) choice.addEventListener("change", () => checkSoon());
  if (sample.value) sampled();
  if (!isShown) typed(0);
  else if (source.value.trim()) check();
}

begin();
