"""The width of text on a terminal, as Textual's renderer counts it."""

from rich.cells import cell_len, set_cell_size

from avf.top.lines import visible


def fitted(text: str, width: int) -> str:
    """Visible text in so many cells; what is cut off is told by an ellipsis."""
    shown = visible(text[: 4 * width])
    return shown if cell_len(shown) <= width else set_cell_size(shown, width - 1) + "…"
