"""Documents and passage files made searchable: `Corpus.build`, `Corpus.open`, `corpus.search`."""

from fidkit.corpus.build import BuildReport, Progress
from fidkit.corpus.corpus import Corpus, CorpusInfo
from fidkit.corpus.layout import default_location, is_corpus
from fidkit.corpus.tokens import TokenCache

__all__ = ["BuildReport", "Corpus", "CorpusInfo", "Progress", "TokenCache", "default_location", "is_corpus"]
