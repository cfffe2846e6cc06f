"""Updates of the image: what systemd-sysupdate reads. A new version goes to the slot that does not run."""

from __future__ import annotations

SLOTS = {
    "10-root": ("root", "qbb_@v_@u.root", "qbb_@v"),
    "20-verity": ("root-verity", "qbb_@v_@u.verity", "qbb_@v_verity"),
}
KERNEL = "30-kernel"
TRIES = 3


def transfers(url: str) -> dict[str, str]:
    """Files by name. The kernel image comes last: from then on the new version is there."""
    files = {}
    for name, (kind, source, label) in SLOTS.items():
        target = f"Type=partition\nPath=auto\nMatchPattern={label}\nMatchPartitionType={kind}\nReadOnly=yes\n"
        files[name] = _transfer(url, source, target)
    patterns = "qbb_@v+@l-@d.efi qbb_@v+@l.efi qbb_@v.efi"
    target = f"Type=regular-file\nPath=/EFI/Linux\nPathRelativeTo=boot\nMatchPattern={patterns}\nMode=0444\n"
    files[KERNEL] = _transfer(url, "qbb_@v.efi", f"{target}TriesLeft={TRIES}\nTriesDone=0\n")
    return {f"{name}.transfer": text for name, text in files.items()}


def _transfer(url: str, source: str, target: str) -> str:
    return (
        f"[Transfer]\nProtectVersion=%A\nVerify=yes\n\n[Source]\nType=url-file\nPath={url.replace('%', '%%')}\n"
        f"MatchPattern={source}\n\n[Target]\n{target}InstancesMax=2\n"
    )
