// The conditions of a search: this script offers only the operators that a field has, and adds further conditions.

const operators = JSON.parse(document.getElementById("operators").textContent);
const form = document.getElementById("search");
const lines = () => [...form.querySelectorAll(".ours-condition")];

function offerOperators(line) {
  const [field, op] = line.querySelectorAll("select");
  const allowed = operators[field.value];
  for (const option of op.options) option.hidden = option.disabled = Boolean(allowed && !allowed.includes(option.value));
  if (op.selectedOptions[0]?.disabled) op.value = allowed[0];
  const input = line.querySelector("input");
  // A read-only input is sent with the form. A disabled input is not, so this condition would get the next one's value.
  input.readOnly = op.value.endsWith("null");
  if (input.readOnly) input.value = "";
}

function addCondition() {
  const last = lines().at(-1);
  const line = last.cloneNode(true);
  const number = lines().length + 1;
  line.querySelector("legend").textContent = `Condition ${number}`;
  line.querySelectorAll("[id], [for]").forEach((part) => {
    for (const name of ["id", "for"]) if (part.hasAttribute(name)) part.setAttribute(name, part.getAttribute(name).replace(/-[0-9]+-/, `-${number - 1}-`));
  });
  line.querySelector("input").value = "";
  last.after(line);
  line.querySelector("select").focus();
  offerOperators(line);
}

const button = document.createElement("button");
button.type = "button";
button.className = "ours-button";
button.textContent = "Add a condition";
button.addEventListener("click", addCondition);
form.querySelector(".ours-primary").after(button);

form.addEventListener("change", (event) => {
  const line = event.target.closest(".ours-condition");
  if (line) offerOperators(line);
});
lines().forEach(offerOperators);
