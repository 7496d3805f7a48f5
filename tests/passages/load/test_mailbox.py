import pytest

from documents import mail, read, texts
from fidkit.passages.load.record import UnreadableFile

BETWEEN = b"From ada@x.org Tue Apr  2 09:10:00 2024\n"


def test_each_mail_is_a_document_and_so_are_its_attachments():
    first, second = mail("Keys"), mail("Keys")
    first.set_content("The keys are with the florist.\nFrom here it is two minutes.\n\nFrom the attic too.\n")
    second.set_content("see there")
    second.add_attachment("a,b\n1,2\n", subtype="csv", filename="t.csv")
    quoted = bytes(first).replace(b"\n\nFrom", b"\n\n>From")
    documents = read(BETWEEN + quoted + b"\n" + BETWEEN + bytes(second), "a.mbox")
    assert {document.member: texts(document)[0] for document in documents} == {
        "Keys.eml": "The keys are with the florist.\nFrom here it is two minutes.",
        "Keys (2).eml": "see there",
        "Keys (2).eml/t.csv": "a | b",
    }
    assert texts(documents[0])[1] == "From the attic too."


def test_what_cannot_be_read_of_a_mailbox_is_noted():
    good = mail("Good")
    good.set_content("text")
    *found, noted = read(BETWEEN + b"no headers\n\n" + BETWEEN + bytes(good), "a.mbox")
    assert [document.member for document in found] == ["Good.eml"]
    assert noted.notes == ("mail 1.eml can't be read: expected a mail, got a file without its headers",)


@pytest.mark.parametrize("content", [b"", b"Subject: one mail\n\ntext", b"\n" + BETWEEN])
def test_another_file_is_no_mailbox(content):
    with pytest.raises(UnreadableFile, match="expected a mailbox"):
        read(content, "a.mbox")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_mailbox_under_the_name_of_a_mail_is_read_as_one(end):
    first, second = mail("Keys"), mail("Rent")
    first.set_content("The keys are with the florist.\n")
    second.set_content("It is due in May.\n")
    data = b"\n".join(BETWEEN + bytes(one) for one in (first, second)).replace(b"\n", end)
    found = {document.member: texts(document) for document in read(data, "a.eml")}
    assert found == {"Keys.eml": ["The keys are with the florist."], "Rent.eml": ["It is due in May."]}


def test_a_mail_with_a_line_above_it_is_one_mail():
    only = mail("Keys")
    only.set_content("The keys are with the florist.\n\nFrom here it is near.\nCome.\n")
    for above in (b"", BETWEEN):
        (document,) = read(above + bytes(only), "a.eml")
        assert (document.member, document.title) == ("", "Keys")
        assert texts(document)[1] == "From here it is near.\nCome."


def test_a_mail_that_quotes_a_mailbox_is_one_mail():
    only = mail("Keys")
    only.set_content("see\n\nFrom ada@x.org Tue\nSubject: Rent\n")
    (document,) = read(bytes(only), "a.eml")
    assert document.title == "Keys"
