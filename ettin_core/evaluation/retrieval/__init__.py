"""Retrieval: fine-tuning with Sentence Transformers and evaluation with MTEB, the same for every member.

files.py         tables whose mistakes are reported by file and line
triplets.py      (query, positive, hard negative) rows to train on
sets.py          the user's evaluation sets as plain data
tasks.py         the same sets as tasks of MTEB, and MTEB's own tasks and benchmarks by name
checkpoints.py   what is trained: a folder, its origin and the hash of its bytes
backbone.py      the checkpoint's transformer, with one rule for the ends of a text
kinds/           dense, multi-vector, sparse, reranker: model, training rows and loss of each
retriever.py     a dense model that was trained here: teacher, miner, first stage
first_stage.py   the candidates that a reranker orders
bm25.py          the baseline beside every retrieval score
beside.py        index size, queries per second, active dimensions
evaluator.py     MTEB's evaluation
config.py        the grid, of which every member gets every point
finetuning.py    one trial: settings, seed, the library's trainer
scoring.py       a task's score by MTEB, and what is measured beside it
items.py         the items behind a score, from which its standard error comes
trials.py        the grid, trial by trial, each whole or absent
selection.py     the best setting by dev, the median and the worst of the grid
table.py         the printed table
progress.py      bars over trials and steps
"""
