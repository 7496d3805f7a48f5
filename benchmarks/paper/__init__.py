"""The timing tables and figures of the FiDO paper (arXiv 2212.08153): measured, and set beside the paper.

    sizes -> experiments -> formulas, inference, training, allocation -> rows -> results -> page, plots

`benchmarks/paper.py` measures, `benchmarks/render.py` renders.
"""
