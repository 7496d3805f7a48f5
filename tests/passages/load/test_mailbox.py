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
