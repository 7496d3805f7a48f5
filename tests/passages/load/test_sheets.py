import datetime
import io

import openpyxl
import pytest

from documents import READERS, office, one, outcome, packed, place, texts, unpacked, workbook
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.sheets import written

CONTENT = """<?xml version="1.0"?><office:document-content
xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>
<table:table table:name="T">{}</table:table></office:spreadsheet></office:body></office:document-content>"""
CELL = '<table:table-cell office:value-type="string" {}><text:p>{}</text:p></table:table-cell>'


def rows_of(*rows, merged=()) -> list[str]:
    return texts(one(workbook(("A", rows, merged)), "a.xlsx"))


SALES = [
    ["Sales of 2024"],
    ["Region", "City", "Units", "Share"],
    ["North", "Kiel", 1200000, 0.255],
    [None, "Bremen", 7, 1e-5],
    [],
    ["South", "Ulm", 8, datetime.date(2024, 5, 1)],
]
WRITTEN = [
    "Sales of 2024",
    "Region | City | Units | Share",
    "Region: North | City: Kiel | Units: 1200000 | Share: 0.255",
    "Region: North | City: Bremen | Units: 7 | Share: 0.00001",
    "Region: South | City: Ulm | Units: 8 | Share: 2024-05-01",
]
BOOK = workbook(("Sales", SALES, ["A1:D1", "A3:A4"]), ("Hidden", [["Name", "Age"], ["Ada", 36]], []))


def check(data: bytes, name: str) -> None:
    document = one(data, name)
    assert texts(document) == [*WRITTEN, "Name | Age", "Name: Ada | Age: 36"]
    assert all(block.kind == "row" for block in document.blocks)
    assert place(document, "sheet", "Hidden") == "Name | Age\nName: Ada | Age: 36"
    assert place(document, "sheet", "Sales").startswith(WRITTEN[0])
    assert [p.label for p in document.places if p.kind == "row"] == ["1", "2", "3", "4", "6", "1", "2"]
    assert place(document, "row", "6") == WRITTEN[4]
    assert document.notes == ("hidden sheets are read like the others: Hidden",)


def test_each_row_names_its_columns_and_has_the_number_that_the_program_shows():
    check(BOOK, "a.xlsx")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["ods", "xls", "xlsx"])
def test_as_libreoffice_writes_it(ending, tmp_path):
    check(office(BOOK, "a.xlsx", ending, tmp_path), f"a.{ending}")


def test_headers_in_two_rows_with_merged_cells():
    rows = [["Region", "2023", None, "2024"], [None, "Q1", "Q2", "Q1"], ["N", 1, 2, 3], ["S", 4, 5, 6]]
    assert rows_of(*rows, merged=["A1:A2", "B1:C1"])[2:] == [
        "Region: N | 2023 Q1: 1 | 2023 Q2: 2 | 2024 Q1: 3",
        "Region: S | 2023 Q1: 4 | 2023 Q2: 5 | 2024 Q1: 6",
    ]


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ([["Land", "2019", "2020"], ["A", 1, 2]], "Land: A | 2019: 1 | 2020: 2"),  # years are names
        ([["A", 2019], ["B", 2020]], "B | 2020"),  # and these are values
        ([["Name:", "Ada"], ["Born:", 1815]], "Born: 1815"),  # names beside values
        ([["Kiel", 3], ["Ulm", 4]], "Ulm | 4"),  # no header
        ([["a", "a"], ["b", "a"]], "b | a"),  # the same twice: no header
        ([["Ship", "Port"], ["Aurora", "Kiel"]], "Ship: Aurora | Port: Kiel"),
        ([[None, "Masts", "Built"], ["Aurora", 3, 1901]], "Aurora | Masts: 3 | Built: 1901"),  # often without
        ([["Ship", "Masts"], ["Aurora", 3], [], ["Borealis", 4]], "Ship: Borealis | Masts: 4"),  # goes on
        (
            [["Ship", "Masts"], ["Aurora", 3], [], ["Port", "Age"], ["Kiel", 9]],
            "Port: Kiel | Age: 9",
        ),  # another
    ],
)
def test_what_is_a_header(rows, last):
    assert rows_of(*rows)[-1] == last


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e6, "1000000"),
        (1234567.5, "1234567.5"),
        (0.1 + 0.2, "0.3"),
        (1e15, "1000000000000000"),
        (2.5e-7, "0.00000025"),
        (1e300, "1e+300"),
        (-3.0, "-3"),
        (True, "TRUE"),
        (datetime.datetime(2024, 1, 2, 3, 4), "2024-01-02 03:04:00"),
        (datetime.datetime(2024, 1, 2), "2024-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(hours=30, seconds=5), "30:00:05"),
    ],
)
def test_values_as_a_person_would_write_them(value, text):
    assert written(value) == text


def test_cells_with_errors_are_counted():
    book, stream = openpyxl.Workbook(), io.BytesIO()
    book.active["A1"], book.active["B1"] = "#DIV/0!", "x"
    book.active["A1"].data_type = "e"
    book.save(stream)
    document = one(stream.getvalue(), "a.xlsx")
    assert texts(document) == ["x"]
    assert document.notes == ("1 cell holds an error and is left out, such as a division by zero",)


