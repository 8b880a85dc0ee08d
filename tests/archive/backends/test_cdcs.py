"""Releases in a CDCS, through the real `cdcs` package, against a local server of its REST calls."""

import hashlib
import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive.backends.curator import PASSWORD, USER, Curator, curating
from archive.backends.shelf import CONTENT, read_archive, write_archive

from gobblerd.archive import CDCSArchive, Forbidden, Invalid, get_backend, mirror, verify_releases
from gobblerd.domain.version_spec import VersionSpec

with warnings.catch_warnings():  # of what `cdcs` imports; not ours to mend
    warnings.simplefilter("ignore")
    import cdcs

assert cdcs.__version__


@pytest.fixture
def curator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Curator]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with curating() as found:
        yield found


@pytest.fixture
def here(curator: Curator) -> CDCSArchive:
    return CDCSArchive(curator.url, USER, PASSWORD)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    write_archive(tmp_path / "shelf", "lab", "fit", "0.9.1", "0.10.0", "1.0.0-rc.1")
    return tmp_path / "shelf"


def test_releases_go_there_and_come_back(
    here: CDCSArchive, curator: Curator, shelf: Path, tmp_path: Path
) -> None:
    """Every release is published with its files, each content once, and read back whole."""
    done = mirror(str(shelf), here, "lab/fit")
    assert [one.outcome for one in done] == ["copied"] * 3
    other = tmp_path / "other"
    other.mkdir()
    (other / ".rmearchive").touch()
    back = mirror(here, str(other), "lab/fit")
    assert [(one.version, one.outcome) for one in back] == [
        ("0.9.1", "copied"),
        ("0.10.0", "copied"),
        ("1.0.0-rc.1", "copied"),
    ]
    assert read_archive(other, "lab", "fit") == read_archive(shelf, "lab", "fit")
    assert sorted(blob["data"] for blob in curator.blobs.values()) == sorted(
        data for data in CONTENT.values() if data
    )
    assert [one.outcome for one in mirror(str(shelf), here, "lab/fit")] == ["there"] * 3
    assert [one.outcome for one in verify_releases(here, "lab/fit")] == ["there"] * 3


def test_what_is_published_is_what_rmellipse_reads(here: CDCSArchive, curator: Curator, shelf: Path) -> None:
    """Records, blobs and the blobs' metadata have its keys, templates and workspaces."""
    mirror(str(shelf), here, "lab/fit/0.9.1")
    releases = [record for record in curator.records if record["template"] == 3]
    metadata = [record for record in curator.records if record["template"] == 2]
    [release] = releases
    assert (release["title"], release["workspace"]) == ("fit-v0.9.1", 2)
    content = json.loads(release["content"])
    assert set(content) == {
        "title", "title_versionless", "version", "workflow_config_path", "workflow", "requirements", "project",
        "datasets",
    }  # fmt: skip
    assert content["project"]["empty.txt"]["/bpid/"] is None
    for item in (content["project"]["README.md"], content["project"]["data"]["spectrum.csv"]):
        [blob] = [blob for blob in curator.blobs.values() if blob["pid"] == item["/bpid/"]]
        assert (blob["workspace"], len(blob["data"])) == (2, item["/bytes/"])
        [said] = [record for record in metadata if record["id"] in blob["metadata"]]
        assert json.loads(said["content"]) == {
            "sha1": hashlib.sha256(blob["data"]).hexdigest(),
            "blob/PID/": item["/bpid/"],
            "/bytes/": item["/bytes/"],
        }
        assert said["title"] == f"{blob['filename']}-meta"


