"""The timing tables and figures of the FiDO paper (arXiv 2212.08153): measured.

    sizes -> experiments -> formulas, inference, training, allocation -> rows

`facts` is what the paper says. `benchmarks/render/paper` sets the rows beside it.
"""
