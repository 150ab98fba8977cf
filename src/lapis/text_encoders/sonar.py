"""SONAR's text tower (arXiv 2308.11466), the text side of GLAP: 24 layers, one space for 202 languages.

All texts of a batch go through packed, without padding, so a text's vector does not depend on its neighbours.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.files import download, sha256_of
from lapis.layers.positions import SinCos
from lapis.layers.transformer import Relu, Transformer
from lapis.ragged import Ragged

WEIGHTS_ADDRESS = "https://dl.fbaipublicfiles.com/SONAR/sonar_text_encoder.pt"
"""Told by one project that uses it: sha256 b46ffc66abd0519ce6693797eaf8b15da9011159eae18d99900c273a54208bf7."""
TOKENIZER_ADDRESS = "https://dl.fbaipublicfiles.com/SONAR/sentencepiece.source.256000.model"
TOKENIZER_SHA256 = "14bb8dfb35c0ffdea7bc01e56cea38b9e3d5efcdcb9c251d6b40538e1aab555a"
TOKENIZER_NAME = "sentencepiece.source.256000.model"

LANGUAGES: tuple[str, ...] = tuple(
    """
ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab
ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl
bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn
cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn
est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn
gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn
ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab
kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn
kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn
lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn
mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn
nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab quy_Latn
ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn
sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn
szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn
tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn
vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn
""".split()  # noqa: SIM905  (17 lines of words, not 202 of quotes)
)
"""The language codes in the order of their tokens, which follow the pieces of the tokenizer."""

END_OF_TEXT = 3
FIRST_PIECE_SHIFT = 1  # the padding token stands before the pieces of the SentencePiece model
TOKENS_AFTER_LANGUAGES = 3


ROWS_AT_ONCE = 2048
"""Tokens that go through the layers together: enough for the processor, and memory does not grow with the texts."""


class Sonar(nn.Module):
    """Texts to the mean of their tokens, 1024 wide."""

    @dataclass(frozen=True)
    class Config:
        """SONAR's basic encoder: 766,091,264 parameters.

        Args:
            vocabulary: tokens of the embedding: pieces, languages and seven more.
            width: of the rows.
            depth: layers.
            heads: of the attention.
            hidden: width inside the feed-forward.
            max_tokens: a longer text is cut there, its end token too, as the official code does.
            language: the code put before every text. GLAP's code never passed another one, in training or evaluation,
                so for its weights English stands before Chinese and German texts too; the "right" code of a text is
                one that the model has not seen there.
            tokenizer: path of the SentencePiece model; downloaded when first needed if empty.
            trainable: whether gradients reach its weights.
        """

        vocabulary: int = 256_206
        width: int = 1024
        depth: int = 24
        heads: int = 16
        hidden: int = 8192
        max_tokens: int = 514
        language: str = "eng_Latn"
        tokenizer: str = ""
        trainable: bool = True

        def build(self) -> "Sonar":
            """The module of this value, with fresh parameters."""
            return Sonar(self)

        def located_in(self, folder: Path) -> "Sonar.Config":
            """The same, with the tokenizer's path read as one below `folder`."""
            return replace(self, tokenizer=str(folder / self.tokenizer)) if self.tokenizer else self

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.language not in LANGUAGES:
            raise ValueError(f"SONAR has no language {config.language!r}: expected a code such as eng_Latn or zho_Hans")
        self.config = config
        self.width = config.width
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        pairs = config.width // 2
        # fairseq's exponents end at 1, i / (pairs - 1), where those of arXiv 1706.03762 are i / pairs.
        self.positions = SinCos(axes=1, width=config.width, base=10_000 ** (pairs / (pairs - 1)))
        self.transformer = Transformer.Config(
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            hidden=config.hidden,
            norm_epsilon=1e-5,
            feedforward=Relu,
        ).build()
        self.requires_grad_(config.trainable)

    @property
    def identity(self) -> str:
        """Names what comes before the weights: the language and where texts are cut."""
        return f"sonar:{self.config.language}:{self.config.max_tokens}"

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """One vector a text."""
        return self.encode(self.tokenize(texts))

    def tokenize(self, texts: Sequence[str]) -> Ragged:
        """Token ids of each text: the language, the pieces, the end; cut after `max_tokens`."""
        device = self.embedding.weight.device
        return Ragged.pack([torch.tensor(row, device=device) for row in self.token_numbers(texts)])

    def token_numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """The same as lists; takes nothing but the tokenizer."""
        pieces = self._pieces
        language = pieces.get_piece_size() + FIRST_PIECE_SHIFT + LANGUAGES.index(self.config.language)
        return [
            [language, *(piece + FIRST_PIECE_SHIFT for piece in encoded), END_OF_TEXT][: self.config.max_tokens]
            for encoded in pieces.encode(list(texts))
        ]

    def encode(self, tokens: Ragged) -> Float[Tensor, "texts width"]:
        """The mean over all tokens, language and end among them. Texts of like length go together.

        Raises:
            ValueError: a text has more tokens than the positions reach.
        """
        if max(tokens.lengths) > self.config.max_tokens:
            raise ValueError(f"a text of {max(tokens.lengths)} tokens is longer than {self.config.max_tokens}")
        order = sorted(range(len(tokens)), key=tokens.lengths.__getitem__)
        means = torch.cat([self._means(group) for group in tokens.take(order).groups(ROWS_AT_ONCE)])
        return means[torch.tensor(order, device=means.device).argsort()]

    def _means(self, tokens: Ragged) -> Float[Tensor, "texts width"]:
        # fairseq counts from 2, having kept 0 and 1 for padding.
        positions = self.positions(tokens.index_in_item[:, None] + 2)
        embedded = self.embedding(tokens.rows) * self.config.width**0.5
        return self.transformer(Ragged((embedded.float() + positions).to(embedded.dtype), tokens.lengths)).mean()

    def save_assets(self, folder: Path) -> "Sonar.Config":
        """Put the tokenizer into `folder`; returns the config that finds it there (see `located_in`)."""
        source = self._tokenizer_path
        folder.mkdir(parents=True, exist_ok=True)
        if source != folder / TOKENIZER_NAME:
            shutil.copyfile(source, folder / TOKENIZER_NAME)
        return replace(self.config, tokenizer=TOKENIZER_NAME)

    @cached_property
    def _tokenizer_path(self) -> Path:
        if self.config.tokenizer:
            return Path(self.config.tokenizer)
        return download(TOKENIZER_ADDRESS, sha256=TOKENIZER_SHA256)

    @cached_property
    def _pieces(self) -> Any:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise ValueError("SONAR's tokenizer needs an extra: pip install 'lapis-audio[transformers]'") from error
        path = self._tokenizer_path
        if not path.is_file():
            raise ValueError(f"{path}: expected SONAR's SentencePiece model, there is no such file")
        try:
            pieces = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} is not a SentencePiece model (sha256 {sha256_of(path)[:16]})") from error
        expected = pieces.get_piece_size() + FIRST_PIECE_SHIFT + len(LANGUAGES) + TOKENS_AFTER_LANGUAGES
        if expected != self.config.vocabulary:
            raise ValueError(
                f"{path}: a tokenizer of {pieces.get_piece_size():,} pieces belongs to an embedding of {expected:,} "
                f"tokens, this one has {self.config.vocabulary:,}"
            )
        return pieces


