"""What the FiDO and LUMEN papers say of quality, tested at small scale.

    variants -> runs (states) -> measure -> rows

A row is one reader, trained with one seed, and judged.
"""
