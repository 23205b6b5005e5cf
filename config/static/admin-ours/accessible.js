// Adds what unfold and Django's widgets lack: labels for select2 boxes, and keyboard access to elements that open on a click.

function labelSelects() {
  for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
    const label = document.querySelector(`label[for="${select.id}"]`)?.textContent.trim().replace("*", "") || "Choice";
    const box = select.parentElement.querySelector(".select2-selection");
    const chosen = box?.querySelector(".select2-selection__rendered");
    chosen?.setAttribute("aria-label", label);
    box?.setAttribute("aria-label", label);
    box?.removeAttribute("aria-labelledby");
    if (chosen?.textContent.trim()) box.setAttribute("aria-label", `${label}: ${chosen.textContent.trim()}`);
  }
  for (const hint of document.querySelectorAll(".help-tooltip[aria-label]")) hint.setAttribute("role", "img");
}

const FOCUSABLE = "a[href], button, input, select, textarea, [tabindex='0']";

function makePressable() {
  for (const place of document.querySelectorAll("[x-on\\:click], .list-footer-display")) {
    if (place.hasAttribute("tabindex") || !place.textContent.trim() || place.closest(FOCUSABLE) || place.querySelector(FOCUSABLE)) continue;
    place.tabIndex = 0;
    place.setAttribute("role", "button");
    if (place.matches(".material-symbols-outlined")) place.setAttribute("aria-label", place.title || "Sidebar");
    place.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      place.click();
    });
  }
}

// Moves the focus into the panel with a list's filters when it opens, and back when the Escape key closes it.
function followFilters() {
  const opener = document.querySelector("[x-on\\:click='filterOpen = true']");
  const panel = document.getElementById("changelist-filter");
  if (!opener || !panel || panel.dataset.followed) return;
  panel.dataset.followed = "yes";
  const enter = () => {
    if (!panel.checkVisibility()) return requestAnimationFrame(enter);
    [...panel.querySelectorAll("a[href], button, input, select")].find((each) => each.checkVisibility())?.focus();
  };
  opener.addEventListener("click", () => requestAnimationFrame(enter));
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") opener.focus();
  });
}

// Marks the page's main part, and puts a link to it first on the page.
function addSkipLink() {
  if (document.querySelector(".ours-skip")) return;
  let main = document.querySelector("main");
  if (!main) {
    main = document.getElementById("content") ?? document.querySelector("#page > div");
    if (!main) return;
    main.setAttribute("role", "main");
  }
  main.id ||= "main-part";
  main.tabIndex = -1;
  const link = document.createElement("a");
  link.className = "ours-skip";
  link.href = `#${main.id}`;
  link.textContent = "Skip to content";
  link.addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  document.body.prepend(link);
}

function improve() {
  addSkipLink();
  labelSelects();
  makePressable();
  followFilters();
}

// Scripts build widgets at any time, so look again after each change of the page.
document.addEventListener("DOMContentLoaded", () => {
  improve();
  new MutationObserver(improve).observe(document.body, { childList: true, subtree: true });
});
