"""Train and judge the readers of one table of the FiDO and LUMEN papers at small scale, with several seeds.

    python benchmarks/study.py table-4 --data DATA --corpus DIR --states DIR [--seeds 0 1 2] [--steps 240]

All readers of a table learn from the same questions in the same order, for the same steps. What the frozen
encoder makes of questions and passages is kept in the folder of `--states` and shared by all runs. Rows go to
benchmarks/results/study.jsonl; what has a row isn't trained again, so that a command that was stopped goes on
when it is given again. In the tables `codecs` and `reranking` readers that come along are judged, and nothing
is trained. `python benchmarks/render.py` renders the rows into docs/reproduce.md. What runs is in
the package `study` beside it.
"""

from study.command import main

if __name__ == "__main__":
    main()
