"""The library of the Ettin suite, for scripts and notebooks: prepare, train, convert, evaluate, and read what was recorded.

    import ettin_core as ettin

    encoder = ettin.train(size="nano", member="encoder", data="world")
    decoder = ettin.convert(encoder, member="dec-from-enc", budget=0.1)
    ettin.evaluate(decoder, suite="fast").measurements

Every name here is imported when it is first used, so that `import ettin_core` takes neither torch nor time. The packages
below import only from layers below them (docs/architecture.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ettin_core.api import (
        Evaluation,
        MatchedPair,
        Run,
        convert,
        evaluate,
        load_pair,
        load_run,
        load_runs,
        merge,
        prepare,
        train,
    )
else:

    def __getattr__(name: str) -> Any:
        """A name of the surface, from `ettin_core.api` (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ettin_core import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Evaluation",
    "MatchedPair",
    "Run",
    "convert",
    "evaluate",
    "load_pair",
    "load_run",
    "load_runs",
    "merge",
    "prepare",
    "train",
]
