"""What reads rows of `benchmarks/results` and writes documents; what measures and writes rows is beside it.

rows -> summaries, stages, study, lumen, repairs, beginnings, learning_curve, paper -> tables, pictures
     -> documents
"""
