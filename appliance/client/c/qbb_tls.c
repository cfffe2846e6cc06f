/* TLS 1.3 sessions, each under a key of its own from the QKD network.
 *
 *     qbb-tls serve   SOCKET PORT ADDRESS TLS_PORT [NAME]
 *     qbb-tls connect SOCKET PORT ADDRESS NODE REMOTE_PORT HOST TLS_PORT FILE SESSIONS PARALLEL PREFETCH
 *
 * SOCKET is the own node's pfkey.sock; PORT and ADDRESS are the application's in the QKD and in the public network. NODE
 * is an address; or a NAME under which a server registered in the QKD network, and REMOTE_PORT 0. The client asks its node for a key, the server asks its own node for the key that the client names: the key itself never
 * travels between the two. It becomes the external PSK of RFC 8446 4.2.11, its ID the PSK identity; there are no
 * certificates, tickets or resumption, so a session without a QKD key cannot come about. With psk_dhe_ke the traffic
 * keys depend on an X25519 exchange too.
 *
 * Each session carries FILE; both ends take its SHA-256, and the server's comes back in the session. A line each on
 * standard output, fields separated by blanks:
 *     client  session KEY_ID KEY_US HANDSHAKE_US BYTES SHA256        or   refused ERRNO REASON   or   failed REASON
 *     server  session KEY_ID BYTES SHA256                            or   failed REASON */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "qbb_client.h"

#define PSK_BYTES 32
#define ID_TEXT 37
#define DIGEST_BYTES 32
#define TIMEOUT_S 20

static const uint8_t CIPHER[2] = { 0x13, 0x02 }; /* TLS_AES_256_GCM_SHA384 */

static qbb_client *keys;
static pthread_mutex_t keys_lock = PTHREAD_MUTEX_INITIALIZER;

/* One session's key, from its arrival until the handshake has taken it. */
struct offer {
    qbb_key key;
    char id[ID_TEXT];
};

static void id_to_text(char text[ID_TEXT], const uint8_t id[QBB_KEY_ID_BYTES])
{
    for (int i = 0, at = 0; i < QBB_KEY_ID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        at += sprintf(text + at, "%02x", id[i]);
    }
}

static int id_from_text(uint8_t id[QBB_KEY_ID_BYTES], const unsigned char *text, size_t length)
{
    char digits[2 * QBB_KEY_ID_BYTES + 1] = { 0 };
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        if (text[i] != '-') {
            if (count == sizeof digits - 1 || !strchr("0123456789abcdef", text[i]) || text[i] == 0)
                return 0;
            digits[count++] = (char)text[i];
        }
    if (length != ID_TEXT - 1 || count != sizeof digits - 1)
        return 0;
    for (int i = 0; i < QBB_KEY_ID_BYTES; i++)
        sscanf(digits + 2 * i, "%2hhx", &id[i]);
    return 1;
}

/* The key as OpenSSL wants an external PSK; the copy here is wiped. */
static SSL_SESSION *as_psk(SSL *ssl, qbb_key *key)
{
    SSL_SESSION *psk = key->length == PSK_BYTES ? SSL_SESSION_new() : NULL;
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, CIPHER);
    if (psk != NULL
        && !(cipher != NULL && SSL_SESSION_set1_master_key(psk, key->bytes, key->length)
            && SSL_SESSION_set_cipher(psk, cipher) && SSL_SESSION_set_protocol_version(psk, TLS1_3_VERSION))) {
        SSL_SESSION_free(psk);
        psk = NULL;
    }
    qbb_key_wipe(key);
    return psk;
}

/* Server: the client names a key; the own node has it, once. */
static int find_psk(SSL *ssl, const unsigned char *identity, size_t length, SSL_SESSION **psk)
{
    struct offer *offer = SSL_get_app_data(ssl);
    uint8_t id[QBB_KEY_ID_BYTES];
    *psk = NULL;
    if (!id_from_text(id, identity, length))
        return 1; /* no key of ours: the handshake finds no other way and fails */
    pthread_mutex_lock(&keys_lock);
    int refused = qbb_client_fetch(keys, id, &offer->key);
    pthread_mutex_unlock(&keys_lock);
    if (refused)
        return 1;
    id_to_text(offer->id, id);
    *psk = as_psk(ssl, &offer->key);
    return *psk != NULL;
}

/* Client: the key it got for this session. `digest` is set after a HelloRetryRequest. */
static int use_psk(SSL *ssl, const EVP_MD *digest, const unsigned char **id, size_t *length, SSL_SESSION **psk)
{
    struct offer *offer = SSL_get_app_data(ssl);
    *psk = NULL;
    if (digest != NULL)
        return 0; /* the key went into the first hello; no second one follows */
    *psk = as_psk(ssl, &offer->key);
    *id = (const unsigned char *)offer->id;
    *length = ID_TEXT - 1;
    return *psk != NULL;
}

