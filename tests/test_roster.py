"""The class: one row for each person, whatever systems call them, and who did not hand in."""

import csv
import io

import pytest

from course import exports, inbox, jobs, report, tables
from course.inbox import find, roster
from course.inbox.roster import Known, Register, Roster, match
from tests.html_page import Page, harmless
from tests.inboxes import LAB, lines, write_folder, zipped
from tests.made_records import LAB as GRADED
from tests.made_records import record, ungraded

pytestmark = pytest.mark.grading

CANVAS = """\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Lab 1 (71)
    Points Possible,,,,,46
"Ek, Ada",7001,s1,aek,Monday,
"Berg Dahl, Bo",7002,s2,bo.bd,Monday,
"Östlund, Cy",7003,s3,cyo,Tuesday,
"Li, Na",7004,s4,lina,Tuesday,
"Student, Test",7009,,,Monday,
"""
MOODLE = """Identifier,Full name,ID number,Email address,Status,Grade,Group
Participant 7001,Ada Ek,s1,ada.ek@x.org,Submitted,,Monday
Participant 7002,Bo Berg Dahl,s2,Bo@x.org,Submitted,,Monday
Participant 7003,Cy Östlund,s3,cy@x.org,,,Tuesday
Participant 7004,Na Li,s4,na@x.org,,,Tuesday
"""
PARTICIPANTS = """First name;Surname;Email address;Groups
Ada;Ek;ada.ek@x.org;Monday
Bo;Berg Dahl;bo@x.org;Monday
Cy;Östlund;cy@x.org;Tuesday
Na;Li;na@x.org;Tuesday
"""
GERMAN = """Nachname;Vorname;Kennung;E-Mail;Gruppe
Ek;Ada;aek;ada.ek@x.org;Monday
Berg Dahl;Bo;bo.bd;bo@x.org;Monday
Östlund;Cy;cyo;cy@x.org;Tuesday
Li;Na;lina;na@x.org;Tuesday
"""
PLAIN = "name,e-mail,section\nAda Ek,ada.ek@x.org,Monday\nBo Berg Dahl,bo@x.org,Monday\n"
PLAIN += "Cy Östlund,cy@x.org,Tuesday\nNa Li,na@x.org,Tuesday\n"
ROSTERS = {"Canvas": CANVAS, "Moodle": MOODLE, "participants": PARTICIPANTS, "German": GERMAN, "plain": PLAIN}
CLASS = ["Ada Ek", "Bo Berg Dahl", "Cy Östlund", "Na Li"]


