#define _GNU_SOURCE
#include "qbb_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct qbb_client {
    int fd;
    uint8_t satype;
    uint32_t seq;
    size_t length;
    uint8_t message[QBB_MESSAGE_BYTES_MAX]; /* the one being written or read; wiped after each call */
    char reason[256];
};

qbb_client *qbb_client_open(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    strcpy(address.sun_path, path);
    qbb_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    client->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;
        qbb_client_close(client);
        errno = error;
        return NULL;
    }
    return client;
}

void qbb_client_close(qbb_client *client)
{
    if (client == NULL)
        return;
    if (client->fd >= 0)
        close(client->fd);
    explicit_bzero(client, sizeof *client);
    free(client);
}

const char *qbb_client_reason(const qbb_client *client)
{
    return client->reason;
}

void qbb_key_wipe(qbb_key *key)
{
    explicit_bzero(key, sizeof *key);
}

static void begin(qbb_client *client, uint8_t type, uint8_t satype)
{
    struct sadb_msg header = { .sadb_msg_version = PF_KEY_V2, .sadb_msg_type = type, .sadb_msg_satype = satype,
        .sadb_msg_seq = ++client->seq ? client->seq : ++client->seq, .sadb_msg_pid = (uint32_t)getpid() };
    client->length = sizeof header;
    client->reason[0] = 0;
    memcpy(client->message, &header, sizeof header);
}

/* Appends an extension of `size` bytes, padded to 8; its len is filled in. */
static void add(qbb_client *client, const void *extension, size_t size)
{
    size_t padded = (size + 7) / 8 * 8;
    uint16_t words = (uint16_t)(padded / 8);
    uint8_t *at = client->message + client->length;
    memset(at, 0, padded);
    memcpy(at, extension, size);
    memcpy(at, &words, sizeof words);
    client->length += padded;
}

/* The extension of that type in the answer, or NULL. Lengths are checked here, so callers check `size` alone. */
static const uint8_t *find(const qbb_client *client, uint16_t type, size_t *size)
{
    size_t at = sizeof(struct sadb_msg);
    while (at + sizeof(struct sadb_ext) <= client->length) {
        struct sadb_ext head;
        memcpy(&head, client->message + at, sizeof head);
        *size = (size_t)head.sadb_ext_len * 8;
        if (*size == 0 || *size > client->length - at)
            return NULL;
        if (head.sadb_ext_type == type)
            return client->message + at;
        at += *size;
    }
    return NULL;
}

static void keep_reason(qbb_client *client, int error)
{
    size_t size;
    const uint8_t *reason = find(client, SADB_X_EXT_QBB_REASON, &size);
    if (reason != NULL && size > sizeof(struct qbb_reason)) {
        size -= sizeof(struct qbb_reason);
        size = size < sizeof client->reason - 1 ? size : sizeof client->reason - 1;
        memcpy(client->reason, reason + sizeof(struct qbb_reason), size);
        client->reason[size] = 0;
    } else
        strncpy(client->reason, strerror(error), sizeof client->reason - 1);
}

static int failed(qbb_client *client, int error)
{
    strncpy(client->reason, strerror(error), sizeof client->reason - 1);
    return error;
}

/* Sends what was composed and reads its answer; messages that are none are passed over. */
static int ask(qbb_client *client)
{
    struct sadb_msg header;
    uint16_t words = (uint16_t)(client->length / 8);
    memcpy(client->message + offsetof(struct sadb_msg, sadb_msg_len), &words, sizeof words);
    if (send(client->fd, client->message, client->length, MSG_NOSIGNAL) < 0)
        return failed(client, errno);
    do {
        explicit_bzero(client->message, sizeof client->message);
        ssize_t got = recv(client->fd, client->message, sizeof client->message, 0);
        if (got < 0 && errno == EINTR) {
            memset(&header, 0, sizeof header);
            continue;
        }
        if (got < (ssize_t)sizeof header)
            return failed(client, got < 0 ? errno : ECONNRESET);
        client->length = (size_t)got;
        memcpy(&header, client->message, sizeof header);
        if ((size_t)header.sadb_msg_len * 8 != client->length)
            return failed(client, EBADMSG);
    } while (header.sadb_msg_seq != client->seq);
    if (header.sadb_msg_errno)
        keep_reason(client, header.sadb_msg_errno);
    return header.sadb_msg_errno;
}

static int done(qbb_client *client, int result)
{
    explicit_bzero(client->message, sizeof client->message);
    return result;
}

/* Address extension with its sockaddr; bytes written, or 0 when the text is no address. */
static size_t public_address(uint8_t out[48], const char *text)
{
    struct sadb_address head = { .sadb_address_exttype = SADB_EXT_ADDRESS_SRC };
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        head.sadb_address_prefixlen = 32;
        memcpy(out + sizeof head, &v4, sizeof v4);
        memcpy(out, &head, sizeof head);
        return sizeof head + sizeof v4;
    }
    if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1)
        return 0;
    head.sadb_address_prefixlen = 128;
    memcpy(out + sizeof head, &v6, sizeof v6);
    memcpy(out, &head, sizeof head);
    return sizeof head + sizeof v6;
}

/* Name extension; bytes written, or 0 when the name is empty or too long. */
static size_t application_name(uint8_t out[sizeof(struct qbb_name) + QBB_NAME_BYTES_MAX], const char *name)
{
    struct qbb_name head = { .qbb_name_exttype = SADB_X_EXT_QBB_NAME };
    size_t length = strlen(name);
    if (length == 0 || length > QBB_NAME_BYTES_MAX)
        return 0;
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, name, length);
    return sizeof head + length;
}