def test_a_cell_far_away_does_not_fill_the_memory():
    data = workbook(("A", [["a", "b"], [1, 2]], []))
    book = unpacked(data)
    (name,) = [name for name in book if name.endswith("sheet1.xml")]
    far = book[name].replace(b'r="B2"', b'r="XFD1048576"')
    assert far != book[name]
    with pytest.raises(UnreadableFile, match=r"at most 20 million cells in a sheet, got 17,179,869,184"):
        one(packed({**book, name: far}), "a.xlsx")


def test_rows_of_ods_that_repeat():
    row = "<table:table-row {}>{}</table:table-row>"
    data = (
        row.format("", CELL.format("", "a") + CELL.format("", "b"))
        + row.format('table:number-rows-repeated="3"', CELL.format('table:number-columns-repeated="2"', "1"))
        + row.format('table:number-rows-repeated="1000000"', "<table:table-cell/>")
        + row.format('table:number-rows-repeated="40000"', CELL.format("", "2"))
    )
    document = one(packed({"content.xml": CONTENT.format(data)}), "a.ods")
    assert texts(document)[:4] == ["a | b", "a: 1 | b: 1", "a: 1 | b: 1", "a: 1 | b: 1"]
    assert place(document, "row", "1000005") == "2"
    assert len(document.blocks) == 1004
    assert document.notes == ("sheet T has 40000 equal rows from row 1000005 on; 1000 are read",)


def test_another_file_of_this_ending():
    for name in ("a.xlsx", "a.ods"):
        with pytest.raises(UnreadableFile, match="got a PDF; give it the right ending"):
            one(b"%PDF-1.7 and so on", name)


def test_a_broken_header_of_an_old_workbook_is_refused():
    head = bytearray(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1016))
    head[30:34] = b"\x09\0\x06\0"
    head[44:48] = b"\xff\xff\xff\x7f"
    with pytest.raises(UnreadableFile, match="its directory is broken"):
        list(READERS[".xls"](io.BytesIO(bytes(head)), "a.xls"))
    assert outcome(bytes(head[:40]), "a.xls") == "unreadable"


def test_shares_are_percent_as_people_see_them():
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for title in ("Plain", "Shares"):
        sheet = book.create_sheet(title)
        sheet.cell(1, 2, "Harbour")
        sheet.cell(1, 3, "Share")
        shown = [(0.256, "0%"), (0.256, "0.0%"), (0.5, "0.00 %"), (0.25, '0"%"'), (1, "0%;[Red]-0%"),
                 (-0.1, "0%"), ("all", "0%"), (True, "0%"), (0.3, "0%"), (0.25, "General")]  # fmt: skip
        for number, (value, code) in enumerate(shown, start=2):
            sheet.cell(number, 2, f"no {number}")
            cell = sheet.cell(number, 3, value)
            cell.number_format = code if title == "Shares" else "General"
    book.save(stream)
    document = one(stream.getvalue(), "a.xlsx")
    rows = [text.split(" | ")[-1].removeprefix("Share: ") for text in texts(document)]
    plain, shares = rows[1 : len(rows) // 2], rows[len(rows) // 2 + 1 :]
    assert plain[:3] == ["0.256", "0.256", "0.5"]
    assert shares == ["26%", "25.6%", "50.00%", "0.25", "100%", "-10%", "all", "TRUE", "30%", "0.25"]


LACKS = "formulas whose result the file doesn't hold are left out: {}; {}"
OPENED = "opening and saving the file in a spreadsheet program stores them"


def notes_of_sheet(cell: str) -> tuple[str, ...]:
    """Of a workbook whose sheet also has this cell."""
    members = unpacked(workbook(("A", [["Ada", 1]], ())))
    (sheet,) = (member for member in members if "worksheets/" in member)
    row = f'<row r="2">{cell}</row></sheetData>'.encode()
    return one(packed({**members, sheet: members[sheet].replace(b"</sheetData>", row)}), "a.xlsx").notes


def test_formulas_without_a_stored_result_are_said():
    rows = [["Sum", "=1+1", "=2+2"], ["Total", 3, None]]
    book = workbook(("Costs & rents", rows, ()), ("Plain", [["Ada", 1]], ()), ("Last", [["Sum", "=1"]], ()))
    said = "2 cells of sheet Costs & rents, 1 cell of sheet Last"
    assert one(book, "a.xlsx").notes == (LACKS.format(said, OPENED),)


@pytest.mark.parametrize(
    "cell",
    [
        '<c r="A2"><f>1+1</f></c>',
        '<c r="A2"><f>1+1</f><v/></c>',
        '<c r="A2"><f t="shared" si="0"/><v></v></c>',
        '<c r="A2" t="n"><f>IF(B1&gt;0,"str",1)</f> <v /> </c>',
    ],
)
def test_a_formula_lacks_its_result_however_that_is_written(cell):
    said = LACKS.format("{} of sheet A", OPENED)
    assert notes_of_sheet(cell) == (said.format("1 cell"),)
    # Many, so that some lie across two pieces of the file; each is counted once.
    assert notes_of_sheet(cell * 30_000) == (said.format("30,000 cells"),)


@pytest.mark.parametrize(
    "cell",
    [
        '<c r="A2"><f>1+1</f><v>2</v></c>',
        '<c r="A2" t="str"><f>""</f><v></v></c>',
        '<c r="A2"><f t="shared" si="0"/><v>2</v></c><c r="B2" s="1"/>',
        '<c r="A2" t="inlineStr"><is><t>f></t></is></c>',
    ],
)
def test_nothing_is_said_of_formulas_with_a_result(cell):
    assert notes_of_sheet(cell) == ()
