/* SPDX-License-Identifier: MIT */
/*
 * How `godwit guest send`, `check` and `stop` speak to a `godwit guest run`: a unix socket that only this user may connect to, one request and one answer
 * on each connection, both a line of JSON.
 */
#ifndef GW_CLI_GUEST_CONTROL_H
#define GW_CLI_GUEST_CONTROL_H

#include <jansson.h>

#include "base/error.h"

/* The socket, or a negative errno with a sentence. What nobody listens at any more is replaced. */
int gw__control_listen(const char *path, struct gw__error *error);
/* The next request, to be freed, and the connection it came on; NULL: none came, or what came is none. */
json_t *gw__control_accept(int listening, int *connection);
/* Owns `answer`, and closes the connection. */
void gw__control_answer(int connection, json_t *answer);
/* Owns `request`. Waits for the answer, as long as it takes. 0, or a negative errno with a sentence. */
int gw__control_ask(const char *path, json_t *request, json_t **answer, struct gw__error *error);

#endif
