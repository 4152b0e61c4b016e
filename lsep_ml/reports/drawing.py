"""A figure with what a reader needs beside it."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """name: of its files; caption: what is seen and how it was made; photographs: it shows images, not only marks."""

    name: str
    title: str
    caption: str
    figure: Figure
    photographs: bool = False
