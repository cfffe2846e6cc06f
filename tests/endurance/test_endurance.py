"""The run of an hour, for half a minute: three nodes under random faults."""

from __future__ import annotations

import os

import pytest

from .__main__ import arguments, endure


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_three_nodes_endure(capsys: pytest.CaptureFixture[str]) -> None:
    assert endure(arguments(["--nodes", "3", "--minutes", "0.4", "--every", "2", "--seed", "5"])) == []
    told = capsys.readouterr().out
    assert "result      well" in told and " 0 packets unseen, 0 not placed" in told
