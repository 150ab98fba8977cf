"""What languages are called in English, for models that are told in words which one is wanted."""

_TABLE = """
afr_Latn Afrikaans, als_Latn Albanian, amh_Ethi Amharic, arb_Arab Arabic, azj_Latn Azerbaijani, bel_Cyrl Belarusian,
ben_Beng Bengali, bos_Latn Bosnian, bul_Cyrl Bulgarian, cat_Latn Catalan, ces_Latn Czech, cym_Latn Welsh,
dan_Latn Danish, deu_Latn German, ell_Grek Greek, eng_Latn English, epo_Latn Esperanto, est_Latn Estonian,
eus_Latn Basque, fin_Latn Finnish, fra_Latn French, gla_Latn Scottish Gaelic, gle_Latn Irish, glg_Latn Galician,
guj_Gujr Gujarati, hau_Latn Hausa, heb_Hebr Hebrew, hin_Deva Hindi, hrv_Latn Croatian, hun_Latn Hungarian,
hye_Armn Armenian, ibo_Latn Igbo, ind_Latn Indonesian, isl_Latn Icelandic, ita_Latn Italian, jav_Latn Javanese,
jpn_Jpan Japanese, kan_Knda Kannada, kat_Geor Georgian, kaz_Cyrl Kazakh, khk_Cyrl Mongolian, khm_Khmr Khmer,
kor_Hang Korean, lao_Laoo Lao, lit_Latn Lithuanian, lvs_Latn Latvian, mal_Mlym Malayalam, mar_Deva Marathi,
mkd_Cyrl Macedonian, mlt_Latn Maltese, mya_Mymr Burmese, nld_Latn Dutch, nno_Latn Norwegian Nynorsk,
nob_Latn Norwegian, npi_Deva Nepali, ory_Orya Odia, pan_Guru Punjabi, pbt_Arab Pashto, pes_Arab Persian,
pol_Latn Polish, por_Latn Portuguese, ron_Latn Romanian, rus_Cyrl Russian, sin_Sinh Sinhala, slk_Latn Slovak,
slv_Latn Slovenian, som_Latn Somali, spa_Latn Spanish, srp_Cyrl Serbian, swe_Latn Swedish, swh_Latn Swahili,
tam_Taml Tamil, tel_Telu Telugu, tgl_Latn Filipino, tha_Thai Thai, tur_Latn Turkish, ukr_Cyrl Ukrainian,
urd_Arab Urdu, uzn_Latn Uzbek, vie_Latn Vietnamese, xho_Latn Xhosa, yor_Latn Yoruba, yue_Hant Cantonese,
zho_Hans Simplified Chinese, zho_Hant Traditional Chinese, zsm_Latn Malay, zul_Latn Zulu
"""
NAMES: dict[str, str] = {}
for _entry in _TABLE.replace("\n", " ").split(","):
    _code, _, _name = _entry.strip().partition(" ")
    NAMES[_code] = _name


def english_name(language: str) -> str:
    """The English name of a language.

    Raises:
        ValueError: it is not in the table.
    """
    if language not in NAMES:
        raise ValueError(f"{language} has no English name here: expected one of {', '.join(NAMES)}")
    return NAMES[language]
