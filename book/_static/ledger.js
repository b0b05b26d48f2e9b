// What a badge opens, the rows of the ledger, and small comforts. Without a script a badge and the ledger hold links to
// the evidence pages.
(() => {
  "use strict";

  // Files that hand their content to one of the two functions below: a page opened from a folder may load scripts only.
  const scripts = new Map();
  const load = (source) => {
    if (!scripts.has(source)) {
      scripts.set(source, new Promise((resolve, reject) => {
        const script = Object.assign(document.createElement("script"), { src: source, onload: resolve, onerror: reject });
        document.head.append(script);
      }));
      scripts.get(source).catch(() => scripts.delete(source)); // try again next time
    }
    return scripts.get(source);
  };
  const added = (part) => part.dispatchEvent(new CustomEvent("kx-added", { bubbles: true }));

  // The panels of the page's equations: an opened badge gets its own.
  let panels = null;
  window.kexuePanels = (content) => { panels = content; };
  const fill = (badge) => {
    const panel = badge.nextElementSibling;
    const source = document.getElementById("kx-panels")?.dataset.src;
    if (panel.role || !source) return;
    const name = panel.textContent;
    load(source).then(() => {
      if (panel.role) return;
      panel.role = "group";
      panel.setAttribute("aria-label", name);
      panel.innerHTML = panels[badge.previousElementSibling.id];
      for (const kind of panel.querySelectorAll(".kx-how strong")) {
        kind.title = document.querySelector(`.kx-counts li.kx-${kind.textContent}`)?.title ?? "";
      }
      listen(panel);
      added(panel);
    }, () => {}); // the link stays
  };

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
  const titleFrom = (equation) => {
    const badge = equation && equation.parentElement.querySelector(".kx-badge > summary");
    if (!badge) return "";
    const [word, name] = badge.textContent.split(": evidence for ");
    return `${name}: ${word}`;
  };
  const show = (link) => {
    clearTimeout(waiting);
    if (link.title) {
      link.dataset.kxTitle = link.title;
      link.removeAttribute("title"); // or the browser shows its own tooltip as well
    }
    const here = link.pathname === location.pathname && document.getElementById(link.hash.slice(1));
    preview.textContent = link.dataset.kxTitle ?? titleFrom(here);
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
  const listen = (part) => {
    for (const link of part.querySelectorAll("a.kx-eqref")) {
      link.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "touch") return; // a tap follows the link
        clearTimeout(waiting);
        waiting = setTimeout(show, 120, link);
      });
      link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
      link.addEventListener("pointerleave", hideSoon);
      link.addEventListener("blur", hide);
    }
  };

  // The ledger page: show some strengths, or one chapter. The rows of a chapter are loaded when its place comes into view.
  const filter = (ledger) => {
    const chapters = [...ledger.querySelectorAll("tbody")];
    const counts = new Map(chapters.map((part) => [part, JSON.parse(part.dataset.counts)]));
    const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
    const all = sum([...counts.values()].flatMap((count) => Object.values(count)));
    const bar = document.createElement("fieldset");
    bar.className = "kx-filter";
    bar.innerHTML = '<legend class="kx-unseen">Show</legend>';
    const boxes = ledger.dataset.kinds.split(" ").map((kind) => {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: kind });
      label.className = `kx-${kind}`;
      label.append(box, Object.assign(document.createElement("span"), { textContent: kind }));
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
    // What is not loaded yet takes about the room that it will take, so that nothing jumps.
    const room = new Map(chapters.map((part) => [part, part.insertRow().insertCell()]));
    for (const cell of room.values()) cell.colSpan = 5;
    const wanted = (part) => (!choice.value || choice.value === part.id)
      ? sum(boxes.map((box) => (box.checked && counts.get(part)[box.value]) || 0)) : 0;
    const update = () => {
      const kinds = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      let shown = 0;
      for (const part of chapters) {
        const mine = wanted(part);
        shown += mine;
        part.hidden = mine === 0;
        if (room.has(part)) room.get(part).style.height = `${4.5 * mine}rem`;
        for (const row of part.querySelectorAll("tr[data-kind]")) row.hidden = !kinds.has(row.dataset.kind);
      }
      said.textContent = `${shown} of ${all} equations`;
    };
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target: part } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(part);
        load(part.dataset.src).catch(() => seen.observe(part));
      }
    }, { rootMargin: "600px" });
    window.kexueRows = (content) => {
      for (const [id, rows] of Object.entries(content)) {
        const part = document.getElementById(id);
        room.get(part).parentElement.remove();
        room.delete(part);
        part.insertAdjacentHTML("beforeend", rows);
        update();
        listen(part);
        added(part);
      }
    };
    bar.addEventListener("change", update);
    ledger.prepend(bar);
    update();
    chapters.forEach((part) => seen.observe(part));
  };

  document.body.append(preview); // the script is deferred: the page has been read
  preview.addEventListener("pointerenter", () => clearTimeout(waiting));
  preview.addEventListener("pointerleave", hideSoon);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("hashchange", reveal);
  reveal();
  listen(document);
  document.querySelectorAll(".kx-ledger").forEach(filter);
  const badges = document.querySelectorAll(".kx-badge");
  for (const badge of badges) badge.addEventListener("toggle", () => badge.open && fill(badge));
  // Who points at a badge, or tabs to it, may open it: then the evidence is here already.
  for (const event of ["pointerover", "focusin"]) {
    document.addEventListener(event, ({ target }) => {
      if (target.closest?.(".kx-badge")) load(document.getElementById("kx-panels").dataset.src).catch(() => {});
    });
  }
})();
