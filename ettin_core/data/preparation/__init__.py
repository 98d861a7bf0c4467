"""From what a user has to a corpus of token shards: cut the input, clean it, tokenize it in parallel, merge, verify."""
