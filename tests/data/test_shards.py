import io
import os
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus import tones, write_tar
from lapis.data.shards import index_shard, open_shard, records
from lapis.data.sources import Tars


def test_every_member_is_found_at_its_place(tmp_path):
    samples = tones(5)
    path = write_tar(tmp_path / "a b 音.tar", samples)
    for _ in range(2):  # the second time from the cached index
        found = records(path)
        assert [record.key for record in found] == list(samples)
        for record in found:
            assert record.members["flac"].open() == samples[record.key][0]
    assert str(found[0].members["flac"]) == f"{path}:clip000.flac"


KEYS = st.text(st.characters(blacklist_characters="/.\0", blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30)


@given(st.dictionaries(KEYS, st.binary(max_size=1500), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_names_and_sizes(tmp_path, contents):
    path = tmp_path / "any.tar"
    path.unlink(missing_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, content in contents.items():
            member = tarfile.TarInfo(f"folder/{key}.tar.gz")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found = records(path)
    assert {record.key: record.members["tar.gz"].open() for record in found} == {
        f"folder/{key}": content for key, content in contents.items()
    }


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.97])
def test_a_tar_cut_short_is_refused_with_the_place(tmp_path, keep):
    path = write_tar(tmp_path / "whole.tar", tones(6, seconds=1.0))
    cut = tmp_path / "cut.tar"
    with tarfile.open(path) as tar:
        end = max(member.offset_data + member.size for member in tar)
    cut.write_bytes(path.read_bytes()[: int(end * keep)])
    with pytest.raises(ValueError, match=r"cut\.tar (is cut short|is not a whole tar)"):
        records(cut)


def test_a_tar_cut_between_two_samples_is_refused(tmp_path):
    path = write_tar(tmp_path / "whole.tar", tones(3))
    with tarfile.open(path) as tar:
        begin_of_last = tar.getmembers()[-2].offset
    cut = tmp_path / "cut.tar"
    cut.write_bytes(path.read_bytes()[:begin_of_last])
    with pytest.raises(ValueError, match="expected an end mark"):
        records(cut)


def test_a_member_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.tar"
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            member = tarfile.TarInfo("a.json")
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
    with pytest.raises(ValueError, match=r"holds a\.json twice"):
        records(path)


def test_no_tar_and_no_tar_at_all(tmp_path):
    with pytest.raises(ValueError, match="expected a tar file, there is none"):
        records(tmp_path / "nothing.tar")
    (tmp_path / "text.tar").write_text("hello " * 500)
    with pytest.raises(ValueError, match=r"text\.tar is not a whole tar file"):
        records(tmp_path / "text.tar")


def test_a_changed_tar_gets_a_new_index(tmp_path):
    path = write_tar(tmp_path / "shard.tar", tones(2))
    assert len(records(path)) == 2
    write_tar(path, tones(4))
    assert len(records(path)) == 4


def test_an_index_beside_a_tar_that_was_replaced_is_not_taken(tmp_path):
    path = write_tar(tmp_path / "shard.tar", tones(3))
    index_shard(path)
    assert open_shard(str(path)).path.parent == tmp_path
    size, state = path.stat().st_size, path.stat()
    write_tar(path, dict(reversed(tones(3).items())))  # the same clips in another order
    assert path.stat().st_size == size
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 1))  # as `rsync -t` leaves it
    found = records(path)
    assert [record.key for record in found] == ["clip002", "clip001", "clip000"]
    assert found[0].members["flac"].open() == tones(3)["clip002"][0]


def _with_links(path, kind):
    """A tar as GNU tar writes it of two names of one file."""
    samples = tones(1)
    with tarfile.open(path, "w") as tar:
        for key in ("a", "b"):
            for suffix, content in zip(("flac", "json"), (samples["clip000"][0], b'{"seconds": 0.3}')):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                if key == "b":
                    member.type, member.linkname = kind, f"a.{suffix}"
                else:
                    member.size = len(content)
                tar.addfile(member, io.BytesIO(content) if key == "a" else None)
    return samples["clip000"][0]


def test_hard_links_are_what_they_lead_to(tmp_path):
    sound = _with_links(tmp_path / "a.tar", tarfile.LNKTYPE)
    assert [(one.key, one.members["flac"].open()) for one in records(tmp_path / "a.tar")] == [
        ("a", sound),
        ("b", sound),
    ]
    assert [sample.seconds for sample in Tars(f"{tmp_path}/a.tar").build()] == [0.3, 0.3]
    content = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        cut = tar.getmember("b.flac").offset
    (tmp_path / "b.tar").write_bytes(content[cut:])
    with pytest.raises(ValueError, match=r"b\.flac is a\.flac again, which it does not hold"):
        records(tmp_path / "b.tar")


def test_symbolic_links_and_sparse_files_are_refused(tmp_path):
    _with_links(tmp_path / "a.tar", tarfile.SYMTYPE)
    with pytest.raises(ValueError, match=r"holds b\.flac as a link to a\.flac: expected files"):
        records(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.json")
        member.size, member.pax_headers = 512, {"GNU.sparse.map": "0,512", "GNU.sparse.size": "9000"}
        tar.addfile(member, io.BytesIO(b" " * 512))
    with pytest.raises(ValueError, match=r"holds a\.json as a sparse file"):
        records(tmp_path / "b.tar")


def test_a_shard_that_shrank_after_it_was_indexed_is_named(tmp_path):
    path = write_tar(tmp_path / "shard.tar", tones(2))
    place = records(path)[1].members["flac"]
    path.write_bytes(path.read_bytes()[: place.offset + 5])
    with pytest.raises(ValueError, match=r"clip001\.flac: expected \d+ bytes at \d+, only 5 are there"):
        place.open()


def test_a_tar_cut_anywhere_before_its_end_mark_is_refused(tmp_path):
    path = write_tar(tmp_path / "whole.tar", tones(2, seconds=0.05))
    with tarfile.open(path) as tar:
        places = [(member.offset, member.offset_data + member.size) for member in tar.getmembers()]
    end = -(-places[-1][1] // 512) * 512
    # Around every border of the tar's blocks, within headers, within members, within padding and the end mark.
    for at in sorted({max(1, border + step) for place in places for border in place for step in (-1, 0, 1, 300)}):
        cut = tmp_path / "cut.tar"
        cut.write_bytes(path.read_bytes()[: min(at, end + 511)])
        with pytest.raises(ValueError, match=r"cut\.tar (is cut short|is not a whole tar)"):
            records(cut)