_LAYER = {
    "self_attn_layer_norm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.output_proj": "attention.out",
    "ffn_layer_norm": "feedforward_norm",
    "ffn.inner_proj": "feedforward.up",
    "ffn.output_proj": "feedforward.down",
}


def geometry(official: Mapping[str, Tensor]) -> Sonar.Config:
    """The sizes of an official encoder, read from the shapes of its tensors."""
    vocabulary, width = official["encoder_frontend.embed.weight"].shape
    layers = {name.split(".")[2] for name in official if name.startswith("encoder.layers.")}
    hidden = official["encoder.layers.0.ffn.inner_proj.weight"].shape[0]
    return Sonar.Config(vocabulary=vocabulary, width=width, depth=len(layers), heads=width // 64, hidden=hidden)


def renamed(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official SONAR tensors, of fairseq2's layout, under the names of this file."""
    ours: dict[str, Tensor] = {}
    for name, tensor in official.items():
        if name == "encoder_frontend.embed.weight":
            ours["embedding.weight"] = tensor
        elif name.startswith("encoder.layers."):
            _, _, number, rest = name.split(".", 3)
            part, _, leaf = rest.rpartition(".")
            ours[f"transformer.blocks.{number}.{_LAYER.get(part, part)}.{leaf}"] = tensor
        elif name.startswith("layer_norm."):
            ours[f"transformer.norm.{name.removeprefix('layer_norm.')}"] = tensor
        else:
            ours[name] = tensor
    return ours
