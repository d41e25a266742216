/* SPDX-License-Identifier: MIT */
/* A mem guest as the VM of a gw_guest, and its move from one to another over a socket that may be cut. For tests; one main thread. */
#ifndef GW_TESTS_GUEST_KIT_H
#define GW_TESTS_GUEST_KIT_H

#include <godwit-unstable.h>

#include "guest/mem/mem_guest.h"

struct vm {
	struct gw__mem_guest *mem;
	gw_guest *guest;
	gw_job *job;
	bool runs; /* as its hooks were called */
	/* What its hooks answer instead, once. */
	int pause_fails, resume_fails, save_fails, load_fails, start_fails, take_fails;
	unsigned paused, resumed;         /* how often */
	unsigned stood_still;             /* it says to so many of the next pauses that its user had paused it */
	bool touches;                     /* its device state is loaded with a look at the last page of RAM but one */
	void (*on_resume)(struct vm *vm); /* in the hook, first; NULL: nothing */
	void (*on_pause)(struct vm *vm);  /* in the hook, last, if it paused; NULL: nothing */
	struct gw_guest_result result;
};

/* How the guests that are made next are tracked. TOLD: they report each write; OWN: they do, and their hooks say nothing. */
extern enum gw_tracker vm_tracker;
extern const int *vm_uffd; /* of WRITES; NULL: the library opens one */

/* `of`: as the one it will get its content from; `empty`: it waits for that. */
void vm_new(struct vm *vm, const struct gw__mem_guest_opts *of, bool empty);
void vm_free(struct vm *vm);
/* Every byte is right; it is paused for that, and goes on if it ran. Prints why not. */
bool vm_is_right(struct vm *vm);

/* A folder with one shared key, the same at each call with the same `key`; it goes away when the process ends. For tls->creds_dir. */
const char *key_folder(char key);

/* A link that passes on so many bytes in a direction, then breaks as a whole; UINT64_MAX: it never does. */
struct cut {
	uint64_t forth, back;
	bool fired;                       /* it did */
	uint64_t forth_bytes, back_bytes; /* that passed, of the first connection */
};

/* At a socket in the folder, to the socket "in" there. One connection. */
struct relay;
struct relay *relay_start(const char *folder, struct cut *cut);
const char *relay_uri(const struct relay *r);
void relay_end(struct relay *r);

struct move {
	struct gw_guest_send_opts send;
	struct gw_guest_receive_opts receive;
	struct cut *cut;    /* NULL: no relay */
	bool is_stranger;   /* the receiver does not take it for a source, and waits on: it is cancelled when the send has failed */
	int sent, received; /* results */
};
/* From one to the other; returns when both calls have ended. */
void vm_move(struct vm *from, struct vm *to, struct move *m);

#endif
