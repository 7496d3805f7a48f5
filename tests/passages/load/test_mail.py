import pytest

from documents import blocks, mail, one, read, texts
from fidkit.passages.load.record import UnreadableFile


def test_headers_text_and_quotes():
    message = mail(From="Ada Ö <ada@x.org>", To="b@x.org", Date="Mon, 04 Mar 2024 10:00:00 +0100")
    message.set_content("Hello,\n\nthe text.\n\n> quoted\n> more\n")
    message.add_alternative("<p>other</p>", subtype="html")
    document = one(bytes(message), "a.eml")
    assert document.title == "Über Häfen"
    assert document.facts == {
        "from": "Ada Ö <ada@x.org>",
        "to": "b@x.org",
        "date": "2024-03-04T10:00:00+01:00",
    }
    assert texts(document) == ["Hello,", "the text.", "> quoted\n> more"]
    (part,) = document.places
    assert (part.kind, part.label) == ("part", "1")
    assert document.text[part.start : part.end].startswith("Hello,")


def test_html_where_there_is_no_text():
    message = mail()
    message.set_content("<h1>T</h1><p>a<br>b &nbsp; c</p><ul><li>x</ul><script>no</script>", subtype="html")
    assert blocks(one(bytes(message), "a.eml")) == [("heading", "T"), ("paragraph", "a\nb c"), ("item", "x")]
    both = mail()
    both.set_content(" \n")
    both.add_alternative("<p>the text</p>", subtype="html")
    assert texts(one(bytes(both), "a.eml")) == ["the text"]


def test_attachments_are_documents_of_their_own():
    inner = mail("Inner", From="c@x.org")
    inner.set_content("inner text")
    inner.add_attachment("a,b\n3,4\n", subtype="csv", filename="t.csv")
    message = mail()
    message.set_content("see there")
    for _ in range(2):
        message.add_attachment("a,b\n1,2\n", subtype="csv", filename="été.csv")
    message.add_attachment(b"PNG", maintype="image", subtype="png", filename="../logo.png")
    message.add_attachment(b"broken", maintype="application", subtype="x", filename="bad.docx")
    message.add_attachment(inner)
    own, *attached = read(bytes(message), "a.eml")
    assert (own.member, texts(own)) == ("", ["see there"])
    assert {document.member: texts(document)[-1] for document in attached} == {
        "été.csv": "a: 1 | b: 2",
        "été (2).csv": "a: 1 | b: 2",
        "Inner.eml": "inner text",
        "Inner.eml/t.csv": "a: 3 | b: 4",
    }
    assert own.notes == (
        "bad.docx can't be read: expected a Word document, got a file of another kind",
        "attachments of kinds that aren't read: logo.png",
    )


def test_mails_in_mails_are_read_four_deep():
    message = mail("0")
    message.set_content("0")
    for depth in range(1, 7):
        outer = mail(str(depth))
        outer.set_content(str(depth))
        outer.add_attachment(message)
        message = outer
    documents = read(bytes(message), "a.eml")
    assert [document.member.count("/") for document in documents[1:]] == [0, 1, 2, 3]
    assert documents[-1].notes == ("1.eml is left out: it lies in more than 4 files",)


def test_lines_that_were_broken_for_the_screen_are_joined():
    raw = b"Subject: x\nContent-Type: text/plain; format=flowed\n\nOne line \nthat goes on.\n-- \nAda\n"
    assert texts(one(raw, "a.eml")) == ["One line that goes on.\n-- \nAda"]


@pytest.mark.parametrize("charset", ["latin-1", "unknown-8bit", "nonsense", "utf-8"])
def test_charsets(charset):
    head = f"Subject: =?nonsense?q?=E9?= x\nDate: nonsense\nContent-Type: text/plain; charset={charset}\n\n"
    raw = head.encode()
    assert texts(one(raw + "é".encode("utf-8" if charset == "utf-8" else "latin-1"), "a.eml")) == ["é"]


def test_what_is_no_mail():
    with pytest.raises(UnreadableFile, match="expected a mail, got a file without its headers"):
        one(b"just some text", "a.eml")
