"""Render measured rows into README, model card and docs; no number in their tables is typed in.

    python benchmarks/render.py [--check]

With --check nothing is written; exit 1 if a document differs from its rows. What renders is in the package
`render` beside it.
"""

from render.documents import main

if __name__ == "__main__":
    main()
