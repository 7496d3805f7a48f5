"""Measure one table or figure of the FiDO paper; rows go to paper-NAME.jsonl.

    python benchmarks/paper.py table-3 --size base --device cuda --out OUT [--rounds 7] [--limit-minutes 9]

Called again, it goes on where it stopped: what has its rows isn't measured again. `python
benchmarks/render.py` makes docs/reproduce.md of all rows. What runs is in the package `paper` beside it.
"""

from paper.command import main

if __name__ == "__main__":
    main()
