// What scrolls sideways can be reached with the Tab key, and so be scrolled; what does not is no stop. What was folded away
// has a size, and is looked at, when it is shown.
(() => {
  "use strict";

  const look = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const watch = (part) => {
    part.querySelectorAll("pre, div.cell_output, div.pst-scrollable-table-container, .kx-panel dd").forEach((box) => look.observe(box));
  };
  document.addEventListener("kx-added", ({ target }) => watch(target));
  watch(document);
})();
