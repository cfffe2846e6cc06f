"""The image in virtual machines (QEMU, emulation): what only a booted machine can show. See images/.

Building and booting take minutes of a processor, so these tests run when QBB_IMAGE is set:

    QBB_IMAGE=1 python -m pytest tests/image     build, Secure Boot, two appliances with keys over their link, IPsec,
                                                 a power cut, a tampered root
    QBB_IMAGE=all ...                            also updates that are good, bad and forged; a disk in another machine

They tell on standard error what they do (pytest -s). Limits of time are four times what a quiet machine takes.
"""
