"""Every event that a unit writes to the journal: its stable MESSAGE_ID, severity and explanation, in one
place.

`journalctl -x` shows the explanation (packaging/qbb.catalog is made from this table), `journalctl
MESSAGE_ID=...` finds all of one kind. An id is never reused or changed; a new event gets a fresh
`systemd-id128 new`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """syslog(3) priorities."""

    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


@dataclass(frozen=True)
class Event:
    name: str
    message_id: str
    severity: Severity
    subject: str
    explanation: str


_TABLE = (
    (
        "unit-started",
        "a2a11961d242572bbf48b4e5b666a78a",
        Severity.INFO,
        "A unit is ready",
        "The unit read its configuration, opened its sockets and serves.",
    ),
    (
        "unit-stopped",
        "8cf998b977a55431a6d945d324327dbb",
        Severity.INFO,
        "A unit ended in order",
        "The unit was asked to stop. Key that was open is lost; nothing else is.",
    ),
    (
        "unit-failed",
        "34cd47699d665b80a594c807544b12e6",
        Severity.CRITICAL,
        "A unit cannot go on",
        "The unit ends because it cannot start, or because going on could break a promise, such as key used "
        "twice. The message says what is in the way; systemd starts it again and again, so it recovers when "
        "that is mended.\n"
        "What to do: mend what the message names; systemctl status UNIT tells when it runs again.",
    ),
    (
        "configuration-refused",
        "38dda0fc4e0158679f2e6b6def250789",
        Severity.ERROR,
        "The configuration is wrong",
        "The message names the place in the node file and what would be right. The unit is tried again every "
        "half a minute, and at once when the file changes.\n"
        "What to do: qbb check lists every problem; edit /etc/qbb/node.toml.",
    ),
    (
        "link-up",
        "f058a4c5e1de5a7f9b944683fe346180",
        Severity.NOTICE,
        "A link carries traffic",
        "Both ends agree on the key store, and there is key above the marks.",
    ),
    (
        "link-down",
        "8d712d10aa515f3c87f9712d13084c47",
        Severity.WARNING,
        "A link carries no traffic",
        "Session keys take other ways, or are refused; stored key is safe. By the cause, in QBB_CAUSE:\n"
        "device ...: a device's alarm (see its own entry): look at the fibre first.\n"
        "key exhausted, key charging: more key was spent than made; it comes back by itself at the high mark.\n"
        "the peer is silent, confirming, comparing logs: the neighbour or the classical channel is down: ping "
        "it, look at its node.\n"
        "... refused: the two ends have different secrets or settings.\n"
        "anything about a socket or an address: the interface or address of listen is not there.\n"
        "name ... is not resolved: no name server answers, or none knows the name; or give addresses.\n"
        "... is at ... now: the neighbour's name has another address; the link follows it.\n"
        "qbb links shows the cause that stands now; journalctl QBB_LINK=NAME the link's life.",
    ),
    (
        "link-hello-refused",
        "be6faeca539254efa587c2aa3bfdb627",
        Severity.WARNING,
        "A hello was refused",
        "A hello did not authenticate under the link's secret, or the ends are configured differently. "
        "Anybody who reaches the port can cause a few of them.\n"
        "What to do, if it goes on: compare secret, hash, chunk_bytes and window_bytes of both ends.",
    ),
    (
        "session-up",
        "6585e27ef31143cc92b5b5f8fe7eb73f",
        Severity.INFO,
        "Both ends of a link agree on their key logs",
        "A hello was completed and an epoch began; packets of older epochs are worthless from now on.",
    ),
    (
        "session-replaced",
        "8b7aa7d2dc574ba08f67f77004af10d0",
        Severity.INFO,
        "The peer began a new session",
        "The peer restarted or lost its session. Key that was open is lost at both ends; nothing else is.",
    ),
    (
        "block-expired",
        "f88b7131552541e0afc19e975a543c7e",
        Severity.WARNING,
        "A block was destroyed unused",
        "The other end never showed the block: its device lost it, or its disk went back in time.",
    ),
    (
        "log-torn",
        "ccfb3eea4bfa4f569c1006a14084b33a",
        Severity.NOTICE,
        "An unfinished record was cut from the key log",
        "A crash or power loss struck during a write. Nothing had been spent under that record.",
    ),
    (
        "link-quarantined",
        "c30456d9e62b5f9ba564337d031c9f5a",
        Severity.ALERT,
        "The key logs of a link contradict each other, or one is damaged",
        "The store of the link is frozen: after a restored disk or a fault its key could be used twice. "
        "Nothing of it is used any more. A log that is damaged, not merely torn at its end, is left as it is.\n"
        "What to do: find the cause at both ends (a backup or snapshot that was restored? a failing disk?), make "
        "a new link secret, then discard the store at both ends with qbb link discard.",
    ),
    (
        "link-barred",
        "cecfa20ab6e344d1bbc77a37ab8b2bd1",
        Severity.ERROR,
        "A link does not run: its secret is another link's",
        "A link secret is the first key of one link, and this one was loaded as key under the other name that the "
        "message tells. Loading it again would use key twice, so this link stays down; the others go on.\n"
        "What to do: make a new secret with qbb link secret for this link, put it in place at both ends, and restart "
        "qbb-dataplane there. Where the link was only renamed, its old name will do as well.",
    ),
    (
        "secret-destroyed",
        "121bcc4c604d4d38b4a915e717f201c2",
        Severity.WARNING,
        "What was left of a shared link secret was destroyed",
        "The store held key of a link secret that was loaded for another link as well, which earlier versions did not "
        "notice. It is given up at both ends; key from devices stays.\n"
        "What to do: nothing more, when both links have new secrets.",
    ),
    (
        "rollback-detected",
        "57f57c313a3342608484c07b6bc6cc47",
        Severity.ALERT,
        "The neighbour's disk went back in time",
        "The neighbour lacks records of the key log that it had confirmed: its disk or virtual machine was restored "
        "from an older state. The log was completed from here, and all key that was open is void: none is used twice.\n"
        "What to do: keep key stores out of backups and snapshots. Had both ends gone back, nobody would have noticed.",
    ),
    (
        "routed-link-up",
        "18cdb8cdf1d84bc4994829b0c46bf83b",
        Severity.INFO,
        "OSPF runs over a link",
        "",
    ),
    (
        "routed-link-down",
        "2106d445b63c4c21a8e3e9c91dbf7665",
        Severity.NOTICE,
        "OSPF gets nothing over a link",
        "Q3P took the link down, or the data plane is gone: the link's own entries say why. Routes go round it.",
    ),
    (
        "link-discarded",
        "bd44173e157750629262cf7a64f38b05",
        Severity.NOTICE,
        "An operator discarded a key store",
        "All stored key of the link was wiped. The link charges again from its devices.",
    ),
    (
        "store-low",
        "b882514e626156eabb85e0feef624056",
        Severity.WARNING,
        "Stored key runs low",
        "More key is spent than the devices make. The link goes down for traffic when it is exhausted.\n"
        "What to do: see by qbb sessions who spends, lower keys_per_s of clients, or let devices make more.",
    ),
    (
        "store-exhausted",
        "90531e23ff9f5ecfab18be9a1eb263b8",
        Severity.ERROR,
        "Stored key is exhausted",
        "Only control packets spend key until the high mark is reached; the link carries no session keys.\n"
        "What to do: nothing, when the devices make key (qbb device); else look at them.",
    ),
    (
        "store-ready",
        "7d3de04854c75eada8e856c907cbdfca",
        Severity.INFO,
        "There is enough stored key",
        "The link's store passed its high mark.",
    ),
    (
        "store-mismatch",
        "316b1e93709959b7a2831c154bf6af7d",
        Severity.ALERT,
        "A block differs between the ends",
        "The fingerprints of a device's block were not equal. The block was discarded at both ends.\n"
        "What to do, when it is repeated: the devices do not correct their errors, look at them.",
    ),
    (
        "store-sync-failed",
        "6616d2bd868c59c2a7073bec602794b5",
        Severity.CRITICAL,
        "The key store cannot be written",
        "A write or sync of the store failed, so the link is stopped; it is not passed over, because what the "
        "disk holds is not known. Every half a minute the store is written anew, and the link comes back when "
        "that succeeds.\n"
        "What to do: make room on /var, or replace the disk. Never restore a key store from a backup.",
    ),
    (
        "device-connected",
        "6e52707256aa5423a0e9f5fc7c74886b",
        Severity.INFO,
        "A device delivers to the data plane",
        "",
    ),
    (
        "device-lost",
        "fc0b150d260a5758985b638d01b39168",
        Severity.WARNING,
        "A device ended its connection to the data plane",
        "The device's unit stopped or crashed. Blocks that were not accepted are delivered again.",
    ),
    (
        "dataplane-lost",
        "1b77635a55915cd2ae1e1cf8c2429ed4",
        Severity.WARNING,
        "A device's unit lost the data plane",
        "Blocks wait in the device's unit, up to pending_blocks, and are delivered when the data plane is back.",
    ),
    (
        "fibre-lost",
        "8e07c925e488596887af9a338c83ec56",
        Severity.WARNING,
        "A simulated device lost its fibre",
        "The fibre's process does not answer, or it has two other ends. The device tries again.",
    ),
    (
        "device-refused",
        "b54cb142f6a8551a9adc3bec037ec3a7",
        Severity.ERROR,
        "The data plane refused a device",
        "Link and device must be in the configuration of the data plane under the names used.",
    ),
    (
        "block-accepted",
        "13bfef714bac54ccb92b5e5ce699762b",
        Severity.DEBUG,
        "A block is in the pickup store",
        "",
    ),
    (
        "block-refused",
        "197044282e3a5927bba3322f998bc953",
        Severity.WARNING,
        "The data plane refused a block",
        "The reason stands in the message.",
    ),
    (
        "block-name-used",
        "8fb235c585a7412c9cffd962154b103f",
        Severity.WARNING,
        "A device's block came under a name that was used",
        "A name stands for one block for ever, at both ends: a second block under it is refused for good, since the "
        "other end may count on the first. A single one comes from a device that delivers once more what it was not "
        "heard to be rid of. When it goes on, the device counts its blocks anew, from ids that it had before: the "
        "clock of a fibre's host was set back, a device was replaced or reset, or devices were added or renamed, so "
        "that another one has this one's number. Nothing of what it makes is kept, and the link runs dry.\n"
        "What to do: have the device count on from above its highest id (for a simulated fibre: set the clock of its "
        "host, start it again); after a change of devices see that both node files name the same ones.",
    ),
    (
        "block-discarded",
        "c4e9423016e55168a59a297ed3218d78",
        Severity.WARNING,
        "A block was discarded",
        "Its error rate was above the threshold, or it could not be kept, or it made room: for a link's log on a full "
        "disk, or for younger blocks when the neighbour has not shown its own for long.",
    ),
    (
        "device-alarm-qber",
        "23d531a76c9d527aadd42c4af11c10ba",
        Severity.ALERT,
        "Too many errors on the quantum channel",
        "The quantum bit error rate is above the threshold: an eavesdropper, or a fault of the device or "
        "fibre. Blocks are discarded. By the device's on_alarm the link goes down.\n"
        "What to do: look for a tap along the fibre; then at the devices' alignment. It clears by itself "
        "after good blocks.",
    ),
    (
        "device-alarm-no-light",
        "c16a39d533bf505e8b39df699c74aed9",
        Severity.ERROR,
        "No light on the quantum channel",
        "The receiver counts no more than its dark counts: a cut fibre or a dead source.\n"
        "What to do: look at the connectors, the fibre, the far device.",
    ),
    (
        "device-alarm-stalled",
        "03cda783dc6256eba7ae29a9fe5e4558",
        Severity.ERROR,
        "A device makes no blocks",
        "For stalled_after_s no block came.\n"
        "What to do: see whether the far node and its device run (qbb device), then look at the fibre.",
    ),
    (
        "device-alarm-cleared",
        "eb0b1834dcf55e6caaf92d3fea157584",
        Severity.NOTICE,
        "A device alarm cleared",
        "",
    ),
    (
        "keys-connected",
        "c14a6b7635825ce9bbb3be130995ad47",
        Severity.INFO,
        "The keys service took the ring",
        "",
    ),
    (
        "keys-lost",
        "c3d6eac9c2705475b17694722f8fb493",
        Severity.WARNING,
        "The keys service left the ring",
        "Packets for local applications are dropped until it comes back.",
    ),
    (
        "client-refused",
        "81dc5b986c49575eb159c89176d7e00c",
        Severity.WARNING,
        "A key client was refused",
        "No [[keys.client]] rule allows what it asked for.",
    ),
    (
        "application-registered",
        "bd557dcd237654ccb6dda9b6830c9c7d",
        Severity.INFO,
        "An application registered",
        "",
    ),
    (
        "application-not-announced",
        "aaa91427100545edac1df4173a6554d7",
        Severity.WARNING,
        "The routing unit refused to announce an application",
        "It works by the node's address and port. Others do not find it by its name.",
    ),
    (
        "session-opened",
        "383d613e62b55807a5878e6e1da27d87",
        Severity.INFO,
        "A QKDTL connection is open",
        "",
    ),
    (
        "session-closed",
        "2f3ea9999e5054b2bb4814d6992a44ce",
        Severity.INFO,
        "A QKDTL connection ended",
        "",
    ),
    (
        "key-delivered",
        "a0feebef1ee558ac88155380321bd7bf",
        Severity.INFO,
        "A key was handed over",
        "Audit record, written before the key is given: id, length, consumer. Never its bytes.",
    ),
    (
        "key-lost",
        "24960f3c647e55e2a4836e00ac64fb8a",
        Severity.WARNING,
        "A key was not confirmed",
        "The far node did not confirm the key, so the asking side does not get it.",
    ),
    (
        "forged-packet",
        "4ea4433935ef5a58a94d51c81c485c8d",
        Severity.ALERT,
        "A packet failed its authentication",
        "The tag of a packet did not verify. Noise does not pass the checksums below, so somebody made it, or "
        "disturbs. Nothing was consumed and nothing believed.\n"
        "What to do: look at who reaches the classical channel's port; the link goes on.",
    ),
    (
        "stranger-refused",
        "b9c24684f0c74993a9740c0669b69fa4",
        Severity.WARNING,
        "A stranger connected to a link's port",
        "A TCP connection came from another address than the neighbour's, and was closed. Where remote is a name, it "
        "is resolved again, so a neighbour that moved gets through when it tries again.\n"
        "What to do, if it goes on: QBB_ADDRESS is the last one. If it is the neighbour's own, mend remote; else look "
        "at who reaches the port.",
    ),
    (
        "clear-mismatch",
        "60181ce9eddd5145b562337daea42da9",
        Severity.ALERT,
        "A verified packet was padded in the wrong place",
        "The peer runs other software or is faulty.",
    ),
    (
        "routing-connected",
        "8990d9b155f343cfa436e82bd3a7a14b",
        Severity.INFO,
        "The routing unit is connected",
        "It gets OSPF packets and gives routing tables from now on.",
    ),
    (
        "routing-lost",
        "6673a8b1159645bcbf9f5e18c91d3b2b",
        Severity.WARNING,
        "The routing unit is gone",
        "Its last table stays for a minute; then the configured routes hold.",
    ),
    (
        "routing-expired",
        "115de8101a9648b9baf4a7ca96e581b9",
        Severity.WARNING,
        "No routing unit for a minute",
        "The configured routes hold: neighbours and static routes. See systemctl status qbb-routing.",
    ),
    (
        "routing-no-dataplane",
        "9cdd0d4cfc6a4876aa807c6f35f5a1dc",
        Severity.WARNING,
        "The data plane is gone",
        "Routing takes all its links down until the data plane is back. See systemctl status qbb-dataplane.",
    ),
    (
        "frr-ended",
        "8249893a03d44f02acda823a38449e67",
        Severity.ERROR,
        "A daemon of FRR ended",
        "It is started again. The routing table in force stays; neighbours go round this node until it is back.",
    ),
    (
        "ospf-connected",
        "70cd8b7aecd94716b6026def23300a6f",
        Severity.INFO,
        "ospfd's database is being read",
        "",
    ),
    (
        "ospf-lost",
        "0b5355c8bc6d448f97a4c7abff6455e8",
        Severity.WARNING,
        "ospfd is gone",
        "The routing table in force stays until ospfd is back and has heard of all links: see qbb-frr.",
    ),
    (
        "ospf-command-failed",
        "8977b3b8e71a46e699d62cab1df10cd0",
        Severity.WARNING,
        "ospfd refused a request",
        "The version of FRR may be one that is not known here, or its vty socket is closed to the unit.",
    ),
    (
        "ospf-nudged",
        "c4fd9190a59e4a41825510d169854c42",
        Severity.NOTICE,
        "ospfd did not know an interface",
        "zebra missed its address, as it does now and then when it starts. The address was taken away and given again.",
    ),
    (
        "link-cost",
        "ebb891dff78946819db591c3366bdf12",
        Severity.INFO,
        "The derived cost of a link changed",
        "Its key rate or stored key changed by half and stayed so.",
    ),
    (
        "link-flaps",
        "79979c8aa8b34e8da386550e4aa9d916",
        Severity.WARNING,
        "A link goes down and up again and again",
        "OSPF has it down until it kept up for a while (routing.damping_half_life_s), so that routes do not follow "
        "each turn. Look for the cause at the link's journal entries.",
    ),
    (
        "machine-restored",
        "d9ecdb1f00cc44439c31878c67c4701e",
        Severity.ALERT,
        "This virtual machine was restored from a snapshot",
        "Its memory holds key that was spent after the snapshot was taken. The unit ends and starts afresh, and the "
        "key that was open is void. Keep nodes out of snapshots: had both ends of a link been restored, key would be "
        "used twice. Take a copy of a node out of the network at once, and begin its links anew (qbb zeroize).",
    ),
    (
        "restoring-unheard",
        "4bba1044550647e3981f83c8cf7ad0d4",
        Severity.WARNING,
        "A restored virtual machine may go unnoticed",
        "The kernel says in its log that a virtual machine was restored from a snapshot, and the unit cannot read it: "
        "in a container there is none, elsewhere the unit's OpenFile=/dev/kmsg has failed. Restored memory would spend "
        "key a second time. Keep the machine out of snapshots, and see systemctl cat UNIT.",
    ),
    (
        "unit-silent",
        "e42ea1395f1141a88892bf630411d750",
        Severity.ERROR,
        "A unit does not answer",
        "It is not running, or it hangs; the others go on. systemctl status says which: systemd starts it again by "
        "itself, unless its configuration is wrong.",
    ),
    (
        "disk-full",
        "bd87716eaf6c425fa4e426dc70e7ef65",
        Severity.ERROR,
        "There is little room for the key store",
        "A link stops when its key store cannot be written, and comes back by itself when there is room again.\n"
        "What to do: du -x /var shows what fills it; on an appliance journalctl --vacuum-size=50M makes room.",
    ),
    (
        "node-unhealthy",
        "7218dfbb0d744be7bc3610d327df4ac2",
        Severity.WARNING,
        "Something is wrong at this node",
        "qbb alarms lists all that stands, and since when.",
    ),
    (
        "node-healthy",
        "4d9944489c1d4170bc7ba871a074bd62",
        Severity.NOTICE,
        "No alarm stands at this node",
        "",
    ),
)

EVENTS: dict[str, Event] = {row[0]: Event(*row) for row in _TABLE}
