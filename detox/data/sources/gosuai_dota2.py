"""GosuAI's Dota 2 game chats: raw lines of about a million public matches, unlabelled, in many languages (S4)."""

from __future__ import annotations

from detox.data.sources.source import Source, plain_comments

SOURCE = Source(
    name="gosuai_dota2",
    title="GosuAI Dota 2 Game Chats",
    licence="as stated on its Kaggle page",
    homepage="https://www.kaggle.com/datasets/romovpa/gosuai-dota-2-game-chats",
    obtain=(
        "run `kaggle datasets download romovpa/gosuai-dota-2-game-chats` and unpack dota2_chat_messages.csv "
        "into a folder"
    ),
    labels=(),
    mapping="No labels: text to be scored, or to measure drift on.",
    columns={"text": ("text",)},
    comments=plain_comments("text", ()),
    local={"train": ("dota2_chat_messages.csv",)},
)
