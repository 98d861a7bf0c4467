"""Every protocol, a row each. Its title and summary are in `records/protocols.py` under the same name. Imports without torch."""

from ettin_core.evaluation import heldout, likelihood, pronouns
from ettin_core.evaluation.bias import agreement, crows_pairs, published, stereoset, winobias
from ettin_core.evaluation.datasets import BLIMP, CROWS_PAIRS, STEREOSET, WINOBIAS, WINOGENDER
from ettin_core.evaluation.multiple_choice import facts, minimal_pairs
from ettin_core.evaluation.protocol import Protocol
from ettin_core.records.readout import AHEAD, CAUSAL, KINDS, MASKED
from ettin_core.records.schema import CHOICE

PROTOCOLS: tuple[Protocol, ...] = (
    Protocol("heldout_clm", 2, (CAUSAL,), heldout.measure_clm, corpus=True),
    Protocol("heldout_mlm", 2, (MASKED,), heldout.measure_mlm, corpus=True),
    Protocol("heldout_ahead", 2, (AHEAD,), heldout.measure_ahead, corpus=True),
    Protocol(
        "heldout_likelihood.left_to_right", 1, (CAUSAL, MASKED), likelihood.in_order("left_to_right"), corpus=True
    ),
    Protocol(
        "heldout_likelihood.most_confident_first",
        1,
        (MASKED,),
        likelihood.in_order("most_confident_first"),
        corpus=True,
    ),
    Protocol("heldout_likelihood.any_order", 1, (MASKED,), likelihood.measure_any_order, corpus=True),
    Protocol("validation_clm", 1, (CAUSAL,), heldout.for_choices(heldout.measure_clm), corpus=True, on_request=True),
    Protocol("validation_mlm", 1, (MASKED,), heldout.for_choices(heldout.measure_mlm), corpus=True, on_request=True),
    Protocol("validation_ahead", 1, (AHEAD,), heldout.for_choices(heldout.measure_ahead), corpus=True, on_request=True),
    Protocol("minimal_pairs.left_to_right", 1, KINDS, minimal_pairs("left_to_right"), (BLIMP,), corpus=True),
    Protocol(
        "minimal_pairs.pseudo_likelihood",
        1,
        (MASKED,),
        minimal_pairs("pseudo_likelihood"),
        (BLIMP,),
        corpus=True,
    ),
    Protocol(
        "minimal_pairs.token_pseudo_likelihood",
        1,
        (MASKED,),
        minimal_pairs("token_pseudo_likelihood"),
        (BLIMP,),
        corpus=True,
        on_request=True,
    ),
    Protocol("facts.left_to_right", 1, KINDS, facts("left_to_right"), corpus=True),
    Protocol("facts.pseudo_likelihood", 1, (MASKED,), facts("pseudo_likelihood"), corpus=True),
    Protocol("agreement", 1, KINDS, agreement.measure, (BLIMP,), corpus=True),
    Protocol("pronouns", 1, KINDS, pronouns.measure, (WINOGENDER,), corpus=True),
    Protocol("winogender@published_encoder", 1, (MASKED,), published.measure_encoder, (WINOGENDER,)),
    Protocol("winogender@published_decoder", 1, (CAUSAL,), published.measure_decoder, (WINOGENDER,)),
    Protocol("winobias", 1, KINDS, winobias.measure, (WINOBIAS,)),
    Protocol("crows_pairs.shared_tokens", 1, KINDS, crows_pairs.measure("shared_tokens"), (CROWS_PAIRS,)),
    Protocol("crows_pairs.sentence", 1, KINDS, crows_pairs.measure("sentence"), (CROWS_PAIRS,)),
    Protocol("stereoset", 1, KINDS, stereoset.measure, (STEREOSET,)),
)
BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS}
CHOICES = tuple(name for name in BY_NAME if name.startswith(CHOICE))
