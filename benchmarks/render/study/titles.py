"""What tables are called, and what has to be known to read them."""

TITLES = {
    "table-4": "FiDO's table 4: sparse cross-attention beside fewer vectors",
    "table-3": "FiDO's table 3: FiDO without each of its parts",
    "figure-5": "FiDO's figure 5 and table 7: larger decoders, and beams",
    "optimisers": "FiDO's appendix A: optimisers",
    "moments": "FiDO's appendix A: second moments",
    "tuned": "The deciding pair with the encoder trained along",
    "longer": "The larger decoder after three times the steps",
    "lumen": "LUMEN: the live proportion",
    "lumen-longer": "LUMEN after three times the steps",
    "lumen-codes": "LUMEN that learns with memory in codes",
    "lumen-conditioning": "LUMEN with a third live: who sees whom",
    "memory-shape": "LUMEN with a third live: deeper and shallower memory encoders",
    "memory-longer": "LUMEN with a third live: a deeper memory encoder after three times the steps",
    "transfer": "LUMEN: transfer from other questions to WebQuestions",
    "codecs": "The memory of `pocket-lumen` in each codec",
    "reranking": "Readers that come along, with passages ranked again",
}
NOTES = {
    "moments": (
        "Half of the steps go before, as a pre-training; the other half begins without warm-up, with "
        "the second moments that the first left (`moments-carry`) or with none (`moments-fresh`)."
    ),
    "lumen": (
        "Readers are judged after a quarter, half and all of the steps. These are points of one "
        "training, whose rate falls towards its end: a training that ends earlier would be better there."
    ),
    "lumen-longer": (
        "The third seed is 3, since with seed 2 the training of `lumen-1-longer` diverged after 426 of 720 "
        "steps."
    ),
    "lumen-codes": (
        "Memory is rounded to 4,096 codes for each 16 dimensions, which k-means found (`lumen-1-3-codes`), "
        "while live layers, question encoder and decoder learn, and while they are judged. In the paper, "
        "codes and memory encoder are trained along."
    ),
    "memory-shape": (
        "The last two layers are live, and the question encoder has the four before them. The memory "
        "encoder is the first 2, 3, 4 (`lumen-1-3`) or 6 layers of the start. In the paper, memory "
        "layers were added before all was pre-trained; here the live layers have yet to learn where "
        "another memory encoder leaves off. A wider one isn't tried: no wider encoder of these words "
        "was pre-trained."
    ),
    "memory-longer": "Whether live layers find their way from another memory, if they have more time.",
    "transfer": (
        "Readers learn from WebQuestions for half of the steps. Before that they learn nothing else, "
        "or from the questions of all other tables for as many steps: live layers, question encoder "
        "and decoder (`-live`), or the memory encoder as well (`-memory`), which is left as it is "
        "afterwards. No annotator marked passages of WebQuestions; those that are read were found by "
        "search and hold an answer. The start has seen some of the questions with its whole encoder."
    ),
    "reranking": (
        "By its shares the reader ranks itself: it reads all 20 and then the best 5 again, which costs "
        "more than to read them all, and is here for comparison. A reader that ranks on its way (GLIMMER) "
        "has to be trained for that, and none comes along; late interaction over stored memory is in "
        "[log.md](log.md)."
    ),
}
