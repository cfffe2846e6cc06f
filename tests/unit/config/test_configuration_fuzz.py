"""Any text parses or is refused by ConfigurationErrors, and what parses prints itself; whatever the text."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import config
from appliance.configuration import schema, values
from appliance.configuration.errors import WrongValue
from tests.unit.config.test_configuration import WHOLE

LINES = WHOLE.splitlines()
KINDS = [setting.kind for table in (*schema.TABLES, schema.DEVICE, schema.CLIENT) for setting in table.settings]


def check(text: str) -> None:
    try:
        node = config.parse(text)
    except config.ConfigurationErrors as errors:
        assert errors.problems
        assert all(problem.wrong for problem in errors.problems)
        assert str(errors)
    else:
        assert config.parse(config.show(node)) == node


@given(st.text())
def test_any_text(text: str) -> None:
    check(text)


WORDS = st.sampled_from(
    ["0", "-1", "1e400", "inf", "9" * 30, "9" * 5000, '""', '"x"', '"1 KiB"', '"1.5 s"', "[]", "[[1]]", "{}", "true",
     "1979-05-27", "{a = 1}", '"\\u0000"', '"::"', '"1.1.0.1"', '"' + "9" * 4000 + ' s"', "'''\n[x]\n'''"]
)  # fmt: skip


@given(st.data())
@settings(max_examples=400)
def test_a_configuration_with_lines_changed(data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "double", "value", "noise", "swap"]))
        if change == "drop":
            lines[at] = ""
        elif change == "double":
            lines.insert(at, lines[data.draw(st.integers(0, len(lines) - 1))])
        elif change == "value":
            lines[at] = lines[at].partition("=")[0] + "= " + data.draw(WORDS)
        elif change == "noise":
            cut = data.draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:cut] + data.draw(st.text(string.printable, max_size=3)) + lines[at][cut:]
        else:
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
    check("\n".join(lines))


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=4))


@given(st.sampled_from(KINDS), st.one_of(plain, st.lists(plain), st.dictionaries(st.text(), plain)))
@settings(max_examples=400)
def test_a_kind_takes_anything_or_says_what_is_wrong(kind: values.Kind, value: object) -> None:
    try:
        kind.parse(value)
    except WrongValue as wrong:
        assert wrong.wrong


@given(st.integers(0, 1 << 40), st.integers(0, 10**12), st.floats(0, 1e9))
def test_printed_quantities_parse_back(size: int, rate: int, seconds: float) -> None:
    for kind, value in (
        (values.size(0, 1 << 50), size),
        (values.rate(0, 10**12), rate),
        (values.duration(0, 1e9), seconds),
    ):
        assert kind.parse(kind.show(value).strip('"')) == value
