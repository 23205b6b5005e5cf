// A button with data-copy="ID" copies the text of that element, and says for two seconds whether it could.

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Scripts have no clipboard over plain HTTP, or if the user denied it. The browser can still copy a selection.
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  event.preventDefault();
  const source = document.getElementById(button.dataset.copy);
  const isCopied = await copy(source.value ?? source.textContent);
  const label = button.textContent;
  button.textContent = isCopied ? "Copied" : "Not copied";
  setTimeout(() => { button.textContent = label; }, 2000);
});
