// Figures with sliders on a page without a kernel: show the frame that the controls ask for.
(() => {
  "use strict";

  function explore(figure) {
    const image = figure.querySelector("img");
    const text = figure.querySelector(".kx-text");
    const controls = [...figure.querySelectorAll(".kx-controls input, .kx-controls select")];
    const data = JSON.parse(figure.querySelector("script").textContent);
    const pictures = new Map();
    let wanted = null;
    let scheduled = false;
    let preloading = false;

    const position = (control) => (control.type === "checkbox" ? Number(control.checked) : Number(control.value));
    const frameIndex = () => controls.reduce((index, control, i) => index * data.values[i].length + position(control), 0);

    // Keeps the decoded picture, so that setting the same address on the visible image shows it at once.
    function load(number) {
      if (!pictures.has(number)) {
        const picture = new Image();
        picture.src = data.folder + data.files[number];
        const decoded = picture.decode().then(() => picture);
        decoded.catch(() => pictures.delete(number)); // try again next time
        pictures.set(number, decoded);
      }
      return pictures.get(number);
    }

    async function show() {
      scheduled = false;
      const index = frameIndex();
      if (index === wanted) return;
      wanted = index;
      const [number, alt, line] = data.frames[index];
      try {
        const picture = await load(number);
        if (wanted !== index) return; // a newer frame was asked for meanwhile
        image.src = picture.src;
        image.alt = alt;
        if (text) text.textContent = line;
        figure.dataset.frame = index;
      } catch {
        if (wanted !== index) return;
        wanted = null; // the last good picture stays, and moving the slider tries again
        if (text) text.textContent = "This frame could not be loaded; the picture is the one before.";
      }
    }

    function changed() {
      controls.forEach((control, i) => {
        if (control.type !== "range") return;
        const value = data.values[i][position(control)];
        const slider = control.closest(".kx-slider");
        control.setAttribute("aria-valuetext", value);
        slider.querySelector(".kx-value").textContent = value;
        const [lower, higher] = slider.querySelectorAll("button");
        lower.disabled = control.value === control.min;
        higher.disabled = control.value === control.max;
      });
      if (!scheduled) {
        scheduled = true;
        requestAnimationFrame(show);
      }
    }

    // All frames, nearest to the present one first, a few at a time.
    async function preload() {
      if (preloading) return;
      preloading = true;
      const here = frameIndex();
      const numbers = data.frames
        .map(([number], index) => [Math.abs(index - here), number])
        .sort((a, b) => a[0] - b[0])
        .map(([, number]) => number);
      const queue = [...new Set(numbers)].values();
      const worker = async () => {
        for (const number of queue) await load(number).catch(() => {});
      };
      await Promise.all([worker(), worker(), worker()]);
    }

    figure.querySelector(".kx-controls").hidden = false;
    figure.addEventListener("input", changed);
    figure.addEventListener("click", (event) => {
      const button = event.target.closest("[data-step]");
      if (!button) return;
      const range = button.closest(".kx-slider").querySelector("input");
      range.value = Number(range.value) + Number(button.dataset.step);
      changed();
    });
    for (const event of ["pointerenter", "focusin"]) figure.addEventListener(event, preload, { once: true });
    if (!navigator.connection?.saveData) {
      const idle = window.requestIdleCallback ?? ((task) => setTimeout(task, 1000));
      const seen = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        seen.disconnect();
        idle(preload);
      });
      // Not before the page itself has loaded.
      if (document.readyState === "complete") seen.observe(figure);
      else window.addEventListener("load", () => seen.observe(figure), { once: true });
    }
    wanted = frameIndex();
    changed();
  }

  document.querySelectorAll(".kx-explore").forEach(explore); // the script is deferred: the page has been read
})();
