import pytest
from planting import plant, speech

from lapis.datasets.reading import MissingClips
from lapis.datasets.voxforge import VoxForge

OPTIONAL = {"PROMPTS", "prompts-original"}  # a session without prompts is not there


def tree(root):
    plant(
        root / "voxforge",
        {
            "de/Aaron-20080318-kdl/etc/PROMPTS": "Aaron-20080318-kdl/mfc/de5-01 GRÜN WAR DIE WIESE\n",
            "de/Main/16kHz_16bit/anonymous-20120515-xyz/etc/prompts-original": "b0019 Guten Tag\n",
        },
        ("de/Aaron-20080318-kdl/wav/de5-01.wav", "de/Main/16kHz_16bit/anonymous-20120515-xyz/flac/b0019.flac"),
    )
    return [VoxForge("de")]


def test_sessions_at_any_depth(data):
    source = tree(data)[0]
    # Where a session has both, the first counts.
    plant(data / "voxforge", {"de/Aaron-20080318-kdl/etc/prompts-original": "de5-01 Grün war die Wiese.\n"})
    common = {"language": "deu_Latn", "label": "deu_Latn", "split": "all"}
    first, second = source.build()
    session = "Aaron-20080318-kdl"
    assert first == speech(
        data / "voxforge/de" / session,
        "wav/de5-01.wav",
        f"{session}/de5-01",
        "GRÜN WAR DIE WIESE",
        speaker="Aaron",
        source=session,
        **common,
    )
    assert (second.speaker, second.transcript, second.audio.path.name) == (None, "Guten Tag", "b0019.flac")


def test_what_cannot_be_used_is_counted(data):
    source = tree(data)[0]
    plant(
        data / "voxforge", {"de/a-20080101-abc/etc/PROMPTS": "a/mfc/b1 NO SOUND\n"}, ("de/b-20080101-abc/wav/b1.wav",)
    )
    (data / "voxforge/de/Aaron-20080318-kdl/etc/PROMPTS").write_bytes("x/mfc/de5-01 GRÜN\n".encode("latin-1"))
    with pytest.warns(MissingClips) as warnings:
        assert len(source.build()) == 1
    first, second = (str(warning.message) for warning in warnings)
    assert "2 sessions" in first and "de/b-20080101-abc has no prompts" in first
    assert "1 of 2 clips" in second
