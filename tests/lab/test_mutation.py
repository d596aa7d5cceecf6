"""The tables of the page on the tests count what the record and the collection hold."""

from lab import mutation
from tests.mutation.run import wrong_programs
from tests.testing.wrong import WRONG

RUN = {
    "modules": {"guidance": {"made": 10, "killed": 6, "survived": 2}, "empty": {"made": 3, "killed": 0, "survived": 0}},
    "explained_survivors": {"of no weight": 1, "a copy": 3},
    "unexplained_survivors": 2,
}


def test_the_score_is_the_share_of_the_tried_that_were_killed():
    assert mutation.score(RUN["modules"]["guidance"]) == 0.75
    rows = mutation.score_table(RUN).splitlines()
    assert rows[2] == "| `guidance` | 10 | 8 | 6 | 2 | 75.0 % |"
    assert rows[3] == "| `empty` | 3 | 0 | 0 | 0 | nan % |"


def test_the_deep_runs_are_told_with_their_source():
    examples = {"a": 1000, "b": 1, "c": "skipped: it has no value", "d": 1500, "e": "failed: off by 1"}
    run = {"examples": examples, "seconds": 1500.0, "date": "2026-11-25", "source": "0123456789ab"}
    row = mutation.deep_table({"js": run}).splitlines()[2]
    assert row == "| `js` | 3 | 1 | 1 | 2,501 | 25 |"
    sentence = mutation.deep_sentence({"js": run, "rkl": {**run, "examples": {"a": 1, "d": 2}}})
    assert "In all 2,504 examples of 3 properties on 2 divergences passed, and 1 checks failed" in sentence
    assert "at least 1,001." in sentence
    assert sentence.endswith("Divergences by date and source: 2 on 2026-11-25 (`01234567`).")


def test_every_wrong_program_is_counted_once():
    rows = [row.split("|") for row in mutation.wrong_table({"wrong_programs": wrong_programs()}).splitlines()[2:]]
    assert sum(int(row[2]) for row in rows) == len(WRONG)
    assert all(row[3].strip() for row in rows)
