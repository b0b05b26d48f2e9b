"""The book's own pictures, computed from its mathematics: part cards, logo, favicon, preview for shared links.

    python -m kexue_publish.pictures

writes them to ``book/_static/pictures``. They are committed: run this only after changing a drawing. Each is line art
in ink with one warm and one cool accent; the site's style inverts it in dark mode.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from scipy.special import betaincinv, erf

FOLDER = Path("book/_static/pictures")
INK, WARM, COOL = "#22262b", "#D55E00", "#0072B2"
WIDTH, HEIGHT = 320, 180


def svg(*parts: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """A drawing of the given parts, in a coordinate system of `width` by `height` with y downwards."""
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'fill="none" stroke-linecap="round" stroke-linejoin="round">\n{inside}\n</svg>\n'
    )


def line(x: Iterable[float], y: Iterable[float], color: str = INK, width: float = 1.0, **style: object) -> str:
    """A curve through points; keyword arguments become attributes (``fill_opacity`` is ``fill-opacity``)."""
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" stroke="{color}" stroke-width="{width:g}"{_attributes(style)}/>'


def outline(points: Any, color: str, width: float, **style: object) -> str:
    """A curve through the rows of an array of points, shape (n, 2)."""
    return line(points[:, 0], points[:, 1], color, width, **style)


def dot(x: float, y: float, radius: float, color: str = INK, **style: object) -> str:
    """A filled disc."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.2f}" fill="{color}"{_attributes(style)}/>'


def _attributes(style: dict[str, object]) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())


