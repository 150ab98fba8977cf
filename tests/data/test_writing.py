import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lapis.data.keys import LONGEST_KEY_BYTES, in_utf8, original_key, safe_key
from lapis.data.listing import Listing
from lapis.data.shards import open_shard, records
from lapis.data.sources import Tars
from lapis.data.writing import index_path, shard_writer


def _write(path, samples):
    with shard_writer(path) as shard:
        keys = [shard.add(key, sound, suffix="opus", words=words) for key, sound, words in samples]
    return keys, shard.written()


ANY_KEY = st.text(st.characters(codec=None), max_size=300)


@given(st.lists(st.tuples(ANY_KEY, st.binary(max_size=700)), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_keys_and_contents_come_back_with_and_without_the_index(tmp_path, contents):
    path = tmp_path / "any.tar"
    samples = [(key, sound, {"seconds": 1.5, "domain": "sound", "n": n}) for n, (key, sound) in enumerate(contents)]
    keys, written = _write(path, samples)
    assert len(set(keys)) == len(keys) == written.num_records
    assert path.stat().st_size == written.size
    from_index = open_shard(str(path))
    assert from_index.path == index_path(path)  # not one that was made by looking through the tar
    with_index = [(record.key, record.members) for record in records(path)]
    index_path(path).unlink()
    assert [(record.key, record.members) for record in records(path)] == with_index
    assert [key for key, _ in with_index] == keys
    # What they were called is known again, of equal ones too.
    again = [original_key(key, {"key": in_utf8(of)}) for key, (of, _) in zip(keys, contents, strict=True)]
    assert again == [in_utf8(of) for of, _ in contents]
    for (_, members), (_, sound) in zip(with_index, contents, strict=True):
        assert members["opus"].open() == sound


def test_the_index_says_what_one_made_from_the_tar_says(tmp_path):
    words = [{"seconds": 0.5, "domain": "music"}, {"seconds": 2.0}, {"domain": "speech", "seconds": 1.0}]
    _write(tmp_path / "a.tar", [(f"töne/{n}", b"x" * 600 * n, of) for n, of in enumerate(words)])
    written = open_shard(str(tmp_path / "a.tar"))
    bytes_written = index_path(tmp_path / "a.tar").read_bytes()
    index_path(tmp_path / "a.tar").unlink()
    made = open_shard(str(tmp_path / "a.tar"))
    assert made.path != written.path
    assert (made.samples, made.shares, made.domains) == (3, written.shares, written.domains)
    from lapis.data.shards import index_shard

    assert index_shard(tmp_path / "a.tar").read_bytes() == bytes_written


@given(ANY_KEY)
def test_a_safe_key_is_one_and_stays(key):
    safe = safe_key(key)
    assert safe == safe_key(safe) and 0 < len(safe.encode()) <= LONGEST_KEY_BYTES
    assert "." not in safe.rpartition("/")[2] and not {"", ".", ".."} & set(safe.split("/"))


@pytest.mark.parametrize("key", ["clip 3", "a/b c/Yabc-_123", "töne/音"])
def test_an_ordinary_key_is_kept(key):
    assert safe_key(key) == key


def test_keys_that_would_meet_are_told_apart(tmp_path):
    given = ["a.b", "a_b", "a.b", "a_b-2"]
    keys, _ = _write(tmp_path / "a.tar", [(key, b"1", {"key": key}) for key in given])
    assert keys == ["a_b", "a_b-2", "a_b-3", "a_b-2-2"]
    assert [sample.key for sample in Tars(str(tmp_path / "a.tar")).build()] == given
    assert [place.key for place in Listing(Tars(str(tmp_path / "a.tar")))] == given


def test_what_others_call_a_key_is_not_believed():
    assert original_key("melody", {"key": "C minor"}) == original_key("melody", {}) == "melody"
    assert original_key("melody-x", {"key": "melody"}) == original_key("melody-x", {"key": 5}) == "melody-x"


def test_nothing_is_there_after_an_error_and_an_old_shard_stays(tmp_path):
    _write(tmp_path / "a.tar", [("old", b"old", {})])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OSError, match="disk"), shard_writer(tmp_path / "a.tar") as shard:
        shard.add("new", b"new", suffix="opus", words={})
        raise OSError("disk")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_programs_read_the_tar(tmp_path):
    _write(tmp_path / "a.tar", [("k" * 190, b"sound", {"seconds": 1.0})])
    with tarfile.open(tmp_path / "a.tar") as tar:
        sound, words = tar.getmembers()
        assert (sound.name, words.name) == ("k" * 190 + ".opus", "k" * 190 + ".json")
        assert (sound.mtime, sound.uid, sound.mode) == (0, 0, 0o644)
        assert tar.extractfile(sound).read() == b"sound"


@pytest.mark.parametrize("key", ["t\udcf6ne", "\udcff\udcfe.b", "音 é"])
def test_a_name_that_is_no_utf8_comes_back_from_the_shard(tmp_path, key):
    with shard_writer(tmp_path / "a.tar") as shard:
        shard.add(key, b"sound", suffix="flac", words={"key": key, "captions": {"eng_Latn": [key]}})
    (sample,) = Tars(str(tmp_path / "a.tar")).build()
    assert (sample.key, sample.captions["eng_Latn"]) == (key, (key,))
