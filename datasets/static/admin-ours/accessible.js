// What unfold and Django's widgets leave out: names for select2's boxes, the Filters button by keyboard.

function nameSelects() {
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

function pressable() {
  for (const link of document.querySelectorAll("#main a:not([href]), #main div[x-on\\:click][class*=cursor-pointer]")) {
    if (link.tabIndex >= 0 || !link.textContent.trim()) continue;
    link.tabIndex = 0;
    link.setAttribute("role", "button");
    link.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      link.click();
    });
  }
}

function mend() {
  nameSelects();
  pressable();
}

// Widgets are put together whenever their scripts get to it.
document.addEventListener("DOMContentLoaded", () => {
  mend();
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
});
