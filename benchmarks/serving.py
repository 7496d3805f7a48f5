"""`fidkit serve` under load: questions a second, how long each waited, and what an overload does.

    python benchmarks/serving.py peer CORPUS --questions QA.jsonl.gz --encoder DIR
    python benchmarks/serving.py load CORPUS --questions QA.jsonl.gz --encoder DIR [--clients 1 4 16 64]
    python benchmarks/serving.py overload CORPUS --questions QA.jsonl.gz [--times 10] [--seconds 60]
    python benchmarks/serving.py python CORPUS --questions QA.jsonl.gz
    python benchmarks/serving.py start CORPUS
    python benchmarks/serving.py page CORPUS

CORPUS is what `fidkit serve` takes, QA.jsonl.gz has questions in FiD's layout. Clients are threads of a
process of their own, each with one connection, that ask as soon as they have an answer. Every answer is
compared with the one that the same question got when nobody else asked, but for those of a reader with random
weights.

`load` asks three servers in turn, a third of the time each round: fidkit's, the same with batches of one
question, and FiD on transformers (`serving/peer.py`), in the way that `peer` found fastest before. DIR is
made by `fidkit convert pocket DIR --to hf-bert`. `overload` first measures what four clients get, then has so
many times as many questions come in a second, whether answered or not. `python` asks each question over HTTP
and in Python, in turn. `start` is the time from the command to readiness, and memory at rest. `page` is what
a browser needs for the page, which is in the cache of the system, but not of the browser. Rows go to
benchmarks/results/serving.jsonl.
"""

import os

from serving.command import main

if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
