"""Names in plots of dots."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from render import pictures


def test_names_cover_neither_dots_nor_one_another() -> None:
    near = {f"reader-{n}": (20.0 + n / 2, [48.0 + n / 5, 49.0]) for n in range(5)}
    panel = {"points": near | {"far": (60.0, [10.0])}, "x": "ms", "y": "EM"}
    figure = Figure(figsize=pictures.PANEL)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    pictures.DRAWERS["dots"](axes, panel)
    figure.draw_without_rendering()
    pictures.name_dots(axes, panel)
    texts = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert texts.keys() == panel["points"].keys()
    assert not any(one.overlaps(other) for one, other in combinations(texts.values(), 2))
    for x, values in panel["points"].values():
        dot = axes.transData.transform((x, sum(values) / len(values)))
        assert not any(box.contains(*dot) for box in texts.values())