static SSL_CTX *context(const SSL_METHOD *method)
{
    SSL_CTX *made = SSL_CTX_new(method);
    if (made == NULL || !SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION)
        || !SSL_CTX_set_max_proto_version(made, TLS1_3_VERSION)
        || !SSL_CTX_set_ciphersuites(made, "TLS_AES_256_GCM_SHA384") || !SSL_CTX_set_num_tickets(made, 0)) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_options(made, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_psk_find_session_callback(made, find_psk);
    SSL_CTX_set_psk_use_session_callback(made, use_psk);
    return made;
}

static void digest_to_text(char text[2 * DIGEST_BYTES + 1], const uint8_t digest[DIGEST_BYTES])
{
    for (int i = 0; i < DIGEST_BYTES; i++)
        sprintf(text + 2 * i, "%02x", digest[i]);
}

static int read_all(SSL *ssl, uint8_t *out, size_t length)
{
    size_t got;
    for (; length > 0; out += got, length -= got)
        if (!SSL_read_ex(ssl, out, length, &got))
            return 0;
    return 1;
}

static void failed(SSL *ssl, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    printf("failed %s: %s\n", what, reason ? reason : "the connection ended");
    fflush(stdout);
    ERR_clear_error();
    SSL_free(ssl);
}

/* --- server ------------------------------------------------------------------------------------------------------- */

/* Length (8 bytes, big-endian) and file come in, the file's digest goes back. */
static int take_file(SSL *ssl, uint64_t *total, uint8_t digest[DIGEST_BYTES])
{
    uint8_t head[8], part[16384];
    size_t got;
    if (!read_all(ssl, head, sizeof head))
        return 0;
    *total = 0;
    for (size_t i = 0; i < sizeof head; i++)
        *total = *total << 8 | head[i];
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    int good = sum != NULL && EVP_DigestInit_ex(sum, EVP_sha256(), NULL);
    for (uint64_t left = *total; good && left > 0; left -= got) {
        good = SSL_read_ex(ssl, part, left < sizeof part ? left : sizeof part, &got);
        good = good && EVP_DigestUpdate(sum, part, got);
    }
    good = good && EVP_DigestFinal_ex(sum, digest, NULL);
    EVP_MD_CTX_free(sum);
    return good && SSL_write_ex(ssl, digest, DIGEST_BYTES, &got);
}

static void *serve_one(void *argument)
{
    SSL *ssl = argument;
    struct offer offer = { .id = "" };
    uint8_t digest[DIGEST_BYTES];
    char text[2 * DIGEST_BYTES + 1];
    uint64_t total;
    SSL_set_app_data(ssl, &offer);
    if (SSL_accept(ssl) != 1 || !SSL_session_reused(ssl)) { /* "reused" is how OpenSSL calls a PSK that was taken */
        failed(ssl, "handshake");
        return NULL;
    }
    if (!take_file(ssl, &total, digest)) {
        failed(ssl, "transfer");
        return NULL;
    }
    digest_to_text(text, digest);
    printf("session %s %llu %s\n", offer.id, (unsigned long long)total, text);
    fflush(stdout);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    return NULL;
}

