"""Hub data sets through `datasets`, without a network: a stand-in for `load_dataset` gives or fails."""

import pytest

from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source, splits_of
from tunewright.reading.formats import hub as reader
from tunewright.records import Row

datasets = pytest.importorskip("datasets")


@pytest.fixture
def hub(monkeypatch):
    """Answers like the Hub; `hub.calls` has what was asked, `hub.error` is raised where set."""

    class Hub:
        def __init__(self):
            self.calls, self.error = [], None

        def load_dataset(self, path, name=None, revision=None, streaming=None, **other):
            assert not other, "nothing else is passed, trust_remote_code least of all"
            self.calls.append((path, name, revision, streaming))
            if self.error:
                raise self.error
            features = datasets.Features(
                {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
            )
            data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
            return datasets.DatasetDict(train=data, test=data.select([1]))

    answers = Hub()
    monkeypatch.setattr(datasets, "load_dataset", answers.load_dataset)
    monkeypatch.setattr(reader, "_is_reached", lambda: True)
    return answers


def test_a_split_of_a_hub_data_set(hub):
    source = open_source("hub:me/it", ReadOptions(config="plain", revision="v1", split="test"))
    assert hub.calls == [("me/it", "plain", "v1", False)]
    assert list(source.rows()) == [Row("hub:me/it[test]", 1, {"text": "b", "label": 1})]
    assert (source.format, source.columns) == ("hub", ("text", "label"))
    assert (source.class_names, source.files()) == ({"label": ("neg", "pos")}, [])
    assert open_source("hub:me/it[train]").row_at(2).fields["text"] == "b"
    assert splits_of("hub:me/it") == ("train", "test")


def test_a_split_that_is_missing_lists_those_there_are(hub):
    with pytest.raises(UserError, match=r"hub:me/it: the data set has several splits; found 'train', 'test'"):
        open_source("hub:me/it")
    with pytest.raises(UserError, match=r"no split 'dev'"):
        open_source("hub:me/it[dev]")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']\nExample"),
            "the data set has several configurations; found 'a', 'b'. Set data.config",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found it.py"),
            "does not run the code of data sets",
        ),
        (ConnectionError("Couldn't reach 'me/it' on the Hub (OfflineModeIsEnabled)"), "the Hub cannot be reached"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'me/it' doesn't exist"), "no such data set on the Hub"),
        (KeyError("x"), "cannot be loaded (KeyError: 'x'). Download one of its files"),
    ],
)
def test_what_fails_is_a_user_error(hub, error, message):
    hub.error = error
    with pytest.raises(UserError) as raised:
        open_source("hub:me/it")
    assert "hub:me/it: " in str(raised.value) and message in str(raised.value)


@pytest.fixture
def unreached(hub, monkeypatch, tmp_path):
    """No network, and caches in folders of the test."""
    from huggingface_hub import constants

    monkeypatch.setattr(reader, "_is_reached", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    return hub


def test_without_a_network_and_a_cache_it_is_said_at_once(unreached):
    with pytest.raises(UserError, match=r"hub:me/it.*: the Hub cannot be reached. It is not in the cache"):
        open_source("hub:me/it[train]")
    assert unreached.calls == []


@pytest.mark.parametrize("cached", ["hub/datasets--me--MyData", "datasets/me___my_data"])
def test_without_a_network_the_cache_is_read_offline(unreached, monkeypatch, tmp_path, cached):
    from huggingface_hub import constants

    (tmp_path / cached).mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    offline = []

    def load(*words, **named):
        offline.append((constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        return unreached.load_dataset(*words, **named)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(list(open_source("hub:me/MyData[train]").rows())) == 2
    assert offline == [(True, True)]
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def test_a_closed_port_is_no_hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    assert not reader._is_reached()
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert reader._is_reached()
