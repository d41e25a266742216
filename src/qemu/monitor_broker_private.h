/* SPDX-License-Identifier: MIT */
/*
 * What the files of the monitor broker share: monitor_broker.c starts one and attaches to it, monitor_broker_list.c finds them, monitor_broker_place.c says where
 * they listen, monitor_broker_talk.c carries messages, monitor_broker_process.c and monitor_broker_watch.c are the monitor broker itself. Nobody else includes it.
 */
#ifndef GW_QEMU_MONITOR_BROKER_PRIVATE_H
#define GW_QEMU_MONITOR_BROKER_PRIVATE_H

#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "qemu/monitor_broker.h"
#include "qmp/qmp.h"

/* --- monitor_broker_place.c: private folders, and names of sockets in them --- */

enum { GW__MONITOR_BROKER_FOLDERS = 4, GW__MONITOR_BROKER_PATH_BYTES = 108 };

/* The i-th place for monitor brokers of this user; false past the end. It need not exist. */
bool gw__monitor_broker_folder(unsigned i, char folder[GW__MONITOR_BROKER_PATH_BYTES]);
/* It is there, a real folder, ours, and nobody else can look into it. 0, -ENOENT, or -EPERM with a sentence. */
int gw__monitor_broker_check_folder(const char *folder, struct gw__error *error);
/* The first place that is usable, made if need be. */
int gw__monitor_broker_make_folder(char folder[GW__MONITOR_BROKER_PATH_BYTES], struct gw__error *error);
/* The name of the monitor broker for a monitor; an address that does not lead to a socket has none (-errno, no sentence). */
int gw__monitor_broker_name(const char *address, char name[32]);
/*
 * Held while one is looked for or started, so that nobody takes a new socket for an old one. Close it to let go. -ETIMEDOUT with a
 * sentence: somebody has it too long.
 */
int gw__monitor_broker_lock(const char *folder, struct gw__error *error);

/* A folder for sockets of QEMU's; its name, and a descriptor that stays its own whatever comes to be at that path. -1: there is none. */
int gw__monitor_broker_make_private(char folder[32]);
void gw__monitor_broker_remove_private(const char *folder, int fd); /* with all that is in it */
bool gw__monitor_broker_is_at(const char *path, const struct stat *ours);

/* --- monitor_broker_list.c --- */

enum { GW__MONITOR_BROKER_ANSWER_MS = 5000, GW__MONITOR_BROKER_QUEUE = 8 };

struct gw__monitor_broker_message;
bool gw__monitor_broker_socket(const char *folder, const char *name, struct sockaddr_un *a); /* false: too long */
/*
 * A connection to it, and its answer to what we `want`; `monitor broker` is its process, 0 where that is not known. -ENOENT without a sentence:
 * there is none; -ETIMEDOUT or another errno with one: somebody is there, and must not be taken for none.
 */
int gw__monitor_broker_call(const char *folder, const char *name, const char *want, struct gw__monitor_broker_message *m, pid_t *broker,
	struct gw__error *error);
/* Calls `fn` for each broker's socket until it returns something else than 0, which is the answer. */
int gw__monitor_broker_each(int (*fn)(void *ctx, const char *folder, const char *name), void *ctx);
int gw__monitor_broker_ask_info(const char *folder, const char *name, struct gw__monitor_broker_info *info, struct gw__error *error);

/* --- monitor_broker_talk.c: a message is a JSON object and up to GW__MONITOR_BROKER_FDS descriptors --- */

enum { GW__MONITOR_BROKER_FDS = 4, GW__MONITOR_BROKER_MESSAGE_BYTES = 4096 };

struct gw__monitor_broker_message {
	json_t *json;
	int fd[GW__MONITOR_BROKER_FDS];
	unsigned fds;
};
/* Takes `json` over, borrows the descriptors. 0 or -errno. */
int gw__monitor_broker_send(int socket, json_t *json, const int *fd, unsigned fds);
/* 0, -ECONNRESET at the end, -ETIMEDOUT, -EPROTO. */
int gw__monitor_broker_receive(int socket, int ms, struct gw__monitor_broker_message *m);
void gw__monitor_broker_message_fini(struct gw__monitor_broker_message *m);
/* A descriptor of the message by its name in the list "fds"; it is the caller's then. -1: not there. */
int gw__monitor_broker_message_take(struct gw__monitor_broker_message *m, const char *name);
/* JSON in a file without a name, and back. -1, NULL: not possible. */
int gw__monitor_broker_to_file(const json_t *j);
json_t *gw__monitor_broker_from_file(int fd);

/* --- monitor_broker_watch.c: alone with the monitor --- */

struct gw__monitor_broker_watch { /* a zeroed one watches nothing */
	struct gw__qmp *q;
	json_t *known;
	struct timespec since; /* it began, or asked last */
	int patience_s;        /* before it asks */
	unsigned in_vain;      /* questions that were not answered before somebody came */
};
/* `monitor` and `known` stay the caller's. */
void gw__monitor_broker_watch_begin(struct gw__monitor_broker_watch *w, int monitor, int known, json_int_t first_id);
void gw__monitor_broker_watch_end(struct gw__monitor_broker_watch *w);
/* True: the migration has ended and QEMU is as it was before, or QEMU has gone. */
bool gw__monitor_broker_watch_look(struct gw__monitor_broker_watch *w);
void gw__monitor_broker_watch_put_back(struct gw__monitor_broker_watch *w);

/* --- monitor_broker_process.c --- */

/* Be the monitor broker; `listener` is bound to `path`. Does not return. */
void gw__monitor_broker_run(int listener, const char *path, const char *address);

#endif
