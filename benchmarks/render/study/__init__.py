"""The part of docs/reproduce.md that is about quality, made of the rows of `benchmarks/study.py`.

groups -> verdicts -> findings; groups -> tables, shipped; all -> part
"""