static int limit_time(int fd)
{
    struct timeval limit = { .tv_sec = TIMEOUT_S };
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit)
        | setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static SSL *over(SSL_CTX *how, int fd)
{
    SSL *ssl = SSL_new(how);
    BIO *bio = BIO_new_socket(fd, BIO_CLOSE);
    if (ssl == NULL || bio == NULL || limit_time(fd)) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

static struct addrinfo *resolve(const char *host, const char *port)
{
    struct addrinfo wanted = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *found;
    int error = getaddrinfo(host, port, &wanted, &found);
    if (error) {
        fprintf(stderr, "%s port %s: %s\n", host, port, gai_strerror(error));
        exit(1);
    }
    return found;
}

static int serve(const char *address, const char *tls_port)
{
    SSL_CTX *how = context(TLS_server_method());
    struct addrinfo *here = resolve(address, tls_port);
    int listener = socket(here->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (listener < 0 || bind(listener, here->ai_addr, here->ai_addrlen) || listen(listener, 128)) {
        perror(address);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && pthread_create(&thread, NULL, serve_one, over(how, fd)) == 0)
            pthread_detach(thread);
    }
}

/* --- client ------------------------------------------------------------------------------------------------------- */

static struct {
    SSL_CTX *how;
    struct addrinfo *server;
    uint32_t connection;
    uint8_t *file;
    size_t file_bytes;
    char digest[2 * DIGEST_BYTES + 1];
    long left;
    long wrong;
} job;

static long long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* 1, or 0 after printing why there is no key. */
static int get_key(struct offer *offer, long long *took_us)
{
    pthread_mutex_lock(&keys_lock);
    long long began = now_us();
    int refused = qbb_client_key(keys, job.connection, PSK_BYTES, &offer->key);
    *took_us = now_us() - began;
    if (refused) {
        printf("refused %d %s\n", refused, qbb_client_reason(keys));
        fflush(stdout);
    } else
        id_to_text(offer->id, offer->key.id);
    pthread_mutex_unlock(&keys_lock);
    return refused == 0;
}

static int give_file(SSL *ssl)
{
    uint8_t head[8], digest[DIGEST_BYTES];
    char text[2 * DIGEST_BYTES + 1];
    size_t done;
    for (size_t i = 0; i < sizeof head; i++)
        head[i] = (uint8_t)((uint64_t)job.file_bytes >> (56 - 8 * i));
    if (!SSL_write_ex(ssl, head, sizeof head, &done)
        || (job.file_bytes && !SSL_write_ex(ssl, job.file, job.file_bytes, &done))
        || !read_all(ssl, digest, sizeof digest))
        return 0;
    digest_to_text(text, digest);
    return strcmp(text, job.digest) == 0;
}

static int one_session(void)
{
    struct offer offer = { .id = "" };
    long long key_us, began;
    if (!get_key(&offer, &key_us))
        return 0;
    int fd = socket(job.server->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SSL *ssl = over(job.how, fd);
    SSL_set_app_data(ssl, &offer);
    began = now_us();
    if (connect(fd, job.server->ai_addr, job.server->ai_addrlen) || SSL_connect(ssl) != 1 || !SSL_session_reused(ssl)) {
        qbb_key_wipe(&offer.key);
        failed(ssl, "handshake");
        return 0;
    }
    long long handshake_us = now_us() - began;
    if (!give_file(ssl)) {
        failed(ssl, "transfer");
        return 0;
    }
    printf("session %s %lld %lld %zu %s\n", offer.id, key_us, handshake_us, job.file_bytes, job.digest);
    fflush(stdout);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    return 1;
}

static void *sessions(void *unused)
{
    while (__atomic_sub_fetch(&job.left, 1, __ATOMIC_RELAXED) >= 0)
        if (!one_session())
            __atomic_add_fetch(&job.wrong, 1, __ATOMIC_RELAXED);
    return unused;
}

static int read_file(const char *path)
{
    uint8_t digest[DIGEST_BYTES];
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END))
        return 0;
    job.file_bytes = (size_t)ftell(file);
    job.file = malloc(job.file_bytes + 1);
    rewind(file);
    int good = job.file != NULL && fread(job.file, 1, job.file_bytes, file) == job.file_bytes
        && EVP_Digest(job.file, job.file_bytes, digest, NULL, EVP_sha256(), NULL);
    fclose(file);
    digest_to_text(job.digest, digest);
    return good;
}

static int connect_all(uint16_t port, char **word)
{
    long parallel = atol(word[6]);
    pthread_t threads[64];
    if (parallel < 1 || parallel > 64 || !read_file(word[4])) {
        fprintf(stderr, "%s: cannot be read, or PARALLEL is not 1 to 64\n", word[4]);
        return 2;
    }
    job.how = context(TLS_client_method());
    job.server = resolve(word[2], word[3]);
    job.left = atol(word[5]);
    uint16_t remote_port = (uint16_t)atoi(word[1]), prefetch = (uint16_t)atoi(word[7]);
    int error = remote_port
        ? qbb_client_connect(keys, word[0], remote_port, port, PSK_BYTES, prefetch, &job.connection)
        : qbb_client_connect_named(keys, word[0], port, PSK_BYTES, prefetch, &job.connection);
    if (error) {
        printf("refused %d %s\n", error, qbb_client_reason(keys));
        return 1;
    }
    for (long i = 0; i < parallel; i++)
        if (pthread_create(&threads[i], NULL, sessions, NULL))
            return 1;
    for (long i = 0; i < parallel; i++)
        pthread_join(threads[i], NULL);
    return job.wrong != 0;
}

/* Keys are in this memory: no core dumps, no debuggers but root's. */
static void harden(void)
{
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN);
}

int main(int count, char **word)
{
    int serving = (count == 6 || count == 7) && strcmp(word[1], "serve") == 0;
    if (!serving && !(count == 13 && strcmp(word[1], "connect") == 0)) {
        fprintf(stderr,
            "usage: %s serve SOCKET PORT ADDRESS TLS_PORT [NAME]\n"
            "       %s connect SOCKET PORT ADDRESS NODE REMOTE_PORT HOST TLS_PORT FILE SESSIONS PARALLEL PREFETCH\n",
            word[0], word[0]);
        return 2;
    }
    harden();
    keys = qbb_client_open(word[2]);
    if (keys == NULL) {
        perror(word[2]);
        return 1;
    }
    uint16_t port = (uint16_t)atoi(word[3]);
    const char *name = serving && count == 7 ? word[6] : NULL;
    int error = name ? qbb_client_register_named(keys, SADB_X_SATYPE_QBB_TLS, port, word[4], name)
                     : qbb_client_register(keys, SADB_X_SATYPE_QBB_TLS, port, word[4]);
    if (error) {
        printf("refused %d %s\n", error, qbb_client_reason(keys));
        return 1;
    }
    int status = serving ? serve(word[4], word[5]) : connect_all(port, word + 5);
    qbb_client_close(keys);
    return status;
}
