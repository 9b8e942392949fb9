"""Go on with a text: every token is learnt (continued pretraining on the clients' own texts)."""

from __future__ import annotations

import numpy as np

from fedpeft.data import PromptExamples
from fedpeft.training.tasks.chat import ChatFormat
from fedpeft.training.tasks.language import LanguageExamples, LanguageTask


class CausalLanguageModel(LanguageTask):
    """Plain texts, or whole chats by the tokenizer's template; each ends with the end of text, and is cut at its end.

    Args:
        context: tokenizer and `model.max_length` count here.

    Raises:
        ConfigError: `model.max_length` is more than the base can take.
    """

    def encode(self, examples: PromptExamples) -> LanguageExamples:
        """Tokenise a split. A chat of one message is a text as it is.

        Raises:
            DataError: the tokenizer's template refuses a chat.
        """
        chats = ChatFormat(self.tokenizer)
        rows = []
        for chat in examples.messages:
            if len(chat) > 1:
                ids = chats.tokenise(chat)[0].tolist()
            else:
                ids = list(self.tokenizer(chat[0]["content"], verbose=False)["input_ids"])
                if self.tokenizer.eos_token_id is not None and ids[-1:] != [self.tokenizer.eos_token_id]:
                    ids.append(self.tokenizer.eos_token_id)
            rows.append(np.asarray(ids[: self.max_length], dtype=np.int64))
        return LanguageExamples(tuple(rows), np.zeros(len(rows), dtype=np.int64))
