import json

import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.fsd50k import Fsd50k

OPTIONAL = {"dev_clips_info_FSD50K.json"}
CC0 = "http://creativecommons.org/publicdomain/zero/1.0/"


def tree(root):
    plant(
        root / "fsd50k",
        {
            "FSD50K.ground_truth/vocabulary.csv": "0,Accelerating_and_revving_and_vroom,/m/07q2z82\n"
            "1,Electric_guitar,/m/02sgy\n2,Guitar,/m/0342h\n3,Music,/m/04rlf\n",
            "FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n"
            '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train\n'
            "16399,Music,/m/04rlf,val\n",
            "FSD50K.ground_truth/eval.csv": 'fname,labels,mids\n37199,"Guitar,Music","/m/0342h,/m/04rlf"\n',
            "FSD50K.metadata/dev_clips_info_FSD50K.json": json.dumps(
                {"64760": {"title": "guitarras_63.wav", "tags": ["electric"], "license": CC0, "uploader": "casualdave"}}
            ),
        },
        ("FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav", "FSD50K.eval_audio/37199.wav"),
    )
    return [Fsd50k("train"), Fsd50k("val"), Fsd50k("test")]


def test_splits_labels_and_licences(data):
    train, val, test = (source.build() for source in tree(data))
    assert train == [
        Sample(
            key="64760",
            audio=Location(data / "fsd50k/FSD50K.dev_audio/64760.wav"),
            label="Electric_guitar;Guitar;Music",
            domain="sound",
            source="freesound:64760",
            licence=CC0,
            split="train",
        )
    ]
    assert [(sample.key, sample.label, sample.licence) for sample in val + test] == [
        ("16399", "Music", None),
        ("37199", "Guitar;Music", None),
    ]


def test_a_label_that_is_not_in_the_vocabulary(data):
    source = tree(data)[2]
    plant(data / "fsd50k", {"FSD50K.ground_truth/eval.csv": "fname,labels,mids\n37199,Kazoo,/m/0\n"})
    with pytest.raises(ValueError, match=r"eval\.csv, clip 37199: 'Kazoo' is not in vocabulary\.csv"):
        source.build()
