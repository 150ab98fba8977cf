"""Codes of languages as corpora write them (`de`, `zh-CN`, `pa_in`), as FLORES-200 codes (`deu_Latn`).

Where FLORES-200 has no such language the code has the same form: ISO 639-3 and the script.
"""

from lapis.values import nearest

_TABLE = """
aa aar_Latn  ab abk_Cyrl  af afr_Latn  am amh_Ethi  ar arb_Arab  as asm_Beng  ast ast_Latn  ay ayr_Latn
az azj_Latn  ba bak_Cyrl  bas bas_Latn  be bel_Cyrl  bg bul_Cyrl  bh bho_Deva  bi bis_Latn  bm bam_Latn
bn ben_Beng  bo bod_Tibt  br bre_Latn  bs bos_Latn  ca cat_Latn  ceb ceb_Latn  ckb ckb_Arab  cmn zho_Hans
cmn_hans zho_Hans  cnh cnh_Latn  co cos_Latn  cs ces_Latn  cv chv_Cyrl  cy cym_Latn  da dan_Latn  de deu_Latn
dv div_Thaa  dz dzo_Tibt  ee ewe_Latn  el ell_Grek  en eng_Latn  eo epo_Latn  es spa_Latn  et est_Latn
eu eus_Latn  fa pes_Arab  ff fuv_Latn  fi fin_Latn  fil tgl_Latn  fj fij_Latn  fo fao_Latn  fr fra_Latn
fy fry_Latn  ga gle_Latn  gd gla_Latn  gl glg_Latn  gn grn_Latn  gu guj_Gujr  ha hau_Latn  he heb_Hebr
hi hin_Deva  hr hrv_Latn  hsb hsb_Latn  ht hat_Latn  hu hun_Latn  hy hye_Armn  ia ina_Latn  id ind_Latn
ie ile_Latn  ig ibo_Latn  ik ipk_Latn  is isl_Latn  it ita_Latn  iu iku_Cans  iw heb_Hebr  ja jpn_Jpan
jv jav_Latn  jw jav_Latn  ka kat_Geor  kab kab_Latn  kam kam_Latn  kea kea_Latn  ki kik_Latn  kk kaz_Cyrl
kl kal_Latn  km khm_Khmr  kmr kmr_Latn  kn kan_Knda  ko kor_Hang  ks kas_Deva  ku kmr_Latn  ky kir_Cyrl
la lat_Latn  lb ltz_Latn  lg lug_Latn  lij lij_Latn  ln lin_Latn  lo lao_Laoo  lt lit_Latn  ltg ltg_Latn
luo luo_Latn  lv lvs_Latn  mdf mdf_Cyrl  mg plt_Latn  mhr mhr_Cyrl  mi mri_Latn  mk mkd_Cyrl  ml mal_Mlym
mn khk_Cyrl  mr mar_Deva  mrj mrj_Cyrl  ms zsm_Latn  mt mlt_Latn  my mya_Mymr  myv myv_Cyrl  na nau_Latn
nan nan_Hant  nb nob_Latn  ne npi_Deva  nl nld_Latn  nn nno_Latn  no nob_Latn  nso nso_Latn  nv nav_Latn
ny nya_Latn  oc oci_Latn  om gaz_Latn  or ory_Orya  os oss_Cyrl  pa pan_Guru  pl pol_Latn  ps pbt_Arab
pt por_Latn  qu quy_Latn  quy quy_Latn  rm roh_Latn  rn run_Latn  ro ron_Latn  ru rus_Cyrl  rw kin_Latn
sa san_Deva  sah sah_Cyrl  sat sat_Olck  sc srd_Latn  sd snd_Arab  sg sag_Latn  si sin_Sinh  sk slk_Latn
skr skr_Arab  sl slv_Latn  sm smo_Latn  sn sna_Latn  so som_Latn  sq als_Latn  sr srp_Cyrl  st sot_Latn
su sun_Latn  sv swe_Latn  sw swh_Latn  ta tam_Taml  te tel_Telu  tg tgk_Cyrl  th tha_Thai  ti tir_Ethi
tig tig_Ethi  tk tuk_Latn  tl tgl_Latn  tn tsn_Latn  to ton_Latn  tok tok_Latn  tr tur_Latn  ts tso_Latn
tt tat_Cyrl  tw twi_Latn  ug uig_Arab  uk ukr_Cyrl  umb umb_Latn  ur urd_Arab  uz uzn_Latn  ve ven_Latn
vi vie_Latn  vo vol_Latn  vot vot_Latn  wo wol_Latn  xh xho_Latn  yi ydd_Hebr  yo yor_Latn  yue yue_Hant
yue_hant yue_Hant  za zha_Latn  zgh zgh_Tfng  zh zho_Hans  zh_cn zho_Hans  zh_hk yue_Hant  zh_tw zho_Hant
zu zul_Latn
"""
_WORDS = _TABLE.split()
CODES = dict(zip(_WORDS[::2], _WORDS[1::2]))
"""By the code in small letters, a place or script behind an underscore where it matters."""


def flores(code: str) -> str:
    """The FLORES-200 code of a language; a place that makes no difference is left away (`sv-SE`, `es_419`).

    Raises:
        ValueError: the language is not in the table.
    """
    plain = code.lower().replace("-", "_")
    while plain:
        if plain in CODES:
            return CODES[plain]
        plain = plain.rpartition("_")[0]
    raise ValueError(f"no language {code!r}{nearest(code, list(CODES))}: expected a code such as 'de' or 'zh-CN'")


def short_codes() -> dict[str, str]:
    """By the FLORES-200 code what models of translation call a language: the shortest code of the table, `de`, `zh`."""
    short: dict[str, str] = {}
    for code, language in CODES.items():
        if "_" not in code and len(code) < len(short.get(language, "xxxxx")):
            short[language] = code
    return short | {"heb_Hebr": "he", "jav_Latn": "jv", "nob_Latn": "no", "nso_Latn": "ns", "ssw_Latn": "ss"}
