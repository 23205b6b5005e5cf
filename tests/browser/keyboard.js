// Watches while Tab goes through a page: which elements Tab must reach, which it reaches, and whether the focus is visible.

const clicked = new Set();
const listen = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (type, ...more) {
  if (this instanceof HTMLElement && /^(click|mousedown|pointerdown)$/.test(type)) clicked.add(this);
  return listen.call(this, type, ...more);
};

const CONTROLS = "a[href], button, input, select, textarea, summary, [contenteditable], [role=button], [role=combobox], [onclick]";
const shown = (node) => node.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length > 0
  && node.getBoundingClientRect().width > 1;
const within = (node) => !node.closest("[aria-hidden=true], [inert]") && !node.matches(":disabled, html, body");
const name = (node) => node.cloneNode(false).outerHTML.slice(0, 160) + node.textContent.trim().slice(0, 40);
const inGroup = (node, set) => node.type === "radio" && [...set].some((other) => other.type === "radio" && other.name === node.name);

// The outline, shadow, border or background of the element, or of the box that is drawn around it.
function look(node) {
  const looks = [];
  for (let box = node, up = 0; box && up < 3; box = box.parentElement, up += 1) {
    const style = getComputedStyle(box);
    const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 && !/, 0\)$/.test(style.outlineColor);
    looks.push(outline && style.outline, style.boxShadow, style.border, style.backgroundColor);
  }
  return looks.join();
}

window.tour = {
  begin() {
    const still = new CSSStyleSheet();
    still.replaceSync("* { transition: none !important }");
    document.adoptedStyleSheets.push(still);
    const top = Object.assign(document.createElement("a"), { href: "#" });
    document.body.prepend(top);
    top.focus();
    top.remove(); // Tab continues from its last place
    const controls = [...document.querySelectorAll(CONTROLS)].filter((node) => shown(node) && within(node));
    const places = [...document.querySelectorAll("*")].filter((node) => node.tabIndex >= 0 && shown(node));
    this.controls = new Set(controls);
    this.unseen = new Set();
    this.covered = new Set();
    this.order = [];
    this.plain = new Map([...new Set([...controls, ...places])].map((node) => [node, look(node)]));
    // The focused element has its last place when the next key is pressed.
    const bar = document.getElementById("submit-row");
    document.addEventListener("keydown", ({ target }) => {
      const [box, other] = [target, bar ?? target].map((node) => node.getBoundingClientRect());
      const below = bar && !bar.contains(target) && !target.closest("nav") && box.height < 300 && box.bottom > other.top + 1;
      if (below && box.left < other.right && box.right > other.left) this.covered.add(target);
    });
    document.addEventListener("focusin", ({ target }) => {
      if (this.order.includes(target)) return;
      this.order.push(target);
      if (this.plain.get(target) === look(target)) this.unseen.add(target);
    });
    return controls.length;
  },
  missing() {
    const reached = new Set(this.order);
    return [...this.controls].filter((node) => node.isConnected && shown(node) && !reached.has(node) && !inGroup(node, reached)).map(name);
  },
  problems() {
    const reached = (node) => this.order.includes(node);
    const back = this.order.filter((node, at) => at && node.compareDocumentPosition(this.order[at - 1]) & Node.DOCUMENT_POSITION_FOLLOWING);
    const mouse = [...clicked].filter((node) => node.isConnected && shown(node) && within(node) && !node.matches("label, form")
      && !this.order.some((other) => other.contains(node) || node.contains(other)) && !inGroup(node, this.order));
    const found = {
      "not reached by Tab": this.missing(),
      "focused, and looks as before": [...this.unseen].filter(reached).map(name),
      "covered by the bar with the buttons": [...this.covered].map(name),
      "out of the document's order": back.map(name),
      "tabindex above 0": [...document.querySelectorAll("*")].filter((node) => node.tabIndex > 0).map(name),
      "for the mouse only": mouse.map(name),
    };
    return Object.fromEntries(Object.entries(found).filter(([, nodes]) => nodes.length));
  },
};
