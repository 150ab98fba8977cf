import json

import pytest
from planting import plant

from lapis.data.sample import Sample
from lapis.datasets.segments import Segment
from lapis.datasets.wenetspeech import WenetSpeech

PATH = "audio/train/youtube/B00000/Y0000000000_--5llN02F84.opus"


def tree(root):
    content = {
        "audios": [
            {
                "aid": "Y0000000000_--5llN02F84",
                "duration": 2494.57,
                "path": PATH,
                "url": "https://www.youtube.com/watch?v=--5llN02F84",
                "segments": [
                    {
                        "sid": "Y0000000000_--5llN02F84_S00000",
                        "confidence": 1.0,
                        "begin_time": 20.08,
                        "end_time": 24.4,
                        "subsets": ["L"],
                        "text": "今天天气很好",
                    }
                ],
            }
        ]
    }
    plant(root / "WenetSpeech", {"WenetSpeech.json": json.dumps(content, ensure_ascii=False)}, (PATH,))
    return [WenetSpeech("L")]


def test_a_segment(data):
    text = "今天天气很好"
    (sample,) = tree(data)[0].build()
    assert sample == Sample(
        key="Y0000000000_--5llN02F84_S00000",
        audio=Segment(data / "WenetSpeech" / PATH, 20.08, 24.4 - 20.08),
        captions={"zho_Hans": (text,)},
        seconds=24.4 - 20.08,
        domain="speech",
        language="zho_Hans",
        transcript=text,
        source="youtube:--5llN02F84",
        split="L",
    )


def test_a_subset_that_has_nothing(data):
    tree(data)
    with pytest.raises(ValueError, match=r"WenetSpeech\.json: expected clips, there are none"):
        WenetSpeech("DEV").build()
