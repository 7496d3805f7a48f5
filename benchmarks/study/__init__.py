"""What the FiDO and LUMEN papers say of quality, tested at small scale.

    variants -> runs (states) -> measure -> rows
             -> remembered, ranked       -> rows

A row is one reader, trained with one seed, and judged; or one that comes along, judged in one setting.
"""