def read(text: str, encoding: str = "utf-8") -> Roster:
    return Roster(tables.read(text.encode(encoding)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("text", ROSTERS.values(), ids=ROSTERS)
def test_everyone_of_a_roster_is_read_with_name_and_section(text, encoding):
    made = read(text.removeprefix("\ufeff"), encoding)
    assert [person.name for person in made] == CLASS
    assert [person.section for person in made] == ["Monday", "Monday", "Tuesday", "Tuesday"]


# Who is whom by what each system calls them; the numbers and logins only where the roster has them.
CALLED = [
    (0, "ekada", "canvas:7001", {"Canvas", "Moodle", "participants", "German", "plain"}),
    (0, "Ada Ek", "moodle:1", {"Canvas", "Moodle", "participants", "German", "plain"}),
    (0, "ada.ek@x.org", "ada.ek@x.org", {"Moodle", "participants", "German", "plain"}),
    (0, "aek", "aek", {"Canvas", "German"}),
    (0, "Ek_Ada_aek_12", "Ek_Ada_aek_12", {"Canvas", "German"}),
    (1, "Bo@x.org", "bo@x.org", {"Moodle", "participants", "German", "plain"}),
    (1, "bergdahlbo", "canvas:7002", set(ROSTERS)),
    (1, "Berg Dahl, Bo", "Berg Dahl, Bo", set(ROSTERS)),
    (1, "Participant 7002", "moodle:7002", {"Moodle"}),
    (2, "O\u0308stlund Cy", "O\u0308stlund Cy", set(ROSTERS)),
    (2, "s3", "s3", {"Canvas", "Moodle"}),
    (3, "na", "na", {"Moodle", "participants", "German", "plain"}),
    (3, "Li Na", "moodle:77", set(ROSTERS)),
]


@pytest.mark.parametrize("system", ROSTERS)
@pytest.mark.parametrize(("number", "name", "key", "where"), CALLED)
def test_a_person_is_found_as_every_system_calls_them(system, number, name, key, where):
    found = match(read(ROSTERS[system]), [Known(name, key)])
    assert found.rows == ({Known(name, key): number} if system in where else {}) and not found.doubts


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_roster_as_excel_saves_unicode_is_read(encoding):
    made = Roster(tables.read(("sep=;\n" + GERMAN).encode(encoding)))
    assert [person.name for person in made] == CLASS


# Moodle's participants and other lists in more languages: the row of somebody with this address and name.
LANGUAGES = {
    "German": "Vorname;Nachname;ID-Nummer;E-Mail-Adresse;Gruppen\nAda;Ek;s1;a@x.org;Mo",
    "French": "Prénom,Nom de famille,Numéro d'identification,Adresse de courriel,Groupes\nAda,Ek,s1,a@x.org,Mo",
    "Spanish": "Nombre,Apellido(s),Número de ID,Dirección de correo,Grupos\nAda,Ek,s1,a@x.org,Mo",
    "Italian": "Nome,Cognome,Codice identificativo,Indirizzo email,Gruppi\nAda,Ek,s1,a@x.org,Mo",
    "Chinese": "学号,姓名,电子邮件地址,小组\ns1,Ada Ek,a@x.org,Mo",
    "of Gradescope": "First Name,Last Name,SID,Email,Role,Sections\nAda,Ek,s1,a@x.org,Student,Mo\nT,A,s2,t@x.org,TA,",
    "of Blackboard": "Last Name,First Name,Username,Email,Group\nEk,Ada,s1,a@x.org,Mo\nEk_PreviewUser,T,p,,",
    "of Brightspace": "OrgDefinedId,Username,Last Name,First Name,Email,Groups\n#s1,#aek,Ek,Ada,a@x.org,Mo",
}


@pytest.mark.parametrize(
    ("language", "encoding"), [*((name, "utf-8") for name in LANGUAGES), ("French", "cp1252"), ("Chinese", "gb18030")]
)
def test_headers_in_other_languages_are_known_and_teachers_are_left_out(language, encoding):
    text = LANGUAGES[language]
    (person,) = made = read(text, encoding)
    assert (person.name, person.section) == ("Ada Ek", "Mo")
    for name in ("s1", "a@x.org", "Ada Ek <a@x.org>", "Ek, Ada", "Ek_Ada_s1", "Ek, Ada(s1)", "s1_Ada_Ek"):
        assert match(made, [Known(name, name)]).rows == {Known(name, name): 0}
    assert not match(made, [Known("Ada Other", "Other, Ada(s9)")]).rows


def test_rows_that_differ_by_the_section_alone_are_one_person_and_a_dash_is_nothing():
    made = read("name,login,e-mail,section\nAda Ek,aek,-,Mo\nAda Ek,aek,-,Tu\nBo Ek,bek,-,Mo\nCy,,-,\nCy,,-,\n")
    assert [(person.name, person.key, person.section) for person in made] == [
        ("Ada Ek", "aek", "Mo, Tu"),
        ("Bo Ek", "bek", "Mo"),
        ("Cy", "Cy", ""),
        ("Cy", "Cy", ""),
    ]


def test_accents_are_found_as_they_are_written_without_them():
    made = read("name\nJörg Müller\nJorg Muller\nZoë Østby\n")
    assert match(made, [Known("Mueller_Joerg", "Mueller_Joerg")]).rows == {Known("Mueller_Joerg", "Mueller_Joerg"): 0}
    assert match(made, [Known("jorgmuller", "canvas:1")]).rows == {Known("jorgmuller", "canvas:1"): 1}
    assert match(made, [Known("Zoe Ostby", "moodle:1")]).rows == {Known("Zoe Ostby", "moodle:1"): 2}


@pytest.mark.parametrize("number", ["Participant 31", "Teilnehmer/in31", "Teilnehmer/in 31"])
def test_who_has_no_name_in_moodle_is_found_by_the_number(number):
    made = read(f"ID,Vollständiger Name\n{number},Ada Ek\n")
    assert match(made, [Known("Teilnehmerin 31", "moodle:31")]).rows == {Known("Teilnehmerin 31", "moodle:31"): 0}


def test_a_login_of_the_roster_is_found_behind_what_all_folders_begin_with(tmp_path):
    text = "\n".join(f"flow-{name}/lab0.ipynb | solved | {name} | G" for name in ("aek", "bo.bd", "stranger"))
    found = find([write_folder(tmp_path, lines(text))], read(CANVAS), {LAB: jobs.release(LAB)})
    assert [one.student for one in found] == ["aek", "bo.bd", "flow-stranger"]


def test_of_two_rows_for_one_and_of_two_students_in_one_row_neither_is_taken():
    twice = read("name,login\nAda Ek,ada1\nEk Ada,ada2\nBo,bo\n")
    found = match(twice, [Known("ekada", "canvas:1"), Known("bo", "bo")])
    assert found.rows == {Known("bo", "bo"): 2} and found.doubtful == {0, 1}
    assert "ekada may be in any of 2 rows" in found.doubts[0] and "ada1" in found.doubts[0]
    three = [Known(name, name, frozenset({LAB})) for name in ("li.na", "lina", "Lina")]
    found = match(read(CANVAS), three)
    assert not found.rows and all(name.student in found.doubts[0] for name in three)
    assert match(read(CANVAS), three[1:2]).rows == {three[1]: 3}


def submissions(tmp_path, made: Roster, known=()) -> dict[str, set[str]]:
    """The names of students by file, of a class that handed in through four systems."""
    texts = {
        "canvas": "ekada_7001_1_lab0.ipynb | solved@1 | x | G\nbergdahlbo_7002_1_lab0.ipynb | solved | x | G",
        "moodle": "Ada Ek_31_assignsubmission_file_/m.ipynb | other | x | G",
        "scope": "submission_7/s.ipynb | blank@9 | x | G",
        "folder": "aek/f.ipynb | blank@5 | x | G\nzoe/z.ipynb | blank | x | G",
    }
    for name, text in texts.items():
        write_folder(tmp_path / name, lines(text))
    names = "\n  - :email: ".join(["submission_7:\n  :submitters:", "ada.ek@x.org", "cy@x.org"])
    (tmp_path / "scope" / "submission_metadata.yml").write_text(names)
    found = find([tmp_path / name for name in texts], made, {LAB: jobs.release(LAB)}, known)
    return {one.file: {other.student for other in found if other.file == one.file} for one in found}


def test_one_person_in_four_systems_is_one_student(tmp_path):
    with_email = CANVAS.replace("SIS Login ID,Section", "SIS Login ID,Section,Email").replace("Monday,", "Monday,x,")
    with_email = with_email.replace("aek,Monday,x", "aek,Monday,ada.ek@x.org").replace(
        "Tuesday,", "Tuesday,cy@x.org,", 1
    )
    found = submissions(tmp_path, read(with_email))
    assert found["ekada_7001_1_lab0.ipynb"] == found["m.ipynb"] == found["f.ipynb"] == {"ekada"}
    assert found["s.ipynb"] == {"ekada", "cy@x.org"} and found["z.ipynb"] == {"zoe"}
    alone = submissions(tmp_path, Roster())
    assert alone["m.ipynb"] == {"Ada Ek"} and alone["f.ipynb"] == {"aek"} and alone["s.ipynb"] > {"cy@x.org"}


def test_who_was_graded_before_by_another_name_keeps_it(tmp_path):
    known = [{"student": "Ek A", "key": "aek", "lab": LAB}]
    assert submissions(tmp_path, read(CANVAS), known)["ekada_7001_1_lab0.ipynb"] == {"Ek A"}


def test_a_name_of_the_roster_is_a_students_wherever_it_stands(tmp_path):
    text = "things/Ada Ek/old/x.ipynb | solved | Ada Ek | G\nthings/Ada Ek/more/y.ipynb | blank | Ada Ek | G"
    text += "\nthings/lina.pdf | text | lina | N\nthings/syllabus.pdf | text | | N"
    (tmp_path / "class.zip").write_bytes(zipped(lines(text)))
    found = {(one.file, one.student) for one in find([tmp_path / "class.zip"], read(CANVAS))}
    assert found == {("x.ipynb", "Ada Ek"), ("y.ipynb", "Ada Ek"), ("lina.pdf", "lina"), ("syllabus.pdf", "")}


# --- what comes of it -------------------------------------------------------------------------------------------------


def made_class() -> list:
    class_ = [record("ekada", key="canvas:7001"), ungraded("Bo_x") | {"key": "canvas:7002"}, record("zoe", key="zoe")]
    return [*class_, record("cyo", key="cyo", lab="lab2_paths")]


def test_table_and_report_show_everyone_and_who_did_not_hand_in(tmp_path):
    (tmp_path / "given.csv").write_text(CANVAS, encoding="utf-8")
    roster.remember(tmp_path / "given.csv", tmp_path / "grading")
    (tmp_path / "given.csv").unlink()
    report.write_all(made_class(), tmp_path, tmp_path / "grading")
    text = (tmp_path / "grading" / f"{GRADED}.csv").read_text()
    rows = [(row["student"], row["name"], row["section"], row["status"]) for row in csv.DictReader(io.StringIO(text))]
    assert rows == [
        ("Bo_x", "Bo Berg Dahl", "Monday", "ungraded"),
        ("ekada", "Ada Ek", "Monday", "graded"),
        ("zoe", "", "", "graded"),
        ("cyo", "Cy Östlund", "Tuesday", "did not hand in"),
        ("lina", "Na Li", "Tuesday", "did not hand in"),
    ]
    page = harmless((tmp_path / "grading" / f"{GRADED}.html").read_text())
    assert [row[0] for row in page.tables["missing"][1:]] == ["Cy Östlund", "Na Li"]
    assert page.column("students", "section")["ekada"] == "Monday"
    assert page.column("students", "status")["lina"] == "did not hand in"
    assert "not found on the roster: zoe" in page.text


def test_the_report_shows_what_became_of_all_that_came_in(tmp_path):
    rows = [
        inbox.table.Row("in.zip", "ada/a.ipynb", "ada", "ada", GRADED, "graded"),
        inbox.table.Row("in.zip", "ada/\x1b[31mb.ipynb", "ada", "ada", GRADED, "superseded", "By a.ipynb."),
        inbox.table.Row("in.zip", "<b>.pdf", "", "", "", "not graded", "It is a PDF."),
        inbox.table.Row("in.zip", "__MACOSX/", "", "", "", "not graded", inbox.places.LEFT_OUT + "…"),
        inbox.table.Row("in.zip", "c.ipynb", "cy", "cy", "lab2_paths", "not graded", "It is broken."),
    ]
    page = Page(report.class_report([record("ada")], GRADED, rows=rows))
    assert "5 files and empty folders" in page.text and "1 graded, 3 not graded, 1 superseded" in page.text
    cells = [row for row in page.tables["inbox"] if row[0] != "file"]
    assert cells == [["in.zip/<b>.pdf", "", "It is a PDF."], ["in.zip/ada/b.ipynb", "ada", "By a.ipynb."]]


@pytest.mark.parametrize("text", ["", "x,y\n1,2\n", "\0", "%PDF-1.7"])
def test_a_roster_with_nobody_in_it_is_refused(tmp_path, text):
    (tmp_path / "roster.csv").write_text(text)
    with pytest.raises(ValueError, match="has nobody"):
        roster.remember(tmp_path / "roster.csv", tmp_path / "grading")
    with pytest.raises(ValueError, match="is not a file"):
        roster.remember(tmp_path / "gone.csv", tmp_path / "grading")
    assert not roster.remembered(tmp_path / "grading")


def test_exports_find_students_by_their_key(tmp_path):
    (tmp_path / "canvas.csv").write_text(CANVAS, encoding="utf-8")
    exports.write([record("Bo_x", key="canvas:7002")], "canvas", tmp_path, tmp_path / "canvas.csv")
    *_, row = csv.reader(io.StringIO((tmp_path / f"{GRADED}.canvas.csv").read_text()))
    assert row[:4] == ["Berg Dahl, Bo", "7002", "s2", "bo.bd"]
    assert Register(read(CANVAS), [record("Bo_x", key="canvas:7002")]).missing(["Bo_x"])[0].name == "Ada Ek"
