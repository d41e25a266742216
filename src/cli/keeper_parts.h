/* SPDX-License-Identifier: MIT */
/*
 * What the files of the keeper share: keeper.c starts one and attaches to it, keeper_list.c finds them, keeper_place.c says where
 * they listen, keeper_talk.c carries messages, keeper_process.c and keeper_watch.c are the keeper itself. Nobody else includes it.
 */
#ifndef GW_CLI_KEEPER_PARTS_H
#define GW_CLI_KEEPER_PARTS_H

#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "cli/keeper.h"
#include "qmp/qmp.h"

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
/*
 * Held while one is looked for or started, so that nobody takes a new socket for an old one. Close it to let go. -ETIMEDOUT with a
 * sentence: somebody has it too long.
 */
int gw__keeper_lock(const char *folder, struct gw__why *why);

/* A folder for sockets of QEMU's; its name, and a descriptor that stays its own whatever comes to be at that path. -1: there is none. */
int gw__keeper_make_private(char folder[32]);
void gw__keeper_remove_private(const char *folder, int fd); /* with all that is in it */
bool gw__keeper_is_at(const char *path, const struct stat *ours);

/* --- keeper_list.c --- */

enum { GW__KEEPER_ANSWER_MS = 5000, GW__KEEPER_QUEUE = 8 };

struct gw__keeper_message;
bool gw__keeper_socket(const char *folder, const char *name, struct sockaddr_un *a); /* false: too long */
/*
 * A connection to it, and its answer to what we `want`; `keeper` is its process, 0 where that is not known. -ENOENT without a sentence:
 * there is none; -ETIMEDOUT or another errno with one: somebody is there, and must not be taken for none.
 */
int gw__keeper_call(const char *folder, const char *name, const char *want, struct gw__keeper_message *m, pid_t *keeper,
	struct gw__why *why);
/* Calls `fn` for each keeper's socket until it returns something else than 0, which is the answer. */
int gw__keeper_each(int (*fn)(void *ctx, const char *folder, const char *name), void *ctx);
int gw__keeper_ask_info(const char *folder, const char *name, struct gw__keeper_info *info, struct gw__why *why);

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
/* As much of it as a gw__keeper_info has room for, in whole characters, so that no text makes a message too long, or none at all. */
json_t *gw__keeper_text(const char *text);
/* JSON in a file without a name, and back. -1, NULL: not possible. */
int gw__keeper_to_file(const json_t *j);
json_t *gw__keeper_from_file(int fd);

/* --- keeper_watch.c: alone with the monitor --- */

struct gw__keeper_watch { /* a zeroed one watches nothing */
	struct gw__qmp *q;
	json_t *known;
	struct timespec since; /* it began, or asked last */
	int patience_s;        /* before it asks */
	unsigned in_vain;      /* questions that were not answered before somebody came */
};
/* `monitor` and `known` stay the caller's. */
void gw__keeper_watch_begin(struct gw__keeper_watch *w, int monitor, int known, json_int_t first_id);
void gw__keeper_watch_end(struct gw__keeper_watch *w);
/* True: the migration has ended and QEMU is as it was before, or QEMU has gone. */
bool gw__keeper_watch_look(struct gw__keeper_watch *w);
void gw__keeper_watch_put_back(struct gw__keeper_watch *w);

/* --- keeper_process.c --- */

/* Be the keeper; `listener` is bound to `path`. Does not return. */
void gw__keeper_be(int listener, const char *path, const char *address);

#endif
