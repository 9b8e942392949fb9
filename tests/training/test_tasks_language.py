"""What of a chat is learnt, what is kept of a long one, and what a language model's task reports."""

import math

import numpy as np
import peft
import pytest
import torch
from tiny_language import CHATML, END, IM_END, bpe, chats, save_decoder

from fedpeft.adapters import build_adapter, load_base
from fedpeft.config import GenerationTable
from fedpeft.data import PromptExamples
from fedpeft.errors import ConfigError, DataError, ModelError
from fedpeft.evaluation import evaluate
from fedpeft.training import TaskContext
from fedpeft.training.losses import IGNORED
from fedpeft.training.tasks.causal_lm import CausalLanguageModel
from fedpeft.training.tasks.chat import ChatFormat, fit
from fedpeft.training.tasks.instructions import Instructions

# Llama 2: the prompt ends in a space, which a BPE takes into the answer's first token; the answer is trimmed.
INST = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST] "
    "{% elif m['role'] == 'assistant' %}{{ m['content'] | trim }}<|endoftext|>"
    "{% else %}{{ raise_exception('no system role') }}{% endif %}{% endfor %}"
)
# A reasoning model: the prompt alone opens a thought, the whole chat has none.
THINKING = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
# The last turn is rendered otherwise than the ones before it.
LAST = (
    "{% for m in messages %}{{ 'now ' if loop.last else 'then ' }}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# No token ends a turn, and nothing stands before the first message.
BARE = "{% for m in messages %}{{ m['content'] }}\n\n{% endfor %}"
TEMPLATES = {"chatml": CHATML, "inst": INST, "thinking": THINKING, "last": LAST, "bare": BARE, "none": None}


def chat(*contents, answer="It is blue."):
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return [*turns, {"role": "assistant", "content": answer}]


def halves(tokenizer, messages):
    ids, first = ChatFormat(tokenizer).tokenise(messages)
    return tokenizer.decode(ids[:first]), tokenizer.decode(ids[first:])


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("answer", ["It is blue.", "  It is blue.", "user", "É 漢字 🙂", "It is\n\nblue.\n"])
@pytest.mark.parametrize("contents", [("What colour is the sky?",), ("Hi", "It is blue.", "user")], ids=["one", "two"])
def test_the_answer_and_the_end_of_its_turn_are_learnt_and_nothing_else(name, answer, contents):
    tokenizer = bpe(TEMPLATES[name])
    prompt, learnt = halves(tokenizer, chat(*contents, answer=answer))
    whole = ChatFormat(tokenizer).render(chat(*contents, answer=answer))
    assert learnt.endswith((END, IM_END))
    assert learnt.removesuffix(IM_END).removesuffix(END).strip() == answer.strip()
    assert whole.startswith(prompt)
    assert contents[-1] in prompt


def test_a_prompt_that_is_rendered_otherwise_alone_does_not_begin_the_whole_chat():
    """What makes the template above a test: by the length of the prompt alone, the wrong tokens would be learnt."""
    for name in ("thinking", "last"):
        tokenizer = bpe(TEMPLATES[name])
        format = ChatFormat(tokenizer)
        opened = format.render(chat("Hi")[:-1], open_answer=True)
        assert not format.render(chat("Hi")).startswith(opened)


def test_a_token_of_the_prompt_s_end_and_the_answer_s_beginning_is_learnt():
    tokenizer = bpe(INST)
    ids, first = ChatFormat(tokenizer).tokenise(chat("Hi"))
    assert tokenizer.decode(ids[:first]) == "[INST] Hi [/INST]"
    assert tokenizer.decode(ids[first : first + 1])[0] == " "
    text = ChatFormat(tokenizer).render(chat("Hi"))
    assert ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]  # as the tokenizer writes the whole


def test_a_tokenizer_without_places_is_asked_half_by_half():
    class Slow:
        is_fast = False

        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, text, **more):
            assert "return_offsets_mapping" not in more
            return self.inner(text, **more)

    fast = bpe()
    ids, first = ChatFormat(Slow(fast)).tokenise(chat("Hi"))
    right, begin = ChatFormat(fast).tokenise(chat("Hi"))
    assert (ids.tolist(), first) == (right.tolist(), begin)


