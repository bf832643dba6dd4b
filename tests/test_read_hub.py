"""Hub data sets through `datasets`, without a network: a stand-in for `load_dataset` gives or fails."""

import pytest

from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source, splits_of
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
    with pytest.raises(UserError, match=r"hub:me/it: which split is meant\?; found 'train', 'test'"):
        open_source("hub:me/it")
    with pytest.raises(UserError, match=r"no split 'dev'"):
        open_source("hub:me/it[dev]")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']\nExample"),
            "which configuration is meant?; found 'a', 'b'. Set data.config",
        ),
        (RuntimeError("Dataset scripts are no longer supported, but found it.py"), "we run no code of a data set"),
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
