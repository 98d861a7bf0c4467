"""The chat template, and which tokens of a conversation are answers.

The template writes roles as plain text and ends every answer with EOS. A vocabulary of a small run is full, so a special token
for each role would need new rows of the embedding; plain text is the same for every member. The answer with its EOS is the
generation block, so that a model learns to stop. As with every template of transformers, a special token that is spelled in a
message ("[SEP]") is read as that token.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.evaluation.chat.rows import Messages
from ettin_core.foundation.errors import invalid

TEMPLATE = """\
{{- bos_token or '' }}
{%- for message in messages %}
    {%- if not loop.first %}{{ '\\n' }}{% endif %}
    {%- if message['role'] == 'assistant' %}
        {{- 'Assistant:' }}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}
    {%- else %}
        {{- message['role'] | capitalize + ': ' + message['content'] }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\nAssistant:' }}{% endif %}"""
PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@dataclass(frozen=True)
class EncodedConversation:
    """Token ids of a conversation and the places of those that are answers, EOS included."""

    ids: list[int]
    answers: list[int]


def template_text(tokenizer: Any, file: str | None) -> Any:
    """The template in effect: that of a file, else the tokenizer's, else TEMPLATE. Raises ValueError for a missing file."""
    if file is None:
        return TEMPLATE if tokenizer.chat_template is None else tokenizer.chat_template
    if not Path(file).is_file():
        raise invalid("template", file, "is not a file", "give a Jinja template, or null for the plain one")
    return Path(file).read_text()


def set_template(tokenizer: Any, file: str | None, assistant_only: bool) -> None:
    """Give a tokenizer the template in effect.

    Raises ValueError for a tokenizer without EOS, a file that is not a template, and a template without a generation block
    where the loss is to be the assistant's only.
    """
    import jinja2

    if tokenizer.eos_token is None:
        raise invalid("model", tokenizer.name_or_path, "has no EOS token", "add eos_token to its tokenizer_config.json")
    tokenizer.chat_template = template_text(tokenizer, file)
    place = file or tokenizer.name_or_path
    try:
        encode(tokenizer, PROBE)
        masks = tokenizer.apply_chat_template(
            PROBE, return_dict=True, return_assistant_tokens_mask="generation" in tokenizer.chat_template
        ).get("assistant_masks", [])
    except jinja2.TemplateError as error:
        raise invalid("template", place, f"cannot be rendered ({error})", "correct it, or use template=null") from error
    if assistant_only and not any(masks):
        remedy = "put {% generation %} ... {% endgeneration %} around the answer, or use assistant_only=false"
        raise invalid("template", place, "has no generation block, which assistant_only=true needs", remedy)


def encode(tokenizer: Any, messages: Messages) -> EncodedConversation:
    """A conversation's tokens. An answer is what follows its prompt with the assistant's turn answering."""

    def ids_of(count: int, answering: bool) -> list[int]:
        result = tokenizer.apply_chat_template(messages[:count], add_generation_prompt=answering, return_dict=True)
        return list(result["input_ids"])

    ids = ids_of(len(messages), False)
    answers: list[int] = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            begin = _common(ids, ids_of(number, True))
            answers += range(begin, _common(ids, ids_of(number + 1, False)))
    return EncodedConversation(ids, answers)


def _common(left: list[int], right: list[int]) -> int:
    """How many tokens two rows begin with alike."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))
