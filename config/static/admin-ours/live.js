// Parts of a page that look again by themselves: data-live="URL" and data-every="SECONDS". With data-part, what comes is a
// whole page, of which the element of that id is taken, and looked at again for as long as it says so itself.
// What has the focus keeps it, and nothing is asked for while the page is not looked at.

function refocus(part, id, href) {
  const target = id ? document.getElementById(id) : href && [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === href);
  target?.focus({ preventScroll: true });
}

const ledgers = new Map();

// The ledger takes longer to look at than the rest: it is asked for apart, and kept from one look to the next.
async function audit(chip, anew) {
  const url = chip.dataset.ledger;
  const known = ledgers.get(url);
  if (known) chip.innerHTML = known.html;
  if (known && !anew && Date.now() - known.at < 20000) return;
  ledgers.set(url, { html: known?.html ?? chip.innerHTML, at: Date.now() });
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) return;
  const html = await response.text();
  ledgers.set(url, { html, at: Date.now() });
  const now = document.querySelector(`[data-ledger="${url}"]`);
  if (now) now.innerHTML = html;
}

function audits(part) {
  part.querySelectorAll("[data-ledger]").forEach((chip) => audit(chip, false));
}

async function refresh(part) {
  if (document.hidden || part.dataset.live === undefined) return;
  const response = await fetch(part.dataset.live + location.search).catch(() => null);
  const note = document.getElementById("live-note");
  if (!response?.ok || response.redirected) {
    if (note) note.textContent = "No answer: what you see is old. Trying again.";
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
