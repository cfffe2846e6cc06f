"""What of building an image is pure: bill of materials, releases, names of partitions, packages that are taken out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.site import updates
from images import bom, root, vm
from images.disk import Parts
from images.keys import Keys
from images.release import Release, release

STATUS = """Package: libc6
Status: install ok installed
Source: glibc
Architecture: amd64
Version: 2.41-12+deb13u1
Description: GNU C Library
 with: a colon on a further line

Package: apt
Status: install ok installed
Architecture: amd64
Version: 1:3.0.3
Description: package manager
"""
COPYRIGHT = "Files: *\nLicense: LGPL-2.1+\n text\n\nFiles: a\nLicense: GPL-2\n\nFiles: b\nLicense: GPL-2\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "usr/share/doc/libc6").mkdir(parents=True)
    (tmp_path / "usr/share/doc/libc6/copyright").write_text(COPYRIGHT)
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS)
    (tmp_path / "usr/bin").mkdir(parents=True)
    for name in ("apt", "shared", "libc"):
        (tmp_path / "usr/bin" / name).write_text(name)
    (info / "apt.list").write_text("/.\n/usr/bin\n/usr/bin/apt\n/usr/bin/shared\n")
    (info / "libc6:amd64.list").write_text("/.\n/usr/bin\n/usr/bin/shared\n/usr/bin/libc\n")
    return tmp_path


def test_the_bill_of_materials_names_every_package_with_its_licences(tree: Path) -> None:
    document = json.loads(bom.cyclonedx(tree, STATUS, Release("1.2.3", 0), "ab" * 32))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    assert document["metadata"]["component"]["version"] == "1.2.3"
    libc, apt = document["components"]
    assert libc["purl"] == "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64"
    assert [row["license"]["name"] for row in libc["licenses"]] == ["GPL-2", "LGPL-2.1+"]
    assert libc["properties"] == [{"name": "debian:source", "value": "glibc"}]
    assert apt["purl"] == "pkg:deb/debian/apt@1%3A3.0.3?arch=amd64"
    assert apt["licenses"] == [{"license": {"name": bom.UNKNOWN}}]


def test_the_licence_list_has_every_text(tree: Path) -> None:
    text = bom.licence_list(tree, STATUS)
    assert "libc6 2.41-12+deb13u1: GPL-2, LGPL-2.1+" in text
    assert COPYRIGHT in text


def test_a_package_that_is_taken_out_leaves_what_others_have_too(tree: Path) -> None:
    status = root._take_out(tree)
    assert "Package: libc6" in status
    assert "Package: apt" not in status
    assert sorted(path.name for path in (tree / "usr/bin").iterdir()) == ["libc", "shared"]


def test_certificates_outlive_what_made_them(tree: Path) -> None:
    for name, lists in (("openssl", "/.\n/etc/ssl/certs\n/usr/bin/openssl\n"), ("openssl-provider-legacy", "/.\n")):
        (tree / f"var/lib/dpkg/info/{name}.list").write_text(lists)
    (tree / "var/lib/dpkg/status").write_text(f"{STATUS}\nPackage: openssl\n\nPackage: openssl-provider-legacy\n")
    (tree / "usr/bin/openssl").touch()
    (tree / "etc/ssl/certs").mkdir(parents=True)
    (tree / "etc/ssl/certs/ca-certificates.crt").touch()
    status = root._take_out(tree)
    assert not (tree / "usr/bin/openssl").exists()
    assert (tree / "etc/ssl/certs/ca-certificates.crt").exists()
    assert "Package: openssl-provider-legacy" in status and "Package: openssl\n" not in status


def test_partitions_are_called_by_the_root_hash() -> None:
    parts = Parts(
        Path("r"), Path("v"), Path("k"), "00112233445566778899aabbccddeeff" + "ffeeddccbbaa99887766554433221100"
    )
    assert parts.root_uuid == "00112233-4455-6677-8899-aabbccddeeff"
    assert parts.verity_uuid == "ffeeddcc-bbaa-9988-7766-554433221100"


def test_a_release_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("QBB_IMAGE_VERSION", "9.9")
    assert release() == Release("9.9", 1700000000)
    assert release("1.0").stem == "qbb_1.0"


def test_an_update_is_verified_and_the_kernel_comes_last() -> None:
    files = updates.transfers("https://example.org/a%b/")
    assert sorted(files) == ["10-root.transfer", "20-verity.transfer", "30-kernel.transfer"]
    for text in files.values():
        assert "Verify=yes" in text
        assert "Path=https://example.org/a%%b/" in text
    assert "TriesLeft=3" in files["30-kernel.transfer"]
    assert "MatchPartitionType=root-verity" in files["20-verity.transfer"]


def test_machines_and_their_cards_are_told_apart(tmp_path: Path) -> None:
    paris, vienna = (vm.Machine(name, tmp_path, tmp_path, Keys(tmp_path)) for name in ("paris", "vienna"))
    assert paris.uuid != vienna.uuid
    assert len({machine.mac(wire) for machine in (paris, vienna) for wire in (-1, 0, 1)}) == 6
