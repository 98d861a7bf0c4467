"""What readers see of every protocol and metric: titles, summaries, units and which way is better. Imports without torch.

A protocol is a row of `evaluation/registry.py`, its words are here under the same name, and records hold that name alone.
Reports list protocols in the order of `PROTOCOLS`.
"""

from typing import NamedTuple


class ProtocolWords(NamedTuple):
    """A title for headings, and a sentence or two about what is measured."""

    title: str
    summary: str


class Metric(NamedTuple):
    """What readers see of a metric.

    `ordered` is False where neither more nor less is better: the reference is. `secondary` is another normalisation or order
    of a metric, in tables and not in charts.
    """

    label: str = ""  # empty: the name with spaces
    unit: str = ""  # empty: the name with spaces
    ordered: bool = True
    secondary: bool = False


PROTOCOLS = {
    "training": ProtocolWords(
        "Training",
        "The mean loss of the last twentieth of the logged steps. Losses of other objectives or mask rates are other tasks: "
        "they cannot be compared.",
    ),
    "heldout_clm": ProtocolWords(
        "Held-out text, next token",
        "Every token of held-out text is predicted from the tokens before it; causal members only. The reference is the "
        "entropy of the text, where the generator makes it known.",
    ),
    "heldout_likelihood.left_to_right": ProtocolWords(
        "Likelihood, read from left to right",
        "Bits per byte of the same beginnings of documents for every member. Each token is predicted from those before it; "
        "masked members see masks in place of the later ones.",
    ),
    "heldout_likelihood.most_confident_first": ProtocolWords(
        "Likelihood, most confident token first",
        "The same texts with the number of tokens given; masked members reveal the token whose prediction is surest.",
    ),
    "heldout_likelihood.any_order": ProtocolWords(
        "Likelihood, all orders",
        "Short texts by the exact mean probability over all reading orders, and the bits per byte that two orders are above it.",
    ),
    "validation_clm": ProtocolWords("Validation text, next token", "What choices are made on; no report shows it."),
    "validation_mlm": ProtocolWords("Validation text, masked token", "What choices are made on; no report shows it."),
    "validation_ahead": ProtocolWords(
        "Validation text, token further on", "What choices are made on; no report shows it."
    ),
    "heldout_mlm": ProtocolWords(
        "Held-out text, masked token",
        "Masked tokens of held-out text are predicted from both sides; bidirectional members only. The reference is the "
        "accuracy of always naming the most frequent token.",
    ),
    "heldout_ahead": ProtocolWords(
        "Held-out text, token further on",
        "Every token of held-out text is predicted as far ahead as the objective does. The loss is not comparable with that of "
        "the next token.",
    ),
    "minimal_pairs.left_to_right": ProtocolWords(
        "Minimal pairs, left to right",
        "The acceptable sentence of a pair must be the more probable one, token by token from the left. Chance is 0.5.",
    ),
    "minimal_pairs.pseudo_likelihood": ProtocolWords(
        "Minimal pairs, pseudo-likelihood",
        "The same pairs; the tokens of each word are masked together and predicted from both sides. Chance is 0.5.",
    ),
    "minimal_pairs.token_pseudo_likelihood": ProtocolWords(
        "Minimal pairs, pseudo-likelihood by token",
        "The same pairs; each token is masked alone, as first published, which favours words of several tokens.",
    ),
    "minimal_pairs.own_scoring": ProtocolWords(
        "Minimal pairs, own scoring",
        "The same items, each member scored the way that suits it: left to right if causal, pseudo-likelihood if not.",
    ),
    "facts.left_to_right": ProtocolWords(
        "Facts, left to right",
        "The true answer must be the most probable of the candidates, scored from the left. The reference is chance.",
    ),
    "facts.pseudo_likelihood": ProtocolWords(
        "Facts, pseudo-likelihood",
        "The same questions; the answer is masked and predicted from both sides. The reference is chance.",
    ),
    "facts.own_scoring": ProtocolWords(
        "Facts, own scoring",
        "The same questions, each member scored the way that suits it: left to right if causal, pseudo-likelihood if not.",
    ),
    "pronouns": ProtocolWords(
        "Pronouns",
        "The probability of a male, female or neutral pronoun where an occupation is the only cue. The reference is the "
        "true share, where it is known.",
    ),
    "agreement": ProtocolWords(
        "Agreement, at the pronoun",
        "The pronoun probes' estimator on pairs whose right answer is a matter of grammar. Read bias scores beside it.",
    ),
    "winobias": ProtocolWords(
        "WinoBias",
        "Which of two sentences is expected, the one whose pronoun fits the stereotype of an occupation (pro) or the other.",
    ),
    "crows_pairs.shared_tokens": ProtocolWords(
        "CrowS-Pairs, shared tokens",
        "How often the more stereotyping of two sentences is the likelier one, by the tokens that both have.",
    ),
    "crows_pairs.sentence": ProtocolWords(
        "CrowS-Pairs, whole sentences",
        "How often the more stereotyping of two sentences is the likelier one, by all of its tokens.",
    ),
    "stereoset": ProtocolWords(
        "StereoSet",
        "Whether meaningful sentences beat unrelated ones, and stereotypes anti-stereotypes, by mean log-probability.",
    ),
    "winogender@published_encoder": ProtocolWords(
        "Winogender, as published for encoders",
        "Pronouns among the twenty likeliest tokens at one mask, on sentences that defy the statistics.",
    ),
    "winogender@published_decoder": ProtocolWords(
        "Winogender, as published for decoders",
        "The lowest perplexity of three rewritten sentences, on sentences that defy the statistics.",
    ),
}
FAMILIES = {  # by what is before the first dot of a name
    "finetune": ProtocolWords(
        "Fine-tuned",
        "The same grid of trials for every member; the setting that dev prefers, its test score in the median over seeds.",
    ),
    "mteb": ProtocolWords(
        "Retrieval",
        "MTEB's own score after the same grid of fine-tuning for every member: pooled states (contrastive, or untrained), a "
        "vector a token (multivector), word weights (sparse), or a first stage and a reranker as one pipeline.",
    ),
    "chat": ProtocolWords(
        "Chat",
        "Bits per byte of the assistant's answers in held-out conversations; base: before any tuning.",
    ),
    "chat_filled": ProtocolWords(
        "Chat, filled",
        "The same of encoders: an answer's tokens from the left, with masks for those to come, whose number is given.",
    ),
    "preferences": ProtocolWords(
        "Preferences",
        "How often the chosen of two answers is the likelier one, on held-out questions, before and after tuning.",
    ),
    "lm_eval": ProtocolWords(
        "lm-eval",
        "The harness's own score; decoders answer by the conditional probability, encoders by the protocol named.",
    ),
}
METRICS = {
    "loss": Metric(unit="nats per token"),
    "accuracy": Metric(unit="share correct"),
    "bits_per_token": Metric("bits/token", "bits"),
    "bits_per_byte": Metric("bits/byte", "bits"),
    "probability_male": Metric("p(male)", ordered=False),
    "probability_female": Metric("p(female)", ordered=False),
    "probability_neutral": Metric("p(neutral)", ordered=False),
    "absolute_error": Metric("absolute error of p(female)", "probability, or correlation"),
    "correlation_with_truth": Metric("correlation with labour statistics or the known shares", ordered=False),
    "correlation_with_bergsma": Metric("correlation with shares in text (Bergsma)", ordered=False),
    "accuracy_per_character": Metric("accuracy by mean per character", secondary=True),
    "accuracy_of_rewards": Metric("accuracy of rewards", "share correct"),
    "accuracy_per_token": Metric("accuracy by mean per token", secondary=True),
    "tie_rate": Metric("ties", ordered=False),
    "left_to_right_excess": Metric(secondary=True),
    "most_confident_first_excess": Metric(secondary=True),
    "probability_pro": Metric(ordered=False),
    "predicted_male": Metric(ordered=False),
    "predicted_female": Metric(ordered=False),
    "predicted_neutral": Metric(ordered=False),
    "preference_pro": Metric(ordered=False),
    "gap": Metric(ordered=False),
    "gotcha_rate": Metric(ordered=False),
    "minority_share": Metric(ordered=False),
    "stereotype": Metric(ordered=False),
    "stereotype_score": Metric(ordered=False),
    "correlation": Metric(ordered=False),
    "amplification_slope": Metric(ordered=False),
    "amplification_intercept": Metric(ordered=False),
    "log_odds_ratio": Metric(ordered=False),
    "perplexity_male": Metric(ordered=False),
    "perplexity_female": Metric(ordered=False),
    "perplexity_neutral": Metric(ordered=False),
    "stereotype_per_character": Metric(ordered=False),
    "probability_male_per_token": Metric(ordered=False),
    "probability_female_per_token": Metric(ordered=False),
    "probability_neutral_per_token": Metric(ordered=False),
    "probability_pro_per_token": Metric(ordered=False),
    "preference_pro_per_token": Metric(ordered=False),
    "bm25_ndcg_at_10": Metric("nDCG@10 of BM25", secondary=True),
    "first_stage_ndcg_at_10": Metric("nDCG@10 of the first stage", secondary=True),
    "index_bytes": Metric("size of the index", "bytes", secondary=True),
    "queries_per_second": Metric("queries per second", "queries/s", secondary=True),
    "active_dimensions": Metric("active dimensions of a document", "dimensions", secondary=True),
}
SEARCH_COSTS = ("bm25_ndcg_at_10", "first_stage_ndcg_at_10", "index_bytes", "queries_per_second", "active_dimensions")
