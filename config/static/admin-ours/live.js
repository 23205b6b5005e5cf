// Refreshes parts of a page: an element with data-live="URL" loads its content from there every N seconds (data-every="N").
// With data-part="ID" the URL returns a whole page. The element with that ID in the new page then replaces the content. If
// that element has no data-live, refreshing ends. The focused element keeps the focus. A hidden page is not refreshed.

function refocus(part, id, href) {
  const target = id ? document.getElementById(id) : href && [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === href);
  target?.focus({ preventScroll: true });
}

const ledgers = new Map();

// Reading a ledger takes longer than the rest of the page, so it is a request of its own. Its answer is kept for 20 seconds.
async function audit(chip) {
  const url = chip.dataset.ledger;
  const known = ledgers.get(url);
  if (known) chip.innerHTML = known.html;
  if (known && Date.now() - known.at < 20000) return;
  ledgers.set(url, { html: known?.html ?? chip.innerHTML, at: Date.now() });
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) return;
  const html = await response.text();
  ledgers.set(url, { html, at: Date.now() });
  const now = document.querySelector(`[data-ledger="${url}"]`);
  if (now) now.innerHTML = html;
}

function audits(part) {
  part.querySelectorAll("[data-ledger]").forEach((chip) => audit(chip));
}

async function refresh(part) {
  if (document.hidden || part.dataset.live === undefined) return;
  const response = await fetch(part.dataset.live + location.search).catch(() => null);
  const note = document.getElementById("live-note");
  if (!response?.ok || response.redirected) {
    if (note) note.textContent = "The server does not answer. This page is out of date; it tries again every few seconds.";
    return;
  }
  let html = await response.text();
  if (part.dataset.part) {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(part.dataset.part);
    html = fresh.innerHTML;
    if (fresh.dataset.live === undefined) done(part);
  }
  const active = part.contains(document.activeElement) ? document.activeElement : null;
  const [id, href] = [active?.id, active?.getAttribute("href")];
  part.innerHTML = html;
  if (active) refocus(part, id, href);
  if (note) note.textContent = "";
  audits(part);
}

const timers = new Map();

function done(part) {
  clearInterval(timers.get(part));
  delete part.dataset.part;
  delete part.dataset.live;
}

for (const part of document.querySelectorAll("[data-live]")) {
  audits(part);
  timers.set(part, setInterval(() => refresh(part), Number(part.dataset.every) * 1000));
  document.addEventListener("visibilitychange", () => refresh(part));
}