def angle_quantile(u: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The angle in radians below which two random directions of R^n stay with probability `u`."""
    a = (n - 1) / 2
    return np.arccos(1 - 2 * betaincinv(a, a, u))


# --- the parts --------------------------------------------------------------------------------------------------------


def geometry_probability() -> str:
    """Densities of the angle between two random directions, n = 2 in front to n = 90 behind."""
    theta = np.linspace(0, np.pi, 121)
    parts: list[str] = []
    for depth, n in enumerate([90, 60, 40, 27, 18, 12, 8, 5, 3, 2]):
        density = np.sin(theta) ** (n - 2)
        density /= density.mean()
        color, weight = {0: (WARM, 2.0), 9: (COOL, 1.6)}.get(depth, (INK, 0.9))
        height = 80 + 9.8 * depth - 5.9 * density
        parts.insert(0, line(34 + 252 * theta / np.pi, height, color, weight))
    return svg(*parts)


def losses() -> str:
    """Level lines of the entropy over the triangle of three probabilities, and the corner that is right."""
    corners = np.array([[160, 14], [160 - 88, 166], [160 + 88, 166]], dtype=float)
    grid = np.linspace(0, 1, 201)
    x, y = np.meshgrid(70 + 180 * grid, 12 + 156 * grid)
    third = (y - corners[0, 1]) / (corners[1, 1] - corners[0, 1])
    p1 = 1 - third
    p2 = (third - (x - 160) / 88) / 2
    p3 = third - p2
    p = np.stack([p1, p2, p3])
    inside = (p > 1e-9).all(axis=0)
    safe = np.where(p > 1e-9, p, 1.0)
    cross_entropy = np.where(inside, -np.log(safe[0]) - 0.45 * np.log(safe[1] * safe[2]), np.nan)
    levels = contour_generator(x, y, np.ma.masked_invalid(cross_entropy))
    low = float(np.nanmin(cross_entropy))
    parts = [outline(np.vstack([corners, corners[:1]]), INK, 1.4)]
    for i, level in enumerate(low + 0.012 * np.arange(1, 13) ** 2.1):
        for points in levels.lines(level):
            parts.append(outline(points, COOL if i == 3 else INK, 1.6 if i == 3 else 0.9))
    best = np.unravel_index(np.nanargmin(cross_entropy), cross_entropy.shape)
    return svg(*parts, dot(x[best], y[best], 4.2, WARM))


def optimization() -> str:
    """A long valley: gradient descent zigzags (warm), with momentum it swings through (cool)."""
    curvature = np.array([1.0, 1 / 0.42**2])

    def path(rate: float, momentum: float, steps: int) -> NDArray[np.float64]:
        point, velocity, points = np.array([-4.1, 1.0]), np.zeros(2), []
        for _ in range(steps):
            points.append(point)
            velocity = momentum * velocity - rate * curvature * point
            point = point + velocity
        return np.array(points)

    def place(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        angle = math.radians(14)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turned = points @ turn.T
        return 164 + 31 * turned[:, 0], 90 - 31 * turned[:, 1]

    turn = np.linspace(0, 2 * np.pi, 121)
    rings = [
        line(*place(r * np.column_stack([np.cos(turn), np.sin(turn) * 0.42])), INK, 0.9)
        for r in (0.45, 1.05, 1.75, 2.55, 3.45, 4.45)
    ]
    steep = path(0.33, 0.0, 14)
    smooth = path(0.0012, 0.968, 330)
    marks = [dot(a, b, 2.0, WARM) for a, b in zip(*place(steep), strict=True)]
    return svg(*rings, line(*place(smooth), COOL, 1.8), line(*place(steep), WARM, 1.3), *marks)


def generative() -> str:
    """The flow that turns noise (left) into a law with three heaps (right): its paths are lines of equal quantile."""
    weights, means, spread = np.array([0.3, 0.45, 0.25]), np.array([-1.75, 0.15, 1.9]), 0.11
    grid = np.linspace(-4, 4, 3001)
    noise = np.cos(np.linspace(0, np.pi / 2, 61)) ** 1.3
    signal = np.sqrt(1 - noise**2)
    quantiles = (np.arange(40) + 0.5) / 40
    paths = []
    for a, b in zip(signal, noise, strict=True):
        scale = np.sqrt((a * spread) ** 2 + b**2)
        distribution = weights @ (0.5 + 0.5 * erf((grid - a * means[:, None]) / (scale * np.sqrt(2))))
        paths.append(np.interp(quantiles, distribution, grid))
    y = 90 - 31 * np.array(paths).T
    x = np.linspace(26, 294, len(noise))
    parts = [
        line(x, row, WARM if i in (5, 20, 35) else INK, 1.8 if i in (5, 20, 35) else 0.8) for i, row in enumerate(y)
    ]
    ends = [dot(x[0], row[0], 1.5, COOL) for row in y] + [dot(x[-1], row[-1], 1.5, COOL) for row in y]
    return svg(*parts, *ends)


def attention_language() -> str:
    """A causal attention matrix: near words, every fifth word and the first one; one row in colour."""
    n, step = 17, 9.6
    i, j = np.mgrid[:n, :n]
    distance = i - j
    score = -0.13 * distance + 1.9 * (distance % 4 == 0) + 1.5 * (j == 0) + 0.9 * np.sin(2.1 * j + 0.9 * i)
    weight = np.where(distance >= 0, np.exp(score), 0)
    weight /= weight.sum(axis=1, keepdims=True)
    left, top = 160 - step * (n - 1) / 2, 90 - step * (n - 1) / 2
    parts = []
    for row in range(n):
        for column in range(row + 1):
            color = WARM if row == 12 else COOL if column == 4 else INK
            parts.append(dot(left + step * column, top + step * row, 0.5 + 6.2 * math.sqrt(weight[row, column]), color))
    return svg(*parts)


def asides() -> str:
    """A 3 x 3 x 3 cube of places, the middle plane in colour."""
    right, up, back = np.array([43.0, 9.0]), np.array([0.0, -45.0]), np.array([27.0, -15.0])
    origin = np.array([160.0, 90.0]) - right - up - back

    def place(a: int, b: int, c: int) -> NDArray[np.float64]:
        return origin + a * right + b * up + c * back

    ends = [(a, b) for a in range(3) for b in range(3)]
    parts = []
    for a, b in ends:
        for start, end in (((0, a, b), (2, a, b)), ((a, 0, b), (a, 2, b)), ((a, b, 0), (a, b, 2))):
            parts.append(outline(np.array([place(*start), place(*end)]), INK, 0.9))
    plane = np.array([place(0, 1, 0), place(2, 1, 0), place(2, 1, 2), place(0, 1, 2), place(0, 1, 0)])
    parts.insert(0, outline(plane, WARM, 1.8, fill=WARM, fill_opacity=0.13))
    for a, b in ends:
        for c in range(3):
            x, y = place(a, c, b)
            parts.append(dot(x, y, 4.4 if c == 1 else 3.2, WARM if c == 1 else INK))
    return svg(*parts)


# --- the book ---------------------------------------------------------------------------------------------------------


def fan(cx: float, cy: float, radius: float, n: int, lines: int, weight: float, needle: float) -> str:
    """Second directions of random pairs in R^n (the first points right), and the right angle as a needle."""
    parts = []
    for angle in angle_quantile((np.arange(lines) + 0.5) / lines, n):
        parts.append(line((cx, cx + radius * math.cos(angle)), (cy, cy - radius * math.sin(angle)), INK, weight))
    parts.append(line((cx - 0.96 * radius, cx + 0.96 * radius), (cy, cy), INK, needle))
    parts.append(line((cx, cx), (cy, cy - 1.14 * radius), WARM, needle))
    return "\n".join(parts)


def logo() -> str:
    """The mark: two directions, nearly perpendicular."""
    return svg(fan(24, 40, 30, 7, 12, 0.9, 2.6), width=48, height=44)


def favicon() -> str:
    """The mark for 16 pixels."""
    paper = '<rect width="32" height="32" rx="7" fill="#fdfcf9"/>'
    return svg(paper, fan(16, 26, 18, 7, 4, 1.5, 3), width=32, height=32)


def social(title: tuple[str, str], lines: list[str]) -> str:
    """The picture beside a shared link, 1200 by 630."""
    serif = "'Noto Serif CJK SC', Charter, 'Source Serif 4', Georgia, serif"

    def text(y: float, size: float, words: str) -> str:
        return f'<text x="76" y="{y}" font-family="{serif}" font-size="{size}" fill="{INK}">{words}</text>'

    return svg(
        '<rect width="1200" height="630" fill="#fdfcf9"/>',
        fan(915, 540, 375, 30, 70, 1.5, 6),
        text(190, 96, title[0]),
        text(300, 96, title[1]),
        *(text(400 + 48 * i, 33, words) for i, words in enumerate(lines)),
        width=1200,
        height=630,
    ).replace("<svg ", '<svg width="1200" height="630" ')


def main() -> None:
    """Write all pictures; the preview needs Chromium to become a PNG."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (geometry_probability, losses, optimization, generative, attention_language, asides, logo, favicon):
        (FOLDER / f"{draw.__name__.replace('_', '-')}.svg").write_text(draw(), encoding="utf-8")

    from playwright.sync_api import sync_playwright

    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not browser_path:
        sys.exit("The preview picture needs Chromium: `apt-get install chromium`, or CHROMIUM=/path/to/it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 630})
        promise = [
            "Forty essays on mathematics and",
            "machine learning: every equation shows",
            "its evidence, every figure moves.",
        ]
        preview = social(("Derivations", "That Run"), promise)
        page.set_content(f"<style>body {{ margin: 0 }}</style>{preview}")
        page.screenshot(path=FOLDER / "social.png")
        browser.close()


if __name__ == "__main__":
    main()
