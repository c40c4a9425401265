"""Inboxes for the tests: what came in, and what has to become of every file of it.

A line for each file or empty folder: its path, what is in it, whose it is, what becomes of it and a word of the reason.
A path through a zip has "!" where the zip ends; of a group's file every member is named. G, S and N: graded, superseded
and not graded. NAME~KEY: a name that is told apart from another by this key.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

from tests import submissions

LAB, OTHER = "lab0_welcome", "lab1_simulation"
DAY = 1_700_000_000
OUTCOMES = {"G": "graded", "S": "superseded", "N": "not graded"}
METADATA = """
submission_7:
  :submitters:
  - :name: Ada
    :sid: '1'
    :email: ada@x.org
  - :name: Bo
    :sid: '2'
    :email: Bo@x.org
submission_8:
  :submitters:
  - :name: Cy
    :sid: '3'
    :email: 7003
"""

CASES: dict[str, str] = {
    "a folder each": """
        ada/lab1.ipynb | solved | ada | G
        bo/mine.ipynb | solved | bo | G""",
    "a file each": """
        ada.ipynb | solved | ada | G
        bo.ipynb | blank | bo | G""",
    "a folder and a file": """
        ada/lab1.ipynb | solved | ada | G
        bo.ipynb | solved | bo | G""",
    "two labs of one student": """
        ada/lab0.ipynb | solved | ada | G
        ada/lab1.ipynb | other | ada | G
        bo/lab1.ipynb | other | bo | G""",
    "a cover that is called otherwise than the zip": """
        submissions (1)/ada/lab1.ipynb | solved | ada | G
        submissions (1)/bo/lab1.ipynb | solved | bo | G""",
    "a cover of one student": """
        submissions/ada/lab1.ipynb | solved | ada | G""",
    "a cover of a name that may be a person's": """
        Numerics/ada/x.ipynb | solved | ada | G
        Numerics/bo/x.ipynb | solved | bo | G""",
    "a cover with a file each": """
        Numerics/ada.ipynb | solved | ada | G
        Numerics/bo.ipynb | solved | bo | G""",
    "covers in covers": """
        Spring/Numerics/all of it/ada/lab1.ipynb | solved | ada | G
        Spring/Numerics/all of it/bo/lab1.ipynb | solved | bo | G
        Spring/Numerics/all of it/cy/lab1.ipynb | blank | cy | G""",
    "a cover with a template beside the students": """
        Spring/ada/lab1.ipynb | solved | ada | G
        Spring/bo/lab1.ipynb | solved | bo | G
        Spring/lab1_simulation.ipynb | blank | lab1_simulation | G""",
    "several covers": """
        first/ada/lab1.ipynb | solved | ada | G
        second/bo/lab1.ipynb | solved | bo | G
        second/cy/lab1.ipynb | solved | cy | G""",
    "two exports of one class": """
        submissions/ada/lab1.ipynb | solved@1 | ada | S | the newest
        submissions/bo/lab1.ipynb | solved | bo | G
        submissions (1)/ada/lab1.ipynb | blank@9 | ada | G""",
    "sections": """
        Monday/ada/lab1.ipynb | solved | ada | G
        Monday/bo/lab1.ipynb | solved | bo | G
        Tuesday/cy/lab1.ipynb | solved | cy | G
        Tuesday/di/lab1.ipynb | solved | di | G""",
    "sections of one": """
        Monday/ada/lab1.ipynb | solved | ada | G
        Tuesday/bo/lab1.ipynb | solved | bo | G""",
    "sections with a file each": """
        Monday/ada.ipynb | solved | ada | G
        Monday/bo.ipynb | solved | bo | G
        Tuesday/cy.ipynb | solved | cy | G""",
    "numbered groups as sections": """
        group 1/ada/lab1.ipynb | solved | ada | G
        group 1/bo/lab1.ipynb | solved | bo | G
        group 2/cy/lab1.ipynb | solved | cy | G""",
    "sections in one of which is no notebook": """
        Monday/ada/lab1.ipynb | solved | ada | G
        Monday/bo/lab1.ipynb | solved | bo | G
        Tuesday/cy/lab1.pdf | text | cy | N | PDF""",
    "sections within a cover": """
        export 3/Monday/ada/lab1.ipynb | solved | ada | G
        export 3/Monday/bo/lab1.ipynb | solved | bo | G
        export 3/Tuesday/cy/work/lab1.ipynb | solved | cy | G""",
    "namesakes in two sections": """
        Monday/ada/lab1.ipynb | solved | ada~Monday/ada | G
        Monday/bo/lab1.ipynb | solved | bo | G
        Tuesday/ada/lab1.ipynb | blank | ada~Tuesday/ada | G
        Tuesday/cy/lab1.ipynb | solved | cy | G""",
    "one student in the folders of two labs": """
        lab0/ada/x.ipynb | solved | ada | G
        lab1/ada/x.ipynb | other | ada | G
        lab1/bo/x.ipynb | other | bo | G""",
    "numbers for students": """
        123456/lab1.ipynb | solved | 123456 | G
        123457/lab1.ipynb | solved | 123457 | G""",
    "submissions without names": """
        export/submission_1/lab1.ipynb | solved | submission_1 | G
        export/submission_2/lab1.ipynb | solved | submission_2 | G""",
    "two notebooks of odd names beside a plain one": """
        ada/Euler and Heun.ipynb | solved@9 | ada | G
        ada/Ornstein.ipynb | blank@1 | ada | S
        bo/lab1.ipynb | solved | bo | G""",
    "files that a browser numbered": """
        lab1.ipynb | solved | lab1 | G
        lab1 (1).ipynb | solved | lab1 _1_ | G
        lab1 (2).ipynb | blank | lab1 _2_ | G""",
    "files that a browser numbered, of people": """
        ada.ipynb | solved@1 | ada | S
        ada (1).ipynb | solved@9 | ada | S | the same
        ada-Copy1.ipynb | solved@10 | ada | G""",
    "Moodle": """
        Ada Ek_7001_assignsubmission_file_/lab1.ipynb | solved | Ada Ek | G
        Bo Ek_7002_assignsubmission_file/sub/lab1.ipynb | solved | Bo Ek | G""",
    "Moodle within a cover": """
        Course-Lab 1-99/Ada Ek_7001_assignsubmission_file_/lab1.ipynb | solved | Ada Ek | G
        Course-Lab 1-99/Bo Ek_7002_assignsubmission_file_/lab1.ipynb | solved | Bo Ek | G""",
    "Moodle without folders": """
        Ada Ek_7001_assignsubmission_file_lab1.ipynb | solved | Ada Ek | G
        Ada Ek_7001_assignsubmission_file_notes.pdf | text | Ada Ek | N | PDF
        Bo Ek_7002_assignsubmission_file_lab1.ipynb | solved | Bo Ek | G""",
    "Moodle with online text": """
        Ada Ek_7001_assignsubmission_file_/lab1.ipynb | solved | Ada Ek | G
        Ada Ek_7001_assignsubmission_onlinetext_/onlinetext.html | text | Ada Ek | N | web page
        Bo Ek_7002_assignsubmission_onlinetext_/onlinetext.html | text | Bo Ek | N | web page""",
    "Moodle without folders with online text": """
        Ada Ek_7001_assignsubmission_onlinetext_onlinetext.html | text | Ada Ek | N | web page
        Bo Ek_7002_assignsubmission_file_lab1.ipynb | solved | Bo Ek | G""",
    "Moodle with namesakes": """
        Ada Ek_7001_assignsubmission_file_/lab1.ipynb | solved | Ada Ek~moodle:7001 | G
        Ada Ek_7002_assignsubmission_file_/lab1.ipynb | blank | Ada Ek~moodle:7002 | G""",
    "Moodle's exports of two labs": """
        Lab 0/Ada Ek_7001_assignsubmission_file_/lab0.ipynb | solved | Ada Ek | G
        Lab 1/Ada Ek_7002_assignsubmission_file_/lab1.ipynb | other | Ada Ek | G""",
    "Moodle's exports of two labs, with more files": """
        Lab 0/Ada Ek_7001_assignsubmission_file_/lab0.ipynb | solved | Ada Ek | G
        Lab 0/Ada Ek_7001_assignsubmission_file_/notes.pdf | text | Ada Ek | N
        Lab 1/Ada Ek_7002_assignsubmission_file_/lab1.ipynb | other | Ada Ek | G
        Lab 1/Ada Ek_7002_assignsubmission_file_/notes.pdf | text | Ada Ek | N""",
    "Moodle with namesakes who handed in no notebook": """
        Lab 1/Ada Ek_7001_assignsubmission_file_/lab.pdf | text | Ada Ek~moodle:7001 | N
        Lab 1/Ada Ek_7002_assignsubmission_file_/lab.pdf | text | Ada Ek~moodle:7002 | N
        Lab 1/Bo_7003_assignsubmission_file_/lab1.ipynb | solved | Bo | G""",
    "Moodle with names in two cases": """
        Ada Ek_7001_assignsubmission_file_/lab1.ipynb | solved | Ada Ek~moodle:7001 | G
        Ada EK_7002_assignsubmission_file_/lab1.ipynb | blank | Ada EK~moodle:7002 | G""",
    "Canvas": """
        ekada_7001_501_lab1.ipynb | solved | ekada | G
        ekbo_LATE_7002_502_lab1-2.ipynb | solved | ekbo | G
        ekcy_7003_503_lab1.pdf | text | ekcy | N | PDF""",
    "Canvas within a cover": """
        submissions/ekada_7001_501_lab1.ipynb | solved | ekada | G
        submissions/ekbo_7002_502_my_work.ipynb | solved | ekbo | G""",
    "Canvas with two files of one student and namesakes": """
        ekada_7001_501_lab0.ipynb | solved | ekada~canvas:7001 | G
        ekada_7001_504_lab1.ipynb | other | ekada~canvas:7001 | G
        ekada_7002_502_lab0.ipynb | blank | ekada~canvas:7002 | G""",
    "Canvas with text and zips": """
        ekada_7001_501_work.zip!lab1.ipynb | solved | ekada | G
        ekbo_7002_text.html | text | ekbo | N | web page
        ekcy_7003_503_lab1.ipynb | solved | ekcy | G""",
    "Gradescope with groups": """
        assignment_1_export/submission_metadata.yml | metadata | | N | program
        assignment_1_export/submission_7/lab1.ipynb | solved | ada@x.org+Bo@x.org | G
        assignment_1_export/submission_8/lab1.ipynb | blank | 7003 | G
        assignment_1_export/submission_9/lab1.ipynb | solved | submission_9 | G""",
    "Gradescope without its folder": """
        submission_metadata.yml | metadata | | N | program
        submission_7/lab1.ipynb | solved | ada@x.org+Bo@x.org | G
        submission_8/scan.pdf | text | 7003 | N | PDF""",
    "Gradescope with a damaged list": """
        submission_metadata.yml | text | | N | program
        submission_7/lab1.ipynb | solved | submission_7 | G
        submission_8/lab1.ipynb | blank | submission_8 | G""",
    "a list of Gradescope's beside another class": """
        submission_metadata.yml | metadata | | N | program
        Numerics/ada/lab1.ipynb | solved | ada | G
        Numerics/bo/lab1.ipynb | blank | bo | G""",
    "Canvas without names": """
        anon_x4k9s_501_lab0.ipynb | solved@1 | anon x4k9s | S | newest
        anon_x4k9s_503_lab0-1.ipynb | blank@9 | anon x4k9s | G
        anon_LATE_Zk92b_502_lab0.ipynb | blank | anon Zk92b | G""",
    "Moodle without names": """
        Lab 0/Teilnehmerin_7001_assignsubmission_file_/lab0.ipynb | solved | Teilnehmerin 7001 | G
        Lab 0/Teilnehmerin_7002_assignsubmission_file_/lab0.ipynb | solved | Teilnehmerin 7002 | G
        Lab 1/Teilnehmerin_7003_assignsubmission_file_/lab1.ipynb | other | Teilnehmerin 7003 | G""",
    "Blackboard": """
        gradebook_Lab200_ada_attempt_2026-11-01-12-00-00_lab0.ipynb | solved@1 | ada | S | newest
        gradebook_Lab200_ada_attempt_2026-11-03-12-00-00_lab0.ipynb | blank@9 | ada | G
        gradebook_Lab200_bo_attempt_2026-11-01-12-00-00.txt | text | bo | N | no notebook
        gradebook_Lab200_cy_attempt_2026-11-01-12-00-00_lab0.ipynb | solved | cy | G""",
    "Blackboard with two assignments": """
        Lab 0_ada_attempt_2026-11-01-12-00-00_lab0.ipynb | solved | ada | G
        Lab 1_ada_attempt_2026-11-01-12-00-00_lab1.ipynb | other | ada | G
        Lab 1_bo_attempt_2026-11-01-12-00-00_lab1.ipynb | other | bo | G""",
    "Blackboard with logins in two parts": """
        Lab 0_ada_ek_attempt_2026-11-01-12-00-00_lab0.ipynb | solved | ada_ek | G
        Lab 0_bo_ek_attempt_2026-11-01-12-00-00_lab0.ipynb | blank | bo_ek | G""",
    "Brightspace": """
        7001-99 - Ada Ek - Nov 1, 2026 1200 PM/lab0.ipynb | solved | Ada Ek | G
        7002-99 - Bo Ek - Nov 1, 2026 1200 PM/lab0.ipynb | solved@1 | Bo Ek | S | newest
        7002-99 - Bo Ek - Nov 2, 2026 900 AM/lab0.ipynb | blank@9 | Bo Ek | G
        index.html | text | | N | web page""",
    "nbgrader's exchange": """
        inbound/ada+lab0_welcome+2026-11-01 12:00:00.0 UTC+a1/lab0_welcome.ipynb | solved@1 | ada | S | newest
        inbound/ada+lab0_welcome+2026-11-02 12:00:00.0 UTC+b2/lab0_welcome.ipynb | blank@9 | ada | G
        inbound/bo+lab0_welcome+2026-11-01 12:00:00.0 UTC+c3/lab0_welcome.ipynb | solved | bo | G""",
    "GitHub Classroom": """
        lab0-ada/lab0_welcome.ipynb | solved | ada | G
        lab0-ada/README.md | text | ada | N | no notebook
        lab1-ada/labs/lab1_simulation/lab1_simulation.ipynb | other | ada | G
        lab0-bo/lab0_welcome.ipynb | solved | bo | G""",
    "Google Classroom": """
        Lab 0/Ada Ek - lab0_welcome.ipynb | solved | Ada Ek | G
        Lab 0/Bo Ek - Copy of lab0_welcome.ipynb | blank | Bo Ek | G""",
    "files named by lab and student": """
        lab0_ada.ipynb | solved | ada | G
        lab1_ada.ipynb | other | ada | G
        bo_lab0.ipynb | solved | bo | G
        Cy-Dam_lab0_welcome.ipynb | solved | Cy-Dam | G""",
    "files that may be of namesakes by lab and student": """
        lab0_ada.ipynb | solved | ada~lab0_ada | G
        ada_lab0.ipynb | blank | ada~ada_lab0 | G""",
    "archives that are not opened": """
        ada.ipynb | solved | ada | G
        bo.7z | text | bo | N | archive
        cy.tar.gz | text | cy | N | archive
        di/lab1.ipynb.gz | text | di | N | archive""",
    "ILIAS": """
        Übung 1/Abgaben/Ek_Ada_aek_7001/lab1.ipynb | solved | Ek_Ada_aek_7001 | G
        Übung 1/Abgaben/Ek_Bo_bek_7002/lab1.ipynb | solved | Ek_Bo_bek_7002 | G""",
    "nbgrader": """
        submitted/ada/lab0_welcome/lab0_welcome.ipynb | solved | ada | G
        submitted/ada/lab0_welcome/timestamp.txt | text | ada | N | program
        submitted/ada/lab1_simulation/lab1_simulation.ipynb | other | ada | G
        submitted/bo/lab0_welcome/lab0_welcome.ipynb | solved | bo | G""",
    "nbgrader with one lab": """
        ada/lab0_welcome/lab0_welcome.ipynb | solved | ada | G
        bo/lab0_welcome/lab0_welcome.ipynb | solved | bo | G""",
    "labs above students": """
        lab0_welcome/ada/lab0_welcome.ipynb | solved | ada | G
        lab1_simulation/bo/lab1_simulation.ipynb | other | bo | G""",
    "folders within a student's": """
        ada/Downloads/lab1.ipynb | solved | ada | G
        bo/lab1.ipynb | solved | bo | G
        cy/my stuff/final version/lab1.ipynb | solved | cy | G""",
    "a folder of one name in each student's": """
        ada/thing/lab1.ipynb | solved | ada | G
        bo/thing/lab1.ipynb | solved | bo | G""",
    "a copy of the course in a student's": """
        ada/fmlab-main/labs/lab0_welcome/lab0_welcome.ipynb | solved | ada | G
        ada/fmlab-main/labs/lab1_simulation/lab1_simulation.ipynb | other | ada | G
        bo/lab0.ipynb | solved | bo | G""",
    "a zip for each student": """
        ada.zip!lab1.ipynb | solved | ada | G
        bo.zip!work/lab1.ipynb | solved | bo | G
        cy/work.zip!lab1.ipynb | solved | cy | G""",
    "a zip of a class in a zip": """
        export.zip!submissions/ada/lab1.ipynb | solved | ada | G
        export.zip!submissions/bo/lab1.ipynb | solved | bo | G""",
    "zips three deep": """
        ada/a.zip!b.zip!lab1.ipynb | solved | ada | G
        bo/lab1.ipynb | solved | bo | G""",
    "a damaged and an empty zip": """
        ada.zip | text | ada | N | could not be opened
        bo/work.zip! | - | bo | N | empty
        cy/lab1.ipynb | solved | cy | G""",
    "copies of one time stamp": """
        ada/lab1_simulation.ipynb | solved@5 | ada | G
        ada/lab1_simulation (1).ipynb | blank@5 | ada | S | 0
        bo/lab1_simulation-Copy1.ipynb | blank@6 | bo | S | 0
        bo/lab1_simulation.ipynb | solved@5 | bo | G
        cy/lab1.ipynb | blank@5 | cy | S | 0
        cy/z.ipynb | solved@5 | cy | G""",
    "of two notebooks the newest": """
        ada/a.ipynb | blank@50 | ada | G
        ada/b.ipynb | solved@1 | ada | S | the newest""",
    "foreign endings": """
        ada/lab1.IPYNB | solved | ada | G
        bo/lab1.ipynb.txt | solved | bo | G
        cy/lab1.json | solved | cy | G
        di/lab1 | solved | di | G""",
    "foreign endings, a file each": """
        ada.IPYNB | solved | ada | G
        bo.ipynb.txt | solved | bo | G
        cy.ipynb.json | blank | cy | G""",
    "no notebooks": """
        ada/lab1.pdf | text | ada | N | PDF
        ada/lab1.html | text | ada | N | web page
        bo/lab1.py | text | bo | N | program
        bo/data.csv | text | bo | N | no notebook
        cy/lab1.7z | text | cy | N | archive
        di/lab1.ipynb | solved | di | G
        di/lab1.txt | text | di | N | no notebook""",
    "other files, a file each": """
        ada.ipynb | solved | ada | G
        bo.pdf | text | bo | N | PDF
        cy.html | text | cy | N | web page
        di.zip | text | di | N | could not be opened""",
    "files of nobody": """
        lab1_simulation/ada.ipynb | solved | ada | G
        lab1_simulation/data.csv | text | | N | no notebook
        read me.txt | text | | N | no notebook
        syllabus.pdf | text | | N | PDF""",
    "what programs leave behind": """
        __MACOSX/ada/._lab1.ipynb | text | | N | program | __MACOSX/
        .DS_Store | text | | N | program
        ada/.ipynb_checkpoints/lab1-checkpoint.ipynb | blank | ada | N | program | ada/.ipynb_checkpoints/
        ada/Thumbs.db | text | ada | N | program
        ada/lab1.ipynb | solved | ada | G
        bo/.git/config | text | bo | N | program | bo/.git/
        bo/lab1.ipynb | solved | bo | G""",
    "empty folders": """
        ada/lab1.ipynb | solved | ada | G
        bo/ | - | bo | N | empty
        cy/work/ | - | cy | N | empty""",
    "unreadable notebooks": """
        ada/lab1.ipynb | text | ada | N | not a notebook
        bo/lab1.ipynb | nothing | bo | N | empty
        cy/lab1.ipynb | trivial | cy | N | No lab was recognised
        di/lab1.ipynb | solved | di | G
        di/old.ipynb | text | di | N | not a notebook""",
    "names in two cases": """
        ada/lab1.ipynb | solved | ada~ada | G
        Ada/lab1.ipynb | blank | Ada~Ada | G
        bo/lab1.ipynb | blank | bo | G""",
    "names in two normal forms": """
        åsa/lab1.ipynb | solved | åsa~åsa | G
        a\u030asa/lab1.ipynb | blank | åsa~a\u030asa | G""",
    "names that are plain alike": """
        ada:b/lab1.ipynb | solved | ada_b~ada:b | G
        ada?b/lab1.ipynb | blank | ada_b~ada?b | G""",
    "names that do harm": """
        =HYPERLINK(1)/lab1.ipynb | solved | _HYPERLINK_1_ | G
        \x1b[31mred/lab1.ipynb | solved | __31mred | G
        <script>/lab1.ipynb | solved | _script_ | G
        CON/lab1.ipynb | solved | CON | G""",
    "names of any script": """
        李/lab1.ipynb | solved | 李 | G
        Ольга Ек.ipynb | solved | Ольга Ек | G
        Åsa Öberg/lab1.ipynb | blank | Åsa Öberg | G""",
}

# Only in a zip, or only in a folder.
ZIPPED = {
    "damaged entries": """
        ada/lab1.ipynb | solved | ada | G
        bo/lab1.ipynb | solved!crc | bo | N | CRC
        cy/lab1.ipynb | solved!deflate | cy | N | unpacked
        di/lab1.ipynb | solved!lzma | di | N | unpacked
        ed/lab1.ipynb | solved!encrypted | ed | N | encrypted
        flo/lab1.ipynb | solved!bzip2 | flo | N | unpacked""",
    "names in Latin-1": """
        Bjørn/lab1.ipynb | solved!latin | Bjørn | G
        cy/lab1.ipynb | solved | cy | G""",
    "names in Latin-1 that say UTF-8": """
        Bjørn/lab1.ipynb | solved!liar | Bjøxrn | G | | Bjøxrn/lab1.ipynb
        cy/lab1.ipynb | solved | cy | G""",
    "names in a code page of DOS": """
        Bjürn/lab1.ipynb | solved!dos | Bjürn | G
        cy/lab1.ipynb | solved | cy | G""",
    "paths that lead out": """
        ../../etc/lab1.ipynb | solved | etc | G | | etc/lab1.ipynb
        /root/lab1.ipynb | solved | root | G | | root/lab1.ipynb
        bo\\lab1.ipynb | solved | bo | G | | bo/lab1.ipynb""",
    "zips too deep": """
        ada/a.zip!b.zip!c.zip | text | ada | N | within 3 zips
        bo/lab1.ipynb | solved | bo | G""",
    "a link in a zip": """
        ada/lab1.ipynb | link | ada | N | link
        bo/lab1.ipynb | solved | bo | G""",
    "dates that never were": """
        ada/lab1.ipynb | solved!date | ada | G
        bo/lab1.ipynb | solved | bo | G""",
}
IN_A_FOLDER = {
    "zips too deep in a folder": """
        ada/a.zip!b.zip!c.zip!d.zip | text | ada | N | within 3 zips
        bo/lab1.ipynb | solved | bo | G""",
    "links and devices": """
        ada/lab1.ipynb | solved | ada | G
        bo/lab1.ipynb | link | bo | N | link
        cy | folder link | cy | N | link | cy/
        ed.ipynb | device | ed | N | device
        flo.ipynb | dead link | flo | N | link""",
    "names in Latin-1 on the disk": """
        Bj\udcf8rk/lab1.ipynb | solved | Bjørk | G | | Bjørk/lab1.ipynb
        cy/lab1.ipynb | solved | cy | G""",
}


class Line(NamedTuple):
    path: str
    content: str
    students: list[str]
    outcome: str
    words: str
    told: str
    tag: str


def lines(text: str, tag: str = "") -> list[Line]:
    """tag: letters and a number after every name and number, for several inboxes in one."""
    found = []
    for line in text.strip("\n").split("\n"):
        cells = [_tagged(cell.strip(" "), tag) for cell in line.split("|")] + ["", ""]
        path, content, students, outcome, words, told = cells[:6]
        names = [_name(name) for name in students.split("+")]
        found.append(Line(path, content, names, OUTCOMES[outcome], words, told or path.replace("!", "/"), tag))
    return found


def _tagged(text: str, tag: str) -> str:
    text = re.sub(r"(?<![^\W_])([Aa]da|[Bb]o|[Cc]y|[Dd]i|ed|flo|ek(?:ada|bo|cy))(?![a-z])", rf"\1{tag}", text)
    return re.sub(r"\b70(\d\d)\b|(?<=_)70(\d\d)", lambda found: f"70{found[0][2:]}{_number(tag)}", text)


def _number(tag: str) -> str:
    return "".join(f"{ord(letter) - 97:02}" for letter in tag)


def _name(text: str) -> str:
    name, told, key = text.partition("~")
    return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}" if told else name


@functools.cache
def content(name: str, tag: str = "") -> bytes:
    made = {
        "solved": lambda: json.dumps(submissions.solved(LAB)).encode(),
        "blank": lambda: json.dumps(submissions.blank(LAB)).encode(),
        "other": lambda: json.dumps(submissions.blank(OTHER)).encode(),
        "text": lambda: b"my laptop broke",
        "nothing": lambda: b"",
        "trivial": lambda: b'{"cells": [{"cell_type": "code", "source": ""}]}',
        "metadata": lambda: _tagged(METADATA, tag).encode(),
        "link": lambda: b"../other/lab1.ipynb",
    }
    return made[name]()


def time_of(what: str) -> tuple[str, int]:
    """The content and the time stamp of a file."""
    name, _, second = what.partition("@")
    return name, DAY + 2 * int(second or 0)


# --- folders ----------------------------------------------------------------------------------------------------------


def write_folder(folder: Path, made: list[Line]) -> Path:
    zips: dict[str, list[Line]] = {}
    for line in made:
        name, inside, rest = line.path.partition("!")
        if inside:
            zips.setdefault(name, []).append(line._replace(path=rest))
        else:
            _write(folder / name, line)
    for name, within in zips.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(zipped(within))
        os.utime(folder / name, (DAY, DAY))
    return folder


def _write(path: Path, line: Line) -> None:
    what, when = time_of(line.content)
    path.parent.mkdir(parents=True, exist_ok=True)
    if line.path.endswith("/"):
        path.mkdir(exist_ok=True)
    elif what == "folder link":
        path.symlink_to(path.parent)
    elif what == "device":
        os.mkfifo(path)
    elif what.endswith("link"):
        path.symlink_to("/etc/passwd" if what == "link" else "/nowhere")
    else:
        path.write_bytes(content(what, line.tag))
        os.utime(path, (when, when))


# --- zips -------------------------------------------------------------------------------------------------------------

METHODS = {"deflate": zipfile.ZIP_DEFLATED, "lzma": zipfile.ZIP_LZMA, "bzip2": zipfile.ZIP_BZIP2}


def zipped(made: list[Line]) -> bytes:
    file = io.BytesIO()
    inner: dict[str, list[Line]] = {}
    damages: list[tuple[zipfile.ZipInfo, str]] = []
    with zipfile.ZipFile(file, "w") as archive:
        for line in made:
            name, inside, rest = line.path.partition("!")
            if inside:
                inner.setdefault(name, []).append(line._replace(path=rest))
            elif name:
                damages += _add(archive, name, line)
        for name, within in inner.items():
            archive.writestr(zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20)), zipped(within))
    data = bytearray(file.getvalue())
    for info, damage in damages:
        _damage(data, info, damage)
    return bytes(data)


def _add(archive: zipfile.ZipFile, name: str, line: Line) -> list[tuple[zipfile.ZipInfo, str]]:
    what, _, damage = line.content.partition("!")
    kind, when = time_of(what)
    info = zipfile.ZipInfo(name, time.localtime(when)[:6])
    if damage in ("latin", "dos"):
        info.filename = name.replace("ø", "#").replace("ü", "#")
    if kind == "link":
        info.create_system, info.external_attr = 3, 0o120777 << 16
    info.compress_type = METHODS.get(damage, zipfile.ZIP_STORED)
    archive.writestr(info, b"" if name.endswith("/") else content(kind, line.tag))
    return [(info, damage)] if damage else []


def _damage(data: bytearray, info: zipfile.ZipInfo, damage: str) -> None:
    """Damage an entry, or the name or the flags of it."""
    name = info.filename.encode()
    start = info.header_offset + 30 + len(name)
    entry = data.index(b"PK\x01\x02")
    while data[entry + 46 : entry + 46 + len(name)] != name:
        entry = data.index(b"PK\x01\x02", entry + 1)
    if damage in ("crc", "deflate", "lzma", "bzip2"):
        at = start + (40 if damage != "bzip2" else 20)
        data[at : at + 30] = bytes(255 - byte for byte in data[at : at + 30])
    elif damage == "encrypted":
        data[info.header_offset + 6] |= 1
        data[entry + 8] |= 1
    elif damage == "date":
        data[entry + 12 : entry + 16] = b"\xff\xff\x00\x00"
    elif damage in ("latin", "dos"):
        letter = {"latin": b"\xf8", "dos": b"\x81"}[damage]
        for at in (info.header_offset + 30, entry + 46):
            data[at : at + len(name)] = name.replace(b"#", letter)
    elif damage == "liar":
        for at in (info.header_offset + 30, entry + 46):
            data[at : at + len(name)] = name.replace("ø".encode(), b"\xf8x")
