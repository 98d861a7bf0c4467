"""Embeddings: contrastive fine-tuning with Sentence Transformers and evaluation with MTEB, the same for every member.

files.py         JSON lines and tables whose mistakes are told by file and line
triplets.py      (query, positive, hard negative) rows to train on
sets.py          the user's evaluation sets as plain data
tasks.py         the same sets as tasks of MTEB, and MTEB's own tasks and benchmarks by name
checkpoints.py   what is embedded: a folder, its origin and the hash of its bytes
embedder.py      checkpoint + pooling -> SentenceTransformer, with one rule for the ends of a text
finetuning.py    one trial: settings, seed, cached contrastive loss
scoring.py       a task's score by MTEB, the items behind it and their standard error
trials.py        the grid, trial by trial, each whole or absent
selection.py     the best setting by dev, the median and the worst of the grid
"""
