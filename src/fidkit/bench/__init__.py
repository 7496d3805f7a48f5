"""Readers and their peers measured side by side, beside what `fidkit.cost` predicts of them.

    questions, subjects -> rounds -> rows        rows -> table

`fidkit bench` runs it. Rounds are interleaved: in each, every subject runs once, so that a disturbance of the
machine meets all of them alike, and ratios are taken within a round.
"""
