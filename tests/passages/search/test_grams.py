"""Search in scripts without spaces between words."""

import json
import sqlite3

import pytest
import tantivy

from fidkit.passages import Corpus
from fidkit.passages.search import lexical
from fidkit.passages.search.grams import asked_of, grams_of, parted

# Sentences and questions in Chinese, Japanese, Thai, Burmese and Khmer.
# fmt: off
ASKED = [
    ('茶树原产于中国西南部的云南省。', '茶树原产于哪里？'),
    ('长城的总长度超过两万公里。', '长城有多长？总长度是多少公里？'),
    ('李白是唐代最著名的诗人之一。', '唐代著名的诗人是谁？'),
    ('上海图书馆每天上午九点开门。', '图书馆几点开门？'),
    ('北京大学成立于一八九八年。', '北京大学是什么时候成立的？'),
    ('长江是亚洲最长的河流，流入东海。', '亚洲最长的河流是哪一条？'),
    ('熊猫主要以竹子为食。', '熊猫吃什么？'),
    ('水在摄氏一百度时沸腾。', '水在多少度沸腾？'),
    ('故宫位于北京市中心。', '故宫在哪里？'),
    ('臺灣最高的山是玉山。', '臺灣最高的山是什麼？'),
    ('富士山は日本で一番高い山です。', '日本で一番高い山は何ですか'),
    ('猫は一日に十六時間ほど眠ります。', '猫は何時間眠りますか'),
    ('夏目漱石は「坊っちゃん」を書きました。', '「坊っちゃん」を書いたのは誰ですか'),
    ('東京タワーの高さは三百三十三メートルです。', '東京タワーの高さは？'),
    ('図書館は月曜日に休館します。', '図書館はいつ休館しますか'),
    ('コーヒーはエチオピアが原産です。', 'コーヒーの原産はどこですか'),
    ('新幹線は東京と大阪を結んでいます。', '新幹線はどこを結んでいますか'),
    ('琵琶湖は日本最大の湖です。', '日本最大の湖は何ですか'),
    ('กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย', 'เมืองหลวงของประเทศไทยคืออะไร'),
    ('แม่น้ำเจ้าพระยาไหลลงสู่อ่าวไทย', 'แม่น้ำเจ้าพระยาไหลลงที่ไหน'),
    ('ช้างเป็นสัตว์ประจำชาติของไทย', 'สัตว์ประจำชาติคืออะไร'),
    ('ห้องสมุดเปิดเวลาเก้าโมงเช้า', 'ห้องสมุดเปิดกี่โมง'),
    ('กาแฟมีถิ่นกำเนิดในเอธิโอเปีย', 'กาแฟมีถิ่นกำเนิดที่ไหน'),
    ('ภูเขาที่สูงที่สุดในประเทศไทยคือดอยอินทนนท์', 'ภูเขาที่สูงที่สุดอยู่ที่ไหน'),
    ('ရန်ကုန်မြို့သည် မြန်မာနိုင်ငံ၏ အကြီးဆုံးမြို့ ဖြစ်သည်။', 'မြန်မာနိုင်ငံ၏ အကြီးဆုံးမြို့ကဘာလဲ'),
    ('ဧရာဝတီမြစ်သည် မြန်မာနိုင်ငံတွင် အရှည်ဆုံးမြစ် ဖြစ်သည်။', 'အရှည်ဆုံးမြစ်က ဘာလဲ'),
    ('ရွှေတိဂုံဘုရားသည် ရန်ကုန်တွင် ရှိသည်။', 'ရွှေတိဂုံဘုရား ဘယ်မှာရှိသလဲ'),
    ('ភ្នំពេញគឺជារាជធានីនៃប្រទេសកម្ពុជា។', 'រាជធានីនៃប្រទេសកម្ពុជាគឺអ្វី'),
    ('ទន្លេមេគង្គហូរកាត់ប្រទេសកម្ពុជា។', 'ទន្លេមេគង្គហូរកាត់ប្រទេសណា'),
    ('អង្គរវត្តស្ថិតនៅខេត្តសៀមរាប។', 'អង្គរវត្តស្ថិតនៅណា'),
]
# fmt: on


def test_questions_find_their_passages(tmp_path):
    rows = tmp_path / "p.jsonl"
    rows.write_text(
        "".join(json.dumps({"id": at, "text": text}) + "\n" for at, (text, _) in enumerate(ASKED))
    )
    with Corpus.build(rows, tmp_path / "c") as corpus:
        found = [corpus.search(question, 1)[0].passage.text for _, question in ASKED]
    assert found == [text for text, _ in ASKED]


def test_words_and_runs_are_parted():
    assert parted("plain naïve text") == ("plain naïve text", [])
    assert parted("iPhone手机 costs 5元") == ("iPhone 手机  costs 5 元 ", ["手机", "元"])


@pytest.mark.parametrize(
    ("run", "grams"),
    [
        ("茶", ["茶"]),
        ("茶来自", ["茶来", "来自", "茶", "来", "自"]),
        ("猫は", ["猫は", "猫"]),
        ("ｶﾀ", ["カタ"]),
        ("กาแฟ", ["กาแ", "าแฟ"]),
        ("ខ្ញុំ\u200bទៅ", ["ខ្ញ", "្ញុ", "ញុំ", "ុំទ", "ំទៅ"]),
    ],
)
def test_grams(run, grams):
    assert grams_of(run) == grams


def test_a_question_asks_for_no_single_characters_of_a_word():
    assert asked_of(["茶来自哪里"]) == ["茶来", "来自"]
    assert asked_of(["猫は何"]) == ["猫は", "猫"]
    assert asked_of(["什么"]) == ["什么"]


def test_a_corpus_of_the_version_before_is_read_again(tmp_path, monkeypatch):
    """Its index knows no pieces, and its passages were cut otherwise."""
    (tmp_path / "a.txt").write_text("tea 茶来自中国。")
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("body", tokenizer_name=lexical._ANALYSER, index_option="freq")
    builder.add_integer_field("row", fast=True)
    builder.add_integer_field("file", indexed=True)
    with monkeypatch.context() as before:
        before.setattr(lexical, "_SCHEMA", builder.build())
        before.setattr(lexical, "parted", lambda text: (text, []))
        Corpus.build(tmp_path / "a.txt", tmp_path / "c").close()
    with sqlite3.connect(tmp_path / "c" / "catalogue.sqlite") as sql:
        sql.execute("UPDATE meta SET value = '1' WHERE key = 'format_version'")
    sql.close()
    with Corpus.open(tmp_path / "c") as new:
        assert (new.info().format_version, new.generation) == (2, 2)
        assert len(new.search("中国")) == len(new.search("tea")) == 1
    with Corpus.build(tmp_path / "a.txt", tmp_path / "c") as again:
        assert (again.report.files_read, again.generation) == (0, 2)
