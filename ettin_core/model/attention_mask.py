"""Which key a query may see: the rule, in one place.

Query i sees key j iff both belong to the same document and
    global layer, bidirectional: always          global layer, causal: j <= i
    local layer,  bidirectional: |i - j| <= w     local layer,  causal: 0 <= i - j <= w
so with w = 64 a local layer shows 129 keys to an encoder and 65 to a decoder. Under a prefix direction some keys are open:
an open key is seen as by a bidirectional query, any other as by a causal one (Raffel et al. 2020), so bidirectional is the
case in which all keys are open, causal that in which none is. Every backend is tested against this file.
"""

import torch


def attention_mask(
    query_documents: torch.Tensor,
    key_documents: torch.Tensor,
    offset: torch.Tensor,
    direction: str,
    window: int | None,
    prefix_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Boolean visibility of keys (…, K) to queries (…, Q) as (…, Q, K).

    `offset` (Q, K), or (…, Q, K), is the query's index minus the key's index in the row; `window` None means a global
    layer. `prefix_mask` (…, K) bool says which keys are open; a prefix direction needs it and no other reads it.
    """
    same_document = query_documents[..., :, None] == key_documents[..., None, :]
    reach = torch.ones_like(offset, dtype=torch.bool) if window is None else offset.abs() <= window
    if direction == "causal":
        reach = reach & (offset >= 0)
    elif direction == "prefix":
        assert prefix_mask is not None, "a prefix direction knows which keys are open"
        reach = reach & ((offset >= 0) | prefix_mask[..., None, :])
    return same_document & reach


def row_attention_mask(
    document_ids: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Dense visibility (B, S, S) of whole rows; `document_ids` (B, S) numbers the document of each token."""
    index = torch.arange(document_ids.shape[1], device=document_ids.device)
    return attention_mask(document_ids, document_ids, index[:, None] - index[None, :], direction, window, prefix_mask)
