"""What the bootable image and the tests of the installed package are made of: Debian trees (tree.py); and the image.

    tree.py      a Debian tree with some packages, built once and kept
    tools.py     a Debian 13 to run things in: systemd-repart, ukify, QEMU
    keys.py      the signing keys
    root.py      the appliance's root: a tree, this project's package, root/, less what only building wanted
    disk.py      dm-verity, initrd, signed kernel image, partitions: systemd-repart and ukify do it
    update.py    the same as an update, signed
    bom.py       bill of materials and licences
    build.py     all of it in order: `make image`
    vm.py        an appliance in a virtual machine; vmshell.py: a root shell into it; console.py: its console
    pair.py      two of them with a fibre; run.py: `make image-run`

**What trusts what.** The firmware holds the certificate db and boots what it signed: systemd-boot and the kernel image,
in which kernel, initrd and command line are sealed together. The command line has the root hash of dm-verity, so not a
byte of the root can change unseen. The TPM opens /var if Secure Boot is on with these keys (PCR 7), nothing was added
to the kernel image from beside it (PCR 12) and that is one that the key pcr signed (PCR 11): an update needs no new
binding, another system on this machine gets nothing. Each image that these keys ever signed may open it, the old ones
too: what must not be run any more takes new keys db and pcr, and machines that are enrolled anew.

**Nothing is mounted to build.** A build needs no loop device and no device-mapper, so it runs in a container. Every
file has the time of the release; ids follow from a seed; the signatures are the only use of keys. The same packages
give the same root hash: `make image-check`.
"""
