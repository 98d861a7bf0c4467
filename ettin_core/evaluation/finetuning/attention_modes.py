"""Attention modes of fine-tuning: which tokens a member's layers may attend to, and which states are pooled.

A causal member may keep its mask and be read at its last token (EOS, which alone has seen everything) or at the mean. It may
lose its mask when fine-tuning begins, or in some layers only, in any pattern (Dukić and Šnajder 2024). A bidirectional member has
no mask to remove. The mean is what the released configurations use, the first token what the classifier of the published
training code reads.

Tags are read at each word's last sub-token in every mode: under a mask it is the only one that has seen the whole word. So modes
that differ in pooling alone are the same there, and only the first of them is defined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ettin_core.evaluation.finetuning.tasks import FinetuningTask
from ettin_core.foundation.errors import invalid
from ettin_core.model.config import AttentionSpec


@dataclass(frozen=True)
class AttentionMode:
    """For members of which direction; whether the mask is `kept`, `removed` or removed in some `layers`; what is pooled."""

    name: str
    member: str
    mask: str
    pooling: str
    tags: bool = True

    def view(self, view: AttentionSpec, num_layers: int, pattern: Sequence[bool]) -> AttentionSpec:
        """The attention of the model while it is fine-tuned; `pattern` says by group of layers, from the lowest, which lose
        the mask.
        """
        if self.mask == "kept":
            return view
        if self.mask == "removed":
            return replace(view, direction="bidirectional")
        return replace(view, layers=by_group(num_layers, pattern))


MODES = {
    mode.name: mode
    for mode in (
        AttentionMode("bidirectional", "bidirectional", "kept", "mean"),
        AttentionMode("bidirectional_first", "bidirectional", "kept", "first", tags=False),
        AttentionMode("causal_last", "causal", "kept", "last"),
        AttentionMode("causal_mean", "causal", "kept", "mean", tags=False),
        AttentionMode("unmasked", "causal", "removed", "mean"),
        AttentionMode("unmasked_layers", "causal", "layers", "mean"),
    )
}


def by_group(num_layers: int, pattern: Sequence[bool]) -> tuple[str, ...]:
    """The direction of each layer when layers, cut into as many groups as the pattern has, lose the mask where it says so."""
    chosen = [pattern[layer * len(pattern) // num_layers] for layer in range(num_layers)]
    return tuple("bidirectional" if unmasked else "causal" for unmasked in chosen)


def modes_of(names: Sequence[str], direction: str, task: FinetuningTask) -> list[AttentionMode]:
    """The modes by name ("all": every one that is defined) for a member of a direction and a task.

    Raises ValueError for a mode that is unknown or not defined for them.
    """
    defined = [mode for mode in MODES.values() if mode.member == direction and (mode.tags or task.kind != "tagging")]
    if list(names) == ["all"]:
        return defined
    known = ", ".join(mode.name for mode in defined)
    for name in names:
        if name not in MODES:
            raise invalid("way", name, "is not a way to fine-tune", f"use all, or some of {known}")
        if MODES[name] not in defined:
            reads = f" on {task.name}, whose tags are read without pooling" if MODES[name].member == direction else ""
            raise invalid(
                "way", name, f"is not defined for a {direction} member{reads}", f"use all, or some of {known}"
            )
    return [MODES[name] for name in names]
