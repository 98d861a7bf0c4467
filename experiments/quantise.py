"""python -m experiments.quantise model=runs/<run> method=int8_weight_only out=<folder>: a quantised copy, and what it changed."""

from ettin_core.interop.quantisation_effect import Effect
from ettin_core.requests.quantise import QuantiseRequest, quantised
from experiments.cli.entry import entry


@entry("quantise", QuantiseRequest)
def main(request: QuantiseRequest) -> None:
    """Write the quantised folder, measure it beside the plain one and print both."""
    out, change = quantised(request)
    print(table(change))
    print(f"transformers folder {out}")


def table(change: Effect) -> str:
    """Both sides, and how far predictions moved."""
    before, after = change.before, change.after
    rows: dict[str, tuple[float, float]] = {"bytes of weights": (before.size, after.size)}
    if after.nominal != after.size:
        rows["at four bits a value"] = (before.nominal, after.nominal)
    rows["tokens per second"] = (before.tokens_per_second, after.tokens_per_second)
    return "\n".join(
        [
            f"{'':<24}{'before':>14}{'after':>14}{'ratio':>8}",
            *(f"{name:<24}{left:>14,.0f}{right:>14,.0f}{right / left:>8.3f}" for name, (left, right) in rows.items()),
            f"logits moved by {change.mean:.4f} (largest {change.largest:.4f}); the same token is first at "
            f"{change.agreement:.1%}; divergence {change.divergence:.2g} nats per token",
        ]
    )


if __name__ == "__main__":
    main()
