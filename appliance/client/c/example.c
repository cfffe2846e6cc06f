/* One key, at either end:
 *
 *     example SOCKET PORT ADDRESS connect NODE REMOTE_PORT COUNT    prints COUNT lines "ID KEY"
 *     example SOCKET PORT ADDRESS connect NAME 0 COUNT              the same, with the application of that name
 *     example SOCKET PORT ADDRESS fetch [NAME]                      reads IDs from standard input, prints the same
 *
 * Keys in hexadecimal on standard output: an example to compare both ends by, nothing to use.
 * Build: cc -o example example.c qbb_client.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qbb_client.h"

static void print_hex(const uint8_t *bytes, size_t length, char end)
{
    for (size_t i = 0; i < length; i++)
        printf("%02x", bytes[i]);
    putchar(end);
}

static int show(qbb_client *client, int error, qbb_key *key)
{
    if (error) {
        fprintf(stderr, "%d %s\n", error, qbb_client_reason(client));
        return 1;
    }
    print_hex(key->id, sizeof key->id, ' ');
    print_hex(key->bytes, key->length, '\n');
    fflush(stdout);
    qbb_key_wipe(key);
    return 0;
}

static int ask(qbb_client *client, uint16_t port, char **argument)
{
    uint32_t connection;
    qbb_key key;
    uint16_t remote_port = (uint16_t)atoi(argument[1]);
    int error = remote_port ? qbb_client_connect(client, argument[0], remote_port, port, 32, 64, &connection)
                            : qbb_client_connect_named(client, argument[0], port, 32, 64, &connection);
    int wrong = error ? show(client, error, NULL) : 0;
    for (int left = atoi(argument[2]); left > 0 && !wrong; left--)
        wrong = show(client, qbb_client_key(client, connection, 0, &key), &key);
    getchar(); /* the connection lasts until standard input ends */
    return wrong;
}

static int fetch(qbb_client *client)
{
    char line[64];
    qbb_key key;
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        uint8_t id[QBB_KEY_ID_BYTES];
        for (int i = 0; i < QBB_KEY_ID_BYTES; i++)
            if (sscanf(line + 2 * i, "%2hhx", &id[i]) != 1)
                return 1;
        if (show(client, qbb_client_fetch(client, id, &key), &key))
            return 1;
    }
    return 0;
}

int main(int count, char **argument)
{
    if (count != 5 && count != 6 && count != 8) {
        fprintf(stderr, "usage: %s SOCKET PORT ADDRESS fetch [NAME] | connect NODE REMOTE_PORT COUNT\n", argument[0]);
        return 2;
    }
    qbb_client *client = qbb_client_open(argument[1]);
    if (client == NULL) {
        perror(argument[1]);
        return 1;
    }
    uint16_t port = (uint16_t)atoi(argument[2]);
    const char *name = count == 6 ? argument[5] : NULL;
    int error = qbb_client_register_named(client, SADB_X_SATYPE_QBB_TLS, port, argument[3], name);
    int wrong = error ? show(client, error, NULL) : count == 8 ? ask(client, port, argument + 5) : fetch(client);
    qbb_client_close(client);
    return wrong;
}
