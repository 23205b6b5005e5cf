// This script shows the answer beside the form, so that the browser stays on the page.

const form = document.getElementById("try");
const answer = document.getElementById("try-answer");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answer.setAttribute("aria-busy", "true");
  const response = await fetch(form.action, { method: "POST", body: new FormData(form, event.submitter) }).catch(() => null);
  answer.removeAttribute("aria-busy");
  if (!response?.ok) {
    answer.textContent = "The server does not answer. Try again.";
    return;
  }
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  answer.replaceChildren(...page.getElementById("answer").childNodes);
  answer.querySelector("[data-select]")?.addEventListener("click", selectPlace);
});

// Select the character where the JSON of the body is invalid.
function selectPlace(event) {
  const at = Number(event.currentTarget.dataset.select);
  const body = document.getElementById("body");
  body.focus();
  body.setSelectionRange(at, at + 1);
}
