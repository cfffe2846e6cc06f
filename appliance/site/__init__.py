"""The machine under the node, where it runs the appliance's image: what follows from the node file's table [site].

The image's root is read-only, and nobody logs in to set it up. At each boot the unit appliance-site (services/site.py)
takes in what it is offered, and makes the rest of it:

    intake.py     the node file and the links' secrets: taken from where they are offered, kept if they are good
    identity.py   which machine this is: a node file may be for this one alone
    network.py    addresses, name servers: files of systemd-networkd and systemd-timesyncd
    cards.py      network cards that the node file names and that are not there
    firewall.py   what may come in: rules of nftables
    updates.py    new versions of the image: files of systemd-sysupdate
    state.py      whether /var is open
    report.py     what the console shows: what was taken in, what is wrong, how to mend it

**A node file that is wrong never replaces a good one.** What is offered is read and checked whole before it is kept;
the node goes on with what it has, and the console says what is wrong with the other. The bytes of secrets are seen by C
and by install(1) alone.
"""
