// The order in which formulas are laid out: what is on the screen first, then the rest of the text while the browser has
// nothing else to do. What is folded away waits until it is unfolded.
(() => {
  "use strict";

  const waiting = new Set();
  let busy = Promise.resolve();

  // A formula is no stop for the Tab key, or a page would have hundreds; one that scrolls sideways is, to be scrolled.
  const stops = (formula) => {
    formula.removeAttribute("tabindex");
    for (const box of formula.querySelectorAll("mjx-container")) {
      const wider = (part) => part.scrollWidth > part.clientWidth;
      // Within a line not scrollWidth: the hidden MathML for screen readers may be wider than what it says.
      const drawn = box.querySelector("svg")?.getBoundingClientRect().width ?? 0;
      const wide = formula.matches("div") ? wider(box) || wider(formula) : drawn > box.clientWidth + 1;
      box.toggleAttribute("data-wide", wide); // makes it scroll: kexue.css
      box.tabIndex = -1; // the menu of MathJax opens by a click
      const scrolls = (part) => wider(part) && /auto|scroll/.test(getComputedStyle(part).overflowX);
      const scroller = wide && [box, formula].find(scrolls);
      if (scroller) scroller.tabIndex = 0;
    }
  };

  // At once, and whenever there is more or less room: a telephone is turned, a box opens.
  const sized = new ResizeObserver((entries) => entries.forEach(({ target }) => stops(target.closest(".math"))));
  const watch = (formula) => {
    stops(formula);
    formula.querySelectorAll("mjx-container").forEach((box) => sized.observe(box));
  };

  const layOut = (formulas) => {
    const now = formulas.filter((formula) => waiting.delete(formula));
    now.forEach((formula) => seen.unobserve(formula));
    if (now.length) busy = busy.then(() => MathJax.typesetPromise(now)).then(() => now.forEach(watch), console.error);
    return busy;
  };

  // What is near the screen goes first, also where something is unfolded.
  const seen = new IntersectionObserver((entries) => {
    layOut(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target));
  }, { rootMargin: "300px 0px" });

  const idle = () => new Promise((resolve) => {
    if (window.requestIdleCallback) requestIdleCallback(resolve, { timeout: 200 });
    else setTimeout(resolve, 20);
  });

  const shown = (formula) => (formula.checkVisibility ? formula.checkVisibility() : formula.getClientRects().length > 0);

  let resting = null;
  const rest = () => {
    resting ??= (async () => {
      for (;;) {
        await idle();
        const next = [...waiting].filter(shown).slice(0, 12);
        if (!next.length) break;
        await layOut(next);
      }
      resting = null;
      return busy;
    })();
    return resting;
  };

  const add = (part) => {
    for (const formula of part.querySelectorAll(".math:not(:has(mjx-container))")) {
      waiting.add(formula);
      seen.observe(formula);
    }
  };

  window.MathJax.startup = {
    pageReady: async () => {
      const screen = [...document.querySelectorAll(".math")].filter((formula) => {
        const { top, bottom, width } = formula.getBoundingClientRect();
        return width && bottom > -300 && top < innerHeight + 300 && shown(formula);
      });
      screen.forEach((formula) => waiting.add(formula));
      await layOut(screen);
      add(document);
      await rest();
      // Whatever is unfolded or added makes the text longer.
      new ResizeObserver(() => rest()).observe(document.querySelector(".bd-article") ?? document.body);
    },
  };
  document.addEventListener("kx-added", ({ target }) => { if (window.MathJax.typesetPromise) add(target); }); // else pageReady will
  addEventListener("beforeprint", () => {
    try { MathJax.typeset([...waiting].filter(shown)); } catch { /* what is not there yet prints as it was written */ }
  });
})();
