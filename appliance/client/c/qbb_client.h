/* Session keys from this site's QBB node, for programs in C. Speaks PF_KEYv2 (RFC 2367) as <linux/pfkeyv2.h> has it, with
 * four private extensions, over the node's pfkey.sock. Blocking; one thread a client. Functions return 0, or an errno from
 * the keys service or the socket; qbb_client_reason says why in words.
 *
 *     qbb_client *c = qbb_client_open("/run/qbb/pfkey.sock");
 *     qbb_client_register(c, SADB_X_SATYPE_QBB_TLS, 5000, "192.0.2.7");
 *     qbb_client_connect(c, "1.1.1.2", 6000, 5000, 32, 16, &connection);     or qbb_client_connect_named(c, "web", ...)
 *     qbb_client_key(c, connection, 0, &key);     the far application: qbb_client_fetch(c, id, &key)
 *     qbb_key_wipe(&key);
 *     qbb_client_close(c); */
#ifndef QBB_CLIENT_H
#define QBB_CLIENT_H
#include <linux/pfkeyv2.h>
#include <stddef.h>
#include <stdint.h>

#define SADB_X_SATYPE_QBB_TLS 240
#define SADB_X_EXT_QBB_KEY_ID 0xF001
#define SADB_X_EXT_QBB_REASON 0xF002
#define SADB_X_EXT_QBB_CONNECTION 0xF003
#define SADB_X_EXT_QBB_NAME 0xF004

#define QBB_KEY_ID_BYTES 16
#define QBB_NAME_BYTES_MAX 64
#define QBB_KEY_BYTES_MAX 1024
#define QBB_MESSAGE_BYTES_MAX 4096

struct qbb_key_id {
    uint16_t qbb_key_id_len;
    uint16_t qbb_key_id_exttype;
    uint32_t qbb_key_id_reserved;
    uint8_t qbb_key_id_key_id[QBB_KEY_ID_BYTES];
} __attribute__((packed));
/* sizeof(struct qbb_key_id) == 24 */

struct qbb_reason {
    uint16_t qbb_reason_len;
    uint16_t qbb_reason_exttype;
    uint16_t qbb_reason_reserved;
} __attribute__((packed));
/* sizeof(struct qbb_reason) == 6; followed by UTF-8 text, padded with zeros to 8 bytes */

struct qbb_name {
    uint16_t qbb_name_len;
    uint16_t qbb_name_exttype;
    uint16_t qbb_name_reserved;
} __attribute__((packed));
/* sizeof(struct qbb_name) == 6; followed by UTF-8 text, padded with zeros to 8 bytes */

struct qbb_connection {
    uint16_t qbb_connection_len;
    uint16_t qbb_connection_exttype;
    uint32_t qbb_connection_id;
    __be32 qbb_connection_node; /* QBB node address of the far end */
    uint16_t qbb_connection_local_port;
    uint16_t qbb_connection_remote_port;
    uint16_t qbb_connection_key_bytes;
    uint16_t qbb_connection_prefetch;
    uint32_t qbb_connection_rate_bps;
    uint32_t qbb_connection_burst_bits;
    uint8_t qbb_connection_priority; /* in the queues of all nodes on the way, 0 to 5 */
    uint8_t qbb_connection_reserved[3];
} __attribute__((packed));
/* sizeof(struct qbb_connection) == 32 */

_Static_assert(sizeof(struct qbb_key_id) == 24, "qbb_key_id");
_Static_assert(sizeof(struct qbb_reason) == 6, "qbb_reason");
_Static_assert(sizeof(struct qbb_name) == 6, "qbb_name");
_Static_assert(sizeof(struct qbb_connection) == 32, "qbb_connection");

typedef struct {
    uint8_t id[QBB_KEY_ID_BYTES]; /* the key's name at both ends; a TLS application's PSK identity */
    uint8_t bytes[QBB_KEY_BYTES_MAX];
    size_t length;
} qbb_key;

typedef struct qbb_client qbb_client;

/* NULL with errno. */
qbb_client *qbb_client_open(const char *path);
void qbb_client_close(qbb_client *client);
/* This program serves the application at `port`; public_address is IPv4 or IPv6 text. */
int qbb_client_register(qbb_client *client, uint8_t satype, uint16_t port, const char *public_address);
/* The same with a name, by which applications at other nodes may connect. */
int qbb_client_register_named(qbb_client *client, uint8_t satype, uint16_t port, const char *public_address,
    const char *name);
/* A QKDTL connection to the application at remote_port of a node; `prefetch` keys of key_bytes are kept ready. */
int qbb_client_connect(qbb_client *client, const char *node, uint16_t remote_port, uint16_t local_port,
    uint16_t key_bytes, uint16_t prefetch, uint32_t *connection);
/* The same to the nearest application that registered this name. */
int qbb_client_connect_named(qbb_client *client, const char *name, uint16_t local_port, uint16_t key_bytes,
    uint16_t prefetch, uint32_t *connection);
/* A key for one use; length 0: the connection's usual. The caller wipes it. */
int qbb_client_key(qbb_client *client, uint32_t connection, uint16_t length, qbb_key *key);
/* The key that the far application got under this ID; once. */
int qbb_client_fetch(qbb_client *client, const uint8_t id[QBB_KEY_ID_BYTES], qbb_key *key);
void qbb_key_wipe(qbb_key *key);
/* Why the last call failed. */
const char *qbb_client_reason(const qbb_client *client);
#endif
