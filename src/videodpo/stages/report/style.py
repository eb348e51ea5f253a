"""Style of the figures in a light and a dark theme, and their files: SVG, PNG and the data as CSV."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from videodpo.storage.files import atomic_path

_PNG_DPI = 220  # 6.2 inches give 1364 pixels: sharp across the text of a paper


@dataclass(frozen=True)
class Theme:
    """Colours of one theme; `accent` and `contrast` differ in hue and lightness for every kind of colour vision.

    Figures also use line styles and markers, so that they can be read in black and white.
    """

    name: str
    ink: str
    muted: str
    grid: str
    surface: str
    accent: str
    contrast: str


LIGHT = Theme("light", "#1c2024", "#60686f", "#e4e7ea", "#ffffff", "#0a63b0", "#d2691e")
DARK = Theme("dark", "#e9ecef", "#9aa3ab", "#2c3238", "#171a1d", "#62b0ff", "#ffa45c")


@dataclass(frozen=True)
class Drawn:
    """One figure on the page: title, caption, its files relative to the page, and its size."""

    title: str
    caption: str
    light: str
    dark: str
    png: str
    csv: str
    width: int
    height: int


class FigureFolder:
    """Writes each figure as SVG once for each theme, as PNG on white, and its data as CSV."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()

    def draw(
        self,
        name: str,
        paint: Callable[[Figure, Theme], None],
        *,
        data: pd.DataFrame,
        title: str,
        caption: str,
        size: tuple[float, float] = (6.2, 3.3),
    ) -> Drawn:
        """Draw a figure in both themes and save it.

        Args:
            name: stem of the file names.
            paint: fills a figure in the given theme.
            data: the numbers that the figure shows.
            title, caption: text for the page.
            size: width and height in inches.
        """
        for theme in (LIGHT, DARK):
            with matplotlib.rc_context(_rc(theme)):
                figure = Figure(figsize=size, layout="constrained")
                paint(figure, theme)
                # No date, no creator and a fixed salt for ids, so that the same figure has the same bytes.
                svg = self._rendered(figure, "svg", transparent=True, metadata={"Date": None, "Creator": None})
                self._write(f"{name}-{theme.name}.svg", svg)
                if theme is LIGHT:
                    png = self._rendered(figure, "png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})
                    self._write(f"{name}.png", png)
        self._write(f"{name}.csv", data.to_csv(index=False, lineterminator="\n").encode())
        light, dark, png_file, csv = (
            f"{self._folder.name}/{name}{ending}" for ending in ("-light.svg", "-dark.svg", ".png", ".csv")
        )
        return Drawn(title, caption, light, dark, png_file, csv, round(size[0] * 100), round(size[1] * 100))

    @staticmethod
    def _rendered(figure: Figure, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()

    def _write(self, file: str, content: bytes) -> None:
        with atomic_path(self._folder / file) as partial:
            partial.write_bytes(content)
        self._written.add(file)

    def remove_others(self) -> None:
        """Delete figures left by an earlier report."""
        for file in self._folder.glob("*"):
            if file.name not in self._written:
                file.unlink()


def _rc(theme: Theme) -> dict[str, Any]:
    return {
        "svg.hashsalt": "videodpo",
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": theme.ink,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.grid,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.titlecolor": theme.ink,
        "axes.labelsize": 8.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "ytick.left": False,
        "xtick.major.size": 3,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
    }
