"""Q3P, the link layer between two neighbouring nodes (the paper's QKDLL): who spends which word of key, and when.

messages.py    the hello (unsealed, under HMAC) and the control messages (sealed, channel 0)
records.py     the link log's records and their chain of digests
logstate.py    what a log means, and which record may come next
linklog.py     the log joined to its file: a record counts once it is durable
checkpoint.py  what the first records meant, so that they may be forgotten
link.py        the machine of one end: hello, sync, up, and the ends of its life: quarantine, failure, barred
custody.py     key while the link is up: who opens, closes, stores, offers and reports
offers.py      the master's comparing of blocks that the slave offered
streams.py     where opened chunks stand in a direction's stream of words
reserves.py    who may still spend when key runs short
settings.py    what the operator decides
ports.py       what the machine needs from outside: disk, engine, wire

Sealing, opening, windows and retransmission are in csrc/core/link.h. Everything here is pure: time, random numbers,
packets and blocks come in by method calls, effects go out through the ports, in order, and a crash may strike between
any two of them.

Two ends of a link must agree, through crashes, power loss and a hostile network, on which key word serves what.  They
do so by one list, the link log, and by a rule for every moment at which one of them might not know what the other
knows.  The rules below are checked by exhaustive exploration of a small model (tests/model): two ends, up to five
chunks, crashes at any point, a network that loses, delays, reorders, duplicates and replays anything ever sent, torn
writes, failed syncs, lost block files, and the rollback of one end's disk to any earlier state.

What must hold:

  A  No chunk word, starter mask or slot half serves two things.
  B  A word is spent only if the record that opened it is durable at both ends.
  C  The ends' logs never differ at an index.
  D  No history in which at most one end's disk is rolled back quarantines a store.
  E  While unused key that both ends hold is left, there is a way back to UP, and in UP a way to open chunks for both
     directions; and an honest network with bounded delay takes it.
  F  Replayed hellos neither void chunks nor take down a link that is up.
  G  An end spends from, or opens packets with, no chunk whose bytes it does not hold.
  H  Bytes wiped at one end are never needed again by either.

Terms
-----

The master is the end with the lower node address, always.  Key comes as device blocks; a block becomes a *chunk* by a
STORE record, without being copied, and is *held* while its block file is there, with the bytes that were compared.  An
*epoch chunk* serves EPOCH records only and is divided into *slots*; a slot has two halves, one for each direction, and
a half is one H and a few *starter* words.  A *session* is sid = (n, c), the initiator's nonce and the responder's
challenge.  An end is in one of the modes INIT, SYNC, UP, QUARANTINE.  n, c, sid and all counters and windows are
volatile.

The records: STORE(chunk), OPEN(chunk, direction), CLOSE(chunk), EPOCH(chunk, slot, sid), VOID(chunks).  Records are
numbered and only ever appended and resent; none is changed or withdrawn, even if nobody acknowledged it.  The master
alone writes new ones.

The rules
---------

1. Restart.  Cut off a torn tail of the log, wipe the files of chunks that the log calls closed or void, forget
   everything volatile, draw a nonce n and a challenge c, and send INIT(n).  Write and spend nothing.

2. INIT(n') in any mode.  If n' is in my sid, resend my LOGSTATE.  If I am the master and in INIT, ignore it: the tie
   is mine.  Else answer CHAL(c, n').  No state changes, so a link that is up stays up.

3. CHAL(c, n).  Only if n is my own outstanding nonce, answer RESP(n, c) and stay in INIT.  A challenge is never taken
   for a hello, nor a hello for a challenge.

4. RESP(n, c) with c outstanding is fresh proof that the peer has left every session.  Drop the old one, even if it is
   up; enter SYNC with sid = (n, c); draw a new c; send LOGSTATE.

5. The initiator enters SYNC on the first LOGSTATE that carries its n.  It, too, draws a new c: its old one may stand
   in a challenge that the network still holds back.

6. In SYNC.  LOGSTATE(sid, length, digest, chunks not held), RECORD(sid, index, record) and ACK(sid, length, chunks not
   held) are authenticated together with sid and accepted in that session only.  An end reads its log, and looks which
   live chunks (stored, open or epoch) it does not hold, only after it dropped the old session; it looks again for every
   ACK, after the append that the ACK is for.  The end with the shorter log appends, makes durable, then acknowledges.
   An append that brings CLOSE or VOID wipes.  If neither log is a prefix of the other, both ends quarantine.

    A block is known to both logs by its name alone, and devices that count anew, or a disk that went back, may bring
    another one under a name.  So an end takes none whose name its log has, or that it gave up in this session; one that
    comes outside UP is *unsettled*, durably, until a session is up, when the logs are equal.  A STORE that arrives in
    SYNC does not make a chunk held, and the file is destroyed, if the block is unsettled, if the end is the master, or
    if an EPOCH came before it: then this disk does not remember the session in which the blocks were compared.  (The
    link secret's blocks are bound to their names by the secret.)

7. The master in SYNC, the logs equal and the whole log acknowledged in this session: if any chunk is open, or is
   reported not held by either end, write one VOID for all of them and wait for its ACK.  Epoch chunks are voided if not
   held, never merely because of the restart.  Then write EPOCH(chunk, slot, sid) for the first slot that the log does
   not name, of an epoch chunk that is live, or of a stored chunk, which thereby becomes one.

8. CONFIRM is the first sealed packet of each direction: made once, kept, resent byte for byte.  The slave makes it when
   the EPOCH of its own sid is durable and the last record of its log, the master when that record is acknowledged.

9. UP when I have sent my CONFIRM and verified the peer's.  From here on every message is a sealed packet.

10. In UP the master takes words from an opened chunk once the slave acknowledged the OPEN in this sid, the slave after
    its own sync; the master opens several chunks for each direction as it likes.  A position in a stream is a matter
    of the session and dies with it.  RECORDS that come before their predecessors are kept until
    these come.  The slave acknowledges by REPORT, which names the chunks that it does not hold; the master voids them
    and opens none of them.

11. A SYNC timer.  If my log has no EPOCH of my sid, back to INIT with a fresh n and c.  It may fire whatever the peer
    does; set above two round trips and restarted whenever a log grows, it costs nothing but a slot now and then.
    Never on silence in UP: a silent peer makes the link useless for traffic, but the session ends by rule 4 only.

12. Reserves.  A stream without words can never get any, since the record that would bring some costs a word, and its
    acknowledgement another.  Let `left` be the words that an end may take now.
      Master: data, STORE, CLOSE and SKIP only while left >= 3.  OPEN for itself if left >= 2, or if left = 1 and no
      OPEN for itself was written since the last OPEN for the slave (or since the EPOCH).  OPEN for the slave if
      left >= 2, or if left = 1 and an OPEN for itself is written but not yet acknowledged.
      Slave: the last word only for an ACK that covers an OPEN; everything else needs left >= 2.
      These are the least marks with which no order of events strands a link that has stored chunks.  Here data,
      routing, pings, SKIPs and lone acknowledgements leave the last 16 words of 8 bytes to control, and a direction is
      given its next chunk when less than half a chunk is left, the emptier one first.  If a stream runs dry
      nevertheless (the last stored chunk given to the slave, and then new blocks come), its end starts afresh by rule 1
      while there are slots, ever more rarely: for safety that is a crash, which the exploration puts at every point.

13. An end that appends the EPOCH of its session, or in UP an OPEN, and does not hold that chunk, ends the session as
    by rule 1.  The record stands; the next LOGSTATE reports the chunk, and rule 7 voids it.  A block that is there and
    cannot be read is a failed disk: rule 16.

14. CLOSE(chunk) is written by the master in UP when the sender has taken every word of the chunk, and the receiver has
    acknowledged every reliable packet under them, or a SKIP of it: for its own direction by what the slave
    acknowledged, for the slave's by what its REPORT says.  Either end wipes when CLOSE is durable.

15. Giving up.  A data packet may be given up by a SKIP, itself sealed with fresh words; the words of the packet are
    lost.  A packet of channel 0 (CONFIRM, RECORDS, REPORT and so on) is never given up but resent as it is: a link
    whose CONFIRM was given up in an outage would stay in SYNC for ever.

16. A failed write or sync ends the session and the life of the machine (FAILED); whether the record is on disk is
    found out by rule 1.  Nothing is sent that rests on a record whose sync has not returned.  Before rule 1 reads the
    log it is written afresh and synced: what a failed sync left in the page cache reads like what is on the disk.

17. Compaction.  An end may forget the records below an index, its base, when both ends have them and the wiping that
    they ask for is done (it is done as each takes effect, or at the next start).  A checkpoint keeps the digest, the
    live chunks, the slot and, for each device, the highest block that was stored and is gone: blocks up to it are never
    taken again.  Each end compacts for itself.  A peer whose log ends below the base was rolled back further than can
    be mended: quarantine.  So some thousand records are kept.

In messages.py CHAL is Challenge and RESP is Response; RECORD is HelloRecords in SYNC and Records in UP; ACK is LOGSTATE
in SYNC and REPORT in UP.

Where masks come from
---------------------

Up to CONFIRM there are no one-time masks: INIT, CHAL, RESP, LOGSTATE, RECORD and ACK carry an HMAC over link,
sender's role, content and sid under the link secret.  CONFIRM takes mask 0 of the sender's half of the slot that this
session's EPOCH names, and H comes from the same half.  Then the stream of a direction is: the other starters of that
half, then the chunks that OPEN records after the EPOCH give to the direction, in log order, and each sealed packet
takes the next words.  The EPOCH is durable at both ends before the master seals anything, and at the slave before the
slave does; so whichever end is rolled back, the other still knows that the slot is gone, and sid tells this session
from any other.  A durable mark ("next unspent word") could not do this: a CONFIRM that the network withholds leaves
no trace at the peer, and the rollback of a disk takes the mark back.

Why OPENs of older epochs are in no stream although rule 7 voids them anyway: either alone would do.  The stream's
definition protects the words; VOID is what lets both ends wipe.

How many starters: two in each half are enough while stored chunks are left (CONFIRM, and one word for the OPEN or its
ACK).  When none is left but blocks wait in the pickup stores, the master needs four (CONFIRM, STORE and, by rule 12,
two for the OPENs) and the slave three (CONFIRM, OFFER, an ACK), plus the pads of the fingerprints in its OFFER.  With
three the link comes up and is stuck: rule 12 keeps the last two words for OPENs, and there is nothing to open.  A word
of these rules is a tag's mask, two words of 8 bytes; a half has seven.

What the rules leave open, and how it is done here
--------------------------------------------------

- The master stores the link secret's blocks in SYNC, without an OFFER: both operators loaded the same file, and an end
  that lacks them reports the chunk as not held.
- After each EPOCH that led to no session the master waits longer before the next.
- LOGSTATE of the master names its newest blocks, so that the slave does not spend its last words on offering blocks
  that the master has not got.
- What the data plane verified or received is handed over in one order, hellos and control messages alike, so nothing
  of an older session comes after the records of a newer one.  What overtakes the peer's CONFIRM is kept until that
  comes.
- REPORT tells of words spent, too: by that the master opens the slave's next chunk in time.
- A starved link without slots says that it needs a link secret.  Nothing else can help it.

What the exploration refuted, and how it was mended
---------------------------------------------------

- Chunks not held, reported once per session in LOGSTATE.  A slave that was rolled back gets the STORE of a block it has
  lost as a RECORD of this very SYNC, after its report.  Rule 6 looks again for every ACK.  (G)
- The block file lost between the report and the EPOCH or OPEN that needs it.  Rule 13.  (G)
- A challenge kept when its owner enters a session.  Kept by the responder, a replayed RESP enters the same sid a second
  time, and the slot is used twice (A).  Kept by the initiator, a RESP that answers a challenge of its older hello, held
  back until the link is up, takes the link down (F).  Rules 4 and 5; a further redraw at UP is not needed.
- No reserve of words (a master that opens two chunks for the slave has no word to open one for itself); then one word
  kept at each end (a master that opens twice for itself leaves the slave without a word for the ACK); then a second
  OPEN for the slave with the last word.  Rule 12 is the one that holds.  (E)
- Three starters where STORE comes first.  (E)

The planted flaws that the tests keep: a record reassigned after a lost acknowledgement; spending, or confirming, before
the acknowledgement; answering before the sync; a torn tail kept; records not bound to a session; CONFIRM rebuilt on
resend; EPOCH without its session; no VOID; a mask by durable mark; a slot by a counter in memory; a challenge kept, by
either role; the log read while the old session is accepted; no SYNC timer; one message type for asking and answering;
a hello that ends a session by itself; CLOSE before the receiver is done; chunks not held that are not reported, or
reported once; a session served without its file; no reserve, or one word; too few starters.

Beyond the promise, and shown by a test: both ends' disks rolled back without a session in between.  Nothing in either
log can then know of the slot that was used.

What is not modelled, and why
-----------------------------

- Fingerprints as numbers.  OFFER and STORE are modelled, equality of blocks is taken as decided.  An OFFER repeated in
  another session shows the fingerprint of the same block under other words, which tells nothing.
- Other bytes under a block's name, and a block delivered a second time; the simulator does both.  A name in the log is
  never stored again, nor one up to the highest that a checkpoint's log had stored (rule 17).
- Compaction; the simulator does it.  A log above the base behaves as the whole log.  Below it rule 17 quarantines,
  which is safe by definition.  That wiping comes before forgetting is what keeps a rolled-back file from living on:
  the end that comes back either still has the CLOSE in its own log, or gets it from its peer, or is below the base.
- Keep-alive, the traffic reserves and what REPORT asks for: the model's master may open at any time.
- HMAC and tags as such: the attacker forges nothing.  Were HMAC broken, he could still not spend: the slave's CONFIRM
  and the master's are under one-time masks, and CONFIRM names the session and the log's length and digest.
- An attacker who withholds packets drains slots, one for each attempt that got as far as EPOCH, and the open chunks,
  one set for each restart that he can cause.  The master's growing wait bounds the rate; the model has no time.
- Two chunks stored in one record, and several records in one packet: as several in a row, of which a crash may leave
  any prefix.
- The wear of an epoch chunk: when its last slot is used the next session takes a stored chunk, and the full one may be
  voided once that session's EPOCH is durable at both ends.
"""