def test_releases_are_listed(here: CDCSArchive, curator: Curator, shelf: Path) -> None:
    """By precedence, of one workspace, over several pages; of two records of one title the newer counts."""
    mirror(str(shelf), here, "lab/fit")
    [record] = [one for one in curator.records if one["title"] == "fit-v0.9.1"]
    content = json.loads(record["content"])
    curator.add_record("fit-v0.9.1", 3, content, 1)  # another workspace
    for number in range(25):
        version = f"2.{number}.0"
        curator.add_record(
            f"fit-v{version}", 1, {**content, "title": f"fit-v{version}", "version": version}, 2
        )
    curator.add_record("fit-v2.24.0", 3, {**content, "version": "2.24.0", "project": {}}, 2)

    def listed(spec: str) -> list[str]:
        return [one.version for one in here.list_records("lab", "fit", VersionSpec.parse(spec))]

    assert listed("<1") == ["0.9.1", "0.10.0"]
    assert listed(">=2") == [f"2.{number}.0" for number in range(25)]
    assert listed("latest") == ["2.24.0"]
    assert next(here.list_records("lab", "fit", VersionSpec.parse("latest"))).files == ()
    assert list(here.list_records("lab", "none", VersionSpec.parse(None))) == []
    assert {
        file.sha256 for file in next(here.list_records("lab", "fit", VersionSpec.parse("0.9.1"))).files
    } == {hashlib.sha256(data).hexdigest() if data else "" for data in CONTENT.values()}


def test_damage_is_noticed(here: CDCSArchive, curator: Curator, shelf: Path) -> None:
    """A blob that is not what its metadata say, or is on another host, is refused by name."""
    mirror(str(shelf), here, "lab/fit/0.9.1")
    [blob] = [one for one in curator.blobs.values() if one["data"] == CONTENT["csv"]]
    blob["data"] = b"9,9\n"
    [flaw] = verify_releases(here, "lab/fit/0.9.1")
    assert "data/spectrum.csv" in flaw.reason
    assert "sha256" in flaw.reason
    [record] = [one for one in curator.records if one["title"] == "fit-v0.9.1"]
    record["content"] = record["content"].replace(curator.url, "http://elsewhere.example")
    seen = len(curator.seen)
    [flaw] = verify_releases(here, "lab/fit/0.9.1")
    assert "elsewhere.example" in flaw.reason
    assert not any("/pid/" in path for _, path, _ in curator.seen[seen:])
    record["content"] = "not json"
    curator.found = lambda *_: [record]  # type: ignore[method-assign]
    with pytest.raises(Invalid, match="no JSON document"):
        list(here.list_records("lab", "fit", VersionSpec.parse(None)))


def test_passwords(
    curator: Curator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The right one is sent, a wrong one is said to be refused, and without one nothing is asked."""
    with pytest.raises(Forbidden, match="refuses this user and password"):
        CDCSArchive(curator.url, USER, "wrong")
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("GOBBLER_AUTH_LOCALHOST", f"{USER}:{PASSWORD}")
    list(get_backend(f"cdcs+{curator.url}").list_records("lab", "fit", VersionSpec.parse(None)))
    assert curator.seen[-1][2] == USER
    monkeypatch.delenv("GOBBLER_AUTH_LOCALHOST")
    curator.private = False
    found = get_backend(curator.url)
    assert isinstance(found, CDCSArchive)
    assert list(found.list_records("lab", "fit", VersionSpec.parse(None))) == []
    assert curator.seen[-1][2] is None


def test_an_instance_that_fails(here: CDCSArchive, curator: Curator, shelf: Path) -> None:
    """Its answer is told, and the release is not there."""
    curator.add_blob = None  # type: ignore[assignment,method-assign]
    [failed, *_] = mirror(str(shelf), here, "lab/fit/0.9.1")
    assert failed.outcome == "failed"
    assert curator.url in failed.reason
    assert not [record for record in curator.records if record["template"] == 3]


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed: TLS of a CDCS (NOT TESTED)"
)
def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose certificate nobody vouches for gets no password; one that is trusted is used."""
    pem = str(tmp_path / "both.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", pem, "-out", f"{pem}.cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    with open(pem, "a", encoding="ascii") as file, open(f"{pem}.cert", encoding="ascii") as certificate:
        file.write(certificate.read())
    with curating(pem) as curator:
        with pytest.raises(OSError, match="is not trusted"):
            CDCSArchive(curator.url, USER, PASSWORD)
        assert curator.seen == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{pem}.cert")
        found = CDCSArchive(curator.url, USER, PASSWORD)
        assert list(found.list_records("lab", "fit", VersionSpec.parse(None))) == []
