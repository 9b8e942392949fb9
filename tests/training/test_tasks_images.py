"""Images from arrays and from files, through the base's own processor, into its image classifier."""

import json

import numpy as np
import peft
import pytest
import torch
from tiny_language import pictures, save_vit

from fedpeft.adapters import build_adapter, load_base
from fedpeft.data import ImageExamples
from fedpeft.errors import DataError, ModelError
from fedpeft.evaluation import evaluate
from fedpeft.training import TaskContext
from fedpeft.training.tasks.images import Images

COLOURS = ("red", "blue")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_vit(tmp_path_factory.mktemp("base") / "vit", labels=5)


@pytest.fixture
def base(folder):
    return load_base(str(folder), form="image-classifier", labels=COLOURS, seed=5)


@pytest.fixture
def task(base):
    return Images(TaskContext.of(base, COLOURS))


def examples(count=6, **more):
    images, labels = pictures(count, **more)
    return ImageExamples(tuple(images), np.array(labels))


def test_a_head_for_other_labels_is_replaced_and_the_rest_is_kept(base, folder):
    from safetensors.torch import load_file

    assert base.fresh == ("classifier",)
    assert base.model.classifier.weight.shape == (2, 32)
    assert not base.model.classifier.weight.any()
    assert base.model.config.label2id == {"red": 0, "blue": 1}
    assert base.tokenizer is None
    saved = load_file(folder / "model.safetensors")
    name = "vit.embeddings.cls_token"
    assert torch.equal(base.model.get_parameter(name), saved[name])


def test_a_head_for_these_very_labels_is_kept(tmp_path):
    source = save_vit(tmp_path / "vit", labels=2)
    assert load_base(str(source), form="image-classifier", labels=COLOURS).fresh == ("classifier",)  # LABEL_0, LABEL_1
    table = json.loads((source / "config.json").read_text())
    table |= {"id2label": {"0": "red", "1": "blue"}, "label2id": {"red": 0, "blue": 1}}
    (source / "config.json").write_text(json.dumps(table))
    kept = load_base(str(source), form="image-classifier", labels=COLOURS)
    assert kept.fresh == ()
    assert kept.model.classifier.weight.any()
    turned = load_base(str(source), form="image-classifier", labels=("blue", "red"))  # its rows mean something else
    assert turned.fresh == ("classifier",)
    assert not turned.model.classifier.weight.any()


def test_weights_of_another_body_are_not_replaced(tmp_path):
    source = save_vit(tmp_path / "vit")
    table = json.loads((source / "config.json").read_text()) | {"intermediate_size": 48}
    (source / "config.json").write_text(json.dumps(table))
    with pytest.raises(ModelError, match=r"its weights lack vit\.") as caught:
        load_base(str(source), form="image-classifier", labels=COLOURS)
    assert caught.value.code == "model.incomplete"


def test_a_folder_without_its_processor_is_one_error(tmp_path):
    source = save_vit(tmp_path / "vit")
    (source / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_base(str(source), form="image-classifier", labels=COLOURS)
    assert "image-processor" in (caught.value.allowed or "")


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "PIL" else real(name, *more))
    with pytest.raises(ModelError, match="Pillow is not installed") as caught:
        load_base(str(folder), form="image-classifier", labels=COLOURS)
    assert "fedpeft[images]" in (caught.value.remedy or "")


def test_an_image_is_the_same_as_an_array_and_as_a_file(task, tmp_path):
    from PIL import Image

    given = examples()
    paths = []
    for i, array in enumerate(given.images):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(array).save(paths[-1])
    files = task.encode(ImageExamples(tuple(paths), given.labels))
    one, other = (task.batch(data, np.array([3, 0])) for data in (task.encode(given), files))
    assert one.pixel_values.shape == (2, 3, 8, 8)
    assert one.pixel_values.dtype == torch.float32
    assert torch.equal(one.pixel_values, other.pixel_values)
    assert one.labels.tolist() == [1, 0]
    red, blue = one.pixel_values[1].mean((1, 2)), one.pixel_values[0].mean((1, 2))
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_grey_images_and_images_of_any_size_become_the_base_s(task, tmp_path):
    from PIL import Image

    paths = []
    for i, mode in enumerate(("L", "RGBA", "P", "1")):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new(mode, (5 + 9 * i, 7)).save(paths[-1])
    data = task.encode(ImageExamples(tuple(paths), np.zeros(4, dtype=np.int64)))
    assert task.batch(data, np.arange(4)).pixel_values.shape == (4, 3, 8, 8)


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I", "tiff"), ("F", "tiff")])
def test_pixels_of_more_than_eight_bits_are_refused(task, tmp_path, mode, suffix):
    """Pillow would make all above 255 white."""
    from PIL import Image

    path = tmp_path / f"deep.{suffix}"
    Image.new(mode, (8, 8)).save(path)
    data = task.encode(ImageExamples((str(path),), np.array([0])))
    with pytest.raises(DataError, match=r"deep.*more than 8 bits wide"):
        task.batch(data, np.array([0]))


def test_a_file_that_is_no_image_is_named(task, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    for path in (str(text), str(tmp_path / "missing.png")):
        with pytest.raises(DataError, match=r"notes|missing") as caught:
            task.encode(ImageExamples((path,), np.array([0])))
        assert caught.value.code == "data.image"


def test_an_image_that_is_cut_off_is_named_when_it_is_needed(task, tmp_path):
    from PIL import Image

    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    data = task.encode(ImageExamples((str(path),), np.array([0])))
    with pytest.raises(DataError, match=r"cut\.png"):
        task.batch(data, np.array([0]))


def test_select_and_pool_keep_images_with_their_labels(task):
    data = task.encode(examples(4))
    both = task.pool([task.select(data, [2, 1]), data])
    assert both.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert np.array_equal(both.images[0], data.images[2])


def test_an_untrained_head_finds_all_labels_alike_and_a_trained_one_does_not(base, task):
    from fedpeft.training import SequentialTrainer, TrainingJob
    from fedpeft.types import ClientId, Plan

    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    adapter = build_adapter(base.model, config, seed=1)
    data = task.encode(examples(32))
    assert evaluate(adapter, task, data, batch_size=7).loss == pytest.approx(np.log(2), abs=1e-5)
    plan = Plan("r", 1, 1, ClientId("a"), seed=1, steps=30, batch_size=8, learning_rate=2e-2, optimizer="adamw")
    start = adapter.get()
    (result,) = SequentialTrainer(adapter, task).run([TrainingJob(plan, start, data)])
    adapter.set(start + result.delta)
    unseen = task.encode(examples(32, shift=1))
    assert evaluate(adapter, task, unseen, batch_size=7).accuracy > 0.9


def test_a_base_in_bf16_takes_its_images(folder):
    base = load_base(str(folder), form="image-classifier", labels=COLOURS, dtype="bf16")
    task = Images(TaskContext.of(base, COLOURS))
    batch = task.batch(task.encode(examples(2)), np.arange(2))
    assert torch.isfinite(task.outcomes(base.model, batch, None).losses).all()
