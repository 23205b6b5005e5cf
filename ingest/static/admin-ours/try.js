// This script shows the answer beside the form, so that the browser stays on the page.

const form = document.getElementById("try");
const answer = document.getElementById("try-answer");

const body = document.getElementById("body");
const buttons = form.querySelectorAll("button");
let waits = false;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (waits) return;
  const data = new FormData(form, event.submitter);
  // Browsers send the line ends of a form as two characters.
  const size = new Blob([body.value.replaceAll("\n", "\r\n")]).size;
  const limit = Number(form.dataset.maxBytes);
  if (size > limit) {
    say(`The body has ${inMegabytes(size)} MB, but this page takes at most ${inMegabytes(limit)} MB. Send a larger body with the curl command on the dataset's Definition page.`);
    return;
  }
  wait(true);
  const response = await fetch(form.action, { method: "POST", body: data }).catch(() => null);
  const text = await response?.text().catch(() => null);
  wait(false);
  const page = response?.ok && text ? new DOMParser().parseFromString(text, "text/html").getElementById("answer") : null;
  if (page) {
    answer.replaceChildren(...page.childNodes);
    answer.querySelector("[data-select]")?.addEventListener("click", selectPlace);
    bringIntoView();
  } else if (response?.ok) {
    say("You are logged out. Reload this page, log in, then try again.");
  } else if (response) {
    say(`The admin refused this request with status ${response.status}. Reload this page, then try again.`);
  } else {
    say("The server does not answer. Try again.");
  }
});

// The second click of a double click must not send the records again, even if the first answer is there.
for (const button of buttons) {
  button.addEventListener("click", (event) => {
    if (event.detail > 1) event.preventDefault();
  });
}

function wait(now) {
  waits = now;
  answer.ariaBusy = String(now);
  for (const button of buttons) button.ariaDisabled = String(now);
}

function say(text) {
  const line = document.createElement("p");
  line.className = "ours-bad";
  line.textContent = text;
  answer.replaceChildren(line);
  bringIntoView();
}

// On a phone, the answer is below the form.
function bringIntoView() {
  const { top } = answer.getBoundingClientRect();
  if (top < 0 || top > window.innerHeight / 2) answer.scrollIntoView();
}

function inMegabytes(bytes) {
  return (Math.floor(bytes / 100_000) / 10).toFixed(1);
}

// Select the character where the JSON of the body is invalid.
function selectPlace(event) {
  const at = Number(event.currentTarget.dataset.select);
  body.focus();
  body.setSelectionRange(at, at + 1);
}
