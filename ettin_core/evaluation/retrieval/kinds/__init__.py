"""The kinds of retrieval models, each on a class of Sentence Transformers.

base.py          what a kind decides: model, training rows, loss, and what it is measured on
dense.py         SentenceTransformer: one vector a text, cached multiple negatives, Matryoshka widths
multivector.py   MultiVectorEncoder (ColBERT): a vector a token, contrastive or taught by a dense model
sparse.py        SparseEncoder (SPLADE): a weight for each word of the vocabulary, with two regularisers
reranker.py      CrossEncoder: a score for a pair, binary cross-entropy with mined hard negatives
"""
