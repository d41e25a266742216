/* SPDX-License-Identifier: MIT */
/* What the files of the keeper share: keeper.c attaches to one, keeper_place.c says where they listen, keeper_talk.c carries
 * messages, keeper_process.c is the keeper itself. Nobody else includes it. */
#ifndef GW_CLI_KEEPER_PARTS_H
#define GW_CLI_KEEPER_PARTS_H

#include "cli/keeper.h"

/* --- keeper_place.c: private folders, and names of sockets in them --- */

enum { GW__KEEPER_FOLDERS = 4, GW__KEEPER_PATH_BYTES = 108 };

/* The i-th place for keepers of this user; false past the end. It need not exist. */
bool gw__keeper_folder(unsigned i, char folder[GW__KEEPER_PATH_BYTES]);
/* It is there, a real folder, ours, and nobody else can look into it. 0, -ENOENT, or -EPERM with a sentence. */
int gw__keeper_check_folder(const char *folder, struct gw__why *why);
/* The first place that is usable, made if need be. */
int gw__keeper_make_folder(char folder[GW__KEEPER_PATH_BYTES], struct gw__why *why);
/* The name of the keeper for a monitor; an address that does not lead to a socket has none (-errno, no sentence). */
int gw__keeper_name(const char *address, char name[32]);
/* Held while one is looked for or started, so that nobody takes a new socket for an old one. Close it to let go. */
int gw__keeper_lock(const char *folder);

/* --- keeper_talk.c: a message is a JSON object and up to GW__KEEPER_FDS descriptors --- */

enum { GW__KEEPER_FDS = 4, GW__KEEPER_MESSAGE_BYTES = 4096 };

struct gw__keeper_message {
	json_t *json;
	int fd[GW__KEEPER_FDS];
	unsigned fds;
};
/* Takes `json` over, borrows the descriptors. 0 or -errno. */
int gw__keeper_say(int socket, json_t *json, const int *fd, unsigned fds);
/* 0, -ECONNRESET at the end, -ETIMEDOUT, -EPROTO. */
int gw__keeper_hear(int socket, int ms, struct gw__keeper_message *m);
void gw__keeper_message_fini(struct gw__keeper_message *m);
/* A descriptor of the message by its name in the list "fds"; it is the caller's then. -1: not there. */
int gw__keeper_message_take(struct gw__keeper_message *m, const char *name);
/* JSON in a file without a name, and back. -1, NULL: not possible. */
int gw__keeper_to_file(const json_t *j);
json_t *gw__keeper_from_file(int fd);

/* --- keeper_process.c --- */

/* Be the keeper; `listener` is bound to `path`. Does not return. */
void gw__keeper_be(int listener, const char *path, const char *address);

#endif