def test_a_template_that_names_the_day_gives_the_same_chat_every_day():
    tokenizer = bpe("{{ strftime_now('%d %b %Y') }} " + CHATML)
    assert ChatFormat(tokenizer).render(chat("Hi")).startswith("26 Jul 2024 <|im_start|>")


def test_a_role_that_the_template_refuses_is_named():
    with pytest.raises(DataError, match="a chat of system, user, assistant: no system role") as caught:
        ChatFormat(bpe(INST)).tokenise([{"role": "system", "content": "Be brief."}, *chat("Hi")])
    assert caught.value.code == "data.chat-template"


def test_an_answer_that_the_template_rewrites_is_what_follows_the_prompt():
    tokenizer = bpe(CHATML.replace("m['content']", "m['content'] | upper"))
    assert halves(tokenizer, chat("Hi"))[1] == "IT IS BLUE." + IM_END
    tokenizer = bpe(CHATML.replace("m['content']", "m['content'] | lower"))
    assert halves(tokenizer, chat("Hi"))[1] == "it is blue." + IM_END


def test_a_template_that_hides_the_answer_is_refused():
    with pytest.raises(DataError, match="in one piece"):
        ChatFormat(bpe(THINKING.replace("m['content']", "m['content'] | lower"))).tokenise(chat("Hi"))


@pytest.mark.parametrize(
    ("ids", "first", "longest", "bos", "kept", "begin"),
    [
        ([1, 2, 3, 8, 9], 3, 5, None, [1, 2, 3, 8, 9], 3),
        ([1, 2, 3, 8, 9], 3, 4, None, [2, 3, 8, 9], 2),
        ([1, 2, 3, 8, 9], 3, 4, 1, [1, 3, 8, 9], 2),
        ([1, 2, 3, 8, 9], 3, 3, 1, [1, 8, 9], 1),
        ([1, 2, 3, 8, 9], 3, 3, None, [3, 8, 9], 1),
        ([1, 2, 3, 8, 9], 3, 2, None, [3, 8], 1),
        ([7, 8, 9], 0, 2, None, [7, 8], 0),
    ],
)
def test_a_long_chat_loses_the_beginning_of_its_prompt(ids, first, longest, bos, kept, begin):
    found, place = fit(np.array(ids), first, longest, bos)
    assert (found.tolist(), place) == (kept, begin)


def context(tokenizer=None, *, max_length=48, positions=128, **generation):
    from fedpeft.config import ModelTable

    return TaskContext(
        ModelTable(source="m", max_length=max_length),
        tokenizer=tokenizer or bpe(),
        positions=positions,
        generation=GenerationTable(**generation),
    )


def test_batches_are_padded_to_a_multiple_of_eight_and_only_answers_carry_labels():
    task = Instructions(context())
    data = task.encode(chats(6))
    batch = task.batch(data, np.array([4, 0]))
    assert batch.labels.shape[1] % 8 == 0
    for row, (labels, mask) in enumerate(zip(batch.labels, batch.inputs["attention_mask"], strict=True)):
        ids = batch.inputs["input_ids"][row]
        learnt = labels != IGNORED
        assert torch.equal(labels[learnt], ids[learnt])
        assert not learnt[mask == 0].any()
        assert task.tokenizer.decode(ids[learnt]).startswith("It is ")
        assert task.tokenizer.decode(ids[learnt]).endswith(IM_END)
    short = Instructions(context(max_length=21))
    assert short.batch(short.encode(chats(1)), np.array([0])).labels.shape[1] == 21  # the limit, not 24


def test_every_token_of_a_plain_text_is_learnt_to_its_end():
    task = CausalLanguageModel(context())
    text = "It is blue."
    data = task.encode(PromptExamples((({"role": "assistant", "content": text},),)))
    assert task.tokenizer.decode(data.tokens[0]) == text + END
    assert (task.batch(data, np.array([0])).labels != IGNORED).sum() == len(data.tokens[0])
    cut = CausalLanguageModel(context(max_length=2)).encode(
        PromptExamples((({"role": "assistant", "content": text},),))
    )
    assert cut.tokens[0].tolist() == data.tokens[0][:2].tolist()
    assert len(task.encode(chats(1)).tokens[0]) > len(data.tokens[0])  # a chat, by its template


