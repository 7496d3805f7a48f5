"""Documents and passage files made searchable: `Corpus.build`, `Corpus.open`, `corpus.search`."""

from fidkit.passages.local.build import BuildReport, Progress
from fidkit.passages.local.corpus import Corpus, CorpusInfo
from fidkit.passages.local.layout import default_location, is_corpus
from fidkit.passages.token_cache import TokenCache

__all__ = ["BuildReport", "Corpus", "CorpusInfo", "Progress", "TokenCache", "default_location", "is_corpus"]
