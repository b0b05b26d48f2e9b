"""How fast the pages of the built site are there on a slow telephone: `.venv/bin/python benchmarks/page_load.py [WORD ...]`.

A processor four times slower than this one and a network of 1.6 Mbit/s with 150 ms of delay (a good 3G, a bad 4G), from a
server on this machine that compresses as the published site does. For every page (or those whose address has one of the
words), in seconds after the address was opened:

    paint     first text on the screen
    figure    the picture of the first figure is there
    slider    its controls answer (a slider that is moved shows its new value)
    formulas  every formula of the first screen is laid out
    all       every formula of the text is laid out
    frame     from a key press on the slider to the new picture, in milliseconds: the slowest of five, frames loaded

and the kilobytes that travelled until then, compressed.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import threading
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

SITE = Path(__file__).parents[1] / "_build" / "html"
PHONE = {"width": 390, "height": 844}
NETWORK = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 0.75e6 / 8}
SLOWER = 4

WATCH = """
window.times = {};
const note = (name) => { times[name] ??= performance.now(); };
new PerformanceObserver((list) => { for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") times.paint = entry.startTime; })
    .observe({ type: "paint", buffered: true });
const onScreen = (part) => { const { top, bottom, width } = part.getBoundingClientRect(); return width && bottom > 0 && top < innerHeight && part.checkVisibility(); };
const look = () => {
    const figure = document.querySelector(".kx-explore");
    if (document.readyState !== "loading") {
        if (!figure || figure.querySelector("img").naturalWidth) note("figure");
        if (!figure || !figure.querySelector(".kx-controls").hidden) note("slider");
        const formulas = [...document.querySelectorAll(".math")];
        const missing = formulas.filter((part) => !part.querySelector("mjx-container"));
        if (!missing.some(onScreen)) note("formulas");
        if (!missing.some((part) => part.checkVisibility())) note("all");
    }
    if (["paint", "figure", "slider", "all"].some((name) => !times[name])) setTimeout(look, 30);
    else note("done");
};
look();
"""
DONE = """async () => {
    for (const end = performance.now() + 120_000; !window.times?.done; await new Promise((turn) => setTimeout(turn, 200)))
        if (performance.now() > end) throw new Error("not there after two minutes: " + JSON.stringify(times));
}"""
# Presses a key on the first slider, and waits until the picture of the new frame is on the screen.
STEP = """() => new Promise((resolve) => {
    const figure = document.querySelector(".kx-explore");
    const image = figure.querySelector("img");
    const slider = figure.querySelector("input[type=range]");
    const start = performance.now();
    new MutationObserver((_, observer) => { observer.disconnect(); requestAnimationFrame(() => resolve(performance.now() - start)); })
        .observe(image, { attributes: true, attributeFilter: ["src"] });
    slider.value = slider.value === slider.max ? Number(slider.value) - 1 : Number(slider.value) + 1;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(resolve, 3000, NaN);
})"""


@cache
def compressed(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes(), 6)


class Handler(SimpleHTTPRequestHandler):
    """Files, text ones compressed, as GitHub Pages and every other host of static pages send them."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.suffix not in {".html", ".css", ".js", ".svg", ".json"} or not path.is_file():
            return super().do_GET()
        content = compressed(str(path))
        self.send_response(200)
        for name, value in {
            "Content-Type": self.guess_type(path),
            "Content-Encoding": "gzip",
            "Content-Length": len(content),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def measure(browser: Browser, address: str) -> tuple[dict[str, float], float, float]:
    """The moments of one page in milliseconds, the kilobytes that travelled, and the slowest answer of its slider."""
    with browser.new_context(viewport=PHONE) as session:
        page = session.new_page()
        devtools = session.new_cdp_session(page)
        travelled = []
        devtools.on("Network.loadingFinished", lambda event: travelled.append(event["encodedDataLength"]))
        devtools.send("Network.enable")
        devtools.send("Network.emulateNetworkConditions", NETWORK)
        devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        page.add_init_script(WATCH)
        page.goto(address, wait_until="commit")
        page.evaluate(DONE)
        times, weight = page.evaluate("times"), sum(travelled) / 1000
        slowest = float("nan")
        if (
            page.locator(".kx-explore").count()
            and page.locator(".kx-explore").first.locator("input[type=range]").count()
        ):
            page.locator(".kx-explore").first.dispatch_event("pointerenter")
            page.wait_for_load_state("networkidle", timeout=120_000)
            slowest = max(page.evaluate(STEP) for _ in range(5))
        return times, weight, slowest


def main(words: list[str]) -> None:
    pages = sorted(path.relative_to(SITE).as_posix() for path in SITE.glob("book/**/*.html"))
    chosen = [path for path in pages if not words or any(word in path for word in words)]
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    columns = ("paint", "figure", "slider", "formulas", "all")
    print(f"{'page':48}{'HTML KB':>9}" + "".join(f"{name:>9}" for name in (*columns, "KB", "frame ms")))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=SITE)) as server, sync_playwright() as tool:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = tool.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for path in chosen:
            times, weight, slowest = measure(browser, f"http://127.0.0.1:{server.server_port}/{path}")
            moments = "".join(f"{times[name] / 1000:9.1f}" for name in columns)
            size = (SITE / path).stat().st_size / 1000
            print(f"{path.removeprefix('book/'):48}{size:9.0f}{moments}{weight:9.0f}{slowest:9.0f}", flush=True)
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