def test_select_and_pool_keep_examples_with_what_is_learnt_of_them():
    task = Instructions(context())
    data = task.encode(chats(4))
    both = task.pool([task.select(data, [2, 0]), data])
    assert len(both) == 6
    assert both.begins.tolist() == [data.begins[i] for i in (2, 0, 0, 1, 2, 3)]
    assert both.tokens[0].tolist() == data.tokens[2].tolist()
    assert both.lengths.tolist() == [len(row) for row in both.tokens]
    empty = task.encode(PromptExamples(()))
    assert (len(empty), empty.lengths.tolist()) == (0, [])


@pytest.mark.parametrize(
    ("task", "changes", "code"),
    [
        (Instructions, {"max_length": 200}, "config.max-length"),
        (CausalLanguageModel, {"max_length": 200}, "config.max-length"),
        (Instructions, {"max_length": 1}, "config.max-length"),
        (Instructions, {"max_new_tokens": 128}, "config.new-tokens"),
    ],
)
def test_lengths_that_cannot_be_are_refused(task, changes, code):
    with pytest.raises(ConfigError) as caught:
        task(context(**changes))
    assert caught.value.code == code
    assert caught.value.remedy
    Instructions(context(max_new_tokens=128, examples=0))  # nothing is generated


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request, tmp_path_factory):
    return load_base(str(save_decoder(tmp_path_factory.mktemp("base") / "model", request.param)), form="causal-lm")


def adapter_of(base, **more):
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **more)
    return build_adapter(base.model, config, seed=1)


def by_hand(model, data):
    """Perplexity of the learnt tokens, one text at a time, by the model's own logits."""
    nats, tokens, means = 0.0, 0, []
    for ids, begin in zip(data.tokens, data.begins, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(ids).unsqueeze(0)).logits[0].double()
        places = torch.arange(max(begin, 1), len(ids))
        each = -torch.log_softmax(logits[places - 1], 1)[torch.arange(len(places)), torch.from_numpy(ids)[places]]
        nats, tokens = nats + float(each.sum()), tokens + len(places)
        means.append(float(each.mean()))
    return math.exp(nats / tokens), float(np.mean(means))


@pytest.mark.parametrize("task", [Instructions, CausalLanguageModel])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_perplexity_counts_tokens_and_loss_counts_examples(base, task, batch_size):
    subject = task(TaskContext.of(base, max_length=64, generation=GenerationTable(examples=0)))
    data = subject.encode(PromptExamples((*chats(6).messages, tuple(chat("Hi", answer="It is blue. " * 6)))))
    adapter = adapter_of(base)
    found = evaluate(adapter, subject, data, batch_size=batch_size)
    perplexity, loss = by_hand(adapter.model, data)
    assert found.metrics == {"perplexity": pytest.approx(perplexity, rel=1e-5)}
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.accuracy is None


