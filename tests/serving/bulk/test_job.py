"""What a job may be, and what it says of labels: rules over addresses, so any part can be made anywhere."""

from collections import Counter
from typing import Any

import pytest

from serving.bulk.errors import BulkError
from serving.bulk.job import MAX_SHARDS, Subject, plan
from serving.bulk.labels import LabelRule, label_rule
from serving.bulk.progress import duration, size

CLASSES = ("zero", "one", "2", "1")
PLAIN = Subject("plain", "f" * 64, 16, 16, 1, None, False)
CLASSED = Subject("classed", "f" * 64, 16, 16, 1, CLASSES, False)
TOP = 2**64 - 1


def test_a_range_is_cut_into_shards_that_follow_each_other():
    shards = plan(PLAIN, n=25, seed=7, start=100, shard_size=10).shards()
    assert [(shard.number, shard.start, shard.n) for shard in shards] == [(0, 100, 10), (1, 110, 10), (2, 120, 5)]
    assert [shard.name for shard in shards] == ["shard-000000", "shard-000001", "shard-000002"]
    assert plan(PLAIN, n=10_000, seed=7).shards()[0].n == 10_000 == plan(PLAIN, n=10_001, seed=7).shard_size


def test_a_range_may_end_with_the_last_address():
    (shard,) = plan(PLAIN, n=3, seed=TOP, start=TOP - 2).shards()
    assert shard.start + shard.n == 2**64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, r"`n` \(=0\) must be between 1 and"),
        ({"seed": -1}, r"`seed` \(=-1\) must be between 0 and 18446744073709551615"),
        ({"n": 2, "start": TOP}, r"`start` \(=18446744073709551615\) must be between 0 and 18446744073709551614"),
        ({"shard_size": 0}, r"`shard_size` \(=0\) must be between 1 and"),
        ({"n": MAX_SHARDS + 1, "shard_size": 1}, r"`shard_size` \(=1\) gives more than 1,000,000 shards"),
        ({"format": "zip"}, r"`format` \(=zip\) must be one of webdataset, parquet, npy, files"),
        ({"image": "gif"}, r"`image` \(=gif\) must be one of png, webp"),
        ({"image": "png", "format": "npy"}, r"`image` \(=png\) is for the other formats"),
        ({"truncation": 0.5}, r"`truncation` \(=0.5\) is for style models; plain is not one"),
        ({"labels": "1"}, r"`labels` \(=1\) is for conditional models; plain has no classes"),
    ],
)
def test_what_cannot_be_is_told_with_what_would_be_right(options: dict[str, Any], message: str):
    with pytest.raises(BulkError, match=message):
        plan(PLAIN, **(dict[str, Any](n=5, seed=7) | options))


@pytest.mark.parametrize("label", ["four", "4", "-1", "", "²"])
def test_a_label_that_is_none_is_told(label: str):
    with pytest.raises(
        BulkError, match=r"must be an index between 0 and 3, one of zero, one, 2, 1, `balanced` or `drawn`"
    ):
        plan(CLASSED, n=5, seed=7, labels=f"0,{label}")


def test_a_fixed_list_is_given_out_by_index_and_names_go_first():
    rule = label_rule("one,1,0", "m", CLASSES)
    assert rule is not None and rule.of(7, 0, 7) == [1, 3, 0, 1, 3, 0, 1]
    assert rule.of(7, 5, 2) == rule.of(8, 5, 2) == rule.of(7, 0, 7)[5:]


def test_balanced_is_every_class_in_turn():
    assert LabelRule("balanced", 4).of(7, 6, 5) == [2, 3, 0, 1, 2]
    assert label_rule(None, "m", CLASSES) == label_rule("balanced", "m", CLASSES) == LabelRule("balanced", 4)


def test_drawn_labels_follow_from_the_address_alone():
    rule = LabelRule("drawn", 10)
    labels = rule.of(7, 0, 5000)
    assert labels[:8] == [0, 9, 1, 4, 9, 0, 1, 5], "with NumPy 2.4, and for ever"
    assert [rule.of(7, index, 1)[0] for index in (0, 17, 4999)] == [labels[0], labels[17], labels[4999]]
    assert rule.of(7, TOP, 1)[0] in range(10) and rule.of(8, 0, 50) != labels[:50]
    assert all(420 < count < 580 for count in Counter(labels).values()), "each about as often as the others"


def test_sizes_and_times_are_for_people():
    assert [size(n) for n in (12, 2048, 2.5e9, 1e16)] == ["12 B", "2.0 kB", "2.5 GB", "10.0 PB"]
    assert [duration(s) for s in (3, 90, 16920, 3e5)] == ["3 s", "2 min", "4 h 42 min", "3.5 days"]
