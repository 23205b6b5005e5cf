// This script shows the progress of an export while the browser downloads it.

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-export]");
  if (!link) return;
  const id = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
  const url = new URL(link.href);
  url.searchParams.set("export_id", id);
  link.href = url;
  follow(id, link.textContent.trim());
});

async function follow(id, name) {
  const status = document.getElementById("export-status");
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", `Export as ${name}`);
  const text = document.createElement("span");
  text.textContent = "Starting the export…";
  status.replaceChildren(text, bar);
  for (let attempt = 0; attempt < 3600; attempt++) {
    await new Promise((later) => setTimeout(later, 500));
    const response = await fetch(`${status.dataset.progress}?export_id=${id}`).catch(() => null);
    if (!response?.ok) continue;
    const { done, total, failed } = await response.json();
    if (failed) {
      text.textContent = "The export failed, because some records cannot be read. The file is incomplete.";
      text.className = "ours-bad";
      bar.remove();
      return;
    }
    if (total === null) continue;
    bar.max = Math.max(1, total);
    bar.value = total ? done : 1;
    text.textContent = `${done.toLocaleString()} of ${total.toLocaleString()} records`;
    if (done >= total) {
      text.textContent += " exported";
      return;
    }
  }
}
