"""A chat as one text, by the tokenizer's own template, and the place in it where the assistant's last answer begins.

The answer is found in the whole rendered chat, by rendering it once more with a mark in its place: templates may render
a chat without its answer in another way (drop earlier reasoning, open a thought, move the system prompt), so the
tokens of the prompt alone need not be the first tokens of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.errors import DataError

PLAIN = (
    "{{ bos_token if bos_token else '' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'assistant' %}### Response:\n{{ message['content'] }}\n\n"
    "{% else %}### Instruction:\n{{ message['content'] }}\n\n"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
"""For tokenizers without a template of their own: the headings of Alpaca (Taori et al. 2023)."""

ONE_DAY = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""What templates that name the day are told it is (Llama 3's own default): a run must not depend on when it is run."""

Message = Mapping[str, str]


class ChatFormat:
    """A tokenizer's way to write chats.

    Args:
        tokenizer: of `transformers`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        template: str = tokenizer.get_chat_template() if tokenizer.chat_template else PLAIN
        self._template = ONE_DAY + template if "strftime_now" in template else template
        self._special = frozenset(tokenizer.all_special_ids) | {
            place for place, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special
        }

    def render(self, chat: Sequence[Message], *, open_answer: bool = False) -> str:
        """The chat as text; with `open_answer` up to where the assistant would begin to write.

        Raises:
            DataError: the template refuses the chat, e.g. a role that it does not know.
        """
        from jinja2 import TemplateError

        messages = [dict(message) for message in chat]
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                chat_template=self._template,
                add_generation_prompt=open_answer,
            )
        except (TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(message["role"] for message in chat)
            raise DataError(
                f"the tokenizer's chat template refuses a chat of {roles}: {error}",
                code="data.chat-template",
                allowed="chats that the template of this model knows",
                remedy="leave out or merge the messages that it does not know, e.g. put the system prompt into the "
                "user's message",
            ) from error
        return text

    def split(self, chat: Sequence[Message]) -> tuple[str, int]:
        """The whole chat as text, and where in it the last message's content begins.

        Raises:
            DataError: the template refuses the chat, or does not show the answer in one piece.
        """
        whole = self.render(chat)
        mark = "ANSWER"
        while mark in whole:
            mark += "X"
        before, found, after = self.render([*chat[:-1], {**chat[-1], "content": mark}]).partition(mark)
        in_place = found and mark not in after and whole.startswith(before) and whole.endswith(after)
        if in_place and len(whole) >= len(before) + len(after):
            return whole, len(before)
        opened = self.render(chat[:-1], open_answer=True) if len(chat) > 1 else ""
        if opened and whole.startswith(opened):
            return whole, len(opened)
        raise DataError(
            "the tokenizer's chat template does not show the assistant's last message in one piece: what is to be "
            "learnt cannot be told from what is only read",
            code="data.chat-template",
            allowed="a template that writes the content of the last message as it is",
            remedy="correct tokenizer.chat_template and save the tokenizer beside the model",
        )

    def tokenise(self, chat: Sequence[Message]) -> tuple[npt.NDArray[np.int64], int]:
        """Token ids, and the first of them that is the answer's; the last one ends the turn.

        A token that holds both the prompt's last and the answer's first character counts as the answer's. White space
        after the token that ends the turn is left out; a template that has no such token gets the end of text.
        """
        text, begin = self.split(chat)
        if self.tokenizer.is_fast:
            found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            ids, ends = list(found["input_ids"]), [end for _, end in found["offset_mapping"]]
            first = next((place for place, end in enumerate(ends) if end > begin), len(ids))
        else:
            ids = list(self.tokenizer(text[:begin], add_special_tokens=False, verbose=False)["input_ids"])
            first = len(ids)
            ids += self.tokenizer(text[begin:], add_special_tokens=False, verbose=False)["input_ids"]
        while len(ids) > first and ids[-1] not in self._special and not self.tokenizer.decode(ids[-1:]).strip():
            ids.pop()
        if (not ids or ids[-1] not in self._special) and self.tokenizer.eos_token_id is not None:
            ids.append(self.tokenizer.eos_token_id)
        return np.asarray(ids, dtype=np.int64), min(first, len(ids))

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that may end an answer: the end of text, and what the template ends a turn with."""
        ids, _ = self.tokenise([{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}])
        last = [int(ids[-1])] if int(ids[-1]) in self._special else []
        eos = [] if self.tokenizer.eos_token_id is None else [int(self.tokenizer.eos_token_id)]
        return list(dict.fromkeys([*eos, *last]))


def fit(ids: npt.NDArray[np.int64], first: int, longest: int, bos: int | None) -> tuple[npt.NDArray[np.int64], int]:
    """Cut a chat to `longest` tokens so that its answer is kept: the beginning of the prompt goes first.

    A beginning-of-text token stays where it is. At least one token before the answer stays, since the answer's first
    token is predicted from it; an answer that alone is too long loses its end.

    Args:
        ids: token ids.
        first: where the answer begins.
        longest: at least 2.
        bos: the beginning-of-text token, if the tokenizer has one.
    """
    if len(ids) <= longest:
        return ids, first
    head = ids[:1] if first and bos is not None and ids[0] == bos else ids[:0]
    answer = ids[first : first + longest - (1 if first else 0)]
    room = longest - len(answer)
    head = head[:room]
    prompt = ids[first - (room - len(head)) : first]
    kept = np.concatenate([head, prompt, answer])
    return kept, len(kept) - len(answer)
