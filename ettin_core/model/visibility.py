"""Which key a query may see, stated once.

Query i sees key j iff both belong to the same document and
    global layer, bidirectional: always          global layer, causal: j <= i
    local layer,  bidirectional: |i - j| <= w     local layer,  causal: 0 <= i - j <= w
so with w = 64 a local layer shows 129 keys to an encoder and 65 to a decoder. Under a prefix direction some keys are open:
an open key is seen as by a bidirectional query, any other as by a causal one (Raffel et al. 2020), so bidirectional is the
case in which all keys are open, causal that in which none is. Every backend is tested against this file.
"""

import torch


def visible(
    query_documents: torch.Tensor,
    key_documents: torch.Tensor,
    offset: torch.Tensor,
    direction: str,
    window: int | None,
    open_keys: torch.Tensor | None = None,
) -> torch.Tensor:
    """Boolean visibility of keys (…, K) to queries (…, Q) as (…, Q, K).

    `offset` (Q, K), or (…, Q, K), is the query's index minus the key's index in the row; `window` None means a global
    layer. `open_keys` (…, K) bool says which keys are open; a prefix direction needs it and no other reads it.
    """
    same_document = query_documents[..., :, None] == key_documents[..., None, :]
    reach = torch.ones_like(offset, dtype=torch.bool) if window is None else offset.abs() <= window
    if direction == "causal":
        reach = reach & (offset >= 0)
    elif direction == "prefix":
        assert open_keys is not None, "a prefix direction knows which keys are open"
        reach = reach & ((offset >= 0) | open_keys[..., None, :])
    return same_document & reach


def row_visibility(
    documents: torch.Tensor, direction: str, window: int | None, open_keys: torch.Tensor | None = None
) -> torch.Tensor:
    """Dense visibility (B, S, S) of whole rows; `documents` (B, S) numbers the document of each token."""
    index = torch.arange(documents.shape[1], device=documents.device)
    return visible(documents, documents, index[:, None] - index[None, :], direction, window, open_keys)
