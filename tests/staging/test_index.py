"""Which identities are answered, and which inodes were seen under which name."""

from gobblerd.domain.messages import Identity
from gobblerd.staging.index import Index

ONE = Identity("request-a-1", 10, 100, 5, "d1")


def test_a_late_touch_counts_only_for_a_while() -> None:
    """Same name, inode and digest, another mtime."""
    index = Index()
    index.record(ONE, 200, at=1000.0)
    touched = Identity("request-a-1", 10, 101, 5, "d1")
    assert index.find(ONE, 9999.0, 10) is not None
    assert index.find(touched, 1009.0, 10) is not None
    assert index.find(touched, 1011.0, 10) is None
    assert index.find(Identity("request-a-1", 10, 101, 5, "d2"), 1001.0, 10) is None
    assert index.find(Identity("request-a-1", 10, 101, 5, ""), 1001.0, 10) is None


def test_a_request_that_a_power_cut_emptied_stays_answered() -> None:
    """Its client never synced it; its answer must not be replaced by a refusal of the empty file."""
    index = Index()
    index.record(ONE, 200, at=0.0)
    assert index.find(Identity("request-a-1", 10, 100, 0, ""), 9999.0, 10) is not None
    assert index.find(Identity("request-a-1", 11, 100, 0, ""), 9999.0, 10) is None
    assert index.find(Identity("request-a-1", 10, 101, 0, ""), 9999.0, 10) is None


def test_the_first_name_of_an_inode_counts() -> None:
    """At the same mtime and size; unread ones (no digest) count as the same bytes."""
    index = Index()
    index.record(ONE, 200, at=0.0)
    assert index.other_name(Identity("request-b-1", 10, 100, 5, ""), b"") == "request-a-1"
    assert index.other_name(Identity("request-b-1", 10, 100, 5, "d1"), b"") == "request-a-1"
    assert index.other_name(Identity("request-b-1", 10, 101, 5, "d1"), b"") is None
    assert index.other_name(ONE, b"") is None


def test_other_bytes_or_another_handle_are_another_file() -> None:
    """Its number and times may be those of a file removed since."""
    index = Index()
    index.see(ONE, b"handle-1", at=0.0)
    assert index.other_name(Identity("request-b-1", 10, 100, 5, "d2"), b"") is None
    assert index.other_name(Identity("request-b-1", 10, 100, 5, "d1"), b"handle-2") is None
    assert index.other_name(Identity("request-b-1", 10, 100, 5, "d1"), b"handle-1") == "request-a-1"


def test_what_no_response_records_is_forgotten_in_time() -> None:
    """Withdrawn and replaced ones; what is recorded stays until its response goes."""
    index = Index()
    index.record(ONE, 200, at=0.0)
    index.see(Identity("request-c-1", 11, 100, 5), b"", at=0.0)
    index.prune(before=1.0)
    assert index.other_name(Identity("request-b-1", 11, 100, 5), b"") is None
    assert index.other_name(Identity("request-b-1", 10, 100, 5), b"") == "request-a-1"
    index.forget("request-a-1")
    assert index.other_name(Identity("request-b-1", 10, 100, 5), b"") is None
    assert not index.knows(ONE)