int qbb_client_register(qbb_client *client, uint8_t satype, uint16_t port, const char *text)
{
    return qbb_client_register_named(client, satype, port, text, NULL);
}

int qbb_client_register_named(qbb_client *client, uint8_t satype, uint16_t port, const char *text, const char *name)
{
    struct qbb_connection application = { .qbb_connection_exttype = SADB_X_EXT_QBB_CONNECTION,
        .qbb_connection_local_port = port };
    struct qbb_reason reason = { .qbb_reason_exttype = SADB_X_EXT_QBB_REASON };
    uint8_t address[48] = { 0 };
    size_t size = public_address(address, text);
    uint8_t named[sizeof(struct qbb_name) + QBB_NAME_BYTES_MAX];
    size_t name_size = name != NULL ? application_name(named, name) : 0;
    if (size == 0 || (name != NULL && name_size == 0))
        return failed(client, EINVAL);
    client->satype = satype;
    begin(client, SADB_REGISTER, satype);
    add(client, &application, sizeof application);
    add(client, address, size);
    add(client, &reason, sizeof reason);
    if (name != NULL)
        add(client, named, name_size);
    return done(client, ask(client));
}

/* Asks for the connection, by name when there is one. */
static int acquire(qbb_client *client, const struct qbb_connection *wanted, const uint8_t *named, size_t named_size,
    uint32_t *connection)
{
    struct qbb_connection stands;
    begin(client, SADB_ACQUIRE, client->satype);
    add(client, wanted, sizeof *wanted);
    if (named != NULL)
        add(client, named, named_size);
    int result = ask(client);
    size_t size = 0;
    const uint8_t *found = result ? NULL : find(client, SADB_X_EXT_QBB_CONNECTION, &size);
    if (result == 0 && (found == NULL || size != sizeof stands))
        result = failed(client, EBADMSG);
    if (result == 0) {
        memcpy(&stands, found, sizeof stands);
        *connection = stands.qbb_connection_id;
    }
    return done(client, result);
}

int qbb_client_connect(qbb_client *client, const char *node, uint16_t remote_port, uint16_t local_port,
    uint16_t key_bytes, uint16_t prefetch, uint32_t *connection)
{
    struct qbb_connection wanted = { .qbb_connection_exttype = SADB_X_EXT_QBB_CONNECTION,
        .qbb_connection_local_port = local_port, .qbb_connection_remote_port = remote_port,
        .qbb_connection_key_bytes = key_bytes, .qbb_connection_prefetch = prefetch };
    struct in_addr address;
    if (inet_pton(AF_INET, node, &address) != 1)
        return failed(client, EINVAL);
    wanted.qbb_connection_node = address.s_addr;
    return acquire(client, &wanted, NULL, 0, connection);
}

int qbb_client_connect_named(qbb_client *client, const char *name, uint16_t local_port, uint16_t key_bytes,
    uint16_t prefetch, uint32_t *connection)
{
    struct qbb_connection wanted = { .qbb_connection_exttype = SADB_X_EXT_QBB_CONNECTION,
        .qbb_connection_local_port = local_port, .qbb_connection_key_bytes = key_bytes,
        .qbb_connection_prefetch = prefetch };
    uint8_t named[sizeof(struct qbb_name) + QBB_NAME_BYTES_MAX];
    size_t size = application_name(named, name);
    if (size == 0)
        return failed(client, EINVAL);
    return acquire(client, &wanted, named, size, connection);
}

/* Asks, and takes key and key ID from the answer. */
static int ask_key(qbb_client *client, qbb_key *key)
{
    int result = ask(client);
    if (result)
        return done(client, result);
    size_t id_size = 0, key_size = 0;
    const uint8_t *id = find(client, SADB_X_EXT_QBB_KEY_ID, &id_size);
    const uint8_t *found = find(client, SADB_EXT_KEY_ENCRYPT, &key_size);
    struct sadb_key head;
    if (id == NULL || id_size != sizeof(struct qbb_key_id) || found == NULL || key_size < sizeof head)
        return done(client, failed(client, EBADMSG));
    memcpy(&head, found, sizeof head);
    size_t length = head.sadb_key_bits / 8;
    if (length > key_size - sizeof head || length > sizeof key->bytes)
        return done(client, failed(client, EBADMSG));
    memcpy(key->id, id + offsetof(struct qbb_key_id, qbb_key_id_key_id), sizeof key->id);
    memcpy(key->bytes, found + sizeof head, length);
    key->length = length;
    return done(client, 0);
}

int qbb_client_key(qbb_client *client, uint32_t connection, uint16_t length, qbb_key *key)
{
    struct qbb_connection which = { .qbb_connection_exttype = SADB_X_EXT_QBB_CONNECTION,
        .qbb_connection_id = connection, .qbb_connection_key_bytes = length };
    begin(client, SADB_GETSPI, client->satype);
    add(client, &which, sizeof which);
    return ask_key(client, key);
}

int qbb_client_fetch(qbb_client *client, const uint8_t id[QBB_KEY_ID_BYTES], qbb_key *key)
{
    struct qbb_key_id named = { .qbb_key_id_exttype = SADB_X_EXT_QBB_KEY_ID };
    memcpy(named.qbb_key_id_key_id, id, QBB_KEY_ID_BYTES);
    begin(client, SADB_GET, client->satype);
    add(client, &named, sizeof named);
    return ask_key(client, key);
}
