// Small comforts on top of what works without a script: badges are <details>, the ledger is a plain table.
(() => {
  "use strict";

  // A link to a check cell opens it, and shows which one it is.
  const reveal = () => {
    const cell = location.hash.startsWith("#check-") && document.getElementById(location.hash.slice(1));
    if (!cell) return;
    for (let box = cell; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
    cell.querySelectorAll("details.hide").forEach((box) => { box.open = true; });
    cell.scrollIntoView({ block: "center" });
    cell.classList.remove("kx-flash");
    requestAnimationFrame(() => cell.classList.add("kx-flash"));
  };

  // Pointing at, or tabbing to, a reference shows the equation and how strong it is. The text is the link's title,
  // made by the build; the formula is copied from this page, if it stands here.
  const preview = document.createElement("div");
  preview.className = "kx-preview";
  preview.id = "kx-preview";
  preview.setAttribute("role", "tooltip");
  preview.hidden = true;
  let owner = null;
  let waiting = 0;
  const hide = () => {
    clearTimeout(waiting);
    preview.hidden = true;
    owner?.removeAttribute("aria-describedby");
    owner = null;
  };
  const hideSoon = () => { clearTimeout(waiting); waiting = setTimeout(hide, 250); };
  const show = (link) => {
    clearTimeout(waiting);
    if (link.title) {
      link.dataset.kxTitle = link.title;
      link.removeAttribute("title"); // or the browser shows its own tooltip as well
    }
    preview.textContent = link.dataset.kxTitle;
    const here = link.pathname === location.pathname && document.getElementById(link.hash.slice(1));
    if (here) {
      const formula = here.cloneNode(true);
      formula.removeAttribute("id");
      formula.querySelectorAll("[id]").forEach((part) => part.removeAttribute("id"));
      preview.append(formula);
    }
    preview.hidden = false;
    const at = link.getBoundingClientRect();
    const room = document.documentElement.clientWidth - preview.offsetWidth - 12;
    const above = at.bottom + preview.offsetHeight + 12 > innerHeight && at.top > preview.offsetHeight + 12;
    preview.style.left = `${scrollX + Math.max(12, Math.min(at.left - 12, room))}px`;
    preview.style.top = `${scrollY + (above ? at.top - preview.offsetHeight - 6 : at.bottom + 6)}px`;
    owner = link;
    link.setAttribute("aria-describedby", preview.id);
  };
  const listen = () => {
    document.body.append(preview);
    for (const link of document.querySelectorAll("a.kx-eqref")) {
      link.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "touch") return; // a tap follows the link
        clearTimeout(waiting);
        waiting = setTimeout(show, 120, link);
      });
      link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
      link.addEventListener("pointerleave", hideSoon);
      link.addEventListener("blur", hide);
    }
    preview.addEventListener("pointerenter", () => clearTimeout(waiting));
    preview.addEventListener("pointerleave", hideSoon);
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  };

  // The ledger page: show some strengths, or one chapter.
  const filter = (ledger) => {
    const rows = [...ledger.querySelectorAll("tr[data-kind]")];
    const chapters = [...ledger.querySelectorAll("tbody")];
    const bar = document.createElement("fieldset");
    bar.className = "kx-filter";
    bar.innerHTML = '<legend class="kx-unseen">Show</legend>';
    const boxes = ledger.dataset.kinds.split(" ").map((kind) => {
      const icon = ledger.querySelector(`.kx-mark.kx-${kind} .kx-icon`);
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: kind });
      label.className = `kx-${kind}`;
      label.append(box, icon.cloneNode(true), kind);
      bar.append(label);
      return box;
    });
    const choice = document.createElement("select");
    choice.setAttribute("aria-label", "Chapter");
    choice.append(new Option("all chapters", ""), ...chapters.map((part) => new Option(part.dataset.chapter, part.id)));
    const said = document.createElement("output");
    said.setAttribute("aria-live", "polite");
    if (chapters.length > 1) bar.append(choice);
    bar.append(said);
    const update = () => {
      const kinds = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      for (const part of chapters) {
        const mine = [...part.querySelectorAll("tr[data-kind]")];
        for (const row of mine) row.hidden = !kinds.has(row.dataset.kind) || (choice.value && choice.value !== part.id);
        part.hidden = mine.every((row) => row.hidden);
      }
      said.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} equations`;
    };
    bar.addEventListener("change", update);
    ledger.prepend(bar);
    update();
  };

  addEventListener("hashchange", reveal);
  const start = () => { reveal(); listen(); document.querySelectorAll(".kx-ledger").forEach(filter); };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start); else start();
})();
