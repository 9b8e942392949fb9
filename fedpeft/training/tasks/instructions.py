"""Instruction tuning: the assistant's last answer is learnt, and nothing of what it answers to."""

from __future__ import annotations

import numpy as np
import torch

from fedpeft.data import PromptExamples
from fedpeft.errors import ConfigError
from fedpeft.training.losses import IGNORED
from fedpeft.training.output_layer import OutputLayer
from fedpeft.training.task import Outcomes, TaskContext
from fedpeft.training.tasks.answers import exact_match, rouge_l
from fedpeft.training.tasks.chat import ChatFormat, fit
from fedpeft.training.tasks.generation import greedy_answers
from fedpeft.training.tasks.language import LanguageBatch, LanguageExamples, LanguageTask


class Instructions(LanguageTask):
    """Chats by the tokenizer's template, or by a plain one where it has none.

    Evaluation also lets the model answer `generation.examples` of a data set, greedily, and scores the answers against
    the references by exact match and ROUGE-L (`fedpeft.training.tasks.answers`).

    Args:
        context: tokenizer, `model.max_length` and `generation` count here.

    Raises:
        ConfigError: `model.max_length` is more than the base can take, or leaves no room for an answer.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.chats = ChatFormat(context.tokenizer)
        self.judged = context.generation.examples
        self.new_tokens = context.generation.max_new_tokens
        taken = self.new_tokens + context.prompts
        self._room = None if context.positions is None else context.positions - taken
        if self.max_length < 2:
            raise ConfigError(
                f"model.max_length = {self.max_length} leaves no room for a prompt and an answer",
                code="config.max-length",
                allowed="at least 2; some hundred for chats",
                remedy="raise model.max_length",
            )
        if self.judged and self._room is not None and self._room < 1:
            raise ConfigError(
                f"generation.max_new_tokens = {self.new_tokens} leaves no room for a prompt: the base has "
                f"{context.positions} positions",
                code="config.new-tokens",
                allowed=f"1 to {(context.positions or 0) - context.prompts - 1}",
                remedy="lower generation.max_new_tokens, or set generation.examples = 0",
            )

    def encode(self, examples: PromptExamples) -> LanguageExamples:
        """Tokenise a split. A chat that is too long loses the beginning of its prompt, not its answer.

        Raises:
            DataError: the tokenizer's template refuses a chat, or hides its answer.
        """
        rows, begins = [], []
        for chat in examples.messages:
            ids, first = fit(*self.chats.tokenise(chat), self.max_length, self.tokenizer.bos_token_id)
            rows.append(ids)
            begins.append(first)
        return LanguageExamples(tuple(rows), np.asarray(begins, dtype=np.int64))

    def judge(self, model: torch.nn.Module, batch: LanguageBatch, prepared: OutputLayer) -> Outcomes:
        """Loss as in training; and what the model itself answers, against the reference."""
        outcomes = self.outcomes(model, batch, prepared)
        prompts, references = self._halves(batch)
        written = greedy_answers(model, prompts, new_tokens=self.new_tokens, ends=self.chats.ends, padding=self.padding)
        pairs = [(self._text(answer), self._text(right)) for answer, right in zip(written, references, strict=True)]
        scores = {
            "exact_match": torch.tensor([exact_match(*pair) for pair in pairs]),
            "rouge_l": torch.tensor([rouge_l(*pair) for pair in pairs]),
        }
        return Outcomes(outcomes.losses, {**outcomes.scores, **scores})

    def _halves(self, batch: LanguageBatch) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Each example's prompt, cut so that an answer has room, and its reference."""
        prompts, references = [], []
        rows = zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.labels, strict=True)
        for ids, mask, labels in rows:
            learnt = labels != IGNORED
            prompt = ids[(mask == 1) & ~learnt].cpu().numpy()
            if not len(prompt):  # an answer to nothing still has to begin somewhere
                prompt = np.asarray([self.tokenizer.bos_token_id or self.padding], dtype=np.int64)
            prompts.append(prompt if self._room is None else prompt[-self._room :])
            references.append(ids[learnt].cpu().numpy())
        return prompts, references

    def _text(self, ids: np.ndarray) -> str:
        text: str = self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        return text
