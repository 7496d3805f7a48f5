"""Building blocks of the readers: T5's layers, the two stacks and their caches.

Letters in shape suffixes, for every file here:
    B questions            R passages of all questions, one row each
    X vectors of all rows, one row after the other, without padding
    S positions of a row   T decoder positions         M positions of the fused context
    D encoder width        E decoder width             V vocabulary
    H query heads          G key/value heads           h head width
"""
