import pytest

from data.corpus import sound_bytes, tones, write_tar
from lapis.data.folders import Folder
from lapis.data.listing import Listing, Unreadable
from lapis.data.opening import configured, source_at
from lapis.data.sources import HuggingFaceFolder, Table, Tars
from lapis.datasets.pocket import Pocket


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "Söunds 音"
    (folder / "dog").mkdir(parents=True)
    for name in ("dog/a.flac", "dog/b.1.flac", "top.flac", "twice.flac"):
        (folder / name).write_bytes(sound_bytes(0.2))
    (folder / "twice.wav").write_bytes(sound_bytes(0.2, format="WAV"))
    (folder / "dog" / "a.txt").write_text("ein Hund bellt\n\n  zwei Hunde \n", encoding="utf-8")
    return folder


def test_a_folder_of_sounds(sounds):
    samples = source_at(str(sounds), settings=["language=deu_Latn", "labelled=true"]).build()
    assert [sample.key for sample in samples] == ["dog/a", "dog/b.1", "top", "twice.flac", "twice.wav"]
    assert samples[0].captions == {"deu_Latn": ("ein Hund bellt", "zwei Hunde")} and samples[1].captions == {}
    assert [sample.label for sample in samples[:3]] == ["dog", "dog", None]


def test_folders_with_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match="expected sound files, there is none"):
        Folder(str(tmp_path)).build()
    (tmp_path / "a.wav").write_bytes(sound_bytes(0.1, format="WAV"))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe bark")
    with pytest.raises(ValueError, match=r"a\.txt is not text in UTF-8"):
        Folder(str(tmp_path)).build()


def test_what_lies_at_a_path(sounds, tmp_path, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x[1].csv").write_text("audio,words\na.wav,hello\n")
    assert source_at("x[1].csv", settings=["caption=words"]) == Table(str(tmp_path / "x[1].csv"), caption="words")
    (tmp_path / "sh[a]rds").mkdir()
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / "sh[a]rds" / name, tones(2))
    for place, count in (("sh[a]rds", 4), ("sh[a]rds/b.tar", 2), ("sh*/?.tar", 4)):
        source = source_at(place)
        assert isinstance(source, Tars) and len(source.build()) == count
    datasets.Dataset.from_dict({"audio": [{"bytes": b"x", "path": None}], "caption": ["y"]}).save_to_disk("saved")
    assert source_at("saved") == HuggingFaceFolder(str(tmp_path / "saved"))
    assert source_at("s3://bucket/a-*.tar", settings=["domain=music"]) == Tars("s3://bucket/a-*.tar", domain="music")


def test_tars_and_sounds_in_one_folder_are_refused_and_a_folder_is_no_tar(sounds):
    (sounds / "x.tar").mkdir()
    (sounds / "x.tar" / "deep.flac").write_bytes(sound_bytes(0.2))
    assert "x.tar/deep" in [sample.key for sample in source_at(str(sounds)).build()]
    assert [sample.key for sample in source_at(str(sounds / "x.tar")).build()] == ["deep"]
    write_tar(sounds / "a.tar", tones(2))
    with pytest.raises(ValueError, match=r"holds tars \(a\.tar\) and sounds \(dog/a\.flac\): expected one of both"):
        source_at(str(sounds))
    tars = source_at(f"{sounds}/*.tar")
    assert len(tars.build()) == len(list(Listing(tars))) == 2


def test_a_path_in_the_data_folder(root):
    assert len(source_at("pocket/pocket-val-*.tar").build()) == 201


def test_what_is_none(sounds, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the name of a corpus or a path"):
        source_at("nowhere")
    with pytest.raises(ValueError, match="got an empty one"):
        source_at("")
    with pytest.raises(ValueError, match="it is a sound file: give its folder"):
        source_at(str(sounds / "top.flac"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], r"Pocket needs split: train or val or test: say which with --set split=\.\.\."),
        (["split=trai"], r"split: input should be 'train', 'val' or 'test', got 'trai'"),
        (["spilt=train"], r"Pocket has no 'spilt', did you mean 'split'\?; it has split, domain"),
        (["split"], r"expected field=value, got 'split'"),
    ],
)
def test_choices_are_strict(settings, message):
    with pytest.raises(ValueError, match=message):
        configured(Pocket, settings)
    assert configured(Pocket, ["split=val", "domain=null"]) == Pocket("val")


def test_a_listing_knows_what_it_reads(sounds, root, tmp_path):
    assert [path.name for path in Listing(Pocket("test")).paths()] == ["pocket-test-000000.tar"]
    assert list(Listing(Folder(str(sounds))).paths()) == [sounds, sounds / "dog", sounds]


def test_a_listing_gives_a_place_for_what_cannot_be_had(tmp_path):
    write_tar(tmp_path / "a.tar", tones(3))
    (tmp_path / "b.tar").write_text("no tar" * 500)
    (tmp_path / "c.tar").write_bytes(
        write_tar(tmp_path / "d", tones(2)).read_bytes().replace(b"captions", b'captio"s', 1)
    )
    listing = Listing(Tars(f"{tmp_path}/*.tar"))
    places = list(listing)
    assert [isinstance(place, Unreadable) for place in places] == [False, False, False, True, True, False]
    assert listing.total == 6
    assert "is not a whole tar file" in places[3].reason and "clip000.json is not JSON" in places[4].reason
    only = list(Listing(Tars(f"{tmp_path}/a.tar", domain="music")))
    assert [place.domain for place in only] == ["music"]
