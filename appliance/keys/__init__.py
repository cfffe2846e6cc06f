"""The keys service's layer (paper 3.3, Figs. 15 and 16): applications, their connections, their keys.

    pfkey.py         PF_KEYv2: the table of messages and extensions, parse and build
    requests.py      what clients may ask, as a table
    registry.py      applications at this node: port, SA type, public address, owner
    policy.py        who may ask for what, how much: peer credentials, quotas
    sessions.py      connections and the places of their keys: flight, stock, held; expiry
    spi.py           SPIs that this node hands out
    associations.py  SAs made of keys: algorithms, SADB_ADD, lifetimes
    peer.py          messages between two keys services
    courier.py       carries them, reliably
    agreement.py     the two ends' agreement that a key is now an SA
    exchange.py      the QKDTL side: connections, prefetch, what the transport tells
    finding.py       connections by name: which node and port that is
    plan.py          the short way for requests that a client repeats
    clients.py       clients and what goes out to them;  effects.py  what the core wants done
    audit.py         records of hand-overs
    core.py          the machine: a client's message in, effects out
    errors.py        Refused

**The life of a key.** An application registers (REGISTER: port, SA type, public address), asks for a connection
(ACQUIRE: far node and port, rates, how many keys to keep ready) and then for keys (GETSPI). Its node draws the key,
sends it and waits until the far node says that it holds it; only then the asking side gets it. One key is one
unidirectional SA, so a tunnel is two keys. For an SA the receiving end allocates the SPI and installs first. A TLS
application (private SA type) gets the key and its 16-byte ID, names the ID to its peer (it is the PSK identity), and
the peer application fetches the key by it, exactly once.

**Names.** What is registered with a name (NAME) is announced in the whole network by the routing unit, and an ACQUIRE
with a NAME in the place of node and port goes to the nearest application of that name; when that one refuses or does
not answer, to the next. A connection by node and port asks no directory: the far node refuses what is not registered
there, and what was registered a moment ago is not missed. Without a routing unit it is the only way. A registration
that is withdrawn ends no connection by itself: the application's end does, and a routing unit may start again under
connections that go on.

**Both ends give keys out, but never the same one.** A key belongs to the end that drew it; the stock that is kept ready
is therefore split by asking side, without any word between the ends.

**Messages** are PF_KEYv2 with private extensions above the kernel's numbers, which a kernel skips: SADB_ADD may be
written to a kernel's PF_KEY socket as it came (Linux takes AES-CBC with HMAC there; its af_key knows no AES-GCM).
Departures from RFC 2367: ACQUIRE goes from application to service (and, with sequence number 0, tells an application
that somebody connected to it); GETSPI is answered by the finished SADB_ADD; DELETE with a CONNECTION closes that;
LIFETIME_CURRENT in EXPIRE has the SA's age in addtime. GET of an SA never repeats its key: each end gets it once.

**When things end.** Closing a connection in order wipes what was not given out, at both ends; what was given out may
still be fetched until it expires, and SAs live on. Any other end (reset, time-out, restart of a service) deletes all
of the connection at both ends, SAs too, because nobody knows what the other end still holds.
"""