LEARNT_BEFORE_THE_TOKENS = {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize(
    "config",
    [
        None,
        peft.PromptTuningConfig(**LEARNT_BEFORE_THE_TOKENS),
        peft.PrefixTuningConfig(**LEARNT_BEFORE_THE_TOKENS),
    ],
    ids=["lora", "prompt", "prefix"],
)
def test_answers_are_the_likeliest_tokens_one_by_one(base, config):
    """By the model's own logits, one prompt at a time, without padding and without a cache."""
    subject = Instructions(
        TaskContext.of(base, max_length=64, generation=GenerationTable(max_new_tokens=6, examples=9))
    )
    base.model.generation_config.repetition_penalty = 50.0  # the model's own taste has no say
    adapter = adapter_of(base) if config is None else build_adapter(base.model, config, seed=1)
    data = subject.encode(chats(4))
    assert len(set(data.begins.tolist())) > 1  # prompts of several lengths
    right = []
    for ids, begin in zip(data.tokens, data.begins, strict=True):
        written = ids[:begin].tolist()
        for _ in range(6):
            with torch.no_grad():
                token = int(adapter.model(input_ids=torch.tensor([written])).logits[0, -1].argmax())
            if token in subject.chats.ends:
                break
            written.append(token)
        right.append(np.asarray(written[begin:], dtype=np.int64))
    taught = [
        np.concatenate([ids[:begin], answer])
        for ids, begin, answer in zip(data.tokens, data.begins, right, strict=True)
    ]
    own = type(data)(tuple(taught), data.begins)  # the references are what it would say
    found = evaluate(adapter, subject, own, batch_size=4)
    assert found.metrics["exact_match"] == 1.0
    assert found.metrics["rouge_l"] == 1.0
    assert evaluate(adapter, subject, data, batch_size=4).metrics["exact_match"] == 0.0
    assert base.model.generation_config.repetition_penalty == 50.0


def test_answers_are_written_for_as_many_examples_as_asked(base, monkeypatch):
    from fedpeft.training.tasks import instructions

    asked = []
    real = instructions.greedy_answers
    monkeypatch.setattr(
        instructions,
        "greedy_answers",
        lambda model, prompts, **more: asked.append(len(prompts)) or real(model, prompts, **more),
    )
    adapter = adapter_of(base)
    for wanted, batches in ((0, []), (5, [4, 1]), (50, [4, 4, 2])):
        asked.clear()
        table = GenerationTable(examples=wanted, max_new_tokens=2)
        subject = Instructions(TaskContext.of(base, max_length=64, generation=table))
        found = evaluate(adapter, subject, subject.encode(chats(10)), batch_size=4)
        assert asked == batches
        assert ("rouge_l" in found.metrics) is (wanted > 0)
        assert found.examples == 10


def test_a_prompt_at_the_model_s_limit_leaves_room_for_its_answer(base):
    table = GenerationTable(examples=4, max_new_tokens=100)
    subject = Instructions(TaskContext.of(base, max_length=128, generation=table))
    data = subject.encode(PromptExamples((tuple(chat("What colour is the sky? " * 30)),)))
    assert data.lengths.tolist() == [128]
    assert evaluate(adapter_of(base), subject, data, batch_size=4).examples == 1


def test_an_encoder_is_refused_since_its_tokens_see_those_after_them(tmp_path):
    from tiny_text import bert_config, save_model
    from transformers import BertLMHeadModel

    source = save_model(tmp_path / "model", BertLMHeadModel(bert_config()))
    base = load_base(str(source), form="causal-lm")
    task = CausalLanguageModel(TaskContext.of(base, max_length=8))
    with pytest.raises(ModelError, match="not causal"):
        task.prepare(base.model)


def test_a_model_that_learns_a_rule_answers_by_it(tmp_path):
    """Enough steps of one client, and the answers that it writes are the right ones."""
    from fedpeft.training import SequentialTrainer, TrainingJob
    from fedpeft.types import ClientId, Plan

    base = load_base(str(save_decoder(tmp_path / "model")), form="causal-lm")
    table = GenerationTable(examples=12, max_new_tokens=8)
    task = Instructions(TaskContext.of(base, max_length=64, generation=table))
    adapter = build_adapter(base.model, peft.LoraConfig(r=16, lora_alpha=64, target_modules="all-linear"), seed=1)
    data = task.encode(chats(24))
    before = evaluate(adapter, task, data, batch_size=24).metrics
    plan = Plan("r", 1, 1, ClientId("a"), seed=1, steps=60, batch_size=12, learning_rate=1e-2, optimizer="adamw")
    start = adapter.get()
    (result,) = SequentialTrainer(adapter, task).run([TrainingJob(plan, start, data)])
    assert result.fault is None
    adapter.set(start + result.delta)
    after = evaluate(adapter, task, data, batch_size=24).metrics
    assert before["exact_match"] == 0.0
    assert after["exact_match"] > 0.9
    assert after["rouge_l"] > 0.9
    assert after["perplexity"] < 3 < before["perplexity"] / 100  # the random output layer allows no less than 2.36
