from planting import plant, speech

from lapis.datasets.fluent_speech_commands import FluentSpeechCommands

CLIP = "wavs/speakers/2BqVo8kVB2Skwgyb/0a3129c0-4474-11e9-a9a5-5dbec3b8816a.wav"


def tree(root):
    plant(
        root / "fluent_speech_commands_dataset",
        {
            "data/valid_data.csv": ",path,speakerId,transcription,action,object,location\n"
            f"0,{CLIP},2BqVo8kVB2Skwgyb,Turn the lights on,activate,lights,none\n"
        },
        (CLIP,),
    )
    return [FluentSpeechCommands("valid")]


def test_intents(data):
    assert tree(data)[0].build() == [
        speech(
            data / "fluent_speech_commands_dataset",
            CLIP,
            "0a3129c0-4474-11e9-a9a5-5dbec3b8816a",
            "Turn the lights on",
            label="activate lights",
            speaker="2BqVo8kVB2Skwgyb",
            split="valid",
        )
    ]
