"""Figures that look the same everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from undersong.errors import needs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def new_figure(width: float, height: float) -> Iterator["Figure"]:
    """Make an empty figure, in inches, to be drawn and saved within the block.

    matplotlib's own defaults hold there: otherwise a file ``matplotlibrc`` in the working folder,
    which may be a stranger's, would say how to draw, and which programs to call for it.

    Raises
    ------
    UndersongError
        If matplotlib is not installed.
    """
    with needs("plot", "drawing"):
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
