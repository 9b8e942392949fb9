"""The files source: what it makes of a run file's `[data]` table."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_files import config_of, write_files, write_lines

from fedpeft.data import ImageExamples, PromptExamples, load_corpus
from fedpeft.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path)


def test_the_corpus_of_two_files(folder):
    corpus = load_corpus(config_of(folder))
    assert corpus.label_names == ("card arrival", "lost card")
    assert corpus.test.texts == ("where is it", "gone")
    assert corpus.test.labels.tolist() == [0, 1]
    assert list(corpus.clients) == ["c00", "c01", "c02", "c03"]
    assert [(len(data.train), len(data.test)) for data in corpus.clients.values()] == [(9, 1)] * 4
    dealt = [text for data in corpus.clients.values() for split in (data.train, data.test) for text in split.texts]
    assert sorted(dealt) == sorted(f"text {index}" for index in range(40))
    for data in corpus.clients.values():
        assert [int(text.split()[1]) % 2 for text in data.train.texts] == data.train.labels.tolist()
    assert corpus.description == (
        "train.csv: 40 examples of 2 labels, dealt to 4 clients by iid(); tested on test.csv: 2 examples"
    )
    assert corpus.owners == {}


def test_the_csv_source_reads_any_suffix_as_csv(folder):
    (folder / "train.csv").rename(folder / "train.txt")
    assert len(load_corpus(config_of(folder, source="csv", train="train.txt")).clients) == 4
    with pytest.raises(DataError, match="does not say what format"):
        load_corpus(config_of(folder, train="train.txt"))


def test_clients_keep_what_client_test_says(folder):
    assert all(len(data.test) == 0 for data in load_corpus(config_of(folder, client_test=0.0)).clients.values())
    assert all(len(data.test) == 5 for data in load_corpus(config_of(folder, client_test=0.5)).clients.values())


def test_a_share_of_the_training_rows_may_be_the_test_set(folder):
    corpus = load_corpus(config_of(folder, test=0.25))
    dealt = [text for data in corpus.clients.values() for split in (data.train, data.test) for text in split.texts]
    assert (len(corpus.test), len(dealt)) == (10, 30)
    assert sorted([*dealt, *corpus.test.texts]) == sorted(f"text {index}" for index in range(40))
    assert corpus.description.endswith("tested on 25% of its rows, set aside: 10 examples")
    again = load_corpus(config_of(folder, test=0.25))
    assert again.test.texts == corpus.test.texts


def test_no_more_than_so_many_of_a_client_are_used(folder):
    whole, part = load_corpus(config_of(folder)), load_corpus(config_of(folder, client_examples=3))
    for client, data in part.clients.items():
        assert (len(data.train), len(data.test)) == (3, 1)
        assert set(data.train.texts) < set(whole.clients[client].train.texts)
    more = load_corpus(config_of(folder, client_examples=5))
    assert all(set(part.clients[c].train.texts) < set(data.train.texts) for c, data in more.clients.items())
    assert part.description.endswith("; at most 3 of a client are used")


def test_columns_by_position_and_texts_of_several_columns(folder):
    rows = [["premise", f"hypothesis {i}", i % 2] for i in range(8)]
    (folder / "pairs.json").write_text(json.dumps({"train": rows, "test": rows[:2]}))
    corpus = load_corpus(
        config_of(
            folder,
            2,
            train="pairs.json#train",
            test="pairs.json#test",
            text="{0} -> {1} {{sic}}",
            label=2,
            client_test=0.0,
        )
    )
    assert corpus.test.texts == ("premise -> hypothesis 0 {sic}", "premise -> hypothesis 1 {sic}")
    assert corpus.label_names == ("0", "1")


def test_label_names_give_numbers_their_meaning(folder):
    (folder / "train.csv").write_text("text,label\n" + "a,0\nb,1\nc,sports\n" * 4)
    (folder / "test.csv").write_text("text,label\nx,2\ny,world\n")
    corpus = load_corpus(config_of(folder, label_names=["world", "sports", "sci_tech"], client_test=0.0))
    assert corpus.label_names == ("world", "sports", "sci tech")
    assert corpus.test.labels.tolist() == [2, 0]
    labels = np.concatenate([data.train.labels for data in corpus.clients.values()])
    assert np.bincount(labels).tolist() == [4, 8]
    (folder / "test.csv").write_text("text,label\nx,3\n")
    with pytest.raises(DataError, match=r'test\.csv, line 2: label "3" is not in data\.label_names'):
        load_corpus(config_of(folder, label_names=["world", "sports", "sci_tech"]))


def test_choices_restrict_each_example(folder):
    lines = [
        {"user": 7, "labels": ["yes", "no"], "rows": [["a", 0], ["b", "no"]]},
        {"user": 12, "labels": ["no", "maybe"], "rows": [["c", 1], ["d", 1]]},
    ]
    write_lines(folder / "users.jsonl", lines)
    corpus = load_corpus(
        config_of(
            folder,
            2,
            train="users.jsonl#rows",
            test="users.jsonl#rows",
            text=0,
            label=1,
            choices="labels",
            partition={"name": "natural-id", "partition_by": "user"},
            client_test="own",
        )
    )
    assert corpus.label_names == ("maybe", "no", "yes")
    assert corpus.owners == {"c00": "7", "c01": "12"}
    first, second = corpus.clients.values()
    assert (first.train.labels.tolist(), first.train.choices) == ([2, 1], ((2, 1), (2, 1)))
    assert (second.test.labels.tolist(), second.test.choices) == ([0, 0], ((1, 0), (1, 0)))
    assert len(corpus.test) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"labels": ["a", "b"], "label": 2}, r"label 2 is no place in the list of 2 choices"),
        ({"labels": ["a", "b"], "label": "c"}, 'label "c" is not in the choices of|is not one of the row'),
        ({"labels": [], "label": "c"}, 'column "labels" is no list of labels'),
        ({"labels": "a", "label": "a"}, 'column "labels" is no list of labels: a'),
        ({"labels": ["a"], "label": ["a"]}, "a label is a list"),
        ({"labels": ["a"]}, 'there is no column "label"'),
        ({"labels": ["a"], "label": None}, 'column "label" is empty'),
    ],
)
def test_choices_that_do_not_fit(folder, row, message):
    write_lines(folder / "rows.jsonl", [{"text": "x", "labels": ["a", "b"], "label": "a"}, {"text": "y", **row}])
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: ({message})"):
        load_corpus(config_of(folder, 1, train="rows.jsonl", test="rows.jsonl", choices="labels"))


# --- natural clients ---


def test_a_folder_for_each_client(folder):
    for client in ("ann", "bob", "cho"):
        (folder / client).mkdir()
        (folder / client / "train.csv").write_text(f"text,label\n{client} one,a\n{client} two,b\n")
        if client != "bob":
            (folder / client / "test.csv").write_text(f"text,label\n{client} three,a\n")
    natural = {"train": "{client}/train.csv", "test": "{client}/test.csv", "client_test": "own"}
    partition = {"name": "natural-id", "partition_by": "client"}
    corpus = load_corpus(config_of(folder, 3, partition=partition, **natural))
    assert corpus.owners == {"c00": "ann", "c01": "bob", "c02": "cho"}
    assert [data.train.texts[0] for data in corpus.clients.values()] == ["ann one", "bob one", "cho one"]
    assert [data.test.texts for data in corpus.clients.values()] == [("ann three",), (), ("cho three",)]
    assert corpus.test.texts == ("ann three", "cho three")
    with pytest.raises(DataError, match=r"3 natural clients, and the clients of .* add up to 4") as caught:
        load_corpus(config_of(folder, 4, partition=partition, **natural))
    assert "add up to 3" in str(caught.value.remedy)


@pytest.mark.parametrize("table", [{"x": ["a", "b"], "y": ["c"]}, {"a": "x", "b": "x", "c": "y"}])
def test_a_map_joins_labels_to_clients(folder, table):
    (folder / "map.json").write_text(json.dumps(table))
    (folder / "train.csv").write_text("text,label\n" + "1,a\n2,b\n3,c\n4,c\n")
    partition = {"name": "natural-id", "map": "map.json"}
    corpus = load_corpus(
        config_of(folder, 2, train="train.csv", test="train.csv", partition=partition, client_test="own")
    )
    assert corpus.owners == {"c00": "x", "c01": "y"}
    assert [data.train.texts for data in corpus.clients.values()] == [("1", "2"), ("3", "4")]
    assert [data.test.texts for data in corpus.clients.values()] == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x": ["a"]}', r'train\.csv, line 3: data\.partition\.map does not say whom "b" belongs to'),
        ('{"x": ["a", "b"], "y": ["b"]}', '"b" belongs to "x" and to "y"'),
        ("[1]", "it is no object of texts or lists"),
        ('{"x": \n', r"line 2 is not JSON"),
    ],
)
def test_a_map_that_does_not_fit(folder, content, message):
    (folder / "map.json").write_text(content)
    (folder / "train.csv").write_text("text,label\n1,a\n2,b\n")
    with pytest.raises(DataError, match=message) as caught:
        load_corpus(config_of(folder, 1, test="train.csv", partition={"name": "natural-id", "map": "map.json"}))
    assert caught.value.code == "data.map"


def test_a_partitioner_may_go_by_any_column(folder):
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "topic": f"topic {i // 10}"} for i in range(40)]
    write_lines(folder / "rows.jsonl", rows)
    partition = {"name": "pathological", "partition_by": "topic", "num_classes_per_partition": 1}
    corpus = load_corpus(config_of(folder, train="rows.jsonl", test="rows.jsonl", partition=partition, client_test=0.0))
    topics = [{int(text[1:]) // 10 for text in data.train.texts} for data in corpus.clients.values()]
    assert all(len(found) == 1 for found in topics)
    assert set.union(*topics) == {0, 1, 2, 3}
    assert corpus.label_names == ("a", "b")


# --- prompts and images ---


def test_prompts_from_two_columns(folder):
    write_lines(folder / "p.jsonl", [{"q": f"q{i}", "ctx": "c", "a": f"a{i} "} for i in range(6)])
    table = {"train": "p.jsonl", "test": "p.jsonl", "prompt": "{ctx}: {q}", "response": "a", "client_test": 0.0}
    corpus = load_corpus(config_of(folder, 2, task=f"{folder}/tasks.py:Prompts", **table))
    assert isinstance(corpus.test, PromptExamples)
    assert corpus.test.messages[1] == (
        {"role": "user", "content": "c: q1"},
        {"role": "assistant", "content": "a1 "},
    )
    assert corpus.label_names == ()
    assert [len(data.train) for data in corpus.clients.values()] == [3, 3]
    assert corpus.description.startswith("p.jsonl: 6 examples, dealt to 2 clients")


def test_chats_of_either_form_end_with_an_answer(folder):
    chats = [
        [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
        [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}, {"from": "human", "value": "unanswered"}],
    ]
    write_lines(folder / "p.jsonl", [{"messages": chat} for chat in chats])
    table = {"train": "p.jsonl", "test": "p.jsonl", "messages": "messages", "client_test": 0.0}
    corpus = load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Prompts", **table))
    assert [[message["role"] for message in chat] for chat in corpus.test.messages] == [
        ["system", "user", "assistant"],
        ["user", "assistant"],
    ]
    for bad in ([{"role": "user", "content": "u"}], [{"role": "user"}], "text"):
        write_lines(folder / "p.jsonl", [{"messages": bad}])
        with pytest.raises(DataError, match=r"p\.jsonl, line 1: the chat has a message|holds no answer"):
            load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Prompts", **table))


def test_a_text_to_continue_is_the_assistants_own(folder):
    write_lines(folder / "p.jsonl", [{"text": "once upon"}])
    table = {"train": "p.jsonl", "test": "p.jsonl"}
    corpus = load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Prompts", **table))
    assert corpus.test.messages == (({"role": "assistant", "content": "once upon"},),)


def test_prompts_are_dealt_by_a_column_or_by_number(folder):
    write_lines(folder / "p.jsonl", [{"q": f"q{i}", "a": "a", "topic": "xy"[i % 2]} for i in range(20)])
    table = {"train": "p.jsonl", "test": "p.jsonl", "prompt": "q", "response": "a", "client_test": 0.0}
    task = f"{folder}/tasks.py:Prompts"
    with pytest.raises(ConfigError, match='"dirichlet" goes by a column, and prompts have no label') as caught:
        load_corpus(config_of(folder, 2, task=task, partition={"name": "dirichlet"}, **table))
    assert caught.value.allowed == "one of the columns q, a, topic"
    partition = {"name": "natural-id", "partition_by": "topic"}
    corpus = load_corpus(config_of(folder, 2, task=task, partition=partition, **table))
    assert [len(data.train) for data in corpus.clients.values()] == [10, 10]
    sizes = load_corpus(config_of(folder, 2, task=task, partition={"name": "linear"}, **table))
    assert [len(data.train) for data in sizes.clients.values()] == [7, 13]


def save_image(path: Path, color: tuple[int, int, int]) -> bytes:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", (4, 3), color).save(path)
    return path.read_bytes()


def test_images_in_a_folder_for_each_label(folder):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            for number in range(2):
                save_image(folder / "pets" / split / label / f"{number}.png", (number, 0, 0))
    table = {"train": "pets/train/{label}/*.png", "test": "pets/test/{label}/*.png", "client_test": 0.0}
    corpus = load_corpus(config_of(folder, 2, task=f"{folder}/tasks.py:Images", **table))
    assert isinstance(corpus.test, ImageExamples)
    assert corpus.label_names == ("cat", "dog")
    assert corpus.test.labels.tolist() == [0, 0, 1, 1]
    assert corpus.test.images[0] == str(folder / "pets" / "test" / "cat" / "0.png")


def test_bytes_of_an_image_with_more_than_eight_bits(folder):
    image, pyarrow = pytest.importorskip("PIL.Image"), pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    image.new("I;16", (4, 3)).save(folder / "deep.png")
    parquet.write_table(
        pyarrow.table({"image": [(folder / "deep.png").read_bytes()], "label": ["x"]}), folder / "rows.parquet"
    )
    with pytest.raises(DataError, match=r"row 1: the bytes are no image that can be read: its pixels are of mode I;16"):
        load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Images", train="rows.parquet", test="rows.parquet"))


def test_images_named_in_a_table(folder):
    save_image(folder / "img" / "a.png", (9, 8, 7))
    (folder / "train.csv").write_text("file,label\nimg/a.png,x\n")
    table = {"test": "train.csv", "image": "file"}
    corpus = load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Images", **table))
    assert corpus.test.images == (str(folder / "img" / "a.png"),)
    (folder / "train.csv").write_text("file,label\nimg/a.png,x\nimg/b.png,x\n")
    with pytest.raises(DataError, match=r"train\.csv, line 3: there is no image .*b\.png"):
        load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Images", **table))


def test_images_within_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    content = save_image(folder / "a.png", (9, 8, 7))

    def written(picture) -> dict:
        parquet.write_table(pyarrow.table({"image": [picture], "label": [1]}), folder / "x.parquet")
        return {"train": "x.parquet", "test": "x.parquet", "label_names": ["cat", "dog"]}

    for picture in (content, {"bytes": content, "path": "a.png"}, {"bytes": None, "path": "a.png"}):
        corpus = load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Images", **written(picture)))
        assert corpus.test.labels.tolist() == [1]
        image = corpus.test.images[0]
        if not isinstance(image, str):
            assert image.shape == (3, 4, 3)
            assert image[0, 0].tolist() == [9, 8, 7]
    with pytest.raises(DataError, match=r"x\.parquet, row 1: the bytes are no image"):
        load_corpus(config_of(folder, 1, task=f"{folder}/tasks.py:Images", **written(b"no image")))


def real_data(*needed: str) -> Path:
    named = os.environ.get("FEDPEFT_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    for name in needed:
        if not (folder / name).exists():
            pytest.skip(f"no {name} in {folder}: set FEDPEFT_DATA to the folder that holds it")
    return folder


def test_banking77():
    corpus = load_corpus(
        config_of(
            real_data("banking77"),
            clients=50,
            train="banking77/banking77_train.csv",
            test="banking77/banking77_test.csv",
            label="category",
            partition={"name": "dirichlet", "alpha": 0.5},
        )
    )
    assert len(corpus.label_names) == 77
    assert "card arrival" in corpus.label_names
    assert len(corpus.test) == 3080
    assert sum(len(data.train) + len(data.test) for data in corpus.clients.values()) == 10_003
    assert set(np.unique(corpus.test.labels)) == set(range(77))


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ("*.csv", "test.csv", "in data.train and in data.test"),
        (["train.csv", "x.csv"], "train.csv", "in data.train and in data.test"),
        (["train.csv", "tr*.csv"], "test.csv", "twice in data.train"),
        (["train.csv", "./train.csv"], 0.2, "twice in data.train"),
    ],
)
def test_no_file_is_tested_on_and_trained_on_or_dealt_twice(folder, train, test, says):
    with pytest.raises(DataError, match=says) as caught:
        load_corpus(config_of(folder, train=train, test=test))
    assert caught.value.code == "data.overlap"
    assert ".csv is" in caught.value.message


def test_one_name_on_both_sides_is_told(folder):
    corpus = load_corpus(config_of(folder, test="train.csv"))
    assert "tested on train.csv, which clients train on" in corpus.description


def test_two_parts_of_one_file_are_two(tmp_path):
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(20)]
    (tmp_path / "all.json").write_text(json.dumps({"train": rows[:16], "test": rows[16:]}))
    corpus = load_corpus(config_of(tmp_path, source="files", train="all.json#train", test="all.json#test"))
    assert len(corpus.test.texts) == 4
