"""The image in virtual machines (QEMU, emulation): what only a booted machine can show. See images/.

`make test` runs them before all others, one after another, since each boot takes a processor a minute or two:

    test_build.py       the same inputs give the same root hash; what is in the image
    test_pair.py        two appliances, booted once: Secure Boot, verity, TPM, firewall, keys over their link, IPsec in
                        their kernels, and what goes wrong at a site (faults.py): clocks, cables, a full disk, a power
                        cut; the key oracle listens to the wire all the time (oracle.py)
    test_state.py       a machine set up by hand, in setup mode, without a TPM, with another machine's TPM
    test_tampered.py    a root or a kernel image that was changed
    test_updates.py     updates that are forged, good, and bad

QBB_IMAGE=0 leaves them out; QBB_IMAGE=all adds what would take too long for each time: the updates, and a dying disk
to the pair. By pytest itself they run when QBB_IMAGE is set to 1 or all. They tell what they do as they go (pytest -s).
Limits of time are four times what a quiet machine takes.
"""
