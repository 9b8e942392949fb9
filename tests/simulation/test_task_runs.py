"""Whole runs of each kind of task by the command line, from files to an adapter that others can load."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_language import chats, pictures, save_decoder, save_vit

from fedpeft import api
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.config import load_run_file
from fedpeft.journal import EventKind, Journal
from fedpeft.report.summary import summarise

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "simulations" / "TASKS.md"


def blocks(language):
    """The blocks of a language on the page, by their own name: a run's, or a file's."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    pattern = r'^\[run\]\nname = "(\w+)"' if language == "toml" else r"^# (\S+)"
    return {re.search(pattern, block, re.MULTILINE).group(1): block for block in found}


@pytest.mark.parametrize("name", blocks("toml"))
def test_every_run_file_on_the_page_is_valid(name, tmp_path):
    path = tmp_path / f"{name}.toml"
    path.write_text(blocks("toml")[name])
    assert load_run_file(path).run.name == name


def write_jsonl(path, examples, *keys):
    lines = [dict(zip(keys, (message["content"] for message in chat), strict=True)) for chat in examples.messages]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_images(folder, name, count, shift):
    from PIL import Image

    (folder / "photos").mkdir(parents=True, exist_ok=True)
    lines = ["image,label"]
    for i, (image, label) in enumerate(zip(*pictures(count, shift=shift), strict=True)):
        Image.fromarray(image).save(folder / "photos" / f"{name}{i}.png")
        lines.append(f"photos/{name}{i}.png,{('red', 'blue')[label]}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def run(folder, name, *overrides):
    """The page's run file of that name, with its data made small; returns the run's folder."""
    path = folder / f"{name}.toml"
    path.write_text(blocks("toml")[name].replace("clients = 10", "clients = 4"))
    changes = [f"run.folder={json.dumps(str(folder / 'runs'))}", "round.ask=4", "run.rounds=3", "local.steps=5"]
    changes += ["local.batch_size=8", "evaluation.centralised=false", *overrides]
    assert perform(["run", str(path), *(part for change in changes for part in ("--set", change))], Session()) == 0
    return folder / "runs" / name


def evaluations(folder):
    with Journal.read(folder) as journal:
        return [event.payload for event in journal.events(EventKind.EVALUATED) if event.payload["split"] == "test"]


def trained_of(folder):
    """A run's federation with the last committed adapter."""
    from fedpeft.journal.snapshot import unpack
    from fedpeft.simulation.federation import assemble
    from fedpeft.simulation.finished import config_of

    with Journal.read(folder) as journal:
        federation = assemble(config_of(journal))
        arrays, _ = unpack(journal.blob(journal.last_commit().snapshot["adapter"]))
    federation.adapter.set(arrays["theta"])
    return federation


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # asked for by peft as it loads
def test_instructions(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", chats(60), "question", "answer")
    write_jsonl(tmp_path / "data" / "test.jsonl", chats(12, shift=1), "question", "answer")
    source = save_decoder(tmp_path / "model")
    small = [f"model.source={json.dumps(str(source))}", "model.max_length=64", "local.learning_rate=1e-2"]
    small += ["generation.max_new_tokens=8", "generation.examples=6", "adapter.target_modules=all-linear"]
    folder = run(tmp_path, "helpdesk", *small)
    first, *_, last = evaluations(folder)
    assert last["metrics"]["perplexity"] < first["metrics"]["perplexity"] / 20
    assert last["metrics"]["exact_match"] > first["metrics"]["exact_match"] == 0
    assert "perplexity" in capsys.readouterr().out

    from peft import AutoPeftModelForCausalLM

    federation = trained_of(folder)
    batch = federation.task.batch(federation.test, np.arange(4))
    table = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert table["task_type"] == "CAUSAL_LM"
    table["base_model_name_or_path"] = str(source)
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(table))
    loaded = AutoPeftModelForCausalLM.from_pretrained(str(folder / "adapter"))
    with torch.no_grad():
        right = loaded.eval()(**batch.inputs).logits
        torch.testing.assert_close(federation.adapter.model(**batch.inputs).logits, right)


def test_plain_texts_of_natural_clients(tmp_path):
    (tmp_path / "data").mkdir()
    rows = [
        {"text": " ".join(message["content"] for message in chat), "author": f"a{i % 4}"}
        for i, chat in enumerate(chats(60).messages)
    ]
    (tmp_path / "data" / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = save_decoder(tmp_path / "model", "gpt2")
    small = [f"model.source={json.dumps(str(source))}", "model.max_length=64", "local.learning_rate=1e-2"]
    folder = run(tmp_path, "notes", *small, "adapter.target_modules=all-linear")
    first, *_, last = evaluations(folder)
    assert last["metrics"]["perplexity"] < first["metrics"]["perplexity"] / 10
    assert last["accuracy"] is None


def test_images_resume_to_the_same_adapter(tmp_path):
    from tiny import Stop, stop_at

    for part in ("whole", "parts"):
        write_images(tmp_path / part / "data", "train", 48, 0)
        write_images(tmp_path / part / "data", "test", 16, 1)
    source = save_vit(tmp_path / "model")
    small = [f"model.source={json.dumps(str(source))}", "local.learning_rate=1e-2"]
    whole = run(tmp_path / "whole", "leaves", *small)
    first, *_, last = evaluations(whole)
    assert first["accuracy"] == 0.5
    assert last["accuracy"] > 0.9
    with Journal.read(whole) as journal:
        resolved = tmp_path / "parts" / "run.toml"
        resolved.write_text(journal.config_toml.replace(str(tmp_path / "whole"), str(tmp_path / "parts")))
        hash_of_whole = summarise(journal).adapter_hash
    config = load_run_file(resolved)
    with pytest.raises(Stop):
        api.run(config, observers=[stop_at(EventKind.COMMITTED, 2)])
    assert api.resume(config.folder).adapter_hash == hash_of_whole


def test_a_model_and_a_task_of_ones_own(tmp_path):
    write_images(tmp_path / "data", "train", 48, 0)
    write_images(tmp_path / "data", "test", 16, 1)
    for name, text in blocks("python").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    folder = run(tmp_path, "pixels")
    first, *_, last = evaluations(folder)
    assert last["accuracy"] > 0.9
    assert 0.5 <= first["metrics"]["confidence"] < last["metrics"]["confidence"] <= 1
    shutil.rmtree(folder)
    shown = run(tmp_path, "pixels", "adapter.type=lora", "adapter.rank=2", "adapter.target_modules=['1','3']")
    assert (shown / "adapter" / "adapter_model.safetensors").is_file()


def test_the_shipped_run_file_of_instructions_runs_on_a_small_model(tmp_path, monkeypatch):
    import os

    root = Path(__file__).parents[2]
    data = Path(os.environ.get("FEDPEFT_DATA", root.parent / "shared" / "data"))
    if not (data / "banking77" / "banking77_train.csv").is_file():
        pytest.skip(f"there is no {data / 'banking77'}; set FEDPEFT_DATA to a folder that holds it")
    monkeypatch.setenv("FEDPEFT_DATA", str(data))
    source = save_decoder(tmp_path / "model")
    changes = [f"model.source={source}", "model.max_length=96", f"run.folder={tmp_path / 'runs'}"]
    config = load_run_file(root / "simulations" / "instructions.toml", changes, smoke=True)
    result = api.run(config)
    assert result.finished
    metrics = evaluations(config.folder)[-1]["metrics"]
    assert set(metrics) == {"perplexity", "exact_match", "rouge_l"}
