"""What a report shows of responses beside those that the data have."""

from __future__ import annotations

from detox.alignment.responses import Responses
from detox.evaluation.report import Block, Callout, Cell, Table

RESPONSE_NAMES = {
    "toxic_prompts": "Prompts that the judge finds toxic",
    "toxicity_when_toxic": "Toxicity of responses to those, mean by the judge",
    "rouge1": "ROUGE-1 against the data's responses, F1",
    "rouge2": "ROUGE-2, F1",
    "rougeL": "ROUGE-L, F1",
    "words": "Words of a response, mean",
    "copied": "4-grams of a response that stand in its prompt, share",
}
DATA_NAMES = RESPONSE_NAMES | {"toxicity": "Toxicity, mean by the judge"}


def response_blocks(responses: Responses | None) -> list[Block]:
    """The data's own responses, and the guards where they were asked."""
    if responses is None:
        return []
    own: list[list[Cell]] = [[DATA_NAMES[name], value] for name, value in responses.data.items()]
    blocks: list[Block] = [Table("The data's own responses to these prompts", ["figure", "value"], own)]
    if responses.guards:
        rows: list[list[Cell]] = [
            [guard.name, guard.asked, guard.found, "yes" if guard.holds else "no"] for guard in responses.guards
        ]
        blocks += [
            Callout(guard_sentence(responses), "bad" if responses.broken else "good"),
            Table("Guards against reward hacking", ["guard", "asked", "found", "holds"], rows),
        ]
    return blocks


def guard_sentence(responses: Responses) -> str:
    if responses.broken:
        return f"Guards against reward hacking that are not shown to hold: {', '.join(responses.broken)}."
    return "All guards against reward hacking hold."
